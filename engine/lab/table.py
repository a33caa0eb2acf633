"""What the lab found, as a page: the runs side by side, then each run's waves under every policy."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from engine.lab.compare import RUN
from engine.report import HIDDEN_DIGITS, NS, count_noun, format_time

Facts = dict[str, Any]

MEASURES = (
    *("taken", "tracking", "fairness", "total", "max share", "payers", "median", "p90", "largest"),
    *("PTSR", "PMR", "RD-NSE", "inversions", "stability"),
)
WAVE = ("wave", "s", "market", "deficit", "fund", "ADL", "haircut", "unpaid", "winners", "payers")
SIDES = {1: "longs", -1: "shorts", 0: "accounts"}


def compose_page(found: Sequence[Facts]) -> str:
    """Return what `describe_run` found of some runs.

    Source: LAB-003.
    """
    parts = []
    if len(found) > 1:
        rows = [[facts["run"], *show_measures(facts["policies"][RUN], facts["asset"])] for facts in found]
        parts.append("what the runs did\n" + _format_rows(["run", *MEASURES], rows))
    parts += [_compose_run(facts) for facts in found]
    return "\n\n".join(parts) + "\n"


def _compose_run(facts: Facts) -> str:
    asset, waves = facts["asset"], facts["waves"]

    def money(name: str) -> str:
        return show_money(facts[f"{name}_quote"], asset)

    rules = ", ".join(f"{market['symbol']} {market['allocation']} by {market['score']}" for market in facts["adl"])
    lines = [
        f"{facts['run']}: {rules}",
        f"  {count_noun(facts['deficits'], 'deficit')}, {money('deficit')} {asset['name']}: "
        f"fund {money('paid_by_fund')}, ADL {money('paid_by_adl')}, haircut {money('paid_by_haircut')}, "
        f"unpaid {money('unpaid')}",
        f"  {count_noun(len(waves), 'wave')} of closes and cuts, {facts['compared_waves']} compared: "
        "those that cost winners something",
    ]
    if not waves:
        return "\n".join(lines)
    lines += [
        f"  needed {money('needed')}, taken {money('taken')}; closes above the mark's worth gave {money('gained')}",
        f"  marked out after each wave, gains set off: {money('marked_out')}, overshoot {money('overshoot')}",
        f"  P_T {facts['severity_path']:.4f}, envelope {money('severity_envelope')}",
        "",
        _format_rows(WAVE, [_show_wave(wave, asset) for wave in waves]),
        "",
        _format_rows(
            ["policy", *MEASURES], [[name, *show_measures(row, asset)] for name, row in facts["policies"].items()]
        ),
    ]
    return "\n".join(lines)


def show_money(count: int, asset: Facts) -> str:
    """Return money as text, without the last digits of the asset's unit."""
    unit = Decimal(asset["unit"])
    return f"{(count * unit).quantize(unit.scaleb(HIDDEN_DIGITS)):,f}"


def _show_wave(wave: Facts, asset: Facts) -> list[str]:
    sums = ("deficit", "by_fund", "by_adl", "by_haircut", "unpaid")
    return [
        format_time(wave["start_ns"]).removesuffix(" UTC"),
        f"{(wave['end_ns'] - wave['start_ns']) / NS:.2f}",
        wave["symbol"],
        *(show_money(wave[f"{name}_quote"], asset) for name in sums),
        f"{wave['winners']} {SIDES[wave['side']]}",
        str(wave["payers"]),
    ]


def show_measures(row: Facts, asset: Facts) -> list[str]:
    """Return a policy's row as texts, in the order of MEASURES."""

    def show(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    shares, pairs = row["shares"], row["neighbours"]
    return [
        *(show_money(row[f"{name}_quote"], asset) for name in ("taken", "tracking", "fairness", "total")),
        show(row["mean_max_share"], ".3%"),
        str(shares["payers"]),
        *(show(shares[name], ".3%") for name in ("p50", "p90", "max")),
        *(show(row[name], ",.4g") for name in ("ptsr", "pmr", "rd_nse")),
        show(row["inversions"] / pairs if pairs else None, ".2%"),
        show(row["rank_stability"], ".3f"),
    ]


def _format_rows(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return rows under titles, the first column to the left, the others to the right."""
    widths = [max(len(title), *(len(row[at]) for row in rows)) for at, title in enumerate(titles)]
    lines = []
    for row in (titles, *rows):
        first, *others = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        lines.append("  ".join([first.strip().ljust(widths[0]), *others]))
    return "\n".join(lines)
