"""The stress lab's parts: scenarios, grids, statistics, folders, searches, against numbers worked out by hand."""

import hashlib
import json
from decimal import Decimal
from math import comb, sqrt
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import Exchange, commands
from engine.codes import ADL_FILL, LIQUIDATION_FILL, TAKEOVER
from engine.contract import build_setup
from engine.errors import ConfigError, DataError, InvariantError
from engine.exchange import Capacity, CompiledEngine
from engine.layout import EVENT
from engine.sweep import executors, jobs, measure
from engine.sweep.grid import list_points, parse_line
from engine.sweep.jobs import Cell, JobError, run_jobs
from engine.sweep.measure import run_seed
from engine.sweep.observe import Episodes, Hedges, Observer, Prices, measure_shock
from engine.sweep.scenario import change_scenario, derive_seed, hash_scenario, load_scenario
from engine.sweep.search import (
    build_shock,
    build_walk,
    find_need,
    find_threshold,
    is_exact,
    list_fund_rules,
    read_axes,
)
from engine.sweep.stats import count_needed, count_share, find_order_band, summarise_numbers
from engine.sweep.store import RUNS, Store
from engine.sweep.summary import compare_cells, summarise_cell, summarise_frontier, summarise_need
from tests.mirror import streams
from tests.mirror.pair import make_market

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "replay_data" / "stress" / "flash_crash.toml"
UNIT = 10**6

TOY_MARKET = """\
symbol = "TOY"
tick_size = "0.1"
lot_size = "0.001"
price_max = "250000"
margin_call = "0"
tiers = [{ floor = "0", initial = "0.01", maintenance = "0.005" }]
"""
TOY = """\
markets = ["market.toml"]
tape = ["tape"]
population = "positions.csv"
fund = "400"
"""


@pytest.fixture
def toy(tmp_path):
    return write_toy(tmp_path)


def write_toy(folder, marks=("60000",) * 5 + ("58400",) * 25):
    """Write a scenario: alice long 1 at 60,000 with 1,500, bob short 1, a bid for 2 at 58,000, a mark every second."""
    tape = folder / "tape"
    tape.mkdir(parents=True)
    (folder / "market.toml").write_text(TOY_MARKET)
    start = 1_740_988_760_000_000
    book = ["exchange,symbol,timestamp,local_timestamp,is_snapshot,side,price,amount"]
    book += [f"toy,TOY,{start},{start},true,bid,58000.0,2", f"toy,TOY,{start},{start},true,ask,70000.0,2"]
    book += [
        f"toy,TOY,{start + second * UNIT},{start + second * UNIT},false,ask,71000.0,{1 + second % 2}"
        for second in range(1, len(marks))
    ]
    ticker = [
        "exchange,symbol,timestamp,local_timestamp,funding_timestamp,funding_rate,predicted_funding_rate,open_interest,"
        "last_price,index_price,mark_price"
    ]
    for second, mark in enumerate(marks):
        stamp = start + second * UNIT
        ticker.append(f"toy,TOY,{stamp},{stamp},,,,,,{mark},{mark}")
    (tape / "toy_incremental_book_L2_2025-03-03_TOY.csv").write_text("\n".join(book) + "\n")
    (tape / "toy_derivative_ticker_2025-03-03_TOY.csv").write_text("\n".join(ticker) + "\n")
    (folder / "positions.csv").write_text(
        "account,symbol,side,amount,entry_price,leverage,margin_mode\n"
        "alice,TOY,long,1,60000,40,cross\nbob,TOY,short,1,60000,10,cross\n"
    )
    file = folder / "toy.toml"
    file.write_text(TOY)
    return file


# ---------------------------------------------------------------- scenarios


def test_a_scenario_is_read_whole():
    """Source: STRESS-001."""
    scenario = load_scenario(EXAMPLE)
    assert [market.symbol for market in scenario.markets] == ["BTCUSDT"]
    assert scenario.simulated.crowd is None
    assert scenario.population[0].accounts == 80
    assert scenario.shock.price[1].factor == Decimal("0.93")
    assert scenario.count_funds() == {"USDT": 50_000 * UNIT}


def test_a_market_may_be_a_file_a_preset_or_a_table(tmp_path):
    """Source: STRESS-001, VENUE-001."""
    (tmp_path / "m.toml").write_text(TOY_MARKET.replace('"0"', '"1.25"', 1))
    file = tmp_path / "s.toml"
    file.write_text('markets = ["m.toml", "okx", { venue = "okx", symbol = "OTHER" }]\ntape = ["tape"]\n')
    scenario = load_scenario(file)
    assert [market.symbol for market in scenario.markets] == ["TOY", "BTC-USDT-SWAP", "OTHER"]
    assert scenario.markets[1].adl.price == "mark"
    file.write_text('markets = ["nix"]\ntape = ["tape"]\n')
    with pytest.raises(ConfigError, match=r"markets\[0\]: expected a market file or a venue preset.*okx"):
        load_scenario(file)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('markets = ["m.toml"]', "either a simulated market or a tape"),
        ('markets = ["m.toml"]\ntape = ["t"]\nseeds = 0', "seeds: expected 1 to"),
        ('markets = ["m.toml"]\ntape = ["t"]\ncalm = "x"', "calm: expected a duration"),
        ('markets = ["m.toml"]\ntape = ["t"]\nfund = "x"', "fund x"),
        ('markets = ["m.toml"]\ntape = ["t"]\nnix = 1', "unknown field `nix`"),
        ('markets = ["m.toml"]\ntape = ["t"]\npopulation = "p.csv"', "expected a population"),
        ('markets = ["m.toml"]\n[simulated]\nseed = 1', "simulated: .*price"),
        ('markets = ["m.toml", "okx"]\n[simulated]\nseed = 1\nprice = "9"', "markets: expected one"),
        ('markets = ["m.toml"]\ntape = ["t"]\n[policies]\n"adl.nix" = 1', "unknown 'nix', known: trigger"),
        ('markets = ["m.toml"]\ntape = ["t"]\n[policies]\n"adl.score" = "nix"', "nix"),
    ],
)
def test_a_wrong_scenario_is_refused(tmp_path, text, said):
    """Source: STRESS-001, CFG-001."""
    (tmp_path / "m.toml").write_text(TOY_MARKET)
    file = tmp_path / "s.toml"
    file.write_text(text + "\n")
    with pytest.raises(ConfigError, match=said) as caught:
        load_scenario(file)
    assert str(caught.value).startswith(str(file))


def test_changes_by_path():
    """Source: STRESS-002."""
    scenario = load_scenario(EXAMPLE)
    changes = {
        "fund": "1e6",
        "adl.score": "binance",
        "BTCUSDT.liquidation.size": "tiered",
        "population.accounts": "50",
        "population.0.seed": "9",
        "simulated.makers.size": "2.5",
        "shock.price.1.factor": "0.8",
        "calm": "7s",
    }
    other = change_scenario(scenario, changes, "--grid")
    assert other.count_funds() == {"USDT": 10**6 * UNIT}
    assert (other.markets[0].adl.score, other.markets[0].liquidation.size) == ("binance", "tiered")
    assert (other.population[0].accounts, other.population[0].seed) == (50, 9)
    assert (other.simulated.makers.size, other.shock.price[1].factor) == (Decimal("2.5"), Decimal("0.8"))
    assert other.calm_ns == 7 * 10**9
    assert scenario.count_funds() == {"USDT": 50_000 * UNIT}, "the one it was made from is what it was"


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("nix", "--grid: nix: unknown 'nix', known: fund, calm, simulated"),
        ("adl.nix", "known: trigger"),
        ("adl", "expected a value, this is a table of trigger"),
        ("population.7.accounts", "unknown '7', known: 0"),
        ("shock.price.9.factor", "unknown '9', known: 0, 1"),
        ("portfolio.contingency", "unknown 'contingency', known: nothing"),
    ],
)
def test_an_unknown_path_is_refused(path, said):
    """Source: STRESS-002."""
    with pytest.raises(ConfigError) as caught:
        change_scenario(load_scenario(EXAMPLE), {path: "1"}, "--grid")
    assert said in str(caught.value)


def test_the_digest_is_of_what_decides(tmp_path):
    """Source: STRESS-004."""
    toy = load_scenario(write_toy(tmp_path / "a"))
    moved = load_scenario(write_toy(tmp_path / "b"))
    digest = hash_scenario(toy, "1")
    assert hash_scenario(moved, "1") == digest, "where files lie is nobody's business"
    assert hash_scenario(toy, "2") != digest
    assert hash_scenario(change_scenario(toy, {"fund": "401"}, ""), "1") != digest
    (tmp_path / "b" / "positions.csv").write_text((tmp_path / "b" / "positions.csv").read_text().replace("1,", "2,"))
    assert hash_scenario(moved, "1") != digest


def test_common_random_numbers():
    """A run has its index, crowd and market from its number, whatever fund and policies.

    Source: STRESS-003.
    """
    text = hashlib.blake2b(b"crowd 0/7/3", digest_size=8).hexdigest()
    assert derive_seed(7, "crowd 0", 3) == int(text, 16) // 2
    assert (
        len({derive_seed(1, role, number) for role in ("market", "crowd 0", "crowd 1") for number in range(50)}) == 150
    )
    scenario = load_scenario(EXAMPLE)
    rows = [run_seed(scenario, 3), run_seed(scenario, 3)]
    assert rows[0] == rows[1]
    other = run_seed(change_scenario(scenario, {"fund": "1000000", "adl.score": "binance"}, ""), 3)
    assert other["shock_quote"] == rows[0]["shock_quote"], "the same open interest and the same index"
    assert run_seed(scenario, 4)["shock_quote"] != rows[0]["shock_quote"]


# ---------------------------------------------------------------- what a run is measured by


def test_the_toy_by_hand(toy):
    """Alice is worth 1,500 - 1,600 at 58,400; her 1 is sold at 58,000, 500 below her bankruptcy price of 58,500.

    The fund of 400 pays for 0.8; for the last 0.2 ADL closes bob at 58,500, worth 58,400: he loses 20 against the mark.

    Source: STRESS-005, STRESS-006.
    """
    row = run_seed(load_scenario(toy), 0)
    assert (row["fund_exhausted"], row["adl"], row["insolvent"]) == (True, True, False)
    assert (row["fund_low_quote"], row["fund_need_quote"]) == (0, 400 * UNIT)
    assert (row["deficit_quote"], row["winners_loss_quote"], row["adl_victims"]) == (420 * UNIT, 20 * UNIT, 1)
    assert row["adl_notional_quote"] == 11_700 * UNIT  # 0.2 x 58,500
    assert row["forced_quote"] == (46_400 + 11_700) * UNIT  # 0.8 x 58,000
    assert row["shock_quote"] == 1_600 * UNIT  # 1 x 60,000 x 1,600 / 60,000
    assert row["amplification"] == 58_100 / 1_600
    assert (row["recovery_s"], row["unrecovered"], row["hedge_breaks"]) == (0.0, False, 0)


def test_a_tape_is_read_once(toy, monkeypatch):
    """What is kept in memory gives what the files give, under any policy.

    Source: STRESS-003.
    """
    scenario = load_scenario(toy)
    measure._read_tape.cache_clear()
    kept = run_seed(scenario, 0)
    other = run_seed(change_scenario(scenario, {"adl.score": "binance", "fund": "500"}, ""), 0)
    assert other["fund_need_quote"] == 500 * UNIT
    assert measure._read_tape.cache_info().misses == 1
    measure._read_tape.cache_clear()
    monkeypatch.setattr(measure, "KEPT_ROWS", 3)
    assert run_seed(scenario, 0) == kept
    measure._read_tape.cache_clear()


def test_a_run_that_ends_in_a_cascade_has_not_recovered(tmp_path):
    """Source: STRESS-006."""
    row = run_seed(load_scenario(write_toy(tmp_path, marks=("60000",) * 5 + ("58400",) * 5)), 0)
    assert row["unrecovered"]
    calm = change_scenario(load_scenario(tmp_path / "toy.toml"), {"calm": "3s"}, "")
    assert not run_seed(calm, 0)["unrecovered"]


@given(st.lists(st.lists(st.integers(0, 60)), max_size=5), st.integers(1, 20))
def test_episodes(pieces, calm):
    """Source: STRESS-006."""
    times = sorted(time for piece in pieces for time in piece)
    episodes, at = Episodes(calm), 0
    for piece in pieces:
        episodes.add(np.array(times[at : at + len(piece)], np.int64))
        at += len(piece)
    longest, first = 0, None
    for before, now in zip([None, *times], times, strict=False):
        first = now if before is None or now - before > calm else first
        longest = max(longest, now - first)
    assert episodes.longest_ns == longest
    for end in range(60, 90):
        assert episodes.is_calm(end) == (not times or end - times[-1] > calm)


def test_only_forced_closings_count():
    """Source: STRESS-006."""
    events = np.zeros(6, EVENT)
    events["kind"] = (LIQUIDATION_FILL, 0, ADL_FILL, TAKEOVER, 0, LIQUIDATION_FILL)
    events["ts_ns"] = (1, 2, 5, 9, 12, 40)
    observer = Observer(1, calm_ns=10)
    observer.fold(events)
    assert (observer.tell(45).recovery_ns, observer.tell(45).recovered) == (8, False)
    assert observer.tell(51).recovered


def test_the_value_at_stake():
    """Open interest times the larger of the two moves, market by market; the index before the mark.

    Source: STRESS-005.
    """
    rules = build_setup([make_market("A"), make_market("B")]).markets
    each = rules[0].multiplier
    assert measure_shock([[1000, 900, 1050], [0, 0, 0]], rules, [30, 10]) == 30 * 100 * each
    assert measure_shock([[1000, 900, 1250], [500, 500, 550]], rules, [30, 10]) == (30 * 250 + 10 * 50) * each
    prices = Prices(1)
    prices.fold_index(np.array([7, 5]))
    prices.fold_index(np.array([9]))
    assert prices.list_spans() == [[7, 5, 9]]


@pytest.mark.mirror
@pytest.mark.parametrize("seed", range(12))
def test_positions_followed_from_events(seed):
    """Source: STRESS-007."""
    setup = streams.make_setup(seed)
    engine, hedges = CompiledEngine(setup, Capacity()), Hedges(max(len(setup.markets), 2))
    for command in streams.random_stream(seed, setup, 150):
        hedges.fold(engine.apply(streams.pack_commands([command])))
    wanted = {(int(row[0]), int(row[1])): int(row[2]) for row in engine.view().positions if row[0] > 0 and row[2]}
    found = {
        (account, market): lots
        for market, positions in enumerate(hedges.positions)
        for account, lots in positions.items()
        if account > 0 and lots
    }
    assert found == wanted


def test_a_broken_hedge_by_hand():
    """3 is short A and long B; ADL closes the short, then B falls and takes 3 along.  4 is short A alone.

    Source: STRESS-007.
    """
    markets = [make_market("A", initial_mark=Decimal(1000)), make_market("B", initial_mark=Decimal(1000))]
    exchange = Exchange(markets)
    tick = exchange.setup.markets[0].initial_mark_tick
    unit = abs(exchange.setup.markets[0].multiplier) * tick  # what a lot is worth
    rows = [
        commands.SetLeverage(account=2, market=0, leverage=10),
        commands.Assign(account=2, market=0, side="buy", qty_lot=100, price_tick=tick, amount_quote=10 * unit),
        commands.Assign(account=3, market=0, side="sell", qty_lot=60, price_tick=tick, amount_quote=6 * unit),
        commands.Assign(account=3, market=1, side="buy", qty_lot=60, price_tick=tick, amount_quote=6 * unit),
        commands.Assign(account=4, market=0, side="sell", qty_lot=40, price_tick=tick, amount_quote=40 * unit),
        commands.Mark(market=0, price_tick=tick * 85 // 100),
        commands.Mark(market=1, price_tick=tick * 70 // 100),
    ]
    observer = Observer(2, 1)
    events = exchange.apply(rows)
    observer.fold(events)
    assert {int(row["other"]) for row in events[events["kind"] == ADL_FILL]} == {3, 4}
    assert observer.hedges.bared == {3}
    assert observer.tell(10).hedge_breaks == 1
    alone = Observer(1, 1)
    alone.fold(events[events["market"] <= 0])
    assert alone.tell(10).hedge_breaks == 0


# ---------------------------------------------------------------- statistics


def test_wilson_by_hand():
    """The textbook's 81 of 263: 0.2553 to 0.3662; the ends never leave 0 and 1.

    Source: STRESS-008.
    """
    share = count_share(81, 263)
    assert (round(share["low"], 4), round(share["high"], 4)) == (0.2553, 0.3662)
    z = 1.959963984540054
    assert (count_share(0, 10)["low"], round(count_share(0, 10)["high"], 12)) == (0.0, round(z * z / (10 + z * z), 12))
    assert count_share(10, 10)["high"] == 1.0
    assert count_share(0, 0)["share"] is None


def test_numbers_by_hand():
    """Source: STRESS-008."""
    facts = summarise_numbers(list(range(1, 101)))
    assert (facts["mean"]["value"], facts["p50"]["value"], facts["p95"]["value"]) == (50.5, 50, 95)
    assert (facts["p99"]["value"], facts["p01"]["value"], facts["least"], facts["most"]) == (99, 1, 1, 100)
    half = 1.96 * sqrt((100**2 - 1) / 12 / 100)  # of the mean of a hundred draws
    assert abs(facts["mean"]["low"] - (50.5 - half)) < 0.7
    assert abs(facts["mean"]["high"] - (50.5 + half)) < 0.7
    assert facts == summarise_numbers(list(range(1, 101))), "a fixed seed"
    assert summarise_numbers([]) == {"runs": 0}
    assert summarise_numbers([7])["p99"] == {"value": 7, "low": 7, "high": 7}


@pytest.mark.parametrize(
    ("quantile", "total"), [(0.5, 20), (0.9, 60), (0.99, 500), (0.999, 100), (0.05, 30), (0.01, 20)]
)
def test_bands_between_order_statistics(quantile, total):
    """At least 95 % of samples have the quantile between their so-manieth numbers: the binomial sum, in full.

    Source: STRESS-008.
    """
    low, high = find_order_band(quantile, total)
    chances = [comb(total, k) * quantile**k * (1 - quantile) ** (total - k) for k in range(total + 1)]
    # k numbers at or below the quantile: the place `low` is at or below it if k > low, `high` is not if k <= high
    most = total if high is None else high
    least = -1 if low is None else low
    assert sum(chance for k, chance in enumerate(chances) if least < k <= most) >= 0.95 - 1e-9
    assert (low is None) == ((1 - quantile) ** total > 0.025)
    assert (high is None) == (quantile**total > 0.025)


def test_how_many_runs_a_small_breach_takes():
    """Source: STRESS-008."""
    assert count_needed(0.001) == 3_688
    assert 0.999**3_688 <= 0.025 < 0.999**3_687


def test_cells_are_summed_up():
    """Source: STRESS-005, STRESS-008."""
    scenario = load_scenario(EXAMPLE)
    row = run_seed(scenario, 0)
    rows = [
        {**row, "seed": n, "adl": n < 3, "deficit_quote": n, "recovery_s": None if n % 2 else 1.0} for n in range(10)
    ]
    facts = summarise_cell(rows)
    assert facts["shares"]["adl"]["count"] == 3
    assert facts["amounts"]["deficit_quote"]["mean"]["value"] == 4.5
    assert facts["amounts"]["recovery_s"]["runs"] == 5
    more = [{**row, "deficit_quote": row["deficit_quote"] + 2} for row in rows]
    assert compare_cells(rows, more)["deficit_quote"] == {"runs": 10, "value": 2.0, "low": 2.0, "high": 2.0}


# ---------------------------------------------------------------- grids


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("fund=1e6:64e6:log7", ("1000000", "2000000", "4000000", "8000000", "16000000", "32000000", "64000000")),
        ("x=0:1:lin5", ("0", "0.25", "0.5", "0.75", "1")),
        ("x=1:10:log3", ("1", "3.16227766", "10")),
        ("adl.score=bitmex, binance", ("bitmex", "binance")),
        ("calm=5s", ("5s",)),
    ],
)
def test_grids(text, values):
    """Source: STRESS-010."""
    line = parse_line(text)
    assert (line.path, line.values) == (text.split("=")[0], values)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("fund", "expected PATH=VALUE"),
        ("=1", "expected PATH=VALUE"),
        ("fund=", "expected PATH=VALUE"),
        ("fund=1:2", "expected FROM:TO:linN"),
        ("fund=1:2:exp3", "expected FROM:TO:linN"),
        ("fund=a:2:lin3", "expected a decimal number"),
        ("fund=1:2:lin1", "expected 2 to 1000 values"),
        ("fund=2:2:lin3", "two different ends"),
        ("fund=0:2:log3", "above 0"),
        ("fund=1,,2", "between the commas"),
        ("fund=1,1", "every value once"),
    ],
)
def test_wrong_grids(text, said):
    """Source: STRESS-010."""
    with pytest.raises(ConfigError, match=said) as caught:
        parse_line(text)
    assert str(caught.value).startswith(f"--grid {text}: ")


def test_points():
    """Source: STRESS-010."""
    lines = [parse_line("a=1,2"), parse_line("b=x,y")]
    assert [tuple(point.values()) for point in list_points(lines)] == [("1", "x"), ("1", "y"), ("2", "x"), ("2", "y")]
    with pytest.raises(ConfigError, match="every path once"):
        list_points([lines[0], lines[0]])
    with pytest.raises(ConfigError, match="at most 10000"):
        list_points([parse_line(f"p{n}=0:1:lin30") for n in range(3)])


# ---------------------------------------------------------------- folders and jobs


def task_of_seed(scenario, seed, *, broken=()):
    """Stand in for a run."""
    if seed in broken:
        raise InvariantError("something is not conserved")
    return {"seed": seed, "value": seed * seed}


HEADER = {"task": "t", "digest": "d", "version": "v", "search": {}}


def run_here(store, seeds, **options):
    with executors.open_crew(1) as crew:
        return run_jobs(task_of_seed, [Cell({}, None, options)], seeds, store, crew)


def test_a_folder_goes_on_where_it_was_cut(tmp_path):
    """Source: STRESS-004."""
    with (
        Store(tmp_path / "o", HEADER, {"more": 1}) as store,
        pytest.raises(JobError, match="seed 3: something") as caught,
    ):
        run_here(store, range(6), broken=(3,))
    assert caught.value.exit_status == 70
    assert [json.loads(line)["seed"] for line in (tmp_path / "o" / RUNS).read_text().splitlines()] == [0, 1, 2]
    with (tmp_path / "o" / RUNS).open("a") as file:
        file.write('{"cell": "", "seed": 3, "val')  # the process was killed here
    with Store(tmp_path / "o", HEADER, {"more": 1}) as store:
        assert run_here(store, range(6), broken=(0, 1, 2)), "these would fail if they were run again"
        assert [store.rows["", seed]["value"] for seed in range(6)] == [0, 1, 4, 9, 16, 25]
    assert len((tmp_path / "o" / RUNS).read_text().splitlines()) == 6


def test_a_folder_of_something_else_is_refused(tmp_path):
    """Source: STRESS-004."""
    with Store(tmp_path, HEADER, {}):
        pass
    with (
        pytest.raises(ConfigError, match="holds another digest, d, this is e"),
        Store(tmp_path, {**HEADER, "digest": "e"}, {}),
    ):
        pass
    (tmp_path / RUNS).write_text('{"seed": 1}\n')
    with pytest.raises(DataError, match=r"runs.jsonl:1: expected a run"), Store(tmp_path, HEADER, {}):
        pass
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(ConfigError, match=r"it holds mine\.txt"), Store(tmp_path, HEADER, {}):
        pass


def test_a_stop_keeps_what_is_done(tmp_path):
    """Source: STRESS-004."""
    with Store(tmp_path, HEADER, {}) as store, executors.open_crew(1) as crew:
        cells = [Cell({"p": name}, None, {}) for name in ("a", "b")]
        done = run_jobs(task_of_seed, cells, range(9), store, crew, should_stop=lambda: len(store.rows) >= 4)
    assert not done
    assert sorted(store.rows) == [("p=a", 0), ("p=a", 1), ("p=b", 0), ("p=b", 1)], "every cell has seen the same seeds"


def test_another_version_is_refused(monkeypatch):
    """Source: STRESS-009."""
    found = jobs.do_job(task_of_seed, "0.0.0", None, 1, {})
    assert found.exit_status == 5
    assert "expected 0.0.0" in found.text


# ---------------------------------------------------------------- searches


def test_the_fund_of_the_toy(toy):
    """All of alice's 500 past bankruptcy: with 500 the fund pays, with a unit less it does not.

    Source: STRESS-011.
    """
    scenario = load_scenario(toy)
    row = find_need(scenario, 0, until="fund_empty", halvings=10)
    assert row == {"seed": 0, "need_quote": 500 * UNIT, "is_exact": True, "runs": 1}
    assert not run_seed(scenario, 0, {"USDT": 500 * UNIT})["fund_exhausted"]
    assert run_seed(scenario, 0, {"USDT": 500 * UNIT - 1})["fund_exhausted"]
    bisected = find_need(scenario, 0, until="adl", halvings=12)
    assert not bisected["is_exact"]
    assert 500 * UNIT <= bisected["need_quote"] <= 500 * UNIT + 500 * UNIT // 2**12, "ADL comes when the fund is empty"


@pytest.mark.parametrize("size", ["full", "tiered"])
@pytest.mark.parametrize(("shortfall", "gate"), [("cut", "always"), ("refuse", "always"), ("refuse", "insolvent")])
def test_reading_the_fund_off_is_exact(size, shortfall, gate):
    """The lowest balance of an endless fund is what it takes, to the unit.

    Source: STRESS-011.
    """
    changes = {"liquidation.size": size, "liquidation.shortfall": shortfall, "adl.gate": gate}
    changes["population.open_interest"] = "400"
    scenario = change_scenario(load_scenario(EXAMPLE), changes, "")
    for seed in range(3):
        need = find_need(scenario, seed, until="fund_empty", halvings=10)["need_quote"]
        assert need > 0
        assert not run_seed(scenario, seed, {"USDT": need})["fund_exhausted"]
        assert run_seed(scenario, seed, {"USDT": need - 1})["fund_exhausted"]


def test_policies_that_look_at_the_fund_are_halved():
    """Source: STRESS-011."""
    scenario = load_scenario(EXAMPLE)
    assert is_exact(scenario, "fund_empty")
    assert not is_exact(scenario, "adl")
    for path, value in (("adl.trigger", "drawdown"), ("adl.trigger", "equity")):
        other = change_scenario(scenario, {path: value}, "")
        assert list_fund_rules(other.markets) == ["BTCUSDT.adl.trigger"]
        assert not is_exact(other, "fund_empty")
    house = {"liquidation.backstop": "takeover", "liquidation.carry": "10", "liquidation.closeout_fee": "0.001"}
    found = list_fund_rules(change_scenario(scenario, house, "").markets)
    assert found == ["BTCUSDT.liquidation.carry", "BTCUSDT.liquidation.closeout_fee"]
    row = find_need(change_scenario(scenario, {"adl.trigger": "equity"}, ""), 1, until="fund_empty", halvings=4)
    assert not row["is_exact"]
    assert row["runs"] > 1


def test_the_size_of_a_fund_by_hand():
    """Of twenty needs 1 .. 20, a fund of 19 leaves one breach (5 %); with none allowed it takes 20.

    Source: STRESS-011.
    """
    rows = [{"need_quote": need, "is_exact": True} for need in range(20, 0, -1)]
    facts = summarise_need(rows, 0.05)
    assert (facts["fund_quote"], facts["breached"]["count"], facts["low_quote"]) == (19, 1, 17)
    assert facts["high_quote"] is None
    assert facts["seeds_needed"] == 72
    assert summarise_need(rows, 0.01)["fund_quote"] == 20
    assert summarise_need(rows, 0.5)["fund_quote"] == 10
    assert (summarise_need(rows, 0.5)["low_quote"], summarise_need(rows, 0.5)["high_quote"]) == (6, 15)
    curve = facts["curve"]
    assert [(point["fund_quote"], point["count"]) for point in curve] == [(fund, 20 - fund) for fund in range(21)]
    rows[0]["need_quote"] = None
    assert summarise_need(rows, 0.01)["fund_quote"] is None
    assert summarise_need(rows, 0.05)["fund_quote"] == 19
    assert summarise_need(rows, 0.05)["without_fund"] == 1


def test_the_shock_of_the_toy(tmp_path):
    """Alice goes when 1,500 + (p - 60,000) < 0.005 p, below 58,793.97: a fall of more than 2.0101 %.

    In steps of 0.05 / 1024 that is the 412th, 2.0117 %.

    Source: STRESS-012.
    """
    scenario = load_scenario(write_toy(tmp_path, marks=("60000",) * 30))
    walk = build_walk({"size": ("0", "0.05")}, {"speed": "1s", "depth": "1"})
    given_ = {"until": "liquidation", "at_ns": 5 * 10**9, "side": -1, "halvings": 10}
    row = find_threshold(scenario, 0, mild=walk.mild, severe=walk.severe, **given_)
    assert (row["step"], row["size"], row["speed_s"], row["depth"]) == (412, 0.020117, 1.0, 1.0)
    facts = summarise_frontier(walk, {"speed": "1s", "depth": "1"}, [row], 0.5)
    assert facts["threshold"] == {"step": 412, "size": 0.020117, "speed_s": 1.0, "depth": 1.0}
    up = find_threshold(scenario, 0, mild=walk.mild, severe=walk.severe, **{**given_, "side": 1})
    assert up["step"] is None, "alice is long, and bob has a tenth"
    assert (up["size"], up["speed_s"], up["depth"]) == (None, 1.0, 1.0), "what stands still has its value"
    assert summarise_frontier(walk, {}, [up], 0.5)["threshold"]["step"] is None
    harmful = build_walk({"size": ("0.03", "0.05")}, {"speed": "1s", "depth": "1"})
    assert find_threshold(scenario, 0, mild=harmful.mild, severe=harmful.severe, **given_)["step"] == 0


@pytest.mark.parametrize(
    ("first", "last", "found"), [(0, 99, 0), (9, 99, 9), (17, 25, 17), (64, 64, 64), (17, 20, None)]
)
def test_harm_that_does_not_grow_with_the_shock(monkeypatch, first, last, found):
    """Of 64 steps those from `first` to `last` do harm; what lies between two eighths is not seen.

    Source: STRESS-012.
    """

    def run(scenario, seed):
        step = int(scenario.shock.depth[1].factor * 100)
        return {"liquidated_accounts": first <= step <= last}

    monkeypatch.setattr("engine.sweep.search.run_seed", run)
    walk = build_walk({"depth": ("0", "0.64")}, {"speed": "1s", "size": "0"})
    options = {"until": "liquidation", "at_ns": 0, "side": -1, "halvings": 6}
    row = find_threshold(load_scenario(EXAMPLE), 0, mild=walk.mild, severe=walk.severe, **options)
    assert row["step"] == found


def test_walks():
    """Source: STRESS-012."""
    walked, fixed = read_axes({"size": "0:0.2", "speed": "10s:1s", "depth": "1,0.5"})
    assert (walked, fixed) == ({"size": ("0", "0.2"), "speed": ("10s", "1s")}, {"depth": ["1", "0.5"]})
    walk = build_walk(walked, {"depth": "0.5"})
    assert walk.at(0, 4) == (0, 10 * 10**9, 500_000)
    assert walk.at(1, 4) == (50_000, 7_750_000_000, 500_000)
    assert walk.at(4, 4) == (200_000, 10**9, 500_000)
    shock = build_shock(walk.at(4, 4), 5 * 10**9, -1, 250)
    assert shock.price_curve() == ((5 * 10**9, 6 * 10**9), (10**6, 800_000))
    assert shock.depth_curve() == ((5 * 10**9, 6 * 10**9), (10**6, 500_000))


@pytest.mark.parametrize(
    ("axes", "said"),
    [
        ({"size": "0.1"}, "expected at least one of"),
        ({"size": "0:0"}, "two different ends"),
        ({"size": "0:2"}, "--size 2: size: expected 0 to 0.999999"),
        ({"speed": "1s:x"}, "--speed x: expected a duration"),
        ({"size": "0:0.1", "depth": "1,1"}, "every value once"),
    ],
)
def test_wrong_walks(axes, said):
    """Source: STRESS-012."""
    with pytest.raises(ConfigError, match=said):
        read_axes({"size": None, "speed": None, "depth": None, **axes})
