"""`perp log`: what became of whom in a run, row by row, as CSV or JSON Lines."""

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import ConfigError, suggest

if TYPE_CHECKING:
    from engine.runs import LoadedRun, Table

LOGS = {
    "liquidations": "every close of a liquidation",
    "adl": "every close against a winner",
    "deficits": "every deficit, and who paid it",
    "fund": "every entry of the funds",
    "trades": "every trade in the book",
    "positions": "open positions at the end, or before --to",
    "ranks": "the ADL queues then, first in line first",
}
STANDING = ("positions", "ranks")
PEOPLE = ("account", "victim", "maker")


def add_log(verbs: Any) -> None:
    """Add the verb and its arguments."""
    log = verbs.add_parser("log", help="a run's liquidations, ADL, deficits, fund, trades, positions, row by row")
    log.add_argument("run", type=Path, metavar="RUN", help="run directory with its events")
    kind = log.add_mutually_exclusive_group(required=True)
    for name, what in LOGS.items():
        kind.add_argument(f"--{name}", dest="log", action="store_const", const=name, help=what)
    log.add_argument("--format", choices=("csv", "jsonl"), default="csv", help="default %(default)s")
    log.add_argument("--market", action="append", default=[], metavar="SYMBOL", help="only of it; repeat for more")
    log.add_argument(
        "--account", action="append", default=[], metavar="A", help="only of it, name or number; repeat for more"
    )
    log.add_argument(
        "--from", dest="since", metavar="T", help="from this time on: 2025-10-10T21:15:00 (UTC), or 30s in"
    )
    log.add_argument("--to", dest="until", metavar="T", help="before this time")
    log.add_argument(
        "--names", choices=("tardis", "ccxt"), default="tardis", help="of the columns (default %(default)s)"
    )
    log.set_defaults(verb=run_log)


def run_log(options: argparse.Namespace) -> int:
    """Print one log of a run.

    Source: LOG-001..LOG-005, LOG-007, CLI-002.
    """
    from engine.runs import load_run
    from engine.runs.ccxt import TYPES, flatten_objects, rename_as_ccxt

    if options.names == "ccxt" and options.log not in TYPES:
        raise ConfigError(f"--names ccxt: ccxt has names for {', '.join(TYPES)}, not for {options.log}")
    run = load_run(options.run)
    table: Table = filter_log(run, _read_log(run, options), options)
    if options.names == "ccxt":
        table = rename_as_ccxt(run.record, table, options.log)
        if options.format == "csv":
            table = flatten_objects(table)
    sys.stdout.write(table.compose_csv() if options.format == "csv" else table.compose_jsonl())
    return 0


def _read_log(run: "LoadedRun", options: argparse.Namespace) -> "Table":
    """Return the log that was asked for; what stands at some moment is rebuilt from the events before it."""
    until = parse_time(options.until, int(run.summary["first_ns"]), "--to")
    if options.log not in STANDING or until is None:
        found: Table = getattr(run, options.log)
        return found
    from engine.runs.standing import build_positions, build_ranks

    positions = build_positions(run.record, run.events[run.events["ts_ns"] < until])
    return build_ranks(positions) if options.log == "ranks" else positions


def filter_log(run: "LoadedRun", table: "Table", options: argparse.Namespace) -> "Table":
    """Return the rows that were asked for.

    Raises
    ------
    ConfigError
        For a market the run does not have, a name nobody has, or a time that is none.

    Source: LOG-004.
    """
    from engine.runs.people import find_accounts

    known = [market.symbol for market in run.record.markets]
    for symbol in options.market:
        if symbol not in known:
            raise ConfigError(f"--market: unknown '{symbol}', the run has: {', '.join(known)}{suggest(symbol, known)}")
    first_ns = int(run.summary["first_ns"])
    since, until = (
        parse_time(text, first_ns, option) for text, option in ((options.since, "--from"), (options.until, "--to"))
    )
    times = run_times(table)
    places = list(range(len(table)))
    if options.market:
        places = [at for at in places if table.columns["symbol"][at] in options.market]
    if options.account:
        wanted = {account for who in options.account for account in find_accounts(run.record, who)}
        people = [table.columns[name] for name in PEOPLE if name in table.columns]
        places = [at for at in places if any(column[at] in wanted for column in people)]
    if since is not None or until is not None:
        places = [at for at in places if (since is None or times[at] >= since) and (until is None or times[at] < until)]
    return table.take(places)


def run_times(table: "Table") -> list[int]:
    """Return the times of rows in ns."""
    return [
        stamp // 1_000_000 * 1_000_000_000 + int(text[20:29])
        for stamp, text in zip(table.columns["timestamp"], table.columns["datetime"], strict=True)
    ]


def parse_time(text: str | None, first_ns: int, option: str) -> int | None:
    """Return a time in ns since 1970: ISO 8601 (UTC where it names no zone), or a duration after the tape's start.

    Raises
    ------
    ConfigError
        If it is neither.
    """
    from engine.scenario.shock import parse_duration

    if text is None:
        return None
    try:
        return first_ns + parse_duration(text)
    except ValueError:
        pass
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(f"{option}: expected a time like 2025-10-10T21:15:00 or 30s, got {text!r}") from error
    time = time.replace(tzinfo=UTC) if time.tzinfo is None else time
    # a float of seconds would be off by nanoseconds: whole seconds and microseconds apart
    return int(time.replace(microsecond=0).timestamp()) * 1_000_000_000 + time.microsecond * 1_000
