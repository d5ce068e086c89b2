"""Every line that our own code can log, found in the code: action, level, fields, and where it is said."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests import reference
from tests.modules import parsed, walk

PACKAGE = reference.ROOT / "drakcelery"
LEVELS = ("debug", "info", "warning", "error", "critical")
REST = "…"
METHODS = {**{level: (level,) for level in LEVELS}, "exception": ("error",)}


@dataclass(frozen=True, kw_only=True)
class Said:
    """One call of a logger."""

    actions: tuple[str, ...]
    """Empty if it is no text that can be read in the code."""
    levels: tuple[str, ...]
    fields: tuple[str, ...]
    """Those that are given with it; :data:`REST` where there may be others."""
    where: str


@cache
def said(root: Path = PACKAGE) -> Sequence[Said]:
    """Each call of a structlog logger below *root*."""
    found: list[Said] = []
    for path in sorted(root.rglob("*.py")):
        where = str(path.relative_to(root.parent))
        found += said_in(parsed(path), where)
    return found


def said_in(tree: ast.Module, where: str) -> Iterator[Said]:
    """The same for one module; ``say = log.info if … else log.warning`` counts as well."""
    assigned = list(_assignments(tree))
    dicts = {name: value for name, value in assigned if isinstance(value, ast.Dict)}
    loggers = {name for name, value in assigned if makes_logger(value)}
    aliases = {name: levels for name, value in assigned if (levels := _levels_in(value, loggers))}
    for node in walk(tree):
        if isinstance(node, ast.Call) and (found := _levels_of_call(node, loggers, aliases)):
            levels, first = found
            yield Said(
                actions=_texts(first),
                levels=levels,
                fields=tuple(_fields_of(node, dicts)),
                where=f"{where}:{node.lineno}",
            )


def _assignments(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    for node in walk(tree):
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            yield node.targets[0].id, node.value


def makes_logger(node: ast.AST) -> bool:
    """Whether *node* is a call that makes a logger of structlog's."""
    return isinstance(node, ast.Call) and ast.unparse(node.func) in ("structlog.get_logger", "get_logger")


def evasions(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, code) of what would log past :func:`said_in`: loggers of another making, or another module's."""
    for node in walk(tree):
        match node:
            case ast.ImportFrom(module="logging" | "structlog" | "structlog.stdlib"):
                yield node.lineno, ast.unparse(node)
            case ast.ImportFrom(names=names) if {"log", "logger"} & {one.name for one in names}:
                yield node.lineno, ast.unparse(node)
            case ast.Import(names=names) if any(
                one.asname and one.name.partition(".")[0] in ("logging", "structlog") for one in names
            ):
                yield node.lineno, ast.unparse(node)
            case ast.Attribute(value=ast.Name(id="structlog"), attr="stdlib" | "getLogger" | "wrap_logger"):
                yield node.lineno, ast.unparse(node)
            case ast.Attribute(value=ast.Attribute(attr="log" | "logger"), attr=method) if method in METHODS:
                yield node.lineno, ast.unparse(node)
            case _:
                pass


def context_fields(tree: ast.Module) -> Iterator[str]:
    """The fields that ``about`` and ``analysis_log`` give every line inside; :data:`REST` for unknown ones.

    ``**record.log_fields`` and ``**self._context`` are the dicts of the package that have such a name.
    """
    for node in walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("about", "analysis_log"):
            for keyword in node.keywords:
                yield from (keyword.arg,) if keyword.arg is not None else _keys_of(keyword.value)


def _keys_of(value: ast.expr) -> Iterator[str]:
    if isinstance(value, ast.BinOp):
        yield from (*_keys_of(value.left), *_keys_of(value.right))
    elif isinstance(value, ast.Dict):
        yield from _constants(value)
    else:
        name = getattr(value, "attr", getattr(value, "id", ""))
        yield from _dicts().get(name, (REST,))


@cache
def _dicts() -> Mapping[str, tuple[str, ...]]:
    """The keys of the dicts that the package assigns to a name, or makes in a function of that name."""
    found: dict[str, tuple[str, ...]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in walk(parsed(path)):
            match node:
                case ast.FunctionDef(name=name):
                    dicts = [one for one in ast.walk(node) if isinstance(one, ast.Dict)]
                case ast.Assign(
                    targets=[ast.Name(id=name) | ast.Attribute(attr=name)], value=ast.Dict() as one
                ):
                    dicts = [one]
                case _:
                    continue
            keys = tuple(key for one in dicts for key in _constants(one))
            if keys:
                found[name] = (*found.get(name, ()), *keys)
    return found


def _constants(value: ast.Dict) -> Iterator[str]:
    yield from (str(key.value) for key in value.keys if isinstance(key, ast.Constant))


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


def _fields_of(call: ast.Call, dicts: Mapping[str, ast.Dict]) -> Iterator[str]:
    """Those of the call, and of each ``bind`` before it. ``**about`` is one of the module's *dicts*."""
    node: ast.AST = call
    while isinstance(node, ast.Call):
        for keyword in node.keywords:
            if keyword.arg is not None:
                yield keyword.arg
            else:
                given = dicts.get(keyword.value.id) if isinstance(keyword.value, ast.Name) else None
                yield from (str(ast.literal_eval(key)) for key in given.keys if key) if given else (REST,)
        node = node.func.value if isinstance(node.func, ast.Attribute) else node.func


def _names(node: ast.expr | None) -> list[str]:
    return [one.attr for one in ast.walk(node) if isinstance(one, ast.Attribute)] if node else []


def _texts(node: ast.expr | None) -> tuple[str, ...]:
    if isinstance(node, ast.IfExp):
        return (*_texts(node.body), *_texts(node.orelse))
    return (node.value,) if isinstance(node, ast.Constant) and isinstance(node.value, str) else ()


PAGE = reference.ROOT / "docs" / "logs.md"
OF_EVERY_LINE = frozenset({"timestamp", "level", "action", "host", "uid", "attempt", "stage", "slot", "task"})
"""Fields that the page explains for all lines; the tables of actions do not repeat them."""
_ROW = re.compile(r"^\| `([a-z_]+)` \| ([a-z, ]+) \| (.*) \| (.+?) \|$", re.MULTILINE)


def fields_of_actions() -> dict[str, str]:
    """The fields of each action, as the page has them."""
    found: dict[str, set[str]] = {}
    for one in said():
        for action in one.actions:
            found.setdefault(action, set()).update(one.fields)
    return {action: _as_cell(fields - OF_EVERY_LINE) for action, fields in found.items()}


def _as_cell(fields: Collection[str]) -> str:
    named = [f"`{field}`" for field in sorted(fields) if field != REST]
    return ", ".join([*named, *([REST] if REST in fields else [])])


def filled(page: str) -> str:
    """*page* with the fields of each action in its third column."""
    fields = fields_of_actions()
    return _ROW.sub(lambda row: f"| `{row[1]}` | {row[2]} | {fields.get(row[1], row[3])} | {row[4]} |", page)


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
