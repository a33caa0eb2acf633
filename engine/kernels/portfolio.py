"""Portfolio mode: who is in it, and which of a portfolio's positions is closed first (PORT-002, PORT-007)."""

import numpy as np

from engine._jit import helper
from engine.codes import BAD_AMOUNT, CROSS, OK, PORTFOLIO, POSITION_OPEN
from engine.kernels.margin import first_owned, is_cross, is_portfolio, require_underlying
from engine.layout import LEFT, NETTED, NIL


@helper
def relieve(st, slot):
    """Return by how much a portfolio's maintenance falls if a position is closed; negative where it is a hedge.

    Source: PORT-007.
    """
    position = st.positions[slot]
    market = np.int64(position["market"])
    first = first_owned(st, np.int64(position["account"]))
    whole = require_underlying(st, first, market, np.int64(NIL), np.int64(0))
    return whole - require_underlying(st, first, market, slot, np.int64(0))


@helper
def choose_relief(st, account, asset):
    """Return the slot of the position whose close lowers a portfolio's maintenance most, the lower market on a tie.

    Those left open in this liquidation are passed over.  Source: PORT-007, STAGE-009.
    """
    chosen = np.int64(NIL)
    largest = np.int64(0)
    slot = first_owned(st, account)
    while slot != NIL:
        if is_cross(st, slot, asset) and not np.int64(st.positions[slot]["flags"]) & LEFT:
            relief = relieve(st, slot)
            if chosen == NIL or relief > largest:
                largest = relief
                chosen = slot
        slot = np.int64(st.positions[slot]["next_owned"])
    return chosen


@helper
def has_stake(st, account, asset):
    """Return whether an account has a position or an order in any market of an asset."""
    slot = first_owned(st, account)
    while slot != NIL:
        position = st.positions[slot]
        if st.markets[position["market"]]["asset"] == asset:
            if position["qty_lot"] != 0 or position["orders_head"] != NIL:
                return True
        slot = np.int64(position["next_owned"])
    return False


@helper
def check_portfolio_mode(st, account, asset, mode):
    """Return OK, or why an account cannot change into portfolio mode, or out of it into another.

    Source: PORT-002.
    """
    if mode == PORTFOLIO:
        for market in range(st.head[0]["market_count"]):
            if st.markets[market]["asset"] == asset and st.markets[market]["fall_ppm"] == 0:
                return BAD_AMOUNT
        if is_portfolio(st, account, asset):
            return OK
    return POSITION_OPEN if has_stake(st, account, asset) else OK


@helper
def switch_portfolio_mode(st, account, asset, mode):
    """Move an account without positions into portfolio mode, or out of it into each market's default.

    Source: PORT-002.
    """
    wallet = st.wallets[account * st.head[0]["asset_count"] + asset]
    if mode == PORTFOLIO:
        wallet["flags"] = np.int64(wallet["flags"]) | NETTED
    else:
        wallet["flags"] = np.int64(wallet["flags"]) & ~NETTED
    slot = first_owned(st, account)
    while slot != NIL:
        position = st.positions[slot]
        rules = st.markets[position["market"]]
        if rules["asset"] == asset:
            position["mode"] = CROSS if mode == PORTFOLIO else np.int64(rules["margin_mode"])
        slot = np.int64(position["next_owned"])
