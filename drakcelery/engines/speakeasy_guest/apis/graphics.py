"""GDI+ as far as programs start it. What draws with it is not imitated."""

from __future__ import annotations

from typing import Any, Final

from drakcelery.engines.speakeasy_guest.apis.api import Api, put

MODULE: Final = "gdiplus"
HOOKS: Final = ("NotificationHook", "NotificationUnhook")
"""Functions that a program calls itself if it wants no thread for them (``GdiplusStartupOutput``)."""

TOKEN: Final = 1


def _startup(emu: Any, _name: str, argv: list[Any]) -> int:
    size = emu.get_ptr_size()
    put(emu, argv[0], TOKEN, size)
    if argv[2]:
        for number, hook in enumerate(HOOKS):
            emu.write_ptr(argv[2] + number * size, emu.get_proc(MODULE, hook))
    return 0


def _hooked(emu: Any, name: str, argv: list[Any]) -> int:
    if name == HOOKS[0]:
        put(emu, argv[0], TOKEN, emu.get_ptr_size())
    return 0


def _shutdown(_emu: Any, _name: str, _argv: list[Any]) -> int:
    return 0


APIS = {
    "GdiplusStartup": Api(words=3, answer=_startup),
    "GdiplusShutdown": Api(words=1, answer=_shutdown),
    **{name: Api(words=1, answer=_hooked) for name in HOOKS},
}
