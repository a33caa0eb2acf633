"""Funding: paid position to position, exact to the unit (FUND-001)."""

import numpy as np

from engine._jit import helper, hot
from engine._probe import phase
from engine.codes import BAD_AMOUNT, EXTERNAL, FUNDING_PAYMENT, ISOLATED, NO_MARK, OK, PPB
from engine.kernels.account import wallet_index
from engine.kernels.emit import emit
from engine.kernels.fixed import mul_div_floor
from engine.kernels.house import fund_house
from engine.kernels.margin import domain_of, find_position, value_at_mark
from engine.kernels.trigger import touch_equity
from engine.layout import NIL


@hot
def pay_position(st, slot, rate_ppb):
    """Book one position's payment; return it, received positive.

    Source: FUND-001, INV-004.
    """
    position = st.positions[slot]
    market = np.int64(position["market"])
    flow = abs(value_at_mark(st, slot)) * (1 if position["qty_lot"] > 0 else -1)
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
    else:
        st.wallets[wallet_index(st, slot)]["balance_quote"] += received
    if account != EXTERNAL:
        touch_equity(st, domain_of(st, slot), received)
    return received


@helper
@phase("funding")
def pay_funding(st, command):
    """Apply a funding command.

    Source: FUND-001.
    """
    market = np.int64(command["market"])
    rules = st.markets[market]
    rate_ppb = command["amount_quote"]
    if rate_ppb > PPB or rate_ppb < -PPB:
        return BAD_AMOUNT
    if rules["mark_tick"] == 0:
        return NO_MARK
    total = fund_house(st, market, rate_ppb)
    for account in range(len(st.accounts)):
        slot = find_position(st, account, market)
        if slot != NIL and st.positions[slot]["qty_lot"] != 0:
            total += pay_position(st, slot, rate_ppb)
    st.assets[rules["asset"]]["rounding_quote"] -= total
    return OK
