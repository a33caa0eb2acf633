"""10 October 2025: the papers' table of policies, from the waves they published, and what a repeated loss does to it.

The file has a row per wave: what was needed, the losers' deficit and its largest part, and per policy what it took
and the largest part of an equity it took.
"""

import csv
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

from engine.errors import DataError
from engine.formulas.exact import as_decimal
from engine.lab.metrics import (
    fairness_regret,
    overshoot,
    severity,
    severity_envelope,
    severity_path,
    tracking_regret,
)
from engine.units import parse_decimal

POLICIES = {
    "prod": "production queue",
    "contract_pr": "contracts pro rata",
    "vector": "vector",
    "fixed_point_ilp_integer": "min-max integer",
    "pr": "wealth pro rata",
    "pnl_pr": "PnL pro rata",
    "eq_pr": "equity pro rata",
}
PRODUCTION, FAIREST = "prod", "fixed_point_ilp_integer"
NEEDED, DEFICIT, LARGEST = "budget_needed", "deficit_usd", "max_loss_usd"
COLUMNS = (
    "wave",
    NEEDED,
    DEFICIT,
    LARGEST,
    *(f"{what}_{policy}" for policy in POLICIES for what in ("budget", "max_pct")),
)


class Oct10Wave(NamedTuple):
    """One row of the file, money in USD."""

    name: str
    needed: Fraction
    deficit: Fraction
    largest_loss: Fraction | None  # of one loser; None: not known
    taken: dict[str, Fraction]
    largest: dict[str, Fraction]  # part of an equity


def read_waves(path: Path) -> list[Oct10Wave]:
    """Return the waves of a file, exactly as its digits say.

    Raises
    ------
    DataError
        Naming line and column, if one is missing or holds no number of 0 or more.

    Source: LAB-011.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise DataError(path, 1, missing[0], "expected this column of the paper's waves")
            waves = [_read_wave(path, reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(path, None, None, f"expected a CSV file of waves: {error}") from error
    if not any(wave.deficit for wave in waves):
        raise DataError(path, 2, DEFICIT, "expected at least one wave with a deficit")
    return waves


def _read_wave(path: Path, line: int, row: dict[str, Any]) -> Oct10Wave:
    def read(name: str) -> Fraction:
        try:
            number = parse_decimal(row[name] or "")
        except ValueError as error:
            raise DataError(path, line, name, str(error)) from error
        if number < 0:
            raise DataError(path, line, name, f"expected a number of 0 or more, got {number}")
        return Fraction(number)

    taken = {policy: read(f"budget_{policy}") for policy in POLICIES}
    largest = {policy: read(f"max_pct_{policy}") for policy in POLICIES}
    deficit, loss = read(DEFICIT), read(LARGEST)
    if loss > deficit:
        raise DataError(path, line, LARGEST, f"expected at most the deficit of the wave, {row[DEFICIT]}")
    return Oct10Wave(str(row["wave"]), read(NEEDED), deficit, loss, taken, largest)


def count_once(waves: Sequence[Oct10Wave]) -> list[Oct10Wave]:
    """Return the waves with a largest loss that comes again to the last digit left out of all but its first deficit.

    Negative equity is a stock: an account that stays bankrupt shows it in every later wave, but fell short once.  The
    file tells only each wave's largest loss, so only that one can be recognised; whose is the largest of the others it
    does not say.

    Source: LAB-011.
    """
    seen: set[Fraction] = set()
    kept = []
    for wave in waves:
        loss = wave.largest_loss
        if loss is None or loss not in seen:
            kept.append(wave)
        else:
            kept.append(wave._replace(deficit=wave.deficit - loss, largest_loss=None))
        if loss:
            seen.add(loss)
    return kept


class Oct10Row(NamedTuple):
    """A policy's row of the table, in USD."""

    policy: str
    tracking: Fraction
    fairness: Fraction
    total: Fraction
    mean_max_share: Fraction
    overshoot: Fraction


def compare_policies(waves: Sequence[Oct10Wave]) -> dict[str, Oct10Row]:
    """Return Table 2 of the paper, and the two further policies of its data, by the names of the file's columns.

    Source: LAB-004, LAB-011; arXiv 2602.15182.
    """
    needed = [wave.needed for wave in waves]
    fairest = [wave.largest[FAIREST] for wave in waves]
    rows = {}
    for policy, name in POLICIES.items():
        taken, largest = [wave.taken[policy] for wave in waves], [wave.largest[policy] for wave in waves]
        tracking, fairness = tracking_regret(taken, needed), fairness_regret(needed, largest, fairest)
        mean = sum(largest, Fraction(0)) / len(waves)
        rows[policy] = Oct10Row(name, tracking, fairness, tracking + fairness, mean, overshoot(taken, needed))
    return rows


class Severity(NamedTuple):
    """The waves' deficits against what was needed, and the bound they put on regret (USD)."""

    deficit: Fraction
    path: Fraction
    envelope: Fraction
    production_share: Fraction  # of the envelope


def measure_severity(waves: Sequence[Oct10Wave]) -> Severity:
    """Return what section 5.3 of the paper says of the waves' deficits.

    Source: LAB-010, LAB-011.
    """
    deficits = [wave.deficit for wave in waves]
    thetas = [severity(wave.needed, wave.deficit) for wave in waves]
    envelope = severity_envelope(thetas, deficits)
    production = compare_policies(waves)[PRODUCTION].total
    return Severity(sum(deficits, Fraction(0)), severity_path(thetas), envelope, production / envelope)


# ---------------------------------------------------------------- telling


def describe(path: Path) -> dict[str, Any]:
    """Return the table and both ways of counting the deficit, money in cents and ratios as decimals.

    Source: LAB-011.
    """
    waves = read_waves(path)
    once = count_once(waves)
    repeated = sum(before.deficit != after.deficit for before, after in zip(waves, once, strict=True))
    return {
        "schema": 1,
        "file": path.name,
        "waves": len(waves),
        "needed": _cents(sum((wave.needed for wave in waves), Fraction(0))),
        "taken_by_production": _cents(sum((wave.taken[PRODUCTION] for wave in waves), Fraction(0))),
        "policies": {key: _show_row(row) for key, row in compare_policies(waves).items()},
        "as_published": _show_severity(measure_severity(waves)),
        "repeated_losses": repeated,
        "counted_once": _show_severity(measure_severity(once)),
    }


def _cents(number: Fraction) -> str:
    return str(as_decimal(number, 2))


def _show_row(row: Oct10Row) -> dict[str, str]:
    money = {name: _cents(getattr(row, name)) for name in ("tracking", "fairness", "total", "overshoot")}
    return {"policy": row.policy, **money, "mean_max_share": str(as_decimal(row.mean_max_share, 4))}


def _show_severity(found: Severity) -> dict[str, str]:
    ratios = {"path": str(as_decimal(found.path, 4)), "production_share": str(as_decimal(found.production_share, 4))}
    return {"deficit": _cents(found.deficit), "envelope": _cents(found.envelope), **ratios}


def compose_table(facts: dict[str, Any]) -> str:
    """Return what `describe` found as a page."""
    lines = [f"{facts['file']}: {facts['waves']} waves, needed {Decimal(facts['needed']):,} USD", ""]
    lines.append(f"{'policy':<20}{'tracking':>16}{'fairness':>16}{'total':>16}{'mean max share':>16}")
    for row in facts["policies"].values():
        money = "".join(f"{Decimal(row[name]):>16,}" for name in ("tracking", "fairness", "total"))
        lines.append(f"{row['policy']:<20}{money}{row['mean_max_share']:>16}")
    lines += ["", f"{'deficit':<20}{'as published':>16}{'counted once':>16}"]
    names = {"deficit": "sum", "path": "P_T", "envelope": "envelope", "production_share": "production / it"}
    for key, name in names.items():
        values = (Decimal(facts[way][key]) for way in ("as_published", "counted_once"))
        lines.append(f"{name:<20}" + "".join(f"{value:>16,}" for value in values))
    lines.append("")
    count = facts["repeated_losses"]
    lines.append(f"in {count} waves the largest loss is one that was counted before: an account that stayed bankrupt")
    return "\n".join(lines) + "\n"
