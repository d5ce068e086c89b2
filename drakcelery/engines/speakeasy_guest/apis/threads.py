"""Functions on threads, of other processes too: their ends and their calls."""

from __future__ import annotations

from typing import Any, Final

from drakcelery.engines.speakeasy_guest.apis.api import Api, put
from drakcelery.engines.speakeasy_guest.apis.handles import ERROR_INVALID_HANDLE, failed
from drakcelery.engines.speakeasy_guest.apis.objects import counted
from drakcelery.engines.speakeasy_guest.apis.storage import clear_values
from drakcelery.engines.speakeasy_guest.calling.guest_calls import Leave, Steps
from drakcelery.engines.speakeasy_guest.scheduling.scheduler import GuestThread

FAILED: Final = 0xFFFFFFFF
ERROR_INVALID_PARAMETER: Final = 87
STATUS_INVALID_HANDLE: Final = 0xC0000008
CURRENT_PROCESS: Final = (0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF)
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


def _terminate_process(emu: Any, name: str, argv: list[Any]) -> Steps:
    """``TerminateProcess`` and ``NtTerminateProcess``, which without one ends the other threads only."""
    native, found = name.startswith("Nt"), emu.get_object_from_handle(argv[0])
    if argv[0] in CURRENT_PROCESS or found is emu.curr_process:
        yield from emu.scheduler.wait(lambda: not emu.scheduler.fresh())
        emu.exit_process()
        return 0
    if native and not argv[0]:
        for thread in emu.scheduler.threads:
            thread.over = thread is not emu.scheduler.current
        return 0
    if found is None:
        return STATUS_INVALID_HANDLE if native else failed(emu, ERROR_INVALID_HANDLE)
    emu.kill_process(found)
    return 0 if native else 1


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


def _resume(emu: Any, _name: str, argv: list[Any]) -> int:
    found = _thread(emu, argv[0])
    if found is None:
        return _resume_other(emu, argv[0])
    before = found.suspended
    found.suspended = max(before - 1, 0)
    return before


def _resume_other(emu: Any, handle: int) -> int:
    """A thread of another process: one that the program made there runs, the first one is that of Windows."""
    other = emu.get_object_from_handle(handle)
    if getattr(other, "suspend_count", None) is None:
        return FAILED
    before = int(other.suspend_count)
    other.suspend_count = max(before - 1, 0)
    if before == 1:
        emu.hollows.resumed(other)
    emu.resume_thread(other)
    return before


def _exit_code(emu: Any, _name: str, argv: list[Any]) -> int:
    found = _thread(emu, argv[0])
    put(emu, argv[1], found.exit_code if found else 0, 4)
    return 1


def _queue_call(emu: Any, _name: str, argv: list[Any]) -> int:
    found = _thread(emu, argv[1])
    other = None if found else getattr(emu.get_object_from_handle(argv[1]), "process", None)
    if other is not None and other is not emu.curr_process:  # it runs when the program is over
        emu.create_thread(argv[0], argv[2], other, thread_type=f"apc.{other.get_id()}")
        return 1
    if found is None or found.over:
        return 0
    if len(found.queued) < 256:
        found.queued.append((argv[0], (argv[2],)))
    return 1


def _open_process(emu: Any, _name: str, argv: list[Any]) -> int:
    wanted = argv[2] & 0xFFFFFFFF
    found = next((one for one in emu.get_processes() if one.get_id() == wanted), None)
    found = found or emu.get_object_from_id(wanted)
    if found is None:
        emu.set_last_error(ERROR_INVALID_PARAMETER)
        return 0
    return counted(emu, found)


APIS = {
    "ExitThread": Api(words=1, answer=_exit_thread),
    "RtlExitUserThread": Api(words=1, answer=_exit_thread),
    "FreeLibraryAndExitThread": Api(words=2, answer=_free_and_exit),
    "ExitProcess": Api(words=1, answer=_exit_process),
    "TerminateProcess": Api(words=2, answer=_terminate_process),
    "NtTerminateProcess": Api(words=2, answer=_terminate_process),
    "TerminateThread": Api(words=2, answer=_terminate_thread),
    "SuspendThread": Api(words=1, answer=_suspend),
    "ResumeThread": Api(words=1, answer=_resume),
    "GetExitCodeThread": Api(words=2, answer=_exit_code),
    "OpenProcess": Api(words=3, answer=_open_process),
    "QueueUserAPC": Api(words=3, answer=_queue_call),
}
