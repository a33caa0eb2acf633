"""What must hold of any state between two commands, computed with numpy so that a million accounts take no time."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from engine.codes import BUY, CROSS, EXTERNAL, HOUSE, ISOLATED, LINEAR, SELL, SETTLED_AT_MARK
from engine.contract import Setup
from engine.digest import WIDTHS, View
from engine.errors import InvariantError


def compare_rows(name: str, got: Sequence[tuple[int, ...]], expected: Sequence[tuple[int, ...]]) -> None:
    """Refuse the first row in which a state differs from what the events make it."""
    for ours, theirs in zip(expected, got, strict=False):
        if ours != theirs:
            raise InvariantError(f"{name}: the state has {theirs}, the events make it {ours}")
    if len(got) != len(expected):
        longer = max(got, expected, key=len)
        owner = "state" if longer is got else "events"
        raise InvariantError(f"{name}: only the {owner} have {longer[min(len(got), len(expected))]}")


def read_table(view: View, name: str) -> NDArray[np.int64]:
    """Return one table of a view as an array, whatever rows it was given as."""
    return np.asarray(getattr(view, name), dtype=np.int64).reshape(-1, WIDTHS[name])


def _sum_exactly(numbers: NDArray[np.int64]) -> int:
    """Return a sum that cannot overflow: halves of 32 bits, up to 2^31 of them."""
    return (int((numbers >> 32).sum()) << 32) + int((numbers & 0xFFFFFFFF).sum())


def _require(is_true: bool, what: str, got: object) -> None:
    if not is_true:
        raise InvariantError(f"the state is broken: {what}: {got}")


def check_state(view: View, setup: Setup) -> None:
    """Check what must hold of any state between two commands.

    Raises
    ------
    InvariantError
        Naming what does not hold, and where.

    Source: MONEY-001, FUND-002, DEF-003, MATCH-001.
    """
    _check_money(view, setup)
    _check_positions(view, setup)
    _check_portfolios(view, setup)
    _check_orders(view, setup)


def _check_money(view: View, setup: Setup) -> None:
    """Check conservation per asset, and that no fund is negative and no insolvency positive (MONEY-001)."""
    positions, wallets = read_table(view, "positions"), read_table(view, "wallets")
    funds, assets = read_table(view, "funds"), read_table(view, "assets")
    asset_of = np.array([rules.asset for rules in setup.markets], dtype=np.int64)
    fund_assets = np.array(setup.fund_assets, dtype=np.int64)
    for asset, name in enumerate(setup.assets):
        fees, rounding, insolvency, deposits, withdrawals, waived = (int(number) for number in assets[asset])
        held = positions[asset_of[positions[:, 1]] == asset]
        balances, funded = wallets[wallets[:, 1] == asset][:, 2], funds[fund_assets == asset][:, 0]
        owned = _sum_exactly(np.concatenate([balances, held[:, 4], -held[:, 3], funded])) + fees + rounding + insolvency
        paid_in = deposits - withdrawals
        _require(owned == paid_in, f"{name} is not conserved", f"{owned} owned, {paid_in} paid in")
        _require(insolvency <= 0, f"the insolvency account of {name} is above zero", insolvency)
        _require(min(deposits, withdrawals, waived) >= 0, f"a sum of {name} is negative", assets[asset].tolist())
    low = funds[(funds[:, 0] < 0) | (funds[:, 1] < 0) | (funds[:, 1] > funds[:, 0])]
    _require(not len(low), "a fund is negative, or below its own lowest balance", low[:1].tolist())


def _check_positions(view: View, setup: Setup) -> None:
    """Check quantities and open interest per market, and what flat and cross positions may hold."""
    markets, positions = read_table(view, "markets"), read_table(view, "positions")
    qty, cost, margin = positions[:, 2], positions[:, 3], positions[:, 4]
    for market, rules in enumerate(setup.markets):
        held = qty[positions[:, 1] == market]
        longs, shorts = _sum_exactly(held[held > 0]), _sum_exactly(held[held < 0])
        interest = int(markets[market, 3])
        _require(longs == -shorts, f"the quantities of {rules.symbol} do not sum to 0", longs + shorts)
        _require(longs == interest, f"the open interest of {rules.symbol} is not {longs}", interest)
    is_cash = np.array([rules.settlement == SETTLED_AT_MARK for rules in setup.markets])[positions[:, 1]]
    # where the mark settles, cost is what a flat position still owes, and has any sign
    bad = positions[(qty == 0) & (((cost != 0) & ~is_cash) | (margin != 0))]
    _require(not len(bad), "a flat position has cost or margin", bad[:1].tolist())
    bad = positions[(positions[:, 7] == CROSS) & (margin != 0)]
    _require(not len(bad), "a cross position has a margin of its own", bad[:1].tolist())
    ways = np.array([1 if rules.kind == LINEAR else -1 for rules in setup.markets], dtype=np.int64)[positions[:, 1]]
    is_taken = positions[:, 0] == HOUSE  # at a bankruptcy value, which may have the other sign
    bad = positions[(qty != 0) & ~is_cash & ~is_taken & (np.sign(qty) * ways != np.sign(cost))]
    _require(not len(bad), "a position's cost has not the sign of its value", bad[:1].tolist())


def _check_portfolios(view: View, setup: Setup) -> None:
    """Check that nobody holds an isolated position where his mode is portfolio (PORT-002)."""
    positions, portfolios = read_table(view, "positions"), read_table(view, "portfolios")
    asset_of = np.array([rules.asset for rules in setup.markets], dtype=np.int64)
    isolated = positions[(positions[:, 7] == ISOLATED) & (positions[:, 2] != 0)]
    for asset in range(len(setup.assets)):
        held = isolated[asset_of[isolated[:, 1]] == asset]
        changed = np.isin(held[:, 0], portfolios[portfolios[:, 1] == asset][:, 0])
        bad = held[changed != setup.starts_as_portfolio(asset)]
        _require(not len(bad), "an account in portfolio mode holds an isolated position", bad[:1].tolist())


def _check_orders(view: View, setup: Setup) -> None:
    """Check that books are in order and not crossed, and every account's order id is its own (MATCH-001, CMD-003)."""
    orders = read_table(view, "orders")
    for market, rules in enumerate(setup.markets):
        here = orders[orders[:, 0] == market]
        bids, asks = here[here[:, 1] == BUY][:, 2], here[here[:, 1] == SELL][:, 2]
        _require(bool((bids[1:] <= bids[:-1]).all()), f"the bids of {rules.symbol} are not best first", market)
        _require(bool((asks[1:] >= asks[:-1]).all()), f"the asks of {rules.symbol} are not best first", market)
        if len(bids) and len(asks):
            touch = (int(bids[0]), int(asks[0]))
            _require(touch[0] < touch[1], f"the book of {rules.symbol} is crossed", touch)
        _require(bool((here[:, 2] <= rules.price_max_tick).all()), f"a price of {rules.symbol} is too high", market)
    bad = orders[(orders[:, 2] < 1) | (orders[:, 3] < 1)]
    _require(not len(bad), "an order has no price or no quantity", bad[:1].tolist())
    ids = orders[orders[:, 4] != EXTERNAL][:, 5]
    _require(len(np.unique(ids)) == len(ids), "two orders have one id", len(ids))
