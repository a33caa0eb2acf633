"""Captured websocket messages, whoever wrote them down: what arrived, when, over which connection (FEED-030).

A capture is a list of a venue's own messages.  Recorders differ in how they note the time, venues in what they say: the
first is here, once, with what readers of such messages share; the second is a small module per venue.
"""

import heapq
import json
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from engine.codes import (
    IN_SNAPSHOT,
    NO_RATE,
    ROW_CLEAR,
    ROW_FUNDING,
    ROW_INDEX,
    ROW_INTEREST,
    ROW_LAST,
    ROW_LEVEL,
    ROW_MARK,
    ROW_PREDICTED,
    ROW_QUOTE,
)
from engine.errors import DataError
from engine.feeds.columns import FieldError
from engine.feeds.instruments import Findings, Instrument, Instruments, count_interest, count_rate
from engine.feeds.tape import (
    DECODE_ERRORS,
    LINE_BYTES_MAX,
    Format,
    Head,
    Records,
    RowBuilder,
    TapeFile,
    iter_lines,
    open_bytes,
    read_head,
)

Item = TypeVar("Item")
Value = TypeVar("Value")

NS_PER_S, NS_PER_MS = 1_000_000_000, 1_000_000
HOUR_NS = 3_600 * NS_PER_S
ROWS = 8_192  # told at once
PEEK_MESSAGES = 256  # looked at before the reading, where the order of the messages hides what is needed first
DOCUMENT_BYTES = 1 << 18
STAMP_MAX_S = (1 << 63) // NS_PER_S

SIDES = {"Buy": 1, "Sell": -1, "buy": 1, "sell": -1, "B": 1, "A": -1}
FIELD_STAMP = re.compile(rb'"(?:ts|time|T|timestamp)":\s*"?([\d.]+)')
LINE_STAMP = re.compile(rb"([\d.TZ:-]+?):? [\[{]")
BETWEEN = re.compile(r"[\[\],\s]*")
RECEIVED = re.compile(rb'\{"t":"recv","conn":"([^"]*)","ts":(\d+(?:\.\d+)?),')
CONNECTED = re.compile(rb"(\S+://\S+) (<->|<-|->) ([\d.]+)")


class Message(NamedTuple):
    """One message of a venue."""

    path: Path
    line: int  # of the file; in a list, which of its elements
    ts_ns: int  # when it arrived; 0: nobody noted it
    address: str  # of its connection; "": not noted
    text: bytes | str


class _Envelope(msgspec.Struct):
    # what recorders that write JSON put around a message
    t: str = ""
    conn: str = ""
    addr: str = ""
    ts: msgspec.Raw = msgspec.Raw()
    data: msgspec.Raw = msgspec.Raw()
    msg: str = ""


_decode_envelope = msgspec.json.Decoder(_Envelope).decode
_decode_text = msgspec.json.Decoder(str).decode


def count_stamp_text(text: str) -> int:
    """Return a stamp in ns: seconds since 1970 with or without decimals, ms, us or ns by their length, or ISO 8601.

    Raises
    ------
    ValueError
        If it is none of these.
    """
    if "T" in text:
        whole, _, fraction = text.removesuffix("Z").partition(".")
        seconds = int(datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp())
    else:
        whole, _, fraction = text.partition(".")
        if not (whole.isascii() and whole.isdigit()):
            raise ValueError(f"expected a stamp, got {text!r}")
        if not fraction and len(whole) > 12:
            whole, fraction = whole[:10], whole[10:]
        seconds = int(whole)
    if not 0 <= seconds < STAMP_MAX_S or (fraction and not (fraction.isascii() and fraction.isdigit())):
        raise ValueError(f"expected a stamp, got {text!r}")
    return seconds * NS_PER_S + int(fraction[:9].ljust(9, "0"))


# ---------------------------------------------------------------- files to messages


def read_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield (number, line) of a text file, compressed or plain, empty lines left out.

    Raises
    ------
    DataError
        Missing file, damaged or truncated archive.
    """
    line = 0
    try:
        with open_bytes(path) as stream:
            for line, text in enumerate(iter_lines(stream, path), 1):
                if stripped := text.strip():
                    yield line, stripped
    except EOFError as error:
        raise DataError(path, line, None, "expected a complete archive, it ends early after this line") from error
    except (OSError, zlib.error, zipfile.BadZipFile) as error:
        raise DataError(path, line, None, f"expected a sound archive: {error}") from error


def _read_documents(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (number, text) of the values of a JSON list, or of values that follow each other, over lines or not."""
    find_end = json.JSONDecoder().raw_decode
    lines = (line.decode("utf-8", "replace") for _, line in read_lines(path))
    text, at, number = "", 0, 0
    while True:
        at = BETWEEN.match(text, at).end()  # type: ignore[union-attr]  # it matches nothing at all too
        try:
            _, end = find_end(text, at)
        except RecursionError as error:
            raise DataError(path, None, None, f"expected JSON, message {number + 1} is nested too deep") from error
        except ValueError as error:
            if len(text) - at > LINE_BYTES_MAX:
                expected = f"expected messages of at most {LINE_BYTES_MAX} bytes, number {number + 1} has more"
                raise DataError(path, None, None, expected) from error
            more = list(_take(lines, DOCUMENT_BYTES + len(text) - at))
            if not more and at < len(text):
                expected = f"expected JSON to the end, message {number + 1} is none: {error}"
                raise DataError(path, None, None, expected) from error
            if not more:
                return
            text, at = "\n".join([text[at:], *more]), 0
            continue
        number += 1
        yield number, text[at:end]
        at = end


def _take(lines: Iterator[str], size: int) -> Iterator[str]:
    for line in lines:
        yield line
        size -= len(line)
        if size < 0:
            return


def _read_listed(path: Path, findings: Findings) -> Iterator[Message]:
    for number, text in _read_documents(path):
        try:
            envelope = _decode_envelope(text)
            if envelope.msg:
                yield Message(path, number, count_stamp_text(bytes(envelope.ts).decode()), "", envelope.msg)
            else:
                yield Message(path, number, 0, "", text)
        except DECODE_ERRORS as error:
            findings.drop("json", DataError(path, number, None, f"expected a recorded message: {error}"))
        except ValueError as error:
            findings.drop("bad stamp", DataError(path, number, "ts", str(error)))


def _read_enveloped(path: Path, findings: Findings) -> Iterator[Message]:
    parts = _list_connections(path)
    if not parts:
        yield from _read_connection(path, findings)
    yield from heapq.merge(*(_read_connection(path, findings, part) for part in parts), key=lambda found: found.ts_ns)


def _list_connections(path: Path) -> list[bytes]:
    """Return the connections of a file in which they stand after each other; none where it is in order of arrival."""
    stamps: dict[bytes, float] = {}
    latest, is_sorted = 0.0, True
    for _, text in read_lines(path):
        if found := RECEIVED.match(text):
            stamp = float(found[2])
            if stamp < stamps.get(found[1], 0.0):
                return []  # a fault of the recorder's clock, which is named when it is read
            stamps[found[1]] = stamp
            is_sorted, latest = is_sorted and stamp >= latest, max(stamp, latest)
    return [] if is_sorted else list(stamps)


def _read_connection(path: Path, findings: Findings, only: bytes = b"") -> Iterator[Message]:
    addresses: dict[str, str] = {}
    for line, text in read_lines(path):
        if only and (found := RECEIVED.match(text)) and found[1] != only:
            continue
        try:
            envelope = _decode_envelope(text)
            if envelope.t == "connect":
                addresses[envelope.conn] = envelope.addr
            if envelope.t in ("", "recv"):
                stamp = count_stamp_text(bytes(envelope.ts).decode())
                told = envelope.msg or _decode_text(envelope.data)
                yield Message(path, line, stamp, addresses.get(envelope.conn, ""), told)
        except DECODE_ERRORS as error:
            findings.drop("json", DataError(path, line, None, f"expected a recorded message: {error}"))
        except ValueError as error:
            findings.drop("bad stamp", DataError(path, line, "ts", str(error)))


def _read_stamped(path: Path, findings: Findings) -> Iterator[Message]:
    """Yield the messages of lines `STAMP MESSAGE` or `STAMP: MESSAGE`, between lines `ADDRESS <-> STAMP`."""
    address = ""
    for line, text in read_lines(path):
        if connected := CONNECTED.match(text):
            address = connected[1].decode("ascii", "replace") if connected[2] == b"<->" else address
            continue
        stamp, _, rest = text.partition(b" ")
        try:
            yield Message(path, line, count_stamp_text(stamp.removesuffix(b":").decode("ascii")), address, rest)
        except ValueError as error:
            findings.drop("bad stamp", DataError(path, line, "stamp", str(error)))


def _read_bare(path: Path, findings: Findings) -> Iterator[Message]:
    for line, text in read_lines(path):
        yield Message(path, line, 0, "", text)


def _choose_container(head: Head) -> Callable[[Path, Findings], Iterator[Message]] | None:
    data = head.data.lstrip()
    first, _, rest = data.partition(b"\n")
    if data[:1] == b"[" or (data[:1] == b"{" and rest and not first.rstrip().endswith(b"}")):
        return _read_listed
    if data[:1] == b"{":
        is_enveloped = re.match(rb'\{"t":|\{[^{]*"ts":[^{]*"msg":', first) is not None
        return _read_enveloped if is_enveloped else _read_bare
    if CONNECTED.match(first) or LINE_STAMP.match(first):
        return _read_stamped
    return None


def read_messages(path: Path, findings: Findings) -> Iterator[Message]:
    """Yield what a capture received, in its order: what was sent, connections and REST replies are left out.

    Parameters
    ----------
    path : Path
        Lines `STAMP MESSAGE` (ns, or ISO 8601 as Tardis serves raw data), cryptofeed's text and JSON Lines, a JSON list
        of `{ts, msg}`, or bare messages.

    Source: FEED-030.
    """
    container = _choose_container(read_head(path))
    if container is None:
        raise DataError(path, 1, None, "expected captured messages")
    yield from container(path, findings)


def merge_messages(files: Sequence[TapeFile], findings: Findings) -> Iterator[Message]:
    """Yield the messages of captures, which may lie side by side in time, in order of arrival."""
    return heapq.merge(*(read_messages(file.path, findings) for file in files), key=lambda message: message.ts_ns)


def peek_messages(files: Sequence[TapeFile]) -> Iterator[Message]:
    """Yield the first messages of every capture, without finding fault with them."""
    for file in files:
        yield from islice(read_messages(file.path, Findings(is_strict=False)), PEEK_MESSAGES)


def sniff_capture(head: Head, pattern: re.Pattern[bytes], format: Format) -> TapeFile | None:
    """Return a capture whose beginning shows the venue's `pattern`; quotes inside of texts may be escaped.

    Source: FEED-030.
    """
    data = head.data.replace(b'\\"', b'"')
    if _choose_container(head) is None or pattern.search(data) is None:
        return None
    stamps = (CONNECTED.match(data), LINE_STAMP.match(data), FIELD_STAMP.search(data))
    first_ns = 0
    if found := next(filter(None, stamps), None):
        with suppress(ValueError):  # a stamp that is none is found, and named, when its line is read
            first_ns = count_stamp_text(found[found.lastindex or 0].decode("ascii"))
    return TapeFile(head.path, format, "capture", "", "", first_ns, 0)


# ---------------------------------------------------------------- messages to rows


def convert(field: str, parse: Callable[[str], Value], text: str) -> Value:
    """Return `text` read by `parse`; FieldError naming the field where that raises ValueError."""
    try:
        return parse(text)
    except (ValueError, ArithmeticError, KeyError) as error:
        raise FieldError(field, str(error)) from error


def count_side(text: str) -> int:
    """Return 1 for a buyer's word and -1 for a seller's."""
    if text not in SIDES:
        raise FieldError("side", f"expected {' or '.join(SIDES)}, got {text!r}")
    return SIDES[text]


def count_ms(field: str, text: str | int) -> int:
    """Return a stamp of ms since 1970 in ns; an empty text is 0."""
    if not text:
        return 0
    try:
        count = int(text)
    except ValueError as error:
        raise FieldError(field, f"expected milliseconds since 1970, got {text!r}") from error
    if not 0 <= count < (1 << 63) // NS_PER_MS:
        raise FieldError(field, f"expected milliseconds since 1970, got {text!r}")
    return count * NS_PER_MS


TICKER_ROWS = {
    "predicted": (ROW_PREDICTED, True),
    "interest": (ROW_INTEREST, False),
    "last": (ROW_LAST, True),
    "index": (ROW_INDEX, True),
    "mark": (ROW_MARK, True),
}
TICKER_PARSERS: dict[str, Callable[[str], int]] = {"predicted": count_rate, "interest": count_interest}

Level = tuple[int, int, int]  # side, price, quantity
Pairs = Iterable[Sequence[str]]


def count_levels(instrument: Instrument, bids: Pairs, asks: Pairs) -> list[Level]:
    """Return the levels of a message, each given as price, quantity and whatever else, in units."""
    prices, totals = instrument.levels, instrument.totals
    told: list[Level] = []
    field = "price"
    try:
        for side, levels in ((1, bids), (-1, asks)):
            for level in levels:
                field = "price"
                price = prices[level[0]]
                field = "size"
                told.append((side, price, totals[level[1]]))
    except (ValueError, ArithmeticError) as error:
        raise FieldError(field, str(error)) from error
    return told


class MessageReader:
    """What readers of a venue's messages share: rows in order, what is wrong left out with its place.

    A subclass says in `tell` what one message holds; it converts everything before it adds the first row, so that a
    message is told whole or not at all (FEED-032).
    """

    def __init__(self, instruments: Instruments, findings: Findings) -> None:
        self.instruments, self.findings = instruments, findings
        self.rows = RowBuilder(findings)
        self._channels: dict[tuple[str, int], str] = {}
        self._begun: set[int] = set()

    def read(self, files: Sequence[TapeFile]) -> Iterator[Records]:
        """Yield the rows of captures."""
        for message in merge_messages(files, self.findings):
            try:
                self.tell(message)
            except FieldError as error:
                self.drop(message, error)
            except DECODE_ERRORS as error:
                self.findings.drop("json", DataError(message.path, message.line, None, f"expected a message: {error}"))
            if len(self.rows) >= ROWS:
                yield self.rows.build()
        if len(self.rows):
            yield self.rows.build()

    def tell(self, message: Message) -> None:
        """Add the rows of one message."""
        raise NotImplementedError  # each venue's own; order, faults and blocks are said here for all of them

    def drop(self, message: Message, error: FieldError) -> None:
        """Leave a message or a part of it out."""
        self.findings.drop(error.reason, DataError(message.path, message.line, error.field, str(error)))

    def each(self, message: Message, items: Iterable[Item], tell: Callable[[Item], None]) -> None:
        """Tell items one by one; a bad one is left out, the others are not."""
        for item in items:
            try:
                tell(item)
            except FieldError as error:
                self.drop(message, error)

    def count(self, exchange: str, kind: str, rows: int = 1) -> None:
        """Count what the files hold."""
        self.findings.rows[f"{exchange} {kind}"] += rows

    def find(self, exchange: str, symbol: str) -> Instrument | None:
        """Return the instrument of a message; one nobody asked for is counted `unused`."""
        instrument = self.instruments.find(exchange, symbol)
        if instrument is None:
            self.findings.counts["unused"] += 1
        return instrument

    def is_chosen(self, kind: str, instrument: Instrument, channel: str) -> bool:
        """Return whether this channel is the one its instrument's book (or trades) is read from: the first met.

        Source: FEED-031.
        """
        if self._channels.setdefault((kind, instrument.index), channel) == channel:
            return True
        self.findings.counts["other_channels"] += 1
        return False

    def begin(self, message: Message, exchange_ns: int) -> int:
        """Return the stamp of a message's rows; the venue's where nobody noted when it arrived."""
        return self.rows.begin(message.path, message.line, message.ts_ns or exchange_ns, "stamp")

    def add_book(
        self,
        message: Message,
        instrument: Instrument,
        exchange_ns: int,
        levels: list[Level],
        is_snapshot: bool,
        number: int = 0,
    ) -> None:
        """Add the rows of one book message; `number` is the update's."""
        ts_ns = self.begin(message, exchange_ns)
        flags = IN_SNAPSHOT if is_snapshot else 0
        if is_snapshot:
            self.rows.add(ROW_CLEAR, instrument.index, ts_ns, exchange_ns, number=number, flags=flags)
        for side, price, qty in levels:
            self.rows.add(ROW_LEVEL, instrument.index, ts_ns, exchange_ns, side, price, qty, number, flags)
        if is_snapshot or levels:
            self.rows.end_message()

    def add_quote(self, message: Message, instrument: Instrument, exchange_ns: int, levels: list[Level]) -> None:
        """Add the best prices of the sides a message tells; a side whose only level is gone has price 0."""
        best: dict[int, tuple[int, int]] = {}
        for side, price, qty in levels:
            if qty or side not in best:
                best[side] = (price, qty) if qty else (0, 0)
        ts_ns = self.begin(message, exchange_ns)
        for side, (price, qty) in best.items():
            self.rows.add(ROW_QUOTE, instrument.index, ts_ns, exchange_ns, side, price, qty)

    def report_gap(self, message: Message, instrument: Instrument, field: str, expected: str) -> None:
        """Report that updates of a book were lost."""
        error = DataError(message.path, message.line, field, f"{instrument.symbol}: {expected}, updates were lost")
        self.findings.report("gaps", error)

    def check_number(self, message: Message, instrument: Instrument, field: str, last: int | None, before: int) -> None:
        """Report a gap where the update told before this one is not the one that should have been.

        Parameters
        ----------
        last : int or None
            Number of the last update seen; None: not even a snapshot.
        before : int
            Number this message says, or implies, that its predecessor had.
        """
        if last is None:
            self.report_gap(message, instrument, field, "expected a snapshot before the first update")
        elif before != last:
            self.report_gap(message, instrument, field, f"expected the update after {last}, got the one after {before}")

    def begin_snapshot(self, instrument: Instrument) -> None:
        """Count a snapshot: one that is not the first of its book says that the stream began anew."""
        self.findings.counts["resets"] += instrument.index in self._begun
        self._begun.add(instrument.index)

    def add_ticker(
        self, message: Message, instrument: Instrument, exchange_ns: int, *, due_ns: int = 0, **texts: str
    ) -> None:
        """Add what a ticker tells: funding, predicted rate, open interest, last, index, mark, in this order.

        Parameters
        ----------
        due_ns : int
            When the funding is due; 0: not told.
        texts : str
            `rate`, `predicted`, `interest`, `last`, `index`, `mark`; what is missing or empty is not told.
        """
        rows: list[tuple[int, int, int]] = []  # kind, price, quantity
        rate = texts.pop("rate", "")
        if due_ns or rate:
            rows.append((ROW_FUNDING, convert("rate", count_rate, rate), due_ns))
        for name, (kind, is_price) in TICKER_ROWS.items():
            if text := texts.pop(name, ""):
                parse = TICKER_PARSERS.get(name, instrument.count_fine)
                count = convert(name, parse, text)
                rows.append((kind, count, 0) if is_price else (kind, 0, count))
        assert not texts, texts
        ts_ns = self.begin(message, exchange_ns)
        for kind, price, qty in rows:
            flags = NO_RATE if kind == ROW_FUNDING and not rate else 0
            self.rows.add(kind, instrument.index, ts_ns, exchange_ns, 0, price, qty, flags=flags)
