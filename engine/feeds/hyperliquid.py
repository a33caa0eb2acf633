"""Hyperliquid's fills as its nodes write them, one block a line, and a check of the venue's books against ours.

They tell each fill's position before it and the profit it realised, so the whole accounting can be followed: positions
chain exactly, and closed PnL is that of `(qty, cost)` (NUM-003) up to one rounding of the venue's own.

The rounding: a perpetual's prices have at most `6 - szDecimals` decimals (the venue's tick and lot rule).  A closing is
booked at `side x (price - entry) x size` with the average entry cut down to that grid, while the cost behind it stays
exact.  A long is thereby credited up to one price step per unit too much, a short as much too little, and the next
closing starts again from the exact cost.  The quotient is a double before it is cut: an entry that lies on the grid may
come out one step lower.
"""

import gzip
import json
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

from engine.errors import DataError
from engine.formulas import Holding, apply_fill

PERP_DECIMALS = 6  # of price and size together
_SIDES = {"B": 1, "A": -1}


class NodeFill(NamedTuple):
    """One side of one trade."""

    block: int
    ts_ms: int
    account: str
    coin: str
    side: int  # 1 bought, -1 sold
    price: Decimal
    size: Decimal
    start: Decimal  # signed position before it
    closed_pnl: Decimal
    fee: Decimal
    is_taker: bool
    trade_id: int
    liquidated: str  # the account whose liquidation this trade is, on both its sides; "": none
    mark: Decimal | None  # of the liquidation
    method: str  # of the liquidation: market (into the book) or backstop (to the vault)

    @property
    def end(self) -> Decimal:
        """Signed position after it."""
        return self.start + self.side * self.size

    @property
    def closed(self) -> Decimal:
        """How much of the position before it was closed."""
        return min(abs(self.start), self.size) if self.start * self.side < 0 else Decimal(0)


def is_perpetual(coin: str) -> bool:
    """Return whether a coin is the venue's own perpetual, not spot (@107, A/USDC, #1) nor another's (dex:NAME)."""
    return coin[:1] not in ("@", "#") and "/" not in coin and ":" not in coin


def read_node_fills(path: str | Path) -> Iterator[NodeFill]:
    """Yield the fills of a `node_fills_by_block` recording, in order.

    Parameters
    ----------
    path : path
        JSON Lines, plain or gzip: `{block_number, events: [[account, fill], ...]}`.

    Raises
    ------
    DataError
        Naming file, line and field: no JSON, a missing field, no number, blocks that do not follow each other.

    Source: FEED-007.
    """
    file = Path(path)
    last = 0
    try:
        with gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                field = "block_number"
                try:
                    block = json.loads(line)
                    height = int(block[field])
                    if last and height != last + 1:
                        raise ValueError(f"expected block {last + 1}, got {height}")
                    last, field = height, "events"
                    fills = [_read_fill(height, account, fill) for account, fill in block[field]]
                except KeyError as error:
                    raise DataError(file, number, str(error.args[0]), "expected this field") from error
                except (ValueError, TypeError, ArithmeticError) as error:
                    raise DataError(file, number, field, f"expected a block of fills: {error}") from error
                yield from fills
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(file, None, None, f"cannot be read: {error}") from error
    if not last:
        raise DataError(file, 1, None, "expected blocks of fills, the file is empty")


def _read_fill(block: int, account: str, fill: Mapping[str, Any]) -> NodeFill:
    liquidation = fill.get("liquidation") or {}
    return NodeFill(
        block=block,
        ts_ms=int(fill["time"]),
        account=account,
        coin=fill["coin"],
        side=_SIDES[fill["side"]],
        price=Decimal(fill["px"]),
        size=Decimal(fill["sz"]),
        # a double, printed with all its digits: 3130537.6000000001 is 3130537.6, the shortest text that reads the same
        start=Decimal(repr(float(fill["startPosition"]))),
        closed_pnl=Decimal(fill["closedPnl"]),
        fee=Decimal(fill["fee"]),
        is_taker=bool(fill["crossed"]),
        trade_id=int(fill["tid"]),
        liquidated=liquidation.get("liquidatedUser", ""),
        mark=Decimal(liquidation["markPx"]) if liquidation else None,
        method=liquidation.get("method", ""),
    )


def find_size_decimals(fills: Iterable[NodeFill]) -> dict[str, int]:
    """Return the size decimals (`szDecimals`) each coin was seen to use, in sizes and positions."""
    seen: dict[str, int] = {}
    for fill in fills:
        most = max(_count_decimals(fill.size), _count_decimals(fill.start))
        seen[fill.coin] = max(seen.get(fill.coin, 0), most)
    return seen


def _count_decimals(number: Decimal) -> int:
    exponent = number.normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def find_liquidations(fills: Iterable[NodeFill]) -> list[NodeFill]:
    """Return the liquidated accounts' side of every liquidation."""
    return [fill for fill in fills if fill.liquidated and fill.account == fill.liquidated]


class Closing(NamedTuple):
    """A closing fill beside our books."""

    fill: NodeFill
    entry: Fraction  # the venue's, from its closed PnL
    step: Fraction  # of the coin's price grid
    low: Fraction  # our average entry lies here; both ends are equal when its opening was seen
    high: Fraction

    @property
    def is_known(self) -> bool:
        """Whether the whole position was built inside the recording, so that our entry is one number."""
        return self.low == self.high

    @property
    def ours(self) -> Fraction:
        """What we realise, for a known entry: exact cost."""
        held = apply_fill(Holding(), Fraction(self.fill.start), self.low)
        return apply_fill(held, Fraction(self.fill.side * self.fill.closed), Fraction(self.fill.price)).realised

    @property
    def is_cut(self) -> bool:
        """Whether the venue's entry is ours cut down to the grid."""
        return self.low < self.entry + self.step and self.entry <= self.high

    @property
    def is_close(self) -> bool:
        """Whether it is that, or one step lower where ours lies on the grid."""
        return self.low <= self.entry + self.step and self.entry <= self.high


class NodeFillCheck(NamedTuple):
    """What a recording says about the venue's books and ours."""

    fills: int
    trades: int
    unpaired: int  # trades without exactly one buyer and one seller at one price and size
    accounts: int
    coins: int
    chained: int  # fills whose position before them could be compared with the one after the fill before
    broken: int  # ... and differed
    closings: tuple[Closing, ...]  # those whose entry we know something about


def check_node_fills(fills: Iterable[NodeFill]) -> NodeFillCheck:
    """Return what is true of a recording's perpetual fills: pairs, chains of positions, closed PnL.

    A position the recording opened has a known cost.  One from before has not: its first closing tells the entry up to
    the venue's rounding, and every later one must fit what is left of that interval.

    Source: FEED-007, NUM-003, POS-001.
    """
    rows = [fill for fill in fills if is_perpetual(fill.coin)]
    decimals = find_size_decimals(rows)
    steps = {coin: Fraction(1, 10 ** (PERP_DECIMALS - count)) for coin, count in decimals.items()}
    sides: dict[int, list[NodeFill]] = {}
    for fill in rows:
        sides.setdefault(fill.trade_id, []).append(fill)
    pairs = Counter(_is_pair(both) for both in sides.values())
    ends: dict[tuple[str, str], Decimal] = {}
    entries: dict[tuple[str, str], tuple[Fraction, Fraction]] = {}
    chained = broken = 0
    closings: list[Closing] = []
    for fill in rows:
        who = (fill.account, fill.coin)
        if who in ends:
            chained += 1
            broken += ends[who] != fill.start
        ends[who] = fill.end
        closing = _follow(fill, steps[fill.coin], entries)
        if closing is not None:
            closings.append(closing)
    return NodeFillCheck(
        fills=len(rows),
        trades=len(sides),
        unpaired=pairs[False],
        accounts=len({account for account, _ in ends}),
        coins=len(decimals),
        chained=chained,
        broken=broken,
        closings=tuple(closings),
    )


def _is_pair(both: list[NodeFill]) -> bool:
    return (
        len(both) == 2
        and both[0].side == -both[1].side
        and len({(fill.coin, fill.price, fill.size, fill.ts_ms) for fill in both}) == 1
    )


def _follow(
    fill: NodeFill, step: Fraction, entries: dict[tuple[str, str], tuple[Fraction, Fraction]]
) -> Closing | None:
    # `entries` holds the average entry as an interval, of positions something is known about
    who, price = (fill.account, fill.coin), Fraction(fill.price)
    closing = None
    if fill.closed:
        told = price + fill.side * Fraction(fill.closed_pnl) / Fraction(fill.closed)
        low, high = told, told + step
        if who in entries:
            closing = Closing(fill, told, step, *entries[who])
            low, high = max(entries[who][0], low), min(entries[who][1], high)
            if not closing.is_close:
                low, high = told, told + step  # it has been reported; go on from what the venue says
        entries[who] = (low, high)
        if fill.end * fill.start < 0:
            entries[who] = (price, price)
        elif fill.end == 0:
            del entries[who]
    elif fill.start == 0:
        entries[who] = (price, price)
    elif who in entries:
        low, high = (_average(fill, entry) for entry in entries[who])
        entries[who] = (low, high)
    return closing


def _average(fill: NodeFill, entry: Fraction) -> Fraction:
    held = apply_fill(Holding(), Fraction(fill.start), entry)
    after = apply_fill(held, fill.side * Fraction(fill.size), Fraction(fill.price)).entry
    if after is None:
        raise ValueError(f"trade {fill.trade_id}: expected a fill that enlarges its position")
    return after
