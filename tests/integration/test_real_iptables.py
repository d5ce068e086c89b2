"""What keeps guests in, with the real iptables (H1), in a network namespace of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from drakcelery.engines.drakvuf.firewall import BETWEEN, JUMPS, Rules, Standing
from drakcelery.engines.drakvuf.network import Network
from drakcelery.engines.drakvuf.tools import Tools
from drakcelery.errors import Blame, EngineError
from tests.conftest import require
from tests.faults.namespaces import NotPermittedError, hold_namespace
from tests.xen.host import XenHost

DRAKRUN = (
    "-N DRAKRUN_INP",
    "-A INPUT -j DRAKRUN_INP",
    "-N DRAKRUN_FWD",
    "-A FORWARD -j DRAKRUN_FWD",
    "-N DRAKRUN_PRT -t nat",
    "-A POSTROUTING -j DRAKRUN_PRT -t nat",
    "-A DRAKRUN_FWD -i drak+ -o drak+ -j DROP",
)
"""The first vm-start of v0.21, call by call."""
GUEST = (
    "-A DRAKRUN_INP -i drak1 -p udp --dport 67:68 --sport 67:68 -j ACCEPT",
    "-A DRAKRUN_INP -i drak1 -d 0.0.0.0/0 -j DROP",
)
"""And what it makes for vm-1."""


@dataclass(frozen=True, kw_only=True)
class Firewall:
    """The iptables of an empty network."""

    pid: int
    """A process in its namespace."""
    kind: str
    directory: Path
    """With an ``iptables-save`` that works on it."""

    @property
    def inside(self) -> tuple[str, ...]:
        """A command that runs another one there."""
        return "nsenter", f"--net=/proc/{self.pid}/ns/net", "--"

    def call(self, command: str) -> int:
        """``iptables``; the exit status."""
        words = (*self.inside, f"iptables{self.kind}", *command.split())
        return subprocess.run(words, capture_output=True, check=False).returncode

    def do(self, *commands: str) -> None:
        """Each must work."""
        for command in commands:
            assert self.call(command) == 0, command

    def network(self, *, between: bool = True, closed: bool = False) -> Network:
        """As the engine looks at it."""
        tools = Tools(path=f"{self.directory}:/usr/bin:/bin")
        return Network(tools, self.directory / "engine", between=lambda: between, closed=closed, wait=10)


@pytest.fixture(params=["-nft", "-legacy"])
def firewall(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Firewall]:
    """A namespace with no rule; a skip where that is not permitted, in CI as well."""
    kind = str(request.param)
    for program in ("ip", "iptables", "nsenter", "unshare"):
        require(shutil.which(program) is not None, f"{program} is missing (Debian: iptables, util-linux)")
    if shutil.which(f"iptables{kind}-save") is None:
        pytest.skip(f"this machine's iptables has no iptables{kind}")
    try:
        holder = hold_namespace()
    except NotPermittedError as error:
        pytest.skip(f"no network namespaces here: {error}")
    with holder:
        try:
            made = Firewall(pid=holder.pid, kind=kind, directory=tmp_path)
            save = tmp_path / "iptables-save"
            save.write_text(
                f'#!/bin/sh\nexec {" ".join(made.inside)} {shutil.which(f"iptables{kind}-save")} "$@"\n'
            )
            save.chmod(0o755)
            for table in ("filter", "nat"):
                if made.call(f"-t {table} -S"):
                    pytest.skip(f"this kernel has no table {table} for iptables{kind}")
            yield made
        finally:
            holder.kill()


def test_what_drakrun_makes_stands(firewall: Firewall) -> None:
    """The real iptables-save is read as it is written: before, in between, and when all is there."""
    network = firewall.network()
    assert network.rules().standing(between=True) is Standing.UNMADE
    for number, command in enumerate(DRAKRUN):
        firewall.do(command)
        linked = number > 0
        expected = Standing.STANDS if number == len(DRAKRUN) - 1 else Standing.BROKEN
        assert network.rules().standing(between=True) is (expected if linked else Standing.UNMADE)
    with pytest.raises(EngineError, match="DRAKRUN_INP -i drak1 -j DROP"):
        network.verify("drak1", closed=False)
    firewall.do(*GUEST)
    network.verify("drak1", closed=False)
    with network.entrance(lambda: None):
        pass
    assert network.check() is None


@pytest.mark.parametrize(
    "commands",
    [
        *([f"-t {jump.table} -D {jump.parent} -j {jump.chain}"] for jump in JUMPS),
        [f"-D {BETWEEN}"],
        ["-D INPUT -j DRAKRUN_INP", "-F DRAKRUN_INP", "-X DRAKRUN_INP"],
        ["-F", "-X"],
        ["-I INPUT -j ACCEPT"],
        ["-I INPUT -s 10.0.0.0/8 -j ACCEPT"],
        ["-I INPUT -p tcp -j ACCEPT"],
        ["-N admin", "-A admin -s 10.13.0.0/16 -j ACCEPT", "-I INPUT -j admin"],
    ],
    ids=lambda commands: commands[0],
)
def test_the_command_of_the_sentence_mends(firewall: Firewall, commands: list[str]) -> None:
    """Whatever is taken away is found, and the command that the sentence names brings it back."""
    firewall.do(*DRAKRUN, *GUEST)
    network = firewall.network()
    firewall.do(*commands)
    with pytest.raises(EngineError, match="no sample runs on this host") as refused:
        network.verify("drak1", closed=False)
    assert refused.value.blames is Blame.HOST
    for command in str(refused.value).partition("fix it: ")[2].split(" && "):
        firewall.do(command.removeprefix("iptables "))
    assert network.rules().standing(between=True) is Standing.STANDS
    assert network.check() is None


def test_the_simulated_iptables_is_like_the_real_one(firewall: Firewall, tmp_path: Path) -> None:
    """The same exit statuses, but for busy chains, and the same rules of drakrun's chains."""
    commands = (
        *DRAKRUN,
        *GUEST,
        "-N DRAKRUN_INP",
        "-C INPUT -j DRAKRUN_INP",
        "-C FORWARD -j DRAKRUN_INP",
        "-C INPUT -j NOWHERE",
        "-D INPUT -j NOWHERE",
        "-C NOWHERE -i drak1 -j DROP",
        "-F NOWHERE",
        "-X NOWHERE",
        GUEST[1].replace("-A", "-C"),
        GUEST[1].replace("-A", "-D"),
        GUEST[1].replace("-A", "-D"),
    )
    with XenHost.create(tmp_path / "xen") as host:
        pairs: list[tuple[Callable[[str], int], str]] = [
            (firewall.call, "real"),
            (host.iptables, "simulated"),
        ]
        said = {name: [call(command) for command in commands] for call, name in pairs}
        assert said["simulated"] == said["real"]
        ours = Rules.parse(host.rules())
    real = firewall.network().rules()
    for table in ("filter", "nat"):
        assert {line for line in ours.of(table) if "DRAK" in line} == {
            line for line in real.of(table) if "DRAK" in line
        }


LISTENER = """
import socket, sys
ours = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
ours.bind(("10.99.0.2", 999))
print("ready", flush=True)
while True:
    print(ours.recv(99).decode(), flush=True)
"""
SENDER = """
import socket, sys
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(sys.argv[1].encode(), ("10.99.0.2", 999))
"""


def test_what_a_guest_without_network_sends(firewall: Firewall, monkeypatch: pytest.MonkeyPatch) -> None:
    """drakrun's chains alone let it send wherever the kernel forwards: that is found, and fixed."""
    monkeypatch.setattr("drakcelery.engines.drakvuf.network.forwards", lambda: True)
    with hold_namespace() as guest, hold_namespace() as outside:
        try:
            of_guest, of_outside = (
                ("nsenter", f"--net=/proc/{one.pid}/ns/net", "--") for one in (guest, outside)
            )
            wire(firewall, guest.pid, outside.pid)
            firewall.do(*DRAKRUN, *GUEST)
            command = (*of_outside, sys.executable, "-c", LISTENER)
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as listener:
                try:
                    assert listener.stdout is not None
                    assert listener.stdout.readline() == "ready\n"
                    send(of_guest, "guest")
                    assert listener.stdout.readline() == "guest\n"  # it was forwarded
                    with pytest.raises(EngineError, match="FORWARD -i drak") as refused:
                        firewall.network(closed=True).verify("drak1", closed=True)
                    firewall.do(str(refused.value).partition("fix it: iptables ")[2])
                    firewall.network(closed=True).verify("drak1", closed=True)
                    send(of_guest, "guest")
                    send(firewall.inside, "host")
                    assert listener.stdout.readline() == "host\n"
                finally:
                    listener.kill()
        finally:
            guest.kill()
            outside.kill()


def send(inside: tuple[str, ...], text: str) -> None:
    """A datagram to the machine outside."""
    subprocess.run((*inside, sys.executable, "-c", SENDER, text), check=True)


def wire(firewall: Firewall, guest: int, outside: int) -> None:
    """A guest behind drak1, a machine behind another interface, and a kernel that forwards."""
    host, of_guest, of_outside = (
        f"nsenter --net=/proc/{pid}/ns/net --" for pid in (firewall.pid, guest, outside)
    )
    commands = (
        f"{host} ip link add drak1 type veth peer name eth0 netns {guest}",
        f"{host} ip link add out type veth peer name eth0 netns {outside}",
        f"{host} ip address add 10.13.1.1/24 dev drak1",
        f"{host} ip address add 10.99.0.1/24 dev out",
        f"{host} ip link set drak1 up",
        f"{host} ip link set out up",
        f"{of_guest} ip address add 10.13.1.2/24 dev eth0",
        f"{of_guest} ip link set eth0 up",
        f"{of_guest} ip route add default via 10.13.1.1",
        f"{of_outside} ip address add 10.99.0.2/24 dev eth0",
        f"{of_outside} ip link set eth0 up",
        f"{host} tee /proc/sys/net/ipv4/ip_forward",
    )
    for command in commands:
        subprocess.run(command.split(), input=b"1", stdout=subprocess.DEVNULL, check=True)
