"""Commands in bulk for the benchmarks, and the matching challenge's messages as the orders of many accounts."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.bench.challenge import CANCEL as CANCEL_MESSAGE
from engine.bench.challenge import NEW, START, TICK, Messages
from engine.codes import AMEND, CANCEL, GTC, IOC, PLACE
from engine.layout import COMMAND

START_MID = round(START / TICK)  # the challenge's first mid, in its ticks


def make_rows(count: int, kind: Any, **fields: Any) -> NDArray[np.void]:
    """Return COMMAND rows; `kind` and fields are a value or a column."""
    rows = np.zeros(count, COMMAND)
    rows["kind"] = kind
    for name, values in fields.items():
        rows[name] = values
    return rows


def map_messages(messages: Messages, accounts: int) -> NDArray[np.void]:
    """Return the challenge's messages as orders, amendments and cancels: each order belongs to a scattered account."""
    kinds = np.where(messages["kind"] == NEW, PLACE, np.where(messages["kind"] == CANCEL_MESSAGE, CANCEL, AMEND))
    return make_rows(
        len(messages),
        kinds,
        order_id=messages["order_id"],
        side=1 - 2 * messages["side"].astype(np.int64),
        qty_lot=messages["qty"],
        price_tick=messages["price"],
        tif=np.where(messages["ioc"] != 0, IOC, GTC),
        account=1 + (messages["order_id"] * 2_654_435_761 % (1 << 32) * accounts >> 32),
    )
