"""Reads the events of a log while it is split, and keeps what the report needs of them.

It gets each line once, grouped by plugin, a block of the log at a time. Most lines are told apart by their
bytes, without being parsed: those that only read something are counted by the splitter and say no more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from drakcelery.behaviour.calls import Calls
from drakcelery.behaviour.events import Event, Handler, seconds
from drakcelery.behaviour.files import Files
from drakcelery.behaviour.memory import Injections, MemoryDumps
from drakcelery.behaviour.methods import Sieve
from drakcelery.behaviour.processes import Process, Processes
from drakcelery.behaviour.registry import Registry
from drakcelery.behaviour.system import Mutexes, Services, Sockets, Tasks, Wmi
from drakcelery.behaviour.tables import Budget

if TYPE_CHECKING:
    from drakcelery.behaviour.traffic import Traffic

Choose = Callable[[Event], Handler | None]
"""Gives what reads an event, if something does."""
Among = Callable[[Sequence[bytes]], Iterable[bytes]]
"""Gives those of some lines that something may read, and some that nothing does."""
_TIME = b'"TimeStamp"'
_LONG_SLEEP = 30_000
"""Milliseconds, which Windows' own processes seldom sleep."""
_FILE_COPIES = ("ReadFile", "WriteFile")
"""What the injector does that starts nothing."""
_SHOWN = 256
"""Bytes of a line that hold its time, which is its second key."""


@dataclass(slots=True)
class Written:
    """What a plugin wrote: how many lines, and the beginnings of the first and of the last."""

    lines: int
    first: bytes
    last: bytes

    def times(self) -> tuple[float | None, float | None]:
        """When the first and the last line were written."""
        return _time(self.first), _time(self.last)


def _time(line: bytes) -> float | None:
    begin = line.find(b'"', line.find(_TIME) + len(_TIME)) + 1 if _TIME in line else 0
    return seconds(line[begin : line.find(b'"', begin)].decode("ascii", "replace")) if begin else None


def _all_by(handler: Handler) -> tuple[Among, Choose]:
    """All lines are read by the one *handler*."""
    return iter, lambda _: handler


def _sleeper(event: Event) -> Handler | None:
    """What reads a line of delaymon: a process that sleeps for long is known by it, and no more."""
    milliseconds = event.fields.get("DelayIntervalMs")
    is_long = isinstance(milliseconds, int | float) and abs(milliseconds) >= _LONG_SLEEP
    return _known if is_long else None


def _known(_event: Event) -> None:
    """Nothing is to be done."""


class Reader:
    """All that was seen so far.

    Attributes:
        traffic: what is in the recorded traffic; None if there is none.
        is_started: whether DRAKVUF's injector has started the sample.
        sample_pid: the process that it started; None where Windows' shell did not tell (its line has 0).
        unreadable: lines that say something else than DRAKVUF does.
    """

    def __init__(self) -> None:
        self.budget = Budget()
        self.plugins: dict[str, Written] = {}
        self.processes = Processes(self.budget.left_out)
        self.services = Services(self.budget)
        self.tasks = Tasks(self.budget)
        self.mutexes = Mutexes(self.budget)
        self.wmi = Wmi(self.budget)
        self.sockets = Sockets(self.budget)
        self.traffic: Traffic | None = None
        self.files = Files(self.budget, self.tasks.file_changed)
        self.registry = Registry(self.budget, self._value_set)
        self.injections = Injections(self.budget, self.processes)
        self.dumps = MemoryDumps(self.budget, self.injections)
        hooks = {**self.services.hooks, **self.mutexes.hooks, **self.injections.hooks}
        self.calls = Calls(self.budget, hooks)
        self.is_started = False
        self.sample_pid: int | None = None
        self.unreadable = 0
        calls = (self.calls.among, self.calls.handler)
        self._read_along: Mapping[str, tuple[Among, Choose]] = {
            "filetracer": (self.files.among, self.files.handler),
            "regmon": (Sieve(self.registry.methods).among, self.registry.handler),
            "apimon": calls,
            "syscall": calls,
            "inject": _all_by(self._injected),
            "socketmon": _all_by(self.sockets.add),
            "wmimon": _all_by(self.wmi.add),
            "memdump": _all_by(self.dumps.add),
            "delaymon": (iter, _sleeper),  # of whom nothing else may ever be seen
            "fileextractor": _all_by(self.files.extracted),
            "fileextractor_close": _all_by(self.files.extracted),  # what was still open when DRAKVUF ended
        }

    def read(self, groups: Mapping[str, Sequence[bytes]]) -> None:
        """The lines of a block of the log by plugin, each a JSON object, in their order.

        procmon goes first: the other lines are of processes that it names.
        """
        for plugin, lines in groups.items():
            known = self.plugins.get(plugin)
            if known is None:
                known = self.plugins[plugin] = Written(0, lines[0][:_SHOWN], b"")
            known.lines += len(lines)
            known.last = lines[-1][:_SHOWN]
        self.processes.handles.forget()
        for line in self.processes.unsettled(groups.get("procmon", ())):
            self._process(line)
        for plugin, lines in groups.items():
            if plugin in self._read_along:
                self._read_lines(lines, *self._read_along[plugin])

    def read_traffic(self, capture: BinaryIO) -> None:
        """The recorded traffic, pcap or pcapng."""
        from drakcelery.behaviour.traffic import Traffic  # dpkt takes 40 ms and 5 MB: only if there is some

        self.traffic = Traffic(self.budget, self.sockets.names)
        self.traffic.read(capture)

    def _read_lines(self, lines: Sequence[bytes], among: Among, choose: Choose) -> None:
        parse, observe = Event.parse, self.processes.observe
        for line in among(lines):
            event = parse(line)
            if event is None:
                self.unreadable += 1
                continue
            handler = choose(event)
            if handler is not None:
                observe(event)
                handler(event)

    def _process(self, line: bytes) -> None:
        before = len(self.processes.all)
        event = self.processes.add(line)
        if event is not None and len(self.processes.all) > before:
            self._started(event, self.processes.all[-1])

    def _started(self, event: Event, process: Process) -> None:
        self.tasks.process_started(event, process)

    def _value_set(self, event: Event, key: str, name: str, value: str) -> None:
        self.services.value_set(event, key, name, value)
        self.tasks.value_set(event, key, name, value)

    def _injected(self, event: Event) -> None:
        """DRAKVUF's injector has started the sample, or done something for that before."""
        if event.text("Status") == "Success":
            self.is_started = self.is_started or event.method not in _FILE_COPIES
            self.sample_pid = event.process("InjectedPid") or self.sample_pid
