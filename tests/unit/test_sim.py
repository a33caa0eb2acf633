"""The simulated market: its file, its index, its shape, and that the loop is closed."""

import json
from decimal import Decimal
from functools import cache
from pathlib import Path

import msgspec
import numpy as np
import pytest

from engine.cli import main
from engine.codes import REJECTED
from engine.contract import Market, Tier, build_setup, load_market
from engine.errors import CapacityError, ConfigError, DataError
from engine.exchange import Capacity, Exchange
from engine.scenario import Population, load_simulated
from engine.scenario.paths import build_path
from engine.scenario.population import LeverageSpread
from engine.scenario.shock import Point, Shock
from engine.scenario.simulated import (
    Jump,
    JumpDiffusion,
    Makers,
    MomentumTakers,
    NoiseTakers,
    Recorded,
    SimulatedMarket,
    Walk,
)
from engine.sim import measure_shape, open_simulation, run_simulation

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "replay_data" / "simulated_btc"
TIER = Tier(floor=Decimal(0), initial=Decimal("0.01"), maintenance=Decimal("0.005"))
MARKET = Market(
    symbol="BTCUSDT",
    tick_size=Decimal("0.1"),
    lot_size=Decimal("0.001"),
    price_max=Decimal(250_000),
    tiers=(TIER,),
    mark_model="last",
)
RULES = build_setup([MARKET]).markets[0]
CROWD = Population(
    seed=5,
    accounts=400,
    open_interest=Decimal(2_000),
    leverage=LeverageSpread(median=Decimal(12), sigma=Decimal("0.7"), max=50),
    long_share=Decimal("0.7"),
)
CONFIG = SimulatedMarket(seed=7, price=Decimal(60_000), duration="20s", index=Walk(volatility=Decimal("0.6")))
CRASH = msgspec.structs.replace(CONFIG, crowd=CROWD, index=Jump(at="5s", size=Decimal("-0.06"), over="4s"))
FUND = {"USDT": 10**12}
AGENTS = (
    ("makers", Decimal("0.5"), 200),
    ("noise", Decimal("0.1"), 20),
    ("momentum", Decimal("0.2"), 20),
)


def change(config, **changes):
    """Return a config with other fields; `makers=dict(...)` changes a table's."""
    for name, value in changes.items():
        if isinstance(value, dict):
            changes[name] = msgspec.structs.replace(getattr(config, name), **value)
    return msgspec.structs.replace(config, **changes)


# ---------------------------------------------------------------- the file

GOOD = 'seed = 1\nprice = "60000"\n'
BAD = {
    "unknown field": (GOOD + "sede = 2\n", "sede"),
    "no price": ("seed = 1\n", "price"),
    "negative seed": ('seed = -1\nprice = "1"\n', "seed"),
    "start": (GOOD + 'start = "-1s"\n', "start"),
    "no time": (GOOD + 'step = "0.9ms"\n', "step"),
    "no step": (GOOD + 'duration = "10ms"\n', "duration"),
    "not a duration": (GOOD + '[makers]\nrefill = "soon"\n', "refill"),
    "no spread": (GOOD + '[makers]\nhalf_spread = "0"\n', "half_spread"),
    "fine spread": (GOOD + '[makers]\nhalf_spread = "0.00010000001"\n', "half_spread"),
    "too many quotes": (GOOD + "[makers]\naccounts = 100000\nlevels = 1000\n", "accounts"),
    "skew": (GOOD + '[makers]\nskew = "0.6"\n', "skew"),
    "rate": (GOOD + '[noise]\naccounts = 1\nrate = "11"\n', "noise.rate"),
    "negative size": (GOOD + '[momentum]\nsize = "-1"\n', "size"),
    "threshold": (GOOD + '[momentum]\nthreshold = "2"\n', "threshold"),
    "unknown index": (GOOD + 'index = { kind = "levy" }\n', "index"),
    "volatility": (GOOD + 'index = { kind = "gbm", volatility = "-1" }\n', "volatility"),
    "jump": (GOOD + 'index = { kind = "jump", at = "1s", size = "-1" }\n', "size"),
    "jump time": (GOOD + 'index = { kind = "jump", at = "soon", size = "-0.1" }\n', "at"),
    "jumps": (GOOD + 'index = { kind = "jump_diffusion", jumps_per_day = "864001" }\n', "jumps_per_day"),
    "no such file": (GOOD + 'index = { kind = "recorded", file = "none.csv" }\n', "index.file"),
    "shock": (GOOD + '[shock]\nprice = [{ t = "1s", factor = "0" }]\n', "factor"),
    "crowd": (GOOD + '[crowd]\nseed = 1\naccounts = 0\nopen_interest = "1"\nleverage = []\n', "accounts"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_refused_naming_the_field(tmp_path, name):
    """Source: SIM-001, CFG-001."""
    text, field = BAD[name]
    file = tmp_path / "simulated.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=field) as refused:
        load_simulated(file)
    assert str(file) in str(refused.value)


UNFIT = {
    "recorded": ({"mark_model": "recorded"}, {}, "mark_model"),
    "off the tick": ({}, {"price": Decimal("60000.05")}, "price"),
    "out of range": ({}, {"price": Decimal(300_000)}, "index"),
    "no whole lots": ({}, {"makers": {"limit": Decimal("200.0005")}}, r"makers\.limit"),
    "a ladder past the limit": ({}, {"makers": {"limit": Decimal(20)}}, r"makers\.size"),
    "less than a lot": ({}, {"makers": {"size": Decimal("0.0001")}}, r"makers\.size"),
    "small orders": ({}, {"noise": {"size": Decimal("0.0001")}}, r"noise\.size"),
    "past the market's limit": ({"open_interest_max": Decimal(1_000)}, {}, r"makers\.limit"),
    "too much money": ({}, {"makers": {"capital": Decimal(1_000), "accounts": 100}}, "capital"),
}


@pytest.mark.parametrize("name", UNFIT)
def test_what_does_not_fit_the_market_is_refused(name):
    """Source: SIM-001, CFG-001."""
    market, config, field = UNFIT[name]
    with pytest.raises(ConfigError, match=field):
        open_simulation(change(CONFIG, **config), change(MARKET, **market))


def test_an_opening_the_exchange_rejects_is_refused():
    """Source: SIM-001."""
    with pytest.raises(ConfigError, match="account 1: the opening is rejected: money_limit"):
        open_simulation(CRASH, MARKET, funds={"USDT": 1 << 60})


# ---------------------------------------------------------------- the index


def test_a_jump_is_level_then_linear_then_level():
    """Source: SIM-002."""
    path = build_path(change(CONFIG, index=Jump(at="5s", size=Decimal("-0.1"), over="10s")), MARKET, RULES)
    assert path[:, 0][[0, 50, 100, 150, 199]].tolist() == [600_000, 600_000, 570_000, 540_000, 540_000]
    path = build_path(change(CONFIG, index=Jump(at="5s", size=Decimal("0.5"))), MARKET, RULES)
    assert path[:, 0][[49, 50]].tolist() == [600_000, 900_000]
    assert (path[:, 1] == 1_000_000).all()


def test_the_shock_multiplies_the_index_and_the_depth():
    """Source: SIM-002, WARP-001."""
    shock = Shock(
        price=(Point(t="1s", factor=Decimal(1)), Point(t="2s", factor=Decimal("0.5"))),
        depth=(Point(t="1s", factor=Decimal("0.25")),),
    )
    path = build_path(change(CONFIG, index=Walk(), shock=shock), MARKET, RULES)
    assert path[[0, 10, 15, 20], 0].tolist() == [600_000, 600_000, 450_000, 300_000]
    assert (path[:, 1] == 250_000).all()


def test_a_walk_has_the_moments_it_was_asked_for():
    """Source: SIM-002."""
    config = change(CONFIG, duration="100h", step="1m", noise={"accounts": 0}, momentum={"accounts": 0})
    config = change(config, index=Walk(volatility=Decimal("0.8")))
    ticks = build_path(config, MARKET, RULES)[:, 0].astype(float)
    deviation = np.diff(np.log(ticks)).std() * np.sqrt(365 * 24 * 60)
    assert 0.78 < deviation < 0.82
    drifting = build_path(change(config, index=Walk(drift=Decimal(10))), MARKET, RULES)[:, 0]
    assert drifting[-1] == pytest.approx(600_000 * np.exp(10 * 100 / 8_760), rel=1e-4)
    jumping = change(config, index=JumpDiffusion(jumps_per_day=Decimal(24), jump_mean=Decimal("-0.02")))
    jumps = np.diff(np.log(build_path(jumping, MARKET, RULES)[:, 0]))
    assert 70 < (jumps < -0.005).sum() < 130  # a hundred are expected
    other = build_path(jumping, MARKET, RULES, seed=8)
    assert (other != build_path(jumping, MARKET, RULES)).any()


def test_an_index_that_leaves_the_market_is_refused():
    """Source: SIM-002."""
    config = change(CONFIG, duration="1000h", step="1h", noise={"accounts": 0}, momentum={"accounts": 0})
    for drift in (Decimal(200), Decimal(1_000), Decimal(-1_000)):
        with pytest.raises(ConfigError, match=r"index: expected 1 to 2500000 ticks, step \d+ has"):
            build_path(change(config, index=Walk(drift=drift)), MARKET, RULES)


def test_a_recorded_index_stands_until_the_next_price(tmp_path):
    """Source: SIM-002."""
    (tmp_path / "index.csv").write_text("t,price\n0s,60000\n1s,59000.04\n1500ms,61000\n")
    (tmp_path / "simulated.toml").write_text('seed = 1\nindex = { kind = "recorded", file = "index.csv" }\n')
    path = build_path(load_simulated(tmp_path / "simulated.toml"), MARKET, RULES)
    assert path[[0, 9, 10, 14, 15, 599], 0].tolist() == [600_000, 600_000, 590_000, 590_000, 610_000, 610_000]
    ticker = "exchange,symbol,local_timestamp,index_price\nx,BTCUSDT,1000000,60000\nx,ETHUSDT,1100000,1\n"
    (tmp_path / "ticker.csv").write_text(ticker + "x,BTCUSDT,1300000,60100\n")
    path = build_path(change(CONFIG, index=Recorded(file=str(tmp_path / "ticker.csv"))), MARKET, RULES)
    assert path[:4, 0].tolist() == [600_000, 600_000, 600_000, 601_000]


@pytest.mark.parametrize(
    ("text", "line", "field"),
    [
        ("t,price\n0s,cheap\n", 2, "price"),
        ("t,price\n0s,1\nsoon,1\n", 3, "t"),
        ("t,price\n2s,1\n1s,1\n", 3, "t"),
        ("when,price\n0s,1\n", 1, None),
        ("t,price\n0s\n", 2, None),
        ("t,price\n", None, None),
        ("", 1, None),
    ],
)
def test_a_bad_recorded_index_is_refused(tmp_path, text, line, field):
    """Source: SIM-002."""
    file = tmp_path / "index.csv"
    file.write_text(text)
    with pytest.raises(DataError) as refused:
        build_path(change(CONFIG, index=Recorded(file=str(file))), MARKET, RULES)
    assert (refused.value.line, refused.value.field) == (line, field)


# ---------------------------------------------------------------- the loop


@cache
def crash():
    """Return the crash, with all its commands."""
    return run_simulation(CRASH, MARKET, funds=FUND, keep_commands=True)


def test_a_seed_is_a_market():
    """The same seed gives the digest it gave on the machine this was written on; another seed another.

    Source: SIM-002, STATE-003.
    """
    summary = crash().summary
    assert summary["digest"] == "c6d659a64ff39350fc5064cd80f85350"
    assert run_simulation(CRASH, MARKET, funds=FUND, seed=8).summary["digest"] != summary["digest"]
    assert summary["rejected"] == 0
    assert summary["liquidations"] > 50


def test_the_tape_replays_to_the_same_digest():
    """Source: SIM-009, STATE-003."""
    done = crash()
    exchange = Exchange([MARKET])
    events = exchange.apply(done.commands)
    assert exchange.digest() == done.summary["digest"]
    assert len(events) == done.summary["events"]
    assert done.summary["conserved"]
    assert done.summary["checks"] == 2
    assert len(done.series) == done.summary["steps"] == 200
    assert done.series["seq"].tolist() == sorted(done.series["seq"].tolist())


def test_pieces_make_no_difference():
    """A market advanced by single steps through a small buffer, on small arrays, does the same.

    Source: SIM-009.
    """
    simulator, _ = open_simulation(CRASH, MARKET, funds=FUND)
    simulator.rows = simulator.rows[: int(simulator.desk.desk[0]["rows_most"])]
    pieces = [rows.copy() for _ in range(7) for rows, _ in simulator.advance(1)]
    pieces += [rows.copy() for rows, _ in simulator.advance(1 << 40)]
    assert len(pieces) > 10
    whole = crash()
    assert np.concatenate(pieces).tobytes() == whole.commands[-sum(map(len, pieces)) :].tobytes()
    assert simulator.exchange.digest() == whole.summary["digest"]


def test_events_are_handed_over_before_they_are_too_many():
    """Source: SIM-009."""
    simulator, _ = open_simulation(CRASH, MARKET, funds=FUND)
    simulator.desk.desk["events_most"] = 300
    sizes = [len(events) for _, events in simulator.advance(1 << 40)]
    assert len(sizes) > 10
    assert simulator.exchange.digest() == crash().summary["digest"]


def test_a_given_path_takes_the_place_of_the_index():
    """Source: SIM-002, SIM-009."""
    path = build_path(CRASH, MARKET, RULES)
    config = change(CRASH, index=Walk(), duration="1h")
    assert run_simulation(config, MARKET, funds=FUND, path=path).summary["digest"] == crash().summary["digest"]
    for bad in (path[:, 0], path[:0], -path, path * 1.0, path * [1, 10**6]):
        with pytest.raises(ConfigError, match=r"simulated market: (path|index)"):
            run_simulation(config, MARKET, path=bad)


def test_another_crowd_takes_the_place_of_the_file_s():
    """Source: SIM-009."""
    summary = run_simulation(CRASH, MARKET, population=change(CROWD, accounts=10), funds=FUND).summary
    assert summary["agents"]["makers"] == {"first_account": 11, "accounts": 8}
    assert summary["agents"]["momentum_takers"]["first_account"] == 11 + 8 + 200
    assert summary["parameters"]["population"]["accounts"] == 10


def test_real_positions_take_the_place_of_the_crowd(tmp_path):
    """Source: SIM-009, POP-002."""
    file = tmp_path / "positions.csv"
    file.write_text(
        "account,symbol,side,amount,entry_price,leverage,margin_mode\n"
        "whale,BTCUSDT,long,200,60000,50,cross\nfish,BTCUSDT,short,1,60000,2,isolated\n"
    )
    summary = run_simulation(CRASH, MARKET, population=file).summary
    assert summary["liquidated_accounts"] == 1
    assert {row["name"] for row in summary["deficits_top"]} == {"whale"}
    assert summary["parameters"]["population"] == "positions.csv"


def test_an_inverse_market_is_a_market():
    """Sizes are contracts, capital is coin; makers quote, takers trade, a crowd is liquidated (INV-001).

    Source: SIM-001.
    """
    inverse = {"kind": "inverse", "settle": "BTC", "quote_unit": Decimal("0.00000001"), "contract_size": Decimal(100)}
    market = change(MARKET, symbol="BTCUSD", lot_size=Decimal(1), price_max=Decimal(100_000), **inverse)
    agents = {"limit": Decimal(20_000), "size": Decimal(100)}
    crowd = {"open_interest": Decimal(300_000)}
    config = change(CRASH, makers=agents | {"limit": Decimal(100_000)}, noise=agents, momentum=agents, crowd=crowd)
    summary = run_simulation(config, market, funds={"BTC": 10**9}).summary
    assert summary["liquidations"] > 50
    assert summary["conserved"]
    assert summary["rejected"] == 0


@pytest.mark.parametrize("venue", sorted(file.stem for file in (ROOT / "engine" / "venues").glob("*.toml")))
def test_every_venue_s_rules_can_be_simulated(tmp_path, venue):
    """A crash under each preset: somebody is liquidated, everything is conserved, and no command is refused but
    those about an order that was taken between decision and arrival.

    Source: SIM-001, SIM-006, VENUE-001.
    """
    file, is_inverse = tmp_path / "market.toml", False
    linear = f'venue = "{venue}"\nsymbol = "X"\ntick_size = "0.1"\nlot_size = "0.001"\n'
    file.write_text(linear)
    try:
        market = load_market(file)
    except ConfigError:  # an inverse one: a lot at the highest default price would be worth nothing
        is_inverse = True
        sizes = 'tick_size = "0.5"\nlot_size = "1"\ncontract_size = "100"\nquote_unit = "0.00000001"\n'
        limits = 'price_max = "200000"\nopen_interest_max = "1000000"\n'
        file.write_text(f'venue = "{venue}"\nsymbol = "X"\n{sizes}{limits}')
        market = load_market(file)
    if market.mark_model == "recorded":
        market = change(market, mark_model="median3")
    unit = Decimal(600 if is_inverse else 1)
    agents = {name: {"size": size * unit, "limit": limit * unit} for name, size, limit in AGENTS}
    crowd = {"accounts": 200, "open_interest": 1_500 * unit}
    config = change(CRASH, duration="12s", index=Jump(at="3s", size=Decimal("-0.12"), over="4s"), crowd=crowd, **agents)
    summary = run_simulation(config, market, funds={market.fund or market.settle: 10**11}).summary
    assert summary["liquidations"] > 20
    assert summary["conserved"]
    assert set(summary["rejected_by"]) <= {"unknown_order"}


def test_funding_comes_by_the_clock():
    """A market that starts five seconds before an interval ends pays it, at the premium its book had.

    Source: SIM-001, FUND-015.
    """
    funding = {"model": "premium", "interval_h": 1, "sample_s": 1}
    market = change(MARKET, mark_model="index", funding=funding)
    config = change(CRASH, start="3595s", index=Walk(volatility=Decimal("0.6")))
    summary = run_simulation(config, market).summary
    assert summary["event_kinds"]["funding_rate"] == 1
    assert summary["event_kinds"]["funding_payment"] > 400
    assert summary["first_ns"] == 3_595_100_000_000


def test_a_run_can_be_stopped():
    """Source: SIM-009."""
    done = run_simulation(CRASH, MARKET, should_stop=lambda: True)
    assert done.summary["interrupted"]
    assert done.summary["conserved"]


def test_no_room_is_a_capacity_error():
    """What was applied before it is in the error's events, and the same market with more room goes on.

    Source: SIM-009.
    """
    with pytest.raises(CapacityError, match="orders_max") as refused:
        run_simulation(CONFIG, MARKET, capacity=Capacity(orders_max=100))
    assert len(refused.value.events) == 100
    roomy = run_simulation(CONFIG, MARKET)
    assert roomy.summary["rejected"] == 0


def test_only_the_compiled_engine_can_be_read():
    """Source: SIM-001."""
    from engine.sim import Simulator

    simulator, _ = open_simulation(CONFIG, MARKET)
    with pytest.raises(ConfigError, match="compiled"):
        Simulator(Exchange([MARKET], engine="reference"), simulator.desk)


def test_a_copy_goes_on_alike_and_alone():
    """Source: STATE-002, SIM-010."""
    simulator, _ = open_simulation(CRASH, MARKET, funds=FUND)
    for _ in simulator.advance(90):
        pass
    twin = simulator.copy()
    for _ in twin.advance(60):
        pass
    assert simulator.step == 90
    for _ in simulator.advance(60):
        pass
    assert twin.exchange.digest() == simulator.exchange.digest()
    assert twin.series.tobytes() == simulator.series.tobytes()


def test_the_loop_is_closed():
    """The same shock on the same crowd: where the book answers, more is liquidated and the price falls further.

    The other market has endless depth, and makers who do not mind what they hold.  Source: SIM-001.
    """
    endless = {
        "size": Decimal(500),
        "limit": Decimal(100_000),
        "capital": Decimal("0.5"),
        "skew": Decimal(0),
        "thin": Decimal(0),
        "widen": Decimal(0),
        "refill": "1ms",
    }
    stiff = run_simulation(change(CRASH, makers=endless), MARKET, funds=FUND).summary
    moved = crash().summary
    assert stiff["rejected"] == moved["rejected"] == 0
    assert stiff["liquidated_accounts"] > 50
    assert moved["liquidated_accounts"] > 1.2 * stiff["liquidated_accounts"]
    assert moved["liquidated_quote"] > 1.2 * stiff["liquidated_quote"]
    assert moved["markets"][0]["mark_low_tick"] < stiff["markets"][0]["mark_low_tick"] - 2_000
    assert stiff["adl_fills"] == 0
    series = crash().series
    fallen = series[(series["index_tick"] == 564_000) & (series["bid_tick"] > 0)]
    assert (fallen["fair_half"] < 2 * fallen["index_tick"]).all()  # makers who were sold to want less for it


def test_makers_stay_near_their_limit():
    """What would add to a position is smaller the larger it is, and nothing at the limit (SIM-005)."""
    config = change(CRASH, makers={"limit": Decimal(40)}, crowd={"open_interest": Decimal(10_000)})
    simulator, _ = open_simulation(config, MARKET, funds=FUND)
    most = 0
    for _ in range(20):
        for _ in simulator.advance(10):
            pass
        held = simulator.exchange.positions()
        row = simulator.desk.desk[0]
        mine = np.isin(held["account"], range(int(row["first_maker"]), int(row["first_noise"])))
        most = max(most, int(np.abs(held["qty_lot"][mine]).max(initial=0)))
    assert 20_000 < most <= 50_000  # quotes may hold a quarter more than is wanted


# ---------------------------------------------------------------- the shape

SWEEP = Decimal(2_000_000)


@cache
def shape(**changes):
    """Return the shape of the market, or of one that differs by these fields of these tables."""
    fields = {name: dict(values) for name, values in changes.items()}
    return measure_shape(change(CONFIG, **fields), MARKET, sweep=SWEEP, probes=2, watch="8s")


HOT = (("volatility", Decimal(6)),)
# what is changed, beside what, which fact, and whether it becomes larger
KNOBS = {
    "half_spread": ({"makers": (("half_spread", Decimal("0.0005")),)}, {}, ("spread_ppm", "mean"), True),
    "size": ({"makers": (("size", Decimal(2)),)}, {}, ("depth_lot", "bids", "0.5%"), True),
    "size, impact": ({"makers": (("size", Decimal(2)),)}, {}, ("sweep", "average_ppm"), False),
    "spacing": ({"makers": (("spacing", Decimal("0.0003")),)}, {}, ("depth_lot", "asks", "0.1%"), False),
    "growth": ({"makers": (("growth", Decimal("1.1")),)}, {}, ("depth_lot", "asks", "1%"), True),
    "levels": ({"makers": (("levels", 10),)}, {}, ("depth_lot", "asks", "5%"), False),
    "size_growth": ({"makers": (("size_growth", Decimal(1)),)}, {}, ("depth_lot", "bids", "5%"), False),
    "accounts": ({"makers": (("accounts", 16),)}, {}, ("depth_lot", "bids", "0.1%"), True),
    "refill": ({"makers": (("refill", "500ms"),)}, {}, ("sweep", "recovery_s"), False),
    "skew": ({"makers": (("skew", Decimal("0.04")),)}, {}, ("sweep", "fair_shift_ppm"), True),
    "volatility": ({"index": HOT}, {}, ("volatility",), True),
    "widen": (
        {"index": HOT, "makers": (("widen", Decimal(4)), ("thin", Decimal(0)))},
        {"index": HOT, "makers": (("widen", Decimal(0)), ("thin", Decimal(0)))},
        ("spread_ppm", "mean"),
        True,
    ),
    "thin": (
        {"index": HOT, "makers": (("widen", Decimal(0)), ("thin", Decimal(4)))},
        {"index": HOT, "makers": (("widen", Decimal(0)), ("thin", Decimal(0)))},
        ("depth_lot", "bids", "5%"),
        False,
    ),
    "calm": (
        {"index": HOT, "makers": (("calm", Decimal("0.05")),)},
        {"index": HOT},
        ("depth_lot", "bids", "0.5%"),
        True,
    ),
    "noise": ({"noise": (("rate", Decimal(100)),)}, {}, ("spread_ppm", "mean"), True),
    "momentum": (
        {"momentum": (("threshold", Decimal("0.0001")), ("rate", Decimal(40)), ("size", Decimal(1)))},
        {},
        ("volatility",),
        True,
    ),
}


@pytest.mark.parametrize("name", KNOBS)
def test_every_knob_moves_its_fact(name):
    """Source: SIM-004..SIM-008, SIM-010."""
    changed, beside, fact, is_larger = KNOBS[name]
    before, after = shape(**beside), shape(**changed)
    for key in fact:
        before, after = before[key], after[key]
    assert after > 1.2 * before if is_larger else before > 1.2 * after


def test_what_a_calm_market_measures():
    """Facts that follow from the configuration alone: a sweep moves the fair value by the skew of what makers got,
    half of the depth is back after about a half-life, and probes do not disturb the market.

    Source: SIM-010, SIM-005.
    """
    facts = shape()
    assert facts["steps"] == 200
    assert 100 <= facts["spread_ppm"]["p5"] <= facts["spread_ppm"]["mean"]  # two half-spreads, makers differ
    assert facts["one_sided_share"] == 0
    assert facts["sweep"]["filled"] == 1
    lots = 2_000_000 / 60_000 * 1_000
    assert facts["sweep"]["fair_shift_ppm"] == pytest.approx(0.01 * lots / (8 * 200_000) * 1e6, rel=0.02)
    assert 1 <= facts["sweep"]["recovery_s"] <= 4
    assert facts["sweep"]["worst_ppm"] > facts["sweep"]["average_ppm"] > 100
    bands = list(facts["depth_lot"]["bids"])
    assert bands == ["0.1%", "0.5%", "1%", "2%", "5%"]
    for side in ("bids", "asks"):
        assert sorted(facts["depth_lot"][side].values()) == list(facts["depth_lot"][side].values())
    assert measure_shape(CONFIG, MARKET, sweep=SWEEP, probes=1, watch="1s")["spread_ppm"] == facts["spread_ppm"]


def test_what_cannot_be_swept_or_watched():
    """A book too thin for the order is filled in part; nothing comes back in a step; a short run has no room.

    Source: SIM-010.
    """
    slow = change(CONFIG, makers={"refill": "2h"})
    facts = measure_shape(slow, MARKET, sweep=Decimal(10**9), probes=1, watch="500ms")
    assert 0 < facts["sweep"]["filled"] < 0.5
    assert facts["sweep"]["recovery_s"] is None
    with pytest.raises(ConfigError, match="too few"):
        measure_shape(change(CONFIG, duration="500ms"), MARKET, sweep=SWEEP, probes=5)


def test_momentum_takers_follow_and_go_home():
    """They buy a rise, up to their limit, and have nothing when it is over.

    Source: SIM-008.
    """
    config = change(
        CONFIG,
        duration="30s",
        index=Jump(at="5s", size=Decimal("0.02"), over="5s"),
        momentum={"lookback": "3s", "threshold": Decimal("0.003"), "rate": Decimal(100), "limit": Decimal(1)},
    )
    simulator, _ = open_simulation(config, MARKET)
    row = simulator.desk.desk[0]
    takers = range(int(row["first_momentum"]), int(row["first_momentum"] + row["momentum_takers"]))
    held = []
    for _ in range(3):
        for _ in simulator.advance(100):
            pass
        table = simulator.exchange.positions()
        held.append(int(table["qty_lot"][np.isin(table["account"], takers)].sum()))
    assert held == [len(takers) * 1_000, 0, 0]


def test_noise_takers_keep_their_limit_and_lean():
    """Source: SIM-007."""
    for lean, low, high in ((Decimal(0), 0.4, 0.6), (Decimal(1_000), 0, 0.1)):
        # makers at a price above the index: they hold a short position they are not rid of
        config = change(
            CONFIG,
            makers={"skew": Decimal(0)},
            noise={"lean": lean, "limit": Decimal(1), "rate": Decimal(200)},
            momentum={"accounts": 0},
        )
        simulator, _ = open_simulation(config, MARKET)
        for _ in simulator.advance(100):
            pass
        row = simulator.desk.desk[0]
        table = simulator.exchange.positions()
        mine = np.isin(table["account"], range(int(row["first_noise"]), int(row["first_momentum"])))
        assert np.abs(table["qty_lot"][mine]).max() <= 1_000
        simulator.desk.path[100:, 0] = 594_000  # the index falls; seen beside the middle of a moment before
        buys = orders = 0
        for rows, _ in simulator.advance(1):
            takers = rows[rows["order_id"] > 1 << 41]
            buys, orders = int((takers["side"] > 0).sum()), len(takers)
        assert orders > 5
        assert low <= buys / orders <= high


def test_agents_are_a_matter_of_taste():
    """A market of makers alone, or of takers alone, runs.

    Source: SIM-001.
    """
    makers = change(CONFIG, noise={"accounts": 0}, momentum={"accounts": 0}, index=Walk())
    summary = run_simulation(makers, MARKET).summary
    assert summary["trades"] == 0
    takers = change(CONFIG, makers={"accounts": 0})
    summary = run_simulation(takers, MARKET).summary
    assert summary["trades"] == 0  # nobody to trade with
    assert summary["rejected"] == 0
    assert summary["event_kinds"]["canceled"] > 10


def test_defaults_are_what_formats_says():
    """Source: SIM-001."""
    assert (Makers().accounts, NoiseTakers().accounts, MomentumTakers().accounts) == (8, 200, 20)


# ---------------------------------------------------------------- the verb


@pytest.fixture
def files(tmp_path):
    """Return a simulated market's file and its market's."""
    demo = (tmp_path / "simulated.toml", tmp_path / "market.toml")
    demo[0].write_text(
        GOOD
        + 'duration = "5s"\nindex = { kind = "jump", at = "2s", size = "-0.08" }\n[crowd]\nseed = 7\naccounts = 300\n'
        'open_interest = "900"\nleverage = { median = "10", sigma = "0.8", max = 100 }\n'
    )
    demo[1].write_text(
        'symbol = "BTCUSDT"\ntick_size = "0.1"\nlot_size = "0.001"\nmark_model = "median3"\n'
        'tiers = [{ floor = "0", initial = "0.008", maintenance = "0.004" }]\n'
    )
    return [str(file) for file in demo]


def test_the_verb_runs_and_keeps(files, tmp_path, capsys):
    """Source: SIM-009, CLI-001."""
    simulated, market = files
    given = ["sim", simulated, "--market", market, "--fund", "100000"]
    assert main([*given, "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["conserved"]
    assert summary["liquidations"] > 0
    assert summary["fund_start_quote"] == 100_000 * 10**6
    assert main([*given, "--out", str(tmp_path / "run")]) == 0
    assert summary["verdict"].split()[0] in capsys.readouterr().out
    with np.load(tmp_path / "run" / "market.npz") as kept:
        exchange = Exchange([msgspec.convert(summary["parameters"]["market"], Market)])
        exchange.apply(kept["commands"])
        assert exchange.digest() == summary["digest"]
        assert len(kept["series"]) == summary["steps"]
    with np.load(tmp_path / "run" / "events.npz") as kept:
        assert len(kept["events"]) == summary["events"]
        assert not (kept["events"]["kind"] == REJECTED).any()
    assert main([*given, "--out", str(tmp_path / "run"), "--events", "none", "--seed", "9"]) == 0


def test_the_readme_quotes_what_the_example_prints(capsys):
    """Source: SIM-009."""
    given = ["sim", str(EXAMPLE / "simulated.toml"), "--market", str(EXAMPLE / "market.toml"), "--fund", "1000000"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    found = {}
    for model in ("median3", "last"):
        config, market = load_simulated(given[1]), change(load_market(given[3]), mark_model=model)
        found[model] = run_simulation(config, market, funds=FUND).summary
    assert main(given) == 0
    assert capsys.readouterr().out.splitlines()[0] in readme
    accounts = [found[model]["liquidated_accounts"] for model in ("last", "median3")]
    assert "liquidate {} accounts instead of {}".format(*accounts) in readme.replace("\n", " ")
    assert found["last"]["adl_fills"] > 0


def test_the_verb_measures(files, capsys):
    """Source: SIM-010."""
    simulated, market = files
    given = ["sim", simulated, "--market", market, "--shape", "100000", "--probes", "1"]
    assert main([*given, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["schema"] == 1
    assert facts["sweep"]["filled"] > 0
    assert main(given) == 0
    assert "recovery s" in capsys.readouterr().out


def test_the_verb_refuses(files, capsys):
    """Source: CLI-002."""
    simulated, market = files
    given = ["sim", simulated, "--market", market]
    for more, what in ((["--seed", "-1"], "--seed"), (["--shape", "0"], "--shape"), (["--shape", "x"], "--shape")):
        assert main([*given, *more]) == 5
        assert what in capsys.readouterr().err
