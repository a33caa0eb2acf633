"""Funding: rates announced, then paid position to position, exact to the unit (FUND-001, FUND-010..FUND-016)."""

import numpy as np

from engine._jit import helper, hot
from engine._probe import phase
from engine.codes import (
    BAD_AMOUNT,
    EXTERNAL,
    FUNDING,
    FUNDING_PAYMENT,
    FUNDING_PREMIUM,
    FUNDING_RATE,
    FUNDINGS_MAX,
    ISOLATED,
    MARK_MEDIAN3,
    NO_MARK,
    NS,
    OK,
    PAY_ON_INDEX,
    PPB,
    SATURATED,
)
from engine.kernels.account import wallet_index
from engine.kernels.emit import emit
from engine.kernels.fixed import mul_div_floor
from engine.kernels.house import fund_house
from engine.kernels.margin import count_accounts, domain_of, find_position, value_at
from engine.kernels.marks import count_instants, look_at_basis, take_basis
from engine.kernels.premium import add_premium, average_premium, compute_rate, look_at_premium
from engine.kernels.trigger import follow_last, touch_equity
from engine.layout import NIL

NEVER = np.iinfo(np.int64).max


@hot
def pay_position(st, slot, rate_ppb, price_tick):
    """Book one position's payment; return it, received positive.

    Source: FUND-001, INV-004.
    """
    position = st.positions[slot]
    market = np.int64(position["market"])
    value = value_at(st, market, price_tick, position["qty_lot"])
    flow = abs(value) * (1 if position["qty_lot"] > 0 else -1)
    # received = -rate x flow; payers round up in magnitude and receivers down: both are the floor of the signed flow
    received = mul_div_floor(-flow, rate_ppb, PPB)
    if received == 0:
        return received
    account = np.int64(position["account"])
    event = emit(st, FUNDING_PAYMENT, 0, market, account)
    event["amount_quote"] = received
    event["qty_lot"] = position["qty_lot"]
    event["mark_tick"] = st.markets[market]["mark_tick"]
    if position["mode"] == ISOLATED:
        position["margin_quote"] += received
        event["margin_quote"] = received
        balance = position["margin_quote"]
    else:
        wallet = st.wallets[wallet_index(st, slot)]
        wallet["balance_quote"] += received
        balance = wallet["balance_quote"]
    if abs(balance) > SATURATED:
        st.head[0]["fault"] = 2
    if account != EXTERNAL:
        touch_equity(st, domain_of(st, slot), received)
    return received


@helper
@phase("funding")
def pay_funding(st, market, rate_ppb, premium_ppb):
    """Announce a rate and let every position of the market pay or receive it.

    Source: FUND-001, FUND-010, FUND-016.
    """
    rules = st.markets[market]
    st.averages[market]["rate_ppb"] = rate_ppb
    price_tick = rules["index_tick"] if rules["funding_pay_on"] == PAY_ON_INDEX else rules["mark_tick"]
    event = emit(st, FUNDING_RATE, 0, market, 0)
    event["amount_quote"] = rate_ppb
    event["other_amount_quote"] = premium_ppb
    event["price_tick"] = price_tick
    event["mark_tick"] = rules["mark_tick"]
    total = fund_house(st, market, rate_ppb, price_tick)
    for account in range(count_accounts(st)):
        slot = find_position(st, account, market)
        if slot != NIL and st.positions[slot]["qty_lot"] != 0:
            total += pay_position(st, slot, rate_ppb, price_tick)
    st.assets[rules["asset"]]["rounding_quote"] -= total


@helper
def check_funding(st, command):
    """Return OK, or what is wrong with a funding command; the payments follow the mark in the step.

    Source: FUND-001, FUND-016, STEP-001.
    """
    rules = st.markets[command["market"]]
    if command["amount_quote"] > PPB or command["amount_quote"] < -PPB:
        return BAD_AMOUNT
    if rules["mark_tick"] == 0 or (rules["funding_pay_on"] == PAY_ON_INDEX and rules["index_tick"] == 0):
        return NO_MARK
    return OK


@helper
def look_around(st, now_ns):
    """Note what every market's samples would be now, before a command that passes an instant is applied.

    A command that is then rejected has looked for nothing.  Source: MARK-002, FUND-011.
    """
    for market in range(st.head[0]["market_count"]):
        look_at_basis(st, market, now_ns)
        look_at_premium(st, market, now_ns)


@helper
def find_due(due_ns, now_ns, interval_s, offset_s):
    """Return the earlier of a time and the first end of an interval after now."""
    left = interval_s * NS - (now_ns - offset_s * NS) % (interval_s * NS)
    return due_ns if left > due_ns - now_ns else now_ns + left


@helper
def take_samples(st, before_ns):
    """Take the basis samples due, and note when anything is due next.

    Source: MARK-002.
    """
    head = st.head[0]
    now_ns = head["ts_ns"]
    due_ns = np.int64(NEVER)
    for market in range(head["market_count"]):
        take_basis(st, market, before_ns)
        rules = st.markets[market]
        if rules["mark_model"] >= MARK_MEDIAN3:
            due_ns = find_due(due_ns, now_ns, rules["basis_interval_s"], np.int64(0))
        if rules["funding_model"] == FUNDING_PREMIUM:
            due_ns = find_due(due_ns, now_ns, rules["funding_sample_s"], np.int64(0))
            due_ns = find_due(due_ns, now_ns, rules["funding_interval_s"], rules["funding_offset_s"])
    head["due_ns"] = due_ns


@helper
def end_intervals(st, market, before_ns):
    """Pay for every funding interval that ended, and take the premium samples due, in order of time.

    Source: FUND-011, FUND-014, FUND-015.
    """
    rules = st.markets[market]
    head = st.head[0]
    now_ns = head["ts_ns"]
    interval_ns = rules["funding_interval_s"] * NS
    offset_ns = rules["funding_offset_s"] * NS
    sample_s = rules["funding_sample_s"]
    first = (before_ns - offset_ns) // interval_ns + 1
    last = (now_ns - offset_ns) // interval_ns
    since_ns = before_ns
    for number in range(first, min(last, first + FUNDINGS_MAX - 1) + 1):
        end_ns = number * interval_ns + offset_ns
        add_premium(st, market, count_instants(since_ns, end_ns, sample_s))
        since_ns = end_ns
        if st.averages[market]["premium_count"] > 0:
            premium = average_premium(st, market)
            pay_funding(st, market, compute_rate(st, market, premium), premium)
        if head["fault"] != 0:
            return
    if first <= last:
        since_ns = last * interval_ns + offset_ns
    add_premium(st, market, count_instants(since_ns, now_ns, sample_s))


@helper
def settle_funding(st, command, before_ns):
    """Pay what funding is due, markets in index order; the marks then follow the new rates.

    Source: STEP-001, FUND-010, FUND-011, MARK-001.
    """
    for market in range(st.head[0]["market_count"]):
        if st.markets[market]["funding_model"] == FUNDING_PREMIUM:
            end_intervals(st, market, before_ns)
        elif command["kind"] == FUNDING and command["market"] == market:
            pay_funding(st, market, command["amount_quote"], np.int64(0))
    follow_last(st)
