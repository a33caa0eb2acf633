"""Both engines behind short names, for tests of marks and funding whose numbers are worked by hand."""

from decimal import Decimal

from engine import codes
from engine.codes import BUY, SELL
from engine.contract import Market, Tier, build_setup
from tests.mirror.streams import Command
from tests.mirror.twins import Twins

RATE, COUNT, EMA, FIRST_BASIS = 0, 1, 4, 6  # places in the digest's table of averages


def make_market(symbol="M", **changes):
    """Return a market in unit sizes without fees, 5 % maintenance, so that numbers can be done in the head."""
    tiers = (Tier(floor=Decimal(0), initial=Decimal("0.1"), maintenance=Decimal("0.05")),)
    fields = {"tick_size": Decimal(1), "lot_size": Decimal(1), "quote_unit": Decimal(1), "tiers": tiers}
    fields |= {
        "maker_fee": Decimal(0),
        "taker_fee": Decimal(0),
        "price_max": Decimal(40_000),
        "margin_call": Decimal(0),
    }
    return Market(symbol=symbol, **fields | {"default_leverage": 10} | changes)


class Pair(Twins):
    """Both engines, with short names for what the tests send; time stands still unless a test moves it."""

    def __init__(self, *markets):
        super().__init__(build_setup(markets))
        self.ts_ns = 0

    def send(self, kind, **fields):
        return self.apply(Command(ts_ns=self.ts_ns, kind=kind, **fields))

    def clock(self, ts_ns):
        self.ts_ns = ts_ns
        return self.send(codes.CLOCK)

    def index(self, price, market=0):
        return self.send(codes.INDEX, price_tick=price, market=market)

    def touch(self, bid, ask, qty=10):
        """Make the outside's book one level on each side; 0: none."""
        for _, side, price, *_ in self.plain.view().orders:
            self.send(codes.LEVEL, side=side, price_tick=price)
        for side, price in ((BUY, bid), (SELL, ask)):
            if price:
                self.send(codes.LEVEL, side=side, price_tick=price, qty_lot=qty)

    def last(self, price):
        return self.send(codes.PRINT, side=BUY, price_tick=price, qty_lot=1)

    def assign(self, account, side, qty, price, amount, market=0):
        fields = {"side": side, "qty_lot": qty, "price_tick": price, "amount_quote": amount, "market": market}
        return self.send(codes.ASSIGN, account=account, **fields)

    def mark(self, market=0):
        return self.plain.view().markets[market][0]

    def remembered(self, market=0):
        """Return what a market remembers, by place."""
        return [number for place, _, number in self.plain.view().averages if place == market]


def names(events):
    return [codes.EVENT_NAMES[kind] for kind in events["kind"].tolist()]
