"""`load_sweep`: the folder of `perp stress`, `sweep`, `size-fund` or `find-shock` read back (STRESS-004)."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import msgspec

from engine.errors import ConfigError, DataError
from engine.files import JSON_BYTES_MAX, read_text
from engine.sweep.grid import name_point
from engine.sweep.measure import AMOUNTS, SHARES
from engine.sweep.search import AXES, count_axis
from engine.sweep.store import RUNS, SUMMARY
from engine.table import Table, Tabular, tabulate_rows
from engine.units import parse_unit

STRESS, NEED, SHOCK = "run_seed", "find_need", "find_threshold"  # the tasks, by what a folder calls them


# What a number can be: money in units of its asset, in 64 bits; NaN is no number.
Whole = Annotated[int, msgspec.Meta(ge=-(1 << 62), le=1 << 62)]
Real = Annotated[float, msgspec.Meta(ge=-1e19, le=1e19)]
Part = Annotated[float, msgspec.Meta(ge=0, le=1)]


class _Share(msgspec.Struct):
    """A share with its interval; None where nothing was looked at."""

    count: Whole
    of: Whole
    share: Part | None
    low: Part | None
    high: Part | None


class _Known(msgspec.Struct):
    """A share that was looked at."""

    share: Part
    low: Part
    high: Part


class _Number(msgspec.Struct):
    value: Real
    low: Real
    high: Real


class _Amount(msgspec.Struct):
    """Mean and quantiles; all but `runs` are missing where there was no run."""

    runs: Whole
    mean: _Number | None = None
    p01: _Number | None = None
    p05: _Number | None = None
    p50: _Number | None = None
    p95: _Number | None = None
    p99: _Number | None = None
    least: Real | None = None
    most: Real | None = None


class _Cell(msgspec.Struct):
    name: str
    point: dict[str, str]
    runs: Whole
    shares: dict[str, _Share]
    amounts: dict[str, _Amount]
    versus_first: dict[str, _Number] = {}


class _CurvePoint(_Known):
    fund_quote: Whole


class _Need(msgspec.Struct):
    breach: Part
    runs: Whole
    fund_quote: Whole | None
    low_quote: Whole | None
    high_quote: Whole | None
    seeds_needed: Whole
    curve: list[_CurvePoint]


class _Place(msgspec.Struct):
    step: Whole | None
    size: Real | None
    speed_s: Real | None
    depth: Real | None


class _Frontier(msgspec.Struct):
    fixed: dict[str, str]
    runs: Whole
    reached: _Share
    threshold: _Place
    low: _Place
    high: _Place


class _Asset(msgspec.Struct):
    name: str
    unit: str


class _Summary(msgspec.Struct):
    """What every `summary.json` of the stress lab holds."""

    task: str
    digest: str
    version: str
    seeds: Whole
    interrupted: bool
    assets: list[_Asset]
    markets: list[str]
    fund_start_quote: Whole
    scenario: dict[str, Any]
    search: dict[str, Any]


class _Cells(_Summary):
    cells: list[_Cell]


class _NeedFound(_Summary):
    until: str
    is_exact: bool
    why: list[str]
    need: _Need


class _ShockFound(_Summary):
    until: str
    share: Part
    walked: dict[str, tuple[str, str]]
    frontier: list[_Frontier]


FORMS = {STRESS: _Cells, NEED: _NeedFound, SHOCK: _ShockFound}


@dataclass(frozen=True)
class LoadedSweep(Tabular):
    """A folder of many runs; as a table a row per run, the point of the grid it belongs to in front.

    Parameters
    ----------
    folder : path
    summary : dict
        What `--json` printed.
    """

    folder: Path
    summary: dict[str, Any]

    def to_table(self) -> Table:
        """Return the results, a row per run."""
        return self.results

    @cached_property
    def results(self) -> Table:
        """Return the runs the summary is about, by point and seed, with the columns of STRESS-005."""
        points = {name_point(point): point for point in self._list_points()}
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in points}
        path = self.folder / RUNS
        try:
            for number, line in enumerate(read_text(path, JSON_BYTES_MAX).splitlines(), 1):
                try:
                    row = json.loads(line)
                    cell, seed = row.pop("cell"), int(row["seed"])
                except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                    raise DataError(path, number, None, "expected a run as this program writes it") from error
                if cell in found and seed < self.summary["seeds"]:
                    found[cell].append({**points[cell], **row})
        except (OSError, ValueError) as error:
            raise DataError(path, None, None, f"expected the runs of a sweep: {error}") from error
        return tabulate_rows([row for rows in found.values() for row in sorted(rows, key=lambda row: int(row["seed"]))])

    def _list_points(self) -> list[dict[str, str]]:
        if self.summary["task"] == NEED:
            return [{}]
        cells = self.summary.get("cells") or [{"point": point["fixed"]} for point in self.summary["frontier"]]
        return [cell["point"] for cell in cells]

    @cached_property
    def cells(self) -> Table:
        """Return what the runs come to, each number with its interval at 95 %.

        Of `stress` and `sweep` a row per point of the grid, of `size-fund` one per size of fund, of `find-shock` one
        per point of the frontier.

        Source: STRESS-008, STRESS-011, STRESS-012.
        """
        if self.summary["task"] == NEED:
            return tabulate_rows(self.summary["need"]["curve"])
        if self.summary["task"] == SHOCK:
            return tabulate_rows([self._flatten_frontier(point) for point in self.summary["frontier"]])
        return tabulate_rows([_flatten_cell(cell) for cell in self.summary["cells"]])

    def _flatten_frontier(self, point: dict[str, Any]) -> dict[str, Any]:
        row = {**point["fixed"], "runs": point["runs"], "reached": point["reached"]["share"]}
        for name in ("size", "speed_s", "depth"):
            if name.removesuffix("_s") in self.summary["walked"]:
                row |= {name: point["threshold"][name]}
                row |= {f"{name}_{end}": point[end][name] for end in ("low", "high")}
        return row

    def _repr_html_(self) -> str:
        """Return what the runs come to."""
        return self.cells._repr_html_()


def _flatten_cell(cell: dict[str, Any]) -> dict[str, Any]:
    row = {**cell["point"], "runs": cell["runs"]}
    for key, share in cell["shares"].items():
        row |= {key: share["share"], f"{key}_low": share["low"], f"{key}_high": share["high"]}
    for key, amount in cell["amounts"].items():
        for name in ("mean", "p50", "p95", "p99"):
            number = amount.get(name) or {}
            row[f"{key}_{name}"] = number.get("value")
            if name == "mean":
                row |= {f"{key}_low": number.get("low"), f"{key}_high": number.get("high")}
    return row


def _check(told: _Summary) -> None:
    """Raise ValueError where what belongs together does not fit."""
    if not told.assets:
        raise ValueError("an asset")
    parse_unit(told.assets[0].unit)
    points: list[dict[str, str]] = []
    if isinstance(told, _NeedFound):
        if not told.need.curve:
            raise ValueError("a curve")
    elif isinstance(told, _ShockFound):
        points = [point.fixed for point in told.frontier]
        for name, ends in told.walked.items():
            if name not in AXES:
                raise ValueError(f"the axes {', '.join(AXES)}, got {name}")
            for end in ends:
                count_axis(name, end)
    elif isinstance(told, _Cells):
        points = [cell.point for cell in told.cells]
        for cell in told.cells:
            _check_cell(cell)
    if any(point.keys() != points[0].keys() for point in points) or not (points or isinstance(told, _NeedFound)):
        raise ValueError("points, and the same paths at each of them")


def _check_cell(cell: _Cell) -> None:
    if any(metric.key not in cell.shares for metric in SHARES) or any(m.key not in cell.amounts for m in AMOUNTS):
        raise ValueError("every outcome in every cell")
    if cell.runs and any(None in msgspec.structs.astuple(share) for share in cell.shares.values()):
        raise ValueError("a share wherever there are runs")
    if any(amount.runs and None in msgspec.structs.astuple(amount) for amount in cell.amounts.values()):
        raise ValueError("mean and quantiles wherever there are runs")


def _refuse_constant(text: str) -> None:
    raise ValueError(f"numbers, got {text}")


def is_sweep(folder: Path) -> bool:
    """Return whether a folder holds many runs of one scenario rather than one run; damage is left to the readers."""
    try:
        found = json.loads(read_text(folder / SUMMARY, JSON_BYTES_MAX))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(found, dict) and "task" in found


def load_sweep(folder: str | Path) -> LoadedSweep:
    """Return the results of many runs.

    Raises
    ------
    DataError
        If the folder holds none of ours.

    Source: LOG-006, STRESS-004.
    """
    path = Path(folder) / SUMMARY
    try:
        summary = json.loads(read_text(path, JSON_BYTES_MAX), parse_constant=_refuse_constant)
        task = summary.get("task") if isinstance(summary, dict) else None
        if task not in FORMS:
            raise ValueError(f"one of {', '.join(FORMS)} as its task, got {task!r:.50}")
        _check(msgspec.convert(summary, FORMS[task]))
    except (OSError, ValueError, RecursionError, msgspec.ValidationError, ConfigError) as error:
        raise DataError(path, None, None, f"expected the summary of a sweep: {error}") from error
    return LoadedSweep(Path(folder), summary)
