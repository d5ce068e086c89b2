"""Whether the fleet has a place for a sample: a VM of its profile, on the host that it asks for. Pure."""

from __future__ import annotations

from collections.abc import Collection

from drakcelery.errors import BadTask
from drakcelery.model.analysis import Place


def require_place(wanted: Place, places: Collection[Place]) -> None:
    """Raise :class:`BadTask` for a sample that no host of *places* could ever take: it would wait forever."""
    require_names(profile=wanted.profile, host=wanted.host, places=places)
    if wanted.host is not None and wanted not in places:
        there = ", ".join(sorted(place.profile for place in places if place.host == wanted.host))
        raise BadTask(f"host {wanted.host!r} has no VM of the profile {wanted.profile!r}; it has: {there}")


def require_names(*, profile: str | None, host: str | None, places: Collection[Place]) -> None:
    """As :func:`require_place`, of each name alone; None: it is not known, or any will do."""
    profiles = sorted({place.profile for place in places})
    hosts = sorted({str(place.host) for place in places})
    if profile is not None and profile not in profiles:
        raise BadTask(f"no host has the VM profile {profile!r}; there are: {', '.join(profiles)}")
    if host is not None and host not in hosts:
        raise BadTask(f"there is no host {host!r}; there are: {', '.join(hosts)}")
