"""What a sample did, as STIX's cyber-observable objects. Pure.

Identifiers are those that the specification makes of an object's content (STIX 2.1, section 2.9), so the same
file or host has the same one in each bundle. A process has no such content.
"""

from __future__ import annotations

import hashlib
import ntpath
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from stix2 import v21

from drakcelery.behaviour.report import (
    Connection,
    FileActivity,
    HostName,
    HttpRequest,
    RegistryActivity,
    Report,
    ReportedProcess,
    Seen,
    ServiceActivity,
    TlsName,
)
from drakcelery.model.text import storable
from drakcelery.operators.exchange import values
from drakcelery.operators.exchange.selection import Selection

NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "drakcelery:stix")
"""Of identifiers that say nothing of their object's content."""
_TRANSPORT = re.compile(r"(tcp|udp)", re.IGNORECASE)


def identifier(kind: str, *parts: object) -> str:
    """The identifier of an object of *kind*, the same at each call: UUIDv5 of *parts*.

    A process must have a UUIDv4 (section 6.13): its pseudorandom bits are a hash of *parts*.
    """
    name = storable(":".join((kind, *map(str, parts))))
    if kind == "process":
        return f"{kind}--{uuid.UUID(bytes=hashlib.sha256(name.encode()).digest()[:16], version=4)}"
    return f"{kind}--{uuid.uuid5(NAMESPACE, name)}"


class Observables:
    """Collects them.

    Attributes:
        objects: by their identifiers, each once.
        sample: the identifier of the sample.
    """

    def __init__(self, report: Report, marking: str) -> None:
        self._report, self._marking = report, marking
        self.objects: dict[str, Any] = {}
        self.sample = self._sample()
        self._opened: dict[int, dict[str, None]] = {}

    def collect(self, chosen: Selection) -> None:
        """All that the sample did, or, where no process tells, what has no process."""
        report, network = self._report, self._report.network
        chosen.each("files", chosen.files(), self._written)
        chosen.each("registry", chosen.registry(), self._value)
        chosen.each("mutexes", report.mutexes, lambda one: self._mutex(one.name))
        chosen.each("names", network.names, self._name)
        chosen.each("connections", network.connections, self._connection)
        chosen.each("http", network.http, self._request)
        chosen.each("tls", network.tls, self._tls)
        self._processes(chosen)
        chosen.each("services", report.services, self._service)

    def add(self, kind: Callable[..., Any], **fields: Any) -> str:
        """Add an object without the fields that are None; its identifier."""
        given = {name: value for name, value in fields.items() if value is not None}
        made = kind(**given, object_marking_refs=[self._marking])
        self.objects.setdefault(made.id, made)
        return str(made.id)

    def _sample(self) -> str:
        given = self._report.sample
        sha256 = values.sha256(given.sha256)
        return self.add(
            v21.File,
            hashes={"SHA-256": sha256} if sha256 else None,
            name=values.text(given.name) or (None if sha256 else "sample"),
        )

    def _file(self, path: str, sha256: str | None = None) -> str | None:
        directory, name = ntpath.split(values.text(path) or "")
        if not name:
            return None
        where = directory.rstrip("\\/") or directory
        return self.add(
            v21.File,
            name=name,
            parent_directory_ref=self.add(v21.Directory, path=where) if where else None,
            hashes={"SHA-256": sha256} if sha256 else None,
        )

    def _written(self, one: FileActivity) -> str | None:
        """What is there afterwards: the file, or what it was renamed to; of one that was deleted, nothing."""
        if one.renamed_to:
            return self._file(one.renamed_to, values.sha256(one.sha256))
        return None if one.actions == ("deleted",) else self._file(one.path, values.sha256(one.sha256))

    def _value(self, one: RegistryActivity) -> str | None:
        key = values.registry_key(one.key)
        if key is None or one.action == "deleted":
            return None
        value = {"name": one.value_name and values.text(one.value_name), "data": values.text(one.value)}
        kept = {name: said for name, said in value.items() if said}
        return self.add(v21.WindowsRegistryKey, key=key, values=[kept] if kept else None)

    def _mutex(self, name: str) -> str | None:
        given = values.text(name)
        return self.add(v21.Mutex, name=given) if given else None

    def _host(self, value: str) -> str | None:
        """A host by its address or its name."""
        if address := values.address(value):
            return self.add(v21.IPv6Address if ":" in address else v21.IPv4Address, value=address)
        name = values.host(value)
        return self.add(v21.DomainName, value=name) if name else None

    def _name(self, one: HostName) -> str | None:
        name = self._host(one.name)
        for address in filter(None, map(values.address, one.addresses)) if name else ():
            place = self._host(address)
            if name != place and str(name).startswith("domain-name--"):
                self._relate(str(name), "resolves-to", str(place))
        return name

    def _relate(self, source: str, how: str, target: str) -> None:
        told = values.moment(self._report.run.finished) or values.EPOCH
        self.add(
            v21.Relationship,
            id=identifier("relationship", self._report.analysis_uid, source, how, target),
            created=told,
            modified=told,
            source_ref=source,
            relationship_type=how,
            target_ref=target,
        )

    def _traffic(
        self, one: Seen, address: str, port: int, protocols: Sequence[str], **more: Any
    ) -> str | None:
        place = self._host(address)
        if place is None or not 0 <= port <= values.MOST_PORT:
            return None
        version = {"ipv4-addr": ["ipv4"], "ipv6-addr": ["ipv6"]}.get(place.partition("--")[0], [])
        start, end = values.moment(one.first), values.moment(one.last)
        if start and end and end < start:
            end = None
        traffic = self.add(
            v21.NetworkTraffic,
            dst_ref=place,
            dst_port=port,
            protocols=[*version, *protocols] or ["ip"],
            start=start,
            end=end,
            is_active=False if end else None,
            **more,
        )
        for number in one.processes:
            self._opened.setdefault(number, {})[traffic] = None
        return traffic

    def _connection(self, one: Connection) -> str | None:
        known = _TRANSPORT.match(one.protocol)
        return self._traffic(one, one.address, one.port, [known[0].lower()] if known else [])

    def _request(self, one: HttpRequest) -> str | None:
        method, address = values.text(one.method, 32), values.url(one.url)
        if address is not None:
            self.add(v21.URL, value=address)
        if method is None:
            return None
        header: dict[str, list[str]] = {}
        if host := values.text(one.host):
            header["Host"] = [host]
        if agent := values.text(one.user_agent):
            header["User-Agent"] = [agent]
        asked: dict[str, Any] = {"request_method": method.lower()}
        asked["request_value"] = _target(one.url)
        if header:
            asked["request_header"] = header
        return self._traffic(
            one, one.address, one.port, ["tcp", "http"], extensions={"http-request-ext": asked}
        )

    def _tls(self, one: TlsName) -> str | None:
        name = self._host(one.name)
        traffic = self._traffic(one, one.address, one.port, ["tcp", "tls"])
        return name or traffic

    def _processes(self, chosen: Selection) -> None:
        uid = self._report.analysis_uid
        known = {number: identifier("process", uid, number) for number in chosen.processes()}
        for number in known:
            self._process(chosen.cast.all[number], known)

    def _process(self, one: ReportedProcess, known: Mapping[int, str]) -> None:
        parent = known.get(one.parent) if one.parent is not None and one.parent != one.seqid else None
        self.add(
            v21.Process,
            id=known[one.seqid],
            pid=one.pid,
            command_line=values.text(one.command_line, 32_767),
            created_time=values.moment(one.started),
            image_ref=self._image(one.image or ""),
            parent_ref=parent,
            opened_connection_refs=list(self._opened.get(one.seqid, ())) or None,
        )

    def _image(self, path: str) -> str | None:
        """The sample, if that is what runs."""
        is_sample = ntpath.basename(path).lower() == self._report.sample.name.lower()
        return self.sample if path and is_sample else self._file(path)

    def _service(self, one: ServiceActivity) -> str | None:
        """One that the sample made: what runs it is a process with the extension for services."""
        name = values.text(one.name)
        if name is None or "created" not in one.actions:
            return None
        return self.add(
            v21.Process,
            id=identifier("process", self._report.analysis_uid, "service", name),
            command_line=values.text(one.program),
            extensions={"windows-service-ext": {"service_name": name}},
        )


def _target(url: str) -> str:
    """What is asked for: the URL without scheme and host."""
    rest = (values.text(url) or "").partition("://")[2]
    return "/" + rest.partition("/")[2]
