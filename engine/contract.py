"""A market as its owner writes it (TOML, decimals) and as the engines count it (integers).

`Market` is the configuration; `MarketRules` what both engines are given; `Setup` all markets with their assets and
funds.  Every refusal names the file and the path inside it.
"""

import json
import tomllib
from collections.abc import Mapping, Sequence
from decimal import ROUND_HALF_EVEN, Context, Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from engine.codes import (
    CROSS,
    FUNDING_PREMIUM,
    INVERSE,
    MARK_MEDIAN3,
    MARKETS_MAX,
    MOVES_MAX,
    PEAK_BUCKETS,
    POLICIES,
    PORTFOLIO,
    PORTFOLIO_VALUE_MAX,
    PPB,
    PPM,
    PREMIUM_IMPACT,
    PRICE_MAX_LIMIT,
    TABLES_MAX,
    TIERS_MAX,
    VALUE_MAX,
)
from engine.errors import ConfigError
from engine.units import count_units, parse_decimal, rate_to_ppm

DEFAULT_PRICE_MAX_TICK = (1 << 24) - 1
Tiers = tuple[tuple[int, int, int, int], ...]  # floor_quote, initial_ppm, maintenance_ppm, deduction_quote
WINDOW_H_MAX = 24 * 366
COOLDOWN_MAX_NS = 1_000_000 * 10**9
SECONDS_MAX = 86_400  # between samples of the basis, and of their average's time constant
BASIS_SAMPLES_MAX = 4_096


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


class LiquidationPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Stages 1 to 4 of the waterfall, each by the name of its policy (LIQ-002).

    Parameters
    ----------
    share : Decimal
        Part of the position that one step of size `share` closes, 0.01 to 1 (STAGE-003).
    share_min, full_below, step_max : Decimal
        Notional that such a step closes at least; up to which the whole position goes at once; that it closes at most.
        0 is none.
    cooldown_s : Decimal
        Seconds a domain is left alone after a step, 0 for none (STAGE-004).
    after_share : str
        What a domain that is liquidatable within the cooldown does: `wait`, or be closed in `full` (WAKE-002).
    spread, adjustment : Decimal
        Of limit `fillable` (STAGE-006): dYdX's SMMR and BA.
    surplus_fee : Decimal
        Of surplus `capped_fee`: the most the fund gets, as a part of the fill's value (STAGE-007).
    fund_loss_max : Decimal
        What the fills of one liquidation may cost the fund, 0 for no limit (STAGE-008).
    """

    cancel: str = "account"
    size: str = "full"
    limit: str = "none"
    surplus: str = "fund"
    backstop: str = "adl"
    share: Decimal = Decimal("0.2")
    share_min: Decimal = Decimal(0)
    full_below: Decimal = Decimal(0)
    step_max: Decimal = Decimal(0)
    cooldown_s: Decimal = Decimal(0)
    after_share: str = "wait"
    spread: Decimal = Decimal("1.5")
    adjustment: Decimal = Decimal(1)
    surplus_fee: Decimal = Decimal("0.015")
    shortfall: str = "cut"
    fund_loss_max: Decimal = Decimal(0)


class AdlPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Stage 5 of the waterfall (ADL-001); `gate` says who comes that far (STAGE-009).

    Parameters
    ----------
    drawdown, release : Decimal
        Trigger `drawdown`: active once the fund is down by more than the first, a part of its peak, until it is down
        by less than the second (ADL-020).
    window_h : int
        Hours over which the peak counts.
    within : Decimal
        Price `bankruptcy_within`: how far from the mark, in parts of it, the bankruptcy price may be (ADL-018).
    """

    trigger: str = "fund_empty"
    price: str = "bankruptcy"
    score: str = "bitmex"
    allocation: str = "queue"
    fees: str = "on"
    lights: str = "rank"
    cancel_victims: str = "on"
    drawdown: Decimal = Decimal("0.3")
    release: Decimal = Decimal("0.25")
    window_h: int = 8
    within: Decimal = Decimal("0.05")
    gate: str = "always"


class FundingPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where funding rates come from, and what they are paid on (FUND-001, FUND-010).

    Parameters
    ----------
    model : {"recorded", "premium"}
        Rates of `funding` commands, or computed from the book.
    interval_h, offset_h : int
        Funding ends at every multiple of the interval, counted from the epoch plus the offset.
    period_h : int
        Hours that `interest` and `clamp` are meant for; a payment is its part of them.  0: the interval.
    interest, clamp : Decimal
        Interest rate, and how far it may pull the premium, per period.
    cap : Decimal
        The largest rate one payment may have; 0: none but 1.
    premium : {"mid", "impact"}
        What stands for the price: the middle of the book, or what `impact_notional` would trade at.
    impact_notional : Decimal
        In the settlement asset.
    average : {"flat", "linear"}
        All samples alike, or the n-th n times.
    sample_s : int
        Seconds between samples of the premium.
    pay_on : {"mark", "index"}
        The price a position is valued at when it pays.
    """

    model: str = "recorded"
    interval_h: int = 8
    offset_h: int = 0
    period_h: int = 0
    interest: Decimal = Decimal("0.0001")
    clamp: Decimal = Decimal("0.0005")
    cap: Decimal = Decimal(0)
    premium: str = "mid"
    impact_notional: Decimal = Decimal(0)
    average: str = "flat"
    sample_s: int = 5
    pay_on: str = "mark"


class PortfolioPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a portfolio's underlying is held against; the same in all its markets (PORT-001).

    Parameters
    ----------
    moves : tuple of Decimal
        Price moves as fractions of the mark, rising, some below and some above 0.
    contingency : Decimal
        Part of the gross notional that is charged whatever offsets.
    initial : Decimal
        Initial margin as a multiple of maintenance, at least 1.
    """

    moves: tuple[Decimal, ...] = tuple(Decimal(move) / 100 for move in (-12, -8, -4, 4, 8, 12))
    contingency: Decimal = Decimal("0.005")
    initial: Decimal = Decimal("1.3")


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


def check_policy(path: str, group: str, value: str) -> int:
    """Return the code of a named policy.

    Raises
    ------
    ConfigError
        Naming the path, the value and the known ones (CFG-002).
    """
    known = POLICIES[group]
    if value not in known:
        raise ConfigError(f"{path}: unknown policy '{value}', known: {', '.join(known)}")
    return known.index(value)


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


def read_tiers(tiers: Sequence[Tier], quote_unit: Decimal, where: str) -> Tiers:
    """Return tiers in integers, deductions by the recurrence `d_n = d_{n-1} + floor_n x (rate step)` (MARGIN-002)."""
    if not tiers or len(tiers) > TIERS_MAX:
        raise ConfigError(f"{where}: tiers: expected 1 to {TIERS_MAX} tiers, got {len(tiers)}")
    rows: list[tuple[int, int, int, int]] = []
    for index, tier in enumerate(tiers):
        path = f"{where}: tiers[{index}]"
        floor = _units(tier.floor, quote_unit, f"{path}.floor")
        initial, maintenance = _ppm(tier.initial, f"{path}.initial"), _ppm(tier.maintenance, f"{path}.maintenance")
        if not 1 <= maintenance <= initial <= PPM:
            raise ConfigError(f"{path}: expected 0 < maintenance <= initial <= 1")
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
        if tier.deduction is not None and _units(tier.deduction, quote_unit, f"{path}.deduction") != deduction:
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
        return default if given is None else _units(given, unit, f"{path}.{field}")

    multiplier = _read_multiplier(market, path)
    price_max = count("price_max", market.tick_size, DEFAULT_PRICE_MAX_TICK)
    if not 1 <= price_max <= PRICE_MAX_LIMIT:
        raise ConfigError(f"{path}.price_max: expected 1 to {PRICE_MAX_LIMIT} ticks, got {price_max}")
    # the price at which a lot is worth most: the highest, or where the value falls as the price rises, one tick
    dearest = 1 if market.kind == "inverse" else price_max
    ceiling = VALUE_MAX // (dearest * multiplier)
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
        return _units(lot, market.tick_size * market.quote_unit, f"{path}.lot_size x contract_size over tick_size")
    return _units(market.tick_size * lot, market.quote_unit, f"{path}.tick_size x lot_size")


def _read_tables(market: Market, path: str, call_ppm: int) -> tuple[Tiers, ...]:
    """Return a market's tier tables; a margin call must be possible under each (TIER-001)."""
    if len(market.tier_tables) >= TABLES_MAX:
        raise ConfigError(f"{path}.tier_tables: expected at most {TABLES_MAX - 1}, got {len(market.tier_tables)}")
    places = [f"{path}.tier_tables[{index}]" for index in range(len(market.tier_tables))]
    given = zip((market.tiers, *market.tier_tables), (path, *places), strict=True)
    tables = [read_tiers(tiers, market.quote_unit, where) for tiers, where in given]
    highest = max(tiers[-1][2] for tiers in tables)
    if call_ppm and not (call_ppm >= PPM and highest * call_ppm < PPM * PPM):
        raise ConfigError(f"{path}.margin_call: expected 0, or at least 1 and below 1 / the highest maintenance rate")
    return tuple(tables)


def _read_rates(market: Market, path: str) -> dict[str, Any]:
    """Return a market's fees and collars in ppm, each inside its range."""
    rates = {}
    for name in ("maker_fee", "taker_fee", "liquidation_fee", "order_collar", "liquidation_collar"):
        rate = _ppm(getattr(market, name), f"{path}.{name}")
        low, high = (-10_000, 100_000) if name in ("maker_fee", "taker_fee") else (0, PPM - 1)
        if not low <= rate <= high:
            limits = "-0.01 to 0.1" if low < 0 else "0 to below 1"
            raise ConfigError(f"{path}.{name}: expected {limits}, got {getattr(market, name)}")
        rates[f"{name}_ppm"] = rate
    if rates["maker_fee_ppm"] + rates["taker_fee_ppm"] < 0:
        raise ConfigError(f"{path}.maker_fee: a rebate above the taker fee would pay for trading with oneself")
    return rates


def _read_adl(market: Market, path: str) -> dict[str, Any]:
    """Return the parameters of stage 5, each inside its range (ADL-001, ADL-018, ADL-020, CFG-002)."""
    policy, path = market.adl, f"{path}.adl"
    drawdown, release = (_ppm(getattr(policy, name), f"{path}.{name}") for name in ("drawdown", "release"))
    within = _ppm(policy.within, f"{path}.within")
    if not 1 <= drawdown < PPM:
        raise ConfigError(f"{path}.drawdown: expected above 0 and below 1, got {policy.drawdown}")
    if not 1 <= release <= drawdown:
        raise ConfigError(f"{path}.release: expected above 0 and at most drawdown, got {policy.release}")
    if not 0 <= within <= PPM:
        raise ConfigError(f"{path}.within: expected 0 to 1, got {policy.within}")
    if not 1 <= policy.window_h <= WINDOW_H_MAX:
        raise ConfigError(f"{path}.window_h: expected 1 to {WINDOW_H_MAX} hours, got {policy.window_h}")
    codes = {
        f"adl_{name}": check_policy(f"{path}.{name}", f"adl_{name}", getattr(policy, name))
        for name in ("trigger", "price", "score", "allocation")
    }
    return codes | {
        "adl_cancel_victims": 1 - check_policy(f"{path}.cancel_victims", "adl_cancel_victims", policy.cancel_victims),
        "lights": check_policy(f"{path}.lights", "lights", policy.lights),
        "adl_drawdown_ppm": drawdown,
        "adl_release_ppm": release,
        "adl_within_ppm": within,
        "adl_bucket_ns": policy.window_h * 3_600_000_000_000 // PEAK_BUCKETS,
        "whole_quote": max(int(1 / market.quote_unit), 1),
    }


def _read_stages(market: Market, path: str) -> dict[str, Any]:
    """Return the parameters of stages 1 to 3 in integers, each inside its range (STAGE-001..STAGE-009)."""
    policy, where = market.liquidation, f"{path}.liquidation"
    read: dict[str, int] = {"adl_gate": check_policy(f"{path}.adl.gate", "adl_gate", market.adl.gate)}
    for field in ("cancel", "size", "limit", "surplus", "shortfall", "after_share"):
        read[field] = check_policy(f"{where}.{field}", field, getattr(policy, field))

    def check(field: str, number: int, low: int, high: int, expected: str) -> int:
        if not low <= number <= high:
            raise ConfigError(f"{where}.{field}: expected {expected}, got {getattr(policy, field)}")
        return number

    for field, low, high, expected in (
        ("share", PPM // 100, PPM, "0.01 to 1"),
        ("spread", 0, 10 * PPM, "0 to 10"),
        ("adjustment", PPM, 100 * PPM, "1 to 100"),
        ("surplus_fee", 0, PPM - 1, "0 to below 1"),
    ):
        rate = _ppm(getattr(policy, field), f"{where}.{field}")
        read[f"{field}_ppm"] = check(field, rate, low, high, expected)
    for field in ("share_min", "full_below", "step_max", "fund_loss_max"):
        amount = _units(getattr(policy, field), market.quote_unit, f"{where}.{field}")
        read[f"{field}_quote"] = check(field, amount, 0, VALUE_MAX, "0 or more, up to 2**58 units")
    cooldown = _units(policy.cooldown_s, Decimal("0.000000001"), f"{where}.cooldown_s")
    read["cooldown_ns"] = check("cooldown_s", cooldown, 0, COOLDOWN_MAX_NS, "0 to 1000000 seconds")
    if read["step_max_quote"] and not cooldown:
        raise ConfigError(f"{where}.step_max: expected with a cooldown_s above 0, or one liquidation had no last step")
    if read["after_share"] and not (cooldown and policy.size == "share"):
        raise ConfigError(f"{where}.after_share: 'full' expects size = 'share' and a cooldown_s above 0")
    return read


def _build_rules(market: Market, path: str, asset: int, fund: int) -> MarketRules:
    _check_policies(market, path)
    sizes = _read_sizes(market, path)
    call = _ppm(market.margin_call, f"{path}.margin_call")
    tables = _read_tables(market, path, call)
    highest = PPM // tables[0][0][1]
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
        **_read_adl(market, path),
        **_read_stages(market, path),
        **_read_basis(market, path),
        **_read_funding(market, path),
        **_read_portfolio(market, path, call),
    )


def _count(value: int, low: int, high: int, path: str) -> int:
    if not low <= value <= high:
        raise ConfigError(f"{path}: expected {low} to {high}, got {value}")
    return value


def _read_basis(market: Market, path: str) -> dict[str, Any]:
    """Return how a derived mark averages the basis, and what moves the last price (MARK-002..MARK-006)."""
    interval = _count(market.basis_interval_s, 1, SECONDS_MAX, f"{path}.basis_interval_s")
    tau = _count(market.basis_tau_s, 1, SECONDS_MAX, f"{path}.basis_tau_s")
    # decimals, since a float's exponential may differ from one machine to the next
    exact = Context(prec=40)
    decay = exact.multiply(exact.exp(exact.divide(-interval, tau)), PPB)
    band = _ppm(market.basis_band, f"{path}.basis_band")
    if not 0 <= band < PPM:
        raise ConfigError(f"{path}.basis_band: expected 0 to below 1, got {market.basis_band}")
    return {
        "basis_interval_s": interval,
        "basis_samples": _count(market.basis_samples, 1, BASIS_SAMPLES_MAX, f"{path}.basis_samples"),
        "basis_decay_ppb": int(decay.to_integral_value(ROUND_HALF_EVEN)),
        "basis_band_ppm": band,
        "closeout_moves_last": int(market.closeout_moves_last),
    }


def _read_funding(market: Market, path: str) -> dict[str, Any]:
    """Return where funding rates come from (FUND-010..FUND-016)."""
    policy, path = market.funding, f"{path}.funding"
    interval_h = _count(policy.interval_h, 1, 24, f"{path}.interval_h")
    offset_h = _count(policy.offset_h, 0, interval_h - 1, f"{path}.offset_h")
    period_h = _count(policy.period_h, 0, 24, f"{path}.period_h") or interval_h
    rates = {name: _ppb(getattr(policy, name), f"{path}.{name}") for name in ("interest", "clamp", "cap")}
    for name, rate in rates.items():
        low = -PPB if name == "interest" else 0
        if not low <= rate <= PPB:
            raise ConfigError(f"{path}.{name}: expected {low // PPB} to 1, got {getattr(policy, name)}")
    model = check_policy(f"{path}.model", "funding_model", policy.model)
    premium = check_policy(f"{path}.premium", "funding_premium", policy.premium)
    if premium == PREMIUM_IMPACT and market.kind == "inverse":
        raise ConfigError(f"{path}.premium: 'impact' fills a linear notional, an inverse market takes 'mid'")
    impact = _units(policy.impact_notional, market.quote_unit, f"{path}.impact_notional")
    least = 1 if (model, premium) == (FUNDING_PREMIUM, PREMIUM_IMPACT) else 0
    if not least <= impact <= VALUE_MAX:
        raise ConfigError(f"{path}.impact_notional: expected {least} to {VALUE_MAX} units, got {impact}")
    return {
        "funding_model": model,
        "funding_interval_s": interval_h * 3600,
        "funding_offset_s": offset_h * 3600,
        "funding_period_s": period_h * 3600,
        "funding_interest_ppb": rates["interest"],
        "funding_clamp_ppb": rates["clamp"],
        "funding_cap_ppb": rates["cap"] or PPB,
        "funding_premium": premium,
        "funding_average": check_policy(f"{path}.average", "funding_average", policy.average),
        "funding_sample_s": _count(policy.sample_s, 1, 3600, f"{path}.sample_s"),
        "funding_pay_on": check_policy(f"{path}.pay_on", "funding_pay_on", policy.pay_on),
        "impact_quote": impact,
    }


def _read_portfolio(market: Market, path: str, call_ppm: int) -> dict[str, Any]:
    """Return the margin mode and the portfolio grid in integers, the underlying not yet numbered (PORT-001, PORT-002).

    No requirement may reach the notional: an equity that falls with a mark would not fall below it for good.
    """
    start_mode = check_policy(f"{path}.margin_mode", "margin_mode", market.margin_mode)
    mode = CROSS if start_mode == PORTFOLIO else start_mode
    fields = {"underlying": 0, "start_mode": start_mode, "margin_mode": mode}
    grid = market.portfolio
    if grid is None:
        return fields | {"moves_ppm": (), "contingency_ppm": 0, "portfolio_initial_ppm": 0}
    where = f"{path}.portfolio"
    if market.kind == "inverse":
        raise ConfigError(f"{where}: expected none in an inverse market, whose loss is not in proportion to the move")
    moves = tuple(_ppm(move, f"{where}.moves[{index}]") for index, move in enumerate(grid.moves))
    is_rising = all(move < after for move, after in pairwise(moves))
    if not (2 <= len(moves) <= MOVES_MAX and is_rising and moves[0] < 0 < moves[-1]):
        wanted, given = "rising moves, some below and some above 0", ", ".join(map(str, grid.moves))
        raise ConfigError(f"{where}.moves: expected 2 to {MOVES_MAX} {wanted}, got {given}")
    contingency, initial = _ppm(grid.contingency, f"{where}.contingency"), _ppm(grid.initial, f"{where}.initial")
    if contingency < 1:
        raise ConfigError(f"{where}.contingency: expected a rate above 0, got {grid.contingency}")
    if initial < PPM:
        raise ConfigError(f"{where}.initial: expected at least 1, got {grid.initial}")
    rate, factor = max(-moves[0], moves[-1]) + contingency, max(initial, call_ppm)
    if rate * factor >= PPM * PPM:
        raise ConfigError(
            f"{where}.moves: the widest with the contingency is {Decimal(rate) / PPM}; expected below 1 when "
            f"multiplied by the larger of initial and margin_call, {Decimal(factor) / PPM}"
        )
    return fields | {"moves_ppm": moves, "contingency_ppm": contingency, "portfolio_initial_ppm": initial}


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

    `tiers`, or a table of `tier_tables`, may be the name of a JSON file beside it holding a Binance `leverageBracket`
    answer or a ccxt leverage-tier answer, taken as it is.

    Raises
    ------
    ConfigError
        Naming the file and the path inside it; all ranges are checked here, not at first use.
    """
    file = Path(path)
    try:
        raw = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: not valid TOML: {error}") from error
    if isinstance(raw.get("tiers"), str):
        raw["tiers"] = load_tiers(file.parent / raw["tiers"], str(raw.get("symbol", "")))
    if isinstance(raw.get("tier_tables"), list):
        raw["tier_tables"] = [
            load_tiers(file.parent / table, str(raw.get("symbol", ""))) if isinstance(table, str) else table
            for table in raw["tier_tables"]
        ]
    try:
        market = msgspec.convert(raw, Market, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{file}: {error}") from error
    build_setup([market], str(file))
    return market


def load_tiers(path: str | Path, symbol: str) -> list[dict[str, Any]]:
    """Read tiers from a Binance `leverageBracket` or ccxt leverage-tier JSON (MARGIN-002).

    Parameters
    ----------
    symbol : str
        Which symbol to take where the file holds several; "BTCUSDT" also matches ccxt's "BTC/USDT:USDT".
    """
    file = Path(path)
    try:
        found = json.loads(file.read_text(encoding="utf-8"), parse_float=str)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from error
    except ValueError as error:
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
    leverage = parse_decimal(str(top))
    if leverage <= 0:
        raise ValueError(f"expected a leverage above 0, got {top}")
    initial = (Decimal(1) / leverage).quantize(Decimal(1) / PPM, rounding="ROUND_CEILING")
    tier = {"floor": parse_decimal(str(floor)), "initial": initial, "maintenance": parse_decimal(str(rate))}
    if source.get("cum") is not None:
        tier["deduction"] = parse_decimal(str(source["cum"]))
    return tier


def _units(number: Decimal, unit: Decimal, path: str) -> int:
    try:
        return count_units(number, unit, "value")
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error


def _ppm(rate: Decimal, path: str) -> int:
    try:
        return rate_to_ppm(rate, "rate")
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error


def _ppb(rate: Decimal, path: str) -> int:
    try:
        return count_units(rate, Decimal(1) / PPB, "rate")
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error
