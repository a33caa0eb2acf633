"""Twins of a market: numbers worked by hand, the demo through every kind of fork, and what must be refused."""

import csv
import io
import json
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from engine import commands
from engine.cli import main
from engine.codes import BUY, SELL
from engine.commands import to_rows
from engine.contract import load_market
from engine.errors import ConfigError, InvariantError
from engine.exchange import Exchange
from engine.feeds import open_feed
from engine.replay import Plan, run_replay
from engine.scenario import load_population, load_shock, load_simulated
from engine.sim import run_simulation
from engine.twin import compare_replay, compare_simulation, compose_accounts, compose_page, list_policies, parse_fork
from engine.twin.equity import OWNERS, check_differences, measure_holdings
from tests.mirror.pair import make_market

DEMO = Path(__file__).resolve().parents[2] / "replay_data" / "synthetic_btc"


class ListFeed:
    """A tape of a few commands."""

    def __init__(self, market, sent):
        self.symbols, self.counts = (market.symbol,), {}
        self.rows = to_rows(sent, {market.symbol: 0})

    def chunks(self, rows=65_536):
        for start in range(0, len(self.rows), rows):
            yield self.rows[start : start + rows]


def make_plan(engine="compiled", **changes):
    """Return a plan in unit sizes: a long of 100 at 1,000 with 6,000, a short of as many, 40 bid for at 930."""
    market = make_market(initial_mark=Decimal(1_000), liquidation_collar=Decimal("0.5"), **changes)
    sent = [
        commands.Deposit(ts_ns=1, account=3, amount_quote=500),
        commands.Assign(ts_ns=2, account=1, side="buy", qty_lot=100, price_tick=1_000, amount_quote=6_000),
        commands.Assign(ts_ns=3, account=2, side="sell", qty_lot=100, price_tick=1_000, amount_quote=20_000),
        commands.Level(ts_ns=4, side="bid", price_tick=930, qty_lot=40),
        commands.Mark(ts_ns=5, price_tick=935),
        commands.Mark(ts_ns=6, price_tick=920),
    ]
    return Plan(markets=[market], feed=ListFeed(market, sent), funds={"USDT": 100}, engine=engine)


def write(folder, name, text):
    path = folder / f"{name}.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("engine", ["compiled", "reference"])
def test_a_larger_fund_by_hand(tmp_path, engine):
    """Who gains from a fund of 1,100 instead of 100, to the unit.

    At 935 the long has 6,000 - 6,500 = -500: B of its 100 lots is 93,500 + 500 = 94,000, 940 a lot. The book pays 930:
    10 a lot are missing. A fund of 100 pays for 10 lots; 90 are closed against the other at 940, which costs it 5 a
    lot against the mark: 450. A fund of 1,100 pays 400 for all 40 lots the book has; 60 are closed against it: 300.
    Afterwards it holds 10 lots short, or 40, and the mark falls by 15: it gains 150, or 600.

    Source: TWIN-004, TWIN-005, TWIN-007, TWIN-008.
    """
    plan = make_plan(engine)
    policies = list_policies([write(tmp_path, "rich", 'fund_deposit = { USDT = "1000" }')], plan.markets)
    twins = compare_replay(plan, policies, parse_fork(["adl_started"]))
    poor, rich = twins.summary["policies"]
    assert twins.summary["fork"] == {"at": "adl_started", "seq": 6, "ts_ns": 5}
    assert (poor["name"], rich["name"]) == ("market", "rich")
    assert [row["paid_by_fund_quote"] for row in (poor, rich)] == [100, 400]
    assert [row["paid_by_adl_quote"] for row in (poor, rich)] == [450, 300]
    assert [row["fund_low_quote"] for row in (poor, rich)] == [0, 700]
    assert twins.accounts.tolist() == [1, 2, 3]
    short = 20_000 + 65 * 100
    assert twins.equity_quote.tolist() == [[0, 0], [short - 450 + 150, short - 300 + 600], [500, 500]]
    assert rich["totals_quote"]["accounts"] - poor["totals_quote"]["accounts"] == 600
    # the outside bought 10 lots or 40 at 930, and has lost 10 on each at 920
    assert rich["difference_quote"] | {"accounts": 600, "funds": 700, "outside": -300} == rich["difference_quote"]
    assert rich["difference_quote"]["paid_in"] == 1_000
    assert (rich["accounts_gain"], rich["accounts_lose"], rich["gained_quote"]) == (1, 0, 600)
    assert rich["largest"] == [{"account": 2, "equity_quote": short + 300, "difference_quote": 600}]
    page = compose_page(twins)
    assert "differences against market, to the unit" in page
    rows = list(csv.DictReader(io.StringIO(compose_accounts(twins))))
    assert [row["difference rich"] for row in rows] == ["0", "600", "0"]
    assert [row["met market"] for row in rows] == ["liquidated", "deleveraged", ""]


def test_both_engines_tell_the_same(tmp_path):
    """Every number, digests included, is the same by either engine.

    Source: TWIN-004, STATE-003.
    """
    text = '[adl]\ntrigger = "drawdown"\ndrawdown = "0.1"\nrelease = "0.1"\n'
    text += '[liquidation]\nbackstop = "takeover"\nunwind = "immediate"\n'
    found = []
    for engine in ("compiled", "reference"):
        plan = make_plan(engine)
        policies = list_policies([write(tmp_path, "other", text)], plan.markets)
        summary = compare_replay(plan, policies, parse_fork(["seq", "5"])).summary
        found.append({name: value for name, value in summary.items() if name != "engine"})
    assert found[0] == found[1]
    assert found[0]["policies"][0]["digest"] != found[0]["policies"][1]["digest"]


def test_tiers_change_at_the_fork(tmp_path):
    """A policy puts another tier table in force: at 30 percent the long's 6,000 are too little at once, at the fork.

    Source: TWIN-005.
    """
    from engine.contract import Tier

    strict = (Tier(floor=Decimal(0), initial=Decimal("0.5"), maintenance=Decimal("0.3")),)
    plan = make_plan(tier_tables=(strict,))
    policies = list_policies([write(tmp_path, "strict", "tier_table = 1")], plan.markets)
    loose, tight = compare_replay(plan, policies, parse_fork(["seq", "5"])).summary["policies"]
    assert (loose["first_liquidation_ns"], tight["first_liquidation_ns"]) == (5, 3)
    with pytest.raises(ConfigError, match="tier_table: expected 0 to 1, got 2"):
        list_policies([write(tmp_path, "none", "tier_table = 2")], plan.markets)


@pytest.mark.parametrize(
    "fork", [["start"], ["seq", "3"], ["time", "5"], ["time", "0.000000004"], ["liquidation_started"]]
)
def test_the_same_policy_is_no_difference(tmp_path, fork):
    """Wherever it is forked, the market as it is ends where a replay ends, and a policy of nothing changes nothing.

    Source: TWIN-004, TWIN-006.
    """
    plan = make_plan()
    if fork == ["time", "5"]:
        fork = ["time", "0.000000001"]
    policies = list_policies([write(tmp_path, "nothing", "")], plan.markets)
    twins = compare_replay(plan, policies, parse_fork(fork))
    want = run_replay(plan).summary["digest"]
    assert [row["digest"] for row in twins.summary["policies"]] == [want, want]
    assert not np.diff(twins.equity_quote, axis=1).any()
    assert "no account ends with more or less" in compose_page(twins)


@pytest.mark.parametrize(
    "place", [["adl_started"], ["time", "20s"], ["time", "2025-03-03T07:59:40Z"], ["seq", "50000"]]
)
def test_the_demo_forked(tmp_path, place):
    """The demo goes on as it would have, beside a venue's policy; all differences add up to nothing.

    Source: TWIN-004, TWIN-006, TWIN-008.
    """
    market = load_market(DEMO / "market.toml")
    plan = Plan(
        markets=[market],
        feed=open_feed([DEMO], [market]),
        populations=[load_population(DEMO / "population.toml")],
        shock=load_shock(DEMO / "shock.toml"),
        funds={"USDT": 10**12},
        sample_ns=0,
    )
    text = '[adl]\nallocation = "pro_rata_pnl"\n[liquidation]\nshortfall = "refuse"\nfund_loss_max = "5000"\n'
    twins = compare_replay(plan, list_policies([write(tmp_path, "other", text)], [market]), parse_fork(place))
    same, other = twins.summary["policies"]
    assert same["digest"] == "e5fcba8d194b4d0aeeb590411189227c"
    assert other["digest"] != same["digest"]
    difference = other["difference_quote"]
    assert sum(difference[name] for name in OWNERS) == 0 == difference["paid_in"]
    assert difference["accounts"] == int(np.diff(twins.equity_quote, axis=1).sum())
    assert other["gained_quote"] - other["lost_quote"] == difference["accounts"]
    at = {row["account"]: row["difference_quote"] for row in other["largest"]}
    index = {account: place for place, account in enumerate(twins.accounts.tolist())}
    assert all(
        twins.equity_quote[index[account], 1] - twins.equity_quote[index[account], 0] == gain
        for account, gain in at.items()
    )


def test_equities_of_an_inverse_market():
    """Values are rounded one by one, and what that makes is said and counted.

    Source: TWIN-008, INV-001.
    """
    market = make_market(
        kind="inverse", lot_size=Decimal(50_000), price_max=Decimal(40_000), initial_mark=Decimal(30_000)
    )
    exchange = Exchange([market])
    sides = ((1, BUY, 1), (2, BUY, 1), (3, SELL, 7))
    sent = [
        commands.Assign(
            account=account, side="buy" if side == BUY else "sell", qty_lot=lots, price_tick=20_000, amount_quote=900
        )
        for account, side, lots in sides
    ]
    exchange.apply(sent)
    held = measure_holdings(exchange)
    # a lot is worth 50,000 / 30,000 = 1.67: one rounds to 2, seven, 11.67, to 12, and the outside's five, 8.33, to 8
    assert held.totals["valuation"] == -2 - 2 + 12 - 8
    assert sum(held.totals[name] for name in OWNERS) == held.totals["paid_in"] + held.totals["valuation"]


def test_differences_that_do_not_add_up():
    """One unit that nobody lost is found.

    Source: TWIN-008.
    """
    exchange = Exchange([make_market(initial_mark=Decimal(100))])
    exchange.apply([commands.Deposit(account=1, amount_quote=50)])
    held = [measure_holdings(exchange)] * 2
    check_differences(held, np.zeros((1, 2), np.int64))
    with pytest.raises(InvariantError, match="the differences do not add up: accounts 1, others 0, paid in 0"):
        check_differences(held, np.array([[0, 1]], np.int64))


# ---------------------------------------------------------------- simulated markets

SIM = """
seed = 7
price = "60000"
duration = "12s"
index = { kind = "jump", at = "5s", size = "-0.06", over = "2s" }
[crowd]
seed = 5
accounts = 300
open_interest = "1500"
leverage = { median = "12", sigma = "0.7", max = 50 }
long_share = "0.7"
"""
SIM_MARKET = """
symbol = "BTCUSDT"
tick_size = "0.1"
lot_size = "0.001"
price_max = "250000"
mark_model = "last"
tiers = [{ floor = "0", initial = "0.01", maintenance = "0.005" }]
"""


@pytest.mark.parametrize("place", [["start"], ["liquidation_started"], ["seq", "2500"], ["time", "5.5s"]])
def test_simulated_markets_fork(tmp_path, place):
    """Makers and takers fork with the market: unchanged it goes on as it would have, changed they answer to that.

    Source: TWIN-004, TWIN-006, TWIN-008.
    """
    market = load_market(write(tmp_path, "market", SIM_MARKET))
    config = load_simulated(write(tmp_path, "sim", SIM))
    policies = list_policies([write(tmp_path, "narrow", 'liquidation_collar = "0.001"')], [market])
    twins = compare_simulation(config, market, policies, parse_fork(place), funds={"USDT": 10**9})
    want = run_simulation(config, market, funds={"USDT": 10**9}).summary
    same, other = twins.summary["policies"]
    assert same["digest"] == want["digest"]
    assert same["commands"] == want["commands"]
    assert other["digest"] != same["digest"]
    assert sum(other["difference_quote"][name] for name in OWNERS) == 0
    series = [branch.simulator.series for branch in twins.branches]
    assert (series[0]["maker_lot"] != series[1]["maker_lot"]).any()


def test_no_fork_in_the_opening(tmp_path):
    """Source: TWIN-006."""
    market, config = load_market(write(tmp_path, "market", SIM_MARKET)), load_simulated(write(tmp_path, "sim", SIM))
    policies = list_policies([Path("market"), write(tmp_path, "other", "")], [market])
    with pytest.raises(ConfigError, match="that is in the opening"):
        compare_simulation(config, market, policies, parse_fork(["seq", "9"]))
    for place in (["time", "13s"], ["seq", "99999999"], ["haircut"]):
        with pytest.raises(ConfigError, match="the market has no such place"):
            compare_simulation(config, market, policies, parse_fork(place), funds={"USDT": 10**18})


# ---------------------------------------------------------------- files and the command line


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tick_size = '1'", "unknown field `tick_size`"),
        ("default_leverage = 5", "unknown field `default_leverage`"),
        ("[adl]\nscore = 'best'", "adl.score: unknown policy 'best', known: bitmex"),
        ("[adl]\nscoring = 'bitmex'", "unknown field `scoring`"),
        ("[liquidation]\nshare = 2", "liquidation.share: expected 0.01 to 1"),
        ("[markets.ETH]\ntaker_fee = '0'", "markets: unknown symbol 'ETH', known: M"),
        ("fund_deposit = { EUR = 5 }", "unknown fund 'EUR', known: USDT"),
        ("venue = 'mtgox'", "unknown venue 'mtgox'"),
        ("= 1", "not valid TOML"),
    ],
)
def test_policy_files_are_refused_in_one_line(tmp_path, text, words):
    """Source: TWIN-005, TWIN-001, CFG-001, CFG-002."""
    with pytest.raises(ConfigError) as error:
        list_policies([write(tmp_path, "bad", text)], [make_market()])
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_policy_files_are_read(tmp_path):
    """One market's part lies over that of all, and the file over its venue.

    Source: TWIN-005, VENUE-001.
    """
    text = 'venue = "bitmex"\ntaker_fee = "0.001"\n[adl]\nscore = "kucoin"\n[markets.B]\ntaker_fee = "0.002"\n'
    markets = [make_market("A"), make_market("B", adl=make_market().adl)]
    (base, policy) = list_policies([write(tmp_path, "mixed", text)], markets)
    assert base.markets == tuple(markets)
    assert [market.taker_fee for market in policy.markets] == [Decimal("0.001"), Decimal("0.002")]
    assert {market.adl.score for market in policy.markets} == {"kucoin"}
    assert policy.markets[0].tiers == markets[0].tiers
    with pytest.raises(ConfigError, match="expected files of different names"):
        list_policies([tmp_path / "mixed.toml", tmp_path / "mixed.toml"], markets)


@pytest.mark.parametrize(
    "words", [["soon"], ["seq"], ["seq", "0"], ["seq", "x"], ["time", "later"], ["time", "2025-13-01T00:00:00"]]
)
def test_places_that_are_none(words):
    """Source: TWIN-006."""
    with pytest.raises(ConfigError, match="--fork-at " + " ".join(words)):
        parse_fork(words)


def test_a_place_that_does_not_come(tmp_path):
    """Source: TWIN-006."""
    plan = make_plan()
    policies = list_policies([write(tmp_path, "nothing", "")], plan.markets)
    with pytest.raises(ConfigError, match="--fork-at seq 900: the tape has no such place in 7 commands"):
        compare_replay(plan, policies, parse_fork(["seq", "900"]))
    with pytest.raises(ConfigError, match="no such place"):
        compare_replay(plan, policies, parse_fork(["haircut"]))


def test_who_interrupts_before_the_fork_gets_nothing(tmp_path):
    """Behind it, what there is is told and said to be unfinished.

    Source: TWIN-006, CLI-002.
    """
    plan = make_plan()
    policies = list_policies([write(tmp_path, "nothing", "")], plan.markets)
    with pytest.raises(KeyboardInterrupt):
        compare_replay(plan, policies, parse_fork(["haircut"]), should_stop=lambda: True)
    twins = compare_replay(plan, policies, parse_fork(["start"]), should_stop=lambda: True)
    assert twins.summary["interrupted"]
    assert "Interrupted: what follows" in compose_page(twins)


def test_compare_on_the_command_line(tmp_path, capsys):
    """One object with --json, a run directory with every account, the page without.

    Source: TWIN-004, TWIN-007, CLI-002.
    """
    policy = write(tmp_path, "venue", 'venue = "bybit-linear"\n')
    out = tmp_path / "out"
    words = ["compare", str(DEMO), "--market", str(DEMO / "market.toml"), "--population", str(DEMO / "population.toml")]
    words += [
        "--shock",
        str(DEMO / "shock.toml"),
        "--fund",
        "1000000",
        "--policy",
        str(policy),
        "--fork-at",
        "adl_started",
    ]
    assert main([*words, "--out", str(out), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary == json.loads((out / "summary.json").read_text())
    assert [row["name"] for row in summary["policies"]] == ["market", "venue"]
    assert summary["policies"][1]["sha256"]
    rows = list(csv.DictReader(io.StringIO((out / "accounts.csv").read_text())))
    assert len(rows) == summary["accounts"]
    gained = sum(Decimal(row["difference venue"]) for row in rows)
    assert gained == summary["policies"][1]["difference_quote"]["accounts"] * Decimal("0.000001")
    assert sorted(path.name for path in out.iterdir()) == ["accounts.csv", "report.txt", "summary.json"]
    assert "side by side (USDT)" in (out / "report.txt").read_text()
    assert main(["compare", "--market", str(DEMO / "market.toml"), "--policy", str(policy)]) == 5
    assert "expected a tape or --sim" in capsys.readouterr().err


def test_compare_a_simulated_market_on_the_command_line(tmp_path, capsys):
    """Source: TWIN-004, CLI-002."""
    words = [
        "compare",
        "--sim",
        str(write(tmp_path, "sim", SIM)),
        "--market",
        str(write(tmp_path, "market", SIM_MARKET)),
    ]
    words += ["--fund", "1000", "--policy", str(write(tmp_path, "house", '[liquidation]\nbackstop = "vault"\n'))]
    assert main(words) == 0
    assert "house against market" in capsys.readouterr().out
    assert main([*words, "--until-seq", "9"]) == 5
    assert "expected no --shock" in capsys.readouterr().err
