"""`perp lab`: who paid under which policy, in runs of ours and in the papers' data."""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.errors import ConfigError

GAP = "5s"  # that of the papers


def add_lab(verbs: Any) -> None:
    """Add the verb's experiments and their arguments."""
    lab = verbs.add_parser("lab", help="the allocations of losses compared: regret, fairness, solvency")
    kinds = lab.add_subparsers(title="experiments", metavar="WHAT", required=True)
    run = kinds.add_parser("run", help="what winners paid in a run, and what each policy would have made of it")
    run.add_argument("run", nargs="+", type=Path, metavar="RUN", help="run directories with their events")
    run.add_argument(
        "--gap", type=_duration, default=GAP, metavar="T", help="what parts two waves (250ms, 5s; default %(default)s)"
    )
    run.add_argument(
        "--horizon", type=_duration, default="0s", metavar="T", help="when after a wave closes are marked out"
    )
    run.add_argument(
        "--score", action="append", default=[], metavar="NAME", help="queues by this score too; repeat for more"
    )
    run.add_argument(
        "--rule", action="append", default=[], metavar="FILE.py:FUNCTION", help="an allocation of your own beside these"
    )
    _end(run, run_lab_run)
    oct10 = kinds.add_parser("oct10", help="10 October 2025: the table of arXiv 2602.15182, or its shape simulated")
    chosen = oct10.add_mutually_exclusive_group(required=True)
    chosen.add_argument("--from", dest="file", type=Path, metavar="FILE", help="the paper's waves, CSV")
    chosen.add_argument("--scenario", type=Path, metavar="FILE", help="a crash of several coins, TOML")
    oct10.add_argument("--seed", type=int, metavar="N", help="instead of the scenario's")
    _end(oct10, run_lab_oct10)


def _end(parser: Any, verb: Callable[[argparse.Namespace], int]) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object, nothing else")
    parser.set_defaults(verb=verb)


def _duration(text: str) -> int:
    """Return a duration in ns."""
    from engine.scenario.shock import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def run_lab_run(options: argparse.Namespace) -> int:
    """Compare policies on the waves of runs.

    Source: LAB-003, OWN-002, CLI-002.
    """
    from engine.lab.compare import describe_run
    from engine.lab.table import compose_page
    from engine.reference.own import load_rule

    rules = [load_rule(text) for text in options.rule]
    found = [describe_run(folder, options.gap, options.horizon, options.score, rules) for folder in options.run]
    if options.json:
        print(json.dumps({"schema": 1, "gap_ns": options.gap, "horizon_ns": options.horizon, "runs": found}, indent=2))
    else:
        sys.stdout.write(compose_page(found))
    return 0


def run_lab_oct10(options: argparse.Namespace) -> int:
    """Rebuild the paper's table, and count a loss that is repeated once; or run a scenario beside what was published.

    Source: LAB-011, OCT-003, CLI-002.
    """
    if options.scenario is not None:
        return _run_crash(options)
    if options.seed is not None:
        raise ConfigError("--seed: expected with --scenario, a paper's table has none")
    from engine.lab.oct10 import compose_table, describe

    facts = describe(options.file)
    sys.stdout.write(json.dumps(facts, indent=2) + "\n" if options.json else compose_table(facts))
    return 0


def _run_crash(options: argparse.Namespace) -> int:
    import msgspec

    from engine.cli.warm import load_kernels
    from engine.lab.crash import compose_crash, describe_crash, play_crash
    from engine.scenario.crash import load_crash

    config = load_crash(options.scenario)
    if options.seed is not None:
        if not 0 <= options.seed < 1 << 63:
            raise ConfigError(f"--seed: expected 0 to {(1 << 63) - 1}, got {options.seed}")
        config = msgspec.structs.replace(config, seed=options.seed)
    load_kernels()
    played = play_crash(config)
    facts = describe_crash(config, played)
    sys.stdout.write(json.dumps(facts, indent=2) + "\n" if options.json else compose_crash(facts))
    print(f"{played.seconds:.1f} s", file=sys.stderr)
    return 0
