"""Matching alone: the challenge's messages through the exchange's own book, reports to a flat buffer.

No margin, no money: what is measured and hashed here is `book` and what it stands on, as the exchange uses them.
"""

import numpy as np

from engine._jit import hot, inlined, kernel
from engine.codes import OK, ORDERS_FULL
from engine.kernels.book import best_opposite, crosses, first_at, remove_order, rest_order, shrink_order
from engine.kernels.box import borrow, open_box
from engine.kernels.idmap import find_id
from engine.kernels.margin import make_position
from engine.layout import NIL

ACK, TRADED, CANCELED, MODIFIED, NO_CANCEL, NO_MODIFY = 0, 1, 2, 3, 4, 5
NEW, CANCEL = 0, 1


@inlined
def write_report(report, kind, seq, side, order_id, other_id, price, qty):
    """Fill in a report."""
    report["seq"] = seq
    report["order_id"] = order_id
    report["other_id"] = other_id
    report["price"] = price
    report["qty"] = qty
    report["kind"] = kind
    report["side"] = side


@hot
def enter(st, owner, message, reports, count):
    """Match a message's order and rest or cancel what is left; return the report count."""
    seq, order_id, limit = message["seq"], message["order_id"], message["price"]
    side = 1 - 2 * np.int64(message["side"])
    lots = np.int64(message["qty"])
    market = np.int64(0)
    while lots > 0:
        price = best_opposite(st, market, side)
        if not crosses(side, limit, price):
            break
        slot = first_at(st, market, price)
        part = min(lots, st.orders[slot]["qty_lot"])
        write_report(reports[count], TRADED, seq, 0, st.orders[slot]["order_id"], order_id, price, part)
        count += 1
        shrink_order(st, slot, part)
        lots -= part
    if lots > 0:
        if message["ioc"] != 0:
            write_report(reports[count], CANCELED, seq, message["side"], order_id, 0, limit, 0)
            count += 1
        else:
            rest_order(st, market, owner, side, limit, lots, order_id, np.int64(0))
    return count


@hot
def apply_message(st, owner, message, reports, count):
    """Apply one message; return the report count."""
    seq, order_id = message["seq"], message["order_id"]
    if message["kind"] == NEW:
        write_report(reports[count], ACK, seq, message["side"], order_id, 0, message["price"], message["qty"])
        return enter(st, owner, message, reports, count + 1)
    slot = find_id(st, order_id)
    if message["kind"] == CANCEL:
        if slot == NIL:
            write_report(reports[count], NO_CANCEL, seq, 0, order_id, 0, 0, 0)
        else:
            side = (1 - np.int64(st.orders[slot]["side"])) >> 1
            write_report(reports[count], CANCELED, seq, side, order_id, 0, st.orders[slot]["price_tick"], 0)
            remove_order(st, slot)
        return count + 1
    if slot == NIL:
        write_report(reports[count], NO_MODIFY, seq, 0, order_id, 0, 0, 0)
        return count + 1
    remove_order(st, slot)
    write_report(reports[count], MODIFIED, seq, message["side"], order_id, 0, message["price"], message["qty"])
    return enter(st, owner, message, reports, count + 1)


@kernel
def run_messages(box, messages, reports):
    """Apply MESSAGE rows to market 0's book until done or the order pool is full.

    Parameters
    ----------
    box
        As for `run_batch`.
    messages : MESSAGE[:]
    reports : REPORT[:]
        At least 3 rows per message: every trade ends an order or a message.

    Returns
    -------
    status : int64
        OK or ORDERS_FULL.
    next_index, report_count : int64
    """
    st = open_box(box)
    rows = borrow(reports)
    owner = make_position(st, np.int64(1), np.int64(0))
    head = st.head[0]
    count = np.int64(0)
    for index in range(len(messages)):
        if head["order_free"] == NIL and head["order_used"] == len(st.orders):
            return ORDERS_FULL, index, count
        count = apply_message(st, owner, messages[index], rows, count)
    return OK, len(messages), count
