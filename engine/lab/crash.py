"""A crash run on the real engine, its shape beside what was published (OCT-002, OCT-003)."""

from collections.abc import Mapping
from decimal import Decimal
from time import perf_counter
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine import codes
from engine.audit import check_state
from engine.codes import HOUSE, LINEAR
from engine.contract import Setup
from engine.errors import ConfigError, list_known
from engine.exchange import Exchange
from engine.replay.tally import Tally
from engine.scenario.crash import (
    START_NS,
    UNIT,
    Crash,
    build_crash_markets,
    build_crash_opening,
    build_crash_tape,
    find_coins,
    read_published,
)

Rows = NDArray[np.void]
NS = 10**9
DOLLAR = int(1 / UNIT)
KEPT = (codes.LIQUIDATION_FILL, codes.TAKEOVER, codes.ADL_FILL)

# figure -> what it is and how it is shown; those without a published value stand there to be seen
FIGURES = {
    "first_adl_s": ("first liquidation to first ADL", "s"),
    "half_s": ("... to half of the ADL notional", "s"),
    "last_s": ("... to the last ADL", "s"),
    "forced_usd": ("forced notional", "USD"),
    "other_usd": ("... by book and backstop", "USD"),
    "book_usd": ("...... by the book", "USD"),
    "vault_usd": ("...... by the vault", "USD"),
    "adl_usd": ("... by ADL", "USD"),
    "adl_share": ("ADL, part of forced notional", "%"),
    "other_fills": ("fills of book and backstop", "n"),
    "adl_fills": ("ADL fills", "n"),
    "adl_positions": ("positions deleveraged", "n"),
    "adl_users": ("accounts deleveraged", "n"),
    "adl_coins": ("coins with ADL", "n"),
    "adl_coins_share": ("coins with ADL, of those with liquidations", "%"),
    "adl_instants": ("instants with ADL", "n"),
    "burst_fills_share": ("biggest burst, part of ADL fills", "%"),
    "burst_usd_share": ("biggest second, part of ADL notional", "%"),
    "top_1": ("largest victim, part of ADL notional", "%"),
    "top_10": ("ten largest victims", "%"),
    "top_percent": ("largest percent of victims", "%"),
    "btc_share": ("BTC, part of ADL notional", "%"),
    "top_3_coins_share": ("BTC, ETH and SOL", "%"),
    "adl_pnl_share": ("profit of the deleveraged / ADL notional", "%"),
    "deficit_usd": ("deficits", "USD"),
    "by_adl_usd": ("... paid by ADL", "USD"),
    "by_fund_usd": ("... paid by the fund", "USD"),
    "by_haircut_usd": ("... paid by haircut", "USD"),
    "unpaid_usd": ("... unpaid", "USD"),
    "fund_start_usd": ("fund before", "USD"),
    "fund_low_usd": ("fund low", "USD"),
    "fund_end_usd": ("fund after", "USD"),
    "liquidated_accounts": ("accounts liquidated", "n"),
}


class Played(NamedTuple):
    """A crash as it went.

    Parameters
    ----------
    digest : str
        Of the exchange's state at the end (STATE-001).
    figures : dict
        What FIGURES names: dollars as whole units, shares as fractions, times in seconds; None where nothing happened.
    commands, seconds
        How many, and how long it took.
    """

    digest: str
    figures: dict[str, float | int | None]
    commands: int
    seconds: float


def play_crash(config: Crash, engine: str = "compiled") -> Played:
    """Run a crash to its end.

    Raises
    ------
    ConfigError
        If the parts do not fit, or the exchange rejects what opens the scenario.
    InvariantError
        If something is not conserved (MONEY-001).

    Source: OCT-001, OCT-002.
    """
    started = perf_counter()
    exchange = Exchange(build_crash_markets(config), engine=engine)
    setup = exchange.setup
    rules = list(setup.markets)
    if any(market.kind != LINEAR or market.asset for market in rules):
        raise ConfigError(f"venue: expected a linear preset, got '{config.venue}'")
    tally = Tally(setup)
    tally.begin(START_NS)
    opening = build_crash_opening(config, rules)
    events = exchange.apply(opening)
    rejected = events[events["kind"] == codes.REJECTED]
    if len(rejected):
        name, why, _ = codes.REJECTS[int(rejected[0]["code"])]
        raise ConfigError(f"crash: account {rejected[0]['account']}: the opening is rejected: {name}: {why}")
    tally.fold(events)
    commands, kept = len(opening), [_keep(events)]
    for rows in build_crash_tape(config, rules):
        events = exchange.apply(rows)
        tally.fold(events)
        kept.append(_keep(events))
        commands += len(rows)
    view = exchange.view()
    check_state(view, setup)
    tally.check(view)
    figures = measure_crash(np.concatenate(kept), tally, setup)
    return Played(exchange.digest(), figures, commands, perf_counter() - started)


def _keep(events: Rows) -> Rows:
    return events[np.isin(events["kind"], KEPT)].copy()


def measure_crash(events: Rows, tally: Tally, setup: Setup) -> dict[str, float | int | None]:
    """Return the figures of a run from its events.

    What force-closes is a fill of the book, a takeover by the vault, or an ADL close; the takeover is worth its mark.

    Source: OCT-002.
    """
    kind = events["kind"]
    adl, fills, taken = (events[kind == one] for one in (codes.ADL_FILL, codes.LIQUIDATION_FILL, codes.TAKEOVER))
    multiplier = setup.markets[0].multiplier
    book = sum((fills["price_tick"] * fills["qty_lot"] * multiplier).tolist())
    vault = sum((taken["mark_tick"] * taken["qty_lot"] * multiplier)[taken["other"] == HOUSE].tolist())
    values = np.abs(adl["amount_quote"])
    total = sum(values.tolist())
    forced = book + vault + total
    first = tally.first_liquidation_ns or 0

    def part(count: float, of: float) -> float | None:
        return count / of if of else None

    def since(row: int) -> float | None:
        return (int(adl["ts_ns"][row]) - first) / NS if len(adl) else None

    def sum_by(keys: Any, weights: Any = None) -> list[int]:
        """Return sums of ADL values (or counts) by key, largest first."""
        found, places = np.unique(keys, return_inverse=True)
        sums = np.zeros(len(found), np.int64)
        np.add.at(sums, places, values if weights is None else weights)
        return sorted(sums.tolist(), reverse=True)

    victims = sum_by(adl["other"])
    coins = dict.fromkeys((market.symbol for market in setup.markets), 0)
    for market, symbol in enumerate(coins):
        coins[symbol] = sum(values[adl["market"] == market].tolist())
    by_time = np.cumsum(values)
    half = int(np.searchsorted(by_time, total // 2)) if total else 0
    sums = tally.sums
    one = np.ones(len(adl), np.int64)
    figures: dict[str, float | int | None] = {
        "first_adl_s": since(0),
        "half_s": since(half),
        "last_s": since(-1),
        "forced_usd": forced,
        "other_usd": forced - total,
        "book_usd": book,
        "vault_usd": vault,
        "adl_usd": total,
        "adl_share": part(total, forced),
        "other_fills": len(fills) + int((taken["other"] == HOUSE).sum()),
        "adl_fills": len(adl),
        "adl_positions": len(np.unique(adl["other"].astype(np.int64) * len(setup.markets) + adl["market"])),
        "adl_users": len(victims),
        "adl_coins": len(np.unique(adl["market"])),
        "adl_coins_share": part(len(np.unique(adl["market"])), len(np.unique(np.r_[fills["market"], adl["market"]]))),
        "adl_instants": len(np.unique(adl["ts_ns"])),
        "burst_fills_share": part(max(sum_by(adl["ts_ns"], one), default=0), len(adl)),
        "burst_usd_share": part(max(sum_by(adl["ts_ns"] // NS), default=0), total),
        "top_1": part(sum(victims[:1]), total),
        "top_10": part(sum(victims[:10]), total),
        "top_percent": part(sum(victims[: -(-len(victims) // 100)]), total),
        "btc_share": part(coins.get("BTC", 0), total),
        "top_3_coins_share": part(sum(coins.get(symbol, 0) for symbol in ("BTC", "ETH", "SOL")), total),
        "adl_pnl_share": part(sum(adl["other_amount_quote"].tolist()), total),
        "deficit_usd": sums["deficit_quote"],
        "by_adl_usd": sums["paid_by_adl_quote"],
        "by_fund_usd": sums["paid_by_fund_quote"],
        "by_haircut_usd": sums["paid_by_haircut_quote"],
        "unpaid_usd": sums["unpaid_quote"],
        "fund_start_usd": tally.fund_start,
        "fund_low_usd": tally.fund_low,
        "fund_end_usd": tally.fund_balance,
        "liquidated_accounts": len(tally.liquidated),
    }
    return {name: value / DOLLAR if value and name.endswith("_usd") else value for name, value in figures.items()}


def describe_crash(config: Crash, played: Played) -> dict[str, Any]:
    """Return simulated and published figures side by side, and which of them the scenario was fitted to.

    Raises
    ------
    ConfigError
        If the scenario names a fitted figure that there is not.

    Source: OCT-003.
    """
    published = read_published(config.published_file)
    unknown = sorted({*config.fitted, *published} - set(FIGURES))
    if unknown:
        raise ConfigError(f"fitted: unknown figure '{unknown[0]}', {list_known(unknown[0], FIGURES)}")
    rows = [
        {
            "figure": name,
            "what": what,
            "unit": unit,
            "simulated": played.figures[name],
            "published": float(published[name]) if name in published else None,
            "fitted": name in config.fitted,
        }
        for name, (what, unit) in FIGURES.items()
    ]
    coins = find_coins(config)
    return {
        "schema": 1,
        "seed": config.seed,
        "coins": [coin.symbol for coin in config.coins],
        "forced_usd_of_coins": sum(fact.forced_usd for fact in coins),
        "digest": played.digest,
        "commands": played.commands,
        "parameters": msgspec.to_builtins(config),
        "figures": rows,
    }


def compose_crash(facts: Mapping[str, Any]) -> str:
    """Return what `describe_crash` found as a page.

    Source: OCT-003.
    """
    lines = [f"{'':<44}{'simulated':>16}{'published':>16}  fitted?"]
    for row in facts["figures"]:
        said = "fitted" if row["fitted"] else "" if row["published"] is None else "no"
        cells = "".join(_show(row[name], row["unit"]).rjust(16) for name in ("simulated", "published"))
        lines.append(f"{row['what']:<44}{cells}  {said}".rstrip())
    lines += ["", f"{len(facts['coins'])} coins, seed {facts['seed']}, {facts['commands']:,} commands, conserved;"]
    lines.append(f"digest {facts['digest']}")
    return "\n".join(lines) + "\n"


def _show(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    if unit == "%":
        return f"{value:.2%}"
    return f"{value:,.1f}" if unit == "s" else f"{Decimal(value):,.0f}"
