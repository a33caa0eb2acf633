"""Questions about the state, asked from outside a batch: nothing here changes money."""

import numpy as np

from engine._jit import helper, kernel
from engine.codes import EXTERNAL, LIGHTS_QUANTITY, LINEAR, PPM, TIERS_MAX
from engine.kernels.book import best_opposite, step_away
from engine.kernels.box import open_box
from engine.kernels.heap import pop_heap
from engine.kernels.ladder import find_level
from engine.kernels.margin import (
    count_accounts,
    cross_code,
    domain_of,
    find_position,
    measure_domain,
    share_of,
    show_bankruptcy,
    value_at_mark,
)
from engine.kernels.queue import build_queue
from engine.layout import NIL


@helper
def count_lights(policy, rank, count, before_lot, total_lot):
    """Return the lights of the candidate of that rank (from 1) of `count`, behind whom `before_lot` of all lots stand.

    `before_lot` counts the candidate's own.  Source: ADL-009, ADL-028.
    """
    if policy == LIGHTS_QUANTITY:
        return np.int64(6 + (-5 * before_lot) // total_lot)
    return np.int64(6 - max((10 * rank + count) // (2 * count), 1))


@kernel
def list_queue(box, market, side):
    """Return rows (account, score, qty_lot, lights) of a side's ADL queue in the order the heap serves it.

    Source: ADL-002, ADL-009, ADL-028.
    """
    st = open_box(box)
    build_queue(st, market, side)
    st.head[0]["queue_live"] = 0  # it is emptied here
    count = st.head[0]["queue_length"]
    policy = np.int64(st.markets[market]["lights"])
    found = np.zeros((count, 4), np.int64)
    total = np.int64(0)
    for rank in range(count):
        entry = st.queue[0]
        found[rank, 0] = entry["minor"]
        found[rank, 1] = -entry["key"]
        found[rank, 2] = st.positions[entry["item"]]["qty_lot"]
        total += abs(found[rank, 2])
        pop_heap(st.queue, count - rank)
    served = np.int64(0)
    for rank in range(count):
        served += abs(found[rank, 2])
        found[rank, 3] = count_lights(policy, np.int64(rank + 1), count, served, total)
    return found


@kernel
def list_depth(box, market, side, count):
    """Return up to `count` price levels of a side, best first, as rows (price_tick, qty_lot).

    O(levels returned x log ticks).
    """
    st = open_box(box)
    found = np.zeros((count, 2), np.int64)
    tick = best_opposite(st, market, -side)
    rank = 0
    while tick > 0 and rank < count:
        found[rank, 0] = tick
        found[rank, 1] = st.levels[find_level(st, market * 2, tick)]["qty_lot"]
        tick = step_away(st, market, -side, tick)
        rank += 1
    return found[:rank]


@helper
def is_liquidatable_at(st, slot, tick):
    """Return whether a position's domain would be liquidatable with its market's mark at `tick`.

    Source: MARGIN-004.
    """
    rules = st.markets[st.positions[slot]["market"]]
    mark_tick = rules["mark_tick"]
    rules["mark_tick"] = tick
    equity, maintenance, _ = measure_domain(st, domain_of(st, slot))
    rules["mark_tick"] = mark_tick
    return equity < maintenance


@helper
def is_beyond(st, slot):
    """Return whether a tick may change what a position needs by more than its value: there is no one price then.

    It is so where the rate is above 1 and the value falls as the requirement does: a long's, an inverse short's.

    Source: MARGIN-011, CASH-006.
    """
    market = np.int64(st.positions[slot]["market"])
    last = market * TIERS_MAX + st.markets[market]["tier_count"] - 1
    if st.markets[market]["kind"] == LINEAR:
        return st.positions[slot]["qty_lot"] > 0 and st.tiers[last]["maintenance_ppm"] > PPM
    rate_ppm = st.tiers[last]["maintenance_ppm"] + st.markets[market]["short_maintenance_ppm"]
    return st.positions[slot]["qty_lot"] < 0 and rate_ppm > PPM


@kernel
def find_liquidation_price(box, account, market):
    """Return the first mark at which a position's domain is liquidatable, all other marks unchanged; 0: none.

    Equity less requirement falls against the position, so a bisection finds the edge.  Source: MARGIN-011.
    """
    st = open_box(box)
    if account <= EXTERNAL or account >= count_accounts(st):
        return np.int64(0)
    slot = find_position(st, account, market)
    if slot == NIL or st.positions[slot]["qty_lot"] == 0 or is_beyond(st, slot):
        return np.int64(0)
    near = np.int64(st.markets[market]["price_max_tick"])
    far = np.int64(1)
    if st.positions[slot]["qty_lot"] < 0:
        near, far = far, near
    if not is_liquidatable_at(st, slot, far):
        return np.int64(0)
    if is_liquidatable_at(st, slot, near):
        return near
    while abs(far - near) > 1:
        middle = (far + near) // 2
        if is_liquidatable_at(st, slot, middle):
            far = middle
        else:
            near = middle
    return far


@kernel
def find_bankruptcy_price(box, account, market):
    """Return a position's bankruptcy price in ticks, 0 without a position.

    Source: MARGIN-005.
    """
    st = open_box(box)
    if account < EXTERNAL or account >= count_accounts(st):
        return np.int64(0)
    slot = find_position(st, account, market)
    if slot == NIL or st.positions[slot]["qty_lot"] == 0:
        return np.int64(0)
    worth = value_at_mark(st, slot) - share_of(st, slot)
    return show_bankruptcy(st, market, worth, st.positions[slot]["qty_lot"])


@kernel
def measure_margin(box, account, market):
    """Return (equity, maintenance) of the domain of an account's position in a market, (0, 0) for the outside.

    Source: MARGIN-001.
    """
    st = open_box(box)
    if account <= EXTERNAL or account >= count_accounts(st):
        return np.int64(0), np.int64(0)
    slot = find_position(st, account, market)
    if slot == NIL or st.positions[slot]["qty_lot"] == 0:
        code = cross_code(st, account, np.int64(st.markets[market]["asset"]))
    else:
        code = domain_of(st, slot)
    equity, maintenance, _ = measure_domain(st, code)
    return equity, maintenance
