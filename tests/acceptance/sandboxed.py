"""A unit's process as systemd would start it, as far as that goes without systemd.

User, group, umask, capabilities, system call filter, writable code, namespaces and the stop signal are the
unit's own. What systemd does with mounts (``ProtectSystem=``, ``PrivateTmp=`` and their like) is not done.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.conftest import require
from tests.out_of_sight import call, mounts_of_its_own
from tests.reference import ROOT

SCMP_ACT_ALLOW = 0x7FFF0000
SCMP_ACT_ERRNO = 0x00050000
SCMP_CMP_MASKED_EQ = 7
SCMP_FLTATR_CTL_NNP = 3
NR_UNKNOWN = -1
PROT_WRITE, PROT_EXEC = 2, 4
MS_BIND = 0x1000
PR_CAPBSET_DROP = 24
"""Numbers of ``seccomp.h`` (libseccomp 2.5), ``mman.h``, ``sched.h``, ``mount.h`` and ``prctl.h``."""


class _Comparison(ctypes.Structure):
    """``struct scmp_arg_cmp``."""

    _fields_ = (
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("datum_a", ctypes.c_uint64),
        ("datum_b", ctypes.c_uint64),
    )


def read(path: Path) -> dict[str, list[str]]:
    """The [Service] of a unit: every value of each key."""
    values: dict[str, list[str]] = {}
    section = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            section = line
        elif section == "[Service]" and "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            values.setdefault(key, []).append(value)
    return values


@functools.cache
def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    except OSError:
        require(False, "libseccomp is not installed (package libseccomp2)")
        raise
    library.seccomp_init.restype = ctypes.c_void_p
    return library


@functools.cache
def system_calls(group: str) -> frozenset[str]:
    """The system calls of a group such as ``@system-service``, as this systemd knows them."""
    require(shutil.which("systemd-analyze") is not None, "systemd-analyze is not installed (package systemd)")
    shown = subprocess.run(
        ["systemd-analyze", "syscall-filter", "--no-pager", group],  # noqa: S607 the system's own
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    names = [line.strip() for line in shown.splitlines()[1:] if line.strip() and "#" not in line]
    inner = [system_calls(name) for name in names if name.startswith("@")]
    return frozenset({name for name in names if not name.startswith("@")}.union(*inner))


def _filters(unit: Mapping[str, list[str]]) -> tuple[set[str], set[str]]:
    """(allowed, denied) system calls; nothing allowed by name: all but the denied."""
    allowed, denied = set[str](), set[str]()
    for value in unit.get("SystemCallFilter", []):
        names = value.lstrip("~").split()
        named = set[str]().union(*(system_calls(name) if name[0] == "@" else {name} for name in names))
        if value.startswith("~"):
            denied |= named
            allowed -= named
        else:
            allowed |= named | (system_calls("@default") if not allowed else set())
    return allowed, denied


def _load(default: int, rules: list[tuple[int, str, list[_Comparison]]]) -> None:
    """Put this process, and all that it starts, under a filter."""
    library = _library()
    context = ctypes.c_void_p(library.seccomp_init(default))
    library.seccomp_attr_set(context, SCMP_FLTATR_CTL_NNP, 1)
    for action, name, comparisons in rules:
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number == NR_UNKNOWN:
            continue
        array = (_Comparison * len(comparisons))(*comparisons)
        library.seccomp_rule_add_array(context, action, number, len(comparisons), array)
    if library.seccomp_load(context) != 0:
        raise OSError(errno.EINVAL, "seccomp_load")
    library.seccomp_release(context)


def confinement(unit: Mapping[str, list[str]]) -> Callable[[], None]:
    """What to call in the child before its program begins."""
    refused = SCMP_ACT_ERRNO | errno.EPERM
    allowed, denied = _filters(unit)
    both = _Comparison(2, SCMP_CMP_MASKED_EQ, PROT_WRITE | PROT_EXEC, PROT_WRITE | PROT_EXEC)
    executable = _Comparison(2, SCMP_CMP_MASKED_EQ, PROT_EXEC, PROT_EXEC)
    extra: list[tuple[int, str, list[_Comparison]]] = []
    if unit.get("MemoryDenyWriteExecute") == ["yes"]:
        extra += [(refused, "mmap", [both])]
        extra += [(refused, name, [executable]) for name in ("mprotect", "pkey_mprotect")]
    if unit.get("RestrictNamespaces") == ["yes"]:
        extra += [(refused, name, []) for name in ("unshare", "setns")]
    if not allowed:
        extra += [(refused, name, []) for name in denied]
    _library()

    def confine() -> None:
        _load(SCMP_ACT_ALLOW, extra)
        if allowed:
            _load(refused, [(SCMP_ACT_ALLOW, name, []) for name in sorted(allowed)])

    return confine


def _closed() -> dict[Path, list[Path]]:
    """What Python needs that other users cannot reach, by the directory that shuts them out."""
    found: dict[Path, list[Path]] = {}
    wanted = {Path(sys.base_prefix).resolve(), Path(sys.prefix), ROOT}
    for needed in wanted:
        if wanted & set(needed.parents):
            continue  # it comes with the other one
        for parent in reversed(needed.parents):
            if not parent.stat().st_mode & stat.S_IXOTH:
                found.setdefault(parent, []).append(needed)
                break
    return found


def _open_the_way(closed: Mapping[Path, list[Path]], hold: Path) -> None:
    """Show the caller, and only it, just what it needs of directories that are closed to other users."""
    mounts_of_its_own()
    for directory, needed in closed.items():
        places = [hold / str(number) for number, _ in enumerate(needed)]
        for place, path in zip(places, needed, strict=True):
            place.mkdir(exist_ok=True)
            call("mount", bytes(path), bytes(place), None, MS_BIND, None)
        call("mount", b"none", bytes(directory), b"tmpfs", 0, b"mode=755")
        for place, path in zip(places, needed, strict=True):
            path.mkdir(parents=True, mode=0o755)
            call("mount", bytes(place), bytes(path), None, MS_BIND, None)


def apart(directories: Sequence[Path], hold: Path) -> Callable[[], None]:
    """What to call in a child of root that may change *directories* for itself: nothing reaches the machine.

    What it writes to ``/etc`` is in ``<hold>/etc/upper``, and what stands there beforehand is seen by it.
    """
    layers = {}
    for directory in directories:
        layers[directory] = [hold / directory.relative_to("/") / name for name in ("upper", "work")]
        for path in layers[directory]:
            path.mkdir(parents=True, exist_ok=True)

    def child() -> None:
        mounts_of_its_own()
        for directory, (upper, work) in layers.items():
            options = f"lowerdir={directory},upperdir={upper},workdir={work}"
            call("mount", b"overlay", bytes(directory), b"overlay", 0, options.encode())

    return child


def become(unit: Path, ids: Mapping[str, int], hold: Path, *, also: Sequence[int] = ()) -> Callable[[], None]:
    """What to call in a child of root before its program begins, to be what the unit says.

    *ids* has the number of each user and group by name; *hold* is an empty directory; *also* are the further
    groups that the system has the services' user in.
    """
    service = read(unit)
    uid, gid = ids[service["User"][0]], ids[service["Group"][0]]
    kept = set(service["CapabilityBoundingSet"][0].split())
    unwanted = [number for number, name in capabilities().items() if name not in kept]
    confine, closed, mask = confinement(service), _closed(), int(service["UMask"][0], 8)

    def child() -> None:
        if closed:
            _open_the_way(closed, hold)
        for number in unwanted:
            call("prctl", PR_CAPBSET_DROP, number, 0, 0, 0)
        os.setgroups(also if uid else [])
        os.setgid(gid)
        os.setuid(uid)
        os.umask(mask)
        confine()

    return child


@functools.cache
def capabilities() -> dict[int, str]:
    """Every capability of this kernel: number and name."""
    shown = subprocess.run(
        ["systemd-analyze", "capability", "--no-pager"],  # noqa: S607 the system's own
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    names = {int(number): name.upper() for name, number in (line.split() for line in shown.splitlines()[1:])}
    return {number: name for number, name in names.items() if number <= last}


def start(
    unit: Path, *, child: Callable[[], None], config: Path, environment: Mapping[str, str], log: Path
) -> subprocess.Popen[bytes]:
    """Start a unit's process on *config* instead of the file that it names; *child* is of :func:`become`."""
    command = read(unit)["ExecStart"][0].replace("/etc/drakcelery/config.ini", str(config)).split()
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={"PATH": os.environ["PATH"], "HOME": "/", **environment},
            cwd="/",
            start_new_session=True,
            preexec_fn=child,
        )
