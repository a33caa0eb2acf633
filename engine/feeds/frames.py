"""Blocks of delimited text read by polars: the same integers and faults as `engine.feeds.block`, faster (FEED-060).

Polars is lenient where we are not: it takes `+5` or ` 5` for a number, rounds decimals, fills in what a short line
leaves out.  Hence two proofs.  A block counts as split only if its columns, written out again, would have its length:
whatever was lenient about a line makes it longer or shorter.  A decimal counts as so many units only if these units,
divided out, are the same double; any other text is asked of the unit itself, digit by digit.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars
from numpy.typing import NDArray

from engine.feeds.block import NS_PER_US, STAMP_MAX, Block, Ints
from engine.feeds.instruments import UnitCache

# Decimals of so many digits are all different doubles, and so are whole numbers below.
DIGITS = 15
# Powers of ten up to here are doubles, so that dividing by them rounds once.
PLACES_MAX = 22
ID_DIGITS = 18
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
    schema = {name: polars.Int64 if name in stamps else polars.String for name in names}
    try:
        frame = polars.read_csv(
            data, has_header=False, separator=delimiter, quote_char=None, schema=schema, empty_string_is_null=False
        )
    except polars.exceptions.PolarsError:
        return None
    texts = [name for name in names if name not in stamps]
    lengths = frame.select(polars.col(texts).str.len_bytes())
    length = len(frame) * len(names) - 1 + sum(int(lengths[name].sum()) for name in texts)
    for column in (frame[name] for name in names if name in stamps):
        least, most = _find_bounds(column)
        if column.null_count() or least <= 0 or len(str(least)) != len(str(most)):
            return None
        length += len(str(most)) * len(frame)
    # A line that is too short ends in an empty text; with none of these, every other liberty makes the lines longer.
    if length != len(data) or (names[-1] in texts and not lengths[names[-1]].min()):
        return None
    return FrameBlock(first_line, frame, lengths)


def _find_bounds(column: polars.Series) -> tuple[int, int]:
    """Return the least and the most of whole numbers; 0 where there are none."""
    least: Any = column.min()
    most: Any = column.max()
    return least or 0, most or 0


class FrameBlock(Block):
    """The same as `Block` over a polars frame.

    Parameters
    ----------
    frame : polars.DataFrame
        Columns of text, and of whole numbers without leading zeros.
    lengths : polars.DataFrame
        Of each column of text, in bytes.
    """

    def __init__(self, first_line: int, frame: polars.DataFrame, lengths: polars.DataFrame) -> None:
        self.first_line, self._frame, self._lengths = first_line, frame, lengths
        self._count = len(frame)
        self._plain: Block | None = None

    @property
    def names(self) -> Sequence[str]:
        """The columns."""
        return tuple(self._frame.columns)

    def take(self, start: int, stop: int) -> Block:
        """Return some of the rows."""
        if stop - start > SHORT:
            return FrameBlock(self.first_line + start, self._frame[start:stop], self._lengths[start:stop])
        if self._plain is None:
            self._plain = Block(self.first_line, {name: self.texts(name) for name in self.names})
        return self._plain.take(start, stop)

    def texts(self, name: str) -> Sequence[str]:
        """Return a column as it stands."""
        texts: list[str] = self._frame[name].cast(polars.String).to_list()
        return texts

    def unique(self, name: str) -> set[str]:
        """Return the texts a column holds."""
        column = self._frame[name]
        return {column[0]} if (column == column[0]).all() else set(column.unique().to_list())

    def count(self, name: str, units: UnitCache, *, may_be_empty: bool = False) -> Ints:
        """Return a column of decimals in units; an empty text is 0 where it may be.

        A text of at most 15 bytes has at most 15 digits; two different decimals of so few are different doubles,
        unless too small to be normal ones.  So a count is right if its decimal has no more digits and is the same
        double: `counts * step` is whole and below 10**15, `10**places` a power that is a double itself, and their
        quotient, rounded once, the double nearest to the decimal.  Only of 0 that says nothing, which is the double of
        1e-999 too: there the texts are looked at.
        """
        column = self._frame[name]
        step, places = units.step, units.places
        if places > PLACES_MAX:
            return super().count(name, units, may_be_empty=may_be_empty)
        numbers = column.cast(polars.Float64, strict=False).to_numpy()  # nan where it is none
        lengths = self._lengths[name].to_numpy()
        power = 10.0**places
        with np.errstate(over="ignore", invalid="ignore"):
            counts = np.rint(numbers * (power / step))
            is_exact = (counts * step / power == numbers) & (counts >= max(units.least, 1))
            is_exact &= (counts <= min(units.most, (10**DIGITS - 1) // step)) & (lengths <= DIGITS)
        told: Ints = np.where(is_exact, counts, 0.0).astype(np.int64)
        if units.least == 0:
            zeros = np.flatnonzero(numbers == 0)
            words = column[zeros]
            if len(zeros) and not words[0].strip("0."):
                is_exact[zeros] = (words == words[0]).to_numpy()
        left = np.flatnonzero(~is_exact)
        if len(left):
            rest = Block(self.first_line, {name: column[left].to_list()})
            told[left] = rest.count(name, units, may_be_empty=may_be_empty)
        return told

    def choose(self, name: str, table: Mapping[str, int]) -> Ints:
        """Return a column of words as the numbers a table gives them."""
        column = self._frame[name]
        told, found = np.zeros(len(self), np.int64), 0
        for word, number in table.items():
            here: NDArray[np.bool_] = (column == word).to_numpy()
            told += here * np.int64(number)
            found += int(np.count_nonzero(here))
        return told if found == len(self) else super().choose(name, table)

    def ids(self, name: str) -> Ints:
        """Return a column of ids as positive numbers (`number_id`)."""
        column = self._frame[name]
        if not column.str.contains(f"^[0-9]{{1,{ID_DIGITS}}}$").all():
            return super().ids(name)
        told: Ints = column.cast(polars.Int64).to_numpy()
        return told

    def stamps(self, name: str, ns_per_unit: int = NS_PER_US) -> Ints:
        """Return a column of stamps in ns since the epoch."""
        column = self._frame[name]
        if name in self._lengths.columns or _find_bounds(column)[1] > STAMP_MAX // ns_per_unit:
            return super().stamps(name, ns_per_unit)
        told: Ints = column.to_numpy() * ns_per_unit
        return told
