"""Auto-deleveraging: rank the other side, close the best-ranked at the bankruptcy price (ADL-001..ADL-009)."""

import numpy as np

from engine._jit import helper
from engine.codes import ADL_FILL, ADL_NOTICE, ADL_STARTED, BY_ADL, EXTERNAL, ISOLATED, PPB
from engine.kernels.account import close_lots, fee_of, pay_fee, settle_lots, wallet_index
from engine.kernels.book import cancel_owned
from engine.kernels.emit import emit
from engine.kernels.fixed import mul_div_floor, saturate
from engine.kernels.fund import emit_deficit, next_deficit
from engine.kernels.heap import build_heap, pop_heap
from engine.kernels.margin import domain_of, measure_domain, share_of, value_at, value_at_mark
from engine.kernels.trigger import touch_account


@helper
def score_bitmex(gain_quote, cost_quote, value_quote, share_quote):
    """Return the score in units of 1e-9: PnL% x effective leverage in profit, PnL% / leverage in loss.

    Source: ADL-003 (BitMEX, auto-deleveraging).
    """
    rate = saturate(mul_div_floor(gain_quote, PPB, max(abs(cost_quote), 1)))
    leverage = saturate(mul_div_floor(abs(value_quote), PPB, share_quote))
    if gain_quote > 0:
        return saturate(mul_div_floor(rate, leverage, PPB))
    return saturate(mul_div_floor(rate, PPB, max(leverage, 1)))


@helper
def build_queue(st, market, side, bankrupt):
    """Rank the positions of `side` in a market into `st.queue`; return how many; O(positions).

    Source: ADL-002, ADL-003.
    """
    count = np.int64(0)
    for slot in range(st.head[0]["position_used"]):
        position = st.positions[slot]
        if position["market"] != market or position["qty_lot"] * side <= 0:
            continue
        if position["account"] == EXTERNAL or position["account"] == bankrupt:
            continue
        share = share_of(st, slot)
        if share <= 0:
            continue
        value = value_at_mark(st, slot)
        cost = position["cost_quote"]
        entry = st.queue[count]
        entry["key"] = -score_bitmex(value - cost, cost, value, share)
        entry["tie"] = position["opened_seq"]
        entry["minor"] = position["account"]
        entry["item"] = slot
        count += 1
    build_heap(st.queue, count)
    return count


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
def deleverage(st, slot, victim, lots, worth, tick, queue_length, rank, score):
    """Close `lots` of bankrupt position `slot` against a victim at their share `worth` of the bankruptcy value.

    Source: ADL-005, ADL-006, ADL-007, ADL-008.
    """
    position = st.positions[slot]
    market = np.int64(position["market"])
    rules = st.markets[market]
    sign = np.int64(1 if position["qty_lot"] > 0 else -1)
    gives_up = worth - value_at(st, market, rules["mark_tick"], lots * sign)
    equity, _, _ = measure_domain(st, domain_of(st, victim))
    change = settle_lots(st, slot, lots, worth)
    gain, victim_change = close_lots(st, victim, lots, -worth)
    fee = charge_victim(st, victim, worth, equity - gives_up)
    if rules["adl_fees"]:
        st.assets[rules["asset"]]["waived_quote"] += max(fee_of(worth, rules["taker_fee_ppm"]), 0)
    deficit_id = next_deficit(st) if gives_up > 0 else np.int64(0)
    account, other = np.int64(position["account"]), np.int64(st.positions[victim]["account"])
    event = emit(st, ADL_FILL, 0, market, account)
    event["other"] = other
    event["side"] = -sign
    event["qty_lot"] = lots
    event["price_tick"] = tick
    event["bankruptcy_tick"] = tick
    event["mark_tick"] = rules["mark_tick"]
    event["amount_quote"] = worth
    event["other_amount_quote"] = gain
    event["order_id"] = deficit_id
    event["other_order_id"] = score
    event["rank"] = rank
    event["count"] = queue_length
    event["other_fee_quote"] = fee
    event["margin_quote"] = change
    event["other_margin_quote"] = victim_change
    if gives_up > 0:
        emit_deficit(st, deficit_id, market, account, -sign, tick, lots, gives_up)["fee_quote"] = gives_up
    st.wallets[wallet_index(st, victim)]["last_market"] = market
    cancel_owned(st, victim, np.int64(BY_ADL))
    notice = emit(st, ADL_NOTICE, 0, market, other)
    notice["side"] = -sign
    notice["qty_lot"] = abs(st.positions[victim]["qty_lot"])
    notice["other"] = account
    touch_account(st, other, victim)


@helper
def serve_queue(st, slot, lots, worth, tick, reason):
    """Deleverage what the book did not take; return (lots left, worth left).

    Source: ADL-002, ADL-004.
    """
    position = st.positions[slot]
    market = np.int64(position["market"])
    mark_tick = st.markets[market]["mark_tick"]
    sign = np.int64(1 if position["qty_lot"] > 0 else -1)
    count = build_queue(st, market, -sign, position["account"])
    event = emit(st, ADL_STARTED, reason, market, np.int64(position["account"]))
    event["side"] = -sign
    event["qty_lot"] = lots
    event["count"] = count
    event["mark_tick"] = mark_tick
    event["bankruptcy_tick"] = tick
    for rank in range(count):
        if lots == 0:
            break
        victim = st.queue[0]["item"]
        score = -st.queue[0]["key"]
        pop_heap(st.queue, count - rank)
        part = min(abs(st.positions[victim]["qty_lot"]), lots)
        price = mul_div_floor(worth, part, lots)
        equity, _, _ = measure_domain(st, domain_of(st, victim))
        if equity + value_at(st, market, mark_tick, part * sign) - price < 0:
            continue
        deleverage(st, slot, victim, part, price, tick, count, np.int64(rank + 1), score)
        lots -= part
        worth -= price
    return lots, worth
