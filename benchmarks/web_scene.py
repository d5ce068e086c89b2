"""What somebody has who opens Flower's pages after a busy week: for :mod:`benchmarks.web`.

A Valkey with many analyses that are over, a simulated fleet in full use, samples that wait, and watched runs;
a SeaweedFS with analyses whose reports are as large as ours get, one of them with a log of 10⁶ events; and a
Flower that has seen as many Celery tasks as it keeps.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import redis

from benchmarks.report import write_log
from benchmarks.simulation import IDENTITY, quiet
from benchmarks.tools import busy_fleet, kept_alive, past
from drakcelery import settings
from drakcelery.artifacts.metadata import METADATA
from drakcelery.embedded.ports import LOOPBACK, assign, release
from drakcelery.embedded.services import Services
from drakcelery.embedded.supervision import Server
from drakcelery.flower.report.reading import KEPT
from drakcelery.model.analysis import State
from drakcelery.wiring import make_client
from tests.large_reports import hostile_report
from tests.objects import client_of
from tests.watched import remember

LOG = "regmon.log"
LINE = 300
"""Bytes of a line of it, or a little more."""
ANALYSES = KEPT + 2
"""With a stored report: more than Flower keeps in memory, so that each is read anew when its turn comes."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A Flower that answers."""

    address: str
    pid: int
    uids: tuple[str, ...]
    """Analyses with a report; the first has a log, too."""


@contextlib.contextmanager
def scene(directory: Path, *, records: int, events: int, tasks: int) -> Iterator[Scene]:
    """All that, below *directory*, for the block."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(quiet())
        services = stack.enter_context(Services(directory / "servers"))
        secret = services.plan.valkey_password.get_secret_value()
        client = stack.enter_context(
            redis.Redis(
                host=LOOPBACK,
                port=services.redis.port,
                password=secret,
                decode_responses=True,
                socket_timeout=30,
            )
        )
        ledger = past(client, records)
        remember(ledger)
        stack.enter_context(kept_alive(busy_fleet(client)))
        uids = tuple(one.uid for one in ledger.done(newest=2 * ANALYSES) if one.state is State.PUBLISHED)
        _store(services, uids[:ANALYSES], directory / LOG, events)
        config = _configure(directory / "drakcelery.ini", services)
        flower, address = stack.enter_context(_flower(directory, config))
        _send_tasks(config, tasks)
        yield Scene(address=address, pid=flower.pid, uids=uids[:ANALYSES])


def _store(services: Services, uids: tuple[str, ...], log: Path, events: int) -> None:
    """A report for each of *uids*, and a log for the first."""
    server, bucket = client_of(services.s3), settings.Settings().drakcelery.bucket
    server.make_bucket(bucket)
    report = log.with_name("report.json")
    for uid in uids:
        report.write_text(hostile_report(uid).model_dump_json(), encoding="utf-8")
        server.fput_object(bucket, f"{uid}/{report.name}", str(report))
        server.put_object(bucket, f"{uid}/{METADATA}", io.BytesIO(b"{}"), 2)
    write_log(log, events * LINE)
    server.fput_object(bucket, f"{uids[0]}/{log.name}", str(log))
    log.unlink()


def _configure(path: Path, services: Services) -> Path:
    """Write a configuration file."""
    s3 = services.s3
    secret = s3.secret_key.get_secret_value() if s3.secret_key else ""
    path.touch(mode=0o600)
    path.write_text(
        f"[redis]\nhost = {LOOPBACK}\nport = {services.redis.port}\n"
        f"password = {services.plan.valkey_password.get_secret_value()}\n"
        f"[s3]\naddress = {s3.address}\naccess_key = {s3.access_key}\nsecret_key = {secret}\n"
        f"bucket = {s3.bucket}\n[drakrun]\nidentity = {IDENTITY}\n",
        encoding="utf-8",
    )
    return path


@contextlib.contextmanager
def _flower(directory: Path, config: Path) -> Iterator[tuple[Server, str]]:
    """The process, and where it answers."""
    port = assign(("flower",), kept={})["flower"]
    command = (sys.executable, "-m", "celery", "-A", "drakcelery", "flower", f"--port={port}")
    environment = {**os.environ, "DRAKCELERY_CONFIG": str(config)}
    server = Server.start("Flower", command, log=directory / "flower.log", environment=environment)
    address = f"http://{LOOPBACK}:{port}"

    def answers() -> bool:
        try:
            with urllib.request.urlopen(f"{address}/healthcheck") as answer:  # noqa: S310 our own address
                return bool(answer.status == 200)
        except OSError:
            return False

    try:
        server.wait_ready(answers, timeout=120)
        yield server, address
    finally:
        server.stop(grace=10)
        release([port])


def _send_tasks(config: Path, tasks: int) -> None:
    """Events of so many tasks that are over, for Flower's own pages."""
    app = make_client(settings.load(config))
    with app.connection_for_write() as connection, app.events.Dispatcher(connection) as dispatcher:
        for number in range(tasks):
            uid = f"task-{number}"
            dispatcher.send("task-received", uuid=uid, name="drakcelery.run", args="('a',)", kwargs="{}")
            dispatcher.send("task-succeeded", uuid=uid, result="None", runtime=1.0, timestamp=time.time())
