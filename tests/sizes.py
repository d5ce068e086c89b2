"""How long modules and functions are; ``python -m tests.sizes`` writes the list of the too long ones."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from tests.modules import tree_of

ROOT = Path(__file__).resolve().parent.parent
LIST = Path(__file__).with_name("too_long.txt")
MOST_IN_MODULE, MOST_IN_FUNCTION = 300, 40
STEP = 10
"""The list is in such steps, so that not each line that is added to what is on it has to be noted."""


def sizes(package: Path) -> dict[str, int]:
    """The lines of what is too long in *package*: modules by their dotted names, functions below them."""
    return {
        name: lines for path in sorted(package.rglob("*.py")) for name, lines in _of_module(path, package)
    }


def _of_module(path: Path, package: Path) -> Iterator[tuple[str, int]]:
    text = path.read_text(encoding="utf-8")
    parts = path.relative_to(package.parent).with_suffix("").parts
    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    if (lines := len(text.splitlines())) > MOST_IN_MODULE:
        yield name, lines
    yield from _of_functions(tree_of(text), name)


def _of_functions(node: ast.AST, name: str) -> Iterator[tuple[str, int]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr):
            continue  # no function with a name stands in one
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield from _of_functions(child, name)
            continue
        below = f"{name}:{child.name}" if ":" not in name else f"{name}.{child.name}"
        if not isinstance(child, ast.ClassDef):
            lines = (child.end_lineno or child.lineno) - child.lineno + 1 + _decorators(child)
            if lines > MOST_IN_FUNCTION:
                yield below, lines
        yield from _of_functions(child, below)


def _decorators(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """The lines of its decorators. click's do not count: they are a table of what there is to type."""
    return sum(
        (one.end_lineno or one.lineno) - one.lineno + 1
        for one in function.decorator_list
        if not ast.unparse(one).startswith("click.")
    )


def noted(text: str) -> dict[str, int]:
    """What the list allows."""
    return {name: lines for name, (lines, _) in _entries(text).items()}


def reasons(text: str) -> dict[str, str]:
    """Why what is on the list stays there, as far as it says."""
    return {name: reason for name, (_, reason) in _entries(text).items() if reason}


def _entries(text: str) -> dict[str, tuple[int, str]]:
    entries = {}
    for line in text.splitlines():
        entry, _, reason = line.partition("#")
        if entry:
            lines, name = entry.split()
            entries[name] = (int(lines), reason.strip())
    return entries


def complaints(found: Mapping[str, int], allowed: Mapping[str, int]) -> list[str]:
    """What has grown or joined, and what is shorter than the list says."""
    said = []
    for name in sorted(found.keys() | allowed.keys()):
        lines, most = found.get(name), allowed.get(name)
        if lines is None:
            said.append(f"{name} is no longer too long: take it off the list")
        elif most is None:
            said.append(f"{name} has {lines} lines: split it")
        elif lines > most:
            said.append(f"{name} has grown from at most {most} to {lines} lines: split it")
        elif most - lines >= 2 * STEP:
            said.append(f"{name} is down to {lines} lines: note that")
    return said


def written(found: Mapping[str, int], why: Mapping[str, str] = MappingProxyType({})) -> str:
    """The list; *why*: the reasons of what stays."""
    head = (
        f"# Modules of more than {MOST_IN_MODULE} lines and functions of more than {MOST_IN_FUNCTION}: "
        "none may grow, and none may join.\n"
        "# lines at most, name, # why it stays; written by python -m tests.sizes, which keeps the reasons\n"
    )
    return head + "".join(
        f"{-(-lines // STEP) * STEP} {name}{f'  # {why[name]}' if name in why else ''}\n"
        for name, lines in sorted(found.items())
    )


if __name__ == "__main__":
    kept = reasons(LIST.read_text(encoding="utf-8"))
    LIST.write_text(written(sizes(ROOT / "drakcelery"), kept), encoding="utf-8")
