"""How kernels are compiled, and where their machine code is kept."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numba
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import register_pass
from numba.core.typed_passes import NativeLowering

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


class LinkedLibrary(JITCodeLibrary):
    """Code of a helper, which is optimised and made machine code in the kernels it is linked into, and nowhere else."""

    def _optimize_final_module(self) -> None:
        """Leave that to the kernel: every helper on the way would do it again for all it calls."""

    def _finalize_final_module(self) -> None:
        """Take the module as it is: nobody calls it from Python."""
        self._finalize_dynamic_globals()  # type: ignore[no-untyped-call]
        self._finalized = True


@register_pass(mutates_CFG=True, analysis_only=False)  # type: ignore[no-untyped-call]
class LinkedLowering(NativeLowering):
    """Lowering of a helper: no machine code."""

    _name = "linked_lowering"

    def run_pass(self, state: Any) -> bool:
        """Lower into a library of our own; what calls it finds it under a key, as there is no address."""
        library = state.targetctx.codegen().create_library(state.func_id.func_qualname)
        library.__class__ = LinkedLibrary
        state["library"], state.flags.no_compile = library, True
        super().run_pass(state)  # type: ignore[no-untyped-call]
        lowered = state["cr"]
        key: Any = [].append  # a builtin, which the dispatcher insists on, and not equal to any other
        state.targetctx.insert_user_function(key, lowered.fndesc, [library])
        state["cr"] = lowered._replace(cfunc=key)
        return True


class LinkedCompiler(CompilerBase):
    """Numba's own pipeline with that lowering."""

    def define_pipelines(self) -> list[Any]:
        """Return the pipeline."""
        manager: Any = DefaultPassBuilder.define_nopython_pipeline(self.state)  # type: ignore[no-untyped-call]
        manager._finalized = False
        manager.passes = [(LinkedLowering if step is NativeLowering else step, text) for step, text in manager.passes]
        manager.finalize()
        return [manager]


# Always with `forceinline`: a helper compiled on behalf of another inherits what it does not say itself.
HELPER: dict[str, Any] = {
    "nogil": True,
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
    "pipeline_class": LinkedCompiler,
}


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
