"""Which of the files that were found are the tape: whose symbols are asked for, whose exchange has the book."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from engine.contract import Market
from engine.errors import DataError, suggest
from engine.feeds.columns import explain_symbol, unknown_symbol
from engine.feeds.instruments import explain_absent
from engine.feeds.tape import TapeFile

Sources = Mapping[str, tuple[str, str]]
Skipped = list[tuple[Path, str]]


def split_indexes(indexes: Mapping[str, str], markets: Sequence[Market]) -> dict[str, tuple[str, str]]:
    """Return market's symbol -> (exchange, symbol) of `exchange:symbol`; DataError where one is no such thing."""
    sources = {}
    for symbol, text in indexes.items():
        exchange, separator, other = text.partition(":")
        if symbol not in (known := [market.symbol for market in markets]):
            raise DataError("feed", None, "index", explain_symbol(symbol, known))
        if not separator or not exchange or not other:
            raise DataError("feed", None, "index", f"expected EXCHANGE:SYMBOL, got {text!r}")
        sources[symbol] = (exchange, other)
    return sources


def find_absent(files: Sequence[TapeFile], sources: Sources) -> DataError | None:
    """Return the error of an index that comes from an instrument which no file can be of, or None.

    Source: FEED-077.
    """
    for exchange, symbol in sources.values():
        fitting = [file for file in files if file.exchange in ("", exchange)]
        if files and not any(file.is_mixed or file.symbol in ("", symbol) for file in fitting):
            return explain_absent((exchange, symbol), {(file.exchange, file.symbol) for file in files})
    return None


def keep_asked(
    files: Sequence[TapeFile], named: Collection[Path], skipped: Skipped, markets: Sequence[Market], sources: Sources
) -> list[TapeFile]:
    """Return the files that may hold rows of the markets or are an index; none where no market would be left.

    Parameters
    ----------
    named : collection of Path
        Those that were named outright, not found in a folder.
    skipped : list of (Path, str)
        Gets the others.

    Raises
    ------
    DataError
        If one that was named outright, or that holds several symbols, begins with another symbol.

    Source: FEED-075.
    """
    known = [market.symbol for market in markets]
    kept, others = [], []
    for file in files:
        if not file.symbol or file.symbol in known or (file.exchange, file.symbol) in sources.values():
            kept.append(file)
        elif file.path in named or file.is_mixed:
            raise unknown_symbol(file.path, 2, file.symbol, known)
        else:
            others.append((file.path, f"{file.symbol} is no configured market"))
    skipped += others
    is_played = any((file.exchange, file.symbol) not in sources.values() for file in kept)
    return kept if is_played or not others else []


def explain_unasked(path: Path, files: Sequence[TapeFile], markets: Sequence[Market]) -> DataError:
    """Return the error of a folder in which every file is of another symbol than the markets.

    Source: FEED-075, CLI-033.
    """
    known, found = [market.symbol for market in markets], sorted({file.symbol for file in files if file.symbol})
    step = "add a --market file of one of these, or name another folder"
    near = suggest(known[0], found) if len(known) == 1 else ""
    expected = f"expected a configured market ({', '.join(known)}), found {', '.join(found)}; {step}{near}"
    return DataError(path, None, "symbol", expected)


def keep_one_exchange(
    files: Sequence[TapeFile], skipped: Skipped, homes: dict[str, str], sources: Sources
) -> list[TapeFile]:
    """Return the files without those of an exchange that has not the book of their symbol.

    Parameters
    ----------
    homes : dict
        Gets symbol -> exchange.

    Raises
    ------
    DataError
        If two exchanges have a book of one symbol.
    """
    # One symbol can be recorded on several exchanges; prices of one must not fill orders in the book of another.
    # The book decides whose a market is, then the ticker, then trades.
    kinds = ("incremental_book_L2", "book_snapshot", "raw", "derivative_ticker")
    order = sorted(files, key=lambda file: kinds.index(file.kind) if file.kind in kinds else len(kinds))
    is_free = {file.path: not file.symbol or (file.exchange, file.symbol) in sources.values() for file in files}
    for file in order:
        if is_free[file.path]:
            continue
        if homes.setdefault(file.symbol, file.exchange) != file.exchange and file.kind == "incremental_book_L2":
            raise DataError(
                file.path, 2, "exchange", f"expected one book of {file.symbol}, {homes[file.symbol]} has one too"
            )
    kept = []
    for file in files:
        if is_free[file.path] or file.exchange == homes[file.symbol]:
            kept.append(file)
        else:
            skipped.append((file.path, f"{file.exchange} is not the exchange of the book, {homes[file.symbol]}"))
    return kept


def refuse_copies(files: Sequence[TapeFile]) -> None:
    """Raise DataError where two files begin alike: one recording twice, such as an archive and what was in it.

    Source: FEED-076.
    """
    first: dict[tuple[str, ...], TapeFile] = {}
    for file in files:
        other = first.setdefault((file.format.name, file.kind, file.exchange, file.symbol, file.beginning), file)
        if other is not file:
            expected = f"expected each recording once, {other.path} begins with the same rows; name one of the two"
            raise DataError(file.path, None, None, expected)
