"""One run of a scenario, and the row of numbers it leaves (STRESS-003, STRESS-005)."""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.contract import Market, build_setup
from engine.errors import ConfigError
from engine.feeds import Feed, open_feed
from engine.policies import AdlPolicy, LiquidationPolicy
from engine.scenario import Population
from engine.sweep.observe import Observer, measure_shock
from engine.sweep.scenario import Scenario, derive_seed

Row = dict[str, Any]

ENDLESS = 1 << 57  # a fund no run empties
NS = 10**9
KEPT_ROWS = 1 << 22  # of a tape that is kept in memory between runs, 64 bytes each


class Metric(NamedTuple):
    """A column of the results.

    `kind` is `share` (true or false), `money` (units of the asset), `count`, `ratio` or `seconds`; a `key` without
    kind is carried along and not summed up.  `is_shown` puts it on the page.
    """

    key: str
    kind: str
    title: str
    is_shown: bool = True


METRICS = (
    Metric("fund_exhausted", "share", "fund exhausted"),
    Metric("adl", "share", "ADL"),
    Metric("haircut", "share", "haircut"),
    Metric("insolvent", "share", "unpaid"),
    Metric("unrecovered", "share", "not recovered"),
    Metric("fund_low_quote", "money", "fund low"),
    Metric("fund_need_quote", "money", "fund used"),
    Metric("deficit_quote", "money", "deficit"),
    Metric("adl_notional_quote", "money", "ADL notional"),
    Metric("winners_loss_quote", "money", "winners' loss"),
    Metric("haircut_quote", "money", "haircut"),
    Metric("unpaid_quote", "money", "unpaid"),
    Metric("forced_quote", "money", "forced volume"),
    Metric("adl_victims", "count", "ADL victims"),
    Metric("liquidated_accounts", "count", "liquidated"),
    Metric("hedge_breaks", "count", "hedge breaks"),
    Metric("amplification", "ratio", "amplification"),
    Metric("recovery_s", "seconds", "recovery, s"),
)
SHARES = tuple(metric for metric in METRICS if metric.kind == "share")
AMOUNTS = tuple(metric for metric in METRICS if metric.kind != "share")

# What a search waits for, and the column that says it came.
OUTCOMES = {"fund_empty": "fund_exhausted", "adl": "adl", "haircut": "haircut", "liquidation": "liquidated_accounts"}


def run_seed(scenario: Scenario, seed: int, funds: Mapping[str, int] | None = None) -> Row:
    """Run a scenario once.

    Parameters
    ----------
    seed : int
        Number of the run: the same number gives the same index, market and crowd, whatever policies and fund.
    funds : mapping, optional
        Instead of the scenario's, in units of their asset.

    Returns
    -------
    dict
        The columns of the results (STRESS-005), `seed` first.

    Raises
    ------
    ConfigError, DataError, CapacityError, InvariantError
        As of `run_simulation` and `run_replay`; also where the exchange refuses what a fund is to start with.

    Source: STRESS-003.
    """
    funds = scenario.count_funds() if funds is None else dict(funds)
    crowds = [
        msgspec.structs.replace(crowd, seed=derive_seed(crowd.seed, f"crowd {place}", seed))
        if isinstance(crowd, Population)
        else crowd
        for place, crowd in enumerate(scenario.population)
    ]
    setup = build_setup(scenario.markets)
    observer = Observer(len(scenario.markets), scenario.calm_ns)
    play = _simulate if scenario.simulated else _replay
    summary = play(scenario, seed, crowds, funds, observer)
    if summary["fund_start_quote"] != sum(funds.values()):
        raise ConfigError("fund: the exchange refuses to take what it is to start with; expected less")
    found = observer.tell(summary["last_ns"])
    spans = observer.prices.list_spans()
    interest = [market["open_interest_start_lot"] for market in summary["markets"]]
    shock = measure_shock(spans, setup.markets, interest)
    return {
        "seed": seed,
        "fund_exhausted": summary["fund_dry_ns"] is not None or found.refused,
        "adl": summary["adl_fills"] > 0,
        "haircut": summary["haircut_quote"] > 0,
        "insolvent": summary["unpaid_quote"] > 0,
        "unrecovered": not found.recovered,
        "fund_start_quote": summary["fund_start_quote"],
        "fund_low_quote": summary["fund_low_quote"],
        "fund_need_quote": summary["fund_start_quote"] - summary["fund_low_quote"],
        "fund_end_quote": summary["fund_end_quote"],
        "deficit_quote": summary["deficit_quote"],
        "adl_notional_quote": summary["adl_notional_quote"],
        "winners_loss_quote": summary["paid_by_adl_quote"],
        "haircut_quote": summary["haircut_quote"],
        "unpaid_quote": summary["unpaid_quote"],
        "forced_quote": summary["liquidated_quote"],
        "shock_quote": shock,
        "adl_victims": summary["adl_victims"],
        "liquidations": summary["liquidations"],
        "liquidated_accounts": summary["liquidated_accounts"],
        "hedge_breaks": found.hedge_breaks,
        "amplification": summary["liquidated_quote"] / shock if shock else None,
        "recovery_s": found.recovery_ns / NS if summary["liquidations"] else None,
        "commands": summary["commands"],
        "events": summary["events"],
        "digest": summary["digest"],
    }


def _simulate(scenario: Scenario, seed: int, crowds: list[Any], funds: Mapping[str, int], observer: Observer) -> Row:
    from engine.sim import run_simulation

    config = scenario.simulated
    assert config is not None
    if scenario.shock:
        config = msgspec.structs.replace(config, shock=scenario.shock)
    done = run_simulation(
        config,
        scenario.markets[0],
        population=crowds[0] if crowds else None,
        funds=funds,
        seed=derive_seed(config.seed, "market", seed),
        on_events=observer.fold,
    )
    observer.prices.fold_index(done.series["index_tick"])
    return done.summary


def _replay(scenario: Scenario, seed: int, crowds: list[Any], funds: Mapping[str, int], observer: Observer) -> Row:
    from engine.replay import Plan, run_replay

    # the tape is the same under all policies
    plain = tuple(
        msgspec.structs.replace(market, adl=AdlPolicy(), liquidation=LiquidationPolicy()) for market in scenario.markets
    )
    plan = Plan(
        markets=scenario.markets,
        feed=_read_tape(scenario.tape, plain),
        populations=[Path(crowd) if isinstance(crowd, str) else crowd for crowd in crowds],
        shock=scenario.shock,
        funds=funds,
    )
    return run_replay(plan, on_events=observer.fold_piece).summary


class KeptTape:
    """A tape that was read once, for all runs of a process."""

    def __init__(self, feed: Feed, rows: NDArray[np.void]) -> None:
        self.symbols, self.counts, self.rows = feed.symbols, feed.counts, rows

    def chunks(self, rows: int = 65_536) -> Iterator[NDArray[np.void]]:
        """Yield copies of its commands; every call starts at the beginning."""
        for start in range(0, len(self.rows), rows):
            yield self.rows[start : start + rows].copy()


@lru_cache(maxsize=1)
def _read_tape(paths: tuple[str, ...], markets: tuple[Market, ...]) -> Feed:
    """Return a tape, in memory if it is not too long for that."""
    feed = open_feed(list(paths), markets)
    kept, count = [], 0
    for chunk in feed.chunks():
        kept.append(chunk.copy())
        count += len(chunk)
        if count > KEPT_ROWS:
            return feed
    return KeptTape(feed, np.concatenate(kept)) if kept else feed
