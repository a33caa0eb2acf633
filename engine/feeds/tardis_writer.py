"""Rows as Tardis CSV: a file per exchange, type, UTC day and symbol (FEED-066).

What the CSV cannot say is counted in `losses`; the sentences are in `LOSSES`.
"""

import gzip
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from engine.codes import (
    ENDS_MESSAGE,
    IN_SNAPSHOT,
    NO_RATE,
    OFF_MARKET,
    ROW_CLEAR,
    ROW_FUNDING,
    ROW_INDEX,
    ROW_INTEREST,
    ROW_LAST,
    ROW_LEVEL,
    ROW_MARK,
    ROW_PREDICTED,
)
from engine.errors import DataError
from engine.feeds.columns import NS_PER_US
from engine.feeds.instruments import CACHE_MAX, Instrument, Instruments
from engine.feeds.parquet import TICKER, TYPES, find_unit
from engine.feeds.tape import Records
from engine.units import format_plain

DAY_NS = 86_400 * 1_000_000_000
WAITING_CHARS = 1 << 18  # of one file, before they are compressed and written
GZIP_LEVEL = 6
COMMON = "exchange,symbol,timestamp,local_timestamp"
HEADERS = {
    "trades": f"{COMMON},id,side,price,amount",
    "liquidations": f"{COMMON},id,side,price,amount",
    "quotes": f"{COMMON},ask_amount,ask_price,bid_price,bid_amount",
    "incremental_book_L2": f"{COMMON},is_snapshot,side,price,amount",
    TICKER: f"{COMMON},funding_timestamp,funding_rate,predicted_funding_rate,open_interest,last_price,index_price,"
    "mark_price",
}
TICKER_PLACES = {ROW_PREDICTED: 2, ROW_INTEREST: 3, ROW_LAST: 4, ROW_INDEX: 5, ROW_MARK: 6}
# By kind: what stands first at equal stamps when the files are read again.
_RANKS = np.zeros(1 + max(max(kinds) for kinds in TYPES.values()), np.int64)
for _rank, _kinds in enumerate(TYPES[_type] for _type in HEADERS):
    _RANKS[list(_kinds)] = _rank
SAID = IN_SNAPSHOT | ENDS_MESSAGE | OFF_MARKET | NO_RATE  # what lines can say, or `LOSSES` does

LOSSES = {
    "nanoseconds": "rows whose stamps are finer than a microsecond: they are cut",
    "venue_stamps": "rows without a stamp of the venue: the one of arrival stands for it",
    "order": "rows that come earlier than the row before them when streams of equal stamps are merged (FEED-001)",
    "messages": "book messages that become one with the message before, which has the same microsecond",
    "snapshots": "snapshots right after a snapshot, or without levels: told as what they change",
    "orders": "rows of single orders: left out, the levels they make are there",
    "ids": "numbers of book updates, quotes and tickers: left out",
    "flags": "rows with other marks that no column can say",
    "off_market": "trades off the market: their side is `unknown`, so that they move nothing",
}


class UnitTexts(dict[int, str]):
    """Counts of a unit with their plain decimal texts."""

    def __init__(self, unit: Decimal) -> None:
        super().__init__()
        self.unit = unit

    def __missing__(self, count: int) -> str:
        """Write a count met for the first time."""
        if len(self) >= CACHE_MAX:
            self.clear()
        text = self[count] = format_plain(count, self.unit)
        return text


class _Book:
    """What the file of one book has told so far."""

    def __init__(self) -> None:
        self.known: set[int] = set()  # prices of bids, negated of asks
        self.is_snapshot = False  # what its last line said
        self.was_snapshot = False  # whether the last message was one, however it was told
        self.ts_ns = 0
        self.is_ended = False


class _Writer:
    """One instrument's texts and the state of its lines."""

    def __init__(self, instrument: Instrument) -> None:
        names = (instrument.exchange, instrument.symbol)
        if any(not name.isascii() or set(name) & set(',"\r\n') or not name for name in names):
            raise DataError(":".join(names), None, "symbol", "expected an exchange and a symbol that CSV can hold")
        self.head = ",".join(names)
        symbol = instrument.symbol.replace("/", "-").replace(":", "-").upper()
        self.parts = (instrument.exchange, symbol)
        self.prices, self.amounts = UnitTexts(instrument.tick), UnitTexts(instrument.lot)
        self.numbers = {kind: UnitTexts(find_unit(kind, instrument)) for kind in TYPES[TICKER]}
        self.book = _Book()
        self.quote = {1: ("", ""), -1: ("", "")}  # price and amount of the last one, by side

    def name(self, type_: str, day: int) -> str:
        """Return the name of a file."""
        date = datetime.fromtimestamp(day * 86_400, tz=UTC)
        return f"{self.parts[0]}_{type_}_{date:%Y-%m-%d}_{self.parts[1]}.csv.gz"


class TardisWriter:
    """A folder of Tardis CSV files that grows with the rows that come.

    Parameters
    ----------
    folder : path
        Exists, and is empty.
    instruments : Instruments
        Of the rows; may grow while they come.

    Attributes
    ----------
    losses : Counter
        By name, see `LOSSES`.

    Source: FEED-066.
    """

    def __init__(self, folder: Path, instruments: Instruments) -> None:
        self.losses: Counter[str] = Counter()
        self._folder, self._instruments = folder, instruments
        self._writers: dict[int, _Writer] = {}
        self._waiting: dict[str, list[str]] = {}
        self._sizes: Counter[str] = Counter()
        self._rows: Counter[str] = Counter()
        self._last = (0, 0)  # stamp in microseconds and rank of the last row

    def add(self, rows: Records) -> None:
        """Write rows in order of time, whole stamps at a time.

        Raises
        ------
        DataError
            If a name cannot stand in a CSV file.
        """
        self._count_losses(rows)
        for type_ in HEADERS:
            chosen = rows[np.isin(rows["kind"], TYPES[type_])]
            for market in np.unique(chosen["market"]).tolist():
                own = chosen[chosen["market"] == market]
                writer = self._find_writer(market)
                days = own["ts_ns"] // DAY_NS
                for day in np.unique(days).tolist():
                    self._write(writer.name(type_, day), type_, LINES[type_](self, writer, own[days == day]))

    def finish(self) -> list[tuple[str, int]]:
        """Write what waits and return the files' names and rows."""
        for name in self._waiting:
            self._flush(name, 1)
        return sorted(self._rows.items())

    def _find_writer(self, market: int) -> _Writer:
        if market not in self._writers:
            self._writers[market] = _Writer(self._instruments.rows[market])
        return self._writers[market]

    def _write(self, name: str, type_: str, lines: Iterator[str]) -> None:
        told = list(lines)
        if not told:
            return
        if name not in self._waiting:
            told.insert(0, HEADERS[type_] + "\n")
            self._rows[name] -= 1
        self._rows[name] += len(told)
        self._waiting.setdefault(name, []).extend(told)
        self._sizes[name] += sum(map(len, told))
        if self._sizes[name] >= WAITING_CHARS:
            self._flush(name, WAITING_CHARS)

    def _flush(self, name: str, least: int) -> None:
        # One member of the archive at a time: no file stays open.  Members are cut by length, and nothing in them tells
        # when they were written: equal rows make equal bytes.
        text = "".join(self._waiting[name])
        packed = io.BytesIO()
        while len(text) >= least:
            part, text = text[:WAITING_CHARS], text[WAITING_CHARS:]
            with gzip.GzipFile("", "wb", GZIP_LEVEL, packed, mtime=0) as member:
                member.write(part.encode("ascii"))
        with (self._folder / name).open("ab") as file:
            file.write(packed.getvalue())
        self._waiting[name] = [text]
        self._sizes[name] = len(text)

    def _count_losses(self, rows: Records) -> None:
        kinds, losses = rows["kind"], self.losses
        is_order = np.isin(kinds, TYPES["orders"])
        losses["orders"] += int(is_order.sum())
        rows, kinds = rows[~is_order], kinds[~is_order]
        if not len(rows):
            return
        stamps, told = rows["ts_ns"], rows["exchange_ns"]
        due = np.where(kinds == ROW_FUNDING, rows["qty"], 0)
        losses["nanoseconds"] += int(
            ((stamps % NS_PER_US != 0) | (told % NS_PER_US != 0) | (due % NS_PER_US != 0)).sum()
        )
        losses["venue_stamps"] += int((told == 0).sum())
        has_id = np.isin(kinds, TYPES["trades"] + TYPES["liquidations"])
        losses["ids"] += int((~has_id & (rows["id"] != 0)).sum())
        losses["off_market"] += int((np.isin(kinds, TYPES["trades"]) & (rows["flags"] & OFF_MARKET != 0)).sum())
        losses["flags"] += int((rows["flags"] & ~np.uint8(SAID) != 0).sum())
        micros = np.concatenate([[self._last[0]], stamps // NS_PER_US])
        ranks = np.concatenate([[self._last[1]], _RANKS[kinds]])
        losses["order"] += int(((np.diff(micros) == 0) & (np.diff(ranks) < 0)).sum())
        self._last = (int(micros[-1]), int(ranks[-1]))

    # ------------------------------------------------------------ lines of one instrument, one type, one day

    def tell_trades(self, writer: _Writer, rows: Records) -> Iterator[str]:
        """Yield lines of trades or liquidations."""
        prices, amounts = writer.prices, writer.amounts
        is_off = (rows["flags"] & OFF_MARKET != 0) & np.isin(rows["kind"], TYPES["trades"])
        sides = np.where(is_off, 0, rows["side"]).tolist()
        columns = zip(rows["id"].tolist(), sides, rows["price"].tolist(), rows["qty"].tolist(), strict=True)
        for start, (number, side, price, qty) in zip(_starts(writer, rows), columns, strict=True):
            word = ("unknown", "buy", "sell")[side]
            yield f"{start},{number or ''},{word},{prices[price]},{amounts[qty]}\n"

    def tell_quotes(self, writer: _Writer, rows: Records) -> Iterator[str]:
        """Yield lines of quotes: a bid and an ask that came together; one that came alone with the other's last."""
        last: tuple[str, int] | None = None  # what the line that is open begins with, and its last side
        columns = zip(rows["side"].tolist(), rows["price"].tolist(), rows["qty"].tolist(), strict=True)
        for start, (side, price, qty) in zip(_starts(writer, rows), columns, strict=True):
            if last is not None and not (last[0] == start and last[1] > side):
                yield self._end_quote(writer, last[0])
            text = writer.prices[price] if price else ""
            writer.quote[side] = (text, writer.amounts[qty] if price else "")
            last = (start, side)
        if last is not None:
            yield self._end_quote(writer, last[0])

    def _end_quote(self, writer: _Writer, start: str) -> str:
        (bid, bid_amount), (ask, ask_amount) = writer.quote[1], writer.quote[-1]
        return f"{start},{ask_amount},{ask},{bid},{bid_amount}\n"

    def tell_book(self, writer: _Writer, rows: Records) -> Iterator[str]:
        """Yield lines of a book; a snapshot begins where `is_snapshot` becomes true (FEED-002)."""
        book, starts = writer.book, list(_starts(writer, rows))
        names = ("kind", "side", "price", "qty", "flags", "ts_ns")
        table = list(zip(*(rows[name].tolist() for name in names), strict=True))
        at = 0
        while at < len(table):
            kind, side, price, qty, flags, ts_ns = table[at]
            is_same = ts_ns // NS_PER_US == book.ts_ns // NS_PER_US
            self.losses["messages"] += is_same and (book.is_ended or ts_ns != book.ts_ns)
            if kind == ROW_CLEAR:
                stop = at + 1
                while stop < len(table) and table[stop][0] == ROW_LEVEL and table[stop][4] & IN_SNAPSHOT:
                    stop += 1
                yield from self._tell_snapshot(writer, starts[at], starts[at + 1 : stop], table[at + 1 : stop])
                at = stop
            else:
                # Levels of a snapshot that went on past its stamp are still part of it.
                book.is_snapshot = book.is_snapshot and bool(flags & IN_SNAPSHOT)
                book.was_snapshot = book.was_snapshot and bool(flags & IN_SNAPSHOT)
                yield self._tell_level(writer, starts[at], side, price, qty)
                at += 1
            book.ts_ns, book.is_ended = table[at - 1][5], bool(table[at - 1][4] & ENDS_MESSAGE)

    def _tell_snapshot(
        self, writer: _Writer, start: str, starts: Sequence[str], levels: Sequence[tuple[int, ...]]
    ) -> Iterator[str]:
        book = writer.book
        named = {side * price for _, side, price, qty, _, _ in levels if qty}
        if levels and not book.was_snapshot:
            book.is_snapshot = True
            book.known.clear()
        else:
            # Nothing between the two would say that the first one is over, so the second is told as its changes.
            self.losses["snapshots"] += 1
            book.is_snapshot = False
            for key in sorted(book.known - named):
                yield self._tell_level(writer, start, 1 if key > 0 else -1, abs(key), 0)
        book.was_snapshot = True
        for begin, (_, side, price, qty, _, _) in zip(starts, levels, strict=True):
            yield self._tell_level(writer, begin, side, price, qty)

    def _tell_level(self, writer: _Writer, start: str, side: int, price: int, qty: int) -> str:
        book = writer.book
        (book.known.add if qty else book.known.discard)(side * price)
        flag, word = ("true" if book.is_snapshot else "false"), ("bid" if side > 0 else "ask")
        return f"{start},{flag},{word},{writer.prices[price]},{writer.amounts[qty]}\n"

    def tell_ticker(self, writer: _Writer, rows: Records) -> Iterator[str]:
        """Yield lines of a ticker: what was told together is one line."""
        last, cells = "", [""] * 7
        columns = zip(*(rows[name].tolist() for name in ("kind", "price", "qty", "flags")), strict=True)
        for start, (kind, price, qty, flags) in zip(_starts(writer, rows), columns, strict=True):
            place = TICKER_PLACES.get(kind, 0)
            if last and (start != last or cells[place] or (kind == ROW_FUNDING and cells[1])):
                yield f"{last},{','.join(cells)}\n"
                cells = [""] * 7
            last = start
            if kind == ROW_FUNDING:
                cells[0] = str(qty // NS_PER_US) if qty else ""
                cells[1] = "" if flags & NO_RATE else writer.numbers[kind][price]
            else:
                cells[place] = writer.numbers[kind][qty if kind == ROW_INTEREST else price]
        if last:
            yield f"{last},{','.join(cells)}\n"


def _starts(writer: _Writer, rows: Records) -> Iterator[str]:
    """Yield what each line begins with: names and stamps."""
    stamps = rows["ts_ns"] // NS_PER_US
    told = np.where(rows["exchange_ns"] == 0, stamps, rows["exchange_ns"] // NS_PER_US)
    for venue, local in zip(told.tolist(), stamps.tolist(), strict=True):
        yield f"{writer.head},{venue},{local}"


LINES: dict[str, Any] = {
    "trades": TardisWriter.tell_trades,
    "liquidations": TardisWriter.tell_trades,
    "quotes": TardisWriter.tell_quotes,
    "incremental_book_L2": TardisWriter.tell_book,
    TICKER: TardisWriter.tell_ticker,
}
