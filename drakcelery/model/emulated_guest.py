"""What a VM profile means to the emulator: the Windows of ``[emulator_profiles]``. Pure."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

HOME: Final = "C:\\Users\\user"
"""The folder of the user of today's guest."""

VERSIONS: Final = {
    "7": (6, 1, 7601, "Windows 7 Professional"),
    "8.1": (6, 3, 9600, "Windows 8.1 Pro"),
    "10": (10, 0, 19045, "Windows 10 Pro"),
    "11": (10, 0, 22631, "Windows 10 Pro"),
}
"""Major, minor, build and ``ProductName``: of Windows 11 that is Windows 10's
(learn.microsoft.com, "Operating System Version")."""

HYPERVISORS: Final = {
    "kvm": b"KVMKVMKVM\0\0\0",
    "hyperv": b"Microsoft Hv",
    "virtualbox": b"VBoxVBoxVBox",
    "vmware": b"VMwareVMware",
    "xen": b"XenVMMXenVMM",
}
"""The 12 bytes of leaf 0x40000000 of ``cpuid``, by hypervisor."""

_HOME_IN_TEXT = re.compile(re.escape(HOME) + r"(?=$|[\\;])")
_USER = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,19}(?<![ .])")
_COMPUTER = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,14}")
_PROGRAM = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}\.exe")
_MOST_PROCESSES = 16
_YEAR = 365 * 24 * 3600


@dataclass(frozen=True, kw_only=True)
class EmulatedGuest:
    """One Windows, as programs see it. Without arguments it is the one that every profile has."""

    windows: str | None = None
    """One of :data:`VERSIONS`. None: Windows 10 in the registry, and 6.1 where a function is asked, as
    unmarked programs are told an old version."""
    bits: int = 64
    """Of Windows itself: 32 or 64. A 32-bit one starts no 64-bit program."""
    user: str = "user"
    computer: str = "DESKTOP-7QJ3N2A"
    uptime: int = 3600
    """Seconds for which Windows has run when the program starts."""
    mouse: bool = True
    """Whether it moves, and somebody touched it a moment ago."""
    hypervisor: str | None = None
    """One of :data:`HYPERVISORS`, as ``cpuid`` tells. None: a real processor."""
    elevated: bool = True
    """Whether the program has an administrator's whole rights."""
    processors: int = 2
    memory: int = 4096
    """MiB."""
    processes: tuple[str, ...] = ()
    """Programs that run besides those of Windows."""
    sleep: bool = False
    """Whether a sleep takes its time, as on a machine; else it is over at once, and the clock goes on."""

    @property
    def home(self) -> str:
        """The user's folder."""
        return f"C:\\Users\\{self.user}"

    @property
    def desktop(self) -> str:
        """Where the sample lies, with a ``\\`` at the end."""
        return f"{self.home}\\Desktop\\"

    @property
    def version(self) -> tuple[int, int, int, str] | None:
        """Of :data:`VERSIONS`; None where both kinds of answers differ."""
        return None if self.windows is None else VERSIONS[self.windows]

    def located(self, path: str) -> str:
        """Where in this guest lies what in today's lies at *path*."""
        path = _HOME_IN_TEXT.sub(lambda _match: self.home, path)
        return path if self.bits == 64 else path.replace(" (x86)", "").replace("SysWOW64", "System32")

    def to_json(self) -> dict[str, Any]:
        """As :meth:`from_json` reads it."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Read :meth:`to_json`. Raises :class:`TypeError` or :class:`KeyError`."""
        return cls(**{**values, "processes": tuple(values["processes"])})


def _one_of(*choices: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text.lower() not in choices:
            raise ValueError(f"one of {', '.join(choices)}")
        return text.lower()

    return read


def _number(low: int, high: int, unit: str) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not text.isdecimal() or not text.isascii() or not low <= int(text[:20]) <= high:
            raise ValueError(f"{low} to {high} {unit}")
        return int(text)

    return read


def _switch(yes: str, no: str) -> Callable[[str], bool]:
    return lambda text: _one_of(yes, no)(text) == yes


def _matching(pattern: re.Pattern[str], words: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if not pattern.fullmatch(text):
            raise ValueError(words)
        return text

    return read


def _programs(text: str) -> tuple[str, ...]:
    read = _matching(_PROGRAM, "names of programs such as outlook.exe, with | between them")
    found = tuple(read(part.strip().lower()) for part in text.split("|"))
    if len(found) > _MOST_PROCESSES:
        raise ValueError(f"{_MOST_PROCESSES} programs at most")
    return found


_READERS: Final[Mapping[str, Callable[[str], object]]] = {
    "windows": _one_of(*VERSIONS),
    "bits": lambda text: int(_one_of("32", "64")(text)),
    "user": _matching(_USER, "a name of letters, digits, ' ', '.', '_' and '-' (20 at most)"),
    "computer": _matching(_COMPUTER, "a name of letters, digits and '-' (15 at most)"),
    "uptime": _number(60, _YEAR, "seconds"),
    "mouse": _switch("moves", "still"),
    "hypervisor": lambda text: None if text.lower() == "none" else _one_of("none", *HYPERVISORS)(text),
    "elevated": _switch("yes", "no"),
    "processors": _number(1, 32, "processors"),
    "memory": _number(512, 1024**2, "MiB"),
    "processes": _programs,
    "sleep": _switch("waits", "skips"),
}
"""By key, in the order of the documentation."""

KEYS: Final = tuple(_READERS)


def parse_guest(text: str) -> EmulatedGuest:
    """Read ``windows=7, user=anna``. Raises ValueError, whose text reads on from "expected "."""
    values: dict[str, Any] = {}
    for part in text.split(","):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        key = key.lower()
        if not equals or key not in _READERS:
            raise ValueError(f"key=value with a key of {', '.join(KEYS)}, and {part.strip()!r} is none")
        if key in values:
            raise ValueError(f"each key once, and {key} is there twice")
        try:
            values[key] = _READERS[key](value)
        except ValueError as error:
            raise ValueError(f"{error} after {key}=") from None
    return EmulatedGuest(**values)
