"""Presets as people read them: all side by side, or one with its sources (VENUE-001)."""

from collections.abc import Sequence
from typing import Any

from engine.venues import Venue

GAP = "  "


def show_value(value: Any) -> str:
    """Return a setting's value in a word."""
    if isinstance(value, list):
        return f"{len(value)} tiers"
    return str(value).lower() if isinstance(value, bool) else str(value)


def format_venues(venues: Sequence[Venue], width: int) -> str:
    """Return presets side by side, settings down, as many venues in a block as fit `width` characters.

    A value that could not be verified is followed by `?`; a setting a preset leaves at our default is a dot.
    """
    paths = list(dict.fromkeys(setting.path for venue in venues for setting in venue.settings))
    cells = {
        (venue.name, setting.path): show_value(setting.value) + ("" if setting.verified else " ?")
        for venue in venues
        for setting in venue.settings
    }
    first = max(len(path) for path in paths)
    blocks: list[list[Venue]] = [[]]
    used = first
    sizes = {
        venue.name: max(len(venue.name), *(len(cells.get((venue.name, path), "")) for path in paths))
        for venue in venues
    }
    for venue in venues:
        need = len(GAP) + sizes[venue.name]
        if blocks[-1] and used + need > width:
            blocks.append([])
            used = first
        blocks[-1].append(venue)
        used += need
    return "\n\n".join(_format_block(block, paths, cells, first, sizes) for block in blocks)


def _format_block(
    block: Sequence[Venue], paths: Sequence[str], cells: dict[tuple[str, str], str], first: int, sizes: dict[str, int]
) -> str:
    lines = [GAP.join(["".ljust(first), *(venue.name.ljust(sizes[venue.name]) for venue in block)])]
    for path in paths:
        row = [cells.get((venue.name, path), ".").ljust(sizes[venue.name]) for venue in block]
        lines.append(GAP.join([path.ljust(first), *row]))
    return "\n".join(line.rstrip() for line in lines)


def format_venue(venue: Venue) -> str:
    """Return one preset, a line per setting with its source; what is not verified says so."""
    lines = [f"{venue.name}: {venue.title}. {venue.about}", ""]
    wide = max(len(setting.path) for setting in venue.settings)
    room = max(len(show_value(setting.value)) for setting in venue.settings)
    for setting in venue.settings:
        mark = " " if setting.verified else "?"
        about = setting.source + (f"; {setting.note}" if setting.note else "")
        lines.append(f"{setting.path.ljust(wide)}  {show_value(setting.value).ljust(room)} {mark} {about}")
        if isinstance(setting.value, list):
            rows = (f"from {floor}: up to {leverage}x, maintenance {rate}" for floor, leverage, rate in setting.value)
            lines += [f"{''.ljust(wide)}    {row}" for row in rows]
    checked = sum(setting.verified for setting in venue.settings)
    return "\n".join([*lines, "", f"{checked} of {len(venue.settings)} settings verified, the others carry a ?"])
