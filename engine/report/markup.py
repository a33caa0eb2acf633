"""Pieces of the page as HTML; every text that goes in is escaped here and nowhere else."""

import json
from collections.abc import Sequence
from html import escape
from typing import Any

from engine.report.shape import Picture


def write_table(
    caption: str,
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    texts: Sequence[int] = (),
    marked: Sequence[int] = (),
    sortable: bool = False,
) -> str:
    """Return a table that scrolls on its own where it is wider than the page; cells are texts, escaped.

    Parameters
    ----------
    texts : sequence of int
        Columns that are aligned to the left, beside the first.
    marked : sequence of int
        Rows that are tinted as victims.
    sortable : bool
        Whether the page's script makes buttons of the heads; without it the table is as it stands.
    """

    def kind(at: int) -> str:
        return ' class="text"' if at in texts else ""

    kinds = ' class="sortable"' if sortable else ""
    head = "".join(f'<th scope="col"{kind(at)}>{escape(text)}</th>' for at, text in enumerate(heads))
    body = []
    for place, (first, *rest) in enumerate(rows):
        cells = "".join(f"<td{kind(at)}>{escape(text)}</td>" for at, text in enumerate(rest, 1))
        tint = ' class="victim"' if place in marked else ""
        body.append(f'<tr{tint}><th scope="row">{escape(first)}</th>{cells}</tr>')
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{escape(caption)}"><table{kinds}>'
        f"<caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def fold(summary: str, inner: str) -> str:
    """Return markup that opens on demand."""
    return f"<details><summary>{escape(summary)}</summary>{inner}</details>"


def write_paragraph(text: str, kind: str = "note") -> str:
    """Return a paragraph of plain text."""
    return f'<p class="{kind}">{escape(text)}</p>'


def list_tiles(tiles: Sequence[tuple[str, str, str]]) -> str:
    """Return label, number and small print of each tile."""
    parts = (
        f"<div><dt>{escape(label)}</dt><dd>{escape(text)}{f'<small>{escape(more)}</small>' if more else ''}</dd></div>"
        for label, text, more in tiles
    )
    return f'<dl class="tiles">{"".join(parts)}</dl>'


def embed_json(value: Any) -> str:
    """Return JSON that can stand inside a script element whatever texts it holds."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


class Canvas:
    """Collects the pictures of a page and writes the figures they are drawn into."""

    def __init__(self) -> None:
        self.pictures: list[Picture] = []

    def draw(self, title: str, note: str, label: str, picture: Picture, table: str) -> str:
        """Return a figure: the picture, its keys, what it says at the cursor, and its numbers as a table.

        Parameters
        ----------
        label : str
            What a screen reader says of the picture.
        """
        number = len(self.pictures)
        self.pictures.append(picture)
        label += ". Arrow keys read values, plus and minus zoom, Escape shows all."
        return (
            f"<figure><figcaption>{escape(title)}<span>{escape(note)}</span></figcaption>"
            f'<div class="plot" data-picture="{number}" tabindex="0" role="group" aria-roledescription="chart" '
            f'aria-label="{escape(label)}"></div>'
            f'<div class="keys"></div><output aria-live="off"></output>{table}</figure>'
        )
