"""TLS keys for Wireshark, from what DRAKVUF's tlsmon saw."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import orjson

from drakcelery.artifacts.log import LINE_LIMIT
from drakcelery.artifacts.output import Output, Ready, nobody

KEY_FILE = "wireshark_key_file.txt"
REMEMBERED_KEYS = 100_000
"""Keys kept in memory to leave out repetitions; one further apart is written again, and does no harm."""

_CLIENT_RANDOM = re.compile(r"[0-9a-fA-F]{64}")
_MASTER_KEY = re.compile(r"[0-9a-fA-F]{96}")


@dataclass(frozen=True, kw_only=True)
class KeysWritten:
    """The result of reading a tlsmon log."""

    keys: int
    skipped: int
    """Lines whose values are no TLS client random (32 bytes) and master key (48 bytes) in hex."""


def write_key_file(tlsmon_log: Path, target: Path, ready: Ready = nobody) -> KeysWritten:
    """Write ``CLIENT_RANDOM <client_random> <master_key>`` lines, the NSS key log format, to *target*.

    *tlsmon_log* is the log that we have split, our own file. No file is written if there is no key.
    """
    if not tlsmon_log.is_file():
        return KeysWritten(keys=0, skipped=0)
    keys = skipped = 0
    seen: set[bytes] = set()
    with tlsmon_log.open("rb") as source, Output(target, ready) as out:
        for key in _keys(source):
            if key is None:
                skipped += 1
            elif key not in seen:
                if len(seen) == REMEMBERED_KEYS:
                    seen.clear()
                seen.add(key)
                out.write(key)
                keys += 1
        if keys:
            out.finish()
    return KeysWritten(keys=keys, skipped=skipped)


def _keys(source: BinaryIO) -> Iterator[bytes | None]:
    while line := source.readline(LINE_LIMIT):
        entry = orjson.loads(line)
        client_random, master_key = entry.get("client_random"), entry.get("master_key")
        if _is_hex(_CLIENT_RANDOM, client_random) and _is_hex(_MASTER_KEY, master_key):
            yield f"CLIENT_RANDOM {client_random.lower()} {master_key.lower()}\n".encode()
        else:
            yield None


def _is_hex(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None
