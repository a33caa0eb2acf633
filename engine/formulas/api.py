"""What venues' interfaces say about ADL and liquidations, in one shape.

The trap: Binance's `S` is the side of the liquidation *order*, Bybit's the side of the *position*, and Bybit's price is
the bankruptcy price where Binance's is the average fill.  Both sides are therefore always told.
"""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, NamedTuple

from engine.formulas.exact import exact

_OPPOSITE = {"buy": "short", "sell": "long", "long": "sell", "short": "buy"}


class AdlRank(NamedTuple):
    """An account's place in an ADL queue: the venue's own number, and the same as lights (5 front, 1 back, 0 none)."""

    rank: int | None = None
    lights: int | None = None
    percentage: Fraction | None = None  # where the venue tells a percentile, 100 is the front


class Liquidation(NamedTuple):
    """A liquidation as a venue publishes it; None is what it does not say."""

    symbol: str
    contracts: Fraction
    price: Fraction
    price_is: str  # "average" fill or "bankruptcy" price
    order_side: str
    position_side: str
    timestamp: int  # ms
    limit_price: Fraction | None = None


def read_adl_rank(venue: str, row: Mapping[str, Any]) -> AdlRank:
    """Return the ADL indicator of a position row.

    Binance `adlQuantile` {LONG, SHORT, BOTH or HEDGE} 0 to 4: the highest side counts, HEDGE is a flag to ignore; Bybit
    `adlRankIndicator` 0 to 5; OKX `adl` "0" to "5"; Gate `adl_ranking` 1 = front to 5, 6 = none; KuCoin
    `delevPercentage` and BitMEX `deleveragePercentile` 0 to 1.

    Parameters
    ----------
    venue : str
        Its name; what follows a dash is ignored (binance-usdm).

    Raises
    ------
    ValueError
        For an unknown venue or a row without its field.

    Source: ccxt 4.5.90, parse_adl_rank of each venue; the venues' position endpoints.
    """
    name = venue.split("-")[0]
    try:
        if name == "binance":
            sides = [int(row["adlQuantile"][side]) for side in ("LONG", "SHORT", "BOTH") if side in row["adlQuantile"]]
            rank = max(sides)
            return AdlRank(rank, rank + 1)
        if name in ("bybit", "okx"):
            rank = int(row["adlRankIndicator" if name == "bybit" else "adl"])
            return AdlRank(rank, rank)
        if name == "gate":
            rank = int(row["adl_ranking"])
            return AdlRank(rank, 6 - rank)
        if name in ("kucoin", "bitmex"):
            part = exact(row["delevPercentage" if name == "kucoin" else "deleveragePercentile"])
            return AdlRank(percentage=part * 100)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{venue}: expected its ADL indicator, got {dict(row)!r}") from error
    raise ValueError(f"venue: unknown {venue!r}, known: binance, bitmex, bybit, gate, kucoin, okx")


def read_liquidation(venue: str, message: Mapping[str, Any]) -> Liquidation:
    """Return a published liquidation.

    Binance `forceOrder` ({o: {S, l, ap, p, T}}, S the order's side, ap the average fill, p the order's limit); Bybit
    `allLiquidation` ({data: {S, v, p, T}}, S the position's side, p the bankruptcy price); OKX `liquidation-orders`
    ({details: [{side, posSide, sz, bkPx, ts}]}, or one of its details).

    Raises
    ------
    ValueError
        For an unknown venue or a message without its fields.

    Source: ccxt 4.5.90; https://bybit-exchange.github.io/docs/v5/websocket/public/all-liquidation; Binance
    liquidation-order streams; OKX API v5.
    """
    readers = {"binance": _binance, "bybit": _bybit, "okx": _okx}
    name = venue.split("-")[0]
    if name not in readers:
        raise ValueError(f"venue: unknown {venue!r}, known: {', '.join(readers)}")
    try:
        return readers[name](message)
    except (KeyError, TypeError, IndexError, ValueError) as error:
        raise ValueError(f"{venue}: expected a published liquidation, got {dict(message)!r}") from error


def _binance(message: Mapping[str, Any]) -> Liquidation:
    row = message.get("o", message)
    side = row["S"].lower()
    average, limit = exact(row["ap"]), exact(row["p"])
    return Liquidation(row["s"], exact(row["l"]), average, "average", side, _OPPOSITE[side], int(row["T"]), limit)


def _bybit(message: Mapping[str, Any]) -> Liquidation:
    row = message.get("data", message)
    row = row[0] if isinstance(row, list) else row
    position = {"buy": "long", "sell": "short"}[row["S"].lower()]
    order = _OPPOSITE[position]
    return Liquidation(row["s"], exact(row["v"]), exact(row["p"]), "bankruptcy", order, position, int(row["T"]))


def _okx(message: Mapping[str, Any]) -> Liquidation:
    details = message.get("details")
    row = details[0] if details else message
    order = row["side"].lower()
    told = row.get("posSide") or "net"
    position = told if told in ("long", "short") else _OPPOSITE[order]
    symbol = message.get("instId", "")
    return Liquidation(symbol, exact(row["sz"]), exact(row["bkPx"]), "bankruptcy", order, position, int(row["ts"]))
