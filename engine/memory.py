"""What an exchange takes of memory, said before it is run: in bytes per thing it holds.

Counted are the compiled engine's arrays as far as they are in use.  They double when they are full, so that up to twice
as much may be set aside; the reader of a tape, the events of a run and Python itself come on top.
"""

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.codes import LEVEL, PRICE_MAX_LIMIT
from engine.compiled import Capacity, CompiledEngine, count_ladder, make_idmap
from engine.contract import Setup
from engine.layout import (
    HEAP,
    LEAF_TICKS,
    LEVEL_RECORD,
    ORDER,
    PAGE_TICKS,
    POSITION,
    STATE_DTYPES,
    WALLET,
)

# A mask and a record per tick; a mask and a link per leaf.
LEAF_BYTES = STATE_DTYPES["leaf_masks"].itemsize + LEAF_TICKS * LEVEL_RECORD.itemsize
PAGE_BYTES = STATE_DTYPES["page_masks"].itemsize + PAGE_TICKS // LEAF_TICKS * STATE_DTYPES["page_leaves"].itemsize
# What can be liquidated, a wallet or an isolated position, has its place in the work lists and in both heaps.
DOMAIN_BYTES = sum(STATE_DTYPES[name].itemsize for name in ("pending", "touched", "uneasy")) + 2 * HEAP.itemsize
# With one asset and one position.
ACCOUNT_BYTES = WALLET.itemsize + POSITION.itemsize + 2 * DOMAIN_BYTES


def count_price_bytes(price_max_tick: int, ladders: int = 2) -> int:
    """Return what the price range of a market takes before anything rests in it: the directories of its ladders."""
    pages, word_counts = count_ladder(price_max_tick + 1)
    return ladders * (pages * STATE_DTYPES["pages"].itemsize + sum(word_counts) * STATE_DTYPES["words"].itemsize)


def count_order_bytes() -> int:
    """Return what one more resting order takes: its record and its share of the id map, levels not counted."""
    orders = 1024
    return ORDER.itemsize + make_idmap(orders).nbytes // orders


def count_book_bytes(orders: int, leaves: int, pages: int) -> int:
    """Return the bytes of a book.

    Parameters
    ----------
    orders : int
        Resting at once; the outside has one per price level.
    leaves, pages : int
        Groups of 64 and of 4,096 ticks with an order in them, at once.
    """
    return orders * count_order_bytes() + leaves * LEAF_BYTES + pages * PAGE_BYTES


def describe_units() -> dict[str, int]:
    """Return what is true of every exchange: bytes per order, group of 64 ticks, account, and the widest market."""
    return {
        "order_bytes": count_order_bytes(),
        "leaf_bytes": LEAF_BYTES,
        "account_bytes": ACCOUNT_BYTES,
        "widest_market_bytes": count_price_bytes(PRICE_MAX_LIMIT),
    }


def describe_setup(setup: Setup) -> dict[str, int]:
    """Return the bytes an exchange of these markets starts with, and how many of them its price ranges take."""
    prices = sum(count_price_bytes(rules.price_max_tick, 1 + len(rules.tables)) for rules in setup.markets)
    engine = CompiledEngine(setup, Capacity())
    empty = sum(array.nbytes for array in (*engine.state, engine.events))
    return {"empty_bytes": empty, "price_bytes": prices, **describe_units()}


class BookMeter:
    """The most price levels a tape holds at once, and the most groups of 64 and of 4,096 ticks they lie in."""

    def __init__(self) -> None:
        self.levels_max = self.leaves_max = self.pages_max = 0
        self._levels: set[int] = set()
        self._leaves: Counter[int] = Counter()
        self._pages: Counter[int] = Counter()

    def add(self, commands: NDArray[np.void]) -> None:
        """Follow the levels in COMMAND rows, which come in order of time."""
        rows = commands[commands["kind"] == LEVEL]
        places = (rows["market"].astype(np.int64) << 32) | rows["price_tick"]
        for key, total in zip((places * rows["side"]).tolist(), rows["qty_lot"].tolist(), strict=True):
            if (total > 0) == (key in self._levels):
                continue
            leaf, page = abs(key) // LEAF_TICKS, abs(key) // PAGE_TICKS
            if total > 0:
                self._levels.add(key)
                self._leaves[leaf] += 1
                self._pages[page] += 1
                self.levels_max = max(self.levels_max, len(self._levels))
                self.leaves_max = max(self.leaves_max, len(self._leaves))
                self.pages_max = max(self.pages_max, len(self._pages))
            else:
                self._levels.remove(key)
                _take_one(self._leaves, leaf)
                _take_one(self._pages, page)

    def describe(self) -> dict[str, Any]:
        """Return the most levels and groups of 64 ticks at once, and the bytes of that book."""
        return {
            "levels_max": self.levels_max,
            "leaves_max": self.leaves_max,
            "book_bytes": count_book_bytes(self.levels_max, self.leaves_max, self.pages_max),
        }


def _take_one(counts: Counter[int], group: int) -> None:
    counts[group] -= 1
    if not counts[group]:
        del counts[group]


def format_bytes(count: int) -> str:
    """Return bytes as people read them: 312 B, 32.1 KiB, 1.2 MiB."""
    size, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{count:,} B" if unit == "B" else f"{size:,.1f} {unit}"


def format_units(units: dict[str, int]) -> str:
    """Return in one line what an order and an account add."""
    order, account = units["order_bytes"], units["account_bytes"]
    return f"+ {order:,} B per resting order, + {account:,} B per account with a position"


def format_memory(memory: dict[str, int]) -> dict[str, str]:
    """Return the lines a person reads, by their names: what an exchange starts with, and what a tape adds."""
    prices = f"{format_bytes(memory['price_bytes'])} of it, + {memory['leaf_bytes']:,} B per 64 ticks in use"
    widest = f"{PRICE_MAX_LIMIT:,} ticks, the most there can be, take {format_bytes(memory['widest_market_bytes'])}"
    return {
        "memory": f"{format_bytes(memory['empty_bytes'])} empty, {format_units(memory)}",
        "price_range": f"{prices}; {widest}",
        "deepest_book": f"{memory['levels_max']:,} levels at once: {format_bytes(memory['book_bytes'])}",
    }
