"""A second look is granted in the instant in which the first one is published: real stages and servers."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from karton.core import RemoteResource, Task
from karton.core.task import TaskPriority, TaskState

from drakcelery.errors import BadTask, Superseded
from drakcelery.forecast.forecast import make_forecast
from drakcelery.ingress.second_looks import require_granted
from drakcelery.karton import contract, kept
from drakcelery.karton.contract import SampleFacts
from drakcelery.karton.destination import fixed
from drakcelery.karton.kept import Wishes
from drakcelery.karton.policy import policy_of
from drakcelery.ledger.keys import FLEET, UNROUTED, host_key, queue_key, record_key, task_key, variants_key
from drakcelery.ledger.second_looks import Look, Outgoing, Wanted
from drakcelery.ledger.variantkeys import VARIANTS
from drakcelery.model.analysis import Analysis, Priority, Stage, State
from drakcelery.model.records import HostStatus, Record, SlotStatus
from drakcelery.model.second_look import SecondLook
from drakcelery.model.slot_state import ReportedState
from drakcelery.operators import deleting
from drakcelery.settings.variants import VariantsSection
from tests.bench import Bench
from tests.bench import bench as plain_bench
from tests.guest_log import Log, opened
from tests.ledgers import inbox_of

__all__ = ("plain_bench",)

SAMPLE = b"rem"
SLOT_TIME = VARIANTS[1].pattern
PLUGINS = ("inject", "procmon", "apimon", "filetracer")


def evading() -> Log:
    """A sample that looks for a debugger, and ends."""
    log = Log().started()
    log.add("apimon", "IsDebuggerPresent", Event="api_called", CLSID=None, Arguments=[], ReturnValue="0x1")
    log.add("procmon", "NtTerminateProcess", ExitPid=0, ExitStatus="0x0", ExitStatusStr="SUCCESS")
    log.add("procmon", "MmCleanProcessAddressSpace", pid=100, ppid=4, ExitPid=200)
    return log


def working() -> Log:
    """A sample that does something."""
    log = Log().started()
    for number in range(3):
        opened(log, rf"\??\C:\Users\user\{number}.txt", "0x10")
    return log


def play(bench: Bench, log: Log) -> None:
    """What the engine plays from now on."""
    text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in log.lines)
    run_dir = bench.context.settings.replay.run_dir
    assert run_dir is not None
    (Path(run_dir) / "drakmon.log").write_text(text, encoding="utf-8")


def switched(bench: Bench, **changes: Any) -> Bench:
    """The bench, with ``[variants]`` as *changes* say."""
    ours = VariantsSection(**{"mode": "on", "max_share": 1, "profiles": "win7", **changes})
    settings = bench.context.settings.model_copy(update={"variants": ours})
    return dataclasses.replace(bench, context=dataclasses.replace(bench.context, settings=settings))


@pytest.fixture
def bench(plain_bench: Bench) -> Iterator[Bench]:
    """A fleet with two profiles, where second looks are on; its engine plays an evader."""
    slots = tuple(
        SlotStatus(name=name, profile=profile, state=ReportedState.FREE, since=0)
        for name, profile in (("vm-1", "win10"), ("vm-2", "win7"))
    )
    ledger = plain_bench.ledger
    ledger.fleet.report(HostStatus(host="rack-1", engine="replay", slots=slots), lasts=600)
    play(plain_bench, evading())
    yield switched(plain_bench)
    plain_bench.redis.delete(FLEET, host_key("rack-1"), SLOT_TIME, variants_key("r"))
    for key in plain_bench.redis.scan_iter("karton.queue.*"):
        plain_bench.redis.delete(key)


def begin(bench: Bench, uid: str = "a-1", **changes: object) -> Task:
    """An analysis under way; its task has all that a classifier and a user may say. Returns the task."""
    ours = bench.open(uid, **{"plugins": PLUGINS, **changes})
    task = bench.ledger.karton_task(ours.task_uid)
    assert task is not None
    task.headers |= {"stage": "recognized", "platform": "win64", "extension": "bat", "receiver": "karton.old"}
    task.priority = TaskPriority.HIGH
    digest = hashlib.sha256(SAMPLE).hexdigest()
    task.add_payload(
        "sample",
        RemoteResource(
            ours.sample.name, bucket=ours.sample.bucket, uid=ours.sample.key, size=len(SAMPLE), sha256=digest
        ),
    )
    task.add_payload("override_uid", uid)
    task.add_payload("timeout", 77, persistent=True)
    task.add_payload("vm_profile", "win10", persistent=True)
    task.add_payload("retry_of", "a-0")
    task.add_payload("owner", "alice", persistent=True)
    task.merge_persistent_headers(Task({}, headers_persistent={"share_3rd_party": False}))
    bench.ledger.declare(contract.started(task))
    return task


def publish(bench: Bench, uid: str = "a-1", **changes: object) -> Record:
    """An analysis that was published."""
    begin(bench, uid, **changes)
    bench.do(*Stage, uid=uid)
    return bench.record(uid)


def queued(bench: Bench) -> list[str]:
    """What waits on our own queue for what is least urgent."""
    return bench.redis.lrange(queue_key(Priority.LOW.value, bench.ledger.identity), 0, -1)  # type: ignore[return-value]


def taken(bench: Bench) -> tuple[Analysis, Task]:
    """What ingress makes of the task that waits, by Karton's queues."""
    (uid,) = inbox_of(bench.ledger).accept(limit=10, places={}, most=10)
    task = bench.ledger.karton_task(uid)
    assert task is not None
    assert task.status is TaskState.SPAWNED
    settings = bench.context.settings
    read = contract.read_task(task, SampleFacts(size=len(SAMPLE), magic="ASCII text"), policy_of(settings))
    require_granted(bench.ledger, read)
    return fixed(settings, read), task


def go_on(bench: Bench) -> Record:
    """Let the second look that waits be published; returns its record."""
    ours, task = taken(bench)
    ours = ours.model_copy(update={"plugins": PLUGINS})
    text = bench.redis.get(task_key(task.uid))
    assert inbox_of(bench.ledger).open(ours, contract.started(task), limit=10, read=str(text)) is not None
    bench.do(*Stage, uid=ours.uid)
    return bench.record(ours.uid)


def content(bench: Bench, uid: str, name: str) -> Any:
    """An artifact, which is JSON."""
    piece = bench.context.storage.peek(bench.bucket, f"{uid}/{name}", 10**7)
    assert piece is not None
    return json.loads(piece[1])


def test_the_second_look_of_an_evader(bench: Bench) -> None:
    """A child of the sample task, on our queue only, in another profile, and as private as the first one."""
    record = publish(bench)
    assert record.state is State.PUBLISHED
    (link,) = record.variants
    unrouted = bench.redis.lrange(UNROUTED, 0, -1)
    assert unrouted[-1:] == [record.analysis_task_uid]
    (waiting,) = queued(bench)
    assert waiting not in unrouted
    ours, task = taken(bench)
    assert (ours.uid, task.task_uid, link.news) == (link.uid, link.uid, None)
    assert (task.root_uid, task.parent_uid, task.priority) == ("r", record.task_uid, TaskPriority.LOW)
    assert task.headers_persistent == {"share_3rd_party": False}
    assert task.payload_persistent["owner"] == "alice"
    assert "retry_of" not in task.payload
    assert (ours.profile, ours.timeout, ours.priority) == ("win7", 77, Priority.LOW)
    assert (ours.variant_of, ours.retry_of) == ("a-1", None)
    assert ours.variant_why == ("early_end", "debugger", "profile win7")
    first = record.analysis
    assert first is not None
    assert (ours.sample.bucket, ours.sample.key) == (first.sample.bucket, first.sample.key)


def test_a_second_look_is_in_the_forecast(bench: Bench) -> None:
    """From the instant in which it is declared: last in Karton's queue, and for its own profile; a sample
    that came now would not wait for it."""
    publish(bench)
    settings, ledger, inbox = bench.context.settings, bench.ledger, inbox_of(bench.ledger)
    (waiting,) = queued(bench)
    forecast = make_forecast(settings, ledger, inbox)
    [second] = forecast.queued
    assert (second.task_uid, second.place, second.position) == (waiting, "win7", 1)
    assert second.estimate is not None
    assert second.estimate.start is not None
    newcomer = forecast.newcomers["win7"].start
    assert newcomer is not None
    assert newcomer.high <= forecast.now
    urgent = Task({"type": "sample"}, uid="{n}:n", root_uid="n", priority=TaskPriority.NORMAL)
    urgent.add_payload("sample", RemoteResource("x.bat", bucket=bench.bucket, uid="sample-a-1"))
    urgent.add_payload("vm_profile", "win7")
    ledger.declare(urgent)
    bench.redis.rpush(queue_key(Priority.NORMAL.value, ledger.identity), urgent.uid)
    forecast = make_forecast(settings, ledger, inbox)
    assert [(one.uid, one.position) for one in forecast.queued] == [("n", 1), (second.uid, 2)]
    starts = [one.estimate.start.middle for one in forecast.queued if one.estimate and one.estimate.start]
    assert starts[0] < starts[1]


def test_both_say_what_the_other_showed(bench: Bench) -> None:
    """The second analysis has the difference, and the first one's record its size; no artifact changes."""
    record = publish(bench)
    before = bench.objects()
    play(bench, working())
    second = go_on(bench)
    assert second.state is State.PUBLISHED
    assert bench.record().variants == (SecondLook(uid=second.uid, news=3),)
    assert bench.record() == record.model_copy(update={"variants": (SecondLook(uid=second.uid, news=3),)})
    assert bench.objects() == before
    found = content(bench, second.uid, "difference.json")
    assert (found["first"]["analysis_uid"], found["second"]["analysis_uid"]) == ("a-1", second.uid)
    assert content(bench, second.uid, "report.json")["variant_of"] == "a-1"
    metadata = content(bench, second.uid, "metadata.json")
    assert metadata["variant_of"] == "a-1"
    assert metadata["variant_why"][-1] == "profile win7"
    assert [one["kind"] for one in content(bench, "a-1", "report.json")["clues"]] == ["early_end", "debugger"]
    assert "difference.json" not in before


def test_a_second_look_leads_to_none(bench: Bench) -> None:
    """It evades as well: nothing follows, whatever the limits would allow."""
    publish(bench)
    second = go_on(switched(bench, max_per_root=10))
    assert second.variants == ()
    assert queued(bench) == []


@pytest.mark.parametrize(
    ("settings", "analysis"),
    [
        ({"mode": "off"}, {}),
        ({"mode": "asked"}, {}),
        ({"qualities": "low"}, {}),
        ({}, {"variants": 0}),
        ({}, {"is_test": True}),
        ({"profiles": ""}, {}),
        ({"profiles": "win10, win11"}, {}),
    ],
)
def test_none_is_wanted(bench: Bench, settings: dict[str, Any], analysis: dict[str, Any]) -> None:
    """Off, not meant, refused by the task, or nothing that the fleet could change: nothing is asked for."""
    assert publish(switched(bench, **settings), **analysis).variants == ()
    assert queued(bench) == []


@pytest.mark.parametrize(("engine", "looks"), [("replay 2", 1), ("emulator speakeasy-1.5.11", 0)])
def test_hosts_of_another_engine(bench: Bench, engine: str, looks: int) -> None:
    """A profile that only they have is none to try: they may not take the sample."""
    slot = SlotStatus(name="vm-1", profile="xp", state=ReportedState.FREE, since=0)
    bench.ledger.fleet.report(HostStatus(host="rack-2", engine=engine, slots=(slot,)), lasts=600)
    assert len(publish(switched(bench, profiles="xp")).variants) == looks
    bench.redis.delete(host_key("rack-2"))


def test_a_task_may_ask(bench: Bench) -> None:
    """Where the settings leave it to the tasks, one that asks gets it."""
    assert len(publish(switched(bench, mode="asked"), variants=1).variants) == 1


def test_a_sample_that_works(bench: Bench) -> None:
    """It has no clues, so nothing follows; its slot time counts."""
    play(bench, working())
    assert publish(bench).variants == ()
    assert bench.redis.hget(SLOT_TIME, "second") == "0.000"
    assert float(str(bench.redis.hget(SLOT_TIME, "looks"))) == pytest.approx(1, abs=0.01)


def test_at_most_so_many_per_root(bench: Bench) -> None:
    """Two analyses of one root evade: the second has no second look, and is published all the same."""
    ours = switched(bench, max_per_root=1)
    assert len(publish(ours, "a-1").variants) == 1
    second = publish(ours, "a-2")
    assert (second.state, second.variants) == (State.PUBLISHED, ())
    assert len(queued(bench)) == 1


def wanted(uid: str, *, share: float = 0.15, most: int = 99, longest: float = 1000) -> Wanted:
    """A second look."""
    task_uid = f"{{r}}:{uid}"
    return Wanted(
        uid=uid, task_uid=task_uid, spawned="{}", most=most, share=share, stretch=1, longest=longest
    )


def publish_with(bench: Bench, uid: str, look: Look) -> str:
    """Publish an analysis by the ledger alone; returns the verdict."""
    ours = bench.open(uid)
    bench.redis.hset(record_key(uid), mapping={"state": "UPLOADING", "done": "upload"})
    out = Outgoing(finished="", task="{}", task_uid=f"out-{uid}")
    _, verdict = bench.ledger.publish_look(uid, 1, out, look, task_uid=ours.task_uid)
    return verdict


def test_at_most_a_share_of_slot_time(bench: Bench) -> None:
    """However many evade, what second looks take stays below their share of what first ones took."""
    verdicts: list[str] = []
    for number in range(40):
        look = Look(root="r", seconds=10, wanted=wanted(f"v-{number}"))
        verdicts.append(publish_with(bench, f"b-{number}", look))
        first, second = (float(str(bench.redis.hget(SLOT_TIME, name))) for name in ("first", "second"))
        assert second <= 0.15 * first + 0.01
    assert verdicts[:7] == ["share"] * 6 + ["granted"]
    assert verdicts.count("granted") == 5
    for key in bench.redis.scan_iter("karton.task:{r}:v-*"):
        bench.redis.delete(key)


def test_what_a_second_look_took_is_settled(bench: Bench) -> None:
    """As it is published, its own time replaces what was set apart, and its root's room stays used."""
    assert publish_with(bench, "b-1", Look(root="r", seconds=100, wanted=wanted("v-1", share=1))) == "granted"
    assert float(str(bench.redis.hget(SLOT_TIME, "second"))) == pytest.approx(100, abs=1)
    look = Look(root="r", seconds=30, first="b-1", news=4, wanted=None)
    publish_with(bench, "v-1", look)
    assert float(str(bench.redis.hget(SLOT_TIME, "second"))) == pytest.approx(30, abs=1)
    assert bench.record("b-1").variants == (SecondLook(uid="v-1", news=4),)
    assert bench.redis.hlen(variants_key("r")) == 1


def test_a_second_look_that_does_not_say_so(bench: Bench) -> None:
    """An older ingress took its task, or the first one was deleted: it counts as one, and leads to none."""
    assert publish_with(bench, "b-1", Look(root="r", seconds=100, wanted=wanted("v-1", share=1))) == "granted"
    before = bench.redis.hget(SLOT_TIME, "looks")
    look = Look(root="r", seconds=30, wanted=wanted("v-2", share=1))
    assert publish_with(bench, "v-1", look) == ""
    assert float(str(bench.redis.hget(SLOT_TIME, "second"))) == pytest.approx(30, abs=1)
    assert float(str(bench.redis.hget(SLOT_TIME, "looks"))) == pytest.approx(float(str(before)), abs=0.01)
    assert queued(bench) == ["{r}:v-1"]


def test_many_at_once(bench: Bench) -> None:
    """Fifty publications of one root at the same time: it gets as many second looks as it may."""
    uids = [f"c-{number}" for number in range(50)]

    def go(uid: str) -> str:
        return publish_with(
            bench, uid, Look(root="r", seconds=10, wanted=wanted(f"v-{uid}", most=3, share=9))
        )

    with ThreadPoolExecutor(len(uids)) as pool:
        verdicts = list(pool.map(go, uids))
    assert (verdicts.count("granted"), verdicts.count("root")) == (3, 47)
    assert len(queued(bench)) == bench.redis.hlen(variants_key("r")) == 3
    for task_uid in queued(bench):
        bench.redis.delete(task_key(task_uid))


def test_a_forged_second_look_changes_nothing(bench: Bench) -> None:
    """What nobody granted is refused by ingress; were it published, no record and no count would show it."""
    publish(bench)
    ours, _ = taken(bench)
    with pytest.raises(BadTask, match="no second look 'x-1'"):
        require_granted(bench.ledger, ours.model_copy(update={"uid": "x-1"}))
    with pytest.raises(BadTask, match="granted"):
        require_granted(bench.ledger, ours.model_copy(update={"variant_of": "a-2"}))
    with pytest.raises(BadTask, match="granted"):
        require_granted(bench.ledger, ours.model_copy(update={"root_uid": "other"}))
    before = bench.redis.hget(SLOT_TIME, "second")
    publish_with(bench, "x-1", Look(root="r", seconds=1000, first="a-1", news=9))
    assert bench.record().variants[0].news is None
    assert float(str(bench.redis.hget(SLOT_TIME, "second"))) <= float(str(before))


def test_a_stale_attempt_declares_nothing(bench: Bench) -> None:
    """The publication of an attempt that another one has replaced grants no second look."""
    bench.open("a-1")
    bench.redis.hset("drak:analysis:{a-1}", mapping={"state": "UPLOADING", "done": "upload", "attempt": 2})
    look = Look(root="r", seconds=10, wanted=wanted("v-1", share=1))
    with pytest.raises(Superseded):
        bench.ledger.publish_look(
            "a-1", 1, Outgoing(finished="", task="{}", task_uid="out"), look, task_uid="t"
        )
    assert queued(bench) == []
    assert bench.redis.exists(task_key("{r}:v-1"), variants_key("r"), SLOT_TIME) == 0


@pytest.mark.parametrize("odd", ["variants", "slot_time", "queue"])
def test_odd_keys_do_not_stop_a_publication(bench: Bench, odd: str) -> None:
    """Where a key of second looks has another type, there is none, and the analysis is published."""
    key = {
        "variants": variants_key("r"),
        "slot_time": SLOT_TIME,
        "queue": queue_key("low", bench.ledger.identity),
    }[odd]
    bench.redis.set(key, "x")
    assert publish_with(bench, "a-1", Look(root="r", seconds=10, wanted=wanted("v-1", share=1))) in (
        "root",
        "share",
    )
    assert bench.record().state is State.PUBLISHED
    bench.redis.delete(key)


def test_a_retry_of_a_second_look(bench: Bench) -> None:
    """It is an analysis of its own: it claims no grant, and leads to no further look."""
    publish(bench)
    _, task = taken(bench)
    again = kept.retry_task(task, of="x", identity="k", wishes=Wishes(), replaced={})
    assert ("variant_of" in again.payload, again.payload["variants"]) == (False, 0)


def test_a_first_look_that_is_deleted(bench: Bench) -> None:
    """The other one names it no more, whichever of the two goes."""
    publish(bench)
    second = go_on(bench)
    context = bench.context
    chosen = deleting.choose(context.settings, bench.ledger, context.storage, [second.uid])
    assert len(list(deleting.delete(context.settings, bench.ledger, context.storage, chosen))) == 1
    assert bench.record().variants == ()


def test_a_publication_that_is_sent_again(bench: Bench) -> None:
    """Its answer was lost, and the script comes a second time: one second look is there, and no more."""
    asked = Look(root="r", seconds=10, wanted=wanted("v-1", share=1))
    assert publish_with(bench, "a-1", asked) == "granted"
    out = Outgoing(finished="", task="{}", task_uid="out-a-1")
    with pytest.raises(Superseded):
        bench.ledger.publish_look("a-1", 1, out, asked, task_uid="t")
    assert queued(bench) == ["{r}:v-1"]
    assert bench.redis.hlen(variants_key("r")) == 1
    bench.redis.delete(task_key("{r}:v-1"))
