"""What venues publish, number by number: every vector is a call of a public formula, inside its own tolerance.

`pytest tests/venues/test_vectors.py --vectors FILE` runs another file of the same form.  A vector whose status is not
`ok` is skipped with its own reason; a topic this test does not know fails.
"""

import copy
import json
from fractions import Fraction
from pathlib import Path

import pytest

from engine.formulas import exact
from tests.conftest import find_shared, list_leaves
from tests.venues.topics import TOPICS

FIELDS = {"id", "venue", "topic", "inputs", "expected", "tolerance", "status"}


def pytest_generate_tests(metafunc):
    if "vector" not in metafunc.fixturenames:
        return
    chosen = metafunc.config.getoption("--vectors")
    file = Path(chosen) if chosen else find_shared() / "vectors" / "venue_vectors.json"
    if not file.is_file():
        if chosen:
            raise pytest.UsageError(f"--vectors {chosen}: no such file")
        reason = f"the venue vectors are not here: no {file.name} under ../shared/vectors (or set PERP_SHARED)"
        metafunc.parametrize("vector", [pytest.param(None, marks=pytest.mark.skip(reason), id="absent")])
        return
    metafunc.parametrize("vector", [pytest.param(vector, id=vector["id"]) for vector in read_vectors(file)])


def read_vectors(file):
    """Return the vectors of a file, decimals as Fractions, each with the tier tables it may name.

    A file may name a table of the usual vectors without repeating it.
    """
    vectors = json.loads(file.read_text(encoding="utf-8"), parse_float=Fraction)
    usual = find_shared() / "vectors" / "venue_vectors.json"
    known = json.loads(usual.read_text(encoding="utf-8"), parse_float=Fraction) if usual.is_file() else []
    tables = {vector["id"]: vector for vector in (*known, *vectors) if vector.get("topic") == "margin.tier_table"}
    for vector in vectors:
        missing = FIELDS - set(vector)
        if missing:
            raise pytest.UsageError(f"{file}: vector {vector.get('id')}: expected fields {', '.join(sorted(missing))}")
    return [{**vector, "tables": tables} for vector in vectors]


def evaluate(vector):
    """Return what our formulas say to a vector's inputs."""
    return TOPICS[vector["topic"]](vector["inputs"], vector)


def list_differences(got, want, tolerance, where="expected"):
    """Return where `got` is not what `want` says: every key, every element, every number within the tolerance."""
    if isinstance(want, dict):
        if not isinstance(got, dict):
            return [f"{where}: got {got!r}"]
        lost = [f"{where}.{key}: not computed" for key in want if key not in got]
        both = [key for key in want if key in got]
        return lost + [d for key in both for d in list_differences(got[key], want[key], tolerance, f"{where}.{key}")]
    if isinstance(want, list):
        if not isinstance(got, list) or len(got) != len(want):
            return [f"{where}: expected {want}, got {got!r}"]
        pairs = enumerate(zip(got, want, strict=True))
        return [d for n, (a, b) in pairs for d in list_differences(a, b, tolerance, f"{where}[{n}]")]
    if isinstance(want, bool | str) or isinstance(got, bool | str) or got is None or want is None:
        return [] if type(got) is type(want) and got == want else [f"{where}: expected {want!r}, got {got!r}"]
    if abs(exact(got) - exact(want)) <= exact(tolerance):
        return []
    return [f"{where}: expected {want} within {tolerance}, got {got} ({float(got)!r})"]


def falsify(tree, path, tolerance):
    """Return the expectation with one leaf moved beyond the tolerance."""
    wrong = copy.deepcopy(tree)
    *way, last = path
    node = wrong
    for key in way:
        node = node[key]
    value = node[last]
    if isinstance(value, bool):
        node[last] = not value
    elif isinstance(value, str):
        node[last] = value + "?"
    else:  # the true number is within one tolerance of it, so three are enough either way
        node[last] = exact(value) + 3 * exact(tolerance) + (Fraction(1, 10**30) if tolerance else 1)
    return wrong


def test_vector(vector):
    """Source: FORM-003, FORM-002, MARGIN-011."""
    assert vector["topic"] in TOPICS, f"unknown topic {vector['topic']!r}, known: {', '.join(TOPICS)}"
    if vector["status"] != "ok":
        pytest.skip(f"status {vector['status']}: {vector.get('note') or vector.get('formula')}")
    assert vector["expected"], "a vector that expects nothing proves nothing"
    differences = list_differences(evaluate(vector), vector["expected"], vector["tolerance"])
    assert not differences, "\n".join([f"{vector['topic']}, {vector.get('source')}", *differences])


def test_a_false_vector_fails(vector):
    """Each expected number, moved beyond the tolerance, is noticed; so is every key that is not computed.

    Source: FORM-003.
    """
    if vector["status"] != "ok" or vector["topic"] not in TOPICS:
        pytest.skip(f"status {vector['status']}, topic {vector['topic']}")
    got, want, tolerance = evaluate(vector), vector["expected"], vector["tolerance"]
    leaves = list_leaves(want)
    assert leaves
    for leaf in leaves:
        assert list_differences(got, falsify(want, leaf, tolerance), tolerance), f"{leaf} may be anything"
    for key in want:
        assert list_differences({name: got[name] for name in got if name != key}, want, tolerance)


def test_the_file_is_the_one_we_know(shared):
    """159 vectors, 146 of them certain; every topic known here occurs, so none of this is dead."""
    file = shared / "vectors" / "venue_vectors.json"
    if not file.is_file():
        pytest.skip(f"the venue vectors are not here: no {file.name} under vectors/")
    vectors = read_vectors(file)
    assert (len(vectors), sum(vector["status"] == "ok" for vector in vectors)) == (159, 146)
    assert {vector["topic"] for vector in vectors} == set(TOPICS)


@pytest.mark.parametrize("status", ["ok", "uncertain"])
def test_an_unknown_topic_fails(status):
    """Whatever its status.  Source: FORM-003."""
    with pytest.raises(AssertionError, match=r"unknown topic 'adl\.mood'"):
        test_vector({"topic": "adl.mood", "inputs": {}, "status": status})


@pytest.mark.parametrize(
    ("got", "want"),
    [
        ({}, {"a": 1}),
        ({"a": None}, {"a": 1}),
        ({"a": True}, {"a": 1}),
        ({"a": 1}, {"a": True}),
        ({"a": 0}, {"a": False}),
        ({"a": [1]}, {"a": [1, 2]}),
        ({"a": [1, 2]}, {"a": [1]}),
        ({"a": ["x"]}, {"a": ["y"]}),
        ({"a": "1"}, {"a": 1}),
        ({"a": Fraction(112, 100)}, {"a": 1}),
        ({"a": {"b": 2}}, {"a": {"b": 1}}),
        ([], {"a": 1}),
    ],
)
def test_the_comparison_lets_nothing_pass(got, want):
    """Source: FORM-003."""
    assert list_differences(got, want, Fraction(11, 100))[:1]
    assert not list_differences(want, want, 0)
    assert not list_differences({"a": Fraction(111, 100)}, {"a": 1}, Fraction(11, 100))
