"""Settlement in cash: at each mark every position's variation is paid, from the losers to the winners (CASH-001..)."""

import numpy as np

from engine._jit import helper
from engine._probe import phase
from engine.codes import EXTERNAL, HOUSE, SATURATED, VARIATION
from engine.kernels.emit import emit
from engine.kernels.fixed import mul_div_floor
from engine.kernels.fund import credit_fund, debit_fund, emit_deficit, fund_of, next_deficit
from engine.kernels.margin import count_accounts, cross_code, value_at_mark
from engine.kernels.trigger import hang_domain
from engine.layout import NIL


@helper
def enter_market(st, slot):
    """Give a position its place among those of its market, if it has none yet.

    Source: CASH-002.
    """
    position = st.positions[slot]
    rules = st.markets[position["market"]]
    if rules["settlement"] == 0 or position["entered"]:
        return
    position["entered"] = 1
    position["next_entered"] = NIL
    if rules["entered_tail"] == NIL:
        rules["entered_head"] = slot
    else:
        st.positions[rules["entered_tail"]]["next_entered"] = slot
    rules["entered_tail"] = slot


@helper
def take_variation(st, slot):
    """Settle a position at the mark: its cost becomes its value there; return what it gained or lost.

    Source: CASH-004.
    """
    position = st.positions[slot]
    value = value_at_mark(st, slot)
    variation = value - position["cost_quote"]
    position["cost_quote"] = value
    return variation


@helper
def see_variation(st, slot):
    """Return what a position gained or lost since it was last settled."""
    return value_at_mark(st, slot) - st.positions[slot]["cost_quote"]


@helper
def report_variation(st, slot, variation, booked, deficit_id):
    """Emit a position's variation and what was booked of it.

    Source: EVT-001.
    """
    position = st.positions[slot]
    market = np.int64(position["market"])
    event = emit(st, VARIATION, 0, market, np.int64(position["account"]))
    event["qty_lot"] = position["qty_lot"]
    event["mark_tick"] = st.markets[market]["mark_tick"]
    event["amount_quote"] = variation
    event["other_amount_quote"] = booked
    event["order_id"] = deficit_id


@helper
def settle_outside(st, market):
    """Settle the outside's position: it pays and is paid in full; nothing else happens to it.

    Source: CASH-004, OUT-001.
    """
    slot = np.int64(st.markets[market]["external"])
    variation = take_variation(st, slot)
    if variation != 0:
        wallet = st.wallets[np.int64(st.markets[market]["asset"])]
        wallet["balance_quote"] += variation
        if abs(wallet["balance_quote"]) > SATURATED:
            st.head[0]["fault"] = 2
        report_variation(st, slot, variation, variation, np.int64(0))


@helper
def collect(st, slot, count):
    """Have a loser pay: its wallet, or for the house nothing, then the fund; note a shortfall as record `count`.

    Returns the shortfalls noted, and what neither paid.  Source: CASH-004.
    """
    variation = take_variation(st, slot)
    position = st.positions[slot]
    market = np.int64(position["market"])
    account = np.int64(position["account"])
    fund = st.funds[fund_of(st, market)]
    if account == HOUSE:
        paid = min(-variation, fund["balance_quote"])
    else:
        wallet = st.wallets[account * st.head[0]["asset_count"] + np.int64(st.markets[market]["asset"])]
        paid = min(-variation, max(wallet["balance_quote"], 0))
        wallet["balance_quote"] -= paid
    short = -variation - paid
    deficit_id = next_deficit(st) if short > 0 else np.int64(0)
    report_variation(st, slot, variation, -paid, deficit_id)
    by_fund = np.int64(0)
    if account == HOUSE:
        debit_fund(st, market, account, paid, np.int64(0))
    else:
        by_fund = min(short, fund["balance_quote"])
        debit_fund(st, market, account, by_fund, deficit_id)
    if short == 0:
        return count, np.int64(0)
    record = st.queue[count]
    record["key"] = account
    record["tie"] = short
    record["minor"] = by_fund
    record["item"] = deficit_id
    return count + 1, short - by_fund


@helper
def distribute(st, slot, booked):
    """Pay a winner what was collected for it.

    Source: CASH-004.
    """
    variation = take_variation(st, slot)
    position = st.positions[slot]
    market = np.int64(position["market"])
    account = np.int64(position["account"])
    report_variation(st, slot, variation, booked, np.int64(0))
    if account == HOUSE:
        credit_fund(st, market, account, booked, np.int64(0))
    else:
        wallet = account * st.head[0]["asset_count"] + np.int64(st.markets[market]["asset"])
        st.wallets[wallet]["balance_quote"] += booked
        if st.wallets[wallet]["balance_quote"] > SATURATED:
            st.head[0]["fault"] = 2


@helper
def next_settled(st, market, slot):
    """Return the position after `slot` in the order of settlement, NIL: start or end; the house is last.

    Source: CASH-002.
    """
    rules = st.markets[market]
    if slot != NIL and slot == rules["house"]:
        return np.int64(NIL)
    found = np.int64(rules["entered_head"])
    if slot != NIL:
        found = np.int64(st.positions[slot]["next_entered"])
    return found if found != NIL else rules["house"]


@helper
def pay_losses(st, market):
    """Collect from the losers; return (shortfalls, their sum, winners' gains, the last winner).

    Source: CASH-004.
    """
    count = np.int64(0)
    lack = np.int64(0)
    gains = np.int64(0)
    last = np.int64(NIL)
    slot = next_settled(st, market, np.int64(NIL))
    while slot != NIL:
        variation = see_variation(st, slot)
        if variation < 0:
            count, short = collect(st, slot, count)
            lack += short
        elif variation > 0:
            gains += variation
            last = slot
        if max(gains, lack) > SATURATED:
            st.head[0]["fault"] = 2
            return count, lack, gains, last
        slot = next_settled(st, market, slot)
    return count, lack, gains, last


@helper
def pay_gains(st, market, lack, gains, last):
    """Pay the winners: in full, or each its floored part of what was collected, the rest to the last.

    Source: CASH-004.
    """
    left = max(gains - lack, 0)
    total = left
    slot = next_settled(st, market, np.int64(NIL))
    while slot != NIL:
        variation = see_variation(st, slot)
        if variation > 0:
            booked = variation
            if lack > 0:
                booked = left if slot == last else mul_div_floor(variation, total, gains)
            left -= booked
            distribute(st, slot, booked)
        slot = next_settled(st, market, slot)


@helper
def report_shortfalls(st, market, count, gains):
    """Emit the deficit of every loser that could not pay: its fund's part, the winners', in the end nobody's.

    Source: CASH-004, EVT-002, DEF-003.
    """
    for at in range(count):
        record = st.queue[at]
        account, short, by_fund, deficit_id = record["key"], record["tie"], record["minor"], record["item"]
        by_haircut = min(short - by_fund, gains)
        gains -= by_haircut
        unpaid = short - by_fund - by_haircut
        st.assets[st.markets[market]["asset"]]["insolvency_quote"] -= unpaid
        mark_tick = st.markets[market]["mark_tick"]
        event = emit_deficit(st, deficit_id, market, account, np.int64(0), mark_tick, np.int64(0), short)
        event["other_amount_quote"] = by_fund
        event["margin_quote"] = by_haircut
        event["other_margin_quote"] = unpaid


@helper
@phase("funding")
def settle_market(st, market):
    """Settle a market at its mark: O(accounts that ever entered it).

    Source: CASH-001, CASH-004.
    """
    st.head[0]["queue_live"] = 0  # its records are used for the shortfalls
    settle_outside(st, market)
    count, lack, gains, last = pay_losses(st, market)
    pay_gains(st, market, lack, gains, last)
    report_shortfalls(st, market, count, gains)


@helper
def settle_marked(st):
    """Settle the markets whose mark was given, then look at everybody who holds their asset.

    Source: CASH-001, CASH-005.
    """
    head = st.head[0]
    for market in range(head["market_count"]):
        rules = st.markets[market]
        if rules["settle_due"] != 0:
            rules["settle_due"] = 0
            head["settle_count"] -= 1
            settle_market(st, market)
            st.assets[rules["asset"]]["settled_seq"] = head["seq"]
    for asset in range(head["asset_count"]):
        if st.assets[asset]["settled_seq"] == head["seq"]:
            for account in range(EXTERNAL + 1, count_accounts(st)):
                hang_domain(st, cross_code(st, account, asset))
