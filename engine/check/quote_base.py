"""Profile `quote_base`: an account is (quote, base), liquidated as on dYdX, by the engine's policies (CHECK-007).

quote = wallet - cost.  Accounts are brought in by `assign` at a price that leaves the wallet at zero or more.  The
engine liquidates by itself whoever is below maintenance, so an account that the scenario liquidates is brought in when
the scenario says so; a deleveraging that follows is part of the same liquidation.
"""

from collections.abc import Callable
from fractions import Fraction
from math import ceil, floor
from typing import Any

from engine.check.facts import REASONS
from engine.check.peer import PeerPlay, count_decimals, read_exact, show_exact, to_exact
from engine.check.places import Form
from engine.check.play import Options
from engine.codes import ADL_FILL, ADL_STARTED, LIQUIDATION_ENDED, LIQUIDATION_FILL, LIQUIDATION_STARTED
from engine.commands import Assign, Clock, Deposit, FundDeposit, Mark, Place

SIDES = ("buy", "sell")
PRICES = ("bankruptcy", "oracle")
LIMITS = ("max_portion", "min_notional", "max_notional", "max_insurance_lost")
COOLDOWN_NS = 1_000_000_000  # after a step of a part; the scenario's next `liquidate` of the account lets it pass
FINER_TICKS, FINER_LOTS = 2, 4  # decimals more than the scenario writes, for limits and shares between its prices
MICRO = Fraction(1, 1_000_000)  # the peer counts quote in these
FLAGS = {"fund_refused": "fund_short", "insurance_cap": "loss_limit"}


class QuoteBasePlay(PeerPlay):
    """A scenario of profile `quote_base`.

    Source: CHECK-007.
    """

    def __init__(self, form: Form, options: Options) -> None:
        super().__init__(form, options)
        self.steps = form.forms("steps")
        self.ops = [step.text("op", known=("order", "oracle", "liquidate", "deleverage")) for step in self.steps]
        market = form.form("market")
        self.oracle = read_exact(market, "oracle")
        self.rates = {name: read_exact(market, name) for name in ("mmr", "imr")}
        self.quote: dict[str, Fraction] = {}
        self.base: dict[str, Fraction] = {}
        for account in form.forms("accounts"):
            name = account.text("id")
            self.quote[name], self.base[name] = read_exact(account, "quote"), read_exact(account, "base")
        self.numbers = {name: at for at, name in enumerate(self.order_victims(), 1)}
        self.choose_units()
        self.make_rig(self.read_market(market), options)
        self.assigned: set[str] = set()
        self.waiting: Fraction | None = None  # an oracle price that is not the mark yet
        self.order_id = 0
        self.flags: set[str] = set()

    # ------------------------------------------------------------ setting up

    def order_victims(self) -> list[str]:
        """Return the accounts in the order they are brought in: with equal scores earlier opening is first in ADL.

        Source: ADL-002.
        """
        first = [name for step in self.steps for name in (step.items("order", None) if step.has("order") else ())]
        known = [name for name in first if name in self.quote]
        return list(dict.fromkeys([*known, *self.quote]))

    def choose_units(self) -> None:
        """Choose tick, lot and money unit so that every number of the scenario is a whole one, and some between."""
        prices = [self.oracle, *(read_exact(step, "px") for step in self.steps if step.has("px"))]
        lots = [*self.base.values(), *(read_exact(step, "qty") for step in self.steps if step.has("qty"))]
        tick_digits = count_decimals(prices) + FINER_TICKS
        lot_digits = max(count_decimals(lots) + FINER_LOTS, count_decimals(self.quote.values()) - tick_digits)
        # a long may have entered where its wallet was zero, and a short may have to be closed near there
        entries = [-self.quote[name] / base for name, base in self.base.items() if base]
        self.price_max = 2 * ceil(max([*prices, *entries]))
        self.tick, self.lot = Fraction(1, 10**tick_digits), Fraction(1, 10**lot_digits)
        self.unit = self.tick * self.lot

    def read_market(self, form: Form) -> dict[str, Any]:
        """Return the fields of our market that do what the scenario's does."""
        limits = {}
        if form.has("limits"):
            given = form.form("limits")
            limits = {name: read_exact(given, name) for name in LIMITS if given.has(name)}
            given.end()
        self.is_part = "max_portion" in limits or "max_notional" in limits
        closing = [step for op, step in zip(self.ops, self.steps, strict=True) if op == "deleverage"]
        is_open = any(not self.needs_deficit(step) for step in closing)
        at_oracle = any(step.text("price", "bankruptcy", known=PRICES) == "oracle" for step in closing)
        liquidation: dict[str, Any] = {
            "cancel": "none",
            "limit": "fillable",
            "spread": show_exact(read_exact(form, "smmr", "0.1")),
            "adjustment": show_exact(read_exact(form, "ba", 1)),
            # a market that is wound down lets everybody keep what the oracle's price leaves
            "surplus": "trader" if at_oracle and "liquidate" not in self.ops else "capped_fee",
            "surplus_fee": show_exact(read_exact(form, "max_fee", "0.005")),
            "shortfall": "refuse",
            "fund_loss_max": show_exact(limits.get("max_insurance_lost", Fraction(0))),
        }
        if self.is_part:
            liquidation |= {
                "size": "share",
                "share": show_exact(limits.get("max_portion", Fraction(1))),
                "share_min": show_exact(limits.get("min_notional", Fraction(0))),
                "step_max": show_exact(limits.get("max_notional", Fraction(0))),
                "cooldown_s": "1",
            }
        rates = {name: show_exact(rate) for name, rate in self.rates.items()}
        adl = {"gate": "always" if is_open else "insolvent", "score": "none", "fees": "off", "cancel_victims": "off"}
        return {
            "symbol": "PERP",
            "settle": "QUOTE",
            "tick_size": show_exact(self.tick),
            "lot_size": show_exact(self.lot),
            "quote_unit": show_exact(self.unit),
            "price_max": show_exact(Fraction(self.price_max)),
            "tiers": [{"floor": "0", "initial": rates["imr"], "maintenance": rates["mmr"]}],
            "default_leverage": max(1, floor(1 / self.rates["imr"])),
            "maker_fee": "0",
            "taker_fee": "0",
            "margin_call": "0",
            "initial_mark": show_exact(self.oracle),
            "order_margin": "none",
            "liquidation": liquidation,
            "adl": adl | {"price": "previous_mark" if at_oracle else "bankruptcy"},
        }

    def needs_deficit(self, step: Form) -> bool:
        """Return whether a deleveraging is only for accounts below zero."""
        return step.flag("require_negative_equity", True) and step.text("price", "bankruptcy") == "bankruptcy"

    def run(self) -> None:
        """Set up, take the steps, compare at the end."""
        fund = read_exact(self.form, "fund", 0)
        if fund:
            self.send("fund", FundDeposit(amount_quote=self.count("fund", fund, self.unit)))
        for name in self.numbers:
            if not self.is_brought_later(name):
                self.bring(name)
        taken: dict[str, Callable[[Form], None]] = {
            "order": self.place,
            "oracle": self.move_oracle,
            "liquidate": self.liquidate,
            "deleverage": self.deleverage,
        }
        for step, (op, form) in enumerate(zip(self.ops, self.steps, strict=True), 1):
            self.step, self.line = step, form.line
            taken[op](form)
            form.end("note")
        expected = self.form.form("expected")
        self.step, self.line = 0, expected.line
        self.apply_oracle()
        for name in self.numbers:
            self.bring(name)
        self.check(expected)

    def is_brought_later(self, name: str) -> bool:
        """Return whether an account can wait until the scenario closes it: no order of its own, no victim before."""
        for op, step in zip(self.ops, self.steps, strict=True):
            if step.fields.get("a") == name:
                return op in ("liquidate", "deleverage")
            if op == "deleverage" and name in step.items("order"):
                return False
        return False

    def bring(self, name: str) -> list[Any]:
        """Give an account its money and position, if it has not got them yet; return the events of that."""
        if name in self.assigned:
            return []
        self.assigned.add(name)
        quote, base = self.quote[name], self.base[name]
        if base == 0 == quote:
            return []
        if base == 0:
            amount = self.count(f"quote of {name}", quote, self.unit)
            deposit = Deposit(account=self.numbers[name], amount_quote=amount)
            return self.send(f"account {name}", deposit)
        entry = quote / -base  # where the wallet would be zero; a short may have entered below it, a long above
        at = min(floor(entry / self.tick), floor(self.oracle / self.tick))
        if base > 0:
            at = max(ceil(entry / self.tick), floor(self.oracle / self.tick))
        if at < 1:
            self.differ(f"account {name}", "an entry price above zero", f"quote {show_exact(quote)} with a short")
        command = Assign(
            account=self.numbers[name],
            side="buy" if base > 0 else "sell",
            qty_lot=self.count(f"base of {name}", abs(base), self.lot),
            price_tick=at,
            amount_quote=self.count(f"quote of {name}", quote + base * at * self.tick, self.unit),
        )
        return self.send(f"account {name}", command)

    def count(self, what: str, number: Fraction, unit: Fraction) -> int:
        """Return a number in units, or end the scenario where it is none."""
        units = number / unit
        if units.denominator != 1:
            self.differ(what, f"a multiple of {show_exact(unit)}", show_exact(number))
        return int(units)

    # ------------------------------------------------------------ steps

    def place(self, form: Form) -> None:
        """`order`: rests, unchecked."""
        name = form.text("a", known=self.numbers)
        self.bring(name)
        self.order_id += 1
        command = Place(
            account=self.numbers[name],
            order_id=self.order_id,
            side=form.text("side", known=SIDES),
            qty_lot=self.count("qty", read_exact(form, "qty"), self.lot),
            price_tick=self.count("px", read_exact(form, "px"), self.tick),
        )
        self.send(f"order of {name}", command)

    def move_oracle(self, form: Form) -> None:
        """`oracle`: becomes the mark when the next step looks at it, since the engine acts on a mark at once."""
        self.oracle = self.waiting = read_exact(form, "px")

    def apply_oracle(self) -> list[Any]:
        """Send the oracle price as the mark, if it is not yet."""
        if self.waiting is None:
            return []
        price_tick = self.count("oracle", self.waiting, self.tick)
        self.waiting = None
        return self.send("oracle", Mark(price_tick=price_tick))

    def liquidate(self, form: Form) -> None:
        """`liquidate`: the engine does when it sees the account; one it left open it tries again after a cooldown."""
        name = form.text("a", known=self.numbers)
        events = self.apply_oracle()
        if name not in self.assigned:
            events += self.bring(name)
        elif not self.of_account(events, name, LIQUIDATION_STARTED):
            self.rig.now_ns += COOLDOWN_NS
            events += self.send("liquidate", Clock())
        if not self.of_account(events, name, LIQUIDATION_STARTED):
            equity, maintenance = self.rig.exchanges[0].margin(self.numbers[name], 0)
            got = f"equity {show_exact(equity * self.unit)}, maintenance {show_exact(maintenance * self.unit)}"
            self.differ(f"liquidate {name}", "an account below maintenance", got)
        following = zip(self.ops[self.step :], self.steps[self.step :], strict=True)
        is_told = any(op == "deleverage" and step.fields.get("a") == name for op, step in following)
        if self.of_account(events, name, ADL_STARTED) and not is_told:
            self.differ(f"liquidate {name}", "what the book left to stay open", "ADL: the engine goes on by itself")
        self.note_flags(events)

    def deleverage(self, form: Form) -> None:
        """`deleverage`: the end of the account's liquidation, which comes now where it has not come yet."""
        name = form.text("a", known=self.numbers)
        if form.has("qty"):
            self.differ(
                f"deleverage {name}", "a part of the position", "all that the book left: the engine does no less"
            )
        if not self.of_account(self.rig.events, name, LIQUIDATION_STARTED):
            self.close_now(name, form.text("price", "bankruptcy") == "oracle")
        mine = [event for event in self.rig.events if event.account == self.numbers[name]]
        kinds = {event.kind for event in mine}
        if form.flag("only_if_unfilled") and LIQUIDATION_FILL in kinds and ADL_STARTED not in kinds:
            self.flags.add("skipped_after_partial_fill")
            return
        mine += self.close_rest(name)
        victims = {event.other for event in mine if event.kind == ADL_FILL}
        left = self.rig.position(self.numbers[name])["qty_lot"]
        order = form.items("order")
        for at, victim in enumerate(order):
            if victim not in self.numbers:
                form.refuse("order", f"unknown account '{victim}', known: {', '.join(self.numbers)}")
            is_passed = left or any(self.numbers.get(other) in victims for other in order[at + 1 :])
            is_opposite = self.base[victim] * self.base[name] < 0
            if self.numbers[victim] not in victims and is_opposite and is_passed:
                self.flags.add(f"non_overlapping:{victim}")

    def close_rest(self, name: str) -> list[Any]:
        """Let the engine, which closes a step at a time, take the steps that are left; return the closes."""
        number, mine = self.numbers[name], self.of_account(self.rig.events, name, ADL_FILL)
        found: list[Any] = []
        while self.is_part and mine and self.rig.position(number)["qty_lot"]:
            self.rig.now_ns += COOLDOWN_NS
            mine = self.of_account(self.send("deleverage", Clock()), name, ADL_FILL)
            found += mine
        return found

    def close_now(self, name: str, at_oracle: bool) -> None:
        """Have the engine close an account that was not liquidated: at a mark where it is, by what the book lacks.

        At the oracle's price the mark goes one step further, and ADL is at the mark before that.
        """
        events = self.apply_oracle()
        quote, base = self.holding(name)
        rate = 1 + self.rates["mmr"] if base < 0 else 1 - self.rates["mmr"]
        edge = quote / (-base * rate)  # equity is maintenance
        at, sign = floor(self.oracle / self.tick), 1 if base < 0 else -1
        is_below = quote + base * self.oracle < abs(base) * self.oracle * self.rates["mmr"]
        if at_oracle or not is_below:
            tick = at + sign if is_below else (floor(edge / self.tick) + 1 if base < 0 else ceil(edge / self.tick) - 1)
            events += self.send("deleverage", Mark(price_tick=tick))
            self.waiting = self.oracle
        events += self.bring(name)
        if not self.of_account(events, name, LIQUIDATION_STARTED):
            self.differ(f"deleverage {name}", "the engine to close it", "it is above maintenance")
        self.note_flags(events)

    def holding(self, name: str) -> tuple[Fraction, Fraction]:
        """Return an account's quote and base as they are now."""
        if name not in self.assigned:
            return self.quote[name], self.base[name]
        held = self.rig.position(self.numbers[name])
        money = self.rig.wallet(self.numbers[name]) - held["cost_quote"]
        return money * self.unit, held["qty_lot"] * self.lot

    def of_account(self, events: list[Any], name: str, kind: int) -> list[Any]:
        """Return an account's events of a kind."""
        return [event for event in events if event.kind == kind and event.account == self.numbers[name]]

    def note_flags(self, events: list[Any]) -> None:
        """Note why walks through the book ended."""
        codes = {REASONS.get(event.code) for event in events if event.kind in (ADL_STARTED, LIQUIDATION_ENDED)}
        self.flags |= {flag for flag, reason in FLAGS.items() if reason in codes}

    # ------------------------------------------------------------ expectations

    def check(self, form: Form) -> None:
        """Compare quote, base, fund and flags; quote and fund to the peer's unit."""
        for field in form.fields:
            if field not in ("quote", "base", "fund", "flags"):
                form.refuse(field, "unknown expectation, known: base, flags, fund, quote")
        for field in ("quote", "base"):
            numbers = form.form(field) if form.has(field) else None
            for name in numbers.fields if numbers else ():
                assert numbers
                if name not in self.numbers:
                    numbers.refuse(name, f"unknown account, known: {', '.join(self.numbers)}")
                got = self.holding(name)[field == "base"]
                self.compare_near(numbers, name, f"{field}.{name}", got, exact=field == "base")
        if form.has("fund"):
            self.compare_near(form, "fund", "fund", self.rig.fund() * self.unit)
        for flag in form.items("flags", None):
            if flag not in self.flags:
                self.differ("flags", flag, ", ".join(sorted(self.flags)) or "none", form.fields.lines["flags"])

    def compare_near(self, form: Form, field: str, what: str, got: Fraction, exact: bool = False) -> None:
        """Compare a number, quote to less than the peer's unit."""
        expected = to_exact(form, field, form.fields[field])
        if expected != got and (exact or abs(expected - got) >= MICRO):
            self.differ(what, show_exact(expected), show_exact(got), form.fields.lines[field])
