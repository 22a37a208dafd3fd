"""The order of the rooms: imports point down, and no modules import each other in a circle."""

from __future__ import annotations

import ast
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import scotoma

SOURCE = Path(scotoma.__file__).parent
ROOMS = (
    ("cli", "papers"),
    ("demo", "testing"),
    ("claims",),
    ("auditing",),
    ("audit_notes",),
    ("probes",),
    ("reference",),
    ("report", "validity"),
    ("training",),
    ("execution", "results"),
    ("claim",),
    ("attribution", "metrics"),
    ("attacks",),
    ("certificates", "models", "data", "transforms"),
    ("threat", "utils", "_version"),
)
"""From the top down; a room may import from its own line and from the lines below."""
LEVEL = {room: level for level, line in enumerate(reversed(ROOMS)) for room in line}


def statements(node: ast.AST):
    """Yield the imports of a module, also those inside functions and those for types alone."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        yield from statements(child)


@cache
def modules() -> dict[str, Path]:
    """Every module of the package by its name."""
    found = {}
    for path in SOURCE.rglob("*.py"):
        parts = ("scotoma", *path.relative_to(SOURCE).with_suffix("").parts)
        found[".".join(parts).removesuffix(".__init__")] = path
    return found


@cache
def imports() -> dict[str, set[str]]:
    """The modules of the package that each module imports."""
    known, found = modules(), {}
    for name, path in known.items():
        targets = set()
        for node in statements(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                targets |= {alias.name for alias in node.names}
                continue
            assert not node.level, f"{name}: a relative import"
            home = node.module or ""
            parts = {f"{home}.{alias.name}" for alias in node.names}
            targets |= {part if part in known else home for part in parts}
        found[name] = {target for target in targets if target in known} - {name}
    return found


def room(module: str) -> str:
    return module.split(".")[1]


def test_every_room_has_its_place():
    rooms = {room(name) for name in modules() if name not in ("scotoma", "scotoma.__main__")}
    assert rooms == LEVEL.keys()


def test_imports_point_down():
    up = {
        (name, target)
        for name, targets in imports().items()
        if name not in ("scotoma", "scotoma.__main__")
        for target in targets - {"scotoma"}
        if LEVEL[room(target)] > LEVEL[room(name)]
    }
    assert not up, sorted(up)


def test_no_module_imports_itself_in_a_circle():
    graph = {name: targets for name, targets in imports().items() if name != "scotoma"}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' > '.join(error.args[1])}")


def test_imports_inside_functions_and_for_types_count():
    code = """
import a
if TYPE_CHECKING:
    import b
def f():
    import c
"""
    assert [ast.unparse(each) for each in statements(ast.parse(code))] == [
        "import a",
        "import b",
        "import c",
    ]
