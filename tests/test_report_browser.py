"""The report in a real browser: opened from disk, drawn, toggled, sorted, read by mouse and keys; skipped without one.

The probe is a script that is put into a copy of the page; the page as it is forbids any script but its own.
"""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from engine.cli import main

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "replay_data" / "synthetic_btc"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--enable-logging=stderr",
    "--virtual-time-budget=4000",
)
# Names as a user's CSV may hold them.
EVIL = (
    '<img src=x onerror="window.hacked=1">',
    "</script><script>window.hacked=2</script>",
    "a&b \"c\" 'd'",
    "short & sound",
)
PROBE = """
const found = {plots: [], errors: [], hacked: window.hacked || null};
addEventListener("error", (event) => found.errors.push(String(event.message)));
const wait = (ms) => new Promise((done) => setTimeout(done, ms));
function count(canvas) { // pixels that are not empty, how many colours they have, a sum that tells pictures apart
  const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", {willReadFrequently: true});
  copy.drawImage(canvas, 0, 0);
  const {data} = copy.getImageData(0, 0, canvas.width, canvas.height), colours = new Set();
  let inked = 0, sum = 0;
  for (let at = 0; at < data.length; at += 4) {
    sum = (sum * 31 + data[at] + data[at + 1] * 3 + data[at + 3] * 7) >>> 0;
    if (data[at + 3]) { inked++; colours.add((data[at] << 16) | (data[at + 1] << 8) | data[at + 2]); }
  }
  return [inked, colours.size, sum];
}
(async () => {
  await wait(100);
  for (const plot of document.querySelectorAll(".plot")) {
    const figure = plot.parentElement, canvas = plot.querySelector("canvas"), said = figure.querySelector("output");
    const told = {label: plot.getAttribute("aria-label"), drawn: count(canvas), keys: []};
    const over = plot.querySelector(".u-over"), box = over.getBoundingClientRect();
    const at = {clientX: box.left + box.width / 3, clientY: box.top + box.height / 2, bubbles: true};
    over.dispatchEvent(new MouseEvent("mouseenter", at));
    over.dispatchEvent(new MouseEvent("mousemove", at));
    await wait(30);
    told.hover = said.textContent;
    told.hoverLive = said.getAttribute("aria-live");
    plot.focus();
    told.isFocused = document.activeElement === plot;
    plot.dispatchEvent(new KeyboardEvent("keydown", {key: "Home", bubbles: true}));
    for (let n = 0; n < 20; n++) plot.dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowRight", bubbles: true}));
    await wait(30);
    told.read = said.textContent;
    for (const button of figure.querySelectorAll(".keys button:not(.reset)")) {
      button.click();
      await wait(30);
      told.keys.push([button.textContent, button.getAttribute("aria-pressed"), count(canvas)[2]]);
      button.click();
    }
    await wait(30);
    told.again = count(canvas);
    plot.dispatchEvent(new KeyboardEvent("keydown", {key: "+", bubbles: true}));
    await wait(30);
    told.zoomed = !figure.querySelector(".reset").hidden;
    figure.querySelector(".reset").click();
    await wait(30);
    told.whole = figure.querySelector(".reset").hidden;
    found.plots.push(told);
  }
  found.overflow = document.documentElement.scrollWidth - innerWidth;
  found.hacked = window.hacked || null;
  const out = document.createElement("pre");
  out.id = "probe";
  out.textContent = JSON.stringify(found);
  document.body.append(out);
})();
"""


@pytest.fixture(scope="module")
def browser():
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser here: none of {', '.join(BROWSERS)}")
    return found


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser") / "demo"
    assert main(["demo", "--out", str(folder), "--json"]) == 0
    return folder


@pytest.fixture(scope="module")
def named(tmp_path_factory):
    """A run of real positions whose owners are called what nobody should be."""
    folder = tmp_path_factory.mktemp("named")
    rows = ["account,symbol,side,amount,entry_price,leverage,margin_mode"]
    for number, name in enumerate(EVIL):
        quoted = '"' + name.replace('"', '""') + '"'
        rows.append(f"{quoted},BTCUSDT,{'short' if number == 3 else 'long'},{200 + number},60000,50,isolated")
    (folder / "book.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    told = ["replay", str(DEMO), "--market", str(DEMO / "market.toml"), "--shock", str(DEMO / "shock.toml")]
    told += ["--population", str(folder / "book.csv"), "--fund", "100", "--out", str(folder / "run"), "--json"]
    assert main(told) == 0
    assert main(["report", str(folder / "run")]) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Pages of many runs: over a side of numbers, of names, of a fund; and the demo with the lab's table."""
    folder = tmp_path_factory.mktemp("many")
    scenario, one = str(ROOT / "replay_data" / "stress" / "flash_crash.toml"), ["--workers", "1", "--json"]
    numbers = ["--grid", "fund=1e4:64e4:log3", "--grid", "adl.score=bitmex,binance"]
    names = ["--grid", "liquidation.size=full,tiered", "--grid", "adl.trigger=fund_empty,drawdown"]
    for name, told in (
        ("numbers", ["sweep", scenario, *numbers, "--seeds", "3"]),
        ("names", ["sweep", scenario, *names, "--seeds", "2"]),
        ("fund", ["size-fund", scenario, "--seeds", "9"]),
    ):
        assert main([*told, *one, "--out", str(folder / name)]) == 0
        assert main(["report", str(folder / name)]) == 0
    return folder


def visit(browser, page, tmp_path, *flags):
    """Return the page's document once its scripts are done, and what it said on the console."""
    told = [browser, *QUIET, f"--user-data-dir={tmp_path / 'profile'}", *flags, "--dump-dom", page.as_uri()]
    done = subprocess.run(told, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def probe(browser, page, tmp_path, *flags, script=PROBE):
    """Return what the probe found on a copy of the page."""
    text = page.read_text(encoding="utf-8")
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text, count=1)
    copy = tmp_path / "copy.html"
    copy.write_text(text.replace("</body>", f"<script>{script}</script></body>"), encoding="utf-8")
    dom, console = visit(browser, copy, tmp_path, *flags)
    match = re.search(r'<pre id="probe">(.*?)</pre>', dom, re.DOTALL)
    assert match, dom[-2000:]
    return json.loads(match[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")), console


def test_it_opens_from_disk_and_draws_at_once(browser, demo, tmp_path):
    """Source: REP-001, REP-002."""
    dom, console = visit(browser, demo / "report.html", tmp_path)
    assert console == []
    plots = dom.count('class="plot"')
    assert plots >= 5
    assert f'data-drawn="{plots}"' in dom
    assert int(re.search(r'data-milliseconds="(\d+)"', dom)[1]) < 2000


def test_charts_have_ink_keys_and_a_voice(browser, demo, tmp_path):
    """Source: REP-006."""
    found, console = probe(browser, demo / "report.html", tmp_path, "--window-size=1200,900")
    assert console == []
    assert found["errors"] == []
    assert found["overflow"] <= 0
    for told in found["plots"]:
        (inked, colours, _), label = told["drawn"], told["label"]
        assert inked > 500, label
        assert colours >= 3, label
        assert " in · " in told["hover"], label
        assert "UTC" in told["hover"], label
        assert told["hoverLive"] == "off", label
        assert told["isFocused"], label
        assert told["read"] not in ("", told["hover"]), label
        assert told["again"][0] == pytest.approx(inked, rel=0.02), label
        assert told["zoomed"], label
        assert told["whole"], label
        for name, pressed, left in told["keys"]:
            assert pressed == "false", (label, name)
            assert left != told["drawn"][2], (label, name)


@pytest.mark.parametrize("flags", [(), ("--blink-settings=preferredColorScheme=0",)], ids=["light", "dark"])
def test_a_narrow_screen_scrolls_one_way(browser, demo, tmp_path, flags):
    """Source: REP-006."""
    found, console = probe(browser, demo / "report.html", tmp_path, "--window-size=500,900", *flags)
    assert console == []
    assert found["overflow"] <= 0
    assert all(told["drawn"][0] > 500 for told in found["plots"])


def test_names_are_texts(browser, named, tmp_path):
    """Source: REP-006."""
    dom, console = visit(browser, named / "report.html", tmp_path)
    assert console == []
    assert "window.hacked" in dom  # it is there, as a text
    assert "<img" not in dom
    found, console = probe(browser, named / "report.html", tmp_path)
    assert console == []
    assert found["hacked"] is None
    assert found["errors"] == []


# ---------------------------------------------------------------- many runs

PATIENT = "--virtual-time-budget=30000"  # of the page's own clock


@pytest.mark.parametrize("name", ["numbers", "names", "fund"])
def test_many_runs_open_from_disk(browser, many, tmp_path, name):
    """Source: REP-007."""
    dom, console = visit(browser, many / name / "report.html", tmp_path)
    assert console == []
    plots = dom.count('class="plot"')
    assert plots >= 1
    assert f'data-drawn="{plots}"' in dom
    assert "<script src" not in dom
    assert "http://" not in re.sub(r"http://www.w3.org/\S+", "", dom)


@pytest.mark.parametrize(
    ("name", "says"), [("numbers", "fund "), ("names", "liquidation.size "), ("fund", "fund (USDT) ")]
)
def test_curves_have_ink_bands_keys_and_a_voice(browser, many, tmp_path, name, says):
    """Source: REP-006, REP-007."""
    found, console = probe(browser, many / name / "report.html", tmp_path, "--window-size=500,900", PATIENT)
    assert console == []
    assert found["errors"] == []
    assert found["overflow"] <= 0
    for told in found["plots"]:
        (inked, colours, _), label = told["drawn"], told["label"]
        assert inked > 500, label
        assert colours >= 3, label
        for heard in (told["hover"], told["read"]):
            assert heard.startswith(says), (label, heard)
            assert " to " in heard, (label, heard)  # the interval
        assert told["isFocused"], label
        assert told["again"][0] == pytest.approx(inked, rel=0.02), label
        assert told["zoomed"], label
        assert told["whole"], label
        for key, pressed, left in told["keys"]:
            assert pressed == "false", (label, key)
            assert left != told["drawn"][2], (label, key)


SORTING = """
const table = document.querySelector("table.sortable"), heads = [...table.tHead.rows[0].cells];
const found = {presses: [], buttons: heads.filter((head) => head.querySelector("button")).length, heads: heads.length};
const read = (at) => [...table.tBodies[0].rows].map((row) => row.cells[at].textContent);
found.before = read(0);
for (const [at, times] of [[4, 1], [4, 2], [0, 1]]) {
  heads[at].querySelector("button").click();
  found.presses.push([heads.map((head) => head.getAttribute("aria-sort")), read(at), read(0)]);
}
const out = document.createElement("pre");
out.id = "probe";
out.textContent = JSON.stringify(found);
document.body.append(out);
"""


def test_the_labs_table_sorts_by_its_heads(browser, demo, tmp_path, capsys):
    """Source: REP-008."""
    capsys.readouterr()
    assert main(["lab", "run", str(demo), "--json"]) == 0
    (tmp_path / "lab.json").write_text(capsys.readouterr().out)
    page = tmp_path / "lab.html"
    assert main(["report", str(demo), "--lab", str(tmp_path / "lab.json"), "--out", str(page)]) == 0
    _, console = visit(browser, page, tmp_path)
    assert console == []
    found, console = probe(browser, page, tmp_path, script=SORTING)
    assert console == []
    assert found["buttons"] == found["heads"] == 15
    (falling, numbers, _), (rising, again, _), (named, names, _) = found["presses"]
    values = [float(text.replace(",", "")) for text in numbers]
    assert values == sorted(values, reverse=True)
    assert sorted(set(values)) == sorted({float(text.replace(",", "")) for text in again})
    assert [float(text.replace(",", "")) for text in again] == sorted(values)
    assert (falling[4], rising[4], named[4]) == ("descending", "ascending", None)
    assert named[0] == "ascending"
    assert sorted(names) == sorted(found["before"])
    assert names != found["before"]
