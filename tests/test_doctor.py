"""`perp doctor` on installations that are really broken: each in a child (CLI-030, CLI-031)."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from engine.cli import compile_kernels
from engine.cli.health import CORE, EXTRAS, _check_command, satisfies

ROOT = Path(__file__).resolve().parents[1]
STATES = {"ok", "note", "warning", "broken"}


@pytest.fixture(scope="module", autouse=True)
def warm():
    """Have the kernels compiled: doctor tries them where they are."""
    compile_kernels()


def run(*arguments, path=(), cwd=ROOT, prefix=(), **variables):
    """Run `perp ...` in a child with folders before everything else on its path."""
    environment = {name: text for name, text in os.environ.items() if not name.startswith("NUMBA_")}
    environment["PYTHONPATH"] = os.pathsep.join([*map(str, path), str(ROOT)])
    environment |= variables
    code = "import sys; from engine.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [*prefix, sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def examine(**more):
    """Return the exit status of `perp doctor --json`, and its checks by name."""
    done = run("doctor", "--json", **more)
    assert not done.stderr, done.stderr
    facts = json.loads(done.stdout)
    assert facts["schema"] == 1
    for check in facts["checks"]:
        assert set(check) == {"name", "state", "found", "expected", "next"}
        assert check["state"] in STATES
        assert check["found"]
        if check["state"] in ("warning", "broken"):
            assert check["expected"], check
            assert check["next"], check
    assert facts["sound"] == (done.returncode == 0)
    assert done.returncode == any(check["state"] == "broken" for check in facts["checks"])
    return done.returncode, {check["name"]: check for check in facts["checks"]}


def write_module(folder, name, text):
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.py").write_text(text)
    return folder


# ---------------------------------------------------------------- whole


def test_a_sound_installation(tmp_path):
    status, checks = examine(cwd=tmp_path)
    assert status == 0
    assert all(
        checks[name]["state"] == "ok" for name in ("python", *CORE, "kernel folder", "kernels", "demo", "import name")
    )
    assert "the digest of the reference" in checks["kernels"]["found"]
    assert list(tmp_path.iterdir()) == []


def test_the_extras_are_ours():
    """Source: CLI-030."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(EXTRAS) == set(project["optional-dependencies"]) - {"all", "bench"}
    for extra, (module, _) in EXTRAS.items():
        assert any(module.replace("_", "-") in line for line in project["optional-dependencies"][extra])
    assert {name: spec for name, spec in CORE.items() if name != "llvmlite"} == {
        line.partition(">")[0]: line[len(line.partition(">")[0]) :] for line in project["dependencies"]
    }


@pytest.mark.parametrize(
    ("version", "spec", "fits"),
    [
        ("2.4.6", "<2.6,>=1.22", True),
        ("2.6", "<2.6,>=1.22", False),
        ("2.6.0rc1", "<2.6", False),
        ("1.21.9", "<2.6,>=1.22", False),
        ("0.50.0", "<0.51,>=0.50.0dev0", True),
        ("0.65", ">=0.65.0", True),
        ("3.0", "", True),
    ],
)
def test_versions(version, spec, fits):
    assert satisfies(version, spec) is fits


# ---------------------------------------------------------------- broken


def test_packages_that_do_not_import(tmp_path):
    """Whatever an import does, doctor ends, and names package, file and step."""
    modules = {
        "numba": ("raise ImportError('Numba needs NumPy 2.5 or less. Got NumPy 2.7.')", "Got NumPy 2.7"),
        "msgspec": ("1 / 0", "ZeroDivisionError"),
        "numpy": ("import sys; sys.exit('gone')", "SystemExit: gone"),
    }
    for name, (text, _) in modules.items():
        folder = write_module(tmp_path / "path", name, text)
    status, checks = examine(path=[folder])
    assert status == 1
    for name, (_, error) in modules.items():
        assert checks[name]["state"] == "broken"
        assert error in checks[name]["found"]
        assert str(folder / f"{name}.py") in checks[name]["next"]
        assert "PYTHONPATH" in checks[name]["next"]
    assert checks["sortedcontainers"]["state"] == "ok"
    assert checks["kernels"]["state"] == "note"


def test_a_package_that_crashes(tmp_path):
    """Even the end of the interpreter is only the child's; the text says what the object says."""
    folder = write_module(tmp_path / "path", "llvmlite", "import os; os._exit(139)")
    done = run("doctor", path=[folder])
    assert done.returncode == 1
    assert not done.stderr
    assert "broken   llvmlite" in done.stdout
    assert "the import ended Python with status 139" in done.stdout
    assert "  expected        " in done.stdout
    assert "  next            " in done.stdout
    assert "broken" in done.stdout.splitlines()[-1]


def fake_package(folder, name, version, *requires):
    """Put a distribution before the installed one: a package, and metadata of a version."""
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text(f"__version__ = '{version}'\n")
    home = folder / f"{name}-{version}.dist-info"
    home.mkdir()
    lines = [
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}",
        *(f"Requires-Dist: {line}" for line in requires),
    ]
    (home / "METADATA").write_text("\n".join(lines) + "\n")
    return folder


def test_a_numpy_too_new_for_numba(tmp_path):
    """What numba asks for is read from its own metadata, and the step installs that."""
    folder = fake_package(tmp_path / "path", "numpy", "9.1.0")
    status, checks = examine(path=[folder])
    assert status == 1
    assert checks["numpy"]["state"] == "broken"
    assert checks["numpy"]["found"] == "9.1.0"
    assert "which numba" in checks["numpy"]["expected"]
    assert f"{sys.executable} -m pip install 'numpy" in checks["numpy"]["next"]
    assert checks["numba"]["state"] == "broken"
    assert checks["numba"]["next"] == checks["numpy"]["next"]


def test_a_numba_too_old(tmp_path):
    status, checks = examine(path=[fake_package(tmp_path / "path", "numba", "0.60.0")])
    assert status == 1
    assert checks["numba"]["found"] == "0.60.0"
    assert "pip install 'numba>=0.65'" in checks["numba"]["next"]


def test_a_verb_names_doctor(tmp_path):
    """Source: CLI-031, CLI-002."""
    folder = write_module(tmp_path / "path", "numba", "raise ImportError('Numba needs NumPy 2.5 or less')")
    done = run("demo", "--out", str(tmp_path / "run"), path=[folder], cwd=tmp_path)
    assert done.returncode == 3
    assert done.stderr == "perp: error: Numba needs NumPy 2.5 or less: perp doctor says what helps\n"
    assert not (tmp_path / "run").exists()


def test_a_file_in_place_of_the_cache(tmp_path):
    (tmp_path / "cache").write_text("mine")
    status, checks = examine(XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert status == 1
    assert checks["kernel folder"]["state"] == "broken"
    assert "XDG_CACHE_HOME" in checks["kernel folder"]["next"]
    assert (tmp_path / "cache").read_text() == "mine"


def test_kernels_that_were_never_compiled(tmp_path):
    """Nothing is left behind in the folder that is to be; what other versions left is told."""
    old = tmp_path / "cache" / "perp-engine" / "0123456789abcdef"
    old.mkdir(parents=True)
    (old / "old.nbc").write_bytes(bytes(2_000_000))
    status, checks = examine(XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert status == 0
    assert checks["kernels"]["state"] == "note"
    assert checks["kernels"]["next"] == "perp warm"
    assert "1 folder of other versions, 2.0 MB" in checks["old kernels"]["found"]
    assert str(old.parent) in checks["old kernels"]["next"]
    assert list(old.parent.iterdir()) == [old]


def test_variables_from_outside(tmp_path):
    """They work, but not as meant: warnings, exit 0."""
    names = ("NUMBA_DISABLE_JIT", "NUMBA_BOUNDSCHECK", "PERP_ENGINE_PROFILE")
    status, checks = examine(NUMBA_CACHE_DIR=str(tmp_path), NUMBA_OPT="3", **dict.fromkeys(names, "1"))
    assert status == 0
    for name in (*names, "NUMBA_CACHE_DIR"):
        assert checks[name]["state"] == "warning"
        assert checks[name]["next"] == f"unset {name}"
    assert "NUMBA_OPT" in checks["environment"]["found"]
    assert str(tmp_path) in checks["kernel folder"]["found"]


def test_another_engine_in_the_folder(tmp_path):
    """Any folder called `engine` is imported in place of ours by a Python that is started in it."""
    (tmp_path / "engine").mkdir()
    (tmp_path / "engine" / "__init__.py").write_text("")
    environment = {**os.environ, "PYTHONPATH": "", "XDG_CACHE_HOME": str(tmp_path)}
    launcher = tmp_path / "perp.py"  # as the installed script starts: the folder it is run in is not on the path
    launcher.write_text(f"import sys; sys.path[0] = {str(ROOT)!r}; from engine.cli import main; sys.exit(main())")
    command = [sys.executable, str(launcher), "doctor", "--json"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert checks["import name"]["state"] == "warning"
    assert str(tmp_path / "engine") in checks["import name"]["found"]


def test_another_distribution_of_the_name(tmp_path):
    home = tmp_path / "path" / "game_engine-2.0.dist-info"
    home.mkdir(parents=True)
    (home / "METADATA").write_text("Metadata-Version: 2.1\nName: game-engine\nVersion: 2.0\n")
    (home / "top_level.txt").write_text("engine\n")
    (home / "RECORD").write_text("engine/__init__.py,,\n")
    status, checks = examine(path=[home.parent], XDG_CACHE_HOME=str(tmp_path))
    assert status == 1
    assert "game-engine" in checks["import name"]["found"]
    assert "pip uninstall game-engine" in checks["import name"]["next"]


def test_what_surrounds_it(tmp_path):
    """A `perp` of another Python, a text that is not UTF-8, few open files: warnings."""
    pytest.importorskip("resource")
    script = tmp_path / "bin" / "perp"
    script.parent.mkdir()
    script.write_text("#!/opt/other/bin/python\n")
    script.chmod(0o755)
    status, checks = examine(
        cwd=tmp_path,
        prefix=["bash", "-c", 'ulimit -n 100; exec "$@"', "-"],
        PATH=f"{script.parent}{os.pathsep}{os.environ['PATH']}",
        PYTHONIOENCODING="latin-1",
        XDG_CACHE_HOME=str(tmp_path),
    )
    assert status == 0
    assert checks["command"]["state"] == checks["text"]["state"] == checks["open files"]["state"] == "warning"
    assert str(script) in checks["command"]["found"]
    assert "PYTHONUTF8=1" in checks["text"]["next"]
    assert checks["open files"]["next"].startswith("ulimit -n")


def test_no_perp_on_the_path(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert _check_command().state == "note"
    assert _check_command().next
