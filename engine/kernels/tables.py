"""Tier tables that change while the market runs, and what that does to triggers (TIER-001..TIER-003).

Every table has a trigger ladder of its own: a position hangs on that of the table it was hung under, and stays there.
When another table comes into force nobody is moved.  Instead each ladder is told by how much the new table asks more
than its own, and is popped that much earlier.  Who is popped and found well hangs on the new table's ladder, at its own
price.  So a change costs what it brings near, never a pass over the accounts.

**How much earlier.**  Let `g` be the requirement before it is rounded, `f` the call factor, and `w` the most that
`f x (g_new(v) - g_old(v))` is of a notional `v`: at its largest where a tier of either table begins, or at either end.
Let `s = 1 - f x (highest new rate)`.  A position that loses as `v` falls was well at the last mark before its trigger,
at `v_t` say: `cash - cost + v_t >= f g_old(v_t)`.  For `h(v) = v - f g_new(v)`, whose slope is `s` at least, and
`v >= (1 + w / s) v_t + (f + 1) / s`:

    h(v) >= h(v_t) + w v_t + f + 1 >= v_t - f g_old(v_t) + f + 1 >= cost - cash + f + 1,

and `f + 1` is more than what rounding adds to `f g_new(v)`: it is well.  One that loses as `v` rises has
`k(v) = v + f g_new(v)`, whose slope is 1 at least; it is well at `v <= (1 - w) v_t - (f + 1)`, since there
`k(v) <= k(v_t) - w v_t - f - 1 <= v_t + f g_old(v_t) - f - 1`.  In a domain of several positions the same holds of
each, with all other marks where they stand: what its move back from the trigger gains covers what it is asked more.

A linear `v` is a multiple of the price, at least `multiplier` a tick; an inverse one is `N / p` give or take a half,
with `N` at least the multiplier `K`, which makes a distance of `e` in `v` one of at most `e / K` in `1 / p`.
"""

import numpy as np

from engine._jit import helper
from engine.codes import LINEAR, PPM, TIERS_MAX
from engine.kernels.fixed import mul_div_ceil, mul_div_floor
from engine.kernels.inverse import scale_up


@helper
def count_rows(st, start):
    """Return how many rows of a table there are; behind the last one rates are 0."""
    count = np.int64(0)
    while count < TIERS_MAX and st.tiers[start + count]["maintenance_ppm"] > 0:
        count += 1
    return count


@helper
def find_row(st, start, notional):
    """Return the index in `tiers` of the row of a table that a notional falls in."""
    row = start
    last = start + count_rows(st, start) - 1
    while row < last and st.tiers[row + 1]["floor_quote"] <= notional:
        row += 1
    return row


@helper
def measure_excess(st, have, ask):
    """Return the most that table `ask` asks above table `have` of a notional, in ppm of it, rounded up; 0 if nothing.

    `have` and `ask` are where the tables start.  Source: TIER-003.
    """
    first = st.tiers[ask]["maintenance_ppm"] - st.tiers[have]["maintenance_ppm"]
    last_ask = st.tiers[ask + count_rows(st, ask) - 1]["maintenance_ppm"]
    most = max(first, last_ask - st.tiers[have + count_rows(st, have) - 1]["maintenance_ppm"], np.int64(0))
    for start in (have, ask):
        for row in range(start + 1, start + count_rows(st, start)):
            notional = st.tiers[row]["floor_quote"]
            asked, had = st.tiers[find_row(st, ask, notional)], st.tiers[find_row(st, have, notional)]
            more = mul_div_ceil(notional, asked["maintenance_ppm"], PPM) - asked["deduction_quote"]
            more -= mul_div_floor(notional, had["maintenance_ppm"], PPM) - had["deduction_quote"]
            most = max(most, mul_div_ceil(more, PPM, notional))
    return most


@helper
def factor_of(st, market):
    """Return the most a domain of the market counts its requirement with, in ppm: for its margin call."""
    return max(st.assets[st.markets[market]["asset"]]["call_ppm"], np.int64(PPM))


@helper
def put_in_force(st, market, table):
    """Copy a table to the market's place, and tell every ladder how much more it asks than the ladder's own.

    Source: TIER-002, TIER-003.
    """
    rules = st.markets[market]
    start = (rules["tables_at"] + table) * TIERS_MAX
    for row in range(TIERS_MAX):
        mine, other = st.tiers[market * TIERS_MAX + row], st.tiers[start + row]
        mine["floor_quote"] = other["floor_quote"]
        mine["initial_ppm"] = other["initial_ppm"]
        mine["maintenance_ppm"] = other["maintenance_ppm"]
        mine["deduction_quote"] = other["deduction_quote"]
    rules["tier_count"] = count_rows(st, start)
    rules["tier_table"] = table
    for own in range(np.int64(rules["table_count"])):
        excess = measure_excess(st, (rules["tables_at"] + own) * TIERS_MAX, start)
        ladder = market * 2 + 1 if own == 0 else np.int64(rules["ladders_at"]) + own - 1
        st.ladders[ladder]["wide_ppm"] = scale_up(excess, factor_of(st, market))


@helper
def widen(st, market, wide_ppm):
    """Return the ticks (lowest of longs, highest of shorts) down and up to which a laxer table's ladder is popped.

    Source: TIER-003.
    """
    rules = st.markets[market]
    mark, unit, top = rules["mark_tick"], rules["multiplier"], rules["price_max_tick"]
    factor_ppm = factor_of(st, market)
    highest = st.tiers[market * TIERS_MAX + rules["tier_count"] - 1]["maintenance_ppm"]
    slope_ppm = max(PPM - scale_up(highest, factor_ppm), 1)
    more_ppm = PPM - ((-wide_ppm * PPM) // slope_ppm)  # 1 + w / s, for what falls with v
    less_ppm = PPM - wide_ppm  # 1 - w, for what falls as v rises
    near = -(-factor_ppm // PPM) + 1  # f + 1
    far = -((-near * PPM) // slope_ppm)  # (f + 1) / s
    if rules["kind"] == LINEAR:
        low = (mark - (far + unit - 1) // unit) * PPM // more_ppm - 1
        high = -(-(mark + (near + unit - 1) // unit) * PPM // less_ppm) + 1 if less_ppm > 0 else top
    else:
        near += 1
        far += more_ppm // PPM + 2
        low = np.int64(0)
        if less_ppm > 0:
            low = mul_div_floor(mark, unit, unit + near * mark) * less_ppm // PPM - 1
        high = top
        if far < unit // mark:
            high = -(-mul_div_ceil(mark, unit, unit - far * mark) * more_ppm // PPM) + 1
    return max(low, 1), min(high, top)
