"""Tier tables that change while the market runs, and what that does to triggers (TIER-001..TIER-003).

Every table has a trigger ladder of its own: a position hangs on that of the table it was hung under, and stays there.
When another table comes into force nobody is moved.  Instead the ladders of the others are popped earlier, by as much
as the table in force asks more than theirs.  Who is popped and found well hangs on the ladder of the table in force, at
its own price.  So a change costs what it brings near, never a pass over the accounts.

**How much earlier.**  Let `g` be a requirement before it is rounded, `f` the call factor, `m` the mark, `v` the size of
a position's value at it, `w` the most that `f x (g_new - g_old)` is of any `v` up to that of the largest position on
the ladder, and `s = 1 - f x (the old rate of the largest)`.  Let `R` be the price up to which the ladder is popped, and
`v_R` the value there.  Who is left hangs beyond `R`, so it was well at `R` by the old table, all other marks standing
where they stand.  What moving from `R` to `m` gains it must cover what it is asked more, and the rounding of both,
`f + 1` at most:

- who loses as `v` falls (linear longs, inverse shorts) gains `v - v_R` and is asked `f g_new(v) - f g_old(v_R)` more,
  at most `w v + (1 - s) (v - v_R)`, the requirement being convex: `v - v_R >= (w v + f + 1) / s` will do;
- who loses as `v` rises (linear shorts, inverse longs) gains `v_R - v` and is asked `f g_new(v) - f g_old(v_R)` more,
  at most `w v`, since `v_R` is the larger: `v_R - v >= w v + f + 1` will do.

The same holds of every position of a domain, whatever tables its other markets have.  A linear `v` is a multiple of
the price, at least `multiplier` a tick; an inverse one is `N / p` give or take a half, with `N` at least the multiplier
`K`, so that `e` units of `v` are at most `e / K` in `1 / p`.
"""

import numpy as np

from engine._jit import helper, inlined
from engine.codes import LINEAR, PPM, TIERS_MAX
from engine.kernels.fixed import mul_div_ceil, mul_div_floor
from engine.kernels.inverse import scale_up
from engine.kernels.margin import value_at


@inlined
def ladder_of(st, market, table):
    """Return the index of the trigger ladder of a market's tier table."""
    return market * 2 + 1 if table == 0 else np.int64(st.markets[market]["ladders_at"]) + table - 1


@inlined
def is_empty(ladder):
    """Return whether nothing hangs on a ladder."""
    return ladder["best_bid"] == 0 and ladder["best_ask"] == ladder["limit_tick"]


@inlined
def note_size(ladder, lots):
    """Note that a position of so many lots is about to hang on a ladder: the most of those that do, or did."""
    ladder["most_lot"] = lots if is_empty(ladder) else max(ladder["most_lot"], lots)


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
def excess_at(st, have, ask, notional):
    """Return what table `ask` asks above table `have` of a notional above 0, in ppm of it, rounded up; signed."""
    asked, had = st.tiers[find_row(st, ask, notional)], st.tiers[find_row(st, have, notional)]
    more = mul_div_ceil(notional, asked["maintenance_ppm"], PPM) - asked["deduction_quote"]
    more -= mul_div_floor(notional, had["maintenance_ppm"], PPM) - had["deduction_quote"]
    return mul_div_ceil(more, PPM, notional)


@helper
def measure_excess(st, have, ask, largest):
    """Return the most that table `ask` asks above table `have` of notionals up to `largest`, in ppm; 0 if nothing.

    Between two tiers, of either table, the part is rising or falling throughout: it is largest where one begins, or at
    an end.  `have` and `ask` are where the tables start.  Source: TIER-003.
    """
    most = max(st.tiers[ask]["maintenance_ppm"] - st.tiers[have]["maintenance_ppm"], np.int64(0))
    most = max(most, excess_at(st, have, ask, largest))
    for start in (have, ask):
        for row in range(start + 1, start + count_rows(st, start)):
            notional = st.tiers[row]["floor_quote"]
            if notional < largest:
                most = max(most, excess_at(st, have, ask, notional))
    return most


@helper
def factor_of(st, market):
    """Return the most a domain of the market counts its requirement with, in ppm: for its margin call."""
    return max(st.assets[st.markets[market]["asset"]]["call_ppm"], np.int64(PPM))


@helper
def put_in_force(st, market, table):
    """Copy a table to the market's place; what the ladders of the others must know is found when they are looked at.

    Source: TIER-002.
    """
    rules = st.markets[market]
    start = (np.int64(rules["tables_at"]) + table) * TIERS_MAX
    for row in range(TIERS_MAX):
        mine, other = st.tiers[market * TIERS_MAX + row], st.tiers[start + row]
        mine["floor_quote"] = other["floor_quote"]
        mine["initial_ppm"] = other["initial_ppm"]
        mine["maintenance_ppm"] = other["maintenance_ppm"]
        mine["deduction_quote"] = other["deduction_quote"]
    rules["tier_count"] = count_rows(st, start)
    rules["tier_table"] = table
    for own in range(np.int64(rules["table_count"])):
        st.ladders[ladder_of(st, market, own)]["valid_quote"] = 0


@helper
def gauge(st, market, table, value_quote):
    """Note how much more the table in force asks than a ladder's own of notionals up to twice a size.

    Source: TIER-003.
    """
    rules = st.markets[market]
    ladder = st.ladders[ladder_of(st, market, table)]
    first = np.int64(rules["tables_at"])
    have, ask = (first + table) * TIERS_MAX, (first + np.int64(rules["tier_table"])) * TIERS_MAX
    factor_ppm = factor_of(st, market)
    largest = 2 * value_quote
    ladder["valid_quote"] = largest
    ladder["wide_ppm"] = scale_up(measure_excess(st, have, ask, largest), factor_ppm)
    rate = st.tiers[find_row(st, have, largest)]["maintenance_ppm"]
    ladder["slope_ppm"] = max(PPM - scale_up(rate, factor_ppm), 1)


@helper
def find_reach(st, market, table):
    """Return the ticks (of longs, of shorts) down and up to which a ladder is popped at the present mark.

    Source: MARGIN-010, TIER-003.
    """
    rules = st.markets[market]
    ladder = st.ladders[ladder_of(st, market, table)]
    mark, unit = rules["mark_tick"], rules["multiplier"]
    if table == rules["tier_table"] or is_empty(ladder):
        return mark, mark
    value = abs(value_at(st, market, mark, ladder["most_lot"]))
    if value > ladder["valid_quote"]:
        gauge(st, market, table, value)
    wide_ppm, slope_ppm = ladder["wide_ppm"], ladder["slope_ppm"]
    if wide_ppm == 0:
        return mark, mark
    near = -(-factor_of(st, market) // PPM) + 1  # f + 1
    far = -((-near * PPM) // slope_ppm)  # (f + 1) / s
    steep_ppm = -((-wide_ppm * PPM) // slope_ppm)  # w / s
    if rules["kind"] == LINEAR:
        low = mark - mul_div_ceil(mark, steep_ppm, PPM) - (far + unit - 1) // unit
        high = mark + mul_div_ceil(mark, wide_ppm, PPM) + (near + unit - 1) // unit
    else:
        # a half for the value at the mark, by its part of the excess more, and a half for the value at R
        more = unit + mul_div_ceil(unit, wide_ppm, PPM) + (near + 3) * mark
        low = mul_div_floor(mark, unit, more)
        less = unit - mul_div_ceil(unit, steep_ppm, PPM) - min(far + 1, unit // mark) * mark
        high = mul_div_ceil(mark, unit, less) if less > 0 else rules["price_max_tick"]
    return max(low, 1), min(high, rules["price_max_tick"])
