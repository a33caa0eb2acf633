"""What the policy lab told of runs, as tables of their report (REP-008)."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from engine.errors import ConfigError, DataError
from engine.files import JSON_BYTES_MAX, read_text
from engine.lab.compare import RUN
from engine.lab.table import MEASURES, show_measures, show_money
from engine.report.markup import write_paragraph, write_table
from engine.sweep.load import Real, Whole
from engine.units import parse_unit

Facts = dict[str, Any]

# What of a run's summary the lab tells too: a file about another run differs in it.
TOTALS = ("deficits", "deficit_quote", "paid_by_fund_quote", "paid_by_adl_quote", "paid_by_haircut_quote")


class _Shares(msgspec.Struct):
    payers: Whole
    p50: Real | None
    p90: Real | None
    max: Real | None


class _Measures(msgspec.Struct):
    taken_quote: Whole
    tracking_quote: Whole
    fairness_quote: Whole
    total_quote: Whole
    mean_max_share: Real | None
    shares: _Shares
    ptsr: Real | None
    pmr: Real | None
    rd_nse: Real | None
    inversions: Whole
    neighbours: Whole
    rank_stability: Real | None


class _Asset(msgspec.Struct):
    name: str
    unit: str


class _Run(msgspec.Struct):
    run: str
    asset: _Asset
    compared_waves: Whole
    needed_quote: Whole
    waves: list[Any]
    policies: dict[str, _Measures]


class _Told(msgspec.Struct):
    """What `perp lab run --json` prints, as far as the page reads it."""

    gap_ns: int
    runs: list[_Run]


class View(Protocol):
    """The page's view of a run."""

    label: str
    summary: Facts
    lab: Facts | None


def read_lab(file: Path, views: Sequence[View]) -> list[Facts]:
    """Return what the lab told, and give each view its part.

    Raises
    ------
    DataError
        If the file is not the lab's.
    ConfigError
        If a run of it is not on the page.

    Source: REP-008.
    """
    try:
        told = json.loads(read_text(file, JSON_BYTES_MAX))
        for run in msgspec.convert(told, _Told).runs:
            parse_unit(run.asset.unit)
            if RUN not in run.policies:
                raise ValueError(f"a row for what the run did, {RUN!r}")
    except (OSError, ValueError, RecursionError, msgspec.ValidationError) as error:
        raise DataError(file, None, None, f"expected what perp lab run --json prints: {error}") from error
    for facts in told["runs"]:
        mine = [
            view for view in views if view.lab is None and all(view.summary[name] == facts.get(name) for name in TOTALS)
        ]
        # runs with the same totals are told apart by what their folders are called
        named = [view for view in mine if Path(facts["run"]).name == view.label.rsplit("/", 1)[-1]] or mine
        if not named:
            raise ConfigError(f"--lab: {file}: tells of {facts['run']}, which is none of the runs on this page")
        named[0].lab = facts
    return [view.lab | {"run": view.label} for view in views if view.lab is not None]


def write_lab(facts: Facts) -> str:
    """Return a run's losses as each policy would have divided them."""
    asset = facts["asset"]
    rows = [
        [name if name != RUN else "what the run did", *show_measures(row, asset)]
        for name, row in facts["policies"].items()
    ]
    waves = f"{facts['compared_waves']:,} of {len(facts['waves']):,} waves"
    said = (
        f"{show_money(facts['needed_quote'], asset)} {asset['name']} were needed of winners; {waves} compared. "
        "Each row divides the same losses by another policy (perp docs lab)."
    )
    caption = f"Policies of loss allocation, amounts in {asset['name']}"
    return write_paragraph(said) + write_table(caption, ("policy", *MEASURES), rows, sortable=True)


def compare_lab(found: Sequence[Facts]) -> str:
    """Return what several runs did, measured alike, in one table."""
    rows = [[facts["run"], *show_measures(facts["policies"][RUN], facts["asset"])] for facts in found]
    return write_table(
        "What winners paid in these runs, as the lab measures it", ("run", *MEASURES), rows, sortable=True
    )
