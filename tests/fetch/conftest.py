"""A server, and the verb that is run against it."""

import json
from contextlib import closing

import pytest

import engine.fetch
from engine.cli import main
from tests.fetch.site import Site


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


@pytest.fixture(scope="module")
def lasting_site():
    with closing(Site()) as running:
        yield running
