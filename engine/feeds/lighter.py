"""Lighter's captured messages as rows, and a check of the positions its trades tell (FEED-039 to FEED-041)."""

import re
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import msgspec

from engine.codes import OFF_MARKET, ROW_LIQUIDATION, ROW_TRADE
from engine.errors import DataError
from engine.feeds.captures import (
    HOUR_NS,
    Message,
    MessageReader,
    convert,
    count_levels,
    count_ms,
    peek_messages,
    read_messages,
    sniff_capture,
)
from engine.feeds.instruments import Findings, Instrument, Instruments, Int64
from engine.feeds.tape import DECODE_ERRORS, Format, Head, Records, TapeFile
from engine.units import parse_decimal

EXCHANGE = "lighter"
OURS = re.compile(rb'"channel":\s*"(?:order_book|trade|market_stats|ticker):(?:\d+|all)"')
OFF_BOOK_TYPES = frozenset(("deleverage", "market-settlement"))  # trades that met no order of the book


class _Level(msgspec.Struct):
    price: str
    size: str


class _Book(msgspec.Struct):
    asks: list[_Level]
    bids: list[_Level]
    offset: Int64
    nonce: Int64 = 0
    begin_nonce: Int64 = 0


class Trade(msgspec.Struct):
    """A trade as the venue tells it, with what both accounts held before it."""

    trade_id: Int64
    type: str
    size: str
    price: str
    ask_account_id: int
    bid_account_id: int
    is_maker_ask: bool
    timestamp: int
    taker_position_size_before: str = "0"
    maker_position_size_before: str = "0"

    @property
    def side(self) -> int:
        """Which side took."""
        return 1 if self.is_maker_ask else -1


class _Stats(msgspec.Struct):
    market_id: Int64
    symbol: str = ""
    index_price: str = ""
    mark_price: str = ""
    open_interest: str = ""
    last_trade_price: str = ""
    current_funding_rate: str = ""
    funding_timestamp: int = 0


class _Side(msgspec.Struct):
    price: str = ""
    size: str = ""


class _Quote(msgspec.Struct):
    a: _Side = msgspec.field(default_factory=_Side)
    b: _Side = msgspec.field(default_factory=_Side)


class _Envelope(msgspec.Struct):
    channel: str = ""
    type: str = ""
    timestamp: int = 0
    order_book: _Book | None = None
    trades: list[Trade] | None = None
    liquidation_trades: list[Trade] | None = None
    market_stats: msgspec.Raw = msgspec.Raw()
    ticker: _Quote | None = None


_decode = msgspec.json.Decoder(_Envelope).decode
_decode_stats = msgspec.json.Decoder(_Stats).decode
_decode_all_stats = msgspec.json.Decoder(dict[str, _Stats]).decode


def sniff(head: Head) -> TapeFile | None:
    """Return a capture of the venue's websocket."""
    return sniff_capture(head, OURS, FORMAT)


def read(files: Sequence[TapeFile], instruments: Instruments, findings: Findings) -> Iterator[Records]:
    """Yield the rows of captures."""
    return _Reader(instruments, findings, _find_symbols(files)).read(files)


def _list_stats(found: _Envelope) -> list[_Stats]:
    if found.channel == "market_stats:all":
        return list(_decode_all_stats(found.market_stats).values())
    return [_decode_stats(found.market_stats)] if found.channel.startswith("market_stats:") else []


def _find_symbols(files: Sequence[TapeFile]) -> dict[str, str]:
    # only the statistics of a market say what its number means, and they need not come first
    symbols: dict[str, str] = {}
    for message in peek_messages(files):
        try:
            told = _list_stats(_decode(message.text))
            symbols |= {str(stats.market_id): stats.symbol for stats in told if stats.symbol}
        except DECODE_ERRORS:
            continue  # told when it is read
    return symbols


class _Reader(MessageReader):
    def __init__(self, instruments: Instruments, findings: Findings, symbols: dict[str, str]) -> None:
        super().__init__(instruments, findings)
        self._symbols = symbols  # market's number -> symbol
        self._updates: dict[int, tuple[int, int]] = {}  # instrument -> offset and nonce of its book's last message

    def tell(self, message: Message) -> None:
        """Add the rows of one message."""
        found = _decode(message.text)
        kind, _, number = found.channel.partition(":")
        if kind == "order_book" and found.order_book is not None:
            self.count(EXCHANGE, "book")
            if (instrument := self._find(number)) is not None:
                self._tell_book(message, instrument, found, found.order_book)
        elif kind == "trade":
            self._tell_trades(message, found, number)
        elif kind == "market_stats":
            stamp = count_ms("timestamp", found.timestamp)
            self.each(message, _list_stats(found), lambda stats: self._tell_stats(message, stats, stamp))
        elif kind == "ticker" and found.ticker is not None:
            self._tell_quote(message, found, found.ticker, number)
        else:
            self.count(EXCHANGE, "other")

    def _find(self, number: str) -> Instrument | None:
        return self.find(EXCHANGE, self._symbols.get(number, number))

    def _tell_book(self, message: Message, instrument: Instrument, found: _Envelope, book: _Book) -> None:
        is_snapshot = found.type == "subscribed/order_book"
        if is_snapshot:
            self.begin_snapshot(instrument)
        else:
            offset, nonce = self._updates.get(instrument.index, (None, 0))
            if book.begin_nonce and nonce and offset is not None:
                self.check_number(message, instrument, "begin_nonce", nonce, book.begin_nonce)
            else:
                self.check_number(message, instrument, "offset", offset, book.offset - 1)
        self._updates[instrument.index] = (book.offset, book.nonce)
        bids, asks = ([(level.price, level.size) for level in side] for side in (book.bids, book.asks))
        levels, stamp = count_levels(instrument, bids, asks), count_ms("timestamp", found.timestamp)
        self.add_book(message, instrument, stamp, levels, is_snapshot, book.offset)

    def _tell_quote(self, message: Message, found: _Envelope, quote: _Quote, number: str) -> None:
        self.count(EXCHANGE, "quotes")
        if (instrument := self._find(number)) is None:
            return
        levels = [(1, 0, 0), (-1, 0, 0)]  # what is not there has no price
        bids, asks = ([(side.price, side.size)] if side.price else [] for side in (quote.b, quote.a))
        levels += count_levels(instrument, bids, asks)
        self.add_quote(message, instrument, count_ms("timestamp", found.timestamp), levels)

    def _tell_trades(self, message: Message, found: _Envelope, number: str) -> None:
        """Tell trades by their number, newest last; what a subscription begins with went before it (FEED-040)."""
        trades, liquidations = found.trades or [], found.liquidation_trades or []
        is_live = found.type != "subscribed/trade"
        self.count(EXCHANGE, "trades" if is_live else "earlier trades", len(trades))
        self.count(EXCHANGE, "liquidations" if is_live else "earlier liquidations", len(liquidations))
        if (instrument := self._find(number)) is None:
            return
        liquidated = {trade.trade_id for trade in liquidations}
        told = {trade.trade_id: trade for trade in (*(trades if is_live else ()), *liquidations)}

        def tell(trade: Trade) -> None:
            stamp = count_ms("timestamp", trade.timestamp)
            price = convert("price", instrument.prices.__getitem__, trade.price)
            qty = convert("size", instrument.trades.__getitem__, trade.size)
            ts_ns = self.begin(message, stamp)
            row = (instrument.index, ts_ns, stamp, trade.side, price, qty, trade.trade_id)
            if is_live:
                self.rows.add(ROW_TRADE, *row, flags=OFF_MARKET if trade.type in OFF_BOOK_TYPES else 0)
            if trade.trade_id in liquidated:
                self.rows.add(ROW_LIQUIDATION, *row)

        self.each(message, (told[number] for number in sorted(told)), tell)

    def _tell_stats(self, message: Message, stats: _Stats, stamp: int) -> None:
        """Tell a market's ticker: rates are percent an hour, the stamp is that of the payment before (FEED-041)."""
        self.count(EXCHANGE, "ticker")
        self._symbols.setdefault(str(stats.market_id), stats.symbol or str(stats.market_id))
        if (instrument := self._find(str(stats.market_id))) is None:
            return
        rate = stats.current_funding_rate
        paid_ns = count_ms("funding_timestamp", stats.funding_timestamp)
        self.add_ticker(
            message,
            instrument,
            stamp,
            due_ns=(paid_ns // HOUR_NS + 1) * HOUR_NS if paid_ns else 0,
            rate=str(convert("current_funding_rate", parse_decimal, rate).scaleb(-2)) if rate else "",
            interest=stats.open_interest,
            last=stats.last_trade_price,
            index=stats.index_price,
            mark=stats.mark_price,
        )


# ---------------------------------------------------------------- the venue's own accounting


class TradeCheck(NamedTuple):
    """What a capture's trades say about the accounts that made them."""

    trades: int  # live ones
    earlier: int  # trades and liquidations a subscription began with
    accounts: int
    chained: int  # sides whose position before them could be compared with the one after the trade before
    broken: int  # ... and differed


def check_lighter_trades(path: str | Path) -> TradeCheck:
    """Return whether positions chain in a capture's live trades: one's end is the account's next one's beginning.

    Raises
    ------
    DataError
        Naming file and message: no JSON, a position that is no number.

    Source: FEED-040.
    """
    file = Path(path)
    held: dict[tuple[str, int], Decimal] = {}
    counted = dict.fromkeys(("trades", "earlier", "chained", "broken"), 0)
    for message in read_messages(file, Findings()):
        try:
            found = _decode(message.text)
            trades = [*(found.trades or ()), *(found.liquidation_trades or ())]
            if found.type == "subscribed/trade":
                counted["earlier"] += len(trades)
                continue
            for trade in sorted(trades, key=lambda trade: trade.trade_id):
                counted["trades"] += 1
                _follow(found.channel, trade, held, counted)
        except (*DECODE_ERRORS, ValueError, ArithmeticError) as error:
            raise DataError(file, message.line, None, f"expected a message of trades: {error}") from error
    accounts = len({account for _, account in held})
    return TradeCheck(accounts=accounts, **counted)


def _follow(market: str, trade: Trade, held: dict[tuple[str, int], Decimal], counted: dict[str, int]) -> None:
    bid, ask = (market, trade.bid_account_id), (market, trade.ask_account_id)
    taker, maker = (bid, ask) if trade.side > 0 else (ask, bid)
    taken = (taker, trade.taker_position_size_before, trade.side)
    made = (maker, trade.maker_position_size_before, -trade.side)
    for who, text, side in (taken, made):
        before = parse_decimal(text)
        if who in held:
            counted["chained"] += 1
            counted["broken"] += held[who] != before
        held[who] = before + side * parse_decimal(trade.size)


FORMAT = Format("lighter", sniff, read)
