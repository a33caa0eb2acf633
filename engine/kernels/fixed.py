"""Exact products with rates: one multiplication of 128 bits, one division, a stated direction (NUM-004)."""

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from engine._jit import JIT_DISABLED, helper, hot, inlined
from engine.codes import SATURATED

if JIT_DISABLED:

    def mul_wide(a, b):
        """Return the high and low 64 bits of the signed product `a x b`."""
        product = int(a) * int(b)
        low = product & ((1 << 64) - 1)
        return product >> 64, low - (1 << 64) if low >> 63 else low

else:

    @intrinsic
    def mul_wide(typingctx, a, b):
        """Return the high and low 64 bits of the signed product `a x b`."""

        def codegen(context, builder, signature, args):
            word, wide = ir.IntType(64), ir.IntType(128)
            product = builder.mul(builder.sext(args[0], wide), builder.sext(args[1], wide))
            low = builder.trunc(product, word)
            high = builder.trunc(builder.ashr(product, ir.Constant(wide, 64)), word)
            return context.make_tuple(builder, signature.return_type, (high, low))

        return types.UniTuple(types.int64, 2)(types.int64, types.int64), codegen


@helper
def divide_wide(high, low, c):
    """Return floor((high x 2**64 + low) / c) for c > 0, held within +-SATURATED.

    Restoring division, a bit at a time: the rare path, for products beyond 63 bits.
    """
    one = np.uint64(1)
    negative = high < 0
    upper = np.uint64(high & 0x7FFFFFFFFFFFFFFF) | (one << np.uint64(63) if negative else np.uint64(0))
    lower = np.uint64(low & 0x7FFFFFFFFFFFFFFF) | (one << np.uint64(63) if low < 0 else np.uint64(0))
    if negative:
        lower = ~lower
        upper = ~upper
        if lower == ~np.uint64(0):
            lower = np.uint64(0)
            upper = upper + one
        else:
            lower = lower + one
    divisor = np.uint64(c)
    if upper >= divisor:
        return -SATURATED if negative else SATURATED
    rest = upper
    quotient = np.uint64(0)
    for bit in range(64):
        rest = (rest << one) | ((lower >> np.uint64(63 - bit)) & one)
        quotient = quotient << one
        if rest >= divisor:
            rest = rest - divisor
            quotient = quotient | one
    if quotient >= np.uint64(SATURATED):
        return -SATURATED if negative else SATURATED
    result = np.int64(quotient)
    if negative:
        return -result - (1 if rest > np.uint64(0) else 0)
    return result


@hot
def mul_div_floor(a, b, c):
    """Return floor(a x b / c) for c > 0, exact; beyond +-2**62 it is held there.

    Source: NUM-004.
    """
    high, low = mul_wide(a, b)
    # a product within +-2**62: no quotient of it has to be held; of one that is not negative none has to be floored
    if high == 0 and low >> 62 == 0:
        return np.int64(np.uint64(low) // np.uint64(c))
    if high == -1 and low >> 62 == -1:
        return np.int64(low // c)
    return np.int64(divide_wide(np.int64(high), np.int64(low), c))


@hot
def mul_div_ceil(a, b, c):
    """Return ceil(a x b / c) for c > 0, exact.

    Source: NUM-004.
    """
    high, low = mul_wide(a, b)
    if high == 0 and low >> 62 == 0 and c < 1 << 62:
        return np.int64((np.uint64(low) + np.uint64(c - 1)) // np.uint64(c))
    return -mul_div_floor(-a, b, c)


@helper
def divide_even(a, b):
    """Return a / b for b > 0, rounded to the nearest whole number, a half to the even one; |a| and b below 2**61.

    Source: INV-001.
    """
    whole = a // b
    twice = 2 * (a - whole * b)
    return whole + 1 if twice > b or (twice == b and whole & 1) else whole


@helper
def rest_wide(high, low, c):
    """Return (high x 2**64 + low) mod c for a product that is not negative and c > 0."""
    one = np.uint64(1)
    divisor = np.uint64(c)
    rest = np.uint64(high) % divisor
    lower = np.uint64(low & 0x7FFFFFFFFFFFFFFF) | (one << np.uint64(63) if low < 0 else np.uint64(0))
    for bit in range(64):
        rest = (rest << one) | ((lower >> np.uint64(63 - bit)) & one)
        if rest >= divisor:
            rest = rest - divisor
    return np.int64(rest)


@helper
def mul_mod(a, b, c):
    """Return a x b mod c for a, b >= 0 and c > 0, exact.

    Source: NUM-004.
    """
    high, low = mul_wide(a, b)
    if high == 0 and low >= 0:
        return np.int64(low % c)
    return np.int64(rest_wide(np.int64(high), np.int64(low), c))


@hot
def mul_div_half_even(a, b, c):
    """Return a x b / c for c > 0, rounded half-even; 2 a fits 63 bits.

    Source: NUM-004.
    """
    doubled = mul_div_floor(2 * a, b, c)
    whole = doubled >> 1
    if doubled & 1 == 0:
        return whole
    if mul_div_ceil(2 * a, b, c) == doubled:
        return whole + (whole & 1)
    return whole + 1


@inlined
def saturate(x):
    """Hold a score or ratio within +-2**62.

    Source: NUM-005.
    """
    return min(max(x, -SATURATED), SATURATED)
