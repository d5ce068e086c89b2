"""Who may reach Flower: nobody beyond this machine, unless it asks who they are. Pure."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from drakcelery.errors import SettingsError


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches a server that listens on *address*; ``""`` is every address."""
    if address.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def require_safe(*, address: str, unix_socket: str, has_login: bool, allow_unauthenticated: bool) -> None:
    """Raise :class:`SettingsError` where anyone on the network might see samples and stop analyses."""
    if has_login or allow_unauthenticated or unix_socket or is_loopback(address):
        return
    shown = address or "every address of this machine"
    raise SettingsError(
        f"Flower would listen on {shown} without a login, and let whoever reaches it see samples, cancel "
        "analyses and drain hosts. Give it one (FLOWER_BASIC_AUTH=user:password, or Flower's --auth), have "
        "it listen on [flower] address = 127.0.0.1, or, where something before it asks who it is, set "
        "[flower] allow_unauthenticated = 1"
    )


def is_own_name(host: str) -> bool:
    """Whether a request's ``Host`` names no domain: an IP address, or ``localhost``.

    A web page of somebody else can have its own domain point to a loopback address, and then ask Flower in
    the name of who is looking at that page (DNS rebinding). Such a request names that domain.
    """
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if name == "localhost":
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
