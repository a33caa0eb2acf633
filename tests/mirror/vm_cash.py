"""Scenarios of variation margin paid in cash, played on both engines: how each of their operations is said here."""

from decimal import Decimal

from engine import codes
from engine.contract import LiquidationPolicy, Market, Tier, build_setup
from engine.reference.margin import compute_position_maintenance
from tests.mirror.streams import Command
from tests.mirror.twins import Twins

HOUSE_NAME = "DEFAULTER"
SECOND_NS = 1_000_000_000


def make_policy(scenario):
    """Return the waterfall: below maintenance everything goes to the house at the mark, what is left to the fund."""
    market = scenario["market"]
    disposal = market.get("disposal", {"mode": "none"})
    fields = {"unwind": disposal["mode"], "unwind_range": Decimal(0)}
    if disposal["mode"] == "stepped":
        fields |= {
            "unwind_interval_s": Decimal(disposal["step_s"]),
            "unwind_share": Decimal(disposal["fraction"]),
            "unwind_full": Decimal(disposal["full"]),
            "unwind_depth": Decimal(disposal["max_consume"]),
            "unwind_range": Decimal(disposal["range"]),
        }
    fee = Decimal(market.get("closeout_fee_rate", "0"))
    return LiquidationPolicy(
        backstop="vault", vault_below=Decimal(1), takeover_price="mark", closeout_fee=fee, **fields
    )


def make_setup(scenario):
    """Return the market: one flat tier, other rates for shorts, no fees, no check of orders, settled at the mark."""
    market = scenario["market"]
    long, short, slippage = (Decimal(market.get(name, "0")) for name in ("rf_long", "rf_short", "slippage"))
    tier = Tier(floor=Decimal(0), initial=max(long, short) + slippage, maintenance=long + slippage)
    units = dict.fromkeys(("tick_size", "lot_size", "quote_unit"), Decimal(1))
    fees = dict.fromkeys(("maker_fee", "taker_fee", "margin_call"), Decimal(0))
    return build_setup(
        [
            Market(
                symbol="X",
                tiers=(tier,),
                short_maintenance=short - long,
                default_leverage=1,
                price_max=Decimal(100_000),
                initial_mark=Decimal(1),  # orders need one; nothing is held until the first settlement moves it
                settlement="mark",
                order_margin="none",
                liquidation=make_policy(scenario),
                **units,
                **fees,
            )
        ]
    )


class Player:
    """One scenario on both engines."""

    def __init__(self, scenario):
        self.twins = Twins(make_setup(scenario))
        self.numbers = {account["id"]: at for at, account in enumerate(scenario["accounts"], 1)}
        self.numbers[HOUSE_NAME] = codes.HOUSE
        self.names = {number: name for name, number in self.numbers.items()}
        self.deposits = dict.fromkeys(self.numbers, 0)
        self.trades = []
        self.refs = {}
        self.ts_ns = self.order_id = 0
        self.last = 0
        if scenario.get("fund"):
            self.send(codes.FUND_DEPOSIT, amount_quote=scenario["fund"])
        for account in scenario["accounts"]:
            self.deposit({"a": account["id"], "amount": account["deposit"]})

    def send(self, kind, **fields):
        """Apply one command to both engines, and note what traded: the last price is never the house's."""
        events = self.twins.apply(Command(ts_ns=self.ts_ns, kind=kind, **fields))
        assert codes.REJECTED not in events["kind"], f"{fields}: {events}"
        for event in events:
            pair = (self.names.get(int(event["account"])), self.names.get(int(event["other"])))
            price, qty = int(event["price_tick"]), int(event["qty_lot"])
            if event["kind"] == codes.TRADE:
                buyer, seller = pair if event["side"] == codes.BUY else pair[::-1]
                self.last = price if event["account"] != codes.HOUSE else self.last
            elif event["kind"] == codes.TAKEOVER:
                seller, buyer = pair if event["side"] == codes.SELL else pair[::-1]
            else:
                continue
            self.trades.append([buyer, price, qty, seller])
        return events

    def play(self, scenario):
        """Play all steps, and hold the end against what is expected."""
        for step in scenario["steps"]:
            getattr(self, step["op"])(step)
        self.expect(scenario["expected"])

    def order(self, step):
        """A limit order; one without a price takes any, and only what is there."""
        self.order_id += 1
        side = codes.BUY if step["side"] == "buy" else codes.SELL
        price, tif = step.get("px"), codes.GTC if step.get("tif", "GTC") == "GTC" else codes.IOC
        if price is None:
            price, tif = (100_000 if side == codes.BUY else 1), codes.IOC
        self.refs[step["a"], step.get("ref")] = self.order_id
        fields = {"account": self.numbers[step["a"]], "order_id": self.order_id, "side": side, "tif": tif}
        events = self.send(codes.PLACE, price_tick=price, qty_lot=step["qty"], **fields)
        if "fills" in step:
            assert (events["kind"] == codes.TRADE).sum() == step["fills"]

    def settle(self, step):
        """The mark is now the last trade's price; it is said even if it did not move."""
        if self.last:
            self.send(codes.MARK, price_tick=self.last)

    def advance(self, step):
        self.ts_ns += step["s"] * SECOND_NS
        self.send(codes.CLOCK)

    def deposit(self, step):
        self.deposits[step["a"]] += step["amount"]
        self.send(codes.DEPOSIT, account=self.numbers[step["a"]], amount_quote=step["amount"])

    def cancel(self, step):
        account = self.numbers[step["a"]]
        if step.get("ref") is None:
            self.send(codes.CANCEL_ALL, account=account)
        else:
            self.send(codes.CANCEL, account=account, order_id=self.refs[step["a"], step["ref"]])

    def clear_trades(self, step):
        self.trades = []

    def expect(self, step):
        """Hold the state against everything a scenario may expect."""
        view = self.twins.fast.view()
        cash = {int(row[0]): int(row[2]) for row in view.wallets}
        held = {int(row[0]): int(row[2]) for row in view.positions}
        got = {
            "positions": lambda name: held.get(self.numbers[name], 0),
            "cash": lambda name: cash.get(self.numbers[name], 0),
            "total_pnl": lambda name: cash.get(self.numbers[name], 0) - self.deposits[name],
            "maintenance": lambda name: compute_position_maintenance(
                self.twins.plain.inner.state, self.numbers[name], 0
            ),
        }
        for key, value in got.items():
            wanted = step.get(key, {})
            assert {name: value(name) for name in wanted} == wanted, key
        fund, fees = int(view.funds[0][0]), int(view.assets[0][0])
        whole = {"fund": fund, "mark": int(view.markets[0][0]), "total": sum(cash.values()) + fund + fees}
        for key, value in whole.items():
            assert step.get(key, value) == value, key
        assert step.get("trades", self.trades) == self.trades
