"""`perp fuzz`: clean on what is right, quick to find and small to show what is not (FUZZ-001 to FUZZ-003)."""

import json
from itertools import pairwise

import pytest

from engine.cli import main
from engine.codes import CANCEL, DEPOSIT, FUND_DEPOSIT
from engine.compiled import CompiledEngine
from engine.fuzz import build_stream, fuzz, replay_failure
from engine.fuzz.storm import Command


def test_a_short_run_is_clean(tmp_path, capsys):
    """FUZZ-002: the same run for the same seed; every kind of harm is in it."""
    assert main(["fuzz", "--seed", "5", "--steps", "1500", "--json", "--out", str(tmp_path)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["steps"], found["failure"]) == (1500, None)
    assert {"liquidation_started", "deficit", "adl_fill", "rejected"} <= found["event_kinds"].keys()
    assert fuzz(5, 300)["event_kinds"] == fuzz(5, 300)["event_kinds"]
    assert not list(tmp_path.iterdir())


def test_streams_are_functions_of_their_number():
    """FUZZ-001."""
    assert build_stream(17) == build_stream(17)
    assert build_stream(17) != build_stream(18)
    floods = [commands for _, commands in map(build_stream, range(12)) if count_run(commands) > 10]
    assert floods


def count_run(commands):
    """Return the longest run of commands at one time, most of them cancels."""
    longest = run = 0
    for before, here in pairwise(commands):
        run = run + 1 if here.ts_ns == before.ts_ns and CANCEL in (before.kind, here.kind) else 0
        longest = max(longest, run)
    return longest


@pytest.mark.parametrize("kind", [DEPOSIT, FUND_DEPOSIT])
def test_a_fault_is_found_shrunk_and_kept(tmp_path, capsys, monkeypatch, kind):
    """FUZZ-003: with money lost on the way of one kind of command, one such command is all that is kept."""
    apply = CompiledEngine.apply

    def forget(self, rows):
        rows["amount_quote"][(rows["kind"] == kind) & (rows["amount_quote"] > 7)] -= 1
        return apply(self, rows)

    monkeypatch.setattr(CompiledEngine, "apply", forget)
    assert main(["fuzz", "--steps", "3000", "--out", str(tmp_path)]) == 1
    text = capsys.readouterr().out
    [path] = tmp_path.iterdir()
    assert f"perp fuzz --replay {path}" in text
    kept = json.loads(path.read_text())["commands"]
    assert [command["kind"] for command in kept] == [kind]
    assert "compiled" in replay_failure(path)
    assert main(["fuzz", "--replay", str(path)]) == 1
    monkeypatch.undo()
    capsys.readouterr()
    assert main(["fuzz", "--replay", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["error"] is None
    path.write_text("{}")
    assert main(["fuzz", "--replay", str(path)]) == 4
    assert Command(kind=kind).kind == kind
