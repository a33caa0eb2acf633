"""Order books that others publish, and both of ours, behind the same three calls: enter, cancel, modify.

Every book gets the challenge's messages one call at a time and owes us its trades, in order.  An adapter does what a
user of that book would do and no more: it keeps the ids the book gives out, and reads fills as they happen.  What a
message means is the challenge's: a modify takes the order out and enters it anew, a cancel of what is gone is refused.
"""

import importlib
from typing import NamedTuple, Protocol

import numpy as np

from engine.bench.challenge import CANCEL, MODIFY, NEW
from engine.bench.matching import make_engine, run_workload
from engine.layout import MESSAGE, REPORT
from tests.mirror.test_matching import PlainMatching

TRADED = 1  # a report's kind


class Trade(NamedTuple):
    """One fill: the resting order, the incoming one, ticks, lots."""

    maker: int
    taker: int
    price: int
    qty: int


class Book(Protocol):
    """What an adapter offers; side 0 buys, side 1 sells."""

    def enter(self, order_id: int, side: int, price: int, qty: int, is_ioc: bool) -> None: ...

    def cancel(self, order_id: int) -> None: ...

    def modify(self, order_id: int, side: int, price: int, qty: int) -> None: ...

    def list_trades(self) -> list[Trade]: ...


def list_rows(messages):
    """Return MESSAGE rows as plain tuples: kind, side, is_ioc, qty, order_id, price."""
    names = ["kind", "side", "ioc", "qty", "order_id", "price"]
    return list(zip(*(messages[name].tolist() for name in names), strict=True))


def play(book, rows):
    """Give a book its messages, one call each; return the book."""
    for kind, side, is_ioc, qty, order_id, price in rows:
        if kind == NEW:
            book.enter(order_id, side, price, qty, bool(is_ioc))
        elif kind == CANCEL:
            book.cancel(order_id)
        else:
            book.modify(order_id, side, price, qty)
    return book


def read_trades(reports):
    """Return the trades in REPORT rows."""
    rows = reports[reports["kind"] == TRADED]
    columns = (rows[name].tolist() for name in ("order_id", "other_id", "price", "qty"))
    return [Trade(*row) for row in zip(*columns, strict=True)]


def describe_difference(trades, expected):
    """Return None where the trades are the expected ones, else a sentence with the place of the first that is not."""
    for at, (trade, wanted) in enumerate(zip(trades, expected, strict=False), 1):
        if trade != wanted:
            return f"trade {at:,} of {len(expected):,} differs: {tuple(trade)}, ours is {tuple(wanted)}"
    if len(trades) != len(expected):
        return f"it has {len(trades):,} trades, ours are {len(expected):,}; the first {len(trades):,} agree"
    return None


class Compiled:
    """Our compiled book, one call per message: what a call from Python costs it."""

    def __init__(self):
        self.engine = make_engine()
        self.row = np.zeros(1, MESSAGE)
        self.reports = np.zeros(1 << 16, REPORT)
        self.written = 0

    def _send(self, *fields):
        self.row[0] = fields
        self.written += run_workload(self.engine, self.row, self.reports[self.written :])

    def enter(self, order_id, side, price, qty, is_ioc):
        self._send(NEW, side, is_ioc, 0, qty, 0, order_id, price, 0)

    def cancel(self, order_id):
        self._send(CANCEL, 0, 0, 0, 0, 0, order_id, 0, 0)

    def modify(self, order_id, side, price, qty):
        self._send(MODIFY, side, 0, 0, qty, 0, order_id, price, 0)

    def list_trades(self):
        return read_trades(self.reports[: self.written])


class Reference:
    """Our readable book."""

    def __init__(self):
        self.plain = PlainMatching()

    def enter(self, order_id, side, price, qty, is_ioc):
        self.plain.apply(NEW, side, is_ioc, qty, 0, order_id, price)

    def cancel(self, order_id):
        self.plain.apply(CANCEL, 0, False, 0, 0, order_id, 0)

    def modify(self, order_id, side, price, qty):
        self.plain.apply(MODIFY, side, False, qty, 0, order_id, price)

    def list_trades(self):
        rows = [line.split(",") for _, kind, line in self.plain.lines if kind == TRADED]
        return [Trade(int(maker), int(taker), int(price), int(qty)) for _, _, price, qty, maker, taker in rows]


class Foreign:
    """What the adapters of other books share: their ids beside ours, and the trades in their ids."""

    package = ""

    def __init__(self):
        self.module = importlib.import_module(self.package)
        self.orders = {}  # our id -> the book's id or order
        self.ids = {}  # the book's id -> ours
        self.trades = []

    def list_trades(self):
        return [Trade(self.ids[maker], self.ids[taker], price, qty) for maker, taker, price, qty in self.trades]


class Nanobook(Foreign):
    """Rust behind PyO3; a modify is its own."""

    package = "nanobook"

    def __init__(self):
        super().__init__()
        self.book = self.module.Exchange()

    def _note(self, order_id, theirs, trades):
        self.orders[order_id], self.ids[theirs] = theirs, order_id
        for trade in trades:
            self.trades.append((trade.passive_order_id, trade.aggressor_order_id, trade.price, trade.quantity))

    def enter(self, order_id, side, price, qty, is_ioc):
        done = self.book.submit_limit("sell" if side else "buy", price, qty, "ioc" if is_ioc else "gtc")
        self._note(order_id, done.order_id, done.trades)

    def cancel(self, order_id):
        self.book.cancel(self.orders[order_id])

    def modify(self, order_id, side, price, qty):
        done = self.book.modify(self.orders[order_id], price, qty)
        if done.success:
            self._note(order_id, done.new_order_id, done.trades)


class Obook(Foreign):
    """Go behind a C interface and ctypes; a modify is its own; fills are events, read after every order."""

    package = "obook"

    def __init__(self):
        super().__init__()
        self.book = self.module.Book()
        self.traded = self.module.EventKind.TRADE

    def _note(self, order_id, theirs):
        self.orders[order_id], self.ids[theirs] = theirs, order_id
        for event in self.book.events():
            if event.kind == self.traded:
                self.trades.append((event.maker_id, event.taker_id, event.price, event.qty))

    def enter(self, order_id, side, price, qty, is_ioc):
        tif = self.module.IOC if is_ioc else self.module.GTC
        self._note(order_id, self.book.submit(order_id, side, price, qty, tif=tif).order_id)

    def cancel(self, order_id):
        self.book.cancel(self.orders[order_id], order_id)

    def modify(self, order_id, side, price, qty):
        done = self.book.replace(self.orders[order_id], order_id, side, price, qty)
        if done.order_id:
            self._note(order_id, done.order_id)


class Liquibook(Foreign):
    """C++ behind SWIG; fills are calls of a listener; a modify is a cancel and a new order.

    Its own replace leaves the order's old price standing on the Python side, and a later cancel does not find it.
    """

    package = "liquibook"

    def __init__(self):
        super().__init__()
        trades = self.trades

        class Listener(self.module.OrderListener):
            def on_accept(self, order):
                order.accept()

            def on_fill(self, order, resting, qty, price):
                order.fill(qty, price, 0)
                resting.fill(qty, price, 0)
                trades.append((resting.order_id_, order.order_id_, price, qty))

            def on_cancel(self, order):
                order.cancel()

            def on_cancel_reject(self, order, reason):
                pass

        self.listener = Listener()  # the book does not keep it alive
        self.book = self.module.DepthOrderBook()
        self.book.set_order_listener(self.listener)

    def enter(self, order_id, side, price, qty, is_ioc):
        conditions = self.module.oc_immediate_or_cancel if is_ioc else self.module.oc_no_conditions
        order = self.module.SimpleOrder(side == 0, price, qty, 0, conditions)
        self.orders[order_id], self.ids[order.order_id_] = order, order_id
        self.book.add(order, conditions)

    def cancel(self, order_id):
        self.book.cancel(self.orders[order_id])

    def modify(self, order_id, side, price, qty):
        order = self.orders[order_id]
        if order.open_qty() and order.state() == self.module.os_accepted:
            self.book.cancel(order)
            self.enter(order_id, side, price, qty, False)


class LightMatchingEngine(Foreign):
    """Plain Python; it knows neither IOC nor modify: both are made of its cancel."""

    package = "lightmatchingengine"

    def __init__(self):
        super().__init__()
        self.book = importlib.import_module("lightmatchingengine.lightmatchingengine").LightMatchingEngine()

    def enter(self, order_id, side, price, qty, is_ioc):
        order, trades = self.book.add_order("X", price, qty, 1 + side)
        self.orders[order_id], self.ids[order.order_id] = order, order_id
        for trade in trades:
            if trade.order_id != order.order_id:  # a fill is told once for each of the two
                self.trades.append((trade.order_id, order.order_id, trade.trade_price, trade.trade_qty))
        if is_ioc:
            self.cancel(order_id)

    def cancel(self, order_id):
        order = self.orders[order_id]
        if order.leaves_qty:  # it fails on an order that is filled
            self.book.cancel_order(order.order_id, "X")

    def modify(self, order_id, side, price, qty):
        if self.orders[order_id].leaves_qty:
            self.cancel(order_id)
            self.enter(order_id, side, price, qty, False)


PEERS = {book.package: book for book in (Nanobook, Liquibook, Obook, LightMatchingEngine)}
