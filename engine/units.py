"""Between decimal text and the integers the engine counts in; the only place where the two meet (NUM-001).

A leaf.  Every conversion is exact or refused: nothing is rounded silently, no float takes part.
"""

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from engine.codes import PPM

# Digits before and after the point: no amount of anything has more, and every sum with these stays cheap.
DIGITS_MAX = 100


def parse_decimal(text: str | int | Decimal) -> Decimal:
    """Return `text` as a finite Decimal.

    Raises
    ------
    ValueError
        If it is not a finite decimal number, or has more than DIGITS_MAX digits before or after the point.

    Source: FEED-070.
    """
    try:
        number = Decimal(text)
    except InvalidOperation as error:
        raise ValueError(f"expected a decimal number, got {text!r}") from error
    if not number.is_finite():
        raise ValueError(f"expected a finite number, got {text!r}")
    if _is_extreme(number):
        raise ValueError(f"expected at most {DIGITS_MAX} digits before and after the point, got {text!r}")
    return number


def parse_unit(text: str) -> Decimal:
    """Return the unit of an asset as a summary tells it; ValueError where no amount could be written in it."""
    unit = parse_decimal(text)
    if not Decimal("1e-18") <= unit <= 1:
        raise ValueError(f"expected a unit of money of at most 1 and at least 1e-18, got {text!r:.50}")
    return unit


def _is_extreme(number: Decimal) -> bool:
    exponent = number.as_tuple().exponent
    return isinstance(exponent, int) and (exponent < -DIGITS_MAX or number.adjusted() >= DIGITS_MAX)


def check_tree(tree: Any) -> None:
    """Refuse numbers of more than DIGITS_MAX digits in what was parsed of a file, before anybody computes with them.

    Raises
    ------
    ValueError
        Naming the path of the first.

    Source: FEED-070.
    """
    waiting = [("", tree)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, Mapping):
            waiting += [(f"{path}.{name}" if path else str(name), item) for name, item in value.items()]
        elif isinstance(value, list | tuple):
            waiting += [(f"{path}[{at}]", item) for at, item in enumerate(value)]
        elif isinstance(value, Decimal) and not value.is_finite():
            raise ValueError(f"{path}: expected a finite number, got {value}")
        elif isinstance(value, str | int | Decimal) and not isinstance(value, bool):
            try:
                is_extreme = _is_extreme(Decimal(value))
            except InvalidOperation:
                continue  # a text
            if is_extreme:
                raise ValueError(f"{path}: expected a number of at most {DIGITS_MAX} digits before and after the point")


def count_units(number: Decimal, unit: Decimal, what: str) -> int:
    """Return how many `unit` make `number`, exactly.

    Raises
    ------
    ValueError
        If `number` is not a whole multiple of `unit`.
    """
    units = number / unit
    whole = int(units)
    if whole * unit != number:
        raise ValueError(f"{what} {number} is not a multiple of {unit}")
    return whole


def rate_to_ppm(rate: Decimal, what: str) -> int:
    """Return a rate such as 0.0004 in parts per million.

    Raises
    ------
    ValueError
        If the rate has more than six decimals.
    """
    return count_units(rate, Decimal(1) / PPM, what)


def leverage_to_rate(leverage: int | str | Decimal) -> Decimal:
    """Return the initial rate of a highest leverage: 1 / leverage, rounded up to a whole part per million.

    Raises
    ------
    ValueError
        If the leverage is not a number above 0.
    """
    number = parse_decimal(leverage)
    if number <= 0:
        raise ValueError(f"expected a leverage above 0, got {leverage}")
    return (1 / number).quantize(Decimal(1) / PPM, rounding="ROUND_CEILING")


def format_units(count: int, unit: Decimal) -> str:
    """Return `count` times `unit` as plain decimal text, with the decimals of the unit."""
    return format((Decimal(count) * unit).quantize(unit), "f")


def format_plain(count: int, unit: Decimal) -> str:
    """Return `count` times `unit` as plain decimal text without zeroes that say nothing: 28145.1, 0.00002754, 2000."""
    text = format(Decimal(count) * unit, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
