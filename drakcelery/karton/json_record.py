"""The record of a Karton task as the JSON that it is: what can be said without Karton's own parser. Pure.

To import ``karton.core`` takes 0.1 s of processor time, for which nobody should wait who only asks since when
a task waits. What a task is, :mod:`drakcelery.karton.reading` says.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from typing import Any, cast

from drakcelery.errors import Unreadable
from drakcelery.model.text import clean

DEEPEST = 200
"""Levels of nested lists and objects. Karton's own writer gives up at some 450."""
LATEST = 1e11
"""The latest time that a task may name: in the 52nd century."""
NO_OBJECT = "its record in Karton is no JSON object"
_BRACKETS = ("[", "{")
_BRACKET = re.compile(r"[\[{\]}]")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"?', re.DOTALL)


def last_update(text: str) -> float:
    """When Karton last changed the task *text*, as a UNIX time; 0 if it says no sensible time.

    Raises :class:`Unreadable`.
    """
    return moment(fields_of(text).get("last_update"))


def fields_of(text: str) -> dict[str, Any]:
    """The outermost object. Raises :class:`Unreadable`."""
    if sum(map(text.count, _BRACKETS)) > DEEPEST and _depth(text) > DEEPEST:
        raise Unreadable(f"its record in Karton is nested deeper than {DEEPEST} levels")
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"{NO_OBJECT}: {reason_of(error)}") from None
    if not isinstance(fields, dict):
        raise Unreadable(f"{NO_OBJECT}, but {clean(text, 40)}")
    return cast("dict[str, Any]", fields)


def _depth(text: str) -> int:
    """How deep brackets are nested at most; those within strings do not count."""
    steps = (1 if bracket in _BRACKETS else -1 for bracket in _BRACKET.findall(_STRING.sub("", text)))
    return max(itertools.accumulate(steps), default=0)


def moment(value: object) -> float:
    """*value* as a UNIX time, or 0 if it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0.0
    return float(value) if 0 < value < LATEST and math.isfinite(value) else 0.0


def reason_of(error: Exception) -> str:
    """An error of a parser in a few words; it may quote the task."""
    return clean(f"{type(error).__name__}: {error}", 120)
