"""Commands per second of whole tapes: quiet with more and more accounts, crashing, and beside the reference engine.

Reading the files is not timed: the commands are in memory, in the chunks a replay has.  A quiet tape is the recording
as it is, so that accounts are margin to be watched and nothing more; the crash is the demo's.
"""

import json
import os
from pathlib import Path

import msgspec
import pytest

from engine import Exchange, load_market
from engine.feeds import open_feed
from engine.replay import Plan, build_opening
from engine.replay.runner import CHUNK, BentFeed
from engine.scenario import load_population, load_shock

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "replay_data" / "synthetic_btc"
SHARED = Path(os.environ.get("PERP_SHARED") or ROOT.parent / "shared")
TAPES = {"synthetic": DEMO, "recorded": SHARED / "data" / "btcusdt_4min"}
DEMO_FUND = 1_000_000 * 10**6
SLICE = 4_000  # commands the reference engine gets


def load_chunks(tape, accounts, is_crash=False):
    """Return (market, opening, chunks) of a tape with so many accounts on it."""
    folder = TAPES[tape]
    if not folder.is_dir():  # recordings are not ours to ship: they stand beside the checkout or nowhere
        pytest.skip(f"the recording is not here: {folder.name} (set PERP_SHARED)")
    market = load_market(DEMO / "market.toml")
    population = load_population(DEMO / "population.toml")
    # one venue's files: the recording's folder holds others beside
    feed = open_feed(sorted(folder.glob("*_BTCUSDT.csv.gz")), [market])
    if is_crash:
        feed = BentFeed(feed, load_shock(DEMO / "shock.toml"))
    crowd = []
    if accounts:
        interest = population.open_interest * accounts / population.accounts
        crowd = [msgspec.structs.replace(population, accounts=accounts, open_interest=interest)]
    plan = Plan(markets=[market], feed=feed, populations=crowd, funds={"USDT": DEMO_FUND})
    chunks = list(feed.chunks(CHUNK))
    exchange = Exchange([market])
    opening, _ = build_opening(plan, feed, exchange.setup, int(chunks[0]["ts_ns"][0]))
    return market, opening, chunks


def measure(benchmark, market, opening, chunks, engine="compiled", rounds=5):
    """Time `chunks` on an exchange that has the opening behind it; return the digest, the same in every round."""
    done = []

    def fresh():
        exchange = Exchange([market], engine=engine)
        exchange.apply(opening)
        return (exchange,), {}

    def run(exchange):
        for chunk in chunks:
            exchange.apply(chunk)
        done.append(exchange)

    benchmark.pedantic(run, setup=fresh, rounds=rounds, warmup_rounds=1)
    commands = sum(map(len, chunks))
    benchmark.extra_info["commands"] = commands
    if benchmark.stats:
        benchmark.extra_info["commands_per_s"] = round(commands / benchmark.stats.stats.min)
    (digest,) = {exchange.digest() for exchange in done}
    benchmark.extra_info["digest"] = digest
    return digest


@pytest.mark.parametrize("accounts", [0, 2_000, 100_000])
@pytest.mark.parametrize("tape", TAPES)
def test_quiet(benchmark, tape, accounts):
    """What accounts that only stand there cost: next to nothing, since a mark looks at those it crosses alone."""
    benchmark.group = f"replay: {tape} tape, quiet"
    assert measure(benchmark, *load_chunks(tape, accounts))


def test_crash(benchmark):
    """The demo: two thousand accounts, a cascade, a dry fund, ADL.  Its digest is the recorded one (STATE-003)."""
    benchmark.group = "replay: synthetic tape, crash"
    digest = measure(benchmark, *load_chunks("synthetic", 2_000, is_crash=True))
    assert digest == json.loads((ROOT / "tests" / "golden" / "demo.json").read_text(encoding="utf-8"))["digest"]


@pytest.mark.parametrize("engine", ["compiled", "reference"])
def test_slice(benchmark, engine):
    """Both engines over the first commands of the quiet tape with twenty accounts; same digest (STATE-003)."""
    benchmark.group = "replay: both engines"
    market, opening, chunks = load_chunks("synthetic", 20)
    piece = chunks[0][:SLICE].copy()
    digest = measure(benchmark, market, opening, [piece], engine, rounds=3)
    other = Exchange([market], engine={"compiled": "reference", "reference": "compiled"}[engine])
    other.apply(opening)
    other.apply(piece)
    assert digest == other.digest()
