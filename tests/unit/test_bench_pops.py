"""Needless pops: counted right, and as few as the split of the slack promises."""

import math
import random

import numpy as np
import pytest

from engine.bench import pops
from engine.codes import ASSIGN, BUY, MARK
from tests.mirror.streams import Command, pack_commands

RATE = 0.01
TICK = 50  # money of one tick to each position: its lots


def test_pops_are_counted():
    """A walk of violent marks pops accounts, most of them needlessly; the same seed counts the same.

    Source: MARGIN-010.
    """
    found = pops.measure_pops(accounts=20, markets=3, marks=60, step_ppm=5_000)
    assert found == pops.measure_pops(accounts=20, markets=3, marks=60, step_ppm=5_000)
    assert found["pops"] > found["needless_pops"] > 0
    assert found["needless_pops_per_mark"] == found["needless_pops"] / 60
    assert found["needless_pops_per_account"] == found["needless_pops"] / 20


def test_what_pops_hangs_elsewhere_afterwards():
    """The count is read off before a mark; where no account was liquidated it is what hangs elsewhere after the mark.

    Source: MARGIN-010.
    """
    rng = random.Random(4)
    engine = pops.make_engine(2)
    engine.apply(pops.make_crowd(rng, 30, 2))
    walk = pops.make_walk(rng, 50, 2, 5_000)
    total = 0
    for at in range(50):
        hangs = (engine.state.positions["market"] == walk["market"][at]) & (engine.state.positions["hung"] != 0)
        before = engine.state.positions["price_tick"][hangs].copy()
        popped, needless = pops.count_pops(engine, walk[at : at + 1])
        after = engine.state.positions[hangs]
        moved = int(((after["price_tick"] != before) | (after["hung"] == 0)).sum())
        assert needless <= popped <= moved
        assert popped == moved or popped > needless
        total += popped
    assert total > 10


def hold_longs(count, leverage):
    """Return an engine with one account that is long alike in every market, and its slack."""
    engine = pops.make_engine(count)
    fields = {"account": 1, "side": BUY, "qty_lot": TICK, "price_tick": pops.MARK_TICK}
    value = TICK * pops.MARK_TICK
    fields |= {"kind": ASSIGN, "amount_quote": value // leverage}
    engine.apply(pack_commands([Command(market=market, **fields) for market in range(count)]))
    return engine, count * (value // leverage - int(value * RATE))


@pytest.mark.parametrize("leverage", [2, 10, 45])
@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_a_losing_account_is_popped_no_more_than_the_split_allows(count, leverage):
    """The worst path moves each mark in turn to just where it pops: the bound of `engine/bench/pops.py`, and near it.

    Source: MARGIN-010.
    """
    engine, slack = hold_longs(count, leverage)
    needless = market = 0
    part = 1
    while part:
        positions = engine.state.positions
        (found,) = np.nonzero((positions["market"] == market) & (positions["hung"] != 0))
        row = pack_commands([Command(kind=MARK, market=market, price_tick=int(positions["price_tick"][found[0]]))])
        popped, part = pops.count_pops(engine, row)
        assert popped == 1
        needless += part
        market = (market + 1) % count
    most = count_most(slack, count)
    assert needless <= most
    assert needless > most * 0.6 or count == 1


def count_most(slack, count):
    """Return the most needless pops on a path that only loses, as `engine/bench/pops.py` derives it."""
    if count == 1:
        return math.log(max(slack / (2 * RATE * TICK * pops.MARK_TICK), 1), 8) + 1 + 2
    c = 7 / 8 * (1 - RATE)
    return math.log(slack / (count * TICK)) / -math.log(1 - c / count) + count / (1 - RATE) + 2
