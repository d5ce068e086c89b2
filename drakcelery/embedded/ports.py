"""Free TCP ports on loopback."""

from __future__ import annotations

import atexit
import random
import socket
from collections.abc import Iterable, Mapping

LOOPBACK = "127.0.0.1"

_LOWEST, _HIGHEST = 10240, 22767
"""Below Linux's ephemeral range (32768 up), so that no outgoing connection takes a chosen port before its
server does; and port + 10000, which SeaweedFS derives for gRPC, is below it too."""

_GRPC_OFFSET = 10000

_reserved: dict[int, socket.socket] = {}
"""Ports that stacks of this process have chosen, each with what keeps other processes from choosing it."""


def is_free(port: int) -> bool:
    """Whether a server could listen on *port* of loopback now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: without it, connections of the last run that linger would make the port look taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def assign(names: tuple[str, ...], *, kept: Mapping[str, int]) -> dict[str, int]:
    """A free port for each of *names*: the one in *kept* where that is free, else a new one.

    The port 10000 above each is free, too. Nobody else is given them until :func:`release`, or the end of
    this process: of two stacks that start, neither chooses what the other's servers have yet to take.
    """
    assigned: dict[str, int] = {}
    for name in names:
        port = kept.get(name)
        if port is None or port in assigned.values() or not _reserve(port):
            port = _new()
        assigned[name] = port
    return assigned


def release(ports: Iterable[int]) -> None:
    """Let others have *ports*, whose servers have ended."""
    for port in ports:
        if (reservation := _reserved.pop(port, None)) is not None:
            reservation.close()


@atexit.register
def _release_all() -> None:
    release(list(_reserved))


def _new() -> int:
    while True:
        port = random.randint(_LOWEST, _HIGHEST)  # noqa: S311 - a port is no secret
        if port not in _reserved and _reserve(port):
            return port


def _reserve(port: int) -> bool:
    """Reserve *port*, if it is free. The reservation is a name in Linux's abstract namespace (unix(7))."""
    if not (is_free(port) and is_free(port + _GRPC_OFFSET)):
        return False
    if port in _reserved:
        return True
    reservation = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        reservation.bind(f"\0drakcelery-port-{port}")
    except OSError:
        reservation.close()
        return False
    _reserved[port] = reservation
    return True
