"""The ``metadata`` of an analysis, as it is written and read: the one model of it. Pure.

docs/karton.md has what each key means. Those that DRAKVUF Sandbox v0.21 reads are under its names
(``drakrun/analyzer/analysis_metadata.py`` and ``analysis_options.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from drakcelery.model.analysis import Execution, MissingFunction, Text, Value
from drakcelery.model.news import WatchRun

_EMPTY: Mapping[str, Any] = {
    "vm_id": None,
    "screenshots": 0,
    "missing_functions": [],
    "report_failure": None,
    "capa": None,
    "retry_of": None,
    "variant_of": None,
    "variant_why": [],
    "watch": None,
    "snapshot_id": None,
    "reused_from": None,
}
"""Keys that are missing where there is nothing to say, and what they are then."""


def _seconds(value: object) -> object:
    """A time as the payload has it: ``metadata.json`` has it in ISO 8601, as v0.21 does."""
    if not isinstance(value, str):
        return value
    moment = datetime.fromisoformat(value)
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


Seconds = Annotated[int, BeforeValidator(_seconds)]
"""UNIX time."""


class DumpsDropped(Value):
    """The dumps that the limits left out."""

    count: int = 0
    bytes: int = 0


class LogDropped(Value):
    """What was left out of the log."""

    bytes: int = 0


class GuestFile(Value):
    """The sample as a file in the guest."""

    name: Text
    type: Text
    """libmagic's description."""
    sha256: str


class Options(Value):
    """How the sample was run; what is None is not written."""

    plugins: tuple[str, ...] = ()
    net_enable: bool = False
    timeout: int | None = None
    """Seconds."""
    start_command: Text | None = None
    start_method: str | None = None
    guest_working_directory: Text | None = None
    sample_filename: Text | None = None


class CapaRun(Value):
    """What capa was given, and what became of it."""

    version: str
    rules: int | None = None
    """How many it had; None if it did not come to that."""
    calls: int = 0
    """Of the sample's processes, that it looked at; a call that is repeated at once is given to it once."""
    seconds: float = 0.0
    limit: Literal["calls", "time"] | None = None
    """What later calls were left out for, if there were more."""
    failure: str | None = None
    """A sentence, if there is no result."""


class Metadata(Value):
    """What is known of an analysis beside its artifacts.

    What has a default may be missing in an analysis by an older version.
    """

    sample_sha256: str
    magic_output: Text
    time_started: Seconds
    time_finished: Seconds
    snapshot_version: int
    """UNIX time of the snapshot."""
    analysis_uid: str
    snapshot_sha256: str
    start_command: Text
    plugins: tuple[str, ...]
    engine: Text
    """Name and version."""
    host: str
    slot: str
    attempts: int
    """How many it took."""
    execution: Execution
    complete: bool | None = None
    """As in :class:`~drakcelery.model.analysis.Outcome`, like the next two."""
    reason: Text | None = None
    windows_error: int | None = None
    dumps_dropped: DumpsDropped = DumpsDropped()
    parse_errors: int = 0
    """Lines of the log that no plugin's file got."""
    log_dropped: LogDropped = LogDropped()
    """Bytes that were left out, since too many lines before them were broken."""
    id: str = ""
    status: str = "finished"
    file: GuestFile | None = None
    options: Options = Options()
    vm_id: int | None = None
    """The number of the slot's VM."""
    screenshots: int = 0
    """How many there are."""
    missing_functions: tuple[MissingFunction, ...] = ()
    report_failure: Text | None = None
    """Why there is no ``report.json``; None if there is one, or if the analysis is older than these."""
    capa: CapaRun | None = None
    """None if it is not set up."""
    retry_of: str | None = None
    """The analysis that it repeats; None if it is no retry."""
    variant_of: str | None = None
    """The analysis whose second look it is; None if it is none."""
    variant_why: tuple[Text, ...] = ()
    """The clues that led to it, and what is changed for it."""
    watch: WatchRun | None = None
    """How it ended, if it was watched for news."""
    snapshot_id: str | None = None
    """How hosts report the snapshot; None if the engine has none, or in an analysis by an older version."""
    reused_from: str | None = None
    """The analysis whose run this is; None if it has a run of its own."""

    def payload(self) -> dict[str, Any]:
        """As it is in the payload of the analysis task."""
        fields = self.model_dump(mode="json")
        fields["options"] = {name: value for name, value in fields["options"].items() if value is not None}
        return {name: value for name, value in fields.items() if name not in _EMPTY or value != _EMPTY[name]}
