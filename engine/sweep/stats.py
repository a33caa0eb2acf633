"""How sure a number from so many runs is: intervals for shares, means and quantiles (STRESS-008).

Statistics, hence floats; nothing here is owned by anybody.  All intervals are at 95 %.
"""

from collections.abc import Sequence
from math import ceil, exp, floor, lgamma, log, log1p, sqrt
from typing import Any

import numpy as np

from engine.feeds.draws import Draws

Z = 1.959963984540054  # of the normal distribution, two-sided
ALPHA = 0.05
RESAMPLES = 500
SEED = 95  # of the bootstrap: the same results give the same intervals
QUANTILES = (("p01", 0.01), ("p05", 0.05), ("p50", 0.5), ("p95", 0.95), ("p99", 0.99))


def count_share(count: int, total: int) -> dict[str, Any]:
    """Return `count`, `of`, `share` and its Wilson score interval `low` to `high`; None where nothing was looked at.

    Source: STRESS-008.
    """
    facts: dict[str, Any] = {"count": count, "of": total, "share": None, "low": None, "high": None}
    if not total:
        return facts
    share = count / total
    middle = (share + Z * Z / (2 * total)) / (1 + Z * Z / total)
    half = Z / (1 + Z * Z / total) * sqrt(share * (1 - share) / total + Z * Z / (4 * total * total))
    # at the ends the formula gives 0 and 1 up to rounding
    low, high = 0.0 if count == 0 else middle - half, 1.0 if count == total else middle + half
    return facts | {"share": share, "low": low, "high": high}


def find_place(quantile: float, total: int) -> int:
    """Return the place, from 0, of a quantile in sorted numbers: the least with that share of them at or below it."""
    # a hair less, for a share such as 0.95 x 20 that is 19 but for the last binary place
    return min(max(ceil(quantile * total - 1e-9) - 1, 0), total - 1)


def summarise_numbers(numbers: Sequence[float]) -> dict[str, Any]:
    """Return mean and quantiles with bootstrap intervals, least and most.

    Quantiles are numbers that occurred.  Intervals are the percentiles 2.5 and 97.5 of 500 resamples, drawn with a
    fixed seed, the same ones for every column as long as it is.

    Returns
    -------
    dict
        `runs`, `mean`, `p01`, `p05`, `p50`, `p95`, `p99` (each with `value`, `low`, `high`), `least`, `most`.

    Source: STRESS-008.
    """
    count = len(numbers)
    if not count:
        return {"runs": 0}
    values = np.array(numbers, np.float64)
    ordered = np.sort(values)
    centres = {name: float(ordered[find_place(quantile, count)]) for name, quantile in QUANTILES}
    centres = {"mean": float(values.mean()), **centres}
    drawn: dict[str, list[float]] = {name: [] for name in centres}
    draws = Draws(SEED)
    for _ in range(RESAMPLES if count > 1 and values.min() < values.max() else 0):
        sample = values[draws.below(count, count)]
        drawn["mean"].append(float(sample.mean()))
        sample.sort()
        for name, quantile in QUANTILES:
            drawn[name].append(float(sample[find_place(quantile, count)]))
    facts: dict[str, Any] = {"runs": count}
    for name, value in centres.items():
        facts[name] = {"value": value, **_find_band(drawn[name], value)}
    return {**facts, "least": float(values.min()), "most": float(values.max())}


def _find_band(drawn: list[float], value: float) -> dict[str, float]:
    if not drawn:
        return {"low": value, "high": value}
    ordered = sorted(drawn)
    return {
        "low": ordered[find_place(ALPHA / 2, len(ordered))],
        "high": ordered[find_place(1 - ALPHA / 2, len(ordered))],
    }


def find_order_band(quantile: float, total: int) -> tuple[int | None, int | None]:
    """Return the places, from 0, between which a quantile lies with 95 % confidence, whatever the distribution.

    None where so many numbers do not bound it on that side: by chance all of them may lie on the other.

    Source: STRESS-008.
    """
    low: int | None = None
    below = 0.0  # the chance that at most k of them are at or below the quantile
    for k in range(total):
        below += _binomial(k, total, quantile)
        if below <= ALPHA / 2:
            low = k  # then the number at place k is itself at or below it
        if below >= 1 - ALPHA / 2:
            return low, k
    return low, None


def _binomial(count: int, total: int, chance: float) -> float:
    if chance in (0.0, 1.0):
        return float(count == total * chance)
    ways = lgamma(total + 1) - lgamma(count + 1) - lgamma(total - count + 1)
    return exp(ways + count * log(chance) + (total - count) * log1p(-chance))


def count_needed(share: float) -> int:
    """Return how many runs bound a breach of this probability from above: fewer may all be without one by chance."""
    return ceil(log(ALPHA / 2) / log1p(-share)) if 0 < share < 1 else 1


def count_allowed(share: float, total: int) -> int:
    """Return how many of so many runs may breach."""
    return floor(share * total + 1e-9)
