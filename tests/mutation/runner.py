"""One child process per mutant: put the fault in, ask who may notice, say who did."""

import gc
import importlib
import os
import resource
import select
import signal
import warnings
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import suppress
from time import perf_counter, process_time
from typing import Any, NamedTuple, NoReturn

from tests.mutation.mutants import Mutant, compile_mutant
from tests.mutation.oracles import Oracles

KILLED, TIMED_OUT, SURVIVED, NOT_REACHED = "killed", "timed out", "survived", "not reached"
CONTROL_EVERY = 50  # mutants
MEMORY_MOST = 8 << 30  # bytes of a child: a fault may fill memory for ever
# An oracle hangs after so many times what it takes unharmed, and no less than so many seconds: of this process's own
# time, so that a busy machine kills nobody.
PATIENCE, AT_LEAST = 8, 0.6


class HangError(BaseException):
    """An oracle that takes too long; no `except Exception` on the way may catch it."""


class Result(NamedTuple):
    """What became of a mutant."""

    mutant: Mutant
    result: str
    by: str  # who noticed
    asked: int
    seconds: float


class Runner:
    """The oracles and what was learned about them on the way.

    Parameters
    ----------
    oracles : Oracles
        Prepared.
    effort : float
        Seconds of oracles, as long as these take unharmed, that a mutant has to survive: half of them streams.
    """

    def __init__(self, oracles: Oracles, effort: float) -> None:
        self.oracles, self.effort = oracles, effort
        self.tried = 0
        self.kills: dict[str, Counter[int]] = defaultdict(Counter)  # per function, who noticed faults of it
        gc.collect()
        gc.freeze()  # children share the pages

    def choose(self, mutant: Mutant) -> list[int]:
        """Return whom to ask: who noticed other faults of the function, then streams and tests, quickest first."""
        found = self.oracles.found
        able = self.oracles.find_reaching(mutant.module, mutant.first, mutant.last)
        room = {True: self.effort / 2, False: self.effort / 2}
        chosen = [number for number, _ in self.kills[mutant.name].most_common(4) if number in able]
        for number in able:
            is_stream = " stream " in found[number].name
            if number not in chosen and room[is_stream] > 0:
                room[is_stream] -= found[number].seconds
                chosen.append(number)
        return chosen

    def try_mutant(self, mutant: Mutant) -> Result:
        """Put a fault in and ask whoever may notice.

        Raises
        ------
        RuntimeError
            If somebody notices now and then a fault that was not put in: then nothing here means anything.
        """
        chosen = self.choose(mutant)
        if not chosen:
            return Result(mutant, NOT_REACHED, "", 0, 0.0)
        self.tried += 1
        if self.tried % CONTROL_EVERY == 1:
            result, number, _ = self._ask_in_child(None, chosen)
            if result != SURVIVED:
                raise RuntimeError(f"{result} without a fault: {self.oracles.found[number].name}")
        start = perf_counter()
        result, number, asked = self._ask_in_child(mutant, chosen)
        if result == SURVIVED:
            return Result(mutant, result, "", asked, perf_counter() - start)
        self.kills[mutant.name][number] += 1
        return Result(mutant, result, self.oracles.found[number].name, asked, perf_counter() - start)

    def _ask_in_child(self, mutant: Mutant | None, chosen: Sequence[int]) -> tuple[str, int, int]:
        """Return (result, who noticed, how many were asked) of a child, which is killed if it does not come back."""
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(read)
            self._ask(mutant, chosen, write)
        os.close(write)
        most = 60 + 10 * PATIENCE * sum(self.oracles.found[number].seconds for number in chosen)
        ready, _, _ = select.select([read], [], [], most)
        answer = os.read(read, 64).decode() if ready else ""
        os.close(read)
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        # no answer: it hung beyond the reach of a signal, or took the process with it
        result, place = answer.split(":") if answer else ((KILLED if ready else TIMED_OUT), "0")
        return result, chosen[int(place)], int(place) + 1

    def _ask(self, mutant: Mutant | None, chosen: Sequence[int], write: int) -> NoReturn:
        """Be the child: put the fault in, ask one after the other, write what came of it, end."""
        answer = f"{SURVIVED}:{len(chosen) - 1}"
        try:
            _prepare_child()
            if mutant:
                put_in(mutant)
            for place, number in enumerate(chosen):
                oracle = self.oracles.found[number]
                verdict = _run_timed(oracle.run, max(AT_LEAST, PATIENCE * oracle.seconds))
                if verdict:
                    answer = f"{verdict}:{place}"
                    break
        except BaseException:  # whatever it is: a fault was noticed
            answer = f"{KILLED}:0"
        finally:
            os.write(write, answer.encode())
            os._exit(0)


def put_in(mutant: Mutant) -> None:
    """Have every caller run the mutant: its code takes the place of the function's own, in the same object."""
    module = importlib.import_module(f"engine.kernels.{mutant.module}")
    getattr(module, mutant.function).__code__ = compile_mutant(mutant)


def _prepare_child() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MOST, MEMORY_MOST))
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    warnings.simplefilter("error", RuntimeWarning)  # int64 overflow

    def give_up(signum: int, frame: Any) -> None:
        raise HangError

    signal.signal(signal.SIGVTALRM, give_up)


def _run_timed(run: Any, seconds: float) -> str:
    """Return what an oracle says: killed, timed out, or nothing."""
    start = process_time()
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
        noticed = run()
    except HangError:
        return TIMED_OUT
    except BaseException:
        noticed = True
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    if noticed:
        # pytest takes the signal for a failure of the test
        return TIMED_OUT if process_time() - start >= seconds else KILLED
    return ""
