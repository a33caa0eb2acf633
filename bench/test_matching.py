"""Messages per second of the book alone: the challenge's workload, compiled beside the reference book."""

from decimal import Decimal

import numpy as np
import pytest
from msgspec.structs import replace

from engine.bench import challenge
from engine.bench.matching import MARKET, make_engine, run_workload
from engine.codes import PRICE_MAX_LIMIT
from engine.compiled import Capacity, CompiledEngine
from engine.contract import build_setup
from engine.layout import MESSAGE, REPORT
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


@pytest.mark.benchmark(group="distance")
@pytest.mark.parametrize("place", ["near", "far"])
def test_distance(benchmark, place):
    """20,000 pairs of new and cancel beside a quote, or up to 2**31 - 1 ticks away: a far one makes its own page."""
    engine = CompiledEngine(build_setup([replace(MARKET, price_max=Decimal(PRICE_MAX_LIMIT))]), Capacity())
    messages = np.zeros(2 * COUNT + 1, MESSAGE)
    messages["seq"] = np.arange(len(messages))
    messages["order_id"] = 1 + (1 + messages["seq"]) // 2
    messages["kind"][2::2] = challenge.CANCEL
    messages["qty"] = 1
    random = np.random.RandomState(7)
    highest = PRICE_MAX_LIMIT if place == "far" else 2_000
    messages["price"] = random.randint(1_001, highest + 1, len(messages))
    messages["price"][0] = 1_000
    reports = np.zeros(len(messages), REPORT)
    run_workload(engine, messages[:1], reports)
    pairs = messages[1:]
    assert benchmark.pedantic(run_workload, args=(engine, pairs, reports), rounds=20) == len(pairs)
    assert np.bincount(reports["kind"][: len(pairs)]).tolist() == [COUNT, 0, COUNT]
