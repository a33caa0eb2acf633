"""What every reader of recorded Binance depth needs: updates that follow each other, snapshots, files side by side."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import heappop, heappush, heapreplace
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

from engine.codes import IN_SNAPSHOT, ROW_CLEAR, UNCHECKED
from engine.errors import DataError
from engine.feeds.block import STAMP_MAX
from engine.feeds.instruments import Findings
from engine.feeds.tape import RowBuilder, TapeFile

RECENT_MAX = 1024  # updates that are kept for a snapshot older than they are
SECONDS_DIGITS = 10
# Digits of a stamp of our days -> ns per unit.
STAMP_UNITS = {SECONDS_DIGITS: 1_000_000_000, 13: 1_000_000, 16: 1_000, 19: 1}

Level = tuple[int, int, int]  # side, price, quantity


class Stamped(Protocol):
    """A message of a file."""

    @property
    def ts_ns(self) -> int:
        """When it arrived."""
        ...


Message = TypeVar("Message", bound=Stamped)


def count_ns(text: str) -> int:
    """Return a stamp in s, ms, us or ns since the epoch (as its 10, 13, 16 or 19 digits say, s with a fraction) in ns.

    Raises
    ------
    ValueError
        If it is none.
    """
    per_unit = STAMP_UNITS.get(len(text), 0)
    if per_unit and text.isascii() and text.isdigit() and int(text) * per_unit <= STAMP_MAX:
        return int(text) * per_unit
    whole, _, fraction = text.partition(".")
    digits = whole + fraction
    if len(whole) == SECONDS_DIGITS and digits.isascii() and digits.isdigit():
        return int(whole) * STAMP_UNITS[SECONDS_DIGITS] + int(fraction.ljust(9, "0")[:9])
    raise ValueError(f"expected s, ms, us or ns since 1970, got {text!r}")


def count_id(text: str) -> int:
    """Return an id of trades or updates.

    Raises
    ------
    ValueError
        If it is no whole number of at most 18 digits.
    """
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise ValueError(f"expected an id, got {text!r}")
    return int(text)


def merge_by_time(
    files: Sequence[TapeFile], read: Callable[[TapeFile], Iterator[Message]]
) -> Iterator[tuple[TapeFile, Message]]:
    """Yield the messages of files in order of arrival; a file is opened when its first stamp is reached.

    Files that follow each other are read one by one; those that lie beside each other (snapshots fetched by another
    process) are merged, at equal stamps in the order of `files`.
    """
    waiting = deque(enumerate(files))
    heap: list[tuple[int, int, Message, Iterator[Message]]] = []
    while waiting or heap:
        while waiting and (not heap or waiting[0][1].first_ns <= heap[0][0]):
            at, file = waiting.popleft()
            stream = read(file)
            for message in stream:
                heappush(heap, (message.ts_ns, at, message, stream))
                break
        if not heap:
            return
        ts_ns, at, message, stream = heap[0]
        yield files[at], message
        following = next(stream, None)
        if following is None:
            heappop(heap)
        else:
            # a stamp that falls keeps its place in its file; whoever takes the message reports it
            heapreplace(heap, (max(ts_ns, following.ts_ns), at, following, stream))


class Update(NamedTuple):
    """One depth update: the ids it spans, and the id of the one before it."""

    first: int  # U
    last: int  # u
    previous: int  # pu; spot does not say it, and counts on from one to the next: U - 1
    field: str  # that `previous` was read from
    lines: str  # where it stands, for messages
    levels: Sequence[Level]

    @classmethod
    def build(
        cls,
        ids: tuple[int, int, int | None],
        levels: Sequence[Level],
        lines: str,
        fields: tuple[str, str] = ("U", "pu"),
    ) -> "Update":
        """Return an update of ids (U, u, pu or None); `fields` are the names of U and pu in the file."""
        first, last, previous = ids
        if previous is None:
            return cls(first, last, first - 1, fields[0], lines, levels)
        return cls(first, last, previous, fields[1], lines, levels)


class DepthBook:
    """The book of one market as its updates and snapshots tell it (FEED-020, FEED-021).

    Updates must follow each other; a snapshot fetched beside them stands for all updates up to its id, and the first
    update after it must reach back to it.  Updates that arrived before their snapshot but are newer are told again
    after it; the last RECENT_MAX are kept for that.

    Parameters
    ----------
    market : int
        The instrument's index.
    """

    def __init__(self, market: int, rows: RowBuilder, findings: Findings) -> None:
        self.market = market
        self._rows, self._findings = rows, findings
        self._recent: deque[Update] = deque(maxlen=RECENT_MAX)
        self._last, self._lines = 0, ""
        self._is_whole = False  # a snapshot was seen
        self._is_fetched = False  # ... and no update since

    def tell_update(self, update: Update, path: Path, line: int, ts_ns: int, exchange_ns: int) -> None:
        """Add the rows of an update that arrived."""
        if self._last and update.last <= self._last:
            if self._is_fetched:
                self._findings.counts["superseded"] += 1  # the snapshot holds it already
                return
            expected = f"expected an update after {self._last} ({self._lines}), got {update.last}"
            self._findings.drop("old update", DataError(path, line, "u", expected))
            return
        if self._last:
            self._check(update, path, line)
        if not self._is_whole:
            self._findings.counts["before_snapshot"] += 1
        self._last, self._lines, self._is_fetched = update.last, update.lines, False
        self._recent.append(update)
        flags = 0 if self._is_whole else UNCHECKED
        self._rows.add_levels(self.market, ts_ns, exchange_ns, update.levels, update.last, flags)
        self._rows.end_message()

    def tell_snapshot(
        self, last: int, levels: Iterable[Level], lines: str, path: Path, line: int, ts_ns: int, exchange_ns: int
    ) -> None:
        """Add the rows of a whole book as it was after the update `last`."""
        self._findings.counts["resets"] += self._is_whole
        self._is_whole, self._is_fetched = True, True
        self._last, self._lines = last, lines
        flags = IN_SNAPSHOT | UNCHECKED
        self._rows.add(ROW_CLEAR, self.market, ts_ns, exchange_ns, number=last, flags=flags)
        self._rows.add_levels(self.market, ts_ns, exchange_ns, levels, last, flags)
        for update in self._recent:
            if update.last > last:
                if self._is_fetched:
                    self._check(update, path, line)
                self._last, self._lines, self._is_fetched = update.last, update.lines, False
                self._rows.add_levels(self.market, ts_ns, exchange_ns, update.levels, update.last, UNCHECKED)
        self._rows.end_message()

    def _check(self, update: Update, path: Path, line: int) -> None:
        follows = update.previous <= self._last if self._is_fetched else update.previous == self._last
        if not follows:
            at = "the snapshot in" if self._is_fetched else "the update in"
            expected = (
                f"expected what follows id {self._last} of {at} {self._lines}, "
                f"got the update after {update.previous} ({update.lines})"
            )
            self._findings.report("gaps", DataError(path, line, update.field, expected))
