"""The only writer of events (EVT-001)."""

import numpy as np

from engine._jit import helper, inlined
from engine.kernels.box import grow_events


@helper
def append_event(st, kind, code, market, account):
    """Append an event and return it; all fields not given here are 0."""
    head = st.head[0]
    index = head["event_count"]
    if index == len(st.events):
        grow_events(st)
    head["event_count"] = index + 1
    event = st.events[index]
    event["seq"] = head["seq"]
    event["ts_ns"] = head["ts_ns"]
    event["kind"] = kind
    event["code"] = code
    event["market"] = market
    event["account"] = account
    event["side"] = 0
    event["flags"] = 0
    event["other"] = 0
    event["rank"] = 0
    event["count"] = 0
    event["mark_tick"] = 0
    event["bankruptcy_tick"] = 0
    event["price_tick"] = 0
    event["qty_lot"] = 0
    event["order_id"] = 0
    event["other_order_id"] = 0
    event["amount_quote"] = 0
    event["other_amount_quote"] = 0
    event["fee_quote"] = 0
    event["other_fee_quote"] = 0
    event["margin_quote"] = 0
    event["other_margin_quote"] = 0
    return event


@inlined
def emit(st, kind, code, market, account):
    """Append an event and return it.  It is written before the next one is emitted: the buffer may move then.

    The casts forget that kind and code are constants; without them `append_event` is compiled once per constant.
    """
    return append_event(st, np.int64(kind), np.int64(code), np.int64(market), np.int64(account))
