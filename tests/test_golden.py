"""Recordings under every preset come to what they came to (STATE-001); `python -m tests.golden.record` records anew."""

import json

import pytest

from tests.conftest import find_shared
from tests.golden.record import RECORDINGS
from tests.golden.recordings import list_cases

CASES = {name: (files, run) for name, files, run in list_cases(find_shared())}


@pytest.mark.parametrize("name", CASES)
def test_golden_digests(name):
    """A digest that moves needs its reason under Money in CHANGELOG.md."""
    files, run = CASES[name]
    missing = [file for file in files if not file.is_file()]
    if missing:
        pytest.skip(f"{missing[0]} is not here")
    assert run() == json.loads(RECORDINGS.read_text(encoding="utf-8"))[name]


def test_nothing_recorded_is_forgotten():
    assert json.loads(RECORDINGS.read_text(encoding="utf-8")).keys() == CASES.keys()
