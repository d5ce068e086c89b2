"""Tells whether many lines are JSON objects by asking simdjson once, about one document that holds them all.

That such a document is JSON says little about its lines: one may leave open what another closes. This one is
accepted only if each line is an object by itself::

    [[[…{"":0, "":[[[[0]]]],"": LINE , "":[[[[0]]]],"": LINE , "":[[[[0]]]],"":0,"Plugin":SECRET}…]]]

LINE is a line without its ``{"Plugin":`` and its ``}``, and ``"":[[[[0]]]],"":`` stands between any two:

- Inside a string its first quote ends the string, and no JSON goes on as it does. Neither does an array, nor
  a key that has no value yet. So each line begins in an object.
- It begins in no inner one: the array between the lines goes as deep as simdjson allows, and would be refused
  if it began one level deeper.
- It begins in no other and no outer one: SECRET is found in the object that the document begins with, which
  no line has closed, then. No line knows that number.

The same look-up tells that no line has another key ``Plugin``, however it is written: it would be found
first.
"""

from __future__ import annotations

import secrets
from bisect import bisect_left
from collections.abc import Sequence
from operator import itemgetter
from typing import Any

import simdjson

BEGIN = b'{"Plugin":'
_INNER, _END = itemgetter(slice(10, -2)), itemgetter(-2)
"""A line without its ends, and what stands before its newline."""
_BRACES = frozenset(b"}")
_LEVELS = 6
"""How deep a line may be, itself included; DRAKVUF's have three levels."""
_BETWEEN = b',"":' + b"[" * (_LEVELS - 1) + b"0" + b"]" * (_LEVELS - 1) + b',"":'
_MOST_LEVELS = 4096
"""simdjson allows 1024 (its ``DEFAULT_MAX_DEPTH``)."""
_STEP = 64
"""Levels that one look-up goes down. It recurses, and a stack of all levels would drive the lines out of a
core's cache."""
_REFUSED = (ValueError, KeyError, TypeError, IndexError, RuntimeError)
"""For what is malformed, too large or too deep, or has no such key."""


class Validator:
    """Holds the memory for one document, and its number."""

    def __init__(self) -> None:
        self._parser = simdjson.Parser()
        self._secret = secrets.randbits(63)
        around = _levels_around()
        self._first = b"[" * around + b'{"":0'
        self._last = b'0,"Plugin":%d}' % self._secret + b"]" * around
        steps, rest = divmod(around, _STEP)
        self._pointers = ["/0" * _STEP] * steps + ["/0" * rest + "/Plugin"]

    def accepts(self, lines: Sequence[bytes]) -> bool:
        """Whether each of *lines*, from :data:`BEGIN` to their newline, is a JSON object.

        They have one key ``Plugin`` each, then. Nothing is accepted if one of them is too deep, or simdjson
        refuses what orjson reads: integers beyond 64 bits.
        """
        if not _BRACES.issuperset(map(_END, lines)):
            return False
        document = _BETWEEN.join([self._first, *map(_INNER, lines), self._last])
        try:
            found: Any = self._parser.parse(document)
            for pointer in self._pointers:
                found = found.at_pointer(pointer)
            return bool(found == self._secret)
        except _REFUSED:
            return False


def _levels_around() -> int:
    """Around an object, so that what is between two lines is as deep as simdjson allows."""
    levels = bisect_left(range(_MOST_LEVELS), True, key=_is_too_deep) - 1
    if levels + 1 == _MOST_LEVELS:
        raise RuntimeError("simdjson reads documents of any depth: it cannot tell where a line begins")
    return levels


def _is_too_deep(levels: int) -> bool:
    try:
        simdjson.Parser().parse(b"[" * levels + b'{"":0' + _BETWEEN + b"0}" + b"]" * levels)
    except _REFUSED:
        return True
    return False
