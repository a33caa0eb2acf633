"""Coin-margined markets outside the engines: configuration, values in arrays, tallies, populations, real positions."""

import random
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

from engine import Exchange, Market, codes, load_market
from engine.codes import BUY, SELL
from engine.contract import Tier, build_setup, value_of
from engine.errors import ConfigError
from engine.replay.tally import Tally
from engine.scenario.population import LeverageSpread, Population, build_population
from engine.scenario.positions import read_positions
from tests.mirror.streams import Command, pack_commands

COINM = """
symbol = "BTCUSD_PERP"
kind = "inverse"
settle = "BTC"
quote_unit = "0.0000001"
tick_size = "0.1"
lot_size = "1"
contract_size = "100"
initial_mark = "50000"

[[tiers]]
floor = "0"
initial = "0.008"
maintenance = "0.004"

[[tiers]]
floor = "5"
initial = "0.01"
maintenance = "0.005"
deduction = "0.005"
"""


def make_market(**changes):
    """Return 1 USD a lot, 0.5 USD a tick, in units of 10^-8 coins."""
    tiers = (Tier(floor=Decimal(0), initial=Decimal("0.01"), maintenance=Decimal("0.005")),)
    fields = {"symbol": "XBTUSD", "kind": "inverse", "settle": "BTC", "quote_unit": Decimal("0.00000001")}
    fields |= {"tick_size": Decimal("0.5"), "lot_size": Decimal(1), "tiers": tiers, "initial_mark": Decimal(50_000)}
    return Market(**(fields | changes))


def test_binance_coin_m_as_its_owner_writes_it(tmp_path):
    """K = 100 USD / (0.1 x 10^-7 BTC) = 10^10; floors are in coin; open interest up to 2^58 / K = 28,823,037 contracts.

    Source: INV-002, MARGIN-002, CFG-001.
    """
    file = tmp_path / "market.toml"
    file.write_text(COINM)
    (rules,) = build_setup([load_market(file)]).markets
    assert (rules.kind, rules.multiplier, rules.open_interest_max_lot) == (codes.INVERSE, 10**10, (1 << 58) // 10**10)
    assert rules.tiers[1] == (50_000_000, 10_000, 5_000, 50_000)
    assert value_of(rules, 500_000, 7) == -140_000  # 700 USD at 50,000 are 0.014 BTC


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"quote_unit": Decimal("0.3")}, "lot_size x contract_size over tick_size"),
        ({"open_interest_max": Decimal(1 << 58)}, r"open_interest_max: a price of 1 ticks x .* would pass 2\*\*58"),
        ({"quote_unit": Decimal("0.0001"), "price_max": Decimal(10_001)}, "price_max: .* less than one unit of BTC"),
        ({"contract_size": Decimal(0)}, "contract_size: expected a positive number"),
        ({"kind": "quanto"}, "kind: unknown policy 'quanto', known: linear, inverse"),
        ({"tier_tables": ((),)}, r"tier_tables\[0\]: tiers: expected 1 to 64"),
        ({"tier_tables": ((Tier(floor=Decimal(0), initial=Decimal(1), maintenance=Decimal("0.9")),),)}, "margin_call"),
        ({"tier_tables": (make_market().tiers,) * 8}, "tier_tables: expected at most 7, got 8"),
    ],
)
def test_markets_that_cannot_be(changes, words):
    """A lot that is no whole number of units, or worth none, or too many lots are refused; so are bad tables.

    Source: INV-002, NUM-006, TIER-001, CFG-001.
    """
    with pytest.raises(ConfigError, match=words):
        build_setup([make_market(**changes)])


def test_contract_size_counts_in_linear_markets_too():
    """OKX: a contract is 0.01 BTC; at 50,000 USDT one is worth 500.

    Source: NUM-002.
    """
    fields = {"kind": "linear", "settle": "USDT", "quote_unit": Decimal("0.000001"), "tick_size": Decimal("0.1")}
    (rules,) = build_setup([make_market(contract_size=Decimal("0.01"), **fields)]).markets
    assert value_of(rules, 500_000, 1) == 500_000_000


def test_values_in_arrays_are_those_of_fractions():
    """Half-even, of either sign, for plain numbers and arrays.

    Source: INV-001.
    """
    (rules,) = build_setup([make_market(price_max=Decimal(1 << 20))]).markets
    rules = rules._replace(multiplier=1_000)
    rng = random.Random(3)
    ticks = [rng.choice((rng.randint(1, 1_000), 16, 80, 125)) for _ in range(2_000)]
    lots = [rng.randint(-50, 50) for _ in ticks]
    want = [round(Fraction(-lot * 1_000, tick)) for tick, lot in zip(ticks, lots, strict=True)]
    assert [value_of(rules, tick, lot) for tick, lot in zip(ticks, lots, strict=True)] == want
    assert value_of(rules, np.array(ticks), np.array(lots)).tolist() == want


def make_crash():
    """Return (exchange, events) of a crash that fills, deleverages and hands over; the second market is linear."""
    small = {"quote_unit": Decimal(1), "tick_size": Decimal(1), "price_max": Decimal(500), "maker_fee": Decimal(0)}
    small |= {"taker_fee": Decimal(0), "initial_mark": Decimal(100), "default_leverage": 20, "margin_call": Decimal(0)}
    inverse = make_market(lot_size=Decimal(10_000), liquidation_collar=Decimal("0.5"), **small)
    linear = make_market(kind="linear", symbol="Q", lot_size=Decimal(1), **small)
    exchange = Exchange([inverse, linear])
    position = {"kind": codes.ASSIGN, "price_tick": 100}
    commands = [
        Command(account=1, side=BUY, qty_lot=50, amount_quote=400, **position),
        Command(account=2, side=SELL, qty_lot=20, amount_quote=9_000, **position),
        Command(account=3, market=1, side=SELL, qty_lot=30, amount_quote=200, **position),
        Command(kind=codes.FUND_DEPOSIT, amount_quote=300),
        Command(kind=codes.LEVEL, side=BUY, price_tick=80, qty_lot=10),
        Command(kind=codes.MARK, price_tick=85),
        Command(kind=codes.MARK, market=1, price_tick=120),
    ]
    return exchange, exchange.apply(pack_commands(commands))


def test_a_tally_counts_coins():
    """What was closed is counted by the size of its value, and what ADL took is what its victims gave up.

    Of 50 lots some go on the book at 80 (125 a lot), 20 against the short, the rest to the outside at 85.

    Source: INV-004, ADL-006, CLI-001.
    """
    exchange, events = make_crash()
    tally = Tally(exchange.setup)
    tally.fold(events)
    tally.check(exchange.view())
    found = tally.summarise()
    book = events[events["kind"] == codes.LIQUIDATION_FILL]
    adl = events[events["kind"] == codes.ADL_FILL]
    taken = events[(events["kind"] == codes.TAKEOVER) & (events["market"] == 0)]
    assert (len(book), len(adl), len(taken)) == (1, 1, 1)
    assert book["qty_lot"].sum() + 20 + taken["qty_lot"].sum() == 50
    assert found["liquidated_book_quote"] == round(Fraction(10_000 * int(book["qty_lot"][0]), 80))
    assert found["liquidated_adl_quote"] == abs(int(adl["amount_quote"][0]))
    worth = round(Fraction(10_000 * int(taken["qty_lot"][0]), 85))
    assert found["liquidated_takeover_quote"] == worth + 30 * 120  # and the short of the linear market
    assert found["liquidated_short_quote"] == 30 * 120
    given_up = int(adl["amount_quote"][0]) + round(Fraction(10_000 * 20, 85))
    assert found["paid_by_adl_quote"] == given_up > 0


def test_positions_show_what_they_gained():
    """Long 1,000 @ 50,000 is up 0.004 BTC at 62,500; the outside, its other side, is down as much.

    Source: INV-001, NUM-003.
    """
    exchange = Exchange([make_market()])
    order = {"side": BUY, "qty_lot": 1_000, "price_tick": 100_000, "amount_quote": 10**8}
    exchange.apply(pack_commands([Command(kind=codes.ASSIGN, account=1, **order)]))
    exchange.apply(pack_commands([Command(kind=codes.MARK, price_tick=125_000)]))
    found = exchange.positions()
    assert dict(zip(found["account"].tolist(), found["unrealised_quote"].tolist(), strict=True)) == {
        0: -400_000,
        1: 400_000,
    }


def test_a_population_starts_healthy():
    """Two thousand coin-margined accounts of leverage up to 100: nobody is called or liquidated at the first mark.

    Source: POP-001, INV-004.
    """
    market = make_market(margin_call=Decimal(0))
    crowd = Population(
        seed=5,
        accounts=2_000,
        open_interest=Decimal(80_000_000),
        leverage=LeverageSpread(median=Decimal(20), sigma=Decimal(1), max=100),
        entry_spread=Decimal("0.05"),
        isolated_share=Decimal("0.5"),
    )
    rows = build_population(crowd, market, 0, 100_000)
    exchange = Exchange([market])
    events = exchange.apply(rows)
    assert set(events["kind"].tolist()) == {codes.ACCEPTED}
    held = exchange.positions()
    assert len(held["account"]) == 2_000
    assert (held["unrealised_quote"] < 0).any()
    assert (held["unrealised_quote"] > 0).any()
    assert len(exchange.apply(pack_commands([Command(kind=codes.MARK, price_tick=100_001)]))) == 1


def test_real_positions_bring_coins(tmp_path):
    """Without a collateral of its own a position brings its entry value over its leverage: 10,000 USD @ 50,000, 10.

    Source: POP-002, INV-002.
    """
    file = tmp_path / "positions.csv"
    file.write_text(
        "account,symbol,side,amount,entry_price,leverage,margin_mode\nann,XBTUSD,long,10000,50000,10,isolated\n"
    )
    rows, _ = read_positions(file, [make_market()])
    assert rows[rows["kind"] == codes.ASSIGN]["amount_quote"].tolist() == [2_000_000]  # 0.2 BTC / 10
