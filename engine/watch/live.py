"""The pace of a watched run, and the terminal it is drawn on (WATCH-001, WATCH-003)."""

import os
import time
from collections import deque
from collections.abc import Callable, Mapping
from fractions import Fraction
from types import TracebackType
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from engine.errors import ConfigError, MissingExtraError, list_known
from engine.exchange import Exchange
from engine.replay.tally import Tally
from engine.report import Writer
from engine.watch.frame import CLOSES_MOST, Close, Frame, list_closes, read_frame

FRAME_S = 0.1  # between two frames
SHARE = 4  # frames take at most this part of the time: a fourth
NS = 1_000_000_000
# What shows a frame at once where the terminal knows these (others pass them over): synchronized output.
BEGIN, HOME, END = "\x1b[?2026h", "\x1b[H", "\x1b[?2026l"


def open_console(file: TextIO) -> Any:
    """Return rich's console on a terminal.

    Raises
    ------
    ConfigError
        If it is none, or one that cannot move its cursor.
    MissingExtraError
        If rich is not installed.

    Source: WATCH-003, CLI-002.
    """
    try:
        from rich.console import Console
    except ImportError as error:
        raise MissingExtraError("--watch needs `pip install 'perp-engine[tui]'`") from error
    other = "leave --watch out, or take --progress for one line"
    if not file.isatty():
        raise ConfigError(f"--watch: expected a terminal on stderr, found none: {other}")
    console = Console(file=file)
    if console.is_dumb_terminal:
        raise ConfigError(f"--watch: TERM={os.environ.get('TERM')} cannot move its cursor: {other}, or set TERM")
    return console


class Watch:
    """Looks at a run between its pieces and draws it; a `Watcher` of `engine.replay`.

    Parameters
    ----------
    console : rich.console.Console
        Of a terminal.
    title : str
        What runs.
    speed : Fraction, optional
        Seconds of the tape per second; without it as fast as it goes.
    symbol : str, optional
        The market whose book and queue are shown; the first if not given.
    clock, sleep : callable
        Of a test.

    Source: WATCH-001, WATCH-003, WATCH-004.
    """

    def __init__(
        self,
        console: Any,
        title: str,
        *,
        speed: Fraction | None = None,
        symbol: str | None = None,
        clock: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.console, self.title, self.speed, self.symbol = console, title, speed, symbol
        self._clock, self._sleep = clock, sleep
        self.frame: Frame | None = None
        self.frames = 0  # drawn
        self._closes: deque[Close] = deque(maxlen=CLOSES_MOST)
        self._names: Mapping[int, str] = {}
        self._screen: Any = None
        self._market = self._commands = self._ts_ns = 0
        self._looked_s = 0.0
        self._next_s = 0.0

    def __enter__(self) -> "Watch":
        """Return the watch; the terminal is taken over when the run begins."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the terminal back as it was."""
        if self._screen is not None:
            self._screen.__exit__(None, None, None)
            self._screen = None

    # ------------------------------------------------------------ a run

    def begin(
        self,
        exchange: Exchange,
        tally: Tally,
        first_ns: int,
        names: Mapping[int, str],
        should_stop: Callable[[], bool] | None,
    ) -> None:
        """Take over the terminal, before the first command.

        Raises
        ------
        ConfigError
            If the market to look at is not one of the run's.
        """
        symbols = exchange.symbol_index()
        if self.symbol is not None and self.symbol not in symbols:
            raise ConfigError(f"--watch-market: unknown '{self.symbol}', {list_known(self.symbol, symbols)}")
        self._market = 0 if self.symbol is None else symbols[self.symbol]
        self._exchange, self._tally, self._names = exchange, tally, names
        self._should_stop = should_stop or (lambda: False)
        self.write = describe_units(exchange, first_ns)
        self._first_ns = self._ts_ns = self._due_ns = first_ns
        self._started_s = self._next_s = self._clock()
        self._screen = self.console.screen(hide_cursor=True)
        self._screen.__enter__()

    def find_cut(self, ts_ns: NDArray[np.int64]) -> int:
        """Return how many of the commands (at least one) with these times come before the next look.

        Waits until the first of them is due.
        """
        if self.speed is None:
            return len(ts_ns)
        while int(ts_ns[0]) > self._tell_due() and not self._should_stop():
            self._ts_ns, self._looked_s = self._due_ns, self._clock()
            self._draw_due()
            self._sleep(min(FRAME_S, max(self._next_s - self._clock(), 0.001)))
        return max(int(np.searchsorted(ts_ns, self._due_ns, "right")), 1)

    def _tell_due(self) -> int:
        """Return up to where on the tape the run may be by now."""
        assert self.speed is not None
        self._due_ns = self._first_ns + int((self._clock() - self._started_s) * float(self.speed) * NS)
        return self._due_ns

    def look(self, commands: int, ts_ns: int, events: NDArray[np.void]) -> None:
        """Take note of a piece: the commands so far, the last one's time, its events; draw if a frame is due."""
        self._commands, self._ts_ns, self._looked_s = commands, ts_ns, self._clock()
        self._closes.extend(list_closes(events))
        self._draw_due()

    def _draw_due(self) -> None:
        begun = self._clock()
        if begun < self._next_s:
            return
        self._read()
        self._draw()
        took = self._clock() - begun
        self._next_s = begun + max(FRAME_S, SHARE * took)

    def _read(self) -> None:
        self.frame = read_frame(
            self._exchange,
            self._tally,
            market=self._market,
            ts_ns=self._ts_ns,
            commands=self._commands,
            closes=tuple(self._closes),
        )

    def _compose(self, footer: str = "") -> Any:
        from engine.watch.screen import compose_screen

        assert self.frame is not None
        seconds = max(self._looked_s - self._started_s, 1e-9)
        speed = (self._ts_ns - self._first_ns) / NS / seconds
        return compose_screen(
            self.frame,
            self.write,
            title=self.title,
            speed=speed,
            names=self._names,
            footer=footer,
            console=self.console,
        )

    def _draw(self) -> None:
        """Draw a whole frame with one write."""
        from rich.screen import Screen

        with self.console.capture() as captured:
            self.console.print(Screen(self._compose("Ctrl-C stops; what is done is kept")), end="")
        self.console.file.write(BEGIN + HOME + captured.get() + END)
        self.console.file.flush()
        self.frames += 1

    def finish(self, verdict: str) -> None:
        """Leave the last frame, with the verdict, where the terminal keeps it."""
        self.__exit__(None, None, None)
        self._read()
        self.console.print(self._compose(verdict), height=max(self.console.height - 1, 1))


def describe_units(exchange: Exchange, first_ns: int) -> Writer:
    """Return what writes the integers of an exchange as texts."""
    setup = exchange.setup
    markets = [
        {"symbol": market.symbol, "tick_size": format(market.tick_size, "f"), "lot_size": format(market.lot_size, "f")}
        for market in exchange.markets
    ]
    asset = {"name": setup.assets[0], "unit": format(setup.asset_units[0], "f")}
    return Writer({"assets": [asset], "first_ns": first_ns, "markets": markets})
