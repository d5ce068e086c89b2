"""Recorded traffic, packet by packet."""

from __future__ import annotations

import contextlib
import ssl
import tempfile
from pathlib import Path

from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether
from scapy.packet import Packet
from scapy.utils import PcapNgWriter, PcapWriter

ETHER = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
"""With addresses: scapy would ask the network for them."""
GUEST, SERVER = "10.0.0.2", "192.0.2.7"


def hello(name: str) -> bytes:
    """TLS' first message to a server of this name, by OpenSSL."""
    sent = ssl.MemoryBIO()
    # Not the default context: it would read the system's certificates, which a greeting has no use for
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).wrap_bio(ssl.MemoryBIO(), sent, server_hostname=name)
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return sent.read()


def segment(payload: bytes, *, port: int = 80, source: int = 50000) -> Packet:
    """A part of what the guest says on a connection."""
    return ETHER / IP(src=GUEST, dst=SERVER) / TCP(sport=source, dport=port) / payload


def captured(*packets: Packet, form: str = "pcap") -> bytes:
    """A capture of *packets*, a second from each other."""
    with tempfile.NamedTemporaryFile() as file:
        writer = PcapNgWriter(file.name) if form == "pcapng" else PcapWriter(file.name, linktype=1)
        for number, packet in enumerate(packets):
            packet.time = 1700000000 + number
            writer.write(packet)
        writer.close()
        return Path(file.name).read_bytes()
