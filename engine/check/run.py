"""A file of scenarios: reading it, playing what was chosen, the result of each (CHECK-001)."""

import importlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from engine.check.places import Fields, Form, read_json
from engine.check.play import Difference, Mismatch, Options, Play
from engine.errors import ConfigError, InvariantError

# profile -> module and class; a module is loaded when a scenario first needs it
PROFILES = {
    "perp": ("engine.check.own", "OwnPlay"),
    "quote_base": ("engine.check.quote_base", "QuoteBasePlay"),
    "vm_cash": ("engine.check.vm_cash", "CashPlay"),
    "formula": ("engine.check.cases", "FormulaPlay"),
}
DEFAULT_PROFILE = "perp"


@dataclass(frozen=True)
class Result:
    """How one scenario ended."""

    name: str
    title: str
    profile: str
    steps: int
    difference: Difference | None

    @property
    def ok(self) -> bool:
        """Whether everything was as expected."""
        return self.difference is None

    def __str__(self) -> str:
        """Return it as one line."""
        if self.difference:
            return f"FAIL  {self.name}: {self.difference}"
        return f"ok    {self.name}" + (f": {self.title}" if self.title else "")

    def to_json(self) -> dict[str, Any]:
        """Return it as an object of `--json`."""
        found = {"id": self.name, "profile": self.profile, "title": self.title, "steps": self.steps, "ok": self.ok}
        return found | ({"difference": asdict(self.difference)} if self.difference else {})


class ScenarioFile:
    """A file of scenarios, read and looked through, nothing played yet.

    Parameters
    ----------
    path : path
        A JSON file with a list `scenarios`.

    Raises
    ------
    DataError
        Naming file and line: no JSON, no scenarios, an unknown profile, an id missing or twice.

    Source: CHECK-001, CLI-002.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        form = Form(self.path, read_json(self.path), 1, "an object with a list 'scenarios'")
        self.markets = form.take("markets", Fields())
        if not isinstance(self.markets, Fields):
            form.refuse("markets", "expected an object of named markets")
        self.forms: dict[str, Form] = {}
        for scenario in form.forms("scenarios"):
            name = scenario.text("id")
            if name in self.forms:
                scenario.refuse("id", f"'{name}' is another scenario already")
            scenario.text("profile", DEFAULT_PROFILE, known=PROFILES)
            self.forms[name] = scenario
        if not self.forms:
            form.refuse("scenarios", "expected at least one scenario")

    def needs_engine(self, names: Sequence[str]) -> bool:
        """Return whether any of these scenarios is played on an exchange."""
        return any(self.forms[name].fields.get("profile", DEFAULT_PROFILE) != "formula" for name in names)

    def play(self, names: Sequence[str], engine: str = "compiled") -> Iterator[Result]:
        """Play scenarios by id, in this order.

        Parameters
        ----------
        engine : {"compiled", "reference", "both"}
            With both, events and digests are compared after every command.

        Raises
        ------
        DataError, ConfigError
            Where a scenario is wrong in itself; what it expects and does not find is a result, not an error.
        InvariantError
            If an engine breaks an invariant, or the two differ.
        """
        for name in names:
            yield self._play(name, engine)

    def _play(self, name: str, engine: str) -> Result:
        form = self.forms[name]
        profile = form.text("profile", DEFAULT_PROFILE)
        module, kind = PROFILES[profile]
        made: type[Play] = getattr(importlib.import_module(module), kind)
        difference = None
        where = f"{self.path}:{form.line}: scenario '{name}'"
        play: Play | None = None
        try:
            play = made(form, Options(self.path, engine, self.markets))
            play.run()
        except Mismatch as mismatch:
            difference = mismatch.difference
        except InvariantError as error:
            at = f", step {play.step}, line {play.line}" if play else ""
            raise InvariantError(f"{where}{at}: {error}") from error
        except ConfigError as error:
            raise ConfigError(str(error) if str(self.path) in str(error) else f"{where}: {error}") from error
        steps = form.fields.get("steps", form.fields.get("cases", ()))
        return Result(name, str(form.fields.get("title") or ""), profile, len(steps), difference)


def summarise(path: Path, engine: str, results: Sequence[Result], skipped: int) -> dict[str, Any]:
    """Return the object `--json` prints.

    Source: CHECK-001.
    """
    passed = sum(result.ok for result in results)
    return {
        "schema": 1,
        "file": str(path),
        "engine": engine,
        "passed": passed,
        "failed": len(results) - passed,
        "skipped": skipped,
        "scenarios": [result.to_json() for result in results],
    }
