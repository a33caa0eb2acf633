"""What a run leaves behind: a folder that appears whole at the end, or not at all (CLI-002).

Events are spooled to disk as they come and packed when the run ends, so that a long run takes no more memory than a
short one.
"""

import json
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from engine.codes import EVENT_NAMES
from engine.errors import ConfigError, list_known
from engine.files import ParquetParts, Workplace, require_polars, tell_disk, write_array, write_rows
from engine.layout import COMMAND, EVENT

Rows = NDArray[np.void]

EVENT_FORMATS = ("npz", "parquet", "none")
SUMMARY, REPORT, REPRODUCTION, MARKET = "summary.json", "report.txt", "reproduction.npz", "market.npz"
LIQUIDATIONS, ACCOUNTS, NAMES = "liquidations.csv", "accounts.csv", "names.json"
OURS = {SUMMARY, REPORT, REPRODUCTION, MARKET, LIQUIDATIONS, ACCOUNTS, NAMES, "events.npz", "events.parquet"}
OURS |= {"series.npz", "series.parquet"}
OURS.add("report.html")  # added to a finished run (REP-001)
PARQUET_ROWS = 1 << 20


def write_summary(summary: dict[str, Any]) -> str:
    """Return a summary as the text of `summary.json`, which `--json` prints too (CLI-001)."""
    return json.dumps(summary, indent=2, ensure_ascii=False) + "\n"


def _name_kinds() -> NDArray[Any]:
    """Return the event names, each at the index that is its kind."""
    return np.array([EVENT_NAMES.get(kind, "") for kind in range(max(EVENT_NAMES) + 1)])


class RunFolder(Workplace):
    """The output of one run: written beside the target under another name, renamed whole by `finish`.

    Use as a context manager: what is not finished when the block ends is removed.

    Parameters
    ----------
    target : path
        A folder that does not exist, is empty, or holds an earlier run and nothing else.
    events : {"npz", "parquet", "none"}
        How events are kept.

    Raises
    ------
    ConfigError
        If the target cannot be written or holds other things.
    MissingExtraError
        If Parquet is asked for and polars is not installed.
    """

    def __init__(self, target: str | Path, events: str = "npz") -> None:
        if events not in EVENT_FORMATS:
            raise ConfigError(f"--events: unknown '{events}', {list_known(events, EVENT_FORMATS)}")
        if events == "parquet":
            require_polars("--events parquet")
        super().__init__(target, "--out", OURS.__contains__, "run")
        self.events = events
        self.refuse_others()
        self._spool: BinaryIO | None = None
        self._count = 0

    def __enter__(self) -> Self:
        """Make the folder that is written to."""
        super().__enter__()
        self._spool = (self.part / "events.raw").open("wb")
        return self

    def remove(self) -> None:
        """Remove what was not finished."""
        if self._spool is not None:
            self._spool.close()
            self._spool = None
        super().remove()

    def add_events(self, events: Rows) -> None:
        """Keep more events."""
        if self._spool is not None and self.events != "none":
            self._spool.write(events.tobytes())
            self._count += len(events)

    def write_reproduction(self, commands: Iterable[Rows], meta: dict[str, Any]) -> None:
        """Write the commands that led to a broken invariant, with what else is needed to see it again (CLI-002)."""
        spool = self.part / "commands.raw"
        count = 0
        with spool.open("wb") as raw:
            for rows in commands:
                raw.write(rows.tobytes())
                count += len(rows)
        with zipfile.ZipFile(self.part / REPRODUCTION, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            write_rows(archive, "commands", COMMAND, count, spool)
            write_array(archive, "meta", np.frombuffer(json.dumps(meta).encode(), np.uint8))
        spool.unlink()

    def write_text(self, name: str, text: str) -> None:
        """Write one more file of the run."""
        (self.part / name).write_text(text, encoding="utf-8")

    def write_names(self, names: Mapping[int, str]) -> None:
        """Write what accounts are called, by number, a line each; no file where nobody is named (POP-002)."""
        if names:
            self.write_text(NAMES, json.dumps(names, ensure_ascii=False, separators=(",\n", ": ")) + "\n")

    def write_market(self, **arrays: NDArray[Any]) -> None:
        """Write what a simulated market sent, and what stood at each of its steps (SIM-009)."""
        np.savez_compressed(self.part / MARKET, allow_pickle=False, **arrays)

    def write_series(self, rows: Rows, symbols: Sequence[str]) -> None:
        """Write the warning signs: `series.parquet` where events are Parquet, else `series.npz` (SIGN-001)."""
        names = np.array(symbols)
        if self.events == "parquet":
            columns = {name: np.ascontiguousarray(rows[name]) for name in rows.dtype.names or ()}
            frame = require_polars("--events parquet").DataFrame({**columns, "symbol": names[rows["market"]]})
            with tell_disk():
                frame.write_parquet(self.part / "series.parquet")
        else:
            np.savez_compressed(self.part / "series.npz", allow_pickle=False, series=rows, symbols=names)

    def finish(self, summary: dict[str, Any], report: str) -> Path:
        """Pack the events, write summary and report, and put the folder in its place."""
        assert self._spool is not None
        self._spool.close()
        self._spool = None
        spool = self.part / "events.raw"
        if self.events == "npz":
            self._pack_npz(spool)
        elif self.events == "parquet":
            self._pack_parquet(spool)
        spool.unlink()
        (self.part / SUMMARY).write_text(write_summary(summary), encoding="utf-8")
        (self.part / REPORT).write_text(report, encoding="utf-8")
        return self.put()

    def _pack_npz(self, spool: Path) -> None:
        with zipfile.ZipFile(self.part / "events.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            write_rows(archive, "events", EVENT, self._count, spool)
            write_array(archive, "kind_names", _name_kinds())

    def _pack_parquet(self, spool: Path) -> None:
        polars = require_polars("--events parquet")
        names = _name_kinds()
        parts = ParquetParts(self.part / "parts")
        # An empty file cannot be mapped; one part without rows still carries the columns.
        raw: Any = np.memmap(spool, EVENT, "r") if self._count else np.zeros(0, EVENT)
        for start in range(0, max(self._count, 1), PARQUET_ROWS):
            rows = raw[start : start + PARQUET_ROWS]
            columns = {name: np.ascontiguousarray(rows[name]) for name in EVENT.names or ()}
            parts.add(polars.DataFrame({**columns, "kind_name": names[rows["kind"]]}))
        parts.pack(self.part / "events.parquet")
