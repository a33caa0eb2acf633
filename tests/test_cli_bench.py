"""`perp bench`: what its verbs print, find and refuse (CLI-002); what they measure is nobody's to assert."""

import json
import sys
from pathlib import Path

import pytest

import engine.bench.latency
import engine.bench.risk
from engine.cli import main

ROOT = Path(__file__).resolve().parents[1]


def test_bench_latency(capsys):
    """Every load has its row, in the text and in the one object of `--json`, and the reports of an undisturbed run."""
    assert main(["bench", "latency", "--count", "400", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == 1
    assert found["scenario"] == "normal"
    assert found["arrivals"] == "poisson"
    assert found["capacity_messages_per_s"] > 0
    assert [row["load_percent"] for row in found["loads"]] == [10, 20, 30, 40, 50, 60, 70, 80, 90]
    for row in found["loads"]:
        assert row["same_reports"] is True
        assert 0 < row["batches"] <= found["messages"]
        assert row["achieved_messages_per_s"] > 0
        for name in ("latency_ns", "service_ns"):
            values = list(row[name].values())
            assert list(row[name]) == ["p50", "p90", "p99", "p99.9", "p99.99", "max"]
            assert values == sorted(values)
        assert row["service_ns"]["max"] <= row["latency_ns"]["max"]
    given = ["--scenario", "static", "--load", "30", "--load", "5", "--arrivals", "even", "--batch", "16"]
    assert main(["bench", "latency", "--count", "200", *given]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("static, ")
    assert lines[0].endswith("even arrivals, batches of at most 16")
    assert [line[:5] for line in lines if line[3:5] == " %"] == [" 30 %", "  5 %"] * 2


def test_bench_latency_tells_wrong_reports(capsys, monkeypatch):
    """Exit status 1 where a run's reports are not those of an undisturbed one (CLI-002)."""
    measure = engine.bench.latency.Bench.measure_load
    monkeypatch.setattr(
        engine.bench.latency.Bench, "measure_load", lambda *given: measure(*given) | {"same_reports": False}
    )
    assert main(["bench", "latency", "--count", "50", "--load", "50"]) == 1
    assert "NOT the reports" in capsys.readouterr().out


def test_bench_sim(capsys):
    """Every market has its row, and its commands alone leave the state it left (SIM-009)."""
    given = ["bench", "sim", "--accounts", "300", "--seconds", "20"]
    assert main([*given, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["schema"], found["accounts"], found["seconds"]) == (1, 300, 20)
    assert [row["market"] for row in found["markets"]] == ["calm", "busy", "fall", "adl"]
    for row in found["markets"]:
        assert row["same_digest"] is True
        assert row["events"] > row["commands"] > row["steps"] > 0
    assert found["markets"][3]["adl_fills"] > found["markets"][0]["liquidations"]
    assert main(given) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4


def test_bench_step(capsys, monkeypatch):
    """Both builds do the same, here compiled and instrumented Python, and the shares of each workload are a whole."""
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")  # of the child: it would compile for a minute
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    given = ["bench", "step", "--count", "200", "--accounts", "20"]
    assert main([*given, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == 1
    assert found["accounts"] == 20
    assert [row["workload"] for row in found["workloads"]] == ["order flow", "crash", "funding"]
    for row in found["workloads"]:
        assert row["units"] > 0
        assert row["ns_per_unit"] > 0
        assert abs(sum(phase["share"] for phase in row["phases"].values()) - 1) < 0.01
    orders, crash, funding = (row["phases"] for row in found["workloads"])
    # every phase is entered where its work is done
    for name in ("commands", "matching", "positions", "margin", "triggers", "events"):
        assert orders[name]["entered_per_unit"] > 0, name
    for name in ("liquidation", "fund", "ADL"):
        assert crash[name]["entered_per_unit"] > 0, name
        assert orders[name]["entered_per_unit"] < crash[name]["entered_per_unit"], name
    assert crash["liquidation"]["entered_per_unit"] == 1
    assert funding["funding"]["entered_per_unit"] == round(20 / found["workloads"][2]["units"], 3)
    assert main(given) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines if line.endswith("ns each")] == ["order flow", "crash", "funding"]
    assert any(line.startswith("ADL  ") for line in lines)


def test_bench_step_tells_a_failing_child(capfd, monkeypatch):
    """Source: CLI-002."""
    monkeypatch.setattr(sys, "executable", "false")
    assert main(["bench", "step", "--count", "1", "--accounts", "2"]) == 1
    assert "instrumented build ended with exit status 1" in capfd.readouterr().err


@pytest.mark.parametrize("what", ["matching", "latency"])
@pytest.mark.parametrize(
    ("more", "texts"),
    [(["--scenario", "calm"], ["--scenario", "calm", "known: static"]), (["--seed", "-1"], ["--seed", "2**32", "-1"])],
)
def test_bad_workloads(capsys, what, more, texts):
    """Source: CLI-002."""
    assert main(["bench", what, "--count", "10", *more]) == 5
    printed = capsys.readouterr()
    assert not printed.out
    assert not [text for text in texts if text not in printed.err], printed.err


@pytest.mark.parametrize(
    "more",
    [["--load", "0"], ["--load", "100"], ["--load", "much"], ["--count", "0"], ["--batch", "0"], ["--arrivals", "odd"]],
)
def test_bench_latency_usage(more):
    """Usage errors are argparse's own: exit status 2 (CLI-002)."""
    with pytest.raises(SystemExit) as left:
        main(["bench", "latency", *more])
    assert left.value.code == 2


def test_bench_risk(capsys):
    """Every figure has its key and its rows, and counts what it was to do: a tenth liquidated, everyone paid.

    Source: CLI-002.
    """
    assert main(["bench", "risk", "--accounts", "2000", "--count", "500", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    keys = "mark_flat_ratio needless_pops_per_mark loop_over_matching us_per_liquidation bytes_per_account"
    more = "adl_heap_ms adl_victim_us funding_ms thread_scaling tiers_ms"
    assert set(found) >= {*keys.split(), *more.split(), *engine.bench.risk.FIGURES}
    assert [row["liquidations"] for row in found["crash"]] == [200, 200]
    assert [row["payments"] for row in found["funding"]] == [2_001, 2_001]  # the outside pays too
    assert all(row["burst_victims"] >= 20 and row["queue_victims"] == 1 for row in found["adl"])
    assert {(row["mode"], row["markets"]) for row in found["marks"]} == {
        (mode, markets) for mode in ("isolated", "cross") for markets in (1, 8)
    }
    # a batch right after a copy is a column of its own, not a part of what a mark costs
    assert all(row["first_batch_ms"] > 0 and row["ns_per_mark"] > 0 for row in found["marks"])
    assert found["mark_flat_ratio"] >= max(row["beside_smallest"] for row in found["marks"])


def test_bench_risk_prints_what_is_asked_for(capsys):
    """One figure alone is one table; an unknown one is refused before anything runs.

    Source: CLI-002.
    """
    assert main(["bench", "risk", "--only", "funding", "--accounts", "100"]) == 0
    assert capsys.readouterr().out.startswith("funding: funding_ms ")
    assert main(["bench", "risk", "--only", "funding", "--only", "moon"]) == 5
    shown = capsys.readouterr()
    assert "moon" in shown.err
    assert not shown.out


def test_bench_replay(capsys, monkeypatch):
    """Every way of reading has its row, all end in one state; exit status 1 where one does not (CLI-002, FEED-063)."""
    given = ["bench", "replay", "--times", "2", "--rounds", "1"]
    assert main([*given, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == 1
    assert found["same_state"] is True
    ways = {row["way"]: row for row in found["ways"]}
    assert {"unpack", "replay_plain"} <= set(ways)
    assert all(row["rows_per_s"] > 0 and row["ratio"] > 0 for row in found["ways"])
    single = ["bench", "replay", "--times", "1", "--rounds", "1"]
    assert main([*single, "--json"]) == 0
    assert 2 * json.loads(capsys.readouterr().out)["rows"] == found["rows"]
    digests = iter(range(100))
    monkeypatch.setattr("engine.bench.replay.Exchange.digest", lambda exchange: str(next(digests)))
    assert main(single) == 1
    assert "replay_plain" in capsys.readouterr().out
