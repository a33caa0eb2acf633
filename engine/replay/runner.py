"""The runner: opening, tape, checks, tally, output (CLI-001).

Commands come in this order: per market the tape's first mark, deposits into the funds, the population; all stamped
with the tape's first stamp. Then the tape, bent by the shock.
"""

import hashlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.audit import check_state
from engine.codes import BUY, FUND_DEPOSIT, INDEX, MARK, PRINT
from engine.contract import Market, Setup, build_setup
from engine.errors import CapacityError, ConfigError, DataError, InvariantError, list_known
from engine.exchange import Capacity, Exchange
from engine.feeds import AheadFeed, Feed, find_first_marks
from engine.journal import LOG
from engine.layout import COMMAND
from engine.replay.files import LIQUIDATIONS, REPRODUCTION, RunFolder
from engine.replay.past import LoggedPast
from engine.replay.tally import Tally
from engine.replay.timeline import Timeline
from engine.report import compose_report, compose_verdict
from engine.scenario import Population, Shock, build_population, read_positions, warp
from engine.signs import SECOND_NS, Sampler
from engine.table import Table, Tabular, pick_plain, tabulate_rows
from engine.units import count_units, parse_decimal

Commands = NDArray[np.void]
Progress = Callable[[int, int], None]

SCHEMA = 1
REPRODUCTION_FORMAT = 1
SAMPLE_REST = (4_000, 3)  # commands, and commands per position, that cost forty times what a sample does
CHUNK = 65_536  # commands between two checks of conservation
# Between two pieces a run shows progress and can be stopped; what takes longer than it may comes in smaller ones.
PIECES = {"compiled": CHUNK, "reference": 512}
WATCHED = 4_096  # commands between two looks of somebody who watches, at most: some milliseconds
PIECE_LEAST, PIECE_S = 16, 0.1


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to run.

    Parameters
    ----------
    markets : sequence of Market
        In index order, all settling in one asset.
    feed : Feed
        The tape.
    populations : sequence of Population or path
        A drawn crowd belongs to the market at its own place in the sequence; a path is a CSV or Parquet file of real
        positions, which name their markets.
    shock : Shock, optional
        How prices and depth depart from the tape.
    funds : mapping
        Fund name -> what it starts with, in units of its asset (`count_fund`).
    engine : {"compiled", "reference"}
        Same events and digest (STATE-003).
    accounts_max : int, optional
        Accounts the exchange has room for, the outside included.
    positions_max, orders_max : int, optional
        Positions and resting orders it has room for, the outside's included.
    until_seq : int, optional
        Stop after this many commands.
    journal : path, optional
        Folder of a command log, begun anew: `Exchange.open` and `perp verify` read it (JRN-001).
    resume : bool
        Whether the log there is that of this run, cut off: the run is the same as without that, and the log goes on
        where it ended (JRN-009).
    indexes : mapping
        As the feed was opened with (FEED-010); for the summary.
    lenient : bool
        Whether the feed leaves out what cannot be read (FEED-012); for the summary.
    sample_ns : int, optional
        Time between two samples of the warning signs, 0 for none; by default a second, or as much more as keeps their
        cost below three percent of the run.
    inputs : sequence of (role, path)
        Files the plan was read from; their SHA-256 go into the summary.
    """

    markets: Sequence[Market]
    feed: Feed
    populations: Sequence[Population | Path] = ()
    shock: Shock | None = None
    funds: Mapping[str, int] = field(default_factory=dict)
    engine: str = "compiled"
    accounts_max: int | None = None
    positions_max: int | None = None
    orders_max: int | None = None
    until_seq: int | None = None
    journal: Path | None = None
    resume: bool = False
    indexes: Mapping[str, str] = field(default_factory=dict)
    lenient: bool = False
    sample_ns: int | None = None
    inputs: Sequence[tuple[str, Path]] = ()


class BentFeed:
    """A feed with a shock on it."""

    def __init__(self, feed: Feed, shock: Shock) -> None:
        self.feed, self.shock = feed, shock
        self.symbols, self.counts = feed.symbols, feed.counts

    def chunks(self, rows: int = CHUNK) -> Iterator[Commands]:
        """Yield the tape, bent; every call starts at the beginning."""
        for chunk in warp(self.feed.chunks(rows), self.shock, len(self.symbols), rows=rows):
            self.counts = self.feed.counts
            yield chunk


class Watcher(Protocol):
    """Somebody who looks at a run between its pieces, and may say where they end; nothing else (WATCH-001)."""

    def begin(
        self,
        exchange: Exchange,
        tally: Tally,
        first_ns: int,
        names: Mapping[int, str],
        should_stop: Callable[[], bool] | None,
    ) -> None:
        """Take note of what runs, before its first command."""

    def find_cut(self, ts_ns: NDArray[np.int64]) -> int:
        """Return how many of the commands with these times (at least one) come before the next look; may wait."""

    def look(self, commands: int, ts_ns: int, events: Commands) -> None:
        """Look: so many commands are done, the last at this time; these are the piece's events."""


@dataclass(frozen=True)
class Run(Tabular):
    """What came out: the summary (CLI-001), the folder if there is one, the exchange as the run left it, warning signs.

    `signs` are SIGNS rows (SIGN-001).  As a table it is one row, the plain numbers of its summary.
    """

    summary: dict[str, Any]
    folder: Path | None
    exchange: Exchange
    signs: NDArray[np.void]

    def to_table(self) -> Table:
        """Return the summary as one row."""
        return tabulate_rows([pick_plain(self.summary)])


def run_replay(
    plan: Plan,
    *,
    out: str | Path | None = None,
    events: str = "npz",
    on_progress: Progress | None = None,
    on_events: Callable[[Commands, Commands], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    watcher: Watcher | None = None,
) -> Run:
    """Run a plan to its end.

    Parameters
    ----------
    out : path, optional
        Run directory: `summary.json`, `report.txt` and the events.  It appears when the run ends, whole.
    events : {"npz", "parquet", "none"}
        How events are kept there.
    on_progress : callable, optional
        Called with the commands done and their time (ns) after every piece.
    on_events : callable, optional
        Called with the commands of every piece and its events.
    should_stop : callable, optional
        Asked after every piece; when true the run ends there, with `interrupted` in its summary.
    watcher : Watcher, optional
        Looks at the exchange between pieces, which are smaller for it; what comes out is the same.

    Raises
    ------
    ConfigError, DataError, CapacityError, MissingExtraError
        Nothing is left of the run directory.
    InvariantError
        Something is not conserved (MONEY-001), or the engine stopped on a fault.  The run directory holds
        `reproduction.npz` and a summary whose `conserved` is false.

    Source: CLI-001, CLI-002, WATCH-001.
    """
    folder = nullcontext() if out is None else RunFolder(out, events)
    with folder as opened:
        return Runner(plan, opened, on_progress, on_events, should_stop, watcher).run()


class Runner:
    """One run: what it counts between its commands."""

    def __init__(
        self,
        plan: Plan,
        folder: RunFolder | None = None,
        on_progress: Progress | None = None,
        on_events: Callable[[Commands, Commands], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
        watcher: Watcher | None = None,
    ) -> None:
        self.watcher = watcher
        self.plan, self.folder = plan, folder
        self.on_progress, self.on_events, self.should_stop = on_progress, on_events, should_stop
        self.setup = build_setup(plan.markets)
        if len(self.setup.assets) > 1:
            known = ", ".join(self.setup.assets)
            raise ConfigError(f"--market: expected markets that settle in one asset, got {known}")
        limits = {name: getattr(plan, name) for name in Capacity._fields}
        capacity = Capacity(**{name: limit for name, limit in limits.items() if limit is not None})
        tape = plan.feed if plan.shock is None else BentFeed(plan.feed, plan.shock)
        self.tape: Feed = AheadFeed(tape, self._stops_reading)
        self.past: LoggedPast | None = None
        if plan.journal is None or plan.resume:
            self.exchange = Exchange(plan.markets, engine=plan.engine, capacity=capacity)
            self.past = LoggedPast(plan.journal, self.exchange) if plan.journal is not None else None
        elif (plan.journal / LOG).exists():
            raise ConfigError(f"--journal: {plan.journal}: expected a new folder, it holds a journal")
        else:
            self.exchange = Exchange.open(plan.journal, plan.markets, plan.engine, capacity)
        rest = SAMPLE_REST if plan.sample_ns is None else (0, 0)
        self.sampler = Sampler(self.exchange, SECOND_NS if plan.sample_ns is None else plan.sample_ns, *rest)
        self.tally = Tally(self.setup)
        self.timeline = Timeline(self.setup)
        self.names: dict[int, str] = {}  # account -> what the file of real positions calls it
        self.commands = self.taken = self.checks = 0
        self.piece = self.piece_most = PIECES.get(plan.engine, CHUNK)
        self.first_ns = self.last_ns = 0
        self.interest: list[int] = []  # open interest after the opening, per market
        self.started = perf_counter()
        self.engine_seconds = 0.0
        self.is_cut = False  # while a chunk was read

    def run(self) -> Run:
        """Run to the end, to an interrupt, or to a fault."""
        try:
            return self._run()
        finally:
            self.exchange.close()

    def _run(self) -> Run:
        interrupted = False
        try:
            chunks = enumerate(self.iter_commands())
            while not interrupted and (numbered := self._next_chunk(chunks)) is not None:
                number, chunk = numbered
                if number == 0:
                    self.tally.begin(self.first_ns)
                    if self.folder:
                        self.folder.write_names(self.names)
                    if self.watcher:
                        self.watcher.begin(self.exchange, self.tally, self.first_ns, self.names, self.should_stop)
                interrupted = self._apply(chunk)
                if number == 0:
                    self.interest = [int(row[3]) for row in self.exchange.view().markets]
                    self.sampler.begin(self.first_ns)
            interrupted = interrupted or self.is_cut
            if self.past is not None and not interrupted:
                self.past.refuse_rest()
        except InvariantError as error:
            raise self._save_fault(error) from error
        self.sampler.end(self.last_ns)
        self.timeline.add_recorded(getattr(self.plan.feed, "liquidations", ()), self.last_ns)
        summary = self.summarise(interrupted=interrupted)
        if self.folder:
            self.folder.write_text(LIQUIDATIONS, self.timeline.compose_csv(self.plan.markets))
            self.folder.write_series(self.sampler.read_rows(), [market.symbol for market in self.plan.markets])
        folder = self.folder.finish(summary, compose_report(summary)) if self.folder else None
        return Run(summary, folder, self.exchange, self.sampler.read_rows())

    def _stops_reading(self) -> bool:
        """Return whether the wait for a chunk shall end; before the first command Ctrl-C needs no asking."""
        return bool(self.commands and self.should_stop and self.should_stop())

    def _next_chunk(self, chunks: Iterator[tuple[int, Commands]]) -> tuple[int, Commands] | None:
        """Return the next chunk and its number, or None at the end, or where somebody stops while it is read."""
        try:
            return next(chunks, None)
        except KeyboardInterrupt:
            if not self.commands:  # nothing to keep
                raise
            self.is_cut = True
            return None

    def iter_commands(self) -> Iterator[Commands]:
        """Yield the opening, then the tape; the same commands at every call."""
        first = next(self.tape.chunks(1), None)
        if first is None:
            raise DataError("tape", None, None, "expected at least one command, found none")
        self.first_ns = int(first["ts_ns"][0])
        opening, self.names = build_opening(self.plan, self.tape, self.setup, self.first_ns)
        left = self.plan.until_seq
        for chunk in chain([opening], self.tape.chunks(CHUNK)):
            if left is None:
                yield chunk
            else:
                yield chunk[:left]
                left -= len(chunk)
                if left <= 0:
                    return

    def _apply(self, chunk: Commands) -> bool:
        """Apply one chunk and check what it made; return whether the run shall stop."""
        stop, start = False, 0
        while start < len(chunk):
            piece = self._cut(chunk[start : start + self.piece])
            start += len(piece)
            self.taken = self.commands + len(piece)
            begun = perf_counter()
            events = self._send(piece)
            self.fit_piece(perf_counter() - begun)
            self.commands = self.taken
            self.last_ns = int(piece["ts_ns"][-1])
            self.tally.fold(events)
            self.timeline.fold(events)
            if self.folder:
                self.folder.add_events(events)
            if self.on_events:
                self.on_events(piece, events)
            stop = bool(self.should_stop and self.should_stop())
            if self.on_progress:
                self.on_progress(self.commands, self.last_ns)
            if self.watcher:
                self.watcher.look(self.commands, self.last_ns, events)
            if stop:
                break
        view = self.exchange.view()
        check_state(view, self.setup)
        self.tally.check(view)
        self.checks += 1
        return stop

    def _cut(self, piece: Commands) -> Commands:
        """Return as much of a piece as somebody who watches is to see at once, or all of it."""
        if self.watcher:
            piece = piece[:WATCHED]
            piece = piece[: self.watcher.find_cut(piece["ts_ns"])]
        return piece

    def fit_piece(self, seconds: float) -> None:
        """Make the next piece as long as may be, by how long the last one took (CLI-003)."""
        if seconds > PIECE_S:
            self.piece = max(int(self.piece * PIECE_S / seconds), PIECE_LEAST)
        elif seconds < PIECE_S / 2:
            self.piece = min(2 * self.piece, self.piece_most)

    def _send(self, piece: Commands) -> NDArray[np.void]:
        """Apply commands, with a look at the market where a sample is due, and return their events."""
        found = []
        while len(piece):
            cut = self.sampler.find_cut(piece["ts_ns"])
            part = piece[:cut]
            if self.past is not None:
                part = self.past.take(part)
                cut = cut if cut is None or len(part) == cut else None
            begun = perf_counter()
            found.append(self.exchange.apply(part))
            self.engine_seconds += perf_counter() - begun
            if self.past is not None and self.past.is_over():
                self.past = None
            self.sampler.since += len(part)
            if cut is not None:
                self.sampler.take(int(piece[cut]["ts_ns"]))
            piece = piece[len(part) :]
        return found[0] if len(found) == 1 else np.concatenate(found)

    def _save_fault(self, error: InvariantError) -> InvariantError:
        """Keep what shows the fault again, and return the error that says where."""
        if self.folder is None:
            return InvariantError(f"{error}; name a run directory (--out) to keep a reproduction")
        meta = {
            "format": REPRODUCTION_FORMAT,
            "engine": self.plan.engine,
            "markets": msgspec.to_builtins(list(self.plan.markets)),
            "error": str(error),
        }
        self.folder.write_reproduction(_take(self.iter_commands(), self.taken), meta)
        summary = self.summarise(fault=str(error))
        folder = self.folder.finish(summary, compose_report(summary))
        return InvariantError(f"{error}; reproduction: {folder / REPRODUCTION}")

    def summarise(self, *, interrupted: bool = False, fault: str | None = None) -> dict[str, Any]:
        """Return the summary (CLI-001): everything but `timing` is a function of the inputs."""
        view = self.exchange.view()
        fees, rounding, insolvency, deposits, withdrawals, waived = (int(number) for number in view.assets[0])
        seconds = perf_counter() - self.started
        summary: dict[str, Any] = {
            "schema": SCHEMA,
            "verdict": "",
            "digest": self.exchange.digest(),
            "conserved": fault is None and self.checks > 0,
            "checks": self.checks,
            "interrupted": interrupted,
            "fault": fault,
            "engine": self.plan.engine,
            "version": sys.modules["engine"].__version__,
            "commands": self.commands,
            "samples": self.sampler.count,
            "first_ns": self.first_ns,
            "last_ns": self.last_ns,
            **self.tally.summarise(),
            "waived_fees_quote": waived,
            "fees_quote": fees,
            "rounding_quote": rounding,
            "insolvency_quote": insolvency,
            "deposits_quote": deposits,
            "withdrawals_quote": withdrawals,
            "assets": [{"name": self.setup.assets[0], "unit": format(self.setup.asset_units[0], "f")}],
            "markets": self._describe_markets([int(row[3]) for row in view.markets]),
            "liquidations_by": self.timeline.summarise(),
            "tape": dict(self.tape.counts),
            "inputs": [{"role": role, "file": path.name, "sha256": hash_file(path)} for role, path in self.plan.inputs],
            "parameters": self._describe_parameters(),
            "seconds": round(seconds, 6),
            "engine_seconds": round(self.engine_seconds, 6),
            "events_per_s": round(int(self.tally.kinds.sum()) / max(self.engine_seconds, 1e-9)),
            "commands_per_s": round(self.commands / max(self.engine_seconds, 1e-9)),
        }
        for row in (*summary["adl_top"], *summary["deficits_top"], summary["worst_slippage"] or {}):
            if row.get("account") in self.names:
                row["name"] = self.names[row["account"]]
        summary["verdict"] = compose_verdict(summary)
        return summary

    def _describe_markets(self, interest: list[int]) -> list[dict[str, Any]]:
        rows = zip(self.plan.markets, self.tally.marks, self.interest or interest, interest, strict=True)
        names = ("mark_first_tick", "mark_low_tick", "mark_high_tick", "mark_last_tick")
        return [
            {
                "symbol": market.symbol,
                "tick_size": format(market.tick_size, "f"),
                "lot_size": format(market.lot_size, "f"),
                **dict(zip(names, marks, strict=True)),
                "open_interest_start_lot": before,
                "open_interest_end_lot": after,
            }
            for market, marks, before, after in rows
        ]

    def _describe_parameters(self) -> dict[str, Any]:
        plan = self.plan
        return {
            "markets": msgspec.to_builtins(list(plan.markets)),
            "populations": [p.name if isinstance(p, Path) else msgspec.to_builtins(p) for p in plan.populations],
            "shock": msgspec.to_builtins(plan.shock),
            "funds": dict(plan.funds),
            "indexes": dict(plan.indexes),
            "lenient": plan.lenient,
            "accounts_max": plan.accounts_max,
            "positions_max": plan.positions_max,
            "orders_max": plan.orders_max,
            "until_seq": plan.until_seq,
        }


def _take(chunks: Iterator[Commands], count: int) -> Iterator[Commands]:
    """Yield the first `count` commands."""
    for chunk in chunks:
        yield chunk[:count]
        count -= len(chunk)
        if count <= 0:
            return


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# ---------------------------------------------------------------- the opening


def build_opening(plan: Plan, tape: Feed, setup: Setup, ts_ns: int) -> tuple[Commands, dict[int, str]]:
    """Return the commands before the tape: first marks, funds, population.

    A market whose file has an `initial_mark` needs no other.  The mark comes as what its mark model listens to: a
    `mark`, an `index`, or for `last` a print of one lot, which meets an empty book; the models that average the basis
    start on the index.

    Returns
    -------
    commands : COMMAND array
    names : dict
        What files of real positions call the accounts.

    Raises
    ------
    ConfigError
        If a population's market has no mark, or a population does not fit its market.
    CapacityError
        If the accounts do not fit.
    """
    ticks = [rules.initial_mark_tick for rules in setup.markets]
    found = ticks if all(ticks) else find_first_marks(tape, len(ticks))
    rows: list[tuple[int, int, int, int]] = []
    for market, rules in enumerate(setup.markets):
        if not ticks[market] and found[market]:
            ticks[market] = found[market]
            rows.append(((MARK, INDEX, PRINT, INDEX, INDEX)[rules.mark_model], market, found[market], 0))
    for name, amount in plan.funds.items():
        if name not in setup.funds:
            raise ConfigError(f"--fund: unknown fund '{name}', {list_known(name, setup.funds)}")
        number = setup.funds.index(name)
        market = next(index for index, rules in enumerate(setup.markets) if rules.fund == number)
        if amount:
            rows.append((FUND_DEPOSIT, market, 0, amount))
    opening = np.zeros(len(rows), COMMAND)
    opening["ts_ns"] = ts_ns
    for row, values in zip(opening, rows, strict=True):
        row["kind"], row["market"], row["price_tick"], row["amount_quote"] = values
        if values[0] == PRINT:
            row["side"], row["qty_lot"] = BUY, 1
    crowds, names = _build_crowds(plan, ticks, ts_ns)
    return np.concatenate([opening, *crowds]), names


def _build_crowds(plan: Plan, ticks: Sequence[int], ts_ns: int) -> tuple[list[Commands], dict[int, str]]:
    if len(plan.populations) > len(plan.markets):
        raise ConfigError(f"--population: {len(plan.populations)} files for {len(plan.markets)} markets")
    files = [path for role, path in plan.inputs if role == "population"]
    crowds: list[Commands] = []
    names: dict[int, str] = {}
    highest = 0
    for index, population in enumerate(plan.populations):
        for market, tick in zip(plan.markets, ticks, strict=True):
            if not tick and (isinstance(population, Path) or market is plan.markets[index]):
                raise ConfigError(
                    f"--population: {market.symbol} has no mark on the tape: expected a derivative_ticker file, or "
                    "initial_mark in the market file"
                )
        if isinstance(population, Path):
            crowd, numbers = read_positions(
                population, plan.markets, ts_ns=ts_ns, first_account=highest + 1, accounts_max=plan.accounts_max
            )
            names.update({number: name for name, number in numbers.items()})
        else:
            try:
                crowd = build_population(
                    population, plan.markets[index], index, ticks[index], ts_ns=ts_ns, accounts_max=plan.accounts_max
                )
            except (ConfigError, CapacityError) as error:
                raise type(error)(f"{files[index]}: {error}" if index < len(files) else str(error)) from error
        highest = max(highest, int(crowd["account"].max(initial=0)))
        crowds.append(crowd)
    return crowds, names


def count_fund(text: str, markets: Sequence[Market]) -> dict[str, int]:
    """Return {fund: units} of a text like `250000` or `NAME=250000`, in whole amounts of the fund's asset.

    Raises
    ------
    ConfigError
        If it is no amount, negative, finer than the asset's unit, or does not say which of several funds it is for.
    """
    setup = build_setup(markets)
    known = ", ".join(setup.funds)
    name, _, number = text.rpartition("=")
    if not name and len(setup.funds) > 1:
        raise ConfigError(f"--fund {text}: expected NAME=AMOUNT, the markets have the funds {known}")
    name = name or setup.funds[0]
    if name not in setup.funds:
        raise ConfigError(f"--fund {text}: unknown fund '{name}', {list_known(name, setup.funds)}")
    asset = setup.fund_assets[setup.funds.index(name)]
    try:
        units = count_units(parse_decimal(number), setup.asset_units[asset], "amount")
        if units < 0:
            raise ValueError(f"expected an amount of 0 or more, got {number}")
    except ValueError as error:
        raise ConfigError(f"--fund {text}: {error}") from error
    return {name: units}
