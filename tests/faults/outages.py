"""Outages whose order of return is forced: a fleet in which each process has its own way to each server."""

from __future__ import annotations

import contextlib
import json
import signal
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

from drakcelery.embedded.services import Services
from drakcelery.ledger.keys import BROKER_WATCH, WATCH
from drakcelery.model.analysis import Stage, State
from drakcelery.model.records import Record
from drakcelery.model.timeouts import SHORTEST
from tests.faults.apart import valkey_apart
from tests.faults.fleet import Fleet, Options
from tests.faults.proxy import NOWHERE, Proxy
from tests.faults.report import OUTAGES, Outage
from tests.faults.watch import detonations, start_server, stop_server, wait_published, wait_state
from tests.waiting import wait_until

HOSTS = ("rack-1", "rack-2")
OURS = ("ingress", *(f"{role}@{host}" for host in HOSTS for role in ("vm", "io")))
PATIENCE = 30
"""``offline_patience``: shorter than ten leases, longer than a worker takes to start on a busy machine."""


class Door(Proxy):
    """A process' way to a server, which can be shut."""

    def __init__(self, target: int) -> None:
        """It is open."""
        super().__init__(target)
        self._open_to = target

    def shut(self) -> None:
        """Cut what is connected, and refuse what comes."""
        self._target = NOWHERE
        self.drop()

    def open(self) -> None:
        """Let through again, where it was shut."""
        self._target = self._open_to


class Doors(Fleet):
    """A fleet of which each process goes to Redis, and to a broker apart, through doors of its own."""

    def __init__(
        self, directory: Path, services: Services, options: Options, broker: Services | None
    ) -> None:
        """*broker* is None if it is on Karton's Redis."""
        self._stack = contextlib.ExitStack()
        self.broker = broker
        self.servers = services
        self.doors = {
            name: {
                "redis": self._stack.enter_context(Door(services.redis.port)),
                **({"broker": self._stack.enter_context(Door(broker.redis.port))} if broker else {}),
            }
            for name in OURS
        }
        super().__init__(directory, services, options)

    def environment(self, name: str) -> dict[str, str]:
        """Where its doors are."""
        doors = self.doors.get(name)
        if doors is None:
            return {}
        ways = {"DRAKCELERY_REDIS_PORT": str(doors["redis"].port)}
        if self.broker is not None:
            section = self.broker.redis.model_copy(update={"port": doors["broker"].port})
            ways["DRAKCELERY_CELERY_BROKER_URL"] = section.address()
        return ways

    def mend(self) -> None:
        """Undo whatever outage there is, where a case ended in the midst of it."""
        self.let_go()
        for doors in self.doors.values():
            for door in doors.values():
                door.open()
        for server in (self.servers, self.broker):
            if server is not None and not any(one.name == "Valkey" for one in server._servers):
                start_server(server, "Valkey")
        self.respawn()

    def stop(self) -> None:
        """As the fleet's; the doors go too."""
        super().stop()
        self._stack.close()


@contextlib.contextmanager
def stack(directory: Path, *, apart: bool) -> Iterator[Doors]:
    """Two hosts with a slot each, and the shortest lease; *apart*: with a Valkey of its own as broker."""
    options = Options(
        hosts=HOSTS,
        slots=1,
        run_seconds=600,
        lease_seconds=SHORTEST,
        more={"drakcelery": {"offline_patience": str(PATIENCE)}},
    )
    with contextlib.ExitStack() as opened:
        services = opened.enter_context(Services(directory / "services"))
        broker = opened.enter_context(valkey_apart(directory / "broker")) if apart else None
        yield opened.enter_context(Doors(directory / "fleet", services, options, broker))


def play(fleet: Doors, case: Outage) -> Outage:
    """Have an outage with work of each kind under way, and a real death after it; returns how it ended.

    Raises:
        AssertionError: an analysis is not published.
    """
    guest, done, waiting, victim = (f"{case.name}-{what}" for what in ("guest", "done", "waiting", "victim"))
    forget(case)
    _set_out(fleet, guest, done, waiting)
    since = _heard(fleet, case)
    servers = _begin(fleet, case)
    until = time.monotonic() + case.leases * SHORTEST
    wait_until(lambda: time.monotonic() > until, "the outage lasts", timeout=case.leases * SHORTEST + 30)
    for server in servers:
        start_server(server, "Valkey")
    first = case.first if case.first == "ingress" else f"{case.first}@rack-1"
    _return(fleet, case, first)
    if case.first == "io":  # which judges nobody: it goes on with what waits for it
        wait_until(lambda: _moved(fleet, done), f"{first} is back")
    else:
        wait_until(lambda: _heard(fleet, case) != since, f"{first} is back")
    for name in OURS:
        if name != first:
            _return(fleet, case, name)
    fleet.respawn()
    fleet.let_go(guest)
    wait_published(fleet, done)
    found = _die(fleet, victim)
    wait_published(fleet, guest, waiting, victim)
    innocent = [done, waiting, *([guest] if case.what != "power" else [])]
    ended = replace(
        case,
        guest_attempts=_record(fleet, guest).attempts,
        innocent_ended=sum(_record(fleet, uid).attempts - 1 for uid in innocent),
        detonated_again=sum(detonations(fleet, uid) - 1 for uid in (done, waiting)),
        found_seconds=round(found, 1),
    )
    remember(ended)
    return ended


def _set_out(fleet: Doors, guest: str, done: str, waiting: str) -> None:
    """A guest on rack-2, a finished run on rack-1 that nobody collects, a sample that waits for rack-2."""
    for uid in (guest, done):
        fleet.hold(uid)
    fleet.push(guest, host="rack-2", timeout=1)
    wait_state(fleet, guest, State.RUNNING)
    fleet.push(waiting, host="rack-2", timeout=1)
    fleet.push(done, timeout=1)
    wait_state(fleet, done, State.RUNNING)
    wait_state(fleet, waiting, State.QUEUED)
    fleet.signal("io@rack-1", signal.SIGKILL, group=True)
    fleet.let_go(done)
    wait_until(lambda: _record(fleet, done).following is Stage.COLLECT, f"{done} has run")


def _begin(fleet: Doors, case: Outage) -> list[Services]:
    """Begin the outage; returns whose Valkey is away."""
    if case.what == "power":
        for name in fleet.processes:
            fleet.signal(name, signal.SIGKILL, group=True)
        stop_server(fleet.servers, "Valkey", signal.SIGKILL)
        for process in fleet.processes.values():
            process.running.wait()
        return [fleet.servers]
    for doors in fleet.doors.values():
        for what, door in doors.items():
            if case.what in (what, "both"):
                door.shut()
    servers = [fleet.servers] if case.what in ("redis", "both") else []
    servers += [fleet.broker] if case.what in ("broker", "both") and fleet.broker else []
    for server in servers:
        stop_server(server, "Valkey")
    if case.what == "broker":
        fleet.respawn()  # Redis hears on: there the io worker that was killed would be missed in the end
    return servers


def _return(fleet: Doors, case: Outage, name: str) -> None:
    """Let one process be back."""
    if case.what != "power":
        for what, door in fleet.doors[name].items():
            if case.what in (what, "both"):
                door.open()
    process = fleet.processes[name]
    if process.running.poll() is not None:
        fleet._spawn(process.name, process.host, process.arguments)


def _heard(fleet: Doors, case: Outage) -> object:
    """Since when somebody has heard what was away."""
    return fleet.ledger._redis.hget(BROKER_WATCH if case.what == "broker" else WATCH, "since")


def _moved(fleet: Doors, uid: str) -> bool:
    record = _record(fleet, uid)
    return record.busy is not None or record.following is not Stage.COLLECT


def _die(fleet: Doors, uid: str) -> float:
    """Kill the vm worker that runs a new sample, and keep it away; after how many seconds that was found."""
    fleet.hold(uid)
    fleet.push(uid, timeout=1)
    host = wait_state(fleet, uid, State.RUNNING).host
    fleet.signal(f"vm@{host}", signal.SIGKILL, group=True)
    fleet.let_go(uid)  # elsewhere
    killed = time.monotonic()
    wait_until(lambda: _record(fleet, uid).failures, f"the death of vm@{host} is found")
    return time.monotonic() - killed


def _record(fleet: Doors, uid: str) -> Record:
    record = fleet.record(uid)
    assert record is not None
    return record


def forget(case: Outage) -> None:
    """What an earlier run said of the case does not count any more."""
    _write([one for one in known() if one.name != case.name])


def remember(case: Outage) -> None:
    """Write down how the case ended."""
    _write([*known(), case])


def known() -> list[Outage]:
    """The cases that were run."""
    return [Outage(**one) for one in json.loads(OUTAGES.read_text())] if OUTAGES.exists() else []


def _write(cases: list[Outage]) -> None:
    OUTAGES.parent.mkdir(exist_ok=True)
    OUTAGES.write_text(json.dumps([asdict(one) for one in cases], indent=2) + "\n")
