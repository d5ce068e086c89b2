"""The webhook: what a real HTTPS server is sent, how it is checked there, and what happens when it fails."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import redis
from pydantic import SecretStr
from structlog.testing import capture_logs

from drakcelery.doctor import rights
from drakcelery.errors import SettingsError, Superseded
from drakcelery.karton import contract
from drakcelery.ledger import Ledger
from drakcelery.ledger.keys import NOTICE_COUNTS, NOTICES
from drakcelery.ledger.outbox import Outbox
from drakcelery.model.analysis import Failure, Stage, State
from drakcelery.notifications import webhook
from drakcelery.notifications.webhook import Notifier, Webhook
from drakcelery.operators import views
from drakcelery.settings import NotificationsSection
from tests.ledgers import inbox_of
from tests.notifying import opened, publish
from tests.reference import ROOT
from tests.waiting import wait_until
from tests.webhook import CLOSE, REDIRECT, SLOW, Post, Receiver, make_certificates, receiving

SECRET = "a secret of the test, long enough"
IDENTITY = "karton.test-notices"
QUICK = 0.02
"""First delay after a failed try."""

Verify = Callable[[str, Mapping[str, str], bytes, set[str]], "dict[str, Any] | None"]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority of our own."""
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def receiver(certificates: Path) -> Iterator[Receiver]:
    """An HTTPS server that takes what comes."""
    with receiving(certificates) as server:
        yield server


@pytest.fixture
def ledger(redis_client: redis.Redis) -> Ledger:
    """A ledger of its own identity."""
    return Ledger(redis_client, identity=IDENTITY, record_ttl=600)


@pytest.fixture
def notices(ledger: Ledger) -> Outbox:
    """The queue; an ingress wants all there is."""
    queue = ledger.outbox
    queue.want([State.PUBLISHED, State.FAILED, State.CANCELLED])
    return queue


def section(receiver: Receiver, certificates: Path | None, **more: Any) -> NotificationsSection:
    return NotificationsSection(
        url=SecretStr(receiver.url),
        secret=SecretStr(SECRET),
        ca_file=certificates / "ca.pem" if certificates else None,
        **more,
    )


def notifier(notices: Outbox, ours: NotificationsSection, stop: threading.Event) -> Notifier:
    return Notifier(notices, Webhook(ours), events=ours.events, stop=stop, first_delay=QUICK)


@pytest.fixture
def running(notices: Outbox, receiver: Receiver, certificates: Path) -> Iterator[Notifier]:
    """The sending thread, as the ingress runs it."""
    stop = threading.Event()
    thread = notifier(notices, section(receiver, certificates), stop)
    thread.start()
    yield thread
    stop.set()
    thread.join(10)
    assert not thread.is_alive()


@pytest.fixture(scope="module")
def verify() -> Verify:
    """What docs/notifications.md tells receivers to do: written apart from our code."""
    text = (ROOT / "docs" / "notifications.md").read_text(encoding="utf-8")
    code = re.search(r"```python\n(.+?)```", text, re.DOTALL)
    assert code is not None
    names: dict[str, Any] = {}
    exec(code[1], names)  # noqa: S102 our own page
    return names["verify"]  # type: ignore[no-any-return] # the page has no types


# What ends analyses


def fail(ledger: Ledger, uid: str, error: str = "the VM did not start") -> None:
    task = opened(ledger, uid)
    failure = Failure(attempt=1, stage=Stage.RUN, error=error, host="rack-1", slot="vm-1", at=0)
    crashed = contract.crashed(task, [error]).serialize()
    ledger.fail(uid, 1, failure, task_uid=task.uid, final=True, crashed=crashed)


def cancel(ledger: Ledger, uid: str) -> None:
    opened(ledger, uid)
    record = ledger.get(uid)
    assert record is not None
    assert ledger.cancel(record, reason="cancelled by me", crashed=None)


def refuse(ledger: Ledger, uid: str, *, task: str = "refused") -> None:
    inbox_of(ledger).adopt(f"{{r}}:{task}")
    inbox_of(ledger).refuse(uid, task_uid=f"{{r}}:{task}", root_uid="r", reason="no such", crashed="{}")


def by_id(posts: list[Post]) -> dict[str, dict[str, Any]]:
    found = [json.loads(post.body) for post in posts]
    assert len({one["id"] for one in found}) == len(found), "one came twice"
    return {one["id"]: one for one in found}


def wait_taken(receiver: Receiver, number: int) -> list[Post]:
    wait_until(lambda: len(receiver.taken) >= number, f"{number} notices are there")
    return receiver.taken


# What is sent


@pytest.mark.usefixtures("running")
def test_every_end_is_told(ledger: Ledger, receiver: Receiver, notices: Outbox, verify: Verify) -> None:
    """Published, failed, cancelled, refused: each makes one signed notice that says what one needs."""
    publish(ledger, "a")
    fail(ledger, "b")
    cancel(ledger, "c")
    refuse(ledger, "d")
    posts = wait_taken(receiver, 4)
    seen: set[str] = set()
    assert all(verify(SECRET, post.headers, post.body, seen) for post in posts)
    told = by_id(posts)
    ends = {
        "{r}:a": ("a", "analysis.published", "PUBLISHED", None),
        "{r}:b": ("b", "analysis.failed", "FAILED", "the VM did not start"),
        "{r}:c": ("c", "analysis.cancelled", "CANCELLED", "cancelled by me"),
        "{r}:refused": ("d", "analysis.failed", "FAILED", "no such"),
    }
    assert {key: (one["uid"], one["event"], one["state"], one["error"]) for key, one in told.items()} == ends
    published, record = told["{r}:a"], ledger.get("a")
    assert record is not None
    assert published["karton"] == {"sample_task": "{r}:a", "root": "r", "analysis_task": "{r}:out-a"}
    assert published["sample"] == {"sha256": "ab" * 32}
    assert published["times"] == {
        "received": record.received,
        "started": record.entered[State.PREPARING],
        "finished": record.finished,
    }
    assert (published["attempts"], told["{r}:refused"]["attempts"]) == (1, 0)
    assert {post.path for post in posts} == {"/hook/path-key"}
    wait_until(lambda: notices.counts().sent == 4, "all are settled")
    assert notices.counts().waiting == 0


def test_nothing_is_queued_when_off(ledger: Ledger) -> None:
    """Without an ingress that wants them, the ends of analyses leave no trace of notices in Redis."""
    publish(ledger, "a")
    fail(ledger, "b")
    refuse(ledger, "d")
    assert list(ledger._redis.scan_iter(match="drak:notices*")) == []


def test_only_wanted_ends_are_told(ledger: Ledger, notices: Outbox) -> None:
    """``published = 0`` keeps published analyses out of the queue, and takes back what was wanted before."""
    notices.want(NotificationsSection(published=False, cancelled=False).events)
    publish(ledger, "a")
    cancel(ledger, "c")
    assert notices.counts().waiting == 0
    fail(ledger, "b")
    assert notices.counts().waiting == 1


@pytest.mark.usefixtures("running")
def test_a_notice_tells_of_its_own_life(ledger: Ledger, receiver: Receiver) -> None:
    """When the uid lives again before the notice is out, the notice tells of the life that ended."""
    receiver.plan += [500]
    fail(ledger, "a")
    wait_until(lambda: receiver.posts, "a first try failed")
    with pytest.raises(Superseded):
        publish(ledger, "a")  # the Karton task that has crashed lives no second time
    publish(ledger, "a", task_name="again")
    told = [json.loads(post.body) for post in wait_taken(receiver, 2)]
    ends = {one["karton"]["sample_task"]: (one["uid"], one["state"]) for one in told}
    assert ends == {"{r}:a": ("a", "FAILED"), "{r}:again": ("a", "PUBLISHED")}


@pytest.mark.usefixtures("running")
def test_a_refusal_is_told_though_the_uid_is_taken(ledger: Ledger, receiver: Receiver) -> None:
    """A task that is refused because its uid is another's is told of, and the other one is not."""
    opened(ledger, "a")
    refuse(ledger, "a", task="second")
    assert list(by_id(wait_taken(receiver, 1))) == ["{r}:second"]


@pytest.mark.usefixtures("running")
def test_what_is_sent_is_bounded(ledger: Ledger, receiver: Receiver) -> None:
    """A sample cannot make a notice large, whatever an error quotes of it."""
    fail(ledger, "a", "\u202e\x00\U0001f600" * 100_000)
    (post,) = wait_taken(receiver, 1)
    assert len(json.loads(post.body)["error"]) == 2000
    assert len(post.body) < 32 * 1024


# How it is checked


@pytest.mark.usefixtures("running")
def test_a_receiver_tells_forgeries(ledger: Ledger, receiver: Receiver, verify: Verify) -> None:
    """By the documented check: another body, time or secret, an old notice and a repeated one."""
    publish(ledger, "a")
    (post,) = wait_taken(receiver, 1)
    headers, seen = dict(post.headers), set[str]()
    assert verify(SECRET, headers, post.body, seen) is not None
    assert verify(SECRET, headers, post.body, seen) is None
    old = str(int(time.time()) - 301)
    signed = webhook.signature(SECRET, old, post.body)
    for forged, body, secret in (
        (headers, post.body.replace(b"PUBLISHED", b"FAILED"), SECRET),
        ({**headers, "Drakcelery-Timestamp": str(int(time.time()) + 1)}, post.body, SECRET),
        (headers, post.body, f"{SECRET}!"),
        ({**headers, "Drakcelery-Signature": "sha256=é"}, post.body, SECRET),
        ({"Drakcelery-Timestamp": old, "Drakcelery-Signature": f"sha256={signed}"}, post.body, SECRET),
    ):
        with pytest.raises(ValueError, match=r"the signature is wrong|too old"):
            verify(secret, forged, body, set())


# What goes wrong


@pytest.mark.usefixtures("running")
def test_failures_are_tried_again(
    ledger: Ledger, receiver: Receiver, notices: Outbox, verify: Verify
) -> None:
    """An error, a closed connection and a redirect (not followed) count as failed; it comes in the end."""
    receiver.plan += [500, CLOSE, REDIRECT, 404]
    with capture_logs() as logs:
        publish(ledger, "a")
        wait_taken(receiver, 1)
        wait_until(lambda: notices.counts().sent == 1, "it is settled")
    assert [post.path for post in receiver.posts] == ["/hook/path-key"] * 5
    assert len({post.body for post in receiver.posts}) == 1
    seen: set[str] = set()
    assert [verify(SECRET, post.headers, post.body, seen) is not None for post in receiver.posts] == [
        *(True, False, False, False, False)
    ]
    assert notices.counts().retried == 4
    said = [one["error"] for one in logs if one["event"] == "notice_not_taken"]
    place = f"127.0.0.1:{receiver.port}"
    assert said == [
        f"{place} answered 500",
        f"{place} broke the connection (ProtocolError)",
        f"{place} answered 302, and redirects are not followed",
        f"{place} answered 404",
    ]
    assert "path-key" not in str(logs)
    assert SECRET not in str(logs)


def test_a_slow_server_is_not_waited_for(
    ledger: Ledger,
    notices: Outbox,
    receiver: Receiver,
    certificates: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A server that takes the notice and never answers costs one try, and nothing of the analyses' time."""
    monkeypatch.setattr(webhook, "ANSWER_SECONDS", 0.3)
    ours, stop = section(receiver, certificates), threading.Event()
    sender = notifier(notices, ours, stop)
    receiver.plan += [SLOW]
    publish(ledger, "a")
    before = time.monotonic()
    assert sender.send_one()
    assert time.monotonic() - before < 5
    wait_until(sender.send_one, "it is due again")
    assert len(by_id(receiver.taken)) == 1
    assert notices.counts().retried == 1


def test_in_the_end_it_is_given_up(
    ledger: Ledger,
    notices: Outbox,
    receiver: Receiver,
    certificates: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After the last try a notice is buried where operators see it: in the log, the counts and ``status``."""
    monkeypatch.setattr(webhook, "MOST_TRIES", 3)
    receiver.always = 500
    fail(ledger, "a")
    sender = notifier(notices, section(receiver, certificates), threading.Event())
    with capture_logs() as logs:
        for _ in range(3):
            wait_until(sender.send_one, "it is due")
    assert not sender.send_one()
    counts = notices.counts()
    assert (counts.waiting, counts.sent, counts.retried, counts.given_up) == (0, 0, 2, 1)
    (buried,) = notices.dead(newest=5)
    assert (buried.uid, buried.state, buried.tries) == ("a", "FAILED", 3)
    assert [
        one["uid"] for one in logs if (one["event"], one["log_level"]) == ("notice_given_up", "error")
    ] == ["a"]
    (line,) = views.outbox_lines(counts, [buried])
    assert line == (
        f"1 notifications were given up. The last was of a: 127.0.0.1:{receiver.port} answered 500."
    )
    for key in ("drak:notices:dead", "drak:notices:wanted"):
        assert ledger._redis.ttl(key) > 0


@pytest.mark.parametrize(
    ("certificate", "authority"), [("server", False), ("other", True)], ids=["authority", "name"]
)
def test_tls_is_verified(
    ledger: Ledger, notices: Outbox, certificates: Path, certificate: str, *, authority: bool
) -> None:
    """A certificate of an unknown authority, or of another name, gets nothing."""
    fail(ledger, "a")
    with receiving(certificates, name=certificate) as receiver, capture_logs() as logs:
        ours = section(receiver, certificates if authority else None)
        assert notifier(notices, ours, threading.Event()).send_one()
        assert receiver.posts == []
    assert "CERTIFICATE_VERIFY_FAILED" in logs[0]["error"]


def test_a_server_that_is_away(ledger: Ledger, notices: Outbox, certificates: Path) -> None:
    """Nobody listens: the notice waits, longer each time."""
    with receiving(certificates) as receiver:
        ours = section(receiver, certificates)
    sender = notifier(notices, ours, threading.Event())
    fail(ledger, "a")
    with capture_logs() as logs:
        for _ in range(4):
            wait_until(sender.send_one, "it is due")
    assert {one["error"] for one in logs} == {f"127.0.0.1:{receiver.port} cannot be reached"}
    assert notices.counts().waiting == 1
    assert [one["delay"] for one in logs] == sorted(one["delay"] for one in logs)


def test_plain_http_on_this_machine(ledger: Ledger, notices: Outbox) -> None:
    """A server on loopback needs no certificate."""
    with receiving() as receiver:
        fail(ledger, "a")
        assert notifier(notices, section(receiver, None), threading.Event()).send_one()
        assert len(receiver.taken) == 1


def test_a_ca_file_that_is_none(receiver: Receiver, tmp_path: Path) -> None:
    """A wrong ``ca_file`` stops the ingress with a sentence."""
    (tmp_path / "ca.pem").write_text("no certificate")
    for directory in (tmp_path, tmp_path / "missing"):
        with pytest.raises(SettingsError, match=r"\[notifications\] ca_file = .+ca.pem: expected a file"):
            Webhook(section(receiver, directory))


# The queue


def test_who_dies_with_a_notice_leaves_it(
    ledger: Ledger, notices: Outbox, receiver: Receiver, certificates: Path
) -> None:
    """A claim ends by itself: the next sender gets the notice, and the first one's late word counts not."""
    fail(ledger, "a")
    claimed = notices.claim(seconds=0.2)
    assert claimed is not None
    assert notices.claim(seconds=0.2) is None
    sender = notifier(notices, section(receiver, certificates), threading.Event())
    wait_until(sender.send_one, "the claim is over")
    assert not notices.sent(claimed)
    assert (len(receiver.taken), notices.counts().sent) == (1, 1)


def test_several_ingresses_share_the_work(
    ledger: Ledger, notices: Outbox, receiver: Receiver, certificates: Path
) -> None:
    """Each notice is sent by one of them."""
    stop = threading.Event()
    senders = [notifier(notices, section(receiver, certificates), stop) for _ in range(3)]
    for number in range(15):
        fail(ledger, f"a{number}")
    for sender in senders:
        sender.start()
    wait_taken(receiver, 15)
    wait_until(lambda: notices.counts().sent == 15, "all are settled")
    stop.set()
    for sender in senders:
        sender.join(10)
    assert len(by_id(receiver.taken)) == 15


def test_the_queue_is_bounded(ledger: Ledger, notices: Outbox) -> None:
    """Where 5000 wait, more are dropped and counted; the analysis ends as usual."""
    ledger._redis.zadd(NOTICES, {f"waits {number}": 9e9 for number in range(4999)})
    ledger._redis.expire(NOTICES, 60)
    fail(ledger, "a")
    publish(ledger, "b")
    record = ledger.get("b")
    assert record is not None
    assert record.state is State.PUBLISHED
    assert (notices.counts().waiting, notices.counts().dropped) == (5000, 1)
    assert ledger._redis.ttl(NOTICES) > 60


@pytest.mark.usefixtures("running")
def test_a_notice_of_another_version_is_buried(ledger: Ledger, notices: Outbox, receiver: Receiver) -> None:
    """What cannot be read does not stop what comes after it."""
    ledger._redis.zadd(NOTICES, {'{"tries": 0, "fields": {"uid": "a", "mood": "?"}}': 1, "no JSON": 2})
    fail(ledger, "b")
    assert list(by_id(wait_taken(receiver, 1))) == ["{r}:b"]
    assert notices.counts().given_up == 2
    assert all("version" in one.error or "Expecting" in one.error for one in notices.dead(newest=2))


def test_keys_expire(ledger: Ledger, notices: Outbox, receiver: Receiver, certificates: Path) -> None:
    """Also a notice that is tried again, as the only one, leaves a queue that expires."""
    receiver.always = 500
    fail(ledger, "a")
    assert ledger._redis.ttl(NOTICES) > 0
    assert notifier(notices, section(receiver, certificates), threading.Event()).send_one()
    assert ledger._redis.ttl(NOTICES) > 0
    assert ledger._redis.hgetall(NOTICE_COUNTS) == {"retried": "1"}


def test_an_acl_without_notices_harms_no_analysis(ledger: Ledger, notices: Outbox) -> None:
    """A Redis user who may not read the key of notices publishes as before; the doctor says so."""
    client, user = ledger._redis, "narrow"
    address = client.connection_pool.connection_kwargs
    client.acl_setuser(
        user, enabled=True, reset=True, passwords=["+p"], keys=["*"], commands=["+@all", "-sismember"]
    )
    try:
        with redis.Redis(
            host=address["host"], port=address["port"], username=user, password="p", decode_responses=True
        ) as narrow:
            theirs = Ledger(narrow, identity=IDENTITY, record_ttl=600)
            publish(theirs, "a")
            record = theirs.get("a")
            assert record is not None
            assert record.state is State.PUBLISHED
            assert rights.refused(narrow, rights.ledger_commands(IDENTITY)) == [
                ("SISMEMBER", "drak:notices:wanted", "FAILED")
            ]
        assert notices.counts().waiting == 0
    finally:
        client.acl_deluser(user)
