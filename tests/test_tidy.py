"""Our own rules, which no linter knows: who may import whom, what a kernel may say, how long a thing may be.

Each rule is one test; a failure lists file, line and what was expected.  The tables below are the rules: changing one
is a decision, made in the open.
"""

import ast
import re
import subprocess
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ENGINE = ROOT / "engine"
EXAMPLES = ENGINE / "docs" / "examples"

# What the inner modules may import of ours; a name stands for the module or for everything in the folder.
INNER = {
    "codes": set(),
    "errors": set(),
    "_jit": set(),
    "_probe": {"_jit", "errors"},
    "files": {"errors"},
    "layout": {"codes"},
    "units": {"codes"},
    "table": {"errors"},
    "policies": {"codes", "errors", "units"},
    "venues": {"errors", "units"},
    "contract": {"codes", "errors", "files", "units", "policies", "venues"},
    "commands": {"codes", "errors", "layout"},
    "formulas": {"codes", "errors", "units", "formulas"},
    "kernels": {"codes", "layout", "_jit", "_probe", "kernels"},
    "reference": {"codes", "errors", "units", "contract", "reference"},
    "digest": {"codes", "errors", "layout", "contract"},
    "journal": {"codes", "errors", "layout", "contract"},
    "audit": {"codes", "errors", "layout", "contract", "digest", "audit"},
}
# From here on a ring may import itself and everything inside it, inner modules included.
RINGS = (
    {"compiled"},  # the owner of the arrays
    {"exchange", "flight", "memory", "signs"},
    {"feeds", "fetch", "scenario"},
    {"bench", "check", "explain", "fuzz", "lab", "replay", "runs", "sim", "sweep", "report", "twin", "watch"},
    {"cli", "serve"},
)
# The public names and `python -m engine`: they may import anything, and only the last ring imports them.
DOORS = {"__init__", "__main__"}

ENTRY_POINTS = {"engine", "engine.__main__", "engine.cli"}

FUNCTION_LINES_MAX = 70
MODULE_LINES_MAX = 700
# The one switch over command kinds is long because there are many kinds, not because it does much.
LONGER_FUNCTIONS = {"engine/kernels/run.py": 160}

# Folders that exist on one machine only.  Spelled in parts, so that this file passes its own rule.
MACHINE_PATH = re.compile(r"(?<![\w.:/~-])/(?:home|root|Users|work|tmp|mnt|private|media)/[\w.]")
UNFINISHED = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|XX" r"X)\b")


# ---------------------------------------------------------------- reading the tree


def sources(folder=ENGINE):
    """Return the Python files under `folder`, sorted; the examples of the docs are read, not imported."""
    return sorted(file for file in folder.rglob("*.py") if EXAMPLES not in file.parents)


def shown(file):
    """Return the path of `file` as the failure message writes it."""
    return file.relative_to(ROOT).as_posix()


@cache
def parse(file):
    """Return the syntax tree of `file`."""
    return ast.parse(file.read_text(encoding="utf-8"), filename=str(file))


def module_name(file):
    """Return the dotted name of `file`: engine/feeds/tardis.py is engine.feeds.tardis."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(file): file for file in sources()}


def absolute(node, file):
    """Return the dotted module a `from` import names, relative ones resolved."""
    if not node.level:
        return node.module or ""
    package = module_name(file).split(".")
    if file.name != "__init__.py":
        package = package[:-1]
    package = package[: len(package) - node.level + 1]
    return ".".join([*package, node.module] if node.module else package)


@cache
def imports(file):
    """Return [(line, dotted name)] of every import in `file`, those inside functions included.

    `from engine.kernels import run` names engine.kernels.run where that is a module, else engine.kernels.
    """
    found = []
    for node in ast.walk(parse(file)):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = absolute(node, file)
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                found.append((node.lineno, inner if inner in MODULES else base))
    return found


def ours(file):
    """Return the imports of `file` that are modules of the engine."""
    return [(line, name) for line, name in imports(file) if name.split(".")[0] == "engine"]


def place(name):
    """Return what a module is called in the tables: engine.feeds.tardis is feeds, engine itself __init__."""
    return name.split(".")[1] if "." in name else "__init__"


def allowed(name):
    """Return the places a module may import, or None where the tables have none for it."""
    if name in INNER:
        return INNER[name]
    if name in DOORS:
        return set(INNER).union(*RINGS)
    for depth, ring in enumerate(RINGS):
        if name in ring:
            last = DOORS if ring is RINGS[-1] else set()
            return set(INNER).union(last, *RINGS[: depth + 1])
    return None


def functions(file):
    """Return every function and method of `file`, nested ones included."""
    return [node for node in ast.walk(parse(file)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def body_without_docstring(node):
    """Return the statements of a module, class or function that do something."""
    return node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body


def tracked():
    """Return (file, text) of every text file that is or would be in git, or in the sdist where there is no git."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        done = subprocess.run(listing, cwd=ROOT, capture_output=True, check=True)
        files = [ROOT / name for name in done.stdout.decode().split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        folders = [ROOT / name for name in ("engine", "tests", "bench", "replay_data", ".ci")]
        files = [*ROOT.glob("*"), *chain.from_iterable(folder.rglob("*") for folder in folders)]
    for file in files:
        if file.is_file():
            try:
                yield file, file.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue  # a recording, not a text


def report(found, rule):
    """Fail with `rule` and one line per finding."""
    assert not found, f"{rule}\n  " + "\n  ".join(found)


# ---------------------------------------------------------------- direction


def test_every_module_has_a_place():
    lost = [name for name in MODULES if allowed(place(name)) is None]
    report(lost, "modules without a place in INNER or RINGS of tests/test_tidy.py:")


@pytest.mark.parametrize("file", sources(), ids=shown)
def test_imports_point_inwards(file):
    mine = place(module_name(file))
    may = allowed(mine) or set()
    own = {mine} if (ENGINE / mine).is_dir() else set()
    wrong = [f"{shown(file)}:{line}: imports {name}" for line, name in ours(file) if place(name) not in may | own]
    report(wrong, f"{mine} may import of ours only: {', '.join(sorted(may | own)) or 'nothing'}")


def test_no_cycles():
    # The package itself is left out: it is the table of public names and loads them on demand.
    graph = {name: {other for _, other in ours(file)} - {"engine", name} for name, file in MODULES.items()}
    graph.pop("engine", None)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail("modules import each other in a circle: " + " <- ".join(error.args[1]))


def test_the_reference_is_plain_python():
    wrong = [
        f"{shown(file)}:{line}: imports {name}"
        for file in sources(ENGINE / "reference")
        for line, name in imports(file)
        if name.split(".")[0] in {"numba", "llvmlite"}
    ]
    report(wrong, "engine/reference is the second opinion and compiles nothing:")


@pytest.mark.parametrize("module", ["engine", "engine.cli"])
def test_importing_is_cheap(module):
    """`perp --help` and `import engine` must not pay for numba's start (half a second)."""
    code = f"import sys, {module}; sys.exit('numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr or f"import {module} imports numba"


def test_no_dead_file():
    # A dotted name in a string counts too: that is how the public names are loaded on demand.
    used = set(ENTRY_POINTS)
    for file in sources():
        used.update(name for _, name in ours(file))
        for node in ast.walk(parse(file)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in MODULES:
                used.add(node.value)
    used.update(name.rsplit(".", depth)[0] for name in list(used) for depth in range(name.count(".")))
    report(sorted(set(MODULES) - used), "modules that nothing in engine/ imports:")


# ---------------------------------------------------------------- kernels


def kernel_nodes(kind):
    """Return [(file, node)] of every node of `kind` in the kernels."""
    files = sources(ENGINE / "kernels")
    return [(file, node) for file in files for node in ast.walk(parse(file)) if isinstance(node, kind)]


def called(node):
    """Return the last name of what a call calls: print, float, np.float64 -> float64."""
    function = node.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def test_kernels_hold_no_floats():
    wrong = [
        f"{shown(file)}:{node.lineno}: the literal {node.value}"
        for file, node in kernel_nodes(ast.Constant)
        if isinstance(node.value, float | complex)
    ]
    wrong += [
        f"{shown(file)}:{node.lineno}: {called(node)}()"
        for file, node in kernel_nodes(ast.Call)
        if re.fullmatch(r"(float|complex)\d*", called(node))
    ]
    report(wrong, "money is counted, not measured; kernels compute in integers (use fixed.py):")


def test_kernels_never_divide_truly():
    wrong = [
        f"{shown(file)}:{node.lineno}: /"
        for file, node in kernel_nodes(ast.BinOp | ast.AugAssign)
        if isinstance(node.op, ast.Div)
    ]
    report(wrong, "/ makes a float; a division says floor or ceil, and for whom:")


def test_kernels_hold_no_strings():
    for_numba = set()  # docstrings, field names in subscripts, arguments of decorators: gone or frozen when compiled
    for file in sources(ENGINE / "kernels"):
        for node in ast.walk(parse(file)):
            keep = []
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                keep = [node]
            elif isinstance(node, ast.Subscript):
                keep = [node.slice]
            elif isinstance(node, ast.FunctionDef | ast.ClassDef):
                keep = node.decorator_list
            for_numba.update(id(child) for kept in keep for child in ast.walk(kept))
    wrong = [
        f"{shown(file)}:{node.lineno}: {ast.unparse(node)}"
        for file, node in kernel_nodes(ast.Constant | ast.JoinedStr)
        if file.name != "box.py"  # it builds the compiler's types, which have names
        and id(node) not in for_numba
        and (isinstance(node, ast.JoinedStr) or isinstance(node.value, str))
    ]
    report(wrong, "kernels speak in codes (codes.py has the sentences):")


def test_kernels_do_not_catch():
    wrong = [f"{shown(file)}:{node.lineno}: try" for file, node in kernel_nodes(ast.Try | ast.TryStar)]
    report(wrong, "kernels return codes and catch nothing:")


def test_kernels_do_not_print():
    wrong = [
        f"{shown(file)}:{node.lineno}: {called(node)}()"
        for file, node in kernel_nodes(ast.Call)
        if called(node) in {"print", "open", "input"}
    ]
    report(wrong, "kernels do no input and no output:")


# ---------------------------------------------------------------- tests, size and words


def test_every_reject_is_tested():
    texts = [file.read_text(encoding="utf-8") for file in sources(ROOT / "tests") if file != Path(__file__).resolve()]
    words = set(re.findall(r"\w+", "\n".join(texts)))
    codes = parse(ENGINE / "codes.py").body
    table = next(node.value for node in codes if isinstance(node, ast.AnnAssign) and node.target.id == "REJECTS")
    untested = [key.id for key in table.keys if not {key.id, key.id.lower()} & words]
    report(untested, "reject codes that no test under tests/ names:")


def test_functions_are_short():
    wrong = []
    for file in sources():
        limit = LONGER_FUNCTIONS.get(shown(file), FUNCTION_LINES_MAX)
        for node in functions(file):
            body = body_without_docstring(node)
            lines = node.end_lineno - body[0].lineno + 1 if body else 0
            if lines > limit:
                wrong.append(f"{shown(file)}:{node.lineno}: {node.name} has {lines} lines, at most {limit}")
    report(wrong, "a function fits on a screen (docstring not counted):")


def test_modules_are_short():
    counts = {file: len(file.read_text(encoding="utf-8").splitlines()) for file in sources()}
    wrong = [f"{shown(file)}: {count} lines" for file, count in counts.items() if count > MODULE_LINES_MAX]
    report(wrong, f"a module has at most {MODULE_LINES_MAX} lines; past that it is two things:")


def undocumented(node, name):
    """Yield (line, name) of `node` and the public definitions in it that have no docstring."""
    if ast.get_docstring(node) is None:
        yield getattr(node, "lineno", 1), name
    if isinstance(node, ast.Module | ast.ClassDef):
        for child in node.body:
            definition = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            if definition and not child.name.startswith("_"):
                yield from undocumented(child, child.name)


def test_everything_public_says_what_it_is():
    wrong = [
        f"{shown(file)}:{line}: {name}" for file in sources() for line, name in undocumented(parse(file), "the module")
    ]
    report(wrong, "no docstring:")


def test_nothing_is_left_for_later():
    wrong = [
        f"{shown(file)}:{number}: {line.strip()}"
        for file, text in tracked()
        for number, line in enumerate(text.splitlines(), 1)
        if UNFINISHED.search(line)
    ]
    report(wrong, "unfinished business belongs in an issue:")


def test_no_path_of_one_machine():
    wrong = [
        f"{shown(file)}:{number}: {line.strip()[:160]}"
        for file, text in tracked()
        for number, line in enumerate(text.splitlines(), 1)
        if MACHINE_PATH.search(line)
    ]
    report(wrong, "a path that exists on one machine only:")
