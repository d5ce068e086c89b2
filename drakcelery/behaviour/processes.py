"""The processes of the guest, one after the other as procmon told of them. Pure.

Which line makes which process, and which one a pid means, follows ``tree_from_log`` of DRAKVUF Sandbox v0.21
(``drakrun/analyzer/postprocessing/process_tree.py``), so that both give the same tree.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from drakcelery.behaviour import command_line
from drakcelery.behaviour.events import Event, bounded, whole_number
from drakcelery.behaviour.handles import Handles
from drakcelery.behaviour.methods import FROM, METHOD, NUMBER, method_of

MOST_PROCESSES = 20_000
MOST_CHARACTERS = 8 * 1024**2
"""Of all command lines together."""
_MOST_ANCESTORS = 1000
_MOST_SETTLED = 4096
_MOST_OTHERS = 4096
_IDS = re.compile(rb'"PID": ?\d{1,10}, ?"PPID": ?\d{1,10}(?=[,}])')
_HEAD = 52
"""Where a line's head begins: behind its plugin and time. It says which thread called which method."""
_MOST_HEAD = 512


@dataclass(slots=True, eq=False)
class Process:
    """A process. Times are seconds since 1970, and 0 for what was there before; numbers are of events."""

    seqid: int
    """Its number in the list; a pid may come again."""
    pid: int
    ppid: int | None
    """As Windows says; it need not be alive."""
    image: str | None
    begun: float = 0.0
    begun_at: int = 0
    command_line: str = ""
    ended: float | None = None
    ended_at: int | None = None
    exit_code: int | None = None
    exit_status: str | None = None
    noted_ppid: int | None = None
    """What v0.21 has as its ``ppid``: of one that was moved below another parent, that one's."""
    killed_by: int | None = None
    """The number of the process that ended it, in the list."""
    bits: int | None = None
    parent: Process | None = None
    unlisted_parent: Process | None = None
    """Its parent, where that is one of :attr:`Processes.others`."""
    children: dict[int, Process] = field(default_factory=dict)
    """By their numbers, in their order."""

    def arguments(self) -> list[str]:
        """Its command line, split as a program does it."""
        return command_line.split(self.command_line) if self.command_line else []


class Processes:
    """The list, and the tree that its parents make.

    Attributes:
        unreadable: lines that say something else than DRAKVUF does; they are left out.
        were_running: whether DRAKVUF listed what ran before the sample.
        handles: which pid a process's handle stands for, as far as procmon told.
        others: by their pids, processes that did something and that procmon did not list; with the emulator,
            the sample's own. They are not in the tree, as with v0.21.
    """

    def __init__(self, left_out: Counter[str]) -> None:
        self.all: list[Process] = []
        self.unreadable = 0
        self.were_running = False
        self.others: dict[int, Process] = {}
        self.handles = Handles(MOST_PROCESSES)
        self._left_out = left_out
        self._characters = MOST_CHARACTERS
        self._of_pid: dict[int, list[Process]] = {}
        self._previous = b""
        self._settled: set[bytes] = set()
        """Pids with their parents, as lines have them, that tell nothing new as long as nothing changes."""
        self._settled_heads: set[bytes] = set()
        """Heads of lines with such a pid, for a method that says no more than that."""

    def unsettled(self, lines: Iterable[bytes]) -> Iterator[bytes]:
        """Those of procmon's *lines* that may tell something new; add each before asking for the next one."""
        heads = self._settled_heads
        for line in lines:
            if line[_HEAD : line.find(NUMBER, FROM)] in heads:
                self._previous = line
            else:
                yield line

    def add(self, line: bytes) -> Event | None:
        """A line of procmon's; its event, where it is one that says more than which process it is of."""
        if line == self._previous:
            return None  # DRAKVUF writes some lines twice, and v0.21 skips them as well
        self._previous = line
        method = method_of(line)
        if method and method not in _METHODS:
            ids = _IDS.search(line)
            if ids is not None and ids[0] in self._settled:
                self._settle(line, ids)
                return None
        else:
            ids = None
        event = Event.parse(line)
        if event is None:
            self.unreadable += 1
            return None
        if not method and "RunningProcess" in event.fields:
            self._running(event)
            return None
        action = _METHODS.get(method)
        if action is not None:
            self.observe(event)
            action(self, event)
            return event
        if method and self._anything(event) and ids is not None:
            self._settle(line, ids)
        return None

    def _settle(self, line: bytes, ids: re.Match[bytes]) -> None:
        """Another line with the same *ids*, or the same head, tells nothing new."""
        if len(self._settled) >= _MOST_SETTLED or len(self._settled_heads) >= _MOST_SETTLED:
            self._unsettle()
        self._settled.add(ids[0])
        end = line.find(NUMBER, FROM)
        if ids.start() >= _HEAD and ids.end() <= line.find(METHOD, FROM) < end < _HEAD + _MOST_HEAD:
            self._settled_heads.add(line[_HEAD:end])

    def _unsettle(self) -> None:
        self._settled.clear()
        self._settled_heads.clear()

    def last(self, pid: int | None) -> Process | None:
        """The latest process with this pid, whether it still runs or not."""
        found = self._of_pid.get(pid) if pid is not None else None
        return found[-1] if found else None

    def at(self, pid: int, number: int) -> Process | None:
        """The process that had this pid at the event with this *number*."""
        found = self._of_pid.get(pid)
        if not found:
            return None
        place = bisect_right(found, number, key=lambda one: one.begun_at) - 1
        return found[max(place, 0)]

    def observe(self, event: Event) -> None:
        """Something happened in a process, which may not be in the list."""
        pid = event.pid
        if pid is None or pid in self.others or pid in self._of_pid or len(self.others) >= _MOST_OTHERS:
            return
        self.others[pid] = Process(-1, pid, event.process("PPID"), event.text("ProcessName") or None)

    def __iter__(self) -> Iterator[Process]:
        return iter(self.all)

    def _add(
        self, pid: int | None, ppid: int | None, image: str | None, event: Event | None
    ) -> Process | None:
        if pid is None:
            self.unreadable += 1
            return None
        if len(self.all) >= MOST_PROCESSES:
            self._left_out["processes"] += 1
            return None
        begun = (event.time or 0.0) if event is not None else 0.0
        number = event.uid if event is not None else 0
        known = self.last(pid)
        if known is not None and known.ended is None:
            known.ended, known.ended_at = begun, number - 1  # its end was not seen
        parent = self.last(ppid)
        process = Process(len(self.all), pid, ppid, image, begun=begun, begun_at=number, parent=parent)
        process.noted_ppid = ppid
        process.unlisted_parent = self.others.get(ppid) if parent is None and ppid is not None else None
        self.all.append(process)
        self._of_pid.setdefault(pid, []).append(process)
        if parent is not None:
            parent.children[process.seqid] = process
        self._unsettle()
        return process

    def _running(self, event: Event) -> None:
        """It was there before the sample."""
        self.were_running = True
        image = event.text("RunningProcess")
        process = self._add(event.pid, event.process("PPID"), image, None)
        if process is not None:
            process.bits = event.process("Bitness")

    def _created(self, event: Event) -> None:
        if whole_number(event.fields.get("Status")) != 0:
            return
        process = self._add(event.process("NewPid"), event.pid, event.text("ImagePathName"), event)
        if process is None:
            return
        process.bits = event.process("Bitness")
        self._know_handle(event, "NewProcessHandle", process.pid)
        text = command_line.unescape(bounded(event.fields.get("CommandLine"), 4 * command_line.MOST))
        process.command_line = text[: command_line.MOST]
        self._characters -= len(process.command_line)
        if self._characters < 0:
            self._left_out["command_lines"] += 1
            self._characters += len(process.command_line)
            process.command_line = ""

    def _created_unnamed(self, event: Event) -> None:
        """Windows XP, and what is made with NtCreateProcessEx: without image and command line."""
        if whole_number(event.fields.get("Status")) == 0:
            self._add(event.process("NewPid"), event.pid, "Unnamed", event)
            self._know_handle(event, "ProcessHandle", event.process("NewPid"))

    def _cleaned(self, event: Event) -> None:
        """Its memory is taken down: it is over."""
        pid = event.process("ExitPid")
        process = self.last(pid) or self.others.get(pid or 0)
        if process is not None:
            process.ended, process.ended_at = event.time or 0.0, event.uid
            self._unsettle()

    def _terminated(self, event: Event) -> None:
        """It ends itself, where ``ExitPid`` is 0, or is ended."""
        exit_pid = event.process("ExitPid")
        pid = exit_pid or event.pid
        process = self.last(pid) or self.others.get(pid or 0)
        if process is None:
            return
        if exit_pid:
            killer = self.last(event.pid)
            process.killed_by = killer.seqid if killer is not None else None
        process.exit_code = event.number("ExitStatus")
        process.exit_status = event.text("ExitStatusStr") or None

    def _opened(self, event: Event) -> None:
        self._know_handle(event, "ProcessHandle", event.process("ClientID"))
        self._anything(event)

    def _know_handle(self, event: Event, key: str, target: int | None) -> None:
        handle = event.number(key)
        if event.pid is not None and handle and target is not None:
            self.handles.add((event.pid, handle), event.uid, target)

    def _anything(self, event: Event) -> bool:
        """Any other line: whose it is. Whether the same would tell nothing new next time."""
        ppid = event.process("PPID")
        if event.pid is None or "PPID" not in event.fields:
            return False
        process = self.last(event.pid)
        if process is None:
            added = self._add(event.pid, ppid, event.text("ProcessName") or None, None)
            return added is not None
        if process.ended is None and process.noted_ppid != ppid:
            parent = self.last(ppid)
            if parent is not None:
                return self._rebind(process, parent)
        return True

    def _rebind(self, process: Process, parent: Process) -> bool:
        """It has another parent: it was started with more rights, by a service. Whether nothing changed."""
        if process.parent is parent and next(reversed(parent.children)) == process.seqid:
            process.noted_ppid = parent.noted_ppid
            return True
        if _is_above(process, parent):
            return True
        if process.parent is not None:
            del process.parent.children[process.seqid]
        parent.children[process.seqid] = process
        process.parent, process.ppid = parent, parent.pid
        process.noted_ppid = parent.noted_ppid  # as v0.21 does
        self._unsettle()
        return False


def _is_above(process: Process, other: Process) -> bool:
    """Whether *process* is *other*, or one of its ancestors, of which there may not be too many."""
    above: Process | None = other
    for _ in range(_MOST_ANCESTORS):
        if above is process:
            return True
        if above is None:
            return False
        above = above.parent
    return True


_METHODS: Mapping[bytes, Callable[[Processes, Event], None]] = {
    b"NtCreateUserProcess": Processes._created,  # noqa: SLF001 its own
    b"NtCreateProcessEx": Processes._created_unnamed,  # noqa: SLF001 its own
    b"MmCleanProcessAddressSpace": Processes._cleaned,  # noqa: SLF001 its own
    b"NtTerminateProcess": Processes._terminated,  # noqa: SLF001 its own
    b"NtOpenProcess": Processes._opened,  # noqa: SLF001 its own
}
