"""Commands of accounts: orders, money, margin settings.  Each returns OK or a reject code, and then changed nothing."""

import numpy as np

from engine._jit import helper, hot, inlined
from engine._probe import phase
from engine.codes import (
    ACCEPTED,
    AMENDED,
    ASSIGN,
    BAD_AMOUNT,
    BAD_FLAGS,
    BAD_LEVERAGE,
    BAD_ORDER_ID,
    BAD_PRICE,
    BAD_QTY,
    BAD_SIDE,
    BUY,
    BY_IOC,
    BY_USER,
    CANCEL_ALL,
    CANCELED,
    CROSS,
    DEPOSIT,
    DUPLICATE_ORDER_ID,
    FOK,
    FOK_UNFILLABLE,
    GTC,
    INSUFFICIENT_MARGIN,
    ISOLATED,
    MARKET_ORDER,
    MONEY_LIMIT,
    MONEY_MAX,
    MOVE_MARGIN,
    NO_MARK,
    NOT_ISOLATED,
    NOTHING_TO_REDUCE,
    OK,
    OPEN_INTEREST_LIMIT,
    PLACE,
    PORTFOLIO,
    POSITION_OPEN,
    POST_ONLY,
    POST_ONLY_CROSSES,
    PPM,
    REDUCE_ONLY,
    SELL,
    SET_LEVERAGE,
    SET_MARGIN_MODE,
    STP_NEWEST,
    STP_OLDEST,
    TIERS_MAX,
    UNKNOWN_ORDER,
    WITHDRAW,
)
from engine.kernels.account import bring_position, fee_of, fill_position
from engine.kernels.book import (
    best_opposite,
    can_fill,
    cancel_order,
    cancel_owned,
    collar_tick,
    crosses,
    match_order,
    reducible,
    rest_order,
    shift_resting,
    shrink_order,
)
from engine.kernels.book import remove_order as remove_resting
from engine.kernels.cash import enter_market
from engine.kernels.emit import emit, tell_order
from engine.kernels.idmap import find_id
from engine.kernels.margin import (
    find_position,
    first_owned,
    hold_position,
    initial_of,
    is_portfolio,
    make_position,
    measure_free,
    measure_isolated,
    measure_sum,
    value_at,
    worst_side,
)
from engine.kernels.portfolio import check_portfolio_mode, switch_portfolio_mode
from engine.kernels.trigger import touch, touch_account
from engine.layout import NIL

PLACE_FLAGS = MARKET_ORDER | POST_ONLY | REDUCE_ONLY | STP_NEWEST | STP_OLDEST
KEPT_FLAGS = POST_ONLY | REDUCE_ONLY | STP_NEWEST | STP_OLDEST


@hot
def check_limits(st, market, lots):
    """Return OK, or which limit a trade of `lots` could pass.

    Source: NUM-006.
    """
    rules = st.markets[market]
    if rules["open_interest_lot"] + lots > rules["open_interest_max_lot"]:
        return OPEN_INTEREST_LIMIT
    return check_money(st, market)


@hot
def check_money(st, market):
    """Return OK, or MONEY_LIMIT when the outside's wallet is beyond the proven range.

    Source: NUM-006.
    """
    if abs(st.wallets[np.int64(st.markets[market]["asset"])]["balance_quote"]) > MONEY_MAX:
        return MONEY_LIMIT
    return OK


@hot
def check_reach(st, slot, market, side, lots):
    """Return OK, or OPEN_INTEREST_LIMIT when an account's orders on one side could take it past the market's limit.

    Source: NUM-006.
    """
    position = st.positions[slot]
    if side > 0:
        reach = position["qty_lot"] + position["buy_lot"] + lots
    else:
        reach = position["sell_lot"] + lots - position["qty_lot"]
    return OPEN_INTEREST_LIMIT if reach > st.markets[market]["open_interest_max_lot"] else OK


@hot
def cost_of_entry(st, market, side, lots, limit_tick):
    """Return what an order may lose at once, and its fee: the open loss at its limit, the taker's fee of it.

    Source: MARGIN-006.
    """
    rules = st.markets[market]
    at_limit = value_at(st, market, limit_tick, side * lots)
    loss = max(at_limit - value_at(st, market, rules["mark_tick"], side * lots), 0)
    return loss + max(fee_of(at_limit, rules["taker_fee_ppm"]), 0)


@helper
@phase("margin")
def check_portfolio(st, slot, side, lots, limit_tick):
    """Return OK if a portfolio can carry an order, INSUFFICIENT_MARGIN if not.

    Source: PORT-005.
    """
    position = st.positions[slot]
    account, market = np.int64(position["account"]), np.int64(position["market"])
    asset = np.int64(st.markets[market]["asset"])
    reach = worst_side(st, slot)
    before, _ = measure_free(st, account, asset)
    shift_resting(st, slot, side, lots)
    is_larger = worst_side(st, slot) > reach
    free, _ = measure_free(st, account, asset)
    shift_resting(st, slot, side, -lots)
    if free >= before and not is_larger:
        return OK
    return OK if free >= cost_of_entry(st, market, side, lots, limit_tick) else INSUFFICIENT_MARGIN


@hot
@phase("margin")
def check_margin(st, slot, market, side, lots, limit_tick):
    """Return OK if the account can carry an order, INSUFFICIENT_MARGIN if not.

    Source: MARGIN-006.
    """
    rules = st.markets[market]
    if rules["order_margin"] != 0:
        return OK
    position = st.positions[slot]
    account, asset = np.int64(position["account"]), np.int64(rules["asset"])
    if is_portfolio(st, account, asset):
        return check_portfolio(st, slot, side, lots, limit_tick)
    before = worst_side(st, slot)
    if side > 0:
        after = max(before, position["qty_lot"] + position["buy_lot"] + lots)
    else:
        after = max(before, position["sell_lot"] + lots - position["qty_lot"])
    # Whether an order enlarges a position cannot be foreseen, and a branch taken wrongly costs more than measuring one.
    if position["next_owned"] == NIL and first_owned(st, account) == slot:
        cross, isolated = hold_position(st, slot, after)
        free = st.wallets[account * st.head[0]["asset_count"] + asset]["balance_quote"] + cross + isolated
    elif after <= before:
        return OK
    else:
        free, withdrawable = measure_sum(st, account, asset, slot, after)
        if position["mode"] == ISOLATED:
            free = withdrawable
    lack = cost_of_entry(st, market, side, lots, limit_tick) - free
    return INSUFFICIENT_MARGIN if min(lack, after - before) > 0 else OK  # both, without a branch for each


@hot
def check_entry(st, slot, market, side, lots, limit_tick, flags, tif):
    """Return (code, lots) for an order about to enter the book; reduce-only cuts the lots.

    Source: MATCH-006, MATCH-007, MATCH-008, MATCH-011.
    """
    if flags & REDUCE_ONLY:
        code = check_money(st, market)
        if code == OK:
            lots = min(lots, reducible(st, slot, side))
            if lots == 0:
                code = NOTHING_TO_REDUCE
    else:
        code = check_reach(st, slot, market, side, lots)
        if code == OK:
            code = check_limits(st, market, lots)
    if code != OK:
        return code, lots
    if flags & POST_ONLY and crosses(side, limit_tick, best_opposite(st, market, side)):
        return POST_ONLY_CROSSES, lots
    if tif == FOK and not can_fill(st, market, st.positions[slot]["account"], side, lots, limit_tick, flags):
        return FOK_UNFILLABLE, lots
    if not flags & REDUCE_ONLY:
        code = check_margin(st, slot, market, side, lots, limit_tick)
    return code, lots


@hot
def check_place(st, command):
    """Return OK, or what is wrong with a place before its account is looked at.

    Source: MATCH-005, MATCH-011.
    """
    rules = st.markets[command["market"]]
    flags = np.int64(command["flags"])
    if command["side"] != BUY and command["side"] != SELL:
        return BAD_SIDE
    if flags != 0 and (flags & ~PLACE_FLAGS or (flags & POST_ONLY and (flags & MARKET_ORDER or command["tif"] != GTC))):
        return BAD_FLAGS
    if command["tif"] > FOK:
        return BAD_FLAGS
    if command["order_id"] < 1:
        return BAD_ORDER_ID
    if command["qty_lot"] < 1 or command["qty_lot"] > rules["order_max_lot"]:
        return BAD_QTY
    if not flags & MARKET_ORDER and (command["price_tick"] < 1 or command["price_tick"] > rules["price_max_tick"]):
        return BAD_PRICE
    if find_id(st, command["order_id"]) != NIL:
        return DUPLICATE_ORDER_ID
    if rules["mark_tick"] == 0:
        return NO_MARK
    return OK


@hot
def enter_order(st, slot, market, side, lots, limit_tick, order_id, flags, tif):
    """Match an order that was let in, then rest or cancel what is left.

    Source: MATCH-002.
    """
    left, why = lots, np.int64(0)
    if crosses(side, limit_tick, best_opposite(st, market, side)):
        left, why = match_order(st, market, slot, side, lots, limit_tick, order_id, flags)
    if left == 0:
        return
    if why == 0 and tif == GTC:
        rest_order(st, market, slot, side, limit_tick, left, order_id, flags)
        return
    event = emit(st, CANCELED, why if why != 0 else BY_IOC, market, np.int64(st.positions[slot]["account"]))
    event["side"] = side
    event["order_id"] = order_id
    event["price_tick"] = limit_tick
    event["qty_lot"] = left


@helper
def place_order(st, command):
    """Apply a place.

    Source: MATCH-005, MATCH-011.
    """
    code = check_place(st, command)
    if code != OK:
        return code
    market = np.int64(command["market"])
    rules = st.markets[market]
    side = np.int64(command["side"])
    flags = np.int64(command["flags"])
    tif = np.int64(command["tif"])
    limit_tick = command["price_tick"]
    if flags & MARKET_ORDER:
        limit_tick = collar_tick(side, rules["mark_tick"], rules["order_collar_ppm"], rules["price_max_tick"])
        if tif == GTC:
            tif = np.int64(1)
    account = np.int64(command["account"])
    slot = find_position(st, account, market)
    if slot == NIL:
        slot = make_position(st, account, market)
    code, lots = check_entry(st, slot, market, side, command["qty_lot"], limit_tick, flags, tif)
    if code != OK:
        return code
    tell_order(st, ACCEPTED, PLACE, market, account, side, flags, limit_tick, lots, command["order_id"])
    if rules["settlement"] != 0:
        enter_market(st, slot)
    enter_order(st, slot, market, side, lots, limit_tick, command["order_id"], flags & KEPT_FLAGS, tif)
    return OK


@hot
def find_own_order(st, command):
    """Return the slot of the order a command names, or NIL if it is not the account's.

    Source: CMD-003.
    """
    slot = find_id(st, command["order_id"])
    if slot != NIL and st.orders[slot]["account"] != command["account"]:
        return np.int64(NIL)
    return slot


@helper
def cancel_one(st, command):
    """Apply a cancel."""
    slot = find_own_order(st, command)
    if slot == NIL:
        return UNKNOWN_ORDER
    cancel_order(st, slot, np.int64(BY_USER))
    return OK


@helper
def cancel_market(st, command):
    """Apply a cancel_all.

    Source: MATCH-010.
    """
    emit(st, ACCEPTED, CANCEL_ALL, np.int64(command["market"]), np.int64(command["account"]))
    slot = find_position(st, np.int64(command["account"]), np.int64(command["market"]))
    if slot != NIL:
        cancel_owned(st, slot, np.int64(BY_USER))
    return OK


@helper
def amend_order(st, command):
    """Apply an amend.

    Source: MATCH-004.
    """
    found = find_own_order(st, command)
    if found == NIL:
        return UNKNOWN_ORDER
    order = st.orders[found]
    market = np.int64(order["market"])
    rules = st.markets[market]
    slot = np.int64(order["position"])
    side = np.int64(order["side"])
    flags = np.int64(order["flags"])
    price_tick, lots, held = command["price_tick"], command["qty_lot"], order["qty_lot"]
    if lots < 1 or lots > rules["order_max_lot"]:
        return BAD_QTY
    if price_tick < 1 or price_tick > rules["price_max_tick"]:
        return BAD_PRICE
    decrease = price_tick == order["price_tick"] and lots < held
    if not decrease:
        # the old order must not count against the new one
        if not flags & REDUCE_ONLY:
            shift_resting(st, slot, side, -held)
        code, lots = check_entry(st, slot, market, side, lots, price_tick, flags, np.int64(GTC))
        if not flags & REDUCE_ONLY:
            shift_resting(st, slot, side, held)
        if code != OK:
            return code
    account = np.int64(command["account"])
    tell_order(st, AMENDED, 0, market, account, side, np.int64(0), price_tick, lots, command["order_id"])
    if decrease:
        shrink_order(st, found, held - lots)
    else:
        remove_resting(st, found)
        enter_order(st, slot, market, side, lots, price_tick, command["order_id"], flags, np.int64(GTC))
    return OK


@inlined
def accept_amount(st, kind, market, account, amount_quote):
    """Emit the `accepted` of a command about money or settings and return it."""
    event = emit(st, ACCEPTED, kind, market, account)
    event["amount_quote"] = amount_quote
    return event


@helper
def deposit(st, command):
    """Apply a deposit.

    Source: CMD-005.
    """
    market, account, amount = np.int64(command["market"]), np.int64(command["account"]), command["amount_quote"]
    asset = np.int64(st.markets[market]["asset"])
    if amount < 1:
        return BAD_AMOUNT
    if amount > MONEY_MAX - st.assets[asset]["deposits_quote"]:
        return MONEY_LIMIT
    accept_amount(st, DEPOSIT, market, account, amount)
    wallet = account * st.head[0]["asset_count"] + asset
    st.assets[asset]["deposits_quote"] += amount
    st.wallets[wallet]["balance_quote"] += amount
    touch(st, wallet * 2 + 1)
    return OK


@helper
def withdraw(st, command):
    """Apply a withdrawal.

    Source: CMD-005.
    """
    market, account, amount = np.int64(command["market"]), np.int64(command["account"]), command["amount_quote"]
    asset = np.int64(st.markets[market]["asset"])
    if amount < 1:
        return BAD_AMOUNT
    _, withdrawable = measure_free(st, account, asset)
    if amount > withdrawable:
        return INSUFFICIENT_MARGIN
    accept_amount(st, WITHDRAW, market, account, amount)
    wallet = account * st.head[0]["asset_count"] + asset
    st.assets[asset]["withdrawals_quote"] += amount
    st.wallets[wallet]["balance_quote"] -= amount
    touch(st, wallet * 2 + 1)
    return OK


@helper
def move_margin(st, command):
    """Apply a move of isolated margin.

    Source: MARGIN-009.
    """
    market, account, amount = np.int64(command["market"]), np.int64(command["account"]), command["amount_quote"]
    if amount == 0:
        return BAD_AMOUNT
    slot = find_position(st, account, market)
    if slot == NIL or st.positions[slot]["mode"] != ISOLATED or st.positions[slot]["qty_lot"] == 0:
        return NOT_ISOLATED
    position = st.positions[slot]
    asset = np.int64(st.markets[market]["asset"])
    if amount > 0:
        _, withdrawable = measure_free(st, account, asset)
        if amount > withdrawable:
            return INSUFFICIENT_MARGIN
    else:
        if amount < -position["margin_quote"]:
            return INSUFFICIENT_MARGIN
        equity, _, _ = measure_isolated(st, slot)
        if equity + amount < initial_of(st, slot, abs(position["qty_lot"])):
            return INSUFFICIENT_MARGIN
    accept_amount(st, MOVE_MARGIN, market, account, amount)["margin_quote"] = amount
    st.wallets[account * st.head[0]["asset_count"] + asset]["balance_quote"] -= amount
    position["margin_quote"] += amount
    touch_account(st, account, slot)
    return OK


@helper
def set_leverage(st, command):
    """Apply a change of leverage.

    Source: MARGIN-007.
    """
    market, account, leverage = np.int64(command["market"]), np.int64(command["account"]), command["amount_quote"]
    if leverage < 1 or leverage > PPM:
        return BAD_LEVERAGE
    rate_ppm = -(-PPM // leverage)
    if rate_ppm < st.tiers[market * TIERS_MAX]["initial_ppm"]:
        return BAD_LEVERAGE
    asset = np.int64(st.markets[market]["asset"])
    slot = make_position(st, account, market)
    before, _ = measure_free(st, account, asset)
    held = st.positions[slot]["leverage_ppm"]
    st.positions[slot]["leverage_ppm"] = rate_ppm
    after, _ = measure_free(st, account, asset)
    if after < 0 and after < before:
        st.positions[slot]["leverage_ppm"] = held
        return INSUFFICIENT_MARGIN
    accept_amount(st, SET_LEVERAGE, market, account, leverage)
    return OK


@helper
def set_margin_mode(st, command):
    """Apply a change of margin mode.

    Source: MARGIN-008, PORT-002.
    """
    market, account, mode = np.int64(command["market"]), np.int64(command["account"]), command["amount_quote"]
    asset = np.int64(st.markets[market]["asset"])
    is_free = mode == ISOLATED and st.markets[market]["settlement"] == 0
    if mode != CROSS and mode != PORTFOLIO and not is_free:
        return BAD_AMOUNT
    slot = make_position(st, account, market)
    position = st.positions[slot]
    is_switch = mode == PORTFOLIO or is_portfolio(st, account, asset)
    if is_switch:
        code = check_portfolio_mode(st, account, asset, mode)
        if code != OK:
            return code
    elif position["qty_lot"] != 0 or position["orders_head"] != NIL:
        return POSITION_OPEN
    accept_amount(st, SET_MARGIN_MODE, market, account, mode)
    if is_switch:
        switch_portfolio_mode(st, account, asset, mode)
    if mode != PORTFOLIO:
        position["mode"] = mode
    return OK


@helper
def assign(st, command):
    """Apply an assign: a position and its collateral brought from elsewhere, against the outside.

    Source: POS-006.
    """
    market, account, amount = np.int64(command["market"]), np.int64(command["account"]), command["amount_quote"]
    rules = st.markets[market]
    asset = np.int64(rules["asset"])
    side, lots, price_tick = np.int64(command["side"]), command["qty_lot"], command["price_tick"]
    if side != BUY and side != SELL:
        return BAD_SIDE
    if lots < 1 or lots > rules["order_max_lot"]:
        return BAD_QTY
    if price_tick < 1 or price_tick > rules["price_max_tick"]:
        return BAD_PRICE
    if amount < 0:
        return BAD_AMOUNT
    slot = make_position(st, account, market)
    position = st.positions[slot]
    if position["qty_lot"] != 0 or position["orders_head"] != NIL:
        return POSITION_OPEN
    if rules["mark_tick"] == 0:
        return NO_MARK
    code = check_limits(st, market, lots)
    if code != OK:
        return code
    if amount > MONEY_MAX - st.assets[asset]["deposits_quote"]:
        return MONEY_LIMIT
    margin = amount if position["mode"] == ISOLATED else np.int64(0)
    event = accept_amount(st, ASSIGN, market, account, amount)
    event["side"] = side
    event["qty_lot"] = lots
    event["price_tick"] = price_tick
    event["margin_quote"] = margin
    st.assets[asset]["deposits_quote"] += amount
    enter_market(st, slot)
    bring_position(st, slot, side, lots, value_at(st, market, price_tick, lots), margin, amount - margin)
    fill_position(st, np.int64(rules["external"]), -side, lots, price_tick, np.int64(0))
    return OK
