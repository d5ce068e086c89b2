"""An analysis as one row of a table: what it is, where it is, and how long each stage took. Pure."""

from __future__ import annotations

from drakcelery.forecast.simulation import Range
from drakcelery.model.analysis import State, Value
from drakcelery.model.records import Record
from drakcelery.model.second_look import SecondLook
from drakcelery.model.text import clean

LABEL = 80
"""Characters of a sample's name that are shown."""
SENTENCE = 2000
"""Characters of an error that are shown."""
BARS = (
    ("prepare", State.PREPARING),
    ("run", State.RUNNING),
    ("collect", State.COLLECTING),
    ("upload", State.UPLOADING),
)
"""The bars of an attempt in their order, each from its state on; publishing belongs to the last one."""


class Span(Value):
    """A part of an analysis' life. Times are UNIX times by Redis' clock."""

    name: str
    """``earlier`` (attempts that failed), ``waiting``, or a stage."""
    start: float
    end: float | None
    """None while it lasts."""


class Row(Value):
    """One analysis."""

    uid: str
    sample: str
    """The sample's name, made harmless for a terminal; not for HTML."""
    sha256: str | None
    state: State
    profile: str | None
    host: str | None
    slot: str | None
    attempts: int
    retry_of: str | None
    """The analysis that it repeats, if it is a retry."""
    reused_from: str | None
    """The analysis whose result it has; None if it was, or is to be, run."""
    retries: tuple[str, ...]
    """The analyses that repeat it, the newest last."""
    variant_of: str | None
    news_to_first: int | None
    """What it showed that the one did not at which it is a second look."""
    variants: tuple[SecondLook, ...]
    received: float
    finished: float | None
    error: str | None
    """Why it failed, or what its last attempt died of; None if it was published all the same."""
    spans: tuple[Span, ...]
    start: Range | None
    """When it is expected to get a slot; None if it has had one, or where nothing can be said."""


def sample_name(record: Record) -> str:
    """What the sample is called, bounded and without control characters."""
    return clean(record.sample.name, LABEL) if record.sample else "(refused)"


def row(record: Record, start: Range | None = None) -> Row:
    """*record* as a row; *start*: when it is expected to get a slot."""
    analysis = record.analysis
    error = record.error if record.state is not State.PUBLISHED else None
    return Row(
        uid=record.uid,
        sample=sample_name(record),
        sha256=record.sample.sha256 if record.sample else None,
        state=record.state,
        profile=analysis.profile if analysis else None,
        host=record.host,
        slot=record.slot,
        attempts=record.attempts,
        retry_of=analysis.retry_of if analysis else None,
        reused_from=record.reused_from,
        retries=tuple(clean(uid, LABEL) for uid in record.retries),
        variant_of=analysis.variant_of if analysis else None,
        news_to_first=record.result.news_to_first if record.result else None,
        variants=record.variants,
        received=record.received,
        finished=record.finished,
        error=clean(error, SENTENCE) if error else None,
        spans=spans(record),
        start=start if record.state is State.QUEUED else None,  # an estimate may be older than the record
    )


def spans(record: Record) -> tuple[Span, ...]:
    """The analysis' life so far, without gaps: earlier attempts, waiting, and the stages of this attempt.

    Before the first stage of the last attempt that failed permanently, or of the current one, an analysis
    waits.
    """
    entered = [(name, record.entered[state]) for name, state in BARS if state in record.entered]
    # A final failure ends the attempt whose stages are there; earlier ones have left nothing but their end
    over = record.failures[:-1] if record.state is State.FAILED else record.failures
    begun = over[-1].at if over else record.received
    starts = [("earlier", record.received)] if over else []
    starts += [("waiting", begun), *entered]
    ends = [start for _, start in starts[1:]] + [record.finished]
    return tuple(
        Span(name=name, start=start, end=end) for (name, start), end in zip(starts, ends, strict=True)
    )
