"""The rules of twelve venues as market files, every line with its source and whether we could verify it (VENUE-001).

A preset is a template: `venue = "bybit-linear"` in a market file takes it, what else stands in the file wins.  What a
venue does not publish is a default of ours and says `verified = false`.
"""

import tomllib
from pathlib import Path
from typing import Any, NamedTuple

from engine.errors import ConfigError, list_known
from engine.units import leverage_to_rate

FOLDER = Path(__file__).parent
GROUPS = ("market", "funding", "liquidation", "adl")


class Setting(NamedTuple):
    """One line of a preset.

    `path` is as in a market file ("liquidation.limit"); `value` as TOML has it, tiers as rows of (floor, highest
    leverage, maintenance rate).
    """

    path: str
    value: Any
    source: str
    verified: bool
    note: str


class Venue(NamedTuple):
    """A preset: its name, what it is, and its settings in the order of the file."""

    name: str
    title: str
    about: str
    settings: tuple[Setting, ...]

    def fill(self) -> dict[str, Any]:
        """Return the settings as the tables of a market file."""
        tables: dict[str, Any] = {}
        for setting in self.settings:
            group, _, field = setting.path.rpartition(".")
            table = tables.setdefault(group, {}) if group else tables
            table[field] = read_tier_rows(setting.value) if setting.path == "tiers" else setting.value
        return tables


def list_venues() -> list[str]:
    """Return the names of all presets, sorted."""
    return sorted(file.stem for file in FOLDER.glob("*.toml"))


def read_venue(name: str) -> Venue:
    """Read a preset.

    Raises
    ------
    ConfigError
        If there is none of this name; the known ones are listed (VENUE-001).
    """
    known = list_venues()
    if name not in known:
        raise ConfigError(f"venue: unknown venue '{name}', {list_known(name, known)}")
    raw = tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))
    settings = [
        Setting(
            field if group == "market" else f"{group}.{field}",
            line["value"],
            line["source"],
            line["verified"],
            line.get("note", ""),
        )
        for group in GROUPS
        for field, line in raw.get(group, {}).items()
    ]
    return Venue(name, raw["title"], raw["about"], tuple(settings))


def merge_tables(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Return `under` with `over` laid on it, tables within tables field by field."""
    merged = dict(under)
    for field, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(field), dict)
        merged[field] = merge_tables(merged[field], value) if both else value
    return merged


def read_tier_rows(rows: list[tuple[str, int, str]]) -> list[dict[str, Any]]:
    """Return tiers as a market file has them, from rows of (floor, highest leverage, maintenance rate)."""
    return [
        {"floor": floor, "initial": str(leverage_to_rate(leverage)), "maintenance": rate}
        for floor, leverage, rate in rows
    ]
