"""The public face: both engines behind the same methods, copies, snapshots, capacity, queues and prices."""

from decimal import Decimal

import numpy as np
import pytest

from engine import Capacity, Exchange, Market, commands, load_market
from engine.codes import ASSIGN, EVENT_NAMES
from engine.contract import Tier, build_setup
from engine.errors import CapacityError, ConfigError, DataError
from engine.layout import COMMAND

ENGINES = ("compiled", "reference")


def make_market(**changes):
    """Return a market with unit sizes: prices, quantities and money are the same whole numbers."""
    fields = {
        "symbol": "X",
        "tick_size": Decimal(1),
        "lot_size": Decimal(1),
        "quote_unit": Decimal(1),
        "price_max": Decimal(1000),
        "tiers": (Tier(floor=Decimal(0), initial=Decimal("0.05"), maintenance=Decimal("0.025")),),
        "maker_fee": Decimal(0),
        "taker_fee": Decimal(0),
    }
    return Market(**(fields | changes))


def deal(account, order_id, side, qty, price, **more):
    return commands.Place(account=account, order_id=order_id, side=side, qty_lot=qty, price_tick=price, **more)


def opening(accounts=3, amount=5000):
    day = [commands.Mark(price_tick=100)]
    return day + [commands.Deposit(account=a, amount_quote=amount) for a in range(1, accounts + 1)]


def names_of(events):
    return [EVENT_NAMES[int(kind)] for kind in events["kind"]]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_fund_runs_dry(engine):
    """Six shorts of 5,500 .. 5,000 contracts wait in the queue; a long is closed against the first, in part.

    Source: ADL-002, ADL-004, ADL-009, DEF-001, EVT-002, LIQ-007.
    """
    ex = Exchange([make_market()], engine=engine)
    ex.apply([*opening(2), commands.FundDeposit(amount_quote=100)])
    ex.apply([deal(1, 1, "buy", 150, 100), commands.Withdraw(account=1, amount_quote=4000)])
    ex.apply([deal(2, 2, "sell", 150, 100), commands.Level(side="bid", price_tick=91, qty_lot=30)])
    events = ex.apply([commands.Mark(price_tick=91)])
    found = {name: events[[n == name for n in names_of(events)]] for name in set(names_of(events))}
    # long 150 @ 100 with 1,000: equity at 91 is 1,000 - 1,350 = -350; B = 93 1/3, the fund pays 70 for 30 lots at 91
    assert found["fund_debit"]["amount_quote"].tolist() == [70]
    # 120 lots are left, the fund's 30 units buy nothing more: no bid rests
    assert found["adl_started"]["qty_lot"].tolist() == [120]
    assert found["adl_fill"]["amount_quote"].tolist() == [11200]
    deficits = found["deficit"]
    assert deficits["amount_quote"].sum() == 70 + 280
    assert (deficits["other_amount_quote"] + deficits["fee_quote"] == deficits["amount_quote"]).all()
    assert ex.funds()["balance_quote"].tolist() == [30]
    assert ex.balances()["account"].tolist() == [2]


@pytest.mark.parametrize("engine", ENGINES)
def test_lights(engine):
    """Ten ranked shorts carry 5,5,4,4,3,3,2,2,1,1 lights.

    Source: ADL-009.
    """
    ex = Exchange([make_market()], engine=engine)
    ex.apply(opening(11, 100_000))
    for account in range(2, 12):
        ex.apply([deal(1, account, "buy", 10, 100), deal(account, 100 + account, "sell", 10, 100)])
    ex.apply([commands.Mark(price_tick=90)])
    queue = ex.adl_queue(0, -1)
    assert queue["lights"].tolist() == [5, 5, 4, 4, 3, 3, 2, 2, 1, 1]
    assert queue["account"].tolist() == list(range(2, 12))  # equal scores: earlier opening first
    assert queue["rank"].tolist() == list(range(1, 11))


@pytest.mark.parametrize("engine", ENGINES)
def test_two_markets_move_by_exactly_the_slack(engine):
    """A cross account over two markets survives moves that use up its slack exactly, and not one tick more.

    Source: MARGIN-010, MARGIN-004.
    """
    tiers = (Tier(floor=Decimal(0), initial=Decimal("0.05"), maintenance=Decimal("0.02")),)
    markets = [make_market(symbol=name, tiers=tiers, margin_call=Decimal(0)) for name in ("X", "Y")]
    ex = Exchange(markets, engine=engine)
    ex.apply([commands.Mark(market=m, price_tick=100) for m in (0, 1)])
    ex.apply([commands.Deposit(account=1, amount_quote=1080), commands.Deposit(account=2, amount_quote=90_000)])
    for m in (0, 1):
        ex.apply([deal(1, 1 + m, "buy", 50, 100, market=m), deal(2, 11 + m, "sell", 50, 100, market=m)])
    # equity 1,080, maintenance 50 x 2 + 50 x 2 = 200; a tick down in either costs 50 and frees 1: slack 880
    # down 9 in X and 8 in Y: equity 1,080 - 850 = 230, maintenance 91 + 92 = 183; one more tick in X: 180 < 182
    for m in (0, 1):
        for tick in range(99, 91, -1):
            events = ex.apply([commands.Mark(market=m, price_tick=tick)])
            assert "liquidation_started" not in names_of(events)
    events = ex.apply([commands.Mark(market=0, price_tick=91)])
    assert "liquidation_started" not in names_of(events)
    events = ex.apply([commands.Mark(market=1, price_tick=91)])
    assert "liquidation_started" in names_of(events)


@pytest.mark.parametrize("engine", ENGINES)
def test_copies_and_snapshots(engine, tmp_path):
    """A copy and a loaded snapshot have the digest of the original and go on alike, apart from each other.

    Source: STATE-002.
    """
    ex = Exchange([make_market()], engine=engine)
    ex.apply([*opening(2), deal(1, 1, "buy", 10, 99), deal(2, 2, "sell", 10, 101)])
    ex.save(tmp_path / "state.npz")
    twin, loaded = ex.copy(), Exchange.load(tmp_path / "state.npz")
    assert twin.digest() == loaded.digest() == ex.digest()
    more = [deal(2, 3, "sell", 4, 99)]
    first = ex.apply(more)
    assert twin.digest() != ex.digest()
    assert twin.apply(more).tobytes() == loaded.apply(more).tobytes() == first.tobytes()
    assert twin.digest() == loaded.digest() == ex.digest()


def test_a_broken_snapshot_is_refused(tmp_path):
    """Truncated and foreign files are data errors naming the file.

    Source: CLI-002.
    """
    ex = Exchange([make_market()])
    ex.save(tmp_path / "state.npz")
    whole = (tmp_path / "state.npz").read_bytes()
    for name, data in (("short", whole[: len(whole) // 2]), ("empty", b""), ("text", b"hello")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match=name):
            Exchange.load(tmp_path / name)


def test_capacity_names_what_to_raise():
    """A run over capacity tells which one; what came before is applied.

    Source: CLI-002.
    """
    ex = Exchange([make_market()], capacity=Capacity(accounts_max=100))
    rows = [commands.Mark(price_tick=100)] + [commands.Deposit(account=a, amount_quote=1) for a in (1, 99)]
    ex.apply(rows)
    with pytest.raises(CapacityError, match="accounts_max") as caught:
        ex.apply([commands.Deposit(account=99, amount_quote=1), commands.Deposit(account=100, amount_quote=1)])
    assert len(caught.value.events) == 1
    assert ex.balances()["account"].tolist() == [1, 99]


def test_arrays_grow():
    """Thousands of accounts, positions and orders fit into an exchange that starts small.

    Source: STATE-003.
    """
    ex = Exchange([make_market()])
    count = 3000
    ex.apply(opening(count))
    ex.apply([deal(a, a, "buy", 1, 50 + a % 40) for a in range(1, count + 1)])
    assert sum(qty for _, qty in ex.depth(0, 1000)["bids"]) == count
    ex.apply([commands.Cancel(account=a, order_id=a) for a in range(1, count + 1)])
    assert ex.depth(0)["bids"] == []


def test_wrong_rows_are_refused():
    """An array that is not of the COMMAND layout, or of an unknown engine, is refused.

    Source: CMD-001.
    """
    ex = Exchange([make_market()])
    with pytest.raises(DataError, match="COMMAND"):
        ex.apply(np.zeros(3))
    with pytest.raises(ConfigError, match="compiled, reference"):
        Exchange([make_market()], engine="fast")
    assert len(ex.apply(np.zeros(0, COMMAND))) == 0


@pytest.mark.parametrize("engine", ENGINES)
def test_liquidation_prices_and_map(engine):
    """Long 100 @ 100 with 1,000: equity 1,000 - 100 d, maintenance 2.5 % of 100 x (100 - d): liquidated at 92.

    Source: MARGIN-005, MARGIN-011, MARGIN-002.
    """
    ex = Exchange([make_market()], engine=engine)
    ex.apply([*opening(2, 1000), deal(1, 1, "buy", 100, 100), deal(2, 2, "sell", 100, 100)])
    # at 92: equity 200 < 230; at 93: 300 >= 233.  Short: at 108: 200 < 270; at 107: 300 >= 268
    assert ex.liquidation_price(1, 0) == 92
    assert ex.liquidation_price(2, 0) == 108
    assert ex.bankruptcy_price(1, 0) == 90
    assert ex.bankruptcy_price(2, 0) == 110
    assert ex.liquidation_price(3, 0) == 0
    found = ex.liquidation_map(0)
    assert found["price_tick"].tolist() == [92, 108]
    assert found["long_lot"].tolist() == [100, 0]
    assert found["short_lot"].tolist() == [0, 100]


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


GOOD = """
symbol = "X"
tick_size = "0.1"
lot_size = "0.001"
[[tiers]]
floor = "0"
initial = "0.01"
maintenance = "0.005"
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("symbol = ", "not valid TOML"),
        (GOOD.replace('"0.1"', '"abc"', 1), "tick_size"),
        ("colour = 1\n" + GOOD, "colour"),
        ('mark_model = "best"\n' + GOOD, "mark_model: unknown policy 'best', known: recorded, index, last"),
        (GOOD + '[adl]\nscore = "fair"\n', "adl.score: unknown policy 'fair', known: bitmex"),
        (GOOD + '[liquidation]\nsize = "some"\n', "liquidation.size: unknown policy 'some', known: full"),
        (GOOD.replace("0.005", "0.02"), "maintenance <= initial"),
        ('price_max = "1000000000"\n' + GOOD, "price_max"),
        ('open_interest_max = "1000000000"\n' + GOOD, "would pass 2\\*\\*58"),
        ('taker_fee = "0.00000001"\n' + GOOD, "taker_fee"),
        ("default_leverage = 500\n" + GOOD, "default_leverage"),
        (GOOD.replace('floor = "0"', 'floor = "5"'), "the first tier starts at 0"),
        (GOOD + GOOD[GOOD.index("[[") :], "rise from tier to tier"),
        ('lot_size = "x"', "lot_size|symbol|tick_size"),
        ("basis_interval_s = 0\n" + GOOD, "X.basis_interval_s: expected 1 to 86400, got 0"),
        ("basis_samples = 5000\n" + GOOD, "X.basis_samples: expected 1 to 4096, got 5000"),
        ("basis_tau_s = 90000\n" + GOOD, "X.basis_tau_s: expected 1 to 86400, got 90000"),
        ('basis_band = "1"\n' + GOOD, "X.basis_band: expected 0 to below 1, got 1"),
        (GOOD + '[funding]\nmodel = "fair"\n', "funding.model: unknown policy 'fair', known: recorded, premium"),
        (GOOD + '[funding]\npremium = "last"\n', "funding.premium: unknown policy 'last', known: mid, impact"),
        (GOOD + '[funding]\naverage = "twap"\n', "funding.average: unknown policy 'twap', known: flat, linear"),
        (GOOD + '[funding]\npay_on = "last"\n', "funding.pay_on: unknown policy 'last', known: mark, index"),
        (GOOD + "[funding]\ninterval_h = 25\n", "funding.interval_h: expected 1 to 24, got 25"),
        (GOOD + "[funding]\noffset_h = 8\n", "funding.offset_h: expected 0 to 7, got 8"),
        (GOOD + "[funding]\nperiod_h = -1\n", "funding.period_h: expected 0 to 24, got -1"),
        (GOOD + "[funding]\nsample_s = 3601\n", "funding.sample_s: expected 1 to 3600, got 3601"),
        (GOOD + '[funding]\ninterest = "-1.1"\n', "funding.interest: expected -1 to 1, got -1.1"),
        (GOOD + '[funding]\nclamp = "-0.1"\n', "funding.clamp: expected 0 to 1, got -0.1"),
        (GOOD + '[funding]\ncap = "0.0000000001"\n', "funding.cap: rate 1E-10 is not a multiple"),
        (GOOD + '[funding]\nmodel = "premium"\npremium = "impact"\n', "funding.impact_notional: expected 1 to"),
        (GOOD + '[funding]\nimpact_notional = "-1"\n', "funding.impact_notional: expected 0 to"),
        (GOOD + "[funding]\nhour = 1\n", "hour"),
    ],
)
def test_bad_markets_are_refused(tmp_path, text, expected):
    """Each refusal is one line that names the file and the path inside it.

    Source: CFG-001, CFG-002, LIQ-002, NUM-001, NUM-006, MARGIN-002.
    """
    file = write(tmp_path / "market.toml", text)
    with pytest.raises(ConfigError, match=expected) as caught:
        load_market(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match=r"gone\.toml"):
        load_market(tmp_path / "gone.toml")


def test_markets_must_fit_together():
    """Markets of one asset share its unit and call level, and a fund holds one asset.

    Source: CFG-001, FUND-002.
    """
    for changes, expected in (
        ({"symbol": "X"}, "own name"),
        ({"quote_unit": Decimal("0.5")}, "quote_unit"),
        ({"margin_call": Decimal(2)}, "margin_call"),
        ({"settle": "BTC", "fund": "USDT"}, "fund"),
    ):
        with pytest.raises(ConfigError, match=expected):
            build_setup([make_market(), make_market(**({"symbol": "Y"} | changes))])


@pytest.mark.parametrize("accounts", [40, 700, 9_000, 40_000])
def test_events_that_somebody_holds_stay_as_they_are(accounts):
    """STEP-001: buffers are used again, also those the kernel itself had to enlarge, but never one that is in use."""
    exchange = Exchange([make_market()])
    rows = np.zeros(accounts, COMMAND)
    rows["kind"], rows["account"], rows["side"] = ASSIGN, np.arange(1, accounts + 1), 1
    rows["qty_lot"], rows["price_tick"], rows["amount_quote"] = 1, 1_000, 10**9
    exchange.apply([commands.Mark(price_tick=1_000)])
    exchange.apply(rows)
    held = []
    for turn in range(6):  # one command, an event for each account
        events = exchange.apply([commands.Funding(rate_ppb=1_000_000 * (turn + 1))])
        assert len(events) > accounts
        held.append((events[:-1], events[:-1].tobytes()))
        del events
        for kept, as_it_was in held:
            assert kept.tobytes() == as_it_was
