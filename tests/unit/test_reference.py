"""The reference engine against worked examples: every number is computed by hand in the comment beside it.

Every step of every example also passes the auditor and the state check, so that an example cannot be right by accident.
"""

import dataclasses
import json
from decimal import Decimal

import pytest

from engine import codes
from engine.audit import Auditor, check_state
from engine.codes import BUY, SELL
from engine.contract import AdlPolicy, LiquidationPolicy, Market, Tier, build_setup
from engine.digest import WIDTHS, View, compute_digest
from engine.errors import ConfigError, InvariantError
from engine.layout import EVENT
from engine.reference import margin, risk
from engine.reference.exchange import ReferenceExchange
from engine.reference.ledger import Event, compute_fee
from engine.units import count_units, parse_decimal
from tests.mirror.streams import Command, make_setup, random_stream


def market(symbol="M", **changes):
    """Return a market in which one tick of one lot is one unit of money: 10 % initial, 5 % maintenance, no fees."""
    fields = {
        "symbol": symbol,
        "tick_size": Decimal(1),
        "lot_size": Decimal(1),
        "quote_unit": Decimal(1),
        "tiers": (Tier(floor=Decimal(0), initial=Decimal("0.1"), maintenance=Decimal("0.05")),),
        "price_max": Decimal(1000) * changes.get("tick_size", Decimal(1)),
        "maker_fee": Decimal(0),
        "taker_fee": Decimal(0),
        "default_leverage": 10,
        "margin_call": Decimal(0),
        "initial_mark": Decimal(100) * changes.get("tick_size", Decimal(1)),
    }
    return Market(**(fields | changes))


class Desk:
    """An exchange with short names for its commands; each step is audited."""

    def __init__(self, *markets):
        self.setup = build_setup(markets or [market()])
        self.exchange = ReferenceExchange(self.setup)
        self.auditor = Auditor(self.setup)
        self.next_id = 100
        self.ts_ns = 0
        self.log = []

    def send(self, kind, **fields):
        events = self.exchange.step(Command(kind=kind, ts_ns=fields.pop("ts_ns", self.ts_ns), **fields))
        self.auditor.feed(events)
        view = View(*self.exchange.view())
        self.auditor.compare(view)
        check_state(view, self.setup)
        self.log += events
        return events

    def fund(self, amount, at=0):
        return self.send(codes.FUND_DEPOSIT, market=at, amount_quote=amount)

    def deposit(self, account, amount, at=0):
        return self.send(codes.DEPOSIT, account=account, amount_quote=amount, market=at)

    def place(self, account, side, qty, price, at=0, order_id=0, **fields):
        if not order_id:
            self.next_id += 1
            order_id = self.next_id
        fields |= {"account": account, "side": side, "qty_lot": qty, "price_tick": price, "market": at}
        return self.send(codes.PLACE, order_id=order_id, **fields)

    def level(self, side, qty, price, at=0):
        return self.send(codes.LEVEL, side=side, qty_lot=qty, price_tick=price, market=at)

    def mark(self, price, at=0):
        return self.send(codes.MARK, price_tick=price, market=at)

    def meet(self, buyer, seller, qty, price, at=0):
        """Let the seller rest and the buyer take."""
        return self.place(seller, SELL, qty, price, at) + self.place(buyer, BUY, qty, price, at)

    def wallet(self, account, asset=0):
        return self.exchange.state.wallet(account, asset).balance_quote

    def position(self, account, at=0):
        return self.exchange.state.position(account, at)

    def holding(self, account, at=0):
        held = self.position(account, at)
        return held.qty_lot, held.cost_quote, held.margin_quote

    def asset(self, index=0):
        return self.exchange.state.assets[index]

    def orders(self, at=0):
        """Return (side, price, quantity, account) in matching order."""
        return [(o[1], o[2], o[3], o[4]) for o in self.exchange.view()[2] if o[0] == at]


def names(events):
    return [codes.EVENT_NAMES[event.kind] for event in events]


def only(events, kind):
    found = [event for event in events if event.kind == kind]
    assert len(found) == 1, names(events)
    return found[0]


def rejects(events):
    """Return the name of the one reject."""
    return codes.REJECTS[only(events, codes.REJECTED).code][0]


def fields(event, *wanted):
    return tuple(getattr(event, name) for name in wanted)


# ---------------------------------------------------------------- numbers


def test_event_has_the_recorded_fields():
    """EVT-001: the dataclass is the recorded format, field by field, all 0 by default."""
    assert tuple(field.name for field in dataclasses.fields(Event)) == EVENT.names
    assert dataclasses.astuple(Event()) == (0,) * len(EVENT.names)


def test_text_becomes_integers_exactly_or_is_refused():
    """NUM-001."""
    assert count_units(parse_decimal("100.5"), Decimal("0.1"), "price") == 1005
    with pytest.raises(ValueError, match=r"not a multiple"):
        count_units(parse_decimal("100.55"), Decimal("0.1"), "price")
    with pytest.raises(ValueError, match=r"finite"):
        parse_decimal("nan")


def test_value_is_exact():
    """NUM-002, NUM-003: value = price x quantity x multiplier, cost the signed sum of fill values."""
    desk = Desk(market(tick_size=Decimal(3)))  # multiplier 3
    desk.deposit(1, 1000)
    desk.deposit(2, 1000)
    desk.meet(1, 2, 4, 100)
    assert desk.holding(1) == (4, 1200, 0)  # 100 x 4 x 3
    assert desk.holding(2) == (-4, -1200, 0)
    desk.mark(110)
    state = desk.exchange.state
    assert margin.compute_unrealised(state, 1, 0) == 120  # 110 x 4 x 3 - 1200
    assert margin.compute_unrealised(state, 2, 0) == -120
    with pytest.raises(ConfigError, match=r"tick_size x lot_size"):
        build_setup([market(tick_size=Decimal("0.3"))])


def test_fees_round_up_and_rebates_towards_zero():
    """NUM-004, POS-005."""
    assert compute_fee(300, 500) == 1  # 0.15
    assert compute_fee(300, -500) == 0  # -0.15
    assert compute_fee(30_000, -500) == -15
    desk = Desk(market(taker_fee=Decimal("0.0005"), maker_fee=Decimal("-0.0003")))
    desk.deposit(1, 5000)
    desk.deposit(2, 5000)
    trade = only(desk.meet(1, 2, 70, 100), codes.TRADE)
    # taker: 7000 x 0.0005 = 3.5 -> 4; maker: 7000 x -0.0003 = -2.1 -> -2
    assert fields(trade, "fee_quote", "other_fee_quote") == (4, -2)
    assert (desk.wallet(1), desk.wallet(2), desk.asset().fees_quote) == (4996, 5002, 2)


def test_ratios_and_scores_stop_at_the_limit():
    """NUM-005."""
    assert margin.saturate(1 << 70) == 1 << 62
    assert margin.saturate(-(1 << 70)) == -(1 << 62)
    desk = Desk()
    desk.deposit(1, 1)
    assert margin.compute_ratio(desk.exchange.state, margin.Domain(1, 0, -1)) == -(1 << 62)  # no maintenance


def test_no_sum_can_overflow():
    """NUM-006."""
    with pytest.raises(ConfigError, match=r"2\*\*58"):
        build_setup([market(open_interest_max=Decimal(1 << 50))])
    desk = Desk(market(open_interest_max=Decimal(10), order_max=Decimal(8)))
    for account in (1, 2, 3):
        desk.deposit(account, 10_000)
    desk.meet(1, 2, 8, 100)
    assert rejects(desk.place(3, BUY, 3, 100)) == "open_interest_limit"  # 8 + 3 > 10
    assert names(desk.place(3, BUY, 2, 100)) == ["accepted"]
    assert names(desk.place(3, BUY, 2, 99)) == ["accepted"]
    # a print fills what room is left: 10 - 8 = 2 of the 4 that rest
    events = desk.send(codes.PRINT, side=SELL, price_tick=99, qty_lot=50)
    assert [(e.price_tick, e.qty_lot) for e in events] == [(100, 2)]
    assert rejects(desk.deposit(1, (1 << 60) - 30_000 + 1)) == "money_limit"
    desk.deposit(1, (1 << 60) - 30_000)
    assert rejects(desk.fund(1)) == "money_limit"
    # While the outside's cash is beyond the limit nothing that could trade is taken.
    twin = desk.exchange.copy()
    twin.state.wallet(0, 0).balance_quote = -(1 << 60) - 1
    sent = {"account": 4, "side": SELL, "qty_lot": 1, "price_tick": 99, "order_id": 7}
    twin.state.setup = build_setup([market(open_interest_max=Decimal(100), order_max=Decimal(8))])
    for kind in (codes.PLACE, codes.PRINT, codes.ASSIGN, codes.LEVEL):
        assert rejects(twin.step(Command(kind=kind, **sent))) == "money_limit"
    assert twin.step(Command(kind=codes.LEVEL, side=SELL, qty_lot=1, price_tick=300)) == []  # would not trade
    resting = next(iter(twin.state.orders.values()))
    fields = {"account": resting.account, "order_id": resting.order_id, "price_tick": 98, "qty_lot": 1}
    assert rejects(twin.step(Command(kind=codes.AMEND, **fields))) == "money_limit"
    twin.state.wallet(1, 0).balance_quote = (1 << 62) + 1
    with pytest.raises(InvariantError, match=r"2\*\*62"):
        twin.step(Command(kind=codes.MARK, price_tick=101))


# ---------------------------------------------------------------- commands


def test_commands_are_numbered_and_time_never_falls():
    """CMD-001, CMD-002: every command takes a number; a rejected one moves neither time nor anything else."""
    desk = Desk()
    desk.deposit(1, 5)
    assert [event.seq for event in desk.log] == [1]
    desk.send(codes.CLOCK, ts_ns=50)
    before = desk.exchange.view()
    event = only(desk.deposit(1, 5), codes.REJECTED)
    assert fields(event, "seq", "ts_ns", "code", "rank", "account") == (3, 0, codes.TIME_REVERSED, codes.DEPOSIT, 1)
    after = desk.exchange.view()
    assert after[0] == [(3, 50, 0)]
    assert after[1:] == before[1:]
    desk.send(codes.DEPOSIT, ts_ns=99, account=1)  # amount 0: refused, and time stays 50
    assert desk.exchange.view()[0] == [(4, 50, 0)]


def test_checks_come_in_order():
    """CMD-002, MATCH-011: of two faults the earlier check names the reject."""
    desk = Desk()
    desk.send(codes.CLOCK, ts_ns=10)
    wrong = {"kind": 99, "ts_ns": 5, "market": 7, "account": 0, "side": 0}
    repaired = {"kind": codes.PLACE, "ts_ns": 10, "market": 0, "account": 1, "side": BUY}
    expected = ["unknown_command", "time_reversed", "unknown_market", "unknown_account", "bad_side"]
    for name in expected:
        command = Command(**wrong)
        assert rejects(desk.exchange.step(command)) == name
        first = next(iter(wrong))
        wrong[first] = repaired[first]
        wrong = {key: wrong[key] for key in [*list(wrong)[1:], first]}
    steps = [
        ({"flags": 64}, "bad_flags"),
        ({"order_id": 0}, "bad_order_id"),
        ({"qty_lot": 0}, "bad_qty"),
        ({"price_tick": 0}, "bad_price"),
        ({"order_id": 1}, "duplicate_order_id"),
        ({}, "insufficient_margin"),
    ]
    desk = Desk()
    desk.deposit(2, 1000)
    desk.place(2, BUY, 1, 90, order_id=1)
    good = {"flags": 0, "order_id": 2, "qty_lot": 1, "price_tick": 100, "account": 3, "side": SELL, "kind": codes.PLACE}
    broken = dict(kv for change, _ in steps for kv in change.items()) | {"order_id": 0}
    command = good | broken
    for change, name in steps:
        command |= change
        assert rejects(desk.exchange.step(Command(**command))) == name
        command |= {key: good[key] for key in change}
    assert rejects(desk.exchange.step(Command(**(good | {"price_tick": 1001})))) == "bad_price"


def test_unknown_account_and_market():
    """CMD-002, OUT-001: no command speaks for the outside; `clock`, `cancel` and `amend` name no market."""
    desk = Desk()
    for account in (-1, 0, 1 << 31):
        assert rejects(desk.deposit(account, 5)) == "unknown_account"
    assert rejects(desk.deposit(1, 5, at=1)) == "unknown_market"
    assert rejects(desk.mark(100, at=-1)) == "unknown_market"
    assert desk.send(codes.CLOCK, market=9) == []
    assert rejects(desk.send(codes.CANCEL, market=9, account=1, order_id=1)) == "unknown_order"
    assert desk.send(codes.MARK, account=-5, price_tick=100) == []  # feed commands ignore the account


def test_order_ids():
    """CMD-003: an id is taken while its order rests, and free again afterwards."""
    desk = Desk(market("A"), market("B"))
    desk.deposit(1, 1000)
    desk.deposit(2, 1000)
    desk.place(1, BUY, 1, 100, order_id=5)
    assert rejects(desk.place(2, BUY, 1, 100, at=1, order_id=5)) == "duplicate_order_id"
    assert rejects(desk.send(codes.CANCEL, account=2, order_id=5)) == "unknown_order"
    assert rejects(desk.send(codes.AMEND, account=2, order_id=5, qty_lot=1, price_tick=99)) == "unknown_order"
    canceled = only(desk.send(codes.CANCEL, account=1, order_id=5), codes.CANCELED)
    assert fields(canceled, "code", "qty_lot", "price_tick", "side") == (codes.BY_USER, 1, 100, BUY)
    assert names(desk.place(2, BUY, 1, 100, at=1, order_id=5)) == ["accepted"]


def test_what_is_answered():
    """CMD-004: accounts get an answer first, the feed only consequences."""
    desk = Desk()
    assert names(desk.deposit(1, 1000)) == ["accepted"]
    fund = only(desk.fund(7), codes.ACCEPTED)
    assert fields(fund, "code", "account", "other", "amount_quote") == (codes.FUND_DEPOSIT, 0, 0, 7)
    assert desk.level(SELL, 5, 100) == []
    assert names(desk.place(1, BUY, 2, 100)) == ["accepted", "trade"]
    desk.place(1, BUY, 1, 90)
    desk.place(1, BUY, 1, 91)
    answer = desk.send(codes.CANCEL_ALL, account=1)
    assert names(answer) == ["accepted", "canceled", "canceled"]
    assert [event.price_tick for event in answer[1:]] == [91, 90]  # MATCH-010: the latest first
    assert names(desk.mark(101)) == ["mark"]
    assert desk.send(codes.INDEX, price_tick=105) == []  # stored, moves nothing under `recorded`


def test_deposit_and_withdraw():
    """CMD-005, MARGIN-006: what is not needed can leave."""
    desk = Desk()
    assert rejects(desk.deposit(1, 0)) == "bad_amount"
    desk.deposit(1, 300)
    desk.deposit(2, 300)
    assert rejects(desk.send(codes.WITHDRAW, account=1, amount_quote=0)) == "bad_amount"
    assert rejects(desk.send(codes.WITHDRAW, account=1, amount_quote=301)) == "insufficient_margin"
    desk.meet(1, 2, 10, 100)  # initial margin 100
    desk.mark(105)  # unrealised +50 and -50, initial margin ceil(1050 x 0.1) = 105
    assert rejects(desk.send(codes.WITHDRAW, account=1, amount_quote=246)) == "insufficient_margin"  # 350 - 105
    assert rejects(desk.send(codes.WITHDRAW, account=2, amount_quote=146)) == "insufficient_margin"  # 250 - 105
    assert names(desk.send(codes.WITHDRAW, account=1, amount_quote=245)) == ["accepted"]
    assert (desk.wallet(1), desk.asset().withdrawals_quote, desk.asset().deposits_quote) == (55, 245, 600)


# ---------------------------------------------------------------- matching


def test_price_then_time():
    """MATCH-001, MATCH-002, MATCH-003: best price first, then the longest queued, at the resting order's price."""
    desk = Desk()
    for account in (1, 2, 3, 4):
        desk.deposit(account, 10_000)
    desk.place(1, SELL, 1, 101)
    desk.place(2, SELL, 2, 100)
    desk.place(3, SELL, 3, 100)
    events = desk.place(4, BUY, 5, 101)
    assert [(e.other, e.price_tick, e.qty_lot) for e in events[1:]] == [(2, 100, 2), (3, 100, 3)]
    events = desk.place(4, BUY, 3, 102)
    assert [(e.other, e.price_tick, e.qty_lot) for e in events[1:]] == [(1, 101, 1)]
    assert desk.orders() == [(BUY, 102, 2, 4)]  # the rest of a limit order rests
    canceled = only(desk.place(3, SELL, 5, 102, tif=codes.IOC), codes.CANCELED)
    assert fields(canceled, "code", "qty_lot", "price_tick") == (codes.BY_IOC, 3, 102)


def test_amend_keeps_its_place_only_for_a_decrease():
    """MATCH-004."""
    desk = Desk()
    for account in (1, 2, 3):
        desk.deposit(account, 10_000)
    desk.place(1, BUY, 5, 99, order_id=1)
    desk.place(2, BUY, 5, 99, order_id=2)
    amended = only(desk.send(codes.AMEND, account=1, order_id=1, qty_lot=3, price_tick=99), codes.AMENDED)
    assert fields(amended, "side", "qty_lot", "price_tick") == (BUY, 3, 99)
    assert [order[3] for order in desk.orders()] == [1, 2]
    desk.send(codes.AMEND, account=1, order_id=1, qty_lot=3, price_tick=99)  # no decrease: to the tail
    assert [order[3] for order in desk.orders()] == [2, 1]
    desk.place(3, SELL, 2, 101)
    events = desk.send(codes.AMEND, account=1, order_id=1, qty_lot=4, price_tick=101)
    assert names(events) == ["amended", "trade"]
    assert desk.orders() == [(BUY, 101, 2, 1), (BUY, 99, 5, 2)]
    assert rejects(desk.send(codes.AMEND, account=1, order_id=1, qty_lot=0, price_tick=99)) == "bad_qty"
    assert rejects(desk.send(codes.AMEND, account=1, order_id=1, qty_lot=1, price_tick=0)) == "bad_price"
    # Margin is checked as if the old order were gone: position 2 (20), 5 at 99 of account 2 is nothing to account 1;
    # 10_000 covers 900 lots of growth at most, 998 lots at 101 need more.
    assert rejects(desk.send(codes.AMEND, account=1, order_id=1, qty_lot=998, price_tick=101)) == "insufficient_margin"


def test_market_orders_have_a_collar():
    """MATCH-005: 5 % around the mark of 103: floor(108.15) = 108 and ceil(97.85) = 98."""
    desk = Desk()
    desk.deposit(1, 10_000)
    desk.mark(103)
    desk.level(SELL, 2, 108)
    desk.level(SELL, 5, 109)
    desk.level(BUY, 5, 98)
    events = desk.place(1, BUY, 3, 0, flags=codes.MARKET_ORDER)
    assert names(events) == ["accepted", "trade", "canceled"]
    assert (events[0].price_tick, events[1].price_tick, events[2].qty_lot) == (108, 108, 1)
    assert only(desk.place(1, SELL, 3, 0, flags=codes.MARKET_ORDER), codes.TRADE).price_tick == 98
    for flags, tif in ((codes.MARKET_ORDER | codes.POST_ONLY, 0), (codes.POST_ONLY, codes.IOC), (0, 3), (8, 0)):
        assert rejects(desk.place(1, BUY, 1, 100, flags=flags, tif=tif)) == "bad_flags"


def test_post_only():
    """MATCH-006."""
    desk = Desk()
    desk.deposit(1, 10_000)
    desk.level(SELL, 5, 101)
    assert rejects(desk.place(1, BUY, 1, 101, flags=codes.POST_ONLY)) == "post_only_crosses"
    assert names(desk.place(1, BUY, 1, 100, flags=codes.POST_ONLY)) == ["accepted"]
    assert desk.exchange.view()[2][0][6] == codes.POST_ONLY


def test_fill_or_kill():
    """MATCH-007: reduce-only orders, and with prevention one's own, are not counted."""
    desk = Desk()
    for account in (1, 2):
        desk.deposit(account, 10_000)
    desk.meet(2, 1, 4, 100)
    desk.place(2, SELL, 4, 101, flags=codes.REDUCE_ONLY)
    desk.place(1, SELL, 3, 101)
    desk.level(SELL, 3, 102)
    fok = {"tif": codes.FOK}
    assert rejects(desk.place(1, BUY, 4, 101, **fok)) == "fok_unfillable"  # 3, the reduce-only 4 do not count
    assert rejects(desk.place(1, BUY, 4, 102, flags=codes.STP_OLDEST, **fok)) == "fok_unfillable"
    assert names(desk.place(1, BUY, 3, 102, flags=codes.STP_OLDEST, **fok))[0] == "accepted"


def test_reduce_only():
    """MATCH-008: never opens, is cut, and is canceled when it is reached with nothing to reduce."""
    desk = Desk()
    for account in (1, 2, 3):
        desk.deposit(account, 10_000)
    desk.meet(1, 2, 5, 100)
    assert rejects(desk.place(1, BUY, 1, 100, flags=codes.REDUCE_ONLY)) == "nothing_to_reduce"
    accepted = only(desk.place(1, SELL, 9, 105, flags=codes.REDUCE_ONLY, order_id=1), codes.ACCEPTED)
    assert accepted.qty_lot == 5
    desk.place(1, SELL, 3, 105, flags=codes.REDUCE_ONLY, order_id=2)
    desk.place(3, SELL, 1, 106)
    # The taker of 7 finds: 5 of order 1, then order 2 with nothing left to reduce, then 1 at 106; 1 rests.
    events = desk.place(2, BUY, 7, 106)
    assert names(events) == ["accepted", "trade", "canceled", "trade"]
    assert fields(events[2], "order_id", "code", "qty_lot") == (2, codes.BY_REDUCE_ONLY, 3)
    assert desk.holding(1) == (0, 0, 0)
    assert desk.orders() == [(BUY, 106, 1, 2)]


def test_self_trade_prevention():
    """MATCH-009."""
    outcomes = {
        0: ["accepted", "trade"],
        codes.STP_NEWEST: ["accepted", "canceled"],
        codes.STP_OLDEST: ["accepted", "canceled"],
        codes.STP_NEWEST | codes.STP_OLDEST: ["accepted", "canceled", "canceled"],
    }
    for flags, expected in outcomes.items():
        desk = Desk()
        desk.deposit(1, 10_000)
        desk.place(1, SELL, 3, 100, order_id=1)
        events = desk.place(1, BUY, 2, 100, order_id=2, flags=flags)
        assert names(events) == expected
        canceled = [(event.order_id, event.qty_lot) for event in events if event.kind == codes.CANCELED]
        both = codes.STP_NEWEST | codes.STP_OLDEST
        assert (
            canceled == {0: [], codes.STP_NEWEST: [(2, 2)], codes.STP_OLDEST: [(1, 3)], both: [(1, 3), (2, 2)]}[flags]
        )
        assert desk.holding(1) == (0, 0, 0)


def test_cancel_all_is_latest_first():
    """MATCH-010: an amended order that was queued anew is the latest; other markets are left alone."""
    desk = Desk(market("A"), market("B"))
    desk.deposit(1, 10_000)
    for order_id, price in ((1, 90), (2, 95), (3, 85)):
        desk.place(1, BUY, 2, price, order_id=order_id)
    desk.place(1, BUY, 2, 90, at=1, order_id=4)
    desk.send(codes.AMEND, account=1, order_id=1, qty_lot=3, price_tick=90)
    desk.send(codes.AMEND, account=1, order_id=3, qty_lot=1, price_tick=85)
    events = desk.send(codes.CANCEL_ALL, account=1)
    assert [event.order_id for event in events[1:]] == [1, 3, 2]
    assert desk.orders(1) == [(BUY, 90, 2, 1)]


# ---------------------------------------------------------------- the outside


def test_the_outside_is_in_every_sum_and_never_margined():
    """OUT-001, MARGIN-004: its loss is beyond anything it has, and nothing happens to it."""
    desk = Desk(market(taker_fee=Decimal("0.01"), margin_mode="isolated"))
    desk.deposit(1, 10_000)
    desk.level(SELL, 10, 100)
    trade = only(desk.place(1, BUY, 10, 100), codes.TRADE)
    assert fields(trade, "other", "other_order_id", "other_fee_quote", "other_margin_quote") == (0, 0, 0, 0)
    assert desk.holding(0) == (-10, -1000, 0)
    assert names(desk.mark(900)) == ["mark"]
    assert desk.exchange.adl_queue(0, SELL) == []


def test_levels_queue_like_the_tape():
    """OUT-002, OUT-005: increases join the tail, decreases come from the latest, what was eaten stays eaten."""
    desk = Desk()
    desk.deposit(1, 10_000)
    desk.deposit(2, 10_000)
    desk.level(BUY, 5, 99)
    desk.place(1, BUY, 2, 99)
    desk.level(BUY, 8, 99)  # +3 behind ours
    desk.level(BUY, 9, 99)  # the outside's order at the tail grows
    assert desk.orders() == [(BUY, 99, 5, 0), (BUY, 99, 2, 1), (BUY, 99, 4, 0)]
    desk.level(BUY, 4, 99)  # -5: 4 from behind ours, 1 from before
    assert desk.orders() == [(BUY, 99, 4, 0), (BUY, 99, 2, 1)]
    desk.place(2, SELL, 1, 99)
    assert desk.orders()[0] == (BUY, 99, 3, 0)
    desk.level(BUY, 4, 99)  # the next record sets the total anew
    assert desk.orders() == [(BUY, 99, 3, 0), (BUY, 99, 2, 1), (BUY, 99, 1, 0)]
    desk.level(BUY, 0, 99)
    assert desk.orders() == [(BUY, 99, 2, 1)]
    assert rejects(desk.level(BUY, (1 << 40) + 1, 99)) == "bad_qty"
    assert rejects(desk.level(BUY, 1, 0)) == "bad_price"
    assert rejects(desk.level(0, 1, 99)) == "bad_side"


def test_a_crossing_level():
    """OUT-003: the outside's own levels are wiped without a trade, ours trade, the rest rests."""
    desk = Desk(market(open_interest_max=Decimal(100)))
    desk.deposit(1, 10_000)
    desk.level(SELL, 5, 101)
    desk.level(SELL, 5, 103)
    desk.place(1, SELL, 4, 102)
    assert rejects(desk.level(BUY, 101, 102)) == "open_interest_limit"
    assert desk.orders() == [(SELL, 101, 5, 0), (SELL, 102, 4, 1), (SELL, 103, 5, 0)]
    trade = only(desk.level(BUY, 10, 102), codes.TRADE)
    assert fields(trade, "account", "other", "side", "price_tick", "qty_lot") == (0, 1, BUY, 102, 4)
    assert desk.orders() == [(BUY, 102, 6, 0), (SELL, 103, 5, 0)]
    assert desk.level(SELL, 0, 102) == []  # nothing there to remove: wipes nothing
    assert desk.orders() == [(BUY, 102, 6, 0), (SELL, 103, 5, 0)]


def test_prints_fill_ours_and_nothing_else():
    """OUT-004."""
    desk = Desk(market(mark_model="last"))
    desk.deposit(1, 10_000)
    desk.deposit(2, 10_000)
    desk.level(SELL, 5, 100)
    desk.place(1, SELL, 3, 100)
    desk.place(2, SELL, 3, 102)
    events = desk.send(codes.PRINT, side=BUY, price_tick=102, qty_lot=4)
    assert names(events) == ["trade", "trade", "mark"]
    assert [(e.other, e.price_tick, e.qty_lot, e.order_id) for e in events[:2]] == [(1, 100, 3, 0), (2, 102, 1, 0)]
    assert desk.orders() == [(SELL, 100, 5, 0), (SELL, 102, 2, 2)]
    assert desk.exchange.view()[1] == [(102, 0, 102, 4, 0)]
    assert desk.send(codes.PRINT, side=BUY, price_tick=50, qty_lot=4, flags=codes.OFF_BOOK) == []
    assert desk.exchange.view()[1] == [(102, 0, 102, 4, 0)]
    assert rejects(desk.send(codes.PRINT, side=BUY, price_tick=50, qty_lot=4, flags=4)) == "bad_flags"
    assert rejects(desk.send(codes.PRINT, side=BUY, price_tick=50, qty_lot=0)) == "bad_qty"


# ---------------------------------------------------------------- positions


def test_a_fill_closes_then_opens():
    """POS-001, POS-002: floor(cost x k / qty) leaves with the closed part."""
    desk = Desk()
    desk.deposit(1, 1000)
    desk.deposit(2, 1000)
    desk.meet(1, 2, 1, 100)
    desk.meet(1, 2, 2, 101)
    assert desk.holding(1) == (3, 302, 0)
    desk.meet(2, 1, 1, 110)
    # 1 closes 1 of 3: c = floor(302 / 3) = 100, realised 110 - 100 = 10
    assert (desk.wallet(1), desk.holding(1)) == (1010, (2, 202, 0))
    # 2 is short: c = floor(-302 / 3) = -101, realised -110 + 101 = -9
    assert (desk.wallet(2), desk.holding(2)) == (991, (-2, -201, 0))
    seq = desk.exchange.state.seq
    desk.meet(2, 1, 5, 100)
    # 1 closes 2 at 100: 200 - 202 = -2, then opens 3 short at 100
    assert (desk.wallet(1), desk.holding(1)) == (1008, (-3, -300, 0))
    assert desk.position(1).opened_seq == seq + 2  # POS-005: the command in which the sign changed


def test_isolated_margin_moves_with_fills():
    """POS-003, POS-004."""
    desk = Desk(market(margin_mode="isolated"))
    desk.deposit(1, 1000)
    desk.deposit(2, 1000)
    trade = only(desk.meet(1, 2, 10, 100), codes.TRADE)
    assert fields(trade, "margin_quote", "other_margin_quote") == (100, 100)  # 10 % of 1000
    assert (desk.wallet(1), desk.holding(1)) == (900, (10, 1000, 100))
    trade = only(desk.meet(2, 1, 3, 104), codes.TRADE)
    # 1 closes 3 at 104: realised 12, m = floor(100 x 3 / 10) = 30, wallet +42, margin -30
    assert fields(trade, "other_margin_quote") == (-30,)
    assert (desk.wallet(1), desk.holding(1)) == (942, (7, 700, 70))
    # 1 closes 2 of 7 at 80: realised -40, m = floor(70 x 2 / 7) = 20, x = -20 < 0: the margin takes the loss alone
    desk.meet(2, 1, 2, 80)
    assert (desk.wallet(1), desk.holding(1)) == (942, (5, 500, 30))
    # 1 closes the rest at 96: realised -20, m = 30, x = 10
    desk.meet(2, 1, 5, 96)
    assert (desk.wallet(1), desk.holding(1)) == (952, (0, 0, 0))


def test_an_isolated_loss_beyond_its_margin_ends_in_the_wallet():
    """POS-003: a flat position moves its margin, of either sign, to the wallet."""
    desk = Desk(market(margin_mode="isolated"))
    desk.deposit(1, 1000)
    desk.level(SELL, 10, 100)
    desk.place(1, BUY, 10, 100)
    desk.level(SELL, 0, 100)
    desk.level(BUY, 10, 80)
    trade = only(desk.place(1, SELL, 10, 80, flags=codes.REDUCE_ONLY), codes.TRADE)
    # realised -200, m = 100, x = -100: margin 100 - 200 = -100, flat, so the wallet gets -100 and the margin 0
    assert trade.margin_quote == -100
    assert (desk.wallet(1), desk.holding(1)) == (800, (0, 0, 0))


def test_isolated_margin_is_what_the_wallet_has():
    """POS-004: the tier counts the whole position; never more than the wallet holds after the fee."""
    tiers = (
        Tier(floor=Decimal(0), initial=Decimal("0.1"), maintenance=Decimal("0.05")),
        Tier(floor=Decimal(1500), initial=Decimal("0.2"), maintenance=Decimal("0.1")),
    )
    desk = Desk(market(margin_mode="isolated", tiers=tiers, taker_fee=Decimal("0.01")))
    desk.deposit(1, 5000)
    desk.level(SELL, 100, 100)
    desk.place(1, BUY, 10, 100)
    assert (desk.wallet(1), desk.holding(1)[2]) == (4890, 100)  # fee 10, need 100
    desk.place(1, BUY, 10, 100)  # notional 2000 is in the second tier: need ceil(1000 x 0.2) = 200
    assert (desk.wallet(1), desk.holding(1)[2]) == (4680, 300)
    # 14 at 100 need 140 + fee 14 when placed; filled at a mark of 110 the notional is 1540: ceil(1400 x 0.2) = 280.
    desk.deposit(3, 160)
    desk.level(SELL, 0, 100)
    desk.place(3, BUY, 14, 100)
    desk.mark(110)
    trade = only(desk.send(codes.PRINT, side=SELL, price_tick=100, qty_lot=14), codes.TRADE)
    assert trade.other_margin_quote == 160
    assert (desk.wallet(3), desk.holding(3)) == (0, (14, 1400, 160))


def test_assign():
    """POS-006: a position and its collateral from elsewhere, against the outside."""
    desk = Desk(market(open_interest_max=Decimal(50), order_max=Decimal(40)))
    sent = {"account": 1, "side": BUY, "qty_lot": 10, "price_tick": 90, "amount_quote": 200}
    accepted = only(desk.send(codes.ASSIGN, **sent), codes.ACCEPTED)
    assert fields(accepted, "side", "qty_lot", "price_tick", "amount_quote", "margin_quote") == (BUY, 10, 90, 200, 0)
    assert (desk.wallet(1), desk.holding(1), desk.holding(0)) == (200, (10, 900, 0), (-10, -900, 0))
    assert desk.asset().deposits_quote == 200
    assert desk.exchange.state.lasts == [0]  # no last price
    for change, name in (
        ({"side": 0}, "bad_side"),
        ({"qty_lot": 41}, "bad_qty"),
        ({"price_tick": 0}, "bad_price"),
        ({"amount_quote": -1}, "bad_amount"),
        ({}, "position_open"),
        ({"account": 2, "qty_lot": 40, "side": SELL, "price_tick": 110}, ""),
        ({"account": 3, "qty_lot": 1, "amount_quote": 1 << 60}, "money_limit"),
        ({"account": 3, "qty_lot": 11}, "open_interest_limit"),
    ):
        events = desk.send(codes.ASSIGN, **(sent | change))
        assert (rejects(events) == name) if name else names(events) == ["accepted"]
    desk = Desk(market(margin_mode="isolated", initial_mark=None))
    assert rejects(desk.send(codes.ASSIGN, **sent)) == "no_mark"
    desk.mark(100)
    assert only(desk.send(codes.ASSIGN, **sent), codes.ACCEPTED).margin_quote == 200
    assert (desk.wallet(1), desk.holding(1)) == (0, (10, 900, 200))


# ---------------------------------------------------------------- margin

TIERED = (
    Tier(floor=Decimal(0), initial=Decimal("0.02"), maintenance=Decimal("0.01")),
    Tier(floor=Decimal(1000), initial=Decimal("0.1"), maintenance=Decimal("0.05")),
)


def test_equity_maintenance_and_tiers():
    """MARGIN-001, MARGIN-002, MARGIN-003: the deduction 1000 x 0.04 = 40 makes the requirement continuous."""
    desk = Desk(market(tiers=TIERED))
    desk.deposit(1, 5000)
    desk.deposit(2, 5000)
    desk.meet(1, 2, 33, 100)
    state, domain = desk.exchange.state, margin.Domain(1, 0, -1)
    assert margin.compute_maintenance(state, domain) == 125  # ceil(3300 x 0.05) - 40
    desk.mark(30)
    assert margin.compute_maintenance(state, domain) == 10  # 990 is in the first tier: ceil(9.9)
    assert margin.compute_equity(state, domain) == 5000 - 33 * 70
    desk.mark(31)
    assert margin.compute_maintenance(state, domain) == 12  # 1023: ceil(51.15) - 40
    assert margin.compute_initial_margin(state, 1, 0, 33) == 103  # ceil(1023 x 0.1): 10x and the tier agree
    desk.send(codes.SET_LEVERAGE, account=1, amount_quote=3)  # ceil(10^6 / 3) = 333334
    assert margin.compute_initial_margin(state, 1, 0, 33) == 342  # ceil(1023 x 0.333334) = ceil(341.0007)
    assert margin.compute_initial_margin(state, 1, 0, 0) == 0


def test_liquidatable_is_strict():
    """MARGIN-004: at exactly the maintenance nothing happens."""
    desk = Desk()
    desk.deposit(1, 100)
    desk.level(SELL, 20, 100)
    desk.place(1, BUY, 10, 100)
    # equity 10 M - 900, maintenance ceil(M / 2): at 95 50 and 48, at 94 40 and 47
    assert names(desk.mark(95)) == ["mark"]
    assert desk.exchange.liquidation_price(1, 0) == 94
    assert "liquidation_started" in names(desk.mark(94))


def test_shares_of_a_cross_domain():
    """MARGIN-005, LIQ-004, LIQ-010: the largest maintenance closes first, each at its share, and nothing is left."""
    desk = Desk(market("A"), market("B"))
    desk.deposit(1, 400)
    desk.level(SELL, 20, 100, at=0)
    desk.level(SELL, 20, 100, at=1)
    desk.place(1, BUY, 10, 100, at=0)
    desk.place(1, BUY, 20, 100, at=1)
    desk.mark(90, at=0)  # -100
    # Then B at 86: -280, equity 400 - 380 = 20; maintenance A ceil(45) = 45, B ceil(86) = 86, 131 together.
    # First B: share floor(20 x 86 / 131) = 13, B = 1720 - 13 = 1707, tick ceil(85.35) = 86; taken over at 86: the share
    # of 13 stays.  The wallet is 400 + 1720 - 2000 = 120, equity 120 - 100 = 20 < 45: A follows with all of it,
    # B = 900 - 20 = 880.  Taken over at 90, 20 stay.
    events = desk.mark(86, at=1)
    started = only(events, codes.LIQUIDATION_STARTED)
    assert fields(started, "market", "amount_quote", "other_amount_quote") == (-1, 20, 131)
    takeovers = [event for event in events if event.kind == codes.TAKEOVER]
    assert [fields(e, "market", "bankruptcy_tick", "price_tick", "amount_quote") for e in takeovers] == [
        (1, 86, 86, 0),
        (0, 88, 90, 0),
    ]
    ended = only(events, codes.LIQUIDATION_ENDED)
    assert fields(ended, "qty_lot", "amount_quote", "other_amount_quote") == (30, 20, 0)
    assert desk.wallet(1) == 20


def test_a_cross_domain_stops_when_it_is_healthy():
    """LIQ-004: re-checked after each position."""
    deep = (Tier(floor=Decimal(0), initial=Decimal("0.02"), maintenance=Decimal("0.01")),)
    desk = Desk(market("A"), market("B", tiers=deep))
    desk.deposit(1, 300)
    desk.level(SELL, 20, 100, at=0)
    desk.level(SELL, 20, 100, at=1)
    desk.place(1, BUY, 10, 100, at=0)
    desk.place(1, BUY, 5, 100, at=1)
    # A at 75: equity 300 - 250 = 50; maintenance ceil(37.5) + ceil(5) = 38 + 5 = 43.  At 74: 40 < 37 + 5 = 42.
    assert names(desk.mark(75)) == ["mark"]
    events = desk.mark(74)
    # A's share floor(40 x 37 / 42) = 35 stays after its takeover at mark: equity 40 >= 5.
    assert [event.market for event in events if event.kind == codes.TAKEOVER] == [0]
    assert fields(only(events, codes.LIQUIDATION_ENDED), "qty_lot", "amount_quote", "other_amount_quote") == (10, 40, 5)
    assert desk.holding(1, 1) == (5, 500, 0)


def test_bankruptcy_price_is_a_display():
    """MARGIN-005: longs up, shorts down, within 0..2^31-1."""
    desk = Desk()
    desk.deposit(1, 103)
    desk.deposit(2, 105)
    desk.meet(1, 2, 10, 100)
    assert desk.exchange.bankruptcy_price(1, 0) == 90  # (1000 - 103) / 10 = 89.7
    assert desk.exchange.bankruptcy_price(2, 0) == 110  # (1000 + 105) / 10 = 110.5
    assert desk.exchange.bankruptcy_price(3, 0) == 0
    assert margin.display_bankruptcy_tick(desk.exchange.state, 0, 10, -5) == 0


def test_orders_need_margin():
    """MARGIN-006: growth of the worst side, open loss, fee; what does not enlarge it is not checked."""
    desk = Desk(market(taker_fee=Decimal("0.01")))
    desk.deposit(1, 120)
    assert rejects(desk.place(1, BUY, 11, 100)) == "insufficient_margin"  # 110 + fee 11 = 121
    assert rejects(desk.place(1, BUY, 10, 102)) == "insufficient_margin"  # 100 + loss 20 + fee ceil(10.2) = 131
    assert names(desk.place(1, BUY, 10, 100, order_id=1)) == ["accepted"]  # 110
    assert names(desk.place(1, SELL, 10, 101, order_id=2)) == ["accepted"]  # the worst side is 10 either way
    assert rejects(desk.place(1, SELL, 3, 101)) == "insufficient_margin"  # 120 - 100 = 20 < 30 + 4
    # As if its old order were gone: 12 at 91 is checked against 120 with a worst side of 10 sells:
    # growth 120 - 100 = 20, fee ceil(10.92) = 11: 31 > 20.
    assert rejects(desk.send(codes.AMEND, account=1, order_id=1, qty_lot=12, price_tick=91)) == "insufficient_margin"
    assert names(desk.send(codes.AMEND, account=1, order_id=1, qty_lot=10, price_tick=99)) == ["amended"]
    desk = Desk(market(initial_mark=None))
    desk.deposit(1, 1000)
    assert rejects(desk.place(1, BUY, 1, 100)) == "no_mark"


def test_isolated_orders_need_what_can_be_withdrawn():
    """MARGIN-006: unrealised gains of cross positions do not count there, and reserved margin is not free."""
    desk = Desk(market("A"), market("B", margin_mode="isolated"))
    desk.deposit(1, 300)
    desk.level(SELL, 10, 100)
    desk.place(1, BUY, 10, 100)
    desk.mark(200)  # unrealised 1000, initial margin 200; free 1300 - 200 = 1100, withdrawable min(1100, 300)
    assert rejects(desk.place(1, BUY, 31, 100, at=1)) == "insufficient_margin"  # 310
    assert names(desk.place(1, BUY, 20, 100, at=1)) == ["accepted"]
    assert rejects(desk.send(codes.WITHDRAW, account=1, amount_quote=101)) == "insufficient_margin"  # 300 - 200
    assert names(desk.send(codes.WITHDRAW, account=1, amount_quote=100)) == ["accepted"]


def test_leverage():
    """MARGIN-007."""
    desk = Desk()
    desk.deposit(1, 150)
    desk.deposit(2, 1000)
    for leverage in (0, 11):  # the first tier allows 10
        assert rejects(desk.send(codes.SET_LEVERAGE, account=1, amount_quote=leverage)) == "bad_leverage"
    desk.meet(1, 2, 10, 100)
    assert rejects(desk.send(codes.SET_LEVERAGE, account=1, amount_quote=5)) == "insufficient_margin"  # 150 - 200
    assert names(desk.send(codes.SET_LEVERAGE, account=1, amount_quote=7)) == [
        "accepted"
    ]  # ceil(1000 x 0.142858) = 143
    assert desk.exchange.view()[3][0][6] == 142_858
    assert desk.wallet(1) == 150


def test_margin_mode():
    """MARGIN-008: only without position and without any order."""
    desk = Desk()
    desk.deposit(1, 1000)
    desk.deposit(2, 1000)
    mode = {"account": 1, "amount_quote": codes.ISOLATED}
    assert rejects(desk.send(codes.SET_MARGIN_MODE, account=1, amount_quote=2)) == "bad_amount"
    desk.place(1, BUY, 5, 99, order_id=1)
    assert rejects(desk.send(codes.SET_MARGIN_MODE, **mode)) == "position_open"
    desk.place(2, SELL, 5, 99)
    assert rejects(desk.send(codes.SET_MARGIN_MODE, **mode)) == "position_open"
    desk.meet(2, 1, 5, 99)
    assert names(desk.send(codes.SET_MARGIN_MODE, **mode)) == ["accepted"]
    assert desk.exchange.view()[3] == [(1, 0, 0, 0, 0, desk.position(1).opened_seq, 100_000, 1, 0)]


def test_move_margin():
    """MARGIN-009: in as far as withdrawable, out as far as the initial margin stays covered."""
    desk = Desk(market(margin_mode="isolated"))
    desk.deposit(1, 300)
    desk.level(SELL, 10, 100)

    def move(amount):
        return desk.send(codes.MOVE_MARGIN, account=1, amount_quote=amount)

    assert rejects(move(0)) == "bad_amount"
    assert rejects(move(5)) == "not_isolated"
    desk.place(1, BUY, 10, 100)
    assert rejects(move(201)) == "insufficient_margin"
    accepted = only(move(200), codes.ACCEPTED)
    assert fields(accepted, "amount_quote", "margin_quote") == (200, 200)
    assert (desk.wallet(1), desk.holding(1)[2]) == (0, 300)
    desk.mark(98)  # equity 280, initial margin 98
    assert rejects(move(-183)) == "insufficient_margin"
    assert names(move(-182)) == ["accepted"]
    desk.mark(150)  # equity 118 + 500, initial margin 150: 468 could go, but the margin must not fall below 0
    assert rejects(move(-119)) == "insufficient_margin"
    assert names(move(-118)) == ["accepted"]


def test_no_liquidation_before_its_price():
    """MARGIN-010, MARGIN-011: mark by mark, the first liquidatable one is the liquidation price."""
    for side, accounts in ((BUY, (1, 2)), (SELL, (2, 1))):
        desk = Desk(market("A", tiers=TIERED), market("B"))
        desk.deposit(1, 700)
        desk.deposit(2, 100_000)
        desk.meet(accounts[0], accounts[1], 20, 100)
        desk.meet(2, 1, 3, 100, at=1)
        price = desk.exchange.liquidation_price(1, 0)
        assert price > 0
        for mark in range(100, 0, -1) if side == BUY else range(100, 1001):
            is_listed = "liquidation_started" in names(desk.mark(mark))
            assert is_listed == (mark == price)
            if is_listed:
                break
    desk = Desk()
    desk.deposit(1, 10_000)
    desk.level(SELL, 10, 100)
    desk.place(1, BUY, 10, 100)
    assert desk.exchange.liquidation_price(1, 0) == 0  # it could lose everything and hold
    assert desk.exchange.liquidation_price(2, 0) == 0


# ---------------------------------------------------------------- the step


def test_order_within_a_command():
    """STEP-001, STEP-002: fills, then the mark, then triggers; `last` is compared once after a command's fills."""
    desk = Desk(market(mark_model="last"))
    for account, amount in ((1, 100), (2, 10_000)):
        desk.deposit(account, amount)
    desk.meet(1, 2, 10, 100)
    desk.level(BUY, 5, 97)
    desk.level(BUY, 5, 93)
    assert desk.mark(50) == []  # not what this model listens to
    events = desk.place(2, SELL, 10, 93)
    assert names(events)[:5] == ["accepted", "trade", "trade", "mark", "liquidation_started"]
    assert fields(events[3], "price_tick", "mark_tick") == (93, 100)
    desk = Desk(market(mark_model="index"))
    assert desk.mark(50) == []
    assert names(desk.send(codes.INDEX, price_tick=90)) == ["mark"]
    assert desk.send(codes.INDEX, price_tick=90) == []
    assert desk.exchange.view()[1] == [(90, 90, 0, 0, 0)]


def test_liquidation_fills_move_the_last_price():
    """STEP-002: the mark follows once after the domain's liquidation, and may trigger the next round."""
    desk = Desk(market(mark_model="last"))
    for account, amount in ((1, 100), (2, 130), (3, 10_000)):
        desk.deposit(account, amount)
    desk.meet(1, 3, 10, 100)
    desk.meet(2, 3, 10, 100)
    desk.level(BUY, 10, 91)
    desk.level(BUY, 10, 89)
    desk.level(BUY, 1, 94)
    # 3 sells 1 at 94: mark 94, account 1 has 40 < 47 and is closed at 91, which makes the mark 91; account 2 has
    # 130 - 90 = 40 < ceil(45.5) = 46 and is closed at 89.
    events = desk.place(3, SELL, 1, 94)
    story = [(names([e])[0], e.price_tick) for e in events if e.kind in (codes.MARK_MOVED, codes.LIQUIDATION_FILL)]
    assert story == [
        ("mark", 94),
        ("liquidation_fill", 91),
        ("mark", 91),
        ("liquidation_fill", 89),
        ("mark", 89),
    ]


def test_worst_first():
    """STEP-003: lower ratio first, then lower account; each is looked at again before its turn."""
    desk = Desk()
    desk.level(SELL, 30, 100)
    for account, amount in ((1, 100), (2, 90), (3, 100)):
        desk.deposit(account, 110)
        desk.place(account, BUY, 10, 100)
        desk.send(codes.WITHDRAW, account=account, amount_quote=110 - 100)
        if amount == 90:
            desk.mark(102)
            desk.send(codes.WITHDRAW, account=account, amount_quote=10)
            desk.mark(100)
    # At 94: equity 40, 30, 40 against 47.
    started = [e.account for e in desk.mark(94) if e.kind == codes.LIQUIDATION_STARTED]
    assert started == [2, 1, 3]


def test_isolated_after_cross_of_one_account():
    """STEP-003: equal ratios go by account, asset, cross before isolated, market."""
    modes = {"A": "isolated", "B": "cross", "C": "isolated"}
    desk = Desk(*(market(symbol, margin_mode=mode) for symbol, mode in modes.items()))
    for at in (2, 1, 0):
        sent = {"side": BUY, "qty_lot": 10, "price_tick": 100, "market": at, "amount_quote": 60}
        desk.send(codes.ASSIGN, account=1, **sent)
    for at in (0, 1, 2):
        desk.exchange.state.marks[at] = 98  # all at once: equity 40 < 49
    events = desk.exchange.step(Command(kind=codes.FUND_DEPOSIT, amount_quote=1))
    assert [e.market for e in events if e.kind == codes.LIQUIDATION_STARTED] == [-1, 0, 2]


def test_rounds_are_limited(monkeypatch):
    """STEP-004: a run that does not settle is a fault, never a hang."""
    desk = Desk()
    desk.deposit(1, 100)
    desk.level(SELL, 10, 100)
    desk.place(1, BUY, 10, 100)
    monkeypatch.setattr(risk, "ROUNDS_MAX", 1)
    with pytest.raises(InvariantError, match=r"did not settle"):
        desk.mark(90)


def test_margin_calls():
    """STEP-005: once per domain until it is touched; maintenance ceil(M / 2), level ceil(1.2 x that)."""
    desk = Desk(market(margin_call=Decimal("1.2")))
    desk.deposit(1, 100)
    desk.level(SELL, 11, 100)
    desk.place(1, BUY, 10, 100)
    # 96: equity 60, maintenance 48, level ceil(57.6) = 58; 95: 50, 48, 58
    assert names(desk.mark(96)) == ["mark"]
    call = only(desk.mark(95), codes.MARGIN_CALL)
    assert fields(call, "account", "market", "amount_quote", "other_amount_quote", "other") == (1, -1, 50, 48, 0)
    assert names(desk.mark(98)) == ["mark"]
    assert names(desk.mark(95)) == ["mark"]  # not again by the mark alone
    assert desk.exchange.view()[4] == [(1, 0, 100, 1)]
    assert names(desk.deposit(1, 1)) == ["accepted", "margin_call"]  # touched, and 51 is still below 58
    assert desk.exchange.view()[4] == [(1, 0, 101, 1)]
    assert names(desk.deposit(1, 7)) == ["accepted"]
    assert desk.exchange.view()[4] == [(1, 0, 108, 0)]


# ---------------------------------------------------------------- liquidation


def make_long_in_trouble(victim=1000, **changes):
    """Return a desk: account 1 long 10 at 100 with 100, account 2 short against it with `victim`.

    At 94 account 1 has 40 against a maintenance of 47; B = 940 - 40 = 900, 90 a lot.
    """
    desk = Desk(market(**changes))
    desk.deposit(1, 100)
    desk.deposit(2, victim)
    desk.meet(1, 2, 10, 100)
    return desk


def test_a_walk_with_surplus():
    """LIQ-001, LIQ-005: the account gives up its share, what the fill brings beyond it is the fund's."""
    desk = make_long_in_trouble()
    desk.level(BUY, 10, 92)
    events = desk.mark(94)
    assert names(events) == ["mark", "liquidation_started", "liquidation_fill", "fund_credit", "liquidation_ended"]
    started, fill, credit, ended = events[1:]
    assert fields(started, "account", "market", "amount_quote", "other_amount_quote") == (1, -1, 40, 47)
    assert fields(fill, "side", "price_tick", "qty_lot", "bankruptcy_tick", "amount_quote") == (SELL, 92, 10, 90, 20)
    assert fields(credit, "account", "amount_quote", "other_amount_quote") == (1, 20, 0)
    assert fields(ended, "qty_lot", "amount_quote", "fee_quote") == (10, 0, 0)
    assert (desk.wallet(1), desk.holding(1)) == (0, (0, 0, 0))
    assert desk.exchange.view()[5] == [(20, 20)]


def test_fees_of_a_liquidation():
    """LIQ-006: the taker fee first, as far as the surplus goes; the liquidation fee is a name for part of the rest."""
    fees = {"taker_fee": Decimal("0.004"), "maker_fee": Decimal("0.001"), "liquidation_fee": Decimal("0.005")}
    desk = Desk(market(**fees))
    desk.send(codes.ASSIGN, account=1, side=BUY, qty_lot=10, price_tick=100, amount_quote=100)
    desk.deposit(3, 5000)
    desk.place(3, BUY, 9, 92)
    desk.place(3, BUY, 1, 90)
    fills = [e for e in desk.mark(94) if e.kind == codes.LIQUIDATION_FILL]
    # 9 at 92: value 828, share 810, surplus 18; taker fee ceil(3.312) = 4, rest 14, of it ceil(4.14) = 5 named;
    # maker fee ceil(0.828) = 1.  1 at 90: no surplus, so the taker fee ceil(0.36) = 1 and the liquidation fee
    # ceil(0.45) = 1 are waived; maker fee ceil(0.09) = 1.
    assert [fields(e, "amount_quote", "fee_quote", "other_fee_quote") for e in fills] == [(14, 4, 1), (0, 0, 1)]
    credit = only(desk.log, codes.FUND_CREDIT)
    assert fields(credit, "amount_quote", "other_amount_quote") == (14, 5)
    assert only(desk.log, codes.LIQUIDATION_ENDED).fee_quote == 2
    assert (desk.asset().waived_quote, desk.asset().fees_quote, desk.wallet(3)) == (2, 6, 4998)


def test_orders_are_canceled_first():
    """LIQ-003: in all markets, by index, the latest first; then started, so that it cannot trade with itself."""
    desk = Desk(market("A"), market("B"))
    desk.deposit(1, 140)
    desk.level(SELL, 10, 100)
    desk.place(1, BUY, 10, 100)
    desk.place(1, BUY, 1, 93, at=1, order_id=1)
    desk.place(1, BUY, 1, 94, order_id=2)
    desk.place(1, SELL, 5, 120, order_id=3, flags=codes.REDUCE_ONLY)
    events = desk.mark(90)
    assert names(events)[:5] == ["mark", "canceled", "canceled", "canceled", "liquidation_started"]
    assert [(e.order_id, e.code) for e in events[1:4]] == [(3, 5), (2, 5), (1, 5)]
    assert codes.BY_LIQUIDATION == 5


def test_the_fund_pays_fill_by_fill():
    """LIQ-007, DEF-001, EVT-002: each fill below the bankruptcy value is a deficit of its own, paid at once."""
    desk = make_long_in_trouble()
    desk.fund(30)
    desk.level(BUY, 4, 89)
    desk.level(BUY, 6, 87)
    events = desk.mark(94)
    story = ["liquidation_fill", "fund_debit", "deficit"]
    assert names(events) == ["mark", "liquidation_started", *story, *story, "liquidation_ended"]
    deficits = [e for e in events if e.kind == codes.DEFICIT]
    # 4 x (90 - 89) = 4 and 6 x (90 - 87) = 18
    assert [fields(e, "order_id", "amount_quote", "other_amount_quote", "price_tick", "qty_lot") for e in deficits] == [
        (1, 4, 4, 89, 4),
        (2, 18, 18, 87, 6),
    ]
    assert desk.exchange.view()[5] == [(8, 8)]
    assert desk.wallet(1) == 0


def test_a_fill_is_cut_to_what_the_fund_can_pay():
    """LIQ-007, LIQ-008, ADL-001: 5 pay for 2 lots at 88, and the rest is deleveraged."""
    desk = make_long_in_trouble()
    desk.fund(5)
    desk.level(BUY, 10, 88)
    events = desk.mark(94)
    fill, debit = only(events, codes.LIQUIDATION_FILL), only(events, codes.FUND_DEBIT)
    assert fields(fill, "qty_lot", "amount_quote", "order_id") == (2, -4, 1)
    assert fields(debit, "amount_quote", "order_id", "account") == (4, 1, 1)
    started = only(events, codes.ADL_STARTED)
    assert fields(started, "qty_lot", "code", "count") == (8, codes.FUND_SHORT, 1)
    assert fields(started, "bankruptcy_tick", "mark_tick") == (90, 94)
    # B left is 720: account 2 (short 10 at 100) buys 8 for 720: realised -720 + 800 = 80
    adl = only(events, codes.ADL_FILL)
    assert fields(adl, "other", "qty_lot", "amount_quote", "other_amount_quote") == (2, 8, 720, 80)
    assert fields(adl, "rank", "count", "order_id", "price_tick") == (1, 1, 0, 90)
    assert (desk.wallet(1), desk.wallet(2), desk.holding(2)) == (0, 1080, (-2, -200, 0))
    assert desk.exchange.view()[5] == [(1, 1)]


def test_the_walk_stays_inside_its_collar():
    """LIQ-005: 10 % below 94 is 84.6, so 85 is the last price; what lies beyond is not touched."""
    desk = make_long_in_trouble()
    desk.fund(1000)
    desk.level(BUY, 3, 85)
    desk.level(BUY, 10, 84)
    events = desk.mark(94)
    assert [e.price_tick for e in events if e.kind == codes.LIQUIDATION_FILL] == [85]
    assert only(events, codes.ADL_STARTED).code == codes.BOOK_EMPTY
    assert (BUY, 84, 10, 0) in desk.orders()


def test_takeover_and_haircut():
    """LIQ-009, DEF-001, DEF-002, DEF-003: fund, then winners, then nobody."""
    desk = Desk()
    desk.deposit(1, 100)
    desk.deposit(2, 1000)
    desk.fund(20)
    desk.mark(80)
    desk.level(SELL, 5, 80)
    desk.place(2, BUY, 5, 80)
    desk.mark(100)
    desk.level(SELL, 10, 100)
    desk.place(1, BUY, 10, 100)
    # At 85 account 1 has -50, B = 850 + 50 = 900; no bids, no shorts but the outside's: takeover at 85 is 50 short.
    # 20 from the fund; account 2 has gained 25, all of it is cut, and 5 stay unpaid.
    events = desk.mark(85)
    assert names(events) == [
        "mark",
        "liquidation_started",
        "adl_started",
        "takeover",
        "fund_debit",
        "haircut",
        "deficit",
        "liquidation_ended",
    ]
    takeover, debit, haircut, deficit = events[3:7]
    assert fields(takeover, "other", "qty_lot", "price_tick", "amount_quote", "order_id") == (0, 10, 85, 50, 1)
    assert debit.amount_quote == 20
    assert fields(haircut, "account", "amount_quote", "count", "margin_quote") == (2, 25, 1, 0)
    assert fields(deficit, "amount_quote", "other_amount_quote", "fee_quote") == (50, 20, 0)
    assert fields(deficit, "margin_quote", "other_margin_quote", "other_fee_quote") == (25, 5, 0)
    assert (desk.wallet(1), desk.wallet(2), desk.asset().insolvency_quote) == (0, 975, -5)
    # The outside sold 5 at 80 and 10 at 100 and buys 10 back: c = floor(-1400 x 10 / 15) = -934, -466 stay.
    assert desk.holding(0) == (-5, -466, 0)


def test_haircut_in_part():
    """DEF-002: of 33 gained, 30 are needed; each keeps the floor, one unit too much goes to rounding."""
    desk = Desk()
    desk.deposit(1, 110)
    for account in (2, 3):
        desk.deposit(account, 1000)
    for account, qty, price in ((2, 5, 80), (3, 8, 84)):
        desk.mark(price)
        desk.level(SELL, qty, price)
        desk.place(account, BUY, qty, price)
    desk.mark(100)
    desk.level(SELL, 10, 100)
    desk.place(1, BUY, 10, 100)
    # At 85 account 1 has 110 - 150 = -40, B = 890; account 2 has gained 25, account 3 has gained 8.
    desk.fund(10)
    events = desk.mark(85)
    # D = 30, G = 33: keeps floor(25 x 3 / 33) = 2 and floor(8 x 3 / 33) = 0: cuts 23 and 8, 31 together.
    cuts = [fields(e, "account", "amount_quote", "count") for e in events if e.kind == codes.HAIRCUT]
    assert cuts == [(2, 23, 2), (3, 8, 2)]
    deficit = only(events, codes.DEFICIT)
    assert fields(deficit, "margin_quote", "other_margin_quote", "other_fee_quote") == (30, 0, 1)
    assert desk.asset().rounding_quote == 1


def test_a_flat_wallet_below_zero_is_made_whole():
    """LIQ-011: with the market of the last fill; the isolated domain beside it is not touched."""
    desk = Desk(market("A"), market("B", fund="other"))
    desk.deposit(1, 100)
    desk.fund(30, at=1)
    desk.fund(7, at=0)
    desk.level(SELL, 10, 100, at=1)
    desk.place(1, BUY, 10, 100, at=1)
    desk.level(SELL, 0, 100, at=1)
    desk.level(BUY, 10, 80, at=1)
    events = desk.place(1, SELL, 10, 80, at=1, flags=codes.REDUCE_ONLY)
    assert names(events) == [
        "accepted",
        "trade",
        "liquidation_started",
        "fund_debit",
        "deficit",
        "liquidation_ended",
    ]
    deficit = only(events, codes.DEFICIT)
    # 100 - 200 = -100: 30 from the fund of market B, nobody has gained there, 70 unpaid
    assert fields(deficit, "market", "side", "qty_lot", "amount_quote") == (1, 0, 0, 100)
    assert fields(deficit, "other_amount_quote", "other_margin_quote") == (30, 70)
    assert (desk.wallet(1), desk.asset().insolvency_quote) == (0, -70)
    assert desk.exchange.view()[5] == [(7, 7), (0, 0)]


def test_an_isolated_liquidation_leaves_the_wallet_alone():
    """LIQ-010, MARGIN-001: its margin ends at exactly zero; the wallet is another domain."""
    desk = Desk(market(margin_mode="isolated"))
    desk.deposit(1, 1000)
    desk.deposit(2, 1000)
    desk.meet(1, 2, 10, 100)
    events = desk.mark(80)  # margin 100 - 200 = -100 against 40: B = 800 + 100 = 900
    assert fields(only(events, codes.LIQUIDATION_STARTED), "market", "amount_quote") == (0, -100)
    adl = only(events, codes.ADL_FILL)
    # account 2 buys for 900 what it sold for 1000: 100, and gets its margin of 100 back
    assert fields(adl, "margin_quote", "other_margin_quote", "other_amount_quote") == (-100, -100, 100)
    assert fields(only(events, codes.DEFICIT), "amount_quote", "fee_quote") == (100, 100)  # 900 - 800 given up
    assert (desk.wallet(1), desk.wallet(2)) == (900, 1100)
    assert fields(only(events, codes.LIQUIDATION_ENDED), "amount_quote", "qty_lot") == (0, 10)


def test_policies_are_named():
    """LIQ-002, CFG-002, ADL-001: an unknown name is refused, listing the known."""
    assert LiquidationPolicy() == LiquidationPolicy(
        cancel="account", size="full", limit="none", surplus="fund", backstop="adl"
    )
    with pytest.raises(ConfigError, match=r"unknown policy 'half', known: full"):
        build_setup([market(liquidation=LiquidationPolicy(size="half"))])
    assert AdlPolicy() == AdlPolicy(
        trigger="fund_empty", price="bankruptcy", score="bitmex", allocation="queue", fees="on", lights="rank"
    )
    with pytest.raises(ConfigError, match=r"unknown policy 'luck', known: bitmex"):
        build_setup([market(adl=AdlPolicy(score="luck"))])


# ---------------------------------------------------------------- auto-deleveraging


def test_scores():
    """ADL-002, ADL-003, ADL-004: PnL rate times leverage in profit, over leverage in loss; best first."""
    desk = Desk()
    for account, amount in ((2, 1000), (3, 200), (4, 1000), (5, 1000)):
        desk.deposit(account, amount)
    desk.deposit(9, 100_000)
    desk.meet(9, 2, 10, 100)
    desk.meet(9, 3, 10, 100)
    desk.meet(9, 4, 10, 80)
    desk.meet(9, 5, 10, 100)
    desk.mark(90)
    # 2 and 5: u 100, r = 0.1, share 1100, l = floor(900 / 1100) = 0.818181818; 0.0818181818: opened earlier first
    # 3: share 300, l = 3, score 0.3
    # 4: u = -900 + 800 = -100, r = -0.125, share 900, l = 1: -0.125
    queue = desk.exchange.adl_queue(0, SELL)
    assert queue == [(3, 300_000_000, -10), (2, 81_818_181, -10), (5, 81_818_181, -10), (4, -125_000_000, -10)]
    desk.mark(115)
    # 3: u -150, share 50 (maintenance 58: liquidated and gone); 2 and 5: share 850, 4: share 650, r -350/800
    scores = {account: score for account, score, _ in desk.exchange.adl_queue(0, SELL)}
    # 2: r = -0.15, l = floor(1150 / 850) = 1.352941176: floor(-0.15 / 1.352941176) = -0.110869566 (floored)
    assert scores[2] == scores[5] == -150_000_000 * 10**9 // 1_352_941_176 == -110_869_566
    assert 3 not in scores


def test_the_queue_is_served_from_the_front():
    """ADL-004, ADL-005, ADL-006, ADL-008: whole positions, the last in part, orders canceled, notice sent."""
    desk = Desk()
    desk.deposit(1, 200)
    for account, amount in ((2, 1000), (3, 120), (4, 2000)):
        desk.deposit(account, amount)
    for account, qty in ((2, 8), (3, 6), (4, 6)):
        desk.meet(1, account, qty, 100)
    desk.place(2, SELL, 1, 140, order_id=1)
    desk.place(2, BUY, 1, 50, order_id=2)
    # At 85: account 1 has 200 - 300 = -100, B = 1700 + 100 = 1800, 90 a lot.  Scores: 3: r 0.15, share 210,
    # l = 510 / 210 = 2.43; 2: share 1120, l = 680 / 1120 = 0.61; 4: share 2090, l = 510 / 2090 = 0.24.
    events = desk.mark(85)
    fills = [e for e in events if e.kind == codes.ADL_FILL]
    assert [fields(e, "other", "qty_lot", "rank", "count", "amount_quote") for e in fills] == [
        (3, 6, 1, 3, 540),
        (2, 8, 2, 3, 720),
        (4, 6, 3, 3, 540),
    ]
    deficits = [e for e in events if e.kind == codes.DEFICIT]
    assert [fields(e, "amount_quote", "fee_quote") for e in deficits] == [(30, 30), (40, 40), (30, 30)]  # 5 a lot
    story = names(events)
    at = story.index("adl_fill", story.index("adl_fill") + 1)
    assert story[at : at + 5] == ["adl_fill", "deficit", "canceled", "canceled", "adl_notice"]
    assert [e.order_id for e in events if e.kind == codes.CANCELED] == [2, 1]
    notice = [e for e in events if e.kind == codes.ADL_NOTICE][1]
    assert fields(notice, "account", "side", "qty_lot", "other") == (2, SELL, 0, 1)
    assert desk.wallet(2) == 1080  # 8 x (100 - 90)


def test_the_last_victim_keeps_a_part():
    """ADL-004: exactly what is needed, no more."""
    desk = Desk()
    desk.deposit(1, 100)
    desk.deposit(2, 1000)
    desk.deposit(9, 10_000)
    desk.meet(1, 2, 10, 100)
    desk.meet(9, 2, 5, 100)
    events = desk.mark(85)
    assert fields(only(events, codes.ADL_FILL), "qty_lot", "amount_quote", "other_amount_quote") == (10, 900, 100)
    assert fields(only(events, codes.ADL_NOTICE), "qty_lot", "side") == (5, SELL)
    assert desk.holding(2) == (-5, -500, 0)


def test_who_could_not_bear_it_is_skipped():
    """ADL-004, LIQ-009: the rank stays counted, and what the queue leaves is taken over."""
    desk = Desk(market("A"), market("B"))
    desk.deposit(1, 400)
    for at, qty in ((0, 10), (1, 20)):
        desk.level(SELL, qty, 100, at=at)
        desk.place(1, BUY, qty, 100, at=at)
    for account, qty, amount in ((2, 10, 200), (3, 4, 1000)):
        sent = {"side": SELL, "qty_lot": qty, "price_tick": 100, "amount_quote": amount}
        desk.send(codes.ASSIGN, account=account, **sent)
    # B falls to 50: account 1 has 400 - 1000 = -600 with a maintenance of 50 in each market.  A is first (the lower
    # market): share -300, B = 1000 + 300 = 1300, 30 a lot worse than the mark for whoever takes them.
    events = desk.mark(50, at=1)
    # Both candidates have no PnL and score 0, the earlier is first: account 2 would have 200 - 300 and is skipped.
    fills = [e for e in events if e.kind == codes.ADL_FILL]
    assert [fields(e, "other", "qty_lot", "rank", "count", "amount_quote") for e in fills] == [(3, 4, 2, 2, 520)]
    takeovers = [e for e in events if e.kind == codes.TAKEOVER]
    # 6 of A at 100 against 780: 180 short.  B: 1000 + 300 against 20 x 50: 300 short.
    assert [fields(e, "market", "qty_lot", "amount_quote") for e in takeovers] == [(0, 6, 180), (1, 20, 300)]
    assert (desk.wallet(1), desk.asset().insolvency_quote) == (0, -480)
    assert desk.holding(2) == (-10, -1000, 0)


def test_without_equity_nobody_is_in_the_queue():
    """ADL-002: the share must be positive; the outside and the bankrupt are never candidates."""
    desk = Desk(market("A"), market("B"))
    sent = {"side": SELL, "qty_lot": 10, "price_tick": 100}
    desk.send(codes.ASSIGN, account=2, amount_quote=600, **sent)
    desk.send(codes.ASSIGN, account=3, amount_quote=600, **sent)
    desk.exchange.state.wallets[3, 0].balance_quote = 0  # as if its equity were gone between two looks
    assert [account for account, _, _ in desk.exchange.adl_queue(0, SELL)] == [2]
    assert desk.exchange.adl_queue(0, BUY) == []  # only the outside is long


def test_fees_of_deleveraging():
    """ADL-007: the victim pays the maker fee on |B_k|, the bankrupt's taker fee is waived; a rebate is not paid."""
    for maker, victim_fee in ((Decimal("0.002"), 2), (Decimal("-0.002"), 0)):
        desk = Desk(market(maker_fee=maker, taker_fee=Decimal("0.004")))
        desk.send(codes.ASSIGN, account=1, side=BUY, qty_lot=10, price_tick=100, amount_quote=100)
        desk.send(codes.ASSIGN, account=2, side=SELL, qty_lot=10, price_tick=100, amount_quote=1000)
        events = desk.mark(85)
        # |B_k| = 900: maker fee ceil(1.8) = 2; the bankrupt's ceil(3.6) = 4 is waived
        assert fields(only(events, codes.ADL_FILL), "fee_quote", "other_fee_quote") == (0, victim_fee)
        assert only(events, codes.LIQUIDATION_ENDED).fee_quote == 4
        assert (desk.asset().fees_quote, desk.asset().waived_quote) == (victim_fee, 4)
        assert desk.wallet(2) == 1100 - victim_fee
    desk = Desk(market(maker_fee=Decimal("0.002"), taker_fee=Decimal("0.004"), adl=AdlPolicy(fees="off")))
    desk.send(codes.ASSIGN, account=1, side=BUY, qty_lot=10, price_tick=100, amount_quote=100)
    desk.send(codes.ASSIGN, account=2, side=SELL, qty_lot=10, price_tick=100, amount_quote=1000)
    desk.mark(85)
    assert (desk.asset().fees_quote, desk.asset().waived_quote) == (0, 0)


# ---------------------------------------------------------------- funding


def test_funding():
    """FUND-001: payers round up, receivers down, the difference is named; isolated positions pay from their margin."""
    desk = Desk(market(margin_mode="isolated"))
    desk.send(codes.SET_MARGIN_MODE, account=2, amount_quote=codes.CROSS)
    desk.deposit(1, 1000)
    desk.deposit(2, 1000)
    desk.meet(1, 2, 3, 100)
    desk.level(SELL, 2, 100)
    desk.place(1, BUY, 2, 100)
    desk.mark(99)
    events = desk.send(codes.FUNDING, amount_quote=7_000_000)
    # 0.7 %: account 1 pays ceil(495 x 0.007) = ceil(3.465) = 4, account 2 gets floor(297 x 0.007 = 2.079) = 2, the
    # outside floor(198 x 0.007 = 1.386) = 1; 4 - 3 = 1 is rounding.
    assert fields(events[0], "kind", "amount_quote", "price_tick") == (codes.FUNDING_RATE, 7_000_000, 99)
    assert [fields(e, "account", "amount_quote", "margin_quote", "qty_lot") for e in events[1:]] == [
        (0, 1, 0, -2),
        (1, -4, -4, 5),
        (2, 2, 0, -3),
    ]
    assert desk.asset().rounding_quote == 1
    assert desk.holding(1)[2] == 46
    assert len(desk.send(codes.FUNDING, amount_quote=1)) == 2  # one unit is still owed by the payer
    assert [e.amount_quote for e in desk.send(codes.FUNDING, amount_quote=-1)[1:]] == [-1, -1]  # shorts pay, 1 gets 0
    assert rejects(desk.send(codes.FUNDING, amount_quote=10**9 + 1)) == "bad_amount"
    desk = Desk(market(initial_mark=None))
    assert rejects(desk.send(codes.FUNDING, amount_quote=1)) == "no_mark"


def test_funds_are_shared_and_never_negative():
    """FUND-002: two markets, one fund; what one liquidation took the next does not have."""
    desk = Desk(market("A", fund="both"), market("B", fund="both"))
    desk.fund(15)
    for account, at in ((1, 0), (2, 1)):
        sent = {"side": BUY, "qty_lot": 10, "price_tick": 100, "amount_quote": 100, "market": at}
        desk.send(codes.ASSIGN, account=account, **sent)
        desk.level(BUY, 10, 89, at=at)
    desk.mark(94)  # 10 lots 1 below 90: 10
    assert desk.exchange.view()[5] == [(5, 5)]
    desk.mark(94, at=1)  # 5 pay for 5 lots
    assert desk.exchange.view()[5] == [(0, 0)]
    fills = [e for e in desk.log if e.kind == codes.LIQUIDATION_FILL]
    assert [fields(e, "account", "qty_lot", "amount_quote") for e in fills] == [(1, 10, -10), (2, 5, -5)]


# ---------------------------------------------------------------- state


def test_conserved_in_every_example_and_rebuilt_from_events():
    """MONEY-001, MONEY-002: a stream of everything, audited after each command; insolvency never above zero."""
    setup = make_setup(3)
    exchange, auditor = ReferenceExchange(setup), Auditor(setup)
    for command in random_stream(3, setup, 200):
        auditor.feed(exchange.step(command))
        view = View(*exchange.view())
        check_state(view, setup)
        auditor.compare(view)


def test_the_view_has_the_digests_widths():
    """STATE-001: tables of integers, hashed alike for the same state only."""
    desk = make_long_in_trouble()
    view = View(*desk.exchange.view())
    for table, width in zip(view, WIDTHS.values(), strict=True):
        assert all(len(row) == width and all(type(number) is int for number in row) for row in table)
    digest = compute_digest(view)
    assert digest == compute_digest(View(*desk.exchange.view()))
    desk.place(1, BUY, 1, 50)
    assert compute_digest(View(*desk.exchange.view())) != digest


@pytest.mark.parametrize("seed", range(6))
def test_saved_states_continue_alike(seed):
    """STATE-002, STATE-003: a copy shares nothing; a saved state, through JSON, has the same future."""
    setup = make_setup(seed)
    commands = random_stream(seed, setup, 160)
    exchange = ReferenceExchange(setup)
    for command in commands[:80]:
        exchange.step(command)
    loaded = ReferenceExchange.load_state(setup, json.loads(json.dumps(exchange.save_state())))
    copied, before = exchange.copy(), exchange.view()
    assert loaded.view() == before
    futures = [[other.step(command) for command in commands[80:]] for other in (loaded, copied)]
    assert exchange.view() == before
    assert futures[0] == futures[1] == [exchange.step(command) for command in commands[80:]]
    assert loaded.view() == copied.view() == exchange.view()
