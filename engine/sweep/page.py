"""Summaries of the stress lab as pages of plain text: the answer first, with how sure it is."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from engine.report import count_noun
from engine.sweep.measure import AMOUNTS, SHARES

Facts = dict[str, Any]

CURVE_SHOWN = 12


class _Writer:
    """Formats with the unit of one summary."""

    def __init__(self, summary: Facts) -> None:
        self.name, self.unit = summary["assets"][0]["name"], Decimal(summary["assets"][0]["unit"])

    def amount(self, kind: str, value: float | None) -> str:
        """Return a number of some kind of column."""
        if value is None:
            return "-"
        if kind == "money":
            whole = Decimal(value) * self.unit
            return f"{whole:,.0f}" if abs(whole) >= 1_000 else f"{whole:,.2f}"
        return f"{value:,.2f}"

    def money(self, value: int | None) -> str:
        """Return an amount of money to its cent, with its asset."""
        return "none" if value is None else f"{Decimal(value) * self.unit:,.2f} {self.name}"


def percent(share: float | None) -> str:
    """Return a share in per cent."""
    return "-" if share is None else f"{100 * share:.2f} %"


def band(facts: Facts) -> str:
    """Return a share's interval."""
    return "" if facts["low"] is None else f"{100 * facts['low']:.2f} to {100 * facts['high']:.2f} %"


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as columns: the first to the left, the others to the right."""
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append("  ".join([row[0].ljust(widths[0]), *cells[1:]]).rstrip())
    return lines


def _head(summary: Facts, runs: int) -> list[str]:
    markets = ", ".join(summary["markets"])
    so_far = "interrupted; so far " if summary["interrupted"] else ""
    return [f"{markets}: {so_far}{count_noun(runs, 'run')}; intervals at 95 %", ""]


def compose_stress(summary: Facts) -> str:
    """Return the page of `perp stress`."""
    cell, write = summary["cells"][0], _Writer(summary)
    parts = _head(summary, cell["runs"])
    parts.append(f"fund before     {write.money(summary['fund_start_quote'])}")
    rows = []
    for metric in SHARES:
        facts = cell["shares"][metric.key]
        rows.append([metric.title, percent(facts["share"]), band(facts), f"{facts['count']:,} of {facts['of']:,}"])
    parts += ["", "how likely", *(f"  {line}" for line in align(rows))]
    rows = [["", "mean", "interval", "median", "p95", "p99", "interval", "worst"]]
    for metric in AMOUNTS:
        facts = cell["amounts"][metric.key]
        if not facts["runs"]:
            continue
        title = f"{metric.title}, {write.name}" if metric.kind == "money" else metric.title
        # of a balance the low end is the bad one
        names = ("p50", "p05", "p01") if metric.key == "fund_low_quote" else ("p50", "p95", "p99")
        median, far, farthest = (facts[name] for name in names)
        row = [write.amount(metric.kind, facts["mean"]["value"]), _span(write, metric.kind, facts["mean"])]
        row += [write.amount(metric.kind, found["value"]) for found in (median, far, farthest)]
        row.append(_span(write, metric.kind, farthest))
        worst = facts["least" if metric.key == "fund_low_quote" else "most"]
        rows.append([title, *row, write.amount(metric.kind, worst)])
    parts += ["", "how much", *(f"  {line}" for line in align(rows))]
    return "\n".join(parts) + "\n"


def _span(write: _Writer, kind: str, facts: Facts) -> str:
    return f"{write.amount(kind, facts['low'])}..{write.amount(kind, facts['high'])}"


def compose_sweep(summary: Facts) -> str:
    """Return the page of `perp sweep`: a line per cell, and how the means of deficits differ from the first one's."""
    write = _Writer(summary)
    paths = list(summary["cells"][0]["point"])
    heads = [*paths, "runs", "fund exhausted", "interval", "ADL", "interval", "deficit", "interval", "vs first"]
    rows = [[*heads, "winners' loss", "fund used p99", "unpaid"]]
    for cell in summary["cells"]:
        if not cell["runs"]:
            continue
        shares, amounts = cell["shares"], cell["amounts"]
        deficit, change = amounts["deficit_quote"], cell["versus_first"].get("deficit_quote")
        rows.append(
            [
                *cell["point"].values(),
                f"{cell['runs']:,}",
                percent(shares["fund_exhausted"]["share"]),
                band(shares["fund_exhausted"]),
                percent(shares["adl"]["share"]),
                band(shares["adl"]),
                write.amount("money", deficit["mean"]["value"]),
                _span(write, "money", deficit["mean"]),
                _span(write, "money", change) if change else "",
                write.amount("money", amounts["winners_loss_quote"]["mean"]["value"]),
                write.amount("money", amounts["fund_need_quote"]["p99"]["value"]),
                write.amount("money", amounts["unpaid_quote"]["mean"]["value"]),
            ]
        )
    runs = sum(cell["runs"] for cell in summary["cells"])
    note = f"amounts in {write.name}, means unless said; vs first: interval of the mean difference, seed by seed"
    return "\n".join([*_head(summary, runs), *align(rows), "", note]) + "\n"


def compose_need(summary: Facts) -> str:
    """Return the page of `perp size-fund`."""
    need, write = summary["need"], _Writer(summary)
    until = summary["until"].replace("_", " ")
    wanted = percent(need["breach"])
    parts = _head(summary, need["runs"])
    if need["fund_quote"] is None:
        parts.append(f"no fund brings '{until}' down to {wanted}: {need['without_fund']:,} runs come to it with any")
    else:
        parts.append(
            f"{write.money(need['fund_quote'])}: the smallest fund with '{until}' in at most {wanted} of the runs"
        )
    high = need["high_quote"]
    top = write.money(high) if high is not None else f"unbounded, that takes {need['seeds_needed']:,} seeds"
    parts.append(f"95 % band       {write.money(need['low_quote'])} to {top}")
    breached = need["breached"]
    parts.append(f"with it         {breached['count']:,} of {breached['of']:,} runs breach, {band(breached)}")
    how = "read off one run with an endless fund" if summary["is_exact"] else "found by halving in every seed"
    parts.append(f"each need       {how}" + (f" ({', '.join(summary['why'])})" if summary["why"] else ""))
    rows = [["fund", "breach", "interval"]]
    curve = need["curve"]
    step = max(-(-len(curve) // CURVE_SHOWN), 1)
    shown = curve[::step] + ([curve[-1]] if (len(curve) - 1) % step else [])
    rows += [[write.money(point["fund_quote"]), percent(point["share"]), band(point)] for point in shown]
    return "\n".join([*parts, "", *align(rows)]) + "\n"


def compose_frontier(summary: Facts) -> str:
    """Return the page of `perp find-shock`."""
    until, share = summary["until"].replace("_", " "), percent(summary["share"])
    parts = _head(summary, sum(point["runs"] for point in summary["frontier"]))
    parts.append(f"the mildest shock with '{until}' in at least {share} of the runs")
    fixed, walked = list(summary["frontier"][0]["fixed"]), list(summary["walked"])
    rows = [[*fixed, *(head for name in walked for head in (name, "interval")), "runs that come to it"]]
    for point in summary["frontier"]:
        cells = list(point["fixed"].values())
        for name in walked:
            cells += [
                show_axis(name, point["threshold"]),
                f"{show_axis(name, point['low'])}..{show_axis(name, point['high'])}",
            ]
        rows.append([*cells, f"{point['reached']['count']:,} of {point['reached']['of']:,}"])
    return "\n".join([*parts, "", *align(rows)]) + "\n"


def show_axis(name: str, place: Facts) -> str:
    """Return one axis at a place of a walk."""
    if place["step"] is None:
        return "beyond"
    return f"{place['speed_s']:.3f} s" if name == "speed" else percent(place[name])
