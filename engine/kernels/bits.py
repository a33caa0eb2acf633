"""Bit sets of 64: the words of every bitmap.  Masks are uint64, positions int64; the two never mix."""

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from engine._jit import JIT_DISABLED, inlined

if JIT_DISABLED:

    def lowest(mask):
        """Return the position of the lowest set bit; the mask must not be 0."""
        word = int(mask)
        return (word & -word).bit_length() - 1

    def highest(mask):
        """Return the position of the highest set bit; the mask must not be 0."""
        return int(mask).bit_length() - 1

else:

    @intrinsic
    def lowest(typingctx, mask):
        """Return the position of the lowest set bit; the mask must not be 0."""

        def codegen(context, builder, signature, args):
            return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

        return types.int64(types.uint64), codegen

    @intrinsic
    def highest(typingctx, mask):
        """Return the position of the highest set bit; the mask must not be 0."""

        def codegen(context, builder, signature, args):
            zeros = builder.ctlz(args[0], ir.Constant(ir.IntType(1), 1))
            return builder.sub(ir.Constant(ir.IntType(64), 63), zeros)

        return types.int64(types.uint64), codegen


@inlined
def bit(position):
    """Return the mask with one bit set."""
    return np.uint64(1) << np.uint64(position)


@inlined
def above(mask, position):
    """Return the bits of `mask` strictly above `position`."""
    return mask & (~np.uint64(0) << np.uint64(position)) & ~(np.uint64(1) << np.uint64(position))


@inlined
def below(mask, position):
    """Return the bits of `mask` strictly below `position`."""
    return mask & ((np.uint64(1) << np.uint64(position)) - np.uint64(1))


@inlined
def within(mask, first, last):
    """Return the bits of `mask` from `first` to `last`, both among them."""
    return mask & (~np.uint64(0) << np.uint64(first)) & (~np.uint64(0) >> np.uint64(63 - last))
