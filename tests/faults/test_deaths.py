"""Samples that take down the process, or the worker, that deals with their files: each ends, alone."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from karton.core.task import TaskState

from drakcelery.embedded.services import Services
from drakcelery.model.analysis import State
from drakcelery.storage import PART_SIZE
from tests.faults.fleet import Fleet, Options
from tests.faults.watch import detonations, sample_task, wait_free, wait_gone, wait_published
from tests.servers import lent
from tests.waiting import wait_until

HOST = "rack-1"
IO = f"io@{HOST}"
SPARE = 12 * 1024**2
"""Bytes that are less than a part of a large object."""


@pytest.fixture(scope="module")
def fleet(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """One host of three slots."""
    directory = tmp_path_factory.mktemp("deaths")
    options = Options(hosts=(HOST,), slots=3, more={"drakcelery": {"max_attempts": "2"}})
    with lent(services) as servers, Fleet(directory / "fleet", servers, options) as ours:
        yield ours


def crashed(fleet: Fleet, uid: str) -> str:
    """The reason that Karton shows, once the analysis is over."""
    record = fleet.wait_over([uid])[uid]
    assert record.state is State.FAILED, record
    task = sample_task(fleet, record)
    assert task.status is TaskState.CRASHED
    wait_gone(fleet, uid)
    return str(task.error)


@contextlib.contextmanager
def large_dump(fleet: Fleet) -> Iterator[None]:
    """Let the runs of the block leave a dump that cannot be packed to less than two parts."""
    dump = fleet.directory / "run" / "dumps" / "500000_0123456789abcdef"
    dump.write_bytes(os.urandom(2 * PART_SIZE))
    try:
        yield
    finally:
        dump.unlink()


@pytest.mark.slow
@pytest.mark.parametrize(("action", "deaths"), [("child", 2), ("worker", 3)])
def test_collect_that_kills(fleet: Fleet, action: str, deaths: int) -> None:
    """kill -9 of the pool process, or of the io worker, at each collect: an end; others get through (R4)."""
    culprit = f"culprit-{action}"
    fleet.plan(culprit, "collect.entered", action, always=True)
    innocents = [f"innocent-{action}-1", f"innocent-{action}-2"]
    for uid in (culprit, *innocents):
        fleet.push(uid)
    reason = crashed(fleet, culprit)
    assert f"poison: collect of this sample killed its process {deaths} times" in reason
    assert fleet.times_fired(culprit) == deaths
    wait_published(fleet, *innocents)
    for uid in (culprit, *innocents):
        assert detonations(fleet, uid) == 1
    wait_free(fleet, HOST)


@pytest.mark.slow
def test_collect_without_memory(fleet: Fleet) -> None:
    """Pool processes that get no memory: the sample ends in words, the host goes on (R4).

    The limit is that of data (Linux counts all that is private and writable): the address space of a process
    that has had threads holds 64 MB for each, which another thread may take without asking.
    """
    fleet.push("before")
    wait_published(fleet, "before")
    pool = fleet.pool(IO)
    assert len(pool) > 1
    for process in pool:
        limit = process.memory_info().data + SPARE
        resource.prlimit(process.pid, resource.RLIMIT_DATA, (limit, resource.RLIM_INFINITY))
    with large_dump(fleet):
        fleet.push("large")
        reason = crashed(fleet, "large")
    assert "ran out of memory" in reason or "new thread" in reason or "poison: " in reason
    for process in fleet.pool(IO):
        unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        resource.prlimit(process.pid, resource.RLIMIT_DATA, unlimited)
    fleet.push("after")
    wait_published(fleet, "after")


class Group:
    """A control group of its own with a limit of memory, below this process' one (cgroup v1 or v2)."""

    def __init__(self, limit: int) -> None:
        lines = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
        old = next((path for _, names, path in lines if "memory" in names.split(",")), None)
        new = next((path for number, _, path in lines if number == "0"), "/")
        is_old = old is not None
        parent = Path(f"/sys/fs/cgroup/memory{old}" if is_old else f"/sys/fs/cgroup{new}")
        self._path = parent / f"drakcelery-{os.getpid()}"
        try:
            self._path.mkdir()
            (self._path / ("memory.limit_in_bytes" if is_old else "memory.max")).write_text(str(limit))
        except OSError as error:
            if self._path.is_dir():
                self._path.rmdir()
            pytest.skip(f"this machine gives no control group of its own: {error}")

    def take(self, process: psutil.Process) -> None:
        """Put a process in, if it is there still; what it has already does not count."""
        with contextlib.suppress(ProcessLookupError):
            (self._path / "cgroup.procs").write_text(str(process.pid))

    def remove(self) -> None:
        """Once nobody is in it."""
        wait_until(lambda: not (self._path / "cgroup.procs").read_text(), "the group is empty")
        self._path.rmdir()


@pytest.mark.slow
def test_collect_that_the_kernel_kills(fleet: Fleet) -> None:
    """The kernel's OOM killer at each collect or upload: the sample is poison, the host goes on (R4)."""
    group = Group(PART_SIZE)

    def over() -> bool:
        for process in fleet.pool(IO):
            group.take(process)
        record = fleet.record("too-large")
        return record is not None and record.state.is_over

    try:
        with large_dump(fleet):
            fleet.push("too-large")
            wait_until(over, "the analysis is over")
            assert "of this sample killed its process 2 times" in crashed(fleet, "too-large")
    finally:
        fleet.signal(IO, signal.SIGKILL, group=True)
        fleet.processes[IO].running.wait()
        group.remove()
        fleet.respawn()
    fleet.push("after-too-large")
    wait_published(fleet, "after-too-large")
