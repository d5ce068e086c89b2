"""What is stored of an earlier analysis: read, checked, and copied for another task."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from karton.core.resource import ResourceBase
from karton.core.task import Task

from drakcelery.artifacts.metadata import METADATA, metadata_file
from drakcelery.behaviour import report
from drakcelery.errors import BadTask, Unreadable
from drakcelery.host.workspace import LOG_NAME
from drakcelery.karton import kept, reading
from drakcelery.karton.analysis_task import STORED, stored_artifacts
from drakcelery.model.analysis import Analysis, Execution, ObjectRef
from drakcelery.model.manifest import Artifact, Manifest
from drakcelery.model.metadata import Metadata
from drakcelery.model.names import is_file_name
from drakcelery.model.reuse import Miss, NotReused
from drakcelery.stages.kept import Keeper, copy_resources, is_kept

MOST_BYTES = 1024**3
"""Of all artifacts together. To copy them takes seconds, in which no other task gets an earlier result."""
MOST_READ = 16 * 1024**2
"""Bytes of a file that is read as a whole: the analysis task, the report."""

Check = Callable[[], None]
"""Raises :class:`~drakcelery.errors.Superseded` once the task is somebody else's."""


@dataclass(frozen=True, kw_only=True)
class StoredAnalysis:
    """An analysis whose artifacts are all there."""

    uid: str
    bucket: str
    manifest: Manifest
    metadata: Metadata
    others: Mapping[str, int]
    """Sizes of what is copied and is in no task, by name."""


def find(keeper: Keeper, bucket: str, uid: str, *, task_uid: str | None) -> StoredAnalysis:
    """The stored analysis *uid*, which was published as *task_uid*.

    Raises:
        NotReused: something of it is gone or odd, or it is not whole.
        StorageError: S3 refuses.
    """
    prefix = f"{uid}/"
    there = {key.removeprefix(prefix): size for key, size in keeper.storage.list(bucket, prefix).items()}
    if METADATA not in there or STORED not in there:
        raise NotReused(Miss.GONE, f"the artifacts of analysis {uid} are gone")
    text = _read(keeper, bucket, prefix + STORED, there[STORED])
    try:
        task = reading.read_stored(text.decode())
        wanted = stored_artifacts(task, uid, bucket=bucket)
        manifest = _manifest(task, wanted)
        metadata = Metadata.model_validate(manifest.metadata)
    except (Unreadable, ValueError) as error:
        raise NotReused(Miss.GONE, f"what is stored of analysis {uid} is odd: {error}") from None
    gone = sorted(name for name, size in wanted.items() if there.get(name) != size or not is_file_name(name))
    if gone or task.uid != task_uid or metadata.analysis_uid != uid:
        what = f"{len(gone)} artifacts of analysis {uid} are" if gone else f"what was published of {uid} is"
        raise NotReused(Miss.GONE, f"{what} not what was published")
    if metadata.complete is not True or metadata.execution is not Execution.EXECUTED:
        raise NotReused(Miss.INCOMPLETE, f"the run of analysis {uid} was not complete")
    if sum(wanted.values()) > MOST_BYTES:
        raise NotReused(Miss.LARGE, f"analysis {uid} has more than {MOST_BYTES} bytes of artifacts")
    others = {LOG_NAME: there[LOG_NAME]} if LOG_NAME in there else {}
    return StoredAnalysis(uid=uid, bucket=bucket, manifest=manifest, metadata=metadata, others=others)


def is_of(keeper: Keeper, bucket: str, uid: str, task: Task) -> bool:
    """Whether what is stored under *uid* was made for *task*, by an ingress that then died."""
    try:
        size = keeper.storage.stat(bucket, f"{uid}/{STORED}")
        text = _read(keeper, bucket, f"{uid}/{STORED}", size or 0)
        found = reading.read_stored(text.decode())
    except (BadTask, NotReused, ValueError):
        return False
    metadata = found.payload.get("metadata")
    return found.parent_uid == task.uid and isinstance(metadata, dict) and "reused_from" in metadata


def _read(keeper: Keeper, bucket: str, key: str, size: int) -> bytes:
    if size > MOST_READ:
        raise NotReused(Miss.LARGE, f"{bucket}/{key} has more than {MOST_READ} bytes")
    return keeper.storage.copies.read(bucket, key, size=size)


def _manifest(task: Task, wanted: Mapping[str, int]) -> Manifest:
    """What collect had made. Raises ValueError."""
    digests = {
        value.name: value.sha256
        for name, value in task.payload.items()
        if name != "sample" and isinstance(value, ResourceBase)
    }
    return Manifest.model_validate(
        {
            "artifacts": [
                {"name": name, "size": size, "sha256": digests.get(name)} for name, size in wanted.items()
            ],
            "dumps_metadata": task.payload.get("dumps_metadata"),
            "metadata": task.payload.get("metadata"),
        }
    )


@dataclass(frozen=True, kw_only=True)
class Copy:
    """A stored analysis on its way to another uid."""

    keeper: Keeper
    source: StoredAnalysis
    analysis: Analysis
    """The new one."""
    check: Check

    @property
    def _bucket(self) -> str:
        return self.source.bucket

    def manifest(self) -> Manifest:
        """What the new analysis consists of; its report is written here, with its own uid.

        Raises as :meth:`complete`.
        """
        source = self.source.manifest
        artifacts = tuple(
            self._report(artifact) if artifact.name == report.NAME else artifact
            for artifact in source.artifacts
        )
        return Manifest(
            artifacts=artifacts,
            dumps_metadata=source.dumps_metadata,
            metadata={**self._renamed(source.metadata), "id": self.analysis.uid},
        )

    def _renamed(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        kept = {name: value for name, value in fields.items() if name != "retry_of"}
        return {**kept, "analysis_uid": self.analysis.uid, "reused_from": self.source.uid}

    def _report(self, artifact: Artifact) -> Artifact:
        key = f"{self.source.uid}/{artifact.name}"
        text = _read(self.keeper, self._bucket, key, artifact.size)
        if artifact.sha256 not in (None, hashlib.sha256(text).hexdigest()):
            raise NotReused(Miss.GONE, f"{self._bucket}/{key} is not what was published")
        try:
            data = orjson.dumps(self._renamed(orjson.loads(text)))
        except (ValueError, TypeError, AttributeError) as error:
            raise NotReused(Miss.GONE, f"{self._bucket}/{key} is no report: {error}") from None
        self._put(artifact.name, data)
        return Artifact(name=artifact.name, size=len(data), sha256=hashlib.sha256(data).hexdigest())

    def clear(self) -> None:
        """Remove what an earlier life of the uid has left, what says that it is complete first."""
        there = self.keeper.storage.list(self._bucket, f"{self.analysis.uid}/")
        for key in sorted(there, key=lambda key: not key.endswith(f"/{METADATA}")):
            self.check()
            self.keeper.storage.remove(self._bucket, key)

    def artifacts(self) -> None:
        """Copy what is the same for both. Raises as :meth:`complete`."""
        same = [one.name for one in self.source.manifest.artifacts if one.name != report.NAME]
        for name in (*same, *self.source.others):
            self.check()
            source = ObjectRef(bucket=self._bucket, key=f"{self.source.uid}/{name}", name=name)
            self.keeper.storage.copies.copy_unchecked(source, self._bucket, f"{self.analysis.uid}/{name}")

    def complete(self, manifest: Manifest, sample_task: Task, task: Task) -> None:
        """Store what is of the new analysis alone, make sure that all is there, and say that it is complete.

        Raises:
            NotReused: something is not there.
            StorageError: S3 refuses.
            Superseded: the task is somebody else's by now.
        """
        self._put(STORED, task.serialize().encode())
        if is_kept(self.keeper, self.analysis):
            self._put(kept.TASK, sample_task.serialize().encode())
            copy_resources(self.keeper, self.analysis, self._bucket, check=self.check)
        there = self.keeper.storage.list(self._bucket, f"{self.analysis.uid}/")
        for artifact in manifest.artifacts:
            if there.get(f"{self.analysis.uid}/{artifact.name}") != artifact.size:
                raise NotReused(Miss.GONE, f"the copy of {artifact.name} has another size")
        self._put(METADATA, metadata_file(manifest.metadata))

    def _put(self, name: str, data: bytes) -> None:
        self.check()
        self.keeper.storage.copies.put(self._bucket, f"{self.analysis.uid}/{name}", data, check=self.check)
