"""The folder of a stress run: a line for every finished run, as they come; results and page at the end (STRESS-004)."""

import csv
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from engine.errors import ConfigError, DataError
from engine.files import write_whole
from engine.sweep.measure import Row

SCHEMA = 1
SCENARIO, RUNS, SUMMARY, REPORT = "scenario.json", "runs.jsonl", "summary.json", "report.txt"
CSV, PARQUET = "results.csv", "results.parquet"
PAGE = "report.html"  # what `perp report` puts there
OURS = {SCENARIO, RUNS, SUMMARY, REPORT, CSV, PARQUET, PAGE}
Key = tuple[str, int]  # cell, seed


class Store:
    """Finished runs by cell and seed, kept in a folder or in memory alone.

    Parameters
    ----------
    folder : path, optional
        New, empty, or of the same scenario and task.
    header : dict
        What must be the same to go on: `verb`, `digest`, `version`, and the search's options.
    described : dict
        What else `scenario.json` tells.

    Raises
    ------
    ConfigError
        If the folder holds something else.
    DataError
        If a line of it cannot be read.

    Source: STRESS-004.
    """

    def __init__(self, folder: Path | None, header: dict[str, Any], described: dict[str, Any]) -> None:
        self.folder = folder
        self.rows: dict[Key, Row] = {}
        self._file: BinaryIO | None = None
        self._header, self._described = header, described

    def __enter__(self) -> "Store":
        """Read what is there, and open it for more."""
        if self.folder is None:
            return self
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._check()
            self._read()
            self._file = (self.folder / RUNS).open("ab")
        except OSError as error:
            raise ConfigError(f"--out: {self.folder}: cannot be written: {error.strerror}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def _check(self) -> None:
        assert self.folder is not None
        others = sorted(e.name for e in self.folder.iterdir() if e.name not in OURS and not e.name.endswith(".part"))
        if others:
            raise ConfigError(f"--out: {self.folder}: expected a new folder or one to go on in, it holds {others[0]}")
        file = self.folder / SCENARIO
        if not file.exists():
            if (self.folder / RUNS).exists() or (self.folder / SUMMARY).exists():
                raise ConfigError(
                    f"--out: {self.folder}: expected a new folder or one to go on in, found no {SCENARIO}"
                )
            text = json.dumps({"schema": SCHEMA, **self._header, **self._described}, indent=2, ensure_ascii=False)
            write_whole(file, f"{text}\n".encode())
            return
        try:
            before = json.loads(file.read_bytes())
        except ValueError as error:
            raise DataError(file, None, None, f"not valid JSON: {error}") from error
        for name, value in self._header.items():
            if before.get(name) != value:
                other = f"holds another {name}, {before.get(name)}, this is {value}"
                raise ConfigError(f"--out: {self.folder}: {other}: name a new folder")

    def _read(self) -> None:
        assert self.folder is not None
        file = self.folder / RUNS
        if not file.exists():
            return
        content = file.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):  # the line that was being written when the run before was ended
            os.truncate(file, whole)
        for number, line in enumerate(content[:whole].splitlines(), 1):
            try:
                row = json.loads(line)
                self.rows[row.pop("cell"), row["seed"]] = row
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise DataError(file, number, None, "expected a run as this program writes it") from error

    def add(self, cell: str, row: Row) -> None:
        """Keep a finished run."""
        self.rows[cell, row["seed"]] = row
        if self._file is not None:
            self._file.write(json.dumps({"cell": cell, **row}, ensure_ascii=False).encode() + b"\n")
            self._file.flush()

    def finish(self, rows: Sequence[Row], summary: dict[str, Any], page: str) -> str | None:
        """Write results, summary and page; return the name of the file of results."""
        if self.folder is None:
            return None
        name = write_results(self.folder, rows)
        write_whole(self.folder / SUMMARY, (json.dumps(summary, indent=2, ensure_ascii=False) + "\n").encode())
        write_whole(self.folder / REPORT, page.encode())
        return name


def write_results(folder: Path, rows: Sequence[Row]) -> str:
    """Write rows as Parquet, as CSV where polars is not installed; return the file's name."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    buffer = io.BytesIO()
    try:
        import polars
    except ImportError:
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        name, other, content = CSV, PARQUET, text.getvalue().encode()
    else:
        frame = polars.DataFrame({column: [row.get(column) for row in rows] for column in columns}, strict=False)
        frame.write_parquet(buffer)
        name, other, content = PARQUET, CSV, buffer.getvalue()
    write_whole(folder / name, content)
    (folder / other).unlink(missing_ok=True)
    return name
