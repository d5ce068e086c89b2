"""What the shell offers for uids, hosts and slots; nothing if anything goes wrong.

The ledger is imported only when it is needed: every command imports this module, and help needs no ledger.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from drakcelery.cli.options import ledger_of, read_settings
from drakcelery.errors import DrakceleryError

if TYPE_CHECKING:
    from drakcelery.ledger import Ledger

MOST = 200
"""Finished analyses that are offered."""


def uids(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Live analyses and the newest that are over."""
    return _offered(context, incomplete, lambda ledger: ledger.uids(newest=MOST))


def ended(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """As :func:`uids`, but only those that are over."""

    def over(ledger: Ledger) -> list[str]:
        live = set(ledger.live_uids())
        return [uid for uid in ledger.uids(newest=MOST) if uid not in live]

    return _offered(context, incomplete, over)


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
    return _offered(
        context,
        incomplete,
        lambda ledger: [
            f"{host.host}/{name}"
            for host in ledger.fleet.hosts()
            for name in ("", *(slot.name for slot in host.slots))
        ],
    )


def consumers(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Every identity that has a bind in Karton."""
    return _offered(context, incomplete, lambda ledger: ledger.bound_identities())


def quarantined(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """What is in quarantine."""
    return _offered(context, incomplete, lambda ledger: sorted({one.uid for one in ledger.quarantine.all()}))


def watched_profiles(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """VM profiles of which runs were watched for news."""
    return _watched(context, 0, incomplete)


def watched_qualities(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Qualities of such runs."""
    return _watched(context, 1, incomplete)


def _watched(context: click.Context, part: int, incomplete: str) -> list[str]:
    return _offered(context, incomplete, lambda ledger: sorted({pair[part] for pair in ledger.news.pairs()}))


def _offered(context: click.Context, incomplete: str, names: Callable[[Ledger], Iterable[str]]) -> list[str]:
    """Those of *names* that begin as somebody has typed; none if Redis does not say them."""
    given = context.params
    try:
        ledger = ledger_of(read_settings(given.get("config"), given.get("data_dir")), hurried=True)
    except DrakceleryError:
        return []
    from redis.exceptions import RedisError

    try:
        return [name for name in names(ledger) if name.startswith(incomplete)]
    except RedisError:
        return []
