"""Rows of runs as the summary of a verb: shares, amounts, the fund's curve, the frontier (STRESS-008)."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from engine.contract import build_setup
from engine.sweep.jobs import Cell
from engine.sweep.measure import AMOUNTS, METRICS, SHARES, Row
from engine.sweep.scenario import Scenario
from engine.sweep.search import Walk, describe_place
from engine.sweep.stats import (
    count_allowed,
    count_needed,
    count_share,
    find_order_band,
    find_place,
    summarise_numbers,
)

CURVE_POINTS = 101


def describe_scenario(scenario: Scenario) -> dict[str, Any]:
    """Return a scenario as it was understood, with the unit of its money."""
    setup = build_setup(scenario.markets)
    return {
        "assets": [
            {"name": name, "unit": format(unit, "f")}
            for name, unit in zip(setup.assets, setup.asset_units, strict=True)
        ],
        "markets": [market.symbol for market in scenario.markets],
        "fund_start_quote": sum(scenario.count_funds().values()),
        "scenario": msgspec.to_builtins(scenario),
    }


def pick_rows(cell: Cell, seeds: Sequence[int], rows: Mapping[tuple[str, int], Row]) -> list[Row]:
    """Return a cell's finished rows in the order of their seeds."""
    return [rows[cell.name, seed] for seed in seeds if (cell.name, seed) in rows]


def summarise_cell(rows: Sequence[Row]) -> dict[str, Any]:
    """Return shares with Wilson intervals and amounts with bootstrap intervals (STRESS-005, STRESS-008).

    Runs in which an amount does not exist (a recovery where nothing was forced) are left out of it, and its `runs` says
    how many are left.
    """
    facts: dict[str, Any] = {"runs": len(rows)}
    facts["shares"] = {
        metric.key: count_share(sum(bool(row[metric.key]) for row in rows), len(rows)) for metric in SHARES
    }
    facts["amounts"] = {
        metric.key: summarise_numbers([row[metric.key] for row in rows if row[metric.key] is not None])
        for metric in AMOUNTS
    }
    return facts


def compare_cells(first: Sequence[Row], other: Sequence[Row]) -> dict[str, Any]:
    """Return by how much a cell's means differ from the first one's, run by run on the seeds both have.

    Source: STRESS-003, STRESS-008.
    """
    base = {row["seed"]: row for row in first}
    found = {}
    for metric in METRICS:
        pairs = [(base[row["seed"]][metric.key], row[metric.key]) for row in other if row["seed"] in base]
        differences = [float(after) - float(before) for before, after in pairs if None not in (before, after)]
        if differences:
            found[metric.key] = {"runs": len(differences), **summarise_numbers(differences)["mean"]}
    return found


def summarise_need(rows: Sequence[Row], breach: float) -> dict[str, Any]:
    """Return the smallest fund that meets a breach probability, its band, and the curve.

    `fund_quote` is the smallest fund with which at most that share of the runs breaches; None where no fund does it.
    `high_quote` is None where so many runs do not bound it from above: `seeds_needed` would.

    Source: STRESS-011.
    """
    count = len(rows)
    needs = sorted(row["need_quote"] for row in rows if row["need_quote"] is not None)
    place = count - 1 - min(count_allowed(breach, count), count - 1)
    low, high = find_order_band(1 - breach, count)
    unmet = count - len(needs)

    def at(place: int | None) -> int | None:
        return None if place is None or place >= len(needs) else int(needs[place])

    return {
        "breach": breach,
        "runs": count,
        "exact_runs": sum(row["is_exact"] for row in rows),
        "without_fund": unmet,
        "fund_quote": at(place),
        "low_quote": 0 if low is None else at(min(low, place)),
        "high_quote": at(high),
        "seeds_needed": count_needed(breach),
        "breached": count_share(sum(need > (at(place) or 0) for need in needs) + unmet, count),
        "curve": _draw_curve(needs, count),
    }


def _draw_curve(needs: Sequence[int], count: int) -> list[dict[str, Any]]:
    """Return fund sizes, each with the share of runs that breach with it."""
    funds = sorted({0, *needs})
    step = max(-(-len(funds) // CURVE_POINTS), 1)
    chosen = sorted({*funds[::step], funds[-1]})
    return [{"fund_quote": fund, **count_share(count - sum(need <= fund for need in needs), count)} for fund in chosen]


def summarise_frontier(walk: Walk, point: Mapping[str, str], rows: Sequence[Row], share: float) -> dict[str, Any]:
    """Return the mildest shock with which at least a share of the runs comes to it, with its band.

    Source: STRESS-012.
    """
    count, steps = len(rows), rows[0]["steps"]
    found = sorted(row["step"] for row in rows if row["step"] is not None)
    low, high = find_order_band(share, count)

    def at(place: int | None) -> dict[str, float | None]:
        step = None if place is None or place >= len(found) else found[place]
        return {"step": step, **describe_place(walk, step, steps)}

    return {
        "fixed": dict(point),
        "runs": count,
        "reached": count_share(len(found), count),
        "threshold": at(find_place(share, count)),
        "low": at(low) if low is not None else {"step": 0, **describe_place(walk, 0, steps)},
        "high": at(high),
        "steps": steps,
    }
