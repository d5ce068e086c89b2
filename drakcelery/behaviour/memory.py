"""Memory: what memdump took, and who wrote into other processes or started threads there. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping

from drakcelery.behaviour.calls import argument_number, returned_false
from drakcelery.behaviour.events import Event, is_success
from drakcelery.behaviour.processes import Processes
from drakcelery.behaviour.report import Dump, Injection
from drakcelery.behaviour.tables import Budget, Table, Who

MOST_DUMPS = 5000
MOST_INJECTIONS = 1000
_MOST_METHODS = 16
Number = Callable[[int, int], int | None]
"""The number of the process that had a pid at an event; None if it cannot be listed."""


class Injections:
    """Who changed which other process."""

    def __init__(self, budget: Budget, processes: Processes) -> None:
        self.table = Table("injections", MOST_INJECTIONS, budget)
        self._processes = processes
        self.hooks: Mapping[str, Callable[[Event], None]] = {
            **dict.fromkeys(
                ("CreateRemoteThread", "CreateRemoteThreadEx", "WriteProcessMemory"), self._called
            ),
            "RtlCreateUserThread": self._native_called,
            **dict.fromkeys(("NtWriteVirtualMemory", "NtCreateThreadEx"), self._system_call),
        }

    def _called(self, event: Event) -> None:
        if not returned_false(event):
            self._by_handle(event, argument_number(event, 0))

    def _native_called(self, event: Event) -> None:
        if is_success(event.number("ReturnValue")):
            self._by_handle(event, argument_number(event, 0))

    def _system_call(self, event: Event) -> None:
        self._by_handle(event, event.number("ProcessHandle"))

    def _by_handle(self, event: Event, handle: int | None) -> None:
        if event.pid is not None and handle is not None:
            self.add(event, self._processes.handles.at((event.pid, handle), event.uid))

    def add(self, event: Event, target: int | None) -> None:
        """The process of *event* changed the process with the pid *target*."""
        if target is None or event.pid is None or target in (0, event.pid):
            return
        row = self.table.add(event, str(event.pid), str(target))
        if row is not None:
            row.details.setdefault("at", event.uid)
            methods = row.details.setdefault("methods", {})
            if len(methods) < _MOST_METHODS:
                methods[event.text("Method", 64)] = None

    def report(self, processes: Who, number: Number) -> Iterator[Injection]:
        """Each pair of processes; *number* is the target's, also of one that procmon did not name."""
        for row in self.table:
            target = number(int(row.key[1]), row.details["at"])
            if target is not None:
                methods = tuple(row.details["methods"])
                yield Injection(target=target, methods=methods, **row.seen(processes))


class MemoryDumps:
    """The dumps, by their names."""

    def __init__(self, budget: Budget, injections: Injections) -> None:
        self.table = Table("dumps", MOST_DUMPS, budget)
        self._injections = injections

    def add(self, event: Event) -> None:
        """A line of memdump's."""
        self._injections.add(event, event.process("TargetPID"))
        name = event.text("DumpFilename", 128)
        row = self.table.add(event, name) if name else None
        if row is not None and row.count == 1:
            row.details.update(
                base=event.text("DumpAddr", 20),
                size=event.number("DumpSize"),
                reason=event.text("DumpReason", 256),
                method=event.text("Method", 64),
            )

    def report(self, packed: Collection[str], processes: Who) -> Iterator[Dump]:
        """What is known of each; *packed* are the names that are in the zip."""
        for row in self.table:
            base = str(row.details["base"])
            row.details["base"] = base if base.startswith("0x") else f"0x{base}"
            yield Dump(name=row.key[0], in_zip=row.key[0] in packed, **row.details, **row.seen(processes))
