"""Confinement of a sample that breaks out of the emulator, by all means of the kernel.

First :func:`limit`: resources, and an empty network. Then, once all programs are in and the sample is read,
:func:`lock_down`: another user, no capability, no file but the output and Python's own, and few system calls.
What this machine cannot do is a :class:`Lack`; the rest is in force nevertheless.

``python -m drakcelery.engines.confinement`` does both to itself and prints what was lacking, for
:func:`find_lacks`.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from drakcelery.engines import landlock, privileges, seccomp
from drakcelery.errors import EngineError

OPEN_FILES = 64
CLONE_THREAD = 0x00010000
PACKAGE = Path(__file__).parents[1]

LOOK_LIMIT = 30.0
"""Seconds for :func:`find_lacks`."""

ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "MALLOC_ARENA_MAX": "1"}
"""All that the guest program gets of the environment: secrets live there.

One malloc arena: glibc reserves 64 MB of address space, which is limited, for each further one.
"""

SYSTEM = tuple(
    map(Path, ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache"))
) + tuple(map(Path, ("/etc/localtime", "/usr/share/zoneinfo")))
"""What Python and its libraries read of the system; nothing of it is secret."""

CALLS = """
    access arch_prctl brk clock_getres clock_gettime clock_nanosleep close close_range dup dup2 dup3
    epoll_create1 epoll_ctl epoll_pwait epoll_wait eventfd2 exit exit_group faccessat faccessat2
    fadvise64 fdatasync flock fstat fstatfs fsync ftruncate futex futex_waitv getcwd getdents64 getegid
    geteuid getgid getpgid getpgrp getpid getppid getrandom getresgid getresuid getrlimit getrusage
    getsid gettid gettimeofday getuid lseek lstat madvise membarrier mincore mkdir mkdirat mmap mprotect
    mremap msync munmap nanosleep newfstatat open openat pipe pipe2 poll ppoll pread64 preadv pselect6
    pwrite64 pwritev read readlink readlinkat readv rename renameat renameat2 restart_syscall rmdir rseq
    rt_sigaction rt_sigpending rt_sigprocmask rt_sigreturn rt_sigsuspend rt_sigtimedwait
    sched_getaffinity sched_yield select set_robust_list set_tid_address sigaltstack stat statfs statx
    sysinfo time times uname unlink unlinkat write writev
""".split()  # noqa: SIM905  # a hundred names read better as a text
"""Memory, time, threads, and opening files again. No socket, program, process, link or mount."""

_FCNTL = (0, 1, 2, 3, 4, 1030)  # F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC
_IOCTL = (0x5401, 0x5421, 0x5450, 0x5451)  # TCGETS, FIONBIO, FIONCLEX, FIOCLEX


class Measure(enum.StrEnum):
    """A part of the confinement that a machine may lack."""

    NETWORK = "network"
    USER = "user"
    CAPABILITIES = "capabilities"
    FILES = "files"
    CALLS = "calls"


_OPEN = {
    Measure.NETWORK: "has no network namespace of its own",
    Measure.USER: "stays root, without capabilities",
    Measure.CAPABILITIES: "keeps the capabilities of its user namespace",
    Measure.FILES: "may open every file that its user may",
    Measure.CALLS: "may use every system call",
}
_REMEDIES = {
    Measure.NETWORK: "allow user namespaces (sysctl user.max_user_namespaces, on Ubuntu also "
    "kernel.apparmor_restrict_unprivileged_userns=0; in a container, its seccomp profile)",
    Measure.USER: "run the vm worker as a user of its own, as the units of drakcelery init do",
    Measure.CAPABILITIES: "write the systemd units again (drakcelery init)",
    Measure.FILES: "use a kernel with Landlock (5.13 or newer, lsm=landlock,… on its command line); write "
    "the systemd units again (drakcelery init); in a container, have a seccomp profile that knows Landlock",
    Measure.CALLS: "install libseccomp (apt install libseccomp2) on a kernel with CONFIG_SECCOMP_FILTER",
}


@dataclass(frozen=True, kw_only=True)
class Lack:
    """A measure that could not be taken here."""

    measure: Measure
    why: str

    def said(self) -> str:
        """What is not protected, and why; a sentence without its full stop."""
        return f"the emulator {_OPEN[self.measure]}: {self.why}"

    def remedy(self) -> str:
        """What to do about it."""
        return _REMEDIES[self.measure]


def limit(*, memory: int, file: int, cpu: int) -> list[Lack]:
    """Limit this process permanently and take the network away.

    Args:
        memory: bytes of address space.
        file: bytes any written file may have.
        cpu: seconds of processor time.

    Raises:
        OSError: a limit could not be set.
    """
    lacks = list(_try(Measure.NETWORK, privileges.leave_network))
    for kind, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, file),
        (resource.RLIMIT_CPU, cpu),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
    ):
        resource.setrlimit(kind, (value, value))
    return lacks


def lock_down(parent: int) -> list[Lack]:
    """Give up permanently all that is not needed to emulate; the working directory, for the output, stays.

    Whatever else is needed must be open or read by now. *parent* is as in :func:`die_with`.

    Raises:
        OSError: something failed that every kernel can do.
    """
    if len(os.listdir("/proc/self/task")) > 1:  # noqa: PTH208  # names are all that is asked for
        raise OSError("there are threads already, which would stay free")
    rules: list[landlock.Ruleset] = []
    lacks = list(_try(Measure.FILES, lambda: rules.append(_rules())))
    privileges.drop_bounding_set()
    if os.geteuid() == 0:
        lacks += _try(Measure.USER, lambda: privileges.become_another(_python_paths()))
    lacks += _try(Measure.CAPABILITIES, privileges.drop_capabilities)
    privileges.gain_no_privileges()
    privileges.die_with(parent)
    for ruleset in rules:
        lacks += _try(Measure.FILES, ruleset.enforce)
    lacks += _try(Measure.CALLS, _keep_few_calls)
    return lacks


def forbid_processes() -> None:
    """Allow no new process or thread from here on; the kernel does not enforce that for root. Raises
    :class:`OSError`."""
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))


def address_space() -> int:
    """Bytes of address space that this process takes now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    return pages * resource.getpagesize()


def find_lacks() -> list[Lack]:
    """What this machine lacks, tried out in a separate process.

    Raises:
        EngineError: it could not be tried.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="drakcelery-") as directory:
            done = subprocess.run(
                [sys.executable, "-I", "-m", __name__],
                env=ENVIRONMENT,
                cwd=directory,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=LOOK_LIMIT,
                check=True,
            )
            privileges.reclaim(Path(directory))
        return [Lack(measure=Measure(one["measure"]), why=str(one["why"])) for one in json.loads(done.stdout)]
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise EngineError(f"The emulator cannot be confined: {said}.") from error
    except (OSError, ValueError, LookupError, TypeError, subprocess.SubprocessError) as error:
        raise EngineError(f"The emulator cannot be confined: {error}.") from error


def _try(measure: Measure, act: Callable[[], object]) -> Iterator[Lack]:
    """Take a measure; if this machine cannot, return why."""
    try:
        act()
    except OSError as error:
        yield Lack(measure=measure, why=str(error.strerror or error))


def _rules() -> landlock.Ruleset:
    """Which files may be read and written. Raises :class:`OSError` if the kernel has no Landlock."""
    known = landlock.version()
    if not known:
        raise OSError("this kernel has no Landlock")
    rules = landlock.Ruleset(known)
    rules.may_read((*SYSTEM, *_libraries()))
    rules.may_fill(Path())
    return rules


def _python_paths() -> tuple[Path, ...]:
    """The directories of Python and of this package."""
    return Path(sys.prefix), Path(sys.base_prefix), PACKAGE


def _libraries() -> list[Path]:
    """Where Python finds modules: its own directories and this package, but nothing else on the path."""
    entries = map(Path, sys.path)
    return [*(path for path in entries if any(map(path.is_relative_to, _python_paths()))), PACKAGE]


def _keep_few_calls() -> None:
    own = os.getpid()
    seccomp.keep_only(
        seccomp.load(),
        CALLS,
        [
            seccomp.Call(name="clone", argument=0, value=CLONE_THREAD, mask=CLONE_THREAD),
            seccomp.Call(name="tgkill", argument=0, value=own),
            seccomp.Call(name="prlimit64", argument=0, value=0),
            *(seccomp.Call(name="fcntl", argument=1, value=command) for command in _FCNTL),
            *(seccomp.Call(name="ioctl", argument=1, value=command) for command in _IOCTL),
        ],
    )


def main() -> None:
    """Confine this process as a guest program is, and say what was lacking. Raises :class:`OSError`."""
    gib = 1024**3
    lacks = limit(memory=gib, file=gib, cpu=int(LOOK_LIMIT))
    lacks += lock_down(os.getppid())
    sys.stdout.write(json.dumps([dataclasses.asdict(lack) for lack in lacks]))


if __name__ == "__main__":
    main()
