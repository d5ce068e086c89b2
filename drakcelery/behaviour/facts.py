"""The facts in a log that is still being written: each feature of the sample's behaviour, once. Pure.

A fact is what :mod:`drakcelery.behaviour.doings` compares two runs by: a thing of the report without what
runs choose by chance, and without Windows' own way of running a program. The report is not made for that:
only the rows that are new in the tables of its :class:`~drakcelery.behaviour.reader.Reader` are looked at.
Memory dumps are facts as well, by how they came about and their size, since services that read analyses live
on them.
"""

from __future__ import annotations

import hashlib
import ntpath
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice

from drakcelery.behaviour import alike, autostart
from drakcelery.behaviour.background import is_background_file, is_background_key
from drakcelery.behaviour.kin import Kin
from drakcelery.behaviour.processes import Process
from drakcelery.behaviour.reader import Reader
from drakcelery.behaviour.tables import Row, Table

MOST_FACTS = 100_000
"""Facts of a run: about 10 MB of digests."""
Fact = tuple[str, ...]


@dataclass(slots=True)
class _Source:
    """A table, and what its rows say."""

    table: Table
    fact: Callable[[Row], Fact | None]
    """None for what Windows does by itself."""
    read: int = 0
    """How many of its rows were looked at."""
    others: list[tuple[Row, int]] = field(default_factory=list)
    """Rows of processes that do not belong to the sample so far, and of how many processes."""


class Facts:
    """Those of a run.

    Attributes:
        kin: the sample's processes.
        new_tasks: the scheduled tasks among what :meth:`count` found last.
        new_processes: the processes among that.
        is_behind: whether :meth:`count` left something for the next time.
    """

    def __init__(self, reader: Reader, name: str, *, most: int = MOST_FACTS) -> None:
        """*name*: the sample's in the guest."""
        self._reader, self._name, self._most = reader, name, most
        self.kin = Kin(reader, name)
        self._digests: set[bytes] = set()
        self._listed = self._unlisted = 0
        self._strangers: list[Process] = []
        self._own: deque[Callable[[], Fact | None]] = deque()
        """What is the sample's, and was not counted yet."""
        self.is_behind = False
        self.new_tasks: list[Row] = []
        self.new_processes: list[Process] = []
        self._sources = [
            _Source(reader.files.table, self._file),
            _Source(reader.registry.table, self._value),
            _Source(reader.services.table, lambda row: ("services", self._pattern(row.key[0]))),
            _Source(reader.tasks.table, self._task),
            _Source(reader.mutexes.table, lambda row: ("mutexes", self._pattern(row.key[0]))),
            _Source(reader.wmi.table, lambda row: ("wmi", row.key[0], self._pattern(row.key[1]))),
            _Source(reader.sockets.names, lambda row: ("hosts", row.key[0])),
            _Source(reader.sockets.connections, lambda row: ("connections", *row.key)),
            _Source(reader.calls.table, lambda row: ("calls", row.key[1])),
            _Source(reader.injections.table, self._injection),
            _Source(reader.dumps.table, _dump),
        ]

    def __len__(self) -> int:
        return len(self._digests)

    @property
    def is_full(self) -> bool:
        """Whether something was not counted: a table of the report was full, or there are too many facts."""
        return bool(self._reader.budget.left_out) or len(self._digests) >= self._most

    def count(self, is_late: Callable[[], bool]) -> int:
        """How many facts there are that were not there the last time; found until *is_late*.

        What a fact is without chance takes up to a millisecond for a text that was made for that.
        """
        before = len(self._digests)
        is_changed = self.kin.refresh()
        self.new_tasks, self.new_processes = [], []
        for process in self._candidates(again=is_changed):
            if self._is_own(process):
                self.new_processes.append(process)
                self._own.append(partial(self._process, process))
            else:
                self._strangers.append(process)
        for source in self._sources:
            for row in _rows(source, again=is_changed):
                if self.kin.has_done(row):
                    self._own.append(partial(source.fact, row))
                else:
                    source.others.append((row, len(row.who)))
        while self._own and not is_late():
            self._add(self._own.popleft()())
        self.is_behind = bool(self._own)
        return len(self._digests) - before

    def _add(self, fact: Fact | None) -> None:
        if fact is not None and len(self._digests) < self._most:
            text = "\0".join(fact).encode("utf-8", "surrogatepass")
            self._digests.add(hashlib.blake2b(text, digest_size=8).digest())

    def _candidates(self, *, again: bool) -> list[Process]:
        """The processes that are new, and those that may belong to the sample by now."""
        processes = self._reader.processes
        found = [*processes.all[self._listed :], *islice(processes.others.values(), self._unlisted, None)]
        self._listed, self._unlisted = len(processes.all), len(processes.others)
        if again:
            found, self._strangers = [*self._strangers, *found], []
        return found

    def _is_own(self, process: Process) -> bool:
        if process.seqid >= 0:
            return self.kin.has(process.seqid)
        return self.kin.has_pid(process.pid, 0)

    def _process(self, process: Process) -> Fact:
        image = ntpath.basename(process.image or "")
        return "processes", self._pattern(image), self._pattern(process.command_line)

    def _pattern(self, text: str) -> str:
        return alike.pattern(alike.plain(text, self._name))

    def _file(self, row: Row) -> Fact | None:
        [path] = row.key
        harmless = autostart.of_file(path) is None and not autostart.is_executable(path)
        if harmless and is_background_file(alike.plain(path, self._name)):
            return None
        return "files", self._pattern(path)

    def _value(self, row: Row) -> Fact | None:
        action, key, name = row.key
        is_autostart = action == "set" and autostart.of_key(key, name) is not None
        if not is_autostart and is_background_key(alike.plain(key, self._name)):
            return None
        return "registry", self._pattern(key), self._pattern(name)

    def _task(self, row: Row) -> Fact:
        self.new_tasks.append(row)
        return "tasks", self._pattern(row.key[0])

    def _injection(self, row: Row) -> Fact:
        target = self._reader.processes.at(int(row.key[1]), row.details["at"])
        return "injections", self._pattern(ntpath.basename((target.image if target else None) or ""))


def _rows(source: _Source, *, again: bool) -> Iterator[Row]:
    """The rows of *source* that are new, and those that may be the sample's by now."""
    waiting, source.others = source.others, []
    new = list(source.table.since(source.read))
    source.read += len(new)
    for row, processes in waiting:
        if again or len(row.who) > processes:
            yield row
        else:
            source.others.append((row, processes))
    yield from new


def _dump(row: Row) -> Fact:
    found = row.details
    return "dumps", str(found.get("method")), str(found.get("reason")), str(found.get("size"))
