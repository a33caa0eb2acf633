"""Domains that rest after an attempt that left them liquidatable, and when they are looked at again (WAKE-001).

A heap by due time: a command that wakes nobody reads its first record only, and where nobody rests one number.
"""

import numpy as np

from engine._jit import helper
from engine._probe import phase
from engine.codes import ISOLATED
from engine.kernels.heap import pop_heap, sift_up, write_record
from engine.kernels.trigger import asset_of, read_flags, suspect, write_flags
from engine.layout import COOLING, RESTING

RESTS, COOLS = 0, 1  # what a record is about
TIME_MAX = (1 << 63) - 1


@helper
def due_after(st, wait_ns):
    """Return the time `wait_ns` from now; the last there is where that is beyond it."""
    now = st.head[0]["ts_ns"]
    return now + min(wait_ns, TIME_MAX - now)


@helper
def put_aside(st, code, flag, kind, due_ns):
    """Flag a domain and note until when; one that has the flag keeps its time."""
    flags = read_flags(st, code)
    if flags & flag:
        return
    write_flags(st, code, flags | flag)
    head = st.head[0]
    at = head["resting_count"]
    # ties by command, so that what rests until the next one hides nothing that is due
    write_record(st.resting, at, due_ns, head["seq"], kind, code)
    sift_up(st.resting, at)
    head["resting_count"] = at + 1


@helper
def rest_domain(st, code, due_ns):
    """Let a domain rest until a time, 0: until the next command.

    Source: WAKE-001.
    """
    put_aside(st, code, np.int64(RESTING), np.int64(RESTS), due_ns)


@helper
def cool_domain(st, code, due_ns):
    """Have a domain closed in full, should it be liquidated again before a time.

    Source: WAKE-002.
    """
    put_aside(st, code, np.int64(COOLING), np.int64(COOLS), due_ns)


@helper
@phase("triggers")
def wake_due(st):
    """Have the next trigger round look at whoever rested long enough, and end the cooldowns that are over.

    Nobody wakes in the command in which it went to rest.  Source: WAKE-001, WAKE-002, CASH-005.
    """
    head = st.head[0]
    while head["resting_count"] > 0:
        first = st.resting[0]
        if first["key"] > head["ts_ns"] or first["tie"] == head["seq"]:
            return
        pop_heap(st.resting, head["resting_count"])
        head["resting_count"] -= 1
        last = st.resting[head["resting_count"]]
        code = last["item"]
        if last["minor"] == COOLS:
            write_flags(st, code, read_flags(st, code) & ~COOLING)
            continue
        write_flags(st, code, read_flags(st, code) & ~RESTING)
        asset = st.assets[asset_of(st, code)]
        if asset["settlement"] != 0 and asset["settled_seq"] != head["seq"]:
            continue  # looked at when the mark is settled, and only then (CASH-005)
        # a position that is no domain of its own any more has been flat since
        if code & 1 or st.positions[code >> 1]["mode"] == ISOLATED:
            suspect(st, code)
