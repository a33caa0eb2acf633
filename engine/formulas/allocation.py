"""How a quantity to close, or a loss, is divided among accounts: queue, pro rata, draining leverage, water-filling.

Amounts are what is taken from each, in the unit of the budget; every function returns a mapping in the order given.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from fractions import Fraction
from heapq import heapify, heappop, heapreplace
from itertools import pairwise
from typing import NamedTuple

from engine.formulas.exact import Number, exact, floor_to_step, positive


class Allocation(NamedTuple):
    """What each account gives, and what nobody could give."""

    taken: dict[str, Fraction]
    unfilled: Fraction


def allocate_queue(capacities: Mapping[str, Number], scores: Mapping[str, Number], budget: Number) -> Allocation:
    """Return the budget taken from the best score on, each in full, the last in part.

    Source: ADL-004; arXiv 2512.01112.
    """
    left = exact(budget)
    taken = {name: Fraction(0) for name in capacities}
    for name in sorted(capacities, key=lambda name: -exact(scores[name])):
        taken[name] = min(exact(capacities[name]), left)
        left -= taken[name]
    return Allocation(taken, left)


def allocate_pro_rata(
    weights: Mapping[str, Number], budget: Number, capacities: Mapping[str, Number] | None = None
) -> Allocation:
    """Return the budget divided in proportion to weights, none above its capacity; what that leaves is divided again.

    Parameters
    ----------
    capacities : mapping, optional
        The most each can give; without it the weights themselves.

    Source: arXiv 2512.01112.
    """
    given = weights if capacities is None else capacities
    weight = {name: exact(value) for name, value in weights.items()}
    room = {name: exact(given[name]) for name in weights}
    taken = {name: Fraction(0) for name in weights}
    left, open_names = exact(budget), {name for name in weights if weight[name] > 0}
    while left > 0 and open_names:
        rate = left / sum(weight[name] for name in open_names)
        full = {name for name in open_names if rate * weight[name] >= room[name]}
        for name in full or open_names:
            step = room[name] if full else rate * weight[name]
            taken[name] += step
            left -= step
            room[name] -= step
        open_names = open_names - full if full else set()
    return Allocation(taken, left)


def allocate_largest_remainder(contracts: Mapping[str, int], close: int) -> dict[str, int]:
    """Return whole contracts in proportion to holdings: floors, then the largest remainders, then name.

    Source: arXiv 2512.01112, contract_pr.
    """
    total = sum(contracts.values())
    if not 0 <= close <= total:
        raise ValueError(f"close: expected 0 to {total} contracts, got {close}")
    shares = {name: divmod(close * held, total) if total else (0, 0) for name, held in contracts.items()}
    taken = {name: whole for name, (whole, _) in shares.items()}
    for name in sorted(shares, key=lambda name: (-shares[name][1], name))[: close - sum(taken.values())]:
        taken[name] += 1
    return taken


def allocate_min_max(equities: Mapping[str, Number], capacities: Mapping[str, int], close: int) -> dict[str, int]:
    """Return whole contracts such that the largest part in proportion to equity is as small as it can be.

    Minimises `max x / equity` subject to `sum of x = close`, `0 <= x <= capacity`, x whole: the floors of the division
    by equity, then one more at a time to whoever has the lowest `(x + 1) / equity`, the earlier if equal.

    Parameters
    ----------
    equities : mapping
        Above 0.
    capacities : mapping of name to int
        The most each can give.

    Raises
    ------
    ValueError
        If an equity is not above 0, or `close` is more than all capacities together.

    Source: ADL-027; arXiv 2512.01112, min-max integer program.
    """
    weights = {name: positive(equity, f"equity of {name}") for name, equity in equities.items()}
    if not 0 <= close <= sum(capacities.values()):
        raise ValueError(f"close: expected 0 to {sum(capacities.values())} contracts, got {close}")
    shares = allocate_pro_rata(weights, close, capacities).taken
    taken = {name: int(share) for name, share in shares.items()}
    places = enumerate(taken)
    heap = [
        ((taken[name] + 1) / weights[name], place, name) for place, name in places if taken[name] < capacities[name]
    ]
    heapify(heap)
    for _ in range(close - sum(taken.values())):
        _, place, name = heap[0]
        taken[name] += 1
        if taken[name] < capacities[name]:
            heapreplace(heap, ((taken[name] + 1) / weights[name], place, name))
        else:
            heappop(heap)
    return taken


class Drained(NamedTuple):
    """Leverage draining: the common level that is left, and what each gave."""

    level: Fraction
    taken: dict[str, Fraction]


def drain_leverage(accounts: Mapping[str, tuple[Number, Number]], price: Number, close: Number) -> Drained:
    """Return `close` taken from the most leveraged until they share one level of `qty x price / equity`.

    Each gives `max(0, qty - level x equity / price)`; the level is the one at which that sums to `close`.

    Parameters
    ----------
    accounts : mapping of name to (quantity, equity)
        Both above 0.

    Raises
    ------
    ValueError
        If the accounts hold less than `close`.

    Source: Campbell, Hey, Moallemi, Nutz, arXiv 2603.15963 (single asset).
    """
    at = positive(price, "price")
    exposures = {
        name: (positive(qty, f"quantity of {name}") * at, positive(equity, f"equity of {name}"))
        for name, (qty, equity) in accounts.items()
    }
    filled = fill_water(
        exposures, {name: at for name in accounts}, {n: exact(q) for n, (q, _) in accounts.items()}, close
    )
    return Drained(filled.level, filled.taken)


def fill_water(
    accounts: Mapping[str, tuple[Number, Number]],
    weights: Mapping[str, Number],
    capacities: Mapping[str, Number],
    close: Number,
) -> Drained:
    """Return `close` taken so that the risk `exposure / equity` of all that give falls to one level (water-filling).

    Taking `x` lowers an account's exposure by `weight x x`; each gives
    `clamp((exposure - level x equity) / weight, 0, capacity)`, and the level is the one at which that sums to `close`.
    The sum is a falling, piecewise straight line in the level, solved exactly between its corners.

    Parameters
    ----------
    accounts : mapping of name to (exposure, equity)
        Equity above 0; the exposure may be negative after hedges.
    weights : mapping of name to number
        Exposure of one unit, above 0.
    capacities : mapping of name to number
        The most each can give; below 0 counts as 0.

    Raises
    ------
    ValueError
        If `close` is not above 0, or more than all capacities together.

    Source: Campbell, Hey, Moallemi, Nutz, arXiv 2603.15963; github nataschahey/adl-solver, solve_water_filling.
    """
    need = positive(close, "close")
    rows = {
        name: (
            exact(exposure),
            positive(equity, f"equity of {name}"),
            positive(weights[name], f"weight of {name}"),
            max(Fraction(0), exact(capacities[name])),
        )
        for name, (exposure, equity) in accounts.items()
    }
    if sum(room for *_, room in rows.values()) < need:
        raise ValueError(f"close: expected at most {sum(room for *_, room in rows.values())}, got {need}")

    def take(level: Fraction) -> dict[str, Fraction]:
        return {
            name: min(room, max(Fraction(0), (exposure - level * equity) / weight))
            for name, (exposure, equity, weight, room) in rows.items()
        }

    corners = {(exposure / equity) for exposure, equity, _, _ in rows.values()}
    corners |= {(exposure - room * weight) / equity for exposure, equity, weight, room in rows.values()}
    ordered = sorted(corners, reverse=True)  # nobody gives at the first, all give all at the last
    reached = bisect_left(ordered, True, key=lambda level: sum(take(level).values()) >= need)
    high, low = ordered[reached - 1], ordered[reached]
    less, more = sum(take(high).values()), sum(take(low).values())
    level = high - (high - low) * (need - less) / (more - less)
    return Drained(level, take(level))


def share_loss(loss: Number, quantities: Sequence[Number]) -> list[Fraction]:
    """Return a loss divided among quantities, exactly in proportion.

    Source: InjectiveLabs exchange module, as restated in the peer scenarios.
    """
    sizes = [exact(qty) for qty in quantities]
    total = positive(sum(sizes, Fraction(0)), "quantities (their sum)")
    return [exact(loss) * size / total for size in sizes]


def fixed_queue_regret(high: Number, rounds: int, price_of_risk: Number) -> Fraction:
    """Return what a fixed queue loses against the best choice of each round, on capacities alternating 1 and `high`.

    Per round `price x (1 / capacity of the first) - price x min(1/capacities)`; over an even number of rounds
    `rounds / 2 x price x (1 - 1/high)`.

    Source: Chitra, Thogiti, Trujillo, Xu, arXiv 2602.15182, section 4.1.
    """
    large, price = positive(high, "high"), exact(price_of_risk)
    regret = Fraction(0)
    for turn in range(1, rounds + 1):
        first, second = (Fraction(1), large) if turn % 2 else (large, Fraction(1))
        regret += price / first - price * min(1 / first, 1 / second)
    return regret


def impact_variation(slopes: Sequence[Number]) -> Fraction:
    """Return the total variation of a sequence of impact slopes: the sum of its absolute steps.

    A queue whose head alternates has `(rounds - 1) x (highest - lowest)`; pro rata, which always takes from all, has 0.

    Source: arXiv 2602.15182, proposition 11.
    """
    values = [exact(slope) for slope in slopes]
    return sum((abs(after - before) for before, after in pairwise(values)), Fraction(0))


def share_floor_last(
    collected: Number, gains: Sequence[Number], target: Number | None = None, unit: Number = 1
) -> list[Fraction]:
    """Return what is paid to each gain when less was collected than all gains: floors, the remainder to the last.

    `floor(gain x collected / target)` each, target the sum of gains unless given; the last payee gets what the floors
    left over (Vega's loss socialisation; its result therefore hangs on the order of the payees).

    Source: vegaprotocol/vega, core/collateral, TestMTMLossSocializationUnderflow.
    """
    got, owed = exact(collected), [exact(gain) for gain in gains]
    due = positive(sum(owed, Fraction(0)) if target is None else target, "target")
    if got >= due:
        return owed
    paid = [floor_to_step(gain * got / due, unit) for gain in owed]
    paid[-1] += got - sum(paid, Fraction(0))
    return paid
