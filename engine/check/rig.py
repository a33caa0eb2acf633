"""One exchange under test: commands in, events out, through one engine or both, the auditor holding every event.

Source: CHECK-001.
"""

from collections import namedtuple
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Any

from engine.audit import Auditor
from engine.codes import EVENT_NAMES, REJECTED
from engine.commands import Command
from engine.contract import Market, build_setup
from engine.digest import View
from engine.errors import InvariantError
from engine.exchange import Exchange
from engine.layout import EVENT

ENGINES = {"compiled": ("compiled",), "reference": ("reference",), "both": ("compiled", "reference")}

# An EVENT row with plain integers.
Event: Any = namedtuple("Event", EVENT.names or ())  # type: ignore[misc]


class Rig:
    """Markets and accounts for one scenario, and everything that happened in it.

    Parameters
    ----------
    markets : sequence of Market
        The contracts, in index order.
    engine : {"compiled", "reference", "both"}
        What plays; with both, events and digests have to agree after every command.
    where : str
        Named when a market is refused.

    Source: CHECK-001.
    """

    def __init__(self, markets: Sequence[Market], engine: str, where: str = "market") -> None:
        self.setup = build_setup(markets, where)
        self.markets = tuple(markets)
        self.exchanges = [Exchange(markets, engine=name) for name in ENGINES[engine]]
        self.auditor = Auditor(self.setup)
        self.events: list[Any] = []  # of the whole scenario
        self.now_ns = 0
        self._view: View | None = None

    def send(self, *commands: Command) -> list[Any]:
        """Apply commands one by one and return their events.

        Raises
        ------
        InvariantError
            If the engines differ, or money is not conserved (STATE-003, MONEY-001, MONEY-002).
        """
        sent: list[Any] = []
        for command in commands:
            found = [exchange.apply([command]) for exchange in self.exchanges]
            lists = [[Event(*row) for row in rows.tolist()] for rows in found]
            self._compare(lists)
            self.auditor.feed(found[0])
            self._view = None
            self.auditor.compare(self.view)
            sent += lists[0]
        self.events += sent
        return sent

    def _compare(self, lists: list[list[Any]]) -> None:
        """Refuse two engines that differ, naming the first event that does, and how."""
        for other in lists[1:]:
            for left, right in zip_longest(lists[0], other):
                if left != right:
                    raise InvariantError(f"the engines differ: {_tell_apart(left, right)}")
        if len({exchange.digest() for exchange in self.exchanges}) > 1:
            raise InvariantError("the engines have the same events and different digests")

    # ------------------------------------------------------------ reading

    @property
    def view(self) -> View:
        """The canonical state."""
        if self._view is None:
            self._view = self.exchanges[0].view()
        return self._view

    @property
    def digest(self) -> str:
        """The digest of the state."""
        return self.exchanges[0].digest()

    def wallet(self, account: int, asset: int = 0) -> int:
        """Return a wallet in units of its asset."""
        return next((int(row[2]) for row in self.view.wallets if tuple(row[:2]) == (account, asset)), 0)

    def position(self, account: int, market: int = 0) -> dict[str, int]:
        """Return a position: qty_lot, cost_quote, margin_quote, opened_seq, unrealised_quote; flat: zeros."""
        names = ("qty_lot", "cost_quote", "margin_quote", "opened_seq", "unrealised_quote")
        table = self.exchanges[0].positions()
        found = (table["account"] == account) & (table["market"] == market)
        return {name: int(table[name][found].sum()) for name in names}

    def mark(self, market: int = 0) -> int:
        """Return a market's mark in ticks, 0 before the first."""
        return int(self.view.markets[market][0])

    def fund(self, fund: int = 0) -> int:
        """Return a fund's balance in units of its asset."""
        return int(self.view.funds[fund][0])

    def equity(self, account: int, asset: int) -> int:
        """Return all an account has in an asset: wallet, isolated margins, unrealised gains and losses."""
        total = self.wallet(account, asset)
        for market, rules in enumerate(self.setup.markets):
            if rules.asset == asset:
                held = self.position(account, market)
                total += held["margin_quote"] + held["unrealised_quote"]
        return total

    def maintenance(self, account: int, market: int = 0) -> int:
        """Return the maintenance of the domain an account's position in a market belongs to."""
        return self.exchanges[0].margin(account, market)[1]


def _tell_apart(left: Any, right: Any) -> str:
    """Return how the compiled engine's event differs from the reference's; None is no event."""
    if left is None or right is None:
        found = [name_kind(event) if event else "nothing" for event in (left, right)]
        return f"compiled has {found[0]}, reference {found[1]}"
    names: tuple[str, ...] = Event._fields
    wrong = [f"{name} {one} and {two}" for name, one, two in zip(names, left, right, strict=True) if one != two]
    return f"{name_kind(left)}: compiled and reference {', '.join(wrong)}"


def name_kind(event: Any) -> str:
    """Return the name of an event's kind."""
    return EVENT_NAMES[event.kind]


def find_rejection(events: Iterable[Any]) -> Any | None:
    """Return the first rejected command's event."""
    return next((event for event in events if event.kind == REJECTED), None)
