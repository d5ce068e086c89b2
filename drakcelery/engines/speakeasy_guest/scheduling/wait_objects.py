"""What threads wait for by handle: events, mutexes, semaphores, timers, threads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from drakcelery.engines.speakeasy_guest.scheduling.scheduler import GuestThread


@dataclass
class Event:
    """Set or not; one that is not *manual* lets one thread pass each time."""

    manual: bool
    is_set: bool

    def ready(self, _thread: GuestThread) -> bool:
        """Whether a thread may pass."""
        return self.is_set

    def acquire(self, _thread: GuestThread) -> None:
        """A thread passes."""
        self.is_set = self.is_set and self.manual


@dataclass
class Mutex:
    """Owned by one thread, as often as it takes it."""

    owner: GuestThread | None = None
    count: int = 0

    def ready(self, thread: GuestThread) -> bool:
        """Whether a thread may have it; that of one which is over is free."""
        return self.owner is None or self.owner is thread or self.owner.over

    def acquire(self, thread: GuestThread) -> None:
        """A thread has it."""
        self.count = self.count + 1 if self.owner is thread else 1
        self.owner = thread

    def release(self, thread: GuestThread) -> bool:
        """Give it back once; False if it is another's."""
        if self.owner is not thread:
            return False
        self.count -= 1
        if self.count <= 0:
            self.owner = None
        return True


@dataclass
class Semaphore:
    """Lets as many pass as its count says."""

    count: int
    most: int

    def ready(self, _thread: GuestThread) -> bool:
        """Whether one may pass."""
        return self.count > 0

    def acquire(self, _thread: GuestThread) -> None:
        """One passes."""
        self.count -= 1


@dataclass
class Timer:
    """Set at a time; of *manual* ones, for good."""

    manual: bool
    scheduler: Any
    due: float | None = None
    period: int = 0

    def ready(self, _thread: GuestThread) -> bool:
        """Whether its time has come."""
        return self.due is not None and self.scheduler.now >= self.due

    def acquire(self, _thread: GuestThread) -> None:
        """A thread passes."""
        if not self.manual:
            self.due = self.scheduler.now + self.period if self.period else None


@dataclass
class Join:
    """A thread that another one waits for."""

    thread: GuestThread

    def ready(self, _thread: GuestThread) -> bool:
        """Whether it is over."""
        return self.thread.over

    def acquire(self, _thread: GuestThread) -> None:
        """Nothing changes."""


Waitable = Event | Mutex | Semaphore | Timer | Join


class WaitObjects:
    """The objects of one process, by the address of Speakeasy's objects."""

    def __init__(self, emu: Any) -> None:
        self._emu = emu
        self._known: dict[int, Waitable] = {}

    def add(self, handle: int, waitable: Waitable) -> None:
        """Say what a handle is of; one that was known before stays what it was."""
        found = self._emu.get_object_from_handle(handle)
        if found is not None:
            self._known.setdefault(found.address, waitable)

    def get(self, handle: int) -> Waitable | None:
        """What a handle is of; None for what nobody has to wait for."""
        last = (1 << 8 * self._emu.get_ptr_size()) - 1
        if handle in (last, last - 1):  # GetCurrentProcess, GetCurrentThread: over only when all is
            return Event(manual=True, is_set=False)
        found = self._emu.get_object_from_handle(handle)
        if found is None:
            return None
        thread = self._emu.scheduler.find(found)
        if thread is not None:
            return Join(thread)
        if type(found).__name__ == "Mutant":
            return self._known.setdefault(found.address, Mutex())
        return self._known.get(found.address)
