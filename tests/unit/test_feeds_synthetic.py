"""The made-up tape: the same everywhere, sound as a market, and the one in the repository is the one its seed makes."""

import gzip
import hashlib
import json
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from engine import codes
from engine.contract import load_market
from engine.feeds import iter_bbo_checks, open_feed, read_quotes
from engine.feeds.draws import ONE, Draws, exp2_fixed, log2_fixed, lognormal, pareto
from engine.feeds.synthetic import HEADERS, Request, generate, main, write_tape
from engine.scenario import build_population, load_population, load_shock

FOLDER = Path(__file__).resolve().parents[2] / "replay_data" / "synthetic_btc"


@pytest.fixture(scope="module")
def metadata():
    return json.loads((FOLDER / "metadata.json").read_text())


@pytest.fixture(scope="module")
def market():
    return load_market(FOLDER / "market.toml")


# ---------------------------------------------------------------- draws


def test_draws_are_the_same_everywhere():
    """POP-001: pinned, so that a machine or a NumPy that draws otherwise is noticed."""
    draws = Draws(7)
    assert draws.uniform(3).tolist() == [2_684_764_585, 3_853_503_932, 3_331_544_671]
    assert draws.below(1_000, 4).tolist() == [225, 300, 873, 5]
    assert draws.normal(2).tolist() == [3_590_694_768, -1_738_934_657]
    assert lognormal(draws, Decimal("1.2"), 2).tolist() == [600_056_666, 4_141_895_982]
    assert pareto(draws, Decimal("1.5"), 2).tolist() == [15_199_852_090, 4_917_137_306]
    assert draws.shuffled(5).tolist() == [0, 2, 3, 4, 1]


def test_draws_have_their_distributions():
    draws = Draws(1)
    normal = draws.normal(100_000) / ONE
    assert abs(normal.mean()) < 0.02
    assert abs(normal.std() - 1) < 0.02
    sizes = lognormal(draws, Decimal("1.2"), 100_000) / ONE
    assert abs(np.median(sizes) - 1) < 0.02
    assert abs(np.log(sizes).std() - 1.2) < 0.02
    tails = pareto(draws, Decimal("1.5"), 100_000) / ONE
    assert tails.min() >= 1
    assert abs((tails > 4).mean() - 4**-1.5) < 0.005


def test_fixed_point_functions_are_right_to_a_millionth():
    powers = np.array([-20 * ONE, -ONE // 3, 0, 1, ONE // 7, 20 * ONE + 99], dtype=np.int64)
    assert exp2_fixed(powers) / ONE == pytest.approx(2.0 ** (powers / ONE), rel=2e-6, abs=1e-9)
    numbers = np.array([1, 2, 3, 1_000, 2**31 + 1, 2**32 - 1, 2**32], dtype=np.int64)
    assert log2_fixed(numbers) / ONE == pytest.approx(np.log2(numbers), abs=3e-6)
    assert exp2_fixed(np.array([99 * ONE, -99 * ONE], dtype=np.int64)).tolist() == [1 << 60, 1]


# ---------------------------------------------------------------- the tape in the repository


def test_the_tape_is_what_its_metadata_says(metadata):
    assert metadata["label"].startswith("synthetic")
    assert len(metadata["files"]) == len(HEADERS)
    for entry in metadata["files"]:
        packed = (FOLDER / entry["file"]).read_bytes()
        content = gzip.decompress(packed)
        assert hashlib.sha256(packed).hexdigest() == entry["sha256"]
        assert hashlib.sha256(content).hexdigest() == entry["content_sha256"]
        assert len(packed) == entry["size_bytes"]
        assert content.count(b"\n") - 1 == entry["rows"]
    assert sum(entry["size_bytes"] for entry in metadata["files"]) <= 3_000_000
    assert sum(entry["rows"] for entry in metadata["files"]) <= 100_000


def test_the_tape_is_what_its_command_makes(metadata):
    """The rows, that is: compressors of other machines may pack them otherwise."""
    words = metadata["command"].split()
    assert words[:3] == ["python", "-m", "engine.feeds.synthetic"]
    options = dict(zip(words[3::2], words[4::2], strict=True))
    symbol, folder = options.pop("--symbol"), options.pop("--out")
    assert folder == "DIR"
    numbers = {name[2:].replace("-", "_"): int(value) for name, value in options.items()}
    made = {hashlib.sha256(content).hexdigest() for content in generate(Request(symbol=symbol, **numbers)).values()}
    assert made == {entry["content_sha256"] for entry in metadata["files"]}


def test_the_tape_is_a_sound_market(market):
    """FEED-001 FEED-002: after every message the book is uncrossed and its touch is the quote's, in price and size."""
    feed = open_feed(FOLDER, [market])
    quotes = read_quotes(next(FOLDER.glob("*_quotes_*")), market)
    sides = {1: {}, -1: {}}
    checked = 0
    for commands, quote in iter_bbo_checks(feed.chunks(), quotes):
        rows = commands[commands["kind"] == codes.LEVEL]
        for side, price, lots in rows[["side", "price_tick", "qty_lot"]].tolist():
            sides[side][price] = lots
            if not lots:
                del sides[side][price]
        bid, ask = max(sides[1]), min(sides[-1])
        assert bid < ask
        assert [bid, sides[1][bid], ask, sides[-1][ask]] == list(quote.tolist())[1:]
        assert all(50 <= len(levels) <= 300 for levels in sides.values())
        checked += 1
    assert checked == feed.counts["messages"] > 2_000
    assert feed.counts["snapshots"] == 2
    assert feed.counts["funding"] == 1
    assert feed.counts["crossed"] == feed.counts["beyond"] == feed.counts["off_book"] == 0
    assert 500_000_000 < feed.counts["gap_max_ns"] < 2_000_000_000


def test_its_trades_happen_at_the_touch(market):
    """A print lies at the best price of the book it met, and the book's next message holds its effect."""
    commands = np.concatenate(list(open_feed(FOLDER, [market]).chunks()))
    sides = {1: {}, -1: {}}
    prints = 0
    for kind, side, price, lots in commands[["kind", "side", "price_tick", "qty_lot"]].tolist():
        if kind == codes.LEVEL:
            sides[side][price] = lots
            if not lots:
                del sides[side][price]
        elif kind == codes.PRINT:
            assert price == (min(sides[-1]) if side > 0 else max(sides[1]))
            assert lots < sides[-side][price]
            prints += 1
    assert prints > 1_000


def test_its_companions_are_accepted(market):
    population = load_population(FOLDER / "population.toml")
    assert len(build_population(population, market, 0, 600_000))
    shock = load_shock(FOLDER / "shock.toml")
    assert min(shock.price_curve().factors_ppm) < 1_000_000


# ---------------------------------------------------------------- the generator


def test_the_same_seed_gives_the_same_bytes(tmp_path, capsys):
    request = Request(seed=3, seconds=5, symbol="ETHUSDT", price_tick=25_000)
    first = write_tape(request, tmp_path / "one")
    arguments = ["--seed", "3", "--seconds", "5", "--symbol", "ETHUSDT", "--price-tick", "25000"]
    assert main([*arguments, "--out", str(tmp_path / "two")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "two" / "metadata.json")
    names = sorted(path.name for path in (tmp_path / "two").iterdir())
    assert len(names) == len(HEADERS) + 1
    for name in names:
        assert (first.parent / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    other = generate(request._replace(seed=4))
    assert other["trades"] != generate(request)["trades"]


def test_a_tape_has_no_time_of_its_making(tmp_path):
    write_tape(Request(seed=3, seconds=2), tmp_path)
    for path in tmp_path.glob("*.gz"):
        assert path.read_bytes()[4:8] == b"\0\0\0\0"
