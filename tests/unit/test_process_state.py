"""What a process knows is in an object that is handed on: no module and no class is where others leave it."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.modules import MODULES, Module

PLACES = {
    "embedded.ports": {"_reserved": "what the kernel has reserved for this process, and keeps until it ends"},
    "flower.command": {"options": "Flower's own, which its command reads where no file gives them"},
    "telemetry.logs": {
        "sys": "the interpreter has one hook for what nobody has caught",
        "threading": "likewise, for threads",
    },
}
"""What is a place for state all the same, in which module, and why."""
CONTAINERS = frozenset({"list", "dict", "set", "deque", "defaultdict", "Counter", "OrderedDict"})


def _imported(module: Module) -> Iterator[str]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ClassDef):
            yield node.name


def _targets(node: ast.AST) -> list[ast.expr]:
    if isinstance(node, ast.Assign):
        return [
            part
            for target in node.targets
            for part in ast.walk(target)
            if isinstance(part, ast.Attribute) and isinstance(part.ctx, ast.Store)
        ]
    if isinstance(node, ast.AugAssign | ast.AnnAssign):
        return [node.target]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "setattr":
        return [ast.Attribute(value=node.args[0], attr="?", ctx=ast.Store())]
    return []


def _root(node: ast.expr) -> str | None:
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def left_outside(module: Module) -> Iterator[str]:
    """What an assignment leaves in a class, or in a module or object that was imported."""
    names = set(_imported(module))
    for node in ast.walk(module.tree):
        for target in _targets(node):
            root = _root(target)
            if isinstance(target, ast.Attribute) and root in names:
                yield root


def globals_of(module: Module) -> Iterator[str]:
    """Names that functions assign to their module, and containers that begin empty in it, to be filled."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Global):
            yield from node.names
    for node in module.tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None and _is_empty(node.value):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (ast.unparse(target) for target in targets)


def _is_empty(value: ast.expr) -> bool:
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id in CONTAINERS:
        return not value.args
    return isinstance(value, ast.List | ast.Dict) and not ast.unparse(value).strip("[]{}")


@pytest.mark.parametrize("module", MODULES, ids=lambda one: one.name or "drakcelery")
def test_no_module_is_a_place_for_state(module: Module) -> None:
    """No `global`, no list or dict that fills up, nothing that is assigned to a class from outside."""
    assert {*globals_of(module), *left_outside(module)} == set(PLACES.get(module.name, ()))


def test_nobody_imports_the_tasks() -> None:
    """Only Celery needs them, by the -A of `celery`: who sends, or asks, has `wiring.make_client`."""
    assert [one.name for one in MODULES if "drakcelery.celery" in set(one.imports())] == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("from a import Gate\nGate.site = 1", {"Gate"}),
        ("from a import b\nb.Gate.site = b.Ground.site = 1", {"b"}),
        ("class Gate:\n    def f(self):\n        Gate.site = self.x = 1", {"Gate"}),
        ("import a\nsetattr(a, 'x', 1)\na.y += 1", {"a"}),
        ("def f():\n    global x\n    x = 1", {"x"}),
        ("x = {}\ny: list[int] = []\nz = set()\nW = {1: 2}", {"x", "y", "z"}),
        ("import a\nb = a.b\nself.x = a.y", set()),
    ],
)
def test_the_reading_of_code_works(text: str, found: set[str]) -> None:
    """The check above sees what it is there for."""
    module = Module(name="probe", text=text)
    assert {*globals_of(module), *left_outside(module)} == found
