"""Writes ``report.json`` and ``process_tree.json``: what was seen of a sample while its log was split.

An analysis does not depend on them: an error here is logged, stands in the metadata, and leaves them out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import orjson
import structlog

from drakcelery.artifacts.clues import find_clues
from drakcelery.artifacts.dumps import DumpsPacked
from drakcelery.artifacts.log import LogSplit
from drakcelery.artifacts.metadata import RunFacts
from drakcelery.artifacts.output import Output, Ready, nobody
from drakcelery.artifacts.pcap import PCAP
from drakcelery.behaviour import process_tree, report
from drakcelery.behaviour.assembly import assemble
from drakcelery.behaviour.difference import DIFFERENCE, difference
from drakcelery.behaviour.reader import Reader
from drakcelery.capabilities import with_capabilities
from drakcelery.capabilities.job import Limits
from drakcelery.model.analysis import Analysis, Outcome
from drakcelery.model.clues import Clue
from drakcelery.model.manifest import Artifact
from drakcelery.model.metadata import CapaRun

logger = structlog.get_logger(__name__)


class Watcher:
    """Reads along while a log is split.

    Attributes:
        failure: why there will be no report; None so far.
        capa: what became of capa; None if it is not set up, or not yet.
        clues: what looks like evasion.
        news_to_first: how many things that last the first look did not show; None if this is no second one.
    """

    def __init__(self, uid: str, first: report.Report | None = None) -> None:
        """*first*: what this is a second look at; None if it is none, or that cannot be read."""
        self._uid, self._first = uid, first
        self._reader = Reader()
        self.failure: str | None = None
        self.capa: CapaRun | None = None
        self.clues: tuple[Clue, ...] = ()
        self.news_to_first: int | None = None

    def __call__(self, groups: Mapping[str, Sequence[bytes]]) -> None:
        """The lines of a block of the log by plugin."""
        if self.failure is None:
            try:
                self._reader.read(groups)
            except Exception as error:
                self._fail(error)
                logger.exception("report_failed", uid=self._uid)

    def _fail(self, error: Exception) -> None:
        """There will be no report, whatever it is; the log is split, and the analysis goes on."""
        self.failure = f"{type(error).__name__}: {error}"[:500]

    def write(self, out: Path, facts: ReportFacts, ready: Ready = nobody) -> None:
        """Write both files into the directory *out*, where the traffic is; none of them after a failure."""
        if self.failure is not None:
            return
        try:
            if (out / PCAP).is_file():
                with (out / PCAP).open("rb") as capture:
                    self._reader.read_traffic(capture)
            tree = _tree(self._reader)
            made = _assembled(self._reader, facts)
            made = made.model_copy(update={"clues": find_clues(out, made, facts.outcome)})
            self.clues = made.clues
            if facts.capa is not None:
                made = with_capabilities(made, out, facts.capa)
                self.capa = made.capa
                _log_capa(self._uid, made)
            files = {report.NAME: made.model_dump_json().encode(), **tree, **self._compared(made)}
        except Exception as error:
            self._fail(error)
            logger.exception("report_failed", uid=self._uid)
            return
        for name, data in files.items():
            artifact = self._written(out / name, data)
            if artifact is None:
                return
            ready(artifact)

    def _compared(self, made: report.Report) -> dict[str, bytes]:
        """The file with what differs from the first look, if this is a second one."""
        if self._first is None:
            return {}
        found = difference(self._first, made)
        self.news_to_first = sum(change.is_news for change in found.changes)
        return {DIFFERENCE: found.model_dump_json().encode()}

    def _written(self, path: Path, data: bytes) -> Artifact | None:
        """The file, complete; None if the disk has no room for it, say."""
        made: list[Artifact] = []
        try:
            with Output(path, made.append) as file:
                file.write(data)
                file.finish()
        except OSError as error:
            self._fail(error)
            logger.exception("report_failed", uid=self._uid)
            return None
        return made[0]


def _log_capa(uid: str, made: report.Report) -> None:
    """What became of capa."""
    run = made.capa
    if run is not None and run.failure is not None:
        logger.warning("capa_failed", uid=uid, error=run.failure, seconds=run.seconds)
    elif run is not None:
        logger.info(
            "capa_ran",
            uid=uid,
            version=run.version,
            rules=run.rules,
            calls=run.calls,
            capabilities=len(made.capabilities),
            seconds=run.seconds,
            limit=run.limit,
        )


@dataclass(frozen=True, kw_only=True)
class ReportFacts:
    """What the report says beside what was seen."""

    analysis: Analysis
    outcome: Outcome
    run: RunFacts
    dumps: DumpsPacked
    lines: LogSplit
    capa: Limits | None = None
    """None: it is not asked."""


def _tree(reader: Reader) -> dict[str, bytes]:
    """The process tree as a file, if procmon wrote anything; the reader learns what is too deep for it."""
    tree, too_deep = process_tree.process_tree(reader.processes)
    if too_deep:
        reader.budget.left_out[process_tree.NAME] += too_deep
    return {process_tree.NAME: orjson.dumps(tree)} if reader.plugins.get("procmon") else {}


def _assembled(reader: Reader, facts: ReportFacts) -> report.Report:
    if facts.lines.dropped:
        reader.budget.left_out["log_bytes"] += facts.lines.dropped
    if facts.lines.parse_errors:
        reader.budget.left_out["log_lines"] += facts.lines.parse_errors
    analysis, outcome, run = facts.analysis, facts.outcome, facts.run
    made = assemble(
        reader,
        uid=analysis.uid,
        sample=report.Sample(
            sha256=run.sample_sha256,
            name=f"{analysis.file_name}.{analysis.extension}",
            magic=analysis.magic,
        ),
        run=report.Run(
            engine=outcome.engine,
            host=run.host,
            slot=run.slot,
            started=outcome.started,
            finished=outcome.finished,
            snapshot_version=outcome.snapshot.version,
            start_command=run.start_command,
            start_method=outcome.start_method,
            net_enable=outcome.net_enable,
            timeout=analysis.longest,
            plugins=analysis.plugins,
        ),
        outcome=outcome,
        packed={PurePosixPath(entry["filename"]).name for entry in facts.dumps.metadata},
    )
    return made.model_copy(update={"retry_of": analysis.retry_of, "variant_of": analysis.variant_of})
