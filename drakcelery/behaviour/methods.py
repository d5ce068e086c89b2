"""Finds the lines of some methods among many, without parsing them. Pure.

Of the hundreds of lines in a block of the log few say that something was changed. DRAKVUF writes a method as
``"Method":"NtClose"``, the emulator with a space after the colon, both without escapes. As a text of the
sample's it has a backslash before each quote, and as a value of another key no colon behind it, so neither is
taken for a method.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

METHOD = b'"Method":'
FROM = 96
"""Where it is looked for first: DRAKVUF has so many bytes of other keys before it."""
NUMBER = b'"EventUID"'
"""The key behind it. The process, the thread and the method are between the time and this."""
BEGINNING = 17
"""Bytes of the key and its value, from the key's first one, that tell most methods apart. A name that is
looked for has at least :data:`SHORTEST` letters, so that nothing behind its quote is among them."""
SHORTEST = 6
_COLONS = (b'"Method":"', b'"Method": "')
_QUOTE = ord('"')


def method_of(line: bytes) -> bytes:
    """The value of ``Method`` in *line*, a JSON object, without parsing it; empty if there is none."""
    at = line.find(METHOD, FROM)
    if at < 0:
        at = line.find(METHOD)
        if at < 0:
            return b""
    begin = at + 10
    if line[at + 9] != _QUOTE:
        if not line.startswith(b' "', at + 9):
            return b""
        begin = at + 11
    return line[begin : line.find(b'"', begin)]


def beginnings(methods: Iterable[str]) -> frozenset[bytes]:
    """What a line of one of *methods* has from its key :data:`METHOD` on, :data:`BEGINNING` bytes."""
    return frozenset((colon + name.encode() + b'"')[:BEGINNING] for colon in _COLONS for name in methods)


NOT_FOUND = frozenset({b""})
"""What is cut out of a line that has no method beyond :data:`FROM`: it may have one before that."""


@lru_cache(maxsize=8)
def _wanted(methods: frozenset[str]) -> frozenset[bytes]:
    """What is looked for of the same methods in each report."""
    return beginnings(methods) | NOT_FOUND


class Sieve:
    """Finds the lines of some methods: looks at the beginning of each line's method."""

    def __init__(self, methods: Iterable[str]) -> None:
        self._wanted = _wanted(frozenset(methods))

    def among(self, lines: Iterable[bytes]) -> list[bytes]:
        """Those of *lines*, in their order, and some of other methods that begin alike."""
        wanted = self._wanted
        return [line for line in lines if line[(at := line.find(METHOD, FROM)) : at + BEGINNING] in wanted]
