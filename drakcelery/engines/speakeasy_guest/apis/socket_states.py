"""What a socket is beside what Speakeasy knows: whether it blocks, what of it was shut, and its events."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from drakcelery.engines.speakeasy_guest.apis.api import Api, put
from drakcelery.engines.speakeasy_guest.scheduling.scheduler import INFINITE
from drakcelery.engines.speakeasy_guest.scheduling.wait_objects import Event

SOCKET_ERROR: Final = 0xFFFFFFFF
WSAEWOULDBLOCK, WSAENOTSOCK, WSAENOTCONN, WSAESHUTDOWN = 10035, 10038, 10057, 10058
FIONBIO, FIONREAD, SIOCATMARK = 0x8004667E, 0x4004667F, 0x40047307
SOCKET_LEVEL, RECEIVE_TIMEOUT = 0xFFFF, 0x1006
READ, WRITE, CONNECT, CLOSE = 0x1, 0x2, 0x10, 0x20
"""``FD_…``"""

RECEIVING, SENDING = 0, 1
"""Which direction ``shutdown`` ends; 2 is both."""

EVENT_BITS: Final = 10
"""``FD_MAX_EVENTS``."""


@dataclass
class State:
    """One socket's."""

    blocks: bool = True
    timeout: int = INFINITE
    """Milliseconds that receiving waits."""
    connected: bool = False
    shut: set[int] = field(default_factory=set)
    event: int = 0
    """The event that is set when something happens that is in the mask."""
    mask: int = 0
    happened: int = 0
    closed: bool = False
    """Whether it was told that the other side has closed."""


@dataclass
class States:
    """Those of one process, by the numbers of their sockets."""

    known: dict[int, State] = field(default_factory=dict)

    def of(self, socket: Any) -> State:
        """That of one of Speakeasy's sockets."""
        return self.known.setdefault(socket.get_fd(), State())


def socket_of(emu: Any, handle: int) -> Any:
    """The socket behind a handle; without one, the last error says so."""
    found = emu.get_network_manager().get_socket(handle)
    if found is None:
        emu.set_last_error(WSAENOTSOCK)
    return found


def failure(emu: Any, code: int) -> int:
    """Set the error of a function on sockets: ``SOCKET_ERROR``."""
    emu.set_last_error(code)
    return SOCKET_ERROR


def is_stream(socket: Any) -> bool:
    """Whether it is TCP's."""
    return bool(socket.get_type() != "SOCK_DGRAM")


def available(socket: Any) -> int:
    """Bytes that there are to receive."""
    return len(socket.curr_packet.getbuffer()) - int(socket.curr_packet.tell())


def trouble(emu: Any, socket: Any, direction: int) -> int:
    """The error of sending or receiving now, 0 for none."""
    if direction in emu.sockets.of(socket).shut:
        return WSAESHUTDOWN
    return WSAENOTCONN if is_stream(socket) and not socket.get_connection_info()[0] else 0


def happen(emu: Any, socket: Any, what: int) -> None:
    """Note that something has happened, and set the event that waits for it."""
    state = emu.sockets.of(socket)
    state.happened |= what
    told = emu.wait_objects.get(state.event) if state.event else None
    if isinstance(told, Event) and state.happened & state.mask:
        told.is_set = True


def after_receiving(emu: Any, socket: Any) -> None:
    """There is more to receive, or the other side has closed, which is told once."""
    state = emu.sockets.of(socket)
    if available(socket):
        happen(emu, socket, READ)
    elif is_stream(socket) and not state.closed:
        state.closed = True
        happen(emu, socket, CLOSE)


def _control(emu: Any, _name: str, argv: list[Any]) -> int:
    """``ioctlsocket``."""
    socket, what = socket_of(emu, argv[0]), argv[1] & 0xFFFFFFFF
    if socket is None:
        return SOCKET_ERROR
    if what == FIONBIO:
        emu.sockets.of(socket).blocks = not int.from_bytes(emu.mem_read(argv[2], 4), "little")
    elif what in (FIONREAD, SIOCATMARK):
        put(emu, argv[2], available(socket) if what == FIONREAD else 1, 4)
    return 0


def _set_option(emu: Any, _name: str, argv: list[Any]) -> int:
    socket = socket_of(emu, argv[0])
    if socket is None:
        return SOCKET_ERROR
    if argv[1] & 0xFFFF == SOCKET_LEVEL and argv[2] & 0xFFFF == RECEIVE_TIMEOUT and argv[3]:
        emu.sockets.of(socket).timeout = int.from_bytes(emu.mem_read(argv[3], 4), "little") or INFINITE
    return 0


def _shut(emu: Any, _name: str, argv: list[Any]) -> int:
    socket, how = socket_of(emu, argv[0]), argv[1] & 0xFFFFFFFF
    if socket is None:
        return SOCKET_ERROR
    if not socket.get_connection_info()[0]:
        return failure(emu, WSAENOTCONN)
    emu.sockets.of(socket).shut.update((RECEIVING, SENDING) if how > SENDING else (how,))
    return 0


def _select_events(emu: Any, _name: str, argv: list[Any]) -> int:
    """``WSAEventSelect``: the socket blocks no more, and what is the case already sets the event."""
    socket = socket_of(emu, argv[0])
    if socket is None:
        return SOCKET_ERROR
    state = emu.sockets.of(socket)
    state.blocks, state.event, state.mask = False, argv[1], argv[2] & 0xFFFFFFFF
    here = (WRITE | (READ if available(socket) else 0)) if state.connected else 0
    happen(emu, socket, here)
    return 0


def _enumerate_events(emu: Any, _name: str, argv: list[Any]) -> int:
    """``WSAEnumNetworkEvents``: each is told once, none with an error."""
    socket = socket_of(emu, argv[0])
    if socket is None:
        return SOCKET_ERROR
    state = emu.sockets.of(socket)
    told = state.happened & state.mask
    state.happened &= ~told
    event = emu.wait_objects.get(argv[1]) if argv[1] else None
    if isinstance(event, Event):
        event.is_set = False
    emu.mem_write(argv[2], told.to_bytes(4, "little") + bytes(4 * EVENT_BITS))
    return 0


APIS = {
    "ioctlsocket": Api(words=3, answer=_control),
    "setsockopt": Api(words=5, answer=_set_option),
    "shutdown": Api(words=2, answer=_shut),
    "WSAEventSelect": Api(words=3, answer=_select_events),
    "WSAEnumNetworkEvents": Api(words=3, answer=_enumerate_events),
}
