"""Karton tasks that are stored beside the artifacts of their analysis."""

from __future__ import annotations

import tempfile
from pathlib import Path

from karton.core.task import Task

from drakcelery.errors import BadTask, StackError, Unreadable
from drakcelery.karton import reading
from drakcelery.model.analysis import ObjectRef
from drakcelery.storage import Storage

LIMIT = 64 * 1024**2
"""Bytes of a stored task: ours have some MB, for the names of fifty thousand dumps."""


def stored_task(storage: Storage, bucket: str, key: str) -> Task | None:
    """The task under *key*; None if nothing is stored there. Raises :class:`StackError` for what is no
    task."""
    if not storage.holds(bucket, key):
        return None
    with tempfile.TemporaryDirectory(prefix="drakcelery-") as directory:
        path = Path(directory) / "task.json"
        try:
            storage.download(ObjectRef(bucket=bucket, key=key, name=path.name), path, max_size=LIMIT)
            return reading.read_stored(path.read_text(encoding="utf-8"))
        except (BadTask, UnicodeDecodeError, Unreadable) as error:
            raise StackError(f"{bucket}/{key}: {error}") from None
