"""The named policies of the waterfall as a market's owner writes them, and the readers of their numbers (CFG-002)."""

from decimal import ROUND_HALF_EVEN, Context, Decimal
from itertools import pairwise
from typing import Any

import msgspec

from engine.codes import (
    BACKSTOP_ADL,
    CROSS,
    FUNDING_PREMIUM,
    MOVES_MAX,
    PEAK_BUCKETS,
    POLICIES,
    PORTFOLIO,
    PPB,
    PPM,
    PREMIUM_IMPACT,
    UNWIND_STEPPED,
    VALUE_MAX,
)
from engine.errors import ConfigError, list_known
from engine.units import count_units, rate_to_ppm

WINDOW_H_MAX = 24 * 366
COOLDOWN_MAX_NS = 1_000_000 * 10**9
SECONDS_MAX = 86_400  # between samples of the basis, and of their average's time constant
BASIS_SAMPLES_MAX = 4_096
INTERVAL_MAX_S = 31_536_000


class LiquidationPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Stages 1 to 4 of the waterfall, each by the name of its policy (LIQ-002), and what the house does (HOUSE-001).

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
    vault_below : Decimal
        Part of maintenance below which a vault takes a domain over before the book is touched.
    carry : Decimal
        Notional the house may hold per unit of its fund; 0: no limit.
    unwind_interval_s, unwind_share, unwind_full, unwind_depth, unwind_range : Decimal
        Seconds between steps, part of the position, quantity that goes at once, part of the depth inside the range,
        range around mid (stepped) or mark (immediate; 0: no limit).
    closeout_fee : Decimal
        Rate the house pays on what it unwinds.
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
    vault_below: Decimal = Decimal("0.666667")
    takeover_price: str = "bankruptcy"
    carry: Decimal = Decimal(0)
    unwind: str = "none"
    unwind_interval_s: Decimal = Decimal(10)
    unwind_share: Decimal = Decimal("0.1")
    unwind_full: Decimal = Decimal(0)
    unwind_depth: Decimal = Decimal("0.1")
    unwind_range: Decimal = Decimal("0.1")
    unwind_last: str = "off"
    closeout_fee: Decimal = Decimal(0)


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


def check_policy(path: str, group: str, value: str) -> int:
    """Return the code of a named policy.

    Raises
    ------
    ConfigError
        Naming the path, the value and the known ones (CFG-002).
    """
    known = POLICIES[group]
    if value not in known:
        raise ConfigError(f"{path}: unknown policy '{value}', {list_known(value, known)}")
    return known.index(value)


def read_adl(policy: AdlPolicy, quote_unit: Decimal, path: str) -> dict[str, Any]:
    """Return the parameters of stage 5, each inside its range (ADL-001, ADL-018, ADL-020, CFG-002)."""
    path = f"{path}.adl"
    drawdown, release = (to_ppm(getattr(policy, name), f"{path}.{name}") for name in ("drawdown", "release"))
    within = to_ppm(policy.within, f"{path}.within")
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
        "whole_quote": max(int(1 / quote_unit), 1),
    }


def read_stages(policy: LiquidationPolicy, gate: str, quote_unit: Decimal, path: str) -> dict[str, Any]:
    """Return the parameters of stages 1 to 3 in integers, each inside its range (STAGE-001..STAGE-009)."""
    where = f"{path}.liquidation"
    read: dict[str, int] = {"adl_gate": check_policy(f"{path}.adl.gate", "adl_gate", gate)}
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
        rate = to_ppm(getattr(policy, field), f"{where}.{field}")
        read[f"{field}_ppm"] = check(field, rate, low, high, expected)
    for field in ("share_min", "full_below", "step_max", "fund_loss_max"):
        amount = to_units(getattr(policy, field), quote_unit, f"{where}.{field}")
        read[f"{field}_quote"] = check(field, amount, 0, VALUE_MAX, "0 or more, up to 2**58 units")
    cooldown = to_units(policy.cooldown_s, Decimal("0.000000001"), f"{where}.cooldown_s")
    read["cooldown_ns"] = check("cooldown_s", cooldown, 0, COOLDOWN_MAX_NS, "0 to 1000000 seconds")
    if read["step_max_quote"] and not cooldown:
        raise ConfigError(f"{where}.step_max: expected with a cooldown_s above 0, or one liquidation had no last step")
    if read["after_share"] and not (cooldown and policy.size == "share"):
        raise ConfigError(f"{where}.after_share: 'full' expects size = 'share' and a cooldown_s above 0")
    return read


def read_house(policy: LiquidationPolicy, lot_size: Decimal, path: str) -> dict[str, Any]:
    """Return the backstop and what the house does with what it took over (HOUSE-002, HOUSE-006)."""
    where = f"{path}.liquidation"
    backstop = check_policy(f"{where}.backstop", "backstop", policy.backstop)
    unwind = check_policy(f"{where}.unwind", "unwind", policy.unwind)
    if unwind and backstop == BACKSTOP_ADL:
        raise ConfigError(f"{where}.unwind: expected none where backstop is adl, got {policy.unwind}")

    def rate(field: str, low: int, high: int, limits: str) -> int:
        found = to_ppm(getattr(policy, field), f"{where}.{field}")
        if not low <= found <= high:
            raise ConfigError(f"{where}.{field}: expected {limits}, got {getattr(policy, field)}")
        return found

    seconds = policy.unwind_interval_s
    if not 0 < seconds <= INTERVAL_MAX_S:
        raise ConfigError(f"{where}.unwind_interval_s: expected above 0, at most {INTERVAL_MAX_S}, got {seconds}")
    full = to_units(policy.unwind_full, lot_size, f"{where}.unwind_full")
    if not 0 <= full < 1 << 58:
        raise ConfigError(f"{where}.unwind_full: expected a quantity of 0 or more, got {policy.unwind_full}")
    range_ppm = rate("unwind_range", 0, PPM - 1, "0 to below 1")
    if unwind == UNWIND_STEPPED and range_ppm == 0:
        raise ConfigError(f"{where}.unwind_range: expected above 0 where unwind is stepped, got 0")
    return {
        "backstop": backstop,
        "vault_below_ppm": rate("vault_below", 1, PPM, "above 0, at most 1"),
        "takeover_price": check_policy(f"{where}.takeover_price", "takeover_price", policy.takeover_price),
        "carry_ppm": rate("carry", 0, 1_000_000 * PPM, "0 to 1000000"),
        "unwind": unwind,
        "unwind_interval_ns": to_units(seconds, Decimal("0.000000001"), f"{where}.unwind_interval_s"),
        "unwind_share_ppm": rate("unwind_share", 1, PPM, "above 0, at most 1"),
        "unwind_full_lot": full,
        "unwind_depth_ppm": rate("unwind_depth", 1, PPM, "above 0, at most 1"),
        "unwind_range_ppm": range_ppm,
        "unwind_last": check_policy(f"{where}.unwind_last", "unwind_last", policy.unwind_last),
        "closeout_fee_ppm": rate("closeout_fee", 0, PPM, "0 to 1"),
    }


def to_count(value: int, low: int, high: int, path: str) -> int:
    """Return a count, or refuse it naming `path` and the range."""
    if not low <= value <= high:
        raise ConfigError(f"{path}: expected {low} to {high}, got {value}")
    return value


def read_basis(market: Any, path: str) -> dict[str, Any]:
    """Return how a derived mark averages the basis, and what moves the last price (MARK-002..MARK-006)."""
    interval = to_count(market.basis_interval_s, 1, SECONDS_MAX, f"{path}.basis_interval_s")
    tau = to_count(market.basis_tau_s, 1, SECONDS_MAX, f"{path}.basis_tau_s")
    # decimals, since a float's exponential may differ from one machine to the next
    exact = Context(prec=40)
    decay = exact.multiply(exact.exp(exact.divide(-interval, tau)), PPB)
    band = to_ppm(market.basis_band, f"{path}.basis_band")
    if not 0 <= band < PPM:
        raise ConfigError(f"{path}.basis_band: expected 0 to below 1, got {market.basis_band}")
    return {
        "basis_interval_s": interval,
        "basis_samples": to_count(market.basis_samples, 1, BASIS_SAMPLES_MAX, f"{path}.basis_samples"),
        "basis_decay_ppb": int(decay.to_integral_value(ROUND_HALF_EVEN)),
        "basis_band_ppm": band,
        "closeout_moves_last": int(market.closeout_moves_last),
    }


def read_funding(market: Any, path: str) -> dict[str, Any]:
    """Return where funding rates come from (FUND-010..FUND-016)."""
    policy, path = market.funding, f"{path}.funding"
    interval_h = to_count(policy.interval_h, 1, 24, f"{path}.interval_h")
    offset_h = to_count(policy.offset_h, 0, interval_h - 1, f"{path}.offset_h")
    period_h = to_count(policy.period_h, 0, 24, f"{path}.period_h") or interval_h
    rates = {name: to_ppb(getattr(policy, name), f"{path}.{name}") for name in ("interest", "clamp", "cap")}
    for name, rate in rates.items():
        low = -PPB if name == "interest" else 0
        if not low <= rate <= PPB:
            raise ConfigError(f"{path}.{name}: expected {low // PPB} to 1, got {getattr(policy, name)}")
    model = check_policy(f"{path}.model", "funding_model", policy.model)
    premium = check_policy(f"{path}.premium", "funding_premium", policy.premium)
    if premium == PREMIUM_IMPACT and market.kind == "inverse":
        raise ConfigError(f"{path}.premium: 'impact' fills a linear notional, an inverse market takes 'mid'")
    impact = to_units(policy.impact_notional, market.quote_unit, f"{path}.impact_notional")
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
        "funding_sample_s": to_count(policy.sample_s, 1, 3600, f"{path}.sample_s"),
        "funding_pay_on": check_policy(f"{path}.pay_on", "funding_pay_on", policy.pay_on),
        "impact_quote": impact,
    }


def read_portfolio(market: Any, path: str, call_ppm: int) -> dict[str, Any]:
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
    if market.settlement != "close":
        raise ConfigError(f"{where}: expected none where settlement is mark")
    moves = tuple(to_ppm(move, f"{where}.moves[{index}]") for index, move in enumerate(grid.moves))
    is_rising = all(move < after for move, after in pairwise(moves))
    if not (2 <= len(moves) <= MOVES_MAX and is_rising and moves[0] < 0 < moves[-1]):
        wanted, given = "rising moves, some below and some above 0", ", ".join(map(str, grid.moves))
        raise ConfigError(f"{where}.moves: expected 2 to {MOVES_MAX} {wanted}, got {given}")
    contingency, initial = to_ppm(grid.contingency, f"{where}.contingency"), to_ppm(grid.initial, f"{where}.initial")
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


def to_units(number: Decimal, unit: Decimal, path: str) -> int:
    """Return how many whole units an amount is, or refuse it naming `path`."""
    try:
        return count_units(number, unit, "value")
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error


def to_ppm(rate: Decimal, path: str) -> int:
    """Return a rate in parts per million, or refuse it naming `path`."""
    try:
        return rate_to_ppm(rate, "rate")
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error


def to_ppb(rate: Decimal, path: str) -> int:
    """Return a rate in parts per 10^9, or refuse it naming `path`."""
    try:
        return count_units(rate, Decimal(1) / PPB, "rate")
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error
