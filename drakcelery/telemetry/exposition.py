"""Serves a process' metrics to Prometheus: ``GET /metrics`` on the port in ``[metrics]``, and nothing else.

One request at a time, in one thread, so that nobody who reaches the port can make the process do more.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable
from socketserver import TCPServer
from typing import Any, Literal
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import structlog
from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    make_wsgi_app,
)

from drakcelery.errors import SettingsError
from drakcelery.settings import Settings
from drakcelery.telemetry import instruments, metrics

log = structlog.get_logger(__name__)

PATH = "/metrics"
REQUEST_SECONDS = 5
"""How long a client may take for its request, and for each piece of the answer."""

Role = Literal["ingress", "vm", "io"]
App = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def serve_worker(settings: Settings, role: Literal["vm", "io"]) -> None:
    """Serve a worker's metrics, if the settings ask for it. Must be called before its pool starts.

    Raises:
        SettingsError: the port of *role* cannot be had.
    """
    if settings.metrics.serve:
        metrics.relay()
        metrics.loss_limited(settings.watch.max_loss)
        serve(settings, role, instruments.WORKER)


def serve(
    settings: Settings, role: Role, registry: CollectorRegistry, *, before: Callable[[], None] | None = None
) -> None:
    """Serve *registry*, and what the operating system says of the process, if ``[metrics]`` says so.

    *before* is called before each answer. Raises :class:`SettingsError` if the port cannot be had.
    """
    section = settings.metrics
    if not section.serve:
        return
    port = {"ingress": section.ingress_port, "vm": section.vm_port, "io": section.io_port}[role]
    disable_created_metrics()  # type: ignore[no-untyped-call] # the client leaves this one untyped
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    server = listen(section.address, port, app(registry, before=before), setting=f"[metrics] {role}_port")
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    log.info("metrics_served", address=section.address, port=port)


def app(registry: CollectorRegistry, *, before: Callable[[], None] | None = None) -> App:
    """The WSGI application: :data:`PATH` and no other."""
    prometheus = make_wsgi_app(registry)

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"] != PATH:
            start_response("404 Not Found", [("Content-Type", "text/plain")])
            return [f"only {PATH} is here\n".encode()]
        if before is not None:
            before()
        body: Iterable[bytes] = prometheus(environ, start_response)
        return body

    return answer


def listen(address: str, port: int, application: App, *, setting: str) -> WSGIServer:
    """A server that has its port. Raises :class:`SettingsError`, which names *setting*."""
    try:
        found = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        kind = _Server6 if found[0][0] is socket.AF_INET6 else _Server
        return make_server(address, port, application, server_class=kind, handler_class=_Handler)
    except OSError as error:
        raise SettingsError(
            f"{setting} = {port}: cannot listen there on {address}: {error.strerror or error}; "
            "choose another port, or [metrics] serve = 0"
        ) from None


class _Server(WSGIServer):
    def server_bind(self) -> None:
        """As the base class, without asking DNS for the address' name, which may take long."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment] # str, int
        self.setup_environ()


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    timeout = REQUEST_SECONDS

    def log_message(self, *_: object) -> None:
        """Log nothing, since a request comes every few seconds."""
