"""Results as tables: exact values by column, and what a notebook, a spreadsheet or a script makes of them (LOG-006)."""

import csv
import html
import io
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from importlib import import_module
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.errors import MissingExtraError

SHOWN = 10
TIMES = ("timestamp", "local_timestamp")  # in microseconds, as Tardis has them


class Tabular(ABC):
    """A result that can be read as a table: it says which, everything else is the same for all of them.

    Source: LOG-006.
    """

    @abstractmethod
    def to_table(self) -> "Table":
        """Return the table."""

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return an array per column: int64, bool, texts, or float64 where there are decimals or gaps (None is NaN)."""
        return {name: _to_array(values) for name, values in self.to_table().columns.items()}

    def to_polars(self) -> Any:
        """Return a polars DataFrame; times are `datetime[us, UTC]`.

        Raises
        ------
        MissingExtraError
            Without polars.
        """
        try:
            import polars
        except ImportError as error:
            raise MissingExtraError("to_polars needs `pip install 'perp-engine[parquet]'`") from error
        frame = polars.DataFrame(self.to_arrays())
        kind = polars.Datetime("us", "UTC")
        return frame.with_columns(polars.col(name).cast(kind) for name in TIMES if name in frame.columns)

    def to_pandas(self) -> Any:
        """Return a pandas DataFrame, indexed by `timestamp`, UTC, where it has one.

        Raises
        ------
        MissingExtraError
            Without pandas, which no extra of ours brings.
        """
        try:
            pandas: Any = import_module("pandas")
        except ImportError as error:
            raise MissingExtraError("to_pandas needs `pip install pandas`") from error
        frame = pandas.DataFrame(self.to_arrays())
        for name in TIMES:
            if name in frame:
                frame[name] = pandas.to_datetime(frame[name], unit="us", utc=True)
        return frame.set_index("timestamp") if "timestamp" in frame else frame

    def _repr_html_(self) -> str:
        """Return the first rows as an HTML table, every value escaped."""
        table = self.to_table()
        heads = "".join(f"<th>{html.escape(name)}</th>" for name in table.columns)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape('' if v is None else str(v))}</td>" for v in row.values()) + "</tr>"
            for row in table.take(range(min(SHOWN, len(table)))).rows()
        )
        more = f"<caption>{SHOWN} of {len(table):,} rows</caption>" if len(table) > SHOWN else ""
        return f"<table>{more}<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"


@dataclass(frozen=True)
class Table(Tabular):
    """Named columns of equal length.

    Parameters
    ----------
    columns : dict
        Name -> values: texts, whole numbers, Decimals, or None where there is none.
    notes : sequence of dict
        What holds for all rows: the rules in force (LOG-003).
    """

    columns: dict[str, list[Any]]
    notes: list[dict[str, Any]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), []))

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield each row by name."""
        for values in zip(*self.columns.values(), strict=True):
            yield dict(zip(self.columns, values, strict=True))

    def take(self, places: Iterable[int]) -> "Table":
        """Return the rows at these places."""
        kept = list(places)
        return Table({name: [values[at] for at in kept] for name, values in self.columns.items()}, self.notes)

    def to_table(self) -> "Table":
        """Return itself."""
        return self

    # ------------------------------------------------------------ for files

    def compose_csv(self) -> str:
        """Return CSV, decimals exact, the notes before it as lines that begin with `#` (LOG-002, LOG-003)."""
        text = io.StringIO()
        for note in self.notes:
            text.write("# " + "; ".join(f"{name}: {value}" for name, value in note.items()).replace("\n", " ") + "\n")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.columns)
        for values in zip(*self.columns.values(), strict=True):
            writer.writerow("" if v is None else format(v, "f") if isinstance(v, Decimal) else v for v in values)
        return text.getvalue()

    def compose_jsonl(self) -> str:
        """Return JSON Lines, decimals exact as numbers, the notes before them as an object `{"notes": [...]}`."""
        encode = msgspec.json.Encoder(decimal_format="number").encode
        lines = [encode({"notes": self.notes})] if self.notes else []
        lines += map(encode, self.rows())
        return "".join(line.decode() + "\n" for line in lines)


def tabulate_rows(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return rows as a table; a column that a row lacks is None there."""
    names = dict.fromkeys(name for row in rows for name in row)
    return Table({name: [row.get(name) for row in rows] for name in names})


def pick_plain(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is one number, text or truth value of some facts, in their order: a summary as a row."""
    return {name: value for name, value in facts.items() if value is None or isinstance(value, int | float | str)}


def _to_array(values: list[Any]) -> NDArray[Any]:
    kinds = {type(value) for value in values} - {type(None)}
    if Decimal in kinds:
        return np.array([np.nan if value is None else float(value) for value in values])
    if None in values:
        whole = kinds <= {int}
        return np.array(
            [np.nan if v is None else v for v in values] if whole else ["" if v is None else v for v in values]
        )
    # what no 64 bits hold stays exact, as objects
    is_whole = kinds == {int} and all(-1 << 63 <= value < 1 << 63 for value in values)
    return np.array(values, np.int64 if is_whole else None) if values else np.zeros(0)
