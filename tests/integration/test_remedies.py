"""The doctor's remedies against real faults: once they are typed into a shell, the finding is gone."""

from __future__ import annotations

import dataclasses
import socket
import subprocess
import threading
import urllib.parse
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from pydantic import SecretStr

from drakcelery import settings as files
from drakcelery.doctor import CHECKS, buckets, subject
from drakcelery.doctor.commands import line, ours, redis_cli
from drakcelery.doctor.finding import Finding, Status
from drakcelery.doctor.runner import chosen, examine
from drakcelery.doctor.subject import Subject
from drakcelery.doctor.view import command_lines
from drakcelery.embedded.ports import LOOPBACK
from drakcelery.embedded.services import Services
from drakcelery.settings import CelerySection, DrakrunSection, S3Section, Settings
from drakcelery.storage import credentials
from tests.remedies import PROGRAMS, pasted, require_commands
from tests.s3_proxy import Proxy


@pytest.fixture
def settings(services: Services) -> Iterator[Settings]:
    """An installation on the session's servers; what a test sets in Redis is set back."""
    identity = f"karton.remedies-{uuid.uuid4().hex[:8]}"
    made = Settings(redis=services.redis, s3=services.s3, drakrun=DrakrunSection(identity=identity))
    with redis.Redis.from_url(services.redis.address()) as client:
        yield made
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("appendonly", "yes")


def look(settings: Settings, name: str) -> Finding:
    """What the doctor finds by one check."""
    found = {one.check: one for one in examine(chosen(CHECKS, [name]), Subject(lambda: settings))}[name]
    require_commands(found)
    return found


def password_of(settings: Settings) -> str:
    """That of Redis."""
    assert settings.redis.password is not None
    return settings.redis.password.get_secret_value()


def test_no_general_remedy_has_a_command() -> None:
    """Those do not know the names, so whoever pastes one pastes a placeholder."""
    assert [one.name for one in CHECKS if PROGRAMS.search(one.remedy)] == []


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [("redis.memory", "maxmemory-policy", "volatile-lru"), ("redis.durable", "appendonly", "no")],
)
def test_a_setting_of_redis(settings: Settings, name: str, setting: str, value: str) -> None:
    """The command sets what was wrong; it asks for the password, which it does not show."""
    with redis.Redis.from_url(settings.redis.address()) as client:
        client.config_set(setting, value)
    before = look(settings, name)
    assert before.status in (Status.WARNING, Status.FAILED)
    assert password_of(settings) not in before.commands[0]
    pasted(before, password=password_of(settings))
    assert look(settings, name).status is Status.OK


def test_a_file_that_everybody_reads(tmp_path: Path) -> None:
    """The command closes it, whatever its name is."""
    path = tmp_path / "it's $HOME & more.ini"
    path.write_text("[redis]\nhost = h\n", encoding="utf-8")
    path.chmod(0o644)
    loaded = files.load(path, environment={})
    before = look(loaded, "settings.private")
    assert before.status is Status.WARNING
    pasted(before)
    assert look(loaded, "settings.private").status is Status.OK
    path.chmod(0o666)
    pasted(look(loaded, "settings.private"))
    assert look(loaded, "settings.private").status is Status.OK


def test_all_commands_are_one_text_for_a_shell() -> None:
    """With their checks as comments, and without a control character that somebody else has chosen."""
    finding = Finding(
        check="a.b",
        what="",
        status=Status.FAILED,
        said="",
        remedy=None,
        seconds=0,
        commands=("echo '\x1b' a",),
    )
    text = "\n".join(
        command_lines([finding, dataclasses.replace(finding, check="c.d", commands=("echo b",))])
    )
    assert "\x1b" not in text
    ended = subprocess.run(["/bin/bash"], input=text, check=True, capture_output=True, text=True)
    assert ended.stdout == "� a\nb\n"


def test_words_are_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Patterns, paths and TLS files reach the program as they are; a restricted user is no administrator."""
    url = "rediss://us%26er:secret@h:7/3?ssl_ca_certs=/a%20b/ca.pem&ssl_cert_reqs=required"
    command = redis_cli(url, "ACL", "SETUSER", "us&er", "~karton.*", "&*", ">new", admin=True)
    shown = subprocess.run(
        ["/bin/bash", "-c", f"redis-cli() {{ printf '%s\\n' \"$@\"; }}; {command}"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    expected = "-h h -p 7 -n 3 --user default --askpass --tls --cacert"
    assert shown == [*expected.split(), "/a b/ca.pem", "ACL", "SETUSER", "us&er", "~karton.*", "&*", ">new"]
    assert redis_cli(url, "PING").split("--user ")[1].startswith("'us&er'")
    assert line("rm", tmp_path / "a b") == f"rm '{tmp_path}/a b'"
    path = tmp_path / "drakcelery.ini"
    path.write_text("[redis]\nhost=h\n", encoding="utf-8")
    loaded = files.load(path, environment={})
    assert ours(loaded, "isolated", "list") == f"drakcelery isolated list --config {path}"
    monkeypatch.setenv("DRAKCELERY_CONFIG", str(path))
    assert ours(loaded, "isolated", "list") == "drakcelery isolated list"
    monkeypatch.setenv("DRAKCELERY_CONFIG", str(tmp_path / "gone"))
    assert ours(loaded, "isolated", "list") == f"drakcelery isolated list --config {path}"
    assert ours(Settings(), "isolated", "list") == "drakcelery isolated list"


def test_silence_is_no_lack_of_rights(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """An S3 that takes the connection and never answers gets the remedy of that, in each check."""
    monkeypatch.setattr(subject, "SECONDS", 0.3)
    with socket.create_server((LOOPBACK, 0)) as mute:
        address = f"http://{LOOPBACK}:{mute.getsockname()[1]}"
        silent = settings.model_copy(update={"s3": settings.s3.model_copy(update={"address": address})})
        assert "did not answer in time" in str(look(silent, "s3.reachable").remedy)


def test_silence_in_a_later_check(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where S3 falls silent after the first check, the next one does not speak of rights either."""
    monkeypatch.setattr(subject, "SECONDS", 0.5)
    proxy = Proxy(settings.s3.address)
    proxy.drops = lambda request: "list-type=2" in request
    try:
        through = settings.model_copy(
            update={"s3": settings.s3.model_copy(update={"address": proxy.address})}
        )
        found = look(through, "s3.samples")
    finally:
        proxy.close()
    assert found.status is Status.FAILED
    assert "Grant" not in str(found.remedy)
    assert "can be reached from here" in str(found.remedy)


def test_wrong_keys_are_no_lack_of_rights(settings: Settings) -> None:
    """A key that S3 does not know gets the remedy of that."""
    wrong = S3Section(**(settings.s3.model_dump() | {"access_key": "nobody"}))
    found = look(settings.model_copy(update={"s3": wrong}), "s3.reachable")
    assert "Set [s3] access_key and secret_key" in str(found.remedy)


def test_s3_that_copies_nothing(settings: Settings) -> None:
    """Kept samples need copies made by S3: where it refuses them, the doctor says what that costs."""
    proxy = Proxy(settings.s3.address)
    proxy.request_data = lambda data: data.replace(b"x-amz-copy-source", b"x-amz-copy-sourc0")
    try:
        through = settings.model_copy(
            update={"s3": settings.s3.model_copy(update={"address": proxy.address})}
        )
        bucket = f"copies-{uuid.uuid4().hex[:8]}"
        Subject(lambda: settings).storage.ensure_bucket(bucket)
        ours_ = through.drakcelery.model_copy(update={"bucket": bucket})
        found = look(through.model_copy(update={"drakcelery": ours_}), "s3.analyses")
    finally:
        proxy.close()
    assert found.status is Status.WARNING
    assert "but no sample is kept for a retry" in found.said
    assert Subject(lambda: settings).storage.list(bucket, "") == {}


def changed(settings: Settings, section: str, **values: object) -> Settings:
    """*settings* with other values in a section."""
    return settings.model_copy(update={section: getattr(settings, section).model_copy(update=values)})


def broker(url: str) -> CelerySection:
    """A broker of its own."""
    return CelerySection(broker_url=SecretStr(url))


def test_a_broker_that_lets_nobody_in(settings: Settings) -> None:
    """The remedy names the password's setting, Karton's or its own, and does not say that it is away."""
    wrong = changed(settings, "redis", password=SecretStr("not-the-one"))
    own = settings.model_copy(update={"celery": broker(wrong.broker_url)})
    for found, key in (
        (look(wrong, "celery.broker"), "[redis] username and password"),
        (look(own, "celery.broker"), "[celery] broker_url"),
    ):
        assert "does not let us in" in found.said
        assert key in str(found.remedy)
        assert "can be reached" not in str(found.remedy)


def test_a_database_that_is_not_there(settings: Settings) -> None:
    """Karton's, or the one after it: Redis was reached, and the number is the fault."""
    karton = look(changed(settings, "redis", db=999), "redis.reachable")
    after = look(changed(settings, "redis", db=15), "celery.broker")
    assert "no database of that number" in karton.said
    assert "no database of that number" in after.said
    assert "[redis] db" in str(karton.remedy)
    assert "raise databases in redis.conf" in str(after.remedy)


def test_a_server_that_is_no_redis(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of HTTP, and one that says nothing: the finding names the address, and what was found there."""
    monkeypatch.setattr(subject, "SECONDS", 0.3)
    web = urllib.parse.urlsplit(settings.s3.address)
    found = look(changed(settings, "redis", host=web.hostname, port=web.port), "redis.reachable")
    assert f"{web.netloc}/0 is no Redis" in found.said
    with socket.create_server((LOOPBACK, 0)) as mute:
        port = mute.getsockname()[1]
        found = look(changed(settings, "redis", host=LOOPBACK, port=port), "redis.reachable")
    assert found.said == f"{LOOPBACK}:{port}/0 took the connection, and did not answer in time"


def test_a_server_that_hangs_up(settings: Settings) -> None:
    """So does a Redis that speaks TLS only, which is said; where nobody listens it is not."""
    with socket.create_server((LOOPBACK, 0)) as server:

        def hang_up() -> None:
            while True:
                try:
                    server.accept()[0].close()
                except OSError:
                    return

        threading.Thread(target=hang_up, daemon=True).start()
        port = server.getsockname()[1]
        there = look(changed(settings, "redis", host=LOOPBACK, port=port), "redis.reachable")
        server.shutdown(socket.SHUT_RDWR)
    gone = look(changed(settings, "redis", host=LOOPBACK, port=port), "redis.reachable")
    assert "[redis] ssl = 1" in str(there.remedy)
    assert "ssl" not in str(gone.remedy)


@pytest.mark.parametrize("iam_auth", [False, True])
def test_an_s3_without_keys(settings: Settings, monkeypatch: pytest.MonkeyPatch, iam_auth: bool) -> None:
    """S3 is not said to be away: it was not asked, for want of a key, or of a role."""
    monkeypatch.setattr(credentials, "SECONDS", 0.2)
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"http://{LOOPBACK}:9/role")
    none = changed(settings, "s3", access_key=None, secret_key=None, iam_auth=iam_auth)
    found = look(none, "s3.reachable")
    assert found.status is Status.FAILED
    assert "can be reached" not in str(found.remedy)
    assert ("access_key and secret_key" if iam_auth else "Correct what the sentence names") in str(
        found.remedy
    )


def test_a_password_that_is_a_word_of_a_command(settings: Settings) -> None:
    """A command runs as it stands, whatever the password is; the password is not in it."""
    named = changed(settings, "redis", host="127.0.0.1", port=9, password=SecretStr("redis"))
    assert look(named, "redis.reachable").commands == ("redis-cli -h 127.0.0.1 -p 9 --askpass PING",)


def test_a_bucket_behind_tls(tmp_path: Path) -> None:
    """The command that makes it has the region and the certificates which our own client uses."""
    section = S3Section(address="https://s3:1", region="eu-west-1", ssl_ca_certs=tmp_path / "ca's.pem")
    made = buckets.make_bucket(section, "drakrun")
    assert "--region eu-west-1" in made
    assert f"""--ca-bundle '{tmp_path}/ca'"'"'s.pem'""" in made
