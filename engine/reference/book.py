"""A book as plainly as it can be said: per side, prices in order, and per price a list of orders in time order."""

from collections.abc import Iterator
from dataclasses import dataclass

from sortedcontainers import SortedDict

from engine.codes import BUY, EXTERNAL, SELL


@dataclass(slots=True)
class Order:
    """One resting order; the outside's have order id 0.

    `priority` grows with every queueing, over all books: it is the time in price-time.
    """

    order_id: int
    account: int
    market: int
    side: int
    price_tick: int
    qty_lot: int
    flags: int
    priority: int


def is_inside(side: int, limit_tick: int, price_tick: int) -> bool:
    """Return whether an order of `side` with this limit trades at `price_tick` (the limit is met or better)."""
    return price_tick <= limit_tick if side == BUY else price_tick >= limit_tick


class Book:
    """The resting orders of one market.

    Source: MATCH-001, MATCH-003.
    """

    def __init__(self) -> None:
        self.levels: dict[int, SortedDict] = {BUY: SortedDict(), SELL: SortedDict()}

    def list_prices(self, side: int) -> list[int]:
        """Return the prices of one side, best first."""
        prices = list(self.levels[side])
        return prices[::-1] if side == BUY else prices

    def get_level(self, side: int, price_tick: int) -> list[Order]:
        """Return the orders at one price in time order, as a list of their own."""
        return list(self.levels[side].get(price_tick, ()))

    def best_price(self, side: int) -> int:
        """Return the best price of one side, 0 where nothing rests."""
        prices = self.list_prices(side)
        return prices[0] if prices else 0

    def iterate(self, side: int) -> Iterator[Order]:
        """Yield one side in matching order: best price first, then the order that has queued longest.

        Source: MATCH-001.
        """
        for price in self.list_prices(side):
            yield from self.get_level(side, price)

    def find_crossed(self, side: int, limit_tick: int, skip_outside: bool = False) -> Order | None:
        """Return the first resting order an incoming order of `side` with this limit would trade with.

        Source: MATCH-001, OUT-004.
        """
        for order in self.iterate(-side):
            if not is_inside(side, limit_tick, order.price_tick):
                return None
            if not (skip_outside and order.account == EXTERNAL):
                return order
        return None

    def append(self, order: Order) -> None:
        """Queue an order at the tail of its price level.

        Source: MATCH-003.
        """
        self.levels[order.side].setdefault(order.price_tick, []).append(order)

    def remove(self, order: Order) -> None:
        """Take an order out of its level, and the level away with its last order."""
        level = self.levels[order.side][order.price_tick]
        level[:] = [other for other in level if other is not order]
        if not level:
            del self.levels[order.side][order.price_tick]
