"""Logs under the names of ccxt's unified types: `Trade`, `Position`, `Liquidation`, `ADL` (LOG-005)."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from engine.runs.read import RunRecord
from engine.table import Table, tabulate_rows

US = 1_000
Row = dict[str, Any]
HEAD = ("info", "symbol", "timestamp", "datetime")
DIGITS = 12  # of a quotient
ADL = ("rank", "rating", "percentage")
LIQUIDATION = ("price", "baseValue", "quoteValue", "contracts", "contractSize", "side")
TRADE = ("id", "order", "type", "side", "takerOrMaker", "price", "amount", "cost", "fee")
POSITION = (
    *("id", "contracts", "contractSize", "side", "notional", "leverage", "unrealizedPnl", "realizedPnl", "collateral"),
    *("entryPrice", "markPrice", "liquidationPrice", "marginMode", "hedged", "maintenanceMargin"),
    *("maintenanceMarginPercentage", "initialMargin", "initialMarginPercentage", "marginRatio", "percentage"),
)


def rename_as_ccxt(run: RunRecord, table: Table, name: str) -> Table:
    """Return a log with ccxt's names: milliseconds, `BTC/USDT:USDT`, `info` our own row.

    `adl` and `ranks` are its `ADL`: `rank` the lights the position is shown, `percentage` its place in the queue from
    the front.  A trade is told from the taker's side.  Collateral, maintenance and ratio of a cross position are those
    of its whole account.

    Parameters
    ----------
    name : {"liquidations", "adl", "trades", "positions", "ranks"}

    Source: LOG-005, LOG-007.
    """
    markets = {market.symbol: market for market in run.markets}
    tell, names = TYPES[name]
    rows = []
    for row in table.rows():
        market = markets[row["symbol"]]
        head = {"info": row, "symbol": unify_symbol(market), "timestamp": row["timestamp"] // US}
        rows.append({**head, "datetime": row["datetime"][:23] + "Z", **tell(row, market)})
    found = tabulate_rows(rows).columns if rows else {key: [] for key in (*HEAD, *names)}
    return Table(found, table.notes)


def _tell_adl(row: Row, _: Any) -> Row:
    part = Decimal(100 * row["rank"]) / row["queue"] if row["queue"] else None
    return dict(zip(ADL, (row["lights"], None, part and round(part, 4)), strict=True))


def _tell_liquidation(row: Row, market: Any) -> Row:
    size, is_linear = market.contract_size, market.kind == "linear"
    base = row["amount"] * size if is_linear else row["notional"]
    quote = row["notional"] if is_linear else row["amount"] * size
    return dict(zip(LIQUIDATION, (row["price"], base, quote, row["amount"], size, row["side"]), strict=True))


def _tell_trade(row: Row, market: Any) -> Row:
    fee = {"cost": row["fee"], "currency": market.settle}
    identities = (str(row["id"]), row["order_id"] and str(row["order_id"]), None)
    numbers = (row["side"], "taker", row["price"], row["amount"], row["notional"], fee)
    return dict(zip(TRADE, (*identities, *numbers), strict=True))


def _tell_position(row: Row, market: Any) -> Row:
    initial = row["notional"] / row["leverage"] if row["leverage"] else None
    is_isolated, maintenance = row["margin_mode"] == "isolated", row["maintenance_margin"]
    part = maintenance / row["notional"] if is_isolated and row["notional"] else None
    told = (
        *(None, row["amount"], market.contract_size, row["side"], row["notional"], row["leverage"]),
        *(row["unrealized_pnl"], None, row["collateral"], row["price"], row["mark_price"], row["liquidation_price"]),
        *(row["margin_mode"], False, maintenance, part and round(part, 8)),
        *(initial and round(initial, 8), 1 / row["leverage"] if row["leverage"] else None),
        maintenance / row["equity"] if row["equity"] > 0 else None,
        100 * row["unrealized_pnl"] / initial if initial else None,
    )
    return {key: _cut(value) for key, value in zip(POSITION, told, strict=True)}


def _cut(value: Any) -> Any:
    """Return a quotient with as many digits as anybody reads; what is exact stays."""
    is_long = isinstance(value, Decimal) and -int(value.as_tuple().exponent) > DIGITS
    return round(value, DIGITS) if is_long else value


TYPES: dict[str, tuple[Callable[[Row, Any], Row], tuple[str, ...]]] = {
    "adl": (_tell_adl, ADL),
    "ranks": (_tell_adl, ADL),
    "liquidations": (_tell_liquidation, LIQUIDATION),
    "trades": (_tell_trade, TRADE),
    "positions": (_tell_position, POSITION),
}


def flatten_objects(table: Table) -> Table:
    """Return a table for CSV: without `info`, a whole row of ours, and with `fee.cost` for what is inside a `fee`."""
    rows = []
    for row in table.rows():
        flat: Row = {}
        for name, value in row.items():
            if isinstance(value, dict):
                flat |= {f"{name}.{key}": part for key, part in value.items()} if name != "info" else {}
            else:
                flat[name] = value
        rows.append(flat)
    names = [name for name in table.columns if name != "info"]
    return Table(tabulate_rows(rows).columns if rows else {name: [] for name in names}, table.notes)


def unify_symbol(market: Any) -> str:
    """Return a symbol as ccxt writes it, `BTC/USDT:USDT`, where it can be told from ours."""
    symbol, settle = market.symbol, market.settle
    if market.kind == "linear" and symbol.endswith(settle) and symbol != settle:
        return f"{symbol.removesuffix(settle).rstrip('-_/')}/{settle}:{settle}"
    return str(symbol)
