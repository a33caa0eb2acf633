"""The command line: parse, call, print, and turn errors into exit statuses (CLI-002).

Nothing heavy is imported before a verb needs it: `perp --help` must not wait for numba.
"""

import argparse
import json
import os
import platform
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

import engine
from engine.errors import ConfigError, DataError, EngineError

if TYPE_CHECKING:
    from engine.replay import Plan, Run

INTERRUPTED = 130
USAGE = 2
DOCS = Path(__file__).parent / "docs"
DEMO_PLACES = (
    Path(__file__).parent / "_demo",  # in a wheel
    Path(__file__).parents[1] / "replay_data" / "synthetic_btc",  # in a source checkout
)
DEMO_FUND = "1000000"
DEMO_OUT = Path("runs") / "demo"
COMPILE_SECONDS = 40  # about, on two slow cores
DEMO_TEXT = """\
A made-up BTCUSDT market, recorded for ninety seconds as a venue would record it: book, trades, mark, index, funding.
On it two thousand leveraged accounts, and an insurance fund; then the price falls by a sixth and depth goes away.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    Source: CLI-002.
    """
    options = build_parser().parse_args(arguments)
    verb: Callable[[argparse.Namespace], int] = options.verb
    try:
        status = verb(options)
        sys.stdout.flush()
        return status
    except EngineError as error:
        print(f"perp: error: {' '.join(str(error).splitlines())}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print("perp: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read us has had enough; without this Python would complain once more while exiting.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        print(f"perp: error: {error}", file=sys.stderr)
        return ConfigError.exit_status


# ---------------------------------------------------------------- arguments


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of every verb."""
    parser = argparse.ArgumentParser(
        prog="perp",
        description="A deterministic perpetual-futures exchange: does the fund survive, and if not, who pays?",
        epilog="exit status: 0 fine, 2 usage, 3 missing extra, 4 bad data, 5 bad configuration, 6 capacity, "
        "70 broken invariant, 130 interrupted",
    )
    parser.add_argument("--version", action="version", version=f"perp-engine {engine.__version__}")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    _add_demo(verbs)
    _add_replay(verbs)
    _add_bench(verbs)
    inspect = verbs.add_parser("inspect", help="say what a tape holds")
    inspect.add_argument("tape", nargs="+", type=Path, metavar="TAPE", help="files or folders")
    inspect.add_argument(
        "--market", action="append", default=[], type=Path, metavar="FILE", help="market file: reads every row"
    )
    warm = verbs.add_parser("warm", help="compile every kernel now")
    doctor = verbs.add_parser("doctor", help="say what this installation runs on")
    for added, verb in ((inspect, run_inspect), (warm, run_warm), (doctor, run_doctor)):
        added.add_argument("--json", action="store_true", help="print one JSON object instead of text")
        added.set_defaults(verb=verb)
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


def _add_demo(verbs: Any) -> None:
    demo = verbs.add_parser("demo", help="a small market crashes: watch the fund run dry and ADL begin")
    demo.add_argument(
        "--out", type=Path, default=DEMO_OUT, metavar="DIR", help="run directory, replaced (default %(default)s)"
    )
    demo.add_argument("--fund", default=DEMO_FUND, metavar="N", help="what the fund starts with (default %(default)s)")
    _add_output(demo)
    demo.set_defaults(verb=run_demo)


def _add_bench(verbs: Any) -> None:
    bench = verbs.add_parser("bench", help="time the engine on a workload anybody can make")
    kinds = bench.add_subparsers(title="benchmarks", metavar="WHAT", required=True)
    matching = kinds.add_parser("matching", help="the public matching challenge: message rates and report hashes")
    matching.add_argument(
        "--scenario", action="append", metavar="S", help="one of the challenge's; repeat; default all"
    )
    matching.add_argument("--seed", type=int, default=23, metavar="N", help="default %(default)s, the published one")
    matching.add_argument("--count", type=_positive, default=1_000_000, metavar="N", help="new orders")
    matching.add_argument("--repeat", type=_positive, default=5, metavar="N", help="timed runs (default %(default)s)")
    matching.add_argument("--workload", type=Path, metavar="FILE", help="a dump of the challenge instead of scenarios")
    matching.add_argument("--canonical", type=Path, metavar="FILE", help="write the canonical reports of the last run")
    _end_bench(matching, run_bench_matching)
    latency = kinds.add_parser("latency", help="the same messages at 10 to 90 % of capacity: how long each one waits")
    latency.add_argument(
        "--scenario", default="normal", metavar="S", help="one of the challenge's (default %(default)s)"
    )
    latency.add_argument("--seed", type=int, default=23, metavar="N", help="of workload and arrivals (%(default)s)")
    latency.add_argument("--count", type=_positive, default=1_000_000, metavar="N", help="new orders")
    latency.add_argument(
        "--load",
        action="append",
        type=_percent,
        metavar="P",
        help="per cent of capacity; repeat; default 10, 20 ... 90",
    )
    latency.add_argument(
        "--arrivals", choices=("poisson", "even"), default="poisson", help="gaps between messages (default %(default)s)"
    )
    latency.add_argument(
        "--batch", type=_positive, default=4096, metavar="N", help="the most messages per call (default %(default)s)"
    )
    _end_bench(latency, run_bench_latency)
    risk = kinds.add_parser("risk", help="the chain behind a fill with many accounts: what each part of it costs")
    risk.add_argument(
        "--only", action="append", metavar="FIGURE", help="marks, pops, loop, crash, adl, funding, threads"
    )
    risk.add_argument("--accounts", type=_positive, default=1_000_000, metavar="N", help="the largest crowd")
    risk.add_argument("--count", type=_positive, default=1_000_000, metavar="N", help="new orders of the order flow")
    _end_bench(risk, run_bench_risk)
    step = kinds.add_parser("step", help="where the time of commands goes: matching, margin, triggers, events ...")
    step.add_argument("--count", type=_positive, default=200_000, metavar="N", help="new orders (default %(default)s)")
    step.add_argument(
        "--accounts", type=_positive, default=20_000, metavar="N", help="in each workload (default %(default)s)"
    )
    _end_bench(step, run_bench_step)


def _end_bench(parser: Any, verb: Callable[[argparse.Namespace], int]) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object, nothing else")
    parser.set_defaults(verb=verb)


def _add_replay(verbs: Any) -> None:
    replay = verbs.add_parser("replay", help="run a recorded tape, with a population and a shock on top")
    replay.add_argument("tape", nargs="+", type=Path, metavar="TAPE", help="Tardis CSV files, or folders of them")
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
    replay.add_argument("--out", type=Path, metavar="DIR", help="run directory; without it nothing is written")
    replay.add_argument("--seed", type=int, metavar="N", help="overrides the population's seed")
    replay.add_argument("--accounts-max", type=_positive, metavar="N", help="accounts there is room for")
    replay.add_argument("--positions-max", type=_positive, metavar="N", help="positions there is room for")
    replay.add_argument("--orders-max", type=_positive, metavar="N", help="resting orders there is room for")
    replay.add_argument("--until-seq", type=_positive, metavar="N", help="stop after this many commands")
    _add_output(replay)
    replay.set_defaults(verb=run_replay)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, got {text}")
    return number


def _percent(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 99:
        raise argparse.ArgumentTypeError(f"expected 1 to 99 (at 100 the queue only grows), got {text}")
    return number


# ---------------------------------------------------------------- replay and demo


class Interrupts:
    """While active, Ctrl-C asks for a stop between two chunks; a second one stops at once."""

    def __init__(self) -> None:
        self.is_asked = False
        self._before: Any = None

    def __enter__(self) -> "Interrupts":
        """Take over the signal; only the main thread can."""
        try:
            self._before = signal.signal(signal.SIGINT, self._ask)
        except ValueError:
            self._before = None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the signal back."""
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.is_asked:
            raise KeyboardInterrupt
        self.is_asked = True
        print("\nperp: stopping after this chunk; once more to stop at once", file=sys.stderr)


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
    """`perp replay`."""
    _finish(_execute(_read_plan(options), options), options)
    return INTERRUPTED if options.interrupted else 0


def _read_plan(options: argparse.Namespace) -> "Plan":
    from engine.contract import load_market
    from engine.feeds import open_feed
    from engine.replay import Plan, count_fund
    from engine.scenario import load_shock

    markets = [load_market(path) for path in options.market]
    feed = open_feed(options.tape, markets)
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
        engine=options.engine,
        accounts_max=options.accounts_max,
        positions_max=options.positions_max,
        orders_max=options.orders_max,
        until_seq=options.until_seq,
        inputs=inputs,
    )


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

    if plan.engine == "compiled":
        _load_kernels()
    is_shown = options.progress or (sys.stderr.isatty() and not options.json)
    progress = Progress() if is_shown else None
    try:
        with Interrupts() as interrupts:
            done = run(
                plan,
                out=options.out,
                events=options.events,
                on_progress=progress,
                should_stop=lambda: interrupts.is_asked,
            )
    finally:
        if progress:
            progress.clear()
    options.interrupted = done.summary["interrupted"]
    return done


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
    folder = find_demo()
    options.tape, options.market = [folder], [folder / "market.toml"]
    options.population, options.shock = [folder / "population.toml"], folder / "shock.toml"
    options.fund, options.seed, options.until_seq = [options.fund], None, None
    options.accounts_max = options.positions_max = options.orders_max = None
    if not options.json:
        print(DEMO_TEXT, flush=True)
    is_new = not options.out.parent.exists()
    run = _execute(_read_plan(options), options)
    if is_new and options.out == DEMO_OUT:
        # Somebody's repository may be around us: what we leave in it is not for its history.
        (options.out.parent / ".gitignore").write_text("*\n", encoding="utf-8")
    _finish(run, options)
    return INTERRUPTED if options.interrupted else 0


def find_demo() -> Path:
    """Return the folder of the demo's tape; DataError where it is missing."""
    for place in DEMO_PLACES:
        if (place / "market.toml").is_file():
            return place
    raise DataError(DEMO_PLACES[0], None, None, "expected the demo's files here: reinstall perp-engine")


# ---------------------------------------------------------------- the house


def find_kernels() -> tuple[Path, int]:
    """Return where machine code is kept for these sources, and how many files of it there are."""
    import importlib

    import numba

    importlib.import_module("engine._jit")  # sets the folder
    folder = Path(numba.config.CACHE_DIR)  # type: ignore[attr-defined]
    return folder, sum(1 for _ in folder.rglob("*.nbc"))


def compile_kernels(*, is_all: bool = True) -> float:
    """Compile or load the kernels, by using them once; return the seconds it took.

    Parameters
    ----------
    is_all : bool
        Those that answer questions about an exchange too, not only the one that runs it.
    """
    from decimal import Decimal

    import numpy as np

    from engine.bench.matching import make_engine, run_workload
    from engine.codes import LEVEL
    from engine.contract import Market, Tier
    from engine.exchange import Exchange
    from engine.layout import COMMAND, MESSAGE, REPORT

    started = perf_counter()
    tier = Tier(floor=Decimal(0), initial=Decimal("0.01"), maintenance=Decimal("0.005"))
    market = Market(symbol="WARM", tick_size=Decimal("0.1"), lot_size=Decimal("0.001"), tiers=(tier,))
    exchange = Exchange([market])
    # More levels than an exchange starts with room for, so that growing is compiled too.
    rows = np.zeros(1_000 if is_all else 1, COMMAND)
    rows["kind"], rows["side"], rows["qty_lot"] = LEVEL, 1, 1
    rows["price_tick"] = np.arange(1, len(rows) + 1)
    exchange.apply(rows)
    if is_all:
        exchange.adl_queue(0, 1)
        exchange.liquidation_price(0, 0)
        exchange.bankruptcy_price(0, 0)
        exchange.depth(0, 1)
        run_workload(make_engine(), np.ones(1, MESSAGE), np.zeros(4, REPORT))
    return perf_counter() - started


def _load_kernels() -> None:
    """Load the kernels before anything is timed; where they have to be compiled first, say so."""
    from engine._jit import JIT_DISABLED

    if JIT_DISABLED:
        return
    folder, count = find_kernels()
    if not count:
        print(f"perp: compiling the kernels once, about {COMPILE_SECONDS} s ...", file=sys.stderr, flush=True)
    seconds = compile_kernels(is_all=not count)
    if not count:
        print(f"perp: compiled in {seconds:.1f} s, kept in {folder}", file=sys.stderr, flush=True)


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
    if not before:
        print(f"perp: compiling the kernels, about {COMPILE_SECONDS} s ...", file=sys.stderr, flush=True)
    seconds = round(compile_kernels(), 3)
    folder, after = find_kernels()
    state = "compiled" if after > before else "already compiled"
    return _print_facts({"kernels": state, "seconds": seconds, "files": after, "folder": str(folder)}, options.json)


def run_doctor(options: argparse.Namespace) -> int:
    """`perp doctor`."""
    from importlib.metadata import PackageNotFoundError, version

    def version_of(name: str) -> str:
        try:
            return version(name)
        except PackageNotFoundError:
            return "not installed"

    folder, count = find_kernels()
    facts: dict[str, Any] = {"perp_engine": engine.__version__, "python": platform.python_version()}
    for name in ("numba", "llvmlite", "numpy", "msgspec", "sortedcontainers"):
        facts[name] = version_of(name)
    polars = version_of("polars")
    facts |= {
        "extra_parquet": "missing: pip install 'perp-engine[parquet]'" if polars == "not installed" else polars,
        "platform": platform.platform(),
        "cpu": _describe_cpu(),
        "cores": os.cpu_count(),
        "cache_folder": str(folder),
        "kernels": f"compiled, {count} files" if count else "not compiled yet: perp warm",
        "demo": str(find_demo()),
    }
    variables = ("NUMBA_CACHE_DIR", "NUMBA_DISABLE_JIT", "NUMBA_BOUNDSCHECK", "XDG_CACHE_HOME", "PERP_ENGINE_PROFILE")
    found = [f"{name}={os.environ[name]}" for name in variables if name in os.environ]
    facts["environment"] = ", ".join(found) or "plain"
    return _print_facts(facts, options.json)


def _describe_cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def run_inspect(options: argparse.Namespace) -> int:
    """`perp inspect`: with markets every row is read and checked, without them only what the files say they are."""
    if options.market:
        return _inspect_rows(options)
    from engine.feeds.tardis import inspect_file
    from engine.memory import describe_units, format_units

    rows = []
    for path in options.tape:
        for file in sorted(path.glob("*.csv*")) if path.is_dir() else [path]:
            tape = inspect_file(file)
            if tape is not None:
                rows.append({"file": str(file), "kind": tape.kind, "exchange": tape.exchange, "symbol": tape.symbol})
    if not rows:
        raise DataError(options.tape[0], None, None, "expected Tardis CSV files, found none")
    units = describe_units()
    if options.json:
        print(json.dumps({"schema": 1, "files": rows, "memory": units}, indent=2))
        return 0
    for row in rows:
        print(f"{row['kind']:21} {row['exchange']:18} {row['symbol']:12} {row['file']}")
    print(f"memory of a replay: {format_units(units)}; with --market more is known")
    return 0


def _inspect_rows(options: argparse.Namespace) -> int:
    from engine.contract import build_setup, load_market
    from engine.feeds import open_feed
    from engine.memory import BookMeter, describe_setup, format_memory
    from engine.report import format_time

    markets = [load_market(path) for path in options.market]
    feed = open_feed(options.tape, markets)
    memory = describe_setup(build_setup(markets))
    meter = BookMeter()
    first = last = commands = 0
    for chunk in feed.chunks():
        first = first or int(chunk["ts_ns"][0])
        last = int(chunk["ts_ns"][-1])
        commands += len(chunk)
        meter.add(chunk)
    facts: dict[str, Any] = {"symbols": ", ".join(feed.symbols), "commands": commands, "seconds": (last - first) / 1e9}
    facts |= {"first": format_time(first), "last": format_time(last), **feed.counts}
    memory |= meter.describe()
    return _print_facts(facts | ({"memory": memory} if options.json else format_memory(memory)), options.json)


def run_docs(options: argparse.Namespace) -> int:
    """`perp docs`: a page, or a rule of the spec."""
    pages = {page.stem: page for page in sorted(DOCS.glob("*.md"))}
    if not options.name:
        print("pages: " + ", ".join(pages) + "\nrules: perp docs LIQ-007")
        return 0
    if options.name in pages:
        print(pages[options.name].read_text(encoding="utf-8"), end="")
        return 0
    rule = find_rule(pages["spec"].read_text(encoding="utf-8"), options.name.upper())
    if rule is None:
        print(f"perp: error: docs: unknown '{options.name}', known: {', '.join(pages)}, or a rule", file=sys.stderr)
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


# ---------------------------------------------------------------- bench


def run_bench_matching(options: argparse.Namespace) -> int:
    """Run the matching challenge; exit status 1 where a published hash is not reproduced.

    Source: MATCH-001, CLI-002.
    """
    from engine.bench.matching import bench_matching

    rows = bench_matching(
        scenarios=options.scenario,
        seed=options.seed,
        count=options.count,
        repeat=options.repeat,
        workload=options.workload,
        canonical=options.canonical,
    )
    shown = []
    for row in rows:
        shown.append(row)
        if not options.json:
            verdict = {True: "published hash", False: "NOT the published hash", None: "nothing published"}
            rate, best = row["messages_per_s"] / 1e6, row["best_messages_per_s"] / 1e6
            print(
                f"{row['scenario']:<12} {row['messages']:>9,} messages {rate:6.1f} M/s (best {best:.1f})  "
                f"{row['sha256'][:16]}  {verdict[row['published']]}"
            )
    if options.json:
        print(json.dumps({"schema": 1, "scenarios": shown}))
    return int(any(row["published"] is False for row in shown))


def run_bench_latency(options: argparse.Namespace) -> int:
    """Time messages at given rates; exit status 1 where a run's reports are not those of an undisturbed one.

    Source: CLI-002.
    """
    from engine.bench import latency

    facts, rows = latency.bench_latency(
        scenario=options.scenario,
        seed=options.seed,
        count=options.count,
        loads=options.load or latency.LOADS,
        arrivals=options.arrivals,
        batch_max=options.batch,
    )
    if not options.json:
        print(latency.format_facts(facts))
        print(latency.format_titles("latency in us, from when a message was due", latency.COLUMNS))
    shown = []
    for row in rows:
        shown.append(row)
        if not options.json:
            print(latency.format_latency(row), flush=True)
    if options.json:
        print(json.dumps({"schema": 1, **facts, "loads": shown}))
    else:
        print("\n" + latency.format_titles("service time in us, without the wait: what coordinated omission shows", ()))
        print("\n".join(map(latency.format_service, shown)))
    return int(not all(row["same_reports"] for row in shown))


def run_bench_risk(options: argparse.Namespace) -> int:
    """Time the chain behind a fill.

    Source: CLI-002.
    """
    from engine.bench.risk import bench_risk, format_figure

    facts: dict[str, Any] = {"schema": 1, "accounts": options.accounts}
    for name, found in bench_risk(options.only, options.accounts, options.count):
        facts |= {key: value for key, value in found.items() if key != "rows"} | {name: found["rows"]}
        if not options.json:
            print(format_figure(name, found), flush=True)
    if options.json:
        print(json.dumps(facts))
    return 0


def run_bench_step(options: argparse.Namespace) -> int:
    """Time three workloads phase by phase; in the instrumented build, which it calls, print that build's figures.

    Source: CLI-002.
    """
    from engine._jit import PROFILED
    from engine.bench import step

    _load_kernels()
    if PROFILED:
        print(json.dumps(step.run_instrumented(options.count, options.accounts)))
        return 0
    found = step.bench_step(options.count, options.accounts)
    if options.json:
        print(json.dumps({"schema": 1, **found}))
        return 0
    print(f"{found['accounts']:,} accounts; a probe costs {found['probe_cycles']} cycles, which are subtracted\n")
    print("\n".join(map(step.format_table, found["workloads"])), end="")
    return 0
