"""Delimited text as columns of integers: exact or refused, with file, line and field (FEED-003).

Shared by every reader of text.  A block of a file is split into columns at once, because a look-up per row is all that
Python can afford; only when something in a block is wrong is it read again row by row, to name the first bad one.
"""

import gzip
import zlib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from decimal import ROUND_HALF_EVEN, Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from engine.codes import PPB
from engine.contract import DEFAULT_PRICE_MAX_TICK, Market
from engine.errors import DataError
from engine.units import count_units, parse_decimal

Parser = Callable[[str], Any]

BLOCK_BYTES = 1 << 19
CACHE_MAX = 1 << 18  # texts remembered per market and column; more would only cost memory
QTY_MAX_LOT = 1 << 40  # what a level or a print may hold (OUT-002, OUT-004)
PRICE_ANY = 1 << 62
STAMP_MAX_US = (1 << 63) // 1000 - 1
STAMP_DIGITS = 16  # of a stamp in us between 2001 and 2286
NS_PER_US = 1000


def count_text(text: str, unit: Decimal) -> int:
    """Return how many `unit` the decimal `text` is, exactly.

    Raises
    ------
    ValueError
        If it is not a decimal number, negative, or not a multiple.
    """
    whole, _, fraction = text.partition(".")
    _, step, exponent = unit.as_tuple()
    if (whole + fraction).isdigit() and len(step) == 1 and isinstance(exponent, int) and exponent <= 0:
        fraction = fraction.rstrip("0")
        if len(fraction) <= -exponent:
            scaled: int = int(whole + fraction) * 10 ** (-exponent - len(fraction))
            if scaled % step[0] == 0:
                return scaled // step[0]
    number = parse_decimal(text)
    if number < 0:
        raise ValueError(f"expected a number that is not negative, got {text}")
    try:
        return count_units(number, unit, "value")
    except (ArithmeticError, ValueError) as error:
        raise ValueError(f"expected a multiple of {unit}, got {text}") from error


class UnitCache(dict[str, int]):
    """Decimal texts of one column with their counts; prices and sizes repeat, so most rows cost one look-up."""

    def __init__(self, unit: Decimal, least: int, most: int) -> None:
        super().__init__()
        self.unit, self.least, self.most = unit, least, most

    def __missing__(self, text: str) -> int:
        """Count a text met for the first time.

        Raises
        ------
        ValueError
            If it is no exact count of units, or out of range.
        """
        count = count_text(text, self.unit)
        if not self.least <= count <= self.most:
            raise ValueError(f"expected {self.least * self.unit} to {self.most * self.unit}, got {text}")
        if len(self) >= CACHE_MAX:
            self.clear()
        self[text] = count
        return count


class MarketUnits:
    """How the texts of one market become integers."""

    def __init__(self, index: int, market: Market) -> None:
        self.index, self.symbol, self.tick = index, market.symbol, market.tick_size
        most = DEFAULT_PRICE_MAX_TICK if market.price_max is None else int(market.price_max / market.tick_size)
        self.price_max_tick = most
        self.prices = UnitCache(market.tick_size, 1, most)
        self.levels = UnitCache(market.tick_size, 1, PRICE_ANY)  # of a book; who reads them drops what is beyond `most`
        self.totals = UnitCache(market.lot_size, 0, QTY_MAX_LOT)
        self.trades = UnitCache(market.lot_size, 1, QTY_MAX_LOT)

    def round_price(self, text: str) -> int:
        """Return a mark or index price in ticks, half-even; 0 where the text is empty (FEED-005).

        A venue computes its mark far finer than a tick, so the tick is a display of it, unlike a price at which
        somebody traded.
        """
        if not text:
            return 0
        count = int((parse_decimal(text) / self.tick).to_integral_value(ROUND_HALF_EVEN))
        if not 1 <= count <= self.price_max_tick:
            raise ValueError(f"expected {self.tick} to {self.price_max_tick * self.tick}, got {text}")
        return count


def count_stamp(text: str) -> int:
    """Return a stamp in us since the epoch."""
    if not text.isdigit() or int(text) > STAMP_MAX_US:
        raise ValueError(f"expected microseconds since 1970, got {text!r}")
    return int(text)


def count_stamps(texts: Sequence[str]) -> NDArray[np.int64]:
    """Return a column of stamps in us since the epoch; ValueError where one is none."""
    joined = "".join(texts)
    if not joined.isdigit():
        raise ValueError("a stamp is not a number")
    if set(map(len, texts)) == {STAMP_DIGITS}:
        digits = np.frombuffer(joined.encode("ascii"), dtype=np.uint8).reshape(-1, STAMP_DIGITS) - np.uint8(ord("0"))
        powers = 10 ** np.arange(STAMP_DIGITS - 1, -1, -1, dtype=np.int64)
        return digits @ powers
    return np.array([count_stamp(text) for text in texts], dtype=np.int64)


def count_rate(text: str) -> int:
    """Return a funding rate in parts per 10**9, half-even; an empty text is 0."""
    if not text:
        return 0
    rate = (parse_decimal(text) * PPB).to_integral_value(ROUND_HALF_EVEN)
    if abs(rate) > PPB:
        raise ValueError(f"expected a rate within -1 to 1, got {text}")
    return int(rate)


def named(table: Mapping[str, Any]) -> Parser:
    """Return a parser that looks a word up, and names the known words where it is none of them."""

    def parse(text: str) -> Any:
        if text not in table:
            raise ValueError(f"expected {' or '.join(table)}, got {text!r}")
        return table[text]

    return parse


def optional(parse: Parser) -> Parser:
    """Return a parser that reads an empty text as 0."""
    return lambda text: parse(text) if text else 0


# ---------------------------------------------------------------- files to columns


def _open_bytes(path: Path) -> BinaryIO:
    with path.open("rb") as raw:
        magic = raw.read(2)
    # Whether a file is compressed is decided by its first bytes; names lie.
    return cast(BinaryIO, gzip.open(path, "rb")) if magic == b"\x1f\x8b" else path.open("rb")


def read_blocks(path: Path, block_bytes: int = BLOCK_BYTES) -> Generator[tuple[int, str], None, None]:
    """Yield (number of the first line, whole lines without the last one's end) of a text file, gzip or plain.

    Raises
    ------
    DataError
        Missing file, damaged or truncated gzip, text that is not ASCII, a line longer than a block.
    """
    line, rest = 1, b""
    try:
        with _open_bytes(path) as stream:
            while block := stream.read(block_bytes):
                head, found, rest = (rest + block).rpartition(b"\n")
                if found:
                    text = head.replace(b"\r", b"").decode("ascii")
                    yield line, text
                    line += text.count("\n") + 1
                elif len(rest) > BLOCK_BYTES:
                    raise DataError(
                        path, line, None, f"expected lines of text, got one of more than {BLOCK_BYTES} bytes"
                    )
        if rest:
            yield line, rest.replace(b"\r", b"").decode("ascii")
    except UnicodeDecodeError as error:
        raise DataError(path, line, None, "expected ASCII text in this line or a later one") from error
    except EOFError as error:
        raise DataError(path, line, None, "expected a complete gzip file, it ends early after this line") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(path, line, None, f"expected a sound gzip file, got: {error}") from error
    except OSError as error:
        raise DataError(path, None, None, f"expected a readable file: {error.strerror or error}") from error


class TapeFile(NamedTuple):
    """One CSV file of a known kind, its header checked and its first row read."""

    path: Path
    kind: str
    exchange: str
    symbol: str
    first_us: int
    columns: tuple[str, ...]


class Rows(NamedTuple):
    """Consecutive rows of one market in one file, as columns of text."""

    units: MarketUnits
    columns: Mapping[str, Sequence[str]]
    stamps: NDArray[np.int64]  # local_timestamp in us, never falling


class Table:
    """One file, block by block, with the checks every kind shares.

    Parameters
    ----------
    file : TapeFile
        Its columns must hold exchange, symbol and local_timestamp.
    markets : mapping of symbol to MarketUnits
        Rows of any other symbol are refused.
    parsers : function of MarketUnits
        Returns how each other column in use is read; consulted only to name what is wrong.
    last_us : int
        The stamp no row may lie before.
    """

    def __init__(
        self,
        file: TapeFile,
        markets: Mapping[str, MarketUnits],
        parsers: Callable[[MarketUnits], Mapping[str, Parser]],
        last_us: int = 0,
    ) -> None:
        self.file, self.markets, self.parsers, self.last_us = file, markets, parsers, last_us
        self._first_line, self._text = 1, ""
        self._start_us = last_us  # where the current block began, for the second reading

    def rows(self) -> Iterator[Rows]:
        """Yield the rows as runs of one market.

        Raises
        ------
        DataError
            Wrong number of fields, another exchange or symbol, a bad or falling stamp.
        """
        for line, block in read_blocks(self.file.path):
            self._first_line, self._text = line, block
            if line == 1:
                self._first_line, self._text = 2, block.partition("\n")[2]
            if self._text:
                yield from self._split()

    def _split(self) -> Iterator[Rows]:
        names, count = self.file.columns, self._text.count("\n") + 1
        self._start_us = self.last_us
        flat = self._text.replace("\n", ",").split(",")
        columns = {name: flat[index :: len(names)] for index, name in enumerate(names)}
        symbols = columns["symbol"]
        # A field too many in one row and one too few in the next would still add up, but not leave a known exchange
        # and symbol in every row.
        if (
            len(flat) != count * len(names)
            or set(columns["exchange"]) != {self.file.exchange}
            or not set(symbols) <= self.markets.keys()
        ):
            raise self.explain()
        try:
            stamps = count_stamps(columns["local_timestamp"])
        except ValueError as error:
            raise self.explain() from error
        if stamps[0] < self.last_us or np.any(stamps[1:] < stamps[:-1]):
            raise self.explain()
        cuts = [0, count]
        if len(set(symbols)) > 1:
            cuts[1:1] = [row for row in range(1, count) if symbols[row] != symbols[row - 1]]
        for start, stop in pairwise(cuts):
            part = columns if len(cuts) == 2 else {name: texts[start:stop] for name, texts in columns.items()}
            yield Rows(self.markets[symbols[start]], part, stamps[start:stop])
        self.last_us = int(stamps[-1])

    def explain(self) -> DataError:
        """Return the error of the first bad row of the current block, found by reading it row by row."""
        last, path, names = self._start_us, self.file.path, self.file.columns
        for line, text in enumerate(self._text.split("\n"), self._first_line):
            fields = text.split(",")
            if len(fields) != len(names):
                return DataError(path, line, None, f"expected {len(names)} fields, got {len(fields)}")
            row = dict(zip(names, fields, strict=True))
            if row["exchange"] != self.file.exchange:
                return DataError(path, line, "exchange", f"expected {self.file.exchange}, got {row['exchange']!r}")
            if row["symbol"] not in self.markets:
                return unknown_symbol(path, line, row["symbol"], self.markets)
            parsers = {"local_timestamp": count_stamp, **self.parsers(self.markets[row["symbol"]])}
            for name, parse in parsers.items():
                try:
                    parse(row[name])
                except (ValueError, ArithmeticError) as error:
                    return DataError(path, line, name, str(error))
            stamp = int(row["local_timestamp"])
            if stamp < last:
                return DataError(path, line, "local_timestamp", f"expected {last} or later, got {stamp}")
            last = stamp
        return DataError(path, self._first_line, None, "expected readable rows in the block that starts here")


def unknown_symbol(path: Path, line: int, symbol: str, known: Mapping[str, Any] | Sequence[str]) -> DataError:
    """Return the error of a row whose symbol is no configured market."""
    return DataError(path, line, "symbol", f"expected a configured market ({', '.join(known)}), got {symbol!r}")
