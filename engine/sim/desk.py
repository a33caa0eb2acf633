"""What the simulated market's kernel works on: parameters in integers, ladders, tables of sizes (SIM-001..SIM-008)."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.codes import DEPOSIT, MONEY_MAX, PPB, PPM
from engine.contract import Market, MarketRules, value_of
from engine.errors import ConfigError
from engine.feeds.draws import FRACTION_BITS, Draws, Ints, lognormal
from engine.layout import COMMAND
from engine.scenario.settings import count_ppm
from engine.scenario.shock import parse_duration
from engine.scenario.simulated import Agents, SimulatedMarket, Takers, count_ppb
from engine.units import count_units

TABLE = 4_096  # sizes a taker's order may have, one as likely as another
DISTANCE_MOST_PPB = PPB // 2
FIRST_ORDER_ID = 1 << 40  # of makers; what else rests has lower ids
FIRST_TAKER_ID = 1 << 41
LEVEL_MOST_LOT = 1 << 48  # what a level may hold, so that a ladder's sum fits
EVENTS_MOST = 1 << 18  # that wait in the buffer before they are handed over
STREAM = 1 << 64  # keeps these draws apart from those of the index

DESK = np.dtype(
    [
        (name, "<i8")
        for name in (
            # parameters
            "market",
            "first_ns",
            "step_ns",
            "rows_most",  # commands of one step, at most
            "events_most",
            "seed",
            "makers",
            "levels",
            "first_maker",
            "first_order_id",
            "maker_limit_lot",
            "calm_ppb",
            "skew_ppb",
            "widen_ppm",
            "thin_ppm",
            "requote_ppm",
            "refill",  # chance per step, in 2^-32
            "memory_ppm",  # what the latest step weighs in the volatility
            "second_ppm",  # from the move of a step to that of a second
            "noise_takers",
            "first_noise",
            "noise_chance",
            "noise_limit_lot",
            "lean_ppm",
            "momentum_takers",
            "first_momentum",
            "momentum_chance",
            "momentum_limit_lot",
            "lookback_steps",
            "threshold_ppb",
            # state
            "draws",
            "ts_ns",
            "step",
            "step_end",
            "phase",  # 0: the index is next, 1: the orders of those who saw it
            "row_count",
            "row_next",
            "taker_id",
            "fair_half",  # what the makers together think fair, in half ticks
            "is_falling",  # 1: less than a step before
            "mid_half",
            "index_tick",
            "volatility_ppb",
        )
    ]
)

# What stood at each step when makers and takers looked: after the index, before their orders.
SERIES = np.dtype(
    [
        (name, "<i8")
        for name in (
            "ts_ns",
            "seq",  # of the index command
            "index_tick",
            "bid_tick",  # 0: none
            "ask_tick",
            "mid_half",  # in half ticks; where a side is empty the last price, or the index
            "fair_half",  # what the makers together think fair
            "mark_tick",
            "last_tick",
            "open_interest_lot",
            "maker_lot",  # what the makers hold together
            "volatility_ppb",  # mean absolute move of the fair value, scaled to a second
        )
    ]
)


class Desk(NamedTuple):
    """The arrays of one simulated market."""

    desk: NDArray[np.void]  # (1,) DESK
    path: Ints  # (steps, 2) index_tick, depth_ppm
    ladder: Ints  # (makers, levels, 2) distance_ppb, size_lot
    sizes: Ints  # (2, TABLE) of noise and momentum takers, in lots
    series: NDArray[np.void]  # (steps,) SERIES


def count_lots(number: Decimal, market: Market, field: str) -> int:
    """Return a quantity in lots, at least 1; ConfigError naming the field."""
    try:
        lots = count_units(number, market.lot_size, "value")
        if lots < 1:
            raise ValueError("expected at least one lot")
    except ValueError as error:
        raise ConfigError(f"simulated market: {field}: {error}") from error
    return lots


def count_chance(step_ns: int, half_life_ns: int, scale: int) -> int:
    """Return what is done in a step of what takes `half_life` to half, as a part of `scale`."""
    return int((1 - Decimal(2) ** (-Decimal(step_ns) / half_life_ns)) * scale)


def build_desk(
    config: SimulatedMarket,
    market: Market,
    rules: MarketRules,
    path: Ints,
    *,
    first_account: int,
    first_ns: int = 0,
    seed: int | None = None,
) -> Desk:
    """Return the arrays of a simulated market before its first step.

    Parameters
    ----------
    path : int64 array (steps, 2)
        As `build_path` returns it, or any other: index in ticks, the makers' depth in ppm.
    first_account : int
        Makers are numbered from here, then noise takers, then momentum takers.

    Raises
    ------
    ConfigError
        Naming the field, where a quantity is no whole number of lots or a size less than one.

    Source: SIM-001.
    """
    seed = config.seed if seed is None else seed
    makers, noise, momentum = config.makers, config.noise, config.momentum
    draws = Draws(STREAM + seed)
    groups: dict[str, Agents] = {"makers": makers, "noise": noise, "momentum": momentum}
    limits = {name: count_lots(agents.limit, market, f"{name}.limit") for name, agents in groups.items()}
    if makers.accounts * limits["makers"] > rules.open_interest_max_lot:
        most = rules.open_interest_max_lot * market.lot_size
        raise ConfigError(f"simulated market: makers.limit: expected at most {most} together (the market's)")
    ladder = _build_ladder(config, market, rules, draws)
    largest = int(ladder[:, :, 1].sum(axis=1).max(initial=0))
    if largest > limits["makers"]:
        raise ConfigError(
            f"simulated market: makers.size: one maker's ladder holds {largest * market.lot_size} a side, "
            f"more than makers.limit, {makers.limit}"
        )
    takers = (("noise", noise), ("momentum", momentum))
    sizes = [_draw_sizes(group, name, market, limits[name], draws) for name, group in takers]
    desk = np.zeros(1, DESK)
    values = {
        "first_ns": first_ns,
        "step_ns": config.step_ns,
        "rows_most": 1 + 2 * makers.accounts * makers.levels + noise.accounts + momentum.accounts,
        "events_most": EVENTS_MOST,
        "seed": seed,
        "makers": makers.accounts,
        "levels": makers.levels,
        "first_maker": first_account,
        "first_order_id": FIRST_ORDER_ID,
        "taker_id": FIRST_TAKER_ID,
        "maker_limit_lot": limits["makers"],
        "calm_ppb": count_ppb("calm", makers.calm),
        "skew_ppb": count_ppb("skew", makers.skew),
        **{f"{name}_ppm": count_ppm(name, getattr(makers, name)) for name in ("widen", "thin", "requote")},
        "refill": count_chance(config.step_ns, parse_duration(makers.refill), 1 << FRACTION_BITS),
        "memory_ppm": count_chance(config.step_ns, parse_duration(makers.memory), PPM),
        "second_ppm": int((Decimal(PPB) / config.step_ns).sqrt() * PPM),
        "noise_takers": noise.accounts,
        "first_noise": first_account + makers.accounts,
        "noise_chance": _count_order_chance(noise, config.step_ns),
        "noise_limit_lot": limits["noise"],
        "lean_ppm": count_ppm("lean", noise.lean),
        "momentum_takers": momentum.accounts,
        "first_momentum": first_account + makers.accounts + noise.accounts,
        "momentum_chance": _count_order_chance(momentum, config.step_ns),
        "momentum_limit_lot": limits["momentum"],
        "lookback_steps": config.count_lookback(),
        "threshold_ppb": count_ppb("threshold", momentum.threshold),
    }
    for name, value in values.items():
        desk[name] = value
    path = np.ascontiguousarray(path, np.int64)
    return Desk(desk, path, ladder, np.stack(sizes), np.zeros(len(path), SERIES))


def _count_order_chance(takers: Takers, step_ns: int) -> int:
    """Return the chance, in 2^-32, that one taker sends an order in a step."""
    if not takers.accounts:
        return 0
    return int(takers.rate * step_ns * (1 << FRACTION_BITS) / PPB / takers.accounts)


def _build_ladder(config: SimulatedMarket, market: Market, rules: MarketRules, draws: Draws) -> Ints:
    """Return per maker and level its distance and its size; makers differ in the first, levels in the second."""
    makers = config.makers
    reach, gap, size = makers.half_spread, makers.spacing, makers.size / market.lot_size
    distances, sizes = [], []
    for _ in range(makers.levels):
        distances.append(min(int(reach * PPB), DISTANCE_MOST_PPB))
        sizes.append(min(int(size), rules.order_max_lot))
        reach, gap, size = min(reach + gap, Decimal(1)), min(gap * makers.growth, Decimal(1)), size * makers.size_growth
        size = min(size, Decimal(rules.order_max_lot))
    if makers.accounts and min(sizes) < 1:
        raise ConfigError(f"simulated market: makers.size: expected at least one lot of {market.lot_size} a level")
    wide = (lognormal(draws, makers.variety, makers.accounts) >> 16).tolist()
    large = (lognormal(draws, makers.variety, makers.accounts * makers.levels) >> 16).tolist()
    ladder = np.zeros((makers.accounts, makers.levels, 2), np.int64)
    for maker in range(makers.accounts):
        for level in range(makers.levels):
            factor = large[maker * makers.levels + level]
            ladder[maker, level, 0] = min(distances[level] * wide[maker] >> 16, DISTANCE_MOST_PPB)
            ladder[maker, level, 1] = min(max(sizes[level] * factor >> 16, 1), rules.order_max_lot, LEVEL_MOST_LOT)
    return ladder


def _draw_sizes(takers: Takers, name: str, market: Market, limit_lot: int, draws: Draws) -> Ints:
    """Return a table of order sizes: lognormal, at least one lot and no more than the account may hold."""
    median = int(takers.size / market.lot_size)
    if median < 1:
        raise ConfigError(f"simulated market: {name}.size: expected at least one lot of {market.lot_size}")
    drawn = (lognormal(draws, takers.sigma, TABLE) >> 16).tolist()
    return np.array([min(max(median * factor >> 16, 1), limit_lot) for factor in drawn], np.int64)


def build_deposits(config: SimulatedMarket, market: Market, rules: MarketRules, desk: Desk) -> NDArray[np.void]:
    """Return the commands that give makers and takers their capital.

    Raises
    ------
    ConfigError
        If it is more than an asset may hold.

    Source: SIM-001.
    """
    row = desk.desk[0]
    start_tick = count_units(config.price, market.tick_size, "price")
    groups: Sequence[tuple[str, Agents, Any]] = (
        ("maker", config.makers, row["first_maker"]),
        ("noise", config.noise, row["first_noise"]),
        ("momentum", config.momentum, row["first_momentum"]),
    )
    parts = []
    for name, agents, first in groups:
        worth = abs(value_of(rules, start_tick, int(row[f"{name}_limit_lot"])))
        amount = max(worth * count_ppm("capital", agents.capital) // PPM, 1)
        if amount * agents.accounts > MONEY_MAX:
            raise ConfigError(f"simulated market: capital of {agents.accounts} accounts ({name}): more than 2^60 units")
        part = np.zeros(agents.accounts, COMMAND)
        part["kind"], part["ts_ns"], part["market"] = DEPOSIT, row["first_ns"], row["market"]
        part["account"], part["amount_quote"] = int(first) + np.arange(agents.accounts), amount
        parts.append(part)
    return np.concatenate(parts)
