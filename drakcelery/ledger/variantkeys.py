"""The keys of second looks, as :mod:`drakcelery.ledger.keytable` has them."""

from __future__ import annotations

from drakcelery.ledger.key import Key

VARIANTS = (
    Key(
        "variants",
        "drak:variants:of:<root uid>",
        "hash",
        "ledger",
        "the [second looks](watching.md#a-second-look) that a root was granted, by uid: what each is a look "
        "at, and the seconds of a slot set apart for it",
        "`[drakcelery] record_ttl` after the last one was granted",
        "HGET HLEN HSET EXPIRE",
    ),
    Key(
        "slot_time",
        "drak:variants:slot-time",
        "hash",
        "ledger",
        "the seconds that slots were taken by first looks (`first`, of `looks`) and by second ones "
        "(`second`), which halve each day since `at`",
        "30 days after the last analysis was published",
        "HMGET HSET EXPIRE",
    ),
)
