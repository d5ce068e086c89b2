"""What the operator asks init for, whether it can be had, and where things are on the machine."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from drakcelery.deploy import sandbox
from drakcelery.errors import SettingsError

CONFIG = PurePosixPath("/etc/drakcelery/config.ini")
UNITS = PurePosixPath("/etc/systemd/system")
SYSUSERS = PurePosixPath("/etc/sysusers.d/drakcelery.conf")
TMPFILES = PurePosixPath("/etc/tmpfiles.d/drakcelery.conf")

PLAIN_PATH = re.compile(r"/[A-Za-z0-9._/+@-]+")
PLAIN_USER = re.compile(r"[a-z_][a-z0-9_-]{0,20}")
"""Short enough for the name of the people's group, which is made of it."""


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What the operator asked for."""

    root: Path = Path("/")
    """The machine's files are below it."""
    only: tuple[str, ...] = ()
    """Roles; none: those that make sense here."""
    sources: tuple[Path, ...] = ()
    """Files with settings to take over; none: the well-known ones."""
    user: str = "drakcelery"
    program: PurePosixPath
    drakrun: PurePosixPath | None = None
    """DRAKVUF Sandbox's command; None: look for it."""
    force: bool = False


def check(wish: Wish) -> None:
    """Raises :class:`~drakcelery.errors.SettingsError` for what cannot be had."""
    if not PLAIN_USER.fullmatch(wish.user) or wish.user == "root":
        raise SettingsError(
            f"--user {wish.user}: expected a user name other than root: up to 21 small letters, digits, '_', "
            "'-'; the vm worker of a Xen host is root's in any case"
        )
    if not PLAIN_PATH.fullmatch(str(wish.program)):
        raise SettingsError(
            f"--program {wish.program}: expected an absolute path of letters, digits and ._/+@-"
        )
    if wish.drakrun is None:
        return
    if not PLAIN_PATH.fullmatch(str(wish.drakrun)):
        raise SettingsError(
            f"--drakrun {wish.drakrun}: expected an absolute path of letters, digits and ._/+@-"
        )
    if wish.root == Path("/") and not sandbox.is_there(wish.root, str(wish.drakrun)):
        raise SettingsError(f"--drakrun {wish.drakrun}: there is no such program, or you may not execute it")


def below(root: Path, path: PurePosixPath) -> Path:
    """Where a file of the machine is, whose files are below *root*."""
    return root / path.relative_to("/")


def exists(root: Path, path: PurePosixPath) -> bool:
    """Whether it is there. Raises :class:`~drakcelery.errors.SettingsError` if it cannot be looked at."""
    try:
        return below(root, path).exists()
    except OSError as error:
        raise SettingsError(f"{below(root, path)}: cannot be read: {error.strerror}") from None
