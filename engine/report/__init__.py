"""A summary as a page for the person who answers for the fund: plain text, the verdict first.

Money is shown without the last four digits of the asset's unit (cents of a USDT); `summary.json` has every unit.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from textwrap import wrap
from typing import Any

Summary = dict[str, Any]

WIDTH = 100
HIDDEN_DIGITS = 4
TOP_SHOWN = 5
NS = 1_000_000_000
CONSERVED = "wallets + margins - costs + funds + fees + rounding + insolvency = deposits - withdrawals"


class Writer:
    """Formats with the units of one summary."""

    def __init__(self, summary: Summary) -> None:
        asset = summary["assets"][0]
        self.summary, self.name, self.unit = summary, asset["name"], Decimal(asset["unit"])
        self.first_ns = int(summary["first_ns"])
        self.markets = summary["markets"]

    def amount(self, count: int) -> str:
        """Return money as text without its asset; what would round to nothing is shown to the unit."""
        exact = Decimal(count) * self.unit
        shown = exact.quantize(self.unit.scaleb(HIDDEN_DIGITS))
        return f"{exact.quantize(self.unit) if count and not shown else shown:,f}"

    def exact(self, count: int) -> str:
        """Return money as text to the unit."""
        return f"{(Decimal(count) * self.unit).quantize(self.unit):,f}"

    def money(self, count: int) -> str:
        """Return money as text with its asset."""
        return f"{self.amount(count)} {self.name}"

    def price(self, market: int, tick: int) -> str:
        """Return a price as text."""
        size = Decimal(self.markets[market]["tick_size"])
        return f"{(tick * size).quantize(size):,f}"

    def lots(self, market: int, lots: int) -> str:
        """Return a quantity as text."""
        size = Decimal(self.markets[market]["lot_size"])
        return f"{(lots * size).quantize(size):,f}"

    def time(self, ts_ns: int) -> str:
        """Return a time as text: the clock, and how far into the tape that is."""
        return f"{format_time(ts_ns)} ({(ts_ns - self.first_ns) / NS:.1f} s in)"

    def who(self, row: Summary) -> str:
        """Return an account's name, or its number."""
        return str(row.get("name", row["account"]))


def format_time(ts_ns: int) -> str:
    """Return a time in ns since 1970 as UTC text with milliseconds, floored."""
    whole = datetime.fromtimestamp(ts_ns // NS, tz=UTC)
    return f"{whole:%Y-%m-%d %H:%M:%S}.{ts_ns % NS // 1_000_000:03} UTC"


def count_noun(count: int, noun: str) -> str:
    """Return a count with its noun: "1 account", "2,000 accounts"."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def compose_verdict(summary: Summary) -> str:
    """Return the answer in one sentence: did the fund survive, and if not, who paid (CLI-001)."""
    write = Writer(summary)
    start, low = summary["fund_start_quote"], summary["fund_low_quote"]
    deficit, unpaid = summary["deficit_quote"], summary["unpaid_quote"]
    shares = (
        f"of {write.money(deficit)} deficit the fund paid {write.amount(summary['paid_by_fund_quote'])}, "
        f"ADL of {count_noun(summary['adl_victims'], 'account')} {write.amount(summary['paid_by_adl_quote'])}, "
        f"haircut {write.amount(summary['paid_by_haircut_quote'])}, unpaid {write.amount(unpaid)}"
    )
    if summary["fault"]:
        return f"The run broke off: {summary['fault']}."
    so_far = "Interrupted; so far: " if summary["interrupted"] else ""
    if unpaid:
        return f"{so_far}The exchange is insolvent by {write.money(unpaid)}: {shares}."
    if summary["fund_dry_ns"] is not None:
        dry = f"The fund of {write.money(start)} ran dry at {write.time(summary['fund_dry_ns'])}"
        dry = dry if start else "There was no fund"
        return f"{so_far}{dry}: {shares}."
    kept = f"low {write.amount(low)} of {write.money(start)}"
    if not summary["liquidations"]:
        return f"{so_far}Nobody was liquidated" + (f"; the fund: {kept}." if start else ".")
    survived = f"{so_far}The fund survived: {kept}; it paid {write.money(summary['paid_by_fund_quote'])} of deficits"
    if summary["adl_fills"]:
        victims = count_noun(summary["adl_victims"], "account")
        lost = write.money(summary["paid_by_adl_quote"])
        return f"{survived}, but the book ran out: ADL of {victims}, who gave up {lost} against the mark."
    return f"{survived}."


def compose_report(summary: Summary, *, is_timed: bool = False) -> str:
    """Return the whole page; with `is_timed` it ends with how long the run took."""
    write = Writer(summary)
    parts = [*wrap(summary["verdict"], WIDTH), "", *_pairs(_describe_run(write))]
    if summary["deficits_top"]:
        parts += ["", *_deficits(write)]
    if summary["adl_top"]:
        parts += ["", *_victims(write)]
    parts += ["", *_conservation(write)]
    if is_timed:
        parts.append(
            f"{summary['commands']:,} commands, {summary['events']:,} events in {summary['seconds']:.2f} s "
            f"({summary['engine_seconds']:.2f} s of it in the {summary['engine']} engine: "
            f"{summary['commands_per_s']:,} commands/s)"
        )
    return "\n".join(parts) + "\n"


def _describe_run(write: Writer) -> list[tuple[str, str]]:
    summary = write.summary
    seconds = (summary["last_ns"] - summary["first_ns"]) / NS
    rows = [("tape", f"{format_time(summary['first_ns'])}, {seconds:,.1f} s")]
    gaps, dropped = (summary["tape"].get(name, 0) for name in ("gaps", "dropped"))
    if gaps or dropped:
        rows.append(("", f"{count_noun(gaps, 'gap')}, {count_noun(dropped, 'row')} left out"))
    for index, market in enumerate(write.markets):
        ticks = (market[f"mark_{name}_tick"] for name in ("first", "low", "high", "last"))
        first, low, high, last = (write.price(index, tick) for tick in ticks)
        before, after = (write.lots(index, market[f"open_interest_{when}_lot"]) for when in ("start", "end"))
        rows.append((market["symbol"], f"mark {first}, low {low}, high {high}, last {last}"))
        rows.append(("", f"open interest {before} before, {after} after"))
    if summary["rejected"]:
        named = ", ".join(f"{name} {count:,}" for name, count in summary["rejected_by"].items())
        rows.append(("rejected", f"{count_noun(summary['rejected'], 'command')}: {named}"))
    if summary["liquidations"]:
        rows += [("", ""), *_describe_liquidations(write), ("", ""), *_describe_funds(write)]
    if summary.get("liquidations_by", {}).get("recorded", {}).get("orders"):
        rows += [("", ""), *_compare_liquidations(write)]
    return rows


def _compare_liquidations(write: Writer) -> list[tuple[str, str]]:
    """Return what the venue told of liquidations beside ours; public streams are a lower bound (REPLAY-001)."""
    rows = []
    for name, label in (("recorded", "the venue told"), ("simulated", "this run made")):
        told = write.summary["liquidations_by"][name]
        orders = f"{count_noun(told['orders'], 'liquidation order')} in {told['seconds']:,} market-seconds"
        rows.append((label, f"{orders}, {write.money(told['notional_quote'])}"))
    rows.append(("", "public feeds tell one order per market and second at most; by second: liquidations.csv"))
    return rows


def _describe_funds(write: Writer) -> list[tuple[str, str]]:
    summary, rows = write.summary, []
    funds = summary["funds"] if len(summary["funds"]) > 1 else []
    rows.append(("fund before", write.money(summary["fund_start_quote"])))
    rows.append(("fund low", f"{write.money(summary['fund_low_quote'])} at {write.time(summary['fund_low_ns'])}"))
    rows.append(("fund received", f"{write.money(summary['fund_received_quote'])} of surpluses and fees"))
    rows.append(("fund paid", write.money(summary["paid_by_fund_quote"])))
    rows.append(("fund after", write.money(summary["fund_end_quote"])))
    for fund in funds:
        path = ", ".join(f"{name} {write.amount(fund[f'{name}_quote'])}" for name in ("start", "low", "end"))
        rows.append(("", f"{fund['name']}: {path}"))
    rows += [("", "")]
    rows.append((f"deficits {summary['deficits']:,}", write.money(summary["deficit_quote"])))
    for label, key in (
        ("paid by the fund", "paid_by_fund_quote"),
        ("paid by ADL", "paid_by_adl_quote"),
        ("paid by haircut", "paid_by_haircut_quote"),
        ("unpaid", "unpaid_quote"),
    ):
        rows.append((f"  {label}", write.money(summary[key])))
    return rows


def _describe_liquidations(write: Writer) -> list[tuple[str, str]]:
    summary = write.summary
    accounts = count_noun(summary["liquidated_accounts"], "account")
    bankrupt = f"{summary['bankrupt']:,} already bankrupt when it began"
    rows = [("liquidations", f"{summary['liquidations']:,} of {accounts}, {bankrupt}")]
    if summary["first_liquidation_ns"] is not None:
        rows.append(("first liquidation", write.time(summary["first_liquidation_ns"])))
    rows.append(("liquidated", write.money(summary["liquidated_quote"])))
    sides = f"longs {write.amount(summary['liquidated_long_quote'])}, shorts "
    rows.append(("", f"{sides}{write.amount(summary['liquidated_short_quote'])}"))
    ways = (f"{how} {write.amount(summary[f'liquidated_{how}_quote'])}" for how in ("book", "adl", "takeover"))
    rows.append(("closed by", ", ".join(ways)))
    worst = summary["worst_slippage"]
    if worst is None:
        rows.append(("worst slippage", "no liquidation was filled past its bankruptcy price"))
    else:
        fill, bankruptcy = (write.price(worst["market"], worst[name]) for name in ("price_tick", "bankruptcy_tick"))
        past = f"{worst['ppm'] / 10_000:.2f} % past bankruptcy"
        rows.append(("worst slippage", f"{past}: filled at {fill}, bankrupt at {bankruptcy}"))
    victims = count_noun(summary["adl_victims"], "account")
    rows.append(("ADL", f"{count_noun(summary['adl_fills'], 'fill')} on {victims}"))
    if summary["first_adl_ns"] is not None:
        rows.append(("first ADL", write.time(summary["first_adl_ns"])))
    if summary["haircut_winners"]:
        cut = f"{write.money(summary['haircut_quote'])} from {count_noun(summary['haircut_winners'], 'account')}"
        rows.append(("haircut", cut))
    return rows


def _pairs(rows: Sequence[tuple[str, str]]) -> list[str]:
    """Return labels and values as two columns."""
    width = max(len(label) for label, _ in rows) + 2
    return [f"{label:{width}}{value}".rstrip() for label, value in rows]


def table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]], *, labels: int = 0) -> list[str]:
    """Return a table with right-aligned columns under a title; the first `labels` columns are aligned to the left."""
    widths = [max(len(row[at]) for row in (heads, *rows)) for at in range(len(heads))]
    lines = [
        [
            cell.ljust(width) if at < labels else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        for row in (heads, *rows)
    ]
    return [title, *("  " + "  ".join(line).rstrip() for line in lines)]


def _deficits(write: Writer) -> list[str]:
    rows = [
        [
            str(row["id"]),
            write.who(row),
            write.lots(row["market"], row["qty_lot"]),
            write.price(row["market"], row["price_tick"]),
            *(write.amount(row[key]) for key in ("deficit_quote", "paid_by_fund_quote", "paid_by_adl_quote")),
            write.amount(row["paid_by_haircut_quote"]),
            write.amount(row["unpaid_quote"]),
        ]
        for row in write.summary["deficits_top"][:TOP_SHOWN]
    ]
    heads = ("id", "account", "quantity", "price", "deficit", "fund", "ADL", "haircut", "unpaid")
    return table(f"largest deficits, and who paid them ({write.name})", heads, rows)


def _victims(write: Writer) -> list[str]:
    rows = [
        [
            write.who(row),
            "long" if row["side"] > 0 else "short",
            f"{row['rank']:,} of {row['queue']:,}",
            write.lots(row["market"], row["qty_lot"]),
            write.price(row["market"], row["price_tick"]),
            write.price(row["market"], row["mark_tick"]),
            write.amount(row["loss_quote"]),
            write.amount(row["realised_quote"]),
        ]
        for row in write.summary["adl_top"][:TOP_SHOWN]
    ]
    heads = ("victim", "side", "rank", "quantity", "price", "mark", "loss against mark", "PnL kept")
    return table(f"deleveraged, largest loss against the mark first ({write.name})", heads, rows)


def _conservation(write: Writer) -> list[str]:
    summary = write.summary
    if not summary["conserved"]:
        return ["NOT conserved, or not checked."]
    paid_in = write.money(summary["deposits_quote"] - summary["withdrawals_quote"])
    return [
        f"conserved: {CONSERVED},",
        f"  {paid_in} to the unit, checked {count_noun(summary['checks'], 'time')}; digest {summary['digest']}",
    ]
