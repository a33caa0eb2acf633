"""Triggers are not only safe, they are close: nobody is looked at long before a mark can matter (MARGIN-010).

That no trigger lies behind the truth is checked in `test_mirror_triggers`. A trigger that comes too early changes no
event, since who is found well is hung again; it costs a look at everybody whenever a mark moves. So what a domain could
still lose at its triggers is bounded here, by the spec's formulas in plain integers.
"""

import random

import pytest

from engine import codes
from engine.codes import PPM
from engine.exchange import Capacity, CompiledEngine
from tests.mirror import test_mirror_triggers as triggers
from tests.mirror.streams import pack_commands

SEEDS, STEPS = 10, 50


def read_spare(engine, name):
    """Return what a domain may lose before it is hung anew: that much earlier it hangs."""
    state, (account, asset, *market) = engine.state, name
    if not market:
        return int(state.wallets["spare_quote"][account * len(engine.setup.assets) + asset])
    mine = (state.positions["account"] == account) & (state.positions["market"] == market[0])
    return int(state.positions["spare_quote"][mine][0])


def read_rate(tiers, notional):
    """Return the maintenance rate of a notional in ppm."""
    return [rate for floor, rate in tiers if floor <= notional][-1]


def use_up(part, row, factor):
    """Return at least what a tick beyond its trigger a position has used of its domain's slack.

    One of several counts its loss alone where the requirement falls with its value, with the rate where that rises.
    """
    kind, qty, _, unit, tiers = part
    side = 1 if qty > 0 else -1
    far = max(row["price_tick"] - side, 1)
    now, then = (triggers.ask_value(kind, price, qty, unit) for price in (row["mark"], far))
    rate = read_rate(tiers, abs(then)) if abs(then) > abs(now) else 0
    return now - then + 1 + -(-(now - then) * rate * factor // PPM)


def check_tight(engine):
    """Check every domain whose positions all hang inside the range, under the table in force; return how many."""
    checked = 0
    for name, (plain, rows) in triggers.list_domains(engine).items():
        if any(row["hung"] == 0 or row["is_moved"] or row["price_tick"] in (1, row["top"]) for row in rows):
            continue
        factor, count = plain.need_ppm / PPM, len(rows)
        marks = [row["mark"] for row in rows]
        spare, slack = read_spare(engine, name), plain.spare_at(marks)
        rounding = max(-(-plain.need_ppm // PPM), 2) * count + 2
        if count == 1:
            beyond = max(rows[0]["price_tick"] - rows[0]["hung"], 1)
            assert plain.spare_at([beyond]) <= spare + rounding or beyond == 1, (name, rows, slack, spare)
        else:
            used = sum(use_up(part, row, factor) for part, row in zip(plain.parts, rows, strict=True))
            assert used >= slack - spare - rounding, (name, rows, slack, spare, used)
        checked += 1
    return checked


@pytest.mark.parametrize("seed", range(SEEDS))
def test_triggers_are_close(seed):
    """A tick beyond its trigger a single position is in need; several have used up their slack together.

    Up to an eighth of the slack is held back so that funding needs not hang them anew.

    Source: MARGIN-010.
    """
    rng = random.Random(f"tight {seed}")
    setup = triggers.make_wide_setup(rng)
    engine, walk = CompiledEngine(setup, Capacity()), triggers.Walk(rng, setup)
    engine.apply(pack_commands(list(walk.open_day())))
    checked = check_tight(engine)
    for _ in range(STEPS):
        command = walk.step()
        if command.kind != codes.SET_TIERS:
            engine.apply(pack_commands([command]))
            checked += check_tight(engine)
    assert checked > STEPS
