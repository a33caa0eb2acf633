"""Cells times seeds, each run once, wherever: the same rows whatever did them, in whatever order (STRESS-009)."""

import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from typing import Any, NamedTuple

from engine.errors import EngineError, InvariantError
from engine.sweep.executors import Crew
from engine.sweep.grid import name_point
from engine.sweep.measure import Row
from engine.sweep.scenario import Scenario
from engine.sweep.store import Key, Store

PATIENCE_S = 0.2  # between two looks whether to stop
AHEAD = 2  # jobs per worker that are handed over before they are needed
BREAKS_MOST = 3  # times a job may have been under way when its worker died

Task = Callable[..., Row]


class JobError(EngineError):
    """A run that failed: where, and the exit status of what it failed of."""

    def __init__(self, text: str, exit_status: int) -> None:
        super().__init__(text)
        self.exit_status = exit_status


class Failure(NamedTuple):
    """An error as it travels between processes."""

    text: str
    exit_status: int


class Cell(NamedTuple):
    """One point of a sweep: path -> value, its scenario, and what the task is told beside it."""

    point: dict[str, str]
    scenario: Scenario
    options: dict[str, Any]

    @property
    def name(self) -> str:
        """Return the point as text."""
        return name_point(self.point)


def do_job(task: Task, version: str, scenario: Scenario, seed: int, options: dict[str, Any]) -> Row | Failure:
    """Do one job in a worker; an expected error comes back as a value."""
    own = sys.modules["engine"].__version__
    if own != version:
        return Failure(f"this worker has version {own} of the program, expected {version}", 5)
    try:
        return task(scenario, seed, **options)
    except EngineError as error:
        return Failure(str(error), error.exit_status)


class _Run:
    """The jobs under way, each with the executor that has it."""

    def __init__(self, task: Task, crew: Crew) -> None:
        self.task, self.crew = task, crew
        self.version: str = sys.modules["engine"].__version__
        self.executor: Executor = crew.open()
        self.under_way: dict[Future[Any], tuple[Cell, int, Executor]] = {}
        self.breaks: dict[Key, int] = {}

    def submit(self, cell: Cell, seed: int) -> None:
        """Hand over a job."""
        job = (self.task, self.version, cell.scenario, seed, cell.options)
        try:
            future = self.executor.submit(do_job, *job)
        except BrokenExecutor:
            self.executor = self.crew.open()
            future = self.executor.submit(do_job, *job)
        self.under_way[future] = (cell, seed, self.executor)

    def take(self) -> Iterator[tuple[Cell, Row]]:
        """Yield what has been finished since, then raise what failed; what a dead worker had is handed over again."""
        failed: JobError | None = None
        for future in wait(self.under_way, PATIENCE_S, FIRST_COMPLETED).done:
            cell, seed, executor = self.under_way.pop(future)
            error = future.exception()
            if isinstance(error, self.crew.losses):
                self._mend(cell, seed, executor)
                continue
            found = future.result()
            if isinstance(found, Failure):
                where = f"seed {seed}" + (f", {cell.name}" if cell.name else "")
                failed = JobError(f"{where}: {found.text}", found.exit_status)
            else:
                yield cell, found
        if failed:
            raise failed

    def _mend(self, cell: Cell, seed: int, executor: Executor) -> None:
        key = (cell.name, seed)
        self.breaks[key] = self.breaks.get(key, 0) + 1
        if self.breaks[key] >= BREAKS_MOST:
            raise InvariantError(f"seed {seed}: {BREAKS_MOST} workers died with this run under way")
        if executor is self.executor:
            self.executor = self.crew.open()
        self.submit(cell, seed)

    def drop(self) -> Iterator[tuple[Cell, Row]]:
        """Give up what is under way, and yield what was finished until then."""
        done = [(job[0], future) for future, job in self.under_way.items() if future.done()]
        for future in self.under_way:
            future.cancel()
        self.under_way.clear()
        self.crew.give_up()
        for cell, future in done:
            if future.exception() is None and not isinstance(future.result(), Failure):
                yield cell, future.result()


def run_jobs(
    task: Task,
    cells: Sequence[Cell],
    seeds: Sequence[int],
    store: Store,
    crew: Crew,
    *,
    on_progress: Callable[[int, int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> bool:
    """Do what is missing of every cell and seed, and keep each row as it comes.

    Parameters
    ----------
    task : function
        Scenario, seed and the cell's options -> row; of a module, so that it can be sent to another process.
    on_progress : callable, optional
        Called with how many jobs are done, of how many that were missing.
    should_stop : callable, optional
        When true nothing more is begun, and what is under way is given up; what was finished is kept.

    Returns
    -------
    bool
        Whether everything is done.

    Raises
    ------
    JobError
        If a job fails; what was finished before stays.
    InvariantError
        If workers keep dying.

    Source: STRESS-004, STRESS-009.
    """
    # by seed first: whenever it ends, every cell has seen the same ones
    missing = [(cell, seed) for seed in seeds for cell in cells if (cell.name, seed) not in store.rows]
    if not missing:
        return True
    run, begun, done = _Run(task, crew), 0, 0
    while run.under_way or begun < len(missing):
        stopped = bool(should_stop and should_stop())
        room = 1 if crew.width == 1 else AHEAD * crew.width
        while not stopped and begun < len(missing) and len(run.under_way) < room:
            begun += 1
            try:
                run.submit(*missing[begun - 1])
            except KeyboardInterrupt:  # in this process: the run is broken off
                stopped = True
        for cell, row in run.drop() if stopped else run.take():
            store.add(cell.name, row)
            done += 1
            if on_progress:
                on_progress(done, len(missing))
        if stopped:
            break
    return done == len(missing)
