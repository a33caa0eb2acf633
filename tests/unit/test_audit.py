"""The auditor accepts what happened and refuses everything else: true streams, then one wrong number at a time."""

import copy
import random
from collections import Counter
from functools import cache

import numpy as np
import pytest

from engine import codes
from engine.audit import Auditor, check_state
from engine.contract import value_of
from engine.digest import View
from engine.errors import InvariantError
from engine.layout import EVENT
from engine.reference.exchange import ReferenceExchange
from tests.mirror.streams import make_setup, random_stream

SEEDS = range(48)
STEPS = 150
MONEY = (
    "amount_quote",
    "other_amount_quote",
    "fee_quote",
    "other_fee_quote",
    "margin_quote",
    "other_margin_quote",
)
# What a fill, a close or a payment is computed from.
PRICE = "price_tick"
FACTS = ("account", "other", "market", "side", "qty_lot", "price_tick", "mark_tick", "bankruptcy_tick", "order_id")

# An outside source is needed to see these: they say what happened, no other event repeats it, and no balance depends
# on it.  Everything else that is wrong in an event is found.
CANNOT_BE_KNOWN = {
    # orders: the events do not carry the outside's levels, so books are not rebuilt
    ("accepted", "side"),
    ("accepted", "order_id"),
    ("accepted", "price_tick"),
    ("accepted", "qty_lot"),
    ("accepted", "account"),
    ("accepted", "market"),
    ("trade", "order_id"),
    *(("canceled", name) for name in ("account", "market", "side", "qty_lot", "price_tick", "order_id")),
    *(("amended", name) for name in ("account", "market", "side", "qty_lot", "price_tick", "order_id")),
    *(("rejected", name) for name in ("account", "market", "order_id", "other")),
    # a rate is known as exactly as the payments tell, which is not at all where nobody has a position; and so are the
    # index it may be paid on, and the premium where clamp or cap decide
    *(("funding_rate", name) for name in ("amount_quote", "other_amount_quote", "market", "price_tick")),
}


@cache
def run_reference(seed):
    """Return (setup, events, last view) of a random stream."""
    setup = make_setup(seed)
    exchange = ReferenceExchange(setup)
    events = [event for command in random_stream(seed, setup, STEPS) for event in exchange.step(command)]
    return setup, events, View(*exchange.view())


def pack_events(events):
    """Return events as an EVENT array."""
    rows = np.zeros(len(events), EVENT)
    for name in EVENT.names:
        rows[name] = [getattr(event, name) for event in events]
    return rows


def audit(setup, events, view):
    """Read all events, then hold the result against the state."""
    auditor = Auditor(setup)
    auditor.feed(events)
    auditor.compare(view)
    return auditor


def is_refused(setup, events, view):
    try:
        audit(setup, events, view)
    except InvariantError:
        return True
    return False


@pytest.mark.parametrize("seed", SEEDS)
def test_true_streams_are_accepted(seed):
    """MONEY-001, MONEY-002: after every command the events make exactly the state, and the state conserves."""
    setup = make_setup(seed)
    exchange, auditor = ReferenceExchange(setup), Auditor(setup)
    for command in random_stream(seed, setup, STEPS, 4 + seed % 9):
        auditor.feed(exchange.step(command))
        view = View(*exchange.view())
        check_state(view, setup)
        auditor.compare(view)


def test_an_array_reads_like_objects():
    """EVT-001: recorded events are the same events."""
    setup, events, view = run_reference(0)
    first, second = audit(setup, events, view), audit(setup, pack_events(events), view)
    assert (first.wallets, first.holdings, first.sums) == (second.wallets, second.holdings, second.sums)


def test_streams_hold_every_kind():
    """EVT-001: the corruption tests below see every event kind."""
    kinds = Counter(event.kind for seed in SEEDS for event in run_reference(seed)[1])
    assert set(kinds) == set(codes.EVENT_NAMES)


def is_silent(event):
    """Return whether an event may be wrong without moving a balance.

    A trade with oneself gains what it loses; a setting may be set anew before it is used.
    """
    is_own = event.kind == codes.TRADE and event.account == event.other
    return is_own or (event.kind == codes.ACCEPTED and event.code in (codes.SET_LEVERAGE, codes.SET_MARGIN_MODE))


def find_seeds(kind, draw, limit):
    """Return seeds of streams that hold an event of `kind` which could be seen to be wrong."""
    seeds = [
        seed for seed in SEEDS if any(event.kind == kind and not is_silent(event) for event in run_reference(seed)[1])
    ]
    assert seeds, f"no stream holds {codes.EVENT_NAMES[kind]}"
    return draw.sample(seeds, min(limit, len(seeds)))


def count_unseen(setup, event, change):
    """Return how many ticks an inverse price must be off to be worth another whole unit (INV-001); linear: 1."""
    if event.market < 0 or event.price_tick < 1 or event.qty_lot < 1:
        return 1
    rules, price = setup.markets[event.market], event.price_tick + change
    true = value_of(rules, event.price_tick, event.qty_lot)
    while price > 0 and value_of(rules, price, event.qty_lot) == true:
        price += change
    return abs(price - event.price_tick)


def corrupt(seed, kind, name, draw):
    """Return whether a stream with one field of one event of `kind` changed is refused."""
    setup, events, view = run_reference(seed)
    places = [index for index, event in enumerate(events) if event.kind == kind and not is_silent(event)]
    index = draw.choice(places)
    wrong = copy.copy(events[index])
    change = draw.choice((1, -1))
    setattr(wrong, name, getattr(wrong, name) + change * (count_unseen(setup, wrong, change) if name == PRICE else 1))
    return is_refused(setup, [*events[:index], wrong, *events[index + 1 :]], view)


@pytest.mark.parametrize("kind", codes.EVENT_NAMES, ids=codes.EVENT_NAMES.values())
def test_every_wrong_money_is_found(kind):
    """MONEY-002, EVT-002: one unit more or less in any money field of any event is refused, but for a rate."""
    draw = random.Random(kind)
    for name in MONEY:
        if (codes.EVENT_NAMES[kind], name) in CANNOT_BE_KNOWN:
            continue
        for seed in find_seeds(kind, draw, 24):
            assert corrupt(seed, kind, name, draw), f"{codes.EVENT_NAMES[kind]}.{name} in stream {seed}: nobody saw it"


@pytest.mark.parametrize("kind", codes.EVENT_NAMES, ids=codes.EVENT_NAMES.values())
def test_every_wrong_fact_is_found(kind):
    """EVT-001: so is a wrong account, market, quantity, price or deficit id, but for the named exceptions."""
    draw = random.Random(kind)
    for name in FACTS:
        if (codes.EVENT_NAMES[kind], name) in CANNOT_BE_KNOWN:
            continue
        for seed in find_seeds(kind, draw, 12):
            if name == "price_tick" and any(rules.kind == codes.INVERSE for rules in run_reference(seed)[0].markets):
                continue  # a rounded value may be that of the next tick too (INV-001)
            assert corrupt(seed, kind, name, draw), f"{codes.EVENT_NAMES[kind]}.{name} in stream {seed}: nobody saw it"


# ---------------------------------------------------------------- any state


def break_row(view, table, row, column, change):
    """Return a view with one number of one row changed."""
    rows = [list(each) for each in getattr(view, table)]
    rows[row][column] += change
    return view._replace(**{table: [tuple(each) for each in rows]})


def find_state():
    """Return a setup and a view with positions, orders on both sides of a market, and money."""
    for seed in SEEDS:
        setup, _, view = run_reference(seed)
        sides = {(order[0], order[1]) for order in view.orders}
        has_ids = any(order[4] for order in view.orders)
        if has_ids and any((market, -1) in sides for market, side in sides if side == 1) and len(view.positions) > 3:
            return setup, view
    raise AssertionError("no stream ends with a full book")


def test_every_broken_state_is_named():
    """MONEY-001, FUND-002, DEF-003, MATCH-001: one number off is seen, and said in words."""
    setup, view = find_state()
    check_state(view, setup)
    market = view.positions[0][1]
    cases = [
        (break_row(view, "wallets", 0, 2, 1), "is not conserved"),
        (break_row(view, "positions", 0, 3, 1), "is not conserved"),
        (break_row(view, "assets", 0, 0, 1), "is not conserved"),
        (break_row(break_row(view, "assets", 0, 2, 10**9), "assets", 0, 0, -(10**9)), "above zero"),
        (break_row(break_row(view, "funds", 0, 0, -(10**9)), "assets", 0, 0, 10**9), "a fund is negative"),
        (break_row(view, "positions", 0, 2, 1), "do not sum to 0"),
        (break_row(view, "markets", market, 3, 1), "open interest"),
        (view._replace(orders=[(0, 1, 50, 1, 1, 5, 0), (0, -1, 50, 1, 1, 6, 0)]), "is crossed"),
        (view._replace(orders=[(0, 1, 50, 1, 1, 5, 0), (0, 1, 51, 1, 1, 6, 0)]), "not best first"),
        (view._replace(orders=[(0, -1, 50, 1, 1, 5, 0), (0, -1, 51, 1, 2, 5, 0)]), "two orders have one id"),
        (view._replace(orders=[(0, -1, 50, 0, 1, 5, 0)]), "no quantity"),
        (view._replace(orders=[(0, -1, 401, 1, 1, 5, 0)]), "too high"),
        (view._replace(positions=[*view.positions, (9, 0, 0, 5, 5, 1, 1, 1, 0)]), "flat position"),
    ]
    for broken, words in cases:
        with pytest.raises(InvariantError, match=words):
            check_state(broken, setup)


def test_the_first_difference_is_shown():
    """MONEY-002: a state that is not what the events make it is refused by name."""
    setup, events, view = run_reference(0)
    for table in ("markets", "positions", "wallets", "funds", "assets"):
        column = {"markets": 0, "positions": 4, "wallets": 2, "funds": 0, "assets": 5}[table]
        with pytest.raises(InvariantError, match=f"^{table}: the state has"):
            audit(setup, events, break_row(view, table, 0, column, 1))
    with pytest.raises(InvariantError, match=r"only the events have"):
        audit(setup, events, view._replace(wallets=view.wallets[:-1]))


def test_a_command_cut_short_is_refused():
    """EVT-002: a liquidation without its end, a deficit without its payers."""
    found = set()
    for seed in SEEDS:
        setup, events, _ = run_reference(seed)
        for index, event in enumerate(events):
            if event.kind in (codes.LIQUIDATION_STARTED, codes.FUND_DEBIT, codes.HAIRCUT, codes.ADL_FILL):
                with pytest.raises(InvariantError):
                    Auditor(setup).feed(events[: index + 1])
                found.add(event.kind)
                break
    assert codes.LIQUIDATION_STARTED in found


def test_a_million_accounts_are_checked_in_a_moment():
    """MONEY-001: the state check is a handful of array operations."""
    setup = make_setup(1)
    count = 1_000_000
    numbers = np.arange(1, count + 1, dtype=np.int64)
    wallets = np.column_stack((numbers, 0 * numbers, numbers, 0 * numbers))
    assets = [(0, 0, 0, 0, 0, 0) for _ in setup.assets]
    assets[0] = (0, 0, 0, count * (count + 1) // 2, 0, 0)
    markets = [(1, 0, 0, 0, 0) for _ in setup.markets]
    funds = [(0, 0) for _ in setup.funds]
    check_state(View([(1, 0, 0)], markets, [], [], wallets, funds, assets), setup)
    with pytest.raises(InvariantError, match="not conserved"):
        check_state(View([(1, 0, 0)], markets, [], [], wallets[1:], funds, assets), setup)
