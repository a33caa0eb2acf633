"""The simulated market: makers and takers that look at the book and write commands (SIM-001..SIM-008).

They decide on the state as it stands, so what a liquidation did to the book is what they answer.  Integers only, and
random bits from a counter: the same seed writes the same commands on every machine.
"""

import numpy as np

from engine._jit import helper, hot, inlined, kernel
from engine.codes import (
    AMEND,
    BUY,
    CANCEL,
    INDEX,
    IOC,
    MARKET_ORDER,
    OK,
    PLACE,
    PPB,
    PPM,
    SELL,
)
from engine.kernels.book import best_opposite
from engine.kernels.box import call_batch, clear, open_box
from engine.kernels.fixed import mul_div_floor, mul_wide
from engine.kernels.idmap import find_id
from engine.kernels.margin import find_position
from engine.layout import NIL

# splitmix64: the golden ratio and the two multipliers of its mixer, as signed words
GOLDEN, MIX_FIRST, MIX_SECOND = -0x61C8864680B583EB, -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15
CERTAIN = 1 << 32  # a chance is counted in 2^-32
TABLE_MASK = (1 << 12) - 1  # a table of sizes has 4,096 entries
STRETCH_MOST = 100 * PPM  # how far volatility widens a ladder at most
DISTANCE_MOST_PPB = PPB // 2
TICK, DEPTH = 0, 1  # columns of the path
NONE = np.int64(0)


@hot
def draw_bits(desk):
    """Return 32 random bits: splitmix64's mixer over a counter and the seed.

    Source: SIM-002.
    """
    desk["draws"] += 1
    _, word = mul_wide(desk["draws"], np.int64(GOLDEN))
    word = word ^ desk["seed"]
    _, word = mul_wide(word ^ ((word >> 30) & 0x3FFFFFFFF), np.int64(MIX_FIRST))
    _, word = mul_wide(word ^ ((word >> 27) & 0x1FFFFFFFFF), np.int64(MIX_SECOND))
    return (word >> 32) & 0xFFFFFFFF


@hot
def write_row(desk, row, kind, account, order_id, side, price_tick, lots):
    """Write one command of this step; what it has no use for is `NONE`."""
    clear(row)
    desk["row_count"] += 1
    row["ts_ns"] = desk["ts_ns"]
    row["market"] = desk["market"]
    row["kind"] = kind
    row["account"] = account
    row["order_id"] = order_id
    row["side"] = side
    row["price_tick"] = price_tick
    row["qty_lot"] = lots


@inlined
def held_by(st, account, market):
    """Return the signed position of an account in a market."""
    slot = find_position(st, account, market)
    if slot == NIL:
        return np.int64(0)
    return np.int64(st.positions[slot]["qty_lot"])


@inlined
def hold(number, limit):
    """Return a number held within +-limit."""
    return min(max(number, -limit), limit)


@inlined
def lean_fair(index_tick, skew_ppb, held, limit):
    """Return a fair value in half ticks: the index, less the skew for what is held.

    Source: SIM-004.
    """
    shift_ppb = mul_div_floor(np.int64(skew_ppb), hold(held, limit), np.int64(limit))
    return 2 * index_tick * (PPB - shift_ppb) // PPB


@helper
def observe(st, desk, seen, index_tick):
    """Note what stands before this step's orders: touch, middle, mark, what the makers hold, what they think fair.

    The fair value's moves are the volatility they know: what they are sold in a cascade moves it too, while a touch
    that was eaten and comes back does not.  Where a side of the book is empty its middle is the last price, or the
    index before any trade.

    Source: SIM-003, SIM-004.
    """
    market, limit = desk["market"], desk["maker_limit_lot"]
    rules = st.markets[market]
    bid, ask = best_opposite(st, market, np.int64(SELL)), best_opposite(st, market, np.int64(BUY))
    if bid > 0 and ask > 0:
        mid_half = bid + ask
    elif rules["last_tick"] > 0:
        mid_half = 2 * rules["last_tick"]
    else:
        mid_half = 2 * index_tick
    total, counted = np.int64(0), np.int64(0)
    for maker in range(desk["makers"]):
        held = held_by(st, desk["first_maker"] + maker, market)
        total += held
        counted += hold(held, limit)
    before_half = desk["fair_half"]
    fair_half = lean_fair(index_tick, desk["skew_ppb"], counted, max(desk["makers"], 1) * limit)
    if before_half > 0:
        moved_ppb = min(abs(fair_half - before_half) * PPB // before_half, PPB)
        moved_ppb = mul_div_floor(np.int64(moved_ppb), desk["second_ppm"], np.int64(PPM))
        desk["volatility_ppb"] += (moved_ppb - desk["volatility_ppb"]) * desk["memory_ppm"] // PPM
    desk["is_falling"] = 1 if fair_half < before_half else 0
    desk["fair_half"] = fair_half
    desk["mid_half"] = mid_half
    desk["index_tick"] = index_tick
    seen["ts_ns"] = desk["ts_ns"]
    seen["seq"] = st.head[0]["seq"]
    seen["index_tick"] = index_tick
    seen["bid_tick"] = bid
    seen["ask_tick"] = ask
    seen["mid_half"] = mid_half
    seen["fair_half"] = fair_half
    seen["mark_tick"] = rules["mark_tick"]
    seen["last_tick"] = rules["last_tick"]
    seen["open_interest_lot"] = rules["open_interest_lot"]
    seen["maker_lot"] = total
    seen["volatility_ppb"] = desk["volatility_ppb"]


@hot
def price_quote(side, centre_half, fair_half, distance_ppb):
    """Return the tick of a quote, 0 if there is none: bids stay below what all makers think fair, asks above.

    Source: SIM-004.
    """
    if side > 0:
        tick = (centre_half * (PPB - distance_ppb) // PPB) >> 1
        return max(min(tick, (fair_half - 1) >> 1), 0)
    tick = -((centre_half * (PPB + distance_ppb) // -PPB) >> 1)
    return max(tick, (fair_half + 2) >> 1)


@helper
def quote_side(st, desk, ladder, commands, maker, side, fair_half, depth_ppm, stretch_ppm, refill):
    """Write what brings one side of a maker's ladder to what it wants, reading what still rests of it.

    Source: SIM-004, SIM-005.
    """
    market, limit = desk["market"], desk["maker_limit_lot"]
    account = desk["first_maker"] + maker
    held = held_by(st, account, market)
    centre_half = lean_fair(desk["index_tick"], desk["skew_ppb"], held, limit)
    burden = min(max(held * side, 0), limit)  # what this side would add to
    scale_ppm = mul_div_floor(depth_ppm, limit - burden, np.int64(limit))
    most_tick, most_lot = st.markets[market]["price_max_tick"], st.markets[market]["order_max_lot"]
    levels = desk["levels"]
    for level in range(levels):
        distance_ppb = min(mul_div_floor(ladder[maker, level, 0], stretch_ppm, np.int64(PPM)), DISTANCE_MOST_PPB)
        tick = price_quote(side, centre_half, fair_half, distance_ppb)
        wanted = min(mul_div_floor(ladder[maker, level, 1], scale_ppm, np.int64(PPM)), most_lot)
        if tick < 1 or tick > most_tick:
            wanted = np.int64(0)
        order_id = desk["first_order_id"] + 2 * (maker * levels + level) + (1 if side < 0 else 0)
        slot = find_id(st, order_id)
        if slot == NIL:
            if wanted > 0 and draw_bits(desk) < refill:
                write_row(desk, commands[desk["row_count"]], PLACE, account, order_id, side, tick, wanted)
            continue
        lots, at = np.int64(st.orders[slot]["qty_lot"]), np.int64(st.orders[slot]["price_tick"])
        if wanted < 1:
            write_row(desk, commands[desk["row_count"]], CANCEL, account, order_id, NONE, NONE, NONE)
            continue
        kept = lots
        if 4 * lots > 5 * wanted or (4 * lots < 3 * wanted and draw_bits(desk) < refill):
            lots = wanted
        is_beyond = at > (fair_half - 1) >> 1 if side > 0 else at < (fair_half + 2) >> 1
        error, reach = abs(at - tick), abs(2 * tick - centre_half)  # ticks, half ticks
        if is_beyond or 2 * error * PPM > desk["requote_ppm"] * reach:
            write_row(desk, commands[desk["row_count"]], AMEND, account, order_id, NONE, tick, lots)
        elif lots != kept:
            write_row(desk, commands[desk["row_count"]], AMEND, account, order_id, NONE, at, lots)


@helper
def quote_all(st, desk, ladder, commands, depth_ppm):
    """Write the makers' commands: first the side from which the fair value moves away, so that none meets another's.

    Source: SIM-004, SIM-005, SIM-006.
    """
    excess_ppm = max(desk["volatility_ppb"] * PPM // desk["calm_ppb"] - PPM, 0)
    stretch_ppm = min(PPM + mul_div_floor(desk["widen_ppm"], excess_ppm, np.int64(PPM)), STRETCH_MOST)
    depth_ppm = depth_ppm * PPM // (PPM + mul_div_floor(desk["thin_ppm"], excess_ppm, np.int64(PPM)))
    refill = desk["refill"] if desk["step"] > 0 else np.int64(CERTAIN)
    side = np.int64(BUY if desk["is_falling"] else SELL)
    fair_half = desk["fair_half"]
    for _ in range(2):
        for maker in range(desk["makers"]):
            quote_side(st, desk, ladder, commands, maker, side, fair_half, depth_ppm, stretch_ppm, refill)
        side = -side


@hot
def write_taker(desk, row, account, side, lots):
    """Write a market order."""
    desk["taker_id"] += 1
    write_row(desk, row, PLACE, account, desk["taker_id"], side, NONE, lots)
    row["flags"] = MARKET_ORDER
    row["tif"] = IOC


@helper
def trade_noise(st, desk, sizes, commands):
    """Write the noise takers' orders: any side, the likelier the one towards the index.

    Source: SIM-007.
    """
    index_half, mid_half = 2 * desk["index_tick"], desk["mid_half"]
    cheap_ppb = hold((index_half - mid_half) * PPB // mid_half, PPB)
    tilt_ppb = hold(mul_div_floor(cheap_ppb, desk["lean_ppm"], np.int64(PPM)), PPB // 2)
    buys = CERTAIN // 2 + tilt_ppb * CERTAIN // PPB
    limit = desk["noise_limit_lot"]
    for taker in range(desk["noise_takers"]):
        if draw_bits(desk) >= desk["noise_chance"]:
            continue
        side = np.int64(BUY if draw_bits(desk) < buys else SELL)
        lots = sizes[0, draw_bits(desk) & TABLE_MASK]
        account = desk["first_noise"] + taker
        if side * held_by(st, account, desk["market"]) + lots > limit:
            side = -side
        write_taker(desk, commands[desk["row_count"]], account, side, lots)


@helper
def trade_momentum(st, desk, sizes, commands, series):
    """Write the momentum takers' orders: with a move past their threshold, out again when there is none.

    Source: SIM-008.
    """
    step = desk["step"]
    if step < desk["lookback_steps"]:
        return
    then_half = series[step - desk["lookback_steps"]]["mid_half"]
    moved_ppb = (desk["mid_half"] - then_half) * PPB // then_half
    wanted = np.int64(0)
    if abs(moved_ppb) > desk["threshold_ppb"]:
        wanted = desk["momentum_limit_lot"] if moved_ppb > 0 else -desk["momentum_limit_lot"]
    for taker in range(desk["momentum_takers"]):
        if draw_bits(desk) >= desk["momentum_chance"]:
            continue
        lots = sizes[1, draw_bits(desk) & TABLE_MASK]
        account = desk["first_momentum"] + taker
        gap = wanted - held_by(st, account, desk["market"])
        if gap != 0:
            side = np.int64(BUY if gap > 0 else SELL)
            write_taker(desk, commands[desk["row_count"]], account, side, min(abs(gap), lots))


@kernel
def run_steps(box, events, commands, desk, path, ladder, sizes, series, batch):
    """Let the simulated market act and the exchange apply what it sends, step by step, until something needs the shell.

    Parameters
    ----------
    box, events
        As for `run_batch`.
    commands : COMMAND[:]
        Where commands are written and kept; rows `desk.row_next` to `desk.row_count` are to be applied first.
    desk : DESK[:]
        The simulated market's parameters and state; one row, changed in place.
    path : int64[:, 2]
        Per step the index in ticks, and the part of the makers' sizes that is there in ppm.
    ladder : int64[:, :, 2]
        Per maker and level the distance from its centre in ppb, and the size in lots.
    sizes : int64[:, 4096]
        Sizes of noise takers (0) and momentum takers (1), one as likely as another.
    series : SERIES[:]
        A row per step is written.
    batch
        `find_address(run_batch)`.

    Returns
    -------
    status : int64
        As of `run_batch`; OK too where `commands` has no room for another step, or many events wait to be taken.
    events : EVENT[:]

    Notes
    -----
    A step is the index price, with what it triggers, then the orders of those who have seen that.
    Source: SIM-001, STATE-003.
    """
    st = open_box(box)
    state = desk[0]
    while True:
        rows = commands[state["row_next"] : state["row_count"]]
        status, count, events = call_batch(batch, box, events, rows)
        state["row_next"] += count
        if status != OK:
            break
        if state["phase"] == 0:
            is_full = len(commands) - state["row_count"] < state["rows_most"]
            if state["step"] == state["step_end"] or is_full or st.head[0]["event_count"] > state["events_most"]:
                break
            state["ts_ns"] = state["first_ns"] + state["step"] * state["step_ns"]
            tick = path[state["step"], TICK]
            write_row(state, commands[state["row_count"]], INDEX, NONE, NONE, NONE, tick, NONE)
            state["phase"] = 1
        else:
            observe(st, state, series[state["step"]], path[state["step"], TICK])
            quote_all(st, state, ladder, commands, path[state["step"], DEPTH])
            trade_noise(st, state, sizes, commands)
            trade_momentum(st, state, sizes, commands, series)
            state["phase"] = 0
            state["step"] += 1
    return status, events
