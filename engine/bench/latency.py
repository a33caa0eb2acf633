"""`perp bench latency`: how long a message waits for its reports while messages come at a given rate.

The run is open: when each message is due is drawn before it begins, and nobody waits for an answer before sending the
next.  A message's latency counts from the moment it was due, not from the moment it was looked at, so that a slow batch
is paid for by everything that came due behind it.  Timing the work alone (`service_ns`) leaves that out: a test which
sends only when the last answer is there, never meets the queue that it would have made (coordinated omission).

The loop is a Python process that sends whatever is due as one batch, as a user's would be; what a call costs is part of
every latency.  Between arrivals it spins on the clock.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from statistics import median
from time import perf_counter_ns, thread_time_ns
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.bench.challenge import Messages, Reports, make_workload
from engine.bench.matching import REPORTS_PER_MESSAGE, check_request, make_engine, run_workload
from engine.feeds.draws import ONE, Draws
from engine.layout import REPORT

LOADS = (10, 20, 30, 40, 50, 60, 70, 80, 90)  # per cent of the capacity
BATCH_MAX = 4_096  # messages per call
ALONE = 10_000  # messages sent one by one, to say what the smallest batch costs
CAPACITY_RUNS = 3
NS = 1_000_000_000
# in ten thousandths
PERCENTILES = (("p50", 5_000), ("p90", 9_000), ("p99", 9_900), ("p99.9", 9_990), ("p99.99", 9_999), ("max", 10_000))
COLUMNS = ("M/s due", "M/s done", "mean batch", "CPU share")

Times = NDArray[np.int64]


class Timeline(NamedTuple):
    """What became of a run, a row per batch; times in ns since it began."""

    stops: Times  # one past the batch's last message
    taken_ns: Times
    done_ns: Times


def draw_gaps(count: int, seed: int, arrivals: str) -> NDArray[np.float64]:
    """Return the gaps before each message as multiples of the mean gap.

    Parameters
    ----------
    arrivals : {"poisson", "even"}
        Exponential gaps, or all the same.
    """
    if arrivals == "even":
        return np.ones(count)
    gaps: NDArray[np.float64] = Draws(seed).doublings(count) * (np.log(2) / ONE)
    return gaps


def schedule_arrivals(gaps: NDArray[np.float64], rate: float) -> Times:
    """Return when each message is due, in ns, at a mean rate of messages per second."""
    due_ns: Times = np.floor(np.cumsum(gaps) * (NS / rate)).astype(np.int64)
    return due_ns


def run_open(
    due_ns: Sequence[int],
    serve: Callable[[int, int], object],
    batch_max: int = BATCH_MAX,
    clock: Callable[[], int] = perf_counter_ns,
) -> Timeline:
    """Serve messages as they come due: all that are due by now, up to `batch_max`, are one batch.

    Parameters
    ----------
    due_ns : sequence of int
        When each message is due, rising, in ns since the begin.
    serve : callable
        Given the first message of a batch and one past its last.
    clock : callable
        The time in ns; only differences count.
    """
    stops, taken, done = [], [], []
    at, count, began = 0, len(due_ns), clock()
    while at < count:
        now = clock() - began
        if now < due_ns[at]:
            continue
        stop = bisect_right(due_ns, now, at, min(at + batch_max, count))
        serve(at, stop)
        stops.append(stop)
        taken.append(now)
        done.append(clock() - began)
        at = stop
    return Timeline(*(np.array(column, np.int64) for column in (stops, taken, done)))


def measure_waits(due_ns: Times, timeline: Timeline) -> tuple[Times, Times]:
    """Return, per message in ns, the latency since it was due, and what its batch took once it was begun."""
    lengths = np.diff(timeline.stops, prepend=0)
    latency_ns = np.repeat(timeline.done_ns, lengths) - due_ns
    return latency_ns, np.repeat(timeline.done_ns - timeline.taken_ns, lengths)


def find_percentiles(values: Times) -> dict[str, int]:
    """Return percentiles of all the values there are: the least that so many of them do not pass, never between two."""
    ordered = np.sort(values)
    return {name: int(ordered[-(-len(ordered) * share // 10_000) - 1]) for name, share in PERCENTILES}


class Bench:
    """One workload, played again and again on empty exchanges, and the reports it must have."""

    def __init__(self, messages: Messages, batch_max: int) -> None:
        self.messages, self.batch_max = messages, batch_max
        # written to by every run: its memory is found before anything is timed
        self.reports = np.zeros(REPORTS_PER_MESSAGE * len(messages) + 16, REPORT)
        self.expected = self.reports[: run_workload(make_engine(), messages, self.reports)].tobytes()

    def play(self, due_ns: Times, batch_max: int) -> tuple[Timeline, Reports]:
        """Play the messages that have a time; return the timeline and the reports."""
        engine, written = make_engine(), 0

        def serve(start: int, stop: int) -> None:
            nonlocal written
            written += run_workload(engine, self.messages[start:stop], self.reports[written:])

        timeline = run_open(due_ns.tolist(), serve, batch_max)
        return timeline, self.reports[:written]

    def measure_alone(self) -> int:
        """Return the median ns of a batch of one message."""
        timeline, _ = self.play(np.zeros(min(ALONE, len(self.messages)), np.int64), 1)
        return int(median((timeline.done_ns - timeline.taken_ns).tolist()))

    def measure_capacity(self) -> float:
        """Return the messages per second of this loop where everything is due at once: the median of three runs."""
        due_ns = np.zeros(len(self.messages), np.int64)
        rates = [len(due_ns) * NS / int(self.play(due_ns, self.batch_max)[0].done_ns[-1]) for _ in range(CAPACITY_RUNS)]
        return median(rates)

    def measure_load(self, due_ns: Times) -> dict[str, Any]:
        """Return the figures of one open run.

        `cpu_share` is the part of the time that the processor was ours.  The loop never sleeps: where it is less than
        one, other programs held our core, and their work is in the latencies.
        """
        began, began_cpu = perf_counter_ns(), thread_time_ns()
        timeline, reports = self.play(due_ns, self.batch_max)
        cpu_share = (thread_time_ns() - began_cpu) / (perf_counter_ns() - began)
        latency_ns, service_ns = measure_waits(due_ns, timeline)
        batches = len(timeline.stops)
        return {
            "achieved_messages_per_s": round(len(due_ns) * NS / int(timeline.done_ns[-1])),
            "batches": batches,
            "mean_batch": round(len(due_ns) / batches, 1),
            "cpu_share": round(cpu_share, 3),
            "latency_ns": find_percentiles(latency_ns),
            "service_ns": find_percentiles(service_ns),
            "same_reports": reports.tobytes() == self.expected,
        }


def bench_latency(
    scenario: str, seed: int, count: int, loads: Sequence[int], arrivals: str, batch_max: int
) -> tuple[dict[str, Any], Iterator[dict[str, Any]]]:
    """Return what holds for the whole run, and an iterator over the figures of each load.

    Parameters
    ----------
    scenario : str
        One of the challenge's.
    seed : int
        Of the workload and of the arrivals.
    count : int
        New orders in the workload.
    loads : sequence of int
        Per cent of the measured capacity.
    arrivals : {"poisson", "even"}
    batch_max : int
        The most messages in a batch.

    Raises
    ------
    ConfigError
        If the scenario is not known or the seed is none.
    """
    check_request([scenario], seed)
    bench = Bench(make_workload(scenario, seed, count), batch_max)
    capacity = bench.measure_capacity()
    gaps = draw_gaps(len(bench.messages), seed, arrivals)
    facts = {
        "scenario": scenario,
        "seed": seed,
        "messages": len(bench.messages),
        "arrivals": arrivals,
        "batch_max": batch_max,
        "capacity_messages_per_s": round(capacity),
        "batch_of_one_ns": bench.measure_alone(),
    }

    def measure() -> Iterator[dict[str, Any]]:
        for load in loads:
            rate = capacity * load / 100
            offered = {"load_percent": load, "offered_messages_per_s": round(rate)}
            yield offered | bench.measure_load(schedule_arrivals(gaps, rate))

    return facts, measure()


def format_facts(facts: dict[str, Any]) -> str:
    """Return what stands above the tables."""
    return (
        f"{facts['scenario']}, {facts['messages']:,} messages, {facts['arrivals']} arrivals, "
        f"batches of at most {facts['batch_max']:,}\n"
        f"capacity {facts['capacity_messages_per_s'] / 1e6:.2f} M messages/s: this loop with everything due at once\n"
        f"a batch of one message takes {facts['batch_of_one_ns'] / 1e3:.1f} us: no latency is below what a call costs\n"
        "every run begins with an empty exchange: what its arrays take to grow is in the latencies\n"
    )


def format_titles(title: str, columns: Sequence[str]) -> str:
    """Return the head of a table whose percentiles are in us."""
    names = "".join(f"{name:>11}" for name in columns) + "".join(f"{name:>10}" for name, _ in PERCENTILES)
    return f"{title}\n load{names}"


def format_latency(row: dict[str, Any]) -> str:
    """Return a load's line of the first table."""
    offered, achieved = row["offered_messages_per_s"] / 1e6, row["achieved_messages_per_s"] / 1e6
    rates = f"{offered:>11.2f}{achieved:>11.2f}{row['mean_batch']:>11,.1f}{row['cpu_share']:>11.0%}"
    alarm = "" if row["same_reports"] else "  NOT the reports of an undisturbed run"
    return f"{row['load_percent']:>3} %{rates}{_format_us(row['latency_ns'])}{alarm}"


def format_service(row: dict[str, Any]) -> str:
    """Return a load's line of the second table."""
    return f"{row['load_percent']:>3} %{_format_us(row['service_ns'])}"


def _format_us(percentiles: dict[str, int]) -> str:
    return "".join(f"{value / 1e3:>10,.1f}" for value in percentiles.values())
