"""How windows are found: by class and title, one after the other, by their numbers and programs."""

from __future__ import annotations

from typing import Any, Final

from drakcelery.engines.speakeasy_guest.apis.api import Api, put, read_text
from drakcelery.engines.speakeasy_guest.apis.handles import failed
from drakcelery.engines.speakeasy_guest.apis.window_classes import class_name, registered
from drakcelery.engines.speakeasy_guest.apis.window_procedures import LOW
from drakcelery.engines.speakeasy_guest.apis.windows import INVALID_WINDOW, Plain
from drakcelery.engines.speakeasy_guest.calling.guest_calls import GuestCall, Steps
from drakcelery.engines.speakeasy_guest.configuration import SHELL_PID
from drakcelery.engines.speakeasy_guest.scheduling.desktop import OTHERS, PARENT

THREAD_OF_OTHERS: Final = SHELL_PID + 4
FIRST, LAST, NEXT, PREVIOUS, OWNER, CHILD = range(6)
"""``GW_…``"""

IN_WHICH, ROOT_OWNER = 1, 3
"""``GA_PARENT`` and ``GA_ROOTOWNER``."""


def _find(first: int) -> Plain:
    """``FindWindow``, and ``FindWindowEx`` whose arguments are behind two handles."""

    def answer(emu: Any, name: str, argv: list[Any]) -> int:
        wide = name.endswith("W")
        parent = argv[0] & LOW if first else 0
        there = emu.desktop.children(parent)
        if first and argv[1] & LOW:
            numbers = [window.handle for window in there]
            if argv[1] & LOW not in numbers:
                return failed(emu, INVALID_WINDOW)
            there = there[numbers.index(argv[1] & LOW) + 1 :]
        kind = class_name(emu, argv[first], wide=wide) if argv[first] else None
        title = read_text(emu, argv[first + 1], wide=wide) if argv[first + 1] else None
        argv[first : first + 2] = kind or 0, title or 0
        wanted = _called(emu, kind)
        for window in there:
            if wanted in (None, window.kind.lower()) and title in (None, window.title):
                return int(window.handle)
        return 0

    return answer


def _called(emu: Any, kind: str | int | None) -> str | None:
    """The name of a class in small letters, also of an atom; empty for one that is no class'."""
    if isinstance(kind, int):
        known = registered(emu, kind)
        return known.name.lower() if known is not None else ""
    return kind if kind is None else kind.lower()


def _enumerate(emu: Any, name: str, argv: list[Any]) -> Steps:
    """``EnumWindows`` and ``EnumChildWindows``."""
    parent = argv[0] & LOW if "Child" in name else 0
    function, parameter = argv[-2:]
    for window in emu.desktop.children(parent):
        if not (yield GuestCall(function, (window.handle, parameter))) & LOW:
            return 0
        if parent and not (yield from _enumerate(emu, name, [window.handle, function, parameter])):
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


def _related(emu: Any, _name: str, argv: list[Any]) -> int:
    """``GetWindow``: the first, last, next or previous one beside it, its owner, or the first one in it."""
    window, what = emu.desktop.get(argv[0]), argv[1] & LOW
    if window is None:
        return failed(emu, INVALID_WINDOW)
    if what == OWNER:
        return 0 if window.parent else int(window.numbers.get(PARENT, 0))
    if what == CHILD:
        return _first_in(emu, "", argv)
    beside = [one.handle for one in emu.desktop.children(window.parent)]
    at = beside.index(window.handle)
    place = {FIRST: 0, LAST: len(beside) - 1, NEXT: at + 1, PREVIOUS: at - 1}.get(what, -1)
    return int(beside[place]) if 0 <= place < len(beside) else 0


def _first_in(emu: Any, _name: str, argv: list[Any]) -> int:
    """``GetTopWindow``: without a window, of those on the screen."""
    inside = emu.desktop.children(argv[0] & LOW)
    return int(inside[0].handle) if inside else 0


def _around(emu: Any, _name: str, argv: list[Any]) -> int:
    """``GetAncestor``: what it is in, or the outermost one around it (its owners count, if asked for)."""
    window, what = emu.desktop.get(argv[0]), argv[1] & LOW
    if window is None:
        return 0
    if what == IN_WHICH:
        return int(window.parent)
    while (above := window.numbers.get(PARENT, 0) if what == ROOT_OWNER else window.parent) and (
        outer := emu.desktop.get(above)
    ):
        window = outer
    return int(window.handle)


def _in_front(_emu: Any, _name: str, _argv: list[Any]) -> int:
    return OTHERS[-1][0]


APIS = {
    "FindWindow": Api(words=2, answer=_find(0)),
    "FindWindowEx": Api(words=4, answer=_find(2)),
    "EnumWindows": Api(words=2, answer=_enumerate),
    "EnumChildWindows": Api(words=3, answer=_enumerate),
    "GetWindowThreadProcessId": Api(words=2, answer=_thread_of),
    "GetWindow": Api(words=2, answer=_related),
    "GetTopWindow": Api(words=1, answer=_first_in),
    "GetAncestor": Api(words=2, answer=_around),
    "GetForegroundWindow": Api(words=0, answer=_in_front),
}
