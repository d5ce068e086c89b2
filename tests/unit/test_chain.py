"""Queues, ids and the order of the stages."""

from __future__ import annotations

from collections import Counter

import pytest

from drakcelery.broker import routing
from drakcelery.model.analysis import Analysis, ObjectRef, Priority, Stage, Step
from drakcelery.model.records import HostStatus, SlotStatus


def analysis(**changes: str) -> Analysis:
    """A plain analysis, with *changes*."""
    return Analysis(
        uid="a-1",
        task_uid="{r}:t",
        root_uid="r",
        priority=Priority.NORMAL,
        sample=ObjectRef(bucket="karton", key="k", name="x.exe", sha256="ab" * 32, size=1),
        magic="PE32",
        extension="exe",
        quality="high",
        file_name="malwar",
        timeout=60,
        plugins=("apimon",),
        profile=changes.get("profile", "win10"),
        target_host=changes.get("target_host"),
    )


def host(name: str, *slots: tuple[str, str]) -> HostStatus:
    return HostStatus(
        host=name,
        engine="replay 1",
        slots=tuple(
            SlotStatus(name=f"vm-{number}", profile=profile, state=state, since=0)
            for number, (profile, state) in enumerate(slots, 1)
        ),
    )


@pytest.mark.parametrize(
    ("stage", "step", "queue"),
    [
        (Stage.PREPARE, Step(uid="a", attempt=1, profile="win10"), "drak.prepare.win10"),
        (
            Stage.PREPARE,
            Step(uid="a", attempt=1, profile="win10", host="rack-1"),
            "drak.prepare.win10.rack-1",
        ),
        (Stage.RUN, Step(uid="a", attempt=1, profile="win10", host="rack-1", slot="vm-1"), "drak.vm.rack-1"),
        (Stage.COLLECT, Step(uid="a", attempt=1, profile="win10", host="rack-1"), "drak.io.rack-1"),
        (Stage.UPLOAD, Step(uid="a", attempt=1, profile="win10", host="rack-1"), "drak.io.rack-1"),
        (Stage.PUBLISH, Step(uid="a", attempt=1, profile="win10", host="rack-1"), "drak.io.rack-1"),
    ],
)
def test_queues_follow_from_the_message(stage: Stage, step: Step, queue: str) -> None:
    """A step finds its queue from its message alone, so a re-sent one finds it as well."""
    assert routing.queue_of(stage, step) == queue
    assert routing.route(routing.task_name(stage), [step.message()], {}, {}) == {"queue": queue}


def test_other_tasks_are_not_routed() -> None:
    """Other people's tasks are none of our business."""
    assert routing.route("celery.ping", [], {}, {}) is None


def test_a_pinned_stage_needs_a_host() -> None:
    """Only prepare may be sent to nobody in particular."""
    with pytest.raises(ValueError, match="names no host"):
        routing.queue_of(Stage.RUN, Step(uid="a", attempt=1, profile="win10"))


def test_task_ids_can_be_read() -> None:
    """A Celery task id says which analysis, attempt and stage it is."""
    assert routing.task_id("a-1", 2, Stage.RUN) == "a-1/2/run"


def test_first_attempt_goes_to_anyone() -> None:
    """A first attempt waits for whichever host has a slot first, unless it asked for one."""
    assert str(routing.place(analysis())) == "win10"
    assert str(routing.place(analysis(profile="win7"))) == "win7"
    asked = analysis(target_host="rack-3")
    assert str(routing.place(asked, failed=("rack-3",))) == "win10@rack-3"


def test_next_attempt_goes_elsewhere_if_it_can() -> None:
    """After a failure, another host with a free slot of the profile is preferred."""
    hosts = [host("rack-1", ("win10", "free")), host("rack-2", ("win7", "free"), ("win10", "running"))]
    spare = host("rack-3", ("win10", "free"))
    assert str(routing.place(analysis(), hosts=hosts, failed=("rack-1",))) == "win10"
    assert str(routing.place(analysis(), hosts=[*hosts, spare], failed=("rack-1",))) == "win10@rack-3"


def test_a_burst_of_failures_is_spread() -> None:
    """By free slots, and always alike for one analysis; whatever the hosts are called (R20)."""
    hosts = [
        host("rack-1", ("win10", "free")),
        host("rack-2", ("win10", "free")),
        host("rack-3", *[("win10", "free")] * 3),
        host("rack-4", ("win10", "halted")),
        host("rack-5", ("win10", "free")),
    ]

    def chosen(number: int, among: list[HostStatus]) -> str | None:
        ours = analysis().model_copy(update={"uid": f"burst-{number}"})
        return routing.place(ours, hosts=among, failed=("rack-1",)).host

    counts = Counter(chosen(number, hosts) for number in range(1000))
    assert set(counts) == {"rack-2", "rack-3", "rack-5"}
    assert 500 < counts["rack-3"] < 700
    assert 130 < counts["rack-2"] < 270
    assert all(chosen(number, hosts) == chosen(number, hosts[::-1]) for number in range(20))
