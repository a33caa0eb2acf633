"""The order book of every market: rest, take out, trade; price-time priority (MATCH-001).

Market m's orders hang on ladder 2 m.  Accounts' orders are also known by id and linked to their owner's position;
the outside's (account 0) are neither.
"""

import numpy as np

from engine._jit import helper, hot, inlined
from engine._probe import phase
from engine.codes import (
    BUY,
    BY_REDUCE_ONLY,
    BY_SELF_TRADE,
    CANCELED,
    EXTERNAL,
    REDUCE_ONLY,
    STP_NEWEST,
    STP_OLDEST,
    TRADE,
)
from engine.kernels.account import fee_of, fill_position
from engine.kernels.emit import emit, tell_order
from engine.kernels.idmap import drop_id, put_id
from engine.kernels.ladder import find_level, hang_node, next_above, next_below, unhang_node
from engine.kernels.margin import value_at
from engine.layout import NIL


@inlined
def best_opposite(st, market, side):
    """Return the best price an order on `side` could trade at, or 0."""
    header = st.ladders[market * 2]
    if side > 0:
        return header["best_ask"] if header["best_ask"] < header["limit_tick"] else np.int64(0)
    return header["best_bid"]


@inlined
def crosses(side, limit_tick, price_tick):
    """Return whether an order on `side` with this limit would trade at a price; price 0 is no price."""
    return price_tick > 0 and (price_tick <= limit_tick if side > 0 else price_tick >= limit_tick)


@inlined
def step_away(st, market, side, tick):
    """Return the next price behind `tick` that an order on `side` would meet, or 0."""
    if side > 0:
        found = next_above(st, market * 2, tick)
        return found if found < st.ladders[market * 2]["limit_tick"] else np.int64(0)
    return next_below(st, market * 2, tick)


@inlined
def first_at(st, market, tick):
    """Return the slot of the order that has queued longest at an occupied price."""
    return np.int64(st.levels[find_level(st, market * 2, tick)]["head"])


@hot
def shift_resting(st, position, side, lots):
    """Change the resting quantity a position's margin counts with."""
    if side > 0:
        st.positions[position]["buy_lot"] += lots
    else:
        st.positions[position]["sell_lot"] += lots


@hot
def count_resting(st, slot, lots):
    """Add `lots` of a resting order to its owner's open orders; reduce-only ones do not enlarge anything."""
    order = st.orders[slot]
    if not order["flags"] & REDUCE_ONLY:
        shift_resting(st, np.int64(order["position"]), np.int64(order["side"]), lots)


@hot
@phase("matching")
def rest_order(st, market, position, side, price_tick, lots, order_id, flags):
    """Queue an order behind what stands at its price; the batch loop has seen to a free slot.

    Source: MATCH-002, MATCH-003.
    """
    head = st.head[0]
    slot = head["order_free"]
    if slot != NIL:
        head["order_free"] = np.int64(st.orders[slot]["next"])
    else:
        slot = head["order_used"]
        head["order_used"] += 1
    order = st.orders[slot]
    head["priority"] += 1
    head["order_count"] += 1
    order["price_tick"] = price_tick
    order["qty_lot"] = lots
    order["order_id"] = order_id
    order["priority"] = head["priority"]
    order["account"] = st.positions[position]["account"]
    order["position"] = position
    order["market"] = market
    order["side"] = side
    order["flags"] = flags
    order["own_prev"] = NIL
    order["own_next"] = NIL
    hang_node(st, market * 2, st.orders, slot, side, lots)
    if order["account"] != EXTERNAL:
        st.markets[market]["own_orders"] += 1
        put_id(st, order_id, slot)
        owner = st.positions[position]
        order["own_next"] = owner["orders_head"]
        if owner["orders_head"] != NIL:
            st.orders[owner["orders_head"]]["own_prev"] = slot
        owner["orders_head"] = slot
        if not flags & REDUCE_ONLY:
            shift_resting(st, position, side, lots)


@hot
@phase("matching")
def remove_order(st, slot):
    """Take an order out of the book, its id map and its owner's list, and free its slot."""
    order = st.orders[slot]
    lots = order["qty_lot"]
    unhang_node(st, np.int64(order["market"]) * 2, st.orders, slot, np.int64(order["side"]), lots)
    head = st.head[0]
    if order["account"] != EXTERNAL:
        st.markets[order["market"]]["own_orders"] -= 1
        drop_id(st, order["order_id"], slot)
        count_resting(st, slot, -lots)
        if order["own_prev"] == NIL:
            st.positions[order["position"]]["orders_head"] = order["own_next"]
        else:
            st.orders[order["own_prev"]]["own_next"] = order["own_next"]
        if order["own_next"] != NIL:
            st.orders[order["own_next"]]["own_prev"] = order["own_prev"]
    order["qty_lot"] = 0  # a free slot holds nothing: the shell tells live orders by it
    order["next"] = head["order_free"]
    head["order_free"] = slot
    head["order_count"] -= 1


@hot
@phase("matching")
def shrink_order(st, slot, lots):
    """Take `lots` off an order in its place; at nothing left it is removed."""
    order = st.orders[slot]
    if lots == order["qty_lot"]:
        remove_order(st, slot)
        return
    order["qty_lot"] -= lots
    st.levels[order["level"]]["qty_lot"] -= lots
    if order["account"] != EXTERNAL:
        count_resting(st, slot, -lots)


@hot
@phase("matching")
def cancel_order(st, slot, reason):
    """Remove an account's order and say so."""
    order = st.orders[slot]
    market, side, account = np.int64(order["market"]), np.int64(order["side"]), np.int64(order["account"])
    told = (order["price_tick"], order["qty_lot"], order["order_id"])
    tell_order(st, CANCELED, reason, market, account, side, np.int64(0), *told)
    remove_order(st, slot)


@helper
def cancel_owned(st, position, reason):
    """Cancel all orders of an account in one market, the most recently queued first.

    Source: MATCH-010.
    """
    while st.positions[position]["orders_head"] != NIL:
        cancel_order(st, np.int64(st.positions[position]["orders_head"]), reason)


@inlined
def reducible(st, position, side):
    """Return how many lots an order on `side` can reduce a position by."""
    return max(-st.positions[position]["qty_lot"] * side, 0)


@helper
def limit_reduce_only(st, slot, lots):
    """Return how much of `lots` a resting order can give; a reduce-only one that cannot reduce is canceled and gives 0.

    Source: MATCH-008.
    """
    order = st.orders[slot]
    if not order["flags"] & REDUCE_ONLY:
        return lots
    room = reducible(st, np.int64(order["position"]), np.int64(order["side"]))
    if room == 0:
        cancel_order(st, slot, np.int64(BY_REDUCE_ONLY))
    return min(lots, room)


@helper
def fill_maker(st, slot, lots):
    """Book the maker's side of a fill of `lots` and shrink its order; return (margin change, fee)."""
    order = st.orders[slot]
    market = np.int64(order["market"])
    price_tick = order["price_tick"]
    fee = np.int64(0)
    if order["account"] != EXTERNAL:
        fee = fee_of(value_at(st, market, price_tick, lots), st.markets[market]["maker_fee_ppm"])
    change = fill_position(st, np.int64(order["position"]), np.int64(order["side"]), lots, price_tick, fee)
    shrink_order(st, slot, lots)
    return change, fee


@helper
def trade_with(st, slot, taker, order_id, lots):
    """Trade `lots` of the taker's position with resting order `slot`, at its price.

    Source: MATCH-001.
    """
    order = st.orders[slot]
    market = np.int64(order["market"])
    price_tick = order["price_tick"]
    maker_id = order["order_id"]
    maker_account = np.int64(order["account"])
    side = -np.int64(order["side"])
    rules = st.markets[market]
    account = np.int64(st.positions[taker]["account"])
    fee = np.int64(0)
    if account != EXTERNAL:
        fee = fee_of(value_at(st, market, price_tick, lots), rules["taker_fee_ppm"])
    change = fill_position(st, taker, side, lots, price_tick, fee)
    maker_change, maker_fee = fill_maker(st, slot, lots)
    rules["last_tick"] = price_tick
    event = emit(st, TRADE, 0, market, account)
    event["other"] = maker_account
    event["side"] = side
    event["price_tick"] = price_tick
    event["qty_lot"] = lots
    event["order_id"] = order_id
    event["other_order_id"] = maker_id
    event["fee_quote"] = fee
    event["other_fee_quote"] = maker_fee
    event["margin_quote"] = change
    event["other_margin_quote"] = maker_change
    event["mark_tick"] = rules["mark_tick"]


@helper
def prevent_self_trade(st, slot, flags):
    """Apply self-trade prevention to resting order `slot`; return whether the incoming order ends.

    Source: MATCH-009.
    """
    if flags & STP_OLDEST:
        cancel_order(st, slot, np.int64(BY_SELF_TRADE))
    return flags & STP_NEWEST != 0


@helper
@phase("matching")
def match_order(st, market, taker, side, lots, limit_tick, order_id, flags):
    """Trade an incoming order while it crosses; return (lots left, why it ended early or 0).

    Source: MATCH-001, MATCH-002, MATCH-008, MATCH-009.
    """
    account = st.positions[taker]["account"]
    while lots > 0:
        price_tick = best_opposite(st, market, side)
        if not crosses(side, limit_tick, price_tick):
            break
        slot = first_at(st, market, price_tick)
        order = st.orders[slot]
        if order["account"] == account and flags & (STP_NEWEST | STP_OLDEST):
            if prevent_self_trade(st, slot, flags):
                return lots, np.int64(BY_SELF_TRADE)
            continue
        part = min(lots, order["qty_lot"])
        if flags & REDUCE_ONLY:
            part = min(part, reducible(st, taker, side))
            if part == 0:
                return lots, np.int64(BY_REDUCE_ONLY)
        part = limit_reduce_only(st, slot, part)
        if part == 0:
            continue
        trade_with(st, slot, taker, order_id, part)
        lots -= part
    return lots, np.int64(0)


@helper
@phase("matching")
def can_fill(st, market, account, side, lots, limit_tick, flags):
    """Return whether the orders inside the limit surely hold `lots`.

    Source: MATCH-007.
    """
    price_tick = best_opposite(st, market, side)
    while crosses(side, limit_tick, price_tick):
        slot = first_at(st, market, price_tick)
        while slot != NIL:
            order = st.orders[slot]
            if order["account"] == account and flags & (STP_NEWEST | STP_OLDEST):
                if flags & STP_NEWEST:
                    return False
            elif not order["flags"] & REDUCE_ONLY:
                lots -= order["qty_lot"]
                if lots <= 0:
                    return True
            slot = np.int64(order["next"])
        price_tick = step_away(st, market, side, price_tick)
    return False


@inlined
def collar_tick(side, mark_tick, collar_ppm, price_max_tick):
    """Return the worst price an order without a limit may trade at.

    Source: MATCH-005, LIQ-005.
    """
    if side == BUY:
        return min(mark_tick * (1_000_000 + collar_ppm) // 1_000_000, price_max_tick)
    return max(-(-mark_tick * (1_000_000 - collar_ppm) // 1_000_000), 1)
