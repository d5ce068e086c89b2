"""What the product takes from the standard library to do things at the same time, as actors."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace, TracebackType
from typing import Any, Self

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


class Thread:
    """``threading.Thread`` as an actor of the process that starts it."""

    def __init__(
        self,
        theatre: Theatre,
        target: Callable[..., object],
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        name: str | None = None,
        daemon: bool = True,  # noqa: ARG002 as the original's
    ) -> None:
        self._theatre = theatre
        self._name = name or "thread"
        self._work = functools.partial(target, *args, **(kwargs or {}))
        self._over = False

    def start(self) -> None:
        """As the original's."""
        process = self._theatre.process
        self._theatre.spawn(f"{process.name}/{self._name}", process, self._body)

    def _body(self) -> None:
        try:
            self._work()
        finally:
            self._over = True

    def is_alive(self) -> bool:
        """As the original's."""
        return not self._over

    def join(self, timeout: float | None = None) -> None:
        """As the original's."""
        self._theatre.wait(lambda: self._over, timeout)


def threading_for(theatre: Theatre) -> SimpleNamespace:
    """Stands for the module ``threading`` in modules of the product."""
    return SimpleNamespace(
        Event=lambda: Event(theatre),
        Lock=lambda: Lock(theatre),
        Thread=lambda **given: Thread(theatre, **given),
        RLock=threading.RLock,
        get_ident=threading.get_ident,
    )


class FileLocks:
    """Locks on files, as the kernel has them: they go with the process that holds them."""

    def __init__(self, theatre: Theatre) -> None:
        self._theatre = theatre
        self._held: dict[Path, list[tuple[Process, int]]] = {}

    @contextlib.contextmanager
    def held(self, path: Path, how: int, waiting: Callable[[], None]) -> Iterator[None]:
        """Stands for :func:`drakcelery.alone._locked`."""
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
