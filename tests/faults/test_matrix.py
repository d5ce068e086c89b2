"""Every failpoint times every fault, on a fleet of three hosts; ``build/faults.json`` says how each ended."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import pytest
from karton.core.backend import KartonMetrics

from drakcelery.embedded.services import Services
from drakcelery.failpoints import POINTS
from drakcelery.host.slot import SlotState
from drakcelery.model.analysis import State
from drakcelery.model.records import Record
from tests.faults.account import Observer, Seen
from tests.faults.fleet import RECEIVER, Fleet, Options
from tests.faults.report import FAULTS, Outcome
from tests.servers import lent
from tests.waiting import INTERVAL, wait_until

PATIENCE = 240.0
"""Seconds after which a walk through the points counts as stuck."""
HOSTS = ("rack-1", "rack-2", "rack-3")
OPTIONS = Options(hosts=HOSTS, more={"drakcelery": {"look_ahead": "12"}})
"""What a dead ingress leaves counts as in flight until another adopts it; nobody is to wait for that here."""
KEPT_LOG = frozenset({"drakrun.log", "sample", "sample_task.json"})
"""What is stored of an analysis that failed."""

pytestmark = pytest.mark.slow


@dataclass(frozen=True, kw_only=True)
class Case:
    """A fault that is to happen to one analysis."""

    point: str
    action: str

    @property
    def uid(self) -> str:
        """The uid of the analysis."""
        return f"{self.action}-{self.point.replace('.', '-')}"


@dataclass(kw_only=True)
class Lane:
    """Cases that happen one after the other."""

    cases: list[Case]
    host: str | None = None
    """Where; None: anywhere."""

    def begin(self, fleet: Fleet) -> None:
        """Send the sample of the next case, if there is one."""
        for case in self.cases[:1]:
            fleet.plan(case.uid, case.point, case.action)
            fleet.push(case.uid, host=self.host)


@pytest.fixture(scope="module")
def fleet(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Three hosts of three slots, with servers of their own: whatever is left there is theirs."""
    directory = tmp_path_factory.mktemp("matrix")
    with lent(services) as servers, Fleet(directory / "fleet", servers, OPTIONS) as ours:
        yield ours


@pytest.fixture(scope="module")
def reference(fleet: Fleet) -> frozenset[str]:
    """Names of the objects of an analysis to which nothing happened."""
    fleet.push("reference")
    assert fleet.wait_over(["reference"])["reference"].state is State.PUBLISHED
    return _objects(fleet, "reference")


def _objects(fleet: Fleet, uid: str) -> frozenset[str]:
    keys = fleet.storage.list(fleet.settings.drakcelery.bucket, f"{uid}/")
    return frozenset(key.removeprefix(f"{uid}/") for key in keys)


@pytest.mark.parametrize("action", ["worker", "sigterm"])
def test_faults_of_a_worker(fleet: Fleet, reference: frozenset[str], action: str) -> None:
    """A fault that takes others with it: each sample is published once or CRASHED with the reason."""
    ingress = _cases(action, of_ingress=True) if action == "sigterm" else []
    road = _cases(action, of_ingress=False)
    one_at_a_time = [Lane(cases=road[number :: len(HOSTS)], host=host) for number, host in enumerate(HOSTS)]
    _judge(fleet, reference, _walk(fleet, ingress, one_at_a_time))


def test_faults_of_a_process(fleet: Fleet, reference: frozenset[str]) -> None:
    """Faults that stay with the process they happen in: likewise, with many of them at once.

    An ingress is a worker without a pool: to kill it takes nobody with it.
    """
    ingress = [
        case for action in ("exception", "child", "worker") for case in _cases(action, of_ingress=True)
    ]
    road = [case for action in ("exception", "child") for case in _cases(action, of_ingress=False)]
    _judge(fleet, reference, _walk(fleet, ingress, [Lane(cases=[case]) for case in road]))


def test_a_host_goes_away(fleet: Fleet, reference: frozenset[str]) -> None:
    """A host that dies in mid-run and stays away: another one does the analysis again."""
    uid = "host-run"
    fleet.plan(uid, "run.running", "worker")
    fleet.push(uid)
    fired = wait_until(lambda: fleet.fired(uid), f"the vm worker that runs {uid} is killed")
    begun = fleet.record(uid)
    assert begun is not None
    fleet.signal(f"io@{begun.host}", signal.SIGKILL)
    record = wait_until(lambda: _published(fleet, uid), "another host does it")
    assert record.host != begun.host
    outcome = Outcome(
        point="run",
        action="host",
        state=record.state.value,
        attempts=record.attempts,
        reason=None,
        seconds=round(time.time() - fired, 1),
    )
    _judge(fleet, reference, [outcome])


def _published(fleet: Fleet, uid: str) -> Record | None:
    record = fleet.record(uid)
    return record if record is not None and record.state is State.PUBLISHED else None


def _cases(action: str, *, of_ingress: bool) -> list[Case]:
    """The cases of an action, those at the ingress or the others."""
    points = [point for point in POINTS if point.startswith("ingress.") is of_ingress]
    return [Case(point=point, action=action) for point in points]


def _walk(fleet: Fleet, ingress: Sequence[Case], lanes: Sequence[Lane]) -> list[Outcome]:
    """Let faults happen: those of the ingress, through which all go, before the others."""
    begun = [Lane(cases=[case]) for case in ingress]
    waiting = list(lanes)
    outcomes: list[Outcome] = []
    deadline = time.monotonic() + PATIENCE
    for lane in begun:
        lane.begin(fleet)
    while begun or waiting:
        assert time.monotonic() < deadline, "; ".join(
            f"{lane.cases[0].uid}: {fleet.traces(lane.cases[0].uid)}, {fleet.record(lane.cases[0].uid)}"
            for lane in begun
        )
        fleet.respawn()
        if waiting and all(fleet.fired(case.uid) for case in ingress):
            lane = waiting.pop(0)
            lane.begin(fleet)
            begun.append(lane)
        for lane in begun:
            if (outcome := _outcome(fleet, lane.cases[0])) is not None:
                outcomes.append(outcome)
                lane.cases = lane.cases[1:]
                lane.begin(fleet)
        begun = [lane for lane in begun if lane.cases]
        time.sleep(INTERVAL)
    return outcomes


def _outcome(fleet: Fleet, case: Case) -> Outcome | None:
    """How the case ended; None before its fault, before its end, and while it holds anything on a host."""
    fired, record = fleet.fired(case.uid), fleet.record(case.uid)
    if fired is None or record is None or not record.state.is_over or fleet.traces(case.uid):
        return None
    return Outcome(
        point=case.point,
        action=case.action,
        state=record.state.value,
        attempts=record.attempts,
        reason=record.error if record.state is not State.PUBLISHED else None,
        seconds=round(max(0.0, time.time() - fired), 1),
    )


def _judge(fleet: Fleet, reference: frozenset[str], outcomes: Sequence[Outcome]) -> None:
    """Write down how the cases ended; every one must have ended well."""
    _write(outcomes)
    uids = [Case(point=one.point, action=one.action).uid for one in outcomes]
    observer = Observer(fleet.backend, RECEIVER)
    wait_until(lambda: not observer.look().open(uids), "Karton knows how each ended")
    seen = observer.look()
    complaints = [
        f"{uid}: {text}"
        for uid, one in zip(uids, outcomes, strict=True)
        for text in _wrong(one, uid, seen, _objects(fleet, uid), reference)
    ]
    assert not complaints, "\n".join(complaints)


def _wrong(
    outcome: Outcome, uid: str, seen: Seen, objects: frozenset[str], reference: frozenset[str]
) -> Iterator[str]:
    """What should not be so after a fault."""
    if seen.published[uid] + (uid in seen.crashed) != 1:
        yield f"published {seen.published[uid]} times, CRASHED: {uid in seen.crashed}"
    if (outcome.state == State.PUBLISHED) != (seen.published[uid] == 1):
        yield f"the ledger says {outcome.state}, Karton does not"
    if uid in seen.crashed and not seen.crashed[uid]:
        yield "CRASHED without a reason"
    if outcome.state == State.PUBLISHED and objects != reference:
        yield f"objects: {sorted(objects)} instead of {sorted(reference)}"
    if outcome.state != State.PUBLISHED and not objects <= KEPT_LOG:
        yield f"objects of a failed analysis: {sorted(objects)}"


def test_nothing_is_left(fleet: Fleet) -> None:
    """After all that every slot is free; no guest, workspace, message or key is left that should not be."""
    fleet.respawn()
    fleet.wait_ready()
    wait_until(
        lambda: all(slot.state is SlotState.FREE for slots in fleet.slots().values() for slot in slots),
        "every slot is free",
    )
    wait_until(lambda: not _files(fleet) or _Found(_files(fleet)), "guests and workspaces are gone")
    # Messages that a dead worker held come back once, and are found stale
    wait_until(lambda: not _left(fleet) or _Found(_left(fleet)), "the broker is empty")
    seen = Observer(fleet.backend, RECEIVER).look()
    assert fleet.counted(KartonMetrics.TASK_PRODUCED) == seen.published.total()
    assert fleet.counted(KartonMetrics.TASK_CRASHED) == len(seen.crashed)
    assert fleet.counted(KartonMetrics.TASK_CONSUMED) == seen.published.total() + len(seen.crashed)


def _files(fleet: Fleet) -> list[str]:
    """Guests, workspaces and samples fetched ahead, on all hosts."""
    states = [fleet.state_dir(host) for host in fleet.options.hosts]
    return [
        str(path)
        for state in states
        for kind in ("engine", "workspaces", "ahead")
        for path in (state / kind).iterdir()
    ]


class _Found(list[str]):
    """What was found, as something false."""

    def __bool__(self) -> bool:
        return False


def _left(fleet: Fleet) -> list[str]:
    """Keys that hold something that nobody waits for, or that would never expire."""
    redis = fleet.ledger._redis
    return sorted(
        key
        for key in redis.scan_iter(count=1000)
        if not key.startswith(("karton.", "_kombu.binding."))
        # Expired records are dropped from the one by reconcile; the other says whose this Redis is
        and key not in ("drak:done", "drak:deployment")
        and redis.ttl(key) == -1
    )


def _write(outcomes: Sequence[Outcome]) -> None:
    """Note the outcomes in the file, instead of those of an earlier run."""
    old = json.loads(FAULTS.read_text()) if FAULTS.exists() else []
    done = {(one.point, one.action) for one in outcomes}
    kept = [one for one in old if (one["point"], one["action"]) not in done]
    FAULTS.parent.mkdir(exist_ok=True)
    FAULTS.write_text(json.dumps([*kept, *(asdict(one) for one in outcomes)], indent=1) + "\n")
