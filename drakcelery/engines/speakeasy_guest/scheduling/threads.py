"""A Windows whose programs have threads: each with its stack, its block and its turn."""

from __future__ import annotations

from typing import Any, Final

from speakeasy.windows import objman

from drakcelery.engines.speakeasy_guest.apis.apartments import Apartments
from drakcelery.engines.speakeasy_guest.apis.api import PAGE
from drakcelery.engines.speakeasy_guest.apis.cabinets import Contexts
from drakcelery.engines.speakeasy_guest.apis.locks import Locks
from drakcelery.engines.speakeasy_guest.apis.pool import Pool
from drakcelery.engines.speakeasy_guest.apis.socket_states import States
from drakcelery.engines.speakeasy_guest.apis.storage import Storage, clear_values
from drakcelery.engines.speakeasy_guest.calling.guest_calls import GuestCall, Outcome, Steps
from drakcelery.engines.speakeasy_guest.exceptions.faults import Faulting
from drakcelery.engines.speakeasy_guest.machine import memory
from drakcelery.engines.speakeasy_guest.programs.libraries import (
    THREAD_ATTACH,
    THREAD_DETACH,
    Libraries,
    callbacks,
)
from drakcelery.engines.speakeasy_guest.scheduling.desktop import Desktop
from drakcelery.engines.speakeasy_guest.scheduling.scheduler import GuestThread, Scheduler
from drakcelery.engines.speakeasy_guest.scheduling.thread_blocks import SIZE, Stack
from drakcelery.engines.speakeasy_guest.scheduling.wait_objects import WaitObjects

STACK: Final = 256 * 1024
"""Bytes of a further thread's stack."""

ATTACH: Final = "dll_entry.DLL_PROCESS_ATTACH"
"""Speakeasy's type for a run of ``DllMain``."""

NO_HANDLE: Final = 0


def _called(address: int, arguments: tuple[int, ...]) -> Steps:
    return (yield GuestCall(address, arguments))


class Threading(Faulting):
    """Threads of the program's own processes; those that it makes in others are runs of Speakeasy's."""

    scheduler: Scheduler
    libraries: Libraries
    image: Any = None
    """The program that runs, as it was loaded."""
    refused = False
    """Its ``DllMain`` said that it is not to be loaded. Its export is called all the same."""

    def start(self) -> None:
        """Run what is queued for a process, which has one thread yet."""
        self.scheduler = Scheduler(self, GuestThread(self.curr_thread, self.thread_block()))
        self.wait_objects = WaitObjects(self)
        self.locks = Locks()
        self.pool = Pool()
        self.unpacking = Contexts()
        self.sockets = States()
        self.apartments = Apartments()
        self.storage = Storage()
        self.desktop = Desktop()
        super().start()

    def create_thread(
        self, addr: int, ctx: int, proc_obj: Any, thread_type: str = "thread", is_suspended: bool = False
    ) -> tuple[int, Any]:
        """Speakeasy's way to make one: a handle and its object."""
        if proc_obj is not self.curr_process and proc_obj != 0:
            made: tuple[int, Any] = super().create_thread(addr, ctx, proc_obj, thread_type, is_suspended)
            return made
        return self.new_thread(addr, (ctx,), suspended=is_suspended)

    def new_thread(
        self, address: int, arguments: tuple[int, ...], *, suspended: bool = False
    ) -> tuple[int, Any]:
        """Make a thread that calls a function; a handle of 0 if there are too many."""
        return self.new_thread_of(_called(address, arguments), suspended=suspended)

    def new_thread_of(self, steps: Steps, *, suspended: bool = False) -> tuple[int, Any]:
        """Make a thread that does what *steps* say; a handle of 0 if there are too many."""
        for gone in self.scheduler.forget():
            for place in gone.places:
                self._release(place)
        if self.scheduler.is_full():
            return NO_HANDLE, None
        limit = self.mem_map(STACK, tag="emu.stack.thread")
        stack = Stack(limit + STACK, limit)
        thread = self.om.new_object(objman.Thread)
        thread.process = self.curr_process
        block = self.mem_map(SIZE, tag="emu.struct.TEB")
        self.write_block(block, thread, stack)
        storage = self.local_storage()
        self.write_ptr(block + self.offsets.local_storage, storage)
        made = GuestThread(thread, block, suspended=int(suspended), places=(limit, block, storage))
        made.start = lambda: self._begin(made, stack, self._life(steps))
        self.scheduler.threads.append(made)
        return self.om.get_handle(thread), thread

    def _release(self, place: int) -> None:
        """Take away memory of a thread that is over."""
        block = self.get_address_map(place)
        if block is not None and block.base == place:
            memory.release(self, block)

    def _begin(self, thread: GuestThread, stack: Stack, life: Steps) -> None:
        self.processor.set(self.processor.sp, stack.base - PAGE)
        self.processor.reset_floating()
        after = {self.processor.pc: self.return_hook}
        self.guest_calls.begin(life, after, lambda outcome, _problem: self._ended(thread, outcome))

    def _life(self, steps: Steps) -> Steps:
        yield from self.scheduler.queued_calls()
        yield from self._notify_dlls(THREAD_ATTACH)
        code = yield from steps
        yield from self.leave_thread()
        return code

    def leave_thread(self) -> Steps:
        """What has to run before the present thread ends: for what it keeps, and for each module."""
        yield from clear_values(self)
        return (yield from self._notify_dlls(THREAD_DETACH))

    def _notify_dlls(self, reason: int) -> Steps:
        """Call what each module wants to be called when a thread begins or ends."""
        for callback in callbacks(self.image) if self.image is not None else ():
            yield GuestCall(callback, (self.image.base, reason, 0))
        yield from self.libraries.notify_threads(reason)
        return 0

    def all_blocks(self) -> list[int]:
        """Those of all threads that are not over."""
        return [one.block for one in self.scheduler.threads if not one.over]

    def _ended(self, thread: GuestThread, outcome: Outcome) -> None:
        if self.scheduler.current is thread:
            self.scheduler.end(outcome if isinstance(outcome, int) else 0)

    def end_process(self) -> None:
        """All threads are over, or wait for nothing."""
        self.guest_calls.pending = []
        self.processor.set(self.processor.pc, self.return_hook)
        self._unset_emu_hooks()
        self.exit_process()

    def exit_process(self) -> None:
        """The program ends its process: what Windows would have called in it later is not called."""
        if not self.curr_run.error:
            others = [run for run in self.run_queue if run.process_context not in (None, self.curr_process)]
            self.run_queue[:] = others
        super().exit_process()

    def on_run_complete(self) -> Any:
        """The first thread has returned, or the process has ended; other threads go on in the first case."""
        run = self.curr_run
        if run.type == ATTACH and not (self.run_complete or run.error or self.get_return_val() & 0xFFFFFFFF):
            self.refused = True
        if self._lives_on():
            self.scheduler.end(self.get_return_val())
            if not self.run_complete:
                return self.curr_run
        return super().on_run_complete()

    def _lives_on(self) -> bool:
        if self.run_complete or self.curr_run.error or self.stopping.is_set():
            return False
        return not self.run_queue and self.scheduler.others()
