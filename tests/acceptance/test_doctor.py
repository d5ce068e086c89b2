"""``drakcelery doctor`` as an operator types it: on a sound stack, and with faults."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from karton.core.backend import KARTON_BINDS_HSET

from drakcelery import __version__
from drakcelery.doctor import CHECKS
from drakcelery.storage import Storage
from tests.acceptance.deployment import Deployment, run
from tests.waiting import wait_until

Found = dict[str, dict[str, Any]]


def look(deployment: Deployment, *only: str) -> tuple[int, Found]:
    """The exit status of ``doctor --json``, and what it found, by check."""
    words = [word for name in only for word in ("--only", name)]
    done = deployment.drakcelery("doctor", "--json", *words)
    return done.returncode, {one["check"]: one for one in json.loads(done.stdout)}


@pytest.fixture(scope="module")
def bucket(deployment: Deployment) -> None:
    """The bucket of the analyses, as after the first one."""
    Storage.connect(deployment.settings.s3, threads=1).ensure_bucket(deployment.settings.drakcelery.bucket)


@pytest.fixture(scope="module")
def sound(deployment: Deployment, bucket: None) -> tuple[int, Found]:  # noqa: ARG001 - makes it
    """What is found on a stack that works."""
    return look(deployment)


def test_a_sound_stack(sound: tuple[int, Found], deployment: Deployment) -> None:
    """Every check is done; none fails; what concerns another engine is skipped."""
    status, found = sound
    assert status == 0
    assert list(found) == [check.name for check in CHECKS]
    assert [name for name, one in found.items() if one["status"] == "failed"] == []
    skipped = {name for name, one in found.items() if one["status"] == "skipped"}
    others = {"engine.replay", "engine.snapshots", "report.capa"}
    assert skipped == {*others, *(check.name for check in CHECKS if check.name.startswith("xen."))}
    warnings = {name for name, one in found.items() if one["status"] == "warning"}
    assert warnings <= {"host.owners", "host.space"}, {name: found[name] for name in warnings}
    assert "io@embedded, vm@embedded answered" in found["celery.workers"]["said"]
    assert f"drakcelery {__version__} on io@embedded, vm@embedded" in found["celery.versions"]["said"]
    assert "connections of ingress: 1, of others: none" in found["karton.consumers"]["said"]
    assert deployment.objects(deployment.settings.drakcelery.bucket, "drakcelery-doctor") == {}


def test_the_table(deployment: Deployment, bucket: None) -> None:  # noqa: ARG001 - makes it
    """People get a line for each check, the remedy below it, and how many there are of each kind."""
    done = deployment.started("doctor", "--only", "redis", "--only", "karton.bind")
    assert (done.returncode, done.stderr) == (0, "")
    heading, *rows = done.stdout.splitlines()
    assert heading.split() == ["CHECK", "RESULT", "FOUND"]
    assert any(row.startswith("karton.bind") and " ok " in row for row in rows)
    assert rows[-1] == "9 ok"


@pytest.fixture
def faulty(deployment: Deployment, tmp_path: Path) -> Callable[..., tuple[int, Found]]:
    """``doctor --json`` with one line of the configuration file changed."""

    def look_at(old: str, new: str, *only: str) -> tuple[int, Found]:
        text = deployment.running.config.read_text()
        assert old in text
        config = tmp_path / "faulty.ini"
        config.write_text(text.replace(old, new, 1))
        words = [word for name in only for word in ("--only", name)]
        done = run("drakcelery", "doctor", "--json", *words, config=config)
        return done.returncode, {one["check"]: one for one in json.loads(done.stdout)}

    return look_at


def test_a_wrong_password(
    deployment: Deployment, faulty: Callable[..., tuple[int, Found]], tmp_path: Path
) -> None:
    """It fails, says where to look, tells neither password, and warns of a file that all can read."""
    right = deployment.settings.redis.password
    assert right is not None
    (tmp_path / "faulty.ini").touch(mode=0o644)
    status, found = faulty(right.get_secret_value(), "not-the-password", "redis", "celery", "settings")
    assert status == 1
    assert found["redis.reachable"]["status"] == found["celery.broker"]["status"] == "failed"
    assert "[redis] username and password" in found["redis.reachable"]["remedy"]
    assert found["settings.private"]["status"] == "warning"
    told = json.dumps(found)
    assert "not-the-password" not in told
    assert right.get_secret_value() not in told


def test_settings_that_do_not_load(faulty: Callable[..., tuple[int, Found]]) -> None:
    """A wrong file is a finding like any other."""
    status, found = faulty("[redis]", "[redis]\nprot = 1", "redis.reachable")
    assert status == 1
    assert "prot" in found["settings.load"]["said"]
    assert found["redis.reachable"]["status"] == "skipped"


def test_an_analyst_with_other_filters(
    deployment: Deployment, faulty: Callable[..., tuple[int, Found]]
) -> None:
    """Whoever would start an ingress with other filters learns that it would replace ours."""
    bound = deployment.ledger._redis.hget(KARTON_BINDS_HSET, deployment.ledger.identity)
    status, found = faulty("[drakrun]", '[drakrun]\nfilters = [{"type": "sample"}]', "karton.bind")
    assert status == 1
    assert "is bound with other filters" in found["karton.bind"]["said"]
    assert deployment.ledger._redis.hget(KARTON_BINDS_HSET, deployment.ledger.identity) == bound


def _is_io_worker(process: psutil.Process, config: str) -> bool:
    try:
        is_io = "--hostname=io@embedded" in process.cmdline()
        return is_io and config in process.environ().get("DRAKCELERY_CONFIG", "")
    except psutil.Error:  # it ended meanwhile, or is another user's
        return False


@pytest.fixture
def frozen(deployment: Deployment) -> Iterator[None]:
    """The io worker's main process stands still for the test. Those of its pool look like it."""
    mine = str(deployment.running.config.parent)
    all_of_it = [one for one in psutil.process_iter() if _is_io_worker(one, mine)]
    pids = {one.pid for one in all_of_it}
    process = next(one for one in all_of_it if one.ppid() not in pids)
    process.send_signal(signal.SIGSTOP)
    try:
        wait_until(lambda: process.status() == psutil.STATUS_STOPPED, "the io worker stands still")
        yield
    finally:
        process.send_signal(signal.SIGCONT)


@pytest.mark.usefixtures("frozen")
def test_a_worker_that_does_not_answer(deployment: Deployment) -> None:
    """The silent one is named."""
    status, found = look(deployment, "celery.workers")
    assert status == 1
    assert "io@embedded did not" in found["celery.workers"]["said"]


def test_a_bucket_that_is_missing(faulty: Callable[..., tuple[int, Found]]) -> None:
    """Karton's bucket has to be there."""
    status, found = faulty("bucket = karton", "bucket = nowhere", "s3.samples")
    assert (status, found["s3.samples"]["status"]) == (1, "failed")
    assert "'nowhere'" in found["s3.samples"]["said"]
