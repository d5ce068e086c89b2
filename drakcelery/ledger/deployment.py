"""The deployment on this Redis: one identity at a time.

Two would mix: queues, places and hosts are named by profile and host alone, so the hosts of one would take
the samples of the other.

Keys:
    ``drak:deployment``  hash, the identity and its last sign of life
"""

from __future__ import annotations

import redis

from drakcelery import lifesigns
from drakcelery.errors import SettingsError
from drakcelery.intake import ASIDE, INBOX, WAITING
from drakcelery.ledger import LIVE
from drakcelery.ledger.scripts import load_scripts

DEPLOYMENT = "drak:deployment"
SILENCE = 2 * lifesigns.DEFAULT.host
"""Seconds without a sign after which no process of a deployment is alive."""


class Deployment:
    """An identity, and its claim on Karton's Redis."""

    def __init__(self, client: redis.Redis, identity: str) -> None:
        """*client* answers in text."""
        self._identity = identity
        self._claim = load_scripts(client, "claim_deployment")["claim_deployment"]

    def claim(self) -> None:
        """Be, or stay, the deployment of this Redis.

        Raises:
            SettingsError: another one is, and lives or has samples that are not over.
        """
        other = self._claim([DEPLOYMENT, LIVE, INBOX, WAITING, ASIDE], [self._identity, SILENCE])
        if not other:
            return
        identity, silent, samples = other
        left = "has samples that are not over" if samples else f"showed life {silent} s ago"
        raise SettingsError(
            f"another deployment is at work on this Redis: [drakrun] identity = {identity}, which {left}; "
            f"this one is {self._identity}. Two deployments would take each other's samples: give this one a "
            "Redis of its own, or stop the other and let its samples end"
        )
