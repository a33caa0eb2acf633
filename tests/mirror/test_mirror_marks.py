"""Marks derived from the book, in both engines: numbers from venues' own examples and by hand, and what must follow."""

from decimal import Decimal

import pytest

from engine import codes
from engine.codes import BUY, LIQUIDATION_FILL, LIQUIDATION_STARTED, MARK_MOVED, SELL
from engine.contract import is_derived
from tests.mirror import streams
from tests.mirror.pair import EMA, FIRST_BASIS, Pair, make_market, names
from tests.mirror.streams import HOUR, SECOND
from tests.mirror.twins import Twins

NEVER = 2**63 - 1


# ---------------------------------------------------------------- median3


def test_median_of_three_as_binance_says():
    """Vector binance-mark-1, with ticks of 0.5: index 10000, rate 0.0001, 4 h of 8 h left, basis 3, last 10010.

    P1 = 10000 x (1 + 0.0001 x 4 / 8) = 10000.5, P2 = 10003, so the mark is 10003; with a last price of 9990 it is P1.

    Source: MARK-001, MARK-002, MARK-003.
    """
    pair = Pair(make_market(tick_size=Decimal("0.5"), lot_size=Decimal(2), mark_model="median3"))
    pair.clock(4 * HOUR - 40 * SECOND)
    pair.index(20_000)
    assert pair.mark() == 20_000
    pair.touch(20_004, 20_008)
    assert names(pair.send(codes.FUNDING, amount_quote=100_000)) == ["funding_rate", "mark"]  # and P1 with it
    pair.clock(4 * HOUR)
    assert pair.remembered()[FIRST_BASIS:] == [12] * 30  # the window is full of one sample, 6 ticks
    assert pair.mark() == 20_001  # no trade yet: P1 counts twice
    events = pair.last(20_020)
    assert [(int(e["price_tick"]), int(e["mark_tick"])) for e in events] == [(20_006, 20_001)]
    pair.last(19_980)
    assert pair.mark() == 20_001
    pair.clock(8 * HOUR - 1)  # the last second: 20000 x 0.0001 / 28800 is next to nothing
    assert pair.mark() == 20_000
    pair.clock(8 * HOUR)  # the whole interval lies ahead again
    assert pair.mark() == 20_002


def test_the_window_holds_the_last_samples():
    """Three samples of 1, 2 and 4 ticks: 7/3 rounds to 2; the first leaves, then 2, 4, 4 make 10/3, then 4, 4, 4.

    Source: MARK-002, MARK-003.
    """
    pair = Pair(make_market(mark_model="median3", basis_interval_s=3, basis_samples=3))
    pair.index(100)
    pair.last(200)  # far above: the mark is the higher of P1 and P2
    marks = []
    for number, basis in enumerate((1, 2, 4, 4), 1):
        pair.touch(99 + basis, 101 + basis)
        pair.clock(3 * number * SECOND - 1)
        assert len(pair.remembered()) == FIRST_BASIS + min(number - 1, 3)
        pair.clock(3 * number * SECOND)
        marks.append(pair.mark())
    assert marks == [101, 102, 102, 103]  # 1, 3/2 to even, 7/3, 10/3
    assert pair.remembered()[FIRST_BASIS:] == [4, 8, 8]
    pair.touch(0, 105)  # without bids there is nothing to sample
    pair.clock(60 * SECOND)
    assert pair.remembered()[FIRST_BASIS:] == [4, 8, 8]
    pair.touch(99, 102)
    pair.clock(365 * 24 * HOUR)  # three instants of ten million matter
    assert pair.remembered()[FIRST_BASIS:] == [1, 1, 1]
    assert pair.mark() == 100  # half a tick to even


def test_halves_go_to_even():
    """P1 and P2 are rounded alike: 100 + 0.5 to 100, 100 + 1.5 to 102, 100 - 0.5 to 100, 100 - 1.5 to 98.

    Source: MARK-001, MARK-003.
    """
    for rate, first in ((5_000_000, 100), (15_000_000, 102), (-5_000_000, 100), (-15_000_000, 98)):
        pair = Pair(make_market(mark_model="median3"))
        pair.index(100)
        pair.send(codes.FUNDING, amount_quote=rate)  # 0.5 % of 100 with the whole interval ahead
        assert pair.mark() == first
    for bid, ask, second in ((100, 101, 100), (101, 102, 102), (99, 100, 100), (98, 99, 98)):
        pair = Pair(make_market(mark_model="median3", basis_samples=1))
        pair.index(100)
        pair.last(200 if bid >= 100 else 1)  # on the other side of P2 than P1 is
        pair.touch(bid, ask)
        pair.clock(SECOND)
        assert pair.mark() == second


def test_a_sample_is_of_the_state_before():
    """What a command does at an instant belongs to the next sample; a rejected one looks, but takes nothing.

    Source: MARK-002, CMD-002.
    """
    pair = Pair(make_market(mark_model="median3"))
    pair.touch(99, 103)
    pair.index(100)
    pair.clock(SECOND // 2)
    pair.ts_ns = 2 * SECOND
    events = pair.send(codes.DEPOSIT, account=1, amount_quote=0)
    assert names(events) == ["rejected"]
    assert pair.remembered()[FIRST_BASIS:] == []
    pair.ts_ns = SECOND - 1  # time did not move
    pair.index(90)
    pair.ts_ns = SECOND
    pair.index(100)  # an instant: 101 less 90, not less 100
    assert pair.remembered()[FIRST_BASIS:] == [22]
    pair.index(95)  # the second has been sampled
    assert pair.remembered()[FIRST_BASIS:] == [22]


def test_without_index_there_is_no_mark():
    """`initial_mark` stays until the index comes; then the mark lies within the range of prices.

    Source: MARK-001, STEP-002.
    """
    for model in ("median3", "ema_basis"):
        pair = Pair(make_market(mark_model=model, initial_mark=Decimal(70), price_max=Decimal(110)))
        pair.last(80)
        pair.touch(90, 92)
        pair.clock(50 * SECOND)
        assert pair.mark() == 70
        assert len(pair.send(codes.MARK, price_tick=85)) == 0
        assert names(pair.index(108)) == ["mark"]
        pair.send(codes.FUNDING, amount_quote=500_000_000)
        pair.last(110)
        assert pair.mark() == {"median3": 110, "ema_basis": 108}[model]


# ---------------------------------------------------------------- ema_basis


def test_average_weighted_by_age_as_hyperliquid_says():
    """Vector hyperliquid-ema-1: samples 1, 2, 4 every 3 s with 150 s make 2.3533542201157522.

    Source: MARK-004.
    """
    pair = Pair(make_market(mark_model="ema_basis", basis_interval_s=3, basis_tau_s=150))
    assert pair.setup.markets[0].basis_decay_ppb == 980_198_673  # exp(-0.02) = 0.98019867330675...
    pair.index(100)
    marks = []
    for number, basis in enumerate((1, 2, 4), 1):
        pair.touch(99 + basis, 101 + basis)
        pair.clock(3 * number * SECOND)
        marks.append(pair.mark())
    assert marks == [101, 102, 102]  # 1, 1.505, 2.353
    assert abs(pair.remembered()[EMA] - 2 * 2_353_354.2201157522) < 3
    pair.touch(103, 0)
    pair.clock(90 * SECOND)  # one side only: neither a sample nor older ones
    assert abs(pair.remembered()[EMA] - 2 * 2_353_354.2201157522) < 3
    pair.touch(103, 105)
    pair.clock(93 * SECOND)  # a fourth: (2.35335 x 2.94099 x 0.98020 + 4) / (2.94099 x 0.98020 + 1)
    expected = (2.3533542201157522 * 2.9409877 * 0.9801987 + 4) / (2.9409877 * 0.9801987 + 1)
    assert abs(pair.remembered()[EMA] - 2e6 * expected) < 4
    pair.touch(93, 97)
    pair.clock(10 * HOUR)  # long after, only the last sample weighs
    assert pair.remembered()[EMA] == -10_000_000
    assert pair.mark() == 95


def test_many_instants_at_once_are_as_many_samples():
    """Nine samples of 40 after one of 0: by one command or by nine, but for the rounding of each.

    d = exp(-1/30): 40 x (1 - d^9) / (1 - d^10) = 36.590...

    Source: MARK-002, MARK-004.
    """
    found = []
    for stops in (1, 9):
        pair = Pair(make_market(mark_model="ema_basis"))
        pair.index(100)
        pair.touch(99, 101)
        pair.clock(SECOND)
        pair.touch(139, 141)
        for stop in range(1, stops + 1):
            pair.clock(SECOND + 9 * stop * SECOND // stops)
        found.append(pair.remembered()[EMA])
        assert pair.mark() == 137
    decay = 0.9672161004820059
    expected = 80e6 * (1 - decay**9) / (1 - decay**10)
    assert all(abs(number - expected) < 20 for number in found)


@pytest.mark.parametrize(("model", "band", "mark"), [("ema_basis", "0.03", 206), ("median3", "0.0325", 206)])
def test_the_band_holds_the_basis(model, band, mark):
    """A basis of 40 around an index of 200: 3 % are 6; 3.25 % are 6.5, to even 6.

    Source: MARK-005.
    """
    pair = Pair(make_market(mark_model=model, basis_band=Decimal(band)))
    pair.index(200)
    pair.last(300)
    pair.touch(239, 241)
    pair.clock(SECOND)
    assert pair.mark() == mark
    pair.touch(159, 161)
    pair.last(100)
    pair.clock(HOUR)
    assert pair.mark() == 400 - mark


# ---------------------------------------------------------------- what follows in the same command


@pytest.mark.parametrize("model", ["median3", "ema_basis"])
def test_an_index_liquidates_at_once(model):
    """Long 10 @ 100 with 100: at 94 it has 40 < 47 and is sold in the index's own command.

    Source: MARK-001, STEP-001, STEP-003.
    """
    pair = Pair(make_market(mark_model=model))
    pair.index(100)
    pair.touch(90, 0)
    pair.assign(1, BUY, 10, 100, 100)
    events = pair.index(94)
    assert names(events)[:3] == ["mark", "liquidation_started", "liquidation_fill"]
    assert [int(e["price_tick"]) for e in events[events["kind"] == MARK_MOVED]][:1] == [94]


@pytest.mark.parametrize("model", ["median3", "ema_basis"])
def test_a_passing_instant_liquidates_at_once(model):
    """The book falls to 93/95 while nothing is said; the first `clock` past the second moves the mark, and liquidates.

    Source: MARK-002, STEP-001, STEP-003.
    """
    pair = Pair(make_market(mark_model=model))
    pair.index(100)
    pair.assign(1, BUY, 10, 100, 100)
    pair.last(90)  # the median is the lower of P1 and P2
    pair.touch(93, 95)
    assert pair.mark() == 100
    assert len(pair.clock(SECOND - 1)) == 0
    events = pair.clock(SECOND)
    assert names(events)[:3] == ["mark", "liquidation_started", "liquidation_fill"]
    assert int(events["price_tick"][0]) == 94


def test_a_trade_liquidates_at_once():
    """The last price falls below P2 and takes the median along, from 100 to 94.

    Source: MARK-003, STEP-001, STEP-003.
    """
    pair = Pair(make_market(mark_model="median3"))
    pair.index(100)
    pair.touch(89, 91)
    pair.last(105)
    pair.clock(SECOND)  # P1 100, P2 90, last 105
    assert pair.mark() == 100
    pair.assign(1, BUY, 10, 100, 100)
    pair.send(codes.DEPOSIT, account=2, amount_quote=1000)
    fields = {"order_id": 1, "account": 2, "side": BUY, "price_tick": 94, "qty_lot": 1}
    pair.send(codes.LEVEL, side=SELL, price_tick=91)  # makes room above the bid
    pair.send(codes.PLACE, **fields)
    events = pair.send(codes.LEVEL, side=SELL, price_tick=94, qty_lot=1)
    assert names(events)[:3] == ["trade", "mark", "liquidation_started"]
    assert int(events["price_tick"][1]) == 94


@pytest.mark.parametrize(("moves", "fallen"), [(True, [1, 2]), (False, [1])])
def test_whether_closeouts_move_the_last_price(moves, fallen):
    """Account 1 falls at 94 and is sold at 91; account 2 holds 130 against 90 lost at 91, 60 lost at 94.

    Source: MARK-006, STEP-002.
    """
    pair = Pair(make_market(mark_model="last", initial_mark=Decimal(100), closeout_moves_last=moves))
    pair.touch(91, 0)
    pair.assign(1, BUY, 10, 100, 100)
    pair.assign(2, BUY, 10, 100, 130)
    events = pair.last(94)
    assert events[events["kind"] == LIQUIDATION_STARTED]["account"].tolist() == fallen
    assert events[events["kind"] == LIQUIDATION_FILL]["price_tick"].tolist() == [91]
    assert pair.plain.view().markets[0][2] == (91 if moves else 94)


# ---------------------------------------------------------------- streams


def test_other_markets_look_at_nothing():
    """Without derived marks and rates no command is ever due, and the digest has no new table.

    Source: MARK-002, STATE-001.
    """
    pair = Pair(make_market(mark_model="last"), make_market("N", mark_model="index"))
    pair.clock(5 * SECOND)
    assert int(pair.fast.state.head[0]["due_ns"]) == NEVER
    assert len(pair.fast.view().averages) == 0
    pair = Pair(make_market(mark_model="last"), make_market("N", mark_model="ema_basis", basis_interval_s=60))
    pair.clock(5 * SECOND)
    assert int(pair.fast.state.head[0]["due_ns"]) == 60 * SECOND


@pytest.mark.parametrize(
    "seed", [seed for seed in range(100, 140) if any(map(is_derived, streams.make_setup(seed).markets))]
)
def test_long_streams(seed):
    """Hours, days and a year pass in longer streams of derived marks and rates.

    Source: MARK-001, MARK-002, FUND-011, FUND-015, STATE-003.
    """
    setup = streams.make_setup(seed)
    twins = Twins(setup)
    for command in streams.random_stream(seed, setup, 300):
        twins.apply(command)
