"""Uploads that begin while collect is still at work: each artifact goes to S3 as soon as it is complete.

What fails here is left to the stage upload, which uploads everything that the workspace does not note as
uploaded, and ``metadata.json`` last.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

import structlog

from drakcelery.artifacts.metadata import METADATA
from drakcelery.errors import StorageError
from drakcelery.host.workspace import Uploaded, Workspace
from drakcelery.model.manifest import Artifact, Manifest
from drakcelery.storage import Sending, Storage

log = structlog.get_logger(__name__)


class EarlyUpload:
    """The uploads of one collect."""

    def __init__(self, sending: Sending, bucket: str, out: Path, *, is_open: bool) -> None:
        """Unless *is_open*, nothing is uploaded."""
        self._is_open = is_open
        self._sending = sending
        self._bucket = bucket
        self._out = out
        self._begun: list[Artifact] = []

    def begin(self, artifact: Artifact) -> None:
        """Begin to upload a complete file; may be called from any thread."""
        if not self._is_open:
            return
        with self._left_to_upload():
            self._sending.put(artifact.name, self._out / artifact.name, sha256=artifact.sha256)
            self._begun.append(artifact)

    def finish(self) -> Uploaded:
        """Wait for all uploads that were begun; returns what is in S3. Raises what the check raises."""
        with self._left_to_upload():
            self._sending.finish()
        there = tuple(artifact for artifact in self._begun if artifact.name in self._sending.done)
        return Uploaded(bucket=self._bucket, objects=there)

    @contextlib.contextmanager
    def _left_to_upload(self) -> Iterator[None]:
        try:
            yield
        except StorageError as error:
            _left_to_upload(error)


def _left_to_upload(error: StorageError) -> None:
    log.info("left_to_upload", error=str(error))


@contextlib.contextmanager
def early_upload(
    storage: Storage, bucket: str, uid: str, workspace: Workspace, *, check: Callable[[], None]
) -> Iterator[EarlyUpload]:
    """Upload while collect works; *check* is called before each object.

    A ``metadata.json`` that an earlier run left is removed first: a mixture of two runs must not look
    complete.
    """
    is_open = True
    try:
        if storage.holds(bucket, f"{uid}/{METADATA}"):
            _remove(storage, bucket, uid, METADATA, check)
    except StorageError as error:
        _left_to_upload(error)
        is_open = False
    with storage.sending(bucket, uid, check=check, patient=False) as sending:
        yield EarlyUpload(sending, bucket, workspace.out, is_open=is_open)


def clear(
    storage: Storage, bucket: str, uid: str, *, keep: Collection[str], out: Path, check: Callable[[], None]
) -> dict[str, int]:
    """Remove what an earlier attempt, or an earlier life of the uid, has left; ``metadata.json`` first.

    Objects with names in *keep* stay, since they will be overwritten. Returns the sizes of what stays, by
    name. Raises :class:`StorageError`.
    """
    listed = storage.list(bucket, f"{uid}/")
    there = {key.removeprefix(f"{uid}/"): size for key, size in listed.items()}
    stays = set(keep)
    if METADATA in there and _is_ours(storage, bucket, uid, out / METADATA):
        stays.add(METADATA)  # it is of this very run, whose upload was interrupted at its end
    for name in sorted(there.keys() - stays, key=lambda name: (name != METADATA, name)):
        _remove(storage, bucket, uid, name, check)
    return {name: size for name, size in there.items() if name in stays}


def _is_ours(storage: Storage, bucket: str, uid: str, metadata: Path) -> bool:
    ours = metadata.read_bytes()
    return storage.peek(bucket, f"{uid}/{METADATA}", len(ours)) == (len(ours), ours)


def _remove(storage: Storage, bucket: str, uid: str, name: str, check: Callable[[], None]) -> None:
    check()
    storage.remove(bucket, f"{uid}/{name}")
    log.warning("object_of_another_run_removed", bucket=bucket, object=name)


def left(
    workspace: Workspace, manifest: Manifest, bucket: str, there: Mapping[str, int]
) -> tuple[Artifact, ...]:
    """The artifacts that still have to be uploaded; *there* holds the sizes of what is in S3, by name.

    An artifact is left out if collect has noted it with the same name, size and sha256, and it is *there*.
    """
    noted = workspace.load(Uploaded) if workspace.has(Uploaded) else None
    put = frozenset(noted.objects) if noted is not None and noted.bucket == bucket else frozenset()
    return tuple(
        artifact
        for artifact in manifest.artifacts
        if artifact not in put or there.get(artifact.name) != artifact.size
    )
