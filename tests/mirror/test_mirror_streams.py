"""Compiled and reference engine tell the same story, command by command, on hostile streams."""

import os
from collections import Counter
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from engine import Market, codes
from engine._jit import JIT_DISABLED
from engine.contract import Tier, build_setup
from engine.exchange import Capacity, CompiledEngine
from tests.mirror import streams
from tests.mirror.streams import Command
from tests.mirror.twins import Twins

SEEDS = 1_000 if os.environ.get("HYPOTHESIS_PROFILE") == "night" else 60  # enough to reach every event kind
STEPS = 150
BATCH = STEPS if JIT_DISABLED else 400  # as plain Python the fundings of a long stream take ten seconds
seen: Counter[str] = Counter()


@pytest.mark.parametrize("seed", range(SEEDS))
def test_random_streams(seed):
    """Events, digest, conservation and audit agree after every command.

    Source: STATE-001, STATE-003, STEP-001, STEP-003, MARGIN-010, MONEY-001, MONEY-002, CMD-001.
    """
    setup = streams.make_setup(seed)
    twins = Twins(setup)
    for command in streams.random_stream(seed, setup, STEPS):
        twins.apply(command)
    seen.update(twins.kinds)


def test_streams_reach_everything():
    """The streams above liquidate, drain funds, deleverage, cut winners and hand over: all event kinds occur.

    Source: EVT-001.
    """
    if not seen:  # each worker knows its own streams only: an empty count says nothing about them
        pytest.skip("the streams ran in another worker or were deselected")
    missing = set(codes.EVENT_NAMES.values()) - set(seen)
    assert not missing, f"no stream reached {missing}"


@pytest.mark.parametrize("kind", ["single", "fall", "assets"])
@pytest.mark.parametrize("seed", range(6))
def test_streams_at_an_edge(seed, kind):
    """The same where every quantity is a single lot, where prices are a few ticks, where every market has its asset.

    Source: STATE-003, NUM-001.
    """
    setup, commands = streams.make_edge_stream(seed, kind)
    twins = Twins(setup)
    for command in commands:
        twins.apply(command)


@given(streams.streams())
def test_drawn_streams(drawn):
    """The same with drawn streams, which shrink to the shortest that differ.

    Source: STATE-003.
    """
    setup, commands = drawn
    twins = Twins(setup)
    for command in commands:
        twins.apply(command)


@pytest.mark.parametrize("seed", [3, 17, 40])
def test_batches_change_nothing(seed):
    """One batch of all commands gives the same events and digest as one command at a time.

    Source: STATE-003.
    """
    setup = streams.make_setup(seed)
    rows = streams.pack_commands(streams.random_stream(seed, setup, BATCH))
    single, whole = CompiledEngine(setup, Capacity()), CompiledEngine(setup, Capacity())
    parts = b"".join(single.apply(rows[at : at + 1]).tobytes() for at in range(len(rows)))
    assert whole.apply(rows).tobytes() == parts
    assert [list(map(tuple, table)) for table in single.view()] == [list(map(tuple, table)) for table in whole.view()]


class MirrorMachine(RuleBasedStateMachine):
    """Stateful streams: every command is a step, crashes are commands of their own."""

    @initialize(setup=streams.setups(), fund=st.integers(0, 300))
    def open_day(self, setup, fund):
        """Give both engines the same markets, marks, money and a small fund."""
        self.twins = Twins(setup)
        self.ts_ns = 0
        self.order_id = 100
        for market in range(len(setup.markets)):
            for kind in (codes.MARK, codes.INDEX, codes.PRINT):
                self.send(kind, market=market, price_tick=100, qty_lot=1, side=codes.BUY)
        self.send(codes.FUND_DEPOSIT, amount_quote=fund)
        for account in range(1, 7):
            self.send(codes.DEPOSIT, account=account, amount_quote=400)

    def send(self, kind, **fields):
        """Apply one command to both engines."""
        self.ts_ns += 1
        self.twins.apply(streams.Command(ts_ns=self.ts_ns, kind=kind, **fields))

    @rule(
        market=st.integers(0, 2),
        price=st.integers(92, 108),
        qty=st.integers(1, 30),
        buyer=st.integers(1, 6),
        seller=st.integers(1, 6),
    )
    def trade(self, market, price, qty, buyer, seller):
        """Two accounts, perhaps the same, meet in the book: deep leverage builds up."""
        for account, side in ((buyer, codes.BUY), (seller, codes.SELL)):
            self.order_id += 1
            fields = {"order_id": self.order_id, "account": account, "side": side, "price_tick": price, "qty_lot": qty}
            self.send(codes.PLACE, market=market, **fields)

    @rule(market=st.integers(0, 2), price=st.integers(60, 140), thin=st.integers(0, 6))
    def crash(self, market, price, thin):
        """The mark gaps over a thin book."""
        for side in (codes.BUY, codes.SELL):
            self.send(codes.LEVEL, market=market, side=side, price_tick=price - 2 * side, qty_lot=thin)
        self.send(codes.MARK, market=market, price_tick=price)
        self.send(codes.INDEX, market=market, price_tick=price)
        self.send(codes.PRINT, market=market, price_tick=price, qty_lot=1, side=codes.SELL)

    @rule(data=st.data())
    def anything(self, data):
        """Any command, good or bad."""
        command = data.draw(streams.command_strategy(self.twins.setup, 6))
        self.ts_ns += 1
        command.ts_ns = self.ts_ns
        self.twins.apply(command)

    @precondition(lambda self: hasattr(self, "twins"))
    @invariant()
    def queues_agree(self):
        """Heap order equals the reference's sort, and liquidation prices agree.

        Source: ADL-002, ADL-003, MARGIN-005, MARGIN-011.
        """
        fast, plain = self.twins.fast, self.twins.plain
        for market in range(len(self.twins.setup.markets)):
            for side in (codes.BUY, codes.SELL):
                queue = fast.rank_side(market, side)
                assert queue == plain.rank_side(market, side)
            for account in (1, 2):
                price = fast.find_liquidation_price(account, market)
                assert price == plain.find_liquidation_price(account, market)
                assert fast.find_bankruptcy_price(account, market) == plain.find_bankruptcy_price(account, market)
                assert fast.measure_margin(account, market) == plain.measure_margin(account, market)


TestMirrorMachine = MirrorMachine.TestCase


def test_orders_of_a_whale_cannot_overflow():
    """119 orders of 2**58 each: every one but the first is refused by both, since together they reach past the limit.

    Their margin is a product of the sum, which wrapped in 64 bits before the limit bounded it.
    Source: NUM-006, MARGIN-006.
    """
    tier = Tier(floor=Decimal(0), initial=Decimal("0.01"), maintenance=Decimal("0.005"))
    top = Decimal(1 << 20)
    sizes = {"tick_size": Decimal(1), "lot_size": Decimal(1), "quote_unit": Decimal(1)}
    market = Market(symbol="X", price_max=top, initial_mark=top, default_leverage=100, tiers=(tier,), **sizes)
    setup = build_setup([market])
    lots = setup.markets[0].order_max_lot
    assert lots << 20 == 1 << 58
    place = {"kind": codes.PLACE, "account": 1, "price_tick": 1, "qty_lot": lots}
    twins = Twins(setup)
    twins.apply(Command(kind=codes.DEPOSIT, account=1, amount_quote=1 << 57))
    taken = []
    for number in range(1, 120):
        (event,) = twins.apply(Command(order_id=number, side=1, **place))
        taken.append((int(event["kind"]), int(event["code"])))
    assert taken == [(codes.ACCEPTED, codes.PLACE)] + [(codes.REJECTED, codes.OPEN_INTEREST_LIMIT)] * 118
