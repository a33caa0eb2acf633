"""A fork under other policies tells the same story in both engines, from whatever state it began."""

import random
from collections import Counter
from decimal import Decimal

import pytest
from msgspec import structs

from engine import codes
from engine.audit import check_state
from engine.digest import compute_digest
from engine.errors import ConfigError
from engine.exchange import Capacity, Exchange
from engine.fuzz.setups import draw_adl, draw_house, draw_stages, make_markets
from engine.policies import AdlPolicy, LiquidationPolicy
from tests.mirror import streams
from tests.mirror.pair import make_market
from tests.mirror.twins import differ

SEEDS = 24
seen: Counter[str] = Counter()


def change_policies(markets, seed):
    """Return the markets with other policies of liquidation and auto-deleveraging, and other rates."""
    changed = []
    for index, market in enumerate(markets):
        rng = random.Random(f"flight {seed} {index}")
        bare = streams.replace_market(market, liquidation=LiquidationPolicy(), adl=AdlPolicy())
        drawn = draw_stages(rng, draw_adl(rng, bare))
        housed = draw_house(rng, drawn)
        if housed.liquidation.backstop == "adl" and market.liquidation.backstop != "adl":
            keep = structs.replace(drawn.liquidation, backstop=market.liquidation.backstop, vault_below=Decimal("0.5"))
        else:
            keep = housed.liquidation
        changed.append(
            streams.replace_market(
                drawn,
                liquidation=keep,
                liquidation_fee=Decimal(rng.choice(("0", "0.01"))),
                taker_fee=Decimal(rng.choice(("0.001", "0.004"))),
                maker_fee=Decimal(rng.choice(("-0.0001", "0.002"))),
                liquidation_collar=Decimal(rng.choice(("0.02", "0.3"))),
                closeout_moves_last=rng.random() < 0.5,
            )
        )
    return changed


def play(fast, plain, commands):
    for command in commands:
        rows = streams.pack_commands([command])
        got, want = fast.apply(rows.copy()), plain.apply(rows.copy())
        view, plain_view = fast.view(), plain.view()
        same = got.tobytes() == want.tobytes() and compute_digest(view) == compute_digest(plain_view)
        assert same, differ(command, got, want, view, plain_view)
        check_state(view, fast.setup)
        seen.update(codes.EVENT_NAMES[int(kind)] for kind in got["kind"])


@pytest.mark.parametrize("seed", range(SEEDS))
def test_forks_of_random_streams(seed):
    """Both engines take other policies in the midst of a stream, twice, and agree on every event and digest after it.

    Source: TWIN-001, TWIN-002, TWIN-003, STATE-003.
    """
    markets = make_markets(seed)
    fast, plain = Exchange(markets), Exchange(markets, engine="reference")
    commands = streams.random_stream(seed, fast.setup, 180)
    cuts = (random.Random(seed).randrange(20, 80), 130)
    play(fast, plain, commands[: cuts[0]])
    for number, (start, end) in enumerate(zip(cuts, (*cuts[1:], len(commands)), strict=True)):
        changed = change_policies(fast.markets, f"{seed} {number}")
        before = fast.digest()
        forks = fast.copy(changed), plain.copy(changed)
        assert fast.digest() == before
        assert forks[0].digest() == forks[1].digest()
        fast, plain = forks
        play(fast, plain, commands[start:end])


def test_forks_reach_everything():
    """The forks above liquidate, deleverage, take over and cut.

    Source: TWIN-001.
    """
    if not seen:
        pytest.skip("the streams ran in another worker or were deselected")
    wanted = {"liquidation_fill", "adl_fill", "takeover", "haircut", "fund_debit", "fund_credit", "deficit"}
    assert wanted <= set(seen)


@pytest.mark.parametrize("engine", ["compiled", "reference"])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tick_size": Decimal(2)}, "M: tick_size cannot change in flight: it is 1, got 2"),
        ({"default_leverage": 5}, "leverage_ppm"),
        ({"margin_call": Decimal("1.5")}, "call_ppm"),
        ({"mark_model": "index"}, "mark_model"),
        ({"settle": "BTC"}, "assets and funds"),
        ({"fund": "other"}, "assets and funds"),
        ({"kind": "inverse", "lot_size": Decimal(100_000)}, "cannot change in flight"),
        ({"symbol": "N"}, "symbol"),
    ],
)
def test_what_cannot_change_is_refused(engine, change, words):
    """One line names the market, the rule, what it is and what was asked for; nothing has changed.

    Source: TWIN-001.
    """
    market = make_market()
    exchange = Exchange([market], engine=engine)
    with pytest.raises(ConfigError, match=words):
        exchange.copy([streams.replace_market(market, **change)])
    with pytest.raises(ConfigError, match="expected 1 markets as before, got 2"):
        exchange.copy([market, make_market("N")])


@pytest.mark.parametrize("engine", ["compiled", "reference"])
def test_same_policies_are_a_plain_copy(engine):
    """A copy by the same rules is the same state, and what happens in it stays in it.

    Source: TWIN-001, STATE-002.
    """
    market = make_market()
    exchange = Exchange([market], engine=engine, capacity=Capacity(positions_max=64) if engine == "compiled" else None)
    from engine import commands

    exchange.apply([commands.Mark(price_tick=100), commands.Deposit(account=1, amount_quote=50)])
    twin = exchange.copy([market])
    assert twin.digest() == exchange.digest()
    twin.apply([commands.Deposit(account=1, amount_quote=5)])
    assert exchange.balances()["balance_quote"].tolist() == [50]
    assert twin.balances()["balance_quote"].tolist() == [55]
