"""What several verbs accept: numbers with limits."""

import argparse


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
