"""Bybit's v5 public messages, captured or as its archive of books (`ob500`) has them, as rows; FEED-030 to FEED-033."""

import re
from collections.abc import Iterator, Sequence

import msgspec

from engine.codes import OFF_MARKET, ROW_LIQUIDATION, ROW_TRADE
from engine.feeds.captures import (
    Message,
    MessageReader,
    convert,
    count_levels,
    count_ms,
    count_side,
    peek_messages,
    sniff_capture,
)
from engine.feeds.instruments import Findings, Instruments, Int64, number_id
from engine.feeds.tape import Format, Head, Records, TapeFile

OURS = re.compile(
    rb'"topic":\s*"(?:orderbook\.\d+|publicTrade|tickers|liquidation|allLiquidation)\.|"exchange":\s*"BYBIT"'
    rb"|wss://stream[\w.-]*\.bybit\.com/v5/public"
)
EXCHANGES = {"spot": "bybit-spot", "option": "bybit-options", "linear": "bybit", "inverse": "bybit"}


class _Envelope(msgspec.Struct):
    topic: str = ""
    type: str = ""
    ts: int = 0
    data: msgspec.Raw = msgspec.Raw()


class _Book(msgspec.Struct):
    s: str
    b: list[tuple[str, str]]
    a: list[tuple[str, str]]
    u: Int64


class _Ticker(msgspec.Struct):
    lastPrice: str = ""
    markPrice: str = ""
    indexPrice: str = ""
    openInterest: str = ""
    fundingRate: str = ""
    nextFundingTime: str = ""


class _Trade(msgspec.Struct):
    T: int
    S: str
    v: str
    p: str
    i: str = ""
    BT: bool = False  # a block trade


class _Liquidation(msgspec.Struct):
    updatedTime: int
    side: str
    size: str
    price: str


_decode = msgspec.json.Decoder(_Envelope).decode
_decode_book = msgspec.json.Decoder(_Book).decode
_decode_ticker = msgspec.json.Decoder(_Ticker).decode
_decode_trades = msgspec.json.Decoder(list[_Trade]).decode
_decode_liquidation = msgspec.json.Decoder(_Liquidation).decode


def sniff(head: Head) -> TapeFile | None:
    """Return a capture of v5 messages, or a file of the archive of books."""
    return sniff_capture(head, OURS, FORMAT)


def read(files: Sequence[TapeFile], instruments: Instruments, findings: Findings) -> Iterator[Records]:
    """Yield the rows of captures."""
    if instruments.markets and any(_find_exchange(message) == "bybit" for message in peek_messages(files)):
        # Spot has the names of perpetuals: beside them it is no market of ours, only an index.
        for market in instruments.markets:
            instruments.homes.setdefault(market.symbol, "bybit")
    return _Reader(instruments, findings).read(files)


def _find_exchange(message: Message) -> str:
    return EXCHANGES.get(message.address.rpartition("/")[2], "") if message.address else ""


class _Reader(MessageReader):
    def __init__(self, instruments: Instruments, findings: Findings) -> None:
        super().__init__(instruments, findings)
        self._updates: dict[int, int] = {}  # instrument -> `u` of its book's last message

    def tell(self, message: Message) -> None:
        """Add the rows of one message."""
        found = _decode(message.text)
        topic, _, rest = found.topic.partition(".")
        exchange = _find_exchange(message) or "bybit"
        symbol = rest.rpartition(".")[2]
        if topic == "orderbook":
            self._tell_book(message, found, exchange, symbol, rest.partition(".")[0])
        elif topic == "publicTrade":
            self._tell_trades(message, found, exchange, symbol)
        elif topic == "tickers":
            self._tell_ticker(message, found, exchange, symbol)
        elif topic in ("liquidation", "allLiquidation"):
            self._tell_liquidations(message, found, exchange, symbol)
        else:
            self.count(exchange, "other")

    def _tell_book(self, message: Message, found: _Envelope, exchange: str, symbol: str, depth: str) -> None:
        self.count(exchange, "quotes" if depth == "1" else "book")
        instrument = self.find(exchange, symbol)
        if instrument is None:
            return
        book = _decode_book(found.data)
        stamp = count_ms("ts", found.ts)
        if depth == "1":
            self.add_quote(message, instrument, stamp, count_levels(instrument, book.b, book.a))
            return
        if not self.is_chosen("book", instrument, depth):
            return
        is_snapshot = found.type == "snapshot" or book.u == 1
        if is_snapshot:
            self.begin_snapshot(instrument)
        else:
            self.check_number(message, instrument, "u", self._updates.get(instrument.index), book.u - 1)
        self._updates[instrument.index] = book.u
        levels = count_levels(instrument, book.b, book.a)
        self.add_book(message, instrument, stamp, levels, is_snapshot, book.u)

    def _tell_ticker(self, message: Message, found: _Envelope, exchange: str, symbol: str) -> None:
        self.count(exchange, "ticker")
        if (instrument := self.find(exchange, symbol)) is None:
            return
        ticker = _decode_ticker(found.data)
        self.add_ticker(
            message,
            instrument,
            count_ms("ts", found.ts),
            due_ns=count_ms("nextFundingTime", ticker.nextFundingTime),
            rate=ticker.fundingRate,
            interest=ticker.openInterest,
            last=ticker.lastPrice,
            index=ticker.indexPrice,
            mark=ticker.markPrice,
        )

    def _tell_trades(self, message: Message, found: _Envelope, exchange: str, symbol: str) -> None:
        trades = _decode_trades(found.data)
        self.count(exchange, "trades", len(trades))
        if (instrument := self.find(exchange, symbol)) is None:
            return

        def tell(trade: _Trade) -> None:
            side, stamp = count_side(trade.S), count_ms("T", trade.T)
            price = convert("price", instrument.prices.__getitem__, trade.p)
            qty = convert("size", instrument.trades.__getitem__, trade.v)
            flags = OFF_MARKET if trade.BT else 0
            ts_ns = self.begin(message, stamp)
            self.rows.add(ROW_TRADE, instrument.index, ts_ns, stamp, side, price, qty, number_id(trade.i), flags)

        self.each(message, trades, tell)

    def _tell_liquidations(self, message: Message, found: _Envelope, exchange: str, symbol: str) -> None:
        # Two forms: `liquidation` tells one with its own names, `allLiquidation` several with those of trades.
        if bytes(found.data)[:1] == b"{":
            one = _decode_liquidation(found.data)
            orders = [_Trade(one.updatedTime, one.side, one.size, one.price)]
        else:
            orders = _decode_trades(found.data)
        self.count(exchange, "liquidations", len(orders))
        if (instrument := self.find(exchange, symbol)) is None:
            return

        def tell(order: _Trade) -> None:
            # the venue names the side of the position; the order is on the other one
            side, stamp = -count_side(order.S), count_ms("T", order.T)
            price = convert("price", instrument.prices.__getitem__, order.p)
            qty = convert("size", instrument.trades.__getitem__, order.v)
            self.rows.add(ROW_LIQUIDATION, instrument.index, self.begin(message, stamp), stamp, side, price, qty)

        self.each(message, orders, tell)


FORMAT = Format("bybit", sniff, read)
