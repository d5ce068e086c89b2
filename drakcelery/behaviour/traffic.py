"""The recorded traffic: names in DNS, HTTP requests and TLS' server names, read with dpkt.

dpkt takes packets apart and knows DNS, HTTP and TLS; it has no dependencies. A guest decides what a packet
holds, so one that dpkt cannot read is counted, and packets, connections and their bytes are bounded.
"""

from __future__ import annotations

import io
import socket
import struct
from collections.abc import Iterator
from time import monotonic
from typing import Any, BinaryIO

import dpkt

from drakcelery.behaviour.events import Event, bounded
from drakcelery.behaviour.report import HttpRequest, TlsName
from drakcelery.behaviour.tables import Budget, Table, Who

MOST_PACKETS = 100_000
"""About four seconds of work, if nobody makes it long."""
MOST_SECONDS = 20.0
"""A guest can build packets that take long: names that point at names."""
MOST = 5000
MOST_CONNECTIONS = 2048
"""Of which the first bytes wait for more, at a time."""
MOST_HEAD = 8192
"""Bytes of a request, or of a TLS greeting, that are looked at."""
_MOST_ADDRESSES = 16
_MOST_READ = 256 * 1024
"""Bytes of one packet: the largest that tcpdump records."""
_VERBS = (b"GET ", b"POST ", b"HEAD ", b"PUT ", b"DELETE ", b"OPTIONS ", b"PATCH ", b"CONNECT ", b"TRACE ")
_HANDSHAKE, _CLIENT_HELLO = 22, 1
_SERVER_NAME = 0
_RAW_IP = (12, 101)
"""Link types without a header of their own (``DLT_RAW``)."""
_DNS = 53
Flow = tuple[bytes, int, bytes, int]


class Traffic:
    """What was seen on the network.

    Attributes:
        unreadable: packets that dpkt cannot read.
    """

    def __init__(self, budget: Budget, names: Table) -> None:
        """*names* is the table of looked-up names, of which the plugins know others."""
        self._budget = budget
        self.names = names
        self.requests = Table("http", MOST, budget)
        self.tls = Table("tls", MOST, budget)
        self.unreadable = 0
        self._heads: dict[Flow, bytearray] = {}

    def read(self, capture: BinaryIO) -> None:
        """Read a capture, pcap or pcapng, as far as it is one."""
        try:
            reader = dpkt.pcap.UniversalReader(_Bounded(capture))
            packets, is_raw = iter(reader), reader.datalink() in _RAW_IP
        except Exception:  # noqa: BLE001 dpkt raises many kinds on what is no capture
            self.unreadable += 1
            return
        until = monotonic() + MOST_SECONDS
        for _ in range(MOST_PACKETS):
            if monotonic() > until:
                break
            try:
                time, data = next(packets)
            except StopIteration:
                return
            except Exception:  # noqa: BLE001 as above; there is no way to the next packet
                self.unreadable += 1
                return
            try:
                self._packet(Event({"TimeStamp": f"{time:.6f}"}), data, is_raw=is_raw)
            except Exception:  # noqa: BLE001 dpkt raises many kinds on what is no packet
                self.unreadable += 1
        left = capture.seek(0, io.SEEK_CUR)
        if beyond := capture.seek(0, io.SEEK_END) - left:
            self._budget.left_out["traffic_bytes"] += beyond

    def _packet(self, event: Event, data: bytes, *, is_raw: bool) -> None:
        packet = _ip(data) if is_raw else dpkt.ethernet.Ethernet(data).data
        if not isinstance(packet, dpkt.ip.IP | dpkt.ip6.IP6):
            return
        segment = packet.data
        if isinstance(segment, dpkt.udp.UDP) and _DNS in (segment.sport, segment.dport):
            self._dns(event, dpkt.dns.DNS(segment.data))
        elif isinstance(segment, dpkt.tcp.TCP) and segment.data:
            flow = (packet.src, segment.sport, packet.dst, segment.dport)
            self._segment(event, flow, bytes(segment.data))

    def _dns(self, event: Event, message: Any) -> None:
        for question in message.qd[:4]:
            name = bounded(question.name, 256).rstrip(".").lower()
            row = self.names.add(event, name) if name else None
            if row is None:
                continue
            if message.qr and row.count > 1:
                row.count -= 1  # the answer repeats the question
            row.details.setdefault("sources", {})["dns"] = None
            addresses = row.details.setdefault("addresses", {})
            for answer in message.an[:_MOST_ADDRESSES]:
                address = getattr(answer, "ip", None) or getattr(answer, "ip6", None)
                if isinstance(address, bytes) and len(addresses) < _MOST_ADDRESSES:
                    addresses[_address(address)] = None

    def _segment(self, event: Event, flow: Flow, data: bytes) -> None:
        """What a side of a connection says; only the beginning of a request or a greeting counts."""
        begins = data.startswith(_VERBS) or data[:2] == b"\x16\x03"
        head = self._heads.get(flow)
        if begins:
            if len(self._heads) >= MOST_CONNECTIONS:
                del self._heads[next(iter(self._heads))]
            head = self._heads[flow] = bytearray()
        if head is None:
            return
        head += data[: MOST_HEAD - len(head)]
        try:
            found = self._greeting(event, flow, head) if head[0] == 0x16 else self._request(event, flow, head)
        except Exception:
            del self._heads[flow]  # what follows is no beginning
            raise
        if found or len(head) >= MOST_HEAD:
            del self._heads[flow]

    def _request(self, event: Event, flow: Flow, head: bytearray) -> bool:
        """An HTTP request, once its headers are complete. Whether they are."""
        end = head.find(b"\r\n\r\n")
        if end < 0:
            return False
        first, _, rest = bytes(head[: end + 4]).partition(b"\r\n")
        request = dpkt.http.Request(first + b"\r\n\r\n")
        headers = dpkt.http.parse_headers(io.BytesIO(rest))
        host = bounded(_one(headers.get("host")), 256) or f"{_address(flow[2])}:{flow[3]}"
        uri = bounded(request.uri)
        url = uri if "://" in uri else f"http://{host}{uri}"
        agent = bounded(_one(headers.get("user-agent")), 256)
        row = self.requests.add(event, bounded(request.method, 16), bounded(url))
        if row is not None:
            row.details.update(host=host, address=_address(flow[2]), port=flow[3], user_agent=agent or None)
        return True

    def _greeting(self, event: Event, flow: Flow, head: bytearray) -> bool:
        """TLS' first message of a client, once it is complete. Whether nothing is missing any more."""
        try:
            record = dpkt.ssl.TLSRecord(bytes(head))
        except dpkt.NeedData:
            return False
        if record.type != _HANDSHAKE or record.data[:1] != bytes([_CLIENT_HELLO]):
            return True
        hello = dpkt.ssl.TLSHandshake(record.data).data
        for kind, data in getattr(hello, "extensions", ())[:64]:
            if kind == _SERVER_NAME and len(data) > 5:
                [length] = struct.unpack("!H", data[3:5])
                name = bounded(data[5 : 5 + length].decode("ascii", "replace"), 256).lower()
                if name:
                    self.tls.add(event, name, _address(flow[2]), str(flow[3]))
        return True

    def report_requests(self, processes: Who) -> Iterator[HttpRequest]:
        """What is known of each request."""
        for row in self.requests:
            method, url = row.key
            yield HttpRequest(method=method, url=url, **row.details, **row.seen(processes))

    def report_tls(self, processes: Who) -> Iterator[TlsName]:
        """What is known of each server name."""
        for row in self.tls:
            name, address, port = row.key
            yield TlsName(name=name, address=address, port=int(port), **row.seen(processes))


class _Bounded:
    """A file that gives no more at a time than a packet may have, whatever its header says."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.name = "capture"

    def read(self, size: int = -1) -> bytes:
        return self._file.read(min(size, _MOST_READ) if size >= 0 else _MOST_READ)

    def seek(self, position: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(position, whence)


def _ip(data: bytes) -> Any:
    return dpkt.ip6.IP6(data) if data[:1] >= b"\x60" else dpkt.ip.IP(data)


def _address(packed: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET6 if len(packed) == 16 else socket.AF_INET, packed)


def _one(value: Any) -> Any:
    """A header that came twice is a list."""
    return value[0] if isinstance(value, list) and value else value
