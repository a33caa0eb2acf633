"""`perp bench`: its arguments, and what each benchmark prints."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.cli.arguments import find_demo, percent, positive
from engine.cli.warm import load_kernels


def add_bench(verbs: Any) -> None:
    """Add the verb's benchmarks and their arguments."""
    bench = verbs.add_parser("bench", help="time the engine on a workload anybody can make")
    kinds = bench.add_subparsers(title="benchmarks", metavar="WHAT", required=True)
    matching = kinds.add_parser("matching", help="the public matching challenge: message rates and report hashes")
    matching.add_argument(
        "--scenario", action="append", metavar="S", help="one of the challenge's; repeat; default all"
    )
    matching.add_argument("--seed", type=int, default=23, metavar="N", help="default %(default)s, the published one")
    matching.add_argument("--count", type=positive, default=1_000_000, metavar="N", help="new orders")
    matching.add_argument("--repeat", type=positive, default=5, metavar="N", help="timed runs (default %(default)s)")
    matching.add_argument("--workload", type=Path, metavar="FILE", help="a dump of the challenge instead of scenarios")
    matching.add_argument("--canonical", type=Path, metavar="FILE", help="write the canonical reports of the last run")
    _end_bench(matching, run_bench_matching)
    latency = kinds.add_parser("latency", help="the same messages at 10 to 90 % of capacity: how long each one waits")
    latency.add_argument(
        "--scenario", default="normal", metavar="S", help="one of the challenge's (default %(default)s)"
    )
    latency.add_argument("--seed", type=int, default=23, metavar="N", help="of workload and arrivals (%(default)s)")
    latency.add_argument("--count", type=positive, default=1_000_000, metavar="N", help="new orders")
    latency.add_argument(
        "--load",
        action="append",
        type=percent,
        metavar="P",
        help="per cent of capacity; repeat; default 10, 20 ... 90",
    )
    latency.add_argument(
        "--arrivals", choices=("poisson", "even"), default="poisson", help="gaps between messages (default %(default)s)"
    )
    latency.add_argument(
        "--batch", type=positive, default=4096, metavar="N", help="the most messages per call (default %(default)s)"
    )
    _end_bench(latency, run_bench_latency)
    risk = kinds.add_parser("risk", help="the chain behind a fill with many accounts: what each part of it costs")
    risk.add_argument(
        "--only", action="append", metavar="FIGURE", help="marks, pops, loop, crash, adl, funding, threads, tiers"
    )
    risk.add_argument("--accounts", type=positive, default=1_000_000, metavar="N", help="the largest crowd")
    risk.add_argument("--count", type=positive, default=1_000_000, metavar="N", help="new orders of the order flow")
    _end_bench(risk, run_bench_risk)
    sim = kinds.add_parser("sim", help="simulated markets: events per second, beside their commands without the market")
    sim.add_argument("--accounts", type=positive, default=100_000, metavar="N", help="the crowd (default %(default)s)")
    sim.add_argument("--seconds", type=positive, default=600, metavar="N", help="of market time (default %(default)s)")
    _end_bench(sim, run_bench_sim)
    step = kinds.add_parser("step", help="where the time of commands goes: matching, margin, triggers, events ...")
    step.add_argument("--count", type=positive, default=200_000, metavar="N", help="new orders (default %(default)s)")
    step.add_argument(
        "--accounts", type=positive, default=20_000, metavar="N", help="in each workload (default %(default)s)"
    )
    _end_bench(step, run_bench_step)
    replay = kinds.add_parser("replay", help="from files on disk to the end of the engine: rows per second")
    replay.add_argument("--tape", type=Path, metavar="FOLDER", help="Tardis CSV files (default: the demo's)")
    replay.add_argument("--market", type=Path, metavar="FILE", help="their market file (default: the demo's)")
    replay.add_argument("--times", type=positive, default=20, metavar="N", help="repeat the tape (default %(default)s)")
    replay.add_argument(
        "--rounds", type=positive, default=5, metavar="N", help="least of so many (default %(default)s)"
    )
    _end_bench(replay, run_bench_replay)


def _end_bench(parser: Any, verb: Callable[[argparse.Namespace], int]) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object, nothing else")
    parser.set_defaults(verb=verb)


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


def run_bench_sim(options: argparse.Namespace) -> int:
    """Time simulated markets; exit status 1 where a market's commands alone leave another state.

    Source: CLI-002.
    """
    from engine.bench.sim import bench_sim

    load_kernels()
    rows = []
    for row in bench_sim(options.accounts, options.seconds):
        rows.append(row)
        if not options.json:
            print(
                f"{row['market']:<6} {row['events']:>10,} events {row['events_per_s'] / 1e6:5.2f} M/s  "
                f"{row['commands']:>9,} commands {row['commands_per_s'] / 1e6:5.2f} M/s  "
                f"{row['ratio']:.2f} times what the commands alone take",
                flush=True,
            )
    if options.json:
        print(json.dumps({"schema": 1, "accounts": options.accounts, "seconds": options.seconds, "markets": rows}))
    return int(not all(row["same_digest"] for row in rows))


def run_bench_step(options: argparse.Namespace) -> int:
    """Time three workloads phase by phase; in the instrumented build, which it calls, print that build's figures.

    Source: CLI-002.
    """
    from engine._jit import PROFILED
    from engine.bench import step

    load_kernels()
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


def run_bench_replay(options: argparse.Namespace) -> int:
    """Time a tape from disk to the end of the engine; exit status 1 where ways of reading it end in different states.

    Source: FEED-063, CLI-002.
    """
    from engine.bench.replay import bench_replay, format_row

    demo = find_demo()
    found = bench_replay(options.tape or demo, options.market or demo / "market.toml", options.times, options.rounds)
    if options.json:
        print(json.dumps({"schema": 1, **found}))
    else:
        print(f"{found['rows']:,} rows, {found['packed_bytes']:,} bytes on disk")
        print("\n".join(map(format_row, found["ways"])))
    return int(not found["same_state"])
