"""Time: seconds since 1970, ``struct tm``, ``strftime``. The time zone is UTC."""

from __future__ import annotations

import calendar
import datetime
import struct
import time

from drakcelery.engines.speakeasy_guest.crt.abi import Answer, Function
from drakcelery.engines.speakeasy_guest.crt.descriptors import EINVAL
from drakcelery.engines.speakeasy_guest.crt.runtime import Runtime

TM = struct.Struct("<9i")
LAST = 32535215999
"""The last second that ``_gmtime64`` knows: the end of the year 3000."""

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
DAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")


def _seconds_now(crt: Runtime) -> int:
    return int(_milliseconds_now(crt)) // 1000


def _milliseconds_now(crt: Runtime) -> float:
    crt.emu.clock.advance()
    return float(crt.emu.clock.now)


def _now(size: int) -> Answer:
    def answer(crt: Runtime, target: int) -> int:
        now = _seconds_now(crt)
        crt.machine.put(target, now, size or crt.machine.size)
        return now

    return answer


def _fields(seconds: int) -> tuple[int, ...]:
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    day = moment.timetuple()
    return (
        *(moment.second, moment.minute, moment.hour, moment.day, moment.month - 1, moment.year - 1900),
        *((day.tm_wday + 1) % 7, day.tm_yday - 1, 0),
    )


def _broken_down(size: int) -> Answer:
    """``gmtime`` and ``localtime``: into a structure of the runtime's own."""

    def answer(crt: Runtime, source: int) -> int:
        seconds = crt.machine.number(source, size or crt.machine.size, signed=True)
        if not 0 <= seconds <= LAST:
            return crt.fail(EINVAL, 0)
        buffer = crt.variables.shared("tm", TM.size)
        crt.machine.write(buffer, TM.pack(*_fields(seconds)))
        return buffer

    return answer


def _broken_down_s(size: int) -> Answer:
    def answer(crt: Runtime, target: int, source: int) -> int:
        seconds = crt.machine.number(source, size, signed=True)
        if not 0 <= seconds <= LAST:
            return EINVAL
        crt.machine.write(target, TM.pack(*_fields(seconds)))
        return 0

    return answer


def _read(crt: Runtime, address: int) -> tuple[int, ...]:
    return TM.unpack(crt.machine.read(address, TM.size))


def _seconds(crt: Runtime, address: int) -> int:
    second, minute, hour, day, month, year, *_ = _read(crt, address)
    years, month = divmod(month, 12)
    if not -200 <= year + years <= 1100:
        return crt.fail(EINVAL)
    start = calendar.timegm((year + years + 1900, month + 1, 1, 0, 0, 0))
    total = start + (day - 1) * 86400 + hour * 3600 + minute * 60 + second
    if not 0 <= total <= LAST:
        return crt.fail(EINVAL)
    crt.machine.write(address, TM.pack(*_fields(total)))
    return total


def _line(fields: tuple[int, ...]) -> str:
    second, minute, hour, day, month, year, weekday, *_ = fields
    date = f"{DAYS[weekday % 7]} {MONTHS[month % 12]} {day:2d}"
    return f"{date} {hour:02d}:{minute:02d}:{second:02d} {year + 1900}\n"


def _text(width: int) -> Answer:
    """``asctime``."""

    def answer(crt: Runtime, source: int) -> int:
        buffer = crt.variables.shared(f"asctime{width}", 64)
        crt.machine.put_text(buffer, _line(_read(crt, source)), width)
        return buffer

    return answer


def _text_of_seconds(width: int, size: int) -> Answer:
    """``ctime``."""

    def answer(crt: Runtime, source: int) -> int:
        seconds = crt.machine.number(source, size or crt.machine.size, signed=True)
        buffer = crt.variables.shared(f"asctime{width}", 64)
        crt.machine.put_text(buffer, _line(_fields(max(min(seconds, LAST), 0))), width)
        return buffer

    return answer


def _formatted(width: int) -> Answer:
    """``strftime``."""

    def answer(crt: Runtime, buffer: int, room: int, form: int, source: int) -> int:
        second, minute, hour, day, month, year, weekday, yearday, _ = _read(crt, source)
        moment = time.struct_time(
            (year + 1900, month + 1, day, hour, minute, second, (weekday - 1) % 7, yearday + 1, 0)
        )
        text = time.strftime(_known(crt.machine.text(form, width, 4096)), moment)
        if len(text) >= room:
            return 0
        crt.machine.put_text(buffer, text, width)
        return len(text)

    return answer


def _known(form: str) -> str:
    """A format with what Windows means: ``%#d`` without zeros, ``%z`` and ``%Z`` of UTC."""
    for windows, common in (
        ("%#", "%"),
        ("%Z", "Coordinated Universal Time"),
        ("%z", "+0000"),
        ("%c", "%m/%d/%y %H:%M:%S"),
    ):
        form = form.replace(windows, common)
    return form


def _short(what: str, width: int) -> Answer:
    """``_strdate`` and ``_strtime``."""

    def answer(crt: Runtime, buffer: int) -> int:
        moment = datetime.datetime.fromtimestamp(_seconds_now(crt), datetime.UTC)
        crt.machine.put_text(buffer, moment.strftime(what), width)
        return buffer

    return answer


def _clock(crt: Runtime) -> int:
    """Microsoft's counts what has passed, not what the processor was busy."""
    crt.emu.clock.advance()
    return int(crt.emu.clock.passed) & 0x7FFFFFFF


def _difference(_crt: Runtime, end: int, start: int) -> float:
    return float(end - start)


def _full(size: int) -> Answer:
    """``_ftime``: seconds, milliseconds, time zone, summer time."""

    def answer(crt: Runtime, target: int) -> int:
        now = int(_milliseconds_now(crt))
        crt.machine.put(target, now // 1000, size)
        crt.machine.write(target + size, struct.pack("<Hhh", now % 1000, 0, 0))
        return 0

    return answer


def _specified(size: int) -> Answer:
    """``timespec_get``."""

    def answer(crt: Runtime, target: int, base: int) -> int:
        now = _milliseconds_now(crt)
        crt.machine.put(target, int(now) // 1000, size)
        crt.machine.put(target + size, int(now % 1000 * 1e6), 4)
        return base

    return answer


def _get_zone(crt: Runtime, target: int) -> int:
    crt.machine.put(target, 0, 4)
    return 0


FUNCTIONS: dict[str, Function] = {
    "time": Function("p", _now(0)),
    "_time32": Function("p", _now(4)),
    "_time64": Function("p>q", _now(8)),
    **dict.fromkeys(("gmtime", "localtime"), Function("p", _broken_down(0))),
    **dict.fromkeys(("_gmtime32", "_localtime32"), Function("p", _broken_down(4))),
    **dict.fromkeys(("_gmtime64", "_localtime64"), Function("p", _broken_down(8))),
    **dict.fromkeys(("_gmtime32_s", "_localtime32_s"), Function("pp", _broken_down_s(4))),
    **dict.fromkeys(("_gmtime64_s", "_localtime64_s"), Function("pp", _broken_down_s(8))),
    **dict.fromkeys(("mktime", "_mktime32", "_mkgmtime", "_mkgmtime32"), Function("p", _seconds)),
    **dict.fromkeys(("_mktime64", "_mkgmtime64"), Function("p>q", _seconds)),
    "asctime": Function("p", _text(1)),
    "_wasctime": Function("p", _text(2)),
    "ctime": Function("p", _text_of_seconds(1, 0)),
    "_ctime32": Function("p", _text_of_seconds(1, 4)),
    "_ctime64": Function("p", _text_of_seconds(1, 8)),
    "_wctime": Function("p", _text_of_seconds(2, 0)),
    "_wctime64": Function("p", _text_of_seconds(2, 8)),
    "strftime": Function("ppsp", _formatted(1)),
    "wcsftime": Function("ppwp", _formatted(2)),
    "_strdate": Function("p", _short("%m/%d/%y", 1)),
    "_strtime": Function("p", _short("%H:%M:%S", 1)),
    "_wstrdate": Function("p", _short("%m/%d/%y", 2)),
    "_wstrtime": Function("p", _short("%H:%M:%S", 2)),
    "clock": Function("", _clock),
    "difftime": Function("ii>d", _difference),
    "_difftime32": Function("ii>d", _difference),
    "_difftime64": Function("qq>d", _difference),
    "_ftime": Function("p", _full(8)),
    "_ftime32": Function("p", _full(4)),
    "_ftime64": Function("p", _full(8)),
    "_timespec32_get": Function("pi", _specified(4)),
    "_timespec64_get": Function("pi", _specified(8)),
    "_tzset": Function("", lambda _crt: 0),
    "__tzname": Function("", lambda crt: crt.variables.address("_tzname")),
    "__timezone": Function("", lambda crt: crt.variables.address("_timezone")),
    "__daylight": Function("", lambda crt: crt.variables.address("_daylight")),
    "__dstbias": Function("", lambda crt: crt.variables.address("_dstbias")),
    "_get_timezone": Function("p", _get_zone),
    "_get_daylight": Function("p", _get_zone),
    "_get_dstbias": Function("p", _get_zone),
    "_getsystime": Function("p", lambda _crt, _target: 0),
}
"""Functions by name."""
