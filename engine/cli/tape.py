"""`perp inspect` and `perp convert`: what a recording holds, and the same in another format."""

import argparse
import json
from pathlib import Path
from typing import Any

from engine.cli.interrupts import Interrupts, say_kept
from engine.cli.warm import find_kernels, load_kernels

FOUND = 1
NAME_WIDTH = 25
SAMPLES_SHOWN = 5
# What is shown of every recording, zero or not, with what it means.
FINDINGS = {
    "gaps": "times that updates of a book were lost",
    "resets": "times that a stream began anew with a snapshot",
    "crossed": "book messages after which the best bid reached the best ask",
    "duplicate_stamps": "messages with the venue's stamp of the one before",
    "reversed_stamps": "messages whose venue's stamp lies before that of an earlier one",
    "negative_latency": "messages that arrived before the venue says it sent them",
    "off_book_prints": "trades that met no order of the book",
    "dropped": "rows that cannot be read",
}
# These have their own place on the page; other counts are those of a format.
SHOWN = {*FINDINGS, "rows", "first_ns", "last_ns", "messages", "commands", "bbo_checked", "bbo_equal"}


def add_tape(verbs: Any) -> None:
    """Add the verbs of this module."""
    inspect = verbs.add_parser("inspect", help="say what a tape holds and what is wrong with it")
    inspect.add_argument("tape", nargs="+", type=Path, metavar="TAPE", help="files or folders")
    inspect.add_argument(
        "--market",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="market file: only its rows, in its units, and what memory a replay takes; repeat for more",
    )
    inspect.add_argument("--strict", action="store_true", help="stop at the first fault (exit 4) instead of counting")
    inspect.set_defaults(verb=run_inspect)
    convert = verbs.add_parser("convert", help="write a tape in another format")
    convert.add_argument("tape", nargs="+", type=Path, metavar="IN", help="files or folders")
    convert.add_argument("out", type=Path, metavar="OUT", help="a folder, or a file *.npz")
    convert.add_argument(
        "--to",
        choices=("tardis", "parquet", "npz"),
        help="default: npz for *.npz, parquet for *.parquet (a folder too), else tardis",
    )
    convert.add_argument(
        "--market",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="market file: only its rows; needed for npz; repeat for more",
    )
    convert.add_argument("--lenient", action="store_true", help="leave out and count what cannot be read")
    convert.add_argument("--overwrite", action="store_true", help="replace an earlier conversion")
    convert.set_defaults(verb=run_convert)
    for added in (inspect, convert):
        added.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def run_inspect(options: argparse.Namespace) -> int:
    """`perp inspect`: exit 1 where the recording has faults (CLI-002).

    Source: FEED-011, FEED-012.
    """
    from engine.contract import build_setup, load_market
    from engine.feeds.inspect import inspect_tape
    from engine.memory import BookMeter, describe_setup, describe_units

    markets = [load_market(path) for path in options.market]
    _prepare()
    meter = BookMeter() if markets else None
    with Interrupts() as interrupts:
        facts = inspect_tape(
            options.tape, markets, is_strict=options.strict, meter=meter, should_stop=interrupts.should_stop
        )
    memory: dict[str, Any] = describe_units()
    if meter is not None:
        memory = describe_setup(build_setup(markets)) | meter.describe()
    is_sound = not facts["faults"] and not facts["crossed"]
    if options.json:
        print(json.dumps({"schema": 1, **facts, "memory": memory}, indent=2))
    else:
        _print_page(options, facts, memory, is_sound)
    if facts["interrupted"]:
        return say_kept(f"what is printed is of the first {facts['rows']:,} rows")
    return 0 if is_sound else FOUND


def _print_page(options: argparse.Namespace, facts: dict[str, Any], memory: dict[str, Any], is_sound: bool) -> None:
    from engine.memory import format_memory, format_units

    lines = _describe(facts)
    if not options.market:
        lines.append(("memory of a replay", f"{format_units(memory)}; with --market more is known"))
    else:
        lines += [(name.replace("_", " "), text) for name, text in format_memory(memory).items()]
    tape = str(options.tape[0]) if len(options.tape) == 1 else "TAPE..."
    files = " ".join(f"--market {path}" for path in options.market) or "--market FILE"
    lines += [("", ""), ("next", f"perp replay {tape} {files}" + ("" if is_sound else " --lenient"))]
    for name, text in lines:
        print(f"{name:{NAME_WIDTH - 1}} {text}".rstrip())


def _prepare() -> None:
    """Compile what has never been compiled here, saying so."""
    if not find_kernels()[1]:
        load_kernels()


def _describe(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the page of a recording as names and texts."""
    from engine.report import format_time

    lines = [("recording of", ", ".join(f"{row['symbol']} ({row['exchange']})" for row in facts["instruments"]))]
    if facts["first_ns"]:
        seconds = (facts["last_ns"] - facts["first_ns"]) / 1e9
        lines.append(("time", f"{format_time(facts['first_ns'])} to {format_time(facts['last_ns'])}, {seconds:,.1f} s"))
    for file in facts["files"]:
        whose = f"{file['exchange']} {file['symbol']}".strip()
        lines.append((file["format"], " ".join(word for word in (file["kind"], whose, file["file"]) if word)))
    lines += [("left alone", f"{row['file']}: {row['reason']}") for row in facts["skipped"]]
    lines += [("", ""), ("rows", f"{facts['rows']:,} of the files, {facts['messages']:,} messages")]
    lines += [(f"  {name}", f"{count:,}") for name, count in facts["streams"].items()]
    lines += [("", "")]
    lines += [(name.replace("_", " "), f"{facts[name]:>9,}  {what}") for name, what in FINDINGS.items()]
    lines += [(f"  {reason}", f"{count:>9,}") for reason, count in facts["dropped_by"].items()]
    others = {name: count for name, count in facts.items() if isinstance(count, int) and name not in SHOWN}
    lines += [(name.replace("_", " "), f"{count:>9,}") for name, count in others.items() if count]
    checked = f"{facts['bbo_equal']:>9,}  of {facts['bbo_checked']:,} book messages have the best prices last quoted"
    lines.append(("best prices", checked))
    for fault in facts["faults"][:SAMPLES_SHOWN]:
        lines.append((f"fault: {fault['kind']}", fault["error"]))
    lines.append(("", ""))
    return lines


def run_convert(options: argparse.Namespace) -> int:
    """`perp convert`.

    Source: FEED-065.
    """
    from engine.contract import load_market
    from engine.feeds.convert import convert_tape

    markets = [load_market(path) for path in options.market]
    if options.to == "npz" or (options.to is None and options.out.suffix == ".npz"):
        _prepare()
    facts = convert_tape(
        options.tape,
        options.out,
        options.to,
        markets,
        is_strict=not options.lenient,
        is_replaced=options.overwrite,
    )
    if options.json:
        print(json.dumps({"schema": 1, **facts}, indent=2))
        return 0
    print(f"{facts['out']}: {facts['to']}, " + ", ".join(f"{name} {count:,}" for name, count in facts["rows"].items()))
    for file in facts["files"]:
        print(f"  {file['file']}: {file['rows']:,} rows")
    for row in facts["skipped"]:
        print(f"left alone: {row['file']}: {row['reason']}")
    if facts["gaps"] or facts["dropped"]:
        print(f"{facts['gaps']:,} gaps, {facts['dropped']:,} rows left out: perp inspect says where")
    for loss in facts["lossy"]:
        print(f"not held: {loss['rows']:,} {loss['why']}")
    return 0
