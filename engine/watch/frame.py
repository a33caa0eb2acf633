"""What a frame shows, read from the exchange and the tally between two commands: whole, or not at all (WATCH-002)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine import codes
from engine.codes import BUY, EXTERNAL, SELL
from engine.exchange import Exchange
from engine.replay.tally import Tally

Rows = NDArray[np.void]
Ints = NDArray[np.int64]

LEVELS_MOST = 60  # of a side, and places of a queue: more than a terminal has lines
CLOSES_MOST = 100
WAYS = {codes.LIQUIDATION_FILL: "book", codes.ADL_FILL: "ADL", codes.TAKEOVER: "takeover"}


class Level(NamedTuple):
    """A price of the book: what the recorded market has there, and what the accounts have."""

    price_tick: int
    market_lot: int
    accounts_lot: int


class Close(NamedTuple):
    """What one liquidation closed in one way in one go: its fills together, at their mean price, floored."""

    ts_ns: int
    account: int
    market: int
    side: int  # of the position
    way: str
    qty_lot: int
    price_tick: int
    bankruptcy_tick: int
    deficit_quote: int


class Place(NamedTuple):
    """A place in an ADL queue."""

    rank: int
    account: int
    qty_lot: int
    lights: int


@dataclass(frozen=True)
class Frame:
    """Everything a screen shows, as plain numbers of one moment.

    Parameters
    ----------
    ts_ns : int
        Time on the tape.
    commands : int
        Applied so far, the opening included.
    market : int
        Whose book and queue these are.
    mark_tick, index_tick, last_tick, first_mark_tick : int
        0: none.
    asks, bids : tuple of Level
        Best first, at most LEVELS_MOST of each.
    fund_quote, fund_low_quote, fund_start_quote : int
        Of the market's fund.
    closes : tuple of Close
        Of all markets, the latest last.
    queues : mapping of side to tuple of Place
        Best first; side 1 are the longs.
    queue_lengths : mapping of side to int
    marks : tuple of int
        Of every market.
    """

    ts_ns: int
    commands: int
    events: int
    market: int
    mark_tick: int
    index_tick: int
    last_tick: int
    first_mark_tick: int
    open_interest_lot: int
    asks: tuple[Level, ...]
    bids: tuple[Level, ...]
    fund_quote: int
    fund_low_quote: int
    fund_start_quote: int
    liquidations: int
    deficits: int
    deficit_quote: int
    adl_fills: int
    adl_victims: int
    closes: tuple[Close, ...]
    queues: Mapping[int, tuple[Place, ...]]
    queue_lengths: Mapping[int, int]
    marks: tuple[int, ...]


def read_frame(
    exchange: Exchange, tally: Tally, *, market: int, ts_ns: int, commands: int, closes: tuple[Close, ...] = ()
) -> Frame:
    """Return what stands now; the exchange is only looked at.

    Source: WATCH-002, ADL-002, ADL-009.
    """
    view = exchange.view()
    marks = np.asarray(view.markets, np.int64).reshape(-1, 5)
    orders = np.asarray(view.orders, np.int64).reshape(-1, 7)
    fund = exchange.setup.markets[market].fund
    queues = {side: exchange.adl_queue(market, side) for side in (BUY, SELL)}
    mark, index, last, interest, _ = marks[market].tolist()
    return Frame(
        ts_ns=ts_ns,
        commands=commands,
        events=int(tally.kinds.sum()),
        market=market,
        mark_tick=mark,
        index_tick=index,
        last_tick=last,
        first_mark_tick=tally.marks[market][0],
        open_interest_lot=interest,
        asks=_list_levels(orders, market, SELL),
        bids=_list_levels(orders, market, BUY),
        fund_quote=tally.fund_balances[fund],
        fund_low_quote=tally.fund_lows[fund],
        fund_start_quote=tally.fund_starts[fund],
        liquidations=tally.count(codes.LIQUIDATION_STARTED),
        deficits=tally.count(codes.DEFICIT),
        deficit_quote=tally.sums["deficit_quote"],
        adl_fills=tally.count(codes.ADL_FILL),
        adl_victims=len(tally.victims),
        closes=closes,
        queues={side: _list_places(queue) for side, queue in queues.items()},
        queue_lengths={side: len(queue["rank"]) for side, queue in queues.items()},
        marks=tuple(marks[:, 0].tolist()),
    )


def _list_levels(orders: Ints, market: int, side: int) -> tuple[Level, ...]:
    """Return the best levels of the canonical state's orders, which are in matching order."""
    rows = orders[(orders[:, 0] == market) & (orders[:, 1] == side)]
    if not len(rows):
        return ()
    starts = np.flatnonzero(np.diff(rows[:, 2], prepend=-1))
    is_market = rows[:, 4] == EXTERNAL
    sums = [np.add.reduceat(np.where(own, rows[:, 3], 0), starts)[:LEVELS_MOST] for own in (is_market, ~is_market)]
    ticks = rows[starts[:LEVELS_MOST], 2]
    return tuple(Level(*row) for row in zip(ticks.tolist(), *(column.tolist() for column in sums), strict=True))


def _list_places(queue: Mapping[str, Ints]) -> tuple[Place, ...]:
    columns = (queue[name][:LEVELS_MOST].tolist() for name in Place._fields)
    return tuple(Place(*row) for row in zip(*columns, strict=True))


def list_closes(events: Rows) -> list[Close]:
    """Return what the events of whole commands closed, in order, the last CLOSES_MOST of it.

    Source: WATCH-002, EVT-001.
    """
    rows = events[np.isin(events["kind"], list(WAYS))]
    if not len(rows):
        return []
    keys = np.stack([rows[name].astype(np.int64) for name in ("seq", "account", "market", "kind")])
    starts = np.flatnonzero(np.append(True, (keys[:, 1:] != keys[:, :-1]).any(axis=0)))
    lots, ticks = rows["qty_lot"].astype(np.int64), rows["price_tick"].astype(np.int64)
    totals = [np.add.reduceat(column, starts) for column in (lots, ticks * lots, _share_deficits(rows, events))]
    heads = rows[starts[-CLOSES_MOST:]]
    return [
        Close(
            ts_ns=int(row["ts_ns"]),
            account=int(row["account"]),
            market=int(row["market"]),
            side=-int(row["side"]),
            way=WAYS[int(row["kind"])],
            qty_lot=qty,
            price_tick=value // qty if qty else 0,
            bankruptcy_tick=int(row["bankruptcy_tick"]),
            deficit_quote=deficit,
        )
        for row, (qty, value, deficit) in zip(
            heads, zip(*(total[-CLOSES_MOST:].tolist() for total in totals), strict=True), strict=True
        )
    ]


def _share_deficits(rows: Rows, events: Rows) -> Ints:
    """Return the deficit that begins at each row: several fills may belong to one (EVT-001)."""
    told = events[events["kind"] == codes.DEFICIT]
    amounts = dict(zip(told["order_id"].tolist(), told["amount_quote"].tolist(), strict=True))
    found = np.zeros(len(rows), np.int64)
    numbers, firsts = np.unique(rows["order_id"], return_index=True)
    found[firsts] = [amounts.get(number, 0) for number in numbers.tolist()]
    return found
