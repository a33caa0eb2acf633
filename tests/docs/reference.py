"""Writes the two reference pages from the sources: every verb with its arguments, every public name with its docstring.

Both are read from the program itself, arguments from its parser and names from its syntax trees, so that a page is the
same whatever Python makes it.

    python -m tests.docs.reference --write
"""

import argparse
import ast
import sys
from functools import cache
from pathlib import Path

from engine.cli import build_parser

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "engine" / "docs"
WRITTEN_BY = "python -m tests.docs.reference --write"

CLI_HEAD = f"""\
# The command line

Written by `{WRITTEN_BY}` from the program's own parser; `perp VERB --help` says the same. With `--json`
a verb prints one object and nothing else; what its keys mean stands in [formats](formats.md).

| exit status | |
| --- | --- |
| 0 | fine |
| 1 | found what it looks for: faults on a tape, a scenario that ends otherwise, a digest that differs |
| 2 | usage |
| 3 | a missing extra, named |
| 4 | bad data: file, line, field and what was expected |
| 5 | bad configuration: file and path |
| 6 | a declared capacity is used up |
| 70 | an invariant is broken; `reproduction.npz` leads there |
| 74 | the disk refused what had to be kept |
| 130 | interrupted |
"""

API_HEAD = f"""\
# From Python

Written by `{WRITTEN_BY}` from the sources; `help(name)` says the same. Names that end in `_tick`,
`_lot`, `_quote`, `_ppm`, `_ppb`, `_ns` are integers in that unit; the others are as annotated. What is not here is
internal and may change without a word.
"""
# Modules whose every public name is meant for others; without `__all__` that is what they define.
MODULES = (
    *("engine", "engine.commands", "engine.errors", "engine.feeds", "engine.scenario", "engine.replay", "engine.runs"),
    *("engine.sim", "engine.sweep", "engine.lab.compare", "engine.lab.metrics", "engine.reference.own", "engine.twin"),
    *("engine.explain", "engine.report", "engine.venues", "engine.audit", "engine.formulas"),
)
BRIEF = {"engine.commands", "engine.lab.metrics", "engine.formulas"}  # a line each: there are many, and all alike


# ---------------------------------------------------------------- verbs


def list_verbs(parser, words=("perp",), text=""):
    """Yield (words, what it does, parser) of every verb that does something, those of groups below them."""
    groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not groups:
        yield words, text, parser
    for group in groups:
        told = {choice.dest: choice.help for choice in group._choices_actions}
        for name, inner in group.choices.items():
            yield from list_verbs(inner, (*words, name), told[name])


def describe_argument(action):
    """Return the cells of an argument: what to write, its default, what it means."""
    shape = action.metavar or (f"{{{','.join(map(str, action.choices))}}}" if action.choices else action.dest.upper())
    takes = "" if action.nargs == 0 else f" {shape}"
    names = ", ".join(f"`{name}{takes}`" for name in action.option_strings) or f"`{shape}`"
    if action.nargs in ("+", "*"):
        names += " ..."
    given = action.default
    is_told = given not in (None, False, True, argparse.SUPPRESS, []) and action.option_strings
    default = f"`{given.as_posix() if isinstance(given, Path) else given}`" if is_told else ""
    if action.required and action.option_strings:
        default = "needed"
    told = (action.help or "") % {**vars(action), "prog": "perp"}
    return [cell.replace("|", "\\|") for cell in (names, default, told)]


def write_cli():
    """Return the page of the command line."""
    lines = [CLI_HEAD]
    for words, text, parser in list_verbs(build_parser()):
        lines += [f"## {' '.join(words)}", "", text[:1].upper() + text[1:] + ".", ""]
        actions = [action for action in parser._actions if not isinstance(action, argparse._HelpAction)]
        if actions:
            lines += ["| argument | default | |", "| --- | --- | --- |"]
            lines += ["| " + " | ".join(describe_argument(action)) + " |" for action in actions]
            lines.append("")
        if parser.epilog:
            lines += [" ".join(parser.epilog.split()), ""]
    return "\n".join(lines)


# ---------------------------------------------------------------- names


@cache
def parse(module):
    """Return the syntax tree of a module."""
    path = ROOT / Path(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(file.read_text(encoding="utf-8"))


def list_names(module):
    """Return the public names of a module: its `__all__`, else what it defines."""
    for node in parse(module).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return [name for name in ast.literal_eval(node.value)]
    kinds = (ast.FunctionDef, ast.ClassDef)
    return [node.name for node in parse(module).body if isinstance(node, kinds) and not node.name.startswith("_")]


def find(module, name):
    """Return the definition behind a name, through the imports that lead to it; None for a module or a constant."""
    for node in ast.walk(parse(module)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name and node in parse(module).body:
            return node
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                if (alias.asname or alias.name) == name and is_file(node.module):
                    return None if is_file(f"{node.module}.{name}") else find(node.module, name)
    return None


def is_file(module):
    """Return whether a dotted name is a module of the package."""
    path = ROOT / Path(*module.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def describe_signature(node, name=""):
    """Return how a function is called, without `self`."""
    arguments = ast.parse(ast.unparse(node)).body[0].args
    arguments.args = [argument for argument in arguments.args if argument.arg not in ("self", "cls")]
    for argument in (*arguments.args, *arguments.kwonlyargs):
        argument.annotation = argument.annotation and ast.Name(ast.unparse(argument.annotation).replace("'", ""))
    returns = f" -> {ast.unparse(node.returns)}".replace("'", "") if node.returns and node.name != "__init__" else ""
    return f"{name or node.name}({ast.unparse(arguments)}){returns}"


def describe_call(node):
    """Return how a function, or the constructor of a class, is called."""
    if isinstance(node, ast.FunctionDef):
        return describe_signature(node)
    made = next((inner for inner in node.body if getattr(inner, "name", "") == "__init__"), None)
    if made is not None:
        return describe_signature(made, node.name)
    fields = [
        f"{inner.target.id}: {ast.unparse(inner.annotation)}"
        + (f" = {ast.unparse(inner.value)}" if inner.value else "")
        for inner in node.body
        if isinstance(inner, ast.AnnAssign) and not inner.target.id.startswith("_")
    ]
    return f"{node.name}({', '.join(fields)})"


def list_methods(node):
    """Return the public methods of a class, properties first."""
    found = [inner for inner in node.body if isinstance(inner, ast.FunctionDef) and not inner.name.startswith("_")]
    return sorted(found, key=lambda inner: not is_property(inner))


def is_property(node):
    """Return whether a method is read like a field."""
    return any("property" in ast.unparse(decorator) for decorator in node.decorator_list)


def first_sentence(node):
    """Return the first paragraph of a docstring as one line."""
    return " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())


def describe_name(module, name):
    """Yield the lines of a public name."""
    node = find(module, name)
    if node is None:
        about = f"[{module}.{name}](#{anchor(f'{module}.{name}')})" if f"{module}.{name}" in MODULES else "a constant"
        yield from [f"- `{name}`: {about}."] if module in BRIEF else [f"### {name}", "", f"{about}.", ""]
        return
    if module in BRIEF:
        yield f"- `{describe_call(node)}`: {first_sentence(node)}"
        return
    text = (ast.get_docstring(node) or "").strip()
    yield from (f"### {name}", "", "```text", describe_call(node), "", *text.splitlines(), "```", "")
    if isinstance(node, ast.ClassDef) and list_methods(node):
        for method in list_methods(node):
            called = method.name if is_property(method) else describe_signature(method)
            yield f"- `{called}`: {first_sentence(method)}"
        yield ""


def anchor(title):
    """Return the anchor of a heading, as GitHub makes it."""
    kept = "".join(letter for letter in title.lower().replace("`", "") if letter.isalnum() or letter in " -_")
    return kept.replace(" ", "-")


def write_api():
    """Return the page of the public names."""
    lines = [API_HEAD]
    for module in MODULES:
        lines += [f"## {module}", "", first_sentence(parse(module)), ""]
        for name in list_names(module):
            lines += describe_name(module, name)
        if module in BRIEF:
            lines.append("")
    return "\n".join(lines)


PAGES = {DOCS / "cli.md": write_cli, DOCS / "api.md": write_api}

if __name__ == "__main__":
    for page, write in PAGES.items():
        text, state = write().rstrip() + "\n", "current"
        if not page.exists() or page.read_text(encoding="utf-8") != text:
            state = "stale"
            if "--write" in sys.argv:
                page.write_text(text, encoding="utf-8")
                state = "written"
        print(f"{page.relative_to(ROOT)}: {state}")
