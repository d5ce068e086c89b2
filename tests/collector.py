"""What an OpenTelemetry collector understands of what it is sent: OTLP over HTTP, protobuf in gzip."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as WireSpan
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from tests.webhook import Post

PATH = "/v1/traces"


@dataclass(frozen=True, kw_only=True)
class Span:
    """A span as the collector has it. Ids are hex, times UNIX times in seconds."""

    name: str
    trace: str
    id: str
    parent: str
    """Empty for a root."""
    start: float
    end: float
    attributes: dict[str, str | int]
    links: tuple[str, ...]
    failed: bool
    message: str
    resource: dict[str, str | int]

    def __getitem__(self, name: str) -> str | int:
        """An attribute of ours."""
        return self.attributes[f"drakcelery.{name}"]


def spans(posts: Iterable[Post]) -> list[Span]:
    """All spans in *posts*, in the order in which they began."""
    return sorted((span for post in posts for span in _spans(post)), key=lambda span: span.start)


def header(post: Post, name: str) -> str | None:
    """A header of a request; how it is written does not matter in HTTP."""
    return next((value for key, value in post.headers.items() if key.lower() == name.lower()), None)


def _spans(post: Post) -> Iterator[Span]:
    assert post.path == PATH
    assert header(post, "Content-Type") == "application/x-protobuf"
    assert header(post, "Content-Encoding") == "gzip"
    request = ExportTraceServiceRequest.FromString(gzip.decompress(post.body))
    for group in request.resource_spans:
        resource = _attributes(group.resource.attributes)
        for scope in group.scope_spans:
            assert scope.scope.name == "drakcelery"
            yield from (_span(span, resource) for span in scope.spans)


def _span(span: WireSpan, resource: dict[str, str | int]) -> Span:
    return Span(
        name=span.name,
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        start=span.start_time_unix_nano / 1e9,
        end=span.end_time_unix_nano / 1e9,
        attributes=_attributes(span.attributes),
        links=tuple(link.span_id.hex() for link in span.links),
        failed=span.status.code == Status.STATUS_CODE_ERROR,
        message=span.status.message,
        resource=resource,
    )


def _attributes(pairs: Iterable[KeyValue]) -> dict[str, str | int]:
    return {pair.key: getattr(pair.value, str(pair.value.WhichOneof("value"))) for pair in pairs}
