"""The trigger rounds: who is called, who is liquidated, in which order (STEP-003..STEP-005)."""

import numpy as np

from engine._jit import helper, inlined
from engine._probe import phase
from engine.codes import BROKEN_ROUNDS, MARGIN_CALL, OK, PPB, PPM, ROUNDS_MAX, SATURATED
from engine.kernels.box import prefetch
from engine.kernels.cash import settle_marked
from engine.kernels.fixed import mul_div_ceil, mul_div_floor, saturate
from engine.kernels.heap import build_heap, pop_heap, write_record
from engine.kernels.liquidate import emit_domain, liquidate_domain, market_of
from engine.kernels.margin import count_accounts, measure_domain
from engine.kernels.trigger import (
    CODE_BITS,
    CODE_MASK,
    account_of,
    asset_of,
    fetch_ahead,
    fetch_position,
    follow_last,
    hang_domain,
    hang_measured,
    hang_touched,
    read_flags,
    write_flags,
)
from engine.kernels.wake import wake_due
from engine.layout import CALLED, PENDING, RESTING

RANK_BITS = 6  # of a domain's place: its market; above them its asset
DIGIT_BITS = 11
DIGIT_MASK = (1 << DIGIT_BITS) - 1
MANY = 128  # suspects that are sorted by digits


@helper
def is_called(st, code, equity, maintenance):
    """Return whether a domain needs a margin call it has not had.

    Source: STEP-005.
    """
    call_ppm = st.assets[asset_of(st, code)]["call_ppm"]
    if call_ppm == 0 or read_flags(st, code) & CALLED:
        return False
    return equity < mul_div_ceil(maintenance, call_ppm, PPM)


@helper
def rank_domain(st, code):
    """Return a domain's place among equals within its account: asset, cross before isolated, market.

    Source: STEP-003.
    """
    return (asset_of(st, code) << RANK_BITS) + market_of(st, code) + 1


@inlined
def comes_after(st, one, other):
    """Return whether a suspect comes after another: by account, asset, cross before isolated, market."""
    if one >> CODE_BITS != other >> CODE_BITS:
        return one >> CODE_BITS > other >> CODE_BITS
    return rank_domain(st, one & CODE_MASK) > rank_domain(st, other & CODE_MASK)


@helper
def spread_by_digit(words, spread, count, shift):
    """Write `count` words into another array by rising digit, those with equal ones in the order they have."""
    starts = np.zeros(1 << DIGIT_BITS, np.int64)
    for at in range(count):
        starts[(words[at] >> shift) & DIGIT_MASK] += 1
    start = np.int64(0)
    for digit in range(1 << DIGIT_BITS):
        start, starts[digit] = start + starts[digit], start
    for at in range(count):
        digit = (words[at] >> shift) & DIGIT_MASK
        spread[starts[digit]] = words[at]
        starts[digit] += 1


@helper
def sort_suspects(st):
    """Bring the suspected domains into order: by account, asset, cross before isolated, market.

    Many are brought near their places first, by two digits of the account at a time.  Then memory is gone through in
    the order in which it lies, too.  Source: STEP-003.
    """
    count = st.head[0]["pending_count"]
    if count >= MANY:
        room = np.empty(count, np.int64)
        shift = np.int64(0)
        while (count_accounts(st) - 1) >> shift > 0:
            spread_by_digit(st.pending, room, count, CODE_BITS + shift)
            spread_by_digit(room, st.pending, count, CODE_BITS + shift + DIGIT_BITS)
            shift += 2 * DIGIT_BITS
    for at in range(1, count):
        word = st.pending[at]
        place = np.int64(at)
        while place > 0 and comes_after(st, st.pending[place - 1], word):
            st.pending[place] = st.pending[place - 1]
            place -= 1
        st.pending[place] = word


@helper
def look_at_suspects(st):
    """Look at all suspected domains: call those due, list the triggered, worst last, hang the rest; return how many.

    Source: STEP-003, STEP-005, WAKE-001.
    """
    head = st.head[0]
    sort_suspects(st)
    listed = np.int64(0)
    count = head["pending_count"]
    head["pending_count"] = 0
    for at in range(count):
        fetch_ahead(st, st.pending, at, count)
        code = st.pending[at] & CODE_MASK
        flags = read_flags(st, code) & ~PENDING
        write_flags(st, code, flags)
        if flags & RESTING:  # suspected before its turn came in the round that put it to rest
            continue
        equity, maintenance, positions = measure_domain(st, code)
        if equity < maintenance:
            ratio = np.int64(-SATURATED)
            if maintenance > 0:
                ratio = saturate(mul_div_floor(equity, PPB, maintenance))
            write_record(st.triggers, listed, ratio, account_of(st, code), rank_domain(st, code), code)
            listed += 1
            continue
        if is_called(st, code, equity, maintenance):
            emit_domain(st, np.int64(MARGIN_CALL), code, equity, maintenance)
            write_flags(st, code, flags | CALLED)
        hang_measured(st, code, equity, maintenance, positions)
    build_heap(st.triggers, listed)
    for done in range(listed):
        pop_heap(st.triggers, listed - done)
    return listed


@inlined
def fetch_listed(st, at):
    """Have the processor fetch what liquidating `at` in the list will touch, and the next one's owner."""
    if at > 0:
        entry = st.triggers[at - 1]
        first = entry["tie"] * st.head[0]["asset_count"]
        prefetch(st.wallets, first)
        prefetch(st.wallets, first + (entry["minor"] >> RANK_BITS))
    if at >= 0:
        fetch_position(st, st.triggers[at]["item"])


@helper
@phase("triggers")
def run_rounds(st):
    """Look at the suspected domains, and liquidate, until none is suspected; return OK or BROKEN_ROUNDS.

    Source: STEP-003, STEP-004.
    """
    head = st.head[0]
    rounds = 0
    while head["pending_count"] > 0:
        rounds += 1
        if rounds > ROUNDS_MAX:
            return BROKEN_ROUNDS
        for at in range(look_at_suspects(st) - 1, -1, -1):
            fetch_listed(st, at - 1)
            code = st.triggers[at]["item"]
            equity, maintenance, _ = measure_domain(st, code)
            if equity < maintenance:
                liquidate_domain(st, code)
                hang_touched(st)
                follow_last(st)
                if head["settle_count"] > 0:
                    settle_marked(st)
            else:
                hang_domain(st, code)
    return OK


@helper
def run_triggers(st):
    """Wake who is due, hang the touched anew, and run trigger rounds until nothing is triggered; OK or BROKEN_ROUNDS.

    Source: STEP-001.
    """
    head = st.head[0]
    if head["resting_count"] > 0:
        wake_due(st)
    if head["touched_count"] > 0:
        hang_touched(st)
    if head["pending_count"] == 0:
        return OK
    return run_rounds(st)
