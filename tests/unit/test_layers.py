"""The architecture: layers that import downwards only, and one door for each thing outside."""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests import reference

PACKAGE = "drakcelery"
PAGE = reference.ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- layers -->", "<!-- /layers -->"

LAYERS = (
    "errors",
    "failpoints",
    "safe_files",
    "model",
    "settings",
    "telemetry",
    "artifacts",
    "storage",
    "engines",
    "karton",
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

ENVIRONMENT = frozenset({"environ", "environb", "getenv", "getenvb"})


@dataclass(frozen=True, kw_only=True)
class Module:
    """A module of the package."""

    name: str
    """Dotted, below the package; ``""`` is the package itself."""
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        """Parsed when it is first asked for: not while tests are collected."""
        return ast.parse(self.text, self.name)

    @property
    def is_hollow(self) -> bool:
        """Whether it is a package of modules of several layers, and nothing in itself."""
        return all(isinstance(node, ast.Expr) for node in self.tree.body)

    def imports(self, *, modules: Collection[str] = ()) -> Iterator[str]:
        """Every dotted name that is imported; ``from a import b`` gives both ``a`` and ``a.b``.

        Where ``a.b`` is one of *modules*, nothing of ``a`` itself is asked for.
        """
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{self.name}: write imports in full, not relative ones"
                assert node.module is not None
                names = [f"{node.module}.{alias.name}" for alias in node.names]
                if not all(name in modules for name in names):
                    yield node.module
                yield from names

    def environment_uses(self, *, at_import: bool = False) -> Iterator[int]:
        """The lines that touch the environment; *at_import*: outside every function."""
        for node in _walk(self.tree, _is_function) if at_import else ast.walk(self.tree):
            if (isinstance(node, ast.Attribute) and node.attr in ENVIRONMENT and _is_os(node.value)) or (
                isinstance(node, ast.ImportFrom)
                and node.module == "os"
                and any(alias.name in ENVIRONMENT for alias in node.names)
            ):
                yield node.lineno


def _is_os(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "os"


def _is_function(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)


def _walk(node: ast.AST, leave_out: Callable[[ast.AST], bool]) -> Iterator[ast.AST]:
    """Like ``ast.walk``, without the inside of the nodes that *leave_out* picks."""
    for child in ast.iter_child_nodes(node):
        if not leave_out(child):
            yield child
            yield from _walk(child, leave_out)


def _modules(root: Path) -> list[Module]:
    found = []
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found.append(Module(name=name, text=path.read_text(encoding="utf-8")))
    return found


MODULES = _modules(reference.ROOT / PACKAGE)


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


def _ours(module: Module) -> set[str]:
    """The modules of the package that *module* imports, hollow ones aside."""
    names = {other.name for other in MODULES if not other.is_hollow}
    modules = {f"{PACKAGE}.{name}" for name in names}
    imported = set(module.imports(modules=modules)) & modules
    return {name.partition(".")[2] for name in imported} - {module.name}


@pytest.mark.parametrize("module", MODULES, ids=lambda one: one.name or PACKAGE)
def test_module_belongs_to_a_layer(module: Module) -> None:
    """Whoever adds a folder, or a module at the root, says which layer it is."""
    assert layer_of(module.name) is not None, (
        f"drakcelery.{module.name} belongs to no layer; add it to LAYERS in tests/unit/test_layers.py"
    )


@pytest.mark.parametrize("module", MODULES, ids=lambda one: one.name or PACKAGE)
def test_module_imports_downwards(module: Module) -> None:
    """No module knows of a layer above its own, not even for a type."""
    own = layer_of(module.name)
    for other in sorted(_ours(module)):
        theirs = layer_of(other)
        assert own is None or theirs is None or theirs <= own, (
            f"drakcelery.{module.name} imports drakcelery.{other}, which is above it"
        )


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


@pytest.mark.parametrize("module", MODULES, ids=lambda one: one.name or PACKAGE)
def test_nothing_reads_the_environment_at_import(module: Module) -> None:
    """Importing a module depends on nothing but its code."""
    assert list(module.environment_uses(at_import=True)) == [], f"drakcelery.{module.name}"


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
