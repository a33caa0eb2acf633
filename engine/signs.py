"""Warning signs: how a market stands, as numbers that are cheap enough to be taken while it runs (SIGN-001).

The compiled engine counts them in one kernel, the reference engine in the plainest way.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.codes import PPM
from engine.compiled import CompiledEngine
from engine.contract import value_of
from engine.exchange import Exchange

Rows = NDArray[np.void]

SHARE_BITS = 30
SECOND_NS = 1_000_000_000

SIGNS = np.dtype(
    [
        (name, "<i8")
        for name in (
            "ts_ns",
            "seq",  # of the last command before it
            "market",
            "mark_tick",
            "index_tick",  # 0: none
            "last_tick",
            "bid_tick",
            "ask_tick",
            "bid_1pct_lot",  # what rests within 1 and 5 percent of the middle
            "bid_5pct_lot",
            "ask_1pct_lot",
            "ask_5pct_lot",
            "open_interest_lot",
            "positions",  # of accounts
            "top10_ppm",  # part of the accounts' quantities that the ten largest positions hold
            "herfindahl_ppm",  # sum of the squares of all their parts
            "long_1pct_quote",  # notional that a fall of the mark by so much would have liquidated
            "long_2pct_quote",
            "long_5pct_quote",
            "long_10pct_quote",
            "short_1pct_quote",  # and a rise
            "short_2pct_quote",
            "short_5pct_quote",
            "short_10pct_quote",
            "funding_ppb",  # the last rate
            "fund_quote",
            "long_queue",  # candidates for auto-deleveraging
            "long_queue_top10_ppm",  # part of their quantity that the best-ranked ten hold
            "long_queue_top1pct_ppm",  # and the best-ranked hundredth
            "short_queue",
            "short_queue_top10_ppm",
            "short_queue_top1pct_ppm",
        )
    ]
)


def measure_signs(exchange: Exchange, market: int, ts_ns: int) -> Rows:
    """Return one SIGNS row of a market as it stands, stamped `ts_ns`.

    The same for both engines.  O(levels + accounts) in the compiled one.

    Source: SIGN-001..SIGN-006.
    """
    engine: Any = exchange.engine
    rules = exchange.setup.markets[market]
    if isinstance(engine, CompiledEngine):
        from engine.kernels.signs import count_signs

        counted = count_signs(engine.box, market).tolist()
        row, head = engine.state.markets[market], engine.state.head[0]
        prices = [int(row[name]) for name in ("mark_tick", "index_tick", "last_tick", "open_interest_lot")]
        seq, rate = int(head["seq"]), int(engine.state.averages[market]["rate_ppb"])
    else:
        counted = engine.inner.count_signs(market)
        view = exchange.view()
        prices = [int(number) for number in view.markets[market][:4]]
        seq, rate = int(view.clock[0][0]), int(engine.inner.state.averages[market].rate_ppb)
    longs, shorts = counted[6:10], counted[10:14]
    count, total, largest, squares = counted[14:18]
    notionals = [abs(int(value_of(rules, prices[0], lots))) if prices[0] else 0 for lots in (*longs, *shorts)]
    spread = [count, _share(largest, total), squares * PPM >> 2 * SHARE_BITS]
    queues = [
        number
        for length, lots, first, hundredth in (counted[18:22], counted[22:26])
        for number in (length, _share(first, lots), _share(hundredth, lots))
    ]
    fund = engine.read_trigger(market)[1]
    found = np.zeros(1, SIGNS)
    numbers = [ts_ns, seq, market, *prices[:3], *counted[:6], prices[3], *spread, *notionals, rate, fund, *queues]
    found[0] = tuple(numbers)
    return found


def _share(part: int, whole: int) -> int:
    """Return a part per million of the whole, floored; 0 of nothing."""
    return part * PPM // whole if whole else 0


class Sampler:
    """Takes the signs of all markets at instants of the tape's time.

    Parameters
    ----------
    exchange : Exchange
    sample_ns : int
        Instants are the whole multiples of it, since the epoch; 0: no samples.
    rest_commands, rest_positions : int
        A sample is passed over until so many commands, and so many per open position, went by since the one before; 0:
        none is.  The first instant's is not.

    Source: SIGN-001.
    """

    def __init__(self, exchange: Exchange, sample_ns: int, rest_commands: int = 0, rest_positions: int = 0) -> None:
        self.exchange, self.sample_ns = exchange, sample_ns
        self.rest_commands, self.rest_positions = rest_commands, rest_positions
        self.found: list[Rows] = []
        self.since = 0  # commands since the last sample
        self.is_begun = False
        self._need = 0
        self._number = -1  # of the last instant

    @property
    def next_ns(self) -> int:
        """Return the instant after the last one that had a sample."""
        return (self._number + 1) * self.sample_ns

    @property
    def left(self) -> int:
        """Return how many commands the next sample waits for at least."""
        return max(self._need - self.since, 0)

    def find_cut(self, ts_ns: NDArray[np.int64]) -> int | None:
        """Return before which of these commands the next sample is taken; None: not before any."""
        if not self.is_begun:
            return None
        at = max(int(np.searchsorted(ts_ns, self.next_ns, "left")), self.left)
        return at if at < len(ts_ns) else None

    def begin(self, ts_ns: int) -> None:
        """Take the first sample, of the state after the opening; before it there are none.

        The tape's book comes later, so the instant after it has a sample too, however few commands that takes.
        """
        self.is_begun = self.sample_ns > 0
        self._take(ts_ns, ts_ns)
        self._need = 0

    def take(self, ts_ns: int) -> None:
        """Take a sample of the state before a command at `ts_ns`, stamped with the last instant at or before that."""
        self._take(ts_ns, ts_ns // max(self.sample_ns, 1) * self.sample_ns)

    def end(self, ts_ns: int) -> None:
        """Take the last sample, of the state as it stands, if commands came after the one before."""
        if self.since:
            self._take(ts_ns, ts_ns)

    def _take(self, ts_ns: int, stamp_ns: int) -> None:
        if not self.is_begun:
            return
        self._number = ts_ns // self.sample_ns
        markets = range(len(self.exchange.markets))
        rows = np.concatenate([measure_signs(self.exchange, market, stamp_ns) for market in markets])
        self.found.append(rows)
        self.since = 0
        self._need = self.rest_commands + self.rest_positions * int(rows["positions"].sum())

    @property
    def count(self) -> int:
        """Return how many samples were taken."""
        return len(self.found)

    def read_rows(self) -> Rows:
        """Return all samples, by time, then market."""
        return np.concatenate(self.found) if self.found else np.zeros(0, SIGNS)
