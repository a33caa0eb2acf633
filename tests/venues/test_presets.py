"""The presets: complete, sourced, loadable, and told apart by what could be verified."""

import json
import re
import tomllib
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from engine.cli import main
from engine.contract import Market, build_setup, load_market
from engine.errors import ConfigError
from engine.venues import FOLDER, GROUPS, list_venues, merge_tables, read_venue
from engine.venues.table import format_venue, format_venues

NAMES = (
    "binance-coinm",
    "binance-usdm",
    "bitmex",
    "bybit-inverse",
    "bybit-linear",
    "deribit-inverse",
    "dydx",
    "hyperliquid",
    "kucoin",
    "lighter",
    "okx",
    "vega",
)
PAGE = Path(__file__).resolve().parents[2] / "engine" / "docs" / "venues.md"


def test_there_are_twelve():
    """VENUE-001: the venues of the design, no more and no less."""
    assert tuple(list_venues()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_line_has_a_source(name):
    """VENUE-001: value, source and verified on every line; nothing that is not published passes for verified."""
    raw = tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))
    assert set(raw) <= {"title", "about", *GROUPS}
    for group in GROUPS:
        for field, line in raw.get(group, {}).items():
            assert set(line) in ({"value", "source", "verified"}, {"value", "source", "verified", "note"}), field
            assert isinstance(line["verified"], bool)
            assert line["source"].strip()
            if re.search("not published|not retrieved|^ours", line["source"]):
                assert not line["verified"], f"{group}.{field}: a source that says it is none"


@pytest.mark.parametrize("name", NAMES)
def test_presets_are_markets(name):
    """VENUE-001, CFG-001: every preset is a market both engines take."""
    market = msgspec.convert(read_venue(name).fill(), Market, strict=False)
    (rules,) = build_setup([market], name).markets
    assert rules.symbol
    assert rules.tiers[0][1] >= rules.tiers[0][2] > 0


def test_a_market_file_lays_its_lines_over_a_preset(tmp_path):
    """VENUE-001: one policy changed, its neighbours in the same table kept."""
    file = tmp_path / "mine.toml"
    file.write_text('venue = "bybit-linear"\nmaker_fee = "0"\n[adl]\nscore = "bitmex"\n', encoding="utf-8")
    market = load_market(file)
    assert (market.symbol, market.maker_fee, market.adl.score) == ("BTCUSDT", 0, "bitmex")
    assert (market.adl.trigger, market.adl.drawdown, market.liquidation.size) == ("drawdown", Decimal("0.3"), "tiered")
    assert merge_tables({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}, "d": 4}) == {"a": {"b": 3, "c": 2}, "d": 4}


@pytest.mark.parametrize("given", ['"bybit"', "7", '["okx"]'])
def test_an_unknown_venue_is_refused_with_the_known(tmp_path, given):
    """VENUE-001, CFG-002: the file, what was given, and what would do."""
    file = tmp_path / "mine.toml"
    file.write_text(f"venue = {given}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"mine\.toml: venue: unknown venue .*known: binance-coinm, .*, vega"):
        load_market(file)


def test_tables_name_what_is_not_verified():
    """VENUE-001: side by side every venue is a column, and an unverified value carries its mark."""
    venues = [read_venue(name) for name in NAMES]
    for width in (80, 120, 400):
        text = format_venues(venues, width)
        assert max(map(len, text.splitlines())) <= max(width, 80)
        heads = [line for line in text.splitlines() if line.startswith(" " * 10)]
        assert " ".join(" ".join(heads).split()) == " ".join(NAMES)
    one = format_venue(read_venue("dydx"))
    assert re.search(r"liquidation\.limit +fillable +https://github\.com/dydxprotocol", one)
    assert re.search(r"liquidation\.cancel +none +\? not published", one)


def test_perp_venues(capsys):
    """VENUE-001, CLI-002: all, one, JSON, and one that does not exist."""
    assert main(["venues"]) == 0
    assert "hyperliquid" in capsys.readouterr().out
    assert main(["venues", "bybit-linear"]) == 0
    assert "adl-alert" in capsys.readouterr().out
    assert main(["venues", "okx", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["okx"]["settings"]["adl.price"]["value"] == "mark"
    assert main(["venues", "mtgox"]) == ConfigError.exit_status
    assert "known: binance-coinm" in capsys.readouterr().err


def test_the_page_tells_what_the_files_tell():
    """VENUE-001: the table of the documentation has every preset, with its count of verified settings."""
    page = PAGE.read_text(encoding="utf-8")
    for name in NAMES:
        venue = read_venue(name)
        checked = sum(setting.verified for setting in venue.settings)
        assert f"| {name} | {checked} of {len(venue.settings)} |" in page
