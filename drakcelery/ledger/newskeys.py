"""The keys of watched runs, as :mod:`drakcelery.ledger.keytable` has them."""

from __future__ import annotations

from drakcelery.ledger.key import Key

NEWS = (
    Key(
        "watched",
        "drak:watched",
        "zset",
        "ledger",
        "the profiles and qualities (`<profile>/<quality>`) of which runs were watched for news, by the time"
        " of the last one; some 32 at most",
        "90 days after the last one",
        "ZADD ZCARD ZRANGE ZSCORE ZREMRANGEBYSCORE EXPIRE",
    ),
    Key(
        "news",
        "drak:news:<profile>/<quality>",
        "list",
        "ledger",
        "when the newest 1000 [measured runs](watching.md#the-report) showed something new (JSON), "
        "8 kB each at most",
        "90 days after the last one",
        "LPUSH LTRIM LRANGE EXPIRE",
    ),
    Key(
        "stops",
        "drak:stops:<profile>/<quality>",
        "list",
        "ledger",
        "how long the newest 2000 other runs lasted that were watched for news (JSON, some 60 bytes each)",
        "90 days after the last one",
        "LPUSH LTRIM LRANGE EXPIRE",
    ),
)
