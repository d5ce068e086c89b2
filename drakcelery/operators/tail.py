"""Follows an analysis from any machine: its changes in the ledger, and its log, wherever that is.

While a host has the analysis, its log is a file there (``drakrun.log`` in the workspace), and the host's
workers are asked for its lines by remote control, in pieces of bounded size. Once it is over, the log is in
the bucket.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from celery import Celery

from drakcelery.errors import BadTask
from drakcelery.host.workspace import LOG_NAME
from drakcelery.ledger import Ledger
from drakcelery.model.analysis import ObjectRef, State
from drakcelery.model.records import Record
from drakcelery.operators import analyses, steering
from drakcelery.settings import Settings
from drakcelery.storage import Storage

POLL_SECONDS = 1.0
ANSWER_SECONDS = 2
KEEPING_SECONDS = 10.0
"""Seconds after a failure for which the log may still be on its way to the bucket."""
MOST_LOG = 64 * 1024 * 1024
"""Bytes of a stored log that are read."""

Event = dict[str, Any]
"""A line of the log, or a change in the ledger in the same form: ``created``, ``levelname``, ``action``, …"""


@dataclass(kw_only=True)
class Tail:
    """One analysis, and how much of it was seen."""

    settings: Settings
    ledger: Ledger
    app: Celery
    storage: Storage
    uid: str
    poll: Callable[[float], object] = time.sleep
    attempt: int = 0
    """The attempt whose log is being read."""
    offset: int = 0
    """Bytes of its log that were shown."""
    _told: int = 0
    """Failures that were shown."""
    _state: tuple[State | None, int, str | None] | None = field(default=None, init=False)

    def events(self, *, follow: bool) -> Iterator[Event]:
        """The events so far; with *follow*, until the analysis is over.

        Raises:
            StackError: the broker is away.
            StorageError: S3 cannot be read.
        """
        while True:
            record = self.ledger.get(self.uid)
            if record is not None and record.state.is_over:
                yield from self._stored(record)
                yield from self._changes(record)
                return
            yield from self._changes(record)
            if record is not None and record.host is not None:
                yield from self._live(record)
            if not follow:
                return
            self.poll(POLL_SECONDS)

    def _changes(self, record: Record | None) -> Iterator[Event]:
        """What has changed in the ledger."""
        state = (record.state, record.attempts, record.host) if record else (None, 0, None)
        if state == self._state:
            return
        self._state = state
        if record is None:
            yield _event("waits in Karton", self.ledger.now())
            return
        for failure in record.failures[self._told :]:
            yield _event("attempt_failed", failure.at, level="WARNING", error=failure.sentence())
        self._told = len(record.failures)
        at = record.finished or record.entered.get(record.state, record.updated)
        told = {"host": record.host, "slot": record.slot, "error": record.refusal}
        yield _event(
            record.state.value.lower(),
            at,
            attempt=record.attempts,
            **{name: value for name, value in told.items() if value is not None},
        )

    def _live(self, record: Record) -> Iterator[Event]:
        """New lines of the log, from the host that has it."""
        while answer := self._ask(record):
            if answer["attempt"] != self.attempt:
                self.attempt, self.offset = answer["attempt"], 0
            if not answer["lines"]:
                return
            self.offset = answer["offset"]
            yield from map(_parsed, answer["lines"])

    def _ask(self, record: Record) -> dict[str, Any] | None:
        """The io worker is asked first: it is the one that does not run as root."""
        for role in ("io", "vm"):
            answer = steering.ask(
                self.app,
                f"{role}@{record.host}",
                "analysis_log",
                timeout=ANSWER_SECONDS,
                uid=self.uid,
                offset=self.offset,
                attempt=self.attempt,
            )
            if answer is not None:
                return answer
        return None

    def _stored(self, record: Record) -> Iterator[Event]:
        """The rest of the log, from the bucket. There is none if the analysis was cancelled."""
        bucket = analyses.bucket_of(self.settings, record)
        if bucket is None:
            return
        key = f"{record.uid}/{LOG_NAME}"
        while self.storage.stat(bucket, key) is None:
            if (
                record.state is not State.FAILED
                or self.ledger.now() - (record.finished or 0) > KEEPING_SECONDS
            ):
                return
            self.poll(POLL_SECONDS)
        with tempfile.TemporaryDirectory(prefix="drakcelery-") as directory:
            path = Path(directory) / LOG_NAME
            try:
                self.storage.download(
                    ObjectRef(bucket=bucket, key=key, name=LOG_NAME), path, max_size=MOST_LOG
                )
            except BadTask:
                return  # it was removed just now, by age
            with path.open("rb") as file:
                file.seek(self.offset if record.attempt == self.attempt else 0)
                yield from (_parsed(line.decode(errors="replace").rstrip("\n")) for line in file)


def _event(action: str, created: float, *, level: str = "INFO", **more: object) -> Event:
    return {"created": created, "levelname": level, "action": action, **more}


def _parsed(line: str) -> Event:
    """A line of the log. Anything else, or a piece of a line, is shown as it is."""
    try:
        event = json.loads(line)
    except ValueError:
        event = None
    return event if isinstance(event, dict) else _event(line, 0.0)
