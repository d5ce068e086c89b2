"""The code says the words of the glossary, and none of those that were there before."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator

from tests.modules import parsed, tree_of, walk
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
OLD_IN_PROSE = OLD | {"rung", "ring", "rings"}
"""What docstrings and comments do without: those, and the verb that went with one of them."""
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
    for node in walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr, node.lineno


def prose(text: str) -> Iterator[tuple[str, int]]:
    """The lines of a module's docstrings and comments, without what is quoted as code."""
    for node in walk(tree_of(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            plain = re.sub(r"(`+).*?\1", "", str(node.value.value))
            for number, line in enumerate(plain.splitlines(), node.lineno):
                yield line, number
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield re.sub(r"`[^`]*`", "", token.string), token.start[0]


def remarks(text: str) -> Iterator[tuple[str, int]]:
    """The comments of a Lua script."""
    for number, line in enumerate(text.splitlines(), 1):
        yield line.partition("--")[2], number


def given_up(line: str) -> set[str]:
    """The words of *line* that no prose has any more."""
    return set(re.findall(r"[a-z]+", line.lower())) & OLD_IN_PROSE


def names_that_stay() -> set[str]:
    """Those of the page's table, without the metrics' prefix."""
    part = (DOCS / "architecture.md").read_text(encoding="utf-8").partition("\n## Names that stay\n")[2]
    rows = re.findall(r"^\| `([^`]+)` \|", part.partition("\n## ")[0], re.MULTILINE)
    return {row.removeprefix("drakcelery_") for row in rows}


def trees() -> Iterator[tuple[str, ast.Module]]:
    """Each module of the package."""
    for path in sorted(PACKAGE.rglob("*.py")):
        yield str(path.relative_to(PACKAGE)), parsed(path)


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


def test_no_docstring_or_comment_has_a_word_that_was_given_up() -> None:
    """Neither those of a module, nor the comments of a script that runs in Redis."""
    readers = {".py": prose, ".lua": remarks}
    texts = {
        path: path.read_text(encoding="utf-8")
        for path in sorted(PACKAGE.rglob("*"))
        if path.suffix in readers
    }
    found = [
        f"{path.relative_to(PACKAGE)}:{number}: {line.strip()}"
        for path, text in texts.items()
        if given_up(text)  # else it is in none of its parts, which take a while to tell apart
        for line, number in readers[path.suffix](text)
        if given_up(line)
    ]
    assert found == []


def test_a_word_that_was_given_up_is_noticed_in_prose() -> None:
    """In the docstring of a module, a function or a constant, and in a comment; not where it is code."""
    text = (
        '"""A bell."""\nX = "bell"\n"""Rung, or\n\nno ``bell``, `bell`."""\n'
        'def f():\n    """Its heart."""  # a site\n'
    )
    assert [number for line, number in prose(text) if given_up(line)] == [1, 3, 7, 7]


def test_a_verb_means_one_thing() -> None:
    """Functions called look, take, tell, place, renew or cancel are where that word has its one meaning."""
    found = [
        f"{where}:{node.lineno}: {node.name}"
        for where, tree in trees()
        for node in walk(tree)
        if isinstance(node, ast.FunctionDef)
        and node.name.strip("_") in VERBS
        and not where.startswith(VERBS[node.name.strip("_")])
    ]
    assert found == []
