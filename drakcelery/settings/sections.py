"""The settings as values: every section, every key, its default, its unit. Reads no file and no environment.

``[redis]`` and ``[s3]`` are in :mod:`drakcelery.settings.servers`. ``[drakmon]``, ``[drakrun]`` and
``[drakvuf_plugins]`` keep the meaning they had in DRAKVUF Sandbox v0.18. docs/settings.md says what each key
does; a test keeps the two together.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Literal

from pydantic import Field

from drakcelery.model import timeouts
from drakcelery.model.analysis import State
from drakcelery.model.names import Name
from drakcelery.model.news import WatchMode
from drakcelery.model.timeouts import Timeouts
from drakcelery.settings.section import Section
from drakcelery.settings.values import (
    BUCKET_PATTERN,
    IDENTITY_PATTERN,
    AbsolutePath,
    Age,
    BrokerUrl,
    Filters,
    Headers,
    HostNames,
    Program,
    QualityNames,
    SecretHeaders,
    SigningSecret,
    TracesUrl,
    WebhookUrl,
    headers_of,
    host_names,
    is_meant,
)


class CelerySection(Section):
    """``[celery]``: the transport between the stages."""

    broker_url: BrokerUrl | None = Field(
        default=None, description="default: Karton's Redis, the database after Karton's"
    )


class DrakmonSection(Section):
    """``[drakmon]``, from v0.18."""

    system_disable: bool = Field(default=False, description="1: a karton-system runs elsewhere, start none")


class DrakrunSection(Section):
    """``[drakrun]``, with the meaning of v0.18."""

    identity: str = Field(default="karton.drakrun-prod", pattern=IDENTITY_PATTERN)
    filters: Filters = (
        {"type": "sample", "stage": "recognized", "platform": "win32"},
        {"type": "sample", "stage": "recognized", "platform": "win64"},
    )
    headers: Headers = Field(default={"type": "analysis", "kind": "drakrun"})
    analysis_timeout: int = Field(default=600, ge=1, description="seconds")
    use_root_uid: bool = False
    sample_testing: bool = False
    test_filters: Filters = (
        {"type": "sample-test", "platform": "win32"},
        {"type": "sample-test", "platform": "win64"},
    )
    test_headers: Headers = Field(default={"type": "analysis-test", "kind": "drakrun"})
    net_enable: bool = False
    out_interface: str | None = None
    dns_server: str = "8.8.8.8"
    syscall_filter: str | None = None
    raw_memory_dump: bool = False
    anti_hammering_threshold: int = Field(default=0, ge=0, description="per 10 seconds; 0: off")
    attach_profiles: bool = False
    attach_apiscout_profile: bool = False
    xen_cmdline_check: Literal["fail", "ignore"] = "fail"


class DrakcelerySection(Section):
    """``[drakcelery]``: what is ours."""

    host: Name = Field(default_factory=lambda: socket.gethostname().split(".")[0] or "localhost")
    state_dir: AbsolutePath = Path("/var/lib/drakcelery")
    bucket: str = Field(default="drakrun", pattern=BUCKET_PATTERN, description="where artifacts go")
    engine: Literal["auto", "drakvuf", "emulator", "replay"] = "auto"
    default_profile: Name = "default"
    offline_patience: int = Field(
        default=24 * 3600, ge=0, description="seconds to wait for a profile or host that is offline"
    )
    look_ahead: int = Field(default=2, ge=0, description="analyses in flight beyond the slots")
    stranded: Literal["adopt", "report", "leave"] = "adopt"
    override_finished: Literal["refuse", "replace"] = Field(
        default="refuse", description="what a task gets that names the uid of a complete analysis"
    )
    max_attempts: int = Field(default=3, ge=1)
    hard_time_limit: int = Field(default=1200, ge=1, description="largest timeout of a task, seconds")
    storage_patience: int = Field(default=6 * 3600, ge=0, description="seconds to wait for S3 to come back")
    quarantine_after: int = Field(
        default=3, ge=1, description="failed runs in a row that are charged to a slot"
    )
    quarantine_seconds: int = Field(
        default=600, ge=1, description="until a slot in quarantine is tried by a canary"
    )
    lease_seconds: int = Field(
        default=timeouts.LONGEST,
        ge=timeouts.SHORTEST,
        le=timeouts.LONGEST,
        description="seconds without a sign of life, then work goes on elsewhere",
    )
    stop_seconds: int = Field(default=1500, ge=0, description="how long SIGTERM lets guests finish")
    min_free_space: int = Field(default=2 * 1024**3, ge=0, description="bytes of state_dir's disk")
    spool_limit: int = Field(default=64 * 1024**3, ge=0, description="bytes of all workspaces; 0: none")
    max_sample_size: int = Field(default=256 * 1024**2, ge=1, description="bytes")
    keep_sample: bool = Field(default=True, description="for a retry, beside the artifacts")
    dumps_total_size: int = Field(default=500 * 1024**2, ge=1, description="bytes, before packing")
    dumps_single_size: int = Field(default=32 * 1024**2, ge=1, description="bytes")
    upload_threads: int = Field(default=4, ge=1, le=32)
    record_ttl: int = Field(default=7 * 24 * 3600, ge=60, description="seconds a finished record stays")
    log_format: Literal["console", "json"] = "console"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @property
    def timeouts(self) -> Timeouts:
        """What follows from ``lease_seconds``."""
        return timeouts.timeouts_of(self.lease_seconds)


class DrakvufSection(Section):
    """``[drakvuf]``: DRAKVUF Sandbox and its tools on this host."""

    drakrun: Program = "drakrun"
    drakvuf: Program = "drakvuf"
    injector: Program = "injector"
    xl: Program = "xl"
    tcpdump: Program = "tcpdump"
    vmi_dump_memory: Program = "vmi-dump-memory"
    etc_dir: AbsolutePath = Path("/etc/drakrun")
    lib_dir: AbsolutePath = Path("/var/lib/drakrun")
    run_dir: AbsolutePath = Path("/var/run/drakrun")
    library: bool = Field(default=True, description="0: start drakrun again for each call")
    screenshots: bool = False
    post_restore: bool = True
    restore_timeout: int = Field(default=300, ge=1, description="seconds")
    tool_timeout: int = Field(default=150, ge=1, description="seconds for each other call of a tool")
    grace: int = Field(default=90, ge=1, description="seconds beyond an analysis' timeout")
    output_limit: int = Field(default=4 * 1024**3, ge=1, description="bytes a run may write")


class CanarySection(Section):
    """``[canary]``: the known harmless sample that shows whether a slot works."""

    enabled: bool = Field(default=True, description="0: a slot leaves quarantine by time alone")
    timeout: int = Field(default=30, ge=1, le=600, description="seconds it is watched")
    idle_hours: int = Field(default=6, ge=0, description="how often in a slot that is idle; 0: never")


class WatchSection(Section):
    """``[watch]``: the quiet stop of runs that show nothing new any more."""

    enabled: bool = Field(default=False, description="1: also for tasks that do not ask for it")
    mode: Literal["shadow", "active"] = Field(default="shadow", description="shadow stops nothing")
    qualities: QualityNames = Field(default="", description="comma-separated; default: all")
    min_seconds: int = Field(default=120, ge=1, description="no run is stopped earlier")
    quiet_seconds: int = Field(default=60, ge=1, description="how long nothing new must have come")
    extend_to: int = Field(default=0, ge=0, description="seconds that a busy run may take; 0: its timeout")
    measure_share: float = Field(default=0.05, ge=0, le=1, description="of active runs, that go to the end")
    max_loss: float = Field(default=0.02, ge=0.005, le=0.5, description="share of the facts, in the report")

    def mode_of(self, quality: str) -> WatchMode:
        """How tasks of *quality* are watched that do not say."""
        return self.mode if self.enabled and is_meant(self.qualities, quality) else "off"


class EmulatorSection(Section):
    """``[emulator]``: limits of the emulator engine's subprocess."""

    memory_limit: int = Field(default=2 * 1024**3, ge=256 * 1024**2, description="bytes")
    file_limit: int = Field(default=512 * 1024**2, ge=1024**2, description="bytes a written file may have")
    max_instructions: int = Field(default=-1, ge=-1, description="-1: only the timeout ends a run")


class ReportSection(Section):
    """``[report]``: what the report has beside what was seen."""

    capa_rules: AbsolutePath | None = Field(default=None, description="directory; default: no capa")
    capa_timeout: int = Field(default=60, ge=5, le=3600, description="seconds for each analysis")
    capa_memory_limit: int = Field(default=1024**3, ge=256 * 1024**2, description="bytes")


class ReuseSection(Section):
    """``[reuse]``: the results of earlier analyses, for tasks that agree to them."""

    enabled: bool = Field(default=False, description="0: every sample is run")
    max_age: Age | None = Field(
        default=None, description="seconds, or such as 7d; default: [drakcelery] record_ttl"
    )


class ReplaySection(Section):
    """``[replay]``: the engine that plays a recorded run."""

    run_dir: Path | None = None
    restore_seconds: float = Field(default=0.0, ge=0)
    run_seconds: float = Field(default=0.0, ge=0)
    run_spread: float = Field(default=0.0, ge=0, le=2, description="of the logarithm of run_seconds")
    timed: bool = Field(default=False, description="1: each line of the log at its own time")
    log_factor: int = Field(default=1, ge=0, description="how often the recorded log is repeated")
    dumps_factor: int = Field(default=1, ge=0, description="how many copies of each dump")


class FlowerSection(Section):
    """``[flower]``: where Flower is served, and to whom."""

    address: str = "127.0.0.1"
    port: int = Field(default=5555, ge=1, le=65535)
    allow_unauthenticated: bool = Field(default=False, description="1: whoever reaches it may do everything")
    allowed_hosts: HostNames = Field(default="", description="names under which it answers, comma-separated")

    @property
    def names(self) -> tuple[str, ...]:
        """Those in ``allowed_hosts``, in small letters."""
        return host_names(self.allowed_hosts)


class MetricsSection(Section):
    """``[metrics]``: what Prometheus may ask ingress and both workers."""

    serve: bool = False
    address: str = "127.0.0.1"
    ingress_port: int = Field(default=9651, ge=1, le=65535)
    vm_port: int = Field(default=9652, ge=1, le=65535)
    io_port: int = Field(default=9653, ge=1, le=65535)


class NotificationsSection(Section):
    """``[notifications]``: whom to tell of analyses that are over. Without a url: nobody."""

    url: WebhookUrl | None = None
    secret: SigningSecret | None = None
    published: bool = True
    failed: bool = True
    cancelled: bool = True
    ca_file: AbsolutePath | None = None

    @property
    def events(self) -> frozenset[State]:
        """The ends that are told of."""
        chosen = {
            State.PUBLISHED: self.published,
            State.FAILED: self.failed,
            State.CANCELLED: self.cancelled,
        }
        return frozenset(state for state, is_told in chosen.items() if is_told)


class TracingSection(Section):
    """``[tracing]``: the OpenTelemetry collector that gets a trace of each analysis."""

    endpoint: TracesUrl | None = Field(default=None, description="OTLP over HTTP; default: no traces")
    request_headers: SecretHeaders | None = None
    ca_file: AbsolutePath | None = None

    def headers(self) -> dict[str, str]:
        """What goes with each request; secret."""
        return headers_of(self.request_headers)
