"""The embedded stack's stop: quick, and without loss of what was acknowledged."""

from __future__ import annotations

import io
import os
import signal
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
import urllib3
from minio.error import MinioException

from drakcelery.embedded.services import BUCKET, Services
from tests.objects import client_of
from tests.waiting import wait_until

pytestmark = pytest.mark.usefixtures("server_programs")

SIZES = (0, 1000, 100_000, 5_000_000)
"""Bytes of an object: none, one chunk, more than one (weed's are of 4 MiB)."""


class Writer(threading.Thread):
    """Writes, replaces and removes objects until S3 is gone; remembers what S3 acknowledged."""

    def __init__(self, services: Services) -> None:
        super().__init__()
        self.contents: dict[str, bytes | None] = {}
        """By name: what is there, None: it was removed."""
        self.doubtful: str | None = None
        """The object that was written when S3 went: it may be there or not."""
        self._client = client_of(services.s3, again=False)

    def run(self) -> None:
        """Every fifth object is another version of one before, every seventh removes one."""
        number = 0
        while True:
            number += 1
            name = self.doubtful = f"object-{number - 3 if number % 5 == 0 else number}"
            content = os.urandom(SIZES[number % len(SIZES)])
            try:
                self._client.put_object(BUCKET, name, io.BytesIO(content), len(content))
                self.contents[name] = content
                if number % 7 == 0:
                    self._client.remove_object(BUCKET, name)
                    self.contents[name] = None
            except (MinioException, urllib3.exceptions.HTTPError):
                return


@pytest.mark.parametrize("is_deaf", [False, True], ids=["ends", "hangs"])
def test_a_stop_is_quick_and_loses_nothing(tmp_path: Path, is_deaf: bool) -> None:
    """In mid-write: what was acknowledged is there after the next start, whether weed ends or is killed."""
    with Services(tmp_path) as services:
        writer = Writer(services)
        writer.start()
        wait_until(lambda: len(writer.contents) >= 40, "objects are written")
        if is_deaf:
            os.kill(services.pids["SeaweedFS"], signal.SIGSTOP)
        began = time.monotonic()
    took = time.monotonic() - began
    writer.join(30)
    assert not writer.is_alive()
    assert took < 8  # seconds; 3 of SeaweedFS
    with Services(tmp_path) as services:
        there = client_of(services.s3)  # what SeaweedFS has not found yet is an internal error at first
        names = {found.object_name for found in there.list_objects(BUCKET)} - {writer.doubtful}
        assert names == {
            name
            for name, content in writer.contents.items()
            if content is not None and name != writer.doubtful
        }
        for name in names:
            with closing(there.get_object(BUCKET, str(name))) as response:
                assert response.read() == writer.contents[str(name)]
