"""A proxy before S3 that spoils what it is told to spoil."""

from __future__ import annotations

import re
import socket
import socketserver
import threading
from collections.abc import Callable

from drakcelery.embedded.ports import LOOPBACK

_REQUEST = re.compile(rb"(?:GET|PUT|POST|HEAD|DELETE) \S+ HTTP/1\.1\r\n")


class Proxy:
    """Passes TCP on to S3, and spoils what it is told to spoil."""

    def __init__(self, address: str) -> None:
        host, _, port = address.removeprefix("http://").rpartition(":")
        self.upstream = (host, int(port))
        self.requests: list[str] = []
        """Method and path with query of every request, in order."""
        self.drops: Callable[[str], bool] = lambda _request: False
        """Whether the connection breaks at this request."""
        self.request_data: Callable[[bytes], bytes] = lambda data: data
        self.response_data: Callable[[bytes], bytes | None] = lambda data: data
        """None: the connection breaks."""
        proxy = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                proxy.serve(self.request)

        self._server = socketserver.ThreadingTCPServer((LOOPBACK, 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.address = f"http://{LOOPBACK}:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def serve(self, client: socket.socket) -> None:
        """One connection."""
        with socket.create_connection(self.upstream) as server:
            answers = threading.Thread(target=self._answer, args=(server, client), daemon=True)
            answers.start()
            self._pump(client, server, self._ask)
            for end in (client, server):
                _shut(end)
            answers.join()

    def _answer(self, server: socket.socket, client: socket.socket) -> None:
        self._pump(server, client, self.response_data)
        _shut(client)

    def _pump(
        self, source: socket.socket, target: socket.socket, change: Callable[[bytes], bytes | None]
    ) -> None:
        try:
            while (data := source.recv(65536)) and (changed := change(data)) is not None:
                target.sendall(changed)
        except OSError:
            return  # the other end is gone, which ends this connection

    def _ask(self, data: bytes) -> bytes | None:
        for line in _REQUEST.findall(data):
            method, path, _ = line.decode().split(" ")
            self.requests.append(f"{method} {path}")
            if self.drops(f"{method} {path}"):
                return None
        return self.request_data(data)


def _shut(end: socket.socket) -> None:
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it was shut already
