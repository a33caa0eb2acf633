"""The peers' `formula` scenarios: every case holds, every false case fails, unknown names are refused."""

import copy
import json
from fractions import Fraction

import pytest

from engine.check.formula import FUNCTIONS, evaluate, is_close
from tests.conftest import find_shared, list_leaves

FILE = find_shared() / "vectors" / "peer_scenarios.json"
ABSENT = f"the peers' scenarios are not here: no {FILE.name} under ../shared/vectors (or set PERP_SHARED)"


def read_scenarios():
    if not FILE.is_file():
        return [pytest.param(None, marks=pytest.mark.skip(ABSENT), id="absent")]
    scenarios = json.loads(FILE.read_text(encoding="utf-8"))["scenarios"]
    return [pytest.param(s, id=s["id"]) for s in scenarios if s["profile"] == "formula"]


def falsify(tree, path):
    """Return the expectation with one leaf changed: a number by a millionth, of approximate ones by a thousandth."""
    wrong = copy.deepcopy(tree)
    *way, last = path
    node = wrong
    for key in way:
        node = node[key]
    value = node[last]
    if isinstance(value, bool):
        node[last] = not value
    elif isinstance(value, float):
        node[last] = value + 0.001
    else:
        try:
            node[last] = str(Fraction(value) + Fraction(1, 10**6))
        except ValueError:
            node[last] = f"not {value}"
    return wrong


def show(value):
    """Return a result as a scenario writes it: numbers as text."""
    if isinstance(value, dict):
        return {key: show(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [show(inner) for inner in value]
    return value if isinstance(value, bool | str) else str(value)


@pytest.mark.parametrize("scenario", read_scenarios())
def test_peer_formula(scenario):
    """Source: FORM-004."""
    assert scenario["cases"]
    for case in scenario["cases"]:
        got = evaluate(scenario["function"], case["in"])
        assert case["out"]
        assert is_close(got, case["out"]), f"{case['in']}: got {show(got)}, expected {case['out']}"


@pytest.mark.parametrize("scenario", read_scenarios())
def test_a_false_case_fails(scenario):
    """Source: FORM-004."""
    for case in scenario["cases"]:
        got = evaluate(scenario["function"], case["in"])
        leaves = list_leaves(case["out"])
        assert leaves
        for leaf in leaves:
            assert not is_close(got, falsify(case["out"], leaf)), leaf
        for key in case["out"]:
            assert not is_close({name: got[name] for name in got if name != key}, case["out"])


def test_there_are_26():
    if not FILE.is_file():
        pytest.skip(ABSENT)
    used = {scenario.values[0]["function"] for scenario in read_scenarios()}
    assert len(read_scenarios()) == 26
    assert used <= set(FUNCTIONS)


# Functions no scenario of that file uses, by hand: inputs, outputs.
BY_HAND = [
    ("vega_liquidatable", {"equity": 99, "maintenance": 100}, {"liquidatable": True}),
    ("vega_liquidatable", {"equity": 100, "maintenance": 100}, {"liquidatable": False}),
    # claims 60 + 30 + 20 against 80 + 10: 20 short, all of it from what is still warming
    (
        "percolator",
        {"principal": 60, "realized": 30, "warming": 20, "collateral": 80, "insurance": 10},
        {"burned_warming": 20, "haircut": 0, "equity_left": 90},
    ),
    # 60 + 30 + 20 against 53 + 10: 47 short, 20 warming, 27 of 90 is three tenths
    (
        "percolator",
        {"principal": 60, "realized": 30, "warming": 20, "collateral": 53, "insurance": 10},
        {"burned_warming": 20, "haircut": "3/10", "equity_left": 63},
    ),
    # 10 long against 4 short and 3 of makers: 7 covered, 7 x 5 over 10 units
    (
        "perennial",
        {"major": 10, "minor": 4, "maker": 3, "from": 100, "to": 105},
        {"covered": 7, "pnl_major_total": 35, "pnl_per_unit_micro_floor": 3_500_000},
    ),
    ("window", {"now": 100, "window": 10, "past": [[90, 5], [91, 7], [100, 1]]}, {"used": 8}),
    (
        "gmx_adl",
        {"pool_tokens": 10, "pool_price": 100, "size_tokens": 6, "entry": 50, "px": 100, "max_factor": "0.3"},
        {"factor": "3/10", "adl": False},
    ),
    ("injective_social", {"missing": 10, "profit_qty": [1, 2]}, {"cuts": ["10/3", "20/3"]}),
]


@pytest.mark.parametrize(("function", "inputs", "out"), BY_HAND)
def test_functions_beyond_the_file(function, inputs, out):
    """Source: FORM-004."""
    got = evaluate(function, inputs)
    assert is_close(got, out), show(got)
    assert not any(is_close(got, falsify(out, leaf)) for leaf in list_leaves(out))


@pytest.mark.parametrize(
    ("function", "inputs", "says"),
    [
        ("mood", {}, "unknown function 'mood', known: bitmex_queue, "),
        ("mtm_interval", {"qty": 1, "m0": 2}, "mtm_interval: expected an input named 'm1'"),
        ("mtm_interval", {"qty": "one", "m0": 2, "m1": 3}, "mtm_interval: expected a number, got 'one'"),
        ("mtm_interval", {"qty": 0.1, "m0": 2, "m1": 3}, "mtm_interval: expected int, Decimal, Fraction or text"),
        ("bitmex_score", {"mark_value": 1, "avg_entry_value": 1, "bankrupt_value": 1}, "bitmex_score: equity"),
    ],
)
def test_what_cannot_be_is_refused(function, inputs, says):
    with pytest.raises(ValueError, match=says):
        evaluate(function, inputs)


def test_numbers_are_equal_whatever_their_form():
    """Source: FORM-004."""
    assert is_close({"a": Fraction(1, 2), "b": 2}, {"a": "0.5"})
    assert is_close([1, "x"], ["3/3", "x"])
    assert not is_close({"a": 1}, {"a": True})
    assert not is_close({"a": True}, {"a": "1"})
    assert not is_close([1], [1, 2])
    assert not is_close({}, {"a": 1})
    assert is_close({"a~": [Fraction(1, 3)]}, {"a~": [0.33333]})
    assert not is_close({"a~": [Fraction(1, 3)]}, {"a~": [0.3333, 1.0]})
