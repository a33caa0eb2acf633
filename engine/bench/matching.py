"""`perp bench matching`: the challenge's workloads through the exchange's book, timed and hashed."""

from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from engine.bench.challenge import (
    COUNT,
    SCENARIOS,
    SEED,
    Messages,
    Reports,
    format_reports,
    hash_reports,
    make_workload,
    read_dump,
)
from engine.codes import OK
from engine.compiled import Capacity, CompiledEngine
from engine.contract import Market, Tier, build_setup
from engine.errors import ConfigError, list_known
from engine.files import write_whole
from engine.kernels.match import run_messages
from engine.layout import REPORT
from engine.memory import count_book_bytes

BLOCK = 1_024  # messages per latency sample: long enough for the clock, short enough to see a slow stretch
REPORTS_PER_MESSAGE = 3  # every trade ends an order or a message, so two would do; one more for the acks

TIER = Tier(floor=Decimal(0), initial=Decimal("0.01"), maintenance=Decimal("0.005"))
MARKET = Market(symbol="X", tick_size=Decimal(1), lot_size=Decimal(1), quote_unit=Decimal(1), tiers=(TIER,))


def make_engine() -> CompiledEngine:
    """Return an exchange with one empty market: its arrays start small and grow in the run."""
    return CompiledEngine(build_setup([MARKET]), Capacity())


def run_workload(engine: CompiledEngine, messages: Messages, reports: Reports) -> int:
    """Apply `messages` to an engine's market 0, growing it where it is full; return how many reports were written."""
    at = written = 0
    while at < len(messages):
        status, applied, count = run_messages(engine.box, messages[at:], reports[written:])
        at, written = at + applied, written + count
        if status != OK:
            engine.grow(status)
    return written


def measure_latency(messages: Messages, reports: Reports) -> dict[str, float]:
    """Return ns per message over blocks of 1,024: percentiles 50, 99, 99.9."""
    engine = make_engine()
    samples = []
    for start in range(0, len(messages), BLOCK):
        block = messages[start : start + BLOCK]
        began = perf_counter()
        run_workload(engine, block, reports)
        samples.append((perf_counter() - began) * 1e9 / len(block))
    if not samples:
        return {}
    found = np.percentile(samples, (50, 99, 99.9))
    return {name: round(float(value), 1) for name, value in zip(("p50", "p99", "p99.9"), found, strict=True)}


def count_bytes(engine: CompiledEngine) -> float:
    """Return the bytes the book holds per order slot that was ever used at once."""
    head = engine.state.head[0]
    slots = int(head["order_used"])
    total = count_book_bytes(slots, int(head["leaf_used"]), int(head["page_used"]))
    return round(total / max(slots, 1), 1)


def bench_workload(messages: Messages, repeat: int) -> tuple[dict[str, Any], Reports]:
    """Run a workload `repeat` times, each on an empty exchange; return the figures and the reports.

    The first run is not counted: it finds the reports' memory and, on a new machine, compiles.
    """
    reports = np.zeros(REPORTS_PER_MESSAGE * len(messages) + 16, REPORT)
    began = perf_counter()
    run_workload(make_engine(), messages[:1].copy(), reports)
    compile_seconds = perf_counter() - began
    rates = []
    written = 0
    engine = make_engine()
    for _ in range(repeat + 1):
        engine = make_engine()
        began = perf_counter()
        written = run_workload(engine, messages, reports)
        rates.append(len(messages) / (perf_counter() - began))
    figures = {
        "messages": len(messages),
        "reports": written,
        "messages_per_s": round(median(rates[1:])),
        "best_messages_per_s": round(max(rates[1:])),
        "ns_per_message_in_blocks": measure_latency(messages, np.empty_like(reports)),
        "compile_seconds": round(compile_seconds, 2),
        "bytes_per_resting_order": count_bytes(engine),
        "resting_max": int(engine.state.head[0]["order_used"]),
    }
    return figures, reports[:written]


def judge(figures: dict[str, Any], reports: Reports, scenario: str, seed: int, count: int) -> dict[str, Any]:
    """Add the hash and whether it is the published one (None where nothing is published)."""
    sha256 = hash_reports(reports)
    published = None
    if scenario in SCENARIOS and (seed, count) == (SEED, COUNT):
        published = sha256 == SCENARIOS[scenario].sha256
    return {"scenario": scenario, **figures, "sha256": sha256, "published": published}


def check_request(scenarios: Sequence[str], seed: int) -> None:
    """Refuse scenarios and seeds the generator does not know.

    Raises
    ------
    ConfigError
        Naming the known ones.
    """
    for name in scenarios:
        if name not in SCENARIOS:
            raise ConfigError(f"--scenario: unknown '{name}', {list_known(name, SCENARIOS)}")
    if not 0 <= seed < 1 << 32:
        raise ConfigError(f"--seed: expected 0 to 2**32 - 1, got {seed}")


def bench_matching(
    scenarios: Sequence[str] | None,
    seed: int,
    count: int,
    repeat: int,
    workload: Path | None = None,
    canonical: Path | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield the figures of each scenario, or of one dumped workload.

    Parameters
    ----------
    scenarios : sequence of str, optional
        Names of the challenge's scenarios; all of them by default.
    seed, count
        Of the generator; published hashes exist for 23 and 1,000,000.
    repeat
        Timed runs per scenario.
    workload
        A dump to run instead.
    canonical
        Where to write the canonical text of the last run.

    Raises
    ------
    ConfigError
        If a scenario is not known, naming the known ones, or the seed is none.
    DataError
        If the dump cannot be used.
    """
    names = list(scenarios or SCENARIOS)
    check_request(names, seed)
    sources = [str(workload)] if workload else names
    for name in sources:
        messages = read_dump(workload) if workload else make_workload(name, seed, count)
        figures, reports = bench_workload(messages, repeat)
        if canonical:
            write_whole(canonical, format_reports(reports).encode("ascii"))
        yield judge(figures, reports, name, seed, count)
