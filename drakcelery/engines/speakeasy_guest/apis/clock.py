"""What time it is, and how Windows writes it down. The time zone is UTC, for all of them."""

from __future__ import annotations

import datetime
import struct
from collections.abc import Callable
from typing import Any, Final

from drakcelery.engines.speakeasy_guest.apis.api import Api, put
from drakcelery.engines.speakeasy_guest.machine.clock import EPOCH, UNITS

Plain = Callable[[Any, str, list[Any]], int]

FREQUENCY: Final = 10_000_000
"""Of the performance counter, in a second."""

ZONE: Final = "Coordinated Universal Time"
ZONE_INFORMATION: Final = 172
"""Bytes of a ``TIME_ZONE_INFORMATION``: bias, then name, date and bias of standard and of summer time."""

DYNAMIC_INFORMATION: Final = 432
KEY_AT: Final = 172
"""Bytes of a ``DYNAMIC_TIME_ZONE_INFORMATION``, and where the name of its key begins."""

ERROR_INVALID_PARAMETER: Final = 87
TIME_OF_DAY: Final = 3
"""``SystemTimeOfDayInformation``: boot time, time, bias of the zone, its number, and two further biases."""
STATUS_LENGTH_MISMATCH: Final = 0xC0000004
START: Final = datetime.datetime(1601, 1, 1, tzinfo=datetime.UTC)
DOS_START: Final = 1980


def _milliseconds(of: str) -> Plain:
    """A number of milliseconds that the clock has; where it is one of 64 bits, edx has a part of it."""

    def answer(emu: Any, name: str, _argv: list[Any]) -> int:
        emu.clock.advance()
        value = int(getattr(emu.clock, of))
        if emu.processor.bits == 32 and name.endswith("64"):
            emu.processor.set("edx", value >> 32)
        return value

    return answer


def _to_place(units: Callable[[Any], float], value: int = 1) -> Plain:
    """A number of 8 bytes where the program says; *value* is what the function returns."""

    def answer(emu: Any, _name: str, argv: list[Any]) -> int:
        emu.clock.advance()
        put(emu, argv[0], int(units(emu.clock)), 8)
        return value

    return answer


def _nt_counter(emu: Any, _name: str, argv: list[Any]) -> int:
    emu.clock.advance()
    put(emu, argv[0], int(emu.clock.uptime * UNITS), 8)
    put(emu, argv[1], FREQUENCY, 8)
    return 0


def _system_time(emu: Any, _name: str, argv: list[Any]) -> int:
    emu.clock.advance()
    emu.mem_write(argv[0], _written(emu.clock.file_time))
    return 0


def _written(units: int) -> bytes:
    """100 nanoseconds since 1601 as a ``SYSTEMTIME``. Raises OverflowError beyond the year 9999."""
    moment = START + datetime.timedelta(microseconds=units // 10)
    weekday = (moment.weekday() + 1) % 7
    return struct.pack(
        "<8H",
        *(moment.year, moment.month, weekday, moment.day),
        *(moment.hour, moment.minute, moment.second, moment.microsecond // 1000),
    )


def read_moment(emu: Any, place: int) -> datetime.datetime:
    """The moment of a ``SYSTEMTIME``. Raises ValueError where there is no such one."""
    year, month, _, day, hour, minute, second, milliseconds = struct.unpack("<8H", emu.mem_read(place, 16))
    return datetime.datetime(year, month, day, hour, minute, second, milliseconds * 1000, datetime.UTC)


def _file_to_system(emu: Any, _name: str, argv: list[Any]) -> int:
    try:
        data = _written(int.from_bytes(emu.mem_read(argv[0], 8), "little"))
    except OverflowError:
        emu.set_last_error(ERROR_INVALID_PARAMETER)
        return 0
    emu.mem_write(argv[1], data)
    return 1


def _system_to_file(emu: Any, _name: str, argv: list[Any]) -> int:
    try:
        passed = read_moment(emu, argv[0]) - START
    except ValueError:
        emu.set_last_error(ERROR_INVALID_PARAMETER)
        return 0
    put(emu, argv[1], passed // datetime.timedelta(microseconds=1) * 10, 8)
    return 1


def _copied(size: int, source: int, target: int) -> Plain:
    """From one time zone to another one, which is the same."""

    def answer(emu: Any, _name: str, argv: list[Any]) -> int:
        emu.mem_write(argv[target], bytes(emu.mem_read(argv[source], size)))
        return 1

    return answer


def _compare(emu: Any, _name: str, argv: list[Any]) -> int:
    first, second = (int.from_bytes(emu.mem_read(place, 8), "little") for place in argv[:2])
    return 0 if first == second else 1 if first > second else 0xFFFFFFFF


def _file_to_dos(emu: Any, _name: str, argv: list[Any]) -> int:
    year, month, _, day, hour, minute, second, _ = struct.unpack(
        "<8H", _written(int.from_bytes(emu.mem_read(argv[0], 8), "little"))
    )
    if year < DOS_START:
        return 0
    put(emu, argv[1], (year - DOS_START) << 9 | month << 5 | day, 2)
    put(emu, argv[2], hour << 11 | minute << 5 | second // 2, 2)
    return 1


def _dos_to_file(emu: Any, _name: str, argv: list[Any]) -> int:
    date, time = argv[0] & 0xFFFF, argv[1] & 0xFFFF
    try:
        moment = datetime.datetime(
            *((date >> 9) + DOS_START, date >> 5 & 0xF, date & 0x1F),
            *(time >> 11, time >> 5 & 0x3F, time % 32 * 2),
            tzinfo=datetime.UTC,
        )
    except ValueError:
        return 0
    put(emu, argv[2], (moment - START) // datetime.timedelta(microseconds=1) * 10, 8)
    return 1


def _zone(emu: Any, name: str, argv: list[Any]) -> int:
    dynamic = "Dynamic" in name
    data = bytearray(DYNAMIC_INFORMATION if dynamic else ZONE_INFORMATION)
    text = ZONE.encode("utf-16-le")
    for place in (4, 88):
        data[place : place + len(text)] = text
    if dynamic:
        data[KEY_AT : KEY_AT + 6] = "UTC".encode("utf-16-le")
    emu.mem_write(argv[0], bytes(data))
    return 0  # TIME_ZONE_ID_UNKNOWN: a zone without summer time


def _seconds_since_1970(emu: Any, _name: str, argv: list[Any]) -> int:
    units = int.from_bytes(emu.mem_read(argv[0], 8), "little")
    put(emu, argv[1], (units // UNITS - EPOCH) // 1000 & 0xFFFFFFFF, 4)
    return 1


def _system_information(emu: Any, _name: str, argv: list[Any]) -> int:
    """``NtQuerySystemInformation``: since when Windows runs; Speakeasy answers the rest."""
    kind, target, room, length = argv
    if kind & 0xFFFFFFFF != TIME_OF_DAY:
        module, found = emu.api.get_export_func_handler("ntoskrnl", "ZwQuerySystemInformation")
        return int(found[1](module, emu, argv, {}))
    emu.clock.advance()
    now = emu.clock.file_time
    data = struct.pack("<qqqIIqq", now - int(emu.clock.uptime * UNITS), now, 0, 0, 0, 0, 0)
    put(emu, length, len(data), 4)
    if room & 0xFFFFFFFF < len(data):
        return STATUS_LENGTH_MISMATCH
    emu.mem_write(target, data)
    return 0


_FILE_TIME = Api(words=1, answer=_to_place(lambda clock: clock.file_time, 0))

APIS = {
    "GetTickCount": Api(words=0, answer=_milliseconds("uptime")),
    "GetTickCount64": Api(words=0, answer=_milliseconds("uptime")),
    "NtGetTickCount": Api(words=0, answer=_milliseconds("uptime")),
    "timeGetTime": Api(words=0, answer=_milliseconds("uptime")),
    "QueryPerformanceCounter": Api(words=1, answer=_to_place(lambda clock: clock.uptime * UNITS)),
    "RtlQueryPerformanceCounter": Api(words=1, answer=_to_place(lambda clock: clock.uptime * UNITS)),
    "QueryPerformanceFrequency": Api(words=1, answer=_to_place(lambda _clock: FREQUENCY)),
    "NtQueryPerformanceCounter": Api(words=2, answer=_nt_counter),
    "QueryInterruptTime": Api(words=1, answer=_to_place(lambda clock: clock.uptime * UNITS, 0)),
    "QueryUnbiasedInterruptTime": Api(words=1, answer=_to_place(lambda clock: clock.uptime * UNITS)),
    "GetSystemTimeAsFileTime": _FILE_TIME,
    "GetSystemTimePreciseAsFileTime": _FILE_TIME,
    "NtQuerySystemTime": _FILE_TIME,
    "GetSystemTime": Api(words=1, answer=_system_time),
    "GetLocalTime": Api(words=1, answer=_system_time),
    "FileTimeToSystemTime": Api(words=2, answer=_file_to_system),
    "SystemTimeToFileTime": Api(words=2, answer=_system_to_file),
    "FileTimeToLocalFileTime": Api(words=2, answer=_copied(8, 0, 1)),
    "LocalFileTimeToFileTime": Api(words=2, answer=_copied(8, 0, 1)),
    "SystemTimeToTzSpecificLocalTime": Api(words=3, answer=_copied(16, 1, 2)),
    "TzSpecificLocalTimeToSystemTime": Api(words=3, answer=_copied(16, 1, 2)),
    "CompareFileTime": Api(words=2, answer=_compare),
    "FileTimeToDosDateTime": Api(words=3, answer=_file_to_dos),
    "DosDateTimeToFileTime": Api(words=3, answer=_dos_to_file),
    "NtQuerySystemInformation": Api(words=4, answer=_system_information),
    "GetTimeZoneInformation": Api(words=1, answer=_zone),
    "GetDynamicTimeZoneInformation": Api(words=1, answer=_zone),
    "RtlTimeToSecondsSince1970": Api(words=2, answer=_seconds_since_1970),
}
