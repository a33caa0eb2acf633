"""The formats there are; which one a file is, its contents say."""

from hashlib import blake2b
from pathlib import Path

from engine.feeds import (
    binance,
    binance_dumps,
    binance_flat,
    bitstamp,
    bybit,
    command_tape,
    databento,
    hftbacktest,
    hyperliquid_tape,
    lighter,
    lobster,
    luno,
    okx,
    parquet,
    tardis,
)
from engine.feeds.tape import Format, TapeFile, read_head

# The most particular first.
FORMATS: tuple[Format, ...] = (
    parquet.FORMAT,
    command_tape.FORMAT,
    hftbacktest.FORMAT,
    databento.FORMAT,
    bitstamp.FORMAT,
    luno.FORMAT,
    lobster.FORMAT,
    tardis.FORMAT,
    binance_dumps.FORMAT,
    binance_flat.FORMAT,
    hyperliquid_tape.FILLS_FORMAT,
    hyperliquid_tape.FORMAT,
    lighter.FORMAT,
    bybit.FORMAT,
    okx.FORMAT,
    binance.FORMAT,
)


def sniff_file(path: Path) -> TapeFile | None:
    """Return what a file is, or None where it is of no format we know.

    Raises
    ------
    DataError
        If it cannot be read, or says that it is of a format and cannot be.
    """
    head = read_head(path)
    found = next((found for found in (format.sniff(head) for format in FORMATS) if found is not None), None)
    return None if found is None else found._replace(beginning=blake2b(head.data).hexdigest())
