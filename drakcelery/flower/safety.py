"""Who may reach Flower: nobody beyond this machine, unless it asks who they are; from which page. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import urlsplit

from drakcelery.errors import SettingsError

LOOKING = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing."""

_STEP = re.compile(r"(?!\.{1,2}(?:/|$))[A-Za-z0-9._~-]+")


def path_prefix(given: str | None) -> str:
    """The path below which a proxy shows Flower, without the slashes at its ends; ``""`` for none.

    Raises :class:`SettingsError` if it is no path, or one that an address cannot have as it is.
    """
    path = (given or "").strip("/")
    if path and not all(_STEP.fullmatch(step) for step in path.split("/")):
        raise SettingsError(
            f"--url-prefix {given!r:.100}: expected a path such as /flower or /tools/flower, of letters, "
            "digits and . _ ~ - between its slashes"
        )
    return path


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


def takes_samples(*, address: str, unix_socket: str, has_login: bool) -> bool:
    """Whether pages take samples: if Flower asks who brings them, or only this machine reaches it."""
    return has_login or bool(unix_socket) or is_loopback(address)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a browser says about a request, which a web page cannot change."""

    method: str
    host: str
    """The ``Host`` header."""
    fetched_from: str | None
    """``Sec-Fetch-Site``; None: an old browser, or none."""
    origin: str | None
    """``Origin``; None: likewise, or the request only looks."""


def refusal(asked: Asked, *, names: Collection[str], any_name: bool) -> str | None:
    """Why a request is refused, in a sentence; None if it is not.

    *names* are those of ``[flower] allowed_hosts``; *any_name*: where there are none, any will do.
    """
    if not (is_own_name(asked.host) or _name(asked.host) in names or (any_name and not names)):
        return (
            "Flower answers under the names 127.0.0.1 and localhost, and those in [flower] allowed_hosts, "
            "only; without these, a login or [flower] allow_unauthenticated = 1 lets it answer under any"
        )
    if asked.method in LOOKING:
        return None
    if asked.fetched_from is not None:
        is_ours = asked.fetched_from == "same-origin"
    elif asked.origin is not None:
        is_ours = _origin_of(asked.origin) in {asked.host.lower(), *names}
    else:
        is_ours = True  # a program, which has no login or cookie of somebody else's
    return None if is_ours else "Only Flower's own pages may ask for a change, and this is another's request"


def _origin_of(origin: str) -> str:
    """The part of an origin that a ``Host`` header has, or the name alone; ``""`` of what is none."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def is_own_name(host: str) -> bool:
    """Whether a request's ``Host`` names no domain: an IP address, or ``localhost``.

    A web page of somebody else can have its own domain point to a loopback address, and then ask Flower in
    the name of who is looking at that page (DNS rebinding). Such a request names that domain.
    """
    name = _name(host)
    if name == "localhost":
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _name(host: str) -> str:
    """A ``Host`` without its port, in small letters; ``""`` where it is none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
