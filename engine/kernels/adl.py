"""Auto-deleveraging: rank the other side, close whom the allocation names, settle the gap to the bankruptcy value.

Source: ADL-001..ADL-009, ADL-017..ADL-027.
"""

import numpy as np

from engine._jit import helper, inlined
from engine._probe import phase
from engine.codes import (
    ADL_FILL,
    ADL_NOTICE,
    ADL_STARTED,
    ALLOT_QUEUE,
    BY_ADL,
    FUND_HELD,
    FUND_SHORT,
    ISOLATED,
    LINEAR,
    PPM,
    PRICE_BANKRUPTCY,
    PRICE_PREVIOUS,
    PRICE_WITHIN,
)
from engine.kernels.account import close_lots, fee_of, pay_fee, settle_lots, wallet_index
from engine.kernels.allot import allot_parts
from engine.kernels.book import cancel_owned
from engine.kernels.box import prefetch
from engine.kernels.emit import emit
from engine.kernels.fixed import mul_div_floor
from engine.kernels.fund import cover_deficit, credit_fund, fund_of, next_deficit
from engine.kernels.heap import pop_heap
from engine.kernels.margin import domain_of, measure_domain, value_at
from engine.kernels.queue import freeze_queue, is_standing, list_side, open_queue, put_back
from engine.kernels.stages import fund_part
from engine.kernels.trigger import touch_account
from engine.kernels.watch import is_fund_held
from engine.layout import NIL


@helper
def choose_price(st, market, lots, worth_quote):
    """Return the tick at which `lots` (signed) of a bankrupt are deleveraged, 0 for their bankruptcy value.

    Source: ADL-005, ADL-017, ADL-018.
    """
    rules = st.markets[market]
    mark_tick = rules["mark_tick"]
    if rules["adl_price"] == PRICE_BANKRUPTCY:
        return np.int64(0)
    if rules["adl_price"] == PRICE_PREVIOUS and rules["previous_tick"] > 0:
        return rules["previous_tick"]
    if rules["adl_price"] == PRICE_WITHIN:
        value = value_at(st, market, mark_tick, lots)
        # a distance of prices: an inverse value is one over its price
        base = value if rules["kind"] == LINEAR else worth_quote
        if abs(worth_quote - value) <= mul_div_floor(abs(base), rules["adl_within_ppm"], PPM):
            return np.int64(0)
    return mark_tick


@helper
def price_lots(st, slot, lots, share_quote):
    """Return what closing `lots` of bankrupt position `slot` exchanges: their share of B, or their value at the price.

    Source: ADL-005, ADL-017.
    """
    tick = st.head[0]["adl_tick"]
    if tick == 0:
        return share_quote
    position = st.positions[slot]
    return value_at(st, np.int64(position["market"]), tick, lots if position["qty_lot"] > 0 else -lots)


@helper
def charge_victim(st, slot, worth_quote, equity_quote):
    """Charge a victim the maker fee, at most what it has left; return the fee.

    Source: ADL-007.
    """
    rules = st.markets[st.positions[slot]["market"]]
    if not rules["adl_fees"] or rules["maker_fee_ppm"] <= 0:
        return np.int64(0)
    due = fee_of(worth_quote, rules["maker_fee_ppm"])
    room = equity_quote
    if st.positions[slot]["mode"] == ISOLATED:
        room = min(room, st.wallets[wallet_index(st, slot)]["balance_quote"])
    fee = min(due, max(room, 0))
    pay_fee(st, slot, fee)
    st.assets[rules["asset"]]["waived_quote"] += due - fee
    return fee


@helper
def charge_bankrupt(st, market, value_quote, surplus_quote):
    """Take the bankrupt's taker fee out of what its close brought beyond B, as far as that goes; return the fee.

    Source: ADL-007.
    """
    rules = st.markets[market]
    if not rules["adl_fees"]:
        return np.int64(0)
    due = max(fee_of(value_quote, rules["taker_fee_ppm"]), 0)
    fee = min(due, max(surplus_quote, 0))
    st.assets[rules["asset"]]["fees_quote"] += fee
    st.assets[rules["asset"]]["waived_quote"] += due - fee
    return fee


@helper
def notify_victim(st, victim, market, side, account):
    """Cancel a victim's orders in the market, unless the policy lets them rest, and tell it what is left.

    Source: ADL-008.
    """
    other = np.int64(st.positions[victim]["account"])
    st.wallets[wallet_index(st, victim)]["last_market"] = market
    if st.markets[market]["adl_cancel_victims"]:
        cancel_owned(st, victim, np.int64(BY_ADL))
    notice = emit(st, ADL_NOTICE, 0, market, other)
    notice["side"] = side
    notice["qty_lot"] = abs(st.positions[victim]["qty_lot"])
    notice["other"] = account
    touch_account(st, other, victim)


@helper
def deleverage(st, slot, victim, equity, lots, share, value, tick, rank, score):
    """Close `lots` of bankrupt position `slot` against a victim for `value`; the bankrupt books its `share` of B.

    On top of that what the surplus policy leaves it; `equity` is the victim's domain's afterwards, before fees.
    Source: ADL-005, ADL-006, ADL-007, ADL-022, STAGE-007.
    """
    position = st.positions[slot]
    market = np.int64(position["market"])
    rules = st.markets[market]
    head = st.head[0]
    sign = np.int64(1 if position["qty_lot"] > 0 else -1)
    gives_up = value - value_at(st, market, rules["mark_tick"], lots * sign)
    surplus = value - share
    fee = charge_bankrupt(st, market, value, surplus)
    left_over = max(surplus - fee, 0)
    to_fund = fund_part(st, market, value, left_over)
    change = settle_lots(st, slot, lots, share + left_over - to_fund)
    gain, victim_change = close_lots(st, victim, lots, -value)
    victim_fee = charge_victim(st, victim, value, equity)
    given, lack = max(gives_up, 0), max(-surplus, 0)
    deficit_id = next_deficit(st) if given + lack > 0 else np.int64(0)
    account = np.int64(position["account"])
    price_tick = head["adl_tick"] if head["adl_tick"] > 0 else np.int64(tick)
    event = emit(st, ADL_FILL, 0, market, account)
    event["other"] = st.positions[victim]["account"]
    event["side"] = -sign
    event["qty_lot"] = lots
    event["price_tick"] = price_tick
    event["bankruptcy_tick"] = tick
    event["mark_tick"] = rules["mark_tick"]
    event["amount_quote"] = value
    event["other_amount_quote"] = gain
    event["order_id"] = deficit_id
    event["other_order_id"] = score
    event["rank"] = rank
    event["count"] = head["adl_count"]
    event["fee_quote"] = fee
    event["other_fee_quote"] = victim_fee
    event["margin_quote"] = change
    event["other_margin_quote"] = victim_change
    if to_fund > 0:
        credit_fund(st, market, account, to_fund, np.int64(0))
    if given + lack > 0:
        bankrupt = domain_of(st, slot)
        cover_deficit(st, deficit_id, market, bankrupt, account, -sign, price_tick, lots, lack, given)
    notify_victim(st, victim, market, -sign, account)


@helper
def measure_left(st, victim, lots):
    """Return a victim's domain equity at the mark without `lots`, signed as the bankrupt's, before it pays for them.

    Source: ADL-004.
    """
    held = st.positions[victim]["qty_lot"]
    market = np.int64(st.positions[victim]["market"])
    mark_tick = st.markets[market]["mark_tick"]
    equity, _, _ = measure_domain(st, domain_of(st, victim))
    return equity + value_at(st, market, mark_tick, held + lots) - value_at(st, market, mark_tick, held)


@inlined
def fetch_next(st):
    """Have the processor fetch what deleveraging the next in the queue will touch."""
    entry = st.queue[0]
    slot = entry["item"]
    if slot != NIL:
        prefetch(st.wallets, entry["minor"] * st.head[0]["asset_count"])
        prefetch(st.positions, slot)


@helper
def serve_queue(st, slot, lots, worth, tick):
    """Deleverage from the front of the queue; return (lots left, worth left).

    Source: ADL-002, ADL-004.
    """
    position = st.positions[slot]
    market = np.int64(position["market"])
    sign = np.int64(1 if position["qty_lot"] > 0 else -1)
    head = st.head[0]
    end = head["queue_count"]
    rank = np.int64(0)
    last = np.int64(NIL)  # a position may come up with more than one record
    while lots > 0 and head["queue_count"] > 0:
        pop_heap(st.queue, head["queue_count"])
        head["queue_count"] -= 1
        if head["queue_count"] > 0:
            fetch_next(st)
        entry = st.queue[head["queue_count"]]
        victim = entry["item"]
        if victim == NIL or victim == last or (head["queue_live"] != 0 and not is_standing(st, entry)):
            entry["item"] = NIL
            continue
        rank += 1
        last = victim
        part = min(abs(st.positions[victim]["qty_lot"]), lots)
        share = mul_div_floor(worth, part, lots)
        value = price_lots(st, slot, part, share)
        equity = measure_left(st, victim, part * sign) - value
        if equity < 0:
            continue
        if head["queue_live"] != 0 and share - value > st.funds[fund_of(st, market)]["balance_quote"]:
            freeze_queue(st)
        entry["item"] = NIL  # its position changes, and is ranked anew
        deleverage(st, slot, victim, equity, part, share, value, tick, rank, -entry["key"])
        lots -= part
        worth -= share
    if head["queue_live"] != 0:
        put_back(st, end)
    return lots, worth


@helper
def serve_parts(st, slot, lots, worth, tick):
    """Deleverage all whom the allocation gives a part, best score first; return (lots left, worth left).

    Source: ADL-023.
    """
    position = st.positions[slot]
    market = np.int64(position["market"])
    rules = st.markets[market]
    sign = np.int64(1 if position["qty_lot"] > 0 else -1)
    head = st.head[0]
    count = head["adl_count"]
    passed = count > 0
    while lots > 0 and passed:
        passed = False
        loss = price_lots(st, slot, lots, worth) - value_at(st, market, rules["mark_tick"], lots * sign)
        allot_parts(st, count, lots, loss, np.int64(rules["adl_allocation"]))
        for at in range(count):
            entry = st.queue[count + at]
            victim, part = entry["item"], entry["tie"]
            if victim == NIL or part == 0:
                continue
            share = mul_div_floor(worth, part, lots)
            value = price_lots(st, slot, part, share)
            equity = measure_left(st, victim, part * sign) - value
            if equity < 0:
                entry["item"] = NIL
                passed = True
                continue
            deleverage(st, slot, victim, equity, part, share, value, tick, at + 1, -entry["key"])
            lots -= part
            worth -= share
    return lots, worth


@helper
@phase("ADL")
def deleverage_rest(st, slot, lots, worth, tick, reason):
    """Deleverage what the book did not take; return (lots left, worth left).

    Source: ADL-001, ADL-002, ADL-004, ADL-019.
    """
    position = st.positions[slot]
    market = np.int64(position["market"])
    rules = st.markets[market]
    sign = np.int64(1 if position["qty_lot"] > 0 else -1)
    head = st.head[0]
    if reason == FUND_SHORT and is_fund_held(st, market, lots * sign, worth):
        reason = FUND_HELD
    head["adl_tick"] = choose_price(st, market, lots * sign, worth)
    if rules["adl_allocation"] == ALLOT_QUEUE:
        head["adl_count"] = open_queue(st, market, -sign)
    else:
        head["adl_count"] = list_side(st, market, -sign)
    event = emit(st, ADL_STARTED, reason, market, np.int64(position["account"]))
    event["side"] = -sign
    event["qty_lot"] = lots
    event["count"] = head["adl_count"]
    event["mark_tick"] = rules["mark_tick"]
    event["bankruptcy_tick"] = tick
    if rules["adl_allocation"] == ALLOT_QUEUE:
        lots, worth = serve_queue(st, slot, lots, worth, tick)
    else:
        lots, worth = serve_parts(st, slot, lots, worth, tick)
    return lots, worth
