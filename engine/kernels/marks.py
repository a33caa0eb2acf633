"""Marks derived from what the market did: the last trade, the median of three prices, index and averaged basis.

A derived mark is a function of the state and the time, so that it can be computed whenever it is asked for.
"""

import numpy as np

from engine._jit import helper, hot, inlined
from engine._probe import phase
from engine.codes import MARK_EMA_BASIS, MARK_LAST, MARK_MEDIAN3, MICRO, NS, PPB, PPM
from engine.kernels.fixed import mul_div_floor, mul_div_half_even


@inlined
def round_ratio(a, b):
    """Return a / b for b > 0, rounded half-even; 2 a fits 63 bits."""
    return mul_div_half_even(a, np.int64(1), b)


@inlined
def hold(x, limit):
    """Hold a number within +-limit."""
    return min(max(x, -limit), limit)


@inlined
def count_instants(before_ns, now_ns, interval_s):
    """Return how many multiples of an interval lie after one time and not after another."""
    return now_ns // (interval_s * NS) - before_ns // (interval_s * NS)


@inlined
def sum_touch(st, market):
    """Return best bid + best ask of the whole book, 0 where a side is empty."""
    header = st.ladders[market * 2]
    if header["best_bid"] == 0 or header["best_ask"] >= header["limit_tick"]:
        return np.int64(0)
    return header["best_bid"] + header["best_ask"]


@helper
def look_at_basis(st, market, now_ns):
    """Note the basis as it stands, where a command passes an instant of the market's.

    Source: MARK-002.
    """
    rules = st.markets[market]
    average = st.averages[market]
    average["has_basis"] = 0
    if rules["mark_model"] < MARK_MEDIAN3:
        return
    touch = sum_touch(st, market)
    if touch == 0 or rules["index_tick"] == 0:
        return
    if count_instants(st.head[0]["ts_ns"], now_ns, rules["basis_interval_s"]) > 0:
        average["has_basis"] = 1
        average["seen_basis_half"] = touch - 2 * rules["index_tick"]


@helper
def push_samples(st, market, basis_half, count):
    """Add a sample `count` times to the window of `median3`; more than it holds are as good as so many.

    Source: MARK-002, MARK-003.
    """
    average = st.averages[market]
    size = st.markets[market]["basis_samples"]
    for _ in range(min(count, size)):
        at = average["ring_offset"] + average["ring_next"]
        if average["ring_count"] == size:
            average["ring_sum_half"] -= st.samples[at]
        else:
            average["ring_count"] += 1
        st.samples[at] = basis_half
        average["ring_sum_half"] += basis_half
        average["ring_next"] += 1
        if average["ring_next"] == size:
            average["ring_next"] = 0


@helper
def raise_decay(decay_ppb, count):
    """Return decay^count per 10^9, by binary powers from the lowest bit up, each product floored.

    Source: MARK-004.
    """
    power = np.int64(PPB)
    while count > 0:
        if count & 1:
            power = power * decay_ppb // PPB
        decay_ppb = decay_ppb * decay_ppb // PPB
        count = count >> 1
    return power


@helper
def age_average(st, market, basis_half, count):
    """Let `count` equal samples pull the average of `ema_basis`.

    Source: MARK-004.
    """
    average = st.averages[market]
    left = raise_decay(st.markets[market]["basis_decay_ppb"], count)
    start = average["ema_start_ppb"]
    rest = start * left // PPB
    kept = (PPB - start) * left // (PPB - rest)
    sample = basis_half * MICRO
    average["ema_micro"] = sample + mul_div_floor(average["ema_micro"] - sample, kept, PPB)
    average["ema_start_ppb"] = rest


@helper
def take_basis(st, market, before_ns):
    """Take the samples that a command found due before it was applied.

    Source: MARK-002.
    """
    average = st.averages[market]
    if average["has_basis"] == 0:
        return
    rules = st.markets[market]
    count = count_instants(before_ns, st.head[0]["ts_ns"], rules["basis_interval_s"])
    if rules["mark_model"] == MARK_MEDIAN3:
        push_samples(st, market, average["seen_basis_half"], count)
    else:
        age_average(st, market, average["seen_basis_half"], count)


@inlined
def seconds_left(st, market):
    """Return the time to the next funding in whole seconds, rounded up.

    Source: MARK-003.
    """
    rules = st.markets[market]
    interval_ns = rules["funding_interval_s"] * NS
    gone_ns = (st.head[0]["ts_ns"] - rules["funding_offset_s"] * NS) % interval_ns
    return (interval_ns - gone_ns + NS - 1) // NS


@helper
def hold_basis(st, market, basis_tick):
    """Hold an averaged basis within the market's band.

    Source: MARK-005.
    """
    rules = st.markets[market]
    if rules["basis_band_ppm"] == 0:
        return basis_tick
    return hold(basis_tick, round_ratio(rules["index_tick"] * rules["basis_band_ppm"], np.int64(PPM)))


@helper
def find_median3(st, market):
    """Return the median of index with funding, index with basis, and last price.

    Source: MARK-003.
    """
    rules = st.markets[market]
    average = st.averages[market]
    index = rules["index_tick"]
    owed = average["rate_ppb"] * seconds_left(st, market)
    first = index + mul_div_half_even(owed, index, rules["funding_interval_s"] * PPB)
    second = first
    if average["ring_count"] > 0:
        second = index + hold_basis(st, market, round_ratio(average["ring_sum_half"], 2 * average["ring_count"]))
    last = rules["last_tick"] if rules["last_tick"] > 0 else first
    return max(min(first, second), min(max(first, second), last))


@hot
@phase("triggers")
def derive_mark(st, market):
    """Return the mark that a market's model makes of the present state and time, 0 where it has none yet.

    Source: STEP-002, MARK-001, MARK-003, MARK-004.
    """
    rules = st.markets[market]
    if rules["mark_model"] == MARK_LAST:
        return rules["last_tick"]
    index = rules["index_tick"]
    if index == 0:
        return np.int64(0)
    if rules["mark_model"] == MARK_EMA_BASIS:
        basis = round_ratio(st.averages[market]["ema_micro"], np.int64(2 * MICRO))
        tick = index + hold_basis(st, market, basis)
    else:
        tick = find_median3(st, market)
    return min(max(tick, np.int64(1)), rules["price_max_tick"])
