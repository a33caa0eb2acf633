"""Recorded markets as commands: whatever the format, a feed is an iterator of COMMAND arrays in order of time."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from engine.codes import INDEX, MARK
from engine.contract import Market
from engine.errors import DataError
from engine.feeds.binance import read_prints
from engine.feeds.columns import TapeFile
from engine.feeds.hyperliquid import check_node_fills, read_node_fills
from engine.feeds.tardis import SCHEMAS, STREAMS, TardisFeed, inspect_file, iter_bbo_checks, read_quotes

__all__ = [
    "Feed",
    "check_node_fills",
    "find_first_marks",
    "iter_bbo_checks",
    "open_feed",
    "read_node_fills",
    "read_prints",
    "read_quotes",
]


class Feed(Protocol):
    """What every format offers."""

    symbols: tuple[str, ...]
    counts: dict[str, int]

    def chunks(self, rows: int = 65_536) -> Iterator[NDArray[np.void]]:
        """Yield COMMAND arrays of `rows` records in order of time; every call starts at the beginning."""
        ...


def open_feed(paths: str | Path | Sequence[str | Path], markets: Sequence[Market]) -> TardisFeed:
    """Open a folder, a file or a list of files as one feed.

    A file is what its header says.  In a folder, what is no recording is left alone; a file that is named outright, or
    named like a recording, must be one.  Files of another exchange than the book's (spot beside a perpetual) and quotes
    are not part of the tape; `skipped` lists them.

    Parameters
    ----------
    paths : path or sequence of paths
        Tardis CSV files, plain or gzip: `<exchange>_<data type>_<date>_<SYMBOL>.csv[.gz]`.
    markets : sequence of Market
        In market-index order; a row of any other symbol is refused.

    Raises
    ------
    DataError
        Missing path, empty file, wrong columns, unknown symbol; what is wrong further down is raised when reached.
    """
    given = [Path(paths)] if isinstance(paths, str | Path) else [Path(path) for path in paths]
    if not given:
        raise DataError("feed", None, None, "expected at least one file or folder")
    found: list[TapeFile] = []
    skipped: list[tuple[Path, str]] = []
    for path in given:
        named_outright = not path.is_dir()
        for file in [path] if named_outright else sorted(path.iterdir()):
            if not named_outright and not file.name.endswith((".csv", ".csv.gz")):
                skipped.append((file, "not a CSV file"))
                continue
            tape = inspect_file(file)
            if tape is None and named_outright:
                known = ", ".join(SCHEMAS)
                raise DataError(file, 1, None, f"expected the header of a Tardis CSV file: {known}")
            if tape is None:
                skipped.append((file, "not the header of a Tardis CSV file"))
            elif tape.kind not in STREAMS:
                skipped.append((file, f"{tape.kind} are not commands"))
            else:
                found.append(tape)
    found = _keep_one_exchange(found, skipped)
    if not found:
        raise DataError(given[0], None, None, f"expected CSV files of {', '.join(STREAMS)}, found none")
    return TardisFeed(found, markets, skipped)


def _keep_one_exchange(files: list[TapeFile], skipped: list[tuple[Path, str]]) -> list[TapeFile]:
    # One symbol can be recorded on several exchanges; prices of one must not fill orders in the book of another.
    home: dict[str, str] = {}
    for kind in ("incremental_book_L2", "derivative_ticker", "trades"):
        for file in files:
            if file.kind != kind:
                continue
            if home.setdefault(file.symbol, file.exchange) != file.exchange and kind == "incremental_book_L2":
                raise DataError(
                    file.path, 2, "exchange", f"expected one book of {file.symbol}, {home[file.symbol]} has one too"
                )
    kept = []
    for file in files:
        if file.exchange == home[file.symbol]:
            kept.append(file)
        else:
            skipped.append((file.path, f"{file.exchange} is not the exchange of the book, {home[file.symbol]}"))
    return kept


def find_first_marks(feed: Feed, market_count: int) -> list[int]:
    """Return the first mark price of each market in ticks, or its first index price, or 0 where the tape has neither.

    Reads from the beginning until every market has a mark.
    """
    marks, indexes = [0] * market_count, [0] * market_count
    for chunk in feed.chunks(4_096):
        for kind, found in ((MARK, marks), (INDEX, indexes)):
            for row in chunk[chunk["kind"] == kind]:
                market = int(row["market"])
                found[market] = found[market] or int(row["price_tick"])
        if all(marks):
            break
    return [mark or index for mark, index in zip(marks, indexes, strict=True)]
