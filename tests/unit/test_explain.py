"""One account's story: by hand, on the demo beside what the engine itself says, and what is refused."""

import json
from decimal import Decimal

import numpy as np
import pytest

from engine import commands
from engine.cli import main
from engine.contract import load_market
from engine.errors import DataError
from engine.exchange import Exchange
from engine.explain import compose_story, explain_account
from engine.feeds import open_feed
from engine.replay import Plan, run_replay
from engine.scenario import load_population, load_shock
from engine.signs import SECOND_NS, SIGNS, Sampler
from engine.sim import run_simulation
from tests.unit.test_twin import DEMO, SIM, SIM_MARKET, ListFeed, load_simulated, make_market, write

TAPE = [
    commands.Deposit(ts_ns=1, account=3, amount_quote=500),
    commands.SetLeverage(ts_ns=1, account=2, leverage=5),
    commands.Assign(ts_ns=2, account=1, side="buy", qty_lot=100, price_tick=1_000, amount_quote=6_000),
    commands.Assign(ts_ns=3, account=2, side="sell", qty_lot=100, price_tick=1_000, amount_quote=20_000),
    commands.Place(ts_ns=4, account=2, order_id=7, side="buy", qty_lot=1, price_tick=990),
    commands.Print(ts_ns=4, side="sell", price_tick=990, qty_lot=1),
    commands.Level(ts_ns=4, side="bid", price_tick=930, qty_lot=40),
    commands.Funding(ts_ns=4, rate_ppb=10**6),
    commands.Mark(ts_ns=5, price_tick=935),
    commands.Mark(ts_ns=1_005, price_tick=920),
]


@pytest.fixture(scope="module")
def crash(tmp_path_factory):
    """Return the folder of a run in unit sizes: the long of 100 lots is closed, the short deleveraged."""
    market = make_market(initial_mark=Decimal(1_000), liquidation_collar=Decimal("0.5"), maker_fee=Decimal("0.01"))
    folder = tmp_path_factory.mktemp("runs") / "crash"
    plan = Plan(markets=[market], feed=ListFeed(market, TAPE), funds={"USDT": 100})
    run_replay(plan, out=folder)
    return folder


def test_the_bankrupt_by_hand(crash):
    """What became of the long: at 935 it has 6,000 - 100 of funding - 6,500 = -600, so it is bankrupt below 941.

    The book pays 930, eleven less: the fund's 100 pay for 9 lots, 91 are closed against the other at 941.

    Source: EXPL-001, EXPL-003, EXPL-004.
    """
    story = explain_account(crash, 1, looks=2)
    kinds = [event["kind"] for event in story["events"]]
    assert kinds[:3] == ["accepted", "funding_payment", "liquidation_started"]
    started = story["events"][2]
    assert (started["equity_quote"], started["maintenance_quote"]) == (-600, 4_675)
    assert started["positions"][0]["liquidation_tick"] == 990  # 5,900 + 100 (M - 1,000) < 5 M
    fill = next(event for event in story["events"] if event["kind"] == "liquidation_fill")
    assert (fill["price_tick"], fill["bankruptcy_tick"], fill["qty_lot"], fill["surplus_quote"]) == (930, 941, 9, -99)
    assert fill["other"] == 0
    taken = next(event for event in story["events"] if event["kind"] == "adl_fill")
    assert (taken["role"], taken["other"], taken["qty_lot"], taken["price_tick"]) == ("bankrupt", 2, 91, 941)
    # 91 x 6 against the mark
    assert story["sums"]["paid_in_quote"] == 6_000
    assert story["sums"]["funding_quote"] == -100
    assert story["sums"]["deficit_quote"] == 99 + 546
    assert (story["sums"]["paid_by_fund_quote"], story["sums"]["paid_by_adl_quote"]) == (99, 546)
    assert story["end"] == {"equity_quote": 0, "wallet_quote": 0, "result_quote": -6_000, "positions": []}
    text = compose_story(story)
    assert "sold 9 at 930 for it, bankruptcy price 941: 99 missing; paid to the outside" in text
    assert "the fund pays 99 for it" in text
    assert "closed against account 2 (rank 1 of 1): 91 at 941, mark 935" in text


def test_the_victim_by_hand(crash):
    """What became of the short: it bought 1 at 990, was closed out of 91 at 941, keeps 8, and what it has adds up.

    Source: EXPL-002, EXPL-003, EXPL-004.
    """
    story = explain_account(crash, 2, looks=1)
    hit = next(event for event in story["events"] if event["kind"] == "adl_fill")
    assert (hit["role"], hit["rank"], hit["queue"], hit["loss_quote"]) == ("victim", 1, 1, 91 * 6)
    assert hit["realised_quote"] == 91 * 59
    trade = next(event for event in story["events"] if event["kind"] == "trade")
    assert (trade["role"], trade["side"], trade["price_tick"], trade["fee_quote"]) == ("maker", 1, 990, 10)
    assert story["sums"]["fees_quote"] == 10 + 857  # 1 % of 990, and of 91 x 941, rounded up
    # 20,000 and 10 from the trade, less fees, 99 of funding, 91 x 59, and 8 x 80 still open
    assert story["end"]["equity_quote"] == 20_000 + 10 - 867 + 99 + 91 * 59 + 8 * 80
    assert story["end"]["positions"] == [
        {"market": 0, "qty_lot": -8, "mark_tick": 920, "margin_quote": 0, "gain_quote": 640}
    ]
    assert story["end"]["result_quote"] == story["end"]["equity_quote"] - 20_000
    assert story["orders"] == 1
    (look,) = story["looks"]
    assert (look["qty_lot"], look["rank"], look["queue"], look["score_by"]) == (-8, 1, 1, "bitmex")
    text = compose_story(story)
    assert "deleveraged (rank 1 of 1, score" in text
    assert "91 at 941, mark 935: gives up 546 against the mark" in text
    assert "buys 1 at 990 as maker, fee 10, with the outside" in text
    assert "is left with 8" in text


def test_a_story_calls_people_by_name(crash, tmp_path, capsys):
    """Asked for by name or number it is the same story; whom it meets has a name too, a fund has none.

    Source: EXPL-001, POP-002, LOG-004.
    """
    for name in ("summary.json", "events.npz"):
        (tmp_path / name).write_bytes((crash / name).read_bytes())
    (tmp_path / "names.json").write_text('{"1": "Ada", "2": "Bob & Sons", "3": "Cid"}')
    story = explain_account(tmp_path, "Ada", looks=2)
    assert story == explain_account(tmp_path, 1, looks=2) == explain_account(tmp_path, "1", looks=2)
    assert story["names"] == {"1": "Ada", "2": "Bob & Sons"}
    assert {**story, "names": {}, "run": "crash"} == explain_account(crash, 1, looks=2)
    text = compose_story(story)
    assert text.startswith("account Ada (number 1) of ")
    assert "closed against account Bob & Sons (rank 1 of 1): 91 at 941, mark 935" in text
    assert "paid to the outside" in text
    assert main(["explain", str(tmp_path), "--account", "Bob & Sons"]) == 0
    assert "for account Ada: 91 at 941" in capsys.readouterr().out
    (tmp_path / "names.json").write_text('{"1": "Ada", "3": "outside"}')
    assert main(["explain", str(tmp_path), "--account", "outside"]) == 5
    assert "several are called 'outside', expected a number: 0, 3" in capsys.readouterr().err
    for number in ("0", "-1"):
        assert main(["explain", str(tmp_path), "--account", number]) == 5
        assert "the outside and the house have no story" in capsys.readouterr().err


def test_a_fund_in_a_story_is_nobody(tmp_path):
    """The second fund is number 1, and so is an account: its name is not that of who was paid.  Source: EXPL-003."""
    market = make_market(
        initial_mark=Decimal(1_000), liquidation_collar=Decimal("0.5"), fund="second", symbol="B", taker_fee=Decimal(0)
    )
    other = make_market(symbol="A", initial_mark=Decimal(1_000), fund="first")
    tape = [
        commands.Assign(ts_ns=2, account=1, side="buy", qty_lot=1, price_tick=1_000, amount_quote=500),
        commands.Assign(ts_ns=2, account=2, side="buy", qty_lot=100, price_tick=1_000, amount_quote=6_000),
        commands.Level(ts_ns=4, side="bid", price_tick=930, qty_lot=400),
        commands.Mark(ts_ns=5, price_tick=935),
    ]
    feed = ListFeed(market, tape)
    feed.symbols, feed.rows["market"] = ("A", "B"), 1
    plan = Plan(markets=[other, market], feed=feed, funds={"second": 10_000})
    run_replay(plan, out=tmp_path / "run")
    (tmp_path / "run" / "names.json").write_text('{"1": "Ada", "2": "Bob"}')
    story = explain_account(tmp_path / "run", "Bob", looks=1)
    (paid,) = {event["other"] for event in story["events"] if event["kind"] == "fund_debit"}
    assert paid == 1
    assert story["names"] == {"2": "Bob"}


def test_the_demo_beside_the_engine(tmp_path):
    """Equity, rank, score and liquidation price, rebuilt from events, are those of the engine the run ended with.

    Source: EXPL-001, EXPL-002, EXPL-004, MARGIN-011, ADL-002.
    """
    run = run_replay(make_demo(), out=tmp_path / "run")
    exchange = run.exchange
    worst = run.summary["adl_top"][0]
    for account in (worst["account"], 2, 1009):
        story = explain_account(tmp_path / "run", account, looks=1)
        queue = exchange.adl_queue(0, -1 if story["looks"][0]["qty_lot"] < 0 else 1)
        (at,) = np.nonzero(queue["account"] == account)[0]
        (look,) = story["looks"]
        assert (look["rank"], look["score"], look["queue"]) == (at + 1, queue["score"][at], len(queue["rank"]))
        assert look["liquidation_tick"] == exchange.liquidation_price(account, 0)
        assert (look["equity_quote"], look["maintenance_quote"]) == exchange.margin(account, 0)
    story = explain_account(tmp_path / "run", worst["account"], looks=1)
    hit = next(event for event in story["events"] if event["kind"] == "adl_fill")
    same = ("rank", "queue", "qty_lot", "price_tick", "mark_tick", "loss_quote", "realised_quote")
    assert {name: hit[name] for name in same} == {name: worst[name] for name in same}


def test_explain_on_the_command_line(crash, tmp_path, capsys):
    """Source: EXPL-001, CLI-002."""
    assert main(["explain", str(crash), "--account", "2", "--looks", "3"]) == 0
    page = capsys.readouterr().out
    assert page.startswith("account 2 of crash: ends with ")
    assert "rank in its side's ADL queue by score bitmex" in page
    assert main(["explain", str(crash), "--account", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == explain_account(crash, 1, 10)
    assert main(["explain", str(crash), "--account", "77"]) == 5
    assert "--account 77: nothing happened to it in this run" in capsys.readouterr().err
    assert main(["explain", str(tmp_path), "--account", "1"]) == 4
    run_replay(make_demo(until_seq=2_100), out=tmp_path / "bare", events="none")
    with pytest.raises(DataError, match=r"expected events\.npz"):
        explain_account(tmp_path / "bare", 1, 1)


def test_events_that_contradict_each_other(crash, tmp_path):
    """A unit more in one event is found by the auditor: the story is not told.

    Source: EXPL-001, MONEY-002.
    """
    with np.load(crash / "events.npz") as found:
        events, kinds = found["events"].copy(), found["kind_names"]
    (at,) = np.nonzero(kinds[events["kind"]] == "adl_fill")
    events["amount_quote"][at] += 1
    (tmp_path / "summary.json").write_text((crash / "summary.json").read_text())
    np.savez(tmp_path / "events.npz", events=events, kind_names=kinds)
    with pytest.raises(DataError, match="expected the events of one run from its start"):
        explain_account(tmp_path, 3, 1)


# ---------------------------------------------------------------- warning signs of runs


def make_demo(**changes):
    market = load_market(DEMO / "market.toml")
    fields = {"markets": [market], "feed": open_feed([DEMO], [market]), "shock": load_shock(DEMO / "shock.toml")}
    fields |= {"populations": [load_population(DEMO / "population.toml")], "funds": {"USDT": 10**12}}
    return Plan(**fields | changes)


def test_runs_keep_their_signs(tmp_path):
    """A row per second in the run directory, in either format; by default as many as cost little; the run is the same.

    Source: SIGN-001, SIGN-006.
    """
    run = run_replay(make_demo(sample_ns=SECOND_NS), out=tmp_path / "run")
    with np.load(tmp_path / "run" / "series.npz") as found:
        rows, symbols = found["series"], found["symbols"]
    assert rows.dtype == SIGNS
    assert symbols.tolist() == ["BTCUSDT"]
    assert len(rows) == run.summary["samples"] == 91
    assert (rows["ts_ns"][1:-1] % SECOND_NS == 0).all()
    assert (rows["ts_ns"][0], rows["ts_ns"][-1]) == (run.summary["first_ns"], run.summary["last_ns"])
    assert (rows["fund_quote"][0], rows["fund_quote"][-1]) == (10**12, run.summary["fund_end_quote"])
    assert rows["open_interest_lot"][-1] == run.summary["markets"][0]["open_interest_end_lot"]
    # what lies ahead is largest before it happens, and gone afterwards
    ahead = rows["long_5pct_quote"]
    assert ahead[:10].max() > 10**13 > ahead[-10:].max()
    sparse = run_replay(make_demo(), out=tmp_path / "sparse", events="parquet")
    assert sparse.summary["digest"] == run.summary["digest"]
    assert 5 < sparse.summary["samples"] < 40
    # the opening's book is empty; the next instant is not passed over, the one after it is
    assert sparse.signs["ts_ns"][:2].tolist() == rows["ts_ns"][:2].tolist()
    assert sparse.signs["ts_ns"][2] > rows["ts_ns"][5]
    assert sparse.signs["bid_5pct_lot"][0] == 0 < sparse.signs["bid_5pct_lot"][1]
    polars = pytest.importorskip("polars")
    frame = polars.read_parquet(tmp_path / "sparse" / "series.parquet")
    assert frame.columns == [*SIGNS.names, "symbol"]
    assert frame["herfindahl_ppm"].to_list() == sparse.signs["herfindahl_ppm"].tolist()
    assert not len(run_replay(make_demo(sample_ns=0, until_seq=3_000)).signs)


def test_signs_of_a_simulated_market(tmp_path):
    """Samples taken while it runs are those taken while its commands are played again, whole.

    Source: SIGN-001.
    """
    market = load_market(write(tmp_path, "market", SIM_MARKET))
    config = load_simulated(write(tmp_path, "sim", SIM))
    run = run_simulation(config, market, funds={"USDT": 10**9}, keep_commands=True, sample_ns=SECOND_NS)
    assert run.summary["samples"] == len(run.signs) == 14
    rows, exchange = run.commands, Exchange([market])
    sampler = Sampler(exchange, SECOND_NS)
    opening = int(run.signs["seq"][0])
    exchange.apply(rows[:opening])
    sampler.begin(int(rows["ts_ns"][opening]))
    rows = rows[opening:]
    while len(rows):
        cut = sampler.find_cut(rows["ts_ns"])
        part = rows[:cut]
        exchange.apply(part)
        sampler.since += len(part)
        if cut is not None:
            sampler.take(int(rows["ts_ns"][cut]))
        rows = rows[len(part) :]
    sampler.end(int(run.exchange.view().clock[0][1]))
    assert sampler.read_rows().tolist() == run.signs.tolist()
    usual = run_simulation(config, market, funds={"USDT": 10**9})
    assert usual.summary["digest"] == run.summary["digest"]
    assert len(usual.signs) >= 2  # the first and the last; in between as the commands allow


def test_samples_on_the_command_line(tmp_path, capsys):
    """Source: SIGN-001, CLI-002."""
    words = [
        str(write(tmp_path, "sim", SIM)),
        "--market",
        str(write(tmp_path, "market", SIM_MARKET)),
        "--sample-s",
        "2",
    ]
    assert main(["sim", *words, "--out", str(tmp_path / "run"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["samples"] == 8
    with np.load(tmp_path / "run" / "series.npz") as found:
        assert len(found["series"]) == 8
    assert main(["explain", str(tmp_path / "run"), "--account", "5"]) == 0
    assert "account 5 of run" in capsys.readouterr().out
    tape = ["replay", str(DEMO), "--market", str(DEMO / "market.toml"), "--until-seq", "3000", "--json"]
    assert main([*tape, "--sample-s", "0.5"]) == 0
    assert json.loads(capsys.readouterr().out)["samples"] > 2
    with pytest.raises(SystemExit):
        main([*tape, "--sample-s", "-1"])
    assert "expected 0 to 86400 seconds" in capsys.readouterr().err
