"""Classes of windows: those that a program registers, and those that Windows brings along."""

from __future__ import annotations

from typing import Any, Final

from drakcelery.engines.speakeasy_guest.apis.api import Api, read_text
from drakcelery.engines.speakeasy_guest.scheduling.desktop import DIALOG, Window, WindowClass

OF_WINDOWS: Final = frozenset(
    {
        *("button", "combobox", "edit", "listbox", "mdiclient", "scrollbar", "static", DIALOG),
        *("comboboxex32", "richedit", "richedit20a", "richedit20w", "richedit50w", "sysanimate32"),
        *("sysheader32", "syslink", "syslistview32", "systabcontrol32", "systreeview32"),
        *("msctls_hotkey32", "msctls_progress32", "msctls_statusbar32", "msctls_trackbar32"),
        *("msctls_updown32", "toolbarwindow32", "tooltips_class32"),
        *("msctls_netaddress", "nativefontctl", "rebarwindow32", "sysdatetimepick32", "sysipaddress32"),
        *("sysmonthcal32", "syspager", "scrollbar", "combolbox", "richedit60w", "reboxlist20w"),
        *("atlaxwin", "atlaxwin80", "atlaxwin90", "atlaxwin100", "atlaxwin110", "atlaxwinlic"),
        *("#32768", "#32769", "#32771", "#32772", "ddemlevent", "ime", "message", "sysshadow"),
        *("avicapwindow", "capwindow", "mciwndclass", "msimewindow", "oleMainThreadWndClass".lower()),
    }
)

ERROR_CLASS_EXISTS, ERROR_NO_CLASS = 1410, 1411
FIRST_POINTER: Final = 0x10000
"""What is below is an atom, not the address of a name."""

FIRST_ATOM_OF_WINDOWS: Final = 0xC000
ATOMS_OF_WINDOWS: Final = range(0x8000, 0x8005)
"""Menus to icons' titles; 0x8002 is ``WC_DIALOG``."""


def class_name(emu: Any, place: int, *, wide: bool) -> str | int:
    """A class by its name, or its atom."""
    return place if place < FIRST_POINTER else read_text(emu, place, wide=wide)


def registered(emu: Any, kind: str | int) -> WindowClass | None:
    """What the program registered."""
    found: WindowClass | None = emu.desktop.classes.get(kind.lower() if isinstance(kind, str) else kind)
    return found


def exists(emu: Any, kind: str | int) -> bool:
    """Whether there are windows of that class: the program's, or Windows' own."""
    if registered(emu, kind) is not None:
        return True
    if isinstance(kind, int):
        return kind == FIRST_ATOM_OF_WINDOWS or kind in ATOMS_OF_WINDOWS
    return kind.lower() in OF_WINDOWS


def procedure(emu: Any, window: Window, *, wide: bool) -> int:
    """The address of a window's function, also of Windows' own."""
    if window.procedure:
        return window.procedure
    return _of_windows(emu, "DefDlgProc" if window.kind == DIALOG else "DefWindowProc", wide=wide)


def _of_windows(emu: Any, name: str, *, wide: bool) -> int:
    return int(emu.get_proc("user32", f"{name}{'W' if wide else 'A'}"))


def _procedure_at(name: str, size: int) -> int:
    """Where a ``WNDCLASS`` names the function, behind its style and, in the newer one, its size."""
    return 8 if size == 8 or "Ex" in name else 4


def _length(size: int) -> int:
    """Function, two numbers of 4 bytes, instance, icon, cursor, brush, menu, name."""
    return 7 * size + 8


def _register(emu: Any, name: str, argv: list[Any]) -> int:
    size = emu.get_ptr_size()
    start = argv[0] + _procedure_at(name, size)
    structure = bytes(emu.mem_read(start, _length(size)))
    kind = class_name(emu, int.from_bytes(structure[-size:], "little"), wide=name.endswith("W"))
    if isinstance(kind, int) or registered(emu, kind) is not None:
        emu.set_last_error(ERROR_CLASS_EXISTS)
        return 0
    argv[0] = kind
    return int(emu.desktop.register(kind, int.from_bytes(structure[:size], "little"), structure))


def _unregister(emu: Any, name: str, argv: list[Any]) -> int:
    known = registered(emu, class_name(emu, argv[0], wide=name.endswith("W")))
    if known is None:
        emu.set_last_error(ERROR_NO_CLASS)
        return 0
    emu.desktop.unregister(known)
    return 1


def _information(emu: Any, name: str, argv: list[Any]) -> int:
    """``GetClassInfo``: what was registered, or Windows' own."""
    wide, size = name.endswith("W"), emu.get_ptr_size()
    kind = class_name(emu, argv[1], wide=wide)
    argv[1] = kind
    known = registered(emu, kind)
    if known is not None:
        emu.mem_write(argv[2] + _procedure_at(name, size), known.structure)
        return int(known.atom)
    if isinstance(kind, int) or kind.lower() not in OF_WINDOWS:
        emu.set_last_error(ERROR_NO_CLASS)
        return 0
    address = _of_windows(emu, "DefDlgProc" if kind == DIALOG else "DefWindowProc", wide=wide)
    structure = address.to_bytes(size, "little").ljust(_length(size), b"\0")
    emu.mem_write(argv[2] + _procedure_at(name, size), structure)
    return FIRST_ATOM_OF_WINDOWS


APIS = {
    "RegisterClass": Api(words=1, answer=_register),
    "RegisterClassEx": Api(words=1, answer=_register),
    "UnregisterClass": Api(words=2, answer=_unregister),
    "GetClassInfo": Api(words=3, answer=_information),
    "GetClassInfoEx": Api(words=3, answer=_information),
}
