"""Recordings of single orders: what rests in a book, in order of arrival, and whether trades met the first in time.

Shared by every reader of such a recording.  It tells each order (ADD, CHANGE, DELETE, FILL) and, at the end of each
message, the total of every level that a message touched, so that a replay sees the same book as from level updates.
"""

from collections.abc import Iterable

from sortedcontainers import SortedDict

from engine.codes import IN_SNAPSHOT, ROW_ADD, ROW_CHANGE, ROW_CLEAR, ROW_DELETE, ROW_FILL, ROW_LEVEL, ROW_TRADE
from engine.errors import DataError
from engine.feeds.instruments import Findings, Instrument
from engine.feeds.tape import RowBuilder

ROWS_PER_BLOCK = 4096


class OrderError(ValueError):
    """An order that cannot be: the reason in one or two words, then what was expected."""

    def __init__(self, reason: str, expected: str) -> None:
        super().__init__(expected)
        self.reason = reason


class Order:
    """An order that rests."""

    __slots__ = ("price_tick", "qty_lot", "side")

    def __init__(self, side: int, price_tick: int, qty_lot: int) -> None:
        self.side, self.price_tick, self.qty_lot = side, price_tick, qty_lot


class Level:
    """What rests at one price: orders by id, the first in time first, and a quantity nobody told the orders of."""

    __slots__ = ("orders", "total_lot", "unnamed_lot")

    def __init__(self) -> None:
        self.orders: dict[int, Order] = {}
        self.total_lot = self.unnamed_lot = 0


class OrderBook:
    """The resting orders of one instrument, told as rows (FEED-045).

    Parameters
    ----------
    instrument : Instrument
        Whose orders they are.
    builder : RowBuilder
        Gets the rows.
    findings : Findings
        Gets `trades_checked`, `trades_at_best`, `trades_first_in_time` (FEED-046), `resting_orders` at the end, and
        `levels_held`: totals that are more than a level of the market may hold, told as that.

    Attributes
    ----------
    orders : dict of int to Order
        What rests, by id.
    """

    def __init__(self, instrument: Instrument, builder: RowBuilder, findings: Findings) -> None:
        self.instrument, self.orders = instrument, dict[int, Order]()
        self._builder, self._findings = builder, findings
        self._sides: dict[int, SortedDict] = {1: SortedDict(), -1: SortedDict()}
        self._total_max = instrument.totals.most
        self._touched: dict[tuple[int, int], None] = {}
        self._ts_ns = self._exchange_ns = self._flags = 0

    def begin(self, ts_ns: int, exchange_ns: int, *, is_new: bool = True) -> None:
        """Begin a message, or go on with one that has parts with stamps of their own."""
        self._ts_ns, self._exchange_ns = ts_ns, exchange_ns
        if is_new:
            self._flags = 0

    def clear(self) -> None:
        """Forget everything; what follows in the message is the new book."""
        self.orders.clear()
        self._touched.clear()
        for levels in self._sides.values():
            levels.clear()
        self._flags = IN_SNAPSHOT
        self._add(ROW_CLEAR)

    def end(self) -> None:
        """End the message: tell the totals of the levels it touched."""
        if not self._touched and not self._flags:
            return
        for side, price_tick in self._touched:
            total = self.total(side, price_tick)
            if total > self._total_max:
                total = self._total_max
                self._findings.counts["levels_held"] += 1
            self._add(ROW_LEVEL, side, price_tick, total)
        self._touched.clear()
        self._builder.end_message()

    def finish(self) -> None:
        """Count what rests when the recording ends (`resting_orders`)."""
        self._findings.counts["resting_orders"] += len(self.orders)

    def find_best(self, side: int) -> int:
        """Return the best price of a side in ticks; 0 where it is empty."""
        levels = self._sides[side]
        if not levels:
            return 0
        best: int = levels.peekitem(-1 if side > 0 else 0)[0]
        return best

    def is_reached(self, side: int, price_tick: int) -> bool:
        """Return whether an order of this side and price would meet one of the other side."""
        best = self.find_best(-side)
        return best != 0 and side * (price_tick - best) >= 0

    def total(self, side: int, price_tick: int) -> int:
        """Return what rests at a price in lots."""
        level = self._sides[side].get(price_tick)
        return level.total_lot if level else 0

    def list_levels(self, side: int, count: int) -> list[tuple[int, int]]:
        """Return (price, total) of the best levels of a side."""
        levels = self._sides[side]
        prices: Iterable[int] = levels.keys()[-count:][::-1] if side > 0 else levels.keys()[:count]
        return [(price, levels[price].total_lot) for price in prices]

    # ------------------------------------------------------------ what a message tells

    def add(self, number: int, side: int, price_tick: int, qty_lot: int) -> None:
        """Let an order rest, behind all others of its price.

        Raises
        ------
        OrderError
            If one of this id rests already, or nothing of it is left.
        """
        if number in self.orders:
            raise OrderError("duplicate id", f"expected an id of no resting order, got {number}")
        if qty_lot < 1:
            raise OrderError("bad quantity", f"expected at least one lot, got {qty_lot}")
        self.orders[number] = Order(side, price_tick, qty_lot)
        self._queue(number, self.orders[number])
        self._add(ROW_ADD, side, price_tick, qty_lot, number)

    def set_total(self, side: int, price_tick: int, qty_lot: int) -> None:
        """Make a level hold so much: what its orders do not explain is unnamed and was there first.

        Where its orders are more than that, some of them are gone and nobody said which: all are unnamed then.
        """
        level = self._open(side, price_tick)
        if qty_lot < level.total_lot - level.unnamed_lot:
            for number in list(level.orders):
                self.delete(number)
            level = self._open(side, price_tick)
        level.unnamed_lot += qty_lot - level.total_lot
        level.total_lot = qty_lot
        self._settle(side, price_tick, level)

    def reduce_unnamed(self, side: int, price_tick: int, qty_lot: int) -> None:
        """Take from the quantity whose orders are not known.

        Raises
        ------
        OrderError
            If there is less of it.
        """
        level = self._sides[side].get(price_tick)
        if level is None or level.unnamed_lot < qty_lot:
            raise OrderError("unknown order", "expected an order that rests")
        level.unnamed_lot -= qty_lot
        level.total_lot -= qty_lot
        self._settle(side, price_tick, level)

    def change(self, number: int, price_tick: int, qty_lot: int) -> None:
        """Set price and quantity; another price, or more of it, goes behind all others of its price."""
        order = self._get(number)
        if qty_lot < 1:
            raise OrderError("bad quantity", f"expected at least one lot, got {qty_lot}")
        if price_tick != order.price_tick or qty_lot > order.qty_lot:
            self._unqueue(number, order)
            order.price_tick, order.qty_lot = price_tick, qty_lot
            self._queue(number, order)
        else:
            self._take(order, order.qty_lot - qty_lot)
        self._add(ROW_CHANGE, order.side, price_tick, qty_lot, number)

    def delete(self, number: int) -> None:
        """Take an order out."""
        order = self._get(number)
        self._unqueue(number, order)
        del self.orders[number]
        self._add(ROW_DELETE, order.side, order.price_tick, order.qty_lot, number)

    def fill(self, number: int, qty_lot: int) -> None:
        """Trade some of a resting order, all of which is out of the book then; check whose turn it was (FEED-046)."""
        order = self._get(number)
        if not 1 <= qty_lot <= order.qty_lot:
            raise OrderError("bad quantity", f"expected 1 to {order.qty_lot} lots, got {qty_lot}")
        level: Level = self._sides[order.side][order.price_tick]
        counts = self._findings.counts
        counts["trades_checked"] += 1
        counts["trades_at_best"] += order.price_tick == self.find_best(order.side)
        counts["trades_first_in_time"] += level.unnamed_lot == 0 and next(iter(level.orders)) == number
        self._add(ROW_FILL, order.side, order.price_tick, qty_lot, number)
        if qty_lot == order.qty_lot:
            self._unqueue(number, order)
            del self.orders[number]
        else:
            self._take(order, qty_lot)

    def trade(self, side: int, price_tick: int, qty_lot: int, number: int = 0, flags: int = 0) -> None:
        """Tell a trade; `side` is the taker's."""
        self._add(ROW_TRADE, side, price_tick, qty_lot, number, flags)

    def drop_reached(self, side: int, price_tick: int) -> int:
        """Take out whatever of the other side an order would meet; return how many orders that were (FEED-048)."""
        count = 0
        while self.is_reached(side, price_tick):
            best = self.find_best(-side)
            level: Level = self._sides[-side][best]
            count += len(level.orders) + (level.unnamed_lot > 0)
            for number in list(level.orders):
                self.delete(number)
            if level.unnamed_lot:
                self.set_total(-side, best, 0)
        return count

    # ------------------------------------------------------------ the queues

    def _get(self, number: int) -> Order:
        order = self.orders.get(number)
        if order is None:
            raise OrderError("unknown order", f"expected an order that rests, got {number}")
        return order

    def _open(self, side: int, price_tick: int) -> Level:
        levels = self._sides[side]
        level: Level | None = levels.get(price_tick)
        if level is None:
            level = levels[price_tick] = Level()
        return level

    def _settle(self, side: int, price_tick: int, level: Level) -> None:
        if not level.total_lot:
            del self._sides[side][price_tick]
        self._touched[side, price_tick] = None

    def _queue(self, number: int, order: Order) -> None:
        level = self._open(order.side, order.price_tick)
        level.orders[number] = order
        level.total_lot += order.qty_lot
        self._touched[order.side, order.price_tick] = None

    def _unqueue(self, number: int, order: Order) -> None:
        level: Level = self._sides[order.side][order.price_tick]
        del level.orders[number]
        level.total_lot -= order.qty_lot
        self._settle(order.side, order.price_tick, level)

    def _take(self, order: Order, qty_lot: int) -> None:
        order.qty_lot -= qty_lot
        self._sides[order.side][order.price_tick].total_lot -= qty_lot
        self._touched[order.side, order.price_tick] = None

    def _add(
        self, kind: int, side: int = 0, price: int = 0, qty: int = 0, number: int = 0, flags: int | None = None
    ) -> None:
        flags = self._flags if flags is None else flags
        market = self.instrument.index
        self._builder.add(kind, market, self._ts_ns, self._exchange_ns, side, price, qty, number, flags)


def drop_fault(findings: Findings, path: object, line: int, field: str, error: Exception) -> None:
    """Leave out what a message told of one order."""
    reason = error.reason if isinstance(error, OrderError) else f"bad {field}"
    findings.drop(reason, DataError(path, line, field, str(error)))
