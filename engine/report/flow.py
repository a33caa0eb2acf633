"""The ledger of bad debt as a flow picture: from whom it came, who was to pay, who paid; an SVG of our own."""

from collections.abc import Callable, Sequence
from html import escape
from typing import NamedTuple

WIDTH, ROW, GAP, BAR = 860, 230, 11, 12
LEFT, MIDDLE, RIGHT = 200, 424, 648  # of the three columns of bars
LEAST = 1.5  # a flow is never drawn thinner
NAME_MAX = 20  # signs of a name; the whole of it is shown on hover


class Flow(NamedTuple):
    """Money from one name to another; `kind` is what colours it: fund, adl, cut or unpaid."""

    source: str
    target: str
    kind: str
    amount: int


class _Node(NamedTuple):
    name: str
    x: float
    y: float
    height: float
    amount: int


def keep_largest(amounts: dict[str, int], most: int, rest: str) -> dict[str, int]:
    """Return the largest by amount, and all others together under a name with their number in place of `{}`."""
    ordered = sorted((item for item in amounts.items() if item[1] > 0), key=lambda item: -item[1])
    if len(ordered) <= most + 1:
        return dict(ordered)
    others = ordered[most:]
    return {**dict(ordered[:most]), rest.format(f"{len(others):,}"): sum(amount for _, amount in others)}


def _place(names: Sequence[str], amounts: dict[str, int], x: float, scale: float) -> dict[str, _Node]:
    """Stack a column's bars, with room between them."""
    found, y = {}, 20.0
    for name in names:
        height = max(amounts[name] * scale, LEAST)
        found[name] = _Node(name, x, y, height, amounts[name])
        y += height + GAP
    return found


def _ribbon(x0: float, y0: float, x1: float, y1: float, thick: float, kind: str, title: str) -> str:
    middle = (x0 + x1) / 2
    path = (
        f"M{x0:.1f} {y0:.1f}C{middle:.1f} {y0:.1f} {middle:.1f} {y1:.1f} {x1:.1f} {y1:.1f}"
        f"v{thick:.2f}C{middle:.1f} {y1 + thick:.1f} {middle:.1f} {y0 + thick:.1f} {x0:.1f} {y0 + thick:.1f}Z"
    )
    return f'<path class="flow flow-{kind}" d="{path}"><title>{escape(title)}</title></path>'


def add_flows(flows: Sequence[Flow], *, by_target: bool) -> dict[str, int]:
    """Return what flows into each target, or out of each source, in the order they come."""
    found: dict[str, int] = {}
    for flow in flows:
        name = flow.target if by_target else flow.source
        found[name] = found.get(name, 0) + flow.amount
    return found


def draw_flow(first: Sequence[Flow], second: Sequence[Flow], money: Callable[[int], str], label: str) -> str:
    """Return the picture: origins to payers (`first`), payers to those behind them (`second`); heights are money.

    Parameters
    ----------
    money : callable
        Writes an amount for people.
    label : str
        What a screen reader says of the whole.

    Source: REP-005.
    """
    sources = add_flows(first, by_target=False)
    payers, ends = (add_flows(flows, by_target=True) for flows in (first, second))
    total = max(sum(sources.values()), 1)
    scale = ROW / total
    columns = [
        _place(list(sources), sources, LEFT, scale),
        _place(list(payers), payers, MIDDLE, scale),
        _place(list(ends), ends, RIGHT, scale),
    ]
    parts = []
    for flows, left, right in ((first, columns[0], columns[1]), (second, columns[1], columns[2])):
        used: dict[tuple[int, str], float] = {}
        for flow in flows:
            source, target = left[flow.source], right[flow.target]
            thick = max(flow.amount * scale, LEAST / 2)
            y0, y1 = source.y + used.get((0, flow.source), 0), target.y + used.get((1, flow.target), 0)
            used[0, flow.source] = used.get((0, flow.source), 0) + thick
            used[1, flow.target] = used.get((1, flow.target), 0) + thick
            title = f"{flow.source} → {flow.target}: {money(flow.amount)}"
            parts.append(_ribbon(source.x + BAR, y0, target.x, y1, thick, flow.kind, title))
    for place, nodes in enumerate(columns):
        parts += [_bar(node, money, is_left=place == 0) for node in nodes.values()]
    bottom = max(node.y + node.height for nodes in columns for node in nodes.values()) if sources else 0
    width = WIDTH if ends else RIGHT
    heads = ((LEFT + BAR, "end", "whose deficit"), (MIDDLE, "start", "paid by"), (RIGHT, "start", "whose money"))
    shown = heads if ends else heads[:2]
    parts += [f'<text class="flow-head" x="{x}" y="10" text-anchor="{way}">{text}</text>' for x, way, text in shown]
    return (
        f'<svg class="flows" viewBox="0 0 {width} {bottom + 16:.0f}" role="img" aria-label="{escape(label)}">'
        f"{''.join(parts)}</svg>"
    )


def _bar(node: _Node, money: Callable[[int], str], *, is_left: bool) -> str:
    x, way = (node.x - 6, "end") if is_left else (node.x + BAR + 6, "start")
    y = node.y + node.height / 2 + 4
    name = node.name if len(node.name) <= NAME_MAX else node.name[: NAME_MAX - 1] + "…"
    return (
        f'<rect class="flow-bar" x="{node.x}" y="{node.y:.1f}" width="{BAR}" height="{node.height:.1f}"/>'
        f'<text x="{x}" y="{y:.1f}" text-anchor="{way}"><title>{escape(node.name)}</title>'
        f"{escape(name)} "
        f'<tspan class="flow-money">{escape(money(node.amount))}</tspan></text>'
    )
