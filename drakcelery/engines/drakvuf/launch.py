"""What a tool's process runs first: ``python -I -S launch.py PARENT PROGRAM ARGUMENT…``.

It asks the kernel to kill it together with its parent, and then becomes the program; that survives
``execve``. A file for a bare interpreter, because the usual way (``preexec_fn``) may deadlock in a process
that has threads. It has no use for ``signal``: importing that takes a third of its processor time.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1
"""``prctl(2)``: the signal that a process gets when its parent dies."""
SIGKILL, SIG_SETMASK, SIGNALS = 9, 2, range(1, 65)
"""``signal(7)``, ``sigprocmask(2)``: Linux's numbers."""

NOT_STARTED = 127
"""Exit code, as a shell's: the program is not there or cannot be executed."""


def main(parent: str, program: str, *arguments: str) -> None:
    """Become *program*, unless *parent*, a process id, is gone already."""
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_PDEATHSIG, SIGKILL)
    if os.getppid() != int(parent):
        sys.exit(NOT_STARTED)
    # execve keeps what is ignored or blocked: by Python (SIGPIPE), by a worker's pool (SIGINT)
    for number in SIGNALS:
        libc.signal(number, None)  # SIG_DFL
    libc.sigprocmask(SIG_SETMASK, ctypes.create_string_buffer(128), None)  # a sigset_t of none
    try:
        os.execvp(program, [program, *arguments])  # noqa: S606 no shell is wanted
    except OSError as error:
        sys.stderr.write(f"{program}: {error.strerror}\n")
        sys.exit(NOT_STARTED)


if __name__ == "__main__":
    main(*sys.argv[1:])
