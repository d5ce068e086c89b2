"""Karton's configuration made from our settings, and pushing samples into Karton."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

import pefile
from karton.core import Config, Producer, Resource, Task
from karton.core.resource import ResourceBase
from karton.core.task import TaskPriority

from drakcelery.errors import BadTask, StackError
from drakcelery.karton.backend import make_backend, sentences
from drakcelery.karton.binds import filters_by_identity, would_get
from drakcelery.karton.contract import MAGIC_BYTES, NAME_CHARACTERS, SampleFacts
from drakcelery.karton.filetype import describe
from drakcelery.karton.kept import Wishes
from drakcelery.karton.startup_fields import FILE_NAME
from drakcelery.model.analysis import Priority
from drakcelery.model.extensions import EXTENSIONS, PLAIN_EXTENSION, is_encrypted_office
from drakcelery.model.program_file import headers
from drakcelery.model.text import storable
from drakcelery.settings import Settings

PRODUCER = "karton.drakcelery-submit"
PLATFORMS = {
    pefile.MACHINE_TYPE["IMAGE_FILE_MACHINE_I386"]: "win32",
    pefile.MACHINE_TYPE["IMAGE_FILE_MACHINE_AMD64"]: "win64",
}
DEFAULT_PLATFORM = "win64"
"""For files that are no programs: scripts and documents."""


class _GivenConfig(Config):
    """Karton's configuration, without files and environment."""

    SEARCH_PATHS: list[str] = []  # noqa: RUF012 Karton's own type

    def _load_from_env(self) -> None:
        """Our settings have read the environment already."""


def karton_config(settings: Settings) -> Config:
    """What Karton's own classes need, from ``[redis]`` and ``[s3]``. Holds secrets."""
    server, s3 = settings.redis, settings.s3
    config = _GivenConfig(check_sections=False)
    config.load_from_dict(
        {
            "redis": {
                **server.model_dump(exclude={"password", "url"}),
                "password": server.password.get_secret_value() if server.password else None,
                # Karton has no keys of its own for the files, but reads them in a URL, as redis-py does
                "url": server.address() if server.url or server.is_encrypted else None,
            },
            "s3": {
                **s3.model_dump(exclude={"secret_key"}),
                "secret_key": s3.secret_key.get_secret_value() if s3.secret_key else None,
            },
        }
    )
    return config


def facts_of(sample: Path) -> SampleFacts:
    """What ingress will find out about *sample*, by the same means. Raises :class:`BadTask` if nobody can."""
    with sample.open("rb") as file:
        head = file.read(MAGIC_BYTES)
    return SampleFacts(size=sample.stat().st_size, magic=describe(head) if head else "empty")


def platform_of(sample: Path, name: str | None = None) -> str:
    """``win32`` or ``win64`` by the PE header. Raises :class:`BadTask` for another machine's program."""
    try:
        with headers(sample) as pe:
            machine = int(pe.FILE_HEADER.Machine)
    except pefile.PEFormatError:
        return DEFAULT_PLATFORM
    if machine not in PLATFORMS:
        raise BadTask(
            f"{name or sample.name} is a program for the machine {machine:#06x}; expected x86 or x86-64"
        )
    return PLATFORMS[machine]


def extension_of(name: str, magic: str, *, has_command: bool) -> str | None:
    """The extension by which a sample is started, by its content or name; None: by the contract's default.

    With a start command it is the file's own, whatever it is.

    Raises:
        BadTask: neither says so, and no start command was given.
    """
    suffix = PurePosixPath(name).suffix.lower().removeprefix(".")
    if has_command and PLAIN_EXTENSION.fullmatch(suffix):
        return suffix
    if magic.startswith("PE32"):
        return "dll" if "(DLL)" in magic else "exe"
    if suffix in EXTENSIONS:
        return suffix
    if has_command or is_encrypted_office(magic):
        return None
    raise BadTask(
        f"cannot tell how to start {name} ({magic[:60]}): give it an extension that says so, such as "
        "exe, js, docx or lnk, or say --start-command"
    )


def sample_task(
    sample: Path, wishes: Wishes | None = None, *, name: str | None = None, facts: SampleFacts | None = None
) -> Task:
    """A sample task as Karton's classifier would send it. The analysis gets the task's own uid.

    *name*: what the sample is called, if that is not the name of the file; *facts*: of :func:`facts_of`.

    Raises:
        BadTask: the file is empty or cannot be started.
    """
    wishes = wishes or Wishes()
    name = storable(name or sample.name)[-NAME_CHARACTERS:]
    facts = facts or facts_of(sample)
    if facts.size == 0:
        raise BadTask(f"{name} is empty: nothing to analyse")
    extension = extension_of(name, facts.magic, has_command=wishes.start_command is not None)
    task = _task(
        wishes,
        platform=wishes.platform or platform_of(sample, name),
        extension=extension,
        sample=Resource(name, path=str(sample)),
    )
    stem = PurePosixPath(name).stem
    if FILE_NAME.fullmatch(stem):
        task.add_payload("file_name", stem)
    return task


def blank_task(wishes: Wishes) -> Task:
    """A task as :func:`sample_task` makes them, without a sample: to check what all have in common."""
    return _task(wishes, platform=DEFAULT_PLATFORM, extension="exe", sample=Resource("-", content=b"-"))


def _task(wishes: Wishes, *, platform: str, extension: str | None, sample: ResourceBase) -> Task:
    priority = wishes.priority or Priority.NORMAL
    task = Task(_headers(platform, extension), priority=TaskPriority(priority.value))
    task.add_payload("sample", sample)
    task.add_payload("override_uid", task.task_uid)
    for field, value in wishes.payload().items():
        task.add_payload(field, value)
    return task


def _headers(platform: str, extension: str | None) -> dict[str, str]:
    """What Karton's classifier says about a sample that it has recognized."""
    headers = {"type": "sample", "stage": "recognized", "platform": platform, "quality": "high"}
    return headers if extension is None else {**headers, "extension": extension}


def push(settings: Settings, task: Task) -> str:
    """Send *task* into Karton; returns the uid of its analysis.

    Raises:
        StackError: no consumer has a bind for it (karton-system silently drops such a task).
        StorageError: S3 does not take the sample.
    """
    sender = Sender(settings)
    if (obstacle := sender.obstacle(task)) is not None:
        raise StackError(obstacle)
    return sender.send(task)


class Sender:
    """Sends tasks into Karton, as many as there are, over the same connections."""

    def __init__(self, settings: Settings) -> None:
        """Raises :class:`StackError`: nobody would get a sample."""
        self._settings = settings
        config = karton_config(settings)
        self._backend = make_backend(settings, config, identity=PRODUCER)
        self._producer = Producer(config=config, identity=PRODUCER, backend=self._backend)
        self.filters()

    def filters(self) -> Any:
        """What our ingress wants. Raises :class:`StackError` if there was never one."""
        identity = self._settings.drakrun.identity
        binds = filters_by_identity(self._backend)
        if identity not in binds:
            raise StackError(
                f"no ingress has ever bound {identity} in this Karton, which would drop the sample: "
                "start `drakcelery up`, or `drakcelery ingress` on a host"
            )
        return binds[identity]

    def obstacle(self, task: Task) -> str | None:
        """Why our ingress would not get *task*, in a sentence; None if it would."""
        if would_get(task, self.filters()):
            return None
        return (
            f"the filters of {self._settings.drakrun.identity} do not match the headers {task.headers}: "
            "the sample would be dropped; see [drakrun] filters"
        )

    def send(self, task: Task) -> str:
        """Send a task that has no :meth:`obstacle`, and return its uid. Raises :class:`StorageError`."""
        with sentences(self._settings.s3):
            self._producer.send_task(task)
        return str(task.payload["override_uid"])
