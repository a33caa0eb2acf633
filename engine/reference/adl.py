"""Auto-deleveraging: rank the other side, close whom the allocation names, settle the gap to the bankruptcy value."""

from typing import NamedTuple

from engine.codes import (
    ADL_FILL,
    ADL_NOTICE,
    ADL_STARTED,
    ALLOT_QUEUE,
    BY_ADL,
    EXTERNAL,
    FUND_HELD,
    FUND_SHORT,
    HOUSE,
    ISOLATED,
    LIGHTS_QUANTITY,
    LINEAR,
    PPM,
    PRICE_BANKRUPTCY,
    PRICE_PREVIOUS,
    PRICE_WITHIN,
    TRIGGER_DRAWDOWN,
    TRIGGER_EQUITY,
)
from engine.reference.allotment import Holder, allot
from engine.reference.closing import Closing, close_share
from engine.reference.deficit import pay_deficit, take_deficit_id
from engine.reference.ledger import (
    State,
    charge_fee,
    close_part,
    compute_fee,
    compute_notional,
    compute_value,
    credit_fund,
    emit,
    sign,
)
from engine.reference.margin import (
    compute_equity,
    compute_maintenance,
    compute_share,
    compute_unrealised,
    domain_of,
)
from engine.reference.matching import cancel_account
from engine.reference.scores import Standing, compute_score
from engine.reference.stages import compute_fund_part


class Candidate(NamedTuple):
    """A position in the queue of auto-deleveraging."""

    account: int
    score: int
    qty_lot: int  # signed


def describe_candidate(state: State, account: int, market: int, share_quote: int) -> Standing:
    """Return what a score may look at.

    Source: ADL-003, ADL-010..ADL-016.
    """
    rules, position = state.rules(market), state.position(account, market)
    domain = domain_of(state, account, market)
    own = position.margin_quote if position.mode == ISOLATED else state.wallet(account, rules.asset).balance_quote
    return Standing(
        gain=compute_unrealised(state, account, market),
        cost=max(abs(position.cost_quote), 1),
        value=compute_notional(state, market, state.marks[market], position.qty_lot),
        share=share_quote,
        leverage_ppm=position.leverage_ppm,
        equity=compute_equity(state, domain),
        maintenance=compute_maintenance(state, domain),
        own=own,
        whole=rules.whole_quote,
    )


def rank_candidates(state: State, market: int, side: int) -> list[Candidate]:
    """Return the positions of sign `side` that can be deleveraged, best score first.

    Ties go to the position opened earlier, then to the lower account, so that the queue is a total order.

    Source: ADL-002, ADL-004.
    """
    ranked: list[tuple[int, int, int, int]] = []
    for (account, where), position in state.positions.items():
        if where != market or account <= EXTERNAL or sign(position.qty_lot) != side:
            continue
        share = compute_share(state, account, market)
        if share > 0:
            score = compute_score(state.rules(market).adl_score, describe_candidate(state, account, market, share))
            ranked.append((-score, position.opened_seq, account, position.qty_lot))
    return [Candidate(account, -score, qty) for score, _, account, qty in sorted(ranked)]


def count_lights(policy: int, quantities: list[int]) -> list[int]:
    """Return the lights of candidates of these lots, first to be deleveraged first.

    Source: ADL-009, ADL-028.
    """
    count, total = len(quantities), sum(quantities)
    if policy == LIGHTS_QUANTITY:
        return [6 + -5 * sum(quantities[:rank]) // total for rank in range(1, count + 1)]
    return [6 - max(1, (10 * rank + count) // (2 * count)) for rank in range(1, count + 1)]


# ---------------------------------------------------------------- whether the fund pays, and the price


def compute_gain_of_house(state: State, fund: int) -> int:
    """Return what the house has gained and not realised in the markets of a fund.

    Source: ADL-019, HOUSE-003.
    """
    held = [market for account, market in state.positions if account == HOUSE]
    return sum(compute_unrealised(state, HOUSE, market) for market in held if state.rules(market).fund == fund)


def is_fund_held(state: State, closing: Closing) -> bool:
    """Return whether the trigger keeps the market's fund from paying for the fills of a walk.

    Source: ADL-019, ADL-020.
    """
    market = closing.market
    rules = state.rules(market)
    if rules.adl_trigger == TRIGGER_EQUITY:
        value = compute_value(state, market, state.marks[market], closing.sign * closing.left_lot)
        fund_quote = state.funds[rules.fund].balance_quote + compute_gain_of_house(state, rules.fund)
        return fund_quote + value - closing.bankruptcy_quote <= 0
    return rules.adl_trigger == TRIGGER_DRAWDOWN and state.watches[market].is_active


def choose_price(state: State, closing: Closing) -> int:
    """Return the tick at which what is left is deleveraged, 0 for its bankruptcy value.

    Source: ADL-005, ADL-017, ADL-018.
    """
    market = closing.market
    rules = state.rules(market)
    if rules.adl_price == PRICE_BANKRUPTCY:
        return 0
    if rules.adl_price == PRICE_PREVIOUS:
        return state.previous_marks[market] or state.marks[market]
    if rules.adl_price == PRICE_WITHIN:
        value = compute_value(state, market, state.marks[market], closing.sign * closing.left_lot)
        base = value if rules.kind == LINEAR else closing.bankruptcy_quote  # an inverse value is one over its price
        if abs(closing.bankruptcy_quote - value) * PPM <= rules.adl_within_ppm * abs(base):
            return 0
    return state.marks[market]


# ---------------------------------------------------------------- who, and how much


class Price(NamedTuple):
    """What victims are closed at: the shares of the bankruptcy value, or a tick."""

    tick: int  # 0: the bankruptcy value

    def exchange(self, state: State, closing: Closing, qty_lot: int) -> int:
        """Return the value exchanged for `qty_lot` lots, signed as the bankrupt's position.

        Source: ADL-005, ADL-017.
        """
        if self.tick == 0:
            return closing.share(qty_lot)
        return compute_value(state, closing.market, self.tick, closing.sign * qty_lot)

    def give_up(self, state: State, closing: Closing, qty_lot: int) -> int:
        """Return what a victim gives up against the mark; negative is what it gains.

        Source: ADL-006.
        """
        at_mark = compute_value(state, closing.market, state.marks[closing.market], closing.sign * qty_lot)
        return self.exchange(state, closing, qty_lot) - at_mark


def deleverage(state: State, closing: Closing, reason: int) -> None:
    """Close what the book left against the queue, whose order is fixed here, until nothing is left or nobody is.

    Source: ADL-001, ADL-004, OWN-003.
    """
    queue = rank_candidates(state, closing.market, -closing.sign)
    queue = [candidate for candidate in queue if candidate.account != closing.domain.account]
    price = Price(choose_price(state, closing))
    if reason == FUND_SHORT and is_fund_held(state, closing):
        reason = FUND_HELD
    emit(
        state,
        ADL_STARTED,
        account=closing.domain.account,
        market=closing.market,
        side=closing.side,
        qty_lot=closing.left_lot,
        code=reason,
        count=len(queue),
        mark_tick=state.marks[closing.market],
        bankruptcy_tick=closing.bankruptcy_tick,
    )
    if state.allocation is None and state.rules(closing.market).adl_allocation == ALLOT_QUEUE:
        for rank, candidate in enumerate(queue, start=1):
            qty = min(abs(candidate.qty_lot), closing.left_lot)
            if qty:
                try_victim(state, closing, price, candidate, qty, rank, len(queue))
        return
    out: set[int] = set()
    while closing.left_lot:
        parts = allot_queue(state, closing, price, [c for c in queue if c.account not in out])
        passed = [
            candidate.account
            for rank, candidate in enumerate(queue, start=1)
            if parts.get(candidate.account)
            and not try_victim(state, closing, price, candidate, parts[candidate.account], rank, len(queue))
        ]
        if not passed:
            return
        out.update(passed)


def allot_queue(state: State, closing: Closing, price: Price, queue: list[Candidate]) -> dict[int, int]:
    """Return the lots each candidate gives up under the market's allocation, or under one of one's own.

    Source: ADL-023, OWN-003.
    """
    market, lots = closing.market, closing.left_lot
    loss = price.give_up(state, closing, lots)
    holders = []
    for account, _, _ in queue:
        qty = abs(state.position(account, market).qty_lot)
        equity = max(compute_equity(state, domain_of(state, account, market)), 0)
        cap = min(qty, equity * lots // loss) if loss > 0 else qty
        gain = compute_unrealised(state, account, market)
        holders.append(Holder(account, qty, cap, gain, equity))
    if state.allocation is not None:
        return state.allocation(lots, holders)
    return allot(state.rules(market).adl_allocation, lots, holders)


def try_victim(
    state: State, closing: Closing, price: Price, candidate: Candidate, qty_lot: int, rank: int, count: int
) -> bool:
    """Close a candidate unless that would leave its domain's equity at mark, before fees, below zero.

    It pays what is exchanged, and the value of its position at the mark becomes that of what it keeps.

    Source: ADL-004.
    """
    held = state.position(candidate.account, closing.market).qty_lot
    before, after = (
        compute_value(state, closing.market, state.marks[closing.market], qty)
        for qty in (held, held + closing.sign * qty_lot)
    )
    equity = compute_equity(state, domain_of(state, candidate.account, closing.market))
    equity_after = equity + after - before - price.exchange(state, closing, qty_lot)
    if equity_after < 0:
        return False
    deleverage_victim(state, closing, price, candidate, qty_lot, rank, count, equity_after)
    return True


# ---------------------------------------------------------------- one close


def deleverage_victim(
    state: State,
    closing: Closing,
    price: Price,
    candidate: Candidate,
    qty_lot: int,
    rank: int,
    count: int,
    equity_after: int,
) -> None:
    """Close one candidate against the bankrupt, who books its share of the bankruptcy value whatever the price.

    Source: ADL-005, ADL-006, ADL-007, ADL-022.
    """
    market, account, victim = closing.market, closing.domain.account, candidate.account
    rules = state.rules(market)
    share, exchanged = closing.share(qty_lot), price.exchange(state, closing, qty_lot)
    given, lack = max(0, price.give_up(state, closing, qty_lot)), max(0, share - exchanged)
    surplus = max(0, exchanged - share)
    fee = charge_bankrupt(state, closing, exchanged, surplus)
    to_fund = compute_fund_part(state, market, exchanged, surplus - fee)
    margin = close_share(state, closing, qty_lot, share + surplus - fee - to_fund)
    victim_margin_before = state.position(victim, market).margin_quote
    realised = close_part(state, victim, market, qty_lot, -exchanged)
    victim_fee = charge_victim(state, closing, victim, exchanged, equity_after)
    deficit_id = take_deficit_id(state) if given + lack else 0
    tick = price.tick or closing.bankruptcy_tick
    emit(
        state,
        ADL_FILL,
        account=account,
        other=victim,
        market=market,
        side=closing.side,
        qty_lot=qty_lot,
        price_tick=tick,
        bankruptcy_tick=closing.bankruptcy_tick,
        amount_quote=exchanged,
        other_amount_quote=realised,
        order_id=deficit_id,
        other_order_id=candidate.score,
        rank=rank,
        count=count,
        mark_tick=state.marks[market],
        fee_quote=fee,
        other_fee_quote=victim_fee,
        margin_quote=margin,
        other_margin_quote=state.position(victim, market).margin_quote - victim_margin_before,
    )
    credit_fund(state, account, market, to_fund, 0)
    if deficit_id:
        pay_deficit(
            state, closing.domain, market, deficit_id, given + lack, closing.side, tick, qty_lot, by_victim=given
        )
    if rules.adl_cancel_victims:
        cancel_account(state, victim, market, BY_ADL)
    emit(
        state,
        ADL_NOTICE,
        account=victim,
        market=market,
        side=sign(candidate.qty_lot),
        qty_lot=abs(state.position(victim, market).qty_lot),
        other=account,
    )


def charge_victim(state: State, closing: Closing, victim: int, exchanged_quote: int, equity_quote: int) -> int:
    """Charge the maker fee, at most the domain's equity and, isolated, the wallet; return it.

    Source: ADL-007.
    """
    rules = state.rules(closing.market)
    due = max(0, compute_fee(exchanged_quote, rules.maker_fee_ppm)) if rules.adl_fees else 0
    fee = min(due, equity_quote)
    if state.position(victim, closing.market).mode == ISOLATED:
        fee = min(fee, max(0, state.wallet(victim, rules.asset).balance_quote))
    charge_fee(state, victim, closing.market, fee)
    closing.waived_quote += due - fee
    return fee


def charge_bankrupt(state: State, closing: Closing, exchanged_quote: int, surplus_quote: int) -> int:
    """Take the taker fee out of what the price leaves over the bankruptcy value; return it.

    Source: ADL-007.
    """
    rules = state.rules(closing.market)
    due = max(0, compute_fee(exchanged_quote, rules.taker_fee_ppm)) if rules.adl_fees else 0
    fee = min(due, surplus_quote)
    state.assets[rules.asset].fees_quote += fee
    closing.waived_quote += due - fee
    return fee
