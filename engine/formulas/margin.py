"""Margin: tier tables with their deductions, maintenance, initial margin, margins by other laws than tiers.

Rates are plain numbers (0.004 is 0.4 %), notionals and margins money of the settlement asset.
"""

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple

from engine.formulas.exact import Number, Side, ceil_to_step, clamp, exact, positive, sign_of, truncate_to_step
from engine.formulas.pnl import position_value

PPM = 1_000_000


class Bracket(NamedTuple):
    """One margin tier: from `floor` of notional on, maintenance is `rate x notional - deduction`."""

    floor: Fraction
    rate: Fraction
    deduction: Fraction


def tier_deduction(floor: Number, rate: Number, rate_before: Number, deduction_before: Number) -> Fraction:
    """Return the deduction (Binance `cum`, Bybit `mmDeduction`) that makes maintenance continuous at `floor`.

    `d_n = d_{n-1} + floor_n x (rate_n - rate_{n-1})`.

    Source: MARGIN-002; https://www.binance.com/en/support/faq/b3c689c1f50a44cabb3a84e663b81d93.
    """
    return exact(deduction_before) + exact(floor) * (exact(rate) - exact(rate_before))


def build_brackets(floors: Sequence[Number], rates: Sequence[Number]) -> tuple[Bracket, ...]:
    """Return a tier table with its deductions, from the floors (the first 0) and maintenance rates.

    Raises
    ------
    ValueError
        If lengths differ, the first floor is not 0, floors do not rise or rates fall.

    Source: MARGIN-002; https://www.bybit.com/en/announcement-info/margin-parameters.
    """
    if len(floors) != len(rates) or not floors:
        raise ValueError(f"expected as many floors as rates and at least one, got {len(floors)} and {len(rates)}")
    if exact(floors[0]) != 0:
        raise ValueError(f"floors: the first tier starts at 0, got {floors[0]}")
    table = [Bracket(Fraction(0), exact(rates[0]), Fraction(0))]
    for floor, rate in zip(floors[1:], rates[1:], strict=True):
        before = table[-1]
        if exact(floor) <= before.floor or exact(rate) < before.rate:
            raise ValueError(f"expected floors to rise and rates not to fall, got {floor} at {rate}")
        deduction = tier_deduction(floor, rate, before.rate, before.deduction)
        table.append(Bracket(exact(floor), exact(rate), deduction))
    return tuple(table)


def brackets_from_leverage(floors: Sequence[Number], max_leverage: Sequence[Number]) -> tuple[Bracket, ...]:
    """Return Hyperliquid's tier table: the maintenance rate is half the initial one, `1 / (2 x max leverage)`.

    Source: https://hyperliquid.gitbook.io/hyperliquid-docs/trading/margin-tiers.
    """
    return build_brackets(floors, [1 / (2 * positive(leverage, "max_leverage")) for leverage in max_leverage])


def maintenance_margin(notional: Number, brackets: Sequence[Bracket]) -> Fraction:
    """Return the maintenance of a notional: the rate of its tier on all of it, less the deduction.

    Equal to the sum over tiers of (part of the notional inside it) x rate, as taxes are told.

    Source: MARGIN-002; https://www.bybit.com/en/help-center/article/Maintenance-Margin-USDT-Contract.
    """
    value = exact(notional)
    if value < 0:
        raise ValueError(f"notional: expected 0 or more, got {notional}")
    tier = next(tier for tier in reversed(brackets) if tier.floor <= value)
    return value * tier.rate - tier.deduction


class RiskStep(NamedTuple):
    """A rung of BitMEX's risk limits: rates hold for the whole position, not for the part above the step."""

    limit: Fraction
    maintenance_rate: Fraction
    initial_rate: Fraction
    maintenance: Fraction


def risk_limit_step(
    position: Number, base_limit: Number, step: Number, base_maintenance: Number, base_initial: Number
) -> RiskStep:
    """Return the risk limit a position needs and what it costs.

    `n = ceil((position - base_limit) / step)`, at least 0; each step adds the base maintenance rate to both rates.
    Unlike brackets this jumps at the limits.  Position and limits are values in the settlement asset (XBT).

    Source: https://www.bitmex.com/app/riskLimitsExamples.
    """
    value, rung = exact(position), positive(step, "step")
    steps = max(Fraction(0), ceil_to_step((value - exact(base_limit)) / rung))
    added = steps * exact(base_maintenance)
    rate = exact(base_maintenance) + added
    return RiskStep(exact(base_limit) + steps * rung, rate, exact(base_initial) + added, value * rate)


def quadratic_margin(position: Number, base_rate: Number, factor: Number, index: Number = 1) -> Fraction:
    """Return Deribit's margin, which knows no brackets: `pos x (base + factor x pos) x index`.

    Parameters
    ----------
    position : Number
        Size in the base currency, not negative; with `index` 1 the margin is in that currency too.

    Source: https://support.deribit.com/hc/en-us/articles/25944738177565-Linear-Perpetual.
    """
    size = exact(position)
    return size * (exact(base_rate) + exact(factor) * size) * exact(index)


def initial_margin(qty: Number, price: Number, leverage: Number, *, inverse: bool = False) -> Fraction:
    """Return the initial margin of a position: its value over the leverage, in the settlement asset.

    Source: https://www.binance.com/en/support/faq/be2c7d9d95b04a7e8044ed02dd7dfe5c.
    """
    return abs(position_value(1, qty, price, inverse=inverse)) / positive(leverage, "leverage")


def initial_rate_at_interest(
    base_rate: Number, lower_cap: Number, upper_cap: Number, open_notional: Number
) -> Fraction:
    """Return dYdX's initial rate, which rises to 1 as open interest goes from one cap to the other.

    `min(1, base + max(0, (oi - lower) / (upper - lower)) x (1 - base))`.

    Source: dydxprotocol/v4-chain, x/perpetuals/types/liquidity_tier_test.go.
    """
    base, lower, upper = exact(base_rate), exact(lower_cap), exact(upper_cap)
    if upper <= lower:
        return base
    part = clamp((exact(open_notional) - lower) / (upper - lower), 0, None)
    return min(Fraction(1), base + part * (1 - base))


def isolated_margin(entry: Number, qty: Number, factor: Number) -> Fraction:
    """Return what an isolated position sets aside: `entry x |qty| x factor`, factor = 1 / leverage.

    Source: vegaprotocol/specs, 0019-MCAL (case 033).
    """
    return exact(entry) * abs(exact(qty)) * exact(factor)


def maintenance_with_slippage(mark: Number, qty: Number, slippage: Number, risk_factor: Number) -> Fraction:
    """Return Vega's maintenance: `mark x |qty| x (slippage + risk factor)`.

    Source: vegaprotocol/specs, 0019-MCAL (case 210).
    """
    return exact(mark) * abs(exact(qty)) * (exact(slippage) + exact(risk_factor))


def maintenance_with_funding(maintenance: Number, factor: Number, qty: Number, funding: Number) -> Fraction:
    """Return maintenance plus `factor x max(0, qty x funding)`: what it will owe counts, what it will get not.

    Parameters
    ----------
    qty : Number
        Signed.
    funding : Number
        The coming payment per unit, above 0 if longs pay.

    Source: vegaprotocol/specs, 0019-MCAL (cases 027 to 030).
    """
    return exact(maintenance) + exact(factor) * max(Fraction(0), exact(qty) * exact(funding))


def closing_fee_reserve(qty: Number, price: Number, fee: Number, *, inverse: bool = False) -> Fraction:
    """Return the fee set aside to close a position at a price: `|value(price)| x fee`.

    Bybit takes the bankruptcy price; KuCoin's samples take `entry x (1 + 1/leverage)` for both sides.

    Source: Bybit v5 and KuCoin position samples.
    """
    return abs(position_value(1, qty, price, inverse=inverse)) * exact(fee)


class Account(NamedTuple):
    """A cross account: equity and requirements, and what follows from them."""

    equity: Fraction
    maintenance: Fraction
    initial: Fraction = Fraction(0)

    @property
    def ratio(self) -> Fraction | None:
        """Maintenance over equity, 1 is the limit; None where there is no equity to divide by."""
        return self.maintenance / self.equity if self.equity > 0 else None


class CrossPosition(NamedTuple):
    """A position inside a cross account: signed quantity, entry and mark price, maintenance and initial rate."""

    qty: Number
    entry: Number
    mark: Number
    maintenance_rate: Number
    initial_rate: Number = 0
    deduction: Number = 0


def cross_account(collateral: Number, positions: Iterable[CrossPosition]) -> Account:
    """Return the equity, maintenance and initial margin of a linear cross account.

    Equity `collateral + sum qty x (mark - entry)`; requirements `sum |qty| x mark x rate - deduction`.

    Source: MARGIN-001; tembolo1284/cross-margin-engine, DESIGN.md.
    """
    equity, maintenance, initial = exact(collateral), Fraction(0), Fraction(0)
    for position in positions:
        qty, mark = exact(position.qty), exact(position.mark)
        equity += qty * (mark - exact(position.entry))
        maintenance += abs(qty) * mark * exact(position.maintenance_rate) - exact(position.deduction)
        initial += abs(qty) * mark * exact(position.initial_rate)
    return Account(equity, maintenance, initial)


def collateral_account(
    quote: Number, positions: Mapping[str, Number], prices: Mapping[str, Number], rates: Mapping[str, Number]
) -> Account:
    """Return an account kept as a quote balance and signed base positions (dYdX).

    Equity (`TNC`) `quote + sum qty x price`; maintenance (`TMMR`) `sum |qty| x price x rate`.

    Source: dydxprotocol/v4-chain, x/clob/keeper/liquidations.go.
    """
    sizes = {name: exact(qty) for name, qty in positions.items()}
    equity = exact(quote) + sum(size * exact(prices[name]) for name, size in sizes.items())
    maintenance = sum(
        (abs(size) * exact(prices[name]) * exact(rates[name]) for name, size in sizes.items()), Fraction(0)
    )
    return Account(equity, maintenance)


def is_liquidatable(equity: Number, maintenance: Number, *, strict: bool = True, flat_too: bool = False) -> bool:
    """Return whether an account is below its maintenance.

    Parameters
    ----------
    strict : bool
        True (dYdX, Vega, Binance, ours): equity equal to maintenance is safe.
    flat_too : bool
        Whether an account without requirement but with negative equity counts; dYdX's does not, ours does (LIQ-011).

    Source: MARGIN-004; dydxprotocol/v4-chain, TestIsLiquidatable.
    """
    have, need = exact(equity), exact(maintenance)
    if need <= 0 and not flat_too:
        return False
    return have < need if strict else have <= need


def accepts_order(position: Number, order: Number, equity: Number, initial: Number, maintenance: Number) -> bool:
    """Return whether an order passes: with the initial margin any, below it one that only reduces, above maintenance.

    Parameters
    ----------
    position, order : Number
        Signed quantities.

    Source: vegaprotocol/vega, 2878-close-out-orders-allowed-when-under-initial.feature.
    """
    held, change = exact(position), exact(order)
    reduces = abs(held + change) < abs(held) and (held + change) * held >= 0
    return exact(equity) >= exact(initial) or (reduces and exact(equity) >= exact(maintenance))


def maintenance_ppm(initial_ppm: int, fraction_ppm: int) -> int:
    """Return dYdX's maintenance rate in ppm, cut to a whole one: `initial x fraction / 10^6`.

    Source: dydxprotocol/v4-chain, x/perpetuals/types/liquidity_tier.go.
    """
    return int(truncate_to_step(Fraction(initial_ppm * fraction_ppm, PPM)))


def leverage_of(side: Side, qty: Number, mark: Number, equity: Number, *, inverse: bool = False) -> Fraction:
    """Return effective leverage: the position's value at mark over the equity behind it.

    Raises
    ------
    ValueError
        If there is no equity.
    """
    return abs(position_value(sign_of(side), qty, mark, inverse=inverse)) / positive(equity, "equity")
