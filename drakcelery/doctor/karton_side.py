"""Our place in Karton: which bind our identity has, who else consumes, and whether karton-system routes."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import cast

from karton.core.backend import KartonBackendBase, KartonBind
from redis.exceptions import NoPermissionError

from drakcelery import __version__
from drakcelery.deploy.units import unit_name
from drakcelery.doctor.commands import line, ours
from drakcelery.doctor.finding import Check, Verdict, failed, ok, skipped, warning
from drakcelery.doctor.subject import Subject
from drakcelery.ingress.bind import bind_of
from drakcelery.model.text import clean

SYSTEM = "karton.system"
ROUTING_SECONDS = 2.0
"""Seconds within which a running karton-system has taken all unrouted tasks: a hundred at once."""
MOST_TASKS = 100
WAITS = frozenset({"blpop", "brpop"})
"""Last commands of a Karton consumer that waits (``consume_routed_task``). ingress sends none of them."""
OLD_UNITS = "the unit drakrun@N of each VM"
START_INGRESS = line("systemctl", "start", unit_name("ingress"))

Clients = Sequence[Mapping[str, str]]


def _bind(subject: Subject) -> Verdict:
    return bind_verdict(bind_of(subject.settings), subject.ledger.bound())


def bind_verdict(ours: KartonBind, there: str | None) -> Verdict:
    """Compare the bind of our identity, *there*, as Karton serialized it, with the one that ingress would
    make."""
    if there is None:
        return warning(
            f"nobody has bound {ours.identity} yet: karton-system drops every sample",
            "Start ingress; it binds the identity, which then stays bound.",
            START_INGRESS,
        )
    bound = KartonBackendBase.unserialize_bind(ours.identity, there)
    who = f"{clean(str(bound.info or 'a service that does not say what it is'), 80)!r}"
    if not _same_filters(ours, bound):
        return failed(
            f"{ours.identity} is bound with other filters, by {who}: {clean(json.dumps(bound.filters))}; "
            "whoever binds last gets the tasks, and the others stop"
        )
    if bound.info != ours.info:
        return warning(
            f"{ours.identity} is bound with our filters, but by another program: {who}",
            f"Stop that program (DRAKVUF Sandbox v0.18 is {OLD_UNITS}), then start ingress.",
        )
    if bound.service_version != __version__:
        return warning(
            f"{ours.identity} is bound by drakcelery {bound.service_version}, this is {__version__}; an "
            "ingress that starts with another version stops those before it",
            "Install one version of drakcelery everywhere, and restart every ingress.",
        )
    return ok(f"{ours.identity} is bound by drakcelery {bound.service_version}, with our filters")


def _same_filters(ours: KartonBind, bound: KartonBind) -> bool:
    return json.dumps(ours.filters, sort_keys=True) == json.dumps(bound.filters, sort_keys=True)


def _consumers(subject: Subject) -> Verdict:
    clients = _clients(subject)
    if clients is None:
        return _may_not_list()
    return consumers_verdict(subject.settings.drakrun.identity, clients)


def consumers_verdict(identity: str, clients: Clients) -> Verdict:
    """Who consumes under *identity*, by the names and last commands of Redis' connections.

    A Karton consumer that waits is in a blocking command, which ingress never sends. One at work is not; but
    DRAKVUF Sandbox v0.18 has a redis-py that does not report its name, while ours does.
    """
    named = [client for client in clients if client.get("name", "").partition("?")[0] == identity]
    telling = any(client.get("lib-name") for client in clients)
    strangers = [
        client
        for client in named
        if client.get("cmd", "").lower() in WAITS or (telling and not client.get("lib-name"))
    ]
    if strangers:
        places = sorted({str(client.get("addr", "?")).rpartition(":")[0] for client in strangers})
        return failed(
            f"other consumers of {identity} are online, at {', '.join(places)}: they take our samples"
        )
    if not named:
        return warning(
            f"no ingress is online under {identity}: samples wait in Karton",
            "Start ingress, on one machine at least.",
            START_INGRESS,
        )
    return ok(f"connections of ingress: {len(named)}, of others: none")


def _system(subject: Subject) -> Verdict:
    clients = _clients(subject) or ()
    online = [one for one in clients if one.get("name", "").partition("?")[0] == SYSTEM]
    before = subject.ledger.unrouted(some=MOST_TASKS)
    if before:
        time.sleep(ROUTING_SECONDS)  # there is no signal when a task is routed
        stuck = [uid for uid in subject.ledger.unrouted(some=MOST_TASKS) if uid in before]
        if stuck:
            return failed(
                f"tasks that wait to be routed: {len(stuck)}, as {ROUTING_SECONDS:.0f} seconds before"
            )
    if online:
        return ok(f"connections of karton-system: {len(online)}; no task waits to be routed")
    if before:
        return ok("tasks are being routed")
    return warning(
        "no connection is named karton.system, and no task waits that would show whether one is there"
    )


def _deployment(subject: Subject) -> Verdict:
    ours = subject.settings.drakrun.identity
    found = subject.ledger.deployment.found()
    if found is None:
        return ok("no deployment was at work on this Redis yet")
    if found.identity == ours:
        return ok(f"{ours} is the deployment of this Redis; it showed life {found.silent:.0f} s ago")
    if found.is_at_work:
        return failed(
            f"{found.refuses(clean(ours, 140))}; every process with these settings ends at its start"
        )
    return warning(
        f"the deployment of this Redis was {clean(found.identity, 140)}, and nothing of it has shown "
        f"life for {found.silent:.0f} s; the first process of {ours} that starts takes its place"
    )


def _quarantine(subject: Subject) -> Verdict:
    entries = subject.ledger.quarantine.all()
    if not entries:
        return ok("every task and analysis can be dealt with")
    first = entries[0]
    return warning(
        f"tasks and analyses that could not be dealt with: {len(entries)}; the one there for longest is "
        f"{clean(first.uid, 140)} ({clean(first.where, 40)}): {clean(first.error, 300)}"
    ).mended_by(ours(subject.settings, "isolated", "list"))


def _clients(subject: Subject) -> Clients | None:
    """Redis' list of connections; None if this user may not have it."""
    try:
        return cast("Clients", subject.redis.client_list())
    except NoPermissionError:
        return None


def _may_not_list() -> Verdict:
    return skipped("this user of Redis may not use CLIENT LIST, which drakcelery itself does not need")


CHECKS = (
    Check(
        name="karton.system",
        what="karton-system routes tasks",
        remedy="Start karton-system where Karton runs, or ours where there is no Karton yet.",
        examine=_system,
        needs=("redis.reachable",),
    ),
    Check(
        name="karton.bind",
        what="our identity is bound, with our filters",
        remedy="Make [drakrun] filters and sample_testing alike on all machines, or give one of the two "
        "another [drakrun] identity.",
        examine=_bind,
        needs=("redis.reachable",),
    ),
    Check(
        name="karton.consumers",
        what="nobody but drakcelery consumes under our identity",
        remedy=f"Stop the other consumers; DRAKVUF Sandbox v0.18 is, on each host, {OLD_UNITS}. Or set "
        "another [drakrun] identity.",
        examine=_consumers,
        needs=("redis.reachable",),
    ),
    Check(
        name="karton.deployment",
        what="no deployment of another identity is at work on this Redis",
        remedy="Make [drakrun] identity the same on all machines of a deployment, and give each deployment a "
        "Redis of its own.",
        examine=_deployment,
        needs=("redis.reachable",),
    ),
    Check(
        name="karton.quarantine",
        what="no task or analysis is in quarantine",
        remedy="Look at them (the command isolated list); retry one once it is fixed, or remove what nobody "
        "can fix.",
        examine=_quarantine,
        needs=("redis.reachable",),
    ),
)
"""In their order."""
