"""Makes the records of published analyses again that Redis has lost, from what the bucket has of them."""

from __future__ import annotations

from dataclasses import dataclass

import structlog
from karton.core.task import Task
from pydantic import ValidationError

from drakcelery.artifacts.metadata import METADATA
from drakcelery.errors import DrakceleryError, StackError, StorageAway, Unreadable
from drakcelery.karton import contract, reading
from drakcelery.karton.analysis_task import STORED
from drakcelery.karton.policy import policy_of
from drakcelery.ledger import Ledger
from drakcelery.model.analysis import Analysis, Priority, State
from drakcelery.model.metadata import Metadata
from drakcelery.model.names import is_uid
from drakcelery.model.result import Result
from drakcelery.settings import Settings
from drakcelery.storage import Storage

STORED_LIMIT = 64 * 1024**2
"""Bytes of a stored task: ours have some MB, for the names of fifty thousand dumps."""
UNKNOWN = "unknown"
"""The profile of what was made again: the bucket does not tell it."""

log = structlog.get_logger(__name__)


@dataclass(kw_only=True)
class Restored:
    """What became of the analyses of the bucket."""

    made: int = 0
    known: int = 0
    """Those that have a record."""
    expired: int = 0
    """Those that ended so long ago that their record would be gone."""
    unreadable: int = 0
    """Those that are not complete, or of which the bucket does not tell enough."""


def restore(settings: Settings, ledger: Ledger, storage: Storage) -> Restored:
    """Make a record for each published analysis of the bucket that has none, and enter it into the index.

    It stays for as long as the lost one would have. Raises :class:`StorageError`: S3 cannot be asked.
    """
    found = Restored()
    bucket = settings.drakcelery.bucket
    for uid in storage.folders(bucket):
        if not is_uid(uid):
            continue
        if ledger.owner(uid) is not None:
            found.known += 1
            continue
        try:
            record = _record(settings, storage, bucket, uid)
        except StorageAway:
            raise
        except (DrakceleryError, ValidationError, ValueError) as error:
            log.warning("not_restored", uid=uid, error=f"{type(error).__name__}: {error}"[:400])
            found.unreadable += 1
            continue
        at = float(record["finished"])
        left = settings.drakcelery.record_ttl - (ledger.now() - at)
        if left < 1:
            found.expired += 1
        elif ledger.index.restore(uid, record, at=at, left=int(left)):
            found.made += 1
        else:
            found.known += 1
    return found


def _record(settings: Settings, storage: Storage, bucket: str, uid: str) -> dict[str, str]:
    """The fields of its record. Raises :class:`StackError`, :class:`Unreadable` or ValueError."""
    metadata = Metadata.model_validate_json(_text(storage, bucket, f"{uid}/{METADATA}"))
    task = reading.read_stored(_text(storage, bucket, f"{uid}/{STORED}"))
    analysis = _analysis(settings, metadata, task, bucket, uid)
    finished = str(metadata.time_finished)
    return {
        "uid": uid,
        "task_uid": analysis.task_uid,
        "root_uid": analysis.root_uid,
        "analysis": analysis.model_dump_json(),
        "state": State.PUBLISHED.value,
        "attempt": str(metadata.attempts),
        "first_attempt": "1",
        "failures": "[]",
        "received": str(metadata.time_started),
        "updated": finished,
        "finished": finished,
        "host": metadata.host,
        "slot": metadata.slot,
        "analysis_task_uid": task.uid,
        "result": Result.of(metadata.model_dump()).model_dump_json(exclude_defaults=True),
    }


def _analysis(settings: Settings, metadata: Metadata, task: Task, bucket: str, uid: str) -> Analysis:
    sample = contract.noted_sample(task, policy_of(settings))
    if sample is None:
        raise Unreadable("its analysis task has no sample")
    if metadata.analysis_uid != uid:
        raise Unreadable(f"its metadata are those of {metadata.analysis_uid:.200}")
    name, _, extension = (metadata.options.sample_filename or "malwar.exe").rpartition(".")
    return Analysis(
        uid=uid,
        task_uid=task.parent_uid or "",
        root_uid=task.root_uid,
        priority=Priority(task.priority.value),
        sample=sample.model_copy(update={"sha256": sample.sha256 or metadata.sample_sha256}),
        magic=metadata.magic_output,
        extension=extension,
        quality=str(task.headers.get("quality", contract.DEFAULT_QUALITY)),
        file_name=name,
        timeout=metadata.options.timeout or settings.drakrun.analysis_timeout,
        plugins=metadata.plugins,
        profile=UNKNOWN,
        bucket=bucket,
    )


def _text(storage: Storage, bucket: str, key: str) -> str:
    """An object that is no larger than it should be. Raises :class:`StackError`."""
    found = storage.peek(bucket, key, STORED_LIMIT)
    if found is None:
        raise StackError(f"there is no {bucket}/{key}")
    size, content = found
    if size > len(content):
        raise StackError(f"{bucket}/{key} has {size} bytes; at most {STORED_LIMIT} are read")
    return content.decode()
