"""The recorded market: `level`, `print`, `index`, `mark` and what they do to accounts' orders (OUT-001..OUT-005)."""

import numpy as np

from engine._jit import helper
from engine.codes import (
    BAD_FLAGS,
    BAD_PRICE,
    BAD_QTY,
    BAD_SIDE,
    BUY,
    EXTERNAL,
    MARK_INDEX,
    MARK_RECORDED,
    OFF_BOOK,
    OK,
    PRINT,
    SELL,
)
from engine.kernels.book import (
    best_opposite,
    crosses,
    first_at,
    limit_reduce_only,
    match_order,
    remove_order,
    rest_order,
    shrink_order,
    step_away,
    trade_with,
)
from engine.kernels.ladder import find_level
from engine.kernels.orders import check_limits, check_money
from engine.kernels.trigger import owe_settlement, set_mark
from engine.layout import NIL

OUTSIDE_QTY_MAX = 1 << 40


@helper
def check_feed(st, command, qty_min):
    """Return OK, or what is wrong with a level or a print: side, flags, quantity, price."""
    if command["side"] != BUY and command["side"] != SELL:
        return BAD_SIDE
    if command["kind"] == PRINT and np.int64(command["flags"]) & ~OFF_BOOK:
        return BAD_FLAGS
    if command["qty_lot"] < qty_min or command["qty_lot"] > OUTSIDE_QTY_MAX:
        return BAD_QTY
    if command["price_tick"] < 1 or command["price_tick"] > st.markets[command["market"]]["price_max_tick"]:
        return BAD_PRICE
    return OK


@helper
def sum_outside(st, market, tick):
    """Return the outside's quantity at a price."""
    at = find_level(st, market * 2, tick)
    if at == NIL:
        return np.int64(0)
    total = np.int64(0)
    slot = np.int64(st.levels[at]["head"])
    while slot != NIL:
        order = st.orders[slot]
        if order["account"] == EXTERNAL:
            total += order["qty_lot"]
        slot = np.int64(order["next"])
    return total


@helper
def shrink_outside(st, market, tick, lots):
    """Take `lots` off the outside's most recently queued orders at a price.

    Source: OUT-002.
    """
    slot = np.int64(st.levels[find_level(st, market * 2, tick)]["tail"])
    while lots > 0:
        order = st.orders[slot]
        before = np.int64(order["prev"])
        if order["account"] == EXTERNAL:
            part = min(lots, order["qty_lot"])
            shrink_order(st, slot, part)
            lots -= part
        slot = before


@helper
def wipe_outside(st, market, side, limit_tick):
    """Remove the outside's own levels that an outside level on `side` crosses or meets: newest wins.

    Source: OUT-003.
    """
    tick = best_opposite(st, market, side)
    while crosses(side, limit_tick, tick):
        behind = step_away(st, market, side, tick)
        slot = first_at(st, market, tick)
        while slot != NIL:
            after = np.int64(st.orders[slot]["next"])
            if st.orders[slot]["account"] == EXTERNAL:
                remove_order(st, slot)
            slot = after
        tick = behind


@helper
def meets_accounts(st, market, side, limit_tick):
    """Return whether an outside level would trade with an account's order."""
    if st.markets[market]["own_orders"] == 0:
        return False
    tick = best_opposite(st, market, side)
    while crosses(side, limit_tick, tick):
        slot = first_at(st, market, tick)
        while slot != NIL:
            if st.orders[slot]["account"] != EXTERNAL:
                return True
            slot = np.int64(st.orders[slot]["next"])
        tick = step_away(st, market, side, tick)
    return False


@helper
def set_level(st, command):
    """Apply a level: the outside's total at a price is now this.

    Source: OUT-002, OUT-003.
    """
    code = check_feed(st, command, np.int64(0))
    if code != OK:
        return code
    market = np.int64(command["market"])
    side, tick, total = np.int64(command["side"]), command["price_tick"], command["qty_lot"]
    external = np.int64(st.markets[market]["external"])
    at = find_level(st, market * 2, tick)
    standing = np.int64(0)
    if at != NIL and st.levels[at]["head"] != NIL and st.orders[st.levels[at]["head"]]["side"] == side:
        standing = sum_outside(st, market, tick)
    growth = total - standing
    if growth < 0:
        shrink_outside(st, market, tick, -growth)
        return OK
    if total > 0 and crosses(side, tick, best_opposite(st, market, side)):
        if growth > 0 and meets_accounts(st, market, side, tick):
            code = check_limits(st, market, growth)
            if code != OK:
                return code
        wipe_outside(st, market, side, tick)
        growth, _ = match_order(st, market, external, side, growth, tick, np.int64(0), np.int64(0))
    if growth == 0:
        return OK
    at = find_level(st, market * 2, tick)
    tail = np.int64(NIL)
    if at != NIL:
        tail = np.int64(st.levels[at]["tail"])
    if tail != NIL and st.orders[tail]["account"] == EXTERNAL:
        st.orders[tail]["qty_lot"] += growth
        st.levels[at]["qty_lot"] += growth
    else:
        rest_order(st, market, external, side, tick, growth, np.int64(0), np.int64(0))
    return OK


@helper
def fill_print(st, market, side, limit_tick, lots):
    """Fill accounts' orders at or through a print, in price-time order, against the outside.

    Source: OUT-004.
    """
    external = np.int64(st.markets[market]["external"])
    tick = best_opposite(st, market, side)
    while lots > 0 and crosses(side, limit_tick, tick):
        behind = step_away(st, market, side, tick)
        slot = first_at(st, market, tick)
        while slot != NIL and lots > 0:
            after = np.int64(st.orders[slot]["next"])
            if st.orders[slot]["account"] != EXTERNAL:
                part = limit_reduce_only(st, slot, min(lots, st.orders[slot]["qty_lot"]))
                if part > 0:
                    trade_with(st, slot, external, np.int64(0), part)
                    lots -= part
                    if st.orders[slot]["qty_lot"] > 0:
                        continue  # a reduce-only order that cannot give more is looked at again, and canceled
            slot = after
        tick = behind


@helper
def apply_print(st, command):
    """Apply a recorded trade.

    Source: OUT-004.
    """
    code = check_feed(st, command, np.int64(1))
    if code != OK:
        return code
    market = np.int64(command["market"])
    if command["flags"] & OFF_BOOK:
        return OK
    code = check_money(st, market)
    if code != OK:
        return code
    rules = st.markets[market]
    if rules["own_orders"] > 0:
        room = rules["open_interest_max_lot"] - rules["open_interest_lot"]
        lots = min(command["qty_lot"], room)
        fill_print(st, market, np.int64(command["side"]), command["price_tick"], lots)
    rules["last_tick"] = command["price_tick"]
    return OK


@helper
def apply_mark(st, command):
    """Apply a recorded mark price.

    Source: STEP-002.
    """
    rules = st.markets[command["market"]]
    if command["price_tick"] < 1 or command["price_tick"] > rules["price_max_tick"]:
        return BAD_PRICE
    if rules["mark_model"] == MARK_RECORDED:
        set_mark(st, np.int64(command["market"]), command["price_tick"])
        owe_settlement(st, np.int64(command["market"]))
    return OK


@helper
def apply_index(st, command):
    """Apply an index price.

    Source: STEP-002.
    """
    rules = st.markets[command["market"]]
    if command["price_tick"] < 1 or command["price_tick"] > rules["price_max_tick"]:
        return BAD_PRICE
    rules["index_tick"] = command["price_tick"]
    if rules["mark_model"] == MARK_INDEX:
        set_mark(st, np.int64(command["market"]), command["price_tick"])
        owe_settlement(st, np.int64(command["market"]))
    return OK
