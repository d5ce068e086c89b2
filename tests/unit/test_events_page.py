"""docs/events.md has each field that our code writes into a line, or reads, and an example of each plugin."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from drakcelery.artifacts import LOGGED_PLUGINS
from drakcelery.reading import Analysis
from drakcelery.testing import RECORDED
from tests.reference import DOCS, PACKAGE

GUEST = PACKAGE / "engines" / "speakeasy_guest"
COMMON = "All plugins"
OTHERS = "Other plugins"
ASKING = frozenset({"text", "flags", "process", "number", "get"})
"""Methods by which the report asks an event for a field."""
FIELD = re.compile(r"[A-Z][A-Za-z0-9]{2,}")


def sections() -> dict[str, str]:
    """The text of each section, by its title."""
    _, *parts = (DOCS / "events.md").read_text(encoding="utf-8").split("\n## ")
    return {title: text for title, _, text in (part.partition("\n") for part in parts)}


def table(text: str) -> dict[str, str]:
    """Who writes each field of a section's table."""
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \| (both|DRAKVUF|emulator) \| ", text, re.MULTILINE)
    return {name: by for names, by in rows for name in re.findall(r"`(\w+)`", names)}


TABLES = {title: table(text) for title, text in sections().items()}
PLUGINS = sorted(set(TABLES) - {COMMON, OTHERS})


def written() -> Iterator[tuple[str, str]]:
    """Plugin and field of each keyword with which the emulator writes a line."""
    for path in sorted(GUEST.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            first = node.args[0] if node.args else None
            if (
                node.func.attr == "write"
                and isinstance(first, ast.Constant)
                and first.value in LOGGED_PLUGINS
            ):
                yield from ((str(first.value), word.arg) for word in node.keywords if word.arg)


def asked() -> set[str]:
    """The fields that the report asks a line for."""
    found = set()
    for path in sorted((PACKAGE / "behaviour").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args):
                continue
            name = node.args[0]
            if (
                node.func.attr in ASKING
                and isinstance(name, ast.Constant)
                and FIELD.fullmatch(str(name.value))
            ):
                found.add(str(name.value))
    return found


def added() -> set[str]:
    """The fields that the emulator puts into a line under some condition."""
    return {
        str(node.slice.value)
        for path in sorted((GUEST / "record").glob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Subscript)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id in ("fields", "extra")
        and isinstance(node.slice, ast.Constant)
    }


@pytest.mark.parametrize("plugin", PLUGINS)
def test_the_example(plugin: str) -> None:
    """It is a line of the plugin, and has only fields that the page explains."""
    assert plugin in LOGGED_PLUGINS
    [example] = re.findall(r"```json\n(.*)\n```", sections()[plugin])
    event: dict[str, Any] = json.loads(example)
    assert event["Plugin"] == plugin
    assert set(event) - set(TABLES[COMMON]) - set(TABLES[plugin]) == set()
    assert set(event) & set(TABLES[plugin])


def test_no_plugin_is_forgotten() -> None:
    """Each name under which there may be a log has a section, or a line among the others."""
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", sections()[OTHERS], re.MULTILINE)
    named = {name for names in rows for name in re.findall(r"`(\w+)`", names)}
    assert named | set(PLUGINS) == LOGGED_PLUGINS
    assert named & set(PLUGINS) == set()


def test_what_the_emulator_writes() -> None:
    """Each field that its code names stands at its plugin, as one that it writes."""
    found = set(written())
    assert {plugin for plugin, _ in found} >= {"apimon", "procmon", "filetracer", "socketmon", "memdump"}
    wrong = [
        (plugin, field) for plugin, field in found if TABLES[plugin].get(field) not in ("both", "emulator")
    ]
    assert wrong == []
    everywhere = {field for fields in TABLES.values() for field, by in fields.items() if by != "DRAKVUF"}
    assert added() - everywhere == set()
    assert len(added()) > 5


def test_what_the_emulator_wrote() -> None:
    """So does each field of a recorded analysis."""
    analysis = Analysis.from_directory(RECORDED)
    for plugin in analysis.logs:
        for event in analysis.events(plugin):
            for field in event:
                by = TABLES[plugin].get(field) or TABLES[COMMON].get(field)
                assert by in ("both", "emulator"), (plugin, field)


def test_what_the_report_reads() -> None:
    """Each field that our code asks a line for is on the page."""
    everywhere = {field for fields in TABLES.values() for field in fields}
    assert {"NewPid", "FileName", "DnsName", "DumpFilename"} <= asked()
    assert asked() - everywhere == set()
    keys = Path(PACKAGE / "artifacts" / "keys.py").read_text(encoding="utf-8")
    assert set(re.findall(r'entry\.get\("(\w+)"\)', keys)) == set(TABLES["tlsmon"])


def test_an_emulator_field_is_written() -> None:
    """No field is said to be the emulator's that its code does not name."""
    source = "".join(path.read_text(encoding="utf-8") for path in sorted(GUEST.rglob("*.py")))
    named = set(re.findall(r"\w+", source))
    claimed = {field for fields in TABLES.values() for field, by in fields.items() if by != "DRAKVUF"}
    assert claimed - named == set()
