"""Tells which plugin wrote each line of a log, most of them without building an object.

The lines of a block are usual ones nearly always: then the block is validated at once, and the plugin's name
read at each line's beginning. In a block with another line, what is surely broken is put aside, and the usual
lines are validated once more; orjson decides about each of the others.
"""

from __future__ import annotations

import io
import re
from collections.abc import Container, Iterable
from itertools import compress
from typing import TypeGuard

import orjson

from drakcelery.artifacts.validation import BEGIN, Validator

_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
_BEGINNING = 32
"""Bytes of a line that hold its plugin's name and, in a log, differ in nothing else but the first digits of
the time."""
_USUAL = re.compile(re.escape(BEGIN) + rb' ?"([a-z][a-z0-9_]{0,31})"')
_END = b"}\n"
_PIECES = re.compile(rb"[^{]*\n|[^\n]+\n?")
"""Cuts a block into lines. Those among which there is no brace are one piece: none of them is an object."""
_SPACE = b" \t\r\n"
"""JSON's."""


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


def number_of_lines(data: bytes) -> int:
    """How many lines *data* has; the last one may lack its newline."""
    return data.count(b"\n") + (not data.endswith(b"\n"))


class Groups:
    """Lines by plugin, in their order.

    Attributes:
        lines: those of each plugin; under None are those of all others, and pieces of several broken lines.
        names: the plugins that have got lines so far, those of other groups included.
    """

    def __init__(self, plugins: Container[str], names: set[str], most: int) -> None:
        self._plugins, self._most = plugins, most
        self.names = names.copy()
        self.lines: dict[str | None, list[bytes]] = {}
        self._known: dict[bytes, list[bytes]] = {}
        """Where lines with the same beginning go."""

    def add_usual(self, lines: Iterable[bytes]) -> bool:
        """Add lines by their beginnings; False if one begins as none of DRAKVUF's, and was not added."""
        known = self._known
        for line in lines:
            try:
                known[line[:_BEGINNING]].append(line)
            except KeyError:  # nothing that begins like this was added yet
                match = _USUAL.match(line, 0, _BEGINNING)
                if match is None:
                    return False
                group = known[line[:_BEGINNING]] = self.of(match[1].decode())
                group.append(line)
        return True

    def of(self, plugin: str | None) -> list[bytes]:
        """The lines of *plugin* so far, to which others may be added."""
        if plugin is not None and self._counts(plugin):
            self.names.add(plugin)
            return self.lines.setdefault(plugin, [])
        return self.lines.setdefault(None, [])

    def _counts(self, plugin: str) -> bool:
        return plugin in self._plugins and (plugin in self.names or len(self.names) < self._most)


class LineReader:
    """As :func:`plugin_of`, but for many lines at once."""

    def __init__(self, limit: int, plugins: Container[str], most: int) -> None:
        """Lines of *limit* bytes and more, their newline not counted, are no plugin's, and are not parsed.

        Only *plugins* count, of them the *most* that write first.
        """
        self.broken = 0
        """Lines so far that are empty, or name no plugin; some take ten times as long as others."""
        self._limit, self._plugins, self._most = limit, plugins, most
        self._names: set[str] = set()
        self._validator = Validator()

    def groups(self, block: bytes) -> dict[str | None, list[bytes]]:
        """The lines of *block* by plugin, in their order.

        Under None are those that no plugin wrote that counts: some of these are in one piece.
        """
        groups = self._of_usual(block) or self._of_any(block)
        self._names = groups.names
        return groups.lines

    def _of_usual(self, block: bytes) -> Groups | None:
        """The lines of *block*; None if not all of them are usual."""
        if _USUAL.match(block) is None:
            return None
        lines = io.BytesIO(block).readlines()
        groups = Groups(self._plugins, self._names, self._most)
        is_sure = (
            groups.add_usual(lines)
            and lines[-1].endswith(_END)
            and self._are_short(block, lines)
            and self._validator.accepts(lines)
        )
        return groups if is_sure else None

    def _are_short(self, block: bytes, lines: list[bytes]) -> bool:
        return len(block) <= self._limit or max(map(len, lines)) <= self._limit

    def _of_any(self, block: bytes) -> Groups:
        groups = Groups(self._plugins, self._names, self._most)
        pieces = [block] if b"{" not in block or b"}" not in block else _PIECES.findall(block)
        are_usual = [self._is_usual(piece) for piece in pieces]
        are_valid = self._validator.accepts([*compress(pieces, are_usual)])
        for piece, is_usual in zip(pieces, are_usual, strict=True):
            if is_usual and are_valid:
                groups.add_usual([piece])
            else:
                groups.of(self._plugin_of(piece)).append(piece)
        return groups

    def _is_usual(self, piece: bytes) -> bool:
        is_whole = piece.endswith(_END) and len(piece) <= self._limit
        return is_whole and _USUAL.match(piece, 0, _BEGINNING) is not None

    def _plugin_of(self, piece: bytes) -> str | None:
        stripped = piece.strip(_SPACE)
        may_be_object = stripped.startswith(b"{") and stripped.endswith(b"}")
        is_short = len(piece.removesuffix(b"\n")) < self._limit
        plugin = plugin_of(piece) if may_be_object and is_short else None
        if plugin is None:
            self.broken += number_of_lines(piece)
        return plugin
