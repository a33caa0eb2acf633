"""Waves rebuilt from events, and every policy on them: a desk whose numbers can be done in the head, random streams."""

from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import codes
from engine.codes import BUY, SELL
from engine.formulas import as_decimal
from engine.lab.compare import compare, list_policies
from engine.lab.policies import BY_LOTS, bearable_lots, divide, rank_by
from engine.lab.waves import Wave, WaveReader, Winner
from engine.reference.exchange import ReferenceExchange
from engine.replay.tally import Tally
from tests.mirror.adl_desk import Desk, rows_of
from tests.mirror.streams import make_setup, random_stream
from tests.unit.test_audit import pack_events

SECOND = 10**9


class Ledger(Desk):
    """A desk that keeps its events."""

    def __init__(self, **changes):
        self.events = []
        super().__init__(**changes)

    def send(self, kind, **fields):
        """Apply a command and keep its events."""
        self.events.append(super().send(kind, **fields))
        return self.events[-1]

    def read(self, gap_ns=5 * SECOND, horizon_ns=0):
        """Return (waves, totals) of all events so far."""
        return WaveReader(self.twins.setup, gap_ns, horizon_ns).read(self.events)


def crash(policy=None, mark=90, **changes):
    """A long of 100 lots goes bankrupt at 95 while the mark is 90: 5 a lot to three shorts of 40, 50 and 60 lots.

    Their gains are 800, 700, 720, their equities 1800, 2700, 6720, their leverage 2, 5/3, 45/56.
    """
    ledger = Ledger(policy=policy, **changes)
    ledger.bring(1, BUY, 100, 100, 500)
    ledger.bring(2, SELL, 40, 110, 1000)
    ledger.bring(3, SELL, 50, 104, 2000)
    ledger.bring(4, SELL, 60, 102, 6000)
    ledger.mark(mark)
    return ledger


def describe(wave):
    return [(w.account, w.qty_lot, w.pnl_quote, w.equity_quote) for w in wave.winners]


# ---------------------------------------------------------------- waves


def test_a_wave_is_what_stood_before_it():
    """LAB-001, LAB-002: three winners in the queue's order, as they stood before the first close; all of it needed."""
    (wave,), totals = crash().read()
    assert describe(wave) == [(2, 40, 800, 1800), (3, 50, 700, 2700), (4, 60, 720, 6720)]
    assert (wave.market, wave.side, wave.lots, wave.lot_quote) == (0, SELL, 100, 90)
    assert (wave.deficit_quote, wave.largest_quote, wave.needed_quote, wave.taken_quote) == (500, 500, 500, 500)
    assert totals == (3, 500, 0, 500, 0, 0)


def test_what_a_winner_gave_is_against_the_mark():
    """LAB-003, ADL-006: 5 for each of the lots closed, from the front of the queue."""
    (wave,), _ = crash().read()
    assert [(w.account, w.closed_lot, w.taken_quote) for w in wave.winners] == [(2, 40, 200), (3, 50, 250), (4, 10, 50)]


def test_a_gap_parts_waves():
    """LAB-001: a second bankruptcy after 5 s belongs to the first wave, after a moment more to another."""
    for late, expected in ((5 * SECOND, 1), (5 * SECOND + 1, 2)):
        ledger = crash()
        ledger.bring(5, BUY, 20, 100, 300)
        ledger.ts_ns = late
        ledger.mark(80)
        waves, totals = ledger.read()
        assert len(waves) == expected
        assert sum(wave.deficit_quote for wave in waves) == totals.deficit_quote == 600
        assert [wave.end_ns for wave in waves][-1] == late


def test_longs_and_shorts_are_waves_apart():
    """LAB-001: a short that goes bankrupt a second later is paid by longs, in a wave of theirs."""
    ledger = crash()
    ledger.bring(5, SELL, 20, 90, 90)
    ledger.bring(6, BUY, 20, 85, 500)
    ledger.ts_ns = SECOND
    ledger.mark(100)
    waves, _ = ledger.read()
    assert [(wave.side, [winner.account for winner in wave.winners]) for wave in waves] == [
        (SELL, [2, 3, 4]),
        (BUY, [6]),
    ]


def test_the_funds_part_is_in_the_deficit_and_not_in_the_need():
    """LAB-002, LIQ-007: 100 of fund pay for 20 lots sold at 90; the other 80 are closed."""
    ledger = Ledger()
    ledger.fund(100)
    ledger.bid(90, 100)
    ledger.bring(1, BUY, 100, 100, 500)
    ledger.bring(2, SELL, 40, 110, 1000)
    ledger.bring(3, SELL, 50, 104, 2000)
    ledger.mark(90)
    (wave,), totals = ledger.read()
    assert (wave.deficit_quote, wave.by_fund_quote, wave.needed_quote, wave.lots) == (500, 100, 400, 80)
    assert (wave.largest_quote, totals.paid_by_fund_quote) == (500, 100)
    row = compare([wave], ["queue"])["run"]
    # left are 800 - 200 and 700 - 200: v = 600; D - H = 100, a fifth of the largest loss
    assert (row["ptsr"], row["pmr"], row["rd_nse"]) == pytest.approx((6, 6, 6 / 7))


def test_cuts_are_counted_with_their_rounding():
    """LAB-003, DEF-002: at price `mark` victims lose nothing, and the gap is cut from whoever still has gains."""
    ledger = crash({"price": "mark"})
    (wave,), totals = ledger.read()
    cuts = sum(sum(rows_of(events, codes.HAIRCUT, "amount_quote")) for events in ledger.events)
    assert (wave.by_adl_quote, wave.by_haircut_quote, totals.paid_by_haircut_quote) == (0, 500, 500)
    assert wave.taken_quote == cuts > 500
    assert wave.lots == 100  # the deficits are those of closes
    assert [winner.is_candidate for winner in wave.winners] == [True] * 3


def test_gains_are_told_beside_what_was_taken():
    """LAB-003, LAB-012: at 98 a bankrupt of 95 gives its victim 3 a lot; at 90 one of 93 takes 3 a lot."""
    ledger = Ledger()
    ledger.bring(1, BUY, 10, 100, 50)
    ledger.bring(2, SELL, 40, 110, 1000)
    ledger.mark(98)
    ledger.bring(3, BUY, 10, 98, 50)
    ledger.ts_ns = SECOND
    ledger.mark(90)
    (wave,), totals = ledger.read()
    (winner,) = wave.winners
    assert (winner.closed_lot, winner.gained_quote, winner.taken_quote) == (20, 30, 30)
    assert (wave.needed_quote, totals.paid_by_adl_quote) == (30, 30)
    # held until the end it would have gained 5 a lot more on the first ten, 3 on the others
    assert wave.marked_out_quote == 50 + 30


def test_marking_out_asks_what_was_missed():
    """LAB-012: closed at 95, worth 90 when the wave ends and 80 a second later: 5 and 15 a lot."""
    ledger = crash()
    ledger.ts_ns = SECOND
    ledger.mark(80)
    for horizon, each in ((0, 5), (SECOND - 1, 5), (SECOND, 15)):
        (wave,), _ = ledger.read(gap_ns=0, horizon_ns=horizon)
        assert wave.marked_out_quote == 100 * each
        assert wave.needed_quote == 500


@pytest.mark.parametrize("seed", range(0, 48, 3))
def test_waves_tie_with_the_tally_of_any_stream(seed):
    """LAB-003, EVT-002: whatever happens, the waves' payers are the run's, to the unit."""
    setup = make_setup(seed)
    exchange = ReferenceExchange(setup)
    rows = [pack_events(exchange.step(command)) for command in random_stream(seed, setup, 150)]
    waves, totals = WaveReader(setup, gap_ns=SECOND).read(rows)
    tally = Tally(setup)
    tally.fold(np.concatenate(rows))
    assert all(getattr(totals, name) == tally.sums[name] for name in totals._fields[1:])
    assert totals.deficits == tally.count(codes.DEFICIT)
    assert sum(wave.by_adl_quote for wave in waves) == totals.paid_by_adl_quote
    variations = find_variation_cuts(np.concatenate(rows))
    taken, gained = (sum(getattr(wave, name) for wave in waves) for name in ("taken_quote", "gained_quote"))
    assert taken == tally.sums["adl_loss_quote"] + tally.sums["haircut_quote"] - variations
    assert gained == tally.sums["adl_gain_quote"]
    if not variations:
        assert sum(wave.by_haircut_quote for wave in waves) == totals.paid_by_haircut_quote


@pytest.mark.parametrize("seed", range(0, 48, 3))
def test_the_queue_of_any_stream_is_the_engines(seed):
    """LAB-002, ADL-002: where a wave begins with a close, its victim has the rank and the score of the event."""
    setup = make_setup(seed)
    exchange = ReferenceExchange(setup)
    events = np.concatenate([pack_events(exchange.step(command)) for command in random_stream(seed, setup, 150)])
    paid = events[np.isin(events["kind"], (codes.ADL_FILL, codes.HAIRCUT))]
    waves, _ = WaveReader(setup, gap_ns=0).read([events])
    for wave in waves:
        first = paid[(paid["ts_ns"] == wave.start_ns) & (paid["market"] == wave.market)][0]
        if first["kind"] == codes.ADL_FILL and first["side"] == wave.side:
            scores = rank_by(wave, codes.POLICIES["adl_score"][setup.markets[wave.market].adl_score])
            assert wave.winners[first["rank"] - 1].account == first["other"]
            assert scores[str(first["other"])] == first["other_order_id"]
            assert len(scores) == first["count"]


def find_variation_cuts(events):
    """Return what winners of settlements at the mark got less (CASH-004): no wave has it."""
    rows = events[(events["kind"] == codes.VARIATION) & (events["amount_quote"] > 0)]
    return int((rows["amount_quote"] - rows["other_amount_quote"]).sum())


def test_the_streams_hold_every_payer():
    """The test above sees ADL, haircuts and settlements."""
    kinds = Counter()
    for seed in range(0, 48, 3):
        setup = make_setup(seed)
        exchange = ReferenceExchange(setup)
        kinds.update(event.kind for command in random_stream(seed, setup, 150) for event in exchange.step(command))
    assert all(kinds[kind] for kind in (codes.ADL_FILL, codes.HAIRCUT, codes.VARIATION))


# ---------------------------------------------------------------- policies


def lots_under(policy, wave):
    """Return the lots each winner gives."""
    return [part * wave.lots / wave.needed_quote for part in divide(wave, policy)]


@pytest.mark.parametrize("policy", BY_LOTS)
def test_the_runs_own_policy_is_what_the_run_did(policy):
    """LAB-008: one bankrupt under each allocation of the exchange: the same lots, to less than one where it rounds."""
    (wave,), _ = crash({"allocation": policy}).read()
    done = [winner.closed_lot for winner in wave.winners]
    assert sum(done) == 100
    computed = lots_under(policy, wave)
    assert all(abs(lots - own) < 1 for lots, own in zip(computed, done, strict=True))
    if policy in ("queue", "pro_rata_contracts", "min_max"):
        assert computed == done


def test_every_policy_by_hand():
    """LAB-008, LAB-009: 100 lots at 5, or 500 of money, among three winners."""
    (wave,), _ = crash().read()
    money = {
        "queue": [200, 250, 50],
        "pro_rata_contracts": [135, 165, 200],  # 26.67, 33.33, 40 lots; the largest rest rounds up
        "pro_rata_pnl": [Fraction(500 * gain, 2220) for gain in (800, 700, 720)],
        "pro_rata_equity": [Fraction(500 * equity, 11220) for equity in (1800, 2700, 6720)],
        # 4,500 of exposure are kept, in proportion to equity
        "leverage_draining": [
            5 * (qty - Fraction(4500 * equity, 11220 * 90)) for qty, equity in ((40, 1800), (50, 2700), (60, 6720))
        ],
        "min_max": [80, 120, 300],  # 16.04, 24.06, 59.89 lots: 60 of 6720 is less than 17 of 1800 or 25 of 2700
        "haircut_wealth": [Fraction(500 * gain, 2220) for gain in (800, 700, 720)],
        # leverage 2, 5/3 and 45/56, floored to 10^-9
        "haircut_levered": [
            Fraction(500 * weight, 800 * 2_000_000_000 + 700 * 1_666_666_666 + 720 * 803_571_428)
            for weight in (800 * 2_000_000_000, 700 * 1_666_666_666, 720 * 803_571_428)
        ],
        "haircut_vector": [Fraction(500 * gain**2, 800**2 + 700**2 + 720**2) for gain in (800, 700, 720)],
    }
    assert set(money) == set(list_policies())
    for policy, expected in money.items():
        assert divide(wave, policy) == expected, policy


def test_the_table_by_hand():
    """LAB-004, LAB-005, LAB-006, LAB-007: the run's row; the fairest takes 300 of 6720, the queue 200 of 1800."""
    (wave,), _ = crash().read()
    rows = compare([wave], list_policies())
    row = rows["run"]
    assert {key: value for key, value in row.items() if key != "shares"} == {
        "taken_quote": 500,
        "tracking_quote": 0,
        "fairness_quote": 33,  # 500 x (1/9 - 5/112)
        "total_quote": 33,
        "mean_max_share": pytest.approx(1 / 9),
        "ptsr": None,
        "pmr": None,
        "rd_nse": 1.0,
        "inversions": 1,  # 600, 450, 670 are left of 800, 700, 720
        "neighbours": 2,
        "rank_stability": None,
    }
    assert row["shares"]["payers"] == 3
    assert row["shares"]["max"] == pytest.approx(1 / 9)
    assert row == rows["queue"]
    assert rows["min_max"]["fairness_quote"] == 0
    assert min(row["mean_max_share"] for row in rows.values()) == rows["pro_rata_equity"]["mean_max_share"]


def test_stability_is_between_waves_of_one_side():
    """LAB-007: who paid first pays nothing in the second wave, being flat; those left pay in the same order."""
    ledger = crash()
    ledger.bring(5, BUY, 20, 100, 300)
    ledger.ts_ns = SECOND
    ledger.mark(80)
    waves, _ = ledger.read(gap_ns=0)
    assert [[winner.account for winner in wave.winners] for wave in waves] == [[2, 3, 4], [4]]
    assert compare(waves, [])["run"]["rank_stability"] is None  # one winner in common
    wave = waves[0]
    assert compare([wave, wave], ["pro_rata_contracts"])["pro_rata_contracts"]["rank_stability"] == pytest.approx(1)


def test_another_score_makes_another_queue():
    """LAB-008, ADL-010, ADL-016: by none the earliest opened is first; by our own score the run's queue comes out."""
    (wave,), _ = crash().read()
    assert list(rank_by(wave, "bitmex")) == ["2", "3", "4"]
    assert list(rank_by(wave, "none")) == ["2", "3", "4"]
    # uPnL x chosen leverage, which all have alike: by gain
    assert list(rank_by(wave, "upnl_leverage")) == ["2", "4", "3"]
    assert divide(wave, "queue:upnl_leverage") == [200, 0, 300]
    (wave,), _ = crash({"score": "upnl_leverage"}).read()
    assert divide(wave, "queue") == [200, 300, 0]


def test_nobody_gives_what_its_equity_does_not_bear():
    """LAB-008, ADL-023: at 5 a lot an equity of 52 bears 10 lots; the others give the rest, under every policy."""
    winners = (
        Winner(1, 40, 50, 52, is_candidate=True),
        Winner(2, 80, 900, 9_000),
        Winner(3, 20, 100, 50, is_candidate=False),
    )
    wave = Wave(0, SELL, 0, 0, 90, winners, 60, 300, 300, 0, 300, 0, 0)
    assert bearable_lots(wave) == {"1": 10, "2": 80}
    for policy in BY_LOTS:
        first, second, third = lots_under(policy, wave)
        assert first <= 10, policy
        assert (first + second, third) == (60, 0), policy


def test_what_nobody_can_bear_is_tracking():
    """LAB-004, LAB-008: 60 lots are to be closed and 50 held: 10 x 5 are missing."""
    wave = Wave(0, SELL, 0, 0, 90, (Winner(1, 50, 900, 9_000),), 60, 300, 300, 0, 300, 0, 0)
    for policy in BY_LOTS:
        assert compare([wave], [policy])[policy]["tracking_quote"] == 50, policy


WINNERS = st.lists(
    st.builds(
        lambda account, qty, pnl, equity, is_candidate: Winner(account, qty, pnl, equity, is_candidate=is_candidate),
        st.integers(1, 10**6),
        st.integers(1, 50),
        st.integers(-100, 1_000),
        st.integers(1, 2_000),
        st.booleans(),
    ),
    max_size=6,
    unique_by=lambda winner: winner.account,
)


@given(WINNERS, st.integers(1, 200), st.integers(1, 3_000))
def test_no_policy_takes_what_is_not_there(winners, lots, needed):
    """LAB-008, LAB-009: of nobody more than he has or can bear; together what is needed, or all there is to be had."""
    wave = Wave(0, SELL, 0, 0, 90, tuple(winners), lots, needed, needed, 0, needed, 0, 0)
    rooms = {account: Fraction(most * needed, lots) for account, most in bearable_lots(wave).items()}
    for policy in list_policies():
        taken = divide(wave, policy)
        if policy not in BY_LOTS:
            rooms = {str(w.account): Fraction(min(w.endowment_quote, w.equity_quote)) for w in winners}
        own = [rooms.get(str(winner.account), 0) for winner in winners]
        assert all(0 <= part <= most for part, most in zip(taken, own, strict=True)), policy
        assert sum(taken) == min(needed, sum(own)), policy


def test_campbell():
    """LAB-008: the four accounts of arXiv 2603.15963, BTC 67,000 and ETH 1,900, to the six digits printed."""
    btc, eth = Fraction("6653.95029235"), Fraction("200.55736389")  # the factor's loadings
    holdings = ((8, "323.0", "242100"), (10, "-38.7", "143000"), (8, "326.2", "180704.8"), (7, "-190.0", "116901"))
    winners = tuple(
        Winner(account, held, 0, Fraction(equity), hedge_quote=eth * Fraction(other))
        for account, (held, other, equity) in enumerate(holdings, 1)
    )
    printed = {
        5: ("0.232424", "0.000000", "4.767576", "0.000000"),
        10: ("3.015805", "0.139087", "6.845108", "0.000000"),
        20: ("8.000000", "4.000000", "8.000000", "0.000000"),
    }
    for close, expected in printed.items():
        wave = Wave(0, BUY, 0, 0, btc, winners, close, 0, 0, 0, 0, 0, 0)
        taken = BY_LOTS["leverage_draining"](wave)
        assert tuple(str(as_decimal(part, 6)) for part in taken.values()) == expected
        assert sum(taken.values()) == close
