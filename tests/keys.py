"""The table of Redis keys, for the tests that hold it, docs/keys.md and the code together.

``python -m tests.keys`` writes the tables of docs/keys.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import redis

from drakcelery.ledger.foreignkeys import BROKER, KARTON
from drakcelery.ledger.key import Key
from drakcelery.ledger.keys import LIVE
from drakcelery.ledger.keytable import LEDGER
from tests.reference import ROOT

PAGE = ROOT / "docs" / "keys.md"
SECTIONS = {"ledger": LEDGER, "karton": KARTON, "broker": BROKER}
ALL = (*LEDGER, *KARTON, *BROKER)


def written(page: str) -> str:
    """*page* with its tables as they should be."""
    for name, keys in SECTIONS.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        before, _, rest = page.partition(begin)
        page = f"{before}{begin}\n{table(keys)}\n{end}{rest.partition(end)[2]}"
    return page


def table(keys: Iterable[Key]) -> str:
    """Keys for people."""
    rows = ["| Key | Type | Owner | Content | TTL |", "| --- | --- | --- | --- | --- |"]
    rows += [f"| `{key.pattern}` | {key.kind} | {key.owner} | {key.holds} | {key.ttl} |" for key in keys]
    return "\n".join(rows) + "\n"


def leaked(client: redis.Redis, keys: Iterable[str]) -> list[str]:
    """Those of *keys* that would stay forever: they have no TTL, and no owner who removes them.

    The record of an analysis that is over has an owner no longer, only its TTL.
    """
    owned = [key for key in ALL if not key.expires]
    asked = list(keys)
    with client.pipeline(transaction=False) as pipe:
        for key in asked:
            pipe.ttl(key)
        ttls = pipe.execute()
    return sorted(
        key
        for key, ttl in zip(asked, ttls, strict=True)
        if ttl == -1 and not (any(one.matches(key) for one in owned) and not _is_left_behind(client, key))
    )


def _is_left_behind(client: redis.Redis, key: str) -> bool:
    match = re.fullmatch(r"drak:analysis:\{(.+)\}", key)
    return match is not None and client.zscore(LIVE, match[1]) is None


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
