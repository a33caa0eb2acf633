"""Recorded markets as commands: whatever the format, a feed is an iterator of COMMAND arrays in order of time."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from engine.codes import INDEX, MARK
from engine.contract import Market
from engine.errors import DataError, MissingExtraError
from engine.feeds import command_tape
from engine.feeds.ahead import AheadFeed, Feed, read_ahead
from engine.feeds.columns import explain_symbol, unknown_symbol
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

    A file is what its contents say.  In a folder, what is no recording is left alone; a file that is named outright, or
    named like a recording, must be one.  Files of another exchange than the book's (spot beside a perpetual) are not
    part of the tape unless they are an index; `skipped` lists them.

    Parameters
    ----------
    paths : path or sequence of paths
        Files of the formats of `engine.feeds.formats`, plain, gzip, zip or zstd.
    markets : sequence of Market
        In market-index order; a file of any other symbol is refused.  Empty: every instrument of the files, in units
        of our own, to be looked at but not to be run.
    indexes : mapping
        Market's symbol -> `exchange:symbol`, whose trades are its index price (FEED-010).
    is_strict : bool
        Whether the first fault of the data ends the reading; otherwise bad rows are left out and counted.
    decimals : mapping
        Of instruments without a market, (exchange, symbol) -> decimals of price and quantity.

    Raises
    ------
    DataError
        Missing path, empty file, wrong columns, unknown symbol; what is wrong further down is raised when reached.
    MissingExtraError
        A file that is named outright, or all there is in the folders, needs a package that is not installed.
    """
    given = [Path(paths)] if isinstance(paths, str | Path) else [Path(path) for path in paths]
    if not given:
        raise DataError("feed", None, None, "expected at least one file or folder")
    found: list[TapeFile] = []
    skipped: list[tuple[Path, str]] = []
    missing: MissingExtraError | None = None
    for path in given:
        named_outright = not path.is_dir()
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
                skipped.append((file, "not a recording"))
    if [file.format for file in found] == [command_tape.FORMAT]:
        return CommandTape(found[0], markets, skipped, is_strict=is_strict)
    sources = _split_indexes(indexes or {}, markets)
    homes: dict[str, str] = {}
    if markets:
        found = _keep_one_exchange(found, skipped, homes, markets, set(sources.values()))
    if not found and missing is not None:
        raise missing
    if not found:
        known = ", ".join(format.name for format in FORMATS)
        raise DataError(given[0], None, None, f"expected recordings of the formats {known}, found none; {ASK}")
    return Tape(
        found, markets, skipped, homes=homes, indexes=sources, is_strict=is_strict, decimals=dict(decimals or {})
    )


def _split_indexes(indexes: Mapping[str, str], markets: Sequence[Market]) -> dict[str, tuple[str, str]]:
    sources = {}
    for symbol, text in indexes.items():
        exchange, separator, other = text.partition(":")
        if symbol not in (known := [market.symbol for market in markets]):
            raise DataError("feed", None, "index", explain_symbol(symbol, known))
        if not separator or not exchange or not other:
            raise DataError("feed", None, "index", f"expected EXCHANGE:SYMBOL, got {text!r}")
        sources[symbol] = (exchange, other)
    return sources


def _keep_one_exchange(
    files: list[TapeFile],
    skipped: list[tuple[Path, str]],
    homes: dict[str, str],
    markets: Sequence[Market],
    sources: set[tuple[str, str]],
) -> list[TapeFile]:
    # One symbol can be recorded on several exchanges; prices of one must not fill orders in the book of another.
    # The book decides whose a market is, then the ticker, then trades.
    kinds = ("incremental_book_L2", "book_snapshot", "raw", "derivative_ticker")
    order = sorted(files, key=lambda file: kinds.index(file.kind) if file.kind in kinds else len(kinds))
    for file in order:
        if not file.symbol or (file.exchange, file.symbol) in sources:
            continue
        if homes.setdefault(file.symbol, file.exchange) != file.exchange and file.kind == "incremental_book_L2":
            raise DataError(
                file.path, 2, "exchange", f"expected one book of {file.symbol}, {homes[file.symbol]} has one too"
            )
    known = [market.symbol for market in markets]
    kept = []
    for file in files:
        if not file.symbol or (file.exchange, file.symbol) in sources:
            kept.append(file)
        elif file.exchange != homes[file.symbol]:
            skipped.append((file.path, f"{file.exchange} is not the exchange of the book, {homes[file.symbol]}"))
        elif file.symbol not in known:
            raise unknown_symbol(file.path, 2, file.symbol, known)
        else:
            kept.append(file)
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
