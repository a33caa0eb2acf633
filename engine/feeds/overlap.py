"""No recording beside another of the same: what two streams tell of one instrument at one time (FEED-076)."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from engine.codes import (
    ROW_CLEAR,
    ROW_FUNDING,
    ROW_INDEX,
    ROW_LEVEL,
    ROW_LIQUIDATION,
    ROW_MARK,
    ROW_NAMES,
    ROW_QUOTE,
    ROW_TRADE,
)
from engine.errors import DataError
from engine.feeds.instruments import Instruments

Records = NDArray[np.void]

# What would count twice; last prices, open interest and predicted rates move nothing, orders come beside their levels.
NAMES = ("", "trades", "book levels", "best prices", "liquidations", "marks", "index prices", "funding")
_GROUPS = np.zeros(max(ROW_NAMES) + 1, np.int64)
_GROUPS[[ROW_TRADE, ROW_LEVEL, ROW_CLEAR, ROW_QUOTE, ROW_LIQUIDATION]] = 1, 2, 2, 3, 4
_GROUPS[[ROW_MARK, ROW_INDEX, ROW_FUNDING]] = 5, 6, 7
# Captures of Binance: a snapshot that was fetched stands in a file beside the updates (FEED-021).
SIDE_BY_SIDE = ("raw", "raw_spot")


class Source(Protocol):
    """What is asked of a TapeFile."""

    @property
    def path(self) -> Path:
        """Where it is."""

    @property
    def kind(self) -> str:
        """What it holds."""

    @property
    def first_ns(self) -> int:
        """When it begins."""


class Span:
    """From when to when a file tells one thing of one instrument."""

    __slots__ = ("file", "first_ns", "last_ns")

    def __init__(self, file: Source, first_ns: int) -> None:
        self.file, self.first_ns, self.last_ns = file, first_ns, first_ns


class OverlapWatch:
    """Follows the streams of a tape and refuses a thing that two of them tell at the same time.

    Recordings that follow each other in time may be of any formats.

    Parameters
    ----------
    instruments : Instruments
        Of the tape.

    Source: FEED-076.
    """

    def __init__(self, instruments: Instruments) -> None:
        self._instruments = instruments
        self._spans: dict[int, dict[int, list[Span]]] = {}  # instrument and thing -> stream -> spans, in order of time
        self._streams = 0

    def follow(self, files: Sequence[Source], blocks: Iterator[Records]) -> Iterator[Records]:
        """Return the same blocks, of files that follow each other in one stream.

        Raises
        ------
        DataError
            When a row is drawn whose like another stream tells at its time; names both files.
        """
        self._streams += 1
        return self._follow(self._streams, files, blocks)

    def _follow(self, stream: int, files: Sequence[Source], blocks: Iterator[Records]) -> Iterator[Records]:
        starts = [file.first_ns for file in files]
        for block in blocks:
            at = 0
            while at < len(block):
                place = max(bisect_right(starts, int(block["ts_ns"][at])) - 1, 0)
                end = len(block)
                if place + 1 < len(files) and block["ts_ns"][-1] >= starts[place + 1]:
                    end = int(np.searchsorted(block["ts_ns"], starts[place + 1]))
                self._note_rows(stream, files[place], block[at:end])
                at = end
            yield block

    def _note_rows(self, stream: int, file: Source, rows: Records) -> None:
        markets, kinds, stamps = rows["market"], rows["kind"], rows["ts_ns"]
        if (kinds == kinds[0]).all() and (markets == markets[0]).all():
            key = int(markets[0]) * len(NAMES) + int(_GROUPS[kinds[0]])
            self._note(stream, file, key, int(stamps[0]), int(stamps[-1]))
            return
        keys = markets.astype(np.int64) * len(NAMES) + _GROUPS[kinds]
        # of equal places the last one that is written stays
        places, first, last = np.arange(len(keys)), *np.full((2, int(keys.max()) + 1), -1)
        last[keys], first[keys[::-1]] = places, places[::-1]
        for key in np.flatnonzero(last >= 0).tolist():
            self._note(stream, file, key, int(stamps[first[key]]), int(stamps[last[key]]))

    def _note(self, stream: int, file: Source, key: int, first_ns: int, last_ns: int) -> None:
        if key % len(NAMES) == 0:
            return
        streams = self._spans.setdefault(key, {})
        spans = streams.setdefault(stream, [])
        if not spans or spans[-1].file is not file:
            spans.append(Span(file, first_ns))
        span = spans[-1]
        span.last_ns = last_ns
        if len(streams) == 1:
            return
        for other in (other for number, told in streams.items() if number != stream for other in told):
            if other.first_ns <= span.last_ns and span.first_ns <= other.last_ns and not _are_beside(file, other.file):
                raise self._explain(span, other, key)

    def _explain(self, span: Span, other: Span, key: int) -> DataError:
        market, group = divmod(key, len(NAMES))
        instrument, since_ns = self._instruments.rows[market], max(span.first_ns, other.first_ns)
        what = f"{NAMES[group]} of {instrument.exchange}:{instrument.symbol}"
        expected = f"expected {what} once, {other.file.path} has them too, at {since_ns} ns; name one of the two"
        return DataError(span.file.path, None, None, expected)


def _are_beside(one: Source, two: Source) -> bool:
    return one.kind == two.kind and one.kind in SIDE_BY_SIDE
