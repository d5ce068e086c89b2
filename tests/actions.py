"""Every line that our own code can log, found in the code: action, level, and where it is said."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests import reference

PACKAGE = reference.ROOT / "drakcelery"
LEVELS = ("debug", "info", "warning", "error", "critical")
METHODS = {**{level: (level,) for level in LEVELS}, "exception": ("error",)}


@dataclass(frozen=True, kw_only=True)
class Said:
    """One call of a logger."""

    actions: tuple[str, ...]
    """Empty where it is no text that can be read in the code."""
    levels: tuple[str, ...]
    where: str


def said(root: Path = PACKAGE) -> Iterator[Said]:
    """Each call of a structlog logger below *root*."""
    for path in sorted(root.rglob("*.py")):
        where = str(path.relative_to(root.parent))
        yield from said_in(ast.parse(path.read_text(encoding="utf-8"), where), where)


def said_in(tree: ast.Module, where: str) -> Iterator[Said]:
    """The same for one module; ``say = log.info if … else log.warning`` counts as well."""
    assigned = list(_assignments(tree))
    loggers = {name for name, value in assigned if makes_logger(value)}
    aliases = {name: levels for name, value in assigned if (levels := _levels_in(value, loggers))}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (found := _levels_of_call(node, loggers, aliases)):
            levels, first = found
            yield Said(actions=_texts(first), levels=levels, where=f"{where}:{node.lineno}")


def _assignments(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            yield node.targets[0].id, node.value


def makes_logger(node: ast.AST) -> bool:
    """Whether *node* is a call that makes a logger of structlog's."""
    return isinstance(node, ast.Call) and ast.unparse(node.func) in ("structlog.get_logger", "get_logger")


def _levels_in(value: ast.expr, loggers: set[str]) -> tuple[str, ...]:
    """The levels of the methods that *value* may be, where it is one of a logger's methods."""
    options = [value.body, value.orelse] if isinstance(value, ast.IfExp) else [value]
    methods = [
        one.attr for one in options if isinstance(one, ast.Attribute) and _is_logger(one.value, loggers)
    ]
    return tuple(level for method in methods for level in METHODS.get(method, ()))


def _is_logger(node: ast.expr, loggers: set[str]) -> bool:
    """``log``, and ``log.bind(…)``."""
    while isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        node = node.func.value
    return isinstance(node, ast.Name) and node.id in loggers


def _levels_of_call(
    node: ast.Call, loggers: set[str], aliases: dict[str, tuple[str, ...]]
) -> tuple[tuple[str, ...], ast.expr | None] | None:
    first, *rest = (*node.args, None)
    if isinstance(node.func, ast.Name) and node.func.id in aliases:
        return aliases[node.func.id], first
    if not isinstance(node.func, ast.Attribute) or not _is_logger(node.func.value, loggers):
        return None
    if node.func.attr == "log":
        return tuple(word.lower() for word in _names(first) if word.lower() in LEVELS), rest[0]
    return (METHODS[node.func.attr], first) if node.func.attr in METHODS else None


def _names(node: ast.expr | None) -> list[str]:
    return [one.attr for one in ast.walk(node) if isinstance(one, ast.Attribute)] if node else []


def _texts(node: ast.expr | None) -> tuple[str, ...]:
    if isinstance(node, ast.IfExp):
        return (*_texts(node.body), *_texts(node.orelse))
    return (node.value,) if isinstance(node, ast.Constant) and isinstance(node.value, str) else ()
