"""Stops the stack of a data directory from outside: what `drakcelery down` does."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from pathlib import Path

from drakcelery.embedded import lock
from drakcelery.embedded.supervision import GRACE, end_marked, marked
from drakcelery.errors import StackError

_TRIES = 5
_MARGIN = 60.0
"""Seconds that the servers have beyond the processes' grace."""


def stop(data_dir: Path) -> bool:
    """Stop the stack that runs in *data_dir*, wherever it was started; False if none runs there.

    It is known by the lock that the kernel keeps: neither a stale file nor another process that has its
    number by now is taken for it. What a killed stack has left running ends as well.

    Raises:
        StackError: it is another user's, or does not end.
    """
    for _ in range(_TRIES):
        pid = lock.holder(data_dir)
        if pid is None:
            return _clear(data_dir)
        if _stop(data_dir, pid):
            return True
    raise _not_sure(data_dir, pid)


def _stop(data_dir: Path, pid: int) -> bool:
    """Stop the process *pid*, once it is sure that it is the stack; False if it has ended meanwhile."""
    try:
        descriptor = os.pidfd_open(pid)  # from here on the number cannot become another's
    except ProcessLookupError:
        return False
    try:
        if lock.holder(data_dir) != pid:
            return False
        if not lock.is_held_by(data_dir, pid):
            raise _not_sure(data_dir, pid)
        signal.pidfd_send_signal(descriptor, signal.SIGTERM)
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        if not poll.poll((GRACE + _MARGIN) * 1000):
            raise StackError(
                f"the stack in {data_dir} (pid {pid}) does not end; `kill -KILL {pid}` ends it, and loses "
                "nothing that was stored"
            )
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True


def _not_sure(data_dir: Path, pid: int | None) -> StackError:
    return StackError(
        f"a stack runs in {data_dir}, but its process is not the one that {data_dir / lock.NAME} names "
        f"({pid}), or is another user's: stop it where it was started"
    )


def _clear(data_dir: Path) -> bool:
    """End what a stack has left running that was killed together with its keeper."""
    if not (data_dir / lock.NAME).exists() or not marked(str(data_dir)):
        return False
    with contextlib.ExitStack() as held:
        held.enter_context(lock.held(data_dir))
        end_marked(str(data_dir), grace=0)
    return True
