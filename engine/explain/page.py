"""An account's story as text, with times."""

from collections.abc import Callable
from itertools import groupby
from typing import Any

from engine.report import Writer, table

Row = dict[str, Any]

EVENTS_SHOWN = 120
FOLDED = ("trade", "funding_payment", "variation")  # long runs of these are told in one line
LABELS = (
    ("paid in", "paid_in_quote"),
    ("withdrawn", "withdrawn_quote"),
    ("fees paid", "fees_quote"),
    ("funding received", "funding_quote"),
    ("lost against the mark by ADL", "adl_loss_quote"),
    ("gained against the mark by ADL", "adl_gain_quote"),
    ("cut from its gains", "haircut_quote"),
    ("left unpaid by it", "deficit_quote"),
    ("  paid by the fund", "paid_by_fund_quote"),
    ("  paid by ADL", "paid_by_adl_quote"),
    ("  paid by haircut", "paid_by_haircut_quote"),
    ("  unpaid", "unpaid_quote"),
)


def compose_story(story: Row) -> str:
    """Return the story as a page: the end, how it stood over time, then what it met.

    Source: EXPL-001..EXPL-004.
    """
    write = Writer(story)
    end, sums, account = story["end"], story["sums"], story["account"]
    number = f" (number {account})" if str(account) in story["names"] else ""
    parts = [
        f"{_who(write, account)}{number} of {story['run']}: ends with {write.money(end['equity_quote'])}, "
        f"{_signed(write, end['result_quote'])} on what it brought"
    ]
    shown = [(label, write.amount(sums[key])) for label, key in LABELS if sums[key]]
    width = max((len(label) for label, _ in shown), default=0) + 2
    parts += ["", *(f"{label:{width}}{amount}" for label, amount in shown)]
    for row in end["positions"]:
        held = _position(write, row["market"], row["qty_lot"])
        mark = write.price(row["market"], row["mark_tick"])
        parts.append(f"{'holds':{width}}{held}, mark {mark}, unrealised {write.amount(row['gain_quote'])}")
    if story["looks"]:
        parts += ["", *_list_looks(write, story)]
    told = _tell_events(write, story["events"])
    parts += [
        "",
        f"what it met ({len(story['events']):,} events, {story['orders']:,} orders sent)",
        *told[:EVENTS_SHOWN],
    ]
    if len(told) > EVENTS_SHOWN:
        parts.append(f"  ... and {len(told) - EVENTS_SHOWN:,} lines more; all of them with --json")
    return "\n".join(parts) + "\n"


def _signed(write: Writer, amount: int) -> str:
    return f"{'+' if amount >= 0 else ''}{write.amount(amount)}"


def _position(write: Writer, market: int, qty_lot: int) -> str:
    if not qty_lot:
        return "flat"
    return f"{'long' if qty_lot > 0 else 'short'} {write.lots(market, abs(qty_lot))} {write.markets[market]['symbol']}"


def _list_looks(write: Writer, story: Row) -> list[str]:
    """Return its rank in the queue and the score's parts over time, and how far its liquidation was."""
    rows = []
    for look in story["looks"]:
        market = look["market"]
        rate = look["gain_quote"] / max(abs(look["cost_quote"]), 1)
        levered = look["effective_leverage_ppm"]
        price = look["liquidation_tick"]
        rows.append(
            [
                f"{(look['ts_ns'] - write.first_ns) / 1e9:,.1f} s",
                _position(write, market, look["qty_lot"]),
                write.price(market, look["mark_tick"]),
                write.amount(look["gain_quote"]),
                f"{rate:+.2%}",
                "-" if levered is None else f"{levered / 1e6:,.2f}",
                "-" if look["score"] is None else f"{look['score'] / 1e9:,.4f}",
                "-" if look["rank"] is None else f"{look['rank']:,} of {look['queue']:,}",
                write.price(market, price) if price else "none",
                "-" if look["distance_ppm"] is None else f"{look['distance_ppm'] / 1e4:.2f} %",
            ]
        )
    heads = (
        "time",
        "position",
        "mark",
        "unrealised",
        "PnL/cost",
        "leverage",
        "score",
        "rank",
        "liquidation",
        "distance",
    )
    score = story["looks"][0]["score_by"]
    title = f"how it stood: rank in its side's ADL queue by score {score}, leverage is value over its share of equity"
    return table(title, heads, rows)


def _tell_events(write: Writer, events: list[Row]) -> list[str]:
    """Return a line per event, runs of trades or payments in one."""
    lines = []
    for is_folded, run in groupby(events, lambda row: (row["kind"], row["market"]) if row["kind"] in FOLDED else None):
        rows = list(run)
        if is_folded and len(rows) > 3:
            lines.append(f"  {_when(write, rows[0])}  {_fold(write, rows)}, until {_when(write, rows[-1]).strip()}")
        else:
            lines += [f"  {_when(write, row)}  {_TELLERS.get(row['kind'], _tell_plain)(write, row)}" for row in rows]
    return lines


def _when(write: Writer, row: Row) -> str:
    return f"{(row['ts_ns'] - write.first_ns) / 1e9:9.3f} s"


def _fold(write: Writer, rows: list[Row]) -> str:
    if rows[0]["kind"] == "trade":
        bought = sum(row["qty_lot"] for row in rows if row["side"] > 0)
        sold = sum(row["qty_lot"] for row in rows if row["side"] < 0)
        market = rows[0]["market"]
        fees = write.amount(sum(row["fee_quote"] for row in rows))
        return (
            f"{len(rows):,} trades: bought {write.lots(market, bought)}, sold {write.lots(market, sold)}, fees {fees}"
        )
    paid = _signed(write, sum(row["amount_quote"] for row in rows))
    return f"{len(rows):,} times {rows[0]['kind'].replace('_', ' ')}: {paid}"


def _lots_at(write: Writer, row: Row) -> str:
    return f"{write.lots(row['market'], row['qty_lot'])} at {write.price(row['market'], row['price_tick'])}"


def _tell_accepted(write: Writer, row: Row) -> str:
    command = row["command"]
    if command == "assign":
        side = "long" if row["side"] > 0 else "short"
        return f"begins {side} {_lots_at(write, row)}, with {write.money(row['amount_quote'])}"
    if command == "set_leverage":
        return f"leverage {row['amount_quote']}"
    if command == "set_margin_mode":
        return f"margin mode {('cross', 'isolated', 'portfolio')[row['amount_quote']]}"
    return f"{command.replace('_', ' ')} {write.money(row['amount_quote'])}"


def _tell_trade(write: Writer, row: Row) -> str:
    does = "buys" if row["side"] > 0 else "sells"
    fee = f"fee {write.amount(row['fee_quote'])}"
    return f"{does} {_lots_at(write, row)} as {row['role']}, {fee}, with {_who(write, row['other'])}"


def _who(write: Writer, account: int) -> str:
    name = write.summary["names"].get(str(account), account)
    return {0: "the outside", -1: "the house"}.get(account, f"account {name}")


def _tell_started(write: Writer, row: Row) -> str:
    is_bankrupt = row["equity_quote"] < 0
    text = f"liquidation begins: equity {write.amount(row['equity_quote'])} below maintenance "
    text += write.amount(row["maintenance_quote"]) + (", bankrupt already" if is_bankrupt else "")
    for stand in row["positions"]:
        held = _position(write, stand["market"], stand["qty_lot"])
        text += f"; {held}, mark {write.price(stand['market'], stand['mark_tick'])}"
        text += f", liquidation price {write.price(stand['market'], stand['liquidation_tick'])}"
    return text


def _tell_liquidation_fill(write: Writer, row: Row) -> str:
    if "surplus_quote" not in row:
        return _tell_trade(write, row)
    does = "bought" if row["side"] > 0 else "sold"
    against = (
        f"{does} {_lots_at(write, row)} for it, bankruptcy price {write.price(row['market'], row['bankruptcy_tick'])}"
    )
    surplus = row["surplus_quote"]
    made = f"{write.amount(abs(surplus))} {'left over' if surplus >= 0 else 'missing'}"
    return f"{against}: {made}; paid to {_who(write, row['other'])}"


def _tell_adl(write: Writer, row: Row) -> str:
    mark = f"mark {write.price(row['market'], row['mark_tick'])}"
    place = f"rank {row['rank']:,} of {row['queue']:,}"
    if row["role"] == "bankrupt":
        return f"closed against {_who(write, row['other'])} ({place}): {_lots_at(write, row)}, {mark}"
    loss = row["loss_quote"]
    gave = f"{'gives up' if loss >= 0 else 'gains'} {write.amount(abs(loss))} against the mark"
    kept = f"keeps PnL {write.amount(row['realised_quote'])}"
    by = f"deleveraged ({place}, score {row['score'] / 1e9:,.4f}) for {_who(write, row['other'])}"
    return f"{by}: {_lots_at(write, row)}, {mark}: {gave}, {kept}"


def _tell_deficit(write: Writer, row: Row) -> str:
    payers = (("fund", "paid_by_fund_quote"), ("ADL", "paid_by_adl_quote"), ("haircut", "paid_by_haircut_quote"))
    paid = ", ".join(
        f"{name} {write.amount(row[key])}" for name, key in (*payers, ("unpaid", "unpaid_quote")) if row[key]
    )
    return f"deficit {row['id']} of {write.money(row['deficit_quote'])}: {paid}"


def _tell_plain(write: Writer, row: Row) -> str:
    amount = write.amount(row.get("amount_quote", 0))
    kind = str(row["kind"])
    if kind == "margin_call":
        return f"margin call: equity {amount}, maintenance {write.amount(row.get('other_amount_quote', 0))}"
    if kind == "fund_debit":
        return f"the fund pays {amount} for it"
    if kind == "fund_credit":
        return f"the fund receives {amount} of what was left over"
    if kind == "funding_payment":
        return f"funding {amount}"
    if kind == "haircut":
        return f"its gain is cut by {amount}, as those of {row['winners']:,} winners"
    if kind == "adl_started":
        left = write.lots(row["market"], row["qty_lot"])
        return f"deleveraging begins ({row['reason']}): {left} left to close, {row['queue']:,} winners in the queue"
    if kind == "adl_notice":
        return f"is left with {write.lots(row['market'], row.get('qty_lot', 0))}"
    if kind == "takeover":
        taken = write.lots(row["market"], row["qty_lot"])
        return f"{_who(write, row['other'])} takes over {taken}, {amount} paid in for it"
    if kind == "liquidation_ended":
        return f"liquidation ends: equity {amount}, {row.get('qty_lot', 0):,} lots closed"
    if kind == "variation":
        return f"settled at the mark: {amount}"
    return kind.replace("_", " ")


_TELLERS: dict[str, Callable[[Writer, Row], str]] = {
    "accepted": _tell_accepted,
    "trade": _tell_trade,
    "liquidation_started": _tell_started,
    "liquidation_fill": _tell_liquidation_fill,
    "adl_fill": _tell_adl,
    "deficit": _tell_deficit,
}
