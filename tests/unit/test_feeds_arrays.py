"""Recordings in arrays: hftbacktest's events and our own tapes of commands.

No sample of hftbacktest's could be had: its files are made here, with the layout and the flags its sources define.
"""

import io
import json
import struct
import zipfile
from decimal import Decimal

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import Exchange, codes
from engine.codes import REJECTED
from engine.contract import Market, Tier
from engine.errors import DataError
from engine.feeds import CommandTape, arrays, open_feed, tape
from engine.feeds.hftbacktest import (
    BEST,
    BUY,
    CLEAR,
    DEPTH,
    EVENT,
    EXCHANGE_SIDE,
    LOCAL_SIDE,
    SELL,
    SNAPSHOT,
    TRADE,
    count_floats,
)
from engine.feeds.hftbacktest import count_float as count
from engine.feeds.inspect import inspect_tape
from engine.feeds.instruments import UnitCache
from engine.layout import COMMAND
from engine.replay.files import RunFolder

BOTH = EXCHANGE_SIDE | LOCAL_SIDE
T0 = 1_680_652_700_000_000_000
NAN = float("nan")


def make_market(symbol="BTCUSDT", tick="0.1", lot="0.001"):
    tiers = (Tier(floor=Decimal(0), initial=Decimal("0.01"), maintenance=Decimal("0.005")),)
    sizes = {"tick_size": Decimal(tick), "lot_size": Decimal(lot), "price_max": Decimal(100_000)}
    return Market(symbol=symbol, tiers=tiers, **sizes)


def event(kind, px, qty, ns=0, flags=BOTH | BUY):
    return (kind | flags, T0 + ns - 5, T0 + ns, px, qty, 0, 0, 0.0)


EVENTS = [
    event(SNAPSHOT, 100.1, 1.5),
    event(SNAPSHOT, 100.0, 2.0),
    event(SNAPSHOT, 100.30000000000001, 0.1 + 0.2, flags=BOTH | SELL),
    event(TRADE, 100.3, 0.1, 10),
    event(DEPTH, 100.3, 0.2, 10, BOTH | SELL),
    event(BEST, 100.1, 1.5, 10),
    event(BEST, 100.3, 0.2, 10, BOTH | SELL),
    event(DEPTH, 99.9, 7.0, 20),
]


def write_events(folder, events=EVENTS, name="btcusdt_20230405.npz", dtype=EVENT):
    path = folder / name
    data = np.array(events, dtype)
    if name.endswith("npz"):
        np.savez_compressed(path, data=data)
    else:
        np.save(path, data)
    return path


def read(path, market=None):
    return np.concatenate(list(open_feed(path, [market or make_market()]).chunks()))


def levels(rows):
    rows = rows[rows["kind"] == codes.LEVEL]
    fields = rows[["ts_ns", "side", "price_tick", "qty_lot"]].tolist()
    return [(int(ts) - T0, side * price, qty) for ts, side, price, qty in fields]


def fault(path, **options):
    with pytest.raises(DataError) as caught:
        inspect_tape(path, is_strict=True, **options)
    return str(caught.value)


# ---------------------------------------------------------------- hftbacktest


@pytest.mark.parametrize("name", ["btcusdt_20230405.npz", "BTCUSDT.npy"])
def test_events_become_levels_prints_and_quotes(tmp_path, name):
    """Packed or not; floats are the nearest tick and lot.

    Source: FEED-052, FEED-054.
    """
    path = write_events(tmp_path, name=name)
    rows = read(path)
    assert levels(rows) == [(0, 1001, 1500), (0, 1000, 2000), (0, -1003, 300), (10, -1003, 200), (20, 999, 7000)]
    prints = rows[rows["kind"] == codes.PRINT][["ts_ns", "side", "price_tick", "qty_lot"]].tolist()
    assert prints == [(T0 + 10, 1, 1003, 100)]
    facts = inspect_tape(path, is_strict=True)
    assert (facts["rows"], facts["symbols"], facts["crossed"]) == (8, ["BTCUSDT"], 0)
    assert (facts["bbo_checked"], facts["bbo_equal"]) == (1, 1)


def test_events_make_the_exchanges_book(tmp_path):
    """Source: FEED-054."""
    market = make_market()
    exchange = Exchange([market])
    for chunk in open_feed(write_events(tmp_path), [market]).chunks():
        assert not (exchange.apply(chunk)["kind"] == REJECTED).any()
    assert exchange.depth(0) == {"bids": [(1001, 1500), (1000, 2000), (999, 7000)], "asks": [(1003, 200)]}


def test_events_of_the_exchange_side_are_not_ours(tmp_path):
    """Where the two orders differ an event stands there twice; arrival is the local one.

    Source: FEED-054.
    """
    events = [event(DEPTH, 100, 1, 0, EXCHANGE_SIDE | BUY), event(DEPTH, 100, 1, 3, LOCAL_SIDE | BUY)]
    path = write_events(tmp_path, events)
    assert levels(read(path)) == [(3, 1000, 1000)]
    assert inspect_tape(path)["exchange_only"] == 1


def test_a_clear_takes_the_best_levels_down_to_its_price(tmp_path):
    """Of its side; without a price the whole side, without a side the whole book.

    Source: FEED-054.
    """
    book = [event(DEPTH, 100 - at, 1) for at in range(4)] + [event(DEPTH, 101, 1, flags=BOTH | SELL)]
    partly = [event(CLEAR, 98, 0, 10), event(SNAPSHOT, 99, 3, 10)]
    assert levels(read(write_events(tmp_path, [*book, *partly])))[5:] == [(10, 1000, 0), (10, 980, 0), (10, 990, 3000)]
    side = [event(CLEAR, NAN, 0, 10)]
    assert sorted(levels(read(write_events(tmp_path, [*book, *side])))[5:]) == [
        (10, price, 0) for price in (970, 980, 990, 1000)
    ]
    whole = [event(CLEAR, 0, 0, 10, BOTH), event(DEPTH, 50, 1, 10)]
    path = write_events(tmp_path, [*book, *whole])
    assert len(levels(read(path))[5:]) == 6
    assert inspect_tape(path)["resets"] == 1


@given(st.integers(1, 10**9), st.sampled_from(["0.1", "0.01", "0.000001", "0.25", "5"]))
def test_floats_that_were_ticks_are_ticks(ticks, unit):
    """However the float was come by; half a tick off is refused.

    Source: FEED-054.
    """
    units = UnitCache(Decimal(unit), 1, 1 << 62)
    assert count(float(ticks * Decimal(unit)), units) == ticks
    assert count(ticks * float(unit), units) == ticks
    values = np.array([ticks * float(unit), (ticks + 0.4) * float(unit), float("nan"), -1.0, 0.0])
    counts, refused = count_floats(values, units)
    assert (counts[0], list(refused)) == (ticks, [1, 2, 3, 4])
    with pytest.raises(ValueError, match="within 1e-9"):
        count(float((ticks % 1000 + Decimal("0.5")) * Decimal(unit)), units)


@pytest.mark.parametrize(
    ("bad", "place", "reason"),
    [
        (event(DEPTH, 100.05, 1, 30), ":9: field 'px': expected a multiple of 0.1 within 1e-9", "bad px"),
        (event(DEPTH, NAN, 1, 30), ":9: field 'px'", "bad px"),
        (event(DEPTH, float("inf"), 1, 30), ":9: field 'px'", "bad px"),
        (event(DEPTH, 0.0, 1, 30), ":9: field 'px'", "bad px"),
        (event(DEPTH, 100.1, -1, 30), ":9: field 'qty'", "bad qty"),
        (event(TRADE, 100.1, 0, 30), ":9: field 'qty'", "bad qty"),
        (event(TRADE, 1e9, 1, 30), ":9: field 'px'", "bad px"),
        (event(DEPTH, 100.1, 1, 30, BOTH), ":9: field 'ev': expected a buy or sell flag", "bad ev"),
        (event(10, 100.1, 1, 30), ":9: field 'ev': expected depth, trade", "bad ev"),
    ],
)
def test_event_faults_are_counted_or_raised(tmp_path, bad, place, reason):
    """Source: FEED-054, FEED-003."""
    path = write_events(tmp_path, [*EVENTS, bad])
    markets = [make_market()]
    assert inspect_tape(path, markets)["dropped_by"] == {reason: 1}
    assert place in fault(path, markets=markets)


def test_events_whose_stamps_fall_are_counted_or_raised(tmp_path):
    """Source: FEED-054."""
    path = write_events(tmp_path, [*EVENTS, event(DEPTH, 99.9, 1, 15)])
    assert inspect_tape(path)["reversed_local"] == 1
    assert ":9: field 'local_ts'" in fault(path)


def test_events_of_another_symbol_are_refused(tmp_path):
    """Source: FEED-054."""
    with pytest.raises(DataError, match="expected a configured market"):
        open_feed(write_events(tmp_path), [make_market("ETHUSDT")])
    assert "expected the symbol" in fault(write_events(tmp_path, name="_.npz"))
    assert "expected at least one event" in fault(write_events(tmp_path, []))


# ---------------------------------------------------------------- our own tapes


def make_commands(count=5):
    rows = np.zeros(count, COMMAND)
    rows["kind"], rows["ts_ns"] = codes.LEVEL, T0 + np.arange(count)
    rows["side"], rows["price_tick"], rows["qty_lot"] = 1, 1000 - np.arange(count), 7
    return rows


def make_meta(*markets, number=1):
    return {"format": number, "markets": msgspec.to_builtins(list(markets or [make_market()])), "made_by": "a test"}


def write_tape(folder, rows=None, meta=None, text=None, pack=np.savez, name="tape.npz"):
    path = folder / name
    text = text if text is not None else json.dumps(meta or make_meta())
    pack(path, meta=np.frombuffer(text.encode(), np.uint8), commands=make_commands() if rows is None else rows)
    return path


@pytest.mark.parametrize("pack", [np.savez, np.savez_compressed])
def test_a_tape_is_its_commands(tmp_path, pack):
    """In pieces of any size, twice the same; the exchange takes them.

    Source: FEED-052, FEED-053.
    """
    rows = make_commands(100_000)
    rows["price_tick"] = 1000 - np.arange(100_000) % 50
    feed = open_feed(write_tape(tmp_path, rows, pack=pack), [make_market()])
    assert isinstance(feed, CommandTape)
    chunks = list(feed.chunks(30_000))
    assert [len(chunk) for chunk in chunks] == [30_000, 30_000, 30_000, 10_000]
    assert np.concatenate(chunks).tobytes() == rows.tobytes() == np.concatenate(list(feed.chunks(7))).tobytes()
    assert (feed.symbols, feed.counts["commands"], feed.counts["level"]) == (("BTCUSDT",), 100_000, 100_000)
    exchange = Exchange([make_market()])
    assert not (exchange.apply(chunks[0])["kind"] == REJECTED).any()
    assert exchange.depth(0)["bids"][0] == (1000, 7)


def test_a_tape_is_inspected(tmp_path):
    """Source: FEED-053."""
    rows = make_commands()
    rows["kind"][3] = codes.PRINT
    facts = inspect_tape(write_tape(tmp_path, rows), is_strict=True)
    assert (facts["rows"], facts["symbols"], facts["streams"]) == (5, ["BTCUSDT"], {"level": 4, "print": 1})
    assert (facts["first_ns"], facts["last_ns"]) == (T0, T0 + 4)
    assert facts["files"][0]["format"] == "commands"


def test_a_reproduction_is_a_tape(tmp_path):
    """What a run leaves behind where an invariant broke can be played again.

    Source: FEED-053, CLI-002.
    """
    rows = make_commands()
    with RunFolder(tmp_path / "run") as folder:
        folder.write_reproduction([rows[:2], rows[2:]], make_meta())
        path = folder.finish({}, "") / "reproduction.npz"
    assert np.concatenate(list(open_feed(path, [make_market()]).chunks())).tobytes() == rows.tobytes()


@pytest.mark.parametrize(
    "markets", [[make_market("ETHUSDT")], [make_market(tick="0.01")], [make_market(lot="0.01")], [make_market()] * 2]
)
def test_a_tape_is_played_in_its_own_markets(tmp_path, markets):
    """Symbols, tick and lot sizes, in order; nothing else of them matters.

    Source: FEED-053.
    """
    path = write_tape(tmp_path)
    with pytest.raises(DataError, match=r"tape.npz: field 'markets': expected the tape's \(BTCUSDT in 0.1 by 0.001\)"):
        open_feed(path, markets)
    other = msgspec.structs.replace(make_market(), fund="other")
    assert open_feed(path, [other]).symbols == ("BTCUSDT",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{}", "field 'meta': expected format and markets"),
        ("no json", "field 'meta': expected format and markets"),
        (json.dumps(make_meta(number=2)), "field 'meta': expected format 1, got 2"),
        (" " * (1 << 20) + json.dumps(make_meta()), "field 'meta.npy': expected a text of at most 1048576 bytes"),
    ],
)
def test_a_tape_says_what_it_is(tmp_path, text, said):
    """Source: FEED-053."""
    assert said in fault(write_tape(tmp_path, text=text))


def test_a_tape_may_say_it_as_a_string(tmp_path):
    """Source: FEED-053."""
    path = tmp_path / "tape.npz"
    np.savez(path, commands=make_commands(), meta=json.dumps(make_meta()))
    assert inspect_tape(path)["symbols"] == ["BTCUSDT"]
    np.savez(path, commands=make_commands())
    assert "sound zip archive" in fault(path)


def test_a_tape_whose_stamps_fall_is_counted_or_raised(tmp_path):
    """Counted, the stamp before it is held.

    Source: FEED-053.
    """
    rows = make_commands()
    rows["ts_ns"][2] = T0 - 9
    path = write_tape(tmp_path, rows)
    assert inspect_tape(path)["reversed_local"] == 1
    feed = open_feed(path, is_strict=False)
    assert np.concatenate(list(feed.chunks()))["ts_ns"].tolist() == [T0, T0 + 1, T0 + 1, T0 + 3, T0 + 4]
    assert "tape.npz:2: field 'ts_ns'" in fault(path)


def test_a_tape_stands_alone(tmp_path):
    """Source: FEED-053."""
    write_tape(tmp_path)
    write_events(tmp_path)
    assert "expected a tape of commands alone" in fault(tmp_path)


# ---------------------------------------------------------------- arrays that are not what they say


def write_raw(path, header, body=b"", members=("commands",), method=zipfile.ZIP_DEFLATED):
    """Write an archive whose member claims what `header` says."""
    text = str(header).encode().ljust(117) + b"\n"
    array = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + body
    meta = io.BytesIO()
    np.save(meta, np.frombuffer(json.dumps(make_meta()).encode(), np.uint8))
    with zipfile.ZipFile(path, "w", method) as archive:
        for name in members:
            archive.writestr(f"{name}.npy", array)
        archive.writestr("meta.npy", meta.getvalue())
    return path


def describe(count, dtype=COMMAND, order=False):
    return {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": order, "shape": (count,)}


@pytest.mark.parametrize(
    ("header", "body", "said"),
    [
        (describe(10**15), b"\0" * 64, "field 'header': expected an array in C order of at most 4398046511104 bytes"),
        (describe(10**9), b"\0" * 64, "field 'commands.npy': expected 1000000000 rows of 64 bytes, there are 64 bytes"),
        (describe(1), b"\0" * (64 << 10), "field 'commands.npy': expected 1 rows of 64 bytes, there are 65536 bytes"),
        (describe(-1), b"", "field 'header'"),
        (describe(1, order=True), b"\0" * 64, "field 'header': expected an array in C order"),
        (describe(1, EVENT), b"\0" * 64, "field 'commands.npy': expected the commands of format 1"),
        (describe(1, np.dtype(object)), b"\0" * 64, "field 'commands.npy': expected the commands of format 1"),
        ("no header at all", b"", "field 'header': expected the header of a numpy array"),
    ],
)
def test_arrays_that_claim_what_they_do_not_hold_are_refused(tmp_path, header, body, said):
    """Before anything of that size is made room for.

    Source: FEED-052.
    """
    assert said in fault(write_raw(tmp_path / "tape.npz", header, body))


def test_arrays_of_another_shape_or_type_are_refused(tmp_path):
    """Source: FEED-052."""
    for number, array in enumerate([make_commands().reshape(1, 5), np.zeros(3)]):
        np.savez(tmp_path / f"{number}.npz", commands=array, meta=np.zeros(1, np.uint8))
        assert "expected" in fault(tmp_path / f"{number}.npz")
    np.savez(tmp_path / "z.npz", data=np.zeros((3, 6)))
    assert "expected a recording in one of the formats" in fault(tmp_path / "z.npz")


@pytest.mark.parametrize("cut", [30, 200, 1_000])
def test_archives_cut_off_are_refused(tmp_path, cut):
    """Source: FEED-052."""
    path = write_tape(tmp_path, pack=np.savez_compressed)
    whole = path.read_bytes()
    path.write_bytes(whole[: min(cut, len(whole) - 1)])
    assert "expected a sound zip archive" in fault(path) or "expected a readable file" in fault(path)


def test_arrays_cut_off_or_damaged_are_refused(tmp_path):
    """A file shorter than its header says, and one whose packed bytes were changed.

    Source: FEED-052.
    """
    path = write_events(tmp_path, name="btcusdt.npy")
    path.write_bytes(path.read_bytes()[:-9])
    assert "expected 8 rows of 64 bytes" in fault(path)
    rows = make_commands(50_000)
    rows["order_id"] = np.random.default_rng(1).integers(0, 1 << 60, len(rows))
    path = write_tape(tmp_path, rows, pack=np.savez_compressed)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(DataError, match="expected a sound file"):
        inspect_tape(path)


def test_an_array_is_never_in_memory_whole(tmp_path):
    """A piece at a time, however long it is.

    Source: FEED-052.
    """
    path = write_tape(tmp_path, make_commands(200_000))
    sizes = [len(piece) for piece in arrays.read_rows(path, COMMAND, "commands.npy")]
    assert sum(sizes) == 200_000
    assert max(sizes) <= arrays.PIECE_ROWS


def test_an_archive_is_closed_with_its_member(tmp_path, monkeypatch):
    """Nothing is left for the garbage collector, whatever it finds when; until then the member reads."""
    path, opened = tmp_path / "a.zip", []
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.csv", b"some,text\n")
        archive.writestr("b.csv", b"other\n")

    def open_archive(source):
        archive = zipfile.ZipFile(source)
        opened.append(archive.fp)
        return archive

    monkeypatch.setattr(tape, "open_archive", open_archive)
    with tape.open_bytes(path, "a.csv") as stream:
        assert not opened[0].closed
        assert stream.read() == b"some,text\n"
    with pytest.raises(DataError, match="expected a zip archive of one file, it has 2"):
        tape.open_bytes(path)
    assert [file.closed for file in opened] == [True, True]
