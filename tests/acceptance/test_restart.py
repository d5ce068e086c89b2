"""`drakcelery up`, Ctrl-C, `drakcelery up` again: nothing is left running, and nothing is lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from karton.core import Resource, Task
from karton.core.task import TaskState

from drakcelery.embedded import lock
from drakcelery.embedded.ports import is_free
from drakcelery.embedded.state import Running, running
from drakcelery.embedded.supervision import marked
from drakcelery.model.analysis import Stage, State
from drakcelery.model.records import Record
from tests.acceptance.deployment import PROGRAMS, Deployment
from tests.waiting import wait_until

CLIENT_RANDOM, MASTER_KEY = "1f" * 32, "2e" * 48
LOG = [
    {"Plugin": "procmon", "TimeStamp": "1.0", "PID": 4, "Method": "NtCreateUserProcess"},
    {"Plugin": "tlsmon", "TimeStamp": "2.0", "client_random": CLIENT_RANDOM, "master_key": MASTER_KEY},
]
LONG = 600
"""Seconds: longer than anyone here waits."""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recorded run: a log with TLS keys, and a dump."""
    directory = tmp_path_factory.mktemp("recorded")
    (directory / "drakmon.log").write_text("".join(f"{json.dumps(entry)}\n" for entry in LOG))
    (directory / "dumps").mkdir()
    (directory / "dumps" / "400000_0123456789abcdef").write_bytes(b"MZ" * 512)
    return directory


@contextmanager
def up(
    data_dir: Path,
    recorded: Path,
    *,
    run_seconds: int = LONG,
    interrupt: Callable[[int, int], None] = os.killpg,
) -> Iterator[Deployment]:
    """`drakcelery up` for the block, ended by Ctrl-C, which a terminal sends to the group of processes.

    A run takes *run_seconds*, or the task's timeout where that is less.
    """
    environment = {
        **os.environ,
        "DRAKCELERY_DRAKCELERY_ENGINE": "replay",
        "DRAKCELERY_REPLAY_RUN_DIR": str(recorded),
        "DRAKCELERY_REPLAY_RUN_SECONDS": str(run_seconds),
    }
    with _up(data_dir, environment) as process:
        found = wait_until(
            lambda: process.poll() is not None or running(data_dir), "the stack is up", timeout=300
        )
        assert isinstance(found, Running), _output(data_dir)
        try:
            with Deployment.of(found) as deployment:
                yield deployment
        finally:
            interrupt(process.pid, signal.SIGINT)
            status = process.wait(120)
        assert status == 0, _output(data_dir)


@contextmanager
def _up(data_dir: Path, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """The process, in a group of its own, as a shell would start it."""
    command = (PROGRAMS / "drakcelery", "up", "--slots", "1", "--data-dir", str(data_dir))
    with (
        data_dir.with_suffix(".out").open("wb") as output,
        subprocess.Popen(
            command, stdout=output, stderr=output, env=environment, start_new_session=True
        ) as process,
    ):
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def _output(data_dir: Path) -> str:
    return data_dir.with_suffix(".out").read_text(errors="replace")[-4000:]


def sample(name: str) -> Resource:
    """A file of its own; what is played back does not depend on it."""
    return Resource(f"{name}.exe", content=f"MZ {name}".encode())


def assert_nothing_left(data_dir: Path) -> None:
    """No process of the stack, no port in use, no lock."""
    wait_until(lambda: not marked(str(data_dir)), "no process of the stack is left")
    ports = json.loads((data_dir / "services.json").read_text())["ports"].values()
    wait_until(lambda: all(map(is_free, ports)), "every port of the stack is free")
    assert lock.holder(data_dir) is None
    assert running(data_dir) is None


@dataclass(frozen=True, kw_only=True)
class FirstLife:
    """What was done on the stack before Ctrl-C, and what was there then."""

    data_dir: Path
    running: Running
    kept: Record
    """Published."""
    stored: dict[str, int]
    """Its artifacts."""
    refused: Record
    unlucky: Record
    """Its guest vanished in every attempt."""
    unlucky_task: Task
    interrupted: Task
    """The sample that ran when Ctrl-C came."""
    waiting: tuple[Task, ...]
    """Half of them waited for the slot, half in Karton."""
    second_up: subprocess.CompletedProcess[str]
    """`drakcelery up` while the stack was running."""


def fail_three_times(stack: Deployment) -> tuple[Record, Task]:
    """An analysis whose guest is taken away in the middle of every run."""
    task = stack.send(sample("unlucky"), payload={"timeout": LONG})
    guest = stack.settings.drakcelery.state_dir / "engine" / "vm-1.guest"
    for attempt in (1, 2, 3):
        stack.wait_state(task, State.RUNNING, attempt=attempt)
        guest.unlink()
    record = stack.wait_over(task)
    wait_until(
        lambda: f"{record.uid}/drakrun.log" in stack.objects("drakrun", record.uid),
        "its log is kept, which happens after its end",
    )
    return record, stack.sample_task(record)


def fill(stack: Deployment) -> list[Task]:
    """A sample that runs, two that wait for its slot, two that wait in Karton."""
    tasks = [stack.send(sample("running"), payload={"timeout": LONG})]
    stack.wait_state(tasks[0], State.RUNNING)
    tasks += [stack.send(sample(f"waiting-{number}"), payload={"timeout": LONG}) for number in range(4)]
    queues = stack.backend.get_queue_names(stack.settings.drakrun.identity)
    wait_until(
        lambda: sum(len(stack.backend.get_task_ids_from_queue(queue)) for queue in queues) == 2,
        "two wait in Karton, since the look-ahead is used up",
    )
    wait_until(lambda: len(list(stack.ledger.live())) == 3, "two wait for the slot")
    return tasks


@pytest.fixture(scope="module")
def first_life(
    server_programs: None,  # noqa: ARG001 - a check
    recorded: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> FirstLife:
    """A stack that analysed samples and got its Ctrl-C in the middle of a run."""
    data_dir = tmp_path_factory.mktemp("restart") / "stack"
    with up(data_dir, recorded) as stack:
        output = data_dir.with_suffix(".out")
        wait_until(lambda: "`, stops it." in output.read_text(), "the addresses are printed")
        kept = stack.wait_over(stack.send(sample("kept"), payload={"timeout": 1}))
        refused = stack.wait_over(stack.send(sample("refused"), payload={"timeout": 10_000}))
        unlucky, unlucky_task = fail_three_times(stack)
        interrupted, *waiting = fill(stack)
        life = FirstLife(
            data_dir=data_dir,
            running=stack.running,
            kept=kept,
            stored=stack.objects("drakrun", kept.uid),
            refused=refused,
            unlucky=unlucky,
            unlucky_task=unlucky_task,
            interrupted=interrupted,
            waiting=tuple(waiting),
            second_up=stack.drakcelery("up", "--data-dir", data_dir),
        )
        assert running(data_dir) == stack.running
    assert_nothing_left(data_dir)
    return life


@pytest.fixture(scope="module")
def second_life(first_life: FirstLife, recorded: Path) -> Iterator[Deployment]:
    """The same stack, started again; runs take no time now. Its SIGINT comes to no other process."""
    with up(first_life.data_dir, recorded, run_seconds=0, interrupt=os.kill) as stack:
        yield stack
    assert_nothing_left(first_life.data_dir)


def test_keys_of_recorded_traffic(first_life: FirstLife, second_life: Deployment) -> None:
    """Where tlsmon saw TLS keys, Wireshark gets them, and consumers their fields."""
    uid = first_life.kept.uid
    keys = second_life.content("drakrun", f"{uid}/wireshark_key_file.txt")
    assert keys.decode() == f"CLIENT_RANDOM {CLIENT_RANDOM} {MASTER_KEY}\n"
    for line in second_life.content("drakrun", f"{uid}/tlsmon.log").decode().splitlines():
        assert {"client_random", "master_key"} <= set(json.loads(line))


def test_up_says_where_everything_is(first_life: FirstLife) -> None:
    """Before anything else it prints all addresses, the Fleet page first, and the directory."""
    output = first_life.data_dir.with_suffix(".out").read_text()
    addresses = first_life.running.addresses
    for address in (*addresses.values(), str(first_life.data_dir)):
        assert address in output
    first, second, *_ = output.splitlines()
    assert first.startswith("drakcelery is up: ")
    assert second.endswith(f"{addresses['Flower']}/fleet")


def test_second_up_refuses(first_life: FirstLife) -> None:
    """One stack a directory; the sentence says who holds it."""
    refusal = first_life.second_up
    assert refusal.returncode == 1
    assert "Traceback" not in refusal.stderr
    where = f"already runs in {first_life.data_dir} (pid {first_life.running.pid})"
    assert f"Error: an embedded stack {where}" in refusal.stderr


def test_engine_failures_end_as_crashed(first_life: FirstLife, second_life: Deployment) -> None:
    """A guest that vanishes, three times over: CRASHED with the cause and the history of the attempts."""
    record, task = first_life.unlucky, first_life.unlucky_task
    assert (record.state, record.attempts) == (State.FAILED, 3)
    assert [failure.stage for failure in record.failures] == [Stage.RUN] * 3
    assert task.status is TaskState.CRASHED
    cause = "the guest in slot vm-1 is gone"
    assert task.error == [
        f"{cause}\n",
        *(f"  attempt {number}: run on embedded/vm-1: {cause}\n" for number in (1, 2, 3)),
    ]
    assert cause in second_life.content("drakrun", f"{record.uid}/drakrun.log").decode()


def test_records_and_artifacts_are_kept(
    first_life: FirstLife, second_life: Deployment, tmp_path: Path
) -> None:
    """What was over before Ctrl-C is there after it: same addresses, same records, same objects."""
    kept = first_life.kept
    assert kept.state is State.PUBLISHED, kept.error
    assert second_life.running.addresses == first_life.running.addresses
    for record in (kept, first_life.refused, first_life.unlucky):
        assert second_life.ledger.get(record.uid) == record
    assert second_life.objects("drakrun", kept.uid) == first_life.stored
    fetched = second_life.drakcelery("fetch", kept.uid, "--to", tmp_path / "fetched")
    assert fetched.returncode == 0, fetched.stderr
    metadata = json.loads((tmp_path / "fetched" / "metadata.json").read_text())
    assert metadata["engine"].startswith("replay ")


def test_waiting_work_goes_on(first_life: FirstLife, second_life: Deployment) -> None:
    """What waited for a slot, or in Karton, is analysed after the next start."""
    records = [second_life.wait_over(task) for task in first_life.waiting]
    assert [(record.state, record.attempts) for record in records] == [(State.PUBLISHED, 1)] * 4


def test_interrupted_work_goes_on(first_life: FirstLife, second_life: Deployment) -> None:
    """What ran at Ctrl-C is analysed again, within a minute of the next start."""
    record = second_life.wait_over(first_life.interrupted, timeout=75)
    assert record.state is State.PUBLISHED, record.error
    assert second_life.is_finished(record)
