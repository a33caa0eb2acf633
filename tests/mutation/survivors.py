"""The faults that make no difference, and why: `survivors.toml`.

An entry names a function and one or more changes as the tool writes them, never a line: it holds until the function
says something else there.
"""

import tomllib
from pathlib import Path
from typing import NamedTuple

FILE = Path(__file__).with_name("survivors.toml")


class Survivors(NamedTuple):
    """Reasons by function and change."""

    reasons: dict[tuple[str, str], str]

    @classmethod
    def read(cls, file: Path = FILE) -> "Survivors":
        """Return what the file says.

        Raises
        ------
        ValueError
            If an entry lacks something or a change is in it twice.
        """
        reasons: dict[tuple[str, str], str] = {}
        for entry in tomllib.loads(file.read_text(encoding="utf-8")).get("survivor", []):
            if set(entry) != {"where", "changes", "reason"} or not entry["reason"].strip():
                raise ValueError(f"{file.name}: expected where, changes and reason, got {entry}")
            for change in entry["changes"]:
                if (entry["where"], change) in reasons:
                    raise ValueError(f"{file.name}: {entry['where']}: {change} is there twice")
                reasons[entry["where"], change] = entry["reason"].strip()
        return cls(reasons)
