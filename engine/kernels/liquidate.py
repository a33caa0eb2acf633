"""Liquidation of one domain: cancel, walk the book, ADL, take over (LIQ-001..LIQ-011); `stages` has the policies."""

import numpy as np

from engine._jit import helper
from engine._probe import phase
from engine.codes import (
    AFTER_FULL,
    BACKSTOP_TAKEOVER,
    BOOK_EMPTY,
    BY_SELF_TRADE,
    COOLDOWN,
    EXTERNAL,
    FUND_SHORT,
    GATE_INSOLVENT,
    LINEAR,
    LIQUIDATION_ENDED,
    LIQUIDATION_FILL,
    LIQUIDATION_STARTED,
    LOSS_LIMIT,
    OK,
    SHORTFALL_REFUSE,
    TAKEOVER,
)
from engine.kernels.account import fee_of, fill_position, settle_lots, wallet_index
from engine.kernels.adl import deleverage_rest
from engine.kernels.book import (
    best_opposite,
    cancel_order,
    crosses,
    fill_maker,
    first_at,
    limit_reduce_only,
)
from engine.kernels.emit import emit
from engine.kernels.fixed import mul_div_ceil, mul_div_floor
from engine.kernels.fund import cover_deficit, credit_fund, debit_fund, emit_deficit, next_deficit
from engine.kernels.house import can_carry, is_for_vault, take_over
from engine.kernels.margin import (
    domain_of,
    first_owned,
    is_cross,
    is_portfolio,
    measure_domain,
    position_maintenance,
    share_of,
    show_bankruptcy,
    value_at,
    value_at_mark,
)
from engine.kernels.portfolio import choose_relief
from engine.kernels.stages import cancel_scope, fund_part, passes_gate, step_lots, walk_limit
from engine.kernels.trigger import account_of, asset_of, hang_domain, touch
from engine.kernels.wake import cool_domain, due_after, rest_domain
from engine.kernels.watch import fund_room
from engine.layout import LEFT, NIL


@helper
def market_of(st, code):
    """Return the market an event of a domain names: its own, or -1 for a cross domain."""
    return np.int64(-1) if code & 1 else np.int64(st.positions[code >> 1]["market"])


@helper
def emit_domain(st, kind, code, equity, maintenance):
    """Emit an event about a domain's standing and return it."""
    event = emit(st, kind, 0, market_of(st, code), account_of(st, code))
    event["other"] = asset_of(st, code)
    event["amount_quote"] = equity
    event["other_amount_quote"] = maintenance
    return event


@helper
def largest_payable(fund_quote, lots, lack_quote):
    """Return the largest k of `lots` whose deficit floor(k x lack / lots) the fund can pay; lack > 0.

    Source: LIQ-007.
    """
    return min(mul_div_ceil(fund_quote + 1, lots, lack_quote) - 1, lots)


@helper
def payable_lots(st, market, price_tick, part, held_lot, worth):
    """Return how many of `part` lots the fund lets close at a price; `held_lot`, signed, are worth `worth` at B.

    Rounding may lift the deficit of k inverse lots a unit above floor(k x lack / lots), and no more: half a unit for
    the value of the k and at most half a unit for their part of the whole lack.
    Source: LIQ-007, INV-005, ADL-019, ADL-020.
    """
    fund_quote = fund_room(st, market, held_lot, worth)
    lots = abs(held_lot)
    lack = worth - value_at(st, market, price_tick, held_lot)
    if st.markets[market]["kind"] != LINEAR:
        value = value_at(st, market, price_tick, part if held_lot > 0 else -part)
        if mul_div_floor(worth, part, lots) - value <= fund_quote:
            return part
        return max(min(part, largest_payable(fund_quote - 1, lots, lack)), 0) if lack > 0 else np.int64(0)
    return min(part, largest_payable(fund_quote, lots, lack)) if lack > 0 else part


@helper
def settle_fill(st, slot, maker, lots, worth, tick):
    """Close `lots` of liquidated position `slot` against resting order `maker`; who gets the difference is policy.

    Source: LIQ-005, LIQ-006, LIQ-007, STAGE-007, STAGE-008.
    """
    position = st.positions[slot]
    market = np.int64(position["market"])
    rules = st.markets[market]
    order = st.orders[maker]
    sign = np.int64(1 if position["qty_lot"] > 0 else -1)
    price_tick, maker_id = order["price_tick"], order["order_id"]
    account, other = np.int64(position["account"]), np.int64(order["account"])
    value = value_at(st, market, price_tick, lots * sign)
    surplus = value - worth
    due = max(fee_of(value, rules["taker_fee_ppm"]), 0)
    fee = min(due, max(surplus, 0))
    left_over = max(surplus - fee, 0)
    to_fund = fund_part(st, market, value, left_over)
    fund_fee_due = fee_of(value, rules["liquidation_fee_ppm"])
    fund_fee = min(fund_fee_due, to_fund)
    asset = st.assets[rules["asset"]]
    asset["waived_quote"] += due - fee + fund_fee_due - fund_fee
    asset["fees_quote"] += fee
    change = settle_lots(st, slot, lots, worth + left_over - to_fund)
    maker_change, maker_fee = fill_maker(st, maker, lots)
    st.wallets[wallet_index(st, slot)]["last_market"] = market
    if rules["closeout_moves_last"] != 0:
        rules["last_tick"] = price_tick
    deficit_id = next_deficit(st) if surplus < 0 else np.int64(0)
    event = emit(st, LIQUIDATION_FILL, 0, market, account)
    event["other"] = other
    event["side"] = -sign
    event["price_tick"] = price_tick
    event["qty_lot"] = lots
    event["order_id"] = deficit_id
    event["other_order_id"] = maker_id
    event["amount_quote"] = surplus - fee
    event["fee_quote"] = fee
    event["other_fee_quote"] = maker_fee
    event["margin_quote"] = change
    event["other_margin_quote"] = maker_change
    event["mark_tick"] = rules["mark_tick"]
    event["bankruptcy_tick"] = tick
    if surplus > 0:
        credit_fund(st, market, account, to_fund, fund_fee)
    elif surplus < 0:
        st.head[0]["lost_quote"] -= surplus
        debit_fund(st, market, account, -surplus, deficit_id)
        event = emit_deficit(st, deficit_id, market, account, -sign, price_tick, lots, -surplus)
        event["other_amount_quote"] = -surplus


@helper
def limit_to_fund(st, slot, lots, part, worth, price_tick):
    """Return (how many of `part` lots may be filled at a price, why not all of them or OK).

    Source: LIQ-007, STAGE-008.
    """
    market = np.int64(st.positions[slot]["market"])
    rules = st.markets[market]
    sign = np.int64(1 if st.positions[slot]["qty_lot"] > 0 else -1)
    payable = payable_lots(st, market, price_tick, part, lots * sign, worth)
    if payable < part and rules["shortfall"] == SHORTFALL_REFUSE:
        payable = np.int64(0)
    if payable > 0 and rules["fund_loss_max_quote"] > 0:
        deficit = mul_div_floor(worth, payable, lots) - value_at(st, market, price_tick, payable * sign)
        if deficit > 0 and st.head[0]["lost_quote"] + deficit > rules["fund_loss_max_quote"]:
            return np.int64(0), LOSS_LIMIT
    return payable, OK if payable == part else FUND_SHORT


@helper
def walk_book(st, slot, lots, worth, tick, limit_tick):
    """Close lots of a liquidated position on the book; return (lots left, worth left, why it stopped).

    Source: LIQ-005, LIQ-007, STAGE-001.
    """
    position = st.positions[slot]
    market = np.int64(position["market"])
    sign = np.int64(1 if position["qty_lot"] > 0 else -1)
    while lots > 0:
        price_tick = best_opposite(st, market, -sign)
        if not crosses(-sign, limit_tick, price_tick):
            return lots, worth, BOOK_EMPTY
        maker = first_at(st, market, price_tick)
        if st.orders[maker]["account"] == position["account"]:
            cancel_order(st, maker, np.int64(BY_SELF_TRADE))
            continue
        part = limit_reduce_only(st, maker, min(lots, st.orders[maker]["qty_lot"]))
        if part == 0:
            continue
        payable, reason = limit_to_fund(st, slot, lots, part, worth, price_tick)
        if payable > 0:
            share = mul_div_floor(worth, payable, lots)
            settle_fill(st, slot, maker, payable, share, tick)
            lots -= payable
            worth -= share
        if reason != OK:
            return lots, worth, reason
    return lots, worth, OK


@helper
def hand_over(st, slot, lots, worth, tick):
    """Let the outside take over, at the mark, what neither book nor queue could close.

    Source: LIQ-009.
    """
    position = st.positions[slot]
    market = np.int64(position["market"])
    rules = st.markets[market]
    account = np.int64(position["account"])
    sign = np.int64(1 if position["qty_lot"] > 0 else -1)
    mark_tick = rules["mark_tick"]
    value = value_at(st, market, mark_tick, lots * sign)
    deficit = max(worth - value, 0)
    change = settle_lots(st, slot, lots, value + deficit)
    fill_position(st, np.int64(rules["external"]), sign, lots, mark_tick, np.int64(0))
    st.wallets[wallet_index(st, slot)]["last_market"] = market
    deficit_id = next_deficit(st) if deficit > 0 else np.int64(0)
    event = emit(st, TAKEOVER, 0, market, account)
    event["other"] = EXTERNAL
    event["side"] = -sign
    event["qty_lot"] = lots
    event["price_tick"] = mark_tick
    event["order_id"] = deficit_id
    event["margin_quote"] = change
    event["amount_quote"] = deficit
    event["mark_tick"] = mark_tick
    event["bankruptcy_tick"] = tick
    if deficit > 0:
        cover_deficit(
            st, deficit_id, market, domain_of(st, slot), account, -sign, mark_tick, lots, deficit, np.int64(0)
        )


@helper
def close_step(st, code, slot, step, closed, whole):
    """Close `step` lots of a position, `closed` being closed before: book, then house or queue, then the outside.

    With `whole` the house takes them before the book is touched, if it can carry them.
    Return (lots closed, why lots were left open or OK).
    Source: LIQ-004, LIQ-005, LIQ-008, LIQ-009, STAGE-009, HOUSE-004, HOUSE-005.
    """
    position = st.positions[slot]
    market = np.int64(position["market"])
    held = abs(position["qty_lot"])
    worth = value_at_mark(st, slot) - share_of(st, slot)
    tick = show_bankruptcy(st, market, worth, position["qty_lot"])
    sign = np.int64(1 if position["qty_lot"] > 0 else -1)
    limit_tick = walk_limit(st, slot, tick)
    worth = mul_div_floor(worth, step, held)
    if whole and can_carry(st, market, step * sign):
        take_over(st, slot, step, worth, tick)
        return step, OK
    lots, worth, reason = walk_book(st, slot, step, worth, tick, limit_tick)
    if lots == 0:
        return step, OK
    if not whole and not passes_gate(st, code, market, closed + step - lots):
        position["flags"] = np.int64(position["flags"]) | LEFT
        return step - lots, reason
    if st.markets[market]["backstop"] == BACKSTOP_TAKEOVER and can_carry(st, market, lots * sign):
        take_over(st, slot, lots, worth, tick)
        return step, OK
    lots, worth = deleverage_rest(st, slot, lots, worth, tick, reason)
    if lots > 0 and not whole and st.markets[market]["adl_gate"] == GATE_INSOLVENT:
        position["flags"] = np.int64(position["flags"]) | LEFT
        return step - lots, reason
    if lots > 0:
        hand_over(st, slot, lots, worth, tick)
    return step, OK


@helper
def choose_position(st, code):
    """Return the slot of the domain's position to close next, or NIL: the largest maintenance, then the lower market.

    Those left open in this liquidation are passed over.  Source: LIQ-004, STAGE-009, PORT-007.
    """
    chosen = np.int64(NIL)
    if not code & 1:
        slot = code >> 1
        if st.positions[slot]["qty_lot"] != 0 and not np.int64(st.positions[slot]["flags"]) & LEFT:
            chosen = slot
        return chosen
    account, asset = account_of(st, code), asset_of(st, code)
    if is_portfolio(st, account, asset):
        return choose_relief(st, account, asset)
    largest = np.int64(-1)
    slot = first_owned(st, account)
    while slot != NIL:
        if is_cross(st, slot, asset) and not np.int64(st.positions[slot]["flags"]) & LEFT:
            maintenance = position_maintenance(st, slot)
            if maintenance > largest:
                largest = maintenance
                chosen = slot
        slot = np.int64(st.positions[slot]["next_owned"])
    return chosen


@helper
def make_whole(st, code, equity):
    """Cover the negative wallet of a flat domain.

    Source: LIQ-011.
    """
    wallet = st.wallets[code >> 1]
    lack = -equity
    market = np.int64(wallet["last_market"])
    wallet["balance_quote"] += lack
    none = np.int64(0)
    cover_deficit(st, next_deficit(st), market, code, account_of(st, code), none, none, none, lack, none)


@helper
def close_domain(st, code, slot, whole):
    """Close a domain's positions step by step while it is liquidatable, as far as the policies let it; `slot` is first.

    With `whole` a vault takes it over: each position goes in one step, to the last.
    Return (lots closed, why it stopped while still liquidatable, when it is to be looked at again).

    Source: LIQ-004, STAGE-004, STAGE-009, WAKE-001, WAKE-002, HOUSE-005.
    """
    account = account_of(st, code)
    closed = np.int64(0)
    reason = np.int64(OK)
    due = np.int64(0)
    while slot != NIL:
        market = np.int64(st.positions[slot]["market"])
        step = abs(st.positions[slot]["qty_lot"]) if whole else step_lots(st, code, slot)
        is_part = step < abs(st.positions[slot]["qty_lot"])
        lots, why = close_step(st, code, slot, step, closed, whole)
        closed += lots
        reason = np.int64(why) if why != OK else reason
        wait = st.markets[market]["cooldown_ns"]
        is_patient = st.markets[market]["after_share"] != AFTER_FULL
        due = due_after(st, wait) if wait > 0 and is_patient else np.int64(0)
        equity, maintenance, count = measure_domain(st, code)
        if lots > 0 and wait > 0 and (is_patient or is_part) and not whole:
            if not is_patient:
                cool_domain(st, code, due_after(st, wait))
            reason = np.int64(why) if why != OK else np.int64(COOLDOWN)
            break
        if count == 0 or (equity >= maintenance and not whole):
            break
        slot = choose_position(st, code)
        if slot != NIL:
            cancel_scope(st, account, np.int64(st.positions[slot]["market"]))
    return closed, reason, due


@helper
def forget_left(st, account):
    """Let the next liquidation of an account try again what this one left open."""
    slot = first_owned(st, account)
    while slot != NIL:
        position = st.positions[slot]
        position["flags"] = np.int64(position["flags"]) & ~LEFT
        slot = np.int64(position["next_owned"])


@helper
@phase("liquidation")
def liquidate_domain(st, code):
    """Liquidate a domain as far as its markets' policies go.

    Source: LIQ-001, LIQ-003, LIQ-004, LIQ-010, STAGE-001, WAKE-001.
    """
    account = account_of(st, code)
    asset = asset_of(st, code)
    slot = choose_position(st, code)
    market = np.int64(st.wallets[code >> 1]["last_market"] if slot == NIL else st.positions[slot]["market"])
    cancel_scope(st, account, market)
    equity, maintenance, count = measure_domain(st, code)
    if equity >= maintenance:
        hang_domain(st, code)
        return
    emit_domain(st, np.int64(LIQUIDATION_STARTED), code, equity, maintenance)
    waived = st.assets[asset]["waived_quote"]
    closed, reason, due = np.int64(0), np.int64(OK), np.int64(0)
    if count == 0:
        make_whole(st, code, equity)
    else:
        st.head[0]["lost_quote"] = 0
        closed, reason, due = close_domain(st, code, slot, is_for_vault(st, code, account, asset, equity))
    equity, maintenance, _ = measure_domain(st, code)
    event = emit_domain(st, np.int64(LIQUIDATION_ENDED), code, equity, maintenance)
    event["qty_lot"] = closed
    event["fee_quote"] = st.assets[asset]["waived_quote"] - waived
    if reason != OK:
        forget_left(st, account)
    if equity < maintenance and reason != OK:
        event["code"] = reason
        rest_domain(st, code, due)
    if closed > 0 or count == 0:
        touch(st, code)
        touch(st, (account * st.head[0]["asset_count"] + asset) * 2 + 1)
