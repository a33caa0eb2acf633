"""Delimited text as columns of integers: exact or refused, with file, line and field (FEED-003).

Shared by every reader of such text.  A block of a file is split into columns at once, because a look-up per row is all
that Python can afford; only when something in a block is wrong is it halved until the bad row stands alone.  With
polars installed `engine.feeds.frames` splits and counts, several times faster and to the same rows (FEED-060).
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from engine.errors import DataError, suggest
from engine.feeds.block import NS_PER_US, Block, FieldError, Parser, count_id, count_stamp, named, optional
from engine.feeds.instruments import Findings
from engine.feeds.tape import READ_ERRORS, Records, explain_read, open_bytes

__all__ = [
    "NS_PER_US",
    "Block",
    "FieldError",
    "Parser",
    "Stamps",
    "convert_block",
    "count_id",
    "count_stamp",
    "explain_symbol",
    "named",
    "optional",
    "read_blocks",
    "read_columns",
    "read_plainly",
    "read_texts",
    "unknown_symbol",
]

BLOCK_BYTES = 1 << 21
_is_plain = False  # whether polars is left alone


# ---------------------------------------------------------------- files to blocks


def read_blocks(
    path: Path, block_bytes: int = BLOCK_BYTES, *, counted: list[int] | None = None
) -> Generator[tuple[int, bytes], None, None]:
    """Yield (number of the first line, whole lines without the last one's end) of an ASCII file, compressed or plain.

    Parameters
    ----------
    counted : list of int
        Who has found out how many lines it got puts that here, and they are not counted again.

    Raises
    ------
    DataError
        Missing file, damaged or truncated archive, text that is not ASCII, a line longer than a block.
    """
    line, rest = 1, b""
    try:
        with open_bytes(path) as stream:
            while block := stream.read(block_bytes):
                end = block.rfind(b"\n")
                if end >= 0:
                    head = b"".join((rest, memoryview(block)[:end]))
                    rest = block[end + 1 :]
                    yield line, _clean(path, line, head)
                    line += counted.pop() if counted else _count_lines(head)
                    continue
                rest += block
                if len(rest) > (most := max(block_bytes, BLOCK_BYTES)):
                    raise DataError(path, line, None, f"expected lines of text, got one of more than {most} bytes")
        if rest:
            yield line, _clean(path, line, rest)
    except READ_ERRORS as error:
        raise explain_read(path, line, error) from error


def read_texts(path: Path, block_bytes: int = BLOCK_BYTES) -> Iterator[tuple[int, str]]:
    """Yield what `read_blocks` does as text."""
    for line, data in read_blocks(path, block_bytes):
        yield line, data.decode("ascii")


def _clean(path: Path, line: int, data: bytes) -> bytes:
    if not data.isascii():
        raise DataError(path, line, None, "expected ASCII text in this line or a later one")
    return data.replace(b"\r", b"") if b"\r" in data else data


def _count_lines(data: bytes) -> int:
    return int(np.count_nonzero(np.frombuffer(data, np.uint8) == ord("\n"))) + 1


def read_columns(
    path: Path,
    columns: Sequence[str],
    findings: Findings,
    *,
    header_lines: int = 1,
    delimiter: str = ",",
    stamps: Sequence[str] = (),
) -> Iterator[Block]:
    """Yield a delimited text file as blocks; a line with another number of fields is a fault and left out.

    Parameters
    ----------
    columns : sequence of str
        Their names, in the order of the file.
    header_lines : int
        Lines before the first row.
    stamps : sequence of str
        Columns of which only `stamps` is asked, and which are never empty: a hint, they are read faster.

    Source: FEED-060.
    """
    frames = find_frames()
    counted: list[int] = []
    for line, data in read_blocks(path, counted=counted):
        first, body = line, data
        for _ in range(min(max(header_lines + 1 - line, 0), _count_lines(data) if line <= header_lines else 0)):
            body = body.partition(b"\n")[2]
            first += 1
        if first <= header_lines or (not body and first > line):
            continue
        block = frames.split_frame(first, body, columns, delimiter, stamps) if frames else None
        if block is not None:
            counted.append(first - line + len(block))
            yield block
        else:
            yield from _split(path, first, body.decode("ascii"), columns, delimiter, findings)


@contextmanager
def read_plainly() -> Iterator[None]:
    """Read as if polars were not installed."""
    global _is_plain
    before, _is_plain = _is_plain, True
    try:
        yield
    finally:
        _is_plain = before


def find_frames() -> Any:
    """Return the module that reads blocks with polars, or None where polars is not installed."""
    if _is_plain:
        return None
    try:
        from engine.feeds import frames
    except ImportError:
        return None
    return frames


def _split(
    path: Path, first: int, text: str, names: Sequence[str], delimiter: str, findings: Findings
) -> Iterator[Block]:
    lines = text.split("\n")
    wanted = len(names) - 1
    found = [line.count(delimiter) for line in lines]
    if found.count(wanted) == len(lines):
        flat = text.replace("\n", delimiter).split(delimiter)
        yield Block(first, {name: flat[at :: len(names)] for at, name in enumerate(names)})
        return
    start = 0
    for at, count in chain(enumerate(found), [(len(lines), -1)]):
        if count == wanted:
            continue
        if start < at:
            rows = [line.split(delimiter) for line in lines[start:at]]
            yield Block(first + start, dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))
        if at < len(lines):
            error = DataError(path, first + at, None, f"expected {len(names)} fields, got {count + 1}")
            findings.drop("fields", error)
        start = at + 1


# ---------------------------------------------------------------- blocks to rows


class Stamps:
    """Arrival stamps that never fall; one that does is a fault and becomes the one before it.

    Parameters
    ----------
    field : str
        The column's name, for the message.
    ns_per_unit : int
        Of the column.
    """

    def __init__(self, field: str, ns_per_unit: int = NS_PER_US) -> None:
        self.field, self.ns_per_unit, self.last_ns = field, ns_per_unit, 0

    def settle(self, path: Path, block: Block, rows: Records, findings: Findings) -> Records:
        """Return a block's rows, whose `ts_ns` are those of the column, in order of time."""
        if not len(rows):
            return rows
        stamps = rows["ts_ns"]
        if stamps[0] < self.last_ns or np.any(stamps[1:] < stamps[:-1]):
            column = block.stamps(self.field, self.ns_per_unit)
            before = np.maximum.accumulate(np.concatenate([[self.last_ns], column]))[:-1]
            for at in np.flatnonzero(column < before).tolist():
                wanted, got = (int(array[at]) // self.ns_per_unit for array in (before, column))
                error = DataError(path, block.first_line + at, self.field, f"expected {wanted} or later, got {got}")
                findings.report("reversed_local", error)
            rows["ts_ns"] = np.maximum(np.maximum.accumulate(stamps), self.last_ns)
        self.last_ns = int(rows["ts_ns"][-1])
        return rows


def convert_block(
    path: Path, block: Block, convert: Callable[[Block], Records], findings: Findings
) -> Iterator[tuple[Block, Records]]:
    """Yield a block's rows; where one cannot be read it is left out, the others are kept.

    Parameters
    ----------
    convert : function of Block
        Returns its rows, or raises FieldError; must not change anything before it succeeds.
    """
    try:
        yield block, convert(block)
        return
    except FieldError as error:
        if len(block) == 1:
            findings.drop(error.reason, DataError(path, block.first_line, error.field, str(error)))
            return
    half = len(block) // 2
    yield from convert_block(path, block.take(0, half), convert, findings)
    yield from convert_block(path, block.take(half, len(block)), convert, findings)


def explain_symbol(symbol: str, known: Iterable[str]) -> str:
    """Return what is wrong with a symbol that is no configured market, and what to do."""
    names = list(known)
    step = suggest(symbol, names) or "; add a --market file of this symbol, or name fewer files"
    return f"expected a configured market ({', '.join(names)}), got {symbol!r}{step}"


def unknown_symbol(path: Path, line: int, symbol: str, known: Iterable[str]) -> DataError:
    """Return the error of a row whose symbol is no configured market."""
    return DataError(path, line, "symbol", explain_symbol(symbol, known))
