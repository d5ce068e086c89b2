"""A plugin of pytest: settings of this machine, where drakcelery is installed, are out of the tests' sight.

What tests start looks for settings in the same places as they do. So each process that runs tests has its
own view of the file system, in which these directories are empty; the machine's own stay as they are.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from drakcelery import settings

CLONE_NEWNS = 0x00020000
MS_REC, MS_PRIVATE = 0x4000, 0x40000
TROUBLE = pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    """Look away from the files that are there."""
    places = (*settings.SEARCH_PATHS, settings.MINIO_ENVIRONMENT)
    try:
        hide({path.parent for path in places if path.is_absolute() and path.exists()})
    except OSError as error:
        config.stash[TROUBLE] = f"settings of this machine are in sight, and some tests fail of them: {error}"


def pytest_report_header(config: pytest.Config) -> str | None:
    """That they could not be hidden, which takes root's rights."""
    return config.stash.get(TROUBLE, None)


def hide(directories: Iterable[Path]) -> None:
    """Have *directories* empty for this process and those that it starts.

    Raises:
        OSError: this process may not.
    """
    for number, directory in enumerate(directories):
        if number == 0:
            mounts_of_its_own()
        call("mount", b"none", bytes(directory), b"tmpfs", 0, b"mode=755")


def mounts_of_its_own() -> None:
    """What this process mounts from here on, only it and its children see.

    Raises:
        OSError: this process may not.
    """
    call("unshare", CLONE_NEWNS)
    call("mount", None, b"/", None, MS_REC | MS_PRIVATE, None)


def call(name: str, *arguments: object) -> None:
    """Call a function of the C library that is 0 where it succeeds.

    Raises:
        OSError: it failed; names it.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
