"""What a recording holds and what is wrong with it, counted (FEED-011)."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from engine.codes import ROW_LAST, ROW_LEVEL, ROW_LIQUIDATION, ROW_MARK, ROW_QUOTE, ROW_TRADE
from engine.contract import Market
from engine.errors import DataError
from engine.feeds import CommandTape, open_feed
from engine.feeds.instruments import GUESS, GUESSED_DECIMALS, Decimals, Instruments, RescaleError
from engine.feeds.tape import COUNTS, Records, Tape
from engine.memory import BookMeter
from engine.table import Table, Tabular, tabulate_rows

# Rows of one message are told together; what is counted per message is counted at its first row.
_GROUPS = np.zeros(32, np.int64)
_GROUPS[ROW_LEVEL + 1] = ROW_LEVEL  # CLEAR and LEVEL
_GROUPS[ROW_LEVEL], _GROUPS[ROW_TRADE] = ROW_LEVEL, ROW_TRADE
_GROUPS[ROW_QUOTE], _GROUPS[ROW_LIQUIDATION] = ROW_QUOTE, ROW_LIQUIDATION
_GROUPS[ROW_MARK : ROW_LAST + 4] = ROW_MARK  # whatever a ticker tells
RESCALES_MAX = 256  # times a recording without markets is read anew because an instrument needs other units
_ORDER = 12  # whatever tells of single orders
_GROUPS[_ORDER:16] = _ORDER


class Inspection(dict[str, Any], Tabular):
    """What `perp inspect --json` tells (formats.md); as a table a row per instrument.

    Source: LOG-006.
    """

    def to_table(self) -> Table:
        """Return what was counted of each instrument."""
        return tabulate_rows(self["instruments"])


class StampCheck:
    """Stamps of the messages of a tape, in order of arrival.

    Attributes
    ----------
    duplicates : int
        Messages with the venue's stamp of the one before it in the same stream of the same instrument.
    reversed : int
        Messages whose venue's stamp lies before the latest of the messages before it, of whatever stream of the
        same exchange (FEED-024).
    negative : int
        Messages that arrived, by the recorder's clock, before the venue says it sent them.
    """

    def __init__(self, instruments: Instruments) -> None:
        self._instruments = instruments
        self.duplicates = self.reversed = self.negative = self.messages = 0
        self.first_ns = self.last_ns = 0
        self._last: dict[tuple[int, int], int] = {}
        self._before = np.zeros(4, np.int64)  # group, market, ts_ns, exchange_ns of the last row
        self._latest: dict[str, int] = {}  # exchange -> its latest stamp

    def add(self, rows: Records) -> None:
        """Count the messages of rows."""
        if not len(rows):
            return
        self.first_ns = self.first_ns or int(rows["ts_ns"][0])
        self.last_ns = int(rows["ts_ns"][-1])
        group = _GROUPS[rows["kind"]]
        keys = np.stack([group, rows["market"].astype(np.int64), rows["ts_ns"], rows["exchange_ns"]])
        before = np.concatenate([self._before[:, None], keys[:, :-1]], axis=1)
        self._before = keys[:, -1].copy()
        heads = np.flatnonzero(np.any(keys != before, axis=0) | (group == ROW_TRADE) | (group == _ORDER))
        self.messages += len(heads)
        stamped = heads[rows["exchange_ns"][heads] != 0]
        if not len(stamped):
            return
        stamps = rows["exchange_ns"][stamped]
        self.negative += int((rows["ts_ns"][stamped] < stamps).sum())
        exchanges = np.array([row.exchange for row in self._instruments])[rows["market"][stamped]]
        for exchange in np.unique(exchanges).tolist():
            own = stamps[exchanges == exchange]
            latest = np.maximum.accumulate(np.concatenate([[self._latest.get(exchange, 0)], own]))
            self.reversed += int((own < latest[:-1]).sum())
            self._latest[exchange] = int(latest[-1])
        streams = group[stamped] * (1 << 16) + rows["market"][stamped]
        for stream in np.unique(streams).tolist():
            own = stamps[streams == stream]
            key = divmod(stream, 1 << 16)
            self.duplicates += int((np.diff(own) == 0).sum()) + (self._last.get(key) == int(own[0]))
            self._last[key] = int(own[-1])


def inspect_tape(
    paths: str | Path | Sequence[str | Path],
    markets: Sequence[Market] = (),
    *,
    is_strict: bool = False,
    meter: BookMeter | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Inspection:
    """Read a recording to its end and return what it holds and what is wrong with it.

    Parameters
    ----------
    markets : sequence of Market
        Empty: every instrument there is, in units of our own.
    is_strict : bool
        Whether the first fault is raised: a row that cannot be read, a gap, a stamp of arrival that falls, a book whose
        best bid reaches its best ask (FEED-012).
    meter : BookMeter, optional
        Follows the books; with markets only, since without them a tape may be read again in other units.
    should_stop : callable, optional
        Asked after every block of rows; when true it ends there, with `interrupted`.

    Returns
    -------
    Inspection
        A dict with the keys of `perp inspect --json` (formats.md).

    Raises
    ------
    DataError
        If the files cannot be read, or in strict mode at the first fault.
    """
    decimals: Decimals = {}
    while True:
        tape = open_feed(paths, markets, is_strict=is_strict, decimals=decimals)
        try:
            return _inspect(tape, is_strict, meter, should_stop)
        except RescaleError as error:
            rescale(decimals, error, tape.files[0].path)


def rescale(decimals: Decimals, error: RescaleError, path: Path | None = None) -> None:
    """Note the units an instrument turned out to need; finer ones become the guess for all that need none so far.

    Raises
    ------
    DataError
        If a recording is read anew too often for it.

    Source: FEED-071.
    """
    found = list(decimals.get(error.name, (None, None)))
    found[error.place] = error.decimals
    decimals[error.name] = found
    guess = list(decimals.get(GUESS, (GUESSED_DECIMALS, GUESSED_DECIMALS)))
    guess[error.place] = max(guess[error.place] or 0, error.decimals)
    decimals[GUESS] = guess
    # each reading made one of these numbers or made it larger
    known = [places for name, pair in decimals.items() if name != GUESS for places in pair if places is not None]
    changes = sum(known) + len(known)
    if changes > RESCALES_MAX:
        expected = f"expected units that {RESCALES_MAX} readings find out: name the markets"
        raise DataError(path, None, ("price", "amount")[error.place], f"{':'.join(error.name)}: {expected}")


def _refuse_crossed(tape: Tape | CommandTape, ts_ns: int) -> None:
    crossed = np.flatnonzero(tape.teller.counts[:, COUNTS.index("crossed")])
    if len(crossed):
        symbol = tape.instruments.rows[int(crossed[0])].symbol
        raise DataError(tape.files[0].path, None, None, f"expected no crossed book, {symbol} is by {ts_ns} ns")


def _inspect(
    tape: Tape | CommandTape, is_strict: bool, meter: BookMeter | None, should_stop: Callable[[], bool] | None
) -> Inspection:
    blocks = tape.records()
    check = StampCheck(tape.instruments)
    commands, interrupted = 0, False
    for rows in blocks:
        check.add(rows)
        told = tape.teller.tell(rows)
        commands += len(told)
        if meter is not None:
            meter.add(told)
        if is_strict:
            _refuse_crossed(tape, check.last_ns)
        interrupted = bool(should_stop and should_stop())
        if interrupted:
            break
    commands += len(tape.teller.finish())
    if is_strict:
        _refuse_crossed(tape, check.last_ns)
    counts = dict(zip(COUNTS, tape.teller.counts.sum(axis=0).tolist(), strict=True))
    findings = tape.findings
    instruments = [
        {"exchange": row.exchange, "symbol": row.symbol, **dict(zip(COUNTS, counted, strict=True))}
        for row, counted in zip(tape.instruments, tape.teller.counts.tolist(), strict=True)
    ]
    extra = {name: count for name, count in sorted(findings.counts.items()) if name not in ("gaps", "resets")}
    facts = {
        "interrupted": interrupted,
        "rows": findings.rows.total(),
        "first_ns": check.first_ns,
        "last_ns": check.last_ns,
        "symbols": [row["symbol"] for row in instruments],
        "streams": dict(sorted(findings.rows.items())),
        "messages": check.messages,
        "commands": commands,
        "gaps": findings.counts["gaps"],
        "resets": findings.counts["resets"],
        "crossed": counts["crossed"],
        "bbo_checked": counts["bbo_checked"],
        "bbo_equal": counts["bbo_equal"],
        "duplicate_stamps": check.duplicates,
        "reversed_stamps": check.reversed,
        "negative_latency": check.negative,
        "off_book_prints": counts["off_book"],
        "dropped": findings.dropped.total(),
        "dropped_by": dict(sorted(findings.dropped.items())),
        **extra,
        "instruments": instruments,
        "faults": [{"kind": fault.kind, "error": str(fault.error)} for fault in findings.faults],
        "files": [
            {
                "file": str(file.path),
                "format": file.format.name,
                "kind": file.kind,
                "exchange": file.exchange,
                "symbol": file.symbol,
            }
            for file in tape.files
        ],
        "skipped": [{"file": str(path), "reason": reason} for path, reason in tape.skipped],
    }
    return Inspection(facts)
