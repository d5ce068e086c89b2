"""Links to artifacts: who has one may download for a while, and a browser saves what it gets."""

from __future__ import annotations

import urllib.error
import urllib.request
import uuid
from email.message import Message

import pytest

from drakcelery.embedded.services import Services
from drakcelery.errors import StorageError
from drakcelery.storage import Storage
from tests.objects import put_bytes
from tests.waiting import wait_until

PAGE = b"<script>alert('had')</script>"


@pytest.fixture
def storage(services: Services) -> Storage:
    """A storage on the session's S3."""
    return Storage.connect(services.s3, threads=1)


@pytest.fixture
def bucket(storage: Storage) -> str:
    """A bucket with one object that a browser would run."""
    name = f"links-{uuid.uuid4().hex[:8]}"
    storage.ensure_bucket(name)
    put_bytes(storage, name, "a/page.html", PAGE)
    return name


def download(link: str) -> tuple[int, Message, bytes]:
    """As somebody without credentials."""
    try:
        with urllib.request.urlopen(link, timeout=30) as response:  # noqa: S310 - our own S3
            return response.status, response.headers, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


def test_link(storage: Storage, bucket: str) -> None:
    """A link needs no credentials, and gives a file to save under its name, whatever is in it."""
    status, headers, body = download(storage.link(bucket, "a/page.html", name="page.html", seconds=60))
    assert (status, body) == (200, PAGE)
    assert headers["Content-Disposition"] == 'attachment; filename="page.html"'
    assert headers["Content-Type"] == "application/octet-stream"


def test_link_ends(storage: Storage, bucket: str) -> None:
    """A link is good for the time that was asked for, and not for another object."""
    link = storage.link(bucket, "a/page.html", name="page.html", seconds=1)
    assert download(link.replace("page.html", "other.html", 1))[0] == 403
    wait_until(lambda: download(link)[0] == 403, "the link has ended")


@pytest.mark.parametrize("name", ['a";filename="b', "../a", "", "a\r\nX: y"])
def test_link_of_no_file_name(storage: Storage, name: str) -> None:
    """What no file can be called gets no link: the name stands in a header."""
    with pytest.raises(StorageError, match="no file can be called"):
        storage.link("links", "a/page.html", name=name, seconds=60)
