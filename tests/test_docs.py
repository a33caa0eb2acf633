"""The documentation says what is so: its code runs, its output is real, its links lead somewhere."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from engine.cli import main
from engine.contract import load_market
from engine.layout import COMMAND, EVENT
from engine.scenario import load_population, load_shock, load_simulated

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
FORMATS = ROOT / "engine" / "docs" / "formats.md"
PAGES = sorted(
    {*ROOT.glob("*.md"), *ROOT.glob("engine/docs/*.md"), *ROOT.glob("*/README.md"), *ROOT.glob("bench/*.md")}
)

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def blocks(page, language):
    """Return the code blocks of a page in one language."""
    return [text for name, text in BLOCK.findall(page.read_text(encoding="utf-8")) if name == language]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    targets = [link for link in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in link]
    missing = [link for link in targets if not (page.parent / link).exists()]
    assert not missing, f"{page.name} links to what is not there: {missing}"


def test_the_readme_maps_every_page():
    text = README.read_text(encoding="utf-8")
    mapped = {(ROOT / link).resolve() for link in LINK.findall(text) if "://" not in link}
    assert not [page for page in (ROOT / "engine" / "docs").glob("*.md") if page.resolve() not in mapped]


def test_the_example_runs_and_prints_what_it_says():
    """Source: LIQ-007, ADL-005."""
    (example,) = blocks(README, "python")
    done = subprocess.run([sys.executable, "-c", example], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout in blocks(README, "text")


def test_the_demo_prints_what_the_readme_quotes(tmp_path, capsys):
    """Every line but the three that hang on the machine: how long it took, and where it wrote."""
    assert main(["demo", "--out", str(tmp_path / "demo"), "--events", "none"]) == 0
    printed = capsys.readouterr().out.splitlines()
    quoted = blocks(README, "text")[0].splitlines()
    own = re.compile(r".* commands/s\)$|run directory: |report: ")
    assert [line for line in quoted if not own.match(line)] == [line for line in printed if not own.match(line)]
    assert len(quoted) == len(printed)


def test_formats_names_every_field():
    words = set(re.findall(r"`(\w+)`", FORMATS.read_text(encoding="utf-8")))
    assert not set((*COMMAND.names, *EVENT.names)) - words


def test_formats_names_every_key_of_the_summary(capsys):
    """Source: CLI-001."""
    demo = ROOT / "replay_data" / "synthetic_btc"
    assert main(["replay", str(demo), "--market", str(demo / "market.toml"), "--until-seq", "9", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    words = set(re.findall(r"`(\w+)`", FORMATS.read_text(encoding="utf-8")))
    assert not set(summary) - words


@pytest.mark.parametrize(
    ("name", "load"),
    [("market", load_market), ("population", load_population), ("shock", load_shock), ("simulated", load_simulated)],
)
def test_the_files_formats_shows_can_be_read(tmp_path, name, load):
    """The blocks are whole examples: every one loads, and a market shows every field there is (CFG-001)."""
    position = ["market", "population", "shock", "simulated"].index(name)
    text = blocks(FORMATS, "toml")[position]
    file = tmp_path / f"{name}.toml"
    file.write_text(text)
    loaded = load(file)
    assert set(tomllib.loads(text)) == set(loaded.__struct_fields__)
