"""Other projects' scenarios (profiles quote_base, vm_cash, formula): how they become ours, and that each one holds.

The file is with the recordings (`PERP_SHARED`, else ../shared); what needs none is tested on scenarios made up here.
"""

import copy
import json
import re
import types
from fractions import Fraction

import pytest

import engine.check.peer
from engine.check import ScenarioFile
from engine.check.peer import count_decimals, show_exact
from engine.check.quote_base import QuoteBasePlay
from engine.check.vm_cash import CashPlay
from engine.cli import main
from tests.conftest import list_numbers


@pytest.fixture(params=("quote_base", "vm_cash", "formula"))
def profile(request):
    """Return a profile."""
    return request.param


@pytest.fixture(scope="module")
def peers(shared):
    """Return the peers' file, as it was read."""
    file = shared / "vectors" / "peer_scenarios.json"
    if not file.is_file():
        pytest.skip(f"the peers' scenarios are not here: no {file}")
    return file, json.loads(file.read_text(encoding="utf-8"))


def list_expected(scenario):
    """Return the paths of all numbers a peer's scenario expects, what orders are to fill included."""
    paths = [("expected", *path) for path in list_numbers(scenario.get("expected", {}))]
    for at, step in enumerate(scenario.get("steps", ())):
        asked = {key: value for key, value in step.items() if step["op"] == "expect" or key == "fills"}
        paths += [("steps", at, *path) for path in list_numbers(asked)]
    for at, case in enumerate(scenario.get("cases", ())):
        paths += [("cases", at, "out", *path) for path in list_numbers(case["out"])]
    return paths


def change(scenario, path):
    """Return a scenario with another number (or the other truth value) at a path, and an id that says where."""
    changed = copy.deepcopy(scenario)
    *way, last = path
    place = changed
    for key in way:
        place = place[key]
    value = place[last]
    if isinstance(value, bool):
        place[last] = not value
    else:
        place[last] = value + 1 if isinstance(value, int | float) else str(Fraction(value) + 1)
    return changed | {"id": "/".join(map(str, (scenario["id"], *path)))}


def play(folder, scenarios, engine="reference"):
    """Return the results of scenarios written into a file."""
    file = folder / "peers.json"
    file.write_text(json.dumps({"scenarios": scenarios}), encoding="utf-8")
    found = ScenarioFile(file)
    return list(found.play(list(found.forms), engine))


def test_peers_scenarios_hold_in_both_engines(peers, profile, capsys):
    """Source: CHECK-005, CHECK-006, CHECK-007, CHECK-008."""
    file, found = peers
    names = [scenario["id"] for scenario in found["scenarios"] if scenario["profile"] == profile]
    assert names
    status = main(["check", str(file), "--engine", "both", *(word for name in names for word in ("--only", name))])
    printed = capsys.readouterr()
    assert status == 0, printed.out + printed.err
    assert f"{len(names)} passed, 0 failed" in printed.out


def test_no_number_of_a_peer_can_be_another(peers, profile, tmp_path):
    """Every expected number, made one higher, is found out: no scenario holds because it compares nothing.

    Source: CHECK-005.
    """
    _, found = peers
    chosen = [scenario for scenario in found["scenarios"] if scenario["profile"] == profile]
    changed = [change(scenario, path) for scenario in chosen for path in list_expected(scenario)]
    assert len(changed) > len(chosen)
    assert [result.name for result in play(tmp_path, changed) if result.ok] == []


# ---------------------------------------------------------------- how they become ours


class RigOfNothing:
    """Takes the place of an exchange where only the reading of a file is tested."""

    now_ns = 0
    setup = types.SimpleNamespace(markets=[types.SimpleNamespace(price_max_tick=1)])

    def send(self, *commands):
        return []


def capture(monkeypatch, kind, scenario, tmp_path):
    """Return the player of a scenario and the fields of the market it asks for, without an exchange."""
    asked = {}
    monkeypatch.setattr(engine.check.peer.PeerPlay, "make_rig", lambda self, fields, options: asked.update(fields))
    file = tmp_path / "one.json"
    file.write_text(json.dumps({"scenarios": [scenario]}), encoding="utf-8")
    found = ScenarioFile(file)
    from engine.check.play import Options

    return kind(found.forms[scenario["id"]], Options(file, "reference", found.markets)), asked


CASH = {
    "id": "cash",
    "profile": "vm_cash",
    "market": {
        "rf_long": "0.07",
        "rf_short": "0.0775",
        "slippage": "0.001",
        "disposal": {
            "mode": "stepped",
            "step_s": 5,
            "fraction": "0.5",
            "full": 3,
            "max_consume": "0.01",
            "range": "0.1",
        },
        "closeout_fee_rate": "0.1",
    },
    "accounts": [{"id": "a", "deposit": 10}],
    "steps": [{"op": "order", "a": "a", "side": "buy", "qty": 1, "px": 150}, {"op": "settle"}],
    "expected": {},
}


def test_a_cash_market(monkeypatch, tmp_path):
    """Factor and slippage are maintenance, the short's surcharge the difference; a step per `advance` (CHECK-006)."""
    _, market = capture(monkeypatch, CashPlay, CASH, tmp_path)
    assert market["tiers"] == [{"floor": "0", "initial": "0.0785", "maintenance": "0.071"}]
    assert market["short_maintenance"] == "0.0075"
    assert (market["settlement"], market["order_margin"], market["mark_model"]) == ("mark", "none", "recorded")
    assert market["initial_mark"] == "150"
    liquidation = market["liquidation"]
    assert liquidation == {
        "cancel": "account",
        "backstop": "vault",
        "vault_below": "1",
        "takeover_price": "mark",
        "unwind": "stepped",
        "unwind_interval_s": "0.000000001",
        "unwind_share": "0.5",
        "unwind_full": 3,
        "unwind_depth": "0.01",
        "unwind_range": "0.1",
        "closeout_fee": "0.1",
    }


BASE = {
    "id": "base",
    "profile": "quote_base",
    "market": {"oracle": "50000", "mmr": "0.1", "imr": "0.2", "smmr": "0.3", "max_fee": "0.004", "ba": "2"},
    "accounts": [
        {"id": "carl", "quote": "49999", "base": "-1"},
        {"id": "dora", "quote": "-50000", "base": "1.25"},
        {"id": "emil", "quote": "0.5", "base": "0"},
        {"id": "fred", "quote": "1", "base": "1"},
    ],
    "steps": [
        {"op": "order", "a": "dora", "side": "sell", "qty": "0.25", "px": "50000.5"},
        {"op": "liquidate", "a": "carl"},
        {"op": "deleverage", "a": "carl", "order": ["fred", "dora"], "only_if_unfilled": True},
    ],
    "expected": {"quote": {}, "base": {}},
}


def test_a_base_market(monkeypatch, tmp_path):
    """Units fine enough for every number and some between; policies by name; victims in their order (CHECK-007)."""
    play, market = capture(monkeypatch, QuoteBasePlay, BASE, tmp_path)
    assert (market["tick_size"], market["lot_size"], market["quote_unit"]) == ("0.001", "0.000001", "0.000000001")
    assert market["tiers"] == [{"floor": "0", "initial": "0.2", "maintenance": "0.1"}]
    assert market["liquidation"] == {
        "cancel": "none",
        "limit": "fillable",
        "spread": "0.3",
        "adjustment": "2",
        "surplus": "capped_fee",
        "surplus_fee": "0.004",
        "shortfall": "refuse",
        "fund_loss_max": "0",
    }
    assert market["adl"] == {
        "gate": "insolvent",
        "score": "none",
        "fees": "off",
        "cancel_victims": "off",
        "price": "bankruptcy",
    }
    assert list(play.numbers) == ["fred", "dora", "carl", "emil"]
    later = {name: play.is_brought_later(name) for name in play.numbers}
    assert later == {"fred": False, "dora": False, "carl": True, "emil": False}


def test_parts_and_gates_of_a_base_market(monkeypatch, tmp_path):
    """Limits of a round make it a share with a cooldown; a close above zero opens the gate (CHECK-007)."""
    limits = {"max_portion": "0.1", "min_notional": "1000", "max_notional": "5000", "max_insurance_lost": "0.5"}
    steps = [{"op": "deleverage", "a": "carl", "order": ["fred"], "price": "oracle"}]
    scenario = BASE | {"market": BASE["market"] | {"limits": limits}, "steps": steps}
    _, market = capture(monkeypatch, QuoteBasePlay, scenario, tmp_path)
    found = {name: market["liquidation"][name] for name in ("size", "share", "share_min", "step_max", "cooldown_s")}
    assert found == {"size": "share", "share": "0.1", "share_min": "1000", "step_max": "5000", "cooldown_s": "1"}
    assert market["liquidation"]["fund_loss_max"] == "0.5"
    assert (market["adl"]["gate"], market["adl"]["price"]) == ("always", "previous_mark")
    assert market["liquidation"]["surplus"] == "trader"
    steps = [{"op": "deleverage", "a": "carl", "order": ["fred"], "require_negative_equity": False}]
    _, market = capture(monkeypatch, QuoteBasePlay, BASE | {"steps": steps}, tmp_path)
    assert (market["adl"]["gate"], market["adl"]["price"]) == ("always", "bankruptcy")


@pytest.mark.parametrize(
    ("scenario", "path", "value", "message"),
    [
        (CASH, ("steps", 0, "op"), "ordr", "field 'op': unknown 'ordr', known: order, settle"),
        (CASH, ("steps", 0, "px"), 1.5, "field 'px': expected a whole number, got 1.5"),
        (CASH, ("steps", 0, "a"), "b", "field 'a': unknown 'b', known: a"),
        (CASH, ("market", "slippage"), "much", "field 'slippage': expected a number, got 'much'"),
        (CASH, ("market", "disposal", "mode"), "all", "field 'mode': unknown 'all', known: none, immediate, stepped"),
        (CASH, ("steps",), [], "expected at least one order with a price"),
        (BASE, ("market", "mmr"), None, "field 'mmr': expected it, it is missing"),
        (BASE, ("accounts", 1, "base"), [], "field 'base': expected a number, got a list"),
        (BASE, ("steps", 1, "op"), "close", "field 'op': unknown 'close', known: order, oracle, liquidate, deleverage"),
        (BASE, ("market", "limits"), {"max": 1}, "field 'max': unknown field, known: max_insurance_lost"),
    ],
)
def test_bad_peers_name_line_and_field(tmp_path, capsys, monkeypatch, scenario, path, value, message):
    """Source: CLI-002."""
    changed = copy.deepcopy(scenario)
    *way, last = path
    place = changed
    for key in way:
        place = place[key]
    place[last] = value
    # no exchange: what is wrong with a file does not hang on what this version's markets can do
    monkeypatch.setattr(
        engine.check.peer.PeerPlay, "make_rig", lambda play, *given: setattr(play, "rig", RigOfNothing())
    )
    file = tmp_path / "bad.json"
    text = json.dumps({"scenarios": [changed]}, indent=1)
    file.write_text(text, encoding="utf-8")
    assert main(["check", str(file), "--engine", "reference"]) == 4
    error = capsys.readouterr().err
    assert message in error
    if value:
        marked = json.dumps(value, indent=1).splitlines()[0]
        (line,) = (int(found) for found in re.findall(r"bad\.json:(\d+):", error))
        lines = text.splitlines()
        assert marked in lines[line - 1] or f'"{next(iter(value))}"' in lines[line - 1]


def test_exact_numbers():
    """Source: CHECK-005, NUM-001."""
    assert show_exact(Fraction("0.0785")) == "0.0785"
    assert show_exact(Fraction(14, 3)) == "14/3"
    assert show_exact(Fraction(-1200)) == "-1200"
    assert count_decimals([Fraction("1.25"), Fraction(7), Fraction("0.1")]) == 2
    assert count_decimals([]) == 0
