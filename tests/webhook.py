"""A server for notices, as an operator would run one: HTTPS, with a certificate of its own authority."""

from __future__ import annotations

import http.server
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.conftest import require

OK, REDIRECT, CLOSE, SLOW = 204, 302, 0, -1
"""What to do with a POST: answer with that status, close the connection, wait until the server ends."""


@dataclass(frozen=True, kw_only=True)
class Post:
    """A POST that came."""

    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Receiver:
    """What it has got, and what it does with what comes next."""

    port: int
    scheme: str
    posts: list[Post] = field(default_factory=list)
    """All that came, in their order, whatever was answered."""
    taken: list[Post] = field(default_factory=list)
    """Those that were answered with success."""
    plan: list[int] = field(default_factory=list)
    """One for each of the next; then *always*."""
    always: int = OK
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        """Where to send notices to."""
        return f"{self.scheme}://127.0.0.1:{self.port}/hook/path-key"


@contextmanager
def receiving(certificates: Path | None = None, *, name: str = "server") -> Iterator[Receiver]:
    """A server on loopback until the block ends; without *certificates* it speaks HTTP."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    if certificates is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates / f"{name}.pem", certificates / f"{name}.key")
        # In the threads: a client that refuses the certificate must not end the server
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    receiver = Receiver(port=server.server_address[1], scheme="https" if certificates else "http")
    _Handler.receivers[receiver.port] = receiver
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.over.set()
        server.shutdown()
        server.server_close()
        thread.join()
        del _Handler.receivers[receiver.port]


class _Handler(http.server.BaseHTTPRequestHandler):
    receivers: dict[int, Receiver] = {}  # noqa: RUF012 one class serves every server; by port

    def setup(self) -> None:
        self.request.settimeout(10)
        super().setup()

    def handle(self) -> None:
        try:
            super().handle()
        except OSError:  # a client that did not like our certificate, or our silence
            self.close_connection = True

    def do_POST(self) -> None:
        receiver = self.receivers[self.server.server_address[1]]  # type: ignore[index] # always (host, port) here
        body = self.rfile.read(int(self.headers["Content-Length"]))
        post = Post(path=self.path, headers=dict(self.headers), body=body)
        action = receiver.plan.pop(0) if receiver.plan else receiver.always
        if 200 <= action < 300:
            receiver.taken.append(post)
        receiver.posts.append(post)
        if action == SLOW:
            receiver.over.wait(60)
        if action in (SLOW, CLOSE):
            self.close_connection = True
            return
        self.send_response(action)
        if action == REDIRECT:
            self.send_header("Location", f"{receiver.url}/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def make_certificates(directory: Path) -> Path:
    """An authority (``ca.pem``), a server's certificate for 127.0.0.1, and one for another name."""
    openssl = shutil.which("openssl") or ""
    require(bool(openssl), "openssl is not installed")
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    _run(
        openssl,
        *("req", "-x509", *key, "-subj", "/CN=test authority", "-keyout", "ca.key", "-out", "ca.pem"),
        cwd=directory,
    )
    for name, subject in {"server": "IP:127.0.0.1", "other": "DNS:elsewhere.example"}.items():
        _run(
            openssl,
            *("req", "-x509", *key, "-CA", "ca.pem", "-CAkey", "ca.key", "-subj", f"/CN={name}"),
            *("-addext", f"subjectAltName={subject}", "-addext", "basicConstraints=critical,CA:FALSE"),
            *("-keyout", f"{name}.key", "-out", f"{name}.pem"),
            cwd=directory,
        )
    return directory


def _run(*command: str, cwd: Path) -> None:
    subprocess.run(command, cwd=cwd, check=True, capture_output=True)
