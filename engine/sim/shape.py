"""What shape a simulated market has: spread, depth, what a sweep does to it and how long that lasts (SIM-010).

Statistics over a finished run, hence floats; nothing here is owned by anybody.
"""

from collections.abc import Callable, Sequence
from decimal import Decimal
from statistics import fmean, median
from typing import Any, NamedTuple

import numpy as np

from engine.codes import BUY, DEPOSIT, IOC, PLACE, PPM, SELL, TRADE
from engine.contract import Market, value_of
from engine.errors import ConfigError
from engine.layout import COMMAND
from engine.scenario.population import Population
from engine.scenario.settings import count_ppm
from engine.scenario.shock import parse_duration
from engine.scenario.simulated import SimulatedMarket
from engine.sim.market import Rows, Simulator
from engine.sim.run import open_simulation

BANDS = (Decimal("0.001"), Decimal("0.005"), Decimal("0.01"), Decimal("0.02"), Decimal("0.05"))
QUANTILES = (5, 25, 50, 75, 95)
YEAR_NS = 365 * 86_400 * 10**9
WARM_UP = 5  # the first so-manieth part of the run is not looked at: the market finds its shape
PROBE_ORDER_ID = 1 << 42
PROBE_CAPITAL = 10  # times the notional that is swept
PROBE_REACH = 2  # a sweep's limit is the middle times or divided by this: it takes what there is


class Sweep(NamedTuple):
    """What one probe found; distances in ppm of the middle before it."""

    side: int
    filled: float  # part of the quantity
    average_ppm: float  # of the fills
    worst_ppm: float
    fair_shift_ppm: float  # of what makers think fair, a step later, the index aside
    recovery_s: float | None  # until half of the depth it took is back; None: not while it was watched


def measure_shape(
    config: SimulatedMarket,
    market: Market,
    *,
    sweep: Decimal,
    probes: int = 5,
    watch: str | int = "60s",
    population: Population | None = None,
    seed: int | None = None,
) -> dict[str, Any]:
    """Run a simulated market and say what shape it has.

    Parameters
    ----------
    sweep : Decimal
        Notional of the orders whose impact is measured, in the settlement asset.  Each is sent to a copy of the market,
        which it leaves undisturbed.
    probes : int
        At how many instants, evenly spread after the first fifth of the run, depth and sweeps of both sides are
        measured.
    watch : duration
        How long a copy is watched for its recovery, at most.

    Returns
    -------
    dict
        `spread_ppm` (mean and quantiles; steps with an empty side are left out and counted in `one_sided_share`),
        `depth_lot` (mean quantity per side within each distance of the middle), `sweep` (means over the probes:
        `average_ppm`, `worst_ppm`, `filled`, `fair_shift_ppm`; `recovery_s`, the median, None where most did not),
        `volatility` (deviation of the middle's returns, per year), and how it was measured.

    Raises
    ------
    ConfigError
        As of `open_simulation`; or if the run is too short for the probes.

    Source: SIM-010.
    """
    simulator, _, _ = open_simulation(config, market, population=population, seed=seed)
    steps = len(simulator.desk.path)
    first = steps // WARM_UP
    stops = [first + (steps - first) * number // (probes + 1) for number in range(1, probes + 1)]
    if probes < 1 or len(set(stops)) < probes or stops[0] < 2:
        raise ConfigError(f"simulated market: duration: {steps} steps are too few for {probes} probes")
    patience = max(parse_duration(watch) // config.step_ns, 1)
    depths: list[dict[str, dict[str, int]]] = []
    found: list[Sweep] = []
    for stop in stops:
        run_to(simulator, stop)
        depths.append(profile_depth(simulator))
        found += [probe_sweep(simulator, market, side, sweep, patience) for side in (SELL, BUY)]
    run_to(simulator, steps)
    return {
        "steps": steps,
        "probes": probes,
        "sweep_notional": format(sweep, "f"),
        **_describe_series(simulator.series[first:], config.step_ns),
        "depth_lot": {
            side: {band: fmean(depth[side][band] for depth in depths) for band in depths[0][side]}
            for side in ("bids", "asks")
        },
        "sweep": _describe_sweeps(found),
    }


def run_to(simulator: Simulator, step: int) -> list[Rows]:
    """Run until so many steps are done; return the events."""
    return [events.copy() for _, events in simulator.advance(step - simulator.step)]


def _describe_series(series: Rows, step_ns: int) -> dict[str, Any]:
    whole = series[(series["bid_tick"] > 0) & (series["ask_tick"] > 0)]
    spread = 2e6 * (whole["ask_tick"] - whole["bid_tick"]) / whole["mid_half"]
    facts: dict[str, Any] = {"one_sided_share": 1 - len(whole) / max(len(series), 1), "spread_ppm": None}
    if len(whole):
        facts["spread_ppm"] = {"mean": float(spread.mean())}
        facts["spread_ppm"] |= {f"p{part}": float(np.percentile(spread, part)) for part in QUANTILES}
    returns = np.diff(np.log(series["mid_half"].astype(np.float64)))
    facts["volatility"] = float(returns.std() * np.sqrt(YEAR_NS / step_ns)) if len(returns) else 0.0
    return facts


def list_book(simulator: Simulator) -> dict[str, list[tuple[int, int]]]:
    """Return all price levels of the simulated market, best first."""
    row = simulator.desk.desk[0]
    levels = 2 * int(row["makers"] * row["levels"])  # nobody else's orders rest
    return simulator.exchange.depth(int(row["market"]), max(levels, 1))


def profile_depth(simulator: Simulator) -> dict[str, dict[str, int]]:
    """Return the quantity in lots per side within each of `BANDS` around the middle.

    Source: SIM-010.
    """
    book, mid_half = list_book(simulator), int(simulator.desk.desk[0]["mid_half"])
    return {
        side: {
            f"{(band * 100).normalize():f}%": sum(
                lots for tick, lots in levels if abs(2 * tick - mid_half) * PPM <= count_ppm("band", band) * mid_half
            )
            for band in BANDS
        }
        for side, levels in book.items()
    }


def probe_sweep(simulator: Simulator, market: Market, side: int, notional: Decimal, patience: int) -> Sweep:
    """Send one large order to a copy of the market and watch it recover, for so many steps at most.

    Parameters
    ----------
    side : {1, -1}
        Of the order.
    notional : Decimal
        In the settlement asset; rounded down to whole lots, at least one, at most the market's largest order.

    Source: SIM-010.
    """
    twin = simulator.copy()
    rules, row = twin.exchange.setup.markets[0], twin.desk.desk[0]
    mid_half, fair_half, index_tick = (int(row[name]) for name in ("mid_half", "fair_half", "index_tick"))
    units = int(notional / market.quote_unit)
    lots = min(max(units // abs(value_of(rules, max(mid_half // 2, 1), 1)), 1), rules.order_max_lot)
    limit = mid_half // 2 * PROBE_REACH if side > 0 else max(mid_half // 2 // PROBE_REACH, 1)
    rows = np.zeros(2, COMMAND)
    rows["account"] = row["first_momentum"] + row["momentum_takers"]  # the first that nobody has
    rows["ts_ns"], rows["kind"] = row["ts_ns"], (DEPOSIT, PLACE)
    rows["amount_quote"][0] = max(PROBE_CAPITAL * units, 1)
    order = rows[1:]
    order["order_id"], order["side"], order["qty_lot"], order["tif"] = PROBE_ORDER_ID, side, lots, IOC
    order["price_tick"] = min(limit, rules.price_max_tick)
    before = count_side(twin, side)
    events = twin.exchange.apply(rows)
    fills = events[(events["kind"] == TRADE) & (events["order_id"] == PROBE_ORDER_ID)]
    filled = int(fills["qty_lot"].sum())
    taken = before - count_side(twin, side)
    recovery = None
    shift = 0.0
    for step in range(1, min(patience, len(twin.desk.path) - twin.step) + 1):
        run_to(twin, twin.step + 1)
        if step == 1:
            fair, index = int(row_of(twin)["fair_half"]), int(row_of(twin)["index_tick"])
            shift = (fair / fair_half * index_tick / index - 1) * 1e6
        if 2 * (before - count_side(twin, side)) <= taken:
            recovery = step * int(row["step_ns"]) / 1e9
            break
    worst = average = 0.0
    if filled:
        past = side * (2 * fills["price_tick"] - mid_half) / mid_half * 1e6
        worst, average = float(past.max()), float((past * fills["qty_lot"]).sum() / filled)
    return Sweep(side, filled / lots, average, worst, side * shift, recovery)


def row_of(simulator: Simulator) -> Any:
    """Return the state of a simulated market."""
    return simulator.desk.desk[0]


def count_side(simulator: Simulator, side: int) -> int:
    """Return the quantity that an order on `side` could trade with."""
    levels = list_book(simulator)["asks" if side > 0 else "bids"]
    return sum(lots for _, lots in levels)


def _describe_sweeps(found: Sequence[Sweep]) -> dict[str, Any]:
    def mean(read: Callable[[Sweep], float]) -> float:
        return fmean(map(read, found))

    # those that did not recover while they were watched are the slowest
    times = sorted(float("inf") if sweep.recovery_s is None else sweep.recovery_s for sweep in found)
    middle = median(times)
    return {
        "filled": mean(lambda sweep: sweep.filled),
        "average_ppm": mean(lambda sweep: sweep.average_ppm),
        "worst_ppm": mean(lambda sweep: sweep.worst_ppm),
        "fair_shift_ppm": mean(lambda sweep: sweep.fair_shift_ppm),
        "recovery_s": None if middle == float("inf") else middle,
    }
