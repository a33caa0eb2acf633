"""Hyperliquid's and Lighter's websockets and node files, as recorders keep them."""

import json

import pytest

from engine import codes
from engine.errors import DataError
from engine.feeds import check_lighter_trades
from engine.feeds.inspect import inspect_tape
from tests.unit.test_feeds_captures import T0, S, gather, hyper, hyper_trade, kinds, told, write

# ---------------------------------------------------------------- Hyperliquid


def test_trades_from_before_a_subscription_are_not_told_again(tmp_path):
    """The first message of a coin, and whatever a new subscription repeats.

    Source: FEED-036.
    """
    messages = [
        hyper("trades", [hyper_trade(10), hyper_trade(20)]),
        hyper("trades", [hyper_trade(30, number=3), hyper_trade(30, number=4, side="A")]),
        hyper("trades", [hyper_trade(20), hyper_trade(30, number=4), hyper_trade(40, number=5)]),
    ]
    feed, rows = gather(write(tmp_path, messages))
    assert feed.findings.rows == {"hyperliquid earlier trades": 3, "hyperliquid trades": 4}
    assert rows["id"].tolist() == [3, 4, 4, 5]
    assert rows["side"].tolist() == [1, -1, 1, 1]


def test_every_book_of_hyperliquid_is_whole(tmp_path):
    """Source: FEED-036."""
    sides = [[{"px": "100.0", "sz": "1", "n": 1}], [{"px": "101.0", "sz": "1", "n": 1}]]
    empty = {"coin": "BTC", "time": T0 * 1000, "levels": [[], []]}
    whole = empty | {"levels": sides}
    feed, rows = gather(write(tmp_path, [hyper("l2Book", each) for each in (whole, whole, empty)]))
    assert kinds(rows) == ["clear", "level", "level"] * 2 + ["clear"]
    assert (feed.findings.counts["duplicate_books"], feed.findings.counts["resets"]) == (1, 0)
    assert rows["flags"][-1] == codes.IN_SNAPSHOT | codes.ENDS_MESSAGE
    bad = [hyper("l2Book", whole | {"levels": [sides[0], [{"px": "x", "sz": "1", "n": 1}]]})]
    assert inspect_tape(write(tmp_path, bad))["dropped_by"] == {"bad price": 1}


def test_contexts_are_funded_by_the_hour(tmp_path):
    """Source: FEED-037."""
    context = {"markPx": "100.2", "oraclePx": "100.4", "funding": "0.0000125", "openInterest": "7.5"}
    messages = [
        hyper("activeAssetCtx", {"coin": "BTC", "ctx": context}),
        hyper("bbo", {"coin": "BTC", "time": 1, "bbo": [None, None]}),
    ]
    rows = gather(write(tmp_path, messages))[1]
    assert kinds(rows) == ["funding", "interest", "index", "mark", "quote", "quote"]
    assert told(rows, "price", "qty")[:2] == [(12_500_000, (T0 // 3_600 + 1) * 3_600 * S), (0, 7_500_000)]
    assert told(rows, "side", "price", "qty")[4:] == [(1, 0, 0), (-1, 0, 0)]


def test_a_users_fill_tells_the_liquidation_it_is_of(tmp_path):
    """The order is the taker's: the user's own side, or the other one where he made the trade.

    Source: FEED-037.
    """
    found = {"liquidation": {"liquidatedUser": "0xa", "markPx": "100", "method": "market"}}
    fills = [node_fill("A", False, 1, **found), node_fill("A", True, 2, **found), node_fill("A", True, 3)]
    rows = gather(write(tmp_path, [hyper("userFills", {"user": "0xb", "fills": fills})]))[1]
    assert told(rows, "id", "side") == [(1, 1), (2, -1)]
    assert kinds(rows) == ["liquidation", "liquidation"]


def node_fill(side, crossed, number=1, **changes):
    fill = {"coin": "BTC", "px": "100.0", "sz": "2", "side": side, "time": T0 * 1000, "crossed": crossed, "tid": number}
    return fill | changes


def node_blocks(folder, *blocks):
    path = folder / "node_fills.jsonl"
    rows = [
        {"local_time": f"2023-11-14T22:13:{20 + at}.5", "block_time": "", "block_number": number, "events": events}
        for at, (number, events) in enumerate(blocks)
    ]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def test_node_fills_are_told_by_the_taker(tmp_path):
    """A trade; a liquidation in the book; one taken over by the vault; an ADL; half a trade; a block that is missing.

    Source: FEED-038.
    """
    market = {"liquidation": {"liquidatedUser": "0xb", "markPx": "100", "method": "market"}}
    vault = {"liquidation": {"liquidatedUser": "0xa", "markPx": "100", "method": "backstop"}}
    adl = {"dir": "Auto-Deleveraging"}
    path = node_blocks(
        tmp_path,
        (5, [["0xa", node_fill("B", False)], ["0xb", node_fill("A", True)]]),
        (6, [["0xa", node_fill("B", False, 2, **market)], ["0xb", node_fill("A", True, 2, **market)]]),
        (8, [["0xa", node_fill("B", False, 3, **vault)], ["0xb", node_fill("A", True, 3, **vault)]]),
        (9, [["0xa", node_fill("A", False, 4, **adl)], ["0xb", node_fill("B", True, 4, **adl)]]),
        (10, [["0xa", node_fill("A", False, 5)], ["0xa", node_fill("A", True, 6)], ["0xb", node_fill("B", True, 6)]]),
    )
    feed, rows = gather(path, strict=False)
    assert kinds(rows) == ["trade", "trade", "liquidation", "trade", "liquidation", "trade"]
    assert rows["side"].tolist() == [-1, -1, -1, -1, 1, 1]
    off = codes.OFF_MARKET
    assert rows["flags"].tolist() == [0, 0, 0, off, 0, off]
    assert feed.findings.dropped == {"unpaired": 2}
    assert feed.findings.counts["gaps"] == 1
    assert "node_fills.jsonl:3: field 'block_number': expected block 7, got 8" in str(feed.findings.faults[0].error)
    assert (rows["ts_ns"][0], rows["exchange_ns"][0]) == (T0 * S + S // 2, T0 * S)


# ---------------------------------------------------------------- Lighter


def lighter_book(kind, offset, bids, asks, **numbers):
    levels = [[{"price": price, "size": size} for price, size in side] for side in (bids, asks)]
    body = {"code": 0, "bids": levels[0], "asks": levels[1], "offset": offset} | numbers
    return {
        "channel": "order_book:1",
        "type": f"{kind}/order_book",
        "timestamp": T0 * 1000,
        "offset": offset,
        "order_book": body,
    }


def lighter_trade(number, price="100.0", kind="trade", is_maker_ask=True, before=("0", "0")):
    return {
        "trade_id": number,
        "type": kind,
        "size": "2",
        "price": price,
        "ask_account_id": 7,
        "bid_account_id": 8,
        "is_maker_ask": is_maker_ask,
        "timestamp": T0 * 1000,
        "taker_position_size_before": before[0],
        "maker_position_size_before": before[1],
    }


def lighter_trades(trades, liquidations=None, kind="update"):
    return {
        "channel": "trade:1",
        "type": f"{kind}/trade",
        "nonce": 1,
        "trades": trades,
        "liquidation_trades": liquidations,
    }


@pytest.mark.parametrize(
    ("updates", "gaps", "says"),
    [
        ([lighter_book("update", 11, [("99.0", "1")], [])], 0, ""),
        (
            [lighter_book("update", 13, [("99.0", "1")], [])],
            1,
            "field 'offset': 1: expected the update after 10, got the one after 12",
        ),
        ([lighter_book("update", 15, [], [], begin_nonce=500, nonce=501)], 0, ""),
        (
            [lighter_book("update", 11, [], [], begin_nonce=499, nonce=501)],
            1,
            "field 'begin_nonce': 1: expected the update after 500",
        ),
    ],
)
def test_updates_of_lighter_follow_each_other(tmp_path, updates, gaps, says):
    """Source: FEED-039."""
    first = lighter_book("subscribed", 10, [("100.0", "1")], [("101.0", "1")], nonce=500)
    path = write(tmp_path, [first, *updates])
    facts = inspect_tape(path)
    assert (facts["gaps"], facts["resets"]) == (gaps, 0)
    assert not says or says in facts["faults"][0]["error"]
    assert inspect_tape(write(tmp_path, [first, *updates, first]))["resets"] == 1
    assert inspect_tape(write(tmp_path, updates))["gaps"] == 1


def test_lighter_trades_come_by_their_number(tmp_path):
    """Newest first as told, oldest first as read; earlier ones only as liquidations; deleveraging is off the market.

    Source: FEED-040.
    """
    messages = [
        lighter_trades([lighter_trade(2)], [lighter_trade(1, kind="liquidation", is_maker_ask=False)], "subscribed"),
        lighter_trades([lighter_trade(6, kind="deleverage"), lighter_trade(4)], [lighter_trade(5, kind="liquidation")]),
        {"channel": "market_stats:1", "type": "update/market_stats", "market_stats": {"market_id": 1, "symbol": "BTC"}},
    ]
    feed, rows = gather(write(tmp_path, messages))
    assert feed.instruments.rows[0].symbol == "BTC"  # though its name came last
    assert kinds(rows) == ["liquidation", "trade", "trade", "liquidation", "trade"]
    assert rows["id"].tolist() == [1, 4, 5, 5, 6]
    assert rows["side"].tolist() == [-1, 1, 1, 1, 1]
    assert rows["flags"].tolist() == [0, 0, 0, 0, codes.OFF_MARKET]


def test_lighter_rates_are_percent_an_hour(tmp_path):
    """Source: FEED-041."""
    stats = {
        "market_id": 1,
        "symbol": "BTC",
        "current_funding_rate": "0.0012",
        "funding_timestamp": T0 // 3_600 * 3_600_000 + 2,
    }
    message = {"channel": "market_stats:1", "type": "update/market_stats", "market_stats": stats}
    every = {"channel": "market_stats:all", "type": "update/market_stats", "market_stats": {"1": stats}}
    for told_by in (message, every):
        rows = gather(write(tmp_path, [told_by]))[1]
        assert told(rows, "price", "qty") == [(12_000_000, (T0 // 3_600 + 1) * 3_600 * S)]


def test_a_position_that_does_not_chain_is_found(tmp_path):
    """The buyer takes 2 from the seller twice; then the buyer is said to hold 5, not 4.

    Source: FEED-040.
    """
    trades = [lighter_trade(1), lighter_trade(2, before=("2", "-2")), lighter_trade(3, before=("5", "-4"))]
    check = check_lighter_trades(write(tmp_path, [lighter_trades([each]) for each in trades]))
    assert check == (3, 0, 2, 4, 1)
    with pytest.raises(DataError, match=r"capture\.ws:2: expected a message of trades"):
        check_lighter_trades(write(tmp_path, [lighter_trades([lighter_trade(1, before=("many", "0"))])]))
