"""How a task wants its sample started: the file name, and the options of DRAKVUF Sandbox v0.21 under its
names; and which analysis it repeats.

Facts: ``drakrun/analyzer/analysis_options.py`` and ``drakrun/analyzer/startup_command.py`` of v0.21.0.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import get_args

from drakcelery.errors import BadTask
from drakcelery.model.analysis import StartMethod
from drakcelery.model.names import is_uid

START_METHODS: tuple[StartMethod, ...] = get_args(StartMethod)
FILE_NAME = re.compile(r"[a-zA-Z0-9._-]{1,128}")
RETRY_OF = "retry_of"
DEFAULT_FILE_NAME = "malwar"
LONGEST_COMMAND = 8191
"""Characters: the longest command line that cmd.exe takes."""
LONGEST_DIRECTORY = 260
"""``MAX_PATH``: CreateProcess takes no longer current directory."""
_DIRECTORY = re.compile(r"[A-Za-z]:\\[^<>:\"|?*%]*")

Get = Callable[[str], object]
"""A field of the payload by its name; None if the task has none."""


def file_name(get: Get) -> str:
    """What the sample is called in the guest. Raises :class:`BadTask`."""
    name = get("file_name")
    if name is None:
        return DEFAULT_FILE_NAME
    if not isinstance(name, str) or not FILE_NAME.fullmatch(name) or name.strip(".") == "":
        raise wrong("payload 'file_name'", name, "letters, digits, '.', '_' and '-' only, at most 128")
    return name


def start_command(get: Get) -> str | None:
    """The command that starts it, if the task has one. Raises :class:`BadTask`."""
    command = get("start_command")
    if command is None:
        return None
    if (
        not isinstance(command, str)
        or not command.strip()
        or not command.isprintable()
        or len(command) > LONGEST_COMMAND
    ):
        raise wrong(
            "payload 'start_command'", command, f"a printable command of at most {LONGEST_COMMAND} characters"
        )
    return command


def start_method(get: Get) -> StartMethod | None:
    """How Windows is to start the sample. Raises :class:`BadTask`."""
    wanted = get("start_method")
    if wanted is None:
        return None
    for method in START_METHODS:
        if wanted == method:
            return method
    raise wrong("payload 'start_method'", wanted, f"one of {', '.join(START_METHODS)}")


def guest_working_directory(get: Get) -> str | None:
    """The directory in the guest that it is started in. Raises :class:`BadTask`.

    A variable such as ``%TEMP%`` is refused: nobody would expand it.
    """
    wanted = get("guest_working_directory")
    if wanted is None:
        return None
    if (
        not isinstance(wanted, str)
        or len(wanted) > LONGEST_DIRECTORY
        or not wanted.isprintable()
        or not _DIRECTORY.fullmatch(wanted)
    ):
        raise wrong(
            "payload 'guest_working_directory'",
            wanted,
            rf"one such as 'C:\Users\Public', without variables, at most {LONGEST_DIRECTORY} characters",
        )
    return wanted


def net_enable(get: Get) -> bool | None:
    """Whether the guest may reach the Internet. Raises :class:`BadTask`."""
    wanted = get("net_enable")
    if wanted is None or isinstance(wanted, bool):
        return wanted
    raise wrong("payload 'net_enable'", wanted, "true or false")


def retry_of(get: Get) -> str | None:
    """The uid of the analysis that this one repeats, if it is a retry. Raises :class:`BadTask`."""
    uid = get(RETRY_OF)
    if uid is None or (isinstance(uid, str) and is_uid(uid)):
        return uid
    raise wrong(f"payload '{RETRY_OF}'", uid, "the uid of the analysis that is repeated")


def wrong(what: str, value: object, expected: str) -> BadTask:
    """The error about a field of a task, *what*, whose value makes no sense."""
    shown = repr(value)
    return BadTask(f"{what} is {shown[:80]}{'…' if len(shown) > 80 else ''}; expected {expected}")
