"""`perp compare`: one market, forked, by several policies; who gains and who loses."""

import argparse
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.cli.interrupts import Interrupts, say_kept
from engine.cli.warm import load_kernels
from engine.errors import ConfigError

if TYPE_CHECKING:
    from engine.twin import Fork, Policy, Twins


def add_compare(
    verbs: Any,
    add_tape: Callable[..., None],
    read_plan: Callable[[argparse.Namespace], Any],
    progress: Callable[[argparse.Namespace], Any],
) -> None:
    """Add the verb and its arguments; those of a tape are a replay's."""
    compare = verbs.add_parser("compare", help="fork a market and run each policy to the end: who gains, who loses")
    add_tape(compare, nargs="*")
    compare.add_argument("--sim", type=Path, metavar="FILE", help="a simulated market TOML instead of a tape")
    compare.add_argument(
        "--policy",
        action="append",
        required=True,
        type=Path,
        metavar="FILE",
        help="policy TOML, `market` for the market files as they are, or FILE.py:FUNCTION, an allocation of your own "
        "(--engine reference); repeat: others are held against the first",
    )
    compare.add_argument(
        "--fork-at",
        nargs="+",
        default=["start"],
        metavar="PLACE",
        help="start, adl_started, liquidation_started or another event, seq N, time T (default start)",
    )
    compare.add_argument("--engine", choices=("compiled", "reference"), default="compiled", help="same results")
    compare.add_argument("--json", action="store_true", help="print one JSON object, nothing else")
    compare.add_argument("--progress", action="store_true", help="show progress even where stderr is no terminal")
    compare.set_defaults(verb=run_compare, read_plan=read_plan, make_progress=progress)


def run_compare(options: argparse.Namespace) -> int:
    """Fork, run, and hold the ends against each other.

    Source: TWIN-004..TWIN-008, CLI-002.
    """
    from engine.contract import load_market
    from engine.replay import write_summary
    from engine.replay.files import ACCOUNTS, RunFolder
    from engine.twin import compose_accounts, compose_page, list_policies, parse_fork

    if bool(options.tape) == bool(options.sim):
        raise ConfigError("compare: expected a tape or --sim, one of them")
    fork = parse_fork(options.fork_at)
    policies = list_policies(options.policy, [load_market(path) for path in options.market])
    if options.engine == "compiled":
        load_kernels()
    folder = nullcontext() if options.out is None else RunFolder(options.out, "none")
    with folder as opened, Interrupts() as interrupts:
        run = _simulate if options.sim else _replay
        twins = run(options, policies, fork, interrupts.should_stop)
        page = compose_page(twins)
        written = None
        if opened:
            opened.write_text(ACCOUNTS, compose_accounts(twins))
            written = opened.finish(twins.summary, page)
    if options.json:
        sys.stdout.write(write_summary(twins.summary))
    else:
        sys.stdout.write(page)
        if written:
            print(f"run directory: {written}")
    if not twins.summary["interrupted"]:
        return 0
    where = f", in {written}" if written else ""
    return say_kept(f"the policies are compared up to where it stopped{where}")


def _replay(
    options: argparse.Namespace, policies: "list[Policy]", fork: "Fork", should_stop: Callable[[], bool]
) -> "Twins":
    from engine.twin import compare_replay

    progress = options.make_progress(options)
    try:
        return compare_replay(options.read_plan(options), policies, fork, on_progress=progress, should_stop=should_stop)
    finally:
        if progress:
            progress.clear()


def _simulate(
    options: argparse.Namespace, policies: "list[Policy]", fork: "Fork", should_stop: Callable[[], bool]
) -> "Twins":
    from engine.contract import load_market
    from engine.replay import count_fund
    from engine.scenario import load_population, load_simulated
    from engine.twin import compare_simulation

    for name, most in (("market", 1), ("population", 1), ("fund", 1)):
        if len(getattr(options, name)) > most:
            raise ConfigError(f"--{name}: a simulated market has one, got {len(getattr(options, name))}")
    if options.shock or options.until_seq or options.engine != "compiled":
        raise ConfigError("--sim: expected no --shock (the file has one), no --until-seq and the compiled engine")
    if options.seed is not None and not 0 <= options.seed < 1 << 63:
        raise ConfigError(f"--seed: expected 0 to {(1 << 63) - 1}, got {options.seed}")
    market = load_market(options.market[0])
    files = [("simulated", options.sim), ("market", options.market[0])]
    files += [("population", path) for path in options.population]
    return compare_simulation(
        load_simulated(options.sim),
        market,
        policies,
        fork,
        inputs=files,
        should_stop=should_stop,
        population=load_population(options.population[0]) if options.population else None,
        funds=count_fund(options.fund[0], [market]) if options.fund else {},
        seed=options.seed,
    )
