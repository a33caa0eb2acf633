"""Reading ahead: a feed's next chunks are made by a thread while the last one is applied (FEED-062)."""

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as Waiting
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from engine.layout import COMMAND

T = TypeVar("T")
Commands = NDArray[np.void]

DEPTH = 2  # chunks that may wait: one being made, one ready
PATIENCE_S = 0.1  # between two looks whether to stop
Stop = Callable[[], bool]


class Feed(Protocol):
    """What every tape offers."""

    symbols: tuple[str, ...]
    counts: dict[str, int]

    def chunks(self, rows: int = 65_536) -> Iterator[Commands]:
        """Yield COMMAND arrays of `rows` records in order of time; every call starts at the beginning."""
        ...


def read_ahead(items: Iterator[T], depth: int = DEPTH, should_stop: Stop | None = None) -> Generator[T, None, None]:
    """Yield the same items, made by a thread that is at most `depth` of them ahead.

    What making them raises is raised here, in its turn.  Who stops early or is interrupted waits for the one item that
    is being made, no more; the thread has ended then, and a generator is closed.

    Parameters
    ----------
    should_stop : callable, optional
        Asked while an item is waited for; when true that ends as Ctrl-C does, with KeyboardInterrupt.

    Source: FEED-062, CLI-003.
    """
    end = object()
    with ThreadPoolExecutor(1, "reader") as pool:
        waiting = deque(pool.submit(next, items, end) for _ in range(depth))
        try:
            while (item := _wait(waiting.popleft(), should_stop)) is not end:
                waiting.append(pool.submit(next, items, end))
                yield item  # type: ignore[misc]
        finally:
            for future in waiting:
                future.cancel()
            if isinstance(items, Generator):
                pool.submit(items.close).result()


def _wait(future: Future[T], should_stop: Stop | None) -> T:
    while should_stop:
        try:
            return future.result(PATIENCE_S)
        except Waiting:
            if future.done():  # then it was the item's own
                raise
            if should_stop():
                raise KeyboardInterrupt from None
    return future.result()


class AheadFeed:
    """A feed that is read ahead; its counts are those of the chunks handed out."""

    def __init__(self, feed: Feed, should_stop: Stop | None = None) -> None:
        self.feed, self._should_stop = feed, should_stop
        self.symbols, self.counts = feed.symbols, feed.counts

    def chunks(self, rows: int = 65_536) -> Iterator[Commands]:
        """Yield the feed's chunks; every call starts at the beginning.

        Source: FEED-062.
        """
        for chunk, counts in read_ahead(self._count_chunks(rows), should_stop=self._should_stop):
            self.counts = counts
            if len(chunk):
                yield chunk

    def _count_chunks(self, rows: int) -> Iterator[tuple[Commands, dict[str, int]]]:
        """Yield chunks with what was counted up to them; the end is a chunk too, an empty one."""
        for chunk in self.feed.chunks(rows):
            yield chunk, dict(self.feed.counts)
        yield np.zeros(0, COMMAND), dict(self.feed.counts)
