"""The venue's own best bid and ask beside the book it is rebuilt from."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.codes import LEVEL, ROW_QUOTE
from engine.contract import Market
from engine.errors import DataError
from engine.feeds.formats import sniff_file
from engine.feeds.merge import Commands, hold_last_stamp
from engine.feeds.tape import Tape
from engine.layout import RECORD

QUOTE = np.dtype(
    [
        ("ts_ns", "<i8"),
        ("bid_price_tick", "<i8"),
        ("bid_qty_lot", "<i8"),
        ("ask_price_tick", "<i8"),
        ("ask_qty_lot", "<i8"),
    ]
)


def read_quotes(path: str | Path, market: Market) -> NDArray[np.void]:
    """Return the rows of a quotes file as QUOTE records: stamps in ns, ticks and lots, 0 where a side is empty.

    Raises
    ------
    DataError
        If it has no quotes of this market or a row cannot be read.
    """
    file = sniff_file(Path(path))
    if file is None:
        raise DataError(path, 1, None, "expected a recording with quotes")
    rows = [block[block["kind"] == ROW_QUOTE] for block in Tape([file], [market]).records()]
    both = np.concatenate([np.zeros(0, RECORD), *rows])
    if not len(both):
        raise DataError(path, 1, None, f"expected quotes of {market.symbol}, found none")
    quotes = np.zeros(len(both) // 2, QUOTE)
    quotes["ts_ns"] = both["ts_ns"][::2]
    for at, name in enumerate(("bid", "ask")):
        quotes[f"{name}_price_tick"], quotes[f"{name}_qty_lot"] = both["price"][at::2], both["qty"][at::2]
    return quotes


def iter_bbo_checks(
    chunks: Iterator[Commands], quotes: NDArray[np.void], market: int = 0
) -> Iterator[tuple[Commands, np.void]]:
    """Yield, per book message, the commands up to its end and the quote that must then hold.

    A venue sends its best bid and ask beside the book: when a book message arrives, the last quote that arrived no
    later (by local stamp) has the same two prices.  Messages before the first quote are joined to the next one.

    Parameters
    ----------
    chunks : iterator of COMMAND arrays
        A feed's, in order of time.
    quotes : QUOTE array
        From `read_quotes`.
    market : int
        The market the quotes are of.
    """
    waiting: list[Commands] = []
    for block in hold_last_stamp(chunks):
        start = 0
        ends = np.flatnonzero((block["kind"] == LEVEL) & (block["market"] == market))
        if len(ends):
            stamps = block["ts_ns"][ends]
            ends = ends[np.append(np.diff(stamps) != 0, True)]  # the last level of each stamp
        rows = np.searchsorted(quotes["ts_ns"], block["ts_ns"][ends], side="right") - 1
        for end, row in zip(ends.tolist(), rows.tolist(), strict=True):
            if row < 0:
                continue
            yield np.concatenate([*waiting, block[start : end + 1]]), quotes[row]
            waiting, start = [], end + 1
        waiting.append(block[start:])
