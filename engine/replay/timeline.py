"""Liquidations by second: what the recording tells beside what the run made of it (REPLAY-001).

Public streams of liquidations are a lower bound: Binance tells at most one order per symbol and second.  `seconds`
counts the seconds of a market with any, which that limit leaves alone, so that the two can be compared.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.codes import ADL_FILL, LIQUIDATION_FILL
from engine.contract import Market, Setup, value_of
from engine.units import format_units

Rows = NDArray[np.void]
NS = 1_000_000_000
SIDES = {1: "buy", -1: "sell"}
COLUMNS = (
    "time,symbol,side,recorded,recorded_amount,recorded_notional,"
    "simulated,simulated_amount,simulated_notional,adl_amount,adl_notional"
)


class Timeline:
    """Counts, quantities and notionals per second, market and side of the liquidation order (sell closes a long).

    Parameters
    ----------
    setup : Setup
        Of the exchange; gives notionals.
    """

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        # second, market, side -> orders, lots, quote of each of recorded, simulated; lots and quote of ADL
        self._cells: defaultdict[tuple[int, int, int], list[int]] = defaultdict(lambda: [0] * 8)
        self._open = (-1, -1, -1)  # seq, account, market of the last fill: one order may fill in many

    def fold(self, events: Rows) -> None:
        """Add the events of whole commands."""
        fills = events[(events["kind"] == LIQUIDATION_FILL) | (events["kind"] == ADL_FILL)]
        if not len(fills):
            return
        names = ("ts_ns", "market", "side", "qty_lot", "seq", "account", "kind", "amount_quote")
        values = self._value(fills["market"], fills["price_tick"], fills["qty_lot"])
        for row, value in zip(fills[list(names)].tolist(), values, strict=True):
            ts_ns, market, side, lots, seq, account, kind, exchanged = row
            cell = self._cells[ts_ns // NS, market, side]
            if kind == ADL_FILL:
                cell[6] += lots
                cell[7] += abs(exchanged)
                continue
            order = (seq, account, market)
            cell[3] += order != self._open
            self._open = order
            cell[4] += lots
            cell[5] += value

    def add_recorded(self, blocks: Iterable[Rows], last_ns: int) -> None:
        """Add the recording's liquidations (RECORD rows) up to a time."""
        for rows in blocks:
            rows = rows[(rows["ts_ns"] <= last_ns) & (rows["market"] < len(self.setup.markets))]
            values = self._value(rows["market"], rows["price"], rows["qty"])
            names = ["ts_ns", "market", "side", "qty"]
            for (ts_ns, market, side, lots), value in zip(rows[names].tolist(), values, strict=True):
                cell = self._cells[ts_ns // NS, market, side]
                cell[0] += 1
                cell[1] += lots
                cell[2] += value

    def _value(self, markets: Any, ticks: Any, lots: Any) -> list[int]:
        rules = self.setup.markets
        rows = zip(markets.tolist(), ticks.tolist(), lots.tolist(), strict=True)
        return [abs(int(value_of(rules[market], tick, lot))) for market, tick, lot in rows]

    def summarise(self) -> dict[str, dict[str, int]]:
        """Return the totals: orders, seconds of a market with any, notional, the busiest second's notional."""
        told = {}
        for name, at in (("recorded", 0), ("simulated", 3)):
            busy: defaultdict[tuple[int, int], int] = defaultdict(int)
            for (second, market, _), cell in self._cells.items():
                if cell[at]:
                    busy[second, market] += cell[at + 2]
            told[name] = {
                "orders": sum(cell[at] for cell in self._cells.values()),
                "seconds": len(busy),
                "notional_quote": sum(cell[at + 2] for cell in self._cells.values()),
                "second_most_quote": max(busy.values(), default=0),
            }
        return told

    def compose_csv(self, markets: Sequence[Market]) -> str:
        """Return the cells as CSV, by time, market and side; amounts and notionals as plain decimals.

        Parameters
        ----------
        markets : sequence of Market
            Those of the setup.
        """
        lines = [COLUMNS]
        for (second, market, side), cell in sorted(self._cells.items()):
            lot, unit = markets[market].lot_size, self.setup.asset_units[self.setup.markets[market].asset]
            units = (None, lot, unit, None, lot, unit, lot, unit)
            texts = [
                str(count) if of is None else format_units(count, of) for count, of in zip(cell, units, strict=True)
            ]
            time = datetime.fromtimestamp(second, tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            lines.append(",".join([time, markets[market].symbol, SIDES[side], *texts]))
        return "\n".join(lines) + "\n"
