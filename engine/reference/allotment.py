"""How much each candidate gives up where not the queue alone decides; fractions here, integers in the kernels."""

from collections.abc import Mapping
from fractions import Fraction
from typing import NamedTuple

from engine.codes import ALLOT_CONTRACTS, ALLOT_DRAINING, ALLOT_MIN_MAX, ALLOT_PNL


class Holder(NamedTuple):
    """One candidate, in the order of the queue."""

    account: int
    qty: int  # lots held
    cap: int  # lots it can bear to lose
    gain: int  # unrealised PnL
    equity: int  # of its domain, not below 0


def fill_by_weight(total: int, weights: Mapping[int, int], caps: Mapping[int, int]) -> tuple[dict[int, int], int, int]:
    """Give all whose share of the total reaches their cap just that; return it, what is left, and the others' weights.

    The share only grows as others are capped, so it is enough to look at them in the order of cap by weight.

    Source: ADL-024.
    """
    given: dict[int, int] = {}
    left, rest = total, sum(weights.values())
    for key in sorted((key for key in weights if weights[key]), key=lambda key: Fraction(caps[key], weights[key])):
        if left * weights[key] < caps[key] * rest:
            break
        given[key] = caps[key]
        left -= caps[key]
        rest -= weights[key]
    return given, left, rest


def spread(total: int, weights: Mapping[int, int], caps: Mapping[int, int], by_level: bool = False) -> dict[int, int]:
    """Spread lots by weight, nobody above its cap; without `by_level` what the floors leave goes to the largest rests.

    Source: ADL-024, ADL-027.
    """
    parts, left, rest = fill_by_weight(total, weights, caps)
    open_ = {key: weight for key, weight in weights.items() if weight and key not in parts}
    shares = {key: Fraction(left * weight, rest) for key, weight in open_.items()}
    parts |= {key: int(share) for key, share in shares.items()}
    over = left - sum(int(share) for share in shares.values()) if open_ else 0
    if not by_level:
        for key in sorted(open_, key=lambda key: (int(shares[key]) - shares[key], key))[:over]:
            parts[key] += 1
        return parts
    places = {key: place for place, key in enumerate(weights)}
    for _ in range(over):
        free = [key for key in open_ if parts[key] < caps[key]]
        best = min(free, key=lambda key: (((parts[key] + 1) * rest << 62) // weights[key], places[key]))
        parts[best] += 1
    return parts


def spread_all(
    total: int,
    weights: Mapping[int, int],
    caps: Mapping[int, int],
    contracts: Mapping[int, int],
    by_level: bool = False,
) -> dict[int, int]:
    """Spread lots by weight, and by contracts over those without weight what the others cannot take.

    Source: ADL-024.
    """
    parts = spread(total, weights, caps, by_level)
    unweighted = {key: contracts[key] for key, weight in weights.items() if not weight}
    return parts | spread(total - sum(parts.values()), unweighted, caps)


def drain(total: int, holders: list[Holder]) -> dict[int, int]:
    """Bring the most levered to one common leverage: what they keep together is spread by equity.

    Source: ADL-026.
    """
    final: dict[int, int] = {}
    left = total
    while True:
        open_ = [holder for holder in holders if holder.account not in final]
        held = {holder.account: holder.qty for holder in open_}
        equities = {holder.account: holder.equity for holder in open_}
        kept = spread_all(sum(held.values()) - left, equities, held, held)
        over = [holder for holder in open_ if holder.qty - kept[holder.account] > holder.cap]
        if not over:
            return final | {holder.account: holder.qty - kept[holder.account] for holder in open_}
        for holder in over:
            final[holder.account] = holder.cap
            left -= holder.cap


def allot(rule: int, lots: int, holders: list[Holder]) -> dict[int, int]:
    """Return how many of `lots` each account gives up.

    Source: ADL-023, ADL-025..ADL-027.
    """
    caps = {holder.account: holder.cap for holder in holders}
    total = min(lots, sum(caps.values()))
    if rule == ALLOT_DRAINING:
        return drain(total, holders)
    contracts = {holder.account: holder.qty for holder in holders}
    weights = {holder.account: holder.equity for holder in holders}
    if rule == ALLOT_CONTRACTS:
        weights = contracts
    if rule == ALLOT_PNL:
        weights = {holder.account: max(holder.gain, 0) for holder in holders}
    return spread_all(total, weights, caps, contracts, rule == ALLOT_MIN_MAX)
