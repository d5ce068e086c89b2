"""The addresses of Redis and of the broker."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from karton.core.backend import KartonBackend
from karton.core.config import Config
from kombu import Connection
from pydantic import SecretStr
from redis.connection import parse_url

from drakcelery.settings import RedisSection, Settings, load
from tests.unit.settings.reading import read, write


def _parsed(url: str) -> dict[str, Any]:
    """What redis-py makes of a URL."""
    return dict(parse_url(url))  # type: ignore[no-untyped-call]  # redis-py leaves it untyped


KARTON_SECTIONS = [
    {"host": "h"},
    {"host": "h", "port": "1", "db": "3"},
    {"host": "::1", "port": "1"},
    {"host": "h", "password": "p@/:?#%%s"},
    {"host": "h", "username": "u:@", "password": "p"},
    {"host": "h", "ssl": "yes"},
    {"url": "redis://h"},
    {"url": "redis://h:1/4", "host": "ignored", "port": "2", "db": "2"},
    {"url": "redis://h:1/4?db=5"},
    {"url": "redis://u:p%%40@h:1/4", "username": "x", "password": "y"},
    {"url": "rediss://h:1/4", "password": "p/w"},
    {"url": "redis://only-user@h:1/4", "password": "pw"},
]


@pytest.mark.parametrize("pairs", KARTON_SECTIONS)
def test_redis_address_is_the_one_karton_uses(tmp_path: Path, pairs: dict[str, str]) -> None:
    """Our URL leads redis-py to the same server, database and user as Karton's reading of the section."""
    path = write(tmp_path, "[redis]\n" + "".join(f"{key}={value}\n" for key, value in pairs.items()))
    karton = KartonBackend.get_redis_configuration(Config(str(path), check_sections=False))
    url = karton.pop("url", None)
    theirs = {"port": 6379, "db": 0, **karton, **(_parsed(url) if url else {})}
    if theirs.pop("ssl", False):
        theirs |= _parsed("rediss://h")
        theirs["host"] = pairs["host"]
    ours = {"port": 6379, "db": 0, **_parsed(load(path, environment={}).redis.address())}
    keys = ("host", "port", "db", "username", "password", "connection_class")
    assert {key: ours.get(key) or None for key in keys} == {key: theirs.get(key) or None for key in keys}


def test_broker_is_the_next_database(tmp_path: Path) -> None:
    """Celery's queues go into the database after Karton's, unless a broker is named."""
    assert read(tmp_path, "[redis]\nhost=h\ndb=3\npassword=p\n").broker_url == "redis://:p@h:6379/4"
    assert read(tmp_path, "[redis]\nurl=redis://h/3?socket_timeout=5\n").broker_url == "redis://h/4"
    text = "[redis]\nhost=h\n[celery]\nbroker_url=redis://b:1?db=7\n"
    assert read(tmp_path, text).broker_url == "redis://b:1/7"


@pytest.mark.parametrize(
    ("text", "required"),
    [
        ("[redis]\nhost=h\nssl=1\n", True),
        ("[celery]\nbroker_url=rediss://h:1/0\n", True),
        ("[celery]\nbroker_url=rediss://h:1/0?ssl_cert_reqs=none\n", False),
    ],
)
def test_broker_verifies_certificates(tmp_path: Path, text: str, required: bool) -> None:
    """kombu checks the certificate of a TLS broker unless the URL says otherwise; on its own it does not."""
    with Connection(read(tmp_path, text).broker_url) as connection:
        assert (connection.ssl == {"ssl_cert_reqs": ssl.CERT_REQUIRED}) is required


@given(username=st.text(max_size=20), password=st.text(min_size=1, max_size=20), db=st.integers(0, 15))
def test_any_password_survives_the_url(username: str, password: str, db: int) -> None:
    """Whatever characters the credentials have, redis-py and kombu read them back from the URL."""
    section = RedisSection(username=username, password=SecretStr(password), db=db)
    parsed = _parsed(section.address())
    assert parsed["password"] == password
    assert parsed["db"] == db
    with Connection(Settings(redis=section).broker_url) as connection:
        assert connection.password == password
        assert int(connection.virtual_host) == db + 1
