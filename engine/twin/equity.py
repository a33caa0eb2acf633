"""Who has what at the end, to the unit, and that it adds up to what was paid in (TWIN-007, TWIN-008)."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.codes import EXTERNAL, HOUSE
from engine.contract import value_of
from engine.errors import InvariantError
from engine.exchange import Exchange

Ints = NDArray[np.int64]


class Holdings(NamedTuple):
    """All money of an exchange whose markets settle in one asset, positions valued at their marks."""

    accounts: Ints  # rising; the outside and the house are not among them
    equity_quote: Ints
    totals: dict[str, int]  # what `accounts` have together, then everybody else


OWNERS = ("accounts", "outside", "house", "funds", "fees", "rounding", "insolvency")


def measure_holdings(exchange: Exchange) -> Holdings:
    """Return what everybody has: wallet, isolated margins and unrealised PnL at mark.

    Raises
    ------
    InvariantError
        If it is not what was paid in, to the unit (TWIN-008).

    Source: TWIN-007, TWIN-008.
    """
    view = exchange.view()
    wallets = np.asarray(view.wallets, np.int64).reshape(-1, 4)
    positions = np.asarray(view.positions, np.int64).reshape(-1, 9)
    marks = np.asarray(view.markets, np.int64).reshape(-1, 5)[:, 0]
    worth = np.zeros(len(positions), np.int64)
    for market, rules in enumerate(exchange.setup.markets):
        here = (positions[:, 1] == market) & (positions[:, 2] != 0)
        if here.any():
            worth[here] = value_of(rules, int(marks[market]), positions[here, 2])
    owner = np.concatenate([wallets[:, 0], positions[:, 0]])
    money = np.concatenate([wallets[:, 2], positions[:, 4] - positions[:, 3] + worth])
    everybody, place = np.unique(owner, return_inverse=True)
    equity = np.zeros(len(everybody), np.int64)
    np.add.at(equity, place, money)
    of = dict(zip(everybody.tolist(), equity.tolist(), strict=True))
    is_account = everybody > EXTERNAL
    fees, rounding, insolvency, deposits, withdrawals, _ = (int(number) for number in view.assets[0])
    totals = {
        "accounts": sum(equity[is_account].tolist()),
        "outside": of.get(EXTERNAL, 0),
        "house": of.get(HOUSE, 0),
        "funds": sum(int(row[0]) for row in view.funds),
        "fees": fees,
        "rounding": rounding,
        "insolvency": insolvency,
        # what the values of all positions of a market sum to: nothing, but for the rounding of inverse ones (INV-001)
        "valuation": sum(worth.tolist()),
        "paid_in": deposits - withdrawals,
    }
    owned = sum(totals[name] for name in OWNERS)
    if owned != totals["paid_in"] + totals["valuation"]:
        raise InvariantError(
            f"the equities do not add up: {owned} owned, {totals['paid_in']} paid in, {totals['valuation']} by rounding"
        )
    return Holdings(everybody[is_account], equity[is_account], totals)


def align_equities(holdings: list[Holdings], liquidated: set[int]) -> tuple[Ints, Ints]:
    """Return all accounts that have or had anything, and their equities as an (accounts, holdings) array."""
    lost = np.array(sorted(liquidated), np.int64)
    accounts = np.unique(np.concatenate([lost, *(held.accounts for held in holdings)]))
    table = np.zeros((len(accounts), len(holdings)), np.int64)
    for column, held in enumerate(holdings):
        table[np.searchsorted(accounts, held.accounts), column] = held.equity_quote
    return accounts, table


def check_differences(holdings: list[Holdings], differences: Ints) -> None:
    """Hold the differences against each other: what some gain others lose, or it was paid in.

    Raises
    ------
    InvariantError
        If they do not sum to what was paid in more, to the unit.

    Source: TWIN-008.
    """
    base = holdings[0].totals
    for column, held in enumerate(holdings):
        gains = sum(differences[:, column].tolist())
        others = sum(held.totals[name] - base[name] for name in OWNERS[1:])
        paid = sum(held.totals[name] - base[name] for name in ("paid_in", "valuation"))
        if gains + others != paid:
            raise InvariantError(f"the differences do not add up: accounts {gains}, others {others}, paid in {paid}")
