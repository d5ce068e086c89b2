"""Which analyses of a stack have changed."""

from __future__ import annotations

from collections import Counter

from redis.exceptions import RedisError

from drakcelery.ledger import Ledger
from drakcelery.model.analysis import State
from drakcelery.model.records import Record

MOST = 500
"""Ended analyses that are read at once."""


class Changes:
    """Reads the ledger again and again, from when it is made."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._since = ledger.now()
        self._seen: dict[str, tuple[State, int]] = {}
        self.live: list[Record] = []
        """Those that are not over, oldest first."""
        self.ended: Counter[State] = Counter()
        """How many have ended since, by how."""
        self.waiting = 0
        """Samples that wait in Karton."""

    def read(self) -> list[Record]:
        """Those that have changed since it was called last: a new one, another state or attempt.

        There are none while Redis does not answer.
        """
        try:
            live = list(self._ledger.live())
            ended = self._ledger.ended_since(self._since, most=MOST)
            over = list(self._ledger.records([uid for uid, _ in ended]))
            waiting = sum(stretch.length for stretch in self._ledger.inbox().backlog(most=1))
        except RedisError:
            return []
        self.live, self.waiting = live, waiting
        if ended:
            self._since = ended[-1][1]
        over = [record for record in over if record.state.is_over]
        self.ended.update(record.state for record in over)
        changed = [one for one in live if self._seen.get(one.uid) != (one.state, one.attempts)]
        self._seen = {one.uid: (one.state, one.attempts) for one in live}
        return [*over, *changed]
