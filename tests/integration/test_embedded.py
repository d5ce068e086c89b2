"""The embedded stack: it starts, keeps its data, and leaves nothing behind, however it ends."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import stat
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import psutil
import pytest
import redis

from drakcelery import settings
from drakcelery.embedded.background import background
from drakcelery.embedded.ports import LOOPBACK, is_free
from drakcelery.embedded.services import BUCKET, Services
from drakcelery.embedded.state import Running, running
from drakcelery.embedded.supervision import marked
from drakcelery.errors import StackError
from tests.objects import client_of
from tests.waiting import wait_until

pytestmark = pytest.mark.usefixtures("server_programs")

IDLE = "import signal; signal.pause()"


def procfile(directory: Path, **programs: str) -> Path:
    """A Procfile that runs each of *programs*, which are Python code."""
    directory.mkdir(exist_ok=True)
    lines = []
    for name, code in programs.items():
        path = directory / f"{name}.py"
        path.write_text(code)
        lines.append(f"{name}: python {path}\n")
    path = directory / "Procfile"
    path.write_text("".join(lines))
    return path


@pytest.fixture
def idle(tmp_path: Path) -> Path:
    """A Procfile of one process that does nothing until it is told to end."""
    return procfile(tmp_path / "idle", idle=IDLE)


def ports_of(data_dir: Path) -> dict[str, int]:
    """The ports that the stack of *data_dir* keeps."""
    kept: dict[str, int] = json.loads((data_dir / "services.json").read_text())["ports"]
    return kept


def assert_nothing_left(data_dir: Path) -> None:
    """No process of the stack, no port, no socket file, no lock."""
    wait_until(lambda: not marked(str(data_dir)), "no process of the stack is left")
    wait_until(
        lambda: [port for port in ports_of(data_dir).values() if not is_free(port)] == [],
        "every port of the stack is free",
    )
    number = ports_of(data_dir)["s3.port"]
    assert list(Path("/tmp").glob(f"seaweedfs-*-{number}.sock")) == []  # noqa: S108 - weed's place
    assert running(data_dir) is None


def put(services: Services) -> None:
    """Leave a key in Valkey and an object in SeaweedFS."""
    with redis.Redis.from_url(services.redis.address()) as client:
        client.set("kept", "yes")
    client_of(services.s3).put_object(BUCKET, "kept", io.BytesIO(b"content"), 7)


def assert_kept(services: Services) -> None:
    """What :func:`put` left is there."""
    with redis.Redis.from_url(services.redis.address()) as client:
        assert client.get("kept") == b"yes"
    with closing(client_of(services.s3).get_object(BUCKET, "kept")) as response:
        assert response.read() == b"content"


@contextmanager
def taken(*ports: int) -> Iterator[None]:
    """Listen on *ports* for the block."""
    with ExitStack() as sockets:
        for port in ports:
            sockets.enter_context(socket.create_server((LOOPBACK, port)))
        yield


def test_servers_listen_on_loopback_only(services: Services) -> None:
    """Nobody else on the network reaches the embedded servers."""
    listening = [
        connection.laddr
        for pid in services.pids.values()
        for connection in psutil.Process(pid).net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert {address.ip for address in listening} == {LOOPBACK}
    known = set(services.plan.ports.values()) | {services.plan.ports["admin.port"] + 10000}
    assert {address.port for address in listening} <= known


def test_servers_want_credentials(services: Services) -> None:
    """Another user of the machine cannot read along."""
    with (
        redis.Redis(host=LOOPBACK, port=services.redis.port) as client,
        pytest.raises(redis.AuthenticationError),
    ):
        client.ping()
    arguments = [part for pid in services.pids.values() for part in psutil.Process(pid).cmdline()]
    assert services.plan.valkey_password.get_secret_value() not in " ".join(arguments)
    assert services.plan.s3_secret_key.get_secret_value() not in " ".join(arguments)
    assert services.plan.valkey_password.get_secret_value() not in repr(services.plan)


def test_restart_keeps_data_ports_and_credentials(tmp_path: Path) -> None:
    """What was stored is there after a restart, at the same address."""
    with Services(tmp_path) as first:
        put(first)
        plan = first.plan
    with Services(tmp_path) as second:
        assert second.plan == plan
        assert_kept(second)


def test_ports_taken_meanwhile_are_replaced(tmp_path: Path) -> None:
    """Someone else took the ports: others are used, and the data is there."""
    with Services(tmp_path) as first:
        put(first)
        lost = {name: first.plan.ports[name] for name in ("valkey", "master.port", "volume.port", "s3.port")}
    with taken(*lost.values()), Services(tmp_path) as second:
        assert not set(lost.values()) & set(second.plan.ports.values())
        assert_kept(second)


def test_killed_servers_keep_what_they_acknowledged(tmp_path: Path) -> None:
    """SIGKILL of both servers loses no acknowledged write."""
    first = Services(tmp_path)
    first.start()
    try:
        put(first)
        for pid in first.pids.values():
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: first.ended() is not None, "a server is noticed to have ended")
    finally:
        first.stop()
    with Services(tmp_path) as second:
        assert_kept(second)


def test_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    """The error has the server's own last words, and the other server is not left running."""
    with Services(tmp_path) as services:
        pids = services.pids
    manifest = tmp_path / "valkey" / "appendonlydir" / "appendonly.aof.manifest"
    manifest.write_text("file damaged\n")
    with pytest.raises(StackError, match=r"(?s)Valkey ended with status 1 .*valkey\.log.*[Mm]anifest"):
        Services(tmp_path).start()
    assert not any(psutil.pid_exists(pid) for pid in pids.values())


def test_processes_get_the_stack_s_configuration(tmp_path: Path, data_dir: Path) -> None:
    """The Procfile's processes find servers and settings by themselves, with this interpreter.

    karton-system is left out for [drakmon] system_disable=1: one runs elsewhere.
    """
    code = "import os, sys; print(sys.prefix, os.environ['DRAKCELERY_CONFIG']); " + IDLE
    slots = {"vm-1": "win10", "vm-2": "win7"}
    overrides = {
        "drakcelery": {"engine": "replay"},
        "drakmon": {"system_disable": "1"},
        "drakrun": {"dns_server": "50%"},
    }
    program = procfile(tmp_path / "p", system=code, tell=code)
    with background(data_dir, slots=slots, overrides=overrides, procfile=program) as stack:
        expected = f"{sys.prefix} {stack.config}\n"
        wait_until(lambda: (data_dir / "log" / "tell.log").read_text() == expected, "the process has spoken")
        config = settings.load(stack.config, environment={})
        assert stat.S_IMODE(stack.config.stat().st_mode) == 0o600
        assert config.slots == slots
        assert (config.engine, config.drakrun.dns_server) == ("replay", "50%")
        with redis.Redis.from_url(config.redis.address()) as client:
            assert client.ping()
        assert client_of(config.s3).bucket_exists(config.s3.bucket)
        assert not (data_dir / "log" / "system.log").exists()
        assert running(data_dir) == stack
        assert config.redis.password is not None
        assert config.redis.password.get_secret_value() not in str(stack.addresses)
    assert_nothing_left(data_dir)


def test_stacks_run_side_by_side(tmp_path: Path, idle: Path) -> None:
    """Two directories, two stacks, no port in common. One stack a directory: a second one is refused with a
    sentence that says where the other one is, which goes on."""
    one, two = tmp_path / "one", tmp_path / "two"
    with background(one, procfile=idle) as first, background(two, procfile=idle) as second:
        assert first.pid != second.pid
        assert not set(ports_of(one).values()) & set(ports_of(two).values())
        sentence = rf"already runs in {one} \(pid {first.pid}\); stop it with Ctrl-C there or with"
        with pytest.raises(StackError, match=sentence), background(one, procfile=idle):
            pass
        assert running(one) == first
    assert_nothing_left(one)
    assert_nothing_left(two)


STUBBORN_FAMILY = """
import signal, subprocess, sys
child = "from signal import *; signal(SIGTERM, SIG_IGN); print('deaf', flush=True); pause()"
subprocess.Popen([sys.executable, "-c", child], start_new_session=True)
signal.pause()
"""


def _wait_for_deaf_child(data_dir: Path) -> None:
    log = data_dir / "log" / "family.log"
    wait_until(lambda: log.exists() and "deaf" in log.read_text(), "the grandchild ignores SIGTERM")


def test_stop_reaches_grandchildren(tmp_path: Path, data_dir: Path) -> None:
    """A process of a process, in a session of its own and deaf to SIGTERM, is ended too."""
    program = procfile(tmp_path / "p", family=STUBBORN_FAMILY)
    with background(data_dir, procfile=program, grace=1):
        _wait_for_deaf_child(data_dir)
        assert len(marked(str(data_dir))) == 2
    assert_nothing_left(data_dir)


def test_killed_stack_leaves_nothing(tmp_path: Path, data_dir: Path) -> None:
    """SIGKILL of the stack itself: servers, processes and grandchildren go, and it can start again."""
    program = procfile(tmp_path / "p", family=STUBBORN_FAMILY)
    with (  # noqa: PT012 - it is raised where the block ends
        pytest.raises(StackError, match="ended by itself"),
        background(data_dir, procfile=program) as stack,
    ):
        _wait_for_deaf_child(data_dir)
        os.kill(stack.pid, signal.SIGKILL)
        wait_until(lambda: not marked(str(data_dir)), "the keeper has ended the processes")
    wait_until(lambda: all(map(is_free, ports_of(data_dir).values())), "the servers are gone")
    with background(data_dir, procfile=program):
        assert (data_dir / "running.json").exists()
    assert_nothing_left(data_dir)


GRACEFUL = """
import signal, subprocess, sys
task = "import sys; sys.stdin.read(); print('task done', flush=True)"
child = subprocess.Popen([sys.executable, "-c", task], stdin=subprocess.PIPE)
def finish(*_):
    child.communicate()
    sys.exit(child.returncode)
signal.signal(signal.SIGTERM, finish)
print("ready", flush=True)
while True:
    signal.pause()
"""


def test_stop_lets_a_process_finish_its_work(tmp_path: Path, data_dir: Path) -> None:
    """SIGTERM goes to the process alone, not to the pool processes that finish its tasks."""
    program = procfile(tmp_path / "p", pool=GRACEFUL)
    log = data_dir / "log" / "pool.log"
    with background(data_dir, procfile=program, grace=30):
        wait_until(lambda: log.exists() and "ready" in log.read_text(), "the process is ready")
    assert log.read_text() == "ready\ntask done\n"


def test_process_that_ends_takes_the_stack_down(tmp_path: Path, data_dir: Path) -> None:
    """The stack ends with an error that names the process and shows its last words."""
    dies = "import sys; print('no such \\x1b[31mguest'); sys.exit(3)"
    program = procfile(tmp_path / "p", idle=IDLE, dies=dies)
    with (
        pytest.raises(
            StackError, match=r"(?s)the process dies ended by itself, with status 3.*no such \S\[31mguest"
        ),
        background(data_dir, procfile=program) as stack,
    ):
        wait_until(lambda: not psutil.pid_exists(stack.pid) or _is_zombie(stack), "the stack has ended")
    assert_nothing_left(data_dir)


def _is_zombie(stack: Running) -> bool:
    return psutil.Process(stack.pid).status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("victim", ["Valkey", "SeaweedFS"])
def test_server_that_ends_takes_the_stack_down(data_dir: Path, idle: Path, victim: str) -> None:
    """A stack without its servers is no stack: it says which one went."""
    with (  # noqa: PT012 - it is raised where the block ends
        pytest.raises(StackError, match=f"{victim} ended by itself"),
        background(data_dir, procfile=idle) as stack,
    ):
        name = {"Valkey": "valkey-server", "SeaweedFS": "weed"}[victim]
        server = next(one for one in psutil.Process(stack.pid).children() if one.name().startswith(name))
        server.kill()
        wait_until(lambda: not psutil.pid_exists(stack.pid) or _is_zombie(stack), "the stack has ended")
    assert_nothing_left(data_dir)
