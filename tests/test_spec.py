"""The numbered spec and what quotes it agree in both directions.

A rule is defined by a line of engine/docs/spec.md that starts with its id in bold; it is quoted by writing the id in a
docstring, comment or table of engine/, and in a test or a story under tests/.  `A-001..A-004` quotes all four.
"""

import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SPEC = ROOT / "engine" / "docs" / "spec.md"

DEFINITION = re.compile(r"^\*\*([A-Z]{2,8}-\d{3})\b", re.MULTILINE)
QUOTE = re.compile(r"(?<![\w-])([A-Z]{2,8})-(\d{3})(?![\w-])(?:\.\.(?:\1-)?(\d{3})(?!\d))?")
NOT_RULES = {"SHA-256", "SHA-512"}  # looks like an id, is a name


def definitions():
    """Return the ids the spec defines, in its order."""
    return DEFINITION.findall(SPEC.read_text(encoding="utf-8")) if SPEC.is_file() else []


def quotes(folder, suffixes):
    """Return {id: [file:line, ...]} of every id written under `folder`; ranges are written out."""
    found = {}
    for file in sorted((ROOT / folder).rglob("*")):
        if file.suffix not in suffixes or file == Path(__file__).resolve():
            continue
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            for prefix, first, last in QUOTE.findall(line):
                for rule in range(int(first), int(last or first) + 1):
                    found.setdefault(f"{prefix}-{rule:03}", []).append(f"{file.relative_to(ROOT)}:{number}")
    return found


@pytest.fixture(scope="module")
def defined():
    """Return the set of defined ids."""
    ids = definitions()
    assert ids, "engine/docs/spec.md defines no rule: expected lines starting with **MATCH-001**"
    return set(ids)


def test_every_id_is_defined_once():
    twice = [rule for rule, count in Counter(definitions()).items() if count > 1]
    assert not twice, f"defined more than once in engine/docs/spec.md: {', '.join(twice)}"


def test_every_rule_is_quoted_in_the_engine(defined):
    silent = sorted(defined - set(quotes("engine", {".py"})))
    assert not silent, f"rules no code under engine/ quotes: {', '.join(silent)}"


def test_every_rule_is_quoted_by_a_test(defined):
    silent = sorted(defined - set(quotes("tests", {".py", ".story"})))
    assert not silent, f"rules no test under tests/ quotes: {', '.join(silent)}"


@pytest.mark.parametrize("folder", ["engine", "tests", "bench"])
def test_every_quoted_id_is_defined(defined, folder):
    found = quotes(folder, {".py", ".story", ".md"})
    unknown = [f"{rule} at {', '.join(found[rule])}" for rule in sorted(set(found) - defined - NOT_RULES)]
    assert not unknown, "quoted but not defined in engine/docs/spec.md:\n  " + "\n  ".join(unknown)
