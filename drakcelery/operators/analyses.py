"""What the commands for analysts and operators do, apart from printing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from drakcelery.errors import DrakceleryError, StackError
from drakcelery.karton.destination import destination
from drakcelery.karton.kept import KEPT
from drakcelery.ledger import Ledger
from drakcelery.model.analysis import State
from drakcelery.model.names import SHORTEST_PREFIX
from drakcelery.model.records import Record
from drakcelery.operators import finding
from drakcelery.settings import Settings

if TYPE_CHECKING:
    from drakcelery.storage import Storage  # which `status` does not need

POLL_SECONDS = 0.25
RECENT = 20
"""How many finished analyses ``status`` lists."""


def overview(ledger: Ledger) -> list[Record]:
    """All live analyses, oldest first, then the newest finished ones."""
    return [*ledger.live(), *ledger.done(newest=RECENT)]


def find_record(ledger: Ledger, uid: str) -> Record:
    """As :func:`finding.record_of`. Raises :class:`StackError` if there is none."""
    record = finding.record_of(ledger, uid)
    if record is None:
        raise StackError(_unknown(uid))
    return record


def _unknown(uid: str) -> str:
    if not uid:
        return "an empty word is no uid: `drakcelery submit` prints them, `drakcelery find` finds them"
    if len(uid) < SHORTEST_PREFIX:
        return f"no analysis has the uid {uid}; of a longer one give {SHORTEST_PREFIX} characters at least"
    return (
        f"no analysis {uid} in the ledger: it still waits in Karton, was never pushed, or is older than "
        "[drakcelery] record_ttl"
    )


def follow(
    ledger: Ledger, uid: str, *, poll: Callable[[float], object] = time.sleep
) -> Iterator[Record | None]:
    """The record each time it changes, until the analysis is over; None while it waits in Karton."""
    last: tuple[object, ...] | None = ()
    while True:
        record = ledger.get(uid)
        seen = None if record is None else (record.state, record.attempts, record.slot)
        if seen != last:
            yield record
            last = seen
        if record is not None and record.state.is_over:
            return
        poll(POLL_SECONDS)


def bucket_of(settings: Settings, record: Record) -> str | None:
    """Where the artifacts of an analysis are, or will be; None if it was refused and has none."""
    if record.analysis is None:
        return None
    return destination(settings, record.analysis).bucket


def stored_objects(storage: Storage, bucket: str | None, uid: str) -> dict[str, int]:
    """Sizes in bytes, by key, of all that is stored of an analysis; in no bucket there is nothing.

    Raises:
        StorageError: S3 failed or refused.
    """
    if bucket is None or not storage.has_bucket(bucket):
        return {}
    return storage.list(bucket, f"{uid}/")


def fetch(settings: Settings, storage: Storage, record: Record, to: Path) -> list[Path]:
    """Download an analysis' artifacts into the new directory *to*: all of them, or none. Returns the files.

    What is kept for a retry is no artifact; least of all the sample is to lie about on somebody's disk.

    Raises:
        StackError: there is nothing to download (yet), or *to* has something in it already.
    """
    bucket = bucket_of(settings, record)
    if bucket is None:
        raise StackError(f"analysis {record.uid} was refused and has no artifacts: {record.error}")
    if to.is_dir() and any(to.iterdir()):
        raise StackError(
            f"{to} is not empty: what is there would be taken for evidence of analysis {record.uid}. Name a "
            "directory that is not there yet, or remove that one"
        )
    try:
        files = storage.download_all(bucket, record.uid, to, without=KEPT)
    except BaseException:
        _empty(to)
        raise
    if not files:
        raise StackError(f"analysis {record.uid} is {record.state.value} and has no artifacts in {bucket!r}")
    return files


def _empty(directory: Path) -> None:
    """Remove what an interrupted download has left."""
    for path in directory.iterdir() if directory.is_dir() else ():
        path.unlink(missing_ok=True)


def require_published(record: Record) -> None:
    """Raise :class:`DrakceleryError` with the reason if the analysis ended in any other way."""
    if record.state is not State.PUBLISHED:
        raise DrakceleryError(
            f"analysis {record.uid} {record.state.value}: {record.error or 'no reason given'}"
        )
