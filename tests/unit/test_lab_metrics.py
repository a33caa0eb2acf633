"""The papers' measures, each on numbers that can be worked out by hand."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import codes
from engine.formulas import allocate_min_max, allocate_pro_rata
from engine.lab import metrics
from engine.reference.allotment import Holder, allot

# Four winners: endowments 100, 60, 40 and 40, of which a policy takes 50, 0, 10 and 0.
ENDOWMENTS, TAKEN, EQUITIES = (100, 60, 40, 40), (50, 0, 10, 0), (200, 60, 80, 400)


def test_tracking_is_what_was_taken_too_much_and_too_little():
    """LAB-004: |60 - 50| + |20 - 50| = 40, to the cent for decimals."""
    assert metrics.tracking_regret([60, 20], [50, 50]) == 40
    assert metrics.tracking_regret([Decimal("0.10")], [Decimal("0.30")]) == Fraction(1, 5)


def test_fairness_is_the_distance_to_the_fairest():
    """LAB-004: 50 x |1/4 - 1/10| + 80 x |1/10 - 1/8| = 7.5 + 2: who is fairer than the fairest is at a distance too."""
    largest, fairest = [Fraction(1, 4), Fraction(1, 10)], [Fraction(1, 10), Fraction(1, 8)]
    assert metrics.fairness_regret([50, 80], largest, fairest) == Fraction(19, 2)


def test_overshoot_has_a_sign():
    """LAB-012: (60 - 50) + (20 - 50) = -20."""
    assert metrics.overshoot([60, 20], [50, 50]) == -20


def test_waves_must_be_as_many():
    """LAB-004: a wave without its counterpart is an error, not a shorter sum."""
    with pytest.raises(ValueError, match="zip"):
        metrics.tracking_regret([1, 2], [1])


def test_shares_are_of_equity():
    """LAB-005: 50 of 200, nothing, 10 of 80, nothing."""
    assert metrics.shares_of_equity(TAKEN, EQUITIES) == [Fraction(1, 4), 0, Fraction(1, 8), 0]
    assert metrics.shares_of_equity([0], [0]) == [0]
    with pytest.raises(ValueError, match="equity"):
        metrics.shares_of_equity([1], [0])


def test_shares_are_described_over_those_who_pay():
    """LAB-005: of 0.1, 0.2 ... 1 the median is 0.55, nine tenths lie below 0.91; who pays nothing is not counted."""
    found = metrics.describe_shares([0, *(Fraction(tenth, 10) for tenth in range(1, 11)), 0])
    assert found["payers"] == 10
    assert [found[name] for name in ("p50", "p90", "p99", "max")] == pytest.approx([0.55, 0.91, 0.991, 1.0])
    assert metrics.describe_shares([0, 0]) == {"payers": 0, "p50": 0.0, "p90": 0.0, "p99": 0.0, "max": 0.0}


def test_inversions_are_neighbours_who_change_places():
    """LAB-007: 100, 60, 40, 40 become 50, 60, 30, 40: of the two pairs of different endowment one is inverted."""
    assert metrics.count_inversions(ENDOWMENTS, TAKEN) == (1, 2)
    assert metrics.count_inversions(ENDOWMENTS, [0, 0, 0, 0]) == (0, 2)
    assert metrics.count_inversions([5], [1]) == (0, 0)


def test_pro_rata_of_wealth_never_inverts():
    """LAB-007: it is the same part of everybody's."""
    taken = allocate_pro_rata({str(at): endowment for at, endowment in enumerate(ENDOWMENTS)}, 70).taken
    assert metrics.count_inversions(ENDOWMENTS, list(taken.values())) == (0, 2)


def test_rank_stability_is_a_rank_correlation():
    """LAB-007: the same order 1, the other way round -1; 1, 2.5, 2.5 against 1, 2, 3 is 1.5 / sqrt(1.5 x 2)."""
    before = {1: 1, 2: 2, 3: 3}
    assert metrics.rank_stability(before, {1: 10, 2: 200, 3: 3000, 9: 1}) == pytest.approx(1)
    assert metrics.rank_stability(before, {3: 1, 2: 2, 1: 3}) == pytest.approx(-1)
    assert metrics.rank_stability({1: 1, 2: 2, 3: 2}, before) == pytest.approx(1.5 / 3**0.5)


def test_rank_stability_of_nothing_is_unknown():
    """LAB-007: one account in common, or all alike, says nothing."""
    assert metrics.rank_stability({1: 1, 2: 2}, {2: 2, 3: 3}) is None
    assert metrics.rank_stability({1: 1, 2: 2}, {1: 5, 2: 5}) is None


def test_the_top_winner_is_who_is_left_with_most():
    """LAB-006: 50, 60, 30, 40 are left: not the one who had most before."""
    assert metrics.top_remaining(ENDOWMENTS, TAKEN) == 60
    assert metrics.top_remaining([], []) == 0


def test_solvency_ratios():
    """LAB-006: D = 150, H = 60, v = 60, largest loss 100: 60 / 90, 60 / (0.6 x 100), 60 / (60 + 90)."""
    assert metrics.profit_to_shortfall(60, 150, 60) == Fraction(2, 3)
    assert metrics.profit_to_max_loss(60, 150, 60, 100) == 1
    assert metrics.shortfall_share(60, 150, 60) == Fraction(2, 5)


def test_solvency_ratios_where_nothing_is_left():
    """LAB-006: all paid: no ratio to a shortfall of 0, and 60 / (60 + 0); too much taken: 60 / (60 - 10)."""
    assert metrics.profit_to_shortfall(60, 150, 150) is None
    assert metrics.profit_to_max_loss(60, 150, 150, 100) is None
    assert metrics.profit_to_max_loss(60, 0, 0, 0) is None
    assert metrics.shortfall_share(60, 150, 150) == 1
    assert metrics.shortfall_share(60, 150, 160) == Fraction(6, 5)
    assert metrics.shortfall_share(0, 0, 0) is None


def test_severity_and_its_path():
    """LAB-010: 50 of 200 is 1/4, 300 of 200 is held at 1, back to 1/2: a path of 3/4 + 1/2."""
    thetas = [metrics.severity(50, 200), metrics.severity(300, 200), metrics.severity(100, 200)]
    assert thetas == [Fraction(1, 4), 1, Fraction(1, 2)]
    assert metrics.severity_path(thetas) == Fraction(5, 4)
    assert metrics.severity(5, 0) == 1


def test_the_envelope():
    """LAB-010: sqrt((1 + 2 x 3/2) x (6^2 + 8^2)) = 20; of an irrational root 12 digits."""
    assert metrics.severity_envelope([0, Fraction(3, 2)], [6, 8]) == 20
    root = metrics.severity_envelope([1], [2]) ** 2 - metrics.severity_envelope([0, Fraction(1, 2)], [1]) ** 2
    assert abs(root - 2) < Fraction(1, 10**11)


HOLDERS = st.lists(st.tuples(st.integers(1, 60), st.integers(1, 500)), min_size=1, max_size=7)


@given(HOLDERS, st.data())
def test_min_max_is_the_exchanges_own(holders, data):
    """ADL-027: the same largest part as the engine's integer program, which never gives more than is held."""
    lots = data.draw(st.integers(0, sum(qty for qty, _ in holders)))
    rows = [Holder(account, qty, qty, 0, equity) for account, (qty, equity) in enumerate(holders)]
    ours = allocate_min_max(
        {str(row.account): row.equity for row in rows}, {str(row.account): row.qty for row in rows}, lots
    )
    engine = allot(codes.ALLOT_MIN_MAX, lots, rows)
    assert sum(ours.values()) == lots
    assert all(0 <= ours[str(row.account)] <= row.qty for row in rows)
    largest = max(Fraction(ours[str(row.account)], row.equity) for row in rows)
    assert largest == max(Fraction(engine[row.account], row.equity) for row in rows)


def test_min_max_by_hand():
    """ADL-027: 10 lots over 100, 250, 300 floor to 1, 3, 4; then 4/250 is least, then 5/300, and 2/100 never is."""
    equities = {"a": 100, "b": 250, "c": 300}
    assert allocate_min_max(equities, dict.fromkeys(equities, 10), 10) == {"a": 1, "b": 4, "c": 5}
    assert allocate_min_max(equities, {"a": 10, "b": 3, "c": 10}, 10) == {"a": 2, "b": 3, "c": 5}


def test_min_max_refuses_what_cannot_be_closed():
    """ADL-027."""
    with pytest.raises(ValueError, match="expected 0 to 3"):
        allocate_min_max({"a": 1}, {"a": 3}, 4)
    with pytest.raises(ValueError, match="equity of a"):
        allocate_min_max({"a": 0}, {"a": 3}, 1)
