"""The one loop and the one switch: commands in, events out (STEP-001)."""

import numpy as np

from engine._jit import helper, inlined, kernel
from engine._probe import phase
from engine.codes import (
    ACCOUNTS_FULL,
    AMEND,
    BAD_AMOUNT,
    BROKEN_MONEY,
    CANCEL,
    CANCEL_ALL,
    CLOCK,
    DEPOSIT,
    FUND_DEPOSIT,
    FUNDING,
    INDEX,
    LEVEL,
    MARK,
    MONEY_LIMIT,
    MONEY_MAX,
    MOVE_MARGIN,
    OK,
    ORDERS_FULL,
    PLACE,
    POSITIONS_FULL,
    PRINT,
    REJECTED,
    SET_LEVERAGE,
    SET_MARGIN_MODE,
    SET_TIERS,
    TIME_REVERSED,
    UNKNOWN_ACCOUNT,
    UNKNOWN_COMMAND,
    UNKNOWN_MARKET,
    WITHDRAW,
)
from engine.kernels.box import Keeper, fetch_record, fetch_row, lend_events, open_box, prefetch
from engine.kernels.cash import settle_marked
from engine.kernels.emit import emit, finish_event
from engine.kernels.fund import add_to_fund
from engine.kernels.funding import check_funding, look_around, settle_funding, take_samples
from engine.kernels.idmap import home_of
from engine.kernels.orders import (
    accept_amount,
    amend_order,
    assign,
    cancel_market,
    cancel_one,
    deposit,
    move_margin,
    place_order,
    set_leverage,
    set_margin_mode,
    withdraw,
)
from engine.kernels.outside import apply_index, apply_mark, apply_print, set_level
from engine.kernels.rounds import run_triggers
from engine.kernels.trigger import follow_last, set_tiers
from engine.kernels.unwind import run_house
from engine.kernels.watch import roll_watches
from engine.layout import NIL

NEAR, FAR, FARTHEST = 8, 16, 128
FETCHED_FROM = 1 << 16  # order ids and wallets: the map of the ids of fewer stays in the second cache by itself


@helper
def deposit_to_fund(st, command):
    """Apply a fund deposit.

    Source: CMD-005.
    """
    market, amount = np.int64(command["market"]), command["amount_quote"]
    rules = st.markets[market]
    asset = st.assets[rules["asset"]]
    if amount < 1:
        return BAD_AMOUNT
    if amount > MONEY_MAX - asset["deposits_quote"]:
        return MONEY_LIMIT
    accept_amount(st, FUND_DEPOSIT, market, 0, amount)["other"] = rules["fund"]
    asset["deposits_quote"] += amount
    add_to_fund(st, np.int64(rules["fund"]), amount)
    return OK


@inlined
def is_feed(kind):
    """Return whether a command kind belongs to no account."""
    return (kind >= INDEX and kind <= CLOCK) or kind == SET_TIERS


@inlined
def check_command(st, command, kind, ts_ns, last_ns):
    """Return OK, or what is wrong with a command before its kind is looked at.

    Source: CMD-002.
    """
    if kind < PLACE or kind > SET_TIERS:
        return UNKNOWN_COMMAND
    if ts_ns < last_ns:
        return TIME_REVERSED
    if np.uint64(np.int64(command["market"])) >= np.uint64(st.head[0]["market_count"]):  # below 0 is far above it
        if kind != CLOCK and kind != CANCEL and kind != AMEND:
            return UNKNOWN_MARKET
    if command["account"] < 1 and not is_feed(kind):
        return UNKNOWN_ACCOUNT
    return OK


@inlined
def apply_account(st, kind, command):
    """Apply a command of an account; return OK or its reject code."""
    if kind == PLACE:
        return place_order(st, command)
    if kind == CANCEL:
        return cancel_one(st, command)
    if kind == AMEND:
        return amend_order(st, command)
    if kind == CANCEL_ALL:
        return cancel_market(st, command)
    if kind == DEPOSIT:
        return deposit(st, command)
    if kind == WITHDRAW:
        return withdraw(st, command)
    if kind == MOVE_MARGIN:
        return move_margin(st, command)
    if kind == SET_LEVERAGE:
        return set_leverage(st, command)
    if kind == SET_MARGIN_MODE:
        return set_margin_mode(st, command)
    return assign(st, command)


@inlined
def apply_feed(st, kind, command):
    """Apply a command of the recorded market or the exchange; return OK or its reject code."""
    if kind == LEVEL:
        return set_level(st, command)
    if kind == PRINT:
        return apply_print(st, command)
    if kind == MARK:
        return apply_mark(st, command)
    if kind == INDEX:
        return apply_index(st, command)
    if kind == FUNDING:
        return check_funding(st, command)
    if kind == FUND_DEPOSIT:
        return deposit_to_fund(st, command)
    if kind == SET_TIERS:
        return set_tiers(st, command)
    return OK


@helper
def needs_account(st, command):
    """Return whether a command of an account beyond those there are room for will be looked at."""
    kind = command["kind"]
    if is_feed(kind) or kind == CANCEL or kind == AMEND:
        return False
    return check_command(st, command, np.int64(kind), command["ts_ns"], st.head[0]["ts_ns"]) == OK


@helper
def find_room(st):
    """Return (OK, for how many commands there is room), or (which array the shell must grow, 0).

    A command takes at most one order slot and one position slot beyond those in use; freed order slots are counted as
    one, since each is there for one command at least.
    """
    head = st.head[0]
    orders = len(st.orders) - head["order_used"]
    positions = len(st.positions) - head["position_used"]
    if orders == 0:
        if head["order_free"] == NIL:
            return ORDERS_FULL, np.int64(0)
        orders = np.int64(1)
    if positions == 0:
        return POSITIONS_FULL, np.int64(0)
    return OK, min(orders, positions)


@helper
def reject(st, command, code):
    """Emit a rejection; it carries the command's own time, which does not move the clock.

    Source: CMD-002.
    """
    event = emit(st, REJECTED, code, np.int64(command["market"]), np.int64(command["account"]))
    event["ts_ns"] = command["ts_ns"]
    event["rank"] = command["kind"]
    event["order_id"] = command["order_id"]


@inlined
def is_stirred(head):
    """Return whether a command may have consequences: domains to look at, or a policy that looks at every command."""
    by_policy = head["watch_count"] | head["derived_count"] | head["settle_count"] | head["house_count"]
    return by_policy | head["resting_count"] | head["touched_count"] | head["pending_count"] | head["fault"] != 0


@helper
def follow_command(st, command, last_ns, is_due):
    """Do everything that follows from a command; return OK or why the batch must stop.

    Source: STEP-001.
    """
    head = st.head[0]
    if head["watch_count"] > 0:
        roll_watches(st)
    if is_due:
        take_samples(st, last_ns)
    follow_last(st)
    if head["settle_count"] > 0:
        settle_marked(st)
    if is_due or command["kind"] == FUNDING:
        settle_funding(st, command, last_ns)
        if head["settle_count"] > 0:
            settle_marked(st)
    status = run_triggers(st)
    if head["house_count"] > 0 and status == OK:
        status = run_house(st)
    if head["fault"] != 0:
        status = BROKEN_MONEY
    return status


@inlined
def step(st, command):
    """Apply one command and everything that follows from it; return OK or why the batch must stop.

    Source: STEP-001, CMD-001.
    """
    head = st.head[0]
    last_ns, ts_ns = head["ts_ns"], command["ts_ns"]
    kind = np.int64(command["kind"])
    head["seq"] += 1
    head["queue_live"] = 0
    is_due = ts_ns >= head["due_ns"]
    if is_due:
        look_around(st, ts_ns)
    code = check_command(st, command, kind, ts_ns, last_ns)
    if code != OK:
        reject(st, command, code)
        return OK
    head["ts_ns"] = ts_ns
    is_followed = is_due
    if is_feed(kind):
        code = apply_feed(st, kind, command)
        is_followed |= kind == FUNDING
    else:
        code = apply_account(st, kind, command)
    if code != OK:
        head["ts_ns"] = last_ns
        reject(st, command, code)
        return OK
    if is_followed or is_stirred(head):  # most commands stir nothing: that must cost next to nothing
        return follow_command(st, command, last_ns, is_due)
    return OK


@inlined
def look_ahead(st, near, far):
    """Have the processor fetch what two commands to come will need.

    Of `far` its account's first wallet and where its order id is looked up, of `near` the position that this wallet
    names, as far as an order needs it.
    """
    if len(st.idmap) + len(st.wallets) >= FETCHED_FROM:
        prefetch(st.idmap, home_of(far["order_id"], len(st.idmap)))
    room, assets = np.uint64(len(st.wallets)), st.head[0]["asset_count"]
    wallet = np.int64(far["account"]) * assets
    if np.uint64(wallet) < room:  # below 0 is far above it
        prefetch(st.wallets, wallet)
    wallet = np.int64(near["account"]) * assets
    if np.uint64(wallet) < room:
        slot = np.int64(st.wallets[wallet]["positions_head"])
        if slot != NIL:
            fetch_record(st.positions[slot])


@kernel
@phase("commands")
def run_batch(box, events, commands):
    """Apply `commands` in order until done, or until something needs the shell.

    Parameters
    ----------
    box
        The state as `pack_state` packs it; its arrays are changed in place.
    events : EVENT[:]
        Written from row `head.event_count` on, which must be 0 on the first call of a batch.
    commands : COMMAND[:]
        C-contiguous and writeable (a read-only array would be another specialisation).

    Returns
    -------
    status : int64
        OK, ORDERS_FULL, POSITIONS_FULL, ACCOUNTS_FULL (grow and resume), BROKEN_ROUNDS, BROKEN_MONEY (stop).
    next_index : int64
        First command not applied; commands are all-or-nothing.
    events : EVENT[:]
        The event buffer, a longer one than before where that was full.

    Notes
    -----
    Deterministic: no float, no clock, no hash order.  Not interruptible; the shell passes chunks.
    Source: STEP-001, STATE-003.
    """
    keeper = Keeper(events)
    st = open_box(box)
    lend_events(st, keeper, events)
    status = OK
    index = 0
    room = np.int64(0)
    while index < len(commands):
        place = np.uint64(index)
        fetch_row(commands, index + FARTHEST)
        if index < len(commands) - FAR:
            look_ahead(st, commands[place + np.uint64(NEAR)], commands[place + np.uint64(FAR)])
        command = commands[place]
        if np.int64(command["account"]) * st.head[0]["asset_count"] >= len(st.wallets) and needs_account(st, command):
            status = ACCOUNTS_FULL
            break
        if room == 0:
            status, room = find_room(st)
            if room == 0:
                break
        room -= 1
        status = step(st, command)
        index += 1
        if status != OK:
            break
    finish_event(st)
    st.head[0]["is_staged"] = 0
    return status, index, keeper.events
