"""Ctrl-C as a question that is answered between two chunks (CLI-002)."""

import signal
import sys
from types import FrameType, TracebackType
from typing import Any


class Interrupts:
    """While active, Ctrl-C asks for a stop between two chunks; a second one stops at once."""

    def __init__(self) -> None:
        self.is_asked = False
        self._before: Any = None

    def __enter__(self) -> "Interrupts":
        """Take over the signal; only the main thread can."""
        try:
            self._before = signal.signal(signal.SIGINT, self._ask)
        except ValueError:
            self._before = None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the signal back."""
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.is_asked:
            raise KeyboardInterrupt
        self.is_asked = True
        print("\nperp: stopping after this chunk; once more to stop at once", file=sys.stderr)
