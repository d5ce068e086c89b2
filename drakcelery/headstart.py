"""Uploads that begin while collect is still at work: each artifact goes to S3 as soon as it is complete.

That is a head start and no more. What fails is left to the stage upload, which puts whatever is not noted
in the workspace as there, and ``metadata.json`` last.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import structlog

from drakcelery.analysis import Artifact, Manifest
from drakcelery.errors import StorageError
from drakcelery.storage import Sending, Storage
from drakcelery.workspace import Uploaded, Workspace

log = structlog.get_logger(__name__)


class HeadStart:
    """The uploads of one collect."""

    def __init__(self, sending: Sending, bucket: str, out: Path) -> None:
        self._sending = sending
        self._bucket = bucket
        self._out = out
        self._begun: list[Artifact] = []

    def begin(self, artifact: Artifact) -> None:
        """Begin to put a file that is complete; from any thread."""
        with self._left_to_upload():
            self._sending.put(artifact.name, self._out / artifact.name, sha256=artifact.sha256)
            self._begun.append(artifact)

    def finish(self) -> Uploaded:
        """Wait for all that was begun; returns what is there. Raises what the check raises."""
        with self._left_to_upload():
            self._sending.finish()
        there = tuple(artifact for artifact in self._begun if artifact.name in self._sending.done)
        return Uploaded(bucket=self._bucket, objects=there)

    @contextlib.contextmanager
    def _left_to_upload(self) -> Iterator[None]:
        try:
            yield
        except StorageError as error:
            log.info("left_to_upload", error=str(error))


@contextlib.contextmanager
def head_start(
    storage: Storage, bucket: str, uid: str, workspace: Workspace, *, check: Callable[[], None]
) -> Iterator[HeadStart]:
    """For the time of a collect; *check* is called before each object."""
    with storage.sending(bucket, uid, check=check, patient=False) as sending:
        yield HeadStart(sending, bucket, workspace.out)


def left(workspace: Workspace, manifest: Manifest, bucket: str) -> tuple[Artifact, ...]:
    """The artifacts that are still to be put: there is what has the same name, size and sha256."""
    noted = workspace.load(Uploaded) if workspace.has(Uploaded) else None
    there = frozenset(noted.objects) if noted is not None and noted.bucket == bucket else frozenset()
    return tuple(artifact for artifact in manifest.artifacts if artifact not in there)
