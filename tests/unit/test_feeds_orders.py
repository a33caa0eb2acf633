"""Recordings of single orders: their book; Luno and Bitstamp, which are real, as rows, and what is wrong with them."""

import gzip
import json
from collections import Counter
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import Exchange, codes
from engine.codes import REJECTED, ROW_ADD, ROW_CLEAR, ROW_DELETE, ROW_FILL, ROW_LEVEL
from engine.contract import Market, Tier
from engine.errors import DataError
from engine.feeds import bitstamp, open_feed
from engine.feeds.inspect import inspect_tape
from engine.feeds.instruments import Findings, Instruments
from engine.feeds.orders import OrderBook, OrderError
from engine.feeds.tape import RowBuilder
from engine.layout import RECORD

LUNO = "data/luno_l3_20210713/Luno-XBTZAR-Websocket-Log.txt.gz"
BITSTAMP = "data/bitstamp_l3_20260502"


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
