"""Sample tasks with something odd in them, as a hostile or careless neighbour in Karton would write them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from karton.core import Task
from karton.core.resource import RemoteResource
from karton.core.task import TaskState

from tests.simulation.schedule import Sample

Fields = dict[str, Any]

BUCKET = "karton"
SAMPLE = b"MZ" + b"\0" * 100
"""What each sample is."""
MISSING_BUCKET = "no-such-bucket"
FORBIDDEN_BUCKET = "forbidden"


def _payload(name: str, value: object) -> Callable[[Fields], None]:
    def change(task: Fields) -> None:
        task["payload"][name] = value

    return change


def _field(name: str, value: object) -> Callable[[Fields], None]:
    def change(task: Fields) -> None:
        task[name] = value

    return change


def _sample(name: str, value: object) -> Callable[[Fields], None]:
    def change(task: Fields) -> None:
        task["payload"]["sample"]["__karton_resource__"][name] = value

    return change


def _without(*path: str) -> Callable[[Fields], None]:
    def change(task: Fields) -> None:
        *parents, last = path
        within = task
        for parent in parents:
            within = within[parent]
        del within[last]

    return change


def _behind(task: Fields) -> None:
    """As a karton-system whose clock is behind would write it: the task looks orphaned."""
    task["last_update"] -= 600


def _in_header(task: Fields) -> None:
    task["headers"]["x"] = "\udc83"


def _in_persistent(task: Fields) -> None:
    task["payload_persistent"]["x"] = "\udc83"


ODD: dict[str, Callable[[Fields], None]] = {
    "plain": lambda _: None,
    "surrogate": _payload("x", "\udc83"),
    "surrogate in a header": _in_header,
    "surrogate in payload_persistent": _in_persistent,
    "surrogate in the sample's name": _sample("name", "\udc83.exe"),
    "NaN": _payload("score", float("nan")),
    "Infinity": _payload("score", float("-inf")),
    "huge number": _payload("score", 10**400),
    "NUL": _payload("x", "a\0b"),
    "deep": _payload("x", json.loads("[" * 200 + "]" * 200)),
    "no sample": _without("payload", "sample"),
    "sample is a number": _payload("sample", 7),
    "resource without fields": _payload("sample", {"__karton_resource__": {"name": "a"}}),
    "missing object": _sample("uid", "gone"),
    "missing bucket": _sample("bucket", MISSING_BUCKET),
    "forbidden bucket": _sample("bucket", FORBIDDEN_BUCKET),
    "dots in the key": _sample("uid", "../x"),
    "no bucket": _sample("bucket", None),
    "root_uid is true": _field("root_uid", True),
    "root_uid is a list": _field("root_uid", ["a"]),
    "parent_uid is a number": _field("parent_uid", 5),
    "payload is a list": _field("payload", []),
    "headers are a text": _field("headers", "x"),
    "no payload": _without("payload"),
    "status is a number": _field("status", 3),
    "last_update is a text": _field("last_update", "yesterday"),
    "last_update is NaN": _field("last_update", float("nan")),
    "last_update is 10 minutes behind": _behind,
    "priority is odd": _field("priority", "utmost"),
    "profile that nobody has": _payload("vm_profile", "vista"),
    "timeout is huge": _payload("timeout", 10**30),
    "no JSON": lambda _: None,
}
"""Name -> what it does to the fields of a task."""


def task_text(uid: str, sample: Sample) -> str:
    """The Karton task *uid* as Karton's Redis has it, with something odd in it."""
    content = sample.content
    task = Task(
        {"type": "sample", "stage": "recognized", "platform": "win32"},
        headers_persistent={"owner": sample.owner} if sample.owner else {},
        uid=f"{{{uid}}}:{uid}",
        root_uid=uid,
    )
    sha256 = None if sample.reuse is None else hashlib.sha256(SAMPLE).hexdigest()
    task.add_payload("sample", RemoteResource("x.exe", bucket=BUCKET, uid="sample", sha256=sha256))
    if sample.profile is not None:
        task.add_payload("vm_profile", sample.profile)
    if sample.reuse is not None:
        task.add_payload("reuse", sample.reuse)
    if sample.variants is not None:
        task.add_payload("variants", sample.variants)
    task.headers["receiver"] = IDENTITY
    task.status = TaskState.SPAWNED
    fields = json.loads(task.serialize())
    ODD[content](fields)
    return "{" if content == "no JSON" else json.dumps(fields, sort_keys=True)


IDENTITY = "karton.simulated"


NEWER_FIELDS = ("machine", "done_by")
NEWER_IN_ANALYSIS = (
    *("identity", "headers", "bucket", "start_method", "guest_working_directory", "net_enable"),
)
NEWER_IN_FAILURES = ("number", "charged", "code")
"""What the first landed version with a ledger did not write."""


def older_record(fields: Mapping[str, str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """(fields to set, fields to delete) that make a live record one of the first version's."""
    changed = {}
    for name, newer in (("analysis", NEWER_IN_ANALYSIS), ("failures", NEWER_IN_FAILURES)):
        if name in fields:
            value = json.loads(fields[name])
            for one in value if isinstance(value, list) else [value]:
                for key in newer:
                    one.pop(key, None)
            changed[name] = json.dumps(value)
    gone = [name for name in fields if name in NEWER_FIELDS or name.startswith("deaths:")]
    return changed, tuple(gone)


def foreign_record(number: int, now: float) -> tuple[str, dict[str, str]]:
    """(uid, fields) of a live record that a newer version wrote, or that is damaged."""
    uid, at = f"foreign-{number}", f"{now:.6f}"
    fields = {
        "uid": uid,
        "task_uid": f"{{{uid}}}:{uid}",
        "root_uid": uid,
        "place": "default",
        "attempt": "1",
        "first_attempt": "1",
        "state": "QUEUED",
        "failures": "[]",
        "received": at,
        "updated": at,
    }
    oddities: tuple[dict[str, str], ...] = (
        {"state": "ARCHIVING"},
        {"done": "archive"},
        {"failures": "{"},
        {"analysis": "{"},
        {"analysis": '{"uid": 5}'},
        {"updated": "yesterday"},
        {"attempt": "first"},
        {"failures": '[{"attempt": 1, "stage": "archive", "error": "x", "fault": "tired", "at": 1}]'},
        {"place": "@"},
    )
    return uid, fields | oddities[number % len(oddities)]
