"""A guest reaches nobody by IPv6, for which drakrun has no rule (H1): with a real kernel, in namespaces."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from drakcelery.engines.drakvuf import ipv6
from drakcelery.errors import Blame, EngineError
from tests.conftest import require
from tests.drakvuf import engine, make_job, short_waits
from tests.faults.namespaces import NotPermittedError, hold_namespace
from tests.xen.host import XenHost

__all__ = ("short_waits",)

LISTENER = """
import socket
ours = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
ours.bind(("::", 999))
print("ready", flush=True)
while True:
    print(ours.recv(99).decode(), flush=True)
"""
SENDER = """
import socket, sys
to = socket.getaddrinfo(sys.argv[1], 999, socket.AF_INET6, socket.SOCK_DGRAM)[0][4]
socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).sendto(sys.argv[2].encode(), to)
"""
ENGINE = """
from drakcelery.engines.drakvuf import ipv6
from drakcelery.errors import EngineError
try:
    ipv6.verify("drak1")
    print("kept in")
except EngineError as error:
    print(error)
ipv6.close("drak1")
ipv6.verify("drak1")
print(ipv6.speaking())
"""
HOST = "fe80::1"
"""On drak1, as the kernel gives each bridge one."""
OUTSIDE = "2001:db8:2::2"


class Net:
    """A host that forwards, with a guest at its bridge drak1, and a machine outside."""

    def __init__(self, pids: dict[str, int]) -> None:
        self._pids = pids

    def inside(self, who: str) -> list[str]:
        """A command that runs another one there."""
        return ["nsenter", f"--net=/proc/{self._pids[who]}/ns/net", "--"]

    def do(self, who: str, *command: str) -> str:
        """What it prints."""
        done = subprocess.run([*self.inside(who), *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def wire(self) -> None:
        """The cables, the addresses, a way out."""
        for who in self._pids:
            self.do(who, "sh", "-c", f"echo 0 > {ipv6.CONF}/default/accept_dad")
            self.do(who, "ip", "link", "set", "lo", "up")
        for line in (
            "link add drak1 address 02:00:00:00:00:01 type bridge",
            f"link add vif1 type veth peer name eth0 netns {self._pids['guest']}",
            f"link add out type veth peer name eth0 netns {self._pids['outside']}",
            "link set vif1 master drak1",
            f"address add {HOST}/64 dev drak1 nodad",
            "address add 2001:db8:2::1/64 dev out nodad",
            "link set vif1 up",
            "link set drak1 up",
            "link set out up",
        ):
            self.do("host", "ip", *line.split())
        self.do("host", "sh", "-c", f"echo 1 > {ipv6.CONF}/all/forwarding")
        for who, address, router in (
            ("guest", "2001:db8:1::2", HOST),
            ("outside", OUTSIDE, "2001:db8:2::1"),
        ):
            self.do(who, "ip", "link", "set", "eth0", "up")
            self.do(who, "ip", "address", "add", f"{address}/64", "dev", "eth0", "nodad")
            self.do(who, "ip", "route", "add", "default", "via", router, "dev", "eth0")

    def send(self, who: str, to: str, text: str) -> None:
        """A datagram."""
        self.do(who, sys.executable, "-c", SENDER, to, text)

    @contextmanager
    def listening(self, who: str) -> Iterator[subprocess.Popen[str]]:
        """What comes there is on its stdout."""
        command = [*self.inside(who), sys.executable, "-c", LISTENER]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as listener:
            try:
                assert heard(listener) == "ready"
                yield listener
            finally:
                listener.kill()


def heard(listener: subprocess.Popen[str]) -> str:
    assert listener.stdout is not None
    return listener.stdout.readline().strip()


@pytest.fixture
def net() -> Iterator[Net]:
    """A skip where that is not permitted, or the kernel has no IPv6, in CI as well."""
    for program in ("ip", "nsenter", "sysctl", "unshare"):
        require(
            shutil.which(program) is not None, f"{program} is missing (Debian: iproute2, procps, util-linux)"
        )
    if not ipv6.CONF.is_dir():
        pytest.skip("this kernel has no IPv6")
    with ExitStack() as stack:
        pids = {}
        for who in ("host", "guest", "outside"):
            try:
                holder = hold_namespace()
            except NotPermittedError as error:
                pytest.skip(f"no network namespaces here: {error}")
            stack.enter_context(holder)
            stack.callback(holder.kill)
            pids[who] = holder.pid
        made = Net(pids)
        made.wire()
        yield made


def test_a_guest_speaks_no_ipv6(net: Net) -> None:
    """It reached its host, and whoever the host forwards to; once the engine has closed its bridge nobody."""
    with net.listening("host") as host, net.listening("outside") as outside:
        net.send("guest", f"{HOST}%eth0", "guest")
        assert heard(host) == "guest"
        net.send("guest", OUTSIDE, "guest")
        assert heard(outside) == "guest"
        said = net.do("host", sys.executable, "-c", ENGINE).splitlines()
        assert "fix it: sysctl -w net.ipv6.conf.drak1.disable_ipv6=1" in said[0]
        assert said[1:] == ["[]"]
        net.send("guest", f"{HOST}%eth0", "guest")
        net.send("guest", OUTSIDE, "guest")
        net.send("host", "::1", "host")
        net.send("host", OUTSIDE, "host")
        assert (heard(host), heard(outside)) == ("host", "host")
        assert net.do("host", sys.executable, "-c", ENGINE).startswith("kept in")


def switched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The kernel's switch for drak1, which is on."""
    monkeypatch.setattr(ipv6, "CONF", tmp_path / "conf")
    switch = tmp_path / "conf" / "drak1" / "disable_ipv6"
    switch.parent.mkdir(parents=True)
    switch.write_text("0\n")
    return switch


def test_the_engine_switches_it_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a sample is copied in; whoever switches it on again ends the run (fail closed)."""
    switch = switched(tmp_path, monkeypatch)
    with XenHost.create(tmp_path / "xen") as host:
        ours, job = engine(host, tmp_path), make_job(tmp_path)
        ours.prepare(job)
        assert switch.read_text() == "1\n"
        switch.write_text("0\n")
        with pytest.raises(EngineError, match=r"fix it: sysctl -w net\.ipv6\.conf\.drak1") as refused:
            ours.run(job)
        assert refused.value.blames is Blame.HOST
        ours.destroy(job.slot)

        def watched() -> int:
            return sum("-d" in call.argv for call in host.calls("drakvuf"))

        assert watched() == 0
        again = make_job(tmp_path, attempt=2)
        ours.prepare(again)
        ours.run(again)
        assert watched() == 1


def test_where_it_cannot_be_switched_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No sample runs, and the slot is not to blame."""
    switch = switched(tmp_path, monkeypatch)
    switch.unlink()
    switch.mkdir()
    with XenHost.create(tmp_path / "xen") as host:
        with pytest.raises(EngineError, match="cannot be switched off here") as refused:
            engine(host, tmp_path).prepare(make_job(tmp_path))
        assert refused.value.blames is Blame.HOST
