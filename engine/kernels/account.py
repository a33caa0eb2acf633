"""The only writer of costs and quantities, and of wallets and margins by fills, so that conservation has one home.

Source: MONEY-001.
"""

import numpy as np

from engine._jit import helper, hot
from engine._probe import phase
from engine.codes import EXTERNAL, ISOLATED, PPM, SATURATED
from engine.kernels.fixed import mul_div_ceil, mul_div_floor
from engine.kernels.margin import initial_rate, value_at, value_at_mark
from engine.kernels.trigger import touch_account


@hot
def wallet_index(st, slot):
    """Return the index of the wallet a position settles in."""
    position = st.positions[slot]
    asset = np.int64(st.markets[position["market"]]["asset"])
    return np.int64(position["account"]) * st.head[0]["asset_count"] + asset


@hot
def pay_fee(st, slot, fee_quote):
    """Move a fee from the wallet to the asset's fee account; a negative one comes back.

    Source: POS-005.
    """
    if fee_quote != 0:
        st.wallets[wallet_index(st, slot)]["balance_quote"] -= fee_quote
        st.assets[st.markets[st.positions[slot]["market"]]["asset"]]["fees_quote"] += fee_quote


@hot
def fee_of(value_quote, fee_ppm):
    """Return the fee of a fill's value, rounded up.

    Source: POS-005.
    """
    return mul_div_ceil(abs(value_quote), fee_ppm, PPM)


@hot
def set_qty(st, slot, qty_lot):
    """Change a position's quantity; notes the open interest and since when the position stands.

    Source: POS-005, NUM-006.
    """
    position = st.positions[slot]
    before = position["qty_lot"]
    st.markets[position["market"]]["open_interest_lot"] += max(qty_lot, 0) - max(before, 0)
    if (qty_lot > 0 and before <= 0) or (qty_lot < 0 and before >= 0):
        position["opened_seq"] = st.head[0]["seq"]
    position["qty_lot"] = qty_lot


@helper
def cut_cost(st, slot, lots):
    """Take the cost of `lots` out of a position and return it; the remainder stays with what is open.

    Source: POS-001.
    """
    position = st.positions[slot]
    qty = position["qty_lot"]
    cost = mul_div_floor(position["cost_quote"], lots, abs(qty))
    position["cost_quote"] -= cost
    set_qty(st, slot, qty - lots if qty > 0 else qty + lots)
    return cost


@helper
@phase("positions")
def close_lots(st, slot, lots, worth_quote):
    """Close `lots` of a position for `worth_quote` (signed as the position) and return (realised, margin change).

    Source: POS-001, POS-002, POS-003.
    """
    position = st.positions[slot]
    held = abs(position["qty_lot"])
    realised = worth_quote - cut_cost(st, slot, lots)
    wallet = st.wallets[wallet_index(st, slot)]
    if position["mode"] != ISOLATED:
        wallet["balance_quote"] += realised
        return realised, np.int64(0)
    before = position["margin_quote"]
    released = mul_div_floor(before, lots, held)
    if realised + released >= 0:
        wallet["balance_quote"] += realised + released
        position["margin_quote"] -= released
    else:
        position["margin_quote"] += realised
    if position["qty_lot"] == 0:
        wallet["balance_quote"] += position["margin_quote"]
        position["margin_quote"] = 0
    return realised, position["margin_quote"] - before


@helper
@phase("positions")
def settle_lots(st, slot, lots, share_quote):
    """Close `lots` of a liquidated position at their share of the bankruptcy value; return its margin change.

    The domain is changed by the share less the cost, whatever the fill brought; the difference is the fund's.
    Source: LIQ-005, ADL-005.
    """
    position = st.positions[slot]
    change = share_quote - cut_cost(st, slot, lots)
    if position["mode"] != ISOLATED:
        st.wallets[wallet_index(st, slot)]["balance_quote"] += change
        return np.int64(0)
    before = position["margin_quote"]
    position["margin_quote"] += change
    if position["qty_lot"] == 0:
        st.wallets[wallet_index(st, slot)]["balance_quote"] += position["margin_quote"]
        position["margin_quote"] = 0
    return position["margin_quote"] - before


@hot
def open_lots(st, slot, side, lots, value_quote):
    """Add `lots` to a position on `side` for the signed value; return its margin change.

    Source: POS-001, POS-004.
    """
    position = st.positions[slot]
    position["cost_quote"] += value_quote
    set_qty(st, slot, position["qty_lot"] + lots * side)
    if position["mode"] != ISOLATED or position["account"] == EXTERNAL:
        return np.int64(0)
    wallet = st.wallets[wallet_index(st, slot)]
    need = mul_div_ceil(abs(value_quote), initial_rate(st, slot, abs(value_at_mark(st, slot))), PPM)
    moved = min(need, max(wallet["balance_quote"], 0))
    wallet["balance_quote"] -= moved
    position["margin_quote"] += moved
    return moved


@helper
@phase("positions")
def fill_position(st, slot, side, lots, price_tick, fee_quote):
    """Book one side of a trade: fee, then what it closes, then what it opens; return its margin change.

    The fill has one value.  What closes gets its part of it, floored; what opens gets the rest.
    Source: POS-001, POS-004, POS-005, INV-003.
    """
    position = st.positions[slot]
    market = np.int64(position["market"])
    value = value_at(st, market, price_tick, lots * side)
    pay_fee(st, slot, fee_quote)
    st.wallets[wallet_index(st, slot)]["last_market"] = market
    if st.markets[market]["settlement"] != 0:
        return book_variation(st, slot, side, lots, value)
    held = position["qty_lot"]
    closing = min(abs(held), lots) if held * side < 0 else np.int64(0)
    change = np.int64(0)
    if closing > 0:
        worth = -value if closing == lots else mul_div_floor(-value, closing, lots)
        _, change = close_lots(st, slot, closing, worth)
        value += worth
    if closing < lots:
        change += open_lots(st, slot, side, lots - closing, value)
    touch_account(st, np.int64(position["account"]), slot)
    guard_balance(st, slot)
    return change


@helper
def book_variation(st, slot, side, lots, value_quote):
    """Book one side of a trade in a market settled at the mark: quantity and signed value, no cash yet.

    Source: CASH-003, NUM-006.
    """
    position = st.positions[slot]
    position["cost_quote"] += value_quote
    set_qty(st, slot, position["qty_lot"] + lots * side)
    if abs(position["cost_quote"]) > SATURATED >> 1:
        st.head[0]["fault"] = 2
    touch_account(st, np.int64(position["account"]), slot)
    guard_balance(st, slot)
    return np.int64(0)


@hot
def guard_balance(st, slot):
    """Record a fault if a wallet left the proven range; the batch stops after this command.

    Source: NUM-006.
    """
    if abs(st.wallets[wallet_index(st, slot)]["balance_quote"]) > SATURATED:
        st.head[0]["fault"] = 2


@helper
@phase("positions")
def bring_position(st, slot, side, lots, value_quote, margin_quote, cash_quote):
    """Give a flat position `lots` at a cost, its collateral as margin and cash.

    Source: POS-006.
    """
    position = st.positions[slot]
    position["cost_quote"] += value_quote * side
    position["margin_quote"] += margin_quote
    set_qty(st, slot, position["qty_lot"] + lots * side)
    st.wallets[wallet_index(st, slot)]["balance_quote"] += cash_quote
    touch_account(st, np.int64(position["account"]), slot)
