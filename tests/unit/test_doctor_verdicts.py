"""What the doctor makes of what it finds: pure functions, given what servers and tools say."""

from __future__ import annotations

import json
import os
import stat

import pytest
from karton.core.backend import KartonBackendBase

from drakcelery import __version__
from drakcelery.doctor import machine, ownership, redis_server, xen
from drakcelery.doctor.finding import Status
from drakcelery.doctor.karton_side import bind_verdict, consumers_verdict
from drakcelery.doctor.transport import versions_verdict, workers_verdict
from drakcelery.engines.drakvuf import xen_options
from drakcelery.ingress.bind import bind_of
from drakcelery.settings import DrakcelerySection, Settings

GIB = 1024**3


@pytest.mark.parametrize(
    ("info", "status", "words"),
    [
        ({"redis_version": "7.2.4", "role": "master"}, Status.OK, "Redis 7.2.4"),
        ({"redis_version": "7.2.4", "valkey_version": "9.1.0"}, Status.OK, "Valkey 9.1.0"),
        ({"redis_version": "6.2.0"}, Status.OK, "6.2.0"),
        ({"redis_version": "6.0.16"}, Status.FAILED, "6.2 is needed"),
        ({"redis_version": "7.2.4", "role": "slave"}, Status.FAILED, "replica"),
        ({"redis_version": "7.2.4", "redis_mode": "cluster"}, Status.FAILED, "cluster"),
    ],
)
def test_server(info: redis_server.Info, status: Status, words: str) -> None:
    """An old Redis, a replica and a cluster are refused."""
    verdict = redis_server.server_verdict(info)
    assert verdict.status is status
    assert words in verdict.said


@pytest.mark.parametrize(
    ("info", "save", "status"),
    [
        ({"aof_enabled": 1, "aof_last_write_status": "ok"}, "", Status.OK),
        ({"aof_enabled": 1, "aof_last_write_status": "err"}, "", Status.FAILED),
        ({"aof_enabled": 0, "rdb_last_bgsave_status": "err"}, "3600 1", Status.FAILED),
        ({"aof_enabled": 0}, "3600 1", Status.WARNING),
        ({"aof_enabled": 0}, None, Status.WARNING),
        ({"aof_enabled": 0}, "", Status.FAILED),
    ],
)
def test_durable(info: redis_server.Info, save: str | None, status: Status) -> None:
    """Only an append-only file keeps all; a Redis that cannot write its file refuses writes."""
    assert redis_server.durable_verdict(info, save, None).status is status


@pytest.mark.parametrize(
    ("policy", "limit", "used", "status"),
    [
        ("noeviction", 0, 5, Status.OK),
        ("noeviction", 100, 50, Status.OK),
        ("noeviction", 100, 95, Status.WARNING),
        ("allkeys-lru", 100, 1, Status.FAILED),
        ("volatile-ttl", 100, 1, Status.WARNING),
        ("allkeys-lru", 0, 1, Status.WARNING),
    ],
)
def test_memory(policy: str, limit: int, used: int, status: Status) -> None:
    """A Redis that throws keys away loses samples; without a limit it never comes to that."""
    info = {"maxmemory_policy": policy, "maxmemory": limit, "used_memory": used}
    verdict = redis_server.memory_verdict(info)
    assert verdict.status is status
    assert (policy in verdict.said) or policy == "noeviction"


@pytest.mark.parametrize(
    ("ours", "status", "words"),
    [
        (1000.0, Status.OK, "0.0 s from"),
        (1004.9, Status.OK, "4.9 s from"),
        (1060.0, Status.WARNING, "60.0 s ahead of Redis'"),
        (940.0, Status.WARNING, "60.0 s behind Redis'"),
        (4600.0, Status.WARNING, "other S3 clients may be refused"),
    ],
)
def test_clock(ours: float, status: Status, words: str) -> None:
    """More than five seconds are a warning with the figure; a quarter of an hour is more than S3 takes."""
    verdict = machine.clock_verdict(ours, 1000.0, way=0.01)
    assert verdict.status is status
    assert words in verdict.said


def test_a_slow_answer_is_no_wrong_clock() -> None:
    """Redis may have looked at its clock at any time while we waited."""
    assert machine.clock_verdict(1006.0, 1000.0, way=2.0).status is Status.OK


@pytest.mark.parametrize(
    ("free", "status"), [(1 * GIB, Status.FAILED), (3 * GIB, Status.WARNING), (50 * GIB, Status.OK)]
)
def test_space(free: int, status: Status) -> None:
    """Below min_free_space a host takes nothing; above it there has to be room for each slot."""
    assert machine.space_verdict(free, 2, DrakcelerySection()).status is status


@pytest.mark.parametrize(
    ("uid", "groups", "mode", "may"),
    [
        (0, (), 0o000, True),
        (5, (), 0o700, True),
        (5, (7,), 0o070, False),
        (6, (7,), 0o070, True),
        (6, (7,), 0o707, False),
        (6, (8,), 0o772, True),
        (6, (8,), 0o770, False),
    ],
)
def test_may_write(uid: int, groups: tuple[int, ...], mode: int, may: bool) -> None:
    """Owner, else group, else others: the first that fits decides, as in the kernel."""
    found = os.stat_result((stat.S_IFDIR | mode, 1, 1, 1, 5, 7, 0, 0, 0, 0))
    assert ownership.may_write(found, ownership.Worker(node="io@h", uid=uid, groups=frozenset(groups))) is may


OURS = bind_of(Settings())


def bound(**changes: object) -> str:
    """A bind under our identity, as Karton serializes it."""
    return KartonBackendBase.serialize_bind(OURS._replace(**changes))


@pytest.mark.parametrize(
    ("there", "status", "words"),
    [
        (None, Status.WARNING, "drops every sample"),
        (bound(), Status.OK, "with our filters"),
        (bound(filters=[{"type": "sample"}]), Status.FAILED, '[{"type": "sample"}]'),
        (bound(info="DRAKRUN"), Status.WARNING, "another program: 'DRAKRUN'"),
        (bound(info="\x1b[31m", filters=[{"a": "b"}]), Status.FAILED, "'�[31m'"),
        (bound(service_version="0.0.1"), Status.WARNING, "0.0.1"),
        (json.dumps([{"type": "sample"}]), Status.FAILED, "does not say what it is"),
    ],
)
def test_bind(there: str | None, status: Status, words: str) -> None:
    """Other filters fail; another program or version with ours is a warning; Karton 2's binds are read."""
    verdict = bind_verdict(OURS, there)
    assert verdict.status is status
    assert words in verdict.said


INGRESS = {"name": "karton.x", "cmd": "evalsha", "lib-name": "redis-py", "addr": "10.0.0.1:5"}


@pytest.mark.parametrize(
    ("others", "status"),
    [
        ([], Status.OK),
        ([{"name": "karton.y", "cmd": "blpop", "lib-name": "redis-py"}], Status.OK),
        ([{**INGRESS, "cmd": "blpop"}], Status.FAILED),
        ([{**INGRESS, "name": "karton.x?karton_version=5", "cmd": "blpop"}], Status.FAILED),
        ([{**INGRESS, "lib-name": ""}], Status.FAILED),
    ],
)
def test_consumers(others: list[dict[str, str]], status: Status) -> None:
    """A consumer that waits, or one that is as old as v0.18, is told from our ingress."""
    verdict = consumers_verdict("karton.x", [INGRESS, *others])
    assert verdict.status is status
    assert status is Status.OK or "10.0.0.1" in verdict.said


def test_a_redis_that_tells_no_library() -> None:
    """Before Redis 7.2 no connection has a library's name, and that means nothing."""
    clients = [{key: value for key, value in INGRESS.items() if key != "lib-name"}]
    assert consumers_verdict("karton.x", clients).status is Status.OK
    assert consumers_verdict("karton.z", clients).status is Status.WARNING


@pytest.mark.parametrize(
    ("nodes", "hosts", "known", "status", "words"),
    [
        (("vm@a", "io@a"), ("a",), ("a",), Status.OK, "io@a, vm@a answered"),
        (("vm@a",), ("a",), ("a",), Status.FAILED, "io@a did not"),
        (("io@a",), (), ("a",), Status.FAILED, "vm@a did not"),
        ((), ("a",), ("a",), Status.FAILED, "nobody answered"),
        ((), (), ("a",), Status.WARNING, "no worker answers"),
        (("vm@a", "io@a"), ("a",), ("a", "b"), Status.WARNING, "nothing is heard of b"),
        (("vm@a", "io@a", "celery@x"), ("a",), ("a",), Status.OK, "io@a, vm@a answered"),
    ],
)
def test_workers(
    nodes: tuple[str, ...], hosts: tuple[str, ...], known: tuple[str, ...], status: Status, words: str
) -> None:
    """Each host has both workers; a host of the last week that is silent is named."""
    verdict = workers_verdict(nodes, hosts=hosts, known=known)
    assert verdict.status is status
    assert words in verdict.said


def test_versions() -> None:
    """A worker of another version, or one too old to say, is named."""
    assert versions_verdict({"vm@a": __version__}).status is Status.OK
    assert versions_verdict({}).status is Status.SKIPPED
    verdict = versions_verdict({"vm@a": __version__, "vm@b": "0.0.9", "io@b": {"error": "KeyError()"}})
    assert verdict.status is Status.WARNING
    assert "io@b an older one, vm@b 0.0.9" in verdict.said


RIGHT = " ".join(f"{key}={value}" for key, value in xen_options.RECOMMENDED.items())


@pytest.mark.parametrize(
    ("line", "check", "status", "words"),
    [
        (f"placeholder {RIGHT} sched=credit", "fail", Status.OK, "scheduler: credit"),
        (f"placeholder {RIGHT}", "fail", Status.OK, "scheduler: Xen's own"),
        (RIGHT.replace("altp2m=1", "altp2m=0"), "fail", Status.FAILED, "without altp2m=1"),
        (RIGHT.replace("altp2m=1", "altp2m=0"), "ignore", Status.WARNING, "xen_cmdline_check=ignore"),
        ("", "fail", Status.FAILED, "force-ept=1"),
    ],
)
def test_xen_command_line(line: str, check: str, status: Status, words: str) -> None:
    """The setting decides how much a missing option matters; the remedy names just what is missing."""
    verdict = xen.commandline_verdict(f"host : x\nxen_commandline : {line}\n", check=check)
    assert verdict.status is status
    assert words in verdict.said
    assert status is Status.OK or "altp2m=1" in str(verdict.remedy)


def test_versions_of_the_tools() -> None:
    """DRAKVUF's and DRAKVUF Sandbox's versions are read as they print them."""
    assert xen.is_recent("1.1-8107f115")
    assert xen.is_recent("1.2")
    assert not xen.is_recent("0.9-abc")
    assert xen.sandbox_version("[…][INFO] DRAKVUF Sandbox version: 0.21.0") == "0.21.0"
    assert xen.sandbox_version("Error: No such command 'version'.") is None
