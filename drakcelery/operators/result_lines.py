"""The result of a run, in words for a terminal. Pure."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence

from drakcelery.model.analysis import Analysis, Execution, MissingFunction, State
from drakcelery.model.clues import CLUE_WORDS, CLUES
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


def link_lines(record: Record, looks: Iterable[Record] = ()) -> Iterator[tuple[str, str]]:
    """The other analyses of its sample that it has to do with.

    *looks*: its second looks that have a record.
    """
    analysis = record.analysis
    if analysis is not None and analysis.retry_of:
        yield "retry of", analysis.retry_of
    for uid in record.retries:
        yield "retried as", uid
    if analysis is not None and analysis.variant_of:
        yield from _second_look_lines(analysis.variant_of, analysis.variant_why, record)
    states = {one.uid: one.state for one in looks}
    for look in record.variants:
        yield "second look", f"{look.uid}: {news_words(look, states.get(look.uid))}"
        if look.news:
            yield "", f"drakcelery diff {record.uid} {look.uid}"


def looked_again(record: Record) -> Iterator[str]:
    """A sentence for each second look that showed something, for who reads the report of the first one."""
    for look in record.variants:
        if look.news is not None:
            words = f"A second look, {look.uid}: {shown_words(look.news)}."
            yield f"{words} drakcelery diff {record.uid} {look.uid}" if look.news else words


def _second_look_lines(first: str, why: Sequence[str], record: Record) -> Iterator[tuple[str, str]]:
    """What *record* is a second look at, why, and what it showed."""
    news = record.result.news_to_first if record.result is not None else None
    yield "second look at", first if news is None else f"{first}: {shown_words(news)}"
    clues = [CLUE_WORDS[kind] for kind in CLUES if kind in why]
    changes = [word for word in why if word not in CLUE_WORDS]
    if clues:
        yield "because it", ", ".join(clues)
    if changes:
        yield "changed", ", ".join(changes)
    if news:
        yield "", f"drakcelery diff {first} {record.uid}"


def news_words(look: SecondLook, state: State | None) -> str:
    """What it showed that the first one did not; *state*: its own, None if it has no record."""
    if look.news is not None:
        return shown_words(look.news)
    if state is None:
        return "it waits in Karton, or was removed"
    if state is State.PUBLISHED:
        return "it could not be compared"
    return f"it is {state.value}, and has shown nothing" if state.is_over else f"it is {state.value}"


def shown_words(news: int) -> str:
    """How many things a second look showed."""
    if news == 0:
        return "it showed nothing more"
    return f"it showed {news} more thing{'s' if news > 1 else ''}"
