"""This machine: its clock, its name, its disk, and libmagic, which recognizes samples."""

from __future__ import annotations

import errno
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
from rich.filesize import decimal

from drakcelery.doctor.commands import TMPFILES, line
from drakcelery.doctor.finding import Check, Verdict, failed, ok, warning
from drakcelery.doctor.subject import Subject
from drakcelery.embedded.layout import home
from drakcelery.host.identity import this_machine
from drakcelery.host.slot_file import damage
from drakcelery.karton.filetype import describe_file
from drakcelery.ledger import clock
from drakcelery.ledger.fleet import Fleet
from drakcelery.ledger.host_names import HostNames
from drakcelery.settings import DrakcelerySection

CLOCK_SECONDS = 5.0
"""How far this clock may be from Redis', by which the ledger goes; logs and metadata go by this one."""
S3_SECONDS = 15 * 60
"""S3 refuses what was signed at another time (AWS: RequestTimeTooSkewed)."""
NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "glusterfs", "fuse.sshfs", "fuse.glusterfs"}
)
MOST_NAMES = 10
"""How many other hosts are named at most."""
SAMPLES = {"behaviour.exe": "PE32+ executable", "library.dll": "(DLL)"}
"""What libmagic must say about samples that come with drakcelery, since the contract relies on these
words."""


def _clock(subject: Subject) -> Verdict:
    begun = time.time()
    theirs = clock.now(subject.redis)
    ended = time.time()
    found = clock_verdict((begun + ended) / 2, theirs, way=(ended - begun) / 2)
    return found.mended_by("timedatectl set-ntp true")


def clock_verdict(ours: float, theirs: float, *, way: float) -> Verdict:
    """Compare our clock with Redis', both UNIX times; the answer took at most *way* seconds in each
    direction."""
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
    here = this_machine(ours.state_dir)
    if holder.machine.key == here.key:
        return ok(f"{ours.host} is this machine: {held}; {others}")
    if silent > holder.lasts:  # as after a restart of this machine, before its workers are up
        return warning(
            f"{ours.host} was the name of {held}; a worker that starts here takes it; {others}",
            "Start this host's workers, if they do not run.",
        )
    return failed(f"{ours.host} is the name of {held}; this is {here.words}; {others}")


def _others(names: Sequence[str]) -> str:
    """Which other names are in use, to help find the machine that has this host's name."""
    if not names:
        return "no other host name is held"
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return f"others: {', '.join(names[:MOST_NAMES])}{more}"


def _libmagic(_subject: Subject) -> Verdict:
    for name, words in SAMPLES.items():
        said = describe_file(home() / "samples" / name)
        if words not in said:
            again = line(sys.executable, "-m", "pip", "install", "--force-reinstall", "pylibmagic")
            return failed(f"libmagic calls {name} {said!r}, without the words {words!r}").mended_by(again)
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
        said = f"{place} cannot be written by the user {os.geteuid()}: {error.strerror}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return failed(said, "Make room on that disk.")
        return failed(said).mended_by(TMPFILES)
    if (trouble := damage(path)) is not None:
        return failed(
            f"{trouble}: nobody can read the slots of this host, so it takes no sample",
            "Remove the file; the vm worker makes another one. Then drain again what was drained.",
            line("rm", path / "slots.sqlite"),
        )
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


CHECKS: Sequence[Check] = (
    Check(
        name="host.clock",
        what="this machine's clock is within 5 s of Redis'",
        remedy="Keep both clocks right, by NTP, on both machines.",
        examine=_clock,
        needs=("redis.reachable",),
    ),
    Check(
        name="host.name",
        what="no other machine has this host's name",
        remedy="Give each machine a name of its own: [drakcelery] host. Copies of an image have one name.",
        examine=_name,
        needs=("redis.reachable",),
    ),
    Check(
        name="host.libmagic",
        what="libmagic loads, and recognizes programs and DLLs",
        remedy="Install pylibmagic again, which brings libmagic and its database.",
        examine=_libmagic,
    ),
    Check(
        name="host.state_dir",
        what="[drakcelery] state_dir is a local directory that can be written",
        remedy="Make it, as the services' file for systemd-tmpfiles says, which init writes; or run the "
        "doctor as the user of the vm worker.",
        examine=_state_dir,
        needs=("settings.load",),
    ),
    Check(
        name="host.space",
        what="its disk has more room than min_free_space, for an analysis in every slot",
        remedy="Make room, or point [drakcelery] state_dir at a larger disk.",
        examine=_space,
        needs=("host.state_dir",),
    ),
)
"""In their order."""
