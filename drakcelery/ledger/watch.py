"""The watch: since when somebody has heard Redis without a break. Silence counts from there on only.

Who comes back first after an outage finds everybody else silent. Nobody is dead for that: he could not be
heard. So whoever judges by silence notes on record that he hears, every few seconds. Where the last note is
older than a bound, or Redis is another than it was (its run id, its role), the watch begins again, and with
it the time for which anybody may have been silent.
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
    """Which server it is that answers. Where one of the two changes, what was heard before is of another."""

    run_id: str = ""
    """A new one with each start; empty if it is not known."""
    role: str = ""

    @classmethod
    def of(cls, client: Any) -> Self:
        """The server of *client*, which is redis-py's, decoding or not.

        A user who may not use INFO learns nothing; then only the time between two notes tells of an outage.
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
    found = [gap.groups() for text in gaps if (gap := _GAP.fullmatch(text))]  # else it is none of ours
    return Watch(
        now=float(now), since=float(since), gaps=tuple((float(begin), float(end)) for begin, end in found)
    )
