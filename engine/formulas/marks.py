"""Mark prices: what a position is valued at when margin is checked."""

from collections.abc import Iterable, Sequence
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import NamedTuple

from engine.formulas.exact import Number, exact, floor_to_step, median, positive

_DIGITS = 50  # of the one function here that is not rational, exp


def fair_price(index: Number, funding_rate: Number, time_left: Number, interval: Number) -> Fraction:
    """Return BitMEX's fair price: `index x (1 + funding_rate x time_left / interval)`, no book in it.

    Parameters
    ----------
    time_left, interval : Number
        In one unit, e.g. hours.

    Source: https://www.bitmex.com/app/fairPriceMarking.
    """
    return exact(index) * (1 + exact(funding_rate) * exact(time_left) / positive(interval, "interval"))


class MedianMark(NamedTuple):
    """The mark and the two prices that compete with the last trade."""

    mark: Fraction
    funding_price: Fraction  # index with what is left of the funding
    basis_price: Fraction  # index with the average basis


def median_mark(
    index: Number, funding_rate: Number, time_left: Number, interval: Number, basis_average: Number, last: Number
) -> MedianMark:
    """Return Binance's and Bybit's mark: the median of fair price, index plus average basis, and last trade.

    Parameters
    ----------
    basis_average : Number
        Moving average of mid - index; Binance's window was 30 min, then 2.5 min, since 2025-09 30 s; Bybit's is 5 min.

    Source: https://www.binance.com/en/support/faq/360033525071.
    """
    by_funding, by_basis = fair_price(index, funding_rate, time_left, interval), exact(index) + exact(basis_average)
    return MedianMark(median([by_funding, by_basis, last]), by_funding, by_basis)


def median_of_sources(sources: Iterable[Number], tick: Number | None = None) -> Fraction:
    """Return the median of the sources that are not stale (leave those out), rounded down to the tick if given.

    Source: vegaprotocol/specs, 0009-MRKP (case 020).
    """
    middle = median(sources)
    return middle if tick is None else floor_to_step(middle, tick)


def weighted_mark(trades: Iterable[tuple[Number, Number, Number]], tick: Number | None = None) -> Fraction:
    """Return the average of trades (price, size, weight) by size x weight, rounded down to the tick if given.

    Source: vegaprotocol/vega, 0009-MRKP-028.feature, whose comment divides by the sizes and whose value does not.
    """
    rows = [(exact(price), exact(size) * exact(weight)) for price, size, weight in trades]
    total = positive(sum((weight for _, weight in rows), Fraction(0)), "weights (their sum)")
    mean = sum((price * weight for price, weight in rows), Fraction(0)) / total
    return mean if tick is None else floor_to_step(mean, tick)


def exponential_average(samples: Sequence[tuple[Number, Number]], tau: Number) -> Fraction:
    """Return Hyperliquid's time-weighted exponential average, without bias at its start.

    `n <- n x exp(-t/tau) + x x t`, `d <- d x exp(-t/tau) + t`, both from 0; the average is `n / d`.  exp is taken to 50
    digits, everything else is exact.

    Parameters
    ----------
    samples : sequence of (seconds since the one before, value)
    tau : Number
        150 s for the mark's premium over the oracle.

    Source: https://hyperliquid.gitbook.io/hyperliquid-docs/trading/robust-price-indices.
    """
    numerator = denominator = Fraction(0)
    for seconds, value in samples:
        time = positive(seconds, "seconds")
        decay = _exp(-time / positive(tau, "tau"))
        numerator = numerator * decay + exact(value) * time
        denominator = denominator * decay + time
    return numerator / positive(denominator, "samples (their time)")


def _exp(power: Fraction) -> Fraction:
    with localcontext() as context:
        context.prec = _DIGITS
        return Fraction((Decimal(power.numerator) / Decimal(power.denominator)).exp())


def throttle_marks(mark: Number, events: Iterable[tuple[Number, Number]], interval: Number) -> list[Fraction]:
    """Return the mark after each event (time, last trade) when it may change at most once per interval, from time 0.

    Source: vegaprotocol/specs, 0009-MRKP, algorithm 1.
    """
    held, since, marks = exact(mark), Fraction(0), []
    for time, last in events:
        if exact(time) - since >= exact(interval):
            held, since = exact(last), exact(time)
        marks.append(held)
    return marks
