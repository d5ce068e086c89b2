"""What is kept beside the artifacts for a retry: the names, and the task that asks again.

Pure. By then Karton may have collected the sample task, and with it the sample.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from karton.core.resource import RemoteResource, ResourceBase
from karton.core.task import Task, TaskPriority

from drakcelery.karton.contract import payload
from drakcelery.karton.relations import VARIANT_OF, VARIANT_WHY, VARIANTS
from drakcelery.karton.startup_fields import RETRY_OF
from drakcelery.model.analysis import Analysis, ObjectRef, Priority
from drakcelery.model.news import WatchMode

TASK = "sample_task.json"
"""The sample task as Karton had it: its headers say who may see the sample."""
SAMPLE = "sample"
"""As it is, under a name that nothing opens or starts."""
HOOKS = "custom_hooks"
RESOURCES = (SAMPLE, HOOKS)
"""Fields of the payload that a retry needs; an object of the same name has the content of each."""
KEPT = frozenset({TASK, *RESOURCES})


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """How somebody wants a sample run; None, and no plugins: as the task says, or else by default."""

    timeout: int | None = None
    """Seconds."""
    plugins: tuple[str, ...] = ()
    start_command: str | None = None
    start_method: str | None = None
    working_directory: str | None = None
    net_enable: bool | None = None
    profile: str | None = None
    host: str | None = None
    watch: WatchMode | None = None
    variants: int | None = None
    """How many second looks its root may have."""
    platform: str | None = None
    """A header of the task; ``win32`` or ``win64``."""
    priority: Priority | None = None
    """The task's."""
    reuse: int | None = None
    """How old, in seconds, an analysis may be that is taken instead of a run."""

    def payload(self) -> dict[str, Any]:
        """The fields of a task's payload that say so."""
        wanted = {
            "timeout": self.timeout,
            "plugins": list(self.plugins) or None,
            "start_command": self.start_command,
            "start_method": self.start_method,
            "guest_working_directory": self.working_directory,
            "net_enable": self.net_enable,
            "vm_profile": self.profile,
            "target_host": self.host,
            "reuse": self.reuse,
            "watch": self.watch,
            "variants": self.variants,
        }
        return {name: value for name, value in wanted.items() if value is not None}


def sources(analysis: Analysis) -> dict[str, ObjectRef]:
    """Where Karton has what is to be kept of *analysis*, by name."""
    hooks = {} if analysis.custom_hooks is None else {HOOKS: analysis.custom_hooks}
    return {SAMPLE: analysis.sample, **hooks}


def resources(task: Task) -> dict[str, ResourceBase]:
    """The resources in the payload of a sample task that a retry needs, by name."""
    found = {name: payload(task, name) for name in RESOURCES}
    return {name: value for name, value in found.items() if isinstance(value, ResourceBase)}


def moved(resource: ResourceBase, *, bucket: str, key: str) -> RemoteResource:
    """*resource*, when its content is under another key."""
    return RemoteResource(
        name=resource.name,
        bucket=bucket,
        uid=key,
        size=resource._size,  # noqa: SLF001 the public property reads the content where the size is unknown
        sha256=resource.sha256,
        metadata=dict(resource.metadata),
    )


def retry_task(
    task: Task,
    *,
    of: str,
    identity: str,
    wishes: Wishes,
    replaced: Mapping[str, RemoteResource],
) -> Task:
    """The sample task that asks again for the analysis *of*, which *task* had asked for.

    As of karton-dashboard's retry: a new uid, the same ``orig_uid``, root, parent, persistent headers and
    persistent payload. The analysis gets the task's own uid, whatever *task* wanted. *replaced*: resources
    that are elsewhere now, by their names in the payload.
    """
    again = task.fork_task()
    again.orig_uid = task.orig_uid
    again.headers["receiver"] = identity
    if wishes.platform is not None:
        again.headers["platform"] = wishes.platform
    if wishes.priority is not None:
        again.priority = TaskPriority(wishes.priority.value)
    for bag in (again.payload, again.payload_persistent):
        bag.update({name: one for name, one in replaced.items() if name in bag})
    ours = {**wishes.payload(), "override_uid": again.task_uid, RETRY_OF: of}
    if payload(task, VARIANT_OF) is not None:  # what was granted was that one analysis
        ours[VARIANTS] = 0
        for name in (VARIANT_OF, VARIANT_WHY):
            again.payload.pop(name, None)
            again.payload_persistent.pop(name, None)
    for name, value in ours.items():
        again.payload_persistent.pop(name, None)  # which would count instead
        again.payload[name] = value
    return again
