"""Free TCP ports on loopback."""

from __future__ import annotations

import random
import socket
from collections.abc import Mapping

LOOPBACK = "127.0.0.1"

_LOWEST, _HIGHEST = 10240, 22767
"""Below Linux's ephemeral range (32768 up), so that no outgoing connection takes a chosen port before its
server does; and port + 10000, which SeaweedFS derives for gRPC, is below it too."""

_GRPC_OFFSET = 10000


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

    The port 10000 above each is free, too.
    """
    assigned: dict[str, int] = {}
    for name in names:
        port = kept.get(name)
        while port is None or not _usable(port, assigned):
            port = random.randint(_LOWEST, _HIGHEST)  # noqa: S311 - a port is no secret
        assigned[name] = port
    return assigned


def _usable(port: int, assigned: Mapping[str, int]) -> bool:
    return port not in assigned.values() and is_free(port) and is_free(port + _GRPC_OFFSET)
