"""What the shell offers for uids, hosts and slots; nothing if anything goes wrong.

The ledger is imported only when it is needed: every command imports this module, and help needs no ledger.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from drakcelery.cli import lean
from drakcelery.cli.options import read_settings
from drakcelery.errors import DrakceleryError

if TYPE_CHECKING:
    from drakcelery.ledger import Ledger

MOST = 200
"""Finished analyses that are offered."""
UNUSED = (*lean.UNUSED, "rich")
"""What redis-py and structlog import if it is there: a quarter of the time of a completion, for nothing."""


def uids(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Live analyses and the newest that are over."""
    ledger = _ledger(context)
    if ledger is None:
        return []
    from redis.exceptions import RedisError

    try:
        found = ledger.uids(newest=MOST)
    except RedisError:
        return []
    return [uid for uid in found if uid.startswith(incomplete)]


def ended(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """As :func:`uids`, but only those that are over."""
    ledger = _ledger(context)
    if ledger is None:
        return []
    from redis.exceptions import RedisError

    try:
        live = set(ledger.live_uids())
    except RedisError:
        return []
    return [uid for uid in uids(context, parameter, incomplete) if uid not in live]


def uids_or_directories(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """As :func:`uids`; directories if there is no such uid, since a shell takes one kind or the other."""
    found = [] if "/" in incomplete else uids(context, parameter, incomplete)
    return [CompletionItem(uid) for uid in found] or [CompletionItem(incomplete, type="dir")]


def hosts(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Hosts that are alive; after a slash, the slots of that host."""
    if "/" in incomplete:
        return slots(context, parameter, incomplete)
    return [name.split("/")[0] for name in slots(context, parameter, incomplete) if name.endswith("/")]


def slots(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """``host/`` and ``host/slot`` of every host that is alive."""
    ledger = _ledger(context)
    from redis.exceptions import RedisError

    try:
        statuses = ledger.fleet.hosts() if ledger is not None else []
    except RedisError:
        return []
    names = [f"{host.host}/{name}" for host in statuses for name in ("", *(slot.name for slot in host.slots))]
    return [name for name in names if name.startswith(incomplete)]


def consumers(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Every identity that has a bind in Karton."""
    ledger = _ledger(context)
    from redis.exceptions import RedisError

    try:
        identities = ledger.bound_identities() if ledger is not None else []
    except RedisError:
        return []
    return [identity for identity in identities if identity.startswith(incomplete)]


def quarantined(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """What is in quarantine."""
    ledger = _ledger(context)
    from redis.exceptions import RedisError

    try:
        entries = ledger.quarantine.all() if ledger is not None else []
    except RedisError:
        return []
    return sorted({entry.uid for entry in entries if entry.uid.startswith(incomplete)})


def watched_profiles(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """VM profiles of which runs were watched for news."""
    return _watched(context, 0, incomplete)


def watched_qualities(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Qualities of such runs."""
    return _watched(context, 1, incomplete)


def _watched(context: click.Context, part: int, incomplete: str) -> list[str]:
    ledger = _ledger(context)
    from redis.exceptions import RedisError

    try:
        pairs = ledger.news.pairs() if ledger is not None else []
    except RedisError:
        return []
    return sorted({pair[part] for pair in pairs if pair[part].startswith(incomplete)})


def _ledger(context: click.Context) -> Ledger | None:
    with lean.without(*UNUSED):
        from redis.exceptions import RedisError

        from drakcelery.ledger import Patience
        from drakcelery.wiring import make_ledger

    try:
        ours = read_settings(context.params.get("config"), context.params.get("data_dir"))
        return make_ledger(ours, patience=Patience.NONE)
    except (DrakceleryError, RedisError):
        return None
