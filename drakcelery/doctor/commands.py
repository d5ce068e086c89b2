"""Commands that mend something, complete and quoted, so that a shell takes them as they stand."""

from __future__ import annotations

import shlex
import urllib.parse

from drakcelery import settings as files
from drakcelery.errors import SettingsError
from drakcelery.settings import Settings
from drakcelery.settings.servers import TLS_FILES

_TLS = dict(zip(TLS_FILES, ("--cacert", "--cert", "--key"), strict=True))
TMPFILES = "systemd-tmpfiles --create /etc/tmpfiles.d/drakcelery.conf"


def line(*words: object) -> str:
    """One command line."""
    return shlex.join(str(word) for word in words)


def redis_cli(url: str, *words: str, admin: bool = False) -> str:
    """A command for the Redis that *url* names; the password is asked for.

    *admin*: one that our own user may not give, if it is one of the server's.
    """
    parts = urllib.parse.urlsplit(url)
    query = dict(urllib.parse.parse_qsl(parts.query))
    options = ["-h", parts.hostname or "localhost", "-p", str(parts.port or 6379)]
    if parts.path.strip("/") not in ("", "0"):
        options += ["-n", parts.path.strip("/")]
    if parts.username:
        options += ["--user", "default" if admin else urllib.parse.unquote(parts.username)]
    if parts.password:
        options += ["--askpass"]
    if parts.scheme == "rediss":
        options += [
            "--tls",
            *(word for key, option in _TLS.items() if key in query for word in (option, query[key])),
        ]
    return line("redis-cli", *options, *words)


def ours(settings: Settings, *words: str) -> str:
    """A command of drakcelery's that finds the same settings as this doctor."""
    if settings.source is None:
        return line("drakcelery", *words)
    try:
        found = files.find()
    except SettingsError:
        found = None
    named = () if found == settings.source else ("--config", settings.source)
    return line("drakcelery", *words, *named)
