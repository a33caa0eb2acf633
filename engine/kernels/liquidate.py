"""Liquidation of one domain: cancel, walk the book, ADL, take over (LIQ-001..LIQ-011)."""

import numpy as np

from engine._jit import helper
from engine._probe import phase
from engine.codes import (
    BACKSTOP_TAKEOVER,
    BOOK_EMPTY,
    BY_LIQUIDATION,
    EXTERNAL,
    FUND_SHORT,
    LIQUIDATION_ENDED,
    LIQUIDATION_FILL,
    LIQUIDATION_STARTED,
    OK,
    TAKEOVER,
)
from engine.kernels.account import fee_of, fill_position, settle_lots, wallet_index
from engine.kernels.adl import serve_queue
from engine.kernels.book import (
    best_opposite,
    cancel_owned,
    collar_tick,
    crosses,
    fill_maker,
    first_at,
    limit_reduce_only,
)
from engine.kernels.emit import emit
from engine.kernels.fixed import mul_div_ceil, mul_div_floor
from engine.kernels.fund import cover_deficit, credit_fund, debit_fund, emit_deficit, fund_of, next_deficit
from engine.kernels.house import can_carry, is_for_vault, take_over
from engine.kernels.margin import (
    is_cross,
    measure_domain,
    position_maintenance,
    share_of,
    show_bankruptcy,
    value_at,
    value_at_mark,
)
from engine.kernels.trigger import asset_of, hang_domain, touch
from engine.layout import NIL


@helper
def account_of(st, code):
    """Return the account of a domain."""
    if code & 1:
        return (code >> 1) // st.head[0]["asset_count"]
    return np.int64(st.positions[code >> 1]["account"])


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
def settle_fill(st, slot, maker, lots, worth, tick):
    """Close `lots` of liquidated position `slot` against resting order `maker`; fund and fees take the difference.

    Source: LIQ-005, LIQ-006, LIQ-007.
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
    fund_fee_due = fee_of(value, rules["liquidation_fee_ppm"])
    fund_fee = min(fund_fee_due, max(surplus - fee, 0))
    asset = st.assets[rules["asset"]]
    asset["waived_quote"] += due - fee + fund_fee_due - fund_fee
    asset["fees_quote"] += fee
    change = settle_lots(st, slot, lots, worth)
    maker_change, maker_fee = fill_maker(st, maker, lots)
    st.wallets[wallet_index(st, slot)]["last_market"] = market
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
        credit_fund(st, market, account, surplus - fee, fund_fee)
    elif surplus < 0:
        debit_fund(st, market, account, -surplus, deficit_id)
        event = emit_deficit(st, deficit_id, market, account, -sign, price_tick, lots, -surplus)
        event["other_amount_quote"] = -surplus


@helper
def walk_book(st, slot, worth, tick):
    """Close a liquidated position on the book; return (lots left, worth left, why it stopped).

    Source: LIQ-005, LIQ-007.
    """
    position = st.positions[slot]
    market = np.int64(position["market"])
    rules = st.markets[market]
    sign = np.int64(1 if position["qty_lot"] > 0 else -1)
    lots = abs(position["qty_lot"])
    limit_tick = collar_tick(-sign, rules["mark_tick"], rules["liquidation_collar_ppm"], rules["price_max_tick"])
    while lots > 0:
        price_tick = best_opposite(st, market, -sign)
        if not crosses(-sign, limit_tick, price_tick):
            return lots, worth, BOOK_EMPTY
        maker = first_at(st, market, price_tick)
        part = limit_reduce_only(st, maker, min(lots, st.orders[maker]["qty_lot"]))
        if part == 0:
            continue
        lack = worth - value_at(st, market, price_tick, lots * sign)
        payable = part
        if lack > 0:
            payable = min(part, largest_payable(st.funds[fund_of(st, market)]["balance_quote"], lots, lack))
        if payable == 0:
            return lots, worth, FUND_SHORT
        share = mul_div_floor(worth, payable, lots)
        settle_fill(st, slot, maker, payable, share, tick)
        lots -= payable
        worth -= share
        if payable < part:
            return lots, worth, FUND_SHORT
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
        cover_deficit(st, deficit_id, market, account, -sign, mark_tick, lots, deficit)


@helper
def close_position(st, slot, whole):
    """Close one position of a liquidated domain: book, then house or queue, then the outside; return the lots closed.

    With `whole` the house takes it over before the book is touched, if it can carry it.
    Source: LIQ-004, LIQ-005, LIQ-008, LIQ-009, HOUSE-004, HOUSE-005.
    """
    position = st.positions[slot]
    market = np.int64(position["market"])
    closed = abs(position["qty_lot"])
    worth = value_at_mark(st, slot) - share_of(st, slot)
    tick = show_bankruptcy(st, market, worth, position["qty_lot"])
    if whole and can_carry(st, market, position["qty_lot"]):
        take_over(st, slot, closed, worth, tick)
        return closed
    lots, worth, reason = walk_book(st, slot, worth, tick)
    if lots > 0 and st.markets[market]["backstop"] == BACKSTOP_TAKEOVER and can_carry(st, market, position["qty_lot"]):
        take_over(st, slot, lots, worth, tick)
        return closed
    if lots > 0:
        lots, worth = serve_queue(st, slot, lots, worth, tick, reason)
    if lots > 0:
        hand_over(st, slot, lots, worth, tick)
    return closed


@helper
def choose_position(st, account, asset):
    """Return the slot of the cross position with the largest maintenance, the lower market on a tie.

    Source: LIQ-004.
    """
    chosen = np.int64(NIL)
    largest = np.int64(-1)
    slot = np.int64(st.accounts[account]["positions_head"])
    while slot != NIL:
        if is_cross(st, slot, asset):
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
    cover_deficit(st, next_deficit(st), market, account_of(st, code), np.int64(0), np.int64(0), np.int64(0), lack)


@helper
def cancel_account(st, account):
    """Cancel all orders of an account, market by market.

    Source: LIQ-003.
    """
    slot = np.int64(st.accounts[account]["positions_head"])
    while slot != NIL:
        cancel_owned(st, slot, np.int64(BY_LIQUIDATION))
        slot = np.int64(st.positions[slot]["next_owned"])


@helper
@phase("liquidation")
def liquidate_domain(st, code):
    """Liquidate a domain in full.

    Source: LIQ-001, LIQ-003, LIQ-004, LIQ-010.
    """
    account = account_of(st, code)
    asset = asset_of(st, code)
    cancel_account(st, account)
    equity, maintenance, count = measure_domain(st, code)
    if equity >= maintenance:
        hang_domain(st, code)
        return
    emit_domain(st, np.int64(LIQUIDATION_STARTED), code, equity, maintenance)
    waived = st.assets[asset]["waived_quote"]
    closed = np.int64(0)
    if count == 0:
        make_whole(st, code, equity)
    elif code & 1:
        whole = is_for_vault(st, code, account, asset, equity)
        while count > 0 and (whole or equity < maintenance):
            closed += close_position(st, choose_position(st, account, asset), whole)
            equity, maintenance, count = measure_domain(st, code)
    else:
        closed = close_position(st, code >> 1, is_for_vault(st, code, account, asset, equity))
        touch(st, account * st.head[0]["asset_count"] * 2 + asset * 2 + 1)
    equity, maintenance, _ = measure_domain(st, code)
    event = emit_domain(st, np.int64(LIQUIDATION_ENDED), code, equity, maintenance)
    event["qty_lot"] = closed
    event["fee_quote"] = st.assets[asset]["waived_quote"] - waived
    touch(st, code)
