"""Reports from the bucket, kept as long as people look at them: the last few, each read once."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cached_property

from drakcelery import garbage
from drakcelery.behaviour.report import NAME, Report
from drakcelery.errors import ArtifactUnreadable
from drakcelery.flower.report.overview import Overview, overview
from drakcelery.flower.report.timeline import Moment, moments
from drakcelery.model.records import Record
from drakcelery.operators.report.processes import Cast
from drakcelery.operators.report.stored import published_bucket, read_report
from drakcelery.reading import Analysis
from drakcelery.reading.buckets import BucketSource, StoredObjects
from drakcelery.settings import Settings
from drakcelery.storage import Storage

KEPT = 4
"""Reports in memory; the largest that we write takes some 100 MB."""
MOST_BYTES = 64 * 1024**2
"""Of ``report.json``; the largest that we write has half of it."""


@dataclass(frozen=True, kw_only=True)
class Told:
    """A report, and who did what in it."""

    report: Report
    cast: Cast

    @cached_property
    def overview(self) -> Overview:
        """What stands above the lists."""
        return overview(self.report, self.cast)

    @cached_property
    def moments(self) -> tuple[Moment, ...]:
        """All that the timeline has, in order."""
        return moments(self.report)


class Reports:
    """Reports by analysis; for Tornado's loop."""

    def __init__(self, settings: Settings, executor: Executor) -> None:
        self._settings = settings
        self._executor = executor
        self._kept: dict[tuple[str, str], asyncio.Future[Told]] = {}

    async def get(self, record: Record, storage: Storage) -> Told:
        """The report of a published analysis; those who ask meanwhile share one reading.

        Raises:
            StackError: it was not published, or not yet.
            ArtifactMissing: it has none, and why.
            ArtifactUnreadable, StorageError: it cannot be read.
        """
        key = record.uid, f"{record.attempt} {record.finished}"  # a retry writes another one
        reading = self._kept.pop(key, None)
        if reading is None or (reading.done() and (reading.cancelled() or reading.exception())):
            loop = asyncio.get_running_loop()
            reading = loop.run_in_executor(self._executor, read, self._settings, record, storage)
        self._kept[key] = reading  # what was asked for last stands last
        while len(self._kept) > KEPT:
            del self._kept[next(iter(self._kept))]
        return await asyncio.shield(reading)


def read(settings: Settings, record: Record, storage: Storage) -> Told:
    """Read it from the bucket. Raises as :meth:`Reports.get`."""
    bucket = published_bucket(settings, record)
    analysis = Analysis(BucketSource(StoredObjects(storage), bucket, record.uid))
    size = analysis.artifacts.get(NAME, 0)
    if size > MOST_BYTES:
        raise ArtifactUnreadable(f"{NAME} has {size} bytes, and this page reads {MOST_BYTES} at most")
    with garbage.kept():
        report = read_report(analysis)
    return Told(report=report, cast=Cast(report))
