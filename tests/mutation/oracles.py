"""What may notice a fault: streams whose events and digest are known, and the tests; with the lines each one reaches.

A stream is played by the kernels alone and compared with what they did unharmed.  That is as good as a comparison with
the reference engine and the auditor, which agree with the unharmed kernels on the same streams: the first ones are
those of `tests/mirror/test_mirror_streams.py`, the others those of `perp fuzz --seed 0`.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from time import process_time
from typing import Any, NamedTuple

import coverage
import pytest
from _pytest.runner import runtestprotocol

from engine import codes
from engine.compiled import Capacity, CompiledEngine
from engine.contract import Setup, build_setup
from engine.digest import compute_digest
from engine.fuzz import build_stream
from engine.fuzz.setups import make_setup
from engine.fuzz.storm import pack_commands, random_stream
from tests.mutation.mutants import KERNELS

MIRROR_STREAMS, EDGE_STREAMS, MIRROR_STEPS = 60, 10, 150
CHUNK = 10  # commands between two looks at the events
SLOWEST = 1.0  # seconds of a test, its lines being counted; slower ones are left out
LEFT_OUT = ("test_random_streams", "test_streams_at_an_edge")  # played as streams, without the reference engine


class Oracle(NamedTuple):
    """One thing that may notice a fault."""

    name: str
    seconds: float  # what it takes unharmed, its lines being counted
    run: Callable[[], bool]  # whether it noticed


class Stream:
    """One stream and what the unharmed kernels make of it."""

    def __init__(self, setup: Setup, rows: Any) -> None:
        self.setup, self.rows = setup, rows
        self.expected = list(self.play())

    def play(self) -> Iterator[bytes]:
        """Yield the events of every chunk, then the digest and the ADL queues."""
        engine = CompiledEngine(self.setup, Capacity())
        for at in range(0, len(self.rows), CHUNK):
            yield engine.apply(self.rows[at : at + CHUNK].copy()).tobytes()
        yield compute_digest(engine.view()).encode()
        sides = [(market, side) for market in range(len(self.setup.markets)) for side in (codes.BUY, codes.SELL)]
        yield repr([engine.rank_side(*each) for each in sides]).encode()

    def differs(self) -> bool:
        """Return whether the kernels make something else of it now."""
        return any(found != wanted for found, wanted in zip(self.play(), self.expected, strict=True))


def make_mirror_stream(seed: int) -> Stream:
    """Return a stream of the mirror tests."""
    setup = make_setup(seed)
    return Stream(setup, pack_commands(random_stream(seed, setup, MIRROR_STEPS)))


def make_edge(kind: str, seed: int) -> Stream:
    """Return a stream at an edge of the mirror tests."""
    from tests.mirror.streams import make_edge_stream  # hypothesis, which pytest wants to import itself

    setup, commands = make_edge_stream(seed, kind)
    return Stream(setup, pack_commands(commands))


def make_fuzz_stream(number: int) -> Stream:
    """Return a stream of `perp fuzz --seed 0`."""
    markets, commands = build_stream(number)
    return Stream(build_setup(markets), pack_commands(commands))


def run_item(item: pytest.Item) -> bool:
    """Run one test, with its fixtures, and return whether it failed."""
    return any(report.failed for report in runtestprotocol(item, log=False, nextitem=None))


class Oracles:
    """All of them, and who reaches which line."""

    def __init__(self) -> None:
        self.found: list[Oracle] = []
        self.unfit: set[int] = set()
        self.reach: dict[tuple[str, int], set[int]] = defaultdict(set)
        # in memory, of the kernels alone, whatever the project's own settings for coverage say
        files = str(KERNELS / "*.py")
        self._coverage = coverage.Coverage(data_file=None, config_file=False, include=[files], messages=False)

    def prepare(self, streams: int, items: Sequence[pytest.Item]) -> None:
        """Play and run everything once, unharmed, and note the lines each one reaches."""
        self._coverage.start()
        for seed in range(min(MIRROR_STREAMS, streams)):
            self._add_stream(f"mirror stream {seed}", make_mirror_stream, seed)
        for seed in range(min(EDGE_STREAMS, streams - MIRROR_STREAMS)):
            self._add_stream(f"single stream {seed}", lambda seed: make_edge("single", seed), seed)
            self._add_stream(f"fallen stream {seed}", lambda seed: make_edge("fall", seed), seed)
            self._add_stream(f"assets stream {seed}", lambda seed: make_edge("assets", seed), seed)
        for number in range(streams - MIRROR_STREAMS):
            self._add_stream(f"fuzz stream {number}", make_fuzz_stream, number)
        for item in items:
            self._add_item(item)
        self._coverage.stop()
        data = self._coverage.get_data()
        for file in data.measured_files():
            for line, names in data.contexts_by_lineno(file).items():
                self.reach[Path(file).stem, line].update(int(name) for name in names if name)

    def _add_stream(self, name: str, make: Callable[[int], Stream], number: int) -> None:
        self._coverage.switch_context(str(len(self.found)))
        start = process_time()
        stream = make(number)
        self.found.append(Oracle(name, process_time() - start, stream.differs))

    def _add_item(self, item: pytest.Item) -> None:
        self._coverage.switch_context(str(len(self.found)))
        start = process_time()
        failed = run_item(item)
        seconds = process_time() - start
        self.found.append(Oracle(item.nodeid, seconds, lambda: run_item(item)))
        if failed or seconds > SLOWEST:  # what fails here proves nothing
            self.unfit.add(len(self.found) - 1)

    def find_reaching(self, module: str, first: int, last: int) -> list[int]:
        """Return the numbers of those that reach any of the lines, the quickest first."""
        numbers = set().union(*(self.reach.get((module, line), set()) for line in range(first, last + 1)))
        return sorted(numbers - self.unfit, key=lambda number: self.found[number].seconds)


class Collected:
    """A plugin of pytest that hands the collected tests to somebody else instead of running them."""

    def __init__(self, take: Callable[[list[pytest.Item]], None]) -> None:
        self.take = take

    def pytest_configure(self) -> None:
        """Have hypothesis draw from a fixed seed, and not make smaller what fails."""
        from hypothesis import HealthCheck, Phase, settings

        phases = (Phase.explicit, Phase.generate)
        fixed = settings(max_examples=15, deadline=None, derandomize=True, database=None, phases=phases)
        settings.register_profile("mutation", fixed, suppress_health_check=list(HealthCheck))
        settings.load_profile("mutation")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Hand over."""
        self.take(session.items)
        return True


def thin_out(items: Sequence[pytest.Item], cases: int) -> list[pytest.Item]:
    """Return of every test with parameters as many cases, evenly chosen; what is played as a stream is left out."""
    families: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        families[item.nodeid.split("[")[0]].append(item)
    kept = [family for name, family in families.items() if not name.endswith(LEFT_OUT)]
    return [item for family in kept for item in family[:: -(-len(family) // cases)]]


def collect(paths: Sequence[str], cases: int, take: Callable[[list[pytest.Item]], None]) -> None:
    """Collect tests in this process and call `take` with them, at most so many of each, inside pytest's session."""
    options = ["-qq", "--no-header", "--no-summary", "--capture=no", "-W", "error::RuntimeWarning", "-o", "timeout=0"]
    pytest.main([*options, *paths], plugins=[Collected(lambda items: take(thin_out(items, cases)))])
