"""What the checks examine: the settings, and clients that give up soon and try only once."""

from __future__ import annotations

import functools
import re
import urllib.parse
from collections.abc import Callable, Iterator

import redis
from pydantic import SecretStr
from redis.backoff import NoBackoff
from redis.retry import Retry

from drakcelery.ledger import Ledger
from drakcelery.settings import Settings
from drakcelery.storage import Storage

SECONDS = 4.0
"""How long one answer of a server may take."""
LONG = 8
"""Characters of a secret that is none by chance: a shorter one is masked only where it is a word."""


class Subject:
    """An installation as this machine sees it. Nothing is read or connected before it is asked for."""

    def __init__(self, load: Callable[[], Settings]) -> None:
        """*load* reads the settings; it may raise :class:`~drakcelery.errors.SettingsError`."""
        self._load = load

    @functools.cached_property
    def settings(self) -> Settings:
        """Raises :class:`~drakcelery.errors.SettingsError`."""
        return self._load()

    @functools.cached_property
    def redis(self) -> redis.Redis:
        """Karton's Redis; answers in text. Raises :class:`~drakcelery.errors.SettingsError`."""
        self.settings.redis.require_files()
        return redis_client(self.settings.redis.address())

    @functools.cached_property
    def ledger(self) -> Ledger:
        """What drakcelery has there. Only asked, so how long records stay does not matter."""
        ours = self.settings
        return Ledger(self.redis, identity=ours.drakrun.identity, record_ttl=ours.drakcelery.record_ttl)

    @functools.cached_property
    def storage(self) -> Storage:
        """Karton's S3. Raises :class:`~drakcelery.errors.SettingsError`."""
        return Storage.connect(self.settings.s3, threads=1, patience=SECONDS)

    @property
    def runs_guests(self) -> bool:
        """Whether this machine has VM slots."""
        return bool(self.settings.slots)

    def without_secrets(self, text: str) -> str:
        """*text* without any secret of the settings."""
        if "settings" not in self.__dict__:  # they did not load; their error names no secret
            return text
        for secret in _secrets(self.settings):
            words = re.escape(secret)
            text = re.sub(words if len(secret) >= LONG else rf"(?<!\w){words}(?!\w)", "***", text)
        return text


def redis_client(url: str) -> redis.Redis:
    """A client that answers in text, and gives up soon."""
    return redis.Redis.from_url(
        url,
        decode_responses=True,
        socket_timeout=SECONDS,
        socket_connect_timeout=SECONDS,
        client_name="drakcelery-doctor",
        retry=Retry(NoBackoff(), 0),
    )


def endpoint_of(url: str) -> str:
    """Host, port and database of a URL; no credentials."""
    nodes = [urllib.parse.urlsplit(node) for node in url.split(";")]
    places = [node.netloc.rpartition("@")[2] for node in nodes]
    return f"{', '.join(places)}{nodes[0].path}"


def _secrets(settings: Settings) -> Iterator[str]:
    """Passwords and keys as they are, and as a URL spells them; the longest first."""
    found: set[str] = set()
    urls = [settings.redis.url, settings.celery.broker_url]
    for secret in (settings.redis.password, settings.s3.secret_key, *urls):
        if isinstance(secret, SecretStr):
            found.add(secret.get_secret_value())
    for url in (settings.redis.address(), settings.broker_url):
        for node in url.split(";"):
            found.add(urllib.parse.urlsplit(node).password or "")
    spelled = (
        found | {urllib.parse.unquote(one) for one in found} | {urllib.parse.quote(one) for one in found}
    )
    return iter(sorted((one for one in spelled if one), key=len, reverse=True))
