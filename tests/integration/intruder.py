"""A guest program that was taken over: it enters as the emulator does, and then tries what it must not.

Run as a script, with a job on stdin, as the engine starts its own guest program. What it tries and whom is in
the job's arguments; what came of each try goes into the log.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from drakcelery.engines.speakeasy_guest.__main__ import enter
from drakcelery.engines.speakeasy_guest.job import GuestJob, State, state_line

DONE = "done"
PTRACE_ATTACH, PTRACE_DETACH = 16, 17
CLONE_NEWUSER = 0x10000000
PR_SET_PDEATHSIG = 1


def tries(
    *, parent: int, secret: Path, sample: Path, elsewhere: Path, port: int
) -> dict[str, Callable[[], object]]:
    """What must fail, by a name for it."""
    libc = ctypes.CDLL(None, use_errno=True)

    def call(name: str, *arguments: object) -> None:
        if getattr(libc, name)(*arguments) < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    def trace() -> None:
        call("ptrace", PTRACE_ATTACH, parent, 0, 0)
        os.waitpid(parent, 0)
        call("ptrace", PTRACE_DETACH, parent, 0, 0)

    def child() -> None:
        if (pid := os.fork()) == 0:
            os._exit(0)
        os.waitpid(pid, 0)

    def program() -> None:
        if (pid := os.fork()) == 0:
            os.execv("/bin/true", ["true"])  # noqa: S606  # that is what is tried
        os.waitpid(pid, 0)

    return {
        "read the configuration": secret.read_bytes,
        "open it by another way": lambda: Path(f"/proc/self/root{secret}").read_bytes(),
        "change the configuration": lambda: secret.open("r+b").close(),
        "make it readable": lambda: secret.chmod(0o777),
        "read the sample": sample.read_bytes,
        "list its directory": lambda: list(secret.parent.iterdir()),
        "read another's memory": lambda: Path(f"/proc/{parent}/mem").open("rb").close(),
        "read another's environment": lambda: Path(f"/proc/{parent}/environ").read_bytes(),
        "trace the engine": trace,
        "limit the engine": lambda: resource.prlimit(parent, resource.RLIMIT_CORE, (0, 0)),
        "kill the engine": lambda: os.kill(parent, signal.SIGCONT),
        "outlive the engine": lambda: call("prctl", PR_SET_PDEATHSIG, 0, 0, 0, 0),
        "write elsewhere": lambda: (elsewhere / "written").write_bytes(b""),
        "link out of the output": lambda: Path("link").symlink_to(secret),
        "give it a second name": lambda: Path("second").hardlink_to(secret),
        "connect to a server": lambda: socket.create_connection(("127.0.0.1", port), 5).close(),
        "make a socket": lambda: socket.socketpair(),
        "become root": lambda: call("syscall", 105 if os.uname().machine == "x86_64" else 146, 0),
        "make a user namespace": lambda: call("unshare", CLONE_NEWUSER),
        "mount": lambda: call("mount", b"none", bytes(elsewhere), b"tmpfs", 0, None),
        "make a process": child,
        "start a program": program,
        "become a program": lambda: os.execv("/nonexistent/true", ["true"]),  # noqa: S606  # ENOENT where it may
    }


def attempt(what: Callable[[], object]) -> str:
    """How it ended: the error's name, or that it was done."""
    try:
        what()
    except FileNotFoundError:
        return DONE  # it was looked for
    except OSError as error:
        return type(error).__name__
    return DONE


def main() -> None:
    """Enter, try, and say what came of it."""
    job = GuestJob.from_json(sys.stdin.buffer.readline())
    told = json.loads(job.arguments)
    aims = tries(
        parent=job.parent,
        secret=Path(told["secret"]),
        sample=Path(job.sample),
        elsewhere=Path(told["elsewhere"]),
        port=told["port"],
    )
    if told["confined"]:
        lacks = enter(job)[1]
    else:
        lacks = []
        os.chdir(Path(job.log).parent)
    results = {name: attempt(what) for name, what in aims.items()}
    results["write the output"] = attempt(lambda: Path("dumps").mkdir())
    results["start a thread"] = attempt(threading.Thread(target=int).start)
    user = os.getuid()
    Path("drakmon.log").write_text(
        json.dumps({"results": results, "lacks": [lack.said() for lack in lacks], "user": user})
    )
    os.write(sys.stdout.fileno(), state_line(State.FINISHED))


if __name__ == "__main__":
    main()
