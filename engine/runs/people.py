"""Accounts as people ask for them: by name, or by number."""

import re

from engine.errors import ConfigError, suggest
from engine.runs.logs import PEOPLE
from engine.runs.read import RunRecord

NUMBER = re.compile(r"-?[0-9]{1,18}")


def find_accounts(run: RunRecord, who: str) -> list[int]:
    """Return the accounts of a name, else the one of that number, there or not.

    A name comes before a number: where somebody is called `7`, number 7 is `07`.  Two files of positions may call two
    accounts alike.

    Raises
    ------
    ConfigError
        If it is no number, and nobody is called so.
    DataError
        If the names cannot be read.

    Source: LOG-004, CLI-033.
    """
    found = [number for number, name in (PEOPLE | run.names).items() if name == who]
    if not found and not NUMBER.fullmatch(who):
        raise ConfigError(f"--account: unknown '{who}', {_say_known(run, who)}")
    return found or [int(who)]


def find_account(run: RunRecord, who: str) -> int:
    """Return the one account of a name, or of a number.

    Raises
    ------
    ConfigError, DataError
        As of `find_accounts`; if several are called so.

    Source: EXPL-001.
    """
    found = find_accounts(run, who)
    if len(found) > 1:
        raise ConfigError(f"--account: several are called '{who}', expected a number: {', '.join(map(str, found))}")
    return found[0]


def _say_known(run: RunRecord, who: str) -> str:
    """Return whom the run knows, and the name that is nearest."""
    told = run.summary.get("parameters", {})
    has_files = any(isinstance(crowd, str) for crowd in (told.get("population"), *told.get("populations", ())))
    near = suggest(who, run.names.values())
    if run.keeps_names:
        return f"expected one of the run's {len(run.names):,} names, or a number{near}"
    if has_files:
        return f"this run directory is older and kept few of its names: run it again, or give the number{near}"
    return "the run names nobody: expected a number"
