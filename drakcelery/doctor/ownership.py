"""Who may write to this host's directories: the workers to their own, and nobody else."""

from __future__ import annotations

import grp
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from drakcelery.deploy.units import operators
from drakcelery.doctor.commands import TMPFILES, line
from drakcelery.doctor.finding import Check, Verdict, failed, ok, skipped, warning
from drakcelery.doctor.subject import Subject
from drakcelery.host import state_dir as directories


@dataclass(frozen=True, kw_only=True)
class Worker:
    """A worker of this host that runs."""

    node: str
    """Its name in Celery: ``vm@<host>`` or ``io@<host>``."""
    uid: int
    groups: frozenset[int]


def _owners(subject: Subject) -> Verdict:
    ours = subject.settings.drakcelery
    workers = list(_running(ours.host))
    if not workers:
        return skipped("neither worker of this host runs here")
    for worker in workers:
        if worker.node.startswith("vm@") and subject.settings.engine == "drakvuf" and worker.uid != 0:
            return failed(
                f"{worker.node} runs as the user {worker.uid}; Xen's tools need root",
                "Start the vm worker as root; the units of drakcelery init do.",
            )
    try:
        if (trouble := _trouble(ours.state_dir, workers)) is not None:
            return failed(trouble).mended_by(TMPFILES)
    except PermissionError as error:
        return skipped(
            f"{error.filename} may not be looked at by the user {os.geteuid()}; run doctor as root"
        )
    needless = [worker.node for worker in workers if worker.uid == 0 and worker.node.startswith("io@")]
    if needless:
        return warning(
            f"{needless[0]} runs as root, and needs no right of root",
            "Start the io worker as a user of its own; the units of drakcelery init do.",
        )
    return ok(", ".join(f"{worker.node} runs as the user {worker.uid}" for worker in workers))


def _trouble(state_dir: Path, workers: Sequence[Worker]) -> str | None:
    """What is wrong with the directories of *workers*."""
    for worker in workers:
        for path in own_paths(state_dir, worker):
            found = path.stat()
            if not may_write(found, worker):
                return f"{worker.node}, user {worker.uid}, may not write {path} ({_mode(found)})"
    owner = next((worker.uid for worker in workers if worker.node.startswith("vm@")), None)
    if owner is not None and (loose := loose_path(state_dir, owner)) is not None:
        return f"{loose}, and {workers[0].node} trusts what is there"
    return None


def own_paths(state_dir: Path, worker: Worker) -> list[Path]:
    """The directories and files, of those that are there, that a worker writes to."""
    if worker.node.startswith("io@"):
        places = [directories.of_io_worker(state_dir)]
    else:
        places = [state_dir, directories.workspaces(state_dir), directories.engine(state_dir)]
        places.append(state_dir / "slots.sqlite")
    return [path for path in places if path.exists()]


def loose_path(state_dir: Path, owner: int) -> str | None:
    """What of the vm worker's directories another user than *owner* and root may change, or lead away."""
    for path in (*reversed(state_dir.resolve().parents), state_dir, directories.workspaces(state_dir)):
        if not path.exists():
            continue
        found = path.stat()
        is_above = path in state_dir.resolve().parents
        by_others = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        if is_above and found.st_mode & stat.S_ISVTX:
            by_others = 0  # as in /tmp: nobody can move what is another's
        if found.st_uid not in (0, owner) or by_others:
            return f"{path} may be changed by others than the user {owner} ({_mode(found)})"
    for path in (directories.engine(state_dir), state_dir / "ahead"):
        if path.exists() and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            return f"{path} is open to others than the user {owner} ({_mode(path.stat())})"
    return None


def _mode(found: os.stat_result) -> str:
    return f"owner {found.st_uid}, group {found.st_gid}, mode {stat.S_IMODE(found.st_mode):04o}"


def _people(subject: Subject) -> Verdict:
    """Who of the people is in the group of the services, by the group of the directories."""
    state_dir = subject.settings.drakcelery.state_dir
    if not state_dir.is_dir():
        return skipped(f"{state_dir} is not there")
    try:
        group = grp.getgrgid(state_dir.stat().st_gid)
    except KeyError:
        return skipped("the group of state_dir has no name here")
    people = [name for name in group.gr_mem if name != group.gr_name]
    if group.gr_gid == 0 or not people:
        return ok(f"nobody but the services is in the group {group.gr_name}")
    return warning(
        f"{', '.join(people)} in the group {group.gr_name} can read samples and change what is published",
        f"Take them out of it; the group {operators(group.gr_name)} is enough for the command line.",
        *(line("gpasswd", "--delete", name, group.gr_name) for name in people),
        *(line("gpasswd", "--add", name, operators(group.gr_name)) for name in people),
    )


def _running(host: str) -> Iterator[Worker]:
    """The main processes of this host's workers, by the command line that starts each of them."""
    for node in (f"vm@{host}", f"io@{host}"):
        for process in psutil.process_iter():
            try:
                if f"--hostname={node}" in process.cmdline():
                    yield Worker(node=node, uid=process.uids().effective, groups=_groups(process.pid))
                    break
            except (psutil.Error, OSError):  # it ended, or is hidden from us
                continue


def _groups(pid: int) -> frozenset[int]:
    """``proc(5)``: the effective group, and the supplementary ones."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    fields = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
    return frozenset({int(fields["Gid"][1]), *map(int, fields["Groups"])})


def may_write(found: os.stat_result, worker: Worker) -> bool:
    """Whether the permissions of a file or directory let *worker* write to it; root always may."""
    if worker.uid == 0:
        return True
    if found.st_uid == worker.uid:
        return bool(found.st_mode & stat.S_IWUSR)
    if found.st_gid in worker.groups:
        return bool(found.st_mode & stat.S_IWGRP)
    return bool(found.st_mode & stat.S_IWOTH)


CHECKS: Sequence[Check] = (
    Check(
        name="host.owners",
        what="each worker may write its own directories, and nobody else the vm worker's",
        remedy="Set the directories' owners and modes as the services' file for systemd-tmpfiles says; "
        "init writes it, and the units, again.",
        examine=_owners,
        needs=("settings.load",),
    ),
    Check(
        name="host.people",
        what="only services are in the group of the services",
        remedy="Put people into the group drakcelery-operators: it may read the configuration file.",
        examine=_people,
        needs=("settings.load",),
    ),
)
"""In their order."""
