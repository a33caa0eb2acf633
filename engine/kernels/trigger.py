"""Who a mark move touches: positions hang on a ladder at a price before which they cannot be liquidatable (MARGIN-010).

A domain of one position hangs at its exact liquidation price, give or take a tick towards the mark.  A cross domain of
several positions splits its slack among them in proportion to maintenance: while no mark has used up the part of its
position, the sum cannot be used up.  A pop is only a suspicion: the round looks at the domain and hangs it again if it
is healthy.
"""

import numpy as np

from engine._jit import helper, hot, inlined
from engine._probe import phase
from engine.codes import (
    BAD_AMOUNT,
    CROSS,
    EXTERNAL,
    ISOLATED,
    LINEAR,
    MARK_LAST,
    MARK_MOVED,
    OK,
    PPM,
    PRICE_MAX_LIMIT,
    TIERS_CHANGED,
    TIERS_MAX,
)
from engine.kernels.bits import bit, lowest, within
from engine.kernels.box import prefetch
from engine.kernels.emit import emit
from engine.kernels.fixed import mul_div_ceil, mul_div_floor
from engine.kernels.inverse import part_of_inverse, rounding_of, scale_up, trigger_of_inverse
from engine.kernels.ladder import drop_levels, hang_node, unhang_node
from engine.kernels.margin import (
    cross_code,
    domain_of,
    find_tier,
    first_owned,
    is_cross,
    is_portfolio,
    measure_domain,
    owner_of,
    position_maintenance,
    span_underlying,
    value_at,
    value_at_mark,
    weigh_portfolio,
    weigh_position,
)
from engine.kernels.marks import derive_mark
from engine.kernels.queue import refresh_domain
from engine.kernels.tables import find_reach, ladder_of, note_size, put_in_force
from engine.layout import CALLED, NIL, PENDING, RESTING, TOUCHED, UNEASY

CODE_BITS = 32  # of a suspect: the code of the domain, of at most 2**31 wallets; above them its account
CODE_MASK = (1 << CODE_BITS) - 1


@inlined
def read_flags(st, code):
    """Return the flags of a domain."""
    if code & 1:
        return np.int64(st.wallets[code >> 1]["flags"])
    return np.int64(st.positions[code >> 1]["flags"])


@inlined
def write_flags(st, code, flags):
    """Set the flags of a domain."""
    if code & 1:
        st.wallets[code >> 1]["flags"] = flags
    else:
        st.positions[code >> 1]["flags"] = flags


@helper
@phase("triggers")
def touch(st, code):
    """Note that a domain's equity or positions changed: it is hung anew, and may be called again.

    Source: STEP-005.
    """
    flags = read_flags(st, code)
    if not flags & TOUCHED:
        head = st.head[0]
        st.touched[head["touched_count"]] = code
        head["touched_count"] += 1
    write_flags(st, code, (flags | TOUCHED) & ~CALLED)


@inlined
def account_of(st, code):
    """Return the account of a domain."""
    if code & 1:
        account, _ = owner_of(st, code)
        return account
    return np.int64(st.positions[code >> 1]["account"])


@hot
def suspect(st, code):
    """Have the next trigger round look at a domain, unless it rests; listed with its account, for the round sorts them.

    Source: WAKE-001.
    """
    flags = read_flags(st, code)
    if flags & (PENDING | RESTING):
        return
    head = st.head[0]
    st.pending[head["pending_count"]] = account_of(st, code) << CODE_BITS | code
    head["pending_count"] += 1
    write_flags(st, code, flags | PENDING)


@helper
def take_down(st, slot):
    """Take a position off its trigger ladder, if it hangs."""
    position = st.positions[slot]
    if position["hung"] == 0:
        return
    ladder = ladder_of(st, np.int64(position["market"]), np.int64(position["table"]))
    unhang_node(st, ladder, st.positions, slot, np.int64(position["hung"]), position["hung_lot"])
    position["hung"] = 0


@helper
def hang_up(st, slot, tick):
    """Hang a position under a trigger price, on the ladder of the tier table in force.

    Source: TIER-003.
    """
    position = st.positions[slot]
    market = np.int64(position["market"])
    table = np.int64(st.markets[market]["tier_table"])
    side = np.int64(1 if position["qty_lot"] > 0 else -1)
    position["price_tick"] = tick
    position["hung"] = side
    position["hung_lot"] = abs(position["qty_lot"])
    position["table"] = table
    ladder = ladder_of(st, market, table)
    if st.markets[market]["table_count"] > 1:
        note_size(st.ladders[ladder], position["hung_lot"])
    hang_node(st, ladder, st.positions, slot, side, position["hung_lot"])


@hot
def hang_near(st, slot, tick):
    """Hang a position under a price, at least a tick from the mark; nowhere if no mark can get there.

    Where another tier table may come, a trigger out of range hangs at the edge of it.  Who stands on the edge already
    hangs nowhere, and the market is noted as loose.  Source: TIER-003.
    """
    rules = st.markets[st.positions[slot]["market"]]
    has_tables = rules["table_count"] > 1
    if st.positions[slot]["qty_lot"] > 0:
        tick = min(max(tick, 1) if has_tables else tick, rules["mark_tick"] - 1)
        is_inside = tick >= 1
    else:
        top = rules["price_max_tick"]
        tick = max(min(tick, top) if has_tables else tick, rules["mark_tick"] + 1)
        is_inside = tick <= top
    if is_inside:
        hang_up(st, slot, tick)
    elif has_tables:
        rules["loose"] = 1


@inlined
def divide_up(x, unit, rate):
    """Return at least floor(x x 10**6 / (unit x rate)), by no more than 1 above it; all positive."""
    whole = x // unit
    if whole > 2 * PRICE_MAX_LIMIT:
        return np.int64(2 * PRICE_MAX_LIMIT)
    rest = x - whole * unit
    part = rest * PPM // unit + 1 if unit < (1 << 42) else np.int64(PPM)
    return (whole * PPM + part) // rate


@inlined
def divide_down(x, unit, rate):
    """Return at most floor(x x 10**6 / (unit x rate)), by no more than 1 below it; all positive."""
    whole = x // unit
    if whole > 4 * PRICE_MAX_LIMIT:
        return np.int64(2 * PRICE_MAX_LIMIT)
    rest = x - whole * unit
    part = rest * PPM // unit if unit < (1 << 42) else np.int64(0)
    return (whole * PPM + part) // rate


@inlined
def scale_deduction(line, factor_ppm):
    """Return floor(factor x what a tier's line takes off the requirement)."""
    deduction = line["deduction_quote"]
    return deduction if factor_ppm == PPM else mul_div_floor(deduction, factor_ppm, PPM)


@hot
def trigger_of_long(st, slot, cash, factor_ppm):
    """Return a price at or above the highest at which cash + PnL no longer covers the requirement; 0: none.

    The requirement is convex in the notional, the largest of its tiers' lines; below the mark only the tiers up to
    today's can bind.  Source: MARGIN-010.
    """
    position = st.positions[slot]
    market = np.int64(position["market"])
    rules = st.markets[market]
    unit = position["qty_lot"] * rules["multiplier"]
    tier = find_tier(st, market, value_at_mark(st, slot))
    found = np.int64(0)
    while True:
        line = st.tiers[tier]
        lack = position["cost_quote"] - cash - scale_deduction(line, factor_ppm)
        lack += rounding_of(factor_ppm)
        if lack > 0:
            rest = max(PPM - scale_up(line["maintenance_ppm"], factor_ppm), 1)
            found = max(found, divide_up(lack, unit, rest))
        # no mark can be beyond price_max_tick, where the product is known to fit
        if min(found, rules["price_max_tick"]) * unit >= line["floor_quote"]:
            return found
        tier -= 1


@hot
def trigger_of_short(st, slot, cash, factor_ppm):
    """Return a price at or below the lowest at which cash + PnL no longer covers the requirement.

    Source: MARGIN-010.
    """
    position = st.positions[slot]
    market = np.int64(position["market"])
    rules = st.markets[market]
    unit = -position["qty_lot"] * rules["multiplier"]
    # Most could pay at the highest price there is, and hence at every price: asked first, and without a division.  What
    # is asked for there, in parts of 2**20 instead of 10**6, comes to more with 17 / 16 of it, whatever rounding adds.
    highest = rules["price_max_tick"] * unit
    if highest < 1 << 60:  # no requirement, and no call level, is above the notional itself: the product fits
        line = st.tiers[find_tier(st, market, highest)]
        need = ((highest >> 20) + 1) * (PPM + scale_up(line["maintenance_ppm"], factor_ppm))
        if need + (need >> 4) < cash - position["cost_quote"] + scale_deduction(line, factor_ppm):
            return np.int64(2 * PRICE_MAX_LIMIT)
    tier = find_tier(st, market, -value_at_mark(st, slot))
    last = market * TIERS_MAX + rules["tier_count"] - 1
    found = np.int64(2 * PRICE_MAX_LIMIT)
    while True:
        line = st.tiers[tier]
        room = cash - position["cost_quote"] + scale_deduction(line, factor_ppm)
        room -= rounding_of(factor_ppm)
        rate = PPM + scale_up(line["maintenance_ppm"], factor_ppm)
        found = min(found, divide_down(room, unit, rate) if room > 0 else np.int64(0))
        if tier == last or min(found, rules["price_max_tick"]) * unit < st.tiers[tier + 1]["floor_quote"]:
            return found
        tier += 1


@helper
def hang_single(st, slot, cash, factor_ppm):
    """Hang the only position of a healthy domain that has `cash` beside it."""
    if st.markets[st.positions[slot]["market"]]["kind"] != LINEAR:
        tick = trigger_of_inverse(st, slot, cash, factor_ppm)
    elif st.positions[slot]["qty_lot"] > 0:
        tick = trigger_of_long(st, slot, cash, factor_ppm)
    else:
        tick = trigger_of_short(st, slot, cash, factor_ppm)
    hang_near(st, slot, tick)


@helper
def hang_part(st, slot, slack, factor_ppm):
    """Hang one of several positions where the mark alone would use up its part of the slack."""
    position = st.positions[slot]
    market = np.int64(position["market"])
    rules = st.markets[market]
    if rules["kind"] != LINEAR:
        hang_near(st, slot, part_of_inverse(st, slot, slack, factor_ppm))
        return
    mark = rules["mark_tick"]
    unit = abs(position["qty_lot"]) * rules["multiplier"]
    if position["qty_lot"] > 0:
        # falling, a long loses its value and its requirement shrinks: the value alone is the worst case
        hang_near(st, slot, mark - slack // unit - 1)
        return
    rate = st.tiers[find_tier(st, market, mark * unit)]["maintenance_ppm"]
    room = divide_down(slack, unit, PPM + scale_up(rate, factor_ppm))
    if mark + room > rules["price_max_tick"]:
        room = rules["price_max_tick"] - mark
    # rising, the notional may enter a higher tier: count with that tier's rate
    higher = st.tiers[find_tier(st, market, value_at(st, market, mark + room, unit // rules["multiplier"]))]
    if higher["maintenance_ppm"] > rate:
        room = min(room, divide_down(slack, unit, PPM + scale_up(higher["maintenance_ppm"], factor_ppm)))
    hang_near(st, slot, mark + room + 1)


@helper
def loss_rate(st, slot, factor_ppm):
    """Return the most, in ppm, by which a portfolio's slack falls per unit of value that the mark takes off a position.

    The slack is equity less factor x requirement.  With V the signed value of the underlying's positions and G its
    gross, the requirement is the larger of fall x V and -rise x V, plus contingency x G.  A long that loses a unit
    takes one from equity, V and G: the requirement falls by fall + contingency where V is positive, and grows by
    rise - contingency where it is negative, which needs shorts.  A short that loses one takes it from equity and V and
    adds it to G: the requirement grows by rise + contingency, or by contingency - fall.  What moves for a position
    never lowers the slack, since factor x (widest move + contingency) is below 1.

    Source: PORT-001, PORT-008.
    """
    position = st.positions[slot]
    market = np.int64(position["market"])
    rules = st.markets[market]
    if position["qty_lot"] < 0:
        return PPM + scale_up(rules["rise_ppm"] + rules["contingency_ppm"], factor_ppm)
    first = first_owned(st, np.int64(position["account"]))
    net, _, gross = span_underlying(st, first, market, np.int64(NIL), np.int64(0))
    if net == gross:
        return PPM + scale_up(-rules["fall_ppm"] - rules["contingency_ppm"], factor_ppm)
    return PPM + max(scale_up(rules["rise_ppm"] - rules["contingency_ppm"], factor_ppm), 0)


@helper
def hang_portfolio(st, account, asset, factor_ppm, slack, count):
    """Hang all positions of a healthy portfolio, each where its mark alone would use up its part of the slack.

    Without rounding the slack falls by no more than the sum over the positions of loss rate x value lost, whatever the
    other marks do; so while no mark has used up the part of its position, the sum is not used up.  Rounding up, per
    underlying, then times the factor, makes the requirement larger by less than factor x underlyings + 1: that much is
    not given out.

    Source: PORT-008, MARGIN-010.
    """
    slack = max(slack - count * scale_up(np.int64(1), factor_ppm) - 1, 0)
    weights = weigh_portfolio(st, account, asset)
    slot = first_owned(st, account)
    while slot != NIL:
        position = st.positions[slot]
        if is_cross(st, slot, asset):
            rules = st.markets[position["market"]]
            part = mul_div_floor(slack, weigh_position(st, slot), weights)
            unit = abs(position["qty_lot"]) * rules["multiplier"]
            room = divide_down(part, unit, loss_rate(st, slot, factor_ppm))
            if position["qty_lot"] > 0:
                tick = rules["mark_tick"] - room - 1
                if tick >= 1:
                    hang_up(st, slot, tick)
            elif rules["mark_tick"] + room < rules["price_max_tick"]:
                hang_up(st, slot, rules["mark_tick"] + room + 1)
        slot = np.int64(position["next_owned"])


@helper
def hang_cross(st, code, factor_ppm, slack, maintenance, count):
    """Hang all positions of a healthy cross domain; `slack` is what they may lose together."""
    account, asset = owner_of(st, code)
    if is_portfolio(st, account, asset):
        hang_portfolio(st, account, asset, factor_ppm, slack, count)
        return
    wallet = st.wallets[code >> 1]
    slack = max(slack - rounding_of(factor_ppm) * count, 0)
    slot = first_owned(st, account)
    while slot != NIL:
        if is_cross(st, slot, asset):
            if count == 1:
                hang_single(st, slot, wallet["balance_quote"] - wallet["spare_quote"], factor_ppm)
            else:
                part = mul_div_floor(slack, position_maintenance(st, slot), maintenance)
                hang_part(st, slot, part, factor_ppm)
        slot = np.int64(st.positions[slot]["next_owned"])


@helper
def take_down_domain(st, code):
    """Take all positions of a domain off their ladders."""
    if not code & 1:
        take_down(st, code >> 1)
        return
    account, asset = owner_of(st, code)
    slot = first_owned(st, account)
    while slot != NIL:
        position = st.positions[slot]
        if position["hung"] != 0 and position["mode"] == CROSS and st.markets[position["market"]]["asset"] == asset:
            take_down(st, slot)
        slot = np.int64(position["next_owned"])


@inlined
def asset_of(st, code):
    """Return the asset of a domain."""
    if code & 1:
        _, asset = owner_of(st, code)
        return asset
    return np.int64(st.markets[st.positions[code >> 1]["market"]]["asset"])


@inlined
def set_spare(st, code, spare_quote):
    """Note what a domain's equity may lose without hanging at another price."""
    if code & 1:
        st.wallets[code >> 1]["spare_quote"] = spare_quote
    else:
        st.positions[code >> 1]["spare_quote"] = spare_quote


@inlined
def get_spare(st, code):
    """Return what a domain's equity may lose without hanging at another price."""
    if code & 1:
        return st.wallets[code >> 1]["spare_quote"]
    return st.positions[code >> 1]["spare_quote"]


@hot
@phase("triggers")
def touch_equity(st, code, change_quote):
    """Note that a domain's equity changed, and nothing else: while its spare covers that, it may hang where it hangs.

    One that was called is hung anew all the same, because it may now be called again (STEP-005).
    Source: MARGIN-010.
    """
    spare = get_spare(st, code) + change_quote
    if spare >= 0 and not read_flags(st, code) & CALLED:
        set_spare(st, code, spare)
    else:
        touch(st, code)


@hot
@phase("triggers")
def hang_domain(st, code):
    """Hang a domain where it next needs a call or a liquidation, or suspect it if it needs one now."""
    equity, maintenance, count = measure_domain(st, code)
    hang_measured(st, code, equity, maintenance, count)


@helper
@phase("triggers")
def hang_measured(st, code, equity, maintenance, count):
    """Do the same with a domain that was just measured.

    One with much to lose hangs an eighth of that too early, so that funding needs not hang it anew: it is popped, and
    found healthy, at most a few times more on the way.  Source: MARGIN-010.
    """
    take_down_domain(st, code)
    set_spare(st, code, np.int64(0))
    factor_ppm = np.int64(PPM)
    asset = st.assets[asset_of(st, code)]
    call_ppm = asset["call_ppm"]
    if call_ppm > 0 and not read_flags(st, code) & CALLED:
        factor_ppm = call_ppm
    slack = equity - mul_div_ceil(maintenance, factor_ppm, PPM)
    if asset["settlement"] != 0 and asset["settled_seq"] != st.head[0]["seq"]:
        return  # looked at when the mark is settled, and only then (CASH-005)
    if equity < maintenance or slack < 0:
        suspect(st, code)
    elif count > 0 and asset["settlement"] == 0:
        spare = slack >> 3 if slack > 2 * maintenance else np.int64(0)
        set_spare(st, code, spare)
        if factor_ppm > PPM and slack - spare < rounding_of(factor_ppm) * count + 1:
            watch(st, code)
        if code & 1:
            hang_cross(st, code, factor_ppm, slack - spare, maintenance, count)
        else:
            hang_single(st, code >> 1, st.positions[code >> 1]["margin_quote"] - spare, factor_ppm)


@helper
def watch(st, code):
    """Look at a domain again when a mark moves next, whichever way.

    A call level is a multiple of what is rounded up, so that within a few units of it a mark that moves in the domain's
    favour by less than rounding adds can bring the call.  Source: MARGIN-010, STEP-005.
    """
    flags = read_flags(st, code)
    if not flags & UNEASY:
        head = st.head[0]
        st.uneasy[head["uneasy_count"]] = code
        head["uneasy_count"] += 1
        write_flags(st, code, flags | UNEASY)


@helper
def suspect_uneasy(st):
    """Have the next trigger round look at the domains that a mark in their favour could bring a call.

    A position may have been closed since, and be cross by now.  Source: MARGIN-010.
    """
    head = st.head[0]
    for at in range(head["uneasy_count"]):
        code = st.uneasy[at]
        write_flags(st, code, read_flags(st, code) & ~UNEASY)
        if code & 1 or st.positions[code >> 1]["mode"] == ISOLATED:
            suspect(st, code)
    head["uneasy_count"] = 0


@inlined
def fetch_ahead(st, codes, at, count):
    """Have the processor fetch the domains that come up soon in a list: first the wallet, later the position."""
    if at + 8 < count:
        code = codes[at + 8] & CODE_MASK
        if code & 1:
            prefetch(st.wallets, code >> 1)
            account, _ = owner_of(st, code)
            prefetch(st.wallets, account * st.head[0]["asset_count"])
    if at + 4 < count:
        fetch_position(st, codes[at + 4] & CODE_MASK)


@inlined
def fetch_position(st, code):
    """Have the processor fetch a domain's position, or the first its account has."""
    slot = code >> 1
    if code & 1:
        account, _ = owner_of(st, code)
        slot = first_owned(st, account)
    if slot != NIL:
        prefetch(st.positions, slot)


@helper
@phase("triggers")
def hang_touched(st):
    """Hang anew every domain that changed."""
    head = st.head[0]
    for at in range(head["touched_count"]):
        fetch_ahead(st, st.touched, at, head["touched_count"])
        code = st.touched[at]
        refresh_domain(st, code)
        write_flags(st, code, read_flags(st, code) & ~TOUCHED)
        hang_domain(st, code)
    head["touched_count"] = 0


@helper
def owe_settlement(st, market):
    """Note that a market is to be settled, if it is one that is settled at the mark.

    Source: CASH-001.
    """
    rules = st.markets[market]
    if rules["settlement"] != 0 and rules["settle_due"] == 0:
        rules["settle_due"] = 1
        st.head[0]["settle_count"] += 1


@helper
@phase("triggers")
def set_mark(st, market, tick):
    """Move a mark price and suspect whoever hangs at or behind it: O(crossed), never O(accounts).

    Source: STEP-002, MARGIN-010.
    """
    rules = st.markets[market]
    if tick == rules["mark_tick"]:
        return
    event = emit(st, MARK_MOVED, 0, market, 0)
    event["price_tick"] = tick
    event["mark_tick"] = rules["mark_tick"]
    rules["previous_tick"] = rules["mark_tick"]
    rules["mark_tick"] = tick
    st.head[0]["queue_live"] = 0
    owe_settlement(st, market)
    if st.head[0]["uneasy_count"] > 0:
        suspect_uneasy(st)
    pop_crossed(st, market)


@helper
def pop_crossed(st, market):
    """Suspect whoever hangs at or behind the mark; on the ladder of a laxer tier table, also who hangs near it.

    Source: MARGIN-010, TIER-003.
    """
    rules = st.markets[market]
    for table in range(np.int64(rules["table_count"])):
        index = ladder_of(st, market, table)
        ladder = st.ladders[index]
        low = rules["mark_tick"]
        high = low
        if rules["table_count"] > 1:
            low, high = find_reach(st, market, table)
        while ladder["best_bid"] >= low:
            pop_leaf(st, index, max(low, ladder["best_bid"] & ~63), ladder["best_bid"], np.int64(1))
        while ladder["best_ask"] <= high:
            pop_leaf(st, index, ladder["best_ask"], min(high, ladder["best_ask"] | 63), np.int64(-1))


@helper
def pop_leaf(st, ladder, first_tick, last_tick, side):
    """Take down and suspect whoever hangs on `side` at the ticks from first to last, all under one leaf.

    The lists of the levels are walked side by side, a step of each in turn: what a position needs was asked for a turn
    before, and comes from memory while the others have theirs.  Until a level is empty its `head` is the position that
    was asked for, its `tail` the one before, whose domain is asked for too.  In which order they are suspected shows
    nowhere.
    """
    page = np.int64(st.pages[st.ladders[ladder]["page_offset"] + (first_tick >> 12)])
    leaf = np.int64(st.page_leaves[page * 64 + ((first_tick >> 6) & 63)])
    crossed = within(st.leaf_masks[leaf], first_tick & 63, last_tick & 63)
    turn = crossed
    while turn != np.uint64(0):
        level = st.levels[leaf * 64 + lowest(turn)]
        turn &= turn - np.uint64(1)
        prefetch(st.positions, np.int64(level["head"]))
        level["qty_lot"] = 0
        level["tail"] = NIL
    full = crossed
    while full != np.uint64(0):
        turn = full
        while turn != np.uint64(0):
            place = lowest(turn)
            turn &= turn - np.uint64(1)
            level = st.levels[leaf * 64 + place]
            ready, coming = np.int64(level["tail"]), np.int64(level["head"])
            level["tail"] = coming
            if coming != NIL:
                fetch_hung(st, coming)
                level["head"] = st.positions[coming]["next"]
            else:
                full &= ~bit(place)
            if ready != NIL:
                st.positions[ready]["hung"] = 0
                suspect(st, domain_of(st, ready))
    drop_levels(st, ladder, crossed, leaf, first_tick, last_tick, side)


@inlined
def fetch_hung(st, slot):
    """Have the processor fetch the domain of a position, and who hangs behind it."""
    code = domain_of(st, slot)
    if code & 1:
        prefetch(st.wallets, code >> 1)
    after = np.int64(st.positions[slot]["next"])
    if after != NIL:
        prefetch(st.positions, after)


@helper
@phase("triggers")
def follow_last(st):
    """Let the marks that are derived from the last trade and the book follow them.

    Source: STEP-002, MARK-001.
    """
    for market in range(st.head[0]["market_count"]):
        if st.markets[market]["mark_model"] >= MARK_LAST:
            tick = derive_mark(st, market)
            if tick > 0:
                set_mark(st, market, tick)


@hot
@phase("triggers")
def touch_account(st, account, slot):
    """Touch the domains a change of a position concerns: its own, and the account's cross domain.

    Source: STEP-005.
    """
    if account == EXTERNAL:
        return
    position = st.positions[slot]
    if position["mode"] != CROSS:
        touch(st, slot * 2)
    touch(st, cross_code(st, account, np.int64(st.markets[position["market"]]["asset"])))


@helper
def set_tiers(st, command):
    """Apply a set_tiers: another tier table in force, and who may now be in need is looked at.

    Source: TIER-002, TIER-003.
    """
    market, table = np.int64(command["market"]), command["amount_quote"]
    rules = st.markets[market]
    before = np.int64(rules["tier_table"])
    if table < 0 or table >= rules["table_count"]:
        return BAD_AMOUNT
    if table == before:
        return OK
    event = emit(st, TIERS_CHANGED, table, market, 0)
    event["rank"] = before
    put_in_force(st, market, table)
    if rules["mark_tick"] > 0:
        pop_crossed(st, market)
    if rules["loose"] == 1:
        rules["loose"] = 0
        suspect_market(st, market)
    return OK


@helper
def suspect_market(st, market):
    """Have the next trigger round look at everyone with a position in a market that hangs nowhere.

    Source: TIER-003.
    """
    # nobody hangs where the mark settles: such a market is never loose
    for slot in range(st.head[0]["position_used"]):
        position = st.positions[slot]
        if position["market"] == market and position["qty_lot"] != 0 and position["hung"] == 0:
            if position["account"] > EXTERNAL:
                suspect(st, domain_of(st, slot))
