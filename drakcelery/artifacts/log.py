"""Splits DRAKVUF's log by plugin: bytes in, the same bytes out, each in exactly one file.

Every line is parsed, many at once (:mod:`drakcelery.artifacts.validation`). Looking at a line's start and
end alone cannot tell a line from half a line with another one glued to it, and consumers of ``<plugin>.log``
parse every line they get. What a parser does not accept goes to ``parse_errors.log``
(``benchmarks/log_split.py`` has the figures).
"""

from __future__ import annotations

import dataclasses
import io
import os
from collections import defaultdict
from collections.abc import Callable, Container, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from drakcelery.artifacts.lines import LineReader, number_of_lines
from drakcelery.artifacts.output import Output, Ready, nobody
from drakcelery.artifacts.untrusted import open_untrusted

PARSE_ERRORS = "parse_errors.log"
LINE_LIMIT = 1024**2
"""Bytes. A parsed line takes up to thirty times its size in memory; a longer one is not parsed."""
BROKEN_LIMIT = 1_000_000
"""Most lines that are empty or name no plugin; after more, the rest of the log is left out. Some cost 2 µs
each, and a log has room for so many that they could keep a core busy for half an hour."""
FILE_LIMIT = 128
"""Plugins that get a file. DRAKVUF has fewer; it bounds the open files."""

Watch = Callable[[Mapping[str, Sequence[bytes]]], None]
"""Called with the lines of each block of the log by plugin, in their order; errors are not among them."""

_BLOCK = 256 * 1024
"""How many bytes are split into lines at a time: as many as a core's cache holds."""
_BATCH = 8 * 1024**2
"""Bytes that another thread writes at once; few writes, since each waits for the interpreter's lock."""


@dataclass(frozen=True, kw_only=True)
class LogSplit:
    """The result of splitting a log."""

    lines: dict[str, int] = field(default_factory=dict)
    """Lines by plugin, for those that wrote something."""
    size: int = 0
    """Bytes read, which are the bytes written."""
    dropped: int = 0
    """Bytes that were left out, beyond :data:`BROKEN_LIMIT`."""
    parse_errors: int = 0
    """Lines in ``parse_errors.log``."""


def unwatched(_: Mapping[str, Sequence[bytes]]) -> None:
    """Do nothing with the lines."""


def split_log(
    log: Path, out: Path, plugins: Container[str], ready: Ready = nobody, watch: Watch = unwatched
) -> LogSplit:
    """Write each line of *log* to ``<plugin>.log`` below *out*, or to ``parse_errors.log``.

    A line belongs to a plugin if it is one JSON object in UTF-8 of at most :data:`LINE_LIMIT` bytes whose
    ``Plugin`` is one of *plugins*. A missing log is an empty one. Memory is bounded whatever the lines are,
    and so is the time: after :data:`BROKEN_LIMIT` broken lines the rest is left out.
    *ready* is called with the files at the end: before that, each may get another line. *watch* gets what
    goes into a plugin's file.

    Raises:
        UntrustedFileError: *log* is not a regular file.
    """
    try:
        raw = open_untrusted(log)
    except FileNotFoundError:
        return LogSplit()
    with io.BufferedReader(raw) as source, _Outputs(out, ready, watch) as outputs:
        dropped = _split(source, plugins, outputs)
        return dataclasses.replace(outputs.finish(), dropped=dropped)


def _split(source: BinaryIO, plugins: Container[str], outputs: _Outputs) -> int:
    """Give each line to *outputs*; returns how many bytes are left out."""
    reader = LineReader(LINE_LIMIT, plugins, FILE_LIMIT)
    while block := source.read(_BLOCK):
        if not block.endswith(b"\n"):
            block += source.readline(LINE_LIMIT)
        outputs.add(reader.groups(block))
        piece = block
        while not piece.endswith(b"\n") and (piece := source.readline(LINE_LIMIT)):
            outputs.add_rest(piece)  # of an overlong line
        if reader.broken > BROKEN_LIMIT:
            return max(os.fstat(source.fileno()).st_size - source.tell(), 0)
    return 0


class _Outputs:
    """The files of a split, each opened when it gets its first line; written and hashed by a thread."""

    def __init__(self, directory: Path, ready: Ready, watch: Watch) -> None:
        self._directory = directory
        self._ready = ready
        self._watch = watch
        self._counts: defaultdict[str | None, int] = defaultdict(int)
        self._size = 0
        self._pending: defaultdict[str | None, list[bytes]] = defaultdict(list)
        self._pending_size = 0
        self._files: dict[str | None, Output] = {}
        self._open_files = ExitStack()
        self._thread = ThreadPoolExecutor(1, "log")
        self._writing: Future[None] | None = None

    def __enter__(self) -> _Outputs:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown()
        self._open_files.close()

    def add(self, groups: Mapping[str | None, Sequence[bytes]]) -> None:
        """Add the lines of each plugin to its file, and all others, some in one piece, to the errors."""
        for plugin, lines in groups.items():
            self._counts[plugin] += sum(map(number_of_lines, lines)) if plugin is None else len(lines)
            self._append(plugin, b"".join(lines))
        self._watch({plugin: lines for plugin, lines in groups.items() if plugin is not None})

    def add_rest(self, piece: bytes) -> None:
        """Add what belongs to the last line, which is an error."""
        self._append(None, piece)

    def _append(self, plugin: str | None, data: bytes) -> None:
        self._pending[plugin].append(data)
        self._pending_size += len(data)
        if self._pending_size >= _BATCH:
            self._write_pending()

    def _write_pending(self) -> None:
        self._wait()
        self._writing = self._thread.submit(self._write, self._taken())

    def _taken(self) -> dict[str | None, list[bytes]]:
        """What is to be written now."""
        taken, self._pending = self._pending, defaultdict(list)
        self._size += self._pending_size
        self._pending_size = 0
        return taken

    def _wait(self) -> None:
        if self._writing is not None:
            self._writing.result()

    def _write(self, pending: dict[str | None, list[bytes]]) -> None:
        for plugin, pieces in pending.items():
            if plugin not in self._files:
                path = self._directory / (PARSE_ERRORS if plugin is None else f"{plugin}.log")
                self._files[plugin] = self._open_files.enter_context(Output(path, self._ready))
            self._files[plugin].write(b"".join(pieces))

    def finish(self) -> LogSplit:
        """Write what is still on its way, and complete the files."""
        self._wait()
        self._write(self._taken())  # here, where nothing else is to be done
        for file in self._files.values():
            file.finish()
        lines = {plugin: count for plugin, count in self._counts.items() if plugin is not None}
        return LogSplit(lines=lines, size=self._size, parse_errors=self._counts[None])
