"""Whether our keys in Karton's Redis have the right types: a wrong one stops every process that needs it."""

from __future__ import annotations

from redis.exceptions import NoPermissionError

from drakcelery.doctor.commands import redis_cli
from drakcelery.doctor.finding import Check, Verdict, failed, ok, skipped
from drakcelery.doctor.subject import Subject
from drakcelery.ledger import keytypes


def _types(subject: Subject) -> Verdict:
    try:
        found = keytypes.types(subject.redis)
    except NoPermissionError:
        return skipped("this user of Redis may not use TYPE: see redis.rights")
    if odd := keytypes.odd_keys(subject.redis, found):
        what, url = "; ".join(one.said for one in odd), subject.settings.redis.address()
        commands = [redis_cli(url, "RENAME", one.key, f"{one.key}-odd") for one in odd]
        return failed(f"{what}: whoever needs it fails", f"{_WHO} move it away; it is made again.", *commands)
    return ok(f"our keys that are there ({len(found)}) are of their types")


_WHO = "Nobody of ours writes them so: look for who did (docs/keys.md has every key), then"
CHECKS = (
    Check(
        name="redis.keys",
        what="drakcelery's own keys are of the types that it gave them",
        remedy=f"{_WHO} move it away; it is made again.",
        examine=_types,
        needs=("redis.reachable",),
    ),
)
