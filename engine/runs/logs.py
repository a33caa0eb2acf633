"""The logs of a run: its liquidations, ADL closes, deficits and fund entries, row by row, from its events alone.

Names and the first eight columns are those of Tardis.dev's `liquidations`, so that what reads one reads the other; what
else an event knows follows.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine import codes
from engine.codes import (
    ADL_FILL,
    BUY,
    DEFICIT,
    FUND_CREDIT,
    FUND_DEBIT,
    LIGHTS_RANK,
    LIQUIDATION_FILL,
    POLICIES,
    TAKEOVER,
)
from engine.contract import MarketRules, value_of
from engine.formulas.adl import lights_of_rank
from engine.runs.read import RunRecord
from engine.table import Table

Rows = NDArray[np.void]

EXCHANGE = "perp-engine"
ENTRY_DIGITS = 4  # of an entry price, beyond the tick's
NS, US, MS = 1_000_000_000, 1_000, 1_000_000
SIDES = {1: "buy", -1: "sell", 0: ""}
POSITIONS = {1: "long", -1: "short"}
PEOPLE = {codes.EXTERNAL: "outside", codes.HOUSE: "house"}
CLOSED_BY = {LIQUIDATION_FILL: "book", ADL_FILL: "adl", TAKEOVER: "takeover"}
# Where the rule book says each ranking (LOG-003).
SCORE_RULES = {
    "bitmex": "ADL-003",
    "binance": "ADL-010",
    "kucoin": "ADL-011",
    "upnl_leverage": "ADL-012",
    "leverage_yield": "ADL-013",
    "hyperliquid_docs": "ADL-014",
    "hyperliquid_decompiled": "ADL-015",
    "none": "ADL-016",
}
SPEC = Path(__file__).parents[1] / "docs" / "spec.md"


def format_ns(ts_ns: int) -> str:
    """Return a time in ns since 1970 as ISO 8601, UTC, with nine decimals."""
    whole = datetime.fromtimestamp(ts_ns // NS, tz=UTC)
    return f"{whole:%Y-%m-%dT%H:%M:%S}.{ts_ns % NS:09}Z"


@cache
def read_rule(name: str) -> str:
    """Return the text of a rule of the spec in one line."""
    parts = SPEC.read_text(encoding="utf-8").split(f"\n**{name}** ", 1)
    return " ".join(parts[1].split("\n\n", 1)[0].split("\n**", 1)[0].split()) if len(parts) > 1 else ""


def describe_ranking(rules: MarketRules) -> dict[str, Any]:
    """Return how winners of a market are ranked, and what else decides who is deleveraged, at which price (LOG-003)."""
    names = ("adl_score", "adl_allocation", "adl_trigger", "adl_price")
    told = {name: POLICIES[name][getattr(rules, name)] for name in names}
    rule = SCORE_RULES[told["adl_score"]]
    return {"symbol": rules.symbol, **told, "rule": rule, "formula": read_rule(rule)}


class Units:
    """Turns the integers of events into decimals with the units of their market."""

    def __init__(self, run: RunRecord) -> None:
        self.run, self.names = run, run.names
        self.unit = run.setup.asset_units[0]

    def symbol(self, market: int) -> str:
        """Return a market's name."""
        return self.run.markets[market].symbol if market >= 0 else ""

    def price(self, market: int, tick: int) -> Decimal | None:
        """Return a price, None for 0."""
        size = self.run.markets[market].tick_size
        return (tick * size).quantize(size) if tick else None

    def lots(self, market: int, lots: int) -> Decimal:
        """Return a quantity."""
        size = self.run.markets[market].lot_size
        return (lots * size).quantize(size)

    def money(self, count: int) -> Decimal:
        """Return an amount of money."""
        return (count * self.unit).quantize(self.unit)

    def value(self, market: int, tick: int, lots: int) -> int:
        """Return what lots are worth at a price, in units of the asset; 0 without a price."""
        return abs(int(value_of(self.run.setup.markets[market], tick, lots))) if tick else 0

    def entry(self, market: int, cost: int, lots: int) -> Decimal:
        """Return the price at which lots cost so much, rounded to more digits than the tick has."""
        rules = self.run.markets[market]
        size, money = lots * rules.lot_size * rules.contract_size, abs(cost) * self.unit
        price = money / size if rules.kind == "linear" else size / money if money else Decimal(0)
        return price.quantize(rules.tick_size.scaleb(-ENTRY_DIGITS))

    def who(self, account: int) -> str:
        """Return an account's name, or its number."""
        return self.names.get(account, PEOPLE.get(account, str(account)))

    def head(self, row: Any, identity: int, amount: int) -> dict[str, Any]:
        """Return the eight columns that Tardis has (LOG-001)."""
        market, ts_ns = int(row["market"]), int(row["ts_ns"])
        return {
            "exchange": EXCHANGE,
            "symbol": self.symbol(market),
            "timestamp": ts_ns // US,
            "local_timestamp": ts_ns // US,
            "id": identity,
            "side": SIDES[int(row["side"])],
            "price": self.price(market, int(row["price_tick"])) if market >= 0 else None,
            "amount": self.lots(market, amount) if market >= 0 else Decimal(0),
        }


def _line_trade(units: Units, row: Any, number: int) -> dict[str, Any]:
    market, lots, is_forced = int(row["market"]), int(row["qty_lot"]), int(row["kind"]) == LIQUIDATION_FILL
    return {
        **units.head(row, number, lots),
        "datetime": format_ns(int(row["ts_ns"])),
        "account": int(row["account"]),
        "name": units.who(int(row["account"])),
        "maker": int(row["other"]),
        "maker_name": units.who(int(row["other"])),
        "kind": "liquidation" if is_forced else "trade",
        "notional": units.money(units.value(market, int(row["price_tick"]), lots)),
        "fee": units.money(int(row["fee_quote"])),
        "maker_fee": units.money(int(row["other_fee_quote"])),
        "order_id": None if is_forced else int(row["order_id"]) or None,  # there an event has the deficit's
        "maker_order_id": int(row["other_order_id"]) or None,
        "seq": int(row["seq"]),
    }


def _line_liquidation(units: Units, row: Any, number: int) -> dict[str, Any]:
    market, kind = int(row["market"]), int(row["kind"])
    lots, tick, surplus = int(row["qty_lot"]), int(row["price_tick"]), int(row["amount_quote"])
    if kind == ADL_FILL:  # it closes at what it exchanged: nothing is left over, nothing is missing on its side
        value, surplus = abs(surplus), 0
    else:
        value, surplus = units.value(market, tick, lots), -surplus if kind == TAKEOVER else surplus
    return {
        **units.head(row, number, lots),
        "datetime": format_ns(int(row["ts_ns"])),
        "account": int(row["account"]),
        "name": units.who(int(row["account"])),
        "closed_by": CLOSED_BY[kind],
        "counterparty": units.who(int(row["other"])),
        "notional": units.money(value),
        "surplus": units.money(surplus),
        "mark_price": units.price(market, int(row["mark_tick"])),
        "bankruptcy_price": units.price(market, int(row["bankruptcy_tick"])),
        "deficit_id": int(row["order_id"]) or None,
        "seq": int(row["seq"]),
    }


def _line_adl(units: Units, row: Any, number: int) -> dict[str, Any]:
    market, side, lots = int(row["market"]), int(row["side"]), int(row["qty_lot"])
    rules = units.run.setup.markets[market]
    at_mark = int(value_of(rules, int(row["mark_tick"]), side * lots))
    rank, count = int(row["rank"]), int(row["count"])
    return {
        **units.head(row, number, lots),
        "datetime": format_ns(int(row["ts_ns"])),
        "account": int(row["account"]),
        "name": units.who(int(row["account"])),
        "victim": int(row["other"]),
        "victim_name": units.who(int(row["other"])),
        "victim_side": POSITIONS[side],
        "rank": rank,
        "queue": count,
        "lights": lights_of_rank(rank, count) if rules.lights == LIGHTS_RANK and 1 <= rank <= count else None,
        "score": int(row["other_order_id"]),
        "notional": units.money(abs(int(row["amount_quote"]))),
        "mark_price": units.price(market, int(row["mark_tick"])),
        "bankruptcy_price": units.price(market, int(row["bankruptcy_tick"])),
        "loss_against_mark": units.money(int(row["amount_quote"]) + at_mark),
        "realized_pnl": units.money(int(row["other_amount_quote"])),
        "fee": units.money(int(row["other_fee_quote"])),
        "deficit_id": int(row["order_id"]) or None,
        "seq": int(row["seq"]),
    }


def _line_deficit(units: Units, row: Any, number: int) -> dict[str, Any]:
    paid = {
        "deficit": "amount_quote",
        "paid_by_fund": "other_amount_quote",
        "paid_by_adl": "fee_quote",
        "paid_by_haircut": "margin_quote",
        "unpaid": "other_margin_quote",
        "rounding": "other_fee_quote",
    }
    return {
        **units.head(row, int(row["order_id"]), int(row["qty_lot"])),
        "datetime": format_ns(int(row["ts_ns"])),
        "account": int(row["account"]),
        "name": units.who(int(row["account"])),
        **{name: units.money(int(row[source])) for name, source in paid.items()},
        "seq": int(row["seq"]),
    }


def _list_fund(run: RunRecord, events: Rows) -> list[dict[str, Any]]:
    """Return every entry of the funds with the balance after it (FUND-002)."""
    units, balances = Units(run), [0] * len(run.setup.funds)
    found = []
    for number, row in enumerate(events, 1):
        kind, fund, amount = int(row["kind"]), int(row["other"]), int(row["amount_quote"])
        amount = -amount if kind == FUND_DEBIT else amount
        balances[fund] += amount
        found.append(
            {
                **units.head(row, number, 0),
                "price": None,
                "amount": units.money(amount),
                "datetime": format_ns(int(row["ts_ns"])),
                "fund": run.setup.funds[fund],
                "kind": {FUND_DEBIT: "debit", FUND_CREDIT: "credit"}.get(kind, "deposit"),
                "account": int(row["account"]),
                "name": units.who(int(row["account"])) if kind in (FUND_CREDIT, FUND_DEBIT) else "",
                "liquidation_fee": units.money(int(row["other_amount_quote"])) if kind == FUND_CREDIT else None,
                "balance": units.money(balances[fund]),
                "deficit_id": (int(row["order_id"]) or None) if kind == FUND_DEBIT else None,
                "seq": int(row["seq"]),
            }
        )
    return found


def pick_fund(events: Rows) -> Rows:
    """Return the events that move a fund."""
    kind = events["kind"]
    deposits = (kind == codes.ACCEPTED) & (events["code"] == codes.FUND_DEPOSIT)
    found: Rows = events[deposits | (kind == FUND_CREDIT) | (kind == FUND_DEBIT)]
    return found


def _gather(run: RunRecord, rows: Rows, line: Callable[[Units, Any, int], dict[str, Any]]) -> list[dict[str, Any]]:
    units = Units(run)
    return [line(units, row, number) for number, row in enumerate(rows, 1)]


def build_log(run: RunRecord, events: Rows, name: str) -> Table:
    """Return one of a run's logs.

    Parameters
    ----------
    run : RunRecord
    events : EVENT[:]
        All of the run: balances count from its start.
    name : {"liquidations", "adl", "deficits", "fund", "trades"}

    Source: LOG-001, LOG-003, LOG-007.
    """
    kind = events["kind"]
    if name == "liquidations":
        found = _gather(run, events[np.isin(kind, list(CLOSED_BY))], _line_liquidation)
    elif name == "adl":
        found = _gather(run, events[kind == ADL_FILL], _line_adl)
    elif name == "trades":
        found = _gather(run, events[np.isin(kind, (codes.TRADE, LIQUIDATION_FILL))], _line_trade)
    elif name == "deficits":
        found = _gather(run, events[kind == DEFICIT], _line_deficit)
    else:
        found = _list_fund(run, pick_fund(events))
    columns = {key: [row[key] for row in found] for key in (found[0] if found else _name_columns(run, name))}
    return Table(columns, [describe_ranking(rules) for rules in run.setup.markets])


def _name_columns(run: RunRecord, name: str) -> list[str]:
    """Return the columns of a log without rows: those of one made up."""
    from engine.layout import EVENT

    row = np.zeros(1, EVENT)
    row["kind"], row["side"], row["mark_tick"] = LIQUIDATION_FILL, BUY, 1
    if name == "fund":
        return list(_list_fund(run, row)[0])
    lines = {"liquidations": _line_liquidation, "adl": _line_adl, "deficits": _line_deficit, "trades": _line_trade}
    line = lines[name]
    return list(_gather(run, row, line)[0])
