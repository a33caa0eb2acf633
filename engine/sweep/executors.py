"""Where runs are made: here, in processes, or on a running Dask cluster; all are executors of `concurrent.futures`.

Source: STRESS-009.
"""

import multiprocessing
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

from engine.errors import ConfigError, MissingExtraError

CONNECT_S = 10
DASK_RETRIES = 3
Guard = Callable[[], AbstractContextManager[Any]]


class Crew(NamedTuple):
    """How to get an executor, and another when it breaks; how many workers it has; what says that one died.

    `give_up` ends what is under way without waiting for it.
    """

    open: Callable[[], Executor]
    width: int
    losses: tuple[type[BaseException], ...] = (BrokenExecutor,)
    give_up: Callable[[], None] = lambda: None


class InProcess(Executor):
    """Runs what is submitted at once, here, inside of `guard`."""

    def __init__(self, guard: Guard = nullcontext) -> None:
        self._guard = guard

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run and return what came of it; KeyboardInterrupt breaks it off and is passed on."""
        future: Future[Any] = Future()
        try:
            with self._guard():
                found = fn(*args, **kwargs)
            future.set_result(found)
        except Exception as error:
            future.set_exception(error)
        return future


def warm_worker() -> None:
    """Make a worker ready: Ctrl-C is its owner's business, and kernels are loaded before the first run."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    load_everything()


@contextmanager
def hold_interrupts() -> Iterator[None]:
    """Let Ctrl-C wait; a process begun here never hears it, not even before it can say so itself."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class HeldPool(ProcessPoolExecutor):
    """A pool whose processes Ctrl-C does not reach: it is their owner's business."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Hand over a call; processes are begun as they are needed for it."""
        with hold_interrupts():
            return super().submit(fn, *args, **kwargs)


def load_everything() -> None:
    """Load the kernels by using them, or compile them where they are not compiled yet."""
    from decimal import Decimal

    from engine.contract import Market, Tier
    from engine.scenario import SimulatedMarket
    from engine.sim import run_simulation

    tier = Tier(floor=Decimal(0), initial=Decimal("0.01"), maintenance=Decimal("0.005"))
    tick, lot = Decimal("0.1"), Decimal("0.001")
    market = Market(symbol="WARM", tick_size=tick, lot_size=lot, tiers=(tier,), mark_model="index")
    run_simulation(SimulatedMarket(seed=0, price=Decimal(1_000), duration="200ms"), market)


@contextmanager
def open_crew(workers: int, scheduler: str | None = None, guard: Guard = nullcontext) -> Iterator[Crew]:
    """Yield where runs are made.

    Parameters
    ----------
    workers : int
        Processes; with 1 everything happens in this one.
    scheduler : str, optional
        Address of a running Dask scheduler instead; its workers need this program, and the files a tape names.
    guard : callable
        What a run in this process is made inside of: there Ctrl-C may raise KeyboardInterrupt.

    Raises
    ------
    MissingExtraError
        If there is no Dask here.
    ConfigError
        If there is no scheduler there, or it has no workers.
    """
    if scheduler is not None:
        with _open_cluster(scheduler) as crew:
            yield crew
    elif workers == 1:
        yield Crew(lambda: InProcess(guard), 1)
    else:
        # Spawned processes share nothing with this one, so that they work alike everywhere.
        context = multiprocessing.get_context("spawn")
        opened: list[ProcessPoolExecutor] = []
        others = {process.pid for process in multiprocessing.active_children()}

        def open_pool() -> Executor:
            with hold_interrupts():
                opened.append(HeldPool(workers, mp_context=context, initializer=warm_worker))
            return opened[-1]

        def give_up() -> None:
            for process in multiprocessing.active_children():
                if process.pid not in others:
                    process.terminate()

        try:
            yield Crew(open_pool, workers, give_up=give_up)
        finally:
            # Nobody waits for what has not been taken by now.
            if sys.exc_info()[0] is not None:
                give_up()
            for pool in opened:
                pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _open_cluster(scheduler: str) -> Iterator[Crew]:
    try:
        from distributed import Client, KilledWorker
    except ImportError as error:
        raise MissingExtraError("--scheduler needs `pip install 'perp-engine[cluster]'`") from error
    try:
        client = Client(scheduler, timeout=CONNECT_S)
    except (OSError, ValueError) as error:
        raise ConfigError(f"--scheduler {scheduler}: expected a running Dask scheduler: {error}") from error
    with client:
        width = sum(client.ncores().values())
        if not width:
            raise ConfigError(f"--scheduler {scheduler}: it has no workers")
        yield Crew(lambda: client.get_executor(retries=DASK_RETRIES), width, (BrokenExecutor, KilledWorker))
