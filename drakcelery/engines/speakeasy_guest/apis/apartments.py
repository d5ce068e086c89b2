"""COM's apartments: which kind each thread has entered, and how often."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from drakcelery.engines.speakeasy_guest.apis.api import Api, put
from drakcelery.engines.speakeasy_guest.scheduling.scheduler import GuestThread

S_OK, S_FALSE, E_INVALIDARG = 0, 1, 0x80070057
RPC_E_CHANGED_MODE, CO_E_NOTINITIALIZED = 0x80010106, 0x800401F0

APARTMENT: Final = 0x2
"""``COINIT_APARTMENTTHREADED``; without it, all such threads share an apartment."""

SINGLE, SHARED, MAIN = 0, 1, 3
"""``APTTYPE_…``: the first single one is the main one."""


@dataclass
class Apartments:
    """Those of one process."""

    entered: dict[GuestThread, list[int]] = field(default_factory=dict)
    """Of each thread, its kind and how often it entered."""
    main: GuestThread | None = None
    """The thread that entered a single one first."""

    def enter(self, thread: GuestThread, kind: int) -> int:
        """What ``CoInitializeEx`` says."""
        mine = self.entered.setdefault(thread, [kind, 0])
        if mine[0] != kind:
            return RPC_E_CHANGED_MODE
        mine[1] += 1
        if kind == SINGLE and self.main is None:
            self.main = thread
        return S_OK if mine[1] == 1 else S_FALSE

    def leave(self, thread: GuestThread) -> None:
        """Once less."""
        mine = self.entered.get(thread)
        if mine is not None:
            mine[1] -= 1
            if mine[1] <= 0:
                del self.entered[thread]


def _enter_single(emu: Any, _name: str, _argv: list[Any]) -> int:
    return int(emu.apartments.enter(emu.scheduler.current, SINGLE))


def _enter(emu: Any, _name: str, argv: list[Any]) -> int:
    kind = SINGLE if argv[1] & APARTMENT else SHARED
    return int(emu.apartments.enter(emu.scheduler.current, kind))


def _leave(emu: Any, _name: str, _argv: list[Any]) -> int:
    emu.apartments.leave(emu.scheduler.current)
    return 0


def _kind(emu: Any, _name: str, argv: list[Any]) -> int:
    """``CoGetApartmentType``."""
    if not argv[0] or not argv[1]:
        return E_INVALIDARG
    thread = emu.scheduler.current
    mine = emu.apartments.entered.get(thread)
    if mine is None:
        return CO_E_NOTINITIALIZED
    put(emu, argv[0], MAIN if thread is emu.apartments.main and mine[0] == SINGLE else mine[0], 4)
    put(emu, argv[1], 0, 4)
    return S_OK


APIS = {
    "CoInitialize": Api(words=1, answer=_enter_single),
    "CoInitializeEx": Api(words=2, answer=_enter),
    "CoUninitialize": Api(words=0, answer=_leave),
    "OleInitialize": Api(words=1, answer=_enter_single),
    "OleUninitialize": Api(words=0, answer=_leave),
    "CoGetApartmentType": Api(words=2, answer=_kind),
}
