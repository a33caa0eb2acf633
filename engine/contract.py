"""A market as its owner writes it (TOML, decimals) and as the engines count it (integers).

`Market` is the configuration; `MarketRules` what both engines are given; `Setup` all markets with their assets and
funds.  Every refusal names the file and the path inside it.
"""

import json
import tomllib
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from engine.codes import (
    FUNDING_PREMIUM,
    INVERSE,
    MARK_MEDIAN3,
    MARKETS_MAX,
    POLICIES,
    PORTFOLIO,
    PORTFOLIO_VALUE_MAX,
    PPM,
    PRICE_MAX_LIMIT,
    SETTLED_AT_MARK,
    TABLES_MAX,
    TIERS_MAX,
    VALUE_MAX,
)
from engine.errors import ConfigError, explain_os, shorten
from engine.files import JSON_BYTES_MAX, explain_misfit, read_text
from engine.policies import (
    AdlPolicy,
    FundingPolicy,
    LiquidationPolicy,
    PortfolioPolicy,
    check_policy,
    read_adl,
    read_basis,
    read_funding,
    read_house,
    read_portfolio,
    read_stages,
    to_ppm,
    to_units,
)
from engine.units import check_tree, leverage_to_rate, parse_decimal
from engine.venues import merge_tables, read_venue

DEFAULT_PRICE_MAX_TICK = (1 << 24) - 1
Tiers = tuple[tuple[int, int, int, int], ...]  # floor_quote, initial_ppm, maintenance_ppm, deduction_quote
RATE_MAX = 100  # the highest margin rate of a market settled at the mark (CASH-006)


class Tier(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One margin tier: from `floor` of notional on, these rates.

    Parameters
    ----------
    floor : Decimal
        Notional in the settlement asset from which the tier applies.
    initial, maintenance : Decimal
        Margin rates, 0.01 is one percent.
    deduction : Decimal, optional
        The venue's `cum`; checked against the recurrence when given (MARGIN-002).
    """

    floor: Decimal
    initial: Decimal
    maintenance: Decimal
    deduction: Decimal | None = None


class Market(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One perpetual contract.

    Parameters
    ----------
    symbol, settle : str
        Names of the contract and of the asset it settles in.
    tick_size, lot_size : Decimal
        Price step and quantity step.
    quote_unit : Decimal
        Smallest unit of the settlement asset; all its money is a whole number of these.
    kind : {"linear", "inverse"}
        Linear: money is the quote currency.  Inverse: it is the base coin, and so are the tiers' floors.
    contract_size : Decimal
        What a quantity of 1 stands for: so much of the base coin (linear), or of the quote currency (inverse).
    tiers : tuple of Tier
        At least one, floors rising from 0.
    tier_tables : tuple of tuples of Tier
        Further tables; `tiers` is number 0, these count from 1, and `set_tiers` chooses between them.
    fund : str
        Name of the insurance fund; markets naming the same fund share it.  Empty: the settlement asset's.
    margin_call : Decimal
        A margin call is sent when equity falls below maintenance times this; 0 sends none.
    initial_mark : Decimal, optional
        Mark price before the first command.
    settlement : str
        When a position's gains and losses become cash: as it closes, or at each mark.
    order_margin : str
        What an order must have before it is let in: initial margin, or nothing.
    short_maintenance : Decimal
        Added to the maintenance rates of short positions.

    basis_interval_s : int
        Seconds between samples of the basis, the middle of the book less the index (`median3`, `ema_basis`).
    basis_samples : int
        How many of them `median3` averages.
    basis_tau_s : int
        Time constant of the moving average of `ema_basis`.
    basis_band : Decimal
        How far the averaged basis may take the mark from the index, as a part of it; 0: no limit.
    closeout_moves_last : bool
        Whether fills of liquidations are the last price too.
    underlying : str
        What the price is of; markets of one underlying and asset offset each other in portfolio mode.  Empty: the
        symbol.
    portfolio : PortfolioPolicy, optional
        Price moves for accounts in portfolio mode; without one the settlement asset has no such mode.

    Source: DESIGN 1, 5, 6, 8; spec CFG-001, INV-002, TIER-001.
    """

    symbol: str
    tick_size: Decimal
    lot_size: Decimal
    tiers: tuple[Tier, ...]
    settle: str = "USDT"
    quote_unit: Decimal = Decimal("0.000001")
    kind: str = "linear"
    fund: str = ""
    price_max: Decimal | None = None
    order_max: Decimal | None = None
    open_interest_max: Decimal | None = None
    maker_fee: Decimal = Decimal("0.0002")
    taker_fee: Decimal = Decimal("0.0005")
    liquidation_fee: Decimal = Decimal(0)
    order_collar: Decimal = Decimal("0.05")
    liquidation_collar: Decimal = Decimal("0.1")
    default_leverage: int = 20
    margin_mode: str = "cross"
    margin_call: Decimal = Decimal("1.25")
    mark_model: str = "recorded"
    initial_mark: Decimal | None = None
    refill: str = "tape"
    liquidation: LiquidationPolicy = LiquidationPolicy()
    adl: AdlPolicy = AdlPolicy()
    contract_size: Decimal = Decimal(1)
    tier_tables: tuple[tuple[Tier, ...], ...] = ()
    settlement: str = "close"
    order_margin: str = "initial"
    short_maintenance: Decimal = Decimal(0)
    basis_interval_s: int = 1
    basis_samples: int = 30
    basis_tau_s: int = 30
    basis_band: Decimal = Decimal(0)
    closeout_moves_last: bool = True
    funding: FundingPolicy = FundingPolicy()
    underlying: str = ""
    portfolio: PortfolioPolicy | None = None


class MarketRules(NamedTuple):
    """A market in integers, as both engines are given it (NUM-001)."""

    symbol: str
    asset: int
    fund: int
    multiplier: int  # money per tick and lot; inverse: money times ticks per lot
    price_max_tick: int
    order_max_lot: int
    open_interest_max_lot: int
    maker_fee_ppm: int
    taker_fee_ppm: int
    liquidation_fee_ppm: int
    order_collar_ppm: int
    liquidation_collar_ppm: int
    leverage_ppm: int  # 1e6 / default leverage, rounded up
    margin_mode: int  # of a position: CROSS or ISOLATED
    mark_model: int
    initial_mark_tick: int  # 0: none
    adl_fees: int  # 1: on
    call_ppm: int
    tiers: Tiers
    adl_trigger: int
    adl_price: int
    adl_score: int
    adl_allocation: int
    adl_cancel_victims: int  # 1: on
    lights: int
    adl_drawdown_ppm: int
    adl_release_ppm: int
    adl_within_ppm: int
    adl_bucket_ns: int  # a sixtieth of the window
    whole_quote: int  # money that is one whole unit of the asset (ADL-010)
    # stages 1 to 3 of the waterfall and the gate of the backstop (STAGE-001..STAGE-009); policies are their codes
    cancel: int
    size: int
    share_ppm: int
    share_min_quote: int
    full_below_quote: int
    step_max_quote: int
    cooldown_ns: int
    after_share: int
    limit: int
    spread_ppm: int
    adjustment_ppm: int
    surplus: int
    surplus_fee_ppm: int
    shortfall: int
    fund_loss_max_quote: int
    adl_gate: int
    backstop: int
    vault_below_ppm: int
    takeover_price: int
    carry_ppm: int  # 0: no limit
    unwind: int
    unwind_interval_ns: int
    unwind_share_ppm: int
    unwind_full_lot: int
    unwind_depth_ppm: int
    unwind_range_ppm: int
    unwind_last: int  # 1: the house's trades move the last price
    closeout_fee_ppm: int
    settlement: int
    order_margin: int
    short_maintenance_ppm: int
    basis_interval_s: int
    basis_samples: int
    basis_decay_ppb: int  # what a sample still weighs an interval later
    basis_band_ppm: int  # 0: none
    closeout_moves_last: int  # 1: they do
    funding_model: int
    funding_interval_s: int
    funding_offset_s: int
    funding_period_s: int
    funding_interest_ppb: int
    funding_clamp_ppb: int
    funding_cap_ppb: int
    funding_premium: int
    funding_average: int
    funding_sample_s: int
    funding_pay_on: int
    impact_quote: int
    underlying: int  # equal for what offsets in portfolio mode: one settlement asset, one name
    start_mode: int  # margin mode of an account at first: CROSS, ISOLATED or PORTFOLIO
    moves_ppm: tuple[int, ...]  # rising; empty: no portfolio mode
    contingency_ppm: int
    portfolio_initial_ppm: int  # initial margin as a multiple of maintenance
    kind: int = 0  # LINEAR or INVERSE
    more_tables: tuple[Tiers, ...] = ()  # like `tiers`: tables 1, 2, ...

    @property
    def tables(self) -> tuple[Tiers, ...]:
        """Return all tier tables by their numbers (TIER-001)."""
        return (self.tiers, *self.more_tables)


def is_derived(rules: MarketRules) -> bool:
    """Return whether a market's mark or funding rate depends on more of its past than the state has room for elsewhere.

    Source: MARK-001, FUND-011.
    """
    return rules.mark_model >= MARK_MEDIAN3 or rules.funding_model == FUNDING_PREMIUM


class Setup(NamedTuple):
    """Everything an engine is built from."""

    markets: tuple[MarketRules, ...]
    assets: tuple[str, ...]
    asset_units: tuple[Decimal, ...]
    funds: tuple[str, ...]
    fund_assets: tuple[int, ...]

    def starts_as_portfolio(self, asset: int) -> bool:
        """Return whether accounts are in portfolio mode in an asset until they choose otherwise (PORT-002)."""
        return any(rules.asset == asset and rules.start_mode == PORTFOLIO for rules in self.markets)


def value_of(rules: MarketRules, price_tick: Any, qty_lot: Any) -> Any:
    """Return the value of a signed quantity at a price, in whole units of the settlement asset.

    For displays and scenarios; the engines and the auditor have their own.

    Parameters
    ----------
    price_tick, qty_lot : int, or int64 arrays
        Prices from 1 on.

    Source: NUM-002, INV-001.
    """
    if rules.kind != INVERSE:
        return price_tick * qty_lot * rules.multiplier
    whole, rest = divmod(-qty_lot * rules.multiplier, price_tick)
    return whole + ((2 * rest > price_tick) | ((2 * rest == price_tick) & (whole % 2 == 1)))


def read_tiers(tiers: Sequence[Tier], quote_unit: Decimal, where: str, rate_max: int = 1) -> Tiers:
    """Return tiers in integers, deductions by the recurrence `d_n = d_{n-1} + floor_n x (rate step)` (MARGIN-002)."""
    if not tiers or len(tiers) > TIERS_MAX:
        raise ConfigError(f"{where}: tiers: expected 1 to {TIERS_MAX} tiers, got {len(tiers)}")
    rows: list[tuple[int, int, int, int]] = []
    for index, tier in enumerate(tiers):
        path = f"{where}: tiers[{index}]"
        floor = to_units(tier.floor, quote_unit, f"{path}.floor")
        initial, maintenance = to_ppm(tier.initial, f"{path}.initial"), to_ppm(tier.maintenance, f"{path}.maintenance")
        if not 1 <= maintenance <= initial <= rate_max * PPM:
            raise ConfigError(f"{path}: expected 0 < maintenance <= initial <= {rate_max}")
        if not rows:
            if floor != 0:
                raise ConfigError(f"{path}.floor: the first tier starts at 0, got {tier.floor}")
            deduction = 0
        else:
            before = rows[-1]
            if floor <= before[0] or maintenance <= before[2] or initial < before[1]:
                raise ConfigError(f"{path}: expected floor, maintenance and initial to rise from tier to tier")
            step = floor * (maintenance - before[2])
            if step % PPM:
                raise ConfigError(f"{path}.floor: the deduction is not a whole number of units, use a rounder floor")
            deduction = before[3] + step // PPM
        if tier.deduction is not None and to_units(tier.deduction, quote_unit, f"{path}.deduction") != deduction:
            expected = deduction * quote_unit
            raise ConfigError(f"{path}.deduction: expected {expected} by the recurrence, got {tier.deduction}")
        rows.append((floor, initial, maintenance, deduction))
    return tuple(rows)


def build_setup(markets: Sequence[Market], where: str = "market") -> Setup:
    """Return the integer setup of `markets`, or refuse them.

    Raises
    ------
    ConfigError
        If a value is out of range, a policy unknown, or a market could overflow 64 bits (NUM-006).
    """
    if not 1 <= len(markets) <= MARKETS_MAX:
        raise ConfigError(f"{where}: expected 1 to {MARKETS_MAX} markets, got {len(markets)}")
    symbols = [market.symbol for market in markets]
    if len(set(symbols)) != len(symbols):
        raise ConfigError(f"{where}: symbol: every market needs its own name, got {', '.join(symbols)}")
    assets: list[str] = []
    units: list[Decimal] = []
    funds: list[str] = []
    fund_assets: list[int] = []
    rules: list[MarketRules] = []
    for market in markets:
        path = f"{where}: {market.symbol}"
        try:
            check_tree(msgspec.to_builtins(market, builtin_types=(Decimal,)))
        except ValueError as error:
            raise ConfigError(f"{path}.{error}") from error
        if market.settle not in assets:
            assets.append(market.settle)
            units.append(market.quote_unit)
        asset = assets.index(market.settle)
        if units[asset] != market.quote_unit:
            raise ConfigError(f"{path}.quote_unit: {market.settle} is counted in {units[asset]} by another market")
        fund = market.fund or market.settle
        if fund not in funds:
            funds.append(fund)
            fund_assets.append(asset)
        if fund_assets[funds.index(fund)] != asset:
            raise ConfigError(f"{path}.fund: '{fund}' holds {assets[fund_assets[funds.index(fund)]]}")
        rules.append(_build_rules(market, path, asset, funds.index(fund)))
        call = next(rule.call_ppm for rule in rules if rule.asset == asset)
        if rules[-1].call_ppm != call:
            raise ConfigError(f"{path}.margin_call: all markets settling in {market.settle} share one level")
        if rules[-1].settlement != next(rule.settlement for rule in rules if rule.asset == asset):
            raise ConfigError(f"{path}.settlement: all markets settling in {market.settle} share one")
    rules = _join_underlyings(markets, rules, where)
    return Setup(tuple(rules), tuple(assets), tuple(units), tuple(funds), tuple(fund_assets))


def _check_policies(market: Market, path: str) -> None:
    """Refuse unknown policies and kinds (CFG-002)."""
    check_policy(f"{path}.kind", "kind", market.kind)
    check_policy(f"{path}.refill", "refill", market.refill)
    for field in LiquidationPolicy.__struct_fields__:
        if field in POLICIES:  # the others are numbers
            check_policy(f"{path}.liquidation.{field}", field, getattr(market.liquidation, field))
    for field in AdlPolicy.__struct_fields__:
        group = field if field == "lights" else f"adl_{field}"
        if group in POLICIES:
            check_policy(f"{path}.adl.{field}", group, getattr(market.adl, field))


class _Sizes(NamedTuple):
    multiplier: int
    price_max: int
    order_max: int
    interest: int
    initial_mark: int


def _read_sizes(market: Market, path: str) -> _Sizes:
    """Return a market's units and limits, or refuse those that could overflow (NUM-002, NUM-006)."""
    for field in ("tick_size", "lot_size", "quote_unit"):
        if not getattr(market, field) > 0:
            raise ConfigError(f"{path}.{field}: expected a positive number, got {getattr(market, field)}")

    def count(field: str, unit: Decimal, default: int) -> int:
        given = getattr(market, field)
        return default if given is None else to_units(given, unit, f"{path}.{field}")

    multiplier = _read_multiplier(market, path)
    price_max = count("price_max", market.tick_size, DEFAULT_PRICE_MAX_TICK)
    if not 1 <= price_max <= PRICE_MAX_LIMIT:
        raise ConfigError(f"{path}.price_max: expected 1 to {PRICE_MAX_LIMIT} ticks, got {price_max}")
    # the price at which a lot is worth most: the highest, or where the value falls as the price rises, one tick
    dearest = 1 if market.kind == "inverse" else price_max
    # where a position may need more than its value, that is what must fit
    rates = [tier.initial for tiers in (market.tiers, *market.tier_tables) for tier in tiers]
    needed = max(1, int(max(rates, default=Decimal(1)).to_integral_value("ROUND_CEILING")))
    ceiling = VALUE_MAX // (dearest * multiplier * needed)
    interest = count("open_interest_max", market.lot_size, ceiling)
    if not 1 <= interest <= ceiling:
        raise ConfigError(
            f"{path}.open_interest_max: a price of {dearest} ticks x {interest} lots x {multiplier} units would pass "
            f"2**58; expected 1 to {ceiling} lots"
        )
    if market.kind == "inverse" and multiplier < price_max:
        raise ConfigError(
            f"{path}.price_max: at {price_max} ticks a lot is worth less than one unit of {market.settle}; expected at "
            f"most {multiplier} ticks, or a finer quote_unit"
        )
    order_max = count("order_max", market.lot_size, interest)
    if not 1 <= order_max <= interest:
        raise ConfigError(f"{path}.order_max: expected 1 to {interest} lots, got {order_max}")
    initial_mark = count("initial_mark", market.tick_size, 0)
    if not 0 <= initial_mark <= price_max:
        raise ConfigError(f"{path}.initial_mark: expected a price up to price_max, got {market.initial_mark}")
    return _Sizes(multiplier, price_max, order_max, interest, initial_mark)


def _read_multiplier(market: Market, path: str) -> int:
    """Return what a lot is worth at a price of one tick; a linear lot at every tick as much more (NUM-002, INV-001)."""
    if not market.contract_size > 0:
        raise ConfigError(f"{path}.contract_size: expected a positive number, got {market.contract_size}")
    lot = market.lot_size * market.contract_size
    if market.kind == "inverse":
        return to_units(lot, market.tick_size * market.quote_unit, f"{path}.lot_size x contract_size over tick_size")
    return to_units(market.tick_size * lot, market.quote_unit, f"{path}.tick_size x lot_size")


def _name_tables(market: Market, path: str) -> list[str]:
    """Return the path of each tier table; that of the first is the market's."""
    return [path, *(f"{path}.tier_tables[{index}]" for index in range(len(market.tier_tables)))]


def _read_tables(market: Market, path: str, call_ppm: int, rate_max: int) -> tuple[Tiers, ...]:
    """Return a market's tier tables; a margin call must be possible under each (TIER-001)."""
    if len(market.tier_tables) >= TABLES_MAX:
        raise ConfigError(f"{path}.tier_tables: expected at most {TABLES_MAX - 1}, got {len(market.tier_tables)}")
    given = zip((market.tiers, *market.tier_tables), _name_tables(market, path), strict=True)
    tables = [read_tiers(tiers, market.quote_unit, where, rate_max) for tiers, where in given]
    highest = max(tiers[-1][2] for tiers in tables)
    if call_ppm and not (call_ppm >= PPM and highest * call_ppm < PPM * PPM):
        raise ConfigError(f"{path}.margin_call: expected 0, or at least 1 and below 1 / the highest maintenance rate")
    return tuple(tables)


def _read_rates(market: Market, path: str) -> dict[str, Any]:
    """Return a market's fees and collars in ppm, each inside its range."""
    rates = {}
    for name in ("maker_fee", "taker_fee", "liquidation_fee", "order_collar", "liquidation_collar"):
        rate = to_ppm(getattr(market, name), f"{path}.{name}")
        low, high = (-10_000, 100_000) if name in ("maker_fee", "taker_fee") else (0, PPM - 1)
        if not low <= rate <= high:
            limits = "-0.01 to 0.1" if low < 0 else "0 to below 1"
            raise ConfigError(f"{path}.{name}: expected {limits}, got {getattr(market, name)}")
        rates[f"{name}_ppm"] = rate
    if rates["maker_fee_ppm"] + rates["taker_fee_ppm"] < 0:
        raise ConfigError(f"{path}.maker_fee: a rebate above the taker fee would pay for trading with oneself")
    return rates


def _build_rules(market: Market, path: str, asset: int, fund: int) -> MarketRules:
    _check_policies(market, path)
    sizes = _read_sizes(market, path)
    settlement = _read_settlement(market, path)
    call = to_ppm(market.margin_call, f"{path}.margin_call")
    rate_max = RATE_MAX if settlement["settlement"] == SETTLED_AT_MARK else 1
    tables = _read_tables(market, path, call, rate_max)
    for place, tiers in zip(_name_tables(market, path), tables, strict=True):
        _check_short_rates(tiers, settlement["short_maintenance_ppm"], place)
    highest = max(1, PPM // tables[0][0][1])
    if not 1 <= market.default_leverage <= highest:
        raise ConfigError(f"{path}.default_leverage: expected 1 to {highest}, got {market.default_leverage}")
    return MarketRules(
        symbol=market.symbol,
        asset=asset,
        fund=fund,
        multiplier=sizes.multiplier,
        price_max_tick=sizes.price_max,
        order_max_lot=sizes.order_max,
        open_interest_max_lot=sizes.interest,
        **_read_rates(market, path),
        leverage_ppm=-(-PPM // market.default_leverage),
        mark_model=check_policy(f"{path}.mark_model", "mark_model", market.mark_model),
        initial_mark_tick=sizes.initial_mark,
        adl_fees=1 - check_policy(f"{path}.adl.fees", "adl_fees", market.adl.fees),
        call_ppm=call,
        kind=check_policy(f"{path}.kind", "kind", market.kind),
        tiers=tables[0],
        more_tables=tables[1:],
        **read_adl(market.adl, market.quote_unit, path),
        **read_stages(market.liquidation, market.adl.gate, market.quote_unit, path),
        **read_house(market.liquidation, market.lot_size, path),
        **settlement,
        **read_basis(market, path),
        **read_funding(market, path),
        **read_portfolio(market, path, call),
    )


def _read_settlement(market: Market, path: str) -> dict[str, Any]:
    """Return how a market is settled, and what its orders and shorts need (CASH-001, CASH-005, CASH-006)."""
    settlement = check_policy(f"{path}.settlement", "settlement", market.settlement)
    if settlement == SETTLED_AT_MARK and market.margin_mode != "cross":
        raise ConfigError(f"{path}.margin_mode: expected cross where settlement is mark, got {market.margin_mode}")
    extra = to_ppm(market.short_maintenance, f"{path}.short_maintenance")
    if extra and settlement != SETTLED_AT_MARK:
        raise ConfigError(f"{path}.short_maintenance: expected 0 unless settlement is mark, got {extra / PPM}")
    return {
        "settlement": settlement,
        "order_margin": check_policy(f"{path}.order_margin", "order_margin", market.order_margin),
        "short_maintenance_ppm": extra,
    }


def _check_short_rates(tiers: Sequence[tuple[int, int, int, int]], extra_ppm: int, path: str) -> None:
    """Refuse a surcharge with which a short's maintenance would be nothing, or more than initial (CASH-006)."""
    for _, initial, maintenance, _ in tiers:
        if not 1 <= maintenance + extra_ppm <= initial:
            raise ConfigError(f"{path}.short_maintenance: expected 0 < maintenance + short_maintenance <= initial")


def _join_underlyings(markets: Sequence[Market], rules: Sequence[MarketRules], where: str) -> list[MarketRules]:
    """Return the rules with their underlyings numbered, or refuse markets that contradict each other (PORT-001)."""
    names: list[tuple[int, str]] = []
    joined: list[MarketRules] = []
    for market, own in zip(markets, rules, strict=True):
        path = f"{where}: {market.symbol}"
        name = (own.asset, market.underlying or market.symbol)
        if name not in names:
            names.append(name)
        own = own._replace(underlying=names.index(name))
        for other in joined:
            if other.underlying == own.underlying and _grid_of(other) != _grid_of(own):
                raise ConfigError(f"{path}.portfolio: expected what {other.symbol} has, on the same underlying")
            if other.asset == own.asset and (other.start_mode == PORTFOLIO) != (own.start_mode == PORTFOLIO):
                what = f"the mode of all markets settling in {market.settle} or of none"
                raise ConfigError(f"{path}.margin_mode: portfolio is {what}")
        if own.start_mode == PORTFOLIO and not own.moves_ppm:
            raise ConfigError(f"{path}.portfolio: margin_mode 'portfolio' needs a grid of price moves")
        joined.append(own)
        limits = [
            rules.price_max_tick * rules.open_interest_max_lot * rules.multiplier
            for rules in joined
            if rules.asset == own.asset and rules.moves_ppm
        ]
        if sum(limits) > PORTFOLIO_VALUE_MAX:
            raise ConfigError(
                f"{path}.open_interest_max: the portfolio markets settling in {market.settle} could hold {sum(limits)} "
                f"units, expected up to 2**61 together"
            )
    return joined


def _grid_of(rules: MarketRules) -> tuple[tuple[int, ...], int, int]:
    return rules.moves_ppm, rules.contingency_ppm, rules.portfolio_initial_ppm


def load_market(path: str | Path) -> Market:
    """Read one market from a TOML file.

    `venue` may name a preset, over which the rest of the file is laid (VENUE-001).  `tiers`, or a table of
    `tier_tables`, may be the name of a JSON file beside it holding a Binance `leverageBracket` answer or a ccxt
    leverage-tier answer, taken as it is.

    Raises
    ------
    ConfigError
        Naming the file and the path inside it; all ranges are checked here, not at first use.
    """
    file = Path(path)
    try:
        raw = tomllib.loads(read_text(file))
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {explain_os(error, file)}") from error
    except (ValueError, RecursionError) as error:  # of the file, of its text, of a number in it
        raise ConfigError(f"{file}: not valid TOML: {shorten(str(error))}") from error
    return read_market(raw, str(file), file.parent)


def read_market(raw: Mapping[str, Any], where: str, folder: Path) -> Market:
    """Return a market from the tables of its file; `folder` is where files it names lie (`load_market`)."""
    raw = dict(raw)
    venue = raw.pop("venue", None)
    if venue is not None:
        try:
            raw = merge_tables(read_venue(venue).fill(), raw)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from error
    if isinstance(raw.get("tiers"), str):
        raw["tiers"] = load_tiers(folder / raw["tiers"], str(raw.get("symbol", "")))
    if isinstance(raw.get("tier_tables"), list):
        raw["tier_tables"] = [
            load_tiers(folder / table, str(raw.get("symbol", ""))) if isinstance(table, str) else table
            for table in raw["tier_tables"]
        ]
    try:
        market = msgspec.convert(raw, Market, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {explain_misfit(error, Market, 'venue')}") from error
    build_setup([market], where)
    return market


def convert_markets(raw: Any) -> list[Market]:
    """Return markets that a file holds as JSON.

    Raises
    ------
    ValueError
        If they are none; numbers are looked at where they are used (`build_setup`).
    """
    return msgspec.convert(raw, list[Market])


def load_tiers(path: str | Path, symbol: str) -> list[dict[str, Any]]:
    """Read tiers from a Binance `leverageBracket` or ccxt leverage-tier JSON (MARGIN-002).

    Parameters
    ----------
    symbol : str
        Which symbol to take where the file holds several; "BTCUSDT" also matches ccxt's "BTC/USDT:USDT".
    """
    file = Path(path)
    try:
        found = json.loads(read_text(file, JSON_BYTES_MAX), parse_float=str)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {explain_os(error, file)}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{file}: not valid JSON: {error}") from error
    shape = f"{file}: expected leverageBracket or ccxt leverage tier fields"
    try:
        rows = _select_brackets(found, symbol)
        if not rows:
            raise ConfigError(f"{file}: symbol: no brackets for '{symbol}' found")
        return [_read_bracket(row) for row in rows]
    except KeyError as error:
        raise ConfigError(f"{shape}, missing {error}") from error
    except (TypeError, AttributeError) as error:
        raise ConfigError(f"{shape}, found something else in their place") from error
    except (ValueError, ArithmeticError) as error:
        raise ConfigError(f"{shape}: {error}") from error


def _select_brackets(found: Any, symbol: str) -> Sequence[Mapping[str, Any]] | None:
    plain = _plain_name(symbol)
    if isinstance(found, dict) and "brackets" not in found:
        # a dated contract shares its pair's plain name with the perpetual, and has brackets of its own
        perpetuals = {_plain_name(name): name for name in found if "-" not in name}
        rows = found.get(symbol, found.get(perpetuals.get(plain, "")))
        return None if rows is None else list(rows)
    entries = [found] if isinstance(found, dict) else list(found)
    if entries and "brackets" in entries[0]:
        return next((list(e["brackets"]) for e in entries if e.get("symbol") == plain), None)
    # ccxt's tiers of one market name it in each row, or not at all
    named = [(row, row.get("symbol") or symbol) for row in entries]
    return [row for row, name in named if name == symbol or ("-" not in name and _plain_name(name) == plain)]


def _plain_name(symbol: str) -> str:
    return symbol.replace("/", "").split(":")[0]


def _read_bracket(row: Mapping[str, Any]) -> dict[str, Any]:
    info = row.get("info")
    source: Mapping[str, Any] = info if isinstance(info, dict) and "notionalFloor" in info else row
    if "notionalFloor" in source:
        floor, rate, top = source["notionalFloor"], source["maintMarginRatio"], source["initialLeverage"]
    else:
        floor, rate, top = source["minNotional"], source["maintenanceMarginRate"], source["maxLeverage"]
    initial = leverage_to_rate(str(top))
    tier = {"floor": parse_decimal(str(floor)), "initial": initial, "maintenance": parse_decimal(str(rate))}
    if source.get("cum") is not None:
        tier["deduction"] = parse_decimal(str(source["cum"]))
    return tier
