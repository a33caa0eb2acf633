"""Every score by numbers worked by hand, several of them the venues' own, and heap order against the sort."""

import random
from decimal import Decimal

import pytest

from engine import codes
from engine.codes import BUY, POLICIES, SELL
from engine.contract import Tier
from tests.mirror.adl_desk import Desk, kinds_of, parts_of, rows_of

SCORES = POLICIES["adl_score"]


def score_of(policy, side, qty, entry, mark, amount, mode="cross", **changes):
    """Return the score of the only candidate: a position of that entry and collateral at that mark."""
    desk = Desk(price=mark, policy={"score": policy}, margin_mode=mode, **changes)
    desk.bring(2, side, qty, entry, amount)
    ((account, score, held, _),) = desk.queue(side)
    assert (account, held) == (2, side * qty)
    return score


@pytest.mark.parametrize("mode", ["cross", "isolated"])
def test_bitmex(mode):
    """The numbers of bitmex-adl-score-4 and -5, which are inverse: in 990ths of a coin they are these linear ones.

    -99 to -90 with 20 left: 9 / 99 x 90 / 20; 99 to 110 with 20 left: 11 / 99 x 110 / 20.

    Source: ADL-003.
    """
    assert score_of("bitmex", SELL, 1, 99, 90, 11, mode) == 90_909_090 * 45 // 10 == 409_090_905
    assert score_of("bitmex", BUY, 1, 99, 110, 9, mode) == 111_111_111 * 55 // 10 == 611_111_110


@pytest.mark.parametrize("mode", ["cross", "isolated"])
def test_binance(mode):
    """binance-adl-score-1..3 in cents: wallet 4.27 with 40.2 of profit, wallet 0.50 counted as 1, and a loss.

    1: p = 40.2 / 4.27 = 9.41, r = 5.97 / 44.47 = 13.42 %.  2: p = 100 / 1, r = 5 / 100.5.

    Source: ADL-010.
    """
    cents = {"tick_size": Decimal("0.01"), "quote_unit": Decimal("0.01"), "price_max": Decimal(1000)}
    assert score_of("binance", BUY, 1, 7_920, 11_940, 427, mode, **cents) == 1_263_878_651
    assert score_of("binance", SELL, 1, 20_000, 10_000, 50, mode, **cents) == 100 * 49_751_243
    assert score_of("binance", BUY, 1, 10_500, 10_000, 10_000, mode, **cents) == 0


def test_kucoin():
    """kucoin-adl-return-1 at leverage 1 (220 of equity, 200 of equity) and kucoin-adl-score-2: -0.1 at 5 is -0.02.

    Source: ADL-011.
    """
    assert score_of("kucoin", BUY, 1, 200, 220, 200) == 100_000_000
    assert score_of("kucoin", SELL, 1, 220, 200, 180) == 90_909_090
    assert score_of("kucoin", BUY, 10, 100, 90, 280) == -20_000_000


def test_hyperliquid():
    """hyperliquid-adl-score-2 in tenths: the documented index takes L1 (20.2 > 4.5), the decompiled L2 (0.2 < 1.5).

    For shorts the documented index falls with their profit: of two at leverage 1, from 100, the one at 99 comes before
    the one at 50, as in HL-RANK.

    Source: ADL-014, ADL-015.
    """
    tenths = {"tick_size": Decimal("0.1"), "quote_unit": Decimal("0.1"), "price_max": Decimal(200)}
    first, second = (BUY, 10, 1_000, 1_010, 405), (BUY, 10, 1_000, 1_500, 0)
    assert score_of("hyperliquid_docs", *first, **tenths) == 20_200_000_000
    assert score_of("hyperliquid_docs", *second, **tenths) == 4_500_000_000
    assert score_of("hyperliquid_decompiled", *first, **tenths) == 200_000_000
    assert score_of("hyperliquid_decompiled", *second, **tenths) == 1_500_000_000
    assert score_of("hyperliquid_docs", SELL, 1, 100, 99, 98) == 990_000_000
    assert score_of("hyperliquid_docs", SELL, 1, 100, 50, 0) == 500_000_000
    assert score_of("hyperliquid_decompiled", SELL, 1, 100, 99, 98) == 10_000_000
    assert score_of("hyperliquid_decompiled", SELL, 1, 100, 50, 0) == 500_000_000


PROFIT = {
    "bitmex": 177_165_354,
    "binance": 8_857_142,
    "kucoin": 85_714_285,
    "upnl_leverage": 1_000,
    "leverage_yield": 88_571_428,
    "hyperliquid_docs": 771_428_571,
    "hyperliquid_decompiled": 85_714_285,
    "none": 0,
}
LOSS = {
    "bitmex": -41_181_819,
    "binance": 0,
    "kucoin": -77_272_728,
    "upnl_leverage": -1_000,
    "leverage_yield": -8_252_427_184,
    "hyperliquid_docs": 0,
    "hyperliquid_decompiled": 12,
    "none": 0,
}


@pytest.mark.parametrize("policy", SCORES)
def test_an_account_over_two_markets(policy):
    """Short 10 of A and long 10 of B, both at 100, 1,000, leverage 10: what is the account's, what the position's.

    B at 95 and A at 90: u = 100, v = 900, equity 1,050, maintenance 45 + 48, share floor(1,050 x 45 / 93) = 508.
    bitmex 0.1 x 900 / 508; kucoin and decompiled 0.1 x 900 / 1,050; binance 100 / 1,000 x 93 / 1,050;
    upnl_leverage 100 x 10; leverage_yield 100 / 100 over 1,050 / 93; docs 0.9 x 900 / 1,050.
    A at 110: u = -100, v = 1,100, equity 850, maintenance 55 + 48, share 453.  bitmex -0.1 / (1,100 / 453);
    kucoin -0.1 / (1,100 / 850); leverage_yield -1 x 850 / 103; decompiled 1,100 / 850 x 1e-8.

    Source: ADL-003, ADL-010, ADL-011, ADL-012, ADL-013, ADL-014, ADL-015, ADL-016, NUM-005.
    """
    desk = Desk(markets=2, policy={"score": policy}, default_leverage=10)
    desk.bring(2, SELL, 10, 100, 1_000)
    desk.bring(2, BUY, 10, 100, 0, market=1)
    desk.mark(95, market=1)
    desk.mark(90)
    assert desk.queue() == [(2, PROFIT[policy], -10, 1)]
    desk.mark(110)
    assert desk.queue() == [(2, LOSS[policy], -10, 1)]


@pytest.mark.parametrize("policy", SCORES)
def test_the_chosen_leverage_counts_where_it_should(policy):
    """Leverage 5 halves upnl_leverage's score and the return on margin of leverage_yield, and no other.

    Source: ADL-012, ADL-013.
    """
    desk = Desk(markets=2, policy={"score": policy}, default_leverage=10)
    desk.send(codes.SET_LEVERAGE, account=2, amount_quote=5)
    desk.bring(2, SELL, 10, 100, 1_000)
    desk.bring(2, BUY, 10, 100, 0, market=1)
    desk.mark(95, market=1)
    desk.mark(90)
    halved = PROFIT[policy] // (2 if policy in ("upnl_leverage", "leverage_yield") else 1)
    assert desk.queue() == [(2, halved, -10, 1)]


def test_without_score_the_earlier_opening_goes_first():
    """Account 5 has all the profit, account 3 came first.

    Source: ADL-002, ADL-016.
    """
    desk = Desk(policy={"score": "none"})
    desk.bring(3, SELL, 5, 100, 1_000)
    desk.bring(5, SELL, 5, 150, 1_000)
    events = desk.bring(1, BUY, 4, 120, 60)
    assert parts_of(events) == {3: 4}


@pytest.mark.parametrize("policy", SCORES)
@pytest.mark.parametrize("mode", ["cross", "isolated"])
def test_heap_order_is_the_sort(policy, mode):
    """A crowd over two markets, and bankruptcies in cascades: every queue is the reference's before and after.

    Within a command the compiled queue stands while marks do; what trades, pays or is cut meanwhile is ranked anew.

    Source: ADL-002, ADL-003, ADL-010..ADL-016, STEP-003.
    """
    rng = random.Random(f"{policy} {mode}")
    tiers = (
        Tier(floor=Decimal(0), initial=Decimal("0.05"), maintenance=Decimal("0.025")),
        Tier(floor=Decimal(4000), initial=Decimal("0.1"), maintenance=Decimal("0.05")),
    )
    fees = {"maker_fee": Decimal("0.001"), "taker_fee": Decimal("0.002"), "quote_unit": Decimal("0.1")}
    desk = Desk(2, 200, {"score": policy, "price": "mark"}, margin_mode=mode, tiers=tiers, **fees)
    desk.fund(2_000)
    for account in range(1, 41):
        market, side, qty = rng.randrange(2), rng.choice((BUY, BUY, SELL)), rng.randint(1, 40)
        price = rng.randint(180, 220)
        desk.send(codes.SET_LEVERAGE, account=account, market=market, amount_quote=rng.randint(1, 20))
        desk.bring(account, side, qty, price, 10 * qty * price // rng.choice((3, 8, 14)), market)
        if rng.random() < 0.5:
            desk.bring(account, -side, rng.randint(1, 20), price, 40, 1 - market)
        fields = {"side": rng.choice((BUY, SELL)), "qty_lot": 3, "price_tick": rng.randint(150, 250)}
        desk.send(codes.PLACE, account=account, order_id=account, market=market, **fields)
    for _ in range(6):
        desk.mark(rng.randint(150, 240), rng.randrange(2))
        for market in (0, 1):
            for side in (BUY, SELL):
                desk.queue(side, market)
    assert desk.twins.kinds["adl_fill"] > 5


def test_a_haircut_does_not_change_the_queue_it_meets():
    """The gap of the first close is cut from the winners and so moves their scores; the second close keeps its rank.

    Long 8 @ 120 with 40 at a mark of 80 under price `mark`: B = 640 + 280 = 920, 115 a lot, 35 a lot worse than mark.
    Shorts of 5, 4 and 2 @ 100: r = 0.2; equities 5: 40 + 100 = 140, 4: 80 + 80 = 160, 2: 50 + 40 = 90.
    Scores 0.2 x 400 / 140 = 0.571, 0.2 x 320 / 160 = 0.4, 0.2 x 160 / 90 = 0.356.  Nothing is in the fund.

    Source: ADL-004, ADL-022, DEF-002.
    """
    desk = Desk(policy={"price": "mark"})
    desk.bring(2, SELL, 5, 100, 40)
    desk.bring(3, SELL, 4, 100, 80)
    desk.bring(4, SELL, 2, 100, 50)
    desk.bring(1, BUY, 8, 120, 200)
    events = desk.mark(80)
    fills = events[events["kind"] == codes.ADL_FILL]
    assert [(int(f["other"]), int(f["rank"]), int(f["other_order_id"])) for f in fills] == [
        (2, 1, 571_428_571),
        (3, 2, 400_000_000),
    ]
    assert "haircut" in kinds_of(events)


def test_who_is_passed_over_twice_is_ranked_once():
    """Without scores a trade does not move anybody's place: who traded between two bankruptcies is in the queue once.

    Longs 1 and 4 of 10 A and 20 B @ 100 with 400; B falls to 50: A closes at 130 a lot, which account 2, short 10 with
    200, cannot bear.  Its bid in B is filled when account 1's 20 B are sold, before account 4's turn.

    Source: ADL-002, ADL-004, ADL-016.
    """
    desk = Desk(markets=2, policy={"score": "none"})
    desk.fund(10_000)
    for account, qty, amount in ((2, 10, 200), (3, 12, 5_000), (5, 20, 9_000)):
        desk.bring(account, SELL, qty, 100, amount)
    for account in (1, 4):
        desk.bring(account, BUY, 10, 100, 400)
        desk.bring(account, BUY, 20, 100, 0, market=1)
    order = {"account": 2, "order_id": 1, "side": BUY, "qty_lot": 1, "price_tick": 51}
    desk.send(codes.PLACE, market=1, **order)
    desk.bid(50, 100, market=1)
    events = desk.mark(50, market=1)
    assert rows_of(events, codes.LIQUIDATION_FILL, "account", "other", "qty_lot")[0] == (1, 2, 1)
    fills = rows_of(events, codes.ADL_FILL, "account", "other", "qty_lot", "rank")
    assert fills == [(1, 3, 10, 2), (4, 3, 2, 2), (4, 5, 8, 3)]
