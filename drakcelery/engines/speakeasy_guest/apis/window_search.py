"""How windows are found: by class and title, one after the other, by their numbers and programs."""

from __future__ import annotations

from typing import Any, Final

from drakcelery.engines.speakeasy_guest.apis.api import Api, put, read_text
from drakcelery.engines.speakeasy_guest.apis.window_classes import class_name
from drakcelery.engines.speakeasy_guest.apis.window_procedures import LOW
from drakcelery.engines.speakeasy_guest.apis.windows import Plain
from drakcelery.engines.speakeasy_guest.calling.guest_calls import GuestCall, Steps
from drakcelery.engines.speakeasy_guest.configuration import SHELL_PID
from drakcelery.engines.speakeasy_guest.scheduling.desktop import OTHERS

THREAD_OF_OTHERS: Final = SHELL_PID + 4


def _find(first: int) -> Plain:
    """``FindWindow``, and ``FindWindowEx`` whose arguments are behind two handles."""

    def answer(emu: Any, name: str, argv: list[Any]) -> int:
        wide = name.endswith("W")
        parent = argv[0] & LOW if first else 0
        kind = class_name(emu, argv[first], wide=wide) if argv[first] else None
        title = read_text(emu, argv[first + 1], wide=wide) if argv[first + 1] else None
        argv[first : first + 2] = kind or 0, title or 0
        for window in emu.desktop.windows.values():
            named = kind is None or isinstance(kind, int) or window.kind.lower() == kind.lower()
            if window.parent == parent and named and title in (None, window.title):
                return int(window.handle)
        return 0

    return answer


def _enumerate(emu: Any, name: str, argv: list[Any]) -> Steps:
    """``EnumWindows`` and ``EnumChildWindows``."""
    parent = argv[0] & LOW if "Child" in name else 0
    function, parameter = argv[-2:]
    for window in emu.desktop.children(parent):
        if not (yield GuestCall(function, (window.handle, parameter))) & LOW:
            return 0
    return 1


def _thread_of(emu: Any, _name: str, argv: list[Any]) -> int:
    """``GetWindowThreadProcessId``; what is not a window of the program's is the shell's."""
    if not argv[0] & LOW:
        return 0
    window = emu.desktop.get(argv[0])
    thread = window.thread if window is not None else None
    put(emu, argv[1], emu.curr_process.get_id() if thread is not None else SHELL_PID, 4)
    return int(thread.object.get_id()) if thread is not None else THREAD_OF_OTHERS


def _in_front(_emu: Any, _name: str, _argv: list[Any]) -> int:
    return OTHERS[-1][0]


APIS = {
    "FindWindow": Api(words=2, answer=_find(0)),
    "FindWindowEx": Api(words=4, answer=_find(2)),
    "EnumWindows": Api(words=2, answer=_enumerate),
    "EnumChildWindows": Api(words=3, answer=_enumerate),
    "GetWindowThreadProcessId": Api(words=2, answer=_thread_of),
    "GetForegroundWindow": Api(words=0, answer=_in_front),
}
