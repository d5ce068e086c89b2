"""Reads what the pages show, from Redis and S3: beside Tornado's loop, and once a second at most."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from functools import cached_property
from typing import Generic, TypeVar

from celery import Celery

from drakcelery.artifacts.metadata import METADATA
from drakcelery.errors import SettingsError, StorageAway, StorageError
from drakcelery.flower.analysis_page import AnalysisView, analysis_view
from drakcelery.flower.fleet_page import FleetView, fleet_view
from drakcelery.flower.report.reading import Reports, Told
from drakcelery.flower.rows import Row, row
from drakcelery.flower.stored.reading import Stored
from drakcelery.forecast.forecast import Forecast, make_forecast
from drakcelery.forecast.simulation import Estimate, Range
from drakcelery.karton.destination import destination
from drakcelery.karton.kept import KEPT
from drakcelery.ledger import Ledger
from drakcelery.ledger.inbox import Inbox
from drakcelery.model.analysis import State
from drakcelery.model.names import is_file_name
from drakcelery.model.records import Record
from drakcelery.operators import analyses as operators_analyses
from drakcelery.operators import finding
from drakcelery.operators.retry import obstacle, retry
from drakcelery.operators.tail import Event, Tail
from drakcelery.operators.watch_report import WatchReport, asked_of, watch_report
from drakcelery.settings import Settings
from drakcelery.storage import Storage

T = TypeVar("T")

AGE = 1.0
"""Seconds for which one reading serves all who ask."""
FORECAST_AGE = 10.0
"""The same for estimates, which take the processor for a moment."""
WATCHING_AGE = 30.0
"""The same for what watching buys, which takes it for longer."""
PATIENCE = 5
"""Seconds that S3 has for an answer: somebody waits for the page."""
LINK_SECONDS = 60
"""How long the address of a download is good for. A download that has begun goes on."""
OPEN_PAGES = 256
"""Of so many analyses the last reading is kept."""


class Reading(Generic[T]):
    """What *read* returned last; those who ask while it is at work, or soon after, share its answer."""

    def __init__(self, executor: Executor, read: Callable[[], T], *, age: float | None = None) -> None:
        """*age*: seconds for which an answer serves; by default :data:`AGE`."""
        self._executor = executor
        self._read = read
        self._age = age
        self._begun = 0.0
        self._answer: asyncio.Future[T] | None = None

    async def get(self) -> T:
        """Raises what *read* raised."""
        now, age = time.monotonic(), AGE if self._age is None else self._age
        # A reading that hangs is waited for: others beside it would hang as well
        if self._answer is None or (self._answer.done() and now - self._begun >= age):
            self._begun = now
            self._answer = asyncio.get_running_loop().run_in_executor(self._executor, self._read)
        return await asyncio.shield(self._answer)


class Reader:
    """The pages' source. Methods that are not ``async`` block, and are called in the executor."""

    def __init__(
        self,
        *,
        settings: Settings,
        ledger: Ledger,
        inbox: Inbox,
        executor: Executor,
        remote: Executor,
    ) -> None:
        """*remote* is for what asks S3: it may be slow, and keep nothing waiting that only asks Redis."""
        self.settings = settings
        self.ledger = ledger
        self._inbox = inbox
        self._executor, self._remote = executor, remote
        self._fleet = Reading(executor, lambda: self.naming(self._read_fleet))
        self._watching = Reading(executor, lambda: self.naming(self._read_watching), age=WATCHING_AGE)
        self._analyses: dict[str, Reading[AnalysisView | None]] = {}
        self._reports = Reports(settings, remote)
        self._looking = threading.Lock()
        self._forecasted: tuple[float, Forecast] | None = None

    @cached_property
    def _storage(self) -> Storage:
        return Storage.connect(self.settings.s3, threads=1, patience=PATIENCE)

    def naming(self, call: Callable[[], T]) -> T:
        """What *call* says; an error over one of our keys in Redis names it."""
        with self.ledger.named():
            return call()

    async def fleet(self) -> FleetView:
        """The Fleet page. Raises :class:`redis.exceptions.RedisError`."""
        return await self._fleet.get()

    async def watching(self) -> WatchReport:
        """The Watching page. Raises :class:`redis.exceptions.RedisError`."""
        return await self._watching.get()

    async def analysis(self, uid: str) -> AnalysisView | None:
        """The page of the analysis whose uid is, or begins with, *uid*; None if there is no record of it.

        Raises :class:`redis.exceptions.RedisError`, and :class:`StackError` if several begin so; if S3 fails,
        the page says so.
        """
        reading = self._analyses.pop(uid, None) or Reading(
            self._remote, lambda: self.naming(lambda: self._read_analysis(uid))
        )
        self._analyses[uid] = reading  # the last one that was asked for stands last
        if len(self._analyses) > OPEN_PAGES:
            del self._analyses[next(iter(self._analyses))]
        return await reading.get()

    def absence(self, uid: str) -> str:
        """Why the ledger has no record of an analysis, as far as that can be told."""
        about = self.settings.drakcelery
        kept = f"records stay for {_long(about.record_ttl)} after the end ([drakcelery] record_ttl)"
        with contextlib.suppress(StorageError, SettingsError):
            if self._storage.holds(about.bucket, f"{uid}/{METADATA}"):
                return (
                    f"Its record has expired: {kept}. Its artifacts are still in the bucket {about.bucket}, "
                    f"below {uid}/"
                )
        return (
            "The ledger has no record of it. The uid may be mistyped, its sample may still wait on Karton's "
            f"queue, or its record has expired: {kept}"
        )

    async def report(self, uid: str) -> Told | None:
        """What the sample of an analysis did; None if the ledger has no record of it.

        Raises as :meth:`Reports.get`.
        """

        def find() -> tuple[Record | None, Storage]:
            return self.naming(lambda: self.ledger.get(uid)), self._storage

        record, storage = await asyncio.get_running_loop().run_in_executor(self._executor, find)
        return await self._reports.get(record, storage) if record is not None else None

    def stored(self, uid: str) -> Stored | None:
        """The artifacts of an analysis; None if the ledger has no record of it."""
        record = self.ledger.get(uid)
        return Stored(self.settings, self._storage, record) if record is not None else None

    def tail(self, uid: str, app: Celery) -> Tail | None:
        """What follows an analysis; None if none of this uid is under way."""
        record = self.ledger.get(uid)
        if record is None or record.state.is_over:
            return None
        return Tail(settings=self.settings, ledger=self.ledger, app=app, storage=self._storage, uid=uid)

    def following(self, tail: Tail) -> Callable[[], Iterator[Event]]:
        """A reader of what is new; of what is over nothing, since its log is in the bucket."""

        def read() -> Iterator[Event]:
            with self.ledger.named():
                record = self.ledger.get(tail.uid)
                if record is not None and not record.state.is_over:
                    yield from tail.events(follow=False)

        return read

    def analyses(self, limit: int) -> list[Row]:
        """All analyses that are under way, the newest first, then those that are over; *limit* at most."""
        live = list(self.ledger.live())[::-1][:limit]
        room = limit - len(live)
        done = self.ledger.done(newest=room) if room else ()
        starts = _starts(self._forecast().estimates)
        return [row(record, starts.get(record.uid)) for record in (*live, *done)]

    def link(self, uid: str, name: str) -> str | None:
        """An address from which anyone may download an artifact for :data:`LINK_SECONDS`; None: no artifact.

        Raises :class:`StorageError`.
        """
        record = self.ledger.get(uid)
        bucket = self._bucket(record) if record and name not in KEPT else None
        if bucket is None or self._storage.stat(bucket, f"{uid}/{name}") is None:
            return None
        return self._storage.link(bucket, f"{uid}/{name}", name=name, seconds=LINK_SECONDS)

    def _bucket(self, record: Record) -> str | None:
        if record.analysis is None:
            return None
        return destination(self.settings, record.analysis).bucket

    def _forecast(self) -> Forecast:
        """The forecast, not older than :data:`FORECAST_AGE`."""
        with self._looking:
            now = time.monotonic()
            if self._forecasted is None or now - self._forecasted[0] >= FORECAST_AGE:
                self._forecasted = now, make_forecast(self.settings, self.ledger, self._inbox)
            return self._forecasted[1]

    def _read_fleet(self) -> FleetView:
        forecast = self._forecast()
        return fleet_view(
            now=self.ledger.now(),
            unread=sum(self._inbox.queue_lengths()),
            twins=sum(one.waits_for is not None for one in self._inbox.twins.waiting()),
            hosts=self.ledger.fleet.hosts(),
            places=self.ledger.fleet.places(),
            lines=self._inbox.lines(),
            in_flight=self._inbox.in_flight(),
            live=list(self.ledger.live()),
            done=list(self.ledger.done(newest=operators_analyses.RECENT)),
            starts=_starts(forecast.estimates),
            newcomers=_starts(forecast.newcomers),
            quarantined=self.ledger.quarantine.all(),
            odd_keys=self.ledger.odd_sentences(),
        )

    def _read_watching(self) -> WatchReport:
        return watch_report(self.ledger, asked_of(self.settings.watch))

    def _read_analysis(self, uid: str) -> AnalysisView | None:
        record = finding.record_of(self.ledger, uid)
        if record is None:
            return None
        stored, trouble = self._stored(record)
        return analysis_view(
            record,
            {name: size for name, size in stored.items() if name not in KEPT},
            now=self.ledger.now(),
            start=_starts(self._forecast().estimates).get(record.uid) if not record.state.is_over else None,
            trouble=str(trouble) if trouble else None,
            no_retry=str(trouble) if isinstance(trouble, StorageAway) else self._no_retry(record, stored),
        )

    def _no_retry(self, record: Record, stored: Mapping[str, int]) -> str | None:
        """Why an analysis cannot be asked for again, if it is over and cannot."""
        if not record.state.is_over:
            return None
        try:
            return obstacle(self.settings, self.ledger, self._storage, record, stored)
        except SettingsError as error:
            return str(error)

    def retry(self, uid: str, *, by: str) -> str:
        """As :func:`drakcelery.operators.retry.retry`."""
        patient = Storage.connect(self.settings.s3, threads=1)  # it may take S3 a while to copy a sample
        return retry(self.settings, self.ledger, patient, uid, by=by)

    def _stored(self, record: Record) -> tuple[dict[str, int], StorageError | SettingsError | None]:
        """Sizes by name, and why they cannot be told."""
        bucket, prefix = self._bucket(record), f"{record.uid}/"
        # Nothing is stored before the upload; what a failed attempt has left there is of interest, too
        if bucket is None or not (record.state is State.UPLOADING or record.state.is_over):
            return {}, None
        try:
            found = self._storage.list(bucket, prefix)
        except (StorageError, SettingsError) as error:
            return {}, error
        names = {key.removeprefix(prefix): size for key, size in found.items()}
        return {name: size for name, size in names.items() if is_file_name(name)}, None


def _long(seconds: int) -> str:
    """A time in the largest unit that it is at least two of."""
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds} seconds"


def _starts(estimates: Mapping[str, Estimate]) -> dict[str, Range]:
    return {name: one.start for name, one in estimates.items() if one.start is not None}
