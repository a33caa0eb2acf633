"""Blocks of delimited text read by polars: the same integers and faults as `engine.feeds.block`, faster (FEED-060).

Polars is lenient where we are not: it takes `+5` or ` 5` for a number, rounds decimals, fills in what a short line
leaves out.  Hence two proofs.  A block counts as split only if its columns, written out again, would have its length:
whatever was lenient about a line makes it longer or shorter.  Words that all lines begin with, such as the symbol, are
not split at all: they must stand where the lengths say that each line begins.  A decimal counts as so many units only
if these units, divided out, are the same double; any other text is asked of the unit itself, digit by digit.
"""

from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any

import numpy as np
import polars
from numpy.typing import NDArray

from engine._jit import kernel
from engine.feeds.block import NS_PER_US, STAMP_MAX, Block, Ints, Parser
from engine.feeds.doubles import count_decimals
from engine.feeds.instruments import UnitCache

# Decimals of so many digits are all different doubles, and so are whole numbers below.
DIGITS = 15
# Powers of ten up to here are doubles, so that dividing by them rounds once.
PLACES_MAX = 22
ID_DIGITS = 18
SAMPLES = 16  # lines that say which texts all may begin with
SHORT = 512  # rows: below, asking polars takes longer than Python


def split_frame(first_line: int, data: bytes, names: Sequence[str], delimiter: str, stamps: Sequence[str]) -> Any:
    """Return lines as a block, or None where one of them may be wrong and is to be looked at one by one.

    Parameters
    ----------
    data : bytes
        ASCII, whole lines without the last one's end.
    stamps : sequence of str
        Columns of whole numbers.
    """
    heads = _find_heads(data, names, delimiter, stamps)
    block = _split_after(heads, first_line, data, names, delimiter, stamps)
    return block if block is not None or not heads else _split_after([], first_line, data, names, delimiter, stamps)


def _find_heads(data: bytes, names: Sequence[str], delimiter: str, stamps: Sequence[str]) -> list[str]:
    """Return the texts that all lines seem to begin with, by some of them; those of stamps among them may differ."""
    places = range(0, len(data), len(data) // SAMPLES + 1)
    ends = [(data.rfind(b"\n", 0, at) + 1, data.find(b"\n", at)) for at in places]
    lines = [data[start : end if end >= 0 else None].decode("ascii").split(delimiter) for start, end in ends]
    columns = zip(names[:-1], zip(*lines, strict=False), strict=False)  # one column is left for polars
    heads = [texts[0] for _, texts in takewhile(lambda pair: pair[0] in stamps or len(set(pair[1])) == 1, columns)]
    while heads and names[len(heads) - 1] in stamps:
        heads.pop()
    return heads


def _split_after(
    heads: Sequence[str],
    first_line: int,
    data: bytes,
    names: Sequence[str],
    delimiter: str,
    stamps: Sequence[str],
) -> "FrameBlock | None":
    """Return lines as a block; None where one may be wrong, or begins with other texts than `heads`."""
    schema = {name: polars.Int64 if name in stamps else polars.String for name in names}
    words = {name: head for name, head in zip(names, heads, strict=False) if name not in stamps}
    try:
        frame = polars.read_csv(
            data,
            has_header=False,
            separator=delimiter,
            quote_char=None,
            schema=schema,
            columns=[at for at, name in enumerate(names) if name not in words],
            empty_string_is_null=False,
        )
    except polars.exceptions.PolarsError:
        return None
    if not len(frame) or any(column.null_count() for column in frame):
        return None
    fixed = len(names) + sum(map(len, words.values()))  # bytes that every line has, its end among them
    varied = []
    for column in frame:
        name = column.name
        if name in stamps:
            least, most = _find_bounds(column)
            if least <= 0 or len(str(least)) != len(str(most)):
                return None
            fixed += len(str(most))
        elif (word := column[0]) == column[-1] and (column == word).all():
            words[name] = word
            fixed += len(word)
        else:
            varied.append(name)
    lengths = frame.select(polars.col(varied).str.len_bytes())
    line_bytes = np.full(len(frame), fixed, np.uint32)
    for column in lengths:
        line_bytes += column.to_numpy()
    # A line that is too short ends in an empty text; with none of these, every other liberty makes the lines longer.
    last = names[-1]
    is_short = not words.get(last, True) or (last in varied and not lengths[last].min())
    if is_short or int(line_bytes.sum()) != len(data) + 1:
        return None
    if heads and not _begin_with(heads, data, line_bytes, names, delimiter, stamps):
        return None
    return FrameBlock(first_line, names, frame, lengths, words)


def _begin_with(
    heads: Sequence[str],
    data: bytes,
    line_bytes: NDArray[np.uint32],
    names: Sequence[str],
    delimiter: str,
    stamps: Sequence[str],
) -> bool:
    """Return whether all lines, of that many bytes, begin with the texts `heads`; those of stamps may differ."""
    pieces, are_asked = ["\n"], [True]
    for name, head in zip(names, heads, strict=False):
        pieces += [head, delimiter]
        are_asked += [name not in stamps, True]
    begin = np.frombuffer("".join(pieces).encode(), np.uint8)
    are_alike: bool = begin_alike(
        np.frombuffer(data, np.uint8), line_bytes, begin, np.repeat(are_asked, list(map(len, pieces)))
    )
    return are_alike


@kernel
def begin_alike(
    data: NDArray[np.uint8], line_bytes: NDArray[np.uint32], begin: NDArray[np.uint8], are_asked: NDArray[np.bool_]
) -> bool:
    """Return whether every line but the first begins with the same bytes.

    Parameters
    ----------
    data : array of uint8
        The lines, without the end of the last one.
    line_bytes : array of uint32
        What each of them should have, with its end.
    begin : array of uint8
        An end, and how a line begins.
    are_asked : array of bool
        Which of these are asked for.
    """
    at = np.int64(-1)
    for row in range(len(line_bytes) - 1):
        at += line_bytes[row]
        if at + len(begin) > len(data):
            return False
        found, differing = data[at : at + len(begin)], np.int64(0)
        for place in range(len(begin)):
            differing += (found[place] != begin[place]) & are_asked[place]
        if differing:
            return False
    return True


def _find_bounds(column: polars.Series) -> tuple[int, int]:
    """Return the least and the most of whole numbers; 0 where there are none."""
    least: Any = column.min()
    most: Any = column.max()
    return least or 0, most or 0


class FrameBlock(Block):
    """The same as `Block` over a polars frame.

    Parameters
    ----------
    names : sequence of str
        All columns.
    frame : polars.DataFrame
        Columns of text, and of whole numbers without leading zeros; of one word over and over they may be missing.
    lengths : polars.DataFrame
        Of each column of texts that differ, in bytes.
    words : mapping of str to str
        The columns of one text over and over, with the text.
    """

    def __init__(
        self,
        first_line: int,
        names: Sequence[str],
        frame: polars.DataFrame,
        lengths: polars.DataFrame,
        words: Mapping[str, str],
    ) -> None:
        self.first_line, self._names, self._frame, self._lengths, self._words = first_line, names, frame, lengths, words
        self._count = len(frame)
        self._plain: Block | None = None

    @property
    def names(self) -> Sequence[str]:
        """The columns."""
        return tuple(self._names)

    def take(self, start: int, stop: int) -> Block:
        """Return some of the rows."""
        if stop - start > SHORT:
            frame, lengths = self._frame[start:stop], self._lengths[start:stop]
            return FrameBlock(self.first_line + start, self._names, frame, lengths, self._words)
        if self._plain is None:
            self._plain = Block(self.first_line, {name: self.texts(name) for name in self.names})
        return self._plain.take(start, stop)

    def texts(self, name: str) -> Sequence[str]:
        """Return a column as it stands."""
        if name in self._words:
            return [self._words[name]] * len(self)
        texts: list[str] = self._frame[name].cast(polars.String).to_list()
        return texts

    def unique(self, name: str) -> set[str]:
        """Return the texts a column holds."""
        return {self._words[name]} if name in self._words else set(self._frame[name].unique().to_list())

    def map(self, name: str, parse: Parser) -> list[Any]:
        """Return a column read text by text."""
        return self._one_word(name).map(name, parse) * len(self) if name in self._words else super().map(name, parse)

    def count(self, name: str, units: UnitCache, *, may_be_empty: bool = False) -> Ints:
        """Return a column of decimals in units; an empty text is 0 where it may be.

        A text of at most 15 bytes has at most 15 digits; two different decimals of so few are different doubles,
        unless too small to be normal ones.  So a count is right if its decimal has no more digits and is the same
        double: `counts * step` is whole and below 10**15, `10**places` a power that is a double itself, and their
        quotient, rounded once, the double nearest to the decimal.  Only of 0 that says nothing, which is the double of
        1e-999 too: there the texts are looked at.
        """
        step, places = units.step, units.places
        if name in self._words:
            return np.repeat(self._one_word(name).count(name, units, may_be_empty=may_be_empty), len(self))
        if places > PLACES_MAX:
            return super().count(name, units, may_be_empty=may_be_empty)
        column = self._frame[name]
        numbers = column.cast(polars.Float64, strict=False).to_numpy(writable=True)  # nan where it is none
        are_zero = np.zeros(len(self), np.bool_)
        if units.least == 0 and len(zeros := np.flatnonzero(numbers == 0)):
            word = column[int(zeros[0])]
            if not word.strip("0."):
                are_zero = (column == word).to_numpy()
        told: Ints = np.empty(len(self), np.int64)
        least, most = np.int64(max(units.least, 1)), np.int64(min(units.most, (10**DIGITS - 1) // step))
        lengths = self._lengths[name].to_numpy(writable=True)
        with np.errstate(over="ignore", invalid="ignore"):
            unproven = count_decimals(
                numbers, lengths, are_zero, float(step), 10.0**places, least, most, np.int64(DIGITS), told
            )
        if unproven:
            left = np.flatnonzero(told < 0)
            rest = Block(self.first_line, {name: column[left].to_list()})
            told[left] = rest.count(name, units, may_be_empty=may_be_empty)
        return told

    def choose(self, name: str, table: Mapping[str, int]) -> Ints:
        """Return a column of words as the numbers a table gives them."""
        if name in self._words:
            return np.repeat(self._one_word(name).choose(name, table), len(self))
        column = self._frame[name]
        told, found = np.zeros(len(self), np.int64), 0
        for word, number in table.items():
            here: NDArray[np.bool_] = (column == word).to_numpy()
            told += here * np.int64(number)
            found += int(np.count_nonzero(here))
            if found == len(self):
                return told
        return super().choose(name, table)

    def _one_word(self, name: str) -> Block:
        """Return the first row of a column that holds one text over and over."""
        return Block(self.first_line, {name: [self._words[name]]})

    def ids(self, name: str) -> Ints:
        """Return a column of ids as positive numbers (`number_id`)."""
        if name in self._words:
            return np.repeat(self._one_word(name).ids(name), len(self))
        column = self._frame[name]
        if not column.str.contains(f"^[0-9]{{1,{ID_DIGITS}}}$").all():
            return super().ids(name)
        told: Ints = column.cast(polars.Int64).to_numpy(writable=True)
        return told

    def stamps(self, name: str, ns_per_unit: int = NS_PER_US) -> Ints:
        """Return a column of stamps in ns since the epoch."""
        if name in self._words:
            return np.repeat(self._one_word(name).stamps(name, ns_per_unit), len(self))
        column = self._frame[name]
        if column.dtype != polars.Int64 or _find_bounds(column)[1] > STAMP_MAX // ns_per_unit:
            return super().stamps(name, ns_per_unit)
        told: Ints = column.to_numpy() * ns_per_unit
        return told
