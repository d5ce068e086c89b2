"""Certificates made by openssl, and a TLS server in front of one that speaks none."""

from __future__ import annotations

import contextlib
import select
import socket
import socketserver
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from drakcelery.embedded.ports import LOOPBACK


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """A certificate and its key, as files in PEM form."""

    crt: Path
    key: Path


class Authority:
    """Who issues certificates."""

    def __init__(self, directory: Path, name: str = "authority") -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._own = Certificate(crt=directory / f"{name}.crt", key=directory / f"{name}.key")
        self._openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"),
            *("-subj", f"/CN={name}", "-keyout", str(self._own.key), "-out", str(self._own.crt)),
            *("-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=keyCertSign,cRLSign"),
        )

    @property
    def crt(self) -> Path:
        """What those have to trust whom it issues certificates."""
        return self._own.crt

    def issue(self, name: str, *, whose: str = f"IP:{LOOPBACK}", days: int = 2) -> Certificate:
        """A certificate for the server or client *whose*; with 0 *days* it has expired."""
        made = Certificate(crt=self._directory / f"{name}.crt", key=self._directory / f"{name}.key")
        request, extensions = self._directory / f"{name}.csr", self._directory / f"{name}.ext"
        extensions.write_text(f"subjectAltName={whose}\n", encoding="utf-8")
        self._openssl(
            *("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-subj", f"/CN={name}", "-keyout", str(made.key), "-out", str(request)),
        )
        self._openssl(
            *("x509", "-req", "-in", str(request), "-CA", str(self._own.crt), "-CAkey", str(self._own.key)),
            *("-CAcreateserial", "-days", str(days), "-extfile", str(extensions), "-out", str(made.crt)),
        )
        return made

    @staticmethod
    def _openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True)  # noqa: S607 our own arguments


class _Front(socketserver.ThreadingTCPServer):
    """Speaks TLS, and passes on what it hears to a server on this machine."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, port: int, own: Certificate, clients: Path | None) -> None:
        self.upstream = port
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.context.load_cert_chain(own.crt, own.key)
        if clients is not None:
            self.context.verify_mode = ssl.CERT_REQUIRED
            self.context.load_verify_locations(clients)
        super().__init__((LOOPBACK, 0), _Connection)


class _Connection(socketserver.BaseRequestHandler):
    """One connection. One thread for both directions: no two may use OpenSSL's state at once."""

    server: _Front
    request: socket.socket

    def handle(self) -> None:
        """Until one side ends."""
        kept = self.request.dup()  # a failed handshake closes the other one
        with kept:
            try:
                client = self.server.context.wrap_socket(self.request, server_side=True)
            except (ssl.SSLError, ConnectionError):
                _linger(kept)
                return
        with (
            client,
            socket.create_connection((LOOPBACK, self.server.upstream)) as server,
            contextlib.suppress(ConnectionError, ssl.SSLError),
        ):
            while _passed_on(client, server):
                pass


def _passed_on(client: ssl.SSLSocket, server: socket.socket) -> bool:
    """Pass on what is there next; False at an end."""
    ready = [client] if client.pending() else select.select([client, server], [], [])[0]
    for one in ready:
        data = one.recv(1 << 16)
        if not data:
            return False
        (server if one is client else client).sendall(data)
    return True


def _linger(refused: socket.socket) -> None:
    """Let the client read why: data of it that nobody has read would end the connection before that."""
    with contextlib.suppress(OSError):
        refused.shutdown(socket.SHUT_WR)
        while refused.recv(1 << 16):
            pass


@contextlib.contextmanager
def front(port: int, own: Certificate, *, clients: Path | None = None) -> Iterator[int]:
    """The port of a TLS server before the one on *port*. *clients*: who issues what its clients show."""
    with _Front(port, own, clients) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield int(server.server_address[1])
        server.shutdown()
        thread.join()
