"""How kernels are compiled, and where their machine code is kept."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numba

P = ParamSpec("P")
R = TypeVar("R")


def _source_digest() -> str:
    """Return one digest for every file that takes part in compiled code.

    Numba stamps a cached kernel with its own file only: a change in a helper of another file would go on running the
    old machine code.  Keying the folder by all of them cannot.
    """
    root = Path(__file__).parent
    files = [root / name for name in ("_jit.py", "_probe.py", "codes.py", "layout.py")]
    files += sorted((root / "kernels").glob("*.py"))
    return hashlib.blake2b(b"".join(file.read_bytes() for file in files), digest_size=8).hexdigest()


JIT_DISABLED = bool(numba.config.DISABLE_JIT)  # type: ignore[attr-defined]
PROFILED = os.environ.get("PERP_ENGINE_PROFILE") == "1"  # the instrumented build: see _probe.py

_folder = os.environ.get("NUMBA_CACHE_DIR")  # the user's own choice wins
if not _folder:
    _base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    _folder = str(_base / "perp-engine" / _source_digest())
# what is instrumented must never be taken for what is not
numba.config.CACHE_DIR = _folder + ("-profile" if PROFILED else "")  # type: ignore[attr-defined]


def kernel(fn: Callable[P, R]) -> Callable[P, R]:
    """Compile `fn` as a cached entry point that releases the GIL."""
    compiled: Callable[P, R] = numba.njit(cache=True, nogil=True, forceinline=False)(fn)
    return compiled


# Always with `forceinline`: a helper compiled on behalf of another inherits what it does not say itself.
HELPER: dict[str, Any] = {"cache": True, "nogil": True, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}


def helper(fn: Callable[P, R]) -> Callable[P, R]:
    """Compile `fn` for use inside kernels only: no wrappers for callers from Python."""
    compiled: Callable[P, R] = numba.njit(forceinline=False, **HELPER)(fn)
    return compiled


def hot(fn: Callable[P, R]) -> Callable[P, R]:
    """Compile `fn` as a helper that LLVM puts into each of its callers: where a call costs as much as the work."""
    compiled: Callable[P, R] = numba.njit(forceinline=True, **HELPER)(fn)
    return compiled


def inlined(fn: Callable[P, R]) -> Callable[P, R]:
    """Compile `fn` into each of its callers before types are known: for leaves of a few lines on the hot path."""
    compiled: Callable[P, R] = numba.njit(cache=True, nogil=True, inline="always")(fn)
    return compiled
