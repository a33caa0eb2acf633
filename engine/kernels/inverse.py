"""Where inverse positions hang (INV-006): found in `v`, the size of the value, and turned into ticks.

Falling prices make `v` larger.  So a long, who is paid `-v`, stands as a linear short whose price is `v`, and a short
as a linear long; requirements are convex in `v` for both.

Between ticks and `v` there is one rounding, `v(p) = half-even(N / p)` with `N = |lots| x multiplier`:

- `v(p) > s` makes `N / p >= s + 1/2`, hence `p <= 2 N / (2 s + 1)`.  A long that is well while `v <= s` hangs at the
  floor of that: no price above it brings `v` beyond `s`.
- `v(p) <= b` makes `N / p <= b + 1/2`, hence `p >= 2 N / (2 b + 1)`.  A short that is in need only where `v <= b` hangs
  at the ceiling of that: every price below it keeps `v` above `b`.
"""

import numpy as np

from engine._jit import helper, inlined
from engine.codes import PPM
from engine.kernels.fixed import mul_div_floor
from engine.kernels.margin import find_tier, value_at_mark


@inlined
def scale_up(x, factor_ppm):
    """Return ceil(x x factor / 10**6) for a rate x."""
    return -((-x * factor_ppm) // PPM)


@inlined
def rounding_of(factor_ppm):
    """Return what rounding a requirement up can add to a multiple of it, in units per position, at least 2."""
    return max(-(-factor_ppm // PPM), 2)


@helper
def count_reach(st, slot):
    """Return `N`: what the position would be worth at a price of one tick."""
    position = st.positions[slot]
    return abs(position["qty_lot"]) * st.markets[position["market"]]["multiplier"]


@helper
def tick_of_largest(reach, value_quote):
    """Return the highest tick at which `v` may be above a size; 0 if at none.

    Source: INV-006.
    """
    if value_quote >= reach:
        return np.int64(0)
    return 2 * reach // (2 * max(value_quote, 0) + 1)


@helper
def tick_of_smallest(reach, value_quote):
    """Return the lowest tick at which `v` may be at or below a size of 0 or more.

    Source: INV-006.
    """
    return -(-2 * reach // (2 * min(value_quote, reach) + 1))


@helper
def find_largest(st, slot, cash, factor_ppm):
    """Return the largest `v` at which `cash` covers an inverse long's requirement, or less than that.

    In need is who has `cash - cost - v < ceil(f x M(v))`, which is less than `f (v r + 1 - d)` on the line of v's tier;
    so nobody is while `v (1 + f r) <= cash - cost + f d - f`.  Only the tiers from today's on can bind.
    Source: INV-006, MARGIN-010.
    """
    position = st.positions[slot]
    market = np.int64(position["market"])
    tier = find_tier(st, market, abs(value_at_mark(st, slot)))
    last = find_tier(st, market, np.int64(1) << 62)
    found = np.int64(1) << 62
    while True:
        line = st.tiers[tier]
        room = cash - position["cost_quote"] + mul_div_floor(line["deduction_quote"], factor_ppm, PPM)
        room = max(room - rounding_of(factor_ppm), 0)
        found = min(found, mul_div_floor(room, PPM, PPM + scale_up(line["maintenance_ppm"], factor_ppm)))
        if tier == last or found < st.tiers[tier + 1]["floor_quote"]:
            return found
        tier += 1


@helper
def find_smallest(st, slot, cash, factor_ppm):
    """Return the largest `v` at which `cash` may not cover an inverse short's requirement; -1 if it always does.

    In need is who has `cash - cost + v < ceil(f x M(v))`, hence `v (1 - f r) < cost - cash - f d + f`.  Only the tiers
    up to today's can bind.
    Source: INV-006, MARGIN-010.
    """
    position = st.positions[slot]
    market = np.int64(position["market"])
    tier = find_tier(st, market, abs(value_at_mark(st, slot)))
    found = np.int64(-1)
    while True:
        line = st.tiers[tier]
        lack = position["cost_quote"] - cash - mul_div_floor(line["deduction_quote"], factor_ppm, PPM)
        lack += rounding_of(factor_ppm)
        if lack > 0:
            rest = max(PPM - scale_up(line["maintenance_ppm"], factor_ppm), 1)
            found = max(found, mul_div_floor(lack, PPM, rest))
        if found >= line["floor_quote"] or line["floor_quote"] == 0:
            return found
        tier -= 1


@helper
def trigger_of_inverse(st, slot, cash, factor_ppm):
    """Return the price under which the only position of a domain hangs; 0 or beyond every price: none.

    Source: INV-006.
    """
    reach = count_reach(st, slot)
    if st.positions[slot]["qty_lot"] > 0:
        return tick_of_largest(reach, find_largest(st, slot, cash, factor_ppm))
    smallest = find_smallest(st, slot, cash, factor_ppm)
    return tick_of_smallest(reach, smallest) if smallest >= 0 else np.int64(1) << 32


@helper
def part_of_inverse(st, slot, slack, factor_ppm):
    """Return the price at which the mark alone would use up a position's part of its domain's slack.

    A short loses `v` and asks for less, so the loss alone is the worst case; a long loses what `v` grows by and asks
    for more, at the rate of the tier `v` may reach.
    Source: INV-006, MARGIN-010.
    """
    market = np.int64(st.positions[slot]["market"])
    reach = count_reach(st, slot)
    value = abs(value_at_mark(st, slot))
    if st.positions[slot]["qty_lot"] < 0:
        return tick_of_smallest(reach, value - slack - 1) if value > slack else np.int64(1) << 32
    rate = st.tiers[find_tier(st, market, value)]["maintenance_ppm"]
    room = min(mul_div_floor(slack, PPM, PPM + scale_up(rate, factor_ppm)), reach)
    higher = st.tiers[find_tier(st, market, value + room)]["maintenance_ppm"]
    if higher > rate:
        room = min(room, mul_div_floor(slack, PPM, PPM + scale_up(higher, factor_ppm)))
    return tick_of_largest(reach, value + room)
