"""OKX's v5 public messages, captured, as rows; the venue's checksum is held against every book (FEED-034, FEED-035)."""

import re
import zlib
from collections.abc import Iterator, Sequence
from itertools import chain, islice, zip_longest
from typing import Annotated

import msgspec
from sortedcontainers import SortedDict

from engine.codes import ROW_LIQUIDATION, ROW_TRADE
from engine.errors import DataError
from engine.feeds.captures import (
    Level,
    Message,
    MessageReader,
    convert,
    count_levels,
    count_ms,
    count_side,
    sniff_capture,
)
from engine.feeds.instruments import Findings, Instrument, Instruments, Int64, number_id
from engine.feeds.tape import Format, Head, Records, TapeFile

OURS = re.compile(rb'"arg":\s*\{"channel":\s*"[\w-]+"|wss://ws\w*\.okx\.com')
CHECKED_LEVELS = 25  # of each side, best first
BOOKS = frozenset(("books", "books-l2-tbt", "books50-l2-tbt"))
USDC_INDEX_NS = 1_681_116_000_000_000_000  # before, contracts in USDC had the index in USD
FUTURE = re.compile(r"-\d{6}$")


class _Arg(msgspec.Struct):
    channel: str
    instId: str = ""


class _Envelope(msgspec.Struct):
    arg: _Arg | None = None
    action: str = ""
    event: str = ""
    data: msgspec.Raw = msgspec.Raw(b"[]")


_Level = Annotated[list[str], msgspec.Meta(min_length=2)]  # price, size, and what is not looked at


class _Book(msgspec.Struct):
    asks: list[_Level]
    bids: list[_Level]
    ts: str
    checksum: int | None = None
    seqId: Int64 | None = None
    prevSeqId: Int64 | None = None


class _Trade(msgspec.Struct):
    instId: str
    tradeId: str
    px: str
    sz: str
    side: str
    ts: str


class _State(msgspec.Struct):
    """A row of `tickers`, `mark-price`, `index-tickers`, `open-interest` or `funding-rate`."""

    instId: str
    ts: str = ""
    last: str = ""
    markPx: str = ""
    idxPx: str = ""
    oi: str = ""
    fundingRate: str = ""
    fundingTime: str = ""
    nextFundingRate: str = ""


class _Order(msgspec.Struct):
    side: str
    sz: str
    bkPx: str
    ts: str


class _Liquidation(msgspec.Struct):
    instId: str
    details: list[_Order]


_decode = msgspec.json.Decoder(_Envelope).decode
_decode_books = msgspec.json.Decoder(list[_Book]).decode
_decode_trades = msgspec.json.Decoder(list[_Trade]).decode
_decode_states = msgspec.json.Decoder(list[_State]).decode
_decode_orders = msgspec.json.Decoder(list[_Order]).decode
_decode_liquidations = msgspec.json.Decoder(list[_Liquidation]).decode


def sniff(head: Head) -> TapeFile | None:
    """Return a capture of v5 messages."""
    return sniff_capture(head, OURS, FORMAT)


def read(files: Sequence[TapeFile], instruments: Instruments, findings: Findings) -> Iterator[Records]:
    """Yield the rows of captures."""
    return _Reader(instruments, findings).read(files)


def find_exchange(symbol: str) -> str:
    """Return where an instrument trades, as Tardis names it, by its id."""
    if symbol.endswith("-SWAP"):
        return "okex-swap"
    if symbol.endswith(("-C", "-P")):
        return "okex-options"
    return "okex-futures" if FUTURE.search(symbol) else "okex"


def is_on(symbol: str, index: str, ts_ns: int) -> bool:
    """Return whether a contract is on an index: BTC-USD is that of BTC-USD-SWAP and BTC-USD_UM_XPERP-310404.

    Source: FEED-035.
    """
    if find_exchange(symbol) not in ("okex-swap", "okex-futures"):
        return False
    name = "-".join(symbol.split("-")[:2]).partition("_")[0]
    return index == (name.removesuffix("C") if name.endswith("-USDC") and ts_ns < USDC_INDEX_NS else name)


class Book:
    """A book in the venue's own words, which its checksum is made of.

    Source: FEED-034.
    """

    def __init__(self) -> None:
        self.sides: dict[int, SortedDict] = {1: SortedDict(), -1: SortedDict()}
        self.seq: int | None = None
        self.is_broken = False

    def apply(self, levels: Sequence[Level], texts: Iterator[list[str]], is_snapshot: bool) -> None:
        """Take over the levels of a message, in units and as they were sent."""
        if is_snapshot:
            for levels_of_side in self.sides.values():
                levels_of_side.clear()
        for (side, price, qty), text in zip(levels, texts, strict=True):
            if qty:
                self.sides[side][-side * price] = f"{text[0]}:{text[1]}"
            else:
                self.sides[side].pop(-side * price, None)

    def sum_check(self) -> int:
        """Return the CRC32 of the best levels, bids and asks in turn, as a signed number."""
        best = (islice(self.sides[side].values(), CHECKED_LEVELS) for side in (1, -1))
        words = filter(None, chain.from_iterable(zip_longest(*best)))
        crc = zlib.crc32(":".join(words).encode())
        return crc - (1 << 32) if crc >> 31 else crc


class _Reader(MessageReader):
    def __init__(self, instruments: Instruments, findings: Findings) -> None:
        super().__init__(instruments, findings)
        self._books: dict[int, Book] = {}
        self._symbols = {market.symbol for market in instruments.markets}  # asked for, or met
        self._indexes: dict[str, tuple[int, str]] = {}  # name -> when and what it was last
        self._tellers = {
            "trades": self._tell_trades,
            "trades-all": self._tell_trades,
            "tickers": self._tell_states,
            "mark-price": self._tell_states,
            "index-tickers": self._tell_states,
            "open-interest": self._tell_states,
            "funding-rate": self._tell_states,
            "liquidations": self._tell_liquidations,
            "liquidation-orders": self._tell_liquidations,
        }

    def tell(self, message: Message) -> None:
        """Add the rows of one message."""
        if message.text in (b"pong", "pong"):
            return
        found = _decode(message.text)
        channel = found.arg.channel if found.arg else ""
        if found.event or not found.arg:
            self.count("okex", "other")
        elif channel in BOOKS or channel in ("books5", "bbo-tbt"):
            self._tell_books(message, found, channel, found.arg.instId)
        elif channel in self._tellers:
            self._tellers[channel](message, found, channel, found.arg.instId)
        else:
            self.count("okex", "other")

    def _find(self, message: Message, symbol: str) -> Instrument | None:
        instrument = self.find(find_exchange(symbol), symbol)
        if instrument is not None and symbol not in self._symbols:
            self._symbols.add(symbol)
            for name, (stamp, text) in self._indexes.items():
                if is_on(symbol, name, stamp):
                    self.add_ticker(message, instrument, stamp, index=text)
        return instrument

    # ---------------------------------------------------------------- books

    def _tell_books(self, message: Message, found: _Envelope, channel: str, symbol: str) -> None:
        books = _decode_books(found.data)
        self.count(find_exchange(symbol), "quotes" if channel == "bbo-tbt" else "book", len(books))
        instrument = self._find(message, symbol)
        if instrument is None:
            return
        for told in books:
            stamp = count_ms("ts", told.ts)
            if channel == "bbo-tbt":
                self.add_quote(message, instrument, stamp, count_levels(instrument, told.bids, told.asks))
            elif self.is_chosen("book", instrument, channel):
                self._tell_book(message, instrument, told, stamp, channel, found.action == "snapshot")

    def _tell_book(
        self, message: Message, instrument: Instrument, told: _Book, stamp: int, channel: str, is_snapshot: bool
    ) -> None:
        is_whole = channel == "books5"  # every message is a book of its own
        book = self._books.setdefault(instrument.index, Book())
        if is_snapshot:
            self.begin_snapshot(instrument)
            book.is_broken = False
        elif not is_whole:
            self._check_update(message, instrument, book, told)
        book.seq = told.seqId if told.seqId is not None else 0
        levels = count_levels(instrument, told.bids, told.asks)
        self.add_book(message, instrument, stamp, levels, is_snapshot or is_whole, max(book.seq, 0))
        if told.checksum is not None and not is_whole:
            book.apply(levels, chain(told.bids, told.asks), is_snapshot)
            self._check_sum(message, instrument, book, told.checksum)

    def _check_update(self, message: Message, instrument: Instrument, book: Book, told: _Book) -> None:
        if book.seq is None:
            self.check_number(message, instrument, "seqId", None, 0)
        elif told.prevSeqId is not None and told.prevSeqId != book.seq:
            self.check_number(message, instrument, "prevSeqId", book.seq, told.prevSeqId)
            book.is_broken = True  # the sums that are wrong from here on are this gap's

    def _check_sum(self, message: Message, instrument: Instrument, book: Book, checksum: int) -> None:
        found = book.sum_check()
        self.findings.counts["checksums"] += 1
        self.findings.counts["checksums_equal"] += found == checksum
        if found == checksum:
            book.is_broken = False
        elif not book.is_broken:
            book.is_broken = True  # one loss, one gap: until it is mended all sums are wrong
            expected = f"{instrument.symbol}: expected a book of checksum {checksum}, got {found}, updates were lost"
            self.findings.report("gaps", DataError(message.path, message.line, "checksum", expected))

    # ---------------------------------------------------------------- the rest

    def _tell_trades(self, message: Message, found: _Envelope, channel: str, symbol: str) -> None:
        trades = _decode_trades(found.data)
        self.count(find_exchange(symbol), "trades", len(trades))
        instrument = self._find(message, symbol)
        if instrument is None or not self.is_chosen("trades", instrument, channel):
            return

        def tell(trade: _Trade) -> None:
            side, stamp = count_side(trade.side), count_ms("ts", trade.ts)
            price = convert("px", instrument.prices.__getitem__, trade.px)
            qty = convert("sz", instrument.trades.__getitem__, trade.sz)
            ts_ns = self.begin(message, stamp)
            self.rows.add(ROW_TRADE, instrument.index, ts_ns, stamp, side, price, qty, number_id(trade.tradeId))

        self.each(message, trades, tell)

    def _tell_states(self, message: Message, found: _Envelope, channel: str, symbol: str) -> None:
        states = _decode_states(found.data)

        def tell(state: _State) -> None:
            stamp = count_ms("ts", state.ts)
            if channel == "index-tickers":
                self.count("okex", "index")
                self._tell_index(message, state, stamp)
                return
            self.count(find_exchange(state.instId), "ticker")
            instrument = self._find(message, state.instId)
            if instrument is not None:
                self.add_ticker(
                    message,
                    instrument,
                    stamp,
                    due_ns=count_ms("fundingTime", state.fundingTime),
                    rate=state.fundingRate,
                    predicted=state.nextFundingRate,
                    interest=state.oi,
                    last=state.last,
                    mark=state.markPx,
                )

        self.each(message, states, tell)

    def _tell_index(self, message: Message, state: _State, stamp: int) -> None:
        """Tell an index to every contract on it that was met or asked for (FEED-035)."""
        for symbol in sorted(self._symbols):
            if is_on(symbol, state.instId, stamp):
                instrument = self.find(find_exchange(symbol), symbol)
                if instrument is not None:
                    self.add_ticker(message, instrument, stamp, index=state.idxPx)
        self._indexes[state.instId] = (stamp, state.idxPx)

    def _tell_liquidations(self, message: Message, found: _Envelope, channel: str, symbol: str) -> None:
        if channel == "liquidation-orders":
            told = _decode_liquidations(found.data)
        else:
            told = [_Liquidation(symbol, _decode_orders(found.data))]
        for group in told:
            self.count(find_exchange(group.instId), "liquidations", len(group.details))
            instrument = self._find(message, group.instId)
            if instrument is not None:
                self._tell_orders(message, instrument, group.details)

    def _tell_orders(self, message: Message, instrument: Instrument, orders: Sequence[_Order]) -> None:
        def tell(order: _Order) -> None:
            side, stamp = count_side(order.side), count_ms("ts", order.ts)
            price = convert("bkPx", instrument.prices.__getitem__, order.bkPx)
            qty = convert("sz", instrument.trades.__getitem__, order.sz)
            self.rows.add(ROW_LIQUIDATION, instrument.index, self.begin(message, stamp), stamp, side, price, qty)

        self.each(message, orders, tell)


FORMAT = Format("okx", sniff, read)
