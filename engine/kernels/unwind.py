"""How the house gets rid of what it took over: orders of its own in the book, at once or in steps (HOUSE-007)."""

import numpy as np

from engine._jit import helper
from engine._probe import phase
from engine.codes import BROKEN_ROUNDS, BUY, HOUSE, OK, PPM, ROUNDS_MAX, SELL, TRADE, UNWIND_IMMEDIATE, UNWIND_NONE
from engine.kernels.account import fee_of
from engine.kernels.book import best_opposite, collar_tick, crosses, fill_maker, first_at, limit_reduce_only, step_away
from engine.kernels.cash import settle_marked
from engine.kernels.emit import emit
from engine.kernels.fixed import mul_div_ceil
from engine.kernels.fund import fund_of
from engine.kernels.house import hold_lots, note_due, pay_house
from engine.kernels.ladder import find_level
from engine.kernels.margin import value_at
from engine.kernels.rounds import run_triggers
from engine.kernels.trigger import follow_last, owe_settlement
from engine.layout import NIL


@helper
def trade_house(st, market, maker, lots):
    """Let the house trade `lots` with a resting order, against its position.

    Source: HOUSE-008.
    """
    order = st.orders[maker]
    rules = st.markets[market]
    side = -np.int64(order["side"])
    price_tick, maker_id, other = order["price_tick"], order["order_id"], np.int64(order["account"])
    value = value_at(st, market, price_tick, lots * side)
    realised = hold_lots(st, market, side, lots, value)
    maker_change, maker_fee = fill_maker(st, maker, lots)
    left = max(st.funds[fund_of(st, market)]["balance_quote"] + realised, 0)
    fee = min(fee_of(value, rules["closeout_fee_ppm"]), left)
    st.assets[rules["asset"]]["fees_quote"] += fee
    if rules["unwind_last"] != 0:
        rules["last_tick"] = price_tick
    event = emit(st, TRADE, 0, market, HOUSE)
    event["other"] = other
    event["side"] = side
    event["price_tick"] = price_tick
    event["qty_lot"] = lots
    event["other_order_id"] = maker_id
    event["fee_quote"] = fee
    event["other_fee_quote"] = maker_fee
    event["other_margin_quote"] = maker_change
    event["mark_tick"] = rules["mark_tick"]
    pay_house(st, market, realised - fee, side, price_tick, lots)


@helper
def sum_depth(st, market, side, limit_tick):
    """Return the quantity that rests inside the limit of an order on `side`."""
    total = np.int64(0)
    price_tick = best_opposite(st, market, side)
    while crosses(side, limit_tick, price_tick):
        total += st.levels[find_level(st, market * 2, price_tick)]["qty_lot"]
        price_tick = step_away(st, market, side, price_tick)
    return total


@helper
def plan_step(st, market, side, held):
    """Return (limit, lots) of one step; no lots without a mid.

    Source: HOUSE-007.
    """
    rules = st.markets[market]
    ask = best_opposite(st, market, np.int64(BUY))
    bid = best_opposite(st, market, np.int64(SELL))
    if ask == 0 or bid == 0:
        return np.int64(0), np.int64(0)
    width = rules["unwind_range_ppm"]
    if side == BUY:
        limit_tick = min((bid + ask) * (PPM + width) // (2 * PPM), rules["price_max_tick"])
    else:
        limit_tick = max(-(-(bid + ask) * (PPM - width) // (2 * PPM)), 1)
    lots = held
    if held > rules["unwind_full_lot"]:
        lots = mul_div_ceil(held, rules["unwind_share_ppm"], PPM)
    most = mul_div_ceil(sum_depth(st, market, side, limit_tick), rules["unwind_depth_ppm"], PPM)
    return np.int64(limit_tick), min(lots, most)


@helper
def plan_all(st, market, side, held):
    """Return (limit, lots) of an order for everything: a range around the mark, or no limit.

    Source: HOUSE-007.
    """
    rules = st.markets[market]
    width = rules["unwind_range_ppm"]
    if width > 0:
        limit_tick = collar_tick(side, rules["mark_tick"], width, rules["price_max_tick"])
    elif side == BUY:
        limit_tick = rules["price_max_tick"]
    else:
        limit_tick = np.int64(1)
    return np.int64(limit_tick), held


@helper
def is_due(st, market):
    """Return whether the house sends an order in a market now; a step's time goes on by an interval.

    Source: HOUSE-007, CASH-005.
    """
    rules = st.markets[market]
    if rules["unwind"] == UNWIND_NONE or rules["house"] == NIL or st.positions[rules["house"]]["qty_lot"] == 0:
        return False
    if rules["unwind"] == UNWIND_IMMEDIATE:
        return rules["settlement"] == 0 or st.assets[rules["asset"]]["settled_seq"] == st.head[0]["seq"]
    if st.head[0]["ts_ns"] < rules["unwind_due_ns"]:
        return False
    note_due(st, market)
    return True


@helper
def unwind_market(st, market):
    """Send the house's order in a market, if one is due; return whether it traded.

    Source: HOUSE-007, MATCH-008.
    """
    if not is_due(st, market):
        return False
    rules = st.markets[market]
    qty = st.positions[rules["house"]]["qty_lot"]
    side = np.int64(SELL if qty > 0 else BUY)
    if rules["unwind"] == UNWIND_IMMEDIATE:
        limit_tick, lots = plan_all(st, market, side, abs(qty))
    else:
        limit_tick, lots = plan_step(st, market, side, abs(qty))
    traded = False
    while lots > 0:
        price_tick = best_opposite(st, market, side)
        if not crosses(side, limit_tick, price_tick):
            break
        maker = first_at(st, market, price_tick)
        part = limit_reduce_only(st, maker, min(lots, st.orders[maker]["qty_lot"]))
        if part > 0:
            trade_house(st, market, maker, part)
            lots -= part
            traded = True
    if traded:
        owe_settlement(st, market)
    return traded


@helper
@phase("liquidation")
def run_house(st):
    """Have the house unwind, and settle what follows from that, until it trades no more; return OK or BROKEN_ROUNDS.

    Source: HOUSE-007, STEP-004.
    """
    passes = 0
    while True:
        traded = False
        for market in range(st.head[0]["market_count"]):
            if unwind_market(st, market):
                traded = True
        if not traded:
            return OK
        passes += 1
        if passes > ROUNDS_MAX:
            return BROKEN_ROUNDS
        follow_last(st)
        if st.head[0]["settle_count"] > 0:
            settle_marked(st)
        status = run_triggers(st)
        if status != OK:
            return status
