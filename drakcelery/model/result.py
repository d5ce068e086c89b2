"""The result of a published analysis, as its record keeps it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from drakcelery.model.analysis import Execution, MissingFunction, Text, Value
from drakcelery.model.news import WatchRun

MOST_REASON = 2000
"""Characters of a reason that the record keeps; it may quote the sample."""


class Result(Value):
    """What the record keeps of a published analysis, so that people can tell whether a poor result is
    reliable."""

    engine: Text
    execution: Execution
    complete: bool | None = None
    """As in :class:`~drakcelery.model.analysis.Outcome`."""
    reason: Text | None = None
    missing_functions: tuple[MissingFunction, ...] = ()
    watch: WatchRun | None = None
    """How it ended, if it was watched for news."""
    news_to_first: int | None = None
    """Of a second look: how many things it showed that the first one did not; None if nobody knows."""

    @classmethod
    def of(cls, metadata: Mapping[str, Any]) -> Self:
        """From the ``metadata`` of the analysis. Raises :class:`pydantic.ValidationError`."""
        result = cls.model_validate(metadata)
        reason = None if result.reason is None else result.reason[:MOST_REASON]
        return result.model_copy(update={"reason": reason})
