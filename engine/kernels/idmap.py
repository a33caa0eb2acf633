"""Order id -> slot: open addressing, half full at most, deletion by shifting back (no tombstones).

An entry is one word: 31 bits of the id's hash above 32 bits of slot + 1; 0 is free.  So a probe reads eight bytes, and
an entry's home is known without the order.
"""

import numpy as np

from engine._jit import hot, inlined, kernel
from engine._probe import phase
from engine.kernels.bits import highest
from engine.layout import NIL


@inlined
def hash_id(order_id):
    """Return 31 bits of which the upper ones spread consecutive ids evenly (Fibonacci hashing)."""
    mixed = (order_id ^ (order_id >> 32)) & 0x7FFFFFFF  # 31 bits: the product below stays positive
    return ((mixed * 0x9E3779B1) >> 1) & 0x7FFFFFFF


@inlined
def shift_of(size):
    """Return by how much a hash is shifted for its home in a map of `size`, a power of two."""
    return 31 - highest(np.uint64(size))


@inlined
def home_of(order_id, size):
    """Return where in a map of `size` the search for an id begins."""
    return hash_id(order_id) >> shift_of(size)


@hot
@phase("matching")
def find_id(st, order_id):
    """Return the slot of a resting order, or NIL."""
    idmap = st.idmap
    size = len(idmap)
    tag = hash_id(order_id)
    at = tag >> shift_of(size)
    entry = idmap[at]
    while entry != 0:
        if entry >> 32 == tag:
            slot = (entry & 0xFFFFFFFF) - 1
            if st.orders[slot]["order_id"] == order_id:
                return slot
        at = (at + 1) & (size - 1)
        entry = idmap[at]
    return np.int64(NIL)


@hot
def put_id(st, order_id, slot):
    """Remember where an order rests; the id must not be there yet."""
    idmap = st.idmap
    size = len(idmap)
    tag = hash_id(order_id)
    at = tag >> shift_of(size)
    while idmap[at] != 0:
        at = (at + 1) & (size - 1)
    idmap[at] = (tag << 32) | (slot + 1)


@hot
def drop_id(st, order_id, slot):
    """Forget where an order rests; entries that had to step over it move back."""
    idmap = st.idmap
    size = len(idmap)
    shift = shift_of(size)
    tag = hash_id(order_id)
    sought = (tag << 32) | (slot + 1)
    hole = tag >> shift
    while idmap[hole] != sought:
        hole = (hole + 1) & (size - 1)
    at = (hole + 1) & (size - 1)
    entry = idmap[at]
    while entry != 0:
        home = entry >> (32 + shift)
        # the entry may fill the hole only if its home does not lie between the hole and itself
        if ((at - home) & (size - 1)) >= ((at - hole) & (size - 1)):
            idmap[hole] = entry
            hole = at
        at = (at + 1) & (size - 1)
        entry = idmap[at]
    idmap[hole] = 0


@kernel
def copy_ids(old, new):
    """Fill an empty map from another: homes rise with the hash in both, so both are walked from end to end."""
    size = len(new)
    shift = shift_of(size)
    for entry in old:
        if entry != 0:
            at = entry >> (32 + shift)
            while new[at] != 0:
                at = (at + 1) & (size - 1)
            new[at] = entry
