"""`perp stress`, `sweep`, `size-fund` and `find-shock`: many runs of one scenario."""

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import engine
from engine.cli.arguments import positive
from engine.cli.interrupts import Interrupts, compose_again, say_kept
from engine.errors import ConfigError

HALVINGS_MOST = 40


def add_stress(verbs: Any) -> None:
    """Add the four verbs and their arguments."""
    stress = verbs.add_parser("stress", help="run a scenario with many seeds: how likely, how bad")
    _add_runs(stress, run_stress)
    sweep = verbs.add_parser("sweep", help="run a scenario with many seeds at every point of a grid")
    sweep.add_argument(
        "--grid",
        action="append",
        required=True,
        metavar="PATH=VALUES",
        help="adl.score=bitmex,binance or fund=1e6:64e6:log7 (lin7); repeat for more dimensions",
    )
    _add_runs(sweep, run_sweep)
    size = verbs.add_parser("size-fund", help="the smallest fund that meets a breach probability")
    size.add_argument("--breach", default="1%", metavar="P", help="0.1%% or 0.001 (default 1%%)")
    size.add_argument(
        "--until", choices=("fund_empty", "adl", "haircut"), default="fund_empty", help="the breach (%(default)s)"
    )
    _add_halvings(size)
    _add_runs(size, run_size_fund)
    shock = verbs.add_parser("find-shock", help="the mildest shock with which it comes so far")
    shock.add_argument(
        "--until", choices=("fund_empty", "adl", "haircut", "liquidation"), default="fund_empty", help="(%(default)s)"
    )
    for name, what in (
        ("size", "how far prices move, 0:0.5"),
        ("speed", "in what time, 1m:1s"),
        ("depth", "what is left of the book, 1:0.1"),
    ):
        shock.add_argument(f"--{name}", metavar="MILD:SEVERE", help=f"{what}; or values A,B,C that stand still")
    shock.add_argument("--side", choices=("down", "up"), default="down", help="where prices go (%(default)s)")
    shock.add_argument("--at", default="10s", metavar="T", help="when it begins (default %(default)s)")
    shock.add_argument("--share", default="50%", metavar="P", help="of the seeds that come so far (default 50%%)")
    _add_halvings(shock)
    _add_runs(shock, run_find_shock)


def _add_halvings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--halvings", type=positive, default=10, metavar="N", help="steps of a search (default %(default)s)"
    )


def _add_runs(parser: argparse.ArgumentParser, verb: Callable[[argparse.Namespace], int]) -> None:
    parser.add_argument("scenario", type=Path, metavar="FILE", help="scenario TOML")
    parser.add_argument("--seeds", type=positive, metavar="N", help="how many, from 0 (default: the file's)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="results; a run that was cut off goes on there")
    parser.add_argument("--resume", action="store_true", help="go on in --out; refused where nothing was begun there")
    parser.add_argument("--workers", type=positive, metavar="N", help="processes (default: one per core; 1: this one)")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="a running Dask cluster instead, tcp://HOST:PORT")
    parser.add_argument("--json", action="store_true", help="print one JSON object, nothing else")
    parser.add_argument("--progress", action="store_true", help="show progress even where stderr is no terminal")
    parser.set_defaults(verb=verb)


class RunProgress:
    """One line on stderr that is written over: runs, their rate, the time left."""

    def __init__(self) -> None:
        self.started = perf_counter()
        self.is_shown = False

    def __call__(self, done: int, total: int) -> None:
        """Show how far it is."""
        seconds = perf_counter() - self.started
        left = seconds / done * (total - done)
        line = f"{done:>9,} of {total:,} runs  {done / max(seconds, 1e-9):8.2f} /s  {format_left(left)} left"
        print(f"\r{line:70}", end="", file=sys.stderr, flush=True)
        self.is_shown = True

    def clear(self) -> None:
        """End the line, so that what follows has its own."""
        if self.is_shown:
            print(file=sys.stderr)


def format_left(seconds: float) -> str:
    """Return a duration as hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def parse_share(text: str, option: str) -> float:
    """Return `0.1%` or `0.001` as a number above 0 and below 1; ConfigError naming the option."""
    from engine.units import parse_decimal

    try:
        number = parse_decimal(text.removesuffix("%").strip())
    except ValueError as error:
        raise ConfigError(f"{option} {text}: {error}") from error
    share = float(number / 100 if text.endswith("%") else number)
    if not 0 < share < 1:
        raise ConfigError(f"{option} {text}: expected more than 0 and less than 1 (100 %)")
    return share


# ---------------------------------------------------------------- the verbs


def run_stress(options: argparse.Namespace) -> int:
    """`perp stress`.

    Source: STRESS-004, STRESS-005.
    """
    from engine.sweep.jobs import Cell
    from engine.sweep.measure import run_seed
    from engine.sweep.page import compose_stress

    scenario = _load(options)
    cells = [Cell({}, scenario, {})]
    return _run(options, run_seed, scenario, cells, {}, lambda rows: _summarise_cells(cells, rows), compose_stress)


def run_sweep(options: argparse.Namespace) -> int:
    """`perp sweep`.

    Source: STRESS-010.
    """
    from engine.sweep.grid import list_points, parse_line
    from engine.sweep.jobs import Cell
    from engine.sweep.measure import run_seed
    from engine.sweep.page import compose_sweep
    from engine.sweep.scenario import change_scenario

    scenario = _load(options)
    points = list_points([parse_line(text) for text in options.grid])
    cells = [Cell(point, change_scenario(scenario, point, "--grid"), {}) for point in points]
    return _run(options, run_seed, scenario, cells, {}, lambda rows: _summarise_cells(cells, rows), compose_sweep)


def _summarise_cells(cells: Any, rows: list[list[Any]]) -> dict[str, Any]:
    from engine.sweep.summary import compare_cells, summarise_cell

    found: list[dict[str, Any]] = []
    for cell, own in zip(cells, rows, strict=True):
        facts = {"name": cell.name, "point": cell.point, **summarise_cell(own)}
        found.append(facts | ({"versus_first": compare_cells(rows[0], own) if found else {}} if cell.point else {}))
    return {"cells": found}


def run_size_fund(options: argparse.Namespace) -> int:
    """`perp size-fund`.

    Source: STRESS-011.
    """
    from engine.sweep.jobs import Cell
    from engine.sweep.page import compose_need
    from engine.sweep.search import find_need, is_exact, list_fund_rules, name_fund
    from engine.sweep.summary import summarise_need

    scenario, breach = _load(options), parse_share(options.breach, "--breach")
    name_fund(scenario)
    search = {"until": options.until, "halvings": _count_halvings(options)}
    exact = is_exact(scenario, options.until)
    why = [] if exact else (list_fund_rules(scenario.markets) or [f"--until {options.until}"])

    def summarise(rows: list[list[Any]]) -> dict[str, Any]:
        return {"until": options.until, "is_exact": exact, "why": why, "need": summarise_need(rows[0], breach)}

    return _run(options, find_need, scenario, [Cell({}, scenario, search)], search, summarise, compose_need)


def run_find_shock(options: argparse.Namespace) -> int:
    """`perp find-shock`.

    Source: STRESS-012.
    """
    from engine.scenario.shock import parse_duration
    from engine.sweep.grid import Line, list_points
    from engine.sweep.jobs import Cell
    from engine.sweep.page import compose_frontier
    from engine.sweep.search import AXES, build_walk, find_threshold, read_axes
    from engine.sweep.summary import summarise_frontier

    scenario, share = _load(options), parse_share(options.share, "--share")
    walked, fixed = read_axes({name: getattr(options, name) for name in AXES})
    try:
        at_ns = parse_duration(options.at)
    except ValueError as error:
        raise ConfigError(f"--at: {error}") from error
    search = {
        "until": options.until,
        "at_ns": at_ns,
        "side": 1 if options.side == "up" else -1,
        "halvings": _count_halvings(options),
    }
    points = list_points([Line(name, tuple(values)) for name, values in fixed.items()])
    walks = [build_walk(walked, point) for point in points]
    cells = [
        Cell(point, scenario, {**search, "mild": list(walk.mild), "severe": list(walk.severe)})
        for point, walk in zip(points, walks, strict=True)
    ]

    def summarise(rows: list[list[Any]]) -> dict[str, Any]:
        found = [
            summarise_frontier(walk, point, own, share)
            for walk, point, own in zip(walks, points, rows, strict=True)
            if own
        ]
        return {"until": options.until, "share": share, "side": options.side, "walked": walked, "frontier": found}

    header = {**search, "walked": {name: list(ends) for name, ends in walked.items()}}
    return _run(options, find_threshold, scenario, cells, header, summarise, compose_frontier)


def _count_halvings(options: argparse.Namespace) -> int:
    if options.halvings > HALVINGS_MOST:
        raise ConfigError(f"--halvings: expected at most {HALVINGS_MOST}, got {options.halvings}")
    return int(options.halvings)


# ---------------------------------------------------------------- what they share


def _load(options: argparse.Namespace) -> Any:
    from engine.sweep.scenario import load_scenario

    return load_scenario(options.scenario)


def _list_seeds(options: argparse.Namespace, scenario: Any) -> list[int]:
    from engine.sweep.scenario import SEEDS_MOST

    count = options.seeds or (scenario.seeds if scenario.is_drawn else 1)
    if count > SEEDS_MOST:
        raise ConfigError(f"--seeds: expected at most {SEEDS_MOST}, got {count}")
    if count > 1 and not scenario.is_drawn:
        raise ConfigError(f"--seeds {count}: nothing in this scenario is drawn, every run is the same: expected 1")
    return list(range(count))


def _run(
    options: argparse.Namespace,
    task: Any,
    scenario: Any,
    cells: list[Any],
    search: dict[str, Any],
    summarise: Callable[[list[list[Any]]], dict[str, Any]],
    compose: Callable[[dict[str, Any]], str],
) -> int:
    """Do what is missing, then write and print what there is."""
    from engine.sweep.scenario import hash_scenario
    from engine.sweep.store import Store
    from engine.sweep.summary import describe_scenario, pick_rows

    seeds, version = _list_seeds(options, scenario), engine.__version__
    verb = task.__name__
    header = {"task": verb, "digest": hash_scenario(scenario, version), "version": version, "search": search}
    described = describe_scenario(scenario)
    if options.resume:
        _check_resume(options.out)
    with Store(options.out, header, described) as store:
        missing = sum((cell.name, seed) not in store.rows for cell in cells for seed in seeds)
        if options.out:
            options.left = f"finished runs are kept in {options.out}; go on with: {compose_again(options, '--resume')}"
        _prepare(options, missing)
        with Interrupts() as interrupts:
            complete = _work(options, task, cells, seeds, store, missing, interrupts)
        rows = [pick_rows(cell, seeds, store.rows) for cell in cells]
        if not any(rows):
            return say_kept("no run was done")
        summary = {"schema": 1, **header, "seeds": len(seeds), "interrupted": not complete, **described}
        summary |= summarise(rows)
        page = compose(summary)
        written = store.finish(
            [_join(cell, row) for cell, own in zip(cells, rows, strict=True) for row in own], summary, page
        )
    if options.json:
        print(json.dumps(summary, indent=2, ensure_ascii=False))
    else:
        print(page, end="")
        if options.out:
            print(f"\nresults: {options.out / str(written)}")
    if complete:
        return 0
    kept = f"{sum(map(len, rows)):,} of {len(cells) * len(seeds):,} are done"
    if options.out:
        return say_kept(f"{kept}, in {options.out}", compose_again(options, "--resume"))
    return say_kept(f"{kept} and printed; without --out")


def _check_resume(folder: Path | None) -> None:
    """Refuse to go on where nothing was begun (CLI-004)."""
    from engine.sweep.store import SCENARIO

    if folder is None:
        raise ConfigError("--resume: expected --out DIR, where the results go on")
    if not (folder / SCENARIO).exists():
        raise ConfigError(f"--resume: {folder}: expected a run that was begun, found no {SCENARIO}")


def _join(cell: Any, row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of the results: the point it belongs to in front."""
    return {**cell.point, **row}


def _prepare(options: argparse.Namespace, missing: int) -> None:
    """Compile, before there are workers, which would all compile what is not compiled yet."""
    from engine.cli.warm import load_kernels
    from engine.sweep.executors import load_everything

    if missing and options.scheduler is None:
        load_kernels()
        load_everything()


def _work(
    options: argparse.Namespace,
    task: Any,
    cells: list[Any],
    seeds: list[int],
    store: Any,
    missing: int,
    interrupts: Interrupts,
) -> bool:
    from engine.sweep.executors import open_crew
    from engine.sweep.jobs import run_jobs

    if not missing:
        return True
    workers = min(options.workers or os.cpu_count() or 1, missing)
    progress = RunProgress() if options.progress or (sys.stderr.isatty() and not options.json) else None
    try:
        with open_crew(workers, options.scheduler, interrupts.break_off) as crew:
            return run_jobs(task, cells, seeds, store, crew, on_progress=progress, should_stop=interrupts.should_stop)
    finally:
        if progress:
            progress.clear()
