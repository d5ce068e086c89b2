"""Sockets and host names."""

from __future__ import annotations

import ipaddress
import struct
from typing import Any

from drakcelery.engines.speakeasy_guest.apis.api import MAX_DATA, Api, put, text_argument
from drakcelery.engines.speakeasy_guest.apis.socket_states import (
    CONNECT,
    READ,
    SENDING,
    SOCKET_ERROR,
    WRITE,
    WSAENOTCONN,
    WSAEWOULDBLOCK,
    available,
    failure,
    happen,
    is_stream,
    socket_of,
    trouble,
)

SUCCESS = 0
AF_INET, AF_INET6 = 2, 23
AI_PASSIVE = 1
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
HIGHEST_VERSION = (2, 2)
"""Of Windows Sockets: major and minor."""

WSAEISCONN, WSAVERNOTSUPPORTED = 10056, 10092

ERROR_BUFFER_OVERFLOW = 111
ADAPTER_SIZE = {4: 640, 8: 704}
"""Bytes of an ``IP_ADAPTER_INFO``, by the size of an address; there is one."""


def _getaddrinfo(emu: Any, name: str, argv: list[Any]) -> int:
    host = text_argument(emu, name, argv, 0)
    service = text_argument(emu, name, argv, 1)
    known = service.isascii() and service.isdigit() and len(service) < 6
    port = int(service) & 0xFFFF if known else {"http": 80, "https": 443}.get(service, 0)
    flags, _, kind, protocol = struct.unpack("<4I", emu.mem_read(argv[2], 16)) if argv[2] else (0, 0, 1, 6)
    sockaddr = _packed(_address_of(emu, host, passive=bool(flags & AI_PASSIVE)), port)
    size = emu.get_ptr_size()
    block = emu.mem_map(64 + len(sockaddr), tag="api.struct.ADDRINFO")
    fields = [number.to_bytes(4, "little") for number in (0, sockaddr[0], kind, protocol)]
    pointers = [number.to_bytes(size, "little") for number in (len(sockaddr), 0, block + 64, 0)]
    emu.mem_write(block, b"".join(fields + pointers).ljust(64, b"\0") + sockaddr)
    put(emu, argv[3], block, size)
    return SUCCESS


def _address_of(emu: Any, host: str, *, passive: bool) -> Address:
    """The address that a host name stands for; that of this machine for none."""
    if not host:
        return ipaddress.IPv4Address(0 if passive else 0x7F000001)
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        address = emu.recorder.traffic.resolve(host)
        emu.recorder.log_dns(None, host, address)
        return ipaddress.ip_address(address or 0)


def _packed(address: Address, port: int) -> bytes:
    """A ``sockaddr_in`` or, of IPv6, a ``sockaddr_in6``."""
    where = port.to_bytes(2, "big")
    if isinstance(address, ipaddress.IPv4Address):
        return AF_INET.to_bytes(2, "little") + where + address.packed + bytes(8)
    return AF_INET6.to_bytes(2, "little") + where + bytes(4) + address.packed + bytes(4)


def _sockaddr(emu: Any, place: int) -> tuple[str, int]:
    """Address and port of a ``sockaddr_in`` or ``sockaddr_in6``."""
    data = bytes(emu.mem_read(place, 8))
    port = int.from_bytes(data[2:4], "big")
    if int.from_bytes(data[:2], "little") != AF_INET6:
        return str(ipaddress.IPv4Address(data[4:8])), port
    address = ipaddress.IPv6Address(bytes(emu.mem_read(place + 8, 16)))
    return str(address.ipv4_mapped or address), port


def _shown(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _protocol(emu: Any, handle: int) -> str:
    sock = emu.get_network_manager().get_socket(handle)
    return "udp" if sock is not None and sock.get_type() == "SOCK_DGRAM" else "tcp"


def _connect(emu: Any, _name: str, argv: list[Any]) -> int:
    """``connect`` and ``WSAConnect``."""
    host, port = _sockaddr(emu, argv[1])
    argv[1] = _shown(host, port)
    sock = socket_of(emu, argv[0])
    if sock is None:
        return SOCKET_ERROR
    state = emu.sockets.of(sock)
    if state.connected and is_stream(sock):
        return failure(emu, WSAEISCONN)
    sock.set_connection_info(host, port)
    state.connected = True
    emu.recorder.log_network(None, host, port, typ="connect", proto=_protocol(emu, argv[0]))
    happen(emu, sock, CONNECT | WRITE | (READ if available(sock) else 0))
    return SUCCESS if state.blocks or not is_stream(sock) else failure(emu, WSAEWOULDBLOCK)


def _sent(emu: Any, handle: int, place: int, data: bytes) -> tuple[str, int] | None:
    """Send data to the address at *place*, or for NULL to what the socket is connected to; None for an error.

    Address and port; the thread's last error is set where there is none.
    """
    sock = socket_of(emu, handle)
    if sock is None:
        return None
    code = trouble(emu, sock, SENDING)
    if code:
        emu.set_last_error(code)
        return None
    host, port = _sockaddr(emu, place) if place else sock.get_connection_info()
    if not host:
        emu.set_last_error(WSAENOTCONN)
        return None
    emu.recorder.log_network(None, host, port, typ="data_out", proto=_protocol(emu, handle), data=data)
    return host, port


def _send(emu: Any, _name: str, argv: list[Any]) -> int:
    """``send``, and ``sendto`` with an address."""
    data = bytes(emu.mem_read(argv[1], min(argv[2] & 0xFFFFFFFF, MAX_DATA)))
    target = _sent(emu, argv[0], argv[4] if len(argv) > 4 else 0, data)
    if target is None:
        return SOCKET_ERROR
    if len(argv) > 4:
        argv[4] = _shown(*target)
    return len(data)


def _gathered(emu: Any, place: int, count: int) -> bytes:
    """What is in an array of ``WSABUF``."""
    size, data = emu.get_ptr_size(), b""
    for number in range(min(count & 0xFFFFFFFF, 64)):
        entry = place + number * 2 * size
        length = int.from_bytes(emu.mem_read(entry, 4), "little")
        data += bytes(emu.mem_read(emu.read_ptr(entry + size), min(length, MAX_DATA)))
    return data


def _wsa_send(emu: Any, name: str, argv: list[Any]) -> int:
    """``WSASend``, and ``WSASendTo`` with an address."""
    data = _gathered(emu, argv[1], argv[2])
    if _sent(emu, argv[0], argv[5] if name == "WSASendTo" else 0, data) is None:
        return SOCKET_ERROR
    put(emu, argv[3], len(data), 4)
    return SUCCESS


def _get_error(emu: Any, _name: str, _argv: list[Any]) -> int:
    """``WSAGetLastError``: the same number as that of all other functions."""
    return int(emu.get_last_error())


def _set_error(emu: Any, _name: str, argv: list[Any]) -> int:
    emu.set_last_error(argv[0])
    return 0


def request_of(emu: Any, handle: int) -> tuple[str, bytes]:
    """What an HTTP request handle asks for (path and query), and what it will be answered with."""
    for module in ("wininet", "winhttp"):
        handler = emu.api.mods.get(module)
        request = handler.netman.get_wininet_object(handle) if handler else None
        if request is not None and hasattr(request, "get_response"):
            response = request.get_response()
            url = request.objname
            target = f"{url.path or '/'}{'?' if url.query else ''}{url.query}"
            return target, bytes(response.getvalue()) if response is not None else b""
    return "", b""


def _wsa_startup(emu: Any, _name: str, argv: list[Any]) -> int:
    """The version that the program wants, as far as there is one. Offsets: ``WSADATA`` of winsock2.h."""
    wanted = (argv[0] & 0xFF, argv[0] >> 8 & 0xFF)
    if wanted < (1, 0):
        return WSAVERNOTSUPPORTED
    major, minor = min(wanted, HIGHEST_VERSION)
    emu.mem_write(argv[1], bytes((major, minor, *HIGHEST_VERSION)))
    # 64 bits: number of sockets before the texts, else behind them
    text, limits = (16, 4) if emu.get_ptr_size() == 8 else (4, 390)
    emu.mem_write(argv[1] + text, b"WinSock 2.0".ljust(257, b"\0") + b"Running".ljust(129, b"\0"))
    sockets, size = (0x7FFF, 65467) if major < 2 else (0, 0)  # as Windows has it: meaningless from 2 on
    emu.mem_write(argv[1] + limits, sockets.to_bytes(2, "little") + size.to_bytes(2, "little"))
    return SUCCESS


def _adapters(emu: Any, name: str, argv: list[Any]) -> int:
    """Programs ask without a buffer first, for how large it has to be."""
    size = ADAPTER_SIZE[emu.get_ptr_size()]
    room = int.from_bytes(emu.mem_read(argv[1], 4), "little")
    if argv[0] and room >= size:
        return int(emu.original("iphlpapi", name, argv))
    put(emu, argv[1], size, 4)
    return ERROR_BUFFER_OVERFLOW


APIS = {
    "GetAdaptersInfo": Api(words=2, answer=_adapters),
    "WSAStartup": Api(words=2, answer=_wsa_startup),
    "WSAGetLastError": Api(words=0, answer=_get_error),
    "WSASetLastError": Api(words=1, answer=_set_error),
    "getaddrinfo": Api(words=4, answer=_getaddrinfo),
    "GetAddrInfoW": Api(words=4, answer=_getaddrinfo),
    "connect": Api(words=3, answer=_connect),
    "WSAConnect": Api(words=7, answer=_connect),
    "send": Api(words=4, answer=_send),
    "sendto": Api(words=6, answer=_send),
    "WSASend": Api(words=7, answer=_wsa_send),
    "WSASendTo": Api(words=9, answer=_wsa_send),
}
