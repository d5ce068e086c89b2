"""The modules of the package, as texts and as trees."""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from tests import reference

PACKAGE = "drakcelery"

ENVIRONMENT = frozenset({"environ", "environb", "getenv", "getenvb"})


@cache
def walk(tree: ast.Module) -> list[ast.AST]:
    """As ``ast.walk``, of a whole module; noted, as many tests ask the same ones."""
    return list(ast.walk(tree))


@cache
def parsed(path: Path) -> ast.Module:
    """The module in a file, likewise."""
    return tree_of(path.read_text(encoding="utf-8"))


@cache
def tree_of(text: str) -> ast.Module:
    """The tree of a module's text, the same one for whoever asks: nobody changes it."""
    return ast.parse(text)


@dataclass(frozen=True, kw_only=True)
class Module:
    """A module of the package."""

    name: str
    """Dotted, below the package; ``""`` is the package itself."""
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        """Parsed when it is first asked for: not while tests are collected."""
        return tree_of(self.text)

    @property
    def is_hollow(self) -> bool:
        """Whether it is a package of modules of several layers, and nothing in itself."""
        return all(isinstance(node, ast.Expr) for node in self.tree.body)

    def imports(self, *, modules: Collection[str] = ()) -> Iterator[str]:
        """Every dotted name that is imported; ``from a import b`` gives both ``a`` and ``a.b``.

        Where ``a.b`` is one of *modules*, nothing of ``a`` itself is asked for.
        """
        for node in walk(self.tree):
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
        for node in _walk(self.tree, _is_function) if at_import else walk(self.tree):
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
