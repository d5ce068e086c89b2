"""Host names, connections and HTTP requests, as log lines and packets."""

from __future__ import annotations

import urllib.parse
from collections import OrderedDict
from collections.abc import Callable, Hashable

from drakcelery.engines.speakeasy_guest.configuration import GUEST_ADDRESS, GUEST_ADDRESS_6
from drakcelery.engines.speakeasy_guest.record.journal import Journal
from drakcelery.engines.speakeasy_guest.record.pcap import Capture, packed_address

MAX_PAYLOAD = 4 * 1024 * 1024
"""Bytes of one send or receive that go into the pcap."""

NAMES_REMEMBERED = 256


class Traffic:
    """Writes what the guest says on the network, and what it is answered."""

    def __init__(self, *, journal: Journal, capture: Capture) -> None:
        self._journal = journal
        self._capture = capture
        self._addresses: OrderedDict[str, str] = OrderedDict()
        self.resolve: Callable[[str], str] = lambda _name: ""
        self.request_of: Callable[[int], tuple[str, bytes]] = lambda _handle: ("", b"")

    def lookup(self, name: str, address: str = "") -> None:
        """A host name was looked up."""
        address = address or self.resolve(name)
        self._addresses[name] = address
        if len(self._addresses) > NAMES_REMEMBERED:
            self._addresses.popitem(last=False)
        self._journal.write("socketmon", "DnsQuery_W", DnsName=name)
        self._capture.lookup(name, address)

    def connect(self, key: Hashable, address: str, port: int, *, tcp: bool) -> None:
        """A connection *key* was opened, or the first datagram of one sent."""
        local_port = self._capture.connect(key, address, port, tcp=tcp)
        is_v6 = len(packed_address(address) or b"") == 16
        owner = self._journal.context()
        self._journal.write(
            "socketmon",
            "TcpCreateAndConnectTcbComplete" if tcp else "UdpSendMessages",
            Owner=owner.get("ProcessName"),
            OwnerId=owner.get("UserId"),
            OwnerPID=owner.get("PID"),
            OwnerPPID=owner.get("PPID"),
            Protocol=f"{'TCP' if tcp else 'UDP'}v{6 if is_v6 else 4}",
            LocalIp=GUEST_ADDRESS_6 if is_v6 else GUEST_ADDRESS,
            LocalPort=local_port or 0,
            RemoteIp=address,
            RemotePort=port,
        )

    def transfer(
        self, key: Hashable, address: str, port: int, data: bytes, *, tcp: bool, outgoing: bool
    ) -> None:
        """Payload of the connection *key*, which is opened where it is not."""
        if not self._capture.is_open(key):
            self.connect(key, address, port, tcp=tcp)
        self._capture.transfer(key, data[:MAX_PAYLOAD], outgoing=outgoing)

    def close(self, key: Hashable) -> None:
        """The connection *key* is over."""
        self._capture.close(key)

    def request(
        self,
        server: str,
        port: int,
        handle: int,
        *,
        head: str = "",
        body: bytes = b"",
        path: str = "",
        secure: bool,
    ) -> None:
        """An HTTP request on a connection of its own.

        Args:
            server: host, or host:port; an IPv6 address with a port is in brackets.
            handle: of the request in the guest, which knows its path and its answer.
            path: what is asked for, where there is no handle.
            head: first line and headers; empty for a plain GET.
            secure: TLS: what it would have put on the wire is not known, so there is no payload.
        """
        host, key = self._reach(server, port)
        if not secure:
            target, answer = self.request_of(handle) if handle else (path, b"")
            head = head or f"GET {target or '/'} HTTP/1.1\nHost: {host}\n"
            self._capture.transfer(key, request_bytes(head, target, body[:MAX_PAYLOAD]), outgoing=True)
            if answer := answer[:MAX_PAYLOAD]:
                top = f"HTTP/1.1 200 OK\r\nContent-Length: {len(answer)}\r\nConnection: close\r\n\r\n"
                self._capture.transfer(key, top.encode() + answer, outgoing=False)
        self._capture.close(key)

    def _reach(self, server: str, port: int) -> tuple[str, Hashable]:
        """Open a connection of its own, after a look-up where it takes one: the host, and its key."""
        host, port = host_and_port(server, port)
        if packed_address(host) is None and host not in self._addresses:
            self.lookup(host)
        key = ("http", host, port)
        self.connect(key, self._addresses.get(host, host), port, tcp=True)
        return host, key

    def check(self, url: str) -> None:
        """Whether the server of a URL can be reached: it is connected to, and nothing is sent."""
        try:
            parts = urllib.parse.urlsplit(url)
        except ValueError:  # no URL
            return
        if parts.netloc:
            server = parts.netloc.rpartition("@")[2]
            self._capture.close(self._reach(server, 443 if parts.scheme == "https" else 80)[1])

    def download(self, url: str, handle: int) -> None:
        """A GET for a whole URL."""
        try:
            parts = urllib.parse.urlsplit(url)
        except ValueError:  # no URL: there is no request to show
            return
        secure = parts.scheme == "https"
        path = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
        self.request(parts.netloc.rpartition("@")[2], 443 if secure else 80, handle, path=path, secure=secure)


def host_and_port(server: str, default: int) -> tuple[str, int]:
    """Of ``host``, ``host:port``, ``[address]:port`` or an address alone; *default* for want of a port."""
    if server.startswith("["):
        host, _, given = server[1:].partition("]")
        given = given.removeprefix(":")
    elif server.count(":") > 1:
        host, given = server, ""
    else:
        host, _, given = server.partition(":")
    port = int(given) if given.isascii() and given.isdigit() and len(given) < 6 else 0
    return host, port if 0 < port < 0x10000 else default


def request_bytes(request: str, target: str, body: bytes) -> bytes:
    """*request* as it goes over the wire; *target* is the whole path, of which Speakeasy drops the query."""
    lines = [line for line in request.replace("\r", "").split("\n") if line]
    if target and lines and len(words := lines[0].split(" ")) == 3:
        lines[0] = f"{words[0]} {target} {words[2]}"
    if body and not any(line.lower().startswith("content-length:") for line in lines):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "replace") + body
