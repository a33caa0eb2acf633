"""A comparison as a page and as a table of accounts."""

from collections.abc import Sequence
from textwrap import wrap
from typing import Any

from engine.report import WIDTH, Writer, table
from engine.twin.equity import OWNERS
from engine.twin.run import Twins, list_largest

TOP_SHOWN = 5
# label, key of a policy's row, whether it is money
NUMBERS = (
    ("liquidations", "liquidations", False),
    ("accounts liquidated", "liquidated_accounts", False),
    ("bankrupt when it began", "bankrupt", False),
    ("liquidated", "liquidated_quote", True),
    ("  in the book", "liquidated_book_quote", True),
    ("  by ADL", "liquidated_adl_quote", True),
    ("  taken over", "liquidated_takeover_quote", True),
    ("fund start", "fund_start_quote", True),
    ("fund low", "fund_low_quote", True),
    ("fund end", "fund_end_quote", True),
    ("fund received", "fund_received_quote", True),
    ("deficit", "deficit_quote", True),
    ("  paid by the fund", "paid_by_fund_quote", True),
    ("  paid by ADL", "paid_by_adl_quote", True),
    ("  paid by haircut", "paid_by_haircut_quote", True),
    ("  unpaid", "unpaid_quote", True),
    ("ADL fills", "adl_fills", False),
    ("ADL victims", "adl_victims", False),
    ("haircut winners", "haircut_winners", False),
    ("accounts that gain", "accounts_gain", False),
    ("accounts that lose", "accounts_lose", False),
    ("they gain", "gained_quote", True),
    ("they lose", "lost_quote", True),
)


def compose_page(twins: Twins) -> str:
    """Return the comparison as text: verdicts, numbers side by side, who gains and who loses, and the sum of it all."""
    summary = twins.summary
    write = Writer(summary)
    rows: list[dict[str, Any]] = summary["policies"]
    heads = [row["name"] for row in rows]
    fork = summary["fork"]
    parts = [f"forked at {fork['at']}: before command {fork['seq']:,}, {write.time(fork['ts_ns'])}", ""]
    if summary["interrupted"]:
        parts += ["Interrupted: what follows is the state of each at that moment.", ""]
    for row in rows:
        lines = wrap(row["verdict"], WIDTH - 4)
        parts += [row["name"], *(f"    {line}" for line in lines)]
    cells = [
        [label, *(write.amount(row[key]) if is_money else f"{row[key]:,}" for row in rows)]
        for label, key, is_money in NUMBERS
    ]
    for index, market in enumerate(summary["markets"]):
        for label, key in (("low", "mark_low_tick"), ("high", "mark_high_tick"), ("last", "marks_tick")):
            cells.append([f"{market['symbol']} mark, {label}", *(write.price(index, row[key][index]) for row in rows)])
        interest = [write.lots(index, row["open_interest_lot"][index]) for row in rows]
        cells.append([f"{market['symbol']} open interest", *interest])
    parts += ["", *table(f"side by side ({write.name})", ["", *heads], cells, labels=1)]
    for column, name in enumerate(heads[1:], 1):
        parts += ["", *_list_largest(twins, write, column, name)]
    parts += ["", *_add_up(write, rows)]
    return "\n".join(parts) + "\n"


def _list_largest(twins: Twins, write: Writer, column: int, name: str) -> list[str]:
    """Return who gains and who loses most by a policy, against the first."""
    gains = twins.equity_quote[:, column] - twins.equity_quote[:, 0]
    rows = []
    for at in list_largest(gains, TOP_SHOWN):
        account = int(twins.accounts[at])
        ends = [write.amount(int(twins.equity_quote[at, place])) for place in (0, column)]
        met = [twins.describe_fate(place, account) or "-" for place in (0, column)]
        rows.append([twins.names.get(account, str(account)), *ends, write.amount(int(gains[at])), *met])
    base = twins.policies[0].name
    if not rows:
        return [f"{name} against {base}: no account ends with more or less"]
    heads = ("account", f"by {base}", f"by {name}", "difference", f"by {base}", f"by {name}")
    return table(
        f"{name} against {base}: largest gains, then largest losses, equity at mark ({write.name})", heads, rows
    )


def _add_up(write: Writer, rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return the differences of everybody together, which sum to what was paid in (TWIN-008)."""
    names = [*OWNERS, "sum", "paid_in"]
    if any(row["totals_quote"]["valuation"] for row in rows):
        names.append("valuation")
    lines = []
    for row in rows[1:]:
        difference = row["difference_quote"]
        row_sum = {**difference, "sum": sum(difference[name] for name in OWNERS)}
        lines.append([row["name"], *(write.exact(row_sum[name]) for name in names)])
    heads = ["", *(name.replace("_", " ") for name in names)]
    base = rows[0]["name"]
    title = f"differences against {base}, to the unit ({write.name}); their sum is what was paid in more"
    return table(title, heads, lines, labels=1)


def compose_accounts(twins: Twins) -> str:
    """Return every account as CSV."""
    return twins.to_table().compose_csv()
