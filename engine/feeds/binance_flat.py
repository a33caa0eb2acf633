"""Binance's streams as flat CSV rows, a trade or a level each, as the Binance Data Processor writes them (FEED-027).

Trades, depth updates (consecutive rows of equal update ids), depth snapshots, and files in which these stand merged,
below comment lines or not.  Such files pass through many hands, so every row is held against rules that a recording
cannot break; a row that breaks one is left out, naming line and field.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from engine.codes import OFF_MARKET, ROW_TRADE
from engine.errors import DataError
from engine.feeds.binance import BLOCK_ROWS, DELIVERY, FUTURES, INVERSE, ON_BOOK, RANK, SPOT, is_zero, read_count
from engine.feeds.binance_book import DepthBook, Level, Update, count_id, count_ns, merge_by_time
from engine.feeds.columns import FieldError, read_columns
from engine.feeds.instruments import Findings, Instrument, Instruments
from engine.feeds.tape import Format, Head, Records, RowBuilder, TapeFile, read_head

NAME = re.compile(
    r".*?(?P<market>spot|usd_m_futures|coin_m_futures)_(?P<symbol>\w+?)_(?P<day>\d\d-\d\d-\d{4})(?!\d).*", re.IGNORECASE
)
COMMENT = re.compile(
    r"#[# ]*\w+ (?P<market>SPOT|USD_M_FUTURES|COIN_M_FUTURES) (?P<symbol>\w+) (?P<day>\d\d-\d\d-\d{4})\s*"
)
MARKETS = {"SPOT": SPOT, "USD_M_FUTURES": FUTURES, "COIN_M_FUTURES": DELIVERY}

DAY_NS = 86_400_000_000_000
NEAR_NS = 60_000_000_000  # clocks and networks: what is further apart was not sent when it says
FACTOR = 2  # a trade further than that from the one before it is a wrong number

TRADES, UPDATES, FETCHED, FINAL = "TRADE_STREAM", "DIFFERENCE_DEPTH_STREAM", "DEPTH_SNAPSHOT", "FINAL_DEPTH_SNAPSHOT"
EVENTS = {TRADES: "trade", UPDATES: "depthUpdate", FINAL: "depthUpdate"}
# What a row of each stream must have, and beside it outside spot.
NEEDED: dict[str, tuple[str, ...]] = {
    TRADES: (
        *("TimestampOfReceive", "Stream", "EventType", "EventTime", "TransactionTime", "Symbol"),
        *("TradeId", "Price", "Quantity", "IsBuyerMarketMaker"),
    ),
    UPDATES: (
        *("TimestampOfReceive", "Stream", "EventType", "EventTime", "Symbol"),
        *("FirstUpdateId", "FinalUpdateId", "IsAsk", "Price", "Quantity"),
    ),
    FETCHED: ("TimestampOfReceive", "TimestampOfRequest", "LastUpdateId", "IsAsk", "Price", "Quantity"),
}
NEEDED[FINAL] = NEEDED[UPDATES]
CHAINED = ("TransactionTime", "FinalUpdateIdInLastStream")
FLAGS = {"0": 1, "1": -1}  # IsAsk, IsBuyerMarketMaker

Row = Mapping[str, str]


class Origin(NamedTuple):
    """What a file is of."""

    exchange: str
    symbol: str
    day_ns: int  # when its day begins


class Message(NamedTuple):
    """Rows that belong together: a trade, an update or a snapshot."""

    ts_ns: int
    exchange_ns: int
    stream: str
    first_line: int
    last_line: int
    ids: tuple[int, int, int | None]  # U, u, pu of an update; the last id of a snapshot in each
    levels: list[Level]
    trade: tuple[int, int, int, int, int]  # side, price, quantity, id, flags

    @property
    def lines(self) -> str:
        """Where it stands."""
        if self.first_line == self.last_line:
            return f"line {self.first_line}"
        return f"lines {self.first_line} to {self.last_line}"


NO_TRADE = (0, 0, 0, 0, 0)


# ---------------------------------------------------------------- what a file is


def sniff(head: Head) -> TapeFile | None:
    """Return what a file is by its header and first row, or None where the header is not of this kind.

    Raises
    ------
    DataError
        If it does not say which market it is of, or has no rows.
    """
    found = _split_head(head)
    if found is None:
        return None
    at, columns, row = found
    origin = _identify(head, at, row)
    text = row.get("TimestampOfReceiveUS") or row["TimestampOfReceive"]
    try:
        first_ns = count_ns(text)
    except ValueError as error:
        raise DataError(head.path, at + 2, "TimestampOfReceive", str(error)) from error
    return TapeFile(head.path, FORMAT, "flat", origin.exchange, origin.symbol, first_ns, RANK, columns)


def _split_head(head: Head) -> tuple[int, tuple[str, ...], Row] | None:
    """Return the lines before the header, the header and the first row."""
    if not head.data.startswith((b"#", b"TimestampOfReceive")):
        return None
    lines = head.lines
    at = next((place for place, line in enumerate(lines) if not line.startswith("#")), len(lines))
    columns = tuple(lines[at].split(",")) if at < len(lines) else ()
    if columns[:1] not in (("TimestampOfReceive",), ("TimestampOfReceiveUS",)) or "Price" not in columns:
        return None
    if at + 1 >= len(lines):
        raise DataError(head.path, at + 2, None, "expected at least one row below the header")
    row = lines[at + 1].split(",")
    if len(row) != len(columns):
        raise DataError(head.path, at + 2, None, f"expected {len(columns)} fields, got {len(row)}")
    return at, columns, dict(zip(columns, row, strict=True))


def _identify(head: Head, at: int, row: Row) -> Origin:
    match = NAME.fullmatch(head.path.name)
    for line in head.lines[:at]:
        match = match or COMMENT.fullmatch(line)
    symbol = match["symbol"].upper() if match else row.get("Symbol", "")
    market = match["market"].upper() if match else row.get("Market", "")
    exchange = MARKETS.get(market, "") or _guess_exchange(row, symbol)
    if not exchange or not symbol:
        expected = "expected the market and symbol in the file's name, as spot_btcusdt_14-04-2025, or in its rows"
        raise DataError(head.path, at + 1, None, expected)
    try:
        if match:
            day = datetime.strptime(match["day"], "%d-%m-%Y").replace(tzinfo=UTC)
            return Origin(exchange, symbol, int(day.timestamp()) * 1_000_000_000)
        return Origin(exchange, symbol, count_ns(row["TimestampOfReceive"]) // DAY_NS * DAY_NS)
    except ValueError as error:
        raise DataError(head.path, at + 1, None, f"expected a day and stamps of it: {error}") from error


def _guess_exchange(row: Row, symbol: str) -> str:
    if INVERSE.fullmatch(symbol):
        return DELIVERY
    if "FinalUpdateIdInLastStream" in row or "XUnknownParameter" in row:
        return FUTURES
    return SPOT if "MUnknownParameter" in row or "FinalUpdateId" in row else ""


# ---------------------------------------------------------------- rows


def read(files: Sequence[TapeFile], instruments: Instruments, findings: Findings) -> Iterator[Records]:
    """Yield the rows of files of one market that follow, or lie beside, each other."""
    instrument = instruments.find(files[0].exchange, files[0].symbol)
    if instrument is None:
        findings.counts["unused"] += len(files)
        return
    rows = RowBuilder(findings)
    book = DepthBook(instrument.index, rows, findings)
    checks = Checks(instrument)
    opened = merge_by_time(files, lambda file: read_messages(file, checks, findings))
    for file, message in opened:
        ts_ns = rows.begin(file.path, message.first_line, message.ts_ns, "TimestampOfReceive")
        if message.stream == TRADES:
            side, price, qty, number, flags = message.trade
            rows.add(ROW_TRADE, instrument.index, ts_ns, message.exchange_ns, side, price, qty, number, flags)
        elif message.stream == UPDATES:
            fields = ("FirstUpdateId", "FinalUpdateIdInLastStream")
            update = Update.build(message.ids, message.levels, message.lines, fields)
            book.tell_update(update, file.path, message.first_line, ts_ns, message.exchange_ns)
        else:
            book.tell_snapshot(
                message.ids[1], message.levels, message.lines, file.path, message.first_line, ts_ns, message.exchange_ns
            )
        if len(rows) >= BLOCK_ROWS:
            yield rows.build()
    yield rows.build()


def read_messages(file: TapeFile, checks: "Checks", findings: Findings) -> Iterator[Message]:
    """Yield the messages of a file; rows that break a rule are left out."""
    head = read_head(file.path)
    found = _split_head(head)
    if found is None:
        raise DataError(file.path, 1, None, "expected the header it had")
    at, columns, row = found
    origin = _identify(head, at, row)
    only = TRADES if "TradeId" in columns else UPDATES if "FinalUpdateId" in columns else FETCHED
    waiting: Message | None = None
    has_ended = False
    for block in read_columns(file.path, columns, findings, header_lines=at + 1):
        for number, texts in enumerate(zip(*(block.texts(name) for name in columns), strict=True), block.first_line):
            row = dict(zip(columns, texts, strict=True))
            stream = row.get("StreamType") or only
            findings.rows[stream.lower()] += 1
            try:
                message = checks.parse(stream, row, number, origin)
            except FieldError as error:
                findings.drop(error.reason, DataError(file.path, number, error.field, str(error)))
                continue
            if message is None:
                continue
            if waiting is not None and _is_one(waiting, message):
                if has_ended:
                    expected = "expected 0, rows of the same message follow"
                    findings.report("early_ends", DataError(file.path, waiting.last_line, "IsLast", expected))
                waiting.levels.extend(message.levels)
                last = max(waiting.ids[1], message.ids[1])
                waiting = waiting._replace(last_line=number, ids=(waiting.ids[0], last, waiting.ids[2]))
            else:
                if waiting is not None:
                    yield waiting
                waiting = message
            has_ended = row.get("IsLast") == "1"
    if waiting is not None:
        yield waiting


def _is_one(before: Message, after: Message) -> bool:
    if before.stream != after.stream or before.stream == TRADES:
        return False
    # The end of a day's book names, level by level, the update that set it.
    return before.stream == FINAL or before.ids == after.ids


class Checks:
    """The rules a row must keep, and what they need of the rows before it (FEED-027)."""

    def __init__(self, instrument: Instrument) -> None:
        self.instrument = instrument
        self._trade = 0  # id of the last good one
        self._price = self._odd_price = 0  # of the last good trade, of the last refused

    def parse(self, stream: str, row: Row, number: int, origin: Origin) -> Message | None:
        """Return a row as a message of one level or trade, or None where it says nothing.

        Raises
        ------
        FieldError
            Naming the field that breaks a rule.
        """
        if stream not in NEEDED:
            raise FieldError("StreamType", f"expected {' or '.join(NEEDED)}, got {stream!r}", "stream")
        needed = NEEDED[stream]
        if origin.exchange != SPOT and stream in (UPDATES, FINAL):
            needed += CHAINED
        for name in needed:
            if not row.get(name):
                raise FieldError(name, "expected a value, it is empty", "empty field")
        self._check_names(stream, row, origin)
        ts_ns, exchange_ns = _read_stamps(stream, row, origin)
        if stream == TRADES:
            trade = self._read_trade(row)
            return Message(ts_ns, exchange_ns, stream, number, number, (0, 0, 0), [], trade) if trade else None
        ids = _read_ids(stream, row)
        side = _choose(row, "IsAsk")
        price = read_count("Price", self.instrument.levels, row["Price"])
        level = (side, price, read_count("Quantity", self.instrument.totals, row["Quantity"]))
        return Message(ts_ns, exchange_ns, stream, number, number, ids, [level], NO_TRADE)

    @staticmethod
    def _check_names(stream: str, row: Row, origin: Origin) -> None:
        symbol = row.get("Symbol") or origin.symbol
        if symbol != origin.symbol:
            raise FieldError("Symbol", f"expected {origin.symbol}, got {symbol!r}", "symbol")
        if row.get("Market") and MARKETS.get(row["Market"]) != origin.exchange:
            raise FieldError("Market", f"expected that of {origin.exchange}, got {row['Market']!r}", "symbol")
        if stream not in EVENTS:
            return
        if row["EventType"] != EVENTS[stream]:
            raise FieldError("EventType", f"expected {EVENTS[stream]}, got {row['EventType']!r}", "event")
        if row["Stream"].partition("@")[0] != symbol.lower():
            raise FieldError("Stream", f"expected one of {symbol}, got {row['Stream']!r}", "symbol")

    def _read_trade(self, row: Row) -> tuple[int, int, int, int, int] | None:
        number = _read_id(row, "TradeId")
        if number <= self._trade:
            reason = "duplicate id" if number == self._trade else "bad id"
            raise FieldError("TradeId", f"expected more than {self._trade}, got {number}", reason)
        side = _choose(row, "IsBuyerMarketMaker")
        venue = row.get("XUnknownParameter", ON_BOOK)
        if venue != ON_BOOK and is_zero(row["Price"]) and is_zero(row["Quantity"]):
            self._trade = number
            return None  # closed outside the book, at no price
        if not venue:
            raise FieldError("XUnknownParameter", "expected a value, it is empty", "empty field")
        price = read_count("Price", self.instrument.prices, row["Price"])
        qty = read_count("Quantity", self.instrument.trades, row["Quantity"])
        if venue == ON_BOOK:
            self._check_price(price)
        self._trade = number
        return side, price, qty, number, 0 if venue == ON_BOOK else OFF_MARKET

    def _check_price(self, price: int) -> None:
        last = self._price
        is_far = bool(last) and not last <= FACTOR * price <= FACTOR * FACTOR * last
        if is_far and not self._odd_price <= FACTOR * price <= FACTOR * FACTOR * self._odd_price:
            self._odd_price = price
            tick = self.instrument.tick
            expected = f"expected {last * tick / FACTOR} to {last * tick * FACTOR}, got {price * tick}"
            raise FieldError("Price", expected, "far price")
        # Two that are far off agree: the market went there.
        self._price, self._odd_price = price, 0


def _read_stamps(stream: str, row: Row, origin: Origin) -> tuple[int, int]:
    """Return when a row arrived and when the venue sent it."""
    arrived = _read_stamp(row, "TimestampOfReceive")
    _check_day("TimestampOfReceive", arrived, origin)
    merged = _read_stamp(row, "TimestampOfReceiveUS") if row.get("TimestampOfReceiveUS") else arrived
    if merged < arrived:
        raise FieldError("TimestampOfReceiveUS", f"expected {arrived} ns or later, got {merged} ns", "stamp")
    _check_day("TimestampOfReceiveUS", merged, origin)
    near = "TimestampOfRequest" if stream == FETCHED else "EventTime"
    sent = _read_stamp(row, near)
    if stream != FINAL:
        if abs(sent - arrived) > NEAR_NS:
            raise FieldError(near, f"expected a minute around {arrived} ns at most, got {sent} ns", "stamp")
        if row.get("TransactionTime"):
            _check_day("TransactionTime", _read_stamp(row, "TransactionTime"), origin)
        return merged, 0 if stream == FETCHED else sent
    return merged, 0


def _read_stamp(row: Row, name: str) -> int:
    try:
        return count_ns(row[name])
    except ValueError as error:
        raise FieldError(name, str(error), "stamp") from error


def _check_day(name: str, stamp_ns: int, origin: Origin) -> None:
    if not origin.day_ns - NEAR_NS <= stamp_ns < origin.day_ns + DAY_NS + NEAR_NS:
        day = datetime.fromtimestamp(origin.day_ns / 1e9, UTC).date()
        raise FieldError(name, f"expected a stamp of {day}, got {stamp_ns} ns", "stamp")


def _read_ids(stream: str, row: Row) -> tuple[int, int, int | None]:
    if stream == FETCHED:
        last = _read_id(row, "LastUpdateId")
        return last, last, last
    first, last = _read_id(row, "FirstUpdateId"), _read_id(row, "FinalUpdateId")
    if last < first:
        raise FieldError("FinalUpdateId", f"expected {first} or more, got {last}", "bad id")
    return first, last, _read_id(row, CHAINED[1]) if row.get(CHAINED[1]) else None


def _read_id(row: Row, name: str) -> int:
    try:
        return count_id(row[name])
    except ValueError as error:
        raise FieldError(name, str(error), "bad id") from error


def _choose(row: Row, name: str) -> int:
    if row[name] not in FLAGS:
        raise FieldError(name, f"expected 0 or 1, got {row[name]!r}", "bad side")
    return FLAGS[row[name]]


FORMAT = Format("binance-flat", sniff, read)
