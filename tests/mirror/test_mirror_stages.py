"""Stages 1 to 3 of the waterfall by policy, both engines and the auditor: numbers worked by hand from the rules."""

from decimal import Decimal

import pytest

from engine import codes
from engine.codes import BUY, SELL
from engine.contract import AdlPolicy, LiquidationPolicy, Market, Tier, build_setup
from tests.mirror.streams import Command
from tests.mirror.twins import Twins

SECOND = 10**9


def make_market(symbol="X", gate="always", tiers=((0, "0.05", "0.05"),), changes=None, **policy):
    """Return a market in unit sizes without fees, so that numbers can be done in the head; `policy`: liquidation's."""
    made = tuple(Tier(floor=Decimal(t[0]), initial=Decimal(t[1]), maintenance=Decimal(t[2])) for t in tiers)
    fields = {"tick_size": Decimal(1), "lot_size": Decimal(1), "quote_unit": Decimal(1), "tiers": made}
    fields |= {"maker_fee": Decimal(0), "taker_fee": Decimal(0), "price_max": Decimal(1000), "margin_call": Decimal(0)}
    fields |= {"initial_mark": Decimal(100), "adl": AdlPolicy(gate=gate), **(changes or {})}
    amounts = {name: Decimal(str(value)) for name, value in policy.items() if not isinstance(value, str)}
    return Market(symbol=symbol, liquidation=LiquidationPolicy(**{**policy, **amounts}), **fields)


class Desk:
    """Both engines, and short names for commands."""

    def __init__(self, *markets):
        self.twins = Twins(build_setup(markets))
        self.ts_ns = 0

    def send(self, kind, **fields):
        """Apply one command at the present time; return [(event name, record)]."""
        events = self.twins.apply(Command(kind=kind, ts_ns=self.ts_ns, **fields))
        return [(codes.EVENT_NAMES[int(event["kind"])], event) for event in events]

    def bring(self, account, side, qty, price, amount, market=0):
        fields = {"side": side, "qty_lot": qty, "price_tick": price, "amount_quote": amount}
        return self.send(codes.ASSIGN, account=account, market=market, **fields)

    def level(self, side, price, qty, market=0):
        return self.send(codes.LEVEL, market=market, side=side, price_tick=price, qty_lot=qty)

    def place(self, account, side, price, qty, order_id, market=0):
        fields = {"side": side, "price_tick": price, "qty_lot": qty, "order_id": order_id}
        return self.send(codes.PLACE, account=account, market=market, **fields)

    def mark(self, price, market=0):
        return self.send(codes.MARK, market=market, price_tick=price)

    def wallet(self, account):
        return {int(row[0]): int(row[2]) for row in self.twins.fast.view().wallets}.get(account, 0)

    def position(self, account, market=0):
        """Return (lots, cost)."""
        rows = {(int(row[0]), int(row[1])): row for row in self.twins.fast.view().positions}
        row = rows.get((account, market))
        return (0, 0) if row is None else (int(row[2]), int(row[3]))

    def fund(self, fund=0):
        return int(self.twins.fast.view().funds[fund][0])

    def resting(self):
        return [tuple(int(number) for number in row) for row in self.twins.fast.view().resting]


def names(events):
    """Return the names of events but the first, which accepts the command or moves the mark."""
    return [name for name, _ in events[1:]]


def only(events, name, *fields):
    """Return fields of each event of a kind, bare if it is one field."""
    found = [tuple(int(event[field]) for field in fields) for kind, event in events if kind == name]
    return [row[0] for row in found] if len(fields) == 1 else found


# ---------------------------------------------------------------- cancel


@pytest.mark.parametrize("cancel", ["account", "market", "none"])
def test_whose_orders_are_canceled(cancel):
    """Long 10 @ 100 with 200; at 84 equity is 40 and maintenance 42: the order sells, into an own bid at 90 first.

    Source: STAGE-001, LIQ-003, MATCH-009.
    """
    desk = Desk(make_market("A", cancel=cancel), make_market("B"))
    desk.bring(1, BUY, 10, 100, 200)
    for order_id, market, price in ((1, 0, 50), (2, 0, 90), (3, 1, 60)):
        desk.place(1, BUY, price, 1, order_id, market)
    desk.level(BUY, 88, 20)
    events = desk.mark(84)
    canceled = only(events, "canceled", "order_id", "code")
    if cancel == "none":
        assert canceled == [(2, codes.BY_SELF_TRADE)]
        started = ["liquidation_started", "canceled"]
    else:
        by = codes.BY_LIQUIDATION
        assert canceled == [(2, by), (1, by), (3, by)][: 3 if cancel == "account" else 2]
        started = ["canceled"] * len(canceled) + ["liquidation_started"]
    assert names(events) == [*started, "liquidation_fill", "fund_credit", "liquidation_ended"]
    assert only(events, "liquidation_fill", "other", "price_tick", "qty_lot") == [(0, 88, 10)]
    left = [int(row[5]) for row in desk.twins.fast.view().orders if row[4] == 1]
    assert left == {"account": [], "market": [3], "none": [1, 3]}[cancel]


def test_each_market_cancels_by_its_own_policy():
    """A closes first and cancels in A only; B, closed next, cancels in all that is left.

    Longs of 30 A and 10 B @ 100 with 310: at A 91 that is 40 of 137 + 50. The outside takes A over at 91, which leaves
    the 40; B = 960 then, and its ten lots bring 970.

    Source: STAGE-001, LIQ-004.
    """
    desk = Desk(make_market("A", cancel="market"), make_market("B"), make_market("C"))
    desk.bring(1, BUY, 30, 100, 210)
    desk.bring(1, BUY, 10, 100, 0, market=1)
    desk.send(codes.DEPOSIT, account=1, amount_quote=100)
    for order_id, market in ((1, 0), (2, 1), (3, 2)):
        desk.place(1, BUY, 20, 1, order_id, market)
    desk.level(BUY, 97, 100, market=1)
    events = desk.mark(91)
    kinds = names(events)
    assert only(events, "canceled", "order_id") == [1, 2, 3]
    assert kinds.index("canceled") < kinds.index("liquidation_started") < kinds.index("takeover")
    # both closed: A by the outside, B on its book, and B's cancels stand between the two
    assert kinds[-6:] == ["takeover", "canceled", "canceled", "liquidation_fill", "fund_credit", "liquidation_ended"]


# ---------------------------------------------------------------- size

BRACKETS = ((0, "0.02", "0.01"), (2000, "0.05", "0.025"), (10000, "0.2", "0.1"))


def test_tiered_goes_down_one_bracket():
    """As Binance's: 150 @ 100 with 700 asks 1,500 - 780 = 720. 99 lots are worth less than 10,000: 51 go.

    B = 15,000 - 700 = 14,300, 95.3 a lot, shown as 96, and the limit; the step's is floor(14,300 x 51 / 150) = 4,862.
    At 97 the fund gets 4,947 - 4,862 = 85. The rest has 462 and asks ceil(247.5) - 30 = 218.

    Source: STAGE-002, STAGE-004, STAGE-005.
    """
    desk = Desk(make_market(tiers=BRACKETS, size="tiered", limit="bankruptcy"))
    desk.level(BUY, 97, 60)
    events = desk.bring(1, BUY, 150, 100, 700)
    fields = ("qty_lot", "price_tick", "amount_quote", "bankruptcy_tick")
    assert only(events, "liquidation_fill", *fields) == [(51, 97, 85, 96)]
    ended = only(events, "liquidation_ended", "qty_lot", "amount_quote", "other_amount_quote", "code")
    assert ended == [(51, 462, 218, 0)]
    assert (desk.wallet(1), desk.position(1), desk.fund()) == (462, (99, 9900), 85)


def test_tiered_repeats_until_healthy():
    """With 300 the 99 lots left have 198 of 218, so 80 more go, to 19 lots below 2,000; these have 38 of 19.

    Steps: floor(14,700 x 51 / 150) = 4,998, then B = 9,900 - 198 = 9,702 and floor(9,702 x 80 / 99) = 7,840.

    Source: STAGE-002, STAGE-004, LIQ-004.
    """
    desk = Desk(make_market(tiers=BRACKETS, size="tiered", limit="bankruptcy"))
    desk.level(BUY, 99, 200)
    events = desk.bring(1, BUY, 150, 100, 300)
    assert only(events, "liquidation_fill", "qty_lot", "amount_quote") == [(51, 5049 - 4998), (80, 7920 - 7840)]
    assert only(events, "liquidation_ended", "qty_lot", "amount_quote", "other_amount_quote") == [(131, 38, 19)]
    assert (desk.wallet(1), desk.position(1), desk.fund()) == (38, (19, 1900), 131)


def test_tiered_closes_the_lowest_tier_whole():
    """19 lots @ 100 with 10 of 19: the first tier has nothing below it.

    Source: STAGE-002.
    """
    desk = Desk(make_market(tiers=BRACKETS, size="tiered"))
    desk.level(BUY, 100, 200)
    assert only(desk.bring(1, BUY, 19, 100, 10), "liquidation_fill", "qty_lot") == [19]


@pytest.mark.parametrize(
    ("policy", "step"),
    [
        ({}, 11),  # ceil(0.1 x 101)
        ({"share_min": 1101}, 12),  # 11 lots are worth 1,100 only
        ({"share_min": 1100}, 11),
        ({"share_min": 99999}, 101),  # never more than there is
        ({"step_max": 799}, 7),
        ({"step_max": 800}, 8),
        ({"step_max": 50}, 1),  # never none
        ({"share_min": 5000, "step_max": 800}, 8),
        ({"full_below": 10100}, 101),
        ({"full_below": 10099}, 11),
    ],
)
def test_size_of_a_share(policy, step):
    """A step of a tenth of 101 lots worth 100 each, bounded as the policy says.

    Source: STAGE-003.
    """
    desk = Desk(make_market(size="share", share=0.1, cooldown_s=1, **policy))
    desk.level(BUY, 100, 500)
    events = desk.bring(1, BUY, 101, 100, 400)
    assert only(events, "liquidation_ended", "qty_lot") == [step]


def test_shares_without_cooldown_go_on():
    """Halves of 7 lots while the ratio stays: 4, 2, 1. B 700 - 20 = 680, its shares floor(680 x 4 / 7) = 388 and so on.

    Source: STAGE-003, STAGE-004, LIQ-010.
    """
    desk = Desk(make_market(size="share", share=0.5))
    desk.level(BUY, 100, 100)
    events = desk.bring(1, BUY, 7, 100, 20)
    # 20 - 12 = 8 for 3 lots: B 292, floor(292 x 2 / 3) = 194; 8 - 6 = 2 for one: B 98
    assert only(events, "liquidation_fill", "qty_lot", "amount_quote") == [(4, 12), (2, 6), (1, 2)]
    assert only(events, "liquidation_ended", "qty_lot", "amount_quote", "code") == [(7, 0, 0)]


# ---------------------------------------------------------------- cooldown, rest, wake

HYPERLIQUID = {
    "size": "share",
    "share": 0.2,
    "full_below": 5000,
    "cooldown_s": 30,
    "after_share": "full",
    "surplus": "trader",
}


@pytest.mark.parametrize(("after_ns", "step"), [(30 * SECOND - 1, 80), (30 * SECOND, 16)])
def test_hyperliquid_closes_whole_within_the_cooldown(after_ns, step):
    """100 @ 100 with 450 of 500: 20 go at 99; B's share is 9,550 / 5 = 1,910, and the 70 above it are the trader's.

    So 430 stay with 80 lots that ask 400. At 99 they have 350 of 396: within 30 s all go, later a fifth again.

    Source: STAGE-003, STAGE-004, STAGE-007, WAKE-002.
    """
    desk = Desk(make_market(**HYPERLIQUID))
    desk.level(BUY, 99, 500)
    events = desk.bring(1, BUY, 100, 100, 450)
    assert names(events) == ["liquidation_started", "liquidation_fill", "liquidation_ended"]
    assert only(events, "liquidation_fill", "qty_lot", "amount_quote") == [(20, 70)]
    assert only(events, "liquidation_ended", "amount_quote", "other_amount_quote", "code") == [(430, 400, 0)]
    assert desk.resting() == [(1, 0, -1, 30 * SECOND, 1)]
    desk.ts_ns = after_ns
    assert only(desk.mark(99), "liquidation_fill", "qty_lot") == [step]


def test_hyperliquid_does_not_wait_for_the_cooldown():
    """With 100 of 500 a fifth is not enough: the rest goes whole at the next command, which has no event of its own.

    20 at 99: 100 + 1,980 - 2,000 = 80 of 400. Then B = 8,000 - 80 and 80 lots at 99 bring exactly that.

    Source: WAKE-001, WAKE-002, STAGE-004.
    """
    desk = Desk(make_market(**HYPERLIQUID))
    desk.level(BUY, 99, 500)
    events = desk.bring(1, BUY, 100, 100, 100)
    assert only(events, "liquidation_ended", "qty_lot", "amount_quote", "code") == [(20, 80, codes.COOLDOWN)]
    assert desk.resting() == [(1, 0, -1, 0, 0), (1, 0, -1, 30 * SECOND, 1)]
    events = desk.send(codes.CLOCK)
    assert [name for name, _ in events] == ["liquidation_started", "liquidation_fill", "liquidation_ended"]
    assert only(events, "liquidation_fill", "qty_lot", "amount_quote") == [(80, 0)]
    assert desk.resting() == [(1, 0, -1, 30 * SECOND, 1)]


def test_a_domain_rests_for_its_cooldown():
    """100 @ 100 with 100 of 500, a fifth every 30 s: whatever the mark does in between, nothing is listed or called.

    Source: STAGE-004, WAKE-001, STEP-003.
    """
    desk = Desk(make_market(size="share", share=0.2, cooldown_s=30, changes={"margin_call": Decimal(2)}))
    desk.level(BUY, 99, 500)
    events = desk.bring(1, BUY, 100, 100, 100)
    assert only(events, "liquidation_ended", "qty_lot", "code") == [(20, codes.COOLDOWN)]
    assert desk.resting() == [(1, 0, -1, 30 * SECOND, 0)]
    for ts_ns, mark in ((1, 90), (2, 103), (15 * SECOND, 104), (30 * SECOND - 1, 99)):
        desk.ts_ns = ts_ns
        assert names(desk.mark(mark)) == []
    desk.ts_ns = 30 * SECOND
    # 80 + 80 x (99 - 100) = 0 of 396; 16 of 80 lots at B = 99
    events = desk.send(codes.CLOCK)
    assert only(events, "liquidation_started", "amount_quote", "other_amount_quote") == [(0, 396)]
    assert only(events, "liquidation_fill", "qty_lot", "bankruptcy_tick") == [(16, 99)]
    assert desk.resting() == [(1, 0, -1, 60 * SECOND, 0)]


@pytest.mark.parametrize("amount", [400, 360])
def test_who_wakes_healthy_is_hung_again(amount):
    """A deposit heals it in its sleep: it wakes silently, or is called then; the next mark finds it as any other.

    80 lots with 80 + 400 = 480 of 400 stand at 100; with 440 they are called (400 x 1.15 = 460).

    Source: WAKE-001, STEP-005, MARGIN-010.
    """
    desk = Desk(make_market(size="share", share=0.2, cooldown_s=30, changes={"margin_call": Decimal("1.15")}))
    desk.level(BUY, 99, 500)
    desk.bring(1, BUY, 100, 100, 100)
    assert names(desk.send(codes.DEPOSIT, account=1, amount_quote=amount)) == []
    desk.ts_ns = 30 * SECOND
    woke = [name for name, _ in desk.send(codes.CLOCK)]
    assert woke == ([] if amount == 400 else ["margin_call"])
    assert desk.resting() == []
    assert "liquidation_fill" in names(desk.mark(98))  # 320 or 280 of 392


def test_a_rejected_command_wakes_nobody():
    """Only an applied command is a next one, and its own attempt is not its own.

    Source: WAKE-001, CMD-002.
    """
    desk = Desk(make_market(gate="insolvent"))
    events = desk.bring(1, BUY, 10, 100, 40)
    assert names(events) == ["liquidation_started", "liquidation_ended"]
    assert only(events, "liquidation_ended", "qty_lot", "code") == [(0, codes.BOOK_EMPTY)]
    assert [name for name, _ in desk.send(codes.DEPOSIT, account=1, amount_quote=0)] == ["rejected"]
    assert desk.resting() == [(1, 0, -1, 0, 0)]
    events = desk.level(BUY, 95, 3)
    assert [name for name, _ in events] == ["liquidation_started", "liquidation_ended"]
    assert only(events, "liquidation_ended", "qty_lot", "code") == [(0, codes.FUND_SHORT)]
    desk.send(codes.FUND_DEPOSIT, amount_quote=50)
    # B is 96 a lot: three at 95 cost the fund 3, seven stay
    assert (desk.position(1), desk.fund()) == ((7, 700), 47)


def test_an_isolated_position_rests_by_itself():
    """The isolated position rests for its cooldown, flat or not; cross positions of its account go their own way.

    Source: WAKE-001, WAKE-002.
    """
    wait = {"size": "share", "share": 0.5, "cooldown_s": 9}
    desk = Desk(make_market("A", changes={"margin_mode": "isolated"}, **wait), make_market("B"))
    desk.level(BUY, 99, 500)
    desk.bring(1, BUY, 10, 100, 20)
    desk.bring(1, BUY, 10, 100, 100, market=1)
    assert desk.resting() == [(1, 0, 0, 9 * SECOND, 0)]
    assert only(desk.mark(94, market=1), "liquidation_started", "market") == [-1]
    # it sells its five lots, becomes cross, and opens again: the cross domain does not rest, nor does anything wake
    desk.place(1, SELL, 99, 5, 1)
    desk.send(codes.SET_MARGIN_MODE, account=1, market=0, amount_quote=codes.CROSS)
    desk.send(codes.DEPOSIT, account=1, amount_quote=60)
    desk.level(SELL, 100, 10)
    desk.place(1, BUY, 100, 10, 2)
    assert desk.position(1)[0] == 10
    desk.ts_ns = 9 * SECOND
    assert [name for name, _ in desk.send(codes.CLOCK)] == []
    assert desk.resting() == []


# ---------------------------------------------------------------- limit


@pytest.mark.parametrize(("price", "is_filled"), [(96, True), (95, False)])
def test_limit_bankruptcy_for_a_long(price, is_filled):
    """10 @ 100 with 45 of 50: B is 955, 95.5 a lot, and a sale below 96 would be worse than it.

    Source: STAGE-005.
    """
    desk = Desk(make_market(limit="bankruptcy"))
    desk.level(BUY, price, 10)
    events = desk.bring(1, BUY, 10, 100, 45)
    assert ("liquidation_fill" in names(events)) == is_filled
    assert ("takeover" in names(events)) != is_filled


@pytest.mark.parametrize(("price", "is_filled"), [(104, True), (105, False)])
def test_limit_bankruptcy_for_a_short(price, is_filled):
    """Short 10 @ 100 with 45: B is -1,045, and a purchase above 104 would be worse than that.

    Source: STAGE-005.
    """
    desk = Desk(make_market(limit="bankruptcy"))
    desk.level(SELL, price, 10)
    assert ("liquidation_fill" in names(desk.bring(1, SELL, 10, 100, 45))) == is_filled


@pytest.mark.parametrize(
    ("side", "amount", "policy", "worst"),
    [
        # T 50; E 40: abr = 1 - 40/50 = 0.2, spread 1.5 x 50 x 0.2 = 15, 1.5 a lot
        (BUY, 40, {}, 99),  # 98.5 up
        (SELL, 40, {}, 101),  # 101.5 down
        (BUY, 40, {"adjustment": 2}, 97),  # 0.4: 30
        (BUY, 0, {}, 93),  # abr 1: 75, 92.5 up
        (BUY, -90, {}, 93),  # never more than 1
        (SELL, 0, {"spread": 10}, 150),
        (BUY, 49, {"adjustment": 40, "spread": 1}, 96),  # 0.8: 40
        (BUY, 40, {"spread": 0}, 100),
    ],
)
def test_limit_fillable(side, amount, policy, worst):
    """10 lots @ 100 ask 50; the limit is as far from the mark as the domain is on its way to bankruptcy.

    Source: STAGE-006.
    """
    for price, is_filled in ((worst, True), (worst - side, False)):
        desk = Desk(make_market(limit="fillable", **policy))
        desk.send(codes.FUND_DEPOSIT, amount_quote=10_000)
        desk.level(side, price, 10)
        entry = 100 if amount >= 0 else 100 - side * amount // 10
        events = desk.bring(1, side, 10, entry, max(amount, 0))
        assert ("liquidation_fill" in names(events)) == is_filled


# ---------------------------------------------------------------- surplus


@pytest.mark.parametrize(
    ("policy", "to_fund", "named", "kept"),
    [
        ({"surplus": "fund"}, 39, 10, 0),
        ({"surplus": "trader"}, 10, 10, 29),
        ({"surplus": "capped_fee", "surplus_fee": 0.02}, 20, 10, 19),
        ({"surplus": "capped_fee", "surplus_fee": 0.004}, 4, 4, 35),
        ({"surplus": "capped_fee", "surplus_fee": 0.05}, 39, 10, 0),
        ({"surplus": "capped_fee", "surplus_fee": 0}, 0, 0, 39),
    ],
)
@pytest.mark.parametrize("mode", ["cross", "isolated"])
def test_who_gets_a_surplus(policy, to_fund, named, kept, mode):
    """10 @ 100 with 40: B is 960, and at 100 the surplus is 40: 1 taker fee, then the fund, then the trader.

    Source: STAGE-007, LIQ-006, LIQ-010.
    """
    fees = {"taker_fee": Decimal("0.001"), "liquidation_fee": Decimal("0.01"), "margin_mode": mode}
    desk = Desk(make_market(changes=fees, **policy))
    desk.level(BUY, 100, 10)
    events = desk.bring(1, BUY, 10, 100, 40)
    assert only(events, "liquidation_fill", "amount_quote", "fee_quote") == [(39, 1)]
    assert only(events, "fund_credit", "amount_quote", "other_amount_quote") == ([(to_fund, named)] if to_fund else [])
    assert only(events, "liquidation_ended", "fee_quote") == [10 - named]  # waived
    assert (desk.fund(), desk.wallet(1)) == (to_fund, kept)


def test_a_kept_surplus_stays_in_the_margin_of_what_is_open():
    """Isolated, half of 10 lots a step: 5 at 100 bring 500 of B's 480, so the margin loses 20 and keeps 20.

    Source: STAGE-007, STAGE-004.
    """
    fields = {"size": "share", "share": 0.5, "cooldown_s": 1, "surplus": "trader"}
    desk = Desk(make_market(changes={"margin_mode": "isolated"}, **fields))
    desk.level(BUY, 100, 10)
    events = desk.bring(1, BUY, 10, 100, 40)
    assert only(events, "liquidation_fill", "amount_quote", "margin_quote") == [(20, 0)]
    assert only(events, "liquidation_ended", "amount_quote", "other_amount_quote", "code") == [(40, 25, 0)]


# ---------------------------------------------------------------- shortfall


@pytest.mark.parametrize(
    ("policy", "fills", "reason"),
    [
        ({"shortfall": "cut"}, [(3, -3), (2, -2)], codes.FUND_SHORT),
        ({"shortfall": "refuse"}, [(3, -3)], codes.FUND_SHORT),
        ({"shortfall": "refuse", "fund_loss_max": 2}, [], codes.LOSS_LIMIT),
        ({"shortfall": "cut", "fund_loss_max": 4}, [(3, -3)], codes.LOSS_LIMIT),  # cut to 2 lots: 5 in all
        ({"shortfall": "cut", "fund_loss_max": 5}, [(3, -3), (2, -2)], codes.FUND_SHORT),
    ],
)
def test_what_the_fund_cannot_or_may_not_pay(policy, fills, reason):
    """10 @ 100 with 40 at 90: B is 960; at 95 a lot costs the fund 1. It has 5; three lots rest, then four.

    Source: STAGE-008, LIQ-007.
    """
    desk = Desk(make_market(**policy))
    desk.send(codes.FUND_DEPOSIT, amount_quote=5)
    desk.bring(2, SELL, 10, 100, 500)
    desk.bring(3, SELL, 10, 100, 500)
    desk.place(2, BUY, 95, 3, 1)
    desk.place(3, BUY, 95, 4, 2)
    desk.mark(90)
    events = desk.bring(1, BUY, 10, 100, 40)
    assert only(events, "liquidation_fill", "qty_lot", "amount_quote") == fills
    assert only(events, "adl_started", "code") == [reason]


@pytest.mark.parametrize(("loss_max", "paid"), [(15, [13, 17]), (16, [13, 3, 9]), (25, [13, 3, 9])])
def test_the_loss_limit_counts_all_positions_of_a_liquidation(loss_max, paid):
    """10 A and 10 B @ 100 with 160; at A 80 that is -40 of 40 + 50. B first: its share is floor(-40 x 50 / 90) = -23.

    Ten lots at 101 bring 1,010 of 1,023: the fund pays 13. Of A the worth is 817, floor(817 x 5 / 10) = 408 for five at
    81: 3 more, then 409 - 400 = 9 more. The takeover's 17, or what is left of them, are no fill.

    Source: STAGE-008.
    """
    policy = {"fund_loss_max": loss_max}
    desk = Desk(make_market("A", **policy), make_market("B", **policy))
    desk.send(codes.FUND_DEPOSIT, amount_quote=1000)
    desk.bring(1, BUY, 10, 100, 160)
    desk.bring(1, BUY, 10, 100, 0, market=1)
    for price, qty, market in ((101, 10, 1), (81, 5, 0), (80, 5, 0)):
        desk.level(BUY, price, qty, market)
    events = desk.mark(80)
    assert only(events, "fund_debit", "amount_quote") == paid
    assert only(events, "adl_started", "code") == ([] if loss_max == 25 else [codes.LOSS_LIMIT])


# ---------------------------------------------------------------- gate


def test_a_solvent_one_is_passed_over_and_tried_again():
    """Longs of 30 A and 10 B @ 100 with 200 of 200; at A 99 it has 170 of 199. A's book is empty, B's is not.

    A, the larger, is passed over; B closes at 95, share floor(170 x 50 / 199) = 42: B 958, 8 above what 95 brings.

    Source: STAGE-009, LIQ-004, WAKE-001.
    """
    desk = Desk(make_market("A", gate="insolvent"), make_market("B", gate="insolvent"))
    desk.send(codes.FUND_DEPOSIT, amount_quote=100)
    desk.bring(1, BUY, 30, 100, 200)
    desk.bring(1, BUY, 10, 100, 0, market=1)
    desk.level(BUY, 95, 10, market=1)
    events = desk.mark(99)
    assert names(events) == ["liquidation_started", "liquidation_fill", "fund_debit", "deficit", "liquidation_ended"]
    assert only(events, "liquidation_fill", "market", "qty_lot", "amount_quote") == [(1, 10, 950 - 958)]
    ended = ("qty_lot", "amount_quote", "other_amount_quote", "code")
    assert only(events, "liquidation_ended", *ended) == [(10, 128, 149, codes.BOOK_EMPTY)]  # 170 - 42
    assert desk.resting() == [(1, 0, -1, 0, 0)]
    events = desk.level(BUY, 98, 9)
    # found by the level that has no event of its own: B = 2,970 - 128, 94.7 a lot; 9 lots bring 882 - 852
    assert only(events, "liquidation_fill", "market", "qty_lot", "amount_quote") == [(0, 9, 30)]
    assert only(events, "liquidation_ended", "qty_lot", "code") == [(9, codes.BOOK_EMPTY)]


def test_an_insolvent_one_is_deleveraged_unless_something_was_filled():
    """10 @ 100 with 20 at 90 is 80 under water. Three lots bid at 98 are filled, so the rest waits, and is deleveraged.

    Source: STAGE-009, ADL-005.
    """
    desk = Desk(make_market(gate="insolvent"))
    desk.bring(2, SELL, 50, 100, 5000)
    desk.level(BUY, 98, 3)
    desk.mark(90)
    events = desk.bring(1, BUY, 10, 100, 20)
    assert names(events) == ["liquidation_started", "liquidation_fill", "liquidation_ended"]
    assert only(events, "liquidation_ended", "qty_lot", "amount_quote", "code") == [(3, -56, codes.BOOK_EMPTY)]
    events = desk.send(codes.CLOCK)
    assert only(events, "adl_fill", "qty_lot", "amount_quote", "other") == [(7, 686, 2)]
    assert only(events, "liquidation_ended", "qty_lot", "amount_quote", "code") == [(7, 0, 0)]
    assert (desk.position(1), desk.resting()) == ((0, 0), [])


def test_what_the_queue_cannot_close_stays_open_behind_the_gate():
    """10 @ 100 with 20 at 90 is 80 under water, B 98 a piece; the queue has a short of 4, the other 6 wait for more.

    Source: STAGE-009, ADL-005, LIQ-009, WAKE-001.
    """
    desk = Desk(make_market(gate="insolvent"))
    desk.bring(2, SELL, 4, 100, 500)
    desk.mark(90)
    events = desk.bring(1, BUY, 10, 100, 20)
    assert names(events)[-1] == "liquidation_ended"
    assert not only(events, "takeover", "qty_lot")
    assert only(events, "adl_fill", "qty_lot", "amount_quote", "other") == [(4, 392, 2)]
    assert only(events, "liquidation_ended", "qty_lot", "amount_quote", "code") == [(4, -48, codes.BOOK_EMPTY)]
    assert desk.position(1) == (6, 600)
    desk.bring(3, SELL, 50, 100, 5000)
    events = desk.send(codes.CLOCK)
    assert desk.position(1) == (0, 0)
    assert (desk.wallet(1), desk.wallet(2), desk.wallet(3)) == (0, 508, 5012)
