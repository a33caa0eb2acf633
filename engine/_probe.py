"""Where the time goes: an instrumented build of the same kernels, for `perp bench step`.

`@phase("margin")` under a helper's decorator says that work of that phase begins there.  Normally it changes nothing:
the function itself is returned, and the machine code is what it would be without.  With PERP_ENGINE_PROFILE=1 in the
environment the helper is wrapped: on the way in and on the way out the processor's time-stamp counter is read,
and what went by since it was last read is charged to the phase that was running.  So every cycle is charged once, to
the innermost phase.  A phase within itself reads nothing.

The counts are process-wide and no part of the state: nothing in the engine reads them, and events and digests are those
of the normal build.  The machine code names them by a symbol, not by an address, and so can be cached; `_jit.py` keeps
it in a folder of its own.  Not for two threads at once.
"""

import platform
from collections.abc import Callable
from time import perf_counter_ns
from types import FunctionType
from typing import Any, NamedTuple, ParamSpec, TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

from engine._jit import HELPER, JIT_DISABLED, PROFILED, kernel
from engine.errors import ConfigError

P = ParamSpec("P")
R = TypeVar("R")

PHASES = (
    "shell",  # outside the kernels: growing arrays, handing out events
    "commands",  # whatever belongs to none of the others: reading a command, its checks
    "matching",
    "positions",
    "margin",
    "triggers",
    "liquidation",
    "fund",
    "ADL",
    "funding",
    "events",
)
WIDTH = len(PHASES)
# The counts: when the clock was last read, which phase runs, then three numbers per phase.
LAST, CURRENT, SPENT = 0, 1, 2
ENTERED = SPENT + WIDTH  # how often it was entered
RESUMED = ENTERED + WIDTH  # how often it went on after an inner one
WORDS: NDArray[np.int64] = np.zeros(RESUMED + WIDTH, np.int64)
SYMBOL = "perp_engine_phases"


class Counts(NamedTuple):
    """What was counted since the last reset, a number per phase, in the order of `PHASES`."""

    spent: NDArray[np.int64]  # cycles of the time-stamp counter, without what inner phases spent
    entered: NDArray[np.int64]
    resumed: NDArray[np.int64]


def charge(words: NDArray[np.int64], now: int, number: int, tally: int) -> int:
    """Charge what went by to the phase that ran, let phase `number` run and count that; return the one that ran.

    Nothing happens where that is the same one.
    """
    current = int(words[CURRENT])
    if current != number:
        words[SPENT + current] += now - words[LAST]
        words[LAST], words[CURRENT] = now, number
        words[tally + number] += 1
    return current


def read_counts(words: NDArray[np.int64]) -> Counts:
    """Return a copy of the counts."""
    return Counts(*words[SPENT:].reshape(3, WIDTH).copy())


if JIT_DISABLED or not PROFILED:

    def switch(number: Any, tally: Any) -> Any:
        """Go over to a phase; return the one before.  Without the compiler, a cycle is a nanosecond."""
        return charge(WORDS, perf_counter_ns(), number, tally)

else:
    if platform.machine().lower() not in ("x86_64", "amd64"):
        raise ConfigError("PERP_ENGINE_PROFILE: only x86-64 lets every program read the time-stamp counter")

    from llvmlite import binding, ir
    from numba.core import types
    from numba.extending import intrinsic

    WORD = ir.IntType(64)
    binding.add_symbol(SYMBOL, WORDS.ctypes.data)

    @intrinsic
    def switch(typingctx, number, tally):  # type: ignore[no-untyped-def]
        """Go over to a phase; return the one before: `charge`, in eight instructions or so."""

        def codegen(context, builder, sig, args):  # type: ignore[no-untyped-def]
            words = builder.module.globals.get(SYMBOL) or ir.GlobalVariable(builder.module, WORD, SYMBOL)

            def place(offset: Any, number: Any = None) -> Any:
                return builder.gep(words, [offset if number is None else builder.add(offset, number)])

            def raise_by(address: Any, amount: Any) -> None:
                builder.store(builder.add(builder.load(address), amount), address)

            current = builder.load(place(WORD(CURRENT)))
            with builder.if_then(builder.icmp_unsigned("!=", current, args[0])):
                clock = builder.module.declare_intrinsic("llvm.readcyclecounter", (), ir.FunctionType(WORD, ()))
                now = builder.call(clock, ())
                raise_by(place(WORD(SPENT), current), builder.sub(now, builder.load(place(WORD(LAST)))))
                builder.store(now, place(WORD(LAST)))
                builder.store(args[0], place(WORD(CURRENT)))
                raise_by(place(args[1], args[0]), WORD(1))
            return current

        return types.int64(types.int64, types.int64), codegen


def _probed(*given: Any) -> Any:
    """Stand for a function of a phase; `phase` gives this code the names `PHASE` and `inner`."""
    before = switch(PHASE, ENTERED)  # type: ignore[name-defined]  # noqa: F821
    result = inner(*given)  # type: ignore[name-defined]  # noqa: F821
    switch(before, RESUMED)
    return result


def phase(name: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Say which phase begins with a function; goes under `helper`, `hot` or `kernel`."""

    def mark(fn: Callable[P, R]) -> Callable[P, R]:
        if not PROFILED:
            return fn
        # a function per place, by global names: numba caches that, and would not cache a closure
        names = {
            "inner": numba.njit(forceinline=True, **HELPER)(fn),
            "PHASE": PHASES.index(name),
            "switch": switch,
            "ENTERED": ENTERED,
            "RESUMED": RESUMED,
            "__name__": fn.__module__,
        }
        place = f"{fn.__module__}.{fn.__name__}".replace(".", "_")
        wrapper: Callable[P, R] = FunctionType(_probed.__code__.replace(co_name=place, co_qualname=place), names, place)
        return wrapper

    return mark


@kernel
def enter_phase(number):  # type: ignore[no-untyped-def]
    """Go over to a phase: what has gone by is charged to the one before."""
    return switch(number, ENTERED)


@kernel
def run_empty(number, count):  # type: ignore[no-untyped-def]
    """Enter and leave a phase so many times, and do nothing there: what that is charged is what a probe costs."""
    for _ in range(count):
        before = switch(number, ENTERED)
        switch(before, RESUMED)
