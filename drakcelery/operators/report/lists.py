"""One line of each list of a report. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from drakcelery.behaviour.report import (
    CallActivity,
    Capability,
    Connection,
    Dump,
    FileActivity,
    HostName,
    HttpRequest,
    Injection,
    RegistryActivity,
    ScheduledTask,
    ServiceActivity,
    TlsName,
    WmiActivity,
)
from drakcelery.operators.report.document import Entry, Part
from drakcelery.operators.report.processes import Cast
from drakcelery.operators.report.values import SHORT, shown, shown_host

ADDRESSES = 4
"""Answers to a name that are shown."""
METHODS = 6
_HIVES = {"\\registry\\machine\\": "HKLM\\", "\\registry\\user\\": "HKU\\"}
"""What people call the roots of the registry, by the kernel's names."""
_ROOTS = re.compile(r"^\\registry\\(?:machine|user)\\", re.IGNORECASE)


def is_telling(one: FileActivity | RegistryActivity) -> bool:
    """Whether it is to stand before the others: Windows starts it by itself, or it can be run."""
    return one.autostart is not None or (isinstance(one, FileActivity) and one.executable)


def injection(one: Injection, cast: Cast) -> Iterator[Part]:
    """Into which process, and how."""
    yield Part(cast.name(one.target), label="into")
    yield Part(", ".join(shown(method, SHORT) for method in one.methods[:METHODS]))


def file(one: FileActivity, limit: int) -> Iterator[Part]:
    """Its path, and what was done to it."""
    yield Part(shown(one.path, limit))
    yield Part(", ".join(one.actions), "words")
    if one.renamed_to:
        yield Part(shown(one.renamed_to, limit), label="to")
    yield from _marks(one.autostart, executable=one.executable)
    if one.sha256:
        yield Part(shown(one.sha256), label="sha256")


def _marks(autostart: str | None, *, executable: bool = False) -> Iterator[Part]:
    if executable:
        yield Part("executable", "alert")
    if autostart:
        yield Part(f"autostart: {shown(autostart, SHORT)}", "alert")


def shown_key(key: str) -> str:
    """*key* below the root that people know: ``HKLM`` or ``HKU``. Not yet fit to be shown."""
    return _ROOTS.sub(lambda root: _HIVES[root[0].lower()], key, count=1)


def value(one: RegistryActivity, limit: int) -> Iterator[Part]:
    """The key, the name of the value, and what it was set to."""
    yield Part(shown(shown_key(one.key), limit))
    if one.value_name is not None:
        yield Part(shown(one.value_name, limit) or "(default)", label=one.action)
    else:
        yield Part(one.action, "words")
    if one.value is not None:
        yield Part(shown(one.value, limit) or "(empty)", label="to")
    yield from _marks(one.autostart)


def service(one: ServiceActivity, limit: int) -> Iterator[Part]:
    """Its name, what was done to it, and what it runs."""
    yield Part(shown(one.name, limit))
    created = "created" in one.actions
    yield Part(", ".join(one.actions), "alert" if created else "words")
    if one.program:
        yield Part(shown(one.program, limit), label="runs")


def task(one: ScheduledTask, limit: int) -> Iterator[Part]:
    """Its name, and what tells of it."""
    yield Part(shown(one.name, limit))
    yield Part(f"known by {', '.join(one.evidence)}", "words")


def wmi(one: WmiActivity, limit: int) -> Iterator[Part]:
    """The method, and the query or object."""
    yield Part(shown(one.method, SHORT))
    yield Part(shown(one.text, limit))


def host_name(one: HostName) -> Iterator[Part]:
    """The name, and what the answers were."""
    yield Part(shown_host(one.name), label="name")
    if one.addresses:
        more = f" and {len(one.addresses) - ADDRESSES} more" if len(one.addresses) > ADDRESSES else ""
        yield Part(", ".join(map(shown_host, one.addresses[:ADDRESSES])) + more, label="is")


def connection(one: Connection) -> Iterator[Part]:
    """Protocol, address and port."""
    yield Part(shown(one.protocol, SHORT))
    yield Part(shown_host(one.address))
    yield Part(f"port {one.port}", "words")


def request(one: HttpRequest, limit: int) -> Iterator[Part]:
    """What was requested, where, and as which program."""
    yield Part(shown(one.method, SHORT), label="HTTP")
    yield Part(shown(one.url, limit))
    yield Part(shown_host(one.address), label="from")
    yield Part(f"port {one.port}", "words")
    if one.user_agent:
        yield Part(shown(one.user_agent, limit), label="as")


def tls_name(one: TlsName) -> Iterator[Part]:
    """The name of the server, and where it is."""
    yield Part(shown_host(one.name), label="TLS")
    yield Part(shown_host(one.address), label="at")
    yield Part(f"port {one.port}", "words")


def dump(one: Dump) -> Iterator[Part]:
    """Its name, why it was taken, and whether it is there."""
    yield Part(shown(one.name))
    if one.size is not None:
        yield Part(f"{one.size} bytes", "words")
    yield Part(shown(one.base, SHORT), label="at")
    yield Part(shown(one.reason))
    if not one.in_zip:
        yield Part("not in dumps.zip, which has a limit", "alert")


def capability(one: Capability) -> Iterator[Part]:
    """The rule, and what ATT&CK and MBC call it."""
    yield Part(shown(one.rule))
    if one.attack:
        names = (_entry(it.id, it.tactic, it.technique, it.subtechnique) for it in one.attack)
        yield Part("; ".join(names), label="ATT&CK")
    if one.mbc:
        names = (_entry(it.id, it.objective, it.behavior, it.method) for it in one.mbc)
        yield Part("; ".join(names), label="MBC")


def _entry(number: str, group: str, name: str, detail: str | None) -> str:
    """An entry of a catalogue: ``C0017 Process: Create Process``."""
    said = f"{shown(number, SHORT)} {shown(group, SHORT)}: {shown(name, SHORT)}"
    return f"{said}, {shown(detail, SHORT)}" if detail else said


def by_category(several: Iterable[CallActivity]) -> dict[str, list[CallActivity]]:
    """*several* calls by what they are for."""
    found: dict[str, list[CallActivity]] = {}
    for one in several:
        found.setdefault(one.category, []).append(one)
    return found


def calls(category: str, several: Iterable[CallActivity]) -> Entry:
    """The functions of a category, and how often each was called."""
    names = (f"{shown(one.function, SHORT)} ({one.count})" for one in several)
    return Entry((Part(shown(category, SHORT)), Part(", ".join(names))))
