"""Every allocation by parts worked by hand, and the pure spreading against what it promises."""

from decimal import Decimal
from fractions import Fraction
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import codes
from engine.codes import BUY, SELL
from engine.contract import Tier
from engine.reference.allotment import Holder, allot, spread
from tests.mirror.adl_desk import Desk, kinds_of, parts_of, rows_of


def deleverage(allocation, holders, lots, entry=120, amount=None, price=100, **policy):
    """Return the desk and the events of deleveraging a long of `lots` against shorts {account: (lots, entry, own)}.

    All stand at a mark of `price` and nothing rests in the book.
    """
    desk = Desk(price=price, policy={"allocation": allocation, **policy})
    for account, (qty, brought, own) in holders.items():
        desk.bring(account, SELL, qty, brought, own)
    own = lots * 10 if amount is None else amount
    return desk, desk.bring(1, BUY, lots, entry, own)


def test_contracts():
    """INT-PR: 7 of 10, 7 and 3 lots are floor(3.5), floor(2.45), floor(1.05), and one more for the largest rest.

    All have 100 a lot and no PnL, so that the queue is in the order of accounts.

    Source: ADL-023, ADL-024, ADL-025.
    """
    holders = {2: (10, 100, 1_000), 3: (7, 100, 700), 4: (3, 100, 300)}
    desk, events = deleverage("pro_rata_contracts", holders, 7)
    assert parts_of(events) == {2: 4, 3: 2, 4: 1}
    assert rows_of(events, codes.ADL_FILL, "rank", "count") == [(1, 3), (2, 3), (3, 3)]
    assert [desk.qty(account) for account in (1, 2, 3, 4)] == [0, -6, -5, -2]


def test_equal_rests_go_to_the_lower_account():
    """Three of 5 lots share 7: 7/3 each, rests 1/3; account 9 is first in the queue and last by number.

    Source: ADL-024.
    """
    holders = {9: (5, 101, 495), 2: (5, 100, 500), 3: (5, 100, 500)}
    _, events = deleverage("pro_rata_contracts", holders, 7)
    assert list(parts_of(events).items()) == [(9, 2), (2, 3), (3, 2)]


def test_chitra():
    """CHITRA-EX in tenths: endowments 80, 40 and 5 lots, 75 to close; by contracts 48, 24, 3.

    The queue with scores 1, 2, 0 takes 40 and 35: with PnL 1, 2 and 0 a lot against equal equity a lot.

    Source: ADL-004, ADL-025.
    """
    holders = {2: (80, 101, 80 * 99), 3: (40, 102, 40 * 98), 4: (5, 100, 500)}
    _, events = deleverage("pro_rata_contracts", holders, 75)
    assert parts_of(events) == {3: 24, 2: 48, 4: 3}
    _, events = deleverage("queue", holders, 75)
    assert list(parts_of(events).items()) == [(3, 40), (2, 35)]


def test_gains():
    """Gains 100, 50 and none share 6 as 4 and 2; of 23 the winners' 20 are not enough, and the third gives 3.

    Source: ADL-024, ADL-025.
    """
    holders = {2: (10, 110, 2_000), 3: (10, 105, 2_000), 4: (10, 100, 2_000)}
    _, events = deleverage("pro_rata_pnl", holders, 6)
    assert parts_of(events) == {2: 4, 3: 2}
    _, events = deleverage("pro_rata_pnl", holders, 23)
    assert parts_of(events) == {2: 10, 3: 10, 4: 3}


def test_equity_and_its_rounding():
    """Equities 760, 150 and 90 share 5: 3.8, 0.75, 0.45.

    By the largest rests the first two get one more: 4 and 1, and account 3 bears 1/150 of its equity a lot.  min_max
    gives both to the first, whose fifth lot is 5/760 < 1/150.

    Source: ADL-025, ADL-027.
    """
    holders = {2: (10, 100, 760), 3: (10, 100, 150), 4: (10, 100, 90)}
    _, events = deleverage("pro_rata_equity", holders, 5)
    assert parts_of(events) == {2: 4, 3: 1}
    _, events = deleverage("min_max", holders, 5)
    assert parts_of(events) == {2: 5}
    _, events = deleverage("min_max", holders, 15)
    # 10 is all the first has; 5 for 150 and 90: levels j/150 and j/90 up to the fifth: 1/150, 1/90, 2/150, 3/150, 2/90
    assert parts_of(events) == {2: 10, 3: 3, 4: 2}


def test_draining():
    """MINMAX-LEV times 3: 30 and 30 and 12 lots at 100 against 300, 600 and 1,200; 18 to close.

    The common level is 14/3: 300 and 600 keep 14 and 28 lots, and the third, at leverage 1, is left alone.
    In single lots 6 of 10, 10 and 4 leave 14 to be kept by 100 and 200: 4 2/3 and 9 1/3, the rest to the first.

    Source: ADL-026.
    """
    _, events = deleverage("leverage_draining", {2: (30, 100, 300), 3: (30, 100, 600), 4: (12, 100, 1_200)}, 18)
    assert parts_of(events) == {2: 16, 3: 2}
    _, events = deleverage("leverage_draining", {2: (10, 100, 100), 3: (10, 100, 200), 4: (4, 100, 400)}, 6)
    assert parts_of(events) == {2: 5, 3: 1}


@pytest.mark.parametrize("allocation", ["pro_rata_contracts", "leverage_draining", "pro_rata_equity", "min_max"])
def test_who_cannot_bear_its_part_gives_less(allocation):
    """Ten lots cost 200 beyond the mark: 60 of equity bears floor(60 x 10 / 200) = 3, the other account gives the rest.

    Long 10 @ 130 with 100: B = 1,000 + 200.  By equity account 2 would give nothing or little anyway.

    Source: ADL-023, ADL-026.
    """
    desk, events = deleverage(allocation, {2: (10, 100, 60), 3: (10, 100, 5_000)}, 10, entry=130, amount=100)
    by_equity = allocation in ("pro_rata_equity", "min_max")
    assert parts_of(events) == ({3: 10} if by_equity else {2: 3, 3: 7})
    assert desk.wallet(2) == (60 if by_equity else 0)
    assert 1 not in rows_of(events, codes.TAKEOVER, "account")


def test_what_nobody_can_bear_is_taken_over():
    """With account 2 alone, 3 lots are deleveraged and 7 taken over at the mark.

    Source: ADL-023, LIQ-009.
    """
    _, events = deleverage("pro_rata_contracts", {2: (10, 100, 60)}, 10, entry=130, amount=100)
    assert parts_of(events) == {2: 3}
    # account 2 has nothing left, and goes next
    assert rows_of(events, codes.TAKEOVER, "account", "qty_lot", "amount_quote") == [(1, 7, 140), (2, 7, 0)]


def test_who_is_passed_over_leaves_its_part_to_the_others():
    """Remainders of rounding cost the last in the queue more than it was reckoned to bear; others take its part.

    Long 9 @ 11 with 6 at 10: B = 93, 3 more than the mark, a third a lot.  Six shorts of 2 lots and one of 6 give 1
    each and 3: account 8, with 1 of equity, can bear floor(1 x 9 / 3) = 3.  But six times floor(10 and a part) = 10
    leave 33 for its 3 lots: it would lose 3.  Anew: 3 lots by contracts over six of 1 lot, the lower accounts.

    Source: ADL-004, ADL-023.
    """
    tiers = (Tier(floor=Decimal(0), initial=Decimal("0.01"), maintenance=Decimal("0.001")),)
    desk = Desk(price=10, policy={"allocation": "pro_rata_contracts", "score": "none"}, tiers=tiers)
    for account in range(2, 8):
        desk.bring(account, SELL, 2, 10, 50)
    desk.bring(8, SELL, 6, 10, 1)
    events = desk.bring(1, BUY, 9, 11, 6)
    assert rows_of(events, codes.ADL_FILL, "other", "amount_quote", "rank") == [
        *((account, 10, account - 1) for account in range(2, 8)),
        *((account, 11, account - 1) for account in range(2, 5)),
    ]
    assert desk.qty(8) == -6


def test_all_are_closed_in_the_order_of_the_queue():
    """Scores 0.3, 0.2 and 0.1 of accounts 4, 2 and 3; every close says its rank, and orders are canceled one by one.

    Source: ADL-008, ADL-023.
    """
    desk = Desk(policy={"allocation": "pro_rata_contracts"})
    for account, entry in ((2, 120), (3, 110), (4, 130)):
        desk.bring(account, SELL, 4, entry, 4 * (200 - entry))
        desk.send(codes.PLACE, account=account, order_id=account, side=BUY, qty_lot=1, price_tick=50)
    events = desk.bring(1, BUY, 6, 120, 60)
    assert rows_of(events, codes.ADL_FILL, "other", "qty_lot", "rank") == [(4, 2, 1), (2, 2, 2), (3, 2, 3)]
    story = [kind for kind in kinds_of(events) if kind in ("adl_fill", "canceled", "adl_notice")]
    assert story == ["adl_fill", "canceled", "adl_notice"] * 3


# ---------------------------------------------------------------- what spreading promises

SMALL = st.integers(0, 12)


@given(st.lists(st.tuples(SMALL, SMALL), min_size=1, max_size=6), st.integers(0, 60), st.booleans())
def test_spread(rows, total, by_level):
    """Parts are whole, within caps, and sum to the total or to all that those with weight can take.

    Source: ADL-024.
    """
    weights = {key: weight for key, (weight, _) in enumerate(rows)}
    caps = {key: cap for key, (_, cap) in enumerate(rows)}
    parts = spread(total, weights, caps, by_level)
    assert all(0 <= parts.get(key, 0) <= caps[key] for key in caps)
    room = sum(cap for key, cap in caps.items() if weights[key])
    assert sum(parts.values()) == min(total, room)
    for (one, part), (other, more) in product(parts.items(), repeat=2):
        # nobody below its cap has less in proportion than another, by more than the lot that cannot be cut
        if part < caps[one] and weights[one] and weights[other] and not by_level:
            assert Fraction(part + 1, weights[one]) > Fraction(more - 1, weights[other])


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 30)), min_size=1, max_size=4), st.integers(0, 12))
def test_min_max_is_the_least_burden(rows, lots):
    """No other choice of whole parts has a smaller largest part in proportion to equity.

    Source: ADL-027.
    """
    holders = [Holder(account, qty, qty, 0, equity) for account, (qty, equity) in enumerate(rows)]
    total = min(lots, sum(holder.qty for holder in holders))
    parts = allot(codes.ALLOT_MIN_MAX, lots, holders)
    assert sum(parts.values()) == total

    def burden(chosen):
        return max(Fraction(part, holder.equity) for part, holder in zip(chosen, holders, strict=True))

    every = product(*(range(holder.qty + 1) for holder in holders))
    least = min(burden(chosen) for chosen in every if sum(chosen) == total)
    assert burden([parts[holder.account] for holder in holders]) == least


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 40)), min_size=1, max_size=5), st.integers(0, 30))
def test_draining_lowers_the_highest_leverage(rows, lots):
    """Nobody gives while another, still holding, is more levered by over a lot.

    Source: ADL-026.
    """
    holders = [Holder(account, qty, qty, 0, equity) for account, (qty, equity) in enumerate(rows)]
    parts = allot(codes.ALLOT_DRAINING, lots, holders)
    assert sum(parts.values()) == min(lots, sum(holder.qty for holder in holders))
    for giver, other in product(holders, repeat=2):
        kept, left = giver.qty - parts[giver.account], other.qty - parts[other.account]
        if parts[giver.account]:
            assert Fraction(kept + 1, giver.equity) > Fraction(left - 1, other.equity)
