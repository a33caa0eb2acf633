"""`perp lab`: the paper's table from the paper's data, and the demo's waves against its summary (LAB-011, LAB-013)."""

import csv
import json
import re
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from engine import codes
from engine.cli import compile_kernels, main
from engine.lab import metrics
from engine.lab.oct10 import POLICIES, count_once, read_waves
from engine.lab.policies import rank_by
from engine.lab.waves import WaveReader
from engine.runs import open_run, read_events

ROOT = Path(__file__).resolve().parents[1]
SUMS = ("deficit_quote", "paid_by_fund_quote", "paid_by_adl_quote", "paid_by_haircut_quote", "unpaid_quote")

# Table 2 of arXiv 2602.15182, then the two further policies of its data.
TABLE = {
    "prod": ("53782490.53", "11077031.68", "64859522.21", "0.7545"),
    "contract_pr": ("3020120.65", "384064.35", "3404185.00", "0.1153"),
    "vector": ("1793022.03", "2620345.57", "4413367.61", "0.0071"),
    "fixed_point_ilp_integer": ("106205.81", "0.00", "106205.81", "0.0621"),
    "pr": ("0.00", "2732437.29", "2732437.29", "0.0130"),
    "pnl_pr": ("0.00", "1677764.43", "1677764.43", "0.0277"),
    "eq_pr": ("0.00", "2800072.86", "2800072.86", "0.0048"),
}


def run_json(capsys, *arguments):
    assert main([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def fail(capsys, *arguments):
    """Return (exit status, the line of the error)."""
    status = main(list(map(str, arguments)))
    (line,) = capsys.readouterr().err.splitlines()
    return status, line


# ---------------------------------------------------------------- 10 October 2025


@pytest.fixture(scope="module")
def oct10(shared):
    return shared / "data" / "adl_papers" / "oct10_policy_waves.csv"


def test_the_papers_table_to_the_cent(oct10, capsys):
    """LAB-004, LAB-011: Table 2 of arXiv 2602.15182."""
    facts = run_json(capsys, "lab", "oct10", "--from", oct10)
    names = ("tracking", "fairness", "total", "mean_max_share")
    assert {key: tuple(row[name] for name in names) for key, row in facts["policies"].items()} == TABLE
    assert (facts["waves"], facts["needed"], facts["taken_by_production"]) == (16, "15079669.61", "60108335.33")
    assert facts["policies"]["prod"]["overshoot"] == "45028665.72"


def test_one_accounts_deficit_counted_once(oct10, capsys):
    """LAB-010, LAB-011: a frozen loss of 10.9 million stands in nine waves; once, it leaves a quarter of the bound."""
    facts = run_json(capsys, "lab", "oct10", "--from", oct10)
    assert facts["repeated_losses"] == 8
    assert facts["as_published"] == {
        "deficit": "100063386.69",
        "envelope": "129699802.43",
        "path": "7.0595",
        "production_share": "0.5001",
    }
    assert facts["counted_once"] == {
        "deficit": "12657729.41",
        "envelope": "31922594.42",
        "path": "3.7200",
        "production_share": "2.0318",
    }
    waves = read_waves(oct10)
    frozen = Fraction("10925707.159377944")
    assert sum(wave.largest_loss == frozen for wave in waves) == 9
    assert sum(wave.deficit for wave in waves) - sum(wave.deficit for wave in count_once(waves)) == 8 * frozen


def test_the_table_as_text(oct10, capsys):
    """LAB-011."""
    assert main(["lab", "oct10", "--from", str(oct10)]) == 0
    text = capsys.readouterr().out
    for _, _, total, _ in TABLE.values():
        assert f" {Decimal(total):,} " in text
    assert "12,657,729.41" in text


def test_the_papers_solvency_ratios(shared):
    """LAB-006: the file's PMR and RD-NSE follow from its PTSR, 16 waves and 7 policies, as our formulas say."""
    path = shared / "data" / "hyperliquid_adl_20251010" / "pluriholonomic" / "policy_per_wave_metrics.csv"
    seen = 0
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            deficit, largest = Fraction(row["deficit_usd"]), Fraction(row["max_loss_usd"])
            for policy in POLICIES:
                taken = Fraction(row[f"budget_{policy}"])
                if deficit <= taken:
                    assert not row[f"ptsr_{policy}"]
                    assert metrics.profit_to_shortfall(1, deficit, taken) is None
                    continue
                top = Fraction(row[f"ptsr_{policy}"]) * (deficit - taken)
                pmr, share = float(row[f"pmr_{policy}"]), float(row[f"rd_nse_{policy}"])
                assert float(metrics.profit_to_max_loss(top, deficit, taken, largest)) == pytest.approx(pmr, rel=1e-9)
                assert float(metrics.shortfall_share(top, deficit, taken)) == pytest.approx(share, rel=1e-9)
                seen += 1
    assert seen > 60


GOOD = "1,5,10,6," + ",".join("5,0.5" for _ in POLICIES)
HEADER = "wave,budget_needed,deficit_usd,max_loss_usd," + ",".join(f"budget_{p},max_pct_{p}" for p in POLICIES)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ":1: field 'wave': expected this column of the paper's waves"),
        (HEADER.replace("budget_prod", "x"), ":1: field 'budget_prod': expected this column of the paper's waves"),
        (HEADER, ":2: field 'deficit_usd': expected at least one wave with a deficit"),
        (
            f"{HEADER}\n{GOOD}\n{GOOD.replace('1,5,10', '2,five,10')}",
            ":3: field 'budget_needed': expected a decimal number, got 'five'",
        ),
        (
            f"{HEADER}\n{GOOD.replace('10,6', '-10,6')}",
            ":2: field 'deficit_usd': expected a number of 0 or more, got -10",
        ),
        (
            f"{HEADER}\n{GOOD.replace('10,6', '10,11')}",
            ":2: field 'max_loss_usd': expected at most the deficit of the wave, 10",
        ),
        (f"{HEADER}\n1,5", ":2: field 'budget_prod': expected a decimal number, got ''"),
    ],
)
def test_bad_waves_are_named(tmp_path, capsys, text, expected):
    """LAB-011, CLI-002: file, line, field and what was expected."""
    file = tmp_path / "waves.csv"
    file.write_text(text)
    assert fail(capsys, "lab", "oct10", "--from", file) == (4, f"perp: error: {file}{expected}")


def test_small_waves_by_hand(tmp_path, capsys):
    """LAB-010, LAB-011: two waves with the same loss of 6: 10 and 10 short, once counted 10 and 4."""
    file = tmp_path / "waves.csv"
    file.write_text(f"{HEADER}\n{GOOD}\n{GOOD.replace('1,5,10', '2,2,10', 1)}\n")
    facts = run_json(capsys, "lab", "oct10", "--from", file)
    # theta 1/2 and 1/5: sqrt(1.6 x 200); once 1/2 and 1/2: sqrt(116); all take 5 where 2 were needed
    assert facts["as_published"] == {
        "deficit": "20.00",
        "envelope": "17.89",
        "path": "0.3000",
        "production_share": "0.1677",
    }
    assert facts["counted_once"]["envelope"] == "10.77"
    assert facts["policies"]["prod"]["tracking"] == "3.00"


# ---------------------------------------------------------------- a run of ours


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Return the demo's run directory."""
    compile_kernels(is_all=False)
    folder = tmp_path_factory.mktemp("lab") / "demo"
    assert main(["demo", "--out", str(folder)]) == 0
    return folder


def test_the_demos_waves_are_its_summary(demo, capsys):
    """LAB-003, LAB-013: every sum is the summary's, to the unit, and what the waves miss is the fund's alone."""
    summary = json.loads((demo / "summary.json").read_text())
    found = run_json(capsys, "lab", "run", demo, "--gap", "100ms")
    (facts,) = found["runs"]
    assert found["gap_ns"] == 100_000_000
    assert {name: facts[name] for name in (*SUMS, "deficits")} == {name: summary[name] for name in (*SUMS, "deficits")}
    waves = facts["waves"]
    assert len(waves) == 6
    assert sum(wave["by_adl_quote"] for wave in waves) == summary["paid_by_adl_quote"] == facts["needed_quote"]
    outside = summary["deficit_quote"] - sum(wave["deficit_quote"] for wave in waves)
    assert outside == summary["paid_by_fund_quote"] - sum(wave["by_fund_quote"] for wave in waves)
    assert facts["taken_quote"] == facts["needed_quote"]
    assert facts["gained_quote"] == summary["adl_gain_quote"]
    assert all(row["taken_quote"] == facts["needed_quote"] for row in facts["policies"].values())
    assert all(row["tracking_quote"] == 0 for row in facts["policies"].values())


def test_the_page_names_every_key(demo, capsys):
    """LAB-003: what `--json` prints is described in lab.md."""
    words = set(re.findall(r"`(\w+)`", (ROOT / "engine" / "docs" / "lab.md").read_text(encoding="utf-8")))
    found = run_json(capsys, "lab", "run", demo)
    (facts,) = found["runs"]
    row = facts["policies"]["run"]
    for keys in (found, facts, facts["adl"][0], facts["waves"][0], row, row["shares"], facts["policies"]):
        assert not set(keys) - words


def test_all_of_the_demo_is_one_wave(demo, capsys):
    """LAB-001, LAB-012: with the papers' five seconds; marked out at its end, what the mark fell since is lost too."""
    (facts,) = run_json(capsys, "lab", "run", demo)["runs"]
    (wave,) = facts["waves"]
    summary = json.loads((demo / "summary.json").read_text())
    assert wave["needed_quote"] == wave["taken_quote"] == summary["paid_by_adl_quote"]
    assert facts["overshoot_quote"] == wave["marked_out_quote"] - wave["needed_quote"] > 0
    assert facts["policies"]["min_max"]["fairness_quote"] == 0
    assert facts["policies"]["haircut_wealth"]["inversions"] == 0


def test_the_winners_are_the_exchanges_queue(demo):
    """LAB-002, ADL-002, ADL-003: at the first close of each wave, rank and score are those of the events."""
    record = open_run(demo)
    (events,) = read_events(demo)
    waves, _ = WaveReader(record.setup, 0).read([events])
    assert waves
    for wave in waves:
        fills = events[(events["kind"] == codes.ADL_FILL) & (events["ts_ns"] == wave.start_ns)]
        first = fills[fills["account"] == fills["account"][0]]
        scores = rank_by(wave, "bitmex")
        assert len(scores) == first["count"][0]
        order = [winner.account for winner in wave.winners]
        assert [order[rank - 1] for rank in first["rank"]] == first["other"].tolist()
        assert [scores[str(account)] for account in first["other"]] == first["other_order_id"].tolist()


def test_runs_side_by_side(demo, tmp_path, capsys):
    """LAB-003: two runs, the second without a fund, and a table of both before each one's own."""
    bare = tmp_path / "bare"
    assert main(["demo", "--out", str(bare), "--fund", "0", "--events", "parquet"]) == 0
    capsys.readouterr()
    assert main(["lab", "run", str(demo), str(bare), "--score", "binance"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "what the runs did"
    assert lines[2].split()[0] == str(demo)
    assert lines[3].split()[0] == str(bare)
    assert sum(line.startswith("queue:binance ") for line in lines) == 2
    assert sum("928 deficits, 1,462,491.78 USDT: fund 1,389,978.41, ADL 72,513.37" in line for line in lines) == 1


def test_a_run_without_waves(tmp_path, capsys):
    """LAB-003: where nobody was liquidated there is nothing to compare, and that is no error."""
    quiet, tape = tmp_path / "quiet", ROOT / "replay_data" / "synthetic_btc"
    replay = ["replay", str(tape), "--market", str(tape / "market.toml"), "--until-seq", "2000", "--out", str(quiet)]
    assert main(replay) == 0
    capsys.readouterr()
    (facts,) = run_json(capsys, "lab", "run", quiet)["runs"]
    assert (facts["waves"], facts["needed_quote"]) == ([], 0)
    assert facts["policies"]["run"]["mean_max_share"] is None
    assert main(["lab", "run", str(quiet)]) == 0
    assert "0 waves" in capsys.readouterr().out


def test_what_is_no_run_is_refused(demo, tmp_path, capsys):
    """LAB-013, CLI-002: no summary, no events, events of another run, events that are none."""
    status, line = fail(capsys, "lab", "run", tmp_path)
    assert (status, line.split(": expected")[0]) == (4, f"perp: error: {tmp_path / 'summary.json'}")
    summary = json.loads((demo / "summary.json").read_text())
    for broken in ("[]", "{", json.dumps({**summary, "assets": []}), json.dumps({**summary, "parameters": {}})):
        (tmp_path / "summary.json").write_text(broken)
        status, line = fail(capsys, "lab", "run", tmp_path)
        assert (status, ": expected the summary of a run: " in line) == (4, True)
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    assert fail(capsys, "lab", "run", tmp_path) == (
        4,
        f"perp: error: {tmp_path}: expected events.npz or events.parquet: run with --events npz",
    )
    (events,) = read_events(demo)
    np.savez(tmp_path / "events.npz", events=events[: len(events) // 2])
    status, line = fail(capsys, "lab", "run", tmp_path)
    assert status == 4
    assert "expected" in line
    np.savez(tmp_path / "events.npz", events=events["seq"])
    status, line = fail(capsys, "lab", "run", tmp_path)
    assert (status, "expected EVENT records, got int64" in line) == (4, True)
    (tmp_path / "events.npz").write_bytes(b"nothing")
    assert fail(capsys, "lab", "run", tmp_path)[0] == 4
    (tmp_path / "events.npz").unlink()
    (tmp_path / "events.parquet").write_bytes(b"nothing")
    assert fail(capsys, "lab", "run", tmp_path)[0] == 4


def test_a_changed_event_is_found(demo, tmp_path, capsys):
    """LAB-013, MONEY-002: the auditor reads along."""
    (events,) = read_events(demo)
    changed = events.copy()
    at = int(np.flatnonzero(changed["kind"] == codes.ADL_FILL)[0])
    changed["other_amount_quote"][at] += 1
    (tmp_path / "summary.json").write_bytes((demo / "summary.json").read_bytes())
    np.savez(tmp_path / "events.npz", events=changed)
    status, line = fail(capsys, "lab", "run", tmp_path)
    assert status == 4
    assert "other_amount_quote" in line


def test_an_unknown_score_is_refused(demo, capsys):
    """LAB-008, CLI-002."""
    status, line = fail(capsys, "lab", "run", demo, "--score", "luck")
    assert status == 5
    assert line.startswith("perp: error: --score: unknown 'luck', known: bitmex, binance")
