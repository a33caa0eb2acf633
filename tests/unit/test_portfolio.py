"""Portfolio margin on its way in: market files, commands by name, crowds and real positions."""

from decimal import Decimal

import pytest

from engine import Exchange, codes, commands, load_market
from engine.contract import Market, PortfolioPolicy, Tier, build_setup
from engine.errors import ConfigError, DataError
from engine.scenario.population import LeverageShare, LognormalSize, Population, build_population
from engine.scenario.positions import read_positions
from tests.mirror.streams import Command, pack_commands

TEXT = """
symbol = "X"
tick_size = "1"
lot_size = "1"
underlying = "BTC"
margin_mode = "portfolio"
margin_call = "2"
tiers = [{ floor = "0", initial = "0.05", maintenance = "0.025" }]
[portfolio]
moves = ["-0.2", "0", "0.25"]
contingency = "0.01"
initial = "1.5"
"""


def make_market(symbol="A", **changes):
    tiers = (Tier(floor=Decimal(0), initial=Decimal("0.01"), maintenance=Decimal("0.005")),)
    fields = {"tick_size": Decimal(1), "lot_size": Decimal(1), "tiers": tiers, "portfolio": PortfolioPolicy()}
    return Market(**({"symbol": symbol} | fields | changes))


def test_a_market_file_declares_its_grid(tmp_path):
    """Source: PORT-001, PORT-002, CFG-001."""
    file = tmp_path / "market.toml"
    file.write_text(TEXT)
    (rules,) = build_setup([load_market(file)]).markets
    assert rules.moves_ppm == (-200_000, 0, 250_000)
    assert (rules.contingency_ppm, rules.portfolio_initial_ppm) == (10_000, 1_500_000)
    assert (rules.start_mode, rules.margin_mode) == (codes.PORTFOLIO, codes.CROSS)
    file.write_text(TEXT.split("[portfolio]")[0] + "[portfolio]\n")  # all of it at its default
    (rules,) = build_setup([load_market(file)]).markets
    assert rules.moves_ppm == (-120_000, -80_000, -40_000, 40_000, 80_000, 120_000)
    assert (rules.contingency_ppm, rules.portfolio_initial_ppm) == (5_000, 1_300_000)


def moves(*given):
    return PortfolioPolicy(moves=tuple(map(Decimal, given)))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"portfolio": moves("0.1")}, r"A\.portfolio\.moves: expected 2 to 64 rising moves.*got 0\.1"),
        ({"portfolio": moves("0.1", "0.2")}, r"portfolio\.moves: .*below and some above 0"),
        ({"portfolio": moves("-0.2", "-0.1")}, r"portfolio\.moves: .*below and some above 0"),
        ({"portfolio": moves("-0.2", "0.1", "0.1")}, r"portfolio\.moves: .*rising"),
        ({"portfolio": moves("0.1", "-0.1")}, r"portfolio\.moves: .*rising"),
        ({"portfolio": moves(*(Decimal(at) / 1000 for at in range(-32, 33)))}, r"portfolio\.moves: expected 2 to 64"),
        ({"portfolio": moves("-0.1", "0.1234567")}, r"portfolio\.moves\[1\]: "),
        (
            {"portfolio": moves("-0.9", "0.1")},
            r"the widest with the contingency is 0\.905; .*margin_call, 1\.3",
        ),
        ({"portfolio": moves("-0.4", "0.3"), "margin_call": Decimal("2.5")}, r"0\.405; expected below 1 .* 2\.5"),
        (
            {"portfolio": PortfolioPolicy(contingency=Decimal(0))},
            r"portfolio\.contingency: expected a rate above 0",
        ),
        ({"portfolio": PortfolioPolicy(initial=Decimal("0.9"))}, r"portfolio\.initial: expected at least 1, got 0\.9"),
        ({"portfolio": None, "margin_mode": "portfolio"}, r"A\.portfolio: margin_mode 'portfolio' needs a grid"),
        ({"margin_mode": "net"}, r"unknown policy 'net', known: cross, isolated, portfolio"),
    ],
)
def test_bad_grids_are_refused(changes, expected):
    """Source: PORT-001, PORT-002, CFG-001, CFG-002, NUM-006."""
    with pytest.raises(ConfigError, match=expected):
        build_setup([make_market(**changes)])


def test_the_widest_grid_there_may_be():
    """Just below 1 is taken, 1 is not.

    Source: PORT-001.
    """
    grid = {"contingency": Decimal("0.000001"), "initial": Decimal(1)}
    widest = PortfolioPolicy(moves=(Decimal("-0.999998"), Decimal("0.5")), **grid)
    assert build_setup([make_market(portfolio=widest, margin_call=Decimal(0))])
    wider = PortfolioPolicy(moves=(Decimal("-0.999999"), Decimal("0.5")), **grid)
    with pytest.raises(ConfigError, match=r"is 1; expected below 1"):
        build_setup([make_market(portfolio=wider, margin_call=Decimal(0))])


def test_portfolios_cannot_overflow():
    """Eight markets at the limit of 2**58 are let in, one lot more is not; what has no grid does not count.

    Source: PORT-001, NUM-006.
    """
    sizes = {"quote_unit": Decimal(1), "price_max": Decimal(1 << 20), "open_interest_max": Decimal(1 << 38)}
    markets = [make_market(f"M{index}", **sizes) for index in range(8)]
    assert build_setup([*markets, make_market("N", portfolio=None, **sizes)])
    assert build_setup([*markets, make_market("O", settle="BTC", **sizes)])
    sizes |= {"price_max": Decimal(1), "open_interest_max": Decimal(1)}
    with pytest.raises(ConfigError, match=r"P\.open_interest_max: .* up to 2\*\*61 together"):
        build_setup([*markets, make_market("P", **sizes)])


def test_markets_of_one_underlying_agree():
    """Source: PORT-001, PORT-002, CFG-001."""
    first = make_market(underlying="U")
    for changes, expected in (
        ({"portfolio": moves("-0.12", "0.12")}, r"B\.portfolio: expected what A has"),
        ({"portfolio": None}, r"B\.portfolio: expected what A has"),
        ({"margin_mode": "portfolio"}, r"B\.margin_mode: portfolio is the mode of all markets"),
    ):
        with pytest.raises(ConfigError, match=expected):
            build_setup([first, make_market("B", **({"underlying": "U"} | changes))])
    # of other underlyings, or of the same name in another asset, nothing is asked
    others = [make_market("B", portfolio=None), make_market("C", portfolio=None, underlying="U", settle="BTC")]
    assert [rules.underlying for rules in build_setup([first, *others]).markets] == [0, 1, 2]


def test_the_mode_has_a_name_in_commands():
    """Source: PORT-002."""
    exchange = Exchange([make_market(initial_mark=Decimal(100))], engine="reference")
    (event,) = exchange.apply([commands.SetMarginMode(account=1, market="A", mode="portfolio")])
    assert (event["kind"], event["amount_quote"]) == (codes.ACCEPTED, codes.PORTFOLIO)


@pytest.mark.parametrize("isolated", ["0", "0.4"])
def test_a_crowd_in_portfolio_mode_starts_healthy(isolated):
    """Leverage is held to what the grid lets open, 1 / (0.125 x 1.3), and nobody is liquidated at the first mark.

    Source: POP-001, PORT-003, PORT-004.
    """
    market = make_market(margin_mode="portfolio", initial_mark=Decimal(60_000), price_max=Decimal(100_000))
    share = {"leverage": (LeverageShare(leverage=50, weight=Decimal(1)),), "isolated_share": Decimal(isolated)}
    crowd = Population(
        seed=3, accounts=100, open_interest=Decimal(3_000), size=LognormalSize(sigma=Decimal(1)), **share
    )
    rows = build_population(crowd, market, 0, 60_000)
    given = set(rows["amount_quote"][rows["kind"] == codes.SET_LEVERAGE].tolist())
    assert given == ({6} if isolated == "0" else {6, 50})
    assert set(rows["amount_quote"][rows["kind"] == codes.SET_MARGIN_MODE].tolist()) <= {codes.ISOLATED}
    exchange = Exchange([market], engine="reference")
    events = exchange.apply(rows)
    assert set(events["kind"].tolist()) <= {codes.ACCEPTED, codes.MARGIN_CALL}
    assert len(exchange.positions()["account"]) == 100
    down = exchange.apply(pack_commands([Command(kind=codes.MARK, price_tick=56_000)]))
    assert codes.LIQUIDATION_STARTED in down["kind"]  # 6.7 % down: a sixth less 12.5 % and it is gone


POSITIONS = """account,symbol,side,amount,entry_price,leverage,margin_mode,collateral
x,A,long,10,100,5,portfolio,1000
x,B,short,10,100,5,portfolio,0
y,A,short,3,100,5,cross,200
"""


@pytest.mark.parametrize("start", ["cross", "portfolio"])
def test_real_positions_come_in_portfolio_mode(tmp_path, start):
    """Source: POP-002, PORT-002."""
    file = tmp_path / "positions.csv"
    file.write_text(POSITIONS)
    changes = {"underlying": "U", "margin_mode": start, "initial_mark": Decimal(100)}
    markets = [make_market(symbol, **changes) for symbol in "AB"]
    rows, names = read_positions(file, markets)
    exchange = Exchange(markets, engine="reference")
    assert set(exchange.apply(rows)["kind"].tolist()) == {codes.ACCEPTED}
    chosen = [(names["x"], 0, 1)] if start == "cross" else [(names["y"], 0, 0)]
    assert [tuple(row) for row in exchange.view().portfolios] == chosen


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("5,portfolio,0", "5,cross,0", "expected portfolio in all markets of the asset, or in none"),
        ("5,portfolio,1000", "5,isolated,1000", "expected portfolio in all markets of the asset, or in none"),
    ],
)
def test_half_a_portfolio_is_refused(tmp_path, old, new, expected):
    """Source: POP-002, PORT-002."""
    file = tmp_path / "positions.csv"
    file.write_text(POSITIONS.replace(old, new))
    with pytest.raises(DataError, match=expected) as caught:
        read_positions(file, [make_market(symbol, underlying="U") for symbol in "AB"])
    assert (caught.value.line, caught.value.field) == (3, "margin_mode")
