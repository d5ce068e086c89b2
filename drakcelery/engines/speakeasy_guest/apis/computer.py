"""A machine that somebody uses: its screen, a mouse that moves, a user with a name."""

from __future__ import annotations

import struct
from typing import Any, Final

from drakcelery.engines.speakeasy_guest.apis import texts
from drakcelery.engines.speakeasy_guest.apis.api import Api, put

SCREEN: Final = (1920, 1080)
METRICS: Final = {
    **dict.fromkeys((0, 16, 61, 78), SCREEN[0]),
    **dict.fromkeys((1, 62, 79), SCREEN[1]),
    2: 17,
    3: 17,
    4: 23,
    5: 1,
    6: 1,
    7: 3,
    8: 3,
    11: 32,
    12: 32,
    13: 32,
    14: 32,
    15: 20,
    17: 1017,
    19: 1,
    20: 17,
    21: 17,
    28: 136,
    29: 39,
    30: 36,
    31: 22,
    32: 4,
    33: 4,
    43: 3,
    45: 2,
    46: 2,
    49: 16,
    50: 16,
    59: 1936,
    60: 1056,
    63: 3,
    68: 4,
    69: 4,
    71: 19,
    75: 1,
    80: 1,
    81: 1,
}
"""``SM_…`` of ``GetSystemMetrics``: 0 and 1 are the screen, 43 the buttons of the mouse."""

IDLE: Final = 4_200
"""Milliseconds since somebody last touched the keyboard or the mouse."""

LOGGED_ON: Final = 20_000
"""Milliseconds after the start of Windows, when somebody touched a machine that stands idle since."""

ERROR_INSUFFICIENT_BUFFER, ERROR_MORE_DATA = 122, 234
NETBIOS: Final = (0, 4)
DOMAIN: Final = (2, 6)
"""``COMPUTER_NAME_FORMAT``: the others are the name in DNS."""


def _metric(_emu: Any, _name: str, argv: list[Any]) -> int:
    return METRICS.get(argv[0] & 0xFFFFFFFF, 0)


def _cursor(emu: Any, _name: str, argv: list[Any]) -> int:
    """Where the mouse is: on a machine that is used it is moved from time to time."""
    emu.clock.advance()
    step = int(emu.clock.passed) // 700 if emu.guest.mouse else 0
    emu.mem_write(argv[0], struct.pack("<ii", 611 + step * 37 % 700, 402 + step * 23 % 300))
    return 1


def _last_input(emu: Any, _name: str, argv: list[Any]) -> int:
    emu.clock.advance()
    last = int(emu.clock.uptime) - IDLE if emu.guest.mouse else LOGGED_ON
    put(emu, argv[0] + 4, last & 0xFFFFFFFF, 4)
    return 1


def _give(emu: Any, name: str, text: str, places: tuple[int, int], *, counts_zero: bool, error: int) -> int:
    """A text where there is as much room as is said at the second place; how long it is goes there."""
    target, size = places
    room, wide = int.from_bytes(emu.mem_read(size, 4), "little"), name.endswith("W")
    if not target or not texts.fits(text, room, wide=wide):
        put(emu, size, len(text) + 1, 4)
        emu.set_last_error(error)
        return 0
    texts.write(emu, target, text, wide=wide)
    put(emu, size, len(text) + counts_zero, 4)
    return 1


def _user_name(emu: Any, name: str, argv: list[Any]) -> int:
    places = (argv[0], argv[1])
    return _give(emu, name, emu.guest.user, places, counts_zero=True, error=ERROR_INSUFFICIENT_BUFFER)


def _user_name_ex(emu: Any, name: str, argv: list[Any]) -> int:
    places, text = (argv[1], argv[2]), f"{emu.guest.computer}\\{emu.guest.user}"
    return _give(emu, name, text, places, counts_zero=False, error=ERROR_MORE_DATA)


def _computer_name(emu: Any, name: str, argv: list[Any]) -> int:
    places = (argv[0], argv[1])
    return _give(emu, name, emu.guest.computer, places, counts_zero=False, error=ERROR_INSUFFICIENT_BUFFER)


def _computer_name_ex(emu: Any, name: str, argv: list[Any]) -> int:
    kind, host = argv[0] & 0xFFFFFFFF, emu.guest.computer
    text = host if kind in NETBIOS else "" if kind in DOMAIN else host.lower()
    return _give(emu, name, text, (argv[1], argv[2]), counts_zero=False, error=ERROR_MORE_DATA)


APIS = {
    "GetSystemMetrics": Api(words=1, answer=_metric),
    "GetCursorPos": Api(words=1, answer=_cursor),
    "GetLastInputInfo": Api(words=1, answer=_last_input),
    "GetUserName": Api(words=2, answer=_user_name),
    "GetUserNameEx": Api(words=3, answer=_user_name_ex),
    "GetComputerName": Api(words=2, answer=_computer_name),
    "GetComputerNameEx": Api(words=3, answer=_computer_name_ex),
}
