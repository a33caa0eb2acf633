"""Warning signs of a market, counted in one pass over its levels and one over its positions (SIGN-002..SIGN-005)."""

import numpy as np

from engine._jit import helper, kernel
from engine.codes import BUY, EXTERNAL, PPM, SELL
from engine.kernels.book import best_opposite, step_away
from engine.kernels.box import open_box
from engine.kernels.heap import pop_heap
from engine.kernels.ladder import find_level
from engine.kernels.query import is_beyond, is_liquidatable_at
from engine.kernels.queue import build_queue

NEAR_PPM, FAR_PPM = 10_000, 50_000  # how far from the middle depth is counted
FALLS_PPM = (10_000, 20_000, 50_000, 100_000)  # of the mark, for what would be liquidated
TOP = 10
SHARE_BITS = 30
# places in the row: depth, what falls, how the open interest and the queues are spread
TOUCH, DEPTH, LONG, SHORT, SPREAD, QUEUES = 0, 2, 6, 10, 14, 18
NUMBERS = 26


@helper
def count_depth(st, market, side, middle_half, found, at):
    """Count what rests on a side within 1 and 5 percent of the middle.

    Source: SIGN-002.
    """
    tick = best_opposite(st, market, -side)
    while tick > 0:
        away = (middle_half - 2 * tick) * side
        if away * PPM > middle_half * FAR_PPM:
            return
        lots = st.levels[find_level(st, market * 2, tick)]["qty_lot"]
        found[at + 1] += lots
        if away * PPM <= middle_half * NEAR_PPM:
            found[at] += lots
        tick = step_away(st, market, -side, tick)


@helper
def count_falls(st, slot, found):
    """Count a position where a fall of the mark (a rise, if it is short) would have its domain liquidated.

    The farthest first: most positions are not reached by that.  Source: SIGN-003.
    """
    qty = st.positions[slot]["qty_lot"]
    rules = st.markets[st.positions[slot]["market"]]
    mark = rules["mark_tick"]
    if mark == 0 or is_beyond(st, slot):
        return
    at = np.int64(LONG if qty > 0 else SHORT)
    for place in range(3, -1, -1):
        way = mark * FALLS_PPM[place] // PPM
        tick = mark - way if qty > 0 else min(mark + way, rules["price_max_tick"])
        if not is_liquidatable_at(st, slot, tick):
            return
        found[at + place] += abs(qty)


@helper
def count_positions(st, market, found):
    """Count positions, their quantity, that of the ten largest, and the sum of the squares of their shares.

    Source: SIGN-003, SIGN-004.
    """
    largest = np.zeros(TOP, np.int64)
    total = np.int64(0)
    for slot in range(st.head[0]["position_used"]):
        position = st.positions[slot]
        if position["market"] != market or position["qty_lot"] == 0 or position["account"] <= EXTERNAL:
            continue
        lots = abs(position["qty_lot"])
        found[SPREAD] += 1
        total += lots
        at = TOP
        while at > 0 and largest[at - 1] < lots:
            at -= 1
        if at < TOP:
            for place in range(TOP - 1, at, -1):
                largest[place] = largest[place - 1]
            largest[at] = lots
        count_falls(st, slot, found)
    found[SPREAD + 1] = total
    found[SPREAD + 2] = largest.sum()
    down = np.int64(0)
    while total >> down >= 1 << 32:
        down += 1
    for slot in range(st.head[0]["position_used"]):
        position = st.positions[slot]
        if position["market"] == market and position["qty_lot"] != 0 and position["account"] > EXTERNAL:
            share = ((abs(position["qty_lot"]) >> down) << SHARE_BITS) // (total >> down)
            found[SPREAD + 3] += share * share


@helper
def count_queue(st, market, side, found, at):
    """Count a side's ADL queue: candidates, their quantity, that of the first ten and of the first hundredth.

    Source: SIGN-005.
    """
    build_queue(st, market, side)
    head = st.head[0]
    head["queue_live"] = 0  # it is emptied here
    count = head["queue_length"]
    total = np.int64(0)
    for place in range(count):
        total += abs(st.positions[st.queue[place]["item"]]["qty_lot"])
    hundredth = -(-count // 100)
    found[at], found[at + 1] = count, total
    for rank in range(min(count, max(hundredth, TOP))):
        lots = abs(st.positions[st.queue[0]["item"]]["qty_lot"])
        if rank < TOP:
            found[at + 2] += lots
        if rank < hundredth:
            found[at + 3] += lots
        pop_heap(st.queue, count - rank)


@kernel
def count_signs(box, market):
    """Return the numbers of a market's warning signs, NUMBERS of them; O(levels + positions).

    Source: SIGN-002, SIGN-003, SIGN-004, SIGN-005.
    """
    st = open_box(box)
    found = np.zeros(NUMBERS, np.int64)
    bid = best_opposite(st, market, np.int64(SELL))
    ask = best_opposite(st, market, np.int64(BUY))
    found[TOUCH], found[TOUCH + 1] = bid, ask
    middle_half = bid + ask if bid > 0 and ask > 0 else 2 * max(bid, ask)
    count_depth(st, market, np.int64(BUY), middle_half, found, DEPTH)
    count_depth(st, market, np.int64(SELL), middle_half, found, DEPTH + 2)
    count_positions(st, market, found)
    count_queue(st, market, np.int64(BUY), found, QUEUES)
    count_queue(st, market, np.int64(SELL), found, QUEUES + 4)
    return found
