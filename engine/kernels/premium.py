"""The funding rate computed from the book: how far above the index the contract trades, sampled, averaged, clamped."""

import numpy as np

from engine._jit import helper, inlined
from engine.codes import AVERAGE_LINEAR, BUY, FUNDING_PREMIUM, MICRO, PPB, PREMIUM_IMPACT, SELL
from engine.kernels.book import best_opposite, step_away
from engine.kernels.fixed import mul_div_ceil, mul_div_floor, mul_div_half_even
from engine.kernels.ladder import find_level
from engine.kernels.marks import count_instants, hold, round_ratio, sum_touch


@helper
def walk_impact(st, market, side):
    """Return (value, lots) of what an order on `side` gets for the impact notional; (0, 0) where the book is short.

    Source: FUND-013.
    """
    rules = st.markets[market]
    wanted = rules["impact_quote"]
    value = np.int64(0)
    lots = np.int64(0)
    tick = best_opposite(st, market, side)
    while tick > 0:
        unit = tick * rules["multiplier"]
        part = min(st.levels[find_level(st, market * 2, tick)]["qty_lot"], (wanted - value + unit - 1) // unit)
        value += part * unit
        lots += part
        if value >= wanted:
            return value, lots
        tick = step_away(st, market, side, tick)
    return np.int64(0), np.int64(0)


@helper
def measure_impact(st, market):
    """Return the premium of the impact prices over the index per 10^9, not held.

    Source: FUND-013.
    """
    rules = st.markets[market]
    index_micro = rules["index_tick"] * MICRO
    over = np.int64(0)
    value, lots = walk_impact(st, market, np.int64(SELL))
    if lots > 0:
        over = max(mul_div_floor(value, np.int64(MICRO), lots * rules["multiplier"]) - index_micro, 0)
    value, lots = walk_impact(st, market, np.int64(BUY))
    if lots > 0:
        over -= max(index_micro - mul_div_ceil(value, np.int64(MICRO), lots * rules["multiplier"]), 0)
    return mul_div_half_even(over, np.int64(PPB), index_micro)


@helper
def look_at_premium(st, market, now_ns):
    """Note the premium as it stands, where a command passes an instant of the market's.

    Source: FUND-011, FUND-012.
    """
    rules = st.markets[market]
    average = st.averages[market]
    average["has_premium"] = 0
    index = rules["index_tick"]
    if rules["funding_model"] != FUNDING_PREMIUM or index == 0:
        return
    if count_instants(st.head[0]["ts_ns"], now_ns, rules["funding_sample_s"]) == 0:
        return
    if rules["funding_premium"] == PREMIUM_IMPACT:
        premium = measure_impact(st, market)
    else:
        touch = sum_touch(st, market)
        if touch == 0:
            return
        premium = mul_div_half_even(touch - 2 * index, np.int64(PPB), 2 * index)
    average["has_premium"] = 1
    average["seen_premium_ppb"] = hold(premium, np.int64(PPB))


@helper
def add_premium(st, market, count):
    """Add `count` equal samples to the funding interval that runs.

    Source: FUND-011, FUND-014.
    """
    average = st.averages[market]
    if average["has_premium"] == 0:
        return
    before = average["premium_count"]
    premium = average["seen_premium_ppb"]
    average["premium_count"] += count
    average["premium_sum_ppb"] += premium * count
    # the places before + 1 to before + count
    average["premium_weighted_ppb"] += premium * (before * count + count * (count + 1) // 2)


@helper
def average_premium(st, market):
    """Return the average premium of a funding interval that has samples, and forget them.

    Source: FUND-014.
    """
    average = st.averages[market]
    count = average["premium_count"]
    mean = round_ratio(average["premium_sum_ppb"], count)
    if st.markets[market]["funding_average"] == AVERAGE_LINEAR:
        mean = round_ratio(average["premium_weighted_ppb"], count * (count + 1) // 2)
    average["premium_count"] = 0
    average["premium_sum_ppb"] = 0
    average["premium_weighted_ppb"] = 0
    return mean


@inlined
def compute_rate(st, market, premium_ppb):
    """Return the rate of one payment: the interval's part of the premium with its interest, capped.

    Source: FUND-014.
    """
    rules = st.markets[market]
    pull = hold(rules["funding_interest_ppb"] - premium_ppb, rules["funding_clamp_ppb"])
    part = mul_div_half_even(premium_ppb + pull, rules["funding_interval_s"], rules["funding_period_s"])
    return hold(part, rules["funding_cap_ppb"])
