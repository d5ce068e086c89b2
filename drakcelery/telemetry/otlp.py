"""Spans on their way to an OpenTelemetry collector (OTLP over HTTP). The only importer of opentelemetry.

Nobody waits for the collector: a finished span goes into a bounded queue, and a thread sends what is there,
about once a second. While the collector is away, spans are lost, and the log says so once.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

import requests
import structlog
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from drakcelery.telemetry.spans import Key, Span, span_id, trace_id

log = structlog.get_logger(__name__)

QUEUED_SPANS = 2048
"""Spans that a process keeps while the collector is slow; further ones are lost."""
BATCH_SPANS = 256
GATHER_SECONDS = 1.0
"""How long a span may wait for others, so that they share a request."""
REQUEST_SECONDS = 10.0
"""Seconds for a batch, including repeats; then it is lost."""
STOP_SECONDS = 2.0
"""How long the end of a process waits for its last spans to be sent."""
_EXPORTERS = "opentelemetry.exporter"


class Spans:
    """Makes spans with given ids and sends them. Belongs to one process: make it after a fork, not before."""

    def __init__(
        self,
        endpoint: str,
        headers: Mapping[str, str],
        resource: Mapping[str, str],
        *,
        ca_file: Path | None = None,
    ) -> None:
        """*endpoint*: where spans are posted; *resource*: the attributes of every span of this process."""
        session = requests.Session()
        session.trust_env = False  # REQUESTS_CA_BUNDLE would override ca_file
        exporter = OTLPSpanExporter(
            endpoint=endpoint,
            session=session,
            certificate_file=str(ca_file) if ca_file else None,
            headers=dict(headers),
            timeout=REQUEST_SECONDS,
            compression=Compression.Gzip,
        )
        self._ids = _GivenIds()
        self._outbox = Outbox(exporter, endpoint)
        provider = TracerProvider(
            sampler=ALWAYS_ON,
            resource=Resource({**resource, "process.pid": os.getpid()}),
            shutdown_on_exit=False,
            id_generator=self._ids,
            span_limits=SpanLimits(),
        )
        provider.add_span_processor(self._outbox)
        self._tracer = provider.get_tracer("drakcelery", str(resource.get("service.version", "")))

    def emit(self, span: Span) -> None:
        """Send *span*, some time soon."""
        trace = trace_id(span.task_uid)

        def context(key: Key) -> SpanContext:
            one = span_id(span.task_uid, key)
            return SpanContext(trace, one, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))

        parent = Context()
        if span.parent is not None:
            parent = set_span_in_context(NonRecordingSpan(context(span.parent)), parent)
        self._ids.give(trace, span_id(span.task_uid, span.key))
        ours = self._tracer.start_span(
            span.name,
            context=parent,
            attributes=span.attributes,
            links=[Link(context(key)) for key in span.links],
            start_time=_nanoseconds(span.start),
        )
        if span.error is not None:
            ours.set_status(Status(StatusCode.ERROR, span.error))
        ours.end(_nanoseconds(max(span.start, span.end)))

    def close(self) -> None:
        """Send what is left, for :data:`STOP_SECONDS` at most."""
        self._outbox.shutdown()


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1_000_000) * 1000


class _GivenIds(IdGenerator):
    """Hands out the ids that :meth:`give` was given, to the same thread."""

    def __init__(self) -> None:
        self._next = threading.local()

    def give(self, trace_id: int, span_id: int) -> None:
        self._next.trace_id, self._next.span_id = trace_id, span_id

    def generate_trace_id(self) -> int:
        return int(self._next.trace_id)

    def generate_span_id(self) -> int:
        return int(self._next.span_id)


class Outbox(SpanProcessor):
    """The queue, and the thread that empties it.

    Not the SDK's ``BatchSpanProcessor``: that one waits for half a minute when it is shut down, has no bound
    for a flush, starts its thread again in every forked process, and logs each batch that fails.
    """

    def __init__(self, exporter: SpanExporter, endpoint: str) -> None:
        """*endpoint* is for the log."""
        self._exporter = exporter
        self._endpoint = endpoint
        self._waiting: deque[ReadableSpan] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._lost = 0
        self._away = False
        self._words = _Words.of_exporters()
        self._thread = threading.Thread(target=self._run, name="spans", daemon=True)

    def on_end(self, span: ReadableSpan) -> None:
        """Queue a finished span; never blocks."""
        with self._changed:
            if self._closing or len(self._waiting) >= QUEUED_SPANS:
                self._lost += 1
                return
            self._waiting.append(span)
            if self._thread.ident is None:
                self._thread.start()
            self._changed.notify_all()

    def shutdown(self) -> None:
        """Send what is left, within :data:`STOP_SECONDS`."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join(STOP_SECONDS)
        with self._changed:
            self._waiting.clear()  # what could not be sent by now is lost
        self._exporter.shutdown()

    def _run(self) -> None:
        while batch := self._next():
            self._send(batch)

    def _next(self) -> list[ReadableSpan]:
        """The spans to send now; none at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing)
            self._changed.wait_for(lambda: self._closing or len(self._waiting) >= BATCH_SPANS, GATHER_SECONDS)
            return [self._waiting.popleft() for _ in range(min(BATCH_SPANS, len(self._waiting)))]

    def _send(self, batch: Sequence[ReadableSpan]) -> None:
        self._words.text = ""
        if self._exporter.export(batch) is SpanExportResult.SUCCESS:
            if self._away:
                log.info("traces_sent_again", endpoint=self._endpoint, lost=self._lost)
            self._away, self._lost = False, 0
            return
        self._lost += len(batch)
        if not self._away:
            log.warning("traces_not_sent", endpoint=self._endpoint, error=self._words.text)
        self._away = True


class _Words(logging.Handler):
    """The exporter's first complaint about a batch; it repeats itself, and once is enough."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.text = ""

    @classmethod
    def of_exporters(cls) -> _Words:
        """The one of this process; exporters' messages go nowhere else."""
        logger = logging.getLogger(_EXPORTERS)
        words = next((one for one in logger.handlers if isinstance(one, cls)), None) or cls()
        logger.handlers[:] = [words]
        logger.propagate = False
        return words

    def emit(self, record: logging.LogRecord) -> None:
        self.text = self.text or record.getMessage()
