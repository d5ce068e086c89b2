"""Our own two samples through the whole road: what they do is in log, capture and dumps."""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from karton.core import Task
from scapy.layers.dns import DNS
from scapy.layers.inet import IP, TCP
from scapy.packet import Raw
from scapy.plist import PacketList
from scapy.utils import rdpcap

from tests.acceptance.deployment import Deployment, Received, Receiver

SAMPLES = Path("samples")


@dataclass(frozen=True, kw_only=True)
class Doings:
    """What a sample does, as its source says."""

    file: str
    """End of its path in the guest."""
    written: int
    """Bytes."""
    key: str
    """End of the registry key."""
    value: str
    command: str
    host: str
    port: int
    request: bytes
    """Beginning of what it sends."""
    mark: bytes
    """In the memory that it runs."""


DOINGS = {
    "behaviour": Doings(
        file="\\drakcelery-sample.txt",
        written=21,
        key="\\Software\\drakcelery-sample",
        value="drakcelery was here",
        command="cmd.exe /c echo drakcelery-sample",
        host="sample.drakcelery.invalid",
        port=8080,
        request=b"GET /hello HTTP/1.1\r\n",
        mark=b"drakcelery-rwx-mark",
    ),
    "behaviour32": Doings(
        file="\\Users\\Public\\drakcelery-sample32.txt",
        written=25,
        key="\\Software\\drakcelery-sample32",
        value="drakcelery was here too",
        command="cmd.exe /c echo drakcelery-sample32",
        host="web.drakcelery.invalid",
        port=80,
        request=b"GET /page?q=1 HTTP/1.",
        mark=b"drakcelery-protect-mark",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a Karton service received of a sample's run."""

    doings: Doings
    received: Received

    def entries(self, plugin: str, method: str) -> list[dict[str, Any]]:
        """A plugin's log lines about one method."""
        lines = self.received.path(f"{plugin}.log").read_text(encoding="utf-8").splitlines()
        return [entry for entry in map(json.loads, lines) if entry["Method"] == method]

    def packets(self) -> PacketList:
        """The capture, under the name that consumers read."""
        return rdpcap(str(self.received.path("dump.pcap")))


@pytest.fixture(scope="module")
def sent(deployment: Deployment, receiver: Receiver) -> dict[str, Task]:  # noqa: ARG001 - bound first
    """Both samples, on their way."""
    return {
        name: deployment.send(SAMPLES / f"{name}.exe", payload={"timeout": 30, "file_name": name})
        for name in DOINGS
    }


@pytest.fixture(scope="module", params=DOINGS)
def seen(request: pytest.FixtureRequest, receiver: Receiver, sent: dict[str, Task]) -> Seen:
    """A sample's analysis."""
    received = receiver.receive(sent[request.param].payload["override_uid"])
    return Seen(doings=DOINGS[request.param], received=received)


def test_written_file(seen: Seen) -> None:
    """filetracer names the file and says how much was written."""
    created = seen.entries("filetracer", "NtCreateFile")
    written = seen.entries("filetracer", "NtWriteFile")
    assert [one["FileName"].endswith(seen.doings.file) for one in created] == [True]
    assert [(one["FileName"], int(one["Length"], 16)) for one in written] == [
        (created[0]["FileName"], seen.doings.written)
    ]


def test_registry_value(seen: Seen) -> None:
    """regmon has key, name and value."""
    values = seen.entries("regmon", "NtSetValueKey")
    assert [(one["ValueName"], one["Value"]) for one in values] == [("Greeting", seen.doings.value)]
    assert values[0]["Key"].endswith(seen.doings.key)


def test_name_and_connection(seen: Seen) -> None:
    """socketmon has the name that was looked up, and where the sample connected."""
    names = seen.entries("socketmon", "DnsQuery_W")
    connections = seen.entries("socketmon", "TcpCreateAndConnectTcbComplete")
    assert [one["DnsName"] for one in names] == [seen.doings.host]
    assert [one["RemotePort"] for one in connections] == [seen.doings.port]


def test_started_process(seen: Seen) -> None:
    """procmon has the command line of the process that the sample started, and the sample's own end."""
    started = seen.entries("procmon", "NtCreateUserProcess")
    assert [one["CommandLine"] for one in started] == [seen.doings.command]
    ended = seen.entries("procmon", "NtTerminateProcess")
    assert ended[-1]["ExitStatus"] == "0x0"  # which it has only where its code ran and returned 42


def test_executed_memory(seen: Seen) -> None:
    """The memory that was written and run is in dumps.zip, under the name that memdump gave it."""
    (dumped,) = seen.entries("memdump", "ExecuteMemory")
    name = f"dumps/{dumped['DumpFilename']}"
    assert [one["filename"] for one in seen.received.task.payload["dumps_metadata"]] == [name]
    with zipfile.ZipFile(seen.received.path("dumps.zip")) as archive:
        memory = archive.read(name)
    assert memory.startswith(b"\xb8\x2a\x00\x00\x00\xc3" + seen.doings.mark)
    assert len(memory) == int(dumped["DumpSize"], 16)


def test_capture_has_the_name(seen: Seen) -> None:
    """The capture, as scapy reads it, holds the question for the name and an answer to it."""
    messages = [packet[DNS] for packet in seen.packets() if DNS in packet]
    assert {message.qd[0].qname.decode() for message in messages} == {f"{seen.doings.host}."}
    assert sorted(message.qr for message in messages) == [0, 1]


def test_capture_has_the_connection(seen: Seen) -> None:
    """The capture holds the handshake with the address that the name resolved to, and what was sent there."""
    packets = seen.packets()
    (answer,) = [packet[DNS].an[0].rdata for packet in packets if DNS in packet and packet[DNS].qr]
    stream = [packet for packet in packets if TCP in packet]
    outgoing = [packet for packet in stream if packet[IP].dst == answer]
    assert [str(packet[TCP].flags) for packet in stream[:3]] == ["S", "SA", "A"]
    assert {packet[TCP].dport for packet in outgoing} == {seen.doings.port}
    request = b"".join(bytes(packet[Raw].load) for packet in outgoing if Raw in packet)
    assert request.startswith(seen.doings.request)
    assert f"Host: {seen.doings.host}".encode() in request


def test_api_calls(seen: Seen) -> None:
    """apimon has the calls with their arguments; where the emulator had to make one up, the line says so."""
    calls = [
        json.loads(line) for line in seen.received.path("apimon.log").read_text(encoding="utf-8").splitlines()
    ]
    assert {"ExitProcess", "VirtualAlloc"} <= {call["Method"] for call in calls}
    unsupported = {call["Method"] for call in calls if call.get("Unsupported")}
    assert unsupported <= {"SetConsoleCtrlHandler", "GetSystemFirmwareTable", "HttpSendRequestA"}


def test_library_is_registered(deployment: Deployment, receiver: Receiver) -> None:
    """A DLL needs no extension header: libmagic knows it, its exports say how to start it."""
    library = SAMPLES / "library.dll"
    task = deployment.send(library, headers={"extension": "exe"}, payload={"timeout": 30})
    received = receiver.receive(task.payload["override_uid"])
    metadata = received.task.payload["metadata"]
    assert metadata["start_command"].startswith("regsvr32")
    assert "malwar.dll" in metadata["start_command"]
    assert metadata["sample_sha256"] == hashlib.sha256(library.read_bytes()).hexdigest()
    lines = received.path("regmon.log").read_text(encoding="utf-8").splitlines()
    values = [entry["ValueName"] for entry in map(json.loads, lines) if entry["Method"] == "NtSetValueKey"]
    assert values == ["DllMain", "DllRegisterServer"]


def test_endless_sample_is_stopped(deployment: Deployment, receiver: Receiver) -> None:
    """A sample that never ends is stopped at its timeout; what it did until then is there."""
    task = deployment.send(SAMPLES / "endless.exe", payload={"timeout": 2})
    received = receiver.receive(task.payload["override_uid"])
    metadata = received.task.payload["metadata"]
    assert metadata["execution"] == "executed"
    assert metadata["time_finished"] - metadata["time_started"] >= 1
    assert "endless.txt" in received.path("filetracer.log").read_text(encoding="utf-8")
