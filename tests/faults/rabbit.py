"""A RabbitMQ node of its own, on loopback: Debian's programs, in directories of the test."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

import amqp

from drakcelery.embedded import supervision
from tests.waiting import wait_until

SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
"""Debian's server itself; ``/usr/sbin/rabbitmq-server`` changes to the system's user and directories."""
LOOPBACK = "127.0.0.1"
START_SECONDS = 90


class Rabbit:
    """Starts epmd and one node when entered, and leaves neither behind when left.

    To be used from the main thread: its processes die with the thread that started them.
    """

    def __init__(self, directory: Path) -> None:
        """*directory* (its own; made if missing) holds the node's data, log, cookie and configuration."""
        self._directory = directory
        self._epmd_port, self._distribution_port, self.port = _free_ports(3)
        self._epmd: subprocess.Popen[bytes] | None = None
        self._node: subprocess.Popen[bytes] | None = None

    def url(self, port: int | None = None) -> str:
        """The broker URL, by another *port* if given; the user may come from loopback only."""
        return f"amqp://guest:guest@{LOOPBACK}:{port or self.port}//"

    def __enter__(self) -> Self:
        """Returns when the node takes connections."""
        self._directory.mkdir(parents=True, exist_ok=True)
        (self._directory / "plugins").write_text("[].\n")
        try:
            # A node without an epmd starts one, as a daemon that stays
            self._epmd = self._spawn("epmd", "-address", LOOPBACK, "-port", str(self._epmd_port))
            wait_until(lambda: _listens(self._epmd_port), "epmd listens")
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End both."""
        self.stop()

    def start(self) -> None:
        """Start the node; what an earlier one stored is there."""
        node = self._node = self._spawn(str(SERVER))

        def ready() -> bool:
            assert node.poll() is None, self.log()
            return self._answers()

        wait_until(ready, "RabbitMQ takes connections", timeout=START_SECONDS)

    def kill(self) -> None:
        """``kill -9`` of the node."""
        _end(self._node, signal.SIGKILL)
        self._node = None

    def stop(self) -> None:
        """End the node and its epmd at once: nobody needs their data any more."""
        self.kill()
        _end(self._epmd, signal.SIGTERM)
        self._epmd = None

    def queues(self) -> dict[str, str]:
        """Each queue that is there, with its type."""
        program = str(SERVER.with_name("rabbitmqctl"))
        command = [program, "-q", "list_queues", "name", "type", "--no-table-headers"]
        done = subprocess.run(command, env=self._environment(), check=True, capture_output=True, text=True)
        return dict(line.split("\t") for line in done.stdout.splitlines())

    def waiting(self, *queues: str) -> int:
        """How many messages are in *queues*, ready to be delivered; a queue that is not there has none."""
        with amqp.Connection(f"{LOOPBACK}:{self.port}", heartbeat=0) as connection:
            return sum(_ready(connection, queue) for queue in queues)

    def log(self) -> str:
        """The last that the node said."""
        return "\n".join((self._directory / "output").read_text(errors="replace").splitlines()[-40:])

    def _answers(self) -> bool:
        try:
            with amqp.Connection(f"{LOOPBACK}:{self.port}", connect_timeout=5):
                return True
        except (OSError, amqp.AMQPError):
            return False

    def _spawn(self, *command: str) -> subprocess.Popen[bytes]:
        with (self._directory / "output").open("ab") as output:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environment(),
                cwd=self._directory,
                start_new_session=True,
                preexec_fn=supervision._die_with(os.getpid()),
            )

    def _environment(self) -> dict[str, str]:
        own = self._directory
        return {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": str(own),  # of the cookie
            "ERL_EPMD_ADDRESS": LOOPBACK,
            "ERL_EPMD_PORT": str(self._epmd_port),
            "RABBITMQ_NODENAME": "faults@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": LOOPBACK,
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_MNESIA_BASE": str(own / "data"),
            "RABBITMQ_LOG_BASE": str(own / "log"),
            "RABBITMQ_CONFIG_FILE": str(own / "rabbitmq"),
            "RABBITMQ_CONF_ENV_FILE": str(own / "rabbitmq-env.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(own / "plugins"),
            "RUNNING_UNDER_SYSTEMD": "true",  # so that the script becomes the node, instead of its parent
        }


def _end(process: subprocess.Popen[bytes] | None, number: signal.Signals) -> None:
    """End a process and its group; a node has helpers of its own there."""
    if process is None or process.poll() is not None:
        return
    os.killpg(process.pid, number)
    process.wait(timeout=30)


def _ready(connection: amqp.Connection, queue: str) -> int:
    try:
        declared = connection.channel().queue_declare(queue, passive=True)
    except amqp.NotFound:  # which costs the channel
        return 0
    assert declared is not None
    _, messages, _ = declared
    return int(messages)


def _free_ports(count: int) -> list[int]:
    """Ports on loopback that are free now."""
    sockets = [socket.create_server((LOOPBACK, 0)) for _ in range(count)]
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((LOOPBACK, port)) == 0
