"""The only writer of events (EVT-001)."""

import numpy as np

from engine._jit import helper, inlined
from engine._probe import phase
from engine.kernels.box import clear, grow_events


@helper
@phase("events")
def append_event(st, kind, code, market, account):
    """Append an event and return it; all fields not given here are 0."""
    head = st.head[0]
    index = head["event_count"]
    if index == len(st.events):
        grow_events(st)
    head["event_count"] = index + 1
    event = st.events[index]
    clear(event)
    event["seq"] = head["seq"]
    event["ts_ns"] = head["ts_ns"]
    event["kind"] = kind
    event["code"] = code
    event["market"] = market
    event["account"] = account
    return event


@inlined
def emit(st, kind, code, market, account):
    """Append an event and return it.  It is written before the next one is emitted: the buffer may move then.

    The casts forget that kind and code are constants; without them `append_event` is compiled once per constant.
    """
    return append_event(st, np.int64(kind), np.int64(code), np.int64(market), np.int64(account))
