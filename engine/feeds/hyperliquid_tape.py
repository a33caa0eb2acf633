"""Hyperliquid's recordings as rows: captured websocket messages, and its nodes' fills (FEED-036 to FEED-038)."""

import re
from collections.abc import Iterator, Sequence

import msgspec

from engine.codes import OFF_MARKET, ROW_LIQUIDATION, ROW_TRADE
from engine.errors import DataError
from engine.feeds.captures import (
    HOUR_NS,
    Level,
    Message,
    MessageReader,
    convert,
    count_levels,
    count_ms,
    count_side,
    count_stamp_text,
    sniff_capture,
)
from engine.feeds.columns import FieldError
from engine.feeds.instruments import Findings, Instrument, Instruments, Int64
from engine.feeds.tape import Format, Head, Records, TapeFile

EXCHANGE = "hyperliquid"
OURS = re.compile(
    rb'"channel":\s*"(?:l2Book|trades|bbo|activeAssetCtx|activeSpotAssetCtx|allDexsAssetCtxs|user|userFills|userEvents)"'
    rb',\s*"data":'
)
NODE_FILLS = re.compile(rb'"block_number":\s*\d+,\s*"events":\s*\[')


class _Envelope(msgspec.Struct):
    channel: str = ""
    data: msgspec.Raw = msgspec.Raw()


class _Level(msgspec.Struct):
    px: str
    sz: str


class _Book(msgspec.Struct):
    coin: str
    time: int
    levels: tuple[list[_Level], list[_Level]]


class _Quote(msgspec.Struct):
    coin: str
    time: int
    bbo: list[_Level | None]


class _Trade(msgspec.Struct):
    coin: str
    px: str
    sz: str
    side: str
    time: int
    tid: Int64


class _Context(msgspec.Struct):
    markPx: str = ""
    oraclePx: str = ""
    funding: str = ""
    openInterest: str = ""


class _CoinContext(msgspec.Struct):
    coin: str
    ctx: _Context


class _AllContexts(msgspec.Struct):
    ctxs: list[tuple[str, list[_Context]]]


class _Liquidation(msgspec.Struct):
    liquidatedUser: str = ""
    method: str = ""


class _Fill(_Trade):
    crossed: bool
    dir: str = ""
    liquidation: _Liquidation | None = None


class _Fills(msgspec.Struct):
    fills: list[_Fill] = []


class _Block(msgspec.Struct):
    block_number: Int64
    events: list[tuple[str, _Fill]]
    local_time: str = ""


_decode = msgspec.json.Decoder(_Envelope).decode
_decode_book = msgspec.json.Decoder(_Book).decode
_decode_quote = msgspec.json.Decoder(_Quote).decode
_decode_trades = msgspec.json.Decoder(list[_Trade]).decode
_decode_context = msgspec.json.Decoder(_CoinContext).decode
_decode_contexts = msgspec.json.Decoder(_AllContexts).decode
_decode_fills = msgspec.json.Decoder(_Fills).decode
_decode_block = msgspec.json.Decoder(_Block).decode


def sniff(head: Head) -> TapeFile | None:
    """Return a capture of the venue's websocket."""
    return sniff_capture(head, OURS, FORMAT)


def read(files: Sequence[TapeFile], instruments: Instruments, findings: Findings) -> Iterator[Records]:
    """Yield the rows of captures."""
    return _Reader(instruments, findings).read(files)


def sniff_fills(head: Head) -> TapeFile | None:
    """Return a recording of `node_fills_by_block`."""
    return sniff_capture(head, NODE_FILLS, FILLS_FORMAT)


def read_fills(files: Sequence[TapeFile], instruments: Instruments, findings: Findings) -> Iterator[Records]:
    """Yield the rows of recordings of node fills."""
    return _FillReader(instruments, findings).read(files)


class _TradeReader(MessageReader):
    def add_trade(self, message: Message, ts_ns: int, trade: _Trade, flags: int = 0) -> None:
        """Add a trade; `ts_ns` 0: it arrived when the message did."""
        if (instrument := self.find(EXCHANGE, trade.coin)) is None:
            return
        side, stamp = count_side(trade.side), count_ms("time", trade.time)
        price, qty = self._count(instrument, trade)
        if not ts_ns:
            ts_ns = self.begin(message, stamp)
        self.rows.add(ROW_TRADE, instrument.index, ts_ns, stamp, side, price, qty, trade.tid, flags)

    def add_liquidation(self, message: Message, ts_ns: int, fill: _Fill, side: int) -> None:
        """Add the liquidation order a fill is of."""
        if (instrument := self.find(EXCHANGE, fill.coin)) is None:
            return
        stamp = count_ms("time", fill.time)
        price, qty = self._count(instrument, fill)
        if not ts_ns:
            ts_ns = self.begin(message, stamp)
        self.rows.add(ROW_LIQUIDATION, instrument.index, ts_ns, stamp, side, price, qty, fill.tid)

    def _count(self, instrument: Instrument, trade: _Trade) -> tuple[int, int]:
        price = convert("px", instrument.prices.__getitem__, trade.px)
        return price, convert("sz", instrument.trades.__getitem__, trade.sz)


class _Reader(_TradeReader):
    def __init__(self, instruments: Instruments, findings: Findings) -> None:
        super().__init__(instruments, findings)
        self._books: dict[int, list[Level]] = {}
        self._last_ms: dict[str, int] = {}  # coin -> the last trade's stamp; missing: none was told yet

    def tell(self, message: Message) -> None:
        """Add the rows of one message."""
        found = _decode(message.text)
        if found.channel == "l2Book":
            self._tell_book(message, found)
        elif found.channel == "trades":
            self._tell_trades(message, _decode_trades(found.data))
        elif found.channel == "bbo":
            self._tell_quote(message, found)
        elif found.channel in ("activeAssetCtx", "activeSpotAssetCtx"):
            context = _decode_context(found.data)
            self._tell_context(message, context.coin, context.ctx)
        elif found.channel == "allDexsAssetCtxs":
            # They name no coin, only its place in the list of a builder's (or, unnamed, the venue's own) market.
            for dex, contexts in _decode_contexts(found.data).ctxs:
                named = ((f"{dex}[{at}]", context) for at, context in enumerate(contexts))
                self.each(message, named, lambda item: self._tell_context(message, *item))
        elif found.channel in ("user", "userFills", "userEvents"):
            self.each(message, _decode_fills(found.data).fills, lambda fill: self._tell_own_fill(message, fill))
        else:
            self.count(EXCHANGE, "other")

    def _tell_book(self, message: Message, found: _Envelope) -> None:
        book = _decode_book(found.data)
        self.count(EXCHANGE, "book")
        if (instrument := self.find(EXCHANGE, book.coin)) is None:
            return
        bids, asks = ([(level.px, level.sz) for level in side] for side in book.levels)
        levels, stamp = count_levels(instrument, bids, asks), count_ms("time", book.time)
        self.findings.counts["duplicate_books"] += self._books.get(instrument.index) == levels
        self._books[instrument.index] = levels
        self.add_book(message, instrument, stamp, levels, True)

    def _tell_quote(self, message: Message, found: _Envelope) -> None:
        quote = _decode_quote(found.data)
        self.count(EXCHANGE, "quotes")
        if (instrument := self.find(EXCHANGE, quote.coin)) is None:
            return
        sides = [[(level.px, level.sz)] if level else [] for level in [*quote.bbo, None, None][:2]]
        levels = count_levels(instrument, *sides)
        told = {side for side, _, _ in levels}
        levels += [(side, 0, 0) for side in (1, -1) if side not in told]
        self.add_quote(message, instrument, count_ms("time", quote.time), levels)

    def _tell_trades(self, message: Message, trades: Sequence[_Trade]) -> None:
        """Tell trades; what a subscription begins with, or repeats, is what went before it (FEED-036)."""
        first = {trade.coin for trade in trades} - self._last_ms.keys()

        def tell(trade: _Trade) -> None:
            if trade.coin in first or trade.time < self._last_ms[trade.coin]:
                self.count(EXCHANGE, "earlier trades")
                return
            self._last_ms[trade.coin] = trade.time
            self.count(EXCHANGE, "trades")
            self.add_trade(message, 0, trade)

        self.each(message, trades, tell)
        for trade in trades:
            self._last_ms[trade.coin] = max(self._last_ms.get(trade.coin, 0), trade.time)

    def _tell_context(self, message: Message, coin: str, context: _Context) -> None:
        """Tell a coin's ticker; funding is paid every hour, at the full hour (FEED-037)."""
        self.count(EXCHANGE, "ticker")
        if (instrument := self.find(EXCHANGE, coin)) is None:
            return
        self.add_ticker(
            message,
            instrument,
            0,
            due_ns=(message.ts_ns // HOUR_NS + 1) * HOUR_NS if message.ts_ns and context.funding else 0,
            rate=context.funding,
            interest=context.openInterest,
            index=context.oraclePx,
            mark=context.markPx,
        )

    def _tell_own_fill(self, message: Message, fill: _Fill) -> None:
        """Tell the liquidation a user's fill is of (FEED-037)."""
        # a user's own fills; the public trades have them too, but not which of them were liquidations
        self.count(EXCHANGE, "own fills")
        if fill.liquidation is not None:
            side = count_side(fill.side)
            self.add_liquidation(message, 0, fill, side if fill.crossed else -side)


class _FillReader(_TradeReader):
    """Fills of nodes, both sides of every trade in its block; a trade is one row, told by its taker (FEED-038)."""

    def __init__(self, instruments: Instruments, findings: Findings) -> None:
        super().__init__(instruments, findings)
        self._last = 0

    def tell(self, message: Message) -> None:
        """Add the trades of one block."""
        block = _decode_block(message.text)
        self.count(EXCHANGE, "blocks")
        if self._last and block.block_number != self._last + 1:
            self._report_block(message, block.block_number)
        self._last = block.block_number
        arrived = convert("local_time", count_stamp_text, block.local_time) if block.local_time else 0
        sides: dict[int, list[tuple[str, _Fill]]] = {}
        for event in block.events:
            sides.setdefault(event[1].tid, []).append(event)
        ts_ns = self.begin(message._replace(ts_ns=arrived), arrived) if arrived else 0
        self.each(message, sides.values(), lambda both: self._tell_trade(message, ts_ns, both))

    def _report_block(self, message: Message, number: int) -> None:
        expected = f"expected block {self._last + 1}, got {number}, fills were lost"
        self.findings.report("gaps", DataError(message.path, message.line, "block_number", expected))

    def _tell_trade(self, message: Message, ts_ns: int, both: Sequence[tuple[str, _Fill]]) -> None:
        self.count(EXCHANGE, "trades")
        takers = [fill for _, fill in both if fill.crossed]
        if len(both) != 2 or len(takers) != 1:
            raise FieldError("tid", f"expected a maker's and a taker's fill of trade {both[0][1].tid}", "unpaired")
        taker = takers[0]
        found = taker.liquidation
        is_off = "Auto-Deleveraging" in taker.dir or (found is not None and found.method == "backstop")
        self.add_trade(message, ts_ns, taker, OFF_MARKET if is_off else 0)
        if found is not None:
            owned = [fill for account, fill in both if account == found.liquidatedUser]
            self.add_liquidation(message, ts_ns, taker, count_side((owned or takers)[0].side))


FORMAT = Format("hyperliquid", sniff, read)
FILLS_FORMAT = Format("hyperliquid-node-fills", sniff_fills, read_fills)
