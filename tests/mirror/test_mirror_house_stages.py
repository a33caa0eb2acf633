"""The house beside the other policies, by numbers done by hand: steps, gates, triggers, tables, inverse contracts.

As in the house's own tests: one tick of one lot is one unit of money, maintenance 5 %, no fees, an empty book.  A long
of 10 @ 100 with 100 has 40 against 47 at 94, so that B = 940 - 40 = 900.
"""

from decimal import Decimal

import pytest

from engine import codes
from engine.codes import BUY, EXTERNAL, HOUSE, SELL
from engine.contract import AdlPolicy, Tier, build_setup
from engine.errors import ConfigError
from tests.mirror.test_mirror_house import Desk, make_market, show

SHARES = {"size": "share", "share": "0.2", "cooldown_s": "10"}
INVERSE = {"kind": "inverse", "contract_size": Decimal(10_000)}  # a lot is worth 10,000 / price


def one_tier(initial, maintenance):
    return (Tier(floor=Decimal(0), initial=Decimal(initial), maintenance=Decimal(maintenance)),)


def test_a_vault_takes_whole_positions_whatever_the_sizes():
    """HOUSE-005, STAGE-003, STAGE-004, STAGE-009: 10 lots at once for 900, no cooldown, and nothing rests."""
    policy = {"backstop": "vault", "vault_below": "1", **SHARES}
    desk = Desk(make_market(policy=policy, adl=AdlPolicy(gate="insolvent")))
    desk.give(1, 10, 100, 100)
    events = desk.mark(94)
    assert show(events, codes.TAKEOVER, "other", "qty_lot", "other_amount_quote") == [(HOUSE, 10, 900)]
    assert show(events, codes.LIQUIDATION_ENDED, "qty_lot", "amount_quote", "code") == [(10, 0, 0)]
    assert desk.house() == (10, 900)


def test_what_a_vault_cannot_carry_is_closed_whole_too():
    """HOUSE-005, HOUSE-006: 940 is more than half of 1000: the queue takes all 10 for 900, past gate and sizes."""
    policy = {"backstop": "vault", "vault_below": "1", "carry": "0.5", **SHARES}
    desk = Desk(make_market(policy=policy, adl=AdlPolicy(gate="insolvent")))
    desk.fund(1000)
    desk.give(1, 10, 100, 100)
    desk.give(2, -10, 100, 500)
    events = desk.mark(94)
    assert show(events, codes.ADL_FILL, "other", "qty_lot", "amount_quote") == [(2, 10, 900)]
    assert show(events, codes.LIQUIDATION_ENDED, "qty_lot", "code") == [(10, 0)]
    assert desk.house() == (0, 0)


def test_the_house_takes_over_step_by_step():
    """HOUSE-004, STAGE-003, STAGE-004: a fifth of 10 for floor(900 x 2 / 10), and the next 10 seconds later.

    Then 8 @ 800 with 80 have 32 against 38: B = 752 - 32 = 720, and ceil(8 / 5) = 2 of the 8 go for 180.
    """
    desk = Desk(make_market(policy={"backstop": "takeover", **SHARES}))
    desk.give(1, 10, 100, 100)
    events = desk.mark(94)
    assert show(events, codes.TAKEOVER, "qty_lot", "other_amount_quote") == [(2, 180)]
    assert show(events, codes.LIQUIDATION_ENDED, "qty_lot", "amount_quote", "code") == [(2, 32, codes.COOLDOWN)]
    assert len(desk.wait(9)) == 0
    assert show(desk.wait(1), codes.TAKEOVER, "qty_lot", "other_amount_quote") == [(2, 180)]
    assert (desk.house(), desk.wallet(1)) == ((4, 360), 60)


def test_the_house_can_carry_a_step_where_it_cannot_carry_all():
    """HOUSE-006, STAGE-004: on a fund of 200, 2 lots of 94 are 188; a step is what is asked about, not the position."""
    desk = Desk(make_market(policy={"backstop": "takeover", "carry": "1", **SHARES}))
    desk.fund(200)
    desk.give(1, 10, 100, 100)
    assert show(desk.mark(94), codes.TAKEOVER, "other", "qty_lot") == [(HOUSE, 2)]


def test_the_gate_stands_before_the_house():
    """HOUSE-004, STAGE-009, WAKE-001: solvent at 94 it stays open; at 89 it has -10, and the house pays B = 900."""
    desk = Desk(make_market(policy={"backstop": "takeover"}, adl=AdlPolicy(gate="insolvent")))
    desk.give(1, 10, 100, 100)
    events = desk.mark(94)
    assert show(events, codes.LIQUIDATION_ENDED, "qty_lot", "code") == [(0, codes.BOOK_EMPTY)]
    assert desk.house() == (0, 0)
    assert show(desk.mark(89), codes.TAKEOVER, "qty_lot", "other_amount_quote") == [(10, 900)]
    assert (desk.house(), desk.wallet(1)) == ((10, 900), 0)


@pytest.mark.parametrize(("trigger", "sold", "house"), [("fund_empty", 5, 10), ("equity", 0, 15)])
def test_what_the_house_lost_counts_in_the_trigger(trigger, sold, house):
    """ADL-019, HOUSE-003: at 80 a long of 5 @ 94 with 60 lacks 10 and the fund has 60, but the house is 100 down."""
    desk = Desk(make_market(policy={"backstop": "takeover"}, adl=AdlPolicy(trigger=trigger)))
    desk.fund(60)
    desk.give(1, 10, 100, 100)
    desk.mark(94)
    desk.give(2, 5, 94, 60)
    desk.level(BUY, 80, 5)
    events = desk.mark(80)
    assert sum(qty for (qty,) in show(events, codes.LIQUIDATION_FILL, "qty_lot")) == sold
    assert desk.house()[0] == house
    assert desk.balance() == (50 if sold else 60)


def test_a_loss_of_the_house_reaches_the_drawdown():
    """ADL-020, ADL-021, HOUSE-003: funding of 94 takes the fund from 300 to 206, more than 0.3 of its peak of 300."""
    desk = Desk(make_market(policy={"backstop": "takeover"}, adl=AdlPolicy(trigger="drawdown")))
    desk.fund(300)
    desk.give(1, 10, 100, 100)
    desk.mark(94)
    assert [int(row[2]) for row in desk.fast.view().adl] == [0]
    desk.send(codes.FUNDING, amount_quote=100_000_000)
    assert desk.balance() == 206
    assert [int(row[2]) for row in desk.fast.view().adl] == [1]


def test_the_house_holds_inverse_positions():
    """HOUSE-002, HOUSE-004, HOUSE-008, INV-001, INV-004: values have the other sign and are rounded.

    10 @ 100 cost -1000; at 94 they are worth -1064 (1063.8), equity is 36 against 54 and B = -1100, shown as 91 (90.9).
    Funding of 1 % is 10.64: the house pays 11.  Sold at 96 the 10 bring 1042 (1041.7): 58 better than what they cost.
    """
    desk = Desk(make_market(policy={"backstop": "takeover", "unwind": "immediate"}, **INVERSE))
    desk.fund(1000)
    desk.give(1, 10, 100, 100)
    events = desk.mark(94)
    assert show(events, codes.TAKEOVER, "qty_lot", "other_amount_quote", "bankruptcy_tick") == [(10, -1100, 91)]
    assert (desk.house(), desk.wallet(1)) == ((10, -1100), 0)
    events = desk.send(codes.FUNDING, amount_quote=10_000_000)
    assert show(events, codes.FUNDING_PAYMENT, "account", "amount_quote") == [(HOUSE, -11), (EXTERNAL, 10)]
    assert desk.balance() == 989
    events = desk.level(BUY, 96, 10)
    assert show(events, codes.TRADE, "account", "side", "qty_lot", "price_tick") == [(HOUSE, SELL, 10, 96)]
    assert show(events, codes.FUND_CREDIT, "account", "amount_quote") == [(HOUSE, 58)]
    assert (desk.house(), desk.balance()) == ((0, 0), 1047)


def test_inverse_positions_are_settled_at_the_mark():
    """CASH-004, INV-001: at 94 a long of 10 @ 100 is worth -1064 after -1000: it pays 64 of its 200."""
    desk = Desk(make_market(settlement="mark", **INVERSE))
    desk.give(1, 10, 100, 200)
    events = desk.mark(94)
    assert show(events, codes.VARIATION, "account", "qty_lot", "amount_quote", "other_amount_quote") == [
        (EXTERNAL, -10, 64, 64),
        (1, 10, -64, -64),
    ]
    assert desk.wallet(1) == 136


def test_inverse_shorts_may_need_more_and_longs_have_the_price():
    """CASH-006, MARGIN-011: rate 1.5, 10 lots @ 100 with 4000: 5000 - v < 1.5 v first where v is 2041, at 49.

    A short's requirement falls faster than its value as the price rises: there is no one price.  With 0.25 more for
    shorts 1000 of notional need 1750.
    """
    changes = {"tiers": one_tier("2", "1.5"), "default_leverage": 1, "short_maintenance": Decimal("0.25")}
    desk = Desk(make_market(settlement="mark", **INVERSE, **changes))
    desk.give(1, 10, 100, 4000)
    desk.give(2, -10, 100, 1749)
    assert [engine.find_liquidation_price(1, 0) for engine in (desk.fast, desk.plain)] == [49, 49]
    assert [engine.find_liquidation_price(2, 0) for engine in (desk.fast, desk.plain)] == [0, 0]
    started = show(desk.mark(100), codes.LIQUIDATION_STARTED, "account", "amount_quote", "other_amount_quote")
    assert started == [(2, 1749, 1750)]


def test_who_wakes_between_settlements_waits_for_the_next():
    """CASH-005, WAKE-001: left open at 94, it is looked at when the mark is given again, and then sold 40 better."""
    desk = Desk(make_market(settlement="mark", adl=AdlPolicy(gate="insolvent")))
    desk.give(1, 10, 100, 100)
    assert show(desk.mark(94), codes.LIQUIDATION_ENDED, "code") == [(codes.BOOK_EMPTY,)]
    assert len(desk.wait(1)) == 0
    assert len(desk.level(BUY, 94, 10)) == 0
    events = desk.mark(94)
    assert show(events, codes.LIQUIDATION_FILL, "qty_lot", "price_tick", "amount_quote") == [(10, 94, 40)]


def test_another_table_waits_for_the_next_settlement():
    """CASH-005, TIER-002: 52 against 95 under table 1 is looked at when the mark settles, not before."""
    desk = Desk(make_market(settlement="mark", tier_tables=(one_tier("0.2", "0.1"),)))
    desk.give(1, 10, 100, 102)
    desk.mark(95)
    assert list(desk.send(codes.SET_TIERS, amount_quote=1)["kind"]) == [codes.TIERS_CHANGED]
    started = show(desk.mark(95), codes.LIQUIDATION_STARTED, "account", "amount_quote", "other_amount_quote")
    assert started == [(1, 52, 95)]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"tier_tables": (one_tier("3", "2"),)},
            r"tier_tables\[0\]: tiers\[0\]: expected 0 < maintenance <= initial <= 1",
        ),
        (
            {"settlement": "mark", "tier_tables": (one_tier("0.06", "0.01"),), "short_maintenance": Decimal("-0.02")},
            r"tier_tables\[0\]\.short_maintenance: expected 0 < maintenance \+ short_maintenance",
        ),
        (
            {"settlement": "mark", "tier_tables": (one_tier("101", "2"),)},
            r"tier_tables\[0\]: tiers\[0\]: expected 0 < maintenance <= initial <= 100",
        ),
    ],
)
def test_every_table_is_checked(changes, expected):
    """CASH-006, TIER-001: rates above 1 and what shorts need more are checked in each table, which is named."""
    with pytest.raises(ConfigError, match=expected):
        build_setup([make_market(**changes)])


def test_the_highest_rate_of_any_table_leaves_the_room():
    """CASH-006, NUM-006, TIER-001: 2.5 in table 1 is 3 when rounded up; an inverse lot is worth most at one tick."""
    tables = {"settlement": "mark", "tier_tables": (one_tier("2.5", "2"),)}
    assert build_setup([make_market(**tables)]).markets[0].open_interest_max_lot == (1 << 58) // 3000
    assert build_setup([make_market(**tables, **INVERSE)]).markets[0].open_interest_max_lot == (1 << 58) // 30_000
