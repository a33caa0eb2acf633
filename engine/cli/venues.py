"""`perp venues`: the presets side by side, or one with its sources."""

import argparse
import json
import shutil
from typing import Any

from engine.venues import list_venues, read_venue
from engine.venues.table import format_venue, format_venues


def add_venues(verbs: Any) -> None:
    """Add the verb's arguments."""
    venues = verbs.add_parser("venues", help="the rules of twelve venues as presets, with their sources")
    venues.add_argument(
        "name", nargs="*", metavar="NAME", help="one: its settings with sources; several: beside each other"
    )
    venues.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    venues.set_defaults(verb=run_venues)


def run_venues(options: argparse.Namespace) -> int:
    """Show presets; a market file takes one with `venue = "NAME"`.

    Source: CLI-002, VENUE-001.
    """
    venues = [read_venue(name) for name in options.name or list_venues()]
    if options.json:
        shown = {
            venue.name: {
                "title": venue.title,
                "about": venue.about,
                "settings": {line.path: line._asdict() for line in venue.settings},
            }
            for venue in venues
        }
        print(json.dumps(shown, indent=2, ensure_ascii=False))
    elif len(options.name) == 1:
        print(format_venue(venues[0]))
    else:
        print(format_venues(venues, shutil.get_terminal_size((120, 24)).columns))
        print("\n? could not be verified; . left at our default.  perp venues NAME: sources")
    return 0
