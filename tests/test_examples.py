"""The examples of the docs, run as they stand; what they find is what the command line says."""

import json
import runpy
from pathlib import Path

import pytest

from engine.cli import main

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "engine" / "docs" / "examples"
STRESS = "replay_data/stress/flash_crash.toml"

pytest.importorskip("polars", reason="the examples show frames")


@pytest.fixture
def run(monkeypatch, capsys):
    """Run an example from the top of the repository; return what it named and what it printed."""

    def play(name):
        monkeypatch.chdir(ROOT)
        found = runpy.run_path(str(EXAMPLES / f"{name}.py"))
        return found, capsys.readouterr().out

    return play


def tell(capsys, *arguments):
    assert main([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_every_example_is_named_by_a_page():
    pages = "".join(page.read_text(encoding="utf-8") for page in EXAMPLES.parent.glob("*.md"))
    assert not [file.name for file in EXAMPLES.glob("*.py") if f"examples/{file.name}" not in pages]


def test_sizing_a_fund(run, capsys):
    """STRESS-011: the fund is that of `perp size-fund`, and empty on as many of the days as it promises."""
    found, printed = run("size_fund")
    told = tell(capsys, "size-fund", STRESS, "--seeds", 40, "--breach", "10%", "--workers", 1)["need"]
    keys = ("fund_quote", "low_quote", "high_quote", "breached", "exact_runs")
    assert {key: found["found"]["at once"][key] for key in keys} == {key: told[key] for key in keys}
    assert found["fund_quote"] == told["fund_quote"] > 0
    assert (found["slower"] > 0).all()
    assert len(found["breached"]) == told["breached"]["count"] == 4
    slower = found["found"]["a fifth a second"]
    assert slower["low_quote"] > told["high_quote"]  # beyond doubt
    assert found["ratio"] == slower["fund_quote"] / told["fund_quote"]
    assert found["verdict"] in printed
    assert f"A fund of {told['fund_quote'] / 1e6:,.2f} USDT is emptied on 4 of 40 such days." in printed


def lab_fills(folder):
    return json.loads((folder / "summary.json").read_text(encoding="utf-8"))["adl_fills"]


def test_comparing_adl_rules(run, capsys, tmp_path):
    """LAB-008, OWN-002, TWIN-004: the rows are those of `perp lab run` and of `perp compare`."""
    found, printed = run("compare_adl")
    assert found["verdict"] in printed
    demo = ROOT / "replay_data" / "synthetic_btc"
    assert main(["demo", "--out", str(tmp_path / "demo"), "--json"]) == 0
    assert capsys.readouterr().out
    rule = f"{EXAMPLES / 'level_down.py'}:level_down"
    (lab,) = tell(capsys, "lab", "run", tmp_path / "demo", "--rule", rule)["runs"]
    for row in found["shares"].to_dicts():
        told = lab["policies"][row["policy"]]
        assert row["payers"] == told["shares"]["payers"]
        assert row["hardest hit, % of equity"] == pytest.approx(100 * told["mean_max_share"])
        assert row["paid, USDT"] == told["taken_quote"] / 1e6
    assert len(found["victims"]) == lab_fills(tmp_path / "demo")

    files = ["--market", demo / "market.toml", "--population", demo / "population.toml", "--shock", demo / "shock.toml"]
    (tmp_path / "pro_rata_equity.toml").write_text('[adl]\nallocation = "pro_rata_equity"\n')
    chosen = ["--fund", 1_000_000, "--policy", tmp_path / "pro_rata_equity.toml", "--fork-at", "adl_started"]
    first, second = tell(capsys, "compare", demo, *files, *chosen)["policies"]
    ends = {row["policy"]: row for row in found["ends"].to_dicts()}
    for name, told in (("market", first), ("pro_rata_equity", second)):
        assert ends[name]["ADL victims"] == told["adl_victims"]
        assert ends[name]["they gain, USDT"] == told["gained_quote"] / 1e6
        assert found["equity"][name].sum() == pytest.approx(told["totals_quote"]["accounts"] / 1e6)
    assert ends["pro_rata_equity"]["they gain, USDT"] > 10 * ends["market"]["winners paid, USDT"]
    numbers = (EXAMPLES.parent / "numbers.md").read_text(encoding="utf-8")  # quotes both
    for told in (ends["market"]["winners paid, USDT"], ends["pro_rata_equity"]["they gain, USDT"]):
        assert f"{told:,.0f}" in numbers
