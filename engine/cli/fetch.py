"""`perp fetch`: recordings from the network, one line per file, progress while they come."""

import argparse
import json
import os
import sys
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from engine.cli.arguments import positive
from engine.cli.interrupts import compose_again

if TYPE_CHECKING:
    from datetime import date

    from engine.fetch import Fetched

FETCH_OUT = Path("tapes")
SHOW_EVERY_S = 0.1
MEGABYTE = 1_000_000


def add_fetch(verbs: Any) -> None:
    """Add the verb's sources and their arguments."""
    fetch = verbs.add_parser("fetch", help="download recordings to replay")
    sources = fetch.add_subparsers(title="sources", metavar="SOURCE", required=True)
    tardis = sources.add_parser(
        "tardis",
        help="Tardis.dev's CSV files: the first day of each month is free",
        epilog="Any other day needs a key of theirs in the environment variable TARDIS_API_KEY.  "
        "What was cut off goes on where it stopped when the same command is given again.",
    )
    tardis.add_argument("exchange", metavar="EXCHANGE", help="Tardis.dev's name of it: binance-futures")
    tardis.add_argument("symbols", type=split_names, metavar="SYMBOL[,...]", help="BTCUSDT")
    tardis.add_argument("days", type=read_days, metavar="DATE[,...]", help="2024-08-01, or FIRST..LAST")
    tardis.add_argument(
        "--types",
        type=split_names,
        metavar="TYPE[,...]",
        help="default: what a replay takes, trades,incremental_book_L2,derivative_ticker",
    )
    tardis.add_argument("--out", type=Path, default=FETCH_OUT, metavar="DIR", help="folder (default %(default)s)")
    tardis.add_argument("--base-url", metavar="URL", help="a mirror instead of https://datasets.tardis.dev/v1")
    tardis.add_argument(
        "--retries", type=positive, metavar="N", help="failures in a row, without a byte more, to put up with (5)"
    )
    tardis.add_argument("--resume", action="store_true", help="go on with what was cut off, as without it too")
    tardis.add_argument("--json", action="store_true", help="print one JSON object, nothing else")
    tardis.add_argument("--progress", action="store_true", help="show progress even where stderr is no terminal")
    tardis.set_defaults(verb=run_fetch_tardis)


def split_names(text: str) -> list[str]:
    """Return the names between commas."""
    names = text.split(",")
    if not all(names):
        raise argparse.ArgumentTypeError(f"expected names with commas between them, got {text!r}")
    return names


def read_days(text: str) -> list["date"]:
    """Return the days a text names."""
    from engine.fetch import parse_days

    try:
        return parse_days(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected dates like 2024-08-01: {error}") from error


class Transfer:
    """One line on stderr that is written over: how much of the file that comes is there, and the rate."""

    def __init__(self, *, is_shown: bool) -> None:
        self.is_shown = is_shown
        self._name, self._shown_s, self._begun_s, self._begun_size, self._width = "", 0.0, 0.0, 0, 0

    def show(self, name: str, size: int, total: int | None) -> None:
        """Show how far a file is."""
        now = perf_counter()
        if name != self._name:
            self._name, self._begun_s, self._begun_size, self._shown_s = name, now, size, 0.0
        if not self.is_shown or (now - self._shown_s < SHOW_EVERY_S and size != total):
            return
        self._shown_s = now
        rate = (size - self._begun_size) / max(now - self._begun_s, 1e-9)
        of = f"of {total / MEGABYTE:,.1f} MB {100 * size // max(total, 1):>3} %" if total is not None else "MB"
        line = f"{name}  {size / MEGABYTE:,.1f} {of}  {rate / MEGABYTE:,.1f} MB/s"
        print(f"\r{line:<{self._width}}", end="", file=sys.stderr, flush=True)
        self._width = len(line)

    def say(self, text: str) -> None:
        """Say something on a line of its own."""
        self.clear()
        print(f"perp: {text}", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """End the line, so that what follows has its own."""
        if self._width:
            print(file=sys.stderr)
            self._width = 0


def run_fetch_tardis(options: argparse.Namespace) -> int:
    """Download what is not there yet.

    Source: FETCH-006, CLI-002.
    """
    from engine.feeds.tardis import REPLAYED
    from engine.fetch import BASE_URL, KEY_VARIABLE, RETRIES, fetch_datasets, list_datasets
    from engine.files import write_whole

    begun = perf_counter()
    is_new = not options.out.exists()
    transfer = Transfer(is_shown=options.progress or (sys.stderr.isatty() and not options.json))
    results = []
    options.left = f"what came is kept in {options.out}; go on with: {compose_again(options)}"
    try:
        for result in fetch_datasets(
            list_datasets(options.exchange, options.symbols, options.days, options.types or REPLAYED),
            options.out,
            base_url=options.base_url or BASE_URL,
            api_key=os.environ.get(KEY_VARIABLE, "").strip(),
            retries=options.retries or RETRIES,
            on_progress=transfer.show,
            on_retry=transfer.say,
        ):
            results.append(result)
            transfer.clear()
            if not options.json:
                print(format_fetched(result), flush=True)
    finally:
        transfer.clear()
        if is_new and options.out == FETCH_OUT and options.out.exists():
            # Somebody's repository may be around us: what we leave in it is not for its history.
            write_whole(options.out / ".gitignore", b"*\n")
    summary = summarise(results, perf_counter() - begun)
    if options.json:
        print(json.dumps(summary, indent=2, ensure_ascii=False))
    else:
        count = f"{len(results)} file{'s' * (len(results) != 1)}"
        print(
            f"{count}, {summary['bytes']:,} bytes, {summary['fetched_bytes']:,} of them fetched in "
            f"{summary['seconds']:.1f} s, {summary['resumed']} resumed"
        )
    return 0


def format_fetched(result: "Fetched") -> str:
    """Return one dataset's line."""
    if result.state == "empty":
        return f"{'empty':8} {'':>15}  {result.file}: Tardis.dev has no data, no file is kept"
    return f"{result.state:8} {result.size_bytes:>15,}  {result.file}"


def summarise(results: list["Fetched"], seconds: float) -> dict[str, Any]:
    """Return what `--json` prints.

    Source: FETCH-006.
    """
    return {
        "schema": 1,
        "files": [
            {
                "file": str(result.file),
                "url": result.url,
                "state": result.state,
                "bytes": result.size_bytes,
                "fetched_bytes": result.fetched_bytes,
            }
            for result in results
        ],
        "bytes": sum(result.size_bytes for result in results),
        "fetched_bytes": sum(result.fetched_bytes for result in results),
        "seconds": round(seconds, 3),
        "resumed": sum(result.state == "resumed" for result in results),
    }
