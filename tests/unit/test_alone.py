"""Work on files is done together, or by one alone."""

from __future__ import annotations

import fcntl
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from drakcelery.host.alone import alone, together
from tests.waiting import wait_until

Enter = Callable[[Path, Callable[[], None]], AbstractContextManager[None]]


class Worker(threading.Thread):
    """Enters, and stays until it is told to leave."""

    def __init__(self, enter: Enter, state_dir: Path) -> None:
        super().__init__(daemon=True)
        self.waited = threading.Event()
        self._context = enter(state_dir, self.waited.set)
        self.inside, self.leaves = threading.Event(), threading.Event()
        self.start()

    def run(self) -> None:
        """Until :attr:`leaves` is set."""
        with self._context:
            self.inside.set()
            self.leaves.wait()

    def leave(self) -> None:
        """Return when it has left."""
        self.leaves.set()
        self.join()


def is_held(state_dir: Path) -> bool:
    """Whether somebody waits to be alone, or is."""
    with (state_dir / "io.gate").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        fcntl.flock(file, fcntl.LOCK_UN)
        return False


def test_one_alone(tmp_path: Path) -> None:
    """Who wants to be alone waits for those at work; who comes later waits for him, so that he gets there."""
    first = Worker(together, tmp_path)
    assert first.inside.wait(30)  # before the other is at the door, where one of them would wait for a moment
    second = Worker(together, tmp_path)
    assert second.inside.wait(30)
    suspect = Worker(alone, tmp_path)
    wait_until(lambda: is_held(tmp_path), "the suspect waits")
    late = Worker(together, tmp_path)
    assert late.waited.wait(30)
    assert suspect.waited.wait(30)  # it says so once it has closed the door
    assert not first.waited.is_set()
    first.leave()
    assert not suspect.inside.is_set()
    second.leave()
    assert suspect.inside.wait(30)
    assert not late.inside.is_set()
    suspect.leave()
    assert late.inside.wait(30)
    late.leave()
