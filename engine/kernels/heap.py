"""A heap of (key, tie, minor, item) records, smallest first; the order is total, so no layout shows through.

Four children to a node: half the levels of a binary heap, and siblings lie in two cache lines.  What sinks or rises is
held aside and written once, where it stays.  It serves both the liquidations of a round (STEP-003) and the ADL queue
(ADL-002).
"""

import numpy as np

from engine._jit import helper, hot, inlined
from engine.kernels.box import prefetch

DEEP = 4_096  # records: what is nearer the top of the heap was used a moment ago


@hot
def is_before(record, key, tie, minor):
    """Return whether a record comes before one with these fields."""
    if record["key"] != key:
        return record["key"] < key
    if record["tie"] != tie:
        return record["tie"] < tie
    return record["minor"] < minor


@inlined
def write_record(heap, at, key, tie, minor, item):
    """Write a record."""
    record = heap[at]
    record["key"] = key
    record["tie"] = tie
    record["minor"] = minor
    record["item"] = item


@inlined
def copy_record(heap, to, source):
    """Copy a record from one place to another."""
    record = heap[source]
    write_record(heap, to, record["key"], record["tie"], record["minor"], record["item"])


@inlined
def fetch_below(heap, count, at):
    """Have the processor fetch the children's children of a record, where they lie too far down to be in its caches."""
    first = 16 * at + 5
    if first >= DEEP and first < count:
        for other in range(first, first + 16, 2):
            prefetch(heap, other)
        prefetch(heap, first + 15)


@helper
def sift_down(heap, count, at):
    """Restore the heap below position `at`; O(log count)."""
    moved = heap[at]
    key, tie, minor, item = moved["key"], moved["tie"], moved["minor"], moved["item"]
    while True:
        first = 4 * at + 1
        if first >= count:
            break
        fetch_below(heap, count, at)
        child = first
        for other in range(first + 1, min(first + 4, count)):
            best = heap[child]
            if is_before(heap[other], best["key"], best["tie"], best["minor"]):
                child = other
        if not is_before(heap[child], key, tie, minor):
            break
        copy_record(heap, at, child)
        at = child
    write_record(heap, at, key, tie, minor, item)


@helper
def sift_up(heap, at):
    """Restore the heap above position `at`; O(log at)."""
    moved = heap[at]
    key, tie, minor, item = moved["key"], moved["tie"], moved["minor"], moved["item"]
    while at > 0:
        parent = heap[(at - 1) // 4]
        if is_before(parent, key, tie, minor):
            break
        copy_record(heap, at, (at - 1) // 4)
        at = (at - 1) // 4
    write_record(heap, at, key, tie, minor, item)


@helper
def build_heap(heap, count):
    """Make the first `count` records a heap; O(count)."""
    for at in range((count - 2) // 4, -1, -1):
        sift_down(heap, count, at)


@helper
def pop_heap(heap, count):
    """Move the first record to position count - 1 and restore the heap before it; O(log count)."""
    last = heap[count - 1]
    key, tie, minor, item = last["key"], last["tie"], last["minor"], last["item"]
    copy_record(heap, count - 1, 0)
    write_record(heap, 0, key, tie, minor, item)
    if count > 1:
        sift_down(heap, count - 1, np.int64(0))
