"""Tardis.dev CSV files, plain or compressed, as rows; the rules are FEED-001 to FEED-006.

Every data type with its header: trades, incremental_book_L2, derivative_ticker, quotes, liquidations and the book
snapshots.  What cannot be read exactly is refused, naming file, line and field.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from engine.codes import (
    ENDS_MESSAGE,
    IN_SNAPSHOT,
    NO_RATE,
    ROW_CLEAR,
    ROW_FUNDING,
    ROW_INDEX,
    ROW_INTEREST,
    ROW_LAST,
    ROW_LEVEL,
    ROW_LIQUIDATION,
    ROW_MARK,
    ROW_PREDICTED,
    ROW_QUOTE,
    ROW_TRADE,
)
from engine.errors import DataError
from engine.feeds.block import Ints
from engine.feeds.columns import (
    NS_PER_US,
    Block,
    FieldError,
    Parser,
    Stamps,
    convert_block,
    count_stamp,
    explain_symbol,
    optional,
    read_columns,
)
from engine.feeds.instruments import Findings, Instrument, Instruments, count_interest, count_rate
from engine.feeds.tape import Format, Head, Records, TapeFile
from engine.layout import RECORD

NAME = re.compile(r"(?P<exchange>[^_]+)_(?P<kind>\w+?)_(?P<date>\d{4}-\d\d-\d\d)_(?P<symbol>.+?)\.csv(?:\.(?:gz|zst))?")

STAMPS = ("timestamp", "local_timestamp")
COMMON = ("exchange", "symbol", *STAMPS)
# What each kind of file must have; a file is what its header says, whatever its name.  The order is the order at equal
# stamps (FEED-001): a trade stands before the book that shows its effect.
SCHEMAS: dict[str, tuple[str, ...]] = {
    "trades": (*COMMON, "id", "side", "price", "amount"),
    "liquidations": (*COMMON, "id", "side", "price", "amount"),
    "quotes": (*COMMON, "ask_amount", "ask_price", "bid_price", "bid_amount"),
    "incremental_book_L2": (*COMMON, "is_snapshot", "side", "price", "amount"),
    "book_snapshot": (*COMMON, "asks[0].price", "asks[0].amount", "bids[0].price", "bids[0].amount"),
    "derivative_ticker": (*COMMON, "funding_timestamp", "funding_rate", "index_price", "mark_price"),
}
# What a replay plays; the others are looked at.
REPLAYED = ("trades", "incremental_book_L2", "derivative_ticker")
RANKS = {kind: rank for rank, kind in enumerate(SCHEMAS)}
LADDER = re.compile(r"(asks|bids)\[(\d{1,6})\]\.(price|amount)")

BOOK_SIDES = {"bid": 1, "ask": -1}
# A trade without a taker's side (auctions, block trades) cannot say whose order it filled: it counts as off book.
TRADE_SIDES = {"buy": 1, "sell": -1, "unknown": 0}
SNAPSHOT = {"true": 1, "false": 0}


def sniff(head: Head) -> TapeFile | None:
    """Return what a CSV file is by its header and first row, or None where neither header nor name are ours.

    Raises
    ------
    DataError
        If it is empty, its name promises a kind whose columns are not there, or a ladder lacks one.
    """
    path, lines = head.path, head.lines
    match = NAME.fullmatch(path.name)
    promised = match["kind"] if match else ""
    if promised.startswith("book_snapshot_"):
        promised = "book_snapshot"
    columns = tuple(lines[0].split(",")) if lines else ()
    fitting = [kind for kind, needed in SCHEMAS.items() if set(needed) <= set(columns)]
    if not fitting:
        if promised in SCHEMAS and not head.data:
            raise DataError(path, 1, None, "expected a header line, the file is empty")
        if promised in SCHEMAS:
            missing = next(name for name in SCHEMAS[promised] if name not in columns)
            raise DataError(path, 1, missing, f"expected the columns {','.join(SCHEMAS[promised])} of {promised}")
        return None
    # Liquidations have the header of trades: there, and only there, the name decides.
    kind = promised if promised in fitting else fitting[0]
    if len(lines) < 2:
        raise DataError(path, 2, None, "expected at least one row below the header")
    fields = lines[1].split(",")
    if len(fields) != len(columns):
        raise DataError(path, 2, None, f"expected {len(columns)} fields, got {len(fields)}")
    row = dict(zip(columns, fields, strict=True))
    if kind == "book_snapshot":
        _check_ladder(path, columns)
    try:
        first = count_stamp(row["local_timestamp"])
    except ValueError as error:
        raise DataError(path, 2, "local_timestamp", str(error)) from error
    exchange, symbol = row["exchange"], row["symbol"]
    at = columns.index("symbol")
    others = {text.split(",", at + 1)[at] for text in lines[1:] if text.count(",") > at} - {symbol}
    return TapeFile(path, FORMAT, kind, exchange, symbol, first * NS_PER_US, RANKS[kind], columns, bool(others))


def read(files: Sequence[TapeFile], instruments: Instruments, findings: Findings) -> Iterator[Records]:
    """Yield the rows of files of one kind that follow each other in time."""
    stamps = Stamps("local_timestamp")
    in_snapshot: dict[int, bool] = {}
    for file in files:
        converter = _Converter(file, instruments)
        for whole in read_columns(file.path, file.columns, findings, stamps=STAMPS):
            for block, rows in convert_block(file.path, whole, converter.convert, findings):
                findings.rows[file.kind] += len(block)
                settled = stamps.settle(file.path, block, rows, findings)
                if file.kind == "incremental_book_L2":
                    settled = begin_snapshots(settled, in_snapshot, findings)
                yield settled


def begin_snapshots(rows: Records, in_snapshot: dict[int, bool], findings: Findings) -> Records:
    """Return book rows with a CLEAR wherever a snapshot begins; rows that go on saying `true` are the same one.

    Parameters
    ----------
    in_snapshot : dict
        Instrument -> whether its last row was one of a snapshot; kept from block to block.
    """
    if not len(rows):
        return rows
    flags = (rows["flags"] & IN_SNAPSHOT) != 0
    places: list[int] = []
    column = rows["market"]
    is_alone = bool((column == column[0]).all())  # unique sorts
    markets: list[int] = column[:1].tolist() if is_alone else np.unique(column).tolist()
    if not flags.any():
        in_snapshot.update(dict.fromkeys(markets, False))
        return rows
    for market in markets:
        here = np.arange(len(rows)) if is_alone else np.flatnonzero(column == market)
        before = np.concatenate([[in_snapshot.get(market, False)], flags[here][:-1]])
        begun = here[flags[here] & ~before].tolist()
        # one that does not open the recording says that the stream was lost and began anew
        findings.counts["resets"] += len(begun) - (market not in in_snapshot and bool(flags[here[0]]))
        places += begun
        in_snapshot[market] = bool(flags[here[-1]])
    if not places:
        return rows
    places.sort()
    told = np.insert(rows, places, rows[places])
    marks = np.array(places, dtype=np.int64) + np.arange(len(places))
    told["kind"][marks], told["price"][marks], told["qty"][marks], told["side"][marks] = ROW_CLEAR, 0, 0, 0
    return told


class _Converter:
    """Blocks of one file as rows."""

    def __init__(self, file: TapeFile, instruments: Instruments) -> None:
        self.file, self.instruments = file, instruments
        self._convert = CONVERTERS[file.kind]

    def convert(self, block: Block) -> Records:
        """Return the rows of a block."""
        exchanges = block.unique("exchange")
        if exchanges != {self.file.exchange}:
            other = next(exchange for exchange in block.texts("exchange") if exchange != self.file.exchange)
            raise FieldError("exchange", f"expected {self.file.exchange}, got {other!r}")
        symbols = block.unique("symbol")
        found = {symbol: self._find(symbol) for symbol in symbols}
        if len(symbols) == 1:
            return self._convert(block, found[symbols.pop()])
        column = block.texts("symbol")
        cuts = [0, *(at for at in range(1, len(block)) if column[at] != column[at - 1]), len(block)]
        parts = [self._convert(block.take(start, stop), found[column[start]]) for start, stop in pairwise(cuts)]
        return np.concatenate(parts)

    def _find(self, symbol: str) -> Instrument:
        instrument = self.instruments.find(self.file.exchange, symbol)
        if instrument is None:
            known = [market.symbol for market in self.instruments.markets]
            raise FieldError("symbol", explain_symbol(symbol, known), "other symbol")
        return instrument


# ---------------------------------------------------------------- columns to rows


def _begin(kind: int, block: Block, instrument: Instrument) -> Records:
    rows = np.zeros(len(block), RECORD)
    rows["kind"], rows["market"] = kind, instrument.index
    rows["ts_ns"], rows["exchange_ns"] = _read_stamps(block)
    return rows


def _read_stamps(block: Block) -> tuple[Ints, Ints]:
    return block.stamps("local_timestamp"), block.stamps("timestamp")


def _convert_trades(block: Block, instrument: Instrument, kind: int = ROW_TRADE) -> Records:
    from engine.feeds.rows import build_rows

    return build_rows(
        kind,
        instrument.index,
        *_read_stamps(block),
        np.zeros(len(block), np.int64),
        block.choose("side", TRADE_SIDES),
        block.count("price", instrument.prices),
        block.count("amount", instrument.trades),
        block.ids("id"),
    )


def _convert_liquidations(block: Block, instrument: Instrument) -> Records:
    return _convert_trades(block, instrument, ROW_LIQUIDATION)


def _convert_book(block: Block, instrument: Instrument) -> Records:
    from engine.feeds.rows import build_rows

    return build_rows(
        ROW_LEVEL,
        instrument.index,
        *_read_stamps(block),
        block.choose("is_snapshot", SNAPSHOT) * IN_SNAPSHOT,
        block.choose("side", BOOK_SIDES),
        block.count("price", instrument.levels),
        block.count("amount", instrument.totals),
        np.zeros(len(block), np.int64),
    )


def _convert_quotes(block: Block, instrument: Instrument) -> Records:
    """Return two rows per quote, bid then ask; a side that is empty has price and quantity 0."""
    rows = np.repeat(_begin(ROW_QUOTE, block, instrument), 2)
    for at, (side, name) in enumerate(((1, "bid"), (-1, "ask"))):
        rows["side"][at::2] = side
        rows["price"][at::2] = block.count(f"{name}_price", instrument.prices, may_be_empty=True)
        rows["qty"][at::2] = block.count(f"{name}_amount", instrument.totals, may_be_empty=True)
    return rows


def _convert_snapshots(block: Block, instrument: Instrument) -> Records:
    """Return per line a CLEAR and its levels; sides may be shorter than the ladder, or empty."""
    heads = _begin(ROW_CLEAR, block, instrument)
    heads["flags"] = IN_SNAPSHOT
    parts = [heads]
    ladder = sorted({match[:2] for match in map(_match_ladder, block.names) if match})
    for name, place in ladder:
        label = f"{'asks' if name else 'bids'}[{place}]"
        rows = heads.copy()
        rows["kind"], rows["side"] = ROW_LEVEL, -1 if name else 1
        rows["price"] = block.count(f"{label}.price", instrument.levels, may_be_empty=True)
        rows["qty"] = block.count(f"{label}.amount", instrument.totals, may_be_empty=True)
        parts.append(rows)
    told: Records = np.stack(parts, axis=1).reshape(-1)
    told = told[(told["kind"] == ROW_CLEAR) | (told["price"] > 0)]
    last = np.append(told["kind"][1:] == ROW_CLEAR, True)
    told["flags"] |= np.where(last, ENDS_MESSAGE, 0).astype(np.uint8)
    return told


def _check_ladder(path: Path, columns: Sequence[str]) -> None:
    """Raise DataError where a level of the ladder has a price and no amount, or the other way round."""
    for name in columns:
        if match := LADDER.fullmatch(name):
            label, _, what = name.rpartition(".")
            other = f"{label}.{'amount' if what == 'price' else 'price'}"
            if other not in columns:
                raise DataError(path, 1, other, f"expected this column beside {match[0]}")


def _match_ladder(name: str) -> tuple[bool, int] | None:
    match = LADDER.fullmatch(name)
    return (match[1] == "asks", int(match[2])) if match else None


def _convert_ticker(block: Block, instrument: Instrument) -> Records:
    """Return per line what it tells: funding, predicted rate, open interest, last, index, mark, in this order."""
    rows = _begin(ROW_FUNDING, block, instrument)
    due = np.array(block.map("funding_timestamp", optional(count_stamp)), dtype=np.int64)
    rate_texts = block.texts("funding_rate")
    rows["qty"], rows["price"] = due * NS_PER_US, block.map("funding_rate", count_rate)
    rows["flags"] = [0 if text else NO_RATE for text in rate_texts]
    rows["side"] = 0
    parts = [rows[(due != 0) | (rows["flags"] == 0)]]
    places = [np.flatnonzero((due != 0) | (rows["flags"] == 0))]
    others: tuple[tuple[int, str, str, Parser], ...] = (
        (ROW_PREDICTED, "predicted_funding_rate", "price", count_rate),
        (ROW_INTEREST, "open_interest", "qty", count_interest),
        (ROW_LAST, "last_price", "price", instrument.count_fine),
        (ROW_INDEX, "index_price", "price", instrument.count_fine),
        (ROW_MARK, "mark_price", "price", instrument.count_fine),
    )
    for kind, name, field, parse in others:
        if name not in block.names:
            continue
        told = _begin(kind, block, instrument)
        told[field] = block.map(name, parse)
        here = np.flatnonzero(np.array([bool(text) for text in block.texts(name)]))
        parts.append(told[here])
        places.append(here)
    return np.concatenate(parts)[np.argsort(np.concatenate(places), kind="stable")]


CONVERTERS: Mapping[str, Callable[[Block, Instrument], Records]] = {
    "trades": _convert_trades,
    "liquidations": _convert_liquidations,
    "quotes": _convert_quotes,
    "incremental_book_L2": _convert_book,
    "book_snapshot": _convert_snapshots,
    "derivative_ticker": _convert_ticker,
}
FORMAT = Format("tardis", sniff, read)
