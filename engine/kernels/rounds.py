"""The trigger rounds: who is called, who is liquidated, in which order (STEP-003..STEP-005)."""

import numpy as np

from engine._jit import helper
from engine._probe import phase
from engine.codes import BROKEN_ROUNDS, MARGIN_CALL, OK, PPB, PPM, ROUNDS_MAX, SATURATED
from engine.kernels.cash import settle_marked
from engine.kernels.fixed import mul_div_ceil, mul_div_floor, saturate
from engine.kernels.heap import build_heap, pop_heap
from engine.kernels.liquidate import account_of, emit_domain, liquidate_domain, market_of
from engine.kernels.margin import measure_domain
from engine.kernels.trigger import (
    asset_of,
    fetch_ahead,
    follow_last,
    hang_domain,
    hang_touched,
    read_flags,
    write_flags,
)
from engine.kernels.wake import wake_due
from engine.layout import CALLED, PENDING, RESTING


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
    return asset_of(st, code) * 64 + market_of(st, code) + 1


@helper
def list_domain(st, at, code, key, tie):
    """Write a heap record of a domain."""
    entry = st.triggers[at]
    entry["key"] = key
    entry["tie"] = tie
    entry["minor"] = rank_domain(st, code)
    entry["item"] = code


@helper
def call_suspects(st):
    """Emit the margin calls due among the suspected domains: by account, asset, cross before isolated, market.

    Source: STEP-003, STEP-005.
    """
    called = np.int64(0)
    for at in range(st.head[0]["pending_count"]):
        fetch_ahead(st, st.pending, at, st.head[0]["pending_count"])
        code = st.pending[at]
        if read_flags(st, code) & RESTING:
            continue
        equity, maintenance, _ = measure_domain(st, code)
        if equity >= maintenance and is_called(st, code, equity, maintenance):
            list_domain(st, called, code, account_of(st, code), np.int64(0))
            called += 1
    build_heap(st.triggers, called)
    for done in range(called):
        code = st.triggers[0]["item"]
        pop_heap(st.triggers, called - done)
        equity, maintenance, _ = measure_domain(st, code)
        emit_domain(st, np.int64(MARGIN_CALL), code, equity, maintenance)
        write_flags(st, code, read_flags(st, code) | CALLED)


@helper
def sort_suspects(st):
    """Look at all suspected domains: list the triggered, worst first, hang the others; return how many are listed.

    Source: STEP-003, WAKE-001.
    """
    head = st.head[0]
    listed = np.int64(0)
    count = head["pending_count"]
    head["pending_count"] = 0
    for at in range(count):
        fetch_ahead(st, st.pending, at, count)
        code = st.pending[at]
        flags = read_flags(st, code)
        write_flags(st, code, flags & ~PENDING)
        if flags & RESTING:  # suspected before its turn came in the round that put it to rest
            continue
        equity, maintenance, _ = measure_domain(st, code)
        if equity >= maintenance:
            hang_domain(st, code)
            continue
        ratio = np.int64(-SATURATED)
        if maintenance > 0:
            ratio = saturate(mul_div_floor(equity, PPB, maintenance))
        list_domain(st, listed, code, ratio, account_of(st, code))
        listed += 1
    build_heap(st.triggers, listed)
    return listed


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
        call_suspects(st)
        listed = sort_suspects(st)
        while listed > 0:
            code = st.triggers[0]["item"]
            pop_heap(st.triggers, listed)
            listed -= 1
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
