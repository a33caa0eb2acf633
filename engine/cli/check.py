"""`perp check`: scenario files, one line per scenario, the first difference where one fails."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from engine.cli.arguments import USAGE
from engine.cli.interrupts import ANEW
from engine.cli.warm import load_kernels
from engine.errors import list_known


def add_check(verbs: Any) -> None:
    """Add the verb's arguments."""
    check = verbs.add_parser("check", help="run the scenarios of a file and compare with what they expect")
    check.add_argument("file", type=Path, metavar="FILE", help="scenarios, JSON (perp docs scenarios)")
    check.add_argument("--only", action="append", metavar="ID", help="one scenario; repeat for more; default all")
    check.add_argument(
        "--engine",
        choices=("compiled", "reference", "both"),
        default="compiled",
        help="both: each command through either, events and digests compared (default %(default)s)",
    )
    check.add_argument("--json", action="store_true", help="print one JSON object, nothing else")
    check.set_defaults(verb=run_check)


def run_check(options: argparse.Namespace) -> int:
    """Run a file's scenarios; exit status 1 where one does not end as it expects.

    Source: CLI-002, CHECK-001.
    """
    from engine.check import ScenarioFile, summarise

    file = ScenarioFile(options.file)
    for name in options.only or ():
        if name not in file.forms:
            print(
                f"perp: error: --only: unknown '{name}', {list_known(name, file.forms)}",
                file=sys.stderr,
            )
            return USAGE
    chosen = [name for name in file.forms if not options.only or name in options.only]
    if options.engine != "reference" and file.needs_engine(chosen):
        load_kernels()
    results = []
    for result in file.play(chosen, options.engine):
        results.append(result)
        options.left = f"{len(results):,} of {len(chosen):,} scenarios were played, {ANEW}"
        if not options.json:
            print(result, flush=True)
    summary = summarise(options.file, options.engine, results, len(file.forms) - len(chosen))
    if options.json:
        print(json.dumps(summary, indent=2, ensure_ascii=False))
    else:
        print(f"{summary['passed']} passed, {summary['failed']} failed, {summary['skipped']} not chosen")
    return int(summary["failed"] > 0)
