"""The faults that make no difference, and why: `survivors.toml`.

An entry is a reason and, by function, the changes it holds for, as the tool writes them and without lines: it stands
until the function says something else there.
"""

import tomllib
from pathlib import Path

FILE = Path(__file__).with_name("survivors.toml")


def read_survivors(file: Path = FILE) -> dict[tuple[str, str], str]:
    """Return reasons by function and change.

    Raises
    ------
    ValueError
        If an entry lacks something, or a change is there twice.
    """
    reasons: dict[tuple[str, str], str] = {}
    for entry in tomllib.loads(file.read_text(encoding="utf-8")).get("survivor", []):
        if set(entry) != {"reason", "changes"} or not entry["reason"].strip():
            raise ValueError(f"{file.name}: expected reason and changes, got {entry}")
        for where, changes in entry["changes"].items():
            for change in changes:
                if (where, change) in reasons:
                    raise ValueError(f"{file.name}: {where}: {change} is there twice")
                reasons[where, change] = entry["reason"].strip()
    return reasons
