"""What the sample of a report did, each thing once, and comparable with what another run did. Pure."""

from __future__ import annotations

import ntpath
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from drakcelery.behaviour import alike
from drakcelery.behaviour.background import is_background_file, is_background_key
from drakcelery.behaviour.report import FileActivity, RegistryActivity, Report, Seen

Kind = Literal[
    "processes",
    "injections",
    "files",
    "registry",
    "services",
    "tasks",
    "mutexes",
    "wmi",
    "hosts",
    "connections",
    "requests",
    "capabilities",
    "calls",
]


class Found(NamedTuple):
    """A thing as the report has it."""

    kind: Kind
    shown: str
    key: tuple[str, ...] = ()
    """What it is, as far as a run may choose it by chance."""
    says: tuple[str, ...] = ()
    """What was done to it, and with what result."""
    fixed: tuple[str, ...] = ()
    """What it is, as far as nothing of it is chance: hosts, ports, functions."""
    content: str | None = None
    """Of a file that can be run: its sha256, if it is known."""


@dataclass(kw_only=True)
class Doing:
    """A thing that the sample did, or had to do with."""

    kind: Kind
    shown: str
    """As the report has it."""
    key: tuple[str, ...]
    """As :func:`~drakcelery.behaviour.alike.plain` has it."""
    fixed: tuple[str, ...]
    says: set[str] = field(default_factory=set)
    contents: set[str] = field(default_factory=set)

    @property
    def name(self) -> tuple[str, ...]:
        """What it is, in its analysis."""
        return (self.kind, *self.fixed, *self.key)

    @property
    def pattern(self) -> tuple[str, ...]:
        """What it is, without what may be chance."""
        return (self.kind, *self.fixed, *map(alike.pattern, self.key))


class Doings:
    """Those of a report.

    Attributes:
        all: by kind and what it is.
        background: how many more are only Windows' own way of running a program.
    """

    def __init__(self, report: Report) -> None:
        self._report = report
        self._images = {one.seqid: one.image or "" for one in report.processes}
        self._own = {one.seqid for one in report.processes if one.origin != "windows"}
        self.all: dict[tuple[str, ...], Doing] = {}
        self.background = 0
        for found in self._found():
            key, fixed = tuple(map(self._plain, found.key)), tuple(map(str.lower, found.fixed))
            made = Doing(kind=found.kind, shown=found.shown, key=key, fixed=fixed)
            one = self.all.setdefault(made.name, made)
            one.says.update(map(self._plain, found.says))
            one.contents.update((found.content,) if found.content else ())

    def _plain(self, text: str) -> str:
        return alike.plain(text, self._report.sample.name)

    def _is_own(self, one: Seen) -> bool:
        return not one.processes or not self._own.isdisjoint(one.processes)

    def _found(self) -> Iterator[Found]:
        yield from self._processes()
        yield from self._files()
        yield from self._registry()
        yield from self._system()
        yield from self._network()

    def _processes(self) -> Iterator[Found]:
        for process in self._report.processes:
            if process.origin != "windows":
                image = process.image or ""
                key = (ntpath.basename(image), process.command_line)
                shown = process.command_line or image or "a process without a name"
                yield Found("processes", shown, key, (f"started by {self._name(process.parent)}",))
        for one in filter(self._is_own, self._report.injections):
            target = self._name(one.target)
            yield Found("injections", f"into {target}", (target,), one.methods)

    def _name(self, number: int | None) -> str:
        image = self._images.get(number, "") if number is not None else ""
        return ntpath.basename(image) or "another process"

    def _files(self) -> Iterator[Found]:
        for one in filter(self._is_own, self._report.files):
            harmless = one.autostart is None and not one.executable
            if harmless and is_background_file(self._plain(one.path)):
                self.background += 1
            else:
                content = one.sha256 if one.executable else None
                yield Found("files", one.path, (one.path,), tuple(_done(one)), content=content)

    def _registry(self) -> Iterator[Found]:
        for one in filter(self._is_own, self._report.registry):
            if one.autostart is None and is_background_key(self._plain(one.key)):
                self.background += 1
            else:
                shown = one.key if one.value_name is None else f"{one.key} : {one.value_name or '(default)'}"
                yield Found("registry", shown, (one.key, one.value_name or ""), tuple(_value(one)))

    def _system(self) -> Iterator[Found]:
        report = self._report
        for service in filter(self._is_own, report.services):
            runs = (f"runs {service.program}",) if service.program else ()
            yield Found("services", service.name, (service.name,), (*service.actions, *runs))
        for task in filter(self._is_own, report.tasks):
            yield Found("tasks", task.name, (task.name,))
        for mutex in filter(self._is_own, report.mutexes):
            yield Found("mutexes", mutex.name, (mutex.name,))
        for wmi in filter(self._is_own, report.wmi):
            yield Found("wmi", f"{wmi.method} {wmi.text}", (wmi.text,), fixed=(wmi.method,))
        for capability in report.capabilities:
            yield Found("capabilities", capability.rule, fixed=(capability.rule,))
        for call in filter(self._is_own, report.calls):
            yield Found("calls", call.function, fixed=(call.function,))

    def _network(self) -> Iterator[Found]:
        """An address that is an answer of DNS goes by the name that was asked for: answers change."""
        network = self._report.network
        names = {address: one.name for one in network.names for address in one.addresses}
        asked = [one.name for one in network.names if self._is_own(one)]
        for name in (*asked, *(one.name for one in network.tls)):
            yield Found("hosts", name, fixed=(name,))
        for one in network.connections:
            if self._is_own(one):
                place = names.get(one.address, one.address)
                shown = f"{one.protocol} {place} port {one.port}"
                yield Found("connections", shown, fixed=(one.protocol, place, str(one.port)))
        for request in network.http:
            path = request.url.partition("://")[2].partition("/")[2]
            fixed = (request.method, names.get(request.host, request.host))
            yield Found("requests", f"{request.method} {request.url}", (path,), fixed=fixed)


def _done(one: FileActivity) -> Iterator[str]:
    yield from one.actions
    if one.renamed_to:
        yield f"to {one.renamed_to}"
    if one.executable:
        yield "can be run"


def _value(one: RegistryActivity) -> Iterator[str]:
    yield one.action
    if one.value:
        yield f"to {one.value}"
