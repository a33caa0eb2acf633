"""Coin-margined contracts: numbers worked by hand and by venues, and triggers at the exact tick.

Every command goes through both engines and the auditor.  The prices at which something must happen are computed here,
from the spec's formulas in plain integers.
"""

import random
from decimal import Decimal

import pytest

from engine import codes
from engine.codes import BUY, SELL
from engine.contract import Market, Tier, build_setup
from tests.mirror import test_mirror_triggers as triggers
from tests.mirror.streams import Command
from tests.mirror.twins import Twins

COIN = 100_000_000  # smallest units of a coin


def make_coin(symbol="BTCUSD", **changes):
    """Return a contract of 1 USD, 0.1 USD a tick, settling in BTC: a lot at one tick is worth 10^9 units; no fees."""
    fields = {
        "symbol": symbol,
        "kind": "inverse",
        "settle": "BTC",
        "quote_unit": Decimal("0.00000001"),
        "tick_size": Decimal("0.1"),
        "lot_size": Decimal(1),
        "price_max": Decimal(200_000),
        "tiers": (Tier(floor=Decimal(0), initial=Decimal("0.01"), maintenance=Decimal("0.005")),),
        "maker_fee": Decimal(0),
        "taker_fee": Decimal(0),
        "margin_call": Decimal(0),
        "initial_mark": Decimal(10_000),
    }
    return Market(**(fields | changes))


class Desk:
    """Twins with short names for commands; prices in ticks, money in units."""

    def __init__(self, *markets):
        self.twins = Twins(build_setup(markets))
        self.next_id = 0

    def send(self, kind, **fields):
        """Apply one command and return its events."""
        return self.twins.apply(Command(kind=kind, **fields))

    def fund(self, account, amount, market=0):
        """Deposit money."""
        self.send(codes.DEPOSIT, account=account, market=market, amount_quote=amount)

    def meet(self, buyer, seller, qty, price, market=0):
        """Let two accounts trade, the seller's order resting; return the events of the buyer's."""
        for account, side in ((seller, SELL), (buyer, BUY)):
            self.next_id += 1
            fields = {"side": side, "qty_lot": qty, "price_tick": price, "order_id": self.next_id, "market": market}
            events = self.send(codes.PLACE, account=account, **fields)
        return events

    def assign(self, account, side, qty, price, amount, market=0):
        """Bring a position from elsewhere."""
        fields = {"side": side, "qty_lot": qty, "price_tick": price, "amount_quote": amount}
        return self.send(codes.ASSIGN, account=account, market=market, **fields)

    def mark(self, price, market=0):
        """Move a mark."""
        return self.send(codes.MARK, market=market, price_tick=price)

    def holding(self, account, market=0):
        """Return (qty, cost, margin) of a position."""
        found = [row for row in self.twins.plain.view().positions if row[:2] == (account, market)]
        return tuple(found[0][2:5]) if found else (0, 0, 0)

    def wallet(self, account, asset=0):
        """Return a wallet's balance."""
        return {row[:2]: row[2] for row in self.twins.plain.view().wallets}.get((account, asset), 0)


def only(events, kind):
    """Return the one event of a kind."""
    found = events[events["kind"] == kind]
    assert len(found) == 1, f"expected one {codes.EVENT_NAMES[kind]}, got {len(found)}"
    return found[0]


# ---------------------------------------------------------------- values


def test_ten_thousand_contracts_at_ten_thousand_are_a_coin():
    """10,000 contracts of 1 USD at 10,000 USD are worth 1 BTC: the buyer owes it, the seller is owed it.

    Source: INV-001, NUM-003.
    """
    desk = Desk(make_coin())
    for account in (1, 2):
        desk.fund(account, COIN)
    desk.meet(1, 2, 10_000, 100_000)
    assert desk.holding(1) == (10_000, -COIN, 0)
    assert desk.holding(2) == (-10_000, COIN, 0)
    # at 12,500 the contracts are worth 0.8 BTC: the long has gained 0.2
    desk.mark(125_000)
    desk.meet(2, 1, 10_000, 125_000)
    assert (desk.wallet(1), desk.wallet(2)) == (COIN + 20_000_000, COIN - 20_000_000)
    assert desk.holding(1) == desk.holding(2) == (0, 0, 0)


def test_gains_as_venues_print_them():
    """Bybit: 800 USD from 10,500 to 12,000 earn 0.00952381 BTC; Binance: 2 x 100 USD from 37,643.1 show 0.00006413.

    Source: INV-001, INV-002.
    """
    desk = Desk(make_coin())
    desk.mark(105_000)
    desk.assign(1, BUY, 800, 105_000, COIN)
    desk.mark(120_000)
    equity = {row[0]: row for row in desk.twins.fast.rank_side(0, BUY)}
    assert equity[1][2] == 800
    desk.fund(2, COIN)
    desk.meet(2, 1, 800, 120_000)
    assert desk.wallet(1) - COIN == 952_381  # -800e9 / 120,000 = -6,666,667 less -7,619,048
    sizes = {"contract_size": Decimal(100), "tick_size": Decimal("0.0001"), "price_max": Decimal(100_000)}
    desk = Desk(make_coin(open_interest_max=Decimal(1_000), initial_mark=Decimal("37643.1"), **sizes))
    desk.assign(1, BUY, 2, 376_431_000, COIN)
    desk.mark(381_030_551)
    desk.fund(2, COIN)
    desk.meet(2, 1, 2, 381_030_551)
    assert abs(desk.wallet(1) - COIN - 6_413) <= 1


def make_small(**changes):
    """Return a contract of which a lot at one tick is worth 1,000 units."""
    sizes = {"tick_size": Decimal(1), "quote_unit": Decimal(1), "lot_size": Decimal(1_000), "price_max": Decimal(500)}
    tiers = (Tier(floor=Decimal(0), initial=Decimal("0.1"), maintenance=Decimal("0.05")),)
    sizes |= {"initial_mark": Decimal(10), "tiers": tiers, "default_leverage": 10}
    return make_coin(**(sizes | {"liquidation_collar": Decimal("0.5")} | changes))


@pytest.mark.parametrize(
    ("price", "lots", "value"),
    [(16, 1, -62), (80, 1, -12), (80, 3, -38), (7, 3, -429), (16, -1, 62), (80, -3, 38), (7, -3, 429), (500, 1, -2)],
)
def test_halves_go_to_the_even_unit(price, lots, value):
    """1,000 / 16 = 62.5 becomes 62, 1,000 / 80 = 12.5 becomes 12, 3,000 / 80 = 37.5 becomes 38, for both sides.

    Source: INV-001.
    """
    desk = Desk(make_small())
    desk.assign(1, BUY if lots > 0 else SELL, abs(lots), price, 10_000)
    assert desk.holding(1)[1] == value
    assert desk.holding(0)[1] == -value


def test_a_fill_that_turns_a_position_splits_its_one_value():
    """Long 1 @ 10 sells 3 @ 7: of 429 the lot closed gets 143, the short of 2 begins with 286.

    Its value of -429 x 1/3 is -143: a loss of 43.  The buyer was short 2 @ 10, cost 200: it closes them for
    floor(429 x 2 / 3) = 286, a gain of 86, and is long 1 with a cost of -429 + 286 = -143.

    Source: INV-003, POS-001.
    """
    desk = Desk(make_small())
    desk.assign(1, BUY, 1, 10, 10_000)
    desk.assign(2, SELL, 2, 10, 10_000)
    desk.mark(7)
    desk.meet(2, 1, 3, 7)
    assert (desk.holding(1), desk.wallet(1)) == ((-2, 286, 0), 10_000 - 43)
    assert (desk.holding(2), desk.wallet(2)) == ((1, -143, 0), 10_000 + 86)


def test_the_part_that_closes_is_rounded_down():
    """Long 2 @ 10 sells 3 @ 7: the two lots closed are worth floor(-429 x 2 / 3) = -286, exactly; of 4 @ 7 (-571) two
    are worth floor(-285.5) = -286, and the short of 2 begins with 285.

    Source: INV-003.
    """
    desk = Desk(make_small())
    desk.assign(1, BUY, 2, 10, 10_000)
    desk.fund(2, 10_000)
    desk.mark(7)
    desk.meet(2, 1, 4, 7)
    assert (desk.holding(1), desk.wallet(1)) == ((-2, 285, 0), 10_000 - 286 + 200)
    assert desk.holding(2) == (4, -571, 0)


# ---------------------------------------------------------------- margin, fees, funding


def test_initial_margin_as_binance_prints_it():
    """10 contracts of 100 USD at 9,800 with leverage 20 need 0.0051 BTC: 10,204,082 units x 5 % = 510,204.1, up.

    Source: INV-004, MARGIN-003, MARGIN-006.
    """
    for amount, kind in ((510_205, codes.ACCEPTED), (510_204, codes.REJECTED)):
        desk = Desk(make_coin(contract_size=Decimal(100), initial_mark=Decimal(9_800)))
        desk.fund(1, amount)
        fields = {"side": BUY, "qty_lot": 10, "price_tick": 98_000, "order_id": 1}
        assert desk.send(codes.PLACE, account=1, **fields)[0]["kind"] == kind


@pytest.mark.parametrize(("side", "limit", "loss"), [(BUY, 8, 0), (BUY, 16, 38), (SELL, 16, 0), (SELL, 8, 25)])
def test_open_loss_is_what_the_value_says(side, limit, loss):
    """At a mark of 10 a lot is worth 100; bought at 16 (62) it loses 38 at once, sold at 8 (125) it loses 25.

    At a better price nothing is lost, and nothing gained.

    Source: INV-004, MARGIN-006.
    """
    for amount, kind in ((10 + loss, codes.ACCEPTED), (9 + loss, codes.REJECTED)):
        desk = Desk(make_small(default_leverage=10))
        desk.fund(1, amount)
        fields = {"side": side, "qty_lot": 1, "price_tick": limit, "order_id": 1}
        assert desk.send(codes.PLACE, account=1, **fields)[0]["kind"] == kind


def test_longs_pay_funding_and_everybody_fees_in_coin():
    """On 1 BTC a fee of 0.05 % is 50,000 units; a rate of 0.01 % takes 10,000 from the long, to the short.

    Source: INV-004, FUND-001, POS-005.
    """
    desk = Desk(make_coin(taker_fee=Decimal("0.0005"), maker_fee=Decimal("0.0002")))
    for account in (1, 2):
        desk.fund(account, COIN)
    trade = only(desk.meet(1, 2, 10_000, 100_000), codes.TRADE)
    assert (trade["fee_quote"], trade["other_fee_quote"]) == (50_000, 20_000)
    paid = desk.send(codes.FUNDING, amount_quote=100_000)
    assert paid[paid["kind"] == codes.FUNDING_PAYMENT]["amount_quote"].tolist() == [-10_000, 10_000]
    paid = desk.send(codes.FUNDING, amount_quote=-100_000)
    assert paid[paid["kind"] == codes.FUNDING_PAYMENT]["amount_quote"].tolist() == [10_000, -10_000]


def test_isolated_margin_is_in_coin():
    """Long 10,000 @ 10,000, leverage 20: 5 % of 1 BTC moves to the margin; half closed at 12,500 frees half of it.

    Closing 5,000 @ 12,500 (0.4 BTC) realises 0.1 BTC.

    Source: INV-004, POS-003, POS-004.
    """
    desk = Desk(make_coin(margin_mode="isolated"))
    for account in (1, 2):
        desk.fund(account, COIN)
    desk.meet(1, 2, 10_000, 100_000)
    assert (desk.holding(1), desk.wallet(1)) == ((10_000, -COIN, 5_000_000), COIN - 5_000_000)
    desk.fund(3, COIN)
    desk.meet(3, 1, 5_000, 125_000)
    assert desk.holding(1) == (5_000, -50_000_000, 2_500_000)
    assert desk.wallet(1) == COIN - 2_500_000 + 10_000_000


# ---------------------------------------------------------------- the end of a position


def test_liquidation_price_as_binance_prints_it():
    """2 contracts of 100 USD, long @ 37,643.1 with 0.00268058 BTC, 0.4 %: 200 x 1.004 / (0.00268058 + 200 / 37,643.1).

    That is 25,119.97: the first mark at which it is liquidatable is the tick below, 25,119.9.

    Source: MARGIN-011, INV-006.
    """
    tiers = (Tier(floor=Decimal(0), initial=Decimal("0.01"), maintenance=Decimal("0.004")),)
    mark = Decimal("37643.1")
    desk = Desk(make_coin(contract_size=Decimal(100), tiers=tiers, margin_mode="isolated", initial_mark=mark))
    desk.assign(1, BUY, 2, 376_431, 268_058)
    assert desk.twins.fast.find_liquidation_price(1, 0) == desk.twins.plain.find_liquidation_price(1, 0) == 251_199
    assert len(desk.mark(251_200)) == 1
    only(desk.mark(251_199), codes.LIQUIDATION_STARTED)


@pytest.mark.parametrize(("side", "tick"), [(BUY, 2_745_099), (SELL, 2_857_142)])
def test_bankruptcy_price_as_kucoin_prints_it(side, tick):
    """28,000 contracts of 1 USD @ 28,000 with leverage 50: a long's is 28,000 x 50 / 51 = 27,450.98, up to the tick.

    A short's is 28,000 x 50 / 49 = 28,571.43, down.

    Source: MARGIN-005, INV-004.
    """
    sizes = {"tick_size": Decimal("0.01"), "price_max": Decimal(200_000), "initial_mark": Decimal(28_000)}
    desk = Desk(make_coin(margin_mode="isolated", **sizes))
    desk.assign(1, side, 28_000, 2_800_000, 2_000_000)
    assert desk.twins.fast.find_bankruptcy_price(1, 0) == desk.twins.plain.find_bankruptcy_price(1, 0) == tick


def test_a_short_with_a_whole_coin_per_coin_is_never_bankrupt():
    """Short 10,000 @ 10,000 with 1 BTC: at no price can it lose more; its bankruptcy price shows as the highest.

    Source: MARGIN-005, INV-004.
    """
    desk = Desk(make_coin())
    desk.assign(1, SELL, 10_000, 100_000, COIN)
    assert desk.twins.fast.find_bankruptcy_price(1, 0) == desk.twins.plain.find_bankruptcy_price(1, 0) == 2**31 - 1
    desk.assign(2, BUY, 10_000, 100_000, COIN)
    assert desk.twins.fast.find_bankruptcy_price(2, 0) == desk.twins.plain.find_bankruptcy_price(2, 0) == 50_000


def test_the_fund_pays_what_a_long_lacks():
    """Long 10 @ 10 (cost -1,000) with 100; the mark falls to 9 (-1,111): equity -11, B = -1,100.

    It closes 10 on a bid of 8 for -1,250: 150 less than B, paid by the fund.

    Source: LIQ-005, LIQ-007, INV-005.
    """
    desk = Desk(make_small())
    desk.send(codes.FUND_DEPOSIT, amount_quote=400)
    desk.assign(1, BUY, 10, 10, 100)
    desk.send(codes.LEVEL, side=BUY, price_tick=8, qty_lot=50)
    events = desk.mark(9)
    fill = only(events, codes.LIQUIDATION_FILL)
    assert (fill["price_tick"], fill["amount_quote"], fill["bankruptcy_tick"]) == (9 - 1, -150, 10)  # 10,000 / 1,100
    assert only(events, codes.FUND_DEBIT)["amount_quote"] == 150
    assert (desk.holding(1), desk.wallet(1)) == ((0, 0, 0), 0)


def test_a_fill_is_cut_to_what_the_fund_surely_pays():
    """The same with a fund of 40: ten lots lack 150, k of them at most floor(15 k) + 1, so two are closed (31).

    In truth two lack floor(-1,100 x 2 / 10) + 250 = 30.  The rest is deleveraged: nobody is there, the outside takes
    it over.

    Source: LIQ-007, INV-005, LIQ-009.
    """
    desk = Desk(make_small())
    desk.send(codes.FUND_DEPOSIT, amount_quote=40)
    desk.assign(1, BUY, 10, 10, 100)
    desk.send(codes.LEVEL, side=BUY, price_tick=8, qty_lot=50)
    events = desk.mark(9)
    fill = only(events, codes.LIQUIDATION_FILL)
    assert (fill["qty_lot"], fill["amount_quote"]) == (2, -30)
    assert only(events, codes.ADL_STARTED)["code"] == codes.FUND_SHORT
    taken = only(events, codes.TAKEOVER)
    # B of the 8 left is -880, they are worth -8,000 / 9 = -889 at the mark
    assert (taken["qty_lot"], taken["amount_quote"]) == (8, 9)


def test_a_short_is_deleveraged_against_longs():
    """Short 10 @ 10 (cost 1,000) with 100; the mark rises to 12 (833): equity -67, B = 900, without book or fund.

    The long of 10 @ 10 gives up B less 833, 67, and realises -900 + 1,000 = 100.

    Source: ADL-005, ADL-006, INV-005.
    """
    desk = Desk(make_small())
    desk.assign(1, SELL, 10, 10, 100)
    desk.assign(2, BUY, 10, 10, 600)
    fill = only(desk.mark(12), codes.ADL_FILL)
    assert (fill["other"], fill["amount_quote"], fill["other_amount_quote"]) == (2, 900, 100)
    assert (desk.wallet(1), desk.wallet(2)) == (0, 700)
    assert desk.twins.kinds["deficit"] == 1


# ---------------------------------------------------------------- side by side


def test_two_inverse_markets_share_the_fund_of_their_coin():
    """What the fund of BTC got through one market pays for a deficit in the other; USDT's stands apart.

    Long 10 @ 10 with 100 in B, as in the tests above: 150 are missing.

    Source: FUND-002, MONEY-001, INV-002.
    """
    linear = make_small(
        symbol="C", kind="linear", settle="USDT", lot_size=Decimal(1), quote_unit=Decimal(1), initial_mark=Decimal(10)
    )
    desk = Desk(make_small(symbol="A"), make_small(symbol="B"), linear)
    for market, amount in ((0, 400), (2, 77)):
        desk.send(codes.FUND_DEPOSIT, market=market, amount_quote=amount)
    desk.assign(1, BUY, 10, 10, 100, market=1)
    desk.assign(1, BUY, 10, 10, 100, market=2)  # in USDT: another domain of the same account
    desk.send(codes.LEVEL, market=1, side=BUY, price_tick=8, qty_lot=50)
    events = desk.mark(9, market=1)
    assert only(events, codes.FUND_DEBIT)["amount_quote"] == 150
    assert [row[0] for row in desk.twins.plain.view().funds] == [250, 77]
    assert desk.holding(1, 2) == (10, 100, 0)
    assert desk.wallet(1, 1) == 100


def test_cross_positions_of_a_coin_stand_together():
    """A long in one market and a short in the other, both inverse: what one loses the other gains, and neither goes.

    Long 10 in A and short 10 in B @ 10, 60 of collateral: at 8 A is worth -1,250 and B 1,250; they need 63 each, 126.
    At 8 in A alone equity is 60 - 250 = -190.

    Source: MARGIN-001, INV-006.
    """
    desk = Desk(make_small(symbol="A"), make_small(symbol="B"))
    desk.assign(1, BUY, 10, 10, 60)
    desk.assign(1, SELL, 10, 10, 70, market=1)
    desk.mark(8, market=1)
    events = desk.mark(8)
    assert len(events) == 1  # 130 - 250 + 250 = 130 covers 63 + 63
    triggers.check_triggers(desk.twins.fast)
    only(desk.mark(7), codes.LIQUIDATION_STARTED)


# ---------------------------------------------------------------- at the exact tick

FLAT = ((0, 20_000),)
STEEP = ((0, 10_000), (2_000, 25_000), (10_000, 100_000))


def make_traded(tiers, count, call, mode, unit):
    """Return markets of whole numbers, inverse but for every third; a lot at one tick is worth `unit`."""
    rates = [Decimal(rate) / 1_000_000 for _, rate in tiers]
    listed = tuple(
        Tier(floor=Decimal(tier[0]), initial=rate, maintenance=rate) for tier, rate in zip(tiers, rates, strict=True)
    )
    fields = {"tiers": listed, "initial_mark": Decimal(100), "margin_call": Decimal(call), "margin_mode": mode}
    fields["default_leverage"] = 1
    markets = []
    for index in range(count):
        linear = {"kind": "linear", "lot_size": Decimal(max(unit // 10_000, 1))} if index % 3 == 2 else {}
        markets.append(make_small(symbol=f"M{index}", **(fields | {"lot_size": Decimal(unit)} | linear)))
    return build_setup(markets)


def make_plain(setup, tiers, lots, call):
    """Return a domain without money whose positions were opened at 100."""
    need_ppm = 1_000_000 if call == "0" else int(Decimal(call) * 1_000_000)
    parts = []
    for lot, rules in zip(lots, setup.markets, strict=True):
        value = triggers.ask_value(rules.kind, 100, lot, rules.multiplier)
        parts.append((rules.kind, lot, value, rules.multiplier, tiers))
    return triggers.Plain(0, parts, need_ppm)


def walk_to_need(setup, plain, path):
    """Walk marks to where a domain needs something: nothing may happen before, and something must at that very mark."""
    twins, marks = Twins(setup), [100] * len(plain.parts)
    for market, (_, lot, *_) in enumerate(plain.parts):
        fields = {"side": BUY if lot > 0 else SELL, "qty_lot": abs(lot), "price_tick": 100}
        amount = plain.wallet if market == 0 else 0
        twins.apply(Command(kind=codes.ASSIGN, account=1, market=market, amount_quote=amount, **fields))
    assert plain.spare_at(marks) >= 0
    for market, mark in path:
        marks[market] = mark
        twins.apply(Command(kind=codes.MARK, market=market, price_tick=mark))
        happened = twins.kinds["margin_call"] + twins.kinds["liquidation_started"]
        assert happened == (plain.spare_at(marks) < 0), (marks, plain.spare_at(marks))
        if happened:
            return
        triggers.check_triggers(twins.fast)
    raise AssertionError("the path never led to need")


def list_marks(end):
    """Return the marks from 100 to `end`: every fifth until 30 before it, where what came too early is seen too."""
    way = 1 if end > 100 else -1
    far = range(100 + way, end - 30 * way, 5 * way)
    return [*far, *range(far[-1] + way if far else 100 + way, end + way, way)]


@pytest.mark.parametrize("unit", [10_000, 777, 1_000_000])
@pytest.mark.parametrize("call", ["0", "1.5", "4"])
@pytest.mark.parametrize("mode", ["cross", "isolated"])
@pytest.mark.parametrize("lot", [1, 30, -1, -30])
def test_single_positions_go_at_the_exact_tick(lot, mode, call, unit):
    """Against an inverse long or short, at last tick by tick: its call or liquidation comes where the formula says.

    Source: MARGIN-004, MARGIN-010, INV-006.
    """
    for tiers in (FLAT, STEEP):
        setup = make_traded(tiers, 1, call, mode, unit)
        for end in (95, 70, 40) if lot > 0 else (105, 150, 400):
            plain = make_plain(setup, tiers, (lot,), call)
            plain.wallet = -plain.spare_at([end]) - 1  # it is a unit short there
            if plain.spare_at([100]) >= 0:
                walk_to_need(setup, plain, [(0, mark) for mark in list_marks(end)])


@pytest.mark.parametrize("call", ["0", "1.5", "3"])
@pytest.mark.parametrize("seed", range(30))
def test_several_positions_go_at_the_exact_tick(seed, call):
    """Two to five cross positions, most of them inverse, on random walks that lose: the first mark in need is found.

    Source: MARGIN-010, INV-006.
    """
    rng = random.Random(f"{seed} {call}")
    lots = [rng.choice((1, -1)) * rng.randint(1, 40) for _ in range(rng.randint(2, 5))]
    tiers, unit = rng.choice((FLAT, STEEP)), rng.choice((10_000, 30_000, 777))
    marks, path = [100] * len(lots), []
    for _ in range(100):
        market = rng.randrange(len(lots))
        way = -1 if lots[market] > 0 else 1
        marks[market] = max(2, min(490, marks[market] + rng.choice((way, way, way, -way, 3 * way))))
        path.append((market, marks[market]))
    setup = make_traded(tiers, len(lots), call, "cross", unit)
    plain, marks, spares = make_plain(setup, tiers, lots, call), [100] * len(lots), []
    for market, mark in path:
        marks[market] = mark
        spares.append(plain.spare_at(marks))
    plain.wallet = -min(spares[: rng.randint(20, 100)]) - 1
    walk_to_need(setup, plain, path)
