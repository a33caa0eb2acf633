"""The ADL queue: a side's positions ranked in a heap, kept while the marks stand still (ADL-002..ADL-004).

Ranking a side costs a pass over all positions, so a cascade at one mark ranks once.  Afterwards a domain that changes
has its position ranked anew and pushed; the entry it had before is recognised as stale when it comes up, because its
score is no longer the position's.
"""

import numpy as np

from engine._jit import helper, hot
from engine._probe import phase
from engine.codes import CROSS, EXTERNAL
from engine.kernels.heap import build_heap, copy_record, pop_heap, sift_up
from engine.kernels.margin import find_position, owner_of, share_of
from engine.kernels.score import score_position
from engine.layout import NIL, QUEUED


@hot
def rank_position(st, slot, side):
    """Return (whether a position is a candidate on `side`, its heap key).

    Source: ADL-002.
    """
    position = st.positions[slot]
    if position["qty_lot"] * side <= 0 or position["account"] <= EXTERNAL:
        return False, np.int64(0)
    share = share_of(st, slot)
    if share <= 0:
        return False, np.int64(0)
    return True, -score_position(st, slot, share)


@helper
def write_entry(st, at, slot, key):
    """Write a heap record: better score first, then earlier opening, then lower account."""
    entry = st.queue[at]
    entry["key"] = key
    entry["tie"] = st.positions[slot]["opened_seq"]
    entry["minor"] = st.positions[slot]["account"]
    entry["item"] = slot


@helper
def build_queue(st, market, side):
    """Rank all positions of `side` in a market; O(positions).

    Source: ADL-002.
    """
    head = st.head[0]
    count = np.int64(0)
    for slot in range(head["position_used"]):
        position = st.positions[slot]
        flags = np.int64(position["flags"]) & ~QUEUED
        if position["market"] == market:
            is_candidate, key = rank_position(st, slot, side)
            if is_candidate:
                flags |= QUEUED
                write_entry(st, count, slot, key)
                count += 1
        position["flags"] = flags
    build_heap(st.queue, count)
    head["queue_live"] = 1
    head["queue_market"] = market
    head["queue_side"] = side
    head["queue_count"] = count
    head["queue_length"] = count


@helper
@phase("ADL")
def refresh_domain(st, code):
    """Rank anew the position a changed domain has in the market of the standing queue, if one stands.

    Source: ADL-002.
    """
    head = st.head[0]
    if head["queue_live"] == 0:
        return
    market = head["queue_market"]
    slot = code >> 1
    if code & 1:
        account, _ = owner_of(st, code)
        slot = find_position(st, account, market)
        if slot == NIL or st.positions[slot]["mode"] != CROSS:
            return
    position = st.positions[slot]
    if position["market"] != market:
        return
    flags = np.int64(position["flags"])
    is_candidate, key = rank_position(st, slot, head["queue_side"])
    if is_candidate:
        if head["queue_count"] == len(st.queue):
            head["queue_live"] = 0  # no room for another entry: the next ADL ranks from the start
            return
        write_entry(st, head["queue_count"], slot, key)
        sift_up(st.queue, head["queue_count"])
        head["queue_count"] += 1
        head["queue_length"] += 1 if not flags & QUEUED else 0
        position["flags"] = flags | QUEUED
    else:
        head["queue_length"] -= 1 if flags & QUEUED else 0
        position["flags"] = flags & ~QUEUED


@helper
def open_queue(st, market, side):
    """See to a queue that ranks `side` of a market as it stands now; return its length.

    Source: ADL-004.
    """
    head = st.head[0]
    if head["queue_market"] != market or head["queue_side"] != side:
        head["queue_live"] = 0
    for at in range(head["touched_count"]):
        refresh_domain(st, st.touched[at])
    if head["queue_live"] == 0:
        build_queue(st, market, side)
    return head["queue_length"]


@helper
def is_standing(st, entry):
    """Return whether a heap record is its position's rank today."""
    is_candidate, key = rank_position(st, entry["item"], st.head[0]["queue_side"])
    return is_candidate and key == entry["key"] and st.positions[entry["item"]]["opened_seq"] == entry["tie"]


@helper
def put_back(st, end):
    """Return to the heap what was passed over: the records up to `end` that still name a position."""
    head = st.head[0]
    for at in range(head["queue_count"], end):
        record = st.queue[at]
        slot = record["item"]
        if slot != NIL:
            write_entry(st, head["queue_count"], slot, record["key"])
            sift_up(st.queue, head["queue_count"])
            head["queue_count"] += 1


@helper
def freeze_queue(st):
    """Forget every record that is no position's rank today, so that the others keep theirs whatever becomes of them.

    A haircut is about to change the scores of many; the queue it meets was fixed before.  Source: ADL-004.
    """
    head = st.head[0]
    for at in range(head["queue_count"]):
        entry = st.queue[at]
        if entry["item"] != NIL and not is_standing(st, entry):
            entry["item"] = NIL
    head["queue_live"] = 0


@helper
def list_side(st, market, side):
    """Rank a side of a market and write it out, best first, behind as many free records; return its length.

    The queue has a record per wallet and per position, so that twice a side always fits.  O(n log n).
    Source: ADL-002, ADL-004.
    """
    build_queue(st, market, side)
    head = st.head[0]
    head["queue_live"] = 0  # it is emptied here
    count = head["queue_length"]
    for done in range(count):
        pop_heap(st.queue, count - done)
    for at in range(count):
        copy_record(st.queue, count + at, count - 1 - at)
    return count
