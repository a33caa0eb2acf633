"""Random numbers that are the same on every machine.

NumPy promises the raw stream of a bit generator for ever; it promises neither its distributions nor the last bit of
`exp` and `log`, which differ between processors.  So everything here is integer arithmetic on PCG64's raw stream, with
tables computed in Decimal.  Fractions are fixed point with `FRACTION_BITS` binary places.
"""

from decimal import Decimal
from functools import cache

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

FRACTION_BITS = 32
ONE = 1 << FRACTION_BITS
TABLE_BITS = 8  # linear interpolation between 257 points is right to one part in a million
TABLE_SHIFT = FRACTION_BITS - TABLE_BITS
NORMAL_TERMS = 12  # the sum of twelve uniforms has variance one


class Draws:
    """A seeded source of integers; the same calls in the same order give the same numbers."""

    def __init__(self, seed: int) -> None:
        self._bits = np.random.PCG64(seed)

    def uniform(self, count: int) -> Ints:
        """Return `count` fractions in 0 <= u < 1, fixed point."""
        raw = np.asarray(self._bits.random_raw(count), dtype=np.uint64)
        return (raw >> np.uint64(64 - FRACTION_BITS)).astype(np.int64)

    def below(self, limit: int, count: int) -> Ints:
        """Return `count` integers in 0 <= n < limit; `limit` is at most 2**31."""
        return (self.uniform(count) * limit) >> FRACTION_BITS

    def normal(self, count: int) -> Ints:
        """Return `count` values close to the standard normal, never beyond six deviations, fixed point."""
        terms = self.uniform(count * NORMAL_TERMS).reshape(count, NORMAL_TERMS)
        total: Ints = terms.sum(axis=1, dtype=np.int64)
        return total - NORMAL_TERMS * ONE // 2

    def doublings(self, count: int) -> Ints:
        """Return `count` values of -log2(u), fixed point: exponentially distributed with mean 1 / ln 2."""
        return FRACTION_BITS * ONE - log2_fixed(self.uniform(count) + 1)

    def shuffled(self, count: int) -> Ints:
        """Return 0 .. count - 1 in random order."""
        return np.argsort(self.uniform(count), kind="stable").astype(np.int64)


@cache
def _tables() -> tuple[Ints, Ints]:
    points = [Decimal(index) / (1 << TABLE_BITS) for index in range((1 << TABLE_BITS) + 1)]
    powers = [int((Decimal(2) ** point * ONE).to_integral_value()) for point in points]
    logs = [int(((1 + point).ln() / Decimal(2).ln() * ONE).to_integral_value()) for point in points]
    return np.array(powers, dtype=np.int64), np.array(logs, dtype=np.int64)


def _interpolate(table: Ints, fraction: Ints) -> Ints:
    index = fraction >> TABLE_SHIFT
    rest = fraction & ((1 << TABLE_SHIFT) - 1)
    between: Ints = table[index] + (((table[index + 1] - table[index]) * rest) >> TABLE_SHIFT)
    return between


def exp2_fixed(power: Ints) -> Ints:
    """Return 2 ** power, both fixed point; powers are held within -32 .. 28 so that the result fits."""
    held = np.clip(power, -32 * ONE, 28 * ONE)
    whole = held >> FRACTION_BITS
    mantissa = _interpolate(_tables()[0], held & (ONE - 1))
    power_of_two: Ints = (mantissa << np.maximum(whole, 0)) >> np.maximum(-whole, 0)
    return power_of_two


def log2_fixed(number: Ints) -> Ints:
    """Return log2 of integers in 1 .. 2**32, fixed point."""
    # frexp only reads the exponent of a float that holds the integer exactly: no rounding takes part.
    bits = np.frexp(number.astype(np.float64))[1].astype(np.int64) - 1
    mantissa = number << (FRACTION_BITS - bits)
    return (bits << FRACTION_BITS) + _interpolate(_tables()[1], mantissa - ONE)


def lognormal(draws: Draws, sigma: Decimal, count: int) -> Ints:
    """Return `count` lognormal factors of median one, fixed point; `sigma` is the deviation of their logarithm."""
    # exp(sigma x z) = 2 ** (sigma x z / ln 2); the factor is kept to 16 places so that the product fits 64 bits.
    factor = int(sigma / Decimal(2).ln() * (1 << 16))
    return exp2_fixed((draws.normal(count) * factor) >> 16)


def pareto(draws: Draws, alpha: Decimal, count: int) -> Ints:
    """Return `count` Pareto factors of minimum one and tail index `alpha`, fixed point."""
    # u ** (-1 / alpha) = 2 ** (-log2(u) / alpha)
    factor = int((1 << 16) / alpha)
    return exp2_fixed((draws.doublings(count) * factor) >> 16)
