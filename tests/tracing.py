"""Branches are counted inside kernels alone: tracing the reference, the auditor and the tests doubles their time.

A plugin of pytest (`-p tests.tracing`) for the mode without machine code under coverage: see the Makefile.
"""

import importlib
import pkgutil
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

import numba

import engine._jit
import engine.kernels

TRACER = sys.gettrace()  # coverage's own, which began with the process


def trace_kernel(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Return an entry point that is traced while it runs: what its decorator does here instead of compiling it."""

    @wraps(fn)
    def traced(*arguments: Any) -> Any:
        before = sys.gettrace()
        sys.settrace(TRACER)
        try:
            return fn(*arguments)
        finally:
            sys.settrace(before)

    return traced


engine._jit.kernel = trace_kernel
# All of them here: what a module does when it is imported is counted too.
for module in pkgutil.iter_modules(engine.kernels.__path__, "engine.kernels."):
    importlib.import_module(module.name)
for name in ("pack_state", "find_address"):  # the shell calls them, and what stands for them here has no decorator
    setattr(engine.kernels.box, name, trace_kernel(getattr(engine.kernels.box, name)))
numba.njit = trace_kernel  # entry points that tests make of helpers
sys.settrace(None)
