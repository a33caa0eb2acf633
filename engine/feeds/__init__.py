"""Recorded markets as commands: whatever the format, a feed is an iterator of COMMAND arrays in order of time."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from engine.codes import INDEX, MARK
from engine.contract import Market
from engine.errors import DataError, MissingExtraError
from engine.feeds import command_tape
from engine.feeds.ahead import AheadFeed, Feed, read_ahead
from engine.feeds.choice import (
    explain_unasked,
    find_absent,
    keep_asked,
    keep_one_exchange,
    refuse_copies,
    split_indexes,
)
from engine.feeds.command_tape import CommandTape
from engine.feeds.formats import FORMATS, sniff_file
from engine.feeds.hyperliquid import check_node_fills, read_node_fills
from engine.feeds.lighter import check_lighter_trades
from engine.feeds.quotes import iter_bbo_checks, read_quotes
from engine.feeds.tape import Tape, TapeFile

__all__ = [
    "AheadFeed",
    "CommandTape",
    "Feed",
    "Tape",
    "check_lighter_trades",
    "check_node_fills",
    "find_first_marks",
    "iter_bbo_checks",
    "open_feed",
    "read_ahead",
    "read_node_fills",
    "read_quotes",
]


NO_RECORDING = "not a recording"  # why a file of a folder is left alone
ASK = "perp docs formats describes them, perp fetch downloads some, perp demo needs none"


def open_feed(
    paths: str | Path | Sequence[str | Path],
    markets: Sequence[Market] = (),
    *,
    indexes: Mapping[str, str] | None = None,
    is_strict: bool = True,
    decimals: Mapping[tuple[str, str], Sequence[int | None]] | None = None,
) -> Tape | CommandTape:
    """Open a folder, a file or a list of files as one feed.

    A file is what its contents say.  In a folder, what is no recording is left alone, and so is what is of no symbol
    asked for; a file that is named outright, or named like a recording, must be one.  Files of another exchange than
    the book's (spot beside a perpetual) are not part of the tape unless they are an index; `skipped` lists them.

    Parameters
    ----------
    paths : path or sequence of paths
        Files of the formats of `engine.feeds.formats`, plain, gzip, zip or zstd.
    markets : sequence of Market
        In market-index order; a file of any other symbol is refused where it is named outright, else left alone
        (FEED-075).  Empty: every instrument of the files, in units of our own, to be looked at but not to be run.
    indexes : mapping
        Market's symbol -> `exchange:symbol`, whose trades are its index price (FEED-010) and must be there (FEED-077).
    is_strict : bool
        Whether the first fault of the data ends the reading; otherwise bad rows are left out and counted.
    decimals : mapping
        Of instruments without a market, (exchange, symbol) -> decimals of price and quantity.

    Raises
    ------
    DataError
        Missing path, empty file, wrong columns, unknown symbol, one recording twice (FEED-076); what is wrong further
        down is raised when reached.
    MissingExtraError
        A file that is named outright, or all there is in the folders, needs a package that is not installed.
    """
    given = [Path(paths)] if isinstance(paths, str | Path) else [Path(path) for path in paths]
    if not given:
        raise DataError("feed", None, None, "expected at least one file or folder")
    named = {path for path in given if not path.is_dir()}
    found, skipped, missing = _find_files(given, named)
    sources = split_indexes(indexes or {}, markets)
    if absent := find_absent(found, sources):
        raise missing or absent
    homes: dict[str, str] = {}
    if markets and found:
        asked = keep_asked(found, named, skipped, markets, sources)
        if not asked:
            raise missing or explain_unasked(given[0], found, markets)
        found = keep_one_exchange(asked, skipped, homes, sources)
    refuse_copies(found)
    if [file.format for file in found] == [command_tape.FORMAT]:
        if sources:
            expected = f"expected none, {found[0].path} holds the index prices it was made with"
            raise DataError("feed", None, "index", expected)
        return CommandTape(found[0], markets, skipped, is_strict=is_strict)
    if not found and missing is not None:
        raise missing
    if not found:
        known = ", ".join(format.name for format in FORMATS)
        raise DataError(given[0], None, None, f"expected recordings of the formats {known}, found none; {ASK}")
    return Tape(
        found, markets, skipped, homes=homes, indexes=sources, is_strict=is_strict, decimals=dict(decimals or {})
    )


def _find_files(
    given: Sequence[Path], named: Collection[Path]
) -> tuple[list[TapeFile], list[tuple[Path, str]], MissingExtraError | None]:
    """Return the recordings, what else is in the folders and why it is left, and what a recording there may need."""
    found: list[TapeFile] = []
    skipped: list[tuple[Path, str]] = []
    missing: MissingExtraError | None = None
    for path in given:
        named_outright = path in named
        for file in [path] if named_outright else sorted(path.iterdir()):
            if file.is_dir() or (not named_outright and (file.suffix == ".part" or file.name.startswith("."))):
                skipped.append((file, "a folder in a folder" if file.is_dir() else "not finished, or hidden"))
                continue
            try:
                tape = sniff_file(file)
            except MissingExtraError as error:
                if named_outright:
                    raise
                missing = error
                skipped.append((file, str(error)))
                continue
            if tape is not None:
                found.append(tape)
            elif named_outright:
                known = ", ".join(format.name for format in FORMATS)
                step = "a TOML file belongs to --market, --population or --shock" if file.suffix == ".toml" else ASK
                raise DataError(file, 1, None, f"expected a recording in one of the formats {known}; {step}")
            else:
                skipped.append((file, NO_RECORDING))
    return found, skipped, missing


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
