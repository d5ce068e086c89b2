"""Ends what a killed stack left behind: ``python -m drakcelery.embedded.keeper PID MARK``.

A stack that is killed outright (SIGKILL, out of memory) cannot stop the processes that it started, and the
processes cannot stop their own children. This one sleeps until the stack is gone, and then ends every process
that carries the stack's mark. After an ordinary stop there is none.
"""

from __future__ import annotations

import os
import select
import signal
import sys

from drakcelery.embedded.supervision import end_marked


def main(stack_pid: int, mark: str) -> None:
    """Sleep until the process *stack_pid*, our parent, is gone; then end the processes with *mark*."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    descriptor = os.pidfd_open(stack_pid)
    if os.getppid() == stack_pid:  # else it died before we looked, and the number may be another's
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        poll.poll()
    end_marked(mark, grace=0)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
