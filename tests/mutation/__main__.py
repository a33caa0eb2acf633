"""Put small faults into the margin, waterfall and ADL kernels, one at a time: `python -m tests.mutation`.

The kernels run as plain Python.  Each mutant lives in a child process in which the function has other code; streams and
tests that reach the changed line look at it until one notices.  Survivors are listed; `survivors.toml` says why those
that are left there make no difference, and a run in which every survivor is in it ends with status 0.

Not mutmut, which we looked at first (3.8): it leaves decorated functions as they are, and every kernel is decorated.
"""

import argparse
import json
import os
import random
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import Any

os.environ["NUMBA_DISABLE_JIT"] = "1"  # before anything imports numba

from tests.mutation.mutants import MODULES, PARTS, Mutant, list_mutants
from tests.mutation.survivors import read_survivors

TESTS = (
    *(
        f"tests/mirror/test_mirror_{name}.py"
        for name in (
            "adl",
            "adl_allotment",
            "adl_prices",
            "adl_scores",
            "cash",
            "gaps",
            "house",
            "house_stages",
            "inverse",
            "portfolio",
            "stages",
            "streams",
            "tables",
            "tight",
            "triggers",
        )
    ),
    "tests/unit/test_kernels.py",
)
SHOW_EVERY = 20.0  # seconds
ALIVE = ("survived", "not reached")


def choose_mutants(options: argparse.Namespace) -> list[Mutant]:
    """Return the mutants that the options name: all, or a sample: one of every function, then a second of each, ...

    So what was tried until an interrupt is a sample of all functions, too.
    """
    modules = [name for chosen in options.module or PARTS for name in PARTS.get(chosen, (chosen,))]
    found = [mutant for module in modules for mutant in list_mutants(module, options.function)]
    if options.again:
        old = json.loads(options.again.read_text(encoding="utf-8"))["mutants"]
        known = read_survivors()
        wanted = {(row["where"], row["change"]) for row in old if row["result"] in ALIVE} - set(known)
        found = [mutant for mutant in found if (mutant.name, mutant.text) in wanted]
    if not options.limit:
        return found
    random.Random(options.seed).shuffle(found)
    places: Counter[str] = Counter()
    turns = []
    for mutant in found:
        places[mutant.name] += 1
        turns.append((places[mutant.name], mutant))
    turns.sort(key=lambda turn: turn[0])
    return [mutant for _, mutant in turns[: options.limit]]


def run_mutants(mutants: Sequence[Mutant], items: Sequence[Any], options: argparse.Namespace) -> dict[str, Any]:
    """Try every mutant, say now and then how far it is, and return the report."""
    from tests.mutation.oracles import Oracles
    from tests.mutation.runner import Runner

    start = shown = monotonic()
    oracles = Oracles()
    oracles.prepare(options.streams, items)
    ready = monotonic() - start
    print(f"{len(oracles.found)} streams and tests, {ready:.0f} s; {len(mutants)} mutants", flush=True)
    runner, rows = Runner(oracles, options.effort), []
    counts: Counter[str] = Counter()
    for mutant in mutants:
        try:
            found = runner.try_mutant(mutant)
        except KeyboardInterrupt:
            break
        counts[found.result] += 1
        rows.append(
            {
                "where": mutant.name,
                "line": mutant.first,
                "change": mutant.text,
                "result": found.result,
                "by": found.by,
                "asked": found.asked,
                "seconds": round(found.seconds, 3),
            }
        )
        if monotonic() - shown > SHOW_EVERY:
            shown = monotonic()
            print(f"{len(rows)} of {len(mutants)}, {shown - start:.0f} s: {dict(counts)}; {mutant.name}", flush=True)
            write_report(options.out, rows, options, shown - start, ready)
    return write_report(options.out, rows, options, monotonic() - start, ready)


def write_report(
    folder: Path, rows: list[dict[str, Any]], options: argparse.Namespace, seconds: float, ready: float
) -> dict[str, Any]:
    """Write `mutation.json` and return it: what was asked for, what became of each mutant, sums by module."""
    known = read_survivors()
    sums: dict[str, Counter[str]] = {}
    for row in rows:
        alive = row["result"] in ALIVE
        if alive and (row["where"], row["change"]) in known:
            row["reason"] = known[row["where"], row["change"]]
        sums.setdefault(row["where"].split(".")[0], Counter())["explained" if "reason" in row else row["result"]] += 1
    report = {
        "seed": options.seed,
        "limit": options.limit,
        "streams": options.streams,
        "effort": options.effort,
        "tests": not options.no_tests,
        "seconds": round(seconds, 1),
        "seconds_unharmed": round(ready, 1),
        "modules": {name: dict(sorted(counts.items())) for name, counts in sums.items()},
        "mutants": rows,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mutation.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return report


def list_left(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the survivors that nobody has explained."""
    return [row for row in report["mutants"] if row["result"] in ALIVE and "reason" not in row]


def show_report(report: dict[str, Any]) -> list[str]:
    """Return the report as lines: a row per module, then every survivor nobody has explained."""
    heads = ("killed", "timed out", "explained", "survived", "not reached")
    lines = [f"{'module':<12}" + "".join(f"{head:>13}" for head in heads)]
    for name, counts in report["modules"].items():
        lines.append(f"{name:<12}" + "".join(f"{counts.get(head, 0):>13}" for head in heads))
    total = sum((Counter(counts) for counts in report["modules"].values()), Counter())
    lines.append(f"{'all':<12}" + "".join(f"{total[head]:>13}" for head in heads))
    lines += [f"{row['result']}: {row['where']}:{row['line']}: {row['change']}" for row in list_left(report)]
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Try mutants; return 1 if one survived that `survivors.toml` does not explain."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("--module", action="append", choices=(*PARTS, *MODULES), metavar="NAME", help="a part or a module (all)")
    add("--function", default="", metavar="NAME", help="of these modules only the functions of this name")
    add("--limit", type=int, default=0, metavar="N", help="a sample of so many, from every function (all of them)")
    add("--seed", type=int, default=1, help="of the sample")
    add("--streams", type=int, default=160, metavar="N", help="streams, the 60 of the mirror tests first (160)")
    add("--effort", type=float, default=6.0, metavar="SECONDS", help="of streams and tests for a mutant (6)")
    add("--cases", type=int, default=8, metavar="N", help="of one test with parameters (8)")
    add("--tests", nargs="+", default=TESTS, metavar="FILE", help="instead of the tests of these kernels")
    add("--no-tests", action="store_true", help="streams alone")
    add("--again", type=Path, metavar="FILE", help="only survivors of an earlier report that are not explained")
    add("--list", action="store_true", help="say which mutants there are and end")
    add("--out", type=Path, default=Path("runs") / "mutation", metavar="DIR", help="for mutation.json and .txt")
    options = parser.parse_args(arguments)
    mutants = choose_mutants(options)
    if options.list:
        print("\n".join(f"{mutant.name}:{mutant.first}: {mutant.text}" for mutant in mutants))
        return 0
    reports: list[dict[str, Any]] = []
    if options.no_tests:
        reports.append(run_mutants(mutants, [], options))
    else:
        from tests.mutation.oracles import collect

        collect(options.tests, options.cases, lambda items: reports.append(run_mutants(mutants, items, options)))
    if not reports:
        print("the tests could not be collected: run from the root of the checkout", file=sys.stderr)
        return 2
    lines = show_report(reports[0])
    (options.out / "mutation.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))
    left = [row for row in reports[0]["mutants"] if row["result"] in ALIVE and "reason" not in row]
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
