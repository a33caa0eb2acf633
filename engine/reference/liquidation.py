"""What happens to those who cannot hold their positions: cancel, walk the book, take over."""

from engine.codes import (
    BACKSTOP_TAKEOVER,
    BOOK_EMPTY,
    BY_LIQUIDATION,
    BY_REDUCE_ONLY,
    EXTERNAL,
    FUND_SHORT,
    LIQUIDATION_ENDED,
    LIQUIDATION_FILL,
    LIQUIDATION_STARTED,
    TAKEOVER,
)
from engine.reference import house
from engine.reference.adl import deleverage
from engine.reference.book import Order
from engine.reference.closing import Closing, close_share, report_domain, start_closing
from engine.reference.deficit import pay_deficit, report_deficit, take_deficit_id
from engine.reference.house import can_carry, is_for_vault
from engine.reference.ledger import State, apply_fill, compute_fee, compute_value, credit_fund, debit_fund, emit
from engine.reference.margin import (
    Domain,
    compute_collar,
    compute_equity,
    compute_position_maintenance,
    is_liquidatable,
    list_positions,
)
from engine.reference.matching import cancel_account, cancel_order, count_fillable, fill_maker


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
    is_whole = is_for_vault(state, domain)
    while list_positions(state, domain) and (is_whole or is_liquidatable(state, domain)):
        market = min(
            list_positions(state, domain),
            key=lambda market: (-compute_position_maintenance(state, domain.account, market), market),
        )
        closing = start_closing(state, domain, market)
        closed_lot += closing.left_lot
        close_position(state, closing, is_whole)
        waived += closing.waived_quote
    state.assets[domain.asset].waived_quote += waived
    report_domain(state, LIQUIDATION_ENDED, domain, qty_lot=closed_lot, fee_quote=waived)


def cover_wallet(state: State, domain: Domain) -> None:
    """Make a flat domain with a negative wallet whole, with the market of the account's last fill in the asset.

    Source: LIQ-011.
    """
    wallet = state.wallet(domain.account, domain.asset)
    shortfall = -compute_equity(state, domain)
    wallet.balance_quote += shortfall
    pay_deficit(state, domain, wallet.last_market, take_deficit_id(state), shortfall)


def close_position(state: State, closing: Closing, is_whole: bool) -> None:
    """Close the whole position: through the book, then by the house or the queue, then with the outside.

    With `is_whole` the house takes it over before the book is touched, if it can carry it.

    Source: LIQ-004, LIQ-008, LIQ-009, HOUSE-004, HOUSE-005.
    """
    market, qty = closing.market, state.position(closing.domain.account, closing.market).qty_lot
    if is_whole and can_carry(state, market, qty):
        house.take_over(state, closing)
        return
    reason = walk_book(state, closing)
    qty = state.position(closing.domain.account, market).qty_lot
    is_takeover = state.rules(market).backstop == BACKSTOP_TAKEOVER
    if closing.left_lot and is_takeover and can_carry(state, market, qty):
        house.take_over(state, closing)
    if closing.left_lot:
        deleverage(state, closing, reason)
    if closing.left_lot:
        take_over(state, closing)


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
