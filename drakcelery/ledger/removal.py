"""Deletes analyses that are over: their records, what finds them, and what other records say of them."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import cast

import redis

from drakcelery.ledger.keys import DONE, record_key
from drakcelery.ledger.scripts import Scripts
from drakcelery.model.records import Record

SCRIPTS = ("delete", "erase", "relink")
BYTES_AT_ONCE = 1024**2
"""Bytes of names that one script looks at: a few milliseconds, in which Redis does nothing else."""
TRIES = 5


class Removal:
    """What ``drakcelery delete`` does in Karton's Redis."""

    def __init__(self, client: redis.Redis) -> None:
        """*client* answers in text."""
        self._redis = client
        self._scripts = Scripts(client, *SCRIPTS)

    def ended_before(self, time: float) -> list[str]:
        """The uids of all analyses that ended at *time* or before, the oldest first."""
        return cast("list[str]", self._redis.zrangebyscore(DONE, "-inf", time))

    def delete(self, record: Record) -> str | None:
        """Delete the record as it was read, and its entries in the index.

        Returns the window of the index for :meth:`erase`, or ''; None if the analysis is not over, or began
        again meanwhile: then nothing is done.
        """
        found = self._scripts(
            "delete", {"record": record_key(record.uid)}, uid=record.uid, updated=record.updated_text
        )
        return cast("str | None", found)

    def erase(self, uids: Mapping[str, str]) -> None:
        """Take names and reasons of deleted analyses out of the index: their windows by uid."""
        windows = defaultdict(list)
        for uid, window in uids.items():
            if window:
                windows[window].append(uid)
        for window, some in windows.items():
            place = 0
            while place >= 0:
                place = int(
                    self._scripts("erase", window=window, place=place, limit=BYTES_AT_ONCE, uids=some)
                )

    def unlink(self, record: Record) -> None:
        """Let no other record name a deleted one: its retries become those of what it repeated itself."""
        repeated = record.analysis.retry_of if record.analysis is not None else None
        if repeated is not None:
            self._change(repeated, "retries", lambda text: _replaced(text, record.uid, record.retries))
        for uid in record.retries:
            self._change(uid, "analysis", lambda text: _moved(text, record.uid, repeated))
        first = record.analysis.variant_of if record.analysis is not None else None
        if first is not None:
            self._change(first, "variants", lambda text: _without(text, record.uid))
        for look in record.variants:
            self._change(look.uid, "analysis", lambda text: _alone(text, record.uid))

    def _change(self, uid: str, field: str, changed: Callable[[str], str]) -> None:
        """Change a field of another record, if there is one, whatever else happens to it meanwhile."""
        for _ in range(TRIES):
            before = cast("str | None", self._redis.hget(record_key(uid), field))
            if before is None or (after := changed(before)) == before:
                return
            key = {"record": record_key(uid)}
            if self._scripts("relink", key, field=field, before=before, after=after):
                return


def _replaced(retries: str, uid: str, by: Sequence[str]) -> str:
    """The retries of an analysis, with those of one of them in its place."""
    found: list[str] = []
    for one in retries.split():
        found += by if one == uid else (one,)
    return " ".join(dict.fromkeys(found))


def _moved(analysis: str, uid: str, to: str | None) -> str:
    """The analysis, as JSON, as a retry of another one; unchanged if it is none of *uid*."""
    fields = json.loads(analysis)
    if not isinstance(fields, dict) or fields.get("retry_of") != uid:
        return analysis
    return json.dumps({**fields, "retry_of": to}, separators=(",", ":"))


def _without(variants: str, uid: str) -> str:
    """The second looks of an analysis, without one of them."""
    return " ".join(one for one in variants.split() if one.partition("=")[0] != uid)


def _alone(analysis: str, uid: str) -> str:
    """The analysis, as JSON, as no second look at *uid*."""
    fields = json.loads(analysis)
    if not isinstance(fields, dict) or fields.get("variant_of") != uid:
        return analysis
    return json.dumps({**fields, "variant_of": None}, separators=(",", ":"))
