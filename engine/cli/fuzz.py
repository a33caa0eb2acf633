"""`perp fuzz`: hostile streams through both engines (FUZZ-002)."""

import argparse
import json
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

from engine.cli.arguments import positive
from engine.cli.interrupts import Interrupts, compose_again, say_kept
from engine.cli.warm import load_kernels


def add_fuzz(verbs: Any) -> None:
    """Add the verb and its arguments."""
    fuzz = verbs.add_parser("fuzz", help="hostile random streams through both engines and the auditor")
    fuzz.add_argument("--seed", type=int, default=1, metavar="N", help="the same seed, the same streams (%(default)s)")
    fuzz.add_argument("--steps", type=positive, default=20_000, metavar="M", help="commands (default %(default)s)")
    fuzz.add_argument(
        "--out", type=Path, default=Path("."), metavar="DIR", help="where a failing stream is kept (default: here)"
    )
    fuzz.add_argument(
        "--resume", type=int, default=0, metavar="STREAM", help="begin with this stream: an interrupted run says which"
    )
    fuzz.add_argument("--replay", type=Path, metavar="FILE", help="play a kept stream again instead")
    fuzz.add_argument("--progress", action="store_true", help="show progress even where stderr is no terminal")
    fuzz.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    fuzz.set_defaults(verb=run_fuzz)


def run_fuzz(options: argparse.Namespace) -> int:
    """`perp fuzz`: 0 where nothing was found, 1 where a stream fails, 130 interrupted."""
    from engine.fuzz import fuzz, replay_failure

    load_kernels()
    if options.replay:
        error = replay_failure(options.replay)
        if options.json:
            print(json.dumps({"schema": 1, "file": str(options.replay), "error": error or None}, indent=2))
        else:
            print(error or "plays without a difference")
        return 1 if error else 0
    is_shown = options.progress or (sys.stderr.isatty() and not options.json)
    started = perf_counter()

    def show(done: int, streams: int) -> None:
        left = (options.steps - done) * (perf_counter() - started) / max(done, 1)
        text = f"\r{done:>12,} of {options.steps:,} commands in {streams:,} streams, {left:,.0f} s left "
        print(text, end="", file=sys.stderr, flush=True)

    with Interrupts() as interrupts:
        found = fuzz(
            options.seed,
            options.steps,
            first=options.resume,
            folder=options.out,
            on_progress=show if is_shown else None,
            should_stop=interrupts.should_stop,
        )
    found["seconds"] = round(perf_counter() - started, 3)
    if is_shown:
        print(file=sys.stderr)
    failure = found["failure"]
    if options.json:
        print(json.dumps({"schema": 1, **found}, indent=2))
    else:
        print(f"{found['steps']:,} commands in {found['streams']:,} streams, {found['seconds']:,.1f} s")
        print(", ".join(f"{name} {count:,}" for name, count in found["event_kinds"].items()))
        if failure:
            print(f"FAILED: stream {failure['stream']}, {failure['commands']} of {failure['of']} commands are enough:")
            print(failure["error"])
            print(f"again: perp fuzz --replay {failure['file']}")
        else:
            print("no difference between the engines, nothing the auditor or the invariants object to")
    if failure:
        return 1
    if not found["interrupted"]:
        return 0
    rest = ("--steps", str(options.steps - found["steps"]), "--resume", str(options.resume + found["streams"]))
    again = compose_again(options, *rest, without=("--steps", "--resume"))
    return say_kept(f"{found['streams']:,} streams are done", again)
