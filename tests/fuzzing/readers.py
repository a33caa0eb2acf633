"""Fuzz one reader: `python -m tests.fuzzing.readers --target NAME --seconds N`; `all`: one after the other.

With atheris installed what is tried next follows coverage of the engine's Python; without, inputs are drawn from a
seed.  Both begin with the hand-made samples and, where they are at hand, with small pieces of real recordings, and both
mix bytes with changes that know numbers, fields and lines.  Findings are kept in `--out`, one of each kind.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any, NoReturn

HANG_SECONDS = 10.0  # of the processor: another program may hold it
REPORT_SECONDS = 5.0


class HangError(BaseException):
    """An input that takes too long; no `except Exception` on the way may catch it."""


class Fuzzer:
    """One target, its inputs, and what was found.

    Parameters
    ----------
    name : str
        Of the target.
    out : Path
        Where findings are kept.
    seconds, runs : float, int
        When it ends, whichever comes first; 0: never.
    """

    def __init__(self, name: str, out: Path, seconds: float = 0, runs: int = 0, seed: int = 1) -> None:
        from tests.fuzzing.corpus import cut_recordings
        from tests.fuzzing.targets import TARGETS

        self.target, self.out, self.seed = TARGETS[name], out, seed
        self.seconds, self.runs = seconds, runs
        self.samples = [*self.target.samples(), *cut_recordings(name)]
        self.folder = Path(self._make_folder())
        self._warm()
        self.started = monotonic()
        self.tried = self.refused = 0
        self.slowest = 0.0
        self.found: dict[str, int] = {}
        self._shown = self.started

    def _make_folder(self) -> str:
        self._kept = TemporaryDirectory(prefix="fuzz-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
        return self._kept.name

    def _warm(self) -> None:
        """Read a sample of each name, so that what is compiled or loaded once delays no input."""
        for sample in {sample.name: sample for sample in self.target.samples()}.values():
            with suppress(Exception):  # found again when it is tried
                self.target.check(self.folder, sample)

    @property
    def is_over(self) -> bool:
        """Whether time or runs are used up."""
        late = self.seconds and monotonic() - self.started >= self.seconds
        return bool(late or (self.runs and self.tried >= self.runs))

    def try_input(self, name: str, data: bytes) -> None:
        """Read one input; keep it if it is the first of its kind of finding."""
        from tests.fuzzing.samples import Sample

        before = monotonic()
        try:
            signal.setitimer(signal.ITIMER_PROF, HANG_SECONDS)
            self.refused += bool(self.target.check(self.folder, Sample(name, data)))
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # a panic of a library is no Exception
            signal.setitimer(signal.ITIMER_PROF, 0)
            self._keep(name, data, error)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        self.tried += 1
        self.slowest = max(self.slowest, monotonic() - before)
        if monotonic() - self._shown > REPORT_SECONDS:
            self._shown = monotonic()
            self.write_summary()

    def _keep(self, name: str, data: bytes, error: BaseException) -> None:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/engine/" in frame.filename]
        place = f"{Path(frames[-1].filename).stem}:{frames[-1].name}" if frames else "tests"
        key = f"{type(error).__name__} in {place}"
        self.found[key] = self.found.get(key, 0) + 1
        if self.found[key] > 1:
            return
        folder = self.out / f"{self.target.name}-{len(self.found)}-{type(error).__name__}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
        (folder / "why.txt").write_text("".join(traceback.format_exception(error))[-8_000:], encoding="utf-8")
        print(f"{self.target.name}: {key}: {str(error)[:200]}: {folder}", flush=True)

    def write_summary(self) -> dict[str, Any]:
        """Write what was tried and found beside the findings, and return it."""
        facts = {
            "target": self.target.name,
            "samples": len(self.samples),
            "seconds": round(monotonic() - self.started, 1),
            "inputs": self.tried,
            "refused": self.refused,
            "slowest_seconds": round(self.slowest, 3),
            "found": self.found,
        }
        self.out.mkdir(parents=True, exist_ok=True)
        (self.out / f"{self.target.name}.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        return facts

    def close(self) -> None:
        """Remove the folder inputs were written to."""
        self._kept.cleanup()

    def finish(self) -> NoReturn:
        """Say what was found and end the process, atheris's own end included."""
        print(json.dumps(self.write_summary()), flush=True)
        self.close()
        os._exit(1 if self.found else 0)


def run_plainly(fuzzer: Fuzzer) -> NoReturn:
    """Draw inputs from a seed."""
    random = Random(fuzzer.seed)
    for sample in fuzzer.samples:
        fuzzer.try_input(sample.name, sample.data)
    while not fuzzer.is_over:
        sample, other = random.choice(fuzzer.samples), random.choice(fuzzer.samples)
        fuzzer.try_input(sample.name, fuzzer.target.mutate(sample.data, other.data, random))
    fuzzer.finish()


def run_guided(fuzzer: Fuzzer, atheris: Any) -> NoReturn:
    """Let coverage choose what is changed next; the first byte says which sample lends its name."""
    names = list(dict.fromkeys(sample.name for sample in fuzzer.samples))

    def run(data: bytes) -> None:
        if data:
            fuzzer.try_input(names[data[0] % len(names)], data[1:])
        if fuzzer.is_over:
            fuzzer.finish()

    def change(data: bytes, most: int, seed: int) -> bytes:
        random = Random(seed)
        if len(data) < 2 or random.random() < 0.3:
            changed: bytes = atheris.Mutate(data, most)
            return changed
        first = data[:1] if random.random() < 0.95 else bytes([random.randrange(len(names))])
        return first + fuzzer.target.mutate(data[1:], random.choice(fuzzer.samples).data, random)[: most - 1]

    with TemporaryDirectory(prefix="corpus-") as corpus:
        for at, sample in enumerate(fuzzer.samples):
            (Path(corpus) / str(at)).write_bytes(bytes([names.index(sample.name)]) + sample.data)
        options = [f"-seed={fuzzer.seed}", "-max_len=65536", "-timeout=0", "-rss_limit_mb=4096", "-verbosity=0"]
        atheris.Setup([sys.argv[0], *options, corpus], run, custom_mutator=change)
        atheris.Fuzz()
    fuzzer.finish()


def find_atheris(is_wanted: bool) -> Any:
    """Return atheris with the engine's readers instrumented, or None."""
    if not is_wanted:
        return None
    try:
        import atheris
    except ImportError:
        return None
    with atheris.instrument_imports(include=["engine"], exclude=["engine.kernels", "engine._jit"]):
        import tests.fuzzing.targets  # noqa: F401
    return atheris


def run_all(names: Sequence[str], options: argparse.Namespace) -> NoReturn:
    """Fuzz every target in a process of its own, add up what they tried, and end with 1 where one found something."""
    sums = {"targets": 0, "inputs": 0, "refused": 0, "found": 0, "slowest_seconds": 0.0}
    given = ["--seconds", str(options.seconds), "--runs", str(options.runs), "--seed", str(options.seed)]
    given += ["--out", str(options.out), *(["--plain"] if options.plain else [])]
    for name in names:
        command = [sys.executable, "-m", "tests.fuzzing.readers", "--target", name, *given]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        print(done.stdout, end="", flush=True)
        if done.returncode not in (0, 1, 3):
            raise SystemExit(f"{name}: ended with {done.returncode}")
        if done.returncode != 3:  # a library it needs is not installed
            facts = json.loads(done.stdout.splitlines()[-1])
            sums["targets"] += 1
            sums["inputs"] += facts["inputs"]
            sums["refused"] += facts["refused"]
            sums["found"] += len(facts["found"])
            sums["slowest_seconds"] = max(sums["slowest_seconds"], facts["slowest_seconds"])
    print(json.dumps(sums))
    sys.exit(1 if sums["found"] else 0)


def main(arguments: Sequence[str] | None = None) -> None:
    """Fuzz."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzzing.readers", description=__doc__.split("\n")[0])
    parser.add_argument("--target", required=True, help="a name of tests.fuzzing.targets.TARGETS, `all`, or `list`")
    parser.add_argument("--seconds", type=float, default=60, help="for each target (default %(default)s; 0: no end)")
    parser.add_argument("--runs", type=int, default=0, help="inputs at most (default: no end)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs") / "fuzzing", help="where findings are kept")
    parser.add_argument("--plain", action="store_true", help="without atheris, even where it is installed")
    options = parser.parse_args(arguments)
    atheris = find_atheris(not options.plain and options.target not in ("all", "list"))
    from tests.fuzzing.targets import TARGETS

    if options.target == "all":
        run_all(list(TARGETS), options)
    if options.target not in TARGETS:
        parser.exit(0 if options.target == "list" else 2, "\n".join(TARGETS) + "\n")

    def give_up(signum: int, frame: object) -> None:
        raise HangError(f"still busy after {HANG_SECONDS} s")

    signal.signal(signal.SIGPROF, give_up)
    fuzzer = Fuzzer(options.target, options.out, options.seconds, options.runs, options.seed)
    if not fuzzer.samples:
        parser.exit(3, f"{options.target}: a library it needs is not installed\n")
    if atheris:
        run_guided(fuzzer, atheris)
    run_plainly(fuzzer)


if __name__ == "__main__":
    main()
