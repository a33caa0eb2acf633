"""A simulated market from its opening to its summary: what the lab's verbs call, once per scenario (SIM-009)."""

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.audit import check_state
from engine.codes import INDEX, MARK_RECORDED, PPM, REJECTED, REJECTS
from engine.contract import Market, MarketRules, Setup
from engine.errors import ConfigError
from engine.exchange import Capacity, Exchange
from engine.feeds.draws import Ints
from engine.layout import COMMAND
from engine.replay import Plan, Watcher, build_opening
from engine.replay.tally import Tally
from engine.report import compose_verdict
from engine.scenario.paths import build_path, check_index
from engine.scenario.population import Population
from engine.scenario.shock import FACTOR_MOST
from engine.scenario.simulated import SimulatedMarket
from engine.signs import SECOND_NS, Sampler
from engine.sim.desk import Desk, build_deposits, build_desk
from engine.sim.market import Simulator
from engine.table import Table, Tabular, pick_plain, tabulate_rows

Rows = NDArray[np.void]

SCHEMA = 1
CHECK_COMMANDS = 1 << 20  # between two checks of conservation, which look at every account
ALL_STEPS = 1 << 62
WATCHED = 64  # steps between two looks of somebody who watches, at most
SAMPLE_REST = (8_000, 8)  # commands, and commands per position, that cost forty times what a sample does


@dataclass(frozen=True)
class Simulated(Tabular):
    """What came out of a simulated market; as a table one row, the plain numbers of its summary.

    Parameters
    ----------
    summary : dict
        The keys of a replay's summary that do not speak of files (CLI-001), and `steps`, `seed`.
    exchange : Exchange
        As the run left it.
    series : SERIES[:]
        What stood at each step.
    commands : COMMAND[:], optional
        Everything the exchange was sent: the opening, then the market.
    signs : SIGNS[:]
        Warning signs, at instants of time (SIGN-001).
    names : dict
        What a file of real positions calls its accounts (POP-002).
    """

    summary: dict[str, Any]
    exchange: Exchange
    series: Rows
    commands: Rows | None
    signs: Rows
    names: dict[int, str]

    def to_table(self) -> Table:
        """Return the summary as one row."""
        return tabulate_rows([pick_plain(self.summary)])


class Opening(NamedTuple):
    """What stands before the first step.

    Parameters
    ----------
    commands : COMMAND[:]
        The first index, funds, crowd, the makers' and takers' money.
    events : EVENT[:]
        Theirs.
    names : dict
        What a file of real positions calls its accounts.
    """

    commands: Rows
    events: Rows
    names: dict[int, str]


class _FirstIndex:
    """A feed of one price, so that the opening is the replay's."""

    def __init__(self, market: Market, tick: int, ts_ns: int) -> None:
        self.symbols: tuple[str, ...] = (market.symbol,)
        self.counts: dict[str, int] = {}
        self._row = np.zeros(1, COMMAND)
        self._row["ts_ns"], self._row["kind"], self._row["price_tick"] = ts_ns, INDEX, tick

    def chunks(self, rows: int = 1) -> Iterator[Rows]:
        """Yield the index."""
        yield self._row


def open_simulation(
    config: SimulatedMarket,
    market: Market,
    *,
    population: Population | Path | None = None,
    funds: Mapping[str, int] | None = None,
    seed: int | None = None,
    path: Ints | None = None,
    capacity: Capacity | None = None,
) -> tuple[Simulator, Opening]:
    """Return a simulated market before its first step, and what made it.

    Parameters
    ----------
    config : SimulatedMarket
    market : Market
        Its mark comes from the index or the book: any model but `recorded`.
    population : Population or path, optional
        Instead of the config's crowd; a path is a file of real positions (POP-002).
    funds : mapping, optional
        Fund name -> what it starts with, in units of its asset.
    seed : int, optional
        Instead of the config's: the same market, other draws.
    path : int64 array (steps, 2), optional
        Index ticks and the makers' depth in ppm, instead of what the config's index and shock would be.

    Raises
    ------
    ConfigError
        If the parts do not fit: mark model, mark, sizes, capital, an opening command the exchange rejects.

    Source: SIM-001, SIM-009.
    """
    exchange = Exchange([market], capacity=capacity)
    rules = exchange.setup.markets[0]
    if rules.mark_model == MARK_RECORDED:
        raise ConfigError(f"{market.symbol}.mark_model: 'recorded' has no mark here, known: index, last, median3, ...")
    path = build_path(config, market, rules, seed) if path is None else _check_path(path, rules)
    first_ns = config.first_ns
    crowd = config.crowd if population is None else population
    feed = _FirstIndex(market, int(path[0, 0]), first_ns)
    plan = Plan(markets=[market], feed=feed, populations=[crowd] if crowd else [], funds=dict(funds or {}))
    opening, names = build_opening(plan, feed, exchange.setup, first_ns)
    first_account = 1 + int(opening["account"].max(initial=0))
    desk = build_desk(config, market, rules, path, first_account=first_account, first_ns=first_ns, seed=seed)
    opening = np.concatenate([opening, build_deposits(config, rules, desk)])
    events = exchange.apply(opening)
    rejected = events[events["kind"] == REJECTED]
    if len(rejected):
        name, why, _ = REJECTS[int(rejected[0]["code"])]
        raise ConfigError(f"simulated market: account {rejected[0]['account']}: the opening is rejected: {name}: {why}")
    return Simulator(exchange, desk), Opening(opening, events, names)


def _check_path(path: Ints, rules: MarketRules) -> Ints:
    """Return a given path, or refuse it."""
    if path.dtype.kind not in "iu" or path.ndim != 2 or path.shape[1] != 2 or not len(path):
        found = f"{path.dtype} of shape {path.shape}"
        raise ConfigError(f"simulated market: path: expected whole index_tick and depth_ppm for each step, got {found}")
    if not np.all((path[:, 1] >= 0) & (path[:, 1] <= FACTOR_MOST * PPM)):
        raise ConfigError(f"simulated market: path: expected depths of 0 to {FACTOR_MOST * PPM} ppm")
    check_index(path[:, 0], rules)
    return path


class _Counter:
    """What is counted and checked while the market runs."""

    def __init__(self, setup: Setup, first_ns: int) -> None:
        self.setup, self.tally = setup, Tally(setup)
        self.tally.begin(first_ns)
        self.commands = self.checks = self._checked_at = 0

    def add(self, commands: int, events: Rows, exchange: Exchange, *, is_last: bool = False) -> None:
        """Fold events; every million commands, and at the end, hold everything against the state (MONEY-001)."""
        self.commands += commands
        self.tally.fold(events)
        if is_last or self.commands - self._checked_at >= CHECK_COMMANDS:
            view = exchange.view()
            check_state(view, self.setup)
            self.tally.check(view)
            self.checks += 1
            self._checked_at = self.commands


def run_simulation(
    config: SimulatedMarket,
    market: Market,
    *,
    population: Population | Path | None = None,
    funds: Mapping[str, int] | None = None,
    seed: int | None = None,
    path: Ints | None = None,
    capacity: Capacity | None = None,
    keep_commands: bool = False,
    sample_ns: int | None = None,
    on_events: Callable[[Rows], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    watcher: Watcher | None = None,
) -> Simulated:
    """Run a simulated market to its end.

    Parameters
    ----------
    config, market, population, funds, seed, path, capacity
        As of `open_simulation`; plain values and integers, so a call can be sent to another process.
    keep_commands : bool
        Whether the result has all commands, 64 bytes each: a tape that any engine replays to the same digest.
    sample_ns : int, optional
        Time between two samples of the warning signs, 0 for none; by default a second, or as much more as keeps their
        cost below three percent of the run.
    on_events : callable, optional
        Called with all events, piece by piece.
    should_stop : callable, optional
        Asked after every piece (some ten thousand commands); when true the run ends there.
    watcher : Watcher, optional
        Looks at the exchange between steps; what comes out is the same.

    Raises
    ------
    ConfigError, CapacityError
        As of `open_simulation`.
    InvariantError
        If something is not conserved (MONEY-001), or the engine stopped on a fault.

    Source: SIM-009, WATCH-001.
    """
    started = perf_counter()
    population = config.crowd if population is None else population
    simulator, opening = open_simulation(
        config, market, population=population, funds=funds, seed=seed, path=path, capacity=capacity
    )
    exchange, kept, events = simulator.exchange, [opening.commands], opening.events
    state = simulator.desk.desk[0]
    counter = _Counter(exchange.setup, int(state["first_ns"]))
    counter.add(len(opening.commands), events, exchange, is_last=True)
    if on_events:
        on_events(events)
    interest, opening_events = int(exchange.view().markets[0][3]), len(events)
    market_started = perf_counter()
    interrupted = False
    rest = SAMPLE_REST if sample_ns is None else (0, 0)
    sampler = Sampler(exchange, SECOND_NS if sample_ns is None else sample_ns, *rest)
    if watcher:
        watcher.begin(exchange, counter.tally, int(state["first_ns"]), opening.names, should_stop)
        watcher.look(counter.commands, int(state["first_ns"]), events)
    for commands, events in _advance(simulator, sampler, watcher):
        counter.add(len(commands), events, exchange)
        if watcher:
            watcher.look(counter.commands, int(state["first_ns"] + (simulator.step - 1) * state["step_ns"]), events)
        if keep_commands:
            kept.append(commands.copy())
        if on_events:
            on_events(events)
        if should_stop and should_stop():
            interrupted = True
            break
    sampler.end(int(exchange.view().clock[0][1]))
    counter.add(0, events[:0], exchange, is_last=True)
    ended = perf_counter()
    summary = _summarise(simulator, counter, market, interest, interrupted=interrupted)
    for row in (*summary["adl_top"], *summary["deficits_top"], summary["worst_slippage"] or {}):
        if row.get("account") in opening.names:
            row["name"] = opening.names[row["account"]]
    summary["samples"] = sampler.count
    summary["parameters"] = {
        "market": msgspec.to_builtins(market),
        "simulated": msgspec.to_builtins(config),
        "population": population.name if isinstance(population, Path) else msgspec.to_builtins(population),
        "funds": dict(funds or {}),
        "seed": int(state["seed"]),
        "path": "built" if path is None else "given",
    }
    seconds = max(ended - market_started, 1e-9)
    summary |= {
        "seconds": round(ended - started, 6),
        "engine_seconds": round(seconds, 6),
        "events_per_s": round((summary["events"] - opening_events) / seconds),
        "commands_per_s": round((counter.commands - len(opening.commands)) / seconds),
    }
    sent = np.concatenate(kept) if keep_commands else None
    return Simulated(summary, exchange, simulator.series, sent, sampler.read_rows(), opening.names)


def _advance(simulator: Simulator, sampler: Sampler, watcher: Watcher | None) -> Iterator[tuple[Rows, Rows]]:
    """Run to the end of the path, and take a sample before the first step at or past an instant (SIGN-001)."""
    state = simulator.desk.desk[0]
    first_ns, step_ns = int(state["first_ns"]), int(state["step_ns"])
    sampler.begin(first_ns)
    total = 0
    while simulator.step < len(simulator.desk.path):
        steps = ALL_STEPS
        if sampler.is_begun:
            # where the next sample waits for commands, about so many steps bring them
            wait = -(-sampler.left * simulator.step // total) if sampler.left and total else 0
            due_ns = max(sampler.next_ns, first_ns + (simulator.step + wait) * step_ns)
            instant_ns = -(-due_ns // sampler.sample_ns) * sampler.sample_ns
            steps = max(-(-(instant_ns - first_ns) // step_ns) - simulator.step, 1)
        for commands, events in _walk(simulator, steps, watcher):
            sampler.since += len(commands)
            total += len(commands)
            yield commands, events
        now_ns = first_ns + simulator.step * step_ns
        if simulator.step < len(simulator.desk.path) and now_ns >= sampler.next_ns and not sampler.left:
            sampler.take(now_ns)


def _walk(simulator: Simulator, steps: int, watcher: Watcher | None) -> Iterator[tuple[Rows, Rows]]:
    """Run so many steps, or to the end of the path; with somebody who watches, in smaller pieces."""
    if watcher is None:
        yield from simulator.advance(steps)
        return
    state = simulator.desk.desk[0]
    end = min(simulator.step + steps, len(simulator.desk.path))
    while simulator.step < end:
        instants = np.arange(simulator.step, min(simulator.step + WATCHED, end)) * state["step_ns"] + state["first_ns"]
        yield from simulator.advance(watcher.find_cut(instants))


def _summarise(
    simulator: Simulator, counter: _Counter, market: Market, interest: int, *, interrupted: bool
) -> dict[str, Any]:
    """Return the summary: everything but its timing is a function of the inputs (CLI-001)."""
    exchange, desk = simulator.exchange, simulator.desk
    view, setup = exchange.view(), exchange.setup
    state = desk.desk[0]
    fees, rounding, insolvency, deposits, withdrawals, waived = (int(number) for number in view.assets[0])
    names = ("mark_first_tick", "mark_low_tick", "mark_high_tick", "mark_last_tick")
    described = {
        "symbol": market.symbol,
        "tick_size": format(market.tick_size, "f"),
        "lot_size": format(market.lot_size, "f"),
        **dict(zip(names, counter.tally.marks[0], strict=True)),
        "open_interest_start_lot": interest,
        "open_interest_end_lot": int(view.markets[0][3]),
    }
    summary: dict[str, Any] = {
        "schema": SCHEMA,
        "verdict": "",
        "digest": exchange.digest(),
        "conserved": counter.checks > 0,
        "checks": counter.checks,
        "interrupted": interrupted,
        "fault": None,
        "engine": exchange.engine_name,
        "version": sys.modules["engine"].__version__,
        "seed": int(state["seed"]),
        "steps": simulator.step,
        "commands": counter.commands,
        "first_ns": int(state["first_ns"]),
        "last_ns": int(view.clock[0][1]),
        **counter.tally.summarise(),
        "waived_fees_quote": waived,
        "fees_quote": fees,
        "rounding_quote": rounding,
        "insolvency_quote": insolvency,
        "deposits_quote": deposits,
        "withdrawals_quote": withdrawals,
        "assets": [{"name": setup.assets[0], "unit": format(setup.asset_units[0], "f")}],
        "markets": [described],
        "agents": _describe_agents(desk),
        "tape": {},
        "inputs": [],
    }
    summary["verdict"] = compose_verdict(summary)
    return summary


def _describe_agents(desk: Desk) -> dict[str, dict[str, int]]:
    """Return the first account and the number of makers, noise and momentum takers."""
    row = desk.desk[0]
    places = (("makers", "first_maker"), ("noise_takers", "first_noise"), ("momentum_takers", "first_momentum"))
    return {count: {"first_account": int(row[first]), "accounts": int(row[count])} for count, first in places}
