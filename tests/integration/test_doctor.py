"""The doctor against real servers and real faults, one at a time."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import grp
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from karton.core.backend import KARTON_BINDS_HSET, KARTON_TASKS_QUEUE, KartonBackend
from karton.core.task import Task
from pydantic import SecretStr

from drakcelery.doctor import CHECKS, karton_side, subject, transport
from drakcelery.doctor.finding import Finding, Status
from drakcelery.doctor.runner import chosen, examine
from drakcelery.doctor.subject import Subject
from drakcelery.embedded.ports import LOOPBACK
from drakcelery.embedded.services import Services
from drakcelery.engines.drakvuf import ipv6
from drakcelery.errors import SettingsError
from drakcelery.host.identity import this_machine
from drakcelery.ingress.bind import bind_of
from drakcelery.karton.submit import karton_config
from drakcelery.ledger.deployment import SILENCE, Deployment
from drakcelery.ledger.fleet import Fleet
from drakcelery.ledger.host_names import HostNames
from drakcelery.ledger.keys import DEPLOYMENT, FLEET, lease_key
from drakcelery.model.records import HostStatus, SlotStatus
from drakcelery.settings import (
    CelerySection,
    DrakrunSection,
    DrakvufSection,
    EmulatorSection,
    ReplaySection,
    Settings,
)
from drakcelery.storage import Storage
from tests import reference
from tests.conftest import require
from tests.faults import rabbit
from tests.remedies import pasted, require_commands
from tests.s3_proxy import Proxy
from tests.waiting import wait_until
from tests.xen.host import XenHost

SLOW = 30


@pytest.fixture
def settings(services: Services, tmp_path: Path) -> Iterator[Settings]:
    """An installation on the session's servers, with an identity and a bucket of its own."""
    bucket = f"doctor-{uuid.uuid4().hex[:12]}"
    drakrun = DrakrunSection(identity=f"karton.doctor-{uuid.uuid4().hex[:12]}")
    plain = Settings(redis=services.redis, s3=services.s3, drakrun=drakrun)
    ours = plain.drakcelery.model_copy(
        update={"state_dir": tmp_path / "state", "bucket": bucket, "host": bucket, "min_free_space": 0}
    )
    Storage.connect(services.s3, threads=1).ensure_bucket(bucket)
    yield plain.model_copy(update={"drakcelery": ours})
    with redis.Redis.from_url(services.redis.address()) as client:
        client.hdel(KARTON_BINDS_HSET, drakrun.identity)


def changed(settings: Settings, section: str, **values: object) -> Settings:
    """*settings* with other values in a section."""
    return settings.model_copy(update={section: getattr(settings, section).model_copy(update=values)})


def look(settings: Settings, *names: str) -> dict[str, Finding]:
    """What the doctor finds, by check; whatever it is, a shell takes its commands as they stand."""
    found = {one.check: one for one in examine(chosen(CHECKS, names), Subject(lambda: settings))}
    for one in found.values():
        require_commands(one)
    return found


def failure(settings: Settings, name: str) -> str:
    """What the doctor says about a check that fails, and how to fix it."""
    finding = look(settings, name)[name]
    assert finding.status is Status.FAILED, finding
    assert finding.remedy
    return " → ".join((finding.said, finding.remedy, *finding.commands))


# Redis


def test_a_sound_redis(settings: Settings, redis_client: redis.Redis) -> None:
    """Every check of Redis is content with the embedded one; nothing was written, in either database."""
    before = everything(settings)
    found = look(settings, "redis", "host.clock", "celery.rights")
    assert {one.status for name, one in found.items() if name.startswith("redis.")} == {Status.OK}, found
    assert found["host.clock"].status is found["celery.rights"].status is Status.OK
    assert everything(settings) == before
    assert redis_client.ping()


def everything(settings: Settings) -> dict[tuple[int, str], object]:
    """Both databases, by database and key; connections come and go, and are not in them."""
    found: dict[tuple[int, str], object] = {}
    for offset in (0, 1):
        with redis.Redis.from_url(settings.redis.address(db_offset=offset)) as client:
            found.update({(offset, key.decode()): client.dump(key) for key in client.scan_iter()})
    return found


def test_a_wrong_password(settings: Settings) -> None:
    """The finding says that we are not let in, and neither password; what needs Redis is left out."""
    right = settings.redis.password
    assert right is not None
    wrong = changed(settings, "redis", password=SecretStr("not-the-password"))
    found = look(wrong, "redis", "karton")
    assert "does not let us in" in found["redis.reachable"].said
    assert "[redis] username and password" in str(found["redis.reachable"].remedy)
    assert {one.status for name, one in found.items() if name.startswith("karton.")} == {Status.SKIPPED}
    told = json.dumps([one.as_json() for one in found.values()])
    assert "not-the-password" not in told
    assert right.get_secret_value() not in told


def test_a_redis_that_is_not_there(settings: Settings) -> None:
    """A closed port is said at once, by Redis' check and by the broker's; the other checks go on."""
    with socket.socket() as closed:
        closed.bind((LOOPBACK, 0))
        nowhere = changed(settings, "redis", host=LOOPBACK, port=closed.getsockname()[1])
        found = look(nowhere, "redis.server", "celery.workers", "s3.reachable")
    assert "Connection refused" in found["redis.reachable"].said
    assert "does not answer" in found["celery.broker"].said
    assert found["redis.server"].status is found["celery.workers"].status is Status.SKIPPED
    assert found["s3.reachable"].status is Status.OK


def test_a_redis_that_hangs(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that takes the connection and never answers costs a check its seconds, and no more."""
    monkeypatch.setattr(subject, "SECONDS", 0.3)
    monkeypatch.setattr(transport, "SECONDS", 1.0)
    with socket.create_server((LOOPBACK, 0)) as mute:
        hanging = changed(settings, "redis", host=LOOPBACK, port=mute.getsockname()[1])
        begun = time.monotonic()
        found = look(hanging, "redis.server", "celery.broker")
    assert time.monotonic() - begun < SLOW
    assert "did not answer in time" in found["redis.reachable"].said
    assert found["celery.broker"].status is Status.FAILED


@pytest.fixture
def user(settings: Settings) -> Iterator[str]:
    """The name of a user of Redis who may not do anything yet; its password is *secret*."""
    name = f"doctor-{uuid.uuid4().hex[:8]}"
    with redis.Redis.from_url(settings.redis.address()) as client:
        client.execute_command("ACL", "SETUSER", name, "reset", "on", ">secret")
        yield name
        client.execute_command("ACL", "DELUSER", name)


def may(settings: Settings, user: str, *rules: str) -> Settings:
    """Grant *rules* to *user*, whom these settings use."""
    with redis.Redis.from_url(settings.redis.address()) as client:
        client.execute_command("ACL", "SETUSER", user, *rules)
    return changed(settings, "redis", username=user, password=SecretStr("secret"))


def test_missing_rights(settings: Settings, user: str) -> None:
    """Commands and keys that the user may not use are named; those for the doctor alone are not missed."""
    some = may(settings, user, "~karton.*", "+@all", "-@admin", "-@dangerous", "-hincrby")
    found = look(some, "redis", "karton.consumers")
    assert found["redis.rights"].status is Status.FAILED
    assert "HINCRBY on karton.metrics.consumed" in found["redis.rights"].said
    assert "ZADD, ZREM, ZSCORE, ZMSCORE, ZCARD, ZRANGEBYSCORE on drak:inbox" in found["redis.rights"].said
    assert "karton.binds" not in found["redis.rights"].said
    assert {found[name].status for name in ("redis.server", "redis.memory", "karton.consumers")} == {
        Status.SKIPPED
    }


def test_the_rights_that_the_remedies_grant(settings: Settings, user: str) -> None:
    """Pasted into a shell, each gives the user all that its check misses."""
    password = settings.redis.password
    assert password is not None
    ours = may(settings, user, "+@connection", "+info", "+multi", "+discard")
    for name, missing in (("redis.rights", "on drak:inbox"), ("celery.rights", "BRPOP, RPOP, LPUSH")):
        before = look(ours, name)[name]
        assert before.status is Status.FAILED
        assert missing in before.said
        pasted(before, password=password.get_secret_value())
        after = look(ours, name)[name]
        assert after.status is Status.OK, after


def test_rights_on_no_queue_but_our_own(settings: Settings, user: str) -> None:
    """All works but `republish --to`, which writes into a consumer's queue; finding out writes nothing."""
    before, identity = everything(settings), settings.drakrun.identity
    keys = (
        "~karton.task*",
        "~karton.binds",
        "~karton.metrics*",
        f"~karton.queue.*:{identity}",
        f"~{identity}",
    )
    mine = may(settings, user, *keys, "~drak:*", "+@all", "-@admin", "-@dangerous", "+info")
    rights = look(mine, "redis.rights")["redis.rights"]
    assert rights.status is Status.WARNING, rights
    assert "not RPUSH on other consumers' queues: drakcelery republish --to cannot send" in rights.said
    assert "'~karton.*'" in rights.commands[0]
    assert everything(settings) == before


def test_a_user_without_transactions(settings: Settings, user: str) -> None:
    """Where a transaction cannot be opened nothing is tried: it would be carried out."""
    before = everything(settings)
    limited = may(settings, user, "~*", "&*", "+@all", "-multi")
    assert "not allowed: MULTI" in failure(limited, "redis.rights")
    assert everything(settings) == before


# S3


def objects(settings: Settings, bucket: str | None = None) -> dict[str, int]:
    """What is in the bucket of the analyses, or another."""
    return Storage.connect(settings.s3, threads=1).list(bucket or settings.drakcelery.bucket, "")


def test_a_sound_s3(settings: Settings) -> None:
    """Karton's bucket is read, the other written in parts, read and cleared; nothing stays in either."""
    samples = objects(settings, settings.s3.bucket)
    found = look(changed(settings, "drakrun", sample_testing=True), "s3")
    assert {one.status for one in found.values()} == {Status.OK}, found
    assert "in parts too" in found["s3.analyses"].said
    assert "in parts too" in found["s3.samples"].said
    assert objects(settings) == {}
    assert objects(settings, settings.s3.bucket) == samples


def test_a_wrong_secret(settings: Settings) -> None:
    """S3 does not accept it, and it is not told."""
    said = failure(changed(settings, "s3", secret_key=SecretStr("not-the-secret")), "s3.reachable")
    assert "does not accept access key" in said
    assert "not-the-secret" not in said


def test_an_s3_that_is_not_there(settings: Settings) -> None:
    """It is asked once, not for half a minute."""
    with socket.socket() as closed:
        closed.bind((LOOPBACK, 0))
        away = changed(settings, "s3", address=f"http://{LOOPBACK}:{closed.getsockname()[1]}")
        begun = time.monotonic()
        assert "does not answer" in failure(away, "s3.reachable")
    assert time.monotonic() - begun < SLOW


def test_buckets_that_are_not_there(settings: Settings) -> None:
    """Karton's has to be there; that of the analyses may come with the first one."""
    assert "no bucket 'nowhere'" in failure(changed(settings, "s3", bucket="nowhere"), "s3.samples")
    finding = look(changed(settings, "drakcelery", bucket="nowhere"), "s3.analyses")["s3.analyses"]
    assert finding.status is Status.WARNING
    assert finding.commands[0].endswith("s3 mb s3://nowhere")


def test_kartons_bucket_is_not_for_analyses(settings: Settings) -> None:
    """Karton's garbage collector would delete them."""
    same = changed(settings, "drakcelery", bucket=settings.s3.bucket)
    assert "Karton deletes whatever" in failure(same, "s3.analyses")


def deny(settings: Settings, *actions: str) -> None:
    """Have the bucket refuse *actions* to everybody, and allow all else."""
    bucket = settings.drakcelery.bucket
    resource = [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]
    statements = [
        {"Effect": "Deny", "Principal": "*", "Action": list(actions), "Resource": resource},
        {"Effect": "Allow", "Principal": "*", "Action": "s3:*", "Resource": resource},
    ]
    policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
    Storage.connect(settings.s3, threads=1).rights.set_bucket_policy(bucket, policy)


def test_a_forbidden_bucket(settings: Settings) -> None:
    """Who may not write is told what to grant, and nothing is left."""
    deny(settings, "s3:PutObject", "s3:CreateMultipartUpload")
    said = failure(settings, "s3.analyses")
    assert "may not write" in said
    assert "grant s3:PutObject" in said
    assert objects(settings) == {}


def test_a_bucket_from_which_nothing_is_removed(settings: Settings) -> None:
    """Nothing is put where it would have to stay; that it could be, an upload shows that is given up."""
    deny(settings, "s3:DeleteObject")
    finding = look(settings, "s3.analyses")["s3.analyses"]
    assert finding.status is Status.WARNING, finding
    assert "s3:DeleteObject" in finding.said
    assert objects(settings) == {}


def test_an_s3_that_breaks_in_mid_check(settings: Settings) -> None:
    """The object goes all the same."""
    proxy = Proxy(settings.s3.address)
    try:
        proxy.drops = lambda request: request.startswith("GET ") and request.endswith("/probe")
        assert "does not answer" in failure(changed(settings, "s3", address=proxy.address), "s3.analyses")
        assert any(request.startswith("POST ") for request in proxy.requests), "nothing was written in parts"
    finally:
        proxy.close()
    assert objects(settings) == {}


# Karton


def test_binds(settings: Settings, redis_client: redis.Redis) -> None:
    """Nothing bound, ours, and another consumer with our identity and other filters."""
    assert look(settings, "karton.bind")["karton.bind"].status is Status.WARNING
    backend = KartonBackend(karton_config(settings), identity="karton.doctor-test")
    with contextlib.closing(backend.redis), contextlib.closing(backend.s3):
        ours = bind_of(settings)
        backend.register_bind(ours)
        assert look(settings, "karton.bind")["karton.bind"].status is Status.OK
        backend.register_bind(ours._replace(info="another", filters=[{"type": "sample", "kind": "raw"}]))
        said = failure(settings, "karton.bind")
    assert "other filters, by 'another'" in said
    assert '"kind": "raw"' in said
    assert redis_client.hexists(KARTON_BINDS_HSET, ours.identity)


def test_the_deployment_of_a_redis(settings: Settings, redis_client: redis.Redis) -> None:
    """Another identity is named as a refused process names it, and not once nothing of it is left (R10)."""
    name = "karton.deployment"
    redis_client.delete(DEPLOYMENT)
    assert look(settings, name)[name].status is Status.OK
    theirs = Deployment(redis_client, "karton.drakrun-theirs")
    theirs.claim()
    with pytest.raises(SettingsError) as refused:
        Deployment(redis_client, settings.drakrun.identity).claim()
    said = failure(settings, name)
    assert said.startswith(str(refused.value).partition(", which")[0])
    assert "every process with these settings ends at its start" in said
    redis_client.hset(DEPLOYMENT, "renewed", redis_client.time()[0] - SILENCE - 1)
    finding = look(settings, name)[name]
    assert finding.status is Status.WARNING
    assert "was karton.drakrun-theirs" in finding.said
    Deployment(redis_client, settings.drakrun.identity).claim()
    assert look(settings, name)[name].status is Status.OK
    redis_client.delete(DEPLOYMENT)


def test_hosts_with_two_snapshots_of_one_profile(settings: Settings, redis_client: redis.Redis) -> None:
    """Two snapshots under one name, or one that changed, are named with their hosts (R19)."""
    name, profile = "engine.snapshots", f"win-{uuid.uuid4().hex[:8]}"
    slot = SlotStatus(name="vm-1", profile=profile, state="free", since=0)

    def report(host: str, snapshot: str | None, *, changed: bool = False) -> None:
        status = HostStatus(
            host=f"{host}-{profile}", engine="e", slots=(slot,), snapshot=snapshot, snapshot_changed=changed
        )
        Fleet(redis_client).report(status)

    report("a", "1")
    report("b", "1")
    assert profile not in look(settings, name)[name].said
    report("c", "2", changed=True)
    finding = look(settings, name)[name]
    assert finding.status is Status.WARNING
    assert f"the profile {profile}: 1 on a-{profile}, b-{profile}; 2 on c-{profile}" in finding.said
    assert f"the snapshot of c-{profile} has changed" in finding.said


def test_who_has_the_names_of_hosts(settings: Settings, redis_client: redis.Redis) -> None:
    """Whoever has this host's name is named, with when it said so; other hosts' machines, too (R5)."""
    ours, name = settings.drakcelery, "host.name"
    ours.state_dir.mkdir()
    here = this_machine(ours.state_dir)
    there = dataclasses.replace(here, key="k" * 32, node="clone-2", boot_id="b" * 36)
    names, fleet = HostNames(redis_client), Fleet(redis_client)
    other = f"other-{uuid.uuid4().hex[:8]}"
    fleet.report(HostStatus(host=other, engine="replay", slots=(_slot(),)))
    names.claim(other, dataclasses.replace(here, key="o" * 32, node="rack-b"), role="vm", lasts=60)
    assert f"{other} (rack-b)" in look(settings, name)[name].said
    names.claim(ours.host, here, role="vm", lasts=60)
    finding = look(settings, name)[name]
    assert finding.status is Status.OK
    assert f"{ours.host} is this machine: {here.words}, which said so 0 s ago" in finding.said
    names.release(ours.host, here, role="vm")
    names.claim(ours.host, there, role="vm", lasts=60)
    assert f"is the name of {there.words}, which said so" in failure(settings, name)
    redis_client.hset(lease_key(ours.host), "renewed", redis_client.time()[0] - 61)
    finding = look(settings, name)[name]
    assert finding.status is Status.WARNING
    assert "a worker that starts here takes it" in finding.said
    redis_client.delete(FLEET, lease_key(other), lease_key(ours.host), f"drak:host:{other}")


def _slot() -> SlotStatus:
    return SlotStatus(name="vm-1", profile="default", state="free", since=0)


def test_another_consumer(settings: Settings) -> None:
    """A Karton consumer that waits under our identity is seen, and is not once it is gone."""
    identity = settings.drakrun.identity
    assert look(settings, "karton.consumers")["karton.consumers"].status is Status.WARNING
    backend = KartonBackend(karton_config(settings), identity=identity)
    waiting = threading.Thread(target=backend.consume_routed_task, args=(identity, 60))
    waiting.start()
    try:
        name = "karton.consumers"
        finding = wait_until(
            lambda: next((one for one in [look(settings, name)[name]] if one.status is Status.FAILED), None),
            "the consumer is seen",
        )
    finally:
        backend.redis.rpush(identity, "no-such-task")  # an old producer's queue: the consumer returns
        waiting.join()
        backend.redis.close()
        backend.s3.close()
    assert f"other consumers of {identity} are online, at 127.0.0.1" in finding.said
    assert "drakrun@" in str(finding.remedy)


def test_nobody_routes(
    settings: Settings, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without karton-system a task stays where it was sent to."""
    monkeypatch.setattr(karton_side, "ROUTING_SECONDS", 0.05)
    assert look(settings, "karton.system")["karton.system"].status is Status.WARNING
    redis_client.rpush(KARTON_TASKS_QUEUE, Task({"type": "sample"}).uid)
    assert "tasks that wait to be routed: 1" in failure(settings, "karton.system")


# Celery


def test_no_worker(settings: Settings) -> None:
    """Where nobody answers that is said, and the question leaves nothing in the broker that stays."""
    found = look(settings, "celery.workers", "celery.versions")
    assert found["celery.workers"].status is Status.WARNING, found
    assert found["celery.versions"].status is Status.SKIPPED
    with redis.Redis.from_url(settings.redis.address(db_offset=1), decode_responses=True) as broker:
        kept = set(broker.scan_iter())
    assert kept <= {"_kombu.binding_deadlines"}, "kombu's own note of an exchange is all that may stay"


def test_rabbitmq(settings: Settings, tmp_path: Path) -> None:
    """RabbitMQ as broker: it answers, it does not let a wrong password in, it is away; no queue stays."""
    require(rabbit.SERVER.exists(), "RabbitMQ is not installed (Debian: apt-get install rabbitmq-server)")

    def through(url: str) -> Settings:
        return settings.model_copy(update={"celery": CelerySection(broker_url=SecretStr(url))})

    with rabbit.Rabbit(tmp_path / "rabbit") as node:
        found = look(through(node.url()), "celery")
        assert found["celery.broker"].status is Status.OK
        assert found["celery.rights"].status is Status.SKIPPED
        assert found["celery.workers"].status is Status.WARNING
        assert node.queues() == {}
        said = failure(through(node.url().replace("guest:guest", "guest:not-the-one")), "celery.broker")
        assert "ACCESS_REFUSED" in said
        assert "not-the-one" not in said
        away = node.url()
    assert "does not answer" in failure(through(away), "celery.broker")


# This machine

SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>
int clock_gettime(clockid_t id, struct timespec *t) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(id, t);
    if (id == CLOCK_REALTIME) t->tv_sec += 3600;
    return result;
}
"""
PROBE = """
import json, sys
from pathlib import Path
from drakcelery import settings
from drakcelery.doctor import CHECKS
from drakcelery.doctor.runner import chosen, examine
from drakcelery.doctor.subject import Subject
subject = Subject(lambda: settings.load(Path(sys.argv[1]), environment={}))
found = examine(chosen(CHECKS, ["host.clock", "s3.reachable"]), subject)
print(json.dumps([one.as_json() for one in found]))
"""


def test_a_wrong_clock(settings: Settings, tmp_path: Path) -> None:
    """On a machine whose clock is an hour ahead the doctor says so, and how to keep it right."""
    compiler = shutil.which("cc")
    require(compiler is not None, "no C compiler to make a wrong clock with")
    (tmp_path / "clock.c").write_text(SHIM)
    library = tmp_path / "clock.so"
    subprocess.run(
        [str(compiler), "-shared", "-fPIC", "-o", library, tmp_path / "clock.c", "-ldl"], check=True
    )
    server, s3 = settings.redis, settings.s3
    assert server.password is not None
    assert s3.secret_key is not None
    (tmp_path / "config.ini").write_text(
        f"[redis]\nhost={server.host}\nport={server.port}\npassword={server.password.get_secret_value()}\n"
        f"[s3]\naddress={s3.address}\naccess_key={s3.access_key}\nsecret_key={s3.secret_key.get_secret_value()}\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", PROBE, tmp_path / "config.ini"],
        env={**os.environ, "LD_PRELOAD": str(library)},
        cwd=reference.ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    found = {one["check"]: one for one in json.loads(done.stdout.splitlines()[-1])}
    assert found["host.clock"]["status"] == "warning"
    assert "3600.0 s ahead of Redis'" in found["host.clock"]["said"]
    assert found["host.clock"]["commands"] == ["timedatectl set-ntp true"]
    assert found["s3.reachable"]["status"] == "ok"  # storage signs by the server's time


def test_a_sound_machine(settings: Settings) -> None:
    """The state directory need not be there yet, as long as it can be made; no worker runs."""
    found = look(settings, "host.state_dir", "host.space", "host.libmagic", "host.owners")
    assert {one.status for name, one in found.items() if name != "host.owners"} == {Status.OK}, found
    assert found["host.owners"].status is Status.SKIPPED
    assert not settings.drakcelery.state_dir.exists()


MS_NOSUID = 2


@contextlib.contextmanager
def tiny_disk(where: Path) -> Iterator[Path]:
    """A file system of 64 KiB, in memory."""
    where.mkdir()
    libc = ctypes.CDLL(None, use_errno=True)
    done = libc.mount(b"tmpfs", str(where).encode(), b"tmpfs", MS_NOSUID, b"size=64k")
    require(done == 0, f"no right to mount a file system: {os.strerror(ctypes.get_errno())}")
    try:
        yield where
    finally:
        assert libc.umount(str(where).encode()) == 0


def test_a_full_disk(settings: Settings, tmp_path: Path) -> None:
    """A disk smaller than min_free_space takes no sample; a full one cannot be written at all."""
    with tiny_disk(tmp_path / "disk") as disk:
        small = changed(settings, "drakcelery", state_dir=disk, min_free_space=1024**2)
        assert "this host takes no sample" in failure(small, "host.space")
        with contextlib.suppress(OSError), (disk / "filler").open("wb", buffering=0) as filler:
            while filler.write(b"x" * 4096):
                pass
        assert "No space left on device" in failure(small, "host.state_dir")


@contextlib.contextmanager
def worker_of(node: str, uid: int) -> Iterator[None]:
    """A process that looks like a worker's main process."""
    code = "import sys; print('up', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        ["/usr/bin/env", "python3", "-c", code, f"--hostname={node}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        user=uid,
        group=uid,
        extra_groups=[],
        cwd="/",
        env={"PATH": "/usr/bin:/bin"},
    ) as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"up\n"
        yield
        worker.stdin.close()


def test_a_worker_that_may_not_write(settings: Settings) -> None:
    """An io worker of another user is found by its command line, and needs its own directory."""
    require(os.geteuid() == 0, "only root starts a process of another user")
    own = settings.drakcelery.state_dir / "io"
    own.mkdir(parents=True)
    node = f"io@{settings.drakcelery.host}"
    with worker_of(node, 65534):
        assert f"{node}, user 65534, may not write {own} " in failure(settings, "host.owners")
        os.chown(own, 65534, 65534)
        assert look(settings, "host.owners")["host.owners"].status is Status.OK


@pytest.mark.parametrize(
    ("place", "mode"),
    [(".", 0o2770), ("workspaces", 0o2770), ("workspaces", 0o757), ("engine", 0o750), ("ahead", 0o755)],
)
def test_directories_that_others_may_change(settings: Settings, place: str, mode: int) -> None:
    """Where a group may change what root's vm worker opens, the doctor names it, and the fix (S4)."""
    require(os.geteuid() == 0, "only root starts a process of another user")
    state_dir = settings.drakcelery.state_dir
    for name in ("workspaces", "engine", "ahead"):
        (state_dir / name).mkdir(parents=True, mode=0o700)
    with worker_of(f"vm@{settings.drakcelery.host}", 0):
        assert look(settings, "host.owners")["host.owners"].status is Status.OK
        (state_dir / place).chmod(mode)
        said = failure(settings, "host.owners")
    assert f"{state_dir / place} " in said
    assert "systemd-tmpfiles --create" in said


def test_a_directory_above_that_others_may_change(settings: Settings) -> None:
    """Who may rename a directory above can lead root elsewhere (S4)."""
    require(os.geteuid() == 0, "only root starts a process of another user")
    state_dir = settings.drakcelery.state_dir
    state_dir.mkdir(parents=True, mode=0o700)
    state_dir.parent.chmod(0o777)
    with worker_of(f"vm@{settings.drakcelery.host}", 0):
        assert f"{state_dir.parent} may be changed by others" in failure(settings, "host.owners")


@pytest.mark.parametrize("mode", [0o660, 0o646, 0o606])
def test_a_file_that_others_may_change(settings: Settings, tmp_path: Path, mode: int) -> None:
    """The file names programs that root's vm worker runs: who may write it is root in effect (S4)."""
    path = tmp_path / "config.ini"
    path.touch()
    on_xen = changed(settings, "drakcelery", engine="drakvuf")
    named = on_xen.model_copy(update={"source": path})
    path.chmod(0o640)
    assert look(named, "settings.private")["settings.private"].status is Status.OK
    path.chmod(mode)
    assert "can be changed by others" in failure(named, "settings.private")


def test_people_in_the_group_of_the_services(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody who is in that group needs no more than the other one, and the doctor says which (S4)."""
    settings.drakcelery.state_dir.mkdir(parents=True)
    assert look(settings, "host.people")["host.people"].status is Status.OK
    group = grp.struct_group(("drakcelery", "x", 987, ["drakcelery", "ann"]))
    monkeypatch.setattr(grp, "getgrgid", lambda _: group)
    finding = look(settings, "host.people")["host.people"]
    assert finding.status is Status.WARNING
    assert "ann in the group drakcelery" in finding.said
    assert "gpasswd --add ann drakcelery-operators" in finding.commands


# Engines


def test_the_emulator(settings: Settings) -> None:
    """It runs its trial sample; with too little memory for that, the check says why not."""
    emulating = changed(settings, "drakcelery", engine="emulator")
    finding = look(emulating, "engine.emulator")["engine.emulator"]
    if finding.status is Status.FAILED and "not installed" in finding.said:
        require(False, finding.said)
    assert finding.status is Status.OK, finding
    assert not settings.drakcelery.state_dir.exists()
    poor = emulating.model_copy(update={"emulator": EmulatorSection().model_copy(update={"memory_limit": 1})})
    assert "emulator" in failure(poor, "engine.emulator")


def test_replay(settings: Settings, tmp_path: Path) -> None:
    """The directory of the run has to be there, and to have something in it."""

    def with_run(run_dir: Path | None) -> Settings:
        chosen_engine = changed(settings, "drakcelery", engine="replay")
        return chosen_engine.model_copy(update={"replay": ReplaySection(run_dir=run_dir)})

    assert "[replay] run_dir" in failure(with_run(None), "engine.replay")
    assert "neither drakmon.log" in failure(with_run(tmp_path), "engine.replay")
    (tmp_path / "drakmon.log").write_text("{}\n")
    assert look(with_run(tmp_path), "engine.replay")["engine.replay"].status is Status.OK


def test_a_machine_without_slots(settings: Settings) -> None:
    """Where no guests run, no engine is looked at."""
    found = look(settings.model_copy(update={"slots": {}}), "engine", "xen")
    looked = {one.status for name, one in found.items() if name.startswith(("engine.", "xen."))}
    assert looked == {Status.SKIPPED}


@pytest.fixture(params=["0.19.0", "0.21.0"])
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[XenHost]:
    """A simulated Xen host."""
    with XenHost.create(tmp_path / "xen", version=request.param) as host:
        yield host


@pytest.fixture
def no_ipv6(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What this machine's kernel does with IPv6 is no matter."""
    monkeypatch.setattr(ipv6, "CONF", tmp_path / "missing")


def on(host: XenHost, settings: Settings) -> Settings:
    """The engine drakvuf, with the tools of *host*."""
    tools = {name: str(host.tool(name)) for name in ("drakrun", "drakvuf", "injector", "xl", "tcpdump")}
    section = DrakvufSection(**tools, etc_dir=host.etc, lib_dir=host.lib, run_dir=host.run)
    return changed(settings, "drakcelery", engine="drakvuf").model_copy(update={"drakvuf": section})


@pytest.mark.usefixtures("no_ipv6")
def test_a_xen_host(settings: Settings, host: XenHost) -> None:
    """The versions are told; the simulated Xen was started without all options, and they are named."""
    found = look(on(host, settings), "xen")
    assert found["xen.tools"].status is Status.OK, found["xen.tools"]
    sandbox = "0.21.0" if host.version == "0.21.0" else "0.19 or 0.20"
    assert f"DRAKVUF Sandbox {sandbox}, DRAKVUF 1.1-" in found["xen.tools"].said
    assert "tcpdump version 4.99.3" in found["xen.tools"].said
    assert found["xen.installation"].status is Status.OK, found["xen.installation"]
    assert found["xen.programs"].status is Status.OK, found["xen.programs"]
    assert found["xen.network"].status is Status.OK, found["xen.network"]
    assert "no guest was started since the boot" in found["xen.network"].said
    assert found["xen.hypervisor"].status is Status.OK, found["xen.hypervisor"]
    assert "force-ept=1" in found["xen.commandline"].said
    assert host.guests() == ()


def test_guests_and_ipv6(
    settings: Settings, host: XenHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine switches it off for its guests; who starts one by hand is told how."""
    monkeypatch.setattr(ipv6, "CONF", tmp_path)
    for name, value in (("drak1", "1"), ("drak2", "0"), ("drakX", "0"), ("eth0", "0")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "disable_ipv6").write_text(value)
    found = look(on(host, settings), "xen.network")["xen.network"]
    assert (found.status, found.commands) == (
        Status.WARNING,
        ("sysctl -w net.ipv6.conf.drak2.disable_ipv6=1",),
    )
    assert "they may reach it from drak2" in found.said


def test_a_xen_host_that_lets_guests_out(settings: Settings, host: XenHost) -> None:
    """The chains that are there in part, and the programs that drakrun misses, have their remedy (H1, H2)."""
    ours = on(host, settings)
    host.start("vm-1")
    assert "guests are kept from this host" in look(ours, "xen.network")["xen.network"].said
    host.iptables("-D INPUT -j DRAKRUN_INP")
    found = look(ours, "xen.network")["xen.network"]
    assert (found.status, found.commands) == (Status.FAILED, ("iptables -I INPUT -j DRAKRUN_INP",))
    assert "no sample runs here: iptables has no INPUT -j DRAKRUN_INP" in found.said
    host.iptables("-I INPUT -j DRAKRUN_INP")
    host.tool("dnsmasq").unlink()
    missing = look(ours, "xen.programs")["xen.programs"]
    if missing.status is Status.FAILED:  # this machine may have one of its own
        assert missing.commands == ("apt-get install dnsmasq",)
        assert "drakrun needs dnsmasq" in failure(ours, "xen.installation")


def test_faults_of_a_xen_host(settings: Settings, host: XenHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tools that are missing, an installation that is not finished, a Xen that is dead or hangs."""
    ours = on(host, settings)
    host.fail("xl list", "fails")
    assert "Xen does not answer" in failure(ours, "xen.hypervisor")
    monkeypatch.setattr("drakcelery.doctor.xen.TOOL_SECONDS", 2.0)
    host.fail("xl info", "hangs")
    assert "did not end within 2 s" in failure(ours, "xen.hypervisor")
    monkeypatch.undo()
    host.snapshot.unlink()
    assert "snapshot.sav" in failure(ours, "xen.installation")
    host.tool("tcpdump").unlink()
    said = failure(ours, "xen.tools")
    assert f"not there, or not to be executed: {host.tool('tcpdump')}" in said
