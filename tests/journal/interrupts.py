"""Send Ctrl-C to long commands while they are at it, and hold them to what CLI-003 and CLI-004 say.

    python -m tests.journal.interrupts            every command, three times each
    python -m tests.journal.interrupts stress     one

A child is begun in a process group of its own, and the signal goes to the whole group, as a terminal's does, at
a random moment after the child has said, or left on disk, that it is in its loop.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from engine.cli import find_demo
from engine.contract import load_market
from engine.feeds import open_feed

ROOT = Path(__file__).resolve().parents[2]
REPLAY_DATA = ROOT / "replay_data"
STRESS = REPLAY_DATA / "stress" / "flash_crash.toml"
SIMULATED = REPLAY_DATA / "simulated_btc"
PATIENCE_S = 120  # until a child is in its loop


class Case(NamedTuple):
    """A command that takes long.

    `seen` is what it says on stderr in its loop, or what it leaves in the folder, a pattern; `kept` stands in its last
    line; `again` are words of the command that goes on, none where it begins anew.
    """

    arguments: tuple[str, ...]
    seen: str
    kept: str
    again: tuple[str, ...] = ()


def build_tape(folder):
    """Write the demo's tape sixty times after each other, so that a run over it takes long."""
    from engine.bench.replay import repeat_tape

    (folder / "tape").mkdir()
    repeat_tape(open_feed([find_demo()], [load_market(find_demo() / "market.toml")]), folder / "tape", 60)


def list_cases(folder):
    """Return every long command by name; what they need lies in the folder."""
    demo = find_demo()
    market = str(demo / "market.toml")
    crowd = ("--population", str(demo / "population.toml"), "--fund", "1000000")
    slow = ("replay", "tape", "--market", market, *crowd, "--engine", "reference", "--progress")
    runs = (str(STRESS), "--seeds", "4000", "--progress", "--out", "out")
    sim = (str(SIMULATED / "simulated.toml"), "--market", str(SIMULATED / "market.toml"), "--fund", "1000000")
    policy = ("--policy", "market", "--policy", str(folder / "policy.toml"))
    return {
        "replay": Case((*slow, "--out", "out", "--journal", "log"), "commands", "log", ("--resume",)),
        "replay-compiled": Case(("replay", "tape", "--market", market, *crowd, "--progress"), "commands", "are done"),
        "stress": Case(("stress", *runs), "runs", "are done", ("--resume",)),
        "stress-here": Case(("stress", *runs, "--workers", "1"), "runs", "are done", ("--resume",)),
        "sweep": Case(("sweep", *runs, "--grid", "fund=1e4,2e4"), "runs", "are done", ("--resume",)),
        "size-fund": Case(("size-fund", *runs), "runs", "are done", ("--resume",)),
        "find-shock": Case(
            ("find-shock", *runs, "--until", "adl", "--size", "0:0.2"),
            "runs",
            "are done",
            ("--resume",),
        ),
        "fuzz": Case(("fuzz", "--steps", "1000000", "--progress"), "streams", "are done", ("--steps", "--resume")),
        "compare": Case(
            ("compare", "tape", "--market", market, *crowd, *policy, "--engine", "reference", "--progress"),
            "commands",
            "compared",
        ),
        "compare-sim": Case(("compare", "--sim", str(folder / "long.toml"), *sim[1:], *policy), "", ""),
        "sim": Case(("sim", str(folder / "long.toml"), *sim[1:], "--out", "out"), ".out*.part", ""),
        "verify": Case(("verify", "logged", "--engine", "both"), "", "replayed"),
        "convert": Case(("convert", "tape", "out"), ".out*.part/*", "nothing is kept"),
        "convert-parquet": Case(("convert", "tape", "out.parquet"), ".out*.part/*", "nothing is kept"),
        "inspect": Case(("inspect", "tape"), "", ""),
        "lab-run": Case(("lab", "oct10", "--scenario", str(REPLAY_DATA / "oct10.toml")), "", "nothing is kept"),
        "attack": Case(("attack", "--engine", "reference"), "", ""),
        "bench-matching": Case(("bench", "matching"), "", "nothing is kept"),
        "bench-risk": Case(("bench", "risk"), "", "nothing is kept"),
        "bench-sim": Case(("bench", "sim"), "", "nothing is kept"),
        "warm": Case(("warm",), "compiling the kernels", "go on with: perp warm"),
    }


def prepare(folder, names):
    """Make what some commands need."""
    if any(case in names for case in ("replay", "replay-compiled", "compare", "convert", "convert-parquet", "inspect")):
        build_tape(folder)
    (folder / "policy.toml").write_text('[adl]\nscore = "binance"\n')
    text = (SIMULATED / "simulated.toml").read_text()
    (folder / "long.toml").write_text(
        "".join('duration = "20h"\n' if line.startswith("duration") else line for line in text.splitlines(True))
    )
    if "verify" in names:
        demo = find_demo()
        given = ["replay", str(demo), "--market", str(demo / "market.toml"), "--journal", "logged", "--json"]
        given += [
            "--population",
            str(demo / "population.toml"),
            "--fund",
            "1000000",
            "--shock",
            str(demo / "shock.toml"),
        ]
        subprocess.run([sys.executable, "-m", "engine", *given], cwd=folder, env=environment(), check=True, stdout=-3)


def environment(**more):
    """Return the environment of a child that finds the sources from any folder."""
    return {**os.environ, "PYTHONPATH": str(ROOT), **more}


class TooLateError(AssertionError):
    """The command was quicker than the interrupt."""


def interrupt(case, folder, delay_s=0.0):
    """Run a command in a folder, send Ctrl-C to its group once it is at it; return (seconds, status, stderr)."""
    fresh = {"XDG_CACHE_HOME": str(folder / "cache")} if case.arguments[0] == "warm" else {}
    child = subprocess.Popen(
        [sys.executable, "-m", "engine", *case.arguments],
        cwd=folder,
        env=environment(**fresh),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )
    try:
        said = wait_until_at_it(case, folder, child)
        time.sleep(delay_s)
        if child.poll() is not None:
            raise TooLateError(f"it had ended before: {said.decode()}")
        os.killpg(child.pid, signal.SIGINT)
        begun = time.perf_counter()
        said += child.stderr.read()
        status = child.wait(PATIENCE_S)
        seconds = time.perf_counter() - begun
        assert not is_left(child.pid), "a process of its own is left"
        return seconds, status, said.decode()
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        child.stderr.close()


def wait_until_at_it(case, folder, child):
    """Return what a child has said by the time it is in its loop."""
    said, ends = b"", time.monotonic() + PATIENCE_S
    os.set_blocking(child.stderr.fileno(), False)
    while time.monotonic() < ends and child.poll() is None:
        said += child.stderr.read(1 << 16) or b""
        if case.seen.startswith("."):
            if any(folder.glob(case.seen)):
                break
        elif case.seen.encode() in said and (case.seen or time.monotonic() > ends - PATIENCE_S + 2.5):
            break
        time.sleep(0.01)
    os.set_blocking(child.stderr.fileno(), True)
    return said


def is_left(group):
    """Return whether a process of a group outlives its leader by more than a moment, and is more than an entry."""
    for _ in range(100):  # Python's tracker of shared resources ends when it reads that its owner has
        listed = subprocess.run(["ps", "-eo", "pgid=,stat="], capture_output=True, text=True, check=True).stdout
        states = [row.split()[1] for row in listed.splitlines() if int(row.split()[0]) == group]
        if not [state for state in states if not state.startswith("Z")]:
            return False
        time.sleep(0.02)
    return True


def judge(case, status, said):
    """Raise AssertionError where a command did not end as it should."""
    assert status == 130, f"status {status}: {said[-2000:]}"
    assert "Traceback" not in said, said
    last = said.strip().splitlines()[-1]
    assert last.startswith("perp: interrupted; "), last
    assert case.kept in last, last
    if case.again:
        assert "go on with: perp " in last, last
        assert not [word for word in case.again if word not in last.partition("go on with: ")[2]], last
    elif case.kept:
        assert "begins anew" in last or "go on with" in case.kept, last


def main():
    """Interrupt every command and print how long it took to stop."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name", nargs="*")
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    dice, worst = random.Random(options.seed), {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        chosen = options.name or list(list_cases(folder))
        prepare(folder, chosen)
        cases = list_cases(folder)
        for wanted in chosen:
            taken = []
            delays = [dice.random() * 1.5 for _ in range(options.times)]
            while delays:
                delay_s = delays.pop()
                for made in ("out", "out.parquet", "log", "cache"):
                    shutil.rmtree(folder / made, ignore_errors=True)
                try:
                    seconds, status, said = interrupt(cases[wanted], folder, delay_s)
                except TooLateError:
                    if delay_s < 0.01:
                        raise
                    delays.append(delay_s / 2)
                    continue
                judge(cases[wanted], status, said)
                taken.append(round(seconds, 2))
                parts = [path.name for path in folder.glob(".*part*")]
                assert not parts, parts
            worst[wanted] = max(taken)
            print(f"{wanted:16} {taken}  {said.strip().splitlines()[-1][:150]}", flush=True)
    print(json.dumps({"commands": len(worst), "worst_s": max(worst.values())}))


if __name__ == "__main__":
    main()
