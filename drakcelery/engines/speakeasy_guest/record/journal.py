"""The log: one JSON object a line in DRAKVUF's form, written through as things happen."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from drakcelery.engines.speakeasy_guest.record.calls import REPEATS_IN_FULL, Repeats

MAX_TEXT = 4096
"""Characters of one string from the guest."""

MAX_ITEMS = 64
MAX_LINE = 64 * 1024
"""Bytes; a longer line is clipped further."""

RESERVE = 16
"""The part (1/n) of the size limit that is kept for what matters most when the log is full: the dumps."""


def clean(value: Any, limit: int = MAX_TEXT, depth: int = 3) -> Any:
    """*value* as it may stand in the log: text valid and at most *limit* long, lists and nesting bounded."""
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**64 else clean(f"{value:#x}", limit)
    if isinstance(value, str):
        if len(value) <= limit and value.isascii():
            return value
        text = value if len(value) <= limit else f"{value[:limit]}…"
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, bytes | bytearray):
        return clean(bytes(value[:limit]).decode("latin-1"), limit)
    if isinstance(value, list | tuple):
        return [clean(item, limit, depth - 1) for item in value[:MAX_ITEMS]] if depth else "…"
    return None if value is None else clean(str(value), limit)


def line_of(record: dict[str, Any]) -> bytes:
    """*record* as one line of ASCII, at most :data:`MAX_LINE` bytes, its keys in order."""
    for limit in (MAX_TEXT, 256, 32):
        line = json.dumps({key: clean(value, limit) for key, value in record.items()}).encode("ascii") + b"\n"
        if len(line) <= MAX_LINE:
            return line
    plain = {key: clean(value, 32) for key, value in record.items() if not isinstance(value, list | tuple)}
    return json.dumps({**plain, "Clipped": True}).encode("ascii") + b"\n"


class Journal:
    """Writes lines of the wanted plugins to a file; stops taking them at the size limit.

    Attributes:
        trouble: why lines are lost, as a sentence; None while none are.
        failure: the error of the file system, where that is the reason; it lies with us, not with the sample.
    """

    def __init__(
        self,
        path: Path,
        *,
        plugins: Collection[str],
        limit: int,
        context: Callable[[], dict[str, Any]],
        on_trouble: Callable[[], None],
    ) -> None:
        self._descriptor = os.open(
            path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW, 0o644
        )
        self._plugins = frozenset(plugins)
        self._limit = limit
        self.context = context
        self._on_trouble = on_trouble
        self._written = 0
        self._events = 0
        self._repeats = Repeats()
        self.trouble: str | None = None
        self.failure: OSError | None = None

    def wants(self, plugin: str) -> bool:
        """Whether the job asked for this plugin."""
        return plugin in self._plugins

    def write(self, plugin: str, method: str, **fields: Any) -> None:
        """Write one event that happened now; nothing where the plugin is not wanted."""
        if plugin not in self._plugins:
            return
        self._events += 1
        record = {
            "Plugin": plugin,
            "TimeStamp": f"{time.time():.6f}",
            **self.context(),
            "Method": method,
            "EventUID": f"{self._events:#x}",
            **fields,
        }
        self._append(line_of(record), urgent=plugin == "memdump")

    def write_seldom(self, plugin: str, method: str, **fields: Any) -> None:
        """As :meth:`write`, of what a program may do in a loop: the more often, the fewer of the same."""
        if plugin in self._plugins:
            number = self._repeats.count((plugin, *fields.values()))
            if number <= REPEATS_IN_FULL or number & (number - 1) == 0:
                extra = {"Repeated": number} if number > REPEATS_IN_FULL else {}
                self.write(plugin, method, **fields, **extra)

    def _append(self, line: bytes, *, urgent: bool) -> None:
        room = self._limit if urgent else self._limit - self._limit // RESERVE
        if self._written + len(line) > room:
            self._give_up(f"the log reached the limit of {self._limit} bytes")
            return
        try:
            os.write(self._descriptor, line)
        except OSError as error:
            if error.errno != errno.EFBIG:
                self.failure = error
            self._give_up(f"the log cannot be written: {error.strerror}")
            return
        self._written += len(line)

    def _give_up(self, why: str) -> None:
        if self.trouble is None:
            self.trouble = why
            self._on_trouble()
