"""Captured messages with everything wrong that can be wrong with them, by hand: the recorders, and Bybit."""

import gzip
import json
import sys
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import codes
from engine.contract import Market, Tier
from engine.errors import DataError, MissingExtraError
from engine.feeds import open_feed
from engine.feeds.captures import count_stamp_text
from engine.feeds.inspect import inspect_tape
from engine.layout import RECORD

T0 = 1_700_000_000
S = 10**9


def make_market(symbol="BTCUSDT", **changes):
    settings = {"tick_size": Decimal("0.1"), "lot_size": Decimal("0.001"), "price_max": Decimal(250_000), **changes}
    tiers = (Tier(floor=Decimal(0), initial=Decimal("0.01"), maintenance=Decimal("0.005")),)
    return Market(symbol=symbol, tiers=tiers, **settings)


def write(folder, messages, name="capture.ws", address="wss://stream.bybit.com/v5/public/linear"):
    """Write messages a second apart, in cryptofeed's form; one given as text stands as it is."""
    lines = [f"{address} <-> {T0}"]
    for at, message in enumerate(messages, 1):
        lines.append(message if isinstance(message, str) else f"{T0 + at}.5: {json.dumps(message)}")
    path = folder / name
    path.write_text("\n".join(lines) + "\n")
    return path


def gather(path, *markets, strict=True, **options):
    feed = open_feed(path, markets, is_strict=strict, **options)
    return feed, np.concatenate([*feed.records(), np.zeros(0, RECORD)])


def kinds(rows):
    return [codes.ROW_NAMES[kind] for kind in rows["kind"].tolist()]


def told(rows, *names):
    return [tuple(row) for row in rows[list(names)].tolist()]


def hyper(channel, data):
    return {"channel": channel, "data": data}


def hyper_trade(ms, price="100.0", number=1, coin="BTC", side="B"):
    return {"coin": coin, "side": side, "px": price, "sz": "1", "time": T0 * 1000 + ms, "hash": "0x", "tid": number}


# ---------------------------------------------------------------- recorders


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("1700000000", T0 * S),
        ("1700000000.25", T0 * S + 250_000_000),
        ("1700000000123", T0 * S + 123_000_000),
        ("1700000000123456", T0 * S + 123_456_000),
        ("1700000000123456789", T0 * S + 123_456_789),
        ("2023-11-14T22:13:20.1234567Z", T0 * S + 123_456_700),
        ("2023-11-14T22:13:20", T0 * S),
    ],
)
def test_stamps_are_known_by_their_form(text, ns):
    """Source: FEED-030."""
    assert count_stamp_text(text) == ns


@pytest.mark.parametrize("text", ["", "soon", "-1", "1e9", "1700000000.x", "9" * 30, "2023-99-14T22:13:20Z"])
def test_other_stamps_are_refused(text):
    with pytest.raises(ValueError, match=r"expected a stamp|isoformat|month|out of range|int"):
        count_stamp_text(text)


def test_every_recorder_tells_the_same(tmp_path):
    """The same three messages as seven recorders write them.

    Source: FEED-030.
    """
    messages = [book("snapshot", 5, [["100.0", "1"]], [["101.0", "2"]]), trade("100.5", "1"), book("delta", 6, [], [])]
    stamps = [T0 + 1, T0 + 2, T0 + 3]
    pairs = list(zip(stamps, map(json.dumps, messages), strict=True))
    received = [{"t": "recv", "conn": "c", "ts": stamp + 0.5, "data": text} for stamp, text in pairs]
    connected = {"t": "connect", "conn": "c", "ts": T0, "addr": "wss://stream.bybit.com/v5/public/linear"}
    sent = {"t": "send", "conn": "c", "ts": T0, "addr": "wss://x", "data": '{"op":"subscribe"}'}
    listed = [{"ts": stamp + 0.5, "msg": text} for stamp, text in pairs]
    files = {
        "cryptofeed.ws": [
            f"wss://stream.bybit.com/v5/public/linear <-> {T0}",
            *(f"{at}.5: {text}" for at, text in pairs),
        ],
        "cryptofeed.jsonl": [json.dumps(row, separators=(",", ":")) for row in (connected, sent, *received)],
        "nanoseconds.txt": [f"{at}500000000 {text}" for at, text in pairs],
        "iso.txt": [f"2023-11-14T22:13:{20 + at - T0}.5Z {text}" for at, text in pairs],
        "list.json": [json.dumps(listed, indent=2)],
        "flat.json": [json.dumps(listed)],
        "lines.jsonl": [json.dumps(row) for row in listed],
    }
    whole = None
    for name, lines in files.items():
        path = tmp_path / name
        path.write_text("\n".join(lines) + "\n")
        rows = gather(path)[1]
        whole = rows if whole is None else whole
        assert (rows == whole).all(), name
        assert rows["ts_ns"].tolist() == [(T0 + 1) * S + S // 2] * 3 + [(T0 + 2) * S + S // 2], name
    bare = tmp_path / "bare.jsonl"
    bare.write_text("\n".join(text for _, text in pairs))
    assert set(gather(bare)[1]["ts_ns"]) == {T0 * S}  # nobody noted when they arrived: the venue's stamp


def test_documents_spread_over_lines(tmp_path):
    """Messages as an editor lays them out, numbers and all; one that is cut off is named.

    Source: FEED-030.
    """
    path = tmp_path / "pretty.json"
    messages = [hyper("trades", [hyper_trade(at, number=at)]) for at in (1, 2, 3)]
    path.write_text("\n".join(json.dumps(message, indent=2) for message in messages))
    assert gather(path)[1]["id"].tolist() == [2, 3]
    path.write_text(path.read_text()[:-20])
    with pytest.raises(DataError, match=r"pretty\.json: expected JSON to the end, message 3 is none"):
        gather(path)
    listed = [
        {"ts": T0 + 0.5, "msg": "{}"},
        5,
        {"ts": "soon", "msg": "{}"},
        {"ts": T0 + 0.5, "msg": json.dumps(messages[0])},
    ]
    path.write_text(json.dumps(listed, indent=2))
    assert gather(path, strict=False)[0].findings.dropped == {"json": 1, "bad stamp": 1}


def test_connections_after_each_other_are_read_side_by_side(tmp_path):
    """Source: FEED-030."""
    rows = [
        {"t": "connect", "conn": "a", "ts": T0, "addr": "wss://stream.bybit.com/v5/public/linear"},
        {"t": "recv", "conn": "a", "ts": T0 + 1.0, "data": json.dumps(trade("100.0", "1"))},
        {"t": "recv", "conn": "a", "ts": T0 + 3.0, "data": json.dumps(trade("102.0", "1"))},
        {"t": "connect", "conn": "b", "ts": T0, "addr": "wss://stream.bybit.com/v5/public/spot"},
        {"t": "recv", "conn": "b", "ts": T0 + 2.0, "data": json.dumps(trade("101.0", "1"))},
    ]
    path = tmp_path / "two.jsonl"
    path.write_text("\n".join(json.dumps(row, separators=(",", ":")) for row in rows))
    feed, found = gather(path)
    names = [feed.instruments.rows[market].exchange for market in found["market"]]
    assert names == ["bybit", "bybit-spot", "bybit"]
    assert (np.diff(found["price"]) > 0).all()


def test_files_side_by_side_are_merged(tmp_path):
    """Source: FEED-030."""
    odd = write(tmp_path, [f"{T0 + at}.0: {json.dumps(trade(f'{at}.0', '1'))}" for at in (1, 3, 5)], "odd.ws")
    even = write(tmp_path, [f"{T0 + at}.0: {json.dumps(trade(f'{at}.0', '1'))}" for at in (2, 4, 6)], "even.ws")
    for paths in ([odd, even], [even, odd]):
        rows = gather(paths)[1]
        assert (np.diff(rows["price"]) > 0).all()
        assert len(rows) == 6


def test_archives_that_end_early(tmp_path):
    """Gzip and zstd, whole frames after each other, cut anywhere, damaged.

    Source: FEED-030.
    """
    zstandard = pytest.importorskip("zstandard")
    plain = write(tmp_path, [trade(f"{100 + at}.0", "1") for at in range(200)]).read_bytes()
    half = plain.index(b"\n", len(plain) // 2) + 1
    frames = zstandard.compress(plain[:half]) + zstandard.compress(plain[half:])
    path = tmp_path / "capture.zst"
    path.write_bytes(frames)
    assert len(gather(path)[1]) == 200
    for cut in (len(frames) - 1, len(frames) - 200):
        path.write_bytes(frames[:cut])
        with pytest.raises(DataError, match=r"capture\.zst:\d+: expected a .* (it ends early|is not complete)"):
            gather(path, strict=False)
    path.write_bytes(frames[:-200] + bytes(200))
    with pytest.raises(DataError, match=r"capture\.zst:\d+: expected a "):
        gather(path, strict=False)
    packed = tmp_path / "capture.gz"
    packed.write_bytes(gzip.compress(plain)[:-20])
    with pytest.raises(DataError, match=r"capture\.gz:\d+: expected a "):
        gather(packed, strict=False)


def test_zstd_is_an_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "zstandard", None)
    path = tmp_path / "capture.zst"
    path.write_bytes(b"\x28\xb5\x2f\xfd")
    with pytest.raises(MissingExtraError, match=r"pip install 'perp-engine\[captures\]'"):
        open_feed(path)


def test_a_capture_is_read_as_it_is_asked_for(tmp_path):
    """The first rows come before the file was read to its end, which a bad line would tell.

    Source: FEED-030.
    """
    path = write(tmp_path, [*(trade(f"{at}.0", "1") for at in range(1, 20_000)), "later: {}"])
    feed = open_feed(path)
    blocks = feed.records()
    assert 0 < len(next(blocks)) < 10_000
    with pytest.raises(DataError, match="field 'stamp'"):
        list(blocks)


# ---------------------------------------------------------------- Bybit


def book(kind, number, bids, asks, symbol="BTCUSDT", depth=50):
    data = {"s": symbol, "b": bids, "a": asks, "u": number, "seq": 1}
    return {"topic": f"orderbook.{depth}.{symbol}", "type": kind, "ts": T0 * 1000, "data": data}


def trade(price, size, side="Buy", symbol="BTCUSDT", **more):
    one = {"T": T0 * 1000, "s": symbol, "S": side, "v": size, "p": price, "i": "7", "BT": False} | more
    return {"topic": f"publicTrade.{symbol}", "type": "snapshot", "ts": T0 * 1000, "data": [one]}


def ticker(symbol="BTCUSDT", **data):
    return {"topic": f"tickers.{symbol}", "type": "delta", "ts": T0 * 1000, "data": {"symbol": symbol} | data}


SNAPSHOT = book("snapshot", 10, [["100.0", "1"]], [["101.0", "2"]])


@pytest.mark.parametrize(
    ("messages", "gaps", "resets", "says"),
    [
        ([SNAPSHOT, book("delta", 11, [["99.0", "1"]], [])], 0, 0, ""),
        (
            [SNAPSHOT, book("delta", 12, [["99.0", "1"]], [])],
            1,
            0,
            "expected the update after 10, got the one after 11",
        ),
        ([SNAPSHOT, book("delta", 10, [["99.0", "1"]], [])], 1, 0, "expected the update after 10, got the one after 9"),
        ([book("delta", 12, [["99.0", "1"]], [])], 1, 0, "expected a snapshot before the first update"),
        ([SNAPSHOT, book("snapshot", 90, [["99.0", "1"]], [])], 0, 1, ""),
        ([SNAPSHOT, book("delta", 1, [["99.0", "1"]], [])], 0, 1, ""),
        ([SNAPSHOT, book("delta", 11, [["x", "1"]], []), book("delta", 12, [], [])], 0, 0, ""),
    ],
)
def test_updates_of_bybit_follow_each_other(tmp_path, messages, gaps, resets, says):
    """Source: FEED-032, FEED-033."""
    facts = inspect_tape(write(tmp_path, messages))
    assert (facts["gaps"], facts["resets"]) == (gaps, resets)
    if says:
        assert (
            f"capture.ws:{len(messages) + 1}: field 'u': BTCUSDT: {says}, updates were lost"
            in facts["faults"][0]["error"]
        )
        with pytest.raises(DataError, match=says):
            inspect_tape(write(tmp_path, messages), is_strict=True)


def test_a_snapshot_replaces_and_a_delta_changes(tmp_path):
    """Source: FEED-002, FEED-033."""
    messages = [
        SNAPSHOT,
        book("delta", 11, [["100.0", "0"], ["99.9", "3"]], []),
        book("snapshot", 50, [["98.0", "1"]], []),
    ]
    feed, rows = gather(write(tmp_path, messages), make_market())
    assert kinds(rows) == ["clear", "level", "level", "level", "level", "clear", "level"]
    assert rows["id"].tolist() == [10, 10, 10, 11, 11, 50, 50]
    assert [bool(flags & codes.ENDS_MESSAGE) for flags in rows["flags"]] == [
        False,
        False,
        True,
        False,
        True,
        False,
        True,
    ]
    for _ in feed.chunks():
        pass
    assert feed.teller.known_levels(0).tolist() == [980]


FAULTS = [
    (book("delta", 11, [["100.05", "1"]], []), "bad price", "field 'price': expected a multiple of 0.1, got 100.05"),
    (book("delta", 11, [["-1.0", "1"]], []), "bad price", "field 'price': expected a number that is not negative"),
    (book("delta", 11, [["99.0", "0.0005"]], []), "bad size", "field 'size': expected a multiple of 0.001"),
    (trade("100.0", "1", side="Both"), "bad side", "field 'side': expected Buy or Sell"),
    (trade("100.0", "0"), "bad size", "field 'size': expected 0.001 to"),
    (trade("nan", "1"), "bad price", "field 'price':"),
    (trade("100.0", "1", T=-5), "bad T", "field 'T': expected milliseconds since 1970"),
    (ticker(markPrice="?"), "bad mark", "field 'mark':"),
    (ticker(fundingRate="3", markPrice="100.0"), "bad rate", "field 'rate': expected a rate within -1 to 1"),
    (ticker(nextFundingTime="soon"), "bad nextFundingTime", "field 'nextFundingTime': expected milliseconds"),
    (f"{T0 + 9}.5: {{not json", "json", "expected a message"),
    (f'{T0 + 9}.5: {{"topic": 5}}', "json", "expected a message"),
    (f"later: {json.dumps(SNAPSHOT)}", "bad stamp", "field 'stamp': expected a stamp, got 'later'"),
]


@pytest.mark.parametrize(("bad", "reason", "says"), FAULTS)
def test_what_cannot_be_read_is_left_out_with_its_place(tmp_path, bad, reason, says):
    """Source: FEED-032."""
    path = write(tmp_path, [SNAPSHOT, bad, trade("100.0", "1")])
    facts = inspect_tape(path, [make_market()])
    assert facts["dropped_by"] == {reason: 1}
    assert "capture.ws:3: " in facts["faults"][0]["error"]
    assert says in facts["faults"][0]["error"]
    assert facts["gaps"] == 0
    rows = gather(path, make_market(), strict=False)[1]
    assert kinds(rows) == ["clear", "level", "level", "trade"]
    with pytest.raises(DataError, match=r"capture\.ws:3: "):
        gather(path, make_market())


def test_one_bad_trade_takes_no_other_with_it(tmp_path):
    """Source: FEED-032."""
    message = trade("100.0", "1")
    message["data"] += trade("x", "1")["data"] + trade("102.0", "1")["data"]
    feed, rows = gather(write(tmp_path, [message]), strict=False)
    assert [int(price) * feed.instruments.rows[0].tick for price in rows["price"]] == [100, 102]
    assert feed.findings.dropped == {"bad price": 1}


def test_a_crossed_book_is_counted(tmp_path):
    """Source: FEED-002."""
    path = write(tmp_path, [SNAPSHOT, book("delta", 11, [["101.0", "1"]], [])])
    assert inspect_tape(path)["crossed"] == 1
    with pytest.raises(DataError, match="expected no crossed book"):
        inspect_tape(path, is_strict=True)


def test_a_stamp_that_falls_is_reported(tmp_path):
    path = write(tmp_path, [SNAPSHOT, f"{T0}.1: {json.dumps(trade('100.0', '1'))}"])
    facts = inspect_tape(path)
    assert facts["reversed_local"] == 1
    assert "capture.ws:3: field 'stamp'" in facts["faults"][0]["error"]
    rows = gather(path, strict=False)[1]
    assert (np.diff(rows["ts_ns"]) >= 0).all()
    with pytest.raises(DataError, match="field 'stamp'"):
        gather(path)


def test_other_symbols_are_not_asked_for(tmp_path):
    path = write(tmp_path, [SNAPSHOT, trade("1.5", "3", symbol="XRPUSDT"), book("snapshot", 1, [], [], "XRPUSDT")])
    feed, rows = gather(path, make_market())
    assert kinds(rows) == ["clear", "level", "level"]
    assert feed.findings.counts["unused"] == 2


def test_spot_beside_a_perpetual_is_no_market(tmp_path):
    """Whichever comes first; alone, it is one.

    Source: FEED-031.
    """
    perpetual = write(tmp_path, ["", trade("100.0", "1")], "a.ws")
    spot = write(tmp_path, [trade("50.0", "1")], "b.ws", "wss://stream.bybit.com/v5/public/spot")
    for paths in ([perpetual, spot], [spot, perpetual]):
        assert gather(paths, make_market())[1]["price"].tolist() == [1_000]
    assert gather(spot, make_market())[1]["price"].tolist() == [500]
    found = np.concatenate(
        list(open_feed([perpetual, spot], [make_market()], indexes={"BTCUSDT": "bybit-spot:BTCUSDT"}).chunks())
    )
    assert found["kind"].tolist() == [codes.INDEX, codes.PRINT]
    assert found["price_tick"].tolist() == [500, 1_000]


def test_trades_and_liquidations_have_their_sides(tmp_path):
    """A block trade is off the market; a liquidated long sells, in either form.

    Source: FEED-033.
    """
    every = {
        "topic": "allLiquidation.BTCUSDT",
        "ts": T0 * 1000,
        "data": [{"T": T0 * 1000, "S": "Sell", "v": "1", "p": "90.0"}],
    }
    one = {"topic": "liquidation.BTCUSDT", "ts": T0 * 1000}
    one["data"] = {"updatedTime": T0 * 1000, "symbol": "BTCUSDT", "side": "Buy", "size": "2", "price": "91.0"}
    rows = gather(
        write(tmp_path, [trade("100.0", "1", "Sell"), trade("100.0", "1", BT=True), every, one]), make_market()
    )[1]
    assert kinds(rows) == ["trade", "trade", "liquidation", "liquidation"]
    assert rows["side"].tolist() == [-1, 1, 1, -1]
    assert rows["flags"].tolist() == [0, codes.OFF_MARKET, 0, 0]
    assert rows["qty"].tolist() == [1_000, 1_000, 1_000, 2_000]


def test_tickers_tell_what_they_hold(tmp_path):
    """A rate alone, a due time alone, then one after the due time: it is paid, at the last rate before.

    Source: FEED-033, FEED-006.
    """
    due, after = (T0 + 3) * 1000, (T0 + 28_803) * 1000
    messages = [
        ticker(fundingRate="0.0001", nextFundingTime=str(due), markPrice="100.04", indexPrice="100.26"),
        ticker(fundingRate="0.0002"),
        ticker(bid1Price="100.0"),
        ticker(nextFundingTime=str(after), fundingRate="0.0005", openInterest="12.5", lastPrice="100.0"),
    ]
    feed, rows = gather(write(tmp_path, messages), make_market())
    assert kinds(rows) == ["funding", "index", "mark", "funding", "funding", "interest", "last"]
    funding = rows[rows["kind"] == codes.ROW_FUNDING]
    assert told(funding, "price", "qty") == [
        (100_000_000, due * 10**6),
        (200_000_000, 0),
        (500_000_000, after * 10**6),
    ]
    commands = np.concatenate(list(feed.chunks()))
    assert commands["kind"].tolist() == [codes.INDEX, codes.MARK, codes.FUNDING]
    assert commands["price_tick"].tolist()[:2] == [1_003, 1_000]
    assert commands["amount_quote"].tolist()[2] == 200_000


def test_a_due_time_alone_keeps_the_rate(tmp_path):
    """Source: FEED-033, FEED-006."""
    dues = [str((T0 + at) * 1000) for at in (2, 28_802)]
    messages = [ticker(fundingRate="0.0001", nextFundingTime=dues[0]), ticker(), ticker(nextFundingTime=dues[1])]
    feed, rows = gather(write(tmp_path, messages), make_market())
    assert told(rows, "price", "flags") == [(100_000_000, 0), (0, codes.NO_RATE)]
    (paid,) = np.concatenate(list(feed.chunks()))
    assert (paid["kind"], paid["amount_quote"]) == (codes.FUNDING, 100_000)


def test_one_depth_is_the_book(tmp_path):
    """The first met; depth 1 is quotes, sides that do not change are not told, ones that are gone have no price.

    Source: FEED-031.
    """
    messages = [
        SNAPSHOT,
        book("snapshot", 500, [["100.0", "9"]], [], depth=200),
        book("snapshot", 3, [["100.0", "1"]], [["101.0", "2"]], depth=1),
        book("delta", 4, [["100.0", "0"], ["99.0", "4"]], [], depth=1),
        book("delta", 5, [], [["101.0", "0"]], depth=1),
    ]
    feed, rows = gather(write(tmp_path, messages), make_market())
    assert feed.findings.counts["other_channels"] == 1
    quotes = rows[rows["kind"] == codes.ROW_QUOTE]
    assert told(quotes, "side", "price", "qty") == [(1, 1_000, 1_000), (-1, 1_010, 2_000), (1, 990, 4_000), (-1, 0, 0)]


# ---------------------------------------------------------------- whatever it is


@given(st.lists(st.sampled_from([SNAPSHOT, *(bad for bad, _, _ in FAULTS)]), max_size=6))
def test_faults_are_counted_one_by_one(tmp_path_factory, messages):
    """Whatever faults follow each other, each is dropped once and nothing of it is told.

    Source: FEED-032.
    """
    path = write(tmp_path_factory.mktemp("bybit"), [SNAPSHOT, *messages])
    facts = inspect_tape(path, [make_market()])
    assert facts["dropped"] == sum(message is not SNAPSHOT for message in messages)
    rows = gather(path, make_market(), strict=False)[1]
    assert set(kinds(rows)) == {"clear", "level"}
    assert len(rows) == 3 * (1 + sum(message is SNAPSHOT for message in messages))
