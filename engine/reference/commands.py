"""What each command does and when it is refused: one function per command kind, with the checks they share."""

from collections.abc import Callable

from engine import codes
from engine.codes import (
    AMEND,
    ASSIGN,
    BUY,
    CANCEL,
    CANCEL_ALL,
    CLOCK,
    CROSS,
    DEPOSIT,
    EXTERNAL,
    FOK,
    FUND_DEPOSIT,
    FUNDING,
    GTC,
    INDEX,
    ISOLATED,
    LEVEL,
    MARK,
    MARKET_ORDER,
    MOVE_MARGIN,
    OFF_BOOK,
    PLACE,
    PORTFOLIO,
    POST_ONLY,
    PPB,
    PPM,
    PRINT,
    REDUCE_ONLY,
    SELL,
    SET_LEVERAGE,
    SET_MARGIN_MODE,
    SET_TIERS,
    STP_NEWEST,
    STP_OLDEST,
    WITHDRAW,
)
from engine.reference.book import Order, is_inside
from engine.reference.checks import (
    Command,
    accept,
    check_deposit,
    check_interest,
    check_known_mark,
    check_order_qty,
    check_outside_money,
    check_price,
    check_reach,
    check_side,
)
from engine.reference.ledger import (
    State,
    apply_fill,
    compute_value,
    count_open_interest,
    count_reducible,
    emit,
    enter_market,
    find_funding_price,
    is_cash,
    open_part,
    raise_fund,
    select_tier,
    touch_cross,
    touch_position,
)
from engine.reference.margin import (
    compute_collar,
    compute_equity,
    compute_free,
    compute_initial_margin,
    compute_withdrawable,
    domain_of,
    is_covered,
)
from engine.reference.matching import (
    cancel_account,
    cancel_order,
    count_available,
    count_outside,
    drop_order,
    fill_print,
    is_crossing_accounts,
    match_order,
    report_canceled,
    rest_order,
    set_level,
)
from engine.reference.portfolio import has_grids, list_settling, switch_portfolio_mode
from engine.reference.risk import change_table, move_mark, owe_settlement

OF_ACCOUNTS = {
    PLACE,
    CANCEL,
    CANCEL_ALL,
    AMEND,
    DEPOSIT,
    WITHDRAW,
    MOVE_MARGIN,
    SET_LEVERAGE,
    SET_MARGIN_MODE,
    ASSIGN,
}
WITHOUT_MARKET = {CLOCK, CANCEL, AMEND}
PLACE_FLAGS = MARKET_ORDER | POST_ONLY | REDUCE_ONLY | STP_NEWEST | STP_OLDEST
RECORDED_QTY_MAX = 1 << 40  # the largest quantity of a level or a print (OUT-002, OUT-004)


# ---------------------------------------------------------------- checks that commands share


def check_common(state: State, command: Command) -> int:
    """Return the first reject code common to all commands, 0 for none.

    Source: CMD-002.
    """
    if command.kind not in COMMANDS:
        return codes.UNKNOWN_COMMAND
    if command.ts_ns < state.ts_ns:
        return codes.TIME_REVERSED
    if command.kind not in WITHOUT_MARKET and not 0 <= command.market < len(state.setup.markets):
        return codes.UNKNOWN_MARKET
    if command.kind in OF_ACCOUNTS and not 1 <= command.account < 1 << 31:
        return codes.UNKNOWN_ACCOUNT
    return 0


# ---------------------------------------------------------------- orders


def place(state: State, command: Command) -> int:
    """Check and enter an order.

    Source: MATCH-011, MATCH-005, MATCH-008.
    """
    market, side = command.market, command.side
    code = check_place_form(state, command)
    if code:
        return code
    limit = command.price_tick
    if command.flags & MARKET_ORDER:
        limit = compute_collar(state, market, side, state.rules(market).order_collar_ppm)
    code, qty = check_entry(state, command.account, market, side, limit, command.qty_lot, command.flags, command.tif)
    if code:
        return code
    accept(state, command, side=side, order_id=command.order_id, price_tick=limit, qty_lot=qty, flags=command.flags)
    enter_market(state, command.account, market)
    is_resting = command.tif == GTC and not command.flags & MARKET_ORDER
    enter(state, command.account, market, side, limit, qty, command.order_id, command.flags, is_resting)
    return 0


def check_place_form(state: State, command: Command) -> int:
    """Return the reject code of what is wrong with a place by itself, 0 for nothing.

    Source: MATCH-011, MATCH-005, CMD-003.
    """
    if command.side not in (BUY, SELL):
        return codes.BAD_SIDE
    if command.flags & ~PLACE_FLAGS or command.tif not in (GTC, codes.IOC, FOK):
        return codes.BAD_FLAGS
    if command.flags & POST_ONLY and (command.flags & MARKET_ORDER or command.tif != GTC):
        return codes.BAD_FLAGS
    if command.order_id < 1:
        return codes.BAD_ORDER_ID
    code = check_order_qty(state, command, command.market)
    if code == 0 and not command.flags & MARKET_ORDER:
        code = check_price(state, command)
    if code == 0 and command.order_id in state.orders:
        code = codes.DUPLICATE_ORDER_ID
    return code or check_known_mark(state, command.market)


def check_entry(
    state: State,
    account: int,
    market: int,
    side: int,
    limit_tick: int,
    qty_lot: int,
    flags: int,
    tif: int,
    without: Order | None = None,
) -> tuple[int, int]:
    """Return the reject code of an order that would enter the book now, and its quantity, cut if reduce-only.

    Source: MATCH-011, MATCH-006, MATCH-007, MATCH-008, MARGIN-006.
    """
    code = 0
    if not flags & REDUCE_ONLY:
        code = check_interest(state, market, qty_lot) or check_reach(state, account, market, side, qty_lot, without)
    code = code or check_outside_money(state, market)
    if code:
        return code, 0
    if flags & REDUCE_ONLY:
        qty_lot = min(qty_lot, count_reducible(state, account, market, side))
        if qty_lot == 0:
            return codes.NOTHING_TO_REDUCE, 0
    best = state.books[market].best_price(-side)
    if flags & POST_ONLY and best and is_inside(side, limit_tick, best):
        return codes.POST_ONLY_CROSSES, 0
    if tif == FOK and count_available(state, account, market, side, limit_tick, flags) < qty_lot:
        return codes.FOK_UNFILLABLE, 0
    if not flags & REDUCE_ONLY and not is_covered(state, account, market, side, qty_lot, limit_tick, without):
        return codes.INSUFFICIENT_MARGIN, 0
    return 0, qty_lot


def enter(
    state: State,
    account: int,
    market: int,
    side: int,
    limit_tick: int,
    qty_lot: int,
    order_id: int,
    flags: int,
    is_resting: bool,
) -> None:
    """Let an order trade while it crosses, then rest, or cancel what is left.

    Source: MATCH-002, MATCH-003.
    """
    left = match_order(state, account, market, side, limit_tick, qty_lot, order_id, flags)
    if left and is_resting:
        rest_order(state, account, market, side, limit_tick, left, order_id, flags)
    elif left:
        report_canceled(state, codes.BY_IOC, account, market, side, order_id, limit_tick, left)


def find_own(state: State, command: Command) -> Order | None:
    """Return the resting order a cancel or amend means.

    Source: CMD-003.
    """
    order = state.orders.get(command.order_id)
    return order if order is not None and order.account == command.account else None


def cancel(state: State, command: Command) -> int:
    """Cancel one order.

    Source: CMD-003, CMD-004.
    """
    order = find_own(state, command)
    if order is None:
        return codes.UNKNOWN_ORDER
    cancel_order(state, order, codes.BY_USER)
    return 0


def cancel_all(state: State, command: Command) -> int:
    """Cancel the account's orders in a market.

    Source: MATCH-010, CMD-004.
    """
    accept(state, command)
    cancel_account(state, command.account, command.market, codes.BY_USER)
    return 0


def amend(state: State, command: Command) -> int:
    """Change an order: a pure decrease keeps its place, anything else is a new arrival.

    Source: MATCH-004.
    """
    order = find_own(state, command)
    if order is None:
        return codes.UNKNOWN_ORDER
    market, side, price, qty = order.market, order.side, command.price_tick, command.qty_lot
    code = check_order_qty(state, command, market)
    if code:
        return code
    if not 1 <= price <= state.rules(market).price_max_tick:
        return codes.BAD_PRICE
    is_decrease = price == order.price_tick and qty < order.qty_lot
    if not is_decrease:
        code, qty = check_entry(state, order.account, market, side, price, qty, order.flags, GTC, without=order)
        if code:
            return code
    emit(
        state,
        codes.AMENDED,
        account=order.account,
        market=market,
        side=side,
        order_id=order.order_id,
        price_tick=price,
        qty_lot=qty,
    )
    if is_decrease:
        order.qty_lot = qty
    else:
        drop_order(state, order)
        enter(state, order.account, market, side, price, qty, order.order_id, order.flags, is_resting=True)
    return 0


# ---------------------------------------------------------------- money


def deposit(state: State, command: Command) -> int:
    """Add to the account's wallet.

    Source: CMD-005.
    """
    if command.amount_quote < 1:
        return codes.BAD_AMOUNT
    code = check_deposit(state, command.market, command.amount_quote)
    if code:
        return code
    asset = state.rules(command.market).asset
    state.wallet(command.account, asset).balance_quote += command.amount_quote
    state.assets[asset].deposits_quote += command.amount_quote
    touch_cross(state, command.account, asset)
    accept(state, command, amount_quote=command.amount_quote)
    return 0


def withdraw(state: State, command: Command) -> int:
    """Take from the account's wallet what is not needed.

    Source: CMD-005, MARGIN-006.
    """
    if command.amount_quote < 1:
        return codes.BAD_AMOUNT
    asset = state.rules(command.market).asset
    if command.amount_quote > compute_withdrawable(state, command.account, asset):
        return codes.INSUFFICIENT_MARGIN
    state.wallet(command.account, asset).balance_quote -= command.amount_quote
    state.assets[asset].withdrawals_quote += command.amount_quote
    touch_cross(state, command.account, asset)
    accept(state, command, amount_quote=command.amount_quote)
    return 0


def fund_deposit(state: State, command: Command) -> int:
    """Add to the market's fund.

    Source: CMD-005, FUND-002.
    """
    if command.amount_quote < 1:
        return codes.BAD_AMOUNT
    code = check_deposit(state, command.market, command.amount_quote)
    if code:
        return code
    rules = state.rules(command.market)
    raise_fund(state, rules.fund, command.amount_quote)
    state.assets[rules.asset].deposits_quote += command.amount_quote
    emit(
        state,
        codes.ACCEPTED,
        code=FUND_DEPOSIT,
        market=command.market,
        other=rules.fund,
        amount_quote=command.amount_quote,
    )
    return 0


def move_margin(state: State, command: Command) -> int:
    """Move margin between the wallet and an isolated position.

    Source: MARGIN-009.
    """
    account, market, amount = command.account, command.market, command.amount_quote
    if amount == 0:
        return codes.BAD_AMOUNT
    position = state.position(account, market)
    if position.mode != ISOLATED or position.qty_lot == 0:
        return codes.NOT_ISOLATED
    asset = state.rules(market).asset
    if amount > 0 and amount > compute_withdrawable(state, account, asset):
        return codes.INSUFFICIENT_MARGIN
    if amount < 0:
        equity_after = compute_equity(state, domain_of(state, account, market)) + amount
        need = compute_initial_margin(state, account, market, abs(position.qty_lot))
        if equity_after < need or position.margin_quote + amount < 0:
            return codes.INSUFFICIENT_MARGIN
    state.wallet(account, asset).balance_quote -= amount
    position.margin_quote += amount
    touch_position(state, account, market)
    accept(state, command, amount_quote=amount, margin_quote=amount)
    return 0


# ---------------------------------------------------------------- settings


def set_leverage(state: State, command: Command) -> int:
    """Set the account's leverage in a market; it moves no margin.

    Source: MARGIN-007.
    """
    account, market, leverage = command.account, command.market, command.amount_quote
    if leverage < 1 or -(-PPM // leverage) < select_tier(state, market, 0)[1]:
        return codes.BAD_LEVERAGE
    position, asset = state.position(account, market), state.rules(market).asset
    kept, free_before = position.leverage_ppm, compute_free(state, account, asset)
    position.leverage_ppm = -(-PPM // leverage)
    free_after = compute_free(state, account, asset)
    if free_after < 0 and free_after < free_before:
        position.leverage_ppm = kept
        return codes.INSUFFICIENT_MARGIN
    accept(state, command, amount_quote=leverage)
    return 0


def set_margin_mode(state: State, command: Command) -> int:
    """Set the account's margin mode where it has neither position nor order: in a market, or in all that settle alike.

    Source: MARGIN-008, PORT-002.
    """
    account, market, mode = command.account, command.market, command.amount_quote
    asset = state.rules(market).asset
    known = (CROSS, PORTFOLIO) if is_cash(state, market) else (CROSS, ISOLATED, PORTFOLIO)
    if mode not in known or (mode == PORTFOLIO and not has_grids(state, asset)):
        return codes.BAD_AMOUNT
    wallet = state.wallet(account, asset)
    is_switch = wallet.is_portfolio or mode == PORTFOLIO
    is_change = not (wallet.is_portfolio and mode == PORTFOLIO)
    concerned = list_settling(state, asset) if is_switch else [market]
    if is_change and any(has_stake(state, account, each) for each in concerned):
        return codes.POSITION_OPEN
    if is_switch:
        switch_portfolio_mode(state, account, asset, mode)
    if mode != PORTFOLIO:
        state.position(account, market).mode = mode
    accept(state, command, amount_quote=mode)
    return 0


def has_stake(state: State, account: int, market: int) -> bool:
    """Return whether the account has a position or any order in the market (MARGIN-008)."""
    orders = state.orders.values()
    has_orders = any(order.account == account and order.market == market for order in orders)
    return has_orders or state.position(account, market).qty_lot != 0


# ---------------------------------------------------------------- the recorded world


def index(state: State, command: Command) -> int:
    """Store the index price; it is the mark where the mark model is `index`.

    Source: STEP-002.
    """
    code = check_price(state, command)
    if code:
        return code
    state.indexes[command.market] = command.price_tick
    if state.rules(command.market).mark_model == codes.MARK_INDEX:
        move_mark(state, command.market, command.price_tick)
        owe_settlement(state, command.market)
    return 0


def mark(state: State, command: Command) -> int:
    """Take a recorded mark price where the mark model is `recorded`.

    Source: STEP-002.
    """
    code = check_price(state, command)
    if code:
        return code
    if state.rules(command.market).mark_model == codes.MARK_RECORDED:
        move_mark(state, command.market, command.price_tick)
        owe_settlement(state, command.market)
    return 0


def level(state: State, command: Command) -> int:
    """Set the outside's total at a price.

    Source: OUT-002, OUT-003.
    """
    market = command.market
    code = check_side(state, command)
    if code == 0 and not 0 <= command.qty_lot <= RECORDED_QTY_MAX:
        code = codes.BAD_QTY
    code = code or check_price(state, command)
    if code:
        return code
    increase = command.qty_lot - count_outside(state, market, command.side, command.price_tick)
    if increase > 0 and is_crossing_accounts(state, market, command.side, command.price_tick):
        code = check_interest(state, market, increase) or check_outside_money(state, market)
        if code:
            return code
    set_level(state, market, command.side, command.price_tick, command.qty_lot)
    return 0


def print(state: State, command: Command) -> int:
    """Take a recorded trade.

    Source: OUT-004, NUM-006.
    """
    market = command.market
    code = check_side(state, command)
    if code == 0 and command.flags & ~OFF_BOOK:
        code = codes.BAD_FLAGS
    if code == 0 and not 1 <= command.qty_lot <= RECORDED_QTY_MAX:
        code = codes.BAD_QTY
    code = code or check_price(state, command)
    if code or command.flags & OFF_BOOK:
        return code
    code = check_outside_money(state, market)
    if code:
        return code
    room = max(0, state.rules(market).open_interest_max_lot - count_open_interest(state, market))
    fill_print(state, market, command.side, command.price_tick, min(command.qty_lot, room))
    return 0


def funding(state: State, command: Command) -> int:
    """Check a funding rate; the payments follow the mark in the step.

    Source: FUND-001, FUND-016, STEP-001.
    """
    if not -PPB <= command.amount_quote <= PPB:
        return codes.BAD_AMOUNT
    if not find_funding_price(state, command.market):
        return codes.NO_MARK
    return check_known_mark(state, command.market)


def clock(state: State, command: Command) -> int:
    """Move time, which the step does for every command.

    Source: CMD-005.
    """
    return 0


def assign(state: State, command: Command) -> int:
    """Bring a position from elsewhere, against the outside and off book.

    Source: POS-006.
    """
    account, market = command.account, command.market
    side, qty, price, amount = command.side, command.qty_lot, command.price_tick, command.amount_quote
    code = check_side(state, command) or check_order_qty(state, command, market) or check_price(state, command)
    if code == 0 and amount < 0:
        code = codes.BAD_AMOUNT
    if code == 0 and has_stake(state, account, market):
        code = codes.POSITION_OPEN
    code = code or check_known_mark(state, market) or check_interest(state, market, qty)
    code = code or check_deposit(state, market, amount) or check_outside_money(state, market)
    if code:
        return code
    asset = state.rules(market).asset
    position = state.position(account, market)
    is_isolated = position.mode == ISOLATED
    enter_market(state, account, market)
    state.assets[asset].deposits_quote += amount
    if is_isolated:
        # The whole collateral is the position's margin, whatever POS-004 would ask for.
        position.margin_quote += amount
        position.qty_lot, position.opened_seq = side * qty, state.seq
        position.cost_quote = compute_value(state, market, price, side * qty)
        touch_position(state, account, market)
    else:
        state.wallet(account, asset).balance_quote += amount
        open_part(state, account, market, side, qty, compute_value(state, market, price, side * qty))
    apply_fill(state, EXTERNAL, market, -side, qty, price, 0)
    margin = amount if is_isolated else 0
    accept(state, command, side=side, qty_lot=qty, price_tick=price, amount_quote=amount, margin_quote=margin)
    return 0


def set_tiers(state: State, command: Command) -> int:
    """Put another of the market's tier tables in force (TIER-002)."""
    if not 0 <= command.amount_quote < len(state.rules(command.market).tables):
        return codes.BAD_AMOUNT
    change_table(state, command.market, command.amount_quote)
    return 0


# Each checks itself before it changes anything, and returns a reject code, or 0 when it was applied.
COMMANDS: dict[int, Callable[[State, Command], int]] = {
    PLACE: place,
    CANCEL: cancel,
    CANCEL_ALL: cancel_all,
    AMEND: amend,
    DEPOSIT: deposit,
    WITHDRAW: withdraw,
    MOVE_MARGIN: move_margin,
    SET_LEVERAGE: set_leverage,
    SET_MARGIN_MODE: set_margin_mode,
    INDEX: index,
    MARK: mark,
    LEVEL: level,
    PRINT: print,
    FUNDING: funding,
    FUND_DEPOSIT: fund_deposit,
    CLOCK: clock,
    ASSIGN: assign,
    SET_TIERS: set_tiers,
}
