"""Other rules for an exchange that runs: what may change in flight, and how the compiled engine's arrays take it.

The reference engine says the same in `ReferenceExchange.change_rules`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.codes import (
    BACKSTOP_ADL,
    CROSS,
    HOUSE,
    PEAK_BUCKETS,
    POSITIONS_FULL,
    PPM,
    TRIGGER_DRAWDOWN,
    UNWIND_STEPPED,
)
from engine.compiled import CompiledEngine, allot, can_rest
from engine.contract import Market, MarketRules, Setup
from engine.digest import View
from engine.errors import ConfigError
from engine.layout import HEAP, MARKET, NIL

# Policies of the waterfall, and rates that nothing in the state was computed with.
CHANGEABLE = frozenset(
    {
        "maker_fee_ppm",
        "taker_fee_ppm",
        "liquidation_fee_ppm",
        "order_collar_ppm",
        "liquidation_collar_ppm",
        "closeout_moves_last",
        "adl_fees",
        "adl_trigger",
        "adl_price",
        "adl_score",
        "adl_allocation",
        "adl_cancel_victims",
        "lights",
        "adl_drawdown_ppm",
        "adl_release_ppm",
        "adl_within_ppm",
        "adl_bucket_ns",
        "adl_gate",
        "cancel",
        "size",
        "share_ppm",
        "share_min_quote",
        "full_below_quote",
        "step_max_quote",
        "cooldown_ns",
        "after_share",
        "limit",
        "spread_ppm",
        "adjustment_ppm",
        "surplus",
        "surplus_fee_ppm",
        "shortfall",
        "fund_loss_max_quote",
        "backstop",
        "vault_below_ppm",
        "takeover_price",
        "carry_ppm",
        "unwind",
        "unwind_interval_ns",
        "unwind_share_ppm",
        "unwind_full_lot",
        "unwind_depth_ppm",
        "unwind_range_ppm",
        "unwind_last",
        "closeout_fee_ppm",
    }
)
# What decides how long a domain is left alone: with another of these nobody waits for the old one.
PATIENCE = ("adl_gate", "cooldown_ns", "after_share")
WATCHED = ("adl_trigger", "adl_bucket_ns")
WHY = {
    "tiers": "; a table named in tier_tables comes in force by the command set_tiers",
    "more_tables": "; a table named in tier_tables comes in force by the command set_tiers",
    "fund": "; what is in a fund changes by the command fund_deposit",
}


def check_rules(before: Setup, after: Setup, where: str = "copy") -> None:
    """Refuse other rules where something in a state is computed with the old ones.

    Raises
    ------
    ConfigError
        Naming the market and the rule.

    Source: TWIN-001.
    """
    if len(after.markets) != len(before.markets):
        raise ConfigError(f"{where}: expected {len(before.markets)} markets as before, got {len(after.markets)}")
    for old, new in zip(before.markets, after.markets, strict=True):
        for name in MarketRules._fields:
            if name not in CHANGEABLE and getattr(old, name) != getattr(new, name):
                raise ConfigError(
                    f"{where}: {old.symbol}: {name} cannot change in flight: it is {_show(getattr(old, name))}, got "
                    f"{_show(getattr(new, name))}{WHY.get(name, '')}"
                )
    if before[1:] != after[1:]:
        raise ConfigError(f"{where}: assets and funds cannot change in flight: {before[1:]}, got {after[1:]}")


def check_units(before: Sequence[Market], after: Sequence[Market]) -> None:
    """Refuse markets that count in other units; rules alone do not tell them apart.

    Raises
    ------
    ConfigError
        Naming the market and the field.

    Source: TWIN-001.
    """
    for old, new in zip(before, after, strict=False):
        for name in ("tick_size", "lot_size", "contract_size", "refill"):
            was, now = getattr(old, name), getattr(new, name)
            if was != now:
                raise ConfigError(f"copy: {old.symbol}: {name} cannot change in flight: it is {was}, got {now}")


def check_change(before: Setup, after: Setup, view: View) -> None:
    """Refuse other rules for a state: as `check_rules`, and where the house holds what nobody would keep.

    Source: TWIN-001.
    """
    check_rules(before, after)
    for row in np.asarray(view.positions, np.int64).reshape(-1, 9):
        if row[0] != HOUSE or not (row[2] or row[3]):
            continue
        old, new = before.markets[row[1]], after.markets[row[1]]
        if new.backstop == BACKSTOP_ADL and old.backstop != BACKSTOP_ADL:
            what = f"the house holds {row[2]} lots, expected a backstop that keeps it"
            raise ConfigError(f"copy: {old.symbol}: backstop cannot change in flight: {what}")


def _show(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def is_impatient(before: Setup, after: Setup) -> bool:
    """Return whether those who rest or cool are to be looked at again (TWIN-002)."""
    pairs = zip(before.markets, after.markets, strict=True)
    return any(getattr(old, name) != getattr(new, name) for old, new in pairs for name in PATIENCE)


def change_rules(engine: CompiledEngine, after: Setup) -> None:
    """Put other rules in force; `check_change` has allowed them.

    Source: TWIN-001, TWIN-002, TWIN-003.
    """
    before, state = engine.setup, engine.state
    head = state.head[0]
    engine.setup = after
    if can_rest(after) and not len(state.resting):
        size = 2 * (len(state.wallets) + len(state.positions))
        engine.state = state = state._replace(resting=allot(size, HEAP))
    if is_impatient(before, after):
        rows = state.resting[: int(head["resting_count"])]
        rows["key"] = 0
        rows[:] = rows[np.lexsort((rows["item"], rows["minor"], rows["tie"]))]  # in order, so it is a heap
    for market, (old, new) in enumerate(zip(before.markets, after.markets, strict=True)):
        row = state.markets[market]
        for name in CHANGEABLE.intersection(MARKET.names or ()):
            row[name] = getattr(new, name)
        if new.unwind != UNWIND_STEPPED:
            row["unwind_due_ns"] = 0
        peaks = state.peaks[market * PEAK_BUCKETS : (market + 1) * PEAK_BUCKETS]
        _change_watch(engine, market, old, new, peaks)
    head["watch_count"] = sum(rules.adl_trigger == TRIGGER_DRAWDOWN for rules in after.markets)
    head["queue_live"] = 0
    for market, rules in enumerate(after.markets):
        if rules.backstop != BACKSTOP_ADL and int(engine.state.markets[market]["house"]) == NIL:
            _add_house(engine, market, rules)


def _change_watch(engine: CompiledEngine, market: int, old: MarketRules, new: MarketRules, peaks: NDArray[Any]) -> None:
    """Begin, end or judge anew the watch over a market's fund (TWIN-003)."""
    row, balance = engine.state.markets[market], int(engine.state.funds[new.fund]["balance_quote"])
    if new.adl_trigger != TRIGGER_DRAWDOWN:
        peaks[:] = row["peak_bucket"] = row["adl_active"] = 0
        return
    if any(getattr(old, name) != getattr(new, name) for name in WATCHED):
        peaks[:] = balance
        row["peak_bucket"], row["adl_active"] = int(engine.state.head[0]["ts_ns"]) // new.adl_bucket_ns, 0
    lost, peak = (int(peaks.max()) - balance) * PPM, int(peaks.max())
    if lost > new.adl_drawdown_ppm * peak:
        row["adl_active"] = 1
    elif lost < new.adl_release_ppm * peak:
        row["adl_active"] = 0


def _add_house(engine: CompiledEngine, market: int, rules: MarketRules) -> None:
    """Give the house a position in a market that had no use for one."""
    slot = int(engine.state.head[0]["position_used"])
    while slot >= len(engine.state.positions) - 1:  # one stays free for the next command
        engine.grow(POSITIONS_FULL)
    position = engine.state.positions[slot]
    position["account"], position["market"] = HOUSE, market
    position["orders_head"] = position["next_owned"] = NIL
    position["leverage_ppm"], position["mode"] = rules.leverage_ppm, CROSS
    engine.state.markets[market]["house"] = slot
    engine.state.head[0]["position_used"] = slot + 1
