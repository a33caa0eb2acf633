"""The HTML report: what its pictures show is what the run did; what is not there is said."""

import base64
import hashlib
import html
import json
import re
import shutil
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import codes
from engine.cli import compile_kernels, main
from engine.codes import ADL_FILL, ADL_STARTED, LIQUIDATION_FILL, MARK_MOVED, TRADE
from engine.errors import ConfigError
from engine.layout import EVENT
from engine.report.flow import Flow, add_flows, draw_flow, keep_largest
from engine.report.markup import Canvas, embed_json, write_table
from engine.report.page import ASSETS, compose_page, name_runs
from engine.report.queue import find_queues
from engine.report.shape import (
    BARS_MAX,
    DEPTH_ROWS,
    POINTS_MAX,
    bin_times,
    count_interest,
    draw_heat,
    spread_times,
    stack,
    thin,
)
from engine.report.view import RunView, find_seeds, judge
from engine.runs import load_run

ROOT = Path(__file__).resolve().parents[1]
TAPE = ROOT / "replay_data" / "synthetic_btc"
NS = 1_000_000_000
# What the registry has under uplot 1.6.32; a change here is a change of the library.
VENDORED = {
    "uPlot.iife.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
    "uPlot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
    "uPlot.LICENSE": "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd",
}


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    compile_kernels()
    folder = tmp_path_factory.mktemp("report") / "demo"
    assert main(["demo", "--out", str(folder), "--json"]) == 0
    return folder


@pytest.fixture
def view(demo):
    return RunView(demo, "demo", 0, Canvas())


def pictures(page):
    """Return the pictures inside a page."""
    return json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])["pictures"]


def find(page, name):
    """Return the series of that name in a page."""
    return next(series for picture in pictures(page) for series in picture["series"] if series["name"] == name)


def test_the_page_says_how_many_values_it_drew(view):
    """Source: REP-002."""
    series = [{"name": "a", "x": [1, 2], "of": 9_000}, {"name": "b", "x": [1], "of": 1}, {"name": "c", "x": [1]}]
    assert view.count_points(series) == "Values drawn, extremes kept: a 2 of 9,000"
    assert view.count_points([*series, {"name": "d", "x": [1], "of": 7}]).endswith("a 2 of 9,000, d 1 of 7")
    assert view.count_points(series[1:]) == ""


# ---------------------------------------------------------------- the file


def test_the_demo_leaves_its_report(demo, tmp_path, capsys):
    """Source: REP-001."""
    page = (demo / "report.html").read_text(encoding="utf-8")
    assert page == compose_page([demo])
    assert main(["report", str(demo), "--out", str(tmp_path / "x.html"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {"schema": 1, "report": str(tmp_path / "x.html"), "bytes": len(page.encode()), "runs": 1}
    assert (tmp_path / "x.html").read_text(encoding="utf-8") == page
    assert main(["demo", "--out", str(demo), "--json"]) == 0  # a run directory with a report is one still
    assert (demo / "report.html").read_text(encoding="utf-8") == page


def test_the_verdict_comes_first(demo):
    """Source: REP-001."""
    page = compose_page([demo])
    verdict = html.escape(load_run(demo).summary["verdict"])
    places = [page.index(text) for text in (verdict, 'id="price"', 'id="fund"', 'id="debt"', 'id="parameters"')]
    assert places == sorted(places)
    assert load_run(demo).summary["digest"] in page
    assert all(row["sha256"] in page for row in load_run(demo).summary["inputs"])


def test_nothing_is_fetched_and_no_other_script_runs(demo):
    """Source: REP-001."""
    page = compose_page([demo])
    markup = re.sub(r"<(script|style).*?</\1>", "", page, flags=re.DOTALL)
    assert all(link.startswith("#") for link in re.findall(r'(?:src|href|action|srcset|data)="([^"]*)"', markup))
    assert not re.search(r"\son\w+=", markup)
    assert "url(" not in page.split("<body>")[0]
    allowed = re.findall(r"'sha256-([^']+)'", re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1])
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts] == allowed
    assert "Leon Sorokin" in page
    assert "innerHTML" not in (ASSETS / "report.js").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", VENDORED)
def test_the_library_is_the_published_one(name):
    """Source: REP-001."""
    assert hashlib.sha256((ASSETS / name).read_bytes()).hexdigest() == VENDORED[name]


def test_several_runs_stand_side_by_side(demo, tmp_path, capsys):
    """Source: REP-001."""
    other = tmp_path / "richer"
    assert main(["demo", "--out", str(other), "--fund", "2000000", "--json"]) == 0
    capsys.readouterr()
    page = compose_page([demo, other])
    assert "The runs side by side" in page
    for folder in (demo, other):
        assert html.escape(load_run(folder).summary["verdict"]) in page
        assert page.count(f"<h3>{folder.name}</h3>") >= 8
    assert {picture["sync"] for picture in pictures(page)} == {"run0", "run1"}
    assert page.count('id="data"') == page.count('id="fund"') == 1
    with pytest.raises(ConfigError, match="named twice"):
        compose_page([demo, demo])
    assert name_runs([Path("a/x"), Path("b/x"), Path("c/y")]) == ["a/x", "b/x", "c/y"]


def test_what_cannot_be_written_or_read_is_refused(demo, tmp_path, capsys):
    """Source: REP-001, CLI-002."""
    assert main(["report", str(demo), "--out", str(tmp_path / "no" / "x.html")]) == 5
    assert "cannot be written" in capsys.readouterr().err
    assert main(["report", str(tmp_path)]) == 4
    broken = tmp_path / "broken"
    shutil.copytree(demo, broken)
    (broken / "report.html").unlink()
    (broken / "events.npz").write_bytes(b"no archive")
    assert main(["report", str(broken)]) == 4
    assert "events.npz: expected a sound archive of arrays" in capsys.readouterr().err
    assert not (broken / "report.html").exists()
    shutil.copy(demo / "events.npz", broken)
    (broken / "liquidations.csv").write_text("a,b\n1,2\n")
    assert main(["report", str(broken)]) == 4
    assert "liquidations.csv:1: expected the columns" in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == [broken]


def test_without_events_the_page_says_so(tmp_path):
    """Source: REP-003."""
    out = tmp_path / "quiet"
    assert main(["demo", "--out", str(out), "--events", "none", "--json"]) == 0
    page = compose_page([out])
    assert "price, insurance fund, bad debt, ADL queue, open interest: the run kept no events" in page
    assert 'id="liquidations"' in page  # liquidations.csv has them
    assert 'id="price"' not in page


# ---------------------------------------------------------------- what is drawn


def test_the_pictures_are_the_run(demo):
    """Source: REP-001, REP-002."""
    page, run = compose_page([demo]), load_run(demo)
    told, first = run.summary, run.summary["first_ns"]
    marks = run.events[run.events["kind"] == MARK_MOVED]
    drawn = find(page, "mark")
    assert drawn["of"] == len(marks)
    assert drawn["x"] == [(int(ts) - first) // 1000 / 1e6 for ts in marks["ts_ns"]]
    assert drawn["y"] == [round(int(tick) * 0.1, 9) for tick in marks["price_tick"]]
    balance = find(page, "balance")["y"]
    assert balance[0] == told["fund_start_quote"] / 1e6
    assert balance[-1] == round(told["fund_end_quote"] / 1e6, 2)
    assert min(balance) == round(told["fund_low_quote"] / 1e6, 2)
    assert sum(find(page, "longs, in the book")["show"]) == pytest.approx(told["liquidated_book_quote"] / 1e6)
    assert sum(find(page, "longs, by ADL")["show"]) == pytest.approx(told["liquidated_adl_quote"] / 1e6)
    assert -sum(find(page, "deficits paid by the fund")["show"]) == pytest.approx(told["paid_by_fund_quote"] / 1e6)
    assert -sum(find(page, "by ADL")["show"]) == pytest.approx(told["paid_by_adl_quote"] / 1e6)
    assert sum(find(page, "surpluses and gains")["show"]) == pytest.approx(told["fund_received_quote"] / 1e6, abs=1)
    assert len(find(page, "bankruptcy prices of the largest liquidations")["labels"]) == 20


def test_every_series_can_be_drawn(demo):
    """Times rise, and there are not more points than a screen has.  Source: REP-002."""
    for picture in pictures(compose_page([demo])):
        for series in picture["series"]:
            x = series["x"]
            assert len(x) == len(series["y"]) <= POINTS_MAX + 1
            assert all(before < after for before, after in pairwise(x)), series["name"]
            assert -1 <= x[0] <= x[-1] <= picture["span"] + 1


@given(st.lists(st.integers(-50, 50), min_size=1, max_size=400), st.integers(4, 60))
def test_thinned_lines_keep_what_stands_out(values, most):
    """Source: REP-002."""
    array = np.array(values)
    kept = thin(array, most)
    assert len(kept) <= max(most, 4)
    assert (np.diff(kept) > 0).all()
    assert kept[0] == 0
    assert kept[-1] == len(values) - 1
    assert array[kept].min() == min(values)
    assert array[kept].max() == max(values)
    if len(values) <= most:
        assert len(kept) == len(values)


def test_a_million_values_are_thinned():
    """Source: REP-002."""
    values = np.random.default_rng(1).integers(0, 1 << 40, 1_000_000)
    kept = thin(values)
    assert POINTS_MAX * 0.9 < len(kept) <= POINTS_MAX
    assert {int(values.argmin()), int(values.argmax())} <= set(kept.tolist())


@given(st.lists(st.integers(0, 20_000), min_size=1, max_size=60))
def test_one_instant_is_drawn_a_microsecond_apart(steps):
    """Source: REP-002."""
    ts_ns = np.cumsum(np.array(steps, np.int64))
    x = spread_times(ts_ns, 0)
    assert (np.diff(x) > 0).all()
    assert (x * 1e6 >= ts_ns // 1000 - 1e-6).all()
    assert (x * 1e6 <= ts_ns // 1000 + len(steps)).all()


@given(st.integers(1, 10**15))
def test_bars_cover_the_run(span):
    """Source: REP-002."""
    width, count = bin_times(5, 5 + span)
    assert width % NS == 0
    assert count <= BARS_MAX + 1
    assert width * count > span


def test_bars_stand_on_each_other():
    """Source: REP-002."""
    top, bottom = stack(
        [("a", "x", np.array([1.0, 0])), ("b", "y", np.array([2.0, 3])), ("c", "z", np.zeros(2))], [0, 1]
    )
    assert (top["name"], top["y"], top["show"]) == ("b", [3.0, 3.0], [2.0, 3.0])
    assert (bottom["name"], bottom["y"], bottom["show"]) == ("a", [1.0, 0.0], [1.0, 0.0])


FILL = st.tuples(
    st.sampled_from([TRADE, LIQUIDATION_FILL, ADL_FILL, codes.TAKEOVER, codes.ACCEPTED]),
    st.integers(-1, 4),
    st.integers(-1, 4),
    st.sampled_from([1, -1]),
    st.integers(1, 9),
    st.integers(0, 1),
)


@given(st.lists(FILL, max_size=40))
def test_open_interest_is_counted_as_by_hand(fills):
    """Source: REP-001."""
    rows = np.zeros(len(fills), EVENT)
    held, expected = {}, []
    for at, (kind, account, other, side, lots, market) in enumerate(fills):
        rows[at]["kind"], rows[at]["ts_ns"], rows[at]["account"] = kind, at, account
        rows[at]["side"], rows[at]["qty_lot"], rows[at]["market"] = side, lots, market
        rows[at]["code"] = codes.ASSIGN if kind == codes.ACCEPTED else 0
        rows[at]["other"] = 0 if kind == codes.ACCEPTED else other
        if market == 0:
            held[account] = held.get(account, 0) + side * lots
            held[int(rows[at]["other"])] = held.get(int(rows[at]["other"]), 0) - side * lots
            expected.append(sum(max(qty, 0) for qty in held.values()))
    times, interest = count_interest(rows, 0)
    assert interest.tolist() == expected
    assert len(times) == len(expected)


def test_open_interest_ends_where_the_summary_says(demo):
    """Source: REP-001."""
    run = load_run(demo)
    _, interest = count_interest(run.events, 0)
    assert interest[-1] == run.summary["markets"][0]["open_interest_end_lot"]


# ---------------------------------------------------------------- who paid


def test_the_flow_is_the_ledger(view):
    """Source: REP-005, EVT-002."""
    told = view.summary
    first, second = view._list_flows(view.events[view.events["kind"] == codes.DEFICIT])
    paid = add_flows(first, by_target=True)
    assert paid == {"the fund": told["paid_by_fund_quote"], "ADL": told["paid_by_adl_quote"]}
    assert add_flows(second, by_target=False) == {"ADL": told["paid_by_adl_quote"]}
    assert sum(add_flows(first, by_target=False).values()) == told["deficit_quote"]
    top = told["adl_top"][0]
    assert any(flow.target == f"account {top['account']}" and flow.amount >= top["loss_quote"] for flow in second)


def test_a_flow_is_drawn_as_thick_as_its_money():
    """Source: REP-005."""
    first = [Flow("a", "fund", "fund", 300), Flow("a", "ADL", "adl", 100), Flow("b<", "ADL", "adl", 600)]
    svg = draw_flow(first, [Flow("ADL", "v", "adl", 700)], str, 'who "paid"')
    heights = [Fraction(text) for text in re.findall(r'class="flow-bar"[^>]*height="([\d.]+)"', svg)]
    assert [round(height / 23) for height in heights] == [4, 6, 3, 7, 7]
    assert "b&lt;" in svg
    assert "b<" not in svg
    assert "<title>ADL → v: 700</title>" in svg
    assert 'aria-label="who &quot;paid&quot;"' in svg


def test_the_largest_are_named_and_the_others_added_up():
    """Source: REP-005."""
    amounts = {"a": 5, "b": 9, "c": 1, "d": 2, "e": 0}
    assert keep_largest(amounts, 2, "{} others") == {"b": 9, "a": 5, "2 others": 3}
    assert keep_largest(amounts, 3, "{} others") == {"b": 9, "a": 5, "d": 2, "c": 1}


def test_the_queue_before_is_the_one_the_engine_walked(demo):
    """Rank, score and length of the first ADL's closes are those of the queue rebuilt.  Source: REP-004, ADL-002."""
    run = load_run(demo)
    (queue,) = find_queues(run.record, run.events)
    kind = run.events["kind"]
    first = run.events[kind == ADL_STARTED][0]
    fills = run.events[
        (kind == ADL_FILL) & (run.events["seq"] == first["seq"]) & (run.events["account"] == first["account"])
    ]
    places = {place.account: place for place in queue.before}
    assert len(fills) > 1
    assert len(queue.before) == first["count"]
    for row in fills:
        place = places[int(row["other"])]
        assert (place.rank, place.score) == (row["rank"], row["other_order_id"])
    assert [place.rank for place in queue.before] == list(range(1, len(queue.before) + 1))
    assert queue.side == -1
    assert len(queue.closed) == run.summary["adl_victims"]
    after = {place.account: place.qty_lot for place in queue.after}
    for place in queue.before:
        assert after.get(place.account, 0) <= place.qty_lot - queue.closed.get(place.account, 0)
    assert [place.lights for place in queue.before] == sorted((place.lights for place in queue.before), reverse=True)


def test_a_queue_without_winners_is_said(tmp_path, capsys):
    """All are long against the outside, which is in no queue.  Source: REP-004, ADL-002."""
    rows = ["account,symbol,side,amount,entry_price,leverage,margin_mode"]
    rows += [f"a{number},BTCUSDT,long,{30 + number},60000,50,cross" for number in range(40)]
    (tmp_path / "book.csv").write_text("\n".join(rows) + "\n")
    told = ["replay", str(TAPE), "--market", str(TAPE / "market.toml"), "--shock", str(TAPE / "shock.toml")]
    assert main([*told, "--population", str(tmp_path / "book.csv"), "--out", str(tmp_path / "run"), "--json"]) == 0
    capsys.readouterr()
    page = compose_page([tmp_path / "run"])
    assert "BTCUSDT: ADL began among the shorts, and nobody was in the queue." in page
    assert "No fund at the start" in page


def test_the_page_marks_the_victims(demo):
    """Source: REP-004."""
    page = compose_page([demo])
    marked = page.count('<tr class="victim">')
    assert marked > 10
    assert page.count("victim: ") == marked
    assert "ranked by bitmex (ADL-003)" in page


# ---------------------------------------------------------------- sampled series


def test_a_sampled_book_is_drawn_as_bands(demo, tmp_path):
    """Two samples, 7 lots within 1 percent of 10 within 5.  Source: REP-003."""
    names = [f"{side}_{ppm}pct_lot" for side in ("bid", "ask") for ppm in (1, 5)]
    names += [f"{side}_{pct}pct_quote" for side in ("long", "short") for pct in (1, 2, 5, 10)]
    names += ["ts_ns", "market", "index_tick", "top10_ppm", "funding_ppb"]
    rows = np.zeros(2, [(name, "<i8") for name in names])
    first = load_run(demo).summary["first_ns"]
    rows["ts_ns"] = first, first + 10 * NS
    rows["bid_1pct_lot"], rows["bid_5pct_lot"] = [7000, 0], [10_000, 500]
    rows["long_1pct_quote"], rows["long_2pct_quote"] = [1_000_000, 0], [4_000_000, 0]
    rows["index_tick"], rows["top10_ppm"] = [0, 600_000], 123_456
    folder = tmp_path / "sampled"
    shutil.copytree(demo, folder)
    np.savez(folder / "series.npz", series=rows, symbols=np.array(["BTCUSDT"]))
    page = compose_page([folder])
    depth, falls = (picture for picture in pictures(page) if picture["kind"] == "heat")
    assert dict(zip(depth["rows"], depth["cells"], strict=True)) == {
        "asks 1-5 %": [0.0, 0.0],
        "asks 0-1 %": [0.0, 0.0],
        "bids 0-1 %": [7.0, 0.0],
        "bids 1-5 %": [3.0, 0.5],
    }
    assert depth["x"] == [0.0, 10.0]
    assert falls["cells"][falls["rows"].index("longs 1-2 %")] == [3.0, 0.0]
    assert find(page, "index")["y"] == [60_000.0]  # 0 is none
    assert find(page, "ten largest positions")["y"] == [12.3456, 12.3456]
    assert "Left out" not in page
    (folder / "series.npz").write_bytes(b"")
    assert main(["report", str(folder)]) == 4


def test_a_book_is_drawn_from_when_it_is_there(demo, tmp_path):
    """The demo's first sample is of the opening, before the tape's book; one that empties later is drawn as it is.

    Source: REP-003, SIGN-001.
    """
    series = load_run(demo).series
    page = compose_page([demo])
    depth, falls = (picture for picture in pictures(page) if picture["kind"] == "heat")
    seconds = (series["ts_ns"] - series["ts_ns"][0]) / NS
    assert depth["x"] == pytest.approx(seconds[1:])
    assert 0 < depth["x"][0] < 1
    assert len(falls["x"]) == len(depth["x"]) + 1
    assert sum(cells[0] for cells in depth["cells"]) * 1_000 == series["bid_5pct_lot"][1] + series["ask_5pct_lot"][1]
    assert page.count("left out: 1 sample from before the book was there") == 1
    books = {name: series[name] for name in ("ts_ns", "market", *(name for _, name, _ in DEPTH_ROWS))}
    gone = books | {name: np.zeros_like(series[name]) for _, name, _ in DEPTH_ROWS}
    gone["bid_5pct_lot"][3] = 5
    heat = draw_heat(gone, 0, DEPTH_ROWS, int(series["ts_ns"][0]), 1.0, is_book=True)
    assert (heat["before"], len(heat["x"]), heat["of"]) == (3, len(seconds) - 3, len(seconds) - 3)
    assert heat["cells"][3] == [5.0] + [0.0] * (len(seconds) - 4)
    empty = tmp_path / "empty"
    shutil.copytree(demo, empty)
    with np.load(demo / "series.npz") as found:
        rows, symbols = found["series"].copy(), found["symbols"]
    for _, name, _ in DEPTH_ROWS:
        rows[name] = 0
    np.savez(empty / "series.npz", series=rows, symbols=symbols)
    page = compose_page([empty])
    assert "BTCUSDT: nothing rested in the book when it was sampled." in page
    assert [picture["rows"][0] for picture in pictures(page) if picture["kind"] == "heat"] == ["shorts 5-10 %"]


def test_a_series_without_the_columns_draws_nothing():
    """Source: REP-003."""
    assert draw_heat({"market": np.zeros(1), "ts_ns": np.zeros(1)}, 0, (("a", "b", None),), 0, 1.0) is None


def test_what_is_left_out_is_said(demo, tmp_path):
    """Source: REP-003."""
    assert 'id="depth"' in compose_page([demo])
    bare = tmp_path / "bare"
    shutil.copytree(demo, bare)
    (bare / "series.npz").unlink()
    page = compose_page([bare])
    assert "the run sampled none of it (series.npz), and events alone do not hold it" in page
    assert 'id="depth"' not in page


# ---------------------------------------------------------------- texts


@given(st.text(max_size=30), st.text(max_size=30))
def test_texts_never_become_markup(name, other):
    """Source: REP-006."""
    table = write_table(name, ("a", other), [[other, name]])
    tags = re.findall(r"<[^>]*>", table)
    assert len(tags) == len(re.findall(r"<[^>]*>", write_table("x", ("a", "y"), [["z", "w"]])))
    embedded = embed_json({"name": [name, other]})
    assert not set("<>&\u2028\u2029") & set(embedded)
    assert json.loads(embedded) == {"name": [name, other]}


def test_a_chart_has_a_description():
    """Source: REP-006."""
    canvas = Canvas()
    figure = canvas.draw("a<b", "", 'x "y"', {"kind": "lines", "series": []}, "")
    assert 'tabindex="0"' in figure
    assert 'aria-label="x &quot;y&quot;. Arrow keys' in figure
    assert "a&lt;b" in figure
    assert len(canvas.pictures) == 1


def test_a_verdict_is_more_than_a_colour():
    """Source: REP-001."""
    told = {"fault": None, "unpaid_quote": 0, "fund_dry_ns": None, "fund_start_quote": 5, "adl_fills": 0}
    assert judge(told) == ("ok", "The fund survived")
    assert judge({**told, "adl_fills": 1})[0] == "dry"
    assert judge({**told, "fund_dry_ns": 1}) == ("dry", "The fund ran dry")
    assert judge({**told, "fund_dry_ns": 1, "fund_start_quote": 0}) == ("dry", "No fund at the start")
    assert judge({**told, "unpaid_quote": 1}) == ("bad", "Insolvent")
    assert judge({**told, "fault": "x"}) == ("bad", "Broken off")


def test_seeds_are_found_wherever_they_stand():
    """Source: REP-001."""
    assert find_seeds({"seed": 3, "populations": [{"seed": 7}, "book.csv", {"seed": 3}], "x": {"seed": None}}) == [3, 7]


def test_two_markets_stand_under_each_other(tmp_path, capsys):
    """Source: REP-001."""
    text = (TAPE / "market.toml").read_text(encoding="utf-8")
    other = text.replace('symbol = "BTCUSDT"', 'symbol = "ETHUSDT"\ninitial_mark = "3000"')
    (tmp_path / "eth.toml").write_text(other)
    rows = ["account,symbol,side,amount,entry_price,leverage,margin_mode"]
    rows += ["1,BTCUSDT,long,20,60000,50,isolated", "1,ETHUSDT,short,30,3000,10,isolated"]
    rows += ["2,BTCUSDT,short,5,60000,10,cross", "2,ETHUSDT,long,7,3000,10,cross"]
    (tmp_path / "book.csv").write_text("\n".join(rows) + "\n")
    told = ["replay", str(TAPE), "--market", str(TAPE / "market.toml"), "--market", str(tmp_path / "eth.toml")]
    told += ["--population", str(tmp_path / "book.csv"), "--shock", str(TAPE / "shock.toml")]
    assert main([*told, "--out", str(tmp_path / "run"), "--json"]) == 0
    assert main(["report", str(tmp_path / "run")]) == 0
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "BTCUSDT: Open interest" in page
    assert "ETHUSDT: Open interest" in page
    lots = [
        series["y"] for picture in pictures(page) for series in picture["series"] if series["name"] == "open interest"
    ]
    assert [y[-1] for y in lots] == [5.0, 30.0]
    assert "ETHUSDT: no price moved." in page
    capsys.readouterr()


def test_a_simulated_run_has_a_report(tmp_path, capsys):
    """Source: REP-001, SIM-009."""
    folder = ROOT / "replay_data" / "simulated_btc"
    text = (folder / "simulated.toml").read_text(encoding="utf-8").replace('duration = "2m"', 'duration = "30s"')
    (tmp_path / "simulated.toml").write_text(text)
    told = ["sim", str(tmp_path / "simulated.toml"), "--market", str(folder / "market.toml"), "--fund", "10000"]
    assert main([*told, "--out", str(tmp_path / "run"), "--json"]) == 0
    assert main(["report", str(tmp_path / "run")]) == 0
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert find(page, "index")["of"] > 100
    assert find(page, "open interest")["of"] > 100
    capsys.readouterr()
