"""Modules have at most 300 lines, functions 40; what is longer is on a list that only gets shorter."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sizes import LIST, ROOT, complaints, noted, reasons, sizes, written


def test_nothing_grows_and_nothing_joins() -> None:
    """tests/too_long.txt has each module and function that is too long, how long it may be, and why."""
    text = LIST.read_text(encoding="utf-8")
    said = complaints(sizes(ROOT / "drakcelery"), noted(text))
    assert said == [], "see tests/too_long.txt and CONTRIBUTING.md"
    assert noted(text).keys() == reasons(text).keys(), "what cannot be split says why"


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (300, ["p.m is no longer too long: take it off the list"]),
        (301, ["p.m is down to 301 lines: note that"]),
        (320, []),
        (330, []),
        (331, ["p.m has grown from at most 330 to 331 lines: split it"]),
    ],
)
def test_a_module_that_changes(tmp_path: Path, lines: int, said: list[str]) -> None:
    """One on the list may get shorter, and the list has to say so; it may not grow."""
    package = tmp_path / "p"
    package.mkdir()
    (package / "m.py").write_text("pass\n" * lines)
    assert complaints(sizes(package), {"p.m": 330}) == said


def test_what_is_new(tmp_path: Path) -> None:
    """A long module, a long method and a long function within a function are found by their names."""
    package = tmp_path / "p"
    package.mkdir()
    (package / "__init__.py").write_text("pass\n" * 301)
    body = "        pass\n" * 40
    (package / "m.py").write_text(
        f"class A:\n    def long(self):\n{body}\n    def short(self):\n        pass\n"
        f"async def outer():\n    def inner():\n{body}"
    )
    found = sizes(package)
    assert found == {"p": 301, "p.m:A.long": 41, "p.m:outer": 42, "p.m:outer.inner": 41}
    assert complaints(found, {}) == [f"{name} has {lines} lines: split it" for name, lines in found.items()]
    assert noted(written(found)) == {"p": 310, "p.m:A.long": 50, "p.m:outer": 50, "p.m:outer.inner": 50}


def test_decorators_count(tmp_path: Path) -> None:
    """What a function is wrapped in is part of it; what click is told of a command is a table."""
    package = tmp_path / "p"
    package.mkdir()
    body = "    pass\n" * 39
    options = "@click.option(\n    1,\n    2,\n)\n"
    (package / "m.py").write_text(f"@wrap(\n    1,\n)\ndef wrapped():\n{body}{options}def command():\n{body}")
    assert sizes(package) == {"p.m:wrapped": 43}


def test_what_stays_says_why() -> None:
    """The reason stands behind the name, and is kept where the list is written again."""
    text = written({"p": 301, "p.m": 302}, {"p.m": "it is one file: somebody starts it"})
    assert noted(text) == {"p": 310, "p.m": 310}
    assert reasons(text) == {"p.m": "it is one file: somebody starts it"}
