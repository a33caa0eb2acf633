"""Portfolio margin in both engines and the auditor: examples worked by hand, the mode, liquidation and ADL."""

from decimal import Decimal

import pytest

from engine import Exchange, codes
from engine.audit import Auditor, check_state
from engine.codes import BUY, CROSS, ISOLATED, PORTFOLIO, SELL
from engine.contract import Market, PortfolioPolicy, Tier, build_setup
from engine.digest import View, compute_digest
from engine.errors import InvariantError
from engine.reference.ledger import Event
from tests.mirror import streams
from tests.mirror.streams import Command
from tests.mirror.twins import Twins

START = 100  # every mark at first
GRID = PortfolioPolicy()  # 12 % either way, 0.5 % of the gross, 1.3 times that to open


def make_market(symbol, underlying="U", grid=GRID, **changes):
    """Return a market in which price, lots and money are the same whole numbers, without fees; its tiers ask 20 %."""
    fields = {"tick_size": Decimal(1), "lot_size": Decimal(1), "quote_unit": Decimal(1), "price_max": Decimal(1000)}
    fields |= {"maker_fee": Decimal(0), "taker_fee": Decimal(0), "initial_mark": Decimal(START)}
    fields |= {"tiers": (Tier(floor=Decimal(0), initial=Decimal("0.2"), maintenance=Decimal("0.2")),)}
    fields |= {"margin_call": Decimal(0), "default_leverage": 5}
    return Market(symbol=symbol, underlying=underlying, portfolio=grid, **(fields | changes))


class Desk(Twins):
    """Both engines and the auditor with short names for commands."""

    def __init__(self, *markets, members=()):
        super().__init__(build_setup(markets))
        self.next_id = 0
        for account in members:
            self.set_mode(account, PORTFOLIO)

    def send(self, kind, **fields):
        return self.apply(Command(kind=kind, **fields))

    def set_mode(self, account, mode, at=0):
        return self.send(codes.SET_MARGIN_MODE, account=account, market=at, amount_quote=mode)

    def bring(self, account, lots, at=0, amount=0, price=START):
        """Bring a position of signed `lots` from elsewhere."""
        side = BUY if lots > 0 else SELL
        fields = {"qty_lot": abs(lots), "price_tick": price, "amount_quote": amount, "side": side}
        return self.send(codes.ASSIGN, account=account, market=at, **fields)

    def place(self, account, lots, price, at=0, flags=0):
        self.next_id += 1
        fields = {"account": account, "market": at, "side": BUY if lots > 0 else SELL, "qty_lot": abs(lots)}
        return self.send(codes.PLACE, price_tick=price, order_id=self.next_id, flags=flags, **fields)

    def deposit(self, account, amount):
        return self.send(codes.DEPOSIT, account=account, amount_quote=amount)

    def withdraw(self, account, amount):
        return self.send(codes.WITHDRAW, account=account, amount_quote=amount)

    def mark(self, price, at=0):
        return self.send(codes.MARK, market=at, price_tick=price)

    def level(self, side, lots, price, at=0):
        return self.send(codes.LEVEL, market=at, side=side, price_tick=price, qty_lot=lots)

    def can_take(self, account, amount):
        """Return whether exactly `amount` can be withdrawn, and take it."""
        assert names(self.withdraw(account, amount + 1)) == ["insufficient_margin"]
        return names(self.withdraw(account, amount)) == ["accepted"]

    def price_of(self, account, at=0):
        """Return a liquidation price, on which both engines must agree."""
        price = self.fast.find_liquidation_price(account, at)
        assert price == self.plain.find_liquidation_price(account, at)
        return price


def names(events):
    """Return what events are called, a reject by its code."""
    return [
        codes.REJECTS[int(event["code"])][0]
        if event["kind"] == codes.REJECTED
        else codes.EVENT_NAMES[int(event["kind"])]
        for event in events
    ]


def pick(events, kind, *fields):
    """Return some fields of every event of a kind."""
    return [tuple(int(event[name]) for name in fields) for event in events[events["kind"] == kind]]


# ---------------------------------------------------------------- what is required


def test_a_hedge_costs_its_contingency():
    """10 long in one market, 10 short in another on the same underlying: 0.5 % of 2,000 is 10, 13 to open.

    Alone the first needs 12.5 % of 1,000, 125; of those, 112 can go once the second is there.  Of the 13 left nothing
    is lost while both marks move together: at 105 the gross of 2,100 asks 11, and 15 to open.
    Source: PORT-001, PORT-003, PORT-004.
    """
    desk = Desk(make_market("A"), make_market("B"), members=[1])
    desk.bring(1, 10, at=0, amount=125)
    desk.bring(1, -10, at=1)
    assert desk.can_take(1, 112)
    desk.mark(105, at=0)  # 50 more in hand
    desk.mark(105, at=1)
    assert names(desk.withdraw(1, 1)) == ["insufficient_margin"]
    desk.deposit(1, 2)  # 15
    assert names(desk.withdraw(1, 1)) == ["insufficient_margin"]
    desk.deposit(1, 1)
    assert desk.can_take(1, 1)
    assert desk.kinds["liquidation_started"] == 0


def test_alone_a_position_stands_by_its_worst_move():
    """124 do not hold what needs 125.

    Source: PORT-003, MARGIN-004.
    """
    desk = Desk(make_market("A"), make_market("B"), members=[1])
    events = desk.bring(1, 10, amount=124)
    assert pick(events, codes.LIQUIDATION_STARTED, "amount_quote", "other_amount_quote") == [(124, 125)]


def test_two_underlyings_do_not_offset():
    """The same two positions on two underlyings need 125 each, and to open 162.5 each, rounded up: 326 of 400 stay.

    At a mark of 92 the 326 are 246, against 115 + 125; at 91 they are 236, against 113.75 rounded up, 114, and 125.
    Source: PORT-001, PORT-003, PORT-004, PORT-008, MARGIN-011.
    """
    desk = Desk(make_market("A", "U"), make_market("B", "V"), members=[1])
    desk.bring(1, 10, at=0, amount=400)
    desk.bring(1, -10, at=1)
    assert desk.can_take(1, 74)
    assert desk.price_of(1, at=0) == 91
    assert names(desk.mark(92)) == ["mark"]
    events = desk.mark(91)
    assert pick(events, codes.LIQUIDATION_STARTED, "amount_quote", "other_amount_quote") == [(236, 239)]


def test_markets_of_another_asset_do_not_offset():
    """One name, two settlement assets: two underlyings.

    Source: PORT-001.
    """
    markets = (make_market("A"), make_market("B", settle="BTC", fund="other"), make_market("C"))
    assert [rules.underlying for rules in build_setup(markets).markets] == [0, 1, 0]
    desk = Desk(*markets, members=[1])
    desk.set_mode(1, PORTFOLIO, at=1)
    desk.bring(1, 10, at=0, amount=125)
    assert names(desk.bring(1, -10, at=1, amount=124))[-1] != "trade"
    assert desk.kinds["liquidation_started"] == 1


def test_fall_and_rise_are_asked_apart():
    """Moves of -20 % and +5 %, contingency 1 %: a long of 1,000 needs 210, a short 60.

    Source: PORT-003.
    """
    grid = PortfolioPolicy(moves=(Decimal("-0.2"), Decimal("0.05")), contingency=Decimal("0.01"), initial=Decimal(1))
    desk = Desk(make_market("A", grid=grid), members=[1, 2])
    for account, lots, need in ((1, 10, 210), (2, -10, 60)):
        desk.bring(account, lots, amount=need)
        assert names(desk.withdraw(account, 1)) == ["insufficient_margin"]
    assert desk.kinds["liquidation_started"] == 0


def test_orders_count_for_the_worst_they_can_do():
    """200 in hand.  Buying 10 asks ceil(1.3 x 125) = 163.  Selling 10 in the other market too: between 10 long and 10
    short, 120 + 0.5 % of 2,000 = 130, to open 169.  Selling 10 more there: 240 + 15, to open 332.

    Source: PORT-004, PORT-005.
    """
    desk = Desk(make_market("A"), make_market("B"), members=[1])
    desk.deposit(1, 200)
    assert names(desk.place(1, 10, 100, at=0)) == ["accepted"]
    assert names(desk.place(1, -10, 100, at=1)) == ["accepted"]
    assert names(desk.place(1, -10, 100, at=1)) == ["insufficient_margin"]
    assert desk.can_take(1, 31)
    # an amend is checked as if its old order were gone: 9 instead of 10 at another price grows nothing it had not
    amend = {"account": 1, "order_id": 2, "price_tick": 101}
    assert names(desk.send(codes.AMEND, qty_lot=9, **amend)) == ["amended"]
    assert names(desk.send(codes.AMEND, qty_lot=20, **amend)) == ["insufficient_margin"]
    # 10 long to 9 short: 120 + 0.5 % of 1,900 = 129.5, so 130 as before
    assert names(desk.withdraw(1, 1)) == ["insufficient_margin"]


def test_open_loss_and_fee_are_asked_on_top():
    """Of 200 an order asks 163 and, at a limit 3 above the mark, 30 of open loss and 1 % of 1,030 as fee: 204.

    Source: PORT-005, MARGIN-006.
    """
    desk = Desk(make_market("A", taker_fee=Decimal("0.01")), members=[1])
    desk.deposit(1, 203)
    assert names(desk.place(1, 10, 103)) == ["insufficient_margin"]
    desk.deposit(1, 1)
    assert names(desk.place(1, 10, 103)) == ["accepted"]


def test_an_order_that_takes_a_hedge_apart_is_checked():
    """Closing the long half of a hedge leaves 10 short: 130 with the long not yet gone, 169 to open, and 13 are there.

    A reduce-only order is never checked; when it fills, the other half is alone.
    Source: PORT-005, MARGIN-006.
    """
    desk = Desk(make_market("A"), make_market("B"), members=[1])
    desk.bring(1, 10, at=0, amount=125)
    desk.bring(1, -10, at=1)
    assert desk.can_take(1, 112)
    assert names(desk.place(1, -10, 100, at=0)) == ["insufficient_margin"]
    assert names(desk.place(1, 10, 100, at=1)) == ["insufficient_margin"]
    desk.deposit(1, 155)
    assert names(desk.place(1, -10, 100, at=0)) == ["insufficient_margin"]
    desk.deposit(1, 1)
    assert names(desk.place(1, -10, 100, at=0)) == ["accepted"]
    assert names(desk.place(1, -10, 100, at=0)) == ["insufficient_margin"]
    desk.send(codes.CANCEL_ALL, account=1, market=0)
    desk.withdraw(1, 156)
    assert names(desk.place(1, -10, 100, at=0, flags=codes.REDUCE_ONLY)) == ["accepted"]
    events = desk.level(BUY, 10, 100, at=0)
    assert pick(events, codes.LIQUIDATION_STARTED, "amount_quote", "other_amount_quote") == [(13, 125)]


def test_what_shrinks_the_requirement_needs_nothing():
    """An account below what opening asks may still sell what it has: the requirement does not grow.

    Source: PORT-005.
    """
    desk = Desk(make_market("A"), make_market("B"), members=[1])
    desk.bring(1, 10, at=0, amount=130)  # 163 to open
    assert names(desk.place(1, -10, 100, at=0)) == ["accepted"]
    assert names(desk.place(1, 1, 90, at=0)) == ["insufficient_margin"]


def test_leverage_is_of_no_account():
    """What the tiers and the leverage ask does not count: a leverage of 1 would ask 1,000.

    Source: PORT-004.
    """
    desk = Desk(make_market("A"), members=[1])
    desk.deposit(1, 163)
    assert names(desk.send(codes.SET_LEVERAGE, account=1, amount_quote=1)) == ["accepted"]
    assert names(desk.place(1, 10, 100)) == ["accepted"]


# ---------------------------------------------------------------- the mode


def test_the_mode_is_the_accounts_in_an_asset():
    """In with nothing open in any market of the asset, out likewise; inside, all its markets are cross.

    Source: PORT-002, MARGIN-008.
    """
    desk = Desk(make_market("A"), make_market("B", margin_mode="isolated"), make_market("C", settle="BTC", fund="b"))
    assert names(desk.set_mode(1, 3)) == ["bad_amount"]
    desk.bring(1, 1, at=1, amount=500)
    desk.bring(1, 1, at=2, amount=500)
    assert names(desk.set_mode(1, PORTFOLIO)) == ["position_open"]  # in B, though A is named
    desk.deposit(2, 500)
    desk.place(2, 1, 90)
    assert names(desk.set_mode(2, PORTFOLIO, at=1)) == ["position_open"]  # an order
    desk.send(codes.CANCEL_ALL, account=2)
    assert names(desk.set_mode(2, PORTFOLIO, at=1)) == ["accepted"]
    assert pick(desk.bring(2, 1, at=1, amount=7), codes.ACCEPTED, "margin_quote") == [(0,)]  # not isolated
    assert names(desk.set_mode(2, CROSS)) == ["position_open"]  # in B, though A is named
    before = [list(map(tuple, table)) for table in desk.fast.view()[1:]]
    assert names(desk.set_mode(2, PORTFOLIO)) == ["accepted"]  # it is that already
    assert [list(map(tuple, table)) for table in desk.fast.view()[1:]] == before
    desk.place(3, 1, 100, at=1)
    assert names(desk.bring(3, 1, at=2, amount=500)) == ["accepted"]  # another asset is another matter
    assert names(desk.set_mode(3, PORTFOLIO)) == ["accepted"]


@pytest.mark.parametrize(("mode", "at"), [(CROSS, 0), (ISOLATED, 0), (CROSS, 1), (ISOLATED, 1)])
def test_leaving_brings_every_market_to_its_default(mode, at):
    """A is cross by default and was made isolated before, B is isolated by default: after leaving, but for the one
    named, both are as they were at first, whether or not they were looked at in between.

    Source: PORT-002.
    """
    for looked_at in (False, True):
        desk = Desk(make_market("A"), make_market("B", margin_mode="isolated"))
        desk.set_mode(1, ISOLATED, at=0)
        desk.set_mode(1, PORTFOLIO)
        if looked_at:
            for market in (0, 1):
                assert names(desk.place(1, 1, 100, at=market)) == ["insufficient_margin"]
        assert names(desk.set_mode(1, mode, at=at)) == ["accepted"]
        modes = [CROSS, ISOLATED]
        modes[at] = mode
        for market, expected in enumerate(modes):
            (given,) = pick(desk.bring(1, 1, at=market, amount=60), codes.ACCEPTED, "margin_quote")
            assert given == (60 if expected == ISOLATED else 0,)


def test_without_a_grid_there_is_no_such_mode():
    """One market of the asset without price moves is enough.

    Source: PORT-002.
    """
    desk = Desk(make_market("A"), make_market("B", "V", grid=None))
    assert names(desk.set_mode(1, PORTFOLIO)) == ["bad_amount"]
    assert names(desk.set_mode(1, PORTFOLIO, at=1)) == ["bad_amount"]


def test_accounts_may_start_in_the_mode():
    """`margin_mode = "portfolio"`: everybody, far beyond the accounts an exchange begins with, until he leaves.

    Source: PORT-002, STATE-001.
    """
    desk = Desk(make_market("A", margin_mode="portfolio"), make_market("B", margin_mode="portfolio"))
    for account in (1, 63, 64, 65, 1000, 5000):
        desk.bring(account, 10, at=0, amount=125)
        desk.bring(account, -10, at=1)
        assert desk.can_take(account, 112)
    assert len(desk.fast.view().portfolios) == 0
    assert desk.kinds["liquidation_started"] == 0
    desk.set_mode(7, CROSS)
    assert [tuple(row) for row in desk.fast.view().portfolios.tolist()] == [(7, 0, 0)]
    assert names(desk.bring(7, 1, amount=50)) == ["accepted"]
    assert names(desk.bring(8, 1, amount=12))[1] == "liquidation_started"


def test_the_mode_is_part_of_the_digest():
    """Two exchanges that differ in nothing but an account's mode differ in digest; where nobody chose one, the table
    is not hashed.

    Source: PORT-002, STATE-001.
    """
    desks = [Desk(make_market("A")) for _ in range(3)]
    for desk, mode in zip(desks, (PORTFOLIO, CROSS, PORTFOLIO), strict=True):
        desk.set_mode(1, mode)
    digests = [compute_digest(desk.fast.view()) for desk in desks]
    assert digests[0] == digests[2] != digests[1]
    bare = View(*desks[1].plain.view()[:-1])
    assert compute_digest(bare) == digests[1]


def test_the_auditor_knows_the_mode():
    """From the accepted command alone; a state that says otherwise, or holds an isolated position in it, is refused.

    Source: PORT-002, MONEY-002.
    """
    desk = Desk(make_market("A", margin_mode="isolated"), members=[1])
    desk.bring(1, 10, amount=125)
    desk.bring(2, -10, amount=800)
    view = desk.plain.view()
    with pytest.raises(InvariantError, match=r"^portfolios: only the events have \(1, 0, 1\)"):
        desk.auditor.compare(view._replace(portfolios=[]))
    with pytest.raises(InvariantError, match="in portfolio mode holds an isolated position"):
        check_state(view._replace(portfolios=[(1, 0, 1), (2, 0, 1)]), desk.setup)
    check_state(view, desk.setup)
    for row in view.positions:
        assert row[7] == (ISOLATED if row[0] != 1 else CROSS)
    fresh = Auditor(desk.setup)
    with pytest.raises(InvariantError, match="amount_quote is 3"):
        fresh.feed([Event(seq=1, kind=codes.ACCEPTED, code=codes.SET_MARGIN_MODE, account=1, amount_quote=3)])


@pytest.mark.parametrize("engine", ["compiled", "reference"])
def test_a_saved_portfolio_goes_on_as_one(engine, tmp_path):
    """Copy and saved state know the mode, and that flat accounts have it.

    Source: STATE-002, PORT-002.
    """
    exchange = Exchange([make_market("A"), make_market("B")], engine=engine)
    rows = [Command(kind=codes.SET_MARGIN_MODE, account=account, amount_quote=PORTFOLIO) for account in (1, 2)]
    rows += [Command(kind=codes.ASSIGN, account=1, side=BUY, qty_lot=10, price_tick=START, amount_quote=125)]
    exchange.apply(streams.pack_commands(rows))
    exchange.save(tmp_path / "state.npz")
    more = [Command(kind=codes.ASSIGN, account=1, market=1, side=SELL, qty_lot=10, price_tick=START)]
    more += [Command(kind=codes.WITHDRAW, account=1, amount_quote=112)]
    more += [Command(kind=codes.ASSIGN, account=2, side=BUY, qty_lot=10, price_tick=START, amount_quote=125)]
    more += [Command(kind=codes.MARK, price_tick=99)]
    digests, told = set(), set()
    for twin in (exchange.copy(), Exchange.load(tmp_path / "state.npz"), exchange):
        told.add(twin.apply(streams.pack_commands(more)).tobytes())
        digests.add(twin.digest())
    assert len(digests) == len(told) == 1


# ---------------------------------------------------------------- liquidation and ADL


def test_the_position_whose_close_helps_most_goes_first():
    """100 long and 100 short on one underlying need 100, 10 long on another 125.  At 99 of that one 215 of 225 are
    left, against 100 + 124: it is closed, though each half of the hedge weighs ten times as much.

    Its share of the equity is 215 x 124 / (1,250 + 1,250 + 124), 10, so its bankruptcy value 980.
    Source: PORT-006, PORT-007, MARGIN-005, LIQ-004.
    """
    desk = Desk(make_market("A"), make_market("B"), make_market("C", "V"), members=[1])
    desk.bring(1, 100, at=0, amount=1250)
    desk.bring(1, -100, at=1)
    assert desk.can_take(1, 1120)
    desk.bring(1, 10, at=2, amount=95)
    desk.level(BUY, 10, 99, at=2)
    events = desk.mark(99, at=2)
    assert pick(events, codes.LIQUIDATION_STARTED, "amount_quote", "other_amount_quote") == [(215, 224)]
    fills = pick(events, codes.LIQUIDATION_FILL, "market", "qty_lot", "bankruptcy_tick", "amount_quote")
    assert fills == [(2, 10, 98, 10)]
    ended = pick(events, codes.LIQUIDATION_ENDED, "amount_quote", "other_amount_quote", "qty_lot")
    assert ended == [(205, 100, 10)]


def test_a_hedge_is_taken_apart_only_when_nothing_else_is_left():
    """13 against a need of 10.  At 99 in the long's market 3 are left, against 0.12 x 10 + 0.005 x 1,990, 12.

    Without the long 125 would be needed, without the short 124: the short goes first, at a share of 3 x 125 / 249, 1,
    then the long with the 2 that are left.
    Source: PORT-006, PORT-007, LIQ-010.
    """
    desk = Desk(make_market("A"), make_market("B"), members=[1])
    desk.bring(1, 10, at=0, amount=125)
    desk.bring(1, -10, at=1)
    assert desk.can_take(1, 112)
    assert desk.fast.find_bankruptcy_price(1, 0) == desk.plain.find_bankruptcy_price(1, 0) == 100  # a share of 6
    desk.level(BUY, 10, 99, at=0)
    desk.level(SELL, 10, 100, at=1)
    events = desk.mark(99, at=0)
    assert pick(events, codes.LIQUIDATION_STARTED, "amount_quote", "other_amount_quote") == [(3, 12)]
    fills = pick(events, codes.LIQUIDATION_FILL, "market", "bankruptcy_tick", "amount_quote")
    assert fills == [(1, 100, 1), (0, 99, 2)]
    assert pick(events, codes.LIQUIDATION_ENDED, "amount_quote", "other_amount_quote", "qty_lot") == [(0, 0, 20)]


def test_the_worst_ratio_goes_first_whatever_the_mode():
    """At 90 a portfolio of 10 long has 100 of 113, a cross account 170 of 180: the higher number goes first.

    Source: STEP-003, PORT-003.
    """
    desk = Desk(make_market("A"), members=[2])
    desk.bring(1, 10, amount=270)
    desk.bring(2, 10, amount=200)
    events = desk.mark(90)
    started = pick(events, codes.LIQUIDATION_STARTED, "account", "amount_quote", "other_amount_quote")
    assert started == [(2, 100, 113), (1, 170, 180)]


def test_margin_call():
    """Twice the maintenance: 10 long at 91 need 114, and 228 are more than the 210 of 300 that are left.

    At 92 it is 220 against 230, at 93 230 against 234 (116.25, so 117), at 94 240 against 236.
    Source: STEP-005, PORT-003, PORT-008.
    """
    desk = Desk(make_market("A", margin_call=Decimal(2)), members=[1])
    desk.bring(1, 10, amount=300)
    assert names(desk.mark(94)) == ["mark"]
    called = pick(desk.mark(93), codes.MARGIN_CALL, "amount_quote", "other_amount_quote")
    assert called == [(230, 117)]
    assert names(desk.mark(91)) == ["mark"]


def test_the_rank_in_adl_uses_the_share_by_weight():
    """10 short at a mark of 90 and 10 long at 100: weights 113 and 125, of an equity of 300 the short has 142.

    PnL rate 10 %; leverage floor(900 x 10^9 / 142) = 6,338,028,169; score 633,802,816.  By the
    tiers' maintenance, 180 and 200, it would be 142 too; so a second grid asks 20 % of a fall: weights 113 and 205,
    share 106, score 849,056,603.
    Source: PORT-006, ADL-002, ADL-003.
    """
    falls = PortfolioPolicy(moves=(Decimal("-0.2"), Decimal("0.12")))
    for grid, share in ((GRID, 142), (falls, 106)):
        desk = Desk(make_market("A", grid=grid), make_market("B", grid=grid), members=[1])
        desk.bring(1, -10, at=0, amount=200)
        desk.bring(1, 10, at=1)
        desk.mark(90, at=0)
        score = 900 * codes.PPB // share * (codes.PPB // 10) // codes.PPB
        assert desk.fast.rank_side(0, SELL) == desk.plain.rank_side(0, SELL) == [(1, score, -10, 1)]
