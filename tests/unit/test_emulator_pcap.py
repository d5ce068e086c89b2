"""The emulator's traffic as a pcap, read back by scapy."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.dns import DNS
from scapy.layers.inet import IP, TCP, UDP
from scapy.utils import rdpcap

from drakcelery.engines.speakeasy_guest.configuration import GUEST_ADDRESS, GUEST_ADDRESS_6
from drakcelery.engines.speakeasy_guest.record.pcap import Capture, is_host_name
from tests.conftest import require

REMOTE = "10.1.2.3"


def capture(path: Path, limit: int = 1 << 20) -> Capture:
    """A capture below the test's directory."""
    return Capture(path / "dump.pcap", limit=limit)


def packets(path: Path) -> list[Any]:
    """What is in the pcap."""
    return list(rdpcap(str(path / "dump.pcap")))


def with_fresh_checksum(packet: Any, layer: type) -> int:
    """The checksum that scapy computes for a layer of *packet*."""
    again = IP(bytes(packet[IP]))
    del again[layer].chksum
    return int(IP(bytes(again))[layer].chksum)


def conversation(recorded: Capture) -> None:
    """A name, a connection with payload both ways, and its end."""
    recorded.lookup("demo.example.invalid", REMOTE)
    recorded.connect("a", REMOTE, 8080)
    recorded.transfer("a", b"GET / HTTP/1.0\r\n\r\n", outgoing=True)
    recorded.transfer("a", b"x" * 4000, outgoing=False)
    recorded.close("a")


def test_no_traffic_no_file(tmp_path: Path) -> None:
    """A program that says nothing on the network leaves no pcap."""
    recorded = capture(tmp_path)
    recorded.close("nothing")
    recorded.transfer("nothing", b"x", outgoing=True)
    assert not (tmp_path / "dump.pcap").exists()


def test_a_tcp_conversation_is_whole(tmp_path: Path) -> None:
    """Handshake, payload both ways with running sequence numbers, and a close, with right checksums."""
    conversation(capture(tmp_path))
    tcp = [packet for packet in packets(tmp_path) if TCP in packet]
    assert [str(packet[TCP].flags) for packet in tcp[:3]] == ["S", "SA", "A"]
    assert [str(packet[TCP].flags) for packet in tcp[-3:]] == ["FA", "FA", "A"]
    for sender, receiver, data in (
        (GUEST_ADDRESS, REMOTE, b"GET / HTTP/1.0\r\n\r\n"),
        (REMOTE, GUEST_ADDRESS, b"x" * 4000),
    ):
        sent = [packet for packet in tcp if packet[IP].src == sender]
        assert {packet[IP].dst for packet in sent} == {receiver}
        first = sent[0][TCP].seq
        stream, ended = b"", False
        for packet in sent[1:]:
            payload = bytes(packet[TCP].payload)[: packet[IP].len - 40]
            assert packet[TCP].seq == first + 1 + len(stream) + ended
            stream += payload
            ended = ended or "F" in packet[TCP].flags
        assert stream == data
    for packet in tcp:
        assert with_fresh_checksum(packet, IP) == packet[IP].chksum
        assert with_fresh_checksum(packet, TCP) == packet[TCP].chksum


def test_a_name_is_asked_and_answered(tmp_path: Path) -> None:
    """A lookup is a question for an A record and an answer with the same id and the address."""
    recorded = capture(tmp_path)
    assert recorded.lookup("demo.example.invalid", REMOTE)
    assert recorded.lookup("nowhere.invalid", "")
    question, answer, _, refusal = (packet[DNS] for packet in packets(tmp_path))
    assert (question.qr, question.qd[0].qname, question.qd[0].qtype) == (0, b"demo.example.invalid.", 1)
    assert (answer.qr, answer.id, answer.an[0].rdata) == (1, question.id, REMOTE)
    assert (refusal.rcode, refusal.ancount) == (3, 0)
    for packet in packets(tmp_path):
        assert with_fresh_checksum(packet, UDP) == packet[UDP].chksum


@pytest.mark.parametrize(
    "name", ["", ".", "a..b", "x" * 64 + ".com", ".".join(["abcdefgh"] * 40), "\ud800" * 90]
)
def test_what_is_no_host_name_makes_no_packet(tmp_path: Path, name: str) -> None:
    """A text that fits no DNS question is refused instead of making a broken packet."""
    assert not is_host_name(name)
    assert not capture(tmp_path).lookup(name, REMOTE)
    assert not (tmp_path / "dump.pcap").exists()


@pytest.mark.parametrize("name", ["a", "host\n.invalid", "\x00.x", "żółw.invalid", "x" * 63, "trailing.dot."])
def test_odd_host_names_make_valid_packets(tmp_path: Path, name: str) -> None:
    """Bytes that DNS allows in a label come through as they are."""
    assert capture(tmp_path).lookup(name, REMOTE)
    assert packets(tmp_path)[0][DNS].qd[0].qname == name.rstrip(".").encode() + b"."


def test_datagrams(tmp_path: Path) -> None:
    """UDP has neither handshake nor end."""
    recorded = capture(tmp_path)
    recorded.connect("u", REMOTE, 123, tcp=False)
    recorded.transfer("u", b"ping", outgoing=True)
    recorded.transfer("u", b"pong", outgoing=False)
    recorded.close("u")
    assert [bytes(packet[UDP].payload)[:4] for packet in packets(tmp_path)] == [b"ping", b"pong"]


def test_time_goes_forward(tmp_path: Path) -> None:
    """No packet is as old as the one before it."""
    conversation(capture(tmp_path))
    times = [float(packet.time) for packet in packets(tmp_path)]
    assert times == sorted(set(times))


def test_the_file_is_valid_at_any_time(tmp_path: Path) -> None:
    """After each single packet the file ends with a whole record: a kill in between leaves nothing broken."""
    recorded = capture(tmp_path)
    recorded.connect("a", REMOTE, 80)
    for number in range(20):
        recorded.transfer("a", bytes([number]) * 100, outgoing=number % 2 == 0)
        data = (tmp_path / "dump.pcap").read_bytes()
        place = 24
        while place < len(data):
            place += 16 + int(struct.unpack_from("<I", data, place + 8)[0])
        assert place == len(data)


def test_traffic_is_bounded(tmp_path: Path) -> None:
    """At the limit packets are dropped, and the reason is kept; the file stays below it and readable."""
    recorded = capture(tmp_path, limit=50_000)
    recorded.connect("a", REMOTE, 80)
    recorded.transfer("a", bytes(1_000_000), outgoing=True)
    assert recorded.trouble == "the recorded traffic reached its limit"
    assert (tmp_path / "dump.pcap").stat().st_size <= 50_000
    assert len(packets(tmp_path)) > 20


def test_flows_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that opens connections without end has the oldest ones closed."""
    monkeypatch.setattr("drakcelery.engines.speakeasy_guest.record.pcap.MAX_FLOWS", 3)
    recorded = capture(tmp_path)
    for number in range(10):
        recorded.connect(number, REMOTE, 80)
    assert [number for number in range(10) if recorded.is_open(number)] == [7, 8, 9]


@pytest.mark.parametrize("address", ["", "host.example", "1.2.3", "[::1]", "1.2.3.4.5"])
def test_what_is_no_address_opens_nothing(tmp_path: Path, address: str) -> None:
    """A connection to something that is no address leaves no packet."""
    assert capture(tmp_path).connect("a", address, 80) is None
    assert not (tmp_path / "dump.pcap").exists()


@pytest.mark.parametrize("tcp", [True, False])
def test_a_connection_by_ipv6(tmp_path: Path, tcp: bool) -> None:
    """It has packets of IPv6 with right checksums, from the guest's address to the other one."""
    recorded = capture(tmp_path)
    assert recorded.connect("a", "2001:db8::7", 443, tcp=tcp) is not None
    recorded.transfer("a", b"hello", outgoing=True)
    recorded.close("a")
    packets = rdpcap(str(tmp_path / "dump.pcap"))
    assert {packet.version for packet in (one.payload for one in packets)} == {6}
    assert packets[0].payload.src == GUEST_ADDRESS_6
    assert packets[0].payload.dst == "2001:db8::7"
    assert b"hello" in b"".join(bytes(packet) for packet in packets)
    for packet in packets:
        again = type(packet)(bytes(packet))
        del again.payload.payload.chksum
        assert type(packet)(bytes(again)).payload.payload.chksum == packet.payload.payload.chksum


def test_tshark_reads_it(tmp_path: Path) -> None:
    """tshark finds every protocol and no bad checksum, no malformed packet and no gap."""
    tshark = shutil.which("tshark") or ""
    require(bool(tshark), "tshark is not installed")
    conversation(capture(tmp_path))
    command = [tshark, "-r", str(tmp_path / "dump.pcap"), "-o", "tcp.check_checksum:TRUE", "-o",
               "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE"]  # fmt: skip
    everything = subprocess.run(
        [*command, "-T", "fields", "-e", "frame.protocols"], capture_output=True, check=True
    )
    assert {b"dns", b"http"} <= set(everything.stdout.replace(b"\n", b":").split(b":"))
    checksums = " || ".join(f"{layer}.checksum.status == 0" for layer in ("ip", "tcp", "udp"))
    wrong = f"{checksums} || _ws.malformed || tcp.analysis.flags"
    bad = subprocess.run([*command, "-Y", wrong], capture_output=True, check=True)
    assert bad.stdout == b""
