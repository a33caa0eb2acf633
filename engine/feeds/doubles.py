"""Decimals as whole numbers of a unit, proven by doubles (FEED-060): the only compiled code that knows a fraction.

It stands apart from the kernels of the engine, where no division may leave one.
"""

import numpy as np
from numpy.typing import NDArray

from engine._jit import kernel


@kernel
def count_decimals(
    numbers: NDArray[np.float64],
    lengths: NDArray[np.uint32],
    are_zero: NDArray[np.bool_],
    step: float,
    power: float,
    least: np.int64,
    most: np.int64,
    digits: np.int64,
    counts: NDArray[np.int64],
) -> np.int64:
    """Count decimals in units of `step / power` where doubles can prove it (FEED-060).

    Parameters
    ----------
    numbers : array of float64
        The decimals; nan where it is none.
    lengths : array of uint32
        Of their texts, in bytes.
    are_zero : array of bool
        Which texts are known to be a zero, where that is a count.
    step, power : float64
        Of the unit.
    least, most : int64
        Counts that may be.
    digits : int64
        Texts of so many bytes are all different doubles.
    counts : array of int64
        Gets the counts, and -1 where that is not proven.

    Returns
    -------
    int
        How many are not proven.
    """
    left = np.int64(0)
    for at in range(len(numbers)):
        number = numbers[at]
        count = np.rint(number * (power / step))
        is_proven = count * step / power == number and count >= least and count <= most and lengths[at] <= digits
        if is_proven:
            counts[at] = np.int64(count)
        elif are_zero[at]:
            counts[at] = 0
        else:
            counts[at] = -1
            left += 1
    return left
