"""The trunk up to the fork, then a branch per policy to the end, each with its own book that answers (TWIN-004)."""

import sys
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from decimal import Decimal
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.audit import check_state
from engine.contract import Market
from engine.errors import ConfigError
from engine.exchange import Exchange
from engine.layout import COMMAND, EVENT
from engine.replay import Plan
from engine.replay.runner import PIECE_S, Runner, hash_file
from engine.replay.tally import Tally
from engine.report import compose_verdict
from engine.scenario.simulated import SimulatedMarket
from engine.sim import Simulator, open_simulation
from engine.table import Table, Tabular
from engine.twin.equity import Holdings, Ints, align_equities, check_differences, measure_holdings
from engine.twin.fork import Fork
from engine.twin.policy import Policy, check_engine

Rows = NDArray[np.void]
Stop = Callable[[], bool]

SCHEMA = 1
STEPS = 16  # of a simulated market, at first, between two looks at whether to stop
LARGEST = 10  # gains and losses in the summary
BLOCKS = 64  # of a simulated market, between two copies to come back to


@dataclass
class Branch:
    """A market on its way: the exchange, and what its events have come to."""

    exchange: Exchange
    tally: Tally
    commands: int = 0
    simulator: Simulator | None = None

    def apply(self, rows: Rows) -> None:
        """Apply commands and fold their events."""
        self.fold(len(rows), self.exchange.apply(rows))

    def fold(self, commands: int, events: Rows) -> None:
        """Count what was applied."""
        self.commands += commands
        self.tally.fold(events)

    def check(self) -> None:
        """Hold the state, and the tally against it (MONEY-001)."""
        view = self.exchange.view()
        check_state(view, self.exchange.setup)
        self.tally.check(view)

    def fork(self, policy: Policy) -> "Branch":
        """Return a branch that goes on from here by a policy; what it does first is in the present.

        Source: TWIN-004, TWIN-005.
        """
        simulator = self.simulator.copy(policy.markets) if self.simulator else None
        exchange = simulator.exchange if simulator else self.exchange.copy(policy.markets, policy.allocation)
        branch = Branch(exchange, deepcopy(self.tally), self.commands, simulator)
        rows = np.zeros(len(policy.commands), COMMAND)
        rows["ts_ns"] = int(exchange.view().clock[0][1])
        for row, (kind, market, amount) in zip(rows, policy.commands, strict=True):
            row["kind"], row["market"], row["amount_quote"] = kind, market, amount
        branch.apply(rows)
        return branch


class Place(NamedTuple):
    """Where it was forked."""

    seq: int  # of the first command that policies could meet
    ts_ns: int  # of that command


@dataclass
class Twins(Tabular):
    """What came of a fork; as a table a row per account: what it met, and its equity, by each policy.

    Parameters
    ----------
    summary : dict
        Everything but the accounts: place, policies with their verdict and numbers, totals, largest differences.
    accounts : int64 array (accounts,)
    equity_quote : int64 array (accounts, policies)
        At the end, at mark.
    """

    summary: dict[str, Any]
    markets: Sequence[Market]
    policies: Sequence[Policy]
    branches: Sequence[Branch]
    accounts: Ints
    equity_quote: Ints
    names: dict[int, str] = field(default_factory=dict)

    def to_table(self) -> Table:
        """Return every account: what it met and its equity by each policy, and the difference from the first."""
        names = [policy.name for policy in self.policies]
        unit = Decimal(self.summary["assets"][0]["unit"])
        accounts = self.accounts.tolist()
        columns: dict[str, list[Any]] = {"account": [self.names.get(account, str(account)) for account in accounts]}
        for at, name in enumerate(names):
            columns[f"equity {name}"] = [count * unit for count in self.equity_quote[:, at].tolist()]
        for at, name in enumerate(names[1:], 1):
            pairs = zip(*(self.equity_quote[:, place].tolist() for place in (at, 0)), strict=True)
            columns[f"difference {name}"] = [(own - base) * unit for own, base in pairs]
        for at, name in enumerate(names):
            columns[f"met {name}"] = [self.describe_fate(at, account) for account in accounts]
        return Table(columns)

    def describe_fate(self, branch: int, account: int) -> str:
        """Return what an account met in a branch: liquidated, deleveraged, cut."""
        tally = self.branches[branch].tally
        fates = (("liquidated", tally.liquidated), ("deleveraged", tally.victims), ("cut", tally.cut))
        return " ".join(name for name, accounts in fates if account in accounts)


def compare_replay(
    plan: Plan,
    policies: Sequence[Policy],
    fork: Fork,
    *,
    on_progress: Callable[[int, int], None] | None = None,
    should_stop: Stop | None = None,
) -> Twins:
    """Run a tape to the fork, then to its end by each policy.

    Raises
    ------
    ConfigError
        If the place is not on the tape.
    InvariantError
        If something is not conserved (MONEY-001, TWIN-008).

    Source: TWIN-004..TWIN-008, OWN-004.
    """
    check_engine(policies, plan.engine)
    runner = Runner(plan, should_stop=should_stop)
    trunk = Branch(runner.exchange, runner.tally)
    branches: list[Branch] = []
    place, last_ns, is_stopped = None, 0, False
    for number, chunk in enumerate(_read_on(runner, branches)):
        if number == 0:
            trunk.tally.begin(runner.first_ns)
        rest = chunk
        if not branches:
            rest = _apply_trunk(trunk, runner, chunk, fork, should_stop)
            if not len(rest):
                trunk.check()
                runner.commands = trunk.commands
                _look_around(trunk, int(chunk["ts_ns"][-1]) if len(chunk) else 0, on_progress, should_stop)
                continue
            place = Place(trunk.commands + 1, int(rest[0]["ts_ns"]))
            branches.extend(trunk.fork(policy) for policy in policies)
        for piece in _cut_pieces(runner, rest):
            for branch in branches:
                branch.apply(piece)
            runner.commands, last_ns = branches[0].commands, int(piece[-1]["ts_ns"])
            is_stopped = bool(should_stop and should_stop())
            if on_progress:
                on_progress(branches[0].commands, last_ns)
            if is_stopped:
                break
        for branch in branches:
            branch.check()
        if is_stopped:
            break
    is_stopped = is_stopped or runner.is_cut
    if place is None:
        raise ConfigError(f"--fork-at {fork.text}: the tape has no such place in {trunk.commands:,} commands")
    facts: dict[str, Any] = {"first_ns": runner.first_ns, "last_ns": last_ns, "interrupted": is_stopped}
    facts["inputs"] = [{"role": role, "file": path.name, "sha256": hash_file(path)} for role, path in plan.inputs]
    return _compare(plan.markets, policies, branches, fork, place, facts, runner.names)


def _read_on(runner: Runner, branches: Sequence[Branch]) -> Iterator[Rows]:
    """Yield chunks; who is stopped while one is read keeps what the branches are, once there are any."""
    try:
        yield from runner.iter_commands()
    except KeyboardInterrupt:
        if not branches:
            raise
        runner.is_cut = True


def _cut_pieces(runner: Runner, rows: Rows) -> Iterator[Rows]:
    """Yield commands in pieces that take about as long as a stop may be waited for."""
    start = 0
    while start < len(rows):
        piece = rows[start : start + runner.piece]
        start += len(piece)
        begun = perf_counter()
        yield piece
        runner.fit_piece(perf_counter() - begun)


def _look_around(
    trunk: Branch, ts_ns: int, on_progress: Callable[[int, int], None] | None, should_stop: Stop | None
) -> None:
    """Show how far the trunk is; before the fork there is nothing to compare, so who stops it there gets nothing."""
    if on_progress and trunk.commands:
        on_progress(trunk.commands, ts_ns)
    if should_stop and should_stop():
        raise KeyboardInterrupt


def _apply_trunk(trunk: Branch, runner: Runner, chunk: Rows, fork: Fork, should_stop: Stop | None) -> Rows:
    """Apply commands up to the fork, and return the others.

    An event says only afterwards where it was: the market then goes on from a copy.
    """

    def apply(rows: Rows) -> Rows:
        found = []
        for piece in _cut_pieces(runner, rows):
            found.append(trunk.exchange.apply(piece))
            if should_stop and should_stop():
                raise KeyboardInterrupt  # there is nothing to compare yet
        return np.concatenate(found) if found else np.zeros(0, EVENT)

    cut = fork.find_row(chunk, trunk.commands + 1, runner.first_ns)
    if fork.kind != "event":
        cut = len(chunk) if cut is None else cut
        trunk.fold(cut, apply(chunk[:cut]))
        return chunk[cut:]
    before = trunk.exchange.copy()
    events = apply(chunk)
    seq = fork.find_seq(events)
    if seq is None:
        trunk.fold(len(chunk), events)
        return chunk[:0]
    trunk.exchange = before
    cut = seq - trunk.commands - 1
    trunk.fold(cut, apply(chunk[:cut]))
    return chunk[cut:]


def compare_simulation(
    config: SimulatedMarket,
    market: Market,
    policies: Sequence[Policy],
    fork: Fork,
    *,
    inputs: Sequence[Any] = (),
    should_stop: Stop | None = None,
    **given: Any,
) -> Twins:
    """Run a simulated market to the step the fork is in, then to its end by each policy.

    Parameters
    ----------
    given
        `population`, `funds`, `seed`, `path`, `capacity` of `open_simulation`.

    Raises
    ------
    ConfigError
        If the place is not in this market, or in its opening.

    Source: TWIN-004..TWIN-008.
    """
    check_engine(policies, "compiled")
    simulator, opened = open_simulation(config, market, **given)
    opening, events = opened.commands, opened.events
    first_ns = int(simulator.desk.desk[0]["first_ns"])
    trunk = Branch(simulator.exchange, Tally(simulator.exchange.setup), simulator=simulator)
    trunk.tally.begin(first_ns)
    trunk.fold(len(opening), events)
    if fork.find_seq(events) is not None or (fork.kind == "seq" and fork.number <= len(opening)):
        raise ConfigError(f"--fork-at {fork.text}: that is in the opening; leave --fork-at out to fork behind it")
    _advance_trunk(trunk, fork, first_ns, should_stop)
    trunk.check()
    begun = trunk.simulator
    assert begun is not None
    place = Place(trunk.commands + 1, first_ns + begun.step * int(begun.desk.desk[0]["step_ns"]))
    branches = [trunk.fork(policy) for policy in policies]
    is_stopped = _advance_branches(branches, len(begun.desk.path), should_stop)
    for branch in branches:
        branch.check()
    last_ns = max(int(branch.exchange.view().clock[0][1]) for branch in branches)
    facts: dict[str, Any] = {"first_ns": first_ns, "last_ns": last_ns, "interrupted": is_stopped}
    facts["inputs"] = [{"role": role, "file": path.name, "sha256": hash_file(path)} for role, path in inputs]
    return _compare([market], policies, branches, fork, place, facts, {})


def _advance_branches(branches: Sequence[Branch], steps: int, should_stop: Stop | None) -> bool:
    """Run simulated markets side by side to their end, or to a step that all have done; return whether it was that."""
    markets = [branch.simulator for branch in branches if branch.simulator]
    block = STEPS
    while any(market.step < steps for market in markets):
        if should_stop and should_stop():
            return True
        begun = perf_counter()
        for branch, market in zip(branches, markets, strict=True):
            for rows, events in market.advance(block):
                branch.fold(len(rows), events)
        seconds = perf_counter() - begun
        block = max(int(block * PIECE_S / seconds), 1) if seconds > PIECE_S else 2 * block
    return False


def _advance_trunk(trunk: Branch, fork: Fork, first_ns: int, should_stop: Stop | None) -> None:
    """Run to before the step in which the fork is: in blocks, then from a copy before the block it turned up in."""
    simulator = trunk.simulator
    assert simulator is not None
    steps = len(simulator.desk.path)
    target = 0 if fork.kind == "start" else None
    if fork.kind in ("time", "after"):
        step_ns = int(simulator.desk.desk[0]["step_ns"])
        target = max(-(-(fork.find_time(first_ns) - first_ns) // step_ns), 0)
    block = max(steps // BLOCKS, 1)
    while target is None and simulator.step < steps:
        before, tally, commands = simulator.copy(), deepcopy(trunk.tally), trunk.commands
        seq = fork.number if fork.kind == "seq" else None
        for rows, events in simulator.advance(block):
            trunk.fold(len(rows), events)
            seq = fork.find_seq(events) if seq is None else seq
            _look_around(trunk, first_ns, None, should_stop)
        if seq is not None and seq <= trunk.commands:
            target = int(np.searchsorted(simulator.series["seq"], seq, "right")) - 1
            trunk.simulator, trunk.exchange, trunk.tally = before, before.exchange, tally
            trunk.commands, simulator = commands, before
    if target is None or target >= steps:
        raise ConfigError(f"--fork-at {fork.text}: the market has no such place in {trunk.commands:,} commands")
    for rows, events in simulator.advance(target - simulator.step):
        trunk.fold(len(rows), events)
        _look_around(trunk, first_ns, None, should_stop)


def _compare(
    markets: Sequence[Market],
    policies: Sequence[Policy],
    branches: Sequence[Branch],
    fork: Fork,
    place: Place,
    facts: dict[str, Any],
    names: dict[int, str],
) -> Twins:
    """Return what came of the branches, once it is proven to add up."""
    holdings = [measure_holdings(branch.exchange) for branch in branches]
    accounts, equity = align_equities(holdings, set().union(*(branch.tally.liquidated for branch in branches)))
    check_differences(holdings, equity - equity[:, :1])
    setup = branches[0].exchange.setup
    rows = zip(policies, branches, holdings, equity.T, strict=True)
    described = [_describe(*row, equity[:, 0], holdings[0], accounts) for row in rows]
    summary = {
        "schema": SCHEMA,
        "conserved": True,
        "version": sys.modules["engine"].__version__,
        "engine": branches[0].exchange.engine_name,
        "fork": {"at": fork.text, "seq": place.seq, "ts_ns": place.ts_ns},
        **facts,
        "assets": [{"name": setup.assets[0], "unit": format(setup.asset_units[0], "f")}],
        "markets": [
            {"symbol": m.symbol, "tick_size": format(m.tick_size, "f"), "lot_size": format(m.lot_size, "f")}
            for m in markets
        ],
        "accounts": len(accounts),
        "policies": described,
    }
    for row in described:
        row["verdict"] = compose_verdict(summary | row | {"fault": None, "markets": summary["markets"]})
    return Twins(summary, markets, policies, branches, accounts, equity, names)


def _describe(
    policy: Policy, branch: Branch, held: Holdings, own: Ints, base: Ints, first: Holdings, accounts: Ints
) -> dict[str, Any]:
    """Return one policy's row: its numbers as a summary has them (CLI-001), and who gained by it."""
    view = branch.exchange.view()
    gains = own - base
    by = {
        "accounts_gain": int((gains > 0).sum()),
        "accounts_lose": int((gains < 0).sum()),
        "gained_quote": sum(gains[gains > 0].tolist()),
        "lost_quote": -sum(gains[gains < 0].tolist()),
    }
    difference = {name: amount - first.totals[name] for name, amount in held.totals.items()}
    return {
        "name": policy.name,
        "file": policy.path.name if policy.path else None,
        "sha256": hash_file(policy.path) if policy.path else None,
        "verdict": "",
        "digest": branch.exchange.digest(),
        "commands": branch.commands,
        **branch.tally.summarise(),
        "marks_tick": [int(row[0]) for row in view.markets],
        "mark_low_tick": [marks[1] for marks in branch.tally.marks],
        "mark_high_tick": [marks[2] for marks in branch.tally.marks],
        "open_interest_lot": [int(row[3]) for row in view.markets],
        "waived_fees_quote": int(view.assets[0][5]),
        "totals_quote": held.totals,
        "difference_quote": difference,
        **by,
        "largest": [
            {"account": int(accounts[at]), "equity_quote": int(own[at]), "difference_quote": int(gains[at])}
            for at in list_largest(gains, LARGEST)
        ],
    }


def list_largest(gains: Ints, count: int) -> list[int]:
    """Return the places of the largest gains, then of the largest losses, up to `count` of each."""
    order = np.argsort(-gains, kind="stable").tolist()
    return [at for at in order[:count] if gains[at] > 0] + [at for at in order[::-1][:count] if gains[at] < 0]
