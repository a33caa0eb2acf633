"""A log as a table: exact values by column, and what a notebook, a spreadsheet or a script makes of them."""

import csv
import html
import io
from collections.abc import Iterable, Iterator
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


@dataclass(frozen=True)
class Table:
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

    # ------------------------------------------------------------ for notebooks

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return an array per column: int64, texts, or float64 where there are decimals (the nearest; None is NaN)."""
        return {name: _to_array(values) for name, values in self.columns.items()}

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
        """Return a pandas DataFrame indexed by `timestamp`, UTC.

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
        heads = "".join(f"<th>{html.escape(name)}</th>" for name in self.columns)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape('' if v is None else str(v))}</td>" for v in row.values()) + "</tr>"
            for row in self.take(range(min(SHOWN, len(self)))).rows()
        )
        more = f"<caption>{SHOWN} of {len(self):,} rows</caption>" if len(self) > SHOWN else ""
        return f"<table>{more}<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"

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


def _to_array(values: list[Any]) -> NDArray[Any]:
    kinds = {type(value) for value in values} - {type(None)}
    if Decimal in kinds:
        return np.array([np.nan if value is None else float(value) for value in values])
    if None in values:
        whole = kinds <= {int}
        return np.array(
            [np.nan if v is None else v for v in values] if whole else ["" if v is None else v for v in values]
        )
    return np.array(values, np.int64 if kinds == {int} else None) if values else np.zeros(0)
