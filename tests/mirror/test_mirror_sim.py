"""The simulated market's commands through both engines: the same events, the same digest, nothing lost on the way."""

from decimal import Decimal

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import codes
from engine.audit import Auditor, check_state
from engine.exchange import Exchange
from engine.layout import EVENT
from engine.scenario import Population
from engine.scenario.population import LeverageSpread
from engine.scenario.simulated import Jump, JumpDiffusion, Makers, MomentumTakers, NoiseTakers, SimulatedMarket, Walk
from engine.sim import open_simulation, run_simulation
from tests.mirror.pair import make_market
from tests.mirror.plain_sim import PlainMarket

CROWD = Population(
    seed=5,
    accounts=60,
    open_interest=Decimal(60_000),
    leverage=LeverageSpread(median=Decimal(12), sigma=Decimal("0.7"), max=50),
    long_share=Decimal("0.7"),
)
MAKERS = Makers(
    accounts=3,
    levels=6,
    limit=Decimal(4_000),
    size=Decimal(100),
    half_spread=Decimal("0.0005"),
    spacing=Decimal("0.001"),
    growth=Decimal("1.5"),
    skew=Decimal("0.02"),
)
NOISE = NoiseTakers(accounts=20, limit=Decimal(500), rate=Decimal(20), size=Decimal(20))
MOMENTUM = MomentumTakers(
    accounts=4, limit=Decimal(500), rate=Decimal(10), size=Decimal(30), lookback="1s", threshold=Decimal("0.002")
)


def make_config(index, **changes):
    fields = {"seed": 3, "price": Decimal(10_000), "duration": "8s", "step": "200ms", "crowd": CROWD}
    fields |= {"makers": MAKERS, "noise": NOISE, "momentum": MOMENTUM, "index": index}
    return SimulatedMarket(**fields | changes)


def make_perpetual(model="last"):
    tiers = make_market().tiers
    tier = type(tiers[0])(floor=Decimal(0), initial=Decimal("0.02"), maintenance=Decimal("0.01"))
    fees = {"maker_fee": Decimal("0.0002"), "taker_fee": Decimal("0.0005")}
    return make_market(mark_model=model, tiers=(tier,), margin_call=Decimal("1.25"), **fees)


def play(config, market, funds):
    """Return the summary, all commands and all events of a simulated market."""
    events = []
    done = run_simulation(
        config, market, funds=funds, keep_commands=True, on_events=lambda found: events.append(found.copy())
    )
    return done, np.concatenate(events)


def replay(market, commands):
    """Return what the readable engine makes of a tape: digest and events."""
    exchange = Exchange([market], engine="reference")
    events = exchange.apply(commands)
    return exchange, events


CASES = {
    "crash": (Jump(at="2s", size=Decimal("-0.12"), over="1s"), "last", 20_000),
    "no fund": (Jump(at="2s", size=Decimal("-0.15"), over="200ms"), "last", 0),
    "rise": (Jump(at="2s", size=Decimal("0.15"), over="2s"), "ema_basis", 1_000_000),
    "wild": (JumpDiffusion(volatility=Decimal(60), jumps_per_day=Decimal(40_000)), "median3", 50_000),
}


@pytest.mark.parametrize("name", CASES)
def test_both_engines_and_the_auditor(name):
    """The closed loop's commands give both engines the same events and digest, and the auditor the same balances.

    Source: SIM-001, SIM-002, STATE-003, MONEY-001, MONEY-002.
    """
    index, model, fund = CASES[name]
    market = make_perpetual(model)
    done, events = play(make_config(index), market, {"USDT": fund})
    exchange, found = replay(market, done.commands)
    assert found.tobytes() == events.tobytes()
    assert exchange.digest() == done.summary["digest"]
    setup = exchange.setup
    auditor = Auditor(setup)
    auditor.feed(events)
    auditor.compare(exchange.view())
    check_state(done.exchange.view(), setup)
    assert done.summary["liquidations"] > 0
    assert len(done.commands) == done.summary["commands"]
    assert len(events) == done.summary["events"]
    assert events.dtype == EVENT


def check_said_again(config, market, **given):
    """Run a market and its plain twin beside the readable engine; return what both sent."""
    simulator, opening = open_simulation(config, market, **given)
    plain = PlainMarket(simulator.desk, simulator.exchange.setup.markets[0].price_max_tick)
    steps = len(simulator.desk.path)
    sent = np.concatenate([rows.copy() for rows, _ in simulator.advance(steps)])
    exchange = Exchange([market], engine="reference")
    exchange.apply(opening.commands)
    again = []
    for _ in range(steps):
        for write in (plain.announce, lambda: plain.decide(exchange.view())):
            again.append(write())
            exchange.apply(again[-1])
    assert np.concatenate(again).tobytes() == sent.tobytes()
    assert exchange.digest() == simulator.exchange.digest()
    assert simulator.series["mid_half"].tolist() == plain.mids
    assert int(simulator.series["volatility_ppb"][-1]) == plain.volatility
    return sent


@pytest.mark.parametrize("name", CASES)
def test_the_rules_said_again_send_the_same(name):
    """A market in plain Python, beside the readable engine, sends every command the kernel writes, and no other.

    Source: SIM-002..SIM-008.
    """
    index, model, fund = CASES[name]
    sent = check_said_again(make_config(index, duration="6s"), make_perpetual(model), funds={"USDT": fund})
    assert {codes.PLACE, codes.AMEND, codes.INDEX} <= set(sent["kind"].tolist())


@st.composite
def wild_markets(draw):
    """Draw a config and a path of whole magnitudes: prices from a tick up to the most an index may have."""

    def part(least, most):
        return Decimal(draw(st.integers(least, most))) / 10**6

    makers = Makers(
        accounts=draw(st.integers(0, 3)),
        levels=draw(st.integers(1, 5)),
        limit=Decimal(10_000),
        size=Decimal(draw(st.integers(20, 200))),
        half_spread=part(1, 100_000),
        spacing=part(1, 100_000),
        growth=part(100_000, 10_000_000),
        size_growth=part(500_000, 1_500_000),
        refill=draw(st.sampled_from(["1ms", "100ms", "5s"])),
        memory=draw(st.sampled_from(["1ms", "1s", "1h"])),
        requote=part(0, 2_000_000),
        calm=part(1, 100_000),
        widen=part(0, 1_000_000_000),
        thin=part(0, 1_000_000_000),
        skew=part(0, 500_000),
    )
    noise = msgspec.structs.replace(NOISE, lean=part(0, 1_000_000_000), limit=Decimal(draw(st.integers(1, 500))))
    momentum = msgspec.structs.replace(MOMENTUM, lookback="200ms", threshold=part(0, 100_000))
    start = draw(st.sampled_from([1, 7, 10_000, 1 << 29]))
    ticks = st.integers(max(start // 2, 1), min(2 * start, 1 << 30))
    path = draw(st.lists(st.tuples(ticks, st.integers(0, 5_000_000)), min_size=1, max_size=12))
    fields = {"makers": makers, "noise": noise, "momentum": momentum, "price": Decimal(path[0][0])}
    config = make_config(Walk(), seed=draw(st.integers(0, (1 << 63) - 1)), crowd=None, **fields)
    return config, np.array(path, np.int64)


@given(wild_markets())
def test_no_magnitude_makes_a_difference(drawn):
    """Whatever the numbers, the kernel's 64 bits send what plain integers send.

    Source: SIM-002..SIM-008.
    """
    config, path = drawn
    market = msgspec.structs.replace(
        make_perpetual("index"), price_max=Decimal(1 << 30), open_interest_max=Decimal(1 << 18)
    )
    check_said_again(config, market, path=path)


def test_a_crash_reaches_every_payer():
    """Liquidations, a fund that runs dry, ADL: all of it in the closed loop, and every unit accounted for.

    Source: SIM-001, MONEY-001, EVT-002.
    """
    index, model, fund = CASES["crash"]
    done, _ = play(make_config(index), make_perpetual(model), {"USDT": fund})
    summary = done.summary
    assert summary["conserved"]
    assert summary["fund_dry_ns"] is not None
    assert summary["adl_fills"] > 0
    assert summary["liquidated_book_quote"] > 0
    payers = ("paid_by_fund_quote", "paid_by_adl_quote", "paid_by_haircut_quote", "unpaid_quote")
    assert summary["deficit_quote"] == sum(summary[payer] for payer in payers)


def test_calm_markets_send_nothing_wrong():
    """Nobody sends what is rejected, makers quote on both sides and never meet each other's quotes.

    Source: SIM-004, SIM-006.
    """
    config = make_config(Walk(volatility=Decimal(1)), crowd=None)
    market = make_perpetual("index")
    simulator, _ = open_simulation(config, market)
    makers = range(int(simulator.desk.desk[0]["first_maker"]), int(simulator.desk.desk[0]["first_noise"]))
    kinds = np.zeros(max(codes.EVENT_NAMES) + 1, np.int64)
    for _ in range(config.steps):
        for _, events in simulator.advance(1):
            kinds += np.bincount(events["kind"], minlength=len(kinds))
            trades = events[events["kind"] == codes.TRADE]
            assert not np.isin(trades["account"], makers).any()
    assert kinds[codes.REJECTED] == 0
    assert kinds[codes.TRADE] > 0
    assert kinds[codes.AMENDED] > 0
    series = simulator.series
    assert (series["bid_tick"][1:] > 0).all()
    assert (series["ask_tick"] > series["bid_tick"])[1:].all()
    assert simulator.step == config.steps
