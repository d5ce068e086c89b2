"""Three hosts on a network: free slots share the work, one is cut off, and the clocks are hours apart."""

from __future__ import annotations

import contextlib
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from drakcelery.model.analysis import Fault, State
from drakcelery.model.records import Record
from tests.conftest import require
from tests.faults.fleet import Options
from tests.faults.namespaces import Network, NotPermittedError, Racks, SwitchedServices, build_wrong_clock
from tests.faults.watch import detonations, published, wait_free, wait_gone, wait_published
from tests.waiting import wait_until

HOSTS = ("rack-1", "rack-2", "rack-3")
SLOTS = 2
RUN_SECONDS = 6.0
"""Longer than hosts take to look for messages of others, and to renew their own."""
HOUR = 3600
NOTICED_SECONDS = 60
"""After so long a host that is cut off has given up each connection to Redis: the ledger's take longest, with
30 seconds that an answer may take, and 45 for one that nobody uses."""
AHEAD = {"rack-2": HOUR, "rack-3": -HOUR}


@pytest.fixture(scope="module")
def wrong_clock(tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    """The library that makes a clock wrong, where there is a compiler for it."""
    if shutil.which("cc") is None:
        return None
    library = tmp_path_factory.mktemp("clock") / "wrong_clock.so"
    build_wrong_clock(library)
    return library


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    """A switch with three hosts; a skip where that is not permitted, in CI as well."""
    for program in ("ip", "nsenter", "unshare"):
        require(shutil.which(program) is not None, f"{program} is missing (Debian: iproute2, util-linux)")
    with contextlib.ExitStack() as stack:
        try:
            built = stack.enter_context(Network(HOSTS))
        except NotPermittedError as error:
            pytest.skip(f"no network namespaces here: {error}")
        yield built


@pytest.fixture(scope="module")
def racks(
    server_programs: None,  # noqa: ARG001 - a check
    network: Network,
    wrong_clock: Path | None,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Racks]:
    """Three hosts with two slots each; where there is a compiler, two of them have wrong clocks."""
    directory = tmp_path_factory.mktemp("racks")
    options = Options(hosts=HOSTS, slots=SLOTS, run_seconds=RUN_SECONDS)
    with (
        SwitchedServices(directory / "services", network) as servers,
        Racks(directory / "fleet", servers, options, ahead=AHEAD, wrong_clock=wrong_clock) as ours,
    ):
        yield ours


def record_of(racks: Racks, uid: str) -> Record:
    """What the ledger says about an analysis that it has."""
    record = racks.record(uid)
    assert record is not None
    return record


def fill(racks: Racks, prefix: str, *, timeout: int | None = None) -> list[str]:
    """Push a sample for each slot; the uids, once every slot has a guest, which runs until it is let go."""
    uids = [f"{prefix}-{number}" for number in range(len(HOSTS) * SLOTS)]
    for uid in uids:
        racks.hold(uid)
        racks.push(uid, timeout=timeout)

    wait_until(lambda: len(guests(racks, uids)) == len(HOSTS) * SLOTS, "every slot has a guest")
    return uids


def guests(racks: Racks, uids: list[str]) -> dict[str, str | None]:
    """Which of *uids* run, and where."""
    records = [record for uid in uids if (record := racks.record(uid)) is not None]
    return {record.uid: record.host for record in records if record.state is State.RUNNING}


def everything(racks: Racks, uid: str) -> tuple[object, ...]:
    """What the ledger, Karton and S3 have of a published analysis, and when S3 was given it."""
    record = record_of(racks, uid)
    assert record.analysis_task_uid is not None
    tasks = [racks.ledger.karton_task(name) for name in (record.task_uid, record.analysis_task_uid)]
    found = racks.storage._server.client.list_objects(
        racks.settings.drakcelery.bucket, prefix=f"{uid}/", recursive=True
    )
    objects = sorted((str(one.object_name), one.etag, one.last_modified) for one in found)
    return record, *(task.serialize() if task else None for task in tasks), objects, published(racks, uid)


def test_share_the_work(racks: Racks) -> None:
    """Free slots take the samples, on whichever host."""
    uids = fill(racks, "shared", timeout=1)
    assert Counter(guests(racks, uids).values()) == dict.fromkeys(HOSTS, SLOTS)
    racks.let_go(*uids)
    wait_published(racks, *uids)


def test_clocks_hours_apart(racks: Racks, wrong_clock: Path | None) -> None:
    """One host an hour ahead and one an hour behind: all is done once, and nobody takes another's work."""
    require(wrong_clock is not None, "a C compiler is missing (Debian: build-essential)")
    now = racks.time_on("rack-1")
    assert [round((racks.time_on(host) - now) / HOUR) for host in HOSTS] == [0, 1, -1]

    uids = fill(racks, "clocks")
    racks.let_go(*uids)
    wait_published(racks, *uids)
    assert {uid: (record_of(racks, uid).attempts, detonations(racks, uid)) for uid in uids} == dict.fromkeys(
        uids, (1, 1)
    )
    assert racks.lines("messages_restored") == []
    now = racks.ledger.now()
    for status in racks.ledger.fleet.hosts():
        assert all(abs(now - slot.since) < HOUR / 2 for slot in status.slots), status


@pytest.mark.slow
def test_cut_off(racks: Racks) -> None:
    """The others redo what a host had that is cut off in mid-run; what it says later changes nothing."""
    started = {name: process.starts for name, process in racks.processes.items()}
    uids = fill(racks, "cut")
    lost = [uid for uid, host in guests(racks, uids).items() if host == "rack-1"]
    assert len(lost) == SLOTS
    port = racks.settings.redis.port
    assert racks.network.connections("rack-1", port)
    racks.network.unplug("rack-1")
    racks.let_go(*uids)

    wait_published(racks, *uids)
    for uid in lost:
        record = record_of(racks, uid)
        assert record.host in ("rack-2", "rack-3")
        assert [(one.host, one.fault) for one in record.failures] == [("rack-1", Fault.GONE)]
    before = {uid: everything(racks, uid) for uid in uids}

    wait_until(
        lambda: not racks.network.connections("rack-1", port), "the host has noticed", timeout=NOTICED_SECONDS
    )

    racks.network.plug_in("rack-1")
    racks.push("after", host="rack-1", timeout=1)
    wait_published(racks, "after")
    assert record_of(racks, "after").attempts == 1
    wait_free(racks, "rack-1")
    for uid in uids:
        wait_gone(racks, uid)
    assert {uid: everything(racks, uid) for uid in uids} == before
    assert {name: process.starts for name, process in racks.processes.items()} == started
