"""What a portfolio requires: every move of its grid is tried, and what offsets offsets within one underlying."""

from typing import NamedTuple

from engine.codes import CROSS, PORTFOLIO, PPM
from engine.reference.ledger import State, compute_value


class Reach(NamedTuple):
    """The signed quantities a position may come to: its own, twice, or what its orders could make of it."""

    market: int
    low_lot: int
    high_lot: int


# ---------------------------------------------------------------- who is in the mode


def list_settling(state: State, asset: int) -> list[int]:
    """Return the markets that settle in an asset."""
    return [market for market, rules in enumerate(state.setup.markets) if rules.asset == asset]


def has_grids(state: State, asset: int) -> bool:
    """Return whether every market that settles in an asset declares price moves, without which there is no such mode.

    Source: PORT-002.
    """
    return all(state.rules(market).moves_ppm for market in list_settling(state, asset))


def switch_portfolio_mode(state: State, account: int, asset: int, mode: int) -> None:
    """Move an account into portfolio mode, its positions to be cross, or out of it into every market's default.

    Source: PORT-002.
    """
    is_portfolio = mode == PORTFOLIO
    state.wallet(account, asset).is_portfolio = is_portfolio
    for market in list_settling(state, asset):
        state.position(account, market).mode = CROSS if is_portfolio else state.rules(market).margin_mode


# ---------------------------------------------------------------- what it requires


def group_underlyings(state: State, reaches: list[Reach]) -> list[list[Reach]]:
    """Return the reaches of each underlying.

    Source: PORT-001.
    """
    groups: dict[int, list[Reach]] = {}
    for reach in reaches:
        groups.setdefault(state.rules(reach.market).underlying, []).append(reach)
    return list(groups.values())


def value_ends(state: State, reach: Reach) -> tuple[int, int]:
    """Return the values at the mark of both ends of a reach."""
    mark = state.marks[reach.market]
    low, high = (compute_value(state, reach.market, mark, lots) for lots in (reach.low_lot, reach.high_lot))
    return low, high


def compute_requirement(state: State, group: list[Reach]) -> int:
    """Return the maintenance of one underlying: the worst move's loss and the contingency, rounded up together.

    At each move every position is at the end of its reach that loses more.

    Source: PORT-003, PORT-004.
    """
    rules = state.rules(group[0].market)
    ends = [value_ends(state, reach) for reach in group]
    losses = [sum(max(-move * low, -move * high) for low, high in ends) for move in rules.moves_ppm]
    gross = sum(max(abs(low), abs(high)) for low, high in ends)
    return -(-(max(0, *losses) + rules.contingency_ppm * gross) // PPM)


def hold_still(state: State, account: int, markets: list[int]) -> list[Reach]:
    """Return the reaches of positions that stay what they are."""
    return [Reach(market, *[state.position(account, market).qty_lot] * 2) for market in markets]


def compute_portfolio_maintenance(state: State, account: int, markets: list[int]) -> int:
    """Return the maintenance of the account's positions in some markets, as a portfolio.

    Source: PORT-003.
    """
    reaches = hold_still(state, account, markets)
    return sum(compute_requirement(state, group) for group in group_underlyings(state, reaches))


def compute_portfolio_initial(state: State, reaches: list[Reach]) -> int:
    """Return the initial margin of a portfolio whose positions may be anything within their reaches.

    Source: PORT-004.
    """
    total = 0
    for group in group_underlyings(state, reaches):
        factor_ppm = state.rules(group[0].market).portfolio_initial_ppm
        total += -(-compute_requirement(state, group) * factor_ppm // PPM)
    return total


def compute_weight(state: State, account: int, market: int) -> int:
    """Return a position's weight in its portfolio: what it would require if it were the only one.

    Source: PORT-006.
    """
    return compute_portfolio_maintenance(state, account, [market])


def compute_relief(state: State, account: int, markets: list[int], market: int) -> int:
    """Return by how much the maintenance of the positions in `markets` falls if the one in `market` is closed.

    Source: PORT-007.
    """
    rest = [other for other in markets if other != market]
    before = compute_portfolio_maintenance(state, account, markets)
    return before - compute_portfolio_maintenance(state, account, rest)
