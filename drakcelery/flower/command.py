"""``celery -A drakcelery flower``: Flower's command, with our defaults, our check and our pages.

Flower's options, variables and configuration file mean what they mean in Flower; ``[flower]`` gives the
defaults of address and port.
"""

from __future__ import annotations

import atexit
import signal
import sys
from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Any

import click
import structlog
from flower import command
from tornado.options import options

from drakcelery.errors import DrakceleryError
from drakcelery.flower.application import FleetFlower
from drakcelery.flower.reading import Reader
from drakcelery.flower.safety import path_prefix, require_safe
from drakcelery.settings import Settings
from drakcelery.telemetry import logs, tracing
from drakcelery.wiring import make_ledger

log = structlog.get_logger(__name__)

MOST_TASKS = 10_000
"""What Flower keeps in memory, unless told otherwise: five tasks for each analysis, of 5 KB each. Its own
default is ten times as many, half a gigabyte."""


def serve(context: click.Context, tornado_argv: Sequence[str]) -> None:
    """Serve until SIGTERM, SIGHUP or SIGINT.

    Raises:
        click.ClickException: Flower may not, or cannot, listen where it should.
    """
    try:
        page = _make(context, tornado_argv)
        port = page.start_http_server()
    except DrakceleryError as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        where = options.unix_socket or f"{options.address}:{options.port}"
        raise click.ClickException(
            f"Flower cannot listen on {where}: {error.strerror}; see [flower] address and port"
        ) from None
    atexit.register(page.stop)
    atexit.register(tracing.stop)
    _end_by_signals()
    log.info("flower_listens", address=options.unix_socket or options.address, port=port)
    if not context.obj.quiet:
        command.print_banner(context.obj.app, "ssl_options" in command.settings, port)
    try:
        page.start()
    except (KeyboardInterrupt, SystemExit):
        log.info("flower_stopped")


def _end_by_signals() -> None:
    """End in order by SIGTERM, and by SIGHUP of a terminal that is closed, unless nohup ignores it: a sample
    that is just handed in would stay in a temporary file."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, command.sigterm_handler)


def _make(context: click.Context, tornado_argv: Sequence[str]) -> FleetFlower:
    ours: Settings = context.obj.app.settings
    logs.start(ours)
    tracing.start(ours)
    options.address, options.port = ours.flower.address, ours.flower.port
    options.max_tasks = MOST_TASKS
    command.warn_about_celery_args_used_in_flower_command(context, tornado_argv)
    command.apply_env_options()
    command.apply_options(sys.argv[0], tornado_argv)
    options.url_prefix = path_prefix(options.url_prefix)
    command.extract_settings()
    command.setup_logging()
    require_safe(
        address=options.address,
        unix_socket=options.unix_socket,
        has_login=bool(options.basic_auth or options.auth),
        allow_unauthenticated=ours.flower.allow_unauthenticated,
    )

    def make_reader(executor: Executor, remote: Executor) -> Reader:
        return _reader(ours, executor, remote)

    app: Any = context.obj.app
    return FleetFlower(options=options, capp=app, make_reader=make_reader, **command.settings)


def _reader(ours: Settings, executor: Executor, remote: Executor) -> Reader:
    ledger = make_ledger(ours)
    return Reader(
        settings=ours,
        ledger=ledger,
        inbox=ledger.inbox(),
        executor=executor,
        remote=remote,
    )
