"""Binance's own messages as recorded: USD-M, COIN-M and spot, a JSON message a line (FEED-020..FEED-024, FEED-028).

Lines are `<stamp> <JSON>` (s, ms, us or ns by its digits), JSON alone, or as cryptofeed captures them:
`<stamp>: <JSON>` and `<url> -> <stamp>: <JSON>`.  Messages are those of the streams, with or without the wrapper that
names the stream, and the depth snapshots of the REST interface.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Annotated, NamedTuple
from urllib.parse import parse_qs, urlsplit

import msgspec

from engine.codes import (
    NO_RATE,
    OFF_MARKET,
    ROW_FUNDING,
    ROW_INDEX,
    ROW_LIQUIDATION,
    ROW_MARK,
    ROW_QUOTE,
    ROW_TRADE,
)
from engine.errors import DataError
from engine.feeds.binance_book import DepthBook, Level, Update, count_ns, merge_by_time
from engine.feeds.columns import FieldError, read_texts
from engine.feeds.instruments import COUNT_MAX, Findings, Instrument, Instruments, count_rate
from engine.feeds.tape import DECODE_ERRORS, Format, Head, Records, RowBuilder, TapeFile

ON_BOOK = "MARKET"
BLOCK_ROWS = 8_192
SNIFF_LINES = 2_000  # that are looked at for the symbols of a file
RANK = 0

FUTURES, DELIVERY, SPOT = "binance-futures", "binance-delivery", "binance"
SNAPSHOT, QUOTE = "depthSnapshot", "bookTicker"
INVERSE = re.compile(r"[A-Z0-9]+USD_(?:PERP|\d{6})")  # COIN-M contracts; USD-M's dated ones end on USDT
BEGINNING = re.compile(rb"(?:\d{10,19}(?:\.\d+)?:? )?[{\[]|https?://\S+ -> [\d.]+: |wss?://")
PATHS = {"fapi": FUTURES, "dapi": DELIVERY, "api": SPOT}
SIDES = {"BUY": 1, "SELL": -1}

# Stamps are ms; spot's can be had in us.  Neither leaves 64 bits as ns (until 2255).
MS_END = 9_000_000_000_000
Stamp = Annotated[int, msgspec.Meta(ge=0, lt=1000 * MS_END)]
Id = Annotated[int, msgspec.Meta(ge=0, lt=COUNT_MAX)]
Levels = list[tuple[str, str]]


class Order(msgspec.Struct, rename={"symbol": "s", "side": "S", "price": "p", "filled": "z"}):
    """A liquidation order."""

    symbol: str
    side: str
    price: str
    filled: str


NAMES = {
    "event": "e",
    "sent": "E",
    "traded": "T",
    "symbol": "s",
    "pair": "ps",
    "first": "U",
    "last": "u",
    "previous": "pu",
    "bid": "b",
    "ask": "a",
    "bid_qty": "B",
    "ask_qty": "A",
    "trade": "t",
    "price": "p",
    "qty": "q",
    "is_seller": "m",
    "is_best": "M",
    "venue": "X",
    "index": "i",
    "rate": "r",
    "order": "o",
    "snapshot": "lastUpdateId",
    "snapshot_symbol": "symbol",
}


class Message(msgspec.Struct, rename=NAMES):
    """Any message we read; what a letter means depends on the event."""

    event: str = ""
    sent: Stamp = 0
    traded: Stamp = 0
    symbol: str = ""
    pair: str = ""
    first: Id = 0
    last: Id = 0
    previous: Id | None = None
    bid: Levels | str | Id = ""
    ask: Levels | str | Id = ""
    bid_qty: str = ""
    ask_qty: str = ""
    trade: Id = 0
    price: str = ""
    qty: str = ""
    is_seller: bool = False  # the buyer was the maker
    is_best: bool | None = None  # spot alone has this field
    venue: str | None = None  # futures alone have this one
    index: str = ""
    rate: str = ""
    order: Order | str | None = None
    snapshot: Id = 0
    snapshot_symbol: str = ""
    bids: Levels = []
    asks: Levels = []

    @property
    def sent_ns(self) -> int:
        """When the venue sent it, 0 where it does not say (FEED-024)."""
        return to_ns(self.sent or self.traded)

    @property
    def kind(self) -> str:
        """The event; spot's best prices and fetched snapshots do not name theirs."""
        return self.event or (SNAPSHOT if self.snapshot else QUOTE if self.bid_qty and self.ask_qty else "")


class Wrapped(Message):
    """A message, alone or in the wrapper of a combined stream; streams of all symbols tell several at once."""

    data: Message | list[Message] | None = None


class _Any(msgspec.Struct):
    e: str = ""
    data: "_Any | None" = None


def to_ns(stamp: int) -> int:
    """Return a stamp in ms or us in ns."""
    return stamp * (1_000_000 if stamp < MS_END else 1_000)


def unwrap(message: Wrapped | list[Message]) -> Sequence[Message]:
    """Return the messages of a line."""
    if isinstance(message, list):
        return message
    if message.data is None:
        return (message,)
    return message.data if isinstance(message.data, list) else (message.data,)


DECODER = msgspec.json.Decoder(Wrapped | list[Message])
OTHER = msgspec.json.Decoder(_Any)


class Line(NamedTuple):
    """A message in its file."""

    ts_ns: int
    number: int
    message: Message
    symbol: str  # of a snapshot, from the address it was fetched from


def read_lines(file: TapeFile, findings: Findings) -> Iterator[Line]:
    """Yield the messages of a file; a line that is none is a fault and left out."""
    last_ns = 0
    count = 0
    for first, block in read_texts(file.path):
        for number, text in enumerate(block.split("\n"), first):
            count = number
            if not text:
                continue
            stamp, url, body = split_line(text)
            if not body and url:
                continue
            try:
                ts_ns = count_ns(stamp) if stamp else 0
                message = DECODER.decode(body)
            except DECODE_ERRORS as error:
                if _is_other(body):
                    findings.counts["unused"] += 1
                else:
                    expected = f"expected a stamp and a JSON message: {error}"
                    findings.drop("json", DataError(file.path, number, None, expected))
                continue
            except ValueError as error:
                findings.drop("stamp", DataError(file.path, number, "local time", str(error)))
                continue
            for told in unwrap(message):
                # Where nobody wrote down when it arrived: the venue's clock, or what arrived before it.
                last_ns = ts_ns or told.sent_ns or last_ns
                if last_ns:
                    yield Line(last_ns, number, told, _find_symbol(url) if url else "")
                else:
                    findings.drop("stamp", DataError(file.path, number, "E", "expected a stamp, there is none so far"))
    if not count:
        raise DataError(file.path, 1, None, "expected lines of stamp and JSON, the file is empty")


def split_line(text: str) -> tuple[str, str, str]:
    """Return the stamp, the address and the JSON of a line; empty where it has none."""
    if text.startswith(("{", "[")):
        return "", "", text
    url = ""
    if text.startswith(("http", "ws")):
        url, _, text = text.partition(" -> ")
    stamp, _, body = text.partition(" ")
    return stamp.removesuffix(":"), url, body


def _find_symbol(url: str) -> str:
    return parse_qs(urlsplit(url).query).get("symbol", [""])[0].upper()


def _is_other(body: str) -> bool:
    """Return whether a message we cannot read is one we do not want."""
    try:
        other = OTHER.decode(body)
    except DECODE_ERRORS:
        return False
    return (other.data or other).e not in HANDLERS


# ---------------------------------------------------------------- what a file is


def sniff(head: Head) -> TapeFile | None:
    """Return what a file is by its first messages, or None where none of them is Binance's."""
    if not BEGINNING.match(head.data):
        return None
    exchange = guess = ""
    symbols: set[str] = set()
    first_ns = 0
    is_fetched = False
    for text in islice(_iter_texts(head), SNIFF_LINES):
        stamp, url, body = split_line(text)
        is_fetched |= bool(url)
        try:
            message = DECODER.decode(body)
            ts_ns = count_ns(stamp) if stamp else 0
        except (*DECODE_ERRORS, ValueError):
            continue
        for told in unwrap(message):
            symbol = _find_symbol(url) or told.symbol or told.snapshot_symbol
            if isinstance(told.order, Order):
                symbol = told.order.symbol
            if told.kind not in HANDLERS:
                continue
            first_ns = first_ns or ts_ns or told.sent_ns
            if symbol:
                symbols.add(symbol)
            exchange = exchange or name_exchange(told, symbol, url)
            if told.kind == QUOTE:
                guess = guess or (FUTURES if told.event else SPOT)
    exchange = exchange or guess
    if not exchange or not symbols:
        return None
    kind = "raw_spot" if exchange == SPOT else "raw"
    only = symbols.pop() if len(symbols) == 1 and not is_fetched else ""
    return TapeFile(head.path, FORMAT, kind, exchange, only, first_ns, RANK)


def _iter_texts(head: Head) -> Iterator[str]:
    # A first snapshot may be longer than what was looked at.
    try:
        for _, block in read_texts(head.path):
            yield from block.split("\n")
    except DataError:
        return


def name_exchange(message: Message, symbol: str, url: str = "") -> str:
    """Return where a message comes from, or nothing where it does not say (FEED-023)."""
    if message.kind == SNAPSHOT and url:
        return PATHS.get(urlsplit(url).path.split("/")[1], "")
    if message.pair or INVERSE.fullmatch(symbol):
        return DELIVERY
    if message.is_best is not None or (message.kind == "depthUpdate" and message.previous is None):
        return SPOT
    if message.kind in ("depthUpdate", "markPriceUpdate", "forceOrder", "aggTrade"):
        return FUTURES
    return FUTURES if message.venue is not None else ""


# ---------------------------------------------------------------- rows


def read(files: Sequence[TapeFile], instruments: Instruments, findings: Findings) -> Iterator[Records]:
    """Yield the rows of files of one exchange that follow, or lie beside, each other."""
    reader = _Reader(instruments, findings)
    for file, line in merge_by_time(files, lambda file: read_lines(file, findings)):
        reader.take(file, line)
        if len(reader.rows) >= BLOCK_ROWS:
            yield reader.rows.build()
    yield reader.rows.build()


class _Reader:
    """Messages to rows; keeps what the books need."""

    def __init__(self, instruments: Instruments, findings: Findings) -> None:
        self.rows = RowBuilder(findings)
        self.findings = findings
        self._instruments = instruments
        self._books: dict[int, DepthBook] = {}
        self._trades: dict[int, tuple[str, int]] = {}  # instrument -> kind of trades and last id

    def take(self, file: TapeFile, line: Line) -> None:
        """Add the rows of a message."""
        message = line.message
        kind = message.kind
        handler = HANDLERS.get(kind)
        if handler is None:
            self.findings.counts["unused"] += 1
            return
        symbol = message.symbol or line.symbol or message.snapshot_symbol or file.symbol
        if isinstance(message.order, Order):
            symbol = message.order.symbol
        instrument = self._instruments.find(file.exchange, symbol) if symbol else None
        if instrument is None:
            if symbol and symbol == file.symbol:
                self.findings.counts["unused"] += 1
                return
            expected = f"expected {file.symbol}, got {symbol!r}" if file.symbol else "expected a symbol"
            if symbol and not file.symbol:
                self.findings.counts["unused"] += 1
            else:
                self.findings.drop("symbol", DataError(file.path, line.number, "s", expected))
            return
        self.findings.rows[kind] += 1
        ts_ns = self.rows.begin(file.path, line.number, line.ts_ns)
        try:
            handler(self, file, line, instrument, ts_ns, message.sent_ns)
        except FieldError as error:
            self.findings.drop(error.reason, DataError(file.path, line.number, error.field, str(error)))

    def tell_depth(self, file: TapeFile, line: Line, instrument: Instrument, ts_ns: int, exchange_ns: int) -> None:
        """Add a depth update's levels."""
        message = line.message
        if not message.first or not message.last >= message.first:
            raise FieldError("u", f"expected ids U <= u, got {message.first} and {message.last}", "bad id")
        levels = _count_levels(instrument, message.bid, message.ask)
        update = Update.build((message.first, message.last, message.previous), levels, f"line {line.number}")
        self._find_book(instrument).tell_update(update, file.path, line.number, ts_ns, exchange_ns)

    def tell_snapshot(self, file: TapeFile, line: Line, instrument: Instrument, ts_ns: int, exchange_ns: int) -> None:
        """Add a whole book."""
        levels = _count_levels(instrument, line.message.bids, line.message.asks)
        self._find_book(instrument).tell_snapshot(
            line.message.snapshot, levels, f"line {line.number}", file.path, line.number, ts_ns, exchange_ns
        )

    def tell_trade(self, file: TapeFile, line: Line, instrument: Instrument, ts_ns: int, exchange_ns: int) -> None:
        """Add a trade; one that met no order of the book is flagged (FEED-004, FEED-028)."""
        message = line.message
        kind, last = self._trades.get(instrument.index, (message.kind, 0))
        if kind != message.kind:
            self.findings.counts["unused"] += 1
            return
        field = "t" if kind == "trade" else "a"
        number = message.trade if kind == "trade" else message.ask
        if not isinstance(number, int):
            raise FieldError(field, f"expected an id, got {number!r}", "bad id")
        if 0 < number <= last:
            reason = "duplicate id" if number == last else "bad id"
            raise FieldError(field, f"expected more than {last}, got {number}", reason)
        flags = 0 if message.venue is None or message.venue == ON_BOOK else OFF_MARKET
        if not flags or not (is_zero(message.price) or is_zero(message.qty)):
            side = -1 if message.is_seller else 1
            price = read_count("p", instrument.prices, message.price)
            qty = read_count("q", instrument.trades, message.qty)
            self.rows.add(ROW_TRADE, instrument.index, ts_ns, exchange_ns, side, price, qty, number, flags)
        self._trades[instrument.index] = (kind, max(number, last))

    def tell_quote(self, file: TapeFile, line: Line, instrument: Instrument, ts_ns: int, exchange_ns: int) -> None:
        """Add the best prices; an empty side has price and quantity 0."""
        message = line.message
        prices, totals = instrument.prices, instrument.totals
        told = []
        for side, price, qty in ((1, message.bid, message.bid_qty), (-1, message.ask, message.ask_qty)):
            field = "b" if side > 0 else "a"
            if not isinstance(price, str):
                raise FieldError(field, f"expected a price, got {price!r}")
            try:
                count = 0 if is_zero(price) else prices[price]
                field = field.upper()
                told.append((side, count, totals[qty]))
            except (ValueError, ArithmeticError) as error:
                raise FieldError(field, str(error)) from error
        for side, count, total in told:
            self.rows.add(ROW_QUOTE, instrument.index, ts_ns, exchange_ns, side, count, total, message.last)

    def tell_mark(self, file: TapeFile, line: Line, instrument: Instrument, ts_ns: int, exchange_ns: int) -> None:
        """Add funding, index and mark; `T` is when funding is due."""
        message = line.message
        rate = _read("r", count_rate, message.rate)
        index = 0 if is_zero(message.index) else _read("i", instrument.count_fine, message.index)
        mark = _read("p", instrument.count_fine, message.price)
        exchange_ns = to_ns(message.sent)
        if message.rate or message.traded:
            due, flags = to_ns(message.traded), 0 if message.rate else NO_RATE
            self.rows.add(ROW_FUNDING, instrument.index, ts_ns, exchange_ns, 0, rate, due, flags=flags)
        if index:
            self.rows.add(ROW_INDEX, instrument.index, ts_ns, exchange_ns, 0, index)
        self.rows.add(ROW_MARK, instrument.index, ts_ns, exchange_ns, 0, mark)

    def tell_liquidation(
        self, file: TapeFile, line: Line, instrument: Instrument, ts_ns: int, exchange_ns: int
    ) -> None:
        """Add a liquidation order: its limit price and what of it was filled."""
        order = line.message.order
        if not isinstance(order, Order):
            raise FieldError("o", "expected an order")
        if order.side not in SIDES:
            raise FieldError("S", f"expected BUY or SELL, got {order.side!r}")
        if is_zero(order.filled):
            return
        price = read_count("p", instrument.prices, order.price)
        qty = read_count("z", instrument.trades, order.filled)
        self.rows.add(ROW_LIQUIDATION, instrument.index, ts_ns, exchange_ns, SIDES[order.side], price, qty)

    def _find_book(self, instrument: Instrument) -> DepthBook:
        book = self._books.get(instrument.index)
        if book is None:
            book = self._books[instrument.index] = DepthBook(instrument.index, self.rows, self.findings)
        return book


def is_zero(text: str) -> bool:
    """Return whether a text is no number but 0: `0`, `0.00`, nothing at all."""
    return not text.strip("0.")


def _read(field: str, parse: Callable[[str], int], text: str) -> int:
    try:
        return parse(text)
    except (ValueError, ArithmeticError) as error:
        raise FieldError(field, str(error)) from error


def read_count(field: str, units: Mapping[str, int], text: str) -> int:
    """Return a text in units; FieldError where it is none."""
    return _read(field, units.__getitem__, text)


def _count_levels(instrument: Instrument, bids: Levels | str | int, asks: Levels | str | int) -> list[Level]:
    prices, totals = instrument.levels, instrument.totals
    told: list[Level] = []
    for side, field, levels in ((1, "b", bids), (-1, "a", asks)):
        if not isinstance(levels, list):
            raise FieldError(field, f"expected levels, got {levels!r}")
        try:
            told += [(side, prices[price], totals[qty]) for price, qty in levels]
        except (ValueError, ArithmeticError) as error:
            raise FieldError(field, str(error)) from error
    return told


HANDLERS: Mapping[str, Callable[[_Reader, TapeFile, Line, Instrument, int, int], None]] = {
    "depthUpdate": _Reader.tell_depth,
    SNAPSHOT: _Reader.tell_snapshot,
    "trade": _Reader.tell_trade,
    "aggTrade": _Reader.tell_trade,
    QUOTE: _Reader.tell_quote,
    "markPriceUpdate": _Reader.tell_mark,
    "forceOrder": _Reader.tell_liquidation,
}
FORMAT = Format("binance", sniff, read)
