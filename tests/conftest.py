"""What every test shares: hypothesis profiles, the folder of real recordings, the mark of the mirror tests."""

import faulthandler
import os
import re
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parents[1]

# A crash inside machine code has no traceback of its own; children (the command line under test) get the same.
faulthandler.enable()
os.environ.setdefault("PYTHONFAULTHANDLER", "1")

# A shell without job control starts what is put in the background deaf to Ctrl-C, which some tests send to children.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# No deadline: the first example of a session may compile a kernel.  `too_slow` is off for the same reason.
for _name, _examples in (("quick", 25), ("ci", 100), ("night", 5_000)):
    settings.register_profile(
        _name,
        max_examples=_examples,
        deadline=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow],
    )
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or "quick")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything under tests/mirror, so that `-m mirror` selects the folder and whoever joins it by hand."""
    for item in items:
        if (ROOT / "tests" / "mirror") in item.path.parents:
            item.add_marker(pytest.mark.mirror)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--vectors FILE`: other venue vectors than ../shared/vectors/venue_vectors.json, of the same form."""
    parser.addoption("--vectors", metavar="FILE", help="venue vectors for tests/venues/test_vectors.py")


def find_shared() -> Path:
    """Return where the recordings and vectors should be: PERP_SHARED, else ../shared."""
    chosen = os.environ.get("PERP_SHARED")
    return Path(chosen) if chosen else ROOT.parent / "shared"


def list_leaves(tree: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Return the paths of all values inside a JSON value that are neither objects nor lists."""
    if isinstance(tree, dict | list):
        items = tree.items() if isinstance(tree, dict) else enumerate(tree)
        return [leaf for key, value in items for leaf in list_leaves(value, (*path, key))]
    return [path]


def list_numbers(tree: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Return the paths of the numbers inside a JSON value, truth values and texts that are numbers included."""
    if isinstance(tree, dict | list):
        items = tree.items() if isinstance(tree, dict) else enumerate(tree)
        return [leaf for key, value in items for leaf in list_numbers(value, (*path, key))]
    number = isinstance(tree, int | float) or (isinstance(tree, str) and re.fullmatch(r"-?\d+(\.\d+|/\d+)?", tree))
    return [path] if number else []


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of real recordings (`data/`, `vectors/`), which is too large for the repository."""
    chosen = os.environ.get("PERP_SHARED")
    folder = find_shared()
    if not (folder / "data").is_dir():
        where = f"PERP_SHARED={chosen}" if chosen else "../shared (or set PERP_SHARED)"
        pytest.skip(f"the recordings are not here: no folder data/ under {where}")
    return folder
