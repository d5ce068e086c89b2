"""Splits DRAKVUF's log by plugin: bytes in, the same bytes out, each in exactly one file.

Every line is parsed. Looking at a line's start and end alone is two or three times as fast, but cannot tell a
line from half a line with another one glued to it, and consumers of ``<plugin>.log`` parse every line they
get. What a parser does not accept goes to ``parse_errors.log`` (``benchmarks/artifacts.py`` has the figures).
"""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Container
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import orjson

from drakcelery.artifacts.untrusted import open_untrusted

PARSE_ERRORS = "parse_errors.log"
LINE_LIMIT = 1024**2
"""Bytes. A parsed line takes up to thirty times its size in memory; a longer one is not parsed."""
FILE_LIMIT = 128
"""Plugins that get a file. DRAKVUF has fewer; it bounds the open files."""

_PLUGIN = re.compile(r"[a-z][a-z0-9_]{0,31}")
_BUFFER = 1024**2
_WRITE_BUFFER = 64 * 1024


@dataclass(frozen=True, kw_only=True)
class LogSplit:
    """What came of a log."""

    lines: dict[str, int] = field(default_factory=dict)
    """Lines by plugin, for those that wrote something."""
    size: int = 0
    """Bytes read, which are the bytes written."""
    parse_errors: int = 0
    """Lines in ``parse_errors.log``."""


def split_log(log: Path, out: Path, plugins: Container[str]) -> LogSplit:
    """Write each line of *log* to ``<plugin>.log`` below *out*, or to ``parse_errors.log``.

    A line belongs to a plugin if it is one JSON object in UTF-8 of at most :data:`LINE_LIMIT` bytes whose
    ``Plugin`` is one of *plugins*. A missing log is an empty one. Memory is
    bounded whatever the lines are.

    Raises:
        UntrustedFileError: *log* is not a regular file.
    """
    try:
        raw = open_untrusted(log)
    except FileNotFoundError:
        return LogSplit()
    with io.BufferedReader(raw, _BUFFER) as source, _Outputs(out) as outputs:
        return _split(source, outputs, plugins)


def _split(source: BinaryIO, outputs: _Outputs, plugins: Container[str]) -> LogSplit:
    lines: Counter[str] = Counter()
    size = errors = 0
    while line := source.readline(LINE_LIMIT):
        size += len(line)
        plugin = None if len(line) == LINE_LIMIT and not line.endswith(b"\n") else plugin_of(line)
        if plugin is not None and plugin in plugins and outputs.write(plugin, line):
            lines[plugin] += 1
            continue
        errors += 1
        outputs.write_error(line)
        while len(line) == LINE_LIMIT and not line.endswith(b"\n"):  # the rest of an overlong line
            line = source.readline(LINE_LIMIT)
            size += len(line)
            outputs.write_error(line)
    return LogSplit(lines=dict(lines), size=size, parse_errors=errors)


def plugin_of(line: bytes) -> str | None:
    """The plugin that wrote *line*; None if it is no JSON object or its plugin's name is no name."""
    try:
        entry = orjson.loads(line)
    except orjson.JSONDecodeError:  # invalid UTF-8 and too deep nesting included
        return None
    plugin = entry.get("Plugin") if isinstance(entry, dict) else None
    return plugin if isinstance(plugin, str) and _PLUGIN.fullmatch(plugin) else None


class _Outputs:
    """The files of a split, each opened when it gets its first line."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._files: dict[str, BinaryIO] = {}
        self._errors: BinaryIO | None = None
        self._stack = ExitStack()

    def __enter__(self) -> _Outputs:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def write(self, plugin: str, line: bytes) -> bool:
        """Write a plugin's line. False, and nothing written, where there are too many plugins."""
        file = self._files.get(plugin)
        if file is None:
            if len(self._files) == FILE_LIMIT:
                return False
            file = self._files[plugin] = self._open(f"{plugin}.log")
        file.write(line)
        return True

    def write_error(self, piece: bytes) -> None:
        if self._errors is None:
            self._errors = self._open(PARSE_ERRORS)
        self._errors.write(piece)

    def _open(self, name: str) -> BinaryIO:
        return self._stack.enter_context((self._directory / name).open("xb", _WRITE_BUFFER))
