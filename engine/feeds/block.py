"""A block of delimited text: consecutive rows of a file as columns, counted exactly or refused (FEED-003)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.feeds.instruments import UnitCache, number_id

Parser = Callable[[str], Any]
Ints = NDArray[np.int64]

STAMP_MAX = (1 << 63) - 1
NS_PER_US = 1000
UNIT_NAMES = {1: "nanoseconds", 1000: "microseconds", 1_000_000: "milliseconds", 1_000_000_000: "seconds"}


class FieldError(ValueError):
    """A text that cannot be read, with the name of its column."""

    def __init__(self, field: str, expected: str, reason: str = "") -> None:
        super().__init__(expected)
        self.field, self.reason = field, reason or f"bad {field}"


def count_stamp(text: str, ns_per_unit: int = NS_PER_US) -> int:
    """Return a stamp since the epoch, in units of `ns_per_unit`."""
    if not (text.isascii() and text.isdigit()) or int(text) > STAMP_MAX // ns_per_unit:
        raise ValueError(f"expected {UNIT_NAMES[ns_per_unit]} since 1970, got {text!r}")
    return int(text)


def count_id(text: str) -> int:
    """Return a number that names something, within 64 bits; some venues have negative ones."""
    number = int(text)
    if abs(number) >> 63:
        raise ValueError(f"expected an id within 64 bits, got {text!r}")
    return number


def count_stamps(texts: Sequence[str], ns_per_unit: int = NS_PER_US) -> Ints:
    """Return a column of stamps in their unit; ValueError where one is none."""
    joined = "".join(texts)
    if not joined.isdigit():
        raise ValueError("a stamp is not a number")
    digits = len(texts[0])
    limit = str(STAMP_MAX // ns_per_unit)
    if set(map(len, texts)) == {digits} and (digits, max(texts)) <= (len(limit), limit):
        places = np.frombuffer(joined.encode("ascii"), dtype=np.uint8).reshape(-1, digits) - np.uint8(ord("0"))
        powers = 10 ** np.arange(digits - 1, -1, -1, dtype=np.int64)
        return places @ powers
    return np.array([count_stamp(text, ns_per_unit) for text in texts], dtype=np.int64)


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


class Block:
    """Consecutive rows of a file as columns of text.

    Parameters
    ----------
    first_line : int
        Of the file; the rows stand on consecutive lines.
    texts : mapping of str to sequence of str
        Columns of equal length, at least 1.
    """

    def __init__(self, first_line: int, texts: Mapping[str, Sequence[str]]) -> None:
        self.first_line, self._texts = first_line, texts
        self._count = len(next(iter(texts.values())))

    def __len__(self) -> int:
        """Return the number of rows."""
        return self._count

    @property
    def names(self) -> Sequence[str]:
        """The columns."""
        return tuple(self._texts)

    def take(self, start: int, stop: int) -> "Block":
        """Return some of the rows."""
        return Block(self.first_line + start, {name: texts[start:stop] for name, texts in self._texts.items()})

    def texts(self, name: str) -> Sequence[str]:
        """Return a column as it stands."""
        return self._texts[name]

    def unique(self, name: str) -> set[str]:
        """Return the texts a column holds."""
        return set(self._texts[name])

    def map(self, name: str, parse: Parser) -> list[Any]:
        """Return a column read text by text.

        Raises
        ------
        FieldError
            If `parse` raises ValueError, ArithmeticError or KeyError for one of them.
        """
        try:
            return list(map(parse, self.texts(name)))
        except (ValueError, ArithmeticError, KeyError) as error:
            raise FieldError(name, str(error)) from error

    def count(self, name: str, units: UnitCache, *, may_be_empty: bool = False) -> Ints:
        """Return a column of decimals in units; an empty text is 0 where it may be."""
        parse = units.__getitem__ if not may_be_empty else lambda text: units[text] if text else 0
        return np.array(self.map(name, parse), dtype=np.int64)

    def choose(self, name: str, table: Mapping[str, int]) -> Ints:
        """Return a column of words as the numbers a table gives them."""
        try:
            return np.array(list(map(table.__getitem__, self.texts(name))), dtype=np.int64)
        except KeyError:
            return np.array(self.map(name, named(table)), dtype=np.int64)

    def ids(self, name: str) -> Ints:
        """Return a column of ids as positive numbers (`number_id`)."""
        return np.array(self.map(name, number_id), dtype=np.int64)

    def stamps(self, name: str, ns_per_unit: int = NS_PER_US) -> Ints:
        """Return a column of stamps in ns since the epoch."""
        try:
            return count_stamps(self.texts(name), ns_per_unit) * ns_per_unit
        except ValueError:
            return np.array(self.map(name, lambda text: count_stamp(text, ns_per_unit)), dtype=np.int64) * ns_per_unit
