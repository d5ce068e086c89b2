"""Makes the files to upload from what an engine left in the workspace, without S3 and Redis."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from drakcelery.artifacts.dumps import DUMPS, DumpsPacked, pack_dumps
from drakcelery.artifacts.extras import pack_extras
from drakcelery.artifacts.keys import KEY_FILE, KeysWritten, write_key_file
from drakcelery.artifacts.log import LogSplit, split_log
from drakcelery.artifacts.metadata import RunFacts, build_metadata, write_metadata
from drakcelery.artifacts.output import Ready, nobody
from drakcelery.artifacts.pcap import PCAP, keep_pcap
from drakcelery.artifacts.report import ReportFacts, Watcher
from drakcelery.behaviour.report import Report
from drakcelery.capabilities.job import Limits
from drakcelery.model.analysis import Analysis, Outcome
from drakcelery.model.manifest import Artifact, Manifest
from drakcelery.model.plugins import KNOWN_PLUGINS, LOG_NAMES

LOGGED_PLUGINS = KNOWN_PLUGINS | LOG_NAMES
"""Names that may have a log: every plugin, since some write under another's name, and names that are no
plugin's."""

logger = structlog.get_logger(__name__)


def collect(
    *,
    raw: Path,
    out: Path,
    analysis: Analysis,
    outcome: Outcome,
    facts: RunFacts,
    dumps_total_size: int,
    dumps_single_size: int,
    capa: Limits | None = None,
    first: Report | None = None,
    ready: Ready = nobody,
) -> Manifest:
    """Turn the engine's output in *raw* into artifacts in *out*, and ``metadata.json`` beside them.

    *raw* is only read. *out* belongs to this function and is emptied first: running it again, also after an
    interruption, gives the same files. The manifest lists every file but ``metadata.json``; none is empty.
    *ready* is called with each of these as soon as it is complete, by two threads: the calling one, and one
    that packs the dumps meanwhile, of these sizes (:func:`.pack_dumps`). Without *capa* it is not asked.
    *first*: what this is a second look at.

    Raises:
        UntrustedFileError: a file of the engine's is a link, or no regular file.
    """
    _empty(out)
    artifacts: list[Artifact] = []
    watcher = Watcher(analysis.uid, first)

    def done(artifact: Artifact) -> None:
        artifacts.append(artifact)
        ready(artifact)

    made = _pack(raw, out, done, watcher, total_size=dumps_total_size, single_size=dumps_single_size)
    known = ReportFacts(
        analysis=analysis, outcome=outcome, run=facts, dumps=made.dumps, lines=made.lines, capa=capa
    )
    watcher.write(out, known, done)
    metadata = _metadata(analysis, outcome, facts, made, watcher)
    _report(analysis.uid, made)
    return _concluded(out, artifacts, made, metadata, watcher)


def _concluded(
    out: Path, artifacts: list[Artifact], made: _Made, metadata: dict[str, Any], watcher: Watcher
) -> Manifest:
    """The manifest, once ``metadata.json`` is there."""
    write_metadata(out, metadata)
    return Manifest(
        artifacts=tuple(sorted(artifacts, key=lambda artifact: artifact.name)),
        dumps_metadata=made.dumps.metadata,
        metadata=metadata,
        clues=watcher.clues,
        news_to_first=watcher.news_to_first,
    )


@dataclass(frozen=True, kw_only=True)
class _Made:
    """What is known about the artifacts, apart from the files."""

    lines: LogSplit
    dumps: DumpsPacked
    keys: KeysWritten
    no_pcap: str | None
    screenshots: int


def _pack(raw: Path, out: Path, done: Ready, watcher: Watcher, **caps: int) -> _Made:
    """Make every artifact: the dumps in a thread of their own, the others one after the other."""
    with ThreadPoolExecutor(1, "dumps") as thread:
        packing = thread.submit(pack_dumps, raw / "dumps", out / DUMPS, **caps, ready=done)
        no_pcap = keep_pcap(raw / "dump.pcap", out / PCAP, done)
        lines = split_log(raw / "drakmon.log", out, LOGGED_PLUGINS, done, watcher)
        keys = write_key_file(out / "tlsmon.log", out / KEY_FILE, done)
        extras = pack_extras(raw, out, done)
        return _Made(
            lines=lines,
            dumps=packing.result(),
            keys=keys,
            no_pcap=no_pcap,
            screenshots=extras.screenshots,
        )


def _metadata(
    analysis: Analysis, outcome: Outcome, facts: RunFacts, made: _Made, watcher: Watcher
) -> dict[str, Any]:
    metadata = build_metadata(
        analysis,
        outcome,
        facts,
        dumps=made.dumps,
        parse_errors=made.lines.parse_errors,
        log_dropped=made.lines.dropped,
        screenshots=made.screenshots,
    )
    if watcher.failure is not None:
        metadata["report_failure"] = watcher.failure
    if watcher.capa is not None:
        metadata["capa"] = watcher.capa.model_dump(mode="json")
    return metadata


def _empty(directory: Path) -> None:
    if directory.exists():
        shutil.rmtree(directory)
    directory.mkdir(parents=True)


def _report(uid: str, made: _Made) -> None:
    """Say what was found and what was left out; the latter as warnings."""
    lines, dumps, keys = made.lines, made.dumps, made.keys
    logger.info("log_split", uid=uid, lines=lines.lines, bytes=lines.size)
    logger.info("dumps_packed", uid=uid, kept=dumps.kept)
    logger.info("network_collected", uid=uid, keys=keys.keys, no_pcap=made.no_pcap)
    if lines.parse_errors:
        logger.warning("log_lines_unreadable", uid=uid, lines=lines.parse_errors)
    if lines.dropped:
        logger.warning("log_cut", uid=uid, bytes=lines.dropped)
    if dumps.dropped_count:
        logger.warning(
            "dumps_dropped",
            uid=uid,
            count=dumps.dropped_count,
            bytes=dumps.dropped_bytes,
            reasons=dumps.reasons,
        )
    if keys.skipped:
        logger.warning("tls_keys_skipped", uid=uid, lines=keys.skipped)
