"""What mutation testing found no test for: one story per fault that nobody noticed (`tests/mutation`)."""

import random
from decimal import Decimal

import pytest
from msgspec import structs

from engine import codes
from engine.codes import BUY, HOUSE, SELL
from engine.contract import AdlPolicy, LiquidationPolicy, Market, Tier, build_setup
from engine.exchange import Capacity, CompiledEngine
from tests.mirror import test_mirror_adl_allotment as allotments
from tests.mirror import test_mirror_house as houses
from tests.mirror import test_mirror_portfolio as portfolios
from tests.mirror import test_mirror_stages as stages
from tests.mirror import test_mirror_tables as tables
from tests.mirror import test_mirror_tight as tight
from tests.mirror import test_mirror_triggers as triggers
from tests.mirror.adl_desk import Desk, parts_of, rows_of
from tests.mirror.streams import Command, pack_commands

CASH_MARKETS = (("A", "USDT"), ("B", "BTC"))
TWO_MARKS = (("A", 150), ("B", 100))
BUCKET_NS = 8 * 60 * 1_000_000_000  # a sixtieth of 8 hours


# ---------------------------------------------------------------- a crowd that hangs

CROWD = 150
TABLES = {
    "flat": ((0, "0.02"),),
    "steep": ((0, "0.01"), (2_000, "0.025"), (10_000, "0.1")),
    "stairs": ((0, "0.01"), (1_000, "0.02"), (3_000, "0.04"), (9_000, "0.3")),
    "low": ((0, "0.013"), (50, "0.033")),
}


@pytest.mark.parametrize("call", ["0", "1.25", "1.9"])
@pytest.mark.parametrize("kind", ["linear", "inverse"])
@pytest.mark.parametrize("table", TABLES)
def test_single_positions_hang_at_their_price(table, kind, call):
    """A crowd of single positions of every size, from little margin on, cross and isolated: true and close triggers.

    Source: MARGIN-010, MARGIN-002, INV-006.
    """
    tiers = tuple(
        Tier(floor=Decimal(at), initial=Decimal("0.4"), maintenance=Decimal(rate)) for at, rate in TABLES[table]
    )
    fields = {"tick_size": Decimal(1), "lot_size": Decimal(10_000 if kind == "inverse" else 1), "kind": kind}
    fields |= {"quote_unit": Decimal(1), "price_max": Decimal(1000), "initial_mark": Decimal(100), "tiers": tiers}
    market = Market(symbol="X", margin_call=Decimal(call), default_leverage=1, **fields)
    engine = CompiledEngine(build_setup([market]), Capacity())
    rng = random.Random(f"{table} {kind} {call}")
    sent = []
    for account in range(1, CROWD):
        qty = rng.choice((1, 1, 2, 7, 19, 21, 40, 90, 140, 300))
        amount = qty * rng.choice((3, 5, 12, 30, 46, 60, 90, 130, 180, 260)) + rng.randint(0, qty)
        if account % 3 == 0:
            sent.append(Command(kind=codes.SET_MARGIN_MODE, account=account, amount_quote=codes.ISOLATED))
        order = {"side": rng.choice((BUY, SELL)), "qty_lot": qty, "price_tick": 100, "amount_quote": amount}
        sent.append(Command(kind=codes.ASSIGN, account=account, **order))
    engine.apply(pack_commands(sent))
    triggers.check_triggers(engine)
    assert tight.check_tight(engine) > 30


@pytest.mark.parametrize("kind", ["linear", "inverse"])
def test_a_call_may_make_a_rate_a_fraction_of_a_millionth(kind):
    """At prices of millions of ticks half a millionth of the value is more than a tick: 0.020001 x 1.5 = 0.0300015.

    Source: MARGIN-010, STEP-005, INV-006.
    """
    tiers = (Tier(floor=Decimal(0), initial=Decimal("0.4"), maintenance=Decimal("0.020001")),)
    price = 8_000_000
    unit = Decimal(price**2 if kind == "inverse" else 1)
    fields = {"tick_size": Decimal(1), "lot_size": unit, "quote_unit": Decimal(1), "kind": kind}
    fields |= {"price_max": Decimal(2 * price), "initial_mark": Decimal(price), "tiers": tiers}
    fields |= {"open_interest_max": 1_000 * unit, "order_max": 100 * unit}
    market = Market(symbol="X", margin_call=Decimal("1.5"), default_leverage=1, **fields)
    engine = CompiledEngine(build_setup([market]), Capacity())
    rng = random.Random(kind)
    for account in range(1, 40):
        order = {"side": rng.choice((BUY, SELL)), "qty_lot": 3, "price_tick": price}
        amount = 3 * price * rng.randint(40, 90) // 1000
        engine.apply(pack_commands([Command(kind=codes.ASSIGN, account=account, amount_quote=amount, **order)]))
    triggers.check_triggers(engine)
    assert len(triggers.list_domains(engine)) > 30


# ---------------------------------------------------------------- the house


@pytest.mark.parametrize(("amount", "is_taken"), [(91, True), (92, False)])
def test_the_vaults_part_is_rounded_up(amount, is_taken):
    """HOUSE-005: of 47 two thirds are 31.3, so 31 are below and 32 are not."""
    policy = {"backstop": "vault", "vault_below": "0.666667"}
    desk = houses.Desk(houses.make_market(policy=policy))
    desk.give(1, 10, 100, amount)
    desk.level(BUY, 92, 10)
    events = desk.mark(94)
    assert (codes.TAKEOVER in events["kind"]) == is_taken


def test_what_leaves_the_load_as_it_was_is_carried():
    """HOUSE-006: long 10 at 110 is more than a fund of 1000 carries; a short of 20 makes it short 10, no more."""
    desk = houses.Desk(houses.make_market(policy={"backstop": "takeover", "carry": "1"}))
    desk.fund(1000)
    desk.give(1, 10, 100, 100)
    desk.mark(94)
    assert desk.house() == (10, 900)
    desk.give(2, -20, 104, 120)
    events = desk.mark(110)
    assert houses.show(events, codes.TAKEOVER, "account", "other", "qty_lot") == [(2, HOUSE, 20)]
    assert desk.house()[0] == -10


# ---------------------------------------------------------------- ADL


def test_a_deposit_opens_the_buckets_before_it_counts():
    """ADL-021: what is paid in when a bucket begins is the peak of that one, and not of the one before."""
    desk = Desk(policy={"trigger": "drawdown"}, price_max=Decimal(10_000_000))
    desk.fund(1_000)
    for bucket in (1, 2, 5):
        desk.ts_ns = bucket * BUCKET_NS
        desk.fund(100 * bucket)  # the digests have every bucket in them
    assert desk.trigger() == (0, 1_800, 1_800)


@pytest.mark.parametrize("score", ["bitmex", "none"])
def test_who_comes_to_stand_in_the_queue_is_counted(score):
    """A stricter table finds longs 1 and 2 and short 3 at once; 3 buys what 4 sells, and 4 is short from then on.

    Long 1 is deleveraged against the shorts 5 and 3, long 2 against 4 and what 5 has left; 3 is flat by then.

    Source: ADL-002, ADL-004, EVT-001.
    """
    lax, strict = (
        (Tier(floor=Decimal(0), initial=Decimal("0.4"), maintenance=Decimal(rate)),) for rate in ("0.01", "0.3")
    )
    desk = Desk(policy={"score": score}, tiers=lax, tier_tables=(strict,), default_leverage=2)
    desk.send(codes.DEPOSIT, account=4, amount_quote=1_000)
    desk.send(codes.PLACE, account=4, order_id=1, side=SELL, qty_lot=1, price_tick=100)
    desk.bring(5, SELL, 10 if score == "bitmex" else 1, 120, 1_000)
    desk.bring(1, BUY, 1, 150, 52)
    desk.bring(2, BUY, 1, 150, 56)
    desk.bring(3, SELL, 1, 95, 9)
    events = desk.send(codes.SET_TIERS, amount_quote=1)
    assert rows_of(events, codes.LIQUIDATION_STARTED, "account") == [1, 3, 2]
    assert rows_of(events, codes.ADL_STARTED, "account", "count") == [(1, 2), (2, 2 if score == "bitmex" else 1)]


def test_a_leverage_below_a_billionth_counts_as_one():
    """ADL-003: a lot that lost 100 in a domain of 100 thousand million: value over share floors to 0, and 1 divides."""
    desk = Desk(price_max=Decimal(1000), open_interest_max=Decimal(1000))
    for account, amount in ((1, 200_000_000_000), (2, 70_000_000_000), (3, 1_000)):
        desk.bring(account, SELL, 1, 90, amount)
    assert [row[0] for row in desk.queue()] == [3, 1, 2]


# ---------------------------------------------------------------- stages


def test_who_rests_again_wakes_by_market():
    """STEP-003, STAGE-009: two isolated positions alike were left open; one command wakes market 0 first."""
    fields = {"gate": "insolvent", "changes": {"margin_mode": "isolated"}}
    desk = stages.Desk(stages.make_market("A", **fields), stages.make_market("B", **fields))
    for market in (1, 0):
        desk.bring(1, BUY, 10, 100, 40, market)
    events = desk.send(codes.CLOCK)
    assert stages.only(events, "liquidation_started", "market") == [0, 1]


def test_who_was_called_and_left_open_is_not_called_again():
    """STEP-005, STAGE-009: called at 100, left open at 95 as nobody bids, well again at 99: not touched since."""
    desk = stages.Desk(stages.make_market(gate="insolvent", changes={"margin_call": Decimal(2)}))
    desk.bring(1, BUY, 10, 100, 90)
    assert stages.names(desk.send(codes.MARK, price_tick=95)) == ["liquidation_started", "liquidation_ended"]
    assert stages.names(desk.send(codes.MARK, price_tick=99)) == []
    assert desk.twins.kinds["margin_call"] == 1


@pytest.mark.parametrize(("rise", "is_filled"), [(0, True), (-1, False)])
def test_the_fillable_limit_of_a_large_position(rise, is_filled):
    """STAGE-006: 10 lots @ 1,000,000 ask 500,000 and have 250,000: a spread of half the weight is 25,000 a lot."""
    sizes = {"initial_mark": Decimal(1_000_000), "price_max": Decimal(2_000_000), "order_max": Decimal(100)}
    sizes["open_interest_max"] = Decimal(1_000)
    desk = stages.Desk(stages.make_market(limit="fillable", spread=1, adjustment=1, changes=sizes))
    desk.send(codes.FUND_DEPOSIT, amount_quote=10_000_000)
    desk.level(BUY, 975_000 + rise, 10)
    events = desk.bring(1, BUY, 10, 1_000_000, 250_000)
    assert ("liquidation_fill" in stages.names(events)) == is_filled


# ---------------------------------------------------------------- margin


def test_what_a_flat_position_owes_is_owed_in_its_asset():
    """MARGIN-001, CASH-003: 1 bought 10 at 100 and sold them at 90, not settled yet: 100 less in BTC, none in USDT."""
    made = [houses.make_market(name, settlement="mark", settle=settle, fund=settle) for name, settle in CASH_MARKETS]
    desk = houses.Desk(*made)
    for market in range(2):
        for account in (1, 2):
            desk.send(codes.DEPOSIT, account=account, amount_quote=500, market=market)
    for side, price in ((BUY, 100), (SELL, 90)):
        desk.place(2, -side, 10, price, market=1)
        desk.place(1, side, 10, price, market=1)
        desk.place(2, -side, 10, 100, market=0)
        desk.place(1, side, 10, 100, market=0)
    for account in (1, 2):
        for market in range(2):
            measured = desk.fast.measure_margin(account, market)
            assert measured == desk.plain.measure_margin(account, market)


@pytest.mark.parametrize("price", [100, 99])
def test_a_range_of_a_millionth_is_a_range(price):
    """HOUSE-007: with any range at all the house sells no lower than the tick it rounds to; 0 alone is no limit."""
    policy = {"backstop": "takeover", "unwind": "immediate", "unwind_range": "0.000001"}
    desk = houses.Desk(houses.make_market(policy=policy))
    desk.give(1, 10, 106, 100)
    desk.mark(100)
    desk.level(BUY, price, 10)
    assert desk.house()[0] == (0 if price == 100 else 10)


# ---------------------------------------------------------------- tables


OTHERS = {
    "five": ((0, "0.05"),),
    "fifth": ((0, "0.2"),),
    "lax": ((0, "0.005"),),
    "cliff": ((0, "0.01"), (9_000, "0.3")),
}
OTHERS["step"] = ((0, "0.01"), (1_000, "0.05"))
PAIRS = [("flat", "steep"), ("steep", "stairs"), ("stairs", "five"), ("lax", "fifth"), ("cliff", "step")]


@pytest.mark.parametrize("call", ["0", "1.5"])
@pytest.mark.parametrize("kind", ["linear", "inverse"])
@pytest.mark.parametrize("pair", PAIRS)
def test_a_crowd_under_another_table(pair, kind, call):
    """Positions of every size hang under one table, then another is in force: tick by tick who is in need is found.

    Source: TIER-003, MARGIN-010, STATE-003.
    """
    tables = TABLES | OTHERS | {"strict": ((0, "0.08"),)}
    first, other, strict = (
        tuple(Tier(floor=Decimal(at), initial=Decimal("0.4"), maintenance=Decimal(rate)) for at, rate in tables[name])
        for name in (*pair, "strict")
    )
    changes = {"kind": kind, "lot_size": Decimal(10_000 if kind == "inverse" else 1), "margin_call": Decimal(call)}
    changes |= {"tiers": first, "tier_tables": (other, strict), "default_leverage": 1}
    desk = Desk(**changes)
    rng = random.Random(f"{pair} {kind} {call}")
    most = 45 if "fifth" in pair else 26
    for account in range(1, 41):
        qty = rng.choice((1, 2, 7, 19, 40, 90, 140))
        desk.bring(account, rng.choice((BUY, SELL)), qty, 100, qty * rng.randint(9, most) + rng.randint(0, qty))
    for table, marks in ((1, range(101, 107)), (0, range(106, 99, -1)), (1, range(99, 94, -1)), (2, range(95, 101))):
        desk.send(codes.SET_TIERS, amount_quote=table)
        for mark in marks:
            desk.mark(mark)


# ---------------------------------------------------------------- at the bottom


def test_a_derived_mark_may_be_one_tick():
    """STEP-002: trades at 2 and then at 1 are the mark."""
    desk = stages.Desk(stages.make_market(changes={"mark_model": "last"}))
    for price in (2, 1):
        desk.send(codes.PRINT, side=SELL, price_tick=price, qty_lot=1)
        assert desk.twins.plain.view().markets[0][0] == price


def test_a_position_that_cost_nothing_has_a_score():
    """ADL-003, CASH-003: until the mark settles, 10 bought at 100 of which 5 were sold at 200 cost 0; 1 divides."""
    desk = houses.Desk(houses.make_market(settlement="mark"))
    for account in (1, 2):
        desk.send(codes.DEPOSIT, account=account, amount_quote=5_000)
    for side, qty, price in ((BUY, 10, 100), (SELL, 5, 200)):
        desk.place(2, -side, qty, price)
        desk.place(1, side, qty, price)
    assert next(row[2:4] for row in desk.fast.view().positions.tolist() if row[0] == 1) == [5, 0]
    for side in (BUY, SELL):
        assert desk.fast.rank_side(0, side) == desk.plain.rank_side(0, side) != []


# ---------------------------------------------------------------- two of a kind


def test_a_victim_pays_no_more_than_its_wallet_has():
    """ADL-007: short 2, isolated, 100 @ 100 with 20, closes 10 at 100: 2 are released, so of a fee of 3 it pays 2."""
    tiers = (Tier(floor=Decimal(0), initial=Decimal("0.002"), maintenance=Decimal("0.0001")),)
    desk = Desk(maker_fee=Decimal("0.003"), margin_mode="isolated", tiers=tiers, default_leverage=500)
    desk.bring(2, SELL, 100, 100, 20)
    assert desk.wallet(2) == 0
    events = desk.bring(1, BUY, 10, 120, 200)
    assert rows_of(events, codes.ADL_FILL, "other", "price_tick", "other_fee_quote") == [(2, 100, 2)]


def test_an_isolated_position_is_watched_too():
    """MARGIN-010: a mark in its favour may bring an isolated position its call (160 with 8 at twice 2.5 %)."""
    tiers = (Tier(floor=Decimal(0), initial=Decimal("0.1"), maintenance=Decimal("0.025")),)
    changes = {"margin_mode": "isolated", "initial_mark": Decimal(160), "margin_call": Decimal(2), "tiers": tiers}
    desk = houses.Desk(houses.make_market(default_leverage=1, **changes))
    desk.give(2, 1, 160, 900)
    desk.give(1, 1, 160, 8)
    desk.mark(161)
    assert desk.kinds["margin_call"] == 1


def test_who_is_watched_is_noted_once():
    """MARGIN-010: hung anew four hundred times between two marks, a watched domain is one suspect."""
    tiers = (Tier(floor=Decimal(0), initial=Decimal("0.1"), maintenance=Decimal("0.025")),)
    changes = {"initial_mark": Decimal(160), "margin_call": Decimal(2), "tiers": tiers, "default_leverage": 1}
    desk = houses.Desk(houses.make_market(**changes))
    desk.give(1, 1, 160, 8)
    for _ in range(200):
        desk.send(codes.DEPOSIT, account=1, amount_quote=1)
        desk.send(codes.FUNDING, amount_quote=1_000_000)  # rounds up to 1
    assert not desk.kinds["margin_call"]
    desk.mark(161)
    assert desk.kinds["margin_call"] == 1


def test_what_a_house_holds_counts_for_its_own_fund():
    """ADL-019: a house's gain in one market keeps no fund of another from being held."""
    made = [
        structs.replace(
            houses.make_market(name, policy={"backstop": "takeover"}, fund=name), adl=AdlPolicy(trigger="equity")
        )
        for name in "AB"
    ]
    desk = houses.Desk(*made)
    for market in range(2):
        desk.fund(10, market)
    desk.give(1, 10, 100, 100, 1)
    desk.mark(94, 1)
    desk.mark(200, 1)  # the house gained 1100 in B
    desk.level(BUY, 97, 10)
    events = desk.give(2, 10, 106, 40)  # 20 below nothing: A's own 10 are held
    assert houses.show(events, codes.FUND_DEBIT, "account") == []


@pytest.mark.parametrize("seed", range(8))
def test_lots_that_floors_leave_go_where_the_burden_is_least(seed):
    """ADL-027, ADL-024: one at a time, and to the same one again if it still bears least."""
    rng = random.Random(f"levels {seed}")
    desk = Desk(policy={"allocation": "min_max"})
    for account in range(1, 10):
        desk.bring(account, SELL, rng.randint(5, 40), 100, rng.choice((100, 230, 900, 5_000)) + rng.randint(0, 200))
    for account in range(20, 25):
        lots = rng.randint(4, 30)
        events = desk.bring(account, BUY, lots, 140, 40 * lots + rng.randint(-30 * lots, 4 * lots))
        assert sum(parts_of(events).values()) > 0 or codes.HAIRCUT in events["kind"]


def test_one_lot_on_the_edge_is_found_by_a_stricter_table():
    """TIER-003: at the lowest mark a long hangs nowhere; the table that asks 5 of its 3 finds it all the same."""
    lax, strict = (
        (Tier(floor=Decimal(0), initial=Decimal("0.4"), maintenance=Decimal(rate)),) for rate in ("0.01", "0.05")
    )
    sizes = {"tick_size": Decimal(100), "price_max": Decimal(10_000)}
    desk = Desk(price=1, tiers=lax, tier_tables=(strict,), default_leverage=2, **sizes)
    desk.bring(1, BUY, 1, 1, 3)
    events = desk.send(codes.SET_TIERS, amount_quote=1)
    assert rows_of(events, codes.LIQUIDATION_STARTED, "account") == [1]


def test_a_wallet_is_that_of_the_markets_asset():
    """ADL-010: of two assets each market's score divides by the wallet in its own."""
    policy = AdlPolicy(score="binance")
    made = [
        structs.replace(houses.make_market(name, settle=settle, fund=settle), adl=policy)
        for name, settle in CASH_MARKETS
    ]
    desk = houses.Desk(*made)
    for account in range(1, 6):
        for market in range(2):
            desk.give(account, -account, 100 + 7 * account, 500 * account + 300 * market, market)
    for market in range(2):
        queue = desk.fast.rank_side(market, SELL)
        assert queue == desk.plain.rank_side(market, SELL)
        assert len({row[1] for row in queue}) == 5


def test_a_rest_may_reach_the_end_of_time():
    """WAKE-001: nine seconds from the last nanosecond there is are that nanosecond."""
    desk = stages.Desk(stages.make_market(gate="insolvent", size="share", share=0.5, cooldown_s=9))
    desk.ts_ns = (1 << 63) - 5
    desk.bring(1, BUY, 10, 100, 40)
    assert [row[3] for row in desk.resting()] == [(1 << 63) - 1]


# ---------------------------------------------------------------- a state that takes several moves


@pytest.mark.parametrize(("price", "is_filled"), [(90, True), (89, False)])
def test_the_fillable_limit_of_a_portfolio_goes_by_weight(price, is_filled):
    """10 lots @ 100 weigh 125, and not the tiers' 200: with 25 a spread of 4/5 of that is 10 a lot, not 16.

    Source: STAGE-006, PORT-006.
    """
    policy = LiquidationPolicy(limit="fillable", spread=Decimal(1), adjustment=Decimal(1))
    desk = portfolios.Desk(portfolios.make_market("A", liquidation=policy), members=[1])
    desk.send(codes.FUND_DEPOSIT, amount_quote=1_000)
    desk.level(BUY, 10, price)
    events = desk.bring(1, 10, amount=25)
    assert (codes.LIQUIDATION_FILL in events["kind"]) == is_filled


def test_a_portfolio_is_that_of_the_account_in_the_asset():
    """Account 2 is a portfolio in the second asset only: what closes there first is what relieves, not the largest.

    20 long, 21 short and 2 long on one underlying ask 33.5 rounded up: without either of the large ones 240 and more,
    without the 2 only 32.5 rounded up.  Alone the 21 would ask most.

    Source: PORT-002, PORT-007.
    """
    legs = [portfolios.make_market(name, settle="BTC", fund="BTC") for name in "BCD"]
    desk = portfolios.Desk(portfolios.make_market("A"), *legs)
    desk.set_mode(2, codes.PORTFOLIO, at=1)
    desk.bring(2, 20, at=1, amount=250)
    desk.bring(2, -21, at=2)
    events = desk.bring(2, 2, at=3, price=215)  # 20 are left
    assert portfolios.pick(events, codes.TAKEOVER, "market", "qty_lot")[0] == (3, 2)


def test_a_queue_that_is_full_is_ranked_anew():
    """28 records, one per wallet and position: six shorts, ranked again with every fill of their bids, need more.

    At 100 long 7 is below nothing, and the fund pays for no bid at 90: its lot ranks the shorts.  Longs 8 to 11 have 15
    a lot and sell six each to the bids; long 12 finds none left, and needs all six shorts, as they stand by then.

    Source: ADL-002, ADL-004.
    """
    shorts, sellers = range(1, 7), range(8, 12)
    changes = {"initial_mark": Decimal(150), "default_leverage": 5, "adl": AdlPolicy(cancel_victims="off")}
    desk = stages.Desk(stages.make_market(tiers=((0, "0.2", "0.2"),), changes=changes))
    desk.twins.fast = CompiledEngine(desk.twins.setup, Capacity(accounts_max=13, positions_max=15))
    for account in shorts:
        desk.bring(account, SELL, 10, 150, 2_000 + 100 * account)
    for number in range(len(shorts) * len(sellers)):
        desk.place(1 + number % len(shorts), BUY, 90, 1, number + 1)
    desk.bring(7, BUY, 1, 150, 30)
    for account in sellers:
        desk.bring(account, BUY, 6, 150, 390)
    desk.bring(12, BUY, 32, 150, 32 * 66)
    events = desk.mark(100)
    assert stages.only(events, "adl_started", "account", "count") == [(7, 6), (12, 6)]
    assert len(stages.only(events, "liquidation_fill", "qty_lot")) == len(shorts) * len(sellers)
    assert "takeover" not in stages.names(events)


def test_a_rank_of_before_is_no_rank_in_a_queue_that_is_fixed():
    """A mark of 100 brings long 1, 30 below nothing, and long 2, 25 below with 5 lots in A and 20 in B.

    Long 1 ranks the shorts 3, 4 and 5 of A, and the fund pays its 30 of 32. Long 2 sells in B to the bid of 4, whose
    short there is flat by that: all it owns stands behind its short in A now, and it ranks last, behind 5. The 5 that
    are lacking in A are more than the fund has, so that the queue is fixed: 3 has 3 lots left, then 5 gives 2.

    Source: ADL-002, ADL-004, FUND-002.
    """
    changes = {"adl": AdlPolicy(price="mark")}
    desk = stages.Desk(
        *(stages.make_market(name, changes=changes | {"initial_mark": Decimal(mark)}) for name, mark in TWO_MARKS)
    )
    desk.send(codes.FUND_DEPOSIT, amount_quote=32)
    for account, amount in ((3, 40), (4, 2_800), (5, 1_000)):
        desk.bring(account, SELL, 4, 150, amount)
    desk.bring(4, SELL, 20, 100, 0, 1)
    desk.place(4, BUY, 101, 20, 1, 1)
    desk.bring(1, BUY, 1, 150, 20)
    desk.bring(2, BUY, 20, 100, 225, 1)
    desk.bring(2, BUY, 5, 150, 0)
    events = desk.mark(100)
    assert stages.only(events, "adl_fill", "account", "other", "qty_lot") == [(1, 3, 1), (2, 3, 3), (2, 5, 2)]


def test_the_next_tiers_part_of_the_slack_ends_first():
    """Two inverse longs worth 1,000 each share a slack of 600; beyond 1,100 they ask 50 % and not 1 %.

    By the first tier the part of each would end at 77; by the second it ends at 83, and at 80 both are in need.

    Source: INV-006, MARGIN-010.
    """
    tiers = ((0, "0.4", "0.01"), (1_100, "0.5", "0.5"))
    changes = {"kind": "inverse", "lot_size": Decimal(10_000), "default_leverage": 2}
    desk = stages.Desk(*(stages.make_market(name, tiers=tiers, changes=changes) for name in "AB"))
    for market in (0, 1):
        desk.bring(1, BUY, 10, 100, 310, market)
    for price in range(99, 70, -1):
        for market in (0, 1):
            desk.mark(price, market)
    assert desk.twins.kinds["liquidation_started"] > 0


@pytest.mark.parametrize("count", [2, 3])
def test_a_table_asks_by_the_row_of_the_notional(count):
    """50 lots @ 100 with 300 are asked 50, and then 410 by the second row: the third, or none behind it, asks nothing.

    Source: TIER-003, TIER-002.
    """
    rows = ((0, "0.4", "0.01"), (1_000, "0.4", "0.1"), (100_000, "0.5", "0.3"))[:count]
    twins = tables.Twins(build_setup([tables.make_market(tables.LAX, rows)]))
    tables.assign(twins, 1, BUY, 50, 300)
    assert codes.LIQUIDATION_STARTED in tables.choose(twins, 1)["kind"]


def test_who_is_at_its_cap_is_asked_no_more():
    """By equity 700 and thrice 100 bear 4.9 and thrice 0.7 of 7 lots; the first has 5, though a sixth were the least.

    Source: ADL-027, ADL-024.
    """
    holders = {2: (5, 100, 700), 3: (5, 100, 100), 4: (5, 100, 100), 5: (5, 100, 100)}
    _, events = allotments.deleverage("min_max", holders, 7)
    assert parts_of(events) == {2: 5, 3: 1, 4: 1}


# ---------------------------------------------------------------- what is free


def withdraw_all(desk, account, amount, market=0):
    """Check that an account is refused one unit more than an amount, and given that."""
    for more, kind in ((1, codes.REJECTED), (0, codes.ACCEPTED)):
        events = desk.send(codes.WITHDRAW, account=account, amount_quote=amount + more, market=market)
        assert events["kind"].tolist() == [kind]


def test_a_gain_is_free_but_not_to_be_withdrawn():
    """A gain of 500 in B stays there; of the 200 in the wallet an isolated bid of 10 @ 100 in A keeps 50.

    What is in another asset is as free as ever; and a mark of one tick is a mark: 100 lots @ 1 keep 5.

    Source: MARGIN-006.
    """
    markets = [houses.make_market("A", margin_mode="isolated"), houses.make_market("B")]
    markets += [houses.make_market("C", settle="BTC", fund="BTC"), houses.make_market("D", initial_mark=Decimal(1))]
    desk = houses.Desk(*markets)
    desk.give(1, 10, 100, 200, 1)
    desk.send(codes.DEPOSIT, account=1, amount_quote=100, market=2)
    desk.place(1, BUY, 10, 100, market=0)
    desk.mark(150, 1)
    withdraw_all(desk, 1, 150)
    withdraw_all(desk, 1, 100, 2)
    desk.give(2, 100, 1, 20, 3)
    withdraw_all(desk, 2, 15, 3)


def test_a_portfolios_gain_is_not_to_be_withdrawn():
    """Ten lots gained 1,000; in the wallet, that of the second asset, there are 300.

    Source: PORT-004.
    """
    desk = portfolios.Desk(portfolios.make_market("A"), portfolios.make_market("B", settle="BTC", fund="BTC"))
    desk.set_mode(1, codes.PORTFOLIO, at=1)
    desk.bring(1, 10, at=1, amount=300)
    desk.mark(200, at=1)
    withdraw_all(desk, 1, 300, 1)


# ---------------------------------------------------------------- who is in the queue while it stands


def test_who_comes_to_stand_in_the_queue_is_counted_once():
    """As above, but shorts 3 and 6 both buy from 4: it was in the queue when its short grew.

    Source: ADL-002, ADL-004, EVT-001.
    """
    lax, strict = (
        (Tier(floor=Decimal(0), initial=Decimal("0.4"), maintenance=Decimal(rate)),) for rate in ("0.01", "0.3")
    )
    desk = Desk(tiers=lax, tier_tables=(strict,), default_leverage=2)
    desk.send(codes.DEPOSIT, account=4, amount_quote=1_000)
    desk.send(codes.PLACE, account=4, order_id=1, side=SELL, qty_lot=2, price_tick=100)
    desk.bring(5, SELL, 10, 120, 1_000)
    desk.bring(1, BUY, 1, 150, 52)
    desk.bring(2, BUY, 1, 150, 56)
    desk.bring(3, SELL, 1, 95, 9)
    desk.bring(6, SELL, 1, 95, 10)
    events = desk.send(codes.SET_TIERS, amount_quote=1)
    assert rows_of(events, codes.ADL_STARTED, "account", "count") == [(1, 3), (2, 2)]


def test_who_left_the_queue_and_who_is_in_another_do_not_count():
    """Long 1 takes the one lot that 3 is short in A; long 2 sells in B to 3, and to 4, which is short there, isolated.

    Flat in A, 3 leaves the queue once, whatever it buys; and no short of B is deleveraged in A, however it would score.

    Source: ADL-002, ADL-004, EVT-001.
    """
    desk = stages.Desk(*(stages.make_market(name, changes={"initial_mark": Decimal(mark)}) for name, mark in TWO_MARKS))
    for account, lots, amount in ((3, 1, 30), (5, 4, 1_000), (6, 4, 1_100)):
        desk.bring(account, SELL, lots, 150, amount)
    desk.send(codes.SET_MARGIN_MODE, account=4, market=1, amount_quote=codes.ISOLATED)
    desk.bring(4, SELL, 20, 150, 100, 1)
    desk.send(codes.DEPOSIT, account=4, amount_quote=1_000)
    desk.place(3, BUY, 101, 1, 1, 1)
    desk.place(4, BUY, 101, 15, 2, 1)
    desk.level(BUY, 101, 4, 1)
    desk.bring(1, BUY, 1, 150, 20)
    desk.bring(2, BUY, 20, 100, 225, 1)
    desk.bring(2, BUY, 5, 150, 0)
    events = desk.mark(100)
    assert stages.only(events, "liquidation_fill", "other", "qty_lot") == [(3, 1), (4, 15), (0, 4)]
    assert stages.only(events, "adl_started", "account", "count") == [(1, 3), (2, 2)]
    assert stages.only(events, "adl_fill", "account", "other", "qty_lot") == [(1, 3, 1), (2, 5, 4), (2, 6, 1)]


# ---------------------------------------------------------------- within a few units


@pytest.mark.parametrize(
    ("markets", "call", "rate", "price", "rise", "amount"),
    [
        (2, "3", "0.025", 160, 1, 26),  # 24 of 26, then 30 of 28
        (8, "12", "0.0625", 16, 1, 183),  # 96 of 183, then 192 of 191
        (1, "1.99", "0.502", 1_000, 2, 1_000),  # 998.98 of 1000, then 1002.96 of 1002
        (3, "1.99", "0.004", 32_000, -251, 1_528),  # 764.16 of 1528, then 776.1 of 775
    ],
)
def test_a_call_for_what_is_rounded(markets, call, rate, price, rise, amount):
    """A lot in each of so many markets: marks that gain may bring a call, and ones that lose use up floored parts.

    In the last case 763 are to lose, 757 with what rounding may take: 252 each, and not the 253 that 251 ticks take.

    Source: MARGIN-010, STEP-005.
    """
    tiers = (Tier(floor=Decimal(0), initial=Decimal("0.6"), maintenance=Decimal(rate)),)
    changes = {"initial_mark": Decimal(price), "margin_call": Decimal(call), "tiers": tiers, "default_leverage": 1}
    made = [houses.make_market(f"M{at}", price_max=Decimal(2 * price), **changes) for at in range(markets)]
    desk = houses.Desk(*made)
    for market in range(markets):
        desk.give(1, 1 if rise > 0 else -1, price, 0 if market else amount, market)
    for market in range(markets):
        assert not desk.kinds["margin_call"]
        desk.mark(price + abs(rise), market)
    assert desk.kinds["margin_call"] == 1


def test_a_portfolio_of_five_that_has_nothing_to_lose():
    """One lot @ 800 asks 100 and four @ 8 one each, and there are 104: a tick less is too little.

    Source: PORT-008, MARGIN-010.
    """
    prices = (800, 8, 8, 8, 8)
    made = [portfolios.make_market(f"M{at}", f"U{at}", initial_mark=Decimal(price)) for at, price in enumerate(prices)]
    desk = portfolios.Desk(*made, members=[1])
    for at, price in enumerate(prices):
        desk.bring(1, 1, at=at, amount=0 if at else 104, price=price)
    assert desk.kinds["liquidation_started"] == 0
    desk.mark(799)
    assert desk.kinds["liquidation_started"] == 1
