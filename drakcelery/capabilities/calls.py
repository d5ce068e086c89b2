"""Calls in the form that capa's extractor for DRAKVUF takes.

It expects the lines of apimon and syscall, and fails on a null or a number among the arguments of a system
call and on an API call without ``Arguments`` (flare-capa 10, ``capa/features/extractors/drakvuf/models.py``).
An argument that shows what it points to, ``Arg1=0x12ff:"text"``, is one text for it, so that no rule finds
the number or the text: here it is two.
"""

from __future__ import annotations

import itertools
import os
import re
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from drakcelery.behaviour.calls import unescaped
from drakcelery.behaviour.events import Event, bounded
from drakcelery.capabilities.own import Owners

MOST_CALLS = 50_000
"""Each takes capa up to 2 KB, and up to 3 ms with all of its public rules."""
MOST_BYTES = 1024**3
"""Of each log that are read; 5 s."""
MOST_ARGUMENTS = 32
REPEATED = 10
"""A call that equals one of so many before it in its thread is left out. capa looks at 20 in a row."""
LINE_LIMIT = 1024**2

_PID = re.compile(rb'"PID": ?(\d{1,10})[,}]')
_POINTER = re.compile(r'(0x[0-9a-fA-F]{1,16}):"(.*)"', re.DOTALL)
_NO_ARGUMENTS = frozenset(
    (
        *(
            "Plugin",
            "TimeStamp",
            "PID",
            "PPID",
            "TID",
            "UserName",
            "UserId",
            "ProcessName",
            "Method",
            "EventUID",
        ),
        *("Module", "FromModule", "FromParentModule", "vCPU", "CR3", "Syscall", "NArgs", "PreviousMode"),
    )
)
"""Keys of a system call's line that are no arguments of it."""

Entry = dict[str, Any]


class Calls:
    """Reads the calls of some processes.

    Attributes:
        read: how many there were so far.
        is_cut: whether there may be more.
    """

    def __init__(self, owners: Owners, most: int = MOST_CALLS) -> None:
        self.read = 0
        self.is_cut = False
        self._owners = owners
        self._most = most
        self._recent: dict[tuple[int, int], deque[tuple[object, ...]]] = {}
        self._names: dict[int, str] = {}

    def entries(self, paths: Iterable[Path]) -> Iterator[Entry]:
        """Those in the logs *paths*, which are ours, until it is enough."""
        for path in paths:
            with path.open("rb") as log:
                for line in itertools.takewhile(bool, iter(lambda: log.readline(LINE_LIMIT), b"")):
                    entry = self.entry(line)
                    if entry is not None:
                        if self.read >= self._most:
                            self.is_cut = True
                            return
                        self.read += 1
                        yield entry
                    if log.tell() > MOST_BYTES:
                        self.is_cut |= log.tell() < os.fstat(log.fileno()).st_size
                        break

    def entry(self, line: bytes) -> Entry | None:
        """The call that *line* tells of; None if it is none, none of the sample's, or repeated.

        The process is named by its ``seqid`` and 1, as capa knows no process 0.
        """
        pid = _PID.search(line)
        if pid is None or pid[1] not in self._owners.pids:
            return None
        event = Event.parse(line)
        if event is None or event.pid is None or event.time is None:
            return None
        owner, made = self._owners.of(event.pid, event.time), _call(event)
        if owner is None or made is None or not self._is_new(owner, event, made):
            return None
        name = self._names.setdefault(owner, event.text("ProcessName"))
        return made | {
            "TimeStamp": event.timestamp,
            "PID": owner + 1,
            "PPID": 0,
            "TID": _thread(event),
            "ProcessName": name,
            "Method": event.text("Method"),
        }

    def _is_new(self, owner: int, event: Event, made: Entry) -> bool:
        arguments = made["Arguments"] if "Arguments" in made else made.items()
        call = (event.text("Method"), *arguments)
        recent = self._recent.setdefault((owner, _thread(event)), deque(maxlen=REPEATED))
        if call in recent:
            return False
        recent.append(call)
        return True


def _thread(event: Event) -> int:
    return event.process("TID") or 0


def _call(event: Event) -> Entry | None:
    """What the two kinds of calls do not have in common."""
    fields = event.fields
    if not event.text("Method"):
        return None
    if fields.get("Plugin") == "syscall":
        given = ((key, value) for key, value in fields.items() if key not in _NO_ARGUMENTS)
        return {"Plugin": "syscall", "Module": "nt", "Syscall": 0, "NArgs": 0} | dict(_parts(given))
    if fields.get("Plugin") != "apimon" or fields.get("Event") != "api_called":
        return None
    given = (_named(one) for one in _listed(fields.get("Arguments")))
    return {
        "Plugin": "apimon",
        "Event": "api_called",
        "ReturnValue": event.text("ReturnValue"),
        "Arguments": [f"{key}={value}" for key, value in _parts(given)],
    }


def _listed(arguments: object) -> list[object]:
    return arguments if isinstance(arguments, list) else []


def _named(argument: object) -> tuple[str, object]:
    name, _, value = argument.partition("=") if isinstance(argument, str) else ("", "", None)
    return name, value


def _parts(arguments: Iterable[tuple[str, object]]) -> Iterator[tuple[str, str]]:
    """Their numbers and texts, each under a name of its own."""
    for key, value in itertools.islice(arguments, MOST_ARGUMENTS):
        if isinstance(value, int) and not isinstance(value, bool):
            yield key, hex(value)
        if not isinstance(value, str):
            continue
        pointer = _POINTER.fullmatch(value)
        if pointer is None:
            yield key, bounded(value)
            continue
        yield key, pointer[1]
        if pointer[2]:
            yield f"{key}.text", bounded(unescaped(pointer[2]))
