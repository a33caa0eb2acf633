"""What the players of other projects' scenarios share: exact numbers, markets by field, rejected commands.

Their numbers are integers or text; text may be a fraction.  They are compared exactly (CHECK-005).
"""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any

import msgspec

from engine.check.places import Form, describe
from engine.check.play import Options, Play
from engine.check.rig import Rig, find_rejection
from engine.codes import COMMAND_NAMES, REJECTS
from engine.commands import Command
from engine.contract import Market
from engine.errors import ConfigError


def read_exact(form: Form, name: str, default: Any = None) -> Fraction:
    """Return a field as an exact number, refusing what is none."""
    value = form.take(name) if default is None else form.take(name, default)
    return to_exact(form, name, value)


def to_exact(form: Form, name: str, value: object) -> Fraction:
    """Return a value of a field as an exact number."""
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        form.refuse(name, f"expected a number, got {describe(value)}")
    try:
        return Fraction(str(value))
    except (ValueError, ZeroDivisionError):
        form.refuse(name, f"expected a number, got {value!r}")


def count_decimals(numbers: Iterable[Fraction]) -> int:
    """Return how many decimals these numbers need, at most 12."""
    return next((digits for digits in range(12) if all((n * 10**digits).denominator == 1 for n in numbers)), 12)


def show_exact(number: Fraction) -> str:
    """Return an exact number as a decimal where it is one, else as a fraction."""
    digits = count_decimals([number])
    if (number * 10**digits).denominator != 1:
        return str(number)
    return f"{Decimal(int(number * 10**digits)).scaleb(-digits):f}"


class PeerPlay(Play):
    """A scenario of another project on an exchange of ours.

    Source: CHECK-005.
    """

    rig: Rig

    def make_rig(self, fields: Mapping[str, Any], options: Options) -> None:
        """Make the exchange from a market's fields."""
        where = f"{options.file}:{self.form.fields.lines.get('market', self.form.line)}"
        try:
            market = msgspec.convert(dict(fields), Market, strict=False)
        except msgspec.ValidationError as error:
            raise ConfigError(f"{where}: {error}") from error
        self.rig = Rig([market], options.engine, where)

    def send(self, what: str, command: Command) -> list[Any]:
        """Send a command, at the present time, that has to be accepted; return its events."""
        events = self.rig.send(msgspec.structs.replace(command, ts_ns=self.rig.now_ns))
        rejection = find_rejection(events)
        if rejection:
            name, wrong, _ = REJECTS[rejection.code]
            self.differ(what, f"{COMMAND_NAMES[rejection.rank]} to be accepted", f"{name}: {wrong}")
        return events

    def compare_exact(self, what: str, expected: Fraction, got: Fraction, line: int) -> None:
        """End the scenario unless both numbers are equal."""
        if expected != got:
            self.differ(what, show_exact(expected), show_exact(got), line)
