"""The command line: run directories, the two engines, every kind of bad input (CLI-001, CLI-002)."""

import gzip
import json
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

import engine.replay.runner
from engine import Capacity, Exchange, load_market
from engine.audit import Auditor
from engine.cli import DEMO_FUND, compile_kernels, find_demo, find_rule, main
from engine.codes import EVENT_NAMES
from engine.errors import InvariantError
from engine.feeds.synthetic import Request, write_tape
from engine.layout import EVENT

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "replay_data" / "synthetic_btc"
GOLDEN = ROOT / "tests" / "golden" / "demo.json"
TIMINGS = ("seconds", "engine_seconds", "events_per_s", "commands_per_s")
CONTRACT = {
    "schema",
    "digest",
    "conserved",
    "commands",
    "events",
    "liquidations",
    "liquidated_quote",
    "fund_start_quote",
    "fund_low_quote",
    "fund_end_quote",
    "deficits",
    "deficit_quote",
    "paid_by_fund_quote",
    "paid_by_adl_quote",
    "paid_by_haircut_quote",
    "unpaid_quote",
    "adl_victims",
    "adl_fills",
    "adl_notional_quote",
    "haircut_quote",
    "rejected",
    "waived_fees_quote",
    "seconds",
    "events_per_s",
    "engine",
    "version",
    "verdict",
    "assets",
    "inputs",
    "parameters",
}

POPULATION = """
seed = 3
accounts = 40
open_interest = "40"
long_share = "0.6"
entry_spread = "0.005"
isolated_share = "0.5"
leverage = [{ leverage = 20, weight = "1" }, { leverage = 50, weight = "2" }, { leverage = 100, weight = "1" }]
size = { kind = "lognormal", sigma = "1.2" }
"""
SHOCK = """
price = [{ t = "500ms", factor = "1" }, { t = "2s", factor = "0.9" }]
depth = [{ t = "500ms", factor = "1" }, { t = "1s", factor = "0.002" }]
"""


@pytest.fixture(scope="module", autouse=True)
def warm():
    """Have the kernels compiled, so that no notice of compiling them stands on stderr."""
    compile_kernels()


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Return a folder with three seconds of a made-up tape, a market, forty accounts and a crash."""
    folder = tmp_path_factory.mktemp("small")
    write_tape(Request(seed=5, seconds=3), folder / "tape")
    (folder / "market.toml").write_bytes((DEMO / "market.toml").read_bytes())
    (folder / "population.toml").write_text(POPULATION)
    (folder / "shock.toml").write_text(SHOCK)
    return folder


def arguments(folder, *more, tape=None, market="market.toml", out=None):
    """Return the arguments of a replay of what is in `folder`."""
    given = ["replay", str(tape or folder / "tape"), "--market", str(folder / market)]
    given += ["--population", str(folder / "population.toml"), "--shock", str(folder / "shock.toml")]
    return [*given, *(["--out", str(out)] if out else []), *more]


def read_summary(folder):
    return json.loads((folder / "summary.json").read_text(encoding="utf-8"))


def without_timings(summary):
    return {key: value for key, value in summary.items() if key not in TIMINGS}


# ---------------------------------------------------------------- runs


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Run `perp demo --json` as a user would, and return its output and its run directory."""
    out = tmp_path_factory.mktemp("demo") / "run"
    command = [sys.executable, "-m", "engine", "demo", "--json", "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout, out


def test_json_is_the_summary(demo):
    """What `--json` prints is the file, byte for byte, with every key of the contract.

    Source: CLI-001.
    """
    printed, out = demo
    assert printed == (out / "summary.json").read_text(encoding="utf-8")
    summary = json.loads(printed)
    assert not CONTRACT - set(summary)
    assert summary["conserved"] is True
    assert summary["checks"] > 1
    files = {"summary.json", "report.txt", "report.html", "events.npz", "liquidations.csv", "series.npz"}
    assert {entry.name for entry in out.iterdir()} == files


def test_the_demo_is_what_was_recorded(demo):
    """The digest is the same on every machine (STATE-003); `python -m tests.golden.record` records a new one."""
    recorded = json.loads(GOLDEN.read_text(encoding="utf-8"))
    summary = json.loads(demo[0])
    assert {key: summary[key] for key in recorded} == recorded


@pytest.mark.slow
def test_the_reference_plays_the_demo(tmp_path):
    """The readable engine plays the demo with a smaller crowd, to behind its cascade: each event alike (STATE-003)."""
    folder = find_demo()
    crowd = (folder / "population.toml").read_text(encoding="utf-8").replace("accounts = 2000", "accounts = 250")
    (tmp_path / "crowd.toml").write_text(crowd)
    told = ["replay", str(folder), "--market", str(folder / "market.toml"), "--fund", DEMO_FUND, "--until-seq", "72000"]
    told += ["--population", str(tmp_path / "crowd.toml"), "--shock", str(folder / "shock.toml")]
    folders = [tmp_path / name for name in ("reference", "compiled")]
    for out in folders:
        assert main([*told, "--engine", out.name, "--out", str(out)]) == 0
    plain, fast = map(read_summary, folders)
    assert {**without_timings(plain), "engine": ""} == {**without_timings(fast), "engine": ""}
    assert plain["adl_fills"] > 20
    for name in ("events", "series"):
        with (
            np.load(tmp_path / "reference" / f"{name}.npz") as mine,
            np.load(tmp_path / "compiled" / f"{name}.npz") as its,
        ):
            assert mine[name].tobytes() == its[name].tobytes()


def test_the_demo_tells_the_story(demo):
    """It runs into ADL, and the payers of its deficits add up.

    Source: DEF-001, EVT-002.
    """
    summary = json.loads(demo[0])
    assert summary["adl_victims"] > 0
    assert summary["fund_dry_ns"] is not None
    assert "ran dry" in summary["verdict"]
    payers = ("paid_by_fund_quote", "paid_by_adl_quote", "paid_by_haircut_quote", "unpaid_quote")
    assert summary["deficit_quote"] == sum(summary[payer] for payer in payers)


def test_the_demo_again_is_the_same(demo, tmp_path):
    """Everything but the time it took is the same, events included (STATE-003)."""
    assert main(["demo", "--out", str(tmp_path / "again")]) == 0
    again = tmp_path / "again"
    assert without_timings(read_summary(again)) == without_timings(json.loads(demo[0]))
    with np.load(again / "events.npz") as mine, np.load(demo[1] / "events.npz") as first:
        assert mine["events"].tobytes() == first["events"].tobytes()


def test_the_auditor_agrees_with_the_demo(demo):
    """The balances rebuilt from `events.npz` alone end in the funds and the insolvency the summary has (MONEY-002)."""
    summary = json.loads(demo[0])
    with np.load(demo[1] / "events.npz") as found:
        events, names = found["events"], found["kind_names"]
    assert events.dtype == EVENT
    assert {int(kind): str(names[kind]) for kind in EVENT_NAMES} == EVENT_NAMES
    auditor = Auditor(Exchange([load_market(DEMO / "market.toml")], engine="reference").setup)
    auditor.feed(events)
    assert auditor.funds == [summary["fund_end_quote"]]
    assert auditor.sums[0].insolvency == -summary["unpaid_quote"]


def test_the_engines_agree(small, tmp_path):
    """Same digest, same events, same summary from both (STATE-003), on a run that goes through every payer but two."""
    found = {}
    for name in ("compiled", "reference"):
        assert main(arguments(small, "--fund", "2000", "--engine", name, out=tmp_path / name)) == 0
        with np.load(tmp_path / name / "events.npz") as events:
            found[name] = (without_timings(read_summary(tmp_path / name)), events["events"].tobytes())
    fast, plain = found["compiled"][0], found["reference"][0]
    assert fast["liquidations"] > 0
    assert fast["adl_victims"] > 0
    assert fast["digest"] == plain["digest"]
    assert found["compiled"][1] == found["reference"][1]
    assert {**fast, "engine": ""} == {**plain, "engine": ""}


def test_a_fund_that_survives(small, tmp_path, capsys):
    assert main(arguments(small, "--fund", "1000000", "--events", "none", out=tmp_path / "run")) == 0
    summary = read_summary(tmp_path / "run")
    assert "The fund survived" in summary["verdict"]
    assert summary["paid_by_fund_quote"] == summary["fund_start_quote"] - summary["fund_low_quote"] > 0
    page = capsys.readouterr().out
    assert page.startswith("The fund survived")
    assert "conserved: wallets + margins - costs + funds + fees + rounding + insolvency" in page
    assert not (tmp_path / "run" / "events.npz").exists()


def test_a_tape_alone(small, capsys):
    """Without population, shock, fund and run directory a tape is just played."""
    assert main(["replay", str(small / "tape"), "--market", str(small / "market.toml"), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["conserved"] is True
    assert summary["verdict"] == "Nobody was liquidated."
    assert summary["tape"]["trades"] > 0


def test_until_seq_and_seed(small, capsys):
    """`--until-seq` stops after so many commands; another `--seed` is another crowd (POP-001)."""
    seen = []
    for seed in ("3", "4"):
        assert main(arguments(small, "--until-seq", "500", "--seed", seed, "--json")) == 0
        seen.append(json.loads(capsys.readouterr().out))
    assert [summary["commands"] for summary in seen] == [500, 500]
    assert seen[0]["digest"] != seen[1]["digest"]
    assert seen[1]["parameters"]["populations"][0]["seed"] == 4


def test_real_positions(small, tmp_path, capsys):
    """Accounts keep the names their owner gave them (POP-002)."""
    file = tmp_path / "positions.csv"
    file.write_text(
        "account,symbol,side,amount,entry_price,leverage,margin_mode\n"
        "alice,BTCUSDT,long,40,60000,20,isolated\nbob,BTCUSDT,short,30,60000,10,cross\n"
    )
    given = ["replay", str(small / "tape"), "--market", str(small / "market.toml"), "--population", str(file)]
    assert main([*given, "--shock", str(small / "shock.toml"), "--fund", "10", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["adl_victims"] == 1
    assert {row["name"] for row in summary["deficits_top"]} == {"alice"}
    assert {row["name"] for row in summary["adl_top"]} == {"bob"}


def test_parquet_holds_the_same_events(small, tmp_path):
    polars = pytest.importorskip("polars")
    for kind in ("npz", "parquet"):
        assert main(arguments(small, "--fund", "2000", "--events", kind, out=tmp_path / kind)) == 0
    frame = polars.read_parquet(tmp_path / "parquet" / "events.parquet")
    with np.load(tmp_path / "npz" / "events.npz") as found:
        events = found["events"]
    for name in EVENT.names:
        assert np.array_equal(frame[name].to_numpy(), events[name]), name
    assert frame["kind_name"].to_list() == [EVENT_NAMES[int(kind)] for kind in events["kind"]]


def test_parquet_without_polars(small, tmp_path, capsys, monkeypatch):
    """Exit status 3 names the extra, before anything is run (CLI-002)."""
    monkeypatch.setitem(sys.modules, "polars", None)
    assert main(arguments(small, "--events", "parquet", out=tmp_path / "run")) == 3
    assert "perp-engine[parquet]" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_an_earlier_run_is_replaced_and_nothing_else(small, tmp_path, capsys):
    """A folder that holds other things is left alone (CLI-002)."""
    out = tmp_path / "run"
    for fund in ("1000", "1000000"):
        assert main(arguments(small, "--fund", fund, out=out)) == 0
    assert read_summary(out)["fund_start_quote"] == 10**12
    (out / "notes.txt").write_text("mine")
    assert main(arguments(small, out=out)) == 5
    assert "notes.txt" in capsys.readouterr().err
    assert (out / "notes.txt").read_text() == "mine"


# ---------------------------------------------------------------- what can go wrong


def rewrite(source, target, change):
    """Copy a gzip file with its lines changed."""
    lines = gzip.decompress(source.read_bytes()).decode().split("\n")
    change(lines)
    target.write_bytes(gzip.compress("\n".join(lines).encode()))


def set_field(number, field, text):
    """Return a change of one field of one line, both counted from 0."""

    def change(lines):
        fields = lines[number].split(",")
        fields[field] = text
        lines[number] = ",".join(fields)

    return change


def break_trades(change):
    """Return a way to break a copy of the set: its trades file, line by line."""

    def broken(folder):
        file = next((folder / "tape").glob("*_trades_*"))
        rewrite(file, file, change)

    return broken


def break_toml(name, before, after):
    """Return a way to break a copy of the set: one text of one TOML file."""

    def broken(folder):
        text = (folder / name).read_text()
        assert before in text
        (folder / name).write_text(text.replace(before, after, 1))

    return broken


def empty_trades(folder):
    next((folder / "tape").glob("*_trades_*")).write_bytes(gzip.compress(b""))


def cut_book(folder):
    file = next((folder / "tape").glob("*_incremental_book_L2_*"))
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def lose_tape(folder):
    for file in (folder / "tape").iterdir():
        file.unlink()
    (folder / "tape").rmdir()


BAD_INPUT = {
    # name: (how to break it, exit status, texts of the one line)
    "missing file": (lose_tape, 4, ["tape"]),
    "missing market file": (lambda folder: (folder / "market.toml").unlink(), 5, ["market.toml", "cannot be read"]),
    "wrong columns": (
        break_trades(lambda lines: lines.__setitem__(0, lines[0].replace("amount", "size"))),
        4,
        ["_trades_", ":1:", "amount"],
    ),
    "empty file": (empty_trades, 4, ["_trades_", ":1:", "empty"]),
    "truncated gzip": (cut_book, 4, ["_incremental_book_L2_"]),
    "a field that is no number": (break_trades(set_field(7, 6, "sixty")), 4, ["_trades_", ":8:", "'price'", "sixty"]),
    "unknown symbol": (break_trades(set_field(5, 1, "DOGEUSDT")), 4, ["_trades_", ":6:", "DOGEUSDT", "BTCUSDT"]),
    "price off tick": (break_trades(set_field(7, 6, "60000.05")), 4, ["_trades_", ":8:", "'price'", "0.1"]),
    "negative amount": (break_trades(set_field(7, 7, "-0.5")), 4, ["_trades_", ":8:", "'amount'", "-0.5"]),
    "time runs backwards": (break_trades(set_field(7, 3, "1")), 4, ["_trades_", ":8:", "'local_timestamp'"]),
    "unknown policy": (
        break_toml("market.toml", 'surplus = "fund"', 'surplus = "friends"'),
        5,
        ["market.toml", "liquidation.surplus", "friends", "known: fund"],
    ),
    "malformed TOML": (break_toml("market.toml", "settle =", "settle"), 5, ["market.toml", "line 4"]),
    "malformed population": (break_toml("population.toml", "seed =", "seed"), 5, ["population.toml", "line 2"]),
    "malformed shock": (break_toml("shock.toml", "price =", "price"), 5, ["shock.toml", "line 2"]),
    "unknown field": (break_toml("market.toml", "lot_size", "lot"), 5, ["market.toml", "lot"]),
    "negative accounts": (break_toml("population.toml", "accounts = 40", "accounts = -4"), 5, ["accounts", "-4"]),
    "too little for so many": (
        break_toml("population.toml", 'open_interest = "40"', 'open_interest = "0.01"'),
        5,
        ["population.toml", "open_interest"],
    ),
    "a shock that goes back": (break_toml("shock.toml", '"2s"', '"100ms"'), 5, ["shock.toml", "price[1].t"]),
}


@pytest.fixture
def broken(small, tmp_path):
    """Return a copy of the small set that may be broken."""
    folder = tmp_path / "set"
    (folder / "tape").mkdir(parents=True)
    for file in small.rglob("*"):
        if file.is_file():
            (folder / file.relative_to(small)).write_bytes(file.read_bytes())
    return folder


def check_refused(given, out, status, texts, capsys):
    """Run and expect one line on stderr with `texts`, nothing on stdout, nothing left."""
    assert main(given) == status
    printed = capsys.readouterr()
    lines = printed.err.splitlines()
    assert len(lines) == 1, printed.err
    assert lines[0].startswith("perp: error: ")
    assert not [text for text in texts if text not in lines[0]], lines[0]
    assert not printed.out
    assert not out.parent.exists()


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input(case, broken, tmp_path, capsys):
    """One line names file, line, field and what was expected; nothing is left half-written.

    Source: CLI-002, CFG-001, CFG-002, FEED-003.
    """
    breaking, status, texts = BAD_INPUT[case]
    breaking(broken)
    out = tmp_path / "runs" / "bad"
    check_refused(arguments(broken, "--fund", "1000", out=out), out, status, texts, capsys)


@pytest.mark.parametrize(
    ("more", "status", "texts"),
    [
        (["--fund", "-5"], 5, ["--fund", "-5"]),
        (["--fund", "lots"], 5, ["--fund", "decimal number", "lots"]),
        (["--fund", "0.0000001"], 5, ["--fund", "multiple of 0.000001"]),
        (["--fund", "OTHER=5"], 5, ["--fund", "OTHER", "known: USDT"]),
        (["--accounts-max", "30"], 6, ["population.toml", "40 accounts", "accounts_max", "30", "--accounts-max"]),
        (["--positions-max", "30"], 6, ["positions_max=30 is used up", "raise", "--positions-max"]),
        (["--orders-max", "30"], 6, ["orders_max=30 is used up", "raise", "--orders-max"]),
        (["--seed", "-1"], 5, ["--seed", "-1"]),
    ],
)
def test_bad_options(small, tmp_path, capsys, more, status, texts):
    """Source: CLI-002."""
    out = tmp_path / "runs" / "bad"
    check_refused(arguments(small, *more, out=out), out, status, texts, capsys)


def test_what_a_full_run_names_is_an_option(small, capsys):
    """Every capacity has its option in `perp replay --help`, and a run that is given enough of all ends well.

    Source: CLI-002.
    """
    options = [f"--{name.replace('_', '-')}" for name in Capacity._fields]
    with pytest.raises(SystemExit) as left:
        main(["replay", "--help"])
    assert left.value.code == 0
    printed = capsys.readouterr().out
    assert not [option for option in options if option not in printed]
    assert main(arguments(small, "--json")) == 0
    plain = json.loads(capsys.readouterr().out)
    assert main(arguments(small, "--json", *chain.from_iterable((option, "5000") for option in options))) == 0
    roomy = json.loads(capsys.readouterr().out)
    assert roomy["digest"] == plain["digest"]
    assert [roomy["parameters"][name] for name in Capacity._fields] == [5000] * len(options)


@pytest.mark.parametrize("more", [["--engine", "fast"], ["--until-seq", "0"], ["--nonsense"]])
def test_usage(small, capsys, more):
    """Usage errors are argparse's own: exit status 2 (CLI-002)."""
    with pytest.raises(SystemExit) as left:
        main(arguments(small, *more))
    assert left.value.code == 2


def test_out_cannot_be_a_file(small, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    assert main(arguments(small, out=tmp_path / "file")) == 5
    assert "expected a folder" in capsys.readouterr().err


def test_a_broken_invariant_leaves_its_reproduction(small, tmp_path, capsys, monkeypatch):
    """Exit status 70; the commands that led there are in the run directory, and `conserved` is false.

    Source: CLI-002, MONEY-001.
    """

    def refuse(view, setup):
        raise InvariantError("USDT is not conserved: 1 owned, 0 paid in")

    monkeypatch.setattr(engine.replay.runner, "check_state", refuse)
    assert main(arguments(small, "--fund", "2000", out=tmp_path / "run")) == 70
    assert "reproduction.npz" in capsys.readouterr().err
    summary = read_summary(tmp_path / "run")
    assert summary["conserved"] is False
    with np.load(tmp_path / "run" / "reproduction.npz") as found:
        commands, meta = found["commands"], json.loads(found["meta"].tobytes())
    assert len(commands) == summary["commands"] > 40
    assert meta["markets"][0]["symbol"] == "BTCUSDT"
    exchange = Exchange([load_market(small / "market.toml")])
    exchange.apply(commands)
    assert exchange.digest() == summary["digest"]


def test_interrupted(small, tmp_path):
    """Ctrl-C ends the run between two pieces: what is done is written, exit status 130 (CLI-002)."""
    out = tmp_path / "run"
    given = arguments(small, "--fund", "2000", "--engine", "reference", "--progress", out=out)
    with subprocess.Popen([sys.executable, "-m", "engine", *given], cwd=ROOT, stderr=subprocess.PIPE) as child:
        seen = b""
        while b"commands" not in seen:
            seen += os.read(child.stderr.fileno(), 4096)
        child.send_signal(signal.SIGINT)
        child.stderr.read()
        assert child.wait(60) == 130
    summary = read_summary(out)
    assert summary["interrupted"] is True
    assert summary["conserved"] is True
    assert summary["verdict"].startswith("Interrupted; so far: ")
    assert zipfile.is_zipfile(out / "events.npz")
    assert not [entry for entry in tmp_path.iterdir() if entry != out]


def test_a_reader_that_leaves():
    """A closed pipe is no error worth a traceback."""
    done = subprocess.run(
        f"{sys.executable} -m engine docs spec | head -1", shell=True, cwd=ROOT, capture_output=True, check=False
    )
    assert done.stdout.startswith(b"# The rule book")
    assert not done.stderr


# ---------------------------------------------------------------- the house


def test_help_is_fast():
    """`perp --help` neither imports numba nor numpy, and lists what there is."""
    code = "import sys; from engine.cli import main\ntry:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
    code += "sys.exit(bool({'numba', 'numpy'} & set(sys.modules)))"
    times = []
    for _ in range(3):
        begun = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
        times.append(time.perf_counter() - begun)
        assert done.returncode == 0, done.stderr
    for verb in ("demo", "replay", "fetch", "inspect", "warm", "doctor", "docs"):
        assert f"\n    {verb} " in done.stdout
    assert min(times) < 1  # 0.05 s on an idle machine; the bar is 0.15


def test_doctor_and_warm(capsys):
    for verb in ("doctor", "warm"):
        assert main([verb]) == 0
        assert "kernels" in capsys.readouterr().out
        assert main([verb, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["schema"] == 1


def test_inspect(small, capsys):
    assert main(["inspect", str(small / "tape")]) == 0
    assert "incremental_book_L2" in capsys.readouterr().out
    assert main(["inspect", str(small / "tape"), "--market", str(small / "market.toml"), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["commands"] > facts["streams"]["trades"] > 0
    assert facts["symbols"] == ["BTCUSDT"]
    assert main(["inspect", str(small / "population.toml")]) == 4


def test_inspect_states_memory(small, capsys):
    """With markets: what the exchange starts with, what grows with the content, the deepest book; else what is known.

    The text and the JSON object say the same.
    """
    plain = ["inspect", str(small / "tape")]
    with_market = [*plain, "--market", str(small / "market.toml")]
    assert main([*with_market, "--json"]) == 0
    memory = json.loads(capsys.readouterr().out)["memory"]
    assert memory["empty_bytes"] > memory["price_bytes"] > 0
    assert memory["book_bytes"] > memory["order_bytes"] * memory["levels_max"] > 0
    assert main(with_market) == 0
    printed = capsys.readouterr().out
    line = next(line for line in printed.splitlines() if line.startswith("memory "))
    assert f"+ {memory['order_bytes']} B per resting order" in line
    assert f"+ {memory['account_bytes']} B per account with a position" in line
    assert re.search(rf"deepest book +{memory['levels_max']:,} levels at once", printed)
    assert main([*plain, "--json"]) == 0
    units = json.loads(capsys.readouterr().out)["memory"]
    assert units.items() < memory.items()
    assert main(plain) == 0
    assert f"+ {memory['order_bytes']} B per resting order" in capsys.readouterr().out


def test_docs(capsys):
    assert main(["docs", "liq-007"]) == 0
    assert capsys.readouterr().out.startswith("**LIQ-007** A deficit is paid by the market's fund at once")
    assert main(["docs"]) == 0
    assert "formats" in capsys.readouterr().out
    assert main(["docs", "nothing"]) == 2
    assert find_rule("**A-001** one\ntwo\n\n**A-002** three\n# head", "A-001") == "**A-001** one\ntwo"
