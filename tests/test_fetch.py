"""`perp fetch` against a real server on this machine: whole, cut, changed, broken, refused, not there at all."""

import gzip
import hashlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
from contextlib import closing
from datetime import date
from http.client import HTTPResponse, IncompleteRead
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.error import URLError

import pytest
from hypothesis import given
from hypothesis import strategies as st

import engine.fetch
from engine import load_market
from engine.cli import main
from engine.errors import ConfigError, DataError
from engine.feeds import open_feed
from engine.feeds.formats import sniff_file
from engine.feeds.tardis import NAME, REPLAYED
from engine.fetch import Dataset, count_unpacked, fetch_datasets, list_datasets, parse_days

ROOT = Path(__file__).resolve().parents[1]
TRADES = "/v1/binance-futures/trades/2024/08/01/BTCUSDT.csv.gz"
TRADES_FILE = "binance-futures_trades_2024-08-01_BTCUSDT.csv.gz"
TRADES_PART = "binance-futures_trades_2024-08-01_BTCUSDT.part"
HEADER = "exchange,symbol,timestamp,local_timestamp,id,side,price,amount\n"


def make_trades(seed, rows=8_000):
    """Return a trades file of about 100 kB; rows of another seed have another price."""
    draw = random.Random(seed)
    lines = [
        f"binance-futures,BTCUSDT,{10**15 + row},{10**15 + row},{draw.getrandbits(60)},buy,{60_000 + seed},0.001\n"
        for row in range(rows)
    ]
    return gzip.compress((HEADER + "".join(lines)).encode(), mtime=0)


FIRST, SECOND = make_trades(1), make_trades(2)
EMPTY = gzip.compress(b"", mtime=0)
assert 100_000 < len(FIRST) < 200_000  # what the cuts below mean


class Site:
    """A server as its visitors see it: what lies there, what it does to the next requests, what it was asked.

    A step of the plan is a status to answer with, ("cut", bytes) to end the connection after so many bytes of the body,
    ("stall", bytes) to say nothing more until told, or "plain" to answer as usual.
    """

    def __init__(self):
        self.files, self.plan, self.asked = {TRADES: FIRST}, [], []
        self.tags = "strong"  # or "weak", "date", "none"
        self.knows_ranges, self.heeds_if_range = True, True
        self.length = "stated"  # or "chunked", or "unknown" until the connection ends
        self.slip = 0  # how far before the byte asked for an answer begins
        self.is_released = threading.Event()
        self.retry_after, self.words, self.target = "", b"", ""
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Handler,), {"site": self}))
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    @property
    def host(self):
        return f"http://127.0.0.1:{self.server.server_port}"

    @property
    def url(self):
        return f"{self.host}/v1"

    def close(self):
        self.is_released.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def ranges(self):
        return [headers.get("Range") for _, headers in self.asked]

    def validators(self, content):
        """Return the headers that name a version of a file."""
        name = hashlib.sha256(content).hexdigest()[:16]
        day = f"Thu, 01 Aug 2024 00:00:{int(name, 16) % 60:02} GMT"
        return {
            "strong": {"ETag": f'"{name}"', "Last-Modified": day},
            "weak": {"ETag": f'W/"{name}"', "Last-Modified": day},
            "date": {"Last-Modified": day},
            "none": {},
        }[self.tags]


class Handler(BaseHTTPRequestHandler):
    """Files with ranges, and the site's mischief."""

    protocol_version = "HTTP/1.1"
    site: Site

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        site = self.site
        site.asked.append((self.path, dict(self.headers)))
        step = site.plan.pop(0) if site.plan else "plain"
        content = site.files.get(self.path)
        if isinstance(step, int) or content is None:
            self.answer(step if isinstance(step, int) else 404, {"Content-Length": len(site.words)}, site.words)
            return
        headers = site.validators(content)
        start = 0
        asked, wanted = self.headers.get("Range"), self.headers.get("If-Range")
        # Strong comparison: a weak tag fits nothing, itself included (RFC 9110, 13.1.5).
        is_same = wanted is None or (wanted in headers.values() and not wanted.startswith("W/"))
        if asked and site.knows_ranges and (is_same or not site.heeds_if_range):
            start = int(asked.removeprefix("bytes=").removesuffix("-")) - site.slip
            if start >= len(content):
                self.answer(416, {"Content-Range": f"bytes */{len(content)}", "Content-Length": 0}, b"")
                return
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        body = content[start:]
        kind, count = step if isinstance(step, tuple) else ("plain", len(body))
        if site.length == "stated":
            headers["Content-Length"] = len(body)
        elif site.length == "chunked":
            headers["Transfer-Encoding"] = "chunked"
            is_cut, body = count < len(body), b"%x\r\n%b\r\n" % (min(count, len(body)), body[:count])
            body, count = body if is_cut else body + b"0\r\n\r\n", len(body) + 5
        self.answer(206 if start else 200, headers, body[:count])
        if kind == "stall":
            site.is_released.wait(30)

    def answer(self, status, headers, body):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, str(value))
        if self.site.retry_after:
            self.send_header("Retry-After", self.site.retry_after)
        if self.site.target and status in (301, 302, 307):
            self.send_header("Location", self.site.target)
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()
        self.close_connection = True


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """Neither a proxy nor a key of whoever runs the tests; pauses too short to wait for."""
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("TARDIS_API_KEY", raising=False)
    monkeypatch.setattr(engine.fetch, "PAUSE_S", 0.001)


@pytest.fixture
def site():
    with closing(Site()) as running:
        yield running


@pytest.fixture
def fetch(site, tmp_path, capsys):
    """Return a function that runs the verb into tmp_path/tapes and returns (status, object or text, stderr)."""

    def run(*more, symbols="BTCUSDT", days="2024-08-01", types="trades", url=site.url):
        given = ["fetch", "tardis", "binance-futures", symbols, days, "--types", types]
        status = main([*given, "--base-url", url, "--out", str(tmp_path / "tapes"), *more])
        printed = capsys.readouterr()
        return status, json.loads(printed.out) if "--json" in more and printed.out else printed.out, printed.err

    return run


def names(folder):
    return sorted(file.name for file in folder.iterdir()) if folder.exists() else []


def leave_part(folder, content, tag=None):
    """Leave what an interrupted run left."""
    folder.mkdir(exist_ok=True)
    (folder / TRADES_PART).write_bytes(content)
    if tag is not None:
        (folder / f"{TRADES_PART}.tag").write_text(tag)


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


@pytest.fixture(scope="module")
def lasting_site():
    with closing(Site()) as running:
        yield running


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


# ---------------------------------------------------------------- answers that are no file


@pytest.mark.parametrize("status", [500, 502, 503, 429, 408])
def test_a_server_in_trouble_is_asked_again(site, fetch, tmp_path, status):
    """Source: FETCH-004."""
    site.plan = [status, status]
    done, _, err = fetch()
    assert done == 0
    assert err.count(f"got {status} ") == 2
    assert (tmp_path / "tapes" / TRADES_FILE).read_bytes() == FIRST


def test_pauses_double_and_heed_the_server(site, fetch, monkeypatch):
    """1, 2, 4 ... s, what Retry-After says where that is longer, at most a minute (FETCH-004)."""
    pauses = []
    monkeypatch.setattr(engine.fetch, "PAUSE_S", 1.0)
    monkeypatch.setattr(engine.fetch, "sleep", pauses.append)
    site.plan = [500] * 9
    assert fetch("--retries", "8")[0] == 4
    site.retry_after, site.plan = "5", [503] * 5
    assert fetch()[0] == 0
    site.files[TRADES.replace("BTC", "ETH")] = FIRST
    site.retry_after, site.plan = "3600", [429]
    assert fetch(symbols="ETHUSDT")[0] == 0
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 5, 5, 5, 8, 16, 60]


@pytest.mark.parametrize("status", [404, 400])
def test_no_such_file(site, fetch, tmp_path, status):
    """Not tried again; the line says what to check and what the server said, made fit to print (FETCH-004)."""
    site.plan, site.words = [status], b'{"message": "no \x1b[31msuch symbol"}\n'
    done, _, err = fetch()
    assert done == 4
    assert len(err.splitlines()) == len(site.asked) == 1
    assert f"{site.host}{TRADES}: expected a file, got {status} " in err
    assert '{"message": "no [31msuch symbol"}' in err
    assert "api.tardis.dev/v1/exchanges/binance-futures" in err
    assert names(tmp_path / "tapes") == []


def test_what_came_before_stays(site, fetch, tmp_path):
    """The first that fails ends the command; the files before it are there, and are not asked for again (FETCH-004)."""
    status, text, _ = fetch(types="trades,nonsense")
    assert status == 4
    assert len(text.splitlines()) == 1
    assert names(tmp_path / "tapes") == [TRADES_FILE]


@pytest.mark.parametrize("status", [401, 403])
def test_refused(site, fetch, monkeypatch, status):
    """A key that is refused is bad configuration, a free day that is refused is not the key's fault (FETCH-005)."""
    site.plan, site.words = [status, status], b"<html>not shown</html>"
    done, _, err = fetch()
    assert done == 4
    assert "needs no key" in err
    monkeypatch.setenv("TARDIS_API_KEY", "TD.secret")
    done, _, err = fetch(days="2024-08-02")
    assert done == 5
    assert f"TARDIS_API_KEY: {site.url}/binance-futures/trades/2024/08/02/BTCUSDT.csv.gz: " in err
    assert f"got {status} " in err
    assert "secret" not in err
    assert "html" not in err


def test_another_answer(site, fetch):
    site.plan = [418]
    done, _, err = fetch()
    assert done == 4
    assert "got 418 I'm a Teapot: check --base-url" in err


# ---------------------------------------------------------------- keys


def test_days_that_need_a_key(site, fetch, tmp_path):
    """Refused before anything is asked or written, the free day among them too (FETCH-005)."""
    status, text, err = fetch(days="2024-08-01..2024-08-03")
    assert (status, text) == (5, "")
    assert "TARDIS_API_KEY: expected a Tardis.dev API key in this variable, 2024-08-02 needs one" in err
    assert not site.asked
    assert not (tmp_path / "tapes").exists()


def test_the_key_is_sent_where_it_is_needed(site, fetch, monkeypatch):
    """As a bearer's, for the days that need it and for no other (FETCH-005)."""
    monkeypatch.setenv("TARDIS_API_KEY", "TD.secret\n")
    site.files[TRADES.replace("/01/", "/02/")] = SECOND
    assert fetch(days="2024-08-01,2024-08-02")[0] == 0
    assert [headers.get("Authorization") for _, headers in site.asked] == [None, "Bearer TD.secret"]


def test_the_key_goes_to_no_other_host(site, lasting_site, fetch, tmp_path, monkeypatch):
    """A redirection is followed without it (FETCH-005)."""
    monkeypatch.setenv("TARDIS_API_KEY", "TD.secret")
    lasting_site.plan, lasting_site.asked, lasting_site.files = [], [], {TRADES: FIRST, "/elsewhere": SECOND}
    site.plan, site.target = [302], f"{lasting_site.host}/elsewhere"
    site.files[TRADES.replace("/01/", "/02/")] = b""
    assert fetch(days="2024-08-02")[0] == 0
    assert "Authorization" in site.asked[0][1]
    assert "Authorization" not in lasting_site.asked[0][1]
    assert (tmp_path / "tapes" / TRADES_FILE.replace("-01_", "-02_")).read_bytes() == SECOND


@pytest.mark.parametrize("key", ["two words", "line\nbreak", "schlüssel"])
def test_what_is_no_key(site, fetch, monkeypatch, key):
    """It would become part of a header; the message does not show it (FETCH-005)."""
    monkeypatch.setenv("TARDIS_API_KEY", key)
    status, _, err = fetch(days="2024-08-02")
    assert status == 5
    assert "TARDIS_API_KEY: expected a key without" in err
    assert key not in err
    assert not site.asked


# ---------------------------------------------------------------- no server, no patience


def closed_port():
    """Return a port nobody listens on."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


def test_offline(fetch, tmp_path):
    """One line naming the address and what to do, at once, and nothing written (FETCH-004)."""
    url = f"http://127.0.0.1:{closed_port()}/v1"
    status, text, err = fetch(url=url)
    assert (status, text) == (4, "")
    assert len(err.splitlines()) == 1
    assert f"{url}/binance-futures/trades/2024/08/01/BTCUSDT.csv.gz: cannot be reached" in err
    assert "--base-url" in err
    assert not (tmp_path / "tapes").exists()


def test_a_server_that_goes_away(site, fetch, tmp_path, monkeypatch):
    """It was there a moment ago: tried again, and then the `.part` is kept (FETCH-004)."""
    site.plan = [("cut", 30_000)]
    monkeypatch.setattr(engine.fetch, "sleep", lambda seconds: site.server.fileno() < 0 or site.close())
    status, _, err = fetch("--retries", "2")
    assert status == 4
    assert len(err.splitlines()) == 3  # two notices, the error
    assert "gave up after 3 tries" in err
    assert (tmp_path / "tapes" / TRADES_PART).read_bytes() == FIRST[:30_000]


def test_a_server_that_says_nothing(site, fetch, tmp_path, monkeypatch):
    """A body that stops and a head that never comes both run out of time, and are asked for again (FETCH-004)."""
    monkeypatch.setattr(engine.fetch, "TIMEOUT_S", 0.2)
    site.plan = [("stall", 30_000)]
    status, _, err = fetch()
    assert status == 0
    assert "nothing came for 0.2 s; again" in err
    assert (tmp_path / "tapes" / TRADES_FILE).read_bytes() == FIRST
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        status, _, err = fetch("--retries", "1", url=url, symbols="ETHUSDT")
    assert status == 4
    assert "no answer within 0.2 s; gave up after 2 tries" in err


def test_a_connection_that_takes_too_long(site, fetch, monkeypatch):
    """Not even the first one is given up for that: a busy server takes its time (FETCH-004)."""
    failures = [URLError(TimeoutError("timed out"))]
    real = engine.fetch.urlopen

    def open_late(*arguments, **named):
        if failures:
            raise failures.pop()
        return real(*arguments, **named)

    monkeypatch.setattr(engine.fetch, "urlopen", open_late)
    status, _, err = fetch()
    assert status == 0
    assert "timed out; again in" in err


def test_a_full_disk_is_not_the_network(site, fetch, monkeypatch):
    """Nothing is tried again where it is we who cannot write (CLI-002)."""

    def refuse(number):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(engine.fetch.os, "fsync", refuse)
    status, _, err = fetch()
    assert status == 5
    assert "No space left on device" in err
    assert len(site.asked) == 1


def test_interrupted(site, fetch, tmp_path):
    """Ctrl-C: exit 130, the `.part` and its version are kept, and the same command goes on from it (FETCH-006)."""
    site.plan = [("stall", 60_000)]
    given = ["fetch", "tardis", "binance-futures", "BTCUSDT", "2024-08-01", "--types", "trades"]
    given += ["--base-url", site.url, "--out", str(tmp_path / "tapes"), "--json", "--progress"]
    command = [sys.executable, "-m", "engine", *given]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        seen = b""
        while b"MB/s" not in seen:
            more = os.read(child.stderr.fileno(), 4096)
            assert more, seen
            seen += more
        child.send_signal(signal.SIGINT)
        left = child.stderr.read().decode()
        assert child.wait(60) == 130
        assert child.stdout.read() == b""
    assert left.splitlines()[-1].startswith("perp: interrupted; what came is kept in ")
    kept = (tmp_path / "tapes" / TRADES_PART).read_bytes()
    assert 0 < len(kept) <= 60_000
    assert FIRST.startswith(kept)
    assert TRADES_FILE not in names(tmp_path / "tapes")
    status, summary, _ = fetch("--json")
    assert (status, summary["resumed"]) == (0, 1)
    assert summary["fetched_bytes"] == len(FIRST) - len(kept)
    assert (tmp_path / "tapes" / TRADES_FILE).read_bytes() == FIRST


def test_no_reader_takes_a_part(site, fetch, tmp_path, capsys):
    """A folder with unfinished files can be looked at and played: they are no recordings yet (FETCH-002)."""
    leave_part(tmp_path / "tapes", FIRST[:60_000])
    with pytest.raises(DataError, match="found none"):
        open_feed(tmp_path / "tapes", [])
    assert main(["inspect", str(tmp_path / "tapes")]) == 4
    assert "found none" in capsys.readouterr().err


# ---------------------------------------------------------------- arguments


def test_parse_days():
    assert parse_days("2024-08-01") == [date(2024, 8, 1)]
    assert parse_days("2024-02-28..2024-03-01,2024-08-01") == [
        date(2024, 2, 28),
        date(2024, 2, 29),
        date(2024, 3, 1),
        date(2024, 8, 1),
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        ["binance-futures", "BTCUSDT", "yesterday"],
        ["binance-futures", "BTCUSDT", "2024-02-30"],
        ["binance-futures", "BTCUSDT", "2024-08-02..2024-08-01"],
        ["binance-futures", "BTCUSDT,", "2024-08-01"],
        ["binance-futures", "BTCUSDT", "2024-08-01", "--retries", "0"],
        ["binance-futures", "BTCUSDT"],
    ],
)
def test_usage(arguments, capsys):
    """Source: CLI-002."""
    with pytest.raises(SystemExit) as left:
        main(["fetch", "tardis", *arguments])
    assert left.value.code == 2
    assert "usage: " in capsys.readouterr().err


def test_help_names_the_defaults(capsys):
    """It is written without importing what would know them."""
    with pytest.raises(SystemExit):
        main(["fetch", "tardis", "--help"])
    printed = "".join(capsys.readouterr().out.split())
    for default in (",".join(REPLAYED), engine.fetch.BASE_URL, f"({engine.fetch.RETRIES})", engine.fetch.KEY_VARIABLE):
        assert default in printed


@pytest.mark.parametrize(
    ("exchange", "symbol", "kind"),
    [
        ("binance_futures", "BTCUSDT", "trades"),
        ("../..", "BTCUSDT", "trades"),
        ("binance-futures", "BTCUSDT", "trades/.."),
        ("binance-futures", "", "trades"),
        ("binance-futures", "BTC\nUSDT", "trades"),
        ("binance-futures", "BTC\0USDT", "trades"),
    ],
)
def test_names_that_are_none(exchange, symbol, kind):
    """What the reader could not find again in the file's name is refused (FETCH-001)."""
    with pytest.raises(ConfigError, match="expected an exchange like"):
        list_datasets(exchange, [symbol], [date(2024, 8, 1)], [kind])


@given(symbol=st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S"]), min_size=1, max_size=12))
def test_names_are_the_readers(symbol):
    """Any symbol becomes one name inside the folder, and one step of a path (FETCH-001)."""
    (dataset,) = list_datasets("okex-swap", [symbol], [date(2024, 8, 1)], ["trades"])
    match = NAME.fullmatch(dataset.file_name)
    assert match.group("exchange", "kind", "date") == ("okex-swap", "trades", "2024-08-01")
    assert "/" not in dataset.file_name
    assert dataset.path.count("/") == 5
    assert dataset.path.isascii()


@pytest.mark.parametrize(
    "url",
    [
        "file:///v1",
        "datasets.tardis.dev",
        "http://",
        "http://host:port/",
        "http://a b/",
        "http://me:secret@host:80/",
        "",
    ],
)
def test_a_base_url_that_is_none(url):
    with pytest.raises(ConfigError, match="--base-url: expected http"):
        fetch_datasets([], Path("unused"), base_url=url)


def test_a_fetched_day_is_free_or_not():
    """Source: FETCH-005."""
    assert [Dataset("x", "trades", day, "Y").is_free for day in parse_days("2024-08-01..2024-08-02")] == [True, False]


def test_gzip_is_read_to_its_end(tmp_path):
    """Files made of several gzip members count whole; a cut last one is found (FETCH-002)."""
    file = tmp_path / "x.gz"
    file.write_bytes(gzip.compress(b"one") + gzip.compress(b"three"))
    assert count_unpacked(file) == 8
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(EOFError):
        count_unpacked(file)
