"""`perp convert`: one tape as Tardis CSV, Parquet and commands, and back (FEED-065..FEED-069)."""

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import load_market
from engine.cli import main
from engine.codes import (
    ENDS_MESSAGE,
    IN_SNAPSHOT,
    NO_RATE,
    OFF_MARKET,
    ROW_ADD,
    ROW_CLEAR,
    ROW_DELETE,
    ROW_FILL,
    ROW_FUNDING,
    ROW_INDEX,
    ROW_INTEREST,
    ROW_LAST,
    ROW_LEVEL,
    ROW_LIQUIDATION,
    ROW_MARK,
    ROW_PREDICTED,
    ROW_QUOTE,
    ROW_TRADE,
)
from engine.contract import Market
from engine.errors import ConfigError, DataError, EngineError, MissingExtraError
from engine.feeds import convert, open_feed
from engine.feeds.convert import ParquetWriter, convert_tape
from engine.feeds.formats import FORMATS, sniff_file
from engine.feeds.inspect import rescale
from engine.feeds.instruments import Instruments, RescaleError
from engine.feeds.synthetic import Request, write_tape
from engine.feeds.tardis_writer import TardisWriter
from engine.layout import RECORD

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "replay_data" / "synthetic_btc"
polars = pytest.importorskip("polars", reason="the extra `parquet` is not installed")

NS = 1_680_652_700_000_000_000
MIDNIGHT_US = 1_680_652_800_000_000


def read_rows(paths, **options):
    """Return every row of a tape, its units found out, and the instruments' names."""
    decimals = {}
    while True:
        tape = open_feed(paths, decimals=decimals, **options)
        try:
            return np.concatenate(list(tape.records())), [(row.exchange, row.symbol) for row in tape.instruments]
        except RescaleError as error:
            rescale(decimals, error)


def read_commands(paths, markets):
    return np.concatenate(list(open_feed(paths, markets).chunks()))


def read_lines(folder, part):
    """Return the lines below the header of the files whose name holds `part`, in order of their names."""
    lines = []
    for path in sorted(folder.glob(f"*{part}*")):
        lines += gzip.decompress(path.read_bytes()).decode().splitlines()[1:]
    return lines


def make_rows(*rows):
    """Return RECORD rows from dicts; a stamp counts microseconds from NS."""
    made = np.zeros(len(rows), RECORD)
    for at, row in enumerate(rows):
        for name, value in row.items():
            made[at][name] = value
        made[at]["ts_ns"] = NS + 1000 * row.get("ts_ns", 0)
        made[at]["exchange_ns"] = made[at]["ts_ns"] + row.get("exchange_ns", -1000)
    return made


def make_instruments(*symbols):
    instruments = Instruments()
    for symbol in symbols or ("BTCUSDT",):
        instruments.find("venue", symbol)
    return instruments


def write_tardis(folder, rows, instruments=None):
    writer = TardisWriter(folder, instruments or make_instruments())
    writer.add(rows)
    return dict(writer.finish()), +writer.losses


@pytest.fixture(scope="module")
def recording(shared, tmp_path_factory):
    """Return the files of 110 seconds of BTCUSDT, up to ten after midnight, with the spot trades beside them."""
    folder = tmp_path_factory.mktemp("recording")
    for path in (shared / "data" / "btcusdt_4min").glob("binance*_2023-04-05_*"):
        header, *lines = gzip.decompress(path.read_bytes()).decode().splitlines()
        kept = [line for line in lines if int(line.split(",")[3]) < MIDNIGHT_US + 10_000_000]
        (folder / path.stem).write_text("\n".join([header, *kept, ""]))
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def converted(recording, tmp_path_factory):
    """Return a folder with the recording as Parquet, and that as Tardis CSV again, beside the rows of the recording."""
    folder = tmp_path_factory.mktemp("converted")
    facts = convert_tape(recording, folder / "tape.parquet")
    assert facts["to"] == "parquet"
    assert facts["lossy"] == []
    assert convert_tape(folder / "tape.parquet", folder / "tardis")["lossy"] == []
    return folder, *read_rows(recording)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Return the folder of a made-up tape of seconds."""
    folder = tmp_path_factory.mktemp("small")
    write_tape(Request(seed=5, seconds=3), folder)
    return folder


# ---------------------------------------------------------------- round trips of real recordings


def test_parquet_holds_every_row(recording, converted):
    """Source: FEED-067."""
    converted, rows, names = converted
    again, names_again = read_rows(converted / "tape.parquet")
    assert names == names_again
    assert np.array_equal(rows, again)
    frame = polars.read_parquet(converted / "tape.parquet" / "trades.parquet")
    assert frame.schema["price"] == polars.Decimal(38, 18)
    spot = frame.filter(polars.col("exchange") == "binance")
    text = next(path for path in recording if path.name.startswith("binance_")).read_text()
    lines = [line.split(",") for line in text.splitlines()[1:]]
    assert [format(price.normalize(), "f") for price in spot["price"]] == [
        line[6].rstrip("0").rstrip(".") for line in lines
    ]
    assert spot["ts_ns"].to_list() == [1000 * int(line[3]) for line in lines]
    assert spot["side"].to_list() == [line[5] for line in lines]


def test_tardis_to_parquet_to_tardis_says_the_same(recording, converted):
    """Row by row the same values; where a text was canonical, the same text (FEED-066)."""
    converted, rows, _ = converted
    for path in recording:
        before = path.read_text().splitlines()[1:]
        exchange, _, rest = path.name.partition("_")
        kind = rest.partition("_2023")[0]
        after = read_lines(converted / "tardis", f"{exchange}_{kind}_")
        assert len(before) == len(after)
        for old, new in zip(before, after, strict=True):
            for text, shown in zip(old.split(","), new.split(","), strict=True):
                canonical = text.rstrip("0").rstrip(".") if "." in text else text
                assert shown == canonical
    again, _ = read_rows(converted / "tardis")
    assert np.array_equal(rows, again)


def test_files_hang_on_the_rows_alone(recording, converted, tmp_path):
    """Whatever the rows were read from, the bytes are the same (FEED-066, FEED-067)."""
    converted, *_ = converted
    convert_tape(recording, tmp_path / "tardis")
    convert_tape(converted / "tardis", tmp_path / "again.parquet")
    for mine, other in ((tmp_path / "tardis", "tardis"), (tmp_path / "again.parquet", "tape.parquet")):
        files = sorted(mine.iterdir())
        assert [path.name for path in files] == sorted(path.name for path in (converted / other).iterdir())
        for path in files:
            assert path.read_bytes() == (converted / other / path.name).read_bytes(), path.name


def test_files_are_named_by_day(converted):
    """Midnight lies in the recording: a file per UTC day (FEED-066)."""
    converted, *_ = converted
    names = {path.name for path in (converted / "tardis").iterdir()}
    for day in ("2023-04-04", "2023-04-05"):
        assert f"binance-futures_incremental_book_L2_{day}_BTCUSDT.csv.gz" in names
        lines = read_lines(converted / "tardis", f"book_L2_{day}")
        assert {int(line.split(",")[3]) < MIDNIGHT_US for line in lines} == {day.endswith("04")}


def test_commands_are_those_of_the_tape(recording, tmp_path):
    """Source: FEED-068."""
    market = load_market(DEMO / "market.toml")
    target = tmp_path / "tape.npz"
    facts = convert_tape(recording, target, markets=[market])
    with np.load(target, allow_pickle=False) as archive:
        assert set(archive.files) == {"commands", "meta"}
        commands = archive["commands"]
        meta = json.loads(archive["meta"].tobytes())
    expected = read_commands(recording, [market])
    assert np.array_equal(commands, expected)
    assert facts["files"] == [{"file": "tape.npz", "rows": len(expected)}]
    assert meta["format"] == 1
    assert msgspec.convert(meta["markets"], list[Market]) == [market]
    assert meta["made_by"].startswith("perp-engine ")
    lossy = {loss["what"]: loss["rows"] for loss in facts["lossy"]}
    assert lossy["quotes"] == 2 * len(recording[2].read_text().splitlines()) - 2
    assert lossy["ticker"] == len(recording[0].read_text().splitlines()) - 1
    assert [path.name for path in tmp_path.iterdir()] == ["tape.npz"]


@pytest.fixture(scope="module")
def samples(shared):
    """Return {format name: its smallest recording that can be read}, of whatever formats there are."""
    found = {}
    for path in sorted(
        (path for path in (shared / "data").rglob("*") if path.is_file()), key=lambda p: p.stat().st_size
    ):
        try:
            file = sniff_file(path)
            if file is None or file.format.name in found or path.stat().st_size > 1 << 20:
                continue
            rows, names = read_rows(path, is_strict=False)
        except (EngineError, ValueError):
            continue
        if len(rows) > 100:
            found[file.format.name] = (path, rows, names)
    return found


@pytest.mark.parametrize("name", [format.name for format in FORMATS if format.name != "parquet"])
def test_every_format_comes_through(samples, tmp_path, name):
    """Any format to Parquet and back: equal rows; to Tardis CSV: equal rows, or it is said what is not (FEED-069)."""
    if name not in samples:
        pytest.skip(f"no recording in {name} that can be read alone")
    path, rows, names = samples[name]
    assert convert_tape(path, tmp_path / "all.parquet", is_strict=False)["lossy"] == []
    again, names_again = read_rows(tmp_path / "all.parquet")
    assert names == names_again
    assert np.array_equal(rows, again)
    facts = convert_tape(tmp_path / "all.parquet", tmp_path / "tardis")
    again, names_again = read_rows(tmp_path / "tardis")
    assert {names[market] for market in np.unique(rows["market"])} >= set(names_again)
    for market_again, instrument in enumerate(names_again):
        own, own_again = rows[rows["market"] == names.index(instrument)], again[again["market"] == market_again]
        own_again["market"] = names.index(instrument)
        if not facts["lossy"]:
            assert np.array_equal(own, own_again)
        trades, trades_again = (array[array["kind"] == ROW_TRADE] for array in (own, own_again))
        for field in ("id", "price", "qty"):
            assert np.array_equal(trades[field], trades_again[field])
        assert find_book(own) == find_book(own_again)


def find_book(rows):
    """Return the book that the rows of one instrument leave, by side and price."""
    book = {}
    for row in rows[(rows["kind"] == ROW_LEVEL) | (rows["kind"] == ROW_CLEAR)]:
        key = int(row["side"]), int(row["price"])
        if row["kind"] == ROW_CLEAR:
            book.clear()
        elif row["qty"]:
            book[key] = int(row["qty"])
        else:
            book.pop(key, None)
    return book


# ---------------------------------------------------------------- every kind of row

EVERY_KIND = make_rows(
    {"kind": ROW_TRADE, "ts_ns": 0, "id": 2**63 - 1, "side": 1, "price": 7, "qty": 3},
    {"kind": ROW_TRADE, "ts_ns": 0, "id": 5, "side": -1, "price": 7, "qty": 3, "flags": OFF_MARKET},
    {"kind": ROW_TRADE, "ts_ns": 0, "side": 0, "price": 7, "qty": 3},
    {"kind": ROW_LIQUIDATION, "ts_ns": 1, "id": 4, "side": -1, "price": 8, "qty": 1},
    {"kind": ROW_QUOTE, "ts_ns": 1, "side": 1, "price": 5, "qty": 2},
    {"kind": ROW_QUOTE, "ts_ns": 1, "side": -1},
    {"kind": ROW_CLEAR, "ts_ns": 1, "flags": IN_SNAPSHOT},
    {"kind": ROW_LEVEL, "ts_ns": 1, "side": 1, "price": 5, "qty": 2, "flags": IN_SNAPSHOT | ENDS_MESSAGE, "id": 9},
    {"kind": ROW_LEVEL, "ts_ns": 2, "side": 1, "price": 5, "qty": 0, "flags": ENDS_MESSAGE},
    {"kind": ROW_MARK, "ts_ns": 2, "price": 10**17 + 1},
    {"kind": ROW_ADD, "ts_ns": 3, "id": 77, "side": -1, "price": 9, "qty": 4, "flags": IN_SNAPSHOT},
    {"kind": ROW_DELETE, "ts_ns": 3, "id": 77, "side": -1, "price": 9, "qty": 0},
    {"kind": ROW_FILL, "ts_ns": 3, "id": 77, "side": -1, "price": 9, "qty": 1},
    {"kind": ROW_FUNDING, "ts_ns": 4, "price": -27_540_000, "qty": NS},
    {"kind": ROW_PREDICTED, "ts_ns": 4, "price": 1},
    {"kind": ROW_INTEREST, "ts_ns": 4, "qty": 123_456_789},
    {"kind": ROW_LAST, "ts_ns": 4, "price": 7},
    {"kind": ROW_INDEX, "ts_ns": 4, "price": 28_159_756_428_570},
    {"kind": ROW_MARK, "ts_ns": 4, "price": 28_147_273_734_130},
    {"kind": ROW_FUNDING, "ts_ns": 5, "qty": NS, "flags": NO_RATE},
    {"kind": ROW_FUNDING, "ts_ns": 5, "price": 0},
)


def write_parquet(folder, rows, instruments):
    folder.mkdir()
    writer = ParquetWriter(folder, instruments)
    writer.add(rows)
    files = writer.finish()
    assert not +writer.losses
    return dict(files)


def test_parquet_holds_every_kind_of_row(tmp_path):
    """Source: FEED-067."""
    files = write_parquet(tmp_path / "tape", EVERY_KIND, make_instruments())
    assert sum(files.values()) == len(EVERY_KIND)
    again, names = read_rows(tmp_path / "tape")
    assert names == [("venue", "BTCUSDT")]
    assert np.array_equal(EVERY_KIND, again)
    ticker = polars.read_parquet(tmp_path / "tape" / "derivative_ticker.parquet")
    rate = ticker.filter(polars.col("kind") == "funding").row(0, named=True)
    assert (str(rate["value"].normalize()), rate["due_ns"]) == ("-0.00002754", NS)


@given(
    st.lists(
        st.tuples(
            st.sampled_from((ROW_TRADE, ROW_LEVEL, ROW_QUOTE, ROW_ADD, ROW_MARK)),
            st.integers(0, 1),
            st.sampled_from((-1, 1)),
            st.integers(1, 2**62),
            st.integers(1, 2**62),
            st.integers(0, 3),
        ),
        min_size=1,
        max_size=30,
    )
)
def test_parquet_keeps_order_and_numbers(tmp_path_factory, drawn):
    """Rows of equal stamps keep their order through files of several types, numbers are exact to 2**62 (FEED-067)."""
    rows = np.zeros(len(drawn), RECORD)
    for at, (kind, market, side, price, qty, step) in enumerate(drawn):
        rows[at]["kind"], rows[at]["market"], rows[at]["price"] = kind, market, price
        rows[at]["ts_ns"] = int(rows[at - 1]["ts_ns"]) + step if at else NS
        if kind != ROW_MARK:
            rows[at]["side"], rows[at]["qty"] = side, qty
    folder = tmp_path_factory.mktemp("drawn")
    write_parquet(folder / "tape", rows, make_instruments("A", "B"))
    again, names = read_rows(folder / "tape")
    assert names == [("venue", "A"), ("venue", "B")]
    assert np.array_equal(rows, again)


def test_tardis_says_what_it_cannot_hold(tmp_path):
    """Source: FEED-066, FEED-069."""
    files, losses = write_tardis(tmp_path, EVERY_KIND)
    assert losses == {"orders": 3, "ids": 1, "off_market": 1}
    assert files["venue_derivative_ticker_2023-04-04_BTCUSDT.csv.gz"] == 4
    again, _ = read_rows(tmp_path)
    kept = EVERY_KIND[~np.isin(EVERY_KIND["kind"], (ROW_ADD, ROW_DELETE, ROW_FILL))].copy()
    kept["side"][kept["flags"] & OFF_MARKET != 0] = 0
    kept["flags"] &= np.uint8(~(ENDS_MESSAGE | OFF_MARKET) & 0xFF)
    kept["id"][kept["kind"] == ROW_LEVEL] = 0
    again["flags"][again["kind"] == ROW_CLEAR] |= IN_SNAPSHOT
    assert np.array_equal(kept, again)
    ticker = read_lines(tmp_path, "ticker")
    assert ticker[1].endswith(
        ",1680652700000000,-0.00002754,0.000000000001,123.456789,0.000000007,28159.75642857,28147.27373413"
    )


def test_finer_stamps_are_cut_and_counted(tmp_path):
    rows = EVERY_KIND[[0, 8, 9]].copy()
    rows["ts_ns"][:2] += 7
    rows["exchange_ns"][2] = 0
    _, losses = write_tardis(tmp_path, rows)
    assert losses == {"nanoseconds": 2, "venue_stamps": 1}
    again, _ = read_rows(tmp_path)
    assert again["ts_ns"].tolist() == [NS, NS + 2000, NS + 2000]
    assert again["exchange_ns"][2] == NS + 2000


def test_messages_of_one_microsecond_and_another_order_are_counted(tmp_path):
    level = {"kind": ROW_LEVEL, "side": 1, "qty": 2, "flags": ENDS_MESSAGE}
    rows = make_rows(level | {"price": 1}, level | {"price": 2}, {"kind": ROW_TRADE, "side": 1, "price": 7, "qty": 3})
    _, losses = write_tardis(tmp_path, rows)
    assert losses == {"messages": 1, "order": 1}


def snapshot(ts, *levels):
    rows = [{"kind": ROW_CLEAR, "ts_ns": ts, "flags": IN_SNAPSHOT}]
    rows += [{"kind": ROW_LEVEL, "ts_ns": ts, "side": s, "price": p, "qty": 2, "flags": IN_SNAPSHOT} for s, p in levels]
    rows[-1]["flags"] |= ENDS_MESSAGE
    return rows


def test_snapshots_become_lines_that_say_so(tmp_path):
    """A snapshot after changes begins anew; one right after another, or an empty one, is told as changes (FEED-066)."""
    change = {"kind": ROW_LEVEL, "side": 1, "price": 4, "qty": 1, "flags": ENDS_MESSAGE}
    rows = make_rows(
        *snapshot(0, (1, 5), (-1, 6)),
        change | {"ts_ns": 1},
        *snapshot(2, (1, 3), (-1, 6)),  # after changes: anew
        *snapshot(3, (-1, 7)),  # right after: bid 3 and ask 6 go
        *snapshot(4),  # empty: ask 7 goes
        change | {"ts_ns": 5},
        *snapshot(6, (1, 2)),
    )
    _, losses = write_tardis(tmp_path, rows)
    assert losses == {"snapshots": 2}
    told = [line.split(",")[4:6] for line in read_lines(tmp_path, "book")]
    assert told == [
        ["true", "bid"],
        ["true", "ask"],
        ["false", "bid"],
        ["true", "bid"],
        ["true", "ask"],
        ["false", "ask"],
        ["false", "bid"],
        ["false", "ask"],
        ["false", "ask"],
        ["false", "bid"],
        ["true", "bid"],
    ]
    again, _ = read_rows(tmp_path)
    for ts in range(7):
        until, until_again = (array[array["ts_ns"] <= NS + 1000 * ts] for array in (rows, again))
        assert find_book(until) == find_book(until_again), ts


def test_a_quote_of_one_side_keeps_the_other(tmp_path):
    quote = {"kind": ROW_QUOTE, "qty": 1}
    rows = make_rows(
        quote | {"side": 1, "price": 5},
        quote | {"side": -1, "price": 6},
        quote | {"side": -1, "price": 7, "ts_ns": 1},
        quote | {"side": 1, "price": 4, "ts_ns": 2},
        quote | {"side": 1, "price": 3, "ts_ns": 2},
    )
    write_tardis(tmp_path, rows)
    prices = [line.split(",")[5:7] for line in read_lines(tmp_path, "quotes")]
    assert [[round(float(text) * 10**9) for text in pair] for pair in prices] == [[6, 5], [7, 5], [7, 4], [7, 3]]


def test_names_become_those_of_files(tmp_path):
    rows = make_rows(
        {"kind": ROW_TRADE, "side": 1, "price": 7, "qty": 3},
        {"kind": ROW_TRADE, "side": 1, "price": 7, "qty": 3, "market": 1},
    )
    files, _ = write_tardis(tmp_path, rows, make_instruments("btc/usd", "btc:usd"))
    assert files == {"venue_trades_2023-04-04_BTC-USD.csv.gz": 2}
    _, names = read_rows(tmp_path)
    assert sorted(names) == [("venue", "btc/usd"), ("venue", "btc:usd")]
    (tmp_path / "other").mkdir()
    with pytest.raises(DataError, match="CSV can hold"):
        write_tardis(tmp_path / "other", rows[:1], make_instruments("a,b"))


# ---------------------------------------------------------------- reading Parquet


@pytest.fixture
def tape(tmp_path):
    write_parquet(tmp_path / "tape", EVERY_KIND, make_instruments())
    return tmp_path / "tape"


def rewrite(path, **columns):
    """Write a Parquet file anew with other columns and the same metadata."""
    meta = {"perp.tape": polars.read_parquet_metadata(path)["perp.tape"]}
    polars.read_parquet(path).with_columns(**columns).write_parquet(path, metadata=meta)


def test_bad_parquet_is_named(tape, tmp_path):
    """Source: FEED-067."""
    trades = tape / "trades.parquet"
    whole = trades.read_bytes()
    trades.write_bytes(whole[:-20])
    with pytest.raises(DataError, match=r"trades.parquet: expected a whole Parquet file"):
        read_rows(trades)
    trades.write_bytes(whole)
    rewrite(trades, amount=polars.lit(1.0))
    with pytest.raises(DataError, match=r"trades.parquet: field 'amount': expected a column of Decimal"):
        read_rows(trades)
    trades.write_bytes(whole)
    rewrite(trades, side=polars.Series(["buy", "up", None]))
    with pytest.raises(DataError, match=r"trades.parquet:2: field 'side': expected buy or sell"):
        read_rows(trades)
    rows, _ = read_rows(trades, is_strict=False)
    assert len(rows) == 2
    trades.write_bytes(whole)
    rewrite(trades, row=polars.Series([0, 0, 1]))
    with pytest.raises(DataError, match=r"field 'row': expected numbers that grow"):
        read_rows(trades)
    trades.write_bytes(whole)
    meta = json.loads(polars.read_parquet_metadata(trades)["perp.tape"]) | {"format": 2}
    polars.read_parquet(trades).write_parquet(trades, metadata={"perp.tape": json.dumps(meta)})
    with pytest.raises(DataError, match="expected a tape of format 1"):
        read_rows(trades)
    polars.read_parquet(trades).write_parquet(trades, metadata={"perp.tape": "{"})
    with pytest.raises(DataError, match="expected the metadata of a tape"):
        read_rows(trades)
    (tmp_path / "copy.parquet").write_bytes((tape / "quotes.parquet").read_bytes())
    trades.write_bytes(whole)
    with pytest.raises(DataError, match=r"expected each recording once, .*quotes\.parquet begins with the same rows"):
        read_rows([tape, tmp_path / "copy.parquet"])
    metadata = polars.read_parquet_metadata(tape / "quotes.parquet")
    metadata = {"perp.tape": metadata["perp.tape"]}
    polars.read_parquet(tape / "quotes.parquet").write_parquet(
        tmp_path / "copy.parquet", compression="uncompressed", metadata=metadata
    )
    with pytest.raises(DataError, match="expected one file of quotes of this tape"):
        read_rows([tape, tmp_path / "copy.parquet"])


def test_other_parquet_is_left_alone(tape):
    polars.DataFrame({"account": [1]}).write_parquet(tape / "positions.parquet")
    feed = open_feed(tape)
    assert [path.name for path, _ in feed.skipped] == ["positions.parquet"]
    with pytest.raises(DataError, match="expected a recording"):
        open_feed(tape / "positions.parquet")


def test_parquet_needs_polars(tape, tmp_path, capsys, monkeypatch):
    """Source: CLI-002."""
    monkeypatch.setitem(sys.modules, "polars", None)
    for path in (tape, tape / "trades.parquet"):
        with pytest.raises(MissingExtraError, match=r"perp-engine\[parquet\]"):
            open_feed(path)
    assert main(["inspect", str(tape)]) == 3
    assert "reading Parquet needs" in capsys.readouterr().err
    assert main(["convert", str(DEMO), str(tmp_path / "out.parquet")]) == 3
    assert "pip install 'perp-engine[parquet]'" in capsys.readouterr().err
    assert not (tmp_path / "out.parquet").exists()


def test_tapes_of_two_conversions_are_merged_by_time(tmp_path):
    """Whose a symbol is, its book decides (FEED-067)."""
    early, late = EVERY_KIND[:3].copy(), EVERY_KIND[6:9].copy()
    write_parquet(tmp_path / "early", early, make_instruments())
    others = Instruments()
    others.find("other", "BTCUSDT")
    write_parquet(tmp_path / "late", late, others)
    rows, names = read_rows([tmp_path / "late", tmp_path / "early"])
    assert names == [("venue", "BTCUSDT"), ("other", "BTCUSDT")]
    assert rows["market"].tolist() == [0, 0, 0, 1, 1, 1]
    assert np.array_equal(rows[3:]["price"], late["price"])


def test_a_market_takes_only_its_rows(converted):
    """With markets the book's exchange is the market's, and rows of others are not asked for (FEED-067)."""
    converted, everything, names = converted
    market = load_market(DEMO / "market.toml")
    tape = open_feed(converted / "tape.parquet", [market])
    rows = np.concatenate(list(tape.records()))
    assert tape.instruments.rows[0].exchange == "binance-futures"
    assert tape.findings.counts["unused"] == (everything["market"] == names.index(("binance", "BTCUSDT"))).sum() > 0
    expected = np.concatenate(
        list(open_feed(sorted((converted / "tardis").glob("binance-futures*")), [market]).records())
    )
    rows = rows[rows["price"] * (rows["kind"] == ROW_LEVEL) <= 10**9]
    assert np.array_equal(rows, expected)


# ---------------------------------------------------------------- the verb


def test_convert_says_what_it_wrote(small, tmp_path, capsys):
    """Source: FEED-065."""
    out = tmp_path / "new" / "out"
    assert main(["convert", str(small), str(out), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["schema"] == 1
    assert facts["to"] == "tardis"
    assert {row["file"] for row in facts["files"]} == {path.name for path in out.iterdir()}
    for row in facts["files"]:
        assert len(read_lines(out, row["file"])) == row["rows"]
    assert np.array_equal(read_rows(small)[0], read_rows(out)[0])
    assert main(["convert", str(out), str(tmp_path / "folder"), "--to", "parquet"]) == 0
    assert "derivative_ticker.parquet" in capsys.readouterr().out
    assert np.array_equal(read_rows(small)[0], read_rows(tmp_path / "folder")[0])


def test_an_earlier_conversion_is_replaced_only_when_asked(small, tmp_path, capsys):
    """Source: FEED-065."""
    for out, options in ((tmp_path / "out", []), (tmp_path / "out.npz", ["--market", str(DEMO / "market.toml")])):
        command = ["convert", str(small), str(out), *options]
        assert main(command) == 0
        assert main(command) == 5
        assert "--overwrite" in capsys.readouterr().err
        assert main([*command, "--overwrite"]) == 0
    (tmp_path / "out" / "diary.txt").write_text("mine")
    assert main(["convert", str(small), str(tmp_path / "out"), "--overwrite"]) == 5
    assert "it holds diary.txt" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "out.npz"]


def test_bad_targets_are_refused(small, tmp_path, capsys):
    """Source: FEED-065, CLI-002."""
    write_tardis(tmp_path, EVERY_KIND)
    file = next(tmp_path.iterdir())
    held = file.read_bytes()
    cases = [
        (tmp_path, tmp_path, [], "another place"),
        (file, file, [], "another place"),
        (file, tmp_path, ["--overwrite"], "another place"),
        (small, file, [], "this is a file"),
        (small, tmp_path / "a.npz", [], "--market"),
        (small, tmp_path, ["--to", "npz", "--market", str(DEMO / "market.toml")], "this is a folder"),
        (small, file / "below", [], "cannot be written"),
    ]
    for source, out, options, expected in cases:
        assert main(["convert", str(source), str(out), *options]) == 5, expected
        assert expected in capsys.readouterr().err
    assert file.read_bytes() == held
    with pytest.raises(ConfigError, match="known: tardis, parquet, npz"):
        convert_tape(small, tmp_path / "new", "csv")
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("name", ["out", "out.parquet", "out.npz"])
def test_nothing_is_left_after_an_error(tmp_path, capsys, name):
    """Strict: the first fault ends it, named; lenient: it is left out and counted (FEED-012, CLI-002)."""
    rows = make_rows(
        *({"kind": ROW_TRADE, "ts_ns": at, "side": 1, "price": 7 * 10**8, "qty": 10**9} for at in range(9))
    )
    (tmp_path / "in").mkdir()
    write_tardis(tmp_path / "in", rows)
    (path,) = (tmp_path / "in").iterdir()
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    lines[5] = lines[5].replace("buy", "up")
    path.write_bytes(gzip.compress("\n".join(lines).encode() + b"\n"))
    command = ["convert", str(tmp_path / "in"), str(tmp_path / "made" / name), "--market", str(DEMO / "market.toml")]
    assert main(command) == 4
    assert "BTCUSDT.csv.gz:6: field 'side'" in capsys.readouterr().err
    assert [entry.name for entry in tmp_path.iterdir()] == ["in"]
    assert main([*command, "--lenient", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["dropped"] == 1
    assert facts["dropped_by"] == {"bad side": 1}
    assert facts["rows"] == {"trade": 8}


def test_units_are_found_out(tmp_path):
    """A text finer than the units guessed starts the reading anew; what was written until then is gone (FEED-065)."""
    (tmp_path / "in").mkdir()
    write_tardis(tmp_path / "in", EVERY_KIND[:1])
    (path,) = (tmp_path / "in").iterdir()
    text = gzip.decompress(path.read_bytes()).decode()
    (tmp_path / "in" / path.name).write_bytes(
        gzip.compress((text + text.splitlines()[1].rpartition(",")[0] + ",0.0000000000123\n").encode())
    )
    for name in ("out", "out.parquet"):
        convert_tape(tmp_path / "in", tmp_path / name)
        assert np.array_equal(read_rows(tmp_path / "in")[0], read_rows(tmp_path / name)[0])
    assert read_lines(tmp_path / "out", "trades")[1].endswith(",0.0000000000123")


def test_a_tape_without_commands_is_refused(tmp_path):
    """A ticker that only tells the last price makes none (FEED-068)."""
    (tmp_path / "in").mkdir()
    write_tardis(tmp_path / "in", make_rows({"kind": ROW_LAST, "price": 10**14}))
    with pytest.raises(DataError, match="makes commands"):
        convert_tape(tmp_path / "in", tmp_path / "a.npz", markets=[load_market(DEMO / "market.toml")])
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_an_interrupt_leaves_nothing(shared, tmp_path):
    """Source: CLI-002."""
    source = shared / "data" / "binance_usdm_btc_20230405_funding" / "tardis_schema"
    command = [sys.executable, "-m", "engine", "convert", str(source), str(tmp_path / "out")]
    running = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not any(any(part.iterdir()) for part in tmp_path.glob(".out*.part")):
        assert time.monotonic() < deadline
        assert running.poll() is None
        time.sleep(0.005)
    os.kill(running.pid, signal.SIGINT)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "interrupted" in err
    assert not list(tmp_path.iterdir())


def test_formats_names_what_is_said():
    """The keys of --json and every kind of loss stand in formats.md (FEED-069)."""
    text = (ROOT / "engine" / "docs" / "formats.md").read_text(encoding="utf-8")
    from engine.feeds import tardis_writer

    for name in (*tardis_writer.LOSSES, *convert.NPZ_LOSSES):
        assert f"`{name}`" in text
