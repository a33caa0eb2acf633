"""Searches, each within one seed: the fund it takes, the shock it takes (STRESS-011, STRESS-012)."""

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import NamedTuple

import msgspec

from engine.codes import PPM
from engine.contract import Market, build_setup
from engine.errors import ConfigError
from engine.scenario import Shock
from engine.scenario.settings import check_range, count_ppm
from engine.scenario.shock import Point, parse_duration
from engine.sweep.measure import ENDLESS, NS, OUTCOMES, Row, run_seed
from engine.sweep.scenario import Scenario
from engine.units import parse_decimal

NS_PER_MS = 1_000_000
COARSE_HALVINGS = 3  # a walk is looked at in eighths first
AXES = ("size", "speed", "depth")
MILDEST = {"speed": "1s", "depth": "1"}  # what stands where nothing is said
FASTEST_NS = 1_000


# ---------------------------------------------------------------- the fund


def list_fund_rules(markets: Sequence[Market]) -> list[str]:
    """Return the policies by which the size of a fund changes more than whether it can pay.

    Without any, everything up to the moment a fund cannot pay is the same for all larger ones, and what a run with an
    endless fund takes out of it, at most, is what it needs.

    Source: STRESS-011.
    """
    found = []
    for market in markets:
        has_house = market.liquidation.backstop != "adl"
        rules = (
            ("adl.trigger", market.adl.trigger != "fund_empty"),
            ("liquidation.carry", has_house and market.liquidation.carry > 0),
            ("liquidation.closeout_fee", has_house and market.liquidation.closeout_fee > 0),
        )
        found += [f"{market.symbol}.{name}" for name, is_so in rules if is_so]
    return found


def is_exact(scenario: Scenario, until: str) -> bool:
    """Return whether one run tells what fund a seed needs."""
    return until == "fund_empty" and not list_fund_rules(scenario.markets)


def name_fund(scenario: Scenario) -> str:
    """Return the only fund there is; ConfigError where there are several."""
    funds = build_setup(scenario.markets).funds
    if len(funds) > 1:
        raise ConfigError(f"size-fund: expected markets that share one fund, got {', '.join(funds)}")
    return funds[0]


def find_need(scenario: Scenario, seed: int, *, until: str, halvings: int) -> Row:
    """Return the smallest fund with which a run does not come to `until`.

    Returns
    -------
    dict
        `seed`, `need_quote` (None: no fund is large enough), `is_exact`, `runs`.

    Source: STRESS-011.
    """
    name = name_fund(scenario)
    rows: dict[int, Row] = {}

    def happens(fund: int) -> bool:
        if fund not in rows:
            rows[fund] = run_seed(scenario, seed, {name: fund} if fund else {})
        return bool(rows[fund][OUTCOMES[until]])

    need: int | None
    if is_exact(scenario, until):
        happens(ENDLESS)
        need = int(rows[ENDLESS]["fund_need_quote"])
    else:
        need = _bisect_need(happens, rows, halvings)
    return {"seed": seed, "need_quote": need, "is_exact": is_exact(scenario, until), "runs": len(rows)}


def _bisect_need(happens: Callable[[int], bool], rows: dict[int, Row], halvings: int) -> int | None:
    if happens(ENDLESS):
        return None
    if not happens(0):
        return 0
    high = max(int(rows[ENDLESS]["fund_need_quote"]), 1)
    while happens(high):
        high *= 2
    low, width = 0, max(high >> halvings, 1)
    while high - low > width:
        middle = (low + high) // 2
        low, high = (middle, high) if happens(middle) else (low, middle)
    return high


# ---------------------------------------------------------------- the shock


class Walk(NamedTuple):
    """From the mildest to the severest shock: integers (ppm, ns, ppm) of size, speed and depth at both ends."""

    mild: tuple[int, int, int]
    severe: tuple[int, int, int]

    def at(self, step: int, steps: int) -> tuple[int, int, int]:
        """Return size, speed and depth at a step."""
        size, speed, depth = (a + (b - a) * step // steps for a, b in zip(self.mild, self.severe, strict=True))
        return size, speed, depth


def count_axis(name: str, text: str) -> int:
    """Return a size or depth in ppm, a speed in ns; ConfigError naming the option."""
    try:
        if name == "speed":
            return max(parse_duration(text), FASTEST_NS)
        number = parse_decimal(text)
        check_range(name, number, 0, Decimal("0.999999") if name == "size" else 100)
        return count_ppm(name, number)
    except ValueError as error:
        raise ConfigError(f"--{name} {text}: {error}") from error


def read_axes(texts: dict[str, str | None]) -> tuple[dict[str, tuple[str, str]], dict[str, list[str]]]:
    """Return the axes that are walked, each with its mild and its severe end, and the others with their values.

    Parameters
    ----------
    texts : dict
        Axis -> `MILD:SEVERE`, or values separated by commas, or None.

    Raises
    ------
    ConfigError
        If no axis is walked, or one cannot be read.
    """
    walked: dict[str, tuple[str, str]] = {}
    fixed: dict[str, list[str]] = {}
    for name in AXES:
        text = texts[name] or MILDEST.get(name, "0:0.5")
        if ":" in text:
            mild, _, severe = text.partition(":")
            if count_axis(name, mild) == count_axis(name, severe):
                raise ConfigError(f"--{name} {text}: expected two different ends, MILD:SEVERE")
            walked[name] = (mild, severe)
        else:
            fixed[name] = text.split(",")
            if len({count_axis(name, value) for value in fixed[name]}) < len(fixed[name]):
                raise ConfigError(f"--{name} {text}: expected every value once")
    if not walked:
        raise ConfigError("find-shock: expected at least one of --size, --speed, --depth as MILD:SEVERE")
    return walked, fixed


def build_walk(walked: dict[str, tuple[str, str]], point: dict[str, str]) -> Walk:
    """Return the walk of one point of the frontier: its values stand still, the walked axes move together."""
    ends = {**walked, **{name: (value, value) for name, value in point.items()}}
    mild, severe = ([count_axis(name, ends[name][end]) for name in AXES] for end in (0, 1))
    return Walk((mild[0], mild[1], mild[2]), (severe[0], severe[1], severe[2]))


def build_shock(place: tuple[int, int, int], at_ns: int, side: int, step_ms: int) -> Shock:
    """Return a shock: from `at_ns` on, in so much time, prices move by so much and depth goes to so much.

    Parameters
    ----------
    place : (size_ppm, speed_ns, depth_ppm)
    side : {1, -1}
        Up or down.

    Source: STRESS-012.
    """
    size_ppm, speed_ns, depth_ppm = place

    def ramp(after_ppm: int) -> tuple[Point, ...]:
        times = (f"{Decimal(time) / NS_PER_MS:f}ms" for time in (at_ns, at_ns + speed_ns))
        factors = (Decimal(1), Decimal(after_ppm) / PPM)
        return tuple(Point(t=time, factor=factor) for time, factor in zip(times, factors, strict=True))

    return Shock(price=ramp(PPM + side * size_ppm), depth=ramp(depth_ppm), step_ms=step_ms)


def find_threshold(
    scenario: Scenario,
    seed: int,
    *,
    until: str,
    mild: Sequence[int],
    severe: Sequence[int],
    at_ns: int,
    side: int,
    halvings: int,
) -> Row:
    """Return the mildest shock of a walk with which a run comes to `until`.

    It is looked for at every eighth of the walk, mildest first, then by halving.  More shock can mean less harm (an
    empty book costs the fund nothing); a place between two eighths without it is missed.

    Returns
    -------
    dict
        `seed`, `step` of `steps` (None: nowhere), `size`, `speed_s`, `depth` there, `runs`.

    Source: STRESS-012.
    """
    walk = Walk((mild[0], mild[1], mild[2]), (severe[0], severe[1], severe[2]))
    steps, runs = 1 << halvings, 0
    step_ms = (scenario.shock or Shock()).step_ms

    def happens(step: int) -> bool:
        nonlocal runs
        runs += 1
        shock = build_shock(walk.at(step, steps), at_ns, side, step_ms)
        return bool(run_seed(msgspec.structs.replace(scenario, shock=shock), seed)[OUTCOMES[until]])

    stride = steps >> min(COARSE_HALVINGS, halvings)
    found = next((step for step in range(0, steps + 1, stride) if happens(step)), None)
    low = found - stride if found else 0
    while found and found - low > 1:
        middle = (low + found) // 2
        low, found = (low, middle) if happens(middle) else (middle, found)
    return {"seed": seed, "step": found, "steps": steps, **describe_place(walk, found, steps), "runs": runs}


def describe_place(walk: Walk, step: int | None, steps: int) -> dict[str, float | None]:
    """Return size, speed in seconds and depth at a step of a walk.

    Where it does not come so far (None) only what stands still has a value.
    """
    rows = zip(
        ("size", "speed_s", "depth"), (PPM, NS, PPM), walk.mild, walk.severe, walk.at(step or 0, steps), strict=True
    )
    return {name: None if step is None and mild != severe else at / unit for name, unit, mild, severe, at in rows}
