"""Grids as a command line writes them: `fund=1e6:64e6:log7`, `adl.score=bitmex,binance` (STRESS-010)."""

import re
from collections.abc import Sequence
from decimal import Context, Decimal
from itertools import product
from typing import NamedTuple

from engine.errors import ConfigError
from engine.units import parse_decimal

SPAN = re.compile(r"([^:,]+):([^:,]+):(log|lin)(\d+)")
DIGITS = Context(prec=9)  # of a number between the ends
POINTS_MOST, CELLS_MOST = 1_000, 10_000


class Line(NamedTuple):
    """One side of a grid: a dotted path and its values, as text."""

    path: str
    values: tuple[str, ...]


def parse_line(text: str) -> Line:
    """Return one side of a grid.

    Parameters
    ----------
    text : str
        `PATH=A,B,C`, or `PATH=FROM:TO:linN` or `logN` for N numbers, both ends included, evenly spaced or each the
        same multiple of the one before, rounded to nine digits.

    Raises
    ------
    ConfigError
        Naming the text and what was expected.

    Source: STRESS-010.
    """
    path, separator, values = (part.strip() for part in text.partition("="))
    if not separator or not path or not values:
        raise ConfigError(f"--grid {text}: expected PATH=VALUE,VALUE... or PATH=FROM:TO:logN")
    span = SPAN.fullmatch(values)
    found = _spread(span, text) if span else [value.strip() for value in values.split(",")]
    if not span and ":" in values:
        raise ConfigError(f"--grid {text}: expected FROM:TO:linN or FROM:TO:logN, got {values}")
    if "" in found:
        raise ConfigError(f"--grid {text}: expected a value between the commas")
    if len(set(found)) < len(found):
        raise ConfigError(f"--grid {text}: expected every value once")
    return Line(path, tuple(found))


def _spread(span: re.Match[str], text: str) -> list[str]:
    count = int(span[4])
    try:
        first, last = parse_decimal(span[1].strip()), parse_decimal(span[2].strip())
        if not 2 <= count <= POINTS_MOST:
            raise ValueError(f"expected 2 to {POINTS_MOST} values, got {count}")
        if first == last:
            raise ValueError(f"expected two different ends, got {first} twice")
        if span[3] == "log" and not (first > 0 and last > 0):
            raise ValueError("expected both ends above 0 where values multiply")
    except ValueError as error:
        raise ConfigError(f"--grid {text}: {error}") from error
    numbers = [first]
    for step in range(1, count - 1):
        part = Decimal(step) / (count - 1)
        between = first * (last / first) ** part if span[3] == "log" else first + (last - first) * part
        numbers.append(DIGITS.plus(between))
    return [_write(number) for number in (*numbers, last)]


def _write(number: Decimal) -> str:
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def list_points(lines: Sequence[Line]) -> list[dict[str, str]]:
    """Return every combination, the last line's values changing fastest.

    Raises
    ------
    ConfigError
        If a path is there twice, or the combinations are too many.
    """
    paths = [line.path for line in lines]
    if len(set(paths)) < len(paths):
        raise ConfigError(f"--grid: expected every path once, got {', '.join(paths)}")
    total = 1
    for line in lines:
        total *= len(line.values)
    if total > CELLS_MOST:
        raise ConfigError(f"--grid: expected at most {CELLS_MOST} combinations, got {total}")
    return [dict(zip(paths, values, strict=True)) for values in product(*(line.values for line in lines))]


def name_point(point: dict[str, str]) -> str:
    """Return a combination as text."""
    return " ".join(f"{path}={value}" for path, value in point.items())
