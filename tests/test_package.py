"""The distribution: what its metadata promises.  What its archives hold and do: test_wheel.py."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONFIG = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = CONFIG["project"]
# `bench` is other people's books: no command of ours uses it, and `make` does not install it.
EXTRAS = PROJECT["optional-dependencies"]


def names_of(requirements):
    """Return the distribution names of requirement lines, as the index spells them."""
    return {re.sub(r"[-_.]+", "-", re.split(r"[\[<>=!~; ]", line, maxsplit=1)[0]).lower() for line in requirements}


def pins():
    """Return the pinned lines of the constraints file."""
    lines = (ROOT / ".ci" / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_names():
    assert PROJECT["name"] == "perp-engine"
    assert PROJECT["scripts"] == {"perp": "engine.cli:main"}
    assert PROJECT["requires-python"] == ">=3.11"
    assert CONFIG["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == ["engine"]


def test_the_core_needs_four_packages():
    assert names_of(PROJECT["dependencies"]) == {"sortedcontainers", "numba", "msgspec", "numpy"}


def test_all_means_every_extra():
    (line,) = EXTRAS["all"]
    named = line.removeprefix("perp-engine[").removesuffix("]").split(",")
    assert set(named) == set(EXTRAS) - {"all", "bench"}


def test_every_requirement_is_pinned():
    wanted = names_of(PROJECT["dependencies"] + CONFIG["dependency-groups"]["dev"] + CONFIG["build-system"]["requires"])
    for extra, lines in EXTRAS.items():
        if extra not in ("all", "bench"):
            wanted |= names_of(lines)
    missing = wanted - names_of(pins())
    assert not missing, f"not pinned in .ci/constraints.txt: {', '.join(sorted(missing))}"


def test_pins_are_exact():
    loose = [line for line in pins() if not re.fullmatch(r"[\w.-]+==[\w.]+", line)]
    assert not loose, f"expected name==version in .ci/constraints.txt, got: {loose}"


def test_typed():
    assert (ROOT / "engine" / "py.typed").is_file(), "engine/py.typed tells type checkers to read our annotations"
