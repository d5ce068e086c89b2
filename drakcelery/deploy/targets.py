"""Which files are to be there, and what happens to one that is there already."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from drakcelery.deploy import accounts, units
from drakcelery.deploy.units import ROLES, Machine, unit_name
from drakcelery.deploy.wish import SYSUSERS, TMPFILES, UNITS, Wish, below, exists
from drakcelery.errors import SettingsError

PACKAGED = {
    UNITS: PurePosixPath("/usr/lib/systemd/system"),
    SYSUSERS.parent: PurePosixPath("/usr/lib/sysusers.d"),
    TMPFILES.parent: PurePosixPath("/usr/lib/tmpfiles.d"),
}
"""Where a package has its files; what is of the same name in /etc comes first."""


class Status(enum.StrEnum):
    """What happens to a file."""

    NEW = "new"
    UNCHANGED = "unchanged"
    KEPT = "kept"
    REPLACED = "replaced"


@dataclass(frozen=True, kw_only=True)
class Target:
    """A file to be there."""

    path: PurePosixPath
    """On the machine itself."""
    text: str
    mode: int
    status: Status


def system_files(wish: Wish, machine: Machine, roles: Iterable[str]) -> list[Target]:
    """The units and what they rely on. Raises where one that is there may not be replaced."""
    texts = {
        SYSUSERS: accounts.sysusers(machine),
        TMPFILES: accounts.tmpfiles(machine),
        **{UNITS / unit_name(role): units.unit(ROLES[role], machine) for role in roles},
    }
    targets = [target(wish, path, text, mode=0o644) for path, text in texts.items()]
    in_the_way = [str(below(wish.root, one.path)) for one in targets if one.status is Status.REPLACED]
    if in_the_way and not wish.force:
        raise SettingsError(
            f"{', '.join(in_the_way)}: there already, and different. Nothing was written. --force replaces "
            "such files and keeps the old ones as *.old; your own changes belong into drop-ins "
            "(systemctl edit)"
        )
    return targets


def target(wish: Wish, path: PurePosixPath, text: str, *, mode: int) -> Target:
    """A file, and whether it is there already, the same or another."""
    status = Status.NEW
    if exists(wish.root, path):
        status = Status.UNCHANGED if _reads(below(wish.root, path), text) else Status.REPLACED
    elif (
        (brought := _packaged(path))
        and exists(wish.root, brought)
        and _reads(below(wish.root, brought), text)
    ):
        path, status = brought, Status.UNCHANGED
    return Target(path=path, text=text, mode=mode, status=status)


def _packaged(path: PurePosixPath) -> PurePosixPath | None:
    """Where a package has what is *path* here: the same there is enough, and follows its upgrades."""
    folder = PACKAGED.get(path.parent)
    return folder / path.name if folder else None


def _reads(place: Path, text: str) -> bool:
    return place.read_text(encoding="utf-8", errors="replace") == text
