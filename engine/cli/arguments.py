"""What several verbs accept: numbers with limits, the demo's files."""

import argparse
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
