"""How much each candidate gives up where not the queue alone decides (ADL-023..ADL-027).

A side is written out best first in the upper part of the queue's records: key minus the score, tie the part allotted,
minor the account (its complement: the part is final), item the position (NIL: out).  The lower part is room to work
in: a record per candidate with its weight (key), its cap (tie) and its place above (item, NIL: settled), and afterwards
a heap of those due another lot.
"""

import numpy as np

from engine._jit import helper
from engine.codes import ALLOT_CONTRACTS, ALLOT_DRAINING, ALLOT_MIN_MAX, ALLOT_PNL
from engine.kernels.fixed import mul_div_floor, mul_mod
from engine.kernels.heap import build_heap, pop_heap, sift_down, write_record
from engine.kernels.margin import domain_of, measure_domain, value_at_mark
from engine.layout import NIL

EXACT = 1 << 62  # levels are told apart to 2**-62 of a lot


@helper
def equity_at(st, slot):
    """Return the equity of a position's domain, not below zero."""
    equity, _, _ = measure_domain(st, domain_of(st, slot))
    return max(equity, 0)


@helper
def weigh_candidate(st, slot, rule):
    """Return what a candidate's part is in proportion to; draining, what it keeps.

    Source: ADL-025, ADL-026, ADL-027.
    """
    if rule == ALLOT_CONTRACTS:
        return abs(st.positions[slot]["qty_lot"])
    if rule == ALLOT_PNL:
        return max(value_at_mark(st, slot) - st.positions[slot]["cost_quote"], 0)
    return equity_at(st, slot)


@helper
def bear_lots(st, slot):
    """Return how many of its lots a candidate can bear to lose at the price of this deleveraging.

    Source: ADL-023.
    """
    head = st.head[0]
    held = abs(st.positions[slot]["qty_lot"])
    if head["allot_loss_quote"] <= 0:
        return held
    return min(held, mul_div_floor(equity_at(st, slot), head["allot_lot"], head["allot_loss_quote"]))


@helper
def open_work(st, count, rule):
    """Write a work record for every candidate whose part is not final, and forget the parts of those before."""
    for at in range(count):
        entry = st.queue[count + at]
        slot = entry["item"]
        if slot == NIL or entry["minor"] < 0:
            st.queue[at]["item"] = NIL
            continue
        cap = abs(st.positions[slot]["qty_lot"]) if rule == ALLOT_DRAINING else bear_lots(st, slot)
        entry["tie"] = 0
        write_record(st.queue, at, weigh_candidate(st, slot, rule), cap, np.int64(0), at)


@helper
def settle_capped(st, count, total):
    """Give their caps to all whose share reaches it, until nobody's does; return (lots left, weights left).

    Source: ADL-024.
    """
    weights = np.int64(0)
    for at in range(count):
        if st.queue[at]["item"] != NIL:
            weights += st.queue[at]["key"]
    left = total
    found = True
    while found and weights > 0:
        found = False
        given = np.int64(0)
        taken = np.int64(0)
        for at in range(count):
            work = st.queue[at]
            weight = work["key"]
            if work["item"] != NIL and weight > 0 and mul_div_floor(left, weight, weights) >= work["tie"]:
                st.queue[count + work["item"]]["tie"] = work["tie"]
                work["item"] = NIL
                given += work["tie"]
                taken += weight
                found = True
        left -= given
        weights -= taken
    return left, weights


@helper
def level_of(part, weight, weights):
    """Return part x weights / weight as whole lots and 2**-62ths of one.

    Source: ADL-027.
    """
    return mul_div_floor(part, weights, weight), mul_div_floor(mul_mod(part, weights, weight), EXACT, weight)


@helper
def round_shares(st, count, left, weights, by_level):
    """Give the others their floored shares, and write a heap of those due another lot; return (lots over, length).

    First come the largest rests, or the lowest levels afterwards if `by_level`.  Source: ADL-024, ADL-027.
    """
    over = left
    due = np.int64(0)
    for at in range(count):
        work = st.queue[at]
        place, weight, cap = work["item"], work["key"], work["tie"]
        if place == NIL or weight == 0:
            continue
        part = mul_div_floor(left, weight, weights)
        entry = st.queue[count + place]
        entry["tie"] = part
        over -= part
        key, tie = -mul_mod(left, weight, weights), entry["minor"]
        if by_level and part < cap:
            key, tie = level_of(part + 1, weight, weights)
        if part < cap:
            write_record(st.queue, due, key, tie, place, place)
            due += 1
    build_heap(st.queue, due)
    return over, due


@helper
def hand_out(st, count, over, due, weights, by_level):
    """Hand out lot by lot what the floors left.

    Source: ADL-024, ADL-027.
    """
    while over > 0:
        place = st.queue[0]["item"]
        entry = st.queue[count + place]
        entry["tie"] += 1
        over -= 1
        if by_level and entry["tie"] < bear_lots(st, entry["item"]):
            key, tie = level_of(entry["tie"] + 1, equity_at(st, entry["item"]), weights)
            write_record(st.queue, np.int64(0), key, tie, place, place)
            sift_down(st.queue, due, np.int64(0))
        else:
            pop_heap(st.queue, due)
            due -= 1


@helper
def spread(st, count, total, rule):
    """Spread lots over the candidates by weight, none above its cap; what these cannot take, by contracts.

    Source: ADL-024.
    """
    open_work(st, count, rule)
    by_level = rule == ALLOT_MIN_MAX
    left, weights = settle_capped(st, count, total)
    if weights == 0 and left > 0:
        by_level = False
        for at in range(count):
            work = st.queue[at]
            if work["item"] != NIL:
                work["key"] = abs(st.positions[st.queue[count + work["item"]]["item"]]["qty_lot"])
        left, weights = settle_capped(st, count, left)
    if weights > 0:
        over, due = round_shares(st, count, left, weights, by_level)
        hand_out(st, count, over, due, weights, by_level)


@helper
def drain(st, count, total):
    """Bring the most levered to one leverage: what is kept is spread by equity, and who cannot bear that bears its cap.

    Source: ADL-026.
    """
    left = total
    found = True
    while found:
        kept = -left
        for at in range(count):
            entry = st.queue[count + at]
            if entry["item"] != NIL and entry["minor"] >= 0:
                kept += abs(st.positions[entry["item"]]["qty_lot"])
        spread(st, count, kept, np.int64(ALLOT_DRAINING))
        found = False
        for at in range(count):
            entry = st.queue[count + at]
            if entry["item"] == NIL or entry["minor"] < 0:
                continue
            part = abs(st.positions[entry["item"]]["qty_lot"]) - entry["tie"]
            cap = bear_lots(st, entry["item"])
            if part > cap:
                part = cap
                left -= cap
                entry["minor"] = ~entry["minor"]
                found = True
            entry["tie"] = part


@helper
def allot_parts(st, count, lots, loss_quote, rule):
    """Write into the records of a side how many of `lots` each gives up, whose closing costs them `loss_quote` in all.

    Source: ADL-023.
    """
    head = st.head[0]
    head["allot_lot"] = lots
    head["allot_loss_quote"] = loss_quote
    room = np.int64(0)
    for at in range(count):
        entry = st.queue[count + at]
        if entry["item"] != NIL:
            entry["minor"] = st.positions[entry["item"]]["account"]
            room += bear_lots(st, entry["item"])
    total = min(lots, room)
    if rule == ALLOT_DRAINING:
        drain(st, count, total)
    else:
        spread(st, count, total, rule)
