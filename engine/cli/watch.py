"""`--watch`: what the verbs that run something understand of it."""

import argparse
from contextlib import AbstractContextManager, nullcontext
from fractions import Fraction
from typing import TYPE_CHECKING

from engine.errors import ConfigError

if TYPE_CHECKING:
    from engine.watch import Watch

SPEED_MOST = 1_000_000


def speed(text: str) -> Fraction:
    """Return seconds of the tape per second, as in `10`, `0.5` or `10x`; 0 for `max`."""
    if text == "max":
        return Fraction(0)
    try:
        number = Fraction(text.removesuffix("x"))
    except (ValueError, ZeroDivisionError) as error:
        raise argparse.ArgumentTypeError(f"expected a number like 10 or 0.5, or max, got {text}") from error
    if not 0 < number <= SPEED_MOST:
        raise argparse.ArgumentTypeError(f"expected above 0 and at most {SPEED_MOST}, or max, got {text}")
    return number


def add_watch(parser: argparse.ArgumentParser, default: str = "max") -> None:
    """Add `--watch` and what goes with it.

    Parameters
    ----------
    default : str
        The speed where none is given.
    """
    parser.add_argument("--watch", action="store_true", help="see book, fund, liquidations and ADL queue while it runs")
    parser.add_argument(
        "--speed",
        type=speed,
        metavar="X",
        help=f"with --watch: seconds of the tape per second, or max (default {default})",
    )
    parser.add_argument("--watch-market", metavar="SYMBOL", help="with --watch: whose book (default the first)")
    parser.set_defaults(speed_default=default)


def open_watch(options: argparse.Namespace, title: str) -> "AbstractContextManager[Watch | None]":
    """Return the watch that was asked for, on stderr: stdout is the same with one and without.

    Source: WATCH-003, WATCH-004.
    """
    if not options.watch:
        for name in ("speed", "watch_market"):
            if getattr(options, name) is not None:
                raise ConfigError(f"--{name.replace('_', '-')}: expected --watch beside it, there is nothing to watch")
        return nullcontext()
    import sys

    from engine.watch import Watch, open_console

    pace = options.speed if options.speed is not None else speed(options.speed_default)
    return Watch(open_console(sys.stderr), title, speed=pace or None, symbol=options.watch_market)
