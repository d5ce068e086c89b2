"""The keys by which analyses are reused, as :mod:`drakcelery.ledger.keytable` has them."""

from __future__ import annotations

from drakcelery.ledger.key import Key

REUSE = (
    Key(
        "reusable",
        "drak:reuse:<conditions>",
        "string",
        "ledger",
        "the uid of the newest complete analysis under these [conditions](watching.md#reuse), a sha256",
        "`[drakcelery] record_ttl` after it ended",
        "GET SET EXPIRE",
    ),
    Key(
        "twins",
        "drak:twins",
        "hash",
        "ledger",
        "conditions of live analyses, and the uid of each; reconcile takes out what is not live",
        "none; the conditions leave it with their analysis",
        "HGET HGETALL HSET HDEL",
    ),
    Key(
        "twins_waiting",
        "drak:twins:waiting",
        "hash",
        "ingress",
        "Karton tasks that wait for a live analysis of the same sample: since when, and for which, or "
        "that wait for their turn: for themselves; of one that has waited only since when; 1000 at most",
        "none; a task leaves it when it is opened, reused, refused or dropped",
        "HGET HMGET HGETALL HLEN HSET HDEL EXISTS",
    ),
    Key(
        "making",
        "drak:reuse:making:{<uid>}",
        "string",
        "ingress",
        "who is copying an earlier analysis to this uid: the Karton task, and a mark of that try",
        "10 minutes after the last object; the try that ends, and an analysis that begins, remove it",
        "GET SET EXPIRE DEL",
    ),
)
