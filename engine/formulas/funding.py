"""Funding: premium, interest, rate, caps, time-weighted averages and the payment.

Rates are plain numbers per funding interval unless said otherwise (0.0001 is 0.01 %); above 0 longs pay.
"""

from collections.abc import Mapping, Sequence
from fractions import Fraction

from engine.formulas.exact import Number, clamp, exact, positive, truncate_to_step
from engine.formulas.margin import PPM, maintenance_ppm
from engine.formulas.pnl import position_value


def interest_rate(quote_rate: Number, base_rate: Number, intervals_per_day: Number = 3) -> Fraction:
    """Return the interest part of a funding rate: `(quote - base) / intervals per day`, daily rates in.

    Source: https://www.bybit.com/en/help-center/article/Introduction-to-Funding-Rate; BitMEX has the same.
    """
    return (exact(quote_rate) - exact(base_rate)) / positive(intervals_per_day, "intervals_per_day")


def impact_price(levels: Sequence[tuple[Number, Number]], notional: Number) -> Fraction | None:
    """Return the average price of trading `notional` of quote into a side of a book, or None where it is too thin.

    `notional / base filled`: the quantity-weighted price.

    Parameters
    ----------
    levels : sequence of (price, base size)
        Best first.

    Source: dydxprotocol/v4-chain, x/clob/memclob, GetPremiumPrice.
    """
    left, base = positive(notional, "notional"), Fraction(0)
    for level, size in levels:
        price = positive(level, "price")
        spent = min(left, price * exact(size))
        left -= spent
        base += spent / price
        if left == 0:
            return exact(notional) / base
    return None


def premium(impact_bid: Number | None, impact_ask: Number | None, index: Number) -> Fraction:
    """Return the premium of a book over its index: `(max(0, bid - index) - max(0, index - ask)) / index`.

    A side without an impact price contributes nothing.

    Source: https://hyperliquid.gitbook.io/hyperliquid-docs/trading/funding; dydxprotocol/v4-chain, GetPremiumPrice.
    """
    at = positive(index, "index")
    above = max(Fraction(0), exact(impact_bid) - at) if impact_bid is not None else Fraction(0)
    below = max(Fraction(0), at - exact(impact_ask)) if impact_ask is not None else Fraction(0)
    return (above - below) / at


def premium_ppm(
    bids: Sequence[tuple[Number, Number]], asks: Sequence[tuple[Number, Number]], index: Number, notional: Number
) -> int:
    """Return the premium of a book in parts per million, cut towards 0, impact prices at `notional`.

    Source: dydxprotocol/v4-chain, x/clob/memclob, memclob_get_premium_price_test.go.
    """
    return int(truncate_to_step(premium(impact_price(bids, notional), impact_price(asks, notional), index) * PPM))


def funding_rate(
    average_premium: Number, interest: Number, band: Number = "0.0005", cap: Number | None = None
) -> Fraction:
    """Return `premium + clamp(interest - premium, -band, band)`, held within `cap` if there is one.

    Parameters
    ----------
    band : Number
        0.05 % at BitMEX, Binance, Bybit, Hyperliquid.

    Source: https://hyperliquid.gitbook.io/hyperliquid-docs/trading/funding; Binance and Bybit funding pages.
    """
    mean, width = exact(average_premium), exact(band)
    rate = mean + clamp(exact(interest) - mean, -width, width)
    return rate if cap is None else clamp(rate, -exact(cap), exact(cap))


def rate_per_interval(rate_8h: Number, hours: Number, cap: Number | None = None) -> Fraction:
    """Return the part of an eight-hour rate that is charged for `hours`: `rate x hours / 8`, held within `cap`.

    Hyperliquid: hourly, 4 % an hour at most; its page's example stops at the eight-hour rate.

    Source: https://hyperliquid.gitbook.io/hyperliquid-docs/trading/funding; Binance funding page (its `8/N`).
    """
    rate = exact(rate_8h) * positive(hours, "hours") / 8
    return rate if cap is None else clamp(rate, -exact(cap), exact(cap))


def dampen_premium(average_premium: Number, damper: Number = "0.00025") -> Fraction:
    """Return Deribit's rate: `max(d, premium) + min(-d, premium)`, 0 inside the damper, the rest outside it.

    Source: https://support.deribit.com/hc/en-us/articles/31424939178397.
    """
    mean, width = exact(average_premium), exact(damper)
    return max(width, mean) + min(-width, mean)


def rate_cap(factor: Number, initial_rate: Number, maintenance_rate: Number) -> Fraction:
    """Return dYdX's cap of an eight-hour rate: `factor x (initial - maintenance)`, factor 6.

    Source: https://docs.dydx.xyz/concepts/trading/funding.
    """
    return exact(factor) * (exact(initial_rate) - exact(maintenance_rate))


def rate_cap_ppm(factor_ppm: int, initial_ppm: int, fraction_ppm: int) -> int:
    """Return the same in ppm, as the chain counts it: maintenance cut to a whole ppm first.

    Source: dydxprotocol/v4-chain, x/perpetuals/types/liquidity_tier_test.go.
    """
    spread = initial_ppm - maintenance_ppm(initial_ppm, fraction_ppm)
    return int(truncate_to_step(Fraction(factor_ppm * spread, PPM)))


def time_weighted_average(
    samples: Sequence[tuple[Number, Number]],
    start: Number,
    end: Number,
    pauses: Sequence[tuple[Number, Number]] = (),
) -> Fraction:
    """Return the time-weighted average of a price between two times, the last sample carried on, pauses left out.

    Parameters
    ----------
    samples : sequence of (time, price)
        In order of time, the first at or before `start`.
    pauses : sequence of (from, to)
        Auctions: they do not overlap.

    Raises
    ------
    ValueError
        If nothing was sampled by `start`, or no time is left.

    Source: vegaprotocol/specs, 0053-PERP (cases 027 and 036).
    """
    first, last = exact(start), exact(end)
    times = [(exact(time), exact(price)) for time, price in samples]
    if not times or times[0][0] > first:
        raise ValueError(f"samples: expected one at or before the start {first}")
    total, weight = Fraction(0), Fraction(0)
    for index, (time, price) in enumerate(times):
        until = times[index + 1][0] if index + 1 < len(times) else last
        length = open_time(max(time, first), min(until, last), pauses)
        total += price * length
        weight += length
    return total / positive(weight, "time outside pauses")


def open_time(start: Number, end: Number, pauses: Sequence[tuple[Number, Number]] = ()) -> Fraction:
    """Return the length of a span of time less the pauses in it; 0 for a span that ends before it begins."""
    first, last = exact(start), exact(end)
    out = sum((max(Fraction(0), min(last, exact(b)) - max(first, exact(a))) for a, b in pauses), Fraction(0))
    return max(Fraction(0), last - first - out) if last > first else Fraction(0)


def funding_per_unit(
    mark_average: Number,
    spot_average: Number,
    *,
    year_part: Number = 0,
    interest: Number = 0,
    low: Number = 0,
    high: Number = 0,
    scale: Number = 1,
    rate_low: Number | None = None,
    rate_high: Number | None = None,
    open_part: Number = 1,
) -> Fraction:
    """Return Vega's funding payment per unit of position, above 0 if longs pay.

    `f - s + clamp((1 + dt x i) x s - f, low x s, high x s)`, f and s the averages; times `scale` and the part of the
    period that was no auction; then held, as a rate of s, within `rate_low` and `rate_high`.

    Source: vegaprotocol/specs, 0053-PERP (cases 029 to 031, 036), 0019-MCAL (case 028).
    """
    future, spot = exact(mark_average), positive(spot_average, "spot_average")
    drift = (1 + exact(year_part) * exact(interest)) * spot - future
    payment = (future - spot + clamp(drift, exact(low) * spot, exact(high) * spot)) * exact(scale) * exact(open_part)
    return clamp(payment / spot, rate_low, rate_high) * spot


def funding_payment(qty: Number, price: Number, rate: Number, part: Number = 1, *, inverse: bool = False) -> Fraction:
    """Return what a position receives at a funding, below 0 if it pays: `-value(price) x rate x part`.

    Parameters
    ----------
    qty : Number
        Signed size: base units (linear), quote units (inverse).
    price : Number
        The venue's payment base: mark (BitMEX, Binance, Bybit) or oracle (Hyperliquid, dYdX).
    part : Number
        Of the interval that was held, for venues that charge continuously (Deribit: hours / 8).

    Source: FUND-001; https://www.bitmex.com/app/perpetualContractsGuideExamples.
    """
    size = exact(qty)
    worth = abs(position_value(1, abs(size), price, inverse=inverse))
    return (-worth if size > 0 else worth) * exact(rate) * exact(part)


def funding_payments(
    positions: Mapping[str, Number], price: Number, rate: Number, part: Number = 1
) -> dict[str, Fraction]:
    """Return `funding_payment` of each account's signed position; over a whole market they sum to 0.

    Source: FUND-001; vegaprotocol/vega, 0053-PERP-024_LossSocialisation.feature.
    """
    return {account: funding_payment(qty, price, rate, part) for account, qty in positions.items()}
