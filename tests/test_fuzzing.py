"""Whatever the bytes: only our own errors come out, in bounded time and memory (FEED-070 to FEED-074).

A small, seeded part of what `python -m tests.fuzzing.readers` does for hours, the bombs, and everything that fuzzing
found once.
"""

import json
import struct
import subprocess
import sys
from pathlib import Path
from random import Random

import numpy as np
import pytest

from engine.errors import MESSAGE_MOST, DataError, EngineError
from engine.feeds.formats import FORMATS, sniff_file
from engine.feeds.inspect import inspect_tape
from engine.files import read_arrays
from tests.fuzzing import samples
from tests.fuzzing.mutate import mutate
from tests.fuzzing.samples import MS, Sample
from tests.fuzzing.targets import TARGETS, seal_log

ROOT = Path(__file__).resolve().parents[1]
INPUTS = 12
SLOW = {"scenarios": 3, "kept": 3}  # which play what they read


def test_every_format_has_samples(tmp_path):
    """A sample is of its format, and rows are read of it."""
    assert sorted(samples.RECORDINGS) == sorted(format.name for format in FORMATS)
    for name, make in samples.RECORDINGS.items():
        for sample in make():
            path = tmp_path / sample.name
            path.write_bytes(sample.data)
            found = sniff_file(path)
            assert found is not None, sample.name
            assert found.format.name == name
            told = inspect_tape(path)
            assert told["rows"] > told["dropped"], sample.name


def test_inputs_are_a_function_of_the_seed():
    data, other = samples.bybit()[0].data, samples.okx()[0].data
    drawn = [[mutate(data, other, random) for _ in range(50)] for random in (Random(5), Random(5), Random(6))]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(set(drawn[0])) > 40


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", TARGETS)
def test_damage_is_refused_by_name(tmp_path, name):
    """A few inputs for every reader there is, always the same.

    Source: FEED-012.
    """
    target = TARGETS[name]
    found = target.samples()
    if not found:
        pytest.skip(f"{name}: the extra it needs is not installed, so there is nothing to fuzz")
    random = Random(f"smoke {name}")
    for sample in found:
        target.check(tmp_path, sample)
    for _ in range(SLOW.get(name, INPUTS)):
        sample, other = random.choice(found), random.choice(found)
        target.check(tmp_path, Sample(sample.name, target.mutate(sample.data, other.data, random)))


def test_bombs_are_refused_by_rule_and_not_by_the_machine(tmp_path):
    """In a process that has little memory above what it needs to load.

    Source: FEED-052, FEED-070, FEED-071, FEED-072, FEED-073, FEED-074.
    """
    if sys.platform != "linux":
        pytest.skip("limits on memory are tested on Linux")
    command = [sys.executable, "-W", "ignore", "-m", "tests.fuzzing.bombs", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(told) > 60
    assert not [facts for facts in told if facts["told"].startswith("FOUND")]
    refused = {facts["target"] for facts in told if facts["told"]}
    assert {"packed", "commands", "snapshot", "events", "log", "market", "scenarios", "lighter", "tardis"} <= refused


# ---------------------------------------------------------------- what fuzzing found


def _replace(name, at, *pairs):
    """Return a sample of a target with some of its bytes replaced."""
    sample = TARGETS[name].samples()[at]
    data = sample.data
    for before, after in pairs:
        assert before in data, (name, before)
        data = data.replace(before, after, 1)
    return Sample(sample.name, data)


LONG = b"9" * 19  # above 2**63
TWICE = b"3,1700000000003,1699999999998,102,0.5,created,bid\n"  # on its way, since it meets an ask
FOUND = [
    ("bitstamp", 0, (b"\n3,", b"\n" + LONG + b","), "id within 64 bits"),
    ("bitstamp", 1, (b"\n6,", b"\n" + LONG + b","), "id within 64 bits"),
    ("lobster", 0, (b",16113575,", b"," + LONG + b","), "id within 64 bits"),
    ("luno", 0, (str(MS + 1).encode(), LONG), "timestamp"),
    ("binance-vision", 4, (b"2023-11-14 22:13:50", b"9999-11-14 22:13:50"), "since 1970"),
    ("hyperliquid", 0, (b'"tid":8', b'"tid":' + LONG), "tid"),
    ("hyperliquid", 0, (b'"coin":"BTC","time"', b'"coin":"\xff\xff","time"'), "utf-8"),
    ("hyperliquid-node-fills", 0, (b'"block_number":6', b'"block_number":' + LONG), "block_number"),
    ("bybit", 0, (b'"u":6', b'"u":' + LONG), "`$.u`"),
    ("okx", 0, (b'"seqId":6', b'"seqId":' + LONG), "seqId"),
    ("okx", 0, (b'"asks":[["100.2","0"]]', b'"asks":[["100.2"]]'), "length >= 2"),
    ("lighter", 0, (b'\\"offset\\":2', b'\\"offset\\":' + LONG), "offset"),
    ("lighter", 0, (b'\\"trade_id\\":7', b'\\"trade_id\\":' + LONG), "trade_id"),
    ("index", 0, (b"\n1m,", b"\n99999999999999h,"), "below 292 years"),
    ("market", 0, (b'lot_size = "0.001"', b'lot_size = "nan"'), "expected a finite number, got NaN"),
    ("market", 0, (b'price_max = "250000"', b'price_max = "Infinity"'), "expected a finite number, got Infinity"),
    ("positions", 0, (b"anna", b"a" * 140_000), "field larger than"),
    ("population", 0, (b'"9000"', b'"' + b"9" * 60_000 + b'"'), "at most 100 digits"),
    ("tardis", 4, (b"asks[1].price", b"asks[1.price"), "beside asks[1].amount"),
    ("tardis", 4, (b"asks[1].price", b"asks[" + b"1" * 5_000 + b"].price"), "beside asks[1].amount"),
    ("bybit", 2, (b'"ts":1700000000.5', b'"ts":.'), "BYBIT.jsonl:2"),
    ("scenarios", 0, (b'"maker_fee": "0"', b'"maker_fee": "\\ud800"'), "surrogates"),
    ("bitstamp", 0, (TWICE, TWICE + TWICE.replace(b"102", b"99")), "expected an id of no resting order, got 3"),
    ("binance", 0, (b"1700000000002000000 ", b"%d " % ((1 << 63) - 1)), "local time"),  # once an endless loop
]


@pytest.mark.parametrize(("name", "at", "pair", "said"), FOUND, ids=[f"{row[0]}-{row[3]}" for row in FOUND])
def test_what_was_found_is_refused(tmp_path, name, at, pair, said):
    """Numbers that no row holds, text that is none, numbers that are none: once all Python's own errors.

    Source: FEED-012, FEED-070.
    """
    told = TARGETS[name].check(tmp_path, _replace(name, at, pair))
    assert said in told
    assert len(told) < MESSAGE_MOST + 500


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("tick_size", "1e-400", "tick_size"),
        ("price_max", "9" * 200, "price_max"),
        ("lot_size", "-Infinity", "lot_size"),
    ],
)
def test_a_tape_of_impossible_markets_is_refused(tmp_path, field, value, said):
    """Source: FEED-070."""
    meta = json.loads(samples.build_meta()[128:])
    meta["markets"][0][field] = value
    members = {"commands": samples.pack_array(samples.build_commands())}
    members["meta"] = samples.pack_array(np.frombuffer(json.dumps(meta).encode(), np.uint8))
    told = TARGETS["commands"].check(tmp_path, Sample("tape.npz", samples.pack_archive(**members)))
    assert f"{said}: expected" in told


def test_commands_of_no_market_are_counted(tmp_path):
    """Source: FEED-070."""
    commands = samples.build_commands()
    commands["market"][:2] = -(1 << 15), 1
    members = {"commands": samples.pack_array(commands), "meta": samples.build_meta()}
    (tmp_path / "tape.npz").write_bytes(samples.pack_archive(**members))
    assert inspect_tape(tmp_path / "tape.npz")["other_commands"] >= 2


def _records(*changes):
    """Return the DBN sample with bytes of its second record changed: (place, bytes)."""
    sample = samples.databento()[0]
    start = len(sample.data) - 6 * 56 + 56
    data = bytearray(sample.data)
    for at, new in changes:
        data[start + at : start + at + len(new)] = new
    return Sample(sample.name, bytes(data))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ([(38, b"z")], "expected one of A, C, F, M, N, R and T"),
        ([(39, b"z")], "expected one of B, A, N"),
        ([(40, struct.pack("<Q", (1 << 64) - 2))], "expected stamps of at most"),
        ([(38, b"C"), (32, struct.pack("<I", 0))], "expected an order that rests"),
        ([(0, b"\x0a")], "DBN records"),  # too short: the library panics
    ],
)
def test_records_of_dbn_are_refused_one_by_one(tmp_path, changes, said):
    """Source: FEED-051."""
    pytest.importorskip("databento_dbn")
    assert said in TARGETS["databento"].check(tmp_path, _records(*changes))


def test_ids_of_dbn_have_64_bits_without_a_sign(tmp_path):
    """Source: FEED-051."""
    pytest.importorskip("databento_dbn")
    sample = _records((16, struct.pack("<Q", (1 << 64) - 1)))
    (tmp_path / sample.name).write_bytes(sample.data)
    told = inspect_tape(tmp_path / sample.name)
    assert told["dropped_by"] == {"unknown order": 2}  # the sample's own, and the fill of what has another id now


def test_units_are_found_in_a_few_readings_or_not_at_all(tmp_path):
    """A number that needs a coarser unit, beside one that needs a finer one: once they asked for each other forever.

    Source: FEED-071.
    """
    head, row, _ = samples.tardis()[0].data.decode().split("\n", 2)
    path = tmp_path / samples.tardis()[0].name

    def inspect(*prices):
        path.write_text("\n".join([head, *(row.replace("100.5", price) for price in prices), ""]))
        return inspect_tape(path)

    assert inspect("1e16", "1.5", "1e16", "2.25")["dropped"] == 0
    assert inspect("1e17", "0.000000001", "1e17")["dropped"] == 2
    assert inspect("0." + "0" * 17 + "1", "4")["dropped"] == 0
    assert inspect("0." + "0" * 18 + "1", "4")["dropped"] == 1
    rows = [row.replace("BTCUSDT", f"S{at}").replace("100.5", f"1.{at:012}1") for at in range(500)]
    path.write_text("\n".join([head, *rows, ""]))
    assert inspect_tape(path)["dropped"] == 0


@pytest.mark.parametrize("kind", ["length", "missing", "bytes", "shape"])
def test_a_snapshot_is_as_long_as_its_markets_make_it(tmp_path, kind):
    """Kernels index without looking: arrays of another length are refused before they see them.

    Source: STATE-002, FEED-073.
    """
    sample = TARGETS["snapshot"].samples()[0]
    (tmp_path / "s.npz").write_bytes(sample.data)
    arrays = {name: samples.pack_array(array) for name, array in read_arrays(tmp_path / "s.npz").items()}
    if kind == "missing":
        del arrays["orders"]
    elif kind == "bytes":
        arrays["meta"] = b"\x93NUMPY"
    else:
        own = read_arrays(tmp_path / "s.npz", "pages")["pages"]
        arrays["pages"] = samples.pack_array(own[:-1] if kind == "length" else own.reshape(1, -1))
    told = TARGETS["snapshot"].check(tmp_path, Sample("s.npz", samples.pack_archive(**arrays)))
    assert {"length": "expected", "missing": "'orders'", "bytes": "header", "shape": "'pages'"}[kind] in told


def test_a_log_of_no_markets_is_refused_with_its_name(tmp_path):
    """Source: JRN-004."""
    sample = TARGETS["log"].samples()[0]
    broken = Sample(sample.name, seal_log(sample.data.replace(b'"0.001"', b'"0.000"', 1)))
    assert "lot_size" in TARGETS["log"].check(tmp_path, broken)


def test_archives_are_stored_or_deflated(tmp_path):
    """Source: FEED-073."""
    sample = samples.packed()[1]
    data = bytearray(sample.data)
    at = data.rindex(b"PK\x01\x02")
    data[at + 10 : at + 12] = struct.pack("<H", 14)  # LZMA, which takes what memory its header says
    (tmp_path / sample.name).write_bytes(data)
    with pytest.raises(DataError, match="stored or deflated"):
        inspect_tape(tmp_path / sample.name)


def test_messages_are_short(tmp_path):
    error = DataError("x", 1, "price", "expected less, got " + "9" * 100_000)
    assert len(str(error)) < MESSAGE_MOST + 50
    assert isinstance(error, EngineError)


def test_a_finding_is_kept_and_counted(tmp_path, monkeypatch):
    """The harness notices an error that is not ours, and a message that names no file."""
    from tests.fuzzing.readers import Fuzzer

    def fail(path):
        raise KeyError(path.name)

    monkeypatch.setitem(TARGETS, "shock", TARGETS["shock"]._replace(run=fail))
    fuzzer = Fuzzer("shock", tmp_path, runs=3)
    for _ in range(3):
        fuzzer.try_input("shock.toml", b"x")
    facts = fuzzer.write_summary()
    fuzzer.close()
    assert (facts["inputs"], facts["found"]) == (3, {"KeyError in tests": 3})
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["shock-1-KeyError"]
    vague = TARGETS["shock"]._replace(run=lambda path: (_ for _ in ()).throw(EngineError("something")))
    with pytest.raises(AssertionError, match="expected the file in the message"):
        vague.check(tmp_path, Sample("shock.toml", b"x"))
