"""How the text after a setting's ``=`` becomes a value. Each error reads on from "expected "."""

from __future__ import annotations

import difflib
import ipaddress
import json
import re
import urllib.parse
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from drakcelery.model.emulated_guest import EmulatedGuest, parse_guest
from drakcelery.model.names import NAME_PATTERN
from drakcelery.model.plugins import KNOWN_PLUGINS
from drakcelery.model.profiles import ProfileRule, parse_rule
from drakcelery.model.reuse import ReuseRule, parse_age
from drakcelery.model.reuse import parse_rule as parse_reuse_rule

IDENTITY_PATTERN = r"^[^\s?]+$"
"""Karton forbids spaces and ``?`` (``KartonBackendBase._validate_identity``)."""
ADDRESS_PATTERN = r"^https?://[^/\s@]+/?$"
REGION_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9-]{0,62}$"
SHORTEST_SECRET = 16
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
"""A token, as RFC 9110 has it."""
BUCKET_PATTERN = r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$"

_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_SERVER_NAME = re.compile(r"[\w.-]+")
"""With underscores, as containers have them."""
_HOST_NAME = re.compile(rf"({_LABEL}\.)*{_LABEL}")


def _json(value: object) -> object:
    """Decode a JSON string, as the ``filters`` and ``headers`` of v0.18 are written."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if error.lineno > 1 else ""
        raise ValueError(f"JSON ({error.msg}: {line}column {error.colno})") from None


def _one_dict(value: object) -> object:
    """v0.18's example file shows headers as a list that holds one object; both forms are understood."""
    value = _json(value)
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def comma_list(text: str) -> tuple[str, ...]:
    """What stands between the commas of *text*, each once; nothing is none of it."""
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def _comma_list(value: object) -> object:
    return comma_list(value) if isinstance(value, str) else value


def _known_plugins(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if name not in KNOWN_PLUGINS:
            close = difflib.get_close_matches(name, sorted(KNOWN_PLUGINS), n=1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            raise ValueError(f"names of DRAKVUF plugins, and {name} is none{hint}")
    return tuple(dict.fromkeys(names))


def host_names(text: str) -> tuple[str, ...]:
    """The names in a comma-separated list, in small letters. Raises ValueError where one is none."""
    names = comma_list(text)
    for name in names:
        if not _HOST_NAME.fullmatch(name):
            raise ValueError(f"names of hosts, without scheme and port, and {name!r} is none")
    return tuple(dict.fromkeys(name.lower() for name in names))


def _host_names(text: str) -> str:
    return ", ".join(host_names(text))


def quality_names(text: str) -> tuple[str, ...]:
    """The names in a comma-separated list. Raises ValueError where one is none."""
    names = comma_list(text)
    for name in names:
        if not re.fullmatch(NAME_PATTERN, name):
            raise ValueError(f"names of qualities such as high, low; {name!r} is none")
    return names


def _quality_names(text: str) -> str:
    return ", ".join(quality_names(text))


def is_meant(qualities: str, quality: str) -> bool:
    """Whether *quality* is one of a comma-separated list; an empty one means all."""
    names = comma_list(qualities)
    return not names or quality in names


def _profile_rule(value: object) -> object:
    return parse_rule(value) if isinstance(value, str) else value


def _emulated_guest(value: object) -> object:
    return parse_guest(value) if isinstance(value, str) else value


def _reuse_rule(value: object) -> object:
    return parse_reuse_rule(value) if isinstance(value, str) else value


def _age(value: object) -> object:
    return parse_age(value) if isinstance(value, str) else value


def _redis_url(secret: SecretStr) -> SecretStr:
    """Check a Redis URL. Karton's ``unix://`` is refused, since Celery writes such an address differently."""
    try:
        parts = urllib.parse.urlsplit(secret.get_secret_value())
        database_of(parts)
        sound = parts.scheme in ("redis", "rediss") and parts.hostname is not None and parts.port != 0
    except ValueError:  # a port or a database that is no number, a broken IPv6 address
        sound = False
    if not sound:
        raise ValueError("redis://[user:password@]host:port/database, or rediss:// for TLS")
    return secret


def _broker_url(secret: SecretStr) -> SecretStr:
    """Redis, a Redis behind Sentinel, or RabbitMQ; of the last two several nodes, set apart by ``;``."""
    url = secret.get_secret_value()
    scheme = url.partition("://")[0]
    try:
        if scheme in ("redis", "rediss"):
            return _redis_url(secret)
        nodes = [urllib.parse.urlsplit(node) for node in url.split(";")]
        sound = all(node.scheme == scheme and node.hostname and node.port != 0 for node in nodes)
        if scheme == "sentinel":
            sound = sound and sentinel_master_of(url) is not None and database_of(nodes[0]) >= 0
        elif scheme not in ("amqp", "amqps"):
            sound = False
    except ValueError:
        sound = False
    if not sound:
        raise ValueError(
            "redis://[user:password@]host:port/database, rediss:// for TLS, "
            "sentinel://host:port/database?master_name=name, or amqp:// or amqps:// of a RabbitMQ"
        )
    return secret


def sentinel_master_of(url: str) -> str | None:
    """The name that Sentinel knows the master by: ``master_name`` of a ``sentinel://`` URL."""
    if not url.startswith("sentinel:"):
        return None
    queries = [urllib.parse.urlsplit(node).query for node in url.split(";")]
    names = [name for query in queries for name in urllib.parse.parse_qs(query).get("master_name", [])]
    return names[0] if names else None


def _webhook_url(secret: SecretStr) -> SecretStr:
    """Check the webhook's URL. Its path may be secret; a user name and password in it would have no
    effect."""
    text = secret.get_secret_value()
    try:
        parts = urllib.parse.urlsplit(text)
        schemes = ("https", "http") if _is_loopback(parts.hostname or "") else ("https",)
        sound = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
        sound = sound and "@" not in parts.netloc and not parts.fragment
    except ValueError:  # a port that is no number, a broken IPv6 address
        sound = False
    if not sound or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("https://host/path, or http:// for a server on this machine (127.0.0.1, localhost)")
    return secret


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        return False


def _signing_secret(secret: SecretStr) -> SecretStr:
    if len(secret.get_secret_value()) < SHORTEST_SECRET:
        raise ValueError(f"{SHORTEST_SECRET} characters or more, such as openssl rand -hex 32 prints")
    return secret


def _traces_url(text: str) -> str:
    """Check the collector's URL. Without TLS only on this machine: spans say what is analysed, and may carry
    a token."""
    try:
        parts = urllib.parse.urlsplit(text)
        host = parts.hostname or ""
        sound = parts.port != 0 and not (parts.username or parts.password or parts.query or parts.fragment)
        sound = sound and (parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host)))
    except ValueError:  # a port that is no number, a broken IPv6 address
        sound, host = False, ""
    if not sound or not host or not text.isprintable() or " " in text:
        raise ValueError("https://host:port/path, or http:// for a collector on this machine (127.0.0.1)")
    return urllib.parse.urlunsplit(parts._replace(path=parts.path if parts.path.strip("/") else "/v1/traces"))


def headers_of(secret: SecretStr | None) -> dict[str, str]:
    """HTTP headers from a JSON object. Raises ValueError, which quotes nothing of them."""
    if secret is None:
        return {}
    try:
        headers = json.loads(secret.get_secret_value())
    except json.JSONDecodeError:
        headers = None
    if not isinstance(headers, dict) or not all(
        _HEADER_NAME.fullmatch(name) and isinstance(value, str) and value.isascii() and value.isprintable()
        for name, value in headers.items()
    ):
        raise ValueError('a JSON object of headers such as {"Authorization": "Bearer ..."}')
    return headers


def _secret_headers(secret: SecretStr) -> SecretStr:
    headers_of(secret)
    return secret


def _server_name(host: str) -> str:
    """Check a name or address that becomes part of a URL."""
    try:
        sound = bool(_SERVER_NAME.fullmatch(host)) or ipaddress.ip_address(host).version == 6
    except ValueError:
        sound = False
    if not sound:
        raise ValueError("a name or an IP address, without scheme and port")
    return host


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError("an absolute path: the processes of a host start in different directories")
    return path


def _program(name: str) -> str:
    if not name.isprintable() or ("/" in name and not name.startswith("/")) or name.endswith("/"):
        raise ValueError("the name of a program, or its absolute path")
    return name


def database_of(parts: urllib.parse.SplitResult) -> int:
    """The database that a Redis URL names: ``?db=`` wins over the path, as in redis-py. Raises ValueError."""
    named = urllib.parse.parse_qs(parts.query).get("db", [parts.path.strip("/") or "0"])[0]
    if not named.isdecimal():
        raise ValueError(f"{named!r} is no database number")
    return int(named)


EmulatedGuestText = Annotated[EmulatedGuest, BeforeValidator(_emulated_guest)]
ProfileRuleText = Annotated[ProfileRule, BeforeValidator(_profile_rule)]
ReuseRuleText = Annotated[ReuseRule, BeforeValidator(_reuse_rule)]
Age = Annotated[int, BeforeValidator(_age)]
Headers = Annotated[dict[str, Any], BeforeValidator(_one_dict), Field(min_length=1)]
Filters = Annotated[tuple[dict[str, Any], ...], BeforeValidator(_json), Field(min_length=1)]
PluginList = Annotated[tuple[str, ...], BeforeValidator(_comma_list), AfterValidator(_known_plugins)]
ServerName = Annotated[str, AfterValidator(_server_name)]
HostNames = Annotated[str, AfterValidator(_host_names)]
QualityNames = Annotated[str, AfterValidator(_quality_names)]
RedisUrl = Annotated[SecretStr, AfterValidator(_redis_url)]
BrokerUrl = Annotated[SecretStr, AfterValidator(_broker_url)]
WebhookUrl = Annotated[SecretStr, AfterValidator(_webhook_url)]
SigningSecret = Annotated[SecretStr, AfterValidator(_signing_secret)]
TracesUrl = Annotated[str, AfterValidator(_traces_url)]
SecretHeaders = Annotated[SecretStr, AfterValidator(_secret_headers)]
Program = Annotated[str, AfterValidator(_program)]
AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
