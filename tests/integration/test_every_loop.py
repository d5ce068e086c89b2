"""Every loop over work: one item whose calls fail, whatever they raise, keeps no other from being dealt with.

:data:`LOOPS` names each function that goes through many items. It is compared with the code, so that a new
loop is either walked here or says why it need not be.
"""

from __future__ import annotations

import ast
import functools
import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import redis
from karton.core import Task
from karton.core.backend import KartonBackendBase
from karton.core.resource import RemoteResource
from karton.core.task import TaskPriority, TaskState
from kombu.exceptions import OperationalError
from redis import exceptions
from redis.client import Pipeline
from structlog.testing import capture_logs

from drakcelery.forecast.forecast import make_forecast
from drakcelery.host.slot import Slot, SlotState
from drakcelery.host.workspace import Workspace
from drakcelery.ingress import Ingress
from drakcelery.ingress.fleet_metrics import FleetMetrics
from drakcelery.ledger.keys import DUE, INBOX, QUARANTINE
from drakcelery.ledger.watch import ServerId
from drakcelery.model.analysis import Failure, Place, Stage, State, Step
from drakcelery.model.records import HostStatus, SlotStatus
from drakcelery.model.timeouts import Watch
from drakcelery.notifications.webhook import Notifier, Webhook
from drakcelery.operators import analyses, top
from drakcelery.recovery.reconcile import Reconciler
from drakcelery.recovery.reroute import reroute
from drakcelery.recovery.takeover import io_worker_begins, vm_worker_begins
from drakcelery.worker.janitor import Janitor
from drakcelery.worker.prefetch import Prefetcher
from drakcelery.worker.shutdown import Stopper
from tests import reference
from tests.bench import HOST, SLOT, Bench, bench
from tests.ledgers import inbox_of

__all__ = ("bench",)

SOURCES = {
    *("live", "done", "records", "hosts", "find"),
    *("accepted", "aside", "accept", "tasks", "waiting", "backlog", "lines", "due", "claim"),
    *("peek_queues", "all"),
}
"""Methods that give many items of Redis, of the broker or of a host."""
OWNERS = {
    *("ledger", "fleet", "inbox", "outbox", "slots", "orphans", "channel", "Workspace", "quarantine"),
    *("Durations", "self"),
}
"""Whose methods those are."""
ONE_BY_ONE = "what it goes through was read one by one (test_odd_records)"
LOOPS: dict[str, str] = {
    "cli.analysts.show_all": ONE_BY_ONE,
    "cli.analysts.show_one": ONE_BY_ONE,
    "cli.canary._found": ONE_BY_ONE,
    "cli.canary.canary": ONE_BY_ONE,
    "cli.completion.quarantined": ONE_BY_ONE,
    "cli.completion.slots": ONE_BY_ONE,
    "cli.isolated.list_command": ONE_BY_ONE,
    "cli.isolated.remove": ONE_BY_ONE,
    "cli.operators.hosts": ONE_BY_ONE,
    "cli.operators.profiles": ONE_BY_ONE,
    "cli.operators.slots": ONE_BY_ONE,
    "operators.analyses.overview": "status",
    "operators.deleting.choose_older": ONE_BY_ONE,
    "operators.finding._by_karton": ONE_BY_ONE,
    "operators.finding._ended": ONE_BY_ONE,
    "operators.finding._read_records": ONE_BY_ONE,
    "operators.finding.record_of": ONE_BY_ONE,
    "operators.waiting._twins": "one hash, in one read",
    "operators.waiting.looks": ONE_BY_ONE,
    "cli.isolated.retry": ONE_BY_ONE,
    "embedded.changes.read": ONE_BY_ONE,
    "embedded.demo._wait_for_host": ONE_BY_ONE,
    "embedded.readiness._takes_samples": ONE_BY_ONE,
    "doctor.karton_side._quarantine": "says how many there are, and shows the first",
    "doctor.transport._workers": ONE_BY_ONE,
    "forecast.durations.of": ONE_BY_ONE,
    "engines.drakvuf.tools.ask": "asks for one thing",
    "ledger.fleet.io_hosts": ONE_BY_ONE,
    "ledger.fleet.capacity": ONE_BY_ONE,
    "worker.gate._may_have": "a table of this host's own, in one read",
    "worker.gate._slots": "a table of this host's own, in one read",
    "worker.gate._waiting": "a foreign message is skipped (test_gate)",
    "worker.gate._claim": "claims one slot",
    "host.judgement.judge": "a table of this host's own, in one read",
    "host.judgement.may_put_aside": "a table of this host's own, in one read",
    "host.judgement.known_hosts": ONE_BY_ONE,
    "ingress._adopt": "inbox",
    "ingress._find_orphans": "one that cannot be read is skipped (test_orphans)",
    "ingress._give_up": "lines",
    "ingress._handle": "inbox",
    "ingress._try_again": "set aside",
    "ingress._withdraw": "cancelled",
    "ingress.reuse._reuse": ONE_BY_ONE,
    "ingress.waiting.withdraw_twins": "isolates each (test_reuse)",
    "ingress.send_due": "due",
    "ingress.accept_tasks": "inbox",
    "ingress.triage.deal_with": "reads one task again",
    "worker.janitor._clean": "each in a thread of its own",
    "worker.janitor._reroute": "reroute",
    "worker.janitor._clean_up": "janitor",
    "worker.janitor._try_doubted": "a table of this host's own, in one read",
    "worker.janitor.clear_host": "an engine's error is caught for each slot (engines.end_guest)",
    "ledger.records.done": ONE_BY_ONE,
    "ledger.records.live": ONE_BY_ONE,
    "ledger.quarantine.counts": ONE_BY_ONE,
    "worker.prefetch._drop": "a table of this host's own, in one read",
    "worker.prefetch._prefetch": "lookahead",
    "ingress.fleet_metrics._count_ends": "metrics",
    "ingress.fleet_metrics._read": "metrics",
    "worker.remote_control._ask_canary": "a table of this host's own, in one read",
    "worker.remote_control._release": "a table of this host's own, in one read",
    "worker.remote_control._steer": "a table of this host's own, in one read",
    "worker.remote_control.analysis": ONE_BY_ONE,
    "flower.reading._read_fleet": ONE_BY_ONE,
    "flower.reading.analyses": ONE_BY_ONE,
    "notifications.webhook.send_one": "notices",
    "forecast.forecast.make_forecast": "forecast",
    "forecast.backlog._read": "forecast",
    "forecast.backlog.of": "forecast",
    "forecast.reuse.reuses_of": ONE_BY_ONE,
    "recovery.reconcile.run": "reconcile",
    "recovery.reroute.reroute": "reroute",
    "recovery.takeover._here": "takeover",
    "host.slot_canaries.borrow": "a table of this host's own, in one read",
    "host.workspace.move": "a directory of this host's own, in one read",
    "host.disk_space._measure": "what is gone takes no room",
    "worker.shutdown._holds": "stopping",
    "stages.dispatch.send": ONE_BY_ONE,
    "stages.second_look._offer": ONE_BY_ONE,
    "stages.suspicion.charge_moved": "a table of this host's own, in one read",
    "stages.suspicion.is_excused": "a table of this host's own, in one read",
    "stages.suspicion.judge_slot": "a table of this host's own, in one read",
    "operators.top._newest": ONE_BY_ONE,
    "operators.top.read": "top",
    "worker.canary._unlike_peers": "a table of this host's own, in one read",
    "worker.canary.start_due": "each in a thread of its own",
    "worker.report.host_status": "a table of this host's own, in one read",
}
"""Each loop over items, and which walk below goes through it, or why none has to."""


def found_loops() -> set[str]:
    """Every function of the package that asks one of :data:`OWNERS` for many items.

    The emulator's guest has a disk and a registry of its own: one program sees them, and no other sample.
    """
    package = reference.ROOT / "drakcelery"
    guest = package / "engines" / "speakeasy_guest"
    found = set()
    for path in sorted(set(package.rglob("*.py")) - set(guest.rglob("*.py"))):
        module = ".".join(path.relative_to(package).with_suffix("").parts).removesuffix(".__init__")
        text = path.read_text(encoding="utf-8")
        if not any(f"{source}(" in text for source in SOURCES):
            continue  # to parse it takes longer
        for function in ast.walk(ast.parse(text)):
            if isinstance(function, ast.FunctionDef) and any(map(_asks_for_many, ast.walk(function))):
                found.add(f"{module}.{function.name}")
    return found - {"host.workspace.take", "host.workspace.remove", "host.slots.cleaned", "ledger.records"}


def _asks_for_many(node: ast.AST) -> bool:
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
        return False
    if node.func.attr not in SOURCES:
        return False
    return ast.unparse(node.func.value).split("(")[0].split(".")[-1].lstrip("_") in OWNERS


def test_no_loop_is_forgotten() -> None:
    """Each is walked by a test here, or says why it need not be; and each that is named is there."""
    others = {"flower.handlers.get"}  # asks its own source for one analysis
    assert found_loops() - others == set(LOOPS)
    assert {reason for reason in LOOPS.values() if len(reason.split()) <= 2} <= set(WALKS)


# What fails


@dataclass(kw_only=True)
class Trap:
    """Makes one call of those that are about one item fail: the first, the second, …"""

    uid: str
    others: tuple[str, ...]
    error: Exception
    number: int
    calls: int = 0

    def hit(self, *words: object) -> None:
        """A call is made with *words*. Raises :attr:`error` where it is the one."""
        if self.is_about(*words):
            self.calls += 1
            if self.calls == self.number:
                raise self.error

    def is_about(self, *words: object) -> bool:
        """Whether they name the item, and neither another one nor the quarantine."""
        text = " ".join(map(str, words))
        return self.uid in text and QUARANTINE not in text and not any(one in text for one in self.others)

    @property
    def is_sprung(self) -> bool:
        """Whether there was such a call."""
        return self.calls >= self.number

    def set(self, patch: pytest.MonkeyPatch, redis_client: redis.Redis) -> None:
        """Watch what Redis is asked, alone and in pipelines."""
        ask: Callable[..., object] = redis_client.execute_command
        execute = Pipeline.execute

        def asked(*words: object, **options: Any) -> object:
            self.hit(*words)
            return ask(*words, **options)

        def executed(pipe: Any, raise_on_error: bool = True) -> list[object]:
            about = [self.is_about(*words) for words, _ in pipe.command_stack]
            answers = execute(pipe, raise_on_error=raise_on_error)
            for place, is_about in enumerate(about[: len(answers)]):
                if is_about and isinstance(
                    self.error, exceptions.ResponseError
                ):  # else it is no server's answer
                    try:
                        self.hit(self.uid)
                    except exceptions.ResponseError as error:
                        if raise_on_error:
                            raise
                        answers[place] = error
            return answers

        patch.setattr(redis_client, "execute_command", asked)
        patch.setattr(Pipeline, "execute", executed)


# The walks


@dataclass(kw_only=True)
class World:
    """A host, an ingress, and what was done with each item."""

    bench: Bench
    trap: Trap
    dealt: set[str] = field(default_factory=set)
    uids: tuple[str, ...]
    look: Callable[[], set[str]] = set
    """What was done besides, as it is seen afterwards."""

    def note(self, uid: str) -> None:
        """Something was done with an item, unless that is what fails."""
        self.trap.hit(uid)
        self.dealt.add(uid)

    @property
    def ingress(self) -> Ingress:
        context = self.bench.context
        return Ingress(
            settings=context.settings,
            ledger=context.ledger,
            inbox=inbox_of(context.ledger),
            storage=context.storage,
            send=lambda record: self.note(record.uid),
        )

    def live(self) -> set[str]:
        return {record.uid for record in self.bench.ledger.live()} & set(self.uids)

    def over(self) -> set[str]:
        return {record.uid for record in self.bench.ledger.done(newest=100)} & set(self.uids)

    def due_later(self) -> set[str]:
        return {uid for uid in self.uids if self.bench.ledger.is_due_later(uid)}

    def enter(self, *stages: Stage) -> None:
        """Have all items begun on this host, and these stages of them done."""
        for uid in self.uids:
            self.bench.open(uid)
            for stage in stages:
                self.bench.ledger.advance(uid, 1, stage, host=HOST, slot=SLOT, token="t")
                if stage is not stages[-1]:
                    self.bench.ledger.complete(uid, 1, stage, token="t")


Prepare = Callable[[World], Callable[[], object]]
"""Make the items; returns what goes through them."""
WALKS: dict[str, Prepare] = {}


def walk(name: str) -> Callable[[Prepare], Prepare]:
    """Registers a walk."""

    def register(prepare: Prepare) -> Prepare:
        WALKS[name] = prepare
        return prepare

    return register


@walk("due")
def _due(world: World) -> Callable[[], object]:
    for uid in world.uids:
        world.bench.open(uid)
        world.bench.ledger._redis.zadd(DUE, {uid: 1.0})
    ingress = world.ingress

    def go() -> None:
        while ingress.send_due():
            pass

    return go


def _task(world: World, uid: str) -> Task:
    sample = world.bench.open(f"{uid}-other").sample  # its sample is in S3
    world.bench.forget(f"{uid}-other")
    task = Task({"type": "sample"}, uid=f"{{{uid}}}:{uid}", root_uid=uid)
    task.add_payload("sample", RemoteResource("x.exe", bucket=sample.bucket, uid=sample.key))
    world.bench.ledger.declare(task)
    return task


def _room(world: World) -> None:
    slots = tuple(SlotStatus(name=f"vm-{n}", profile="default", state="free", since=0) for n in range(9))
    world.bench.ledger.fleet.report(HostStatus(host=HOST, engine="replay", slots=slots), lasts=600)


@walk("inbox")
def _inbox(world: World) -> Callable[[], object]:
    _room(world)
    for uid in world.uids:
        world.bench.ledger._redis.zadd(INBOX, {_task(world, uid).uid: 1.0})
    world.look = world.live
    return functools.partial(world.ingress._adopt, Watch(now=world.bench.ledger.now(), since=0))


@walk("set aside")
def _aside(world: World) -> Callable[[], object]:
    _room(world)
    for uid in world.uids:
        task = _task(world, uid)
        world.bench.ledger._redis.zadd(INBOX, {task.uid: 1.0})
        assert inbox_of(world.bench.ledger).set_aside(task.uid)
    world.look = world.live
    return world.ingress._try_again


@walk("lines")
def _lines(world: World) -> Callable[[], object]:
    for uid in world.uids:
        task = _task(world, uid)
        task.last_update = 1.0
        world.bench.ledger._redis.zadd(INBOX, {task.uid: 1.0})
        inbox_of(world.bench.ledger).wait(task, Place(profile="nobody-has-it"))
    world.look = world.over
    return functools.partial(world.ingress._give_up, Watch(now=world.bench.ledger.now(), since=0))


@walk("cancelled")
def _cancelled(world: World) -> Callable[[], object]:
    for uid in world.uids:
        task = _task(world, uid)
        task.status = TaskState.FINISHED
        world.bench.ledger.declare(task)
        world.bench.ledger._redis.rpush(
            KartonBackendBase.get_queue_name(world.bench.ledger.identity, TaskPriority.NORMAL), task.uid
        )
    world.look = world.over
    return world.ingress._withdraw


@walk("takeover")
def _vm(world: World) -> Callable[[], object]:
    world.enter(Stage.PREPARE)

    world.look = world.due_later
    return lambda: vm_worker_begins(world.bench.context, lambda record: world.note(record.uid), [])


@walk("held slots")
def _held(world: World) -> Callable[[], object]:
    world.enter(Stage.PREPARE)
    held = [
        Slot(name=SLOT, profile="win10", state=SlotState.READY, uid=uid, attempt=1, since=0, failures=0)
        for uid in world.uids
    ]

    world.look = world.due_later
    return lambda: vm_worker_begins(world.bench.context, lambda record: world.note(record.uid), held)


@walk("takeover, io")
def _io(world: World) -> Callable[[], object]:
    world.enter(Stage.PREPARE, Stage.RUN, Stage.COLLECT)
    return lambda: io_worker_begins(world.bench.context, lambda record: world.note(record.uid))


@walk("reconcile")
def _reconcile(world: World) -> Callable[[], object]:
    ledger = world.bench.ledger
    for uid in world.uids:
        ours = world.bench.open(uid)
        task = Task({"type": "sample"}, uid=ours.task_uid, root_uid=ours.root_uid)
        task.status = TaskState.FINISHED  # as karton-dashboard's cancel writes it
        ledger.declare(task)
    world.look = world.over
    return Reconciler(
        ledger=ledger,
        settings=world.bench.context.settings,
        send=lambda record: world.note(record.uid),
        ask_broker=_no_broker,
    ).run


def _no_broker() -> ServerId:
    raise OperationalError


@walk("reroute")
def _reroute(world: World) -> Callable[[], object]:
    ledger = world.bench.ledger
    for uid in world.uids:
        ours = world.bench.open(uid)
        failure = Failure(attempt=1, stage=Stage.PREPARE, error="no restore", host=HOST, at=0)
        attempt = ledger.fail(uid, 1, failure, task_uid=ours.task_uid, final=False, crashed=None)
        ledger._redis.zrem(DUE, uid)
        ledger.sent(uid, attempt)
    return lambda: reroute(ledger, lambda record: world.note(record.uid), ["win10"])


@walk("janitor")
def _janitor(world: World) -> Callable[[], object]:
    state_dir = world.bench.context.settings.drakcelery.state_dir
    for uid in world.uids:
        world.bench.open(uid)
        Workspace.of(state_dir, uid, 1).create()
    world.bench.forget(*world.uids)
    world.look = lambda: set(world.uids) - {uid for _, uid, _ in Workspace.all(state_dir)}
    return Janitor(world.bench.context, lambda _: None)._clean_up


@walk("lookahead")
def _prefetcher(world: World) -> Callable[[], object]:
    slots = world.bench.context.slots
    names = {f"vm-{uid}": "win10" for uid in world.uids}
    slots.define(names)
    for uid in world.uids:
        world.bench.open(uid)
        world.bench.open(f"{uid}-next")
    for name in names:
        slots.cleaned(name)
        assert slots.claim("win10", name.removeprefix("vm-"), 1) is not None
    for slot in slots.all():
        for origin, to in (
            (SlotState.PREPARING, SlotState.READY),
            (SlotState.READY, SlotState.RUNNING),
        ):
            assert slots.move(slot.name, slot.uid or "", 1, origin=origin, to=to)
    steps = [Step(uid=f"{uid}-next", attempt=1, profile="win10") for uid in world.uids]
    ahead = Prefetcher(world.bench.context, lambda _: steps)
    ahead._ahead.clear()

    def go() -> None:
        for _ in world.uids:  # each look goes on where the last one was
            ahead._prefetch()

    world.look = lambda: {uid for uid, _ in ahead._served}
    return go


class Heard(Webhook):
    """A server that takes everything, except what is trapped."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.server = "heard"

    def post(self, message: dict[str, Any]) -> str | None:
        self._world.note(str(message["uid"]))
        return None


@walk("notices")
def _notices(world: World) -> Callable[[], object]:
    notices = world.bench.ledger.outbox
    notices.want([State.CANCELLED])
    for uid in world.uids:
        world.bench.open(uid)
    world.bench.forget(*world.uids)
    events = frozenset({State.CANCELLED})
    notifier = Notifier(notices, Heard(world), events=events, stop=threading.Event())

    def go() -> None:
        for _ in range(20):
            notifier.send_one()

    return go


@walk("stopping")
def _stopping(world: World) -> Callable[[], object]:
    slots = world.bench.context.slots
    slots.define({f"vm-{uid}": "win10" for uid in world.uids})
    for uid in world.uids:
        world.bench.open(uid)
        slots.cleaned(f"vm-{uid}")
        name = slots.claim("win10", uid, 1)
        assert name is not None
        world.bench.ledger.advance(uid, 1, Stage.PREPARE, host=HOST, slot=name, token="t")
    stopper = Stopper(world.bench.context)
    stopper.hurry()

    world.look = world.due_later
    return stopper.run


def _reader(read: Callable[[World], set[str]]) -> Prepare:
    def prepare(world: World) -> Callable[[], object]:
        _room(world)
        for uid in world.uids:
            world.bench.open(uid)
        return lambda: world.dealt.update(read(world))

    return prepare


def _with_metrics(world: World) -> set[str]:
    FleetMetrics(world.bench.context.settings, world.bench.ledger, inbox_of(world.bench.ledger)).update()
    return world.live()


walk("status")(_reader(lambda world: {record.uid for record in analyses.overview(world.bench.ledger)}))
walk("top")(
    _reader(lambda world: set(top.Watch(world.bench.ledger, inbox_of(world.bench.ledger)).read().live))
)
walk("forecast")(
    _reader(
        lambda world: (
            set(
                make_forecast(
                    world.bench.context.settings, world.bench.ledger, inbox_of(world.bench.ledger)
                ).estimates
            )
            or world.live()
        )
    )
)
walk("metrics")(_reader(_with_metrics))

ERRORS: dict[str, Exception] = {
    type(error).__name__: error
    for error in (
        exceptions.ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value"),
        exceptions.DataError("Invalid input of type: 'bool'"),
        ValueError("odd"),
        KeyError("odd"),
        RecursionError("odd"),
    )
}


READERS = ("status", "top", "forecast", "metrics")
"""They ask in pipelines, in which only Redis' own answer can be about one item."""


@pytest.mark.parametrize("name", WALKS)
def test_every_call_may_fail_for_one(bench: Bench, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first call about an item fails, then the second, …: each time all other items are dealt with."""
    monkeypatch.setattr("drakcelery.worker.prefetch.LEAD_SECONDS", 1e9)  # every guest's time is nearly over
    monkeypatch.setattr(Prefetcher, "_has_room", lambda *_: True)  # however full this disk is
    for word, error in ERRORS.items():
        if name not in READERS or word == "ResponseError":
            _walk(bench, name, word, error, monkeypatch)


def _walk(bench: Bench, name: str, word: str, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in itertools.count(1):
        uids = tuple(f"{one}-{word}-{number}x" for one in ("before", "odd", "after"))
        before, odd, after = uids
        trap = Trap(uid=odd, others=(before, after), error=error, number=number)
        world = World(bench=bench, trap=trap, uids=uids)
        go = WALKS[name](world)
        with monkeypatch.context() as patch, capture_logs():  # to draw a traceback takes longer than all else
            trap.set(patch, bench.ledger._redis)
            go()
        dealt = world.dealt | world.look()
        assert {before, after} <= dealt, (
            f"{word} of call {number} of one item kept others from being dealt with"
        )
        _tidy(bench)
        if not trap.is_sprung:
            assert odd in dealt
            assert number > 1, "nothing was asked about the item"
            return


def _tidy(bench: Bench) -> None:
    """Nothing of this round is seen in the next."""
    bench.forget(*(record.uid for record in bench.ledger.live()))
    client = bench.ledger._redis
    left = [key for key in client.scan_iter("drak:*", count=1000) if not key.startswith("drak:analysis")]
    if left:
        client.delete(*left)
