"""Where a market is forked: before a command that is named by an event, a number or a time (TWIN-006)."""

from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.codes import EVENT_NAMES
from engine.errors import ConfigError
from engine.scenario.shock import parse_duration

Rows = NDArray[np.void]
KINDS = {name: kind for kind, name in EVENT_NAMES.items()}
EXPECTED = (
    "expected start, an event (adl_started, liquidation_started), seq N, or time T (30s, 2025-03-03T07:59:50Z, ns)"
)


class Fork(NamedTuple):
    """A place in a market: before its first command, or before the first that `kind` and `number` name.

    `kind` is start, event (`number`: its kind), seq, time (ns) or after (ns since the first command).
    """

    kind: str = "start"
    number: int = 0
    text: str = "start"

    def find_row(self, rows: Rows, first_seq: int, first_ns: int) -> int | None:
        """Return before which of these commands, the first of them number `first_seq`, the place is; None: none."""
        if self.kind == "start":
            return 0
        if self.kind == "seq":
            return max(self.number - first_seq, 0) if self.number < first_seq + len(rows) else None
        if self.kind == "event":
            return None
        at = int(np.searchsorted(rows["ts_ns"], self.find_time(first_ns), "left"))
        return at if at < len(rows) else None

    def find_time(self, first_ns: int) -> int:
        """Return the time of the place, ns."""
        return self.number + (first_ns if self.kind == "after" else 0)

    def find_seq(self, events: Rows) -> int | None:
        """Return the number of the command that caused the event, if it is among these."""
        if self.kind != "event":
            return None
        (at,) = np.nonzero(events["kind"] == self.number)
        return int(events["seq"][at[0]]) if len(at) else None


def parse_fork(words: list[str]) -> Fork:
    """Return where to fork from its words.

    Raises
    ------
    ConfigError
        If they name no place.

    Source: TWIN-006.
    """
    text = " ".join(words)
    match words:
        case ["start"]:
            return Fork()
        case [name] if name in KINDS:
            return Fork("event", KINDS[name], text)
        case ["seq", number] if number.isdecimal() and int(number) > 0:
            return Fork("seq", int(number), text)
        case ["time", time]:
            return _parse_time(time, text)
    raise ConfigError(f"--fork-at {text}: {EXPECTED}")


def _parse_time(time: str, text: str) -> Fork:
    try:
        if time.isdecimal() and len(time) > 12:
            return Fork("time", int(time), text)
        if "T" in time:
            stamp = datetime.fromisoformat(time)
            whole = stamp.replace(tzinfo=stamp.tzinfo or UTC)
            return Fork("time", int(whole.replace(microsecond=0).timestamp()) * 10**9 + whole.microsecond * 1000, text)
        return Fork("after", parse_duration(time), text)
    except ValueError as error:
        raise ConfigError(f"--fork-at {text}: {error}; {EXPECTED}") from error
