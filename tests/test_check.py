"""`perp check`: our scenarios, every kind of difference, every kind of bad file, with their lines."""

import copy
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.check import ScenarioFile
from engine.check.places import Fields, Items, read_json
from engine.cli import main
from engine.errors import ConfigError, DataError, InvariantError
from engine.exchange import Exchange, ReferenceEngine
from tests.conftest import list_numbers

ROOT = Path(__file__).resolve().parents[1]
SCENARIOS = sorted((ROOT / "replay_data" / "scenarios").glob("*.json"))
PAGE = ROOT / "engine" / "docs" / "scenarios.md"

SMALL = """{
  "markets": {
    "unit": {
      "symbol": "X", "tick_size": "1", "lot_size": "1", "quote_unit": "1", "price_max": "1000", "initial_mark": "100",
      "tiers": [{"floor": "0", "initial": "0.05", "maintenance": "0.025"}], "maker_fee": "0", "taker_fee": "0"
    }
  },
  "scenarios": [
    {
      "id": "small",
      "markets": ["unit"],
      "accounts": [
        {"name": "anna", "deposit": "1000"},
        "bob"
      ],
      "steps": [
        {"command": "deposit", "account": "bob", "amount": "500"},
        {"command": "place", "account": "anna", "order": "a", "side": "buy", "qty": "10", "price": "99",
         "expect": {"orders": {"anna": [{"order": "a", "qty": "10"}]}}},
        {"command": "withdraw", "account": "bob", "amount": "501", "rejected": "insufficient_margin"},
        {"command": "mark", "at": "2s", "price": "101"}
      ],
      "expect": {
        "balances": {"anna": "1000", "bob": "500"},
        "marks": "101"
      }
    }
  ]
}
"""


def write(folder, text):
    file = folder / "scenarios.json"
    file.write_text(text, encoding="utf-8")
    return file


def play(file, engine="reference", only=None):
    """Return the results of a file's scenarios."""
    scenarios = ScenarioFile(file)
    return list(scenarios.play(only or list(scenarios.forms), engine))


# ---------------------------------------------------------------- what is in the repository


@pytest.mark.parametrize("file", SCENARIOS, ids=lambda file: file.stem)
def test_our_scenarios_hold_in_both_engines(file, capsys):
    """Source: CHECK-001, CHECK-002."""
    assert main(["check", str(file), "--engine", "both"]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    assert lines
    assert all(line.startswith("ok    ") for line in lines)
    assert last == f"{len(lines)} passed, 0 failed, 0 not chosen"


def change_number(scenario, path):
    """Return a scenario with the number at a path one higher."""
    changed = copy.deepcopy(scenario)
    *way, last = path
    place = changed
    for key in way:
        place = place[key]
    value = place[last]
    place[last] = value + 1 if isinstance(value, int) else str(int(value.split(".")[0]) + 1) + value.partition(".")[2]
    return changed


def expected_numbers(scenario):
    """Return the paths of all numbers that a scenario of ours expects."""
    paths = [("expect", *path) for path in list_numbers(scenario.get("expect", {}))]
    for at, step in enumerate(scenario["steps"]):
        paths += [("steps", at, "expect", *path) for path in list_numbers(step.get("expect", {}))]
    return paths


@pytest.mark.parametrize("file", SCENARIOS, ids=lambda file: file.stem)
def test_no_number_can_be_another(file, tmp_path):
    """Each expected number of our scenarios, made one higher, is found out where it stands.

    Source: CHECK-003, CHECK-004.
    """
    found = json.loads(file.read_text(encoding="utf-8"))
    changed = []
    for scenario in found["scenarios"]:
        for path in expected_numbers(scenario):
            name = "/".join(map(str, (scenario["id"], *path)))
            changed += [change_number(scenario, path) | {"id": name}]
    assert len(changed) > 30
    results = play(write(tmp_path, json.dumps(found | {"scenarios": changed})))
    assert [result.name for result in results if result.ok] == []


# ---------------------------------------------------------------- results


def test_json(tmp_path, capsys):
    """Source: CHECK-001, CLI-001."""
    text = SMALL.replace('"bob": "500"}', '"bob": "501.5"}')
    file = write(tmp_path, text)
    assert main(["check", str(file), "--engine", "reference", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    line = next(at for at, row in enumerate(text.splitlines(), 1) if "501.5" in row)
    difference = {"step": 0, "line": line, "what": "balances.bob", "expected": "501.5", "got": "500"}
    (scenario,) = found.pop("scenarios")
    assert found == {
        "schema": 1,
        "file": str(file),
        "engine": "reference",
        "passed": 0,
        "failed": 1,
        "skipped": 0,
    }
    assert scenario == {
        "id": "small",
        "profile": "perp",
        "title": "",
        "steps": 4,
        "ok": False,
        "difference": difference,
    }


def test_only(tmp_path, capsys):
    """Source: CLI-002."""
    found = json.loads(SMALL)
    found["scenarios"] = [found["scenarios"][0] | {"id": name} for name in ("one", "two", "three")]
    file = str(write(tmp_path, json.dumps(found)))
    assert main(["check", file, "--engine", "reference", "--only", "three", "--only", "one"]) == 0
    assert capsys.readouterr().out == "ok    one\nok    three\n2 passed, 0 failed, 1 not chosen\n"
    assert main(["check", file, "--only", "four"]) == 2
    assert "unknown 'four', known: one, two, three" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"rejected": "insufficient_margin"', '"note": ""', "step 3, line {line}: withdraw: expected it to be acc"),
        ('"amount": "501"', '"amount": "500"', "line {line}: withdraw: expected to be rejected: insufficient_margin"),
        ('"qty": "10"}]', '"qty": "9"}]', "step 2, line {line}: orders.anna[0].qty: expected 9, got 10"),
        ('{"order": "a", "qty": "10"}', "", "line {line}: orders.anna: expected 0 orders, got 1 (a buy 10 at 99)"),
        ('"order": "a", "qty": "10"}', '"order": "b"}', "orders.anna[0].order: expected b, got a"),
        ('"marks": "101"', '"marks": "100"', "FAIL  small: line {line}: marks: expected 100, got 101"),
        ('"marks": "101"', '"depth": {"bids": [["99", "11"]]}', "depth.bids[0]: expected 99 x 11, got 99 x 10"),
        ('"marks": "101"', '"depth": {"asks": [["99", "11"]]}', "depth.asks: expected 1 levels, got 0 levels"),
        ('"marks": "101"', '"depth": {"bids": []}', "depth.bids: expected 0 levels, got 1 levels"),
        ('"marks": "101"', '"counts": {"mark": 2}', "counts.mark: expected 2, got 1"),
        ('"marks": "101"', '"digest": "00"', "digest: expected 00, got "),
        ('"marks": "101"', '"queue": {"long": ["anna"]}', "queue.long: expected ['anna'], got []"),
        ('"marks": "101"', '"queue": {"short_lights": [5]}', "queue.short_lights: expected [5], got []"),
        (
            '"marks": "101"',
            '"events": [{"kind": "mark", "price": 100}]',
            "events[0]: expected mark (price 100), got mark (price 101)",
        ),
        (
            '"marks": "101"',
            '"events": [{"kind": "mark"}, {"kind": "rejected", "reason": "insufficient_margin"}]',
            "events[1]: expected rejected (reason insufficient_margin), got none after event ",
        ),
        ('"anna", "deposit": "1000"', '"anna", "leverage": 50', "setting up: set_leverage: expected it to be accepted"),
    ],
)  # fmt: skip
def test_differences(tmp_path, capsys, old, new, message):
    """Source: CHECK-001, CHECK-002, CHECK-003, CHECK-004."""
    text = SMALL.replace(old, new, 1)
    assert text != SMALL
    line = SMALL[: SMALL.index(old)].count("\n") + 1
    assert main(["check", str(write(tmp_path, text)), "--engine", "reference"]) == 1
    assert message.format(line=line) in capsys.readouterr().out


def test_a_broken_engine_is_told_from_a_failed_scenario(tmp_path, capsys, monkeypatch):
    """Engines that differ, in events or digest alone, and an auditor that disagrees, end the run (CHECK-001)."""
    file = str(write(tmp_path, SMALL))
    apply, view = ReferenceEngine.apply, ReferenceEngine.view

    def deposit_more(self, rows):
        rows = rows.copy()
        rows["amount_quote"] += rows["amount_quote"] == 500
        return apply(self, rows)

    monkeypatch.setattr(ReferenceEngine, "apply", deposit_more)
    assert main(["check", file, "--engine", "both"]) == 70
    error = capsys.readouterr().err
    line = SMALL[: SMALL.index('"amount": "500"')].count("\n") + 1
    assert f"scenario 'small', step 1, line {line}: the engines differ: accepted: compiled and reference " in error
    assert "amount_quote 500 and 501" in error
    monkeypatch.setattr(ReferenceEngine, "apply", apply)
    monkeypatch.setattr(ReferenceEngine, "view", lambda self: view(self)._replace(clock=[(0, 0, 0)]))
    assert main(["check", file, "--engine", "both"]) == 70
    assert "the same events and different digests" in capsys.readouterr().err
    monkeypatch.setattr(ReferenceEngine, "view", lambda self: view(self)._replace(wallets=[]))
    with pytest.raises(InvariantError, match=r"small', step 0, line 13: wallets"):
        play(file)


# ---------------------------------------------------------------- bad files


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"price": "99"', '"price": "99.5"', "field 'price': value 99.5 is not a multiple of 1"),
        ('"price": "99"', '"price": "cheap"', "field 'price': expected a decimal number, got 'cheap'"),
        ('"price": "99"', '"price": true', "field 'price': expected a number, got true or false"),
        ('"price": "99"', '"price": "NaN"', "field 'price': expected a finite number, got 'NaN'"),
        ('"price": "99"', '"price": "1e30"', "field 'price': expected a number below 1e18, got 1e30"),
        ('"qty": "10", "price"', '"price"', "field 'qty': expected it, it is missing"),
        ('"side": "buy"', '"side": "up"', "field 'side': unknown 'up', known: buy, sell, bid, ask"),
        ('"side": "buy"', '"side": "buy", "siZe": 1', "field 'siZe': unknown field, known: account, at, command"),
        ('"command": "place"', '"command": "plaice"', "field 'command': unknown 'plaice', known: place, cancel"),
        ('"bob", "amount": "501"', '"bo", "amount": "501"', "unknown account 'bo', known: anna, bob"),
        ('"rejected": "insu', '"rejected": "isnu', "field 'rejected': unknown 'isnufficient_margin', known: "),
        ('"at": "2s"', '"at": "soon"', "field 'at': expected a duration like 250ms"),
        ('"bob"\n', '"anna"\n', "field 'name': 'anna' is another account already"),
        ('"markets": ["unit"]', '"markets": ["uni"]', "field 'like': unknown 'uni', known: unit"),
        ('"markets": ["unit"]', '"markets": "unit"', "field 'markets': expected a list, got text"),
        ('"markets": ["unit"]', '"market": ["unit"]', "field 'markets': expected it, it is missing"),
        ('"id": "small"', '"id": 7', "field 'id': expected text, got a number"),
        ('"id": "small"', '"id": "small", "profile": "x"', "field 'profile': unknown 'x', known: perp, quote_base"),
        ('"balances": {"anna"', '"balance": {"anna"', "field 'balance': unknown expectation, known: balances, costs"),
        ('"balances": {"anna"', '"balances": {"ann"', "unknown account 'ann', known: anna, bob, outside, house"),
        ('"bob": "500"', '"bob": {"EUR": "500"}', "field 'EUR': unknown asset, known: USDT"),
        ('"marks": "101"', '"marks": {"Y": "101"}', "field 'Y': unknown market, known: X"),
        ('"marks": "101"', '"counts": {"trades": 1}', "field 'trades': unknown event, known: accepted"),
        ('"marks": "101"', '"depth": {"bid": []}', "field 'bid': unknown side, known: bids, asks"),
        ('"marks": "101"', '"queue": {"buy": []}', "field 'buy': unknown side, known: long, short"),
        ('"marks": "101"', '"events": [{"kind": "trade", "equity": 1}]', "'equity': unknown field of trade, known: a"),
        ('"marks": "101"', '"marks": "101", "marks": "102"', '"marks" stands twice'),
        ('"marks": "101"', '"marks": "101",', "expected a name in double quotes"),
        ('"marks": "101"', '"marks": 1O1', "expected ',' or '}'"),
        ('"marks": "101"', '"marks": NaN', "expected a JSON value, got 'NaN"),
        ('"marks": "101"', '"marks" "101"', "expected ':' after \"marks\""),
        ('"steps": [', '"steps": [7, ', "expected 'steps' to hold objects, got a number"),
    ],
)  # fmt: skip
def test_bad_files_name_line_and_field(tmp_path, capsys, old, new, message):
    """Source: CLI-002, CHECK-001."""
    text = SMALL.replace(old, new, 1)
    assert text != SMALL
    file = write(tmp_path, text)
    assert main(["check", str(file), "--engine", "reference"]) == 4
    error = capsys.readouterr().err
    line = SMALL[: SMALL.index(old)].count("\n") + 1
    found = re.match(rf"perp: error: {re.escape(str(file))}:(\d+): (.*)", error)
    assert found, error
    assert message in found[2]
    # what is missing is missing in its object; a name or a comma that breaks the text is seen at the next one
    near = (line, line + 1) if "double quotes" in message else (line,)
    assert int(found[1]) in near or "missing" in message
    assert "missing" not in message or int(found[1]) <= line


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"price_max": "1000"', '"price_max": "1000.5"', "X.price_max"),
        ('"price_max": "1000"', '"price_most": "1000"', "unknown field `price_most`"),
        ('["unit"]', '[{"like": "unit", "adl": {"score": "luck"}}]', "X.adl.score: unknown policy 'luck'"),
        ('"markets": ["unit"]', '"markets": [{"file": "gone.toml"}]', "gone.toml: cannot be read"),
        ('"markets": ["unit"]', '"markets": ["unit", "unit"]', "symbol: every market needs its own name"),
    ],
)  # fmt: skip
def test_bad_markets_name_their_line(tmp_path, capsys, old, new, message):
    """Source: CLI-002, CFG-001, CFG-002."""
    text = SMALL.replace(old, new, 1)
    file = write(tmp_path, text)
    assert main(["check", str(file), "--engine", "reference"]) == 5
    error = capsys.readouterr().err
    assert message in error
    assert re.search(rf"{re.escape(str(file))}:\d+", error)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a JSON value, got the end of the file"),
        ("[]", "expected an object with a list 'scenarios', got a list"),
        ("{}", "field 'scenarios': expected it, it is missing"),
        ('{"scenarios": []}', "expected at least one scenario"),
        ('{"scenarios": [{"id": "a"}, {"id": "a"}]}', "field 'id': 'a' is another scenario already"),
        ('{"scenarios": [{"id": "a"}]} x', "expected the end of the file"),
        ('{"markets": 1, "scenarios": [{"id": "a"}]}', "field 'markets': expected an object of named markets"),
        ("[" * 100, "expected at most 40 levels"),
    ],
)
def test_bad_texts(tmp_path, capsys, text, message):
    """Source: CLI-002."""
    assert main(["check", str(write(tmp_path, text))]) == 4
    assert message in capsys.readouterr().err


def test_files_that_are_none(tmp_path, capsys):
    assert main(["check", str(tmp_path / "gone.json")]) == 4
    assert "gone.json: cannot be read: No such file" in capsys.readouterr().err
    (tmp_path / "latin.json").write_bytes(b'{"scenarios": "\xe9"}')
    assert main(["check", str(tmp_path / "latin.json")]) == 4
    assert "expected UTF-8: invalid continuation byte at byte 15" in capsys.readouterr().err


# ---------------------------------------------------------------- the format


def test_a_scenario_with_everything(tmp_path):
    """Two markets in two assets, a market from a file, positions from elsewhere, time, many fields (CHECK-002)."""
    (tmp_path / "usd.toml").write_text(
        'symbol = "A"\nsettle = "USD"\nquote_unit = "0.01"\ntick_size = "0.5"\nlot_size = "0.1"\nprice_max = "1000"\n'
        'maker_fee = "0"\ntaker_fee = "0"\ninitial_mark = "50"\ndefault_leverage = 10\n'
        'tiers = [{ floor = "0", initial = "0.1", maintenance = "0.05" }]\n'
    )
    scenario = {
        "id": "all",
        "markets": [{"file": "usd.toml"}, {"file": "usd.toml", "symbol": "B", "settle": "EUR", "initial_mark": "20"}],
        "funds": {"USD": "7.5"},
        "accounts": [
            {"name": "anna", "deposit": {"USD": "100", "EUR": "50"}, "mode": {"B": "isolated"}, "leverage": {"A": 5}},
            {"name": "bob", "deposit": {"USD": "100"}, "positions": [{"market": "A", "qty": "-2", "price": "51.5"}]},
        ],
        "steps": [
            {"command": "place", "account": "anna", "market": "A", "order": "x", "side": "buy",
             "qty": 1, "price": 49.5},
            {"command": "place", "account": "anna", "market": "A", "order": "y", "side": "buy",
             "qty": 1, "price": 49.5, "post_only": True, "stp": "newest"},
            {"command": "amend", "account": "anna", "order": "x", "qty": "0.5", "price": "49.5"},
            {"command": "level", "market": "B", "side": "ask", "price": "20", "qty": "3"},
            {"command": "place", "account": "anna", "market": "B", "order": "z", "side": "buy",
             "qty": "2", "tif": "FOK"},
            {"command": "funding", "at": "8h", "market": "B", "rate": "0.001",
             "expect": {"events": [{"kind": "funding_payment", "account": "anna", "market": "B", "amount": "-0.04"}]}},
            {"command": "print", "market": "A", "side": "sell", "price": "49.5", "qty": "0.7"},
            {"command": "cancel", "account": "anna", "order": "y"},
            {"command": "cancel", "account": "anna", "order": "y", "rejected": "unknown_order"},
            {"command": "clock", "at": "9h"},
            {"command": "clock", "at": "8h", "rejected": "time_reversed"},
        ],
        "expect": {
            "balances": {"anna": {"USD": "100", "EUR": "46"}, "bob": {"USD": "100"}},
            "margins": {"anna": {"A": "0", "B": "3.96"}},
            "positions": {"anna": {"A": "0.7", "B": "2"}, "bob": {"A": "-2"}, "outside": {"A": "1.3", "B": "-2"}},
            "unrealised": {"bob": {"A": "3"}},
            "funds": {"USD": "7.5", "EUR": "0"},
            "orders": {"anna": []},
            "depth": {"A": {"bids": [], "asks": []}, "B": {"asks": [["20", "1"]]}},
            "queue": {"A": {"short": ["bob"], "long": ["anna"]}},
            "last_prices": {"A": "49.5", "B": "20"},
            "counts": {"rejected": 2, "trade": 3},
            "events": [{"kind": "trade", "account": "outside", "other": "anna", "other_order": "x", "qty": "0.5"}],
        },
    }  # fmt: skip
    file = write(tmp_path, json.dumps({"scenarios": [scenario]}))
    assert [str(result) for result in play(file, "both")] == ["ok    all"]


def test_the_page_is_true(tmp_path, capsys):
    """The file it shows plays; the failure it quotes is printed so; all commands and expectations are on it."""
    page = PAGE.read_text(encoding="utf-8")
    (shown,) = re.findall(r"^```json\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert [result.ok for result in play(write(tmp_path, shown), "both")] == [True]
    (quoted,) = re.findall(r"^```text\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    waterfall = (ROOT / "replay_data" / "scenarios" / "waterfall.json").read_text(encoding="utf-8")
    wrong = waterfall.replace('"balances": {"ivy": "150"}, "funds": "10"', '"balances": {"ivy": "150"}, "funds": "11"')
    name = "isolated-and-cross"
    main(["check", str(write(tmp_path, wrong)), "--engine", "reference", "--only", name])
    assert capsys.readouterr().out.startswith(quoted)
    words = set(re.findall(r"`(\w+)`", page))
    with pytest.raises(DataError) as refused:
        play(write(tmp_path, SMALL.replace('"marks": "101"', '"mark": "101"')))
    known = refused.value.expected.partition("known: ")[2].partition(";")[0].split(", ")
    assert len(known) > 20
    assert not set(known) - words - {"note"}
    with pytest.raises(DataError) as refused:
        play(write(tmp_path, SMALL.replace('"command": "mark"', '"command": "mrak"')))
    assert not set(refused.value.expected.partition("known: ")[2].partition(";")[0].split(", ")) - words


def test_the_readme_quotes_what_is_printed(capsys):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    quoted = re.search(r"^\$ perp (check \S+)\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    assert main([*quoted[1].split(), "--engine", "reference"]) == 0
    assert capsys.readouterr().out == quoted[2]


# ---------------------------------------------------------------- JSON with lines

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def check_lines(value, text):
    """Check that the line of every member is where the indented text has it, by walking both at once."""
    lines = text.split("\n")
    if isinstance(value, Fields):
        for name, item in value.items():
            assert json.dumps(name) + ": " in lines[value.lines[name] - 1]
            check_lines(item, text)
    elif isinstance(value, Items):
        for item, line in zip(value, value.lines, strict=True):
            assert isinstance(item, Fields | Items) or json.dumps(item) in lines[line - 1]
            check_lines(item, text)


@given(values)
def test_the_reader_reads_json(tmp_path_factory, value):
    """It reads what the standard module reads, however it is laid out, and knows every line."""
    file = tmp_path_factory.getbasetemp() / "value.json"
    for layout in ({}, {"indent": 1}, {"separators": (",", ":")}):
        text = json.dumps(value, **layout)
        file.write_text(text, encoding="utf-8")
        found = read_json(file)
        assert found == value
        check_lines(found, json.dumps(value, indent=1)) if layout == {"indent": 1} else None


def test_margin_of_a_domain():
    """Equity and maintenance of cross and isolated domains, of nobody and of the outside (MARGIN-001)."""
    found = {}
    for engine in ("compiled", "reference"):
        exchange = Exchange([make_unit("X"), make_unit("Y")], engine=engine)
        from engine import commands

        exchange.apply(
            [
                commands.Deposit(account=1, amount_quote=1000),
                commands.Deposit(account=2, amount_quote=1000),
                commands.SetMarginMode(account=1, market=1, mode="isolated"),
                commands.Assign(account=1, market=0, side="buy", qty_lot=10, price_tick=95, amount_quote=0),
                commands.Assign(account=1, market=1, side="sell", qty_lot=4, price_tick=110, amount_quote=70),
            ]
        )
        # cross: 1,000 + 50 against 25; isolated: 70 + 40 against 10; account 2 is flat, 3 never was
        found[engine] = [exchange.margin(*pair) for pair in ((1, 0), (1, 1), (2, 0), (3, 0), (0, 0), (-1, 0))]
        assert found[engine] == [(1050, 25), (110, 10), (1000, 0), (0, 0), (0, 0), (0, 0)]


def make_unit(symbol):
    """Return a market of whole units."""
    import msgspec

    from engine import Market

    fields = json.loads(SMALL)["markets"]["unit"] | {"symbol": symbol}
    return msgspec.convert(fields, Market, strict=False)


def test_errors_are_what_they_say():
    assert DataError.exit_status == 4
    assert ConfigError.exit_status == 5
