"""Every small fault of a kernel module: one node of its syntax tree replaced by a near neighbour.

What is replaced: `<` by `<=` and by its opposite, `+` by `-`, a floor by a ceiling, `and` by `or` or by either side,
`min` by `max` or by either argument, constants by their neighbours, signs and magnitudes by what they are taken of, two
neighbouring arguments by each other; and statements, early returns and conditions are left out.
"""

import ast
import copy
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import CodeType
from typing import NamedTuple

KERNELS = Path(__file__).resolve().parents[2] / "engine" / "kernels"

# Every module that implements one of the three.
PARTS = {
    "margin": ("margin", "portfolio", "account", "trigger", "inverse", "tables"),
    "waterfall": ("liquidate", "stages", "fund", "rounds", "wake", "house", "unwind"),
    "ADL": ("adl", "score", "queue", "allot", "watch"),
}
MODULES = tuple(name for names in PARTS.values() for name in names)

COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
}
# Of whole numbers `x > 0` with 0 made -1 is `x >= 0` again, and so on: the step of the constant that says nothing new.
SAME_STEP = {ast.Lt: 1, ast.GtE: 1, ast.Gt: -1, ast.LtE: -1}
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}
SIGNS = {"sign", "side"}
NEIGHBOURS = {
    "min": "max",
    "max": "min",
    "mul_div_floor": "mul_div_ceil",
    "mul_div_ceil": "mul_div_floor",
}
COMMUTE = {"mul_div_floor", "mul_div_ceil", "mul_mod"}  # in their first two arguments
# Ask the processor to fetch something: no part of what a kernel does.
WITHOUT_EFFECT = {
    "prefetch",
    "fetch_ahead",
    "fetch_hung",
    "fetch_listed",
    "fetch_next",
    "fetch_position",
    "fetch_record",
}
NODES = (ast.stmt, ast.expr)  # the others are shared between places, or hold nothing to change
TEXT_LEAST = 16  # characters of the expression that names a mutation


class Mutant(NamedTuple):
    """One fault: where it is and what it says there now."""

    module: str
    function: str
    text: str  # `before -> after`, the shortest telling expression; a number behind if the function has it twice
    first: int  # lines of what is changed
    last: int
    node: int  # its place in the walk of the function
    variant: int  # and which of its replacements

    @property
    def name(self) -> str:
        """Return how the file of survivors names the function."""
        return f"{self.module}.{self.function}"


@cache
def read_functions(module: str) -> dict[str, ast.FunctionDef]:
    """Return the functions of a kernel module by name, without decorators and docstrings."""
    tree = ast.parse((KERNELS / f"{module}.py").read_text(encoding="utf-8"))
    found = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    for node in found.values():
        node.decorator_list = []
        if ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass(lineno=node.lineno, col_offset=0)]
    return found


def replace_node(node: ast.AST, parent: ast.AST) -> list[ast.AST]:
    """Return what a node is replaced by, one after the other; the parts of it are used as they are."""
    if isinstance(node, ast.stmt):
        return _replace_statement(node)
    if isinstance(node, ast.Compare):
        (op,), (right,) = node.ops, node.comparators
        return [ast.Compare(node.left, [other()], [right]) for other in COMPARISONS.get(type(op), ())]
    if isinstance(node, ast.BoolOp):
        other: type[ast.boolop] = ast.Or if isinstance(node.op, ast.And) else ast.And
        values = node.values
        fewer = [values[:at] + values[at + 1 :] for at in range(len(values))]
        left = [few[0] if len(few) == 1 else ast.BoolOp(node.op, few) for few in fewer]
        return [ast.BoolOp(other(), values), *left, *_negate_condition(node, parent)]
    if isinstance(node, ast.BinOp):
        kind = OPERATORS.get(type(node.op))
        if isinstance(node.op, ast.Mult) and any(getattr(part, "id", "") in SIGNS for part in (node.left, node.right)):
            kind = ast.Add  # dividing by 1 or -1 is the same thing
        found: list[ast.AST] = [ast.BinOp(node.left, kind(), node.right)] if kind else []
        if isinstance(node.op, ast.FloorDiv):
            up = ast.BinOp(ast.UnaryOp(ast.USub(), node.left), node.op, node.right)
            found.append(ast.UnaryOp(ast.USub(), up))
        return found + _negate_condition(node, parent)
    if isinstance(node, ast.UnaryOp):
        return [node.operand]
    if isinstance(node, ast.Constant):
        return _replace_constant(node, parent)
    if isinstance(node, ast.Call):
        return _replace_call(node) + _negate_condition(node, parent)
    if isinstance(node, ast.Name | ast.Subscript):
        return _negate_condition(node, parent)
    if isinstance(node, ast.IfExp):
        return [node.body, node.orelse]
    return []


def _replace_statement(node: ast.stmt) -> list[ast.AST]:
    if isinstance(node, ast.AugAssign):
        kind = OPERATORS.get(type(node.op))
        other = [ast.AugAssign(node.target, kind(), node.value)] if kind else []
        return [ast.Pass(), *other]
    if isinstance(node, ast.Expr):
        call = node.value
        silent = isinstance(call, ast.Call) and getattr(call.func, "id", "") in WITHOUT_EFFECT
        return [] if silent else [ast.Pass()]
    if isinstance(node, ast.Assign | ast.Return | ast.Break | ast.Continue):
        return [ast.Pass()]
    return []


def _negate_condition(node: ast.expr, parent: ast.AST) -> list[ast.AST]:
    """Return the opposite of a whole condition; that of a comparison is among its replacements anyway."""
    is_condition = isinstance(parent, ast.If | ast.While | ast.IfExp) and parent.test is node
    return [ast.UnaryOp(ast.Not(), node)] if is_condition else []


def _replace_constant(node: ast.Constant, parent: ast.AST) -> list[ast.AST]:
    if isinstance(node.value, bool):
        return [ast.Constant(not node.value)]
    if not isinstance(node.value, int):
        return []
    is_bound = isinstance(parent, ast.Compare) and parent.comparators[0] is node
    same = SAME_STEP.get(type(parent.ops[0]), 0) if is_bound and isinstance(parent, ast.Compare) else 0
    return [ast.Constant(node.value + step) for step in (1, -1) if step != same]


def _replace_call(node: ast.Call) -> list[ast.AST]:
    name = getattr(node.func, "id", "")
    if name == "abs":
        return [node.args[0]]
    found: list[ast.AST] = []
    if name in NEIGHBOURS:
        found.append(ast.Call(ast.Name(NEIGHBOURS[name], ast.Load()), node.args, []))
    if name in ("min", "max"):
        return found + list(node.args)
    if name in WITHOUT_EFFECT or name == "range":
        return found
    for at in range(name in COMMUTE, len(node.args) - 1):
        one, two = node.args[at : at + 2]
        names = [arg.id for arg in (one, two) if isinstance(arg, ast.Name) and arg.id != "st"]
        if len(set(names)) == 2:
            found.append(ast.Call(node.func, [*node.args[:at], two, one, *node.args[at + 2 :]], []))
    return found


def link_parents(function: ast.FunctionDef) -> tuple[list[ast.AST], dict[int, ast.AST]]:
    """Return the nodes of a function in the order of the walk, and each one's parent by place."""
    nodes = [node for node in ast.walk(function) if isinstance(node, NODES)]
    places = {id(node): place for place, node in enumerate(nodes)}
    children = ((child, node) for node in nodes for child in ast.iter_child_nodes(node))
    return nodes, {places[id(child)]: node for child, node in children if isinstance(child, NODES)}


def is_open(function: ast.FunctionDef, node: ast.AST, parent: ast.AST) -> bool:
    """Return whether a node is worth changing: without it the function still is one that can run."""
    if isinstance(node, ast.Return):
        return node is not function.body[-1]
    if isinstance(node, ast.Assign):
        names = [name.id for name in ast.walk(node.targets[0]) if isinstance(name, ast.Name)]
        if isinstance(node.targets[0], ast.Subscript):
            return True  # a field of the state
        bound = [
            each.id for each in ast.walk(function) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)
        ]
        bound += [each.arg for each in function.args.args]
        return any(bound.count(name) > 1 for name in names)
    return not isinstance(parent, ast.Subscript) or not isinstance(node, ast.Constant)


def put_in_place(parent: ast.AST, old: ast.AST, new: ast.AST) -> None:
    """Put a node where another one stands in its parent."""
    for field, value in ast.iter_fields(parent):
        if value is old:
            setattr(parent, field, new)
        elif isinstance(value, list):
            value[:] = [new if item is old else item for item in value]


def find_telling(nodes: list[ast.AST], parents: dict[int, ast.AST], place: int) -> ast.AST:
    """Return the smallest expression or statement around a node that says enough to be read."""
    places = {id(node): at for at, node in enumerate(nodes)}
    while not isinstance(nodes[place], ast.stmt):
        above = parents[place]
        is_short = isinstance(nodes[place], ast.Constant) or len(ast.unparse(nodes[place])) < TEXT_LEAST
        if not is_short or isinstance(above, ast.If | ast.While | ast.For) or id(above) not in places:
            break
        place = places[id(above)]
    return nodes[place]


def change_function(module: str, function: str, node: int, variant: int) -> ast.FunctionDef:
    """Return a copy of a function with one node replaced."""
    changed = copy.deepcopy(read_functions(module)[function])
    nodes, parents = link_parents(changed)
    after = ast.copy_location(replace_node(nodes[node], parents[node])[variant], nodes[node])
    put_in_place(parents[node], nodes[node], after)
    return ast.fix_missing_locations(changed)


def compile_mutant(mutant: Mutant) -> CodeType:
    """Return the code of a mutant's function, with the line numbers it had."""
    tree = change_function(mutant.module, mutant.function, mutant.node, mutant.variant)
    code = compile(ast.Module([tree], []), str(KERNELS / f"{mutant.module}.py"), "exec")
    return next(const for const in code.co_consts if isinstance(const, CodeType))


def list_mutants(module: str, function: str = "") -> list[Mutant]:
    """Return the mutants of a module, in the order of its text; of one function if it is named."""
    found = []
    for name, tree in read_functions(module).items():
        if function in ("", name) and name not in WITHOUT_EFFECT:
            found += _list_function(module, name, tree)
    return sorted(found, key=lambda mutant: (mutant.first, mutant.node, mutant.variant))


def _list_function(module: str, name: str, tree: ast.FunctionDef) -> Iterator[Mutant]:
    nodes, parents = link_parents(tree)
    seen: dict[str, int] = {}
    for place, node in enumerate(nodes[1:], 1):
        parent = parents[place]
        if not is_open(tree, node, parent):
            continue
        shown = find_telling(nodes, parents, place)
        before = ast.unparse(shown)
        for variant, after in enumerate(replace_node(node, parent)):
            put_in_place(parent, node, after)
            text = f"{before} -> {ast.unparse(after if shown is node else shown)}"
            put_in_place(parent, after, node)
            seen[text] = seen.get(text, 0) + 1
            if seen[text] > 1:
                text += f" ({seen[text]})"
            yield Mutant(module, name, text, shown.lineno, shown.end_lineno, place, variant)  # type: ignore[attr-defined]
