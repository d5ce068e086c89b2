"""What the product takes from the standard library to do things at the same time, as actors."""

from __future__ import annotations

import contextlib
import fcntl
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from drakcelery.stages.heartbeat import Heartbeat
from tests.simulation.theatre import Process, Theatre


class Event:
    """``threading.Event`` in virtual time."""

    def __init__(self, theatre: Theatre) -> None:
        self._theatre = theatre
        self._is_set = False

    def set(self) -> None:
        """As the original's."""
        self._is_set = True

    def clear(self) -> None:
        """As the original's."""
        self._is_set = False

    def is_set(self) -> bool:
        """As the original's."""
        return self._is_set

    def wait(self, timeout: float | None = None) -> bool:
        """As the original's."""
        return self._theatre.wait(self.is_set, timeout)


class Lock:
    """``threading.Lock``: who waits for it lets the others go on."""

    def __init__(self, theatre: Theatre) -> None:
        self._theatre = theatre
        self._held = False

    def acquire(self) -> bool:
        """As the original's, without its arguments."""
        while self._held:
            self._theatre.wait(lambda: not self._held, None)
        self._held = True
        return True

    def release(self) -> None:
        """As the original's."""
        self._held = False

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class Threads:
    """What ``threading.Thread`` does, as an actor of the process that starts it."""

    def __init__(self, theatre: Theatre) -> None:
        self._theatre = theatre
        self._over: dict[threading.Thread, bool] = {}

    def start(self, thread: threading.Thread) -> None:
        """As the original's."""
        process = self._theatre.process
        self._over[thread] = False

        def body() -> None:
            try:
                thread.run()
            finally:
                self._over[thread] = True

        # Python counts those without a name, and other threads of this process with them
        name = re.sub(r"^Thread-\d+", "thread", thread.name)
        self._theatre.spawn(f"{process.name}/{name}", process, body)

    def is_alive(self, thread: threading.Thread) -> bool:
        """As the original's."""
        return not self._over.get(thread, True)

    def join(self, thread: threading.Thread, timeout: float | None = None) -> None:
        """As the original's."""
        self._theatre.wait(lambda: not self.is_alive(thread), timeout)


class Threading:
    """Stands for the module ``threading`` in modules of the product."""

    def __init__(self, theatre: Theatre) -> None:
        self._theatre = theatre

    def Event(self) -> Event:  # noqa: N802 the original's name
        """In virtual time."""
        return Event(self._theatre)

    def Lock(self) -> Lock:  # noqa: N802 the original's name
        """For actors."""
        return Lock(self._theatre)

    def __getattr__(self, name: str) -> Any:
        """Whatever else there is."""
        return getattr(threading, name)


class FileLocks:
    """Locks on files, as the kernel has them: they go with the process that holds them."""

    def __init__(self, theatre: Theatre) -> None:
        self._theatre = theatre
        self._held: dict[Path, list[tuple[Process, int]]] = {}

    @contextlib.contextmanager
    def held(self, path: Path, how: int, waiting: Callable[[], None]) -> Iterator[None]:
        """Stands for :func:`drakcelery.host.alone._locked`."""
        mine = (self._theatre.process, how)
        while not self._is_free(path, how):
            waiting()
            self._theatre.wait(lambda: self._is_free(path, how), 1.0)
        self._held.setdefault(path, []).append(mine)
        try:
            yield
        finally:
            if mine in self._held[path]:
                self._held[path].remove(mine)

    def _is_free(self, path: Path, how: int) -> bool:
        living = [one for one in self._held.get(path, []) if one[0].alive]
        self._held[path] = living
        return not living or (how == fcntl.LOCK_SH and all(held == fcntl.LOCK_SH for _, held in living))


class Inline:
    """``ThreadPoolExecutor`` that does at once what it is given, in the thread of who gives it."""

    def __init__(self, *_: object, **__: object) -> None:
        """Whatever the original takes."""

    def submit(self, work: Callable[..., Any], *args: Any, **more: Any) -> Future[Any]:
        """As the original's."""
        future: Future[Any] = Future()
        try:
            future.set_result(work(*args, **more))
        except Exception as error:  # noqa: BLE001 as the original
            future.set_exception(error)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As the original's."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()


class Pacer:
    """``drakcelery.stages.heartbeat.HeartbeatThread``: beats each heartbeat by an actor of its process."""

    def __init__(self, theatre: Theatre) -> None:
        self._theatre = theatre
        self._beating: set[Heartbeat] = set()

    def add(self, one: Heartbeat) -> None:
        """Beat it from now on."""
        self._beating.add(one)

        def beat() -> None:
            while one in self._beating:
                self._theatre.sleep(one.pause)
                if one in self._beating:
                    one.send()

        threading.Thread(target=beat, name="heartbeat").start()

    def remove(self, one: Heartbeat) -> None:
        """Beat it no more."""
        self._beating.discard(one)
