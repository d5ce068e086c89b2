"""This machine: its clock, its disk, who may write there, and what recognizes samples."""

from __future__ import annotations

import grp
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from rich.filesize import decimal

from drakcelery.deploy.units import operators
from drakcelery.doctor.finding import Check, Verdict, failed, ok, skipped, warning
from drakcelery.doctor.subject import Subject
from drakcelery.embedded.layout import home
from drakcelery.host import state_dir as directories
from drakcelery.host.identity import Machine
from drakcelery.host.names import HostNames
from drakcelery.karton.filetype import describe_file
from drakcelery.ledger import clock
from drakcelery.ledger.fleet import Fleet
from drakcelery.settings import DrakcelerySection

CLOCK_SECONDS = 5.0
"""How far this clock may be from Redis', by which the ledger goes; logs and metadata go by this one."""
S3_SECONDS = 15 * 60
"""S3 refuses what was signed at another time (AWS: RequestTimeTooSkewed)."""
NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "glusterfs", "fuse.sshfs", "fuse.glusterfs"}
)
MOST_NAMES = 10
"""So many other hosts are named."""
SAMPLES = {"behaviour.exe": "PE32+ executable", "library.dll": "(DLL)"}
"""What libmagic has to say of samples that come with drakcelery: the contract goes by these words."""


def _clock(subject: Subject) -> Verdict:
    begun = time.time()
    theirs = clock.now(subject.redis)
    ended = time.time()
    return clock_verdict((begun + ended) / 2, theirs, way=(ended - begun) / 2)


def clock_verdict(ours: float, theirs: float, *, way: float) -> Verdict:
    """Our clock beside Redis', both UNIX times; the answer took *way* seconds in each direction, at most."""
    apart = ours - theirs
    says = f"this clock is {abs(apart):.1f} s {'ahead of' if apart > 0 else 'behind'} Redis'"
    if abs(apart) <= CLOCK_SECONDS + way:
        return ok(f"{abs(apart):.1f} s from Redis' clock")
    if abs(apart) > S3_SECONDS:
        return warning(f"{says}: times in metadata and logs are wrong, and other S3 clients may be refused")
    return warning(f"{says}: times in Karton, metadata and logs are wrong by as much")


def _name(subject: Subject) -> Verdict:
    ours = subject.settings.drakcelery
    known = {str(place.host) for place in Fleet(subject.redis).places()}
    holders = HostNames(subject.redis).holders(sorted(known | {ours.host}))
    others = _others([f"{host} ({one.machine.node})" for host, one in holders.items() if host != ours.host])
    holder = holders.get(ours.host)
    if holder is None:
        return ok(f"no machine is at work as {ours.host}; {others}")
    silent = max(0.0, clock.now(subject.redis) - holder.renewed_at)
    held = f"{holder.machine.words}, which said so {silent:.0f} s ago"
    if not ours.state_dir.is_dir():
        return warning(f"{ours.host} is the name of {held}, and nothing was started here yet; {others}")
    here = Machine.of(ours.state_dir)
    if holder.machine.key == here.key:
        return ok(f"{ours.host} is this machine: {held}; {others}")
    if silent > holder.lasts:  # as after a restart of this machine, before its workers are up
        return warning(
            f"{ours.host} was the name of {held}; a worker that starts here takes it; {others}",
            "Start this host's workers, if they do not run.",
        )
    return failed(f"{ours.host} is the name of {held}; this is {here.words}; {others}")


def _others(names: Sequence[str]) -> str:
    """Which other names are held, for who looks for the machine that has his."""
    if not names:
        return "no other host name is held"
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return f"others: {', '.join(names[:MOST_NAMES])}{more}"


def _libmagic(_subject: Subject) -> Verdict:
    for name, words in SAMPLES.items():
        said = describe_file(home() / "samples" / name)
        if words not in said:
            return failed(f"libmagic calls {name} {said!r}, without the words {words!r}")
    return ok("libmagic recognizes programs and DLLs")


def _state_dir(subject: Subject) -> Verdict:
    path = subject.settings.drakcelery.state_dir
    place = _there(path)
    kind = _file_system(place)
    if kind in NETWORK:
        return failed(
            f"{path} is on a network disk ({kind}): its locks and its slot table need a local one",
            "Set [drakcelery] state_dir to a directory on a local disk.",
        )
    if not place.is_dir():
        return failed(f"{place} is no directory")
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(b"x")
            file.flush()
    except OSError as error:
        return failed(f"{place} cannot be written by the user {os.geteuid()}: {error.strerror}")
    return ok(f"{path} can be written" if place == path else f"{path} can be made, in {place}")


def _there(path: Path) -> Path:
    """*path*, or the nearest of its parents that exists."""
    return next(place for place in (path, *path.parents) if place.exists())


def _file_system(path: Path) -> str:
    resolved = path.resolve()
    mounts = [
        mount for mount in psutil.disk_partitions(all=True) if resolved.is_relative_to(mount.mountpoint)
    ]
    return max(mounts, key=lambda mount: len(mount.mountpoint)).fstype if mounts else "unknown"


def _space(subject: Subject) -> Verdict:
    ours = subject.settings.drakcelery
    return space_verdict(shutil.disk_usage(_there(ours.state_dir)).free, len(subject.settings.slots), ours)


def space_verdict(free: int, slots: int, ours: DrakcelerySection) -> Verdict:
    """*free* bytes of state_dir's disk, beside what is kept free and what analyses may take."""
    says = f"{decimal(free)} free at {ours.state_dir}, and min_free_space is {decimal(ours.min_free_space)}"
    if free < ours.min_free_space:
        return failed(f"{says}: this host takes no sample")
    each = 2 * ours.dumps_total_size + ours.max_sample_size  # dumps as they are, and packed
    if free < ours.min_free_space + slots * each:
        return warning(
            f"{says}: {slots} large analyses at once (up to {decimal(each)} each) would fall below it"
        )
    return ok(says)


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
            return failed(trouble)
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
        for path in own_places(state_dir, worker):
            found = path.stat()
            if not may_write(found, worker):
                return f"{worker.node}, user {worker.uid}, may not write {path} ({_mode(found)})"
    owner = next((worker.uid for worker in workers if worker.node.startswith("vm@")), None)
    if owner is not None and (loose := loose_place(state_dir, owner)) is not None:
        return f"{loose}, and {workers[0].node} trusts what is there"
    return None


def own_places(state_dir: Path, worker: Worker) -> list[Path]:
    """The directories and files, of those that are there, that a worker writes to."""
    if worker.node.startswith("io@"):
        places = [directories.of_io_worker(state_dir)]
    else:
        places = [state_dir, directories.workspaces(state_dir), directories.engine(state_dir)]
        places.append(state_dir / "slots.sqlite")
    return [path for path in places if path.exists()]


def loose_place(state_dir: Path, owner: int) -> str | None:
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
        f"gpasswd --delete {people[0]} {group.gr_name}, and, to use the command line: "
        f"gpasswd --add {people[0]} {operators(group.gr_name)}",
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
        name="host.clock",
        what="this machine's clock is within 5 s of Redis'",
        remedy="Keep both clocks right: timedatectl set-ntp true, on both machines.",
        look=_clock,
        needs=("redis.reachable",),
    ),
    Check(
        name="host.name",
        what="no other machine has this host's name",
        remedy="Give each machine a name of its own: [drakcelery] host. Copies of an image have one name.",
        look=_name,
        needs=("redis.reachable",),
    ),
    Check(
        name="host.libmagic",
        what="libmagic loads, and recognizes programs and DLLs",
        remedy="Install drakcelery anew (pip install --force-reinstall drakcelery pylibmagic): libmagic and "
        "its database come with it.",
        look=_libmagic,
    ),
    Check(
        name="host.state_dir",
        what="[drakcelery] state_dir is a local directory that can be written",
        remedy="drakcelery init --force, then systemd-tmpfiles --create /etc/tmpfiles.d/drakcelery.conf; or "
        "run doctor as the user of the vm worker.",
        look=_state_dir,
        needs=("settings.load",),
    ),
    Check(
        name="host.space",
        what="its disk has more room than min_free_space, for an analysis in every slot",
        remedy="Make room, or point [drakcelery] state_dir at a larger disk.",
        look=_space,
        needs=("host.state_dir",),
    ),
    Check(
        name="host.owners",
        what="each worker may write its own directories, and nobody else the vm worker's",
        remedy="drakcelery init --force writes the units and the directories' owners and modes; "
        "systemd-tmpfiles --create /etc/tmpfiles.d/drakcelery.conf sets them.",
        look=_owners,
        needs=("settings.load",),
    ),
    Check(
        name="host.people",
        what="only services are in the group of the services",
        remedy="Put people into the group drakcelery-operators: it may read the configuration file.",
        look=_people,
        needs=("settings.load",),
    ),
)
"""In their order."""
