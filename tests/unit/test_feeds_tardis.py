"""Tardis CSV and raw Binance recordings as commands: order, exactness, refusals, and a real tape."""

import csv
import functools
import gzip
from collections import Counter
from decimal import ROUND_HALF_EVEN, Decimal

import numpy as np
import pytest

from engine import codes
from engine.contract import Market, Tier
from engine.errors import DataError
from engine.feeds import block as blocks
from engine.feeds import columns, find_first_marks, instruments, iter_bbo_checks, open_feed, read_quotes
from engine.feeds.instruments import UnitCache, count_text
from engine.feeds.tardis import SCHEMAS

BOOK, TRADES, TICKER, QUOTES = "incremental_book_L2", "trades", "derivative_ticker", "quotes"
T0 = 1_680_652_700_000_000
FILES = "binance-futures_{}_2023-04-05_BTCUSDT.csv.gz"
TICKER_HEADER = (
    "exchange,symbol,timestamp,local_timestamp,funding_timestamp,funding_rate,predicted_funding_rate,open_interest,"
    "last_price,index_price,mark_price"
)


def make_market(symbol="BTCUSDT", **changes):
    settings = {"tick_size": Decimal("0.1"), "lot_size": Decimal("0.001"), "price_max": Decimal(250_000), **changes}
    tiers = (Tier(floor=Decimal(0), initial=Decimal("0.01"), maintenance=Decimal("0.005")),)
    return Market(symbol=symbol, tiers=tiers, **settings)


def book(us, side, price, amount, snapshot="false", symbol="BTCUSDT"):
    return f"venue,{symbol},{T0 + us},{T0 + us},{snapshot},{side},{price},{amount}"


def trade(us, side, price, amount, symbol="BTCUSDT"):
    return f"venue,{symbol},{T0 + us},{T0 + us},1,{side},{price},{amount}"


def ticker(us, due="", rate="", index="", mark="", symbol="BTCUSDT"):
    return f"venue,{symbol},{T0 + us},{T0 + us},{due},{rate},,,,{index},{mark}"


def write(folder, kind, rows, name=None, header=None, packed=False):
    header = header or (TICKER_HEADER if kind == TICKER else ",".join(SCHEMAS[kind]))
    text = "\n".join([header, *rows]) + "\n"
    path = folder / (name or f"venue_{kind}_2023-04-05_BTCUSDT.csv{'.gz' if packed else ''}")
    path.write_bytes(gzip.compress(text.encode(), mtime=0) if packed else text.encode())
    return path


def read(paths, *markets, rows=65_536):
    return np.concatenate(list(open_feed(paths, markets or [make_market()]).chunks(rows)))


def levels(commands):
    """Return [(us after T0, signed price in ticks, lots)] of the level commands."""
    rows = commands[commands["kind"] == codes.LEVEL]
    return [
        (ts // 1000 - T0, int(side) * price, qty)
        for ts, side, price, qty in rows[["ts_ns", "side", "price_tick", "qty_lot"]].tolist()
    ]


# ---------------------------------------------------------------- order


def test_streams_are_merged_by_local_time(tmp_path):
    """FEED-001: by local_timestamp; at equal stamps trades, then the book, then the ticker; files keep their order."""
    write(tmp_path, TICKER, [ticker(10, mark="100.0", index="100.1"), ticker(20, mark="100.5")])
    write(tmp_path, BOOK, [book(10, "bid", "99.9", "1"), book(10, "ask", "100.1", "2"), book(15, "bid", "99.9", "0")])
    write(
        tmp_path, TRADES, [trade(10, "buy", "100.1", "1"), trade(10, "sell", "99.9", "2"), trade(20, "buy", "100", "3")]
    )
    got = read(tmp_path)
    told = [(codes.COMMAND_NAMES[kind], ts // 1000 - T0) for kind, ts in got[["kind", "ts_ns"]].tolist()]
    assert told == [
        *[("print", 10)] * 2,
        *[("level", 10)] * 2,
        *[("index", 10), ("mark", 10)],
        ("level", 15),
        ("print", 20),
        ("mark", 20),
    ]
    assert got["qty_lot"][:2].tolist() == [1000, 2000]
    assert not got["_pad"].any()
    assert not got["_pad2"].any()


def test_two_markets_get_their_indexes(tmp_path):
    """FEED-001: equal stamps of one kind follow the market index, whatever the file names say."""
    rows = [trade(1, "buy", "100", "1"), trade(2, "buy", "100", "1")]
    write(tmp_path, TRADES, rows, name="b.csv")
    write(tmp_path, TRADES, [row.replace("BTCUSDT", "ETHUSDT") for row in rows], name="a.csv")
    got = read(tmp_path, make_market(), make_market("ETHUSDT"))
    assert got["market"].tolist() == [0, 1, 0, 1]


def test_one_file_may_hold_many_symbols(tmp_path):
    rows = [book(1, "bid", "99", "1"), book(1, "bid", "98", "1", symbol="ETHUSDT"), book(2, "bid", "99", "0")]
    write(tmp_path, BOOK, rows)
    got = read(tmp_path, make_market(), make_market("ETHUSDT", tick_size=Decimal("0.01")))
    assert list(zip(got["market"].tolist(), levels(got), strict=True)) == [
        (0, (1, 990, 1000)),
        (1, (1, 9800, 1000)),
        (0, (2, 990, 0)),
    ]


def test_days_are_chained_in_time_order(tmp_path):
    """FEED-002: the next day's file starts with a snapshot, which removes what the day before left."""
    write(tmp_path, BOOK, [book(50, "bid", "98", "2", "true")], name="venue_incremental_book_L2_2023-04-06_BTCUSDT.csv")
    write(tmp_path, BOOK, [book(10, "bid", "99", "1", "true"), book(11, "ask", "101", "1")])
    assert levels(read(tmp_path)) == [
        (10, 990, 1000),
        (11, -1010, 1000),
        (50, 990, 0),
        (50, -1010, 0),
        (50, 980, 2000),
    ]


def test_chunks_do_not_depend_on_their_size(tmp_path, monkeypatch):
    rows = [book(us // 3, "bid", f"{90 + us % 7}", f"{us % 4}") for us in range(300)]
    write(tmp_path, BOOK, rows)
    write(tmp_path, TRADES, [trade(us, "buy", "100", "1") for us in range(0, 100, 2)])
    feed = open_feed(tmp_path, [make_market()])
    whole = np.concatenate(list(feed.chunks()))
    sizes = [len(chunk) for chunk in feed.chunks(7)]
    assert sizes[:-1] == [7] * (len(sizes) - 1)
    # Blocks so short that messages and stamps are torn apart between them.
    monkeypatch.setattr(columns, "read_blocks", functools.partial(columns.read_blocks, block_bytes=97))
    assert np.array_equal(np.concatenate(list(feed.chunks(7))), whole)


# ---------------------------------------------------------------- the book


def test_removals_come_before_additions(tmp_path):
    """FEED-002: or a level that the same message takes away would be wiped by, or wipe, the one that replaces it."""
    rows = [
        *[book(1, "bid", "100", "1"), book(1, "ask", "100.1", "1")],
        *[book(2, "bid", "100.1", "5"), book(2, "ask", "100.2", "7"), book(2, "ask", "100.1", "0")],
    ]
    write(tmp_path, BOOK, rows)
    assert levels(read(tmp_path)) == [
        (1, 1000, 1000),
        (1, -1001, 1000),
        (2, -1001, 0),
        (2, 1001, 5000),
        (2, -1002, 7000),
    ]


def test_the_last_row_of_a_level_counts(tmp_path):
    """FEED-002: two messages can arrive in the same microsecond; told is what the last one left."""
    rows = [
        book(1, "bid", "100", "1"),
        book(1, "bid", "99", "0"),
        book(1, "bid", "99", "3"),
        book(1, "bid", "100", "0"),
    ]
    write(tmp_path, BOOK, rows)
    assert levels(read(tmp_path)) == [(1, 1000, 0), (1, 990, 3000)]


@pytest.mark.parametrize("block_bytes", [60, 80, 1 << 20])
def test_a_snapshot_replaces_the_book(tmp_path, monkeypatch, block_bytes):
    """FEED-002: what it does not name is removed first; rows that go on saying `true` are the same snapshot."""
    rows = [
        *[book(1, "bid", "99", "1", "true"), book(1, "bid", "98", "1", "true"), book(2, "ask", "101", "1", "true")],
        *[book(3, "bid", "99", "2"), book(4, "bid", "97", "1")],
        *[book(5, "bid", "97", "4", "true"), book(5, "ask", "102", "1", "true"), book(6, "ask", "103", "1", "true")],
        *[book(7, "bid", "96", "1"), book(7, "bid", "95", "1", "true")],
    ]
    write(tmp_path, BOOK, rows)
    feed = open_feed(tmp_path, [make_market()])
    monkeypatch.setattr(columns, "read_blocks", functools.partial(columns.read_blocks, block_bytes=block_bytes))
    got = levels(np.concatenate(list(feed.chunks())))
    assert got[:3] == [(1, 990, 1000), (1, 980, 1000), (2, -1010, 1000)]
    fifth = [row[1:] for row in got if row[0] == 5]
    assert set(fifth[:3]) == {(990, 0), (980, 0), (-1010, 0)}
    assert fifth[3:] == [(970, 4000), (-1020, 1000)]
    assert [row for row in got if row[0] == 6] == [(6, -1030, 1000)]
    # A snapshot inside a message takes back what stood before it in the message.
    assert set(got[-5:-1]) == {(7, 970, 0), (7, -1020, 0), (7, -1030, 0), (7, 960, 0)}
    assert got[-1] == (7, 950, 1000)
    assert feed.counts["snapshots"] == 3


def test_a_crossing_level_wipes_what_it_crosses(tmp_path):
    """FEED-002: newest wins, as in the exchange; the reader says so explicitly and counts it."""
    rows = [
        *[
            book(1, "bid", "100", "1"),
            book(1, "bid", "99", "1"),
            book(1, "ask", "102", "1"),
            book(1, "ask", "103", "1"),
        ],
        book(2, "bid", "102.5", "1"),
        book(3, "ask", "99.5", "1"),
        *[book(4, "bid", "105", "1"), book(4, "ask", "104", "1")],
    ]
    write(tmp_path, BOOK, rows)
    feed = open_feed(tmp_path, [make_market()])
    got = levels(np.concatenate(list(feed.chunks())))
    assert [row[1:] for row in got if row[0] == 2] == [(-1020, 0), (1025, 1000)]
    assert set(row[1:] for row in got if row[0] == 3) == {(1025, 0), (1000, 0), (-995, 1000)}
    assert got[-1] == (4, -1040, 1000)
    assert set(row[1:] for row in got if row[0] == 4) == {(-1030, 0), (-995, 0), (1050, 0), (-1040, 1000)}
    assert feed.counts["crossed"] == 3


def test_levels_beyond_the_ladder_are_left_out_and_counted(tmp_path):
    rows = [book(1, "ask", "1000000000", "1"), book(1, "ask", "101", "1"), book(2, "ask", "1000000000", "0")]
    write(tmp_path, BOOK, rows)
    feed = open_feed(tmp_path, [make_market()])
    assert levels(np.concatenate(list(feed.chunks()))) == [(1, -1010, 1000)]
    assert feed.counts["beyond"] == 2


# ---------------------------------------------------------------- trades and ticker


def test_trades_become_prints(tmp_path):
    """FEED-004: without a taker's side a print is off book, since nobody can say whose order it filled."""
    write(
        tmp_path,
        TRADES,
        [trade(1, "buy", "100.10", "0.5"), trade(2, "sell", "100", "1"), trade(3, "unknown", "90", "2")],
    )
    feed = open_feed(tmp_path, [make_market()])
    got = np.concatenate(list(feed.chunks()))
    assert got["kind"].tolist() == [codes.PRINT] * 3
    assert got["side"].tolist() == [1, -1, 1]
    assert got["flags"].tolist() == [0, 0, codes.OFF_BOOK]
    assert got["price_tick"].tolist() == [1001, 1000, 900]
    assert got["qty_lot"].tolist() == [500, 1000, 2000]
    assert feed.counts["off_book"] == 1


def test_marks_are_rounded_half_even_and_told_when_they_change(tmp_path):
    """FEED-005: a mark is finer than a tick; a tie goes to the even tick; an empty field says unchanged."""
    rows = [
        ticker(1, index="100.05", mark="100.15"),
        ticker(2, index="100.04999", mark=""),
        ticker(3, index="", mark="100.1500001"),
        ticker(4, index="100.051", mark="100.24999"),
    ]
    write(tmp_path, TICKER, rows)
    got = read(tmp_path)
    told = [(ts // 1000 - T0, kind, tick) for ts, kind, tick in got[["ts_ns", "kind", "price_tick"]].tolist()]
    assert told == [(1, codes.INDEX, 1000), (1, codes.MARK, 1002), (4, codes.INDEX, 1001)]
    assert find_first_marks(open_feed(tmp_path, [make_market()]), 1) == [1002]


def test_funding_is_told_when_its_stamp_has_passed(tmp_path):
    """FEED-006: once, with the last rate before it, ahead of the row's prices; a moved schedule is no payment."""
    first, second, third = T0 + 100, T0 + 200, T0 + 300
    rows = [
        ticker(10, first, "0.0001", mark="100"),
        ticker(90, first, "0.00002754", mark="100"),
        ticker(101, second, "0.0003", mark="101"),
        ticker(150, "", "", mark="101"),
        ticker(160, third, "0.0003", mark="101"),
        ticker(170, second, "-0.0000000015", mark="101"),
        ticker(210, third, "0.0009", mark="101"),
    ]
    write(tmp_path, TICKER, rows)
    feed = open_feed(tmp_path, [make_market()])
    got = np.concatenate(list(feed.chunks()))
    paid = got[got["kind"] == codes.FUNDING]
    assert [(ts // 1000 - T0, rate) for ts, rate in paid[["ts_ns", "amount_quote"]].tolist()] == [
        (101, 27_540),
        (210, -2),
    ]
    assert got["kind"].tolist()[1:3] == [codes.FUNDING, codes.MARK]
    assert feed.counts["funding"] == 2


def test_counts_say_what_was_read(tmp_path):
    write(tmp_path, BOOK, [book(0, "bid", "99", "1"), book(5, "bid", "99", "2")])
    write(tmp_path, TRADES, [trade(9_000_005, "buy", "100", "1")])
    feed = open_feed(tmp_path, [make_market()])
    for _ in range(2):
        list(feed.chunks())
        assert feed.counts[BOOK] == 2
        assert feed.counts[TRADES] == 1
        assert feed.counts["messages"] == 2
        assert feed.counts["gap_max_ns"] == 9_000_000_000


# ---------------------------------------------------------------- exactness


@pytest.mark.parametrize(
    ("text", "unit", "count"),
    [
        ("28145.10", "0.1", 281451),
        ("28145", "0.1", 281450),
        ("1e3", "0.1", 10_000),
        ("0.00000001", "0.00000001", 1),
        (".5", "0.5", 1),
        ("7.", "0.25", 28),
        ("120", "10", 12),
        ("1E-3", "0.001", 1),
        ("0", "0.001", 0),
        ("123456789012345678901234567890", "1", 123456789012345678901234567890),
    ],
)
def test_decimals_become_integers_exactly(text, unit, count):
    """FEED-003: no float takes part, and nothing is rounded."""
    assert count_text(text, Decimal(unit)) == count


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("100.05", "expected a multiple of 0.1, got 100.05"),
        ("-1", "expected a number that is not negative, got -1"),
        ("abc", "expected a decimal number, got 'abc'"),
        ("", "expected a decimal number, got ''"),
        ("nan", "expected a finite number, got 'nan'"),
        ("inf", "expected a finite number, got 'inf'"),
    ],
)
def test_what_is_not_exact_is_refused(text, expected):
    """FEED-003."""
    with pytest.raises(ValueError, match=r"^expected") as caught:
        count_text(text, Decimal("0.1"))
    assert str(caught.value) == expected


def test_the_cache_is_bounded(monkeypatch):
    monkeypatch.setattr(instruments, "CACHE_MAX", 3)
    cache = UnitCache(Decimal(1), 0, 1 << 40)
    assert [cache[str(number)] for number in range(10)] == list(range(10))
    assert len(cache) <= 3


# ---------------------------------------------------------------- bad input


GOOD_BOOK = [book(1, "bid", "99.0", "1"), book(2, "bid", "98.0", "1")]
GOOD_TICKER = [ticker(1, mark="100")]

BAD_ROWS = [
    (BOOK, [*GOOD_BOOK, book(3, "bid", "99.05", "1")], 4, "price", "expected a multiple of 0.1, got 99.05"),
    (BOOK, [*GOOD_BOOK, book(3, "bid", "zero", "1")], 4, "price", "expected a decimal number, got 'zero'"),
    (BOOK, [*GOOD_BOOK, book(3, "bid", "-5", "1")], 4, "price", "expected a number that is not negative, got -5"),
    (BOOK, [*GOOD_BOOK, book(3, "bid", "0", "1")], 4, "price", "expected 0.1 to"),
    (BOOK, [*GOOD_BOOK, book(3, "bid", "99", "-1")], 4, "amount", "expected a number that is not negative, got -1"),
    (BOOK, [*GOOD_BOOK, book(3, "bid", "99", "1e-9")], 4, "amount", "expected a multiple of 0.001, got 1e-9"),
    (BOOK, [*GOOD_BOOK, book(3, "bid", "99", "1e99")], 4, "amount", "expected 0.000 to 1099511627.776, got 1e99"),
    (BOOK, [*GOOD_BOOK, book(3, "buy", "99", "1")], 4, "side", "expected bid or ask, got 'buy'"),
    (BOOK, [*GOOD_BOOK, book(3, "bid", "99", "1", "maybe")], 4, "is_snapshot", "expected true or false, got 'maybe'"),
    (BOOK, [*GOOD_BOOK, book(3, "bid", "99", "1", symbol="XRPUSDT")], 4, "symbol", "market (BTCUSDT), got 'XRPUSDT'"),
    (BOOK, [*GOOD_BOOK, book(3, "bid", "99", "1").replace("venue", "x")], 4, "exchange", "expected venue, got 'x'"),
    (BOOK, [*GOOD_BOOK, book(1, "bid", "99", "1")], 4, "local_timestamp", f"expected {T0 + 2} or later, got {T0 + 1}"),
    (BOOK, [*GOOD_BOOK, book(3, "bid", "99", "1") + ",9"], 4, None, "expected 8 fields, got 9"),
    (BOOK, [*GOOD_BOOK, "venue,BTCUSDT"], 4, None, "expected 8 fields, got 2"),
    (BOOK, [*GOOD_BOOK, ""], 4, None, "expected 8 fields, got 1"),
    (TRADES, [trade(1, "buy", "99", "1"), trade(2, "buy", "99", "0")], 3, "amount", "expected 0.001 to"),
    (TRADES, [trade(1, "buy", "99", "1"), trade(2, "bid", "99", "1")], 3, "side", "expected buy or sell or unknown"),
    (TRADES, [trade(1, "buy", "99", "1"), trade(2, "buy", "999999", "1")], 3, "price", "expected 0.1 to 250000.0"),
    (TRADES, [trade(1, "buy", "99", "1").replace(str(T0 + 1), "noon")], 2, "local_timestamp", "got 'noon'"),
    (
        TRADES,
        [trade(1, "buy", "99", "1"), trade(2, "buy", "99", "1").replace(str(T0 + 2), "")],
        3,
        "local_timestamp",
        "",
    ),
    (TICKER, [*GOOD_TICKER, ticker(2, mark="high")], 3, "mark_price", "expected a decimal number, got 'high'"),
    (TICKER, [*GOOD_TICKER, ticker(2, mark="-1")], 3, "mark_price", "expected 0.1 to 250000.0, got -1"),
    (TICKER, [*GOOD_TICKER, ticker(2, index="0")], 3, "index_price", "expected 0.1 to 250000.0, got 0"),
    (TICKER, [*GOOD_TICKER, ticker(2, rate="2")], 3, "funding_rate", "expected a rate within -1 to 1, got 2"),
    (TICKER, [*GOOD_TICKER, ticker(2, due="soon")], 3, "funding_timestamp", "expected microseconds since 1970"),
]


@pytest.mark.parametrize("packed", [False, True], ids=["csv", "gz"])
@pytest.mark.parametrize(("kind", "rows", "line", "field", "expected"), BAD_ROWS)
def test_a_bad_row_is_named(tmp_path, kind, rows, line, field, expected, packed):
    """CLI-002 FEED-003: file, line, field and expectation, and the exit status of bad data."""
    path = write(tmp_path, kind, rows, packed=packed)
    with pytest.raises(DataError) as caught:
        read(path)
    error = caught.value
    assert (error.file, error.line, error.field, error.exit_status) == (path, line, field, 4)
    assert expected in error.expected
    assert str(error).startswith(f"{path}:{line}:")
    assert "\n" not in str(error)


def test_time_does_not_fall_from_block_to_block_or_file_to_file(tmp_path, monkeypatch):
    """FEED-001: days that overlap are refused, not shuffled."""
    first = write(tmp_path, TRADES, [trade(1, "buy", "99", "1"), trade(9, "buy", "99", "1")])
    write(tmp_path, TRADES, [trade(2, "buy", "99", "1")], name="venue_trades_2023-04-06_BTCUSDT.csv")
    with pytest.raises(DataError, match=f"04-06_BTCUSDT.csv:2: field 'local_timestamp': expected {T0 + 9} or later"):
        read(tmp_path)
    rows = [trade(us, "buy", "99", "1") for us in (5, 6, 4)]
    write(tmp_path, TRADES, rows, name=first.name)
    monkeypatch.setattr(columns, "read_blocks", functools.partial(columns.read_blocks, block_bytes=60))
    with pytest.raises(DataError, match=f":4: field 'local_timestamp': expected {T0 + 6} or later"):
        read(first)


def test_stamps_of_other_lengths_are_read_one_by_one():
    assert blocks.count_stamps(["999999999999999", "1000000000000000"]).tolist() == [10**15 - 1, 10**15]
    assert blocks.count_stamps(["1000000000000000", "9000000000000000"]).tolist() == [10**15, 9 * 10**15]
    for texts in (["999999999999999", "10000000000000000"], ["1", ""], ["12", "-3"]):
        with pytest.raises(ValueError, match=r"a stamp|expected microseconds"):
            blocks.count_stamps(texts)


def test_the_first_of_many_bad_rows_is_named_even_when_fields_add_up(tmp_path):
    """A row with a field too few and one with a field too many make the right total."""
    rows = [*GOOD_BOOK, "venue,BTCUSDT,1,2,false,bid,99", book(3, "bid", "99", "1") + ",9"]
    with pytest.raises(DataError, match=":4: expected 8 fields, got 7"):
        read(write(tmp_path, BOOK, rows))


def test_bad_rows_are_named_deep_inside_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr(columns, "read_blocks", functools.partial(columns.read_blocks, block_bytes=300))
    rows = [book(us, "bid", "99", "1") for us in range(500)]
    rows[321] = book(321, "bid", "99", "x")
    with pytest.raises(DataError, match=":323: field 'amount'"):
        read(write(tmp_path, BOOK, rows))


def test_a_missing_file_is_named(tmp_path):
    path = tmp_path / "nothing.csv.gz"
    with pytest.raises(DataError, match=r"nothing\.csv\.gz: expected a readable file: No such file") as caught:
        open_feed(path, [make_market()])
    assert caught.value.exit_status == 4


def test_a_folder_without_recordings_is_refused(tmp_path):
    (tmp_path / "readme.txt").write_text("hello")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match=r"expected recordings of the formats .*tardis.*found none"):
        open_feed(tmp_path, [make_market()])
    with pytest.raises(DataError, match="expected at least one file"):
        open_feed([], [make_market()])


def test_wrong_columns_are_named(tmp_path):
    path = write(tmp_path, BOOK, ["1,2,3"], header="exchange,symbol,timestamp")
    with pytest.raises(DataError, match=r":1: field 'local_timestamp': expected the columns exchange,symbol"):
        open_feed(tmp_path, [make_market()])
    other = path.rename(tmp_path / "other.csv")
    with pytest.raises(DataError, match=r"other\.csv:1: expected a recording in one of the formats .*tardis"):
        open_feed(other, [make_market()])


@pytest.mark.parametrize("packed", [False, True], ids=["csv", "gz"])
def test_an_empty_file_is_named(tmp_path, packed):
    path = write(tmp_path, BOOK, [], packed=packed)
    with pytest.raises(DataError, match=":2: expected at least one row"):
        open_feed(path, [make_market()])
    path.write_bytes(gzip.compress(b"") if packed else b"")
    with pytest.raises(DataError, match=":1: expected a header line, the file is empty"):
        open_feed(path, [make_market()])


def test_a_truncated_gz_is_named(tmp_path):
    rng = np.random.default_rng(1)
    rows = [book(us, "bid", f"{90 + int(rng.integers(90))}", f"{int(rng.integers(999))}") for us in range(60_000)]
    path = write(tmp_path, BOOK, rows, packed=True)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - 2_000])
    feed = open_feed(path, [make_market()])
    with pytest.raises(DataError, match="expected a complete gzip file, it ends early after this line") as caught:
        list(feed.chunks())
    assert caught.value.file == path
    assert caught.value.line > 1
    path.write_bytes(whole[:40])
    with pytest.raises(DataError, match=":1: expected a complete gzip file"):
        open_feed(path, [make_market()])


def test_a_damaged_gz_is_named(tmp_path):
    path = write(tmp_path, BOOK, GOOD_BOOK, packed=True)
    whole = bytearray(path.read_bytes())
    whole[20] ^= 0xFF
    path.write_bytes(bytes(whole))
    with pytest.raises(DataError, match=r"expected a (sound archive|complete gzip file)"):
        open_feed(path, [make_market()])


def test_what_is_not_text_is_named(tmp_path):
    path = write(tmp_path, BOOK, [*GOOD_BOOK, book(3, "bid", "99", "\uff11")])
    with pytest.raises(DataError, match="expected ASCII text"):
        read(path)
    path.write_bytes(path.read_bytes() + b"\x00" * (2 << 20))
    with pytest.raises(DataError, match=r"expected (ASCII|lines of) text"):
        read(path)


def test_an_unknown_symbol_is_refused_at_once(tmp_path):
    path = write(tmp_path, BOOK, GOOD_BOOK)
    with pytest.raises(DataError, match=r":2: field 'symbol': expected a configured market \(ETHUSDT\), got 'BTCUSDT'"):
        open_feed(path, [make_market("ETHUSDT")])


def test_headers_win_over_names(tmp_path):
    """A file is what its header says; only liquidations, whose header is that of trades, go by their name."""
    write(tmp_path, BOOK, GOOD_BOOK, name="venue_trades_2023-04-05_BTCUSDT.csv")
    write(tmp_path, TRADES, [trade(1, "buy", "99", "1")], name="venue_liquidations_2023-04-05_BTCUSDT.csv")
    feed = open_feed(tmp_path, [make_market()])
    assert [file.kind for file in feed.files] == ["liquidations", BOOK]
    assert set(np.concatenate(list(feed.chunks()))["kind"].tolist()) == {codes.LEVEL}
    assert feed.counts["liquidations"] == 1


def test_another_exchange_is_not_mixed_in(tmp_path):
    """Spot trades beside a perpetual's book must not fill its orders."""
    write(tmp_path, BOOK, GOOD_BOOK)
    spot = [trade(1, "buy", "99", "1").replace("venue", "spot")]
    write(tmp_path, TRADES, spot, name="spot_trades_2023-04-05_BTCUSDT.csv")
    feed = open_feed(tmp_path, [make_market()])
    assert [reason for _, reason in feed.skipped] == ["spot is not the exchange of the book, venue"]
    second = [row.replace("venue", "spot") for row in GOOD_BOOK]
    write(tmp_path, BOOK, second, name="spot_incremental_book_L2_2023-04-05_BTCUSDT.csv")
    with pytest.raises(DataError, match="expected one book of BTCUSDT"):
        open_feed(tmp_path, [make_market()])


def test_windows_line_ends_and_a_missing_last_one_are_fine(tmp_path):
    path = write(tmp_path, BOOK, GOOD_BOOK)
    wanted = read(path)
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n").rstrip(b"\r\n"))
    assert np.array_equal(read(path), wanted)


# ---------------------------------------------------------------- a real recording


@pytest.fixture(scope="module")
def tape(shared):
    folder = shared / "data" / "btcusdt_4min"
    if not folder.is_dir():  # recordings are not ours to ship, and a folder of them may hold only some
        pytest.skip("the four-minute recording is not here")
    return folder


@pytest.fixture(scope="module")
def real(tape):
    feed = open_feed(sorted(tape.glob("binance*_2023-04-05_BTCUSDT.csv.gz")), [make_market()])
    return feed, np.concatenate(list(feed.chunks()))


def rows_of(path):
    with gzip.open(path, "rt") as file:
        yield from csv.DictReader(file)


def test_real_folder_is_sorted_out(tape, real):
    feed, _ = real
    assert [file.kind for file in feed.files if file.format.name == "tardis"] == [TRADES, QUOTES, BOOK, TICKER]
    reasons = {path.name: reason for path, reason in feed.skipped}
    assert reasons["binance_trades_2023-04-05_BTCUSDT.csv.gz"].startswith("binance is not the exchange of the book")
    rows = {TRADES: 6491, QUOTES: 19_117, BOOK: 165_436, TICKER: 240}
    assert {name: feed.counts[name] for name in rows} == rows
    assert feed.counts["messages"] == 8207
    assert feed.counts["snapshots"] == 1
    assert feed.counts["crossed"] == 0


def test_real_book_has_the_venue_s_best_prices(tape):
    """FEED-001 FEED-002: at all 8,207 book messages the levels told leave the venue's own best bid and ask."""
    quotes = read_quotes(tape / "binance-futures_quotes_2023-04-05_BTCUSDT.csv.gz", make_market())
    assert len(quotes) == 19_117
    sides = {1: {}, -1: {}}
    stamps = Counter()
    for commands, quote in iter_bbo_checks(open_feed(tape / FILES.format(BOOK), [make_market()]).chunks(), quotes):
        rows = commands[commands["kind"] == codes.LEVEL]
        for side, price, lots in rows[["side", "price_tick", "qty_lot"]].tolist():
            if lots:
                sides[side][price] = lots
            else:
                sides[side].pop(price, None)
        assert max(sides[1]) < min(sides[-1])
        is_equal = (max(sides[1]), min(sides[-1])) == (quote["bid_price_tick"], quote["ask_price_tick"])
        stamps[is_equal] += 1
    assert stamps == {True: 8207}


def test_real_trades_are_exact(tape, real):
    """FEED-003: every price and amount times its unit is the text of the file."""
    prints = real[1][real[1]["kind"] == codes.PRINT]
    rows = list(rows_of(tape / "binance-futures_trades_2023-04-05_BTCUSDT.csv.gz"))
    assert len(prints) == len(rows) == 6491
    assert not prints["flags"].any()
    for got, row in zip(prints.tolist(), rows, strict=True):
        assert got[0] == int(row["local_timestamp"]) * 1000
        assert got[2] * Decimal("0.1") == Decimal(row["price"])
        assert got[3] * Decimal("0.001") == Decimal(row["amount"])


def test_real_marks_and_indexes_are_the_ticker_s(tape, real):
    """FEED-005: at every row of the ticker the last mark and index told are the row's, rounded to the tick."""
    commands = real[1]
    told = {kind: commands[commands["kind"] == kind] for kind in (codes.INDEX, codes.MARK)}
    rows = 0
    for row in rows_of(tape / "binance-futures_derivative_ticker_2023-04-05_BTCUSDT.csv.gz"):
        for kind, name in ((codes.INDEX, "index_price"), (codes.MARK, "mark_price")):
            last = np.searchsorted(told[kind]["ts_ns"], int(row["local_timestamp"]) * 1000, side="right") - 1
            wanted = (Decimal(row[name]) * 10).to_integral_value(ROUND_HALF_EVEN)
            assert told[kind]["price_tick"][last] == wanted
        rows += 1
    assert rows == 240


def test_real_funding_is_the_venue_s(real):
    """FEED-006: midnight's rate, 0.00002760, told by the first ticker row that names the next stamp."""
    paid = real[1][real[1]["kind"] == codes.FUNDING]
    assert paid[["ts_ns", "amount_quote"]].tolist() == [(1_680_652_801_050_102_000, 27_600)]


# ---------------------------------------------------------------- the other data types, several markets


def test_book_snapshots_replace_the_book(tmp_path):
    """FEED-008: each line is the whole top of the book; a shorter side and an empty one are fine."""
    sides = [
        f"{side}[{place}].{field}" for place in (0, 1) for side in ("asks", "bids") for field in ("price", "amount")
    ]
    rows = [
        [T0 + 1, "101", "1", "99", "2", "102", "3", "98", "4"],
        [T0 + 2, "101", "5", "99", "2", "", "", "98", "4"],
        [T0 + 3, "", "", "97", "1", "", "", "", ""],
    ]
    lines = [f"venue,BTCUSDT,{row[0]},{row[0]}," + ",".join(row[1:]) for row in rows]
    header = "exchange,symbol,timestamp,local_timestamp," + ",".join(sides)
    path = write(tmp_path, "book_snapshot_5", lines, header=header)
    feed = open_feed(path, [make_market()])
    got = levels(np.concatenate(list(feed.chunks())))
    assert got[:4] == [(1, 990, 2000), (1, 980, 4000), (1, -1010, 1000), (1, -1020, 3000)]
    assert sorted(got[4:8]) == [(2, -1020, 0), (2, -1010, 5000), (2, 980, 4000), (2, 990, 2000)]
    assert set(got[8:11]) == {(3, -1010, 0), (3, 990, 0), (3, 980, 0)}
    assert got[11:] == [(3, 970, 1000)]
    assert feed.counts["snapshots"] == 3


def test_spot_trades_are_the_index(tmp_path):
    """FEED-010: of the spot market nothing but its trades is used, and those as index prices of the perpetual."""
    write(tmp_path, BOOK, GOOD_BOOK)
    spot = [
        trade(us, "buy", price, "1").replace("venue", "spot")
        for us, price in ((1, "99.05"), (2, "99.15"), (3, "99.149"))
    ]
    write(tmp_path, TRADES, spot, name="spot_trades_2023-04-05_BTCUSDT.csv")
    feed = open_feed(tmp_path, [make_market()], indexes={"BTCUSDT": "spot:BTCUSDT"})
    got = np.concatenate(list(feed.chunks()))
    told = got[got["kind"] == codes.INDEX]
    assert [(ts // 1000 - T0, tick) for ts, tick in told[["ts_ns", "price_tick"]].tolist()] == [
        (1, 990),
        (2, 992),
        (3, 991),
    ]
    assert set(got["kind"].tolist()) == {codes.INDEX, codes.LEVEL}
    for indexes, expected in ((({"X": "spot:BTCUSDT"}), "configured market"), ({"BTCUSDT": "spot"}, "EXCHANGE:SYMBOL")):
        with pytest.raises(DataError, match=expected):
            open_feed(tmp_path, [make_market()], indexes=indexes)


def test_bad_rows_are_left_out_and_counted_when_asked(tmp_path):
    """FEED-003: lenient reading drops exactly the bad rows, with their reasons and places."""
    rows = [book(us, "bid", str(100 + us), "1") for us in range(20)]
    rows[5], rows[11] = book(5, "bid", "x", "1"), "venue,BTCUSDT"
    rows[13] = book(13, "up", "113", "1")
    path = write(tmp_path, BOOK, rows)
    feed = open_feed(path, [make_market()], is_strict=False)
    prices = [price for _, price, _ in levels(np.concatenate(list(feed.chunks())))]
    assert prices == [10 * (100 + us) for us in range(20) if us not in (5, 11, 13)]
    assert feed.findings.dropped == {"bad price": 1, "fields": 1, "bad side": 1}
    assert sorted(fault.error.line for fault in feed.findings.faults) == [7, 13, 15]
