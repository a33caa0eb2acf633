"""Recorded prices and depth bent by a shock (WARP-001, WARP-002), in integers.

A level is one signed number, `price_tick` for a bid and `-price_tick` for an ask.  Multiplied and floored, a bid goes
down and an ask goes up to its tick, so a book that was not crossed never becomes so.
"""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from engine.codes import INDEX, LEVEL, MARK, PPM, PRINT
from engine.feeds.draws import Ints
from engine.feeds.instruments import QTY_MAX_LOT
from engine.feeds.merge import Commands, build_commands, cut_chunks
from engine.scenario.shock import Shock

NS_PER_MS = 1_000_000
LEVELS_KEPT = 1 << 16  # removed levels are forgotten when this many are remembered


def mul_ppm_floor(number: Ints, ppm: int) -> Ints:
    """Return number x ppm / 10^6, floored, without leaving 64 bits."""
    whole, part = np.divmod(number, PPM)
    product: Ints = whole * ppm + part * ppm // PPM
    return product


def scale_totals(sums: Ints, depth_ppm: int) -> Ints:
    """Return the quantities told for recorded totals; a level holds at most 2^40 lots (OUT-002)."""
    return np.minimum(mul_ppm_floor(sums, depth_ppm), QTY_MAX_LOT)


def mul_ppm_even(number: Ints, ppm: int | Ints) -> Ints:
    """Return number x ppm / 10^6, rounded half-even; `number` is a price."""
    floor, rest = np.divmod(number * ppm, PPM)
    rounded: Ints = floor + ((2 * rest > PPM) | ((2 * rest == PPM) & (floor % 2 == 1)))
    return rounded


class _Book:
    """The outside's book of one market, as recorded and as told."""

    def __init__(self) -> None:
        self.raw: dict[int, int] = {}  # recorded level -> recorded total; 0 where it was removed
        self.sums: dict[int, int] = {}  # told level -> recorded totals that fell on it
        self.mark_tick = 0
        self.index_tick = 0

    def record(self, keys: list[int], totals: list[int]) -> None:
        """Remember recorded levels while they are told as they are."""
        self.raw.update(zip(keys, totals, strict=True))
        if len(self.raw) > LEVELS_KEPT:
            self.raw = {key: total for key, total in self.raw.items() if total}

    def change(self, keys: list[int], totals: list[int], told: list[int]) -> list[int]:
        """Take recorded changes one by one; return what each makes of the sum at the level it is told at."""
        raw, sums, new = self.raw, self.sums, []
        for key, total, place in zip(keys, totals, told, strict=True):
            changed = sums.get(place, 0) + total - raw.get(key, 0)
            raw[key] = total
            sums[place] = changed
            new.append(changed)
        if len(raw) > LEVELS_KEPT:
            self.raw = {key: total for key, total in raw.items() if total}
            self.sums = {key: total for key, total in sums.items() if total}
        return new

    def place(self, price_ppm: int, is_told_raw: bool) -> tuple[Ints, Ints, Ints]:
        """Move every level to a new factor.

        Parameters
        ----------
        is_told_raw : bool
            Whether the book has been told as recorded until now.

        Returns
        -------
        gone, keys, sums : int64 arrays
            Levels told before and no longer there; levels there now, with the recorded totals that fell on each.
        """
        count = len(self.raw)
        keys = np.fromiter(self.raw.keys(), dtype=np.int64, count=count)
        totals = np.fromiter(self.raw.values(), dtype=np.int64, count=count)
        keys, totals = keys[totals > 0], totals[totals > 0]
        self.raw = dict(zip(keys.tolist(), totals.tolist(), strict=True))
        before = keys if is_told_raw else np.array([key for key, total in self.sums.items() if total], dtype=np.int64)
        told = mul_ppm_floor(keys, price_ppm)
        order = np.argsort(told, kind="stable")
        places, starts = np.unique(told[order], return_index=True)
        sums = np.add.reduceat(totals[order], starts) if len(starts) else totals
        # A bid that would lie below the first tick is nowhere.
        places, sums = places[places != 0], sums[places != 0]
        self.sums = dict(zip(places.tolist(), sums.tolist(), strict=True))
        return np.setdiff1d(before, places), places, sums


class _Warper:
    """The state between chunks: books, factors, the current step."""

    def __init__(self, shock: Shock, market_count: int, start_ns: int) -> None:
        self.books = [_Book() for _ in range(market_count)]
        self.price, self.depth = shock.price_curve(), shock.depth_curve()
        self.start_ns, self.step_ns = start_ns, shock.step_ms * NS_PER_MS
        self.step = 0
        self.price_ppm, self.depth_ppm = self.price.at(0), self.depth.at(0)
        self.last_step = max(*self.price.times_ns, *self.depth.times_ns) // self.step_ns + 1

    def bend(self, chunk: Commands) -> Iterator[Commands]:
        """Yield one chunk bent, with the steps that fall into it."""
        ts_ns, done = chunk["ts_ns"], 0
        while done < len(chunk):
            end = int(np.searchsorted(ts_ns, self.start_ns + (self.step + 1) * self.step_ns, side="left"))
            if end > done:
                yield self._bend_part(chunk[done:end])
                done = end
            if done < len(chunk):
                yield from self._step_to((int(ts_ns[done]) - self.start_ns) // self.step_ns)

    def _step_to(self, target: int) -> Iterator[Commands]:
        for step in range(self.step + 1, min(target, self.last_step) + 1):
            price_ppm, depth_ppm = self.price.at(step * self.step_ns), self.depth.at(step * self.step_ns)
            if (price_ppm, depth_ppm) != (self.price_ppm, self.depth_ppm):
                is_told_raw = self.is_identity()
                is_price_new = price_ppm != self.price_ppm
                self.price_ppm, self.depth_ppm = price_ppm, depth_ppm
                ts_ns = self.start_ns + step * self.step_ns
                for market, book in enumerate(self.books):
                    yield from self._place_anew(book, market, ts_ns, is_told_raw, is_price_new)
        self.step = target

    def is_identity(self) -> bool:
        """Return whether the tape is told as it is."""
        return self.price_ppm == PPM and self.depth_ppm == PPM

    def _place_anew(
        self, book: _Book, market: int, ts_ns: int, is_told_raw: bool, is_price_new: bool
    ) -> Iterator[Commands]:
        gone, keys, sums = book.place(self.price_ppm, is_told_raw)
        levels = np.concatenate([gone, keys])
        totals = np.concatenate([np.zeros(len(gone), dtype=np.int64), scale_totals(sums, self.depth_ppm)])
        times = np.full(len(levels), ts_ns, dtype=np.int64)
        commands = build_commands(LEVEL, market, times, np.sign(levels), np.abs(levels), totals)
        # Where depth rounds to nothing a level is taken away, and that comes first like every removal.
        yield commands[np.argsort(totals > 0, kind="stable")]
        # The market moves first, its mark follows, as it does on a venue.
        for kind, price in ((INDEX, book.index_tick), (MARK, book.mark_tick)):
            if price and is_price_new:
                ticks = np.maximum(mul_ppm_even(np.array([price], dtype=np.int64), self.price_ppm), 1)
                yield build_commands(kind, market, times[:1] if len(times) else np.array([ts_ns]), 0, ticks, 0)

    def _bend_part(self, part: Commands) -> Commands:
        for market, book in enumerate(self.books):
            for kind in (MARK, INDEX):
                prices = part["price_tick"][(part["kind"] == kind) & (part["market"] == market)]
                if len(prices) and kind == MARK:
                    book.mark_tick = int(prices[-1])
                elif len(prices):
                    book.index_tick = int(prices[-1])
        if self.is_identity():
            for book, rows in self._levels(part):
                keys = part["price_tick"][rows] * part["side"][rows]
                book.record(keys.tolist(), part["qty_lot"][rows].tolist())
            return part
        bent = part.copy()
        prints = part["kind"] == PRINT
        if prints.any():
            # A taker's print lies at the level it met: a buyer's at an ask, which goes up to its tick.
            sides = -part["side"][prints].astype(np.int64)
            bent["price_tick"][prints] = np.maximum(
                sides * mul_ppm_floor(part["price_tick"][prints] * sides, self.price_ppm), 1
            )
        marks = (part["kind"] == MARK) | (part["kind"] == INDEX)
        bent["price_tick"][marks] = np.maximum(mul_ppm_even(part["price_tick"][marks], self.price_ppm), 1)
        keep = np.ones(len(part), dtype=bool)
        for book, rows in self._levels(part):
            keys = part["price_tick"][rows] * part["side"][rows]
            told = mul_ppm_floor(keys, self.price_ppm)
            sums = book.change(keys.tolist(), part["qty_lot"][rows].tolist(), told.tolist())
            bent["price_tick"][rows] = np.abs(told)
            bent["qty_lot"][rows] = scale_totals(np.array(sums, dtype=np.int64), self.depth_ppm)
            keep[rows[told == 0]] = False
        return bent if keep.all() else bent[keep]

    def _levels(self, part: Commands) -> Iterator[tuple[_Book, NDArray[np.intp]]]:
        is_level = part["kind"] == LEVEL
        for market, book in enumerate(self.books):
            rows = np.flatnonzero(is_level & (part["market"] == market))
            if len(rows):
                yield book, rows


def warp(
    chunks: Iterable[Commands], shock: Shock, market_count: int = 1, *, start_ns: int | None = None, rows: int = 65_536
) -> Iterator[Commands]:
    """Yield a tape with its prices and depth multiplied by the shock's factors.

    Bent are `level` (price and quantity), `print`, `mark` and `index` (price) of all markets; everything else passes
    as it is.  Factors change at whole steps from the first command on.  At a step at which one changes, the whole
    outside book of every market is placed anew: first the levels that are gone, then every total, levels that fall on
    one tick summed; then, if the price factor changed, index and mark (the last recorded, at the new factor).  What
    takers had eaten of the outside's levels is thereby quoted again.

    Parameters
    ----------
    chunks : iterable of COMMAND arrays
        In order of time.
    market_count : int
        Markets have the indexes 0 .. market_count - 1.
    start_ns : int, optional
        Time 0 of the shock; the first command's if not given.
    rows : int
        Length of the arrays that come out.
    """
    return cut_chunks(_warp(chunks, shock, market_count, start_ns), rows)


def _warp(chunks: Iterable[Commands], shock: Shock, market_count: int, start_ns: int | None) -> Iterator[Commands]:
    warper: _Warper | None = None
    for chunk in chunks:
        if not len(chunk):
            continue
        if warper is None:
            warper = _Warper(shock, market_count, int(chunk["ts_ns"][0]) if start_ns is None else start_ns)
        yield from warper.bend(chunk)
