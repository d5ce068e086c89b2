"""Deletes analyses that are over: artifacts, what is kept for a retry, record and entries in the index."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from karton.core.task import Task

from drakcelery.artifacts.metadata import METADATA
from drakcelery.errors import StackError
from drakcelery.ledger import Ledger
from drakcelery.model.analysis import Value
from drakcelery.model.names import is_uid
from drakcelery.model.records import Record
from drakcelery.operators import analyses, finding
from drakcelery.settings import Settings
from drakcelery.storage import Storage

OVER = ("Finished", "Crashed")
"""What Karton calls a task with which nobody does anything any more."""
SOME = 1000
AT_ONCE = 200
"""Analyses whose names are taken out of the index together."""


class Chosen(Value):
    """An analysis that is to be deleted."""

    uid: str
    record: Record | None
    """None if it has expired: then there are only its artifacts."""
    consumers: tuple[str, ...] = ()
    """Who has yet to deal with its analysis task in Karton, and may still need the artifacts."""


class Deleted(Value):
    """An analysis that was deleted."""

    uid: str
    objects: int
    """How many artifacts it had, the sample that was kept among them."""
    bytes: int


def choose(settings: Settings, ledger: Ledger, storage: Storage, uids: Sequence[str]) -> list[Chosen]:
    """The analyses that *uids*, or beginnings of uids, name, each once.

    Raises:
        StackError: there is no such analysis, several begin so, or one is not over.
    """
    found: dict[str, Chosen] = {}
    for uid in uids:
        known = finding.record_of(ledger, uid)
        record = known if known is not None and _is_own(known, uid) else None
        if record is None and not (
            is_uid(uid) and analyses.stored_objects(storage, settings.drakcelery.bucket, uid)
        ):
            raise StackError(_absent(settings, uid, known))
        if record is not None and not record.state.is_over:
            raise StackError(_under_way(record))
        own = record.uid if record is not None else uid
        found[own] = Chosen(uid=own, record=record)
    return _with_consumers(ledger, list(found.values()))


def _is_own(record: Record, uid: str) -> bool:
    """Whether *uid* is, or begins, that of the analysis; a root or Karton task has others too, or will."""
    return record.uid.startswith(Task.fquid_to_uid(uid))


def _absent(settings: Settings, uid: str, other: Record | None) -> str:
    """Why there is nothing to delete. *other*: what has *uid* as its root or Karton task."""
    if other is not None:
        return (
            f"no analysis {uid}: that is the root or the Karton task of the analysis {other.uid}, which is "
            "deleted by its own uid only"
        )
    return (
        f"no analysis {uid}: neither the ledger nor the bucket {settings.drakcelery.bucket!r} has it; of a "
        "sample that still waits in Karton there is nothing to delete"
    )


def choose_older(ledger: Ledger, time: float) -> list[Chosen]:
    """Every analysis that ended at *time* or before, the oldest first; not what has no record any more."""
    records = ledger.records(ledger.removal.ended_before(time))
    over = [Chosen(uid=record.uid, record=record) for record in records if record.state.is_over]
    return _with_consumers(ledger, over)


def delete(
    settings: Settings, ledger: Ledger, storage: Storage, chosen: Sequence[Chosen]
) -> Iterator[Deleted | StackError]:
    """Delete each; what was deleted, or why one was not.

    The artifacts go first: an analysis that could not be deleted to the end is still found, and deleted by
    another try.

    Raises:
        StorageError: S3 does not answer, or refuses.
    """
    windows: dict[str, str] = {}
    try:
        for one in chosen:
            if one.record is None:
                yield _remove(settings.drakcelery.bucket, storage, one.uid)
                continue
            now = ledger.get(one.uid)
            if now is not None and now.updated_text != one.record.updated_text:
                yield StackError(_under_way(now) if not now.state.is_over else _changed(one.uid))
                continue
            bucket = analyses.bucket_of(settings, one.record)
            done = _remove(bucket, storage, one.uid)
            if now is None:
                yield done  # it has expired just now
                continue
            window = ledger.removal.delete(one.record)
            if window is None:
                yield StackError(_changed(one.uid))
                continue
            ledger.removal.unlink(one.record)
            windows[one.uid] = window
            yield done
            if len(windows) >= AT_ONCE:
                ledger.removal.erase(windows)
                windows = {}
    finally:
        ledger.removal.erase(windows)


def _under_way(record: Record) -> str:
    return (
        f"analysis {record.uid} is {record.state.value}: end it first, with `drakcelery cancel {record.uid}`"
    )


def _changed(uid: str) -> str:
    return f"analysis {uid} has begun again meanwhile, and stays"


def _remove(bucket: str | None, storage: Storage, uid: str) -> Deleted:
    """Remove all objects of an analysis; first the one that says that it is complete."""
    sizes = analyses.stored_objects(storage, bucket, uid)
    for key in sorted(sizes, key=lambda key: (key != f"{uid}/{METADATA}", key)):
        storage.remove(str(bucket), key)
    return Deleted(uid=uid, objects=len(sizes), bytes=sum(sizes.values()))


def _with_consumers(ledger: Ledger, chosen: Sequence[Chosen]) -> list[Chosen]:
    """*chosen*, each with those who may still need it."""
    tasks = {
        one.record.analysis_task_uid: one.uid
        for one in chosen
        if one.record is not None and one.record.analysis_task_uid
    }
    consumers = _consumers(ledger, tasks) if tasks else {}
    return [one.model_copy(update={"consumers": tuple(sorted(consumers.get(one.uid, ())))}) for one in chosen]


def _consumers(ledger: Ledger, tasks: Mapping[str, str]) -> Mapping[str, set[str]]:
    """Who has a task that Karton has made of one of *tasks*, and is not done with it: by analysis.

    Karton makes a task for each consumer, which names the one that it was made of: all of them are looked at.
    """
    found: defaultdict[str, set[str]] = defaultdict(set)
    cursor, is_first = 0, True
    while cursor or is_first:
        is_first = False
        cursor, some = ledger.tasks_after(cursor, some=SOME)
        for _, text in some:
            uid, receiver = _of_a_consumer(text, tasks)
            if uid is not None:
                found[uid].add(receiver)
    return found


def _of_a_consumer(text: str | None, tasks: Mapping[str, str]) -> tuple[str | None, str]:
    """The analysis that a task of Karton's is about, and whose task it is; None if it is about none, or
    over."""
    if text is None or '"analysis' not in text:
        return None, ""
    try:
        task = json.loads(text)
        if task["status"] in OVER:
            return None, ""
        origin = tasks.get(str(task["uid"])) or tasks.get(str(task.get("orig_uid")))
        return origin, str(task["headers"].get("receiver") or "karton-system")
    except (ValueError, LookupError, TypeError, AttributeError):
        return None, ""  # no task
