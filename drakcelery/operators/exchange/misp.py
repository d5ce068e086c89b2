"""A report as an event of MISP, of the object templates that PyMISP has. Pure.

The same report makes the same event. misp-stix makes one of a STIX bundle, but loses registry keys and HTTP
requests of a malware analysis, and needs a setuptools that the emulator cannot use (2026.10).
"""

from __future__ import annotations

import ntpath
import uuid
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from pymisp import MISPEvent, MISPObject

from drakcelery.behaviour.report import (
    Connection,
    FileActivity,
    HostName,
    HttpRequest,
    Mutex,
    RegistryActivity,
    Report,
    ReportedProcess,
    ServiceActivity,
    TlsName,
)
from drakcelery.operators.exchange import values
from drakcelery.operators.exchange.selection import Selection
from drakcelery.operators.exchange.sharing import Level
from drakcelery.operators.exchange.techniques import techniques
from drakcelery.operators.report.markdown import markdown
from drakcelery.operators.report.sections import document

NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "drakcelery:misp")
_ONLY_OURS, _AS_THE_EVENT = "0", "5"
"""Distributions."""
_UNDEFINED, _COMPLETED = "4", "2"
"""Threat level, and state of the analysis."""
_METHODS = ("GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE")
_TRANSPORTS = ("TCP", "UDP")
Fields = Iterable[tuple[str, object]]
"""Relations of a template, and their values; what is None, or empty, is left out."""


def misp(report: Report, level: Level) -> str:
    """The event as JSON; *level* is its TLP."""
    return event(report, level).to_json(sort_keys=True, indent=2) + "\n"


def event(report: Report, level: Level) -> MISPEvent:
    """The event: only for the own organization until somebody says otherwise, and not for detection."""
    made = _Event(report)
    made.fill()
    made.event.add_tag(f"tlp:{level}")
    for one in techniques(report):
        name = one.name.replace('"', "'")
        made.event.add_tag(f'misp-galaxy:mitre-attack-pattern="{name} - {one.id}"')
    return made.event


class _Event:
    """Makes an event."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._chosen = Selection(report)
        self._there: set[str] = set()
        self._finished = values.moment(report.run.finished) or values.EPOCH
        name = values.line(report.sample.name) or "a sample"
        self.event = MISPEvent()
        self.event.from_dict(
            info=f"drakcelery: what {name} did",
            uuid=self._uuid("event"),
            date=self._finished.date().isoformat(),
            timestamp=int(self._finished.timestamp()),
            distribution=_ONLY_OURS,
            threat_level_id=_UNDEFINED,
            analysis=_COMPLETED,
            published=False,
        )

    def fill(self) -> None:
        """All that the sample did, how that ended, and the page that people read."""
        report, network, chosen = self._report, self._report.network, self._chosen
        self._analysis()
        chosen.each("files", chosen.files(), self._file)
        chosen.each("registry", chosen.registry(), self._value)
        chosen.each("mutexes", report.mutexes, self._mutex)
        chosen.each("names", network.names, self._name)
        chosen.each("connections", network.connections, self._connection)
        chosen.each("http", network.http, self._request)
        chosen.each("tls", network.tls, self._tls)
        chosen.each("services", report.services, self._service)
        self._processes(chosen.processes())
        page = markdown(document(report))
        self._add("report", self.event.add_event_report, name="What the sample did", content=page)
        for number, sentence in enumerate(chosen.sentences()):
            self._add(
                f"comment:{number}", self.event.add_attribute, type="comment", value=values.line(sentence)
            )

    def _uuid(self, *parts: object) -> str:
        return str(uuid.uuid5(NAMESPACE, repr((self._report.analysis_uid, *parts))))

    def _add(self, key: str, add: Any, **fields: Any) -> None:
        """Something of the event that is no object."""
        more = {"to_ids": False} if fields.get("type") else {}
        time = int(self._finished.timestamp())
        add(uuid=self._uuid(key), timestamp=time, distribution=_AS_THE_EVENT, **more, **fields)

    def _object(self, template: str, fields: Fields, *, comment: str = "") -> MISPObject | None:
        """Add an object; None if *fields* has nothing, or the same is there."""
        given = [(relation, _valued(value)) for relation, value in fields]
        kept = [(relation, value) for relation, value in given if value]
        made = MISPObject(template, strict=True)
        made.from_dict(
            uuid=self._uuid(template, kept),
            timestamp=int(self._finished.timestamp()),
            distribution=_AS_THE_EVENT,
            comment=comment,
        )
        if not kept or made.uuid in self._there:
            return None
        self._there.add(made.uuid)
        for relation, value in kept:
            made.add_attribute(
                relation,
                value=value,
                uuid=self._uuid(template, kept, relation, value),
                timestamp=int(self._finished.timestamp()),
                distribution=_AS_THE_EVENT,
                to_ids=False,
            )
        return self.event.add_object(made)

    def _refer(self, source: MISPObject, how: str, target: MISPObject) -> None:
        source.add_reference(target.uuid, how, uuid=self._uuid(source.uuid, how, target.uuid))

    def _analysis(self) -> None:
        run, sample = self._report.run, self._report.sample
        product, version = values.engine(run.engine)
        analysis = self._object(
            "malware-analysis",
            [
                ("product", product),
                ("version", version),
                ("start_time", values.moment(run.started)),
                ("end_time", self._finished),
                ("result", "unknown"),
                *(("module", name) for name in run.plugins),
            ],
        )
        file = self._object(
            "file",
            [("sha256", values.sha256(sample.sha256)), ("filename", sample.name)],
            comment="the sample",
        )
        if analysis and file:
            self._refer(analysis, "characterizes", file)

    def _file(self, one: FileActivity) -> MISPObject | None:
        """What is there afterwards."""
        path = one.renamed_to or one.path
        if one.actions == ("deleted",) and not one.renamed_to:
            return None
        marks = [*one.actions, *(["executable"] if one.executable else [])]
        return self._object(
            "file",
            [
                ("filename", ntpath.basename(path)),
                ("fullpath", path),
                ("sha256", values.sha256(one.sha256)),
            ],
            comment=_comment(*marks, one.autostart),
        )

    def _value(self, one: RegistryActivity) -> MISPObject | None:
        if one.action == "deleted":
            return None
        key = values.whole_hive(one.key)
        fields = [("key", key), ("name", one.value_name), ("data", one.value)]
        return self._object("registry-key", fields, comment=_comment(one.autostart))

    def _mutex(self, one: Mutex) -> MISPObject | None:
        return self._object("mutex", [("name", one.name)])

    def _name(self, one: HostName) -> MISPObject | None:
        name = values.host(one.name)
        addresses = [("ip", address) for address in map(values.address, one.addresses) if address]
        seen = [("first-seen", values.moment(one.first)), ("last-seen", values.moment(one.last))]
        return self._object("domain-ip", [("domain", name), *addresses, *seen]) if name else None

    def _connection(self, one: Connection) -> MISPObject | None:
        return self._traffic(one, values.address(one.address), one.port, one.protocol)

    def _traffic(
        self,
        one: Connection | TlsName,
        address: str | None,
        port: int,
        protocol: str,
        *more: tuple[str, object],
    ) -> MISPObject | None:
        if address is None or not 0 <= port <= values.MOST_PORT:
            return None
        transport = protocol[:3].upper()
        return self._object(
            "network-connection",
            [
                ("ip-dst", address),
                ("dst-port", port),
                ("layer3-protocol", "IP"),
                ("layer4-protocol", transport if transport in _TRANSPORTS else None),
                ("first-packet-seen", values.moment(one.first)),
                ("last-packet-seen", values.moment(one.last)),
                *more,
            ],
        )

    def _tls(self, one: TlsName) -> MISPObject | None:
        name = values.host(one.name)
        more = [("hostname-dst", name), ("layer7-protocol", "HTTPS" if one.port == 443 else None)]
        return self._traffic(one, values.address(one.address), one.port, "TCP", *more)

    def _request(self, one: HttpRequest) -> MISPObject | None:
        url = values.url(one.url)
        if url is None:
            return None
        method = one.method.upper()
        return self._object(
            "http-request",
            [
                ("url", url),
                ("method", method if method in _METHODS else None),
                ("host", values.host(one.host.partition(":")[0])),
                ("ip-dst", values.address(one.address)),
                ("user-agent", one.user_agent),
            ],
        )

    def _service(self, one: ServiceActivity) -> MISPObject | None:
        if "created" not in one.actions or not values.line(one.name):
            return None
        return self._object("windows-service", [("name", one.name), ("image-path", one.program)])

    def _processes(self, numbers: Iterable[int]) -> None:
        known = {number: self._process(self._chosen.cast.all[number]) for number in numbers}
        for number, made in known.items():
            parent = self._chosen.cast.all[number].parent
            above = known.get(parent) if parent is not None and parent != number else None
            if made and above:
                self._refer(made, "child-of", above)

    def _process(self, one: ReportedProcess) -> MISPObject | None:
        return self._object("process", self._process_fields(one))

    def _process_fields(self, one: ReportedProcess) -> Iterator[tuple[str, object]]:
        yield "name", ntpath.basename(one.image or "")
        yield "pid", one.pid
        yield "image", one.image
        yield "command-line", one.command_line
        yield "start-time", values.moment(one.started)
        if one.ppid is not None and 0 <= one.ppid <= values.MOST_PID:
            yield "parent-pid", one.ppid


def _valued(value: object) -> str | None:
    """A value as MISP stores it: in a line, without spaces around it."""
    if isinstance(value, datetime):
        return value.isoformat(timespec="microseconds")
    return values.line(value if isinstance(value, str) else None if value is None else str(value))


def _comment(*marks: str | None) -> str:
    return values.line(", ".join(filter(None, marks))) or ""
