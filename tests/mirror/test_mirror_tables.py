"""Tier tables that change while the market runs: who is in need is found at once, and later at the exact tick.

Positions stay on the ladder of the table they were hung under, which is popped earlier by what the new table asks more.
The reference engine, which looks at everybody after every command, says whom that must find.
"""

import random
from decimal import Decimal

import pytest

from engine import Exchange, codes
from engine.codes import BUY, SELL
from engine.commands import SetTiers, to_rows
from engine.contract import Market, Tier, build_setup
from engine.exchange import Capacity, CompiledEngine
from tests.mirror import test_mirror_triggers as triggers
from tests.mirror.streams import Command
from tests.mirror.twins import Twins

LAX = ((0, "0.02", "0.01"),)
STRICT = ((0, "0.1", "0.05"),)
STEPS = ((0, "0.02", "0.01"), (2_000, "0.05", "0.025"), (10_000, "0.2", "0.1"))
FINE = ((0, "0.03", "0.013"), (1_000, "0.04", "0.02"), (3_000, "0.1", "0.04"), (9_000, "0.5", "0.3"))
TABLES = {"lax": LAX, "strict": STRICT, "steps": STEPS, "fine": FINE}


def make_table(rows):
    """Return tiers of (floor, initial, maintenance)."""
    return tuple(
        Tier(floor=Decimal(floor), initial=Decimal(initial), maintenance=Decimal(rate)) for floor, initial, rate in rows
    )


def make_market(*tables, kind="linear", unit=1, **changes):
    """Return a market of whole numbers without fees; an inverse lot is worth about what a linear one is."""
    fields = {"tick_size": Decimal(1), "lot_size": Decimal(unit), "quote_unit": Decimal(1), "price_max": Decimal(400)}
    fields |= {"maker_fee": Decimal(0), "taker_fee": Decimal(0), "margin_call": Decimal(0), "default_leverage": 1}
    first, *others = map(make_table, tables)
    fields |= {"initial_mark": Decimal(100), "tiers": first, "tier_tables": tuple(others), "kind": kind}
    if kind == "inverse":
        fields["lot_size"] = Decimal(unit * 10_000)
    return Market(**({"symbol": "M"} | fields | changes))


def assign(twins, account, side, qty, amount, market=0):
    """Bring a position opened at 100."""
    fields = {"side": side, "qty_lot": qty, "price_tick": 100, "amount_quote": amount}
    twins.apply(Command(kind=codes.ASSIGN, account=account, market=market, **fields))


def choose(twins, table, market=0):
    """Put a table in force and return the events."""
    return twins.apply(Command(kind=codes.SET_TIERS, market=market, amount_quote=table))


def test_the_command():
    """It says which table came and which went; the same again says nothing; one that is not there is refused.

    Source: TIER-001, TIER-002, CMD-004.
    """
    twins = Twins(build_setup([make_market(LAX, STRICT)]))
    before = twins.fast.view()
    (event,) = choose(twins, 1)
    assert (event["kind"], event["market"], event["code"], event["rank"]) == (codes.TIERS_CHANGED, 0, 1, 0)
    assert [tuple(row) for row in twins.fast.view().tables.tolist()] == [(0, 1)]
    assert len(choose(twins, 1)) == 0
    for table in (-1, 2, 1 << 40):
        (event,) = choose(twins, table)
        assert (event["kind"], event["code"]) == (codes.REJECTED, codes.BAD_AMOUNT)
    (event,) = choose(twins, 0)
    assert (event["code"], event["rank"]) == (0, 1)
    assert len(twins.fast.view().tables) == len(before.tables) == 0
    (event,) = twins.apply(Command(kind=codes.SET_TIERS, market=1))
    assert event["code"] == codes.UNKNOWN_MARKET


def test_it_is_a_feed_command():
    """Its account is ignored, and a market with one table has that one.

    Source: CMD-002, TIER-002.
    """
    twins = Twins(build_setup([make_market(LAX)]))
    assert len(twins.apply(Command(kind=codes.SET_TIERS, account=-5))) == 0
    (row,) = to_rows([SetTiers(market="M", table=3)], {"M": 0})
    assert (row["kind"], row["market"], row["amount_quote"]) == (codes.SET_TIERS, 0, 3)


@pytest.mark.parametrize("mode", ["cross", "isolated"])
@pytest.mark.parametrize("kind", ["linear", "inverse"])
def test_who_is_below_goes_at_once_who_is_above_stays(kind, mode):
    """10 lots are worth 1,000 and need 50 under the strict table: 49 does not do, 50 does; the other sides alike.

    Source: TIER-002, TIER-003, MARGIN-004.
    """
    twins = Twins(build_setup([make_market(LAX, STRICT, kind=kind, margin_mode=mode)]))
    for account, side, amount in ((1, BUY, 49), (2, BUY, 50), (3, SELL, 49), (4, SELL, 50), (5, SELL, 700)):
        assign(twins, account, side, 10, amount)
    for side, price in ((BUY, 100), (SELL, 101)):
        twins.apply(Command(kind=codes.LEVEL, side=side, price_tick=price, qty_lot=50))
    events = choose(twins, 1)
    assert events["account"][events["kind"] == codes.LIQUIDATION_STARTED].tolist() == [1, 3]
    choose(twins, 0)
    assert twins.kinds["liquidation_started"] == 2


def test_a_stricter_table_calls():
    """With calls below 1.5 times maintenance 70 of 75 is called once; a laxer table does not call back.

    Source: TIER-003, STEP-005.
    """
    twins = Twins(build_setup([make_market(LAX, STRICT, margin_call=Decimal("1.5"))]))
    assign(twins, 1, BUY, 10, 70)
    assign(twins, 2, BUY, 10, 75)
    events = choose(twins, 1)
    assert events["account"][events["kind"] == codes.MARGIN_CALL].tolist() == [1]
    choose(twins, 0)
    choose(twins, 1)
    assert twins.kinds["margin_call"] == 1


def test_many_at_once_are_called_by_account():
    """Of 240 in no order, cross and isolated, long and short, 153 are called by account; 21 go, the worst first.

    Source: STEP-003, STEP-005, TIER-003.
    """
    twins = Twins(build_setup([make_market(LAX, STRICT, margin_call=Decimal("1.5"))]))
    numbers = range(17, 17 * 241, 17)  # beyond 2,048: more than one digit of those they are sorted by
    amounts = {account: 48 + account % 2 if account % 11 == 0 else 50 + account % 36 for account in numbers}
    order = sorted(amounts, key=lambda account: account * 101 % (17 * 241))
    for account in order:
        if account % 3 == 0:
            twins.apply(Command(kind=codes.SET_MARGIN_MODE, account=account, amount_quote=codes.ISOLATED))
        assign(twins, account, BUY if account % 5 else SELL, 10, amounts[account])
    for side, price in ((BUY, 100), (SELL, 101)):
        twins.apply(Command(kind=codes.LEVEL, side=side, price_tick=price, qty_lot=500))
    events = choose(twins, 1)
    called = events["account"][events["kind"] == codes.MARGIN_CALL].tolist()
    assert called == [account for account, amount in sorted(amounts.items()) if 50 <= amount < 75]
    gone = events["account"][events["kind"] == codes.LIQUIDATION_STARTED].tolist()
    assert gone == sorted((account for account in amounts if amounts[account] < 50), key=lambda a: (amounts[a], a))
    assert (len(called), len(gone)) == (153, 21)


def test_initial_margin_and_leverage_follow():
    """The strict table asks 10 %: leverage 20 is refused then, and counts as 10 where it was chosen before.

    1,000 needs 50 at leverage 20, 100 under the strict table.

    Source: TIER-002, MARGIN-003, MARGIN-007.
    """
    twins = Twins(build_setup([make_market(LAX, STRICT)]))
    for account in (1, 2):
        twins.apply(Command(kind=codes.DEPOSIT, account=account, amount_quote=99))
    (event,) = twins.apply(Command(kind=codes.SET_LEVERAGE, account=1, amount_quote=20))
    assert event["kind"] == codes.ACCEPTED
    choose(twins, 1)
    (event,) = twins.apply(Command(kind=codes.SET_LEVERAGE, account=2, amount_quote=20))
    assert (event["kind"], event["code"]) == (codes.REJECTED, codes.BAD_LEVERAGE)
    order = {"kind": codes.PLACE, "account": 1, "side": BUY, "price_tick": 100, "qty_lot": 10, "order_id": 1}
    (event,) = twins.apply(Command(**order))
    assert event["code"] == codes.INSUFFICIENT_MARGIN
    choose(twins, 0)
    (event,) = twins.apply(Command(**order))
    assert event["kind"] == codes.ACCEPTED


def walk_through(setup, lots, cash, tables, path):
    """Give one account positions at 100, then walk tables and marks; the first need must be met, and none before.

    A step of the path is (market, mark), or (market, None) for the next of `tables` in that market.
    """
    twins, marks, in_force = Twins(setup), [100] * len(lots), [0] * len(lots)
    for market, lot in enumerate(lots):
        assign(twins, 1, BUY if lot > 0 else SELL, abs(lot), cash if market == 0 else 0, market)
    chosen = iter(tables)
    for market, mark in path:
        if mark is None:
            in_force[market] = next(chosen)
            choose(twins, in_force[market], market)
        else:
            marks[market] = mark
            twins.apply(Command(kind=codes.MARK, market=market, price_tick=mark))
        rows = []
        for lot, rules, table in zip(lots, setup.markets, in_force, strict=True):
            tiers = tuple((tier[0], tier[2]) for tier in rules.tables[table])
            cost = triggers.ask_value(rules.kind, 100, lot, rules.multiplier)
            rows.append((rules.kind, lot, cost, rules.multiplier, tiers))
        call = setup.markets[0].call_ppm
        is_called = twins.kinds["margin_call"] > 0
        plain = triggers.Plain(cash, rows, call if call and not is_called else 1_000_000)
        happened = twins.kinds["liquidation_started"] > 0
        assert happened or is_called or plain.spare_at(marks) >= 0
        if happened:
            return True
        triggers.check_triggers(twins.fast)
    return False


@pytest.mark.parametrize("call", ["0", "1.25", "3"])
@pytest.mark.parametrize("kind", ["linear", "inverse"])
@pytest.mark.parametrize("lot", [1, 40, -1, -40])
@pytest.mark.parametrize(
    ("first", "then"), [("lax", "strict"), ("strict", "lax"), ("steps", "fine"), ("fine", "steps")]
)
def test_after_a_change_positions_go_at_the_exact_tick(first, then, lot, kind, call):
    """Tick by tick after the change the mark comes to where the table in force, and not the first, says stop.

    Source: TIER-003, MARGIN-010.
    """
    reached = 0
    for parts in (3, 6, 14):
        for unit in (1, 7):
            setup = build_setup(
                [make_market(TABLES[first], TABLES[then], kind=kind, unit=unit, margin_call=Decimal(call))]
            )
            way = -1 if lot > 0 else 1
            path = [(0, None), *((0, 100 + way * step) for step in range(1, 99 if lot > 0 else 300))]
            if parts == 6:
                path = [(0, 100 + 3 * way), *path]
            reached += walk_through(setup, (lot,), abs(lot) * 100 * unit // parts + 2, (1,), path)
    assert reached


@pytest.mark.parametrize("call", ["0", "1.5", "3"])
@pytest.mark.parametrize("seed", range(40))
def test_tables_change_again_and_again(seed, call):
    """Cross positions in one to four markets, linear and inverse, on losing walks while tables come and go.

    Source: TIER-003, MARGIN-010, INV-006.
    """
    rng = random.Random(f"{seed} {call}")
    markets = []
    for index in range(rng.choice((1, 2, 3, 4))):
        tables = [TABLES[name] for name in rng.sample(sorted(TABLES), rng.randint(2, 4))]
        kind, unit = rng.choice(("linear", "inverse")), rng.choice((1, 1, 5))
        made = make_market(*tables, kind=kind, unit=unit, margin_call=Decimal(call), symbol=f"M{index}")
        markets.append(made)
    setup = build_setup(markets)
    lots = [rng.choice((1, -1)) * rng.randint(1, 60) for _ in markets]
    marks, path, tables = [100] * len(lots), [], []
    for _ in range(150):
        market = rng.randrange(len(lots))
        if rng.random() < 0.12:
            tables.append(rng.randrange(len(setup.markets[market].tables)))
            path.append((market, None))
            continue
        way = -1 if lots[market] > 0 else 1
        marks[market] = max(1, min(400, marks[market] + rng.choice((way, way, way, -way, 3 * way))))
        path.append((market, marks[market]))
    total = sum(abs(lot) * 100 for lot in lots)
    walk_through(setup, lots, total // rng.choice((2, 3, 5)), tables, path)


@pytest.mark.parametrize("kind", ["linear", "inverse"])
@pytest.mark.parametrize(("lot", "edge", "back"), [(10, 1, 60), (-10, 400, 170)])
def test_who_stood_on_the_edge_of_the_range_is_not_forgotten(lot, edge, back, kind):
    """At the lowest mark a long hangs nowhere, at the highest a short: a stricter table later finds them all the same.

    Source: TIER-003, MARGIN-010.
    """
    setup = build_setup([make_market(LAX, ((0, "0.9", "0.8"),), kind=kind)])
    cash = abs(triggers.ask_value(setup.markets[0].kind, edge, 10, setup.markets[0].multiplier)) + 1_100
    for path in (
        [(0, edge), (0, back), (0, None), *((0, back + step * (edge - back) // 40) for step in range(1, 41))],
        [(0, edge), (0, None), (0, back), (0, edge)],
        [(0, None), (0, edge), (0, None), (0, back), (0, None), (0, edge)],
    ):
        for part in (1, 2, 5, 11):
            walk_through(setup, (lot,), cash // part, (1, 0, 1), path)


def test_who_needs_nothing_hangs_on_the_edge():
    """A long whose collateral is more than its value hangs at the lowest price, a short with much at the highest.

    So a stricter table finds them without a pass over all; where there is one table they hang nowhere.

    Source: TIER-003.
    """
    for tables, found in (((LAX, STRICT), [1, 400]), ((LAX,), [0, 0])):
        twins = Twins(build_setup([make_market(*tables)]))
        assign(twins, 1, BUY, 10, 1_200)
        assign(twins, 2, SELL, 10, 9_000)
        rows = twins.fast.state.positions
        assert [int(row["price_tick"]) for row in rows if row["account"] and row["qty_lot"]] == found


def test_a_crowd_is_not_looked_at():
    """A change looks at those near, not at everybody: of a thousand accounts at leverage 2 to 15 none is popped.

    Maintenance goes from 1 % to 1.5 %, half a tick where ticks are this coarse; all stay where they hung, on the ladder
    of the first table.

    Source: TIER-003.
    """
    setup = build_setup([make_market(LAX, ((0, "0.03", "0.015"),), unit=1000, default_leverage=20)])
    engine = CompiledEngine(setup, Capacity())
    rng = random.Random(7)
    twins = Twins.__new__(Twins)
    twins.apply = lambda command: engine.apply(triggers.streams.pack_commands([command]))
    for account in range(1, 1_001):
        qty = rng.randint(1, 100)
        assign(twins, account, rng.choice((BUY, SELL)), qty, int(qty * 100_000 / rng.uniform(2, 15)))
    hung = engine.state.positions["hung"].copy()
    assert len(choose(twins, 1)) == 1
    assert (engine.state.positions["hung"] == hung).all()
    assert not engine.state.positions["table"].any()
    for mark in range(99, 90, -1):
        twins.apply(Command(kind=codes.MARK, price_tick=mark))
    assert engine.state.positions["table"].any()  # who came near has moved over


def test_a_saved_exchange_keeps_its_table(tmp_path):
    """A copy and a snapshot have the table in force, and go on alike.

    Source: STATE-002, TIER-002.
    """
    for name in ("compiled", "reference"):
        exchange = Exchange([make_market(LAX, STRICT)], engine=name)
        plain = exchange.digest()
        exchange.apply([SetTiers(table=1)])
        assert exchange.digest() != plain
        exchange.save(tmp_path / name)
        for twin in (exchange.copy(), Exchange.load(tmp_path / name)):
            assert twin.digest() == exchange.digest()
            assert len(twin.apply([SetTiers(table=1)])) == 0
