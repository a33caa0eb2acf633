"""The insurance fund, and what happens when it is not enough: haircut, then insolvency (DEF-001..DEF-003, FUND-002)."""

import numpy as np

from engine._jit import helper
from engine._probe import phase
from engine.codes import DEFICIT, FUND_CREDIT, FUND_DEBIT, HAIRCUT, ISOLATED
from engine.kernels.account import wallet_index
from engine.kernels.emit import emit
from engine.kernels.fixed import mul_div_floor
from engine.kernels.margin import count_accounts, domain_of, find_position, measure_domain, value_at_mark
from engine.kernels.trigger import touch
from engine.kernels.watch import note_fund, roll_watches
from engine.layout import NIL


@helper
def fund_of(st, market):
    """Return the index of a market's fund."""
    return np.int64(st.markets[market]["fund"])


@helper
@phase("fund")
def credit_fund(st, market, account, amount_quote, fee_quote):
    """Pay a surplus into the market's fund; `fee_quote` of it is the liquidation fee.

    Source: LIQ-006.
    """
    if amount_quote == 0:
        return
    number = fund_of(st, market)
    add_to_fund(st, number, amount_quote)
    event = emit(st, FUND_CREDIT, 0, market, account)
    event["other"] = number
    event["amount_quote"] = amount_quote
    event["other_amount_quote"] = fee_quote


@helper
@phase("fund")
def add_to_fund(st, number, amount_quote):
    """Raise a fund; its low follows until it has been drawn on."""
    fund = st.funds[number]
    if st.head[0]["watch_count"] > 0:
        roll_watches(st)
    fund["balance_quote"] += amount_quote
    if not fund["debited"]:
        fund["low_quote"] = fund["balance_quote"]
    if st.head[0]["watch_count"] > 0:
        note_fund(st, number)


@helper
@phase("fund")
def debit_fund(st, market, account, amount_quote, deficit_id):
    """Draw on the market's fund for a deficit; the caller never asks for more than it holds.

    Source: LIQ-007, FUND-002.
    """
    if amount_quote == 0:
        return
    number = fund_of(st, market)
    fund = st.funds[number]
    if st.head[0]["watch_count"] > 0:
        roll_watches(st)  # the house pays funding while its command is being applied
    fund["balance_quote"] -= amount_quote
    if not fund["debited"]:
        fund["low_quote"] = fund["balance_quote"]
    fund["low_quote"] = min(fund["low_quote"], fund["balance_quote"])
    fund["debited"] = 1
    if st.head[0]["watch_count"] > 0:
        note_fund(st, number)
    event = emit(st, FUND_DEBIT, 0, market, account)
    event["other"] = number
    event["amount_quote"] = amount_quote
    event["order_id"] = deficit_id


@helper
def next_deficit(st):
    """Return a new deficit id.

    Source: DEF-001.
    """
    st.head[0]["deficit_id"] += 1
    return st.head[0]["deficit_id"]


@helper
@phase("fund")
def emit_deficit(st, deficit_id, market, account, side, price_tick, lots, amount_quote):
    """Emit a deficit and return it; the caller names the payers.

    Source: EVT-002.
    """
    event = emit(st, DEFICIT, 0, market, account)
    event["order_id"] = deficit_id
    event["side"] = side
    event["price_tick"] = price_tick
    event["qty_lot"] = lots
    event["amount_quote"] = amount_quote
    return event


@helper
def gain_of(st, slot, bankrupt):
    """Return what a haircut may take of a position: its unrealised gain, at most its domain's equity.

    Of the domain `bankrupt` it takes nothing.  Source: DEF-002.
    """
    position = st.positions[slot]
    gain = value_at_mark(st, slot) - position["cost_quote"]
    if gain <= 0 or domain_of(st, slot) == bankrupt:
        return np.int64(0)
    equity, _, _ = measure_domain(st, domain_of(st, slot))
    return max(min(gain, equity), 0)


@helper
def sum_gains(st, market, bankrupt):
    """Return (sum of gains, winners) of a market."""
    total = np.int64(0)
    count = np.int64(0)
    for account in range(1, count_accounts(st)):
        slot = find_position(st, account, market)
        if slot != NIL:
            gain = gain_of(st, slot, bankrupt)
            if gain > 0:
                total += gain
                count += 1
    return total, count


@helper
def cut_winner(st, slot, cut_quote, deficit_id, count):
    """Take a cut from a winner's wallet or margin.

    Source: DEF-002.
    """
    position = st.positions[slot]
    account = np.int64(position["account"])
    event = emit(st, HAIRCUT, 0, np.int64(position["market"]), account)
    event["amount_quote"] = cut_quote
    event["order_id"] = deficit_id
    event["count"] = count
    if position["mode"] == ISOLATED:
        position["margin_quote"] -= cut_quote
        event["margin_quote"] = -cut_quote
    else:
        st.wallets[wallet_index(st, slot)]["balance_quote"] -= cut_quote
    touch(st, domain_of(st, slot))


@helper
def cut_winners(st, market, bankrupt, lack_quote, deficit_id):
    """Cut winners' gains pro rata for what is lacking; return (paid by haircut, rounding received).

    Source: DEF-002.
    """
    total, count = sum_gains(st, market, bankrupt)
    taken = np.int64(0)
    if total == 0:
        return taken, taken
    paid = min(lack_quote, total)
    for account in range(1, count_accounts(st)):
        slot = find_position(st, account, market)
        if slot == NIL:
            continue
        gain = gain_of(st, slot, bankrupt)
        cut = gain - mul_div_floor(gain, total - paid, total)
        if cut > 0:
            taken += cut
            cut_winner(st, slot, cut, deficit_id, count)
    st.assets[st.markets[market]["asset"]]["rounding_quote"] += taken - paid
    return paid, taken - paid


@helper
@phase("fund")
def cover_deficit(st, deficit_id, market, bankrupt, account, side, price_tick, lots, lack_quote, given_quote):
    """Have what domain `bankrupt` lacks paid by the fund, then by haircut; book the rest as insolvency.

    The deficit it reports includes what a victim gave up (`given_quote`).
    Source: LIQ-009, LIQ-011, ADL-006, ADL-022, DEF-002, DEF-003, EVT-002.
    """
    by_fund = min(lack_quote, st.funds[fund_of(st, market)]["balance_quote"])
    debit_fund(st, market, account, by_fund, deficit_id)
    by_haircut = np.int64(0)
    rounding = np.int64(0)
    if by_fund < lack_quote:
        by_haircut, rounding = cut_winners(st, market, bankrupt, lack_quote - by_fund, deficit_id)
    unpaid = lack_quote - by_fund - by_haircut
    st.assets[st.markets[market]["asset"]]["insolvency_quote"] -= unpaid
    event = emit_deficit(st, deficit_id, market, account, side, price_tick, lots, lack_quote + given_quote)
    event["other_amount_quote"] = by_fund
    event["fee_quote"] = given_quote
    event["margin_quote"] = by_haircut
    event["other_margin_quote"] = unpaid
    event["other_fee_quote"] = rounding
