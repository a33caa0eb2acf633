"""The files of Binance's public archive (data.binance.vision), with a header line or without (FEED-025, FEED-026).

A file is what its name says, `BTCUSDT-trades-2024-08-01.zip`: its rows name neither symbol nor day.  Candles are told
apart by the folder the archive keeps them in (markPriceKlines, indexPriceKlines); others are no recording of ours.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np

from engine.codes import ROW_INDEX, ROW_INTEREST, ROW_LIQUIDATION, ROW_MARK, ROW_QUOTE, ROW_TRADE
from engine.errors import DataError
from engine.feeds.binance import DELIVERY, FUTURES, INVERSE, SIDES, SPOT, is_zero
from engine.feeds.binance_book import STAMP_UNITS, count_id, count_ns
from engine.feeds.block import STAMP_MAX, Block, FieldError, Ints, count_stamps
from engine.feeds.columns import convert_block, read_columns
from engine.feeds.instruments import Findings, Instrument, Instruments, count_interest
from engine.feeds.tape import Format, Head, Records, TapeFile, open_bytes
from engine.layout import RECORD

NAME = re.compile(
    r"(?P<symbol>[A-Z0-9_]+)-(?P<kind>[A-Za-z]+|\d+[smhdwo]+)-(?P<day>\d{4}-\d\d(?:-\d\d)?)\.(?:csv|zip)(?:\.gz)?"
)
SLACK_NS = 60_000_000_000  # that a stamp may lie outside the days of its file
SPOT_MORE = "is_best_match"  # the column that spot's trades have beside the others'

SCHEMAS: dict[str, tuple[str, ...]] = {
    "trades": ("id", "price", "qty", "quote_qty", "time", "is_buyer_maker"),
    "aggTrades": (
        *("agg_trade_id", "price", "quantity", "first_trade_id", "last_trade_id"),
        *("transact_time", "is_buyer_maker"),
    ),
    "liquidationSnapshot": (
        *("time", "side", "order_type", "time_in_force", "original_quantity", "price", "average_price"),
        *("order_status", "last_fill_quantity", "accumulated_fill_quantity"),
    ),
    "bookTicker": (
        *("update_id", "best_bid_price", "best_bid_qty", "best_ask_price", "best_ask_qty"),
        *("transaction_time", "event_time"),
    ),
    "bookDepth": ("timestamp", "percentage", "depth", "notional"),
    "metrics": (
        *("create_time", "symbol", "sum_open_interest", "sum_open_interest_value"),
        *("count_toptrader_long_short_ratio", "sum_toptrader_long_short_ratio", "count_long_short_ratio"),
        "sum_taker_long_short_vol_ratio",
    ),
    "indexPriceKlines": (
        *("open_time", "open", "high", "low", "close", "volume", "close_time", "quote_volume", "count"),
        *("taker_buy_volume", "taker_buy_quote_volume", "ignore"),
    ),
}
SCHEMAS["markPriceKlines"] = SCHEMAS["indexPriceKlines"]
RANKS = {kind: rank for rank, kind in enumerate(SCHEMAS)}
# Where a row's own time stands, and what a header must name at its place; other names vary from market to market.
STAMPS = {
    "trades": "time",
    "aggTrades": "transact_time",
    "liquidationSnapshot": "time",
    "bookTicker": "event_time",
    "bookDepth": "timestamp",
    "metrics": "create_time",
    "indexPriceKlines": "close_time",
    "markPriceKlines": "close_time",
}
SMALL = ("liquidationSnapshot", "metrics")  # read whole: their rows come in any order, or twice
IS_BUYER_MAKER = {"true": -1, "false": 1, "True": -1, "False": 1}


# ---------------------------------------------------------------- what a file is


def sniff(head: Head) -> TapeFile | None:
    """Return what a file is by its name, or None where the name is not the archive's.

    Raises
    ------
    DataError
        If its columns or its first row are not what its name says.
    """
    path = head.path
    match = NAME.fullmatch(path.name) or NAME.fullmatch(head.member)
    kind = _find_kind(match["kind"], path.parts) if match else ""
    if not match or not kind:
        return None
    lines = head.lines
    first = 1 if lines and not lines[0][:1].isdigit() else 0
    if len(lines) <= first:
        raise DataError(path, first + 1, None, "expected at least one row")
    columns = SCHEMAS[kind]
    fields = lines[first].split(",")
    is_spot = kind in ("trades", "aggTrades") and len(fields) == len(columns) + 1
    if is_spot:
        columns += (SPOT_MORE,)
    if len(fields) != len(columns):
        raise DataError(path, first + 1, None, f"expected {len(columns)} fields of {kind}, got {len(fields)}")
    stamp = STAMPS[kind]
    if first:
        names = [name.replace("_", "").lower() for name in lines[0].split(",")]
        at = columns.index(stamp)
        if len(names) != len(columns) or (not names[at].endswith("time") and names[at] != stamp):
            raise DataError(path, 1, stamp, f"expected the columns {','.join(columns)} of {kind}")
    try:
        first_ns = _count_ns(fields[columns.index(stamp)])
    except ValueError as error:
        raise DataError(path, first + 1, stamp, str(error)) from error
    symbol = match["symbol"]
    exchange = SPOT if is_spot else DELIVERY if INVERSE.fullmatch(symbol) else FUTURES
    return TapeFile(path, FORMAT, kind, exchange, symbol, first_ns, RANKS[kind], columns)


def _find_kind(name: str, folders: Sequence[str]) -> str:
    if name[0].isdigit():
        return next((kind for kind in ("markPriceKlines", "indexPriceKlines") if kind in folders), "")
    return name if name in SCHEMAS and not name.endswith("Klines") else ""


def _count_ns(text: str) -> int:
    """Return a stamp in ns: a number of ms or us, or `2024-08-01 00:05:00`."""
    if "-" not in text:
        return count_ns(text)
    stamp = datetime.strptime(text, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    found = int(stamp.timestamp()) * 1_000_000_000
    if not 0 <= found <= STAMP_MAX:
        raise ValueError(f"expected a stamp since 1970, got {text!r}")
    return found


class Span(NamedTuple):
    """The days of a file."""

    name: str
    first_ns: int
    end_ns: int

    @classmethod
    def parse(cls, name: str) -> "Span":
        """Return that of a file's name, `...-2024-08-01.zip` or `...-2024-08.zip`."""
        match = NAME.fullmatch(name)
        if match is None:
            return cls("any day", 0, 1 << 62)
        day = match["day"]
        parts = [int(part) for part in day.split("-")]
        first = datetime(parts[0], parts[1], parts[2] if len(parts) > 2 else 1, tzinfo=UTC)
        if len(parts) > 2:
            seconds = 86_400
        else:
            year, month = divmod(parts[0] * 12 + parts[1], 12)
            seconds = int(datetime(year, month + 1, 1, tzinfo=UTC).timestamp() - first.timestamp())
        first_ns = int(first.timestamp()) * 1_000_000_000
        return cls(day, first_ns - SLACK_NS, first_ns + seconds * 1_000_000_000 + SLACK_NS)


# ---------------------------------------------------------------- rows


def read(files: Sequence[TapeFile], instruments: Instruments, findings: Findings) -> Iterator[Records]:
    """Yield the rows of files of one kind and market that follow each other in time."""
    instrument = instruments.find(files[0].exchange, files[0].symbol)
    if instrument is None:
        findings.counts["unused"] += len(files)
        return
    order = _Order(findings)
    for file in files:
        span = Span.parse(file.path.name)
        convert = _bind(file.kind, instrument, span)
        with_header = not _starts_with_row(file)
        blocks = read_columns(file.path, file.columns, findings, header_lines=1 if with_header else 0)
        if file.kind in SMALL:
            blocks = _read_whole(file, blocks, findings)
        for whole in blocks:
            for block, rows in convert_block(file.path, whole, convert, findings):
                findings.rows[file.kind] += len(block)
                yield order.settle(file, block, rows)


def _starts_with_row(file: TapeFile) -> bool:
    with open_bytes(file.path) as stream:
        return stream.read(1).isdigit()


def _read_whole(file: TapeFile, blocks: Iterator[Block], findings: Findings) -> Iterator[Block]:
    """Yield the rows of a small file one by one in order of time, without those that stand there twice."""
    stamp = STAMPS[file.kind]
    seen: set[tuple[str, ...]] = set()
    found: list[tuple[int, int, Block]] = []
    for block in blocks:
        for at, row in enumerate(zip(*(block.texts(name) for name in file.columns), strict=True)):
            if file.kind == "liquidationSnapshot" and row in seen:
                # The archive holds every liquidation twice; that is known, and no fault of the file (FEED-026).
                findings.dropped["duplicate row"] += 1
                findings.rows[file.kind] += 1
                continue
            seen.add(row)
            try:
                time_ns = _count_ns(row[file.columns.index(stamp)])
            except ValueError:
                time_ns = found[-1][0] if found else 0  # it is refused where rows are read
            found.append((time_ns, block.first_line + at, block.take(at, at + 1)))
    for _, _, row_block in sorted(found, key=lambda item: item[:2]):
        yield row_block


class _Order:
    """Rows of one stream in order of time and of their ids; keeps the last of each."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._last_ns = self._last_id = 0

    def settle(self, file: TapeFile, block: Block, rows: Records) -> Records:
        """Return the rows without repeated trades, no stamp before the one before it; reports both."""
        if not len(rows):
            return rows
        if rows["kind"][0] == ROW_TRADE:
            ids = rows["id"]
            latest = np.maximum.accumulate(np.concatenate([[self._last_id], ids]))[:-1]
            for at in np.flatnonzero(ids <= latest).tolist():
                reason = "duplicate id" if ids[at] == latest[at] else "bad id"
                expected = f"expected more than {latest[at]}, got {ids[at]}"
                error = DataError(file.path, block.first_line + at, file.columns[0], expected)
                self._findings.drop(reason, error)
            self._last_id = max(self._last_id, int(ids.max()))
            kept = ids > latest
            lines = np.flatnonzero(kept)
            rows = rows[kept]
            if not len(rows):
                return rows
        else:
            lines = np.arange(len(rows)) * len(block) // len(rows)
        stamps = rows["ts_ns"].copy()
        before = np.maximum.accumulate(np.concatenate([[self._last_ns], stamps]))
        fallen = np.flatnonzero(stamps < before[:-1])
        for line in dict.fromkeys(lines[fallen].tolist()):
            at = int(fallen[np.flatnonzero(lines[fallen] == line)[0]])
            expected = f"expected {before[at]} ns or later, got {stamps[at]} ns"
            error = DataError(file.path, block.first_line + line, STAMPS[file.kind], expected)
            self._findings.report("reversed_local", error)
        rows["ts_ns"] = before[1:]
        self._last_ns = int(before[-1])
        return rows


def _bind(kind: str, instrument: Instrument, span: Span) -> Callable[[Block], Records]:
    return lambda block: CONVERTERS[kind](block, kind, instrument, span)


def _begin(row_kind: int, block: Block, kind: str, instrument: Instrument, span: Span) -> Records:
    rows = np.zeros(len(block), RECORD)
    stamps = _read_stamps(block, STAMPS[kind])
    outside = np.flatnonzero((stamps < span.first_ns) | (stamps >= span.end_ns))
    if len(outside):
        expected = f"expected a stamp of {span.name}, got {block.texts(STAMPS[kind])[int(outside[0])]}"
        raise FieldError(STAMPS[kind], expected, "stamp")
    rows["ts_ns"] = rows["exchange_ns"] = stamps
    rows["kind"], rows["market"] = row_kind, instrument.index
    return rows


def _read_stamps(block: Block, name: str) -> Ints:
    texts = block.texts(name)
    per_unit = STAMP_UNITS.get(len(texts[0]), 0)
    if per_unit and len(set(map(len, texts))) == 1:
        try:
            return count_stamps(texts, per_unit) * per_unit
        except ValueError:
            pass  # read one by one, whichever it is gets named
    return np.array(block.map(name, _count_ns), dtype=np.int64)


def _convert_trades(block: Block, kind: str, instrument: Instrument, span: Span) -> Records:
    rows = _begin(ROW_TRADE, block, kind, instrument, span)
    number, _, qty = SCHEMAS[kind][:3]
    rows["id"] = block.map(number, count_id)
    rows["price"] = block.count("price", instrument.prices)
    rows["qty"] = block.count(qty, instrument.trades)
    rows["side"] = block.choose("is_buyer_maker", IS_BUYER_MAKER)
    return rows


def _convert_quotes(block: Block, kind: str, instrument: Instrument, span: Span) -> Records:
    """Return two rows per line, bid then ask; a side that is empty has price and quantity 0."""
    rows = np.repeat(_begin(ROW_QUOTE, block, kind, instrument, span), 2)
    rows["id"] = np.repeat(block.map("update_id", count_id), 2)
    prices = instrument.prices
    for at, (side, name) in enumerate(((1, "bid"), (-1, "ask"))):
        rows["side"][at::2] = side
        rows["price"][at::2] = block.map(f"best_{name}_price", lambda text: 0 if is_zero(text) else prices[text])
        rows["qty"][at::2] = block.count(f"best_{name}_qty", instrument.totals)
    return rows


def _convert_liquidations(block: Block, kind: str, instrument: Instrument, span: Span) -> Records:
    """Return an order's limit price and what of it was filled, as `forceOrder` tells them."""
    rows = _begin(ROW_LIQUIDATION, block, kind, instrument, span)
    rows["side"] = block.choose("side", SIDES)
    rows["price"] = block.count("price", instrument.prices)
    rows["qty"] = block.count("accumulated_fill_quantity", instrument.totals)
    return rows[rows["qty"] > 0]


def _convert_metrics(block: Block, kind: str, instrument: Instrument, span: Span) -> Records:
    rows = _begin(ROW_INTEREST, block, kind, instrument, span)
    symbols = block.unique("symbol")
    if symbols != {instrument.symbol}:
        raise FieldError("symbol", f"expected {instrument.symbol}, got {', '.join(sorted(symbols))}", "symbol")
    rows["qty"] = block.map("sum_open_interest", count_interest)
    return rows


def _convert_candles(block: Block, kind: str, instrument: Instrument, span: Span) -> Records:
    """Return the last price of each candle when it closed: what happened inside it, nobody can know at the time."""
    row_kind = ROW_MARK if kind == "markPriceKlines" else ROW_INDEX
    rows = _begin(row_kind, block, kind, instrument, span)
    rows["price"] = block.map("close", instrument.count_fine)
    return rows


def _convert_bands(block: Block, kind: str, instrument: Instrument, span: Span) -> Records:
    """Return no rows: depth within some percent of the price has no prices and makes no book; it is only counted."""
    _begin(ROW_QUOTE, block, kind, instrument, span)
    block.map("percentage", float)
    block.map("depth", count_interest)
    return np.zeros(0, RECORD)


CONVERTERS: Mapping[str, Callable[[Block, str, Instrument, Span], Records]] = {
    "trades": _convert_trades,
    "aggTrades": _convert_trades,
    "liquidationSnapshot": _convert_liquidations,
    "bookTicker": _convert_quotes,
    "bookDepth": _convert_bands,
    "metrics": _convert_metrics,
    "indexPriceKlines": _convert_candles,
    "markPriceKlines": _convert_candles,
}
FORMAT = Format("binance-vision", sniff, read)
