"""Equity, maintenance, initial margin, free collateral: computes, never decides."""

import numpy as np

from engine._jit import helper, hot, inlined
from engine._probe import phase
from engine.codes import CROSS, ISOLATED, LINEAR, PPM, PRICE_MAX_LIMIT, TIERS_MAX
from engine.kernels.fixed import divide_even, mul_div_ceil, mul_div_floor
from engine.layout import NETTED, NIL


@inlined
def cross_code(st, account, asset):
    """Return the code of an account's cross domain in an asset: odd, its wallet's index above."""
    return (account * st.head[0]["asset_count"] + asset) * 2 + 1


@inlined
def owner_of(st, code):
    """Return (account, asset) of a cross domain; with one asset without the division, which costs as much as a fill."""
    wallet = code >> 1
    assets = st.head[0]["asset_count"]
    if assets == 1:
        return wallet, np.int64(0)
    return wallet // assets, wallet % assets


@inlined
def is_portfolio(st, account, asset):
    """Return whether an account's cross domain in an asset is margined as a portfolio.

    Source: PORT-002.
    """
    return st.wallets[account * st.head[0]["asset_count"] + asset]["flags"] & NETTED != 0


@inlined
def count_accounts(st):
    """Return for how many accounts there is room, the outside among them."""
    return len(st.wallets) // st.head[0]["asset_count"]


@inlined
def first_owned(st, account):
    """Return the slot of an account's first position, or NIL."""
    return np.int64(st.wallets[account * st.head[0]["asset_count"]]["positions_head"])


@inlined
def find_position(st, account, market):
    """Return the slot of an account's position in a market, or NIL; O(markets of the account)."""
    slot = first_owned(st, account)
    while slot != NIL and st.positions[slot]["market"] < market:
        slot = np.int64(st.positions[slot]["next_owned"])
    if slot != NIL and st.positions[slot]["market"] != market:
        slot = np.int64(NIL)
    return slot


@helper
@phase("positions")
def make_position(st, account, market):
    """Return the slot of an account's position, created flat with the market's defaults if there is none.

    The batch loop has seen to it that a slot is free.  The account's positions stay linked by rising market.
    """
    found = find_position(st, account, market)
    if found != NIL:
        return found
    head = st.head[0]
    slot = head["position_used"]
    head["position_used"] += 1
    rules = st.markets[market]
    position = st.positions[slot]
    position["account"] = account
    position["market"] = market
    position["orders_head"] = NIL
    position["leverage_ppm"] = rules["leverage_ppm"]
    position["mode"] = CROSS if is_portfolio(st, account, np.int64(rules["asset"])) else np.int64(rules["margin_mode"])
    before = np.int64(NIL)
    after = first_owned(st, account)
    while after != NIL and st.positions[after]["market"] < market:
        before = after
        after = np.int64(st.positions[after]["next_owned"])
    position["next_owned"] = after
    if before == NIL:
        st.wallets[account * st.head[0]["asset_count"]]["positions_head"] = slot
    else:
        st.positions[before]["next_owned"] = slot
    return slot


@helper
def value_inverse(multiplier, price_tick, qty_lot):
    """Return minus quantity x multiplier / price, rounded half-even; 0 without a price.

    Source: INV-001.
    """
    return divide_even(-qty_lot * multiplier, price_tick) if price_tick > 0 else np.int64(0)


@inlined
def value_at(st, market, price_tick, qty_lot):
    """Return what a signed quantity is worth at a price; signed like the quantity, an inverse value the other way.

    Source: NUM-002, INV-001.
    """
    rules = st.markets[market]
    if rules["kind"] != LINEAR:
        return value_inverse(rules["multiplier"], price_tick, qty_lot)
    return price_tick * qty_lot * rules["multiplier"]


@inlined
def find_tier(st, market, notional):
    """Return the index in `tiers` of the tier a notional falls in."""
    tier = market * TIERS_MAX
    last = tier + st.markets[market]["tier_count"] - 1
    while tier < last and st.tiers[tier + 1]["floor_quote"] <= notional:
        tier += 1
    return tier


@hot
def maintenance_of(st, market, notional, side):
    """Return the maintenance requirement of a notional held on `side`.

    Source: MARGIN-002, CASH-006.
    """
    tier = st.tiers[find_tier(st, market, notional)]
    rate_ppm = tier["maintenance_ppm"]
    if side < 0:
        rate_ppm += st.markets[market]["short_maintenance_ppm"]
    return mul_div_ceil(notional, rate_ppm, PPM) - tier["deduction_quote"]


@hot
def initial_rate(st, slot, notional):
    """Return the initial rate in ppm: the account's leverage or the tier's, whichever asks more.

    Source: MARGIN-003.
    """
    position = st.positions[slot]
    tier = st.tiers[find_tier(st, np.int64(position["market"]), notional)]
    return max(np.int64(position["leverage_ppm"]), tier["initial_ppm"])


@hot
def initial_of(st, slot, lots):
    """Return the initial margin of `lots` at the mark.

    Source: MARGIN-003.
    """
    if lots == 0:
        return np.int64(0)
    market = np.int64(st.positions[slot]["market"])
    notional = abs(value_at(st, market, st.markets[market]["mark_tick"], lots))
    return mul_div_ceil(notional, initial_rate(st, slot, notional), PPM)


@inlined
def value_at_mark(st, slot):
    """Return the signed value of a position at its market's mark."""
    market = np.int64(st.positions[slot]["market"])
    return value_at(st, market, st.markets[market]["mark_tick"], st.positions[slot]["qty_lot"])


@hot
def position_maintenance(st, slot):
    """Return the maintenance requirement of one position at the mark."""
    position = st.positions[slot]
    return maintenance_of(st, np.int64(position["market"]), abs(value_at_mark(st, slot)), position["qty_lot"])


@inlined
def is_cross(st, slot, asset):
    """Return whether a position is open and part of the account's cross domain in `asset`."""
    position = st.positions[slot]
    return position["qty_lot"] != 0 and position["mode"] == CROSS and st.markets[position["market"]]["asset"] == asset


@inlined
def charge_both(net_quote, net_ppm, gross_quote, gross_ppm):
    """Return ceil((net x net_ppm + gross x gross_ppm) / 10**6), rounded once; all positive, the rates together below 1.

    With n = a x 10**6 + b the products stay below the amounts themselves, or below 10**12.
    """
    rest = net_quote % PPM * net_ppm + gross_quote % PPM * gross_ppm
    return net_quote // PPM * net_ppm + gross_quote // PPM * gross_ppm - (-rest // PPM)


@hot
def require_span(st, market, high_quote, low_quote, gross_quote):
    """Return the requirement of an underlying whose signed value may be anything from low to high.

    What a move costs is linear in it, so that the widest fall and the widest rise decide.  Source: PORT-003, PORT-004.
    """
    rules = st.markets[market]
    charge_ppm = rules["contingency_ppm"]
    fallen = charge_both(max(high_quote, 0), rules["fall_ppm"], gross_quote, charge_ppm)
    risen = charge_both(max(-low_quote, 0), rules["rise_ppm"], gross_quote, charge_ppm)
    return max(fallen, risen)


@helper
def span_underlying(st, slot, market, left_out, with_orders):
    """Return (high, low, gross): the values an underlying's positions can come to, from `slot` in its owner's list on.

    With orders each position counts for all it can reach through them, without for what it is; `left_out` for nothing.
    Source: PORT-003, PORT-004.
    """
    underlying = st.markets[market]["underlying"]
    high, low, gross = np.int64(0), np.int64(0), np.int64(0)
    while slot != NIL:
        position = st.positions[slot]
        here = np.int64(position["market"])
        if slot != left_out and st.markets[here]["underlying"] == underlying:
            most = position["qty_lot"] + with_orders * position["buy_lot"]
            least = position["qty_lot"] - with_orders * position["sell_lot"]
            mark_tick = st.markets[here]["mark_tick"]
            high += value_at(st, here, mark_tick, most)
            low += value_at(st, here, mark_tick, least)
            gross += value_at(st, here, mark_tick, max(most, -least))
        slot = np.int64(position["next_owned"])
    return high, low, gross


@helper
def require_underlying(st, slot, market, left_out, with_orders):
    """Return the maintenance of an underlying, its positions being those from `slot` in their owner's list on.

    Source: PORT-003, PORT-004.
    """
    high, low, gross = span_underlying(st, slot, market, left_out, with_orders)
    return require_span(st, market, high, low, gross)


@helper
@phase("margin")
def measure_portfolio(st, account, asset):
    """Return (equity, maintenance, positions) of a portfolio: maintenance is the sum over its underlyings.

    O(positions x underlyings).  Source: PORT-003, MARGIN-001.
    """
    equity = st.wallets[account * st.head[0]["asset_count"] + asset]["balance_quote"]
    maintenance, count, seen = np.int64(0), np.int64(0), np.int64(0)
    slot = first_owned(st, account)
    while slot != NIL:
        if is_cross(st, slot, asset):
            market = np.int64(st.positions[slot]["market"])
            equity += value_at_mark(st, slot) - st.positions[slot]["cost_quote"]
            count += 1
            mask = np.int64(1) << st.markets[market]["underlying"]
            if not seen & mask:
                seen |= mask
                maintenance += require_underlying(st, slot, market, np.int64(NIL), np.int64(0))
        slot = np.int64(st.positions[slot]["next_owned"])
    return equity, maintenance, count


@helper
def require_initial(st, account, asset):
    """Return the initial margin of a portfolio, with the worst its resting orders could make of it.

    Source: PORT-004.
    """
    total, seen = np.int64(0), np.int64(0)
    slot = first_owned(st, account)
    while slot != NIL:
        market = np.int64(st.positions[slot]["market"])
        rules = st.markets[market]
        mask = np.int64(1) << rules["underlying"]
        if rules["asset"] == asset and not seen & mask:
            seen |= mask
            worst = require_underlying(st, slot, market, np.int64(NIL), np.int64(1))
            total += mul_div_ceil(worst, rules["portfolio_initial_ppm"], PPM)
        slot = np.int64(st.positions[slot]["next_owned"])
    return total


@inlined
def weigh_position(st, slot):
    """Return the weight of a position in its portfolio: what it would require alone.

    Source: PORT-006.
    """
    value = value_at_mark(st, slot)
    return require_span(st, np.int64(st.positions[slot]["market"]), value, value, abs(value))


@helper
def weigh_portfolio(st, account, asset):
    """Return the sum of the weights of a portfolio's positions.

    Source: PORT-006.
    """
    total = np.int64(0)
    slot = first_owned(st, account)
    while slot != NIL:
        if is_cross(st, slot, asset):
            total += weigh_position(st, slot)
        slot = np.int64(st.positions[slot]["next_owned"])
    return total


@helper
def measure_cross(st, account, asset):
    """Return (equity, maintenance, positions) of an account's cross domain in an asset.

    Source: MARGIN-001.
    """
    if is_portfolio(st, account, asset):
        return measure_portfolio(st, account, asset)
    equity = st.wallets[account * st.head[0]["asset_count"] + asset]["balance_quote"]
    maintenance = np.int64(0)
    count = np.int64(0)
    slot = first_owned(st, account)
    while slot != NIL:
        if is_cross(st, slot, asset):
            equity += value_at_mark(st, slot) - st.positions[slot]["cost_quote"]
            maintenance += position_maintenance(st, slot)
            count += 1
        elif st.positions[slot]["qty_lot"] == 0 and st.markets[st.positions[slot]["market"]]["asset"] == asset:
            equity -= st.positions[slot]["cost_quote"]  # where the mark settles, what a flat position still owes
        slot = np.int64(st.positions[slot]["next_owned"])
    return equity, maintenance, count


@helper
@phase("margin")
def measure_isolated(st, slot):
    """Return (equity, maintenance, positions) of an isolated position; all 0 when it is flat.

    Source: MARGIN-001.
    """
    position = st.positions[slot]
    if position["qty_lot"] == 0:
        return np.int64(0), np.int64(0), np.int64(0)
    equity = position["margin_quote"] + value_at_mark(st, slot) - position["cost_quote"]
    return equity, position_maintenance(st, slot), np.int64(1)


@hot
@phase("margin")
def measure_domain(st, code):
    """Return (equity, maintenance, positions) of a domain: odd codes are wallets, even ones isolated positions.

    Source: MARGIN-001.
    """
    if code & 1:
        account, asset = owner_of(st, code)
        return measure_cross(st, account, asset)
    return measure_isolated(st, code >> 1)


@helper
def domain_of(st, slot):
    """Return the code of the domain a position belongs to."""
    position = st.positions[slot]
    if position["mode"] == ISOLATED:
        return slot * 2
    return cross_code(st, np.int64(position["account"]), np.int64(st.markets[position["market"]]["asset"]))


@helper
def weight_of(st, slot):
    """Return the weight of a position in its domain: its maintenance, in a portfolio what it would require alone.

    Source: MARGIN-005, PORT-006.
    """
    position = st.positions[slot]
    asset = np.int64(st.markets[position["market"]]["asset"])
    if position["mode"] == CROSS and is_portfolio(st, np.int64(position["account"]), asset):
        return weigh_position(st, slot)
    return position_maintenance(st, slot)


@helper
@phase("margin")
def share_of(st, slot):
    """Return a position's share of its domain's equity, in proportion to maintenance, in a portfolio to weight.

    Source: MARGIN-005, PORT-006.
    """
    equity, maintenance, count = measure_domain(st, domain_of(st, slot))
    if count == 1:
        return equity
    position = st.positions[slot]
    account, asset = np.int64(position["account"]), np.int64(st.markets[position["market"]]["asset"])
    if is_portfolio(st, account, asset):
        return mul_div_floor(equity, weigh_position(st, slot), weigh_portfolio(st, account, asset))
    return mul_div_floor(equity, position_maintenance(st, slot), maintenance)


@inlined
def worst_side(st, slot):
    """Return the largest quantity the position can reach through its resting orders, at least its own.

    Source: MARGIN-006.
    """
    position = st.positions[slot]
    return max(position["qty_lot"] + position["buy_lot"], position["sell_lot"] - position["qty_lot"])


@hot
def hold_position(st, slot, reach):
    """Return what a position adds to its account's free collateral if it could reach `reach` lots: (cross, isolated).

    Source: MARGIN-006.
    """
    position = st.positions[slot]
    initial = initial_of(st, slot, reach)
    if position["mode"] == CROSS:
        return value_at_mark(st, slot) - position["cost_quote"] - initial, np.int64(0)
    return np.int64(0), initial_of(st, slot, position["qty_lot"]) - initial


@hot
def measure_room(st, account, asset, chosen, reach):
    """Return (free collateral, withdrawable) of an account in an asset if position `chosen` could reach `reach` lots.

    A portfolio is measured by the orders it has: `chosen` is NIL there.  Source: MARGIN-006, PORT-004.
    """
    if is_portfolio(st, account, asset):
        free = measure_portfolio(st, account, asset)[0] - require_initial(st, account, asset)
        return free, min(free, st.wallets[account * st.head[0]["asset_count"] + asset]["balance_quote"])
    return measure_sum(st, account, asset, chosen, reach)


@hot
def measure_sum(st, account, asset, chosen, reach):
    """Do the same for an account that is margined position by position.

    Source: MARGIN-006.
    """
    wallet = st.wallets[account * st.head[0]["asset_count"] + asset]["balance_quote"]
    cross, isolated = np.int64(0), np.int64(0)
    slot = first_owned(st, account)
    while slot != NIL:
        position = st.positions[slot]
        rules = st.markets[position["market"]]
        if rules["asset"] == asset and rules["mark_tick"] > 0:
            more = hold_position(st, slot, reach if slot == chosen else worst_side(st, slot))
            cross += more[0]
            isolated += more[1]
        slot = np.int64(position["next_owned"])
    free = wallet + cross + isolated
    return free, min(free, wallet + isolated)


@helper
@phase("margin")
def measure_free(st, account, asset):
    """Return (free collateral, withdrawable) of an account in an asset.

    Source: MARGIN-006.
    """
    return measure_room(st, account, asset, np.int64(NIL), np.int64(0))


@helper
def show_bankruptcy(st, market, worth_quote, lots):
    """Return the tick that stands for the exact bankruptcy value of signed `lots`: up for longs, down for shorts.

    Source: MARGIN-005, INV-004.
    """
    unit = lots * st.markets[market]["multiplier"]
    if st.markets[market]["kind"] != LINEAR:
        if worth_quote == 0 or (worth_quote > 0) == (lots > 0):
            return np.int64(PRICE_MAX_LIMIT)  # at no price
        tick = -(-abs(unit) // abs(worth_quote)) if lots > 0 else abs(unit) // abs(worth_quote)
    else:
        tick = -((-worth_quote) // unit) if lots > 0 else worth_quote // unit
    return np.int64(min(max(tick, 0), PRICE_MAX_LIMIT))
