"""A corpus of our own for the second look: 16 programs that evade one thing each, and 16 that do not.

An evader looks at its machine as real malware does (al-khaser and pafish, two public collections, have most
of these checks) and ends without its work where it does not like what it sees. The others ask the same
things, as runtimes, installers and updaters do, and work anyway; or they have little to do. What all of them
do is harmless: ``sources/work.h``.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from drakcelery.behaviour.doings import Doings
from drakcelery.behaviour.report import Report
from drakcelery.engines.loading import OTHER_MACHINES
from tests.conftest import require
from tests.guest_programs import PREFIXES

Profile = Literal["sandbox", "used"]

PROFILES: dict[Profile, str] = {
    "sandbox": (
        "windows=7, bits=32, user=sandbox, computer=SANDBOX-PC, uptime=240, mouse=still, "
        "hypervisor=virtualbox, elevated=no, processors=1, memory=1024, "
        "processes=vboxservice.exe, sleep=waits"
    ),
    "used": "windows=10, user=anna, computer=ANNA-PC, uptime=259200, processors=4, memory=8192",
}
"""Two guests, as ``[emulator_profiles]`` has them: all that sandboxes are known by, and a machine in use."""

_SOURCES = Path(__file__).parent / "sources"
_LIBRARIES = ("-lws2_32", "-ladvapi32", "-lshell32")
_ARM64 = 0xAA64
_HEADER_AT, _MACHINE_BEHIND = 0x3C, 4
"""Where the offset of the PE header is, and the machine behind that."""


@dataclass(frozen=True, kw_only=True)
class Program:
    """One program of the corpus."""

    name: str
    """Of its source."""
    evades: str | None = None
    """The key of ``[emulator_profiles]`` by which it judges; None: it judges by none."""
    hides_from: Profile = "sandbox"
    """Where it does not work; it does where the other one's value of that key holds."""
    bits: int = 32
    watched: int = 60
    """Seconds of a run in which it hides, at most."""

    @property
    def shows_in(self) -> Profile:
        """The profile in which it works."""
        return "used" if self.hides_from == "sandbox" else "sandbox"

    @property
    def cure(self) -> str:
        """The profile in which it hides, with nothing else but that key of the other one."""
        assert self.evades is not None
        kept = [one for one in _parts(self.hides_from) if not one.startswith(f"{self.evades}=")]
        return ", ".join(
            [*kept, *(one for one in _parts(self.shows_in) if one.startswith(f"{self.evades}="))]
        )


def _parts(profile: Profile) -> list[str]:
    return [one.strip() for one in PROFILES[profile].split(",")]


EVADERS = (
    Program(name="old_windows", evades="windows"),
    Program(name="new_windows", evades="windows", hides_from="used"),
    Program(name="narrow_windows", evades="bits"),
    Program(name="wide_program", evades="bits", bits=64),
    Program(name="user_name", evades="user"),
    Program(name="uptime", evades="uptime"),
    Program(name="mouse", evades="mouse"),
    Program(name="idle", evades="mouse"),
    Program(name="hypervisor", evades="hypervisor"),
    Program(name="hypervisor_name", evades="hypervisor"),
    Program(name="administrator", evades="elevated"),
    Program(name="manifest", evades="elevated"),
    Program(name="long_sleep", evades="sleep", watched=3),
    Program(name="processors", evades="processors"),
    Program(name="memory", evades="memory"),
    Program(name="tools", evades="processes"),
)
OTHERS = tuple(
    Program(name=name)
    for name in (
        *("hello", "usage", "crash", "foreign", "plain", "tidy", "naps", "threads", "shell", "window"),
        *("debugger_asked", "version_asked", "machine_asked", "processor_asked", "rights_asked", "measured"),
    )
)


def build(program: Program, folder: Path) -> Path:
    """Compile it; skips the test where there is no compiler."""
    compiler = shutil.which(f"{PREFIXES[program.bits]}-gcc") or ""
    require(bool(compiler), "mingw-w64 is not installed")
    made, source = folder / f"{program.name}.exe", _SOURCES / f"{program.name}.c"
    resources = []
    if (described := source.with_suffix(".rc")).exists():
        resources = [str(folder / f"{program.name}.o")]
        tool = f"{PREFIXES[program.bits]}-windres"
        subprocess.run([tool, "-I", str(_SOURCES), str(described), *resources], check=True)
    command = [compiler, "-O1", "-s", "-Wall", "-Werror", "-o", str(made), str(source), *resources]
    subprocess.run([*command, *_LIBRARIES], check=True)
    if program.name == "foreign":
        _for_arm(made)
    return made


def _for_arm(path: Path) -> None:
    """Have its header say that it is for ARM64."""
    assert _ARM64 in OTHER_MACHINES
    data = bytearray(path.read_bytes())
    place = int.from_bytes(data[_HEADER_AT : _HEADER_AT + 4], "little") + _MACHINE_BEHIND
    data[place : place + 2] = _ARM64.to_bytes(2, "little")
    path.write_bytes(data)


def shown(report: Report) -> frozenset[tuple[str, ...]]:
    """What a run showed: each thing with its kind, as two analyses are compared by it."""
    return frozenset(Doings(report).all)
