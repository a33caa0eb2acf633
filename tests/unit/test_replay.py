"""The runner's numbers against plain loops over the same events, and the plans it understands."""

from decimal import Decimal

import msgspec
import numpy as np
import pytest

from engine import Exchange
from engine.codes import ACCEPTED, ASSIGN, EVENT_NAMES, FUND_DEPOSIT, INDEX, LEVEL, MARK, PRINT
from engine.contract import Market, Tier
from engine.errors import ConfigError, InvariantError
from engine.feeds.merge import build_commands
from engine.layout import COMMAND, EVENT
from engine.replay import Plan, build_opening, count_fund, run_replay
from engine.replay.tally import Tally
from engine.report import compose_report, compose_verdict
from engine.scenario import Population
from engine.scenario.population import LeverageShare
from engine.scenario.shock import Point, Shock

UNIT = 10**6
START_NS = 10**18


def make_market(symbol="BTCUSDT", **changes):
    tiers = (Tier(floor=Decimal(0), initial=Decimal("0.01"), maintenance=Decimal("0.005")),)
    settings = {"tick_size": Decimal("0.1"), "lot_size": Decimal("0.001"), "price_max": Decimal(100_000)}
    return Market(symbol=symbol, **settings, tiers=tiers, **changes)


class MadeFeed:
    """A tape from a list of commands."""

    def __init__(self, markets, rows):
        self.symbols, self.counts, self.rows = tuple(market.symbol for market in markets), {}, rows

    def chunks(self, rows=65_536):
        for start in range(0, len(self.rows), rows):
            yield self.rows[start : start + rows].copy()


def make_tape(markets, seconds=40):
    """Return a feed: a thin book on both sides and a mark every quarter of a second, around 60,000."""
    parts = []
    for index in range(len(markets)):
        before = []
        for step in range(4 * seconds):
            ts_ns = np.full(1, START_NS + step * 250_000_000)
            middle = 600_000 + 10 * (step % 7)
            parts += [build_commands(LEVEL, index, ts_ns, side, price, 0) for side, price in before]
            before = [(side, middle - side * 50 * depth) for side in (1, -1) for depth in range(1, 40)]
            parts += [build_commands(LEVEL, index, ts_ns, side, price, 40 + step % 9) for side, price in before]
            parts.append(build_commands(MARK, index, ts_ns, 0, middle, 0))
    rows = np.concatenate(parts)
    return MadeFeed(markets, rows[np.argsort(rows["ts_ns"], kind="stable")])


def make_plan(fund=20_000 * UNIT, markets=1, **changes):
    """Return a plan that ends in ADL: eighty accounts, a fall of a fifth within ten seconds."""
    names = [f"M{index}" for index in range(markets)]
    many = [make_market(name) for name in names]
    crowd = Population(
        seed=9,
        accounts=80,
        open_interest=Decimal(200),
        long_share=Decimal("0.6"),
        isolated_share=Decimal("0.5"),
        entry_spread=Decimal("0.002"),
        leverage=(LeverageShare(leverage=20, weight=Decimal(1)), LeverageShare(leverage=80, weight=Decimal(1))),
    )
    shock = Shock(price=(Point(t="2s", factor=Decimal(1)), Point(t="12s", factor=Decimal("0.8"))))
    settings = {
        "markets": many,
        "feed": make_tape(many),
        "populations": [crowd] * markets,
        "shock": shock,
        "funds": {"USDT": fund},
    }
    return Plan(**(settings | changes))


@pytest.fixture(scope="module")
def crash(tmp_path_factory):
    """Run the plan over two markets that share a fund; return (run, events)."""
    out = tmp_path_factory.mktemp("crash") / "run"
    run = run_replay(make_plan(markets=2), out=out)
    with np.load(out / "events.npz") as found:
        return run, found["events"]


def of(events, name):
    """Return the events of one kind as dicts."""
    kind = next(kind for kind, known in EVENT_NAMES.items() if known == name)
    return [dict(zip(EVENT.names, row, strict=True)) for row in events[events["kind"] == kind].tolist()]


def test_sums_equal_plain_loops(crash):
    """Every sum of the summary, counted again one event at a time.

    Source: CLI-001, DEF-001, ADL-006.
    """
    run, events = crash
    summary = run.summary
    multiplier = run.exchange.setup.markets[0].multiplier
    fills, closes, takeovers = (of(events, name) for name in ("liquidation_fill", "adl_fill", "takeover"))
    deficits = of(events, "deficit")
    assert fills
    assert closes
    assert deficits
    book = sum(row["price_tick"] * row["qty_lot"] * multiplier for row in fills)
    adl = sum(abs(row["amount_quote"]) for row in closes)
    taken = sum(row["price_tick"] * row["qty_lot"] * multiplier for row in takeovers)
    assert summary["liquidated_quote"] == book + adl + taken
    assert (summary["liquidated_book_quote"], summary["adl_notional_quote"]) == (book, adl)
    assert summary["liquidated_long_quote"] + summary["liquidated_short_quote"] == summary["liquidated_quote"]
    keys = ("deficit_quote", "paid_by_fund_quote", "paid_by_adl_quote", "paid_by_haircut_quote", "unpaid_quote")
    names = ("amount_quote", "other_amount_quote", "fee_quote", "margin_quote", "other_margin_quote")
    for key, name in zip(keys, names, strict=True):
        assert summary[key] == sum(row[name] for row in deficits), key
    assert summary["adl_victims"] == len({row["other"] for row in closes})
    assert summary["liquidations"] == len(of(events, "liquidation_started"))
    assert summary["haircut_quote"] == sum(row["amount_quote"] for row in of(events, "haircut"))
    assert summary["waived_fees_quote"] == sum(row["fee_quote"] for row in of(events, "liquidation_ended"))
    assert summary["events"] == len(events)


def test_the_path_of_the_fund(crash):
    """Its low is the lowest balance on the way, its end the state's (FUND-002)."""
    run, events = crash
    balance = low = run.summary["fund_start_quote"]
    for row in events[np.isin(events["kind"], (12, 13))].tolist():
        event = dict(zip(EVENT.names, row, strict=True))
        balance += event["amount_quote"] if event["kind"] == 12 else -event["amount_quote"]
        low = min(low, balance)
    assert (run.summary["fund_low_quote"], run.summary["fund_end_quote"]) == (low, balance)
    assert run.exchange.funds()["balance_quote"].tolist() == [balance]
    assert run.summary["funds"] == [
        {"name": "USDT", "start_quote": 20_000 * UNIT, "low_quote": low, "end_quote": balance}
    ]


def test_the_worst_are_the_worst(crash):
    """The ten largest deficits and ADL losses, and the fill furthest past bankruptcy.

    Source: ADL-006, LIQ-007.
    """
    run, events = crash
    multiplier = run.exchange.setup.markets[0].multiplier
    deficits = sorted(of(events, "deficit"), key=lambda row: -row["amount_quote"])[:10]
    assert [row["id"] for row in run.summary["deficits_top"]] == [row["order_id"] for row in deficits]
    losses = []
    for row in of(events, "adl_fill"):
        mark_value = row["mark_tick"] * row["qty_lot"] * multiplier
        # A bankrupt long sells: whoever buys above the mark loses.  A bankrupt short buys: who sells below it loses.
        sells = row["side"] < 0
        losses.append(row["amount_quote"] - mark_value if sells else row["amount_quote"] + mark_value)
    assert [row["loss_quote"] for row in run.summary["adl_top"]] == sorted(losses, reverse=True)[:10]
    assert run.summary["paid_by_adl_quote"] == sum(loss for loss in losses if loss > 0)
    assert run.summary["adl_gain_quote"] == -sum(loss for loss in losses if loss < 0)
    past = [
        (row["bankruptcy_tick"] - row["price_tick"]) * -row["side"] * 10**6 // row["bankruptcy_tick"]
        for row in of(events, "liquidation_fill")
        if row["amount_quote"] < 0
    ]
    assert run.summary["worst_slippage"]["ppm"] == max(past)


def test_accounts_of_two_markets_are_the_same_people(crash):
    """Drawn populations number their accounts alike: eighty people hold positions in both markets."""
    run, events = crash
    assigned = [row for row in of(events, "accepted") if row["code"] == ASSIGN]
    assert len(assigned) == 160
    assert len({row["account"] for row in assigned}) == 80
    assert [market["symbol"] for market in run.summary["markets"]] == ["M0", "M1"]


def test_the_page_adds_up(crash):
    run, _ = crash
    page = compose_report(run.summary, is_timed=True)
    assert page.startswith(run.summary["verdict"][:60])
    assert "conserved: wallets + margins" in page
    assert "commands/s" in page.splitlines()[-1]
    assert not [line for line in page.splitlines() if len(line) > 120]


def test_chunks_do_not_matter(monkeypatch):
    """A run checked after every 97 commands has the numbers of one checked once (STATE-003)."""
    plan = make_plan(until_seq=6_000)
    whole = run_replay(plan).summary
    monkeypatch.setattr("engine.replay.runner.CHUNK", 97)
    cut = run_replay(plan).summary
    assert cut["checks"] > 60
    same = set(whole) - {"checks", "seconds", "engine_seconds", "events_per_s", "commands_per_s"}
    assert {key: whole[key] for key in same} == {key: cut[key] for key in same}


# ---------------------------------------------------------------- openings


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        ("recorded", MARK),
        ("index", INDEX),
        ("last", PRINT),
        ("median3", INDEX),
        ("ema_basis", INDEX),
    ],
)
def test_the_first_mark_comes_as_the_model_listens(model, kind):
    """Whatever makes the mark, it stands before the population (POP-001, STEP-002)."""
    plan = make_plan()
    market = msgspec.structs.replace(plan.markets[0], mark_model=model)
    exchange = Exchange([market], engine="reference")
    changed = make_plan(feed=plan.feed)
    changed = Plan(markets=[market], feed=plan.feed, populations=changed.populations, funds=changed.funds)
    opening, _ = build_opening(changed, plan.feed, exchange.setup, START_NS)
    assert opening["kind"][:2].tolist() == [kind, FUND_DEPOSIT]
    assert set(opening["ts_ns"].tolist()) == {START_NS}
    events = exchange.apply(opening)
    assert set(events["kind"].tolist()) <= {ACCEPTED, 6}
    assert np.asarray(exchange.view().markets)[0, 0] == 600_000


def test_an_initial_mark_needs_no_other():
    plan = make_plan(populations=())
    market = msgspec.structs.replace(plan.markets[0], initial_mark=Decimal(59_000))
    changed = Plan(markets=[market], feed=plan.feed)
    opening, _ = build_opening(changed, plan.feed, Exchange([market]).setup, START_NS)
    assert not len(opening)


def test_a_population_needs_a_mark():
    market = make_market("M0")
    rows = build_commands(LEVEL, 0, np.full(3, START_NS), 1, 600_000, 5)
    plan = make_plan(markets=1, feed=MadeFeed([market], rows), shock=None)
    with pytest.raises(ConfigError, match="M0 has no mark on the tape"):
        run_replay(plan)


def test_an_empty_tape_is_refused():
    plan = make_plan(feed=MadeFeed([make_market("M0")], np.zeros(0, COMMAND)), shock=None)
    with pytest.raises(Exception, match="expected at least one command"):
        run_replay(plan)


def test_assets_do_not_mix():
    markets = [make_market("A"), make_market("B", settle="USDC")]
    with pytest.raises(ConfigError, match="settle in one asset, got USDT, USDC"):
        run_replay(Plan(markets=markets, feed=make_tape(markets[:1], 1)))


def test_several_funds():
    """Each market's fund by its name; one that is not named stays empty (FUND-002)."""
    markets = [make_market("A", fund="one"), make_market("B", fund="two")]
    assert count_fund("one=2.5", markets) == {"one": 2_500_000}
    with pytest.raises(ConfigError, match="expected NAME=AMOUNT, the markets have the funds one, two"):
        count_fund("2.5", markets)
    run = run_replay(Plan(markets=markets, feed=make_tape(markets, 1), funds=count_fund("two=7", markets)))
    assert run.summary["fund_start_quote"] == 7 * UNIT
    assert [fund["end_quote"] for fund in run.summary["funds"]] == [0, 7 * UNIT]
    with pytest.raises(ConfigError, match="unknown fund 'three'"):
        run_replay(Plan(markets=markets, feed=make_tape(markets, 1), funds={"three": 1}))


# ---------------------------------------------------------------- what must not pass


def test_a_deficit_that_does_not_add_up():
    """Source: EVT-002."""
    events = np.zeros(1, EVENT)
    events["kind"], events["amount_quote"], events["other_amount_quote"] = 14, 10, 9
    with pytest.raises(InvariantError, match="its payers gave another sum"):
        Tally(Exchange([make_market()]).setup).fold(events)


def test_events_that_differ_from_the_state():
    """Source: MONEY-002."""
    exchange = Exchange([make_market()], engine="reference")
    events = np.zeros(1, EVENT)
    events["kind"], events["amount_quote"] = 12, 10
    tally = Tally(exchange.setup)
    tally.fold(events)
    with pytest.raises(InvariantError, match="the funds are"):
        tally.check(exchange.view())


def test_verdicts():
    """One sentence for each way it can end; the worst is said first (CLI-001)."""
    summary = run_replay(make_plan(until_seq=500)).summary
    assert compose_verdict(summary) == "Nobody was liquidated; the fund: low 20,000.00 of 20,000.00 USDT."
    bad = {**summary, "liquidations": 3, "fund_dry_ns": START_NS, "deficit_quote": 50 * UNIT, "adl_victims": 1}
    assert compose_verdict(bad).startswith(
        "The fund of 20,000.00 USDT ran dry at 2001-09-09 01:46:40.000 UTC (0.0 s in)"
    )
    assert "ADL of 1 account 0.00" in compose_verdict(bad)
    assert compose_verdict({**bad, "fund_start_quote": 0}).startswith("There was no fund: of 50.00 USDT deficit")
    assert compose_verdict({**bad, "unpaid_quote": 7}).startswith("The exchange is insolvent by 0.000007 USDT")
    assert compose_verdict({**bad, "interrupted": True}).startswith("Interrupted; so far: ")
    saved = {**bad, "fund_dry_ns": None}
    assert compose_verdict(saved).startswith("The fund survived: low 20,000.00 of 20,000.00 USDT; it paid 0.00")
    assert "but the book ran out" in compose_verdict({**saved, "adl_fills": 2})
    assert compose_verdict({**bad, "fault": "a balance is off"}) == "The run broke off: a balance is off."
