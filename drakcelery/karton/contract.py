"""The incoming side of the Karton contract: a sample task becomes an :class:`Analysis` or is refused with a
sentence.

Pure: the caller fetches the sample's first bytes and its size, and passes them in. Facts about Karton 5.9 are
from ``karton.core.task`` and ``karton.core.resource``.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from karton.core.resource import ResourceBase
from karton.core.task import Task, TaskState

from drakcelery.errors import BadTask
from drakcelery.karton import relations, startup_fields, watch_field
from drakcelery.karton.policy import Policy
from drakcelery.karton.startup_fields import wrong
from drakcelery.model.analysis import Analysis, ObjectRef, Priority
from drakcelery.model.extensions import ENCRYPTED_OFFICE, EXTENSIONS, PLAIN_EXTENSION, is_encrypted_office
from drakcelery.model.names import NAME_PATTERN, is_uid
from drakcelery.model.plugins import KNOWN_PLUGINS

SHA256 = re.compile(r"[0-9a-fA-F]{64}")
LARGEST = 2**50
"""Bytes. No object in S3 is that large."""
DEFAULT_EXTENSION = "exe"
DEFAULT_QUALITY = "high"
NAME_CHARACTERS = 255
"""Characters of a sample's name that are kept."""
MAGIC_BYTES = 1024**2
"""How many bytes of a sample libmagic gets at ingress."""


@dataclass(frozen=True, kw_only=True)
class SampleFacts:
    """What the storage says about the sample."""

    size: int
    magic: str


def payload(task: Task, name: str) -> Any:
    """A field of *task*, or None. Where both its own and its persistent payload have it, the persistent one
    counts, as for every service that asks Karton (``karton.core.task.Task.get_payload``)."""
    return task.get_payload(name)


def sample_ref(task: Task, policy: Policy) -> ObjectRef:
    """Where the sample of *task* is. Raises :class:`BadTask` if it has none."""
    sample = payload(task, "sample")
    if sample is None:
        raise BadTask("the sample task has no payload 'sample': nothing to analyse")
    return _object(sample, "sample", policy)


def read_task(task: Task, facts: SampleFacts, policy: Policy) -> Analysis:
    """Check every field of a sample task (CONTRACT: *In*) and decide what follows from it.

    Raises:
        BadTask: one sentence that names the field, its value and what was expected.
    """
    fields = _Fields(task)
    sample = _sample(task, facts, policy)
    start_command = startup_fields.start_command(fields.payload)
    uid, quality = _uid(fields, policy), _quality(fields)
    extension = _extension(fields, facts.magic, has_command=start_command is not None)
    hooks = fields.payload("custom_hooks")
    return Analysis(
        uid=uid,
        task_uid=task.uid,
        root_uid=task.root_uid,
        priority=Priority(task.priority.value),
        sample=sample,
        magic=facts.magic,
        extension=extension,
        quality=quality,
        file_name=startup_fields.file_name(fields.payload),
        timeout=_timeout(fields, policy),
        start_command=start_command,
        start_method=startup_fields.start_method(fields.payload),
        guest_working_directory=startup_fields.guest_working_directory(fields.payload),
        net_enable=startup_fields.net_enable(fields.payload),
        plugins=_plugins(fields, quality, policy),
        custom_hooks=None if hooks is None else _object(hooks, "custom_hooks", policy),
        is_test=bool(policy.test_filters) and task.matches_filters([dict(f) for f in policy.test_filters]),
        profile=_profile(fields, policy, extension=extension, quality=quality, magic=facts.magic),
        target_host=_name(fields, "target_host"),
        watch=watch_field.plan(fields.either, policy.watch, uid=uid, quality=quality),
        **relations.read(fields.payload, fields.header, policy),
    )


def _sample(task: Task, facts: SampleFacts, policy: Policy) -> ObjectRef:
    """The sample with its size, if we accept that size."""
    sample = sample_ref(task, policy)
    if facts.size == 0:
        raise BadTask(f"the sample {sample.name!r} is empty: nothing to analyse")
    if facts.size > policy.max_sample_size:
        raise BadTask(
            f"the sample {sample.name!r} has {facts.size} bytes; "
            f"at most {policy.max_sample_size} are accepted ([drakcelery] max_sample_size)"
        )
    return sample.model_copy(update={"size": facts.size})


class _Fields:
    """Access to a task's own and persistent payload, and to its headers."""

    def __init__(self, task: Task) -> None:
        self.task = task

    def payload(self, name: str) -> Any:
        return payload(self.task, name)

    def header(self, name: str) -> Any:
        return self.task.headers.get(name)

    def either(self, name: str) -> Any:
        value = self.payload(name)
        return self.header(name) if value is None else value


def noted_sample(task: Task, policy: Policy) -> ObjectRef | None:
    """What a refused *task* says about its sample, as far as it makes sense; None if that is nothing."""
    value = payload(task, "sample")
    if not isinstance(value, ResourceBase):
        return None
    size, sha256 = value._size, value.sha256  # noqa: SLF001 as in _object
    try:
        sample = ObjectRef(
            bucket=value.bucket or policy.default_bucket,
            key=value.uid,
            name=str(value.name)[:NAME_CHARACTERS],
            sha256=sha256 if isinstance(sha256, str) and SHA256.fullmatch(sha256) else None,
            size=size if type(size) is int and 0 <= size < LARGEST else None,
        )
        sample.model_dump_json()
    except ValueError:  # what UTF-8 cannot hold is such an error, too
        return None
    return sample


def _object(value: object, name: str, policy: Policy) -> ObjectRef:
    if not isinstance(value, ResourceBase):
        raise wrong(f"payload '{name}'", value, "a Karton resource")
    size = value._size  # noqa: SLF001 the public property reads the content where the size is unknown
    if size is not None and (type(size) is not int or not 0 <= size < LARGEST):
        raise wrong(f"the size of payload '{name}'", size, "a number of bytes")
    sha256: Any = value.sha256
    if sha256 is not None and (not isinstance(sha256, str) or not SHA256.fullmatch(sha256)):
        raise wrong(f"the sha256 of payload '{name}'", sha256, "64 hexadecimal digits")
    try:
        return ObjectRef(
            bucket=value.bucket or policy.default_bucket,
            key=value.uid,
            name=str(value.name)[:NAME_CHARACTERS],
            sha256=sha256,
            size=size,
        )
    except ValueError:
        raise wrong(f"payload '{name}'", value.to_dict(), "a Karton resource") from None


def _quality(fields: _Fields) -> str:
    quality = fields.header("quality")
    if quality is None:
        return DEFAULT_QUALITY
    if not isinstance(quality, str) or not re.fullmatch(NAME_PATTERN, quality):
        raise wrong("header 'quality'", quality, "a short name such as 'high' or 'low'")
    return quality


def _extension(fields: _Fields, magic: str, *, has_command: bool) -> str:
    given = fields.header("extension")
    if given is not None and not isinstance(given, str):
        raise wrong("header 'extension'", given, "a text such as 'exe'")
    extension = None if given is None else given.lower().removeprefix(".")
    if has_command and extension is not None:
        if not PLAIN_EXTENSION.fullmatch(extension):
            raise wrong("header 'extension'", given, "at most 16 letters and digits")
        return extension
    if "(DLL)" in magic:
        return "dll"  # as in v0.18 libmagic wins over the header; consumers rely on DLLs being run as such
    if extension is None:
        return ENCRYPTED_OFFICE if is_encrypted_office(magic) else DEFAULT_EXTENSION
    if extension not in EXTENSIONS:
        raise BadTask(
            f"extension {extension[:40]!r} is not supported without a start command; "
            f"supported: {', '.join(sorted(EXTENSIONS))}"
        )
    return extension


def _timeout(fields: _Fields, policy: Policy) -> int:
    timeout = fields.payload("timeout")
    if timeout is None:
        return policy.default_timeout
    if isinstance(timeout, bool) or not isinstance(timeout, int) or timeout < 1:
        raise wrong("payload 'timeout'", timeout, "a whole number of seconds, at least 1")
    if timeout > policy.hard_time_limit:
        raise BadTask(
            f"payload 'timeout' is {str(timeout)[:20]} s; the limit is {policy.hard_time_limit} s: "
            "ask for less, or raise [drakcelery] hard_time_limit"
        )
    return timeout


def _plugins(fields: _Fields, quality: str, policy: Policy) -> tuple[str, ...]:
    wanted = fields.payload("plugins")
    if wanted is None:
        return _with_codemon(tuple(policy.default_plugins_of(quality)))
    allowed = relations.allowed_plugins(fields.payload, quality, policy)
    if not isinstance(wanted, list) or not all(isinstance(name, str) for name in wanted):
        raise wrong("payload 'plugins'", wanted, "a list of plugin names")
    unknown = [name for name in wanted if name not in KNOWN_PLUGINS]
    if unknown:
        raise BadTask(f"payload 'plugins' names {unknown[0][:40]!r}, which is no DRAKVUF plugin")
    chosen = tuple(name for name in allowed if name in wanted)
    if wanted and not chosen:
        raise BadTask(
            f"payload 'plugins': none of {', '.join(wanted)} is enabled for quality {quality!r} "
            "([drakvuf_plugins])"
        )
    return _with_codemon(chosen)


def _with_codemon(plugins: tuple[str, ...]) -> tuple[str, ...]:
    """Plugin ipt needs codemon; v0.18 added it by itself."""
    return (*plugins, "codemon") if "ipt" in plugins and "codemon" not in plugins else plugins


def _uid(fields: _Fields, policy: Policy) -> str:
    override = fields.payload("override_uid")
    if override is not None:
        if not isinstance(override, str) or not is_uid(override):
            raise wrong(
                "payload 'override_uid'", override, "letters, digits, '.', '_' and '-' only, at most 128"
            )
        return override
    task = fields.task
    # Since Karton 5.4 a uid reads "{root}:own"; the own part is unique and fits a path
    uid = Task.fquid_to_uid(task.root_uid) if policy.use_root_uid else task.task_uid
    if not is_uid(uid):
        raise wrong("the task's uid", uid, "letters, digits, '.', '_' and '-' only, at most 128")
    return uid


def _name(fields: _Fields, name: str) -> str | None:
    value = fields.either(name)
    if value is None or (isinstance(value, str) and re.fullmatch(NAME_PATTERN, value)):
        return value
    raise wrong(f"'{name}'", value, "a name of letters, digits, '.', '_' and '-', at most 64")


def _profile(fields: _Fields, policy: Policy, **facts: str) -> str:
    """The VM profile that the task asks for, or else the one that the rules give a sample with these
    *facts*."""
    wanted = _name(fields, "vm_profile")
    return wanted or policy.profile_of({"platform": str(fields.header("platform") or ""), **facts})


def _time(now: float | None) -> float:
    return time.time() if now is None else now


def finished(task: Task, *, now: float | None = None) -> Task:
    """*task* as FINISHED. Changes and returns it, as Karton's own ``set_task_status`` does.

    *now*: Redis' time. None means this machine's time; if that is wrong, Karton's collector may take the task
    for a day old, and remove it.
    """
    task.status = TaskState.FINISHED
    task.last_update = _time(now)
    return task


def started(task: Task, *, now: float | None = None) -> Task:
    """*task* as STARTED; *now* as in :func:`finished`."""
    task.status = TaskState.STARTED
    task.last_update = _time(now)
    return task


def crashed(task: Task, reasons: Sequence[str], *, now: float | None = None) -> Task:
    """*task* as CRASHED, with the lines that karton-dashboard shows; *now* as in :func:`finished`."""
    task.status = TaskState.CRASHED
    task.error = list(reasons)
    task.last_update = _time(now)
    return task
