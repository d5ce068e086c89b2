"""What holds a sample that breaks out of the emulator: limits and an empty network, set before it loads."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_NO_NEW_PRIVS = 38
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
"""Numbers of ``linux/prctl.h`` and ``linux/sched.h``."""

OPEN_FILES = 64


def die_with(parent: int) -> None:
    """Have the kernel kill this process when *parent* ends.

    Raises:
        OSError: the kernel refuses, or *parent* has ended already.
    """
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise ProcessLookupError(f"the engine (process {parent}) has ended")


def confine(*, memory: int, file: int, cpu: int) -> str:
    """Limit this process for good and take the network away.

    Args:
        memory: bytes of address space.
        file: bytes any written file may have.
        cpu: seconds of processor time.

    Returns:
        what holds, for the log: the network part depends on the kernel.

    Raises:
        OSError: a limit could not be set.
    """
    network = _leave_network()
    for kind, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, file),
        (resource.RLIMIT_CPU, cpu),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
    ):
        resource.setrlimit(kind, (value, value))
    _prctl(PR_SET_NO_NEW_PRIVS, 1)
    _prctl(PR_SET_DUMPABLE, 0)
    return f"network={network} memory={memory} file={file} cpu={cpu}"


def forbid_processes() -> None:
    """No new process or thread from here on; the kernel does not hold root to it. Raises :class:`OSError`."""
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))


def address_space() -> int:
    """Bytes of address space that this process takes now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    return pages * resource.getpagesize()


def _leave_network() -> str:
    """Enter an empty network namespace, where the kernel allows it."""
    libc = ctypes.CDLL(None, use_errno=True)
    flags = CLONE_NEWNET if os.geteuid() == 0 else CLONE_NEWUSER | CLONE_NEWNET
    if libc.unshare(flags) == 0:
        return "own-namespace"
    return f"shared({os.strerror(ctypes.get_errno())})"


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}): {os.strerror(number)}")
