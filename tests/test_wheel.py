"""The wheel as somebody else has it: in an environment of its own, without and with extras, run in an empty folder.

Nothing is fetched: what the environment needs is lent to it from the one that runs the tests, the core's distributions
first, the extras' afterwards.  Installing from an index is for a human: `pip install dist/*.whl`.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

from engine.cli.warm import compile_kernels, find_kernels

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


pytest.importorskip("hatchling", reason="hatchling is not installed: there is no wheel to install")


def list_distributions(requirements):
    """Return the distributions that requirements need, those of others included; None where one is not installed."""
    found, waiting = {}, list(requirements)
    while waiting:
        line = waiting.pop()
        if "extra ==" in line:
            continue
        name = re.split(r"[\[<>=!~;( ]", line, maxsplit=1)[0]
        if name in found:
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            if ";" in line:  # for another platform or version
                continue
            return None
        waiting += found[name].requires or []
    return list(found.values())


def lend(distributions, folder):
    """Make a folder in which these distributions, and no others, can be imported."""
    folder.mkdir()
    for one in distributions:
        tops = {file.parts[0] for file in one.files if file.parts[0] not in ("..", "__pycache__")}
        for top in tops:
            (folder / top).symlink_to(one.locate_file(top))


def lend_machine_code(site, home):
    """Copy compiled kernels into a cache of its own, where numba looks for those of another place: nothing is compiled.

    It names folders after the module's, and files are stamped with their time.  If it did otherwise one day this would
    only be slower.
    """
    cache, _ = find_kernels()
    target = home / cache.parent.name / cache.name
    for folder in {file.parent for file in cache.rglob("*.nbi")}:
        for source in (ROOT / "engine").rglob("*"):
            if source.is_dir() and folder.name == _name_cache(source):
                installed = site / source.relative_to(ROOT)
                shutil.copytree(folder, target / folder.relative_to(cache).with_name(_name_cache(installed)))
                for file in source.glob("*.py"):
                    stat = file.stat()
                    os.utime(installed / file.name, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def _name_cache(folder):
    return f"{folder.name}_{hashlib.sha1(str(folder).encode()).hexdigest()}"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Build the sdist, and the wheel from what the sdist holds; return both files."""
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "hatchling", "build", "-d", str(folder), "-t"]
    subprocess.run([*build, "sdist"], cwd=ROOT, capture_output=True, check=True)
    (sdist,) = folder.glob("*.tar.gz")
    with tarfile.open(sdist) as packed:
        # Python 3.11 has filters from 3.11.4 on only, 3.14 takes this one anyway
        packed.extractall(folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    source = folder / sdist.name.removesuffix(".tar.gz")
    subprocess.run([*build, "wheel"], cwd=source, capture_output=True, check=True)
    (wheel,) = folder.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """Return a function that runs `perp` as installed from the wheel beside the core's distributions alone."""
    compile_kernels()
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv" / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*install, "--no-compile", "--disable-pip-version-check", str(built[1])], check=True)
    (site,) = (folder / "venv" / "lib").glob("python*/site-packages")
    needed = list_distributions(PROJECT["dependencies"])
    assert needed, "the core's own distributions are not installed"
    lend(needed, folder / "core")
    (site / "core.pth").write_text(f"{folder / 'core'}\n")
    lend_machine_code(site, folder / "cache")
    place = folder / "empty"
    place.mkdir()
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV", "NUMBA"))}
    clean["XDG_CACHE_HOME"] = str(folder / "cache")

    def run(*arguments, status=0, program=("perp",)):
        told = [str(folder / "venv" / "bin" / program[0]), *program[1:], *map(str, arguments)]
        done = subprocess.run(told, cwd=place, env=clean, capture_output=True, text=True, timeout=280, check=False)
        assert done.returncode == status, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stderr if status else done.stdout

    run.site, run.place, run.folder = site, place, folder
    return run


def lend_extra(run, extra):
    """Lend an extra's distributions too, or skip."""
    lines = PROJECT["optional-dependencies"][extra]
    found = list_distributions(lines)
    if found is None:
        pytest.skip(f"the extra {extra} is not installed here")
    lend(found, run.folder / extra)
    (run.site / f"{extra}.pth").write_text(f"{run.folder / extra}\n")


# ---------------------------------------------------------------- what the archives hold


def test_the_sdist_holds_what_git_does(built):
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        told = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no git here: what is ignored cannot be told")
    wanted = {name for name in told.split("\0") if name and (ROOT / name).is_file()}
    with tarfile.open(built[0]) as sdist:
        held = {member.name.split("/", 1)[1] for member in sdist.getmembers() if member.isfile()}
    assert held == wanted | {"PKG-INFO"}


def test_the_wheel_holds_every_file_of_the_package(built):
    with zipfile.ZipFile(built[1]) as wheel:
        info = f"{PROJECT['name'].replace('-', '_')}-{PROJECT['version']}.dist-info"
        assert {name.split("/", 1)[0] for name in wheel.namelist()} == {"engine", info}
        held = {name for name in wheel.namelist() if name.startswith("engine/")}
        licences = {name.split("/licenses/")[1] for name in wheel.namelist() if "/licenses/" in name}
    package = {
        file.relative_to(ROOT).as_posix()
        for file in (ROOT / "engine").rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    demo = {f"engine/_demo/{file.name}" for file in (ROOT / "replay_data" / "synthetic_btc").iterdir()}
    assert held == package | demo
    assert licences == set(PROJECT["license-files"])


# ---------------------------------------------------------------- what it does without extras


def test_it_is_the_wheel_that_runs_and_no_extra_is_there(installed):
    facts = json.loads(installed("doctor", "--json"))
    checks = {check["name"]: check for check in facts["checks"]}
    assert str(installed.site / "engine" / "_demo") in checks["demo"]["found"]
    for extra in set(PROJECT["optional-dependencies"]) - {"all", "bench"}:
        assert f"pip install 'perp-engine[{extra}]'" in checks[f"extra {extra}"]["next"]
    assert facts["version"] == PROJECT["version"]
    assert "compiled" in checks["kernels"]["found"]


def test_the_demo_its_report_and_a_replay_stay_in_the_folder(installed):
    """Source: CLI-001, REP-001."""
    demo = installed.site / "engine" / "_demo"
    before = sorted(file for file in installed.site.rglob("*") if "__pycache__" not in file.parts)
    page = installed("demo")
    assert "ADL of 228 accounts" in page
    assert "report: runs/demo/report.html" in page
    assert installed("report", "runs/demo", "--out", "again.html") == "report: again.html\n"
    assert (installed.place / "again.html").stat().st_size > 200_000
    told = ["replay", demo, "--market", demo / "market.toml", "--population", demo / "population.toml"]
    told += ["--shock", demo / "shock.toml", "--fund", "1000000", "--json"]
    replayed = json.loads(installed(*told))
    assert replayed["digest"] == json.loads((installed.place / "runs" / "demo" / "summary.json").read_text())["digest"]
    assert installed("log", "runs/demo", "--adl").count("\n") > 300
    assert {file.name for file in installed.place.iterdir()} == {"runs", "again.html"}
    assert sorted(file for file in installed.site.rglob("*") if "__pycache__" not in file.parts) == before


def test_pages_rules_and_venues_are_in_it(installed):
    assert installed("docs", "LIQ-007").startswith("**LIQ-007** ")
    assert "bybit-linear" in installed("venues")
    module = installed("venues", "okx", program=("python", "-m", "engine"))
    assert module == installed("venues", "okx")
    assert installed("attack", "--help")
    assert installed("stress", "--help")


def test_what_needs_an_extra_says_which(installed):
    """Source: CLI-002."""
    demo = installed.site / "engine" / "_demo"
    replay = ["replay", demo, "--market", demo / "market.toml", "--until-seq", "9", "--json", "--out", "kept"]
    assert "pip install 'perp-engine[parquet]'" in installed(*replay, "--events", "parquet", status=3)
    assert not (installed.place / "kept").exists()
    packed = installed.folder / "packed.jsonl.zst"
    packed.write_bytes(b"\x28\xb5\x2f\xfd" + bytes(16))
    assert "pip install 'perp-engine[captures]'" in installed("inspect", packed, status=3)
    (installed.folder / "orders.dbn").write_bytes(b"DBN\x02" + bytes(200))
    assert "pip install 'perp-engine[databento]'" in installed("inspect", installed.folder / "orders.dbn", status=3)
    stress = ["stress", ROOT / "replay_data" / "stress" / "flash_crash.toml", "--scheduler", "tcp://127.0.0.1:1"]
    assert "pip install 'perp-engine[cluster]'" in installed(*stress, status=3)
    code = "import engine; engine.load_run('runs/demo').adl.to_polars()"
    said = installed("-c", code, program=("python",), status=1)
    assert "MissingExtraError: to_polars needs `pip install 'perp-engine[parquet]'`" in said


# ---------------------------------------------------------------- and with one


def test_with_the_extra_it_works(installed):
    """Last: from here on the environment has it."""
    demo = installed.site / "engine" / "_demo"
    lend_extra(installed, "parquet")
    replay = ["replay", demo, "--market", demo / "market.toml", "--until-seq", "9000", "--json", "--out", "kept"]
    assert json.loads(installed(*replay, "--events", "parquet"))["commands"] == 9000
    assert (installed.place / "kept" / "events.parquet").is_file()
    code = "import engine; print(engine.load_run('runs/demo').adl.to_polars().shape[0])"
    assert installed("-c", code, program=("python",)) == "363\n"
    states = {check["name"]: check["state"] for check in json.loads(installed("doctor", "--json"))["checks"]}
    assert states["extra parquet"] == "ok"
