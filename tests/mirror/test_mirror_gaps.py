"""What mutation testing found no test for: one story per fault that nobody noticed (`tests/mutation`)."""

import random
from decimal import Decimal

import pytest

from engine import codes
from engine.codes import BUY, HOUSE, SELL
from engine.contract import Market, Tier, build_setup
from engine.exchange import Capacity, CompiledEngine
from tests.mirror import test_mirror_house as houses
from tests.mirror import test_mirror_tight as tight
from tests.mirror import test_mirror_triggers as triggers
from tests.mirror.adl_desk import Desk, rows_of
from tests.mirror.streams import Command, pack_commands

BUCKET_NS = 8 * 60 * 1_000_000_000  # a sixtieth of 8 hours


# ---------------------------------------------------------------- a crowd that hangs

CROWD = 150
TABLES = {
    "flat": ((0, "0.02"),),
    "steep": ((0, "0.01"), (2_000, "0.025"), (10_000, "0.1")),
    "stairs": ((0, "0.01"), (1_000, "0.02"), (3_000, "0.04"), (9_000, "0.3")),
    "odd": ((0, "0.013337"),),
}


@pytest.mark.parametrize("call", ["0", "1.25", "1.5"])
@pytest.mark.parametrize("kind", ["linear", "inverse"])
@pytest.mark.parametrize("table", TABLES)
def test_single_positions_hang_at_their_price(table, kind, call):
    """A crowd of single positions of every size, from little margin on, cross and isolated: true and close triggers.

    Source: MARGIN-010, MARGIN-002, INV-006.
    """
    tiers = tuple(
        Tier(floor=Decimal(at), initial=Decimal("0.4"), maintenance=Decimal(rate)) for at, rate in TABLES[table]
    )
    fields = {"tick_size": Decimal(1), "lot_size": Decimal(10_000 if kind == "inverse" else 1), "kind": kind}
    fields |= {"quote_unit": Decimal(1), "price_max": Decimal(1000), "initial_mark": Decimal(100), "tiers": tiers}
    market = Market(symbol="X", margin_call=Decimal(call), default_leverage=1, **fields)
    engine = CompiledEngine(build_setup([market]), Capacity())
    rng = random.Random(f"{table} {kind} {call}")
    sent = []
    for account in range(1, CROWD):
        qty = rng.choice((1, 1, 2, 7, 19, 21, 40, 90, 140, 300))
        amount = qty * rng.choice((3, 5, 12, 30, 46, 60, 90)) + rng.randint(0, qty)
        if account % 3 == 0:
            sent.append(Command(kind=codes.SET_MARGIN_MODE, account=account, amount_quote=codes.ISOLATED))
        order = {"side": rng.choice((BUY, SELL)), "qty_lot": qty, "price_tick": 100, "amount_quote": amount}
        sent.append(Command(kind=codes.ASSIGN, account=account, **order))
    engine.apply(pack_commands(sent))
    triggers.check_triggers(engine)
    assert tight.check_tight(engine) > 30


@pytest.mark.parametrize("kind", ["linear", "inverse"])
def test_a_call_may_make_a_rate_a_fraction_of_a_millionth(kind):
    """At prices of millions of ticks half a millionth of the value is more than a tick: 0.020001 x 1.5 = 0.0300015.

    Source: MARGIN-010, STEP-005, INV-006.
    """
    tiers = (Tier(floor=Decimal(0), initial=Decimal("0.4"), maintenance=Decimal("0.020001")),)
    price = 8_000_000
    unit = Decimal(price**2 if kind == "inverse" else 1)
    fields = {"tick_size": Decimal(1), "lot_size": unit, "quote_unit": Decimal(1), "kind": kind}
    fields |= {"price_max": Decimal(2 * price), "initial_mark": Decimal(price), "tiers": tiers}
    fields |= {"open_interest_max": 1_000 * unit, "order_max": 100 * unit}
    market = Market(symbol="X", margin_call=Decimal("1.5"), default_leverage=1, **fields)
    engine = CompiledEngine(build_setup([market]), Capacity())
    rng = random.Random(kind)
    for account in range(1, 40):
        order = {"side": rng.choice((BUY, SELL)), "qty_lot": 3, "price_tick": price}
        amount = 3 * price * rng.randint(40, 90) // 1000
        engine.apply(pack_commands([Command(kind=codes.ASSIGN, account=account, amount_quote=amount, **order)]))
    triggers.check_triggers(engine)
    assert len(triggers.list_domains(engine)) > 30


# ---------------------------------------------------------------- the house


@pytest.mark.parametrize(("amount", "is_taken"), [(91, True), (92, False)])
def test_the_vaults_part_is_rounded_up(amount, is_taken):
    """HOUSE-005: of 47 two thirds are 31.3, so 31 are below and 32 are not."""
    policy = {"backstop": "vault", "vault_below": "0.666667"}
    desk = houses.Desk(houses.make_market(policy=policy))
    desk.give(1, 10, 100, amount)
    desk.level(BUY, 92, 10)
    events = desk.mark(94)
    assert (codes.TAKEOVER in events["kind"]) == is_taken


def test_what_leaves_the_load_as_it_was_is_carried():
    """HOUSE-006: long 10 at 110 is more than a fund of 1000 carries; a short of 20 makes it short 10, no more."""
    desk = houses.Desk(houses.make_market(policy={"backstop": "takeover", "carry": "1"}))
    desk.fund(1000)
    desk.give(1, 10, 100, 100)
    desk.mark(94)
    assert desk.house() == (10, 900)
    desk.give(2, -20, 104, 120)
    events = desk.mark(110)
    assert houses.show(events, codes.TAKEOVER, "account", "other", "qty_lot") == [(2, HOUSE, 20)]
    assert desk.house()[0] == -10


# ---------------------------------------------------------------- ADL


def test_a_deposit_opens_the_buckets_before_it_counts():
    """ADL-021: what is paid in when a bucket begins is the peak of that one, and not of the one before."""
    desk = Desk(policy={"trigger": "drawdown"}, price_max=Decimal(10_000_000))
    desk.fund(1_000)
    for bucket in (1, 2, 5):
        desk.ts_ns = bucket * BUCKET_NS
        desk.fund(100 * bucket)  # the digests have every bucket in them
    assert desk.trigger() == (0, 1_800, 1_800)


def test_who_comes_to_stand_in_the_queue_is_counted():
    """A stricter table finds longs 1 and 2 and short 3 at once; 3 buys what 4 sells, and 4 is short from then on.

    Long 1 is deleveraged against the shorts 5 and 3, long 2 against 5 and 4.

    Source: ADL-002, ADL-004, EVT-001.
    """
    lax, strict = (
        (Tier(floor=Decimal(0), initial=Decimal("0.4"), maintenance=Decimal(rate)),) for rate in ("0.01", "0.3")
    )
    desk = Desk(tiers=lax, tier_tables=(strict,), default_leverage=2)
    desk.send(codes.DEPOSIT, account=4, amount_quote=1_000)
    desk.send(codes.PLACE, account=4, order_id=1, side=SELL, qty_lot=1, price_tick=100)
    desk.bring(5, SELL, 10, 120, 1_000)
    desk.bring(1, BUY, 1, 150, 52)
    desk.bring(2, BUY, 1, 150, 56)
    desk.bring(3, SELL, 1, 95, 9)
    events = desk.send(codes.SET_TIERS, amount_quote=1)
    assert rows_of(events, codes.LIQUIDATION_STARTED, "account") == [1, 3, 2]
    assert rows_of(events, codes.ADL_STARTED, "account", "count") == [(1, 2), (2, 2)]
