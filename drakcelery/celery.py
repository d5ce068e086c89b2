"""The Celery app: ``celery -A drakcelery …`` finds it here.

Settings are read when the app's configuration is first used, not when this module is imported.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import click
import structlog
from billiard.process import current_process
from celery import Task
from celery.signals import (
    setup_logging,
    task_revoked,
    worker_process_init,
    worker_process_shutdown,
    worker_shutdown,
    worker_shutting_down,
)
from celery.worker.control import inspect_command
from redis.exceptions import RedisError

from drakcelery import __version__, settings
from drakcelery.broker import routing
from drakcelery.broker.hello import Hello
from drakcelery.broker.lease import Lease
from drakcelery.engines import privileges
from drakcelery.errors import DrakceleryError, StackError, Superseded
from drakcelery.failpoints import arm
from drakcelery.model.analysis import Stage, Step
from drakcelery.stages import cancellation
from drakcelery.stages.perform import perform
from drakcelery.telemetry import logs, tracing
from drakcelery.wiring import AMQP, celery_configuration
from drakcelery.worker import admission, bootstrap, shutdown
from drakcelery.worker import remote_control as _commands  # noqa: F401 registers them with Celery
from drakcelery.worker.gate import Gate
from drakcelery.worker.runtime import App

log = structlog.get_logger(__name__)

EXPECTED = (DrakceleryError,)
"""Errors that Celery logs as one line, without traceback: their sentence says it all."""
OF_STAGES: dict[str, Any] = {
    "throws": EXPECTED,
    "Strategy": "drakcelery.worker.admission:strategy",
    "Request": "drakcelery.worker.admission:Request",
}
"""Celery's options for each stage's task."""
STAGE_TASKS = frozenset(routing.task_name(stage) for stage in Stage)


app = App("drakcelery", amqp=AMQP, control="drakcelery.worker.mailbox:Control")
app.add_defaults(lambda: celery_configuration(app.settings))
app.steps["worker"].update((bootstrap.Bootstrap, bootstrap.HostThreads))
app.steps["consumer"].update((Gate, Hello, Lease))


def _perform(task: Task[Any, Any], stage: Stage, message: dict[str, Any]) -> dict[str, Any] | None:
    step = Step.parse(message)
    if stage is Stage.PREPARE:
        step = step.model_copy(update={"slot": task.request.get(admission.SLOT_HEADER)})
    try:
        return perform(app.runtime.context, stage, step).message()
    except Superseded:
        # The quiet stop: Celery reads the rest of the chain from the request once the task has returned
        task.request.chain = None
        return None


@app.task(bind=True, name=routing.task_name(Stage.PREPARE), **OF_STAGES)
def prepare(self: Task[Any, Any], message: dict[str, Any]) -> dict[str, Any] | None:
    """Fetch the sample and restore the slot's VM. Pins the rest of the chain to this host."""
    return _perform(self, Stage.PREPARE, message)


@app.task(bind=True, name=routing.task_name(Stage.RUN), **OF_STAGES)
def run(self: Task[Any, Any], message: dict[str, Any]) -> dict[str, Any] | None:
    """Detonate, watch, stop; then the slot is free."""
    return _perform(self, Stage.RUN, message)


@app.task(bind=True, name=routing.task_name(Stage.COLLECT), **OF_STAGES)
def collect(self: Task[Any, Any], message: dict[str, Any]) -> dict[str, Any] | None:
    """Split the log, pack the dumps, write the metadata."""
    return _perform(self, Stage.COLLECT, message)


@app.task(bind=True, name=routing.task_name(Stage.UPLOAD), **OF_STAGES)
def upload(self: Task[Any, Any], message: dict[str, Any]) -> dict[str, Any] | None:
    """Artifacts to the bucket, ``metadata.json`` last."""
    return _perform(self, Stage.UPLOAD, message)


@app.task(bind=True, name=routing.task_name(Stage.PUBLISH), **OF_STAGES)
def publish(self: Task[Any, Any], message: dict[str, Any]) -> dict[str, Any] | None:
    """The analysis task goes out and the sample task is finished, in one transaction."""
    return _perform(self, Stage.PUBLISH, message)


@setup_logging.connect
def _log_our_way(**_: Any) -> None:
    """Keep Celery from setting up logging of its own."""
    logs.start(app.settings)


@inspect_command()
def drakcelery_version(_state: Any) -> str:
    """The version that this worker runs; ``drakcelery doctor`` compares it."""
    return __version__


@worker_shutting_down.connect
def _stop_guests(sender: str, **_: Any) -> None:
    """Stop the guests: Celery only stops taking messages and waits for its tasks."""
    if not bootstrap.is_ours(sender):
        return
    runtime = app.runtime
    if runtime.presence is not None:
        runtime.presence.leave()
    if bootstrap.is_vm_worker(sender):
        runtime.stopper = shutdown.on_signal(runtime.context, runtime.stopper)


@task_revoked.connect
def _cancel_revoked(request: Any, expired: bool, **_: Any) -> None:
    """Cancel the analysis if somebody revoked a stage, or it would wait for a step that never comes."""
    if expired or request.task not in STAGE_TASKS:
        return
    step, ledger = Step.parse(request.args[0]), app.runtime.context.ledger
    try:
        record = ledger.get(step.uid)
        # The gate may have begun the next attempt already, but the uid must not have a new life
        if record is not None and record.first_attempt <= step.attempt:
            cancellation.cancel(ledger, record, by=f"Celery: its task {request.id} was revoked")
    except StackError as error:
        log.info("nothing_to_cancel", uid=step.uid, reason=str(error))
    except RedisError as error:
        log.warning("not_cancelled", uid=step.uid, error=str(error))


@worker_process_init.connect
def _die_with_the_worker(**_: Any) -> None:
    """A pool process must not outlive its worker: it holds the host's lock and runs guests (I3)."""
    arm(settings.fault_plan())
    try:
        # Nothing public of billiard's says it; None in the pool "solo", which is the worker itself
        privileges.die_with(getattr(current_process(), "_parent_pid", None) or os.getppid())
    except OSError:
        os._exit(1)  # the worker ended before this began: Celery would only log an exception
    tracing.start(app.settings)  # its worker's own began in bootstrap.Bootstrap


@worker_process_init.connect
def _make_ready(**_: Any) -> None:
    """Read certificates and settings now, so that the first sample in a slot need not wait for that."""
    app.begin_in_pool()


@worker_shutdown.connect
def _send_the_last_spans(**_: Any) -> None:
    tracing.stop()


@worker_process_shutdown.connect
def _end_at_once(exitcode: int, **_: Any) -> None:
    """A pool process has nothing left to do. billiard (4.3) would have it wait for a second for its worker to
    kill it, which a worker that stops does not."""
    tracing.stop()
    os._exit(exitcode)


@click.pass_context
def _serve_flower(context: click.Context, tornado_argv: tuple[str, ...]) -> None:
    """``celery -A drakcelery flower``."""
    from drakcelery.flower import command  # it imports this module, and only Flower needs Tornado

    command.serve(context, tornado_argv)


# The celery command loads its plugins, Flower's command among them, before it finds the app that -A names
if "flower.command" in sys.modules:
    sys.modules["flower.command"].flower.callback = _serve_flower
