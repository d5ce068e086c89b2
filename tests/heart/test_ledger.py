"""The ledger beside its scripts, where Redis is away, odd or another's; and Karton's side."""

from __future__ import annotations

import dataclasses
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import redis
from karton.core import Task
from karton.core.backend import KARTON_BINDS_HSET, KartonBackend, KartonBind
from redis import exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry

from drakcelery.errors import Astray, BadTask, SettingsError, StackError, Superseded, UnreadableRecord
from drakcelery.karton import filetype, submit
from drakcelery.karton.destination import destination, fixed
from drakcelery.karton.kept import Wishes
from drakcelery.karton.policy import policy_of
from drakcelery.ledger import Standing
from drakcelery.ledger.away import WrongKey, concerns_all, is_away, trouble, unless_odd
from drakcelery.ledger.canaries import Canaries, Known
from drakcelery.ledger.clock import Clock, number
from drakcelery.ledger.deployment import Deployment
from drakcelery.ledger.fleet import Fleet, Sight, nobody_came
from drakcelery.ledger.keys import DEPLOYMENT, FLEET, QUARANTINE, canary_key, host_key, record_key
from drakcelery.ledger.keytypes import describe, explained, named, odd_keys, sentences
from drakcelery.ledger.watch import ServerId
from drakcelery.model.analysis import Place, Stage
from drakcelery.model.records import HostStatus, SlotStatus
from drakcelery.model.timeouts import Watch
from drakcelery.settings import Settings
from tests.bench import HOST, SLOT, Bench
from tests.builders import analysis
from tests.heart.conftest import begin


def no_redis() -> redis.Redis:
    """A Redis that is away, and says so at once."""
    return redis.Redis(port=1, retry=Retry(NoBackoff(), 0))


# Attempts


def test_a_message_that_comes_to_another_machine(bench: Bench) -> None:
    """The attempt is where its files are: a machine that has their host's name by now has none."""
    begin(bench, Stage.COLLECT)

    def enter(machine: str) -> None:
        bench.ledger.advance(
            "a-1", 1, Stage.COLLECT, host=HOST, slot=SLOT, token="t", machine=machine, has_files=False
        )

    with pytest.raises(Superseded, match="is on another machine that has, or had, the name rack-1"):
        enter("another")
    bench.ledger.resend(bench.record())
    with pytest.raises(Astray):
        enter("another")
    assert bench.record().failures == ()


def test_who_waits_in_vain(bench: Bench) -> None:
    """Another attempt, or another stage, is what the analysis is at."""
    begin(bench, Stage.COLLECT)
    bench.ledger.linger("a-1", 1, Stage.COLLECT)
    with pytest.raises(Superseded, match="need not wait for upload"):
        bench.ledger.linger("a-1", 1, Stage.UPLOAD)


def test_what_is_stale(bench: Bench) -> None:
    """Each write says so, and changes nothing."""
    bench.open()
    ledger, record = bench.ledger, bench.record()
    for write in (
        lambda: ledger.begin_attempt("a-1", after=7),
        lambda: ledger.postpone("a-1", 7, token="t", delay=1),
        lambda: ledger.complete("a-1", 7, Stage.PREPARE, token="t"),
        lambda: ledger.resend(record.model_copy(update={"updated_text": "1"})),
        lambda: ledger.publish(
            "a-1", 7, task_uid="t", finished="{}", analysis_task="{}", analysis_task_uid="u"
        ),
    ):
        with pytest.raises(Superseded):
            write()
    assert not ledger.defer("a-1", 7, delay=1)
    assert ledger.abandon("a-1", 7, Stage.PREPARE) == 0
    assert not ledger.renew("a-1", 7, token="t")
    assert bench.record() == record


def test_what_an_attempt_is(bench: Bench) -> None:
    """Current, stale, or unknown where there is no record."""
    bench.open()
    standings = [bench.ledger.standing(*one) for one in (("a-1", 1), ("a-1", 2), ("nobody", 1))]
    assert standings == [Standing.CURRENT, Standing.STALE, Standing.UNKNOWN]
    bench.forget("a-1")
    assert bench.ledger.standing("a-1", 1) is Standing.STALE


def test_a_record_that_nobody_can_read(bench: Bench) -> None:
    """Who asks for it is told so, loops pass it over, people see it; it can be removed."""
    bench.open()
    bench.redis.hset(record_key("a-1"), "failures", "{")
    with pytest.raises(UnreadableRecord, match="cannot read the record of analysis a-1"):
        bench.ledger.get("a-1")
    assert list(bench.ledger.live()) == []
    (entry,) = bench.ledger.quarantine.all()
    assert (entry.where, entry.uid) == ("ledger", "a-1")
    assert bench.ledger.remove("a-1", reason="the test is over")
    assert not bench.ledger.remove("a-1", reason="the test is over")
    assert bench.ledger.get("a-1") is None
    bench.ledger.quarantine.remove("a-1")


# What Redis answers


@pytest.mark.parametrize(
    ("error", "away", "for_all", "words"),
    [
        (exceptions.ConnectionError("no"), True, True, "Karton's Redis does not answer: no"),
        (exceptions.ReadOnlyError("no"), True, True, "Karton's Redis does not answer: no"),
        (exceptions.OutOfMemoryError("no"), False, True, "Karton's Redis refuses what it was asked: no"),
        (exceptions.ResponseError("ACL failure in script: x"), False, True, "refuses what it was asked"),
        (exceptions.ResponseError("WRONGTYPE"), False, False, "refuses what it was asked: WRONGTYPE"),
        (WrongKey("drak:due is a list"), False, False, "In Karton's Redis drak:due is a list"),
    ],
)
def test_what_an_error_of_redis_says(
    error: redis.RedisError, *, away: bool, for_all: bool, words: str
) -> None:
    """Whether Redis is away, whether all would meet it, and what people are told."""
    assert (is_away(error), concerns_all(error)) == (away, for_all)
    assert words in trouble(error)


def test_what_is_only_shown(bench: Bench) -> None:
    """A key of another type is nothing; a Redis that is away is an error all the same."""
    client = bench.redis
    client.set("drak:done", "none of ours", ex=60)
    assert list(bench.ledger.done(newest=5)) == []
    assert bench.ledger.forget() == 0
    client.delete("drak:done")
    with pytest.raises(redis.ConnectionError):
        unless_odd(lambda: no_redis().ping(), False)


def test_a_key_of_another_type_is_named(bench: Bench) -> None:
    """With what it should be, and the command that fixes it; other errors are what they are."""
    client = bench.redis
    assert sentences(client) == []
    client.set(FLEET, "none of ours", ex=60)
    (odd,) = odd_keys(client)
    assert "drak:fleet is a string, not a zset" in odd.sentence
    assert "RENAME drak:fleet drak:fleet-odd" in odd.sentence
    assert "-n 3 " in dataclasses.replace(odd, database=3).mend
    with pytest.raises(WrongKey, match="drak:fleet is a string"), named(client):
        client.zadd(FLEET, {"x": 1})
    client.delete(FLEET)
    client.hset(host_key("x"), "n", "none")
    with pytest.raises(redis.ResponseError, match="not an integer"), named(client):
        client.hincrby(host_key("x"), "n")
    client.delete(host_key("x"))
    other = redis.ResponseError("WRONGTYPE of a key that is none of ours")
    assert explained(client, other) is other
    assert explained(no_redis(), other) is other
    assert describe(client, OSError("no disk")) == "no disk"


def test_a_quarantine_of_another_type(bench: Bench) -> None:
    """No loop stops for lack of one."""
    client, quarantine = bench.redis, bench.ledger.quarantine
    client.set(QUARANTINE, "none of ours", ex=60)
    assert quarantine.put("tests", "a", "oops") == 1
    assert quarantine.all() == []
    assert quarantine.uids("tests") == (frozenset(), frozenset())
    assert quarantine.release("a") == 0
    client.delete(QUARANTINE)
    quarantine.put("tests", "a", "oops")
    client.delete(f"{QUARANTINE}:tests:a")
    client.hset(QUARANTINE.replace("quarantine", "none"), "x", 1)
    client.delete(QUARANTINE.replace("quarantine", "none"))
    assert quarantine.all() == []  # what is known of it has expired
    quarantine.put("tests", "b", "oops")
    client.delete(f"{QUARANTINE}:tests:b")
    client.set(f"{QUARANTINE}:tests:b", "none of ours", ex=60)
    (entry,) = quarantine.all()
    assert "cannot be read" in entry.error
    quarantine.remove("b")


# Clocks, other hosts, other deployments


def test_redis_clock_is_not_asked_each_time(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two questions it counts on by itself."""
    clock = Clock(good_for=3600)
    first = clock.now(bench.redis)
    monkeypatch.setattr(type(bench.redis), "time", lambda _: pytest.fail("asked again"))
    assert first <= clock.now(bench.redis) < first + 60
    assert [number(text) for text in ("1.5", "none", "inf")] == [1.5, 0.0, 0.0]


def test_hosts_as_they_were_a_moment_ago(bench: Bench) -> None:
    """Read again after a while, or when somebody says that they have changed."""
    sight = Sight(bench.ledger.fleet, look_ahead=1)
    assert sight.capacity().total() == 0
    slot = SlotStatus(name="vm-1", profile="win10", state="free", since=0)
    bench.ledger.fleet.report(HostStatus(host="rack-9", engine="replay", slots=(slot,)))
    assert sight.capacity().total() == 0
    sight.forget()
    assert sight.capacity().total() > 0
    bench.ledger.fleet.retire("rack-9")


def test_a_host_without_slots(bench: Bench) -> None:
    """It is alive, and no place of it is known."""
    bench.ledger.fleet.report(HostStatus(host="rack-9", engine="replay", slots=()))
    assert bench.ledger.fleet.hosts() == []
    bench.ledger.fleet.retire("rack-9")


def test_a_report_that_nobody_can_read(bench: Bench) -> None:
    """The other hosts are alive all the same; people see it."""
    slot = SlotStatus(name="vm-1", profile="win10", state="free", since=0)
    for host in ("rack-8", "rack-9"):
        bench.ledger.fleet.report(HostStatus(host=host, engine="replay", slots=(slot,)))
    bench.redis.set(host_key("rack-9"), "{", ex=60)
    for fleet in (bench.ledger.fleet, Fleet(bench.redis)):
        assert [status.host for status in fleet.hosts()] == ["rack-8"]
    assert bench.ledger.quarantine.counts() == {"hosts": 1}
    bench.ledger.quarantine.remove("rack-9")
    bench.ledger.fleet.retire("rack-8")


def test_nobody_has_a_place() -> None:
    """The sentence says for how long, and on which host it was asked for."""
    place = Place(profile="win7", host="rack-1")
    words = [nobody_came(place, seconds) for seconds in (20, 600, 10 * 3600)]
    assert ["20 seconds" in words[0], "10 minutes" in words[1], "10 hours" in words[2]] == [True] * 3
    assert all("on host rack-1" in one for one in words)


def test_a_watch_that_has_just_begun(bench: Bench) -> None:
    """Who was cut off with the others says of nobody that he is gone."""
    place = Place(profile="win10")
    assert bench.ledger.fleet.offline(place, Watch(now=1000, since=999)) == 0


def test_another_deployment_is_told_of(bench: Bench) -> None:
    """By its identity, and why it may not be left aside: it lives, or has samples."""
    client = bench.redis
    client.delete(DEPLOYMENT)
    ours = Deployment(client, "karton.ours")
    assert ours.found() is None
    Deployment(client, "karton.theirs").claim()
    found = ours.found()
    assert found is not None
    assert (found.identity, found.is_at_work) == ("karton.theirs", True)
    with pytest.raises(SettingsError, match=r"karton\.theirs, which showed life 0 s ago"):
        ours.claim()
    bench.open()
    with pytest.raises(SettingsError, match="has samples that are not over"):
        ours.claim()
    client.delete(DEPLOYMENT)


def test_what_canaries_do_in_another_version(bench: Bench) -> None:
    """It is learned again."""
    canaries = Canaries(bench.redis)
    assert not canaries.has("heart")
    canaries.put("heart", "replay|a", Known(restore={"rack-1": 1.0}))
    assert canaries.get("heart", "replay|a").restore == {"rack-1": 1.0}
    bench.redis.hset(canary_key("heart"), "replay|a", "{}x")
    assert canaries.get("heart", "replay|a") == Known()
    assert canaries.has("heart")


def test_a_server_that_says_nothing_of_itself() -> None:
    """Whoever may not ask learns nothing: only time tells then."""

    class Closed:
        def info(self, _: str) -> dict[str, str]:
            raise exceptions.NoPermissionError("no INFO")

    assert ServerId.of(Closed()) == ServerId()


# Karton's side


@pytest.fixture
def bound(bench: Bench) -> Settings:
    """Settings whose identity an ingress has bound."""
    config = submit.karton_config(bench.context.settings)
    KartonBackend(config, identity="karton.test").register_bind(
        KartonBind(
            identity=bench.context.settings.drakrun.identity,
            info="",
            version="",
            persistent=True,
            filters=[{"type": "sample"}],
            service_version=None,
            is_async=False,
        )
    )
    return bench.context.settings


def test_a_sample_that_is_sent_into_karton(bench: Bench, bound: Settings, tmp_path: Path) -> None:
    """Its analysis gets the uid of its task, and what was wished for goes along."""
    sample = tmp_path / "evil.bat"
    sample.write_text("rem")
    wishes = Wishes(timeout=5, profile="win7", host="rack-1", plugins=("procmon",))
    task = submit.sample_task(sample, wishes)
    bench.context.storage.ensure_bucket(bound.s3.bucket)
    assert submit.push(bound, task) == task.payload["override_uid"]
    (key,) = [key for key in bench.redis.scan_iter("karton.task:*") if task.task_uid in str(key)]
    sent = Task.unserialize(str(bench.redis.get(key)))
    wished = ("timeout", "vm_profile", "target_host", "plugins", "file_name")
    assert [sent.payload[name] for name in wished] == [5, "win7", "rack-1", ["procmon"], "evil"]
    assert sent.headers["platform"] == "win64"
    assert bench.ledger.bound(bound.drakrun.identity)


def test_a_sample_that_nobody_would_take(bench: Bench, bound: Settings, tmp_path: Path) -> None:
    """The filters do not match, or no ingress was ever there."""
    (tmp_path / "evil.bat").write_text("rem")
    task = submit.sample_task(tmp_path / "evil.bat")
    task.headers["type"] = "report"
    with pytest.raises(StackError, match="do not match the headers"):
        submit.push(bound, task)
    bench.redis.hdel(KARTON_BINDS_HSET, bound.drakrun.identity)
    with pytest.raises(StackError, match="no ingress has ever bound"):
        submit.push(bound, task)


def test_samples_that_cannot_be_started(tmp_path: Path) -> None:
    """An empty file, one that says nothing of itself, a program of another machine; each with the reason."""
    (tmp_path / "empty").write_text("")
    with pytest.raises(BadTask, match="empty is empty"):
        submit.sample_task(tmp_path / "empty")
    (tmp_path / "thing").write_bytes(b"\x00\x01\x02")
    with pytest.raises(BadTask, match="cannot tell how to start thing"):
        submit.sample_task(tmp_path / "thing")
    assert "extension" not in submit.sample_task(tmp_path / "thing", Wishes(start_command="%f")).headers
    header = bytearray(b"MZ" + bytes(62) + b"PE\0\0" + struct.pack("<HH", 0xAA64, 0) + bytes(300))
    header[60:64] = struct.pack("<I", 64)
    (tmp_path / "arm.exe").write_bytes(header)
    with pytest.raises(BadTask, match="a program for the machine 0xaa64"):
        submit.platform_of(tmp_path / "arm.exe")


def extension(sample: Path, *, has_command: bool) -> str | None:
    """The extension by which the file *sample* is started."""
    return submit.extension_of(sample.name, submit.facts_of(sample).magic, has_command=has_command)


def test_a_program_says_itself_how_to_start() -> None:
    """Whatever it is called."""
    sample = Path(__file__).parents[2] / "samples" / "behaviour32.exe"
    assert extension(sample, has_command=False) == "exe"
    assert submit.platform_of(sample) == "win32"
    assert extension(sample.with_name("library.dll"), has_command=False) == "dll"


@pytest.mark.parametrize("name", ["x.cmd", "setup.msi", "a.JAR", "sample.cpl"])
def test_a_start_command_leaves_the_file_its_extension(name: str, tmp_path: Path) -> None:
    """Nothing is called .exe in the guest that is none; without a command the content says what it is."""
    program = tmp_path / name
    program.write_bytes((Path(__file__).parents[2] / "samples" / "library.dll").read_bytes())
    assert extension(program, has_command=True) == program.suffix[1:].lower()
    assert extension(program, has_command=False) == "dll"


def test_libmagic_in_its_own_process() -> None:
    """It answers until nobody asks any more."""
    asked = b"".join(struct.pack(filetype._LENGTH.format, len(head)) + head for head in (b"%PDF-1.4", b"rem"))
    answer = subprocess.run(
        [sys.executable, "-m", "drakcelery.karton.filetype"],
        input=asked,
        stdout=subprocess.PIPE,
        env=os.environ.copy(),
        check=True,
        timeout=60,
    ).stdout
    (size,) = filetype._LENGTH.unpack(answer[: filetype._LENGTH.size])
    assert answer[filetype._LENGTH.size :][:size].decode().startswith("PDF document")


def test_a_looker_that_was_never_asked() -> None:
    """There is nothing to end."""
    looker = filetype._Looker()
    looker.end()
    looker._mourn()
    assert looker._process is None


def test_where_an_analysis_goes() -> None:
    """It is fixed as it begins; what an older ingress has not said is as the settings say."""
    settings = Settings()
    ours = analysis()
    assert destination(settings, ours).bucket == settings.drakcelery.bucket
    test_sample = ours.model_copy(update={"is_test": True})
    assert destination(settings, test_sample).bucket == settings.s3.bucket
    begun = fixed(settings, ours)
    other = settings.model_copy(
        update={"drakcelery": settings.drakcelery.model_copy(update={"bucket": "elsewhere"})}
    )
    assert destination(other, begun).bucket == settings.drakcelery.bucket
    assert policy_of(settings).default_bucket == settings.s3.bucket
