"""Profile `vm_cash`: variation margin paid in cash at each mark, as on Vega, by the engine's policies (CHECK-006).

An order is a `place`, `settle` a `mark` at the price of the last trade that is no closeout, `advance` a `clock`.  The
market settles at the mark, orders need no initial margin, a vault takes over at the mark whoever is below maintenance,
and its account, the house, is the scenario's default manager.
"""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

from engine.check.names import HOUSE
from engine.check.peer import PeerPlay, read_exact, show_exact, to_exact
from engine.check.places import Form, Items
from engine.check.play import Options
from engine.codes import BUY, TAKEOVER, TRADE
from engine.commands import Cancel, CancelAll, Clock, Deposit, FundDeposit, Mark, Place

MANAGER = "DEFAULTER"
DISPOSALS = ("none", "immediate", "stepped")
TIFS = ("GTC", "IOC", "FOK")
SIDES = ("buy", "sell")


class CashPlay(PeerPlay):
    """A scenario of profile `vm_cash`.

    Source: CHECK-006.
    """

    def __init__(self, form: Form, options: Options) -> None:
        super().__init__(form, options)
        self.steps = form.forms("steps")
        self.prices = [read_exact(step, "px") for step in self.steps if step.has("px")]
        if not self.prices:
            form.refuse("steps", "expected at least one order with a price")
        self.make_rig(self.read_market(form.form("market")), options)
        self.accounts: dict[str, int] = {}
        self.deposits: dict[str, int] = {}
        self.orders: dict[int, tuple[str, Any]] = {}  # order id -> account, reference
        self.last_tick = 0
        self.trades: list[list[Any]] = []

    # ------------------------------------------------------------ setting up

    def read_market(self, form: Form) -> dict[str, Any]:
        """Return the fields of our market that do what the scenario's does."""
        form.take("tick", 1)
        slippage = read_exact(form, "slippage", 0)
        long_rate, short_rate = (read_exact(form, f"rf_{side}", 0) + slippage for side in ("long", "short"))
        disposal = form.form("disposal") if form.has("disposal") else None
        mode = disposal.text("mode", known=DISPOSALS) if disposal else "none"
        liquidation = {
            "cancel": "account",
            "backstop": "vault",
            "vault_below": "1",
            "takeover_price": "mark",
            "unwind": mode,
            "unwind_range": "0",
            "closeout_fee": show_exact(read_exact(form, "closeout_fee_rate", 0)),
        }
        if disposal and mode == "stepped":
            # a step falls due at every `advance`, whatever time that lets pass
            liquidation |= {"unwind_interval_s": "0.000000001", "unwind_full": disposal.whole("full")}
            names = {"unwind_share": "fraction", "unwind_depth": "max_consume", "unwind_range": "range"}
            liquidation |= {ours: show_exact(read_exact(disposal, theirs)) for ours, theirs in names.items()}
        highest = max(long_rate, short_rate)
        return {
            "symbol": "PERP",
            "settle": "CASH",
            "tick_size": "1",
            "lot_size": "1",
            "quote_unit": "1",
            "price_max": str(2 * int(max(self.prices)) + 1),
            "tiers": [{"floor": "0", "initial": show_exact(highest), "maintenance": show_exact(long_rate)}],
            "short_maintenance": show_exact(short_rate - long_rate),
            "default_leverage": 1,
            "maker_fee": "0",
            "taker_fee": "0",
            "margin_call": "0",
            "mark_model": "recorded",
            "initial_mark": show_exact(self.prices[0]),
            "settlement": "mark",
            "order_margin": "none",
            "liquidation": liquidation,
        }

    def run(self) -> None:
        """Set up fund and accounts, take the steps, compare at each `expect` and at the end."""
        fund = self.form.whole("fund", 0)
        if fund:
            self.send("fund", FundDeposit(amount_quote=fund))
        for account in self.form.forms("accounts"):
            name = account.text("id")
            self.accounts[name] = len(self.accounts) + 1
            self.deposits[name] = 0
            self.pay_in(name, account.whole("deposit"))
        for step, form in enumerate(self.steps, 1):
            self.step, self.line = step, form.line
            taken: dict[str, Callable[[Form], None]] = {
                "order": self.place,
                "settle": self.settle,
                "advance": self.advance,
                "deposit": self.deposit,
                "cancel": self.cancel,
                "clear_trades": self.clear_trades,
                "expect": self.check,
            }
            taken[form.text("op", known=taken)](form)
            form.end("note")
        expected = self.form.form("expected")
        self.step, self.line = 0, expected.line
        self.check(expected)
        expected.end("note")

    def pay_in(self, name: str, amount: int) -> None:
        """Deposit into an account."""
        self.deposits[name] += amount
        if amount:
            self.send("deposit", Deposit(account=self.accounts[name], amount_quote=amount))

    # ------------------------------------------------------------ steps

    def find(self, form: Form, field: str = "a") -> str:
        """Return the account a step is of."""
        return str(form.text(field, known=self.accounts))

    def send_now(self, what: str, command: Any) -> list[Any]:
        """Send a step's command and note the trades and takeovers it led to."""
        events = self.send(what, command)
        names = {number: name for name, number in self.accounts.items()} | {HOUSE: MANAGER}
        for event in events:
            if event.kind == TRADE:
                pair = (names[event.account], names[event.other])
                if HOUSE not in (event.account, event.other):
                    self.last_tick = event.price_tick
            elif event.kind == TAKEOVER:
                pair = (names[event.account], MANAGER)
            else:
                continue
            buyer, seller = pair if event.side == BUY else pair[::-1]
            self.trades.append([buyer, event.price_tick, event.qty_lot, seller])
        return events

    def place(self, form: Form) -> None:
        """`order`: unchecked, price-time; without a price it takes whatever stands."""
        name, side = self.find(form), form.text("side", known=SIDES)
        order_id = len(self.orders) + 1
        self.orders[order_id] = (name, form.take("ref", None))
        tif = form.text("tif", "GTC", known=TIFS)
        price_tick = form.whole("px", None)
        if price_tick is None:
            price_tick = self.rig.setup.markets[0].price_max_tick if side == "buy" else 1
            tif = "IOC" if tif == "GTC" else tif
        command = Place(
            account=self.accounts[name],
            order_id=order_id,
            side=side,
            qty_lot=form.whole("qty"),
            price_tick=price_tick,
            tif=tif,
        )
        events = self.send_now(f"order of {name}", command)
        if form.has("fills"):
            fills = sum(event.kind == TRADE and event.order_id == order_id for event in events)
            self.compare(f"fills of the order of {name}", form.whole("fills"), fills)

    def settle(self, form: Form) -> None:
        """`settle`: the mark becomes the price of the last trade that was no closeout."""
        if self.last_tick:
            self.send_now("settle", Mark(price_tick=self.last_tick))

    def advance(self, form: Form) -> None:
        """`advance`: time passes, and the house takes a step."""
        self.rig.now_ns += form.whole("s") * 1_000_000_000
        self.send_now("advance", Clock())

    def deposit(self, form: Form) -> None:
        """`deposit`."""
        self.pay_in(self.find(form), form.whole("amount"))

    def cancel(self, form: Form) -> None:
        """`cancel`: all of an account's orders, or those with a reference."""
        name, account = self.find(form), self.accounts[self.find(form)]
        if not form.has("ref"):
            self.send_now("cancel", CancelAll(account=account))
            return
        resting = {int(row[5]) for row in self.rig.view.orders}
        for order_id, known in self.orders.items():
            if order_id in resting and known == (name, form.take("ref")):
                self.send_now("cancel", Cancel(account=account, order_id=order_id))

    def clear_trades(self, form: Form) -> None:
        """`clear_trades`: those before are not expected."""
        self.trades.clear()

    # ------------------------------------------------------------ expectations

    def check(self, form: Form) -> None:
        """`expect`, and what is expected at the end: compare everything the form names."""
        rig, accounts = self.rig, self.accounts | {MANAGER: HOUSE}
        reads: dict[str, Callable[[str], int]] = {
            "positions": lambda name: rig.position(accounts[name])["qty_lot"],
            "total_pnl": lambda name: rig.wallet(accounts[name]) - self.deposits.get(name, 0),
            "cash": lambda name: rig.wallet(accounts[name]),
            "maintenance": lambda name: rig.maintenance(accounts[name]),
        }
        for field, read in reads.items():
            if form.has(field):
                numbers = form.form(field)
                for name in numbers.fields:
                    if name not in accounts:
                        numbers.refuse(name, f"unknown account, known: {', '.join(accounts)}")
                    self.compare_number(numbers, name, f"{field}.{name}", read(name))
        cash = sum(rig.wallet(account) for account in self.accounts.values())
        totals = {"fund": rig.fund(), "mark": rig.mark(), "total": cash + rig.fund() + int(rig.view.assets[0][0])}
        for field, total in totals.items():
            if form.has(field):
                self.compare_number(form, field, field, total)
        self.check_trades(form.items("trades", None) if form.has("trades") else None)

    def check_trades(self, expected: Items | None) -> None:
        """Compare the trades since the last `clear_trades`, takeovers at the mark among them."""
        if expected is None:
            return
        for at, (trade, line) in enumerate(zip(expected, expected.lines, strict=True)):
            got = self.trades[at] if at < len(self.trades) else "none"
            self.compare(f"trades[{at}]", trade, got, line)
        self.compare("trades", f"{len(expected)}", f"{len(self.trades)}", expected.line)

    def compare_number(self, form: Form, field: str, what: str, got: int) -> None:
        """Compare one number of an expectation."""
        self.compare_exact(what, to_exact(form, field, form.fields[field]), Fraction(got), form.fields.lines[field])
