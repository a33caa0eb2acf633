"""Bursts of deficits at one mark: the compiled engine keeps its queue, the reference sorts anew each time."""

import random
from decimal import Decimal

import pytest

from engine import codes
from engine.codes import ADL_FILL, ADL_STARTED, BUY, SELL
from engine.contract import AdlPolicy, Market, Tier, build_setup
from tests.mirror.streams import Command
from tests.mirror.twins import Twins


def make_setup(*symbols, **changes):
    """Return markets in unit sizes without fees, so that numbers can be done in the head."""
    tiers = (Tier(floor=Decimal(0), initial=Decimal("0.05"), maintenance=Decimal("0.05")),)
    fields = {"tick_size": Decimal(1), "lot_size": Decimal(1), "quote_unit": Decimal(1), "tiers": tiers}
    fields |= {"maker_fee": Decimal(0), "taker_fee": Decimal(0), "price_max": Decimal(1000), **changes}
    return build_setup([Market(symbol=symbol, **fields) for symbol in symbols])


def send(twins, kind, **fields):
    return twins.apply(Command(kind=kind, **fields))


def test_who_is_passed_over_stays_in_the_queue():
    """Two accounts go bankrupt in two markets at one mark; the first candidate cannot bear either close.

    Longs of 10 A and 20 B @ 100 with 400 each; B falls to 50: equity -600, A's share -300, so A closes at 130 a lot.
    Account 2, short 10 with 200, would have 200 - 300: it is passed over for both, and counted in both ranks.

    Source: ADL-002, ADL-004, LIQ-004.
    """
    twins = Twins(make_setup("A", "B"))
    send(twins, codes.FUND_DEPOSIT, amount_quote=10_000)
    for market in (0, 1):
        send(twins, codes.MARK, market=market, price_tick=100)
    for account, qty, amount in ((2, 10, 200), (3, 12, 5_000), (5, 20, 9_000)):
        send(twins, codes.ASSIGN, account=account, side=SELL, qty_lot=qty, price_tick=100, amount_quote=amount)
    for account in (1, 4):
        send(twins, codes.ASSIGN, account=account, side=BUY, qty_lot=10, price_tick=100, amount_quote=400)
        send(twins, codes.ASSIGN, account=account, market=1, side=BUY, qty_lot=20, price_tick=100)
    send(twins, codes.LEVEL, market=1, side=BUY, price_tick=50, qty_lot=100)
    events = send(twins, codes.MARK, market=1, price_tick=50)
    started = events[events["kind"] == ADL_STARTED]
    assert started["account"].tolist() == [1, 4]
    assert started["count"].tolist() == [3, 3]
    fills = events[events["kind"] == ADL_FILL]
    assert [(int(f["account"]), int(f["other"]), int(f["qty_lot"]), int(f["rank"])) for f in fills] == [
        (1, 3, 10, 2),
        (4, 3, 2, 2),
        (4, 5, 8, 3),
    ]


@pytest.mark.parametrize("seed", range(8))
def test_bursts(seed):
    """A gap bankrupts a crowd over an empty book: every queue, rank and victim is the reference's.

    Source: ADL-002, ADL-003, ADL-004, ADL-008, STEP-003.
    """
    rng = random.Random(seed)
    mode = rng.choice(("cross", "isolated"))
    setup = make_setup("A", "B", margin_mode=mode, maker_fee=Decimal("0.001"), margin_call=Decimal("1.5"))
    twins = Twins(setup)
    for market in (0, 1):
        send(twins, codes.MARK, market=market, price_tick=200)
    send(twins, codes.FUND_DEPOSIT, amount_quote=rng.randint(1, 3_000))
    for account in range(1, 61):
        for market in (0, 1) if rng.random() < 0.5 else (0,):
            side, qty, price = rng.choice((BUY, BUY, SELL)), rng.randint(1, 40), rng.randint(180, 220)
            fields = {"side": side, "qty_lot": qty, "price_tick": price, "market": market}
            amount = qty * price // rng.choice((3, 8, 15, 18))
            send(twins, codes.ASSIGN, account=account, amount_quote=amount, **fields)
        if rng.random() < 0.3:
            fields = {"side": rng.choice((BUY, SELL)), "qty_lot": 3, "price_tick": rng.randint(150, 250)}
            send(twins, codes.PLACE, account=account, order_id=account, **fields)
    for _ in range(6):
        market, price = rng.randrange(2), rng.randint(150, 240)
        side = rng.choice((BUY, SELL))
        send(twins, codes.LEVEL, market=market, side=side, price_tick=price - 3 * side, qty_lot=rng.randint(0, 60))
        send(twins, codes.MARK, market=market, price_tick=price)
    assert twins.kinds["adl_fill"] > 5


@pytest.mark.parametrize("seed", range(16))
def test_bursts_under_any_policy(seed):
    """The same with every policy drawn: whom it takes, at what price, how much of each, and who pays the gap.

    Source: ADL-001, ADL-010..ADL-029, DEF-002, EVT-002.
    """
    rng = random.Random(f"policies {seed}")

    def pick(group, *often):
        return rng.choice((*often, *codes.POLICIES[group]))

    policy = AdlPolicy(
        trigger=pick("adl_trigger"),
        price=pick("adl_price", "mark", "previous_mark"),
        score=pick("adl_score"),
        allocation=pick("adl_allocation", "queue", "queue"),
        fees=pick("adl_fees"),
        cancel_victims=pick("adl_cancel_victims"),
        lights=pick("lights"),
        drawdown=Decimal("0.2"),
        release=Decimal("0.1"),
        within=Decimal(rng.choice(("0.01", "0.05", "0.2"))),
    )
    fields = {"maker_fee": Decimal("0.001"), "taker_fee": Decimal("0.002"), "quote_unit": Decimal("0.1")}
    twins = Twins(make_setup("A", "B", margin_mode=rng.choice(("cross", "isolated")), adl=policy, **fields))
    for market in (0, 1):
        send(twins, codes.MARK, market=market, price_tick=200)
    send(twins, codes.FUND_DEPOSIT, amount_quote=10 * rng.choice((1, 100, 1_000, 3_000, 8_000)))
    for account in range(1, 41):
        for market in (0, 1) if rng.random() < 0.5 else (0,):
            side, qty, price = rng.choice((BUY, BUY, SELL)), rng.randint(1, 40), rng.randint(180, 220)
            send(twins, codes.SET_LEVERAGE, account=account, market=market, amount_quote=rng.randint(1, 20))
            amount = 10 * qty * price // rng.choice((3, 8, 15, 18)) + rng.randint(0, 5)
            fields = {"side": side, "qty_lot": qty, "price_tick": price, "market": market}
            send(twins, codes.ASSIGN, account=account, amount_quote=amount, **fields)
        if rng.random() < 0.3:
            fields = {"side": rng.choice((BUY, SELL)), "qty_lot": 3, "price_tick": rng.randint(150, 250)}
            send(twins, codes.PLACE, account=account, order_id=account, **fields)
    for _ in range(8):
        market, price, side = rng.randrange(2), rng.randint(140, 250), rng.choice((BUY, SELL))
        near = max(1, price - side * rng.choice((3, 9, 15)))
        send(twins, codes.LEVEL, market=market, side=side, price_tick=near, qty_lot=rng.randint(0, 60))
        send(twins, codes.MARK, market=market, price_tick=price)
    assert twins.kinds["adl_fill"] > 5
