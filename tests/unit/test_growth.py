"""Growth between batches: what an engine holds never depends on how, or how often, its arrays grew."""

import random
from itertools import pairwise

import numpy as np
import pytest

from engine import Capacity, Exchange, codes, commands
from engine.codes import ACCOUNTS_FULL, BUY, ORDERS_FULL, POSITIONS_FULL, SELL
from engine.digest import compute_digest
from engine.errors import CapacityError
from tests.mirror.streams import Command, pack_commands
from tests.unit.test_exchange import make_market

GROWING = ("wallets", "positions", "orders", "levels", "leaf_masks", "pending", "triggers")


def make_exchange(**limits):
    """Return an exchange of two markets."""
    markets = [make_market(symbol=name, price_max=1_000_000) for name in ("X", "Y")]
    return Exchange(markets, capacity=Capacity(**limits) if limits else None)


def make_crowd(first, last, seed=0):
    """Return commands: accounts with money, a position each, an order each, and marks that liquidate some of them."""
    rng = random.Random(seed * 100_000 + first)
    made = [Command(kind=codes.MARK, market=market, price_tick=1_000) for market in (0, 1)]
    for account in range(first, last):
        market, side = rng.randrange(2), rng.choice((BUY, SELL))
        price, qty = 1_000 + rng.randint(-20, 20), rng.randint(1, 9)
        worth = price * qty // rng.choice((3, 9, 20))
        own = {"account": account, "market": market, "qty_lot": qty}
        made.append(Command(kind=codes.ASSIGN, side=side, price_tick=price, amount_quote=worth, **own))
        made.append(Command(kind=codes.DEPOSIT, account=account, amount_quote=2_000))
        far = rng.randint(1, 960) if side == BUY else rng.randint(1_040, 900_000)
        made.append(Command(kind=codes.PLACE, side=side, price_tick=far, order_id=account, **own))
        if account % 50 == 0:
            made.append(Command(kind=codes.MARK, market=market, price_tick=1_000 + rng.randint(-60, 60)))
    return pack_commands(made)


def make_room(exchange, doublings):
    """Grow all that can grow before anything is in it."""
    for _ in range(doublings):
        engine = exchange.engine
        engine.grow(ACCOUNTS_FULL, len(engine.state.wallets))
        engine.grow(POSITIONS_FULL)
        engine.grow(ORDERS_FULL)
    return exchange


def address_of(array):
    return array.ctypes.data


@pytest.mark.parametrize("batch", [97, 1_000_000])
def test_growing_changes_nothing(batch):
    """Many doublings on the way give the events and the digest of an engine that had the room from the start.

    Source: STATE-001, STATE-003.
    """
    grown, roomy = make_exchange(), make_room(make_exchange(), 8)
    before = {name: len(getattr(grown.engine.state, name)) for name in GROWING}
    room = [len(array) for array in roomy.engine.state]
    rows = make_crowd(1, 3_000)
    got = b"".join(grown.apply(rows[at : at + batch]).tobytes() for at in range(0, len(rows), batch))
    assert got == roomy.apply(rows).tobytes()
    assert grown.digest() == roomy.digest()
    assert [len(array) for array in roomy.engine.state] == room
    # accounts, positions and orders six, five and one times; levels as they need
    assert len(grown.engine.state.wallets) == before["wallets"] << 6
    assert len(grown.engine.state.positions) >= before["positions"] << 5
    assert all(len(getattr(grown.engine.state, name)) > count for name, count in before.items())


def test_what_has_grown_once_grows_where_it_stands():
    """The first growth moves an array to where room is set aside, the next ones copy nothing.

    Source: STATE-003.
    """
    engine = make_room(make_exchange(), 1).engine
    places = [address_of(getattr(engine.state, name)) for name in GROWING]
    engine.state.positions["qty_lot"][5] = 77
    counts = [len(getattr(engine.state, name)) for name in GROWING]
    for _ in range(3):
        engine.grow(ACCOUNTS_FULL, len(engine.state.wallets))
        engine.grow(POSITIONS_FULL)
        engine.grow(ORDERS_FULL)
    assert [address_of(getattr(engine.state, name)) for name in GROWING] == places
    assert all(len(getattr(engine.state, name)) > count for name, count in zip(GROWING, counts, strict=True))
    assert engine.state.positions["qty_lot"][5] == 77
    assert not engine.state.positions["qty_lot"][6:].any()
    assert (engine.state.wallets["positions_head"][1:] == -1).all()


def spans_of(engine):
    """Return where in memory every array of an engine is, with the room set aside for it."""
    return [np.lib.array_utils.byte_bounds(a if a.base is None else a.base) for a in engine.state]


def test_a_copy_of_a_grown_engine_is_its_own():
    """What is written to one never shows in the other, also after both have grown again into their own room.

    Source: STATE-002.
    """
    original = make_exchange()
    original.apply(make_crowd(1, 400))
    twin = original.copy()
    plain = [make_exchange(), make_exchange()]
    for each in plain:
        each.apply(make_crowd(1, 400))
    for first, last in ((400, 900), (900, 2_500)):
        for seed, (each, alone) in enumerate(zip((original, twin), plain, strict=True)):
            rows = make_crowd(first, last, seed)
            assert each.apply(rows).tobytes() == alone.apply(rows).tobytes()
        for each, alone in zip((original, twin), plain, strict=True):
            assert each.digest() == alone.digest()
        assert original.digest() != twin.digest()
    ranges = sorted(spans_of(original.engine) + spans_of(twin.engine))
    assert all(before[1] <= after[0] for before, after in pairwise(ranges))


def test_snapshots_of_a_grown_engine_go_on_growing(tmp_path):
    """Saved and loaded in mid-growth, an exchange has the digest and the future of the one that was saved.

    Source: STATE-002.
    """
    exchange = make_exchange()
    for first, last in ((1, 300), (300, 1_200), (1_200, 2_600)):
        exchange.apply(make_crowd(first, last))
        exchange.save(tmp_path / "state.npz")
        loaded = Exchange.load(tmp_path / "state.npz")
        assert loaded.digest() == exchange.digest()
        more = make_crowd(last, last + 700, seed=1)
        fork = exchange.copy()
        assert loaded.apply(more).tobytes() == fork.apply(more).tobytes()
        assert loaded.digest() == fork.digest() != exchange.digest()


def test_restored_arrays_are_the_engines_own():
    """What an engine takes over is never the array of the engine that was dumped, grown or not.

    Source: STATE-002.
    """
    for last in (3, 400):
        source = make_exchange()
        source.apply(make_crowd(1, last))
        digest = source.digest()
        other = make_exchange()
        other.engine.restore(source.engine.dump())
        assert other.digest() == digest
        other.apply([commands.Deposit(account=1, amount_quote=5)])
        assert other.digest() != digest
        assert source.digest() == digest


@pytest.mark.parametrize("name", ["accounts_max", "positions_max", "orders_max"])
@pytest.mark.parametrize("limit", [20, 100, 2_000])
def test_capacity_holds_from_the_first_row(name, limit):
    """A capacity smaller than what an exchange starts with is kept too; what came before the refusal is applied.

    Source: CLI-002.
    """
    exchange = make_exchange(**{name: limit})
    rows = make_crowd(1, 2_500)
    with pytest.raises(CapacityError, match=f"{name}={limit} is used up: .*--{name.replace('_', '-')}") as caught:
        exchange.apply(rows)
    state = exchange.engine.state
    assert len(getattr(state, "wallets" if name == "accounts_max" else name.removesuffix("_max"))) == limit
    done = int(state.head[0]["seq"])
    free = make_exchange()
    assert free.apply(rows[:done]).tobytes() == np.asarray(caught.value.events).tobytes()
    assert compute_digest(free.view()) == compute_digest(exchange.view())


def test_more_wallets_than_can_be_numbered_are_refused():
    """A wallet's number fits 31 bits, whatever the capacity says; nothing is set aside first."""
    exchange = Exchange(
        [make_market(symbol="X", settle="USDT"), make_market(symbol="Y", settle="USDC")],
        capacity=Capacity(accounts_max=1 << 31),
    )
    before = len(exchange.engine.state.wallets)
    with pytest.raises(CapacityError, match="2147483648 accounts in 2 assets are more than 2147483648 wallets"):
        exchange.engine.grow(ACCOUNTS_FULL, (1 << 31) - 1)
    assert len(exchange.engine.state.wallets) == before
