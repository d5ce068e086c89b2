"""Whether our keys in Karton's Redis are what they should be: one of another type stops whoever needs it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from redis.exceptions import NoPermissionError, ResponseError

from drakcelery.doctor.finding import Check, Verdict, failed, ok, skipped
from drakcelery.doctor.subject import Subject
from drakcelery.fleet import FLEET
from drakcelery.intake import ASIDE, INBOX, WAITING
from drakcelery.karton.text import clean
from drakcelery.ledger import DONE, DUE, INFLIGHT, LIVE, NOTICE_COUNTS, NOTICES, NOTICES_WANTED
from drakcelery.ledger.deployment import DEPLOYMENT
from drakcelery.ledger.quarantine import QUARANTINE
from drakcelery.ledger.watch import BROKER_WATCH, WATCH
from drakcelery.notices import DEAD
from drakcelery.recovery.duty import TURN

TYPES: Mapping[str, str] = {
    INBOX: "zset",
    ASIDE: "zset",
    WAITING: "set",
    INFLIGHT: "hash",
    LIVE: "zset",
    DONE: "zset",
    DUE: "zset",
    NOTICES: "zset",
    NOTICES_WANTED: "set",
    NOTICE_COUNTS: "hash",
    DEAD: "list",
    QUARANTINE: "zset",
    FLEET: "zset",
    DEPLOYMENT: "hash",
    TURN: "string",
    WATCH: "hash",
    BROKER_WATCH: "hash",
    f"{WATCH}:gaps": "zset",
    f"{BROKER_WATCH}:gaps": "zset",
}
"""Keys of the whole fleet. A record of one analysis that is odd is in quarantine."""
OF_NAMES: Mapping[str, str] = {
    "drak:host:": "string",
    "drak:io:": "string",
    "drak:lease:": "hash",
    f"{WAITING}:": "zset",
    "drak:durations:": "list",
    "drak:canary:": "hash",
}
"""Keys that go on with the name of a host, place or profile."""


def _expected(subject: Subject) -> dict[str, str]:
    """Every key that is looked at, with the type that it should be of."""
    names: set[str] = set()
    try:
        for place in cast("list[str]", subject.redis.zrange(FLEET, 0, -1)):
            names.update((place, *place.partition("@")[::2]))
    except NoPermissionError:
        raise
    except ResponseError:
        pass  # it is of another type itself, which is found below
    return {**TYPES, **{prefix + name: kind for prefix, kind in OF_NAMES.items() for name in names if name}}


def _types(subject: Subject) -> Verdict:
    expected = _expected(subject)
    try:
        with subject.redis.pipeline(transaction=False) as pipe:
            for key in expected:
                pipe.type(key)
            found = dict(zip(expected, cast("list[str]", pipe.execute()), strict=True))
    except NoPermissionError:
        return skipped("this user of Redis may not use TYPE: see redis.rights")
    odd = [key for key, kind in found.items() if kind not in ("none", expected[key])]
    if odd:
        what = "; ".join(f"{clean(key, 140)} is a {found[key]}, not a {expected[key]}" for key in odd)
        return failed(f"{what}: whoever needs it fails")
    return ok(
        f"our keys that are there ({sum(kind != 'none' for kind in found.values())}) are of their types"
    )


CHECKS = (
    Check(
        name="redis.keys",
        what="drakcelery's own keys are of the types that it gave them",
        remedy="Nobody of ours writes them so: look for who did (docs/keys.md has every key), then redis-cli "
        "RENAME KEY KEY-odd; it is made anew.",
        look=_types,
        needs=("redis.reachable",),
    ),
)
