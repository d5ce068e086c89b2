"""Isolation: an error of one item of a loop does not affect the other items.

    isolation.begin()
    for uid in work:
        if not isolation.skips(uid):
            with isolation.item(uid):
                …

An error that would meet every item (Redis is away, for one) ends the loop as usual. Any other is the item's:
it is logged, and the item is in quarantine (:mod:`drakcelery.ledger.quarantine`) until its next try. After
:data:`MOST_TRIES` the loop's *give_up* ends it; if that fails, it stays in quarantine, for people to see.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import structlog
from kombu.exceptions import OperationalError
from redis.exceptions import ResponseError

from drakcelery.errors import StorageAway, Superseded
from drakcelery.ledger.away import WrongKey, concerns_all
from drakcelery.ledger.quarantine import Quarantine

log = structlog.get_logger(__name__)

MOST_TRIES = 8
"""How often an item is tried, over some two minutes, before it is given up."""

GiveUp = Callable[[str, str], bool]
"""End the item of a uid with a sentence that says why. False if nothing can be written to it."""


def _stay(_uid: str, _reason: str) -> bool:
    return False


class Isolation:
    """The isolation of one loop. Cheap to make; threads must not share it."""

    def __init__(self, quarantine: Quarantine, *, where: str, give_up: GiveUp = _stay) -> None:
        """*where* is the loop's name for people, one word."""
        self._quarantine = quarantine
        self._where = where
        self._give_up = give_up
        self._known: frozenset[str] = frozenset()
        self._waiting: frozenset[str] = frozenset()

    def begin(self) -> None:
        """Begin another round of the loop: read what is in quarantine."""
        self._known, self._waiting = self._quarantine.uids(self._where)

    def skips(self, uid: str) -> bool:
        """Whether the item is in quarantine, and its time has not come."""
        return uid in self._waiting

    @contextlib.contextmanager
    def item(self, uid: str) -> Iterator[None]:
        """Deal with one item.

        Raises:
            redis.exceptions.RedisError: Redis is away, or refuses everything.
            kombu.exceptions.OperationalError: the broker is away.
            Superseded, StorageAway: as the loop's body raises them; they are no errors of the item.
        """
        try:
            yield
        except (Superseded, StorageAway, OperationalError):
            raise
        except Exception as error:
            if concerns_all(error):
                raise
            self._note(uid, error)
        else:
            if uid in self._known:
                self._quarantine.remove(uid, where=self._where)

    def _note(self, uid: str, error: Exception) -> None:
        told = self._quarantine.explained(error) if isinstance(error, ResponseError) else error
        text = f"{type(error).__name__}: {told}"
        count = self._quarantine.put(self._where, uid, text)
        log.warning("quarantined", uid=uid, where=self._where, count=count, error=text, exc_info=count == 1)
        if count < MOST_TRIES or isinstance(told, WrongKey):  # not the item's fault
            return
        try:
            ended = self._give_up(uid, f"drakcelery could not deal with this task ({self._where}): {text}")
        except Exception as failed:
            if concerns_all(failed):
                raise
            log.warning("not_given_up", uid=uid, where=self._where, error=str(failed))
            return
        if ended:
            self._quarantine.remove(uid, where=self._where)
