"""The watch: since when Redis has been heard without a gap. Silence counts only from then on.

The first process that is back after an outage finds all others silent. That does not mean that they are dead:
they could not be heard. So every process that judges by silence notes in Redis, every few seconds, that it
hears Redis. If the last note is too old, or Redis is not the same server as before (by its run id and role),
the watch begins again, and silence counts from zero.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import structlog
from redis.exceptions import NoPermissionError

from drakcelery.model.timeouts import Watch

log = structlog.get_logger(__name__)

MEMORY = 7 * 24 * 3600
"""Seconds for which the watch and its gaps are remembered."""
MOST_GAPS = 1000
_GAP = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?) ([0-9]{1,12}(?:\.[0-9]{1,9})?)")


@dataclass(frozen=True, kw_only=True)
class ServerId:
    """Which server answers. If one of the two changes, what was heard before came from another server."""

    run_id: str = ""
    """A new one with each start; empty if it is not known."""
    role: str = ""

    @classmethod
    def of(cls, client: Any) -> Self:
        """The server of *client*, a client of redis-py that may or may not decode its answers.

        A user without the right to INFO learns nothing; then only the time between two notes shows an outage.
        """
        try:
            return cls(run_id=_info(client, "server", "run_id"), role=_info(client, "replication", "role"))
        except NoPermissionError as error:
            log.debug("server_not_known", error=str(error))
            return cls()


def _info(client: Any, section: str, name: str) -> str:
    return str(client.info(section).get(name, ""))


def watch_of(answer: Sequence[str]) -> Watch:
    """What ``watch.lua`` returned."""
    now, since, *gaps = answer
    found = [gap.groups() for text in gaps if (gap := _GAP.fullmatch(text))]  # if not, it is none of ours
    return Watch(
        now=float(now), since=float(since), gaps=tuple((float(begin), float(end)) for begin, end in found)
    )
