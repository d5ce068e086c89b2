"""A small TCP proxy on loopback whose connections can be dropped: a bad network between two good programs."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Self

LOOPBACK = "127.0.0.1"
CHUNK = 64 * 1024
NOWHERE = 1
"""A port on which nothing listens."""


class Proxy:
    """Passes bytes on to ``127.0.0.1:target`` from a port of its own, in a thread of its own."""

    def __init__(self, target: int) -> None:
        """*target* is the server's port; the server may come and go."""
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._open: set[asyncio.StreamWriter] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"proxy-{target}", daemon=True)
        self.dropped = 0
        """How many connections were dropped on purpose."""

    def __enter__(self) -> Self:
        """Listen; :attr:`port` says where."""
        self._thread.start()
        listening = asyncio.start_server(self._serve, LOOPBACK, 0)
        self._server = asyncio.run_coroutine_threadsafe(listening, self._loop).result(10)
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close everything."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def drop(self) -> int:
        """Cut every connection at once, whatever is on its way; returns how many there were."""
        return asyncio.run_coroutine_threadsafe(self._drop(), self._loop).result(10)

    @contextlib.contextmanager
    def cut(self) -> Iterator[None]:
        """Nobody comes through: every connection is cut, and each new one at once."""
        target, self._target = self._target, NOWHERE
        self.drop()
        try:
            yield
        finally:
            self._target = target

    async def _drop(self) -> int:
        cut = len(self._open) // 2  # each connection has two ends
        self.dropped += cut
        for end in self._open:
            _reset(end)
        return cut

    async def _close(self) -> None:
        self._server.close()
        for end in self._open:
            end.transport.abort()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(LOOPBACK, self._target)
        except OSError:
            _reset(writer)  # the server is away, and the client is to know
            return
        ends = {writer, far_writer}
        self._open |= ends
        try:
            await asyncio.gather(_pass_on(reader, far_writer), _pass_on(far_reader, writer))
        finally:
            self._open -= ends
            for end in ends:
                end.transport.abort()


def _reset(end: asyncio.StreamWriter) -> None:
    """Close with a reset (a linger time of 0), which loses what is on its way."""
    end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    end.transport.abort()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One direction, until its sender says that it is done."""
    with contextlib.suppress(OSError):  # the connection is gone: so the other direction ends as well
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
    writer.close()
