"""`perp verify`: a command log replayed, and its digests compared (JRN-006)."""

import argparse
import json
from pathlib import Path
from typing import Any

from engine.cli.arguments import positive
from engine.cli.interrupts import Interrupts, say_kept
from engine.cli.warm import load_kernels

ENGINES = {"compiled": ("compiled",), "reference": ("reference",), "both": ("compiled", "reference")}


def add_verify(verbs: Any) -> None:
    """Add the verb and its arguments."""
    verify = verbs.add_parser("verify", help="replay a command log and compare its digests, in both engines if asked")
    verify.add_argument("folder", type=Path, metavar="DIR", help="of a journal (perp replay --journal, Exchange.open)")
    verify.add_argument("--engine", choices=tuple(ENGINES), default="compiled", help="default %(default)s")
    verify.add_argument("--until-seq", type=positive, metavar="N", help="stop after this many commands")
    verify.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    verify.set_defaults(verb=run_verify)


def run_verify(options: argparse.Namespace) -> int:
    """`perp verify`: 0 where every digest is the state's, 1 where one is not; damage in the middle is bad data."""
    from engine.exchange import verify_journal

    if options.engine != "reference":
        load_kernels()
    with Interrupts() as interrupts:
        found = verify_journal(
            options.folder, ENGINES[options.engine], options.until_seq, should_stop=interrupts.should_stop
        )
    status = 0 if found["equal"] else 1
    if options.json:
        print(json.dumps({"schema": 1, **found}, indent=2))
    else:
        _print_found(found)
    if found["interrupted"] and not status:
        return say_kept(f"{found['commands']:,} commands were replayed without a difference")
    return status


def _print_found(found: dict[str, Any]) -> None:
    print(f"{found['commands']:,} commands, {found['digests']} digests compared in {' and '.join(found['engines'])}")
    for row in found["differences"]:
        print(f"DIFFERS after command {row['seq']:,} in {row['engine']}: log {row['logged']}, state {row['digest']}")
    if found["tail_bytes"]:
        print(f"behind the last sound frame, from byte {found['tail_offset']}, stand {found['tail_bytes']} bytes more:")
        print(f"  {found['tail']}; opening the journal cuts them")
    print(f"digest {found['digest']}")
