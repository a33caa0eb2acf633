"""Messages per second beside the books others publish: the same messages, and the same trades or no timing at all.

The others are the optional extra `bench`; what is not installed is skipped.  They take one Python call per message, so
ours is there twice: with a call per message like theirs, and as it is meant to be used, with one call for all.
"""

from importlib.metadata import version

import numpy as np
import pytest

from bench import peers
from engine.bench import challenge
from engine.bench.matching import make_engine, run_workload
from engine.layout import REPORT

COUNT = 5_000  # new orders; the reference book takes seconds over more
ROUNDS = 5

MESSAGES = challenge.make_workload("normal", count=COUNT)
ROWS = peers.list_rows(MESSAGES)
REPORTS = np.zeros(3 * len(MESSAGES) + 16, REPORT)


@pytest.fixture(scope="module")
def expected():
    """Return the trades of the compiled book."""
    return peers.read_trades(REPORTS[: run_workload(make_engine(), MESSAGES, REPORTS)])


def note_rate(benchmark, **more):
    """Keep what the table should say beside the times."""
    if benchmark.stats:
        benchmark.extra_info.update(more, messages_per_second=len(MESSAGES) / benchmark.stats["min"])


@pytest.mark.benchmark(group="peers")
def test_compiled_in_one_call(benchmark, expected):
    def fresh():
        return (make_engine(), MESSAGES, REPORTS), {}

    count = benchmark.pedantic(run_workload, setup=fresh, rounds=ROUNDS)
    assert peers.read_trades(REPORTS[:count]) == expected
    note_rate(benchmark)


@pytest.mark.benchmark(group="peers")
@pytest.mark.parametrize("book", [peers.Compiled, peers.Reference], ids=["compiled", "reference"])
def test_ours(benchmark, book, expected):
    rounds = 1 if book is peers.Reference else ROUNDS
    done = benchmark.pedantic(peers.play, setup=lambda: ((book(), ROWS), {}), rounds=rounds)
    assert done.list_trades() == expected
    note_rate(benchmark)


@pytest.mark.benchmark(group="peers")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of theirs
@pytest.mark.parametrize("name", peers.PEERS)
def test_theirs(benchmark, name, expected):
    pytest.importorskip(name, reason=f"{name} is not installed: pip install 'perp-engine[bench]'", exc_type=ImportError)
    book = peers.PEERS[name]
    difference = peers.describe_difference(peers.play(book(), ROWS).list_trades(), expected)
    if difference:  # a rate beside wrong trades would compare nothing; a peer may err without our build failing
        pytest.skip(f"{name} {version(name)} is not timed, {difference}")
    done = benchmark.pedantic(peers.play, setup=lambda: ((book(), ROWS), {}), rounds=ROUNDS)
    assert done.list_trades() == expected
    note_rate(benchmark, version=version(name))


def test_a_book_that_differs_is_found(expected):
    """A book that forgets IOC, and one that stops early, are told from ours at the first trade that is not ours."""

    class Forgetful(peers.Compiled):
        def enter(self, order_id, side, price, qty, is_ioc):
            super().enter(order_id, side, price, qty, False)

    trades = peers.play(Forgetful(), ROWS).list_trades()
    first = next(at for at, pair in enumerate(zip(trades, expected, strict=False), 1) if pair[0] != pair[1])
    assert peers.describe_difference(trades, expected).startswith(f"trade {first} of {len(expected)} differs: ")
    assert f"the first {len(expected) - 1} agree" in peers.describe_difference(expected[:-1], expected)
    assert peers.describe_difference(list(expected), expected) is None
