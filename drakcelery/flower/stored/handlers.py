"""Artifacts for whoever may see the page of their analysis."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import TypeVar

import structlog
import tornado.web
from tornado.iostream import StreamClosedError

from drakcelery.errors import DrakceleryError
from drakcelery.flower.kinds import Data, sentences
from drakcelery.flower.stored.archive import archive
from drakcelery.flower.stored.reading import Stored

T = TypeVar("T")

MOST_ARCHIVES = 4
"""Zips that are sent at the same time, each with a piece in memory."""
log = structlog.get_logger(__name__)


class OfArtifacts(Data):
    """A handler that reads artifacts."""

    async def stored(self, uid: str, read: Callable[[Stored], T]) -> T:
        """What *read* says about the artifacts of an analysis; an answer that says why there are none."""
        with sentences():
            found = await self.blocking(lambda: self.reader.stored(uid))
            if found is None:
                raise tornado.web.HTTPError(404, "The ledger has no analysis of this uid")
            return await self.blocking(lambda: read(found), remote=True)

    def number(self, name: str) -> int | None:
        """A byte that the address names; 400 if it is none."""
        text = self.get_query_argument(name, "")
        if not text:
            return None
        if not text.isdecimal() or len(text) > 15:
            raise tornado.web.HTTPError(400, f"{name}: expected a number of bytes")
        return int(text)


class Text(OfArtifacts):
    """``/analysis/<uid>/text/<name>?start=0``, or ``?before=65536``: some lines of an artifact."""

    @tornado.web.authenticated
    async def get(self, uid: str, name: str) -> None:
        """A piece of it."""
        start, before = self.number("start"), self.number("before")
        await self.send_json(await self.stored(uid, lambda one: one.text(name, start=start, before=before)))


class Archive(OfArtifacts):
    """``/analysis/<uid>/artifacts.zip``: all of them, read while they are sent."""

    @tornado.web.authenticated
    async def get(self, uid: str) -> None:
        """Stream it; a connection that ends before the zip does tells the browser that it is none."""
        sizes, read = await self.stored(uid, lambda one: (one.sizes, one.read))
        if not sizes:
            raise tornado.web.HTTPError(404, "Nothing is stored of this analysis")
        if self.application.archives >= MOST_ARCHIVES:
            raise tornado.web.HTTPError(503, f"{MOST_ARCHIVES} zips are being sent; try again later")
        self.set_header("Content-Type", "application/zip")
        self.set_header("Content-Disposition", f'attachment; filename="{uid}.zip"')
        self.application.archives += 1
        try:
            await self._send(archive(sizes, read, folder=uid), uid)
        finally:
            self.application.archives -= 1

    async def _send(self, pieces: Iterator[bytes], uid: str) -> None:
        loop, executor = asyncio.get_running_loop(), self.application.remote
        try:
            while (piece := await loop.run_in_executor(executor, next, pieces, None)) is not None:
                self.write(piece)
                await self.flush()
        except StreamClosedError:
            return  # nobody wants it any more
        except DrakceleryError as error:
            log.warning("zip_broken_off", uid=uid, error=str(error))
            self.detach().close()


class Screenshots(OfArtifacts):
    """``/analysis/<uid>/screenshots``: their names."""

    @tornado.web.authenticated
    async def get(self, uid: str) -> None:
        """A list."""
        await self.finish({"names": list(await self.stored(uid, Stored.screenshots))})


class Screenshot(OfArtifacts):
    """``/analysis/<uid>/screenshot/<name>``: an image, and nothing else even if it were."""

    @tornado.web.authenticated
    async def get(self, uid: str, name: str) -> None:
        """The image."""
        data = await self.stored(uid, lambda one: one.screenshot(name))
        self.set_header("Content-Type", "image/png")
        self.set_header("Content-Security-Policy", "default-src 'none'; sandbox")
        await self.finish(data)


class LiveLog(OfArtifacts):
    """``/analysis/<uid>/live?after=0``: the log while the analysis is under way."""

    @tornado.web.authenticated
    async def get(self, uid: str) -> None:
        """What is new; nothing more once it is over, as the log is an artifact then."""
        reader, after = self.reader, self.number("after") or 0
        with sentences():
            tail = await self.blocking(lambda: reader.tail(uid, self.capp))
            if tail is None:
                raise tornado.web.HTTPError(404, "No analysis of this uid is under way")
            lines = await self.application.live_logs.get(uid, after, lambda: reader.following(tail))
        await self.send_json(lines)
