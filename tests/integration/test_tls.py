"""Karton's servers behind TLS, with an authority of one's own and with certificates of clients."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from flower.utils.broker import Broker
from karton.core.backend import KartonBackend
from pydantic import SecretStr

from drakcelery.doctor import CHECKS
from drakcelery.doctor.finding import Finding, Status
from drakcelery.doctor.runner import chosen, examine
from drakcelery.doctor.subject import Subject
from drakcelery.embedded.ports import LOOPBACK
from drakcelery.embedded.services import Services
from drakcelery.errors import SettingsError, StorageAway, StorageError
from drakcelery.karton import submit
from drakcelery.karton.backend import complete, make_backend, sentences
from drakcelery.settings import CelerySection, DrakcelerySection, RedisSection, S3Section, Settings
from drakcelery.storage import Storage
from drakcelery.wiring import make_client, make_ledger, make_storage
from tests.tls import Authority, Certificate, front


@dataclass(frozen=True, kw_only=True)
class Pki:
    """The certificates of an installation."""

    ca: Path
    server: Certificate
    client: Certificate
    stranger: Certificate
    """Of an authority that nobody knows."""
    directory: Path
    authority: Authority


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """Certificates by openssl."""
    directory = tmp_path_factory.mktemp("pki")
    ours = Authority(directory)
    return Pki(
        ca=ours.crt,
        server=ours.issue("server"),
        client=ours.issue("client"),
        stranger=Authority(directory / "other", "other").issue("stranger"),
        directory=directory,
        authority=ours,
    )


@dataclass(frozen=True, kw_only=True)
class Ports:
    """Where both servers are reached by TLS."""

    redis: int
    s3: int


@pytest.fixture
def closed(services: Services, pki: Pki) -> Iterator[Ports]:
    """Both servers; only clients with a certificate get in."""
    s3 = int(services.s3.address.rpartition(":")[2])
    with (
        front(services.redis.port, pki.server, clients=pki.ca) as redis_port,
        front(s3, pki.server, clients=pki.ca) as s3_port,
    ):
        yield Ports(redis=redis_port, s3=s3_port)


def of(services: Services, ports: Ports, **files: Path) -> Settings:
    """Settings for both servers by TLS, with these files."""
    redis = services.redis.model_dump() | {"ssl": True, "port": ports.redis} | files
    s3 = services.s3.model_dump() | {"address": f"https://{LOOPBACK}:{ports.s3}"} | files
    bucket = f"tls-{uuid.uuid4().hex[:12]}"
    return Settings(
        redis=RedisSection(**redis), s3=S3Section(**s3), drakcelery=DrakcelerySection(bucket=bucket)
    )


def whole(pki: Pki) -> dict[str, Path]:
    """All that a client needs."""
    return {"ssl_ca_certs": pki.ca, "ssl_certfile": pki.client.crt, "ssl_keyfile": pki.client.key}


def test_every_client_shows_its_certificate(services: Services, closed: Ports, pki: Pki) -> None:
    """Ledger, storage, Celery, and Karton's own client reach servers that let in known clients only."""
    ours = of(services, closed, **whole(pki))
    assert make_ledger(ours).now() > 0
    assert make_storage(ours).has_bucket(ours.s3.bucket)
    with make_client(ours).connection_for_write() as connection:
        connection.ensure_connection(max_retries=1, timeout=5)
    backend = make_backend(ours, submit.karton_config(ours), identity="karton.tls")
    assert backend.redis.ping()
    assert backend.s3.head_bucket(Bucket=ours.s3.bucket)


def test_the_page_of_queues(services: Services, closed: Ports, pki: Pki) -> None:
    """Flower's own client of the broker, which reads no options in a URL, gets them from Celery's."""
    configuration = make_client(of(services, closed, **whole(pki))).conf
    broker = Broker(configuration.broker_url, broker_use_ssl=configuration.broker_use_ssl)
    lengths = asyncio.run(broker.queues(["drak.prepare.none"]))
    assert lengths == [{"name": "drak.prepare.none", "messages": 0}]


def look(settings: Settings, *names: str) -> dict[str, Finding]:
    """What the doctor finds, by check."""
    return {one.check: one for one in examine(chosen(CHECKS, names), Subject(lambda: settings))}


REACHABLE = ("redis.reachable", "celery.broker", "s3.reachable")


def test_the_doctor_gets_in(services: Services, closed: Ports, pki: Pki) -> None:
    """Its clients use the same files."""
    found = look(of(services, closed, **whole(pki)), *REACHABLE)
    assert {found[name].status for name in REACHABLE} == {Status.OK}, found


@pytest.mark.parametrize(
    ("lacks", "said", "remedy"),
    [
        ("ca", "nobody vouches for", "ssl_ca_certs"),
        ("client", "demands a certificate of its clients", "ssl_certfile and ssl_keyfile"),
        ("known", "does not accept our certificate", "ssl_certfile and ssl_keyfile"),
    ],
)
@pytest.mark.parametrize("name", REACHABLE)
def test_a_fault_of_tls_is_named(
    services: Services, closed: Ports, pki: Pki, name: str, lacks: str, said: str, remedy: str
) -> None:
    """The finding says which certificate is at fault, and its remedy names the setting."""
    files = whole(pki)
    if lacks == "ca":
        del files["ssl_ca_certs"]
    elif lacks == "client":
        files = {"ssl_ca_certs": pki.ca}
    else:
        files |= {"ssl_certfile": pki.stranger.crt, "ssl_keyfile": pki.stranger.key}
    found = look(of(services, closed, **files), name)[name]
    assert found.status is Status.FAILED
    assert said in found.said
    section = "s3" if name.startswith("s3") else "redis"
    assert f"[{section}] {remedy}" in str(found.remedy)


@pytest.mark.parametrize(
    ("whose", "days", "said"),
    [("DNS:elsewhere.test", 2, "another name"), (f"IP:{LOOPBACK}", 0, "not valid now")],
)
def test_a_bad_certificate_is_named(services: Services, pki: Pki, whose: str, days: int, said: str) -> None:
    """One for another host, and one that has expired."""
    bad = pki.authority.issue(f"bad{days}", whose=whose, days=days)
    with front(services.redis.port, bad) as port:
        ours = of(services, Ports(redis=port, s3=port), ssl_ca_certs=pki.ca)
        found = look(ours, *REACHABLE)
    assert all(said in found[name].said for name in REACHABLE), found


def test_a_server_without_tls_is_named(services: Services) -> None:
    """Where https:// and ssl = 1 meet a port that speaks none, the finding says so."""
    ports = Ports(redis=services.redis.port, s3=int(services.s3.address.rpartition(":")[2]))
    found = look(of(services, ports), "redis.reachable", "s3.reachable")
    assert "[redis] ssl = 0" in str(found["redis.reachable"].remedy)
    assert "does not speak TLS" in found["s3.reachable"].said
    assert "let [s3] address begin with http://" in str(found["s3.reachable"].remedy)


def test_a_file_that_is_not_there(services: Services, closed: Ports, pki: Pki) -> None:
    """It is named with its setting, by whoever would make a client."""
    gone = pki.directory / "gone.pem"
    ours = of(services, closed, ssl_ca_certs=gone)
    for make in (make_ledger, make_storage):
        with pytest.raises(SettingsError, match=rf"ssl_ca_certs = {gone}: cannot be read: No such file"):
            make(ours)
    found = look(ours, *REACHABLE)
    assert all(str(gone) in found[name].said for name in REACHABLE), found


def test_a_file_that_is_no_certificate(services: Services, closed: Ports, pki: Pki) -> None:
    """It is named with its setting."""
    odd = pki.directory / "odd.pem"
    odd.write_text("no certificate\n", encoding="utf-8")
    with pytest.raises(SettingsError, match=r"ssl_ca_certs = .*odd\.pem: expected certificates in PEM form"):
        make_storage(of(services, closed, ssl_ca_certs=odd))
    with pytest.raises(SettingsError, match=r"ssl_certfile = .*odd\.pem: expected a certificate"):
        make_storage(of(services, closed, ssl_ca_certs=pki.ca, ssl_certfile=odd))


@pytest.mark.parametrize("content", [None, "no certificate\n"])
def test_such_a_file_is_no_redis_that_is_away(
    services: Services, closed: Ports, pki: Pki, content: str | None
) -> None:
    """A worker would wait for it; by key or in a URL, Karton's or the broker's, the file is named."""
    odd = pki.directory / "url.pem"
    odd.unlink(missing_ok=True)
    if content is not None:
        odd.write_text(content, encoding="utf-8")
    url = SecretStr(f"rediss://{LOOPBACK}:{closed.redis}/0?ssl_ca_certs={odd}")
    by_key = of(services, closed, ssl_ca_certs=odd)
    by_url = by_key.model_copy(update={"redis": RedisSection(url=url)})
    own = by_key.model_copy(update={"redis": services.redis, "celery": CelerySection(broker_url=url)})
    for ours in (by_key, by_url):
        with pytest.raises(SettingsError, match=r"\[redis\] ssl_ca_certs = .*url\.pem: "):
            make_ledger(ours)
    found = look(own, "celery.broker")["celery.broker"]
    assert found.said.startswith(f"[celery] broker_url: ssl_ca_certs = {odd}: ")
    assert "Correct what the sentence names" in str(found.remedy)


def test_karton_s_client_says_it_too(services: Services, closed: Ports, pki: Pki) -> None:
    """What boto3 raises where S3 has a certificate that nobody knows is a sentence."""
    ours = of(services, closed, **whole(pki))
    backend = make_backend(ours, submit.karton_config(ours), identity="karton.tls")
    complete(backend, ours.s3.model_copy(update={"ssl_ca_certs": None, "region": "us-east-1"}))
    with pytest.raises(StorageError, match="nobody vouches for"), sentences(ours.s3):
        backend.s3.head_bucket(Bucket=ours.s3.bucket)


def test_a_region_is_used(services: Services) -> None:
    """With [s3] region S3 is not asked where a bucket is, and Karton's client signs for it as well."""
    section = services.s3.model_copy(update={"region": "eu-central-1"})
    storage = Storage.connect(section, threads=1)
    assert storage.has_bucket(section.bucket)
    ours = Settings(redis=services.redis, s3=section)
    backend: KartonBackend = make_backend(ours, submit.karton_config(ours), identity="karton.region")
    assert backend.s3.meta.region_name == "eu-central-1"
    assert backend.s3.head_bucket(Bucket=section.bucket)


def test_s3_that_is_away_behind_tls(services: Services, pki: Pki) -> None:
    """A fault of TLS is an absence, and is waited for: somebody mends the certificate."""
    with front(int(services.s3.address.rpartition(":")[2]), pki.server) as port:
        section = services.s3.model_copy(update={"address": f"https://{LOOPBACK}:{port}"})
        with pytest.raises(StorageAway, match="nobody vouches for"):
            Storage.connect(section, threads=1, patience=2).has_bucket(section.bucket)
