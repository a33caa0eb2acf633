"""Funding: the rates computed from the premium, interval by interval, and what everybody pays by a rate."""

from fractions import Fraction

from engine.codes import (
    AVERAGE_LINEAR,
    EXTERNAL,
    FUNDING,
    FUNDING_PAYMENT,
    FUNDING_PREMIUM,
    FUNDING_RATE,
    FUNDINGS_MAX,
    ISOLATED,
    NS,
    PPB,
)
from engine.reference.checks import Command
from engine.reference.house import fund_house
from engine.reference.ledger import State, compute_notional, emit, find_funding_price, sign, touch_cross
from engine.reference.marks import Sight, count_instants


def settle_funding(state: State, command: Command, sights: list[Sight], before_ns: int) -> None:
    """Pay what funding is due, in every market, in index order.

    Source: STEP-001, FUND-010, FUND-011.
    """
    for market, rules in enumerate(state.setup.markets):
        if rules.funding_model == FUNDING_PREMIUM:
            end_intervals(state, market, sights[market].premium_ppb, before_ns)
        elif command.kind == FUNDING and command.market == market:
            pay_funding(state, market, command.amount_quote)


def pay_funding(state: State, market: int, rate_ppb: int, premium_ppb: int = 0) -> None:
    """Announce a rate and let every position of a market pay or receive; what rounding leaves goes to rounding.

    `received` is floored: a payer's magnitude is thereby rounded up and a receiver's down.

    Source: FUND-001, FUND-010, FUND-016, NUM-004, INV-004.
    """
    asset, price = state.rules(market).asset, find_funding_price(state, market)
    state.averages[market].rate_ppb = rate_ppb
    emit(
        state,
        FUNDING_RATE,
        market=market,
        amount_quote=rate_ppb,
        other_amount_quote=premium_ppb,
        price_tick=price,
        mark_tick=state.marks[market],
    )
    fund_house(state, market, rate_ppb, price)
    for account in [EXTERNAL, *state.list_accounts()]:
        position = state.positions.get((account, market))
        if position is None or position.qty_lot == 0:
            continue
        notional = compute_notional(state, market, price, position.qty_lot)
        received = -rate_ppb * sign(position.qty_lot) * notional // PPB
        if received == 0:
            continue
        is_isolated = position.mode == ISOLATED
        if is_isolated:
            position.margin_quote += received
            position.is_called = False
        else:
            state.wallet(account, asset).balance_quote += received
            touch_cross(state, account, asset)
        state.assets[asset].rounding_quote -= received
        emit(
            state,
            FUNDING_PAYMENT,
            account=account,
            market=market,
            amount_quote=received,
            qty_lot=position.qty_lot,
            margin_quote=received if is_isolated else 0,
            mark_tick=state.marks[market],
        )


def end_intervals(state: State, market: int, premium_ppb: int | None, before_ns: int) -> None:
    """Take the samples of the premium that are due, and pay wherever an interval ends, in order of time.

    Source: FUND-011, FUND-015.
    """
    rules, samples = state.rules(market), state.averages[market].premiums

    def take(since_ns: int, until_ns: int) -> None:
        if premium_ppb is not None:
            samples.extend([premium_ppb] * count_instants(since_ns, until_ns, rules.funding_sample_s))

    ends = list_ends(before_ns, state.ts_ns, rules.funding_interval_s * NS, rules.funding_offset_s * NS)
    since_ns = before_ns
    for end_ns in ends[:FUNDINGS_MAX]:
        take(since_ns, end_ns)
        since_ns = end_ns
        if samples:
            premium = average_premiums(samples, rules.funding_average)
            samples.clear()
            pay_funding(state, market, compute_rate(state, market, premium), premium)
    take(ends[-1] if ends else before_ns, state.ts_ns)


def list_ends(before_ns: int, now_ns: int, interval_ns: int, offset_ns: int) -> range:
    """Return the ends of intervals after one time and up to another.

    Source: FUND-015.
    """
    first = (before_ns - offset_ns) // interval_ns + 1
    return range(first * interval_ns + offset_ns, now_ns + 1, interval_ns)


def average_premiums(samples: list[int], average: int) -> int:
    """Return the average of an interval's samples, all alike or each as often as its place says.

    Source: FUND-014.
    """
    weights = range(1, len(samples) + 1) if average == AVERAGE_LINEAR else [1] * len(samples)
    total = sum(weight * sample for weight, sample in zip(weights, samples, strict=True))
    return round(Fraction(total, sum(weights)))


def compute_rate(state: State, market: int, premium_ppb: int) -> int:
    """Return the rate of one payment: premium and interest, the interval's part of them, capped.

    Source: FUND-014.
    """
    rules = state.rules(market)
    clamp, cap = rules.funding_clamp_ppb, rules.funding_cap_ppb
    pull = max(-clamp, min(clamp, rules.funding_interest_ppb - premium_ppb))
    part = round(Fraction((premium_ppb + pull) * rules.funding_interval_s, rules.funding_period_s))
    return max(-cap, min(cap, part))
