"""The insurance fund: what a fill brings it or costs it, what it covers, and who bears what it cannot.

Money is in the settlement asset; a delta above 0 is paid into the fund.
"""

from collections.abc import Iterable
from fractions import Fraction
from typing import NamedTuple

from engine.formulas.exact import Number, Side, ceil_to_step, exact, positive, sign_of


def fund_delta(side: Side, fill_value: Number, bankruptcy_value: Number, fee_cap: Number | None = None) -> Fraction:
    """Return what a liquidation fill pays into the fund (above 0) or takes from it.

    `d = side x (fill - bankruptcy)`, both as unsigned values of the quantity closed; a surplus is capped at
    `fee_cap x fill`, where there is a cap, and the liquidated keeps the rest (dYdX); without one all of it is the
    fund's (BitMEX, ours).

    Parameters
    ----------
    side : Side
        Of the liquidated position: a long's closing fill is better when higher.

    Source: LIQ-005, LIQ-006; dydxprotocol/v4-chain, TestGetLiquidationInsuranceFundDelta; BitMEX liquidationExamples.
    """
    filled = exact(fill_value)
    delta = sign_of(side) * (filled - exact(bankruptcy_value))
    return delta if fee_cap is None or delta <= 0 else min(delta, exact(fee_cap) * abs(filled))


class FundStep(NamedTuple):
    """One fill's effect on the fund and the balance after it."""

    delta: Fraction
    balance: Fraction


def trace_fund(
    side: Side, bankruptcy: Number, fills: Iterable[Number], balance: Number = 0, qty: Number = 1
) -> list[FundStep]:
    """Return the fund after each fill of a liquidation, by prices, `qty` each.

    The balance is shown as it comes out, below 0 too: what a fund does then is a policy of its own.

    Source: https://doc.sat.is/product-docs/trading/auto-deleveraging-adl/insurance-fund (BitMEX's text).
    """
    held, size, trace = exact(balance), exact(qty), []
    for fill in fills:
        delta = fund_delta(side, exact(fill) * size, exact(bankruptcy) * size)
        held += delta
        trace.append(FundStep(delta, held))
    return trace


def can_pay(balance: Number, delta: Number) -> bool:
    """Return whether a fund stands a delta: one above 0 always, one below if the balance stays at 0 or more.

    Source: LIQ-007; dydxprotocol/v4-chain, TestIsValidInsuranceFundDelta.
    """
    return exact(delta) >= 0 or exact(balance) + exact(delta) >= 0


def deficit_of_fill(deposit: Number, side: Side, size: Number, entry: Number, fill: Number) -> Fraction:
    """Return what a position closed at `fill` leaves unpaid: `max(0, -(deposit + side x size x (fill - entry)))`.

    Source: DEF-001; https://docs.dydx.xyz/concepts/trading/contract-loss-mechanism.
    """
    left = exact(deposit) + sign_of(side) * exact(size) * (exact(fill) - exact(entry))
    return max(Fraction(0), -left)


class Cover(NamedTuple):
    """Who bears a loss: the fund first, then everybody else's share, then nobody yet."""

    from_fund: Fraction
    socialised: Fraction
    fund_units: Fraction  # paid, in the fund's own asset
    left: Fraction  # not yet covered, because this step was capped


def cover_loss(
    loss: Number,
    fund_units: Number,
    *,
    fund_price: Number = 1,
    settle_price: Number = 1,
    cap: Number | None = None,
) -> Cover:
    """Return how a fund, perhaps in another asset, covers a loss; nothing is socialised until it is exhausted.

    Covered `min(loss, fund_units x fund_price / settle_price, cap)` in the settlement asset.

    Parameters
    ----------
    cap : Number, optional
        Most this step may cover (what the liquidator takes on); what that leaves waits and is not socialised.

    Source: vegaprotocol/specs, 0053-PERP (case 024); blockworks-foundation/mango-v4,
    perp_liq_negative_pnl_or_bankruptcy.
    """
    owed = exact(loss)
    worth = exact(fund_units) * exact(fund_price) / positive(settle_price, "settle_price")
    covered = min(owed, worth) if cap is None else min(owed, worth, exact(cap))
    rest = owed - covered
    socialised = rest if covered == worth else Fraction(0)
    return Cover(
        covered, socialised, covered * exact(settle_price) / positive(fund_price, "fund_price"), rest - socialised
    )


class Socialised(NamedTuple):
    """A loss spread over both sides of a market."""

    per_unit: Fraction
    longs: Fraction
    shorts: Fraction


def socialise_per_unit(
    loss: Number, long_base: Number, short_base: Number, step: Number = Fraction(1, 10**9)
) -> Socialised:
    """Return Drift's socialised loss: `loss / (longs + |shorts|)` per base, on both sides, rounded up to `step`.

    Source: drift-labs/protocol-v2, programs/drift/src/math/liquidation (tests) and controller/liquidation (tests).
    """
    longs, shorts = abs(exact(long_base)), abs(exact(short_base))
    per_unit = ceil_to_step(exact(loss) / positive(longs + shorts, "open interest"), step)
    return Socialised(per_unit, per_unit * longs, per_unit * shorts)


def liquidation_fee_rate(
    margin_ratio: Number,
    liquidator_fee: Number,
    shortage: Number,
    base: Number,
    price: Number,
    most: Number,
    *,
    part: Number = Fraction(95, 100),
) -> Fraction:
    """Return the rate Drift's fund may charge: what the margin leaves, at most `most`, at least 0.

    `min(most, part x (margin_ratio - liquidator_fee - shortage / (base x price)))`.

    Source: drift-labs/protocol-v2, calculate_perp_if_fee.
    """
    value = positive(exact(base) * exact(price), "base x price")
    free = exact(margin_ratio) - exact(liquidator_fee) - exact(shortage) / value
    return max(Fraction(0), min(exact(most), exact(part) * free))


class Haircut(NamedTuple):
    """How a shortfall falls on claims: first on profits still warming up, then on the fund, then on everybody alike."""

    burned: Fraction
    rate: Fraction  # 0.1: every claim keeps nine tenths
    kept: Fraction


def haircut_claims(
    principal: Number, realised: Number, warming: Number, collateral: Number, insurance: Number
) -> Haircut:
    """Return the haircut that makes claims equal assets (Percolator, in the form that conserves money).

    Shortfall `max(0, principal + realised + warming - collateral - insurance)`; warming profits are burned first, the
    rest is taken from principal and realised profits in proportion.  The fund is among the assets already and cannot
    pay a second time.

    Source: percolator, as restated in the peer scenarios.
    """
    matured, young = exact(principal) + exact(realised), exact(warming)
    short = max(Fraction(0), matured + young - exact(collateral) - exact(insurance))
    burned = min(short, young)
    rate = (short - burned) / matured if matured else Fraction(0)
    return Haircut(burned, rate, matured * (1 - rate))


class CoveredSide(NamedTuple):
    """A larger side of a market of which only a part has somebody on the other side (Perennial)."""

    covered: Fraction
    pnl: Fraction  # of the whole larger side
    per_unit: Fraction


def cover_side(major: Number, minor: Number, maker: Number, before: Number, after: Number) -> CoveredSide:
    """Return the profit of the larger side when only `min(major, minor + maker)` of it is matched.

    Source: equilibria-xyz/perennial-v2, as restated in the peer scenarios.
    """
    size = positive(major, "major")
    covered = min(exact(maker) + exact(minor), size)
    pnl = covered * (exact(after) - exact(before))
    return CoveredSide(covered, pnl, pnl / size)
