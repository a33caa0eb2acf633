"""Which files are the tape: symbols that were asked for, nothing twice, and an index that is there."""

import json
import sys
import zipfile
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import codes
from engine.cli import main
from engine.errors import DataError, MissingExtraError
from engine.feeds import open_feed
from engine.feeds.convert import convert_tape
from engine.feeds.inspect import inspect_tape
from engine.feeds.overlap import OverlapWatch
from engine.layout import RECORD
from tests.unit import test_feeds_arrays as arrays
from tests.unit import test_feeds_binance as binance
from tests.unit import test_feeds_captures as captures
from tests.unit.test_feeds_tardis import BOOK, T0, TICKER, TRADES, book, make_market, ticker, trade, write

MS = T0 // 1000
DAY = "2023-04-04"
RAW_US = T0 - binance.T0  # what a stamp of a raw capture is made with to be T0
OTHERS = ("venue_trades_2023-04-04_ETHUSDT.csv", "spot_trades_2023-04-04_BTCUSDT.csv")
HYPERLIQUID = "wss://api.hyperliquid.xyz/ws"
MARKET = """symbol = "BTCUSDT"
tick_size = "0.1"
lot_size = "0.001"
price_max = "250000"
[[tiers]]
floor = "0"
initial = "0.01"
maintenance = "0.005"
"""


def futures(rows):
    return [row.replace("venue", "binance-futures") for row in rows]


def write_book(folder, count=3, at=0):
    """Write a futures book in Tardis' form, a row a millisecond."""
    rows = [book(at + 1000 * step, "bid", str(90 + step), "1") for step in range(count)]
    return write(folder, BOOK, futures(rows))


def write_trades(folder, *stamps, **options):
    return write(folder, TRADES, futures([trade(us, "buy", "99", "1") for us in stamps]), **options)


def dump(folder, kind, *rows, day=DAY, symbol="BTCUSDT"):
    path = folder / f"{symbol}-{kind}-{day}.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


def dump_trades(folder, *offsets, **options):
    rows = [f"{offset + 7},100.0,0.5,50,{MS + offset},true" for offset in offsets]
    return dump(folder, "trades", *rows, **options)


def count(feed):
    kinds = np.concatenate([*feed.records(), np.zeros(0, RECORD)])["kind"].tolist()
    return {codes.ROW_NAMES[kind]: kinds.count(kind) for kind in sorted(set(kinds))}


def refuse(paths, *said, **options):
    """Return the error of reading, which is the same for whoever reads."""
    for is_strict in (True, False):
        with pytest.raises(DataError) as caught:
            list(open_feed(paths, [make_market()], is_strict=is_strict, **options).records())
        assert all(text in str(caught.value) for text in said), caught.value
    return str(caught.value)


# ---------------------------------------------------------------- symbols


def test_other_symbols_of_a_folder_are_left_alone(tmp_path):
    """Two exchanges' books of a symbol that nobody asked for are nobody's trouble.

    Source: FEED-075.
    """
    write_book(tmp_path)
    for exchange in ("venue", "other"):
        rows = [book(1, "bid", "9", "1", symbol="ETHUSDT").replace("venue", exchange)]
        write(tmp_path, BOOK, rows, name=f"{exchange}_{BOOK}_{DAY}_ETHUSDT.csv")
    dump_trades(tmp_path, 1, symbol="SOLUSDT")
    feed = open_feed(tmp_path, [make_market()])
    assert count(feed) == {"level": 3}
    assert [(path.name, reason) for path, reason in feed.skipped] == [
        ("SOLUSDT-trades-2023-04-04.csv", "SOLUSDT is no configured market"),
        (f"other_{BOOK}_{DAY}_ETHUSDT.csv", "ETHUSDT is no configured market"),
        (f"venue_{BOOK}_{DAY}_ETHUSDT.csv", "ETHUSDT is no configured market"),
    ]
    assert count(open_feed(tmp_path / f"other_{BOOK}_{DAY}_ETHUSDT.csv")) == {"level": 1}


def test_a_file_that_is_named_must_be_of_a_market(tmp_path):
    """Alone, beside its folder, twice: as if nothing else were there.

    Source: FEED-075.
    """
    write_book(tmp_path)
    other = write(tmp_path, TRADES, [trade(1, "buy", "9", "1", symbol="ETHUSDT")], name=OTHERS[0])
    expected = r"ETHUSDT\.csv:2: field 'symbol': expected a configured market \(BTCUSDT\), got 'ETHUSDT'"
    for paths in (other, [tmp_path, other], [other, tmp_path]):
        with pytest.raises(DataError, match=expected):
            open_feed(paths, [make_market()])


def test_an_index_is_asked_for(tmp_path):
    """A source of another symbol is kept; where only sources are left there is no market.

    Source: FEED-075, FEED-077.
    """
    path = write_book(tmp_path)
    rows = [trade(1, "buy", "9", "1", symbol="XBTUSD").replace("venue", "spot")]
    write(tmp_path, TRADES, rows, name="spot_trades_2023-04-04_XBTUSD.csv")
    feed = open_feed(tmp_path, [make_market()], indexes={"BTCUSDT": "spot:XBTUSD"})
    assert (len(feed.files), feed.skipped) == (2, ())
    kinds = np.concatenate(list(feed.chunks()))["kind"].tolist()
    assert kinds == [codes.LEVEL, codes.INDEX, codes.LEVEL, codes.LEVEL]
    path.unlink()
    write(tmp_path, BOOK, [book(1, "bid", "9", "1", symbol="ETHUSDT")])
    with pytest.raises(DataError, match="found ETHUSDT, XBTUSD; add a --market"):
        open_feed(tmp_path, [make_market()], indexes={"BTCUSDT": "spot:XBTUSD"})


def test_a_folder_of_other_symbols_says_which(tmp_path):
    """Source: FEED-075."""
    for symbol in ("SOLUSDT", "ETHUSDT"):
        dump_trades(tmp_path, 1, symbol=symbol)
    with pytest.raises(DataError) as caught:
        open_feed(tmp_path, [make_market(), make_market("XRPUSDT")])
    assert str(caught.value) == (
        f"{tmp_path}: field 'symbol': expected a configured market (BTCUSDT, XRPUSDT), found ETHUSDT, SOLUSDT; "
        "add a --market file of one of these, or name another folder"
    )


def test_what_cannot_be_opened_may_be_what_was_asked_for(tmp_path, monkeypatch):
    """Source: FEED-075, CLI-002."""
    dump_trades(tmp_path, 1, symbol="ETHUSDT")
    (tmp_path / "unread.csv.zst").write_bytes(b"\x28\xb5\x2f\xfd rest")
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(MissingExtraError, match="zstd"):
        open_feed(tmp_path, [make_market()])
    with pytest.raises(MissingExtraError, match="zstd"):
        open_feed(tmp_path, [make_market("ETHUSDT")], indexes={"ETHUSDT": "spot:ETHUSDT"})


def test_files_of_several_symbols_stay(tmp_path):
    """A capture names its symbols row by row; a CSV of several is refused, whichever symbol comes first.

    Source: FEED-075.
    """
    write_book(tmp_path)
    captures.write(tmp_path, [captures.hyper("trades", [captures.hyper_trade(1, coin="ETH")])], address=HYPERLIQUID)
    feed = open_feed(tmp_path, [make_market()])
    assert (len(feed.files), feed.skipped) == (2, ())
    rows = [trade(us, "buy", "9", "1", symbol=symbol) for us, symbol in enumerate(("ETHUSDT", "BTCUSDT"))]
    for mixed in (rows, rows[::-1]):
        write(tmp_path, TRADES, futures(mixed), name="binance-futures_trades_2023-04-04_PERPETUALS.csv")
        with pytest.raises(DataError, match=r"PERPETUALS\.csv:\d: field 'symbol': expected a configured market"):
            count(open_feed(tmp_path, [make_market()]))


def test_the_command_line_shows_what_is_left_alone(tmp_path, capsys):
    """Source: FEED-075, CLI-002."""
    tape, market = tmp_path / "tape", tmp_path / "market.toml"
    tape.mkdir()
    market.write_text(MARKET)
    write_book(tape)
    other = dump_trades(tape, 1, symbol="ETHUSDT")
    assert main(["inspect", str(tape), "--market", str(market), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    reason = "ETHUSDT is no configured market"
    assert facts["skipped"] == [{"file": str(other), "reason": reason}]
    assert main(["convert", str(tape), str(tmp_path / "out"), "--market", str(market)]) == 0
    assert f"left alone: {other}: {reason}" in capsys.readouterr().out
    assert main(["replay", str(tape), "--market", str(market), "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["tape"][BOOK] == 3
    assert said.err.count("left alone: ") == said.err.count(f"left alone: {other}: {reason}\n") == 1
    inside = tape / "market.toml"  # no recording
    inside.write_text(MARKET)
    assert main(["replay", str(tape), "--market", str(inside)]) == 0
    assert capsys.readouterr().err.count("left alone: ") == 1
    inside.unlink()
    assert main(["replay", str(tape), str(other), "--market", str(market)]) == 4
    assert "got 'ETHUSDT'" in capsys.readouterr().err


# ---------------------------------------------------------------- twice


def test_one_thing_in_two_formats_is_refused(tmp_path):
    """Named with both files and what to do; without markets too, and nothing is written.

    Source: FEED-076.
    """
    one, two = write_trades(tmp_path, 0, 2000, 4000), dump_trades(tmp_path, 1, 3)
    said = refuse(tmp_path, str(one), str(two), "trades of binance-futures:BTCUSDT once", "name one of the two")
    assert f"at {(MS + 1) * 10**6} ns" in said
    for read in (inspect_tape, lambda path: convert_tape(path, tmp_path / "out", "tardis")):
        with pytest.raises(DataError, match="binance-futures:BTCUSDT once"):
            read(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([one.name, two.name])
    assert [count(open_feed(path, [make_market()])) for path in (one, two)] == [{"trade": 3}, {"trade": 2}]


def test_a_book_beside_its_capture_is_refused(tmp_path):
    """Trades of the capture alone are not in the book's way; nor is spot of the same name.

    Source: FEED-076.
    """
    write_book(tmp_path)
    spot = {"X": None, "M": True}
    for more in ({}, spot):
        binance.write(tmp_path, [binance.trade(RAW_US + 1000, 1, **more)])
        feed = open_feed(tmp_path, [make_market()])
        assert count(feed) == {"level": 3} | ({} if more else {"trade": 1})
    binance.write(tmp_path, [binance.depth(RAW_US + us, us, us, us - 1, [("90", "1")]) for us in (1000, 1001)])
    refuse(tmp_path, "raw.dat", f"{BOOK}_2023-04-05", "book levels of binance-futures:BTCUSDT")


@pytest.mark.parametrize(
    ("kind", "row", "other", "what"),
    [
        ("aggTrades", f"7,100.0,1,70,71,{MS + 1},true", "trades", "trades"),
        ("markPriceKlines/BTCUSDT-1m", f"{MS - 9},1,1,1,100.1,0,{MS + 1},0,0,0,0,0", TICKER, "marks"),
        ("indexPriceKlines/BTCUSDT-1m", f"{MS - 9},1,1,1,100.1,0,{MS + 1},0,0,0,0,0", TICKER, "index prices"),
        ("bookTicker", f"5,100.5,1,100.6,2,{MS},{MS + 1}", "raw", "best prices"),
        ("liquidationSnapshot", f"{MS + 1},SELL,LIMIT,IOC,1,9,9,FILLED,1,1", "liquidations", "liquidations"),
        ("book_snapshot_1", f"binance-futures,BTCUSDT,{T0 + 1000},{T0 + 1000},9,1,8,1", BOOK, "book levels"),
    ],
)
def test_whatever_counts_is_refused_twice(tmp_path, kind, row, other, what):
    """Of one format too, where its kinds tell the same.

    Source: FEED-076.
    """
    head = ""
    if kind.startswith("book_snapshot"):
        name = f"x_{kind}_{DAY}_BTCUSDT.csv"
        head = "exchange,symbol,timestamp,local_timestamp,asks[0].price,asks[0].amount,bids[0].price,bids[0].amount\n"
    else:
        name = f"{kind}-{DAY}.csv" if "/" in kind else f"BTCUSDT-{kind}-{DAY}.csv"
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"{head}{row}\n")
    if other == "trades":
        beside = dump_trades(tmp_path, 0, 2)
    elif other == TICKER:
        beside = write(tmp_path, TICKER, futures([ticker(us, index="99", mark="98") for us in (0, 2000)]))
    elif other == "raw":
        beside = binance.write(tmp_path, [binance.quote(RAW_US + us, "99", "100") for us in (0, 2000)])
    elif other == BOOK:
        beside = write_book(tmp_path)
    else:
        rows = futures([trade(us, "buy", "99", "1") for us in (0, 2000)])
        beside = write(tmp_path, TRADES, rows, name=f"binance-futures_liquidations_{DAY}_BTCUSDT.csv")
    refuse([path, beside], path.name, beside.name, f"expected {what} of binance-futures:BTCUSDT once")


def test_different_things_lie_side_by_side(tmp_path):
    """Every kind from another place, and what moves nothing twice.

    Source: FEED-076.
    """
    write_book(tmp_path)
    dump_trades(tmp_path, 1)
    dump(tmp_path, "liquidationSnapshot", f"{MS + 1},SELL,LIMIT,IOC,1,9,9,FILLED,1,1")
    dump(tmp_path, "bookTicker", f"5,100.5,1,100.6,2,{MS},{MS + 1}")
    interest = f"{T0},0.001,,1000.5,,,98"
    rows = [f"binance-futures,BTCUSDT,{T0 + us},{T0 + us},{interest}" for us in (0, 10**9)]
    write(tmp_path, TICKER, rows)
    dump(tmp_path, "metrics", f"{DAY} 23:59:00,BTCUSDT,10,100,1,1,1,1")
    wanted = {"trade": 1, "level": 3, "quote": 2, "liquidation": 1, "mark": 2, "funding": 2, "interest": 3}
    assert count(open_feed(tmp_path, [make_market()])) == wanted


def test_a_fetched_snapshot_stands_beside_its_stream(tmp_path):
    """The addresses name their symbols, the stream has one: two streams of one book.

    Source: FEED-021, FEED-076.
    """
    binance.write(tmp_path, [binance.depth(RAW_US + us, us, us, us - 1, [("90", "1")]) for us in (1, 3)])
    body = json.dumps({"lastUpdateId": 1, "bids": [["80.0", "1"]], "asks": []})
    address = "https://fapi.binance.com/fapi/v1/depth?symbol=BTCUSDT&limit=1000"
    (tmp_path / "snapshots.http").write_text(f"{address} -> {(T0 + 2) / 10**6:.6f}: {body}\n")
    feed = open_feed(tmp_path, [make_market()], is_strict=False)
    assert [file.symbol for file in feed.files] == ["BTCUSDT", ""]
    assert count(feed) == {"level": 3, "clear": 1}


def test_formats_may_follow_each_other(tmp_path):
    """A day each, and a day between two days of another.

    Source: FEED-076.
    """
    day_us = 86_400_000_000
    paths = [write_trades(tmp_path, at * day_us, at * day_us + 5, name=f"x_{at}.csv") for at in (0, 2)]
    between = dump_trades(tmp_path, 86_400_000, 86_400_005, day="2023-04-05")
    assert count(open_feed(tmp_path, [make_market()])) == {"trade": 6}
    write_trades(tmp_path, 0, day_us + 5000, name=paths[0].name)
    refuse(tmp_path, between.name, paths[0].name)


def test_one_recording_in_two_files_is_refused(tmp_path):
    """An archive and what was in it; a file that is named twice.

    Source: FEED-076.
    """
    path = dump_trades(tmp_path, 1, 3)
    with zipfile.ZipFile(tmp_path / path.with_suffix(".zip").name, "w") as archive:
        archive.write(path, path.name)
    refuse(tmp_path, path.name, path.with_suffix(".zip").name, "begins with the same rows; name one of the two")
    refuse([path, path], "expected each recording once")
    with pytest.raises(DataError, match="expected each recording once"):
        open_feed(tmp_path)
    dump_trades(tmp_path, 1, 3, symbol="ETHUSDT")
    dump_trades(tmp_path, 86_400_000, day="2023-04-05")
    path.unlink()
    assert count(open_feed(tmp_path)) == {"trade": 5}


@st.composite
def streams(draw):
    """Return streams, each [(file, [(ts, kind, market)])], in order of time, cut into blocks anyhow."""
    found = []
    for number in range(draw(st.integers(2, 3))):
        stamps = draw(st.lists(st.integers(0, 30), min_size=1, max_size=8).map(sorted))
        starts = sorted({stamps[0], *draw(st.lists(st.sampled_from(stamps), max_size=2))})
        kinds = (codes.ROW_TRADE, codes.ROW_LEVEL, codes.ROW_CLEAR, codes.ROW_LAST)
        rows = [(ts, draw(st.sampled_from(kinds)), draw(st.integers(0, 1))) for ts in stamps]
        cuts = sorted({0, len(rows), *draw(st.lists(st.integers(0, len(rows)), max_size=3))})
        files = [SimpleNamespace(path=f"{number}-{start}", first_ns=start, kind="x") for start in starts]
        found.append((files, rows, cuts))
    return found


def is_twice(told):
    """Return whether files of different streams tell one thing while the other does, by looking at every pair."""
    things = {codes.ROW_TRADE: "trade", codes.ROW_LEVEL: "book", codes.ROW_CLEAR: "book"}
    spans = {}
    for number, (files, rows, _) in enumerate(told):
        for ts, kind, market in rows:
            place = max(at for at, file in enumerate(files) if file.first_ns <= ts)
            if kind in things:
                spans.setdefault((things[kind], market), {}).setdefault((number, place), []).append(ts)
    return any(
        one[0] != two[0] and min(a) <= max(b) and min(b) <= max(a)
        for thing in spans.values()
        for one, a in thing.items()
        for two, b in thing.items()
    )


@given(streams())
def test_the_watch_finds_what_looking_at_everything_finds(told):
    """However the blocks are cut and whichever stream is read first.

    Source: FEED-076.
    """
    watch = OverlapWatch(SimpleNamespace(rows=[SimpleNamespace(exchange="x", symbol=name) for name in "ab"]))
    followed = []
    for files, rows, cuts in told:
        array = np.zeros(len(rows), RECORD)
        for at, (ts, kind, market) in enumerate(rows):
            array[at]["ts_ns"], array[at]["kind"], array[at]["market"] = ts, kind, market
        blocks = [array[low:high] for low, high in pairwise(cuts)]
        followed.append((blocks, watch.follow(files, iter(blocks))))
    is_found = False
    try:
        for blocks, stream in followed:
            assert all(np.array_equal(one, two) for one, two in zip(blocks, stream, strict=True))
    except DataError:
        is_found = True
    assert is_found == is_twice(told)


def test_real_recordings_beside_each_other(shared):
    """Four minutes of a venue in one format, ten seconds of them in another.

    Source: FEED-075, FEED-076.
    """
    folder = shared / "data" / "btcusdt_4min"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here")
    with pytest.raises(DataError, match=r"expected trades of binance-futures:BTCUSDT once, .* name one of the two"):
        next(open_feed(folder, [make_market()]).chunks())
    files = sorted(folder.glob("binance-futures_*"))
    assert set(count(open_feed(files, [make_market()]))) >= {"trade", "level", "mark", "quote"}


# ---------------------------------------------------------------- index


def test_an_index_that_is_on_no_file_is_refused_at_once(tmp_path):
    """With what there is, and the name that may have been meant.

    Source: FEED-077.
    """
    write_book(tmp_path)
    spot = [trade(1, "buy", "99", "1").replace("venue", "spot")]
    write(tmp_path, TRADES, spot, name=OTHERS[1])
    for is_strict in (True, False):
        with pytest.raises(DataError) as caught:
            open_feed(tmp_path, [make_market()], indexes={"BTCUSDT": "spot:BTCUSD"}, is_strict=is_strict)
        assert str(caught.value) == (
            "feed: field 'index': expected trades of spot:BTCUSD on the tape, it has none; "
            "known: binance-futures:BTCUSDT, spot:BTCUSDT; did you mean 'spot:BTCUSDT'?"
        )


def test_an_index_that_no_row_tells_is_refused_at_the_end(tmp_path):
    """A capture does not say before what it holds; nor does a file whether it has trades.

    Source: FEED-077.
    """
    messages = [captures.hyper("trades", [captures.hyper_trade(at, number=at)]) for at in (1, 2)]
    path = captures.write(tmp_path, messages, address=HYPERLIQUID)
    market = captures.make_market("BTC")
    for is_strict in (True, False):
        feed = open_feed(path, [market], indexes={"BTC": "hyperliquid:ETH"}, is_strict=is_strict)
        with pytest.raises(
            DataError, match="trades of hyperliquid:ETH on the tape, it has none; known: hyperliquid:BTC"
        ):
            list(feed.chunks())
    paths = [write_book(tmp_path), write(tmp_path, BOOK, [book(1, "bid", "9", "1", symbol="XBT")], name="x.csv")]
    feed = open_feed(paths, [make_market()], indexes={"BTCUSDT": "venue:XBT"})
    chunks = feed.chunks(1)
    assert len(next(chunks)) == 1  # whoever stops before the end is not told
    with pytest.raises(
        DataError, match="expected trades of venue:XBT on the tape, it has none; known: binance-futures"
    ):
        list(chunks)


def test_a_command_tape_takes_no_index(tmp_path):
    """Source: FEED-053, FEED-077."""
    path = arrays.write_tape(tmp_path)
    with pytest.raises(DataError, match=r"field 'index': expected none, .*tape\.npz holds the index prices"):
        open_feed(path, [arrays.make_market()], indexes={"BTCUSDT": "spot:BTCUSDT"})


def test_the_command_line_refuses_an_index_that_is_not_there(tmp_path, capsys):
    """As its neighbours do, and without a run directory.

    Source: FEED-077, CLI-002.
    """
    tape, market = tmp_path / "tape", tmp_path / "market.toml"
    tape.mkdir()
    market.write_text(MARKET.replace("BTCUSDT", "BTC"))
    messages = [captures.hyper("trades", [captures.hyper_trade(at, number=at)]) for at in (1, 2)]
    captures.write(tape, messages, address=HYPERLIQUID)
    command = ["replay", str(tape), "--market", str(market), "--out", str(tmp_path / "run"), "--index"]
    assert main([*command, "BTC=hyperliquid:ETH"]) == 4
    assert "expected trades of hyperliquid:ETH on the tape" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    assert main([*command, "ETH=hyperliquid:BTC"]) == 4
