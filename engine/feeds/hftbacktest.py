"""hftbacktest's event files, version 2: arrays of events with prices as floats (FEED-054).

An event stands in them once for the exchange and once for the local side where the two orders differ; ours is the
local one.
"""

import io
import math
import re
from collections.abc import Iterator, Sequence
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.codes import IN_SNAPSHOT, ROW_CLEAR, ROW_LEVEL, ROW_QUOTE, ROW_TRADE
from engine.errors import DataError
from engine.feeds.arrays import MAGIC, read_rows
from engine.feeds.instruments import Findings, GuessCache, Instrument, Instruments, UnitCache
from engine.feeds.tape import Format, Head, Records, TapeFile
from engine.files import read_header
from engine.layout import RECORD

EXCHANGE = "hftbacktest"  # which the files do not name
NAME = re.compile(r"(?P<symbol>[A-Za-z0-9-]+?)[_.].*")
EVENT = np.dtype(
    [
        ("ev", "<u8"),
        ("exch_ts", "<i8"),
        ("local_ts", "<i8"),
        ("px", "<f8"),
        ("qty", "<f8"),
        ("order_id", "<u8"),
        ("ival", "<i8"),
        ("fval", "<f8"),
    ]
)
EXCHANGE_SIDE, LOCAL_SIDE, BUY, SELL = 1 << 31, 1 << 30, 1 << 29, 1 << 28
KIND_MASK = 0xFF
DEPTH, TRADE, CLEAR, SNAPSHOT, BEST = 1, 2, 3, 4, 5
KINDS = {DEPTH: ROW_LEVEL, TRADE: ROW_TRADE, CLEAR: ROW_CLEAR, SNAPSHOT: ROW_LEVEL, BEST: ROW_QUOTE}
EXACT = Decimal("1e-9")  # how far a float may lie from its tick, as a part of it,
NEAR = Decimal("0.01")  # and as a part of a tick
SURE_MAX = 1e8  # counts up to here are found in floats; their own error is far below both
GUESS_DIGITS = 15  # a double has no more that are certain
KNOWN_MOST = 1 << 17


def sniff(head: Head) -> TapeFile | None:
    """Return what an array file is by the type of its rows."""
    if not head.data.startswith(MAGIC):
        return None
    dtype, _ = read_header(head.path, io.BytesIO(head.data))
    if dtype != EVENT:
        return None
    match = NAME.fullmatch(head.path.name)
    if match is None:
        raise DataError(head.path, None, None, "expected the symbol in the file's name, as in btcusdt_20230405.npz")
    first = next(read_rows(head.path, EVENT, head.member, 1), None)
    if first is None:
        raise DataError(head.path, None, None, "expected at least one event")
    symbol, first_ns = match["symbol"].upper(), int(first["local_ts"][0])
    return TapeFile(head.path, FORMAT, "events", EXCHANGE, symbol, first_ns, 1, (head.member,))


def count_float(value: float, units: UnitCache) -> int:
    """Return a float in units: the nearest one, unless that is further away than a float's error.

    Raises
    ------
    ValueError
        If it is negative, not finite, or off the unit by more than 1e-9 of itself or a hundredth of the unit.
    """
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"expected a number that is not negative, got {value}")
    if isinstance(units, GuessCache):
        return units[format(Decimal(f"{value:.{GUESS_DIGITS}g}"), "f")]
    exact = Decimal(value)
    nearest = (exact / units.unit).to_integral_value(ROUND_HALF_EVEN) * units.unit
    if abs(nearest - exact) > min(EXACT * exact, NEAR * units.unit):
        raise ValueError(f"expected a multiple of {units.unit} within 1e-9 of itself, got {value}")
    return units[format(nearest, "f")]


def count_floats(values: NDArray[np.float64], units: UnitCache) -> tuple[NDArray[np.int64], dict[int, str]]:
    """Return floats in units as `count_float` does, and for those that are refused, by place, what was expected."""
    counts, refused = np.zeros(len(values), np.int64), dict[int, str]()
    unsure = np.arange(len(values))
    if not isinstance(units, GuessCache):
        unit = float(units.unit)
        with np.errstate(all="ignore"):
            nearest = np.rint(values / unit)
            near = np.abs(nearest * unit - values) < np.minimum(0.9 * float(EXACT) * values, 0.9 * float(NEAR) * unit)
            is_sure = near & (nearest >= max(units.least, 1)) & (nearest <= min(units.most, SURE_MAX))
        counts[is_sure] = nearest[is_sure]
        unsure = np.flatnonzero(~is_sure)
    for at in unsure.tolist():
        try:
            counts[at] = count_float(float(values[at]), units)
        except (ValueError, ArithmeticError) as error:
            refused[at] = str(error)
    return counts, refused


def read(files: Sequence[TapeFile], instruments: Instruments, findings: Findings) -> Iterator[Records]:
    """Yield the rows of one symbol's files, which follow each other."""
    instrument = instruments.find(files[0].exchange, files[0].symbol)
    stream = _Stream(instrument, findings) if instrument else None
    for file in files:
        done = 0
        for events in read_rows(file.path, EVENT, file.columns[0]):
            findings.rows[file.kind] += len(events)
            if stream is None:
                findings.counts["unused"] += len(events)
            else:
                yield stream.take(file.path, done, events)
            done += len(events)


class _Stream:
    """One symbol's events."""

    def __init__(self, instrument: Instrument, findings: Findings) -> None:
        self._instrument, self._findings = instrument, findings
        self._known: dict[int, dict[int, int]] = {1: {}, -1: {}}  # side -> price -> total, which may be 0
        self._last_ns = self._cleared_ns = 0
        self._has_levels = False

    def take(self, path: Path, done: int, events: NDArray[Any]) -> Records:
        """Return the rows of events, the first of which is number `done` of the file."""
        is_local = (events["ev"] & LOCAL_SIDE) != 0
        self._findings.counts["exchange_only"] += int(len(events) - is_local.sum())
        places = np.flatnonzero(is_local)
        events = events[places]
        rows = np.zeros(len(events), RECORD)
        code = (events["ev"] & KIND_MASK).astype(np.int64)
        rows["kind"] = [KINDS.get(kind, 0) for kind in code.tolist()]
        rows["flags"] = np.where(code == SNAPSHOT, IN_SNAPSHOT, 0)
        rows["market"] = self._instrument.index
        rows["exchange_ns"] = events["exch_ts"]
        bits = events["ev"] & (BUY | SELL)
        rows["side"] = np.where(bits == BUY, 1, np.where(bits == SELL, -1, 0))
        faults: dict[int, tuple[str, str]] = {}
        for at in np.flatnonzero(rows["kind"] == 0).tolist():
            faults[at] = "ev", f"expected depth, trade, clear, snapshot or best price, got {code[at]}"
        sided = (rows["kind"] == ROW_LEVEL) | (rows["kind"] == ROW_QUOTE)
        for at in np.flatnonzero((rows["side"] == 0) & sided).tolist():
            faults[at] = "ev", "expected a buy or sell flag"
        trades, clears = rows["kind"] == ROW_TRADE, rows["kind"] == ROW_CLEAR
        own = self._instrument
        self._count("px", events["px"], trades, own.prices, rows["price"], faults)
        self._count("px", events["px"], ~trades & ~clears & (rows["kind"] != 0), own.levels, rows["price"], faults)
        self._count("px", events["px"], clears & (events["px"] > 0), own.levels, rows["price"], faults)
        self._count("qty", events["qty"], trades, own.trades, rows["qty"], faults)
        self._count("qty", events["qty"], ~trades & ~clears & (rows["kind"] != 0), own.totals, rows["qty"], faults)
        for at, (field, expected) in sorted(faults.items()):
            self._findings.drop(f"bad {field}", DataError(path, done + int(places[at]) + 1, field, expected))
        self._settle(path, done + places + 1, events["local_ts"], rows)
        kept = np.ones(len(rows), bool)
        kept[list(faults)] = False
        return self._expand_clears(rows[kept])

    def _count(
        self,
        field: str,
        values: NDArray[Any],
        chosen: NDArray[Any],
        units: UnitCache,
        out: NDArray[np.int64],
        faults: dict[int, tuple[str, str]],
    ) -> None:
        """Write the chosen values in units; each different one is looked at once."""
        here = np.flatnonzero(chosen)
        unique, places = np.unique(values[here], return_inverse=True)
        counts, refused = count_floats(unique, units)
        for at, expected in refused.items():
            faults |= {place: (field, expected) for place in here[places == at].tolist()}
        out[here] = counts[places]

    def _settle(self, path: Path, numbers: NDArray[np.int64], stamps: NDArray[np.int64], rows: Records) -> None:
        before = np.maximum.accumulate(np.concatenate([[self._last_ns], stamps]))
        for at in np.flatnonzero(stamps < before[:-1]).tolist():
            expected = f"expected {before[at]} or later, got {stamps[at]}"
            self._findings.report("reversed_local", DataError(path, int(numbers[at]), "local_ts", expected))
        rows["ts_ns"] = before[1:]
        self._last_ns = int(before[-1])

    def _expand_clears(self, rows: Records) -> Records:
        """Return rows with a clear of one side as the levels it takes: all, or the best ones down to its price."""
        parts, start = [], 0
        for at in np.flatnonzero(rows["kind"] == ROW_CLEAR).tolist():
            parts += [self._remember(rows[start:at]), self._clear(rows[at : at + 1])]
            start = at + 1
        parts.append(self._remember(rows[start:]))
        return np.concatenate(parts)

    def _remember(self, rows: Records) -> Records:
        for side, known in self._known.items():
            levels = rows[(rows["kind"] == ROW_LEVEL) & (rows["side"] == side)]
            known.update(zip(levels["price"].tolist(), levels["qty"].tolist(), strict=True))
            self._has_levels |= len(levels) > 0
            if len(known) > KNOWN_MOST:
                self._known[side] = {price: qty for price, qty in known.items() if qty}
        return rows

    def _clear(self, row: Records) -> Records:
        side, price, ts_ns = (int(row[name][0]) for name in ("side", "price", "ts_ns"))
        if self._has_levels and ts_ns != self._cleared_ns:
            self._findings.counts["resets"] += 1
        self._cleared_ns = ts_ns
        if not side:
            self._known = {1: {}, -1: {}}
            told = row.copy()
            told["price"], told["flags"] = 0, IN_SNAPSHOT
            return told
        known = self._known[side]
        gone = [at for at, qty in known.items() if qty and (not price or side * (at - price) >= 0)]
        for at in gone:
            del known[at]
        told = np.repeat(row, len(gone))
        told["kind"], told["price"], told["qty"] = ROW_LEVEL, gone, 0
        return told


FORMAT = Format("hftbacktest", sniff, read)
