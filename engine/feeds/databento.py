"""Databento's DBN files, any version, decoded by their own library (FEED-051).

Schemas with orders (mbo), trades, best prices (mbp-1, tbbo, bbo) and ladders of ten levels (mbp-10); others are refused
by name.
"""

from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from engine.codes import IN_SNAPSHOT, ROW_CLEAR, ROW_LEVEL, ROW_QUOTE, ROW_TRADE
from engine.errors import DataError, MissingExtraError
from engine.feeds.instruments import Findings, Instrument, Instruments, UnitCache
from engine.feeds.orders import ROWS_PER_BLOCK, OrderBook, OrderError, drop_fault
from engine.feeds.tape import READ_ERRORS, Format, Head, Records, RowBuilder, TapeFile, open_bytes
from engine.files import PanicError, catch_panic

MAGIC, LEGACY = b"DBN", b"P*M\x18"
SCHEMAS = ("mbo", "trades", "tbbo", "mbp-1", "mbp-10", "bbo-1s", "bbo-1m")
PIECE_BYTES = 1 << 16
METADATA_BYTES_MAX = 1 << 26
SIDES = {"B": 1, "A": -1, "N": 0}
PRICE_PLACES = 9  # prices are billionths
SIGN, WHOLE = 1 << 63, (1 << 64) - 1
STAMP_MAX = (1 << 62) - 1
NO_PRICE, NO_STAMP = (1 << 63) - 1, (1 << 64) - 1
LAST, MAYBE_BAD_BOOK = 128, 4  # record flags
DAY_NS = 86_400_000_000_000


def require_library(path: Path) -> Any:
    """Return the library that decodes DBN.

    Raises
    ------
    MissingExtraError
        If it is not installed.
    """
    try:
        import databento_dbn
    except ImportError as error:
        raise MissingExtraError(f"{path}: reading DBN needs pip install 'perp-engine[databento]'") from error
    return databento_dbn


def sniff(head: Head) -> TapeFile | None:
    """Return what a file is by its metadata.

    Raises
    ------
    DataError
        If it is of the format before DBN, a part without metadata, or of a schema that tells no prices.
    MissingExtraError
        If the library is not installed.
    """
    path = head.path
    if head.data[:4] == LEGACY and path.name.endswith(".dbz"):
        raise DataError(path, None, None, "expected DBN, this is the DBZ before it: Databento's own tools convert it")
    if ".dbn.frag" in path.name:
        raise DataError(path, None, None, "expected DBN with its metadata, this is a fragment without it")
    if head.data[:3] != MAGIC:
        return None
    size = int.from_bytes(head.data[4:8], "little")
    if size > METADATA_BYTES_MAX:
        raise DataError(path, None, "length", f"expected metadata of at most {METADATA_BYTES_MAX} bytes, got {size}")
    with closing(read_records(path)) as records:
        metadata = next(records)
    schema = str(metadata.schema) if metadata.schema is not None else "several schemas"
    if schema not in SCHEMAS:
        raise DataError(path, None, "schema", f"expected one of {', '.join(SCHEMAS)}, got {schema}")
    symbols = list(metadata.mappings)
    symbol = symbols[0] if len(symbols) == 1 else ""
    start = metadata.start if metadata.start != NO_STAMP else 0
    return TapeFile(path, FORMAT, "book", metadata.dataset, symbol, start, 1, (schema,))


def read_records(path: Path) -> Generator[Any, None, None]:
    """Yield the metadata of a file, then its records.

    Raises
    ------
    DataError
        If they cannot be decoded, or the file ends inside of one.
    """
    library = require_library(path)
    decoder = library.DBNDecoder(upgrade_policy=library.VersionUpgradePolicy.UPGRADE_TO_V3)
    count = 0
    try:
        with open_bytes(path) as stream:
            while piece := stream.read(PIECE_BYTES):
                with catch_panic():
                    records = decoder.write_and_decode(piece)
                count += len(records)
                yield from records
        rest = decoder.buffer()
    except (library.DBNError, PanicError) as error:
        raise DataError(path, count or None, None, f"expected DBN records: {error}") from error
    except READ_ERRORS as error:
        raise DataError(path, count or None, None, f"expected a readable file: {error}") from error
    if rest or not count:
        raise DataError(path, count or None, None, "expected a complete record, the file ends inside of one")


def read(files: Sequence[TapeFile], instruments: Instruments, findings: Findings) -> Iterator[Records]:
    """Yield the rows of files of one schema that follow each other.

    Raises
    ------
    DataError
        If they are of several schemas: each tells the same trades.
    """
    schemas = sorted({file.columns[0] for file in files})
    if len(schemas) > 1:
        raise DataError(files[0].path, None, "schema", f"expected files of one schema, got {' and '.join(schemas)}")
    library, builder = require_library(files[0].path), RowBuilder(findings)
    desks: dict[int, _Desk] = {}
    for file in files:
        records = read_records(file.path)
        names = _Names(next(records), findings)
        for number, record in enumerate(records, 1):
            kind = type(record).__name__
            if kind not in APPLY:
                try:
                    names.take(kind, record, file.path, number)
                except library.DBNError as error:  # texts are decoded when they are asked for
                    findings.drop("bad text", DataError(file.path, number, None, f"expected UTF-8: {error}"))
                continue
            findings.rows[schemas[0]] += 1
            stamp_ns = record.ts_recv if record.ts_recv != NO_STAMP else record.ts_event
            instrument = instruments.find(file.exchange, names.find(record.instrument_id, stamp_ns))
            if instrument is None:
                findings.counts["unused"] += 1
                continue
            desk = desks.get(instrument.index)
            if desk is None:
                desk = desks[instrument.index] = _Desk(instrument, builder, findings)
            venue_ns = record.ts_event if record.ts_event != NO_STAMP else 0
            if not max(stamp_ns, venue_ns) <= STAMP_MAX:
                expected = f"expected stamps of at most {STAMP_MAX}, got {stamp_ns} and {venue_ns}"
                findings.drop("bad stamp", DataError(file.path, number, "ts_recv", expected))
                continue
            desk.stamps = (builder.begin(file.path, number, stamp_ns, "ts_recv"), venue_ns)
            try:
                APPLY[kind](desk, record)
            except ValueError as error:
                if desk.is_whole or not (isinstance(error, OrderError) and error.reason == "unknown order"):
                    drop_fault(findings, file.path, number, "price", error)
                else:
                    findings.counts["unknown_orders"] += 1
            desk.end(file.path, number, record)
            if len(builder) >= ROWS_PER_BLOCK:
                yield builder.build()
    for desk in desks.values():
        desk.finish()
    yield builder.build()


class _Names:
    """Whose record an instrument's number is, day by day; symbols stay text where nobody named them."""

    def __init__(self, metadata: Any, findings: Findings) -> None:
        self._findings = findings
        self._spans: dict[int, list[tuple[int, int, str]]] = defaultdict(list)
        for symbol, spans in metadata.mappings.items():
            for span in spans:
                if str(span["symbol"]).isdigit():
                    begin, end = (_find_midnight(span[key]) for key in ("start_date", "end_date"))
                    self._spans[int(span["symbol"])].append((begin, end, symbol))

    def take(self, kind: str, record: Any, path: Path, number: int) -> None:
        """Take a record that tells no prices: names, or what the gateway says."""
        if kind == "SymbolMappingMsg":
            self._spans[record.instrument_id] = [(0, NO_STAMP, record.stype_in_symbol)]
        elif kind == "ErrorMsg":
            self._findings.report("gateway", DataError(path, number, None, f"expected no error, got: {record.err}"))
        elif kind != "SystemMsg":
            raise DataError(path, number, None, f"expected records of one schema, got a {kind}")

    def find(self, number: int, stamp_ns: int) -> str:
        """Return the symbol of an instrument at a time."""
        spans = self._spans.get(number, ())
        return next((symbol for begin, end, symbol in spans if begin <= stamp_ns < end), str(number))


def _find_midnight(date: Any) -> int:
    return int(datetime(date.year, date.month, date.day, tzinfo=UTC).timestamp()) * 1_000_000_000


def read_letter(found: Any) -> str:
    """Return the letter of an action or a side, whether the library knows it or not."""
    return str(getattr(found, "value", found))


def read_side(record: Any) -> int:
    """Return the side of a record; OrderError where it has none of DBN's letters."""
    letter = read_letter(record.side)
    if letter not in SIDES:
        raise OrderError("bad side", f"expected one of {', '.join(SIDES)}, got {letter!r}")
    return SIDES[letter]


class _Desk:
    """One instrument: records to rows."""

    def __init__(self, instrument: Instrument, builder: RowBuilder, findings: Findings) -> None:
        self._instrument, self._builder, self._findings = instrument, builder, findings
        self._book = OrderBook(instrument, builder, findings)
        self._is_open = False
        self._owed: dict[int, int] = {}  # order -> what fills took that its cancel will take again
        self._prices: dict[int, int] = {}
        self.stamps = (0, 0)
        self.is_whole = False  # the recording told the whole book: from then on an unknown order is a fault

    def end(self, path: Path, number: int, record: Any) -> None:
        """End a record, and with the last of an event the message."""
        if record.flags & MAYBE_BAD_BOOK:
            self._findings.report("gaps", DataError(path, number, "flags", "expected a book without lost updates"))
        self._is_open = not record.flags & LAST
        if not self._is_open:
            self._findings.counts["fills_alone"] += len(self._owed)
            self._owed.clear()
            self._book.end()

    def finish(self) -> None:
        """End the event that waits, and count what rests."""
        self._book.end()
        self._book.finish()

    def count_price(self, price: int, units: UnitCache) -> int:
        """Return a price in ticks from billionths."""
        tick = self._prices.get(price)
        if tick is None:
            whole = str(price).rjust(PRICE_PLACES + 1, "0")
            tick = self._prices[price] = units[f"{whole[:-PRICE_PLACES]}.{whole[-PRICE_PLACES:]}"]
        return tick

    def apply_order(self, record: Any) -> None:
        """Apply a record of mbo: what fills take is out at once, so that the next fill finds who is first then."""
        book, action, side = self._book, read_letter(record.action), read_side(record)
        book.begin(*self.stamps, is_new=not self._is_open)
        # ids have 64 bits without a sign, rows 64 with one: as many different ones
        number, qty = (record.order_id + SIGN & WHOLE) - SIGN, record.size
        if action == "R":
            book.clear()
            self.is_whole = True
            return
        if action == "N":
            return
        levels = self._instrument.levels
        price, qty = self.count_price(record.price, levels), self._instrument.totals[str(qty)]
        if action == "T":
            book.trade(side, price, qty, record.sequence)
        elif not side:
            raise OrderError("bad side", f"expected the side of an order, got {read_letter(record.side)}")
        elif action == "A":
            book.add(number, side, price, qty)
        elif action == "M":
            self._owed.pop(number, None)
            if number in book.orders:
                book.change(number, price, qty)
            else:
                book.add(number, side, price, qty)
        elif action == "F":
            book.fill(number, qty)
            self._owed[number] = self._owed.get(number, 0) + qty
        elif action != "C":
            raise OrderError("bad action", f"expected one of A, C, F, M, N, R and T, got {action!r}")
        elif qty and self._owed.get(number, 0) >= qty:
            self._owed[number] -= qty
            if not self._owed[number]:
                del self._owed[number]
        else:
            self._cancel(number, qty)

    def _cancel(self, number: int, qty: int) -> None:
        order = self._book.orders.get(number)
        if order is None or order.qty_lot == qty:
            self._book.delete(number)
        else:
            self._book.change(number, order.price_tick, order.qty_lot - qty)

    def apply_trade(self, record: Any) -> None:
        """Tell a trade."""
        price = self.count_price(record.price, self._instrument.prices)
        qty = self._instrument.trades[str(record.size)]
        self._tell(ROW_TRADE, read_side(record), price, qty, number=record.sequence)

    def apply_quote(self, record: Any) -> None:
        """Tell the best prices, and before them the trade where the record is one."""
        if type(record).__name__ == "MBP1Msg" and read_letter(record.action) == "T":
            self.apply_trade(record)
        best = record.levels[0]
        rows = [
            (side, self._find_price(price), self._instrument.totals[str(size)])
            for side, price, size in ((1, best.bid_px, best.bid_sz), (-1, best.ask_px, best.ask_sz))
        ]
        for side, price, qty in rows:
            self._tell(ROW_QUOTE, side, price, qty if price else 0)

    def apply_ladder(self, record: Any) -> None:
        """Tell the ten best levels of each side as the whole book, before them the trade if it is one."""
        if read_letter(record.action) == "T":
            self.apply_trade(record)
        told = [(1, level.bid_px, level.bid_sz) for level in record.levels]
        told += [(-1, level.ask_px, level.ask_sz) for level in record.levels]
        rows = [(side, self._find_price(price), self._instrument.totals[str(size)]) for side, price, size in told]
        self._tell(ROW_CLEAR, flags=IN_SNAPSHOT)
        for side, price, qty in rows:
            if price and qty:
                self._tell(ROW_LEVEL, side, price, qty, flags=IN_SNAPSHOT)
        self._builder.end_message()

    def _find_price(self, price: int) -> int:
        return 0 if price == NO_PRICE else self.count_price(price, self._instrument.levels)

    def _tell(self, kind: int, side: int = 0, price: int = 0, qty: int = 0, number: int = 0, flags: int = 0) -> None:
        self._builder.add(kind, self._instrument.index, *self.stamps, side, price, qty, number, flags)


APPLY: dict[str, Callable[[_Desk, Any], None]] = {
    "MBOMsg": _Desk.apply_order,
    "TradeMsg": _Desk.apply_trade,
    "MBP1Msg": _Desk.apply_quote,
    "BBOMsg": _Desk.apply_quote,
    "MBP10Msg": _Desk.apply_ladder,
}
FORMAT = Format("databento", sniff, read)
