"""The only reader of Karton's tasks as they are in Redis: with Karton's own parser, one by one. Pure.

Karton writes JSON with Python's ``json`` (``karton.core.task.Task.serialize``), which knows lone surrogates,
NaN, Infinity and integers of any length. Stricter parsers, such as Redis' cjson and orjson, refuse them, so
no other parser and no Lua script reads a task. Whoever may push a task decides what is in it: the type of
each of its outer fields is checked here, and nowhere else. What is in its payload and its headers is checked
by :mod:`drakcelery.karton.contract`.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from karton.core.task import Task, TaskPriority, TaskState

from drakcelery.errors import Unreadable
from drakcelery.karton import contract
from drakcelery.karton.json_record import fields_of, moment, reason_of
from drakcelery.model.names import is_uid
from drakcelery.model.text import clean, is_storable, storable

UID_CHARACTERS = 512
"""The longest uid of a Karton task; two UUIDs take 75 characters."""


def read_task(text: str, uid: str) -> Task:
    """The Karton task *uid*, whose record in Redis is *text*. Its resources are bound to no storage.

    ``last_update`` is 0 if the record has no sensible time.

    Raises:
        Unreadable: Karton itself could not read or write such a task, or it claims to be another one.
    """
    fields = fields_of(text)
    _check(fields, uid)
    try:
        task = Task.unserialize(text)
        task.last_update = moment(fields.get("last_update"))
        task.serialize()  # a task that cannot be written could be neither started nor ended
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise Unreadable(f"its record in Karton is no task: {reason_of(error)}") from None
    return task


def read_stored(text: str) -> Task:
    """A task that was stored elsewhere than in Karton; as :func:`read_task`, which explains it."""
    uid = fields_of(text).get("uid")
    return read_task(text, uid if isinstance(uid, str) else "")


def last_word(text: str | None, uid: str, reasons: Sequence[str], *, now: float) -> str | None:
    """The task *uid* as CRASHED, with the lines that karton-dashboard shows, whatever *text* is.

    Invalid fields are replaced, so that Karton can read the result. None if there is no *text*, or Karton
    cannot have a task with this uid.
    """
    if text is None or not _is_uid(uid):
        return None
    lines = [storable(line) for line in reasons]
    try:
        task = read_task(text, uid)
    except Unreadable:
        task = _salvaged(text, uid)
    return contract.crashed(task, lines, now=now).serialize()


def refreshed(text: str, now: float) -> str:
    """The task *text* with another ``last_update``, all else in it as it was. Raises :class:`Unreadable`."""
    return json.dumps({**fields_of(text), "last_update": now}, sort_keys=True)


def is_readable(text: str) -> bool:
    """Whether *text* is a JSON object at all, whatever its fields are."""
    try:
        fields_of(text)
    except Unreadable:
        return False
    return True


def own_uid(task_uid: str) -> str:
    """The uid of a task's record, if the task asks for no other."""
    own = Task.fquid_to_uid(task_uid)
    if is_uid(own):  # it becomes a key, a page's address, a directory's name
        return own
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"drakcelery:{storable(task_uid)}"))


def root_of(uid: str) -> str:
    """The root's uid within that of a task, ``{root}:own``; of an older one its own."""
    root, closed, _ = uid.removeprefix("{").partition("}")
    return root if closed and uid.startswith("{") else uid


def _check(fields: Mapping[str, Any], uid: str) -> None:
    """Check the types that Karton's own reader takes for granted. Raises :class:`Unreadable`."""
    for name in ("uid", "root_uid", "parent_uid", "orig_uid"):
        value = fields.get(name)
        if value is None and name in ("parent_uid", "orig_uid"):
            continue
        if not _is_uid(value):
            raise _wrong(fields, name, "a uid")
    if fields["uid"] != uid:
        raise Unreadable(f"its record in Karton is that of another task, {clean(fields['uid'], 80)}")
    for name in ("headers", "payload", "payload_persistent"):
        if not isinstance(fields.get(name), dict):
            raise _wrong(fields, name, "an object")
    if not isinstance(fields.get("headers_persistent", {}), dict | None):
        raise _wrong(fields, "headers_persistent", "an object")
    if fields.get("status") not in [one.value for one in TaskState]:
        raise _wrong(fields, "status", "a state that Karton knows")
    if "priority" in fields and fields["priority"] not in [one.value for one in TaskPriority]:
        raise _wrong(fields, "priority", "high, normal or low")


def _is_uid(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= UID_CHARACTERS and is_storable(value)


def _wrong(fields: Mapping[str, Any], name: str, expected: str) -> Unreadable:
    if name not in fields:
        return Unreadable(f"its record in Karton has no {name!r}; expected {expected}")
    return Unreadable(f"its record in Karton says {name} = {_shown(fields[name])}; expected {expected}")


def _shown(value: object) -> str:
    return clean(json.dumps(value), 80)


def _salvaged(text: str, uid: str) -> Task:
    """A task that Karton can read, with the valid fields of *text*."""
    try:
        fields = fields_of(text)
    except Unreadable:
        fields = {}
    root = fields.get("root_uid")
    bare: dict[str, Any] = {
        "uid": uid,
        "root_uid": root if _is_uid(root) else root_of(uid),
        "parent_uid": None,
        "status": TaskState.CRASHED.value,
        "headers": {},
        "payload": {},
        "payload_persistent": {},
    }
    kept = bare
    for name in ("parent_uid", "orig_uid", "priority", "headers", "headers_persistent", *_PAYLOADS):
        if name in fields:
            tried = {**kept, name: fields[name]}
            kept = tried if _reads(tried, uid) else kept
    return read_task(json.dumps(kept), uid)


_PAYLOADS = ("payload", "payload_persistent")


def _reads(fields: Mapping[str, Any], uid: str) -> bool:
    try:
        read_task(json.dumps(fields), uid)
    except Unreadable:
        return False
    return True
