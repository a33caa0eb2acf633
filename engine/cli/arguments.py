"""What several verbs accept: numbers with limits, the demo's files."""

import argparse
from decimal import Decimal, InvalidOperation
from pathlib import Path

from engine.errors import DataError

PACKAGE = Path(__file__).parents[1]
DEMO_PLACES = (
    PACKAGE / "_demo",  # in a wheel
    PACKAGE.parent / "replay_data" / "synthetic_btc",  # in a source checkout
)


def positive(text: str) -> int:
    """Return a whole number of at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, got {text}")
    return number


def percent(text: str) -> int:
    """Return a whole number from 1 to 99."""
    number = int(text)
    if not 1 <= number <= 99:
        raise argparse.ArgumentTypeError(f"expected 1 to 99 (at 100 the queue only grows), got {text}")
    return number


def find_demo() -> Path:
    """Return the folder of the demo's tape; DataError where it is missing."""
    for place in DEMO_PLACES:
        if (place / "market.toml").is_file():
            return place
    raise DataError(DEMO_PLACES[0], None, None, "expected the demo's files here: reinstall perp-engine")


def seconds(text: str) -> int:
    """Return seconds of 0 or more, up to a day, in ns."""
    try:
        number = Decimal(text) * 10**9
    except InvalidOperation as error:
        raise argparse.ArgumentTypeError(f"expected seconds, got {text}") from error
    if not (number.is_finite() and 0 <= number <= 86_400 * 10**9 and number == int(number)):
        raise argparse.ArgumentTypeError(f"expected 0 to 86400 seconds, to the nanosecond, got {text}")
    return int(number)
