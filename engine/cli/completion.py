"""`perp completion`: what makes a shell complete verbs, options, presets and files; shtab writes it from the parser."""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from engine.errors import MissingExtraError

SHELLS = {
    "bash": "put into ~/.bashrc: source <(perp completion bash)",
    "zsh": 'put into ~/.zshrc, after compinit: eval "$(perp completion zsh)"',
    "fish": "once: perp completion fish > ~/.config/fish/completions/perp.fish",
}


def add_completion(verbs: Any, build_parser: Callable[[], argparse.ArgumentParser]) -> None:
    """Add the verb; `build_parser` makes the parser of all verbs anew."""
    completion = verbs.add_parser(
        "completion",
        help="print what makes bash, zsh or fish complete perp's arguments",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="\n".join(f"{shell:6}{text}" for shell, text in SHELLS.items()),
    )
    completion.add_argument("shell", choices=tuple(SHELLS), metavar="SHELL", help=", ".join(SHELLS))
    completion.set_defaults(verb=lambda options: run_completion(build_parser(), options.shell))


def run_completion(parser: argparse.ArgumentParser, shell: str) -> int:
    """Print the script of a shell.

    Raises
    ------
    MissingExtraError
        If shtab is not installed.

    Source: CLI-032.
    """
    try:
        import shtab
    except ImportError as error:
        raise MissingExtraError("perp completion needs `pip install 'perp-engine[completion]'`") from error
    for verb, action in _walk(parser):
        if verb == "venues" and action.dest == "name":
            from engine.venues import list_venues

            action.choices = list_venues()
        elif verb == "docs" and action.dest == "name":
            action.choices = sorted(page.stem for page in (Path(__file__).parents[1] / "docs").glob("*.md"))
        elif action.type is Path:
            folders = action.metavar == "DIR"
            action.complete = shtab.DIRECTORY if folders else shtab.FILE  # type: ignore[attr-defined]
    print(shtab.complete(parser, shell))
    return 0


def _walk(parser: argparse.ArgumentParser, verb: str = "") -> Iterator[tuple[str, argparse.Action]]:
    """Yield every argument of every verb with its verb's name."""
    for action in parser._actions:
        yield verb, action
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                yield from _walk(inner, name)
