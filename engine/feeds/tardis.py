"""Tardis.dev CSV files (plain or gzip) as commands: incremental_book_L2, trades, derivative_ticker; quotes for checks.

Everything streams: a file is read in blocks, a block is turned into columns at once, and only the set of known levels
outlives it.  What cannot be read exactly is refused, naming file, line and field.  The rules are FEED-001 to FEED-006.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from heapq import heapify, heappop, heappush
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.codes import BUY, FUNDING, INDEX, LEVEL, MARK, OFF_BOOK, PRINT
from engine.contract import Market
from engine.errors import DataError
from engine.feeds.columns import (
    NS_PER_US,
    MarketUnits,
    Parser,
    Rows,
    Table,
    TapeFile,
    count_rate,
    count_stamp,
    named,
    optional,
    read_blocks,
    unknown_symbol,
)
from engine.feeds.merge import Commands, build_commands, cut_chunks, hold_last_stamp, merge_streams

NAME = re.compile(r"(?P<exchange>[^_]+)_(?P<kind>\w+?)_(?P<date>\d{4}-\d\d-\d\d)_(?P<symbol>.+?)\.csv(?:\.gz)?")
SNIFF_BYTES = 1 << 16

COMMON = ("exchange", "symbol", "timestamp", "local_timestamp")
# What each kind of file must have; a file is what its header says, whatever its name.  The order is the order at equal
# stamps (FEED-001): a trade stands before the book that shows its effect.
SCHEMAS: dict[str, tuple[str, ...]] = {
    "trades": (*COMMON, "id", "side", "price", "amount"),
    "incremental_book_L2": (*COMMON, "is_snapshot", "side", "price", "amount"),
    "derivative_ticker": (*COMMON, "funding_timestamp", "funding_rate", "index_price", "mark_price"),
    "quotes": (*COMMON, "ask_amount", "ask_price", "bid_price", "bid_amount"),
}
STREAMS = ("trades", "incremental_book_L2", "derivative_ticker")

QUOTE = np.dtype(
    [
        ("ts_ns", "<i8"),
        ("bid_price_tick", "<i8"),
        ("bid_qty_lot", "<i8"),
        ("ask_price_tick", "<i8"),
        ("ask_qty_lot", "<i8"),
    ]
)

BOOK_SIDES = {"bid": 1, "ask": -1}
# A trade without a taker's side (auctions, block trades) cannot say whose order it filled: it counts as off book.
TRADE_SIDES = {"buy": 1, "sell": -1, "unknown": 0}
SNAPSHOT = {"true": True, "false": False}


def inspect_file(path: Path) -> TapeFile | None:
    """Return what a CSV file is by its header and first row, or None where neither header nor name are ours.

    Raises
    ------
    DataError
        If it is empty, or its name promises a kind whose columns are not there.
    """
    with closing(read_blocks(path, SNIFF_BYTES)) as blocks:
        lines = next(blocks, (1, ""))[1].split("\n", 2)
    match = NAME.fullmatch(path.name)
    promised = match["kind"] if match else ""
    columns = tuple(lines[0].split(","))
    fitting = [kind for kind, needed in SCHEMAS.items() if set(needed) <= set(columns)]
    if not fitting:
        if lines == [""]:
            raise DataError(path, 1, None, "expected a header line, the file is empty")
        if promised in SCHEMAS:
            missing = next(name for name in SCHEMAS[promised] if name not in columns)
            raise DataError(path, 1, missing, f"expected the columns {','.join(SCHEMAS[promised])} of {promised}")
        return None
    # Liquidations have the header of trades: there, and only there, the name decides.
    kind = promised if promised == "liquidations" and fitting == ["trades"] else fitting[0]
    if len(lines) < 2:
        raise DataError(path, 2, None, "expected at least one row below the header")
    row = dict(zip(columns, lines[1].split(","), strict=False))
    if len(lines[1].split(",")) != len(columns):
        raise DataError(path, 2, None, f"expected {len(columns)} fields, got {len(lines[1].split(','))}")
    try:
        first = count_stamp(row["local_timestamp"])
    except ValueError as error:
        raise DataError(path, 2, "local_timestamp", str(error)) from error
    return TapeFile(path, kind, row["exchange"], row["symbol"], first, columns)


# ---------------------------------------------------------------- columns to commands


class Stream:
    """Files of one kind that follow each other in time, as blocks of commands."""

    kind = ""

    def __init__(self, files: Sequence[TapeFile], markets: Mapping[str, MarketUnits], counts: dict[str, int]) -> None:
        self.files, self.markets, self.counts = files, markets, counts

    def parsers(self, units: MarketUnits) -> dict[str, Parser]:
        """Return how each column is read, for the message when one cannot be."""
        raise NotImplementedError

    def read(self, rows: Rows) -> Iterator[Commands]:
        """Turn rows into commands; ValueError or KeyError where a text is bad."""
        raise NotImplementedError

    def finish(self) -> Iterator[Commands]:
        """Yield what waited for rows that did not come."""
        return iter(())

    def blocks(self) -> Iterator[Commands]:
        """Yield commands in the order of the rows."""
        last = 0
        for file in self.files:
            table = Table(file, self.markets, self.parsers, last)
            for rows in table.rows():
                try:
                    yield from self.read(rows)
                except (KeyError, ValueError, ArithmeticError) as error:
                    raise table.explain() from error
                self.counts[self.kind] += len(rows.stamps)
            last = table.last_us
            yield from self.finish()


class Trades(Stream):
    """Recorded trades as `print`; without a taker's side they are off book (FEED-004)."""

    kind = "trades"

    def parsers(self, units: MarketUnits) -> dict[str, Parser]:
        """Return how each column is read."""
        return {
            "side": named(TRADE_SIDES),
            "price": units.prices.__getitem__,
            "amount": units.trades.__getitem__,
        }

    def read(self, rows: Rows) -> Iterator[Commands]:
        """Turn trades into prints, row by row."""
        columns, units = rows.columns, rows.units
        sides = np.array([TRADE_SIDES[text] for text in columns["side"]], dtype=np.int8)
        prices = [units.prices[text] for text in columns["price"]]
        amounts = [units.trades[text] for text in columns["amount"]]
        commands = build_commands(PRINT, units.index, rows.stamps * NS_PER_US, sides, prices, amounts)
        off_book = sides == 0
        if off_book.any():
            commands["side"][off_book] = BUY
            commands["flags"][off_book] = OFF_BOOK
            self.counts["off_book"] += int(off_book.sum())
        yield commands


class Levels:
    """The outside's levels of one market, as far as the reader told them.

    A level is one signed number: `price_tick` for a bid, `-price_tick` for an ask.
    """

    def __init__(self) -> None:
        self.known: set[int] = set()
        self.bids: list[int] = []  # heaps of negated keys; what is no longer known is dropped when it comes to the top
        self.asks: list[int] = []
        self.in_snapshot = False

    def apply(self, fold: dict[int, int]) -> tuple[list[int], list[int], bool]:
        """Take one message, {level: its last total}, and return it in the order it must be told in.

        Removals come before additions, so that no addition meets a level the same message takes away (FEED-002).

        Returns
        -------
        removals, additions : list of int
            Levels to set to 0, then levels to set to their total.
        crossed : bool
            Whether the message left bids at or above asks, and the newer level of each such pair was kept.
        """
        removals = [key for key, total in fold.items() if not total]
        additions = [key for key, total in fold.items() if total]
        known = self.known
        known.difference_update(removals)
        self._add(additions)
        if not self.is_crossed():
            return removals, additions, False
        kept = set(additions)
        known.difference_update(kept)
        for key in additions:
            # Newest wins, as in the exchange: everything of the other side that this level reaches is stale.
            stale = [other for other in known if (other < 0) != (key < 0) and key + other >= 0]
            known.difference_update(stale)
            removals += [other for other in stale if other not in fold]
            kept.difference_update(stale)
            self._add([key])
        removals += [key for key in additions if key not in kept]
        return removals, [key for key in additions if key in kept], True

    def _add(self, keys: list[int]) -> None:
        known = self.known
        for key in keys:
            if key not in known:
                known.add(key)
                heappush(self.bids if key > 0 else self.asks, -key)

    def is_crossed(self) -> bool:
        """Return whether the best bid is at or above the best ask."""
        known = self.known
        for heap in (self.bids, self.asks):
            while heap and -heap[0] not in known:
                heappop(heap)
            if len(heap) > 4 * len(known) + 1024:
                # Levels that came and went far from the top are never popped; without this they would pile up.
                heap[:] = [-key for key in known if (key > 0) == (heap is self.bids)]
                heapify(heap)
        return bool(self.bids and self.asks and -self.bids[0] >= self.asks[0])


class Book(Stream):
    """Book changes as `level`, one message after the other (FEED-002)."""

    kind = "incremental_book_L2"

    def __init__(self, files: Sequence[TapeFile], markets: Mapping[str, MarketUnits], counts: dict[str, int]) -> None:
        super().__init__(files, markets, counts)
        self.levels: dict[int, Levels] = {}
        # The message being read: the same stamp may go on in the next block.
        self._market, self._stamp, self._fold = -1, -1, dict[int, int]()

    def parsers(self, units: MarketUnits) -> dict[str, Parser]:
        """Return how each column is read."""
        return {
            "is_snapshot": named(SNAPSHOT),
            "side": named(BOOK_SIDES),
            "price": units.levels.__getitem__,
            "amount": units.totals.__getitem__,
        }

    def read(self, rows: Rows) -> Iterator[Commands]:
        """Group rows by stamp into messages and tell each in order."""
        columns, units, stamps = rows.columns, rows.units, rows.stamps
        sides = np.array(list(map(BOOK_SIDES.__getitem__, columns["side"])), dtype=np.int64)
        ticks = np.array(list(map(units.levels.__getitem__, columns["price"])), dtype=np.int64)
        totals = list(map(units.totals.__getitem__, columns["amount"]))
        snapshots: list[bool] | None = None
        if set(columns["is_snapshot"]) != {"false"} or self._levels(units.index).in_snapshot:
            snapshots = [SNAPSHOT[text] for text in columns["is_snapshot"]]
        if ticks.max() > units.price_max_tick:
            # Somebody always offers at ten times the price: out of the ladder's reach, and of any order's.
            near = np.flatnonzero(ticks <= units.price_max_tick).tolist()
            self.counts["beyond"] += len(ticks) - len(near)
            stamps, sides, ticks = stamps[near], sides[near], ticks[near]
            totals = [totals[row] for row in near]
            snapshots = snapshots and [snapshots[row] for row in near]
        if not totals:
            return
        keys = (ticks * sides).tolist()
        cuts = [0, *(np.flatnonzero(stamps[1:] != stamps[:-1]) + 1).tolist(), len(stamps)]
        starts = stamps[cuts[:-1]].tolist()
        told = _Told()
        for stamp, (start, stop) in zip(starts, pairwise(cuts), strict=True):
            if stamp != self._stamp or units.index != self._market:
                self._flush(told)
                self._market, self._stamp = units.index, stamp
            if snapshots is None:
                self._fold.update(zip(keys[start:stop], totals[start:stop], strict=True))
            else:
                self._fold_snapshot(keys[start:stop], totals[start:stop], snapshots[start:stop])
        yield told.build()

    def finish(self) -> Iterator[Commands]:
        """Tell the message that waited for more rows of its stamp."""
        told = _Told()
        self._flush(told)
        self._stamp = -1
        yield told.build()

    def _levels(self, market: int) -> Levels:
        return self.levels.setdefault(market, Levels())

    def _fold_snapshot(self, keys: list[int], amounts: list[int], snapshots: list[bool]) -> None:
        levels, fold = self._levels(self._market), self._fold
        for key, amount, is_snapshot in zip(keys, amounts, snapshots, strict=True):
            if is_snapshot and not levels.in_snapshot:
                # A snapshot replaces everything told before it, in this message too.
                fold.update(dict.fromkeys([*levels.known, *fold], 0))
                self.counts["snapshots"] += 1
            levels.in_snapshot = is_snapshot
            fold[key] = amount

    def _flush(self, told: "_Told") -> None:
        if self._fold:
            removals, additions, crossed = self._levels(self._market).apply(self._fold)
            told.add(self._market, self._stamp, removals, additions, [self._fold[key] for key in additions])
            self.counts["messages"] += 1
            self.counts["crossed"] += crossed
            self._fold = {}


class _Told:
    """Levels in the order they are told, gathered as lists and built once per block."""

    def __init__(self) -> None:
        self.keys: list[int] = []
        self.totals: list[int] = []
        self.stamps: list[int] = []
        self.markets: list[int] = []
        self.lengths: list[int] = []

    def add(self, market: int, stamp: int, removals: list[int], additions: list[int], totals: list[int]) -> None:
        self.keys += removals
        self.keys += additions
        self.totals += [0] * len(removals)
        self.totals += totals
        self.stamps.append(stamp)
        self.markets.append(market)
        self.lengths.append(len(removals) + len(additions))

    def build(self) -> Commands:
        keys = np.array(self.keys, dtype=np.int64)
        stamps = np.repeat(np.array(self.stamps, dtype=np.int64), self.lengths) if self.keys else keys
        commands = build_commands(LEVEL, 0, stamps * NS_PER_US, np.sign(keys), np.abs(keys), self.totals)
        if self.keys:
            commands["market"] = np.repeat(np.array(self.markets, dtype=np.int16), self.lengths)
        return commands


class Ticker(Stream):
    """Mark and index prices when they change, and funding when its stamp has passed (FEED-005, FEED-006)."""

    kind = "derivative_ticker"

    def __init__(self, files: Sequence[TapeFile], markets: Mapping[str, MarketUnits], counts: dict[str, int]) -> None:
        super().__init__(files, markets, counts)
        self._last: dict[int, dict[str, int]] = {}

    def parsers(self, units: MarketUnits) -> dict[str, Parser]:
        """Return how each column is read."""
        return {
            "timestamp": count_stamp,
            "funding_timestamp": optional(count_stamp),
            "funding_rate": count_rate,
            "index_price": units.round_price,
            "mark_price": units.round_price,
        }

    def read(self, rows: Rows) -> Iterator[Commands]:
        """Turn ticker rows into funding, index and mark, in this order, each only when there is something new."""
        last = self._last.setdefault(rows.units.index, {"due": 0, "rate": 0, "index": 0, "mark": 0})
        parsers = self.parsers(rows.units)
        told: list[tuple[int, int, int, int]] = []  # kind, ts_ns, price_tick, amount
        columns = [rows.columns[name] for name in parsers]
        for local_us, *texts in zip(rows.stamps.tolist(), *columns, strict=True):
            values = [parse(text) for parse, text in zip(parsers.values(), texts, strict=True)]
            exchange_us, due, _, index, mark = values
            ts_ns = local_us * NS_PER_US
            if due and due != last["due"]:
                # A new stamp that the old one has not reached is a change of the schedule, not a payment.
                if last["due"] and last["due"] < due and max(exchange_us, local_us) >= last["due"]:
                    told.append((FUNDING, ts_ns, 0, last["rate"]))
                    self.counts["funding"] += 1
                last["due"] = due
            if texts[2]:
                last["rate"] = values[2]
            for name, kind, price in (("index", INDEX, index), ("mark", MARK, mark)):
                if price and price != last[name]:
                    told.append((kind, ts_ns, price, 0))
                    last[name] = price
        columns_told = np.array(told, dtype=np.int64).reshape(len(told), 4)
        commands = build_commands(0, rows.units.index, columns_told[:, 1], 0, columns_told[:, 2], 0)
        commands["kind"], commands["amount_quote"] = columns_told[:, 0], columns_told[:, 3]
        yield commands


READERS: dict[str, type[Stream]] = {"trades": Trades, "incremental_book_L2": Book, "derivative_ticker": Ticker}


# ---------------------------------------------------------------- streams to one tape


class TardisFeed:
    """Tardis CSV files as one tape.

    Attributes
    ----------
    symbols : tuple of str
        The markets, in index order.
    files : tuple of TapeFile
        What is read, by kind and time.
    skipped : tuple of (Path, str)
        What was found beside it and is not read, with the reason.
    counts : dict of str to int
        Of the last `chunks` call, growing while it runs: rows per kind of file, book `messages`, `snapshots`, `crossed`
        messages, levels `beyond` the market's price_max and left out, `off_book` prints, `funding` stamps, `gap_max_ns`
        (the longest silence of all streams together).
    """

    def __init__(
        self, files: Sequence[TapeFile], markets: Sequence[Market], skipped: Sequence[tuple[Path, str]] = ()
    ) -> None:
        self.symbols = tuple(market.symbol for market in markets)
        self._markets = tuple(markets)
        order = sorted(files, key=lambda file: (STREAMS.index(file.kind), file.first_us, str(file.path)))
        self.files, self.skipped = tuple(order), tuple(skipped)
        self.counts: dict[str, int] = {}
        for file in self.files:
            if file.symbol not in self.symbols:
                raise unknown_symbol(file.path, 2, file.symbol, self.symbols)

    def chunks(self, rows: int = 65_536) -> Iterator[Commands]:
        """Yield COMMAND arrays of `rows` records in order of time; every call reads the files anew."""
        names = ("messages", "snapshots", "crossed", "beyond", "off_book", "funding", "gap_max_ns")
        self.counts = dict.fromkeys((*STREAMS, *names), 0)
        units = {market.symbol: MarketUnits(index, market) for index, market in enumerate(self._markets)}
        chains: dict[tuple[str, str], list[TapeFile]] = {}
        for file in self.files:
            chains.setdefault((file.kind, file.symbol), []).append(file)
        # Markets follow their index at equal stamps, so that the order of the tape does not hang on file names.
        keys = sorted(chains, key=lambda key: (STREAMS.index(key[0]), self.symbols.index(key[1])))
        streams = [
            hold_last_stamp(READERS[kind](chains[kind, symbol], units, self.counts).blocks()) for kind, symbol in keys
        ]
        return cut_chunks(self._watch_gaps(merge_streams(streams)), rows)

    def _watch_gaps(self, blocks: Iterator[Commands]) -> Iterator[Commands]:
        last: int | None = None
        for block in blocks:
            ts_ns = block["ts_ns"]
            widest = int(np.diff(ts_ns).max(initial=0))
            if last is not None:
                widest = max(widest, int(ts_ns[0]) - last)
            self.counts["gap_max_ns"] = max(self.counts["gap_max_ns"], widest)
            last = int(ts_ns[-1])
            yield block


# ---------------------------------------------------------------- quotes, for checks


class Quotes(Stream):
    """Best bid and ask of the venue; never commands, read to check the book against."""

    kind = "quotes"

    def parsers(self, units: MarketUnits) -> dict[str, Parser]:
        """Return how each column is read, in the order of the QUOTE dtype; a side may be empty."""
        price, total = optional(units.prices.__getitem__), optional(units.totals.__getitem__)
        return {"bid_price": price, "bid_amount": total, "ask_price": price, "ask_amount": total}

    def read(self, rows: Rows) -> Iterator[Commands]:
        """Turn rows into QUOTE records."""
        quotes = np.zeros(len(rows.stamps), dtype=QUOTE)
        quotes["ts_ns"] = rows.stamps * NS_PER_US
        fields = (QUOTE.names or ())[1:]
        for field, (name, parse) in zip(fields, self.parsers(rows.units).items(), strict=True):
            quotes[field] = [parse(text) for text in rows.columns[name]]
        yield quotes


def read_quotes(path: str | Path, market: Market) -> NDArray[np.void]:
    """Return the rows of a quotes file as QUOTE records: stamps in ns, ticks and lots, 0 where a side is empty.

    Raises
    ------
    DataError
        If it is no quotes file of this market or a row cannot be read.
    """
    file = inspect_file(Path(path))
    if file is None or file.kind != "quotes":
        raise DataError(path, 1, None, f"expected the columns {','.join(SCHEMAS['quotes'])} of quotes")
    stream = Quotes([file], {market.symbol: MarketUnits(0, market)}, {Quotes.kind: 0})
    return np.concatenate(list(stream.blocks()))


def iter_bbo_checks(
    chunks: Iterator[Commands], quotes: NDArray[np.void], market: int = 0
) -> Iterator[tuple[Commands, np.void]]:
    """Yield, per book message, the commands up to its end and the quote that must then hold.

    A venue sends its best bid and ask beside the book: when a book message arrives, the last quote that arrived no
    later (by local stamp) has the same two prices.  Messages before the first quote are joined to the next one.

    Parameters
    ----------
    chunks : iterator of COMMAND arrays
        A feed's, in order of time.
    quotes : QUOTE array
        From `read_quotes`.
    market : int
        The market the quotes are of.
    """
    waiting: list[Commands] = []
    for block in hold_last_stamp(chunks):
        start = 0
        ends = np.flatnonzero((block["kind"] == LEVEL) & (block["market"] == market))
        if len(ends):
            stamps = block["ts_ns"][ends]
            ends = ends[np.append(np.diff(stamps) != 0, True)]  # the last level of each stamp
        rows = np.searchsorted(quotes["ts_ns"], block["ts_ns"][ends], side="right") - 1
        for end, row in zip(ends.tolist(), rows.tolist(), strict=True):
            if row < 0:
                continue
            yield np.concatenate([*waiting, block[start : end + 1]]), quotes[row]
            waiting, start = [], end + 1
        waiting.append(block[start:])
