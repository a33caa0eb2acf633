"""Populations, real positions and shocks: what they put on a tape, and what they refuse."""

import sys
import tomllib
from decimal import Decimal

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import codes
from engine.contract import Market, Tier, build_setup
from engine.errors import CapacityError, ConfigError, DataError, MissingExtraError
from engine.feeds.merge import build_commands
from engine.layout import COMMAND
from engine.scenario import Population, build_population, load_population, load_shock, read_positions, warp
from engine.scenario.population import count_maintenance, share_out
from engine.scenario.shock import Shock, parse_duration
from engine.scenario.warp import mul_ppm_even, mul_ppm_floor

POPULATION = """
seed = 11
accounts = 500
open_interest = "1000"
long_share = "0.6"
entry_spread = "0.05"
isolated_share = 0.25
leverage = [{ leverage = 3, weight = "1" }, { leverage = 20, weight = "2" }, { leverage = 100, weight = 1.0 }]
size = { kind = "lognormal", sigma = "1.3" }
"""
MARK = 600_000


def make_market(symbol="BTCUSDT", **changes):
    tiers = (
        Tier(floor=Decimal(0), initial=Decimal("0.008"), maintenance=Decimal("0.004")),
        Tier(floor=Decimal(300_000), initial=Decimal("0.02"), maintenance=Decimal("0.01")),
        Tier(floor=Decimal(3_000_000), initial=Decimal("0.1"), maintenance=Decimal("0.05")),
    )
    settings = {"tick_size": Decimal("0.1"), "lot_size": Decimal("0.001"), "tiers": tiers, **changes}
    return Market(symbol=symbol, **settings)


def write(folder, text, name="file.toml"):
    path = folder / name
    path.write_text(text)
    return path


def assigns(commands):
    return commands[commands["kind"] == codes.ASSIGN]


def equities(commands, market, mark=MARK):
    """Return equity and maintenance of every assigned position at `mark`."""
    rules = build_setup([market]).markets[0]
    rows = assigns(commands)
    notional = rows["qty_lot"] * rules.multiplier * mark
    gain = rows["side"] * (mark - rows["price_tick"]) * rows["qty_lot"] * rules.multiplier
    return rows["amount_quote"] + gain, count_maintenance(rules, notional)


# ---------------------------------------------------------------- populations


@pytest.fixture
def population(tmp_path):
    return load_population(write(tmp_path, POPULATION))


def test_a_population_is_a_function_of_its_file(population):
    """POP-001."""
    first = build_population(population, make_market(), 2, MARK, ts_ns=77)
    again = build_population(population, make_market(), 2, MARK, ts_ns=77)
    assert np.array_equal(first, again)
    other = build_population(msgspec.structs.replace(population, seed=12), make_market(), 2, MARK, ts_ns=77)
    assert not np.array_equal(assigns(first), assigns(other))
    assert set(first["market"].tolist()) == {2}
    assert set(first["ts_ns"].tolist()) == {77}
    # Pinned: a change here is a change of every recorded stress.
    row = assigns(first)[0]
    assert row[["account", "side", "qty_lot", "price_tick", "amount_quote"]].tolist() == (
        1,
        -1,
        3_241,
        620_288,
        10_051_767_040,
    )


def test_a_population_adds_up(population):
    """POP-001: quantities to the lot, sides by count, one position per account, numbers without gaps."""
    rows = assigns(build_population(population, make_market(), 0, MARK))
    assert rows["account"].tolist() == list(range(1, 501))
    longs = rows["side"] == 1
    assert rows["qty_lot"][longs].sum() == 600_000
    assert rows["qty_lot"][~longs].sum() == 400_000
    assert longs.sum() == 300
    assert rows["qty_lot"].min() >= 1
    spread = (rows["price_tick"] / MARK - 1).std()
    assert 0.02 < spread < 0.06


def test_a_population_comes_in_order(population):
    """POP-001: leverage and mode before the position, and only where they differ from the market's."""
    commands = build_population(population, make_market(default_leverage=20, margin_mode="cross"), 0, MARK)
    seen = {}
    for kind, account, amount in commands[["kind", "account", "amount_quote"]].tolist():
        seen.setdefault(account, []).append((kind, amount))
    modes = leverages = 0
    for steps in seen.values():
        kinds = [kind for kind, _ in steps]
        assert kinds == sorted(kinds, key=[codes.SET_LEVERAGE, codes.SET_MARGIN_MODE, codes.ASSIGN].index)
        assert kinds[-1] == codes.ASSIGN
        given_amounts = dict(steps)
        assert given_amounts.get(codes.SET_LEVERAGE) != 20
        assert given_amounts.get(codes.SET_MARGIN_MODE, codes.ISOLATED) == codes.ISOLATED
        modes += codes.SET_MARGIN_MODE in kinds
        leverages += codes.SET_LEVERAGE in kinds
    assert 90 < modes < 160
    assert 200 < leverages < 450


@pytest.mark.parametrize("spread", ["0", "0.05", "1"])
@pytest.mark.parametrize("leverage", [1, 7, 125, 1000])
def test_nobody_starts_in_trouble(population, spread, leverage):
    """POP-001: even with entries all over the place, equity stays a quarter of the way above maintenance."""
    share = population.leverage[0]
    wild = msgspec.structs.replace(
        population,
        entry_spread=Decimal(spread),
        leverage=(msgspec.structs.replace(share, leverage=leverage),),
    )
    market = make_market()
    commands = build_population(wild, market, 0, MARK)
    equity, maintenance = equities(commands, market)
    assert np.all(equity >= maintenance)
    rows = assigns(commands)
    value = rows["qty_lot"] * 100 * MARK
    floors = np.array([0, 300_000_000_000, 3_000_000_000_000])
    allowed = np.minimum(leverage, np.array([125, 50, 10])[np.searchsorted(floors, value, side="right") - 1])
    collateral = value // allowed
    assert np.all(equity - maintenance >= (collateral - maintenance) // 4)
    entry_value = rows["qty_lot"] * 100 * rows["price_tick"]
    assert np.array_equal(rows["amount_quote"], -(-entry_value // allowed))


def test_sizes_and_leverages_may_be_drawn_otherwise(population):
    """POP-001: a power tail of sizes, a lognormal of leverages."""
    settings = msgspec.convert(
        {"median": "10", "sigma": "0.5", "max": 25}, type(population).__annotations__["leverage"], strict=False
    )
    changed = msgspec.structs.replace(population, leverage=settings)
    commands = build_population(changed, make_market(), 0, MARK)
    drawn = commands["amount_quote"][commands["kind"] == codes.SET_LEVERAGE]
    assert 1 <= drawn.min() < drawn.max() <= 25
    assert 8 <= np.median(drawn) <= 12
    tail = load_text(POPULATION.replace('kind = "lognormal", sigma = "1.3"', 'kind = "pareto", alpha = "1.1"'))
    sizes = np.sort(assigns(build_population(tail, make_market(), 0, MARK))["qty_lot"])
    assert sizes[-1] > 20 * np.median(sizes)


def load_text(text):
    return msgspec.convert(tomllib.loads(text, parse_float=str), Population, strict=False)


@pytest.mark.parametrize("share", ["0", "1", "0.999"])
def test_one_side_may_be_empty(population, share):
    """POP-001: the outside takes the imbalance."""
    rows = assigns(
        build_population(msgspec.structs.replace(population, long_share=Decimal(share)), make_market(), 0, MARK)
    )
    assert rows["qty_lot"].sum() == 1_000_000
    assert rows["qty_lot"][rows["side"] == 1].sum() == int(Decimal(share) * 1_000_000)


@given(st.integers(0, 10**12), st.lists(st.integers(1, 1 << 60), max_size=40))
def test_shares_sum_exactly(extra, weights):
    """POP-001: proportional, at least one each, nothing lost."""
    total = extra + len(weights) if weights else 0
    shares = share_out(total, weights)
    assert sum(shares) == total
    assert all(share >= 1 for share in shares)
    for share, weight in zip(shares, weights, strict=True):
        assert abs(share - 1 - (total - len(weights)) * weight / sum(weights)) <= 1 + 1e-3 * total**0.5


BAD_POPULATIONS = [
    ('seed = 11"', "not valid TOML"),
    (POPULATION + "colour = 3", "unknown field `colour`"),
    (POPULATION.replace("seed = 11", "seed = -1"), "seed: expected 0 to"),
    (POPULATION.replace("accounts = 500", "accounts = 0"), "accounts: expected 1 to"),
    (POPULATION.replace("accounts = 500", 'accounts = "many"'), "$.accounts"),
    (POPULATION.replace("accounts = 500", ""), "missing required field `accounts`"),
    (POPULATION.replace('"1000"', '"-5"'), "open_interest: expected"),
    (POPULATION.replace('"1000"', '"nan"'), "open_interest: expected"),
    (POPULATION.replace('"0.6"', '"1.5"'), "long_share: expected 0 to 1, got 1.5"),
    (POPULATION.replace('"0.6"', '"0.12345678"'), "long_share: expected at most six decimals"),
    (POPULATION.replace('"0.05"', '"-0.05"'), "entry_spread: expected 0 to 1, got -0.05"),
    (POPULATION.replace("leverage = 20", "leverage = 0"), "leverage[1].leverage: expected 1 to"),
    (POPULATION.replace('weight = "2"', 'weight = "-2"'), "leverage[1].weight: expected 0 to"),
    (POPULATION.replace('weight = "2"', 'height = "2"'), "$.leverage[1]"),
    (POPULATION.replace('"1.3"', '"-1.3"'), "size.sigma: expected 0 to 4, got -1.3"),
    (POPULATION.replace('"lognormal"', '"zipf"'), "$.size"),
]


@pytest.mark.parametrize(("text", "expected"), BAD_POPULATIONS)
def test_a_bad_population_is_named(tmp_path, text, expected):
    """CLI-002 POP-001: the file and the path inside it, and the exit status of bad configuration."""
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_population(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_status == 5


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"no\.toml: cannot be read: No such file"):
        load_population(tmp_path / "no.toml")


def test_a_population_larger_than_the_exchange_is_refused(population):
    """CLI-002: the message names what to raise, and the exit status is that of capacity."""
    assert len(build_population(population, make_market(), 0, MARK, accounts_max=501))
    with pytest.raises(CapacityError, match="need accounts_max >= 501, it is 500: raise accounts_max") as caught:
        build_population(population, make_market(), 0, MARK, accounts_max=500)
    assert caught.value.exit_status == 6


@pytest.mark.parametrize(
    ("market", "mark", "expected"),
    [
        ({}, 0, "expected a mark of 1 to"),
        ({"lot_size": Decimal("3")}, MARK, "open_interest: open_interest 1000 is not a multiple of 3"),
        ({"lot_size": Decimal("10"), "quote_unit": Decimal(1)}, MARK, "at least one lot for each of 300 accounts"),
        ({"open_interest_max": Decimal(599)}, MARK, "expected at most 599.000 a side"),
        ({"order_max": Decimal(1)}, MARK, "size: the largest position is"),
    ],
)
def test_a_population_must_fit_the_market(population, market, mark, expected):
    """POP-001."""
    with pytest.raises(ConfigError, match=r"^population: ") as caught:
        build_population(population, make_market(**market), 0, mark)
    assert expected in str(caught.value)


# ---------------------------------------------------------------- real positions


HEADER = "account,symbol,side,amount,entry_price,leverage,margin_mode,collateral"
GOOD = """\
alice,BTCUSDT,long,1.5,60000.04,20,cross,5000
bob,BTCUSDT,Short,0.010,61000,10,isolated,
alice,ETHUSDT,sell,2,3000.5,5,cross,1234.567891
"carol, the third",BTCUSDT,buy,3,59000,20.0,cross,0
"""


def pair():
    return [make_market(), make_market("ETHUSDT", tick_size=Decimal("0.01"))]


def test_real_positions_are_read(tmp_path):
    """POP-002: numbers for names in order of appearance, settings before positions, rows in the order of the file."""
    path = write(tmp_path, f"{HEADER}\n{GOOD}", "positions.csv")
    commands, names = read_positions(path, pair(), ts_ns=5, first_account=10)
    assert names == {"alice": 10, "bob": 11, "carol, the third": 12}
    told = commands[["kind", "account", "market", "side", "qty_lot", "price_tick", "amount_quote"]].tolist()
    assert told == [
        (codes.ASSIGN, 10, 0, 1, 1500, 600_000, 5_000_000_000),
        (codes.SET_LEVERAGE, 11, 0, 0, 0, 0, 10),
        (codes.SET_MARGIN_MODE, 11, 0, 0, 0, 0, 1),
        (codes.ASSIGN, 11, 0, -1, 10, 610_000, 61_000_000),
        (codes.SET_LEVERAGE, 10, 1, 0, 0, 0, 5),
        (codes.ASSIGN, 10, 1, -1, 2000, 300_050, 1_234_567_891),
        (codes.ASSIGN, 12, 0, 1, 3000, 590_000, 0),
    ]
    assert set(commands["ts_ns"].tolist()) == {5}


def test_a_missing_collateral_is_the_entry_value_over_the_leverage(tmp_path):
    """POP-002: rounded up; the column itself may be missing."""
    text = "account,symbol,side,amount,entry_price,leverage,margin_mode\nx,BTCUSDT,long,0.001,100.1,3,cross\n"
    commands, _ = read_positions(write(tmp_path, text, "p.csv"), [make_market()])
    assert assigns(commands)["amount_quote"].tolist() == [33_367]


def row(**changes):
    fields = dict(zip(HEADER.split(","), ["dave", "BTCUSDT", "long", "1", "60000", "10", "cross", "1"], strict=True))
    return ",".join((fields | changes).values())


BAD_POSITIONS = [
    (row(account=""), "account", "expected a name"),
    (row(symbol="XRPUSDT"), "symbol", "expected a configured market (BTCUSDT, ETHUSDT), got 'XRPUSDT'"),
    (row(side="up"), "side", "expected long or short"),
    (row(amount="0"), "amount", "expected 0.001 to"),
    (row(amount="-1"), "amount", "expected a number that is not negative, got -1"),
    (row(amount="0.0001"), "amount", "expected a multiple of 0.001, got 0.0001"),
    (row(amount="lots"), "amount", "expected a decimal number, got 'lots'"),
    (row(entry_price=""), "entry_price", "expected a price, got nothing"),
    (row(entry_price="-3"), "entry_price", "expected 0.1 to"),
    (row(leverage="2.5"), "leverage", "expected a whole number from 1 to 125, got 2.5"),
    (row(leverage="126"), "leverage", "expected a whole number from 1 to 125, got 126"),
    (row(leverage="inf"), "leverage", "expected a finite number"),
    (row(margin_mode="netted"), "margin_mode", "expected cross or isolated or portfolio, got 'netted'"),
    (row(margin_mode="portfolio"), "margin_mode", "not all markets of the asset declare a portfolio"),
    (row(collateral="-1"), "collateral", "expected a number that is not negative, got -1"),
    (row(collateral="0.0000001"), "collateral", "expected a multiple of 0.000001"),
    (row(account="alice"), "account", "expected one position of alice in BTCUSDT"),
    (row() + ",1", None, "expected 8 fields, got 9"),
]


@pytest.mark.parametrize(("text", "field", "expected"), BAD_POSITIONS)
def test_a_bad_position_is_named(tmp_path, text, field, expected):
    """CLI-002 POP-002: file, line and field."""
    path = write(tmp_path, f"{HEADER}\n{GOOD}{text}\n", "positions.csv")
    with pytest.raises(DataError) as caught:
        read_positions(path, pair())
    error = caught.value
    assert (error.file, error.line, error.field, error.exit_status) == (path, 6, field, 4)
    assert expected in error.expected


def test_positions_need_columns_and_rows(tmp_path):
    """POP-002."""
    with pytest.raises(DataError, match=":1: field 'leverage': expected the columns"):
        read_positions(write(tmp_path, "account,symbol,side,amount,entry_price\n", "a.csv"), pair())
    with pytest.raises(DataError, match=":2: expected at least one row"):
        read_positions(write(tmp_path, HEADER + "\n", "b.csv"), pair())
    with pytest.raises(DataError, match=":1: expected a header line"):
        read_positions(write(tmp_path, "", "c.csv"), pair())
    with pytest.raises(DataError, match="expected a readable file"):
        read_positions(tmp_path / "d.csv", pair())
    path = write(tmp_path, f"{HEADER}\n{GOOD}", "e.csv")
    with pytest.raises(CapacityError, match="raise accounts_max"):
        read_positions(path, pair(), accounts_max=3)


def test_parquet_says_the_same_as_csv(tmp_path):
    """POP-002."""
    polars = pytest.importorskip("polars", reason="the extra `parquet` is not installed")
    path = write(tmp_path, f"{HEADER}\n{GOOD}", "positions.csv")
    wanted, wanted_names = read_positions(path, pair())
    for frame in (polars.read_csv(path), polars.read_csv(path, infer_schema=False)):
        frame.write_parquet(tmp_path / "positions.parquet")
        got, names = read_positions(tmp_path / "positions.parquet", pair())
        assert names == wanted_names
        assert np.array_equal(got, wanted)
    bad = polars.read_csv(path, infer_schema=False).with_columns(side=polars.lit("up"))
    bad.write_parquet(tmp_path / "bad.parquet")
    with pytest.raises(DataError, match=r"bad\.parquet:1: field 'side': expected long or short"):
        read_positions(tmp_path / "bad.parquet", pair())
    with pytest.raises(DataError, match="expected a whole Parquet file"):
        read_positions(write(tmp_path, "no", "not.parquet"), pair())


def test_parquet_without_its_extra_is_refused(tmp_path, monkeypatch):
    """CLI-002: the message names the extra, and the exit status is that of a missing one."""
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'perp-engine\[parquet\]'") as caught:
        read_positions(tmp_path / "positions.parquet", pair())
    assert caught.value.exit_status == 3


# ---------------------------------------------------------------- shocks


SHOCK = """
step_ms = 500
price = [{ t = "1s", factor = "1" }, { t = "2s", factor = 0.9 }, { t = 4, factor = "0.95" }]
depth = [{ t = "1500ms", factor = "0.5" }]
"""


def make_shock(price=(), depth=(), step_ms=250):
    points = {"price": price, "depth": depth}
    raw = {name: [{"t": t, "factor": factor} for t, factor in rows] for name, rows in points.items()}
    return msgspec.convert({**raw, "step_ms": step_ms}, Shock, strict=False)


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("250ms", 250_000_000),
        ("12s", 12 * 10**9),
        ("1.5m", 90 * 10**9),
        ("2h", 7200 * 10**9),
        ("0.5", 5 * 10**8),
        (3, 3 * 10**9),
    ],
)
def test_durations(text, ns):
    assert parse_duration(text) == ns


def test_a_curve_is_linear_between_its_points(tmp_path):
    """WARP-001: level before the first point and after the last, floored to a part per million between."""
    shock = load_shock(write(tmp_path, SHOCK))
    curve = shock.price_curve()
    assert [curve.at(int(t * 10**9)) for t in (0, 1, 1.25, 2, 3, 4, 99)] == [
        *[1_000_000, 1_000_000, 975_000, 900_000],
        *[925_000, 950_000, 950_000],
    ]
    assert curve.at(1_000_000_001) == 999_999
    assert shock.depth_curve().at(0) == 500_000
    assert make_shock().price_curve().at(5) == 1_000_000


BAD_SHOCKS = [
    ("price = 3", "$.price"),
    (SHOCK + "speed = 1", "unknown field `speed`"),
    (SHOCK.replace("step_ms = 500", "step_ms = 0"), "step_ms: expected 1 to"),
    (SHOCK.replace("step_ms = 500", "step_ms = -5"), "step_ms: expected 1 to"),
    (SHOCK.replace('"1s"', '"soon"'), "price[0].t: expected a duration like 250ms"),
    (SHOCK.replace('"1s"', '"-1s"'), "price[0].t: expected a duration like 250ms"),
    (SHOCK.replace('"2s"', '"1s"'), "price[1].t: expected later than 1s, got 1s"),
    (SHOCK.replace("0.9 ", '"0" '), "price[1].factor: expected 0.000001 to 100, got 0"),
    (SHOCK.replace("0.9 ", "-0.9 "), "price[1].factor: expected 0.000001 to 100, got -0.9"),
    (SHOCK.replace("0.9 ", "0.12345678 "), "price[1].factor: expected at most six decimals"),
    (SHOCK.replace('"0.5"', '"-0.5"'), "depth[0].factor: expected 0 to 100, got -0.5"),
    (SHOCK.replace('factor = "0.5"', 'times = "0.5"'), "$.depth[0]"),
    ("price = [", "not valid TOML"),
]


@pytest.mark.parametrize(("text", "expected"), BAD_SHOCKS)
def test_a_bad_shock_is_named(tmp_path, text, expected):
    """CLI-002 WARP-001: the file and the path inside it."""
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_shock(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert expected in str(caught.value)
    assert caught.value.exit_status == 5


# ---------------------------------------------------------------- warping


SECOND = 10**9
T0 = 1_700_000_000 * SECOND


def tape(*rows):
    """Return commands from (seconds, kind, side, price, lots[, market]) rows."""
    commands = np.zeros(len(rows), dtype=COMMAND)
    for command, (seconds, kind, side, price, lots, *market) in zip(commands, rows, strict=True):
        command["ts_ns"], command["kind"], command["side"] = T0 + round(seconds * SECOND), kind, side
        command["price_tick"], command["qty_lot"], command["market"] = price, lots, (market or [0])[0]
    return commands


def told(chunks):
    """Return [(seconds, kind, signed price, lots)]."""
    rows = np.concatenate(list(chunks))
    return [
        ((ts - T0) / SECOND, codes.COMMAND_NAMES[kind], (side or 1) * price, lots)
        for ts, kind, side, price, lots in rows[["ts_ns", "kind", "side", "price_tick", "qty_lot"]].tolist()
    ]


LEVEL, PRINT, MARK_KIND, INDEX, CLOCK = codes.LEVEL, codes.PRINT, codes.MARK, codes.INDEX, codes.CLOCK


def test_without_a_shock_a_tape_is_told_as_it_is():
    """WARP-001 WARP-002."""
    rng = np.random.default_rng(3)
    rows = [
        (i / 10, LEVEL, int(rng.choice([1, -1])), int(rng.integers(1, 99)), int(rng.integers(0, 9))) for i in range(500)
    ]
    commands = tape(*rows)
    assert np.array_equal(np.concatenate(list(warp([commands], make_shock()))), commands)


def test_a_step_places_the_book_anew_and_then_moves_the_mark():
    """WARP-001 WARP-002: removals, totals, index, mark, all stamped with the step; bids fall and asks rise to ticks."""
    commands = tape(
        *[(0, LEVEL, 1, 1000, 10), (0, LEVEL, 1, 999, 20), (0, LEVEL, -1, 1001, 30), (0, INDEX, 0, 1003, 0)],
        *[(0, MARK_KIND, 0, 1001, 0), (2, PRINT, 1, 1001, 1), (2, PRINT, -1, 1000, 1)],
    )
    shock = make_shock([("0s", "1"), ("1s", "0.5")], [("0s", "1"), ("1s", "0.3")], step_ms=1000)
    assert told(warp([commands], shock))[5:] == [
        *[(1.0, "level", -1001, 0), (1.0, "level", 999, 0), (1.0, "level", 1000, 0)],
        *[(1.0, "level", -501, 9), (1.0, "level", 499, 6), (1.0, "level", 500, 3)],
        *[(1.0, "index", 502, 0), (1.0, "mark", 500, 0)],
        *[(2.0, "print", 501, 1), (2.0, "print", -500, 1)],
    ]


def test_levels_on_one_tick_are_summed():
    """WARP-002: at the step and for every change after it."""
    commands = tape(
        *[(0, LEVEL, 1, price, lots) for price, lots in ((100, 1), (101, 2), (102, 4), (103, 8))],
        *[(2, LEVEL, 1, 102, 0), (2, LEVEL, 1, 101, 32), (2, LEVEL, 1, 103, 0), (3, LEVEL, 1, 104, 5)],
    )
    shock = make_shock([("1s", "1"), ("1.001s", "0.5")], step_ms=1000)
    steps = told(warp([commands], shock))
    assert [row[2:] for row in steps if row[0] == 2.0 and row[1] == "level"] == [
        *[(100, 0), (101, 0), (102, 0), (103, 0), (50, 3), (51, 12)],
        *[(51, 8), (50, 33), (51, 0)],
    ]
    assert steps[-1] == (3.0, "level", 52, 5)


def test_bids_below_the_first_tick_are_nowhere():
    """WARP-001: neither when the book is placed anew nor when they change afterwards; asks stop at the first tick."""
    commands = tape((0, LEVEL, 1, 9, 1), (0, LEVEL, -1, 12, 1), (2, LEVEL, 1, 8, 4), (2, LEVEL, -1, 13, 4))
    shock = make_shock([("0s", "1"), ("1s", "0.1")], step_ms=1000)
    assert told(warp([commands], shock))[2:] == [
        *[(1.0, "level", -12, 0), (1.0, "level", 9, 0), (1.0, "level", -2, 1)],
        (2.0, "level", -2, 5),
    ]


def test_what_is_stamped_with_a_step_belongs_to_it():
    """WARP-001."""
    commands = tape((0, MARK_KIND, 0, 100, 0), (1, MARK_KIND, 0, 200, 0), (2, MARK_KIND, 0, 200, 0))
    shock = make_shock([("0s", "1"), ("1s", "0.5")], step_ms=1000)
    assert told(warp([commands], shock)) == [
        (0.0, "mark", 100, 0),
        (1.0, "mark", 50, 0),
        (1.0, "mark", 100, 0),
        (2.0, "mark", 100, 0),
    ]


def test_depth_alone_moves_no_price():
    """WARP-002: totals only; what rounds to nothing is taken away first; marks stay."""
    commands = tape((0, LEVEL, 1, 100, 1), (0, LEVEL, 1, 99, 9), (0, MARK_KIND, 0, 100, 0), (5, CLOCK, 0, 0, 0))
    shock = make_shock(depth=[("0s", "1"), ("1s", "0.5")], step_ms=1000)
    assert told(warp([commands], shock))[3:-1] == [(1.0, "level", 100, 0), (1.0, "level", 99, 4)]
    empty = make_shock(depth=[("0s", "1"), ("1s", "0")], step_ms=1000)
    assert told(warp([commands], empty))[3:-1] == [(1.0, "level", 99, 0), (1.0, "level", 100, 0)]


def test_steps_go_on_where_the_tape_is_silent():
    """WARP-001: the mark moves at every step, not only where something was recorded; after the last point it rests."""
    commands = tape((0, MARK_KIND, 0, 10_000, 0), (60, MARK_KIND, 0, 10_000, 0))
    shock = make_shock([("0s", "1"), ("1s", "0.9")], step_ms=250)
    assert told(warp([commands], shock)) == [
        (0.0, "mark", 10_000, 0),
        (0.25, "mark", 9_750, 0),
        (0.5, "mark", 9_500, 0),
        (0.75, "mark", 9_250, 0),
        (1.0, "mark", 9_000, 0),
        (60.0, "mark", 9_000, 0),
    ]


def test_everything_else_passes(population):
    """WARP-001: commands of accounts, funding and the clock are nobody's recorded prices."""
    commands = build_population(population, make_market(), 0, MARK, ts_ns=T0)
    shock = make_shock([("0s", "0.5")], [("0s", "0.5")])
    assert np.array_equal(np.concatenate(list(warp([commands], shock))), commands)


def test_time_zero_may_be_set():
    """WARP-001."""
    commands = tape((10, MARK_KIND, 0, 1_000, 0), (11, MARK_KIND, 0, 1_000, 0))
    shock = make_shock([("10.5s", "1"), ("10.6s", "0.5")], step_ms=100)
    assert told(warp([commands], shock))[-1] == (11.0, "mark", 1_000, 0)
    assert told(warp([commands], shock, start_ns=T0))[-1] == (11.0, "mark", 500, 0)


@st.composite
def tapes(draw):
    """A tape of two markets, not crossed or ordered in any special way, and a shock."""
    count = draw(st.integers(1, 60))
    gaps = draw(st.lists(st.sampled_from([0, 0, 1, 7, 40, 300]), min_size=count, max_size=count))
    stamps = np.cumsum(gaps) / 100
    rows = [
        (
            float(stamp),
            draw(st.sampled_from([LEVEL, LEVEL, LEVEL, PRINT, MARK_KIND, INDEX])),
            draw(st.sampled_from([1, -1])),
            draw(st.integers(1, 60)),
            draw(st.integers(0, 3)),
            draw(st.integers(0, 1)),
        )
        for stamp in stamps
    ]
    factors = st.sampled_from(["0.001", "0.3", "0.5", "0.85", "1", "1", "1.7"])
    points = [
        [(f"{100 * t}ms", draw(factors)) for t in sorted(draw(st.sets(st.integers(0, 80), max_size=4)))]
        for _ in range(2)
    ]
    return tape(*rows), make_shock(*points, step_ms=draw(st.sampled_from([50, 250, 1000])))


@given(tapes(), st.integers(1, 20))
def test_warping_is_what_it_says(drawn, cut):
    """WARP-001 WARP-002: at every stamp the book told is the recorded one multiplied, rounded outwards and summed."""
    commands, shock = drawn
    chunks = [commands[start : start + cut] for start in range(0, len(commands), cut)]
    out = np.concatenate([np.zeros(0, COMMAND), *warp(chunks, shock, 2, rows=16)])
    assert np.all(np.diff(out["ts_ns"]) >= 0)
    price, depth, step = shock.price_curve(), shock.depth_curve(), shock.step_ms * 10**6
    raw, shown, marks = {}, {}, {}
    done = 0
    for stamp in np.unique(commands["ts_ns"]).tolist():
        for row in commands[commands["ts_ns"] == stamp]:
            if row["kind"] == LEVEL:
                raw[int(row["market"]), int(row["side"]), int(row["price_tick"])] = int(row["qty_lot"])
            elif row["kind"] in (MARK_KIND, INDEX):
                marks[int(row["market"]), int(row["kind"])] = int(row["price_tick"])
        while done < len(out) and out["ts_ns"][done] <= stamp:
            row = out[done]
            if row["kind"] == LEVEL:
                shown[int(row["market"]), int(row["side"]), int(row["price_tick"])] = int(row["qty_lot"])
            elif row["kind"] in (MARK_KIND, INDEX):
                shown[int(row["market"]), int(row["kind"])] = int(row["price_tick"])
            done += 1
        first = int(commands["ts_ns"][0])
        at = (stamp - first) // step * step
        price_ppm, depth_ppm = price.at(at), depth.at(at)
        sums = {}
        for (market, side, tick), lots in raw.items():
            # Bids down, asks up: exactly, in plain integers.
            moved = tick * price_ppm // 10**6 if side > 0 else -(-tick * price_ppm // 10**6)
            if moved:
                sums[market, side, moved] = sums.get((market, side, moved), 0) + lots
        wanted = {key: lots * depth_ppm // 10**6 for key, lots in sums.items()}
        wanted = {key: lots for key, lots in wanted.items() if lots}
        assert {key: lots for key, lots in shown.items() if len(key) == 3 and lots} == wanted
        for key, tick in marks.items():
            assert shown[key] == max(round(Decimal(tick * price_ppm) / 10**6), 1)
    assert done == len(out)


def test_warped_books_never_cross():
    """WARP-001: whatever the factor, a bid below an ask stays below it."""
    bids = np.arange(1, 2_000, dtype=np.int64)
    for ppm in (1, 333_333, 850_000, 999_999, 1_000_001, 2_718_281):
        assert np.all(mul_ppm_floor(bids, ppm) < -mul_ppm_floor(-(bids + 1), ppm))


def test_rates_multiply_exactly():
    """WARP-001: in plain integers."""
    rng = np.random.default_rng(5)
    numbers = rng.integers(0, 1 << 31, 2_000)
    for ppm in (1, 499_999, 500_000, 850_000, 1_000_000, 99_999_999):
        assert mul_ppm_floor(numbers, ppm).tolist() == [number * ppm // 10**6 for number in numbers.tolist()]
        assert mul_ppm_floor(-numbers, ppm).tolist() == [-number * ppm // 10**6 for number in numbers.tolist()]
        assert mul_ppm_even(numbers, ppm).tolist() == [round(Decimal(n * ppm) / 10**6) for n in numbers.tolist()]
    large = np.array([1 << 40, (1 << 40) - 1], dtype=np.int64)
    assert mul_ppm_floor(large, 100_000_000).tolist() == [int(n) * 100 for n in large]


def test_long_shocks_forget_removed_levels(monkeypatch):
    """Memory is bounded by the book, not by the length of the tape."""
    monkeypatch.setattr(sys.modules[warp.__module__], "LEVELS_KEPT", 100)
    ticks = np.arange(1_000, 3_000)
    rows = [(i / 1000, LEVEL, 1, int(t), lots) for i, t in enumerate(ticks) for lots in (5, 0)]
    for factor in ("0.5", "1"):
        out = np.concatenate(list(warp([tape(*rows)], make_shock([("0s", factor)]))))
        assert len(out) == len(rows)
        assert not out["qty_lot"][1::2].any()


def test_build_commands_fills_padding_with_zeros():
    commands = build_commands(LEVEL, 1, np.arange(3), 1, np.arange(3), 7)
    assert not commands["_pad"].any()
    assert commands["qty_lot"].tolist() == [7, 7, 7]
