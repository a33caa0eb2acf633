"""Events folded into the numbers of a summary, chunk by chunk, in memory that does not grow with the tape.

What grows is the set of accounts that were liquidated, deleveraged or cut.  All sums are exact: arrays of the few
events that carry money become Python integers before they are added.
"""

from collections import Counter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine import codes
from engine.codes import BUY, PPM, SELL
from engine.contract import Setup, value_of
from engine.digest import View
from engine.errors import InvariantError

Rows = NDArray[np.void]
Ints = NDArray[np.int64]

TOP = 10  # how many of the largest deficits and ADL fills are kept


class Deficit(NamedTuple):
    """One deficit with its payers, money in units of the asset (DEF-001, EVT-002)."""

    id: int
    ts_ns: int
    account: int
    market: int
    qty_lot: int
    price_tick: int
    deficit_quote: int
    paid_by_fund_quote: int
    paid_by_adl_quote: int
    paid_by_haircut_quote: int
    unpaid_quote: int


class AdlFill(NamedTuple):
    """One ADL close from the victim's side; `loss_quote` is what it gave up against the mark (ADL-006)."""

    ts_ns: int
    account: int
    market: int
    side: int  # of the victim's position
    rank: int
    queue: int
    qty_lot: int
    price_tick: int
    mark_tick: int
    loss_quote: int
    realised_quote: int


class Slippage(NamedTuple):
    """The liquidation fill furthest past its bankruptcy price."""

    ppm: int
    ts_ns: int
    account: int
    market: int
    price_tick: int
    bankruptcy_tick: int


def _ints(rows: Rows, name: str) -> Ints:
    return rows[name].astype(np.int64)


def _total(numbers: Ints) -> int:
    return sum(numbers.tolist())


def _keep_largest(kept: list[Any], found: list[Any], size: int, field: str) -> list[Any]:
    """Return the `size` largest by `field`, the earlier first among equals."""
    return sorted([*kept, *found], key=lambda row: -getattr(row, field))[:size]


class Tally:
    """What a summary says, folded from events alone.

    Parameters
    ----------
    setup : Setup
        Of the exchange that emits the events; all its markets settle in one asset.
    """

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.kinds = np.zeros(max(codes.EVENT_NAMES) + 1, np.int64)
        self.rejects: Counter[int] = Counter()
        self.sums: Counter[str] = Counter()
        self.fund_balances = [0] * len(setup.funds)
        self.fund_starts = [0] * len(setup.funds)
        self.fund_lows = [0] * len(setup.funds)
        self.fund_balance = self.fund_start = self.fund_low = 0
        self.fund_low_ns = 0
        self.fund_dry_ns: int | None = None
        self.first_liquidation_ns: int | None = None
        self.first_adl_ns: int | None = None
        self.liquidated: set[int] = set()
        self.victims: set[int] = set()
        self.cut: set[int] = set()
        self.slippage: Slippage | None = None
        self.deficits: list[Deficit] = []
        self.adl_fills: list[AdlFill] = []
        self.marks: list[list[int]] = [[0, 0, 0, 0] for _ in setup.markets]  # first, low, high, last tick

    # ------------------------------------------------------------ reading

    def begin(self, ts_ns: int) -> None:
        """Note when the tape begins: where a fund is never drawn on, that is when it was lowest."""
        self.fund_low_ns = ts_ns

    def fold(self, events: Rows) -> None:
        """Add the events of whole commands.

        Raises
        ------
        InvariantError
            If the payers of a deficit do not add up to it (EVT-002).
        """
        kind = events["kind"].copy()  # side by side: it is gone through a dozen times
        self.kinds += np.bincount(kind, minlength=len(self.kinds))
        rejected = events["code"][kind == codes.REJECTED]
        self.rejects.update(rejected.tolist())
        self._fold_marks(events[kind == codes.MARK_MOVED])
        self._fold_deposits(events[(kind == codes.ACCEPTED) & (events["code"] == codes.FUND_DEPOSIT)])
        self._fold_funds(events[(kind == codes.FUND_CREDIT) | (kind == codes.FUND_DEBIT)])
        self._fold_starts(events[kind == codes.LIQUIDATION_STARTED])
        self._fold_fills(events[kind == codes.LIQUIDATION_FILL])
        self._fold_takeovers(events[kind == codes.TAKEOVER])
        self._fold_queues(events[kind == codes.ADL_STARTED])
        self._fold_adl(events[kind == codes.ADL_FILL])
        self._fold_deficits(events[kind == codes.DEFICIT])
        self._fold_haircuts(events[kind == codes.HAIRCUT])
        self._fold_variations(events[kind == codes.VARIATION])

    def _fold_marks(self, rows: Rows) -> None:
        for market, found in enumerate(self.marks):
            ticks = rows["price_tick"][rows["market"] == market]
            if len(ticks):
                first, last = int(ticks[0]), int(ticks[-1])
                low, high = int(ticks.min()), int(ticks.max())
                before = found if found[0] else [first, low, high, last]
                self.marks[market] = [before[0], min(before[1], low), max(before[2], high), last]

    def _fold_deposits(self, rows: Rows) -> None:
        """Add deposits into funds; in a replay they stand before everything else, and are what funds start with."""
        for fund, amount in zip(rows["other"].tolist(), rows["amount_quote"].tolist(), strict=True):
            for balances in (self.fund_starts, self.fund_lows, self.fund_balances):
                balances[fund] += amount
            self.fund_start += amount
            self.fund_low += amount
            self.fund_balance += amount

    def _fold_funds(self, rows: Rows) -> None:
        if not len(rows):
            return
        is_debit = rows["kind"] == codes.FUND_DEBIT
        amounts = np.where(is_debit, -rows["amount_quote"], rows["amount_quote"])
        self.sums["fund_received_quote"] += _total(amounts[~is_debit])
        self.sums["fund_lost_quote"] -= _total(amounts[is_debit & (rows["order_id"] == 0)])
        path = np.cumsum(amounts) + self.fund_balance
        self.fund_balance = int(path[-1])
        at = int(path.argmin())
        if path[at] < self.fund_low:
            self.fund_low, self.fund_low_ns = int(path[at]), int(rows["ts_ns"][at])
        for fund, before in enumerate(self.fund_balances):
            own = np.cumsum(amounts[rows["other"] == fund]) + before
            if len(own):
                self.fund_balances[fund] = int(own[-1])
                self.fund_lows[fund] = min(self.fund_lows[fund], int(own.min()))

    def _fold_starts(self, rows: Rows) -> None:
        if not len(rows):
            return
        if self.first_liquidation_ns is None:
            self.first_liquidation_ns = int(rows["ts_ns"][0])
        self.liquidated.update(rows["account"].tolist())
        self.sums["bankrupt"] += int((rows["amount_quote"] < 0).sum())

    def _add_closed(self, rows: Rows, values: Ints, how: str) -> None:
        """Add closed notional: how it was closed, and of which side (SELL closes a long)."""
        self.sums[f"liquidated_{how}_quote"] += _total(values)
        self.sums["liquidated_long_quote"] += _total(values[rows["side"] == SELL])
        self.sums["liquidated_short_quote"] += _total(values[rows["side"] == BUY])

    def _value(self, rows: Rows, price: str, sides: Ints | int = 1) -> Ints:
        """Return what the quantities of events, on these sides, are worth at one of their prices (NUM-002, INV-001)."""
        ticks, lots = _ints(rows, price), rows["qty_lot"] * sides
        values = np.zeros(len(rows), np.int64)
        for market, rules in enumerate(self.setup.markets):
            here = rows["market"] == market
            values[here] = value_of(rules, ticks[here], lots[here])
        return values

    def _fold_fills(self, rows: Rows) -> None:
        if not len(rows):
            return
        self._add_closed(rows, np.abs(self._value(rows, "price_tick")), "book")
        bankruptcy = _ints(rows, "bankruptcy_tick")
        past = (_ints(rows, "price_tick") - bankruptcy) * _ints(rows, "side") * (rows["amount_quote"] < 0)
        ppm = np.where(bankruptcy > 0, past * PPM // np.maximum(bankruptcy, 1), 0)
        at = int(ppm.argmax())
        if ppm[at] > (self.slippage.ppm if self.slippage else 0):
            row = rows[at]
            fields = (row[name] for name in ("ts_ns", "account", "market", "price_tick", "bankruptcy_tick"))
            self.slippage = Slippage(int(ppm[at]), *map(int, fields))

    def _fold_takeovers(self, rows: Rows) -> None:
        self._add_closed(rows, np.abs(self._value(rows, "price_tick")), "takeover")

    def _fold_queues(self, rows: Rows) -> None:
        short = rows["ts_ns"][rows["code"] == codes.FUND_SHORT]
        if len(short):
            self._note_dry(int(short[0]))
        if len(rows) and self.first_adl_ns is None:
            self.first_adl_ns = int(rows["ts_ns"][0])

    def _fold_adl(self, rows: Rows) -> None:
        if not len(rows):
            return
        self._add_closed(rows, np.abs(rows["amount_quote"]), "adl")
        self.victims.update(rows["other"].tolist())
        # The bankrupt closes with `side`, so its position had the other sign, and its victim's this one.
        loss = rows["amount_quote"] + self._value(rows, "mark_tick", _ints(rows, "side"))
        self.sums["adl_loss_quote"] += _total(loss[loss > 0])
        self.sums["adl_gain_quote"] -= _total(loss[loss < 0])
        largest = np.argsort(-loss, kind="stable")[:TOP]
        names = ("ts_ns", "other", "market", "side", "rank", "count", "qty_lot", "price_tick", "mark_tick")
        found = [
            AdlFill._make([*(int(row[name]) for name in names), int(loss[at]), int(row["other_amount_quote"])])
            for at, row in zip(largest.tolist(), rows[largest], strict=True)
        ]
        self.adl_fills = _keep_largest(self.adl_fills, found, TOP, "loss_quote")

    def _fold_deficits(self, rows: Rows) -> None:
        names = ("amount_quote", "other_amount_quote", "fee_quote", "margin_quote", "other_margin_quote")
        total, *payers = (_ints(rows, name) for name in names)
        if np.any(total != sum(payers)):
            bad = rows[int(np.argmax(total != sum(payers)))]
            raise InvariantError(
                f"command {bad['seq']}: deficit {bad['order_id']} is {bad['amount_quote']}, its payers gave another sum"
            )
        keys = ("deficit_quote", "paid_by_fund_quote", "paid_by_adl_quote", "paid_by_haircut_quote", "unpaid_quote")
        for key, column in zip(keys, (total, *payers), strict=True):
            self.sums[key] += _total(column)
        late = (payers[2] > 0) | (payers[3] > 0)
        if late.any():
            self._note_dry(int(rows["ts_ns"][int(late.argmax())]))
        largest = rows[np.argsort(-total, kind="stable")[:TOP]]
        order = ("order_id", "ts_ns", "account", "market", "qty_lot", "price_tick", *names)
        found = [Deficit(*(int(row[name]) for name in order)) for row in largest]
        self.deficits = _keep_largest(self.deficits, found, TOP, "deficit_quote")

    def _note_dry(self, ts_ns: int) -> None:
        self.fund_dry_ns = ts_ns if self.fund_dry_ns is None else min(self.fund_dry_ns, ts_ns)

    def _fold_haircuts(self, rows: Rows) -> None:
        self.sums["haircut_quote"] += _total(rows["amount_quote"])
        self.cut.update(rows["account"].tolist())

    def _fold_variations(self, rows: Rows) -> None:
        """Add what winners of a settlement got less than they won (CASH-004)."""
        cuts = (rows["amount_quote"] - rows["other_amount_quote"])[rows["amount_quote"] > 0]
        self.sums["haircut_quote"] += _total(cuts)
        self.cut.update(rows["account"][rows["amount_quote"] > 0][cuts > 0].tolist())

    # ------------------------------------------------------------ telling

    def check(self, view: View) -> None:
        """Hold the tally against the state.

        Raises
        ------
        InvariantError
            If funds or insolvency, added up from events, are not what the state has (MONEY-002), or what ADL paid is
            not what its victims gave up (ADL-006).
        """
        funds = [int(row[0]) for row in view.funds]
        if funds != self.fund_balances:
            raise InvariantError(f"the funds are {funds}, the events make them {self.fund_balances}")
        spent = self.sums["paid_by_fund_quote"] + self.sums["fund_lost_quote"]
        earned = self.fund_start + self.sums["fund_received_quote"] - spent
        if self.fund_balance != earned:
            raise InvariantError(f"the funds hold {self.fund_balance}, what they received and paid leaves {earned}")
        owed = -sum(int(row[2]) for row in view.assets)
        if owed != self.sums["unpaid_quote"]:
            raise InvariantError(f"the insolvency is {owed}, the events leave {self.sums['unpaid_quote']} unpaid")
        paid, lost = self.sums["paid_by_adl_quote"], self.sums["adl_loss_quote"]
        if paid != lost:
            raise InvariantError(f"ADL paid {paid} of the deficits, its victims gave up {lost} against the mark")

    def count(self, kind: int) -> int:
        """Return how many events of a kind there were."""
        return int(self.kinds[kind])

    def summarise(self) -> dict[str, Any]:
        """Return the keys of a summary that come from events, money in units of the asset (CLI-001)."""
        ways = ("book", "adl", "takeover")
        closed = {f"liquidated_{how}_quote": self.sums[f"liquidated_{how}_quote"] for how in ways}
        return {
            "events": int(self.kinds.sum()),
            "liquidations": self.count(codes.LIQUIDATION_STARTED),
            "liquidated_quote": sum(closed.values()),
            **closed,
            "liquidated_long_quote": self.sums["liquidated_long_quote"],
            "liquidated_short_quote": self.sums["liquidated_short_quote"],
            "liquidated_accounts": len(self.liquidated),
            "bankrupt": self.sums["bankrupt"],
            "margin_calls": self.count(codes.MARGIN_CALL),
            "trades": self.count(codes.TRADE),
            "worst_slippage": self.slippage._asdict() if self.slippage else None,
            "fund_start_quote": self.fund_start,
            "fund_low_quote": self.fund_low,
            "fund_end_quote": self.fund_balance,
            "fund_received_quote": self.sums["fund_received_quote"],
            "fund_lost_quote": self.sums["fund_lost_quote"],
            "fund_low_ns": self.fund_low_ns,
            "fund_dry_ns": self.fund_dry_ns,
            "funds": self._describe_funds(),
            "deficits": self.count(codes.DEFICIT),
            "deficit_quote": self.sums["deficit_quote"],
            "paid_by_fund_quote": self.sums["paid_by_fund_quote"],
            "paid_by_adl_quote": self.sums["paid_by_adl_quote"],
            "paid_by_haircut_quote": self.sums["paid_by_haircut_quote"],
            "unpaid_quote": self.sums["unpaid_quote"],
            "deficits_top": [row._asdict() for row in self.deficits],
            "adl_victims": len(self.victims),
            "adl_fills": self.count(codes.ADL_FILL),
            "adl_notional_quote": closed["liquidated_adl_quote"],
            "adl_gain_quote": self.sums["adl_gain_quote"],
            "adl_top": [row._asdict() for row in self.adl_fills],
            "haircut_quote": self.sums["haircut_quote"],
            "haircut_winners": len(self.cut),
            "first_liquidation_ns": self.first_liquidation_ns,
            "first_adl_ns": self.first_adl_ns,
            "rejected": self.count(codes.REJECTED),
            "rejected_by": {codes.REJECTS[code][0]: count for code, count in sorted(self.rejects.items())},
            "event_kinds": {name: self.count(kind) for kind, name in codes.EVENT_NAMES.items() if self.count(kind)},
        }

    def _describe_funds(self) -> list[dict[str, Any]]:
        rows = zip(self.setup.funds, self.fund_starts, self.fund_lows, self.fund_balances, strict=True)
        return [
            {"name": name, "start_quote": start, "low_quote": low, "end_quote": end} for name, start, low, end in rows
        ]
