"""Celery: the broker, the workers that answer, and what they run."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

from amqp.exceptions import AccessRefused
from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import AuthenticationError

from drakcelery import __version__
from drakcelery.broker import configuration
from drakcelery.deploy.units import unit_name
from drakcelery.doctor.commands import line
from drakcelery.doctor.finding import Check, Verdict, failed, ok, skipped, warning
from drakcelery.doctor.redis_server import LET_IN, NO_DATABASE
from drakcelery.doctor.subject import SECONDS, Subject, endpoint_of
from drakcelery.ledger.away import PLAIN
from drakcelery.ledger.fleet import Fleet
from drakcelery.model.certificates import TlsFault, tls_fault
from drakcelery.settings import Settings
from drakcelery.settings.servers import require_files_of
from drakcelery.worker.bootstrap import is_io_worker, is_vm_worker

ANSWER_SECONDS = 2.0
"""How long workers have to answer; they take milliseconds, unless their machine is very busy."""
_ONE_MORE = (
    "The broker is the database after Karton's: raise databases in redis.conf, or name a broker in [celery] "
    "broker_url."
)
_OF_RABBITMQ = (
    "RabbitMQ needs a valid certificate for the name in [celery] broker_url, of an authority that this "
    "machine's system trusts, and may demand none of its clients. Without TLS: amqp:// and its other port."
)
VERSION_COMMAND = "drakcelery_version"
"""Remote-control command of every worker (:mod:`drakcelery.celery`): the version that it runs."""


def _app(settings: Settings) -> Celery:
    """A Celery app on our broker, which gives up soon and is not the default app."""
    app = Celery("drakcelery-doctor", set_as_current=False)
    app.conf.update(
        broker_url=settings.broker_url,
        broker_connection_retry=False,
        **configuration.configuration(
            settings.broker_url, settings.drakcelery.timeouts, sentinel_master=settings.sentinel_master
        ),
    )
    if not settings.broker_url.startswith("amqp"):
        limits = {"socket_timeout": SECONDS, "socket_connect_timeout": SECONDS}
        app.conf.broker_transport_options = {**app.conf.broker_transport_options, **limits}
    app.conf.broker_connection_timeout = SECONDS
    return app


def _ask(settings: Settings, command: str) -> dict[str, Any]:
    """What each worker that is there answers to a remote-control command, by node name."""
    app = _app(settings)
    with app.connection_for_write() as connection:
        answers = app.control.broadcast(command, reply=True, timeout=ANSWER_SECONDS, connection=connection)
    return {node: answer for one in answers or () for node, answer in one.items()}


def _broker(subject: Subject) -> Verdict:
    where = endpoint_of(subject.settings.broker_url)
    subject.settings.redis.require_files()
    if subject.settings.celery.broker_url is not None:
        require_files_of(subject.settings.broker_url, "[celery] broker_url:")
    with _app(subject.settings).connection_for_write() as connection:
        trouble: tuple[type[BaseException], ...] = (
            OperationalError,
            *connection.connection_errors,
            *connection.channel_errors,
        )
        try:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=int(SECONDS))
        except trouble as error:
            return _no_broker(subject.settings, f"the broker at {where}", error)
    return ok(f"the broker at {where} answers")


def _no_broker(settings: Settings, broker: str, error: BaseException) -> Verdict:
    """Why it cannot be used, and what to set: for a broker of its own, or for Karton's Redis."""
    is_own = settings.celery.broker_url is not None
    fault = _tls_fault(settings, error)
    if fault is not None:
        return failed(f"{broker} {fault.said}", fault.remedy)
    if any(isinstance(one, (AuthenticationError, AccessRefused)) for one in (error, error.__cause__)):
        own = "Set user and password in [celery] broker_url to those of the broker."
        return failed(f"{broker} does not let us in: {error}", own if is_own else LET_IN)
    if NO_DATABASE in str(error):
        remedy = "Name a database that it has, in [celery] broker_url." if is_own else _ONE_MORE
        return failed(f"{broker}: it has no database of that number", remedy)
    return failed(f"{broker} does not answer: {error}")


def _tls_fault(settings: Settings, error: BaseException) -> TlsFault | None:
    if settings.celery.broker_url is None:
        return tls_fault(error, section="redis", plain=PLAIN)
    fault = tls_fault(error, section=None, plain="let [celery] broker_url begin with redis://")
    if fault is not None and settings.broker_url.startswith("amqps"):
        return replace(fault, remedy=_OF_RABBITMQ)
    return fault


def _workers(subject: Subject) -> Verdict:
    fleet = Fleet(subject.redis)
    hosts = {host.host for host in fleet.hosts()}
    known = {place.host for place in fleet.places() if place.host}
    return workers_verdict(_ask(subject.settings, "ping"), hosts=hosts, known=known)


def workers_verdict(nodes: Iterable[str], *, hosts: Collection[str], known: Collection[str]) -> Verdict:
    """Which workers answer, beside the *hosts* that report and those that are *known* of the last week."""
    answering = {node for node in nodes if is_vm_worker(node) or is_io_worker(node)}
    alive = {node.partition("@")[2] for node in answering} | set(hosts)
    if not alive:
        return warning(
            "no worker answers, and no host reports: samples wait",
            "Start both workers on each host with VMs.",
            line("systemctl", "start", unit_name("vm"), unit_name("io")),
        )
    silent = sorted(f"{role}@{host}" for host in alive for role in ("vm", "io"))
    silent = [node for node in silent if node not in answering]
    gone = sorted(set(known) - alive)
    says = f"{', '.join(sorted(answering)) or 'nobody'} answered"
    if silent:
        units = [unit_name(role) for role in ("vm", "io") if any(node.startswith(role) for node in silent)]
        return failed(f"{says}; {', '.join(silent)} did not").mended_by(line("systemctl", "restart", *units))
    if gone:
        return warning(
            f"{says}; nothing is heard of {', '.join(gone)}, which was there within the last week",
            "Start its workers, if the host is still wanted; it is forgotten after a week.",
        )
    return ok(says)


def _versions(subject: Subject) -> Verdict:
    return versions_verdict(_ask(subject.settings, VERSION_COMMAND))


def versions_verdict(answers: Mapping[str, Any]) -> Verdict:
    """What the workers run, beside ours. One that does not know the command answers with an error."""
    if not answers:
        return skipped("no worker answers")
    versions = {
        node: answer if isinstance(answer, str) else "an older one" for node, answer in answers.items()
    }
    others = sorted(f"{node} {version}" for node, version in versions.items() if version != __version__)
    if others:
        return warning(f"this is drakcelery {__version__}, and not on {', '.join(others)}")
    return ok(f"drakcelery {__version__} on {', '.join(sorted(versions))}")


CHECKS = (
    Check(
        name="celery.broker",
        what="Celery's broker answers, and takes our credentials",
        remedy="See that it runs and can be reached from here, and [celery] broker_url; without one it is "
        "Karton's Redis, the database after Karton's.",
        examine=_broker,
        needs=("settings.load",),
    ),
    Check(
        name="celery.workers",
        what="the vm and the io worker of every host answer",
        remedy="See the log of the worker that is silent, on its host, and start it.",
        examine=_workers,
        needs=("celery.broker", "redis.reachable"),
    ),
    Check(
        name="celery.versions",
        what="all workers run this version of drakcelery",
        remedy="Install one version everywhere and restart the workers, one host after the other; running "
        "analyses are waited for.",
        examine=_versions,
        needs=("celery.broker",),
    ),
)
"""In their order."""
