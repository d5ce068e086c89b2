"""Services, scheduled tasks, mutexes, WMI, host names, connections: each in its table. Pure."""

from __future__ import annotations

import ntpath
import re
from collections.abc import Callable, Iterator, Mapping

from drakcelery.behaviour.calls import argument_number, argument_text, returned_false
from drakcelery.behaviour.events import Event, whole_number
from drakcelery.behaviour.processes import Process
from drakcelery.behaviour.report import (
    Connection,
    HostName,
    Mutex,
    ScheduledTask,
    ServiceActivity,
    WmiActivity,
)
from drakcelery.behaviour.tables import Budget, Table, Who

MOST = 1000
MOST_NAMES = 5000
_MOST_HANDLES = 1024
_SERVICE = re.compile(r"\\(?:ControlSet\d{3}|CurrentControlSet)\\Services\\([^\\]+)$", re.IGNORECASE)
_TASK_KEY = re.compile(r"\\Schedule\\TaskCache\\Tree\\(.+)$", re.IGNORECASE)
_TASK_FILE = re.compile(r"\\Windows\\(?:System32\\|SysWOW64\\)?Tasks\\(.+?)(?:\.job)?$", re.IGNORECASE)


class Services:
    """Windows' services, by their names."""

    def __init__(self, budget: Budget) -> None:
        self.table = Table("services", MOST, budget)
        self._names: dict[tuple[int | None, int], str] = {}
        self.hooks: Mapping[str, Callable[[Event], None]] = {
            "CreateService": self._created,
            "OpenService": self._opened,
            "StartService": lambda event: self._by_handle(event, "started"),
            "DeleteService": lambda event: self._by_handle(event, "deleted"),
            "ControlService": lambda event: self._by_handle(event, "controlled"),
        }

    def _created(self, event: Event) -> None:
        if not returned_false(event):
            self.add(event, argument_text(event, 1), "created", argument_text(event, 7))
            self._opened(event)

    def _opened(self, event: Event) -> None:
        handle = whole_number(event.fields.get("ReturnValue"))
        if handle:
            if len(self._names) >= _MOST_HANDLES:
                del self._names[next(iter(self._names))]
            self._names[event.pid, handle] = argument_text(event, 1)

    def _by_handle(self, event: Event, action: str) -> None:
        handle = argument_number(event, 0)
        if handle is not None and not returned_false(event):
            self.add(event, self._names.get((event.pid, handle), ""), action)

    def value_set(self, event: Event, key: str, name: str, value: str) -> None:
        """A registry value was set: services.exe notes there what it makes."""
        match = _SERVICE.search(key) if name.lower() == "imagepath" else None
        if match is not None:
            self.add(event, match[1], "created", value)

    def add(self, event: Event, name: str, action: str, program: str = "") -> None:
        """Something was done to the service *name*."""
        if not name:
            return
        row = self.table.add(event, name.lower(), shown=(name,))
        if row is not None:
            row.details.setdefault("actions", {})[action] = None
            if program:
                row.details["program"] = program

    def report(self, processes: Who) -> Iterator[ServiceActivity]:
        """What is known of each."""
        for row in self.table:
            yield ServiceActivity(
                name=row.key[0],
                actions=tuple(row.details["actions"]),
                program=row.details.get("program"),
                **row.seen(processes),
            )


class Tasks:
    """Scheduled tasks, by their names."""

    def __init__(self, budget: Budget) -> None:
        self.table = Table("tasks", MOST, budget)

    def value_set(self, event: Event, key: str, _name: str, _value: str) -> None:
        """A registry value was set: the scheduler notes its tasks there."""
        match = _TASK_KEY.search(key) if "taskcache" in key.lower() else None
        if match is not None:
            self._add(event, match[1], "registry")

    def file_changed(self, event: Event, path: str) -> None:
        """A file was created or written: the scheduler keeps its tasks in files."""
        match = _TASK_FILE.search(path)
        if match is not None:
            self._add(event, match[1], "file")

    def process_started(self, event: Event, process: Process) -> None:
        """schtasks was started to create one."""
        if not ntpath.basename(process.image or "").lower().startswith("schtasks"):
            return
        arguments = process.arguments()
        lower = [argument.lower() for argument in arguments]
        if "/create" in lower and "/tn" in lower[:-1]:
            self._add(event, arguments[lower.index("/tn") + 1][:1024], "command")

    def _add(self, event: Event, name: str, evidence: str) -> None:
        name = name.lstrip("\\")
        row = self.table.add(event, name.lower(), shown=(name,)) if name else None
        if row is not None:
            row.details.setdefault("evidence", {})[evidence] = None

    def report(self, processes: Who) -> Iterator[ScheduledTask]:
        """What is known of each."""
        for row in self.table:
            yield ScheduledTask(
                name=row.key[0], evidence=tuple(row.details["evidence"]), **row.seen(processes)
            )


class Mutexes:
    """Mutexes, by their names."""

    def __init__(self, budget: Budget) -> None:
        self.table = Table("mutexes", MOST, budget)
        self.hooks: Mapping[str, Callable[[Event], None]] = {
            "CreateMutex": lambda event: self._add(event, argument_text(event, 2)),
            "CreateMutexEx": lambda event: self._add(event, argument_text(event, 1)),
            "OpenMutex": lambda event: self._add(event, argument_text(event, 2)),
            "NtCreateMutant": self._mutant,
            "NtOpenMutant": self._mutant,
        }

    def _mutant(self, event: Event) -> None:
        """A system call, whose arguments are keys of the line."""
        name = event.text("ObjectAttributes")
        self._add(event, "" if whole_number(name) is not None else name)

    def _add(self, event: Event, name: str) -> None:
        if name:
            self.table.add(event, name)

    def report(self, processes: Who) -> Iterator[Mutex]:
        """What is known of each."""
        for row in self.table:
            yield Mutex(name=row.key[0], **row.seen(processes))


class Wmi:
    """Calls of WMI."""

    def __init__(self, budget: Budget) -> None:
        self.table = Table("wmi", MOST, budget)

    def add(self, event: Event) -> None:
        """A line of wmimon's."""
        parts = (event.text(key) for key in ("Command", "Object", "Function", "Resource"))
        text = " ".join(part for part in parts if part)
        if text:
            self.table.add(event, event.text("Method", 64), text[:2048])

    def report(self, processes: Who) -> Iterator[WmiActivity]:
        """What is known of each."""
        for row in self.table:
            yield WmiActivity(method=row.key[0], text=row.key[1], **row.seen(processes))


class Sockets:
    """Names that were looked up, and connections: lines of socketmon's."""

    def __init__(self, budget: Budget) -> None:
        self.names = Table("names", MOST_NAMES, budget)
        self.connections = Table("connections", MOST_NAMES, budget)

    def add(self, event: Event) -> None:
        """A line of socketmon's."""
        name = event.text("DnsName", 256).rstrip(".")
        if name:
            row = self.names.add(event, name.lower())
            if row is not None:
                row.details.setdefault("sources", {})["api"] = None
        address, port = event.text("RemoteIp", 64), event.number("RemotePort")
        if address and port is not None and port < 2**16:
            self.connections.add(_owned(event), event.text("Protocol", 16) or "?", address, str(port))

    def report_names(self, processes: Who) -> Iterator[HostName]:
        """What is known of each name."""
        for row in self.names:
            yield HostName(
                name=row.key[0],
                sources=tuple(row.details["sources"]),
                addresses=tuple(row.details.get("addresses", ())),
                **row.seen(processes),
            )

    def report_connections(self, processes: Who) -> Iterator[Connection]:
        """What is known of each connection."""
        for row in self.connections:
            protocol, address, port = row.key
            yield Connection(protocol=protocol, address=address, port=int(port), **row.seen(processes))


def _owned(event: Event) -> Event:
    """The event as its socket's owner's: the kernel may send in the context of another process."""
    owner = event.process("OwnerPID")
    if owner is not None and owner > 0:
        event.pid = owner
    return event
