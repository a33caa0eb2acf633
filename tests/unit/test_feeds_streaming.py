"""Reading by polars, merging, reading ahead: the same rows and faults, in memory that no tape fills (FEED-060 on)."""

import gzip
import io
import os
import subprocess
import sys
import threading
import zlib
from decimal import ROUND_HALF_EVEN, Decimal
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import Exchange, load_market
from engine.bench.replay import repeat_tape
from engine.contract import Market, Tier
from engine.errors import DataError
from engine.feeds import AheadFeed, columns, open_feed, read_ahead, tape
from engine.feeds.columns import Block, FieldError, read_plainly
from engine.feeds.instruments import Findings, Instrument, UnitCache
from engine.feeds.merge import cut_chunks, merge_streams
from engine.feeds.tardis import SCHEMAS
from engine.layout import COMMAND, RECORD
from engine.replay import Plan, run_replay
from engine.units import parse_decimal

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "replay_data" / "synthetic_btc"
T0 = 1_680_652_700_000_000
NAMES = ("a", "s", "b")

polars = pytest.importorskip("polars", reason="the extra `parquet` is not installed")
frames = pytest.importorskip("engine.feeds.frames")

TIERS = (Tier(floor=Decimal(0), initial=Decimal("0.01"), maintenance=Decimal("0.005")),)
MARKET = Market(
    symbol="BTCUSDT", tiers=TIERS, tick_size=Decimal("0.1"), lot_size=Decimal("0.001"), price_max=Decimal(250_000)
)

# Numbers as venues write them, and as nobody should.
decimals = st.decimals(min_value=0, max_value=10**7, places=3).map(str)
ODD = """
    0 0.0 0.000 .0 0. 5. .5 1e3 1E3 1e-3 0e5 1e-999 1e999 nan inf -1 -0 +5 1_000 1.2.3 . e 0x1 100000.1 250000.1
    28145.10 28145.100000000000000 28145.100000000001 0.1000000000000000055511 999999999999999 9007199254740993
    12345678901.234 99999999999.9999 0.30000000000000004 1099511627.776 1099511627.777 4503599627370497.5
"""
odd = st.sampled_from(ODD.split())
numbers = st.one_of(decimals, decimals, odd, st.text("0123456789.e-+ x", max_size=18))


def settle(function):
    """Return what a function returns, or its refusal."""
    try:
        found = function()
    except FieldError as error:
        return error.field, str(error)
    return found.tolist()


@given(
    st.lists(numbers.filter(lambda text: "\n" not in text), min_size=1, max_size=40),
    st.sampled_from(["0.1", "0.001", "0.5", "0.25", "1", "10", "1e-9", "0.00000001", "0.03", "1e-25", "1e16"]),
    st.sampled_from([(0, 1 << 40), (1, 1 << 40), (1, 2_500_000), (1, 1 << 62)]),
    st.booleans(),
)
def test_decimals_are_counted_exactly(texts, unit, bounds, may_be_empty):
    """FEED-060: whatever the text and the unit, polars' doubles give the count that the digits give, or the refusal."""
    frame = polars.DataFrame({"x": texts}, schema={"x": polars.String})
    lengths = frame.select(polars.col("x").str.len_bytes())
    words = {"x": texts[0]} if len(set(texts)) == 1 else {}
    asked = [
        settle(lambda block=block: block.count("x", UnitCache(Decimal(unit), *bounds), may_be_empty=may_be_empty))
        for block in (Block(1, {"x": texts}), frames.FrameBlock(1, ["x"], frame, lengths, words))
    ]
    assert asked[0] == asked[1]


@given(st.integers(1, 10**15), st.integers(0, 18), st.sampled_from(["0.1", "0.001", "0.00000001", "1e-15", "7e-9"]))
def test_no_decimal_passes_for_its_neighbour(digits, places, unit):
    """FEED-060: with fifteen digits and more, a count is exact or the text is refused."""
    text = format(Decimal(digits).scaleb(-places), "f")
    frame = polars.DataFrame({"x": [text]})
    block = frames.FrameBlock(1, ["x"], frame, frame.select(polars.col("x").str.len_bytes()), {})
    found = settle(lambda: block.count("x", UnitCache(Decimal(unit), 0, 1 << 62)))
    if isinstance(found, list):
        assert Decimal(found[0]) * Decimal(unit) == Decimal(text)
    else:
        count = Decimal(text) / Decimal(unit)
        assert count != int(count) or count > 1 << 62


@given(st.one_of(numbers, st.decimals(0, 3 * 10**5, places=12).map(str), st.sampled_from(["²", "٣", "1" * 40])))
def test_fine_prices_are_their_decimals(text):
    """FEED-005: a mark's fine units are its decimal's, half-even; what is none or out of reach is refused."""
    instrument = Instrument(0, "", "BTCUSDT", MARKET, {})
    try:
        wanted = int((parse_decimal(text) / instrument.fine_unit).to_integral_value(ROUND_HALF_EVEN)) if text else 0
        is_told = not text or instrument.fine_per_tick // 2 <= wanted <= instrument.price_max_tick * 10**8
    except ValueError:
        is_told = False
    if is_told:
        assert instrument.count_fine(text) == wanted
    else:
        with pytest.raises(ValueError, match="expected"):
            instrument.count_fine(text)


@pytest.mark.parametrize(
    "line",
    [
        *("1,2", "1,2,", "", " ", "1,2,3,4", "1, 7,3", "1,+7,3", "1,7,3\r", "1,07,3", "1,-7,3", "1,7.0,3", "1,,3"),
        *("1,0,3", "1,70,3", "1,\t7,3", "1,9223372036854775808,3"),
    ],
)
@pytest.mark.parametrize("other", ["x,5,y", "x,+5,y", "x, 5,y", "x,5", "x,5,yy"])
def test_what_polars_would_let_pass_is_looked_at(line, other):
    """FEED-060: a short line, a sign, a space, a leading zero; nor can one liberty make up for another's length."""
    for lines in ([line, other], [other, line], ["x,5,y", line, other]):
        data = "\n".join(lines).encode()
        block = frames.split_frame(1, data, NAMES, ",", ("s",))
        rows = [text.split(",") for text in lines]
        is_sound = all(len(row) == 3 and row[1].isdigit() and row[1][0] != "0" and row[2] for row in rows)
        if "\r" in line or not is_sound or len({len(row[1]) for row in rows}) > 1:
            assert block is None
        else:
            assert [list(row) for row in zip(*map(block.texts, NAMES), strict=True)] == rows


@pytest.mark.parametrize("place", range(15))
def test_lines_that_begin_otherwise_are_found(place):
    """FEED-060: what all lines begin with is proven in every one of them; one more and one less do not make up."""
    names = ("w", "v", "s", "u", "a")
    whole = [f"x,yy,{1000 + at},w,{at % 3}5" for at in range(64)]
    assert frames.split_frame(1, "\n".join(whole).encode(), names, ",", ("s",)) is not None
    puts, others = ("", ",", "\n", "0", "y", "+", " ", "y,"), ("x,yy,1034,w,15", "x,yyy,1034,w,15", "x,y,1034,w,15")
    for at, removed, put, other in product((32, 33), range(3), puts, others):  # one of them is no sample
        line = whole[at]
        lines = [*whole[:at], line[:place] + put + line[place + removed :], other, *whole[at + 2 :]]
        rows = [line.split(",") for line in "\n".join(lines).split("\n")]
        block = frames.split_frame(1, "\n".join(lines).encode(), names, ",", ("s",))
        if block is not None:
            assert [list(row) for row in zip(*map(block.texts, names), strict=True)] == rows


def write_file(path, kind, rows):
    path.write_text("\n".join([",".join(SCHEMAS[kind]), *rows]) + "\n")
    return path


def read_rows(path):
    """Return a file's rows and what was found wrong with it; in strict mode the error."""
    found = []
    for is_strict in (False, True):
        try:
            feed = open_feed(path, [MARKET], is_strict=is_strict)
            rows = [row for part in feed.records() for row in part.tolist()]
            faults = [str(fault.error) for fault in feed.findings.faults]
            found.append((rows, faults, feed.findings.rows, feed.findings.dropped, feed.findings.counts))
        except DataError as error:
            found.append(str(error))
    return found


words = {
    "trades": (["buy", "sell", "unknown"], lambda us, draw, side: f"{draw[2]},{side},{draw[0]},{draw[1]}"),
    "incremental_book_L2": (["bid", "ask"], lambda us, draw, side: f"{draw[3]},{side},{draw[0]},{draw[1]}"),
    "quotes": (["7"], lambda us, draw, side: f"{draw[1]},{draw[0]},{side},{draw[1]}"),
}
drawn_row = st.tuples(
    st.one_of(decimals, numbers),
    st.one_of(decimals, numbers),
    st.one_of(st.integers(0, 10**20).map(str), st.sampled_from(["+5", "007", "a-b", ""])),
    st.sampled_from(["true", "false", "false", "false", "maybe"]),
    st.integers(0, 9),
    st.integers(-2, 30),
)


@given(st.sampled_from(sorted(words)), st.lists(drawn_row, min_size=1, max_size=60), st.booleans())
def test_both_ways_of_reading_tell_the_same(tmp_path_factory, kind, drawn, is_cut):
    """FEED-060: rows, what was left out and why, the message with file, line and field; whole blocks or cut ones."""
    sides, compose = words[kind]
    lines, us = [], T0
    for number, draw in enumerate(drawn):
        us += draw[5] if number else 0
        symbol = "BTCUSDT" if draw[4] else "ETHUSDT"
        side = sides[draw[4] % len(sides)] if draw[4] != 9 else "none"
        lines.append(f"venue,{symbol},{us - 5},{us},{compose(us, draw, side)}")
    path = write_file(tmp_path_factory.mktemp("both") / "tape.csv", kind, lines)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frames, "SHORT", 2 if is_cut else 512)
        fast = read_rows(path)
    with read_plainly():
        plain = read_rows(path)
    assert fast == plain


def test_the_demo_is_read_the_same(tmp_path):
    """FEED-060: a whole tape, every kind of file; and polars did split it."""
    market = load_market(DEMO / "market.toml")
    fast = np.concatenate(list(open_feed(DEMO, [market]).chunks()))
    with read_plainly():
        plain = np.concatenate(list(open_feed(DEMO, [market]).chunks()))
    assert fast.tobytes() == plain.tobytes()
    file = next(DEMO.glob("*_L2_*"))
    names = SCHEMAS["incremental_book_L2"]
    blocks = list(columns.read_columns(file, names, Findings(True), stamps=("timestamp", "local_timestamp")))
    assert {type(block) for block in blocks} == {frames.FrameBlock}


# ---------------------------------------------------------------- merging


@given(st.lists(st.lists(st.lists(st.integers(0, 3), max_size=6), max_size=5), max_size=4))
def test_streams_merge_in_order(drawn):
    """FEED-001: by stamp, then stream, then place; wherever blocks end, also in the middle of a stamp."""
    streams, expected = [], []
    for stream, steps in enumerate(drawn):
        ts_ns, blocks = 0, []
        for block in steps:
            rows = np.zeros(len(block), RECORD)
            for at, step in enumerate(block):
                ts_ns += step
                rows[at]["ts_ns"], rows[at]["id"], rows[at]["market"] = ts_ns, len(expected), stream
                expected.append((ts_ns, stream, len(expected)))
            blocks.append(rows)
        streams.append(iter(blocks))
    merged = [row for part in merge_streams(streams) for row in part[["ts_ns", "market", "id"]].tolist()]
    assert merged == sorted(expected)


@given(st.lists(st.integers(0, 9), max_size=8), st.integers(1, 7))
def test_chunks_have_their_length(lengths, rows):
    """Nothing is lost, doubled or moved, and no chunk shares memory with another."""
    blocks = []
    for length in lengths:
        block = np.zeros(length, COMMAND)
        block["ts_ns"] = np.arange(length) + sum(map(len, blocks))
        blocks.append(block)
    chunks = list(cut_chunks(iter(blocks), rows))
    assert [stamp for chunk in chunks for stamp in chunk["ts_ns"].tolist()] == list(range(sum(lengths)))
    assert all(len(chunk) == rows for chunk in chunks[:-1])


# ---------------------------------------------------------------- reading ahead


def count_up(stop, error=None, log=None):
    try:
        for number in range(stop):
            if log is not None:
                log.append((number, threading.current_thread().name))
            yield number
        if error:
            raise error
    finally:
        if log is not None:
            log.append("closed")


def test_reading_ahead_changes_nothing():
    """FEED-062: the same items in order; made by another thread; no more than the depth ahead; an error in its turn."""
    log = []
    ahead = read_ahead(count_up(100, log=log), depth=3)
    assert next(ahead) == 0
    assert list(ahead) == list(range(1, 100))
    assert all("reader" in name for _, name in log[:-1])
    for taken in range(20):
        log.clear()
        ahead = read_ahead(count_up(100, log=log), depth=3)
        for _ in range(taken):
            next(ahead)
        assert len(log) <= taken + 3
        ahead.close()
        assert not taken or log[-1] == "closed"
    got = []
    with pytest.raises(DataError, match="file:7: expected more"):
        got.extend(iter_into(got, read_ahead(count_up(5, DataError("file", 7, None, "expected more")))))
    assert got == [0, 1, 2, 3, 4]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("reader")]


def iter_into(got, items):
    for item in items:
        got.append(item)
    return []


def test_interrupting_the_reader_ends_its_thread():
    """FEED-062: Ctrl-C arrives where the chunks are used; the tape is closed and its thread gone when it leaves."""
    log = []

    def use():
        for item in read_ahead(count_up(1000, log=log)):
            if item == 10:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        use()
    assert log[-1] == "closed"
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("reader")]


def test_counts_are_those_of_the_chunks_handed_out():
    """FEED-062: what a run that stops early reports of its tape does not hang on how far the thread had come."""
    market = load_market(DEMO / "market.toml")
    plain, ahead = open_feed(DEMO, [market]), AheadFeed(open_feed(DEMO, [market]))
    for ours, theirs in zip(ahead.chunks(4_096), plain.chunks(4_096), strict=True):
        assert ours.tobytes() == theirs.tobytes()
        assert ahead.counts == plain.counts
    assert ahead.counts["trades"] > 0
    runs = [run_replay(Plan(markets=[market], feed=open_feed(DEMO, [market]), until_seq=30_000)) for _ in range(2)]
    assert runs[0].summary["tape"] == runs[1].summary["tape"]
    exchange = Exchange([market])
    for chunk in plain.chunks():
        exchange.apply(chunk)
    whole = run_replay(Plan(markets=[market], feed=plain))
    assert whole.summary["tape"] == plain.counts
    assert whole.summary["commands"] > 65_536  # more than one chunk


# ---------------------------------------------------------------- memory


CHILD = """
import resource, sys
from engine import Exchange, load_market
from engine.feeds import AheadFeed, open_feed
market = load_market(sys.argv[2])
exchange, rows = Exchange([market]), 0
for chunk in AheadFeed(open_feed(sys.argv[1], [market])).chunks():
    exchange.apply(chunk)
    rows += len(chunk)
print(rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in kB there")
def test_memory_does_not_grow_with_the_tape(tmp_path):
    """FEED-061: a tape twenty times as long takes the same memory, to a tenth of what its commands would take."""
    market = load_market(DEMO / "market.toml")
    peaks = {}
    for times in (1, 20):  # the shorter one is longer than a block, too
        folder = tmp_path / str(times)
        folder.mkdir()
        repeat_tape(open_feed(DEMO, [market]), folder, times, level=1)
        verb = [sys.executable, "-c", CHILD, str(folder), str(DEMO / "market.toml")]
        done = subprocess.run(
            verb, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True
        )
        peaks[times] = list(map(int, done.stdout.split()))
    longer = peaks[20][0] - peaks[1][0]
    assert longer > 1_200_000
    assert (peaks[20][1] - peaks[1][1]) * 1024 < longer * COMMAND.itemsize / 10, peaks


# ---------------------------------------------------------------- gzip


def test_isal_is_gzip(tmp_path):
    """FEED-064: bytes and errors are those of the standard library, on sound, cut and damaged files."""
    pytest.importorskip("isal", reason="the extra `gzip` is not installed")
    text = "".join(f"{number * number},{number}\n" for number in range(200_000)).encode()
    packed = gzip.compress(text)
    damaged = bytearray(packed)
    damaged[len(packed) // 2] ^= 255
    path = tmp_path / "file.gz"
    for data in (packed, packed + gzip.compress(b"more\n"), packed[:-9], packed[:-8] + bytes(8), bytes(damaged)):
        path.write_bytes(data)
        found = []
        for opened in (tape.open_bytes, gzip.open):
            with opened(path) as stream:
                try:
                    found.append(b"".join(iter(lambda stream=stream: stream.read(1 << 16), b"")))
                except (OSError, EOFError, zlib.error) as error:
                    found.append(type(error).__name__)
        if data == bytes(damaged):
            assert {*found} <= {"error", "BadGzipFile", "EOFError"}
        else:
            assert found[0] == found[1]
    assert isinstance(tape.open_bytes(path).raw, tape.FastGzip)
    assert isinstance(tape.open_bytes(path), io.BufferedReader)
