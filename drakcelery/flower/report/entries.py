"""One entry of a list: what it can be filtered and searched by, and how it is shown. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from drakcelery.behaviour.report import (
    CallActivity,
    Capability,
    Connection,
    Dump,
    FileActivity,
    HostName,
    HttpRequest,
    Injection,
    Mutex,
    RegistryActivity,
    ScheduledTask,
    Seen,
    ServiceActivity,
    TlsName,
    WmiActivity,
)
from drakcelery.operators.report.lists import METHODS, capability, shown_key
from drakcelery.operators.report.processes import NAMED, Cast
from drakcelery.operators.report.values import LONGEST, SHORT, shown, shown_host

IN_ZIP, NOT_IN_ZIP = "in dumps.zip", "left out"


def kinds(one: Seen) -> tuple[str, ...]:
    """What it can be filtered by, of the words that its table has."""
    match one:
        case FileActivity():
            marked = ("executable",) if one.executable else ()
            return (*one.actions, *marked, *(("autostart",) if one.autostart else ()))
        case RegistryActivity():
            return (one.action, *(("autostart",) if one.autostart else ()))
        case Dump():
            return (IN_ZIP if one.in_zip else NOT_IN_ZIP,)
        case CallActivity() | Capability():
            return ()
        case _:
            return (kind(one),)


def kind(one: Seen) -> str:
    """What it is, where a table has several kinds of entries."""
    names: dict[type[Seen], str] = {
        HostName: "name",
        Connection: "connection",
        HttpRequest: "HTTP",
        TlsName: "TLS",
        Injection: "injection",
        ServiceActivity: "service",
        ScheduledTask: "scheduled task",
        Mutex: "mutex",
        WmiActivity: "WMI",
        FileActivity: "file",
        RegistryActivity: "registry",
        Dump: "dump",
        CallActivity: "call",
        Capability: "capability",
    }
    return names[type(one)]


def texts(one: Seen, cast: Cast) -> tuple[str | None, ...]:
    """What is searched, as the report has it."""
    match one:
        case FileActivity():
            return one.path, one.renamed_to, one.sha256, one.autostart
        case RegistryActivity():
            return one.key, shown_key(one.key), one.value_name, one.value, one.autostart
        case HostName() | Connection() | HttpRequest() | TlsName():
            return _traffic_texts(one)
        case Dump():
            return one.name, one.base, one.reason, one.method
        case CallActivity():
            return one.function, one.category
        case Capability():
            return one.rule, one.namespace, *_named(one)
        case _:
            return _system(one, cast)


def _traffic_texts(one: HostName | Connection | HttpRequest | TlsName) -> tuple[str | None, ...]:
    match one:
        case HostName():
            return one.name, *one.addresses
        case Connection():
            return f"{one.address}:{one.port}", one.protocol
        case HttpRequest():
            return one.url, one.host, one.address, one.user_agent, one.method
        case TlsName():
            return one.name, f"{one.address}:{one.port}"


def cells(one: Seen, cast: Cast) -> tuple[str, ...]:
    """It in the columns of its table, before those that every table has."""
    match one:
        case FileActivity():
            return _long(one.path), _done(one)
        case RegistryActivity():
            name = "" if one.value_name is None else _long(one.value_name) or "(default)"
            to = "" if one.value is None else f" to {_long(one.value) or '(empty)'}"
            return _long(shown_key(one.key)), name, f"{one.action}{to}"
        case CallActivity():
            return shown(one.category, SHORT), shown(one.function, SHORT)
        case Dump():
            size = "" if one.size is None else f"{one.size:,} bytes"
            return shown(one.name), size, shown(one.base, SHORT), _long(one.reason)
        case Capability():
            return shown(one.rule), *_named(one)
        case HostName() | Connection() | HttpRequest() | TlsName():
            return kind(one), *_traffic(one)
        case _:
            return kind(one), *_system(one, cast)


def _named(one: Capability) -> tuple[str, str]:
    """What ATT&CK and MBC call it."""
    said = {part.label: part.text for part in capability(one)}
    return said.get("ATT&CK", ""), said.get("MBC", "")


def _done(one: FileActivity) -> str:
    words = ", ".join(one.actions)
    if one.renamed_to:
        words += f" to {_long(one.renamed_to)}"
    return f"{words}; sha256 {shown(one.sha256)}" if one.sha256 else words


def _traffic(one: HostName | Connection | HttpRequest | TlsName) -> tuple[str, str]:
    if isinstance(one, HostName):
        return shown_host(one.name), ", ".join(map(shown_host, one.addresses))
    where = f"{shown_host(one.address)} port {one.port}"
    if isinstance(one, Connection):
        return shown(one.protocol, SHORT), where
    if isinstance(one, TlsName):
        return shown_host(one.name), where
    agent = f", as {_long(one.user_agent)}" if one.user_agent else ""
    return f"{shown(one.method, SHORT)} {_long(one.url)}", where + agent


def _system(one: Seen, cast: Cast) -> tuple[str, str]:
    match one:
        case Injection():
            methods = ", ".join(shown(method, SHORT) for method in one.methods[:METHODS])
            return f"into {cast.name(one.target)}", methods
        case ServiceActivity():
            program = f", runs {_long(one.program)}" if one.program else ""
            return _long(one.name), ", ".join(one.actions) + program
        case ScheduledTask():
            return _long(one.name), f"known by {', '.join(one.evidence)}"
        case WmiActivity():
            return _long(one.text), shown(one.method, SHORT)
        case Mutex():
            return _long(one.name), ""
    return "", ""


def marks(one: Seen) -> Iterator[str]:
    """What nobody should miss."""
    if isinstance(one, FileActivity) and one.executable:
        yield "executable"
    if isinstance(one, FileActivity | RegistryActivity) and one.autostart:
        yield f"autostart: {shown(one.autostart, SHORT)}"
    if isinstance(one, Dump) and not one.in_zip:
        yield "not in dumps.zip, which has a limit"
    if isinstance(one, ServiceActivity) and "created" in one.actions:
        yield "created"


def actors(one: Seen, cast: Cast) -> str:
    """Who did it: the sample's own first."""
    own = [number for number in one.processes if number in cast.own]
    numbers = own or list(one.processes)
    more = f" and {len(numbers) - NAMED} more" if len(numbers) > NAMED else ""
    return ", ".join(map(cast.name, numbers[:NAMED])) + more


def since(at: float | None, began: float) -> str:
    """``+1.3 s`` from the start of the run, which is known to the second; empty where no time is known."""
    return "" if at is None else f"{max(0.0, at - began):+,.1f} s"


def _long(text: str) -> str:
    return shown(text, LONGEST)
