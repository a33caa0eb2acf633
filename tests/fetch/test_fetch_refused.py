"""`perp fetch` where no file comes: trouble, keys, no server at all, arguments that are none."""

import gzip
import os
import signal
import socket
import subprocess
import sys
from datetime import date
from pathlib import Path
from urllib.error import URLError

import pytest
from hypothesis import given
from hypothesis import strategies as st

import engine.fetch
from engine.cli import main
from engine.errors import ConfigError, DataError
from engine.feeds import open_feed
from engine.feeds.tardis import NAME, REPLAYED
from engine.fetch import Dataset, count_unpacked, fetch_datasets, list_datasets, parse_days
from tests.fetch.site import FIRST, SECOND, TRADES, TRADES_FILE, TRADES_PART, leave_part, names

ROOT = Path(__file__).resolve().parents[2]


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
    assert "perp fetch tardis --help lists what there is" in capsys.readouterr().err


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
