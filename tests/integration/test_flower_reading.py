"""What Flower's pages read: a slow S3 keeps those waiting that ask S3, and nobody else."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from drakcelery.embedded.ports import LOOPBACK
from drakcelery.flower.reading import Reader
from tests.bench import HOST, Bench, bench
from tests.ledgers import inbox_of
from tests.operating import fleet

__all__ = ("bench", "fleet")


@pytest.fixture
def stuck() -> Iterator[socket.socket]:
    """An S3 that takes connections and never answers; its backlog bounds how many."""
    with contextlib.closing(socket.create_server((LOOPBACK, 0))) as server:
        yield server


def test_the_fleet_page_does_not_wait_for_storage(fleet: Bench, stuck: socket.socket) -> None:
    """It is read while the page of an analysis hangs at S3; once S3 is gone, that page says so."""
    ours = fleet.context.settings
    s3 = ours.s3.model_copy(update={"address": f"http://{LOOPBACK}:{stuck.getsockname()[1]}"})

    async def look(reader: Reader) -> None:
        loop = asyncio.get_running_loop()
        hanging = asyncio.ensure_future(reader.analysis("over-1"))
        connection, _ = await loop.run_in_executor(None, stuck.accept)
        with connection:
            view = await reader.fleet()
            assert HOST in view.model_dump_json()
            assert not hanging.done()
            stuck.close()
        page = await hanging
        assert page is not None
        assert "does not answer as it should" in (page.trouble or "")

    with ThreadPoolExecutor(1) as executor, ThreadPoolExecutor(1) as remote:
        reader = Reader(
            settings=ours.model_copy(update={"s3": s3}),
            ledger=fleet.ledger,
            inbox=inbox_of(fleet.ledger),
            executor=executor,
            remote=remote,
        )
        asyncio.run(look(reader))
