"""Many runs as curves with bands: an outcome over one side of a grid, a line for each value of the others (REP-007).

A picture of this kind has an `axis`: its name, whether it is logarithmic, and the labels of places that are no numbers.
A series has `low` and `high` beside `y`, the ends of its interval.
"""

from collections.abc import Sequence
from itertools import pairwise
from math import log10, sqrt
from typing import Any, NamedTuple

from engine.report.shape import Picture
from engine.sweep.grid import name_point
from engine.units import parse_decimal

LINES_MAX = 8
# A line is told from the others by its dashes too, on paper and by who sees no colours.
COLOURS = ("mark", "adl", "fund", "cut", "last", "loss", "index", "unpaid")
DASHES = ((), (8, 4), (2, 3), (10, 3, 2, 3), (5, 5), (1, 2), (12, 6), (6, 2, 2, 2))
ROOM = 0.03  # of the axis, before the first place and after the last


class Axis(NamedTuple):
    """The side of a grid that a chart goes along.

    Parameters
    ----------
    path : str
    values : dict
        Text of a value -> its place; of values that are no numbers 0, 1, 2...
    is_log : bool
    labels : tuple of str
        Of places that are no numbers.
    """

    path: str
    values: dict[str, float]
    is_log: bool = False
    labels: tuple[str, ...] = ()

    def describe(self) -> dict[str, Any]:
        """Return what the page's script knows of it."""
        return {"name": self.path, "log": self.is_log, "labels": list(self.labels)}

    def span(self) -> tuple[float, float]:
        """Return where the axis begins and ends."""
        if self.labels:
            return -0.5, len(self.labels) - 0.5
        return spread_span(min(self.values.values()), max(self.values.values()), is_log=self.is_log)


class Point(NamedTuple):
    """An outcome at a point of the grid with its interval; None where nothing was looked at."""

    point: dict[str, str]
    value: float | None
    low: float | None
    high: float | None


def spread_span(first: float, last: float, *, is_log: bool = False) -> tuple[float, float]:
    """Return a span with some room at both ends."""
    if is_log:
        room = ROOM * (log10(last) - log10(first))
        return 10 ** (log10(first) - room), 10 ** (log10(last) + room)
    room = ROOM * (last - first) or 0.5
    return first - room, last + room


def read_number(text: str) -> float | None:
    """Return a value of a grid as a number, if it is one."""
    try:
        return float(parse_decimal(text))
    except ValueError:
        return None


def choose_axis(points: Sequence[dict[str, str]]) -> Axis | None:
    """Return the side of a grid that charts go along: of those that are numbers, else of all, the one of most values.

    It is logarithmic where its values are more like multiples of each other than like sums.

    Source: REP-007.
    """
    sides: dict[str, list[str]] = {}
    for point in points:
        for path, value in point.items():
            found = sides.setdefault(path, [])
            if value not in found:
                found.append(value)
    axes = []
    for path, texts in sides.items():
        numbers = [number for text in texts if (number := read_number(text)) is not None]
        if len(texts) < 2:
            continue
        if len(set(numbers)) == len(texts):
            axes.append(Axis(path, dict(zip(texts, numbers, strict=True)), is_log=is_spread_by_factors(numbers)))
        else:
            axes.append(Axis(path, {text: float(at) for at, text in enumerate(texts)}, labels=tuple(texts)))
    return max(axes, key=lambda axis: (not axis.labels, len(axis.values)), default=None)


def is_spread_by_factors(numbers: Sequence[float]) -> bool:
    """Return whether neighbours differ more evenly by a factor than by a difference."""
    ordered = sorted(numbers)
    if len(ordered) < 3 or ordered[0] <= 0:
        return False
    return _unevenness([log10(number) for number in ordered]) < _unevenness(ordered) * 0.999


def _unevenness(ordered: Sequence[float]) -> float:
    """Return the standard deviation of the steps between neighbours as a part of their mean."""
    steps = [after - before for before, after in pairwise(ordered)]
    mean = sum(steps) / len(steps)
    return sqrt(sum((step - mean) ** 2 for step in steps) / len(steps)) / mean


def draw_curves(axis: Axis, points: Sequence[Point], scale: float) -> tuple[list[Picture], int]:
    """Return a line per combination of the other sides' values, and how many lines there would be.

    Parameters
    ----------
    scale : float
        What values are multiplied by: 100 for shares in per cent, the unit for money.

    Source: REP-007.
    """
    lines: dict[str, list[Point]] = {}
    for one in points:
        if one.value is not None:
            rest = {path: value for path, value in one.point.items() if path != axis.path}
            lines.setdefault(name_point(rest), []).append(one)
    found = []
    for at, (name, line) in enumerate(list(lines.items())[:LINES_MAX]):
        ordered = sorted(line, key=lambda one: axis.values[one.point[axis.path]])
        numbers = [(one.value or 0.0, _known(one.low, one.value), _known(one.high, one.value)) for one in ordered]
        y, low, high = ([_round(number[at] * scale) for number in numbers] for at in range(3))
        found.append(
            {
                "name": name or "value",
                "colour": COLOURS[at],
                "dash": list(DASHES[at]),
                "style": "whiskers" if axis.labels else "curve",
                "width": 2,
                "x": [axis.values[one.point[axis.path]] for one in ordered],
                "y": y,
                "low": low,
                "high": high,
            }
        )
    return found, len(lines)


def draw_level(name: str, colour: str, span: tuple[float, float], y: float) -> Picture:
    """Return a level as a dashed line from end to end."""
    return {"name": name, "colour": colour, "dash": [6, 4], "style": "level", "x": list(span), "y": [y, y]}


def _known(end: float | None, value: float | None) -> float:
    return (value if end is None else end) or 0.0


def _round(number: float) -> float:
    """Return nine digits of a number, which is more than a screen shows."""
    return float(f"{number:.9g}")
