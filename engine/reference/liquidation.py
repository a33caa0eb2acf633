"""What happens to those who cannot hold their positions: cancel, walk the book, take over."""

from engine.codes import (
    AFTER_FULL,
    BACKSTOP_TAKEOVER,
    BOOK_EMPTY,
    BY_REDUCE_ONLY,
    BY_SELF_TRADE,
    COOLDOWN,
    EXTERNAL,
    FUND_SHORT,
    GATE_ALWAYS,
    LINEAR,
    LIQUIDATION_ENDED,
    LIQUIDATION_FILL,
    LIQUIDATION_STARTED,
    LOSS_LIMIT,
    SHORTFALL_REFUSE,
    TAKEOVER,
)
from engine.reference import house
from engine.reference.adl import deleverage, is_fund_held
from engine.reference.book import Order
from engine.reference.closing import Closing, close_share, report_domain, start_closing
from engine.reference.deficit import pay_deficit, report_deficit, take_deficit_id
from engine.reference.house import can_carry, is_for_vault
from engine.reference.ledger import (
    State,
    apply_fill,
    compute_fee,
    compute_notional,
    compute_value,
    credit_fund,
    debit_fund,
    emit,
)
from engine.reference.margin import Domain, compute_equity, is_liquidatable, list_positions
from engine.reference.matching import cancel_order, count_fillable, fill_maker
from engine.reference.stages import (
    Attempt,
    cancel_scope,
    choose_market,
    compute_fund_part,
    compute_limit,
    compute_step,
    passes_gate,
)
from engine.reference.wake import TIME_MAX, cool_domain, rest_domain


def liquidate_domain(state: State, domain: Domain) -> None:
    """Liquidate a listed domain: cancel its orders, re-check, start, close, end; it rests if it is still liquidatable.

    Source: LIQ-001, LIQ-003, LIQ-004, LIQ-011, STAGE-001, WAKE-001.
    """
    attempt = Attempt(domain)
    first = choose_market(state, attempt)
    if first is None:
        first = state.wallet(domain.account, domain.asset).last_market
    cancel_scope(state, domain.account, first)
    if not is_liquidatable(state, domain):
        return
    report_domain(state, LIQUIDATION_STARTED, domain)
    if list_positions(state, domain):
        close_domain(state, attempt)
    else:
        cover_wallet(state, domain)
    state.assets[domain.asset].waived_quote += attempt.waived_quote
    code = 0
    if attempt.reason and is_liquidatable(state, domain):
        code = attempt.reason
        rest_domain(state, domain, attempt.due_ns)
    ended = {"qty_lot": attempt.closed_lot, "fee_quote": attempt.waived_quote, "code": code}
    report_domain(state, LIQUIDATION_ENDED, domain, **ended)


def close_domain(state: State, attempt: Attempt) -> None:
    """Close the domain's positions step by step while it is liquidatable, as far as the policies let it.

    Where a vault takes it over, each position goes in one step, to the last.

    Source: LIQ-004, STAGE-004, STAGE-009, WAKE-001, WAKE-002, HOUSE-005.
    """
    domain = attempt.domain
    attempt.is_whole = is_for_vault(state, domain)
    while attempt.is_whole or is_liquidatable(state, domain):
        market = choose_market(state, attempt)
        if market is None:
            return
        rules = state.rules(market)
        cancel_scope(state, domain.account, market)
        held = abs(state.position(domain.account, market).qty_lot)
        step = held if attempt.is_whole else compute_step(state, domain, market)
        before = attempt.closed_lot
        reason = close_step(state, attempt, start_closing(state, domain, market, step))
        attempt.reason = reason or attempt.reason
        cooled_ns = min(state.ts_ns + rules.cooldown_ns, TIME_MAX)
        is_patient = rules.after_share != AFTER_FULL
        attempt.due_ns = cooled_ns if is_patient and rules.cooldown_ns else 0
        if attempt.is_whole:
            continue
        if attempt.closed_lot > before and rules.cooldown_ns and (is_patient or step < held):
            if not is_patient:
                cool_domain(state, domain, cooled_ns)
            attempt.reason = reason or COOLDOWN
            return


def cover_wallet(state: State, domain: Domain) -> None:
    """Make a flat domain with a negative wallet whole, with the market of the account's last fill in the asset.

    Source: LIQ-011.
    """
    wallet = state.wallet(domain.account, domain.asset)
    shortfall = -compute_equity(state, domain)
    wallet.balance_quote += shortfall
    pay_deficit(state, domain, wallet.last_market, take_deficit_id(state), shortfall)


def close_step(state: State, attempt: Attempt, closing: Closing) -> int:
    """Close a step: through the book, then by the house or the queue, then with the outside.

    What a vault takes over as a whole goes to the house before the book is touched, if it can carry it.

    Returns
    -------
    int
        Why lots were left open, 0 where none were.

    Source: LIQ-004, LIQ-008, LIQ-009, STAGE-009, HOUSE-004, HOUSE-005.
    """
    step, market = closing.left_lot, closing.market
    if attempt.is_whole and can_carry(state, market, closing.sign * step):
        house.take_over(state, closing)
    reason = walk_book(state, attempt, closing) if closing.left_lot else 0
    attempt.closed_lot += step - closing.left_lot
    left = closing.left_lot
    may_pass = attempt.is_whole or passes_gate(state, attempt, market)
    is_takeover = state.rules(market).backstop == BACKSTOP_TAKEOVER
    if left and may_pass and is_takeover and can_carry(state, market, closing.sign * left):
        house.take_over(state, closing)
    if closing.left_lot and may_pass:
        deleverage(state, closing, reason)
    if closing.left_lot and (attempt.is_whole or state.rules(market).adl_gate == GATE_ALWAYS):
        take_over(state, closing)
        closing.left_lot = 0
    attempt.closed_lot += left - closing.left_lot
    attempt.waived_quote += closing.waived_quote
    if closing.left_lot:
        attempt.left_open.add(market)
        return reason
    return 0


def compute_gain(state: State, closing: Closing, qty_lot: int, price_tick: int) -> int:
    """Return what closing at a price brings in beyond the share of the bankruptcy value; a deficit is negative.

    Source: LIQ-005.
    """
    value = compute_value(state, closing.market, price_tick, closing.sign * qty_lot)
    return value - closing.share(qty_lot)


def cut_to_fund(state: State, closing: Closing, qty_lot: int, price_tick: int) -> int:
    """Return the largest quantity, up to `qty_lot`, whose deficit the market's fund can pay, if its trigger lets it.

    The deficit of `k` lots is the floor of `k` times a fixed number, so it only grows with `k` where it is positive,
    and halving finds the last quantity that can be paid.  In an inverse market rounding may add a unit to it: what is
    cut there is cut as if it did.

    Source: LIQ-007, INV-005, ADL-019, ADL-020.
    """
    balance = 0 if is_fund_held(state, closing) else state.funds[state.rules(closing.market).fund].balance_quote
    if -compute_gain(state, closing, qty_lot, price_tick) <= balance:
        return qty_lot
    lack = -compute_gain(state, closing, closing.left_lot, price_tick)
    extra = 0 if state.rules(closing.market).kind == LINEAR else 1
    low, high = 0, qty_lot
    while low < high:
        middle = (low + high + 1) // 2
        if lack * middle // closing.left_lot + extra <= balance:
            low = middle
        else:
            high = middle - 1
    return low


def walk_book(state: State, attempt: Attempt, closing: Closing) -> int:
    """Close through the book inside the limit, as far as the fund can pay, and return why it ended.

    Source: LIQ-005, LIQ-007, STAGE-001, STAGE-008.
    """
    rules = state.rules(closing.market)
    limit = compute_limit(state, closing)
    while closing.left_lot:
        maker = state.books[closing.market].find_crossed(closing.side, limit)
        if maker is None:
            return BOOK_EMPTY
        if maker.account == closing.domain.account:
            cancel_order(state, maker, BY_SELF_TRADE)
            continue
        wanted = min(closing.left_lot, count_fillable(state, maker))
        if wanted == 0:
            cancel_order(state, maker, BY_REDUCE_ONLY)
            continue
        qty = cut_to_fund(state, closing, wanted, maker.price_tick)
        if qty < wanted and rules.shortfall == SHORTFALL_REFUSE:
            return FUND_SHORT
        loss = max(0, -compute_gain(state, closing, qty, maker.price_tick))
        if loss and rules.fund_loss_max_quote and attempt.lost_quote + loss > rules.fund_loss_max_quote:
            return LOSS_LIMIT
        if qty:
            attempt.lost_quote += loss
            fill_liquidation(state, closing, maker, qty)
        if qty < wanted:
            return FUND_SHORT
    return BOOK_EMPTY


def fill_liquidation(state: State, closing: Closing, maker: Order, qty_lot: int) -> None:
    """Book one fill of a liquidation: the account's side at its share of the bankruptcy value, the rest by policy.

    Source: LIQ-005, LIQ-006, LIQ-007, STAGE-007, DEF-001, MARK-006.
    """
    market, account, price = closing.market, closing.domain.account, maker.price_tick
    rules = state.rules(market)
    value = compute_notional(state, market, price, qty_lot)
    gain = compute_gain(state, closing, qty_lot, price)
    due = max(0, compute_fee(value, rules.taker_fee_ppm))
    fee = min(due, max(0, gain))
    surplus = max(0, gain - fee)
    to_fund = compute_fund_part(state, market, value, surplus)
    fund_fee_due = compute_fee(value, rules.liquidation_fee_ppm)
    fund_fee = min(to_fund, fund_fee_due)
    closing.waived_quote += due - fee + fund_fee_due - fund_fee
    margin = close_share(state, closing, qty_lot, closing.share(qty_lot) + surplus - to_fund)
    state.assets[rules.asset].fees_quote += fee
    maker_account, maker_id = maker.account, maker.order_id
    maker_fee, maker_margin = fill_maker(state, maker, qty_lot)
    if rules.closeout_moves_last:
        state.lasts[market] = price
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
    credit_fund(state, account, market, to_fund, fund_fee)
    if gain < 0:
        paid = debit_fund(state, account, market, -gain, deficit_id)
        report_deficit(state, closing, deficit_id, price, qty_lot, -gain, other_amount_quote=paid)


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
