"""What the venues' recordings, and our own tape, come to under every preset: digests that must not move unnoticed.

Each run is a recording with a crowd on it and a crash through it, under one venue's rules.  The rules of coin-margined
venues are run on a coin-margined recording, the others on the four minutes of BTCUSDT and on the demo's tape; every
other recording is played as it is, without anybody on it.
"""

from decimal import Decimal

import msgspec
import numpy as np

from engine.cli import find_demo
from engine.contract import Market, build_setup, load_market
from engine.feeds import open_feed
from engine.replay import Plan, run_replay
from engine.scenario import load_population, load_shock
from engine.venues import list_venues, merge_tables, read_venue

KEYS = ("digest", "commands", "events", "liquidations", "deficit_quote", "adl_fills", "unpaid_quote")
ROWS = 60_000  # of a recording
FOUR_MINUTES = "data/btcusdt_4min/binance-futures_{}_2023-04-05_BTCUSDT.csv.gz"
COINM = "data/binance_20240808_btc_eth_usdm_coinm_spot/cm/btcusd_perp_20240808.gz"
# path under the shared folder, symbol, tick, lot
OTHERS = {
    "bybit": ("data/bybit_v5_multi_20260809/BYBIT.jsonl.zst", "BTCUSDT", "0.1", "0.001"),
    "bybit-ob500": ("data/bybit_ob500_20241201/2024-12-01_XRPUSDT_ob500.data.zip", "XRPUSDT", "0.0001", "1"),
    "okx": ("data/cryptofeed_ws_captures/OKX.ws.1.0.gz", "UNI-USD-SWAP", "0.001", "1"),
    "lighter": ("data/lighter_btc_20251210/mainnet_order_book_place_cancel_btc.json.gz", "BTC", "0.1", "0.00001"),
    "hyperliquid": ("data/hyperliquid_misc/l2book_trades_btc_20250126.gz", "BTC", "1", "0.00001"),
    "luno": ("data/luno_l3_20210713/Luno-XBTZAR-Websocket-Log.txt.gz", "XBTZAR", "1", "0.000001"),
    "binance-raw": (
        "data/btcusdt_4min/binance_usdm_btcusdt_raw_20230405_000109_000119.dat.gz",
        "BTCUSDT",
        "0.1",
        "0.001",
    ),
}


class ListedFeed:
    """Commands in memory as a feed."""

    def __init__(self, symbol, rows):
        self.symbols, self.counts, self.rows = (symbol,), {}, rows

    def chunks(self, rows=65_536):
        """Yield them in pieces."""
        for start in range(0, len(self.rows), rows):
            yield self.rows[start : start + rows]


def read(paths, market, rows=ROWS):
    """Return the first commands of a recording."""
    found, count = [], 0
    for chunk in open_feed(paths, [market], is_strict=False).chunks(8_192):
        found.append(chunk)
        count += len(chunk)
        if count >= rows:
            break
    return np.concatenate(found)[:rows]


def make_market(preset, own, **changes):
    """Return the market a recording is of, under a preset's rules."""
    kept = ("symbol", "tick_size", "lot_size", "contract_size", "price_max", "mark_model", "initial_mark", "kind")
    raw = msgspec.to_builtins(own)
    table = merge_tables(read_venue(preset).fill(), {name: raw[name] for name in kept if raw[name] is not None})
    return msgspec.convert({**table, **changes}, Market, strict=False)


def list_cases(shared):
    """Yield (name, the files it needs, function that runs it and returns a summary)."""
    demo = find_demo()
    coin = {name for name in list_venues() if is_inverse(name)}
    own = load_market(demo / "market.toml")
    for name in list_venues():
        if name not in coin:
            yield f"demo {name}", [demo / "market.toml"], lambda name=name: run_demo(name, own)
    tape = [shared / FOUR_MINUTES.format(kind) for kind in ("incremental_book_L2", "trades", "derivative_ticker")]
    for name in list_venues():
        if name not in coin:
            yield f"btcusdt-4min {name}", tape, lambda name=name: run_crash(name, tape, own)
    inverse = Market(
        symbol="BTCUSD_PERP", kind="inverse", tick_size=Decimal("0.1"), lot_size=Decimal(1), contract_size=Decimal(100),
        tiers=own.tiers, settle="BTC", quote_unit=Decimal("0.00000001"), price_max=Decimal(250_000), mark_model="last",
        initial_mark=Decimal(61_700),
    )  # fmt: skip
    for name in sorted(coin):
        path = shared / COINM
        yield f"coin-m {name}", [path], lambda name=name, path=path: run_crash(name, [path], inverse)
    for name, (path, symbol, tick, lot) in OTHERS.items():
        market = Market(
            symbol=symbol, tick_size=Decimal(tick), lot_size=Decimal(lot), tiers=own.tiers, mark_model="last"
        )
        file = shared / path
        yield name, [file], lambda file=file, market=market: run_plain(file, market)


def is_inverse(name):
    """Return whether a preset is of coin-margined contracts."""
    return read_venue(name).fill().get("kind") == "inverse"


def pick(summary):
    """Return what must not change."""
    return {key: summary[key] for key in KEYS}


def fund(market, amount):
    """Return what the only fund starts with."""
    return {build_setup([market]).funds[0]: amount}


def run_demo(preset, own):
    """Run the demo's crash under a preset."""
    folder = find_demo()
    market = make_market(preset, own)
    crowd, shock = load_population(folder / "population.toml"), load_shock(folder / "shock.toml")
    feed = ListedFeed(market.symbol, read([folder], market))
    plan = Plan(markets=[market], feed=feed, populations=[crowd], shock=shock, funds=fund(market, 10**11))
    return pick(run_replay(plan).summary)


def run_crash(preset, paths, own):
    """Run a recording with the demo's crowd, as large as its book bears, and its crash."""
    folder = find_demo()
    market = make_market(preset, own)
    shock = load_shock(folder / "shock.toml")
    interest = Decimal(300) if market.kind == "linear" else Decimal(200_000)
    crowd = msgspec.structs.replace(load_population(folder / "population.toml"), accounts=300, open_interest=interest)
    feed = ListedFeed(market.symbol, read(paths, market, 30_000))
    plan = Plan(markets=[market], feed=feed, populations=[crowd], shock=shock, funds=fund(market, 10**9))
    return pick(run_replay(plan).summary)


def run_plain(file, market):
    """Play a recording as it is."""
    return pick(run_replay(Plan(markets=[market], feed=ListedFeed(market.symbol, read([file], market)))).summary)
