"""Auto-deleveraging: rank the other side, close the best-ranked against the bankrupt."""

from typing import NamedTuple

from engine.codes import ADL_FILL, ADL_NOTICE, ADL_STARTED, BY_ADL, EXTERNAL, ISOLATED, PPB
from engine.reference.closing import Closing, close_share
from engine.reference.deficit import report_deficit, take_deficit_id
from engine.reference.ledger import State, charge_fee, close_part, compute_fee, compute_value, emit, sign
from engine.reference.margin import compute_equity, compute_share, compute_unrealised, domain_of, saturate
from engine.reference.matching import cancel_account


class Candidate(NamedTuple):
    """A position in the queue of auto-deleveraging."""

    account: int
    score: int
    qty_lot: int  # signed


def compute_score(state: State, account: int, market: int) -> int:
    """Return a candidate's score: PnL rate times leverage in profit, PnL rate over leverage in loss.

    Source: ADL-003, NUM-005.
    """
    position = state.position(account, market)
    unrealised = compute_unrealised(state, account, market)
    value = compute_value(state, market, state.marks[market], abs(position.qty_lot))
    rate = saturate(unrealised * PPB // abs(position.cost_quote))
    leverage = saturate(value * PPB // compute_share(state, account, market))
    if unrealised > 0:
        return saturate(rate * leverage // PPB)
    return saturate(rate * PPB // max(leverage, 1))


def rank_candidates(state: State, market: int, side: int) -> list[Candidate]:
    """Return the positions of sign `side` that can be deleveraged, best score first.

    Ties go to the position opened earlier, then to the lower account, so that the queue is a total order.

    Source: ADL-002, ADL-004.
    """
    ranked: list[tuple[int, int, int, int]] = []
    for (account, where), position in state.positions.items():
        if where != market or account <= EXTERNAL or sign(position.qty_lot) != side:
            continue
        if compute_share(state, account, market) > 0:
            score = compute_score(state, account, market)
            ranked.append((-score, position.opened_seq, account, position.qty_lot))
    return [Candidate(account, -score, qty) for score, _, account, qty in sorted(ranked)]


def deleverage(state: State, closing: Closing, reason: int) -> None:
    """Close what the book left against the queue, whose order is fixed here, until nothing is left or nobody is.

    Source: ADL-001, ADL-004.
    """
    queue = rank_candidates(state, closing.market, -closing.sign)
    queue = [candidate for candidate in queue if candidate.account != closing.domain.account]
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
    for rank, candidate in enumerate(queue, start=1):
        if closing.left_lot == 0:
            return
        qty = min(abs(candidate.qty_lot), closing.left_lot)
        equity_after = compute_victim_equity(state, closing, candidate.account, qty)
        if equity_after >= 0:
            deleverage_victim(state, closing, candidate, qty, rank, len(queue), equity_after)


def compute_victim_equity(state: State, closing: Closing, victim: int, qty_lot: int) -> int:
    """Return the victim's domain equity at mark after closing at the bankruptcy value, before fees.

    Closing at the mark would leave the equity as it is; the difference between the two values is what it loses.

    Source: ADL-004.
    """
    at_mark = compute_value(state, closing.market, state.marks[closing.market], closing.sign * qty_lot)
    equity = compute_equity(state, domain_of(state, victim, closing.market))
    return equity + at_mark - closing.share(qty_lot)


def deleverage_victim(
    state: State, closing: Closing, candidate: Candidate, qty_lot: int, rank: int, count: int, equity_after: int
) -> None:
    """Close one candidate against the bankrupt; both book the exact share of the bankruptcy value.

    Source: ADL-005, ADL-006, ADL-007, ADL-008.
    """
    market, account, victim = closing.market, closing.domain.account, candidate.account
    rules = state.rules(market)
    received = closing.share(qty_lot)
    at_mark = compute_value(state, market, state.marks[market], closing.sign * qty_lot)
    due = max(0, compute_fee(received, rules.maker_fee_ppm)) if rules.adl_fees else 0
    own_due = max(0, compute_fee(received, rules.taker_fee_ppm)) if rules.adl_fees else 0
    margin = close_share(state, closing, qty_lot, received)
    victim_margin_before = state.position(victim, market).margin_quote
    realised = close_part(state, victim, market, qty_lot, -received)
    fee = min(due, equity_after)
    if state.position(victim, market).mode == ISOLATED:
        fee = min(fee, max(0, state.wallet(victim, rules.asset).balance_quote))
    charge_fee(state, victim, market, fee)
    closing.waived_quote += due - fee + own_due
    deficit = max(0, received - at_mark)
    deficit_id = take_deficit_id(state) if deficit else 0
    emit(
        state,
        ADL_FILL,
        account=account,
        other=victim,
        market=market,
        side=closing.side,
        qty_lot=qty_lot,
        price_tick=closing.bankruptcy_tick,
        bankruptcy_tick=closing.bankruptcy_tick,
        amount_quote=received,
        other_amount_quote=realised,
        order_id=deficit_id,
        other_order_id=candidate.score,
        rank=rank,
        count=count,
        mark_tick=state.marks[market],
        other_fee_quote=fee,
        margin_quote=margin,
        other_margin_quote=state.position(victim, market).margin_quote - victim_margin_before,
    )
    if deficit:
        tick = closing.bankruptcy_tick
        report_deficit(state, closing, deficit_id, tick, qty_lot, deficit, fee_quote=deficit)
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
