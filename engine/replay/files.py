"""What a run leaves behind: a folder that appears whole at the end, or not at all (CLI-002).

Events are spooled to disk as they come and packed when the run ends, so that a long run takes no more memory than a
short one.
"""

import io
import json
import os
import shutil
import zipfile
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from engine.codes import EVENT_NAMES
from engine.errors import ConfigError, MissingExtraError
from engine.layout import COMMAND, EVENT

Rows = NDArray[np.void]

EVENT_FORMATS = ("npz", "parquet", "none")
SUMMARY, REPORT, REPRODUCTION, MARKET = "summary.json", "report.txt", "reproduction.npz", "market.npz"
LIQUIDATIONS = "liquidations.csv"
OURS = {SUMMARY, REPORT, REPRODUCTION, MARKET, LIQUIDATIONS, "events.npz", "events.parquet"}
OURS.add("report.html")  # added to a finished run (REP-001)
COPY_BYTES = 1 << 22
PARQUET_ROWS = 1 << 20


def write_summary(summary: dict[str, Any]) -> str:
    """Return a summary as the text of `summary.json`, which `--json` prints too (CLI-001)."""
    return json.dumps(summary, indent=2, ensure_ascii=False) + "\n"


def _write_rows(archive: zipfile.ZipFile, name: str, dtype: np.dtype[Any], count: int, spool: Path) -> None:
    """Add raw records on disk to an npz archive as one array, without reading them into memory."""
    header = io.BytesIO()
    descr = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (count,)}
    np.lib.format.write_array_header_1_0(header, descr)
    with archive.open(f"{name}.npy", "w", force_zip64=True) as member, spool.open("rb") as raw:
        member.write(header.getvalue())
        shutil.copyfileobj(raw, member, COPY_BYTES)


def _write_array(archive: zipfile.ZipFile, name: str, array: NDArray[Any]) -> None:
    with archive.open(f"{name}.npy", "w") as member:
        np.lib.format.write_array(member, array, allow_pickle=False)


def _name_kinds() -> NDArray[Any]:
    """Return the event names, each at the index that is its kind."""
    return np.array([EVENT_NAMES.get(kind, "") for kind in range(max(EVENT_NAMES) + 1)])


class RunFolder:
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
            raise ConfigError(f"--events: unknown '{events}', known: {', '.join(EVENT_FORMATS)}")
        if events == "parquet":
            _require_polars()
        self.target, self.events = Path(target), events
        self._refuse_others()
        self.part = self.target.with_name(f".{self.target.name}.{os.getpid()}.part")
        self._spool: BinaryIO | None = None
        self._count = 0
        self._made: list[Path] = []

    def _refuse_others(self) -> None:
        if self.target.exists() and not self.target.is_dir():
            raise ConfigError(f"--out: {self.target}: expected a folder, this is a file")
        if self.target.is_dir():
            others = sorted(entry.name for entry in self.target.iterdir() if entry.name not in OURS)
            if others:
                raise ConfigError(
                    f"--out: {self.target}: expected a new folder or one of an earlier run, it holds {others[0]}"
                )

    def __enter__(self) -> "RunFolder":
        """Make the folder that is written to."""
        try:
            for parent in reversed(self.part.parents):
                if not parent.exists():
                    parent.mkdir()
                    self._made.append(parent)
            shutil.rmtree(self.part, ignore_errors=True)
            self.part.mkdir()
            self._spool = (self.part / "events.raw").open("wb")
        except OSError as error:
            self._remove()
            raise ConfigError(f"--out: {self.target}: cannot be written: {error.strerror}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove what was not finished."""
        self._remove()

    def _remove(self) -> None:
        if self._spool is not None:
            self._spool.close()
            self._spool = None
        shutil.rmtree(self.part, ignore_errors=True)
        for parent in reversed(self._made):
            if parent.is_dir() and not any(parent.iterdir()):
                parent.rmdir()

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
            _write_rows(archive, "commands", COMMAND, count, spool)
            _write_array(archive, "meta", np.frombuffer(json.dumps(meta).encode(), np.uint8))
        spool.unlink()

    def write_text(self, name: str, text: str) -> None:
        """Write one more file of the run."""
        (self.part / name).write_text(text, encoding="utf-8")

    def write_market(self, **arrays: NDArray[Any]) -> None:
        """Write what a simulated market sent, and what stood at each of its steps (SIM-009)."""
        np.savez_compressed(self.part / MARKET, allow_pickle=False, **arrays)

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
        self._made = []
        if self.target.is_dir():
            self._refuse_others()
            shutil.rmtree(self.target)
        os.replace(self.part, self.target)
        return self.target

    def _pack_npz(self, spool: Path) -> None:
        with zipfile.ZipFile(self.part / "events.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            _write_rows(archive, "events", EVENT, self._count, spool)
            _write_array(archive, "kind_names", _name_kinds())

    def _pack_parquet(self, spool: Path) -> None:
        polars = _require_polars()
        names = _name_kinds()
        parts = self.part / "parts"
        parts.mkdir()
        # An empty file cannot be mapped; one part without rows still carries the columns.
        raw: Any = np.memmap(spool, EVENT, "r") if self._count else np.zeros(0, EVENT)
        for number, start in enumerate(range(0, max(self._count, 1), PARQUET_ROWS)):
            rows = raw[start : start + PARQUET_ROWS]
            columns = {name: np.ascontiguousarray(rows[name]) for name in EVENT.names or ()}
            frame = polars.DataFrame({**columns, "kind_name": names[rows["kind"]]})
            frame.write_parquet(parts / f"{number:06}.parquet")
        polars.scan_parquet(parts / "*.parquet").sink_parquet(self.part / "events.parquet")
        shutil.rmtree(parts)


def _require_polars() -> Any:
    try:
        import polars
    except ImportError as error:
        raise MissingExtraError("--events parquet needs `pip install 'perp-engine[parquet]'`") from error
    return polars
