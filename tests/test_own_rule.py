"""An allocation of one's own: the documented one by hand, a named one told as a function, and what is refused."""

import json
from decimal import Decimal
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import Exchange, commands
from engine.cli import main
from engine.codes import ADL_FILL, ALLOT_PNL
from engine.commands import to_rows
from engine.contract import load_market
from engine.errors import ConfigError
from engine.reference.allotment import Holder, allot
from engine.reference.own import OwnRule, load_rule
from engine.replay import Plan
from engine.twin import compare_replay, compare_simulation, list_policies, parse_fork
from tests.mirror.pair import make_market
from tests.unit.test_twin import ListFeed

ROOT = Path(__file__).resolve().parents[1]
LEVEL_DOWN = ROOT / "engine" / "docs" / "examples" / "level_down.py"


def make_holders(rows):
    return [Holder(account, qty, cap, gain=0, equity=cap) for account, (qty, cap) in enumerate(rows, 1)]


def cascade(short_lots=(60, 30, 10)):
    """A long with 60 a lot behind it against shorts, all from 1,000; at 920 the book bids for 50 lots at 955."""
    market = make_market(initial_mark=Decimal(1_000), price_max=Decimal(2_000))
    lots = sum(short_lots)
    sent = [commands.Assign(account=9, side="buy", qty_lot=lots, price_tick=1_000, amount_quote=60 * lots)]
    for account, qty in enumerate(short_lots, 1):
        opened = {"side": "sell", "qty_lot": qty, "price_tick": 1_000, "amount_quote": 400 * qty}
        sent.append(commands.Assign(account=account, **opened))
    book = commands.Level(side="bid", price_tick=955, qty_lot=50)
    return market, [*sent, book, commands.Mark(price_tick=920)]


# ---------------------------------------------------------------- the documented one


def test_thirty_lines():
    """The rule the how-to shows is the file, and has the length it promises."""
    text = LEVEL_DOWN.read_text(encoding="utf-8")
    body = text[text.index("def level_down") :]
    assert len(body.splitlines()) <= 30
    assert body in (ROOT / "engine" / "docs" / "howto.md").read_text(encoding="utf-8")


@given(st.data())
def test_level_down_cuts_the_largest(data):
    """OWN-001: an allocation; of those below their cap nobody keeps more than a lot above the lowest of who gives."""
    sizes = data.draw(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 50)), min_size=1, max_size=8))
    holders = make_holders([(qty, min(qty, cap)) for qty, cap in sizes])
    lots = data.draw(st.integers(1, 200))
    parts = load_rule(f"{LEVEL_DOWN}:level_down")(lots, holders)
    assert sum(parts.values()) == min(lots, sum(holder.cap for holder in holders))
    kept = {holder.account: holder.qty - parts.get(holder.account, 0) for holder in holders}
    givers = [holder for holder in holders if parts.get(holder.account)]
    free = [holder for holder in holders if parts.get(holder.account, 0) < holder.cap]
    lowest = min((kept[holder.account] for holder in givers), default=0)
    assert all(kept[holder.account] <= lowest + 1 for holder in free)


def test_level_down_by_hand():
    """60, 30 and 10 lots, 70 to close, nobody near its cap: two keep 15 or less, the third 10 (OWN-001).

    Level 10 yields 50 + 20 + 0 = 70.
    """
    holders = [Holder(1, 60, 60, 0, 0), Holder(2, 30, 30, 0, 0), Holder(3, 10, 10, 0, 0)]
    assert load_rule(f"{LEVEL_DOWN}:level_down")(70, holders) == {1: 50, 2: 20, 3: 0}


def test_the_exchange_asks_the_rule():
    """OWN-003: what the book leaves is closed as the function says, in the order of the queue."""
    market, sent = cascade()
    asked = []

    def last_first(lots, holders):
        asked.append((lots, [(holder.account, holder.qty) for holder in holders]))
        parts, left = {}, lots
        for holder in reversed(holders):
            parts[holder.account] = min(holder.cap, left)
            left -= parts[holder.account]
        return parts

    exchange = Exchange([market], engine="reference", allocation=last_first)
    events = exchange.apply(sent)
    fills = events[events["kind"] == ADL_FILL]
    ((lots, order),) = asked
    assert lots == 50
    want, left = {}, 50
    for account, qty in reversed(order):
        want[account] = min(qty, left)
        left -= want[account]
    assert dict(zip(fills["other"].tolist(), fills["qty_lot"].tolist(), strict=True)) == {
        a: n for a, n in want.items() if n
    }
    assert fills["rank"].tolist() == sorted(fills["rank"].tolist())
    queue = Exchange([market], engine="reference")
    queue.apply(sent)
    assert queue.digest() != exchange.digest()
    assert exchange.copy().engine.inner.state.allocation is not None


# ---------------------------------------------------------------- a named one as a function

NAMED = """
from engine.codes import ALLOT_PNL
from engine.reference.allotment import allot

def by_pnl(lots, holders):
    return allot(ALLOT_PNL, lots, holders)
"""


@pytest.fixture
def by_pnl(tmp_path):
    file = tmp_path / "own.py"
    file.write_text(NAMED)
    return f"{file}:by_pnl"


def test_a_named_policy_as_a_function_changes_nothing(tmp_path, by_pnl):
    """By its name and by a function `pro_rata_pnl` ends in the same state, the queue in another (OWN-003, OWN-004)."""
    market, sent = cascade((61, 30, 13))
    plan = Plan(markets=[market], feed=ListFeed(market, sent), funds={"USDT": 100}, engine="reference")
    named = tmp_path / "named.toml"
    named.write_text('[adl]\nallocation = "pro_rata_pnl"\n')
    policies = list_policies([Path("market"), named, Path(by_pnl)], plan.markets)
    rows = compare_replay(plan, policies, parse_fork(["adl_started"])).summary["policies"]
    assert [row["name"] for row in rows] == ["market", "named", "by_pnl"]
    assert rows[1]["digest"] == rows[2]["digest"] != rows[0]["digest"]
    assert rows[1]["adl_fills"] == 3
    assert rows[2]["file"] == "own.py"
    assert rows[2]["sha256"]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own") / "demo"
    assert main(["demo", "--out", str(folder), "--json"]) == 0
    return folder


def test_the_lab_has_a_row_for_it(demo, tmp_path, capsys):
    """OWN-002: the exchange's `min_max` as a function is the lab's, a rule that closes by the queue is its `queue`."""
    (tmp_path / "own.py").write_text("""
from engine.codes import ALLOT_MIN_MAX
from engine.reference.allotment import allot

def fairest(lots, holders):
    return allot(ALLOT_MIN_MAX, lots, holders)

def in_order(lots, holders):
    parts = {}
    for holder in holders:
        parts[holder.account] = min(lots, holder.cap)
        lots -= parts[holder.account]
    return parts
""")
    capsys.readouterr()
    rules = [f"--rule={tmp_path / 'own.py'}:{name}" for name in ("fairest", "in_order")]
    assert main(["lab", "run", str(demo), *rules, "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)["runs"]
    rows = told["policies"]
    assert rows["in_order"] == rows["queue"]
    assert rows["fairest"]["mean_max_share"] == rows["min_max"]["mean_max_share"]
    assert rows["fairest"]["taken_quote"] == rows["min_max"]["taken_quote"]
    assert main(["lab", "run", str(demo), f"--rule={LEVEL_DOWN}:level_down"]) == 0
    assert "\nlevel_down " in capsys.readouterr().out


# ---------------------------------------------------------------- refused

HOLDERS = make_holders([(10, 10), (5, 3)])


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda lots, holders: {1: 2, 7: 2}, "account 7 is not among the candidates"),
        (lambda lots, holders: {1: 2.0, 2: 2}, "account 1: expected whole lots, got 2.0"),
        (lambda lots, holders: {1: -1, 2: 5}, "account 1: expected 0 to 10 lots, got -1"),
        (lambda lots, holders: {2: 4}, "account 2: expected 0 to 3 lots, got 4"),
        (lambda lots, holders: {1: 3}, "expected 4 lots all together, got 3"),
        (lambda lots, holders: {1: 5}, "expected 4 lots all together, got 5"),
        (lambda lots, holders: [(1, 4)], "expected a mapping of account to lots, got list"),
        (lambda lots, holders: 1 // 0, "ZeroDivisionError"),
        (lambda lots: {}, "TypeError"),
    ],
)
def test_what_is_no_allocation_is_refused(answer, message):
    """OWN-001."""
    with pytest.raises(ConfigError, match="rule odd: ") as error:
        OwnRule(answer, "odd")(4, HOLDERS)
    assert message in str(error.value)


def test_nobody_who_can_bear_a_lot_is_no_question():
    """OWN-001: the function is not called, and cannot fail on an empty market."""
    assert OwnRule(lambda lots, holders: 1 // 0)(4, make_holders([(5, 0)])) == {}
    assert OwnRule(lambda lots, holders: 1 // 0)(4, []) == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("own.toml", "expected FILE.py:FUNCTION"),
        ("own.py:two words", "expected FILE.py:FUNCTION"),
        ("none.py:rule", "cannot be read"),
        ("broken.py:rule", "cannot be run: SyntaxError"),
        ("failing.py:rule", "cannot be run: ZeroDivisionError"),
        ("fine.py:other", "has no function other"),
        ("fine.py:number", "has no function number"),
    ],
)
def test_a_file_without_the_function_is_refused(tmp_path, monkeypatch, capsys, demo, text, message):
    """OWN-001: one line, exit status 5; nothing is written beside the file."""
    monkeypatch.chdir(tmp_path)
    for name, source in (
        ("broken", "def"),
        ("failing", "1 // 0"),
        ("fine", "number = 1\ndef rule(lots, holders): ..."),
    ):
        (tmp_path / f"{name}.py").write_text(source)
    assert main(["lab", "run", str(demo), "--rule", text]) == 5
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"perp: error: rule {text}: ")
    assert message in line
    assert not (tmp_path / "__pycache__").exists()


def test_a_name_that_is_taken_is_refused(demo, tmp_path, capsys):
    """OWN-002."""
    (tmp_path / "own.py").write_text("def queue(lots, holders): return {}\n")
    assert main(["lab", "run", str(demo), "--rule", f"{tmp_path / 'own.py'}:queue"]) == 5
    assert "there is a row queue" in capsys.readouterr().err


def test_the_compiled_engine_refuses_it(by_pnl):
    """OWN-003, OWN-004: before anything is run; nor is a function in a snapshot."""
    market, sent = cascade()
    rule = load_rule(by_pnl)
    assert rule(4, HOLDERS) == allot(ALLOT_PNL, 4, HOLDERS)
    with pytest.raises(ConfigError, match="expects engine='reference'"):
        Exchange([market], allocation=rule)
    with pytest.raises(ConfigError, match="expects engine='reference'"):
        Exchange([market]).copy(allocation=rule)
    with pytest.raises(ConfigError, match="snapshot: expected named policies, rule by_pnl is a function"):
        Exchange([market], engine="reference", allocation=rule).save("never.npz")
    plan = Plan(markets=[market], feed=ListFeed(market, sent))
    policies = list_policies([Path(by_pnl)], plan.markets)
    with pytest.raises(ConfigError, match="--policy by_pnl: a function expects --engine reference and a tape"):
        compare_replay(plan, policies, parse_fork(["start"]))
    with pytest.raises(ConfigError, match="a function expects --engine reference and a tape"):
        compare_simulation(None, market, policies, parse_fork(["start"]))


MARKET = """
symbol = "M"
tick_size = "1"
lot_size = "1"
quote_unit = "1"
price_max = "2000"
initial_mark = "1000"
maker_fee = "0"
taker_fee = "0"
margin_call = "0"
default_leverage = 10
tiers = [{ floor = "0", initial = "0.1", maintenance = "0.05" }]
"""


def test_on_the_command_line(tmp_path, capsys):
    """OWN-004: beside the market's own policy; one that fails ends in one line, with exit status 5 and no folder."""
    _, sent = cascade((60, 30, 10))
    rows = to_rows(sent, {"M": 0})
    (tmp_path / "market.toml").write_text(MARKET)
    (tmp_path / "own.py").write_text("def nothing(lots, holders): return {}\n")
    meta = {"format": 1, "markets": msgspec.to_builtins([load_market(tmp_path / "market.toml")])}
    text = np.frombuffer(json.dumps(meta).encode(), np.uint8)
    np.savez(tmp_path / "tape.npz", commands=rows, meta=text)
    told = ["compare", str(tmp_path / "tape.npz"), "--market", str(tmp_path / "market.toml"), "--engine", "reference"]
    told += ["--policy", "market", "--out", str(tmp_path / "out")]
    assert main([*told, "--policy", f"{tmp_path / 'own.py'}:nothing"]) == 5
    assert capsys.readouterr().err == "perp: error: rule nothing: expected 50 lots all together, got 0\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["market.toml", "own.py", "tape.npz"]
    assert main([*told, "--policy", f"{LEVEL_DOWN}:level_down"]) == 0
    assert "level_down" in capsys.readouterr().out
    policies = json.loads((tmp_path / "out" / "summary.json").read_text())["policies"]
    assert [row["name"] for row in policies] == ["market", "level_down"]
    # of 60, 30 and 10 lots 50 go: 40 and 10 stand above a level of 20
    assert policies[1]["adl_victims"] == 2
