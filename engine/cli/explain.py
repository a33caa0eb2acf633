"""`perp explain`: one account's story, from a finished run."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from engine.cli.arguments import positive


def add_explain(verbs: Any) -> None:
    """Add the verb and its arguments."""
    explain = verbs.add_parser("explain", help="one account's story: its rank, its liquidation, who paid and was paid")
    explain.add_argument("run", type=Path, metavar="RUN", help="a run directory with its events")
    explain.add_argument("--account", required=True, metavar="A", help="its name or number")
    explain.add_argument(
        "--looks", type=positive, default=10, metavar="N", help="at how many times it is ranked (default %(default)s)"
    )
    explain.add_argument("--json", action="store_true", help="print one JSON object, nothing else")
    explain.set_defaults(verb=run_explain)


def run_explain(options: argparse.Namespace) -> int:
    """Tell the story.

    Source: EXPL-001, CLI-002.
    """
    from engine.explain import compose_story, explain_account

    story = explain_account(options.run, options.account, options.looks)
    if options.json:
        print(json.dumps(story, indent=2))
    else:
        sys.stdout.write(compose_story(story))
    return 0
