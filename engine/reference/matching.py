"""How orders meet: the walk of an incoming order, what the outside's levels and prints do, and cancels."""

from engine.codes import (
    BY_REDUCE_ONLY,
    BY_SELF_TRADE,
    CANCELED,
    EXTERNAL,
    POST_ONLY,
    REDUCE_ONLY,
    STP_NEWEST,
    STP_OLDEST,
    TRADE,
)
from engine.reference.book import Order, is_inside
from engine.reference.ledger import State, apply_fill, count_reducible, emit

KEPT_FLAGS = POST_ONLY | REDUCE_ONLY | STP_NEWEST | STP_OLDEST  # what a resting order remembers of its flags


def take_priority(state: State) -> int:
    """Return the next place in time order.

    Source: MATCH-001.
    """
    state.priority += 1
    return state.priority


def rest_order(
    state: State, account: int, market: int, side: int, price_tick: int, qty_lot: int, order_id: int, flags: int
) -> None:
    """Queue an order at the tail of its price level.

    Source: MATCH-003.
    """
    kept = flags & KEPT_FLAGS
    order = Order(order_id, account, market, side, price_tick, qty_lot, kept, take_priority(state))
    state.books[market].append(order)
    if account != EXTERNAL:
        state.orders[order_id] = order


def drop_order(state: State, order: Order) -> None:
    """Take an order out of the exchange; its id is free again (CMD-003)."""
    state.books[order.market].remove(order)
    state.orders.pop(order.order_id, None)


def report_canceled(
    state: State, reason: int, account: int, market: int, side: int, order_id: int, price_tick: int, qty_lot: int
) -> None:
    """Emit what was canceled of an order, and why.

    Source: EVT-001.
    """
    emit(
        state,
        CANCELED,
        code=reason,
        account=account,
        market=market,
        side=side,
        order_id=order_id,
        price_tick=price_tick,
        qty_lot=qty_lot,
    )


def cancel_order(state: State, order: Order, reason: int) -> None:
    """Cancel a resting order."""
    drop_order(state, order)
    report_canceled(
        state, reason, order.account, order.market, order.side, order.order_id, order.price_tick, order.qty_lot
    )


def cancel_account(state: State, account: int, market: int, reason: int) -> None:
    """Cancel the account's orders in a market, the most recently queued first.

    Source: MATCH-010.
    """
    mine = [order for order in state.orders.values() if order.account == account and order.market == market]
    for order in sorted(mine, key=lambda order: order.priority, reverse=True):
        cancel_order(state, order, reason)


def count_fillable(state: State, maker: Order) -> int:
    """Return how much a resting order can fill now: a reduce-only one at most what its owner's position allows.

    Source: MATCH-008.
    """
    if not maker.flags & REDUCE_ONLY:
        return maker.qty_lot
    return min(maker.qty_lot, count_reducible(state, maker.account, maker.market, maker.side))


def fill_maker(state: State, maker: Order, qty_lot: int) -> tuple[int, int]:
    """Book the resting order's side of a fill, and take the quantity off the book.

    Returns
    -------
    tuple of int
        The maker's fee, and the change of its isolated margin.

    Source: POS-005.
    """
    fee_ppm = state.rules(maker.market).maker_fee_ppm
    booked = apply_fill(state, maker.account, maker.market, maker.side, qty_lot, maker.price_tick, fee_ppm)
    maker.qty_lot -= qty_lot
    if maker.qty_lot == 0:
        drop_order(state, maker)
    return booked


def trade(state: State, account: int, order_id: int, maker: Order, qty_lot: int) -> None:
    """Let an incoming order trade with a resting one, at the resting order's price.

    Source: MATCH-001, POS-005, STEP-002.
    """
    market = maker.market
    taker_ppm = state.rules(market).taker_fee_ppm
    fee, margin = apply_fill(state, account, market, -maker.side, qty_lot, maker.price_tick, taker_ppm)
    maker_fee, maker_margin = fill_maker(state, maker, qty_lot)
    state.lasts[market] = maker.price_tick
    emit(
        state,
        TRADE,
        account=account,
        other=maker.account,
        market=market,
        side=-maker.side,
        price_tick=maker.price_tick,
        qty_lot=qty_lot,
        order_id=order_id,
        other_order_id=maker.order_id,
        fee_quote=fee,
        other_fee_quote=maker_fee,
        margin_quote=margin,
        other_margin_quote=maker_margin,
        mark_tick=state.marks[market],
    )


def match_order(
    state: State, account: int, market: int, side: int, limit_tick: int, qty_lot: int, order_id: int, flags: int
) -> int:
    """Trade an incoming order while it crosses, and return what is left of it to rest or to cancel.

    Source: MATCH-001, MATCH-002, MATCH-008, MATCH-009.
    """
    left = qty_lot
    while left:
        maker = state.books[market].find_crossed(side, limit_tick)
        if maker is None:
            break
        if maker.account == account and flags & (STP_NEWEST | STP_OLDEST):
            if flags & STP_OLDEST:
                cancel_order(state, maker, BY_SELF_TRADE)
            if flags & STP_NEWEST:
                report_canceled(state, BY_SELF_TRADE, account, market, side, order_id, limit_tick, left)
                return 0
            continue
        qty = min(left, count_fillable(state, maker))
        if qty == 0:
            cancel_order(state, maker, BY_REDUCE_ONLY)
            continue
        trade(state, account, order_id, maker, qty)
        left -= qty
        if flags & REDUCE_ONLY:
            allowed = min(left, count_reducible(state, account, market, side))
            if allowed < left:
                report_canceled(state, BY_REDUCE_ONLY, account, market, side, order_id, limit_tick, left - allowed)
            left = allowed
    return left


def count_available(state: State, account: int, market: int, side: int, limit_tick: int, flags: int) -> int:
    """Return the quantity a fill-or-kill order may count on.

    Source: MATCH-007.
    """
    available = 0
    for order in state.books[market].iterate(-side):
        if not is_inside(side, limit_tick, order.price_tick):
            break
        if order.account == account and flags & (STP_NEWEST | STP_OLDEST):
            if flags & STP_NEWEST:
                break
            continue
        if not order.flags & REDUCE_ONLY:
            available += order.qty_lot
    return available


# ---------------------------------------------------------------- the outside


def count_outside(state: State, market: int, side: int, price_tick: int) -> int:
    """Return the outside's total at a price."""
    level = state.books[market].get_level(side, price_tick)
    return sum(order.qty_lot for order in level if order.account == EXTERNAL)


def is_crossing_accounts(state: State, market: int, side: int, price_tick: int) -> bool:
    """Return whether a level at this price would trade with accounts' orders.

    Source: OUT-003.
    """
    return state.books[market].find_crossed(side, price_tick, skip_outside=True) is not None


def shrink_outside(state: State, market: int, side: int, price_tick: int, qty_lot: int) -> None:
    """Take a decrease from the outside's most recently queued orders at a price.

    Source: OUT-002.
    """
    left = qty_lot
    for order in reversed(state.books[market].get_level(side, price_tick)):
        if order.account != EXTERNAL:
            continue
        taken = min(left, order.qty_lot)
        order.qty_lot -= taken
        left -= taken
        if order.qty_lot == 0:
            state.books[market].remove(order)


def grow_outside(state: State, market: int, side: int, price_tick: int, qty_lot: int) -> None:
    """Add to the outside's order at the very tail of a level, or queue a new one behind ours.

    Source: OUT-002.
    """
    level = state.books[market].get_level(side, price_tick)
    if level and level[-1].account == EXTERNAL:
        level[-1].qty_lot += qty_lot
    else:
        rest_order(state, EXTERNAL, market, side, price_tick, qty_lot, 0, 0)


def wipe_crossed_outside(state: State, market: int, side: int, price_tick: int) -> None:
    """Remove the outside's own opposite levels which a new level crosses or meets: newest wins, nothing trades.

    Source: OUT-003.
    """
    for order in list(state.books[market].iterate(-side)):
        if order.account == EXTERNAL and is_inside(side, price_tick, order.price_tick):
            state.books[market].remove(order)


def set_level(state: State, market: int, side: int, price_tick: int, qty_lot: int) -> None:
    """Make the outside's total at a price what was recorded; what crosses accounts' orders trades first.

    Source: OUT-002, OUT-003, OUT-005.
    """
    increase = qty_lot - count_outside(state, market, side, price_tick)
    if increase <= 0:
        shrink_outside(state, market, side, price_tick, -increase)
        return
    wipe_crossed_outside(state, market, side, price_tick)
    left = match_order(state, EXTERNAL, market, side, price_tick, increase, 0, 0)
    if left:
        grow_outside(state, market, side, price_tick, left)


def fill_print(state: State, market: int, side: int, price_tick: int, qty_lot: int) -> None:
    """Fill accounts' orders at or through a recorded trade, up to its quantity, and set the last price.

    Source: OUT-004, MATCH-008.
    """
    left = qty_lot
    while left:
        maker = state.books[market].find_crossed(side, price_tick, skip_outside=True)
        if maker is None:
            break
        qty = min(left, count_fillable(state, maker))
        if qty == 0:
            cancel_order(state, maker, BY_REDUCE_ONLY)
            continue
        trade(state, EXTERNAL, 0, maker, qty)
        left -= qty
    state.lasts[market] = price_tick
