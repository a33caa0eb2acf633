"""The index and the makers' depth, step by step, in integers (SIM-002).

Drawn from a seed, read from a file or given: whatever it is, it is done before the market runs.
"""

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.codes import PPB, PPM
from engine.contract import Market, MarketRules
from engine.errors import ConfigError, DataError
from engine.feeds.columns import NS_PER_US, count_stamp
from engine.feeds.draws import FRACTION_BITS, ONE, Draws, Ints, exp2_fixed
from engine.feeds.instruments import Instrument
from engine.scenario.positions import read_csv
from engine.scenario.settings import count_ppm
from engine.scenario.shock import Curve, parse_duration
from engine.scenario.simulated import Jump, JumpDiffusion, Recorded, SimulatedMarket, Walk
from engine.scenario.warp import mul_ppm_even
from engine.units import count_units

YEAR_S = 365 * 86_400
DAY_NS = 86_400 * PPB
INDEX_MOST = 1 << 30  # ticks: what keeps quotes around it inside 64 bits
LOG2_MOST = 32 * ONE
COLUMNS = ("t", "price")
TICKER = ("local_timestamp", "index_price")


def build_path(config: SimulatedMarket, market: Market, rules: MarketRules, seed: int | None = None) -> Ints:
    """Return an array (steps, 2): per step the index in ticks and the part of the makers' sizes, in ppm.

    Parameters
    ----------
    seed : int, optional
        Instead of the config's.

    Raises
    ------
    ConfigError
        If the price is not on the tick, or the index leaves the market's range of prices.
    DataError
        Naming file, line and field of a recorded index.

    Source: SIM-002.
    """
    times = config.step_ns * np.arange(config.steps, dtype=np.int64)
    if isinstance(config.index, Recorded):
        ticks = _read_recorded(Path(config.index.file), market, times)
    else:
        start = _start(config, market, rules)
        if isinstance(config.index, Jump):
            ticks = mul_ppm_even(np.full(config.steps, start), _follow(_curve_of(config.index), times))
        else:
            ticks = _draw_walk(config, start, Draws(config.seed if seed is None else seed))
    ticks = mul_ppm_even(ticks, _follow(config.shock.price_curve(), times))
    check_index(ticks, rules)
    path: NDArray[np.int64] = np.empty((config.steps, 2), np.int64)
    path[:, 0], path[:, 1] = ticks, _follow(config.shock.depth_curve(), times)
    return path


def _start(config: SimulatedMarket, market: Market, rules: MarketRules) -> int:
    """Return where the index starts, in ticks."""
    assert config.price is not None
    try:
        start = count_units(config.price, market.tick_size, "value")
    except ValueError as error:
        raise ConfigError(f"simulated market: price: {error}") from error
    check_index(np.array([start]), rules)
    return start


def check_index(ticks: Ints, rules: MarketRules) -> None:
    """Refuse an index outside the market's range of prices; ConfigError names the step."""
    most = min(rules.price_max_tick, INDEX_MOST)
    bad = np.flatnonzero((ticks < 1) | (ticks > most))
    if len(bad):
        raise ConfigError(
            f"simulated market: index: expected 1 to {most} ticks, step {bad[0]} has {int(ticks[bad[0]])}"
        )


def _follow(curve: Curve, times: Ints) -> Ints:
    """Return a curve at many times: a factor in ppm for each."""
    if len(set(curve.factors_ppm)) == 1:
        return np.full(len(times), curve.factors_ppm[0], np.int64)
    return np.array([curve.at(time) for time in times.tolist()], np.int64)


def _curve_of(jump: Jump) -> Curve:
    """Return a jump as a curve: level, linear, level."""
    at, over = parse_duration(jump.at), parse_duration(jump.over)
    after = PPM + count_ppm("size", jump.size)
    # a jump that takes no time is there from its instant on
    times = (at, at + over) if over else (at - 1, at)
    return Curve(times, (PPM, after))


def _draw_walk(config: SimulatedMarket, start: int, draws: Draws) -> Ints:
    """Return the index of a geometric Brownian motion, with jumps or without."""
    walk = config.index
    assert isinstance(walk, Walk | JumpDiffusion)
    steps = config.steps
    years = Decimal(config.step_ns) / PPB / YEAR_S
    doubling = Decimal(2).ln()
    # of log2 of the price; normals keep 16 binary places, so that their products fit 64 bits
    deviation = int(walk.volatility * years.sqrt() / doubling * ONE)
    whole = int((walk.drift - walk.volatility**2 / 2) * years * steps / doubling * ONE)
    drift = max(min(whole, LOG2_MOST), -LOG2_MOST) * np.arange(steps, dtype=np.int64) // steps
    moves = ((draws.normal(steps) >> 16) * deviation) >> 16
    if isinstance(walk, JumpDiffusion):
        chance = int(walk.jumps_per_day * config.step_ns / DAY_NS * ONE)
        mean, spread = int(walk.jump_mean / doubling * ONE), int(walk.jump_deviation / doubling * ONE)
        sizes = mean + (((draws.normal(steps) >> 16) * spread) >> 16)
        moves += np.where(draws.uniform(steps) < chance, sizes, 0)
    moves[0] = 0
    # held where no market has a price any more, and before it is added, so that the sum fits
    log2 = np.clip(np.cumsum(np.clip(moves, -ONE * 31, ONE * 31)) + drift, -31 * ONE, 28 * ONE)
    factor = exp2_fixed(log2)
    return start * (factor >> FRACTION_BITS) + ((start * (factor & (ONE - 1)) + ONE // 2) >> FRACTION_BITS)


def _check_columns(file: Path, columns: Sequence[str]) -> None:
    if not (set(COLUMNS) <= set(columns) or set(TICKER) <= set(columns)):
        raise DataError(file, 1, None, f"expected the columns {', '.join(COLUMNS)}, or a Tardis derivative_ticker")


def _read_recorded(file: Path, market: Market, times: Ints) -> Ints:
    """Return the recorded price that stands at each time, in ticks; before the first one the first."""
    stamps: list[int] = []
    ticks: list[int] = []
    units = Instrument(0, "", market.symbol, market, {})
    is_ticker = False
    for line, row in read_csv(file, _check_columns):
        is_ticker = not set(COLUMNS) <= row.keys()
        stamp, price = TICKER if is_ticker else COLUMNS
        if row.get("symbol", market.symbol) != market.symbol:
            continue
        field = stamp
        try:
            when = count_stamp(row[stamp]) * NS_PER_US if is_ticker else parse_duration(row[stamp])
            field = price
            tick = units.round_price(row[price])
        except (ValueError, ArithmeticError) as error:
            raise DataError(file, line, field, str(error)) from error
        if stamps and when < stamps[-1]:
            raise DataError(file, line, stamp, f"expected a time not before the row above, {row[stamp]} is")
        if tick:
            stamps.append(when)
            ticks.append(tick)
    if not ticks:
        raise DataError(file, None, None, f"expected at least one price of {market.symbol}")
    begin = stamps[0] if is_ticker else 0
    found = np.searchsorted(np.array(stamps, np.int64) - begin, times, side="right") - 1
    return np.array(ticks, np.int64)[np.maximum(found, 0)]
