"""A binary heap of (key, tie, minor, item) records, smallest first; the order is total, so no layout shows through.

It serves both the liquidations of a round (STEP-003) and the ADL queue (ADL-002).
"""

import numpy as np

from engine._jit import helper


@helper
def precedes(heap, a, b):
    """Return whether record `a` comes before record `b`."""
    left, right = heap[a], heap[b]
    if left["key"] != right["key"]:
        return left["key"] < right["key"]
    if left["tie"] != right["tie"]:
        return left["tie"] < right["tie"]
    return left["minor"] < right["minor"]


@helper
def swap(heap, a, b):
    """Exchange two records."""
    left, right = heap[a], heap[b]
    key, tie, minor, item = left["key"], left["tie"], left["minor"], left["item"]
    left["key"], left["tie"], left["minor"], left["item"] = right["key"], right["tie"], right["minor"], right["item"]
    right["key"], right["tie"], right["minor"], right["item"] = key, tie, minor, item


@helper
def sift_down(heap, count, at):
    """Restore the heap below position `at`; O(log count)."""
    while True:
        child = 2 * at + 1
        if child >= count:
            return
        if child + 1 < count and precedes(heap, child + 1, child):
            child += 1
        if not precedes(heap, child, at):
            return
        swap(heap, child, at)
        at = child


@helper
def sift_up(heap, at):
    """Restore the heap above position `at`; O(log at)."""
    while at > 0:
        parent = (at - 1) // 2
        if not precedes(heap, at, parent):
            return
        swap(heap, at, parent)
        at = parent


@helper
def build_heap(heap, count):
    """Make the first `count` records a heap; O(count)."""
    for at in range(count // 2 - 1, -1, -1):
        sift_down(heap, count, at)


@helper
def pop_heap(heap, count):
    """Move the first record to position count - 1 and restore the heap before it; O(log count)."""
    first = np.int64(0)
    swap(heap, first, count - 1)
    sift_down(heap, count - 1, first)
