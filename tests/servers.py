"""The session's servers, for fleets one after the other: starting and stopping a pair takes seconds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import redis
from minio import Minio
from minio.deleteobjects import DeleteObject

from drakcelery.embedded.services import Services


@contextmanager
def lent(services: Services) -> Iterator[Services]:
    """The servers as if they were new, and for nobody else meanwhile: no key, no object; nor after it.

    Not for who stops them, or changes how they work.
    """
    _empty(services)
    try:
        yield services
    finally:
        _empty(services)


def _empty(services: Services) -> None:
    with redis.Redis.from_url(services.redis.address()) as client:
        client.flushall()
    section = services.s3
    assert section.secret_key is not None
    storage = Minio(
        section.address.removeprefix("http://"),
        access_key=section.access_key,
        secret_key=section.secret_key.get_secret_value(),
        secure=False,
    )
    for bucket in storage.list_buckets():
        names = [str(found.object_name) for found in storage.list_objects(bucket.name, recursive=True)]
        failed = list(storage.remove_objects(bucket.name, [DeleteObject(name) for name in names]))
        assert not failed, failed
