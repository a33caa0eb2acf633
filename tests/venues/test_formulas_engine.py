"""The formulas are no parallel world: for random positions they name the very ticks the reference engine finds.

Nothing is rounded in between: a formula's exact price lies between two ticks, and the engine's is one of them.
"""

from decimal import Decimal
from fractions import Fraction

from hypothesis import assume, event, given
from hypothesis import strategies as st

from engine import formulas
from engine.codes import CROSS, ISOLATED, PPM, PRICE_MAX_LIMIT
from engine.contract import Market, Tier, build_setup
from engine.formulas import Bracket
from engine.reference.ledger import open_state
from engine.reference.margin import (
    Domain,
    compute_equity,
    compute_maintenance,
    compute_position_maintenance,
    compute_unrealised,
    find_bankruptcy_price,
    find_liquidation_price,
)

ACCOUNT = 7


@st.composite
def markets(draw, symbol="A"):
    """Draw a market: multiplier, highest price and one to four tiers with rates in whole ppm."""
    multiplier = draw(st.sampled_from([1, 2, 10, 1_000]))
    count = draw(st.integers(1, 4))
    floors = [0, *sorted(draw(st.sets(st.integers(1, 5_000), min_size=count - 1, max_size=count - 1)))]
    rates = sorted(draw(st.sets(st.integers(1, 500_000), min_size=count, max_size=count)))
    initials = sorted(draw(st.lists(st.integers(500_000, PPM), min_size=count, max_size=count)))
    return Market(
        symbol=symbol,
        tick_size=Decimal(1),
        lot_size=Decimal(multiplier),
        quote_unit=Decimal(1),
        price_max=Decimal(draw(st.sampled_from([1_000, 30_000]))),
        default_leverage=1,
        # floors in whole millions, so that every deduction is a whole unit
        tiers=tuple(
            Tier(floor=Decimal(floor * PPM), initial=Decimal(high) / PPM, maintenance=Decimal(rate) / PPM)
            for floor, rate, high in zip(floors, rates, initials, strict=True)
        ),
    )


@st.composite
def positions(draw, rules):
    """Draw (mark, quantity, cost): the cost any integer of a plausible size, not only ticks times lots."""
    mark = draw(st.integers(1, rules.price_max_tick))
    qty = draw(st.integers(1, 5_000)) * draw(st.sampled_from([1, -1])) * draw(st.sampled_from([1, 1, 1_000]))
    entry = draw(st.integers(1, 2 * rules.price_max_tick))
    sign = 1 if qty > 0 else -1
    cost = sign * max(1, abs(entry * qty * rules.multiplier) + draw(st.integers(-500, 500)))
    return mark, qty, cost


def put(state, market, mark, qty, cost, margin=0, mode=CROSS):
    """Set a position as an engine holds it, whatever its cost and margin."""
    state.marks[market] = mark
    held = state.position(ACCOUNT, market)
    held.qty_lot, held.cost_quote, held.margin_quote, held.mode = qty, cost, margin, mode


def read_brackets(rules):
    """Return a market's tiers for the formulas; the deductions are their own."""
    floors, rates = [tier[0] for tier in rules.tiers], [Fraction(tier[2], PPM) for tier in rules.tiers]
    brackets = formulas.build_brackets(floors, rates)
    assert brackets == tuple(
        Bracket(floor, rate, tier[3]) for floor, rate, tier in zip(floors, rates, rules.tiers, strict=True)
    )
    return brackets


def expected_tick(rules, qty, cost, collateral, other_maintenance=0):
    """Return the formula's liquidation price as the engine shows it: within 1..price_max, 0 for none."""
    size = abs(qty) * rules.multiplier
    try:
        price = formulas.liquidation_price(
            1 if qty > 0 else -1,
            size,
            Fraction(abs(cost), size),
            collateral,
            brackets=read_brackets(rules),
            other_maintenance=other_maintenance,
            rule="engine",
            tick=1,
        )
    except ValueError:  # below maintenance at every price
        event("liquidatable everywhere")
        return rules.price_max_tick if qty > 0 else 1
    top = rules.price_max_tick
    if qty > 0:
        return 0 if price is None or price < 1 else min(int(price), top)
    return 0 if price is None or price > top else max(int(price), 1)


def show(value, step, qty):
    """Return a value as the engine's price display: up for longs, down for shorts, held within its range."""
    grid = formulas.ceil_to_step if qty > 0 else formulas.floor_to_step
    return max(0, min(PRICE_MAX_LIMIT, int(grid(value / (qty * step)))))


@given(st.data())
def test_isolated(data):
    """Source: FORM-005, MARGIN-011, MARGIN-005."""
    setup = build_setup([data.draw(markets())])
    (rules,), state = setup.markets, open_state(setup)
    mark, qty, cost = data.draw(positions(rules))
    margin = data.draw(st.integers(-abs(cost) // 4, abs(cost) * 3 // 2))
    put(state, 0, mark, qty, cost, margin, ISOLATED)
    check_prices(state, rules, qty, cost, margin)


@given(st.data())
def test_cross_alone(data):
    """Source: FORM-005, MARGIN-011, MARGIN-005."""
    setup = build_setup([data.draw(markets())])
    (rules,), state = setup.markets, open_state(setup)
    mark, qty, cost = data.draw(positions(rules))
    wallet = data.draw(st.integers(-abs(cost) // 4, abs(cost) * 3 // 2))
    put(state, 0, mark, qty, cost)
    state.wallet(ACCOUNT, 0).balance_quote = wallet
    check_prices(state, rules, qty, cost, wallet)


def check_prices(state, rules, qty, cost, collateral):
    """Compare both prices of a position that is alone in its domain."""
    found = find_liquidation_price(state, ACCOUNT, 0)
    event("liquidation price" if found else "none")
    assert found == expected_tick(rules, qty, cost, collateral)
    size = abs(qty) * rules.multiplier
    tick = find_bankruptcy_price(state, ACCOUNT, 0)
    try:
        price = formulas.bankruptcy_price(1 if qty > 0 else -1, size, Fraction(abs(cost), size), collateral)
    except ValueError:
        assert tick == 0  # a short that owes more than it could ever earn
        return
    assert tick == (0 if price is None else show(price * qty * rules.multiplier, rules.multiplier, qty))


@given(st.data())
def test_cross_beside_another(data):
    """Two positions of one account: its other one is equity and maintenance that do not move.

    Source: FORM-005, MARGIN-011, MARGIN-005.
    """
    setup = build_setup([data.draw(markets()), data.draw(markets("B"))])
    state = open_state(setup)
    held = [data.draw(positions(rules)) for rules in setup.markets]
    for market, position in enumerate(held):
        put(state, market, *position)
    most = sum(abs(cost) for _, _, cost in held)
    wallet = state.wallet(ACCOUNT, 0)
    wallet.balance_quote = data.draw(st.integers(-most // 4, most))
    domain = Domain(ACCOUNT, 0, -1)
    equity, maintenance = compute_equity(state, domain), compute_maintenance(state, domain)
    for market, other in ((0, 1), (1, 0)):
        rules, (mark, qty, cost) = setup.markets[market], held[market]
        own = compute_position_maintenance(state, ACCOUNT, market)
        collateral = wallet.balance_quote + compute_unrealised(state, ACCOUNT, other)
        tick = expected_tick(rules, qty, cost, collateral, maintenance - own)
        assert find_liquidation_price(state, ACCOUNT, market) == tick
        # the share of the equity is what the zero price leaves of the value at mark, floored by the engine
        assume(maintenance > 0)
        value, side = mark * qty * rules.multiplier, 1 if qty > 0 else -1
        zero = formulas.zero_price(side, mark, Fraction(own, abs(value)), equity, maintenance)
        share = formulas.floor_to_step((mark - zero) * qty * rules.multiplier)
        assert find_bankruptcy_price(state, ACCOUNT, market) == show(value - share, rules.multiplier, qty)
        # dYdX's words for the same: the quote that closing all of it must bring
        names = {"own": qty * rules.multiplier, "rest": 1}
        rates = {"own": Fraction(own, abs(value)), "rest": maintenance - own}
        quote = equity - value - 1
        brought = formulas.bankruptcy_quote(quote, names, {"own": mark, "rest": 1}, rates, "own", -names["own"])
        assert brought == zero * names["own"]
