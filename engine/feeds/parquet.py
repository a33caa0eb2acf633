"""Tapes in Parquet: a file per type, a line per row, everything a row says (FEED-067).

Stamps are nanoseconds, prices and amounts exact decimals; `row` is the place in the tape, so that the files together
have the order of what they were made of.  Written by `engine.feeds.convert`, read back to equal rows.
"""

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.codes import (
    NO_RATE,
    ROW_ADD,
    ROW_CHANGE,
    ROW_CLEAR,
    ROW_DELETE,
    ROW_FILL,
    ROW_FUNDING,
    ROW_INDEX,
    ROW_INTEREST,
    ROW_LAST,
    ROW_LEVEL,
    ROW_LIQUIDATION,
    ROW_MARK,
    ROW_NAMES,
    ROW_PREDICTED,
    ROW_QUOTE,
    ROW_TRADE,
)
from engine.errors import DataError
from engine.feeds.columns import Block, FieldError, Stamps, convert_block, count_stamp
from engine.feeds.instruments import (
    INTEREST_PER_ONE,
    RATE_PER_ONE,
    Findings,
    Instrument,
    Instruments,
    count_interest,
    count_rate,
)
from engine.feeds.merge import hold_last_stamp, merge_streams
from engine.feeds.tape import DECODE_ERRORS, Format, Head, Records, TapeFile
from engine.files import refuse_parquet, require_polars
from engine.layout import RECORD

# What each file holds; the order is the order at equal stamps (FEED-001).
TYPES: dict[str, tuple[int, ...]] = {
    "trades": (ROW_TRADE,),
    "liquidations": (ROW_LIQUIDATION,),
    "quotes": (ROW_QUOTE,),
    "orders": (ROW_ADD, ROW_CHANGE, ROW_DELETE, ROW_FILL),
    "incremental_book_L2": (ROW_LEVEL, ROW_CLEAR),
    "derivative_ticker": (ROW_FUNDING, ROW_PREDICTED, ROW_INTEREST, ROW_LAST, ROW_INDEX, ROW_MARK),
}
TICKER = "derivative_ticker"
HOMES = ("incremental_book_L2", TICKER, "trades", "quotes", "liquidations", "orders")
KINDS = {name: kind for kind, name in ROW_NAMES.items()}
TAKERS, MAKERS = {"buy": 1, "sell": -1, "": 0}, {"bid": 1, "ask": -1, "": 0}

META = "perp.tape"
FILE_FORMAT = 1
DECIMALS = 18  # of every decimal column; 38 digits leave 20 before the point
BLOCK_ROWS = 1 << 16
BLOCK_BYTES_MAX = 1 << 28  # of the texts of a block
MAGIC = b"PAR1"
# A row and its place in the tape.
NUMBERED = np.dtype([("record", RECORD), ("row", "<i8")])


class Meta(msgspec.Struct, kw_only=True):
    """What a file says of itself, as JSON under the key `perp.tape` of its metadata.

    Attributes
    ----------
    tape : str
        Equal for the files of one tape.
    instruments : list of (exchange, symbol)
        Of the tape, in the order in which its rows first name them.
    present : list of int
        Which of them this file has rows of.
    """

    format: int
    type: str
    tape: str
    first_ns: int
    instruments: list[tuple[str, str]]
    present: list[int]


def describe_schema(polars: Any, type_: str) -> dict[str, Any]:
    """Return the columns of a type and their polars types."""
    schema = {"row": polars.Int64, "ts_ns": polars.Int64, "exchange_ns": polars.Int64}
    schema |= dict.fromkeys(("exchange", "symbol", "kind"), polars.String)
    schema |= {"id": polars.Int64, "flags": polars.UInt8}
    decimal = polars.Decimal(38, DECIMALS)
    if type_ == TICKER:
        return schema | {"value": decimal, "due_ns": polars.Int64}
    return schema | {"side": polars.String, "price": decimal, "amount": decimal}


# ---------------------------------------------------------------- rows to columns


def build_frame(polars: Any, type_: str, rows: NDArray[np.void], instruments: Sequence[Instrument]) -> Any:
    """Return the lines of a file.

    Parameters
    ----------
    rows : NUMBERED array
        Of one type.
    instruments : sequence of Instrument
        By index.

    Returns
    -------
    polars.DataFrame
        With the columns of `describe_schema`; what was not told is null.
    """
    record, markets, kinds = rows["record"], rows["record"]["market"], rows["record"]["kind"]

    def told(name: str) -> Any:
        values = polars.Series(np.ascontiguousarray(record[name]))
        return values.set(values == 0, None)

    def look_up(texts: Sequence[str | None], places: NDArray[Any]) -> Any:
        return polars.Series(texts, dtype=polars.String).gather(places.astype(np.int64))

    kind_names = [ROW_NAMES.get(kind) for kind in range(max(ROW_NAMES) + 1)]
    columns = {
        "row": np.ascontiguousarray(rows["row"]),
        "ts_ns": np.ascontiguousarray(record["ts_ns"]),
        "exchange_ns": told("exchange_ns"),
        "exchange": look_up([instrument.exchange for instrument in instruments], markets),
        "symbol": look_up([instrument.symbol for instrument in instruments], markets),
        "kind": look_up(kind_names, kinds),
        "id": told("id"),
        "flags": np.ascontiguousarray(record["flags"]),
    }
    if type_ == TICKER:
        is_interest, is_funding = kinds == ROW_INTEREST, kinds == ROW_FUNDING
        values = np.where(is_interest, record["qty"], record["price"])
        is_told = (record["flags"] & NO_RATE) == 0
        columns["value"] = _build_decimals(polars, values, is_told, rows, instruments)
        due = polars.Series(np.where(is_funding, record["qty"], 0))
        columns["due_ns"] = due.set(due == 0, None)
    else:
        sides = TAKERS if type_ in ("trades", "liquidations") else MAKERS
        columns["side"] = look_up(
            [side or None for side in sides], np.where(record["side"] == 0, 2, record["side"] < 0)
        )
        columns["price"] = _build_decimals(polars, record["price"], record["price"] != 0, rows, instruments)
        is_told = np.ones(len(rows), np.bool_)
        columns["amount"] = _build_decimals(polars, record["qty"], is_told, rows, instruments, is_amount=True)
    return polars.DataFrame(columns, schema=describe_schema(polars, type_))


def find_unit(kind: int, instrument: Instrument) -> Decimal:
    """Return what the number of a row is counted in: a price, or an open interest."""
    if kind in (ROW_MARK, ROW_INDEX, ROW_LAST):
        return instrument.fine_unit
    if kind in (ROW_FUNDING, ROW_PREDICTED):
        return 1 / Decimal(RATE_PER_ONE)
    return 1 / Decimal(INTEREST_PER_ONE) if kind == ROW_INTEREST else instrument.tick


def _build_decimals(
    polars: Any,
    counts: NDArray[np.int64],
    is_told: NDArray[np.bool_],
    rows: NDArray[np.void],
    instruments: Sequence[Instrument],
    *,
    is_amount: bool = False,
) -> Any:
    # Values repeat: each is made a decimal once, by instrument and kind because these have their own units.
    record = rows["record"]
    groups = record["market"].astype(np.int64) * len(KINDS) * 2 + record["kind"]
    parts, places = [], []
    for group in np.unique(groups).tolist():
        here = np.flatnonzero(groups == group)
        instrument = instruments[group // (len(KINDS) * 2)]
        unit = instrument.lot if is_amount else find_unit(group % (len(KINDS) * 2), instrument)
        if -int(unit.as_tuple().exponent) > DECIMALS:
            raise DataError(
                instrument.symbol, None, None, f"expected units of {DECIMALS} decimals or fewer, got {unit}"
            )
        values, found = np.unique(counts[here], return_inverse=True)
        decimals = [Decimal(value) * unit for value in values.tolist()]
        parts.append(polars.Series(decimals, dtype=polars.Decimal(38, DECIMALS)).gather(found))
        places.append(here)
    order = np.empty(len(rows), np.int64)
    order[np.concatenate(places)] = np.arange(len(rows))
    joined = polars.concat(parts).gather(order)
    return joined if is_told.all() else joined.set(polars.Series(~is_told), None)


# ---------------------------------------------------------------- columns to rows


def sniff(head: Head) -> TapeFile | None:
    """Return what a Parquet file is by its metadata, or None where it is no tape of ours.

    Raises
    ------
    DataError
        If it is not a whole Parquet file, or a tape of another format number or other columns.
    MissingExtraError
        If polars is not installed.
    """
    if not head.data.startswith(MAGIC):
        return None
    path = head.path
    meta = _read_meta(path)
    if meta is None:
        return None
    ranks = list(TYPES)
    if meta.format != FILE_FORMAT or meta.type not in ranks:
        expected = f"expected a tape of format {FILE_FORMAT} and one of {', '.join(ranks)}"
        raise DataError(path, None, META, f"{expected}, got {meta.format} and {meta.type!r}")
    polars = require_polars(f"{path}: reading Parquet")
    with refuse_parquet(path):
        schema = polars.read_parquet_schema(path)
    for name, wanted in describe_schema(polars, meta.type).items():
        if schema.get(name) != wanted:
            raise DataError(path, None, name, f"expected a column of {wanted}, got {schema.get(name, 'none')}")
    return TapeFile(path, FORMAT, meta.type, "", "", meta.first_ns, ranks.index(meta.type))


def _read_meta(path: Path) -> Meta | None:
    polars = require_polars(f"{path}: reading Parquet")
    with refuse_parquet(path):
        text = polars.read_parquet_metadata(path).get(META)
    if text is None:
        return None
    try:
        meta = msgspec.json.decode(text, type=Meta)
        if not all(0 <= index < len(meta.instruments) for index in meta.present):
            raise ValueError("an index of no instrument")
        return meta
    except (*DECODE_ERRORS, ValueError) as error:
        raise DataError(path, None, META, f"expected the metadata of a tape: {error}") from error


def read(files: Sequence[TapeFile], instruments: Instruments, findings: Findings) -> Iterator[Records]:
    """Yield the rows of any number of tapes, each of several files."""
    tapes: dict[str, dict[str, tuple[TapeFile, Meta]]] = {}
    for file in files:
        meta = _read_meta(file.path)
        assert meta is not None
        tape = tapes.setdefault(meta.tape, {})
        if file.kind in tape:
            expected = f"expected one file of {file.kind} of this tape, {tape[file.kind][0].path} is another"
            raise DataError(file.path, None, None, expected)
        tape[file.kind] = (file, meta)
    ordered = sorted(tapes.values(), key=lambda tape: min(meta.first_ns for _, meta in tape.values()))
    yield from merge_streams([hold_last_stamp(_read_tape(tape, instruments, findings)) for tape in ordered])


def _read_tape(
    tape: Mapping[str, tuple[TapeFile, Meta]], instruments: Instruments, findings: Findings
) -> Iterator[Records]:
    # Indexes as they were; but whose a configured market is, its book decides.
    for type_ in HOMES:
        if type_ in tape:
            meta = tape[type_][1]
            chosen = meta.present if instruments.markets else range(len(meta.instruments))
            for index in chosen:
                instruments.find(*meta.instruments[index])
    last_ns = 0
    streams = [_read_file(file, instruments, findings) for file, _ in tape.values()]
    for numbered in _merge_by_row(streams):
        rows = np.ascontiguousarray(numbered["record"])
        if rows["ts_ns"][0] < last_ns or np.any(np.diff(rows["ts_ns"]) < 0):
            path = next(iter(tape.values()))[0].path
            raise DataError(path, None, "row", "expected rows whose stamps never fall, through all files of the tape")
        last_ns = int(rows["ts_ns"][-1])
        yield rows


def _merge_by_row(streams: Sequence[Iterator[NDArray[np.void]]]) -> Iterator[NDArray[np.void]]:
    heads = [next(stream, None) for stream in streams]
    while any(head is not None for head in heads):
        # Up to the earliest end of the blocks in hand no row is missing.
        bound = min(head["row"][-1] for head in heads if head is not None)
        parts = []
        for at, head in enumerate(heads):
            if head is not None:
                cut = int(np.searchsorted(head["row"], bound, side="right"))
                parts.append(head[:cut])
                heads[at] = head[cut:] if cut < len(head) else next(streams[at], None)
        merged = np.concatenate(parts)
        yield merged[np.argsort(merged["row"])]


def _read_file(file: TapeFile, instruments: Instruments, findings: Findings) -> Iterator[NDArray[np.void]]:
    polars = require_polars(f"{file.path}: reading Parquet")
    names = list(describe_schema(polars, file.kind))
    converter, stamps = _Converter(file.kind, instruments), Stamps("ts_ns", 1)
    columns = []
    for name in names:
        column = polars.col(name).cast(polars.String).fill_null("")
        # canonical text: zeroes at the end say nothing, and caches know texts
        is_decimal = name in ("price", "amount", "value")
        columns.append(column.str.strip_chars_end("0").str.strip_chars_end(".") if is_decimal else column)
    last, start = -1, 0
    while True:
        with refuse_parquet(file.path):
            frame = polars.scan_parquet(file.path).slice(start, BLOCK_ROWS).select(columns).collect()
            size = sum(frame[name].str.len_bytes().sum() for name in names)
        if not len(frame):
            return
        if size > BLOCK_BYTES_MAX:
            raise DataError(file.path, start + 1, None, f"expected texts of at most {BLOCK_BYTES_MAX} bytes in a block")
        whole = Block(start + 1, {name: frame[name].to_list() for name in names})
        start += len(frame)
        for block, rows in convert_block(file.path, whole, converter.convert, findings):
            findings.rows[file.kind] += len(block)
            findings.counts["unused"] += len(block) - len(rows)
            if not len(rows):
                continue
            if rows["row"][0] <= last or np.any(np.diff(rows["row"]) <= 0):
                raise DataError(file.path, block.first_line, "row", "expected numbers that grow")
            last = int(rows["row"][-1])
            stamps.settle(file.path, block, rows["record"], findings)
            yield rows


class _Converter:
    """Lines of one file as numbered rows; a line of an instrument nobody asked for is none."""

    def __init__(self, type_: str, instruments: Instruments) -> None:
        self.type_, self.instruments = type_, instruments
        self._kinds = {ROW_NAMES[kind]: kind for kind in TYPES[type_]}

    def convert(self, block: Block) -> NDArray[np.void]:
        """Return the rows of a block."""
        pairs = list(zip(block.texts("exchange"), block.texts("symbol"), strict=True))
        known = {pair: self.instruments.find(*pair) for pair in dict.fromkeys(pairs)}
        if None in known.values():
            kept = [at for at, pair in enumerate(pairs) if known[pair] is not None]
            if not kept:
                return np.zeros(0, NUMBERED)
            block = Block(block.first_line, {name: [block.texts(name)[at] for at in kept] for name in block.names})
            pairs = [pairs[at] for at in kept]
        owners = [found for found in map(known.__getitem__, pairs) if found is not None]
        rows = np.zeros(len(block), NUMBERED)
        record = rows["record"]
        rows["row"] = block.stamps("row", 1)
        record["ts_ns"] = block.stamps("ts_ns", 1)
        record["exchange_ns"], record["id"] = block.map("exchange_ns", _count), block.map("id", _count)
        record["flags"] = block.map("flags", _count)
        record["market"] = [owner.index for owner in owners]
        record["kind"] = block.choose("kind", self._kinds)
        if self.type_ == TICKER:
            self._convert_ticker(block, record, owners)
        else:
            self._convert_orders(block, record, owners)
        return rows

    def _convert_orders(self, block: Block, record: Records, owners: Sequence[Instrument]) -> None:
        is_taken = self.type_ in ("trades", "liquidations")
        record["side"] = block.choose("side", TAKERS if is_taken else MAKERS)
        is_trade = self.type_ == "trades"
        prices = [owner.prices if is_trade else owner.levels for owner in owners]
        amounts = [owner.trades if is_trade else owner.totals for owner in owners]
        for name, field, caches in (("price", "price", prices), ("amount", "qty", amounts)):
            texts = block.texts(name)
            try:
                # a price of nothing: an empty side, the book that is cleared
                record[field] = [cache[text] if text else 0 for cache, text in zip(caches, texts, strict=True)]
            except (ValueError, ArithmeticError) as error:
                raise FieldError(name, str(error)) from error

    def _convert_ticker(self, block: Block, record: Records, owners: Sequence[Instrument]) -> None:
        values = []
        texts = block.texts("value")
        try:
            for kind, owner, text in zip(record["kind"].tolist(), owners, texts, strict=True):
                if kind in (ROW_FUNDING, ROW_PREDICTED):
                    values.append(count_rate(text))
                else:
                    values.append(count_interest(text) if kind == ROW_INTEREST else owner.count_fine(text))
        except (ValueError, ArithmeticError) as error:
            raise FieldError("value", str(error)) from error
        is_interest = record["kind"] == ROW_INTEREST
        due = np.array(block.map("due_ns", _count), dtype=np.int64)
        record["price"], record["qty"] = np.where(is_interest, 0, values), np.where(is_interest, values, due)


def _count(text: str) -> int:
    return count_stamp(text, 1) if text else 0


FORMAT = Format("parquet", sniff, read, is_joint=True)
