"""Recordings of single orders: Luno, Bitstamp, LOBSTER and Databento as rows, and what is found wrong with them.

Luno and Bitstamp are real recordings, Databento's files its own test data.  No LOBSTER sample could be had: those files
are made here, by hand, after its published description.
"""

import gzip
import json
from collections import Counter
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import Exchange, codes
from engine.codes import REJECTED, ROW_ADD, ROW_CLEAR, ROW_DELETE, ROW_FILL, ROW_LEVEL, ROW_TRADE
from engine.contract import Market, Tier
from engine.errors import DataError, MissingExtraError
from engine.feeds import bitstamp, databento, open_feed
from engine.feeds.inspect import inspect_tape
from engine.feeds.instruments import Findings, Instruments
from engine.feeds.lobster import count_time
from engine.feeds.orders import OrderBook, OrderError
from engine.feeds.tape import RowBuilder
from engine.layout import RECORD

LUNO = "data/luno_l3_20210713/Luno-XBTZAR-Websocket-Log.txt.gz"
BITSTAMP = "data/bitstamp_l3_20260502"
DBN = "data/databento_dbn_fixtures/tests/data"


def make_market(symbol, tick="1", lot="0.000001", price_max=200_000, **changes):
    tiers = (Tier(floor=Decimal(0), initial=Decimal("0.01"), maintenance=Decimal("0.005")),)
    sizes = {"tick_size": Decimal(tick), "lot_size": Decimal(lot), "price_max": Decimal(price_max), **changes}
    return Market(symbol=symbol, tiers=tiers, **sizes)


def play(path, market, **options):
    """Apply a recording; nothing of it may be refused.  Return the exchange, the commands and the feed."""
    feed = open_feed(path, [market], **options)
    exchange, told = Exchange([market]), []
    for chunk in feed.chunks():
        events = exchange.apply(chunk)
        refused = events[events["kind"] == REJECTED]
        assert not len(refused), Counter(codes.REJECTS[code][0] for code in refused["code"].tolist())
        told.append(chunk)
    return exchange, np.concatenate(told), feed


def read_rows(path, **options):
    feed = open_feed(path, **options)
    return np.concatenate([np.zeros(0, RECORD), *feed.records()]), feed


def tell(rows, *kinds):
    """Return [(kind's name, side, price, qty, id)] of rows, of some kinds or all."""
    fields = rows[["kind", "side", "price", "qty", "id"]].tolist()
    return [(codes.ROW_NAMES[kind], *rest) for kind, *rest in fields if not kinds or kind in kinds]


def first_fault(path, **options):
    with pytest.raises(DataError) as caught:
        inspect_tape(path, is_strict=True, **options)
    return caught.value


# ---------------------------------------------------------------- the book of orders


@pytest.fixture
def desk():
    """Return an order book, its rows and its findings."""
    findings = Findings()
    builder = RowBuilder(findings)
    book = OrderBook(Instruments([make_market("X")]).find("venue", "X"), builder, findings)
    book.begin(5, 4)
    return book, builder, findings


def test_orders_are_told_with_the_levels_they_make(desk):
    """One message: each order's row, then the total of every level it touched, the last one ending it.

    Source: FEED-045.
    """
    book, builder, _ = desk
    book.add(1, 1, 100, 5)
    book.add(2, 1, 100, 3)
    book.add(3, -1, 102, 4)
    book.delete(1)
    book.change(3, 103, 4)
    book.end()
    rows = builder.build()
    assert tell(rows) == [
        ("add", 1, 100, 5, 1),
        ("add", 1, 100, 3, 2),
        ("add", -1, 102, 4, 3),
        ("delete", 1, 100, 5, 1),
        ("change", -1, 103, 4, 3),
        ("level", 1, 100, 3, 0),
        ("level", -1, 102, 0, 0),
        ("level", -1, 103, 4, 0),
    ]
    assert (rows["flags"] & codes.ENDS_MESSAGE != 0).tolist() == [False] * 7 + [True]
    assert set(rows["ts_ns"].tolist()) == {5}
    assert set(rows["exchange_ns"].tolist()) == {4}


def test_a_fill_is_compared_with_best_price_and_first_in_time(desk):
    """Less of it keeps its place, more of it and another price lose it; unnamed quantity was there first.

    Source: FEED-045, FEED-046.
    """
    book, _, findings = desk
    names = ("trades_checked", "trades_at_best", "trades_first_in_time")

    def counts():
        return tuple(findings.counts[name] for name in names)

    for number in (1, 2, 3):
        book.add(number, -1, 100, 10)
    book.add(4, -1, 101, 10)
    book.change(1, 100, 6)
    book.fill(1, 6)
    assert counts() == (1, 1, 1)
    book.fill(3, 1)
    assert counts() == (2, 2, 1)
    book.fill(4, 1)
    assert counts() == (3, 2, 2)
    book.change(2, 100, 11)
    book.fill(3, 1)
    assert counts() == (4, 3, 3)
    book.set_total(-1, 100, 25)
    book.fill(3, 1)
    assert counts() == (5, 4, 3)
    assert 1 not in book.orders


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (lambda book: book.delete(9), "unknown order"),
        (lambda book: book.fill(9, 1), "unknown order"),
        (lambda book: book.change(9, 100, 1), "unknown order"),
        (lambda book: book.reduce_unnamed(1, 100, 1), "unknown order"),
        (lambda book: book.add(1, 1, 100, 5), "duplicate id"),
        (lambda book: book.add(2, 1, 100, 0), "bad quantity"),
        (lambda book: book.fill(1, 6), "bad quantity"),
        (lambda book: book.fill(1, 0), "bad quantity"),
        (lambda book: book.change(1, 100, -1), "bad quantity"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(desk, act, reason):
    """Source: FEED-045."""
    book, builder, findings = desk
    book.add(1, 1, 100, 5)
    book.end()
    builder.build()
    with pytest.raises(OrderError) as caught:
        act(book)
    assert caught.value.reason == reason
    book.end()
    assert not len(builder)
    assert (book.total(1, 100), list(book.orders)) == (5, [1])
    assert not findings.counts["trades_checked"]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9), st.integers(97, 103), st.integers(1, 9)), max_size=60))
def test_levels_are_the_sums_of_their_orders(steps):
    """Whatever happens, what was told last of each level is the sum of the orders there.

    Source: FEED-045.
    """
    findings = Findings()
    builder = RowBuilder(findings)
    book = OrderBook(Instruments([make_market("X")]).find("venue", "X"), builder, findings)
    told = {}
    for kind, number, price, qty in steps:
        side = 1 if price < 100 else -1
        acts = (
            lambda n=number, s=side, p=price, q=qty: book.add(n, s, p, q),
            lambda n=number: book.delete(n),
            lambda n=number, q=qty: book.fill(n, q),
            lambda n=number, p=price, q=qty: book.change(n, p, q),
            lambda s=side, p=price: book.drop_reached(s, p),
            book.clear,
        )
        book.begin(1, 1)
        try:
            acts[kind]()
        except OrderError:
            continue
        finally:
            book.end()
            for row in builder.build():
                if row["kind"] == ROW_CLEAR:
                    told.clear()
                elif row["kind"] == ROW_LEVEL:
                    told[int(row["side"]), int(row["price"])] = int(row["qty"])
        sums = Counter()
        for order in book.orders.values():
            sums[order.side, order.price_tick] += order.qty_lot
        assert {key: qty for key, qty in told.items() if qty} == dict(sums)
        for side in (1, -1):
            prices = [price for (at, price) in sums if at == side]
            assert book.find_best(side) == side * max((side * price for price in prices), default=0)


# ---------------------------------------------------------------- Luno


def test_luno_is_what_we_say_it_is(shared):
    """9,892 messages without a gap or a crossing; every trade at the best price, with the first in time.

    Source: FEED-046, FEED-047.
    """
    facts = inspect_tape(shared / LUNO, is_strict=True)
    assert (facts["rows"], facts["gaps"], facts["resets"], facts["crossed"]) == (9_892, 0, 0, 0)
    assert [facts[f"trades_{name}"] for name in ("checked", "at_best", "first_in_time")] == [48, 48, 48]
    assert (facts["dropped"], facts["symbols"], facts["resting_orders"]) == (0, ["XBTZAR"], 15_182)


def test_luno_makes_the_exchanges_book(shared):
    """The levels left are those of the orders left, added up from the messages without any of our code.

    Source: FEED-045, FEED-047.
    """
    market = make_market("XBTZAR", price_max=150_000_000, quote_unit=Decimal("0.000001"))
    exchange, told, feed = play(shared / LUNO, market)
    assert (told["kind"] == codes.PRINT).sum() == 48
    with gzip.open(shared / LUNO, "rt") as file:
        snapshot, *messages = map(json.loads, file)
    left = {o["id"]: [key, o["price"], Decimal(o["volume"])] for key in ("bids", "asks") for o in snapshot[key]}
    for message in messages:
        for fill in message["trade_updates"]:
            left[fill["maker_order_id"]][2] -= Decimal(fill["base"])
        if new := message["create_update"]:
            key = "bids" if new["type"] == "BID" else "asks"
            left[new["order_id"]] = [key, new["price"], Decimal(new["volume"])]
        if gone := message["delete_update"]:
            del left[gone["order_id"]]
    depth = exchange.depth(0, 1 << 20)
    for key, is_bid in (("bids", True), ("asks", False)):
        sums = Counter()
        for at, price, volume in left.values():
            if at == key and Decimal(price) <= 150_000_000:
                sums[int(Decimal(price))] += int(volume * 10**6)
        assert depth[key] == sorted(((p, q) for p, q in sums.items() if q), reverse=is_bid)
    assert len(feed.instruments) == 1


def luno(sequence, ms=1_000, trades=(), new=None, gone=None, **extra):
    message = {"sequence": str(sequence), "timestamp": ms, "trade_updates": list(trades)}
    return {**message, "create_update": new, "delete_update": gone and {"order_id": gone}, **extra}


def luno_order(name, side="BID", price="100.00", volume="1.0"):
    return {"order_id": name, "type": side, "price": price, "volume": volume}


def luno_trade(maker, base="0.5", counter="50.00"):
    return {"base": base, "counter": counter, "maker_order_id": maker, "taker_order_id": "T", "order_id": maker}


LUNO_START = {
    "sequence": "7",
    "asks": [{"id": "A", "price": "101.00", "volume": "2.0"}],
    "bids": [{"id": "B", "price": "100.00", "volume": "1.0"}, {"id": "C", "price": "100.00", "volume": "3.0"}],
    "status": "ACTIVE",
    "timestamp": 1_000,
}


def write_luno(folder, *messages, name="luno-XBTZAR.txt"):
    path = folder / name
    path.write_text("\n".join(json.dumps(m, separators=(",", ":")) for m in messages) + "\n")
    return path


def test_luno_applies_trades_then_what_rests_then_what_goes(tmp_path):
    """Source: FEED-047."""
    update = luno(8, 1_001, [luno_trade("B")], luno_order("D", "ASK", "100.50", "0.25"), "C")
    rows, _ = read_rows(write_luno(tmp_path, LUNO_START, update), decimals={("luno", "XBTZAR"): (1, 2)})
    told = [row[:4] for row in tell(rows[rows["ts_ns"] == 1_001_000_000])]
    assert told == [
        ("fill", 1, 1000, 50),
        ("trade", -1, 1000, 50),
        ("add", -1, 1005, 25),
        ("delete", 1, 1000, 300),
        ("level", 1, 1000, 50),
        ("level", -1, 1005, 25),
    ]


@pytest.mark.parametrize(
    ("message", "place", "found"),
    [
        (luno(9), "luno-XBTZAR.txt:2: field 'sequence': expected 8, got 9", {"gaps": 1}),
        (luno(8, gone="Z"), "luno-XBTZAR.txt:2: field 'order_id': expected an order that rests", {"unknown order": 1}),
        (luno(8, new=luno_order("D", volume="-1")), "luno-XBTZAR.txt:2: field 'type'", {"bad type": 1}),
        (luno(8, new=luno_order("D", volume="0")), "luno-XBTZAR.txt:2: field 'type'", {"bad type": 1}),
        (luno(8, new=luno_order("D", price="x")), "luno-XBTZAR.txt:2: field 'type'", {"bad type": 1}),
        (luno(8, new=luno_order("D", side="SIDE")), "expected BID or ASK", {"bad side": 1}),
        (luno(8, new=luno_order("B")), "expected an id of no resting order", {"duplicate id": 1}),
        (luno(8, trades=[luno_trade("Z")]), "field 'maker_order_id'", {"unknown order": 1}),
        (luno(8, trades=[luno_trade("B", "5.0", "500")]), "lots, got", {"bad quantity": 1}),
        (luno(8, trades=[luno_trade("B", counter="51")]), "got 51", {"bad counter": 1}),
        (luno(8, 999), "luno-XBTZAR.txt:2: field 'timestamp': expected 1000000000 ns or later", {"reversed_local": 1}),
        (luno("8x"), "field 'sequence': expected a number", {"bad sequence": 1}),
        ({"sequence": 8}, "luno-XBTZAR.txt:2: expected a message of Luno's", {"json": 1}),
    ],
)
def test_luno_faults_are_counted_or_raised(tmp_path, message, place, found):
    """Lenient: one fault, by name; strict: an error with its place.

    Source: FEED-047, FEED-003.
    """
    path = write_luno(tmp_path, LUNO_START, message)
    facts = inspect_tape(path)
    names = {name: facts["dropped_by"].get(name) or facts.get(name) for name in found}
    assert (names, len(facts["faults"])) == (found, 1)
    assert place in str(first_fault(path))


def test_luno_begins_anew_with_another_snapshot(tmp_path):
    """It replaces the book, whatever was lost before it, and is a reset.

    Source: FEED-047.
    """
    path = write_luno(tmp_path, LUNO_START, luno(8, gone="A"), LUNO_START | {"sequence": "20"}, luno(21, gone="A"))
    facts = inspect_tape(path, is_strict=True)
    assert (facts["resets"], facts["gaps"], facts["resting_orders"]) == (1, 0, 2)


def test_luno_needs_its_pair_and_a_whole_message(tmp_path):
    """Source: FEED-047."""
    assert "expected the pair in the file's name" in str(first_fault(write_luno(tmp_path, LUNO_START, name="x.txt")))
    path = tmp_path / "luno-XBTZAR.txt"
    path.write_text('{"sequence":"1","asks":[{"id":"A","pri')
    assert "luno-XBTZAR.txt:1: expected a message" in str(first_fault(path))


# ---------------------------------------------------------------- Bitstamp


@pytest.fixture(scope="module")
def bitstamp_facts(shared):
    return inspect_tape(shared / BITSTAMP)


def test_bitstamp_is_what_we_say_it_is(bitstamp_facts):
    """314,057 order rows, 284 trades, one row out of order, 29 prices that are none, two stale asks, no crossing.

    13 orders were created in the hole between snapshot and stream; the other two rows dropped are the recorder's own
    closing rows of the stale asks.
    Source: FEED-046, FEED-048.
    """
    facts = bitstamp_facts
    assert facts["streams"] == {"orders": 314_057, "trades": 284}
    assert (facts["reversed_local"], facts["sentinel_prices"], facts["stale_orders"]) == (1, 29, 2)
    assert (facts["dropped_by"], facts["crossed"], facts["gaps"]) == ({"unknown order": 13 + 2}, 0, 0)
    assert [facts[f"trades_{name}"] for name in ("checked", "at_best", "first_in_time")] == [284, 284, 283]
    assert facts["resting_orders"] == 0


def test_bitstamp_with_its_stale_asks_is_the_naive_book(shared, monkeypatch):
    """Where nothing is ever stale, 281 of 284 trades are with the oldest order of their price; 146 at the best price.

    Source: FEED-048.
    """
    monkeypatch.setattr(OrderBook, "drop_reached", lambda *_: 0)
    feed = open_feed(shared / BITSTAMP / "orders.csv.gz", is_strict=False, decimals={("bitstamp", "btcusd"): (0, 8)})
    for _ in feed.records():
        pass
    counts = feed.findings.counts
    assert [counts[f"trades_{name}"] for name in ("checked", "at_best", "first_in_time")] == [284, 146, 281]


def test_bitstamp_makes_the_exchanges_book(shared):
    """In strict mode the row out of order is an error; else everything is played, and every trade printed.

    One order, of 138,800 BTC at 1, is more than a level may hold: its two rows are left out; 94 times the orders of a
    level are together.
    Source: FEED-045, FEED-048.
    """
    assert "orders.csv.gz:6514: field 'timestamp': expected 1777689383201 or later" in str(
        first_fault(shared / BITSTAMP)
    )
    market = make_market("btcusd", lot="0.00000001", quote_unit=Decimal("0.00000001"))
    exchange, told, feed = play(shared / BITSTAMP, market, is_strict=False)
    assert feed.findings.dropped == {"bad volume": 2, "unknown order": 13 + 2}
    assert feed.findings.counts["levels_held"] == 94
    assert (told["kind"] == codes.PRINT).sum() == 284
    assert exchange.depth(0) == {"bids": [], "asks": []}
    assert feed.counts["crossed"] == 0


ORDERS = ",".join(bitstamp.ORDERS)


def write_bitstamp(folder, *rows, name="btcusd_orders.csv", header=ORDERS):
    path = folder / name
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def bitstamp_row(number, ms, price, volume, action="created", side="bid", heard=None):
    return f"{number},{heard or ms + 70},{ms},{price},{volume},{action},{side}"


def test_bitstamp_orders_on_their_way_are_not_in_the_book(tmp_path):
    """A taker is seen with its limit, then with what is left; it rests once the venue's clock has moved on.

    Source: FEED-048.
    """
    rows, feed = read_rows(
        write_bitstamp(
            tmp_path,
            bitstamp_row(1, 1000, "101.0", "2", side="ask"),
            bitstamp_row(2, 1001, "105.0", "3"),
            bitstamp_row(2, 1001, "101.0", "1", "changed"),
            bitstamp_row(1, 1001, "101.0", "0.0", "deleted", "ask"),
            bitstamp_row(3, 1002, "999999999", "0"),
            bitstamp_row(3, 1002, "999999999", "0", "deleted"),
        ),
        decimals={("bitstamp", "btcusd"): (0, 0)},
    )
    assert tell(rows, ROW_ADD, ROW_FILL, ROW_DELETE) == [
        ("add", -1, 101, 2, 1),
        ("fill", -1, 101, 2, 1),
        ("add", 1, 105, 1, 2),
    ]
    assert feed.findings.counts["trades_first_in_time"] == 1
    assert feed.findings.counts["sentinel_prices"] == 1


def test_bitstamp_drops_what_an_order_at_rest_reaches(tmp_path):
    """A post-only order that crosses goes in the next row and moves nothing; one that stays shows what is stale.

    Source: FEED-048.
    """
    rows, feed = read_rows(
        write_bitstamp(
            tmp_path,
            bitstamp_row(1, 1000, "101.0", "2", side="ask"),
            bitstamp_row(2, 1001, "102.0", "3"),
            bitstamp_row(2, 1001, "102.0", "3", "deleted"),
            bitstamp_row(3, 1002, "102.0", "4"),
            bitstamp_row(4, 1003, "90.0", "1"),
        ),
        decimals={("bitstamp", "btcusd"): (0, 0)},
    )
    assert [row[0] + str(row[4]) for row in tell(rows, ROW_ADD, ROW_DELETE)] == ["add1", "delete1", "add3", "add4"]
    assert feed.findings.counts["stale_orders"] == 1


@pytest.mark.parametrize(
    ("row", "place", "reason"),
    [
        (bitstamp_row(1, 1000, "100", "-1"), ":3: field 'volume'", "bad volume"),
        (bitstamp_row(1, 1000, "-3", "1"), ":3: field 'price'", "bad price"),
        (bitstamp_row(1, 1000, "100", "1", "moved"), ":3: field 'action': expected created or changed", "bad action"),
        (bitstamp_row("x", 1000, "100", "1"), ":3: field 'id'", "bad id"),
        (bitstamp_row(9, 1000, "100", "1"), ":3: field 'id': expected an id of no resting order", "duplicate id"),
        (bitstamp_row(8, 1000, "100", "1", "deleted"), ":3: field 'id': expected an order that rests", "unknown order"),
        (bitstamp_row(9, 1000, "100", "6", "changed"), ":3: field 'id': expected 1 to", "bad quantity"),
        ("1,2,3", ":3: expected 7 fields", "fields"),
    ],
)
def test_bitstamp_faults_are_counted_or_raised(tmp_path, row, place, reason):
    """Source: FEED-048, FEED-003."""
    path = write_bitstamp(tmp_path, bitstamp_row(9, 999, "100", "5"), row)
    assert inspect_tape(path)["dropped_by"] == {reason: 1}
    assert place in str(first_fault(path))


def test_bitstamp_needs_its_pair(tmp_path):
    """Source: FEED-048."""
    path = write_bitstamp(tmp_path, bitstamp_row(9, 999, "100", "5"), name="orders.csv")
    assert "expected the pair in the file's name" in str(first_fault(path))
    (tmp_path / "meta.json").write_text('{"pair": "ethusd"}')
    assert inspect_tape(path)["symbols"] == ["ethusd"]
    (tmp_path / "meta.json").write_text("{}")
    assert "meta.json: field 'pair'" in str(first_fault(path))


# ---------------------------------------------------------------- LOBSTER

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


# ---------------------------------------------------------------- Databento

SCHEMAS = {"mbo": 2, "trades": 2, "tbbo": 2, "mbp-1": 2, "mbp-10": 2, "bbo-1s": 4, "bbo-1m": 4}


def list_fixtures(shared, schema=None):
    pytest.importorskip("databento_dbn")
    pytest.importorskip("zstandard")
    files = sorted((shared / DBN).iterdir())
    return [file for file in files if schema is None or file.name.startswith(f"test_data.{schema}.")]


@pytest.mark.parametrize("schema", SCHEMAS)
def test_databento_reads_its_fixtures_of_every_version(shared, schema):
    """Each schema's files of every version tell the same records of ESH1, whatever they are packed in.

    Source: FEED-051.
    """
    files = [file for file in list_fixtures(shared, schema) if not file.name.endswith(".dbz")]
    assert len(files) >= 3
    told = set()
    for file in files:
        rows, feed = read_rows(file, decimals={("GLBX.MDP3", "ESH1"): (2, 0)})
        assert dict(feed.findings.rows) == {schema: SCHEMAS[schema]}
        facts = inspect_tape(file, is_strict=True)
        assert (facts["symbols"], facts["dropped"], facts["gaps"]) == (["ESH1"], 0, 0)
        assert facts["files"][0]["exchange"] == "GLBX.MDP3"
        told.add(rows.tobytes())
    assert len(told) == 1


def test_databento_tells_trades_quotes_and_ladders(shared):
    """Prices are billionths, sizes whole; a ladder is a book of its own.

    Source: FEED-051.
    """
    at = {schema: list_fixtures(shared, schema)[0] for schema in ("trades", "mbp-1", "mbp-10", "tbbo")}
    rows = {schema: read_rows(file, decimals={("GLBX.MDP3", "ESH1"): (2, 0)})[0] for schema, file in at.items()}
    assert tell(rows["trades"])[-1][:4] == ("trade", -1, 372_025, 21)
    assert rows["trades"]["ts_ns"][-1] == 1_609_160_400_108_142_648
    assert rows["trades"]["exchange_ns"][-1] == 1_609_160_400_107_665_963
    assert [row[:4] for row in tell(rows["mbp-1"])[-2:]] == [("quote", 1, 372_025, 24), ("quote", -1, 372_050, 12)]
    assert [row[0] for row in tell(rows["tbbo"])] == ["trade", "quote", "quote"] * 2
    ladder = rows["mbp-10"][-21:]
    assert [row[0] for row in tell(ladder)] == ["clear"] + ["level"] * 20
    assert ladder["flags"][-1] & codes.ENDS_MESSAGE
    assert [row[:4] for row in tell(ladder)][1] == ("level", 1, 372_025, 24)


@pytest.mark.parametrize("schema", ["mbp-10", "trades"])
def test_databento_plays_in_an_exchange(shared, schema):
    """Source: FEED-051."""
    market = make_market("ESH1", "0.25", "1", 20_000, quote_unit=Decimal("0.01"))
    exchange, told, _ = play(list_fixtures(shared, schema)[0], market)
    if schema == "mbp-10":
        assert exchange.depth(0)["bids"][0] == (14_881, 24)
        assert len(exchange.depth(0, 20)["asks"]) == 10
    else:
        assert told["kind"].tolist() == [codes.PRINT] * 2


def test_databento_refuses_the_others_by_name(shared):
    """Source: FEED-051."""
    refused = [file for file in list_fixtures(shared) if file.name.split(".")[1] not in SCHEMAS or ".dbz" in file.name]
    assert len(refused) > 40
    for file in refused:
        with pytest.raises(DataError) as caught:
            open_feed(file)
        schema = file.name.split(".")[1]
        said = "DBZ" if ".dbz" in file.name else "fragment" if ".frag" in file.name else f"got {schema}"
        assert said in str(caught.value)


def make_dbn(*records, schema="mbo", start=0):
    dbn = pytest.importorskip("databento_dbn")
    metadata = dbn.Metadata(
        dataset="XEUR.EOBI",
        start=start,
        stype_out=dbn.SType.INSTRUMENT_ID,
        stype_in=dbn.SType.RAW_SYMBOL,
        schema=dbn.Schema.from_str(schema),
        symbols=["X"],
        partial=[],
        not_found=[],
        mappings=[],
        ts_out=False,
        version=3,
    )
    return bytes(metadata.encode()) + b"".join(bytes(record) for record in records)


def mbo(action, side, number=1, price=100, size=1, flags=128, ts=1_000, instrument=7):
    dbn = pytest.importorskip("databento_dbn")
    return dbn.MBOMsg(
        publisher_id=1,
        instrument_id=instrument,
        ts_event=ts - 5,
        order_id=number,
        price=price * 10**9,
        size=size,
        action=dbn.Action.from_str(action) if hasattr(dbn.Action, "from_str") else dbn.Action(action),
        side=dbn.Side.from_str(side) if hasattr(dbn.Side, "from_str") else dbn.Side(side),
        ts_recv=ts,
        flags=flags,
        channel_id=0,
        ts_in_delta=0,
        sequence=0,
    )


def write_dbn(folder, *records, **options):
    path = folder / "x.mbo.dbn"
    path.write_bytes(make_dbn(*records, **options))
    return path


def test_databento_fills_are_checked_where_they_happen(tmp_path):
    """A trade's fills come before the cancels that take them out: the second of them is the first in time then.

    Source: FEED-046, FEED-051.
    """
    path = write_dbn(
        tmp_path,
        mbo("R", "N"),
        mbo("A", "A", 1, 100, 5),
        mbo("A", "A", 2, 100, 5),
        mbo("A", "A", 3, 101, 5),
        mbo("T", "B", 0, 101, 12, flags=0),
        mbo("F", "A", 1, 100, 5, flags=0),
        mbo("F", "A", 2, 100, 5, flags=0),
        mbo("F", "A", 3, 101, 2, flags=0),
        mbo("C", "A", 1, 100, 5, flags=0),
        mbo("C", "A", 2, 100, 5, flags=0),
        mbo("C", "A", 3, 101, 2),
        mbo("C", "A", 3, 101, 1, ts=2_000),
        mbo("M", "A", 3, 102, 2, ts=3_000),
    )
    rows, feed = read_rows(path, decimals={("XEUR.EOBI", "7"): (0, 0)})
    assert [feed.findings.counts[f"trades_{name}"] for name in ("checked", "at_best", "first_in_time")] == [3, 3, 3]
    assert tell(rows, ROW_TRADE) == [("trade", 1, 101, 12, 0)]
    assert [row[2:4] for row in tell(rows[rows["ts_ns"] == 1_000], ROW_LEVEL)] == [
        (100, 5),
        (100, 10),
        (101, 5),
        (100, 0),
        (101, 3),
    ]
    assert tell(rows[rows["ts_ns"] == 3_000], ROW_LEVEL) == [("level", -1, 101, 0, 0), ("level", -1, 102, 2, 0)]
    assert feed.findings.counts["fills_alone"] == 0


@pytest.mark.parametrize(
    ("record", "found"),
    [
        (("C", "A", 9), {"unknown order": 1}),
        (("F", "A", 1, 100, 9), {"bad quantity": 1}),
        (("A", "A", 1, 100, 5), {"duplicate id": 1}),
        (("A", "N", 2, 100, 5), {"bad side": 1}),
        (("A", "A", 2, -5, 5), {"bad price": 1}),
        (("A", "A", 2, 100, 0), {"bad quantity": 1}),
        (("A", "A", 2, 100, 5, 128 | 4), {"gaps": 1}),
        (("A", "A", 2, 100, 5, 128, 900), {"reversed_local": 1}),
    ],
)
def test_databento_faults_are_counted_or_raised(tmp_path, record, found):
    """Source: FEED-051, FEED-003."""
    path = write_dbn(tmp_path, mbo("R", "N"), mbo("A", "A", 1, 100, 5), mbo(*record))
    facts = inspect_tape(path)
    names = {name: facts["dropped_by"].get(name) or facts.get(name) for name in found}
    assert (names, len(facts["faults"])) == (found, 1)
    assert "x.mbo.dbn:3" in str(first_fault(path))


def test_databento_orders_from_before_the_recording_are_counted(tmp_path):
    """A recording without the book it begins with may cancel what it never told.

    Source: FEED-051.
    """
    facts = inspect_tape(write_dbn(tmp_path, mbo("C", "A", 9), mbo("A", "B", 1)), is_strict=True)
    assert (facts["unknown_orders"], facts["dropped"]) == (1, 0)


def test_databento_refuses_broken_files(tmp_path, monkeypatch):
    """Cut off inside a record, metadata that claims more than is allowed, two schemas at once, no library.

    Source: FEED-051.
    """
    whole = make_dbn(mbo("R", "N"), mbo("A", "A", 1, 100, 5))
    path = tmp_path / "x.mbo.dbn"
    path.write_bytes(whole[:-7])
    assert "the file ends inside of one" in str(first_fault(path))
    path.write_bytes(whole[:60])
    assert "the file ends inside of one" in str(first_fault(path))
    path.write_bytes(b"DBN\x03" + b"\xff" * 100)
    assert "expected metadata of at most" in str(first_fault(path))
    path.write_bytes(whole)
    (tmp_path / "y.trades.dbn").write_bytes(make_dbn(schema="trades"))
    assert "expected files of one schema, got mbo and trades" in str(first_fault(tmp_path))
    monkeypatch.setitem(__import__("sys").modules, "databento_dbn", None)
    with pytest.raises(MissingExtraError, match=r"perp-engine\[databento\]"):
        databento.require_library(path)
