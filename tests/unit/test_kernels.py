"""The kernels' own structures against the plainest Python: products, bitmaps, ladders, id map, heap."""

import random
from fractions import Fraction

import numba
import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from engine import codes
from engine.bench.matching import make_engine, run_workload
from engine.exchange import Capacity, CompiledEngine
from engine.kernels import bits, fixed, heap, rounds, trigger
from engine.kernels.box import borrow, open_box
from engine.layout import COMMAND, HEAP, LEAF_TICKS, MESSAGE, NIL, PAGE_TICKS, REPORT
from tests.mirror.streams import Command, make_setup, pack_commands

INT = st.integers(-(2**62), 2**62)
pytestmark = pytest.mark.mirror  # also with bounds checked, and uncompiled


@numba.njit
def floor_of(a, b, c):
    return fixed.mul_div_floor(a, b, c)


@numba.njit
def ceil_of(a, b, c):
    return fixed.mul_div_ceil(a, b, c)


def hold(number):
    return max(-(2**62), min(2**62, number))


@given(INT, INT, st.integers(1, 2**62))
@example(-7, 1, 2)
@example(2**62, 2**62, 1)
@example(-(2**62), 2**62, 2**62)
@example(2**62 - 1, 1_000_000, 999_999)
@example(-1, 1, 2**62)
@example(107_621, 42_851_172_340_226, 1)  # beyond 2**62, but still 63 bits
@example(2**62, -1, 1)
@example(2**62 + 1, -1, 1)
@example(-52_559_999_998_248, 500_000, 1_000_000)  # beyond 64 bits, with a low word that looks small
@example(2**62, 5, 8)
@example(2**62, 7, 8)
def test_products_are_exact(a, b, c):
    """Floor and ceil of a x b / c equal Python's unbounded integers, held at 2**62.

    Source: NUM-004, NUM-005.
    """
    args = (np.int64(a), np.int64(b), np.int64(c))
    assert floor_of(*args) == hold(a * b // c)
    assert ceil_of(*args) == hold(-(-a * b // c))


@numba.njit
def rest_of(a, b, c):
    return fixed.mul_mod(a, b, c)


@given(st.integers(0, 2**62), st.integers(0, 2**62), st.integers(1, 2**62))
@example(2**62, 2**62, 1)
@example(2**62, 2**62, 2**62 - 1)
@example(2**62, 3, 2**62)  # beyond 63 bits, with a low word that looks negative
def test_rests_are_exact(a, b, c):
    """a x b mod c equals Python's, however large the quotient.

    Source: NUM-004.
    """
    assert rest_of(np.int64(a), np.int64(b), np.int64(c)) == a * b % c


@numba.njit
def half_even_of(a, b, c):
    return fixed.mul_div_half_even(a, b, c)


@given(st.integers(-(2**61), 2**61), INT, st.integers(1, 2**62))
@example(1, 1, 2)
@example(3, 1, 2)
@example(-1, 1, 2)
@example(-3, 1, 2)
@example(-5, 7, 10)  # -3.5 to -4
@example(2**61, 2**61, 2**62 - 1)
@example(5, 2**60, 2**61)
def test_nearest_products_are_exact(a, b, c):
    """The nearest whole number to a x b / c, halves to the even one, as exact fractions round; within 2**61.

    Source: NUM-004.
    """
    expected = round(Fraction(a * b, c))
    assume(abs(expected) < 2**61)
    assert half_even_of(np.int64(a), np.int64(b), np.int64(c)) == expected


@numba.njit
def ends_of(mask, position):
    return bits.above(mask, position), bits.below(mask, position), bits.lowest(mask), bits.highest(mask)


@given(st.integers(1, 2**64 - 1), st.integers(0, 63))
def test_bits(mask, position):
    """Bit sets answer as Python integers do, at both ends of the word too."""
    upper, lower, first, last = ends_of(np.uint64(mask), np.int64(position))
    assert int(upper) == mask >> (position + 1) << (position + 1)
    assert int(lower) == mask & ((1 << position) - 1)
    assert first == (mask & -mask).bit_length() - 1
    assert last == mask.bit_length() - 1


@numba.njit
def drain(records):
    count = len(records)
    table = borrow(records)
    heap.build_heap(table, count)
    for done in range(count):
        heap.pop_heap(table, count - done)


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 3), st.integers(0, 1000)), unique_by=lambda r: r[2]))
def test_heap_serves_in_order(rows):
    """A heap gives its records smallest first by key, tie, minor: the order of a sort.

    Source: ADL-002, STEP-003.
    """
    records = np.zeros(len(rows), HEAP)
    for at, (key, tie, minor) in enumerate(rows):
        records[at] = (key, tie, minor, minor)
    drain(records)
    served = [tuple(int(x) for x in record)[:3] for record in records[::-1]]
    assert served == sorted(rows)


def test_a_deep_heap_serves_in_order():
    """So does one that is deeper than what is fetched ahead looks at.

    Source: ADL-002, STEP-003.
    """
    keys = np.random.RandomState(7).permutation(3 * heap.DEEP)
    records = np.zeros(len(keys), HEAP)
    records["key"] = records["item"] = keys
    drain(records)
    assert records["key"].tolist() == records["item"].tolist() == sorted(keys.tolist(), reverse=True)


@numba.njit
def spread(words, shift):
    found = np.empty(len(words), np.int64)
    rounds.spread_by_digit(words, found, len(words), shift)
    return found


@given(st.lists(st.integers(0, 1 << 14)), st.sampled_from([0, 11, 32]))
def test_words_are_spread_by_digit(words, shift):
    """By rising digit, those with equal ones in the order they had.

    Source: STEP-003.
    """
    words = np.array(words, np.int64) << (shift - shift // 4)
    order = np.argsort(words >> shift & rounds.DIGIT_MASK, kind="stable")
    assert spread(words, shift).tolist() == words[order].tolist()


@numba.njit
def order_suspects(box, suspects):
    state = open_box(box)
    for code in suspects:
        trigger.suspect(state, code)
    rounds.sort_suspects(state)
    found = np.empty(len(suspects), np.int64)
    for at in range(len(found)):
        found[at] = state.pending[at] & trigger.CODE_MASK
    return found


@pytest.mark.parametrize("accounts", [5, 90])  # below and above the number from which they are sorted by digits
def test_suspects_come_by_account_asset_and_market(accounts):
    """Also those of one account: its assets in turn, in each the cross domain before the isolated positions.

    Source: STEP-003.
    """
    setup = make_setup(0)
    first = setup.markets[0]
    first = first._replace(margin_mode=codes.ISOLATED, initial_mark_tick=100)
    markets = tuple(first._replace(asset=asset, fund=asset) for asset in (0, 1, 0, 1))
    units = setup.asset_units[:1] * 2
    setup = setup._replace(
        markets=markets, assets=("USDT", "USDC"), asset_units=units, funds=("a", "b"), fund_assets=(0, 1)
    )
    engine = CompiledEngine(setup, Capacity())
    brought = {"kind": codes.ASSIGN, "side": 1, "qty_lot": 1, "price_tick": 100, "amount_quote": 90}
    pairs = [(account, market) for account in range(1, accounts + 1) for market in (3, 1, 2, 0)]
    engine.apply(pack_commands([Command(account=account, market=market, **brought) for account, market in pairs]))
    positions = engine.state.positions
    (slots,) = np.nonzero(positions["account"] > 0)
    places = {2 * int(slot): (int(positions["account"][slot]), int(positions["market"][slot])) for slot in slots}
    wanted = {code: (account, markets[market].asset, market) for code, (account, market) in places.items()}
    wanted |= {
        4 * account + 2 * asset + 1: (account, asset, -1) for account in range(1, accounts + 1) for asset in (0, 1)
    }
    assert len(wanted) == 6 * accounts
    suspects = sorted(wanted)
    random.Random(accounts).shuffle(suspects)
    found = order_suspects(engine.box, np.array(suspects, np.int64))
    assert found.tolist() == sorted(wanted, key=wanted.__getitem__)


def wide_setup():
    """Return one market over 2**31 - 1 ticks."""
    rules = make_setup(0).markets[0]
    limit = codes.PRICE_MAX_LIMIT
    market = rules._replace(multiplier=1, price_max_tick=limit, open_interest_max_lot=1 << 26, order_max_lot=1 << 20)
    return make_setup(0)._replace(markets=(market._replace(asset=0, fund=0),), assets=("USDT",), fund_assets=(0,))


def check_ladders(engine):
    """Check every ladder against itself: masks say what levels hold, links go both ways, sums and bests are right."""
    state = engine.state
    for index, header in enumerate(state.ladders):
        is_trigger = index % 2 == 1 or index >= 2 * len(state.markets)  # those of further tier tables stand behind
        nodes = state.positions if is_trigger else state.orders
        occupied = []
        for page_number in range(-(-int(header["limit_tick"]) // PAGE_TICKS)):
            page = int(state.pages[header["page_offset"] + page_number])
            word = int(state.words[header["word_offset"] + page_number // 64])
            assert (page != NIL) == bool(word >> (page_number % 64) & 1)
            if page == NIL:
                continue
            assert int(state.page_masks[page]) != 0
            for branch in range(64):
                leaf = int(state.page_leaves[page * 64 + branch])
                assert (leaf != NIL) == bool(int(state.page_masks[page]) >> branch & 1)
                if leaf == NIL:
                    continue
                assert int(state.leaf_masks[leaf]) != 0
                for bit in range(64):
                    level = state.levels[leaf * LEAF_TICKS + bit]
                    has = bool(int(state.leaf_masks[leaf]) >> bit & 1)
                    assert has == (level["head"] != NIL) == (level["tail"] != NIL)
                    if has:
                        tick = page_number * PAGE_TICKS + branch * LEAF_TICKS + bit
                        occupied.append((tick, check_level(nodes, level, tick, is_trigger)))
        bids = [tick for tick, side in occupied if side > 0]
        asks = [tick for tick, side in occupied if side < 0]
        assert header["best_bid"] == max(bids, default=0)
        assert header["best_ask"] == min(asks, default=int(header["limit_tick"]))
        assert max(bids, default=0) < min(asks, default=1 << 40)


def check_level(nodes, level, tick, is_trigger):
    """Walk a level both ways; return its side."""
    slot, before, total, side = int(level["head"]), NIL, 0, 0
    while slot != NIL:
        node = nodes[slot]
        assert node["price_tick"] == tick
        assert node["prev"] == before
        side = int(node["hung"] if is_trigger else node["side"])
        total += int(node["hung_lot"] if is_trigger else node["qty_lot"])
        before, slot = slot, int(node["next"])
    assert level["tail"] == before
    assert level["qty_lot"] == total
    return side


@pytest.mark.parametrize("seed", range(4))
def test_far_prices_cost_what_they_hold(seed):
    """Levels anywhere in 1..2**31-1 are found again in order, and leave nothing behind when they go.

    Source: MATCH-001, OUT-002.
    """
    rng = random.Random(seed)
    engine = CompiledEngine(wide_setup(), Capacity())
    limit = codes.PRICE_MAX_LIMIT
    middle = rng.choice((5, 1 << 20, limit - 5))
    book = {}
    for _ in range(300):
        side = rng.choice((1, -1))
        reach = rng.choice((3, 70, 5000, 1 << 19, 1 << 30))
        tick = middle - side * rng.randint(1, reach)
        if not 1 <= tick <= limit:
            continue
        qty = rng.choice((0, 0, 1, 5))
        engine.apply(pack_commands([Command(kind=codes.LEVEL, side=side, price_tick=tick, qty_lot=qty)]))
        book.pop(tick, None)
        if qty:
            book[tick] = (side, qty)
    for side in (1, -1):
        levels = sorted(((tick, qty) for tick, (s, qty) in book.items() if s == side), reverse=side > 0)
        assert engine.list_side(0, side, 1000) == levels
    for tick, (side, _) in book.items():
        engine.apply(pack_commands([Command(kind=codes.LEVEL, side=side, price_tick=tick, qty_lot=0)]))
    assert not engine.state.words.any()
    assert (engine.state.pages == NIL).all()
    assert engine.state.head[0]["order_count"] == 0


@pytest.mark.parametrize("seed", range(6))
def test_ladders_stay_sound(seed):
    """On hostile streams both kinds of ladder stay consistent, slots, leaves and pages are not lost.

    Source: MATCH-003, MARGIN-010.
    """
    setup = make_setup(seed)
    engine = CompiledEngine(setup, Capacity())
    rows = pack_commands(random_commands(seed, setup))
    for at in range(0, len(rows), 40):
        engine.apply(rows[at : at + 40])
        check_ladders(engine)
    state = engine.state
    live = state.orders[: int(state.head[0]["order_used"])]
    assert (live["qty_lot"] > 0).sum() == state.head[0]["order_count"]
    known = (state.idmap[state.idmap != 0] & 0xFFFFFFFF) - 1
    (mine,) = np.nonzero((live["qty_lot"] > 0) & (live["account"] != codes.EXTERNAL))
    assert sorted(known) == mine.tolist()
    for slot in mine.tolist():
        assert slot == walk_idmap(state, int(live["order_id"][slot]))


def home_of(order_id, size):
    """Return where an id is looked for first."""
    mixed = (order_id ^ (order_id >> 32)) & 0x7FFFFFFF
    return ((mixed * 0x9E3779B1 >> 1) & 0x7FFFFFFF) * size >> 31


def walk_idmap(state, order_id):
    """Return the slot an id is found at, walking from its home, or NIL at the first free entry."""
    size = len(state.idmap)
    at = home_of(order_id, size)
    while state.idmap[at]:
        slot = (int(state.idmap[at]) & 0xFFFFFFFF) - 1
        if state.orders["order_id"][slot] == order_id:
            return slot
        at = (at + 1) % size
    return NIL


def test_ids_that_share_a_home():
    """Orders whose ids hash to one place, at the map's end, are found and forgotten in any order.

    Source: CMD-003.
    """
    engine = make_engine()
    size = len(engine.state.idmap)
    crowded = [number for number in range(1, 200_000) if home_of(number, size) == size - 1][:40]
    messages = np.zeros(80, MESSAGE)
    messages["order_id"] = crowded + crowded[1::3] + crowded[::3] + crowded[2::3]
    messages["kind"][40:] = 1
    messages["qty"], messages["price"], messages["seq"] = 1, 900, np.arange(80)
    reports = np.zeros(1, REPORT)
    left = set()
    for at in range(80):
        assert run_workload(engine, messages[at : at + 1], reports) == 1
        assert reports["kind"][0] == (0 if at < 40 else 2)
        left ^= {int(messages["order_id"][at])}
        assert all(walk_idmap(engine.state, number) != NIL for number in left)
    assert not engine.state.idmap.any()


def random_commands(seed, setup):
    from tests.mirror.streams import random_stream

    return random_stream(seed, setup, 400)


def test_one_specialisation():
    """The entry kernel was compiled for one set of types only: another would cost its compile time again."""
    from engine.kernels.run import run_batch

    if hasattr(run_batch, "signatures"):
        assert len(run_batch.signatures) <= 1


def test_events_may_outgrow_their_buffer():
    """A batch with more events than the buffer holds gives the same events as single commands.

    Source: STATE-003.
    """
    setup = make_setup(5)
    rows = pack_commands(random_commands(5, setup))
    many = np.concatenate([rows, pack_commands([Command(kind=99)] * 9000)])
    whole = CompiledEngine(setup, Capacity())
    events = whole.apply(many)
    assert len(events) > 9000
    single = CompiledEngine(setup, Capacity())
    parts = [single.apply(rows[at : at + 1]) for at in range(len(rows))]
    assert events[: sum(map(len, parts))].tobytes() == b"".join(part.tobytes() for part in parts)
    assert (events["kind"][-9000:] == codes.REJECTED).all()


def test_events_are_the_callers_while_held():
    """A buffer of events is written to again only when nobody has any part of it any more.

    Source: STATE-003.
    """
    engine = make_engine()

    def reject(first):
        rows = np.zeros(5_000, COMMAND)
        rows["kind"], rows["order_id"] = 99, np.arange(first, first + 5_000)
        return engine.apply(rows)

    kept = [reject(first)[7:] for first in range(0, 30_000, 5_000)]
    for at, events in enumerate(kept):
        assert events["order_id"].tolist() == list(range(5_000 * at + 7, 5_000 * (at + 1)))
    kept.clear()
    del events
    places = {reject(first).ctypes.data for first in range(0, 30_000, 5_000)}
    assert len(places) <= 3  # two are held back for this, and the loop's own
