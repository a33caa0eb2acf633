"""What a run's events say that its summary does not: how long, how much for how much, whose hedge broke.

Source: STRESS-005, STRESS-006, STRESS-007.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.codes import (
    ACCEPTED,
    ADL_FILL,
    ASSIGN,
    FUND_SHORT,
    INDEX,
    LIQUIDATION_ENDED,
    LIQUIDATION_FILL,
    LIQUIDATION_STARTED,
    MARK,
    TAKEOVER,
    TRADE,
)
from engine.contract import MarketRules, value_of

Rows = NDArray[np.void]

FORCED = (LIQUIDATION_FILL, ADL_FILL, TAKEOVER)
MOVING = (ACCEPTED, TRADE, *FORCED)


class Prices:
    """The first, lowest and highest price of each market that nobody in the run had a part in.

    The index where there is one, else recorded marks.
    """

    def __init__(self, markets: int) -> None:
        self.found: dict[int, list[list[int]]] = {kind: [[0, 0, 0] for _ in range(markets)] for kind in (INDEX, MARK)}

    def fold(self, commands: Rows) -> None:
        """Add commands."""
        for kind, markets in self.found.items():
            rows = commands[commands["kind"] == kind]
            for market, span in enumerate(markets):
                self.add(span, rows["price_tick"][rows["market"] == market])

    def fold_index(self, ticks: NDArray[np.int64]) -> None:
        """Add the index of a market that is alone."""
        self.add(self.found[INDEX][0], ticks)

    @staticmethod
    def add(span: list[int], ticks: NDArray[Any]) -> None:
        """Widen a span by more prices, in their order."""
        if len(ticks):
            low, high = int(ticks.min()), int(ticks.max())
            span[:] = [span[0], min(span[1], low), max(span[2], high)] if span[0] else [int(ticks[0]), low, high]

    def list_spans(self) -> list[list[int]]:
        """Return [first, low, high] of each market in ticks; zeros where there is no price."""
        pairs = zip(self.found[INDEX], self.found[MARK], strict=True)
        return [index if index[0] else mark for index, mark in pairs]


def measure_shock(spans: Sequence[Sequence[int]], rules: Sequence[MarketRules], interest: Sequence[int]) -> int:
    """Return the value that the exogenous move put at stake, in units of the asset.

    Per market the open interest after the opening, at the first price, times the largest move of the exogenous price
    away from it, up or down, as a part of it; floored.

    Source: STRESS-005.
    """
    total = 0
    for (first, low, high), market, lots in zip(spans, rules, interest, strict=True):
        if first and lots:
            total += abs(int(value_of(market, first, lots))) * max(high - first, first - low) // first
    return total


class Episodes:
    """Forced closings at most `calm_ns` apart are one episode; the longest is kept.

    Source: STRESS-006.
    """

    def __init__(self, calm_ns: int) -> None:
        self.calm_ns = calm_ns
        self.longest_ns = 0
        self.first_ns: int | None = None  # of the present episode
        self.last_ns = 0

    def add(self, times_ns: NDArray[np.int64]) -> None:
        """Add the times of forced closings, in order."""
        if not len(times_ns):
            return
        if self.first_ns is None:
            self.first_ns = self.last_ns = int(times_ns[0])
        for before, after in self._find_gaps(times_ns):
            self.longest_ns = max(self.longest_ns, before - self.first_ns)
            self.first_ns = after
        self.last_ns = int(times_ns[-1])
        self.longest_ns = max(self.longest_ns, self.last_ns - self.first_ns)

    def _find_gaps(self, times_ns: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
        """Yield the ends of every calm: the closing before it and the one after."""
        times = np.concatenate([np.array([self.last_ns]), times_ns])
        for at in np.flatnonzero(np.diff(times) > self.calm_ns).tolist():
            yield int(times[at]), int(times[at + 1])

    def is_calm(self, end_ns: int) -> bool:
        """Return whether nothing has been forced for longer than a calm by then."""
        return self.first_ns is None or end_ns - self.last_ns > self.calm_ns


class Hedges:
    """Accounts that ADL left with one leg, and that were liquidated afterwards.

    Positions are followed from the events.  With one market nobody has two legs.

    Source: STRESS-007.
    """

    def __init__(self, markets: int) -> None:
        self.markets = markets
        self.positions: list[dict[int, int]] = [{} for _ in range(markets)]
        self.bared: set[int] = set()  # hedged accounts that were deleveraged
        self.broken: set[int] = set()

    def fold(self, events: Rows) -> None:
        """Add events."""
        if self.markets < 2:
            return
        kinds = events["kind"]
        moving = np.isin(kinds, MOVING) & ((kinds != ACCEPTED) | (events["code"] == ASSIGN))
        names = ("kind", "account", "other", "market", "side", "qty_lot")
        for row in zip(
            *(events[name][moving | (kinds == LIQUIDATION_STARTED)].tolist() for name in names), strict=True
        ):
            self._take(*row)

    def _take(self, kind: int, account: int, other: int, market: int, side: int, lots: int) -> None:
        if kind == LIQUIDATION_STARTED:
            if account in self.bared:
                self.broken.add(account)
            return
        if kind == ADL_FILL and self._is_hedged(other, market, side):
            self.bared.add(other)
        self._move(account, market, side * lots)
        if kind != ACCEPTED:
            self._move(other, market, -side * lots)

    def _is_hedged(self, account: int, market: int, side: int) -> bool:
        return any(
            positions.get(account, 0) * side < 0 for place, positions in enumerate(self.positions) if place != market
        )

    def _move(self, account: int, market: int, lots: int) -> None:
        positions = self.positions[market]
        positions[account] = positions.get(account, 0) + lots


class Found(NamedTuple):
    """What an observer has found, beside the summary's."""

    recovery_ns: int
    recovered: bool
    hedge_breaks: int
    refused: bool  # a walk ended because the fund could not pay, with nobody deleveraged for it


class Observer:
    """Everything above, fed with the events of a run."""

    def __init__(self, markets: int, calm_ns: int) -> None:
        self.prices, self.episodes, self.hedges = Prices(markets), Episodes(calm_ns), Hedges(markets)
        self.refused = False

    def fold(self, events: Rows) -> None:
        """Add events, in order."""
        kinds = events["kind"]
        self.episodes.add(events["ts_ns"][np.isin(kinds, FORCED)])
        self.hedges.fold(events)
        short = (kinds == LIQUIDATION_ENDED) & (events["code"] == FUND_SHORT)
        self.refused = self.refused or bool(short.any())

    def fold_piece(self, commands: Rows, events: Rows) -> None:
        """Add commands and their events."""
        self.prices.fold(commands)
        self.fold(events)

    def tell(self, end_ns: int) -> Found:
        """Return what was found, the run having ended then."""
        episodes = self.episodes
        return Found(episodes.longest_ns, episodes.is_calm(end_ns), len(self.hedges.broken), self.refused)
