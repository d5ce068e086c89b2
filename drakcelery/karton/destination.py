"""Whose an analysis is and where it goes: fixed as it begins, whatever its host's settings say later."""

from __future__ import annotations

from collections.abc import Mapping

from drakcelery.model.analysis import Analysis, Value
from drakcelery.settings import Settings


class Destination(Value):
    """Where the analysis task of a sample goes, and what it refers to."""

    identity: str
    """Of the service that produces it."""
    headers: Mapping[str, str]
    bucket: str
    """Of the artifacts."""


def destination(settings: Settings, analysis: Analysis) -> Destination:
    """Where *analysis* goes; by *settings* where an older ingress has not said so.

    Test samples go to Karton's own bucket, so that they go when their tasks go.
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
    """*analysis* as it begins here."""
    ours = destination(settings, analysis)
    return analysis.model_copy(
        update={"identity": ours.identity, "headers": dict(ours.headers), "bucket": ours.bucket}
    )
