"""A run that shows nothing new is stopped: the slot is free at once, and what there is is published."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from drakcelery.behaviour.report import Report
from drakcelery.engines import create
from drakcelery.host.history import Kind
from drakcelery.host.slot import SlotState
from drakcelery.model.analysis import Outcome, Stage, State
from drakcelery.model.manifest import Manifest
from drakcelery.model.metadata import Metadata
from drakcelery.model.news import WatchPlan
from tests.bench import Bench
from tests.heart.conftest import bench

__all__ = ("bench",)

PLAN = WatchPlan(min_seconds=1, quiet_seconds=1, mode="active")


def with_runs_of(bench: Bench, seconds: float) -> Bench:
    """The bench, whose engine plays its record for so long."""
    settings = bench.context.settings
    replay = settings.replay.model_copy(update={"run_seconds": seconds})
    engine = create("replay", settings.model_copy(update={"replay": replay}))
    return dataclasses.replace(bench, context=dataclasses.replace(bench.context, engine=engine))


def published(bench: Bench, plan: WatchPlan) -> tuple[Outcome, Metadata, Report]:
    """An analysis by *plan*, from prepare to publish."""
    bench.open(watch=plan, timeout=3600)
    bench.do(Stage.PREPARE, Stage.RUN)
    (slot,) = bench.context.slots.all()
    assert (slot.state, slot.uid) == (SlotState.FREE, None)
    outcome = bench.workspace().load(Outcome)
    bench.do(Stage.COLLECT)
    manifest, out = bench.workspace().load(Manifest), bench.workspace().out
    report = Report.model_validate_json((out / "report.json").read_bytes())
    bench.do(Stage.UPLOAD, Stage.PUBLISH)
    assert bench.record().state is State.PUBLISHED
    return outcome, Metadata.model_validate(manifest.metadata), report


def test_a_stopped_run_is_published_as_complete(bench: Bench) -> None:
    """Outcome, metadata, record and report say that it was stopped, and the slot is charged with nothing."""
    bench = with_runs_of(bench, 3600.0)
    outcome, metadata, report = published(bench, PLAN)
    assert outcome.watch is not None
    assert (outcome.is_quiet_stop, outcome.complete, outcome.news is not None) == (True, True, True)
    assert metadata.watch == outcome.watch
    assert metadata.complete
    result = bench.record().result
    assert result is not None
    assert result.watch == outcome.watch
    assert (result.complete, result.reason) == (True, outcome.watch.words)
    assert report.ending.ended == "quiet"
    assert outcome.watch.words in report.ending.summary
    (run,) = bench.context.slots.history()
    assert (run.kind, run.charged, run.facts.traffic_due) == (Kind.WORKED, False, False)


def test_a_shadow_changes_nothing(bench: Bench) -> None:
    """The run takes its time, and only notes when it would have been stopped."""
    shadow = PLAN.model_copy(update={"mode": "shadow"})
    outcome, metadata, report = published(with_runs_of(bench, 4.0), shadow)
    assert outcome.watch is not None
    assert (outcome.watch.ended, outcome.reason, outcome.complete) == ("itself", None, True)
    assert outcome.watch.stop_second is not None
    assert metadata.watch == outcome.watch
    assert report.ending.ended == "itself"


def test_what_nobody_watches_has_no_more_to_say(bench: Bench) -> None:
    """Without a plan neither metadata nor record have a word of it, as before."""
    bench.open()
    bench.do(Stage.PREPARE, Stage.RUN)
    outcome = bench.workspace().load(Outcome)
    assert (outcome.watch, outcome.news) == (None, None)
    bench.do(Stage.COLLECT)
    metadata: dict[str, Any] = bench.workspace().load(Manifest).metadata
    assert "watch" not in metadata
    bench.do(Stage.UPLOAD, Stage.PUBLISH)
    assert '"watch"' not in json.dumps(bench.record().model_dump(mode="json", exclude_none=True))
