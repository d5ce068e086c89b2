"""Putting a plan's files in their places, each whole or not at all, and enabling its units."""

from __future__ import annotations

import grp
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from drakcelery.deploy.plan import Plan
from drakcelery.deploy.targets import Status, Target
from drakcelery.deploy.units import unit_name
from drakcelery.deploy.wish import SYSUSERS
from drakcelery.errors import SettingsError


def write(plan: Plan, root: Path, *, group: str) -> None:
    """Write what is new or replaced below *root*; a replaced file stays beside it as ``*.old``.

    On the machine itself *group* gets the configuration file, if there is such a group by now; else
    systemd-tmpfiles gives it to it.

    Raises:
        SettingsError: a file cannot be written.
    """
    gid = _gid(group) if root == Path("/") else None
    for target in plan.targets:
        if target.status in (Status.NEW, Status.REPLACED):
            _write(target, root, gid=gid)


def _gid(group: str) -> int | None:
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        return None


def _write(target: Target, root: Path, *, gid: int | None) -> None:
    place = root / target.path.relative_to("/")
    draft = place.with_name(f".{place.name}.{os.getpid()}")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        draft.unlink(missing_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(target.text)
            os.fchmod(descriptor, target.mode)
            if gid is not None and target.mode == 0o640:
                os.fchown(descriptor, -1, gid)
        if target.status is Status.REPLACED:
            place.replace(place.with_name(f"{place.name}.old"))
        draft.replace(place)
    except OSError as error:
        advice = "" if root != Path("/") else "; run as root, or write below a directory: --root DIR"
        raise SettingsError(f"{place}: cannot be written: {error.strerror}{advice}") from None


def preparing(plan: Plan, root: Path) -> list[list[str]]:
    """What makes the user and its directory, as command lines. Below a staging directory: on the machine."""
    if root != Path("/"):
        return []
    users, directories = (str(one.path) for one in plan.targets if one.path.name == SYSUSERS.name)
    return [
        ["systemd-sysusers", users],
        ["systemd-tmpfiles", "--create", directories],
        ["systemctl", "daemon-reload"],
    ]


def enabling(roles: Sequence[str], root: Path) -> list[str]:
    """The command line that enables the units, in a staging directory without a running systemd."""
    place = [] if root == Path("/") else ["--root", str(root)]
    return ["systemctl", *place, "enable", *(unit_name(role) for role in roles)]


def run(command: Sequence[str]) -> str:
    """Run one of these; what it said. Raises :class:`SettingsError` if it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise SettingsError(f"{command[0]}: cannot be run: {error.strerror}") from None
    said = (done.stdout + done.stderr).strip()
    if done.returncode != 0:
        raise SettingsError(f"{' '.join(command)} failed: {said or f'exit status {done.returncode}'}")
    return said
