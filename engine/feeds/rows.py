"""Columns as rows, in one pass over their memory: field by field numpy walks through all of it each time."""

import numpy as np
from numpy.typing import NDArray

from engine._jit import kernel
from engine.layout import RECORD

Ints = NDArray[np.int64]


def build_rows(
    kind: int, market: int, ts_ns: Ints, exchange_ns: Ints, flags: Ints, side: Ints, price: Ints, qty: Ints, ids: Ints
) -> NDArray[np.void]:
    """Return RECORD rows of one kind and instrument from columns of equal length."""
    rows = np.empty(len(ts_ns), RECORD)
    fill_rows(np.int64(kind), np.int64(market), ts_ns, exchange_ns, flags, side, price, qty, ids, rows)
    return rows


@kernel
def fill_rows(
    kind: np.int64,
    market: np.int64,
    ts_ns: Ints,
    exchange_ns: Ints,
    flags: Ints,
    side: Ints,
    price: Ints,
    qty: Ints,
    ids: Ints,
    rows: NDArray[np.void],
) -> None:
    """Write columns to RECORD rows, whatever these hold."""
    for at in range(len(rows)):
        row = rows[at]
        row["ts_ns"] = ts_ns[at]
        row["exchange_ns"] = exchange_ns[at]
        row["id"] = ids[at]
        row["price"] = price[at]
        row["qty"] = qty[at]
        row["kind"] = kind
        row["market"] = market
        row["side"] = side[at]
        row["flags"] = flags[at]
        row["_pad"] = 0
