"""The result of a run, in words for a terminal. Pure."""

from __future__ import annotations

import time
from collections.abc import Iterator

from drakcelery.model.analysis import Analysis, Execution, MissingFunction
from drakcelery.model.records import Record
from drakcelery.model.result import Result
from drakcelery.model.reuse import Reuse
from drakcelery.model.second_look import SecondLook
from drakcelery.model.text import clean

MOST_FUNCTIONS = 8
"""How many functions that the emulator lacks are shown; ``--json`` has them all."""
MOST_REASON = 1000


def result_lines(result: Result | None) -> Iterator[tuple[str, str]]:
    """Name and sentence of each thing that is known to be wrong with a run's result."""
    if result is None:
        return
    if not result.complete or result.execution is not Execution.EXECUTED:
        complete = {None: "not known", False: "no", True: "yes"}[result.complete]
        yield "result", f"{clean(result.execution.value)}, complete: {complete}"
    if result.reason:
        yield "reason", clean(result.reason, MOST_REASON)
    if result.watch is not None and result.watch.ended != "quiet":  # then that is the reason
        yield "watched", clean(result.watch.words, MOST_REASON)
    if result.missing_functions:
        most = ", ".join(missing_words(one) for one in result.missing_functions[:MOST_FUNCTIONS])
        more = len(result.missing_functions) - MOST_FUNCTIONS
        yield "not imitated", most + (f", and {more} more" if more > 0 else "")


def reuse_lines(analysis: Analysis | None) -> Iterator[tuple[str, str]]:
    """Whose run it is, or why its task, which agrees to reuse, has a run of its own."""
    reuse = analysis.reuse if analysis is not None else Reuse()
    if reuse.origin is not None:
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(reuse.origin.started))
        ran = f"which ran on {reuse.origin.where} at {at} UTC"
        yield "reused from", clean(f"{reuse.origin.uid}, {ran}", MOST_REASON)
    elif reuse.refused is not None:
        yield "not reused", clean(reuse.refused, MOST_REASON)


def missing_words(function: MissingFunction) -> str:
    """A function that the emulator lacks, and how often it was called."""
    return (
        f"{clean(function.name, 100)} ({function.count}{', arguments guessed' if function.guessed else ''})"
    )


def link_lines(record: Record) -> Iterator[tuple[str, str]]:
    """The other analyses of its sample that it is told to have to do with."""
    analysis = record.analysis
    if analysis is not None and analysis.retry_of:
        yield "retry of", analysis.retry_of
    for uid in record.retries:
        yield "retried as", uid
    if analysis is not None and analysis.variant_of:
        yield "second look at", analysis.variant_of
        yield "because of", ", ".join(analysis.variant_why)
    for look in record.variants:
        yield "second look", f"{look.uid}: {news_words(look)}"


def news_words(look: SecondLook) -> str:
    """What it showed that the first one did not."""
    if look.news is None:
        return "not published yet, or not compared"
    if look.news == 0:
        return "it showed nothing more"
    return f"it showed {look.news} more thing{'s' if look.news > 1 else ''}"
