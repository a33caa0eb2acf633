"""The command line: parse, call, print, and turn errors into exit statuses (CLI-002).

Nothing heavy is imported before a verb needs it: `perp --help` must not wait for numba.
"""

import argparse
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import engine
from engine.cli.arguments import PACKAGE, USAGE, Parser, find_demo, positive, seconds
from engine.cli.attack import add_attack
from engine.cli.bench import add_bench
from engine.cli.check import add_check
from engine.cli.compare import add_compare
from engine.cli.completion import add_completion
from engine.cli.doctor import add_doctor
from engine.cli.explain import add_explain
from engine.cli.fetch import add_fetch
from engine.cli.fuzz import add_fuzz
from engine.cli.interrupts import INTERRUPTED, Interrupts, Watch, comes_of_interrupt, compose_again, say_kept, tell_left
from engine.cli.lab import add_lab
from engine.cli.log import add_log
from engine.cli.report import add_report
from engine.cli.sim import add_sim
from engine.cli.stress import add_stress
from engine.cli.tape import add_tape
from engine.cli.venues import add_venues
from engine.cli.verify import add_verify
from engine.cli.warm import COMPILE_SECONDS, compile_kernels, find_kernels, load_kernels
from engine.cli.watch import add_watch, open_watch
from engine.errors import ConfigError, EngineError, MissingExtraError, suggest

if TYPE_CHECKING:
    from engine.replay import Plan, Run

DOCS = PACKAGE / "docs"
DEMO_FUND = "1000000"
DEMO_SPEED = "5"  # eighteen seconds of watching
DEMO_OUT = Path("runs") / "demo"
DEMO_TEXT = """\
A made-up BTCUSDT market, recorded for ninety seconds as a venue would record it: book, trades, mark, index, funding.
On it two thousand leveraged accounts, and an insurance fund; then the price falls by a sixth and depth goes away.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    Source: CLI-002, CLI-003.
    """
    options = build_parser().parse_args(arguments)
    options.given = list(sys.argv[1:] if arguments is None else arguments)
    with Watch(options) as watch:
        try:
            return _run_verb(options)
        except BaseException as error:
            # a library written in Rust makes a panic of an interrupt, and we bad data of a panic
            if not (watch.is_asked or comes_of_interrupt(error)):
                return _tell_error(error)
            print(f"perp: interrupted; {tell_left(options)}", file=sys.stderr)
            return INTERRUPTED


def _run_verb(options: argparse.Namespace) -> int:
    verb: Callable[[argparse.Namespace], int] = options.verb
    status = verb(options)
    sys.stdout.flush()
    return status


def _tell_error(error: BaseException) -> int:
    """Say what went wrong in a line and return the exit status; what nobody expected is raised again."""
    if isinstance(error, EngineError):
        print(f"perp: error: {' '.join(str(error).splitlines())}", file=sys.stderr)
        return error.exit_status
    if isinstance(error, ImportError):
        print(f"perp: error: {' '.join(str(error).splitlines())}: perp doctor says what helps", file=sys.stderr)
        return MissingExtraError.exit_status
    if isinstance(error, BrokenPipeError):
        _drop_output()  # whoever read us has had enough
        return 0
    if isinstance(error, OSError):
        print(f"perp: error: {error}", file=sys.stderr)
        try:
            sys.stdout.flush()
        except OSError:
            _drop_output()
        return ConfigError.exit_status
    raise error


def _drop_output() -> None:
    """Send what is still to be printed nowhere: Python would complain once more while exiting."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


# ---------------------------------------------------------------- arguments


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of every verb."""
    parser = Parser(
        prog="perp",
        description="A deterministic perpetual-futures exchange: does the fund survive, and if not, who pays?",
        epilog="exit status: 0 fine, 1 found what it looks for, 2 usage, 3 missing extra, 4 bad data, "
        "5 bad configuration, 6 capacity, 70 broken invariant, 130 interrupted",
    )
    parser.add_argument("--version", action="version", version=f"perp-engine {engine.__version__}")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    _add_demo(verbs)
    _add_replay(verbs)
    add_compare(verbs, _add_tape, _read_plan, _make_progress)
    add_explain(verbs)
    add_fetch(verbs)
    add_sim(verbs)
    add_stress(verbs)
    add_check(verbs)
    add_verify(verbs)
    add_fuzz(verbs)
    add_venues(verbs)
    add_bench(verbs)
    add_lab(verbs)
    add_log(verbs)
    add_report(verbs)
    add_attack(verbs)
    add_tape(verbs)
    warm = verbs.add_parser("warm", help="compile every kernel now")
    warm.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    warm.set_defaults(verb=run_warm)
    add_doctor(verbs)
    add_completion(verbs, build_parser)
    docs = verbs.add_parser("docs", help="print a page or a rule of the documentation")
    docs.add_argument("name", nargs="?", default="", help="a page (spec, formats, ...) or a rule (LIQ-007)")
    docs.set_defaults(verb=run_docs)
    return parser


def _add_output(parser: argparse.ArgumentParser) -> None:
    """Add what every verb that runs a tape understands."""
    parser.add_argument(
        "--engine", choices=("compiled", "reference"), default="compiled", help="same results; reference is slow"
    )
    parser.add_argument(
        "--events", choices=("npz", "parquet", "none"), default="npz", help="how events are kept (default %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print the summary as one JSON object, nothing else")
    parser.add_argument("--progress", action="store_true", help="show progress even where stderr is no terminal")


def _add_samples(parser: argparse.ArgumentParser) -> None:
    text = "seconds between two looks at warning signs, 0: none (default 1, or more where that would cost time)"
    parser.add_argument("--sample-s", type=seconds, metavar="S", help=text)


def _add_demo(verbs: Any) -> None:
    demo = verbs.add_parser("demo", help="a small market crashes: watch the fund run dry and ADL begin")
    demo.add_argument(
        "--out", type=Path, default=DEMO_OUT, metavar="DIR", help="run directory, replaced (default %(default)s)"
    )
    demo.add_argument("--fund", default=DEMO_FUND, metavar="N", help="what the fund starts with (default %(default)s)")
    _add_samples(demo)
    _add_output(demo)
    add_watch(demo, DEMO_SPEED)
    demo.set_defaults(verb=run_demo)


def _add_replay(verbs: Any) -> None:
    replay = verbs.add_parser("replay", help="run a recorded tape, with a population and a shock on top")
    _add_tape(replay)
    replay.add_argument("--journal", type=Path, metavar="DIR", help="write every command to a log there (perp verify)")
    replay.add_argument("--resume", action="store_true", help="go on with the log of a run that was cut off (JRN-009)")
    _add_samples(replay)
    _add_output(replay)
    add_watch(replay)
    replay.set_defaults(verb=run_replay)


def _add_tape(replay: argparse.ArgumentParser, nargs: str = "+") -> None:
    """Add what a tape is run with."""
    replay.add_argument("tape", nargs=nargs, type=Path, metavar="TAPE", help="recordings, or folders of them")
    replay.add_argument(
        "--market", action="append", required=True, type=Path, metavar="FILE", help="market TOML; repeat for more"
    )
    replay.add_argument(
        "--population",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="population TOML (one per market, in their order), or CSV/Parquet of real positions",
    )
    replay.add_argument("--shock", type=Path, metavar="FILE", help="shock TOML: prices and depth over time")
    replay.add_argument(
        "--fund",
        action="append",
        default=[],
        metavar="N",
        help="what the fund starts with, in its asset (250000); NAME=N where markets have several funds",
    )
    replay.add_argument("--lenient", action="store_true", help="leave out and count what of the tape cannot be read")
    replay.add_argument(
        "--index",
        action="append",
        default=[],
        metavar="SYMBOL=EXCHANGE:SYMBOL",
        help="a market's index price: the trades of another instrument on the tape",
    )
    replay.add_argument("--out", type=Path, metavar="DIR", help="run directory; without it nothing is written")
    replay.add_argument("--seed", type=int, metavar="N", help="overrides the population's seed")
    replay.add_argument("--accounts-max", type=positive, metavar="N", help="accounts there is room for")
    replay.add_argument("--positions-max", type=positive, metavar="N", help="positions there is room for")
    replay.add_argument("--orders-max", type=positive, metavar="N", help="resting orders there is room for")
    replay.add_argument("--until-seq", type=positive, metavar="N", help="stop after this many commands")


# ---------------------------------------------------------------- replay and demo


class Progress:
    """One line on stderr that is written over: commands, their rate, the time on the tape."""

    def __init__(self) -> None:
        self.started = perf_counter()
        self.is_shown = False

    def __call__(self, commands: int, ts_ns: int) -> None:
        """Show how far the run is."""
        from engine.report import format_time

        seconds = max(perf_counter() - self.started, 1e-9)
        line = f"{commands:>12,} commands  {commands / seconds:>11,.0f} /s  tape at {format_time(ts_ns)}"
        print(f"\r{line}", end="", file=sys.stderr, flush=True)
        self.is_shown = True

    def clear(self) -> None:
        """End the line, so that what follows has its own."""
        if self.is_shown:
            print(file=sys.stderr)


def run_replay(options: argparse.Namespace) -> int:
    """`perp replay`.

    Source: CLI-004, JRN-009.
    """
    if options.resume and options.journal is None:
        raise ConfigError("--resume: expected --journal DIR, the log that goes on")
    if options.journal is not None:
        options.left = f"the log in {options.journal} is kept; go on with: {compose_again(options, '--resume')}"
    plan = _read_plan(options)
    _say_left_alone(plan)
    run = _execute(plan, options)
    _finish(run, options)
    return _say_stopped(run, options) if options.interrupted else 0


def _say_left_alone(plan: "Plan") -> None:
    """Name the recordings of the folders that are no part of the run, and why; other files are expected there."""
    from engine.feeds import NO_RECORDING

    for path, reason in getattr(plan.feed, "skipped", ()):
        if reason != NO_RECORDING:
            print(f"left alone: {path}: {reason}", file=sys.stderr)


def _say_stopped(run: "Run", options: argparse.Namespace) -> int:
    """Say what is kept of a run that was stopped, and how it goes on."""
    kept = f"{run.summary['commands']:,} commands are done"
    if run.folder:
        kept += f", their run directory is {run.folder}"
    if options.journal is None:
        return say_kept(kept)
    return say_kept(f"{kept}, their log is in {options.journal}", compose_again(options, "--resume"))


def _read_plan(options: argparse.Namespace) -> "Plan":
    from engine.contract import load_market
    from engine.feeds import open_feed
    from engine.replay import Plan, count_fund
    from engine.scenario import load_shock

    markets = [load_market(path) for path in options.market]
    indexes = _read_indexes(options.index)
    feed = open_feed(options.tape, markets, indexes=indexes, is_strict=not options.lenient)
    funds: dict[str, int] = {}
    for text in options.fund:
        funds.update(count_fund(text, markets))
    inputs = [("tape", file.path) for file in feed.files]
    for role in ("market", "population", "shock"):
        paths = getattr(options, role)
        inputs += [(role, path) for path in (paths if isinstance(paths, list) else [paths] if paths else [])]
    return Plan(
        markets=markets,
        feed=feed,
        populations=[_read_population(path, options.seed) for path in options.population],
        shock=None if options.shock is None else load_shock(options.shock),
        funds=funds,
        indexes=indexes,
        lenient=options.lenient,
        engine=options.engine,
        accounts_max=options.accounts_max,
        positions_max=options.positions_max,
        orders_max=options.orders_max,
        until_seq=options.until_seq,
        journal=getattr(options, "journal", None),
        resume=getattr(options, "resume", False),
        sample_ns=getattr(options, "sample_s", 0),  # a comparison takes none
        inputs=inputs,
    )


def _read_indexes(texts: Sequence[str]) -> dict[str, str]:
    for text in texts:
        if not all(text.partition("=")):
            raise ConfigError(f"--index {text}: expected SYMBOL=EXCHANGE:SYMBOL")
    return dict(text.split("=", 1) for text in texts)


def _read_population(path: Path, seed: int | None) -> Any:
    """Return a population, or the path itself where it is a file of positions."""
    import msgspec

    from engine.scenario import load_population

    if path.suffix != ".toml":
        return path
    population = load_population(path)
    if seed is None:
        return population
    try:
        return msgspec.structs.replace(population, seed=seed)
    except ValueError as error:
        raise ConfigError(f"--seed: {error}") from error


def _execute(plan: "Plan", options: argparse.Namespace) -> "Run":
    from engine.replay import run_replay as run

    watching = open_watch(options, "perp demo" if options.verb is run_demo else "perp replay")
    if plan.engine == "compiled":
        load_kernels()
    progress = None if options.watch else _make_progress(options)
    try:
        with Interrupts() as interrupts, watching as watch:
            done = run(
                plan,
                out=options.out,
                events=options.events,
                on_progress=progress,
                should_stop=interrupts.should_stop,
                watcher=watch,
            )
        if watch:
            watch.finish(done.summary["verdict"])
    finally:
        if progress:
            progress.clear()
    options.interrupted = done.summary["interrupted"]
    return done


def _make_progress(options: argparse.Namespace) -> Progress | None:
    """Return what shows how far a run is, where somebody looks."""
    return Progress() if options.progress or (sys.stderr.isatty() and not options.json) else None


def _finish(run: "Run", options: argparse.Namespace) -> None:
    from engine.replay import write_summary
    from engine.report import compose_report

    if options.json:
        sys.stdout.write(write_summary(run.summary))
        return
    sys.stdout.write(compose_report(run.summary, is_timed=True))
    if run.folder:
        print(f"run directory: {run.folder}")


def run_demo(options: argparse.Namespace) -> int:
    """`perp demo`: the made-up market of `replay_data/synthetic_btc`, its crowd and its crash."""
    from engine.files import write_whole

    folder = find_demo()
    options.tape, options.market = [folder], [folder / "market.toml"]
    options.population, options.shock = [folder / "population.toml"], folder / "shock.toml"
    options.fund, options.seed, options.until_seq, options.journal = [options.fund], None, None, None
    options.accounts_max = options.positions_max = options.orders_max = None
    options.resume = False
    options.lenient, options.index = False, []
    if not options.json:
        print(DEMO_TEXT, flush=True)
    is_new = not options.out.parent.exists()
    run = _execute(_read_plan(options), options)
    if is_new and options.out == DEMO_OUT:
        # Somebody's repository may be around us: what we leave in it is not for its history.
        write_whole(options.out.parent / ".gitignore", b"*\n")
    _finish(run, options)
    if options.interrupted:
        return _say_stopped(run, options)
    if run.folder:
        from engine.report.page import PAGE, write_page

        page = write_page([run.folder], run.folder / PAGE)
        if not options.json:
            print(f"report: {page}")
    return 0


# ---------------------------------------------------------------- the house


def _print_facts(facts: dict[str, Any], is_json: bool) -> int:
    if is_json:
        print(json.dumps({"schema": 1, **facts}, indent=2))
    else:
        for name, value in facts.items():
            print(f"{name.replace('_', ' '):22}{value}")
    return 0


def run_warm(options: argparse.Namespace) -> int:
    """`perp warm`."""
    _, before = find_kernels()
    options.left = "what is compiled is kept; go on with: perp warm"
    if not before:
        print(f"perp: compiling the kernels, about {COMPILE_SECONDS} s ...", file=sys.stderr, flush=True)
    seconds = round(compile_kernels(), 3)
    folder, after = find_kernels()
    state = "compiled" if after > before else "already compiled"
    return _print_facts({"kernels": state, "seconds": seconds, "files": after, "folder": str(folder)}, options.json)


def run_docs(options: argparse.Namespace) -> int:
    """`perp docs`: a page, or a rule of the spec."""
    pages = {page.stem: page for page in sorted(DOCS.glob("*.md"))}
    if not options.name:
        print("start: perp docs index\npages: " + ", ".join(pages) + "\nrules: perp docs LIQ-007")
        return 0
    if options.name in pages:
        print(pages[options.name].read_text(encoding="utf-8"), end="")
        return 0
    rule = find_rule(pages["spec"].read_text(encoding="utf-8"), options.name.upper())
    if rule is None:
        known = [*pages, "or a rule"]
        rules = re.findall(r"^\*\*([A-Z]+-\d+)\*\*", pages["spec"].read_text(encoding="utf-8"), re.MULTILINE)
        hint = suggest(options.name, [*pages, *rules])
        print(f"perp: error: docs: unknown '{options.name}', known: {', '.join(known)}{hint}", file=sys.stderr)
        return USAGE
    print(rule)
    return 0


def find_rule(spec: str, name: str) -> str | None:
    """Return the text of one rule of the spec, up to the next rule or heading."""
    found: list[str] = []
    for line in spec.splitlines():
        is_new = line.startswith(("**", "#"))
        if found and is_new:
            break
        if found or line.startswith(f"**{name}**"):
            found.append(line)
    return "\n".join(found).strip() or None
