"""`report.html`: one file, no network, that a risk team can read, print and forward (REP-001..REP-006)."""

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
from engine.report.view import RunView

ASSETS = Path(__file__).parent / "assets"
PAGE = "report.html"
SECTIONS: tuple[tuple[str, str, str, Callable[[RunView], str]], ...] = (
    ("price", "Price", "", RunView.write_prices),
    ("depth", "Book depth", "What rested, by how far from the middle of the book.", RunView.write_depth),
    ("liquidations", "Liquidations", "", RunView.write_liquidations),
    ("fund", "Insurance fund", "", RunView.write_fund),
    ("debt", "Bad debt: who paid", "", RunView.write_flow),
    ("queue", "ADL queue, before and after", "", RunView.write_queues),
    ("map", "Liquidation map", "By how far the mark would have had to rise or fall.", RunView.write_map),
    ("interest", "Open interest", "", RunView.write_interest),
    ("signs", "Warning signs", "", RunView.write_signs),
    ("parameters", "Parameters and proof", "", RunView.write_parameters),
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


def compose_page(folders: Sequence[Path]) -> str:
    """Return the report of one run, or of several side by side, as one HTML document.

    Parameters
    ----------
    folders : sequence of path
        Run directories.

    Raises
    ------
    DataError
        If one is no run, or its files are damaged.

    Source: REP-001, REP-002, REP-006.
    """
    canvas = Canvas()
    labels = name_runs(folders)
    pairs = enumerate(zip(folders, labels, strict=True))
    views = [RunView(folder, label, number, canvas) for number, (folder, label) in pairs]
    header = _place_beside(views, RunView.write_verdict)
    if len(views) > 1:
        header += _compare(views)
    links = body = ""
    for name, heading, lead, write in SECTIONS:
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
        f'<a class="skip" href="#price">Skip to the charts</a><header><h1>{escape(title)}</h1>{header}'
        f'<nav aria-label="Sections"><ul>{links}</ul></nav></header><main>'
        f'<noscript><p class="noscript">The charts need JavaScript; the tables do not.</p></noscript>{body}</main>'
        f"<footer><p>Made by perp-engine {version} from its own events; nothing here is fetched. "
        f"Drag over a chart to zoom, double-click for the whole run.</p>"
        f"<details><summary>Charts by uPlot 1.6.32</summary><p>{escape(notice)}</p></details></footer>"
        f'<script type="application/json" id="data">{embed_json({"pictures": canvas.pictures})}</script>'
        f"<script>{library}</script><script>{script}</script></body></html>\n"
    )


def _place_beside(views: Sequence[RunView], write: Callable[[RunView], str]) -> str:
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


def write_page(folders: Sequence[Path], out: Path) -> Path:
    """Write the report to a file, which appears whole or not at all, and return its path.

    Raises
    ------
    ConfigError
        If it cannot be written there.
    DataError
        As of `compose_page`.

    Source: REP-001, CLI-002.
    """
    text = compose_page(folders)
    try:
        write_whole(out, text.encode())
    except OSError as error:
        raise ConfigError(f"--out: {out}: cannot be written: {error.strerror}") from error
    return out
