"""Messages per second of the book alone: the challenge's workload, compiled beside the reference book."""

import numpy as np
import pytest

from engine.bench import challenge
from engine.bench.matching import make_engine, run_workload
from engine.layout import REPORT
from tests.mirror.test_matching import play_plain

COUNT = 20_000  # new orders; the reference book takes seconds over more


@pytest.mark.benchmark(group="matching")
@pytest.mark.parametrize("book", ["compiled", "reference"])
def test_normal_day(benchmark, book):
    """The `normal` scenario, 20,000 new orders: both books give the same canonical text."""
    messages = challenge.make_workload("normal", count=COUNT)
    reports = np.zeros(3 * len(messages) + 16, REPORT)
    run_workload(make_engine(), messages[:1], reports)

    def play_compiled():
        return run_workload(make_engine(), messages, reports)

    if book == "reference":
        text = benchmark.pedantic(play_plain, args=(messages,), rounds=1)
    else:
        text = challenge.format_reports(reports[: benchmark.pedantic(play_compiled, rounds=10)])
    assert text == play_plain(messages)
    if benchmark.stats:
        benchmark.extra_info["messages_per_second"] = len(messages) / benchmark.stats["min"]
