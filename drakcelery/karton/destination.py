"""The destination of an analysis: fixed when it begins, whatever its host's settings say later."""

from __future__ import annotations

from collections.abc import Mapping

from drakcelery.model.analysis import Analysis, Value
from drakcelery.settings import Settings


class Destination(Value):
    """Where the analysis task of a sample goes, and what it refers to."""

    identity: str
    """The identity of the service that produces it."""
    headers: Mapping[str, str]
    bucket: str
    """The bucket of the artifacts."""


def destination(settings: Settings, analysis: Analysis) -> Destination:
    """Where *analysis* goes; by *settings* if an older ingress has not fixed it.

    Artifacts of test samples go to Karton's own bucket, so that they are removed together with their tasks.
    """
    drakrun = settings.drakrun
    headers = drakrun.test_headers if analysis.is_test else drakrun.headers
    bucket = settings.s3.bucket if analysis.is_test else settings.drakcelery.bucket
    return Destination(
        identity=drakrun.identity if analysis.identity is None else analysis.identity,
        headers=headers if analysis.headers is None else analysis.headers,
        bucket=bucket if analysis.bucket is None else analysis.bucket,
    )


def fixed(settings: Settings, analysis: Analysis) -> Analysis:
    """*analysis* with its destination fixed, when it begins here."""
    ours = destination(settings, analysis)
    return analysis.model_copy(
        update={"identity": ours.identity, "headers": dict(ours.headers), "bucket": ours.bucket}
    )
