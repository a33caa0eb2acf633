"""Completion by real shells: what they offer after a tab is what the parser takes (CLI-032)."""

import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine.cli import build_parser, main
from engine.venues import list_venues

pytest.importorskip("shtab", reason="the extra completion is not installed")

ROOT = Path(__file__).resolve().parents[1]
MARKET = "replay_data/synthetic_btc/market.toml"
BASH = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(( $# - 1 )); COMPREPLY=()
_shtab_perp
printf '%s\\n' "${COMPREPLY[@]}"
"""
CASES = [
    (["re"], {"replay", "report"}),
    (["replay", "--eng"], {"--engine"}),
    (["replay", "tape", "--watch-"], {"--watch-market"}),
    (["replay", "--engine", ""], {"compiled", "reference"}),
    (["demo", "--events", "p"], {"parquet"}),
    (["venues", "bybit"], {"bybit-inverse", "bybit-linear"}),
    (["docs", "form"], {"formats"}),
    (["bench", "mat"], {"matching"}),
    (["replay", "tape", "--market", "replay_data/synthetic_btc/mark"], {MARKET}),
    (["check", "replay_data/scenarios/fun"], {"replay_data/scenarios/funds.json"}),
]


def find_shell(name):
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


@pytest.fixture
def script(request, tmp_path, capsys):
    """Return a file with the script of a shell, as `perp completion` prints it."""
    assert main(["completion", request.param]) == 0
    path = tmp_path / f"perp.{request.param}"
    path.write_text(capsys.readouterr().out)
    return path


def run_bash(*arguments):
    command = [find_shell("bash"), "--norc", "-c", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout


@pytest.mark.parametrize(("words", "offered"), CASES)
@pytest.mark.parametrize("script", ["bash"], indirect=True)
def test_bash(script, words, offered):
    assert set(run_bash(BASH, "bash", str(script), "perp", *words).split()) == offered


@pytest.mark.parametrize("script", ["bash"], indirect=True)
def test_bash_again(script):
    """A preset after a preset, folders alone for --out; `source <(...)` registers `perp`."""
    assert run_bash(BASH, "bash", str(script), "perp", "demo", "--out", "eng").split() == ["engine"]
    assert run_bash(BASH, "bash", str(script), "perp", "venues", *list_venues()[:2], "bitm").split() == ["bitmex"]
    told = run_bash(f"source <({sys.executable} -m engine completion bash); complete -p perp")
    assert "-F _shtab_perp perp" in told


@pytest.mark.parametrize("script", ["fish"], indirect=True)
def test_fish(script, tmp_path):
    shell = find_shell("fish")
    lines = [f"source {script}"]
    for words, _ in CASES:
        text = " ".join(words) if words[-1] else " ".join(words[:-1]) + " "
        lines += [f"complete -C 'perp {text}'", "echo ---"]
    environment = {**os.environ, "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    done = subprocess.run(
        [shell, "-c", "\n".join(lines)], cwd=ROOT, capture_output=True, text=True, check=False, env=environment
    )
    parts = done.stdout.split("---\n")
    for (words, offered), part in zip(CASES, parts, strict=False):
        assert {line.split("\t")[0] for line in part.splitlines() if line} == offered, (words, done.stderr)


@pytest.mark.parametrize("script", ["zsh"], indirect=True)
def test_zsh(script, tmp_path):
    """A tab on zsh's own line editor, on a terminal: what is unique is put in."""
    shell, pty = find_shell("zsh"), pytest.importorskip("pty")
    ours, its = pty.openpty()
    environment = {**os.environ, "HOME": str(tmp_path), "ZDOTDIR": str(tmp_path), "TERM": "dumb", "PS1": "> "}
    with subprocess.Popen(
        [shell, "-f", "-i"], cwd=ROOT, stdin=its, stdout=its, stderr=its, env=environment, start_new_session=True
    ) as child:
        os.close(its)

        def type_(text, until, seconds=20):
            os.write(ours, text.encode())
            seen, begun = "", time.monotonic()
            while until not in seen:
                assert time.monotonic() - begun < seconds, f"expected {until!r} after {text!r}, got {seen!r}"
                if select.select([ours], [], [], 0.2)[0]:
                    seen += os.read(ours, 1 << 16).decode(errors="replace")
            return seen

        type_("bindkey '^I' expand-or-complete; autoload -U compinit; compinit -u -D; print rea''dy\n", "ready")
        type_(f"eval \"$(cat {script})\"; print lo''aded\n", "loaded")
        type_("perp venues bybit-l\t", "bybit-linear")
        type_("\x15perp replay --eng\t", "--engine")
        type_("\x15perp replay tape --market replay_data/synthetic_btc/mark\t", "market.toml")
        type_("\x15perp doct\t", "doctor")
        type_("\x15exit\n", "exit")
        child.wait(20)
    os.close(ours)


def test_every_verb_is_there(capsys):
    """Nothing is left out when a verb is added: the scripts name them all."""
    verbs = next(
        action.choices for action in build_parser()._actions if action.dest == "==SUPPRESS==" or action.choices
    )
    for shell in ("bash", "zsh", "fish"):
        assert main(["completion", shell]) == 0
        printed = capsys.readouterr().out
        assert not [verb for verb in verbs if verb not in printed]


def test_a_missing_extra(capsys, monkeypatch):
    """Source: CLI-032, CLI-002."""
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "bash"]) == 3
    assert "pip install 'perp-engine[completion]'" in capsys.readouterr().err
