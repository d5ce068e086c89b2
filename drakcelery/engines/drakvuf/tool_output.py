"""From a tool's output, the lines that say why it ended, printable and short. The output is untrusted."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from typing import IO

from drakcelery.engines.drakvuf import launch

KEPT_BYTES = 64 * 1024
"""How much of what a tool prints is read: the end of it."""
PRINTED_BYTES = 16 * 1024**2
"""What a tool may print. drakrun and xl print some kB; more is an error in a loop, or the guest's doing."""
KEPT_LINES = 200
LINE_LENGTH = 500
ERROR_LINES = 4
"""How many lines of a tool's stderr go into the error that Karton shows."""
CHAINED = ("During handling of the above exception", "The above exception was the direct cause")
"""What Python says between two tracebacks."""
CALLED = "CalledProcessError: "
"""The exception of a program that failed; the program itself has said why."""
_REPORTS = re.compile(
    r"\]\[(?:INFO|DEBUG)\] |^\w+: (?:info|progress): |^Loading new save file |^ Savefile contains |"
    r"^Parsing config from "
)
"""Lines of drakrun's log, and of xl, that report no trouble."""
_OF_XL = re.compile(r"^(?:libxl|xc): error: ")
XL_LINES = 2
"""The first errors of a failing xl say why; later ones are about how it cleans up."""


def ending(code: int) -> str:
    """``ended with exit code 3``, ``was killed (SIGSEGV)``."""
    if code == launch.NOT_STARTED:
        return "could not be started"
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed ({signal.Signals(-code).name})"
    except ValueError:  # most of the real-time signals have no name
        return f"was killed (signal {-code})"


def quoted(errors: tuple[str, ...]) -> str:
    """The most telling of a tool's lines, as the end of a sentence."""
    said = significant(errors)[-ERROR_LINES:]
    return f"; it said: {' | '.join(said)}" if said else ""


def significant(errors: tuple[str, ...]) -> list[str]:
    """The lines that say what went wrong, without the frames of tracebacks and lines that report no trouble.

    If a Python program such as drakrun ran another program, its last line is the exception, and the other's
    complaint stands above the traceback.
    """
    lines = [line for line in _without_frames(errors) if line.strip() and not line.startswith(CHAINED)]
    troubles = [line for line in lines if not _REPORTS.search(line)] or lines
    clearing_up = [line for line in troubles if _OF_XL.match(line)][XL_LINES:]
    troubles = [line for line in troubles if line not in clearing_up]
    return [line for line in troubles[:-1] if CALLED not in line] + troubles[-1:]


def _without_frames(errors: tuple[str, ...]) -> Iterator[str]:
    in_traceback = False
    for line in errors:
        if line.startswith("Traceback (most recent call last)"):
            in_traceback = True
        elif not in_traceback or (line.strip() and not line.startswith((" ", "\t"))):
            in_traceback = False
            yield line


def readable(text: str) -> tuple[str, ...]:
    """The last lines of *text*, printable and bounded, since their content is untrusted."""
    return tuple(printable(line[:LINE_LENGTH]) for line in text.splitlines()[-KEPT_LINES:])


def printable(line: str) -> str:
    """*line*, with unprintable characters escaped."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in line)


def whole(file: IO[bytes]) -> str:
    """All of *file*, of which there is no more than :data:`PRINTED_BYTES` or little more."""
    file.seek(0)
    return file.read(2 * PRINTED_BYTES).decode("utf-8", "replace")


def end_of(file: IO[bytes]) -> str:
    """The last :data:`KEPT_BYTES` of *file*."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - KEPT_BYTES))
    return file.read(KEPT_BYTES).decode("utf-8", "replace")
