"""Every error ends with what to do: what a newcomer does wrong, and the step the message names (CLI-033)."""

import re
from pathlib import Path

import pytest

from engine.cli import main
from engine.errors import explain_os, suggest

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "replay_data" / "synthetic_btc"
TRADES = DEMO / "synthetic_trades_2025-03-03_BTCUSDT.csv.gz"
SIMULATED = ROOT / "replay_data" / "simulated_btc"
SCENARIOS = ROOT / "replay_data" / "scenarios"
STRESS = ROOT / "replay_data" / "stress" / "flash_crash.toml"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Stand in a folder with settings, each with one thing wrong."""
    monkeypatch.chdir(tmp_path)
    market = (DEMO / "market.toml").read_text()
    files = {
        "market.toml": market,
        "typo.toml": market.replace("tick_size", "tick_sise"),
        "nested.toml": re.sub(r"^score *=", "scor =", market, flags=re.MULTILINE),
        "policy.toml": market.replace('mark_model = "recorded"', 'mark_model = "recordet"'),
        "venue.toml": 'venue = "bybit-liner"\nsymbol = "BTCUSDT"\ntick_size = "0.1"\nlot_size = "0.001"\n',
        "short.toml": 'symbol = "BTCUSDT"\n',
        "other.toml": market.replace("BTCUSDT", "BTCUSD"),
        "far.toml": market.replace("BTCUSDT", "ETHEUR"),
        "crowd.toml": (DEMO / "population.toml").read_text().replace("leverage = ", "levrage = ", 1),
        "shock.toml": (DEMO / "shock.toml").read_text().replace("price = ", "prise = ", 1),
        "notes.txt": "hello\n",
        "story.json": (SCENARIOS / "funds.json").read_text().replace('"command": "place"', '"command": "plaice"', 1),
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "empty").mkdir()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter").write_text("dear")
    (tmp_path / "runs" / "first").mkdir(parents=True)
    (tmp_path / "runs" / "first" / "summary.json").write_text("{}")
    return tmp_path


def replay(*more, tape=DEMO, market="market.toml"):
    return ["replay", str(tape), "--market", market, *more]


CASES = {
    # usage
    "nothing": ([], 2, ["VERB", "perp --help"]),
    "verb": (["replayy"], 2, ["unknown 'replayy'", "did you mean 'replay'?"]),
    "verb and options": (["simm", "--market", "x"], 2, ["unknown 'simm'", "did you mean 'sim'?"]),
    "option": (["replay", "x", "--markt", "m.toml"], 2, ["unknown option --markt", "did you mean '--market'?"]),
    "option with =": (replay("--egnine=compiled"), 2, ["--egnine", "did you mean '--engine'?", "perp replay --help"]),
    "strange option": (replay("--nonsense"), 2, ["unknown option --nonsense; perp replay --help"]),
    "short option": (replay("-x"), 2, ["unrecognized arguments: -x", "perp replay --help"]),
    "choice": (replay("--engine", "compield"), 2, ["did you mean 'compiled'?"]),
    "inner verb": (["bench", "matchin"], 2, ["did you mean 'matching'?", "perp bench --help"]),
    "missing option": (["replay", str(DEMO)], 2, ["--market", "perp replay --help"]),
    # settings
    "file like it": (replay(market="markt.toml"), 5, ["markt.toml: cannot be read", "did you mean 'market.toml'?"]),
    "no file like it": (replay(market="zzzz"), 5, ["zzzz: cannot be read", "this folder holds crowd.toml"]),
    "no folder": (replay(market="nowhere/m.toml"), 5, ["the folder nowhere is not there"]),
    "a folder": (replay(market="runs"), 5, ["name a file in it", "runs holds first"]),
    "field": (replay(market="typo.toml"), 5, ["`tick_sise`", "did you mean 'tick_size'?"]),
    "field in a table": (replay(market="nested.toml"), 5, ["`scor` - at `$.adl`", "did you mean 'score'?"]),
    "field of another file": (
        replay(market=str(DEMO / "population.toml")),
        5,
        ["`seed`", "known: symbol", "perp docs formats"],
    ),
    "missing field": (replay(market="short.toml"), 5, ["missing required field", "perp docs formats"]),
    "policy": (replay(market="policy.toml"), 5, ["did you mean 'recorded'?"]),
    "preset": (replay(market="venue.toml"), 5, ["did you mean 'bybit-linear'?"]),
    "preset shown": (["venues", "okxx"], 5, ["did you mean 'okx'?"]),
    "population": (replay("--population", "crowd.toml"), 5, ["`levrage`", "did you mean 'leverage'?"]),
    "shock": (replay("--shock", "shock.toml"), 5, ["`prise`", "did you mean 'price'?"]),
    "simulated": (["sim", "market.toml", "--market", "market.toml"], 5, ["`symbol`", "perp docs formats"]),
    "grid": (["sweep", str(STRESS), "--grid", "adl.scoree=bitmex"], 5, ["did you mean 'score'?"]),
    "grid's first": (["sweep", str(STRESS), "--grid", "fnd=1"], 5, ["unknown 'fnd'", "did you mean 'fund'?"]),
    "fund": (replay("--fund", "USTD=5"), 5, ["did you mean 'USDT'?"]),
    "attack": (["attack", "--only", "sybil"], 5, ["did you mean 'sybil-split'?"]),
    "policy of a comparison": (
        ["compare", str(DEMO), "--market", "market.toml", "--policy", "markt.toml"],
        5,
        ["did you mean"],
    ),
    # tapes
    "no tape": (replay(tape="empy"), 4, ["empy: expected a readable file", "did you mean 'empty'?"]),
    "an empty folder": (replay(tape="empty"), 4, ["found none; perp docs formats", "perp fetch", "perp demo"]),
    "a text": (replay(tape="notes.txt"), 4, ["notes.txt:1", "perp docs formats"]),
    "settings for a tape": (["inspect", "market.toml"], 4, ["a TOML file belongs to --market"]),
    "symbol": (replay(tape=str(TRADES), market="other.toml"), 4, ["got 'BTCUSDT'", "did you mean 'BTCUSD'?"]),
    "other symbol": (
        replay(tape=str(TRADES), market="far.toml"),
        4,
        ["got 'BTCUSDT'", "a --market file of this symbol"],
    ),
    "folder's symbol": (replay(market="other.toml"), 4, ["found BTCUSDT", "did you mean 'BTCUSDT'?"]),
    "folder's other symbol": (replay(market="far.toml"), 4, ["found BTCUSDT", "add a --market file of one of these"]),
    "index": (replay("--index", "BTCUSDT=sinthetic:BTCUSDT"), 4, ["it has none", "did you mean 'synthetic:BTCUSDT'?"]),
    "key": (
        ["fetch", "tardis", "binance-futures", "BTCUSDT", "2024-08-02"],
        5,
        ["TARDIS_API_KEY", "first day of each month"],
    ),
    # runs
    "a run like it": (["report", "runs/frist"], 4, ["these have: runs/first", "did you mean 'first'?"]),
    "runs in it": (["report", "runs"], 4, ["these have: runs/first"]),
    "no run": (["log", "empty", "--adl"], 4, ["a run directory is what --out names", "perp demo"]),
    "no journal": (["verify", "empty"], 4, ["expected a journal", "perp replay --journal DIR"]),
    "out is a file": (replay("--out", "notes.txt"), 5, ["this is a file; name another"]),
    "out holds others": (replay("--out", "mine"), 5, ["it holds letter; name another"]),
    "word of a scenario": (["check", "story.json"], 4, ["story.json:", "'plaice'", "did you mean 'place'?"]),
    "scenarios": (["check", "."], 4, ["name a file in it"]),
    "page": (["docs", "formts"], 2, ["did you mean 'formats'?"]),
    "rule": (["docs", "LIQ-0007"], 2, ["did you mean 'LIQ-007'?"]),
    # room
    "room": (
        replay("--population", str(DEMO / "population.toml"), "--accounts-max", "9"),
        6,
        ["raise", "--accounts-max"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_next_step(place, capsys, monkeypatch, case):
    """One line, its status, and the step; nothing is left behind.

    Source: CLI-002, CLI-033.
    """
    monkeypatch.delenv("TARDIS_API_KEY", raising=False)
    arguments, status, texts = CASES[case]
    before = sorted(place.rglob("*"))
    try:
        got = main(arguments)
    except SystemExit as left:
        got = left.code
    told = capsys.readouterr()
    assert got == status
    assert not told.out
    lines = [line for line in told.err.splitlines() if not line.startswith("perp: compil")]
    assert len(lines) == 1
    assert re.match(r"perp( \w+)*: error: ", lines[0])
    assert not [text for text in texts if text not in lines[0]], lines[0]
    assert sorted(place.rglob("*")) == before


@pytest.mark.parametrize(
    ("word", "known", "told"),
    [
        ("markt", ["market", "fund"], "; did you mean 'market'?"),
        ("--Markt", ["--market"], "; did you mean '--market'?"),
        ("sybil", ["sybil-bait"], "; did you mean 'sybil-bait'?"),
        ("seed", ["settle", "symbol"], ""),
        ("", ["a"], ""),
        ("x", [], ""),
    ],
)
def test_suggest(word, known, told):
    assert suggest(word, known) == told


def test_a_file_without_rights(tmp_path):
    file = tmp_path / "file"
    assert explain_os(PermissionError(13, "Permission denied"), file) == "Permission denied; make it readable for you"
    assert explain_os(OSError(5, "Input/output error"), file) == "Input/output error"
    many = [tmp_path / f"{number}.csv" for number in range(9)]
    for path in many:
        path.write_text("")
    told = explain_os(FileNotFoundError(2, "No such file"), file)
    assert told == f"No such file; {tmp_path} holds 0.csv, 1.csv, 2.csv, 3.csv, 4.csv, ..."
