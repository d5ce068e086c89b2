"""DRAKVUF Sandbox's page on joining a Karton, followed step by step with the names here.

The page is *Karton integration* of its documentation before v0.19; docs/migration.md has a row for each step.
The Karton is real: Valkey, SeaweedFS with a user for each, Karton's own karton-system, a producer and two
consumers. The machine is a staging directory; its units are enabled by systemd's own tool and started by us.
"""

from __future__ import annotations

import configparser
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from karton.core import Config
from karton.core.task import TaskState
from minio import Minio

from drakcelery import settings
from drakcelery.embedded import supervision
from drakcelery.embedded.ports import assign
from drakcelery.embedded.services import Services
from drakcelery.ledger import Ledger
from drakcelery.wiring import make_ledger
from tests.acceptance import sandboxed
from tests.acceptance.deployment import PROGRAMS, Receiver, execute
from tests.commands import extract
from tests.conftest import require
from tests.identities import seaweedfs
from tests.reference import ROOT
from tests.servers import lent
from tests.waiting import wait_until

pytestmark = pytest.mark.slow
USERS = {"karton": ["Admin", "Read", "Write", "List"], "reader": ["Read:karton", "List:karton"]}
"""Karton's own user, and that of its services: it may read Karton's bucket and no other."""
OLD = ("drakrun@1", "drakrun@2", "drak-postprocess@1", "drak-system", "drak-web", "drak-minio")
WANTS = "etc/systemd/system/default.target.wants"
ROLES = ("ingress", "vm", "io", "flower")
PAGE = (ROOT / "docs" / "migration.md").read_text().split("## Its page on joining", 1)[1].split("\n## ")[0]
CONSUMER = "karton.example-consumer"


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A machine that had DRAKVUF Sandbox v0.18, and the Karton that it is to work for."""

    root: Path
    redis: settings.RedisSection
    s3: str
    """Host and port."""
    said: list[str] = field(default_factory=list)
    """What the last ``init`` printed."""
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def config(self) -> Path:
        """The file that init writes."""
        return self.root / "etc/drakcelery/config.ini"

    def etc(self, name: str, sections: Mapping[str, Mapping[str, object]]) -> Path:
        """Write an INI file below /etc."""
        path = self.root / "etc" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        parser = configparser.ConfigParser(interpolation=None)
        parser.read_dict(sections)
        with path.open("w") as file:
            parser.write(file)
        return path

    def karton(self, user: str) -> dict[str, dict[str, object]]:
        """Karton's configuration for one of its users of S3."""
        password = self.redis.password
        assert password is not None
        return {
            "redis": {
                "host": self.redis.host,
                "port": self.redis.port,
                "password": password.get_secret_value(),
            },
            "s3": {
                "address": f"http://{self.s3}",
                "access_key": f"{user}-key",
                "secret_key": f"{user}-secret",
                "bucket": "karton",
            },
        }

    def client(self, user: str) -> Minio:
        """S3, as one of the users."""
        return Minio(self.s3, access_key=f"{user}-key", secret_key=f"{user}-secret", secure=False)

    def type(self, command: str) -> subprocess.CompletedProcess[str]:
        """Type a command of the page here: /etc is the staging directory's."""
        words = command.replace(" /etc/", f" {self.root}/etc/").split()
        if words[:2] == ["drakcelery", "init"]:
            words += ["--root", str(self.root)]
        if words[0] == "systemctl":
            words.insert(1, f"--root={self.root}")
            words = [word for word in words if word != "--now"]  # systemd does not run here
        program = PROGRAMS / words[0] if (PROGRAMS / words[0]).exists() else Path(words[0])
        return execute(program, *words[1:], config=self.config)

    def init(self, command: str) -> str:
        """Type an ``init``; what it printed."""
        done = self.type(command)
        assert done.returncode == 0, done.stderr
        self.said[:] = [done.stdout]
        return done.stdout

    def next(self, what: str) -> None:
        """Type the commands with *what* in them that the last init left to do."""
        shown = self.said[0].split("\nNext", 1)[1]
        commands = [line.strip() for line in shown.splitlines() if what in line]
        assert commands, shown
        for command in commands:
            done = self.type(command)
            assert done.returncode == 0, done.stderr

    def enabled(self) -> set[str]:
        """The services that would start with this machine, without suffix."""
        links = (self.root / "etc/systemd/system").glob("*.wants/*")
        return {path.name.removesuffix(".service") for path in links}


@pytest.fixture
def machine(services: Services, tmp_path: Path) -> Iterator[Machine]:
    """The machine before the first step, with its old files and services, and Karton's own file."""
    require(shutil.which("systemctl") is not None, "systemctl is not installed (package systemd)")
    (tmp_path / "weed").mkdir()
    with lent(services) as servers, seaweedfs(tmp_path / "weed", USERS) as address:
        here = Machine(root=tmp_path / "machine", redis=servers.redis, s3=address)
        local: dict[str, Mapping[str, object]] = {
            "redis": {"host": "localhost", "port": 6379},
            "minio": {
                "address": "localhost:9000",
                "bucket": "karton",
                "secure": 0,
                "access_key": "",
                "secret_key": "",
            },
        }
        here.etc("drakrun/config.ini", {**local, "drakrun": {"net_enable": 0, "analysis_timeout": 30}})
        here.etc("drakcore/config.ini", {**local, "drakmon": {"system_disable": 0}})
        (here.root / "etc/drakrun/install.json").write_text("{}")
        here.etc("karton/karton.ini", here.karton("karton"))
        (here.root / WANTS).mkdir(parents=True)
        for name in OLD:
            unit = here.root / f"etc/systemd/system/{name.partition('@')[0]}{'@' * ('@' in name)}.service"
            unit.write_text("[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=default.target\n")
            (here.root / WANTS / f"{name}.service").symlink_to(unit)
        try:
            yield here
        finally:
            supervision.end_marked(str(here.root), grace=0)
            for process in here.processes:
                process.wait()


def start(machine: Machine, name: str, *command: str | Path, **variables: str) -> subprocess.Popen[bytes]:
    """Start a program of Karton's side, which ends with the test."""
    with (machine.root / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, supervision.MARK: str(machine.root), **variables},
            cwd=ROOT,
            preexec_fn=supervision._die_with(os.getpid()),
        )
    machine.processes.append(process)
    return process


def test_each_step_has_its_row() -> None:
    """The table has the page's steps, in order, and no other."""
    rows = re.findall(r"^\| (\d|From the start)", PAGE, flags=re.MULTILINE)
    assert rows == ["1", "2", "3", "4", "From the start", "5", "6", "7"]


@pytest.mark.parametrize("way", ["named", "copied"])
def test_settings_of_karton_count(machine: Machine, way: str) -> None:
    """Steps 2 and 3: Karton's file is named, or copied into the old ones by hand, as their page says.

    As long as neither is done this machine's own Redis counts, and the report says so.
    """
    machine.etc("drakcore/config.ini", {"drakmon": {"system_disable": 1}})
    before = machine.init("drakcelery init --dry-run")
    assert f"differs from {machine.root}/etc/drakrun/config.ini, its [redis] counts" in before
    if way == "named":
        [command] = [one.text for one in extract(PAGE) if "karton.ini" in one.text]
        machine.init(command)
    else:
        copied = machine.karton("karton")
        machine.etc("drakrun/config.ini", {**copied, "drakrun": {"net_enable": 0, "analysis_timeout": 30}})
        machine.init("drakcelery init")
    ours = settings.load(machine.config, environment={})
    assert (ours.redis.address(), ours.s3.address) == (machine.redis.address(), f"http://{machine.s3}")
    assert (ours.s3.access_key, ours.s3.bucket) == ("karton-key", "karton")
    assert (ours.drakrun.analysis_timeout, ours.drakmon.system_disable) == (30, True)
    assert not machine.config.with_name("drakcelery-system.service").exists()


def test_the_page_from_top_to_bottom(machine: Machine, tmp_path: Path) -> None:
    """Every step, and then a sample that a producer sent comes back to Karton's services as an analysis."""
    own = start(
        machine,
        "karton-system",
        *(PROGRAMS / "karton-system", "--setup-bucket", "--gc-interval", "1"),
        *("--config-file", machine.root / "etc/karton/karton.ini"),
    )
    forbid_a_second_karton_system(machine)
    copy_the_configuration(machine)
    stop_the_old_services(machine)
    machine.next("systemctl enable")
    assert machine.enabled() == {"drak-web", "drak-minio", *(f"drakcelery-{role}" for role in ROLES)}
    ledger = start_the_services(machine)
    grant_the_bucket(machine)
    try:
        submit_and_consume(machine, ledger, tmp_path)
    finally:
        ledger._redis.close()
    assert own.poll() is None


def forbid_a_second_karton_system(machine: Machine) -> None:
    """Step 2: the old file says it; then no unit is written, and our own refuses to start."""
    machine.etc("drakcore/config.ini", {"drakmon": {"system_disable": 1}})


def copy_the_configuration(machine: Machine) -> None:
    """Step 3, with the flags of a machine that joins a Karton from the start."""
    [command] = [one.text for one in extract(PAGE) if "karton.ini" in one.text]
    assert "`drakcelery init --only web --only drakrun`" in PAGE
    said = machine.init(command.replace("init ", "init --only web --only drakrun "))
    assert said.startswith("web is flower here\ndrakrun is ingress, vm, io here\n")
    units = {path.stem for path in (machine.root / "etc/systemd/system").glob("drakcelery-*.service")}
    assert units == {f"drakcelery-{role}" for role in ROLES}
    refused = machine.type("drakcelery system")
    assert refused.returncode == 1
    assert "[drakmon] system_disable=1: a karton-system runs elsewhere" in refused.stderr


def stop_the_old_services(machine: Machine) -> None:
    """Step 1: ``init`` has named those that would do the same work, drak-system among them."""
    machine.next("disable --now")
    assert machine.enabled() == {"drak-web", "drak-minio"}


def start_the_services(machine: Machine) -> Ledger:
    """Step 4: what systemd does with the units, with the emulator in place of VMs."""
    state, port = machine.root / "var/lib/drakcelery", assign(("flower",), kept={})["flower"]
    state.mkdir(parents=True)
    environment = {
        supervision.MARK: str(machine.root),
        "DRAKCELERY_DRAKCELERY_STATE_DIR": str(state),
        "DRAKCELERY_DRAKCELERY_HOST": "joined",
        "DRAKCELERY_DRAKCELERY_ENGINE": "emulator",
        "DRAKCELERY_DRAKCELERY_MIN_FREE_SPACE": "0",
        "DRAKCELERY_FLOWER_PORT": str(port),
    }
    for role in ROLES:
        process = sandboxed.start(
            machine.root / f"etc/systemd/system/drakcelery-{role}.service",
            child=supervision._die_with(os.getpid()),
            config=machine.config,
            environment=environment,
            log=machine.root / f"{role}.log",
        )
        machine.processes.append(process)
    ledger = make_ledger(settings.load(machine.config, environment={}))
    wait_until(lambda: ledger.bound() and ledger.fleet.hosts(), "ingress and vm worker are there")
    return ledger


def grant_the_bucket(machine: Machine) -> None:
    """Step 5: the services' user may read Karton's bucket, and from now on that of the analyses.

    Nothing was analysed yet: the command makes the bucket.
    """
    assert not machine.client("karton").bucket_exists("drakrun")
    done = machine.type("drakcelery bucket grant reader --apply --json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["Statement"]
    assert list(machine.client("reader").list_objects("drakrun")) == []


def submit_and_consume(machine: Machine, ledger: Ledger, to: Path) -> None:
    """Steps 6 and 7, by our examples and by a service that wants to know exactly."""
    config = machine.etc("karton/reader.ini", {**machine.karton("reader"), "logging": {"enable_publish": 0}})
    consumer = start(
        machine, "consumer", sys.executable, "examples/consumer.py", "--once", KARTON_CONFIG_FILE=str(config)
    )
    receiver = Receiver(Config(str(config)), to)
    binds = receiver.backend.get_binds
    wait_until(lambda: any(bind.identity == CONSUMER for bind in binds()), "the consumer is bound")
    producer = str(machine.root / "etc/karton/karton.ini")
    sent = execute(
        sys.executable,
        *(ROOT / "examples/push_sample.py", ROOT / "samples/behaviour.exe"),
        config=machine.config,
        KARTON_CONFIG_FILE=producer,
    )
    assert sent.returncode == 0, sent.stderr
    uid = wait_until(lambda: [one.uid for one in ledger.live()], "ingress has taken it")[0]
    received = receiver.receive(uid)
    assert consumer.wait(60) == 0, (machine.root / "consumer.log").read_text()
    shown = (machine.root / "consumer.log").read_text()
    assert re.search(rf"^{uid} by emulator .*on joined$", shown, re.MULTILINE), shown
    check_the_analysis(received.task.headers, received.task.payload, set(received.resources))
    survives_the_collector(machine, receiver, uid)
    receiver.backend.s3.close()


def check_the_analysis(headers: Mapping[str, object], payload: Mapping[str, object], names: set[str]) -> None:
    """The page's table of headers and payload; no keys of TLS, as the program speaks none."""
    assert {"type": "analysis", "kind": "drakrun"}.items() <= headers.items()
    assert {"sample", "procmon.log", "filetracer.log", "dumps.zip", "dumps.pcap"} <= names
    dumps, metadata = payload["dumps_metadata"], payload["metadata"]
    assert isinstance(dumps, list)
    assert isinstance(metadata, dict)
    assert dumps
    for one in dumps:
        assert isinstance(one["filename"], str)
        assert int(one["base_address"], 16) > 0
    for name in ("sample_sha256", "magic_output"):
        assert isinstance(metadata[name], str)
    for name in ("time_started", "time_finished", "snapshot_version"):
        assert isinstance(metadata[name], int)


def survives_the_collector(machine: Machine, consumer: Receiver, uid: str) -> None:
    """The page's note: Karton's collector empties its own bucket once nobody needs a task, and ours stays."""
    admin = machine.client("karton")
    for task in consumer.backend.iter_all_tasks():
        if task.status is not TaskState.FINISHED:
            consumer.backend.set_task_status(task, TaskState.FINISHED)
    wait_until(
        lambda: not list(admin.list_objects("karton", recursive=True)), "Karton's collector went round"
    )
    kept = {str(one.object_name) for one in admin.list_objects("drakrun", prefix=f"{uid}/", recursive=True)}
    assert {f"{uid}/metadata.json", f"{uid}/dumps.zip", f"{uid}/procmon.log"} <= kept
