"""A tape of any format as Tardis CSV, Parquet or commands (FEED-065..FEED-069)."""

import json
import re
import sys
import zipfile
from collections import Counter
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.codes import (
    ROW_INDEX,
    ROW_INTEREST,
    ROW_LAST,
    ROW_LIQUIDATION,
    ROW_MARK,
    ROW_NAMES,
    ROW_PREDICTED,
    ROW_QUOTE,
)
from engine.contract import Market
from engine.errors import ConfigError, DataError, list_known
from engine.feeds import CommandTape, open_feed
from engine.feeds.inspect import rescale
from engine.feeds.instruments import Decimals, Instruments, RescaleError
from engine.feeds.merge import hold_last_stamp
from engine.feeds.parquet import BLOCK_ROWS, FILE_FORMAT, META, NUMBERED, TYPES, Meta, build_frame
from engine.feeds.tape import COUNTS, Records, Tape
from engine.feeds.tardis import NAME
from engine.feeds.tardis_writer import LOSSES as TARDIS_LOSSES
from engine.feeds.tardis_writer import TardisWriter
from engine.files import ParquetParts, Workplace, require_polars, write_array, write_rows
from engine.layout import COMMAND

TARGETS = ("tardis", "parquet", "npz")
TAPE_FORMAT = 1
PARQUET_NAME = re.compile(rf"(?:{'|'.join(TYPES)})\.parquet")
NPZ_LOSSES = {
    "quotes": "quotes: a command tape has none",
    "liquidations": "liquidations the venue told of: they are a consequence, never a command",
    "ticker": "last prices, predicted rates, open interest: no command",
    "orders": "rows of single orders: the levels they make are there",
    "fields": "rows with ids or stamps of the venue, which commands do not have",
    "rounded": "mark and index prices finer than a tick: rounded half-even (FEED-005)",
    "beyond": "levels above the market's price_max: left out",
}


class Writer(Protocol):
    """What takes the rows of a tape and makes files of them."""

    losses: Counter[str]

    def add(self, rows: Records) -> None:
        """Take more rows, in order of time."""
        ...

    def finish(self) -> list[tuple[str, int]]:
        """Write what is left and return the files' names and rows."""
        ...


class ParquetWriter:
    """A folder of Parquet files, one per type, which hold everything (FEED-067)."""

    def __init__(self, folder: Path, instruments: Instruments) -> None:
        self.losses: Counter[str] = Counter()
        self._polars = require_polars("--to parquet")
        self._folder, self._instruments = folder, instruments
        self._waiting: dict[str, list[NDArray[np.void]]] = {}
        self._parts: dict[str, ParquetParts] = {}
        self._rows: Counter[str] = Counter()
        self._present: dict[str, set[int]] = {}
        self._first_ns: dict[str, int] = {}
        self._count = 0
        self._hash = blake2b(digest_size=16)

    def add(self, rows: Records) -> None:
        """Take more rows."""
        self._hash.update(rows.tobytes())
        numbered = np.zeros(len(rows), NUMBERED)
        numbered["record"], numbered["row"] = rows, self._count + np.arange(len(rows))
        self._count += len(rows)
        for type_, kinds in TYPES.items():
            chosen = numbered[np.isin(rows["kind"], kinds)]
            if not len(chosen):
                continue
            self._first_ns.setdefault(type_, int(chosen["record"]["ts_ns"][0]))
            self._present.setdefault(type_, set()).update(np.unique(chosen["record"]["market"]).tolist())
            waiting = self._waiting.setdefault(type_, [])
            waiting.append(chosen)
            if sum(map(len, waiting)) >= BLOCK_ROWS:
                self._flush(type_, BLOCK_ROWS)

    def _flush(self, type_: str, least: int) -> None:
        # Parts are cut by length, so that equal rows make equal bytes.
        rows = np.concatenate(self._waiting[type_])
        while len(rows) >= least:
            part, rows = rows[:BLOCK_ROWS], rows[BLOCK_ROWS:]
            self._rows[type_] += len(part)
            if type_ not in self._parts:
                self._parts[type_] = ParquetParts(self._folder / f"{type_}.parts")
            self._parts[type_].add(build_frame(self._polars, type_, part, self._instruments.rows))
        self._waiting[type_] = [rows]

    def finish(self) -> list[tuple[str, int]]:
        """Write the files."""
        names = [(row.exchange, row.symbol) for row in self._instruments]
        self._hash.update(json.dumps(names).encode())
        for type_ in self._waiting:
            self._flush(type_, 1)
        for type_, parts in self._parts.items():
            meta = Meta(
                format=FILE_FORMAT,
                type=type_,
                tape=self._hash.hexdigest(),
                first_ns=self._first_ns[type_],
                instruments=names,
                present=sorted(self._present[type_]),
            )
            parts.pack(self._folder / f"{type_}.parquet", {META: msgspec.json.encode(meta).decode()})
        return [(f"{type_}.parquet", self._rows[type_]) for type_ in sorted(self._parts)]


class CommandWriter:
    """An npz archive of the commands a tape becomes (FEED-068)."""

    def __init__(self, folder: Path, name: str, tape: Tape | CommandTape, markets: Sequence[Market]) -> None:
        self.losses: Counter[str] = Counter()
        self._folder, self._name, self._tape, self._markets = folder, name, tape, markets
        self._spool = folder / "commands.raw"
        self._spool.write_bytes(b"")
        self._count = 0

    def add(self, rows: Records) -> None:
        """Take more rows."""
        kinds, losses = rows["kind"], self.losses
        losses["quotes"] += int((kinds == ROW_QUOTE).sum())
        losses["liquidations"] += int((kinds == ROW_LIQUIDATION).sum())
        losses["ticker"] += int(np.isin(kinds, (ROW_LAST, ROW_PREDICTED, ROW_INTEREST)).sum())
        losses["orders"] += int(np.isin(kinds, TYPES["orders"]).sum())
        losses["fields"] += int(((rows["id"] != 0) | (rows["exchange_ns"] != 0)).sum())
        marks = rows[(kinds == ROW_MARK) | (kinds == ROW_INDEX)]
        fine = np.array([instrument.fine_per_tick for instrument in self._tape.instruments], np.int64)
        losses["rounded"] += int((marks["price"] % fine[marks["market"]] != 0).sum())
        self._keep(self._tape.teller.tell(rows))

    def _keep(self, commands: NDArray[np.void]) -> None:
        with self._spool.open("ab") as raw:
            raw.write(commands.tobytes())
        self._count += len(commands)

    def finish(self) -> list[tuple[str, int]]:
        """Pack the archive."""
        self._keep(self._tape.teller.finish())
        self.losses["beyond"] = int(self._tape.teller.counts[:, COUNTS.index("beyond")].sum())
        if not self._count:
            raise DataError(self._tape.files[0].path, None, None, "expected a tape that makes commands, found none")
        meta = {
            "format": TAPE_FORMAT,
            "markets": msgspec.to_builtins(list(self._markets)),
            "made_by": f"perp-engine {sys.modules['engine'].__version__}",
        }
        with zipfile.ZipFile(self._folder / self._name, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            write_rows(archive, "commands", COMMAND, self._count, self._spool)
            write_array(archive, "meta", np.frombuffer(json.dumps(meta).encode(), np.uint8))
        self._spool.unlink()
        return [(self._name, self._count)]


def convert_tape(
    paths: str | Path | Sequence[str | Path],
    out: str | Path,
    to: str | None = None,
    markets: Sequence[Market] = (),
    *,
    is_strict: bool = True,
    is_replaced: bool = False,
) -> dict[str, Any]:
    """Read a recording and write it in another format, whole or not at all.

    Parameters
    ----------
    paths : path or sequence of paths
        As for `open_feed`.
    out : path
        A folder (tardis, parquet) or an `.npz` file.
    to : {"tardis", "parquet", "npz"}, optional
        By default what the name of `out` ends in, else tardis.
    markets : sequence of Market
        What to convert, in index order; empty: everything there is.  Commands need them: their prices are ticks.
    is_strict : bool
        Whether the first fault of the data ends it; otherwise bad rows are left out and counted.
    is_replaced : bool
        Whether an earlier conversion of this name may be replaced.

    Returns
    -------
    dict
        The keys of `perp convert --json` (formats.md).

    Raises
    ------
    ConfigError
        If the target exists, holds other things, or is one of the inputs; if commands are asked for without markets.
    DataError, MissingExtraError
        Nothing is left behind.

    Source: FEED-065.
    """
    target = Path(out)
    if to is None:
        to = {".parquet": "parquet", ".npz": "npz"}.get(target.suffix, "tardis")
    if to not in TARGETS:
        raise ConfigError(f"--to: unknown '{to}', {list_known(to, TARGETS)}")
    if to == "npz" and not markets:
        raise ConfigError("--market: a command tape counts prices in ticks of its markets: expected a market file")
    if to == "parquet":
        require_polars("--to parquet")
    sources = [Path(paths)] if isinstance(paths, str | Path) else [Path(path) for path in paths]
    place = Workplace(target, "OUT", _is_ours(to), "conversion")
    _check_target(place, to, sources, is_replaced)
    decimals: Decimals = {}
    while True:
        tape = open_feed(sources, markets, is_strict=is_strict, decimals=decimals)
        if to == "npz" and isinstance(tape, CommandTape):
            raise ConfigError(f"{sources[0]}: expected another tape: this one is commands already")
        try:
            with place:
                return _write(tape, place, to, markets)
        except RescaleError as error:
            rescale(decimals, error, tape.files[0].path)


def _is_ours(to: str) -> Any:
    return NAME.fullmatch if to == "tardis" else PARQUET_NAME.fullmatch


def _check_target(place: Workplace, to: str, sources: Sequence[Path], is_replaced: bool) -> None:
    target = place.target
    whole = target.resolve()
    for source in sources:
        if whole == source.resolve() or whole in source.resolve().parents:
            raise ConfigError(f"OUT: {target}: expected another place than the tape that is read, {source}")
    if to == "npz":
        if target.is_dir():
            raise ConfigError(f"OUT: {target}: expected a file, this is a folder")
        is_there = target.exists()
    else:
        place.refuse_others()
        is_there = target.is_dir() and any(target.iterdir())
    if is_there and not is_replaced:
        raise ConfigError(f"OUT: {target}: exists; --overwrite replaces it")


def _write(tape: Tape | CommandTape, place: Workplace, to: str, markets: Sequence[Market]) -> dict[str, Any]:
    blocks = hold_last_stamp(tape.records())
    writer: Writer
    if to == "npz":
        writer, losses = CommandWriter(place.part, place.target.name, tape, markets), NPZ_LOSSES
    elif to == "parquet":
        writer, losses = ParquetWriter(place.part, tape.instruments), {}
    else:
        writer, losses = TardisWriter(place.part, tape.instruments), TARDIS_LOSSES
    kinds = np.zeros(max(ROW_NAMES) + 1, np.int64)
    first_ns = last_ns = 0
    for rows in blocks:
        first_ns, last_ns = first_ns or int(rows["ts_ns"][0]), int(rows["ts_ns"][-1])
        kinds += np.bincount(rows["kind"], minlength=len(kinds))
        writer.add(rows)
    if not kinds.any():
        raise DataError(tape.files[0].path, None, None, "expected at least one row, found none")
    files = writer.finish()
    place.put(place.part / place.target.name if to == "npz" else None)
    findings = tape.findings
    return {
        "to": to,
        "out": str(place.target),
        "files": [{"file": name, "rows": count} for name, count in files],
        "rows": {ROW_NAMES[kind]: int(count) for kind, count in enumerate(kinds) if count},
        "symbols": [instrument.symbol for instrument in tape.instruments],
        "first_ns": first_ns,
        "last_ns": last_ns,
        "gaps": findings.counts["gaps"],
        "resets": findings.counts["resets"],
        "dropped": findings.dropped.total(),
        "dropped_by": dict(sorted(findings.dropped.items())),
        "skipped": [{"file": str(path), "reason": reason} for path, reason in tape.skipped],
        "lossy": [
            {"what": name, "rows": int(writer.losses[name]), "why": why}
            for name, why in losses.items()
            if writer.losses[name]
        ],
    }
