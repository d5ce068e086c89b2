"""What is remembered of watched runs, on a real Valkey: which, what, and no more than there is room for."""

from __future__ import annotations

import pytest
import redis
from structlog.testing import capture_logs

from drakcelery.forecast.curve import WatchedRun
from drakcelery.forecast.news import WatchedRuns
from drakcelery.ledger.keys import NEWS, news_key, stops_key
from drakcelery.ledger.news import KEPT, KEPT_STOPS, LONGEST, MEMORY, OTHER, PAIRS, NewsStore
from drakcelery.model.analysis import Execution, Outcome, Stage, State
from drakcelery.model.news import EndedBy, News, WatchPlan, WatchRun
from drakcelery.telemetry import instruments
from tests.bench import Bench, bench

__all__ = ("bench",)

PAIR = ("win10", "high")
SHADOW = WatchPlan(min_seconds=10, quiet_seconds=10, mode="shadow")
ACTIVE = SHADOW.model_copy(update={"mode": "active"})
MEASURES = ACTIVE.model_copy(update={"measures": True})
SHOWN = News(seconds=60, facts=((1, 7), (40, 3)))
RUN = WatchedRun(seconds=60, timeout=60, news=SHOWN)


def published(bench: Bench, plan: WatchPlan | None, ended: EndedBy = "timeout", **changes: object) -> None:
    """An analysis whose run was watched so."""
    bench.open(is_test=changes.pop("is_test", False))
    bench.do(Stage.PREPARE, Stage.RUN, Stage.COLLECT, Stage.UPLOAD)
    watch = None
    if plan is not None:
        seconds = 20 if ended == "quiet" else 60
        watch = WatchRun(plan=plan, ended=ended, seconds=seconds, stop_second=20, facts=7, later=3)
    told = {"execution": Execution.EXECUTED, "complete": True, "watch": watch, "news": SHOWN, **changes}
    workspace = bench.workspace()
    workspace.save(workspace.load(Outcome).model_copy(update=told))
    bench.do(Stage.PUBLISH)
    assert bench.record().state is State.PUBLISHED


def counted(name: str, **labels: str) -> float:
    """What a counter of this process says."""
    return instruments.WORKER.get_sample_value(name, {"profile": "win10", **labels}) or 0.0


@pytest.mark.parametrize("plan", [SHADOW, MEASURES], ids=["shadow", "active"])
def test_a_measured_run_is_remembered(bench: Bench, plan: WatchPlan) -> None:
    """With its news, from its publication on; and it is counted for the alert."""
    names = ("measured_runs", "facts", "facts_lost")
    before = [counted(f"drakcelery_watch_{name}_total", mode=plan.mode) for name in names]
    published(bench, plan)
    runs = WatchedRuns(bench.ledger.news)
    assert runs.pairs() == [PAIR]
    assert list(runs.of(PAIR)) == [RUN]
    after = [counted(f"drakcelery_watch_{name}_total", mode=plan.mode) for name in names]
    assert [one - other for one, other in zip(after, before, strict=True)] == [1, 10, 3]
    for key in (NEWS, news_key(*PAIR)):
        assert 0 < bench.redis.ttl(key) <= MEMORY


def test_a_stopped_run_is_remembered_for_its_time(bench: Bench) -> None:
    """Nobody knows what would have come: nothing of its news is kept."""
    names = ("drakcelery_quiet_stops_total", "drakcelery_quiet_stops_saved_seconds_total")
    before = [counted(name) for name in names]
    published(bench, ACTIVE, "quiet")
    assert list(WatchedRuns(bench.ledger.news).of(PAIR)) == [WatchedRun(seconds=20, timeout=60, quiet=True)]
    assert [counted(name) - one for name, one in zip(names, before, strict=True)] == [1, 40]
    assert not bench.redis.exists(news_key(*PAIR))
    assert 0 < bench.redis.ttl(stops_key(*PAIR)) <= MEMORY


def test_a_run_that_was_never_quiet_is_no_fair_sample(bench: Bench) -> None:
    """In active mode it ran to its end because it was busy: it counts for time only."""
    published(bench, ACTIVE)
    assert list(WatchedRuns(bench.ledger.news).of(PAIR)) == [WatchedRun(seconds=60, timeout=60)]


@pytest.mark.parametrize(
    ("plan", "changes"),
    [
        (None, {}),
        (SHADOW, {"complete": False}),
        (SHADOW, {"complete": None}),
        (SHADOW, {"execution": Execution.NOT_EXECUTED}),
        (SHADOW, {"is_test": True}),
    ],
    ids=["not watched", "cut short", "of an older version", "did not run", "a test"],
)
def test_runs_that_say_nothing(bench: Bench, plan: WatchPlan | None, changes: dict[str, object]) -> None:
    """They are published, and not remembered."""
    published(bench, plan, "timeout", **changes)
    assert WatchedRuns(bench.ledger.news).pairs() == []


def test_a_key_of_another_type(bench: Bench) -> None:
    """It costs the report a run, and the analysis nothing; the log says so."""
    bench.redis.set(NEWS, "none of ours", ex=60)
    with capture_logs() as logs:
        published(bench, SHADOW)
    assert [line["event"] for line in logs if line["log_level"] == "warning"] == ["not_learned"]
    assert WatchedRuns(bench.ledger.news).pairs() == []


@pytest.fixture
def store(redis_client: redis.Redis) -> NewsStore:
    """Nothing is in it."""
    return NewsStore(redis_client)


def test_there_is_room_for_so_many_runs(redis_client: redis.Redis, store: NewsStore) -> None:
    """The newest of each kind stay."""
    redis_client.rpush(news_key(*PAIR), *["old"] * KEPT)
    redis_client.rpush(stops_key(*PAIR), *["old"] * KEPT_STOPS)
    for is_measured in (True, False):
        assert store.add(PAIR, "new", is_measured=is_measured, at=1.0)
    for texts, kept in ((store.measured(PAIR), KEPT), (store.others(PAIR), KEPT_STOPS)):
        assert (len(texts), texts[0], texts[-1]) == (kept, "new", "old")


@pytest.mark.parametrize(
    "odd", ["\x1b[31m/high", "win10/<b>", "w" * 65 + "/high", "win10/\u202ea", "win10/a/b", "/", "win10"]
)
def test_names_that_no_task_has(redis_client: redis.Redis, store: NewsStore, odd: str) -> None:
    """Who may write into Redis puts none of them before people's eyes."""
    assert store.add(PAIR, "text", is_measured=True, at=1.0)
    redis_client.zadd(NEWS, {odd: 1.0})
    assert store.pairs() == [PAIR]


def test_there_is_room_for_so_many_qualities(redis_client: redis.Redis, store: NewsStore) -> None:
    """Tasks name them: those that come when there is no room any more are one; those forgotten make room."""
    runs = WatchedRuns(store)
    assert runs.learn(PAIR, RUN, at=1.0)
    for number in range(2 * PAIRS):
        runs.learn(("win10", f"q{number}"), RUN, at=100.0)
    pairs = store.pairs()
    assert len(pairs) == PAIRS + 1
    assert len(store.measured(("win10", OTHER))) == 2 * PAIRS - (PAIRS - 1)
    assert runs.learn(PAIR, RUN, at=101.0)
    assert len(list(runs.of(PAIR))) == 2
    later = 200.0 + MEMORY
    assert runs.learn(("win10", "new"), RUN, at=later)
    assert store.pairs() == [("win10", "new")]
    for key in redis_client.scan_iter(match="drak:news:*"):
        assert redis_client.ttl(key) > 0


def test_a_run_that_is_too_long_is_left_out(store: NewsStore) -> None:
    """Whatever it is, it is none of ours."""
    assert not store.add(PAIR, "x" * (LONGEST + 1), is_measured=True, at=1.0)
    assert store.pairs() == []


def test_the_fullest_run_fits() -> None:
    """As many seconds and periods as are kept, of the longest run."""
    seconds = range(0, 1200, 5)
    full = News(
        seconds=1200.123,
        facts=tuple((second, 99_999) for second in seconds),
        held=tuple((second, second + 1) for second in seconds),
    )
    run = WatchedRun(seconds=1200, timeout=1200, news=full)
    assert len(run.model_dump_json(exclude_defaults=True)) < LONGEST


def test_what_cannot_be_read_is_skipped(redis_client: redis.Redis, store: NewsStore) -> None:
    """Of another version, of nobody, or with numbers that no run has."""
    texts = [
        "no JSON",
        "[]",
        '{"moon": 1}',
        '{"seconds": 1e400, "timeout": 1}',
        '{"seconds": 60, "timeout": 60, "news": {"seconds": 1e300}}',
        '{"seconds": 60, "timeout": 60, "news": {"seconds": 60, "facts": [[1, -5]]}}',
        f'{{"seconds": 60, "timeout": 60, "news": {{"seconds": 60, "held": [[1, {10**300}]]}}}}',
        "[" * 5000,
    ]
    redis_client.rpush(news_key(*PAIR), *texts, RUN.model_dump_json())
    redis_client.expire(news_key(*PAIR), 60)
    assert list(WatchedRuns(store).of(PAIR)) == [RUN]
    redis_client.zadd(NEWS, {"": 1, "/": 1, "a/": 1, "/b": 1, "no pair": 1, "win10/high": 1})
    redis_client.expire(NEWS, 60)
    assert store.pairs() == [PAIR]
