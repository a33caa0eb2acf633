"""The open-loop latency test, with a clock and a server of our own: what is counted from when, and for whom."""

import numpy as np
import pytest

from engine.bench import latency
from engine.bench.challenge import make_workload

STALL = 20_000  # ns
GAP = 100
COUNT = 1_000


class FakeClock:
    """A clock that goes on by a ns with every look at it, and by what the server takes."""

    def __init__(self):
        self.now = 0

    def __call__(self):
        self.now += 1
        return self.now


def play(due_ns, cost, batch_max=latency.BATCH_MAX):
    """Return the timeline of a server that takes `cost(start, stop)` ns per batch, and its batches."""
    clock, batches = FakeClock(), []

    def serve(start, stop):
        batches.append((start, stop))
        clock.now += cost(start, stop)

    return latency.run_open(due_ns.tolist(), serve, batch_max, clock), batches


def test_a_stall_is_paid_for_by_all_that_came_due_in_it():
    """Coordinated omission: timed from its reading a stall is one slow message, timed from its due time it is 200."""
    due_ns = np.arange(1, COUNT + 1) * GAP
    stalled = 200
    timeline, _ = play(due_ns, lambda start, stop: STALL if start <= stalled < stop else 10)
    latency_ns, service_ns = latency.measure_waits(due_ns, timeline)
    begun = due_ns[stalled]
    behind = (due_ns >= begun) & (due_ns < begun + STALL)
    assert behind.sum() == STALL // GAP
    assert (latency_ns[behind] >= begun + STALL - due_ns[behind]).all()
    assert (latency_ns[behind] <= begun + STALL - due_ns[behind] + GAP).all()
    assert (latency_ns[due_ns < begun] < GAP).all()
    assert (service_ns > GAP).sum() == 1
    assert latency.find_percentiles(latency_ns)["p90"] > STALL // 4
    assert latency.find_percentiles(service_ns)["p90"] < GAP


def test_a_batch_is_what_is_due():
    """Nothing is served before it is due, nothing that is due is left out of a batch with room, each is served once."""
    due_ns = latency.schedule_arrivals(latency.draw_gaps(COUNT, 3, "poisson"), 1e9 / GAP)
    timeline, batches = play(due_ns, lambda start, stop: 150 + 20 * (stop - start))
    assert [start for start, _ in batches] == [0, *(stop for _, stop in batches[:-1])]
    assert timeline.stops.tolist() == [stop for _, stop in batches]
    assert timeline.stops[-1] == COUNT
    for (start, stop), taken_ns in zip(batches, timeline.taken_ns, strict=True):
        assert due_ns[stop - 1] <= taken_ns
        assert stop == COUNT or due_ns[stop] > taken_ns
        assert start < stop
    assert (timeline.done_ns > timeline.taken_ns).all()


@pytest.mark.parametrize("batch_max", [1, 7])
def test_batches_are_bounded(batch_max):
    due_ns = np.zeros(COUNT, np.int64)
    _, batches = play(due_ns, lambda start, stop: 1, batch_max)
    assert {stop - start for start, stop in batches[:-1]} == {batch_max}
    assert len(batches) == -(-COUNT // batch_max)


def test_arrivals_are_seeded():
    """The same seed draws the same gaps, of mean one and deviation one; a rate only stretches them."""
    gaps = latency.draw_gaps(100_000, 23, "poisson")
    assert (gaps == latency.draw_gaps(100_000, 23, "poisson")).all()
    assert (gaps != latency.draw_gaps(100_000, 24, "poisson")).any()
    assert gaps.min() >= 0
    assert gaps.mean() == pytest.approx(1, rel=0.02)
    assert gaps.std() == pytest.approx(1, rel=0.02)
    slow, fast = (latency.schedule_arrivals(gaps, rate) for rate in (1e6, 2e6))
    assert (np.diff(slow) >= 0).all()
    assert (abs(slow - 2 * fast) <= 2).all()
    assert slow[-1] == pytest.approx(100_000 * 1_000, rel=0.02)


def test_even_arrivals():
    assert latency.schedule_arrivals(latency.draw_gaps(4, 1, "even"), 1e6).tolist() == [1_000, 2_000, 3_000, 4_000]


def test_percentiles_are_values_that_were_there():
    found = latency.find_percentiles(np.arange(1, 10_001)[::-1] * 7)
    assert found == {
        "p50": 5_000 * 7, "p90": 9_000 * 7, "p99": 9_900 * 7, "p99.9": 9_990 * 7, "p99.99": 9_999 * 7,
        "max": 10_000 * 7,
    }  # fmt: skip
    assert set(latency.find_percentiles(np.array([5])).values()) == {5}


def test_batches_do_not_change_the_reports():
    """However the messages are cut into batches, the reports are those of one batch, growing included (STATE-003)."""
    bench = latency.Bench(make_workload("normal", count=4_000), batch_max=512)
    due_ns = latency.schedule_arrivals(latency.draw_gaps(len(bench.messages), 1, "poisson"), 1e6)
    row = bench.measure_load(due_ns)
    assert row["same_reports"] is True
    assert row["batches"] >= len(due_ns) / 512
    bench.expected = bench.expected[:-40]
    assert bench.measure_load(due_ns)["same_reports"] is False
