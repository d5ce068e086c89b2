"""The architecture: layers that import downwards only, and one door for each thing outside."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter

import pytest

from tests import reference
from tests.modules import MODULES, PACKAGE, Module, walk

PAGE = reference.ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- layers -->", "<!-- /layers -->"

LAYERS = (
    "garbage",
    "lean",
    "errors",
    "failpoints",
    "safe_files",
    "model",
    "settings",
    "telemetry",
    "behaviour",
    "capabilities",
    "artifacts",
    "storage",
    "engines",
    "karton",
    "reading",
    "ledger",
    "host",
    "broker",
    "notifications",
    "forecast",
    "stages",
    "recovery",
    "operators",
    "wiring",
    "ingress",
    "embedded",
    "testing",
    "flower",
    "worker",
    "celery",
    "deploy",
    "doctor",
    "cli",
    "__main__",
)
"""From the bottom up: a folder, or a module at the root, imports from itself and from those before it."""

DOORS: Mapping[str, Mapping[str, str]] = {
    "minio": {
        "storage": "the only way to S3",
        "storage.client": "storage's client, right where the clock is wrong",
        "embedded.services": "asks once, without storage's retries, whether the server that it started is up",
    },
    "opentelemetry": {
        "telemetry.otlp": "makes and sends spans; an extra brings it, so nothing else may need it",
    },
    "configparser": {
        "settings": "reads the file",
        "settings.messages": "says what is wrong with the file",
        "embedded.configuration": "writes the file of the embedded stack, and reads none",
        "deploy.importing": "reads the files of Karton and DRAKVUF Sandbox that init takes over",
    },
    "os.environ": {
        "settings": "reads the variables",
        "embedded": "hands the environment on to the servers and processes that it starts",
        "engines.drakvuf.resident": "puts a call's environment in place of its own, in another interpreter",
    },
}
"""What only these modules may touch, and why they do. A name stands for a module or a subpackage."""

ANOTHER_PROGRAM = ("engines.speakeasy_guest",)
"""What runs in a process of its own, where the attributes that it sets are its library's."""


def _within(name: str, places: Iterable[str]) -> bool:
    """Whether *name* is one of *places* or lies below one."""
    return any(name == place or name.startswith(f"{place}.") for place in places)


def layer_of(name: str) -> int | None:
    """The number of the layer that a module belongs to. The package itself is below all of them."""
    if not name:
        return -1
    top = name.partition(".")[0]
    return LAYERS.index(top) if top in LAYERS else None


def table() -> str:
    """The layers from the top down, as docs/architecture.md shows them: by the first lines of their
    docstrings."""
    first = {module.name: (ast.get_docstring(module.tree) or "").partition("\n")[0] for module in MODULES}
    rows = [f"| `{name}` | {first[name].rstrip('.').replace('``', '`')} |\n" for name in reversed(LAYERS)]
    return "| Folder or module | What is in it |\n| --- | --- |\n" + "".join(rows)


def test_each_layer_is_there() -> None:
    """None is left in the list after it has gone."""
    assert set(LAYERS) <= {module.name for module in MODULES}


def filled(page: str) -> str:
    """*page* with the table that it should have."""
    head, rest = page.split(f"{BEGIN}\n", 1)
    return f"{head}{BEGIN}\n\n{table()}\n{END}{rest.split(END, 1)[1]}"


def test_the_page_has_the_layers() -> None:
    """The table of docs/architecture.md is made of LAYERS; `python -m tests.unit.test_layers` writes it."""
    text = PAGE.read_text(encoding="utf-8")
    assert text == filled(text)


@cache
def _with_content() -> frozenset[str]:
    """The modules of the package, hollow ones aside."""
    return frozenset(f"{PACKAGE}.{one.name}" for one in MODULES if not one.is_hollow)


def _ours(module: Module) -> set[str]:
    """The modules of the package that *module* imports, hollow ones aside."""
    modules = _with_content()
    imported = set(module.imports(modules=modules)) & modules
    return {name.partition(".")[2] for name in imported} - {module.name}


def test_each_module_belongs_to_a_layer() -> None:
    """Whoever adds a folder, or a module at the root, says which layer it is."""
    lost = [module.name for module in MODULES if layer_of(module.name) is None]
    assert lost == [], "these belong to no layer; add them to LAYERS in tests/unit/test_layers.py"


def _upwards(module: Module) -> Iterator[str]:
    """Its imports of modules above it."""
    own = layer_of(module.name)
    for other in sorted(_ours(module)):
        theirs = layer_of(other)
        if own is not None and theirs is not None and theirs > own:
            yield f"drakcelery.{module.name} imports drakcelery.{other}, which is above it"


def test_modules_import_downwards() -> None:
    """No module knows of a layer above its own, not even for a type."""
    assert [said for module in MODULES for said in _upwards(module)] == []


def _noted_on_any(module: Module) -> set[str]:
    """The attributes that a module sets on arguments of any type, such as Celery's consumer."""
    found = set()
    for function in walk(module.tree):
        if isinstance(function, ast.FunctionDef):
            arguments = (*function.args.args, *function.args.kwonlyargs)
            untyped = {
                one.arg for one in arguments if one.annotation and ast.unparse(one.annotation) == "Any"
            }
            found |= {
                node.attr
                for node in ast.walk(function)
                if isinstance(node, ast.Attribute)
                and isinstance(node.ctx, ast.Store)
                and ast.unparse(node.value) in untyped
            }
    return found


def hidden_arrows(modules: Iterable[Module]) -> set[str]:
    """What a module reads that only a layer above it has set, on an object whose type mypy does not know."""
    modules = [one for one in modules if not _within(one.name, ANOTHER_PROGRAM)]
    setters = [(name, layer_of(one.name) or 0, one.name) for one in modules for name in _noted_on_any(one)]
    return {
        f"{one.name} reads {ast.unparse(node)}, which {setter} sets"
        for name, layer, setter in setters
        for one in modules
        if (layer_of(one.name) or 0) < layer
        for node in walk(one.tree)
        if isinstance(node, ast.Attribute) and node.attr == name and isinstance(node.ctx, ast.Load)
    }


def test_no_arrow_is_hidden_by_any() -> None:
    """What a lower layer needs of a higher one has its type, and its default, below."""
    assert hidden_arrows(MODULES) == set()


def test_hidden_arrows_are_seen() -> None:
    """Whatever Celery's object is called there, and although its class names the attribute."""
    above = Module(name="worker.probe", text="def f(parent: Any) -> None:\n    parent.gate = 1")
    below = Module(name="broker.probe", text="class C:\n    gate: Any\ndef g(it: C):\n    it.gate.open()")
    assert hidden_arrows([above, below]) == {"broker.probe reads it.gate, which worker.probe sets"}
    assert hidden_arrows([above, Module(name="celery", text=below.text)]) == set()


def test_imports_form_no_cycle() -> None:
    """The modules can be put in an order in which each needs only earlier ones, even for a type."""
    graph = {module.name: _ours(module) - {""} for module in MODULES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"these import each other: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize("door", sorted(DOORS))
def test_only_the_door_opens(door: str) -> None:
    """S3, configuration files and the environment are each touched in one place."""
    touching = {module.name for module in MODULES if _touches(module, door)}
    wrong = sorted(name for name in touching if not _within(name, DOORS[door]))
    assert not wrong, (
        f"drakcelery.{', drakcelery.'.join(wrong)} touches {door}, which is left to "
        f"{', '.join(f'drakcelery.{name} ({why})' for name, why in DOORS[door].items())}"
    )


def _touches(module: Module, door: str) -> bool:
    if door == "os.environ":
        return any(module.environment_uses())
    return any(_within(name, (door,)) for name in module.imports())


def test_nothing_reads_the_environment_at_import() -> None:
    """Importing a module depends on nothing but its code."""
    assert [one.name for one in MODULES if any(one.environment_uses(at_import=True))] == []


def test_no_door_stays_open_for_nobody() -> None:
    """A door stays open for those who use it, and for no others."""
    for door, places in DOORS.items():
        for place in places:
            users = [one for one in MODULES if _within(one.name, (place,)) and _touches(one, door)]
            assert users, f"DOORS lets drakcelery.{place} touch {door}, which it does not do"


@pytest.mark.parametrize(
    ("text", "imports", "lines", "lines_at_import"),
    [
        ("import os\nx = os.environ['A']", ["os"], [2], [2]),
        ("import os\ndef f():\n    return os.getenv('A')", ["os"], [3], []),
        ("from os import environ", ["os", "os.environ"], [1], [1]),
        ("def f():\n    from drakcelery import cli", ["drakcelery", "drakcelery.cli"], [], []),
        ("process.environ()", [], [], []),
    ],
)
def test_the_reading_of_code_works(
    text: str, imports: list[str], lines: list[int], lines_at_import: list[int]
) -> None:
    """The checks above see imports wherever they stand, and the environment under all its names."""
    module = Module(name="probe", text=text)
    assert list(module.imports()) == imports
    assert list(module.environment_uses()) == lines
    assert list(module.environment_uses(at_import=True)) == lines_at_import


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


def test_test_modules_stand_alone() -> None:
    """What several tests need is in a module that is no test: tests/builders.py, for one."""
    tests = reference.ROOT / "tests"
    others = {
        f"{path.relative_to(tests)}: {name}"
        for path in sorted(tests.rglob("*.py"))
        if re.search(r"\btest_\w+\s+import\b", text := path.read_text(encoding="utf-8"))  # else no tree
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ImportFrom)
        if (name := (node.module or "").rpartition(".")[2]).startswith("test_")
    }
    assert others == set()
