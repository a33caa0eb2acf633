"""`perp attack`: what attacks on liquidation, fund and ADL bring under each policy, and who pays."""

import argparse
import json
from pathlib import Path
from typing import Any

from engine.cli.interrupts import ANEW
from engine.cli.warm import load_kernels
from engine.errors import ConfigError, list_known


def add_attack(verbs: Any) -> None:
    """Add the verb's arguments."""
    attack = verbs.add_parser("attack", help="play attacks on liquidation, fund and ADL: the gain per policy, who pays")
    attack.add_argument("file", type=Path, nargs="?", metavar="FILE", help="attacks, JSON (default: our own)")
    attack.add_argument("--only", action="append", metavar="ID", help="one attack; repeat for more; default all")
    attack.add_argument(
        "--policy",
        action="append",
        metavar="P",
        help="a name of the file, venue:NAME, or adl.score=binance,...; repeat for more; default each attack's own",
    )
    attack.add_argument(
        "--engine", choices=("compiled", "reference", "both"), default="compiled", help="same results (%(default)s)"
    )
    attack.add_argument("--json", action="store_true", help="print one JSON object, nothing else")
    attack.set_defaults(verb=run_attack)


def run_attack(options: argparse.Namespace) -> int:
    """Play the attacks of a file and print their tables.

    Source: ATK-003, CLI-002.
    """
    from engine.lab.attacks import AttackFile, compose_attack, describe_attack

    file = AttackFile(options.file)
    for name in options.only or ():
        if name not in file.forms:
            raise ConfigError(f"--only: unknown '{name}', {list_known(name, file.forms)}")
    if options.engine != "reference":
        load_kernels()
    found: list[dict[str, Any]] = []
    for name in file.forms:
        if options.only and name not in options.only:
            continue
        options.left = f"{len(found):,} attacks were played, {ANEW}"
        found.append(describe_attack(file, name, options.policy or file.list_policies(name), options.engine))
        if not options.json:
            print(("\n" if len(found) > 1 else "") + compose_attack(found[-1]), end="", flush=True)
    if options.json:
        print(json.dumps({"schema": 1, "file": file.path.name, "engine": options.engine, "attacks": found}, indent=2))
    return 0
