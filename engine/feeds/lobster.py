"""LOBSTER's message files of Nasdaq, with the order book file beside them as a check (FEED-050)."""

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np

from engine.codes import OFF_MARKET, ROW_QUOTE
from engine.errors import DataError, MissingExtraError
from engine.feeds.columns import Block, convert_block, count_id, read_columns, read_texts
from engine.feeds.instruments import Findings, Instrument, Instruments, UnitCache
from engine.feeds.orders import ROWS_PER_BLOCK, OrderBook, OrderError, drop_fault
from engine.feeds.tape import Format, Head, Records, RowBuilder, TapeFile
from engine.layout import RECORD

EXCHANGE = "nasdaq"
ZONE = "America/New_York"
NAME = re.compile(
    r"(?P<symbol>[^_]+)_(?P<date>\d{4}-\d\d-\d\d)_\d+_\d+_(?P<kind>message|orderbook)_(?P<levels>\d+)\.csv(?:\.(?:gz|zst))?"
)
COLUMNS = ("time", "type", "id", "size", "price", "direction", "attribution")
PRICE_PLACES = 4  # prices are ten thousandths of a dollar
ADDED, REDUCED, DELETED, FILLED, FILLED_HIDDEN, CROSSED, HALTED = range(1, 8)
TYPES = {str(kind): kind for kind in range(1, 8)}
SIDES = {"1": 1, "-1": -1}
NO_LEVEL = ("9999999999", "-9999999999")
STATES = {"-1": -1, "0": 0, "1": -2}  # of a halt, in place of a price: halted, quoting again, trading again
HALT = -1
NS_PER_S = 1_000_000_000


def sniff(head: Head) -> TapeFile | None:
    """Return what a file is by its name; the messages have no header.

    Raises
    ------
    DataError
        If its name promises messages and its first line is none.
    MissingExtraError
        If this machine has no time zones.
    """
    path = head.path
    match = NAME.fullmatch(path.name)
    if match is None:
        return None
    line = head.lines[0] if head.lines else ""
    fields, levels = line.split(","), int(match["levels"])
    wanted = (6, 7) if match["kind"] == "message" else (4 * levels,)
    if len(fields) not in wanted:
        raise DataError(path, 1, None, f"expected {' or '.join(map(str, wanted))} fields, got {len(fields)}")
    midnight_ns = _find_midnight(path, match["date"])
    first_ns = midnight_ns
    if match["kind"] == "message":
        try:
            first_ns += count_time(fields[0])
        except ValueError as error:
            raise DataError(path, 1, "time", str(error)) from error
    columns = COLUMNS[: len(fields)] if match["kind"] == "message" else ()
    return TapeFile(path, FORMAT, "orders", EXCHANGE, match["symbol"], first_ns, 1, columns)


def _find_midnight(path: Path, date: str) -> int:
    """Return the stamp of a day's beginning in New York."""
    try:
        return int(datetime.fromisoformat(date).replace(tzinfo=ZoneInfo(ZONE)).timestamp()) * NS_PER_S
    except ZoneInfoNotFoundError as error:
        raise MissingExtraError(f"{path}: its times are New York's, which need pip install tzdata") from error
    except ValueError as error:
        raise DataError(path, None, None, f"expected a date in the file's name: {error}") from error


def count_time(text: str) -> int:
    """Return seconds after midnight in ns, exactly.

    Raises
    ------
    ValueError
        If it is no such number, or finer than a nanosecond.
    """
    whole, _, fraction = text.partition(".")
    fraction = fraction.rstrip("0")
    if not (whole.isdigit() and (fraction or "0").isdigit()) or len(fraction) > 9 or int(whole) > 86_400:
        raise ValueError(f"expected seconds after midnight, got {text!r}")
    return int(whole) * NS_PER_S + int(fraction.ljust(9, "0"))


def count_price(text: str, units: UnitCache) -> int:
    """Return a price in ticks from ten thousandths."""
    if not text.isdigit():
        raise ValueError(f"expected a price in ten thousandths, got {text!r}")
    whole = text.rjust(PRICE_PLACES + 1, "0")
    return units[f"{whole[:-PRICE_PLACES]}.{whole[-PRICE_PLACES:]}"]


def read(files: Sequence[TapeFile], instruments: Instruments, findings: Findings) -> Iterator[Records]:
    """Yield the rows of one symbol's message files, which follow each other; each day's book begins anew.

    Raises
    ------
    DataError
        If there is no message file among them.
    """
    messages = [file for file in files if file.columns]
    if not messages:
        raise DataError(files[0].path, None, None, "expected the message file beside the order book file")
    instrument = instruments.find(files[0].exchange, files[0].symbol)
    builder = RowBuilder(findings)
    for file in messages:
        if instrument is None:
            findings.counts["unused"] += 1
            continue
        day = _Day(file, instrument, builder, findings)
        for whole in read_columns(file.path, file.columns, findings, header_lines=0):
            findings.rows[file.kind] += len(whole)
            for block, rows in convert_block(file.path, whole, day.convert, findings):
                yield from day.take(block.first_line, rows)
        yield day.finish()


class _Day:
    """One message file."""

    def __init__(self, file: TapeFile, instrument: Instrument, builder: RowBuilder, findings: Findings) -> None:
        self._file, self._instrument, self._builder, self._findings = file, instrument, builder, findings
        self._book = OrderBook(instrument, builder, findings)
        match = NAME.fullmatch(file.path.name)
        assert match is not None
        self._midnight_ns, self._levels = _find_midnight(file.path, match["date"]), int(match["levels"])
        self._beside = file.path.with_name(file.path.name.replace("_message_", "_orderbook_"))
        self._told = self._read_book() if self._beside.is_file() else None
        self._is_begun = False
        self._quotes: tuple[tuple[int, int], ...] = ()

    def convert(self, block: Block) -> Records:
        """Return what the messages say, their kind being LOBSTER's."""
        rows = np.zeros(len(block), RECORD)
        prices = self._instrument.levels
        rows["ts_ns"] = np.array(block.map("time", count_time), dtype=np.int64) + self._midnight_ns
        rows["kind"] = block.choose("type", TYPES)
        rows["id"] = block.map("id", count_id)
        rows["qty"] = block.count("size", self._instrument.totals)
        rows["price"] = block.map("price", lambda text: STATES[text] if text in STATES else count_price(text, prices))
        rows["side"] = block.choose("direction", SIDES)
        return rows

    def take(self, first_line: int, rows: Records) -> Iterator[Records]:
        """Yield what messages tell."""
        fields = rows[["ts_ns", "kind", "id", "qty", "price", "side"]].tolist()
        for line, (stamp_ns, kind, number, qty, price, side) in enumerate(fields, first_line):
            ts_ns = self._builder.begin(self._file.path, line, stamp_ns, "time")
            self._book.begin(ts_ns, stamp_ns)
            if not self._is_begun:
                self._book.clear()
            try:
                self._apply(kind, number, qty, price, side)
            except ValueError as error:
                drop_fault(self._findings, self._file.path, line, "size", error)
            if self._told is not None:
                self._compare(line, ts_ns, stamp_ns)
            self._is_begun = True
            self._book.end()
            if len(self._builder) >= ROWS_PER_BLOCK:
                yield self._builder.build()

    def finish(self) -> Records:
        """Return the last rows."""
        self._book.finish()
        return self._builder.build()

    def _apply(self, kind: int, number: int, qty: int, price: int, side: int) -> None:
        """Apply one message; `side` is that of the order that rests or rested."""
        if kind == HALTED:
            self._findings.counts["halts"] += price == HALT
            return
        if price < 1 or qty < 1:
            raise OrderError("bad price" if price < 1 else "bad size", "expected a price and a size of 1 or more")
        book = self._book
        order = book.orders.get(number)
        if kind == ADDED:
            book.add(number, side, price, qty)
        elif kind in (FILLED_HIDDEN, CROSSED):
            book.trade(-side if kind == FILLED_HIDDEN else 0, price, qty, number, OFF_MARKET)
        elif order is None:
            # it came to rest before the recording begins: its quantity is among the unnamed, if anywhere
            self._findings.counts["unknown_orders"] += 1
            if kind == FILLED:
                book.trade(-side, price, qty, number)
            if book.total(side, price):
                book.reduce_unnamed(side, price, qty)
        elif kind == FILLED:
            book.fill(number, qty)
            book.trade(-side, price, qty, number)
        elif kind == DELETED or qty == order.qty_lot:
            book.delete(number)
        else:
            book.change(number, order.price_tick, order.qty_lot - qty)

    # ------------------------------------------------------------ the order book file

    def _read_book(self) -> Iterator[tuple[int, list[str]]]:
        for first, text in read_texts(self._beside):
            for line, row in enumerate(text.split("\n"), first):
                yield line, row.split(",")

    def _compare(self, line: int, ts_ns: int, stamp_ns: int) -> None:
        """Compare the book with the file's row of the same line, which is right where they differ."""
        assert self._told is not None
        row = next((fields for at, fields in self._told if at >= line), None)
        try:
            if row is None or len(row) != 4 * self._levels:
                raise ValueError(f"expected a row of {4 * self._levels} fields for each message")
            asks, bids = self._parse_side(row, 0), self._parse_side(row, 2)
        except ValueError as error:
            self._findings.drop("book row", DataError(self._beside, line, None, str(error)))
            return
        equal = [self._settle_side(side, told) for side, told in ((-1, asks), (1, bids))]
        if self._is_begun:
            self._findings.counts["book_checked"] += 1
            self._findings.counts["book_equal"] += all(equal)
        quotes = tuple((told[0] if told else (0, 0)) for told in (bids, asks))
        if quotes != self._quotes:
            self._quotes = quotes
            for side, (price, qty) in zip((1, -1), quotes, strict=True):
                self._builder.add(ROW_QUOTE, self._instrument.index, ts_ns, stamp_ns, side, price, qty)

    def _parse_side(self, row: list[str], start: int) -> list[tuple[int, int]]:
        prices, totals = self._instrument.levels, self._instrument.totals
        told = zip(row[start::4], row[start + 1 :: 4], strict=True)
        return [(count_price(price, prices), totals[size]) for price, size in told if price not in NO_LEVEL]

    def _settle_side(self, side: int, told: list[tuple[int, int]]) -> bool:
        """Make a side what the file says; return whether it was, levels aside that come into sight."""
        book = self._book
        own = book.list_levels(side, self._levels)
        if own == told:
            return True
        is_equal = True
        known = dict(told)
        for price, qty in told:
            total = book.total(side, price)
            if total != qty:
                is_equal &= total == 0
                book.set_total(side, price, qty)
        worst = told[-1][0] if len(told) == self._levels else 0
        for price, _ in own:
            if price not in known and (not worst or side * (price - worst) > 0):
                is_equal = False
                book.set_total(side, price, 0)
        return is_equal


FORMAT = Format("lobster", sniff, read)
