"""Marks derived from what the market did, and the samples of the book that they and the funding rate are averaged from.

Ratios are exact fractions; `round` takes a fraction to the nearest whole number, halves to the even one.
"""

from dataclasses import dataclass
from fractions import Fraction

from engine.codes import (
    BUY,
    FUNDING_PREMIUM,
    MARK_EMA_BASIS,
    MARK_LAST,
    MARK_MEDIAN3,
    MICRO,
    NS,
    PPB,
    PPM,
    PREMIUM_IMPACT,
    SELL,
)
from engine.reference.ledger import State


@dataclass(slots=True)
class Sight:
    """A market just before a command; None where there is nothing to be seen."""

    basis_half: int | None = None
    premium_ppb: int | None = None


def count_instants(before_ns: int, now_ns: int, interval_s: int) -> int:
    """Return how many instants of a grid a command passes: those after the one before it, up to its own time.

    Source: MARK-002.
    """
    return now_ns // (interval_s * NS) - before_ns // (interval_s * NS)


def observe_markets(state: State, now_ns: int) -> list[Sight]:
    """Return what there is to sample in each market, before a command at this time is applied.

    Source: MARK-002, FUND-011.
    """
    sights = []
    for market, rules in enumerate(state.setup.markets):
        sight = Sight()
        has_index = state.indexes[market] > 0
        if has_index and rules.mark_model in (MARK_MEDIAN3, MARK_EMA_BASIS):
            sight.basis_half = observe_basis(state, market)
        passes = count_instants(state.ts_ns, now_ns, rules.funding_sample_s) > 0
        if has_index and passes and rules.funding_model == FUNDING_PREMIUM:
            sight.premium_ppb = observe_premium(state, market)
        sights.append(sight)
    return sights


def observe_basis(state: State, market: int) -> int | None:
    """Return how far the middle of the whole book is above the index, in half ticks; None without both sides.

    Source: MARK-002.
    """
    bid, ask = state.books[market].best_price(BUY), state.books[market].best_price(SELL)
    return bid + ask - 2 * state.indexes[market] if bid and ask else None


def observe_premium(state: State, market: int) -> int | None:
    """Return the premium per 10^9 of the index, within +-10^9.

    Source: FUND-011, FUND-012, FUND-013.
    """
    index = state.indexes[market]
    if state.rules(market).funding_premium == PREMIUM_IMPACT:
        bid, ask = find_impact_price(state, market, SELL), find_impact_price(state, market, BUY)
        above = max(0, bid // 1 - index * MICRO) if bid else 0
        below = max(0, index * MICRO - -(-ask // 1)) if ask else 0
        premium = Fraction((above - below) * PPB, index * MICRO)
    else:
        basis = observe_basis(state, market)
        if basis is None:
            return None
        premium = Fraction(basis * PPB, 2 * index)
    return max(-PPB, min(PPB, round(premium)))


def find_impact_price(state: State, market: int, side: int) -> Fraction | None:
    """Return the average price, in 10^-6 ticks, at which an order of `side` trades the impact notional.

    Source: FUND-013.
    """
    rules = state.rules(market)
    left, value, lots = rules.impact_quote, 0, 0
    for order in state.books[market].iterate(-side):
        worth = order.price_tick * rules.multiplier
        part = min(order.qty_lot, -(-left // worth))
        left -= part * worth
        value += part * worth
        lots += part
        if left <= 0:
            return Fraction(value * MICRO, lots * rules.multiplier)
    return None


def take_bases(state: State, sights: list[Sight], before_ns: int) -> None:
    """Take the samples of the basis for the instants that the command passed.

    Source: MARK-002, MARK-003, MARK-004.
    """
    for market, rules in enumerate(state.setup.markets):
        basis, average = sights[market].basis_half, state.averages[market]
        count = count_instants(before_ns, state.ts_ns, rules.basis_interval_s)
        if basis is None or count == 0:
            continue
        if rules.mark_model == MARK_MEDIAN3:
            size = rules.basis_samples
            average.bases = (average.bases + [basis] * min(count, size))[-size:]
            continue
        left = compute_power(rules.basis_decay_ppb, count)
        rest = average.ema_start_ppb * left // PPB
        kept = (PPB - average.ema_start_ppb) * left // (PPB - rest)
        sample = basis * MICRO
        average.ema_micro = sample + (average.ema_micro - sample) * kept // PPB
        average.ema_start_ppb = rest


def compute_power(decay_ppb: int, count: int) -> int:
    """Return decay^count per 10^9: the binary powers in `count`, lowest first, every product floored.

    Source: MARK-004.
    """
    power, square = PPB, decay_ppb
    for bit in reversed(format(count, "b")):
        power = power * square // PPB if bit == "1" else power
        square = square * square // PPB
    return power


def derive_mark(state: State, market: int) -> int:
    """Return the mark a market's model makes of the present state and time, 0 where it makes none.

    Source: STEP-002, MARK-001, MARK-004.
    """
    rules, index = state.rules(market), state.indexes[market]
    if rules.mark_model == MARK_LAST:
        return state.lasts[market]
    if rules.mark_model not in (MARK_MEDIAN3, MARK_EMA_BASIS) or not index:
        return 0
    if rules.mark_model == MARK_EMA_BASIS:
        average = state.averages[market]
        price = index + hold_basis(state, market, round(Fraction(average.ema_micro, 2 * MICRO)))
    else:
        price = compute_median(state, market)
    return max(1, min(rules.price_max_tick, price))


def compute_median(state: State, market: int) -> int:
    """Return the median of the index with funding, the index with the average basis, and the last price.

    Source: MARK-003.
    """
    rules, index, average = state.rules(market), state.indexes[market], state.averages[market]
    interval_ns = rules.funding_interval_s * NS
    left_ns = interval_ns - (state.ts_ns - rules.funding_offset_s * NS) % interval_ns
    left_s = -(-left_ns // NS)
    first = index + round(Fraction(index * average.rate_ppb * left_s, rules.funding_interval_s * PPB))
    second = first
    if average.bases:
        second = index + hold_basis(state, market, round(Fraction(sum(average.bases), 2 * len(average.bases))))
    return sorted([first, second, state.lasts[market] or first])[1]


def hold_basis(state: State, market: int, basis_tick: int) -> int:
    """Hold an averaged basis within the market's band around the index.

    Source: MARK-005.
    """
    band_ppm = state.rules(market).basis_band_ppm
    if not band_ppm:
        return basis_tick
    limit = round(Fraction(state.indexes[market] * band_ppm, PPM))
    return max(-limit, min(limit, basis_tick))
