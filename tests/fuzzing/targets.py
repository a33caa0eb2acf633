"""What is fuzzed: every reader of bytes that somebody else wrote, each with files to start from.

A target writes the bytes where its reader finds them and reads.  Errors of ours that name a place are the only thing
that may come out; whatever else does is a finding.
"""

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, NamedTuple

import msgspec
import numpy as np

from engine import codes
from engine.contract import load_market, load_tiers
from engine.errors import ConfigError, EngineError, InvariantError
from engine.exchange import Exchange, verify_journal
from engine.feeds import open_feed
from engine.feeds.formats import sniff_file
from engine.feeds.inspect import inspect_tape
from engine.fuzz import replay_failure
from engine.journal import FRAME, LOG, MARK, START, Journal, Log
from engine.lab.waves import Totals
from engine.layout import EVENT
from tests.fuzzing import samples
from tests.fuzzing.mutate import mutate
from tests.fuzzing.samples import MARKET, Sample

ROOT = Path(__file__).resolve().parents[2]
DEMO, SCENARIOS, SIMULATED = (ROOT / "replay_data" / name for name in ("synthetic_btc", "scenarios", "simulated_btc"))

TOTALS = {name: 0 for name in Totals._fields}

Mutate = Callable[[bytes, bytes, Random], bytes]


class Target(NamedTuple):
    """One reader.

    Parameters
    ----------
    samples : function
        Returns what to begin with; none where a library is missing.
    run : function of a path
        Reads the file.  Raises EngineError, or a finding.
    mutate : function of (data, another sample's data, Random)
        How inputs are changed where bytes alone would never pass a checksum.
    """

    name: str
    samples: Callable[[], list[Sample]]
    run: Callable[[Path], object]
    mutate: Mutate = mutate

    def check(self, folder: Path, sample: Sample) -> str:
        """Read a sample in a folder and return what was refused, or an empty text.

        Raises
        ------
        Exception
            Whatever is a finding: no error of ours, one that names no file, or one that says we are broken.
        """
        path = folder / sample.name
        path.write_bytes(sample.data)
        try:
            self.run(path)
        except InvariantError:
            raise
        except EngineError as error:
            text = str(error)
            if str(folder) not in text:
                raise AssertionError(f"expected the file in the message, got {text!r}") from error
            if len(text) > 20_000:
                raise AssertionError(f"expected a short message, got {len(text)} characters: {text[:200]}") from error
            return text
        return ""


# ---------------------------------------------------------------- recordings


def read_tape(path: Path) -> None:
    """Look at a recording with and without a market, bad rows left out, and then to the first fault."""
    if sniff_file(path) is None:
        return
    told = inspect_tape(path)
    if told["rows"] < 0 or told["dropped"] < 0 or len(told["faults"]) > 20:
        raise AssertionError(f"expected counts that can be, got {told}")
    names = [(row["exchange"], row["symbol"]) for row in told["instruments"]]
    if names and not any(file["format"] == "commands" for file in told["files"]):
        market = msgspec.structs.replace(MARKET, symbol=names[0][1] or MARKET.symbol)
        for _ in _try(open_feed(path, [market], is_strict=False).chunks):
            pass
    inspect_tape(path, is_strict=True)


def _try(read: Callable[[], Iterator[Any]]) -> Iterator[Any]:
    try:
        yield from read()
    except InvariantError:
        raise
    except EngineError:
        return


def _mutate_archive(data: bytes, other: bytes, random: Random) -> bytes:
    """Change a member of an archive, so that its checksum is right all the same; sometimes the archive itself."""
    if random.random() < 0.2:
        return mutate(data, other, random)
    try:
        members, others = (_list_members(text) for text in (data, other))
    except (
        zipfile.BadZipFile,
        ValueError,
        OSError,
        NotImplementedError,  # what zipfile says of a compression it does not know
        RuntimeError,  # and of a password
        struct.error,
        zlib.error,
        EOFError,
    ):
        return mutate(data, other, random)
    if not members:
        return mutate(data, other, random)
    name = random.choice(list(members))
    lent = others.get(name) or random.choice(list(others.values()) or [b""])
    if random.random() < 0.05:
        del members[name]
    elif random.random() < 0.3:
        members[name] = _mutate_head(members[name], random)
    else:
        members[name] = mutate(members[name], lent, random)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return stream.getvalue()


def _list_members(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist() if archive.getinfo(name).file_size < 1 << 20}


DTYPES = ("|u1", "<i8", ">i8", "<f8", "|O", "<U5", "<M8[ns]", "|b1", "<i4", "|V48", "<c16", "[('a','<i8')]", "O8", "")
SHAPES = (
    "()",
    "(0,)",
    "(-1,)",
    "(1152921504606846976,)",
    "(1,1)",
    "(2,)",
    "(1<<60,)",
    "('a',)",
    "(2.5,)",
    "[1]",
    "(True,)",
)


def _mutate_head(data: bytes, random: Random) -> bytes:
    """Return an array whose header says something else, with the length of the header right."""
    if data[:6] != b"\x93NUMPY" or len(data) < 10:
        return data
    end = 10 + int.from_bytes(data[8:10], "little")
    text = data[10:end].decode("latin-1")
    at = text.find("'shape': ")
    if random.random() < 0.5 and at >= 0:
        text = text[:at] + "'shape': " + random.choice(SHAPES) + ", }"
    else:
        descr = random.choice(DTYPES)
        said = f"'{descr}'" if not descr.startswith("[") else descr
        text = f"{{'descr': {said}, 'fortran_order': {random.choice(('False', 'True', '1'))}" + text[max(at - 2, 0) :]
    if random.random() < 0.2:
        text = mutate(text.encode("latin-1"), b"{'descr': [('a', '<i8')]}", random).decode("latin-1")
    head = (text + "\n").encode("latin-1")[: 1 << 15]
    return data[:8] + len(head).to_bytes(2, "little") + head + data[end:]


# ---------------------------------------------------------------- logs and snapshots


@cache
def _keep_journal() -> tuple[Sample, ...]:
    """Return a log and a snapshot of each engine, of a market in which something happened."""
    found = []
    with TemporaryDirectory() as text:
        for engine in ("compiled", "reference"):
            folder = Path(text) / engine
            exchange = Exchange.open(folder, [MARKET], engine)
            exchange.apply(samples.build_commands())
            found.append(Sample(f"{engine}.npz", exchange.snapshot().read_bytes()))
            exchange.close()
        found.append(Sample(LOG, (folder / LOG).read_bytes()))
        journal = Journal(Path(text) / "long", [MARKET])
        for commands in (samples.build_commands(), samples.build_trading()):
            journal.append(commands)
        journal.close()
        found.append(Sample(LOG, (Path(text) / "long" / LOG).read_bytes()))
    return tuple(found)


def list_logs() -> list[Sample]:
    """Return command logs."""
    return [sample for sample in _keep_journal() if sample.name == LOG]


def list_snapshots() -> list[Sample]:
    """Return snapshots."""
    return [sample for sample in _keep_journal() if sample.name != LOG]


def read_log(path: Path) -> None:
    """Read a command log to its end, then play it in both engines."""
    log = Log(path.parent)
    for _ in log.frames():
        pass
    verify_journal(path.parent, ("reference",))
    verify_journal(path.parent, ("compiled", "reference"))


def _mutate_log(data: bytes, other: bytes, random: Random) -> bytes:
    """Change a log; mostly its checksums are made right again."""
    data = mutate(data, other, random)
    return data if random.random() < 0.2 else seal_log(data)


def seal_log(data: bytes) -> bytes:
    """Return a log whose checksums, numbers and lengths fit what it holds."""
    if len(data) < START.size:
        return data
    magic, number, length, _ = START.unpack(data[: START.size])
    text = data[START.size : START.size + length]
    if len(text) < length:
        return data
    crc = zlib.crc32(text, zlib.crc32(struct.pack("<II", number, length)))
    parts, at = [START.pack(magic, number, length, crc), text], START.size + length
    while data[at : at + 4] == MARK and len(data) >= at + FRAME.size:
        _, kind, count, _, seq, size = FRAME.unpack(data[at : at + FRAME.size])
        payload = data[at + FRAME.size : at + FRAME.size + size]
        head = struct.pack("<HHQQ", kind, count, seq, size)
        parts += [FRAME.pack(MARK, kind, count, zlib.crc32(payload, zlib.crc32(head)), seq, size), payload]
        at += FRAME.size + size
    return b"".join(parts) + data[at:]


def load_snapshot(path: Path) -> None:
    """Load a snapshot, and look at what came out."""
    exchange = Exchange.load(path)
    exchange.balances()
    exchange.positions()
    exchange.depth(0)


# ---------------------------------------------------------------- settings


def _read(*paths: Path) -> list[Sample]:
    return [Sample(path.name, path.read_bytes()) for path in paths]


def list_markets() -> list[Sample]:
    """Return market files: ours, and one on a venue's preset."""
    preset = b'venue = "binance"\nsymbol = "BTCUSDT"\ntick_size = "0.1"\nlot_size = "0.001"\nprice_max = "250000"\n'
    return [*_read(DEMO / "market.toml", SIMULATED / "market.toml"), Sample("preset.toml", preset)]


def list_tiers() -> list[Sample]:
    """Return margin tiers as Binance and ccxt write them."""
    bracket = {
        "bracket": 1,
        "initialLeverage": 100,
        "notionalCap": 1e4,
        "notionalFloor": 0,
        "maintMarginRatio": 0.005,
        "cum": 0.0,
    }
    next_ = {
        **bracket,
        "bracket": 2,
        "initialLeverage": 50,
        "notionalFloor": 1e4,
        "maintMarginRatio": 0.01,
        "cum": 50.0,
    }
    binance = [{"symbol": "BTCUSDT", "brackets": [bracket, next_]}]
    tier = {
        "tier": 1,
        "minNotional": 0,
        "maxNotional": 1e4,
        "maintenanceMarginRate": 0.005,
        "maxLeverage": 100,
        "info": bracket,
    }
    ccxt = {"BTC/USDT:USDT": [tier, {**tier, "tier": 2, "minNotional": 1e4, "info": next_}]}
    return [
        Sample(f"tiers{at}.json", json.dumps(found).encode())
        for at, found in enumerate((binance, ccxt, ccxt["BTC/USDT:USDT"]))
    ]


def read_scenarios(path: Path) -> None:
    """Play the scenarios of a file."""
    from engine.check.run import ScenarioFile, summarise

    file = ScenarioFile(path)
    results = list(file.play(list(file.forms), "reference"))
    json.dumps(summarise(path, "reference", results, 0))


def list_scenarios() -> list[Sample]:
    """Return scenario files."""
    return _read(*sorted(SCENARIOS.glob("*.json")))


def read_simulated(path: Path) -> None:
    """Read a simulated market and build its index."""
    from engine.contract import build_setup
    from engine.scenario.paths import build_path
    from engine.scenario.simulated import load_simulated

    config = load_simulated(path)
    if config.steps <= 1 << 12:
        try:
            build_path(config, MARKET, build_setup([MARKET]).markets[0])
        except EngineError as error:
            if "simulated market" not in str(error):  # of a config, whose file the caller names
                raise


def list_simulated() -> list[Sample]:
    """Return simulated markets: ours, and one of every kind of index."""
    kinds = (
        '{ kind = "jump", at = "10s", size = "-0.1", over = "2s" }',
        '{ kind = "jump_diffusion", jumps_per_day = "1000" }',
    )
    texts = [f'seed = 7\nprice = "100000"\nduration = "20s"\nindex = {kind}\n' for kind in kinds]
    return [
        *_read(SIMULATED / "simulated.toml"),
        *(Sample(f"sim{at}.toml", text.encode()) for at, text in enumerate(texts)),
    ]


def read_index(path: Path) -> None:
    """Read the recorded index of a simulated market."""
    from engine.contract import build_setup
    from engine.scenario.paths import build_path
    from engine.scenario.simulated import Recorded, SimulatedMarket

    config = SimulatedMarket(seed=1, index=Recorded(file=str(path)))
    try:
        build_path(config, MARKET, build_setup([MARKET]).markets[0])
    except EngineError as error:
        if "simulated market" not in str(error):
            raise


def list_indexes() -> list[Sample]:
    """Return recorded indexes in both forms."""
    plain = b"t,price\n0s,100000\n10s,99000.5\n1m,101000\n"
    ticker = next(sample for sample in samples.tardis() if "ticker" in sample.name)
    return [Sample("index.csv", plain), Sample("ticker.csv", ticker.data.replace(b"100.", b"100000."))]


def list_kept() -> list[Sample]:
    """Return a stream as `perp fuzz` keeps it."""
    commands = [
        {"kind": codes.DEPOSIT, "ts_ns": 1, "account": 1, "amount_quote": 1000},
        {"kind": codes.PLACE, "ts_ns": 2, "account": 1, "order_id": 1, "side": 1, "price_tick": 100, "qty_lot": 5},
    ]
    found = {"format": 1, "stream": 5, "error": "", "markets": msgspec.to_builtins([MARKET]), "commands": commands}
    return [Sample("fuzz-5.json", json.dumps(found, indent=1).encode())]


def list_positions() -> list[Sample]:
    """Return real positions."""
    text = (
        "account,symbol,side,amount,entry_price,leverage,margin_mode,collateral\n"
        "anna,BTCUSDT,long,1.5,100.5,10,cross,\n"
        "bob,BTCUSDT,short,0.001,99.9,20,isolated,50.5\n"
    )
    return [Sample("positions.csv", text.encode())]


def read_positions(path: Path) -> None:
    """Read positions."""
    from engine.scenario.positions import read_positions as read

    read(path, [MARKET])


def list_waves() -> list[Sample]:
    """Return waves in the columns of the paper."""
    from engine.lab.oct10 import COLUMNS

    rows = [",".join(["1" if name == "wave" else "100.5" for name in COLUMNS])] * 2
    return [Sample("waves.csv", "\n".join([",".join(COLUMNS), *rows, ""]).encode())]


def read_waves(path: Path) -> None:
    """Describe waves."""
    from engine.lab.oct10 import compose_table, describe

    compose_table(describe(path))


def load_population(path: Path) -> None:
    """Read a population."""
    from engine.scenario import load_population as load

    load(path)


def load_shock(path: Path) -> None:
    """Read a shock, and follow it."""
    from engine.scenario import load_shock as load

    load(path).price_curve().at(10**9)


# ---------------------------------------------------------------- runs


@cache
def _keep_run() -> tuple[bytes, bytes]:
    """Return the summary and the events of a run."""
    exchange = Exchange([MARKET], "reference")
    rows = np.concatenate([exchange.apply(samples.build_commands()), exchange.apply(samples.build_trading())])
    summary = {
        "parameters": {"markets": msgspec.to_builtins([MARKET])},
        "assets": [{"name": "USDT", "unit": "0.000001"}],
        **TOTALS,
    }
    return json.dumps(summary).encode(), samples.pack_archive(events=samples.pack_array(rows.astype(EVENT)))


def list_events() -> list[Sample]:
    """Return the events of a run."""
    return [Sample("events.npz", _keep_run()[1])]


def list_summaries() -> list[Sample]:
    """Return the summary of a run."""
    return [Sample("summary.json", _keep_run()[0])]


def describe_run(path: Path, more: str, at: int) -> None:
    """Describe the run of which a file was changed."""
    from engine.lab.compare import describe_run as describe

    path.with_name(more).write_bytes(_keep_run()[at])
    json.dumps(describe(path.parent, 10**9))


def list_names() -> list[Sample]:
    """Return the names of a run's accounts."""
    return [Sample("names.json", b'{"1": "alice",\n"2": "7",\n"30": "b\\u00f6b, \\"the\\" \\n whale"}\n')]


def read_names(path: Path) -> None:
    """Ask a run for an account by name."""
    from engine.runs import open_run
    from engine.runs.people import find_account

    path.with_name("summary.json").write_bytes(_keep_run()[0])
    run = open_run(path.parent)
    for number, name in run.names.items():
        if not (isinstance(number, int) and isinstance(name, str)):
            raise AssertionError(f"expected a number and a name, got {number!r}, {name!r}")
        try:
            find_account(run, name)
        except ConfigError as error:
            if list(run.names.values()).count(name) < 2 and name not in ("outside", "house"):
                raise AssertionError(f"expected {name!r} to be found") from error


@cache
def list_sweeps() -> list[Sample]:
    """Return the summaries of a sweep, of a search for a fund and of one for a shock, made of rows nobody ran."""
    from engine.sweep.measure import METRICS
    from engine.sweep.search import Walk
    from engine.sweep.summary import compare_cells, summarise_cell, summarise_frontier, summarise_need

    head = {"schema": 1, "digest": "d", "version": "v", "seeds": 3, "interrupted": False, "search": {}, "scenario": {}}
    head |= {"assets": [{"name": "USDT", "unit": "0.000001"}], "markets": ["BTCUSDT"], "fund_start_quote": 10**12}
    rows = [{"seed": seed, **{metric.key: seed * 10**9 for metric in METRICS}} for seed in range(3)]
    cells = [
        {
            "name": f"fund={fund}",
            "point": {"fund": fund},
            **summarise_cell(rows),
            "versus_first": compare_cells(rows, rows),
        }
        for fund in ("10", "100", "1e4")
    ]
    needs = [{"seed": seed, "need_quote": seed * 10**9, "is_exact": True} for seed in range(3)]
    need = {"until": "fund_empty", "is_exact": True, "why": [], "need": summarise_need(needs, 0.5)}
    walk, steps = Walk((0, 10**9, 10**6), (200_000, 10**9, 10**6)), [{"step": step, "steps": 4} for step in (1, 2)]
    frontier = [summarise_frontier(walk, {"depth": depth}, steps, 0.5) for depth in ("1", "0.3")]
    shock = {"until": "adl", "share": 0.5, "side": "down", "walked": {"size": ["0", "0.2"]}, "frontier": frontier}
    told = ({"task": "run_seed", "cells": cells}, {"task": "find_need", **need}, {"task": "find_threshold", **shock})
    return [Sample("summary.json", json.dumps({**head, **each}).encode()) for each in told]


def show_sweep(path: Path) -> None:
    """Write the page of a sweep of which the summary was changed, and its table."""
    from engine.report.page import compose_page
    from engine.sweep.load import load_sweep

    path.with_name("runs.jsonl").write_text('{"cell": "fund=10", "seed": 1, "deficit_quote": 5}\n')
    sweep = load_sweep(path.parent)
    sweep.to_arrays()
    sweep.cells.to_arrays()
    compose_page([path.parent])


def list_labs() -> list[Sample]:
    """Return what the lab prints of a run with one wave."""
    from engine.lab import metrics
    from engine.report.policies import TOTALS as CHECKED

    measured: dict[str, Any] = dict.fromkeys(("taken_quote", "tracking_quote", "fairness_quote", "total_quote"), 7)
    measured |= dict.fromkeys(("mean_max_share", "ptsr", "pmr", "rd_nse", "rank_stability"), 0.5)
    measured |= {"shares": metrics.describe_shares([]), "inversions": 1, "neighbours": 2}
    run = {
        "run": "x",
        "asset": {"name": "USDT", "unit": "0.000001"},
        "compared_waves": 1,
        "needed_quote": 7,
        "waves": [{}],
    }
    run |= {"policies": {"run": measured, "queue": measured}, **dict.fromkeys(CHECKED, 0)}
    return [Sample("lab.json", json.dumps({"gap_ns": 1, "runs": [run, {**run, "run": "y"}]}).encode())]


def show_lab(path: Path) -> None:
    """Write the tables of what the lab told."""
    from engine.report.policies import TOTALS as CHECKED
    from engine.report.policies import compare_lab, read_lab, write_lab

    views = [SimpleNamespace(label=label, summary=dict.fromkeys(CHECKED, 0), lab=None) for label in "xyz"]
    for facts in (found := read_lab(path, views)):
        write_lab(facts)
    compare_lab(found)


TARGETS = {
    target.name: target
    for target in (
        *(
            Target(name, make, read_tape, _mutate_archive if name in ("commands", "hftbacktest") else mutate)
            for name, make in samples.RECORDINGS.items()
        ),
        Target("packed", samples.packed, read_tape),
        Target("log", list_logs, read_log, _mutate_log),
        Target("snapshot", list_snapshots, load_snapshot, _mutate_archive),
        Target("market", list_markets, load_market),
        Target("tiers", list_tiers, partial(load_tiers, symbol="BTCUSDT")),
        Target("population", lambda: _read(DEMO / "population.toml"), load_population),
        Target("shock", lambda: _read(DEMO / "shock.toml"), load_shock),
        Target("simulated", list_simulated, read_simulated),
        Target("index", list_indexes, read_index),
        Target("scenarios", list_scenarios, read_scenarios),
        Target("kept", list_kept, replay_failure),
        Target("positions", list_positions, read_positions),
        Target("waves", list_waves, read_waves),
        Target("events", list_events, partial(describe_run, more="summary.json", at=0), _mutate_archive),
        Target("summary", list_summaries, partial(describe_run, more="events.npz", at=1)),
        Target("names", list_names, read_names),
        Target("sweep", list_sweeps, show_sweep),
        Target("lab", list_labs, show_lab),
    )
}
