"""A stress as its owner writes it: how prices and depth depart from the tape over time."""

import re
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import msgspec

from engine.codes import PPM
from engine.scenario.settings import check_range, count_ppm, load_settings
from engine.units import parse_decimal

DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)?")
UNIT_NS = {"ms": 1_000_000, "s": 1_000_000_000, "m": 60_000_000_000, "h": 3_600_000_000_000}
FACTOR_MOST = 100
DURATION_END_NS = 1 << 63
STEP_MS_MOST = 3_600_000


def parse_duration(text: str | int) -> int:
    """Return "250ms", "12s", "1.5m", "2h" or plain seconds in ns; ValueError where it is none of these."""
    match = DURATION.fullmatch(str(text).strip())
    if match is None:
        raise ValueError(f"expected a duration like 250ms, 12s, 1.5m or 2h, got {text!r}")
    number = parse_decimal(match[1]) * UNIT_NS[match[2] or "s"]
    if number >= DURATION_END_NS:
        raise ValueError(f"expected a duration below 292 years, got {text!r}")
    if number != int(number):
        raise ValueError(f"expected whole nanoseconds, got {text!r}")
    return int(number)


class Point(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From this time after the start of the tape on, this factor."""

    t: str | int
    factor: Decimal


class Curve(NamedTuple):
    """A piecewise linear factor of time, in integers: before its first and after its last point it is level."""

    times_ns: tuple[int, ...]
    factors_ppm: tuple[int, ...]

    def at(self, time_ns: int) -> int:
        """Return the factor at a time, floored to a part per million."""
        times, factors = self.times_ns, self.factors_ppm
        if time_ns <= times[0]:
            return factors[0]
        for index in range(1, len(times)):
            if time_ns < times[index]:
                begin, end = times[index - 1], times[index]
                rise = (factors[index] - factors[index - 1]) * (time_ns - begin)
                return factors[index - 1] + rise // (end - begin)
        return factors[-1]


class Shock(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How recorded prices and quantities depart from the tape.

    Parameters
    ----------
    price : list of {t, factor}
        Multiplies prices; linear between the points, level before the first and after the last.
    depth : list of {t, factor}
        Multiplies the outside's quantities likewise; 0 empties the book.
    step_ms : int
        Factors are held for this long and change at whole steps, since every change places the whole book anew.
    """

    price: tuple[Point, ...] = ()
    depth: tuple[Point, ...] = ()
    step_ms: int = 250

    def __post_init__(self) -> None:
        """Refuse what cannot be followed; msgspec adds the path."""
        check_range("step_ms", self.step_ms, 1, STEP_MS_MOST)
        build_curve("price", self.price, Decimal("0.000001"))
        build_curve("depth", self.depth, Decimal(0))

    def price_curve(self) -> Curve:
        """Return the price factor as integers."""
        return build_curve("price", self.price, Decimal("0.000001"))

    def depth_curve(self) -> Curve:
        """Return the depth factor as integers."""
        return build_curve("depth", self.depth, Decimal(0))


def build_curve(field: str, points: Sequence[Point], least: Decimal) -> Curve:
    """Return points as integers, factors of 1 without points; ValueError naming field and point."""
    if not points:
        return Curve((0,), (PPM,))
    times, factors = [], []
    for index, point in enumerate(points):
        path = f"{field}[{index}]"
        try:
            times.append(parse_duration(point.t))
        except ValueError as error:
            raise ValueError(f"{path}.t: {error}") from error
        check_range(f"{path}.factor", point.factor, least, FACTOR_MOST)
        factors.append(count_ppm(f"{path}.factor", point.factor))
        if index and times[-1] <= times[-2]:
            raise ValueError(f"{path}.t: expected later than {points[index - 1].t}, got {point.t}")
    return Curve(tuple(times), tuple(factors))


def load_shock(path: str | Path) -> Shock:
    """Read a shock from a TOML file; ConfigError names the file and the path inside it."""
    return load_settings(path, Shock)
