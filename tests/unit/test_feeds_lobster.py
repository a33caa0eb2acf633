"""LOBSTER's messages and book files as rows, and what is found wrong with them.

No sample could be had: the files are made here, by hand, after its published description.
"""

from decimal import Decimal

import pytest

from engine import codes
from engine.codes import ROW_DELETE, ROW_LEVEL, ROW_TRADE
from engine.feeds.inspect import inspect_tape
from engine.feeds.lobster import count_time
from tests.unit.test_feeds_orders import first_fault, make_market, play, read_rows, tell

MIDNIGHT_NS = 1_340_251_200_000_000_000  # 2012-06-21 in New York, in summer
NAME = "AAPL_2012-06-21_34200000_57600000_{}_2.csv"
NONE_BELOW = "9999999999,0,-9999999999,0"
MESSAGES = [
    "34200.004241176,1,16113575,18,5853300,1",
    "34200.025551909,1,16113584,18,5853400,1",
    "34200.1,4,16113584,10,5853400,1",
    "34200.2,5,0,7,5853700,-1",
    "34200.3,2,16113575,3,5853300,1",
    "34200.4,4,111,40,5859400,-1",
    "34200.5,3,16113584,8,5853400,1",
    "34201,7,0,0,-1,-1",
    "34300,6,-1,500,5855000,-1",
    "34300.5,7,0,0,1,-1",
]
BOOKS = [
    "5859400,100,5853300,18,5859800,5,5853000,150",
    "5859400,100,5853400,18,5859800,5,5853300,18",
    "5859400,100,5853400,8,5859800,5,5853300,18",
    "5859400,100,5853400,8,5859800,5,5853300,18",
    "5859400,100,5853400,8,5859800,5,5853300,15",
    "5859400,60,5853400,8,5859800,5,5853300,15",
    "5859400,60,5853300,15,5859800,5,5853000,150",
    "5859400,60,5853300,15,5859800,5,5853000,150",
    "5859400,60,5853300,15,5859800,5,5853000,150",
    "5859400,60,5853300,15,5859800,5,5853000,150",
]


def write_lobster(folder, messages=MESSAGES, books=None):
    path = folder / NAME.format("message")
    path.write_text("\n".join(messages) + "\n")
    if books:
        (folder / NAME.format("orderbook")).write_text("\n".join(books) + "\n")
    return path


def test_lobster_messages_become_orders_and_trades(tmp_path):
    """Stamps are New York's, prices ten thousandths; hidden executions and crosses are off the market.

    Source: FEED-046, FEED-050.
    """
    path = write_lobster(tmp_path)
    rows, feed = read_rows(path, decimals={("nasdaq", "AAPL"): (2, 0)})
    assert rows["ts_ns"][1] == MIDNIGHT_NS + 34_200_004_241_176
    assert tell(rows, ROW_TRADE) == [
        ("trade", -1, 58534, 10, 16113584),
        ("trade", 1, 58537, 7, 0),
        ("trade", 1, 58594, 40, 111),
        ("trade", 0, 58550, 500, -1),
    ]
    off = rows[rows["kind"] == ROW_TRADE]["flags"] & codes.OFF_MARKET
    assert (off != 0).tolist() == [False, True, False, True]
    counts = feed.findings.counts
    assert (counts["halts"], counts["unknown_orders"], counts["trades_first_in_time"]) == (1, 1, 1)
    assert counts["resting_orders"] == 1


def test_lobster_is_checked_against_its_book_file(tmp_path):
    """What the first row tells without orders was there before; later rows must agree, and their best prices do.

    Source: FEED-050.
    """
    facts = inspect_tape(write_lobster(tmp_path, books=BOOKS).parent, is_strict=True)
    assert (facts["rows"], facts["book_checked"], facts["book_equal"]) == (10, 9, 9)
    assert facts["bbo_checked"] == facts["bbo_equal"] > 0
    wrong = [*BOOKS[:4], BOOKS[4].replace(",15", ",14"), *BOOKS[5:]]
    facts = inspect_tape(write_lobster(tmp_path, books=wrong).parent)
    assert (facts["book_checked"], facts["book_equal"]) == (9, 7)


def test_lobster_takes_the_book_file_where_they_differ(tmp_path):
    """A level nobody canceled and the file no longer has is gone; fewer than its orders: all of them are unnamed.

    Source: FEED-050.
    """
    messages = ["34200.1,1,1,10,5853300,1", "34200.2,1,2,5,5853400,1", "34200.3,1,3,5,5859000,-1"]
    first = f"9999999999,0,5853300,10,{NONE_BELOW}"
    rows, feed = read_rows(
        write_lobster(tmp_path, messages, [first, first, f"5859000,5,5853300,4,{NONE_BELOW}"]),
        decimals={("nasdaq", "AAPL"): (2, 0)},
    )
    assert tell(rows[rows["ts_ns"] == rows["ts_ns"][-1]], ROW_DELETE, ROW_LEVEL) == [
        ("delete", 1, 58533, 10, 1),
        ("level", -1, 58590, 5, 0),
        ("level", 1, 58533, 4, 0),
    ]
    assert (feed.findings.counts["book_checked"], feed.findings.counts["book_equal"]) == (2, 0)
    assert list(feed.findings.dropped) == []
    assert feed.findings.counts["resting_orders"] == 1


def test_lobster_makes_the_exchanges_book(tmp_path):
    """Source: FEED-045, FEED-050."""
    market = make_market("AAPL", "0.01", "1", 2_000, quote_unit=Decimal("0.01"))
    exchange, told, _ = play(write_lobster(tmp_path, books=BOOKS), market)
    depth = exchange.depth(0)
    assert depth == {"bids": [(58533, 15), (58530, 150)], "asks": [(58594, 60), (58598, 5)]}
    assert (told["kind"] == codes.PRINT).sum() == 4


@pytest.mark.parametrize(
    ("row", "place", "reason"),
    [
        ("34200.6,1,5,-3,5853300,1", ":11: field 'size'", "bad size"),
        ("34300.6,1,5,0,5853300,1", ":11: field 'size'", "bad size"),
        ("34300.6,1,5,3,-5,1", ":11: field 'price'", "bad price"),
        ("34300.6,4,5,3,0,1", ":11: field 'size': expected a price and a size", "bad price"),
        ("34300.6,8,5,3,5853300,1", ":11: field 'type'", "bad type"),
        ("34300.6,1,5,3,5853300,2", ":11: field 'direction'", "bad direction"),
        ("34300.1234567891,1,5,3,5853300,1", ":11: field 'time'", "bad time"),
        ("34300.6,4,16113575,99,5853300,1", ":11: field 'size': expected 1 to 15", "bad quantity"),
        ("34300.6,1,16113575,9,5853300,1", ":11: field 'size': expected an id of no", "duplicate id"),
        ("34300.6,1,5,9", ":11: expected 6 fields", "fields"),
    ],
)
def test_lobster_faults_are_counted_or_raised(tmp_path, row, place, reason):
    """Source: FEED-050, FEED-003."""
    path = write_lobster(tmp_path, [*MESSAGES, row])
    options = {"markets": [make_market("AAPL", "0.01", "1", 2_000)]}
    assert inspect_tape(path, **options)["dropped_by"] == {reason: 1}
    assert place in str(first_fault(path, **options))


def test_lobster_stamps_that_fall_are_counted_or_raised(tmp_path):
    """Source: FEED-050."""
    path = write_lobster(tmp_path, [*MESSAGES, "34200.6,1,5,3,5853300,1"])
    facts = inspect_tape(path)
    assert (facts["reversed_local"], facts["dropped"]) == (1, 0)
    assert ":11: field 'time'" in str(first_fault(path))


def test_lobster_files_are_what_their_names_say(tmp_path):
    """Source: FEED-050."""
    assert count_time("34200.5") == 34_200_500_000_000
    assert "expected 6 or 7 fields, got 3" in str(first_fault(write_lobster(tmp_path, ["1,2,3"])))
    assert "field 'time'" in str(first_fault(write_lobster(tmp_path, ["x,1,5,3,5853300,1"])))
    path = write_lobster(tmp_path, books=BOOKS[:-1])
    assert inspect_tape(path)["dropped_by"] == {"book row": 1}
    path.unlink()
    alone = tmp_path / NAME.format("orderbook")
    assert "expected the message file beside" in str(first_fault(alone))
    alone.write_text("1,2,3\n")
    assert "expected 8 fields, got 3" in str(first_fault(alone))


def test_lobster_has_a_seventh_column_in_some_files(tmp_path):
    """Source: FEED-050."""
    facts = inspect_tape(write_lobster(tmp_path, [f"{row},MPID" for row in MESSAGES]), is_strict=True)
    assert facts["rows"] == 10
