"""The data directory itself: who it belongs to, and how it is emptied."""

from __future__ import annotations

import os
import shutil
import stat
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from drakcelery.embedded import configuration, lock, state
from drakcelery.embedded.supervision import end_marked
from drakcelery.errors import StackError
from drakcelery.model.text import clean

PLAN = "services.json"
"""Every start writes it: what has none is no directory of a stack."""
_UNWRITABLE = ("Cc", "Cs")
"""Kinds of characters: control characters, line ends among them, and bytes that are no UTF-8."""
_CONTENTS = frozenset(
    {
        *(PLAN, lock.NAME, configuration.NAME, state.NAME, "background.json"),
        *("keys", "lost+found", "log", "seaweedfs", "state", "valkey"),
    }
)
"""All that a stack makes there, and what a file system of its own has."""


def prepare(data_dir: Path) -> None:
    """Make *data_dir* where it is missing.

    Raises:
        StackError: it is no directory, cannot be made, or others could change what lies there; or its name
            cannot stand in the servers' configurations.
    """
    if any(unicodedata.category(one) in _UNWRITABLE for one in str(data_dir)):
        raise StackError(
            f"{clean(data_dir)}: no configuration can hold this name: it has control characters, or is no "
            "UTF-8; choose another --data-dir"
        )
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = data_dir.stat()
    except OSError as error:
        raise StackError(
            f"{data_dir} cannot hold the data of an embedded stack: {error.strerror}; choose another "
            "--data-dir"
        ) from None
    if not os.access(data_dir, os.R_OK | os.W_OK | os.X_OK):
        raise StackError(f"{data_dir} cannot be written to; choose another --data-dir")
    if found.st_uid != os.geteuid():
        raise StackError(
            f"{data_dir} belongs to another user (uid {found.st_uid}), who could change what the stack keeps "
            "there; choose another --data-dir"
        )
    if not (data_dir / PLAN).exists() and (strangers := _strangers(data_dir)):
        raise StackError(
            f"{data_dir} is in use for something else ({', '.join(strangers[:5])}): choose a directory that "
            "is empty or not there yet as --data-dir"
        )
    if found.st_mode & stat.S_IWOTH:
        raise StackError(
            f"any user can write to {data_dir}, and change what the stack keeps there: `chmod o-w` it, or "
            "choose another --data-dir"
        )


def require_ours(data_dir: Path) -> None:
    """Check that an embedded stack has made *data_dir*, and nothing else lies there.

    Raises:
        StackError: it did not, or something does.
    """
    if data_dir.is_symlink() or not data_dir.is_dir():
        raise StackError(f"{data_dir} is no directory: there is nothing to empty")
    found = data_dir.stat()
    plan = data_dir / PLAN
    if found.st_uid != os.geteuid() or plan.is_symlink() or not plan.is_file():
        raise StackError(f"{data_dir} is no directory of an embedded stack of yours: nothing was removed")
    if strangers := _strangers(data_dir):
        raise StackError(
            f"{data_dir} holds what no embedded stack has made ({', '.join(strangers[:5])}): nothing was "
            "removed"
        )


def size(data_dir: Path) -> int:
    """The bytes of all files in *data_dir*."""
    return sum(_sizes(data_dir))


def _sizes(directory: Path) -> Iterator[int]:
    for root, _, names in os.walk(directory):
        for name in names:
            try:
                yield (Path(root) / name).lstat().st_size
            except OSError:
                continue  # it has just gone


def empty(data_dir: Path) -> None:
    """Remove all that an embedded stack keeps in *data_dir*, and end what a killed one has left running.

    Raises:
        StackError: it is not ours, or a stack runs there.
    """
    require_ours(data_dir)
    with lock.held(data_dir):
        require_ours(data_dir)
        end_marked(str(data_dir), grace=0)
        for path in sorted(data_dir.iterdir(), key=lambda one: one.name == PLAN):
            if path.name in (lock.NAME, "lost+found"):
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


def _strangers(data_dir: Path) -> list[str]:
    """The names in *data_dir* of which a stack makes none, fit to be shown."""
    return sorted(clean(one.name, 40) for one in data_dir.iterdir() if not _is_known(one.name))


def _is_known(name: str) -> bool:
    """Whether a stack makes a file of that name; a draft of one stays where a start was killed."""
    return name in _CONTENTS or any(name.startswith(f".{one}.") for one in _CONTENTS)
