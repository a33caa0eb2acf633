"""Reports of many runs, the lab's table in a report, and results as tables: what is shown is what was found."""

import html
import json
import re
import shutil
from contextlib import redirect_stdout
from itertools import pairwise
from pathlib import Path

import pytest

import engine
from engine.cli import compile_kernels, main
from engine.errors import ConfigError, DataError
from engine.report.curves import COLOURS, DASHES, LINES_MAX, Point, choose_axis, draw_curves
from engine.report.page import compose_page
from engine.report.sweeps import write_rows
from engine.sweep.load import load_sweep

ROOT = Path(__file__).resolve().parents[1]
SCENARIO = str(ROOT / "replay_data" / "stress" / "flash_crash.toml")
FUNDS = [10_000, 80_000, 640_000]
ONE = ["--workers", "1", "--json"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Return the folders of the four verbs, of a few runs each."""
    compile_kernels()
    out = tmp_path_factory.mktemp("many")
    grid = ["--grid", "fund=1e4:64e4:log3", "--grid", "adl.score=bitmex,binance"]
    shock = ["--size", "0:0.2", "--depth", "1,0.3", "--halvings", "2"]
    for told in (
        ["sweep", SCENARIO, "--seeds", "3", *grid, "--out", str(out / "sweep")],
        ["stress", SCENARIO, "--seeds", "4", "--out", str(out / "stress")],
        ["size-fund", SCENARIO, "--seeds", "12", "--breach", "10%", "--out", str(out / "need")],
        ["find-shock", SCENARIO, "--seeds", "2", "--until", "adl", *shock, "--out", str(out / "shock")],
    ):
        assert main([*told, *ONE]) == 0
    return out


def pictures(page):
    return json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])["pictures"]


def headings(page):
    return re.findall(r"<h2 [^>]*>([^<]*)</h2>", page)


# ---------------------------------------------------------------- many runs


def test_a_sweep_is_a_curve_per_outcome_with_its_band(folders):
    """Source: REP-007."""
    page = compose_page([folders / "sweep"])
    cells = load_sweep(folders / "sweep").cells
    assert headings(page) == ["How likely", "How much", "Against the first, seed by seed", "Parameters and proof"]
    drawn = {picture["axis"]["name"] for picture in pictures(page)}
    assert drawn == {"fund"}
    titles = re.findall(r"<figcaption>([^<]*)<", page)
    assert titles[:2] == ["Fund exhausted: share of runs, %", "ADL: share of runs, %"]
    for place, key in ((0, "fund_exhausted"), (titles.index("Deficit, USDT: mean of the runs"), "deficit_quote")):
        picture = pictures(page)[place]
        assert picture["axis"] == {"name": "fund", "log": True, "labels": []}
        assert 8_800 < picture["begin"] < FUNDS[0] < FUNDS[-1] < picture["span"] < 740_000
        assert [line["name"] for line in picture["series"]] == ["adl.score=bitmex", "adl.score=binance"]
        for line, score in zip(picture["series"], ("bitmex", "binance"), strict=True):
            mine = [row for row in cells.rows() if row["adl.score"] == score]
            assert line["x"] == FUNDS
            scale = 100 if key == "fund_exhausted" else 1e-6
            value = key if key == "fund_exhausted" else f"{key}_mean"
            for column, name in (("y", value), ("low", f"{key}_low"), ("high", f"{key}_high")):
                assert line[column] == pytest.approx([row[name] * scale for row in mine])
            assert all(a <= b <= c for a, b, c in zip(line["low"], line["y"], line["high"], strict=True))
    said = html.unescape(page)
    assert "The fund could not pay all it was asked for in " in said
    assert said.count('<table class="sortable">') == len(pictures(page)) + 1
    assert "Mean difference from fund 10000, adl.score bitmex, on the same seeds" in said


def test_the_verdict_names_the_ends_of_the_grid(folders):
    """Source: REP-007."""
    shares = [cell["shares"]["fund_exhausted"]["share"] for cell in load_sweep(folders / "sweep").summary["cells"]]
    assert max(shares) > min(shares) == 0
    said = re.search(r'<p class="said">(.*?)</p>', compose_page([folders / "sweep"]))[1]
    assert f"0.00 % of the runs at fund 80000, adl.score bitmex and {100 * max(shares):.2f} % of the runs" in said


def test_the_fund_has_its_curve_its_breach_and_its_band(folders):
    """Source: REP-007, STRESS-011."""
    page = compose_page([folders / "need"])
    need = load_sweep(folders / "need").summary["need"]
    (picture,) = pictures(page)
    curve, level = picture["series"]
    assert curve["x"] == pytest.approx([point["fund_quote"] / 1e6 for point in need["curve"]])
    assert curve["y"] == pytest.approx([100 * point["share"] for point in need["curve"]], abs=1e-4)
    assert curve["high"] == pytest.approx([100 * point["high"] for point in need["curve"]], abs=1e-4)
    assert all(before > after for before, after in pairwise(curve["y"]))
    assert (level["y"], level["name"]) == ([10.0, 10.0], "breach of 10.00 %")
    assert picture["marks"] == [{"x": need["fund_quote"] / 1e6, "colour": "fund"}]
    (area,) = picture["areas"]
    assert need["high_quote"] is None  # twelve runs do not bound it
    assert (area["from"], area["to"]) == (need["low_quote"] / 1e6, picture["span"])
    assert f"{need['fund_quote'] / 1e6:,.2f} USDT is the smallest fund" in page
    assert "no upper end, that takes 36 seeds" in page


def test_one_scenario_shows_how_far_its_runs_go(folders):
    """Source: REP-007."""
    sweep = load_sweep(folders / "stress")
    page = compose_page([folders / "stress"])
    assert "Run by run" in headings(page)
    deficits = sorted(sweep.results.columns["deficit_quote"])
    line = pictures(page)[0]["series"][0]
    assert line["x"] == pytest.approx([count / 1e6 for count in [0, *deficits]])
    assert line["y"] == [100.0, 75.0, 50.0, 25.0, 0.0]
    assert re.search(r"In 0.00 % of the runs|In \d+.00 % of the runs", page)


def test_the_frontier_goes_along_what_stands_still(folders):
    """Source: REP-007, STRESS-012."""
    page = compose_page([folders / "shock"])
    frontier = load_sweep(folders / "shock").summary["frontier"]
    (picture,) = pictures(page)
    (line,) = picture["series"]
    assert picture["axis"]["name"] == "depth"
    assert line["x"] == [0.3, 1.0]
    thresholds = {float(point["fixed"]["depth"]): point["threshold"]["size"] for point in frontier}
    assert line["y"] == [pytest.approx(100 * thresholds[depth]) for depth in line["x"]]
    assert line["high"] == [20.0, 20.0]  # two runs bound nothing from above: up to the end of the walk
    assert "The mildest shock with &#x27;adl&#x27;" in page


def test_such_folders_stand_side_by_side_but_not_beside_runs(folders, tmp_path, capsys):
    """Source: REP-007, CLI-002."""
    pair = [str(folders / "stress"), str(folders / "need")]
    assert main(["report", *pair, "--out", str(tmp_path / "two.html")]) == 0
    page = (tmp_path / "two.html").read_text(encoding="utf-8")
    assert headings(page)[0] == "Fund size"
    assert page.count('class="run"') > 8
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "summary.json").write_text("{}")
    assert main(["report", *pair, str(tmp_path / "run")]) == 5
    assert "not both in one page" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="--lab: expected with runs"):
        compose_page([folders / "stress"], tmp_path / "lab.json")


def test_a_folder_with_its_report_goes_on(folders, tmp_path, capsys):
    """Source: REP-007, STRESS-004."""
    again = tmp_path / "again"
    shutil.copytree(folders / "stress", again)
    assert main(["report", str(again)]) == 0
    assert (again / "report.html").is_file()
    assert main(["stress", SCENARIO, "--seeds", "5", "--out", str(again), *ONE]) == 0
    assert len(load_sweep(again).results) == 5


@pytest.mark.parametrize(
    "damage",
    [
        lambda told: told.pop("assets"),
        lambda told: told.update(task="other"),
        lambda told: told["cells"][0].pop("shares"),
        lambda told: told["cells"][0]["amounts"]["deficit_quote"].update(mean=3),
        lambda told: told.update(cells=[]),
    ],
)
def test_a_damaged_summary_is_refused(folders, tmp_path, damage):
    """Source: LOG-006, CLI-002."""
    told = json.loads((folders / "stress" / "summary.json").read_text())
    damage(told)
    (tmp_path / "summary.json").write_text(json.dumps(told))
    with pytest.raises(DataError, match=r"summary\.json: .*expected the summary of a sweep"):
        compose_page([tmp_path])


def test_a_damaged_line_is_named(folders, tmp_path):
    """Source: LOG-006, CLI-002."""
    shutil.copytree(folders / "stress", tmp_path, dirs_exist_ok=True)
    with (tmp_path / "runs.jsonl").open("a") as file:
        file.write("[]\n")
    with pytest.raises(DataError, match=r"runs\.jsonl:5: expected a run"):
        _ = load_sweep(tmp_path).results


# ---------------------------------------------------------------- the axis


@pytest.mark.parametrize(
    ("values", "is_log", "labels"),
    [
        (["1", "2", "3", "4"], False, False),
        (["1e4", "2e4", "4e4", "8e4"], True, False),
        (["10000", "28284.2712", "80000", "226274.17"], True, False),
        (["1", "2", "5", "10", "20", "50", "100"], True, False),
        (["0", "10", "100", "1000"], False, False),  # nothing is a multiple of nothing
        (["10", "1000"], False, False),
        (["0.1", "0.25", "0.5", "0.75", "1"], False, False),
        (["bitmex", "binance"], False, True),
        (["1", "many", "3"], False, True),
        (["1", "1.0", "2"], False, True),  # two names of one place
    ],
)
def test_an_axis_is_what_its_values_are(values, is_log, labels):
    """Source: REP-007."""
    axis = choose_axis([{"x": value} for value in values])
    assert (axis.is_log, bool(axis.labels)) == (is_log, labels)
    begin, end = axis.span()
    assert begin < min(axis.values.values()) <= max(axis.values.values()) < end


def test_numbers_go_before_names_and_many_before_few():
    """Source: REP-007."""
    points = [{"a": a, "b": b, "c": c} for a in "uvwxyz" for b in "12" for c in "345"]
    assert choose_axis(points).path == "c"
    assert choose_axis([{"a": a, "b": b} for a in "uvw" for b in "xy"]).path == "a"
    assert choose_axis([{"a": "1"}]) is None
    assert choose_axis([{}]) is None


def test_lines_are_told_apart_and_what_is_not_drawn_is_counted():
    """Source: REP-007."""
    points = [Point({"x": x, "n": str(n)}, n + int(x), None, 99.0) for n in range(10) for x in "21"]
    drawn, of = draw_curves(choose_axis([point.point for point in points]), points, 1)
    assert of == 2  # the axis is the side of ten values
    axis = choose_axis([{"x": x} for x in "12"])
    drawn, of = draw_curves(axis, points, 1)
    assert (len(drawn), of) == (LINES_MAX, 10)
    assert len({(line["colour"], tuple(line["dash"])) for line in drawn}) == LINES_MAX == len(COLOURS) == len(DASHES)
    assert drawn[3]["x"] == [1.0, 2.0]  # in order, however they came
    assert drawn[3]["y"] == drawn[3]["low"] == [4.0, 5.0]  # an end that is not known is the value itself
    nothing, _ = draw_curves(axis, [Point({"x": "1"}, None, None, None)], 1)
    assert nothing == []


def test_a_large_grid_says_what_its_tables_leave_out():
    """Source: REP-007."""
    rows = [[str(place), "x"] for place in range(1_000)]
    table = write_rows("shares", ("fund", "share"), rows)
    assert "<caption>shares; 300 of 1,000 rows, all in summary.json</caption>" in table
    assert table.count("<tr>") == 301
    assert "of" not in write_rows("shares", ("fund", "share"), rows[:300]).split("</caption>")[0]


# ---------------------------------------------------------------- the lab's table


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    compile_kernels()
    folder = tmp_path_factory.mktemp("labs")
    assert main(["demo", "--out", str(folder / "thin"), "--json"]) == 0
    assert main(["demo", "--out", str(folder / "rich"), "--fund", "1100000", "--json"]) == 0
    return folder


@pytest.fixture(scope="module")
def lab(runs):
    """Return a file with what the lab printed."""
    with (runs / "lab.json").open("w") as file, redirect_stdout(file):
        assert main(["lab", "run", str(runs / "thin"), str(runs / "rich"), "--json"]) == 0
    return runs / "lab.json"


def test_the_labs_table_stands_in_the_report(runs, lab, tmp_path, capsys):
    """Source: REP-008."""
    told = json.loads(lab.read_text())["runs"]
    out = tmp_path / "page.html"
    assert main(["report", str(runs / "rich"), str(runs / "thin"), "--lab", str(lab), "--out", str(out)]) == 0
    page = out.read_text(encoding="utf-8")
    assert "Who would have paid" in headings(page)
    tables = re.findall(r'<table class="sortable">(.*?)</table>', page, re.DOTALL)
    both, rich, thin = ([re.findall(r"<t[hd][^>]*>([^<]*)<", row) for row in table.split("<tr>")] for table in tables)
    assert [row[0] for row in both[2:]] == ["rich", "thin"]
    for facts, table in ((told[0], thin), (told[1], rich)):
        assert [row[0] for row in table[2:]] == ["what the run did", *list(facts["policies"])[1:]]
        for row, measured in zip(table[2:], facts["policies"].values(), strict=True):
            assert row[1] == f"{measured['taken_quote'] / 1e6:,.2f}"
            assert row[4] == f"{measured['total_quote'] / 1e6:,.2f}"
            assert row[6] == str(measured["shares"]["payers"])
    assert both[2][1:] == rich[2][1:] != thin[2][1:]


def test_a_lab_of_other_runs_is_refused(runs, lab, tmp_path, capsys):
    """Source: REP-008, CLI-002."""
    assert main(["report", str(runs / "rich"), "--lab", str(lab), "--out", str(tmp_path / "x.html")]) == 5
    assert "which is none of the runs on this page" in capsys.readouterr().err
    (tmp_path / "lab.json").write_text('{"gap_ns": 1, "runs": [{"run": "x"}]}')
    told = ["report", str(runs / "rich"), "--lab", str(tmp_path / "lab.json"), "--out", str(tmp_path / "x.html")]
    assert main(told) == 4
    assert "expected what perp lab run --json prints" in capsys.readouterr().err
    assert not (tmp_path / "x.html").exists()


# ---------------------------------------------------------------- results as tables


@pytest.fixture(scope="module")
def results(runs, folders):
    """Return every kind of result that Python gets, by name, with how many rows it has."""
    import msgspec

    from engine.contract import load_market
    from engine.feeds import open_feed
    from engine.feeds.inspect import inspect_tape
    from engine.lab.compare import describe_run
    from engine.replay import Plan, run_replay
    from engine.scenario import load_simulated
    from engine.sim import run_simulation
    from engine.twin import compare_replay, list_policies, parse_fork

    tape = ROOT / "replay_data" / "synthetic_btc"
    market = load_market(tape / "market.toml")
    plan = Plan(markets=[market], feed=open_feed([tape], [market]), until_seq=3_000)
    simulated = load_simulated(ROOT / "replay_data" / "simulated_btc" / "simulated.toml")
    brief = msgspec.structs.replace(simulated, duration="2s")
    (runs / "gentle.toml").write_text('[liquidation]\nsize = "tiered"\n')
    policies = list_policies([Path("market"), runs / "gentle.toml"], [market])
    twins = compare_replay(plan, policies, parse_fork(["start"]))
    run = engine.load_run(runs / "thin")
    return {
        "run": (run, 1),
        "log": (run.adl, 363),
        "replay": (run_replay(plan), 1),
        "simulation": (run_simulation(brief, load_market(ROOT / "replay_data" / "simulated_btc" / "market.toml")), 1),
        "inspection": (inspect_tape([tape]), 1),
        "lab": (describe_run(runs / "thin", 5_000_000_000), 10),
        "twins": (twins, len(twins.accounts)),
        "sweep": (engine.load_sweep(folders / "sweep"), 18),
        "cells": (engine.load_sweep(folders / "sweep").cells, 6),
        "need": (engine.load_sweep(folders / "need"), 12),
        "shock": (engine.load_sweep(folders / "shock"), 4),
    }


KINDS = ["run", "log", "replay", "simulation", "inspection", "lab", "twins", "sweep", "cells", "need", "shock"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_result_is_a_table(results, kind, monkeypatch):
    """Source: LOG-006."""
    import sys

    result, count = results[kind]
    arrays = result.to_arrays()
    assert {len(array) for array in arrays.values()} == {count}
    assert list(arrays) == list(result.to_table().columns)
    shown = result._repr_html_()
    assert "<table>" in shown
    for module, said in (("polars", r"pip install 'perp-engine\[parquet\]'"), ("pandas", "pip install pandas")):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, module, None)
            with pytest.raises(engine.errors.MissingExtraError, match=said):
                getattr(result, f"to_{module}")()


@pytest.mark.parametrize("kind", KINDS)
def test_every_result_is_a_polars_frame(results, kind):
    """Source: LOG-006."""
    pytest.importorskip("polars", reason="polars is not installed")
    result, count = results[kind]
    frame = result.to_polars()
    assert frame.columns == list(result.to_table().columns)
    assert frame.height == count


@pytest.mark.parametrize("kind", KINDS)
def test_every_result_is_a_pandas_frame(results, kind):
    """Source: LOG-006."""
    pytest.importorskip("pandas", reason="pandas is not installed, and no extra of ours brings it")
    result, count = results[kind]
    frame = result.to_pandas()
    assert len(frame) == count
    columns = [name for name in result.to_table().columns if name != "timestamp"]
    assert list(frame.columns) == columns
    if kind == "log":
        assert (frame.index.name, str(frame.index.tz)) == ("timestamp", "UTC")


def test_results_are_still_what_they_were(results):
    """A lab's comparison and an inspection are dicts that JSON takes.  Source: LOG-006."""
    for kind in ("lab", "inspection"):
        result, _ = results[kind]
        assert json.loads(json.dumps(result)) == result
    table = results["lab"][0].to_table()
    assert table.columns["policy"][:2] == ["run", "queue"]
    assert table.columns["share_payers"][0] == 118
    sweep = results["sweep"][0].to_table()
    assert list(sweep.columns)[:3] == ["fund", "adl.score", "seed"]
    assert sweep.columns["seed"] == [0, 1, 2] * 6
    assert results["shock"][0].to_table().columns["depth"][:2] != [None, None]
