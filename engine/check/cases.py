"""Profile `formula`: a named function of the public formulas with exact inputs and outputs (CHECK-008)."""

import importlib
from typing import Any

from engine.check.play import Play

HOME = "engine.check.formula"  # loaded when a scenario needs it: names of formulas, how outputs are compared


class FormulaPlay(Play):
    """A table of cases of one formula; the step of a difference is the case's number.

    Source: CHECK-008.
    """

    def run(self) -> None:
        """Evaluate each case and compare every output it names."""
        home: Any = importlib.import_module(HOME)
        name = self.form.text("function")
        for number, case in enumerate(self.form.forms("cases"), 1):
            self.step, self.line = number, case.line
            given, expected = case.form("in"), case.form("out")
            try:
                got = home.evaluate(name, given.fields)
            except ValueError as error:
                case.refuse("in", str(error))
            for field, value in expected.fields.items():
                if field not in got or not home.is_close({field: got[field]}, {field: value}):
                    found = show_value(got[field]) if field in got else "nothing"
                    self.differ(f"{name}: {field}", show_value(value), found, expected.fields.lines[field])


def show_value(value: Any) -> str:
    """Return an output as text."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {show_value(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(show_value, value)) + "]"
    return str(value)
