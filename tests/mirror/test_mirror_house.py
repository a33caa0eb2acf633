"""The house by numbers done by hand: what it takes over and at what, what it sells, what that does to the fund.

One tick of one lot is one unit of money, maintenance 5 %, no fees, an empty book.
"""

from decimal import Decimal

import pytest

from engine import codes
from engine.codes import BUY, HOUSE, SELL
from engine.contract import LiquidationPolicy, Market, Tier, build_setup
from engine.exchange import Capacity, CompiledEngine, ReferenceEngine
from engine.replay.tally import Tally
from tests.mirror import streams
from tests.mirror.streams import Command, pack_commands
from tests.mirror.twins import Twins

SECOND_NS = 1_000_000_000


def make_market(symbol="A", policy=None, **changes):
    """Return a market in unit sizes; `policy` says what its house does."""
    tiers = (Tier(floor=Decimal(0), initial=Decimal("0.05"), maintenance=Decimal("0.05")),)
    fields = dict.fromkeys(("tick_size", "lot_size", "quote_unit"), Decimal(1))
    fields |= dict.fromkeys(("maker_fee", "taker_fee", "margin_call"), Decimal(0))
    fields |= {"tiers": tiers, "price_max": Decimal(1000), "initial_mark": Decimal(100)}
    decimals = {name: Decimal(value) if value[0].isdigit() else value for name, value in (policy or {}).items()}
    return Market(symbol=symbol, liquidation=LiquidationPolicy(**decimals), **(fields | changes))


class Desk(Twins):
    """Both engines, and short names for what the tests do and look at."""

    def __init__(self, *markets):
        super().__init__(build_setup(markets))
        self.ts_ns = self.order_id = 0

    def send(self, kind, **fields):
        return self.apply(Command(kind=kind, ts_ns=self.ts_ns, **fields))

    def fund(self, amount, market=0):
        self.send(codes.FUND_DEPOSIT, amount_quote=amount, market=market)

    def give(self, account, qty, price, amount=0, market=0):
        """Bring a position from elsewhere, with collateral."""
        side = BUY if qty > 0 else SELL
        fields = {"account": account, "side": side, "qty_lot": abs(qty), "price_tick": price, "market": market}
        return self.send(codes.ASSIGN, amount_quote=amount, **fields)

    def mark(self, price, market=0):
        return self.send(codes.MARK, price_tick=price, market=market)

    def level(self, side, price, qty, market=0):
        return self.send(codes.LEVEL, side=side, price_tick=price, qty_lot=qty, market=market)

    def place(self, account, side, qty, price, **fields):
        self.order_id += 1
        fields |= {"account": account, "side": side, "qty_lot": qty, "price_tick": price, "order_id": self.order_id}
        return self.send(codes.PLACE, **fields)

    def wait(self, seconds):
        self.ts_ns += seconds * SECOND_NS
        return self.send(codes.CLOCK)

    def house(self, market=0):
        """Return (quantity, cost) of the house's position."""
        rows = [row for row in self.fast.view().positions if (row[0], row[1]) == (HOUSE, market)]
        return (int(rows[0][2]), int(rows[0][3])) if rows else (0, 0)

    def balance(self, fund=0):
        return int(self.fast.view().funds[fund][0])

    def wallet(self, account):
        return sum(int(row[2]) for row in self.fast.view().wallets if row[0] == account)


def show(events, kind, *names):
    """Return the named fields of the events of a kind."""
    return [tuple(int(event[name]) for name in names) for event in events[events["kind"] == kind]]


def test_taken_over_at_the_bankruptcy_value():
    """HOUSE-004, HOUSE-001, LIQ-010: at 94 a long of 10 @ 100 with 100 has 40 against 47; B = 940 - 40 = 900.

    Nothing rests, so the house books 10 for 900; the account ends at nothing and the fund is not touched.
    """
    desk = Desk(make_market(policy={"backstop": "takeover"}))
    desk.fund(1000)
    desk.give(1, 10, 100, 100)
    events = desk.mark(94)
    assert show(events, codes.TAKEOVER, "account", "other", "side", "qty_lot", "price_tick", "bankruptcy_tick") == [
        (1, HOUSE, SELL, 10, 94, 90)
    ]
    assert show(events, codes.TAKEOVER, "order_id", "amount_quote", "other_amount_quote") == [(0, 0, 900)]
    assert codes.ADL_STARTED not in events["kind"]
    assert show(events, codes.LIQUIDATION_ENDED, "qty_lot", "amount_quote") == [(10, 0)]
    assert (desk.house(), desk.wallet(1), desk.balance()) == ((10, 900), 0, 1000)


def test_what_the_book_takes_comes_first():
    """HOUSE-004, LIQ-005: 4 lots are sold at 92, 8 better than their share of 360; the house has 6 for 540."""
    desk = Desk(make_market(policy={"backstop": "takeover"}))
    desk.give(1, 10, 100, 100)
    desk.level(BUY, 92, 4)
    events = desk.mark(94)
    assert show(events, codes.LIQUIDATION_FILL, "qty_lot", "amount_quote") == [(4, 8)]
    assert show(events, codes.TAKEOVER, "qty_lot", "other_amount_quote") == [(6, 540)]
    assert (desk.house(), desk.balance()) == ((6, 540), 8)


def test_taken_over_at_the_mark():
    """HOUSE-004: at 94 the house books 940, and the 40 that were left go to the fund."""
    desk = Desk(make_market(policy={"backstop": "takeover", "takeover_price": "mark"}))
    desk.give(1, 10, 100, 100)
    events = desk.mark(94)
    assert show(events, codes.TAKEOVER, "amount_quote", "other_amount_quote") == [(0, 940)]
    assert show(events, codes.FUND_CREDIT, "account", "amount_quote", "other_amount_quote") == [(1, 40, 0)]
    assert (desk.house(), desk.wallet(1), desk.balance()) == ((10, 940), 0, 40)


def test_taken_over_at_the_mark_below_nothing():
    """HOUSE-004, DEF-002, DEF-003: at 80 equity is -100: 30 by the fund, 60 of account 2's gain of 60, 10 by nobody."""
    desk = Desk(make_market(policy={"backstop": "takeover", "takeover_price": "mark"}))
    desk.fund(30)
    desk.give(1, 10, 100, 100)
    desk.give(2, -3, 100, 500)
    events = desk.mark(80)
    assert show(events, codes.TAKEOVER, "order_id", "amount_quote", "other_amount_quote") == [(1, 100, 800)]
    assert show(events, codes.HAIRCUT, "account", "amount_quote") == [(2, 60)]
    names = ("account", "amount_quote", "other_amount_quote", "margin_quote", "other_margin_quote")
    assert show(events, codes.DEFICIT, *names) == [(1, 100, 30, 60, 10)]
    assert (desk.house(), desk.wallet(1), desk.balance()) == ((10, 800), 0, 0)


@pytest.mark.parametrize(("carry", "takes"), [("0.94", True), ("0.939999", False), ("0", True)])
def test_how_much_the_house_can_carry(carry, takes):
    """HOUSE-006, LIQ-008: 940 of notional on a fund of 1000 is just 0.94; beyond it the queue closes the position."""
    desk = Desk(make_market(policy={"backstop": "takeover", "carry": carry}))
    desk.fund(1000)
    desk.give(1, 10, 100, 100)
    desk.give(9, -10, 100, 5000)
    events = desk.mark(94)
    assert (codes.TAKEOVER in events["kind"], codes.ADL_FILL in events["kind"]) == (takes, not takes)
    assert desk.house() == ((10, 900) if takes else (0, 0))


def test_what_lowers_the_load_is_always_carried():
    """HOUSE-006, HOUSE-002, HOUSE-003: long 10 for 900 it takes a short of 4 although the fund is all but gone.

    Short 4 @ 94 with 24 has at 100 24 - 24 = 0 against 20: B = -400. The house closes 4 of 10 for 400, cost 360: 40.
    """
    desk = Desk(make_market(policy={"backstop": "takeover", "carry": "1"}))
    desk.fund(1000)
    desk.give(1, 10, 100, 100)
    desk.mark(94)
    assert desk.house() == (10, 900)
    desk.give(2, -4, 94, 24)
    events = desk.mark(100)  # 1000 of notional already, and after it 600
    assert show(events, codes.TAKEOVER, "account", "other", "other_amount_quote") == [(2, HOUSE, -400)]
    assert show(events, codes.FUND_CREDIT, "account", "amount_quote") == [(HOUSE, 40)]
    assert (desk.house(), desk.balance()) == ((6, 540), 1040)


def test_a_loss_beyond_the_fund_is_a_deficit_of_the_house():
    """HOUSE-003, DEF-001, DEF-002, EVT-002: long 10 for 900, the mark is 60 when it takes a short of 10 at its B.

    Short 10 @ 50 with 130 has at 60 30 against 30 and at 61 20 against 30.5: B = -630.  The house closes for 630 what
    cost 900: 270, 200 of it the fund's; account 3, short 2 @ 100, gained 78 and gives 70.
    """
    desk = Desk(make_market(policy={"backstop": "takeover"}))
    desk.fund(200)
    desk.give(1, 10, 100, 100)
    desk.mark(94)
    desk.mark(60)
    desk.give(2, -10, 50, 130)
    desk.give(3, -2, 100, 500)
    assert desk.house() == (10, 900)
    events = desk.mark(61)
    assert show(events, codes.FUND_DEBIT, "account", "amount_quote", "order_id") == [(HOUSE, 200, 0)]
    assert show(events, codes.HAIRCUT, "account", "amount_quote", "order_id") == [(3, 70, 1)]
    names = ("account", "order_id", "amount_quote", "other_amount_quote", "margin_quote", "other_margin_quote")
    assert show(events, codes.DEFICIT, *names) == [(HOUSE, 1, 70, 0, 70, 0)]
    assert (desk.house(), desk.wallet(3), desk.balance()) == ((0, 0), 430, 0)


def test_a_vault_takes_the_whole_before_the_book():
    """HOUSE-005: at 94 40 are below 47 but not below 32: book. At 93 30 are below ceil(46.5 x 2/3) = 32: vault."""
    policy = {"backstop": "vault", "vault_below": "0.666667", "takeover_price": "mark"}
    for price, taken in ((94, []), (93, [(HOUSE, 10)])):
        desk = Desk(make_market(policy=policy))
        desk.give(1, 10, 100, 100)
        desk.level(BUY, 92, 10)
        events = desk.mark(price)
        assert show(events, codes.TAKEOVER, "other", "qty_lot") == taken
        assert len(show(events, codes.LIQUIDATION_FILL)) == (0 if taken else 1)
        assert desk.wallet(1) == 0


def test_a_vault_takes_each_market_to_its_own_fund():
    """HOUSE-005, MARGIN-005: equity 29 of 60 is shared 14 (floored) and 15 between maintenances of 30 and 30.

    Long 6 A and 6 B @ 100 with 89, A falls to 90: 89 - 60 = 29 of A's 27 and B's 30: B first, 30 x 29 / 57 = 15, A 14.
    """
    policy = {"backstop": "vault", "vault_below": "1", "takeover_price": "mark"}
    desk = Desk(make_market("A", policy, fund="a"), make_market("B", policy, fund="b"))
    desk.give(1, 6, 100, 89)
    desk.give(1, 6, 100, market=1)
    events = desk.mark(90)
    names = ("market", "other", "amount_quote")
    assert show(events, codes.FUND_CREDIT, *names) == [(1, 1, 15), (0, 0, 14)]
    assert (desk.house(0), desk.house(1)) == ((6, 540), (6, 600))
    assert (desk.wallet(1), desk.balance(0), desk.balance(1)) == (0, 14, 15)


def test_a_domain_outside_the_vault_is_closed_as_ever():
    """HOUSE-005, LIQ-009: one market without a vault is enough; what is left goes to the outside, not to the house."""
    policy = {"backstop": "vault", "vault_below": "1", "takeover_price": "mark"}
    desk = Desk(make_market("A", policy), make_market("B"))
    desk.give(1, 6, 100, 89)
    desk.give(1, 6, 100, market=1)
    events = desk.mark(90)
    assert {other for (other,) in show(events, codes.TAKEOVER, "other")} == {codes.EXTERNAL}


def take_ten(desk, fund=0):
    """Give the house 10 lots for 900 at a mark of 94."""
    if fund:
        desk.fund(fund)
    desk.give(1, 10, 100, 100)
    return desk.mark(94)


def test_the_house_sells_at_once():
    """HOUSE-007, HOUSE-008, HOUSE-003: 4 lots at 80 that cost 360: 40 lost, and a fee of ceil(32.0) = 32 to the fees.

    The last price stays, no fee is charged beyond the fund: of 2 lots at 1, 178 lost of the 28 left, none is.
    """
    desk = Desk(
        make_market(policy={"backstop": "takeover", "unwind": "immediate", "unwind_range": "0", "closeout_fee": "0.1"})
    )
    desk.level(SELL, 300, 1)
    take_ten(desk, fund=100)
    before = int(desk.fast.view().markets[0][2])
    events = desk.level(BUY, 80, 4)
    names = ("account", "other", "side", "qty_lot", "price_tick", "order_id", "fee_quote")
    assert show(events, codes.TRADE, *names) == [(HOUSE, 0, SELL, 4, 80, 0, 32)]
    assert show(events, codes.FUND_DEBIT, "account", "amount_quote", "order_id") == [(HOUSE, 72, 0)]
    assert (desk.house(), desk.balance()) == ((6, 540), 28)
    assert int(desk.fast.view().markets[0][2]) == before
    events = desk.level(BUY, 1, 2)
    assert show(events, codes.TRADE, "qty_lot", "fee_quote") == [(2, 0)]
    assert show(events, codes.DEFICIT, "account", "amount_quote", "other_margin_quote") == [(HOUSE, 150, 150)]
    assert (desk.house(), desk.balance()) == ((4, 360), 0)


def test_the_house_stays_in_its_range():
    """HOUSE-007, MATCH-005: 10 % around 94 is down to ceil(84.6) = 85: 84 is left alone, 85 is not."""
    desk = Desk(make_market(policy={"backstop": "takeover", "unwind": "immediate", "unwind_range": "0.1"}))
    take_ten(desk)
    desk.level(BUY, 84, 4)
    assert desk.house() == (10, 900)
    desk.level(BUY, 85, 4)
    assert desk.house() == (6, 540)


def test_its_trades_may_move_the_last_price():
    """HOUSE-008, STEP-002, HOUSE-007: with `unwind_last` the sale at 90 is the mark, and what follows from it follows.

    Account 2, long 5 @ 94 with 25, has 5 against 22.5 at 90, and is taken over and sold too.
    """
    for last, marks in (("off", []), ("on", [90])):
        policy = {"backstop": "takeover", "unwind": "immediate", "unwind_range": "0", "unwind_last": last}
        desk = Desk(make_market(policy=policy, mark_model="last"))
        desk.give(1, 10, 100, 100)
        desk.give(2, 5, 94, 25)
        desk.send(codes.PRINT, price_tick=94, qty_lot=1, side=SELL)
        assert desk.house() == (10, 900)
        events = desk.level(BUY, 90, 30)
        assert [price for (price,) in show(events, codes.MARK_MOVED, "price_tick")] == marks
        assert (2 in events["account"][events["kind"] == codes.LIQUIDATION_STARTED]) == (last == "on")
        assert desk.house() == (0, 0)


def test_the_house_sells_in_steps():
    """HOUSE-007: 10 lots, more than 3: ceil(10 x 0.35) = 4, then 6: 3, then 3 at once; of 7 inside, half is 4 (up).

    mid = (90 + 97) / 2, 10 % below it is 84.15: 85. Without an ask there is no mid, and the next step waits its time.
    """
    policy = {"backstop": "takeover", "unwind": "stepped", "unwind_interval_s": "10", "unwind_share": "0.35"}
    policy |= {"unwind_full": "3", "unwind_depth": "0.5", "unwind_range": "0.1"}
    desk = Desk(make_market(policy=policy))
    take_ten(desk)
    desk.level(BUY, 90, 2)
    desk.level(BUY, 85, 5)
    desk.level(BUY, 84, 100)
    desk.wait(10)
    assert desk.house() == (10, 900)  # due, but there is no ask
    desk.level(SELL, 97, 1)
    desk.wait(9)
    assert desk.house() == (10, 900)
    assert [list(map(int, row)) for row in desk.fast.view().unwinding] == [[0, 20 * SECOND_NS]]
    events = desk.wait(1)
    assert show(events, codes.TRADE, "qty_lot", "price_tick") == [(2, 90), (2, 85)]
    assert desk.house() == (6, 540)
    desk.level(BUY, 90, 2)
    desk.level(BUY, 85, 5)
    assert show(desk.wait(25), codes.TRADE, "qty_lot", "price_tick") == [(2, 90), (1, 85)]
    assert [list(map(int, row)) for row in desk.fast.view().unwinding] == [[0, 55 * SECOND_NS]]
    desk.level(BUY, 90, 9)
    assert show(desk.wait(10), codes.TRADE, "qty_lot", "price_tick") == [(3, 90)]
    assert (desk.house(), len(desk.fast.view().unwinding)) == ((0, 0), 0)


def test_the_house_buys_in_steps():
    """HOUSE-007, MATCH-008: short 10 it buys up to floor(103 x 1.1) = 113; a reduce-only order gives what it can.

    Short 10 @ 100 with 100 has 40 against 53 at 106. mid is (96 + 110) / 2 = 103; account 3 can sell only what it has.
    """
    policy = {"backstop": "takeover", "unwind": "stepped", "unwind_interval_s": "1", "unwind_share": "1"}
    desk = Desk(make_market(policy=policy | {"unwind_depth": "1", "unwind_range": "0.1"}))
    desk.give(1, -10, 100, 100)
    desk.give(3, 5, 100, 500)
    desk.mark(106)
    desk.place(3, SELL, 5, 112, flags=codes.REDUCE_ONLY)
    desk.place(3, SELL, 2, 110)
    desk.level(BUY, 96, 1)
    desk.level(SELL, 114, 50)
    assert desk.house() == (-10, -1100)
    events = desk.wait(1)
    assert show(events, codes.TRADE, "other", "qty_lot", "price_tick") == [(3, 2, 110), (3, 3, 112)]
    assert show(events, codes.CANCELED, "account", "code", "qty_lot") == [(3, codes.BY_REDUCE_ONLY, 2)]
    assert desk.house() == (-5, -550)


def test_the_house_pays_funding_from_its_fund():
    """FUND-001, HOUSE-001, HOUSE-003: long 10 @ mark 94 pays 10 % of 940, 94: 50 by the fund, 44 a deficit.

    Account 2, short 4 @ 100, gained 24, which is cut; 20 are unpaid. It stands before all others, and is paid nothing.
    """
    desk = Desk(make_market(policy={"backstop": "takeover"}))
    take_ten(desk, fund=50)
    desk.give(2, -4, 100, 500)
    events = desk.send(codes.FUNDING, amount_quote=100_000_000)
    assert show(events, codes.FUNDING_PAYMENT, "account", "amount_quote")[0] == (HOUSE, -94)
    names = ("account", "amount_quote", "other_amount_quote", "margin_quote", "other_margin_quote")
    assert show(events, codes.DEFICIT, *names) == [(HOUSE, 44, 0, 24, 20)]
    assert desk.balance() == 0
    desk.send(codes.FUNDING, amount_quote=-100_000_000)
    assert desk.balance() == 94


def test_the_house_is_nobody():
    """HOUSE-001, ADL-002, DEF-002, MARGIN-011: no candidate, no winner, no liquidation price, no wallet."""
    desk = Desk(make_market(policy={"backstop": "takeover", "carry": "0.95"}))
    take_ten(desk, fund=1000)
    for engine in (desk.fast, desk.plain):
        assert engine.rank_side(0, BUY) == []
        assert engine.find_liquidation_price(HOUSE, 0) == 0
        assert engine.find_bankruptcy_price(HOUSE, 0) == 0
    desk.give(2, -25, 94, 200)
    # the house has won 1100, and cannot carry 15 lots short; account 2 lacks 2450, of which the fund has 1000
    events = desk.mark(200)
    assert show(events, codes.ADL_STARTED, "count") == [(0,)]
    assert codes.HAIRCUT not in events["kind"]
    assert show(events, codes.DEFICIT, "account", "other_amount_quote", "other_margin_quote") == [(2, 1000, 1450)]
    assert not [row for row in desk.fast.view().wallets if row[0] == HOUSE]


def test_a_copy_and_a_saved_state_go_on_alike():
    """STATE-001, STATE-002: what the house holds and when its next step is due are part of the state."""
    policy = {"backstop": "takeover", "unwind": "stepped", "unwind_interval_s": "5", "unwind_depth": "1"}
    desk = Desk(make_market(policy=policy))
    take_ten(desk)
    desk.level(SELL, 97, 1)
    desk.level(BUY, 93, 9)
    fresh = CompiledEngine(desk.setup, Capacity())
    fresh.restore(desk.fast.dump())
    others = [desk.fast.copy(), fresh, desk.plain.copy()]
    want = desk.wait(5)
    assert codes.TRADE in want["kind"]
    for other in others:
        got = other.apply(pack_commands([Command(kind=codes.CLOCK, ts_ns=desk.ts_ns)]))
        assert got.tobytes() == want.tobytes()


@pytest.mark.parametrize("seed", range(200, 230))
def test_a_tally_of_the_events_adds_up(seed):
    """HOUSE-003, CASH-004, MONEY-002: funds and insolvency added up from the events are the state's."""
    setup = streams.make_setup(seed)
    engine, tally = ReferenceEngine(setup), Tally(setup)
    haircuts = []
    for command in streams.random_stream(seed, setup, 150):
        events = engine.apply(pack_commands([command]))
        tally.fold(events)
        deficits = events[events["kind"] == codes.DEFICIT]
        haircuts.append(int(deficits["margin_quote"].sum() + deficits["other_fee_quote"].sum()))
    tally.check(engine.view())
    # what winners were cut by is what the deficits say they paid
    assert tally.summarise()["haircut_quote"] == sum(haircuts)
