"""`perp sim`: a simulated market, with a crowd and a shock, and what became of it."""

import argparse
import json
import sys
from contextlib import nullcontext
from decimal import Decimal
from pathlib import Path
from typing import Any

from engine.cli.arguments import positive, seconds
from engine.cli.interrupts import Interrupts, say_kept
from engine.cli.warm import load_kernels
from engine.cli.watch import add_watch, open_watch
from engine.errors import ConfigError


def add_sim(verbs: Any) -> None:
    """Add the verb and its arguments."""
    sim = verbs.add_parser("sim", help="run a simulated market, which answers what liquidations do to its book")
    sim.add_argument("config", type=Path, metavar="FILE", help="simulated market TOML")
    sim.add_argument("--market", type=Path, required=True, metavar="FILE", help="market TOML")
    sim.add_argument(
        "--population", type=Path, metavar="FILE", help="population TOML, or CSV/Parquet of real positions"
    )
    sim.add_argument("--fund", metavar="N", help="what the fund starts with, in its asset (250000)")
    sim.add_argument("--seed", type=int, metavar="N", help="instead of the file's")
    sim.add_argument("--out", type=Path, metavar="DIR", help="run directory; without it nothing is written")
    sim.add_argument("--events", choices=("npz", "parquet", "none"), default="npz", help="how events are kept")
    sim.add_argument("--sample-s", type=seconds, metavar="S", help="seconds between warning signs, 0: none")
    sim.add_argument("--shape", metavar="N", help="measure spread, depth and sweeps of this notional instead")
    sim.add_argument("--probes", type=positive, default=5, metavar="N", help="sweeps a side (default %(default)s)")
    sim.add_argument("--json", action="store_true", help="print one JSON object, nothing else")
    add_watch(sim)
    sim.set_defaults(verb=run_sim)


def run_sim(options: argparse.Namespace) -> int:
    """Run the market, or measure its shape.

    Source: SIM-009, SIM-010, CLI-001.
    """
    from engine.contract import load_market
    from engine.replay import count_fund
    from engine.scenario import load_simulated

    if options.seed is not None and not 0 <= options.seed < 1 << 63:
        raise ConfigError(f"--seed: expected 0 to {(1 << 63) - 1}, got {options.seed}")
    market, config = load_market(options.market), load_simulated(options.config)
    given = {
        "population": _read_population(options.population),
        "seed": options.seed,
    }
    if options.shape is not None and options.watch:
        raise ConfigError("--shape: a measurement has nothing to watch; leave --watch out")
    watching = open_watch(options, "perp sim")
    load_kernels()
    if options.shape is not None:
        return _print_shape(config, market, options, given)
    given["funds"] = count_fund(options.fund, [market]) if options.fund else {}
    return _run(config, market, options, given, watching)


def _read_population(path: Path | None) -> Any:
    """Return a population, or the path itself where it is a file of positions."""
    from engine.scenario import load_population

    return load_population(path) if path is not None and path.suffix == ".toml" else path


def _print_shape(config: Any, market: Any, options: argparse.Namespace, given: dict[str, Any]) -> int:
    from engine.sim import measure_shape
    from engine.units import parse_decimal

    try:
        sweep = parse_decimal(options.shape)
        if not 0 < sweep <= Decimal("1e15"):
            raise ValueError(f"expected a notional above 0, got {options.shape}")
    except ValueError as error:
        raise ConfigError(f"--shape: {error}") from error
    facts = measure_shape(config, market, sweep=sweep, probes=options.probes, **given)
    if options.json:
        print(json.dumps({"schema": 1, **facts}, indent=2))
        return 0
    for name, value in facts.items():
        rows = value.items() if isinstance(value, dict) else [("", value)]
        for part, number in rows:
            print(f"{name.replace('_', ' '):18}{part.replace('_', ' '):18}{_show(number)}")
    return 0


def _show(value: Any) -> str:
    if isinstance(value, dict):
        return "  ".join(f"{name} {number:,.0f}" for name, number in value.items())
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


def _run(config: Any, market: Any, options: argparse.Namespace, given: dict[str, Any], watching: Any) -> int:
    import numpy as np

    from engine.replay import write_summary
    from engine.replay.files import RunFolder
    from engine.report import compose_report
    from engine.sim import run_simulation

    folder = nullcontext() if options.out is None else RunFolder(options.out, options.events)
    with folder as opened, Interrupts() as interrupts, watching as watch:
        done = run_simulation(
            config,
            market,
            keep_commands=opened is not None,
            on_events=opened.add_events if opened else None,
            sample_ns=options.sample_s,
            should_stop=interrupts.should_stop,
            watcher=watch,
            **given,
        )
        report = compose_report(done.summary, is_timed=True)
        if opened:
            opened.write_market(commands=np.asarray(done.commands), series=done.series)
            opened.write_series(done.signs, [market.symbol])
            opened.write_names(done.names)
            written = opened.finish(done.summary, compose_report(done.summary))
    if watch:
        watch.finish(done.summary["verdict"])
    if options.json:
        sys.stdout.write(write_summary(done.summary))
    else:
        sys.stdout.write(report)
        if options.out:
            print(f"run directory: {written}")
    if not done.summary["interrupted"]:
        return 0
    where = f", their run directory is {written}" if options.out else ""
    return say_kept(f"{done.summary['commands']:,} commands are done{where}")
