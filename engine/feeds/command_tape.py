"""Our own tapes: commands as they are, with the markets they were made for (FEED-053).

An .npz with `commands`, an array of COMMAND, and `meta`, JSON; what `perp convert` writes, and what a run leaves behind
where an invariant broke.
"""

import io
from collections import Counter
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.codes import COMMAND_NAMES
from engine.contract import Market
from engine.errors import DataError
from engine.feeds.arrays import MAGIC, read_header, read_rows, read_text
from engine.feeds.instruments import Findings, Instruments
from engine.feeds.merge import cut_chunks
from engine.feeds.tape import Format, Head, TapeFile
from engine.layout import COMMAND

Commands = NDArray[np.void]

MEMBER, META = "commands.npy", "meta.npy"
FORMAT_NUMBER = 1


class MetaMarket(msgspec.Struct):
    """What a tape must share with the market it is played in."""

    symbol: str
    tick_size: Decimal
    lot_size: Decimal


class Meta(msgspec.Struct):
    """What a tape says of itself."""

    format: int
    markets: list[MetaMarket]


def sniff(head: Head) -> TapeFile | None:
    """Return what an array file is by the type of its rows.

    Raises
    ------
    DataError
        If it has the member of a tape, and not its rows.
    """
    if not head.data.startswith(MAGIC) or head.member != MEMBER:
        return None
    dtype, _ = read_header(head.path, io.BytesIO(head.data))
    if dtype != COMMAND:
        raise DataError(head.path, None, MEMBER, f"expected the commands of format {FORMAT_NUMBER}, got {dtype}")
    first = next(read_rows(head.path, COMMAND, MEMBER, 1), None)
    first_ns = 0 if first is None else int(first["ts_ns"][0])
    return TapeFile(head.path, FORMAT, "commands", "", "", first_ns, 0)


def read_meta(path: Path) -> Meta:
    """Return what a tape says of itself.

    Raises
    ------
    DataError
        If it says nothing, or is of another format.
    """
    try:
        meta = msgspec.json.decode(read_text(path, META), type=Meta)
    except msgspec.DecodeError as error:
        raise DataError(path, None, "meta", f"expected format and markets: {error}") from error
    if meta.format != FORMAT_NUMBER:
        raise DataError(path, None, "meta", f"expected format {FORMAT_NUMBER}, got {meta.format}")
    return meta


def refuse(files: Sequence[TapeFile], instruments: Instruments, findings: Findings) -> NoReturn:
    """Refuse to merge a tape of commands with anything: what it would do to the other's books is told already."""
    raise DataError(files[0].path, None, None, "expected a tape of commands alone, not beside other recordings")


FORMAT = Format("commands", sniff, refuse)


class CommandTape:
    """A tape of commands as a feed.

    Parameters
    ----------
    file : TapeFile
        The tape.
    markets : sequence of Market
        In index order, as many and of the same symbols, tick and lot sizes as the tape's; empty: the tape's.
    skipped : sequence of (Path, str)
        What was found beside it.
    is_strict : bool
        Whether a stamp that falls is raised, or counted and held at the one before it.

    Attributes
    ----------
    symbols : tuple of str
        The markets, in index order.
    counts : dict of str to int
        Commands by name, of the last `chunks` call, growing while it runs.
    findings : Findings
        Of the last call.

    Raises
    ------
    DataError
        If the markets are others than the tape's.
    """

    def __init__(
        self,
        file: TapeFile,
        markets: Sequence[Market] = (),
        skipped: Sequence[tuple[Path, str]] = (),
        *,
        is_strict: bool = True,
    ) -> None:
        self.files, self.skipped, self._is_strict = (file,), tuple(skipped), is_strict
        own = read_meta(file.path).markets
        self.symbols = tuple(market.symbol for market in own)
        if markets:
            told = [f"{market.symbol} in {market.tick_size} by {market.lot_size}" for market in own]
            wanted = [(market.symbol, market.tick_size, market.lot_size) for market in markets]
            if wanted != [(market.symbol, market.tick_size, market.lot_size) for market in own]:
                got = ", ".join(f"{symbol} in {tick} by {lot}" for symbol, tick, lot in wanted)
                raise DataError(file.path, None, "markets", f"expected the tape's ({', '.join(told)}), got {got}")
        self._reset()

    def _reset(self) -> None:
        self.findings = Findings(self._is_strict)
        self.counts: dict[str, int] = {"commands": 0, "gaps": 0, "resets": 0, "dropped": 0}

    def chunks(self, rows: int = 65_536) -> Iterator[Commands]:
        """Yield COMMAND arrays of `rows` records; every call reads the file anew."""
        self._reset()
        return cut_chunks(self._read(), rows)

    def _read(self) -> Iterator[Commands]:
        path, last_ns, done = self.files[0].path, 0, 0
        for piece in read_rows(path, COMMAND, MEMBER):
            rows = piece
            stamps = rows["ts_ns"]
            before = np.maximum.accumulate(np.concatenate([[last_ns], stamps]))[:-1]
            falls = np.flatnonzero(stamps < before)
            for at in falls.tolist():
                wanted, got = int(before[at]), int(stamps[at])
                error = DataError(path, done + at, "ts_ns", f"expected {wanted} or later, got {got}")
                self.findings.report("reversed_local", error)
            if len(falls):
                rows = rows.copy()
                rows["ts_ns"] = np.maximum(stamps, before)
            last_ns, done = int(rows["ts_ns"][-1]), done + len(rows)
            self.findings.rows["commands"] = self.counts["commands"] = done
            for kind, count in Counter(rows["kind"].tolist()).items():
                name = COMMAND_NAMES.get(kind, "unknown")
                self.counts[name] = self.counts.get(name, 0) + count
            yield rows

    def inspect(self) -> dict[str, Any]:
        """Read the tape to its end and return the keys of `perp inspect --json` that a tape of commands has."""
        first_ns = last_ns = 0
        for rows in self.chunks():
            first_ns = first_ns or int(rows["ts_ns"][0])
            last_ns = int(rows["ts_ns"][-1])
        own = ("commands", "gaps", "resets", "dropped")
        kinds = {name: count for name, count in sorted(self.counts.items()) if name not in own}
        file = self.files[0]
        return {
            "rows": self.counts["commands"],
            "first_ns": first_ns,
            "last_ns": last_ns,
            "symbols": list(self.symbols),
            "streams": kinds,
            "messages": self.counts["commands"],
            "gaps": 0,
            "resets": 0,
            "dropped": 0,
            "reversed_local": self.findings.counts["reversed_local"],
            "faults": [{"kind": fault.kind, "error": str(fault.error)} for fault in self.findings.faults],
            "files": [{"file": str(file.path), "format": FORMAT.name, "kind": file.kind, "exchange": "", "symbol": ""}],
            "skipped": [{"file": str(path), "reason": reason} for path, reason in self.skipped],
        }
