"""``report.json``: what a sample did, as far as it was seen. The model of its form, version 1. Pure.

Times are seconds since 1970 by the host's clock. A process is named by its ``seqid`` in ``processes``. Every
list is bounded; ``left_out`` counts what a full one did not take. A later version of us may add fields;
``version`` changes if one goes or means something else.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from drakcelery.behaviour.catalogues import AttackTechnique, MbcBehavior
from drakcelery.model.analysis import Value
from drakcelery.model.clues import Clue
from drakcelery.model.metadata import CapaRun
from drakcelery.model.news import EndedBy

NAME = "report.json"
VERSION: Literal[1] = 1

Origin = Literal["sample", "started", "injected", "windows"]
"""``sample``: what was started; ``started``: by the sample, or by what it started; ``injected``: a process of
others into which one of these wrote or put a thread; ``windows``: all others."""
Observed = Literal["activity", "nothing", "traffic", "broke_off", "not_executed", "not_seen", "no_log"]
"""``activity``: the lists say what it did; ``nothing``: it ran to the end, and did nothing that the plugins
record; ``traffic``: only the recorded traffic says something, and not whose it is; ``broke_off``: nothing was
seen, but the run was cut short, so that says nothing; ``not_executed``: it never ran; ``not_seen``: no
process of its own is in the log, or no plugin that records what lasts was on; ``no_log``: no plugin wrote
anything, so nothing can be said."""


class Seen(Value):
    """How often something was seen, when, and by which processes (at most 16)."""

    count: int
    first: float | None = None
    last: float | None = None
    processes: tuple[int, ...] = ()


class Sample(Value):
    """What was analysed."""

    sha256: str
    name: str
    """Its name in the guest."""
    magic: str


class Run(Value):
    """Where and how it ran."""

    engine: str
    host: str
    slot: str
    started: int
    finished: int
    snapshot_version: int
    start_command: str
    start_method: str | None = None
    net_enable: bool
    timeout: int
    plugins: tuple[str, ...]


class Ending(Value):
    """How it ended, and what that means for the rest."""

    execution: str
    complete: bool | None = None
    reason: str | None = None
    windows_error: int | None = None
    ended: EndedBy | None = None
    """What ended it; None if it was not watched for news. ``quiet``: it was stopped early, since nothing new
    came."""
    observed: Observed
    summary: str
    """For people, in one or two sentences."""


class ReportedProcess(Value):
    """A process."""

    seqid: int
    pid: int
    ppid: int | None = None
    """As Windows says; it need not be alive."""
    parent: int | None = None
    """Its parent's ``seqid``, if it is known."""
    image: str | None = None
    command_line: str = ""
    bits: int | None = None
    started: float | None = None
    """None if it was there before the sample."""
    ended: float | None = None
    exit_code: int | None = None
    exit_status: str | None = None
    killed_by: int | None = None
    origin: Origin
    injected_by: tuple[int, ...] = ()


class Injection(Seen):
    """Writing into another process, or starting a thread there; ``processes`` has who did it."""

    target: int
    """The ``seqid`` of the other process."""
    methods: tuple[str, ...]


class FileActivity(Seen):
    """A file that was created, written, deleted or renamed."""

    path: str
    actions: tuple[Literal["created", "written", "deleted", "renamed"], ...]
    renamed_to: str | None = None
    executable: bool = False
    """A program, library, driver or script by its name."""
    autostart: str | None = None
    """The place by which Windows starts it by itself."""
    sha256: str | None = None
    """Of its content, if the plugin fileextractor took it."""


class RegistryActivity(Seen):
    """A value that was set or deleted, or a key that was deleted."""

    action: Literal["set", "deleted"]
    key: str
    value_name: str | None = None
    """None for a key; ``(Default)`` for its value without a name."""
    value: str | None = None
    """The last one, as text; bytes are in hex."""
    autostart: str | None = None


class ServiceActivity(Seen):
    """A Windows service."""

    name: str
    actions: tuple[Literal["created", "started", "deleted", "controlled"], ...]
    program: str | None = None


class ScheduledTask(Seen):
    """A task of Windows' scheduler."""

    name: str
    evidence: tuple[Literal["file", "registry", "command"], ...]


class Mutex(Seen):
    """A mutex."""

    name: str


class WmiActivity(Seen):
    """A call of WMI."""

    method: str
    text: str
    """The query, the object or the resource."""


class HostName(Seen):
    """A name that was looked up."""

    name: str
    sources: tuple[Literal["api", "dns"], ...]
    """``api``: a call in the guest; ``dns``: in the recorded traffic."""
    addresses: tuple[str, ...] = ()
    """What the traffic answers, at most 16."""


class Connection(Seen):
    """Traffic to an address."""

    protocol: str
    address: str
    port: int


class HttpRequest(Seen):
    """A request without TLS, in the recorded traffic, which does not tell the process."""

    method: str
    url: str
    host: str
    """The header, or address and port."""
    address: str
    port: int
    user_agent: str | None = None


class TlsName(Seen):
    """The server name of a TLS connection, in the recorded traffic."""

    name: str
    address: str
    port: int


class Network(Value):
    """The network, as the plugins and the recorded traffic show it."""

    names: tuple[HostName, ...] = ()
    connections: tuple[Connection, ...] = ()
    http: tuple[HttpRequest, ...] = ()
    tls: tuple[TlsName, ...] = ()


class Indicators(Value):
    """What a search elsewhere could begin with. Names and addresses that only Windows used are left out."""

    hosts: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()
    sha256: tuple[str, ...] = ()
    """Of the sample, and of what it created or wrote, as far as known."""


class Dump(Seen):
    """A memory dump."""

    name: str
    """In ``dumps.zip``: ``dumps/<name>``."""
    base: str
    """Its address, in hex."""
    size: int | None = None
    reason: str
    method: str
    in_zip: bool
    """False if the limits left it out."""


class CallActivity(Seen):
    """A function of Windows that says much about a program, and how often it was called."""

    function: str
    category: str


class Capability(Seen):
    """A rule of capa's that the calls of the sample's processes match; ``count`` is how often."""

    rule: str
    namespace: str | None = None
    attack: tuple[AttackTechnique, ...] = ()
    mbc: tuple[MbcBehavior, ...] = ()


class PluginLines(Value):
    """What a plugin wrote."""

    plugin: str
    lines: int
    first: float | None = None
    last: float | None = None


class Report(Value):
    """What a sample did, as far as it was seen."""

    version: Literal[1] = VERSION
    analysis_uid: str
    retry_of: str | None = None
    """The analysis that it repeats; None if it is no retry."""
    reused_from: str | None = None
    """The analysis whose run this is; None if it has a run of its own."""
    sample: Sample
    run: Run
    ending: Ending
    clues: tuple[Clue, ...] = ()
    """What looks like evasion; none where the sample did much."""
    variant_of: str | None = None
    """The analysis whose second look it is; None if it is none."""
    processes: tuple[ReportedProcess, ...] = ()
    injections: tuple[Injection, ...] = ()
    files: tuple[FileActivity, ...] = ()
    registry: tuple[RegistryActivity, ...] = ()
    services: tuple[ServiceActivity, ...] = ()
    tasks: tuple[ScheduledTask, ...] = ()
    mutexes: tuple[Mutex, ...] = ()
    wmi: tuple[WmiActivity, ...] = ()
    network: Network = Network()
    indicators: Indicators = Indicators()
    dumps: tuple[Dump, ...] = ()
    calls: tuple[CallActivity, ...] = ()
    capabilities: tuple[Capability, ...] = ()
    capa: CapaRun | None = None
    """None if it is not set up."""
    plugins: tuple[PluginLines, ...] = ()
    left_out: dict[str, Annotated[int, Field(gt=0)]] = Field(default_factory=dict)
    """By list: events that a full one did not take; and what else a limit cut off: bytes of the log
    (``log_bytes``) and of the traffic (``traffic_bytes``), lines that are no plugin's (``log_lines``)."""
    unreadable: int = 0
    """Lines of known plugins that say something else than DRAKVUF does, and packets that are none."""
