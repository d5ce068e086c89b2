"""The keys of the index by which analyses are found, as :mod:`drakcelery.ledger.keytable` has them."""

from __future__ import annotations

from drakcelery.ledger.key import Key

INDEX = (
    Key(
        "index",
        "drak:index",
        "zset",
        "ledger",
        "the [index](decisions/finding.md) of analyses that are over: its windows of six hours, by their "
        "numbers; and `older`, the time down to which reconcile has entered those of before there was one",
        "`[drakcelery] record_ttl` after the last end",
        "ZADD ZREM ZRANGE ZSCORE ZRANGEBYSCORE ZREVRANGEBYSCORE EXPIRE",
    ),
    Key(
        "index_of",
        "drak:index:of:<window>:<field>:<value>",
        "zset",
        "ledger",
        "uids of analyses that ended in a window with a value (of state, host, profile, engine), by when",
        "`[drakcelery] record_ttl` after the last of them ended",
        "ZADD ZREM ZCARD ZSCORE ZRANGEBYSCORE ZREVRANGEBYSCORE EXPIRE",
    ),
    Key(
        "index_uids",
        "drak:index:uids:<window>",
        "zset",
        "ledger",
        "their uids (`u:<uid>`), hashes (`s:<16 digits>:<time, counted down>:<uid>`) and uids in Karton "
        "(`k:<uid>:<uid>`), all with the score 0",
        "`[drakcelery] record_ttl` after the last of them ended",
        "ZADD ZREM ZRANGEBYLEX EXISTS EXPIRE",
    ),
    Key(
        "index_text",
        "drak:index:text:<window>",
        "string",
        "ledger",
        "a line for each: uid, name and reason, in which parts are looked for",
        "`[drakcelery] record_ttl` after the last of them ended",
        "APPEND STRLEN GETRANGE SETRANGE EXPIRE",
    ),
)
