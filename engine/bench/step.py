"""`perp bench step`: where the time of the exchange's commands goes, phase by phase.

Two builds of the same kernels run the same commands.  The plain one says what they take.  The instrumented one, a
child process with PERP_ENGINE_PROFILE=1 in its environment, says who takes which part of it: the time-stamp counter is
read wherever a phase begins and ends.  A probe costs as much as a small function does, so what an empty one is charged
is measured beside it and subtracted.  Both builds must leave the same events and the same state.
"""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from time import perf_counter_ns
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine._jit import PROFILED
from engine._probe import PHASES, SPENT, WORDS, Counts, enter_phase, read_counts, run_empty
from engine.bench.challenge import SEED, make_workload
from engine.bench.flow import START_MID, make_rows, map_messages
from engine.codes import (
    ASSIGN,
    DEPOSIT,
    EVENT_NAMES,
    FUND_DEPOSIT,
    FUNDING,
    FUNDING_PAYMENT,
    LEVEL,
    LIQUIDATION_STARTED,
    MARK,
)
from engine.compiled import Capacity, CompiledEngine
from engine.contract import Market, Tier, build_setup
from engine.digest import compute_digest
from engine.errors import EngineError, InvariantError

ROUNDS = 3
BATCH = 4_096  # of the order flow: commands per call
EMPTY_PROBES = 200_000
SHELL = PHASES.index("shell")

TIER = Tier(floor=Decimal(0), initial=Decimal("0.01"), maintenance=Decimal("0.005"))
CRASH_MARK = 100_000
STEPS, STEP_TICKS = 80, 250  # the marks of the crash: down by a fifth
LEVELS, LEVEL_TICKS = 20, 75  # what the outside bids at each: thin, and as far down as hurts
FUNDINGS = 20

Rows = NDArray[np.void]


class Work(NamedTuple):
    """A workload: what is timed, on an exchange that `before` has prepared."""

    name: str
    unit: str  # what the time is divided by
    counted: int  # the kind of event that is one unit; 0: each command
    mark_tick: int
    batch: int  # rows per call
    before: Rows
    rows: Rows


def make_orders(count: int, accounts: int) -> Work:
    """Return the challenge's `normal` workload as orders, amendments and cancels of so many accounts."""
    rows = map_messages(make_workload("normal", SEED, count), accounts)
    before = make_rows(accounts, DEPOSIT, account=np.arange(1, accounts + 1), amount_quote=10**9)
    return Work("order flow", "command", 0, START_MID, BATCH, before, rows)


def make_crowd(accounts: int) -> Rows:
    """Return a fund of next to nothing, and so many accounts: longs of leverage 5 to 50, shorts of 2 to 20."""
    random = np.random.RandomState(SEED)
    numbers = np.arange(1, accounts + 1)
    side = 2 * (numbers % 2) - 1
    lots = random.randint(1, 1_001, accounts)
    leverage = np.where(side > 0, random.randint(5, 51, accounts), random.randint(2, 21, accounts))
    crowd = make_rows(accounts, ASSIGN, account=numbers, side=side, qty_lot=lots, price_tick=CRASH_MARK)
    crowd["amount_quote"] = CRASH_MARK * lots // leverage
    return np.concatenate([make_rows(1, FUND_DEPOSIT, amount_quote=CRASH_MARK * accounts), crowd])


def make_crash(accounts: int) -> Work:
    """Return a mark that falls by a fifth, step by step; the outside bids for half of what must be sold."""
    depth = 1 + accounts * 500 // (4 * STEPS * LEVELS)
    down = LEVEL_TICKS * np.arange(1, LEVELS + 1)
    steps = []
    for mark in range(CRASH_MARK - STEP_TICKS, CRASH_MARK - STEP_TICKS * (STEPS + 1), -STEP_TICKS):
        steps += [
            make_rows(LEVELS, LEVEL, side=1, price_tick=mark + STEP_TICKS - down, qty_lot=0),
            make_rows(LEVELS, LEVEL, side=1, price_tick=mark - down, qty_lot=depth),
            make_rows(1, MARK, price_tick=mark),
        ]
    before = make_crowd(accounts)
    return Work("crash", "liquidation", LIQUIDATION_STARTED, CRASH_MARK, 2 * LEVELS + 1, before, np.concatenate(steps))


def make_funding(accounts: int) -> Work:
    """Return fundings of a hundredth of a per cent, to and fro."""
    rows = make_rows(FUNDINGS, FUNDING, amount_quote=100_000 * (1 - 2 * (np.arange(FUNDINGS) % 2)))
    return Work("funding", "payment", FUNDING_PAYMENT, CRASH_MARK, 1, make_crowd(accounts), rows)


def make_works(count: int, accounts: int) -> Iterator[Work]:
    """Yield the workloads."""
    yield make_orders(count, accounts)
    yield make_crash(accounts)
    yield make_funding(accounts)


def make_engine(work: Work) -> CompiledEngine:
    """Return the exchange on which a workload begins."""
    one, mark = Decimal(1), Decimal(work.mark_tick)
    market = Market(symbol="X", tick_size=one, lot_size=one, quote_unit=one, tiers=(TIER,), initial_mark=mark)
    engine = CompiledEngine(build_setup([market]), Capacity())
    engine.apply(work.before)
    return engine


def run_checked(work: Work) -> tuple[NDArray[np.int64], str]:
    """Run a workload untimed; return how many events there are of each kind, and a digest of events and state."""
    engine = make_engine(work)
    kinds = np.zeros(len(EVENT_NAMES) + 1, np.int64)
    digest = hashlib.blake2b(digest_size=16)
    for at in range(0, len(work.rows), work.batch):
        events = engine.apply(work.rows[at : at + work.batch])
        kinds += np.bincount(events["kind"], minlength=len(kinds))
        digest.update(events.tobytes())
    digest.update(compute_digest(engine.view()).encode())
    return kinds, digest.hexdigest()


def run_timed(work: Work) -> tuple[int, Counts]:
    """Run a workload, and drop its events as they come; return the ns taken, and what the probes counted."""
    engine = make_engine(work)
    reset_counts()
    began = perf_counter_ns()
    for at in range(0, len(work.rows), work.batch):
        engine.apply(work.rows[at : at + work.batch])
    taken_ns = perf_counter_ns() - began
    return taken_ns, take_counts()


def reset_counts() -> None:
    """Begin to count, where this is the instrumented build."""
    take_counts()
    if PROFILED:
        enter_phase(SHELL)
    WORDS[SPENT:] = 0


def take_counts() -> Counts:
    """Return what was counted up to now: the shell is charged when it is left."""
    if PROFILED:
        enter_phase(SHELL + 1)
    return read_counts(WORDS)


def measure_probe() -> tuple[float, float]:
    """Return what a probe costs, in cycles: what the phase is charged that it enters, and what the one it leaves is."""
    run_empty(SHELL + 2, 1)
    found = []
    for _ in range(ROUNDS):
        reset_counts()
        run_empty(SHELL + 2, EMPTY_PROBES)
        spent = take_counts().spent
        found.append((int(spent[SHELL + 2]) / EMPTY_PROBES, int(spent[SHELL]) / EMPTY_PROBES))
    return min(inside for inside, _ in found), min(outside for _, outside in found)


def run_works(count: int, accounts: int) -> Iterator[dict[str, Any]]:
    """Yield each workload's figures in this build, of the quickest of its rounds."""
    for work in make_works(count, accounts):
        kinds, digest = run_checked(work)
        taken_ns, counts = min((run_timed(work) for _ in range(ROUNDS)), key=lambda timed: timed[0])
        yield {
            "workload": work.name,
            "commands": len(work.rows),
            "unit": work.unit,
            "units": int(kinds[work.counted]) if work.counted else len(work.rows),
            "ns": taken_ns,
            "digest": digest,
            "counts": {name: column.tolist() for name, column in counts._asdict().items()},
        }


def run_instrumented(count: int, accounts: int) -> dict[str, Any]:
    """Return the figures of the instrumented build, which this process is."""
    works = list(run_works(count, accounts))
    inside, outside = measure_probe()
    return {"inside": inside, "outside": outside, "works": works}


def call_instrumented(count: int, accounts: int) -> dict[str, Any]:
    """Return the figures of the instrumented build, from a child process.

    Raises
    ------
    EngineError
        If the child fails; it has said why.
    """
    verb = [sys.executable, "-m", "engine", "bench", "step", "--count", str(count), "--accounts", str(accounts)]
    done = subprocess.run(verb, env={**os.environ, "PERP_ENGINE_PROFILE": "1"}, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise EngineError(f"the instrumented build ended with exit status {done.returncode}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def subtract_probes(counts: Counts, inside: float, outside: float) -> NDArray[np.float64]:
    """Return each phase's cycles without what its probes cost by themselves; at least 0."""
    own: NDArray[np.float64] = counts.spent - inside * counts.entered - outside * counts.resumed
    return np.maximum(own, 0)


def explain(plain: dict[str, Any], probed: dict[str, Any], inside: float, outside: float) -> dict[str, Any]:
    """Return a workload's figures: the plain build's time, divided as the instrumented build's cycles are.

    `instrumented_ratio` is what the probes make of the time, `corrected_ratio` what is left of that after their cost
    is subtracted: as far as it is from 1, the shares are in doubt.  (A probe also keeps the processor from working on
    both sides of it at once; that is in no measurement of an empty one.)

    Raises
    ------
    InvariantError
        If the two builds did not do the same.
    """
    if plain["digest"] != probed["digest"]:
        raise InvariantError(f"{plain['workload']}: the instrumented build has other events, or leaves another state")
    counts = Counts(*(np.array(column, np.int64) for column in probed["counts"].values()))
    own = subtract_probes(counts, inside, outside)
    shares = own / max(own.sum(), 1)
    units = max(plain["units"], 1)
    ratio = probed["ns"] / plain["ns"]
    phases = {
        name: {
            "share": round(float(share), 4),
            "ns_per_unit": round(float(share) * plain["ns"] / units, 2),
            "entered_per_unit": round(int(entered) / units, 3),
        }
        for name, share, entered in zip(PHASES, shares, counts.entered, strict=True)
    }
    return {
        **{name: plain[name] for name in ("workload", "commands", "unit", "units", "digest")},
        "ns_per_unit": round(plain["ns"] / units, 1),
        "instrumented_ratio": round(ratio, 2),
        "corrected_ratio": round(float(ratio * own.sum() / max(counts.spent.sum(), 1)), 2),
        "phases": phases,
    }


def bench_step(count: int, accounts: int) -> dict[str, Any]:
    """Return where the time of three workloads goes.

    Parameters
    ----------
    count : int
        New orders in the order flow.
    accounts : int
        In each workload.
    """
    plain = list(run_works(count, accounts))
    found = call_instrumented(count, accounts)
    inside, outside = found["inside"], found["outside"]
    shown = [explain(one, other, inside, outside) for one, other in zip(plain, found["works"], strict=True)]
    return {"accounts": accounts, "probe_cycles": round(inside + outside, 1), "workloads": shown}


def format_table(row: dict[str, Any]) -> str:
    """Return a workload's table."""
    unit, units, ratio, corrected = (row[name] for name in ("unit", "units", "instrumented_ratio", "corrected_ratio"))
    lines = [
        f"{row['workload']}: {row['commands']:,} commands, {units:,} x {unit}: {row['ns_per_unit']:,.1f} ns each",
        f"instrumented {ratio:.2f} times that, {corrected:.2f} without what the probes themselves cost",
        f"{'phase':<13}{'share':>7}{'ns':>12}{'entered':>11}  (per {unit})",
    ]
    lines += [
        f"{name:<13}{phase['share']:>7.1%}{phase['ns_per_unit']:>12,.1f}{phase['entered_per_unit']:>11,.2f}"
        for name, phase in row["phases"].items()
        if phase["entered_per_unit"] or phase["share"]
    ]
    return "\n".join(lines) + "\n"
