"""Databento's DBN files as rows: its own test data, and what is found wrong with others."""

from decimal import Decimal

import pytest

from engine import codes
from engine.codes import ROW_LEVEL, ROW_TRADE
from engine.errors import DataError, MissingExtraError
from engine.feeds import databento, open_feed
from engine.feeds.inspect import inspect_tape
from tests.unit.test_feeds_orders import first_fault, make_market, play, read_rows, tell

DBN = "data/databento_dbn_fixtures/tests/data"
SCHEMAS = {"mbo": 2, "trades": 2, "tbbo": 2, "mbp-1": 2, "mbp-10": 2, "bbo-1s": 4, "bbo-1m": 4}


def list_fixtures(shared, schema=None):
    pytest.importorskip("databento_dbn")
    pytest.importorskip("zstandard")
    files = sorted((shared / DBN).iterdir())
    return [file for file in files if schema is None or file.name.startswith(f"test_data.{schema}.")]


@pytest.mark.parametrize("schema", SCHEMAS)
def test_databento_reads_its_fixtures_of_every_version(shared, schema):
    """Each schema's files of every version tell the same records of ESH1, whatever they are packed in.

    Source: FEED-051.
    """
    files = [file for file in list_fixtures(shared, schema) if not file.name.endswith(".dbz")]
    assert len(files) >= 3
    told = set()
    for file in files:
        rows, feed = read_rows(file, decimals={("GLBX.MDP3", "ESH1"): (2, 0)})
        assert dict(feed.findings.rows) == {schema: SCHEMAS[schema]}
        facts = inspect_tape(file, is_strict=True)
        assert (facts["symbols"], facts["dropped"], facts["gaps"]) == (["ESH1"], 0, 0)
        assert facts["files"][0]["exchange"] == "GLBX.MDP3"
        told.add(rows.tobytes())
    assert len(told) == 1


def test_databento_tells_trades_quotes_and_ladders(shared):
    """Prices are billionths, sizes whole; a ladder is a book of its own.

    Source: FEED-051.
    """
    at = {schema: list_fixtures(shared, schema)[0] for schema in ("trades", "mbp-1", "mbp-10", "tbbo")}
    rows = {schema: read_rows(file, decimals={("GLBX.MDP3", "ESH1"): (2, 0)})[0] for schema, file in at.items()}
    assert tell(rows["trades"])[-1][:4] == ("trade", -1, 372_025, 21)
    assert rows["trades"]["ts_ns"][-1] == 1_609_160_400_108_142_648
    assert rows["trades"]["exchange_ns"][-1] == 1_609_160_400_107_665_963
    assert [row[:4] for row in tell(rows["mbp-1"])[-2:]] == [("quote", 1, 372_025, 24), ("quote", -1, 372_050, 12)]
    assert [row[0] for row in tell(rows["tbbo"])] == ["trade", "quote", "quote"] * 2
    ladder = rows["mbp-10"][-21:]
    assert [row[0] for row in tell(ladder)] == ["clear"] + ["level"] * 20
    assert ladder["flags"][-1] & codes.ENDS_MESSAGE
    assert [row[:4] for row in tell(ladder)][1] == ("level", 1, 372_025, 24)


@pytest.mark.parametrize("schema", ["mbp-10", "trades"])
def test_databento_plays_in_an_exchange(shared, schema):
    """Source: FEED-051."""
    market = make_market("ESH1", "0.25", "1", 20_000, quote_unit=Decimal("0.01"))
    exchange, told, _ = play(list_fixtures(shared, schema)[0], market)
    if schema == "mbp-10":
        assert exchange.depth(0)["bids"][0] == (14_881, 24)
        assert len(exchange.depth(0, 20)["asks"]) == 10
    else:
        assert told["kind"].tolist() == [codes.PRINT] * 2


def test_databento_refuses_the_others_by_name(shared):
    """Source: FEED-051."""
    refused = [file for file in list_fixtures(shared) if file.name.split(".")[1] not in SCHEMAS or ".dbz" in file.name]
    assert len(refused) > 40
    for file in refused:
        with pytest.raises(DataError) as caught:
            open_feed(file)
        schema = file.name.split(".")[1]
        said = "DBZ" if ".dbz" in file.name else "fragment" if ".frag" in file.name else f"got {schema}"
        assert said in str(caught.value)


def make_dbn(*records, schema="mbo", start=0):
    dbn = pytest.importorskip("databento_dbn")
    metadata = dbn.Metadata(
        dataset="XEUR.EOBI",
        start=start,
        stype_out=dbn.SType.INSTRUMENT_ID,
        stype_in=dbn.SType.RAW_SYMBOL,
        schema=dbn.Schema.from_str(schema),
        symbols=["X"],
        partial=[],
        not_found=[],
        mappings=[],
        ts_out=False,
        version=3,
    )
    return bytes(metadata.encode()) + b"".join(bytes(record) for record in records)


def mbo(action, side, number=1, price=100, size=1, flags=128, ts=1_000, instrument=7):
    dbn = pytest.importorskip("databento_dbn")
    return dbn.MBOMsg(
        publisher_id=1,
        instrument_id=instrument,
        ts_event=ts - 5,
        order_id=number,
        price=price * 10**9,
        size=size,
        action=dbn.Action.from_str(action) if hasattr(dbn.Action, "from_str") else dbn.Action(action),
        side=dbn.Side.from_str(side) if hasattr(dbn.Side, "from_str") else dbn.Side(side),
        ts_recv=ts,
        flags=flags,
        channel_id=0,
        ts_in_delta=0,
        sequence=0,
    )


def write_dbn(folder, *records, **options):
    path = folder / "x.mbo.dbn"
    path.write_bytes(make_dbn(*records, **options))
    return path


def test_databento_fills_are_checked_where_they_happen(tmp_path):
    """A trade's fills come before the cancels that take them out: the second of them is the first in time then.

    Source: FEED-046, FEED-051.
    """
    path = write_dbn(
        tmp_path,
        mbo("R", "N"),
        mbo("A", "A", 1, 100, 5),
        mbo("A", "A", 2, 100, 5),
        mbo("A", "A", 3, 101, 5),
        mbo("T", "B", 0, 101, 12, flags=0),
        mbo("F", "A", 1, 100, 5, flags=0),
        mbo("F", "A", 2, 100, 5, flags=0),
        mbo("F", "A", 3, 101, 2, flags=0),
        mbo("C", "A", 1, 100, 5, flags=0),
        mbo("C", "A", 2, 100, 5, flags=0),
        mbo("C", "A", 3, 101, 2),
        mbo("C", "A", 3, 101, 1, ts=2_000),
        mbo("M", "A", 3, 102, 2, ts=3_000),
    )
    rows, feed = read_rows(path, decimals={("XEUR.EOBI", "7"): (0, 0)})
    assert [feed.findings.counts[f"trades_{name}"] for name in ("checked", "at_best", "first_in_time")] == [3, 3, 3]
    assert tell(rows, ROW_TRADE) == [("trade", 1, 101, 12, 0)]
    assert [row[2:4] for row in tell(rows[rows["ts_ns"] == 1_000], ROW_LEVEL)] == [
        (100, 5),
        (100, 10),
        (101, 5),
        (100, 0),
        (101, 3),
    ]
    assert tell(rows[rows["ts_ns"] == 3_000], ROW_LEVEL) == [("level", -1, 101, 0, 0), ("level", -1, 102, 2, 0)]
    assert feed.findings.counts["fills_alone"] == 0


@pytest.mark.parametrize(
    ("record", "found"),
    [
        (("C", "A", 9), {"unknown order": 1}),
        (("F", "A", 1, 100, 9), {"bad quantity": 1}),
        (("A", "A", 1, 100, 5), {"duplicate id": 1}),
        (("A", "N", 2, 100, 5), {"bad side": 1}),
        (("A", "A", 2, -5, 5), {"bad price": 1}),
        (("A", "A", 2, 100, 0), {"bad quantity": 1}),
        (("A", "A", 2, 100, 5, 128 | 4), {"gaps": 1}),
        (("A", "A", 2, 100, 5, 128, 900), {"reversed_local": 1}),
    ],
)
def test_databento_faults_are_counted_or_raised(tmp_path, record, found):
    """Source: FEED-051, FEED-003."""
    path = write_dbn(tmp_path, mbo("R", "N"), mbo("A", "A", 1, 100, 5), mbo(*record))
    facts = inspect_tape(path)
    names = {name: facts["dropped_by"].get(name) or facts.get(name) for name in found}
    assert (names, len(facts["faults"])) == (found, 1)
    assert "x.mbo.dbn:3" in str(first_fault(path))


def test_databento_orders_from_before_the_recording_are_counted(tmp_path):
    """A recording without the book it begins with may cancel what it never told.

    Source: FEED-051.
    """
    facts = inspect_tape(write_dbn(tmp_path, mbo("C", "A", 9), mbo("A", "B", 1)), is_strict=True)
    assert (facts["unknown_orders"], facts["dropped"]) == (1, 0)


def test_databento_refuses_broken_files(tmp_path, monkeypatch):
    """Cut off inside a record, metadata that claims more than is allowed, two schemas at once, no library.

    Source: FEED-051.
    """
    whole = make_dbn(mbo("R", "N"), mbo("A", "A", 1, 100, 5))
    path = tmp_path / "x.mbo.dbn"
    path.write_bytes(whole[:-7])
    assert "the file ends inside of one" in str(first_fault(path))
    path.write_bytes(whole[:60])
    assert "the file ends inside of one" in str(first_fault(path))
    path.write_bytes(b"DBN\x03" + b"\xff" * 100)
    assert "expected metadata of at most" in str(first_fault(path))
    path.write_bytes(whole)
    (tmp_path / "y.trades.dbn").write_bytes(make_dbn(schema="trades"))
    assert "expected files of one schema, got mbo and trades" in str(first_fault(tmp_path))
    monkeypatch.setitem(__import__("sys").modules, "databento_dbn", None)
    with pytest.raises(MissingExtraError, match=r"perp-engine\[databento\]"):
        databento.require_library(path)
