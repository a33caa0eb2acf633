"""The documentation says what is so: its code runs, its output is real, its links lead somewhere."""

import importlib
import json
import re
import shlex
import tomllib
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from engine.cli import build_parser, main
from engine.contract import load_market
from engine.layout import COMMAND, EVENT
from engine.scenario import load_population, load_shock, load_simulated
from tests.docs.reference import MODULES, anchor, list_names
from tests.docs.reference import PAGES as WRITTEN
from tests.docs.sessions import LEFT_OUT, is_shown, list_blocks, play
from tests.fetch.site import Site

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
DOCS = ROOT / "engine" / "docs"
FORMATS = DOCS / "formats.md"
PAGES = sorted(
    {*ROOT.glob("*.md"), *ROOT.glob("engine/docs/*.md"), *ROOT.glob("*/README.md"), *ROOT.glob("bench/*.md")}
)

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]*)\)")
HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
NAMED_FILE = re.compile(r"`((?:engine|tests|bench|replay_data|\.ci)/[\w./-]*)`")
PLAYED = [README, *(DOCS / f"{name}.md" for name in ("tutorial", "howto", "numbers"))]
EXTERNAL = {"http", "https"}


def blocks(page, language):
    """Return the code blocks of a page in one language."""
    return [text for name, text in BLOCK.findall(page.read_text(encoding="utf-8")) if name == language]


@cache
def read_prose(page):
    """Return a page without its code blocks."""
    lines = page.read_text(encoding="utf-8").splitlines()
    for block in list_blocks("\n".join(lines)):
        lines[block.start - 1 : block.start + len(block.lines) + 1] = [""] * (len(block.lines) + 2)
    return "\n".join(lines)


@cache
def list_anchors(page):
    """Return the anchors of a page's headings, as GitHub makes them: an equal one gets a number."""
    found = []
    for title in HEADING.findall(read_prose(page)):
        name = anchor(LINK.sub("]", title).replace("[", ""))
        count = sum(known == name or known.startswith(f"{name}-") for known in found)
        found.append(f"{name}-{count}" if name in found else name)
    return found


def name_page(page):
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=name_page)
def test_links_lead_somewhere(page):
    """Files exist, headings exist in them, and what leads outside has a scheme, a host and nothing odd."""
    wrong = []
    for link in LINK.findall(read_prose(page)):
        parts = urlsplit(link)
        if parts.scheme:
            is_fine = parts.scheme in EXTERNAL and re.fullmatch(r"[\w-]+(\.[\w-]+)+", parts.netloc)
        else:
            target = page.parent / parts.path if parts.path else page
            is_fine = target.exists() and (not parts.fragment or parts.fragment in list_anchors(target))
        wrong += [] if is_fine else [link]
    assert not wrong, f"{page.name} links to what is not there: {wrong}"


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name not in ("CHANGELOG.md", "HISTORY.md")], ids=name_page
)
def test_files_that_are_named_are_there(page):
    named = [name for name in NAMED_FILE.findall(read_prose(page)) if "NAME" not in name]
    missing = [name for name in named if not (ROOT / name).exists()]
    assert not missing, f"{page.name} names files that are not there: {missing}"


def test_the_index_leads_to_every_page():
    """Who comes through one of the four doors finds every page; the README leads to the doors."""
    linked = {(DOCS / urlsplit(link).path).resolve() for link in LINK.findall(read_prose(DOCS / "index.md"))}
    assert not [page.name for page in PAGES if page.parent == DOCS and page.name != "index.md" and page not in linked]
    assert "](engine/docs/index.md)" in README.read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=name_page)
def test_every_command_can_be_given(page, capsys):
    """Where a page only shows a command, its arguments are ones the program takes."""
    for block in list_blocks(page.read_text(encoding="utf-8")):
        text = "\n".join(block.lines).replace("\\\n", " ")
        for line in [] if block.info else text.splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["perp"] and LEFT_OUT not in words:
                try:
                    build_parser().parse_args(words[1:])
                except SystemExit:
                    pytest.fail(f"{page.name}: {line}\n{capsys.readouterr().err}")


@pytest.mark.parametrize("page", PLAYED, ids=name_page)
def test_a_page_shows_what_is_printed(page):
    """Every command and script, from top to bottom in an empty folder (tests/docs/sessions.py).

    Source: LIQ-007, ADL-005, OWN-003.
    """
    pytest.importorskip("polars", reason="the pages show frames")
    steps = list(play(page))
    assert steps
    for step in steps:
        printed = "\n".join(step.printed)
        assert is_shown(step.shown, step.printed), f"{page.name}:{step.line}: {step.what} printed\n{printed}"


def test_what_the_tutorial_fetches_can_be_played(tmp_path, monkeypatch, capsys):
    """Its command as it stands, against a server with the demo's files: what it leaves ends in the digest of the page.

    Source: FETCH-001.
    """
    tutorial = (DOCS / "tutorial.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^perp (fetch .*)$", tutorial, re.MULTILINE)
    *_, exchange, symbol, day = command.split()
    site = Site()
    try:
        for kind in ("trades", "incremental_book_L2", "derivative_ticker"):
            (file,) = (ROOT / "replay_data" / "synthetic_btc").glob(f"synthetic_{kind}_*.csv.gz")
            site.files[f"/v1/{exchange}/{kind}/{day.replace('-', '/')}/{symbol}.csv.gz"] = file.read_bytes()
        monkeypatch.chdir(tmp_path)
        assert main([*command.split(), "--base-url", site.url]) == 0
    finally:
        site.close()
    assert len(list(Path("tapes").glob("*.csv.gz"))) == 3
    for block in list_blocks(tutorial):
        if len(block.info) == 2 and block.info[0] == "toml":
            Path(block.info[1]).write_text("\n".join(block.lines), encoding="utf-8")
    capsys.readouterr()
    files = ["--market=market.toml", "--population=crowd.toml", "--shock=crash.toml", "--fund=250000"]
    assert main(["replay", "tapes", *files, "--json"]) == 0
    assert f"digest {json.loads(capsys.readouterr().out)['digest']}" in tutorial


@pytest.mark.parametrize("page", WRITTEN, ids=name_page)
def test_the_reference_pages_are_current(page):
    """They are what the sources say; `python -m tests.docs.reference --write` writes them."""
    assert page.read_text(encoding="utf-8").rstrip() == WRITTEN[page]().rstrip()


def test_the_reference_names_what_is_public():
    """Every name can be imported from where the page says it is, and has a docstring of its own."""
    page = (DOCS / "api.md").read_text(encoding="utf-8")
    for module in MODULES:
        assert f"\n## {module}\n" in page
        for name in list_names(module):
            assert getattr(importlib.import_module(module), name, None) is not None, f"{module}.{name}"
            assert f"### {name}\n" in page or f"- `{name}" in page, f"{module}.{name}"


def test_docs_without_a_name_shows_the_doors(capsys):
    assert main(["docs"]) == 0
    assert "perp docs index" in capsys.readouterr().out
    assert main(["docs", "index"]) == 0
    assert capsys.readouterr().out == (DOCS / "index.md").read_text(encoding="utf-8")


def test_the_demo_prints_what_the_readme_quotes(tmp_path, capsys):
    """Every line but the three that hang on the machine: how long it took, and where it wrote."""
    assert main(["demo", "--out", str(tmp_path / "demo"), "--events", "none"]) == 0
    printed = capsys.readouterr().out.splitlines()
    quoted = blocks(README, "text")[0].splitlines()
    own = re.compile(r".* commands/s\)$|run directory: |report: ")
    assert [line for line in quoted if not own.match(line)] == [line for line in printed if not own.match(line)]
    assert len(quoted) == len(printed)


def test_the_other_mark_does_what_the_readme_says(tmp_path, capsys):
    """`mark_model = "last"` instead of `median3`: so many accounts instead of so many, and ADL."""
    folder = ROOT / "replay_data" / "simulated_btc"
    market = (folder / "market.toml").read_text(encoding="utf-8")
    (tmp_path / "last.toml").write_text(market.replace('"median3"', '"last"'), encoding="utf-8")
    found = []
    for file in (tmp_path / "last.toml", folder / "market.toml"):
        assert main(["sim", str(folder / "simulated.toml"), f"--market={file}", "--fund=1000000", "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out))
    (told,) = re.findall(r"liquidate (\d+) accounts instead of (\d+)", README.read_text(encoding="utf-8"))
    assert tuple(str(summary["liquidated_accounts"]) for summary in found) == told
    assert found[0]["adl_fills"] > 0 == found[1]["adl_fills"]


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
