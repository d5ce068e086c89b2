"""The spans of an analysis' trace, and their ids. Pure.

The ids of a trace, of its root and of its attempts follow from the uid of the sample's Karton task and the
attempt's number, so that every process knows the parent of what it did.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from drakcelery.model.records import Record
from drakcelery.telemetry.log_values import escaped

Key = tuple[str | int, ...]
"""Names a span within its trace."""
ROOT: Key = ("analysis",)
CHARACTERS = 1000
"""Most characters of an attribute, and of a span's error."""


def attempt_key(number: int) -> Key:
    """The span of an attempt."""
    return ("attempt", number)


def trace_id(task_uid: str) -> int:
    """The trace of an analysis: the first 32 hex digits of the SHA-256 of its Karton task's uid."""
    return int(hashlib.sha256(task_uid.encode()).hexdigest()[:32], 16)


def span_id(task_uid: str, key: Key) -> int:
    """The id of a span: the first 16 hex digits of a SHA-256, so every process finds the same one."""
    name = " ".join(map(str, (task_uid, *key)))
    return int(hashlib.sha256(name.encode()).hexdigest()[:16], 16)


@dataclass(frozen=True, kw_only=True)
class Span:
    """A span that is over. Times are UNIX times in seconds."""

    name: str
    task_uid: str
    """The Karton task whose trace it belongs to."""
    key: Key
    parent: Key | None
    start: float
    end: float
    attributes: Mapping[str, str | int]
    links: tuple[Key, ...] = ()
    error: str | None = None
    """Why it failed."""


def of_record(
    record: Record,
    name: str,
    key: Key,
    parent: Key | None,
    *,
    start: float,
    end: float,
    failed: bool = False,
    **attributes: str | int | None,
) -> Span:
    """A span of *record*'s trace, with what is known of the analysis and of *attributes* (None: unknown)."""
    analysis = record.analysis
    ours: dict[str, str | int | None] = {
        "uid": record.uid,
        "profile": analysis.profile if analysis else None,
        "sample_sha256": analysis.sample.sha256 if analysis else None,
        **attributes,
    }
    known = {
        f"drakcelery.{key}": harmless(value) if isinstance(value, str) else value
        for key, value in ours.items()
        if value is not None
    }
    uids = {"karton.task_uid": record.task_uid, "karton.root_uid": record.root_uid}
    return Span(
        name=name,
        task_uid=record.task_uid,
        key=key,
        parent=parent,
        start=start,
        end=end,
        attributes=known | uids,
        error=harmless(str(attributes.get("error"))) if failed else None,
    )


def harmless(text: str) -> str:
    """What may come from a sample: bounded, and nothing in it would drive a terminal."""
    return escaped(text[:CHARACTERS])
