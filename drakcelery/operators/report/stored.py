"""The analysis whose report somebody asks for, and a sentence for each reason why there is none."""

from __future__ import annotations

from drakcelery.behaviour.report import NAME, Report
from drakcelery.errors import ArtifactMissing, StackError
from drakcelery.forecast.forecast import make_forecast
from drakcelery.ledger import Ledger
from drakcelery.model.analysis import State
from drakcelery.model.names import is_uid
from drakcelery.model.records import Record
from drakcelery.model.text import clean
from drakcelery.operators import analyses, finding
from drakcelery.reading import Analysis
from drakcelery.settings import Settings


def find_analysis(settings: Settings, ledger: Ledger, uid: str) -> Analysis:
    """The published analysis with a uid of its own or of Karton's; also one whose record has expired.

    Raises:
        StackError: it is not over, it was not published, or there is none.
        ArtifactMissing: it is not in the bucket any more.
    """
    record = finding.record_of(ledger, uid)
    if record is not None:
        return of_record(settings, record)
    queued = make_forecast(settings, ledger, ledger.inbox()).find(uid)
    if queued is not None:  # before S3 is asked, which has no bucket before the first analysis
        raise StackError(f"analysis {queued.uid} still waits in Karton, so it has no report yet")
    if is_uid(uid):
        try:
            return Analysis.from_bucket(uid, settings=settings)
        except ArtifactMissing:
            pass
    return of_record(settings, analyses.find_record(ledger, uid))  # taken up just now, or it does not exist


def of_record(settings: Settings, record: Record) -> Analysis:
    """The published analysis of *record*. Raises as :func:`find_analysis`."""
    bucket = published_bucket(settings, record)
    return Analysis.from_bucket(record.uid, settings=settings, bucket=bucket)


def published_bucket(settings: Settings, record: Record) -> str:
    """Where the published analysis of *record* is. Raises :class:`StackError` if it was not published."""
    bucket = analyses.bucket_of(settings, record)
    if record.state is not State.PUBLISHED or bucket is None:
        if record.state.is_over:
            why = clean(record.error or "no reason given", 1000)
            raise StackError(f"analysis {record.uid} {record.state.value}, so it has no report: {why}")
        raise StackError(
            f"analysis {record.uid} is {record.state.value}, so it has no report yet. "
            f"`drakcelery status {record.uid}` says when it should be over"
        )
    return bucket


def read_report(analysis: Analysis) -> Report:
    """What its sample did. Raises as :func:`require_report`, and
    :class:`~drakcelery.errors.ArtifactUnreadable`."""
    require_report(analysis)
    return analysis.report


def require_report(analysis: Analysis) -> None:
    """Raise :class:`ArtifactMissing`, which says why, if there is no report."""
    if NAME not in analysis.artifacts:
        failure = analysis.metadata.report_failure
        why = (
            f"it could not be made: {clean(failure, 1000)}"
            if failure
            else "it was made by a version of drakcelery that wrote none, or somebody removed it"
        )
        raise ArtifactMissing(f"analysis {clean(analysis.uid)} has no {NAME}: {why}")
