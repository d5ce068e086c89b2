"""The analysis task: what Karton gets when an analysis is finished.

Pure. Facts about Karton 5.9 are from ``karton.core.task`` and ``karton.core.karton``."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from typing import Any

from karton.core.resource import RemoteResource, ResourceBase
from karton.core.task import Task

from drakcelery.errors import Unreadable
from drakcelery.karton.contract import payload
from drakcelery.karton.kept import KEPT
from drakcelery.model.analysis import Analysis
from drakcelery.model.manifest import Artifact, Manifest


def artifact_resource(artifact: Artifact, *, bucket: str, uid: str) -> RemoteResource:
    """The Karton resource of an uploaded artifact: key ``<analysis uid>/<name>``."""
    return RemoteResource(
        name=artifact.name,
        bucket=bucket,
        uid=f"{uid}/{artifact.name}",
        size=artifact.size,
        sha256=artifact.sha256,
        metadata={"sha256": artifact.sha256},
        _flags=[RemoteResource.DIRECTORY_FLAG] if artifact.name in DIRECTORIES else None,
    )


DIRECTORIES = frozenset({"profiles"})
"""Artifacts that are directories to Karton: zips whose resource is marked as a directory."""


STORED = "analysis_task.json"
"""The analysis task beside its artifacts, for when it is sent again: by then Karton has collected it, and the
sample task with the headers that say who may see the sample."""
UNPUBLISHED = frozenset({"metadata.json", "drakrun.log", STORED, *KEPT})
"""Artifacts that are in the bucket but not in the payload of the analysis task."""
FROM_SAMPLE_TASK = frozenset({"sample", "testcase"})
"""Fields of the analysis task that are the sample task's own, persistent where they are so there."""


def analysis_task_uid(analysis: Analysis, attempt: int) -> str:
    """The uid of the analysis task, the same at each call.

    It is needed twice: for a test sample, upload declares the task before it uploads, and publish sends it.
    """
    own = uuid.uuid5(uuid.NAMESPACE_URL, f"drakcelery:{analysis.task_uid}:{analysis.uid}:{attempt}")
    return f"{{{analysis.root_uid}}}:{own}"


def build_analysis_task(
    sample_task: Task,
    analysis: Analysis,
    manifest: Manifest,
    *,
    attempt: int,
    headers: Mapping[str, Any],
    bucket: str,
    identity: str,
    now: float | None = None,
) -> Task:
    """The analysis task of CONTRACT: *Out*, as ``Producer.send_task`` would have completed it.

    Parent, root uid, priority, persistent headers and persistent payload come from *sample_task*, as in
    ``karton.core.karton.Producer.send_task``; *now* is as in :func:`finished`. But a persistent field by the
    name of one of the analysis' own is not carried on: Karton would put it in the place of that one.
    """
    fields = _payload(sample_task, analysis, manifest, bucket=bucket)
    task = Task(
        headers={**headers, "quality": analysis.quality},
        uid=analysis_task_uid(analysis, attempt),
        root_uid=sample_task.root_uid,
        payload=dict(fields),
        priority=sample_task.priority,
    )
    task.set_task_parent(sample_task)
    task.merge_persistent_payload(sample_task)
    for name in fields.keys() - FROM_SAMPLE_TASK:
        task.payload_persistent.pop(name, None)
        task.payload[name] = fields[name]
    task.merge_persistent_headers(sample_task)
    task.last_update = time.time() if now is None else now
    task.headers.update({"origin": identity})
    return task


def _payload(sample_task: Task, analysis: Analysis, manifest: Manifest, *, bucket: str) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "sample": payload(sample_task, "sample"),
        "dumps_metadata": [dict(entry) for entry in manifest.dumps_metadata],
        "metadata": manifest.metadata,
        "analysis_uid": analysis.uid,
    }
    for artifact in manifest.artifacts:
        if artifact.name not in UNPUBLISHED:
            fields[artifact.name] = artifact_resource(artifact, bucket=bucket, uid=analysis.uid)
    if "dumps.pcap" in fields:
        # The documentation says dumps.pcap, but karton-pcap-miner and others read dump.pcap
        fields["dump.pcap"] = fields["dumps.pcap"]
    if analysis.is_test:
        fields["testcase"] = payload(sample_task, "testcase")
    return fields


def stored_artifacts(task: Task, uid: str, *, bucket: str) -> dict[str, int]:
    """The objects that a stored analysis task refers to, and their sizes, by name.

    Raises :class:`~drakcelery.errors.Unreadable` if it is of another analysis, or refers
    to objects elsewhere.
    """
    if task.payload.get("analysis_uid") != uid:
        raise Unreadable(f"{STORED} is not of the analysis {uid}")
    found = {}
    for name, resource in task.payload.items():
        if name == "sample" or not isinstance(resource, ResourceBase):
            continue
        if (resource.bucket, resource.uid) != (bucket, f"{uid}/{resource.name}") or type(
            resource.size
        ) is not int:
            raise Unreadable(f"{STORED} has a {name!r:.80} that is not an object of the analysis")
        found[resource.name] = resource.size
    return found
