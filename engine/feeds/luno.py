"""Luno's order stream as its websocket sends it, one message a line: a snapshot, then numbered updates (FEED-047)."""

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec

from engine.errors import DataError
from engine.feeds.block import STAMP_MAX
from engine.feeds.columns import read_texts
from engine.feeds.instruments import Findings, Instrument, Instruments, number_id
from engine.feeds.orders import ROWS_PER_BLOCK, OrderBook, OrderError, drop_fault
from engine.feeds.tape import DECODE_ERRORS, Format, Head, Records, RowBuilder, TapeFile
from engine.units import parse_decimal

EXCHANGE = "luno"
NS_PER_MS = 1_000_000
NAME = re.compile(r"luno[-_](?P<pair>[A-Za-z]{6,8})(?=[-_.])", re.IGNORECASE)
SIDES = {"BID": 1, "ASK": -1}
BLOCK_BYTES = 1 << 24  # a line: a snapshot of all orders is one


class Resting(msgspec.Struct):
    """An order of the snapshot."""

    id: str
    price: str
    volume: str


class Trade(msgspec.Struct):
    """A trade: what was traded, for how much money, and whose orders met."""

    base: str
    counter: str
    maker_order_id: str


class Created(msgspec.Struct):
    """An order that came to rest."""

    order_id: str
    type: str
    price: str
    volume: str


class Deleted(msgspec.Struct):
    """An order that was taken out."""

    order_id: str


class Status(msgspec.Struct):
    """Whether the market trades."""

    status: str


class Message(msgspec.Struct):
    """A snapshot where it has sides, else an update."""

    sequence: str
    timestamp: Annotated[int, msgspec.Meta(ge=0, le=STAMP_MAX // NS_PER_MS)]
    bids: list[Resting] | None = None
    asks: list[Resting] | None = None
    trade_updates: list[Trade] | None = None
    create_update: Created | None = None
    delete_update: Deleted | None = None
    status_update: Status | None = None


DECODER = msgspec.json.Decoder(Message)


def sniff(head: Head) -> TapeFile | None:
    """Return what a file is by its first message.

    Raises
    ------
    DataError
        If its name does not say which pair it is of, or the message is none.
    """
    begin = head.data[:4096]
    if not begin.startswith(b'{"sequence":"') or not (b'"asks":[' in begin or b'"trade_updates":' in begin):
        return None
    match = NAME.search(head.path.name)
    if match is None:
        raise DataError(head.path, None, None, "expected the pair in the file's name, as in luno-XBTZAR.txt")
    _, text = next(read_texts(head.path, BLOCK_BYTES))
    try:
        first = DECODER.decode(text.partition("\n")[0])
    except DECODE_ERRORS as error:
        raise DataError(head.path, 1, None, f"expected a message of Luno's: {error}") from error
    return TapeFile(head.path, FORMAT, "orders", EXCHANGE, match["pair"].upper(), first.timestamp * NS_PER_MS, 1)


def read(files: Sequence[TapeFile], instruments: Instruments, findings: Findings) -> Iterator[Records]:
    """Yield the rows of files of one pair that follow each other."""
    instrument = instruments.find(files[0].exchange, files[0].symbol)
    stream = _Stream(instrument, findings) if instrument else None
    for file in files:
        for first, text in read_texts(file.path, BLOCK_BYTES):
            for line, message in enumerate(text.split("\n"), first):
                findings.rows[file.kind] += 1
                if stream is None:
                    findings.counts["unused"] += 1
                    continue
                try:
                    stream.take(file.path, line, DECODER.decode(message))
                except DECODE_ERRORS as error:
                    findings.drop("json", DataError(file.path, line, None, f"expected a message of Luno's: {error}"))
                if len(stream.builder) >= ROWS_PER_BLOCK:
                    yield stream.builder.build()
    if stream is not None:
        yield stream.finish()


class _Stream:
    """One pair's book, message by message."""

    def __init__(self, instrument: Instrument, findings: Findings) -> None:
        self.builder = RowBuilder(findings)
        self._instrument, self._findings = instrument, findings
        self._book = OrderBook(instrument, self.builder, findings)
        self._sequence = 0

    def take(self, path: Path, line: int, message: Message) -> None:
        """Apply a message: its trades, then what came to rest, then what was taken out."""
        self._path, self._line = path, line
        try:
            sequence, stamp_ns = int(message.sequence), message.timestamp * NS_PER_MS
        except ValueError:
            error = DataError(path, line, "sequence", f"expected a number, got {message.sequence!r}")
            self._findings.drop("bad sequence", error)
            return
        is_snapshot = message.bids is not None or message.asks is not None
        if self._sequence and sequence != self._sequence + 1 and not is_snapshot:
            error = DataError(path, line, "sequence", f"expected {self._sequence + 1}, got {sequence}")
            self._findings.report("gaps", error)
        self._book.begin(self.builder.begin(path, line, stamp_ns, "timestamp"), stamp_ns)
        if is_snapshot:
            self._findings.counts["resets"] += self._sequence != 0
            self._book.clear()
            for side, orders in ((1, message.bids), (-1, message.asks)):
                for order in orders or ():
                    self._try("id", self._create, order.id, side, order.price, order.volume)
        self._sequence = sequence
        for trade in message.trade_updates or ():
            self._try("maker_order_id", self._trade, trade)
        if (new := message.create_update) is not None:
            self._try("type", self._create, new.order_id, SIDES.get(new.type, 0), new.price, new.volume)
        if (gone := message.delete_update) is not None:
            self._try("order_id", self._book.delete, number_id(gone.order_id))
        self._book.end()

    def finish(self) -> Records:
        """Return the last rows."""
        self._book.finish()
        return self.builder.build()

    def _try(self, field: str, apply: Callable[..., None], *given: Any) -> None:
        try:
            apply(*given)
        except (ValueError, ArithmeticError) as error:
            drop_fault(self._findings, self._path, self._line, field, error)

    def _create(self, name: str, side: int, price: str, volume: str) -> None:
        if not side:
            raise OrderError("bad side", f"expected {' or '.join(SIDES)}")
        self._book.add(number_id(name), side, self._instrument.levels[price], self._instrument.trades[volume])

    def _trade(self, trade: Trade) -> None:
        """Fill the maker's order; the price is its own, which base and counter must confirm."""
        number = number_id(trade.maker_order_id)
        maker = self._book.orders.get(number)
        if maker is None:
            raise OrderError("unknown order", f"expected an order that rests, got {trade.maker_order_id}")
        qty_lot, tick = self._instrument.trades[trade.base], self._instrument.tick
        if maker.price_tick * tick * parse_decimal(trade.base) != parse_decimal(trade.counter):
            raise OrderError("bad counter", f"expected {trade.base} at {maker.price_tick * tick}, got {trade.counter}")
        self._book.fill(number, qty_lot)
        self._book.trade(-maker.side, maker.price_tick, qty_lot)


FORMAT = Format("luno", sniff, read)
