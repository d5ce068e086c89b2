"""The guest's traffic as packets: what a tap would have seen. Nothing was sent; the emulator answers."""

from __future__ import annotations

import io
import ipaddress
import math
import os
import time
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path

import dpkt

from drakcelery.engines.speakeasy_guest.configuration import GUEST_ADDRESS, GUEST_ADDRESS_6, RESOLVER_ADDRESS

GUEST_MAC = bytes.fromhex("0013ce123456")
GATEWAY_MAC = bytes.fromhex("525400a1b2c3")
SEGMENT = 1460
"""TCP payload of one packet on Ethernet."""

DATAGRAM = 1472
WINDOW = 64240
FIRST_PORT = 49152
STEP = 0.00002
"""Seconds between two packets of one event."""

MAX_FLOWS = 4096


@dataclass(kw_only=True)
class Flow:
    """One TCP connection or UDP exchange of the guest, which speaks first."""

    remote: bytes
    port: int
    local_port: int
    tcp: bool
    sent: int = 1000
    received: int = 5000
    """Next sequence numbers; the start is arbitrary."""


def is_host_name(name: str) -> bool:
    """Whether *name* fits into a DNS question."""
    labels = name.rstrip(".").encode("utf-8", "surrogatepass").split(b".")
    return all(0 < len(label) < 64 for label in labels) and sum(map(len, labels)) + len(labels) < 254


def packed_ipv4(text: str) -> bytes | None:
    """The four bytes of an IPv4 address; None for anything else."""
    try:
        return ipaddress.IPv4Address(text).packed
    except ValueError:
        return None


def packed_address(text: str) -> bytes | None:
    """The four or sixteen bytes of an IP address; None for anything else."""
    try:
        return ipaddress.ip_address(text).packed
    except ValueError:
        return None


class Capture:
    """A pcap file that is valid after every packet; it does not exist before the first one.

    Args:
        path: where to write.
        limit: bytes; packets beyond are dropped and :attr:`trouble` says so.
    """

    def __init__(self, path: Path, *, limit: int) -> None:
        self._path = path
        self._left = limit
        self._descriptor: int | None = None
        self._flows: dict[Hashable, Flow] = {}
        self._next_port = FIRST_PORT
        self._next_id = 1
        self._clock = 0.0
        self._buffer = io.BytesIO()
        self._writer: dpkt.pcap.Writer | None = None
        self.trouble: str | None = None
        self.failure: OSError | None = None

    def lookup(self, name: str, address: str) -> bool:
        """A DNS question and its answer. False if *name* is no host name: there is no packet for it."""
        packed = packed_ipv4(address)
        if not is_host_name(name):
            return False
        question = dpkt.dns.DNS.Q(name=name.rstrip("."), type=dpkt.dns.DNS_A)
        identifier = self._next_id & 0xFFFF
        query = dpkt.dns.DNS(id=identifier, op=dpkt.dns.DNS_RD, qd=[question])
        answer = dpkt.dns.DNS(
            id=identifier, op=dpkt.dns.DNS_QR | dpkt.dns.DNS_RD | dpkt.dns.DNS_RA, qd=[question]
        )
        if packed is None:
            answer.rcode = dpkt.dns.DNS_RCODE_NXDOMAIN
        else:
            record = dpkt.dns.DNS.RR(name=question.name, type=dpkt.dns.DNS_A, ttl=300, rdata=packed)
            record.ip = packed
            answer.an = [record]
        resolver = packed_ipv4(RESOLVER_ADDRESS) or b""
        flow = Flow(remote=resolver, port=53, local_port=self._new_port(), tcp=False)
        self._datagram(flow, bytes(query), outgoing=True)
        self._datagram(flow, bytes(answer), outgoing=False)
        return True

    def connect(self, key: Hashable, address: str, port: int, *, tcp: bool = True) -> int | None:
        """Open the connection *key* with a handshake; a second one of the same key closes the first.

        Returns:
            the guest's port; None if *address* is no IP address.
        """
        self.close(key)
        packed = packed_address(address)
        if packed is None:
            return None
        if len(self._flows) >= MAX_FLOWS:
            self.close(next(iter(self._flows)))
        flow = Flow(remote=packed, port=port & 0xFFFF, local_port=self._new_port(), tcp=tcp)
        self._flows[key] = flow
        if tcp:
            self._segment(flow, dpkt.tcp.TH_SYN, outgoing=True)
            self._segment(flow, dpkt.tcp.TH_SYN | dpkt.tcp.TH_ACK, outgoing=False)
            self._segment(flow, dpkt.tcp.TH_ACK, outgoing=True)
        return flow.local_port

    def is_open(self, key: Hashable) -> bool:
        """Whether :meth:`connect` was called for *key* and :meth:`close` was not."""
        return key in self._flows

    def transfer(self, key: Hashable, data: bytes, *, outgoing: bool) -> None:
        """Payload of an open connection, in one direction; unknown connections have none."""
        flow = self._flows.get(key)
        if flow is None:
            return
        size = SEGMENT if flow.tcp else DATAGRAM
        for start in range(0, len(data), size):
            piece = data[start : start + size]
            if flow.tcp:
                self._segment(flow, dpkt.tcp.TH_PUSH | dpkt.tcp.TH_ACK, piece, outgoing=outgoing)
            else:
                self._datagram(flow, piece, outgoing=outgoing)
            if self.trouble:
                return
        if flow.tcp and data:
            self._segment(flow, dpkt.tcp.TH_ACK, outgoing=not outgoing)

    def close(self, key: Hashable) -> None:
        """End a connection as its guest's side would; an unknown one is fine."""
        flow = self._flows.pop(key, None)
        if flow is not None and flow.tcp:
            self._segment(flow, dpkt.tcp.TH_FIN | dpkt.tcp.TH_ACK, outgoing=True)
            self._segment(flow, dpkt.tcp.TH_FIN | dpkt.tcp.TH_ACK, outgoing=False)
            self._segment(flow, dpkt.tcp.TH_ACK, outgoing=True)

    def _new_port(self) -> int:
        port = self._next_port
        self._next_port = port + 1 if port < 65535 else FIRST_PORT
        return port

    def _segment(self, flow: Flow, flags: int, data: bytes = b"", *, outgoing: bool) -> None:
        tcp = dpkt.tcp.TCP(
            sport=flow.local_port if outgoing else flow.port,
            dport=flow.port if outgoing else flow.local_port,
            seq=(flow.sent if outgoing else flow.received) & 0xFFFFFFFF,
            ack=(flow.received if outgoing else flow.sent) & 0xFFFFFFFF if flags & dpkt.tcp.TH_ACK else 0,
            flags=flags,
            win=WINDOW,
            data=data,
        )
        advance = len(data) + bool(flags & (dpkt.tcp.TH_SYN | dpkt.tcp.TH_FIN))
        if outgoing:
            flow.sent += advance
        else:
            flow.received += advance
        self._packet(flow.remote, tcp, dpkt.ip.IP_PROTO_TCP, outgoing=outgoing)

    def _datagram(self, flow: Flow, data: bytes, *, outgoing: bool) -> None:
        udp = dpkt.udp.UDP(
            sport=flow.local_port if outgoing else flow.port,
            dport=flow.port if outgoing else flow.local_port,
            ulen=8 + len(data),
            data=data,
        )
        self._packet(flow.remote, udp, dpkt.ip.IP_PROTO_UDP, outgoing=outgoing)

    def _packet(self, remote: bytes, payload: dpkt.Packet, protocol: int, *, outgoing: bool) -> None:
        is_v6 = len(remote) == 16
        guest = packed_address(GUEST_ADDRESS_6 if is_v6 else GUEST_ADDRESS) or b""
        source, target = (guest, remote) if outgoing else (remote, guest)
        hops = 128 if outgoing else 64
        ip: dpkt.Packet
        if is_v6:
            ip = dpkt.ip6.IP6(
                src=source, dst=target, nxt=protocol, hlim=hops, plen=len(payload), data=payload
            )
        else:
            ip = dpkt.ip.IP(
                src=source, dst=target, p=protocol, ttl=hops, id=self._next_id & 0xFFFF, data=payload
            )
            ip.len = len(ip)
        self._next_id += 1
        macs = (GUEST_MAC, GATEWAY_MAC) if outgoing else (GATEWAY_MAC, GUEST_MAC)
        kind = dpkt.ethernet.ETH_TYPE_IP6 if is_v6 else dpkt.ethernet.ETH_TYPE_IP
        self._write(bytes(dpkt.ethernet.Ethernet(src=macs[0], dst=macs[1], type=kind, data=ip)))

    def _write(self, frame: bytes) -> None:
        """One packet in one write, so that a kill leaves no half of it."""
        if self.trouble:
            return
        if len(frame) + 64 > self._left:
            self.trouble = "the recorded traffic reached its limit"
            return
        self._clock = math.floor(max(time.time(), self._clock + STEP) * 1e6) / 1e6
        try:
            if self._writer is None:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW
                self._descriptor = os.open(self._path, flags, 0o644)
                self._writer = dpkt.pcap.Writer(self._buffer, linktype=dpkt.pcap.DLT_EN10MB)
            self._writer.writepkt(frame, ts=self._clock)
            if self._descriptor is not None:
                self._left -= os.write(self._descriptor, self._buffer.getvalue())
        except OSError as error:
            self.failure = error
            self.trouble = f"the recorded traffic cannot be written: {error.strerror}"
        self._buffer.seek(0)
        self._buffer.truncate()
