"""Several streams of commands as one, in order of time, without holding more than a block of each."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.layout import COMMAND

Commands = NDArray[np.void]


def build_commands(kind: int, market: int, ts_ns: Any, side: Any, price_tick: Any, qty_lot: Any) -> Commands:
    """Return COMMAND records of one kind and market from columns (or scalars) of equal length."""
    commands = np.zeros(len(ts_ns), dtype=COMMAND)
    commands["kind"], commands["market"], commands["ts_ns"] = kind, market, ts_ns
    commands["side"], commands["price_tick"], commands["qty_lot"] = side, price_tick, qty_lot
    return commands


def hold_last_stamp(blocks: Iterator[Commands]) -> Iterator[Commands]:
    """Yield the same commands in blocks none of which ends in the middle of a stamp."""
    held: Commands | None = None
    for block in blocks:
        if not len(block):
            continue
        joined = block if held is None else np.concatenate([held, block])
        cut = int(np.searchsorted(joined["ts_ns"], joined["ts_ns"][-1], side="left"))
        if cut:
            yield joined[:cut]
        held = joined[cut:]
    if held is not None:
        yield held


def merge_streams(streams: Sequence[Iterator[Commands]]) -> Iterator[Commands]:
    """Yield the commands of all streams in order of time; at equal stamps earlier streams go first (FEED-001).

    Each stream must come in order of time, in blocks that hold whole stamps (`hold_last_stamp`).
    """
    heads = [next(stream, None) for stream in streams]
    while any(head is not None for head in heads):
        # Up to the earliest end of the blocks in hand nothing is missing from any stream.
        bound = min(head["ts_ns"][-1] for head in heads if head is not None)
        parts = []
        for index, head in enumerate(heads):
            if head is None:
                continue
            cut = int(np.searchsorted(head["ts_ns"], bound, side="right"))
            parts.append(head[:cut])
            heads[index] = head[cut:] if cut < len(head) else next(streams[index], None)
        merged = np.concatenate(parts)
        yield merged[np.argsort(merged["ts_ns"], kind="stable")]


def cut_chunks(blocks: Iterator[Commands], rows: int) -> Iterator[Commands]:
    """Yield the same commands in arrays of exactly `rows`, the last one shorter."""
    waiting: list[Commands] = []
    count = 0
    for block in blocks:
        waiting.append(block)
        count += len(block)
        if count >= rows:
            joined = np.concatenate(waiting)
            whole = count - count % rows
            for start in range(0, whole, rows):
                yield joined[start : start + rows].copy()
            waiting, count = [joined[whole:]], count - whole
    if count:
        yield np.concatenate(waiting)
