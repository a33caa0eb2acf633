"""Order id -> slot: open addressing in one array, half full at most, deletion by shifting back (no tombstones)."""

import numpy as np

from engine._jit import helper, inlined
from engine.layout import NIL


@inlined
def hash_id(order_id, size):
    """Return the home position of an id; consecutive ids spread over the table."""
    mixed = (order_id ^ (order_id >> 32)) & 0x7FFFFFFF  # 31 bits: the product below stays positive
    return ((mixed * 0x9E3779B1) >> 7) & (size - 1)


@helper
def find_id(st, order_id):
    """Return the slot of a resting order, or NIL."""
    idmap = st.idmap
    size = len(idmap)
    at = hash_id(order_id, size)
    while idmap[at]["slot"] != NIL:
        if idmap[at]["order_id"] == order_id:
            return np.int64(idmap[at]["slot"])
        at = (at + 1) & (size - 1)
    return np.int64(NIL)


@helper
def put_id(st, order_id, slot):
    """Remember where an order rests; the id must not be there yet."""
    idmap = st.idmap
    size = len(idmap)
    at = hash_id(order_id, size)
    while idmap[at]["slot"] != NIL:
        at = (at + 1) & (size - 1)
    idmap[at]["order_id"] = order_id
    idmap[at]["slot"] = slot


@helper
def drop_id(st, order_id):
    """Forget an id; entries that had to step over it move back."""
    idmap = st.idmap
    size = len(idmap)
    at = hash_id(order_id, size)
    while idmap[at]["order_id"] != order_id or idmap[at]["slot"] == NIL:
        at = (at + 1) & (size - 1)
    hole = at
    while True:
        at = (at + 1) & (size - 1)
        if idmap[at]["slot"] == NIL:
            break
        home = hash_id(idmap[at]["order_id"], size)
        # the entry may fill the hole only if its home does not lie between the hole and itself
        if ((at - home) & (size - 1)) >= ((at - hole) & (size - 1)):
            idmap[hole]["order_id"] = idmap[at]["order_id"]
            idmap[hole]["slot"] = idmap[at]["slot"]
            hole = at
    idmap[hole]["order_id"] = 0
    idmap[hole]["slot"] = NIL
