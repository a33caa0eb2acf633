"""The measures of the ADL papers, as functions of plain numbers.

Money is any exact number (int, Fraction, Decimal) in one unit; sums and ratios of it come back exact.  Only quantiles
and rank correlations are floats, being statistics over what is finished.  A wave has winners with endowments
`w = max(PnL, 0)` and equities `e`, of which a policy takes `x`; `D` is what the losers fell short, `B` what of it the
winners had to pay, `H` the sum of all `x`.
"""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from math import isqrt, sqrt

import numpy as np
from numpy.typing import NDArray

from engine.formulas.allocation import impact_variation
from engine.formulas.exact import Number, exact, positive

# ---------------------------------------------------------------- regret


def tracking_regret(taken: Sequence[Number], needed: Sequence[Number]) -> Fraction:
    """Return how far what a policy took is from what was needed: `sum over waves of |H - B|`, in money.

    Source: LAB-004; arXiv 2602.15182, 10a.
    """
    pairs = zip(taken, needed, strict=True)
    return sum((abs(exact(given) - exact(budget)) for given, budget in pairs), Fraction(0))


def fairness_regret(needed: Sequence[Number], largest: Sequence[Number], fairest: Sequence[Number]) -> Fraction:
    """Return how far a policy's hardest hit is from the fairest possible: `sum of B x |max_share - fairest|`, in money.

    Parameters
    ----------
    needed : sequence
        B of each wave.
    largest, fairest : sequence
        The largest part of its equity anybody gave, under the policy and under the min-max program.

    Source: LAB-004; arXiv 2602.15182, 10b.
    """
    rows = zip(needed, largest, fairest, strict=True)
    return sum((exact(budget) * abs(exact(most) - exact(fair)) for budget, most, fair in rows), Fraction(0))


def overshoot(taken: Sequence[Number], needed: Sequence[Number]) -> Fraction:
    """Return what was taken beyond what was needed, `sum of (H - B)`, in money; negative where less was taken.

    Source: LAB-012; arXiv 2602.15182, O(horizon).
    """
    return sum((exact(given) - exact(budget) for given, budget in zip(taken, needed, strict=True)), Fraction(0))


# ---------------------------------------------------------------- the burden of each


def shares_of_equity(taken: Sequence[Number], equities: Sequence[Number]) -> list[Fraction]:
    """Return the part of its equity each winner gave, `x / e`; 0 where nothing was taken.

    Raises
    ------
    ValueError
        If something was taken of an equity that is not above 0.

    Source: LAB-005; arXiv 2602.15182, max_pct is the largest of them.
    """
    rows = zip(taken, equities, strict=True)
    return [exact(given) / positive(equity, "equity") if given else Fraction(0) for given, equity in rows]


def describe_shares(shares: Sequence[Number]) -> dict[str, float]:
    """Return how a burden is spread over those who bear any: payers, median, p90, p99, largest.

    Quantiles are interpolated straight between neighbours; all 0 where nobody pays.

    Source: LAB-005.
    """
    paid = np.array([float(exact(share)) for share in shares if exact(share) > 0])
    middle, high, top = np.quantile(paid, (0.5, 0.9, 0.99)) if len(paid) else (0.0, 0.0, 0.0)
    most = float(paid.max()) if len(paid) else 0.0
    return {"payers": len(paid), "p50": float(middle), "p90": float(high), "p99": float(top), "max": most}


def count_inversions(endowments: Sequence[Number], taken: Sequence[Number]) -> tuple[int, int]:
    """Return how many neighbours by endowment changed places, and how many neighbours there are.

    Winners are ordered by endowment, largest first; two neighbours of different endowment are a pair, and inverted if
    the one who had more is left with less.  A rule without inversions is monotone.

    Source: LAB-007; arXiv 2512.01112, monotonicity violations.
    """
    held = [_keep_int(endowment) for endowment in endowments]
    left = [before - _keep_int(given) for before, given in zip(held, taken, strict=True)]
    order = sorted(range(len(held)), key=held.__getitem__, reverse=True)
    pairs = [(more, less) for more, less in pairwise(order) if held[more] > held[less]]
    return sum(left[more] < left[less] for more, less in pairs), len(pairs)


def _keep_int(number: Number) -> int | Fraction:
    """Return an exact number; integers as they are, which take a tenth of a Fraction's time to compare."""
    return number if type(number) is int else exact(number)


def _rank(numbers: Sequence[Number]) -> NDArray[np.float64]:
    """Return ranks from 1, equal numbers sharing the mean of theirs."""
    _, places, counts = np.unique([float(exact(number)) for number in numbers], return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[places]


def rank_stability(before: Mapping[int, Number], after: Mapping[int, Number]) -> float | None:
    """Return Spearman's rank correlation of the burdens of those who are winners in two successive waves.

    1: who was hit hard is hit hard again; ties share their mean rank.  None with fewer than two in common, or where all
    of them bear the same.

    Parameters
    ----------
    before, after : mapping of account to number
        The burden of each winner, those who bear none included.

    Source: LAB-007; arXiv 2602.15182, section 5.2.
    """
    common = [account for account in before if account in after]
    if len(common) < 2:
        return None
    first, second = (_rank([burdens[account] for account in common]) for burdens in (before, after))
    first, second = first - first.mean(), second - second.mean()
    own = float(first @ first) * float(second @ second)
    return float(first @ second) / sqrt(own) if own else None


# ---------------------------------------------------------------- solvency against the top winner


def top_remaining(endowments: Sequence[Number], taken: Sequence[Number]) -> Fraction:
    """Return what the winner who is left with most has left: `v = max(w - x)`, in money; 0 without winners.

    Source: LAB-006; arXiv 2512.01112.
    """
    left = (_keep_int(before) - _keep_int(given) for before, given in zip(endowments, taken, strict=True))
    return Fraction(max(left, default=0))


def profit_to_shortfall(top: Number, deficit: Number, taken: Number) -> Fraction | None:
    """Return PTSR, `v / (D - H)`: the top winner's remaining endowment per unit of deficit the winners did not pay.

    None where nothing is left of the deficit.

    Source: LAB-006; arXiv 2512.01112.
    """
    left = exact(deficit) - exact(taken)
    return exact(top) / left if left > 0 else None


def profit_to_max_loss(top: Number, deficit: Number, taken: Number, largest_loss: Number) -> Fraction | None:
    """Return PMR, `v / (clip((D - H) / D, 0, 1) x largest loss)`, None where that is 0.

    The largest loss is that of one loser, and is thought to shrink as the whole deficit does.

    Source: LAB-006; arXiv 2512.01112.
    """
    whole = exact(deficit)
    if whole <= 0:
        return None
    left = min(Fraction(1), max(Fraction(0), (whole - exact(taken)) / whole)) * exact(largest_loss)
    return exact(top) / left if left > 0 else None


def shortfall_share(top: Number, deficit: Number, taken: Number) -> Fraction | None:
    """Return RD-NSE, `v / (v + D - H)`: 1 where all of the deficit is paid, above 1 where too much was taken.

    None where the divisor is not above 0.

    Source: LAB-006; arXiv 2512.01112, rd_nse.
    """
    sum_ = exact(top) + exact(deficit) - exact(taken)
    return exact(top) / sum_ if sum_ > 0 else None


# ---------------------------------------------------------------- severity


def severity(needed: Number, deficit: Number) -> Fraction:
    """Return the part of the deficit that had to be taken, `theta* = min(1, B / D)`; 1 where there is no deficit.

    Source: LAB-010; arXiv 2602.15182.
    """
    whole = exact(deficit)
    return min(Fraction(1), exact(needed) / whole) if whole > 0 else Fraction(1)


def severity_path(severities: Sequence[Number]) -> Fraction:
    """Return how far the best severity wandered: `P_T = sum |theta*_t - theta*_(t-1)|`.

    Source: LAB-010; arXiv 2602.15182, section 5.3.
    """
    return impact_variation(severities)


def severity_envelope(severities: Sequence[Number], deficits: Sequence[Number]) -> Fraction:
    """Return the bound on regret `sqrt((1 + 2 P_T) x sum D_t^2)`, in money, to 12 digits behind the point.

    Source: LAB-010; arXiv 2602.15182, section 5.3.
    """
    inside = (1 + 2 * severity_path(severities)) * sum((exact(deficit) ** 2 for deficit in deficits), Fraction(0))
    return Fraction(isqrt(int(inside * 10**24)), 10**12)
