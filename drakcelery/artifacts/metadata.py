"""The ``metadata`` of an analysis: what is in the payload and, beside the artifacts, in ``metadata.json``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from drakcelery.analysis import Analysis, Outcome
from drakcelery.artifacts.dumps import DumpsPacked

METADATA = "metadata.json"


def write_metadata(out: Path, metadata: Mapping[str, Any]) -> None:
    """Write :data:`METADATA` into the directory *out*."""
    (out / METADATA).write_bytes(orjson.dumps(metadata, option=orjson.OPT_INDENT_2))


def build_metadata(
    analysis: Analysis,
    outcome: Outcome,
    *,
    sample_sha256: str,
    start_command: str,
    host: str,
    slot: str,
    attempts: int,
    dumps: DumpsPacked,
    parse_errors: int,
    log_dropped: int,
) -> dict[str, Any]:
    """The documented keys, those that v0.18.1 added, and ours. Times are int, UNIX time.

    Args:
        sample_sha256: hex; from the sample itself where the task did not say.
        start_command: as it was run, the path in the guest filled in.
        attempts: how many it took, this one included.
        parse_errors: lines of the log that no plugin's file got.
        log_dropped: bytes of the log that were left out, since so much before them was broken.
    """
    return {
        "sample_sha256": sample_sha256,
        "magic_output": analysis.magic,
        "time_started": outcome.started,
        "time_finished": outcome.finished,
        "snapshot_version": outcome.snapshot.version,
        "analysis_uid": analysis.uid,
        "snapshot_sha256": outcome.snapshot.sha256,
        "start_command": start_command,
        "plugins": list(analysis.plugins),
        "engine": outcome.engine,
        "host": host,
        "slot": slot,
        "attempts": attempts,
        "execution": outcome.execution.value,
        "reason": outcome.reason,
        "windows_error": outcome.windows_error,
        "dumps_dropped": {"count": dumps.dropped_count, "bytes": dumps.dropped_bytes},
        "parse_errors": parse_errors,
        "log_dropped": {"bytes": log_dropped},
    }
