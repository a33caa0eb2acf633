"""Auto-deleveraging: rank the other side, close the best-ranked at the bankruptcy price (ADL-001..ADL-009)."""

import numpy as np

from engine._jit import helper, inlined
from engine._probe import phase
from engine.codes import ADL_FILL, ADL_NOTICE, ADL_STARTED, BY_ADL, ISOLATED
from engine.kernels.account import close_lots, fee_of, pay_fee, settle_lots, wallet_index
from engine.kernels.book import cancel_owned
from engine.kernels.box import prefetch
from engine.kernels.emit import emit
from engine.kernels.fixed import mul_div_floor
from engine.kernels.fund import emit_deficit, next_deficit
from engine.kernels.heap import pop_heap
from engine.kernels.margin import domain_of, measure_domain, value_at
from engine.kernels.queue import is_standing, open_queue, put_back
from engine.kernels.trigger import touch_account
from engine.layout import NIL


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
def deleverage(st, slot, victim, equity, lots, worth, tick, queue_length, rank, score):
    """Close `lots` of bankrupt position `slot` against a victim at their share `worth` of the bankruptcy value.

    `equity` is the victim's domain's after that, before fees.  Source: ADL-005, ADL-006, ADL-007, ADL-008.
    """
    position = st.positions[slot]
    market = np.int64(position["market"])
    rules = st.markets[market]
    sign = np.int64(1 if position["qty_lot"] > 0 else -1)
    gives_up = worth - value_at(st, market, rules["mark_tick"], lots * sign)
    change = settle_lots(st, slot, lots, worth)
    gain, victim_change = close_lots(st, victim, lots, -worth)
    fee = charge_victim(st, victim, worth, equity)
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
    prefetch(st.accounts, entry["minor"])
    prefetch(st.wallets, entry["minor"] * st.head[0]["asset_count"])
    prefetch(st.positions, slot)


@helper
@phase("ADL")
def serve_queue(st, slot, lots, worth, tick, reason):
    """Deleverage what the book did not take; return (lots left, worth left).

    Source: ADL-002, ADL-004.
    """
    position = st.positions[slot]
    market = np.int64(position["market"])
    sign = np.int64(1 if position["qty_lot"] > 0 else -1)
    head = st.head[0]
    length = open_queue(st, market, -sign)
    event = emit(st, ADL_STARTED, reason, market, np.int64(position["account"]))
    event["side"] = -sign
    event["qty_lot"] = lots
    event["count"] = length
    event["mark_tick"] = st.markets[market]["mark_tick"]
    event["bankruptcy_tick"] = tick
    end = head["queue_count"]
    rank = np.int64(0)
    passed = np.int64(NIL)  # a position passed over may have come up with more than one record
    while lots > 0 and head["queue_count"] > 0:
        pop_heap(st.queue, head["queue_count"])
        head["queue_count"] -= 1
        if head["queue_count"] > 0:
            fetch_next(st)
        entry = st.queue[head["queue_count"]]
        victim = entry["item"]
        if victim == passed or not is_standing(st, entry):
            entry["item"] = NIL
            continue
        rank += 1
        part = min(abs(st.positions[victim]["qty_lot"]), lots)
        price = mul_div_floor(worth, part, lots)
        equity = measure_left(st, victim, part * sign) - price
        if equity < 0:
            passed = victim
            continue
        entry["item"] = NIL  # its position changes, and is ranked anew
        deleverage(st, slot, victim, equity, part, price, tick, length, rank, -entry["key"])
        lots -= part
        worth -= price
    put_back(st, end)
    return lots, worth
