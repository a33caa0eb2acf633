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

from engine.codes import MARKETS_MAX, POLICIES, PPM, PRICE_MAX_LIMIT, TIERS_MAX, VALUE_MAX
from engine.errors import ConfigError
from engine.units import count_units, leverage_to_rate, rate_to_ppm
from engine.venues import merge_tables, read_venue

DEFAULT_PRICE_MAX_TICK = (1 << 24) - 1


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
    """Stages 1 to 4 of the waterfall, each by the name of its policy (LIQ-002)."""

    cancel: str = "account"
    size: str = "full"
    limit: str = "none"
    surplus: str = "fund"
    backstop: str = "adl"


class AdlPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Stage 5 of the waterfall (ADL-001)."""

    trigger: str = "fund_empty"
    price: str = "bankruptcy"
    score: str = "bitmex"
    allocation: str = "queue"
    fees: str = "on"
    lights: str = "rank"


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
    tiers : tuple of Tier
        At least one, floors rising from 0.
    fund : str
        Name of the insurance fund; markets naming the same fund share it.  Empty: the settlement asset's.
    margin_call : Decimal
        A margin call is sent when equity falls below maintenance times this; 0 sends none.
    initial_mark : Decimal, optional
        Mark price before the first command.

    Source: DESIGN 1, 5, 6; spec CFG-001.
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


class MarketRules(NamedTuple):
    """A market in integers, as both engines are given it (NUM-001)."""

    symbol: str
    asset: int
    fund: int
    multiplier: int  # money per tick and lot
    price_max_tick: int
    order_max_lot: int
    open_interest_max_lot: int
    maker_fee_ppm: int
    taker_fee_ppm: int
    liquidation_fee_ppm: int
    order_collar_ppm: int
    liquidation_collar_ppm: int
    leverage_ppm: int  # 1e6 / default leverage, rounded up
    margin_mode: int
    mark_model: int
    initial_mark_tick: int  # 0: none
    adl_fees: int  # 1: on
    call_ppm: int
    tiers: tuple[tuple[int, int, int, int], ...]  # floor_quote, initial_ppm, maintenance_ppm, deduction_quote


class Setup(NamedTuple):
    """Everything an engine is built from."""

    markets: tuple[MarketRules, ...]
    assets: tuple[str, ...]
    asset_units: tuple[Decimal, ...]
    funds: tuple[str, ...]
    fund_assets: tuple[int, ...]


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


def read_tiers(tiers: Sequence[Tier], quote_unit: Decimal, where: str) -> tuple[tuple[int, int, int, int], ...]:
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
    return Setup(tuple(rules), tuple(assets), tuple(units), tuple(funds), tuple(fund_assets))


def _check_policies(market: Market, path: str) -> None:
    """Refuse unknown policies and kinds (CFG-002)."""
    check_policy(f"{path}.kind", "kind", market.kind)
    check_policy(f"{path}.refill", "refill", market.refill)
    for field in LiquidationPolicy.__struct_fields__:
        check_policy(f"{path}.liquidation.{field}", field, getattr(market.liquidation, field))
    for field in AdlPolicy.__struct_fields__:
        group = field if field == "lights" else f"adl_{field}"
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

    multiplier = _units(market.tick_size * market.lot_size, market.quote_unit, f"{path}.tick_size x lot_size")
    price_max = count("price_max", market.tick_size, DEFAULT_PRICE_MAX_TICK)
    if not 1 <= price_max <= PRICE_MAX_LIMIT:
        raise ConfigError(f"{path}.price_max: expected 1 to {PRICE_MAX_LIMIT} ticks, got {price_max}")
    ceiling = VALUE_MAX // (price_max * multiplier)
    interest = count("open_interest_max", market.lot_size, ceiling)
    if not 1 <= interest <= ceiling:
        raise ConfigError(
            f"{path}.open_interest_max: price_max {price_max} ticks x {interest} lots x {multiplier} units would pass "
            f"2**58; expected 1 to {ceiling} lots"
        )
    order_max = count("order_max", market.lot_size, interest)
    if not 1 <= order_max <= interest:
        raise ConfigError(f"{path}.order_max: expected 1 to {interest} lots, got {order_max}")
    initial_mark = count("initial_mark", market.tick_size, 0)
    if not 0 <= initial_mark <= price_max:
        raise ConfigError(f"{path}.initial_mark: expected a price up to price_max, got {market.initial_mark}")
    return _Sizes(multiplier, price_max, order_max, interest, initial_mark)


def _read_rates(market: Market, path: str) -> dict[str, int]:
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


def _build_rules(market: Market, path: str, asset: int, fund: int) -> MarketRules:
    _check_policies(market, path)
    sizes = _read_sizes(market, path)
    tiers = read_tiers(market.tiers, market.quote_unit, path)
    call = _ppm(market.margin_call, f"{path}.margin_call")
    if call and not (call >= PPM and tiers[-1][2] * call < PPM * PPM):
        raise ConfigError(f"{path}.margin_call: expected 0, or at least 1 and below 1 / the highest maintenance rate")
    highest = PPM // tiers[0][1]
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
        margin_mode=check_policy(f"{path}.margin_mode", "margin_mode", market.margin_mode),
        mark_model=check_policy(f"{path}.mark_model", "mark_model", market.mark_model),
        initial_mark_tick=sizes.initial_mark,
        adl_fees=1 - check_policy(f"{path}.adl.fees", "adl_fees", market.adl.fees),
        call_ppm=call,
        tiers=tiers,
    )


def load_market(path: str | Path) -> Market:
    """Read one market from a TOML file.

    `venue` may name a preset, over which the rest of the file is laid (VENUE-001).  `tiers` may be the name of a JSON
    file beside it holding a Binance `leverageBracket` answer or a ccxt leverage-tier answer, taken as it is.

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
    venue = raw.pop("venue", None)
    if venue is not None:
        try:
            raw = merge_tables(read_venue(venue).fill(), raw)
        except ConfigError as error:
            raise ConfigError(f"{file}: {error}") from error
    if isinstance(raw.get("tiers"), str):
        raw["tiers"] = load_tiers(file.parent / raw["tiers"], str(raw.get("symbol", "")))
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
    rows = _select_brackets(found, symbol)
    if rows is None:
        raise ConfigError(f"{file}: symbol: no brackets for '{symbol}' found")
    try:
        return [_read_bracket(row) for row in rows]
    except (KeyError, TypeError, ArithmeticError) as error:
        raise ConfigError(f"{file}: expected leverageBracket or ccxt leverage tier fields, missing {error}") from error


def _select_brackets(found: Any, symbol: str) -> Sequence[Mapping[str, Any]] | None:
    plain = symbol.replace("/", "").split(":")[0]
    if isinstance(found, dict) and "brackets" not in found:
        # a dated contract shares its pair's plain name with the perpetual, and has brackets of its own
        perpetuals = {name.replace("/", "").split(":")[0]: name for name in found if "-" not in name}
        rows = found.get(symbol, found.get(perpetuals.get(plain, "")))
        return None if rows is None else list(rows)
    entries = [found] if isinstance(found, dict) else list(found)
    if entries and "brackets" in entries[0]:
        return next((list(e["brackets"]) for e in entries if e.get("symbol") == plain), None)
    return entries or None


def _read_bracket(row: Mapping[str, Any]) -> dict[str, Any]:
    info = row.get("info")
    source: Mapping[str, Any] = info if isinstance(info, dict) and "notionalFloor" in info else row
    if "notionalFloor" in source:
        floor, rate, top = source["notionalFloor"], source["maintMarginRatio"], source["initialLeverage"]
    else:
        floor, rate, top = source["minNotional"], source["maintenanceMarginRate"], source["maxLeverage"]
    tier = {
        "floor": Decimal(str(floor)),
        "initial": leverage_to_rate(str(top)),
        "maintenance": Decimal(str(rate)),
    }
    if source.get("cum") is not None:
        tier["deduction"] = Decimal(str(source["cum"]))
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
