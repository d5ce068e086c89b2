"""Functions on threads: their ends, their calls, and what runs on threads of a pool."""

from __future__ import annotations

from typing import Any, Final

from drakcelery.engines.speakeasy_guest.apis.api import Api, put
from drakcelery.engines.speakeasy_guest.apis.storage import clear_values
from drakcelery.engines.speakeasy_guest.calling.guest_calls import Leave, Steps
from drakcelery.engines.speakeasy_guest.scheduling.scheduler import INFINITE, GuestThread

FAILED: Final = 0xFFFFFFFF
CURRENT_THREAD: Final = (0xFFFFFFFE, 0xFFFFFFFFFFFFFFFE)


def _thread(emu: Any, handle: int) -> GuestThread | None:
    if handle in CURRENT_THREAD:
        current: GuestThread = emu.scheduler.current
        return current
    found: GuestThread | None = emu.scheduler.find(emu.get_object_from_handle(handle))
    return found


def _exit_thread(emu: Any, _name: str, argv: list[Any]) -> Steps:
    code = argv[-1] & 0xFFFFFFFF
    yield from emu.leave_thread()
    yield Leave(lambda: emu.scheduler.end(code))
    return 0


def _free_and_exit(emu: Any, name: str, argv: list[Any]) -> Steps:
    yield from emu.libraries.free(argv[0])
    return (yield from _exit_thread(emu, name, argv))


def _exit_process(emu: Any, _name: str, _argv: list[Any]) -> Steps:
    """Threads that were made but had no turn yet have one before: on Windows they ran beside this one."""
    scheduler = emu.scheduler
    yield from scheduler.wait(lambda: not scheduler.fresh())
    yield from clear_values(emu)
    yield from emu.libraries.detach_all()
    emu.exit_process()
    return 0


def _terminate_thread(emu: Any, _name: str, argv: list[Any]) -> int:
    found = _thread(emu, argv[0])
    if found is not None:
        found.over, found.exit_code = True, argv[1] & 0xFFFFFFFF
        if found is emu.scheduler.current:
            emu.scheduler.end(argv[1])
    return int(found is not None)


def _suspend(emu: Any, _name: str, argv: list[Any]) -> int:
    found = _thread(emu, argv[0])
    if found is None or found.over:
        return FAILED
    found.suspended += 1
    return found.suspended - 1


def _resume(emu: Any, name: str, argv: list[Any]) -> int:
    found = _thread(emu, argv[0])
    if found is None:  # one in another process
        module, (_, handler, *_) = emu.api.get_export_func_handler("kernel32", name)
        return int(handler(module, emu, argv, {}) or 0)
    before = found.suspended
    found.suspended = max(before - 1, 0)
    return before


def _exit_code(emu: Any, _name: str, argv: list[Any]) -> int:
    found = _thread(emu, argv[0])
    put(emu, argv[1], found.exit_code if found else 0, 4)
    return 1


def _queue_call(emu: Any, _name: str, argv: list[Any]) -> int:
    found = _thread(emu, argv[1])
    if found is None or found.over:
        return 0
    if len(found.queued) < 256:
        found.queued.append((argv[0], (argv[2],)))
    return 1


def _work_item(emu: Any, _name: str, argv: list[Any]) -> int:
    handle, _ = emu.new_thread(argv[0], (argv[1],))
    return int(bool(handle))


def _simple_callback(emu: Any, _name: str, argv: list[Any]) -> int:
    handle, _ = emu.new_thread(argv[0], (0, argv[1]))
    return int(bool(handle))


def _create_work(emu: Any, _name: str, argv: list[Any]) -> int:
    place: int = emu.heap_alloc(0x20, heap="threadpool")
    emu.write_ptr(place, argv[0])
    emu.write_ptr(place + emu.get_ptr_size(), argv[1])
    return place


def _submit_work(emu: Any, _name: str, argv: list[Any]) -> int:
    callback, parameter = emu.read_ptr(argv[0]), emu.read_ptr(argv[0] + emu.get_ptr_size())
    emu.new_thread(callback, (0, parameter, argv[0]))
    return 0


def _wait_for_work(emu: Any, _name: str, _argv: list[Any]) -> Steps:
    scheduler = emu.scheduler
    me = scheduler.current
    mine = [one for one in scheduler.threads if one not in (me, scheduler.main)]
    yield from scheduler.wait(lambda: all(one.over or one.wait is not None for one in mine))
    return 0


def _close_work(_emu: Any, _name: str, _argv: list[Any]) -> int:
    return 0


def _queue_timer(emu: Any, _name: str, argv: list[Any]) -> int:
    place, callback, parameter, due = argv[0], argv[2], argv[3], argv[4] & INFINITE
    handle, _ = emu.new_thread(callback, (parameter, 1), delay=due)
    emu.write_ptr(place, handle)
    return int(bool(handle))


APIS = {
    "ExitThread": Api(words=1, answer=_exit_thread),
    "RtlExitUserThread": Api(words=1, answer=_exit_thread),
    "FreeLibraryAndExitThread": Api(words=2, answer=_free_and_exit),
    "ExitProcess": Api(words=1, answer=_exit_process),
    "TerminateThread": Api(words=2, answer=_terminate_thread),
    "SuspendThread": Api(words=1, answer=_suspend),
    "ResumeThread": Api(words=1, answer=_resume),
    "GetExitCodeThread": Api(words=2, answer=_exit_code),
    "QueueUserAPC": Api(words=3, answer=_queue_call),
    "QueueUserWorkItem": Api(words=3, answer=_work_item),
    "TrySubmitThreadpoolCallback": Api(words=3, answer=_simple_callback),
    "CreateThreadpoolWork": Api(words=3, answer=_create_work),
    "SubmitThreadpoolWork": Api(words=1, answer=_submit_work),
    "WaitForThreadpoolWorkCallbacks": Api(words=2, answer=_wait_for_work),
    "CloseThreadpoolWork": Api(words=1, answer=_close_work),
    "CreateTimerQueueTimer": Api(words=7, answer=_queue_timer),
}
