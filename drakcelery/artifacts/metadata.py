"""The ``metadata`` of an analysis: what is in the payload and, beside the artifacts, in ``metadata.json``.

DRAKVUF Sandbox v0.21 wants text for the times, where Karton's consumers have always had numbers: so the file
has them as ISO 8601, as v0.21 writes them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from drakcelery.artifacts.dumps import DumpsPacked
from drakcelery.model.analysis import Analysis, Outcome
from drakcelery.model.metadata import DumpsDropped, GuestFile, LogDropped, Metadata, Options

METADATA = "metadata.json"
TIMES = ("time_started", "time_finished")
_VM = re.compile(r"vm-([0-9]{1,3})")


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What the host knows of a run, in addition to what the engine says."""

    sample_sha256: str
    """Hex; computed from the sample if the task did not give it."""
    start_command: str
    """As it was run, the path in the guest filled in."""
    host: str
    slot: str
    attempts: int
    """How many it took, this one included."""
    snapshot_id: str | None = None
    """What the host reports of the snapshot; None if the engine has none."""


def write_metadata(out: Path, metadata: Mapping[str, Any]) -> None:
    """Write :data:`METADATA` into the directory *out*."""
    (out / METADATA).write_bytes(metadata_file(metadata))


def metadata_file(metadata: Mapping[str, Any]) -> bytes:
    """What is in :data:`METADATA`."""
    times = {name: _iso(metadata[name]) for name in TIMES if name in metadata}
    return orjson.dumps({**metadata, **times}, option=orjson.OPT_INDENT_2)


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, tz=UTC).isoformat()


def build_metadata(
    analysis: Analysis,
    outcome: Outcome,
    facts: RunFacts,
    *,
    dumps: DumpsPacked,
    parse_errors: int,
    log_dropped: int,
    screenshots: int,
) -> dict[str, Any]:
    """The documented keys, those that v0.18.1 added, those of v0.21, and ours. Times are int, UNIX time.

    Args:
        parse_errors: lines of the log that no plugin's file got.
        log_dropped: bytes of the log that were left out, since too many lines before them were broken.
        screenshots: how many there are.
    """
    return Metadata(
        sample_sha256=facts.sample_sha256,
        magic_output=analysis.magic,
        time_started=outcome.started,
        time_finished=outcome.finished,
        snapshot_version=outcome.snapshot.version,
        analysis_uid=analysis.uid,
        start_command=facts.start_command,
        plugins=analysis.plugins,
        engine=outcome.engine,
        host=facts.host,
        slot=facts.slot,
        attempts=facts.attempts,
        **_ending(outcome, facts),
        dumps_dropped=DumpsDropped(count=dumps.dropped_count, bytes=dumps.dropped_bytes),
        parse_errors=parse_errors,
        log_dropped=LogDropped(bytes=log_dropped),
        **_as_sandbox(analysis, outcome, facts),
        screenshots=screenshots,
        missing_functions=outcome.missing,
        **_others(analysis),
    ).payload()


def _others(analysis: Analysis) -> dict[str, Any]:
    """Which other analyses of the sample it follows."""
    return {
        "retry_of": analysis.retry_of,
        "variant_of": analysis.variant_of,
        "variant_why": analysis.variant_why,
    }


def _ending(outcome: Outcome, facts: RunFacts) -> dict[str, Any]:
    """How the run went, and from which snapshot."""
    return {
        "snapshot_sha256": outcome.snapshot.sha256,
        "snapshot_id": facts.snapshot_id,
        "watch": outcome.watch,
        "execution": outcome.execution,
        "complete": outcome.complete,
        "reason": outcome.reason,
        "windows_error": outcome.windows_error,
    }


def _as_sandbox(analysis: Analysis, outcome: Outcome, facts: RunFacts) -> dict[str, Any]:
    """What DRAKVUF Sandbox v0.21 reads."""
    vm = _VM.fullmatch(facts.slot)
    return {
        "id": analysis.uid,
        "file": GuestFile(name=_file_name(analysis), type=analysis.magic, sha256=facts.sample_sha256),
        "options": _options(analysis, outcome, facts.start_command),
        "vm_id": int(vm[1]) if vm else None,
    }


def _file_name(analysis: Analysis) -> str:
    """The name of the sample in the guest."""
    return f"{analysis.file_name}.{analysis.extension}"


def _options(analysis: Analysis, outcome: Outcome, start_command: str) -> Options:
    """How the sample was run."""
    return Options(
        plugins=analysis.plugins,
        net_enable=outcome.net_enable,
        timeout=analysis.timeout,
        start_command=start_command,
        start_method=outcome.start_method,
        guest_working_directory=outcome.guest_working_directory,
        sample_filename=_file_name(analysis),
    )
