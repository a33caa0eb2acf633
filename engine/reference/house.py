"""The house: account -1, whose money is the market's fund; what it takes over, and how it gets rid of it."""

from engine.codes import (
    BACKSTOP_VAULT,
    BUY,
    BY_REDUCE_ONLY,
    FUNDING_PAYMENT,
    HOUSE,
    PPB,
    PPM,
    SATURATED,
    SELL,
    TAKEN_AT_MARK,
    TAKEOVER,
    TRADE,
    UNWIND_IMMEDIATE,
    UNWIND_NONE,
    UNWIND_STEPPED,
)
from engine.reference.book import is_inside
from engine.reference.closing import Closing, close_share
from engine.reference.deficit import pay_deficit, take_deficit_id
from engine.reference.ledger import (
    State,
    book_variation,
    compute_fee,
    compute_notional,
    compute_value,
    credit_fund,
    debit_fund,
    emit,
    is_cash,
    sign,
    split_cost,
)
from engine.reference.margin import (
    Domain,
    compute_collar,
    compute_equity,
    compute_maintenance,
    compute_position_maintenance,
    is_portfolio,
    list_positions,
)
from engine.reference.matching import cancel_order, count_fillable, fill_maker


def hold_lots(state: State, market: int, side: int, qty_lot: int, value_quote: int) -> int:
    """Add `qty_lot` lots on `side` to the house's position at a signed value; return what it realised by closing.

    Source: HOUSE-002, CASH-003.
    """
    position = state.position(HOUSE, market)
    before = position.qty_lot
    realised = 0
    if is_cash(state, market):
        book_variation(state, HOUSE, market, side, qty_lot, value_quote)
    else:
        closed = min(qty_lot, abs(before)) if before * side < 0 else 0
        part = value_quote * closed // qty_lot
        if closed:
            cost = split_cost(position, closed)
            realised = -part - cost
            position.cost_quote -= cost
            position.qty_lot += side * closed
        if qty_lot > closed:
            if position.qty_lot == 0:
                position.opened_seq = state.seq
            position.qty_lot += side * (qty_lot - closed)
            position.cost_quote += value_quote - part
    if before == 0 or position.qty_lot == 0:
        set_step(state, market)
    return realised


def set_step(state: State, market: int) -> None:
    """Have the next step fall due one interval from now where the house unwinds in steps, none if it is flat.

    Source: HOUSE-007.
    """
    rules = state.rules(market)
    state.unwind_due_ns[market] = 0
    if rules.unwind == UNWIND_STEPPED and state.position(HOUSE, market).qty_lot:
        state.unwind_due_ns[market] = min(state.event_ts_ns, SATURATED) + rules.unwind_interval_ns


def pay_house(state: State, market: int, flow_quote: int, side: int = 0, price_tick: int = 0, qty_lot: int = 0) -> None:
    """Bring a gain of the house to the fund, or take a loss from it; what the fund cannot pay is a deficit.

    Source: HOUSE-003.
    """
    if flow_quote >= 0:
        credit_fund(state, HOUSE, market, flow_quote, 0)
        return
    short = -flow_quote - debit_fund(state, HOUSE, market, -flow_quote, 0)
    if short:
        domain = Domain(HOUSE, state.rules(market).asset, -1)
        pay_deficit(state, domain, market, take_deficit_id(state), short, side, price_tick, qty_lot)


def fund_house(state: State, market: int, rate_ppb: int, price_tick: int) -> None:
    """Let the house pay or receive funding on its value at a price, before all others.

    Source: FUND-001, FUND-016, HOUSE-003, INV-004.
    """
    position = state.positions.get((HOUSE, market))
    if position is None or position.qty_lot == 0:
        return
    notional = compute_notional(state, market, price_tick, position.qty_lot)
    received = -rate_ppb * sign(position.qty_lot) * notional // PPB
    if received == 0:
        return
    state.assets[state.rules(market).asset].rounding_quote -= received
    emit(
        state,
        FUNDING_PAYMENT,
        account=HOUSE,
        market=market,
        amount_quote=received,
        qty_lot=position.qty_lot,
        mark_tick=state.marks[market],
    )
    pay_house(state, market, received)


# ---------------------------------------------------------------- taking over


def can_carry(state: State, market: int, qty_lot: int) -> bool:
    """Return whether the house may take over signed `qty_lot` lots.

    Source: HOUSE-006.
    """
    rules = state.rules(market)
    if rules.carry_ppm == 0:
        return True
    before = after = 0
    for other in range(len(state.setup.markets)):
        if state.rules(other).fund == rules.fund:
            held = state.positions[HOUSE, other].qty_lot if (HOUSE, other) in state.positions else 0
            before += abs(compute_value(state, other, state.marks[other], held))
            held += qty_lot if other == market else 0
            after += abs(compute_value(state, other, state.marks[other], held))
    return after <= state.funds[rules.fund].balance_quote * rules.carry_ppm // PPM or after <= before


def is_for_vault(state: State, domain: Domain) -> bool:
    """Return whether a vault takes the domain over as a whole before the book is touched.

    Source: HOUSE-005.
    """
    markets = list_positions(state, domain)
    if any(state.rules(market).backstop != BACKSTOP_VAULT for market in markets):
        return False
    level = 0
    for market in markets:
        need = compute_position_maintenance(state, domain.account, market)
        level += -(-need * state.rules(market).vault_below_ppm // PPM)
    if is_portfolio(state, domain):
        lowest = min(state.rules(market).vault_below_ppm for market in markets)
        level = -(-compute_maintenance(state, domain) * lowest // PPM)
    return compute_equity(state, domain) < level


def take_over(state: State, closing: Closing) -> None:
    """Let the house take over what is left of a liquidated position; its domain books the bankruptcy value.

    Source: HOUSE-004, LIQ-010.
    """
    market, qty, mark = closing.market, closing.left_lot, state.marks[closing.market]
    owed = closing.bankruptcy_quote
    value = owed
    if state.rules(market).takeover_price == TAKEN_AT_MARK:
        value = compute_value(state, market, mark, closing.sign * qty)
    margin = close_share(state, closing, qty, owed)
    realised = hold_lots(state, market, closing.sign, qty, value)
    deficit_id = take_deficit_id(state) if value < owed else 0
    emit(
        state,
        TAKEOVER,
        account=closing.domain.account,
        other=HOUSE,
        market=market,
        side=closing.side,
        qty_lot=qty,
        price_tick=mark,
        order_id=deficit_id,
        margin_quote=margin,
        amount_quote=max(0, owed - value),
        other_amount_quote=value,
        bankruptcy_tick=closing.bankruptcy_tick,
        mark_tick=mark,
    )
    if value > owed:
        credit_fund(state, closing.domain.account, market, value - owed, 0)
    elif value < owed:
        pay_deficit(state, closing.domain, market, deficit_id, owed - value, closing.side, mark, qty)
    pay_house(state, market, realised, closing.side, mark, qty)


# ---------------------------------------------------------------- unwinding


def plan_step(state: State, market: int, side: int, held_lot: int) -> tuple[int, int]:
    """Return limit and quantity of one step, no quantity where there is no mid.

    Source: HOUSE-007.
    """
    rules, book = state.rules(market), state.books[market]
    bid, ask = book.best_price(BUY), book.best_price(SELL)
    if not bid or not ask:
        return 0, 0
    if side == BUY:
        limit = min((bid + ask) * (PPM + rules.unwind_range_ppm) // (2 * PPM), rules.price_max_tick)
    else:
        limit = max(-(-(bid + ask) * (PPM - rules.unwind_range_ppm) // (2 * PPM)), 1)
    qty = held_lot
    if held_lot > rules.unwind_full_lot:
        qty = -(-held_lot * rules.unwind_share_ppm // PPM)
    depth = sum(order.qty_lot for order in book.iterate(-side) if is_inside(side, limit, order.price_tick))
    return limit, min(qty, -(-depth * rules.unwind_depth_ppm // PPM))


def plan_all(state: State, market: int, side: int, held_lot: int) -> tuple[int, int]:
    """Return limit and quantity of an order for everything.

    Source: HOUSE-007.
    """
    rules = state.rules(market)
    if rules.unwind_range_ppm:
        return compute_collar(state, market, side, rules.unwind_range_ppm), held_lot
    return (rules.price_max_tick if side == BUY else 1), held_lot


def is_due(state: State, market: int) -> bool:
    """Return whether the house sends an order in a market now; a step that is due puts off the next.

    Source: HOUSE-007, CASH-005.
    """
    rules = state.rules(market)
    position = state.positions.get((HOUSE, market))
    if rules.unwind == UNWIND_NONE or position is None or position.qty_lot == 0:
        return False
    if rules.unwind == UNWIND_IMMEDIATE:
        return not is_cash(state, market) or rules.asset in state.settled
    if state.event_ts_ns < state.unwind_due_ns[market]:
        return False
    set_step(state, market)
    return True


def unwind(state: State, market: int) -> bool:
    """Send the house's order in a market, if one is due, and return whether it traded.

    Source: HOUSE-007, MATCH-008, CASH-001.
    """
    if not is_due(state, market):
        return False
    held = state.position(HOUSE, market).qty_lot
    side = SELL if held > 0 else BUY
    plan = plan_all if state.rules(market).unwind == UNWIND_IMMEDIATE else plan_step
    limit, left = plan(state, market, side, abs(held))
    has_traded = False
    while left:
        maker = state.books[market].find_crossed(side, limit)
        if maker is None:
            break
        qty = min(left, count_fillable(state, maker))
        if qty == 0:
            cancel_order(state, maker, BY_REDUCE_ONLY)
            continue
        trade_house(state, market, side, qty)
        left -= qty
        has_traded = True
    if has_traded and is_cash(state, market):
        state.owed.add(market)
    return has_traded


def trade_house(state: State, market: int, side: int, qty_lot: int) -> None:
    """Let the house trade with the first order of the book, which is inside its limit.

    Source: HOUSE-008.
    """
    rules = state.rules(market)
    maker = next(state.books[market].iterate(-side))
    price, maker_account, maker_id = maker.price_tick, maker.account, maker.order_id
    value = compute_value(state, market, price, side * qty_lot)
    realised = hold_lots(state, market, side, qty_lot, value)
    maker_fee, maker_margin = fill_maker(state, maker, qty_lot)
    if rules.unwind_last:
        state.lasts[market] = price
    balance = state.funds[rules.fund].balance_quote
    fee = min(compute_fee(value, rules.closeout_fee_ppm), max(0, balance + realised))
    state.assets[rules.asset].fees_quote += fee
    emit(
        state,
        TRADE,
        account=HOUSE,
        other=maker_account,
        market=market,
        side=side,
        price_tick=price,
        qty_lot=qty_lot,
        other_order_id=maker_id,
        fee_quote=fee,
        other_fee_quote=maker_fee,
        other_margin_quote=maker_margin,
        mark_tick=state.marks[market],
    )
    pay_house(state, market, realised - fee, side, price, qty_lot)
