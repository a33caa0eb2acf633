"""Raw Binance recordings: every message we know, ids that follow each other, and what the real ones hold."""

import gzip
import json
from bisect import bisect_right
from collections import Counter
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sortedcontainers import SortedDict

from engine import codes
from engine.contract import Market, Tier
from engine.errors import DataError
from engine.feeds import open_feed
from engine.feeds.binance_book import count_ns
from engine.feeds.inspect import inspect_tape
from engine.feeds.tape import Tape

T0 = 1_680_652_700_000_000
NS = 1000
FIVE = "binance_usdm_btc_20230405_funding/raw"
EIGHT = "binance_20240808_btc_eth_usdm_coinm_spot"


def make_market(symbol="BTCUSDT", **changes):
    settings = {"tick_size": Decimal("0.1"), "lot_size": Decimal("0.001"), "price_max": Decimal(250_000), **changes}
    tiers = (Tier(floor=Decimal(0), initial=Decimal("0.01"), maintenance=Decimal("0.005")),)
    return Market(symbol=symbol, tiers=tiers, **settings)


def line(us, data, stream="btcusdt@any"):
    """Return a line of a recording that arrived `us` after T0."""
    return f"{T0 + us} {json.dumps({'stream': stream, 'data': data})}"


def trade(us, number, price="100.0", qty="1", symbol="BTCUSDT", **more):
    more = {"X": "MARKET", **more}
    data = {"e": "trade", "E": 5, "T": 4, "s": symbol, "t": number, "p": price, "q": qty, "m": True, **more}
    return line(us, {key: value for key, value in data.items() if value is not None})


def depth(us, first, last, previous=None, bids=(), asks=(), symbol="BTCUSDT", **more):
    data = {"e": "depthUpdate", "E": 5, "s": symbol, "U": first, "u": last, "b": list(bids), "a": list(asks), **more}
    return line(us, data if previous is None else {**data, "pu": previous})


def snapshot(us, last, bids=(), asks=()):
    return f"{T0 + us} {json.dumps({'lastUpdateId': last, 'bids': list(bids), 'asks': list(asks)})}"


def quote(us, bid, ask, **more):
    return line(us, {"e": "bookTicker", "u": 1, "s": "BTCUSDT", "b": bid, "B": "1", "a": ask, "A": "2", "E": 5, **more})


def write(folder, lines, name="raw.dat"):
    path = folder / name
    path.write_text("\n".join(lines) + "\n")
    return path


def read(path, markets=None, **options):
    """Return the tape and its rows."""
    tape = open_feed(path, [make_market()] if markets is None else markets, **options)
    return tape, np.concatenate(list(tape.records()))


# ---------------------------------------------------------------- messages


def test_prints_keep_the_off_book_ones(tmp_path):
    """FEED-004, FEED-028: whatever was not matched in the book is flagged; a print of nothing is left out."""
    path = write(
        tmp_path,
        [
            trade(1, 1),
            trade(3, 2, "102.5", X="INSURANCE_FUND"),
            trade(4, 3, X="ADL"),
            trade(5, 4, X=None),
            trade(6, 5, "0", "0", X="NA"),
            trade(7, 6, "0.00", "1", X=""),
        ],
    )
    tape = open_feed(path, [make_market()])
    got = np.concatenate(list(tape.chunks()))
    assert got["flags"].tolist() == [0, codes.OFF_BOOK, codes.OFF_BOOK, 0]
    assert got["side"].tolist() == [-1] * 4
    assert tape.counts["off_book"] == 2
    assert tape.findings.rows == {"trade": 6}


@pytest.mark.parametrize(
    ("wrong", "field", "expected"),
    [
        (trade(2, 9, "100.05"), "p", "expected a multiple of 0.1, got 100.05"),
        (trade(2, 9, "0"), "p", "expected 0.1 to"),
        (trade(2, 9, qty="-1"), "q", "expected a number that is not negative, got -1"),
        (trade(2, 1), "t", "expected more than 1, got 1"),
        (trade(2, 9).replace(str(T0 + 2), "then"), "local time", "expected s, ms, us or ns since 1970, got 'then'"),
        (trade(0, 9), "local time", f"expected {(T0 + 1) * NS} ns or later"),
        (depth(2, 5, 4, 3), "u", "expected ids U <= u, got 5 and 4"),
        (depth(2, 5, 6, 4, bids=[("100.0", "-1")]), "b", "expected a number that is not negative, got -1"),
        (depth(2, 5, 6, 4, asks=[("0", "1")]), "a", "expected 0.1 to"),
        (quote(2, "100.0", "x"), "a", "expected a decimal number"),
        (quote(2, 100, "100.1"), "b", "expected a price, got 100"),
        (line(2, {"e": "forceOrder", "o": {"s": "BTCUSDT", "S": "LONG", "p": "1", "z": "1"}}), "S", "expected BUY"),
        (f"{T0 + 2} {{", None, "expected a stamp and a JSON message"),
        (line(2, {"e": "trade", "s": 5}), None, "expected a stamp and a JSON message"),
    ],
)
def test_a_bad_line_is_named_or_counted(tmp_path, wrong, field, expected):
    path = write(tmp_path, [trade(1, 1), wrong, trade(3, 20)])
    with pytest.raises(DataError) as caught:
        read(path)
    assert (caught.value.line, caught.value.field) == (2, field)
    assert expected in caught.value.expected
    told = inspect_tape(path)
    if "u" not in str(field) and "or later" not in expected and "multiple" not in expected:
        assert told["dropped"] == 1
        assert ":2:" in told["faults"][0]["error"]


def test_every_event_becomes_its_rows(tmp_path):
    order = {"s": "BTCUSDT", "S": "SELL", "p": "99.9", "ap": "99.8", "z": "0.5", "q": "2", "X": "FILLED", "T": 3}
    mark = {"e": "markPriceUpdate", "E": 7, "s": "BTCUSDT", "p": "100.05", "i": "100.123", "r": "0.0001", "T": 9}
    path = write(
        tmp_path,
        [
            quote(1, "99.9", "0.00"),
            line(2, mark),
            line(3, {"e": "forceOrder", "E": 8, "o": order}),
            line(4, {"e": "aggTrade", "E": 5, "s": "BTCUSDT", "a": 77, "p": "100.0", "q": "1", "m": False, "T": 4}),
            trade(5, 1),
            line(6, {"e": "kline", "E": 5, "s": "BTCUSDT", "k": {"o": "1"}}),
            f'{T0 + 7} {{"result":null,"id":1}}',
        ],
    )
    tape, rows = read(path)
    found = [(codes.ROW_NAMES[row["kind"]], int(row["side"]), int(row["price"]), int(row["qty"])) for row in rows]
    assert found == [
        ("quote", 1, 999, 1_000),
        ("quote", -1, 0, 2_000),
        ("funding", 0, 10**8, 9_000_000),
        ("index", 0, 100_123_000_000, 0),
        ("mark", 0, 100_050_000_000, 0),
        ("liquidation", -1, 999, 500),
        ("trade", 1, 1_000, 1_000),
    ]
    assert rows["exchange_ns"].tolist() == [5 * 10**6] * 2 + [7 * 10**6] * 3 + [8 * 10**6, 5 * 10**6]
    assert rows["id"][-1] == 77
    # FEED-028: single trades beside aggregate ones would fill everything twice
    assert tape.findings.counts["unused"] == 3


def test_streams_of_all_symbols_tell_several_at_once(tmp_path):
    marks = [{"e": "markPriceUpdate", "E": 7, "s": name, "p": "1", "r": "", "T": 0} for name in ("BTCUSDT", "ETHUSDT")]
    path = write(tmp_path, [line(1, marks), f"{T0 + 2} {json.dumps(marks)}", trade(3, 1)])
    tape, rows = read(path, [make_market("ETHUSDT"), make_market()])
    assert rows["market"].tolist() == [1, 0, 1, 0, 1]
    assert tape.findings.rows == {"markPriceUpdate": 4, "trade": 1}


def test_spot_can_stamp_in_microseconds(tmp_path):
    _, rows = read(write(tmp_path, [trade(1, 1, E=1_700_000_000_000_123, X=None, M=True)]))
    assert rows["exchange_ns"].tolist() == [1_700_000_000_000_123_000]


@given(data=st.data())
def test_damage_is_counted_and_never_crashes(tmp_path_factory, data):
    """Whatever happens to a few letters, in lenient mode the rest is read and every line is accounted for."""
    order = {"s": "BTCUSDT", "S": "SELL", "p": "99.9", "z": "0.5"}
    lines = [
        trade(1, 1),
        snapshot(2, 7, [("90.0", "1")]),
        depth(3, 8, 9, 7, [("91.0", "1")]),
        quote(4, "91.0", "92.0"),
        line(5, {"e": "markPriceUpdate", "E": 7, "s": "BTCUSDT", "p": "100.05", "i": "100.1", "r": "0.0001", "T": 9}),
        line(6, {"e": "forceOrder", "E": 8, "o": order}),
        trade(7, 2),
    ]
    at = data.draw(st.integers(1, 5))
    place = data.draw(st.integers(0, len(lines[at]) - 1))
    new = data.draw(st.sampled_from(["", "0", "9" * 30, "-", ".", "e9", '"', "{", "]", "null", " ", "a", "NaN"]))
    lines[at] = lines[at][:place] + new + lines[at][place + data.draw(st.integers(0, 3)) :]
    path = write(tmp_path_factory.mktemp("damage"), lines)
    told = inspect_tape(path, [make_market()])
    seen = told["rows"] + told.get("unused", 0)
    assert len(lines) <= seen + told["dropped"] + (lines[at] == "")
    assert told["streams"]["trade"] >= 2


def test_stamps_in_any_unit():
    seconds = 1_680_652_700
    for text in (f"{seconds}.5", f"{seconds}500", f"{seconds}500000", f"{seconds}500000000"):
        assert count_ns(text) == seconds * 10**9 + 5 * 10**8
    for text in ("", "12", "then", f"{seconds}500.5", f"-{seconds}", "9" * 13, "9" * 19):
        with pytest.raises(ValueError, match="since 1970"):
            count_ns(text)


@pytest.mark.parametrize(
    ("data", "exchange"),
    [
        ({"e": "depthUpdate", "U": 1, "u": 1, "pu": 0, "s": "BTCUSDT", "b": [], "a": []}, "binance-futures"),
        ({"e": "depthUpdate", "U": 1, "u": 1, "pu": 0, "s": "BTCUSDT_240628", "b": [], "a": []}, "binance-futures"),
        ({"e": "depthUpdate", "U": 1, "u": 1, "pu": 0, "s": "XX", "ps": "XX", "b": [], "a": []}, "binance-delivery"),
        ({"e": "trade", "s": "BTCUSD_240628", "t": 1, "p": "1", "q": "1", "m": True}, "binance-delivery"),
        ({"e": "trade", "s": "BTCUSDT", "t": 1, "p": "1", "q": "1", "m": True, "X": "MARKET"}, "binance-futures"),
        ({"e": "trade", "s": "BTCUSDT", "t": 1, "p": "1", "q": "1", "m": True, "M": True}, "binance"),
        ({"e": "depthUpdate", "U": 1, "u": 1, "s": "BTCUSDT", "b": [], "a": []}, "binance"),
        ({"u": 1, "s": "BTCUSDT", "b": "1", "B": "1", "a": "2", "A": "1"}, "binance"),
        ({"e": "bookTicker", "u": 1, "s": "BTCUSDT", "b": "1", "B": "1", "a": "2", "A": "1"}, "binance-futures"),
    ],
)
def test_messages_say_where_they_come_from(tmp_path, data, exchange):
    """FEED-023."""
    file = open_feed(write(tmp_path, [line(1, data)])).files[0]
    assert (file.exchange, file.symbol) == (exchange, data["s"])


def test_bare_json_arrives_when_it_was_sent(tmp_path):
    path = tmp_path / "lines.jsonl"
    told = [json.loads(trade(0, number, E=1_700_000_000_000 + number).partition(" ")[2])["data"] for number in (1, 2)]
    path.write_text("".join(json.dumps(message) + "\n" for message in told))
    _, rows = read(path)
    assert rows["ts_ns"].tolist() == [1_700_000_000_001_000_000, 1_700_000_000_002_000_000]


def test_other_files_are_left_alone(tmp_path):
    (tmp_path / "notes.json").write_text('{"e": "trade"}\n')
    (tmp_path / "info.0").write_text('https://fapi.binance.com/fapi/v1/exchangeInfo -> 1626992740.1: {"symbols": []}\n')
    path = write(tmp_path, [trade(1, 1)])
    tape = open_feed(tmp_path, [make_market()])
    assert [file.path for file in tape.files] == [path]
    assert len(tape.skipped) == 2


# ---------------------------------------------------------------- ids


def known(tape, market=0):
    list(tape.chunks())
    return tape.teller.known_levels(market).tolist()


def test_updates_around_a_snapshot(tmp_path):
    """FEED-021: what the snapshot holds is superseded; what it does not hold yet is told again after it."""
    lines = [
        depth(1, 1, 4, 0, bids=[("90.0", "1")]),
        depth(2, 5, 8, 4, bids=[("91.0", "1"), ("80.0", "0")]),
        depth(3, 9, 12, 8, bids=[("92.0", "1")]),
        snapshot(4, 7, bids=[("80.0", "1"), ("90.0", "1")], asks=[("99.0", "1")]),
        depth(5, 13, 14, 12, bids=[("90.0", "0")]),
    ]
    tape = open_feed(write(tmp_path, lines), [make_market()])
    assert known(tape) == [920, 910, -990]
    assert (tape.counts["messages"], tape.counts["snapshots"], tape.counts["gaps"]) == (5, 1, 0)
    assert tape.findings.counts["before_snapshot"] == 3
    ahead = [snapshot(4, 13, bids=[("80.0", "1")]), *lines[:3], lines[4]]
    ahead = [text.replace(str(T0 + at), str(T0 + 4 + at)) for at, text in enumerate(ahead)]
    late = open_feed(write(tmp_path, ahead, "late.dat"), [make_market()], is_strict=False)
    assert known(late) == [800]
    assert late.findings.counts["superseded"] == 3
    assert late.counts["gaps"] == 0


@pytest.mark.parametrize(
    ("updates", "field", "expected"),
    [
        ([depth(2, 9, 9, 8)], "pu", "expected what follows id 7 of the snapshot in line 1, got the update after 8"),
        ([depth(2, 9, 9)], "U", "expected what follows id 7 of the snapshot in line 1, got the update after 8"),
        ([depth(2, 8, 9, 7), depth(3, 12, 13, 11)], "pu", "expected what follows id 9 of the update in line 2"),
        ([depth(2, 8, 9, 7), depth(3, 9, 12, 8)], "pu", "expected what follows id 9 of the update in line 2"),
        ([depth(2, 5, 9), depth(3, 11, 11)], "U", "expected what follows id 9 of the update in line 2, got the update"),
    ],
)
def test_a_lost_update_is_a_gap(tmp_path, updates, field, expected):
    """FEED-020: futures say which update came before, spot counts on."""
    path = write(tmp_path, [snapshot(1, 7), *updates])
    with pytest.raises(DataError) as caught:
        read(path)
    assert (caught.value.line, caught.value.field) == (1 + len(updates), field)
    assert caught.value.expected.startswith(expected)
    assert inspect_tape(path)["gaps"] == 1


def test_an_update_twice_is_left_out(tmp_path):
    path = write(tmp_path, [depth(1, 1, 4, 0), depth(2, 5, 8, 4), depth(3, 5, 8, 4), depth(4, 9, 9, 8)])
    told = inspect_tape(path)
    assert (told["gaps"], told["dropped_by"]) == (0, {"old update": 1})


def test_a_gap_does_not_hide_behind_a_snapshot_that_is_too_old(tmp_path):
    path = write(tmp_path, [depth(1, 11, 14, 10), snapshot(2, 7), depth(3, 15, 15, 14)])
    told = inspect_tape(path)
    assert told["gaps"] == 1
    assert "follows id 7 of the snapshot in line 2" in told["faults"][0]["error"]


@given(data=st.data(), is_spot=st.booleans())
def test_exactly_the_lost_updates_are_gaps(tmp_path_factory, data, is_spot):
    """FEED-020, FEED-021: a random book, recorded as deltas in two files, with random losses."""
    spans = data.draw(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 3)), min_size=3, max_size=14))
    updates, truth, books, last = [], {}, [{}], 10
    for length, holes in spans:
        first = last + 1 + (0 if is_spot else holes)  # futures' ids are shared by all symbols
        side = data.draw(st.sampled_from("ba"))
        price = data.draw(st.integers(1, 5)) + (100 if side == "b" else 200)
        qty = data.draw(st.integers(0, 2))
        updates.append((first, first + length - 1, last, side, (f"{price}.0", str(qty))))
        truth[price if side == "b" else -price] = qty
        books.append({key: count for key, count in truth.items() if count})
        last = first + length - 1
    anchor = data.draw(st.integers(0, len(updates) - 1))
    anchor_id = updates[anchor - 1][1] if anchor else 10
    lost = data.draw(st.sets(st.integers(anchor, len(updates) - 1)))
    sides = [[(f"{abs(key)}.0", str(qty)) for key, qty in books[anchor].items() if key * sign > 0] for sign in (1, -1)]
    lines = [snapshot(0, anchor_id, *sides)]
    kept = [at for at in range(len(updates)) if at not in lost]
    for at in kept:
        first, until, previous, side, level = updates[at]
        both = {"bids": [level]} if side == "b" else {"asks": [level]}
        lines.append(depth(at + 1, first, until, None if is_spot else previous, **both))
    lines.append(trade(99, 1, M=True, X=None) if is_spot else trade(99, 1))
    expected = [at for at in kept if at > anchor and at - 1 in lost]
    expected += [at for at in kept if at == anchor and at in lost]
    folder = tmp_path_factory.mktemp("gaps")
    cut = data.draw(st.integers(1, len(lines) - 1)) if len(lines) > 2 else 1
    # each file must say whose it is, wherever it was cut
    write(folder, [*lines[:cut], trade(at_us(lines[cut - 1]), 0, qty="0", price="0", X="NA")], "a.dat")
    write(folder, lines[cut:], "b.dat")
    paths = [folder / "a.dat", folder / "b.dat"]
    tape = Tape([open_one(path, is_spot) for path in paths], [make_market()], is_strict=False)
    levels = known(tape)
    assert tape.findings.counts["gaps"] == len(expected)
    assert tape.counts["crossed"] == 0
    if not lost:
        wanted = {key * 10: qty for key, qty in books[-1].items()}
        assert levels == sorted(wanted, reverse=True)


def at_us(text):
    return int(text.partition(" ")[0]) - T0


def open_one(path, is_spot):
    """Return a file of the exchange we mean: a few lines alone may not say it."""
    from engine.feeds.formats import sniff_file

    name = "binance" if is_spot else "binance-futures"
    return sniff_file(path)._replace(exchange=name, symbol="BTCUSDT", kind="raw")


def test_best_prices_are_checked_where_they_can_be(tmp_path):
    """FEED-022: not before a quote, not without a snapshot, not at the snapshot itself."""
    lines = [
        depth(1, 1, 1, 0, bids=[("90.0", "1")]),
        quote(2, "90.0", "91.0"),
        depth(3, 2, 2, 1, asks=[("95.0", "1")]),
        snapshot(4, 2, bids=[("90.0", "1")], asks=[("95.0", "1")]),
        depth(5, 3, 3, 2, asks=[("91.0", "1")]),
        depth(6, 4, 4, 3, asks=[("91.0", "0")]),
        quote(7, "90.0", "95.0"),
    ]
    told = inspect_tape(write(tmp_path, lines))
    assert (told["bbo_checked"], told["bbo_equal"]) == (2, 1)


def test_files_beside_each_other_are_merged(tmp_path):
    """Depth in one file, trades in another: one stream in order of arrival."""
    write(tmp_path, [depth(at, at, at, before) for before, at in ((0, 1), (1, 4), (4, 6))], "depth.dat")
    write(tmp_path, [trade(at, at) for at in (2, 3, 5, 7)], "trades.dat")
    _, rows = read(tmp_path)
    assert (rows["ts_ns"] // NS - T0).tolist() == [2, 3, 5, 7]
    tape = open_feed(tmp_path, [make_market()])
    list(tape.chunks())
    assert tape.findings.counts["reversed_local"] == 0
    assert tape.findings.rows == {"depthUpdate": 3, "trade": 4}


# ---------------------------------------------------------------- real recordings


def facts(shared, *names):
    paths = [shared / "data" / name for name in names]
    if not all(path.is_file() for path in paths):  # recordings are not ours to ship; a folder may hold only some
        pytest.skip(f"not here: {', '.join(names)}")
    return inspect_tape(paths)


CLEAN = {"gaps": 0, "resets": 0, "crossed": 0, "dropped": 0, "faults": []}
REAL = {
    "usdm 2023": (
        (f"{FIVE}/usdm_btcusdt_20230404.dat.gz", f"{FIVE}/usdm_btcusdt_20230405.dat.gz"),
        {
            "rows": 73_765,
            "streams": {
                "bookTicker": 44_205,
                "depthSnapshot": 1,
                "depthUpdate": 16_110,
                "markPriceUpdate": 514,
                "trade": 12_935,
            },
            "bbo_checked": 16_110,
            "bbo_equal": 16_110,
            "reversed_stamps": 752,
            "negative_latency": 37_652,
            "off_book_prints": 1,
        },
    ),
    "spot 2023": (
        (f"{FIVE}/spot_btcusdt_20230405.dat.gz",),
        {"rows": 15_088, "bbo_checked": 0, "negative_latency": 0, "before_snapshot": 3_929},
    ),
    "usdm 2024": (
        (f"{EIGHT}/usdm/btcusdt_20240808.gz",),
        {"rows": 93_954, "bbo_checked": 6_545, "bbo_equal": 6_509, "negative_latency": 93_954, "before_snapshot": 6},
    ),
    "coinm 2024": (
        (f"{EIGHT}/cm/btcusd_perp_20240808.gz", f"{EIGHT}/cm/btcusd_perp_20240809.gz"),
        {"rows": 98_386, "bbo_checked": 44_770, "bbo_equal": 44_770, "negative_latency": 98_386},
    ),
    "spot 2024": (
        (f"{EIGHT}/spot/btcusdt_20240808.gz", f"{EIGHT}/spot/btcusdt_20240809.gz"),
        # best prices of spot carry no stamp of the venue: 26,399 depth updates and trades do
        {"rows": 99_574, "bbo_checked": 6_492, "bbo_equal": 6_485, "negative_latency": 26_399},
    ),
}


@pytest.mark.parametrize("name", REAL)
def test_real_recordings_hold_what_was_found_in_them(shared, name):
    """FEED-020, FEED-022, FEED-024: no gap across the file boundary, the venue's best prices, stamps that run back."""
    paths, wanted = REAL[name]
    told = facts(shared, *paths)
    assert {key: told[key] for key in CLEAN} == CLEAN
    assert {key: told[key] for key in wanted} == wanted
    assert sum(row["funding"] for row in told["instruments"]) == (name == "usdm 2023")


def test_real_updates_and_quotes_agree_by_id(shared):
    """FEED-022: the 36 messages that differ by arrival met quotes of another moment; by update id none differs."""
    path = shared / "data" / EIGHT / "usdm/btcusdt_20240808.gz"
    if not path.is_file():
        pytest.skip(f"not here: {path.name}")
    _, rows = read(path, [make_market()])
    quotes = rows[rows["kind"] == codes.ROW_QUOTE]
    ids = quotes["id"][::2].tolist()
    assert ids == sorted(ids)
    pairs = list(zip(quotes["price"][::2].tolist(), quotes["price"][1::2].tolist(), strict=True))
    levels = rows[(rows["kind"] == codes.ROW_LEVEL) | (rows["kind"] == codes.ROW_CLEAR)]
    levels = levels[int(np.flatnonzero(levels["kind"] == codes.ROW_CLEAR)[0]) :]
    bids, asks, found = SortedDict(), SortedDict(), Counter()
    columns = [levels[name].tolist() for name in ("id", "side", "price", "qty", "flags", "kind")]
    for number, side, price, qty, flags, kind in zip(*columns, strict=True):
        if kind == codes.ROW_LEVEL:
            book = bids if side > 0 else asks
            if qty:
                book[price] = qty
            else:
                book.pop(price, None)
        if flags & codes.ENDS_MESSAGE and not flags & codes.UNCHECKED:
            found[pairs[bisect_right(ids, number) - 1] == (bids.keys()[-1], asks.keys()[0])] += 1
    assert found == {True: 6_545}


def test_real_excerpt_holds_the_insurance_fund_s_print(shared):
    """FEED-004: 28,722.50 while the market stood near 28,150 is a close outside the book."""
    path = shared / "data/btcusdt_4min/binance_usdm_btcusdt_raw_20230405_000109_000119.dat.gz"
    if not path.is_file():
        pytest.skip("the ten-second excerpt is not here")
    _, rows = read(path)
    prints = rows[rows["kind"] == codes.ROW_TRADE]
    assert len(prints) == 311
    off_book = prints[prints["flags"] == codes.OFF_MARKET]
    assert off_book[["ts_ns", "id", "price", "qty"]].tolist() == [
        (1_680_652_874_408_176_000, 3_535_191_080, 287_225, 1)
    ]
    assert prints["price"][prints["flags"] == 0].max() < 281_700


def test_real_recording_is_its_conversion(shared):
    """The raw messages and their Tardis files make the same prints, marks, index prices and quotes."""
    folder = shared / "data/binance_usdm_btc_20230405_funding"
    raw = folder / "raw/usdm_btcusdt_20230404.dat.gz"
    kinds = ("trades", "derivative_ticker", "quotes")
    files = [folder / f"tardis_schema/binance-futures_{kind}_2023-04-05_BTCUSDT.csv.gz" for kind in kinds]
    if not all(path.is_file() for path in (raw, *files)):
        pytest.skip("the recording or its conversion is not here")
    _, rows = read(raw)
    _, converted = read(files)
    converted = converted[converted["ts_ns"] <= rows["ts_ns"][-1]]
    for kind in (codes.ROW_TRADE, codes.ROW_MARK, codes.ROW_INDEX, codes.ROW_FUNDING, codes.ROW_QUOTE):
        fields = ["ts_ns", "price", "qty", "side"]
        ours, theirs = (part[part["kind"] == kind][fields].tolist() for part in (rows, converted))
        assert len(ours) > 90
        assert ours == theirs


def test_real_capture_of_cryptofeed(shared):
    """Four symbols on one connection, their snapshots fetched beside it in another file."""
    folder = "cryptofeed_ws_captures/BINANCE_FUTURES"
    told = facts(shared, f"{folder}.ws.1.0.gz", f"{folder}.http.0.0.gz")
    assert {key: told[key] for key in CLEAN} == CLEAN
    assert told["streams"] == {"aggTrade": 91, "bookTicker": 613, "depthSnapshot": 4, "depthUpdate": 764}
    assert (told["bbo_checked"], told["bbo_equal"]) == (743, 743)
    assert (told["superseded"], told["before_snapshot"]) == (11, 4)
    assert told["symbols"] == ["SUSHIUSDT", "AKROUSDT", "KEEPUSDT", "CTKUSDT"]


def test_a_line_lost_from_a_real_recording_is_found(shared, tmp_path):
    """FEED-020: the third depth update of the excerpt taken out, the fourth is named."""
    path = shared / "data/btcusdt_4min/binance_usdm_btcusdt_raw_20230405_000109_000119.dat.gz"
    if not path.is_file():
        pytest.skip("the ten-second excerpt is not here")
    with gzip.open(path, "rt") as file:
        lines = file.read().split("\n")
    updates = [at for at, text in enumerate(lines) if "depthUpdate" in text]
    del lines[updates[2]]
    told = inspect_tape(write(tmp_path, lines))
    assert told["gaps"] == 1
    assert f":{updates[3]}: field 'pu'" in told["faults"][0]["error"]
