"""Start commands: what the emulator can do of what a task asked for."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

PLACEHOLDER = "%f"
_QUOTED = r'"?%f"?'
_RUNDLL = re.compile(
    rf"^\s*rundll32(?:\.exe)?\s+{_QUOTED}\s*(?:,\s*(?P<export>[^\s,]+))?(?P<rest>.*)$",
    re.IGNORECASE | re.DOTALL,
)
_REGSVR = re.compile(rf"^\s*regsvr32(?:\.exe)?(?P<flags>(?:\s+/[a-z:]+)*)\s+{_QUOTED}\s*$", re.IGNORECASE)
_START = re.compile(
    rf'^\s*(?:start\s+(?:"[^"]*"\s+)?)?{_QUOTED}(?:\s+(?P<rest>.*))?$', re.IGNORECASE | re.DOTALL
)


@dataclass(frozen=True, kw_only=True)
class Launch:
    """How to start a sample: by itself, or as a DLL inside a Windows program."""

    container: str = ""
    """``rundll32.exe`` or ``regsvr32.exe``; empty for an EXE."""
    export: str = ""
    """What is called after ``DllMain``; empty: nothing."""
    arguments: str = ""


def parse(command: str, *, is_dll: bool) -> Launch:
    """Understand *command*.

    Raises:
        ValueError: with a sentence on what the emulator can start.
    """
    if not is_dll:
        if match := _START.match(command):
            return Launch(arguments=(match["rest"] or "").strip())
        raise ValueError(
            f"the emulator starts an EXE by itself (%f, with arguments or without), not by {_short(command)}"
        )
    if match := _RUNDLL.match(command):
        return Launch(
            container="rundll32.exe",
            export=(match["export"] or "").strip('"'),
            arguments=match["rest"].strip(),
        )
    if match := _REGSVR.match(command):
        uninstall = "/u" in match["flags"].lower().split()
        return Launch(
            container="regsvr32.exe",
            export=f"Dll{'Unregister' if uninstall else 'Register'}Server",
            arguments=match["flags"].strip(),
        )
    raise ValueError(
        f"the emulator starts a DLL by 'rundll32 %f,Export' or 'regsvr32 /s %f', not by {_short(command)}"
    )


def split(arguments: str) -> list[str]:
    """The arguments of a command line; as one where its quotes do not match."""
    try:
        return shlex.split(arguments, posix=False)
    except ValueError:
        return [arguments]


def _short(command: str) -> str:
    return repr(command if len(command) <= 120 else f"{command[:120]}…")
