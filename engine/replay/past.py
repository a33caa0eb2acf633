"""A run that goes on with the command log of one that was cut off (JRN-009)."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.errors import ConfigError, DataError
from engine.exchange import Exchange
from engine.journal import Journal, Log, cut_tail
from engine.layout import COMMAND

Commands = NDArray[np.void]


class LoggedPast:
    """What a log holds of a run, held against that run while it is made once more; then the log goes on.

    Parameters
    ----------
    folder : path
        Of the log; what stands behind its last sound frame is cut when the past is over (JRN-004).
    exchange : Exchange
        Empty; it writes to the log once it has applied what stands there.

    Raises
    ------
    DataError
        If there is no log, or it is damaged in the middle.
    ConfigError
        If it was begun with other markets.

    Source: JRN-009.
    """

    def __init__(self, folder: Path, exchange: Exchange) -> None:
        self._folder, self._exchange = folder, exchange
        log = Log(folder)
        if log.markets != list(exchange.markets):
            raise ConfigError(f"--resume: {folder}: expected the log of this run, it was begun with other markets")
        self._total = sum(len(frame.rows) for frame in log.frames())
        self._log, self._frames = log, log.frames()
        self._rows, self._done = np.zeros(0, COMMAND), 0
        self._is_at_end = False
        self.is_over()

    def take(self, rows: Commands) -> Commands:
        """Return those commands, from the first on, that the log has next: all, or as many as it has in a row.

        Raises
        ------
        ConfigError
            Naming the first command that is another one in the log.
        """
        part = rows[: len(self._rows)]
        logged = self._rows[: len(part)]
        if part.tobytes() != logged.tobytes():
            at = next(at for at in range(len(part)) if part[at].tobytes() != logged[at].tobytes())
            other = f"command {self._done + at + 1} in it is another"
            raise ConfigError(f"--resume: {self._folder}: expected the log of this run, {other}")
        self._rows, self._done = self._rows[len(part) :], self._done + len(part)
        return part

    def is_over(self) -> bool:
        """Return whether the exchange has applied all there is, digests compared; if so it writes to the log now.

        Raises
        ------
        DataError
            If a digest of the log is not that of the state.
        """
        while not len(self._rows) and not self._is_at_end:
            frame = next(self._frames, None)
            if frame is None:
                self._is_at_end = True
                if self._log.tail.lost_bytes:
                    cut_tail(self._folder, self._log.tail)
                self._exchange.journal = Journal.resume(self._folder, self._total)
            elif frame.digest:
                digest = self._exchange.digest()
                if digest != frame.digest:
                    where = f"after command {frame.first_seq}"
                    raise DataError(self._log.path, None, "digest", f"expected {frame.digest} {where}, got {digest}")
            else:
                self._rows = frame.rows
        return self._is_at_end

    def refuse_rest(self) -> None:
        """Raise ConfigError: the run has ended, and the log has more."""
        raise ConfigError(
            f"--resume: {self._folder}: expected the log of this run, it has {self._total - self._done} commands more"
        )
