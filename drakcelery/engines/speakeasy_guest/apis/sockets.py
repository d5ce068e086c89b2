"""What sockets are asked: their addresses, their state, what they have received, and by whom."""

from __future__ import annotations

import ipaddress
from collections.abc import Generator
from typing import Any, Final

from drakcelery.engines.speakeasy_guest.apis.api import MAX_DATA, Api, put
from drakcelery.engines.speakeasy_guest.apis.socket_states import (
    RECEIVING,
    SOCKET_ERROR,
    WSAEWOULDBLOCK,
    after_receiving,
    available,
    failure,
    is_stream,
    socket_of,
    trouble,
)
from drakcelery.engines.speakeasy_guest.calling.guest_calls import Steps, Wait
from drakcelery.engines.speakeasy_guest.configuration import GUEST_ADDRESS
from drakcelery.engines.speakeasy_guest.scheduling.scheduler import INFINITE

WSAECONNRESET, WSAETIMEDOUT = 10054, 10060
SO_ERROR, SO_TYPE = 0x1007, 0x1008
SOCKET_LEVEL: Final = 0xFFFF
OWN_PORT: Final = 49712
POLL_READ, POLL_WRITE = 0x300, 0x10
MAX_BUFFERS: Final = 64


def _put_address(emu: Any, place: int, length: int, host: str, port: int) -> None:
    """A ``sockaddr_in``."""
    if not place:
        return
    try:
        packed = ipaddress.IPv4Address(host or GUEST_ADDRESS).packed
    except ValueError:
        packed = ipaddress.IPv4Address(GUEST_ADDRESS).packed
    emu.mem_write(place, b"\x02\0" + (port & 0xFFFF).to_bytes(2, "big") + packed + bytes(8))
    put(emu, length, 16, 4)


def _own_name(emu: Any, _name: str, argv: list[Any]) -> int:
    if socket_of(emu, argv[0]) is None:
        return SOCKET_ERROR
    _put_address(emu, argv[1], argv[2], GUEST_ADDRESS, OWN_PORT)
    return 0


def _peer_name(emu: Any, _name: str, argv: list[Any]) -> int:
    found = socket_of(emu, argv[0])
    if found is None:
        return SOCKET_ERROR
    _put_address(emu, argv[1], argv[2], *found.get_connection_info())
    return 0


def _option(emu: Any, name: str, argv: list[Any]) -> int:
    """``getsockopt``: nothing has gone wrong."""
    found = socket_of(emu, argv[0])
    if found is None:
        return SOCKET_ERROR
    if argv[1] & 0xFFFF == SOCKET_LEVEL and argv[2] & 0xFFFF in (SO_ERROR, SO_TYPE):
        kind = 2 if found.get_type() == "SOCK_DGRAM" else 1
        put(emu, argv[3], kind if argv[2] & 0xFFFF == SO_TYPE else 0, 4)
        put(emu, argv[4], 4, 4)
        return 0
    return int(emu.original("ws2_32", name, argv) or 0)


def _waited(emu: Any, socket: Any) -> Generator[Wait, int, int]:
    """Wait until there is something to receive, or nothing more can come: the error, or 0.

    No second datagram ever comes. A socket that waits for one without end hears at last that nobody is there.
    """
    code, state = trouble(emu, socket, RECEIVING), emu.sockets.of(socket)
    if code or is_stream(socket) or available(socket):
        return code
    if not state.blocks:
        return WSAEWOULDBLOCK
    yield from emu.scheduler.wait(lambda: False, state.timeout)
    return WSAECONNRESET if state.timeout == INFINITE else WSAETIMEDOUT


def _receive(emu: Any, _name: str, argv: list[Any]) -> Steps:
    """``recv``, and ``recvfrom`` with room for an address."""
    found = socket_of(emu, argv[0])
    if found is None:
        return SOCKET_ERROR
    code = yield from _waited(emu, found)
    if code:
        return failure(emu, code)
    count = int(emu.original("ws2_32", "recv", argv[:4]) or 0)
    if len(argv) > 4:
        _put_address(emu, argv[4], argv[5], *found.get_connection_info())
    after_receiving(emu, found)
    return count


def _wsa_receive(emu: Any, _name: str, argv: list[Any]) -> Steps:
    found = socket_of(emu, argv[0])
    if found is None:
        return SOCKET_ERROR
    code = yield from _waited(emu, found)
    if code:
        return failure(emu, code)
    size, total = emu.get_ptr_size(), b""
    for number in range(min(argv[2] & 0xFFFFFFFF, MAX_BUFFERS)):
        entry = argv[1] + number * 2 * size
        length = min(int.from_bytes(emu.mem_read(entry, 4), "little"), MAX_DATA)
        data = bytes(found.get_recv_data(length, False))
        if data:
            emu.mem_write(emu.read_ptr(entry + size), data)
        total += data
    host, port = found.get_connection_info()
    proto = "udp" if found.get_type() == "SOCK_DGRAM" else "tcp"
    emu.recorder.log_network(None, host, port, typ="data_in", proto=proto, data=total)
    put(emu, argv[3], len(total), 4)
    after_receiving(emu, found)
    return 0


def _select(emu: Any, name: str, argv: list[Any]) -> Steps:
    """``select``: all sockets are ready at once; without any it is a sleep."""
    if any(argv[1:4]):
        return int(emu.original("ws2_32", name, argv) or 0)
    if argv[4]:
        seconds, micro = (int.from_bytes(emu.mem_read(argv[4] + at, 4), "little") for at in (0, 4))
        yield from emu.scheduler.wait(lambda: False, seconds * 1000 + micro // 1000)
    return 0


def _poll(emu: Any, _name: str, argv: list[Any]) -> int:
    """``WSAPoll``: what is asked for is there."""
    size = emu.get_ptr_size()
    step = 8 if size == 4 else 16
    count: int = min(argv[1] & 0xFFFFFFFF, MAX_BUFFERS)
    for number in range(count):
        place = argv[0] + number * step + size
        wanted = int.from_bytes(emu.mem_read(place, 2), "little")
        put(emu, place + 2, wanted & (POLL_READ | POLL_WRITE), 2)
    return count


APIS = {
    "getsockname": Api(words=3, answer=_own_name),
    "getpeername": Api(words=3, answer=_peer_name),
    "getsockopt": Api(words=5, answer=_option),
    "recv": Api(words=4, answer=_receive),
    "recvfrom": Api(words=6, answer=_receive),
    "WSARecv": Api(words=7, answer=_wsa_receive),
    "select": Api(words=5, answer=_select),
    "WSAPoll": Api(words=3, answer=_poll),
}
