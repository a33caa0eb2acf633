"""A seeded crowd of leveraged accounts (POP-001).

Every number is drawn and computed in integers, so a file gives the same crowd on every machine.
"""

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.codes import ASSIGN, CROSS, INVERSE, ISOLATED, PORTFOLIO, PPM, SET_LEVERAGE, SET_MARGIN_MODE
from engine.contract import Market, MarketRules, build_setup, value_of
from engine.errors import CapacityError, ConfigError
from engine.feeds.draws import FRACTION_BITS, Draws, Ints, lognormal, pareto
from engine.layout import COMMAND
from engine.scenario.settings import check_range, count_ppm, load_settings
from engine.units import count_units

Commands = NDArray[np.void]

ACCOUNTS_LIMIT = 1 << 28
LEVERAGE_LIMIT = 1_000
# A new position may have lost at most this part of what stands between its collateral and its maintenance.
LOSS_NUMERATOR, LOSS_DENOMINATOR = 3, 4


class LeverageShare(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A leverage and how often it occurs, relative to the others."""

    leverage: int
    weight: Decimal


class LeverageSpread(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Leverage drawn from a lognormal distribution, rounded, between 1 and `max`."""

    median: Decimal
    sigma: Decimal
    max: int


class LognormalSize(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="lognormal"
):
    """Position sizes whose logarithm has the deviation `sigma`."""

    sigma: Decimal


class ParetoSize(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="pareto"):
    """Position sizes with a power tail: a share x ** -alpha of them is x times the smallest or larger."""

    alpha: Decimal


class Population(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A crowd, as its owner writes it.

    Parameters
    ----------
    seed : int
        The same seed gives the same crowd.
    accounts : int
        How many accounts, each with one position.
    open_interest : Decimal
        Quantity of all positions together, longs plus shorts, in the market's units of quantity.
    long_share : Decimal
        Part of that quantity, and of the accounts, that is long.  The outside takes the imbalance.
    leverage : list of {leverage, weight}, or {median, sigma, max}
        Lowered for a position so large that its tier allows less.
    size : {kind = "lognormal", sigma} or {kind = "pareto", alpha}
        How unequal the positions are.
    entry_spread : Decimal
        Standard deviation of entry prices around the first mark, 0.01 is one percent.
    isolated_share : Decimal
        Part of the accounts that hold their position isolated; the others hold it cross.
    first_account : int
        Number of the first account; the others follow.
    """

    seed: int
    accounts: int
    open_interest: Decimal
    leverage: tuple[LeverageShare, ...] | LeverageSpread
    long_share: Decimal = Decimal("0.5")
    size: LognormalSize | ParetoSize = LognormalSize(sigma=Decimal(1))
    entry_spread: Decimal = Decimal("0.01")
    isolated_share: Decimal = Decimal(0)
    first_account: int = 1

    def __post_init__(self) -> None:
        """Refuse what cannot be drawn; msgspec adds the path."""
        check_range("seed", self.seed, 0, (1 << 63) - 1)
        check_range("accounts", self.accounts, 1, ACCOUNTS_LIMIT)
        check_range("first_account", self.first_account, 1, ACCOUNTS_LIMIT)
        check_range("open_interest", self.open_interest, Decimal("1e-18"), Decimal("1e18"))
        for field in ("long_share", "isolated_share", "entry_spread"):
            check_range(field, getattr(self, field), 0, 1)
            count_ppm(field, getattr(self, field))
        if isinstance(self.size, ParetoSize):
            check_range("size.alpha", self.size.alpha, Decimal("0.5"), 100)
        else:
            check_range("size.sigma", self.size.sigma, 0, 4)
        if isinstance(self.leverage, LeverageSpread):
            check_range("leverage.median", self.leverage.median, 1, LEVERAGE_LIMIT)
            check_range("leverage.sigma", self.leverage.sigma, 0, 4)
            check_range("leverage.max", self.leverage.max, 1, LEVERAGE_LIMIT)
        else:
            for index, share in enumerate(self.leverage):
                check_range(f"leverage[{index}].leverage", share.leverage, 1, LEVERAGE_LIMIT)
                check_range(f"leverage[{index}].weight", share.weight, 0, Decimal("1e9"))
            if not sum(share.weight for share in self.leverage):
                raise ValueError("leverage: expected at least one weight above 0")


def load_population(path: str | Path) -> Population:
    """Read a population from a TOML file; ConfigError names the file and the path inside it."""
    return load_settings(path, Population)


def check_capacity(accounts: int, first_account: int, accounts_max: int | None) -> None:
    """Refuse more accounts than the exchange has room for.

    Raises
    ------
    CapacityError
        Naming the argument to raise.
    """
    needed = first_account + accounts
    if accounts_max is not None and needed > accounts_max:
        raise CapacityError(
            f"population: {accounts} accounts from number {first_account} need accounts_max >= {needed}, it is "
            f"{accounts_max}: raise accounts_max (--accounts-max)"
        )


def build_population(
    population: Population,
    market: Market,
    market_index: int,
    mark_tick: int,
    *,
    ts_ns: int = 0,
    accounts_max: int | None = None,
) -> Commands:
    """Return the commands that bring the crowd into a market (POP-001).

    Per account: `set_leverage` and `set_margin_mode` where they differ from the market's defaults, then `assign` with
    the entry value divided by the leverage, rounded up, as collateral.  The market must have its mark by then.  Who is
    not isolated is cross, or stays in portfolio mode where accounts start in it.

    Nobody starts in trouble: an entry drawn so far on the losing side that more than three quarters of the distance
    between collateral and maintenance would be gone at `mark_tick` is moved to where exactly that much is gone.

    Parameters
    ----------
    mark_tick : int
        The first mark, around which entries lie.
    ts_ns : int
        Stamp of the commands.
    accounts_max : int, optional
        Room of the exchange, account 0 (the outside) included.

    Returns
    -------
    COMMAND array
        In account order.

    Raises
    ------
    ConfigError
        If the crowd does not fit the market's limits.
    CapacityError
        If it does not fit `accounts_max`.
    """
    check_capacity(population.accounts, population.first_account, accounts_max)
    rules = build_setup([market]).markets[0]
    if not 1 <= mark_tick <= rules.price_max_tick:
        raise ConfigError(f"population: expected a mark of 1 to {rules.price_max_tick} ticks, got {mark_tick}")
    draws = Draws(population.seed)
    sides, lots = _draw_positions(population, market, rules, draws)
    notional = abs(value_of(rules, mark_tick, lots))
    leverage = _draw_leverage(population, rules, draws, notional)
    isolated = draws.below(PPM, len(lots)) < count_ppm("isolated_share", population.isolated_share)
    spread_ppm = count_ppm("entry_spread", population.entry_spread)
    # Twelve binary places of the normal and sixteen of the deviation in ticks: their product fits 64 bits.
    deviation = (mark_tick * spread_ppm << 16) // PPM
    offset = ((draws.normal(len(lots)) >> (FRACTION_BITS - 12)) * deviation) >> (12 + 16)
    maintenance = count_maintenance(rules, notional)
    if rules.start_mode == PORTFOLIO:
        highest, weights = count_portfolio(rules, notional, sides)
        leverage = np.where(isolated, leverage, np.minimum(leverage, highest))
        maintenance = np.where(isolated, maintenance, weights)
    slack = np.maximum(notional // leverage - maintenance, 0) // LOSS_DENOMINATOR * LOSS_NUMERATOR
    worst = find_worst_entry(rules, mark_tick, sides, lots, leverage, slack)
    entry = np.where(sides > 0, np.minimum(mark_tick + offset, worst), np.maximum(mark_tick + offset, worst))
    entry = np.clip(entry, 1, rules.price_max_tick)
    value = value_of(rules, entry, sides * lots)
    collateral = -(-abs(value) // leverage)
    equity = collateral + value_of(rules, mark_tick, sides * lots) - value
    if np.any(equity < maintenance):
        account = population.first_account + int(np.argmax(equity < maintenance))
        raise ConfigError(f"population: account {account} would start below maintenance; expected finer ticks or tiers")
    accounts = population.first_account + np.arange(len(lots))
    modes = np.where(isolated, ISOLATED, PORTFOLIO if rules.start_mode == PORTFOLIO else CROSS)
    return build_assignments(rules, market_index, ts_ns, accounts, leverage, modes, (sides, lots, entry, collateral))


def find_worst_entry(rules: MarketRules, mark_tick: int, sides: Ints, lots: Ints, leverage: Ints, slack: Ints) -> Ints:
    """Return the entries, on the losing side of the mark, at which positions have lost at most `slack`.

    At an entry that loses `a` the collateral may be smaller too (a linear short's), hence leverage / (leverage + 1).
    """
    if rules.kind != INVERSE:
        return mark_tick + sides * (slack // (lots * rules.multiplier) * leverage // (leverage + 1))
    reach = lots * rules.multiplier
    value = -value_of(rules, mark_tick, sides * lots) - slack * leverage // (leverage + 1)
    # a long's loss takes from the size of its value, a short's adds to it; towards the mark where they round
    worst: Ints = np.where(sides > 0, reach // np.maximum(value, 1), -(-reach // np.maximum(-value, 1)))
    return worst


def build_assignments(
    rules: MarketRules,
    market_index: int,
    ts_ns: int,
    accounts: Ints,
    leverage: Ints,
    modes: Ints,
    positions: tuple[Ints, Ints, Ints, Ints],
) -> Commands:
    """Return per account its leverage and margin mode, where not the market's default, and its position.

    Parameters
    ----------
    positions : four arrays
        Side, quantity in lots, entry in ticks, collateral in units of the settlement asset.
    """
    rows = np.zeros((len(accounts), 3), dtype=COMMAND)
    rows["ts_ns"], rows["market"], rows["account"] = ts_ns, market_index, accounts[:, None]
    rows["kind"] = (SET_LEVERAGE, SET_MARGIN_MODE, ASSIGN)
    rows["amount_quote"][:, 0], rows["amount_quote"][:, 1] = leverage, modes
    assign = rows[:, 2]
    assign["side"], assign["qty_lot"], assign["price_tick"], assign["amount_quote"] = positions
    keep = np.ones(rows.shape, dtype=bool)
    keep[:, 0] = -(-PPM // leverage) != rules.leverage_ppm
    keep[:, 1] = modes != rules.start_mode
    return rows[keep]


def count_maintenance(rules: MarketRules, notional: Ints) -> Ints:
    """Return the maintenance margin of each notional (MARGIN-002)."""
    floors, _, rates, deductions = (np.array(column, dtype=np.int64) for column in zip(*rules.tiers, strict=True))
    tier = np.searchsorted(floors, notional, side="right") - 1
    # v = a x 10^6 + b keeps the product with the rate inside 64 bits.
    whole, part = np.divmod(notional, PPM)
    margin: Ints = whole * rates[tier] - (-part * rates[tier] // PPM) - deductions[tier]
    return margin


def count_portfolio(rules: MarketRules, notional: Ints, sides: Ints) -> tuple[Ints, Ints]:
    """Return the highest leverage and the maintenance of each position as a portfolio of its own (PORT-004)."""
    rates = np.where(sides > 0, -rules.moves_ppm[0], rules.moves_ppm[-1]) + rules.contingency_ppm
    whole, part = np.divmod(notional, PPM)
    return PPM * PPM // (rates * rules.portfolio_initial_ppm), whole * rates - (-part * rates // PPM)


def _draw_positions(population: Population, market: Market, rules: MarketRules, draws: Draws) -> tuple[Ints, Ints]:
    count, long_ppm = population.accounts, count_ppm("long_share", population.long_share)
    try:
        total = count_units(population.open_interest, market.lot_size, "open_interest")
    except ValueError as error:
        raise ConfigError(f"population: open_interest: {error}") from error
    long_total, long_count = total * long_ppm // PPM, count * long_ppm // PPM
    if 0 < long_ppm < PPM:
        if count < 2:
            raise ConfigError("population: accounts: expected at least 2 where both sides are held")
        long_count = min(max(long_count, 1), count - 1)
    if max(long_total, total - long_total) > rules.open_interest_max_lot:
        most = rules.open_interest_max_lot * market.lot_size
        raise ConfigError(f"population: open_interest: expected at most {most} a side (the market's), got more")
    sides = np.where(draws.shuffled(count) < long_count, 1, -1).astype(np.int64)
    if isinstance(population.size, ParetoSize):
        weights = pareto(draws, population.size.alpha, count)
    else:
        weights = lognormal(draws, population.size.sigma, count)
    lots = np.zeros(count, dtype=np.int64)
    for side, part in ((1, long_total), (-1, total - long_total)):
        chosen = sides == side
        lots[chosen] = share_out(part, weights[chosen].tolist())
    if lots.max() > rules.order_max_lot:
        largest, most = int(lots.max()) * market.lot_size, rules.order_max_lot * market.lot_size
        raise ConfigError(f"population: size: the largest position is {largest}, the market's order_max is {most}")
    return sides, lots


def share_out(total: int, weights: Sequence[int]) -> list[int]:
    """Return whole shares of `total` in proportion to `weights`, at least 1 each, that sum to it exactly.

    Raises
    ------
    ConfigError
        If there is less than 1 for each.
    """
    count = len(weights)
    if total < count:
        raise ConfigError(f"population: open_interest: expected at least one lot for each of {count} accounts a side")
    if not count:
        return []
    spread, whole = total - count, sum(weights)
    shares = [1 + spread * weight // whole for weight in weights]
    # What rounding down left over goes, a lot each, to the largest, where it matters least.
    largest = sorted(range(count), key=lambda index: (-weights[index], index))
    for index in largest[: total - sum(shares)]:
        shares[index] += 1
    return shares


def _draw_leverage(population: Population, rules: MarketRules, draws: Draws, notional: Ints) -> Ints:
    wanted, count = population.leverage, len(notional)
    if isinstance(wanted, LeverageSpread):
        factors = lognormal(draws, wanted.sigma, count)
        median_ppm = int(wanted.median * PPM)
        # Held below the limit and to 16 places, so that the product with the median fits 64 bits; rounded.
        held = np.minimum(factors, LEVERAGE_LIMIT << FRACTION_BITS) >> 16
        drawn = (held * median_ppm + (PPM << 15)) // (PPM << 16)
        leverage = np.clip(drawn, 1, wanted.max)
    else:
        whole = sum(share.weight for share in wanted)
        ends, reached = [], Decimal(0)
        for share in wanted:
            reached += share.weight
            ends.append(int(reached * (1 << FRACTION_BITS) / whole))
        chosen = np.searchsorted(np.array(ends[:-1], dtype=np.int64), draws.uniform(count), side="right")
        leverage = np.array([share.leverage for share in wanted], dtype=np.int64)[chosen]
    floors = np.array([tier[0] for tier in rules.tiers], dtype=np.int64)
    highest = PPM // np.array([tier[1] for tier in rules.tiers], dtype=np.int64)
    allowed: Ints = np.minimum(leverage, highest[np.searchsorted(floors, notional, side="right") - 1])
    return allowed
