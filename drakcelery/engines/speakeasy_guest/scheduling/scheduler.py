"""Threads take turns: one runs until it waits, sleeps, ends, or has made so many calls.

Time is made up: when all threads sleep, it goes on at once to when the first of them wakes up. A thread that
waits for what nobody will ever do is let go at last, so that the program shows what follows.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, Final

from drakcelery.engines.speakeasy_guest.calling.guest_calls import GuestCall, Pending, Wait

INFINITE: Final = 0xFFFFFFFF
QUANTUM: Final = 200
"""Calls of Windows functions that a thread makes before another one has its turn."""

QUANTUM_TIME, SHORT_TIME, PATIENCE = 15.625, 0.1, 500
"""Milliseconds that so many calls take, where other threads sleep meanwhile, and that giving way takes; after
how many times of that alone it takes longer."""

MAX_THREADS: Final = 256
"""Threads that are alive at a time."""

MAX_LET_GO: Final = 16
"""How often threads are let go that wait for nothing."""

DONE, TIMED_OUT, INTERRUPTED = 1, 0, 2
"""How a wait ends: it came, it did not come in time, or a call was queued to the thread (APC)."""


@dataclass(eq=False)
class GuestThread:
    """One thread of the program."""

    object: Any
    """Speakeasy's."""
    block: int
    """The address of its TEB."""
    start: Callable[[], None] | None = None
    """Begins it, with its registers set; None once it has begun."""
    saved: Any = None
    """Unicorn's state while it does not run."""
    pending: list[Pending] = field(default_factory=list)
    wait: Wait | None = None
    deadline: float | None = None
    suspended: int = 0
    queued: list[tuple[int, tuple[int, ...]]] = field(default_factory=list)
    """Calls to make when it waits alertably."""
    places: tuple[int, ...] = ()
    """Blocks of memory that are its own."""
    over: bool = False
    exit_code: int = 0x103  # STILL_ACTIVE
    values: dict[int, int] = field(default_factory=dict)
    """Its fiber-local storage."""
    fiber: Any = None
    work: int = 0
    """The work of a thread pool that it does; 0 for none."""

    @property
    def rests(self) -> bool:
        """Whether it does nothing at present: it is over, waits or was suspended."""
        return self.over or self.wait is not None or self.suspended > 0


class Scheduler:
    """The threads of one process."""

    def __init__(self, emu: Any, main: GuestThread) -> None:
        self._emu = emu
        self.main = main
        self.current = main
        self.threads = [main]
        self.now = 0.0
        """Milliseconds that threads have slept."""
        self._calls = 0
        self._let_go = 0
        self._yields = 0

    def find(self, thread: Any) -> GuestThread | None:
        """Ours for one of Speakeasy's."""
        return next((one for one in self.threads if one.object is thread), None)

    def others(self) -> bool:
        """Whether there are threads besides the present one that are not over."""
        return any(not one.over for one in self.threads if one is not self.current)

    def fresh(self) -> bool:
        """Whether there are threads that had no turn yet."""
        return any(one.start and not (one.suspended or one.over or one.wait) for one in self.threads)

    def forget(self) -> list[GuestThread]:
        """The threads that are over, which are forgotten with this."""
        gone = [one for one in self.threads if one.over and one not in (self.main, self.current)]
        self.threads = [one for one in self.threads if one not in gone]
        return gone

    def is_full(self) -> bool:
        """Whether there can be no more threads."""
        return len(self.threads) >= MAX_THREADS

    def wait(
        self,
        ready: Callable[[], bool],
        milliseconds: int = INFINITE,
        *,
        alertable: bool = False,
        lasting: bool = False,
    ) -> Generator[Wait, int, int]:
        """Wait until *ready*: one of :data:`DONE`, :data:`TIMED_OUT` and :data:`INTERRUPTED`.

        Args:
            ready: whether it has come; asked again and again.
            milliseconds: at most; :data:`INFINITE` for no limit.
            alertable: queued calls end it.
            lasting: nobody lets it go; it may wait until the process is over.
        """
        if not (alertable and self.current.queued):
            if ready():
                return DONE
            if milliseconds == 0:
                return TIMED_OUT
        return (yield Wait(ready=ready, milliseconds=milliseconds, alertable=alertable, lasting=lasting))

    def block(self, wait: Wait) -> None:
        """The present thread waits; another one goes on."""
        thread = self.current
        thread.wait = wait
        limit = wait.milliseconds
        thread.deadline = None if limit == INFINITE else self.now + limit
        self.switch()

    def count_call(self) -> None:
        """A call was made; after so many of them another thread has its turn."""
        if len(self.threads) > 1:
            self._calls += 1
            if self._calls >= QUANTUM:
                self.now += QUANTUM_TIME
                self.switch()

    def give_way(self) -> Generator[Wait, int, None]:
        """Let another thread run, if one can; one that does only this waits for those that sleep."""
        self._yields += 1
        self.now += SHORT_TIME if self._yields < PATIENCE else QUANTUM_TIME
        yield Wait(ready=lambda: True, milliseconds=INFINITE)

    def end(self, code: int) -> None:
        """The present thread is over."""
        thread = self.current
        thread.over, thread.exit_code = True, code & 0xFFFFFFFF
        thread.pending = []
        self._emu.guest_calls.pending = thread.pending
        self.switch()

    def switch(self) -> None:
        """Let the next thread go on that can; the process is over when there is none."""
        self._calls = 0
        following = self._next()
        if following is None:
            self._emu.end_process()
            return
        thread, result = following
        if thread is not self.current:
            self._leave()
            self._enter(thread)
        if thread.start is not None:
            begin, thread.start, thread.wait = thread.start, None, None
            begin()
        elif thread.wait is not None:
            thread.wait = None
            self._emu.guest_calls.resume(result)
        else:
            self._emu.processor.go_on()

    def _leave(self) -> None:
        thread = self.current
        thread.pending = self._emu.guest_calls.pending
        thread.saved = None if thread.over else self._emu.emu_eng.emu.context_save()

    def _enter(self, thread: GuestThread) -> None:
        self.current = thread
        if thread.saved is not None:
            self._emu.emu_eng.emu.context_restore(thread.saved)
            thread.saved = None
        self._emu.guest_calls.pending = thread.pending
        self._emu.curr_thread = thread.object
        self._emu.set_thread_block(thread.block)

    def _next(self) -> tuple[GuestThread, int] | None:
        """Who goes on, and how its wait ended."""
        at = self.threads.index(self.current) + 1 if self.current in self.threads else 0
        turn = [one for one in (*self.threads[at:], *self.threads[:at]) if not one.over]
        able = [one for one in turn if not one.suspended]
        for one in able:
            result = self._result(one)
            if result is not None:
                return one, result
        sleeping = [one for one in able if one.deadline is not None]
        if sleeping:
            first = min(sleeping, key=lambda one: one.deadline or 0)
            until = max(self.now, first.deadline or 0)
            if self._emu.guest.sleep:
                self._emu.clock.wait(until - self.now, self._emu.stopping)
            self.now = until
            self._yields = 0
            self._emu.shared_data.update()
            return first, self._result(first) or TIMED_OUT  # a timer may have come before the deadline
        return self._freed(able)

    def _result(self, thread: GuestThread) -> int | None:
        """How the wait of a thread has ended; None if it has not."""
        wait = thread.wait
        if wait is None:
            return DONE
        if wait.alertable and thread.queued:
            return INTERRUPTED
        if wait.ready():
            return DONE
        return TIMED_OUT if thread.deadline is not None and thread.deadline <= self.now else None

    def _freed(self, able: list[GuestThread]) -> tuple[GuestThread, int] | None:
        """A thread that waits for what will never come, the first one last."""
        waiting = [one for one in reversed(able) if one.wait is not None and not one.wait.lasting]
        if not waiting or self._let_go >= MAX_LET_GO:
            return None
        self._let_go += 1
        return waiting[0], DONE

    def queued_calls(self) -> Generator[GuestCall, int, None]:
        """Make the calls that were queued to the present thread."""
        thread = self.current
        while thread.queued:
            address, arguments = thread.queued.pop(0)
            yield GuestCall(address, arguments)
