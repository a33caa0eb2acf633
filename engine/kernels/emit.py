"""The only writer of events (EVT-001)."""

import numpy as np

from engine._jit import helper, hot, inlined
from engine._probe import phase
from engine.kernels.box import clear, grow_events, put_order_event, put_record, stream_out

STREAMED_FROM = 256  # events: half of the first cache, or less


@inlined
def finish_event(st):
    """Bring the last event from the stage to the buffer, if it is not there yet.

    A long batch writes more events than the caches hold, and reads none: past the first few they go straight to
    memory, and leave the caches to accounts and orders.
    """
    head = st.head[0]
    if head["is_staged"] != 0:
        index = head["event_count"] - 1
        if index >= STREAMED_FROM:
            stream_out(st.events, index, st.stage[index & 1])
        else:
            put_record(st.events, index, st.stage[index & 1])


@hot
@phase("events")
def append_here(st, kind, code, market, account):
    """Begin an event and return it; all fields not given here are 0."""
    finish_event(st)
    head = st.head[0]
    index = head["event_count"]
    if index == len(st.events):
        grow_events(st)
    head["event_count"] = index + 1
    head["is_staged"] = 1
    event = st.stage[index & 1]
    clear(event)
    event["seq"] = head["seq"]
    event["ts_ns"] = head["ts_ns"]
    event["kind"] = kind
    event["code"] = code
    event["market"] = market
    event["account"] = account
    return event


@hot
@phase("events")
def tell_order(st, kind, code, market, account, side, flags, price_tick, qty_lot, order_id):
    """Emit an event of an order, which orders bring by the million: whole, so that it needs no stage."""
    finish_event(st)
    head = st.head[0]
    index = head["event_count"]
    if index == len(st.events):
        grow_events(st)
    head["event_count"] = index + 1
    head["is_staged"] = 0
    parts = (np.int64(kind), np.int64(code), np.int64(market), np.int64(side), np.int64(flags), np.int64(account))
    told = (price_tick, qty_lot, order_id)
    put_order_event(st.events, index, index >= STREAMED_FROM, head["seq"], head["ts_ns"], parts, told)


@helper
def append_event(st, kind, code, market, account):
    """Do the same for the price of a call."""
    return append_here(st, kind, code, market, account)


@inlined
def emit(st, kind, code, market, account):
    """Begin an event and return it; it must be filled in before the next one is begun, which hands this one on.

    The casts forget that kind and code are constants; without them `append_event` is compiled once per constant.
    """
    return append_event(st, np.int64(kind), np.int64(code), np.int64(market), np.int64(account))
