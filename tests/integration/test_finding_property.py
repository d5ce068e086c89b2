"""A search finds what reading every record would find, in the same order, page by page."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
import redis
from hypothesis import example, given, settings
from hypothesis import strategies as st

from drakcelery.embedded.services import Services
from drakcelery.ledger import Ledger
from drakcelery.ledger import index as ledger_index
from drakcelery.ledger.keys import DONE, LIVE, record_key
from drakcelery.model.analysis import Failure, ObjectRef, Stage, State
from drakcelery.model.query import Query
from drakcelery.model.records import Record
from drakcelery.model.result import Result
from drakcelery.operators import finding
from tests.builders import analysis

DATABASE = 6
"""Of this test alone."""
ENDED, LIVING = 900, 8
"""More in a window than a script reads at once."""
SPAN = 6 * 3600
BEGIN = 80_000 * SPAN
WINDOWS = 3
HOSTS = ("rack-1", "rack-2", "rack-3")
NAMES = ("invoice.exe", "Rechnung März.exe", "a\tb\nc.dll", "", "aaaa.bin", "x" * 1000, "y" * 990 + "invoice")
"""The long ones make the lines of a window more than a script reads at once, too."""
REASONS = ("the VM did not start", "timed out", "")
TTL = 600
EXAMPLES = 100

queries = st.builds(
    lambda times, **wanted: Query(since=min(times), until=max(times), **wanted),
    times=st.tuples(st.integers(0, WINDOWS * SPAN), st.integers(0, WINDOWS * SPAN)).map(
        lambda pair: [BEGIN + one for one in pair]
    )
    | st.just([0.0, 1e11]),
    state=st.sampled_from([None, None, State.FAILED, State.PUBLISHED, State.CANCELLED, State.QUEUED]),
    host=st.sampled_from([None, None, *HOSTS, "rack-4"]),
    profile=st.sampled_from([None, None, "win7", "win10"]),
    engine=st.sampled_from([None, None, None, "drakvuf", "emulator"]),
)
looks = st.sampled_from(
    [
        *({}, {}, {}, {"newest_first": False}, {"newest_first": False}),
        *({"uid": "a"}, {"uid": "ab"}, {"sha256": "0"}, {"sha256": "F"}),
        *({"name": "EXE"}, {"name": "ä"}, {"name": "b\nc"}, {"name": "x" * 250}, {"reason": "vm did"}),
        *({"name": "invoice", "reason": "out"}, {"text": "a"}, {"text": "aa"}, {"text": "e"}, {"text": "0"}),
    ]
)


@pytest.fixture
def client(services: Services) -> Iterator[redis.Redis]:
    """Of a database that nobody else uses."""
    address = services.redis.model_copy(update={"db": DATABASE}).address()
    with redis.Redis.from_url(address, decode_responses=True) as client:
        client.flushdb()
        yield client
        client.flushdb()


@pytest.fixture
def lacking(services: Services, client: redis.Redis) -> Iterator[Ledger]:
    """The same, by one who may not use what Redis 6.2 has not."""
    client.acl_setuser("lacking", enabled=True, nopass=True, keys=["*"], commands=["+@all", "-zintercard"])
    address = services.redis.model_copy(update={"db": DATABASE}).address()
    own_name = {"username": "lacking", "password": "any"}
    with redis.Redis.from_url(address, decode_responses=True, **own_name) as own:
        yield ledger_of(own)
    client.acl_deluser("lacking")


def ledger_of(client: redis.Redis) -> Ledger:
    """A ledger of this client."""
    return Ledger(client, identity="karton.test-finding", record_ttl=TTL)


def filled(client: redis.Redis, ended: int, living: int) -> Ledger:
    """A ledger with analyses of all kinds; in each window some values never come together."""
    ledger = ledger_of(client)
    chance = random.Random(7)  # noqa: S311 no secret
    some = sorted((made(chance, number) for number in range(ended)), key=lambda one: (one[1], one[0]))
    with client.pipeline() as pipe:
        for uid, at, fields in some:
            pipe.hset(record_key(uid), items=flat({**fields, "finished": f"{at:.6f}"}))
            pipe.zadd(DONE, {uid: f"{at:.6f}"})
        for number in range(living):
            uid, at, fields = made(chance, ended + number)
            begun = {**fields, "state": "QUEUED", "result": "", "failures": "[]"}
            pipe.hset(record_key(uid), items=flat(begun))
            pipe.zadd(LIVE, {uid: at})
        pipe.execute()
    ledger.index.enter([uid for uid, _, _ in some])
    return ledger


def flat(fields: dict[str, str]) -> list[str]:
    """Field, value, field, value, ..."""
    return [text for pair in fields.items() for text in pair]


def made(chance: random.Random, number: int) -> tuple[str, float, dict[str, str]]:
    """Uid, time of the end, and fields of a record."""
    uid = f"{chance.choice('abe0')}{chance.choice('ab')}{number}"
    window = chance.randrange(WINDOWS)
    at = BEGIN + window * SPAN + chance.choice([0, 1, SPAN - 0.000001, chance.randrange(SPAN)])
    host = chance.choice(HOSTS)
    # In each window another host has nothing but failures
    failed = host == HOSTS[window] or chance.random() < 0.3
    sha256 = f"{chance.choice('0f')}{chance.randrange(40):x}".ljust(64, "0")
    sample = ObjectRef(bucket="karton", key="k", name=chance.choice(NAMES), sha256=sha256, size=1)
    task_uid = f"{{root-{uid}}}:task-{uid}"
    more = {"uid": uid, "task_uid": task_uid, "root_uid": f"root-{uid}", "sample": sample}
    failure = Failure(attempt=1, stage=Stage.RUN, error=chance.choice(REASONS), at=1)
    result = Result.model_validate({"engine": "drakvuf 1.1", "execution": "executed"})
    fields = {
        "uid": uid,
        "task_uid": task_uid,
        "root_uid": f"root-{uid}",
        "analysis": analysis().model_copy(update=more).model_dump_json(exclude_none=True),
        "place": chance.choice(("win7", "win10@abc")),
        "state": "FAILED" if failed else "PUBLISHED",
        "attempt": "1",
        "first_attempt": "1",
        "failures": f"[{failure.model_dump_json()}]" if failed else "[]",
        "received": f"{at:.6f}",
        "updated": f"{at:.6f}",
        "host": host,
        "result": "" if failed else result.model_dump_json(),
    }
    return uid, at, fields


def read(records: list[Record], query: Query) -> list[str]:
    """What is looked for, among all records: those that are not over first, the newest first."""
    fitting = [one for one in records if query.matches(one)]
    live = [one for one in fitting if not one.state.is_over]
    ended = [one for one in fitting if one.state.is_over]
    if query.text:
        ways = (
            in_order([one for one in ended if one.uid.startswith(query.text)], "uid"),
            in_order([one for one in ended if hash_of(one).startswith(query.text.lower())], "hash"),
            ended,
        )
        found = [*live, *(one for way in ways for one in way)]
    elif query.uid:
        found = [*live, *in_order(ended, "uid")]
    elif query.sha256:
        found = [*live, *in_order(ended, "hash")]
    else:
        found = [*live, *ended] if query.newest_first else [*ended[::-1], *live]
    return list(dict.fromkeys(one.uid for one in found))


def all_of(ledger: Ledger) -> list[Record]:
    """Every record, as :func:`read` has them."""
    return [*[*ledger.live()][::-1], *ledger.done(newest=ENDED)]


def in_order(records: list[Record], way: str) -> list[Record]:
    """As a search by a uid, or a hash, has them: the newest windows first."""

    def place(one: Record) -> tuple[float, str, float, str]:
        finished = one.finished or 0
        by = (hash_of(one)[:16], -int(finished)) if way == "hash" else ("", 0)
        return -(finished // SPAN), *by, one.uid

    return sorted(records, key=place)


def hash_of(record: Record) -> str:
    """Of the sample."""
    assert record.sample is not None
    return record.sample.sha256 or ""


def test_a_search_finds_what_reading_every_record_finds(
    client: redis.Redis, lacking: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long pages are, however little a script looks at, and on a Redis that lacks a command."""
    ledger = filled(client, ENDED, LIVING)
    records = all_of(ledger)

    @settings(max_examples=EXAMPLES)
    @example(Query(host=HOSTS[2], state=State.PUBLISHED), {}, 10, 10, True)
    @example(Query(host=HOSTS[0], state=State.PUBLISHED), {"newest_first": False}, 10, 10, True)
    @example(Query(), {"name": "x"}, 60, 2000, True)
    @example(Query(), {"name": "y"}, 60, 2000, True)
    @given(queries, looks, st.sampled_from([10, 60]), st.sampled_from([10, 250, 2000]), st.booleans())
    def check(query: Query, look: dict[str, str], limit: int, at_once: int, may_compare: bool) -> None:
        query = query.model_copy(update=look)
        for name in ("AT_ONCE", "FOUND_AT_ONCE"):
            monkeypatch.setattr(ledger_index, name, at_once)
        monkeypatch.setattr(ledger_index, "BYTES_AT_ONCE", at_once * 2000)
        assert list(paged(ledger if may_compare else lacking, query, limit)) == read(records, query)

    check()


def paged(ledger: Ledger, query: Query, limit: int) -> Iterator[str]:
    """What a search gives, page by page."""
    after = None
    while True:
        page = finding.find(ledger, query, limit=limit, after=after)
        yield from (one.uid for one in page.records)
        after = page.following
        if after is None:
            return
        assert len(page.records) == limit


@pytest.mark.parametrize(
    "look", [{}, {"host": HOSTS[0], "profile": "win7"}, {"uid": "a"}, {"sha256": "0"}, {"name": "e"}]
)
@pytest.mark.parametrize("limit", [3, 7])
def test_none_is_missed_while_some_end_and_some_are_deleted(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch, look: dict[str, str], limit: int
) -> None:
    """Between any two pages: all that fit from the first to the last are there, and none that never did."""
    for name in ("AT_ONCE", "FOUND_AT_ONCE", "BYTES_AT_ONCE"):
        monkeypatch.setattr(ledger_index, name, 5)
    ledger = filled(client, 150, LIVING)
    chance = random.Random(limit)  # noqa: S311 no secret
    query = Query(**look)
    before = read(all_of(ledger), query)
    seen: list[str] = []
    after, is_first = None, True
    while after is not None or is_first:
        page = finding.find(ledger, query, limit=limit, after=after)
        seen += [one.uid for one in page.records]
        after, is_first = page.following, False
        change(ledger, chance)
    assert set(before) & set(read(all_of(ledger), query)) <= set(seen) <= set(before)


def change(ledger: Ledger, chance: random.Random) -> None:
    """Let one end, and one be deleted."""
    for record in [*ledger.live()][:1]:
        assert ledger.cancel(record, reason="no more", crashed=None)
    record = chance.choice([*ledger.done(newest=ENDED)])
    window = ledger.removal.delete(record)
    assert window is not None
    ledger.removal.erase({record.uid: window})
