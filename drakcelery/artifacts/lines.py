"""Tells which plugin wrote each line of a log, most of them without building an object.

Two parsers are used: simdjson validates a line and looks one key up without building the object; orjson
decides in case of doubt. If simdjson accepts a line, so does orjson, and both name the same plugin, with
three exceptions, which are looked for in many lines at once: a key that is there twice (simdjson takes the
first, all others the last), one with escapes (``\\u0050lugin``), and a byte order mark. These lines,
and those that simdjson refuses (it knows no integers beyond 64 bits), are left to orjson.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from operator import itemgetter
from typing import Any, TypeGuard

import orjson
import simdjson

_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
_PLUGIN: Callable[[Any], object] = itemgetter("Plugin")
_KEY = b'"Plugin"'
_DISGUISED = re.compile(rb"\\u00[567]")
"""A letter of ``Plugin`` as an escape."""
_EMPTY = b"\n"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_NO_ANSWER = (ValueError, KeyError, TypeError, RuntimeError)
"""simdjson's, for what is malformed, has no plugin, is no object, is too long."""


def plugin_of(line: bytes) -> str | None:
    """The plugin that wrote *line*; None if it is no JSON object or its plugin's name is no name."""
    try:
        entry = orjson.loads(line)
    except orjson.JSONDecodeError:  # invalid UTF-8 and too deep nesting included
        return None
    plugin = entry.get("Plugin") if isinstance(entry, dict) else None
    return plugin if is_name(plugin) else None


def is_name(plugin: object) -> TypeGuard[str]:
    """Whether *plugin* is one that a file may be called after."""
    return isinstance(plugin, str) and _NAME.fullmatch(plugin) is not None


class LineReader:
    """As :func:`plugin_of`, but for many lines at once."""

    def __init__(self, limit: int) -> None:
        """Lines of *limit* bytes and more, their newline not counted, are no plugin's, and are not parsed."""
        self.broken = 0
        """Lines so far that are empty, or name no plugin; the latter take twenty times as long as others."""
        self._limit = limit
        self._parser = simdjson.Parser(max_capacity=limit - 1)

    def plugins(self, block: bytes, lines: Sequence[bytes]) -> list[object]:
        """What is the plugin of each of *lines*, which together are *block*: a name, or anything else."""
        if not (block.startswith(_EMPTY) or b"\n\n" in block):
            return self._plugins(block, lines)
        written = [line for line in lines if line != _EMPTY]
        self.broken += len(lines) - len(written)
        found = iter(self._plugins(block, written))
        return [None if line == _EMPTY else next(found) for line in lines]

    def _plugins(self, block: bytes, lines: Sequence[bytes]) -> list[object]:
        found: list[object] = []
        parsed = map(_PLUGIN, map(self._parser.parse, lines))
        refused = 0
        while len(found) < len(lines):
            with suppress(*_NO_ANSWER):
                found.extend(parsed)  # what came before an exception stays
            if found and isinstance(found[-1], simdjson.Array | simdjson.Object):
                found[-1] = None  # while it is there, the parser parses nothing else
            if len(found) < len(lines):
                found.append(self._plugin_of(lines[len(found)]))
                refused += 1
        if self._may_mislead(block, len(lines) - refused):
            return [
                self._plugin_of(line) if self._may_mislead(line, 1) else plugin
                for plugin, line in zip(found, lines, strict=True)
            ]
        return found

    def _plugin_of(self, line: bytes) -> str | None:
        plugin = plugin_of(line) if len(line.removesuffix(b"\n")) < self._limit else None
        self.broken += plugin is None
        return plugin

    @staticmethod
    def _may_mislead(text: bytes, accepted: int) -> bool:
        """Whether simdjson, which accepted *accepted* lines of *text*, may have named another plugin.

        Each of these lines has the key. If none is escaped, a key is there twice only if there are more keys
        than lines.
        """
        return (
            text.count(_KEY) > accepted
            or _DISGUISED.search(text) is not None
            or (not text.isascii() and _BYTE_ORDER_MARK in text)
        )
