"""Events and series of a run as the few thousand points that its pictures are drawn from.

Every picture is a dict that the page's script draws and a reader of the file can check: `x` are seconds after the
first stamp of the tape, to the microsecond, rising; `y` plain numbers in the units the page names.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine import codes
from engine.codes import ADL_FILL, LIQUIDATION_FILL, TAKEOVER
from engine.contract import value_of
from engine.runs.logs import pick_fund
from engine.runs.read import RunRecord

Rows = NDArray[np.void]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Picture = dict[str, Any]

POINTS_MAX = 2_400  # of a line; more than a screen is wide
BARS_MAX = 240
COLUMNS_MAX = 480  # of a heat map
LARGEST = 20  # liquidations that are marked in the price
NS, US = 1_000_000_000, 1_000
FILLS = (codes.TRADE, LIQUIDATION_FILL, ADL_FILL, TAKEOVER)


def thin(values: NDArray[Any], most: int = POINTS_MAX) -> Ints:
    """Return which values to keep so that a line through them looks the same: first, lowest, highest and last of bins.

    Parameters
    ----------
    values : array (n,)
    most : int
        At least 4; no more places than this are returned.

    Returns
    -------
    int64 array
        Places, rising; all of them where n is not above `most`.

    Source: REP-002.
    """
    count = len(values)
    if count <= most:
        return np.arange(count, dtype=np.int64)
    edges = np.linspace(0, count, most // 4 + 1).astype(np.int64)
    kept = []
    for start, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        part = values[start:end]
        kept += [start, start + int(part.argmin()), start + int(part.argmax()), end - 1]
    return np.unique(np.array(kept, np.int64))


def spread_times(ts_ns: Ints, first_ns: int) -> Floats:
    """Return seconds after the start, strictly rising: what happened at one instant comes a microsecond apart."""
    micros = (ts_ns.astype(np.int64) - first_ns) // US
    places = np.arange(len(micros), dtype=np.int64)
    return np.asarray((np.maximum.accumulate(micros - places) + places) / 1e6, np.float64)


def draw_line(name: str, colour: str, ts_ns: Ints, values: NDArray[Any], first_ns: int, **more: Any) -> Picture:
    """Return a series of a picture, thinned; `of` says how many values there were."""
    kept = thin(values)
    x = spread_times(ts_ns[kept], first_ns)
    return {"name": name, "colour": colour, "x": x.tolist(), "y": values[kept].tolist(), "of": len(values), **more}


def draw_steps(name: str, colour: str, ts_ns: Ints, values: Ints, first_ns: int, last_ns: int) -> Picture:
    """Return a series that stays at each value until the next, and at the last until the run ends."""
    drawn = draw_line(name, colour, ts_ns, values, first_ns, style="step", width=2)
    end = round((last_ns - first_ns) / NS, 6)
    if end > drawn["x"][-1]:
        drawn["x"].append(end)
        drawn["y"].append(drawn["y"][-1])
    return drawn


def count_interest(events: Rows, market: int) -> tuple[Ints, Ints]:
    """Return the times (ns) at which positions of a market changed, and the open interest (lots) after each.

    Longs are summed, the outside's and the house's included: the summary's `open_interest_lot`.
    """
    kind = events["kind"]
    is_fill = np.isin(kind, FILLS) | ((kind == codes.ACCEPTED) & (events["code"] == codes.ASSIGN))
    rows = events[is_fill & (events["market"] == market)]
    moved = rows["qty_lot"].astype(np.int64) * rows["side"]
    other = np.where(rows["kind"] == codes.ACCEPTED, codes.EXTERNAL, rows["other"])
    order = np.repeat(np.arange(len(rows)), 2)
    accounts = np.stack([rows["account"], other], axis=1).ravel()
    deltas = np.stack([moved, -moved], axis=1).ravel()
    by_account = np.lexsort((np.arange(len(order)), accounts))
    sums = np.cumsum(deltas[by_account])
    owners = accounts[by_account]
    starts = np.flatnonzero(np.r_[True, owners[1:] != owners[:-1]]) if len(owners) else np.zeros(0, np.int64)
    lengths = np.diff(np.r_[starts, len(owners)])
    held = sums - np.repeat(np.r_[0, sums[starts[1:] - 1]] if len(starts) else starts, lengths)
    longs, before = np.maximum(held, 0), np.maximum(held - deltas[by_account], 0)
    changes = np.zeros(len(rows), np.int64)
    np.add.at(changes, order[by_account], longs - before)
    return rows["ts_ns"].astype(np.int64), np.cumsum(changes)


# ---------------------------------------------------------------- prices


def find_largest(run: RunRecord, events: Rows, market: int, most: int = LARGEST) -> list[dict[str, Any]]:
    """Return the largest liquidations: all closes of an account in a market by one command, by notional."""
    kind = events["kind"]
    rows = events[np.isin(kind, (LIQUIDATION_FILL, ADL_FILL, TAKEOVER)) & (events["market"] == market)]
    if not len(rows):
        return []
    rules = run.setup.markets[market]
    lots = rows["qty_lot"].astype(np.int64)
    values = np.abs(value_of(rules, np.maximum(rows["price_tick"].astype(np.int64), 1), lots))
    keys = np.stack([rows["seq"], rows["account"]], axis=1)
    _, first, places = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    groups = np.zeros((len(first), 2), np.int64)
    np.add.at(groups, places.ravel(), np.stack([values, lots], axis=1))
    largest = np.argsort(-groups[:, 0], kind="stable")[:most]
    found = []
    for group in largest.tolist():
        row = rows[first[group]]
        mine = places.ravel() == group
        spent = int((rows["price_tick"][mine].astype(np.int64) * lots[mine]).sum())
        found.append(
            {
                "ts_ns": int(row["ts_ns"]),
                "account": int(row["account"]),
                "side": int(row["side"]),
                "qty_lot": int(groups[group, 1]),
                "value_quote": int(groups[group, 0]),
                "price_tick": round(spent / max(int(groups[group, 1]), 1)),
                "bankruptcy_tick": int(row["bankruptcy_tick"]),
                "by": sorted({int(each) for each in rows["kind"][mine]}),
            }
        )
    return found


def draw_prices(
    run: RunRecord, events: Rows, series: dict[str, NDArray[Any]], market: int, largest: Sequence[dict[str, Any]]
) -> list[Picture]:
    """Return mark, index and last price, and the bankruptcy prices of the largest liquidations."""
    first_ns, size = int(run.summary["first_ns"]), float(run.markets[market].tick_size)
    here = events[events["market"] == market]
    marks = here[here["kind"] == codes.MARK_MOVED]
    fills = here[np.isin(here["kind"], (codes.TRADE, LIQUIDATION_FILL))]
    places = series["market"] == market if series else np.zeros(0, bool)
    found = []
    if "index_tick" in series:
        places &= series["index_tick"] > 0  # 0: none yet
        if places.any():
            found.append(
                _price("index", "index", series["ts_ns"][places], series["index_tick"][places], first_ns, size)
            )
    if len(fills):
        found.append(_price("last", "last", fills["ts_ns"], fills["price_tick"], first_ns, size))
    if len(marks):
        found.append(_price("mark", "mark", marks["ts_ns"], marks["price_tick"], first_ns, size, width=2))
    rows = sorted((row for row in largest if row["bankruptcy_tick"] > 0), key=lambda row: row["ts_ns"])
    if rows:
        times = np.array([row["ts_ns"] for row in rows], np.int64)
        ticks = np.array([row["bankruptcy_tick"] for row in rows])
        marked = _price("bankruptcy prices of the largest liquidations", "loss", times, ticks, first_ns, size)
        marked |= {"style": "points", "labels": [row["label"] for row in rows]}
        found.append(marked)
    return found


def _price(name: str, colour: str, ts_ns: Ints, ticks: Ints, first_ns: int, size: float, **more: Any) -> Picture:
    drawn = draw_line(name, colour, np.asarray(ts_ns, np.int64), np.asarray(ticks, np.int64), first_ns, **more)
    drawn["y"] = [round(tick * size, 9) for tick in drawn["y"]]
    return drawn


# ---------------------------------------------------------------- bars


def bin_times(first_ns: int, last_ns: int, least_ns: int = NS) -> tuple[int, int]:
    """Return the width (ns) and number of bins over a run: whole multiples of `least_ns`, at most BARS_MAX bins."""
    span = max(last_ns - first_ns, 1)
    width = least_ns * max(-(-span // (least_ns * BARS_MAX)), 1)
    return width, span // width + 1


def stack(parts: Sequence[tuple[str, str, Floats]], x: list[float]) -> list[Picture]:
    """Return bars on top of each other, the topmost first: `y` is how high each reaches, `show` what it is."""
    height = np.zeros(len(x))
    found = []
    for name, colour, values in parts:
        height = height + values
        kept = np.round(values, 2)
        found.append(
            {
                "name": name,
                "colour": colour,
                "style": "bars",
                "x": x,
                "y": np.round(height, 2).tolist(),
                "show": kept.tolist(),
            }
        )
    return [picture for picture in reversed(found) if any(picture["show"])]


def draw_liquidations(run: RunRecord, lines: Sequence[dict[str, str]], symbol: str) -> tuple[list[Picture], int]:
    """Return notional liquidated by second, longs up and shorts down, and the width of a bar in seconds.

    Parameters
    ----------
    lines : sequence of dict
        The rows of `liquidations.csv` (REPLAY-001).
    """
    from datetime import datetime

    first_ns, last_ns = int(run.summary["first_ns"]), int(run.summary["last_ns"])
    begin = first_ns // NS * NS
    width, count = bin_times(begin, last_ns)
    sums = {(side, what): np.zeros(count) for side in ("sell", "buy") for what in ("simulated", "adl", "recorded")}
    for line in lines:
        if line["symbol"] != symbol:
            continue
        second = int(datetime.fromisoformat(line["time"]).timestamp())
        at = min(max((second * NS - begin) // width, 0), count - 1)
        for what in ("simulated", "adl", "recorded"):
            sums[line["side"], what][at] += float(line[f"{what}_notional"])
    x = [round((begin - first_ns + at * width + width // 2) / NS, 6) for at in range(count)]
    up = [("longs, by ADL", "adl", sums["sell", "adl"]), ("longs, in the book", "long", sums["sell", "simulated"])]
    down = [("shorts, by ADL", "adl", -sums["buy", "adl"]), ("shorts, in the book", "short", -sums["buy", "simulated"])]
    found = [*stack(up, x), *stack(down, x)]
    told = sums["sell", "recorded"] - sums["buy", "recorded"]
    if told.any():
        y = np.round(told, 2).tolist()
        found.append({"name": "told by the venue", "colour": "index", "style": "points", "x": x, "y": y})
    return found, width // NS


def draw_fund(run: RunRecord, events: Rows, fund: int) -> list[Picture]:
    """Return a fund's balance, stepped."""
    rows = pick_fund(events)
    rows = rows[rows["other"] == fund]
    amounts = rows["amount_quote"].astype(np.int64) * np.where(rows["kind"] == codes.FUND_DEBIT, -1, 1)
    unit = float(run.setup.asset_units[run.setup.fund_assets[fund]])
    if not len(rows):
        return []
    first_ns = int(run.summary["first_ns"])
    last_ns = int(run.summary["last_ns"])
    balance = draw_steps("balance", "fund", rows["ts_ns"], np.cumsum(amounts), first_ns, last_ns)
    balance["y"] = [round(count * unit, 2) for count in balance["y"]]
    return [balance]


def draw_entries(run: RunRecord, events: Rows, fund: int) -> tuple[list[Picture], float]:
    """Return surpluses (up) and deficits by who paid them (down), and the width of a bar in seconds."""
    first_ns, last_ns = int(run.summary["first_ns"]), int(run.summary["last_ns"])
    width, count = bin_times(first_ns, last_ns, NS // 4)
    unit = float(run.setup.asset_units[run.setup.fund_assets[fund]])
    markets = [place for place, rules in enumerate(run.setup.markets) if rules.fund == fund]
    kind = events["kind"]
    debts = events[(kind == codes.DEFICIT) & np.isin(events["market"], markets)]
    credits = events[(kind == codes.FUND_CREDIT) & (events["other"] == fund)]
    spent = events[(kind == codes.FUND_DEBIT) & (events["other"] == fund) & (events["order_id"] == 0)]

    def add(rows: Rows, name: str) -> Floats:
        places = np.clip((rows["ts_ns"].astype(np.int64) - first_ns) // width, 0, count - 1)
        sums = np.zeros(count)
        np.add.at(sums, places, rows[name].astype(np.float64) * unit)
        return sums

    x = [round((at * width + width // 2) / NS, 6) for at in range(count)]
    down = [
        ("deficits paid by the fund", "loss", -add(debts, "other_amount_quote")),
        ("losses and fees of the house", "last", -add(spent, "amount_quote")),
        ("by ADL", "adl", -add(debts, "fee_quote")),
        ("by haircut", "cut", -add(debts, "margin_quote")),
        ("unpaid", "unpaid", -add(debts, "other_margin_quote")),
    ]
    return [*stack([("surpluses and gains", "fund", add(credits, "amount_quote"))], x), *stack(down, x)], width / NS


# ---------------------------------------------------------------- what was sampled

DEPTH_ROWS = (
    ("asks 1-5 %", "ask_5pct_lot", "ask_1pct_lot"),
    ("asks 0-1 %", "ask_1pct_lot", None),
    ("bids 0-1 %", "bid_1pct_lot", None),
    ("bids 1-5 %", "bid_5pct_lot", "bid_1pct_lot"),
)
MAP_ROWS = (
    ("shorts 5-10 %", "short_10pct_quote", "short_5pct_quote"),
    ("shorts 2-5 %", "short_5pct_quote", "short_2pct_quote"),
    ("shorts 1-2 %", "short_2pct_quote", "short_1pct_quote"),
    ("shorts 0-1 %", "short_1pct_quote", None),
    ("longs 0-1 %", "long_1pct_quote", None),
    ("longs 1-2 %", "long_2pct_quote", "long_1pct_quote"),
    ("longs 2-5 %", "long_5pct_quote", "long_2pct_quote"),
    ("longs 5-10 %", "long_10pct_quote", "long_5pct_quote"),
)
SIGN_LINES = (
    ("ten largest positions", "top10_ppm", "mark"),
    ("first ten of the long ADL queue", "long_queue_top10_ppm", "fund"),
    ("first ten of the short ADL queue", "short_queue_top10_ppm", "short"),
    ("Herfindahl index of positions", "herfindahl_ppm", "last"),
)
RATE_LINES = (("funding rate", "funding_ppb", "mark"), ("volatility, a second", "volatility_ppb", "last"))


def draw_heat(
    series: dict[str, NDArray[Any]],
    market: int,
    rows: Sequence[tuple[str, str, str | None]],
    first_ns: int,
    unit: float,
    *,
    is_book: bool = False,
) -> Picture | None:
    """Return bands over time as a heat map, or None where the series lacks a column.

    Each row is a label, a column, and the column inside it whose part is taken away.  Of a book, the samples before
    anything rested in it are left out: `before` says how many.

    Source: REP-003.
    """
    needed = {name for _, *names in rows for name in names if name}
    if not needed <= set(series):
        return None
    places = np.flatnonzero(series["market"] == market)
    if not len(places):
        return None
    filled = np.flatnonzero(np.any([series[name][places] > 0 for name in needed], axis=0)) if is_book else [0]
    before = int(filled[0]) if len(filled) else len(places)
    places = places[before:]
    of = len(places)
    places = places[np.unique(np.linspace(0, of - 1, min(of, COLUMNS_MAX)).astype(np.int64))]
    cells = []
    for _, outer, inner in rows:
        values = series[outer][places].astype(np.int64)
        values = values - series[inner][places] if inner else values
        cells.append([round(value * unit, 3) for value in np.maximum(values, 0).tolist()])
    x = spread_times(series["ts_ns"][places], first_ns).tolist()
    return {"kind": "heat", "x": x, "rows": [label for label, _, _ in rows], "cells": cells, "of": of, "before": before}


def draw_signs(
    series: dict[str, NDArray[Any]], market: int, lines: Sequence[tuple[str, str, str]], first_ns: int, scale: float
) -> list[Picture]:
    """Return sampled columns of one scale as lines; those that are missing, or never above 0, are left out."""
    found = []
    places = series["market"] == market if series else np.zeros(0, bool)
    for name, column, colour in lines:
        if column in series and series[column][places].any():
            drawn = draw_line(name, colour, series["ts_ns"][places], series[column][places], first_ns)
            drawn["y"] = [round(value * scale, 6) for value in drawn["y"]]
            found.append(drawn)
    return found
