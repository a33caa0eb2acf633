"""At what price, who bears the gap, when the fund stops paying, and what the lights show; every number by hand."""

from decimal import Decimal

import pytest

from engine import codes
from engine.codes import BOOK_EMPTY, BUY, FUND_HELD, FUND_SHORT, SELL
from engine.contract import LiquidationPolicy, Tier
from engine.errors import InvariantError
from tests.mirror.adl_desk import Desk, kinds_of, parts_of, rows_of
from tests.mirror.streams import Command, pack_commands

DEFICIT = ("amount_quote", "other_amount_quote", "fee_quote", "margin_quote", "other_margin_quote")
BUCKET_NS = 8 * 60 * 1_000_000_000  # a sixtieth of 8 hours

# ---------------------------------------------------------------- prices


def close_far_below(within, fund):
    """Return the desk and events of a long of 100 @ 500 with 1,000 and 100 more: B = 489, and the mark falls to 400.

    Account 2 is short 100 @ 500, account 3 short 10 @ 500; nothing rests in the book.
    """
    tiers = (Tier(floor=Decimal(0), initial=Decimal("0.02"), maintenance=Decimal("0.01")),)
    desk = Desk(price=500, policy={"price": "bankruptcy_within", "within": Decimal(within)}, tiers=tiers)
    if fund:
        desk.fund(fund)
    desk.bring(1, BUY, 100, 500, 1_100)
    desk.bring(2, SELL, 100, 500, 9_000)
    desk.bring(3, SELL, 10, 500, 5_000)
    return desk, desk.mark(400)


def test_the_mark_where_bankruptcy_is_too_far_from_it():
    """89 of 400 is more than 5 %: account 2 keeps all it won, and the fund pays the gap of 8,900.

    Source: ADL-017, ADL-018, ADL-022, EVT-002.
    """
    desk, events = close_far_below("0.05", 10_000)
    fills = rows_of(events, codes.ADL_FILL, "other", "price_tick", "bankruptcy_tick", "amount_quote", "order_id")
    assert fills == [(2, 400, 489, 40_000, 1)]
    assert rows_of(events, codes.DEFICIT, *DEFICIT) == [(8_900, 8_900, 0, 0, 0)]
    assert rows_of(events, codes.FUND_DEBIT, "amount_quote", "order_id") == [(8_900, 1)]
    assert (desk.wallet(1), desk.wallet(2), desk.trigger()) == (0, 19_000, (0, 1_100, 1_100))


def test_the_gap_when_the_fund_is_not_enough():
    """The fund has 5,000, account 3 gained 1,000 and loses it; 2,900 are unpaid, under the same id.

    Source: ADL-022, DEF-002, DEF-003, EVT-002.
    """
    desk, events = close_far_below("0.05", 5_000)
    assert rows_of(events, codes.DEFICIT, *DEFICIT) == [(8_900, 5_000, 0, 1_000, 2_900)]
    assert rows_of(events, codes.HAIRCUT, "account", "amount_quote", "order_id") == [(3, 1_000, 1)]
    at = kinds_of(events).index("adl_fill")
    assert kinds_of(events)[at : at + 5] == ["adl_fill", "fund_debit", "haircut", "deficit", "adl_notice"]
    assert desk.asset()[2] == -2_900


def test_within_is_strict():
    """89 of 400 is exactly 22.25 %: not more than that, so account 2 closes at 489 and gives up the 8,900.

    Source: ADL-006, ADL-018.
    """
    _, events = close_far_below("0.2225", 10_000)
    assert rows_of(events, codes.ADL_FILL, "price_tick", "amount_quote") == [(489, 48_900)]
    assert rows_of(events, codes.DEFICIT, *DEFICIT) == [(8_900, 0, 8_900, 0, 0)]
    _, events = close_far_below("0.222499", 10_000)
    assert rows_of(events, codes.ADL_FILL, "price_tick") == [400]


def test_a_surplus_pays_the_taker_fee_and_then_the_fund():
    """Long 10 @ 100 with 140, deleveraged at the mark of 90: B = 860, 40 are left over.

    The liquidated pays ceil(900 x 0.004) = 4 of them, the fund gets 36; the victim pays ceil(900 x 0.002) = 2.

    Source: ADL-007, ADL-017, ADL-022.
    """
    desk = Desk(policy={"price": "mark"}, maker_fee=Decimal("0.002"), taker_fee=Decimal("0.004"))
    desk.bring(1, BUY, 10, 100, 140)
    desk.bring(2, SELL, 10, 100, 1_000)
    events = desk.mark(90)
    assert rows_of(events, codes.ADL_FILL, "amount_quote", "fee_quote", "other_fee_quote") == [(900, 4, 2)]
    assert rows_of(events, codes.FUND_CREDIT, "amount_quote", "other_amount_quote", "account") == [(36, 0, 1)]
    assert "deficit" not in kinds_of(events)
    assert kinds_of(events)[-5:] == ["adl_started", "adl_fill", "fund_credit", "adl_notice", "liquidation_ended"]
    assert (desk.wallet(1), desk.wallet(2), desk.asset()[0]) == (0, 1_098, 6)


def test_a_surplus_smaller_than_the_fee():
    """With 103 the mark of 90 leaves 3: all go to the fee of 4, 1 is waived, the fund gets nothing.

    Source: ADL-007.
    """
    desk = Desk(policy={"price": "mark"}, taker_fee=Decimal("0.004"))
    desk.bring(1, BUY, 10, 100, 103)
    desk.bring(2, SELL, 10, 100, 1_000)
    events = desk.mark(90)
    assert rows_of(events, codes.ADL_FILL, "fee_quote") == [3]
    assert rows_of(events, codes.LIQUIDATION_ENDED, "fee_quote") == [1]
    assert "fund_credit" not in kinds_of(events)


def test_the_mark_before():
    """Long 10 @ 100 with 100; marks 100, 95, 85: B = 900, and the close is at 95.

    Account 2 gives up 950 - 850 = 100 against the mark; 50 of them are more than B and go to the fund.

    Source: ADL-017, ADL-022.
    """
    desk = Desk(policy={"price": "previous_mark"})
    desk.bring(1, BUY, 10, 100, 100)
    desk.bring(2, SELL, 10, 100, 1_000)
    desk.mark(95)
    desk.mark(95)  # the same again is no other mark
    events = desk.mark(85)
    assert rows_of(events, codes.ADL_FILL, "price_tick", "bankruptcy_tick", "amount_quote") == [(95, 90, 950)]
    assert rows_of(events, codes.DEFICIT, *DEFICIT) == [(100, 0, 100, 0, 0)]
    assert rows_of(events, codes.FUND_CREDIT, "amount_quote") == [50]
    assert rows_of(events, codes.DEFICIT, "price_tick", "qty_lot", "side") == [(95, 10, SELL)]
    assert desk.wallet(2) == 1_050


@pytest.mark.parametrize(("surplus", "fund", "kept"), [("fund", 50, 0), ("trader", 0, 50), ("capped_fee", 19, 31)])
def test_a_surplus_goes_by_its_policy(surplus, fund, kept):
    """As above, 950 for what was bankrupt at 900: the 50 are the fund's, the account's, or 2 % of 950 go to the fund.

    Source: ADL-022, STAGE-007.
    """
    liquidation = LiquidationPolicy(surplus=surplus, surplus_fee=Decimal("0.02"))
    desk = Desk(policy={"price": "previous_mark"}, liquidation=liquidation)
    desk.bring(1, BUY, 10, 100, 100)
    desk.bring(2, SELL, 10, 100, 1_000)
    desk.mark(95)
    events = desk.mark(85)
    assert rows_of(events, codes.ADL_FILL, "price_tick", "amount_quote") == [(95, 950)]
    assert rows_of(events, codes.FUND_CREDIT, "amount_quote") == ([fund] if fund else [])
    assert (desk.wallet(1), desk.wallet(2)) == (kept, 1_050)


def test_between_the_prices_both_pay():
    """A long under water at a mark of 85 after 88: B = 900; at 88 the victim gives up 30, the fund pays the 20 to B.

    Source: ADL-022, EVT-002.
    """
    desk = Desk(price=88, policy={"price": "previous_mark"})
    desk.fund(1_000)
    desk.bring(2, SELL, 10, 100, 1_000)
    desk.mark(85)
    events = desk.bring(1, BUY, 10, 100, 100)
    assert rows_of(events, codes.DEFICIT, *DEFICIT) == [(50, 20, 30, 0, 0)]


def test_without_a_mark_before_the_mark_itself():
    """The first mark has none before it.

    Source: ADL-017.
    """
    desk = Desk(price=85, policy={"price": "previous_mark"})
    desk.fund(1_000)
    desk.bring(2, SELL, 10, 100, 1_000)
    events = desk.bring(1, BUY, 10, 100, 100)
    assert rows_of(events, codes.ADL_FILL, "price_tick") == [85]


def test_the_bankrupt_pays_no_haircut_for_itself():
    """Closed in two parts at a price worse than B, the bankrupt is in profit on what is open when winners are cut.

    Short 10 of A and long 10 of B, both @ 100, with 100; A at 98, then 93, then B at 84: equity 100 + 70 - 160 = 10,
    maintenance 47 + 42, A first: share floor(10 x 47 / 89) = 5, B = -935.  At the mark before, 98, 6 lots exchange
    -588 against floor(-561): 27 short, nothing in the fund.  Account 3, long 6 @ 80, gained 78 and is cut by 27; what
    account 1 gained on its other 4 lots is not touched.  Then 4 lots: -392 against -374, 18 short.

    Source: ADL-022, DEF-002.
    """
    desk = Desk(markets=2, policy={"price": "previous_mark"})
    desk.bring(1, SELL, 10, 100, 100)
    desk.bring(1, BUY, 10, 100, 0, market=1)
    desk.bring(2, BUY, 6, 80, 300)
    desk.bring(3, BUY, 6, 80, 400)
    desk.mark(98)
    desk.mark(93)
    events = desk.mark(84, market=1)
    assert rows_of(events, codes.HAIRCUT, "account", "amount_quote", "count")[:2] == [(3, 27, 1), (3, 18, 1)]


# ---------------------------------------------------------------- triggers


def walk(trigger, fund, bids):
    """Return the desk and events of a long 10 @ 100 with 100 at 85: B = 90 a lot, share -50, bids {price: lots}."""
    desk = Desk(policy={"trigger": trigger})
    desk.fund(fund)
    desk.bring(1, BUY, 10, 100, 100)
    desk.bring(2, SELL, 10, 100, 1_000)
    for price, qty in bids.items():
        desk.bid(price, qty)
    return desk, desk.mark(85)


def test_the_fund_pays_until_it_is_empty():
    """At 84 a lot costs 6: 50 pay for 8 lots, and the rest is deleveraged because the fund is short.

    Source: ADL-001, LIQ-007.
    """
    _, events = walk("fund_empty", 50, {84: 10})
    assert rows_of(events, codes.LIQUIDATION_FILL, "qty_lot", "price_tick") == [(8, 84)]
    assert rows_of(events, codes.ADL_STARTED, "qty_lot", "code") == [(2, FUND_SHORT)]


def test_the_fund_and_the_share_together():
    """50 of fund and a share of -50 are 0: the fund pays nothing, though it could.

    With 51 it pays 48 for 8 lots; then 3 and 2 lots at -5 are below 0.  A bid at 91 is better than B and is taken even
    so: 3 more in the fund against 7 lots at -5 lets it pay 42 for the rest.  Without any bid nobody held it back.

    Source: ADL-019.
    """
    desk, events = walk("equity", 50, {84: 10})
    assert "liquidation_fill" not in kinds_of(events)
    assert rows_of(events, codes.ADL_STARTED, "qty_lot", "code") == [(10, FUND_HELD)]
    assert desk.trigger() == (0, 50, 50)
    desk, events = walk("equity", 51, {84: 10})
    assert rows_of(events, codes.LIQUIDATION_FILL, "qty_lot") == [8]
    assert rows_of(events, codes.ADL_STARTED, "qty_lot", "code") == [(2, FUND_HELD)]
    assert desk.trigger() == (0, 3, 3)
    _, events = walk("equity", 50, {91: 3, 84: 10})
    assert rows_of(events, codes.LIQUIDATION_FILL, "qty_lot", "price_tick") == [(3, 91), (7, 84)]
    _, events = walk("equity", 50, {})
    assert rows_of(events, codes.ADL_STARTED, "qty_lot", "code") == [(10, BOOK_EMPTY)]


def watched(peak, **policy):
    """Return a desk whose fund has just been given its peak, at the very start of a bucket."""
    desk = Desk(policy={"trigger": "drawdown", **policy}, price_max=Decimal(10_000_000))
    desk.fund(peak)
    return desk


def lose(desk, amount):
    """Have the fund pay `amount`: a lot that costs so much more than the mark it is sold at, and no margin."""
    desk.bid(100, 1)
    return desk.bring(1, BUY, 1, 100 + amount, 0)


@pytest.mark.parametrize(
    ("peak", "balance", "active"),
    [
        (1_000_000, 650_000, 1),  # bybit-adl-trigger-1: -0.35
        (2_000_000, 1_400_000, 0),  # bybit-adl-trigger-2: exactly -0.30, and the rule is strict
        (2_000_000, 1_399_999, 1),
        (1_000_000, 439_027, 1),  # bybit-adl-trigger-4: -0.560973
        (20_000, 13_000, 1),  # bybit-adl-trigger-6: (8,000 - 1,000) / 20,000 = 0.35
    ],
)
def test_down_by_more_than_the_drawdown(peak, balance, active):
    """Active once more than 30 % of the peak are gone.

    Source: ADL-020, ADL-029.
    """
    desk = watched(peak)
    lose(desk, peak - balance)
    assert desk.trigger() == (active, balance, peak)


def test_while_active_the_book_is_not_paid_for():
    """1,000 fall to 650: the next fill worse than B is deleveraged although the fund could pay; a better one trades.

    At 750 exactly a quarter is gone and nothing changes; at 751 the fund pays again.

    Source: ADL-019, ADL-020.
    """
    desk = watched(1_000)
    desk.bring(2, SELL, 50, 100, 90_000)
    lose(desk, 350)
    events = lose(desk, 10)
    assert rows_of(events, codes.ADL_STARTED, "code") == [FUND_HELD]
    assert parts_of(events) == {2: 1}
    assert rows_of(events, codes.DEFICIT, *DEFICIT) == [(10, 0, 10, 0, 0)]
    desk.bid(100, 0)
    desk.bid(103, 1)
    events = desk.bring(1, BUY, 1, 102, 0)  # at 103 it gets back more than it lost
    assert "adl_started" not in kinds_of(events)
    assert desk.trigger() == (1, 651, 1_000)
    desk.fund(99)
    assert desk.trigger() == (1, 750, 1_000)
    desk.fund(1)
    assert desk.trigger() == (0, 751, 1_000)
    events = lose(desk, 10)
    assert rows_of(events, codes.FUND_DEBIT, "amount_quote") == [10]


def test_the_peak_leaves_the_window():
    """The peak of bucket 0 counts through bucket 59 and is gone in bucket 60; then 650 of 650 are there.

    Source: ADL-021.
    """
    desk = watched(1_000)
    lose(desk, 350)
    desk.ts_ns = 60 * BUCKET_NS - 1
    desk.send(codes.CLOCK)
    assert desk.trigger() == (1, 650, 1_000)
    desk.ts_ns = 60 * BUCKET_NS
    desk.send(codes.CLOCK)
    assert desk.trigger() == (0, 650, 650)
    # a command that is refused does not move time
    desk.fund(1_000)
    desk.ts_ns = 500 * BUCKET_NS
    desk.fund(0)
    desk.ts_ns = 60 * BUCKET_NS
    assert desk.trigger() == (0, 1_650, 1_650)


def test_what_the_fund_came_into_a_bucket_with_counts():
    """1,000 held until bucket 7, 600 since: bucket 7 still had 1,000 at its start, and so has the peak until 67.

    Source: ADL-021.
    """
    for steps in (((66, 1_000), (67, 600), (500, 600)), ((122, 600),)):  # at once, too, past all that was kept
        desk = watched(1_000, drawdown=Decimal("0.5"), release=Decimal("0.5"))
        desk.ts_ns = 7 * BUCKET_NS + 5
        lose(desk, 400)
        for bucket, peak in steps:
            desk.ts_ns = bucket * BUCKET_NS
            desk.send(codes.CLOCK)
            assert desk.trigger() == (0, 600, peak)


def test_markets_watch_one_fund_each_by_its_own_rule():
    """A loss in one market is seen by the other that names the same fund; state is copied, saved and told apart.

    Source: ADL-020, STATE-001, STATE-002.
    """
    desk = Desk(markets=2, policy={"trigger": "drawdown"}, price_max=Decimal(10_000_000))
    desk.fund(1_000)
    digests = {desk.twins.fast.view().adl.tobytes()}
    lose(desk, 400)
    assert desk.trigger(0) == desk.trigger(1) == (1, 600, 1_000)
    digests.add(desk.twins.fast.view().adl.tobytes())
    assert len(digests) == 2
    for engine in (desk.twins.fast, desk.twins.plain):
        copied = engine.copy()
        engine.restore(engine.dump())
        assert copied.read_trigger(1) == engine.read_trigger(1) == (1, 600, 1_000)


def test_a_held_fund_still_pays_where_nobody_is_asked_instead():
    """Active, and nobody to deleverage: what is taken over is paid by the fund, not cut from winners.

    Source: ADL-019, LIQ-009.
    """
    desk = watched(1_000)
    lose(desk, 350)
    events = lose(desk, 10)
    assert rows_of(events, codes.ADL_STARTED, "code", "count") == [(FUND_HELD, 0)]
    assert rows_of(events, codes.TAKEOVER, "amount_quote") == [10]
    assert rows_of(events, codes.DEFICIT, *DEFICIT) == [(10, 10, 0, 0, 0)]


# ---------------------------------------------------------------- who is asked, and what it is told

SIX = {2: 5_500, 3: 2_500, 4: 2_000, 5: 3_000, 6: 2_000, 7: 5_000}  # A to F, ranked by ever lower entries


def desk_of_six(**policy):
    """Return a desk with the six shorts of Bybit's example, and a bid far below."""
    fees = {"maker_fee": Decimal("0.0002"), "taker_fee": Decimal("0.0006")}
    desk = Desk(policy=policy, **fees)
    for place, (account, qty) in enumerate(SIX.items()):
        desk.bring(account, SELL, qty, 120 - place, qty * 100)
        desk.send(codes.PLACE, account=account, order_id=account, side=BUY, qty_lot=5, price_tick=80)
    return desk


def test_six_shorts_by_rank():
    """Ranks 1 to 6 of six are fifths 1, 2, 3, 3, 4, 5: five bars for A, four for B, three for C and D, two, one.

    Source: ADL-009 (bybit-adl-lights-1).
    """
    desk = desk_of_six()
    assert [row[0] for row in desk.queue()] == list(SIX)
    assert [row[3] for row in desk.queue()] == [5, 4, 3, 3, 2, 1]


def test_six_shorts_are_closed_from_the_front():
    """5,000 take A and leave it 500; 10,000 take A, B and C whole (bybit-adl-queue-2).

    Each pays the maker fee on what is exchanged at B = 110, ceil(0.0002 x 110 x lots); the liquidated has nothing for
    its taker fee.  Orders in the market are canceled, and everybody is told what it has left.

    Source: ADL-004, ADL-007, ADL-008.
    """
    desk = desk_of_six()
    events = desk.bring(1, BUY, 5_000, 115, 25_000)
    assert rows_of(events, codes.ADL_FILL, "other", "qty_lot", "fee_quote", "other_fee_quote") == [(2, 5_000, 0, 110)]
    assert rows_of(events, codes.ADL_NOTICE, "account", "side", "qty_lot") == [(2, SELL, 500)]
    assert rows_of(events, codes.CANCELED, "account", "code") == [(2, codes.BY_ADL)]
    assert rows_of(events, codes.LIQUIDATION_ENDED, "fee_quote") == [330]
    desk = desk_of_six()
    events = desk.bring(1, BUY, 10_000, 115, 50_000)
    assert parts_of(events) == {2: 5_500, 3: 2_500, 4: 2_000}
    assert rows_of(events, codes.ADL_FILL, "other_fee_quote") == [121, 55, 44]
    assert rows_of(events, codes.ADL_NOTICE, "qty_lot") == [0, 0, 0]


def test_the_liquidated_pays_the_taker_fee_where_the_price_leaves_something():
    """At the mark of 100 with B = 96 there are 20,000 over for 5,000 lots: ceil(500,000 x 0.0006) = 300 is paid.

    Source: ADL-007, ADL-022.
    """
    desk = desk_of_six(price="mark")
    events = desk.bring(1, BUY, 5_000, 115, 95_000)
    assert rows_of(events, codes.ADL_FILL, "other", "fee_quote", "other_fee_quote") == [(2, 300, 100)]
    assert rows_of(events, codes.FUND_CREDIT, "amount_quote") == [19_700]


def test_orders_of_victims_may_rest_on():
    """With `cancel_victims` off A keeps its order, and is told all the same.

    Source: ADL-008.
    """
    desk = desk_of_six(cancel_victims="off")
    events = desk.bring(1, BUY, 5_000, 115, 25_000)
    assert "canceled" not in kinds_of(events)
    assert rows_of(events, codes.ADL_NOTICE, "account", "qty_lot") == [(2, 500)]
    assert len([row for row in desk.twins.plain.view().orders if row[4] == 2]) == 1


def test_lights_by_quantity():
    """bitmex-adl-queue-1: 10, 20, 30, 10, 10, 20 lots by rank make 10, 30, 60, 70, 80 and 100 % of the side.

    Source: ADL-028.
    """
    desk = Desk(policy={"lights": "quantity"})
    for place, (account, qty) in enumerate({3: 10, 6: 20, 5: 30, 2: 10, 7: 10, 4: 20}.items()):
        desk.bring(account, SELL, qty, 120 - place, qty * 100)
    assert [row[0] for row in desk.queue()] == [3, 6, 5, 2, 7, 4]
    assert [row[3] for row in desk.queue()] == [5, 4, 3, 2, 2, 1]


# ---------------------------------------------------------------- the third opinion


@pytest.mark.parametrize(
    ("kind", "name", "wrong"),
    [(codes.ADL_FILL, "price_tick", 90), (codes.ADL_FILL, "fee_quote", 3), (codes.ADL_STARTED, "code", FUND_SHORT)],
)
def test_the_auditor_refuses_another_price_fee_or_reason(kind, name, wrong):
    """It knows the policy, the mark before and the fund's peak from events alone.

    Source: MONEY-002, ADL-007, ADL-017, ADL-019.
    """
    policy = {"price": "previous_mark", "trigger": "equity"}
    desk = Desk(policy=policy, taker_fee=Decimal("0.004"))
    desk.fund(20)
    desk.bring(1, BUY, 10, 100, 100)
    desk.bring(2, SELL, 10, 100, 1_000)
    desk.mark(95)
    desk.bid(84, 10)
    auditor = desk.twins.auditor
    rows = desk.twins.fast.apply(pack_commands([Command(kind=codes.MARK, price_tick=85)]))
    assert rows_of(rows, codes.ADL_STARTED, "code") == [FUND_HELD]
    rows[name][rows["kind"] == kind] = wrong
    with pytest.raises(InvariantError, match=name):
        auditor.feed(rows)
