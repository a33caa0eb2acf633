"""The stress lab's verbs: folders that go on, processes, a Dask cluster, Ctrl-C, and what they print."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import msgspec
import pytest

from engine.cli import build_parser, main
from engine.sweep import store
from engine.sweep.executors import open_crew
from engine.sweep.jobs import Cell, run_jobs
from engine.sweep.measure import METRICS, run_seed
from engine.sweep.scenario import StressFile, load_scenario
from engine.sweep.store import Store

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "replay_data" / "stress" / "flash_crash.toml"
HEADER = {"task": "t", "digest": "d", "version": "v", "search": {}}


def call(capsys, *arguments):
    """Run a verb here, in this process, and return its status and its JSON."""
    status = main([*map(str, arguments), "--json", "--workers", "1"])
    return status, json.loads(capsys.readouterr().out)


def read_rows(folder):
    """Return the finished runs of a folder, sorted."""
    return sorted((folder / store.RUNS).read_text().splitlines())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return the folder of a run that nothing cut off, in this process."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert main(["stress", str(EXAMPLE), "--seeds", "12", "--workers", "1", "--out", str(folder)]) == 0
    return folder


def test_what_a_run_leaves(whole):
    """Source: STRESS-004, STRESS-005, CLI-001."""
    assert {file.name for file in whole.iterdir()} <= store.OURS
    summary = json.loads((whole / store.SUMMARY).read_text())
    (cell,) = summary["cells"]
    assert (summary["seeds"], cell["runs"], summary["interrupted"]) == (12, 12, False)
    rows = [json.loads(line) for line in read_rows(whole)]
    for metric in METRICS:
        numbers = [row[metric.key] for row in rows if row[metric.key] is not None]
        if metric.kind == "share":
            assert cell["shares"][metric.key]["count"] == sum(numbers)
        else:
            assert cell["amounts"][metric.key]["mean"]["value"] == pytest.approx(sum(numbers) / len(numbers))
    page = (whole / store.REPORT).read_text()
    assert all(metric.title in page for metric in METRICS)
    assert max(map(len, page.splitlines())) <= 120


def test_results_as_parquet_and_as_csv(whole, tmp_path, monkeypatch):
    """Source: STRESS-004."""
    polars = pytest.importorskip("polars")
    rows = [json.loads(line) for line in read_rows(whole)]
    for row in rows:
        del row["cell"]
    frame = polars.read_parquet(whole / store.PARQUET)
    assert frame.sort("seed").to_dicts() == sorted(rows, key=lambda row: row["seed"])
    monkeypatch.setitem(sys.modules, "polars", None)
    (tmp_path / store.PARQUET).write_text("of before")
    assert store.write_results(tmp_path, rows) == store.CSV
    assert [file.name for file in tmp_path.iterdir()] == [store.CSV]
    assert polars.read_csv(tmp_path / store.CSV)["deficit_quote"].to_list() == [row["deficit_quote"] for row in rows]


def test_a_run_that_was_stopped_goes_on(whole, tmp_path, capsys):
    """Ctrl-C keeps what is done (130); a line cut off by a kill is done again; the end is as if nothing had been.

    Source: STRESS-004, STRESS-009, CLI-002.
    """
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "engine", "stress", str(EXAMPLE), "--seeds", "400", "--workers", "2"]
    child = subprocess.Popen(
        [*command, "--out", str(folder), "--progress"], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    end = time.monotonic() + 120
    while not (folder / store.RUNS).exists() or len(read_rows(folder)) < 3:
        assert child.poll() is None, child.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.02)
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=60)
    assert child.returncode == 130, said
    assert "runs" in said
    assert "left" in said
    assert "Traceback" not in said
    done = read_rows(folder)
    assert 3 <= len(done) < 400
    summary = json.loads((folder / store.SUMMARY).read_text())
    assert summary["interrupted"]
    assert summary["cells"][0]["runs"] == len(done)
    lines = (folder / store.RUNS).read_text().splitlines()[:5]
    (folder / store.RUNS).write_text("\n".join(lines) + "\n" + lines[0][:40])
    status, summary = call(capsys, "stress", EXAMPLE, "--seeds", 12, "--out", folder)
    assert (status, summary["interrupted"]) == (0, False)
    kept = [line for line in read_rows(folder) if json.loads(line)["seed"] < 12]
    assert kept == read_rows(whole), "processes, this one, in any order: the same rows"
    for name in (store.SUMMARY, store.REPORT, store.SCENARIO):
        assert (folder / name).read_bytes() == (whole / name).read_bytes()


def test_another_scenario_is_refused(whole, tmp_path, capsys):
    """Source: STRESS-004."""
    for file in ("flash_crash.toml", "market.toml"):
        text = (EXAMPLE.parent / file).read_text().replace('fund = "50000"', 'fund = "50001"')
        (tmp_path / file).write_text(text)
    assert main(["stress", str(tmp_path / "flash_crash.toml"), "--out", str(whole)]) == 5
    assert "holds another digest" in capsys.readouterr().err
    assert main(["size-fund", str(EXAMPLE), "--out", str(whole)]) == 5
    assert "holds another task" in capsys.readouterr().err


def test_a_sweep(whole, tmp_path, capsys):
    """Every cell sees the same seeds; what differs from the first is told seed by seed.

    Source: STRESS-003, STRESS-010.
    """
    grid = ("--grid", "fund=50000:100000:lin2", "--grid", "adl.score=bitmex,binance")
    status, summary = call(capsys, "sweep", EXAMPLE, "--seeds", 5, *grid, "--out", tmp_path / "o")
    assert status == 0
    assert [tuple(cell["point"].values()) for cell in summary["cells"]] == [
        ("50000", "bitmex"),
        ("50000", "binance"),
        ("100000", "bitmex"),
        ("100000", "binance"),
    ]
    first = [json.loads(line) for line in read_rows(tmp_path / "o") if '"fund=50000 adl.score=bitmex"' in line]
    plain = [json.loads(line) for line in read_rows(whole)]
    pick = {row["seed"]: row["digest"] for row in plain}
    assert all(pick[row["seed"]] == row["digest"] for row in first), "a point where nothing is changed is the scenario"
    assert summary["cells"][0]["versus_first"] == {}
    frame = pytest.importorskip("polars").read_parquet(tmp_path / "o" / store.PARQUET)
    assert frame.columns[:3] == ["fund", "adl.score", "seed"]
    assert frame.height == 20
    low = summary["cells"][2]["versus_first"]["fund_low_quote"]
    assert low["runs"] == 5
    assert low["value"] > 0
    status, wider = call(capsys, "sweep", EXAMPLE, "--seeds", 6, *grid, "--out", tmp_path / "o")
    assert (status, wider["cells"][0]["runs"], len(read_rows(tmp_path / "o"))) == (0, 6, 24)
    assert main(["sweep", str(EXAMPLE), "--seeds", "2", *grid, "--workers", "1"]) == 0
    assert "fund used p99" in capsys.readouterr().out


def test_the_size_of_the_fund(whole, tmp_path, capsys):
    """Source: STRESS-011."""
    status, summary = call(capsys, "size-fund", EXAMPLE, "--seeds", 12, "--breach", "25%", "--out", tmp_path / "o")
    assert status == 0
    need = summary["need"]
    used = sorted(json.loads(line)["need_quote"] for line in read_rows(tmp_path / "o"))
    assert summary["is_exact"]
    assert need["fund_quote"] == used[8], "three of twelve may breach"
    assert sum(number > need["fund_quote"] for number in used) == need["breached"]["count"] == 3
    plain = {json.loads(line)["seed"]: json.loads(line) for line in read_rows(whole)}
    for line in read_rows(tmp_path / "o"):
        row = json.loads(line)
        assert plain[row["seed"]]["fund_exhausted"] == (row["need_quote"] > 50_000 * 10**6)
    assert main(["size-fund", str(EXAMPLE), "--seeds", "3", "--workers", "1"]) == 0
    assert "read off one run with an endless fund" in capsys.readouterr().out


def test_the_smallest_shock(capsys):
    """Source: STRESS-012."""
    arguments = (
        "--size",
        "0:0.2",
        "--depth",
        "1,0.2",
        "--speed",
        "1s",
        "--at",
        "5s",
        "--until",
        "adl",
        "--halvings",
        4,
    )
    status, summary = call(capsys, "find-shock", EXAMPLE, "--seeds", 3, *arguments)
    assert status == 0
    deep, thin = summary["frontier"]
    assert (deep["fixed"]["depth"], thin["fixed"]["depth"]) == ("1", "0.2")
    assert 0 < thin["threshold"]["size"] <= deep["threshold"]["size"] <= 0.2
    assert main(["find-shock", str(EXAMPLE), "--seeds", "1", "--workers", "1", *map(str, arguments)]) == 0
    assert "the mildest shock with 'adl'" in capsys.readouterr().out


def test_the_page_says_what_is_there():
    """Its scenario has every field, its commands are understood, every number is defined.

    Source: STRESS-001, STRESS-005.
    """
    text = (ROOT / "engine" / "docs" / "stress.md").read_text()
    block = re.search(r"```toml\n(.*?)```", text, re.DOTALL)[1]
    fields = set(tomllib.loads(block.replace("# tape", "tape")))
    assert fields == set(StressFile.__struct_fields__)
    assert msgspec.convert(tomllib.loads(block), StressFile).policies["adl.score"] == "binance"
    words = set(re.findall(r"`(\w+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL)))
    assert not {metric.key for metric in METRICS} - words
    readme = (ROOT / "README.md").read_text()
    lines = re.findall(r"^perp ((?:stress|sweep|size-fund|find-shock) .*)$", text + readme, re.MULTILINE)
    assert len(lines) == 8
    for line in lines:
        assert (ROOT / str(build_parser().parse_args(line.split()).scenario)).is_file()


def test_formats_names_every_key(whole, capsys):
    """Source: CLI-001."""
    words = set(re.findall(r"`(\w+)`", (ROOT / "engine" / "docs" / "formats.md").read_text()))
    grid = ("--grid", "fund=1,2")
    found = [json.loads((whole / store.SUMMARY).read_text()), call(capsys, "sweep", EXAMPLE, "--seeds", 1, *grid)[1]]
    found.append(call(capsys, "size-fund", EXAMPLE, "--seeds", 1)[1])
    found.append(call(capsys, "find-shock", EXAMPLE, "--seeds", 1, "--halvings", 1)[1])
    for summary in found:
        assert not set(summary) - words
        for part in (*summary.get("cells", ()), *summary.get("frontier", ()), summary.get("need", {})):
            assert not set(part) - words


@pytest.mark.parametrize(
    ("arguments", "said", "status"),
    [
        (["size-fund", EXAMPLE, "--breach", "0"], "--breach 0: expected more than 0", 5),
        (["size-fund", EXAMPLE, "--breach", "x%"], "--breach x%: expected a decimal number", 5),
        (["sweep", EXAMPLE, "--grid", "nix=1,2"], "--grid: nix: unknown 'nix'", 5),
        (["find-shock", EXAMPLE, "--size", "0.1"], "expected at least one of", 5),
        (["find-shock", EXAMPLE, "--at", "soon"], "--at: expected a duration", 5),
        (["stress", "nowhere.toml"], "nowhere.toml: cannot be read", 5),
        (
            ["stress", EXAMPLE, "--scheduler", "tcp://127.0.0.1:9"],
            "--scheduler tcp://127.0.0.1:9: expected a running",
            5,
        ),
    ],
)
def test_what_cannot_be_run_is_refused(arguments, said, status, capsys, monkeypatch):
    """Source: STRESS-001, STRESS-009, CLI-002."""
    if "--scheduler" in arguments:
        pytest.importorskip("distributed")
        monkeypatch.setattr("engine.sweep.executors.CONNECT_S", 0.2)
    assert main([str(argument) for argument in arguments]) == status
    assert said in capsys.readouterr().err


def test_without_dask_the_extra_is_named(capsys, monkeypatch):
    """Source: CLI-002."""
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert main(["stress", str(EXAMPLE), "--seeds", "1", "--scheduler", "tcp://127.0.0.1:9"]) == 3
    assert "pip install 'perp-engine[cluster]'" in capsys.readouterr().err


# ---------------------------------------------------------------- workers that die


def die_once(scenario, seed, *, marker):
    """Run a seed; the first to come to number 3 takes its process with it."""
    if seed == 3 and not os.path.exists(marker):
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return run_seed(scenario, seed)


def die_always(scenario, seed):
    """Take the process along."""
    os.kill(os.getpid(), signal.SIGKILL)


def check_nothing_is_lost(crew, tmp_path):
    """Run six seeds, one of which kills its worker, and compare with runs in this process."""
    scenario, marker = load_scenario(EXAMPLE), tmp_path / "killed"
    with Store(tmp_path / "o", HEADER, {}) as kept:
        assert run_jobs(die_once, [Cell({}, scenario, {"marker": str(marker)})], range(6), kept, crew)
    assert marker.exists()
    assert [kept.rows["", seed] for seed in range(6)] == [run_seed(scenario, seed) for seed in range(6)]


def test_a_killed_process_costs_no_result(tmp_path):
    """Source: STRESS-009."""
    with open_crew(2) as crew:
        check_nothing_is_lost(crew, tmp_path)


# what Dask and tornado say while a worker dies and a cluster ends is theirs
@pytest.mark.filterwarnings("ignore")
def test_a_killed_dask_worker_costs_no_result(tmp_path):
    """Two worker processes of a real cluster, one of which dies with a run under way.

    Source: STRESS-009.
    """
    distributed = pytest.importorskip("distributed", reason="the extra 'cluster' is not installed")
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    with distributed.LocalCluster(**options, host="127.0.0.1") as cluster:
        before = {worker.pid for worker in cluster.workers.values()}
        with open_crew(1, cluster.scheduler_address) as crew:
            assert crew.width == 2
            check_nothing_is_lost(crew, tmp_path)
        assert before != {worker.pid for worker in cluster.workers.values()}, "one of them was replaced"
