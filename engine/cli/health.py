"""What an installation runs on, what is wrong with it, and what to do about it: the checks of `perp doctor`.

It imports nothing but the standard library, and tries everything else in a child: a dependency that does not import,
or crashes, is what it is asked about.
"""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from importlib import metadata, util
from pathlib import Path
from typing import Any, NamedTuple

import engine
from engine.cli.arguments import PACKAGE, find_demo
from engine.cli.warm import COMPILE_SECONDS
from engine.errors import EngineError

OK, NOTE, WARNING, BROKEN = "ok", "note", "warning", "broken"
PYTHON_LEAST = (3, 11)
# Our own requirements, which a checkout without metadata has too.
CORE = {"numpy": "", "llvmlite": "", "numba": ">=0.65", "msgspec": "", "sortedcontainers": ""}
# Extra -> what is imported, and what of ours needs it.
EXTRAS = {
    "parquet": ("polars", "Parquet tapes and positions, --events parquet, to_polars"),
    "captures": ("zstandard", "captures and files packed with zstd"),
    "databento": ("databento_dbn", "Databento's DBN files"),
    "gzip": ("isal", "gzip at three times the speed"),
    "cluster": ("distributed", "perp stress and sweep --scheduler"),
    "tui": ("rich", "--watch of demo, replay and sim"),
    "completion": ("shtab", "perp completion"),
}
MEMORY_LEAST = DISK_LEAST = 1 << 30
FILES_LEAST = 256
CHILD_SECONDS = 120
MEGABYTE = 1_000_000
VARIABLES = {
    "NUMBA_DISABLE_JIT": "kernels run as plain Python, some hundred times slower",
    "NUMBA_BOUNDSCHECK": "every array access is checked, slower, and the machine code shares the usual folder",
    "PERP_ENGINE_PROFILE": "kernels are built to be measured, slower",
}
# Told line by line, so that who dies is known: the last one begun.
IMPORTS = """
import importlib, importlib.util, json, sys
sys.path[:] = json.loads(sys.argv[1])
for name in json.loads(sys.argv[2]):
    print(json.dumps({"begun": name}), flush=True)
    told = {"name": name, "origin": None, "error": None}
    try:
        told["origin"] = getattr(importlib.util.find_spec(name), "origin", None)
        told["version"] = str(getattr(importlib.import_module(name), "__version__", ""))
    except BaseException as error:
        told["error"] = f"{type(error).__name__}: {error}"
    print(json.dumps(told), flush=True)
"""
# The same few commands through both engines.
TRIAL = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from engine import Exchange, commands, load_market
rows = [
    commands.Mark(price_tick=600_000),
    commands.FundDeposit(amount_quote=50_000_000),
    commands.Deposit(account=1, amount_quote=1_500_000_000),
    commands.Deposit(account=2, amount_quote=9_000_000_000),
    commands.SetLeverage(account=1, leverage=100),
    commands.Place(account=2, order_id=1, side="sell", qty_lot=1_000, price_tick=600_000),
    commands.Place(account=1, order_id=2, side="buy", qty_lot=1_000, price_tick=600_000),
    commands.Level(side="bid", price_tick=580_000, qty_lot=400),
    commands.Mark(price_tick=584_000),
]
for name in ("compiled", "reference"):
    exchange = Exchange([load_market(sys.argv[2])], engine=name)
    exchange.apply(rows)
    print(exchange.digest())
"""


class Check(NamedTuple):
    """One thing that was looked at: what was found, and where that is not right what was expected and what helps."""

    name: str
    state: str  # ok, note, warning (works, but not as meant), broken
    found: str
    expected: str = ""
    next: str = ""


def examine() -> Iterator[Check]:
    """Yield every check, in the order in which one thing rests on another.

    Source: CLI-030.
    """
    yield _check_python()
    core = list(_check_core())
    yield from core
    yield from _check_extras()
    yield from _check_name()
    yield _check_command()
    yield from _check_variables()
    yield from _check_kernels(is_sound=not any(check.state == BROKEN for check in core))
    yield _check_demo()
    yield _check_memory()
    yield _check_folder()
    yield _check_files()
    yield _check_text()


# ---------------------------------------------------------------- Python and packages


def pip(*requirements: str, option: str = "") -> str:
    """Return the command that installs into the Python that runs this, not into whatever `pip` is."""
    words = [sys.executable, "-m pip install", *([option] if option else []), *(f"'{text}'" for text in requirements)]
    return " ".join(words)


def _check_python() -> Check:
    found = f"{platform.python_version()}, {64 if sys.maxsize > 1 << 32 else 32} bit, {sys.byteorder}-endian"
    expected = "Python 3.11 or newer, 64 bit, little-endian"
    if sys.version_info < PYTHON_LEAST or sys.maxsize <= 1 << 32:
        return Check("python", BROKEN, found, expected, "install a 64-bit Python 3.11 or newer and perp-engine into it")
    if sys.byteorder != "little":
        return Check("python", BROKEN, found, expected, "run it on x86-64 or ARM64")
    return Check("python", OK, found)


def _check_core() -> Iterator[Check]:
    """Yield a check per package that everything needs: there, of a version that fits, and importing."""
    told = _try_imports(list(CORE))
    wanted = _read_wanted()
    misfits = {}
    for name, (spec, who) in wanted.items():
        version = _find_version(name)
        if version and not satisfies(version, spec):
            misfits[name] = (spec, who)
    for name in CORE:
        version, spec = _find_version(name), wanted.get(name, ("", ""))[0]
        error = told[name]["error"]
        intruder = _find_intruder(name, told[name]["origin"])
        if intruder:
            found = f"{intruder} is taken for it" + (f" and fails: {error}" if error else "")
            step = f"rename or remove {intruder}, or take its folder out of PYTHONPATH; run perp from another folder"
            yield Check(name, BROKEN, found, "the installed package", step)
        elif not version and error:
            yield Check(name, BROKEN, "not installed", f"{name}{spec}", pip(f"{name}{spec}"))
        elif name in misfits:
            asks = f"{spec}, which {misfits[name][1]} asks for"
            yield Check(name, BROKEN, version or told[name]["version"], asks, pip(f"{name}{spec}"))
        elif error:
            others = [f"{other}{wanted[other][0]}" for other in misfits]
            step = pip(*others) if others else pip(f"{name}{spec}", option="--force-reinstall")
            yield Check(name, BROKEN, f"{version} does not import: {error}", "an import without an error", step)
        else:
            yield Check(name, OK, version or told[name]["version"] or "of unknown version")


def _try_imports(names: list[str]) -> dict[str, dict[str, Any]]:
    """Return where each package is and how its import ends, tried in a child."""
    command = [sys.executable, "-c", IMPORTS, json.dumps(sys.path), json.dumps(names)]
    told = {name: {"origin": None, "version": "", "error": "was not reached"} for name in names}
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=CHILD_SECONDS)
        lines, status = done.stdout.splitlines(), f"the import ended Python with status {done.returncode}"
    except (OSError, subprocess.TimeoutExpired) as error:
        lines, status = [], f"{type(error).__name__}: {error}"
    last = None
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue  # what a package prints
        last = row.get("begun", last)
        if "name" in row:
            told[row["name"]].update(row)
            last = None
    if last is not None or not lines:
        told[last or names[0]]["error"] = status
    return told


def _read_wanted() -> dict[str, tuple[str, str]]:
    """Return package -> (versions asked for, who asks): ours, and what the installed numba asks for."""
    wanted = {name: (spec, "perp-engine") for name, spec in CORE.items()}
    try:
        asked = metadata.requires("numba") or []
    except metadata.PackageNotFoundError:
        return wanted
    for line in asked:
        match = re.match(r"([\w-]+)\s*([^;]*)", line)
        if match and match[1] in CORE and "extra" not in line:
            wanted[match[1]] = (match[2].strip(" ()"), f"numba {_find_version('numba')}")
    return wanted


def _find_version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def satisfies(version: str, spec: str) -> bool:
    """Return whether a version is within comma-separated bounds like `>=1.22,<2.6`; other bounds are not judged."""

    def read(text: str) -> tuple[int, ...]:
        return tuple(int(part) for part in re.match(r"[\d.]*", text)[0].split(".") if part)  # type: ignore[index]

    def cut(left: tuple[int, ...], right: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        size = max(len(left), len(right))
        return left + (0,) * (size - len(left)), right + (0,) * (size - len(right))

    for bound in spec.split(","):
        match = re.match(r"\s*(>=|<=|<|>)\s*([\d.]+)", bound)
        if match:
            have, limit = cut(read(version), read(match[2]))
            fits = {">=": have >= limit, "<=": have <= limit, "<": have < limit, ">": have > limit}
            if not fits[match[1]]:
                return False
    return True


def _find_intruder(name: str, origin: str | None) -> str:
    """Return the file that is imported in place of an installed package, nothing where it is the package's own."""
    if not origin:
        return ""
    try:
        home = Path(str(metadata.distribution(name).locate_file("")))
    except metadata.PackageNotFoundError:
        return ""
    # Some installers link packages into an environment: either the link or what it leads to is in its place.
    file = Path(origin)
    return "" if home in file.parents or home.resolve() in file.resolve().parents else origin


def _check_extras() -> Iterator[Check]:
    for extra, (module, what) in EXTRAS.items():
        name = f"extra {extra}"
        if util.find_spec(module) is None:
            yield Check(name, NOTE, f"absent, for {what}", next=pip(f"perp-engine[{extra}]"))
        else:
            yield Check(name, OK, f"{module} {_find_version(module)}".strip())


# ---------------------------------------------------------------- which engine this is


def _check_name() -> Iterator[Check]:
    """Yield whether another package called `engine` is in the way: it is a common name."""
    others = sorted(set(metadata.packages_distributions().get("engine", ())) - {"perp-engine"})
    if others:
        found = f"{', '.join(others)} installs a package called engine over ours"
        again = pip("perp-engine", option="--force-reinstall")
        step = f"{sys.executable} -m pip uninstall {' '.join(others)}; then {again}"
        yield Check("import name", BROKEN, found, "perp-engine alone, or an environment of its own", step)
    here = next((path for path in (Path("engine"), Path("engine.py")) if path.exists()), None)
    if here is not None and here.resolve() != PACKAGE:
        found = f"{here.resolve()} is taken for ours by `python -m engine` and `import engine` in this folder"
        yield Check("import name", WARNING, found, f"{PACKAGE}", "run `perp`, or work in another folder")
    elif not others:
        yield Check("import name", OK, f"engine is {PACKAGE}")
    version = _find_version("perp-engine")
    if version and version != engine.__version__:
        found = f"perp-engine {version} is installed, but {engine.__version__} runs, from {PACKAGE}"
        yield Check(
            "installation", WARNING, found, "one of them", f"{pip('perp-engine', option='--upgrade')}, or leave it"
        )


def _check_command() -> Check:
    """Return whether `perp` on the PATH is the one of this Python."""
    place, script = Path(sysconfig.get_path("scripts")), shutil.which("perp")
    own = place / ("perp.exe" if os.name == "nt" else "perp")
    if script is None:
        step = f"add {place} to PATH" if own.exists() else f"{sys.executable} -m engine does the same"
        return Check("command", NOTE, "no perp on the PATH", f"{own}", step)
    if Path(script).resolve().parent == place.resolve():
        return Check("command", OK, script)
    first = Path(script).read_bytes()[:300].split(b"\n", 1)[0].decode(errors="replace") if os.name != "nt" else ""
    if first.startswith("#!") and _is_same(first[2:].split(" ", 1)[0].strip(), sys.executable):
        return Check("command", OK, script)
    found = f"{script} belongs to another Python than this ({sys.executable})"
    step = f"use {own}" if own.exists() else f"use {sys.executable} -m engine"
    return Check("command", WARNING, found, f"{own}", f"{step}, or put {place} first on PATH")


def _is_same(one: str, other: str) -> bool:
    try:
        return Path(one).parent.samefile(Path(other).parent)
    except OSError:
        return False


def _check_variables() -> Iterator[Check]:
    """Yield what is set from outside and changes how kernels are compiled."""
    for name, effect in VARIABLES.items():
        if os.environ.get(name, "0") not in ("", "0"):
            yield Check(name, WARNING, f"{os.environ[name]}: {effect}", "not set", f"unset {name}")
    if os.environ.get("NUMBA_CACHE_DIR"):
        found = f"{os.environ['NUMBA_CACHE_DIR']}: kernels compiled from other sources are taken for these"
        yield Check(
            "NUMBA_CACHE_DIR", WARNING, found, "not set: our folder is keyed by the sources", "unset NUMBA_CACHE_DIR"
        )
    rest = sorted(
        name for name in os.environ if name.startswith("NUMBA_") and name not in {*VARIABLES, "NUMBA_CACHE_DIR"}
    )
    if rest:
        yield Check(
            "environment", NOTE, f"set from outside: {', '.join(rest)}", next="unset them if kernels behave oddly"
        )


# ---------------------------------------------------------------- kernels


def _check_kernels(*, is_sound: bool) -> Iterator[Check]:
    """Yield whether machine code can be kept, whether there is some, and whether it does what the reference does."""
    if not is_sound:
        yield Check(
            "kernels", NOTE, "not looked at: what compiles them is broken", next="mend what is broken above first"
        )
        return
    from engine.cli.warm import find_kernels

    folder, count = find_kernels()
    fault = _try_writing(folder)
    if fault:
        step = "make the folder writable, remove a file in its place, or set XDG_CACHE_HOME to a folder of yours"
        found = (
            f"{folder}: {fault}; kernels are kept beside the sources, where those of another version are taken for them"
        )
        yield Check("kernel folder", BROKEN, found, "a folder that can be written", step)
        return
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    yield Check("kernel folder", OK, f"{folder}, {size / MEGABYTE:,.1f} MB")
    free = shutil.disk_usage(folder if folder.exists() else _find_parent(folder)).free
    if free < DISK_LEAST:
        yield Check(
            "kernel disk", WARNING, f"{free >> 20:,} MB free", "1 GB", "make room, or set XDG_CACHE_HOME elsewhere"
        )
    old = [path for path in folder.parent.glob("*") if path.is_dir() and path != folder]
    if old and not os.environ.get("NUMBA_CACHE_DIR"):
        stale = sum(file.stat().st_size for path in old for file in path.rglob("*") if file.is_file())
        found = f"{len(old)} folder{'s' * (len(old) != 1)} of other versions, {stale / MEGABYTE:,.1f} MB, beside it"
        yield Check("old kernels", NOTE, found, next=f"remove them from {folder.parent} if you miss the room")
    if not count:
        found = f"not compiled yet: the first run takes about {COMPILE_SECONDS} s longer"
        yield Check("kernels", NOTE, found, next="perp warm")
        return
    yield _try_kernels(count, folder)


def _find_parent(folder: Path) -> Path:
    return next(parent for parent in folder.parents if parent.exists())


def _try_writing(folder: Path) -> str:
    """Return why nothing can be written in a folder, made for that and removed again; nothing where it can."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    probe = folder / f".doctor-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        return error.strerror or str(error)
    finally:
        for path in made:
            try:
                path.rmdir()
            except OSError:
                break
    return ""


def _try_kernels(count: int, folder: Path) -> Check:
    """Return whether both engines give one digest, tried in a child."""
    try:
        market = str(find_demo() / "market.toml")
    except EngineError:
        return Check("kernels", NOTE, f"compiled, {count} files; not tried: the demo's market is missing")
    command = [sys.executable, "-c", TRIAL, json.dumps(sys.path), market]
    step = f"remove {folder}, then perp warm"
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=CHILD_SECONDS)
    except subprocess.TimeoutExpired:
        return Check("kernels", BROKEN, f"no answer in {CHILD_SECONDS} s", "an answer", step)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        return Check("kernels", BROKEN, f"they do not run: {last}", "nine commands applied", step)
    digests = done.stdout.split()
    if len(set(digests)) != 1:
        return Check("kernels", BROKEN, f"the engines differ: {' '.join(digests)}", "one digest of both engines", step)
    return Check("kernels", OK, f"compiled, {count} files; they give the digest of the reference")


def _check_demo() -> Check:
    try:
        return Check("demo", OK, str(find_demo()))
    except EngineError as error:
        return Check("demo", BROKEN, str(error), "its tape", pip("perp-engine", option="--force-reinstall"))


# ---------------------------------------------------------------- the machine


def describe_cpu() -> str:
    """Return the processor's name."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def count_cores() -> int:
    """Return the cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _check_memory() -> Check:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = 1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
        limit = Path("/sys/fs/cgroup/memory.max")
        most = limit.read_text(encoding="ascii").strip() if limit.exists() else "max"
        free = min(free, int(most)) if most.isdigit() else free
    except (OSError, StopIteration, ValueError):
        return Check(
            "memory", NOTE, "not known on this system", next="perp inspect TAPE --market FILE says what is needed"
        )
    found = f"{free / (1 << 30):,.1f} GB available"
    if free < MEMORY_LEAST:
        return Check("memory", WARNING, found, "1 GB to compile the kernels", "close something, or lend it more")
    return Check("memory", OK, found)


def _check_folder() -> Check:
    """Return whether run directories can be written here."""
    here = Path.cwd()
    fault = _try_writing(here)
    if fault:
        return Check(
            "this folder", WARNING, f"{here}: {fault}", "room for run directories", "name another with --out DIR"
        )
    free = shutil.disk_usage(here).free
    found = f"{here}, {free / (1 << 30):,.1f} GB free"
    if free < DISK_LEAST:
        return Check("this folder", WARNING, found, "1 GB", "name another place with --out DIR")
    return Check("this folder", OK, found)


def _check_files() -> Check:
    """Return how many files may be open: a tape's at once, and a sweep's processes."""
    try:
        import resource
    except ImportError:
        return Check("open files", OK, "no limit is known here")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    found = f"{soft:,} at once" if soft != resource.RLIM_INFINITY else "without limit"
    if soft != resource.RLIM_INFINITY and soft < FILES_LEAST:
        most = hard if hard != resource.RLIM_INFINITY else 4_096
        return Check("open files", WARNING, found, f"{FILES_LEAST} or more", f"ulimit -n {max(min(most, 4_096), soft)}")
    return Check("open files", OK, found)


def _check_text() -> Check:
    encoding = (sys.stdout.encoding or "none").lower()
    size = shutil.get_terminal_size()
    kind = (
        f"terminal {size.columns} x {size.lines}, TERM={os.environ.get('TERM', '')}"
        if sys.stdout.isatty()
        else "no terminal"
    )
    found = f"{encoding}, {kind}"
    if encoding.replace("-", "") != "utf8":
        return Check("text", WARNING, found, "utf-8", "export PYTHONUTF8=1, or a locale like LANG=C.UTF-8")
    return Check("text", OK, found)
