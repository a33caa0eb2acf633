"""Stages 1 to 3 of the waterfall by policy: whose orders go, how much is closed, at what limit, who gets a surplus.

Each function reads the policy of the market whose position is being closed.  Source: STAGE-001..STAGE-009.
"""

import numpy as np

from engine._jit import helper
from engine.codes import (
    AFTER_FULL,
    BY_LIQUIDATION,
    GATE_ALWAYS,
    LIMIT_BANKRUPTCY,
    LIMIT_FILLABLE,
    PPB,
    PPM,
    PRICE_MAX_LIMIT,
    SCOPE_ACCOUNT,
    SCOPE_MARKET,
    SIZE_FULL,
    SIZE_TIERED,
    SURPLUS_CAPPED,
    SURPLUS_FUND,
)
from engine.kernels.account import fee_of
from engine.kernels.book import cancel_owned, collar_tick
from engine.kernels.fixed import mul_div_ceil, mul_div_floor
from engine.kernels.margin import (
    domain_of,
    find_position,
    find_tier,
    first_owned,
    measure_domain,
    show_bankruptcy,
    value_at,
    value_at_mark,
    weight_of,
)
from engine.kernels.trigger import read_flags
from engine.layout import COOLING, NIL


@helper
def cancel_scope(st, account, market):
    """Cancel the orders that stage 1 says before a position in `market` is closed: markets in index order.

    Source: LIQ-003, STAGE-001.
    """
    scope = st.markets[market]["cancel"]
    if scope == SCOPE_MARKET:
        slot = find_position(st, account, market)
        if slot != NIL:
            cancel_owned(st, slot, np.int64(BY_LIQUIDATION))
    elif scope == SCOPE_ACCOUNT:
        slot = first_owned(st, account)
        while slot != NIL:
            cancel_owned(st, slot, np.int64(BY_LIQUIDATION))
            slot = np.int64(st.positions[slot]["next_owned"])


@helper
def count_below(st, market, lots, bound_quote):
    """Return how many lots, up to `lots`, are worth less than `bound_quote` at the mark: by halving.

    Source: STAGE-002, STAGE-003.
    """
    mark_tick = st.markets[market]["mark_tick"]
    low, high = np.int64(0), lots
    while low < high:
        middle = (low + high + 1) // 2
        if abs(value_at(st, market, mark_tick, middle)) < bound_quote:
            low = middle
        else:
            high = middle - 1
    return low


@helper
def step_lots(st, code, slot):
    """Return how many lots of a position the next step closes, at least 1.

    Source: LIQ-004, STAGE-002, STAGE-003, WAKE-002.
    """
    position = st.positions[slot]
    market = np.int64(position["market"])
    rules = st.markets[market]
    lots = abs(position["qty_lot"])
    if rules["size"] == SIZE_FULL:
        return lots
    if rules["size"] == SIZE_TIERED:
        floor = st.tiers[find_tier(st, market, abs(value_at_mark(st, slot)))]["floor_quote"]
        return lots - count_below(st, market, lots, floor)
    if rules["after_share"] == AFTER_FULL and read_flags(st, code) & COOLING:
        return lots
    if abs(value_at_mark(st, slot)) <= rules["full_below_quote"]:
        return lots
    step = mul_div_ceil(lots, rules["share_ppm"], PPM)
    if rules["share_min_quote"] > 0:
        step = max(step, min(count_below(st, market, lots, rules["share_min_quote"]) + 1, lots))
    if rules["step_max_quote"] > 0:
        step = min(step, max(count_below(st, market, lots, rules["step_max_quote"] + 1), 1))
    return step


@helper
def fillable_spread(st, slot):
    """Return by how much the fillable value of a position lies below its value at the mark, rounded down.

    Source: STAGE-006, PORT-006.
    """
    rules = st.markets[st.positions[slot]["market"]]
    equity, maintenance, _ = measure_domain(st, domain_of(st, slot))
    part_ppb = mul_div_floor(rules["adjustment_ppm"] * 1000, maintenance - equity, maintenance)
    part_ppb = min(max(part_ppb, 0), PPB)
    return mul_div_floor(mul_div_floor(weight_of(st, slot), rules["spread_ppm"], PPM), part_ppb, PPB)


@helper
def walk_limit(st, slot, tick):
    """Return the limit of the order that closes a position; `tick` displays its bankruptcy value.

    Source: LIQ-005, STAGE-005, STAGE-006.
    """
    position = st.positions[slot]
    market = np.int64(position["market"])
    rules = st.markets[market]
    if rules["limit"] == LIMIT_BANKRUPTCY:
        if position["qty_lot"] > 0 and tick == PRICE_MAX_LIMIT:
            return np.int64(PRICE_MAX_LIMIT + 1)  # held there, the tick may be worse than the value it displays
        return tick
    if rules["limit"] == LIMIT_FILLABLE:
        return show_bankruptcy(st, market, value_at_mark(st, slot) - fillable_spread(st, slot), position["qty_lot"])
    side = np.int64(-1 if position["qty_lot"] > 0 else 1)
    return collar_tick(side, rules["mark_tick"], rules["liquidation_collar_ppm"], rules["price_max_tick"])


@helper
def fund_part(st, market, value_quote, surplus_quote):
    """Return what the fund gets of a fill's surplus after the taker fee; the account keeps the rest.

    Source: LIQ-006, STAGE-007.
    """
    rules = st.markets[market]
    if rules["surplus"] == SURPLUS_FUND:
        return surplus_quote
    rate_ppm = rules["surplus_fee_ppm"] if rules["surplus"] == SURPLUS_CAPPED else rules["liquidation_fee_ppm"]
    return min(surplus_quote, fee_of(value_quote, rate_ppm))


@helper
def passes_gate(st, code, market, closed):
    """Return whether the backstop may close what the walk left, `closed` lots being closed so far.

    Source: STAGE-009.
    """
    if st.markets[market]["adl_gate"] == GATE_ALWAYS:
        return True
    equity, _, _ = measure_domain(st, code)
    return closed == 0 and equity < 0
