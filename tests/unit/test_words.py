"""The code says the words of the glossary, and none of those that were there before."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tests.reference import DOCS, PACKAGE

OLD = frozenset(
    (
        *(
            "bell",
            "ground",
            "pulse",
            "pulses",
            "heart",
            "hearts",
            "lifesigns",
            "closure",
            "closures",
            "rooms",
        ),
        *("stranded", "outlook", "outlooks", "lessons", "crowd", "scene", "census", "headstart", "handover"),
        *("lookahead", "intake", "site"),
    )
)
"""Private words that were given up for those of the field."""
VERBS = {
    "look": (),
    "take": (),
    "tell": ("artifacts/",),  # a file's
    "place": ("model/analysis.py",),  # a noun: an analysis has one
    "renew": ("broker/", "ledger/"),  # what is under a lease
    "cancel": ("cli/", "ledger/", "stages/cancellation.py", "worker/remote_control.py"),  # an analysis
}
"""Verbs that meant several things, with the folders in which a function may still be called so."""


def words_of(name: str) -> set[str]:
    """The words of an identifier, in small letters."""
    return set(re.findall(r"[a-z0-9]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()))


def named(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """The names that a module gives: to functions, classes, parameters, variables and attributes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr, node.lineno


def names_that_stay() -> set[str]:
    """Those of the page's table, without the metrics' prefix."""
    part = (DOCS / "architecture.md").read_text(encoding="utf-8").partition("\n## Names that stay\n")[2]
    rows = re.findall(r"^\| `([^`]+)` \|", part.partition("\n## ")[0], re.MULTILINE)
    return {row.removeprefix("drakcelery_") for row in rows}


def trees() -> Iterator[tuple[str, ast.Module]]:
    """Each module of the package."""
    for path in sorted(PACKAGE.rglob("*.py")):
        yield str(path.relative_to(PACKAGE)), ast.parse(path.read_text(encoding="utf-8"))


def test_no_name_has_a_word_that_was_given_up() -> None:
    """No function, class, parameter or variable does, but for those that the page says must stay."""
    stay = names_that_stay()
    assert "stranded" in stay
    found = [
        f"{where}:{line}: {name}"
        for where, tree in trees()
        for name, line in named(tree)
        if words_of(name) & OLD and name not in stay
    ]
    assert found == []


def test_a_verb_means_one_thing() -> None:
    """Functions called look, take, tell, place, renew or cancel are where that word has its one meaning."""
    found = [
        f"{where}:{node.lineno}: {node.name}"
        for where, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
        and node.name.strip("_") in VERBS
        and not where.startswith(VERBS[node.name.strip("_")])
    ]
    assert found == []
