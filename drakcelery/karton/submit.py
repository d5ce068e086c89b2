"""Karton's configuration made from our settings, and pushing samples into Karton."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pefile
from karton.core import Config, Producer, Resource, Task
from karton.core.backend import KartonBackend
from karton.core.task import TaskPriority

from drakcelery.errors import BadTask, StackError
from drakcelery.karton.binds import filters_by_identity, would_get
from drakcelery.karton.filetype import describe_file
from drakcelery.karton.kept import Wishes
from drakcelery.karton.startup_fields import FILE_NAME
from drakcelery.model.analysis import Priority
from drakcelery.model.program_file import headers
from drakcelery.model.start_command import EXTENSIONS, PLAIN_EXTENSION, is_encrypted_office
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
                "url": server.url.get_secret_value() if server.url else None,
            },
            "s3": {
                **s3.model_dump(exclude={"secret_key"}),
                "secret_key": s3.secret_key.get_secret_value() if s3.secret_key else None,
            },
        }
    )
    return config


def platform_of(sample: Path) -> str:
    """``win32`` or ``win64`` by the PE header. Raises :class:`BadTask` for another machine's program."""
    try:
        with headers(sample) as pe:
            machine = int(pe.FILE_HEADER.Machine)
    except pefile.PEFormatError:
        return DEFAULT_PLATFORM
    if machine not in PLATFORMS:
        raise BadTask(f"{sample.name} is a program for the machine {machine:#06x}; expected x86 or x86-64")
    return PLATFORMS[machine]


def extension_of(sample: Path, *, has_command: bool) -> str | None:
    """The extension by which *sample* is started, by its content or name; None: by the contract's default.

    With a start command it is the file's own, whatever it is.

    Raises:
        BadTask: neither says so, and no start command was given.
    """
    suffix = sample.suffix.lower().removeprefix(".")
    if has_command and PLAIN_EXTENSION.fullmatch(suffix):
        return suffix
    description = describe_file(sample)
    if description.startswith("PE32"):
        return "dll" if "(DLL)" in description else "exe"
    if suffix in EXTENSIONS:
        return suffix
    if has_command or is_encrypted_office(description):
        return None
    raise BadTask(
        f"cannot tell how to start {sample.name} ({description[:60]}): give it one of the extensions "
        f"{', '.join(sorted(EXTENSIONS))}, or say --start-command"
    )


def sample_task(
    sample: Path,
    *,
    platform: str | None = None,
    timeout: int | None = None,
    plugins: Sequence[str] = (),
    start_command: str | None = None,
    start_method: str | None = None,
    working_directory: str | None = None,
    net_enable: bool | None = None,
    priority: Priority = Priority.NORMAL,
    profile: str | None = None,
    host: str | None = None,
) -> Task:
    """A sample task as Karton's classifier would send it. The analysis gets the task's own uid.

    Raises:
        BadTask: the file is empty or cannot be started.
    """
    if sample.stat().st_size == 0:
        raise BadTask(f"{sample.name} is empty: nothing to analyse")
    extension = extension_of(sample, has_command=start_command is not None)
    wishes = Wishes(
        timeout=timeout,
        plugins=tuple(plugins),
        start_command=start_command,
        start_method=start_method,
        working_directory=working_directory,
        net_enable=net_enable,
        profile=profile,
        host=host,
    )
    task = Task(_headers(platform or platform_of(sample), extension), priority=TaskPriority(priority.value))
    task.add_payload("sample", Resource(sample.name, path=str(sample)))
    task.add_payload("override_uid", task.task_uid)
    if FILE_NAME.fullmatch(sample.stem):
        task.add_payload("file_name", sample.stem)
    for name, value in wishes.payload().items():
        task.add_payload(name, value)
    return task


def _headers(platform: str, extension: str | None) -> dict[str, str]:
    """What Karton's classifier says about a sample that it has recognized."""
    headers = {"type": "sample", "stage": "recognized", "platform": platform, "quality": "high"}
    return headers if extension is None else {**headers, "extension": extension}


def push(settings: Settings, task: Task) -> str:
    """Send *task* into Karton; returns the uid of its analysis.

    Raises:
        StackError: no consumer has a bind for it (karton-system silently drops such a task).
    """
    backend = KartonBackend(karton_config(settings), identity=PRODUCER)
    identity = settings.drakrun.identity
    binds = filters_by_identity(backend)
    if identity not in binds:
        raise StackError(
            f"no ingress has ever bound {identity} in this Karton, which would drop the sample: "
            "start `drakcelery up`, or `drakcelery ingress` on a host"
        )
    if not would_get(task, binds[identity]):
        raise StackError(
            f"the filters of {identity} do not match the headers {task.headers}: "
            "the sample would be dropped; see [drakrun] filters"
        )
    Producer(config=karton_config(settings), identity=PRODUCER, backend=backend).send_task(task)
    return str(task.payload["override_uid"])
