"""`perp report`: finished runs as one HTML file."""

import argparse
import json
from pathlib import Path
from typing import Any


def add_report(verbs: Any) -> None:
    """Add the verb and its arguments."""
    report = verbs.add_parser("report", help="finished runs as one HTML page: the verdict, charts, who paid")
    report.add_argument(
        "run",
        nargs="+",
        type=Path,
        metavar="RUN",
        help="run directories, or folders of stress, sweep, size-fund, find-shock; several side by side",
    )
    report.add_argument(
        "--out", type=Path, metavar="FILE", help="default: report.html in the run directory, or here for several"
    )
    report.add_argument(
        "--lab", type=Path, metavar="FILE", help="what perp lab run --json told of these runs: its table goes in"
    )
    report.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    report.set_defaults(verb=run_report)


def run_report(options: argparse.Namespace) -> int:
    """Write the page.

    Source: REP-001, REP-007, REP-008, CLI-002.
    """
    from engine.report.page import PAGE, write_page

    out = options.out or (options.run[0] / PAGE if len(options.run) == 1 else Path(PAGE))
    written = write_page(options.run, out, options.lab)
    if options.json:
        facts = {"schema": 1, "report": str(written), "bytes": written.stat().st_size, "runs": len(options.run)}
        print(json.dumps(facts, indent=2))
    else:
        print(f"report: {written}")
    return 0
