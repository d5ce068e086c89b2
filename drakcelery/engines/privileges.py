"""The privileges of a process: its user, its capabilities, its network, and access to its files."""

from __future__ import annotations

import ctypes
import os
import signal
import stat
from collections.abc import Iterable
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4
CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
CAPABILITY_VERSION = 0x20080522
MS_BIND, MS_REC, MS_PRIVATE = 1 << 12, 1 << 14, 1 << 18
"""Numbers of ``linux/prctl.h``, ``linux/sched.h``, ``linux/capability.h`` and ``linux/mount.h``."""

CAP_CHOWN, CAP_KILL, CAP_SETGID, CAP_SETUID = 0, 5, 6, 7
CAPABILITIES = 64
"""More than there are."""

FIRST_USER = 0x70000000
"""Nobody hands out user ids from here to 2**31 (systemd's table of them): each guest gets one for itself."""
NOBODY = 65534


def die_with(parent: int) -> None:
    """Have the kernel kill this process when *parent* ends. A change of user undoes it.

    Raises:
        OSError: the kernel refuses, or *parent* has ended already.
    """
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise ProcessLookupError(f"the engine (process {parent}) has ended")


def gain_no_privileges() -> None:
    """Let no program give more privileges, and no process without privileges inspect this one. Raises
    :class:`OSError`."""
    _prctl(PR_SET_NO_NEW_PRIVS, 1)
    _prctl(PR_SET_DUMPABLE, 0)


def leave_network() -> None:
    """Enter an empty network namespace; if not root, a user namespace as well."""
    flags = CLONE_NEWNET if os.geteuid() == 0 else CLONE_NEWUSER | CLONE_NEWNET
    _check(_libc().unshare(flags), "unshare")


def become_another(places: Iterable[Path]) -> None:
    """Change from root to a user that owns only the working directory, and can reach *places*.

    Raises:
        OSError: the user could not be changed.
    """
    held = next(
        int(line.split()[1], 16)
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        if line.startswith("CapEff:")
    )
    if not all(held >> number & 1 for number in (CAP_CHOWN, CAP_KILL, CAP_SETGID, CAP_SETUID)):
        raise OSError("root lacks the capabilities to change its user, and to end a guest of another")
    open_way(places)
    number = next((one for one in (FIRST_USER + os.getpid(), NOBODY) if _exists(one)), None)
    if number is None:
        raise OSError("this container has no other user")
    os.chown(".", number, -1)
    os.setgroups([])
    os.setresgid(number, number, number)
    os.setresuid(number, number, number)


def open_way(places: Iterable[Path]) -> None:
    """Let other users than root reach *places*, in a mount namespace of this process.

    A directory on the way that other users may not enter (Python may be in ``/root``) is covered by an empty
    one, and the place is mounted into that. The place itself must still let the user in.

    Raises:
        OSError: this root may not mount.
    """
    ways = {place: closed for place in places if (closed := _closed_to_others(place)) is not None}
    if not ways:
        return
    libc = _libc()
    _check(libc.unshare(CLONE_NEWNS), f"no way to {', '.join(map(str, ways))} for another user, and unshare")
    _check(libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None), "mount")
    handles = {place: os.open(place, os.O_PATH | os.O_CLOEXEC) for place in ways}
    for closed in sorted(set(ways.values())):
        _check(libc.mount(b"none", bytes(closed), b"tmpfs", 0, b"mode=755"), f"mount {closed}")
    for place, handle in handles.items():
        _make_way(place)
        source = f"/proc/self/fd/{handle}".encode()
        _check(libc.mount(source, bytes(place), None, MS_BIND | MS_REC, None), f"mount {place}")
        os.close(handle)


def _make_way(place: Path) -> None:
    """Make a directory, and those above it, that other users may enter, whatever the umask."""
    before = os.umask(0o022)
    try:
        place.mkdir(parents=True, exist_ok=True)
    finally:
        os.umask(before)


def _closed_to_others(path: Path) -> Path | None:
    """The first directory above *path* that others may not enter."""
    return next((one for one in reversed(path.parents) if not one.stat().st_mode & stat.S_IXOTH), None)


def _exists(number: int) -> bool:
    """Whether this user namespace has a user and a group of that number."""
    return all(
        any(
            int(first) <= number < int(first) + int(count)
            for first, _, count in map(str.split, Path(f"/proc/self/{kind}_map").read_text().splitlines())
        )
        for kind in ("uid", "gid")
    )


def drop_bounding_set() -> None:
    """Make sure that no program can give a capability again. A process that may not do this has none to
    lose."""
    for number in range(CAPABILITIES):
        if _libc().prctl(PR_CAPBSET_DROP, number, 0, 0, 0) != 0:
            return


def drop_capabilities() -> None:
    """Permitted, effective, inheritable and ambient: none, in whatever user namespace."""
    _libc().prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)  # unknown before Linux 4.3, as they are
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0)
    nothing = (ctypes.c_uint32 * 6)()
    _check(_libc().capset(header, nothing), "capset")


def reclaim(directory: Path) -> None:
    """Take over the ownership of all that a guest of another user left in *directory*. The guest must have
    ended.

    Raises:
        OSError: that is impossible.
    """
    if os.geteuid() != 0:
        return
    for _, directories, files, handle in os.fwalk(directory, follow_symlinks=False):
        os.fchown(handle, 0, -1)
        for name in (*directories, *files):
            os.chown(name, 0, -1, dir_fd=handle, follow_symlinks=False)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _prctl(option: int, value: int) -> None:
    _check(_libc().prctl(option, value, 0, 0, 0), f"prctl({option})")
