"""What is learned of a published analysis: how long it took, and what watching it bought."""

from __future__ import annotations

from collections.abc import Callable

import structlog
from redis.exceptions import RedisError

from drakcelery.forecast.durations import Durations
from drakcelery.forecast.news import WatchedRuns, watched_run
from drakcelery.host.workspace import Workspace
from drakcelery.ledger import Ledger
from drakcelery.model.analysis import Outcome
from drakcelery.model.records import Record
from drakcelery.telemetry import metrics

log = structlog.get_logger(__name__)


def learn(ledger: Ledger, record: Record, workspace: Workspace) -> None:
    """Note the durations for the forecast, and the news of a watched run for the report on watching.

    An error here makes these a little worse and does the analysis no harm.
    """
    _unless_away(lambda: Durations(ledger.durations).learn(record))
    _unless_away(lambda: _learn_news(ledger, record, workspace.load(Outcome)))


def _unless_away(note: Callable[[], object]) -> None:
    try:
        note()
    except RedisError as error:
        log.warning("not_learned", error=str(error))


def _learn_news(ledger: Ledger, record: Record, outcome: Outcome) -> None:
    analysis, watch = record.analysis, outcome.watch
    run = watched_run(analysis, outcome) if analysis is not None else None
    if analysis is None or watch is None or run is None:
        return
    profile = analysis.profile
    if run.quiet:
        metrics.run_stopped(profile, saved=max(0.0, run.timeout - run.seconds))
    elif run.news is not None:
        metrics.run_measured(profile, watch.plan.mode, facts=watch.facts + watch.later, lost=watch.later)
    ended = record.finished or record.updated
    WatchedRuns(ledger.news).learn((profile, analysis.quality), run, at=ended)
