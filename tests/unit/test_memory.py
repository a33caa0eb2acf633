"""What an exchange is said to take is what its arrays take."""

from pathlib import Path

import numpy as np
import pytest

from engine import Exchange, load_market
from engine.codes import ACCOUNTS_FULL, LEVEL, PRICE_MAX_LIMIT
from engine.compiled import Capacity, CompiledEngine
from engine.contract import build_setup
from engine.feeds import open_feed
from engine.layout import COMMAND, ORDER, POSITION, WALLET
from engine.memory import (
    ACCOUNT_BYTES,
    DOMAIN_BYTES,
    LEAF_BYTES,
    PAGE_BYTES,
    BookMeter,
    count_book_bytes,
    count_order_bytes,
    count_price_bytes,
    describe_setup,
    format_bytes,
    format_memory,
)
from tests.unit.test_exchange import make_market

DEMO = Path(__file__).resolve().parents[2] / "replay_data" / "synthetic_btc"
KIB, MIB = 1024, 1024**2


def make_levels(*rows):
    """Return COMMAND rows of levels from (market, side, price_tick, qty_lot)."""
    commands = np.zeros(len(rows), COMMAND)
    commands["kind"] = LEVEL
    for at, field in enumerate(("market", "side", "price_tick", "qty_lot")):
        commands[field] = [row[at] for row in rows]
    return commands


def test_bytes_per_thing_are_those_of_the_arrays():
    """Orders, leaves and pages take what the arrays have for them; an account is the growth when accounts double."""
    engine = CompiledEngine(build_setup([make_market()]), Capacity())
    state = engine.state
    assert count_order_bytes() == ORDER.itemsize + state.idmap.nbytes / len(state.orders)
    assert (state.levels.nbytes + state.leaf_masks.nbytes) / len(state.leaf_masks) == LEAF_BYTES
    assert (state.page_leaves.nbytes + state.page_masks.nbytes) / len(state.page_masks) == PAGE_BYTES
    arrays = (state.pending, state.touched, state.uneasy, state.triggers, state.queue)
    assert sum(array.nbytes for array in arrays) / len(state.pending) == DOMAIN_BYTES
    before = sum(array.nbytes for array in state)
    engine.grow(ACCOUNTS_FULL, len(state.wallets))
    growth = sum(array.nbytes for array in engine.state) - before
    assert growth / len(state.wallets) == ACCOUNT_BYTES - POSITION.itemsize - DOMAIN_BYTES
    assert len(engine.state.wallets) * WALLET.itemsize == engine.state.wallets.nbytes


@pytest.mark.parametrize("markets", [1, 3])
def test_an_empty_exchange_is_counted_whole(markets):
    listed = [make_market(symbol=f"X{index}", price_max=10_000 * (index + 1)) for index in range(markets)]
    setup = build_setup(listed)
    engine = CompiledEngine(setup, Capacity())
    found = describe_setup(setup)
    assert found["empty_bytes"] == sum(array.nbytes for array in engine.state) + engine.events.nbytes
    assert found["price_bytes"] == engine.state.pages.nbytes + engine.state.words.nbytes


def test_memory_does_not_go_by_the_tick():
    """Sixteen million ticks take a hundredth of a byte each, and the widest market there can be a few MiB."""
    assert count_price_bytes((1 << 24) - 1) < 64 * KIB
    assert count_price_bytes(PRICE_MAX_LIMIT) < 5 * MIB
    assert describe_setup(build_setup([make_market()]))["empty_bytes"] < 2 * MIB


def test_the_meter_finds_the_deepest_book():
    """Most levels, and most groups of 64 and 4,096 ticks, each when it was most; what is set again counts once."""
    meter = BookMeter()
    meter.add(make_levels((0, 1, 10, 5), (0, 1, 11, 5), (0, 1, 11, 7), (0, -1, 70, 5), (1, -1, 70, 5)))
    assert (meter.levels_max, meter.leaves_max, meter.pages_max) == (4, 3, 2)
    meter.add(make_levels((0, 1, 10, 0), (0, 1, 10, 0), (0, 1, 11, 0), (0, 1, 9_000, 1), (0, 1, 20_000, 1)))
    assert (meter.levels_max, meter.leaves_max, meter.pages_max) == (4, 4, 4)
    expected = {"levels_max": 4, "leaves_max": 4, "book_bytes": count_book_bytes(4, 4, 4)}
    assert meter.describe() == expected
    empty = BookMeter()
    empty.add(make_levels())
    assert empty.describe()["book_bytes"] == 0


def test_the_meter_agrees_with_the_book():
    """What it says of the demo's tape is what the engine has used after playing it."""
    market = load_market(DEMO / "market.toml")
    exchange, meter = Exchange([market]), BookMeter()
    for chunk in open_feed(DEMO, [market]).chunks():
        meter.add(chunk)
        exchange.apply(chunk)
    head = exchange.engine.state.head[0]
    used = tuple(int(head[name]) for name in ("order_used", "leaf_used", "page_used"))
    assert (meter.levels_max, meter.leaves_max, meter.pages_max) == used


def test_words():
    assert [format_bytes(count) for count in (0, 1_023, 1_536, 5 * MIB, 3_000 * MIB)] == [
        "0 B", "1,023 B", "1.5 KiB", "5.0 MiB", "2.9 GiB",
    ]  # fmt: skip
    lines = format_memory(describe_setup(build_setup([make_market()])) | BookMeter().describe())
    assert lines["memory"].endswith("+ 96 B per resting order, + 336 B per account with a position")
    assert lines["deepest_book"] == "0 levels at once: 0 B"
