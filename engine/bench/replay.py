"""A tape from its files on disk to the end of the engine, beside what cannot be saved: unpacking, and bare polars."""

import gzip
import tempfile
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

from engine.contract import load_market
from engine.errors import ConfigError
from engine.exchange import Exchange
from engine.feeds import AheadFeed, Tape, open_feed
from engine.feeds.columns import BLOCK_BYTES, find_frames, read_plainly
from engine.feeds.tape import open_bytes

PAUSE_US = 1_000_000  # between the end of a tape and its repetition


def repeat_tape(tape: Tape, folder: Path, times: int, level: int = 6) -> None:
    """Write a Tardis tape several times over, each repetition after the one before.

    Parameters
    ----------
    folder : path
        Gets files of the same names, gzipped.
    level : int
        Of gzip, 1 to 9.
    """
    tables: dict[str, tuple[str, list[tuple[str, str, int, int, str]]]] = {}
    for file in tape.files:
        with open_bytes(file.path) as stream:
            header, *lines = stream.read().decode("ascii").splitlines()
        # what every Tardis schema begins with: exchange, symbol, timestamp, local_timestamp
        split = (line.split(",", 4) for line in lines)
        tables[file.path.name] = (header, [(a, b, int(venue), int(us), rest) for a, b, venue, us, rest in split])
    stamps = [(rows[0][3], rows[-1][3]) for _, rows in tables.values()]
    span = max(last for _, last in stamps) - min(first for first, _ in stamps) + PAUSE_US
    for name, (header, rows) in tables.items():
        path = folder / f"{name.removesuffix('.gz')}.gz"
        with gzip.open(path, "wt", encoding="ascii", compresslevel=level) as stream:
            stream.write(header + "\n")
            for shift in range(0, times * span, span):
                stream.write(
                    "".join(f"{a},{b},{venue + shift},{us + shift},{rest}\n" for a, b, venue, us, rest in rows)
                )


def list_ways(paths: list[Path], replay: Callable[[bool], str]) -> Iterator[tuple[str, Callable[[], str | None]]]:
    """Yield what is timed: a name, and a function that returns the digest it ends in, or None where it has no end."""

    def unpack() -> None:
        for path in paths:
            with open_bytes(path) as stream:
                while stream.read(BLOCK_BYTES):
                    pass

    yield "unpack", unpack
    if find_frames():
        import polars

        def load() -> None:
            for path in paths:
                polars.read_csv(path, infer_schema=False)

        yield "polars_read_csv", load
        yield "replay", lambda: replay(False)
        yield "replay_ahead", lambda: replay(True)

    def replay_plainly() -> str:
        with read_plainly():
            return replay(False)

    yield "replay_plain", replay_plainly


def bench_replay(folder: Path, market_file: Path, times: int, rounds: int) -> dict[str, Any]:
    """Return how fast a tape is read and applied to an exchange that holds nothing else.

    Every figure is the least of the rounds; `ratio` is wall time beside that of unpacking alone.

    Parameters
    ----------
    folder : path
        A Tardis tape.
    times : int
        How often it is played, one repetition after the other; 1 reads the files as they are.

    Source: FEED-063.
    """
    market = load_market(market_file)
    tape = open_feed(folder, [market])
    if not isinstance(tape, Tape):
        raise ConfigError(f"--tape: {folder}: expected Tardis CSV files, these are commands")
    with nullcontext() if times == 1 else tempfile.TemporaryDirectory(prefix="perp-replay-") as repeated:
        if repeated:
            repeat_tape(tape, Path(repeated), times)
        tape = open_feed(repeated or folder, [market])

        def replay(is_ahead: bool) -> str:
            exchange = Exchange([market])
            for chunk in (AheadFeed(tape) if is_ahead else tape).chunks():
                exchange.apply(chunk)
            return exchange.digest()

        digests = {replay(False)}  # kernels are loaded, files are in memory
        rows = tape.findings.rows.total()
        paths = [file.path for file in tape.files]
        ways: list[dict[str, Any]] = []
        for name, run in list_ways(paths, replay):
            wall, spent = [], []
            for _ in range(rounds):
                began, began_cpu = perf_counter(), process_time()
                digest = run()
                wall.append(perf_counter() - began)
                spent.append(process_time() - began_cpu)
                digests |= set() if digest is None else {digest}
            ways.append({"way": name, "seconds": round(min(wall), 6), "cpu_seconds": round(min(spent), 6)})
            ways[-1] |= {
                "rows_per_s": round(rows / min(wall)),
                "rows_per_core_s": round(rows / min(spent)),
                "ratio": round(min(wall) / ways[0]["seconds"], 2),
            }
        packed = sum(path.stat().st_size for path in paths)
    return {"rows": rows, "packed_bytes": packed, "same_state": len(digests) == 1, "ways": ways}


def format_row(row: dict[str, Any]) -> str:
    """Return a line about one way."""
    rate, core_rate = row["rows_per_s"] / 1e6, row["rows_per_core_s"] / 1e6
    return (
        f"{row['way']:<16}{row['seconds']:>8.3f} s {rate:>6.2f} M rows/s{row['cpu_seconds']:>9.3f} s of cores "
        f"{core_rate:>6.2f} M rows/s{row['ratio']:>7.2f} times unpacking"
    )
