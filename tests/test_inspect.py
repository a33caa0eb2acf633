"""`perp inspect` and lenient reading: what a recording holds, what is wrong with it (FEED-011, FEED-012)."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from engine.cli import main
from engine.feeds.inspect import StampCheck
from engine.feeds.instruments import Instruments
from engine.layout import RECORD

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "replay_data" / "synthetic_btc"
MARKET = str(DEMO / "market.toml")
BOOK = "exchange,symbol,timestamp,local_timestamp,is_snapshot,side,price,amount"
TRADES = "exchange,symbol,timestamp,local_timestamp,id,side,price,amount"
QUOTES = "exchange,symbol,timestamp,local_timestamp,ask_amount,ask_price,bid_price,bid_amount"
US = 1_680_652_700_000_000


def write(folder, kind, header, *rows):
    """Write a Tardis file from rows of (venue's stamp, arrival, rest), stamps counted from US."""
    lines = [f"venue,BTCUSDT,{US + venue},{US + local},{rest}" for venue, local, rest in rows]
    folder.mkdir(exist_ok=True)
    path = folder / f"venue_{kind}_2023-04-04_BTCUSDT.csv"
    path.write_text("\n".join([header, *lines, ""]))
    return path


@pytest.fixture
def faulty(tmp_path):
    """Return a tape with one or two of everything that can be counted."""
    folder = tmp_path / "tape"
    write(
        folder,
        "incremental_book_L2",
        BOOK,
        (10, 20, "true,bid,100,1"),
        (10, 20, "true,ask,101,1"),
        (30, 40, "false,bid,99,1"),
        (30, 41, "false,bid,98,2"),  # a venue's stamp again
        (29, 42, "false,bid,97,2"),  # and an earlier one
        (50, 60, "true,bid,100,2"),  # a snapshot that does not open the recording
        (50, 60, "true,ask,102,2"),
        (70, 80, "false,up,102,2"),  # a word that is no side
        (71, 81, "false,bid,102,2"),  # crosses
        (72, 79, "false,bid,96,2"),  # arrived before the row before
    )
    write(folder, "trades", TRADES, (15, 12, "1,buy,101,1"), (33, 45, "2,unknown,101,1"))
    write(folder, "quotes", QUOTES, (31, 40, "1,101,100,1"), (45, 55, "2,102,100,2"))
    return folder


EXPECTED = {
    "gaps": 0,
    "resets": 1,
    "crossed": 1,
    "duplicate_stamps": 1,
    "reversed_stamps": 4,
    "negative_latency": 1,
    "off_book_prints": 1,
    "dropped": 1,
    "bbo_checked": 5,
    "bbo_equal": 4,
    "reversed_local": 1,
}


def test_everything_is_counted(faulty, capsys):
    """Faults make it exit with 1; each is named with its place.

    Source: FEED-011, FEED-012, CLI-002.
    """
    assert main(["inspect", str(faulty), "--json"]) == 1
    facts = json.loads(capsys.readouterr().out)
    assert {name: facts[name] for name in EXPECTED} == EXPECTED
    assert facts["rows"] == 13
    assert facts["streams"] == {"incremental_book_L2": 9, "quotes": 2, "trades": 2}
    assert facts["dropped_by"] == {"bad side": 1}
    assert (facts["first_ns"], facts["last_ns"]) == (1000 * (US + 12), 1000 * (US + 81))
    places = [re.search(r"L2_2023-04-04_BTCUSDT.csv:(\d+): field '(\w+)'", fault["error"]) for fault in facts["faults"]]
    assert [(fault["kind"], *place.groups()) for fault, place in zip(facts["faults"], places, strict=True)] == [
        ("dropped", "9", "side"),
        ("reversed_local", "11", "local_timestamp"),
    ]
    assert facts["symbols"] == ["BTCUSDT"]
    assert facts["instruments"][0]["snapshots"] == 2


def test_the_page_says_the_same(faulty, capsys):
    """Source: FEED-011."""
    assert main(["inspect", str(faulty)]) == 1
    page = capsys.readouterr().out
    lines = dict(line.split(maxsplit=1) for line in page.replace("_", " ").splitlines() if line.strip())
    assert lines["gaps"].split()[0] == "0"
    for name, count in EXPECTED.items():
        if not name.startswith("bbo"):
            assert re.search(rf"^{name.replace('_', ' ')} +{count}(  |$)", page, re.MULTILINE), name
    assert re.search(r"^best prices +4  of 5 book messages", page, re.MULTILINE)
    assert re.search(r"^recording of +BTCUSDT \(venue\)$", page, re.MULTILINE)
    assert "2023-04-04 23:58:20.000 UTC to 2023-04-04 23:58:20.000 UTC" in page
    assert "fault: dropped" in page
    assert "BTCUSDT.csv:9: field 'side': expected bid or ask, got 'up'" in page
    assert page.endswith(f"perp replay {faulty} --market FILE --lenient\n")


def test_strict_stops_at_the_first_fault(faulty, capsys):
    """Source: FEED-012."""
    assert main(["inspect", str(faulty), "--strict"]) == 4
    assert "BTCUSDT.csv:9: field 'side'" in capsys.readouterr().err
    book = faulty / "venue_incremental_book_L2_2023-04-04_BTCUSDT.csv"
    lines = [line for line in book.read_text().splitlines() if ",up," not in line]
    book.write_text("\n".join(lines[:-1]) + "\n")
    assert main(["inspect", str(faulty), "--strict"]) == 4
    assert "expected no crossed book" in capsys.readouterr().err
    assert main(["inspect", str(faulty), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["faults"] == []


def test_a_sound_recording_has_no_faults(shared, capsys):
    """Four real minutes: every book message has the best prices that the venue last quoted (FEED-011)."""
    files = sorted((shared / "data" / "btcusdt_4min").glob("binance-futures_*"))
    assert main(["inspect", *map(str, files), "--market", MARKET, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["rows"] == 191_284
    assert facts["bbo_checked"] == facts["bbo_equal"] == 8_207
    assert [facts[name] for name in ("gaps", "resets", "crossed", "dropped", "off_book_prints")] == [0] * 5
    assert facts["memory"]["levels_max"] == 6_822
    assert main(["inspect", *map(str, files), "--strict"]) == 0
    assert "perp replay TAPE... --market FILE\n" in capsys.readouterr().out


def test_formats_names_every_key(faulty, capsys):
    """Source: FEED-011."""
    words = set(re.findall(r"`(\w+)`", (ROOT / "engine" / "docs" / "formats.md").read_text(encoding="utf-8")))
    assert main(["inspect", str(faulty), "--market", MARKET, "--json"]) == 1
    facts = json.loads(capsys.readouterr().out)
    assert not {*facts, *facts["memory"], *facts["faults"][0]} - words
    assert main(["convert", str(DEMO), str(faulty.parent / "out"), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert not {*facts, *facts["files"][0]} - words


def test_stamps_are_counted_by_message():
    """Rows of one message count once, also where a block ends inside it; another instrument's stamps are its own."""
    rows = np.zeros(6, RECORD)
    rows["kind"], rows["ts_ns"], rows["exchange_ns"] = 2, [5, 5, 6, 6, 7, 8], [4, 4, 4, 4, 3, 9]
    rows["market"] = [0, 0, 0, 0, 1, 0]
    instruments = Instruments()
    for symbol in ("A", "B"):
        instruments.find("venue", symbol)
    whole, cut = StampCheck(instruments), StampCheck(instruments)
    whole.add(rows)
    for at in range(len(rows)):
        cut.add(rows[at : at + 1])
    for check in (whole, cut):
        assert (check.messages, check.duplicates, check.reversed, check.negative) == (4, 1, 1, 1)
        assert (check.first_ns, check.last_ns) == (5, 8)


# ---------------------------------------------------------------- replay


def test_replay_is_strict_unless_told(faulty, tmp_path, capsys):
    """Lenient, the bad row is left out, and the report says how many there were (FEED-012)."""
    command = ["replay", str(faulty), "--market", MARKET, "--out", str(tmp_path / "run")]
    assert main(command) == 4
    assert not (tmp_path / "run").exists()
    assert "BTCUSDT.csv:9: field 'side'" in capsys.readouterr().err
    assert main([*command, "--lenient"]) == 0
    assert "0 gaps, 1 row left out\n" in capsys.readouterr().out
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["tape"]["dropped"], summary["tape"]["gaps"]) == (1, 0)
    assert summary["parameters"]["lenient"] is True


def test_replay_takes_another_instrument_as_index(shared, capsys):
    """Source: FEED-010."""
    files = [*(shared / "data" / "btcusdt_4min").glob("binance*_2023-04-05_*")]
    files = [path for path in files if "_quotes_" not in path.name]
    index = "BTCUSDT=binance:BTCUSDT"
    command = ["replay", *map(str, files), "--market", MARKET, "--json"]
    assert main([*command, "--index", index]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["parameters"]["indexes"] == {"BTCUSDT": "binance:BTCUSDT"}
    assert main(command) == 0
    plain = json.loads(capsys.readouterr().out)
    assert summary["commands"] > plain["commands"]
    assert summary["digest"] != plain["digest"]
    assert main([*command, "--index", "BTCUSDT"]) == 5
    assert "expected SYMBOL=EXCHANGE:SYMBOL" in capsys.readouterr().err
