"""Allocations of one's own: a Python function says how many lots each winner gives up, and is held to its word."""

from collections.abc import Callable, Mapping
from operator import index
from pathlib import Path
from types import ModuleType
from typing import Any

from engine.errors import ConfigError
from engine.reference.allotment import Holder

Function = Callable[[int, list[Holder]], Mapping[int, int]]

FORM = "FILE.py:FUNCTION"


class OwnRule:
    """A function in the place of an allocation of `[adl]`, each answer of which is checked.

    Parameters
    ----------
    function : callable
        (lots, holders) -> {account: lots}.  The holders are the candidates in the order of the queue, each with what it
        holds (`qty`), can bear to lose (`cap`), has gained (`gain`) and is worth (`equity`): lots and money units.
    name : str, optional
        What it is called in tables; default: the function's name.

    Source: OWN-001.
    """

    def __init__(self, function: Function, name: str = "") -> None:
        self.function = function
        self.name = name or getattr(function, "__name__", "own")

    def __call__(self, lots: int, holders: list[Holder]) -> dict[int, int]:
        """Return the function's answer, proven to be an allocation.

        Raises
        ------
        ConfigError
            If the function fails, names an account that is no candidate, gives no whole number of lots, more than an
            account can bear, or all together not as many as there are to close and can be borne.

        Source: OWN-001.
        """
        caps = {holder.account: holder.cap for holder in holders}
        total = min(lots, sum(caps.values()))
        if not total:
            return {}
        try:
            answer = self.function(lots, list(holders))
        except Exception as error:  # whatever somebody else's function does
            raise ConfigError(f"rule {self.name}: {type(error).__name__}: {error}") from error
        if not isinstance(answer, Mapping):
            raise ConfigError(f"rule {self.name}: expected a mapping of account to lots, got {type(answer).__name__}")
        parts = {account: self._count(account, part, caps) for account, part in answer.items()}
        if sum(parts.values()) != total:
            raise ConfigError(f"rule {self.name}: expected {total} lots all together, got {sum(parts.values())}")
        return parts

    def _count(self, account: Any, part: Any, caps: Mapping[int, int]) -> int:
        if account not in caps:
            raise ConfigError(f"rule {self.name}: account {account!r} is not among the candidates")
        try:
            lots = index(part)
        except TypeError:
            raise ConfigError(f"rule {self.name}: account {account}: expected whole lots, got {part!r}") from None
        if not 0 <= lots <= caps[account]:
            raise ConfigError(f"rule {self.name}: account {account}: expected 0 to {caps[account]} lots, got {lots}")
        return lots


def is_rule(text: str) -> bool:
    """Return whether a text has the form FILE.py:FUNCTION."""
    file, colon, name = text.rpartition(":")
    return bool(colon) and file.endswith(".py") and name.isidentifier()


def load_rule(text: str) -> OwnRule:
    """Return the rule of a Python file; the file is run, nothing is written beside it.

    Parameters
    ----------
    text : str
        FILE.py:FUNCTION.

    Raises
    ------
    ConfigError
        If there is no such file or function in it, or the file cannot be run.

    Source: OWN-001.
    """
    if not is_rule(text):
        raise ConfigError(f"rule {text}: expected {FORM}")
    file, _, name = text.rpartition(":")
    module = ModuleType(Path(file).stem)
    try:
        source = Path(file).read_text(encoding="utf-8")
        exec(compile(source, file, "exec"), module.__dict__)
    except OSError as error:
        raise ConfigError(f"rule {text}: {file} cannot be read: {error.strerror}") from error
    except Exception as error:  # whatever somebody else's file does
        raise ConfigError(f"rule {text}: {file} cannot be run: {type(error).__name__}: {error}") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise ConfigError(f"rule {text}: {file} has no function {name}")
    return OwnRule(function, name)
