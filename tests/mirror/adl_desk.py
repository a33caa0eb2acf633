"""A desk for auto-deleveraging: markets in unit sizes, both engines behind it, numbers that can be done in the head."""

from decimal import Decimal

from engine import codes
from engine.codes import BUY, SELL
from engine.contract import AdlPolicy, Market, Tier, build_setup
from tests.mirror.streams import Command
from tests.mirror.twins import Twins


class Desk:
    """Twins over markets that differ from the defaults by an ADL policy and little else."""

    def __init__(self, markets=1, price=100, policy=None, **changes):
        tiers = (Tier(floor=Decimal(0), initial=Decimal("0.05"), maintenance=Decimal("0.05")),)
        fields = {"tick_size": Decimal(1), "lot_size": Decimal(1), "quote_unit": Decimal(1), "tiers": tiers}
        fields |= {"maker_fee": Decimal(0), "taker_fee": Decimal(0), "price_max": Decimal(1000)}
        fields |= {"margin_call": Decimal(0), "adl": AdlPolicy(**(policy or {})), **changes}
        self.twins = Twins(build_setup([Market(symbol=f"M{number}", **fields) for number in range(markets)]))
        self.ts_ns = 0
        for market in range(markets):
            self.mark(price, market)

    def send(self, kind, **fields):
        """Apply a command to both engines; they and the auditor agree, or the test fails."""
        return self.twins.apply(Command(ts_ns=self.ts_ns, kind=kind, **fields))

    def mark(self, price, market=0):
        """Move the mark."""
        return self.send(codes.MARK, market=market, price_tick=price)

    def bring(self, account, side, qty, price, amount, market=0):
        """Bring a position and its collateral from elsewhere."""
        fields = {"account": account, "side": side, "qty_lot": qty, "price_tick": price, "amount_quote": amount}
        return self.send(codes.ASSIGN, market=market, **fields)

    def fund(self, amount, market=0):
        """Pay into the fund."""
        return self.send(codes.FUND_DEPOSIT, market=market, amount_quote=amount)

    def bid(self, price, qty, market=0):
        """Set the outside's bid at a price."""
        return self.send(codes.LEVEL, market=market, side=BUY, price_tick=price, qty_lot=qty)

    def queue(self, side=SELL, market=0):
        """Return (account, score, qty_lot, lights) of a side, on which both engines agree."""
        rows = self.twins.fast.rank_side(market, side)
        assert rows == self.twins.plain.rank_side(market, side)
        return rows

    def trigger(self, market=0):
        """Return (active, balance, peak) of a market's trigger, on which both engines agree."""
        state = self.twins.fast.read_trigger(market)
        assert state == self.twins.plain.read_trigger(market)
        return state

    def wallet(self, account):
        """Return an account's wallet in the first asset."""
        return {row[0]: row[2] for row in self.twins.plain.view().wallets}.get(account, 0)

    def asset(self):
        """Return (fees, rounding, insolvency, waived) of the first asset."""
        fees, rounding, insolvency, _, _, waived = self.twins.plain.view().assets[0]
        return fees, rounding, insolvency, waived

    def qty(self, account, market=0):
        """Return an account's signed quantity."""
        return {row[:2]: row[2] for row in self.twins.plain.view().positions}.get((account, market), 0)


def rows_of(events, kind, *names):
    """Return the named fields of the events of a kind; one name gives plain numbers."""
    found = events[events["kind"] == kind]
    if len(names) == 1:
        return found[names[0]].tolist()
    return [tuple(int(event[name]) for name in names) for event in found]


def parts_of(events):
    """Return {victim: lots} of a command's deleveraging, in the order of closing."""
    return dict(rows_of(events, codes.ADL_FILL, "other", "qty_lot"))


def kinds_of(events):
    """Return the names of the kinds of events."""
    return [codes.EVENT_NAMES[int(kind)] for kind in events["kind"]]
