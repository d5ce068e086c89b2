"""Makes the report of what a reader has seen. Pure."""

from __future__ import annotations

import ntpath
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from functools import cached_property

from drakcelery.behaviour.ending import Watched, ending, off
from drakcelery.behaviour.indicators import Picker
from drakcelery.behaviour.processes import Process
from drakcelery.behaviour.reader import Reader
from drakcelery.behaviour.report import (
    Injection,
    Network,
    Origin,
    PluginLines,
    Report,
    ReportedProcess,
    Run,
    Sample,
    Seen,
)
from drakcelery.behaviour.tables import Row
from drakcelery.model.analysis import Outcome

MOST_UNLISTED = 4096
"""Processes that procmon did not name."""


def assemble(
    reader: Reader, *, uid: str, sample: Sample, run: Run, outcome: Outcome, packed: Collection[str]
) -> Report:
    """The report of the analysis *uid*; *packed* are the names of the dumps in the zip."""
    known = Known(reader, sample.name)
    begun = known.begun()
    injections = tuple(reader.injections.report(known.of, known.number))
    known.find_own(begun, injections)
    report = Report(
        analysis_uid=uid,
        sample=sample,
        run=run,
        ending=ending(outcome, Watched()),
        injections=injections,
        files=tuple(reader.files.report(known.of)),
        registry=tuple(reader.registry.report(known.of)),
        services=tuple(reader.services.report(known.of)),
        tasks=tuple(reader.tasks.report(known.of)),
        mutexes=tuple(reader.mutexes.report(known.of)),
        wmi=tuple(reader.wmi.report(known.of)),
        network=_network(reader, known),
        dumps=tuple(reader.dumps.report(packed, known.of)),
        calls=tuple(reader.calls.report(known.of)),
        plugins=_plugins(reader),
        unreadable=_unreadable(reader),
    )
    return _completed(report, reader, known, outcome)


def _completed(report: Report, reader: Reader, known: Known, outcome: Outcome) -> Report:
    """With what follows from all lists together: whose they are, how it ended, what was left out."""
    picker = Picker(report, known.origins.keys())
    watched = Watched(
        lines=sum(one.lines for one in report.plugins if one.plugin != "inject"),
        is_known=bool(known.origins),
        did_something=known.did_something(report),
        in_traffic=picker.has_traffic(),
        off=off({*report.run.plugins, *reader.plugins}),
    )
    return report.model_copy(
        update={
            "processes": known.processes(report.injections),
            "indicators": picker.indicators(reader.budget.left_out),
            "ending": ending(outcome, watched),
            "left_out": dict(reader.budget.left_out),
        }
    )


def _network(reader: Reader, known: Known) -> Network:
    traffic = reader.traffic
    return Network(
        names=tuple(reader.sockets.report_names(known.of)),
        connections=tuple(reader.sockets.report_connections(known.of)),
        http=tuple(traffic.report_requests(known.of)) if traffic is not None else (),
        tls=tuple(traffic.report_tls(known.of)) if traffic is not None else (),
    )


def _unreadable(reader: Reader) -> int:
    packets = reader.traffic.unreadable if reader.traffic is not None else 0
    return reader.unreadable + reader.processes.unreadable + packets


def _plugins(reader: Reader) -> tuple[PluginLines, ...]:
    found = []
    for plugin, written in sorted(reader.plugins.items()):
        first, last = written.times()
        found.append(PluginLines(plugin=plugin, lines=written.lines, first=first, last=last))
    return tuple(found)


@dataclass
class Known:
    """The processes, and which of them belong to the sample."""

    reader: Reader
    name: str
    """The sample's in the guest."""
    more: dict[int, int] = field(default_factory=dict)
    """Numbers of processes that procmon did not name, by pid."""
    origins: dict[int, Origin] = field(default_factory=dict)

    def of(self, row: Row) -> tuple[int, ...]:
        """The numbers of the processes that did something."""
        found = (self.number(pid, at) for pid, at in row.who.items())
        return tuple(dict.fromkeys(number for number in found if number is not None))

    def number(self, pid: int, at: int) -> int | None:
        """The number of the process that had *pid* at the event *at*; None if the list has no room for it."""
        process = self.reader.processes.at(pid, at)
        if process is not None:
            return process.seqid
        if pid not in self.more and len(self.more) >= MOST_UNLISTED:
            self.reader.budget.left_out["processes"] += 1
            return None
        return self.more.setdefault(pid, len(self.reader.processes.all) + len(self.more))

    def find_own(self, begun: Iterable[int], injections: Iterable[Injection]) -> None:
        """Find what the sample's processes, *begun*, started, and into what they wrote."""
        for number in begun:
            self._belongs(number, "sample")
        waiting, reached = list(injections), True
        while reached:
            reached, left = False, []
            for one in waiting:
                if self.origins.keys().isdisjoint(one.processes):
                    left.append(one)
                else:
                    reached = True
                    self._belongs(one.target, "injected", since=one.first or 0.0)
            waiting = left

    def begun(self) -> list[int]:
        """The sample's own processes: DRAKVUF tells the pid, else its name does, else it is the first one."""
        processes = self.reader.processes
        pid = self.reader.sample_pid
        if pid is not None and (found := processes.at(pid, 0)) is not None:
            return [found.seqid]
        named = [one.seqid for one in processes if self._is_named(one.image)]
        named += self._numbers(one for one in processes.others.values() if self._is_named(one.image))
        if named:
            return named
        calling = [one.seqid for one in processes if self.name.lower() in one.command_line.lower()]
        if calling or processes.were_running:
            return calling
        return self._numbers([*processes.others.values(), *processes.all][:1])

    def _numbers(self, several: Iterable[Process]) -> list[int]:
        found = (self.number(one.pid, 0) for one in several)
        return [number for number in found if number is not None]

    def _is_named(self, image: str | None) -> bool:
        return ntpath.basename(image or "").lower() == self.name.lower()

    def _belongs(self, number: int, origin: Origin, *, since: float = 0.0) -> None:
        """It belongs to the sample, and so does what it started *since* then."""
        self.origins.setdefault(number, origin)
        waiting = [one for one in self._children.get(number, ()) if one.begun >= since]
        for process in waiting:
            if process.seqid not in self.origins:
                self.origins[process.seqid] = "started"
                waiting += self._children.get(process.seqid, ())

    @cached_property
    def _children(self) -> dict[int, list[Process]]:
        children: dict[int, list[Process]] = {}
        for process in self.reader.processes:
            parent = self._parent(process)
            if parent is not None:
                children.setdefault(parent, []).append(process)
        return children

    def _parent(self, process: Process) -> int | None:
        if process.parent is not None:
            return process.parent.seqid
        other = process.unlisted_parent
        return self.number(other.pid, process.begun_at) if other is not None else None

    def did_something(self, report: Report) -> bool:
        """Whether a process of the sample's did something that lasts, or started another one."""
        own = self.origins.keys()
        doings: Iterable[Iterable[Seen]] = (
            *(report.injections, report.files, report.registry, report.services, report.tasks, report.wmi),
            *(report.network.names, report.network.connections),
        )
        return "started" in self.origins.values() or any(
            not own.isdisjoint(one.processes) for several in doings for one in several
        )

    def processes(self, injections: Iterable[Injection]) -> tuple[ReportedProcess, ...]:
        """All of them, in the order of their numbers."""
        by_target: dict[int, dict[int, None]] = {}
        for one in injections:
            by_target.setdefault(one.target, {}).update(dict.fromkeys(one.processes))
        listed = [
            self._reported(one, one.seqid, self._parent(one), by_target.get(one.seqid, ()))
            for one in self.reader.processes
        ]
        others = self.reader.processes.others
        unlisted = [
            self._reported(
                others.get(pid) or Process(-1, pid, None, None), number, None, by_target.get(number, ())
            )
            for pid, number in self.more.items()
        ]
        return (*listed, *unlisted)

    def _reported(
        self, process: Process, number: int, parent: int | None, injected_by: Iterable[int]
    ) -> ReportedProcess:
        other = self.reader.processes.others.get(process.pid)
        return ReportedProcess(
            seqid=number,
            pid=process.pid,
            ppid=process.ppid,
            parent=parent,
            image=process.image or (other.image if other is not None else None),
            command_line=process.command_line,
            bits=process.bits,
            started=process.begun or None,
            ended=process.ended,
            exit_code=process.exit_code,
            exit_status=process.exit_status,
            killed_by=process.killed_by,
            origin=self.origins.get(number, "windows"),
            injected_by=tuple(injected_by),
        )
