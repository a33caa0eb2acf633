"""Ctrl-C in long commands, and going on afterwards (CLI-003, CLI-004, JRN-009).

A few commands, once each; `python -m tests.journal.interrupts` does it to all of them, at random moments.
"""

import json
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest

from engine.cli import find_demo, main
from engine.cli.interrupts import Interrupts, Watch
from engine.exchange import verify_journal
from engine.feeds import read_ahead
from engine.fuzz import fuzz
from engine.journal import LOG
from engine.sweep.executors import InProcess
from tests.journal.interrupts import environment, interrupt, judge, list_cases, prepare

DEMO = find_demo()
TIMING = ("seconds", "engine_seconds", "events_per_s", "commands_per_s")
SLOW_S = 5.0  # on a machine that others use; alone each takes less than one


@pytest.mark.parametrize("name", ["fuzz", "stress-here", "verify", "warm"])
def test_ctrl_c_stops_a_long_command(tmp_path, name):
    """CLI-003 CLI-004: exit 130 soon, no trace, nobody left behind, and a last line that says how it goes on."""
    prepare(tmp_path, [name])
    case = list_cases(tmp_path)[name]
    seconds, status, said = interrupt(case, tmp_path)
    judge(case, status, said)
    assert seconds < SLOW_S
    assert not list(tmp_path.glob(".*part*"))


def test_an_interrupt_that_text_raised_ends_in_its_status(tmp_path):
    """CLI-003: CPython remembers one that left code compiled from text, and would end a module by the signal itself."""
    lines = [
        "import runpy, sys",
        "import engine.cli",
        "engine.cli._run_verb = lambda options: exec('raise KeyboardInterrupt')",
        "sys.argv = ['engine', 'warm']",
        "runpy.run_module('engine', run_name='__main__')",
    ]
    (tmp_path / "interrupted.py").write_text("\n".join(lines) + "\n")
    asked = [sys.executable, "-m", "interrupted"]
    done = subprocess.run(asked, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 130, done.stderr
    assert done.stderr.startswith("perp: interrupted; ")


def replay(capsys, out, log, *more, population=None):
    given = ["replay", str(DEMO), "--market", str(DEMO / "market.toml"), "--fund", "1000000", "--out", str(out)]
    given += ["--population", str(population or DEMO / "population.toml"), "--shock", str(DEMO / "shock.toml")]
    status = main([*given, "--journal", str(log), "--json", *more])
    told = capsys.readouterr()
    return status, json.loads(told.out) if told.out else {}, told.err


def test_a_replay_goes_on_with_its_log(tmp_path, capsys, monkeypatch):
    """CLI-004 JRN-009: stopped anywhere, and once with a torn tail, it ends as if it had not been; the log is one."""
    whole = replay(capsys, tmp_path / "whole", tmp_path / "whole.log")[1]
    log, out = tmp_path / "log", tmp_path / "out"
    asked = 0

    def should_stop(self):
        nonlocal asked
        asked += 1
        return asked >= 3

    with monkeypatch.context() as patch:
        patch.setattr(Interrupts, "should_stop", should_stop)
        status, summary, err = replay(capsys, out, log)
    assert (status, summary["interrupted"]) == (130, True)
    assert 0 < summary["commands"] < whole["commands"]
    assert f"{summary['commands']:,} commands are done, their run directory is {out}" in err
    assert f"--journal {log} --json --resume" in err.splitlines()[-1]
    with (log / LOG).open("ab") as file:
        file.write(b"torn")
    status, resumed, err = replay(capsys, out, log, "--resume")
    assert (status, resumed["interrupted"]) == (0, False), err
    assert {key: value for key, value in resumed.items() if key not in TIMING} == {
        key: value for key, value in whole.items() if key not in TIMING
    }
    for name in ("report.txt", "liquidations.csv"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    found = verify_journal(log, ["compiled"])
    assert (found["commands"], found["digest"], found["equal"]) == (whole["commands"], whole["digest"], True)
    assert found["tail_bytes"] == 0
    # a run that has ended goes on too: nothing is missing
    assert replay(capsys, out, log, "--resume")[1]["digest"] == whole["digest"]


def test_a_log_of_another_run_is_refused(tmp_path, capsys):
    """JRN-009: the first command that differs is named; one that has more, or none, is refused and left."""
    log, out = tmp_path / "log", tmp_path / "out"
    assert replay(capsys, out, log, "--resume")[0] == 4
    assert replay(capsys, out, log, "--until-seq", "3000")[0] == 0
    before = (log / LOG).read_bytes()
    shutil.rmtree(out)
    status, _, err = replay(capsys, out, log, "--resume", "--seed", "99", "--until-seq", "3000")
    assert status == 5
    assert "expected the log of this run, command " in err
    status, _, err = replay(capsys, out, log, "--resume", "--until-seq", "2000")
    assert status == 5
    assert "it has 1000 commands more" in err
    assert main(["replay", str(DEMO), "--market", str(DEMO / "market.toml"), "--resume"]) == 5
    assert "--resume: expected --journal DIR" in capsys.readouterr().err
    assert (log / LOG).read_bytes() == before
    assert not out.exists()


def test_fuzz_goes_on_with_the_stream_it_was_in():
    """CLI-004: the parts of an interrupted run are the streams of a whole one."""
    whole = fuzz(3, 900)
    asked = 0

    def should_stop():
        nonlocal asked
        asked += 1
        return asked > 500

    first = fuzz(3, 900, should_stop=should_stop)
    assert first["interrupted"]
    assert 0 < first["steps"] < 900
    rest = fuzz(3, 900 - first["steps"], first=first["streams"])
    assert first["streams"] + rest["streams"] == whole["streams"]
    both = {name: first["event_kinds"].get(name, 0) + count for name, count in rest["event_kinds"].items()}
    assert {**first["event_kinds"], **both} == whole["event_kinds"]


def test_resume_wants_something_that_was_begun(tmp_path, capsys):
    """CLI-004: a folder that was mistyped is told, not begun."""
    from tests.journal.interrupts import STRESS

    assert main(["stress", str(STRESS), "--seeds", "1", "--resume"]) == 5
    assert "--resume: expected --out DIR" in capsys.readouterr().err
    assert main(["stress", str(STRESS), "--seeds", "1", "--resume", "--out", str(tmp_path / "typo")]) == 5
    assert "found no scenario.json" in capsys.readouterr().err
    assert not (tmp_path / "typo").exists()


def test_a_wait_for_the_tape_can_be_stopped():
    """CLI-003: nobody waits for a chunk that takes long to be read."""

    def make():
        yield 1
        time.sleep(0.5)
        yield 2

    ahead = read_ahead(make(), should_stop=lambda: True)
    assert next(ahead) == 1
    with pytest.raises(KeyboardInterrupt):
        next(ahead)


def test_what_keeps_nothing_is_broken_off():
    """CLI-003: before anything is done, and in `break_off`, the first raises; else it asks, and the second raises."""
    with Interrupts(), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    with Interrupts() as interrupts:
        assert not interrupts.should_stop()
        with pytest.raises(KeyboardInterrupt):
            InProcess(interrupts.break_off).submit(signal.raise_signal, signal.SIGINT)
        assert interrupts.should_stop()
        with pytest.raises(KeyboardInterrupt), interrupts.break_off():
            pass
    with Interrupts() as interrupts:  # compiled code that ends with an interrupt pending makes another error of it
        assert not interrupts.should_stop()
        with pytest.raises(KeyboardInterrupt):
            InProcess(interrupts.break_off).submit(make_error_of_interrupt)
        assert interrupts.should_stop()
    with Interrupts() as interrupts, pytest.raises(ZeroDivisionError):
        InProcess(interrupts.break_off).submit(lambda: 1 // 0).result()
    with Interrupts() as interrupts:
        assert not interrupts.should_stop()
        signal.raise_signal(signal.SIGINT)
        assert interrupts.should_stop()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert Interrupts.active is None


def make_error_of_interrupt(options=None):
    """End as a kernel does that an interrupt reached while it ran."""
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt as error:
        raise SystemError("returned a result with an exception set") from error


def test_whatever_comes_of_an_interrupt_is_one(monkeypatch, capsys):
    """CLI-003: a library that makes a panic of it, and one that loses it where an exception cannot be raised."""

    class PanicError(BaseException):
        pass

    def panic(options):
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        raise PanicError

    monkeypatch.setattr("engine.cli.run_docs", panic)
    assert main(["docs"]) == 130
    assert capsys.readouterr().err == "perp: interrupted; nothing is kept, the same command begins anew\n"

    def run_kernel(options):
        with Interrupts():
            make_error_of_interrupt()

    monkeypatch.setattr("engine.cli.run_docs", run_kernel)
    assert main(["docs"]) == 130
    assert capsys.readouterr().err == "perp: interrupted; nothing is kept, the same command begins anew\n"
    with monkeypatch.context() as patch:
        patch.setattr("engine.cli.run_docs", lambda options: (_ for _ in ()).throw(PanicError))
        with pytest.raises(PanicError):
            main(["docs"])


def test_an_interrupt_that_got_lost_ends_the_process(tmp_path):
    """CLI-003: by the thread, what is half-written removed."""
    code = """
import signal, sys, time, engine.cli
from engine.files import Workplace
class Loses:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)
        [None for _ in range(10)]
def verb(options):
    with Workplace("out", "--out", str.isalpha, "test"):
        loses = Loses()
        del loses
        time.sleep(60)
engine.cli.run_docs = verb
sys.exit(engine.cli.main(["docs"]))
"""
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 130
    assert done.stderr == "perp: interrupted; nothing is kept, the same command begins anew\n"
    assert time.monotonic() - begun < SLOW_S
    assert not list(tmp_path.iterdir())


def test_the_watch_gives_back_what_it_took():
    """CLI-003: inside a program that has its own handler, and in another thread, it leaves everything alone."""
    before = signal.getsignal(signal.SIGINT)
    with Watch(None):
        assert signal.getsignal(signal.SIGINT) != before
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) == before
    thread = threading.Thread(target=lambda: Watch(None).__enter__())
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGINT) == before
    mine = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Watch(None):
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, mine)
