"""When the fund is kept from paying: the triggers `equity` and `drawdown`, and the peak of a fund (ADL-019..ADL-021).

A watched fund's highest balance is kept for each sixtieth of the window: the peak is exact to a bucket, and takes the
same room whatever happens.
"""

import numpy as np

from engine._jit import helper
from engine.codes import PEAK_BUCKETS, PPM, TRIGGER_DRAWDOWN, TRIGGER_EQUITY
from engine.kernels.fixed import mul_div_ceil, mul_div_floor
from engine.kernels.margin import value_at, value_at_mark
from engine.layout import NIL


@helper
def judge_fund(st, market):
    """Switch a market's drawdown trigger on or off by what the fund holds of its peak.

    Source: ADL-020, ADL-021.
    """
    rules = st.markets[market]
    peak = np.int64(0)
    for at in range(market * PEAK_BUCKETS, (market + 1) * PEAK_BUCKETS):
        peak = max(peak, st.peaks[at])
    down = peak - st.funds[rules["fund"]]["balance_quote"]
    if down > mul_div_floor(peak, rules["adl_drawdown_ppm"], PPM):
        rules["adl_active"] = 1
    elif down < mul_div_ceil(peak, rules["adl_release_ppm"], PPM):
        rules["adl_active"] = 0


@helper
def roll_market(st, market):
    """Open the buckets up to the present one, each with the balance the fund came into it with.

    Source: ADL-021.
    """
    rules = st.markets[market]
    bucket = st.head[0]["ts_ns"] // rules["adl_bucket_ns"]
    if rules["adl_trigger"] != TRIGGER_DRAWDOWN or bucket == rules["peak_bucket"]:
        return
    balance = st.funds[rules["fund"]]["balance_quote"]
    for number in range(max(rules["peak_bucket"] + 1, bucket - (PEAK_BUCKETS - 1)), bucket + 1):
        st.peaks[market * PEAK_BUCKETS + number % PEAK_BUCKETS] = balance
    rules["peak_bucket"] = bucket
    judge_fund(st, market)


@helper
def roll_watches(st):
    """Bring every watched fund to the present time.

    Source: ADL-020, ADL-021.
    """
    for market in range(st.head[0]["market_count"]):
        roll_market(st, market)


@helper
def note_fund(st, number):
    """Note the balance of a fund that has just changed, for every market that watches it.

    Source: ADL-020, ADL-021.
    """
    balance = st.funds[number]["balance_quote"]
    for market in range(st.head[0]["market_count"]):
        rules = st.markets[market]
        if rules["adl_trigger"] == TRIGGER_DRAWDOWN and rules["fund"] == number:
            at = market * PEAK_BUCKETS + rules["peak_bucket"] % PEAK_BUCKETS
            st.peaks[at] = max(st.peaks[at], balance)
            judge_fund(st, market)


@helper
def gain_of_house(st, fund):
    """Return what the house has gained and not realised in the markets of a fund.

    Source: ADL-019, HOUSE-003.
    """
    total = np.int64(0)
    for market in range(st.head[0]["market_count"]):
        rules = st.markets[market]
        if rules["fund"] == fund and rules["house"] != NIL:
            total += value_at_mark(st, rules["house"]) - st.positions[rules["house"]]["cost_quote"]
    return total


@helper
def is_fund_held(st, market, lots, worth_quote):
    """Return whether the trigger keeps the fund from paying for `lots` (signed) of bankruptcy value `worth_quote`.

    Source: ADL-019, ADL-020.
    """
    rules = st.markets[market]
    if rules["adl_trigger"] == TRIGGER_EQUITY:
        share = value_at(st, market, rules["mark_tick"], lots) - worth_quote
        return st.funds[rules["fund"]]["balance_quote"] + gain_of_house(st, rules["fund"]) + share <= 0
    return rules["adl_active"] != 0


@helper
def fund_room(st, market, lots, worth_quote):
    """Return what the market's fund may pay for the next fill of a walk.

    Source: LIQ-007, ADL-019, ADL-020.
    """
    if is_fund_held(st, market, lots, worth_quote):
        return np.int64(0)
    return st.funds[st.markets[market]["fund"]]["balance_quote"]
