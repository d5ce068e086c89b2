"""The Lua scripts say what they need, use all of it, and are called with it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import redis

from drakcelery.ledger.keys import FIXED
from drakcelery.ledger.scripts import Name, Scripts, Source, source
from tests.simulation.valkey import in_virtual_time

PACKAGE = Path(str(resources.files("drakcelery")))
LUA = PACKAGE / "ledger" / "lua"
NAMES = sorted(path.stem for path in LUA.glob("*.lua"))
FILES = sorted(LUA.rglob("*.lua"))


def words(names: tuple[Name, ...]) -> set[str]:
    """Without their marks."""
    return {name.word for name in names}


def calls() -> Iterator[tuple[str, set[str], set[str]]]:
    """(script, names of keys, names of arguments) of each call in the package."""
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if "_scripts(" not in text:
            continue
        for function in ast.walk(ast.parse(text)):
            if not isinstance(function, ast.FunctionDef):
                continue
            for node in ast.walk(function):
                if isinstance(node, ast.Call) and ast.unparse(node.func) == "self._scripts":
                    name = ast.literal_eval(node.args[0])
                    keys = {key for given in node.args[1:] for key in keys_of(given, function)}
                    yield name, keys, {word.arg or "**" for word in node.keywords}


def keys_of(given: ast.expr, function: ast.FunctionDef) -> set[str]:
    """The names in a mapping of keys, also where it has a name itself."""
    if isinstance(given, ast.IfExp):
        return keys_of(given.body, function) | keys_of(given.orelse, function)
    if isinstance(given, ast.Name):
        text = f"{given.id}"
        values = [value for node in ast.walk(function) for value in assigned(node, text)]
        return set().union(*(keys_of(value, function) for value in values))
    assert isinstance(given, ast.Dict), ast.unparse(given)
    pairs = zip(given.keys, given.values, strict=True)
    return set().union(
        *(keys_of(value, function) if key is None else {ast.literal_eval(key)} for key, value in pairs)
    )


def assigned(node: ast.AST, name: str) -> Iterator[ast.expr]:
    """What *node* gives this name to."""
    if isinstance(node, ast.Assign):
        for target in node.targets:
            if isinstance(target, ast.Name) and target.id == name:
                yield node.value
            if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                pairs = zip(target.elts, node.value.elts, strict=True)
                yield from (value for one, value in pairs if isinstance(one, ast.Name) and one.id == name)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_uses_what_it_declares(path: Path) -> None:
    """All of it, and nothing else; and it knows neither a position nor a key by what Redis calls it."""
    text = path.read_text()
    declared = set(re.findall(r"^-- (KEY|ARG) ([a-z_]+)", text, re.MULTILINE))
    code = "\n".join(line.partition("--")[0] for line in text.splitlines())
    assert set(re.findall(r"\b(KEY|ARG)\.([a-z_]+)", code)) == declared
    assert not re.search(r"\b(KEYS|ARGV)\[|drak:|karton[.:]", code)


@pytest.mark.parametrize("name", NAMES)
def test_a_script_is_called_with_what_it_declares(name: str) -> None:
    """Wherever the package calls it; what may be left out, or is fixed, is given or not."""
    script = source(name)
    found = [(keys, args) for called, keys, args in calls() if called == name]
    assert found, f"nobody calls {name}.lua"
    free = {one.word for one in script.keys if one.mark == "?"} | FIXED.keys()
    for keys, args in found:
        assert args == words(script.args)
        assert words(script.keys) - free <= keys <= words(script.keys)


@pytest.mark.parametrize("name", NAMES)
def test_the_simulation_knows_each_time_to_live(name: str) -> None:
    """It refuses others, and then none of its schedules runs."""
    assert in_virtual_time(source(name).text)


def test_every_part_is_somebodys() -> None:
    """What stands before scripts is needed by one."""
    wanted = {
        part for path in FILES for part in re.findall(r"^-- WITH ([a-z_]+)", path.read_text(), re.MULTILINE)
    }
    assert {path.stem for path in (LUA / "prelude").glob("*.lua")} == wanted | {"common"}


@pytest.mark.parametrize(
    ("keys", "args"),
    [
        ({}, {"attempt": 1}),
        ({"record": "r"}, {}),
        ({"record": "r", "other": "o"}, {"attempt": 1}),
        ({"record": "r"}, {"attempt": 1, "other": 2}),
    ],
)
def test_a_wrong_name_is_an_error_before_anything_is_sent(keys: dict[str, Any], args: dict[str, Any]) -> None:
    """There is no server at all."""
    with redis.Redis(port=1) as client, pytest.raises(TypeError, match="missing"):
        Scripts(client, "sent")("sent", keys, **args)


def test_names_are_put_in_the_order_of_the_script() -> None:
    """However they are given; of a name with a star all stand behind, one that may be left out is."""
    script = Source(
        text="",
        keys=(Name(word="live"), Name(word="record"), Name(word="host", mark="?")),
        args=(Name(word="uid"), Name(word="told", mark="*")),
    )
    placed = script.placed({"record": "r"}, {"told": ["a", "b"], "uid": "u"})
    assert placed == ([FIXED["live"], "r"], ["u", "a", "b"])
    assert script.placed({"record": "r", "host": "h"}, {"told": [], "uid": "u"})[0][-1] == "h"
