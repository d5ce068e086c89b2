"""What Celery and kombu make of ``[celery] broker_url``."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from celery.app import amqp
from kombu import Connection, Queue
from kombu.transport import pyamqp

from drakcelery.broker import configuration, redis_transport
from drakcelery.model import timeouts
from drakcelery.settings import Settings
from tests.unit.settings.reading import complaint, read


def app_of(settings: Settings) -> Celery:
    """An app with nothing but the broker's part of our configuration."""
    app = Celery("test", amqp="drakcelery.broker.configuration:AMQP", set_as_current=False)
    app.conf.update(
        broker_url=settings.broker_url,
        **configuration.configuration(
            settings.broker_url, settings.drakcelery.timeouts, sentinel_master=settings.sentinel_master
        ),
    )
    return app


def connection_of(tmp_path: Path, url: str) -> Connection:
    """The connection, not yet made, that a worker would use."""
    connection: Connection = app_of(read(tmp_path, f"[celery]\nbroker_url={url}\n")).connection_for_read()
    return connection


def test_sentinel(tmp_path: Path) -> None:
    """Every node, the password and the database reach kombu; the master's name becomes its option."""
    nodes = "sentinel://:p%%40@a:26379/3;sentinel://:p%%40@b:26380/3?master_name=drak"
    connection = connection_of(tmp_path, nodes)
    assert connection.alt == ["sentinel://:p%40@a:26379/3", "sentinel://:p%40@b:26380/3"]
    assert (connection.hostname, connection.port, connection.virtual_host) == ("a", 26379, "3")
    assert connection.password == "p@"
    assert connection.transport.driver_type == "redis"
    options = connection.transport_options or {}
    assert (options["master_name"], options["visibility_timeout"]) == ("drak", 45)


def test_tls(tmp_path: Path) -> None:
    """A rediss:// URL verifies the certificate, with the authority that it names."""
    connection = connection_of(tmp_path, "rediss://:p@h:6380/2?ssl_ca_certs=/etc/ca.pem")
    assert connection.ssl == {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_ca_certs": "/etc/ca.pem"}
    assert (connection.hostname, connection.port, connection.virtual_host) == ("h", 6380, "2")
    options = connection.transport_options or {}
    assert options["visibility_timeout"] == 45
    assert "master_name" not in options


@pytest.mark.parametrize(
    ("url", "transport"),
    [
        ("redis://h/1", redis_transport.Transport),
        ("rediss://h/1", redis_transport.Transport),
        ("sentinel://a/0;sentinel://b/0?master_name=m", redis_transport.SentinelTransport),
        ("amqp://a//;amqp://b//", pyamqp.Transport),
        ("amqps://a//", pyamqp.SSLTransport),
    ],
)
def test_transport(tmp_path: Path, url: str, transport: type) -> None:
    """Redis has a transport of ours, also after a failover, in a copy, and in a pool, as Celery sends by."""
    connection = connection_of(tmp_path, url)
    for one in (connection, connection.clone(), connection.Pool(1).new()):
        assert type(one.transport) is transport
        one.maybe_switch_next()
        assert type(one.transport) is transport


@pytest.mark.parametrize("lease", [timeouts.SHORTEST, timeouts.LONGEST])
def test_silent_peers(tmp_path: Path, lease: int) -> None:
    """No connection to Redis waits forever; none gives up on an answer that Redis takes its time for."""
    url = "redis://h/1"
    settings = read(tmp_path, f"[celery]\nbroker_url={url}\n[drakcelery]\nlease_seconds={lease}\n")
    options = app_of(settings).connection_for_read().transport_options or {}
    silent = settings.drakcelery.timeouts.connection
    assert configuration.POLL_SECONDS < options["socket_timeout"] <= silent
    assert options["socket_connect_timeout"] <= silent
    # A BRPOP is looked at every interval, and given up when it is overdue by one
    assert 2 * options["health_check_interval"] <= silent < options["visibility_timeout"]
    keepalive = options["socket_keepalive_options"]
    assert keepalive[socket.TCP_USER_TIMEOUT] == int(1000 * silent)
    asked = [keepalive[name] for name in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL)]
    assert all(isinstance(seconds, int) and seconds >= 1 for seconds in asked)
    assert asked[0] + keepalive[socket.TCP_KEEPCNT] * asked[1] <= silent


@pytest.mark.parametrize(
    ("url", "tls"),
    [("amqp://u:p@a//;amqp://u:p@b//", False), ("amqps://u:p@a//", {"server_hostname": None})],
)
def test_rabbitmq(tmp_path: Path, url: str, tls: object) -> None:
    """RabbitMQ confirms what is sent to it, and is told nothing that only Redis knows."""
    connection = connection_of(tmp_path, url)
    assert connection.alt == (url.split(";") if ";" in url else [])
    assert (connection.hostname, connection.userid, connection.virtual_host) == ("a", "u", "/")
    assert connection.transport_options == {"confirm_publish": True}
    assert connection.transport.driver_type == "amqp"
    assert connection.ssl == tls


@pytest.mark.parametrize(
    ("url", "arguments"),
    [
        ("amqp://h", {"x-queue-type": "quorum", "x-delivery-limit": configuration.DELIVERIES}),
        ("redis://h/1", None),
    ],
)
def test_queues_are_declared_alike(tmp_path: Path, url: str, arguments: dict[str, Any] | None) -> None:
    """A queue is the same for who sends to it, a worker that begins with it and one that opens it later."""
    declared = [
        named(app_of(read(tmp_path, f"[celery]\nbroker_url={url}\n")).amqp.queues)
        for named in (_by_route, _by_worker, _by_gate)
    ]
    for queue in declared:
        assert (queue.name, queue.routing_key, queue.queue_arguments) == ("q", "q", arguments)
        assert (queue.exchange.name, queue.exchange.type) == ("q", "direct")


def _by_route(queues: amqp.Queues) -> Queue:
    return queues["q"]


def _by_worker(queues: amqp.Queues) -> Queue:
    queues.select(["q"])
    return queues.consume_from["q"]


def _by_gate(queues: amqp.Queues) -> Queue:
    """As ``add_task_queue`` of Celery's consumer does."""
    queues.select_add("q", exchange="q", exchange_type="direct", routing_key=None)  # type: ignore[arg-type] # a name will do
    return queues.consume_from["q"]


@pytest.mark.parametrize(
    "url",
    [
        "sentinel://h:26379/0",
        "sentinel://h:26379/x?master_name=m",
        "sentinel://h:0/0?master_name=m",
        "amqp://",
        "amqp://h:x",
        "amqp://h;redis://h",
        "sqs://h",
        "h",
    ],
)
def test_other_brokers_are_refused(tmp_path: Path, url: str) -> None:
    """A broker that is none of these is an error at the start, with the forms that there are."""
    assert complaint(tmp_path, f"[celery]\nbroker_url={url}").startswith(
        "settings.ini: [celery] broker_url = ***: expected redis://"
    )
