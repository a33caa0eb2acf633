"""Plays a page from top to bottom in an empty folder, as its reader would, and compares what it shows.

A block ```` ```toml crowd.toml ```` is written to that file, a `console` block runs its `$ perp ...` lines, a `python`
block without a file runs in the page's namespace and must print the `text` block behind it.  In what is shown a line
`...` stands for any lines, ` ...` at the end of a line for its rest; how long something took may differ.

    python -m tests.docs.sessions PAGE...      record what was printed where nothing was left out
"""

import io
import re
import shlex
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from engine.cli import main

ROOT = Path(__file__).resolve().parents[2]
FENCE = "```"
GIVEN = "replay_data"  # what a reader has in the repository
TIMING = re.compile(r"in [\d.]+ s \([\d.]+ s of it in the compiled engine: [\d,]+ commands/s\)")
LEFT_OUT = "..."


class Block(NamedTuple):
    """A fenced block: its first line in the page, from 0, the words behind the fence, its lines."""

    start: int
    info: list[str]
    lines: list[str]


class Step(NamedTuple):
    """One thing that was run: where what it should print stands in the page, and what it printed."""

    line: int
    what: str
    shown: list[str]
    printed: list[str]


def list_blocks(text):
    """Return the fenced blocks of a page."""
    found, opened = [], None
    for number, line in enumerate(text.splitlines()):
        if not line.startswith(FENCE):
            continue
        if opened is None:
            opened = number
        else:
            lines = text.splitlines()
            found.append(Block(opened + 1, lines[opened].removeprefix(FENCE).split(), lines[opened + 1 : number]))
            opened = None
    assert opened is None, f"line {opened}: a block without an end"
    return found


def list_commands(block):
    """Return (line of the page below the command, command, shown lines) of a console block."""
    found, lines = [], list(block.lines)
    at = 0
    while at < len(lines):
        assert lines[at].startswith("$ "), f"line {block.start + at + 1}: expected a command, got {lines[at]}"
        command = lines[at].removeprefix("$ ")
        while command.endswith("\\"):
            at += 1
            command = command.removesuffix("\\") + lines[at]
        at += 1
        end = next((place for place in range(at, len(lines)) if lines[place].startswith("$ ")), len(lines))
        found.append((block.start + at, command, lines[at:end]))
        at = end
    return found


def run_command(command):
    """Return the exit status and the lines of a `perp` command, those on stderr where it fails."""
    name, *arguments = shlex.split(command)
    assert name == "perp", f"expected a perp command, got {command}"
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            status = main(arguments)
        except SystemExit as stopped:  # of argparse
            status = int(stopped.code or 0)
    return status, (out.getvalue() + (err.getvalue() if status else "")).splitlines()


def play(page):
    """Yield every step of a page, run in a folder of its own that ends with it."""
    blocks = list_blocks(page.read_text(encoding="utf-8"))
    names = {"__name__": page.stem}
    with TemporaryDirectory() as folder, chdir(folder):
        for given in (GIVEN, "engine"):
            Path(given).symlink_to(ROOT / given)
        for place, block in enumerate(blocks):
            language, *more = block.info or [""]
            if language == "console":
                allowed = {int(word.removeprefix("exit=")) for word in more} or {0}
                for line, command, shown in list_commands(block):
                    status, printed = run_command(command)
                    assert status in allowed, f"{page.name}: {command}: exit {status}\n" + "\n".join(printed)
                    yield Step(line, command, shown, printed)
            elif more:
                file = Path(more[0])
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text("\n".join(block.lines) + "\n", encoding="utf-8")
            elif language == "python":
                out = io.StringIO()
                with redirect_stdout(out):
                    exec(compile("\n".join(block.lines), f"{page.name}:{block.start + 1}", "exec"), names)
                after = blocks[place + 1 :]
                shown = after[0] if after and after[0].info == ["text"] else Block(0, [], [])
                yield Step(shown.start, f"python at line {block.start}", shown.lines, out.getvalue().splitlines())


def is_shown(shown, printed):
    """Return whether what a page shows is what was printed."""
    pattern = ""
    for line in shown:
        whole = re.escape(TIMING.sub("TIME", line))
        if line.strip() == LEFT_OUT:
            pattern += r"(?:.*\n)*?"
        elif line.endswith(f" {LEFT_OUT}"):
            pattern += re.escape(TIMING.sub("TIME", line).removesuffix(f" {LEFT_OUT}")) + r".*\n"
        else:
            pattern += whole + r"\n"
    return re.fullmatch(pattern, "".join(TIMING.sub("TIME", line.rstrip()) + "\n" for line in printed)) is not None


def record(page):
    """Write what was printed into a page where nothing of it was left out; return the steps that differ otherwise."""
    lines = page.read_text(encoding="utf-8").splitlines()
    stale, steps = [], list(play(page))
    for step in reversed(steps):
        if is_shown(step.shown, step.printed):
            continue
        if any(line.endswith(LEFT_OUT) for line in step.shown) or not step.line:
            stale.append(step)
        else:
            lines[step.line : step.line + len(step.shown)] = [line.rstrip() for line in step.printed]
    page.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return stale


if __name__ == "__main__":
    for name in sys.argv[1:]:
        for left in record(Path(name)):
            print(f"{name}: by hand: {left.what}\n" + "\n".join(left.printed))
