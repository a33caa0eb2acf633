"""A run directory read back: its summary, its markets, its events, its series."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.contract import Market, Setup, build_setup, convert_markets
from engine.errors import LISTED, DataError, MissingExtraError, explain_os, suggest
from engine.files import ARCHIVE_BYTES_MAX, JSON_BYTES_MAX, check_parquet_rows, read_arrays, read_text, refuse_parquet
from engine.layout import EVENT
from engine.units import parse_decimal

Rows = NDArray[np.void]


@dataclass(frozen=True)
class RunRecord:
    """A run directory as its summary describes it."""

    folder: Path
    summary: dict[str, Any]
    setup: Setup
    markets: tuple[Market, ...]

    @property
    def keeps_names(self) -> bool:
        """Return whether all names are kept: not where nobody was named, nor in directories of older versions."""
        return (self.folder / "names.json").exists()

    @cached_property
    def names(self) -> dict[int, str]:
        """Return what accounts are called, by number; of an older directory only who is in a list of the summary.

        Raises
        ------
        DataError
            If they cannot be read.

        Source: POP-002.
        """
        if self.keeps_names:
            return _read_names(self.folder / "names.json")
        rows = (*self.summary["adl_top"], *self.summary["deficits_top"], self.summary["worst_slippage"] or {})
        return {row["account"]: str(row["name"]) for row in rows if "name" in row}


def open_run(folder: Path) -> RunRecord:
    """Read a run directory's summary, and the markets in it.

    Raises
    ------
    DataError
        If there is no summary, or not one of ours.
    ConfigError
        If its markets are none.

    Source: LAB-013, CLI-001.
    """
    path = folder / "summary.json"
    try:
        summary = json.loads(read_text(path, JSON_BYTES_MAX))
        told = summary["parameters"]
        given = told["markets"] if "markets" in told else [told["market"]]  # a simulated run has one
        markets = tuple(convert_markets(given))
        parse_decimal(summary["assets"][0]["unit"])
    except OSError as error:
        raise DataError(path, None, None, f"expected the summary of a run: {_find_runs(folder)}") from error
    except (ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
        raise DataError(path, None, None, f"expected the summary of a run: {error}") from error
    return RunRecord(folder, summary, build_setup(markets, str(path)), markets)


def _find_runs(folder: Path) -> str:
    """Return what to name instead of a folder that is no run directory: runs in it or beside it, or how to make one."""
    for place in (folder, folder.parent):
        names = sorted(path.parent for path in place.glob("*/summary.json")) if place.is_dir() else []
        near = suggest(folder.name, [path.name for path in names])
        if names:
            listed = ", ".join(map(str, names[:LISTED])) + (", ..." if len(names) > LISTED else "")
            return f"{folder} has none, these have: {listed}{near if place != folder else ''}"
    return f"{folder} has none; a run directory is what --out names (perp demo makes one)"


def _read_names(path: Path) -> dict[int, str]:
    try:
        told = json.loads(read_text(path, ARCHIVE_BYTES_MAX))
        if not (isinstance(told, dict) and all(isinstance(name, str) for name in told.values())):
            raise ValueError("got something else")
        return {int(number): name for number, name in told.items()}
    except OSError as error:
        raise DataError(path, None, None, explain_os(error, path)) from error
    except (ValueError, RecursionError) as error:
        raise DataError(path, None, None, f"expected an object of account numbers and names: {error}") from error


def read_events(folder: Path) -> Iterator[Rows]:
    """Yield the events a run directory keeps.

    Raises
    ------
    DataError
        If it keeps none (`--events none`), or they are not EVENT records.
    MissingExtraError
        If they are Parquet and polars is not installed.

    Source: LAB-013.
    """
    packed, table = folder / "events.npz", folder / "events.parquet"
    if packed.exists():
        rows = _read_member(packed, "events")
        if rows.dtype != EVENT or rows.ndim != 1:
            raise DataError(packed, None, "events", f"expected EVENT records, got {rows.dtype}")
        yield rows
    elif table.exists():
        yield from _read_parquet(table)
    else:
        raise DataError(folder, None, None, "expected events.npz or events.parquet: run with --events npz")


def _read_member(path: Path, name: str) -> NDArray[Any]:
    rows: NDArray[Any] = read_arrays(path, name)[name]
    return rows


def _read_parquet(path: Path) -> Iterator[Rows]:
    """Yield the events of a Parquet file, cut where a command ends."""
    try:
        import polars
    except ImportError as error:
        raise MissingExtraError(f"{path} needs `pip install 'perp-engine[parquet]'`") from error
    names = EVENT.names or ()
    check_parquet_rows(path, ARCHIVE_BYTES_MAX // EVENT.itemsize)
    try:
        with refuse_parquet(path):
            frame = polars.read_parquet(path, columns=list(names))
            rows = np.zeros(len(frame), EVENT)
            for name in names:
                rows[name] = frame[name].to_numpy()
    except (ValueError, TypeError, OverflowError) as error:
        raise DataError(path, None, None, f"expected the events of a run: {error}") from error
    yield rows


def read_series(folder: Path) -> dict[str, NDArray[Any]]:
    """Return the warning signs a run sampled while it ran (SIGN-001), a column per name.

    Columns in the order they were kept; empty where a run kept none.  Rows are by time, then `market`.

    Raises
    ------
    DataError, MissingExtraError
        As of `read_events`.

    Source: REP-003.
    """
    signs, frame = folder / "series.npz", folder / "series.parquet"
    if frame.exists():
        try:
            import polars
        except ImportError as error:
            raise MissingExtraError(f"{frame} needs `pip install 'perp-engine[parquet]'`") from error
        try:
            found = polars.read_parquet(frame)
            columns = {name: found[name].to_numpy() for name in found.columns if name != "symbol"}
        except (OSError, ValueError, polars.exceptions.PolarsError) as error:
            raise DataError(frame, None, None, f"expected the series of a run: {error}") from error
    elif signs.exists():
        return _read_rows(signs)
    else:
        return {}
    return _complete(folder, columns)


def read_steps(folder: Path) -> dict[str, NDArray[Any]]:
    """Return what stood at each step of a simulated market (SIM-003), a column per name; empty for other runs.

    Raises
    ------
    DataError
        If they cannot be read.

    Source: REP-003.
    """
    steps = folder / "market.npz"
    return _read_rows(steps) if steps.exists() else {}


def _read_rows(path: Path) -> dict[str, NDArray[Any]]:
    rows = _read_member(path, "series")
    return _complete(path, {name: np.ascontiguousarray(rows[name]) for name in rows.dtype.names or ()})


def _complete(path: Path, columns: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    if "ts_ns" not in columns:
        raise DataError(path, None, "series", f"expected a column ts_ns, got {', '.join(columns) or 'none'}")
    columns.setdefault("market", np.zeros(len(columns["ts_ns"]), np.int64))
    return columns
