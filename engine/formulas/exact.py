"""Exact numbers in, exact numbers out: what every formula here is built of.

A number is an int, a Decimal, a Fraction or text ("0.004", "14/3"); a float is refused, because 0.1 is not one tenth.
Every result is a Fraction: `as_decimal` shows it, `round_to_step` puts it on a venue's grid.
"""

from collections.abc import Iterable
from decimal import Decimal
from fractions import Fraction

Number = int | Decimal | Fraction | str
Side = int | str

_SIDES = {"long": 1, "buy": 1, "short": -1, "sell": -1}


def exact(number: Number) -> Fraction:
    """Return `number` as a Fraction, without rounding.

    Raises
    ------
    TypeError
        For a float, which has already lost what it was meant to say.
    ValueError
        For text that is no number, an infinity or a NaN.

    Source: FORM-001.
    """
    if type(number) is Fraction:
        return number
    if isinstance(number, bool) or not isinstance(number, int | Decimal | Fraction | str):
        raise TypeError(f"expected int, Decimal, Fraction or text, got {type(number).__name__} {number!r}")
    if isinstance(number, Decimal) and not number.is_finite():
        raise ValueError(f"expected a finite number, got {number}")
    try:
        return Fraction(number)
    except (ValueError, ZeroDivisionError) as error:
        raise ValueError(f"expected a number, got {number!r}") from error


def positive(number: Number, name: str) -> Fraction:
    """Return `number` as a Fraction above 0.

    Raises
    ------
    ValueError
        Naming the argument, if it is 0 or less.
    """
    value = exact(number)
    if value <= 0:
        raise ValueError(f"{name}: expected a number above 0, got {number}")
    return value


def sign_of(side: Side) -> int:
    """Return +1 for a long (1, "long", "buy") and -1 for a short (-1, "short", "sell").

    Raises
    ------
    ValueError
        For anything else.
    """
    sign = _SIDES.get(side.lower()) if isinstance(side, str) else side
    if isinstance(sign, bool) or sign not in (1, -1):
        raise ValueError(f"side: expected 1, -1, 'long', 'short', 'buy' or 'sell', got {side!r}")
    return sign


def floor_to_step(number: Number, step: Number = 1) -> Fraction:
    """Return the largest multiple of `step` that is not above `number` (-2.5 becomes -3)."""
    unit = positive(step, "step")
    return (exact(number) / unit).__floor__() * unit


def ceil_to_step(number: Number, step: Number = 1) -> Fraction:
    """Return the smallest multiple of `step` that is not below `number` (-2.5 becomes -2)."""
    return -floor_to_step(-exact(number), step)


def truncate_to_step(number: Number, step: Number = 1) -> Fraction:
    """Return `number` cut towards 0 to a multiple of `step`."""
    return floor_to_step(number, step) if exact(number) >= 0 else ceil_to_step(number, step)


def round_to_step(number: Number, step: Number = 1) -> Fraction:
    """Return the multiple of `step` nearest to `number`, a half upwards (2.5 becomes 3)."""
    return floor_to_step(exact(number) + positive(step, "step") / 2, step)


def clamp(number: Number, low: Number | None, high: Number | None) -> Fraction:
    """Return `number` held within `low` and `high`; None is no limit.

    Raises
    ------
    ValueError
        If `low` is above `high`.
    """
    value = exact(number)
    if low is not None and high is not None and exact(low) > exact(high):
        raise ValueError(f"clamp: expected low <= high, got {low} and {high}")
    if low is not None:
        value = max(value, exact(low))
    return value if high is None else min(value, exact(high))


def median(numbers: Iterable[Number]) -> Fraction:
    """Return the middle number, or the mean of the two in the middle.

    Raises
    ------
    ValueError
        If there is none.
    """
    ordered = sorted(exact(number) for number in numbers)
    if not ordered:
        raise ValueError("median: expected at least one number")
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def as_decimal(number: Number, places: int = 8) -> Decimal:
    """Return `number` as a Decimal with `places` decimals, for display; a half goes to the even digit."""
    value = exact(number)
    scaled = value * 10**places
    whole, rest = divmod(scaled.numerator, scaled.denominator)
    twice = 2 * rest - scaled.denominator
    if twice > 0 or (twice == 0 and whole % 2):
        whole += 1
    return Decimal((int(whole < 0), tuple(int(digit) for digit in str(abs(whole))), -places))
