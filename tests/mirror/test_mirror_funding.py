"""Funding rates computed from the premium, in both engines: venues' own numbers, and what time does to intervals."""

import copy
from decimal import Decimal

import pytest

from engine import codes
from engine.audit import Auditor
from engine.codes import BUY, FUNDING_PAYMENT, FUNDING_RATE, SELL
from engine.contract import FundingPolicy
from engine.errors import InvariantError
from tests.mirror.pair import COUNT, RATE, Pair, make_market, names
from tests.mirror.streams import HOUR, SECOND


def make_policy(**changes):
    """Return a policy of one sample an hour, paid every hour, without interest; numbers as text are decimals."""
    fields = {"model": "premium", "interval_h": 1, "sample_s": 3600, "interest": "0", "clamp": "0"} | changes
    decimals = {
        name: Decimal(fields[name]) for name in ("interest", "clamp", "cap", "impact_notional") if name in fields
    }
    return FundingPolicy(**fields | decimals)


def make_funded(mark_model="recorded", **changes):
    """Return a market that funds itself, with the mark at 100."""
    return make_market(mark_model=mark_model, initial_mark=Decimal(100), funding=make_policy(**changes))


def rates(events):
    """Return (rate, average premium) of every funding in events."""
    found = events[events["kind"] == FUNDING_RATE]
    return [(int(event["amount_quote"]), int(event["other_amount_quote"])) for event in found]


def payments(events):
    found = events[events["kind"] == FUNDING_PAYMENT]
    return [(int(event["account"]), int(event["amount_quote"])) for event in found]


# ---------------------------------------------------------------- the premium and the rate


def test_middle_of_the_book():
    """Mid 101.5 over 100 is 1.5 %: account 1, long 10 at a mark of 100, pays 15 to the outside.

    Source: FUND-001, FUND-010, FUND-011, FUND-012, FUND-014.
    """
    pair = Pair(make_funded())
    pair.assign(1, BUY, 10, 100, 200)
    pair.index(100)
    pair.touch(101, 102)
    assert len(pair.clock(HOUR - 1)) == 0
    events = pair.clock(HOUR)
    assert rates(events) == [(15_000_000, 15_000_000)]
    assert payments(events) == [(0, 15), (1, -15)]
    assert (int(events["price_tick"][0]), int(events["mark_tick"][0])) == (100, 100)
    assert pair.remembered()[: COUNT + 1] == [15_000_000, 0]


def test_hyperliquid_pays_an_eighth_each_hour_on_the_oracle():
    """Vector hyperliquid-funding-1: impact bid 10100, oracle 10000, interest 0.01 %, clamp 0.05 %: 0.95 % for 8 h.

    An hour's rate is 0.0011875. Short 20 at the oracle's 10000, not at the mark of 11000, gets 237.5, so 237.

    Source: FUND-013, FUND-014, FUND-016.
    """
    policy = make_policy(
        premium="impact",
        impact_notional="20000",
        period_h=8,
        interest="0.0001",
        clamp="0.0005",
        pay_on="index",
        cap="0.04",
    )
    pair = Pair(make_market(initial_mark=Decimal(11_000), funding=policy))
    pair.assign(1, SELL, 20, 11_000, 50_000)
    pair.index(10_000)
    pair.touch(10_100, 10_110)
    events = pair.clock(HOUR)
    assert rates(events) == [(1_187_500, 10_000_000)]
    assert payments(events) == [(0, -238), (1, 237)]
    assert int(events["price_tick"][0]) == 10_000
    assert set(events["mark_tick"].tolist()) == {11_000}


@pytest.mark.parametrize(
    ("bids", "asks", "index", "ppm"),
    [
        ([(9999, "0.1"), (9998, 1)], [(10001, 1)], "9000", 110_911),
        ([(9999, 1)], [(10001, "0.1"), ("10001.5", "0.1"), (10002, 1)], "10003", -129),
        ([(9999, 1)], [(10001, 1)], "10001.9", -89),
        ([(9999, 1)], [(10001, 1)], "10000", 0),  # the index within the touch
        ([(9999, "0.5")], [(9998, "0.5")], "9000", 0),  # neither side has 5000
        ([], [], "9000", 0),
    ],
)
def test_impact_price_as_dydx_says(bids, asks, index, ppm):
    """Vectors dydx-premium-2..4: the impact price of 5,000, in whole lots of 0.0001, truncated to ppm within 1.

    A side that cannot fill it counts nothing; the first rate, an eighth, is the last rate of the market.

    Source: FUND-011, FUND-013.
    """
    sizes = {"tick_size": Decimal("0.1"), "lot_size": Decimal("0.0001"), "quote_unit": Decimal("0.000001")}
    policy = make_policy(premium="impact", impact_notional="5000", period_h=8)
    pair = Pair(make_market(initial_mark=Decimal(10_000), funding=policy, **sizes))
    pair.index(int(Decimal(index) * 10))
    for side, levels in ((BUY, bids), (SELL, asks)):
        for price, qty in levels:
            fields = {"price_tick": int(Decimal(price) * 10), "qty_lot": int(Decimal(qty) * 10_000)}
            pair.send(codes.LEVEL, side=side, **fields)
    ((rate, premium),) = rates(pair.clock(HOUR))
    assert abs(int(premium / 1000) - ppm) <= 1
    assert abs(rate - premium / 8) <= 0.5
    assert pair.remembered()[RATE] == rate


@pytest.mark.parametrize(
    ("premium", "changes", "rate"),
    [
        (20, {"clamp": "0.00025"}, 1_750_000),  # vector deribit-funding-1: max(d, p) + min(-d, p)
        (1, {"clamp": "0.00025"}, 0),  # vector deribit-funding-2
        (1, {"interest": "0.0001", "clamp": "0.0005"}, 100_000),  # within the clamp the rate is the interest
        (20, {"interest": "0.0001", "clamp": "0.0005"}, 1_500_000),
        (-20, {"interest": "0.0001", "clamp": "0.0005"}, -1_500_000),
        (-20, {"interest": "0.0001", "clamp": "0.0005", "cap": "0.001"}, -1_000_000),
        (20, {"period_h": 24, "interest": "0.0001", "clamp": "1"}, 4_167),  # 100000 / 24 = 4166.67
    ],
)
def test_rate_of_a_premium(premium, changes, rate):
    """A premium of so many hundredths of a percent: interest pulls it no further than the clamp, the cap holds it.

    Source: FUND-012, FUND-014.
    """
    pair = Pair(make_market(initial_mark=Decimal(10_000), funding=make_policy(**changes)))
    pair.index(10_000)
    pair.touch(10_000 + premium - 5, 10_000 + premium + 5)
    assert rates(pair.clock(HOUR)) == [(rate, premium * 100_000)]


@pytest.mark.parametrize(("average", "mean"), [("flat", 5_000_000), ("linear", 6_000_000)])
def test_samples_weigh_alike_or_by_their_place(average, mean):
    """Quarters of an hour at 0, 0.5, 1 and 0.5 %: 2 / 4 of a percent, or (0 + 1 + 3 + 2) / 10.

    A book without bids leaves no sample.

    Source: FUND-011, FUND-014.
    """
    pair = Pair(make_funded(sample_s=900, average=average))
    pair.index(1000)
    for quarter, premium in enumerate((0, 5, 10, 5), 1):
        pair.touch(1000 + premium - 1, 1000 + premium + 1)
        events = pair.clock(quarter * HOUR // 4)
    assert rates(events) == [(mean, mean)]
    pair.touch(0, 1003)
    pair.clock(HOUR + HOUR // 4)
    assert pair.remembered()[COUNT] == 0
    pair.touch(1001, 1003)
    assert rates(pair.clock(2 * HOUR)) == [(2_000_000, 2_000_000)]


def test_a_premium_is_held_within_one():
    """A book at 300 over an index of 100 would be 200 %: the sample is 100 %, and so is the rate.

    Source: FUND-011, FUND-014.
    """
    pair = Pair(make_funded())
    pair.index(100)
    pair.touch(299, 301)
    assert rates(pair.clock(HOUR)) == [(10**9, 10**9)]


# ---------------------------------------------------------------- time


def test_ends_of_intervals():
    """Every 8 hours from 4 o'clock on; the first command at or past an end pays, whatever it is.

    Source: FUND-015.
    """
    pair = Pair(make_funded(interval_h=8, offset_h=4))
    pair.index(100)
    pair.touch(101, 103)
    assert rates(pair.clock(4 * HOUR - 1)) == []
    assert rates(pair.clock(4 * HOUR)) == [(20_000_000, 20_000_000)]
    pair.ts_ns = 12 * HOUR + 5
    assert names(pair.send(codes.DEPOSIT, account=1, amount_quote=5)) == ["accepted", "funding_rate"]
    assert rates(pair.clock(20 * HOUR - 1)) == []


def test_several_ends_at_once():
    """Two and a half hours pass in silence: the first hour had samples at 1 and 2 %, the second only at 2 %.

    Long 10 at 100 pays 15, then 20, each on its own; half an hour's sample stays for the next.

    Source: FUND-011, FUND-015.
    """
    pair = Pair(make_funded(sample_s=1800))
    pair.assign(1, BUY, 10, 100, 500)
    pair.index(100)
    pair.touch(100, 102)
    pair.clock(HOUR // 2)
    pair.touch(101, 103)
    events = pair.clock(5 * HOUR // 2)
    assert rates(events) == [(15_000_000,) * 2, (20_000_000,) * 2]
    assert payments(events) == [(0, 15), (1, -15), (0, 20), (1, -20)]
    assert pair.remembered()[COUNT] == 1


def test_a_year_in_one_step():
    """Of 8,760 ends 24 are paid, the others lapse with their samples; an hour without samples pays nothing.

    Source: FUND-015.
    """
    pair = Pair(make_funded(sample_s=1))
    pair.index(100)
    pair.touch(99, 103)
    events = pair.clock(8_760 * HOUR + 7 * SECOND)
    assert rates(events) == [(10_000_000,) * 2] * 24
    assert pair.remembered()[COUNT] == 7
    pair.touch(0, 103)
    assert len(rates(pair.clock(8_761 * HOUR))) == 1
    assert rates(pair.clock(8_762 * HOUR)) == []
    assert pair.remembered()[RATE] == 10_000_000


def test_recorded_rates_do_not_mix_with_computed():
    """Where rates are computed a `funding` is checked and dropped; paid on the index, it needs one.

    Source: FUND-001, FUND-016.
    """
    pair = Pair(make_funded())
    pair.assign(1, BUY, 10, 100, 200)
    assert len(pair.send(codes.FUNDING, amount_quote=10_000_000)) == 0
    (event,) = pair.send(codes.FUNDING, amount_quote=10**9 + 1)
    assert event["code"] == codes.BAD_AMOUNT
    pair = Pair(make_market(initial_mark=Decimal(100), funding=FundingPolicy(pay_on="index")))
    pair.assign(1, BUY, 10, 100, 200)
    (event,) = pair.send(codes.FUNDING, amount_quote=10_000_000)
    assert event["code"] == codes.NO_MARK
    pair.index(90)
    events = pair.send(codes.FUNDING, amount_quote=10_000_000)
    assert rates(events) == [(10_000_000, 0)]
    assert payments(events) == [(0, 9), (1, -9)]


def test_funding_liquidates_at_once():
    """Long 10 @ 100 with 60 owes 20 at 2 %: 40 < 50, sold in the command that ended the hour.

    Source: STEP-001, FUND-015.
    """
    pair = Pair(make_funded())
    pair.assign(1, BUY, 10, 100, 60)
    pair.index(98)
    pair.touch(99, 101)
    pair.send(codes.LEVEL, side=BUY, price_tick=99, qty_lot=20)
    pair.index(100)
    pair.touch(101, 103, qty=20)
    events = pair.clock(HOUR)
    assert names(events)[:5] == [
        "funding_rate",
        "funding_payment",
        "funding_payment",
        "liquidation_started",
        "liquidation_fill",
    ]


def test_the_mark_follows_the_rate():
    """P1 of the next interval has the new rate, in the same command and for its triggers: 100 x (1 + 0.05) = 105.

    Source: STEP-001, MARK-001, MARK-003, FUND-010.
    """
    pair = Pair(make_funded(mark_model="median3", sample_s=1800))
    pair.index(100)
    pair.touch(104, 106)
    pair.clock(HOUR - 1)
    assert pair.mark() == 100  # P1 and the missing last price
    events = pair.clock(HOUR)
    assert names(events) == ["funding_rate", "mark"]
    assert int(events["mark_tick"][0]) == 100
    assert pair.mark() == 105


# ---------------------------------------------------------------- the auditor


def make_story():
    """Return a setup and the events of an hour with one position on each side and the outside's."""
    pair = Pair(make_funded(clamp="0.0005", interest="0.0001"))
    log = []
    for account, side, qty in ((1, BUY, 10), (2, SELL, 4)):
        log.append(pair.assign(account, side, qty, 100, 200))
    pair.index(100)
    pair.touch(101, 103)
    log.append(pair.clock(HOUR))
    return pair.setup, [event for events in log for event in pair.auditor._rows(events)]


def is_refused(setup, events):
    try:
        Auditor(setup).feed(events)
    except InvariantError:
        return True
    return False


def test_the_auditor_knows_the_rate():
    """Every wrong rate, premium or price, and every payment left out, doubled, swapped or made up is refused.

    Source: FUND-010, FUND-014, MONEY-002.
    """
    setup, events = make_story()
    assert not is_refused(setup, events)
    at = [event.kind for event in events].index(FUNDING_RATE)
    assert [event.account for event in events[at + 1 :]] == [0, 1, 2]
    for field, change in (
        ("amount_quote", 1),
        ("other_amount_quote", 1),
        ("price_tick", 1),
        ("mark_tick", -1),
        ("amount_quote", 10**9),
    ):
        wrong = events[at]._replace(**{field: getattr(events[at], field) + change})
        assert is_refused(setup, [*events[:at], wrong, *events[at + 1 :]]), field
    for left_out in range(at, len(events)):
        assert is_refused(setup, events[:left_out] + events[left_out + 1 :])
    assert is_refused(setup, [*events, events[-1]])
    assert is_refused(setup, [*events[:-2], events[-1], events[-2]])


def test_a_recorded_rate_is_held_against_each_payment():
    """A rate 0.1 % higher, or a payment one unit smaller with its rounding, is seen.

    Source: FUND-001, FUND-010.
    """
    pair = Pair(make_market(initial_mark=Decimal(100)))
    log = [pair.assign(1, BUY, 10, 100, 200), pair.send(codes.FUNDING, amount_quote=5_500_000)]
    events = [event for rows in log for event in pair.auditor._rows(rows)]
    assert [event.amount_quote for event in events if event.kind == FUNDING_PAYMENT] == [5, -6]
    assert not is_refused(pair.setup, events)
    for kind, change in ((FUNDING_RATE, 1_000_000), (FUNDING_PAYMENT, 1)):
        wrong = [copy.copy(event) for event in events]
        at = max(place for place, event in enumerate(events) if event.kind == kind)
        wrong[at] = events[at]._replace(amount_quote=events[at].amount_quote + change)
        assert is_refused(pair.setup, wrong)
