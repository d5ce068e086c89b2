"""The deployment on this Redis: one identity at a time.

Two deployments would get mixed up: queues, places and hosts are named by profile and host alone, so the hosts
of one would take the samples of the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import redis

from drakcelery.errors import SettingsError
from drakcelery.ledger.clock import now, number
from drakcelery.ledger.keys import ASIDE, DEPLOYMENT, INBOX, LIVE, TWINS_WAITING, WAITING
from drakcelery.ledger.scripts import Scripts
from drakcelery.model import timeouts

SILENCE = 2 * timeouts.DEFAULT.host
"""Seconds without a sign after which no process of a deployment is alive."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """The deployment that a Redis has."""

    identity: str
    silent: float
    """Seconds since its last sign of life."""
    samples: int
    """More than 0 if it has samples that are not over."""

    @property
    def is_at_work(self) -> bool:
        """Whether no other deployment may begin here."""
        return self.silent < SILENCE or self.samples > 0

    def refuses(self, ours: str) -> str:
        """Why a process of the identity *ours* may not be at work beside it."""
        left = "has samples that are not over" if self.samples else f"showed life {self.silent:.0f} s ago"
        return (
            f"another deployment is at work on this Redis: [drakrun] identity = {self.identity}, which "
            f"{left}; this one is {ours}. Two deployments would take each other's samples: give this one a "
            "Redis of its own, or stop the other and let its samples end"
        )


class Deployment:
    """An identity, and its claim on Karton's Redis."""

    def __init__(self, client: redis.Redis, identity: str) -> None:
        """*client* answers in text."""
        self._redis = client
        self._identity = identity
        self._scripts = Scripts(client, "claim_deployment")

    def claim(self) -> None:
        """Become, or stay, the deployment of this Redis.

        Raises:
            SettingsError: another one is, and lives or has samples that are not over.
        """
        other = self._scripts("claim_deployment", identity=self._identity, silence=SILENCE)
        if not other:
            return
        identity, silent, samples = other
        found = Found(identity=identity, silent=float(silent), samples=samples)
        raise SettingsError(found.refuses(self._identity))

    def found(self) -> Found | None:
        """Which deployment this Redis has, without a claim to it; None if there was none yet."""
        fields = cast("dict[str, str]", self._redis.hgetall(DEPLOYMENT))
        if "identity" not in fields:
            return None
        samples = int(self._redis.zcard(LIVE)) + int(self._redis.zcard(INBOX))
        samples += int(self._redis.exists(WAITING, ASIDE, TWINS_WAITING))
        silent = max(0.0, now(self._redis) - number(fields.get("renewed", "")))
        return Found(identity=fields["identity"], silent=silent, samples=samples)
