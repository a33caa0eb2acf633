"""The same result, whatever is varied around it; engine/docs/determinism.md says what is promised (STATE-003)."""

import hashlib
import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import engine.replay.runner as runner_module
from engine import Exchange
from engine.cli import DEMO_FUND, find_demo
from engine.contract import load_market
from engine.feeds import open_feed
from engine.feeds.columns import read_plainly
from engine.feeds.draws import Draws
from engine.replay import Plan, count_fund, run_replay
from engine.replay.runner import Runner
from engine.scenario import load_population, load_shock

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "engine" / "docs" / "determinism.md"
DEMO = find_demo()
CLOCK = ("seconds", "engine_seconds", "events_per_s", "commands_per_s")
UNIFORM, NORMAL, DOUBLINGS = (
    [2684764585, 3853503932, 3331544671],
    [-3107936197, 6770582, -3843766693],
    [11573589652, 8168400436, 789762161],
)
CASCADE = 120_000  # commands of the demo, past the beginning of ADL


def make_plan(**changes):
    markets = [load_market(DEMO / "market.toml")]
    return Plan(
        markets=markets,
        feed=open_feed([DEMO], markets),
        populations=[load_population(DEMO / "population.toml")],
        shock=load_shock(DEMO / "shock.toml"),
        funds=count_fund(DEMO_FUND, markets),
        **changes,
    )


def play(**changes):
    """Return what is the same about a run: its summary without the clock, and a hash of its events and its signs."""
    events = hashlib.sha256()
    run = run_replay(make_plan(**changes), on_events=lambda _, found: events.update(found.tobytes()))
    told = {name: value for name, value in run.summary.items() if name not in CLOCK}
    return told, events.hexdigest(), run.signs.tobytes()


@pytest.fixture(scope="module")
def straight():
    found = play(until_seq=CASCADE)
    assert found[0]["adl_fills"] > 0
    return found


@pytest.fixture(scope="module")
def rows():
    """Return the demo's commands up to its cascade."""
    kept = np.concatenate(list(Runner(make_plan(until_seq=CASCADE)).iter_commands()))
    assert len(kept) == CASCADE
    return kept


@pytest.mark.parametrize("piece", [97, 4_099])
def test_pieces_do_not_matter(straight, monkeypatch, piece):
    """STATE-003 CLI-003: a run that looks for Ctrl-C more often is the same run, signs and samples included."""
    monkeypatch.setitem(runner_module.PIECES, "compiled", piece)
    assert play(until_seq=CASCADE) == straight


def test_slow_pieces_are_cut_and_the_run_is_the_same(straight, monkeypatch):
    """CLI-003: they become short where time is short, and never shorter than they may be."""
    monkeypatch.setattr(runner_module, "PIECE_S", 1e-4)
    sizes = []
    fit = Runner.fit_piece
    monkeypatch.setattr(Runner, "fit_piece", lambda self, seconds: (fit(self, seconds), sizes.append(self.piece))[0])
    assert play(until_seq=CASCADE) == straight
    assert min(sizes) < 1_000
    assert min(sizes) >= runner_module.PIECE_LEAST


def test_batches_do_not_matter(rows):
    """STATE-003: one call or many, of any length."""
    market = [load_market(DEMO / "market.toml")]
    dice = np.random.default_rng(3)
    found = set()
    for most in (len(rows), 20_000, 300):
        exchange, at, events = Exchange(market), 0, hashlib.sha256()
        while at < len(rows):
            count = int(dice.integers(1, most, endpoint=True)) if most < len(rows) else most
            events.update(exchange.apply(rows[at : at + count]).tobytes())
            at += count
        found.add((exchange.digest(), events.hexdigest()))
    assert len(found) == 1


def test_threads_do_not_matter(rows):
    """STATE-003: kernels release the interpreter's lock and share nothing."""
    market = [load_market(DEMO / "market.toml")]

    def work(_):
        exchange = Exchange(market)
        for start in range(0, len(rows), 10_000):
            exchange.apply(rows[start : start + 10_000])
        return exchange.digest()

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(work, range(4)))) == 1


def test_ways_of_reading_do_not_matter(straight, monkeypatch):
    """STATE-003 FEED-060 FEED-064: without polars, without isal, and not read ahead."""
    with read_plainly():
        assert play(until_seq=CASCADE) == straight
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "isal", None)
        patch.setattr(runner_module, "AheadFeed", lambda feed, should_stop: feed)
        assert play(until_seq=CASCADE) == straight


def test_the_surroundings_do_not_matter():
    """STATE-003: hash seeds, threads, locale and time zone, in processes of their own; a sweep's row too."""
    code = """
import json
from tests.test_determinism import ROOT, play
from engine.sweep.measure import run_seed
from engine.sweep.scenario import load_scenario
told, events, _ = play(until_seq=60_000)
row = run_seed(load_scenario(ROOT / "replay_data" / "stress" / "flash_crash.toml"), 3)
print(json.dumps([told, events, row], sort_keys=True))
"""
    plain = {"PYTHONHASHSEED": "0", "POLARS_MAX_THREADS": "1", "NUMBA_NUM_THREADS": "1", "TZ": "UTC", "LC_ALL": "C"}
    other = {"PYTHONHASHSEED": "4711", "POLARS_MAX_THREADS": "5", "NUMBA_NUM_THREADS": "2", "TZ": "Asia/Kathmandu"}
    found = [
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={**os.environ, **more},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for more in (plain, {**other, "LC_ALL": "de_DE.UTF-8"})
    ]
    assert found[0] == found[1]
    assert json.loads(found[0])[0]["liquidations"] > 0


def test_draws_are_what_they_were():
    """POP-001 STATE-003: the raw stream of PCG64, which NumPy promises, and tables computed in Decimal."""
    draws = Draws(7)
    assert draws.uniform(3).tolist() == UNIFORM
    assert draws.normal(3).tolist() == NORMAL
    assert draws.doublings(3).tolist() == DOUBLINGS


def test_the_page_names_what_is_there():
    """Every test, file and rule the page names exists."""
    text = PAGE.read_text(encoding="utf-8")
    for name in set(re.findall(r"`((?:tests|engine)/[\w/.]+)`", text)):
        assert (ROOT / name).exists(), name
    for name in CLOCK:
        assert f"`{name}`" in text
    defined = (ROOT / "engine" / "docs" / "spec.md").read_text(encoding="utf-8")
    for rule in set(re.findall(r"`([A-Z]+-\d{3})`", text)):
        assert f"**{rule}**" in defined, rule
