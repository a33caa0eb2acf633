"""`report.html`: one file, no network, that a risk team can read, print and forward (REP-001..REP-008)."""

import base64
import hashlib
import sys
from collections.abc import Callable, Sequence
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

from engine.errors import ConfigError
from engine.files import write_whole
from engine.report.markup import Canvas, embed_json, write_paragraph, write_table
from engine.report.policies import compare_lab, read_lab
from engine.report.sweeps import SweepView
from engine.report.view import RunView
from engine.sweep.load import is_sweep

ASSETS = Path(__file__).parent / "assets"
PAGE = "report.html"
# anchor, heading, lead, what writes it
Sections = tuple[tuple[str, str, str, Callable[[Any], str]], ...]
RUN_SECTIONS: Sections = (
    ("price", "Price", "", RunView.write_prices),
    ("depth", "Book depth", "What rested, by how far from the middle of the book.", RunView.write_depth),
    ("liquidations", "Liquidations", "", RunView.write_liquidations),
    ("fund", "Insurance fund", "", RunView.write_fund),
    ("debt", "Bad debt: who paid", "", RunView.write_flow),
    ("policies", "Who would have paid", "", RunView.write_policies),
    ("queue", "ADL queue, before and after", "", RunView.write_queues),
    ("map", "Liquidation map", "By how far the mark would have had to rise or fall.", RunView.write_map),
    ("interest", "Open interest", "", RunView.write_interest),
    ("signs", "Warning signs", "", RunView.write_signs),
    ("parameters", "Parameters and proof", "", RunView.write_parameters),
)
SWEEP_SECTIONS: Sections = (
    ("need", "Fund size", "", SweepView.write_need),
    ("frontier", "Smallest shock", "", SweepView.write_frontier),
    ("likely", "How likely", "", SweepView.write_shares),
    ("much", "How much", "", SweepView.write_amounts),
    ("runs", "Run by run", "", SweepView.write_exceeded),
    ("paired", "Against the first, seed by seed", "", SweepView.write_paired),
    ("parameters", "Parameters and proof", "", SweepView.write_parameters),
)
COMPARED = (
    ("liquidated accounts", "liquidated_accounts", False),
    ("liquidated", "liquidated_quote", True),
    ("fund at the start", "fund_start_quote", True),
    ("fund at its lowest", "fund_low_quote", True),
    ("fund at the end", "fund_end_quote", True),
    ("deficits", "deficit_quote", True),
    ("paid by the fund", "paid_by_fund_quote", True),
    ("paid by ADL", "paid_by_adl_quote", True),
    ("paid by haircut", "paid_by_haircut_quote", True),
    ("unpaid", "unpaid_quote", True),
    ("deleveraged winners", "adl_victims", False),
    ("digest", "digest", False),
)


@cache
def read_asset(name: str) -> str:
    """Return a file that every page carries inside itself."""
    return (ASSETS / name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() + "'"


def name_runs(folders: Sequence[Path]) -> list[str]:
    """Return what a page calls its runs: the folder's name, or as much of the path as tells them apart.

    Raises
    ------
    ConfigError
        If a run is named twice.
    """
    parts = [folder.resolve().parts for folder in folders]
    if len(set(parts)) < len(parts):
        raise ConfigError("report: expected different runs, one is named twice")
    depth = 1
    while len({part[-depth:] for part in parts}) < len(parts):
        depth += 1
    return ["/".join(part[-depth:]) for part in parts]


def compose_page(folders: Sequence[Path], lab: Path | None = None) -> str:
    """Return the report of one run, or of several side by side, as one HTML document.

    Parameters
    ----------
    folders : sequence of path
        Run directories, or folders of the stress lab.
    lab : path, optional
        What `perp lab run --json` told of these runs.

    Raises
    ------
    DataError
        If one is no run, or its files are damaged.
    ConfigError
        If runs and folders of many runs are mixed, or the lab's runs are others.

    Source: REP-001, REP-002, REP-006, REP-007, REP-008.
    """
    canvas = Canvas()
    labels = name_runs(folders)
    kinds = {is_sweep(folder) for folder in folders}
    if len(kinds) > 1:
        raise ConfigError("report: expected runs, or folders of many runs (stress, sweep, ...), not both in one page")
    pairs = enumerate(zip(folders, labels, strict=True))
    if kinds == {True}:
        if lab is not None:
            raise ConfigError("--lab: expected with runs, these are folders of many runs")
        sweeps = [SweepView(folder, label, number, canvas) for number, (folder, label) in pairs]
        head = _place_beside(sweeps, SweepView.write_verdict)
        return _compose(sweeps, SWEEP_SECTIONS, head, labels, canvas)
    views = [RunView(folder, label, number, canvas) for number, (folder, label) in pairs]
    found = read_lab(lab, views) if lab else []
    head = _place_beside(views, RunView.write_verdict)
    if len(views) > 1:
        head += _compare(views) + (compare_lab(found) if len(found) > 1 else "")
    return _compose(views, RUN_SECTIONS, head, labels, canvas)


def _compose(
    views: Sequence[RunView] | Sequence[SweepView],
    sections: Sections,
    header: str,
    labels: Sequence[str],
    canvas: Canvas,
) -> str:
    links = body = ""
    for name, heading, lead, write in sections:
        inner = _place_beside(views, write)
        if inner:
            links += f'<li><a href="#{name}">{heading}</a></li>'
            first = write_paragraph(lead, "lead") if lead else ""
            body += f'<section aria-labelledby="{name}"><h2 id="{name}">{heading}</h2>{first}{inner}</section>'
    title = "Stress report: " + ", ".join(labels)
    library, script = read_asset("uPlot.iife.min.js"), read_asset("report.js")
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src {_hash(library)} {_hash(script)}"
    version = sys.modules["engine"].__version__
    notice = " ".join(read_asset("uPlot.LICENSE").split())
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="color-scheme" content="light dark">'
        f'<meta name="generator" content="perp-engine {version}">'
        f"<title>{escape(title)}</title>"
        f"<style>{read_asset('uPlot.min.css')}\n{read_asset('report.css')}</style></head><body>"
        f'<a class="skip" href="#main">Skip to the charts</a><header><h1>{escape(title)}</h1>{header}'
        f'<nav aria-label="Sections"><ul>{links}</ul></nav></header><main id="main">'
        f'<noscript><p class="noscript">The charts need JavaScript; the tables do not.</p></noscript>{body}</main>'
        f"<footer><p>Made by perp-engine {version} from its own results; nothing here is fetched. "
        f"Drag over a chart to zoom, double-click for the whole.</p>"
        f"<details><summary>Charts by uPlot 1.6.32</summary><p>{escape(notice)}</p></details></footer>"
        f'<script type="application/json" id="data">{embed_json({"pictures": canvas.pictures})}</script>'
        f"<script>{library}</script><script>{script}</script></body></html>\n"
    )


def _place_beside(views: Sequence[Any], write: Callable[[Any], str]) -> str:
    """Return a section of every run, beside each other where there is room; empty where no run has it."""
    inner = [write(view) for view in views]
    if not any(inner):
        return ""
    if len(views) == 1:
        return f'<div class="runs one"><div class="run">{inner[0]}</div></div>'
    parts = (
        f'<div class="run"><h3>{escape(view.label)}</h3>{part}</div>' for view, part in zip(views, inner, strict=True)
    )
    return f'<div class="runs">{"".join(parts)}</div>'


def _compare(views: Sequence[RunView]) -> str:
    """Return the main numbers of several runs in one table."""

    def say(view: RunView, key: str, is_money: bool) -> str:
        value: Any = view.summary[key]
        return view.write.money(value) if is_money else f"{value:,}" if isinstance(value, int) else str(value)

    rows = [[label, *(say(view, key, is_money) for view in views)] for label, key, is_money in COMPARED]
    return write_table("The runs side by side", ("", *(view.label for view in views)), rows)


def write_page(folders: Sequence[Path], out: Path, lab: Path | None = None) -> Path:
    """Write the report to a file, which appears whole or not at all, and return its path.

    Raises
    ------
    ConfigError
        If it cannot be written there.
    DataError
        As of `compose_page`.

    Source: REP-001, CLI-002.
    """
    text = compose_page(folders, lab)
    try:
        write_whole(out, text.encode())
    except OSError as error:
        raise ConfigError(f"--out: {out}: cannot be written: {error.strerror}") from error
    return out
