"""A fleet whose hosts are machines to the network: each in a namespace of its own, at a switch.

The switch is a bridge in one more namespace, where Redis and S3 listen as well; a cable leads from there to
this machine, for the test itself. Nothing of it is in any file: namespaces and interfaces live as long as the
processes that hold them, and those die with the process that started them.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from drakcelery.embedded import plan as plans
from drakcelery.embedded import services, supervision
from drakcelery.embedded.ports import LOOPBACK
from drakcelery.settings import RedisSection, S3Section
from tests.faults.fleet import KARTON, Fleet, Options
from tests.waiting import wait_until

SWITCH = "switch"
"""The namespace of the servers, and of karton-system."""
ESTABLISHED = "01"
"""A connection's state in ``net/tcp``."""
PREFIX = "198.18"
"""Reserved for tests of network devices (RFC 2544): no route leads there."""


class NotPermittedError(Exception):
    """This user may make no network namespaces; says what failed."""


def _succeeds(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotPermittedError(f"{' '.join(command)}: {done.stderr.strip()}")


class Network:
    """The switch, and what is plugged in; gone when left, or when this process ends in whatever way."""

    def __init__(self, hosts: Iterable[str]) -> None:
        self._hosts = tuple(hosts)
        self._holders: dict[str, subprocess.Popen[bytes]] = {}
        self._cable = f"drak{os.getpid()}"
        """This machine's end of its cable."""
        self._net = ""

    @property
    def address(self) -> str:
        """Of Redis and S3."""
        return f"{self._net}.1"

    def __enter__(self) -> Self:
        """Raises :class:`NotPermittedError`."""
        try:
            self._build()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    def _build(self) -> None:
        self._net = _free_net()
        for name in (SWITCH, *self._hosts):
            self._holders[name] = hold_namespace()
        switch = self._holders[SWITCH].pid
        _succeeds(
            "ip", "link", "add", self._cable, "type", "veth", "peer", "name", "test", "netns", str(switch)
        )
        self._ip(SWITCH, "link", "add", "bridge", "type", "bridge")
        for host in self._hosts:
            far_end = ("peer", "name", "eth0", "netns", str(self._holders[host].pid))
            self._ip(SWITCH, "link", "add", host, "type", "veth", *far_end)
        for port in ("test", *self._hosts):
            self._ip(SWITCH, "link", "set", port, "master", "bridge", "up")
        self._up(SWITCH, "bridge", self.address)
        for number, host in enumerate(self._hosts, start=11):
            self._up(host, "eth0", f"{self._net}.{number}")
        _succeeds("ip", "address", "add", f"{self._net}.254/24", "dev", self._cable)
        _succeeds("ip", "link", "set", self._cable, "up")

    def _up(self, name: str, interface: str, address: str) -> None:
        self._ip(name, "link", "set", "lo", "up")
        self._ip(name, "address", "add", f"{address}/24", "dev", interface)
        self._ip(name, "link", "set", interface, "up")

    def _ip(self, name: str, *arguments: str) -> None:
        _succeeds(*self.inside(name), "ip", *arguments)

    def _remove(self) -> None:
        if self._net:  # the other end goes with it; there is none where the switch was not made
            command = ("ip", "link", "delete", self._cable)
            subprocess.run(command, capture_output=True, check=False)
        for holder in self._holders.values():
            holder.kill()
            holder.wait()

    def inside(self, name: str) -> tuple[str, ...]:
        """A command that runs another one as on that host, or on the switch."""
        return ("nsenter", f"--net=/proc/{self._holders[name].pid}/ns/net", "--")

    def unplug(self, host: str) -> None:
        """From now on nothing from *host* reaches anyone, nor the other way; nobody is told."""
        self._ip(SWITCH, "link", "set", host, "nomaster")

    def connections(self, host: str, port: int) -> list[str]:
        """What the processes of *host* have open to that port of the servers (``proc(5)``, ``net/tcp``)."""
        table = Path(f"/proc/{self._holders[host].pid}/net/tcp").read_text().splitlines()[1:]
        ends = [line.split()[2] for line in table if line.split()[3] == ESTABLISHED]
        return [end for end in ends if int(end.rpartition(":")[2], 16) == port]

    def plug_in(self, host: str) -> None:
        """Undo :meth:`unplug`."""
        self._ip(SWITCH, "link", "set", host, "master", "bridge")


def _free_net() -> str:
    """A net that no interface of this machine is in; another run may have one of them."""
    command = ("ip", "-json", "-4", "address")
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    taken = {one["local"] for interface in json.loads(listed) for one in interface["addr_info"]}
    nets = (f"{PREFIX}.{(os.getpid() + offset) % 256}" for offset in range(256))
    return next(net for net in nets if f"{net}.254" not in taken)


def hold_namespace() -> subprocess.Popen[bytes]:
    """A process in a network namespace of its own, which is there once this returns."""
    command = ("unshare", "--net", "sleep", "infinity")
    holder = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=supervision._die_with(os.getpid()),
    )
    ours = Path("/proc/self/ns/net").readlink()

    def is_there() -> bool:
        if holder.poll() is not None:
            raise NotPermittedError("unshare --net ends at once")
        try:
            return Path(f"/proc/{holder.pid}/ns/net").readlink() != ours
        except FileNotFoundError:  # it has just ended
            return False

    wait_until(is_there, "a namespace is there")
    return holder


class SwitchedServices(services.Services):
    """Valkey and SeaweedFS at the switch, on its address."""

    def __init__(self, data_dir: Path, network: Network) -> None:
        super().__init__(data_dir)
        self.network = network

    @property
    def redis(self) -> RedisSection:
        """How to reach Valkey."""
        return super().redis.model_copy(update={"host": self.network.address})

    @property
    def s3(self) -> S3Section:
        """How to reach SeaweedFS."""
        section = super().s3
        address = section.address.replace(LOOPBACK, self.network.address)
        return section.model_copy(update={"address": address})

    def stop(self) -> None:
        """End both at once: SeaweedFS would wait for those who were cut off."""
        for server in self._servers:
            server.stop(grace=0)
        super().stop()

    def _start_valkey(self, program: Path) -> None:
        config = self._path("valkey") / "valkey.conf"
        text = services._valkey_config(self.plan, self._path("valkey"))
        plans.write_private(config, text.replace(f"bind {LOOPBACK}", f"bind {self.network.address}"))
        self._start("Valkey", (str(program), str(config)), os.environ)
        self._servers[-1].wait_ready(lambda: services._pings(self.redis), timeout=60)

    def _start_seaweedfs(self, program: Path) -> None:
        arguments = services._weed_arguments(self.plan.ports, self._path("seaweedfs"))
        command = [one.replace(LOOPBACK, self.network.address) for one in (str(program), *arguments)]
        credentials = {
            "AWS_ACCESS_KEY_ID": self.plan.s3_access_key,
            "AWS_SECRET_ACCESS_KEY": self.plan.s3_secret_key.get_secret_value(),
        }
        self._start("SeaweedFS", command, {**os.environ, **credentials})
        self._servers[-1].wait_ready(lambda: services._has_bucket(self.s3), timeout=60)

    def _start(self, name: str, command: Iterable[str], environment: Mapping[str, str]) -> None:
        full = (*self.network.inside(SWITCH), *command)
        log = self._path("log") / f"{name}.log"
        self._servers.append(supervision.Server.start(name, full, log=log, environment=environment))


def build_wrong_clock(to: Path) -> None:
    """Compile the library that makes the clock of a process wrong."""
    source = Path(__file__).with_name("wrong_clock.c")
    command = ("cc", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", str(to), str(source))
    subprocess.run(command, check=True)


class Racks(Fleet):
    """A fleet at a switch; the first two hosts have an ingress each.

    *ahead* says by how many seconds the clock of a host is wrong, which takes *wrong_clock*, the library of
    :func:`build_wrong_clock`; without it all clocks are right.
    """

    def __init__(
        self,
        directory: Path,
        servers: SwitchedServices,
        options: Options,
        *,
        ahead: Mapping[str, int],
        wrong_clock: Path | None,
    ) -> None:
        self.network = servers.network
        self._ahead = ahead
        self._wrong_clock = wrong_clock
        super().__init__(directory, servers, options)

    def start(self) -> None:
        """As any fleet does."""
        second = self.options.hosts[1]
        self._spawn(f"ingress@{second}", second, ("ingress",))
        super().start()

    def is_fork(self, name: str) -> bool:  # noqa: ARG002 each is in a namespace of its own
        """None is."""
        return False

    def _launcher(self, host: str) -> tuple[str, ...]:
        inside = self.network.inside(SWITCH if host == KARTON else host)
        if self._wrong_clock is None or host not in self._ahead:
            return inside
        clock = (f"LD_PRELOAD={self._wrong_clock}", f"AHEAD_SECONDS={self._ahead[host]}")
        return (*inside, "env", *clock)

    def time_on(self, host: str) -> float:
        """UNIX time by the clock of *host*, as its processes see it."""
        command = (*self._launcher(host), "date", "+%s.%N")
        return float(subprocess.run(command, capture_output=True, check=True).stdout)

    def lines(self, action: str) -> list[str]:
        """What the processes logged under *action*."""
        texts = (path.read_text(errors="replace") for path in sorted(self._log.glob("*.log")))
        return [line for text in texts for line in text.splitlines() if action in line]
