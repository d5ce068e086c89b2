"""A small TCP proxy on loopback whose connections can be dropped: a bad network between two good programs."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Iterator
from types import TracebackType
from typing import Self

from tests.waiting import PATIENCE

LOOPBACK = "127.0.0.1"
CHUNK = 64 * 1024
NOWHERE = 1
"""A port on which nothing listens."""
UPLOAD = b"PUT "
"""How an upload begins."""
BYTE_SECONDS = 0.2


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
        self._server = asyncio.run_coroutine_threadsafe(listening, self._loop).result(PATIENCE)
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close everything."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(PATIENCE)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()

    def drop(self) -> int:
        """Cut every connection at once, whatever is on its way; returns how many there were."""
        return asyncio.run_coroutine_threadsafe(self._drop(), self._loop).result(PATIENCE)

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
            await asyncio.gather(self._pass_up(reader, far_writer), _pass_on(far_reader, writer))
        finally:
            self._open -= ends
            for end in ends:
                end.transport.abort()

    async def _pass_up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """From a client to the server."""
        await _pass_on(reader, writer)


class Uplink(Proxy):
    """A way to an HTTP server on which uploads crawl while it is :attr:`slow`, and nothing else does."""

    slow = False

    async def _pass_up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _pass_on(reader, writer, self._crawl)

    async def _crawl(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        """Write *data*; of an upload a byte at a time."""
        sent = 0
        while self.slow and sent < len(data) and data.startswith(UPLOAD):
            writer.write(data[sent : sent + 1])
            sent += 1
            await writer.drain()
            await asyncio.sleep(BYTE_SECONDS)
        writer.write(data[sent:])
        await writer.drain()


def _reset(end: asyncio.StreamWriter) -> None:
    """Close with a reset (a linger time of 0), which loses what is on its way."""
    end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    end.transport.abort()


async def _write(data: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(data)
    await writer.drain()


async def _pass_on(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    write: Callable[[bytes, asyncio.StreamWriter], Awaitable[None]] = _write,
) -> None:
    """One direction, until its sender says that it is done."""
    with contextlib.suppress(OSError):  # the connection is gone: so the other direction ends as well
        while data := await reader.read(CHUNK):
            await write(data, writer)
    writer.close()
