"""Bitstamp's orders and trades as a recorder heard them, one row an order event (FEED-048)."""

import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import msgspec
import numpy as np

from engine.codes import ROW_ADD, ROW_CHANGE, ROW_DELETE, ROW_TRADE
from engine.errors import DataError
from engine.feeds.columns import Block, Stamps, convert_block, count_id, count_stamp, read_columns
from engine.feeds.instruments import Findings, Instrument, Instruments
from engine.feeds.orders import ROWS_PER_BLOCK, Order, OrderBook, drop_fault
from engine.feeds.tape import DECODE_ERRORS, Format, Head, Records, RowBuilder, TapeFile
from engine.files import read_text
from engine.layout import RECORD

EXCHANGE = "bitstamp"
NS_PER_MS = 1_000_000
ORDERS = ("id", "timestamp", "exchange_timestamp", "price", "volume", "action", "direction")
TRADES = ("trade_id", "timestamp", "exchange_timestamp", "price", "amount", "buy_order_id", "sell_order_id", "side")
# Trades stand before the book that shows their effect (FEED-001).
KINDS = {TRADES: ("trades", 0), ORDERS: ("orders", 1)}
ACTIONS = {"created": ROW_ADD, "changed": ROW_CHANGE, "deleted": ROW_DELETE}
SIDES = {"bid": 1, "ask": -1, "buy": 1, "sell": -1}
NO_LIMIT = ("0", "999999999")  # what a market order shows in place of a limit
PAIR = re.compile(r"(?:^|[_-])(?!orders|trades|live)([a-z]{6,8})(?=[_.-])")


class Meta(msgspec.Struct):
    """What the recorder says of itself, in `meta.json` beside the files."""

    pair: str


def sniff(head: Head) -> TapeFile | None:
    """Return what a file is by its header.

    Raises
    ------
    DataError
        If neither `meta.json` beside it nor its name says which pair it is of, or it has no row.
    """
    lines = head.lines
    columns = tuple(lines[0].split(",")) if lines else ()
    if columns not in KINDS:
        return None
    kind, rank = KINDS[columns]
    if len(lines) < 2:
        raise DataError(head.path, 2, None, "expected at least one row below the header")
    try:
        first_ms = count_stamp(dict(zip(columns, lines[1].split(","), strict=True))["timestamp"], NS_PER_MS)
    except ValueError as error:
        raise DataError(head.path, 2, "timestamp", str(error)) from error
    return TapeFile(head.path, FORMAT, kind, EXCHANGE, _find_pair(head.path), first_ms * NS_PER_MS, rank, columns)


def _find_pair(path: Path) -> str:
    beside = path.with_name("meta.json")
    if beside.is_file():
        try:
            return msgspec.json.decode(read_text(beside), type=Meta).pair
        except (OSError, *DECODE_ERRORS, ValueError) as error:
            raise DataError(beside, None, "pair", f"expected the pair the files are of: {error}") from error
    match = PAIR.search(path.name)
    if match is None:
        raise DataError(path, None, None, "expected the pair in the file's name (btcusd_orders.csv) or in meta.json")
    return match[1]


def read(files: Sequence[TapeFile], instruments: Instruments, findings: Findings) -> Iterator[Records]:
    """Yield the rows of files of one kind."""
    instrument = instruments.find(files[0].exchange, files[0].symbol)
    stamps = Stamps("timestamp", NS_PER_MS)
    desk = _Desk(instrument, findings) if instrument else None
    for file in files:
        for whole in read_columns(file.path, file.columns, findings):
            findings.rows[file.kind] += len(whole)
            if instrument is None or desk is None:
                findings.counts["unused"] += len(whole)
                continue
            convert = partial(_convert_trades if file.columns == TRADES else _convert_orders, instrument)
            for block, rows in convert_block(file.path, whole, convert, findings):
                if file.columns == TRADES:
                    yield stamps.settle(file.path, block, rows, findings)
                else:
                    yield from desk.take(file.path, block.first_line, rows)
    if desk is not None and files[0].columns == ORDERS:
        desk.book.finish()


def _convert_trades(instrument: Instrument, block: Block) -> Records:
    rows = np.zeros(len(block), RECORD)
    rows["kind"], rows["market"] = ROW_TRADE, instrument.index
    rows["ts_ns"] = block.stamps("timestamp", NS_PER_MS)
    rows["exchange_ns"] = block.stamps("exchange_timestamp", NS_PER_MS)
    rows["id"] = block.map("trade_id", count_id)
    rows["side"] = block.choose("side", SIDES)
    rows["price"] = block.count("price", instrument.prices)
    rows["qty"] = block.count("amount", instrument.trades)
    return rows


def _convert_orders(instrument: Instrument, block: Block) -> Records:
    """Return what the rows say; the price of a market order is 0."""
    rows = np.zeros(len(block), RECORD)
    levels = instrument.levels
    rows["ts_ns"] = block.stamps("timestamp", NS_PER_MS)
    rows["exchange_ns"] = block.stamps("exchange_timestamp", NS_PER_MS)
    rows["id"] = block.map("id", count_id)
    rows["kind"] = block.choose("action", ACTIONS)
    rows["side"] = block.choose("direction", SIDES)
    rows["price"] = block.map("price", lambda text: 0 if text.partition(".")[0] in NO_LIMIT else levels[text])
    rows["qty"] = block.count("volume", instrument.totals)
    return rows


class _Desk:
    """The orders of one pair: those that rest, and those on their way (FEED-048)."""

    def __init__(self, instrument: Instrument, findings: Findings) -> None:
        self._findings, self._builder = findings, RowBuilder(findings)
        self.book = OrderBook(instrument, self._builder, findings)
        self._coming: dict[int, Order] = {}
        self._unpriced: dict[int, Order] = {}  # what never rests
        self._venue_ns = self._heard_ns = self._ts_ns = 0

    def take(self, path: Path, first_line: int, rows: Records) -> Iterator[Records]:
        """Yield what rows of the file tell."""
        fields = rows[["ts_ns", "exchange_ns", "id", "kind", "side", "price", "qty"]].tolist()
        for line, (heard_ns, venue_ns, number, kind, side, price, qty) in enumerate(fields, first_line):
            if heard_ns < self._heard_ns:
                wanted, got = self._heard_ns // NS_PER_MS, heard_ns // NS_PER_MS
                error = DataError(path, line, "timestamp", f"expected {wanted} or later, got {got}")
                self._findings.report("reversed_local", error)
            self._heard_ns, self._ts_ns = heard_ns, max(self._ts_ns, heard_ns)
            self.book.begin(self._ts_ns, venue_ns)
            moves, self._venue_ns = venue_ns != self._venue_ns, venue_ns
            try:
                if moves:
                    self._let_rest()
                self._apply(number, kind, side, price, qty)
            except ValueError as error:
                drop_fault(self._findings, path, line, "id", error)
            self.book.end()
            if len(self._builder) >= ROWS_PER_BLOCK:
                yield self._builder.build()
        if len(self._builder):
            yield self._builder.build()

    def _let_rest(self) -> None:
        """Let orders rest that are still there when the venue's clock has moved on; what they reach is stale."""
        coming, self._coming = self._coming, {}
        for number, order in coming.items():
            self._findings.counts["stale_orders"] += self.book.drop_reached(order.side, order.price_tick)
            if order.qty_lot:
                self.book.add(number, order.side, order.price_tick, order.qty_lot)

    def _apply(self, number: int, kind: int, side: int, price: int, qty: int) -> None:
        resting = self.book.orders.get(number)
        if kind == ROW_ADD:
            if not price:
                self._unpriced[number] = Order(side, price, qty)
                self._findings.counts["sentinel_prices"] += 1
            elif self.book.is_reached(side, price):
                self._coming[number] = Order(side, price, qty)
            else:
                self.book.add(number, side, price, qty)
        elif number in self._coming or number in self._unpriced:
            waiting = self._coming if number in self._coming else self._unpriced
            waiting[number].qty_lot = qty
            if kind == ROW_DELETE:
                del waiting[number]
        elif kind == ROW_DELETE and qty:
            self.book.delete(number)
        else:
            # what is left of it says how much was traded; the row's price may be the taker's
            left = qty if resting is None else resting.qty_lot - qty
            self.book.fill(number, left)


FORMAT = Format("bitstamp", sniff, read)
