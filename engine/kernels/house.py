"""The house: account -1, whose money is the market's fund; what it takes over, and what that does to the fund."""

import numpy as np

from engine._jit import helper
from engine._probe import phase
from engine.codes import (
    BACKSTOP_VAULT,
    FUNDING_PAYMENT,
    HOUSE,
    PPB,
    PPM,
    SATURATED,
    TAKEN_AT_MARK,
    TAKEOVER,
    UNWIND_STEPPED,
)
from engine.kernels.account import cut_cost, set_qty, settle_lots, wallet_index
from engine.kernels.emit import emit
from engine.kernels.fixed import mul_div_ceil, mul_div_floor
from engine.kernels.fund import cover_deficit, credit_fund, debit_fund, fund_of, next_deficit
from engine.kernels.margin import (
    domain_of,
    first_owned,
    is_cross,
    is_portfolio,
    measure_domain,
    position_maintenance,
    value_at,
)
from engine.layout import NIL


@helper
def note_due(st, market):
    """Have the next step of a house that unwinds in steps fall due one interval from now, or none if it is flat.

    Source: HOUSE-007.
    """
    rules = st.markets[market]
    rules["unwind_due_ns"] = 0
    if rules["unwind"] == UNWIND_STEPPED and st.positions[rules["house"]]["qty_lot"] != 0:
        rules["unwind_due_ns"] = min(st.head[0]["ts_ns"], SATURATED) + rules["unwind_interval_ns"]


@helper
def hold_lots(st, market, side, lots, value_quote):
    """Add `lots` on `side` to the house's position at a signed value; return what they closed realised.

    Source: HOUSE-002, CASH-003.
    """
    rules = st.markets[market]
    slot = rules["house"]
    position = st.positions[slot]
    held = position["qty_lot"]
    realised = np.int64(0)
    if rules["settlement"] != 0:
        position["cost_quote"] += value_quote
        set_qty(st, slot, held + side * lots)
    else:
        closing = min(abs(held), lots) if held * side < 0 else np.int64(0)
        part = mul_div_floor(value_quote, closing, lots)
        if closing > 0:
            realised = -part - cut_cost(st, slot, closing)
        if closing < lots:
            position["cost_quote"] += value_quote - part
            set_qty(st, slot, position["qty_lot"] + side * (lots - closing))
    most = SATURATED >> 1 if rules["settlement"] != 0 else SATURATED
    if abs(position["cost_quote"]) > most:
        st.head[0]["fault"] = 2
    if held == 0 or position["qty_lot"] == 0:
        st.head[0]["house_count"] += 1 if held == 0 else -1
        note_due(st, market)
    return realised


@helper
def pay_house(st, market, flow_quote, side, price_tick, lots):
    """Bring what the house gained to the fund or take what it lost from it; what the fund cannot pay is a deficit.

    Source: HOUSE-003, DEF-001.
    """
    if flow_quote >= 0:
        credit_fund(st, market, np.int64(HOUSE), flow_quote, np.int64(0))
        return
    paid = min(-flow_quote, st.funds[fund_of(st, market)]["balance_quote"])
    debit_fund(st, market, np.int64(HOUSE), paid, np.int64(0))
    lack = -flow_quote - paid
    if lack > 0:
        nobody = np.int64(-1)  # the code of no domain: the haircut spares none
        account = np.int64(HOUSE)
        cover_deficit(st, next_deficit(st), market, nobody, account, side, price_tick, lots, lack, np.int64(0))


@helper
def fund_house(st, market, rate_ppb, price_tick):
    """Book the house's funding payment on its value at a price; return it, received positive.

    Source: FUND-001, FUND-016, HOUSE-003, INV-004.
    """
    slot = st.markets[market]["house"]
    if slot == NIL or st.positions[slot]["qty_lot"] == 0:
        return np.int64(0)
    qty_lot = st.positions[slot]["qty_lot"]
    flow = abs(value_at(st, market, price_tick, qty_lot)) * (1 if qty_lot > 0 else -1)
    received = mul_div_floor(-flow, rate_ppb, PPB)
    if received == 0:
        return received
    event = emit(st, FUNDING_PAYMENT, 0, market, HOUSE)
    event["amount_quote"] = received
    event["qty_lot"] = st.positions[slot]["qty_lot"]
    event["mark_tick"] = st.markets[market]["mark_tick"]
    pay_house(st, market, received, np.int64(0), np.int64(0), np.int64(0))
    return received


@helper
def sum_house(st, fund, market, lots):
    """Return the notional at the mark of the house's positions of a fund, if it held `lots` in `market`.

    Source: HOUSE-006.
    """
    total = np.int64(0)
    for other in range(st.head[0]["market_count"]):
        rules = st.markets[other]
        if rules["fund"] == fund and rules["house"] != NIL:
            held = lots if other == market else st.positions[rules["house"]]["qty_lot"]
            total += abs(value_at(st, other, rules["mark_tick"], held))
    return total


@helper
def can_carry(st, market, lots):
    """Return whether the house may take over signed `lots`.

    Source: HOUSE-006.
    """
    rules = st.markets[market]
    if rules["carry_ppm"] == 0:
        return True
    fund = fund_of(st, market)
    held = st.positions[rules["house"]]["qty_lot"]
    after = sum_house(st, fund, market, held + lots)
    most = mul_div_floor(st.funds[fund]["balance_quote"], rules["carry_ppm"], PPM)
    return after <= most or after <= sum_house(st, fund, market, held)


@helper
@phase("liquidation")
def take_over(st, slot, lots, worth, tick):
    """Let the house take over `lots` of a liquidated position, whose bankruptcy value is `worth`.

    Source: HOUSE-004, HOUSE-003, LIQ-010.
    """
    position = st.positions[slot]
    market = np.int64(position["market"])
    rules = st.markets[market]
    account = np.int64(position["account"])
    sign = np.int64(1 if position["qty_lot"] > 0 else -1)
    mark_tick = rules["mark_tick"]
    value = worth
    if rules["takeover_price"] == TAKEN_AT_MARK:
        value = value_at(st, market, mark_tick, lots * sign)
    change = settle_lots(st, slot, lots, worth)
    st.wallets[wallet_index(st, slot)]["last_market"] = market
    realised = hold_lots(st, market, sign, lots, value)
    deficit_id = next_deficit(st) if value < worth else np.int64(0)
    event = emit(st, TAKEOVER, 0, market, account)
    event["other"] = HOUSE
    event["side"] = -sign
    event["qty_lot"] = lots
    event["price_tick"] = mark_tick
    event["order_id"] = deficit_id
    event["margin_quote"] = change
    event["amount_quote"] = max(worth - value, 0)
    event["other_amount_quote"] = value
    event["mark_tick"] = mark_tick
    event["bankruptcy_tick"] = tick
    if value > worth:
        credit_fund(st, market, account, value - worth, np.int64(0))
    elif value < worth:
        bankrupt = domain_of(st, slot)
        cover_deficit(st, deficit_id, market, bankrupt, account, -sign, mark_tick, lots, worth - value, np.int64(0))
    pay_house(st, market, realised, -sign, mark_tick, lots)


@helper
def vault_share(st, slot):
    """Return what a position adds to the equity below which a vault takes over, or NIL if its market has no vault.

    Source: HOUSE-005.
    """
    rules = st.markets[st.positions[slot]["market"]]
    if rules["backstop"] != BACKSTOP_VAULT:
        return np.int64(NIL)
    return mul_div_ceil(position_maintenance(st, slot), rules["vault_below_ppm"], PPM)


@helper
def is_for_vault(st, code, account, asset, equity):
    """Return whether a vault takes over a domain as a whole before the book is touched.

    Source: HOUSE-005.
    """
    if not code & 1:
        share = vault_share(st, code >> 1)
        return share != NIL and equity < share
    level = np.int64(0)
    lowest_ppm = np.int64(PPM)
    slot = first_owned(st, account)
    while slot != NIL:
        if is_cross(st, slot, asset):
            share = vault_share(st, slot)
            if share == NIL:
                return False
            level += share
            lowest_ppm = min(lowest_ppm, np.int64(st.markets[st.positions[slot]["market"]]["vault_below_ppm"]))
        slot = np.int64(st.positions[slot]["next_owned"])
    if is_portfolio(st, account, asset):
        _, maintenance, _ = measure_domain(st, code)
        level = mul_div_ceil(maintenance, lowest_ppm, PPM)
    return equity < level
