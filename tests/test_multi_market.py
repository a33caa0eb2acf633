"""Several recorded markets in one exchange, spot beside them as index, cross-margined accounts on top (FEED-010)."""

from collections import defaultdict
from decimal import Decimal

import numpy as np
import pytest

from engine import Market, codes
from engine.audit import Auditor, check_state
from engine.contract import Tier
from engine.feeds import open_feed
from engine.replay import Plan, count_fund, run_replay
from engine.replay.runner import Runner
from engine.scenario import Population, Shock
from engine.scenario.population import LeverageShare, LognormalSize
from engine.scenario.shock import Point

pytest.importorskip("zstandard", reason="the recording is packed with zstd, an extra")
TIERS = (Tier(floor=Decimal(0), initial=Decimal("0.01"), maintenance=Decimal("0.005")),)
TICKS = {
    "BTCUSDT": ("0.1", "0.001"),
    "ETHUSDT": ("0.01", "0.01"),
    "SOLUSDT": ("0.01", "0.1"),
    "DOGEUSDT": ("0.00001", "1"),
}


def make_markets(mark_model="recorded"):
    return [
        Market(symbol=symbol, tick_size=Decimal(tick), lot_size=Decimal(lot), tiers=TIERS, mark_model=mark_model)
        for symbol, (tick, lot) in TICKS.items()
    ]


@pytest.fixture(scope="module")
def capture(shared):
    path = shared / "data/bybit_v5_multi_20260809/BYBIT.jsonl.zst"
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    return path


def test_spot_moves_the_index_of_its_perpetual(capture):
    """The index of BTC and ETH is the last spot trade, to the tick; SOL's and DOGE's stay the venue's own."""
    markets = make_markets()
    sources = {"BTCUSDT": "bybit-spot:BTCUSDT", "ETHUSDT": "bybit-spot:ETHUSDT"}
    own = np.concatenate(list(open_feed(capture, markets).chunks()))
    feed = open_feed(capture, markets, indexes=sources)
    rows = np.concatenate(list(feed.chunks()))
    spot = open_feed(capture)
    trades = np.concatenate([block[block["kind"] == codes.ROW_TRADE] for block in spot.records()])
    names = [(row.exchange, row.symbol) for row in spot.instruments]
    for market, symbol in enumerate(TICKS):
        told = rows[(rows["kind"] == codes.INDEX) & (rows["market"] == market)]
        if symbol not in sources:
            before = own[(own["kind"] == codes.INDEX) & (own["market"] == market)]
            assert np.array_equal(told[["ts_ns", "price_tick"]], before[["ts_ns", "price_tick"]])
            continue
        mine = trades[trades["market"] == names.index(("bybit-spot", symbol))]
        assert len(mine) > 5
        ticks = [round(Decimal(int(price)) / 10**9 / Decimal(TICKS[symbol][0])) for price in mine["price"]]
        at = np.searchsorted(told["ts_ns"], mine["ts_ns"], side="right") - 1
        last = {ts: tick for ts, tick in zip(mine["ts_ns"].tolist(), ticks, strict=True)}
        assert {
            int(told["ts_ns"][place]): int(told["price_tick"][place]) for place in at.tolist()
        }.items() <= last.items()
    assert rows["market"].max() == 3


def test_cross_accounts_fall_in_one_market_for_losses_in_another(capture, tmp_path):
    """Four perpetuals, one fund; accounts hold several; the crash is everybody's, every unit is found again."""
    markets = make_markets()
    size = LognormalSize(sigma=Decimal("0.8"))
    crowds = [
        Population(
            seed=seed,
            accounts=60,
            open_interest=Decimal(interest),
            long_share=Decimal("0.7"),
            entry_spread=Decimal("0.001"),
            isolated_share=Decimal(0),
            leverage=(LeverageShare(leverage=50, weight=Decimal(1)), LeverageShare(leverage=90, weight=Decimal(1))),
            size=size,
        )
        for seed, interest in enumerate(("30", "700", "9000", "4000000"), 1)
    ]
    points = (Point(t="5s", factor=Decimal(1)), Point(t="20s", factor=Decimal("0.93")))
    depth = (Point(t="5s", factor=Decimal(1)), Point(t="20s", factor=Decimal("0.2")))
    plan = Plan(
        markets=markets,
        feed=open_feed(capture, markets, indexes={"BTCUSDT": "bybit-spot:BTCUSDT"}),
        populations=crowds,
        shock=Shock(price=points, depth=depth),
        funds=count_fund("20000", markets),
    )
    run = run_replay(plan, out=tmp_path / "run")
    summary = run.summary
    assert summary["conserved"]
    assert summary["liquidations"] > 20
    with np.load(tmp_path / "run" / "events.npz") as found:
        events = found["events"]
    held = defaultdict(set)
    for row in events[events["kind"] == codes.LIQUIDATION_FILL]:
        held[int(row["account"])].add(int(row["market"]))
    assert {market for touched in held.values() for market in touched} == {0, 1, 2, 3}
    assert max(map(len, held.values())) > 1  # one account closed in several markets
    auditor = Auditor(run.exchange.setup)
    auditor.feed(events)
    auditor.compare(run.exchange.view())
    check_state(run.exchange.view(), run.exchange.setup)


def test_both_engines_play_it_alike(capture):
    """STATE-003: the first messages of six books, spot as index, in both engines."""
    markets = make_markets("index")
    plans = [
        Plan(
            markets=markets,
            feed=open_feed(capture, markets, indexes={"BTCUSDT": "bybit-spot:BTCUSDT"}),
            engine=engine,
            until_seq=3_000,
        )
        for engine in ("compiled", "reference")
    ]
    runs = [Runner(plan).run() for plan in plans]
    assert runs[0].summary["digest"] == runs[1].summary["digest"]
    assert runs[0].summary["event_kinds"] == runs[1].summary["event_kinds"]
