"""What a sample did, as features that are the same in every run, so that runs can be compared. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

import orjson

PLUGINS = frozenset({"procmon", "filetracer", "regmon", "socketmon"})
"""Processes, files, the registry, the network."""
LEARNED = 3
"""Good runs after which it is known what belongs to the sample: what all of them did."""
MISSING = 0.2
"""If a run lacks a larger share of that, something is wrong."""
_NOT_ITS_DEED = frozenset(
    {"Plugin", "TimeStamp", "UserName", "ProcessName", "Method", "EventUID", "Event", "CLSID", "CalledFrom"}
)
_VARIES = re.compile(r"0x[0-9a-f]+|\{[0-9a-f-]{36}\}|[0-9]+")
"""Addresses, handles, identifiers, numbers."""
_LONGEST = 300


def features(lines: Iterable[bytes], *, process: str) -> frozenset[str]:
    """What *process* did, according to the *lines* of DRAKVUF's log. Malformed lines are skipped."""
    found = set()
    for line in lines:
        if process.encode() not in line.lower():
            continue
        try:
            entry = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        if isinstance(entry, dict) and (feature := _feature(entry, process.lower())):
            found.add(feature)
    return frozenset(found)


def known(runs: Iterable[frozenset[str]]) -> frozenset[str]:
    """What each of *runs* did."""
    runs = list(runs)
    return frozenset.intersection(*runs) if runs else frozenset()


def missing(seen: frozenset[str], expected: frozenset[str]) -> list[str]:
    """Which of the *expected* features a run lacks; none if there are so few that it may be chance."""
    lacking = sorted(expected - seen)
    return lacking if len(lacking) > MISSING * len(expected) else []


def _feature(entry: dict[str, object], process: str) -> str | None:
    plugin = entry.get("Plugin")
    if plugin not in PLUGINS or not str(entry.get("ProcessName", "")).lower().endswith(process):
        return None
    values = [
        _VARIES.sub("#", value.lower())
        for name, value in sorted(entry.items())
        if isinstance(value, str) and name not in _NOT_ITS_DEED
    ]
    return " ".join([str(plugin), str(entry.get("Method", "")), *values])[:_LONGEST]
