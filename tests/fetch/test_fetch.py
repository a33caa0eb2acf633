"""`perp fetch` against a real server on this machine: whole, cut, changed, broken."""

import gzip
from datetime import date
from http.client import HTTPResponse, IncompleteRead
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import load_market
from engine.cli import main
from engine.feeds import open_feed
from engine.feeds.formats import sniff_file
from engine.feeds.tardis import NAME
from engine.fetch import fetch_datasets, list_datasets
from tests.fetch.site import (
    EMPTY,
    FIRST,
    HEADER,
    SECOND,
    TRADES,
    TRADES_FILE,
    TRADES_PART,
    leave_part,
    make_trades,
    names,
)

ROOT = Path(__file__).resolve().parents[2]


# ---------------------------------------------------------------- whole


def test_whole(site, fetch, tmp_path):
    """The file is the server's, under the name the reader knows, and the reader reads it (FETCH-001, FETCH-002)."""
    status, text, err = fetch()
    assert (status, err) == (0, "")
    file = tmp_path / "tapes" / TRADES_FILE
    assert file.read_bytes() == FIRST
    assert names(tmp_path / "tapes") == [TRADES_FILE]
    assert site.asked[0][0] == TRADES
    assert text.splitlines()[0] == f"fetched  {len(FIRST):>15,}  {file}"
    tape = sniff_file(file)
    assert (tape.kind, tape.exchange, tape.symbol) == ("trades", "binance-futures", "BTCUSDT")


def test_json(site, fetch, tmp_path):
    """One object and nothing else: files, bytes, seconds, resumed (FETCH-006)."""
    status, summary, err = fetch("--json")
    assert (status, err) == (0, "")
    seconds = summary.pop("seconds")
    assert 0 < seconds < 60
    file = {
        "file": str(tmp_path / "tapes" / TRADES_FILE),
        "url": site.host + TRADES,
        "state": "fetched",
        "bytes": len(FIRST),
        "fetched_bytes": len(FIRST),
    }
    sums = {"bytes": len(FIRST), "fetched_bytes": len(FIRST), "resumed": 0}
    assert summary == {"schema": 1, "files": [file], **sums}


def test_several(site, fetch, tmp_path):
    """Every type of every symbol of every day, once each; names as Tardis.dev writes them (FETCH-001)."""
    site.files = {
        f"/v1/binance-futures/{kind}/2024/{month}/01/{symbol}.csv.gz": make_trades(1, rows=3)
        for kind in ("trades", "quotes")
        for month in ("08", "09")
        for symbol in ("BTCUSDT", "ETH-USDT")
    }
    status, summary, _ = fetch(
        "--json", symbols="btcusdt,ETH/USDT,BTCUSDT", days="2024-08-01,2024-09-01", types="trades,quotes"
    )
    assert status == 0
    assert sorted(path for path, _ in site.asked) == sorted(site.files)
    assert len(names(tmp_path / "tapes")) == len(summary["files"]) == 8
    assert all(NAME.fullmatch(name) for name in names(tmp_path / "tapes"))


def test_what_came_can_be_played(site, fetch, tmp_path, monkeypatch):
    """The demo's own tape by way of a server: the reader finds in it what is in the original (FETCH-001)."""
    monkeypatch.setenv("TARDIS_API_KEY", "TD.secret")
    demo = ROOT / "replay_data" / "synthetic_btc"
    for file in demo.glob("*.csv.gz"):
        exchange, kind, day, symbol = NAME.fullmatch(file.name).group("exchange", "kind", "date", "symbol")
        site.files[f"/v1/{exchange}/{kind}/{day.replace('-', '/')}/{symbol}.csv.gz"] = file.read_bytes()
    given = ["fetch", "tardis", "synthetic", "BTCUSDT", "2025-03-03", "--base-url", site.url]
    assert main([*given, "--out", str(tmp_path / "tapes")]) == 0
    markets = [load_market(demo / "market.toml")]
    original, fetched = open_feed(demo, markets), open_feed(tmp_path / "tapes", markets)
    assert len(fetched.files) == 3
    assert next(fetched.chunks(9_999)).tobytes() == next(original.chunks(9_999)).tobytes()


def test_what_is_asked_if_nothing_is_said(site, fetch, tmp_path, monkeypatch):
    """Without --types what a replay takes, without --out `tapes`, which git is told to leave alone (FETCH-001)."""
    monkeypatch.chdir(tmp_path)
    for kind in ("incremental_book_L2", "derivative_ticker"):
        site.files[TRADES.replace("trades", kind)] = FIRST
    assert main(["fetch", "tardis", "binance-futures", "BTCUSDT", "2024-08-01", "--base-url", site.url]) == 0
    assert {NAME.fullmatch(name)["kind"] for name in names(tmp_path / "tapes") if name != ".gitignore"} == {
        "trades",
        "incremental_book_L2",
        "derivative_ticker",
    }
    assert (tmp_path / "tapes" / ".gitignore").read_text() == "*\n"


def test_already_there(site, fetch, tmp_path):
    """What is there is not asked for again, not even where the server is gone (FETCH-002)."""
    assert fetch()[0] == 0
    asked = len(site.asked)
    site.files = {}
    status, summary, _ = fetch("--json")
    assert status == 0
    assert (summary["files"][0]["state"], summary["bytes"], summary["fetched_bytes"]) == ("there", len(FIRST), 0)
    assert len(site.asked) == asked
    assert (tmp_path / "tapes" / TRADES_FILE).read_bytes() == FIRST


def test_no_data(site, fetch, tmp_path):
    """The venue's empty file is said, not kept, and no error: the others still come (FETCH-002)."""
    site.files = {TRADES: EMPTY, TRADES.replace("trades", "quotes"): FIRST}
    status, text, _ = fetch(types="trades,quotes")
    assert status == 0
    assert "no data" in text.splitlines()[0]
    assert names(tmp_path / "tapes") == [TRADES_FILE.replace("trades", "quotes")]


def test_progress(site, fetch):
    """On request, or on a terminal, which this is not (FETCH-006)."""
    assert fetch()[2] == ""
    site.files = {TRADES.replace("BTC", "ETH"): FIRST}
    status, _, err = fetch("--progress", symbols="ETHUSDT")
    assert status == 0
    assert f"ETHUSDT.part  {len(FIRST) / 1e6:,.1f} of {len(FIRST) / 1e6:,.1f} MB 100 %" in err


# ---------------------------------------------------------------- cut, changed, broken


def test_a_cut_connection_goes_on(site, fetch, tmp_path):
    """The next try asks for the rest only, of the same version (FETCH-003, FETCH-004)."""
    site.plan = [("cut", 30_000)]
    status, summary, err = fetch("--json")
    assert status == 0
    assert site.ranges() == [None, "bytes=30000-"]
    assert site.asked[1][1]["If-Range"] == site.validators(FIRST)["ETag"]
    assert f"the connection ended after 30,000 of {len(FIRST):,} bytes; again in" in err
    assert summary["fetched_bytes"] == len(FIRST)
    assert summary["resumed"] == 0  # by this run itself
    assert (tmp_path / "tapes" / TRADES_FILE).read_bytes() == FIRST


def test_a_cut_as_newer_pythons_report_it(site, fetch, tmp_path, monkeypatch):
    """An exception or an empty block, the same comes of it (FETCH-004)."""
    real = HTTPResponse.read1

    def read_strictly(response, count):
        block = real(response, count)
        if not block and response.length:
            raise IncompleteRead(block, response.length)
        return block

    monkeypatch.setattr(HTTPResponse, "read1", read_strictly)
    site.plan = [("cut", 30_000)]
    status, _, err = fetch()
    assert status == 0
    assert f"the connection ended after 30,000 of {len(FIRST):,} bytes; again in" in err
    assert (tmp_path / "tapes" / TRADES_FILE).read_bytes() == FIRST


@pytest.mark.parametrize("tags", ["strong", "weak", "date"])
def test_an_earlier_run_is_gone_on_from(site, fetch, tmp_path, tags):
    """A run that gave up leaves a `.part`; the same command later brings the rest only (FETCH-003)."""
    site.tags = tags
    site.plan = [("cut", 50_000), 500]
    status, _, err = fetch("--retries", "1")
    assert status == 4
    assert "gave up after 2 tries, the same command goes on" in err
    assert names(tmp_path / "tapes") == [TRADES_PART, f"{TRADES_PART}.tag"]
    status, summary, _ = fetch("--json")
    assert status == 0
    assert site.ranges()[-1] == "bytes=50000-"
    assert summary["resumed"] == 1
    assert summary["files"][0]["state"] == "resumed"
    assert (summary["bytes"], summary["fetched_bytes"]) == (len(FIRST), len(FIRST) - 50_000)
    assert names(tmp_path / "tapes") == [TRADES_FILE]
    assert (tmp_path / "tapes" / TRADES_FILE).read_bytes() == FIRST


@pytest.mark.parametrize("heeds_if_range", [True, False])
@pytest.mark.parametrize("tags", ["strong", "date"])
def test_a_changed_file_begins_anew(site, fetch, tmp_path, tags, heeds_if_range):
    """Also where the server goes on with the new version in spite of If-Range (FETCH-003)."""
    site.tags, site.heeds_if_range = tags, heeds_if_range
    site.plan = [("cut", 50_000), 500]
    assert fetch("--retries", "1")[0] == 4
    site.files[TRADES] = SECOND
    status, summary, _ = fetch("--json")
    assert status == 0
    assert summary["resumed"] == 0
    assert (tmp_path / "tapes" / TRADES_FILE).read_bytes() == SECOND
    assert names(tmp_path / "tapes") == [TRADES_FILE]


def test_two_versions_are_never_one_file(site, fetch, tmp_path):
    """Files of several gzip members, cut between two: head of one and tail of the other would be sound (FETCH-003)."""
    old, new = (
        b"".join(gzip.compress(HEADER.encode() + text * 999, 0) for text in pair)
        for pair in ((b"a", b"b"), (b"c", b"d"))
    )
    assert len(old) == len(new)
    site.files[TRADES], site.heeds_if_range = old, False
    site.plan = [("cut", len(old) // 2), 500]
    assert fetch("--retries", "1")[0] == 4
    site.files[TRADES] = new
    status, _, err = fetch()
    assert status == 0
    assert "the server went on with something else; again" in err
    assert (tmp_path / "tapes" / TRADES_FILE).read_bytes() == new


def test_another_piece_than_asked_for(site, fetch, tmp_path):
    """A server, or a cache before it, that begins elsewhere is not believed (FETCH-003)."""
    site.plan, site.slip = [("cut", 50_000)], 10
    status, _, err = fetch()
    assert status == 0
    assert "the server went on with something else; again" in err
    assert (tmp_path / "tapes" / TRADES_FILE).read_bytes() == FIRST


@pytest.mark.parametrize("tag", [None, "", '"made up"', "Thu\nX-Injected: 1"])
def test_a_part_of_no_known_version_begins_anew(site, fetch, tmp_path, tag):
    """Nothing of it survives in the file, and what stands in the tag stays one header (FETCH-003)."""
    leave_part(tmp_path / "tapes", b"something else", tag)
    assert fetch()[0] == 0
    assert (tmp_path / "tapes" / TRADES_FILE).read_bytes() == FIRST
    assert site.ranges() == ["bytes=14-" if tag == '"made up"' else None]
    assert "X-Injected" not in site.asked[0][1]


@pytest.mark.parametrize("what", ["ranges", "versions"])
def test_a_server_that_knows_no(site, fetch, tmp_path, what):
    """Without ranges, or without a name for its version, every try brings the whole file (FETCH-003)."""
    if what == "ranges":
        site.knows_ranges = False
    else:
        site.tags = "none"
    site.plan = [("cut", 50_000)]
    assert fetch()[0] == 0
    assert (tmp_path / "tapes" / TRADES_FILE).read_bytes() == FIRST


def test_a_length_nobody_states(site, fetch, tmp_path):
    """In chunks a cut is still seen and gone on from; where only the connection ends, the gzip says (FETCH-002)."""
    site.length, site.plan = "chunked", [("cut", 50_000)]
    status, _, err = fetch("--progress")
    assert status == 0
    assert "the connection ended early; again in" in err
    assert site.ranges() == [None, "bytes=50000-"]
    assert (tmp_path / "tapes" / TRADES_FILE).read_bytes() == FIRST
    (tmp_path / "tapes" / TRADES_FILE).unlink()
    site.length, site.plan = "unknown", [("cut", 0), ("cut", 50_000)]
    status, _, err = fetch()
    assert status == 4
    assert "nothing came; again in" in err
    assert "expected a sound gzip file" in err
    assert names(tmp_path / "tapes") == []
    assert fetch()[0] == 0
    assert (tmp_path / "tapes" / TRADES_FILE).read_bytes() == FIRST


def test_interrupted_while_checking(site, fetch, tmp_path):
    """All bytes are there already: nothing comes twice, and the file is checked before it gets its name (FETCH-003)."""
    tag = site.validators(FIRST)["ETag"]
    leave_part(tmp_path / "tapes", FIRST, tag)
    status, summary, _ = fetch("--json")
    assert (status, summary["fetched_bytes"], summary["resumed"]) == (0, 0, 1)
    assert names(tmp_path / "tapes") == [TRADES_FILE]
    (tmp_path / "tapes" / TRADES_FILE).unlink()
    leave_part(tmp_path / "tapes", FIRST + b"more", tag)  # more than there is: anew
    assert fetch()[0] == 0
    assert (tmp_path / "tapes" / TRADES_FILE).read_bytes() == FIRST
    (tmp_path / "tapes" / TRADES_FILE).unlink()
    leave_part(tmp_path / "tapes", bytes(len(FIRST)), tag)  # as many, but others: anew
    assert fetch()[0] == 0
    assert (tmp_path / "tapes" / TRADES_FILE).read_bytes() == FIRST


def test_a_body_that_is_always_cut(site, fetch, tmp_path):
    """A server without ranges that never gets further is given up, whatever it sends (FETCH-004)."""
    site.knows_ranges = False
    site.plan = [("cut", 40_000)] * 4
    status, text, err = fetch("--retries", "2")
    assert (status, text) == (4, "")
    assert len(site.asked) == 3
    last = err.splitlines()[-1]
    assert last.startswith(f"perp: error: {site.host}{TRADES}: the connection ended after 40,000 of ")
    assert "gave up after 3 tries" in last
    assert TRADES_FILE not in names(tmp_path / "tapes")


def test_tries_without_a_byte_are_what_counts(site, fetch):
    """Ten cuts are put up with where each try brings more (FETCH-004)."""
    site.plan = [("cut", 8_000)] * 10
    assert fetch("--retries", "1")[0] == 0
    assert len(site.asked) == 11


BROKEN = {
    "cut": FIRST[: len(FIRST) // 2],
    "a bit": FIRST[:5_000] + bytes([FIRST[5_000] ^ 1]) + FIRST[5_001:],
    "checksum": FIRST[:-8] + bytes(4) + FIRST[-4:],
    "a page": b"<html>Please log in to the network.</html>",
    "more behind": FIRST + b"more",
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_gets_no_name(site, fetch, tmp_path, case):
    """Its size is what the server said, and it is still no sound gzip file: exit 4, nothing is kept (FETCH-002)."""
    site.files[TRADES] = BROKEN[case]
    status, text, err = fetch()
    assert (status, text) == (4, "")
    assert f"{site.host}{TRADES}: expected a sound gzip file, got: " in err
    assert names(tmp_path / "tapes") == []
    assert len(site.asked) == 1


def test_broken_where_it_was_joined(site, fetch, tmp_path):
    """The same version, damaged on our disk: once more from the beginning, and no more than that (FETCH-002)."""
    leave_part(tmp_path / "tapes", b"x" * 1_000, site.validators(FIRST)["ETag"])
    assert fetch()[0] == 0
    assert site.ranges() == ["bytes=1000-", None]
    assert (tmp_path / "tapes" / TRADES_FILE).read_bytes() == FIRST
    (tmp_path / "tapes" / TRADES_FILE).unlink()
    site.files[TRADES] = BROKEN["a bit"]
    leave_part(tmp_path / "tapes", b"x" * 1_000, site.validators(BROKEN["a bit"])["ETag"])
    site.plan, site.asked = ["plain", ("cut", 20_000)], []
    assert fetch()[0] == 4
    assert site.ranges() == ["bytes=1000-", None, "bytes=20000-"]  # joined again: still only once more
    assert names(tmp_path / "tapes") == []


@given(
    plan=st.lists(
        st.sampled_from([500, 503, 429, "plain"]) | st.tuples(st.just("cut"), st.integers(0, 120_000)), max_size=6
    ),
    tags=st.sampled_from(["strong", "weak", "date", "none"]),
    knows_ranges=st.booleans(),
    part=st.binary(max_size=20) | st.integers(0, len(FIRST)),
)
def test_whatever_happens_the_file_is_the_servers(lasting_site, plan, tags, knows_ranges, part):
    """Cuts, errors and leftovers in any order: in the end the file is whole (FETCH-002, FETCH-003, FETCH-004)."""
    site = lasting_site
    site.plan, site.tags, site.knows_ranges = list(plan), tags, knows_ranges
    with TemporaryDirectory() as folder:
        leave_part(
            Path(folder), FIRST[:part] if isinstance(part, int) else part, site.validators(FIRST).get("ETag", "")
        )
        datasets = list_datasets("binance-futures", ["BTCUSDT"], [date(2024, 8, 1)], ["trades"])
        (result,) = fetch_datasets(datasets, Path(folder), base_url=site.url, retries=7)
        assert result.file.read_bytes() == FIRST
        assert names(Path(folder)) == [TRADES_FILE]
        assert 0 <= result.fetched_bytes <= result.size_bytes == len(FIRST)
