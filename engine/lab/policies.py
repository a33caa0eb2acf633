"""The allocations side by side: each divides a wave's budget among the same winners, as they stood before it.

Rules over lots close as many as the run did, each at the wave's mean price: who gives `n` of `Q` lots bears `B n / Q`.
Nobody gives more lots than it has, nor more than its equity bears.  Rules over money take profit, as a haircut does:
nobody gives more than its endowment, nor more than its equity.
"""

from collections.abc import Callable, Mapping
from fractions import Fraction

from engine import codes
from engine.codes import PPB
from engine.formulas.allocation import (
    allocate_largest_remainder,
    allocate_min_max,
    allocate_pro_rata,
    allocate_queue,
    fill_water,
)
from engine.formulas.exact import Number, exact
from engine.lab.waves import Wave, Winner
from engine.reference.allotment import Holder
from engine.reference.own import OwnRule
from engine.reference.scores import compute_score

Parts = dict[str, Fraction]
Rule = Callable[[Wave], Parts]


def bearable_lots(wave: Wave) -> dict[str, int]:
    """Return the lots each candidate can give: all it has, or as many as its equity pays at the wave's mean price.

    Source: LAB-008, ADL-023.
    """
    found = {}
    for winner in wave.winners:
        if winner.is_candidate:
            most = exact(max(winner.equity_quote, 0)) * wave.lots / wave.needed_quote if wave.needed_quote else None
            found[_name(winner)] = winner.qty_lot if most is None else min(winner.qty_lot, int(most))
    return found


def _name(winner: Winner) -> str:
    return str(winner.account)


def _of_candidates(wave: Wave, value: Callable[[Winner], Number]) -> dict[str, Number]:
    return {_name(winner): value(winner) for winner in wave.winners if winner.is_candidate}


def rank_by(wave: Wave, score: str) -> dict[str, int]:
    """Return the candidates' scores by another policy, best first; ties as in ADL-002.

    Source: LAB-008, ADL-003, ADL-010..ADL-016.
    """
    policy = codes.POLICIES["adl_score"].index(score)
    found = [
        (-compute_score(policy, winner.standing), winner.opened_seq, winner.account)
        for winner in wave.winners
        if winner.is_candidate and winner.standing is not None
    ]
    return {str(account): -score for score, _, account in sorted(found)}


# ---------------------------------------------------------------- rules over lots


def close_queue(wave: Wave, scores: Mapping[str, int] | None = None) -> Parts:
    """Return the lots taken from the front of the queue: the run's own, or the one these scores make (ADL-004)."""
    rooms = bearable_lots(wave)
    order = dict.fromkeys(rooms, 0) if scores is None else scores
    return allocate_queue({name: rooms[name] for name in order}, order, wave.lots).taken


def close_by_contracts(wave: Wave) -> Parts:
    """Return whole lots in proportion to holdings (ADL-025); where somebody cannot bear his, exact parts."""
    held, rooms = {name: int(exact(qty)) for name, qty in _of_candidates(wave, _held).items()}, bearable_lots(wave)
    whole = allocate_largest_remainder(held, min(wave.lots, sum(held.values())))
    if all(whole[name] <= rooms[name] for name in whole):
        return {name: Fraction(lots) for name, lots in whole.items()}
    return allocate_pro_rata(held, wave.lots, rooms).taken


def _held(winner: Winner) -> int:
    return winner.qty_lot


def _close_by_weight(wave: Wave, weight: Callable[[Winner], Number]) -> Parts:
    """Return lots by weight; what those with weight cannot give is spread by contracts over the others (ADL-024)."""
    rooms, weights = bearable_lots(wave), _of_candidates(wave, weight)
    first = allocate_pro_rata(weights, wave.lots, rooms)
    others = {name: room for name, room in rooms.items() if not weights[name]}
    held = {name: qty for name, qty in _of_candidates(wave, _held).items() if name in others}
    return first.taken | allocate_pro_rata(held, first.unfilled, others).taken


def close_by_pnl(wave: Wave) -> Parts:
    """Return lots in proportion to unrealised profit (ADL-025)."""
    return _close_by_weight(wave, lambda winner: winner.endowment_quote)


def close_by_equity(wave: Wave) -> Parts:
    """Return lots in proportion to equity (ADL-025): the min-max program without whole lots."""
    return _close_by_weight(wave, lambda winner: exact(max(winner.equity_quote, 0)))


def drain_leverage(wave: Wave) -> Parts:
    """Return the lots that bring the most levered to one common leverage (ADL-026).

    Exposure is what a lot is worth times the lots held, plus the winner's hedge; Campbell's one-factor form takes the
    loading of the asset for the worth and the loadings of the other positions for the hedge.

    Source: LAB-008; arXiv 2603.15963.
    """
    lot = exact(wave.lot_quote)
    rooms = bearable_lots(wave)
    risks = {
        _name(winner): (lot * winner.qty_lot + exact(winner.hedge_quote), winner.equity_quote)
        for winner in wave.winners
        if winner.is_candidate and rooms[_name(winner)] > 0
    }
    lots = min(wave.lots, sum(rooms.values()))
    nothing = {name: Fraction(0) for name in rooms}
    return nothing | fill_water(risks, dict.fromkeys(risks, lot), rooms, lots).taken if lots else nothing


def close_min_max(wave: Wave) -> Parts:
    """Return whole lots such that the largest part of an equity is as small as it can be (ADL-027)."""
    rooms = {name: room for name, room in bearable_lots(wave).items() if room}
    equities = {
        name: equity for name, equity in _of_candidates(wave, lambda w: w.equity_quote).items() if name in rooms
    }
    taken = allocate_min_max(equities, rooms, min(wave.lots, sum(rooms.values())))
    return {name: Fraction(lots) for name, lots in taken.items()}


def close_by_own(wave: Wave, rule: OwnRule) -> Parts:
    """Return the lots a rule of one's own takes, asked as the exchange would ask it, once for the whole wave.

    Source: OWN-002.
    """
    rooms = bearable_lots(wave)
    holders = [
        Holder(w.account, w.qty_lot, rooms[_name(w)], w.pnl_quote, int(exact(max(w.equity_quote, 0))))
        for w in wave.winners
        if w.is_candidate
    ]
    return {str(account): Fraction(lots) for account, lots in rule(wave.lots, holders).items()}


# ---------------------------------------------------------------- rules over money


def _take_by_weight(wave: Wave, weight: Callable[[Winner], Number]) -> Parts:
    weights = {_name(winner): weight(winner) for winner in wave.winners}
    rooms = {
        _name(winner): max(Fraction(0), min(Fraction(winner.endowment_quote), exact(winner.equity_quote)))
        for winner in wave.winners
    }
    return allocate_pro_rata(weights, wave.needed_quote, rooms).taken


def take_by_wealth(wave: Wave) -> Parts:
    """Return money in proportion to endowment: everybody keeps the same part of his profit (capped pro rata, VMGH)."""
    return _take_by_weight(wave, lambda winner: winner.endowment_quote)


def take_by_leverage(wave: Wave) -> Parts:
    """Return money in proportion to endowment times leverage (risk-aware pro rata with `g = lambda`).

    Leverage counts in whole parts of 10^9, floored: the sum of exact ones would have the product of all equities for a
    denominator.
    """
    lot = exact(wave.lot_quote)

    def weigh(winner: Winner) -> int:
        equity = exact(winner.equity_quote)
        return winner.endowment_quote * int(winner.qty_lot * lot * PPB / equity) if equity > 0 else 0

    return _take_by_weight(wave, weigh)


def take_by_vector(wave: Wave) -> Parts:
    """Return the projection of 0 on `{h in [0, 1]^n, w h = B}`: h proportional to the endowment, until it is all."""
    return _take_by_weight(wave, lambda winner: winner.endowment_quote**2)


BY_LOTS: dict[str, Rule] = {
    "queue": close_queue,
    "pro_rata_contracts": close_by_contracts,
    "pro_rata_pnl": close_by_pnl,
    "pro_rata_equity": close_by_equity,
    "leverage_draining": drain_leverage,
    "min_max": close_min_max,
}
BY_MONEY: dict[str, Rule] = {
    "haircut_wealth": take_by_wealth,
    "haircut_levered": take_by_leverage,
    "haircut_vector": take_by_vector,
}
FAIREST = "min_max"


def divide(wave: Wave, policy: str | OwnRule) -> list[Fraction]:
    """Return what each winner of a wave would have given under a policy, in money, in the order of the wave.

    Parameters
    ----------
    wave : Wave
        With lots to close.
    policy : str or OwnRule
        A key of BY_LOTS or BY_MONEY, `queue:SCORE` with a score of `[adl]`, or a function of one's own.

    Source: LAB-008, LAB-009, OWN-002.
    """
    unit = Fraction(wave.needed_quote, wave.lots)
    if isinstance(policy, OwnRule):
        parts = close_by_own(wave, policy)
    elif policy in BY_MONEY:
        parts, unit = BY_MONEY[policy](wave), Fraction(1)
    else:
        name, _, score = policy.partition(":")
        parts = close_queue(wave, rank_by(wave, score)) if score else BY_LOTS[name](wave)
    return [parts.get(_name(winner), Fraction(0)) * unit for winner in wave.winners]
