"""What happens to those who cannot hold their positions: triggers, liquidation, auto-deleveraging, haircut."""

from dataclasses import dataclass
from typing import NamedTuple

from engine.codes import (
    ADL_FILL,
    ADL_NOTICE,
    ADL_STARTED,
    BOOK_EMPTY,
    BUY,
    BY_ADL,
    BY_LIQUIDATION,
    BY_REDUCE_ONLY,
    DEFICIT,
    EXTERNAL,
    FUND_SHORT,
    HAIRCUT,
    ISOLATED,
    LIQUIDATION_ENDED,
    LIQUIDATION_FILL,
    LIQUIDATION_STARTED,
    MARGIN_CALL,
    MARK_LAST,
    MARK_MOVED,
    PPB,
    PPM,
    ROUNDS_MAX,
    TAKEOVER,
)
from engine.errors import InvariantError
from engine.reference.book import Order
from engine.reference.ledger import (
    Position,
    State,
    Wallet,
    apply_fill,
    charge_fee,
    close_part,
    compute_fee,
    compute_value,
    credit_fund,
    debit_fund,
    emit,
    settle_flat,
    sign,
    split_cost,
    touch_position,
)
from engine.reference.margin import (
    Domain,
    compute_bankruptcy_value,
    compute_equity,
    compute_maintenance,
    compute_position_maintenance,
    compute_ratio,
    compute_share,
    compute_unrealised,
    display_bankruptcy_tick,
    domain_of,
    is_liquidatable,
    list_domains,
    list_positions,
    saturate,
)
from engine.reference.matching import cancel_account, cancel_order, count_fillable, fill_maker


@dataclass(slots=True)
class Closing:
    """One position being liquidated; `bankruptcy_quote` is the value of what is left, signed as the position."""

    domain: Domain
    market: int
    sign: int  # of the position: 1 long, -1 short
    left_lot: int
    bankruptcy_quote: int
    bankruptcy_tick: int
    waived_quote: int = 0

    @property
    def side(self) -> int:
        """Return the side of the orders that close it."""
        return -self.sign

    def share(self, qty_lot: int) -> int:
        """Return the part of the bankruptcy value that belongs to closing `qty_lot` of the lots left.

        Source: LIQ-005.
        """
        return self.bankruptcy_quote * qty_lot // self.left_lot


class Candidate(NamedTuple):
    """A position in the queue of auto-deleveraging."""

    account: int
    score: int
    qty_lot: int  # signed


# ---------------------------------------------------------------- the mark and the rounds


def move_mark(state: State, market: int, price_tick: int) -> None:
    """Set the mark of a market; an event is emitted only when it changes.

    Source: STEP-002.
    """
    before = state.marks[market]
    if price_tick != before:
        state.marks[market] = price_tick
        emit(state, MARK_MOVED, market=market, price_tick=price_tick, mark_tick=before)


def follow_last(state: State) -> None:
    """Compare the mark with the last trade in every market whose mark is the last trade, in index order.

    Source: STEP-002.
    """
    for market, rules in enumerate(state.setup.markets):
        if rules.mark_model == MARK_LAST and state.lasts[market]:
            move_mark(state, market, state.lasts[market])


def settle_triggers(state: State) -> None:
    """Run trigger rounds until one lists nothing.

    Raises
    ------
    InvariantError
        After more than 10,000 rounds (STEP-004).

    Source: STEP-003, STEP-004.
    """
    for _ in range(ROUNDS_MAX):
        listed = [domain for domain in list_domains(state) if is_liquidatable(state, domain)]
        call_margins(state)
        if not listed:
            return
        for domain in sorted(listed, key=lambda domain: (compute_ratio(state, domain), domain)):
            if is_liquidatable(state, domain):
                liquidate_domain(state, domain)
                follow_last(state)
    raise InvariantError(f"command {state.seq}: the trigger rounds did not settle within {ROUNDS_MAX}")


def call_margins(state: State) -> None:
    """Send a margin call to each domain below its call level, once until it is touched again.

    Source: STEP-005, STEP-003.
    """
    for domain in list_domains(state):
        call_ppm = next(rules.call_ppm for rules in state.setup.markets if rules.asset == domain.asset)
        equity, maintenance = compute_equity(state, domain), compute_maintenance(state, domain)
        holder: Position | Wallet = state.wallet(domain.account, domain.asset)
        if domain.market >= 0:
            holder = state.position(domain.account, domain.market)
        if call_ppm == 0 or holder.is_called or equity < maintenance or equity >= -(-maintenance * call_ppm // PPM):
            continue
        holder.is_called = True
        report_domain(state, MARGIN_CALL, domain)


def report_domain(state: State, kind: int, domain: Domain, **fields: int) -> None:
    """Emit an event about a domain with its equity and maintenance; `market` is -1 for a cross domain.

    Source: EVT-001.
    """
    emit(
        state,
        kind,
        account=domain.account,
        market=domain.market,
        amount_quote=compute_equity(state, domain),
        other_amount_quote=compute_maintenance(state, domain),
        other=domain.asset,
        **fields,
    )


# ---------------------------------------------------------------- liquidation


def liquidate_domain(state: State, domain: Domain) -> None:
    """Liquidate a listed domain: cancel its account's orders, re-check, start, close, end.

    Source: LIQ-001, LIQ-003, LIQ-004, LIQ-011.
    """
    for market in range(len(state.setup.markets)):
        cancel_account(state, domain.account, market, BY_LIQUIDATION)
    if not is_liquidatable(state, domain):
        return
    report_domain(state, LIQUIDATION_STARTED, domain)
    closed_lot = waived = 0
    if not list_positions(state, domain):
        cover_wallet(state, domain)
    while list_positions(state, domain) and is_liquidatable(state, domain):
        market = min(
            list_positions(state, domain),
            key=lambda market: (-compute_position_maintenance(state, domain.account, market), market),
        )
        closing = start_closing(state, domain, market)
        closed_lot += closing.left_lot
        close_position(state, closing)
        waived += closing.waived_quote
    state.assets[domain.asset].waived_quote += waived
    report_domain(state, LIQUIDATION_ENDED, domain, qty_lot=closed_lot, fee_quote=waived)


def cover_wallet(state: State, domain: Domain) -> None:
    """Make a flat domain with a negative wallet whole, with the market of the account's last fill in the asset.

    Source: LIQ-011.
    """
    wallet = state.wallet(domain.account, domain.asset)
    shortfall = -wallet.balance_quote
    wallet.balance_quote += shortfall
    pay_deficit(state, domain, wallet.last_market, take_deficit_id(state), shortfall)


def start_closing(state: State, domain: Domain, market: int) -> Closing:
    """Fix the bankruptcy value of a position whose liquidation starts.

    Source: LIQ-005, MARGIN-005.
    """
    qty = state.position(domain.account, market).qty_lot
    bankruptcy = compute_bankruptcy_value(state, domain.account, market)
    tick = display_bankruptcy_tick(state, market, qty, bankruptcy)
    return Closing(domain, market, sign(qty), abs(qty), bankruptcy, tick)


def close_position(state: State, closing: Closing) -> None:
    """Close the whole position: through the book, then by the queue, then with the outside.

    Source: LIQ-004, LIQ-008, LIQ-009.
    """
    reason = walk_book(state, closing)
    if closing.left_lot:
        deleverage(state, closing, reason)
    if closing.left_lot:
        take_over(state, closing)


def compute_collar(state: State, market: int, side: int, collar_ppm: int) -> int:
    """Return the limit an order without one of its own gets, a collar around the mark.

    Source: MATCH-005, LIQ-005.
    """
    rules, mark = state.rules(market), state.marks[market]
    if side == BUY:
        return min(mark * (PPM + collar_ppm) // PPM, rules.price_max_tick)
    return max(-(-mark * (PPM - collar_ppm) // PPM), 1)


def compute_gain(state: State, closing: Closing, qty_lot: int, price_tick: int) -> int:
    """Return what closing at a price brings in beyond the share of the bankruptcy value; a deficit is negative.

    Source: LIQ-005.
    """
    value = compute_value(state, closing.market, price_tick, closing.sign * qty_lot)
    return value - closing.share(qty_lot)


def cut_to_fund(state: State, closing: Closing, qty_lot: int, price_tick: int) -> int:
    """Return the largest quantity, up to `qty_lot`, whose deficit the market's fund can pay.

    The deficit of `k` lots is the floor of `k` times a fixed number, so it only grows with `k` where it is positive,
    and halving finds the last quantity that can be paid.

    Source: LIQ-007.
    """
    balance = state.funds[state.rules(closing.market).fund].balance_quote
    low, high = 0, qty_lot
    while low < high:
        middle = (low + high + 1) // 2
        if -compute_gain(state, closing, middle, price_tick) <= balance:
            low = middle
        else:
            high = middle - 1
    return low


def walk_book(state: State, closing: Closing) -> int:
    """Close through the book inside the liquidation collar, as far as the fund can pay, and return why it ended.

    Source: LIQ-005, LIQ-007.
    """
    collar_ppm = state.rules(closing.market).liquidation_collar_ppm
    limit = compute_collar(state, closing.market, closing.side, collar_ppm)
    while closing.left_lot:
        maker = state.books[closing.market].find_crossed(closing.side, limit)
        if maker is None:
            return BOOK_EMPTY
        wanted = min(closing.left_lot, count_fillable(state, maker))
        if wanted == 0:
            cancel_order(state, maker, BY_REDUCE_ONLY)
            continue
        qty = cut_to_fund(state, closing, wanted, maker.price_tick)
        if qty:
            fill_liquidation(state, closing, maker, qty)
        if qty < wanted:
            return FUND_SHORT
    return BOOK_EMPTY


def fill_liquidation(state: State, closing: Closing, maker: Order, qty_lot: int) -> None:
    """Book one fill of a liquidation: the account's side at its share of the bankruptcy value, the rest is the fund's.

    Source: LIQ-005, LIQ-006, LIQ-007, DEF-001.
    """
    market, account, price = closing.market, closing.domain.account, maker.price_tick
    rules = state.rules(market)
    value = compute_value(state, market, price, qty_lot)
    gain = compute_gain(state, closing, qty_lot, price)
    due = max(0, compute_fee(value, rules.taker_fee_ppm))
    fee = min(due, max(0, gain))
    fund_fee_due = compute_fee(value, rules.liquidation_fee_ppm)
    closing.waived_quote += due - fee + fund_fee_due - min(fund_fee_due, max(0, gain - fee))
    margin = close_share(state, closing, qty_lot, closing.share(qty_lot))
    state.assets[rules.asset].fees_quote += fee
    maker_account, maker_id = maker.account, maker.order_id
    maker_fee, maker_margin = fill_maker(state, maker, qty_lot)
    deficit_id = take_deficit_id(state) if gain < 0 else 0
    emit(
        state,
        LIQUIDATION_FILL,
        account=account,
        other=maker_account,
        market=market,
        side=closing.side,
        price_tick=price,
        qty_lot=qty_lot,
        order_id=deficit_id,
        other_order_id=maker_id,
        amount_quote=gain - fee,
        fee_quote=fee,
        other_fee_quote=maker_fee,
        margin_quote=margin,
        other_margin_quote=maker_margin,
        mark_tick=state.marks[market],
        bankruptcy_tick=closing.bankruptcy_tick,
    )
    if gain > 0:
        surplus = gain - fee
        credit_fund(state, account, market, surplus, min(surplus, fund_fee_due))
    if gain < 0:
        paid = debit_fund(state, account, market, -gain, deficit_id)
        report_deficit(state, closing, deficit_id, price, qty_lot, -gain, other_amount_quote=paid)


def close_share(state: State, closing: Closing, qty_lot: int, received_quote: int) -> int:
    """Close part of the bankrupt's position: its domain changes by what it receives less the cost of the part.

    Returns
    -------
    int
        The change of the isolated margin.

    Source: LIQ-005, ADL-005, LIQ-009.
    """
    account, market = closing.domain.account, closing.market
    position = state.position(account, market)
    wallet = state.wallet(account, closing.domain.asset)
    margin_before = position.margin_quote
    closing.bankruptcy_quote -= closing.share(qty_lot)
    closing.left_lot -= qty_lot
    cost = split_cost(position, qty_lot)
    if position.mode == ISOLATED:
        position.margin_quote += received_quote - cost
    else:
        wallet.balance_quote += received_quote - cost
    position.cost_quote -= cost
    position.qty_lot -= closing.sign * qty_lot
    settle_flat(state, account, market)
    touch_position(state, account, market)
    wallet.last_market = market
    return position.margin_quote - margin_before


def take_over(state: State, closing: Closing) -> None:
    """Let the outside take what neither book nor queue could close, at the mark; a missing share is a deficit.

    Source: LIQ-009, DEF-001.
    """
    market, qty, mark = closing.market, closing.left_lot, state.marks[closing.market]
    value = compute_value(state, market, mark, closing.sign * qty)
    deficit = max(0, closing.bankruptcy_quote - value)
    margin = close_share(state, closing, qty, value + deficit)
    apply_fill(state, EXTERNAL, market, closing.sign, qty, mark, 0)
    deficit_id = take_deficit_id(state) if deficit else 0
    emit(
        state,
        TAKEOVER,
        account=closing.domain.account,
        other=EXTERNAL,
        market=market,
        side=closing.side,
        qty_lot=qty,
        price_tick=mark,
        order_id=deficit_id,
        margin_quote=margin,
        amount_quote=deficit,
        bankruptcy_tick=closing.bankruptcy_tick,
        mark_tick=mark,
    )
    if deficit:
        pay_deficit(state, closing.domain, market, deficit_id, deficit, closing.side, mark, qty)


# ---------------------------------------------------------------- auto-deleveraging


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
        if where != market or account == EXTERNAL or sign(position.qty_lot) != side:
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


# ---------------------------------------------------------------- deficits


def take_deficit_id(state: State) -> int:
    """Return the id of a new deficit; they count from 1.

    Source: EVT-002, DEF-001.
    """
    state.deficit_id += 1
    return state.deficit_id


def report_deficit(
    state: State, closing: Closing, deficit_id: int, price_tick: int, qty_lot: int, amount_quote: int, **paid: int
) -> None:
    """Emit the deficit of a close, with who paid it.

    Source: EVT-002, DEF-001.
    """
    emit(
        state,
        DEFICIT,
        order_id=deficit_id,
        account=closing.domain.account,
        market=closing.market,
        side=closing.side,
        price_tick=price_tick,
        qty_lot=qty_lot,
        amount_quote=amount_quote,
        **paid,
    )


def pay_deficit(
    state: State,
    domain: Domain,
    market: int,
    deficit_id: int,
    amount_quote: int,
    side: int = 0,
    price_tick: int = 0,
    qty_lot: int = 0,
) -> None:
    """Let the fund pay a deficit as far as it goes, then the winners; what nobody paid is the exchange's insolvency.

    Source: LIQ-009, LIQ-011, DEF-001, DEF-003, EVT-002.
    """
    by_fund = debit_fund(state, domain.account, market, amount_quote, deficit_id)
    short = amount_quote - by_fund
    cut = cut_winners(state, domain, market, deficit_id, short) if short else 0
    by_haircut = min(short, cut)
    unpaid = short - by_haircut
    asset = state.assets[domain.asset]
    asset.rounding_quote += cut - by_haircut
    asset.insolvency_quote -= unpaid
    emit(
        state,
        DEFICIT,
        order_id=deficit_id,
        account=domain.account,
        market=market,
        side=side,
        price_tick=price_tick,
        qty_lot=qty_lot,
        amount_quote=amount_quote,
        other_amount_quote=by_fund,
        margin_quote=by_haircut,
        other_margin_quote=unpaid,
        other_fee_quote=cut - by_haircut,
    )


def list_winners(state: State, bankrupt: Domain, market: int) -> list[tuple[int, int]]:
    """Return the accounts with unrealised gain in a market and the gain, at most the domain's equity.

    Source: DEF-002.
    """
    winners: list[tuple[int, int]] = []
    for account in state.list_accounts():
        if (account, market) not in state.positions or domain_of(state, account, market) == bankrupt:
            continue
        equity = compute_equity(state, domain_of(state, account, market))
        gain = min(compute_unrealised(state, account, market), equity)
        if gain > 0:
            winners.append((account, gain))
    return winners


def cut_winners(state: State, bankrupt: Domain, market: int, deficit_id: int, short_quote: int) -> int:
    """Cut the winners of a market pro rata to their gains, each keeping the floor, and return the sum of the cuts.

    Source: DEF-002.
    """
    winners = list_winners(state, bankrupt, market)
    total = sum(gain for _, gain in winners)
    cuts = 0
    for account, gain in winners:
        keep = gain * (total - short_quote) // total if short_quote < total else 0
        cut = gain - keep
        if cut == 0:
            continue
        cuts += cut
        position = state.position(account, market)
        is_isolated = position.mode == ISOLATED
        if is_isolated:
            position.margin_quote -= cut
            position.is_called = False
        else:
            wallet = state.wallet(account, state.rules(market).asset)
            wallet.balance_quote -= cut
            wallet.is_called = False
        emit(
            state,
            HAIRCUT,
            account=account,
            market=market,
            amount_quote=cut,
            order_id=deficit_id,
            margin_quote=-cut if is_isolated else 0,
            count=len(winners),
        )
    return cuts
