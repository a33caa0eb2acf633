"""What a scenario expects after a step: balances, positions, funds, marks, orders, queues, events (CHECK-003)."""

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

from engine.check.facts import read_field, show_event
from engine.check.names import Names
from engine.check.places import Form, show
from engine.check.play import Play
from engine.check.rig import Rig, name_kind
from engine.codes import BUY, EVENT_NAMES, SELL
from engine.errors import list_known
from engine.units import format_units

KINDS_BY_NAME = {name: kind for kind, name in EVENT_NAMES.items()}
SIDE_NAMES = {"long": BUY, "short": SELL}
DEPTH_SIDES = ("bids", "asks")
LEVELS_MOST = 1_000


class Expectations:
    """Compares an `expect` object with the state of a rig and the events since the step began.

    Parameters
    ----------
    play : Play
        Told of the first difference.
    rig, names
        The state, and what its numbers are called.

    Source: CHECK-003.
    """

    def __init__(self, play: Play, rig: Rig, names: Names) -> None:
        self.play, self.rig, self.names = play, rig, names
        rules = rig.setup.markets
        assets, symbols, funds = rig.setup.assets, names.symbols, rig.setup.funds
        # field -> (keys, what a key is, unit, market whose unit it is, value by account and key)
        self.accounts: dict[str, tuple[Sequence[str], str, str, Callable[[int], int], Callable[[int, int], int]]] = {
            "balances": (assets, "asset", "quote", names.asset_market, rig.wallet),
            "equity": (assets, "asset", "quote", names.asset_market, rig.equity),
            "positions": (symbols, "market", "lot", int, lambda a, m: rig.position(a, m)["qty_lot"]),
            "costs": (symbols, "market", "quote", int, lambda a, m: rig.position(a, m)["cost_quote"]),
            "margins": (symbols, "market", "quote", int, lambda a, m: rig.position(a, m)["margin_quote"]),
            "unrealised": (symbols, "market", "quote", int, lambda a, m: rig.position(a, m)["unrealised_quote"]),
            "maintenance": (symbols, "market", "quote", int, rig.maintenance),
            "liquidation_prices": (symbols, "market", "tick", int, rig.exchanges[0].liquidation_price),
        }
        # field -> (keys, what a key is, unit, market whose unit it is, value by key)
        self.totals: dict[str, tuple[Sequence[str], str, str, Callable[[int], int], Callable[[int], int]]] = {
            "marks": (symbols, "market", "tick", int, rig.mark),
            "index_prices": (symbols, "market", "tick", int, lambda m: int(rig.view.markets[m][1])),
            "last_prices": (symbols, "market", "tick", int, lambda m: int(rig.view.markets[m][2])),
            "open_interest": (symbols, "market", "lot", int, lambda m: int(rig.view.markets[m][3])),
            "funds": (funds, "fund", "quote", self._fund_market, rig.fund),
            "fund_lows": (funds, "fund", "quote", self._fund_market, lambda f: int(rig.view.funds[f][1])),
            "fees": (assets, "asset", "quote", names.asset_market, lambda a: int(rig.view.assets[a][0])),
            "rounding": (assets, "asset", "quote", names.asset_market, lambda a: int(rig.view.assets[a][1])),
            "insolvency": (assets, "asset", "quote", names.asset_market, lambda a: int(rig.view.assets[a][2])),
        }
        self.rules = rules

    def _fund_market(self, fund: int) -> int:
        return next(at for at, rules in enumerate(self.rules) if rules.fund == fund)

    def check(self, form: Form, events: Sequence[Any]) -> None:
        """Compare everything the form names, in its order; a name it does not know is refused."""
        others: dict[str, Callable[[Form], None]] = {
            "orders": self._check_orders,
            "depth": self._check_depth,
            "queue": self._check_queue,
            "events": lambda form: self._check_events(form, events),
            "counts": lambda form: self._check_counts(form, events),
            "digest": self._check_digest,
        }
        known = {*self.accounts, *self.totals, *others, "note"}
        for name in form.fields:
            if name not in known:
                form.refuse(name, f"unknown expectation, {list_known(name, sorted(known))}")
        for name in form.fields:
            if name in self.accounts:
                self._check_accounts(form.form(name), name)
            elif name in self.totals:
                self._check_totals(form, name)
            elif name in others:
                others[name](form)

    # ------------------------------------------------------------ numbers

    def _check_accounts(self, form: Form, name: str) -> None:
        keys, what, suffix, market_of, read = self.accounts[name]
        for named in form.fields:
            account = self.names.find_account(form, named, named)
            for where, field, key in form.spread(named, keys, what):
                path = f"{name}.{named}" + (f".{field}" if len(keys) > 1 else "")
                self._compare(where, field, path, read(account, key), self.names.unit(suffix, market_of(key)))

    def _check_totals(self, form: Form, name: str) -> None:
        keys, what, suffix, market_of, read = self.totals[name]
        for where, field, key in form.spread(name, keys, what):
            path = name + (f".{field}" if len(keys) > 1 else "")
            self._compare(where, field, path, read(key), self.names.unit(suffix, market_of(key)))

    def _compare(self, form: Form, field: str, path: str, count: int, unit: Decimal) -> None:
        """Compare a decimal with a number of units."""
        expected = form.number(field)
        if expected != count * unit:
            self.play.differ(path, show(expected), show(Decimal(format_units(count, unit))), form.fields.lines[field])

    # ------------------------------------------------------------ lists

    def _check_orders(self, form: Form) -> None:
        """Compare all resting orders of the named accounts, by market, bids first, in matching order."""
        for named in (accounts := form.form("orders")).fields:
            account = self.names.find_account(accounts, named, named)
            resting = [row for row in self.rig.view.orders if row[4] == account]
            wanted = accounts.forms(named)
            path, line = f"orders.{named}", accounts.fields.lines[named]
            if len(wanted) != len(resting):
                self.play.differ(path, f"{len(wanted)} orders", self._list_orders(resting), line)
            for at, (want, row) in enumerate(zip(wanted, resting, strict=True)):
                self._check_order(want, row, f"{path}[{at}]")

    def _list_orders(self, rows: Sequence[Any]) -> str:
        found = [f"{self.names.call_order(row[5]) or 'unnamed'} {self._describe_order(row)}" for row in rows]
        return f"{len(rows)}" + (f" ({'; '.join(found)})" if found else "")

    def _describe_order(self, row: Any) -> str:
        market = self.names.markets[row[0]]
        side, price = "buy" if row[1] == BUY else "sell", row[2] * market.tick_size
        return f"{side} {show(row[3] * market.lot_size)} at {show(price)}"

    def _check_order(self, want: Form, row: Any, path: str) -> None:
        market = self.names.markets[row[0]]
        got = {
            "order": self.names.call_order(row[5]),
            "market": market.symbol,
            "side": "buy" if row[1] == BUY else "sell",
            "price": row[2] * market.tick_size,
            "qty": row[3] * market.lot_size,
        }
        for field in want.fields:
            if field not in got:
                want.refuse(field, f"unknown field, {list_known(field, got)}")
            expected = want.number(field) if field in ("price", "qty") else want.text(field)
            self.play.compare(f"{path}.{field}", expected, got[field], want.fields.lines[field])

    def _check_depth(self, form: Form) -> None:
        """Compare the named side's best levels, best first, as many as are given; `[]`: the side is empty."""
        for where, market in self._markets_of(form.form("depth")):
            book = self.rig.exchanges[0].depth(market, LEVELS_MOST)
            for side in where.fields:
                if side not in DEPTH_SIDES:
                    where.refuse(side, f"unknown side, known: {', '.join(DEPTH_SIDES)}")
                self._check_levels(where, side, book[side], self.names.markets[market])

    def _check_levels(self, form: Form, side: str, levels: Sequence[tuple[int, int]], market: Any) -> None:
        wanted = form.items(side)
        line = form.fields.lines[side]
        if not wanted or len(wanted) > len(levels):
            self.play.compare(f"depth.{side}", f"{len(wanted)} levels", f"{len(levels)} levels", line)
        for at, (item, line) in enumerate(zip(wanted, wanted.lines, strict=True)):
            if not isinstance(item, list) or len(item) != 2:
                form.refuse(side, "expected levels [price, quantity]")
            pair = [form.to_number(side, number) for number in item]
            got = [levels[at][0] * market.tick_size, levels[at][1] * market.lot_size]
            expected, found = (" x ".join(map(show, one)) for one in (pair, got))
            self.play.compare(f"depth.{side}[{at}]", expected, found, line)

    def _check_queue(self, form: Form) -> None:
        """Compare a side's whole ADL queue, best first, with its lights where they are given (ADL-002, ADL-009)."""
        for where, market in self._markets_of(form.form("queue")):
            for side in where.fields:
                if side.removesuffix("_lights") not in SIDE_NAMES:
                    where.refuse(side, f"unknown side, known: {', '.join(SIDE_NAMES)}, long_lights, short_lights")
                queue = self.rig.exchanges[0].adl_queue(market, SIDE_NAMES[side.removesuffix("_lights")])
                if side.endswith("_lights"):
                    got: list[Any] = queue["lights"].tolist()
                else:
                    got = [self.names.call_account(account) for account in queue["account"].tolist()]
                expected = list(where.items(side))
                self.play.compare(f"queue.{side}", expected, got, where.fields.lines[side])

    def _markets_of(self, form: Form) -> list[tuple[Form, int]]:
        """Return the forms of each market a form names, or itself where there is but one market to mean."""
        if len(self.names.symbols) == 1 and not set(form.fields) & set(self.names.symbols):
            return [(form, 0)]
        return [(form.form(name), self.names.find_market(form, name, name)) for name in form.fields]

    def _check_digest(self, form: Form) -> None:
        self.play.compare("digest", form.text("digest"), self.rig.digest, form.fields.lines["digest"])

    # ------------------------------------------------------------ events

    def _check_counts(self, form: Form, events: Sequence[Any]) -> None:
        """Compare how many events of a kind there were."""
        counts = form.form("counts")
        for kind in counts.fields:
            if kind not in KINDS_BY_NAME:
                counts.refuse(kind, f"unknown event, known: {', '.join(KINDS_BY_NAME)}")
            found = sum(name_kind(event) == kind for event in events)
            self.play.compare(f"counts.{kind}", counts.whole(kind), found, counts.fields.lines[kind])

    def _check_events(self, form: Form, events: Sequence[Any]) -> None:
        """Find each listed event after the one before it; events in between may be of any kind."""
        start = 0
        for at, want in enumerate(form.forms("events")):
            kind = want.text("kind", known=KINDS_BY_NAME)
            fields = [name for name in want.fields if name not in ("kind", "note")]
            wanted = {name: read_field(want, name, KINDS_BY_NAME[kind], self.names) for name in fields}
            same = [place for place in range(start, len(events)) if name_kind(events[place]) == kind]
            found = next((place for place in same if all(f.matches(events[place]) for f in wanted.values())), None)
            if found is None:
                got = show_event(events[same[0]], wanted, self.names) if same else f"none after event {start}"
                shown = ", ".join(f"{name} {want.fields[name]}" for name in fields)
                self.play.differ(f"events[{at}]", f"{kind} ({shown})", got, want.line)
            else:
                start = found + 1
