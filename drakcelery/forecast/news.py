"""What watched runs showed, and when, remembered for :mod:`drakcelery.forecast.curve`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from drakcelery.forecast.curve import WatchedRun
from drakcelery.ledger.news import OTHER, NewsStore, Pair
from drakcelery.model.analysis import Analysis, Execution, Outcome
from drakcelery.model.news import News

MOST = 10**6
"""Seconds, and facts of one second."""


def watched_run(analysis: Analysis, outcome: Outcome) -> WatchedRun | None:
    """What is remembered of a run; None if it was not watched for news, or says nothing of other runs: it was
    a test, the sample did not run, or the run was cut short."""
    watch = outcome.watch
    if watch is None or analysis.is_test or outcome.execution is not Execution.EXECUTED:
        return None
    is_quiet = watch.ended == "quiet"
    if not (outcome.complete or is_quiet):
        return None
    is_measured = not watch.plan.stops and not is_quiet
    return WatchedRun(
        seconds=watch.seconds,
        timeout=analysis.timeout,
        quiet=is_quiet,
        news=outcome.news if is_measured else None,
    )


class WatchedRuns:
    """The newest watched runs, by VM profile and quality."""

    def __init__(self, store: NewsStore) -> None:
        self._store = store

    def learn(self, pair: Pair, run: WatchedRun, *, at: float) -> bool:
        """Remember a run that ended at *at*, by Redis' clock. False if it has no room, not even among the
        :data:`OTHER`. Raises :class:`redis.RedisError`."""
        text = run.model_dump_json(exclude_defaults=True)
        is_measured = run.news is not None
        pairs = (pair, (pair[0], OTHER))
        return any(self._store.add(one, text, is_measured=is_measured, at=at) for one in pairs)

    def pairs(self) -> list[Pair]:
        """The profiles and qualities of which some are remembered. Raises :class:`redis.RedisError`."""
        return self._store.pairs()

    def of(self, pair: Pair) -> Iterator[WatchedRun]:
        """Those of a profile and quality: the measured ones, then the others, each newest first.

        Raises :class:`redis.RedisError`.
        """
        yield from _known(self._store.measured(pair))
        yield from _known(self._store.others(pair))


def _known(texts: Iterable[str]) -> Iterator[WatchedRun]:
    """Those that can be read; the rest is another version's, or nobody's."""
    for text in texts:
        try:
            run = WatchedRun.model_validate_json(text)
        except ValueError:
            continue
        if run.news is None or _is_plausible(run.news):
            yield run


def _is_plausible(news: News) -> bool:
    """Whether its numbers are of a run: no text of ours has others, but anybody may write into Redis."""
    pairs = (*news.facts, *news.held)
    return 0 <= news.seconds <= MOST and all(0 <= number <= MOST for pair in pairs for number in pair)
