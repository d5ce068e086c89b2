"""Host names: each belongs to one machine at a time, as long as a worker of it renews the claim.

A claim does not run out by itself: while Redis is away it cannot be renewed, and the first machine that is
back would take the name of another that is alive. It passes to a machine that has listened for as long as the
claim lasts, and heard nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self, cast

import redis

from drakcelery.ledger.keys import lease_key
from drakcelery.ledger.scripts import Scripts
from drakcelery.model import timeouts
from drakcelery.model.machine import Machine

MEMORY = 7 * 24 * 3600
"""Seconds for which a name is kept that nobody renews, and that nobody else wants."""


@dataclass(frozen=True, kw_only=True)
class Holder:
    """A machine that has a host name."""

    machine: Machine
    renewed: str
    """When it last renewed its claim, by Redis' clock; a different text each time."""
    lasts: float
    """After so many seconds of silence another machine that listens may have the name."""

    @property
    def renewed_at(self) -> float:
        """UNIX time of *renewed*; 0 if it is no time."""
        try:
            return float(self.renewed)
        except ValueError:
            return 0.0

    @classmethod
    def parse(cls, fields: dict[str, str]) -> Self:
        """Read a claim from Redis; a field that another version does not write is empty."""
        said = {name: fields.get(name, "") for name in ("key", "node", "machine_id", "boot_id", "state_dir")}
        renewed, lasts = fields.get("renewed", ""), fields.get("lasts", "")
        return cls(
            machine=Machine(**said),
            renewed=renewed,
            lasts=int(lasts) / 1000 if lasts.isdecimal() else timeouts.DEFAULT.host,
        )


class HostNames:
    """Who has which host name, in Karton's Redis."""

    def __init__(self, client: redis.Redis) -> None:
        """*client* answers in text."""
        self._redis = client
        self._scripts = Scripts(client, "claim_name", "release_name")

    def claim(
        self, host: str, machine: Machine, *, role: str, lasts: float, silent: Holder | None = None
    ) -> Holder | None:
        """Claim *host* for *machine*, or renew the claim, for *lasts* seconds. Returns the other machine that
        has it.

        *silent* is a holder of which nothing was heard for as long as its claim lasts.
        """
        told = [
            *("node", machine.node, "machine_id", machine.machine_id),
            *("boot_id", machine.boot_id, "state_dir", machine.state_dir),
        ]
        given_up = silent.renewed if silent is not None else ""
        flat = self._scripts(
            "claim_name",
            {"lease": lease_key(host)},
            machine=machine.key,
            role=role,
            ttl=MEMORY,
            lasts=int(lasts * 1000),
            given_up=given_up,
            told=told,
        )
        return Holder.parse(dict(zip(flat[::2], flat[1::2], strict=True))) if flat else None

    def release(self, host: str, machine: Machine, *, role: str) -> None:
        """The worker *role* of *machine* stops; the last one gives the name back."""
        self._scripts("release_name", {"lease": lease_key(host)}, machine=machine.key, role=role)

    def holder(self, host: str) -> Holder | None:
        """The machine that has *host* now."""
        fields = cast("dict[str, str]", self._redis.hgetall(lease_key(host)))
        return Holder.parse(fields) if fields else None

    def holders(self, hosts: Iterable[str]) -> dict[str, Holder]:
        """Those of *hosts* that a machine has as its name, with that machine."""
        found = {host: self.holder(host) for host in hosts}
        return {host: holder for host, holder in found.items() if holder is not None}
