"""The public formulas where no venue published a number: units, edges, refusals; worked by hand beside each."""

import doctest
import inspect
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

import engine.formulas
from engine import formulas as f
from engine.formulas import liquidation

# ---------------------------------------------------------------- numbers


@pytest.mark.parametrize("bad", [0.1, 1e9, True, None, b"1"])
def test_what_is_not_exact_is_refused(bad):
    """Source: FORM-001."""
    with pytest.raises(TypeError, match="expected int, Decimal, Fraction or text"):
        f.exact(bad)


@pytest.mark.parametrize("bad", ["one", "", "1/0", "nan", Decimal("Infinity"), Decimal("NaN")])
def test_what_is_no_number_is_refused(bad):
    """Source: FORM-001."""
    with pytest.raises(ValueError, match="expected a"):
        f.exact(bad)


def test_floats_are_refused_by_the_formulas():
    """Source: FORM-001."""
    with pytest.raises(TypeError):
        f.liquidation_price("long", 1, 27000.0, 1350)
    with pytest.raises(TypeError):
        f.maintenance_margin(1.5, f.build_brackets([0], ["0.01"]))


@pytest.mark.parametrize(
    ("side", "sign"),
    [(1, 1), ("long", 1), ("Buy", 1), (-1, -1), ("short", -1), ("sell", -1), (0, 0), ("up", 0), (True, 0)],
)
def test_sides(side, sign):
    if sign:
        assert f.sign_of(side) == sign
    else:
        with pytest.raises(ValueError, match="side: expected"):
            f.sign_of(side)


def test_steps():
    """Floor and ceiling go down and up on either side of 0, cutting goes towards it, a half goes up."""
    assert [f.floor_to_step(x, "0.5") for x in ("1.7", "-1.7", "1.5")] == [Fraction(3, 2), -2, Fraction(3, 2)]
    assert [f.ceil_to_step(x, "0.5") for x in ("1.7", "-1.7", "1.5")] == [2, Fraction(-3, 2), Fraction(3, 2)]
    assert [f.truncate_to_step(x) for x in ("1.7", "-1.7")] == [1, -1]
    assert [f.round_to_step(x) for x in ("2.5", "-2.5", "2.4")] == [3, -2, 2]
    with pytest.raises(ValueError, match="step: expected a number above 0"):
        f.floor_to_step(1, 0)


def test_clamp_and_median():
    assert [f.clamp(x, -1, 1) for x in (-2, 0, 2)] == [-1, 0, 1]
    assert f.clamp(5, None, None) == 5
    with pytest.raises(ValueError, match="low <= high"):
        f.clamp(0, 1, -1)
    assert f.median([3, 1, 2]) == 2
    assert f.median([1, 2]) == Fraction(3, 2)
    with pytest.raises(ValueError, match="at least one"):
        f.median([])


@given(st.fractions(), st.integers(0, 12))
def test_decimals_for_display(number, places):
    """The nearest with that many decimals, half to even.  Source: FORM-001."""
    shown = f.as_decimal(number, places)
    assert -shown.as_tuple().exponent == places
    assert Fraction(shown) * 10**places == round(number * 10**places)


# ---------------------------------------------------------------- one equation


SIDES, KINDS = [1, -1], [False, True]


@pytest.mark.parametrize("inverse", KINDS)
@pytest.mark.parametrize("side", SIDES)
@given(data=st.data())
def test_the_price_solves_the_equation(side, inverse, data):
    """Put back into equity = maintenance, in tiers, with fee and another position's maintenance, nothing is left.

    Source: FORM-002.
    """
    positive = st.fractions(Fraction(1, 100), 1000, max_denominator=100)
    qty, entry, collateral, other = (data.draw(positive) for _ in range(4))
    fee = data.draw(st.sampled_from([Fraction(0), Fraction(1, 1000)]))
    brackets = f.build_brackets([0, 50, 700], ["0.01", "0.05", "0.3"])
    rule = f.Rule(inverse=inverse, fee_at="mark")
    try:
        price = f.liquidation_price(
            side, qty, entry, collateral, brackets=brackets, closing_fee=fee, other_maintenance=other, rule=rule
        )
    except ValueError:
        price = None
    if price is None:
        return
    value = abs(f.position_value(side, qty, price, inverse=inverse))
    equity = collateral + f.unrealised_pnl(side, qty, entry, price, inverse=inverse)
    assert equity == f.maintenance_margin(value, brackets) + fee * value + other
    safer = price * (1 + Fraction(side, 1000))
    value = abs(f.position_value(side, qty, safer, inverse=inverse))
    equity = collateral + f.unrealised_pnl(side, qty, entry, safer, inverse=inverse)
    assert equity > f.maintenance_margin(value, brackets) + fee * value + other


def test_no_price_and_every_price():
    """A long with its whole value as margin cannot fall below it; a short that owes more than its entry always is.

    Source: FORM-002.
    """
    assert f.liquidation_price("long", 1, 100, 100) is None
    assert f.liquidation_price("long", 1, 100, 101, maintenance_rate="0.01") is None
    assert f.bankruptcy_price("long", 1, 100, 100) is None
    # coin-margined short: it can lose at most its value at entry, 1/100
    assert f.liquidation_price("short", 1, 100, "0.01", rule="binance-coinm") is None
    for debt in (-100, -101):
        with pytest.raises(ValueError, match="below the requirement at every price"):
            f.liquidation_price("short", 1, 100, debt)
    with pytest.raises(ValueError, match="below the requirement at every price"):
        f.liquidation_price("long", 1, 100, -1, maintenance_rate=1)
    assert f.liquidation_price("long", 1, 100, 101, maintenance_rate=1) is None


def test_hedge_mode_is_one_equation():
    """Long 3 at 100 and short 1 at 110, wallet 40, rates 1 %: 40 + 3(P - 100) + (110 - P) = 0.04 P, P = 150 / 1.96.

    Source: FORM-002.
    """
    legs = {"maintenance_rate": "0.01", "hedge": [f.Leg("short", 1, 110, "0.01")]}
    assert f.liquidation_price("long", 3, 100, 40, **legs, rule="binance-usdm") == Fraction(15000, 196)
    # at entry instead: 40 + 2P - 190 = 3 + 1.1
    assert f.liquidation_price("long", 3, 100, 40, **legs, rule="bybit-linear") == Fraction("77.05")
    # hedged whole there is no such price
    legs["hedge"] = [f.Leg("short", 3, 110)]
    assert f.liquidation_price("long", 3, 100, 40, hedge=legs["hedge"]) is None


def test_roundings():
    """Source: FORM-002, MARGIN-011."""
    exact = Fraction("97.3")
    assert f.round_trigger(exact, 1, "long", "entry") == 98
    assert f.round_trigger(exact, 1, "short", "entry") == 97
    assert f.round_trigger(exact, 1, "long", "first") == 97
    assert f.round_trigger(exact, 1, "short", "first") == 98
    assert f.round_trigger(97, 1, "long", "first") == 96  # at 97 equity equals maintenance: still safe
    assert f.round_trigger(97, 1, "short", "first") == 98
    assert f.round_trigger(exact, "0.5", "long", "earlier") == Fraction("97.8")
    assert f.round_trigger(exact, 1, "long", "none") == exact
    assert f.bankruptcy_price("long", 1, 100, "2.7", tick=1) == 98
    assert f.bankruptcy_price("long", 1, 100, "2.7", tick=1, rounding="down") == 97
    assert f.bankruptcy_price("short", 1, 100, "2.7", tick=1, rounding="up") == 103


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: f.liquidation_price(1, 1, 1, 1, rule="mtgox"), "unknown venue 'mtgox', known: engine, binance-usdm, "),
        (lambda: f.liquidation_price(1, 1, 1, 1, rule=f.Rule(fee_at="dawn")), "rule.fee_at: expected none, mark or"),
        (lambda: f.liquidation_price(1, 1, 1, 1, rule=f.Rule(maintenance_at="dusk")), "maintenance_at: expected mark"),
        (lambda: f.liquidation_price(1, 0, 1, 1), "qty: expected a number above 0"),
        (lambda: f.liquidation_price(1, 1, -1, 1), "entry: expected a number above 0"),
        (lambda: f.round_trigger(1, 1, 1, "sideways"), "rounding: expected entry, first"),
        (lambda: f.bankruptcy_price(1, 1, 9, 1, tick=1, rounding="off"), "rounding: expected entry, down or up"),
        (lambda: f.solve_price([f.Leg(1, 1, 1)] * 2, 1, 0, f.build_brackets([0], [1])), "exactly one position, got 2"),
        (lambda: f.solve_price([f.Leg(1, 1, 1)], 1, 0, f.build_brackets([0], [1]), extra_rate=1), "of at most 1"),
        (lambda: f.build_brackets([1], [1]), "the first tier starts at 0"),
        (lambda: f.build_brackets([0, 1], [1]), "as many floors as rates"),
        (lambda: f.build_brackets([0, 5, 5], [1, 2, 3]), "floors to rise"),
        (lambda: f.build_brackets([0, 5], [2, 1]), "rates not to fall"),
        (lambda: f.bankruptcy_quote(0, {"A": 1}, {"A": 1}, {"A": 1}, "A", 1), "shrinks the position 1, got 1"),
        (lambda: f.bankruptcy_quote(0, {"A": 1}, {"A": 1}, {"A": 1}, "A", -2), "shrinks the position 1, got -2"),
        (lambda: f.score_signed_values(10, 5, 10), "equity .* above 0, got 0"),
        (lambda: f.score_signed_values(10, 0, 5), "entry_value: expected a value that is not 0"),
        (lambda: f.maintenance_margin(-1, f.build_brackets([0], [1])), "notional: expected 0 or more"),
        (lambda: f.leverage_of("long", 1, 1, 0), "equity: expected a number above 0"),
        (lambda: f.score_binance(1, 1), "either maintenance or margin_ratio"),
        (lambda: f.lights_of_place(2), "expected 0 to 1, got 2"),
        (lambda: f.lights_of_rank(7, 6), "rank: expected 1 to 6, got 7"),
        (lambda: f.disposal_sizes(10, 0, 0, 10, 1), "fraction: expected a number above 0"),
        (lambda: f.disposal_sizes(10, 1, 0, 0, 1), "depth x max_consume: expected a number above 0"),
        (lambda: f.offset_position(1, 0, [], 1), "size: expected a position"),
        (lambda: f.allocate_largest_remainder({"a": 1}, 2), "close: expected 0 to 1 contracts, got 2"),
        (lambda: f.drain_leverage({"a": (1, 1)}, 1, 2), "close: expected at most 1, got 2"),
        (lambda: f.time_weighted_average([(5, 1)], 0, 10), "at or before the start 0"),
        (lambda: f.time_weighted_average([(0, 1)], 0, 5, [(0, 5)]), "time outside pauses"),
        (lambda: f.position_value(1, -1, 5), "qty: expected a size of 0 or more"),
    ],
)
def test_refusals(call, says):
    with pytest.raises(ValueError, match=says):
        call()


# ---------------------------------------------------------------- positions, funds, queues


def test_fills_close_before_they_open():
    """Long 3 for 301; selling 5 at 110 closes 3 for 330 (29 gained) and opens a short of 2 for 220.

    Source: POS-001, NUM-003.
    """
    held = f.apply_fill(f.Holding(Fraction(3), Fraction(301)), -5, 110)
    assert held == f.Holding(Fraction(-2), Fraction(-220), Fraction(29))
    assert held.entry == 110
    assert held.unrealised(100) == 20
    assert f.Holding().entry is None


def test_a_unit_floors_the_cost_that_is_closed():
    """A third of 301 is 100 1/3; in whole units 100, and of a short's -301 it is -101: always down.

    Source: POS-001.
    """
    assert f.apply_fill(f.Holding(Fraction(3), Fraction(301)), -1, 110, unit=1) == (2, 201, 10)
    assert f.apply_fill(f.Holding(Fraction(-3), Fraction(-301)), 1, 90, unit=1) == (-2, -200, 11)
    assert f.apply_fill(f.Holding(Fraction(3), Fraction(301)), -1, 110).realised == Fraction(29, 3)


def test_a_walk_fill_by_fill():
    """A long of 2 with -198 (bankrupt at 99), fund 1: 1 at 100 pays its surplus capped at 0.5 and keeps 0.5, so that
    the other unit is bankrupt at 98.5; at 97.5 it costs the fund 1; 97 would not have been paid for.

    Source: FORM-003, LIQ-007.
    """
    walk = f.walk_book(-198, 2, [(100, 1), ("97.5", 1)], 90, 98, fund=1, fee_cap="0.005")
    assert walk == (2, 0, 0, Fraction("0.5"), False)
    walk = f.walk_book(-198, 2, [(100, 1), (96, 1)], 90, 98, fund=1, fee_cap="0.005")
    assert walk == (1, Fraction("-98.5"), 1, Fraction("1.5"), True)
    assert f.walk_book(-198, 2, [(89, 1)], 90, 100, fund=1, fee_cap=1) == (0, -198, 2, 1, False)


def test_deleveraging_passes_over_who_is_on_the_same_side():
    """Short 1 with 54 (bankrupt at 54): another short is no counterparty, the long of 3 gives 1 of its own.

    Source: FORM-003.
    """
    done = f.offset_position(54, -1, [("same", 10, -1), ("long", -100, 3)], 50)
    assert done.price == 54
    assert done.victims == (("same", 10, -1), ("long", -46, 2))
    assert done.left == 0
    assert f.offset_position(54, -1, [("long", -100, 3)], 50, price=50).victims == (("long", -50, 2),)


def test_a_queue_keeps_the_order_of_equals_and_closes_what_there_is():
    """Source: ADL-002, ADL-004."""
    queue = f.build_queue([("a", 1, 5), ("b", 2, 7), ("c", 1, 5)], 9)
    assert [(place.account, place.rank, place.closed, place.remaining) for place in queue] == [
        ("b", 1, 2, 0),
        ("a", 2, 1, 0),
        ("c", 3, 1, 0),
    ]


def test_lights_on_every_scale():
    """Source: ADL-009."""
    assert [f.lights_of_place(Fraction(part, 10)) for part in (0, 1, 2, 5, 9, 10)] == [5, 5, 4, 3, 1, 1]
    assert f.show_lights(0) == {"bitmex": 0, "bybit": 0, "okx": 0, "gate": 6}
    assert f.show_lights(1) == {"bitmex": 1, "bybit": 1, "okx": 1, "gate": 5, "binance": 0, "whitebit": 0}
    with pytest.raises(ValueError, match="expected 0 to 5"):
        f.show_lights(6)


def test_indicators_of_every_venue():
    """Source: FORM-003."""
    assert f.read_adl_rank("binance-usdm", {"adlQuantile": {"LONG": 1, "SHORT": 2, "BOTH": 0}}) == (2, 3, None)
    assert f.read_adl_rank("bybit", {"adlRankIndicator": 5}) == (5, 5, None)
    assert f.read_adl_rank("okx", {"adl": "3"}) == (3, 3, None)
    assert f.read_adl_rank("gate", {"adl_ranking": 1}) == (1, 5, None)
    assert f.read_adl_rank("gate", {"adl_ranking": 6}) == (6, 0, None)
    assert f.read_adl_rank("bitmex", {"deleveragePercentile": "0.8"}) == (None, None, 80)
    with pytest.raises(ValueError, match="unknown 'lab'"):
        f.read_adl_rank("lab", {})
    with pytest.raises(ValueError, match="gate: expected its ADL indicator"):
        f.read_adl_rank("gate", {"adl": 1})


def test_published_liquidations_of_every_venue():
    """Binance names the order's side, Bybit the position's, OKX both.  Source: FORM-003."""
    bybit = f.read_liquidation("bybit", {"data": [{"T": 1, "s": "X", "S": "Buy", "v": "2", "p": "3"}]})
    assert (bybit.order_side, bybit.position_side, bybit.price_is) == ("sell", "long", "bankruptcy")
    detail = {"side": "buy", "posSide": "short", "sz": "13", "bkPx": "3.5", "ts": "9"}
    okx = f.read_liquidation("okx", {"instId": "X-USDT-SWAP", "details": [detail]})
    assert okx == ("X-USDT-SWAP", 13, Fraction("3.5"), "bankruptcy", "buy", "short", 9, None)
    assert f.read_liquidation("okx", {**detail, "posSide": "net"}).position_side == "short"
    with pytest.raises(ValueError, match="unknown 'lab'"):
        f.read_liquidation("lab", {})
    with pytest.raises(ValueError, match="binance: expected a published liquidation"):
        f.read_liquidation("binance", {"o": {"S": "BUY"}})


def test_fund_rules():
    """Source: LIQ-007, DEF-001, ADL-001."""
    assert f.can_pay(1, -1)
    assert not f.can_pay(1, "-1.000001")
    assert f.deficit_of_fill(10, "long", 1, 100, 95) == 0
    assert f.deficit_of_fill(10, "short", 1, 100, 115) == 5
    assert f.cover_loss(10, 4, cap=3) == (3, 0, 3, 7)  # capped: nothing is socialised yet
    assert f.is_fund_overrun(100, 50, -150)
    assert not f.is_fund_overrun(100, 50, -149)
    assert not f.releases_pool_drawdown("-0.25", "-0.25")
    assert f.releases_pool_drawdown("-0.24", "-0.25")
    assert f.rate_per_interval("0.4", 1, "0.04") == Fraction("0.04")
    assert f.funding_rate("0.01", 0, cap="0.002") == Fraction("0.002")


def test_rules_whose_published_numbers_are_doubtful():
    """Their vectors are skipped, for the venue's sake; the arithmetic is by hand.  Source: FORM-003."""
    # three times leverage, half its entry gained; a loser has almost nothing but keeps its place by leverage
    assert f.score_hyperliquid_decompiled("long", 10, 100, 150, 500) == Fraction("1.5")
    assert f.score_hyperliquid_decompiled("short", 10, 100, 150, 500) == Fraction(3, 10**8)
    assert f.score_hyperliquid_docs(100, 150, 3) == Fraction("4.5")
    # 30 % of 400,000 is more than 50,000, of 100,000 it is less
    assert f.okx_fund_threshold(400_000, "0.3", 50_000) == 280_000
    assert f.okx_fund_threshold(100_000, "0.3", 50_000) == 50_000
    assert f.check_peak_drawdown(100, 30, "0.3") == (Fraction("0.3"), True, 0)
    assert f.check_peak_drawdown(100, "29.9", "0.3").triggered is False
    assert f.rate_cap(6, "0.05", "0.03") == Fraction("0.12")
    assert f.size_to_tier(15_000, 2_000) == 13_000
    assert f.size_to_tier(1_500, 2_000) == 0
    assert [f.lights_of_rank(rank, 6) for rank in range(1, 7)] == [5, 4, 3, 3, 2, 1]
    assert f.share_after_slots(50, 3, "0.1", 10) == Fraction("0.4")
    assert f.share_after_slots(50, 30, "0.1", 10) == 1
    assert f.return_on_margin("long", 10_500, 12_000, 25, inverse=True) == Fraction("3.125")


def test_maintenance_at_entry_takes_the_tier_of_the_entry():
    """3,500 at entry is in the third of tiers of 1,000: 3 % less 15, 90; margin 350 falls to it at 100 - 260/35.

    Source: FORM-002, MARGIN-002.
    """
    brackets = f.build_brackets([0, 1000, 2000], ["0.02", "0.025", "0.03"])
    price = f.liquidation_price("long", 35, 100, 350, brackets=brackets, rule="bybit-linear")
    assert price == 100 - Fraction(260, 35)


def test_a_loss_that_was_collected_in_full_is_nobodys():
    """Source: FORM-003."""
    assert f.share_floor_last(9, [3, 6]) == [3, 6]
    assert f.share_floor_last(8, [3, 6]) == [2, 6]  # 2.67 and 5.33 floored, one left for the last


def test_funding_sums_to_nothing():
    """Source: FUND-001."""
    paid = f.funding_payments({"a": 3, "b": -1, "c": -2}, 100, "0.001")
    assert paid == {"a": Fraction("-0.3"), "b": Fraction("0.1"), "c": Fraction("0.2")}
    assert f.funding_payment(-1000, 50, "0.01", inverse=True) == Fraction("0.2")


@given(st.data())
def test_water_finds_its_level(data):
    """What is taken sums to the close; who gave a part stands at the level, who gave nothing below, who gave all above.

    Source: FORM-004.
    """
    count = data.draw(st.integers(1, 6))
    number = st.fractions(Fraction(1, 10), 100, max_denominator=20)
    accounts = {
        str(n): (data.draw(st.fractions(-50, 100, max_denominator=20)), data.draw(number)) for n in range(count)
    }
    weights, rooms = ({name: data.draw(number) for name in accounts} for _ in range(2))
    close = sum(rooms.values()) * data.draw(st.fractions(Fraction(1, 50), 1, max_denominator=50))
    done = f.fill_water(accounts, weights, rooms, close)
    assert sum(done.taken.values()) == close
    for name, (exposure, equity) in accounts.items():
        left = (exposure - weights[name] * done.taken[name]) / equity
        assert 0 <= done.taken[name] <= rooms[name]
        assert left <= done.level or done.taken[name] == rooms[name]
        assert left >= done.level or done.taken[name] == 0


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(1, 50)), min_size=1, max_size=6), st.integers(1, 400))
def test_pro_rata_is_fair_below_the_capacities(rows, budget):
    """Nobody above its room, nothing left while there is room, equal rates for all who still have some.

    Source: FORM-004.
    """
    weights = {str(n): weight for n, (weight, _) in enumerate(rows)}
    rooms = {str(n): room for n, (_, room) in enumerate(rows)}
    done = f.allocate_pro_rata(weights, budget, rooms)
    assert sum(done.taken.values()) + done.unfilled == budget
    assert done.unfilled == max(0, budget - sum(rooms.values()))
    rates = {done.taken[name] / weights[name] for name in weights if done.taken[name] < rooms[name]}
    assert len(rates) <= 1
    assert all(done.taken[name] <= rooms[name] for name in rooms)


# ---------------------------------------------------------------- the page


@pytest.mark.parametrize("module", [engine.formulas, liquidation])
def test_the_examples_are_true(module):
    found = doctest.testmod(module)
    assert found.attempted
    assert not found.failed


def test_everything_public_is_documented_and_says_its_source():
    """Each formula has a docstring with its source; types and the arithmetic of numbers have none to name."""
    silent = [
        name
        for name in f.__all__
        if inspect.isfunction(getattr(f, name))
        and getattr(f, name).__module__ != "engine.formulas.exact"
        and "Source:" not in (getattr(f, name).__doc__ or "")
    ]
    assert set(silent) <= {"find_rule", "round_trigger", "leverage_of", "open_time"}
