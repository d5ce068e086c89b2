"""The language that the emulated Windows speaks: English of the United States."""

from __future__ import annotations

import datetime
import re
from typing import Final

LCID: Final = 0x409
NAME: Final = "en-US"
CRT_NAME: Final = "English_United States.1252"
"""As a C runtime calls it."""

DAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS: Final = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)
SHORT_DATE, LONG_DATE = "M/d/yyyy", "dddd, MMMM d, yyyy"
TIME, SHORT_TIME = "h:mm:ss tt", "h:mm tt"

INFORMATION: Final = {
    0x1: "0409",
    0x2: "English (United States)",
    0x3: "ENU",
    0x4: "English",
    0x5: "1",
    0x6: "United States",
    0x7: "USA",
    0x8: "United States",
    0x9: "0409",
    0xA: "1",
    0xB: "437",
    0xC: ",",
    0xD: "1",
    0xE: ".",
    0xF: ",",
    0x10: "3;0",
    0x11: "2",
    0x12: "1",
    0x13: "0123456789",
    0x14: "$",
    0x15: "USD",
    0x16: ".",
    0x17: ",",
    0x18: "3;0",
    0x19: "2",
    0x1A: "2",
    0x1B: "0",
    0x1C: "0",
    0x1D: "/",
    0x1E: ":",
    0x1F: SHORT_DATE,
    0x20: LONG_DATE,
    0x21: "0",
    0x22: "1",
    0x23: "0",
    0x24: "1",
    0x25: "0",
    0x26: "0",
    0x27: "0",
    0x28: "AM",
    0x29: "PM",
    0x50: "",
    0x51: "-",
    0x59: "en",
    0x5A: "US",
    0x5C: NAME,
    0x67: "eng",
    0x68: "USA",
    0x79: SHORT_TIME,
    0x1001: "English",
    0x1002: "United States",
    0x1003: TIME,
    0x1004: "1252",
    0x1005: "0",
    0x1007: "US Dollar",
    0x1008: "US Dollar",
    0x1009: "1",
    0x100B: "0",
    0x100C: "6",
    0x100D: "0",
    0x1011: "10000",
    0x1012: "037",
    0x1013: "1",
    **{0x2A + number: day for number, day in enumerate(DAYS)},
    **{0x31 + number: day[:3] for number, day in enumerate(DAYS)},
    **{0x38 + number: month for number, month in enumerate(MONTHS)},
    **{0x44 + number: month[:3] for number, month in enumerate(MONTHS)},
}
"""What ``GetLocaleInfo`` knows, by its ``LOCALE_…`` (``winnls.h``)."""

_PICTURE: Final = re.compile(r"'((?:[^']|'')*)'|(d{1,4}|M{1,4}|y{1,5}|h{1,2}|H{1,2}|m{1,2}|s{1,2}|t{1,2})")


def written(moment: datetime.datetime, picture: str) -> str:
    """A date or a time after a picture of Windows: ``yyyy-MM-dd``, ``h:mm tt``."""

    def part(found: re.Match[str]) -> str:
        if found[1] is not None:
            return found[1].replace("''", "'")
        what, length = found[2][0], len(found[2])
        named = {"d": DAYS[moment.weekday()], "M": MONTHS[moment.month - 1]}
        if what in named and length > 2:
            return named[what] if length == 4 else named[what][:3]
        if what == "t":
            return ("AM", "PM")[moment.hour >= 12][:length]
        if what == "y":
            return f"{moment.year:04d}" if length > 2 else f"{moment.year % 100:0{length}d}"
        numbers = {
            "d": moment.day,
            "M": moment.month,
            "h": moment.hour % 12 or 12,
            "H": moment.hour,
            "m": moment.minute,
            "s": moment.second,
        }
        return f"{numbers[what]:0{length}d}"

    return _PICTURE.sub(part, picture)
