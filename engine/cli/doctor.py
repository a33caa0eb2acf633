"""`perp doctor`: what this installation runs on, what is wrong with it, what helps."""

import argparse
import json
from typing import Any

import engine

FOUND = 1


def add_doctor(verbs: Any) -> None:
    """Add the verb and its arguments."""
    doctor = verbs.add_parser("doctor", help="say what this installation runs on, what is wrong with it, what helps")
    doctor.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    doctor.set_defaults(verb=run_doctor)


def run_doctor(options: argparse.Namespace) -> int:
    """`perp doctor`: 1 where something is broken.

    Source: CLI-030, CLI-031, CLI-002.
    """
    import platform

    from engine.cli.health import BROKEN, WARNING, count_cores, describe_cpu, examine

    checks = list(examine())
    broken = [check for check in checks if check.state == BROKEN]
    system = {"platform": platform.platform(), "cpu": describe_cpu(), "cores": count_cores()}
    if options.json:
        rows = [check._asdict() for check in checks]
        facts = {"schema": 1, "version": engine.__version__, "sound": not broken, **system, "checks": rows}
        print(json.dumps(facts, indent=2))
        return FOUND if broken else 0
    print(f"perp-engine {engine.__version__} on {system['platform']}, {system['cpu']}, {system['cores']} cores\n")
    for check in checks:
        print(f"{check.state:9}{check.name:18}{check.found}")
        for name, text in (("expected", check.expected), ("next", check.next)):
            if text:
                print(f"{'':9}  {name:16}{text}")
    counts = [
        f"{count} {state}" for state in (BROKEN, WARNING) if (count := [row.state for row in checks].count(state))
    ]
    print(f"\n{', '.join(counts) or 'all is well'}")
    return FOUND if broken else 0
