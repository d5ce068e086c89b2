"""The sections of Karton's own servers, ``[redis]`` and ``[s3]``, and of nothing else.

They mean what they mean in Karton (``karton.core.config``, ``karton.core.backend``). What Karton has no keys
for is called as redis-py calls it, in both sections: the files for TLS.
"""

from __future__ import annotations

import ssl
import urllib.parse
from collections.abc import Mapping
from pathlib import Path

from pydantic import Field, SecretStr

from drakcelery.errors import SettingsError
from drakcelery.settings.section import Section
from drakcelery.settings.values import (
    ADDRESS_PATTERN,
    REGION_PATTERN,
    AbsolutePath,
    RedisUrl,
    ServerName,
    database_of,
)

TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
"""Keys of both sections that have an effect with TLS only."""


def require_files_of(url: str, where: str) -> None:
    """Raise :class:`SettingsError`, which says *where*, if a file for TLS that *url* names is of no use."""
    query = urllib.parse.parse_qsl(urllib.parse.urlsplit(url).query)
    files = {key: Path(path) for key, path in query if key in TLS_FILES}
    _require_readable(where, files)
    load_files(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), where, files)


def load_files(context: ssl.SSLContext, where: str, files: Mapping[str, Path]) -> None:
    """Take certificates and key from *files*, which can be read, by their keys.

    Raises:
        SettingsError: one of them holds something else.
    """
    authorities, own = files.get("ssl_ca_certs"), files.get("ssl_certfile")
    try:
        if authorities is not None:
            context.load_verify_locations(authorities)
    except ssl.SSLError:
        said = "expected certificates in PEM form"
        raise SettingsError(f"{where} ssl_ca_certs = {authorities}: {said}") from None
    try:
        if own is not None:
            context.load_cert_chain(own, files.get("ssl_keyfile"))
    except ssl.SSLError:
        said = "expected a certificate in PEM form, and its key there or in ssl_keyfile"
        raise SettingsError(f"{where} ssl_certfile = {own}: {said}") from None


def _require_readable(where: str, files: Mapping[str, Path]) -> None:
    for key, path in files.items():
        try:
            path.open("rb").close()
        except OSError as error:
            raise SettingsError(f"{where} {key} = {path}: cannot be read: {error.strerror}") from None


def _files(ours: RedisSection | S3Section) -> dict[str, Path]:
    return {key: path for key in TLS_FILES if (path := getattr(ours, key)) is not None}


class RedisSection(Section):
    """``[redis]``, as Karton's own."""

    host: ServerName = "localhost"
    port: int = Field(default=6379, ge=1, le=65535)
    db: int = Field(default=0, ge=0)
    username: str | None = None
    password: SecretStr | None = None
    ssl: bool = False
    ssl_ca_certs: AbsolutePath | None = None
    ssl_certfile: AbsolutePath | None = None
    ssl_keyfile: AbsolutePath | None = None
    url: RedisUrl | None = Field(default=None, description="replaces host, port, db and ssl")
    socket_timeout: int = Field(default=30, ge=0, description="seconds; 0: none")

    @property
    def is_encrypted(self) -> bool:
        """Whether the connection is one of TLS."""
        return self.ssl if self.url is None else self.url.get_secret_value().startswith("rediss:")

    def require_files(self) -> None:
        """Raise :class:`SettingsError` where a file for TLS is of no use, by key or in ``url``.

        redis-py would take it for a Redis that is away.
        """
        require_files_of(self.address(), "[redis]")

    def address(self, *, db_offset: int = 0) -> str:
        """The Redis URL, credentials and the files for TLS included: never to be logged."""
        if self.url is not None:
            parts = urllib.parse.urlsplit(self.url.get_secret_value())
        else:
            host = f"[{self.host}]" if ":" in self.host else self.host
            scheme = "rediss" if self.ssl else "redis"
            parts = urllib.parse.urlsplit(f"{scheme}://{host}:{self.port}/{self.db}")
        query = {key: value for key, value in urllib.parse.parse_qsl(parts.query) if key != "db"}
        return urllib.parse.urlunsplit(
            parts._replace(
                netloc=self._with_credentials(parts),
                path=f"/{database_of(parts) + db_offset}",
                # What the URL names wins over the other keys here, too
                query=urllib.parse.urlencode({**_files(self), **query}),
            )
        )

    def _with_credentials(self, parts: urllib.parse.SplitResult) -> str:
        """What the URL names wins over ``username`` and ``password``, as in redis-py."""
        quote = urllib.parse.quote
        own_password = self.password.get_secret_value() if self.password else ""
        username = parts.username or quote(self.username or "", safe="")
        password = parts.password or quote(own_password, safe="")
        place = parts.netloc.rpartition("@")[2]
        return f"{username}:{password}@{place}" if username or password else place


class S3Section(Section):
    """``[s3]``, as Karton's own; ``bucket`` is Karton's bucket, not the one of the analyses."""

    address: str = Field(default="http://localhost:9000", pattern=ADDRESS_PATTERN)
    access_key: str | None = Field(default=None, repr=False)
    secret_key: SecretStr | None = None
    bucket: str = "karton"
    iam_auth: bool = False
    region: str | None = Field(default=None, pattern=REGION_PATTERN)
    ssl_ca_certs: AbsolutePath | None = None
    ssl_certfile: AbsolutePath | None = None
    ssl_keyfile: AbsolutePath | None = None

    @property
    def is_encrypted(self) -> bool:
        """Whether the connection is one of TLS."""
        return self.address.startswith("https:")

    def require_files(self) -> None:
        """Raise :class:`SettingsError` where a file for TLS cannot be read."""
        _require_readable("[s3]", _files(self))

    def load_files(self, context: ssl.SSLContext) -> None:
        """Take certificates and key from the files. Raises :class:`SettingsError`."""
        load_files(context, "[s3]", _files(self))
