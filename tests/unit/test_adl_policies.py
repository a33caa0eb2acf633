"""What a market file may say about auto-deleveraging, and how its state is shown."""

from decimal import Decimal

import pytest

from engine import Exchange, Market, commands
from engine.contract import AdlPolicy, Tier, build_setup, load_market
from engine.errors import ConfigError

ENGINES = ("compiled", "reference")


def make_market(**policy):
    """Return a market in unit sizes with an ADL policy."""
    tiers = (Tier(floor=Decimal(0), initial=Decimal("0.05"), maintenance=Decimal("0.05")),)
    unit = Decimal(1)
    sizes = {"tick_size": unit, "lot_size": unit, "quote_unit": Decimal("0.01"), "price_max": Decimal(100_000)}
    return Market(symbol="X", tiers=tiers, adl=AdlPolicy(**policy), **sizes)


def test_parameters_become_integers():
    """Rates in ppm, the window in sixtieths of nanoseconds, a whole unit of the asset in money.

    Source: ADL-010, ADL-018, ADL-020, ADL-021, CFG-001.
    """
    policy = {"trigger": "drawdown", "drawdown": Decimal("0.95"), "release": Decimal("0.9"), "window_h": 24}
    (rules,) = build_setup(
        [make_market(score="binance", within=Decimal("0.1"), cancel_victims="off", **policy)]
    ).markets
    assert (rules.adl_trigger, rules.adl_score, rules.adl_cancel_victims) == (2, 1, 0)
    assert (rules.adl_drawdown_ppm, rules.adl_release_ppm, rules.adl_within_ppm) == (950_000, 900_000, 100_000)
    assert (rules.adl_bucket_ns, rules.whole_quote) == (24 * 60 * 1_000_000_000, 100)


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ({"trigger": "fear"}, "adl.trigger: unknown policy 'fear', known: fund_empty, equity, drawdown"),
        ({"price": "best"}, "adl.price: unknown policy 'best', known: bankruptcy, mark, previous_mark"),
        ({"allocation": "lottery"}, "adl.allocation: unknown policy 'lottery', known: queue, pro_rata_contracts"),
        ({"cancel_victims": "maybe"}, "adl.cancel_victims: unknown policy 'maybe', known: on, off"),
        ({"lights": "mood"}, "lights: unknown policy 'mood', known: rank, quantity"),
        ({"drawdown": Decimal(0)}, "X.adl.drawdown: expected above 0 and below 1, got 0"),
        ({"drawdown": Decimal(1)}, "X.adl.drawdown: expected above 0 and below 1, got 1"),
        ({"release": Decimal("0.4")}, "X.adl.release: expected above 0 and at most drawdown, got 0.4"),
        ({"release": Decimal(0)}, "X.adl.release: expected above 0 and at most drawdown, got 0"),
        ({"within": Decimal("1.1")}, "X.adl.within: expected 0 to 1, got 1.1"),
        ({"window_h": 0}, "X.adl.window_h: expected 1 to 8784 hours, got 0"),
        ({"drawdown": Decimal("0.30000001")}, "X.adl.drawdown: "),
    ],
)
def test_what_is_refused(policy, message):
    """Unknown names list the known ones; values out of range name path, value and range.

    Source: CFG-001, CFG-002, ADL-001.
    """
    with pytest.raises(ConfigError) as refused:
        build_setup([make_market(**policy)])
    assert message in str(refused.value)


def test_a_file_with_all_fields(tmp_path):
    """Every field of [adl] in TOML, numbers as text or not.

    Source: CFG-001, ADL-001.
    """
    file = tmp_path / "x.toml"
    file.write_text(
        'symbol = "X"\ntick_size = "1"\nlot_size = "1"\nquote_unit = "1"\n'
        'tiers = [{ floor = "0", initial = "0.05", maintenance = "0.05" }]\n'
        '[adl]\ntrigger = "equity"\nprice = "bankruptcy_within"\nscore = "none"\nallocation = "min_max"\nfees = "off"\n'
        'lights = "quantity"\ncancel_victims = "off"\n'
        'drawdown = "0.2"\nrelease = "0.1"\nwindow_h = 4\nwithin = "0.01"\n'
    )
    assert load_market(file).adl == AdlPolicy(
        trigger="equity",
        price="bankruptcy_within",
        score="none",
        allocation="min_max",
        fees="off",
        lights="quantity",
        cancel_victims="off",
        drawdown=Decimal("0.2"),
        release=Decimal("0.1"),
        window_h=4,
        within=Decimal("0.01"),
    )


@pytest.mark.parametrize("engine", ENGINES)
def test_the_trigger_is_visible(engine, tmp_path):
    """Whether it is active, of what, and by how much; the same after a save; `fund_empty` is active without money.

    A lot sold at 100 that cost 100 + 35 with nothing beside it: the fund of 100 pays 35.

    Source: ADL-029, STATE-002.
    """
    ex = Exchange([make_market(trigger="drawdown")], engine=engine)
    ex.apply([commands.Mark(price_tick=100), commands.FundDeposit(amount_quote=10_000)])
    ex.apply([commands.Level(side="bid", price_tick=100, qty_lot=1)])
    ex.apply([commands.Assign(account=1, side="buy", qty_lot=1, price_tick=135, amount_quote=0)])
    expected = {"active": True, "balance_quote": 6_500, "peak_quote": 10_000, "drawdown_ppm": 350_000}
    assert ex.adl_state(0) == expected
    ex.save(tmp_path / "kept")
    assert Exchange.load(tmp_path / "kept").adl_state(0) == expected
    ex = Exchange([make_market()], engine=engine)
    assert ex.adl_state(0) == {"active": True, "balance_quote": 0, "peak_quote": 0, "drawdown_ppm": 0}
    ex.apply([commands.FundDeposit(amount_quote=5)])
    assert ex.adl_state(0)["active"] is False
