"""Guests have no IPv6: drakrun's rules, which keep them in, are for IPv4 only.

If the kernel speaks IPv6, a guest's bridge gets an address of its own, at which the guest reaches whatever
listens on this host. The guest may also announce itself to this host as a router, and its packets are
forwarded if the kernel forwards IPv6. So IPv6 is switched off for the bridge, to which no other machine
belongs: the kernel then drops all IPv6 packets from there. The switch exists as long as the bridge, and no
firewall is touched.

Facts: ``drakrun/lib/networking.py`` of v0.19.0 to v0.21.0; ``disable_ipv6`` in the kernel's ``ip-sysctl``,
tried in tests/integration/test_guests_and_ipv6.py.
"""

from __future__ import annotations

import re
from pathlib import Path

from drakcelery.errors import Blame, EngineError

CONF = Path("/proc/sys/net/ipv6/conf")
"""A directory for each interface that speaks IPv6, or may; it does not exist if the kernel has no IPv6."""

_BRIDGE = re.compile(r"drak[0-9]{1,3}")


def close(bridge: str) -> None:
    """Switch IPv6 off for a guest's bridge. Raises :class:`EngineError` if that is impossible."""
    if not speaks(bridge):
        return
    try:
        _switch(bridge).write_text("1\n")
    except OSError as error:
        raise _open(bridge, f"; it cannot be switched off here: {error.strerror}") from None


def verify(bridge: str) -> None:
    """Raises :class:`EngineError` if a guest can reach this host by IPv6."""
    if speaks(bridge):
        raise _open(bridge)


def speaking() -> list[str]:
    """The bridges of guests that speak IPv6, since something else started these guests."""
    names = (path.name for path in CONF.glob("drak*"))
    return sorted(name for name in names if _BRIDGE.fullmatch(name) and speaks(name))


def mend(*bridges: str) -> str:
    """The command that switches IPv6 off."""
    return f"sysctl -w {' '.join(f'net.ipv6.conf.{bridge}.disable_ipv6=1' for bridge in bridges)}"


def speaks(bridge: str) -> bool:
    """Whether the kernel accepts IPv6 packets from a bridge."""
    try:
        return _switch(bridge).read_text().strip() != "1"
    except FileNotFoundError:
        return False
    except OSError:
        return True


def _switch(bridge: str) -> Path:
    return CONF / bridge / "disable_ipv6"


def _open(bridge: str, more: str = "") -> EngineError:
    return EngineError(
        f"nothing keeps the guest on {bridge} from this host by IPv6, for which drakrun has no rule{more}; "
        f"fix it: {mend(bridge)}",
        blames=Blame.HOST,
    )
