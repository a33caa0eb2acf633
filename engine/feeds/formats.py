"""The formats there are; which one a file is, its contents say."""

from pathlib import Path

from engine.feeds import parquet, tardis
from engine.feeds.tape import Format, TapeFile, read_head

FORMATS: tuple[Format, ...] = (parquet.FORMAT, tardis.FORMAT)


def sniff_file(path: Path) -> TapeFile | None:
    """Return what a file is, or None where it is of no format we know.

    Raises
    ------
    DataError
        If it cannot be read, or says that it is of a format and cannot be.
    """
    head = read_head(path)
    return next((found for found in (format.sniff(head) for format in FORMATS) if found is not None), None)
