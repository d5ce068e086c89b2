"""The directories of a host, below ``[drakcelery] state_dir``, and whose they are.

========================  ==========================================================================
``slots.sqlite``          the vm worker's alone, as everything here that is not named otherwise
``vm-worker.lock``
``engine/``, ``ahead/``   closed to everybody else
``workspaces/``           the group may enter; the vm worker makes what is in it
``workspaces/<attempt>``  closed during prepare and run; then the group's, to collect and to delete
``io/``                   the io worker's alone
========================  ==========================================================================

On a Xen host the vm worker is root and the io worker is not. Root changes and believes only what root alone
may change; in a workspace that is the group's it only adds to the log, reads what the run left, and deletes,
always through :mod:`drakcelery.safe_files`.
"""

from __future__ import annotations

from pathlib import Path

from drakcelery import safe_files
from drakcelery.errors import SettingsError

MODE = 0o750
"""Mode of the directories that the group may read."""
PRIVATE = 0o700
HELP = (
    "only the vm worker's user may change it. drakcelery init --force writes how it should be, and "
    "systemd-tmpfiles --create /etc/tmpfiles.d/drakcelery.conf does it"
)


def workspaces(state_dir: Path) -> Path:
    """The directory of the attempts' workspaces."""
    return state_dir / "workspaces"


def engine(state_dir: Path) -> Path:
    """The directory for what the engine knows of its guests."""
    return state_dir / "engine"


def of_io_worker(state_dir: Path) -> Path:
    """The directory for what the io worker writes apart from attempts."""
    return state_dir / "io"


def own(state_dir: Path) -> None:
    """Make the vm worker's directories, or check that nobody else may change them.

    Raises:
        SettingsError: somebody else may change them, or they cannot be made.
    """
    for path in (state_dir, workspaces(state_dir), engine(state_dir)):
        try:
            if path == engine(state_dir):
                safe_files.close_directory(path)
            else:
                safe_files.own_directory(path, MODE)
        except safe_files.UnsafeFile as error:
            raise SettingsError(
                f"[drakcelery] state_dir = {state_dir}: {path} {error.strerror}: {HELP}"
            ) from None
        except OSError as error:
            raise SettingsError(
                f"[drakcelery] state_dir = {state_dir}: {path} cannot be made: {error.strerror}"
            ) from None


def own_io(state_dir: Path) -> Path:
    """Make the io worker's directory. Raises :class:`SettingsError` if that is impossible."""
    path = of_io_worker(state_dir)
    try:
        path.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(
            f"[drakcelery] state_dir = {state_dir}: {path} cannot be made: {error.strerror}. "
            "systemd-tmpfiles --create /etc/tmpfiles.d/drakcelery.conf makes it, once drakcelery init has "
            "written that file"
        ) from None
    return path
