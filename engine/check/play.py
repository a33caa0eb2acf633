"""What every profile is played with: the scenario's form, the step it is at, the first difference.

Source: CHECK-001.
"""

from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from engine.check.places import Fields, Form, show


@dataclass(frozen=True)
class Difference:
    """Where a scenario first departed from what it expects; the step counts from 1, 0 is the setting up."""

    step: int
    line: int
    what: str
    expected: str
    got: str

    def __str__(self) -> str:
        """Return it as one line."""
        where = f"step {self.step}, line {self.line}" if self.step else f"line {self.line}"
        return f"{where}: {self.what}: expected {self.expected}, got {self.got}"


class Mismatch(Exception):
    """Ends a scenario at its first difference."""

    def __init__(self, difference: Difference) -> None:
        super().__init__(str(difference))
        self.difference = difference


@dataclass(frozen=True)
class Options:
    """What a run of a file is given: the file, the engine, and the markets the file names once for all."""

    file: Path
    engine: str
    markets: Fields


class Play:
    """One scenario being played; profiles derive from it.

    Parameters
    ----------
    form : Form
        The scenario.
    options : Options
        What the whole file is run with.
    """

    def __init__(self, form: Form, options: Options) -> None:
        self.form, self.options = form, options
        self.step, self.line = 0, form.line

    def run(self) -> None:
        """Play it to its end.

        Raises
        ------
        Mismatch
            At the first difference.
        DataError, ConfigError
            Where the scenario itself is wrong.
        """
        raise NotImplementedError

    def differ(self, what: str, expected: object, got: object, line: int | None = None) -> None:
        """End the scenario: this was expected, that was found."""
        raise Mismatch(Difference(self.step, line or self.line, what, str(expected), str(got)))

    def compare(self, what: str, expected: object, got: object, line: int | None = None) -> None:
        """End the scenario unless both are equal."""
        if expected != got:
            wanted, found = (show(one) if isinstance(one, Decimal) else one for one in (expected, got))
            self.differ(what, wanted, found, line)
