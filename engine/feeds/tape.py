"""Any recording as one tape: files are what they say they are, readers give rows, rows become commands.

A format is a module with a `Format`: `sniff` says whether a file is one of its own, `read` yields its rows as RECORD
arrays in order of arrival.  Everything else is here once: order, merging, messages, units, what was found wrong.
"""

import gzip
import io
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.codes import ENDS_MESSAGE, ROW_CLEAR, ROW_INDEX, ROW_LEVEL, ROW_LIQUIDATION, ROW_NAMES, ROW_TRADE
from engine.contract import Market
from engine.errors import DataError, MissingExtraError, explain_os
from engine.feeds.instruments import Decimals, Findings, Instruments, explain_absent
from engine.feeds.merge import Commands, cut_chunks, merge_streams
from engine.feeds.overlap import OverlapWatch
from engine.files import ARCHIVE_ERRORS, open_archive
from engine.layout import COMMAND, INSTRUMENT, KNOWN_LEVEL, RECORD

Records = NDArray[np.void]

HEAD_BYTES = 1 << 16
# Of `Teller.counts`, in the order engine.kernels.tape numbers them.
COUNTS = ("messages", "snapshots", "crossed", "beyond", "off_book", "funding", "bbo_checked", "bbo_equal")
GZIP_BYTES = 1 << 19  # unpacked at once, then copied: it is to stay in the cache
# What is unpacked at once: a block of zstd is at most 128 KiB, of as few as 4 bytes.
ZSTD_BYTES = 1 << 10
ZSTD_WINDOW_MAX = 1 << 27
TABLE_LEAST = 1 << 10
ROOM_LEAST = 256
TAPE_MEMBERS = ("commands.npy", "data.npy")  # of an archive of arrays: our own commands, hftbacktest's events
GZIP, ZIP, ZSTD = b"\x1f\x8b", b"PK\x03\x04", b"\x28\xb5\x2f\xfd"


class TapeFile(NamedTuple):
    """One file of a known format, its beginning looked at.

    `exchange` and `symbol` are empty where the rows say them.  Files of one format, kind, exchange and symbol are one
    stream, in order of `first_ns`.
    """

    path: Path
    format: "Format"
    kind: str
    exchange: str
    symbol: str
    first_ns: int
    rank: int  # of streams at equal stamps (FEED-001)
    columns: tuple[str, ...] = ()
    is_mixed: bool = False  # whether its beginning names other symbols too
    beginning: str = ""  # digest of its head


class Head(NamedTuple):
    """The beginning of a file, uncompressed."""

    path: Path
    data: bytes
    member: str = ""  # of a zip archive

    @property
    def lines(self) -> list[str]:
        """Whole lines of text in it; none where it is no text."""
        try:
            lines = self.data.decode("utf-8").splitlines()
        except UnicodeDecodeError:
            # the cut may lie inside a character
            lines = self.data.rpartition(b"\n")[0].decode("utf-8", "replace").splitlines()
        return lines if len(self.data) < HEAD_BYTES else lines[:-1]


class Format(NamedTuple):
    """A way recordings are written.

    Parameters
    ----------
    name : str
        As `perp inspect` shows it.
    sniff : function of Head
        Returns what the file is, or None where it is not of this format; DataError where it says it is and cannot be.
    read : function of (files, instruments, findings)
        Yields RECORD arrays of the files, which follow each other, in order of arrival: `ts_ns` never falls.
    is_joint : bool
        Whether files of all kinds are one stream, whose order they know themselves.
    """

    name: str
    sniff: Callable[[Head], TapeFile | None]
    read: Callable[[Sequence[TapeFile], Instruments, Findings], Iterator[Records]]
    is_joint: bool = False


# ---------------------------------------------------------------- bytes


def open_bytes(path: Path, member: str = "") -> BinaryIO:
    """Open a file for reading, uncompressed: gzip, zip and zstd are known by their first bytes.

    Of a zip archive this is `member`, else its only file; of one of arrays (npz) the one that holds a tape, else the
    first.

    Raises
    ------
    DataError
        If it is missing, or an archive of several files.
    MissingExtraError
        If it is zstd and there is no library for it.
    """
    try:
        with path.open("rb") as raw:
            magic = raw.read(4)
        if magic[:2] == GZIP:
            return _open_gzip(path)
        if magic == ZIP:
            with open_archive(path) as archive:  # its file stays open as long as the member does
                return cast(BinaryIO, archive.open(member or _choose_member(path, archive)))
        if magic == ZSTD:
            return _open_zstd(path)
        return path.open("rb")
    except OSError as error:
        raise DataError(path, None, None, f"expected a readable file: {explain_os(error, path)}") from error
    except ARCHIVE_ERRORS as error:
        raise DataError(path, None, None, f"expected a sound zip archive: {error}") from error


def _choose_member(path: Path, archive: zipfile.ZipFile) -> str:
    members = [name for name in archive.namelist() if not name.endswith("/")]
    if len(members) > 1 and all(name.endswith(".npy") for name in members):
        return next((name for name in members if name in TAPE_MEMBERS), members[0])
    if len(members) != 1:
        raise DataError(path, None, None, f"expected a zip archive of one file, it has {len(members)}")
    return members[0]


class FastGzip(io.RawIOBase):
    """A gzip file by way of `isal`, whose errors are those of `gzip` (FEED-064)."""

    def __init__(self, path: Path) -> None:
        from isal import igzip, isal_zlib

        library: Any = igzip
        self._stream = library.open(path, "rb")
        self._error: Any = isal_zlib.error

    def readable(self) -> bool:
        """Say yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer, or as much of it as there is."""
        try:
            count: int = self._stream.readinto(memoryview(buffer)[:GZIP_BYTES])
        except self._error as error:
            raise zlib.error(str(error)) from error
        return count

    def close(self) -> None:
        """Close the file."""
        self._stream.close()
        super().close()


def _open_gzip(path: Path) -> BinaryIO:
    try:
        return io.BufferedReader(FastGzip(path))
    except ImportError:
        return cast(BinaryIO, gzip.open(path, "rb"))


def _open_zstd(path: Path) -> BinaryIO:
    try:
        import zstandard
    except ImportError as error:
        raise MissingExtraError(f"{path}: reading zstd needs pip install 'perp-engine[captures]'") from error
    return io.BufferedReader(_ZstdFile(path, zstandard))


class _ZstdFile(io.RawIOBase):
    """Frames of zstd after each other; the library's own reader takes a file that ends early for a whole one.

    Source: FEED-074.
    """

    def __init__(self, path: Path, library: Any) -> None:
        self._raw, self._library = path.open("rb"), library
        self._frame = self._begin_frame()
        self._ready = memoryview(b"")

    def _begin_frame(self) -> Any:
        return self._library.ZstdDecompressor(max_window_size=ZSTD_WINDOW_MAX).decompressobj()

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self._raw.close()
        super().close()

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            block = (self._frame.unused_data if self._frame.eof else b"") or self._raw.read(ZSTD_BYTES)
            if not block:
                if not self._frame.eof:
                    raise EOFError("the last frame is not complete")
                return 0
            if self._frame.eof:
                self._frame = self._begin_frame()
            try:
                self._ready = memoryview(self._frame.decompress(block))
            except self._library.ZstdError as error:
                raise zlib.error(str(error)) from error
        count = min(len(buffer), len(self._ready))
        buffer[:count], self._ready = self._ready[:count], self._ready[count:]
        return count


DECODE_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)  # of a message in JSON
READ_ERRORS = (OSError, EOFError, zlib.error, zipfile.BadZipFile)
LINE_BYTES_MAX = 1 << 26  # of a message: a whole book of every order is one


def iter_lines(stream: BinaryIO, path: Path) -> Iterator[bytes]:
    """Yield the lines of a stream, each with its end.

    Raises
    ------
    DataError
        If one has more than LINE_BYTES_MAX bytes.

    Source: FEED-074.
    """
    line = 0
    while text := stream.readline(LINE_BYTES_MAX + 1):
        line += 1
        if len(text) > LINE_BYTES_MAX:
            raise DataError(path, line, None, f"expected lines of at most {LINE_BYTES_MAX} bytes")
        yield text


def explain_read(path: Path, line: int, error: BaseException) -> DataError:
    """Return the error of a file that cannot be read on after a line."""
    if isinstance(error, EOFError):
        return DataError(path, line, None, "expected a complete gzip file, it ends early after this line")
    if isinstance(error, OSError) and not isinstance(error, gzip.BadGzipFile):
        return DataError(path, None, None, f"expected a readable file: {explain_os(error, path)}")
    return DataError(path, line, None, f"expected a sound archive, got: {error}")


def read_head(path: Path) -> Head:
    """Return the first bytes of a file, uncompressed.

    Raises
    ------
    DataError
        If it cannot be read or is empty.
    """
    try:
        with open_bytes(path) as stream:
            data = stream.read(HEAD_BYTES)
            member = getattr(stream, "name", "") if isinstance(stream, zipfile.ZipExtFile) else ""
    except READ_ERRORS as error:
        raise explain_read(path, 1, error) from error
    return Head(path, data, str(member))


# ---------------------------------------------------------------- rows


class RowBuilder:
    """Rows told one by one, as arrays: for formats that are read message by message.

    Stamps that fall are a fault: the row keeps its place and gets the stamp before it.
    """

    FIELDS = ("ts_ns", "exchange_ns", "id", "price", "qty", "kind", "market", "side", "flags")

    def __init__(self, findings: Findings) -> None:
        self._rows: list[tuple[int, ...]] = []
        self._findings = findings
        self._last_ns = 0

    def __len__(self) -> int:
        """Return how many rows wait."""
        return len(self._rows)

    def begin(self, path: Path, line: int, ts_ns: int, field: str = "local time") -> int:
        """Return the stamp to give the rows of a message that arrived at `ts_ns`."""
        if ts_ns < self._last_ns:
            error = DataError(path, line, field, f"expected {self._last_ns} ns or later, got {ts_ns} ns")
            self._findings.report("reversed_local", error)
            return self._last_ns
        self._last_ns = ts_ns
        return ts_ns

    def add(
        self,
        kind: int,
        market: int,
        ts_ns: int,
        exchange_ns: int,
        side: int = 0,
        price: int = 0,
        qty: int = 0,
        number: int = 0,
        flags: int = 0,
    ) -> None:
        """Append a row; `number` is its id."""
        self._rows.append((ts_ns, exchange_ns, number, price, qty, kind, market, side, flags))

    def add_levels(
        self,
        market: int,
        ts_ns: int,
        exchange_ns: int,
        levels: Iterable[tuple[int, int, int]],
        number: int = 0,
        flags: int = 0,
    ) -> None:
        """Append levels, (side, price, qty) each; `number` is the id of their update."""
        self._rows += [
            (ts_ns, exchange_ns, number, price, qty, ROW_LEVEL, market, side, flags) for side, price, qty in levels
        ]

    def end_message(self) -> None:
        """Mark the last row as the end of a book message; nothing where it is no level."""
        if self._rows and self._rows[-1][5] in (ROW_LEVEL, ROW_CLEAR):
            row = self._rows[-1]
            self._rows[-1] = (*row[:8], row[8] | ENDS_MESSAGE)

    def build(self) -> Records:
        """Return the rows so far and forget them."""
        rows = np.zeros(len(self._rows), RECORD)
        if self._rows:
            columns = np.array(self._rows, dtype=np.int64)
            for at, name in enumerate(self.FIELDS):
                rows[name] = columns[:, at]
        self._rows.clear()
        return rows


# ---------------------------------------------------------------- rows to commands


class Teller:
    """What a recording's rows become, in order of time; keeps every instrument's known levels (FEED-002, FEED-009).

    Parameters
    ----------
    instruments : Instruments
        May grow while rows come.

    Attributes
    ----------
    counts : array (instruments, len(COUNTS)) of int64
        What was seen, by instrument.
    """

    def __init__(self, instruments: Instruments) -> None:
        from engine.kernels import tape

        self._kernels: Any = tape
        self._instruments = instruments
        self._table = np.zeros(TABLE_LEAST, KNOWN_LEVEL)
        self._state = np.zeros(0, INSTRUMENT)
        self.counts = np.zeros((0, len(COUNTS)), np.int64)
        self._sizes = np.zeros(0, np.int64)
        self._starts = np.zeros(0, np.int64)
        self._rooms = np.zeros(0, np.int64)
        self._heaps = np.zeros(0, np.int64)
        self._fold_keys, self._fold_totals = np.zeros(ROOM_LEAST, np.int64), np.zeros(ROOM_LEAST, np.int64)
        self._numbers = np.zeros(tape.SELF_SIZE, np.int64)

    def tell(self, rows: Records) -> Commands:
        """Return the commands of rows; a message that goes on in the next rows waits for them."""
        rows = np.ascontiguousarray(rows)
        self._make_room(rows)
        # A row makes at most one command, and what it crosses or clears was known or is among the rows.
        out = np.empty(int(self._state["levels"].sum()) + 3 * len(rows) + 2 * self._folded + 8, COMMAND)
        count = self._kernels.tell_rows(rows, *self._arrays(), out)
        return out[:count]

    def finish(self) -> Commands:
        """Return the commands of the message that waited."""
        self._make_room(np.zeros(0, RECORD))  # instruments of which nothing could be told are counted too
        out = np.empty(2 * int(self._state["levels"].sum()) + 2 * self._folded + 8, COMMAND)
        self._numbers[self._kernels.OUT] = 0
        if self._folded:
            self._kernels.flush(*self._arrays(), out)
        return out[: self._numbers[self._kernels.OUT]]

    def known_levels(self, market: int) -> NDArray[np.int64]:
        """Return the known levels of an instrument: bids as their price, asks negated, best bid to best ask."""
        table = self._table
        found = table["key"][(table["market"] == market) & (table["is_known"] == 1) & (table["key"] != 0)]
        return np.sort(found)[::-1]

    def room(self) -> int:
        """Return how many levels and entries of heaps there is room for."""
        return len(self._table) + len(self._heaps)

    @property
    def _folded(self) -> int:
        """How many levels of the open message wait."""
        return int(self._numbers[self._kernels.FOLDED])

    def _arrays(self) -> tuple[NDArray[Any], ...]:
        counts = self.counts.reshape(-1)
        state = (self._table, self._heaps, self._sizes, self._starts, self._state, counts)
        return (*state, self._fold_keys, self._fold_totals, self._numbers)

    def _make_room(self, rows: Records) -> None:
        """Grow whatever these rows could fill."""
        if len(self._state) < len(self._instruments):
            self._add_instruments()
        more = np.zeros(len(self._state), np.int64)
        levels = self._kernels.count_levels(rows, more)
        folded = self._folded
        known = self._state["levels"]
        need = folded + levels + int(known.sum())
        if need > len(self._fold_keys):
            for name in ("_fold_keys", "_fold_totals"):
                grown = np.zeros(2 * need, np.int64)
                grown[:folded] = getattr(self, name)[:folded]
                setattr(self, name, grown)
        if self._folded:
            more[self._numbers[self._kernels.MARKET]] += folded
        room = np.repeat(more, 2)
        used = int(self._numbers[self._kernels.USED])
        if used + levels + folded > len(self._table) // 2 or np.any(self._sizes + room > self._rooms):
            self._move(room, levels + folded)

    def _move(self, room: NDArray[np.int64], rows: int) -> None:
        kept = np.repeat(self._state["levels"], 2)
        # Twice what is needed, so that moving costs a constant per row.
        rooms = 2 * (kept + room) + ROOM_LEAST
        starts = np.cumsum(rooms) - rooms
        heaps = np.zeros(int(rooms.sum()), np.int64)
        used = int(self._state["levels"].sum()) + self._folded
        size = TABLE_LEAST
        while size < 4 * (used + rows):
            size *= 2
        table = np.zeros(size, KNOWN_LEVEL)
        message = self._numbers[self._kernels.MESSAGE] if self._folded else -1
        self._kernels.move_levels(
            self._table, self._heaps, self._sizes, self._starts, table, heaps, starts, self._numbers, np.int64(message)
        )
        self._table, self._heaps, self._starts, self._rooms = table, heaps, starts, rooms

    def _add_instruments(self) -> None:
        count, before = len(self._instruments), len(self._state)
        state = np.zeros(count, INSTRUMENT)
        state[:before] = self._state
        for instrument in list(self._instruments)[before:]:
            state[instrument.index]["fine_per_tick"] = instrument.fine_per_tick
            state[instrument.index]["price_max_tick"] = instrument.price_max_tick
        self._state = state
        counts = np.zeros((count, len(COUNTS)), np.int64)
        counts[:before] = self.counts
        self.counts = counts
        for name in ("_sizes", "_starts", "_rooms"):
            grown = np.zeros(2 * count, np.int64)
            grown[: 2 * before] = getattr(self, name)
            setattr(self, name, grown)


# ---------------------------------------------------------------- the tape


class Tape:
    """Files of any formats as one tape.

    Parameters
    ----------
    files : sequence of TapeFile
        What is read.
    markets : sequence of Market
        The instruments, in index order; empty: whatever the files hold, in units of our own.
    skipped : sequence of (Path, str)
        What was found beside the files and is not read, with the reason.
    homes : mapping
        Market's symbol -> exchange its rows come from.
    indexes : mapping
        Market's symbol -> (exchange, symbol) of the instrument whose trades are its index price.
    is_strict : bool
        Whether the first fault is raised or all are counted.
    decimals : mapping
        Of instruments without a market (`Instruments`).

    Attributes
    ----------
    symbols : tuple of str
        The markets, in index order.
    counts : dict of str to int
        Of the last `chunks` call, growing while it runs: rows per kind of stream, book `messages`, `snapshots`,
        `crossed` messages, levels `beyond` the market's price_max and left out, `off_book` prints, `funding` stamps,
        `gap_max_ns` (the longest silence of all streams together), `gaps`, `resets`, `dropped` rows.
    liquidations : list of RECORD arrays
        Of the last call: the venue's liquidations, which are no commands (FEED-010).
    findings, instruments, teller
        Of the last call.
    """

    def __init__(
        self,
        files: Sequence[TapeFile],
        markets: Sequence[Market] = (),
        skipped: Sequence[tuple[Path, str]] = (),
        *,
        homes: dict[str, str] | None = None,
        indexes: dict[str, tuple[str, str]] | None = None,
        is_strict: bool = True,
        decimals: Decimals | None = None,
    ) -> None:
        self.files = tuple(sorted(files, key=lambda file: (file.rank, file.first_ns, str(file.path))))
        self.skipped = tuple(skipped)
        self.symbols = tuple(market.symbol for market in markets)
        self._markets, self._homes, self._indexes = tuple(markets), homes or {}, indexes or {}
        self._is_strict, self._decimals = is_strict, decimals
        self.counts: dict[str, int] = {}
        self.liquidations: list[Records] = []
        self._reset()

    def _reset(self) -> None:
        self.instruments = Instruments(
            self._markets, self._homes, tuple(dict.fromkeys(self._indexes.values())), self._decimals
        )
        self.findings = Findings(self._is_strict)
        self.liquidations = []
        self._told_sources: set[tuple[str, str]] = set()
        self.teller = Teller(self.instruments)
        self.counts = dict.fromkeys([file.kind for file in self.files], 0)
        self.counts |= dict.fromkeys((*COUNTS[:6], "gaps", "resets", "dropped", "gap_max_ns"), 0)

    def records(self) -> Iterator[Records]:
        """Yield RECORD arrays in order of time, streams at equal stamps in theirs (FEED-001)."""
        self._reset()
        chains: dict[tuple[str, str, str, str], list[TapeFile]] = {}
        for file in self.files:
            kind = "" if file.format.is_joint else file.kind
            chains.setdefault((file.format.name, kind, file.exchange, file.symbol), []).append(file)
        # Markets follow their index at equal stamps, so that the order of the tape does not hang on file names.
        order = {symbol: at for at, symbol in enumerate(self.symbols)}
        keys = sorted(chains, key=lambda key: (chains[key][0].rank, order.get(key[3], len(order)), key))
        streams = [chains[key][0].format.read(chains[key], self.instruments, self.findings) for key in keys]
        if len(keys) > 1:
            watch = OverlapWatch(self.instruments)
            streams = [watch.follow(chains[key], stream) for key, stream in zip(keys, streams, strict=True)]
        return self._watch_gaps(merge_streams(streams))

    def chunks(self, rows: int = 65_536) -> Iterator[Commands]:
        """Yield COMMAND arrays of `rows` records in order of time; every call reads the files anew."""
        return cut_chunks(self._commands(), rows)

    def _commands(self) -> Iterator[Commands]:
        for rows in self.records():
            told = rows["kind"] == ROW_LIQUIDATION
            if told.any():
                self.liquidations.append(rows[told])
            yield self.teller.tell(self._index_rows(rows) if self._indexes else rows)
            self._sum_counts()
        for name in self._indexes.values():
            if name not in self._told_sources:
                raise explain_absent(name, self.instruments.names)
        yield self.teller.finish()
        self._sum_counts()

    def _index_rows(self, rows: Records) -> Records:
        """Return rows with the trades of index sources as index prices, and nothing else of these sources."""
        count = len(self._markets)
        replaced = [self.symbols.index(symbol) for symbol in self._indexes]
        is_own = (rows["kind"] == ROW_INDEX) & np.isin(rows["market"], replaced)
        parts = [rows[(rows["market"] < count) & ~is_own]]
        for symbol, name in self._indexes.items():
            source, market = self.instruments.find(*name), self.symbols.index(symbol)
            if source is None:
                continue
            found = rows[(rows["market"] == source.index) & (rows["kind"] == ROW_TRADE)].copy()
            # both units are powers of ten; the index is rounded to the tick later (FEED-005)
            ratio = source.tick / self.instruments.rows[market].fine_unit
            scale = int(ratio) if ratio >= 1 else int(1 / ratio)
            found["price"] = found["price"] * scale if ratio >= 1 else (found["price"] + scale // 2) // scale
            found["kind"], found["market"], found["side"], found["flags"] = ROW_INDEX, market, 0, 0
            parts.append(found)
            if len(found):
                self._told_sources.add(name)
        joined = np.concatenate(parts)
        return joined[np.argsort(joined["ts_ns"], kind="stable")]

    def _sum_counts(self) -> None:
        totals = self.teller.counts.sum(axis=0).tolist()
        self.counts |= dict(zip(COUNTS[:6], totals[:6], strict=True))
        self.counts |= {name: self.findings.counts[name] for name in ("gaps", "resets")}
        self.counts |= self.findings.rows
        self.counts["dropped"] = self.findings.dropped.total()

    def _watch_gaps(self, blocks: Iterable[Records]) -> Iterator[Records]:
        last: int | None = None
        for block in blocks:
            ts_ns = block["ts_ns"]
            widest = int(np.diff(ts_ns).max(initial=0))
            if last is not None:
                widest = max(widest, int(ts_ns[0]) - last)
            self.counts["gap_max_ns"] = max(self.counts["gap_max_ns"], widest)
            last = int(ts_ns[-1])
            yield block


def name_kind(kind: int) -> str:
    """Return the name of a kind of row."""
    return ROW_NAMES[kind]
