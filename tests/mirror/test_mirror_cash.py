"""Settlement in cash by numbers done by hand: who pays at a mark, who is paid, and who is looked at then.

One tick of one lot is one unit of money, maintenance 5 %, no fees.
"""

from decimal import Decimal

import pytest

from engine import codes
from engine.codes import BUY, EXTERNAL, HOUSE, SELL
from engine.contract import Tier, build_setup
from engine.errors import ConfigError
from engine.exchange import Capacity, CompiledEngine
from tests.mirror.streams import Command, pack_commands
from tests.mirror.test_mirror_house import Desk, make_market, show

VAULT = {"backstop": "vault", "vault_below": "1", "takeover_price": "mark"}
NAMES = ("account", "qty_lot", "amount_quote", "other_amount_quote", "order_id")
PAYERS = ("account", "order_id", "amount_quote", "other_amount_quote", "margin_quote", "other_margin_quote")


def make_desk(policy=None, **changes):
    """Return a desk of one market that settles at the mark."""
    return Desk(make_market(policy=policy, settlement="mark", **({"order_margin": "none"} | changes)))


def deposit(desk, **amounts):
    for name, amount in amounts.items():
        desk.send(codes.DEPOSIT, account=int(name[1:]), amount_quote=amount)


def meet(desk, buyer, seller, qty, price):
    """Let two accounts trade; the seller is the first to place an order."""
    desk.place(seller, SELL, qty, price)
    desk.place(buyer, BUY, qty, price)


def test_trades_move_no_cash():
    """CASH-003, CASH-004, CASH-001, MONEY-001: 5 bought at 100 and sold at 108 are nobody's cash before the mark.

    Account 1 sold at 100 to 2, which sold at 108 to 3.  At 110: 1 loses 50, 2 is flat and gains 40, 3 gains 10.
    """
    desk = make_desk()
    deposit(desk, a1=500, a2=500, a3=500)
    meet(desk, 2, 1, 5, 100)
    meet(desk, 3, 2, 5, 108)
    assert [desk.wallet(account) for account in (1, 2, 3)] == [500, 500, 500]
    rows = [tuple(map(int, row[:4])) for row in desk.fast.view().positions]
    assert rows == [(1, 0, -5, -500), (2, 0, 0, -40), (3, 0, 5, 540)]
    assert show(desk.mark(110), codes.VARIATION, *NAMES) == [(1, -5, -50, -50, 0), (2, 0, 40, 40, 0), (3, 5, 10, 10, 0)]
    assert [desk.wallet(account) for account in (1, 2, 3)] == [450, 540, 510]
    assert len(desk.mark(110)) == 0


def test_what_is_owed_cannot_be_withdrawn():
    """CASH-005, MARGIN-006: flat after losing 40, account 2 has 460 of its 500 to take away."""
    desk = make_desk()
    deposit(desk, a1=500, a2=500, a3=500)
    meet(desk, 2, 1, 5, 108)
    meet(desk, 3, 2, 5, 100)
    events = desk.send(codes.WITHDRAW, account=2, amount_quote=461)
    assert show(events, codes.REJECTED, "code") == [(codes.INSUFFICIENT_MARGIN,)]
    desk.send(codes.WITHDRAW, account=2, amount_quote=460)
    assert show(desk.mark(104), codes.VARIATION, *NAMES) == [(2, 0, -40, -40, 0), (1, -5, 20, 20, 0), (3, 5, 20, 20, 0)]
    assert desk.wallet(2) == 0


def test_losers_then_the_fund_then_the_winners():
    """CASH-002, CASH-004, HOUSE-005, EVT-002, DEF-003: of 300 lost 20 + 50 are paid by wallets and 30 by the fund.

    1 is short 20 with 20, 2 short 10 with 50, against 3 long 17, 4 long 9, 5 long 4; the mark rises by 10.
    1: 200 - 20 = 180 short, 30 of it by the fund. 2: 100 - 50 = 50. D = 200, G = 300, C = 100:
    3 gets floor(170 / 3) = 56, 4 floor(90 / 3) = 30, 5 what is left, 14 of its 40.
    """
    desk = make_desk(VAULT)
    desk.fund(30)
    deposit(desk, a1=20, a2=50, a3=1000, a4=1000, a5=1000)
    desk.place(1, SELL, 20, 100)
    desk.place(2, SELL, 10, 100)
    for account, qty in ((3, 17), (4, 9), (5, 4)):
        desk.place(account, BUY, qty, 100)
    events = desk.mark(110)
    assert show(events, codes.VARIATION, *NAMES) == [
        (1, -20, -200, -20, 1),
        (2, -10, -100, -50, 2),
        (3, 17, 170, 56, 0),
        (4, 9, 90, 30, 0),
        (5, 4, 40, 14, 0),
    ]
    assert show(events, codes.FUND_DEBIT, "account", "amount_quote", "order_id") == [(1, 30, 1)]
    assert show(events, codes.DEFICIT, *PAYERS) == [(1, 1, 180, 30, 150, 0), (2, 2, 50, 0, 50, 0)]
    assert show(events, codes.TAKEOVER, "account", "other", "other_amount_quote") == [
        (1, HOUSE, -2200),
        (2, HOUSE, -1100),
    ]
    assert desk.house() == (-30, -3300)


def test_the_house_wins_and_loses_through_the_fund():
    """CASH-004, HOUSE-003: short 30 @ 110 the house gains 60 at 108 and loses 330 at 119, of which the fund has 60.

    Then 3, 4, 5 share 60 of 330: floor(187 x 60 / 330) = 34, floor(99 x 60 / 330) = 18, and 8.
    """
    desk = make_desk(VAULT)
    deposit(desk, a1=20, a2=50, a3=1000, a4=1000, a5=1000)
    desk.place(1, SELL, 20, 100)
    desk.place(2, SELL, 10, 100)
    for account, qty in ((3, 17), (4, 9), (5, 4)):
        desk.place(account, BUY, qty, 100)
    desk.mark(110)
    events = desk.mark(108)
    assert show(events, codes.VARIATION, *NAMES)[-1] == (HOUSE, -30, 60, 60, 0)
    assert show(events, codes.FUND_CREDIT, "account", "amount_quote") == [(HOUSE, 60)]
    events = desk.mark(119)
    assert show(events, codes.VARIATION, *NAMES) == [
        (HOUSE, -30, -330, -60, 3),
        (3, 17, 187, 34, 0),
        (4, 9, 99, 18, 0),
        (5, 4, 44, 8, 0),
    ]
    assert show(events, codes.FUND_DEBIT, "account", "amount_quote", "order_id") == [(HOUSE, 60, 0)]
    assert show(events, codes.DEFICIT, *PAYERS) == [(HOUSE, 3, 270, 0, 270, 0)]


def test_the_last_winner_may_get_more_than_it_won():
    """CASH-004: 11 won by 5, 5 and 1, one is missing: floor(5 x 10 / 11) = 4 twice, and the last gets 2."""
    desk = make_desk(VAULT)
    deposit(desk, a1=10, a2=100, a3=100, a4=100)
    desk.place(1, SELL, 11, 100)
    for account, qty in ((2, 5), (3, 5), (4, 1)):
        desk.place(account, BUY, qty, 100)
    events = desk.mark(101)
    assert [row[3] for row in show(events, codes.VARIATION, *NAMES)] == [-10, 4, 4, 2]
    assert show(events, codes.DEFICIT, *PAYERS) == [(1, 1, 1, 0, 1, 0)]


def test_the_outside_pays_and_is_paid_in_full():
    """CASH-004, OUT-001, DEF-003: account 1 owes 100 and has 30; the outside won 80 of it, account 2 20, which is cut.

    D = 70 is more than G = 20: nothing for account 2, and 50 by nobody.
    """
    desk = make_desk(VAULT)
    desk.give(1, -10, 100, 30)
    desk.give(2, 2, 100, 500)
    assert desk.wallet(EXTERNAL) == 0
    events = desk.mark(110)
    assert show(events, codes.VARIATION, *NAMES) == [(0, 8, 80, 80, 0), (1, -10, -100, -30, 1), (2, 2, 20, 0, 0)]
    assert show(events, codes.DEFICIT, *PAYERS) == [(1, 1, 70, 0, 20, 50)]
    assert (desk.wallet(EXTERNAL), int(desk.fast.view().assets[0][2])) == (80, -50)


def test_the_order_is_that_of_the_first_order():
    """CASH-002: account 3 placed first and trades last; it is settled first, and 2 is the last winner."""
    desk = make_desk(VAULT)
    deposit(desk, a1=5, a2=100, a3=100)
    desk.place(3, BUY, 3, 90)
    meet(desk, 2, 1, 3, 100)
    desk.place(1, SELL, 3, 90)
    entries = [tuple(map(int, row)) for row in desk.fast.view().entries]
    assert entries == [(0, 3), (0, 1), (0, 2)]
    events = desk.mark(98)
    # 1 sold 3 @ 100 and 3 @ 90: 570 - 588 = -18 of which it has 5; 3 won 24, 2 lost 6: D = 13, G = 24, C = 11
    assert [row[::3] for row in show(events, codes.VARIATION, *NAMES)] == [(1, -5), (2, -6), (3, 11)]


def test_who_is_looked_at_and_when():
    """CASH-005, CASH-001: bought 10 too dear by 10 each, with 60: nothing happens until a mark is said.

    At 100 again it pays 60, 40 are its deficit, and what it holds goes to the house.
    """
    desk = make_desk(VAULT)
    deposit(desk, a1=60, a2=1000)
    desk.place(2, SELL, 10, 110)
    events = desk.place(1, BUY, 10, 110)
    assert codes.LIQUIDATION_STARTED not in events["kind"]
    assert len(desk.wait(1)) == 0
    events = desk.mark(100)
    assert show(events, codes.VARIATION, *NAMES) == [(1, 10, -100, -60, 1), (2, -10, 100, 60, 0)]
    assert show(events, codes.LIQUIDATION_STARTED, "account", "amount_quote", "other_amount_quote") == [(1, 0, 50)]
    assert desk.house() == (10, 1000)


def test_a_repeated_index_settles_too():
    """CASH-001, STEP-002: so does an index; a model of the last trade settles when that moves the mark."""
    desk = make_desk(mark_model="index")
    deposit(desk, a1=500, a2=500)
    meet(desk, 1, 2, 5, 103)
    events = desk.send(codes.INDEX, price_tick=100)
    assert show(events, codes.VARIATION, "account", "amount_quote") == [(1, -15), (2, 15)]
    desk = make_desk(mark_model="last")
    deposit(desk, a1=500, a2=500)
    desk.place(2, SELL, 5, 103)
    events = desk.place(1, BUY, 5, 103)
    assert codes.MARK_MOVED in events["kind"]
    assert codes.VARIATION not in events["kind"]  # bought and sold at what is now the mark
    assert show(desk.send(codes.PRINT, price_tick=100, qty_lot=1, side=SELL), codes.VARIATION, "account") == [
        (1,),
        (2,),
    ]


def test_calls_wait_for_the_mark():
    """CASH-005, STEP-005: called once, at the mark; that the mark moves its cash does not let it be called again."""
    desk = make_desk(margin_call=Decimal(2))
    deposit(desk, a1=90, a2=1000)
    meet(desk, 1, 2, 10, 100)  # 90 against a call level of 100
    events = desk.mark(100)
    assert show(events, codes.MARGIN_CALL, "account", "amount_quote", "other_amount_quote") == [(1, 90, 50)]
    events = desk.mark(99)
    assert show(events, codes.VARIATION, "account", "other_amount_quote") == [(1, -10), (2, 10)]
    assert codes.MARGIN_CALL not in events["kind"]


def test_a_flat_account_that_owes_more_than_it_has():
    """CASH-005, LIQ-011, CASH-003: fees took its wallet below nothing: made whole by the fund at the next mark.

    It bought and sold 10 @ 100 with 15, a fee of 10 each time: -5.
    """
    desk = make_desk(taker_fee=Decimal("0.01"))
    desk.fund(100)
    deposit(desk, a1=15, a2=1000)
    meet(desk, 1, 2, 10, 100)
    desk.place(2, BUY, 10, 100)
    desk.place(1, SELL, 10, 100)
    assert desk.wallet(1) == -5
    events = desk.mark(100)
    assert show(events, codes.DEFICIT, *PAYERS) == [(1, 1, 5, 5, 0, 0)]
    assert (desk.wallet(1), desk.balance()) == (0, 95)


def test_through_the_book_the_liquidated_is_paid_at_once():
    """CASH-003, LIQ-005: at 94 40 are left; 10 are sold at 93, 30 better than B; the buyer is settled later."""
    desk = make_desk({"backstop": "takeover"})
    deposit(desk, a1=100, a2=1000, a3=1000)
    meet(desk, 1, 2, 10, 100)
    desk.place(3, BUY, 10, 93)
    events = desk.mark(94)
    assert show(events, codes.LIQUIDATION_FILL, "other", "qty_lot", "amount_quote") == [(3, 10, 30)]
    assert (desk.wallet(1), desk.wallet(3), desk.balance()) == (0, 1000, 30)
    assert show(desk.mark(94), codes.VARIATION, *NAMES) == [(3, 10, 10, 10, 0)]


def test_unwinding_is_settled_at_once():
    """CASH-001, HOUSE-007, HOUSE-008: taken over at 94 with 40, sold at 90: 40 lost, and a fee of 45 the fund has not.

    Account 3, which bought 5 of them, is settled at 94 in the same command: 20 by 40 of the fund less the fee of 40.
    """
    policy = VAULT | {"unwind": "immediate", "unwind_range": "0", "closeout_fee": "0.1"}
    desk = make_desk(policy)
    deposit(desk, a1=100, a2=1000, a3=1000)
    meet(desk, 1, 2, 10, 100)
    desk.place(3, BUY, 5, 90)
    events = desk.mark(94)
    names = ("account", "other", "qty_lot", "price_tick", "fee_quote")
    assert show(events, codes.TRADE, *names) == [(HOUSE, 3, 5, 90, 40)]  # ceil(45) is more than the 40 there are
    assert show(events, codes.VARIATION, *NAMES)[2:] == [(HOUSE, 5, -20, 0, 1), (3, 5, 20, 0, 0)]
    assert show(events, codes.DEFICIT, *PAYERS) == [(HOUSE, 1, 20, 0, 20, 0)]
    assert (desk.house(), desk.balance(), desk.wallet(3)) == ((5, 470), 0, 1000)
    desk.place(3, BUY, 5, 94)
    assert desk.house() == (5, 470)  # at once means with the marks
    desk.mark(94)
    assert desk.house() == (0, 0)


def test_shorts_may_need_more_than_longs():
    """CASH-006, MARGIN-002, MARGIN-011: 200 % of 10 @ 100 is 2000 for a long, 250 % is 2500 for a short."""
    tiers = (Tier(floor=Decimal(0), initial=Decimal("2.5"), maintenance=Decimal(2)),)
    desk = make_desk(VAULT, tiers=tiers, short_maintenance=Decimal("0.5"), default_leverage=1)
    deposit(desk, a1=1999, a2=2499)
    meet(desk, 1, 2, 10, 100)
    assert desk.plain.find_liquidation_price(1, 0) == desk.fast.find_liquidation_price(1, 0) == 0
    events = desk.mark(100)
    names = ("account", "amount_quote", "other_amount_quote")
    assert show(events, codes.LIQUIDATION_STARTED, *names) == [(1, 1999, 2000), (2, 2499, 2500)]
    assert (desk.house(), desk.balance()) == ((0, 0), 4498)


def test_orders_may_be_let_in_without_margin():
    """CASH-007, MARGIN-006: refused with a check, let in without; a withdrawal is checked all the same."""
    for order_margin, kind in (("initial", codes.REJECTED), ("none", codes.ACCEPTED)):
        for settlement in ("close", "mark"):
            desk = Desk(make_market(settlement=settlement, order_margin=order_margin))
            deposit(desk, a1=10)
            assert desk.place(1, BUY, 5, 100)["kind"][0] == kind
            events = desk.send(codes.WITHDRAW, account=1, amount_quote=10)
            assert (events["kind"][0] == codes.REJECTED) == (order_margin == "none")


def test_there_is_no_other_mode():
    """CASH-006, MARGIN-008: a position of its own margin is refused."""
    desk = make_desk()
    events = desk.send(codes.SET_MARGIN_MODE, account=1, amount_quote=codes.ISOLATED)
    assert show(events, codes.REJECTED, "code") == [(codes.BAD_AMOUNT,)]
    assert desk.send(codes.SET_MARGIN_MODE, account=1, amount_quote=codes.CROSS)["kind"].tolist() == [codes.ACCEPTED]


def test_settled_states_go_on_alike():
    """STATE-001, STATE-002, CASH-002: the order of entry is saved and copied."""
    desk = make_desk(VAULT)
    deposit(desk, a1=5, a2=100, a3=100)
    desk.place(3, BUY, 3, 90)
    meet(desk, 2, 1, 3, 100)
    fresh = CompiledEngine(desk.setup, Capacity())
    fresh.restore(desk.fast.dump())
    others = [desk.fast.copy(), fresh, desk.plain.copy()]
    want = desk.mark(103)
    for other in others:
        got = other.apply(pack_commands([Command(kind=codes.MARK, price_tick=103)]))
        assert got.tobytes() == want.tobytes()
        assert [tuple(map(int, row)) for row in other.view().entries] == [(0, 3), (0, 1), (0, 2)]


@pytest.mark.parametrize(
    ("policy", "changes", "expected"),
    [
        ({"backstop": "bank"}, {}, r"liquidation\.backstop: unknown policy 'bank', known: adl, takeover, vault"),
        ({"unwind": "immediate"}, {}, r"liquidation\.unwind: expected none where backstop is adl, got immediate"),
        ({"takeover_price": "last"}, {}, r"liquidation\.takeover_price: unknown policy 'last'"),
        ({"vault_below": "1.1"}, {}, r"liquidation\.vault_below: expected above 0, at most 1, got 1\.1"),
        ({"carry": "1000001"}, {}, r"liquidation\.carry: expected 0 to 1000000"),
        ({"unwind_share": "0"}, {}, r"liquidation\.unwind_share: expected above 0"),
        ({"unwind_depth": "2"}, {}, r"liquidation\.unwind_depth: expected above 0"),
        ({"unwind_full": "0.5"}, {}, r"liquidation\.unwind_full"),
        ({"unwind_interval_s": "0"}, {}, r"liquidation\.unwind_interval_s: expected above 0"),
        ({"unwind_range": "1"}, {}, r"liquidation\.unwind_range: expected 0 to below 1"),
        ({"backstop": "vault", "unwind": "stepped", "unwind_range": "0"}, {}, r"unwind_range: expected above 0"),
        ({"closeout_fee": "2"}, {}, r"liquidation\.closeout_fee: expected 0 to 1"),
        ({"unwind_last": "maybe"}, {}, r"liquidation\.unwind_last: unknown policy 'maybe', known: off, on"),
        ({}, {"settlement": "daily"}, r"settlement: unknown policy 'daily', known: close, mark"),
        ({}, {"order_margin": "half"}, r"order_margin: unknown policy 'half', known: initial, none"),
        (
            {},
            {"settlement": "mark", "margin_mode": "isolated"},
            r"margin_mode: expected cross where settlement is mark",
        ),
        ({}, {"short_maintenance": Decimal("0.01")}, r"short_maintenance: expected 0 unless settlement is mark"),
        (
            {},
            {"settlement": "mark", "short_maintenance": Decimal("0.01")},
            r"maintenance \+ short_maintenance <= initial",
        ),
    ],
)
def test_what_is_refused(policy, changes, expected):
    """CFG-001, CFG-002, HOUSE-004, HOUSE-007, CASH-006: each names the path, the value and what was expected."""
    with pytest.raises(ConfigError, match=expected):
        build_setup([make_market(policy=policy, **changes)])


def test_one_asset_has_one_settlement():
    """CASH-001, CASH-006, NUM-006: markets of one asset agree, and rates above 1 leave less room for notional."""
    with pytest.raises(ConfigError, match=r"settlement: all markets settling in USDT share one"):
        build_setup([make_market("A"), make_market("B", settlement="mark")])
    setup = build_setup([make_market("A"), make_market("B", settlement="mark", settle="BTC")])
    assert [rules.settlement for rules in setup.markets] == [0, 1]
    tiers = (Tier(floor=Decimal(0), initial=Decimal("2.5"), maintenance=Decimal(2)),)
    with pytest.raises(ConfigError, match=r"expected 0 < maintenance <= initial <= 1"):
        build_setup([make_market(tiers=tiers, default_leverage=1)])
    rules = build_setup([make_market(tiers=tiers, default_leverage=1, settlement="mark")]).markets[0]
    assert rules.open_interest_max_lot == (1 << 58) // 3000
