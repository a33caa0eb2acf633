"""What several verbs accept: numbers with limits, the demo's files."""

import argparse
import sys
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, NoReturn

from engine.errors import DataError, list_known, suggest

USAGE = 2

PACKAGE = Path(__file__).parents[1]
DEMO_PLACES = (
    PACKAGE / "_demo",  # in a wheel
    PACKAGE.parent / "replay_data" / "synthetic_btc",  # in a source checkout
)


class Parser(argparse.ArgumentParser):
    """argparse, whose errors are one line that ends with what to do; parsers of verbs are of the same kind.

    Source: CLI-002, CLI-033.
    """

    _given: Sequence[str] = ()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse; what a verb does not know is refused by itself, which knows its own options."""
        self._given = list(sys.argv[1:] if args is None else args)
        found, left = super().parse_known_args(args, namespace)
        if left:
            self.error(f"unrecognized arguments: {' '.join(left)}")
        return found, left

    def error(self, message: str) -> NoReturn:
        """End with status 2; an option nobody knows goes before whatever is missing for it."""
        options = self._option_string_actions
        for word in self._given:
            name = word.partition("=")[0]
            if word == "--" or (self._subparsers is not None and not word.startswith("-")):
                break  # what follows is the verb's
            if word.startswith("--") and not any(option.startswith(name) for option in options):
                message = f"unknown option {name}{suggest(name, options)}"
                break
        self.exit(USAGE, f"{self.prog}: error: {message}; {self.prog} --help lists what there is\n")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            known = list_known(str(value), map(str, action.choices))
            raise argparse.ArgumentError(action, f"unknown '{value}', {known}")


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
