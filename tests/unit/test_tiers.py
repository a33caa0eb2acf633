"""Margin tiers as venues hand them out: real tables of every symbol, each form they come in, and what is refused."""

import json
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise

import pytest

from engine.codes import PPM
from engine.contract import Tier, load_market, load_tiers, read_tiers
from engine.errors import ConfigError
from engine.formulas import build_brackets, maintenance_margin

UNITS = {"USDT": Decimal("0.000001"), "USDC": Decimal("0.000001"), "BTC": Decimal("0.00000001")}


@pytest.fixture(scope="module")
def real(shared):
    """Return Binance's leverage tiers of 2024-10-24 as ccxt gives them: {symbol: [tier, ...]}, and their file."""
    file = shared / "data/margin_tiers/binance_leverage_tiers.json"
    if not file.is_file():  # recordings are not ours to ship, and a folder of them may hold only some
        pytest.skip(f"the brackets are not among the recordings: {file.name}")
    return json.loads(file.read_text(encoding="utf-8"), parse_float=str), file


@pytest.fixture(scope="module")
def loaded(real, tmp_path_factory):
    """Return {symbol: Tiers} of every symbol, each loaded from a ccxt file of its own, as it is."""
    folder = tmp_path_factory.mktemp("tiers")
    tables = {}
    for number, (symbol, rows) in enumerate(real[0].items()):
        file = folder / f"{number}.json"
        file.write_text(json.dumps({symbol: rows}), encoding="utf-8")
        tables[symbol] = [Tier(**tier) for tier in load_tiers(file, symbol)]
    return tables


def unit_of(symbol):
    """Return the smallest unit of the asset a symbol settles in."""
    return UNITS[symbol.split(":")[1].split("-")[0]]


def test_every_symbol_loads(real, loaded):
    """349 symbols, 2,805 rows, 2,456 steps between them; every `cum` is given and passes the recurrence.

    Source: MARGIN-002.
    """
    rows = sum(len(read_tiers(tiers, unit_of(symbol), symbol)) for symbol, tiers in loaded.items())
    assert (len(loaded), rows, rows - len(loaded)) == (349, 2_805, 2_456)
    assert all(tier.deduction is not None for tiers in loaded.values() for tier in tiers)
    assert {symbol: len(tiers) for symbol, tiers in loaded.items()} == {s: len(table) for s, table in real[0].items()}


def test_every_deduction_is_the_venues(real, loaded):
    """Three ways to the same number: the venue's `cum`, our integers, the public formula.

    Source: MARGIN-002, FORM-003.
    """
    for symbol, rows in real[0].items():
        unit, tiers = unit_of(symbol), loaded[symbol]
        ours = [deduction * unit for _, _, _, deduction in read_tiers(tiers, unit, symbol)]
        formula = build_brackets([tier.floor for tier in tiers], [tier.maintenance for tier in tiers])
        assert ours == [Decimal(row["info"]["cum"]) for row in rows] == [tier.deduction for tier in formula], symbol


def test_maintenance_is_continuous_at_every_edge(loaded):
    """At a floor both neighbours ask the same, to the unit; one unit of notional further it has not jumped.

    Source: MARGIN-002.
    """
    edges = 0
    for symbol, tiers in loaded.items():
        table = read_tiers(tiers, unit_of(symbol), symbol)
        for before, after in pairwise(table):
            floor = after[0]
            at = [-(-floor * rate // PPM) - deduction for _, _, rate, deduction in (before, after)]
            assert at[0] == at[1], (symbol, floor)
            assert Fraction(floor * after[2], PPM).denominator == 1  # no rounding hides in it
            beyond = [-(-(floor + step) * row[2] // PPM) - row[3] for step, row in ((-1, before), (1, after))]
            assert beyond[0] <= at[0] <= beyond[1] <= at[0] + 1, (symbol, floor)
            edges += 1
    assert edges == 2_456


def test_maintenance_is_the_sum_over_brackets(loaded):
    """With deductions or told like taxes, in the middle of every bracket.

    Source: MARGIN-002, FORM-003.
    """
    for tiers in loaded.values():
        floors = [Fraction(tier.floor) for tier in tiers]
        brackets = build_brackets(floors, [tier.maintenance for tier in tiers])
        tops = [*floors[1:], 2 * floors[-1] + 1]
        taxed = Fraction(0)
        for tier, floor, top in zip(tiers, floors, tops, strict=True):
            half = (top - floor) / 2
            assert maintenance_margin(floor + half, brackets) == taxed + half * Fraction(tier.maintenance)
            taxed += (top - floor) * Fraction(tier.maintenance)


def test_a_perpetual_is_not_its_dated_contract(real):
    """Source: MARGIN-002."""
    tables, file = real
    assert load_tiers(file, "BTCUSDT") == load_tiers(file, "BTC/USDT:USDT")
    dated = load_tiers(file, "BTC/USDT:USDT-241227")
    assert len(dated) == len(tables["BTC/USDT:USDT-241227"])
    assert dated != load_tiers(file, "BTCUSDT")


@pytest.mark.parametrize("symbol", ["BTC/USDT:USDT", "ETH/BTC:BTC"])
def test_every_form_says_the_same(real, tmp_path, symbol):
    """ccxt with the venue's own rows inside, ccxt without, one market's tiers alone, Binance's answer for one or many.

    Without `cum` the deductions are ours, and the same.  Source: MARGIN-002.
    """
    rows = real[0][symbol]
    plain = symbol.replace("/", "").split(":")[0]
    bare = [{key: value for key, value in row.items() if key != "info"} for row in rows]
    told = {"symbol": plain, "brackets": [row["info"] for row in rows]}
    forms = {
        "ccxt": {symbol: rows, "X/Y:Y": rows[:1]},
        "ccxt_bare": {symbol: bare},
        "ccxt_market": bare,
        "ccxt_market_named": [*({**row, "symbol": symbol} for row in bare), {**bare[0], "symbol": f"{symbol}-990101"}],
        "binance_all": [{"symbol": "XY", "brackets": told["brackets"][:1]}, told],
        "binance_one": told,
    }
    unit = unit_of(symbol)
    seen = []
    for name, form in forms.items():
        file = tmp_path / f"{name}.json"
        file.write_text(json.dumps(form), encoding="utf-8")
        seen.append(read_tiers([Tier(**tier) for tier in load_tiers(file, plain)], unit, name))
    assert len(set(seen)) == 1
    assert len(seen[0]) == len(rows)


def test_a_market_takes_the_file_by_its_name(real, tmp_path):
    """Source: MARGIN-002, CFG-001."""
    (tmp_path / "tiers.json").write_text(json.dumps(real[0]), encoding="utf-8")
    (tmp_path / "market.toml").write_text(
        'symbol = "BTCUSDT"\ntick_size = "0.1"\nlot_size = "0.001"\ntiers = "tiers.json"\n', encoding="utf-8"
    )
    market = load_market(tmp_path / "market.toml")
    assert [tier.deduction for tier in market.tiers[:3]] == [0, 50, 950]
    assert market.tiers[1] == Tier(
        floor=Decimal(50_000), initial=Decimal("0.01"), maintenance=Decimal("0.005"), deduction=Decimal(50)
    )


# ---------------------------------------------------------------- deductions that are no whole units


def tier(floor, maintenance, deduction=None):
    given = None if deduction is None else Decimal(deduction)
    return Tier(floor=Decimal(floor), initial=Decimal(1), maintenance=Decimal(maintenance), deduction=given)


def test_a_deduction_between_two_units_is_refused():
    """300 x 0.001 is 0.3: whole in tenths, not in whole units, and rounding it would make a step in the requirement.

    Source: MARGIN-002, NUM-001.
    """
    tiers = [tier(0, "0.004"), tier(300, "0.005")]
    assert read_tiers(tiers, Decimal("0.1"), "m")[1][3] == 3
    with pytest.raises(ConfigError, match=r"m: tiers\[1\]\.floor: the deduction is not a whole number of units"):
        read_tiers(tiers, Decimal(1), "m")


def test_at_a_millionth_a_whole_floor_never_is_between():
    """A floor in whole dollars times a rate in ppm is a whole number of millionths, whatever the two are.

    Source: MARGIN-002.
    """
    for floor, rate in ((1, "0.004001"), (7, "0.5"), (999_999_999, "0.123457")):
        step = Decimal(rate) - Decimal("0.004")
        rows = read_tiers([tier(0, "0.004"), tier(floor, rate)], Decimal("0.000001"), "m")
        assert rows[1][3] * Decimal("0.000001") == floor * step
    # a floor with decimals of its own can be
    with pytest.raises(ConfigError, match="not a whole number of units"):
        read_tiers([tier(0, "0.004"), tier("0.5", "0.004001")], Decimal("0.000001"), "m")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("51", r"tiers\[1\]\.deduction: expected 50\.000000 by the recurrence, got 51"),
        ("50.000001", r"tiers\[1\]\.deduction: expected 50\.000000 by the recurrence, got 50\.000001"),
        ("50.0000001", r"tiers\[1\]\.deduction: value 50\.0000001 is not a multiple of 0\.000001"),
        ("49.99999999", r"tiers\[1\]\.deduction: value 49\.99999999 is not a multiple of 0\.000001"),
    ],
)
def test_a_cum_that_is_not_the_recurrences_is_refused(given, says):
    """Even where a venue has only printed it with too few digits: it would not be the requirement we charge.

    Source: MARGIN-002.
    """
    with pytest.raises(ConfigError, match=says):
        read_tiers([tier(0, "0.004"), tier(50_000, "0.005", given)], Decimal("0.000001"), "m")


def test_real_deductions_need_their_unit(loaded):
    """In whole dollars (bitcoins) 10 real tables could not be held exactly; each is refused by name, none is rounded.

    Source: MARGIN-002, NUM-001.
    """
    fits = {s: all(t.deduction == int(t.deduction) and t.floor == int(t.floor) for t in loaded[s]) for s in loaded}
    for symbol, tiers in loaded.items():
        if fits[symbol]:
            assert [row[3] for row in read_tiers(tiers, Decimal(1), symbol)] == [tier.deduction for tier in tiers]
        else:
            with pytest.raises(ConfigError, match=rf"^{symbol}: tiers\["):
                read_tiers(tiers, Decimal(1), symbol)
    assert list(fits.values()).count(False) == 10


# ---------------------------------------------------------------- what is no table

ROW = {"minNotional": 0, "maintenanceMarginRate": "0.01", "maxLeverage": 20}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (5, "expected leverageBracket or ccxt leverage tier fields, found something else"),
        ([5], "found something else"),
        ("BTCUSDT", "found something else"),
        (None, "found something else"),
        ({"BTC/USDT:USDT": 5}, "found something else"),
        ({"BTC/USDT:USDT": [5]}, "found something else"),
        ([{"symbol": "BTCUSDT", "brackets": 5}], "found something else"),
        ([], "symbol: no brackets for 'BTCUSDT' found"),
        ({}, "symbol: no brackets for 'BTCUSDT' found"),
        ({"BTC/USDT:USDT": []}, "symbol: no brackets for 'BTCUSDT' found"),
        ({"ETH/USDT:USDT": [ROW]}, "symbol: no brackets for 'BTCUSDT' found"),
        ([{**ROW, "symbol": "ETH/USDT:USDT"}], "symbol: no brackets for 'BTCUSDT' found"),
        ([{**ROW, "symbol": "BTC/USDT:USDT-250328"}], "symbol: no brackets for 'BTCUSDT' found"),
        ({"symbol": "ETHUSDT", "brackets": [ROW]}, "symbol: no brackets for 'BTCUSDT' found"),
        ([{}], "missing 'minNotional'"),
        ([{"minNotional": 0, "maxLeverage": 20}], "missing 'maintenanceMarginRate'"),
        ([{**ROW, "maxLeverage": 0}], "expected a leverage above 0, got 0"),
        ([{**ROW, "maxLeverage": -3}], "expected a leverage above 0, got -3"),
        ([{**ROW, "maxLeverage": None}], "expected a decimal number, got 'None'"),
        ([{**ROW, "minNotional": "NaN"}], "expected a finite number, got 'NaN'"),
        ([{**ROW, "minNotional": "Infinity"}], "expected a finite number, got 'Infinity'"),
        ([{**ROW, "maintenanceMarginRate": True}], "expected a decimal number, got 'True'"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, content, says):
    """Source: CFG-001."""
    file = tmp_path / "tiers.json"
    file.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"tiers\.json: ") as caught:
        load_tiers(file, "BTCUSDT")
    assert says in str(caught.value)


def test_a_file_that_is_not_there_or_not_json_is_refused(tmp_path):
    """Source: CFG-001."""
    with pytest.raises(ConfigError, match="cannot be read"):
        load_tiers(tmp_path / "none.json", "BTCUSDT")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(ConfigError, match="not valid JSON"):
        load_tiers(tmp_path / "broken.json", "BTCUSDT")
