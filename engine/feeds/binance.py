"""Binance's own WebSocket messages as recorded: lines of `<local time in us> <JSON>`.

So far only their trades are read; unlike Tardis, the recording still holds the prints no order ever met.
"""

from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.codes import BUY, OFF_BOOK, PRINT, SELL
from engine.contract import Market
from engine.errors import DataError
from engine.feeds.columns import NS_PER_US, MarketUnits, count_stamp, read_blocks
from engine.feeds.merge import build_commands

ON_BOOK = "MARKET"


class _Trade(msgspec.Struct, rename={"event": "e"}):
    event: str = ""
    s: str = ""
    p: str = ""
    q: str = ""
    m: bool = False
    X: str = ON_BOOK  # spot trades have no such field: all of them are the book's


class _Message(msgspec.Struct):
    data: _Trade


def read_prints(path: str | Path, market: Market, market_index: int = 0) -> NDArray[np.void]:
    """Return the trades of a raw recording as `print` commands, in order of the local clock.

    A trade whose `X` is not MARKET (INSURANCE_FUND, ADL, NA) is flagged off book: it was closed with a counterparty
    outside the book and moves nothing (FEED-004).  Such a print at price or quantity 0 says nothing and is left out.

    Raises
    ------
    DataError
        Naming file, line and field: no stamp, no JSON, another symbol, a price off tick, time running backwards.
    """
    file = Path(path)
    units = MarketUnits(market_index, market)
    told: list[tuple[int, int, int, int, int]] = []  # stamp, side, price, quantity, flags
    decoder = msgspec.json.Decoder(_Message)
    line_count = 0
    for first, block in read_blocks(file):
        for line, text in enumerate(block.split("\n"), first):
            line_count = line
            stamp, _, body = text.partition(" ")
            try:
                trade = decoder.decode(body).data
            except msgspec.DecodeError as error:
                raise DataError(file, line, None, f"expected a stamp and a JSON message: {error}") from error
            if trade.event == "trade":
                row = _read_trade(file, line, stamp, trade, units)
                if told and row[0] < told[-1][0]:
                    raise DataError(file, line, "local time", f"expected {told[-1][0]} or later, got {stamp}")
                if row[2]:
                    told.append(row)
    if not line_count:
        raise DataError(file, 1, None, "expected lines of stamp and JSON, the file is empty")
    columns = np.array(told, dtype=np.int64).reshape(len(told), 5)
    ts_ns = columns[:, 0] * NS_PER_US
    commands = build_commands(PRINT, market_index, ts_ns, columns[:, 1], columns[:, 2], columns[:, 3])
    commands["flags"] = columns[:, 4]
    return commands


def _read_trade(file: Path, line: int, stamp: str, trade: _Trade, units: MarketUnits) -> tuple[int, int, int, int, int]:
    field = "local time"
    try:
        time_us = count_stamp(stamp)
        field = "s"
        if trade.s != units.symbol:
            raise ValueError(f"expected {units.symbol}, got {trade.s!r}")
        flags = 0 if trade.X == ON_BOOK else OFF_BOOK
        side = SELL if trade.m else BUY  # m: the buyer was the maker
        field = "p"
        if flags and not any(digit in "123456789" for digit in trade.p):
            return time_us, side, 0, 0, flags
        price = units.prices[trade.p]
        field = "q"
        if flags and not any(digit in "123456789" for digit in trade.q):
            return time_us, side, 0, 0, flags
        return time_us, side, price, units.trades[trade.q], flags
    except (ValueError, ArithmeticError) as error:
        raise DataError(file, line, field, str(error)) from error
